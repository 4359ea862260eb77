//! What the trainers share on the command line: options, the state file, progress, the wish to stop.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use super::args::{count, named, non_negative, positive, ThreadArgs};
use super::dataset::Dataset;
use super::journal::Journal;
use super::log::Log;
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};
use crate::io::hdf5::Noun;
use crate::io::output::Output;
use crate::tensor::DeviceChoice;
use crate::train::schedule::Schedule;
use crate::train::split::Split;
use crate::train::state::{Settings, State};
use crate::train::variables::Tensors;
use crate::train::{Defaults, End, Plan, Row, Task, Training, Watch};

/// How a training goes.
#[derive(Args, Debug, Clone)]
pub struct TrainArgs {
    /// Weights file to write.
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: PathBuf,
    /// Start from this weights file instead of fresh values.
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Passes over the data [default: as published].
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "steps", help_heading = "Optimising")]
    pub epochs: Option<usize>,
    /// Steps in all, instead of epochs.
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Optimising")]
    pub steps: Option<usize>,
    /// Records that go through the network together [default: as published].
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Optimising")]
    pub batch: Option<usize>,
    /// Batches whose gradients are averaged for one step.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count, help_heading = "Optimising")]
    pub accumulate: usize,
    /// Highest learning rate; it falls as half a cosine to 1e-6 [default: as published].
    #[arg(long, value_name = "RATE", value_parser = positive, help_heading = "Optimising")]
    pub lr: Option<f64>,
    /// Steps in which the learning rate rises to its height [default: as published].
    #[arg(long, value_name = "N", help_heading = "Optimising")]
    pub warm_up: Option<u64>,
    /// Save a running average of the weights that decays by this much a step; 0 saves the weights themselves.
    #[arg(long, value_name = "DECAY", value_parser = below_one, help_heading = "Optimising")]
    pub ema: Option<f64>,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Optimising")]
    pub seed: u64,
    /// Share of the records that validate; the weights that do best on them are saved. 0 saves the last.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = below_one, help_heading = "Optimising")]
    pub validation: f64,
    /// Steps from one validation to the next [default: an epoch].
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Optimising")]
    pub validate_every: Option<usize>,
    /// Keep everything needed to go on in this file; where it exists, go on from it.
    #[arg(long, value_name = "FILE", value_parser = named, help_heading = "Running")]
    pub state: Option<PathBuf>,
    /// How often to save the state: a number of steps, or a time such as 90s or 10m.
    #[arg(long, value_name = "WHEN", default_value = "5m", value_parser = when, requires = "state", help_heading = "Running")]
    pub checkpoint: When,
    /// Write a row for every step to this CSV file.
    #[arg(long, value_name = "FILE", value_parser = named, help_heading = "Running")]
    pub log: Option<PathBuf>,
    /// Stop after this time, such as 30m or 8h, and write the weights as they are then.
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Running")]
    pub max_time: Option<Duration>,
    /// cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Running")]
    pub device: DeviceChoice,
    /// Make the products on a GPU in TF32: three to four digits, several times as fast.
    #[arg(long, help_heading = "Running")]
    pub tf32: bool,
    /// Threads of the processor.
    #[command(flatten)]
    pub threads: ThreadArgs,
}

/// When the state is saved.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// After so many steps.
    Steps(u64),
    /// After such a time.
    Time(Duration),
}

fn when(text: &str) -> std::result::Result<When, String> {
    match text.parse() {
        Ok(0) => Err("expected a number of steps, or a time such as 10m".to_owned()),
        Ok(steps) => Ok(When::Steps(steps)),
        Err(_) => time(text).map(When::Time),
    }
}

fn time(text: &str) -> std::result::Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a time such as 90s, 30m or 8h".to_owned())
}

fn below_one(text: &str) -> std::result::Result<f64, String> {
    non_negative(text).ok().filter(|x| *x < 1.0).ok_or_else(|| "expected a number from 0 to below 1".to_owned())
}

/// Where a path leads, as far as it exists.
fn place(path: &Path) -> PathBuf {
    let whole = path.canonicalize();
    whole.unwrap_or_else(|_| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).join(path.file_name().unwrap_or_default())
    })
}

