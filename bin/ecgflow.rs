//! Housekeeping: weights from elsewhere, fresh weights, digital hearts, pictures, what a file holds.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ecgflow::checkpoint::sizes::Sizes;
use ecgflow::checkpoint::{fill, Kind, Models};
use ecgflow::cli::args::{model, LogArgs};
use ecgflow::cli::import::{import, ImportArgs};
use ecgflow::cli::render::{render, RenderArgs};
use ecgflow::cli::simulate::{simulate, SimulateArgs};
use ecgflow::cli::trial::{trial, TrialArgs};
use ecgflow::cli::{self, log::Log, Program};
use ecgflow::inspect::{inspect, lines, weights};
use ecgflow::io::{output::Output, Source};
use ecgflow::{bundled, Result};

/// Keep house: import published checkpoints, make fresh weights, draw digital hearts and clips, try generators, look into files.
#[derive(Parser)]
#[command(version, name = "ecgflow")]
struct Ecgflow {
    #[command(subcommand)]
    task: Task,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand)]
enum Task {
    Import(ImportArgs),
    Init(Init),
    Inspect(Inspect),
    Render(RenderArgs),
    Simulate(SimulateArgs),
    Trial(TrialArgs),
}

/// Make fresh, untrained weights: to try the tools, or to start training from.
///
/// Example: ecgflow init tiny --only phenotype,diagnosis --seed 1 -o vit.safetensors
#[derive(Args)]
struct Init {
    /// Sizes: published, paper, compact or tiny.
    sizes: Sizes,
    /// Weights file to write.
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,
    /// Seed of the values.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Only these models: pamae, vae, flow, phenotype, diagnosis, lpips_vgg, lpips_alex, inception, i3d [default: the
    /// first five].
    #[arg(long, value_name = "MODELS", value_delimiter = ',', value_parser = model)]
    only: Vec<Kind>,
    /// Diagnoses the classifier tells apart; one label is a yes-or-no question.
    #[arg(long, value_name = "LABELS", value_delimiter = ',', default_value = "healthy,HCM,DCM,RCM")]
    labels: Vec<String>,
}

/// Say what a file holds: HDF5, weights, PyTorch checkpoints, ECG formats, DICOM.
#[derive(Args)]
struct Inspect {
    /// File; - is standard input.
    #[arg(required_unless_present = "bundled")]
    file: Option<PathBuf>,
    /// The weights inside the programs.
    #[arg(long, conflicts_with = "file")]
    bundled: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Program for Ecgflow {
    const NAME: &'static str = "ecgflow";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        match self.task {
            Task::Import(task) => import(task, log),
            Task::Init(task) => {
                let kinds = if task.only.is_empty() { Kind::PIPELINE.to_vec() } else { task.only };
                let mut models = Models { configs: task.sizes.configs(&kinds, &task.labels), ..Models::default() };
                kinds.iter().try_for_each(|kind| fill::init(&mut models, *kind, task.seed))?;
                let mut provenance = cli::provenance(Self::NAME);
                provenance.seed = Some(task.seed);
                let output = Output::begin(&task.output, true)?;
                models.save(output.path(), &provenance)?;
                output.finish()
            }
            Task::Render(task) => render(&task),
            Task::Simulate(task) => simulate(&task, log),
            Task::Trial(task) => trial(&task, log),
            Task::Inspect(task) => {
                let said = match &task.file {
                    Some(file) => vec![inspect(&Source::open(file)?)?],
                    None => vec![weights(&bundled::weights()?)?, weights(&bundled::downstream()?)?],
                };
                let text: String = match (task.json, said.as_slice()) {
                    (true, [one]) => format!("{one:#}\n"),
                    (true, all) => format!("{:#}\n", serde_json::json!(all)),
                    (false, all) => all.iter().map(lines).collect(),
                };
                Output::holding("-".as_ref(), false, text)?.finish()
            }
        }
    }
}

fn main() -> ExitCode {
    cli::main_with::<Ecgflow>()
}
