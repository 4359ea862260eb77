//! Ecg -> Features: runs PA-MAE.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ecgflow::checkpoint::{sizes::Sizes, Kind};
use ecgflow::cli::args::{count, non_negative, ComputeArgs, LogArgs, RejectArgs, StreamArgs};
use ecgflow::cli::train::{train, TrainArgs};
use ecgflow::cli::{self, dataset::Dataset, log::Log, reject::Rejects, session::Session, Program};
use ecgflow::infer::encode::{Encode, EncoderChoice};
use ecgflow::io::hdf5::{EcgReader, FeaturesWriter};
use ecgflow::io::Sink;
use ecgflow::model::pamae::{Config, CycleChoice};
use ecgflow::train::pamae::{defaults, recipe, Pamae};
use ecgflow::train::Task as _;
use ecgflow::{bundled, Ecg, Result};

/// Turn prepared ECGs into the features of one heartbeat.
///
/// Reads what ecg-prep writes; writes T frames x D features, the cardiac phase and the cycle of every record.
#[derive(Parser)]
#[command(version, name = "pamae-encode", after_help = EXAMPLES, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct PamaeEncode {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    stream: StreamArgs,
    /// Which cardiac cycle: published, median, all, whole (the record as if it were one), or a beat's number from 0.
    #[arg(long, value_name = "CYCLE", default_value = "published", value_parser = cycle)]
    cycle: CycleChoice,
    /// Frames that the cycle is resampled to [default: as the weights say].
    #[arg(long, value_name = "T", value_parser = count)]
    frames: Option<usize>,
    /// Which encoder of the weights to use: pamae is PA-MAE's own, flow the one trained along with the flow, auto the
    /// flow's where there is one.
    #[arg(long, value_name = "ENCODER", default_value = "auto")]
    encoder: EncoderChoice,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    rejects: RejectArgs,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "Examples:
  pamae-encode ecg.h5 -o features.h5 --weights w.safetensors
  ecg-prep r.hea | pamae-encode | amdf-sample > cine.h5";

#[derive(Subcommand)]
enum Task {
    Train(Box<Train>),
}

/// Train PA-MAE on prepared ECGs.
///
/// Half of the features are dropped and the ECG is restored from the rest; the phase of the cardiac cycle is learnt from the
/// R peaks. With --state, a training that was stopped goes on where it was and ends with the same weights.
/// Example: pamae-encode train ecg.h5 -o pamae.safetensors --state pamae.state --log pamae.csv
#[derive(Args)]
struct Train {
    /// Files that ecg-prep wrote.
    #[arg(required = true, value_name = "ECG")]
    ecg: Vec<PathBuf>,
    /// Sizes, weights of the losses and schedule: published, paper, compact or tiny.
    #[arg(long, value_name = "PRESET", default_value = "compact")]
    preset: Sizes,
    /// Weight of the phase in the loss [default: as the preset says].
    #[arg(long, value_name = "W", value_parser = non_negative)]
    phase_weight: Option<f64>,
    /// Weights file whose other models go into OUTPUT too.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    train: TrainArgs,
}

impl Train {
    fn run(self, log: &Log) -> Result<()> {
        let (args, configs) = (self.train, self.preset.configs(&[Kind::Pamae], &[]));
        let mut session = Session::begin(PamaeEncode::NAME, Kind::Pamae, &configs, self.weights.as_deref(), &args)?;
        let mut config = session.start.configs.pamae.take().unwrap_or_else(Config::compact);
        config.phase_weight = self.phase_weight.unwrap_or(config.phase_weight);
        session.start.configs.pamae = Some(config.clone());
        session.depends_on("config", session.start.configs.clone())?;
        let data: Dataset<Ecg> = args.read(&self.ecg)?;
        session.provenance = data.after(session.provenance);
        let on = data.about("ECGs");
        let task = Pamae::new(data, config, session.variables()?, recipe())?;
        let plan = args.plan(task.ids(), defaults(self.preset))?;
        let trained = train(task, &args, plan, session.settings.clone(), &session.provenance, log, None)?;
        session.finish(trained, &on, &args.output)
    }
}

fn cycle(text: &str) -> std::result::Result<CycleChoice, String> {
    match text {
        "published" => Ok(CycleChoice::Published),
        "median" => Ok(CycleChoice::Median),
        "all" => Ok(CycleChoice::All),
        "whole" => Ok(CycleChoice::Whole),
        _ => text
            .parse()
            .map(CycleChoice::Index)
            .map_err(|_| "expected published, median, all, whole or a number".into()),
    }
}

impl Program for PamaeEncode {
    const NAME: &'static str = "pamae-encode";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        if let Some(Task::Train(task)) = self.task {
            return task.run(log);
        }
        cli::use_threads(self.compute.threads.threads)?;
        let device = self.compute.device.open()?;
        let weights = self.compute.open_weights(Kind::Pamae, bundled::weights, log)?;
        let encode = Encode::open(&weights, self.encoder, self.cycle, self.frames, &device)?;
        log.weights(&weights, encode.kind());
        let source = self.stream.open()?;
        let shown = source.shown().to_owned();
        let reader = EcgReader::open(source)?;
        let provenance = cli::provenance_after(Self::NAME, &reader.provenance(), &weights);
        let mut writer = FeaturesWriter::begin(&self.stream.output, &provenance)?;
        let rejects = Rejects::begin(&self.rejects, log, &provenance)?;
        let bar = log.progress(reader.records());
        let accepted = reader.map(|ecg| ecg.and_then(|e| encode.accept(e)).map_err(|e| e.in_file(&shown)));
        for batch in cli::batches(accepted, self.compute.batch, &rejects) {
            let batch = batch?;
            for found in encode.run(&batch)? {
                let found = rejects.check(found.map_err(|e| e.in_file(&shown)))?;
                found.iter().flatten().try_for_each(|features| writer.put(features))?;
            }
            bar.inc(batch.len() as u64);
        }
        rejects.finish()?;
        writer.finish()
    }
}

fn main() -> ExitCode {
    cli::main_with::<PamaeEncode>()
}
