//! Cine -> Table: phenotypes in real units.

use std::process::ExitCode;

use clap::Parser;
use ecgflow::checkpoint::Kind;
use ecgflow::cli::args::{ComputeArgs, LogArgs, RejectArgs, StreamArgs, TableArgs};
use ecgflow::cli::{self, log::Log, predict::predict, Program};
use ecgflow::Result;

/// Predict the 82 cardiac phenotypes of cine clips, in their units.
///
/// Reads clips as amdf-sample writes them (format ecgflow.cine); writes CSV, one row for each clip, id first.
#[derive(Parser)]
#[command(version, name = "cmr-phenotype", after_help = EXAMPLES)]
struct CmrPhenotype {
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
  cmr-phenotype cine.h5 -o table.csv --weights w.safetensors
  amdf-sample features.h5 --weights w.safetensors | cmr-phenotype --weights w.safetensors > table.csv";

impl Program for CmrPhenotype {
    const NAME: &'static str = "cmr-phenotype";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        predict(Self::NAME, Kind::Phenotype, &self.stream, &self.table, &self.compute, &self.rejects, log)
    }
}

fn main() -> ExitCode {
    cli::main_with::<CmrPhenotype>()
}
