//! Cine -> Table: phenotypes in real units; trains the network that does it.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ecgflow::checkpoint::Kind;
use ecgflow::cli::args::{ComputeArgs, Fields, LogArgs, RejectArgs, StreamArgs, TableArgs};
use ecgflow::cli::learn::LearnArgs;
use ecgflow::cli::predict::{predict, Asked, PredictArgs};
use ecgflow::cli::{log::Log, Program};
use ecgflow::data::target::Targets;
use ecgflow::train::learn::Balance;
use ecgflow::Result;

/// Predict cardiac phenotypes of cine clips, in their units.
///
/// Reads clips as amdf-sample writes them (format ecgflow.cine); writes CSV, one row for each record, id first. Several
/// clips of one record are averaged, and their standard deviation is given.
#[derive(Parser)]
#[command(version, name = "cmr-phenotype", after_help = EXAMPLES, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct CmrPhenotype {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    table: TableArgs,
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
  cmr-phenotype cine.h5 -o table.csv --weights w.safetensors
  amdf-sample features.h5 --samples 8 | cmr-phenotype --long > table.csv
  cmr-phenotype train --cine cine.h5 --table phenotypes.csv -o w.safetensors";

#[derive(Subcommand)]
enum Task {
    Train(Box<Train>),
}

/// Train the network that predicts phenotypes, on clips and a table of the same ids.
///
/// The table is wide (columns such as lv_edv_ml or 24100-2.0) or long (id, field or name, value); empty cells are missing
/// values. With --folds it is trained, validated and tested by participant, and figures are written. Examples:
/// cmr-phenotype train --cine cine.h5 --table phenotypes.csv --init mae.safetensors -o w.safetensors;
/// cmr-phenotype train --cine cine.h5 --table phenotypes.csv --folds 5 --baselines ridge,mean-clip --features f.h5 -o cv
#[derive(Args)]
struct Train {
    /// Phenotypes to learn: names, field numbers, or groups such as left_ventricle [default: all that the table holds].
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    fields: Vec<Fields>,
    #[command(flatten)]
    learn: LearnArgs,
}

impl Program for CmrPhenotype {
    const NAME: &'static str = "cmr-phenotype";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        if let Some(Task::Train(task)) = self.task {
            let fields = Fields::all(&task.fields);
            return task.learn.run(
                Self::NAME,
                |table| Targets::phenotypes(table, fields.as_deref()),
                Balance::None,
                log,
            );
        }
        let (stream, table, compute) = (&self.stream, &self.table, &self.compute);
        let asked = Asked { stream, table, predict: &self.predict, compute, rejects: &self.rejects, decide: false };
        predict(Self::NAME, Kind::Phenotype, &asked, log)
    }
}

fn main() -> ExitCode {
    ecgflow::cli::main_with::<CmrPhenotype>()
}
