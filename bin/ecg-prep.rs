//! Ecg -> Ecg: reads any ECG format, orders leads, resamples, filters, finds R peaks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ecgflow::cli::args::{non_negative, positive, LogArgs, ReadArgs, RejectArgs};
use ecgflow::cli::{self, log::Log, reject::Rejects, Program};
use ecgflow::io::hdf5::{origin, EcgWriter};
use ecgflow::io::input::Inputs;
use ecgflow::io::{open_ecg, Sink};
use ecgflow::signal::prepare::{prepare, PrepareOptions, RATE_HZ};
use ecgflow::signal::{preset::Preset, quality::reasons, rpeak::Detector, window::Window};
use ecgflow::{Error, Result};

/// Prepare 12-lead ECGs: any format in; 12 leads, mV, 500 Hz, 10 s out.
///
/// Reads CardioSoft (UK Biobank field 20205), MUSE, Sierra and aECG XML, DICOM, WFDB (name the .hea file), SCP-ECG, EDF, CSV,
/// TSV, NPY, NPZ and HDF5, told apart by content. Missing limb leads are derived; missing chest leads are refused. Writes HDF5
/// with R peaks, heart rate and quality.
#[derive(Parser)]
#[command(version, name = "ecg-prep", after_help = EXAMPLES)]
struct EcgPrep {
    /// Files, folders, archives (ZIP, TAR, gzip) or patterns to read; - or nothing is standard input.
    #[arg(value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Read what this file lists: a path a line, or a CSV table with the columns path and id; - is standard input.
    #[arg(long, value_name = "FILE", help_heading = "Reading")]
    from_list: Option<PathBuf>,
    /// File to write; - or nothing is standard output.
    #[arg(short, long, value_name = "OUTPUT", default_value = "-", hide_default_value = true)]
    output: PathBuf,
    /// How to clean: raw does nothing; clean removes baseline wander and noise (0.67 to 40 Hz).
    #[arg(long, value_name = "PRESET", default_value = "clean", value_parser = preset)]
    preset: Preset,
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
    #[command(flatten)]
    reading: ReadArgs,
    #[command(flatten)]
    rejects: RejectArgs,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "Examples:
  ecg-prep record.hea -o ecg.h5
  ecg-prep a.csv b.csv --rate 250 --units uV --keep-going --rejects bad.csv -o ecg.h5
  ecg-prep ecgs.zip 'ukb/*_20205_*.xml' -o ecg.h5
  find ukb -name '*_20205_2_0.xml' | ecg-prep --from-list - -o ecg.h5
  ecg-prep record.hea | pamae-encode --weights w.safetensors > features.h5";

fn preset(text: &str) -> std::result::Result<Preset, String> {
    Preset::parse(text).ok_or_else(|| format!("expected {}", Preset::ALL.map(Preset::name).join(" or ")))
}

fn detector(text: &str) -> std::result::Result<Detector, String> {
    Detector::parse(text).ok_or_else(|| "expected qrs or published".to_owned())
}

impl EcgPrep {
    fn options(&self) -> PrepareOptions {
        PrepareOptions {
            preset: self.preset,
            mains_hz: self.mains,
            window: self.window.map_or(Window::Centre, Window::Start),
            pad: self.pad,
            detector: self.rpeaks,
        }
    }
}

impl Program for EcgPrep {
    const NAME: &'static str = "ecg-prep";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        let options = self.options();
        let steps = options.steps()?;
        steps.iter().for_each(|step| log.info(step));
        let reading = self.reading.options();
        let provenance = cli::provenance(Self::NAME);
        let mut writer = EcgWriter::begin(&self.output, &provenance, RATE_HZ, self.preset.name(), &steps)?;
        let rejects = Rejects::begin(&self.rejects, log, &provenance)?;
        let mut inputs = Inputs::begin(&self.inputs, self.from_list.as_deref())?;
        let bar = log.progress(inputs.known());
        while let Some(source) = inputs.next() {
            bar.set_length(inputs.known() as u64);
            let opened = source.and_then(|s| Ok((s.shown().to_owned(), origin(&s), open_ecg(s, &reading)?)));
            let Some((input, before, (format, records))) = rejects.check(opened.map_err(as_input))? else { continue };
            log.detail(&format!("{input}: {format}"));
            before.iter().for_each(|before| writer.after(before));
            for record in records {
                let record = record.inspect(|r| r.notes.iter().for_each(|note| log.info(&format!("{}: {note}", r.id))));
                let ecg = record.and_then(|r| prepare(r, &options)).map_err(|e| e.in_file(&input));
                let Some(ecg) = rejects.check(ecg)? else { continue };
                reasons(&ecg).iter().for_each(|reason| log.info(&format!("{}: {reason}", ecg.id)));
                rejects.check(writer.put(&ecg).map_err(|e| e.in_file(&input)))?;
            }
            bar.inc(1);
        }
        inputs.passed_over().iter().for_each(|file| log.info(&format!("passed over, no ECG: {file}")));
        rejects.finish()?;
        writer.finish()
    }
}

/// A file that cannot be opened is a bad record: `--keep-going` leaves it out.
fn as_input(error: Error) -> Error {
    match error {
        Error::Io { doing, path, source } => ecgflow::Fault::new(doing, source.to_string()).file(path).into(),
        other => other,
    }
}

fn main() -> ExitCode {
    cli::main_with::<EcgPrep>()
}
