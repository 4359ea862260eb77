//! Options of ECG programs: how to clean, what to make of quality, where to write.

use std::path::PathBuf;

use clap::Args;

use super::args::{non_negative, positive};
use crate::data::ecg::Verdict;
use crate::error::Result;
use crate::io::sink::{About, Format};
use crate::signal::prepare::PrepareOptions;
use crate::signal::preset::Preset;
use crate::signal::rpeak::Detector;
use crate::signal::step::{Group, Step};
use crate::signal::window::Window;

/// How to clean.
#[derive(Args, Debug, Clone)]
pub struct CleanArgs {
    /// How to clean: raw does nothing; clean removes baseline wander and noise (0.67 to 40 Hz); zscore, cardionets and
    /// mmcl are what models of those names expect.
    #[arg(long, value_name = "PRESET", default_value = "clean", value_parser = preset)]
    preset: Preset,
    /// Steps of your own instead of a preset, as highpass:0.67,lowpass:40,notch:50.
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["preset", "mains"], value_parser = steps)]
    steps: Option<Steps>,
    /// Remove the mains at this frequency too, Hz (50 or 60).
    #[arg(long, value_name = "HZ", allow_negative_numbers = true, value_parser = positive)]
    mains: Option<f64>,
    /// Where the ten seconds begin, s [default: so that they are the centre].
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = non_negative)]
    window: Option<f64>,
    /// Fill recordings shorter than ten seconds with zeros instead of refusing them.
    #[arg(long)]
    pad: bool,
    /// How R peaks are found in lead II: qrs, or published (the rule of the published code).
    #[arg(long, value_name = "RULE", default_value = "qrs", value_parser = detector)]
    rpeaks: Detector,
}

/// A list of steps; clap takes a plain `Vec` for an option that may be given several times.
#[derive(Debug, Clone)]
struct Steps(Vec<Step>);

fn preset(text: &str) -> std::result::Result<Preset, String> {
    Preset::parse(text).ok_or_else(|| format!("expected {}", either(&Preset::ALL.map(Preset::name))))
}

fn steps(text: &str) -> std::result::Result<Steps, String> {
    Step::parse_list(text).map(Steps)
}

fn detector(text: &str) -> std::result::Result<Detector, String> {
    Detector::parse(text).ok_or_else(|| "expected qrs or published".to_owned())
}

fn verdict(text: &str) -> std::result::Result<Verdict, String> {
    Verdict::parse(text).filter(|v| *v > Verdict::Bad).ok_or_else(|| "expected usable or good".to_owned())
}

fn format(text: &str) -> std::result::Result<Format, String> {
    Format::parse(text).ok_or_else(|| format!("expected {}", either(&Format::ALL.map(Format::name))))
}

/// `a, b or c`.
fn either(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        words => words.join(""),
    }
}

impl CleanArgs {
    /// As the library wants them.
    pub fn options(&self) -> PrepareOptions {
        PrepareOptions {
            preset: self.preset,
            steps: self.steps.clone().map(|steps| steps.0),
            mains_hz: self.mains,
            window: self.window.map_or(Window::Centre, Window::Start),
            pad: self.pad,
            detector: self.rpeaks,
        }
    }
}

/// What every record of the output has in common.
///
/// # Errors
/// Where the options ask for what cannot be done.
pub fn about(options: &PrepareOptions) -> Result<About> {
    let steps = options.describe()?;
    let standardised =
        options.recipe()?.iter().any(|s| matches!(s, Step::ZScore(Group::Lead | Group::Record | Group::Kind)));
    let unit = if standardised { "sd" } else { "mV" };
    Ok(About { rate_hz: options.rate_hz()?, preset: options.name().to_owned(), steps, unit })
}

/// What to make of quality.
#[derive(Args, Debug, Clone)]
pub struct QualityArgs {
    /// Write what was found in every record, one row each, to this CSV file.
    #[arg(long, value_name = "FILE", help_heading = "Quality")]
    pub report: Option<PathBuf>,
    /// Leave out records that are worse: usable or good.
    #[arg(long, value_name = "VERDICT", value_parser = verdict, help_heading = "Quality")]
    pub min_quality: Option<Verdict>,
    /// Only look: say what is wrong with every record, and write no ECG; with --report - the table alone.
    #[arg(long, conflicts_with_all = ["output", "plot", "format", "min_quality", "keep_going", "rejects"],
        help_heading = "Quality")]
    pub check: bool,
}

/// Where to write.
#[derive(Args, Debug, Clone)]
pub struct EcgOutputArgs {
    /// File or folder to write; - or nothing is standard output.
    #[arg(short, long, value_name = "OUTPUT", default_value = "-", hide_default_value = true)]
    pub output: PathBuf,
    /// Format of the output: hdf5, wfdb, csv or npy [default: what the output's name says, else hdf5].
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub format: Option<Format>,
    /// Draw every ECG on squared paper: one FILE.png or FILE.svg, or a folder of PNG files.
    #[arg(long, value_name = "FILE|DIR")]
    pub plot: Option<PathBuf>,
}

impl EcgOutputArgs {
    /// The format asked for.
    pub fn format(&self) -> Format {
        self.format.unwrap_or_else(|| Format::of(&self.output))
    }
}
