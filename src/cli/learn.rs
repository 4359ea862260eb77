//! `cmr-phenotype train` and `cmr-classify train`: clips and a table to weights, or to the figures of a cross-validation.
//!
//! It stands here because a program holds arguments and calls only; the trainers are in [`crate::train`].

use std::path::{Path, PathBuf};
use std::rc::Rc;

use candle_core::Tensor;
use clap::Args;

use super::dataset::Dataset;
use super::folds::{self, FoldArgs};
use super::log::Log;
use super::session::Session;
use super::train::{train, TrainArgs, Trained};
use crate::checkpoint::sizes::Backbone;
use crate::checkpoint::{Configs, Kind, Weights};
use crate::data::cine::Cine;
use crate::data::table::Table;
use crate::data::target::{Meaning, Targets};
use crate::error::{Error, Fault, Result};
use crate::io::{columns, Source};
use crate::random::Stream;
use crate::train::calibrate::{sigmoid, softmax, temperature, temperature_of_classes, threshold};
use crate::train::input::{Augment, Clips};
use crate::train::learn::{self, Balance, Learn};
use crate::train::protocol::participants;
use crate::train::split::Split;
use crate::train::start::{start, vit};
use crate::train::truth::{Matched, Question, Truth};
use crate::train::variables::Tensors;
use crate::train::{Defaults, Variables};

const DOING: &str = "training";
/// What stands for the number of the fold, from 1, in the name of the weights to start from.
const FOLD: &str = "{fold}";

/// What is learnt from, and how.
#[derive(Args, Debug, Clone)]
pub struct LearnArgs {
    /// Files of clips.
    #[arg(long, required = true, num_args = 1.., value_name = "CINE")]
    pub cine: Vec<PathBuf>,
    /// CSV table of what the clips are to give; its ids are those of the clips' /source, without .drawK and .beatK.
    #[arg(long, value_name = "FILE")]
    pub table: PathBuf,
    /// Network and schedule: published, vit3d, compact or tiny; --init brings its own network.
    #[arg(long, value_name = "PRESET", default_value = "compact")]
    pub preset: Backbone,
    /// Weights file whose other models go into OUTPUT too.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Show the network the clips as they are, in training too.
    #[arg(long)]
    pub no_augment: bool,
    /// Validations in a row without a better one after which the training ends; 0 never.
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Optimising")]
    pub patience: u64,
    /// Deal the rows of the table to other participants: what is learnt then is chance. A control.
    #[arg(long)]
    pub permute: bool,
    /// Cross-validation.
    #[command(flatten)]
    pub folds: FoldArgs,
    /// How the training goes.
    #[command(flatten)]
    pub train: TrainArgs,
}

/// Everything that the folds of one run share.
pub struct Setup {
    /// The run.
    pub session: Session,
    /// The clips.
    pub clips: Rc<Clips<Dataset<Cine>>>,
    /// Participant of each clip.
    pub participants: Vec<String>,
    /// What the clips are to give, not scaled yet.
    pub truth: Truth,
    /// Numbers of the clips that have a row in the table.
    pub records: Vec<usize>,
    /// How many clips of which files.
    pub on: String,
    /// How rare answers are made to count.
    pub balance: Balance,
    /// The model.
    pub kind: Kind,
}

/// A network that was trained on one split.
pub struct Fitted {
    /// Its weights, calibrated.
    pub trained: Trained,
    /// The trainer, with those weights.
    pub learn: Learn,
    /// Temperature of each output, or of all.
    pub temperature: Vec<f64>,
    /// Threshold of each output.
    pub threshold: Vec<f64>,
}