impl TrainArgs {
    /// Opens training data that no output of this training replaces.
    ///
    /// # Errors
    /// Where two outputs are the same file, or one is also read; where a file is malformed.
    pub fn read<N: Noun>(&self, inputs: &[PathBuf]) -> Result<Dataset<N>> {
        self.spare(inputs)?;
        Dataset::open(inputs)
    }

    /// Refuses to replace a file that is read.
    ///
    /// # Errors
    /// Where two outputs are the same file, or one is also read.
    pub fn spare(&self, inputs: &[PathBuf]) -> Result<()> {
        let outputs = [Some(&self.output), self.state.as_ref(), self.log.as_ref()];
        let mut seen: Vec<(PathBuf, &Path)> = Vec::new();
        for path in outputs.into_iter().flatten().filter(|path| *path != Path::new("-")) {
            let here = place(path);
            if seen.iter().any(|(other, _)| *other == here) {
                return Err(Error::usage(format!("two outputs go to {}", path.display())));
            }
            seen.push((here, path));
        }
        let read = inputs.iter().chain(&self.init).map(|path| place(path));
        for input in read {
            if let Some((_, path)) = seen.iter().find(|(output, _)| *output == input) {
                return Err(Error::usage(format!("{} would be read and replaced", path.display())));
            }
        }
        Ok(())
    }

    /// The plan for these records.
    ///
    /// # Errors
    /// Where there is no record to train on.
    pub fn plan(&self, ids: &[String], defaults: Defaults) -> Result<Plan> {
        Ok(self.plan_for(&Split::new(ids, self.validation, self.seed)?, defaults))
    }

    /// The plan for records that are split already.
    pub fn plan_for(&self, split: &Split, defaults: Defaults) -> Plan {
        let batch = self.batch.unwrap_or(defaults.batch);
        let epoch = split.steps(batch.saturating_mul(self.accumulate));
        let epochs = self.epochs.map_or(defaults.epochs, |epochs| epochs as u64);
        let steps = self.steps.map_or(epochs.saturating_mul(epoch), |steps| steps as u64);
        let warm_up = self.warm_up.unwrap_or(defaults.warm_up.saturating_mul(epoch));
        Plan {
            batch,
            accumulate: self.accumulate,
            schedule: Schedule::cosine(self.lr.unwrap_or(defaults.rate), warm_up, steps),
            validation: self.validation,
            validate_every: self.validate_every.map(|steps| steps as u64),
            ema: Some(self.ema.unwrap_or(defaults.ema)).filter(|decay| *decay > 0.0),
            patience: None,
            seed: self.seed,
        }
    }
}

/// What came out of a training.
pub struct Trained {
    /// The weights.
    pub weights: Tensors,
    /// How far it went, for the weights' origin: `1200 steps, ...`.
    pub note: String,
}

/// What to do after every epoch, with the weights as they are.
pub type OnEpoch<'a> = Box<dyn FnMut(u64, &dyn Fn() -> Result<Tensors>) -> Result<()> + 'a>;

/// Trains until the end, a signal or `--max-time`.
///
/// # Errors
/// Where the training fails or is stopped by a signal; the state is saved before that.
pub fn train<'a, T: Task>(
    task: T,
    args: &'a TrainArgs,
    plan: Plan,
    settings: Settings,
    provenance: &Provenance,
    log: &'a Log,
    on_epoch: Option<OnEpoch<'a>>,
) -> Result<Trained> {
    drop(Output::begin(&args.output, true)?); // whether it can be written is known before the hours of training
    let origin = serde_json::to_string(provenance).map_err(Error::compute("writing JSON"))?;
    let mut training = Training::new(task, plan, settings, origin)?;
    if let Some(path) = args.state.as_deref().filter(|path| path.exists()) {
        let mut file = std::io::BufReader::new(std::fs::File::open(path).map_err(Error::io("opening", path))?);
        let state = State::read(&mut file).map_err(|error| error.in_file(path))?;
        training.resume(state).map_err(|error| error.in_file(path))?;
        log.info(&format!("going on after step {} of {}", training.progress().step, plan.schedule.steps));
    }
    let split = training.split();
    log.info(&format!("{} records train, {} validate", split.train.len(), split.validation.len()));
    super::stop_on_signals();
    let mut watcher = Watcher::begin(args, &training.columns(), training.progress().step, plan.schedule.steps, log)?;
    watcher.on_epoch = on_epoch;
    let end = training.run(&mut watcher)?;
    let saved = args.state.is_some();
    drop(watcher);
    let made = training.progress().step;
    if end == End::Stopped && super::is_stop_asked() {
        return Err(stopped(made, plan.schedule.steps, saved));
    }
    let mut note = format!("{made} steps");
    if training.is_settled() {
        note = format!("{made} steps of at most {}", plan.schedule.steps);
        log.info(&format!("validation has not become better: stopped after step {made}"));
    } else if made < plan.schedule.steps {
        note = format!("{made} of {} steps", plan.schedule.steps);
        log.warn(&format!("--max-time: stopped after step {made} of {}", plan.schedule.steps));
    }
    if let Some((score, step)) = &training.progress().best {
        note.push_str(&format!(", those of step {step} (validation {score})"));
    }
    Ok(Trained { weights: training.weights()?, note })
}

