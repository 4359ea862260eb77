//! Options that two or more programs have; the same name means the same everywhere.

use std::path::PathBuf;

use clap::Args;

use crate::tensor::DeviceChoice;

/// How much a program says.
#[derive(Args, Debug, Clone, Default)]
pub struct LogArgs {
    /// Say nothing but errors.
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "General")]
    pub quiet: bool,
    /// Say more; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "General")]
    pub verbose: u8,
}

/// One input and one output.
#[derive(Args, Debug, Clone)]
pub struct StreamArgs {
    /// File to read; - or nothing is standard input.
    #[arg(value_name = "INPUT", default_value = "-", hide_default_value = true)]
    pub input: PathBuf,
    /// File to write; - or nothing is standard output.
    #[arg(short, long, value_name = "OUTPUT", default_value = "-", hide_default_value = true)]
    pub output: PathBuf,
}

/// What to do with records that cannot be used.
#[derive(Args, Debug, Clone)]
pub struct RejectArgs {
    /// Leave records out that cannot be used, instead of stopping at the first.
    #[arg(long, help_heading = "Bad records")]
    pub keep_going: bool,
    /// With --keep-going: list what was left out, and why, in this CSV file.
    #[arg(long, value_name = "FILE", requires = "keep_going", help_heading = "Bad records")]
    pub rejects: Option<PathBuf>,
}

/// Where and how wide the models run.
#[derive(Args, Debug, Clone)]
pub struct ComputeArgs {
    /// Weights file (safetensors made by ecgflow).
    #[arg(long, value_name = "FILE", help_heading = "Computing")]
    pub weights: PathBuf,
    /// cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Computing")]
    pub device: DeviceChoice,
    /// Threads of the processor [default: all].
    #[arg(long, value_name = "N", value_parser = threads, help_heading = "Computing")]
    pub threads: Option<usize>,
    /// Records handed to the GPU at a time; on the processor they are read ahead and computed one by one.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = batch, help_heading = "Computing")]
    pub batch: usize,
}

/// How wide a program without a model runs.
#[derive(Args, Debug, Clone)]
pub struct ThreadArgs {
    /// Threads of the processor [default: all].
    #[arg(long, value_name = "N", value_parser = threads, help_heading = "Computing")]
    pub threads: Option<usize>,
}

/// Origin lines of tables.
#[derive(Args, Debug, Clone)]
pub struct TableArgs {
    /// Leave out the # lines that tell the table's origin.
    #[arg(long)]
    pub no_comments: bool,
}

fn bounded(text: &str, most: usize) -> Result<usize, String> {
    let expected = || format!("expected a whole number from 1 to {most}");
    text.parse().ok().filter(|n| (1..=most).contains(n)).ok_or_else(expected)
}

fn threads(text: &str) -> Result<usize, String> {
    bounded(text, 4096)
}

fn batch(text: &str) -> Result<usize, String> {
    bounded(text, 4096)
}

/// A whole number from 1 to 1,000,000.
///
/// # Errors
/// A sentence for clap.
pub fn count(text: &str) -> Result<usize, String> {
    bounded(text, 1_000_000)
}

/// A finite number above zero.
///
/// # Errors
/// A sentence for clap.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| "expected a number above zero".to_owned())
}

/// A finite number, zero or more.
///
/// # Errors
/// A sentence for clap.
pub fn non_negative(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x: &f64| x.is_finite() && *x >= 0.0);
    number.ok_or_else(|| "expected a number, zero or more".to_owned())
}