impl LearnArgs {
    /// Trains.
    ///
    /// # Errors
    /// Whatever stops the work.
    pub fn run(
        &self,
        tool: &str,
        targets: impl Fn(&Table) -> Result<Targets>,
        balance: Balance,
        log: &Log,
    ) -> Result<()> {
        self.folds.check()?;
        if !self.folds.is_asked() && self.init_differs() {
            return Err(Error::usage(format!("--init with {FOLD} in its name needs --folds or --protocol")));
        }
        if self.folds.is_asked() {
            let given = self.folds.given()?;
            let seed = given.as_ref().map_or(self.train.seed, |protocol| protocol.seed);
            let args = LearnArgs { train: TrainArgs { seed, ..self.train.clone() }, ..self.clone() };
            if let Some(path) = args.train.init.as_ref().filter(|_| !args.init_differs()) {
                let path = path.display();
                log.warn(&format!(
                    "{path}: all folds start from it; their figures hold only if it saw none of the tested"
                ));
            }
            let mut setup = args.setup(tool, targets, balance, log)?;
            return folds::run(&args, &mut setup, given, log);
        }
        let setup = self.setup(tool, targets, balance, log)?;
        let split = self.share(&setup)?;
        let fitted = self.fit(&setup, split, &self.train, log)?;
        setup.session.finish(fitted.trained, &setup.on, &self.train.output)
    }

    /// What the table asks for.
    fn targets(&self, targets: impl Fn(&Table) -> Result<Targets>, log: &Log) -> Result<Targets> {
        let table = columns::read(&Source::open(&self.table)?)?;
        let mut targets = targets(&table).map_err(|error| error.in_file(&self.table))?;
        if !targets.unused.is_empty() {
            log.warn(&format!("{}: not used: {}", self.table.display(), targets.unused.join(", ")));
        }
        if self.permute {
            log.warn("--permute: the rows belong to other participants now; whatever is learnt is chance");
            let order = Stream::new("permute", self.train.seed, "", 0).shuffle(targets.values.len());
            targets.values = order.iter().filter_map(|i| targets.values.get(*i).cloned()).collect();
        }
        Ok(targets)
    }

    /// Opens everything.
    fn setup(
        &self,
        tool: &str,
        targets: impl Fn(&Table) -> Result<Targets>,
        balance: Balance,
        log: &Log,
    ) -> Result<Setup> {
        self.train.spare(&self.inputs())?;
        let targets = self.targets(targets, log)?;
        let (kind, configs) = self.configs(&targets);
        let first = TrainArgs { init: self.init_of(self.folds.first()), ..self.train.clone() };
        let mut session = Session::begin(tool, kind, &configs, self.weights.as_deref(), &first)?;
        let data: Dataset<Cine> = Dataset::open(&self.cine)?;
        session.provenance = data.after(session.provenance);
        let participants = participants(&data.texts("source"));
        let (truth, matched) = Truth::of(&targets, &participants).map_err(|error| error.in_file(&self.table))?;
        let Matched { records, without_row, without_record } = matched;
        if without_row + without_record > 0 {
            log.warn(&format!(
                "{} clips are used; {without_row} have no row in the table, {without_record} rows have no clip",
                records.len()
            ));
        }
        let on = format!("{} of {}", records.len(), data.about("clips"));
        let augment = if self.no_augment { Augment::NONE } else { Augment::USUAL };
        let config = vit(&session.start.configs, kind)?;
        session.depends_on("truth", truth.fingerprint())?;
        session.depends_on("augment", augment)?;
        session.depends_on("balance", balance)?;
        let clips = Rc::new(Clips::new(data, config, augment));
        Ok(Setup { session, clips, participants, truth, records, on, balance, kind })
    }

    /// The weights that a fold, from 0, starts from.
    pub fn init_of(&self, fold: usize) -> Option<PathBuf> {
        let path = self.train.init.clone()?;
        if !self.init_differs() {
            return Some(path);
        }
        Some(PathBuf::from(path.to_string_lossy().replace(FOLD, &(fold + 1).to_string())))
    }

    /// Whether every fold starts from weights of its own.
    fn init_differs(&self) -> bool {
        self.train.init.as_ref().is_some_and(|path| path.to_string_lossy().contains(FOLD))
    }