fn stopped(made: u64, steps: u64, saved: bool) -> Error {
    let hint = match saved {
        true => "the state is saved: the same command goes on from it",
        false => "give --state FILE, so that a stopped training can go on",
    };
    let cause = format!("stopped by a signal after step {made} of {steps}; no weights are written");
    Fault::new("training", cause).hint(hint).into()
}

/// Log, progress bar, state file, deadline.
struct Watcher<'a> {
    journal: Option<Journal>,
    bar: ProgressBar,
    state: Option<&'a Path>,
    checkpoint: When,
    saved: (u64, Instant),
    deadline: Option<Instant>,
    on_epoch: Option<OnEpoch<'a>>,
    log: &'a Log,
}

impl<'a> Watcher<'a> {
    fn begin(args: &'a TrainArgs, columns: &[String], step: u64, steps: u64, log: &'a Log) -> Result<Watcher<'a>> {
        let mut journal = None;
        if let Some(path) = &args.log {
            let (begun, missing) = Journal::begin(path, columns, step)?;
            if missing {
                log.warn(&format!("{}: steps before {} are not in this log", path.display(), step + 1));
            }
            journal = Some(begun);
        }
        let bar = log.steps(steps);
        bar.set_position(step);
        bar.reset_eta();
        let now = Instant::now();
        let deadline = args.max_time.and_then(|time| now.checked_add(time));
        let (state, checkpoint) = (args.state.as_deref(), args.checkpoint);
        Ok(Watcher { journal, bar, state, checkpoint, saved: (step, now), deadline, on_epoch: None, log })
    }
}

impl Watch for Watcher<'_> {
    fn on_step(&mut self, row: &Row) -> Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.put(row)?;
        }
        let loss = row.parts.first().copied().unwrap_or(f64::NAN);
        if let Some(score) = row.validation {
            self.log.info(&format!("step {}, epoch {}: loss {loss:.5}, validation {score:.5}", row.step, row.epoch));
        }
        self.bar.set_message(format!("loss {loss:.5}"));
        self.bar.inc(1);
        Ok(())
    }

    fn on_epoch(&mut self, epoch: u64, weights: &dyn Fn() -> Result<Tensors>) -> Result<()> {
        self.on_epoch.as_mut().map_or(Ok(()), |hook| hook(epoch, weights))
    }

    fn wants_state(&mut self, step: u64) -> bool {
        let due = match self.checkpoint {
            When::Steps(steps) => step - self.saved.0 >= steps,
            When::Time(time) => self.saved.1.elapsed() >= time,
        };
        if due {
            self.saved = (step, Instant::now());
        }
        due && self.state.is_some()
    }

    fn save(&mut self, write: &dyn Fn(&mut dyn Write) -> Result<()>) -> Result<()> {
        let Some(path) = self.state else { return Ok(()) };
        let output = Output::begin(path, true)?;
        let mut file = std::io::BufWriter::new(output.file()?);
        write(&mut file)?;
        file.get_ref().sync_all().map_err(Error::io("writing", path))?; // a power cut leaves the old state or the new
        drop(file);
        output.finish()?;
        self.saved.1 = Instant::now(); // saving takes none of the time between two checkpoints
        Ok(())
    }

    fn wants_stop(&mut self) -> bool {
        super::is_stop_asked() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
