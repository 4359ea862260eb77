//! Features -> Cine: integrates the flow and decodes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ecgflow::checkpoint::{Kind, Weights};
use ecgflow::cli::args::{count, non_negative, ComputeArgs, LogArgs, PrecisionArgs, RejectArgs, StreamArgs};
use ecgflow::cli::clips::{decode, ClipArgs};
use ecgflow::cli::{self, generator::GeneratorArgs, log::Log, reject::Rejects, Program};
use ecgflow::infer::generate::{draws, Decode, Flow};
use ecgflow::io::hdf5::{format, FeaturesReader, Reader};
use ecgflow::io::Source;
use ecgflow::model::amdf::{Sampling, TimeGrid};
use ecgflow::{bundled, Error, Result};

/// Generate cine cardiac MR clips from the features of one heartbeat.
///
/// Reads what pamae-encode writes, or latents to decode; writes clips of values from 0 to 1, marked synthetic. The same
/// record, seed and draw give the same clip whatever the batch, the shard or the number of threads.
#[derive(Parser)]
#[command(version, name = "amdf-sample", after_help = EXAMPLES, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct AmdfSample {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    stream: StreamArgs,
    /// Clips for each record; more than one are named ID.draw0, ID.draw1, ...
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = count)]
    samples: usize,
    /// Seed of the noise.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Euler steps [default: as the weights say].
    #[arg(long, value_name = "N", value_parser = count)]
    steps: Option<usize>,
    /// Guidance: 1 follows the ECG as trained, more exaggerates it [default: as the weights say].
    #[arg(long, value_name = "G", allow_negative_numbers = true, value_parser = non_negative)]
    guidance: Option<f64>,
    /// Standard deviation of the noise around the anatomy template [default: as the weights say].
    #[arg(long, value_name = "A", allow_negative_numbers = true, value_parser = non_negative)]
    alpha: Option<f64>,
    /// Where in each step the velocity is taken, middle or start [default: as the weights say].
    #[arg(long)]
    grid: Option<TimeGrid>,
    #[command(flatten)]
    clips: ClipArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    rejects: RejectArgs,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "Examples:
  amdf-sample features.h5 -o cine.h5 --weights w.safetensors --samples 4 --gif clips/
  amdf-sample latents.h5 -o cine.h5 --weights w.safetensors";

impl AmdfSample {
    fn sampling(&self, sampling: &mut Sampling) {
        sampling.steps = self.steps.unwrap_or(sampling.steps);
        sampling.guidance = self.guidance.unwrap_or(sampling.guidance);
        sampling.alpha = self.alpha.unwrap_or(sampling.alpha);
        sampling.grid = self.grid.unwrap_or(sampling.grid);
    }

    /// Features -> latents -> clips.
    fn sample(self, source: Source, weights: &Weights, log: &Log) -> Result<()> {
        let (device, precision) = (self.compute.device.open()?, self.precision.on(self.compute.device, log)?);
        let shown = source.shown().to_owned();
        let reader = FeaturesReader::open(source)?;
        let flow = Flow::open(weights, |s| self.sampling(s), self.seed, precision, &device)?;
        flow.check(reader.size()).map_err(|e| e.in_file(&shown))?;
        let decode = if self.clips.latent_only { None } else { Some(Decode::open(weights, precision, &device)?) };
        log.weights(weights, Kind::Flow);
        log.info(&format!("sampling: {:?}, seed {}", flow.sampling(), self.seed));
        let provenance = cli::provenance_after(Self::NAME, &reader.provenance(), weights);
        let mut provenance = cli::computed_in(provenance, precision);
        (provenance.seed, provenance.synthetic) = (Some(self.seed), true);
        let count = reader.records().saturating_mul(self.samples);
        let mut outputs = self.clips.begin(&self.stream.output, &provenance, count)?;
        let rejects = Rejects::begin(&self.rejects, log, &provenance)?;
        let bar = log.progress(count);
        for batch in cli::batches(reader, self.compute.batch, &rejects) {
            let batch = batch?;
            for part in draws(&batch, self.samples, self.compute.batch) {
                let latents = flow.run(&part)?;
                let clips = decode.as_ref().map(|d| d.run(&latents)).transpose()?;
                outputs.put(&latents, clips.as_deref())?;
                bar.inc(part.len() as u64);
            }
        }
        rejects.finish()?;
        outputs.finish()
    }

    /// Latents -> clips.
    fn decode(self, source: Source, weights: &Weights, log: &Log) -> Result<()> {
        let sampler = self.steps.is_some() || self.guidance.is_some() || self.alpha.is_some() || self.grid.is_some();
        if self.clips.latent_only || sampler || self.samples > 1 {
            let options = "--latent-only, --samples, --steps, --guidance, --alpha and --grid";
            return Err(Error::usage(format!(
                "the input holds latents already: they are decoded, so {options} do nothing"
            )));
        }
        let precision = self.precision.on(self.compute.device, log)?;
        decode(Self::NAME, source, weights, precision, (&self.stream, &self.clips, &self.compute, &self.rejects), log)
    }
}

#[derive(Subcommand)]
enum Task {
    Train(Box<GeneratorArgs>),
}

impl Program for AmdfSample {
    const NAME: &'static str = "amdf-sample";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        if let Some(Task::Train(task)) = self.task {
            return task.run(Self::NAME, log);
        }
        cli::use_threads(self.compute.threads.threads)?;
        let weights = self.compute.open_weights(Kind::Flow, bundled::weights, log)?;
        let source = self.stream.open()?;
        match Reader::format_of(&source).as_deref() {
            Some(format::LATENT) => self.decode(source, &weights, log),
            _ => self.sample(source, &weights, log),
        }
    }
}

fn main() -> ExitCode {
    cli::main_with::<AmdfSample>()
}