    /// Gives the session the weights that a fold starts from, where every fold has its own.
    ///
    /// # Errors
    /// Where they cannot be opened.
    pub fn begin_fold(&self, setup: &mut Setup, fold: usize) -> Result<()> {
        let Some(path) = self.init_of(fold).filter(|_| self.init_differs()) else { return Ok(()) };
        let weights = Weights::open(&path)?;
        if self.weights.is_none() {
            setup.session.provenance.model = Some(weights.id());
        }
        setup.session.start = start(setup.kind, &setup.session.start.configs, Some(&weights), self.train.seed)?;
        setup.session.depends_on("init", weights.id())
    }

    /// Files that no output may replace.
    fn inputs(&self) -> Vec<PathBuf> {
        let others = [Some(&self.table), self.weights.as_ref()].into_iter().flatten();
        self.cine.iter().chain(others).chain(self.folds.inputs()).cloned().collect()
    }

    fn configs(&self, targets: &Targets) -> (Kind, Configs) {
        let mut configs = Configs::default();
        match &targets.meaning {
            Meaning::Phenotypes(fields) => configs.phenotype = Some(self.preset.phenotype(fields)),
            meaning => {
                let independent = *meaning == Meaning::Questions && targets.labels.len() > 1;
                configs.diagnosis = Some(self.preset.diagnosis(&targets.labels, independent));
            }
        }
        (if configs.phenotype.is_some() { Kind::Phenotype } else { Kind::Diagnosis }, configs)
    }

    /// The records by the share of --validation, all of them in use.
    fn share(&self, setup: &Setup) -> Result<Split> {
        let ids: Vec<String> = setup.records.iter().filter_map(|i| setup.participants.get(*i).cloned()).collect();
        let split = Split::new(&ids, self.train.validation, self.train.seed)?;
        let record = |part: Vec<usize>| part.into_iter().filter_map(|i| setup.records.get(i).copied()).collect();
        Ok(Split { train: record(split.train), validation: record(split.validation) })
    }

    /// Trains on one split, with weights of its own.
    ///
    /// # Errors
    /// Where there is nothing to learn or the training fails.
    pub fn fit(&self, setup: &Setup, split: Split, args: &TrainArgs, log: &Log) -> Result<Fitted> {
        let truth = setup.truth.scaled(&split.train).map_err(|error| error.in_file(&self.table))?;
        let variables = setup.session.variables()?;
        set_statistics(&variables, &truth)?;
        let config = vit(&setup.session.start.configs, setup.kind)?;
        let network = learn::network(&config, &variables)?;
        let recipe = learn::recipe(self.preset);
        let learn = Learn {
            inputs: setup.clips.clone(),
            truth: Rc::new(truth),
            network,
            variables,
            recipe,
            split,
            balance: setup.balance,
        };
        let defaults = learn::defaults(self.preset, learn.truth.question);
        self.optimise(learn, defaults, &setup.session, args, log)
    }

    /// Makes the steps, then calibrates.
    ///
    /// # Errors
    /// Where the training fails.
    pub fn optimise(
        &self,
        learn: Learn,
        defaults: Defaults,
        session: &Session,
        args: &TrainArgs,
        log: &Log,
    ) -> Result<Fitted> {
        let mut plan = args.plan_for(&learn.split, defaults);
        plan.patience = Some(self.patience).filter(|n| *n > 0 && !learn.split.validation.is_empty());
        let mut settings = session.settings.clone();
        settings
            .insert("split".into(), crate::train::state::fingerprint(&learn.split.names(learn.inputs.ids())).into());
        let mut trained = train(learn.clone(), args, plan, settings, &session.provenance, log, None)?;
        learn.variables.set(&trained.weights)?;
        let (temperature, threshold) = calibrated(&learn)?;
        if learn.truth.question != Question::Numbers {
            insert(&mut trained.weights, "temperature", &temperature)?;
            insert(&mut trained.weights, "threshold", &threshold)?;
        }
        Ok(Fitted { trained, learn, temperature, threshold })
    }
}

