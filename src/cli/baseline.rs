//! What a cross-validation compares the network with: simpler ways to the same numbers, on the same folds.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use clap::ValueEnum;

use super::dataset::Dataset;
use super::figures::Prediction;
use super::folds::{inside, predictions};
use super::learn::{calibration, LearnArgs, Setup};
use super::log::Log;
use super::train::TrainArgs;
use crate::checkpoint::sizes::Backbone;
use crate::data::features::Features;
use crate::error::{Error, Fault, Result};
use crate::train::baseline::{self, Head};
use crate::train::input::Rows;
use crate::train::learn::{defaults, probe, recipe, Learn};
use crate::train::protocol::{participants, Part};
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
            let feature = data.get(i)?.feature;
            let n = feature.nrows().max(1) as f64;
            let columns = feature.columns();
            let mean: Vec<f64> =
                columns.into_iter().map(|c| c.iter().map(|v| f64::from(*v)).sum::<f64>() / n).collect();
            let spread = |(c, m): (ndarray::ArrayView1<'_, f32>, &f64)| {
                (c.iter().map(|v| (f64::from(*v) - m).powi(2)).sum::<f64>() / n).sqrt()
            };
            let sd: Vec<f64> = feature.columns().into_iter().zip(&mean).map(spread).collect();
            let (sum, count) = sums.entry(id).or_insert_with(|| (vec![0.0; 2 * mean.len()], 0.0));
            if sum.len() != mean.len() + sd.len() {
                let fault = Fault::new("reading features", "").record(id).field("/feature");
                return Err(fault.expected(format!("{} features", sum.len() / 2), mean.len()).into());
            }
            sum.iter_mut().zip(mean.iter().chain(&sd)).for_each(|(sum, v)| *sum += v);
            *count += 1.0;
        }
        let used: std::collections::HashSet<usize> = setup.records.iter().copied().collect();
        let row = |(i, id): (usize, &String)| match sums.get(id.as_str()) {
            Some((sum, n)) => Ok(sum.iter().map(|v| (v / n) as f32).collect()),
            None if !used.contains(&i) => Ok(Vec::new()),
            None => {
                let fault =
                    Fault::new("reading features", "").record(id).expected("features of every participant", "none");
                Err(fault.hint("run pamae-encode on the ECGs of all of them").into())
            }
        };
        let rows: Vec<Vec<f32>> = setup.participants.iter().enumerate().map(row).collect::<Result<_>>()?;
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        let rows = rows.into_iter().map(|row| if row.is_empty() { vec![0.0; width] } else { row }).collect();
        Ok(Some(Rows::new(setup.participants.clone(), rows)))
    }

    /// What a baseline says of the test records of a fold.
    ///
    /// # Errors
    /// Where a clip cannot be read or the computation fails.
    #[allow(clippy::too_many_arguments)]
    pub fn baseline(
        &self,
        baseline: Baseline,
        setup: &Setup,
        (truth, part, i): (&Truth, &Part, usize),
        features: &Option<Rows>,
        args: &TrainArgs,
        folder: &Path,
        log: &Log,
    ) -> Result<Vec<Prediction>> {
        log.info(&format!("fold {}: {}", i + 1, baseline.name()));
        let all: Vec<Vec<f32>> = match baseline {
            Baseline::Constant => vec![constant(truth, &part.split.train); setup.participants.len()],
            Baseline::Ridge => baseline::ridge(features.as_ref().ok_or_else(missing)?, truth, &part.split),
            Baseline::MeanClip => {
                let mut rows = vec![Vec::new(); setup.participants.len()];
                for record in &setup.records {
                    rows[*record] = setup.clips.mean_frame(*record)?;
                }
                baseline::ridge(&whole(setup, rows), truth, &part.split)
            }
            Baseline::Probe => {
                let variables = setup.session.variables()?;
                let config = vit(&setup.session.start.configs, setup.kind)?;
                let mut rows = vec![Vec::new(); setup.participants.len()];
                for (record, row) in
                    setup.records.iter().zip(probe(&config, &variables, &*setup.clips, &setup.records)?)
                {
                    rows[*record] = row;
                }
                baseline::ridge(&whole(setup, rows), truth, &part.split)
            }
            Baseline::Head => {
                let rows = features.as_ref().ok_or_else(missing)?.standardised(&part.split.train);
                let (inputs, outputs) = (rows.width(), truth.outputs());
                let values = fresh("ecg-head", args.seed, |vb| Head::new(inputs, outputs, vb))?;
                let variables = Variables::new(values, &setup.session.device)?;
                let head = Head::new(inputs, outputs, variables.builder()).map_err(Error::compute("training"))?;
                let learn = Learn {
                    inputs: Rc::new(rows),
                    truth: Rc::new(truth.clone()),
                    network: Rc::new(head),
                    variables,
                    recipe: recipe(Backbone::Compact),
                    split: part.split.clone(),
                    balance: setup.balance,
                };
                let defaults = defaults(Backbone::Compact, truth.question);
                let own = TrainArgs {
                    steps: None,
                    epochs: None,
                    lr: None,
                    warm_up: None,
                    batch: None,
                    ema: None,
                    validate_every: None,
                    ..inside(args, folder, &format!("head{}", i + 1))
                };
                let fitted = self.optimise(learn, defaults, &setup.session, &own, log)?;
                let outputs = fitted.learn.outputs(&part.test)?;
                return Ok(predictions(
                    setup,
                    truth,
                    &part.test,
                    &outputs,
                    (&fitted.temperature, &fitted.threshold),
                    i,
                ));
            }
        };
        let of = |records: &[usize]| -> Vec<Vec<f32>> { records.iter().filter_map(|r| all.get(*r).cloned()).collect() };
        let validation = of(&part.split.validation);
        let (temperature, threshold) = match truth.question {
            Question::Numbers => (Vec::new(), Vec::new()),
            _ => calibration(truth, &part.split.validation, &validation),
        };
        Ok(predictions(setup, truth, &part.test, &of(&part.test), (&temperature, &threshold), i))
    }
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

fn missing() -> Error {
    Error::usage("--features is missing")
}
