//! Pairs -> Table: scores of generated clips and of predictions.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ecgflow::cli::args::LogArgs;
use ecgflow::cli::evaluate::clips::{clips, ClipsArgs};
use ecgflow::cli::evaluate::tables::{tables, TablesArgs};
use ecgflow::cli::{self, log::Log, Program};
use ecgflow::Result;

/// Score generated clips against real ones, and predictions against the truth.
///
/// Writes CSV, one row for each score, with 95 % bootstrap intervals over participants; JSON and a page with charts where
/// they are wanted.
#[derive(Parser)]
#[command(version, name = "cmr-eval", after_help = EXAMPLES)]
struct CmrEval {
    #[command(subcommand)]
    task: Task,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand)]
enum Task {
    Clips(Box<ClipsArgs>),
    Tables(Box<TablesArgs>),
}

const EXAMPLES: &str = "Examples:
  cmr-eval clips --real real.h5 --generated made.h5 --train train.h5 --report page.html -o scores.csv
  cmr-phenotype made.h5 | cmr-eval tables --truth phenotypes.csv --predicted - > scores.csv";

impl Program for CmrEval {
    const NAME: &'static str = "cmr-eval";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        match self.task {
            Task::Clips(args) => clips(&args, log),
            Task::Tables(args) => tables(&args, log),
        }
    }
}

fn main() -> ExitCode {
    cli::main_with::<CmrEval>()
}
