//! Ecg -> Features: runs PA-MAE.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use ecgflow::checkpoint::Weights;
use ecgflow::cli::args::{count, ComputeArgs, LogArgs, RejectArgs, StreamArgs};
use ecgflow::cli::{self, log::Log, reject::Rejects, Program};
use ecgflow::infer::encode::{Encode, EncoderChoice};
use ecgflow::io::hdf5::{EcgReader, FeaturesWriter};
use ecgflow::io::{Sink, Source};
use ecgflow::model::pamae::CycleChoice;
use ecgflow::Result;

/// Turn prepared ECGs into the features of one heartbeat.
///
/// Reads what ecg-prep writes; writes T frames x D features, the cardiac phase and the cycle of every record.
#[derive(Parser)]
#[command(version, name = "pamae-encode", after_help = EXAMPLES)]
struct PamaeEncode {
    #[command(flatten)]
    stream: StreamArgs,
    /// Which cardiac cycle: published, median, all, or the number of a beat from 0.
    #[arg(long, value_name = "CYCLE", default_value = "published", value_parser = cycle)]
    cycle: CycleChoice,
    /// Frames that the cycle is resampled to [default: as the weights say].
    #[arg(long, value_name = "T", value_parser = count)]
    frames: Option<usize>,
    /// Which encoder of the weights to use.
    #[arg(long, value_enum, default_value_t = Which::Auto)]
    encoder: Which,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    rejects: RejectArgs,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "Examples:
  pamae-encode ecg.h5 -o features.h5 --weights w.safetensors
  ecg-prep r.hea | pamae-encode --weights w.safetensors | amdf-sample --weights w.safetensors > cine.h5";

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// The one trained along with the flow where there is one, else PA-MAE's.
    Auto,
    /// PA-MAE's own.
    Pamae,
    /// The one trained along with the flow.
    Flow,
}

fn cycle(text: &str) -> std::result::Result<CycleChoice, String> {
    match text {
        "published" => Ok(CycleChoice::Published),
        "median" => Ok(CycleChoice::Median),
        "all" => Ok(CycleChoice::All),
        _ => text.parse().map(CycleChoice::Index).map_err(|_| "expected published, median, all or a number".to_owned()),
    }
}

impl Program for PamaeEncode {
    const NAME: &'static str = "pamae-encode";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        cli::use_threads(self.compute.threads.threads)?;
        let device = self.compute.device.open()?;
        let weights = Weights::open(&self.compute.weights)?;
        let choice = match self.encoder {
            Which::Auto => EncoderChoice::Auto,
            Which::Pamae => EncoderChoice::Pamae,
            Which::Flow => EncoderChoice::Flow,
        };
        let encode = Encode::open(&weights, choice, self.cycle, self.frames, &device)?;
        log.weights(&weights, encode.kind());
        let source = Source::open(&self.stream.input)?;
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