fn insert(weights: &mut Tensors, name: &str, values: &[f64]) -> Result<()> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    if weights.contains_key(name) {
        let tensor = Tensor::new(values, &candle_core::Device::Cpu).map_err(Error::compute(DOING))?;
        weights.insert(name.to_owned(), tensor);
    }
    Ok(())
}

/// Gives the network the mean and standard deviation of each phenotype among the records that train.
fn set_statistics(variables: &Variables, truth: &Truth) -> Result<()> {
    let columns: (Vec<f32>, Vec<f32>) = truth.statistics.iter().map(|(mean, sd)| (*mean as f32, *sd as f32)).unzip();
    for (name, values) in [("target_mean", columns.0), ("target_sd", columns.1)] {
        let Some(var) = variables.get(name) else { continue };
        let tensor = Tensor::new(values, variables.device()).map_err(Error::compute(DOING))?;
        var.set(&tensor).map_err(|_| Error::from(Fault::new(DOING, "statistics of other phenotypes").field(name)))?;
    }
    Ok(())
}

/// Temperatures and thresholds by the validation records.
fn calibrated(learn: &Learn) -> Result<(Vec<f64>, Vec<f64>)> {
    let k = learn.truth.outputs();
    let none = (vec![1.0; k], vec![0.5; k]);
    let records = &learn.split.validation;
    if learn.truth.question == Question::Numbers || records.is_empty() {
        return Ok(none);
    }
    let outputs = learn.outputs(records)?;
    Ok(calibration(&learn.truth, records, &outputs))
}

/// The same from outputs that were computed already.
pub fn calibration(truth: &Truth, records: &[usize], outputs: &[Vec<f32>]) -> (Vec<f64>, Vec<f64>) {
    let k = truth.outputs();
    if truth.question == Question::Classes {
        let pair = |(i, y): (&usize, &Vec<f32>)| Some((truth.class(*i)?, y.iter().map(|v| f64::from(*v)).collect()));
        let pairs: Vec<(usize, Vec<f64>)> = records.iter().zip(outputs).filter_map(pair).collect();
        return (vec![temperature_of_classes(&pairs); k], vec![0.5; k]);
    }
    let of = |k: usize| {
        let pair = |(i, y): (&usize, &Vec<f32>)| {
            let answer = truth.answer(*i, k);
            answer.is_finite().then(|| (answer > 0.5, y.get(k).map_or(0.0, |v| f64::from(*v))))
        };
        let pairs: Vec<(bool, f64)> = records.iter().zip(outputs).filter_map(pair).collect();
        let t = temperature(&pairs);
        let probabilities: Vec<(bool, f64)> = pairs.iter().map(|(yes, y)| (*yes, sigmoid(*y, t))).collect();
        (t, threshold(&probabilities))
    };
    (0..k).map(of).unzip()
}

/// Outputs in the units of the table: phenotypes, or probabilities.
pub fn in_units(truth: &Truth, outputs: &[f32], temperature: &[f64]) -> Vec<f64> {
    let y: Vec<f64> = outputs.iter().map(|v| f64::from(*v)).collect();
    match truth.question {
        Question::Numbers => y.iter().zip(&truth.statistics).map(|(y, (mean, sd))| mean + sd * y).collect(),
        Question::Answers => y.iter().zip(temperature).map(|(y, t)| sigmoid(*y, *t)).collect(),
        Question::Classes => softmax(&y, temperature.first().copied().unwrap_or(1.0)),
    }
}

/// A name beside another: `x.csv` and `fold1` give `x.fold1.csv`.
pub fn beside(path: &Path, word: &str) -> PathBuf {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let end = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}.{word}{end}"))
}
