//! Options that two or more programs have; the same name means the same everywhere.

use std::path::PathBuf;

use clap::Args;

use super::log::Log;
use crate::checkpoint::{Kind, Weights};
use crate::data::phenotype::{fields_of, Group};
use crate::error::{Error, Result as Done};
use crate::io::array::AxisOrder;
use crate::io::output::protect;
use crate::io::{ReadOptions, Source, Unit};
use crate::kernel::gemm::Precision;
use crate::kernel::Isa;
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

impl StreamArgs {
    /// Opens the input, which no output may replace from now on.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(&self) -> Done<Source> {
        protect([self.input.as_path()]);
        Source::open(&self.input)
    }
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

/// What ECG files leave open.
#[derive(Args, Debug, Clone, Default)]
pub struct ReadArgs {
    /// Samples a second, for files that do not say it.
    #[arg(long, value_name = "HZ", allow_negative_numbers = true, value_parser = positive, help_heading = "Reading")]
    pub rate: Option<f64>,
    /// Unit of the samples, for files that do not say it: uV, mV or V.
    #[arg(long, value_name = "UNIT", value_parser = unit, help_heading = "Reading")]
    pub units: Option<Unit>,
    /// Lead names in file order, for files that do not say them, as I,II,V1,...
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Reading")]
    pub leads: Option<Vec<String>>,
    /// Array to read, for HDF5 and NPZ files that hold several.
    #[arg(long, value_name = "NAME", help_heading = "Reading")]
    pub dataset: Option<String>,
    /// Order of an array's axes: nlt (record, lead, time) or ntl (record, time, lead) [default: by their lengths].
    #[arg(long, value_name = "LAYOUT", value_parser = axis_order, help_heading = "Reading")]
    pub layout: Option<AxisOrder>,
}

impl ReadArgs {
    /// The same for the readers.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            rate_hz: self.rate,
            unit: self.units,
            leads: self.leads.clone(),
            dataset: self.dataset.clone(),
            layout: self.layout,
        }
    }
}

fn unit(text: &str) -> Result<Unit, String> {
    Unit::parse(text).ok_or_else(|| "expected uV, mV or V".to_owned())
}

fn axis_order(text: &str) -> Result<AxisOrder, String> {
    AxisOrder::parse(text).ok_or_else(|| "expected nlt or ntl".to_owned())
}

/// How wide a program runs.
#[derive(Args, Debug, Clone)]
pub struct ThreadArgs {
    /// Threads of the processor [default: all].
    #[arg(long, value_name = "N", value_parser = threads, help_heading = "Computing")]
    pub threads: Option<usize>,
}

/// Where and how wide the models run.
#[derive(Args, Debug, Clone)]
pub struct ComputeArgs {
    /// Weights file (safetensors made by ecgflow) [default: the bundled weights, where they hold the model].
    #[arg(long, value_name = "FILE", help_heading = "Computing")]
    pub weights: Option<PathBuf>,
    /// cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Computing")]
    pub device: DeviceChoice,
    /// Threads of the processor.
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Records handed to the GPU at a time; on the processor they are read ahead and computed one by one.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = batch, help_heading = "Computing")]
    pub batch: usize,
}

impl ComputeArgs {
    /// Opens the weights that were named, else those of `bundled`, and says so. Who asks names them, so that a program does
    /// not carry the others.
    ///
    /// # Errors
    /// Where they cannot be opened, or none were named and the bundled ones lack the model of `kind`.
    pub fn open_weights(&self, kind: Kind, bundled: fn() -> Done<Weights>, log: &Log) -> Done<Weights> {
        if let Some(path) = &self.weights {
            return Weights::open(path);
        }
        let weights = bundled()?;
        if !weights.has(kind) {
            let held = weights.configs().kinds().into_iter().map(Kind::name).collect::<Vec<_>>().join(", ");
            let cause = format!("--weights FILE is missing: the bundled weights hold {held}, but not {kind}");
            return Err(Error::usage(cause).or_hint("give weights that hold this model"));
        }
        weights.notice().iter().for_each(|notice| log.note(notice));
        Ok(weights)
    }
}

/// How exactly products are computed.
#[derive(Args, Debug, Clone)]
pub struct PrecisionArgs {
    /// Products of the processor: f32, or bf16, about twice as fast where the processor has it.
    #[arg(long, value_name = "P", default_value = "f32", help_heading = "Computing")]
    pub precision: Precision,
}

impl PrecisionArgs {
    /// The precision to compute in: f32, with a warning, where the processor has no bf16.
    ///
    /// # Errors
    /// Where bf16 is asked of a GPU.
    pub fn on(&self, device: DeviceChoice, log: &Log) -> Done<Precision> {
        if self.precision == Precision::Bf16 && device != DeviceChoice::Cpu {
            return Err(Error::usage("--precision bf16 is for the processor: a GPU computes in f32"));
        }
        if self.precision == Precision::Bf16 && !Isa::best().has_bf16() {
            log.warn("this processor has no products of bf16 (AVX512-BF16): computing in f32");
            return Ok(Precision::F32);
        }
        Ok(self.precision)
    }
}

/// Origin lines of tables.
#[derive(Args, Debug, Clone)]
pub struct TableArgs {
    /// Leave out the # lines that tell the table's origin.
    #[arg(long)]
    pub no_comments: bool,
}

/// Fields of phenotypes that one word names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Vec<u32>);

impl std::str::FromStr for Fields {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            let groups = Group::ALL.map(Group::name).join(", ");
            format!("expected a field such as 24100, a name such as lv_edv_ml, all, or a group: {groups}")
        };
        fields_of(text).map(Fields).ok_or_else(expected)
    }
}

impl Fields {
    /// The fields of all words, each once, in their order; none where there is no word.
    pub fn all(words: &[Fields]) -> Option<Vec<u32>> {
        let mut fields: Vec<u32> = Vec::new();
        for field in words.iter().flat_map(|word| &word.0) {
            if !fields.contains(field) {
                fields.push(*field);
            }
        }
        (!fields.is_empty()).then_some(fields)
    }
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

/// The name of a model.
///
/// # Errors
/// A sentence for clap.
pub fn model(text: &str) -> Result<Kind, String> {
    let known = || Kind::ALL.map(Kind::name).join(", ");
    Kind::from_name(text).ok_or_else(|| format!("expected one of {}", known()))
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

/// A file or folder that is written by name: standard output cannot be one.
///
/// # Errors
/// Where it is `-`.
pub fn named(text: &str) -> Result<PathBuf, String> {
    if text == "-" {
        return Err("expected the name of a file, found - (standard output)".to_owned());
    }
    Ok(PathBuf::from(text))
}
