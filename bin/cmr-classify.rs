//! Cine -> Table: diagnosis probabilities; trains the network that does it.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ecgflow::checkpoint::Kind;
use ecgflow::cli::args::{ComputeArgs, LogArgs, RejectArgs, StreamArgs, TableArgs};
use ecgflow::cli::learn::LearnArgs;
use ecgflow::cli::predict::{predict, Asked, PredictArgs};
use ecgflow::cli::{log::Log, Program};
use ecgflow::data::target::Targets;
use ecgflow::train::learn::Balance;
use ecgflow::Result;

/// Predict the probabilities of diagnoses from cine clips.
///
/// Reads clips as amdf-sample writes them (format ecgflow.cine); writes CSV, one row for each record, id first. Several
/// clips of one record are averaged, and their standard deviation is given.
#[derive(Parser)]
#[command(version, name = "cmr-classify", after_help = EXAMPLES, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct CmrClassify {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    table: TableArgs,
    /// Also write the answers: 1 from the label's threshold on, or the likeliest class.
    #[arg(long)]
    decide: bool,
    #[command(flatten)]
    predict: PredictArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    rejects: RejectArgs,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "Examples:
  cmr-classify cine.h5 -o table.csv --weights w.safetensors
  amdf-sample features.h5 --samples 8 | cmr-classify --decide > table.csv
  cmr-classify train --cine cine.h5 --table diagnoses.csv -o w.safetensors";

#[derive(Subcommand)]
enum Task {
    Train(Box<Train>),
}

/// Train the network that tells diagnoses apart, on clips and a table of the same ids.
///
/// Columns of 0 and 1 are questions, independent of each other where there are several; one column of words holds classes.
/// Probabilities are calibrated and thresholds chosen on the validation records. Examples:
/// cmr-classify train --cine cine.h5 --table diagnoses.csv --labels hcm -o w.safetensors;
/// cmr-classify train --cine cine.h5 --table truth.csv --labels group --balance weights --folds 5 -o cv
#[derive(Args)]
struct Train {
    /// Columns to learn [default: all of the table].
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    labels: Vec<String>,
    /// How rare answers are made to count: none, weights (in the loss) or sampling (drawn more often).
    #[arg(long, value_name = "HOW", default_value = "none")]
    balance: Balance,
    #[command(flatten)]
    learn: LearnArgs,
}

impl Program for CmrClassify {
    const NAME: &'static str = "cmr-classify";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        if let Some(Task::Train(task)) = self.task {
            return task.learn.run(Self::NAME, |table| Targets::diagnoses(table, &task.labels), task.balance, log);
        }
        let (stream, table, compute) = (&self.stream, &self.table, &self.compute);
        let (predict_args, rejects, decide) = (&self.predict, &self.rejects, self.decide);
        let asked = Asked { stream, table, predict: predict_args, compute, rejects, decide };
        predict(Self::NAME, Kind::Diagnosis, &asked, log)
    }
}

fn main() -> ExitCode {
    ecgflow::cli::main_with::<CmrClassify>()
}
