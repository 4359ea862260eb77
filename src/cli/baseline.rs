//! What a cross-validation compares the network with: simpler ways to the same numbers, on the same folds.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use clap::ValueEnum;

use super::dataset::Dataset;
use super::figures::Prediction;
use super::folds::{inside, Run, Tested};
use super::learn::{calibration, LearnArgs, Setup};
use super::train::TrainArgs;
use crate::checkpoint::sizes::Backbone;
use crate::data::features::Features;
use crate::error::{Error, Fault, Result};
use crate::train::baseline::{self, Head};
use crate::train::input::Rows;
use crate::train::learn::{defaults, probe, recipe, Learn};
use crate::train::protocol::participants;
use crate::train::start::{fresh, vit};
use crate::train::truth::{Question, Truth};
use crate::train::{Records as _, Variables};

/// A simpler way to the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Baseline {
    /// The mean of the training records.
    Constant,
    /// Ridge regression on ECG features.
    Ridge,
    /// A small network on ECG features.
    Head,
    /// Ridge regression on the mean frame.
    MeanClip,
    /// Ridge regression on the class token of the network as it starts.
    Probe,
}

impl Baseline {
    /// The name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Baseline::Constant => "constant",
            Baseline::Ridge => "ecg-ridge",
            Baseline::Head => "ecg-head",
            Baseline::MeanClip => "mean-clip",
            Baseline::Probe => "probe",
        }
    }

    /// Whether it reads ECG features.
    pub fn needs_features(self) -> bool {
        matches!(self, Baseline::Ridge | Baseline::Head)
    }
}

impl LearnArgs {
    /// The features of every clip's participant: mean and standard deviation over the cycle, averaged over beats.
    ///
    /// # Errors
    /// Where a file is malformed or lacks a participant.
    pub fn features(&self, setup: &Setup) -> Result<Option<Rows>> {
        if self.folds.features.is_empty() {
            return Ok(None);
        }
        let data: Dataset<Features> = Dataset::open(&self.folds.features)?;
        let of = participants(data.ids());
        let mut sums: HashMap<&str, (Vec<f64>, f64)> = HashMap::new();
        for (i, id) in of.iter().enumerate() {
            let row = summary(&data.get(i)?);
            let (sum, count) = sums.entry(id).or_insert_with(|| (vec![0.0; row.len()], 0.0));
            if sum.len() != row.len() {
                let fault = Fault::new("reading features", "").record(id).field("/feature");
                return Err(fault.expected(format!("{} features", sum.len() / 2), row.len() / 2).into());
            }
            sum.iter_mut().zip(&row).for_each(|(sum, v)| *sum += v);
            *count += 1.0;
        }
        let used: HashSet<usize> = setup.records.iter().copied().collect();
        let row = |(i, id): (usize, &String)| match sums.get(id.as_str()) {
            Some((sum, n)) => Ok(sum.iter().map(|v| (v / n) as f32).collect()),
            None if !used.contains(&i) => Ok(Vec::new()),
            None => {
                let fault = Fault::new("reading features", "").record(id);
                let fault = fault.expected("features of every participant", "none");
                Err(fault.hint("run pamae-encode on the ECGs of all of them").into())
            }
        };
        let rows: Vec<Vec<f32>> = setup.participants.iter().enumerate().map(row).collect::<Result<_>>()?;
        Ok(Some(whole(setup, rows)))
    }
}

/// Mean and standard deviation of each feature over the frames.
fn summary(features: &Features) -> Vec<f64> {
    let n = features.feature.nrows().max(1) as f64;
    let columns = || features.feature.columns().into_iter();
    let mean: Vec<f64> = columns().map(|c| c.iter().map(|v| f64::from(*v)).sum::<f64>() / n).collect();
    let spread = |(c, m): (ndarray::ArrayView1<'_, f32>, &f64)| {
        (c.iter().map(|v| (f64::from(*v) - m).powi(2)).sum::<f64>() / n).sqrt()
    };
    let sd: Vec<f64> = columns().zip(&mean).map(spread).collect();
    [mean, sd].concat()
}

