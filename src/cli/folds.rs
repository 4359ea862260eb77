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
use crate::train::input::Rows;
use crate::train::protocol::{Part, Protocol};
use crate::train::truth::{Question, Truth};

/// Cross-validation and what the network is compared with.
#[derive(Args, Debug, Clone)]
pub struct FoldArgs {
    /// Train, validate and test in K folds by participant; OUTPUT is a new folder, and {fold} in the name of --init stands
    /// for the fold's number.
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

    /// What is compared, in order.
    fn methods(&self) -> Vec<Method> {
        let network = (!self.baselines_only).then(|| Method::new("clip"));
        network.into_iter().chain(self.baselines.iter().map(|baseline| Method::new(baseline.name()))).collect()
    }

    /// The protocol that is repeated, where one is.
    ///
    /// # Errors
    /// Where it cannot be read or leaks.
    pub fn given(&self) -> Result<Option<Protocol>> {
        let Some(path) = &self.protocol else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(Error::io("reading the protocol", path))?;
        Protocol::from_json(&text).map(Some).map_err(|error| error.in_file(path))
    }

    /// Deals the participants anew.
    fn deal(&self, setup: &Setup, seed: u64) -> Result<Protocol> {
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

/// A cross-validation under way.
pub struct Run<'a> {
    /// What it is about; the seed is the protocol's.
    pub args: &'a LearnArgs,
    /// ECG features, where there are any.
    pub features: Option<Rows>,
    /// Where its files lie until it is finished.
    pub folder: &'a Path,
    /// Messages.
    pub log: &'a Log,
}

/// One fold: who trains, validates and is tested.
pub struct Tested<'a> {
    /// What all folds share.
    pub setup: &'a Setup,
    /// The records of the fold.
    pub part: &'a Part,
    /// What they are to give, scaled by those who train.
    pub truth: Truth,
    /// The fold, from 0.
    pub number: usize,
}

/// Runs all folds, those that were given or new ones, and writes the folder.
///
/// # Errors
/// Whatever stops the work.
pub fn run(args: &LearnArgs, setup: &mut Setup, given: Option<Protocol>, log: &Log) -> Result<()> {
    let folder = Folder::begin_new(&args.train.output)?;
    let protocol = given.map_or_else(|| args.folds.deal(setup, args.train.seed), Ok)?;
    let count = protocol.folds.len();
    if let Some(fold) = args.folds.fold.filter(|fold| *fold > count) {
        return Err(Error::usage(format!("--fold {fold}: there are {count} folds")));
    }
    let run = Run { args, features: args.features(setup)?, folder: folder.path(), log };
    let mut methods = args.folds.methods();
    let mut started: Vec<String> = Vec::new(); // the weights that the folds start from
    for number in (0..count).filter(|i| args.folds.fold.is_none_or(|only| only == i + 1)) {
        args.begin_fold(setup, number)?;
        started.extend(setup.session.provenance.model.clone().filter(|id| !started.contains(id)));
        let part = protocol.part(number, &setup.participants, &setup.records)?;
        let truth = setup.truth.scaled(&part.split.train).map_err(|error| error.in_file(&args.table))?;
        let fold = Tested { setup: &*setup, part: &part, truth, number };
        let mut done: Vec<Vec<Prediction>> = Vec::new();
        if !args.folds.baselines_only {
            log.note(&format!("fold {} of {count}", number + 1));
            done.push(run.network(&fold)?);
        }
        for baseline in &args.folds.baselines {
            done.push(run.baseline(*baseline, &fold)?);
        }
        methods.iter_mut().zip(done).for_each(|(method, part)| method.predictions.extend(part));
    }
    let mut provenance = setup.session.provenance.clone();
    provenance.model = Some(started.join("; ")).filter(|ids| !ids.is_empty());
    Output::holding(&folder.path().join("protocol.json"), false, protocol.to_json()?)?.finish()?;
    for method in &methods {
        let path = folder.path().join(format!("predictions.{}.csv", method.name));
        write_predictions(&path, &setup.truth, method, &provenance)?;
    }
    let figures = figures::of(&setup.truth, &methods, count, protocol.seed);
    figures::write(folder.path(), &figures, &provenance)?;
    figures::tell(&setup.truth, &figures, log);
    folder.finish()
}

impl Run<'_> {
    /// Trains the network of a fold, saves it, and asks it for those who are tested.
    fn network(&self, fold: &Tested<'_>) -> Result<Vec<Prediction>> {
        let (session, word) = (&fold.setup.session, fold.number + 1);
        let args = inside(&self.args.train, self.folder, &format!("fold{word}"));
        let fitted = self.args.fit(fold.setup, fold.part.split.clone(), &args, self.log)?;
        let outputs = fitted.learn.outputs(&fold.part.test)?;
        let Fitted { trained, temperature, threshold, .. } = fitted;
        let origin = format!("trained on {}, fold {word}, {}", fold.setup.on, trained.note);
        session.models(trained.weights, origin)?.save(&args.output, &session.provenance)?;
        Ok(fold.predictions(&outputs, &temperature, &threshold))
    }
}

impl Tested<'_> {
    /// What test records got; several clips of one participant are averaged.
    pub fn predictions(&self, outputs: &[Vec<f32>], temperature: &[f64], threshold: &[f64]) -> Vec<Prediction> {
        let mut all: Vec<(Prediction, f64)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (record, outputs) in self.part.test.iter().zip(outputs) {
            let id = self.setup.participants.get(*record).map_or("", String::as_str);
            let values = in_units(&self.truth, outputs, temperature);
            let place = *places.entry(id).or_insert_with(|| {
                all.push((self.nothing_yet(id, *record, threshold), 0.0));
                all.len() - 1
            });
            if let Some((prediction, n)) = all.get_mut(place) {
                *n += 1.0;
                prediction.values.iter_mut().zip(&values).for_each(|(mean, value)| *mean += (value - *mean) / *n);
            }
        }
        all.into_iter().map(|(prediction, _)| prediction).collect()
    }

    /// The truth of a participant, and zeros.
    fn nothing_yet(&self, id: &str, record: usize, threshold: &[f64]) -> Prediction {
        let outputs = self.truth.outputs();
        let truth = match self.truth.question {
            Question::Numbers => self.truth.values(record).to_vec(),
            _ => (0..outputs).map(|k| self.truth.answer(record, k)).collect(),
        };
        let (id, threshold) = (id.to_owned(), threshold.to_vec());
        Prediction { id, fold: self.number, truth, values: vec![0.0; outputs], threshold }
    }
}

fn write_predictions(path: &Path, truth: &Truth, method: &Method, provenance: &Provenance) -> Result<()> {
    let mut writer = TableWriter::begin(path, &truth.labels, provenance, true)?;
    for prediction in &method.predictions {
        let cells = prediction.values.iter().map(|value| Value::Number(*value)).collect();
        writer.put(&Row { id: prediction.id.clone(), cells })?;
    }
    writer.finish()
}
