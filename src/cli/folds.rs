//! `--folds` and `--protocol`: training, validation and test in every fold, baselines beside, figures at the end.
//!
//! | in OUTPUT, a folder | what |
//! |---|---|
//! | `protocol.json` | seed, and who trains, validates and is tested in each fold |
//! | `predictions.METHOD.csv` | what each participant got in the fold that tested them |
//! | `figures.csv`, `figures.json` | scores of each fold and of all, with bootstrap intervals |
//! | `foldN.safetensors` | the weights of fold N |

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum as _};

use super::baseline::Baseline;
use super::figures::{self, Method, Prediction};
use super::learn::{beside, in_units, Fitted, LearnArgs, Setup};
use super::log::Log;
use super::train::TrainArgs;
use crate::data::table::{Row, Value};
use crate::data::Provenance;
use crate::error::{Error, Result};
use crate::io::output::{Folder, Output};
use crate::io::table::TableWriter;
use crate::io::Sink as _;
use crate::train::protocol::Protocol;
use crate::train::truth::{Question, Truth};

/// Cross-validation and what the network is compared with.
#[derive(Args, Debug, Clone)]
pub struct FoldArgs {
    /// Train, validate and test in K folds by participant; OUTPUT is a new folder.
    #[arg(long, value_name = "K", value_parser = folds, conflicts_with = "protocol", help_heading = "Protocol")]
    folds: Option<usize>,
    /// The same with the folds and the seed of this file, which --folds wrote.
    #[arg(long, value_name = "FILE", help_heading = "Protocol")]
    protocol: Option<PathBuf>,
    /// Only this fold, from 1.
    #[arg(long, value_name = "N", value_parser = super::args::count, help_heading = "Protocol")]
    fold: Option<usize>,
    /// Also try these, on the same folds: constant (the mean of the training records), ridge and head (ECG features, see
    /// --features), mean-clip (ridge on the clip averaged over time), probe (ridge on the network as it starts).
    #[arg(long, value_enum, value_name = "NAMES", value_delimiter = ',', help_heading = "Protocol")]
    baselines: Vec<Baseline>,
    /// Files that pamae-encode wrote, for ridge and head.
    #[arg(long, num_args = 1.., value_name = "FEATURES", help_heading = "Protocol")]
    pub features: Vec<PathBuf>,
    /// Leave the network out: baselines only.
    #[arg(long, requires = "baselines", help_heading = "Protocol")]
    baselines_only: bool,
}

fn folds(text: &str) -> std::result::Result<usize, String> {
    text.parse()
        .ok()
        .filter(|k| (3..=1000).contains(k))
        .ok_or_else(|| "expected a whole number from 3 to 1000".to_owned())
}

impl FoldArgs {
    /// Whether a cross-validation is asked for.
    pub fn is_asked(&self) -> bool {
        self.folds.is_some() || self.protocol.is_some()
    }

    /// The first fold that is run, from 0.
    pub fn first(&self) -> usize {
        self.fold.map_or(0, |fold| fold - 1)
    }

    /// Files that are read.
    pub fn inputs(&self) -> impl Iterator<Item = &PathBuf> + '_ {
        self.protocol.iter().chain(&self.features)
    }

    /// Refuses options that do nothing without folds.
    ///
    /// # Errors
    /// Where one is given.
    pub fn check(&self) -> Result<()> {
        if !self.is_asked() && (!self.baselines.is_empty() || !self.features.is_empty() || self.fold.is_some()) {
            return Err(Error::usage("--fold, --baselines and --features need --folds or --protocol"));
        }
        match self.baselines.iter().find(|b| b.needs_features()) {
            Some(baseline) if self.features.is_empty() => {
                let word = baseline.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
                Err(Error::usage(format!("--baselines {word} needs --features")))
            }
            _ => Ok(()),
        }
    }

    fn protocol(&self, setup: &Setup, seed: u64) -> Result<Protocol> {
        if let Some(path) = &self.protocol {
            let text = std::fs::read_to_string(path).map_err(Error::io("reading the protocol", path))?;
            return Protocol::from_json(&text).map_err(|error| error.in_file(path));
        }
        let mut first: HashMap<&str, usize> = HashMap::new(); // one clip stands for its participant
        for record in &setup.records {
            first.entry(setup.participants.get(*record).map_or("", String::as_str)).or_insert(*record);
        }
        let mut chosen: Vec<usize> = first.into_values().collect();
        chosen.sort_unstable();
        let name = |i: &usize| setup.participants.get(*i).cloned().unwrap_or_default();
        let strata: Vec<Vec<String>> =
            setup.truth.strata(&chosen).iter().map(|stratum| stratum.iter().map(name).collect()).collect();
        Protocol::deal(&strata, self.folds.unwrap_or(0), seed)
    }
}

/// The options of a training inside the folder.
pub fn inside(args: &TrainArgs, folder: &Path, word: &str) -> TrainArgs {
    TrainArgs {
        output: folder.join(format!("{word}.safetensors")),
        state: args.state.as_ref().map(|path| beside(path, word)),
        log: args.log.as_ref().map(|path| beside(path, word)),
        ..args.clone()
    }
}

