//! Cine -> Table: diagnosis probabilities.

use std::process::ExitCode;

use clap::Parser;
use ecgflow::checkpoint::Kind;
use ecgflow::cli::args::{ComputeArgs, LogArgs, RejectArgs, StreamArgs, TableArgs};
use ecgflow::cli::{self, log::Log, predict::predict, Program};
use ecgflow::Result;

/// Predict the probabilities of diagnoses from cine clips.
///
/// Reads clips as amdf-sample writes them (format ecgflow.cine); writes CSV, one row for each clip, id first.
#[derive(Parser)]
#[command(version, name = "cmr-classify", after_help = EXAMPLES)]
struct CmrClassify {
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    rejects: RejectArgs,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "Examples:
  cmr-classify cine.h5 -o table.csv --weights w.safetensors
  amdf-sample features.h5 --weights w.safetensors | cmr-classify --weights w.safetensors > table.csv";

impl Program for CmrClassify {
    const NAME: &'static str = "cmr-classify";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        predict(Self::NAME, Kind::Diagnosis, &self.stream, &self.table, &self.compute, &self.rejects, log)
    }
}

fn main() -> ExitCode {
    cli::main_with::<CmrClassify>()
}
