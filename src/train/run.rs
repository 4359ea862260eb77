//! The loop: batch, loss, backward, clip, step, schedule, average, validation, checkpoint.

use std::io::Write;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::adamw::AdamW;
use super::ema::Ema;
use super::schedule::Schedule;
use super::split::Split;
use super::state::{fingerprint, flat, Progress, Settings, State};
use super::task::{At, Network, Task};
use super::variables::{Gradients, Tensors};
use crate::error::{Error, Fault, Result};

const DOING: &str = "training";

/// How a training goes; all of it is compared when it is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Records that go through the network together.
    pub batch: usize,
    /// Batches whose gradients are averaged for one step.
    pub accumulate: usize,
    /// The learning rate of every step, and the number of steps.
    pub schedule: Schedule,
    /// Share of the records that validate; 0 for none.
    pub validation: f64,
    /// Steps from one validation to the next; none: once an epoch.
    pub validate_every: Option<u64>,
    /// Decay of the running average of the weights; none: the weights themselves are validated and saved.
    pub ema: Option<f64>,
    /// Validations in a row without a better one after which the training ends; none: it never ends early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Seed of everything random.
    pub seed: u64,
}

/// One step, as it is reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Steps made, this one included.
    pub step: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Learning rate.
    pub rate: f64,
    /// The parts of the loss ([`Task::parts`]).
    pub parts: Vec<f64>,
    /// Norm of each network's gradient before clipping; none where it was not moved.
    pub norms: Vec<Option<f64>>,
    /// Mean score of the validation records, where this step was followed by one.
    pub validation: Option<f64>,
    /// Whether the epoch ends here.
    pub ends_epoch: bool,
}

/// What goes on around a training: log, progress, checkpoints, the wish to stop.
pub trait Watch {
    /// A step was made.
    ///
    /// # Errors
    /// Stops the training.
    fn on_step(&mut self, row: &Row) -> Result<()>;

    /// An epoch has ended; `weights` gives those that would be saved now, the best aside.
    ///
    /// # Errors
    /// Stops the training.
    fn on_epoch(&mut self, _epoch: u64, _weights: &dyn Fn() -> Result<Tensors>) -> Result<()> {
        Ok(())
    }

    /// Whether to save the state after this step.
    fn wants_state(&mut self, step: u64) -> bool;

    /// Saves the state that `write` writes.
    ///
    /// # Errors
    /// Stops the training.
    fn save(&mut self, write: &dyn Fn(&mut dyn Write) -> Result<()>) -> Result<()>;

    /// Whether to stop after this step; the state is saved first.
    fn wants_stop(&mut self) -> bool;
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All steps were made.
    Finished,
    /// It was stopped before.
    Stopped,
}

/// A training under way.
pub struct Training<T> {
    task: T,
    plan: Plan,
    split: Split,
    settings: Settings,
    data: String,
    provenance: String,
    networks: Vec<(Network, AdamW)>,
    ema: Option<Ema>,
    best: Option<Tensors>,
    progress: Progress,
}

/// What one step computed before any network is moved.
struct Step {
    parts: Vec<f64>,
    gradients: Vec<Option<Gradients>>,
}

impl<T: Task> Training<T> {
    /// A training that has made no step. `settings` is what the result depends on besides the plan; `provenance`, JSON,
    /// is kept in the state.
    ///
    /// # Errors
    /// Where there is no record to train on, or the device has no room.
    pub fn new(task: T, plan: Plan, mut settings: Settings, provenance: String) -> Result<Training<T>> {
        let split = task.split().map_or_else(|| Split::new(task.ids(), plan.validation, plan.seed), Ok)?;
        let optimised = |network: Network| {
            let adam = AdamW::new(&network.variables, network.recipe.adamw)?.with(network.paced);
            Ok((network, adam))
        };
        let networks = task.networks().into_iter().map(optimised).collect::<Result<Vec<_>>>()?;
        let first = networks.first().ok_or_else(|| Fault::new(DOING, "no network to train"))?;
        let ema = plan.ema.map(|decay| Ema::new(&first.0.variables, decay)).transpose()?;
        let json = |value: serde_json::Result<_>| value.map_err(Error::compute("writing JSON"));
        settings.insert("plan".into(), json(serde_json::to_value(plan))?);
        for (network, _) in &networks {
            settings.insert(format!("recipe.{}", network.name), json(serde_json::to_value(network.recipe))?);
        }
        let settings = flat(settings);
        let data = fingerprint(task.ids());
        let progress = Progress::default();
        Ok(Training { task, plan, split, settings, data, provenance, networks, ema, best: None, progress })
    }

    /// The trainer.
    pub fn task(&self) -> &T {
        &self.task
    }

    /// The records of training and validation.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Records of one step.
    fn step_size(&self) -> usize {
        self.plan.batch.max(1) * self.plan.accumulate.max(1)
    }