/// Runs all folds and writes the folder.
///
/// # Errors
/// Whatever stops the work.
pub fn run(args: &LearnArgs, setup: &mut Setup, log: &Log) -> Result<()> {
    let folder = Folder::begin_new(&args.train.output)?;
    let protocol = args.folds.protocol(setup, args.train.seed)?;
    if let Some(fold) = args.folds.fold.filter(|fold| *fold > protocol.folds.len()) {
        return Err(Error::usage(format!("--fold {fold}: there are {} folds", protocol.folds.len())));
    }
    let train_args = TrainArgs { seed: protocol.seed, ..args.train.clone() };
    let features = args.features(setup)?;
    let mut methods: Vec<Method> = Vec::new();
    if !args.folds.baselines_only {
        methods.push(Method::new("clip"));
    }
    methods.extend(args.folds.baselines.iter().map(|baseline| Method::new(baseline.name())));
    for i in 0..protocol.folds.len() {
        if args.folds.fold.is_some_and(|only| only != i + 1) {
            continue;
        }
        args.begin_fold(setup, i)?;
        let part = protocol.part(i, &setup.participants, &setup.records)?;
        let mut done: Vec<Vec<Prediction>> = Vec::new();
        if !args.folds.baselines_only {
            log.note(&format!("fold {} of {}", i + 1, protocol.folds.len()));
            let fold_args = inside(&train_args, folder.path(), &format!("fold{}", i + 1));
            let fitted = args.fit(setup, part.split.clone(), &fold_args, log)?;
            let outputs = fitted.learn.outputs(&part.test)?;
            let Fitted { trained, learn, temperature, threshold } = fitted;
            done.push(predictions(setup, &learn.truth, &part.test, &outputs, (&temperature, &threshold), i));
            let models = setup
                .session
                .models(trained.weights, format!("trained on {}, fold {}, {}", setup.on, i + 1, trained.note))?;
            models.save(&fold_args.output, &setup.session.provenance)?;
        }
        let truth = setup.truth.scaled(&part.split.train).map_err(|error| error.in_file(&args.table))?;
        for baseline in &args.folds.baselines {
            done.push(args.baseline(
                *baseline,
                setup,
                (&truth, &part, i),
                &features,
                &train_args,
                folder.path(),
                log,
            )?);
        }
        methods.iter_mut().zip(done).for_each(|(method, part)| method.predictions.extend(part));
    }
    let mut provenance = setup.session.provenance.clone();
    provenance.seed = Some(protocol.seed);
    write_text(&folder.path().join("protocol.json"), &protocol.to_json()?)?;
    for method in &methods {
        write_predictions(
            &folder.path().join(format!("predictions.{}.csv", method.name)),
            &setup.truth,
            method,
            &provenance,
        )?;
    }
    let figures = figures::of(&setup.truth, &methods, protocol.folds.len(), protocol.seed);
    figures::write(folder.path(), &figures, &provenance)?;
    figures::tell(&setup.truth, &figures, log);
    folder.finish()
}

/// What test records got; several clips of one participant are averaged.
pub fn predictions(
    setup: &Setup,
    truth: &Truth,
    test: &[usize],
    outputs: &[Vec<f32>],
    (temperature, threshold): (&[f64], &[f64]),
    fold: usize,
) -> Vec<Prediction> {
    let mut all: Vec<(Prediction, f64)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (record, outputs) in test.iter().zip(outputs) {
        let id = setup.participants.get(*record).map_or("", String::as_str);
        let values = in_units(truth, outputs, temperature);
        let place = *places.entry(id).or_insert_with(|| {
            let truths = match truth.question {
                Question::Numbers => truth.values(*record).to_vec(),
                _ => (0..truth.outputs()).map(|k| truth.answer(*record, k)).collect(),
            };
            let values = vec![0.0; values.len()];
            all.push((
                Prediction { id: id.to_owned(), fold, truth: truths, values, threshold: threshold.to_vec() },
                0.0,
            ));
            all.len() - 1
        });
        if let Some((prediction, n)) = all.get_mut(place) {
            *n += 1.0;
            prediction.values.iter_mut().zip(&values).for_each(|(mean, value)| *mean += (value - *mean) / *n);
        }
    }
    all.into_iter().map(|(prediction, _)| prediction).collect()
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    let output = Output::begin(path, false)?;
    std::fs::write(output.path(), text).map_err(Error::io("writing", path))?;
    output.finish()
}

fn write_predictions(path: &Path, truth: &Truth, method: &Method, provenance: &Provenance) -> Result<()> {
    let mut writer = TableWriter::begin(path, &truth.labels, provenance, true)?;
    for prediction in &method.predictions {
        let cells = prediction.values.iter().map(|value| Value::Number(*value)).collect();
        writer.put(&Row { id: prediction.id.clone(), cells })?;
    }
    writer.finish()
}