impl Run<'_> {
    /// What a baseline says of those who are tested in a fold.
    ///
    /// # Errors
    /// Where a clip cannot be read or the computation fails.
    pub fn baseline(&self, baseline: Baseline, fold: &Tested<'_>) -> Result<Vec<Prediction>> {
        self.log.info(&format!("fold {}: {}", fold.number + 1, baseline.name()));
        let (setup, truth, split) = (fold.setup, &fold.truth, &fold.part.split);
        let all: Vec<Vec<f32>> = match baseline {
            Baseline::Constant => vec![constant(truth, &split.train); setup.participants.len()],
            Baseline::Ridge => baseline::ridge(self.features()?, truth, split),
            Baseline::MeanClip => {
                let rows: Vec<Vec<f32>> =
                    setup.records.iter().map(|record| setup.clips.mean_frame(*record)).collect::<Result<_>>()?;
                baseline::ridge(&placed(setup, rows), truth, split)
            }
            Baseline::Probe => {
                let config = vit(&setup.session.start.configs, setup.kind)?;
                let rows = probe(&config, &setup.session.variables()?, &*setup.clips, &setup.records)?;
                baseline::ridge(&placed(setup, rows), truth, split)
            }
            Baseline::Head => return self.head(fold),
        };
        let of = |records: &[usize]| -> Vec<Vec<f32>> { records.iter().filter_map(|r| all.get(*r).cloned()).collect() };
        let (temperature, threshold) = match truth.question {
            Question::Numbers => (Vec::new(), Vec::new()),
            _ => calibration(truth, &split.validation, &of(&split.validation)),
        };
        Ok(fold.predictions(&of(&fold.part.test), &temperature, &threshold))
    }

    fn features(&self) -> Result<&Rows> {
        self.features.as_ref().ok_or_else(|| Error::usage("--features is missing"))
    }

    /// A small network on ECG features. It has its own schedule: the options are for the network on clips.
    fn head(&self, fold: &Tested<'_>) -> Result<Vec<Prediction>> {
        let (split, session) = (&fold.part.split, &fold.setup.session);
        let rows = self.features()?.standardised(&split.train);
        let (inputs, outputs) = (rows.width(), fold.truth.outputs());
        let values = fresh("ecg-head", self.args.train.seed, |vb| Head::new(inputs, outputs, vb))?;
        let variables = Variables::new(values, &session.device)?;
        let head = Head::new(inputs, outputs, variables.builder()).map_err(Error::compute("training"))?;
        let learn = Learn {
            inputs: Rc::new(rows),
            truth: Rc::new(fold.truth.clone()),
            network: Rc::new(head),
            variables,
            recipe: recipe(Backbone::Compact),
            split: split.clone(),
            balance: fold.setup.balance,
        };
        let own = TrainArgs {
            steps: None,
            epochs: None,
            lr: None,
            warm_up: None,
            batch: None,
            ema: None,
            validate_every: None,
            ..inside(&self.args.train, self.folder, &format!("head{}", fold.number + 1))
        };
        let defaults = defaults(Backbone::Compact, fold.truth.question);
        let fitted = self.args.optimise(learn, defaults, session, &own, self.log)?;
        let outputs = fitted.learn.outputs(&fold.part.test)?;
        Ok(fold.predictions(&outputs, &fitted.temperature, &fitted.threshold))
    }
}

/// Rows of the records in use, one each, at their places among all.
fn placed(setup: &Setup, rows: Vec<Vec<f32>>) -> Rows {
    let mut all = vec![Vec::new(); setup.participants.len()];
    for (record, row) in setup.records.iter().zip(rows) {
        if let Some(place) = all.get_mut(*record) {
            *place = row;
        }
    }
    whole(setup, all)
}

/// Rows of one length; records that are not used get zeros.
fn whole(setup: &Setup, rows: Vec<Vec<f32>>) -> Rows {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let rows = rows.into_iter().map(|row| if row.is_empty() { vec![0.0; width] } else { row }).collect();
    Rows::new(setup.participants.clone(), rows)
}

/// The same for everyone: the mean of the training records, as a z-score or a logit.
fn constant(truth: &Truth, train: &[usize]) -> Vec<f32> {
    let mean = |k: usize| {
        let known: Vec<f64> = train.iter().map(|i| truth.answer(*i, k)).filter(|v| v.is_finite()).collect();
        known.iter().sum::<f64>() / known.len().max(1) as f64
    };
    let logit = |p: f64| (p.clamp(1e-6, 1.0 - 1e-6) / (1.0 - p.clamp(1e-6, 1.0 - 1e-6))).ln();
    let of = |k: usize| match truth.question {
        Question::Numbers => 0.0,
        Question::Answers => logit(mean(k)),
        Question::Classes => mean(k).max(1e-6).ln(),
    };
    (0..truth.outputs()).map(|k| of(k) as f32).collect()
}