    /// Names of the columns of [`Row`], as the log has them.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = ["step", "epoch", "learning_rate"].map(str::to_owned).into();
        columns.extend(self.task.parts().into_iter().map(str::to_owned));
        let norm = |(i, (network, _)): (usize, &(Network, AdamW))| match i {
            0 => "gradient_norm".to_owned(),
            _ => format!("{}_gradient_norm", network.name),
        };
        columns.extend(self.networks.iter().enumerate().map(norm));
        columns.push("validation".to_owned());
        columns
    }

    /// The state as it is now.
    ///
    /// # Errors
    /// Where a tensor cannot be fetched.
    pub fn state(&self) -> Result<State> {
        let mut state = State {
            progress: self.progress.clone(),
            settings: self.settings.clone(),
            data: self.data.clone(),
            provenance: self.provenance.clone(),
            tensors: Tensors::new(),
        };
        for (network, adam) in &self.networks {
            let [first, second] = adam.moments()?;
            state.add(&format!("{}.value.", network.name), network.variables.values()?);
            state.add(&format!("{}.first.", network.name), first);
            state.add(&format!("{}.second.", network.name), second);
        }
        if let Some(ema) = &self.ema {
            state.add("average.", ema.values()?);
        }
        if let Some(best) = &self.best {
            state.add("best.", best.clone());
        }
        Ok(state)
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// Where it was made with other settings or other data.
    pub fn resume(&mut self, state: State) -> Result<()> {
        state.check(&self.settings, &self.data)?;
        for (network, adam) in &mut self.networks {
            let part = |what: &str| state.part(&format!("{}.{what}.", network.name));
            network.variables.set(&part("value"))?;
            let steps = state.progress.optimiser_steps.get(network.name).copied().unwrap_or(0);
            adam.restore(&[part("first"), part("second")], steps)?;
        }
        if let Some(ema) = &mut self.ema {
            ema.restore(&state.part("average."))?;
        }
        self.best = state.progress.best.is_some().then(|| state.part("best."));
        self.progress = state.progress;
        Ok(())
    }

    /// The weights to save: the best by validation, else the average, else the last.
    ///
    /// # Errors
    /// Where they cannot be fetched.
    pub fn weights(&self) -> Result<Tensors> {
        self.best.clone().map_or_else(|| self.current(), Ok)
    }

    /// The average, else the weights as they are.
    fn current(&self) -> Result<Tensors> {
        match (&self.ema, self.networks.first()) {
            (Some(ema), _) => ema.values(),
            (None, Some((network, _))) => network.variables.values(),
            (None, None) => Ok(Tensors::new()),
        }
    }

    /// Whether validation has not become better for so long that the training ends.
    pub fn is_settled(&self) -> bool {
        self.plan.patience.is_some_and(|patience| self.progress.stale >= patience)
    }

    /// Makes the steps that are left.
    ///
    /// # Errors
    /// Where a loss or a gradient is not finite, naming step and records; where the watch says so.
    pub fn run(&mut self, watch: &mut dyn Watch) -> Result<End> {
        while self.progress.step < self.plan.schedule.steps && !self.is_settled() {
            let row = self.step()?;
            watch.on_step(&row)?;
            if row.ends_epoch {
                watch.on_epoch(row.epoch, &|| self.current())?;
            }
            let stops = watch.wants_stop();
            let finished = self.progress.step == self.plan.schedule.steps || self.is_settled();
            if watch.wants_state(self.progress.step) || stops || finished {
                watch.save(&|out| self.state()?.write(out))?;
            }
            if stops && !finished {
                return Ok(End::Stopped);
            }
        }
        Ok(End::Finished)
    }

    /// One step.
    fn step(&mut self) -> Result<Row> {
        let (plan, made) = (self.plan, self.progress.step);
        let at = At { seed: plan.seed, step: made };
        let (epoch, records) = self.split.batch(made, self.step_size(), plan.seed);
        let Step { parts, gradients } = self.gradients(&records, at)?;
        let rate = plan.schedule.rate(made);
        let norms = gradients.iter().map(|g| g.as_ref().map(Gradients::norm).transpose());
        let norms = norms.collect::<Result<Vec<Option<f64>>>>()?;
        if let Some(found) = norms.iter().flatten().find(|norm| !norm.is_finite()) {
            return Err(self.not_finite("gradient_norm", *found, &records, at));
        }
        for (((network, adam), gradients), norm) in self.networks.iter_mut().zip(&gradients).zip(&norms) {
            if let (Some(gradients), Some(norm)) = (gradients, norm) {
                adam.step(gradients, rate, (network.recipe.clip / (norm + 1e-6)).min(1.0))?;
                self.progress.optimiser_steps.insert(network.name.to_owned(), adam.steps());
            }
        }
        self.progress.step += 1;
        if let Some(ema) = &mut self.ema {
            ema.step(self.progress.step)?;
        }
        let ends_epoch = self.progress.step.is_multiple_of(self.split.steps(self.step_size()));
        let validation = if self.is_validation_due(ends_epoch) { self.validate()? } else { None };
        Ok(Row { step: self.progress.step, epoch, rate, parts, norms, validation, ends_epoch })
    }

    /// Losses and gradients of the records, batch by batch, averaged over them.
    fn gradients(&self, records: &[usize], at: At) -> Result<Step> {
        let mut step =
            Step { parts: vec![0.0; self.task.parts().len()], gradients: self.networks.iter().map(|_| None).collect() };
        for batch in records.chunks(self.plan.batch.max(1)) {
            let share = batch.len() as f64 / records.len() as f64;
            let losses = self.task.losses(batch, at)?;
            for (i, (part, name)) in losses.parts.iter().zip(self.task.parts()).enumerate() {
                let value = scalar(part)?;
                if !value.is_finite() {
                    return Err(self.not_finite(name, value, batch, at));
                }
                if let Some(sum) = step.parts.get_mut(i) {
                    *sum += share * value;
                }
            }
            for update in losses.updates {
                let Some((network, _)) = self.networks.get(update.network) else { continue };
                let mut store = update.loss.backward().map_err(Error::compute(DOING))?;
                let gradients = Gradients::take(&network.variables, &mut store, share)?;
                match step.gradients.get_mut(update.network) {
                    Some(Some(sum)) => sum.add(gradients)?,
                    Some(none) => *none = Some(gradients),
                    None => {}
                }
            }
        }
        Ok(step)
    }

    /// Says what is not finite; of several records, those are named that are not finite by themselves, else all.
    fn not_finite(&self, field: &str, found: f64, records: &[usize], at: At) -> Error {
        let bad = |record: &&usize| {
            let alone =
                self.task.losses(&[**record], at).and_then(|l| l.parts.iter().map(scalar).collect::<Result<Vec<_>>>());
            alone.is_ok_and(|parts| parts.iter().any(|part| !part.is_finite()))
        };
        let bad: Vec<usize> = records.iter().filter(bad).copied().collect();
        let (named, hint) = match bad.len() {
            n if n == 0 || n == records.len() => {
                (records.to_vec(), "lower --lr; go on from an earlier --state, if there is one")
            }
            _ => (bad, "look at these records, or leave them out"),
        };
        let names: Vec<&str> = named.iter().filter_map(|i| self.task.ids().get(*i)).map(String::as_str).collect();
        let doing = format!("training, step {}", at.step + 1);
        Fault::new(doing, "").record(names.join(", ")).field(field).expected("a finite number", found).hint(hint).into()
    }

    fn is_validation_due(&self, ends_epoch: bool) -> bool {
        let step = self.progress.step;
        let regular = self.plan.validate_every.map_or(ends_epoch, |every| step.is_multiple_of(every.max(1)));
        !self.split.validation.is_empty() && (regular || step == self.plan.schedule.steps)
    }

    /// The mean score of the validation records; keeps the weights where it is the best so far.
    fn validate(&mut self) -> Result<Option<f64>> {
        let Some((network, _)) = self.networks.first() else { return Ok(None) };
        let trained =
            self.ema.as_ref().map(|ema| Ok::<_, Error>((network.variables.values()?, ema.values()?))).transpose()?;
        if let Some((_, average)) = &trained {
            network.variables.set(average)?;
        }
        let mean = self.score();
        if let Some((values, _)) = &trained {
            network.variables.set(values)?;
        }
        let mean = mean?;
        let before = self.progress.best.as_ref().and_then(|(value, _)| value.parse().ok());
        self.progress.stale += 1;
        if mean < before.unwrap_or(f64::INFINITY) {
            self.best = Some(self.current()?);
            self.progress.best = Some((mean.to_string(), self.progress.step));
            self.progress.stale = 0;
        }
        self.progress.last = Some((mean.to_string(), self.progress.step));
        Ok(Some(mean))
    }
}

impl<T: Task> Training<T> {
    /// The score of the validation records with the weights as they are.
    fn score(&self) -> Result<f64> {
        let records = &self.split.validation;
        let doing = || format!("training, validation after step {}", self.progress.step);
        if let Some(score) = self.task.score_of_all(records, self.plan.seed)? {
            let fault = || Fault::new(doing(), "").field("validation").expected("a finite number", score);
            return if score.is_finite() { Ok(score) } else { Err(fault().into()) };
        }
        let scores = records.iter().map(|record| {
            let score = self.task.score(*record, self.plan.seed)?;
            if score.is_finite() {
                return Ok(score);
            }
            let id = self.task.ids().get(*record).map_or("", String::as_str);
            let fault = Fault::new(doing(), "").record(id).field("validation").expected("a finite number", score);
            Err(fault.hint("look at this record, or leave it out").into())
        });
        Ok(scores.sum::<Result<f64>>()? / records.len() as f64)
    }
}

/// The number in a scalar.
fn scalar(x: &Tensor) -> Result<f64> {
    x.to_dtype(DType::F64).and_then(|x| x.to_scalar()).map_err(Error::compute(DOING))
}
