//! Ecg -> Ecg: reads any ECG format, orders leads, resamples, filters, finds R peaks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ecgflow::cli::args::{LogArgs, ReadArgs, RejectArgs, ThreadArgs};
use ecgflow::cli::ecg::{about, CleanArgs, EcgOutputArgs, QualityArgs};
use ecgflow::cli::prepare::{drawing, prepare_all, Pictures, Prepared, ReportWriter, Wanted};
use ecgflow::cli::{self, check::check, log::Log, reject::Rejects, Program};
use ecgflow::io::input::Inputs;
use ecgflow::io::output::protect;
use ecgflow::io::sink::EcgSink;
use ecgflow::io::Sink;
use ecgflow::Result;

/// Prepare 12-lead ECGs: any format in; 12 leads, mV, 500 Hz, 10 s out.
///
/// Reads CardioSoft (UK Biobank field 20205), MUSE, Sierra and aECG XML, DICOM, WFDB (name the .hea file), SCP-ECG, EDF, CSV,
/// TSV, NPY, NPZ and HDF5, told apart by content. Missing limb leads are derived; missing chest leads are refused. Writes HDF5
/// with R peaks, heart rate and quality; or WFDB, CSV, NPY; and pictures.
#[derive(Parser)]
#[command(version, name = "ecg-prep", after_help = EXAMPLES)]
struct EcgPrep {
    /// Files, folders, archives (ZIP, TAR, gzip) or patterns to read; - or nothing is standard input.
    #[arg(value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Read what this file lists: a path a line, or a CSV table with the columns path and id; - is standard input.
    #[arg(long, value_name = "FILE", help_heading = "Reading")]
    from_list: Option<PathBuf>,
    #[command(flatten)]
    output: EcgOutputArgs,
    #[command(flatten)]
    clean: CleanArgs,
    #[command(flatten)]
    reading: ReadArgs,
    #[command(flatten)]
    quality: QualityArgs,
    #[command(flatten)]
    rejects: RejectArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "Examples:
  ecg-prep record.hea -o ecg.h5
  ecg-prep a.csv b.csv --rate 250 --units uV --keep-going --rejects bad.csv -o ecg.h5
  ecg-prep ecgs.zip 'ukb/*_20205_*.xml' -o ecg.h5
  find ukb -name '*_20205_2_0.xml' | ecg-prep --from-list - -o ecg.h5
  ecg-prep record.hea --check
  ecg-prep *.hea --min-quality usable --report quality.csv --plot pictures -o ecg.h5
  ecg-prep record.hea | pamae-encode --weights w.safetensors > features.h5";

impl Program for EcgPrep {
    const NAME: &'static str = "ecg-prep";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        let options = self.clean.options();
        let about = about(&options)?;
        about.steps.iter().for_each(|step| log.info(step));
        cli::use_threads(self.threads.threads)?;
        let provenance = cli::provenance(Self::NAME);
        let inputs = Inputs::begin(&self.inputs, self.from_list.as_deref())?;
        protect(inputs.paths().chain(self.from_list.as_deref()));
        let report = self.quality.report.as_deref();
        let mut report = report.map(|path| ReportWriter::begin(path, &provenance)).transpose()?;
        let drawing = self.output.plot.as_deref().map(|path| drawing(path, &about, &provenance));
        let records = prepare_all(inputs, self.reading.options(), options, drawing, log);
        if self.quality.check {
            return check(records, report, log);
        }
        let mut sink = EcgSink::begin(&self.output.output, self.output.format(), &about, &provenance)?;
        let mut pictures = self.output.plot.as_deref().map(Pictures::begin).transpose()?;
        let rejects = Rejects::begin(&self.rejects, log, &provenance)?;
        let bar = log.records();
        for prepared in records {
            let Prepared { file, before, report: found, ecg, picture } = prepared?;
            bar.inc(1);
            before.iter().for_each(|before| sink.after(before));
            report.as_mut().map_or(Ok(()), |report| report.put(&file, &found))?;
            let wanted = Prepared::at_least(ecg, self.quality.min_quality, &file);
            let ecg = match rejects.check(wanted)? {
                Some(Wanted::Good(ecg)) => ecg,
                Some(Wanted::Worse(fault)) => {
                    rejects.leave_out(&fault)?;
                    continue;
                }
                None => continue,
            };
            found.reasons.iter().for_each(|reason| log.info(&format!("{}: {reason}", ecg.id)));
            if rejects.check(sink.put(&ecg).map_err(|e| e.in_file(&*file)))?.is_none() {
                continue;
            }
            if let Some((pictures, picture)) = pictures.as_mut().zip(picture) {
                pictures.put(&ecg.id, picture)?;
            }
        }
        bar.finish_and_clear();
        report.map_or(Ok(()), ReportWriter::finish)?;
        rejects.finish()?;
        pictures.map_or(Ok(()), Pictures::finish)?;
        sink.finish()
    }
}

fn main() -> ExitCode {
    cli::main_with::<EcgPrep>()
}
