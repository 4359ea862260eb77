//! The work of `ecg-prep` on a stream of recordings: read in order, prepare on all threads, give back in order.

use std::path::Path;
use std::sync::Arc;

use super::log::Log;
use crate::data::ecg::{Ecg, Verdict};
use crate::data::recording::Recording;
use crate::data::table::{Row, Value};
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};
use crate::io::input::Inputs;
use crate::io::ordered::Ordered;
use crate::io::origin::origin;
use crate::io::plot::{draw, Legend, PlotFormat};
use crate::io::sink::{About, Target};
use crate::io::table::TableWriter;
use crate::io::{open_ecg, ReadOptions, Sink, Source};
use crate::signal::prepare::{prepare_and_report, PrepareOptions};
use crate::signal::quality::{Measures, Report};

/// One recording on its way, or why it could not be read.
struct Item {
    file: Arc<str>,
    /// What the file says of its origin, with its first record.
    before: Option<Provenance>,
    /// Whether the file says that a program made it up.
    synthetic: bool,
    record: Result<Recording>,
}

/// One recording as it was prepared and judged.
pub struct Prepared {
    /// The file it came from, as the user knows it.
    pub file: Arc<str>,
    /// What the file says of its origin, with its first record.
    pub before: Option<Provenance>,
    /// What was found.
    pub report: Report,
    /// The prepared ECG, or why there is none.
    pub ecg: Result<Ecg>,
    /// Its picture, where one is wanted.
    pub picture: Option<Result<Vec<u8>>>,
}

/// How to draw.
#[derive(Debug, Clone)]
pub struct Drawing {
    /// What stands beside the ECG; an input that is synthetic says so itself.
    pub legend: Legend,
    /// The file format.
    pub format: PlotFormat,
}

/// Prepares every record of the inputs, in their order; says what the readers chose and what they passed over.
pub fn prepare_all<'a>(
    inputs: Inputs,
    reading: ReadOptions,
    options: PrepareOptions,
    drawing: Option<Drawing>,
    log: &'a Log,
) -> impl Iterator<Item = Result<Prepared>> + 'a {
    keep_freed_memory();
    let items = sources(inputs, log).flat_map(move |source| items(source, &reading, log));
    let size = |item: &Item| item.record.as_ref().map_or(0, |r| 8 * r.samples_mv.len());
    Ordered::new(items, size, move |item| prepare_one(item, &options, drawing.as_ref()))
}

/// Has the memory of a record stay for the next. The C library of Linux else gives it back to the system, and gets pages that must
/// be filled with zeros. It keeps pieces up to the largest that was freed, at most 32 MB, and up to twice as much free memory for
/// each thread. Other C libraries do as they always do.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity((32 << 20) - (64 << 10))));
    // not touched, so it takes no memory
}

/// The files, one after the other.
fn sources(mut inputs: Inputs, log: &Log) -> impl Iterator<Item = Result<Source>> + '_ {
    std::iter::from_fn(move || {
        let source = inputs.next();
        inputs.passed_over().for_each(|file| log.info(&format!("passed over, no ECG: {file}")));
        source
    })
}

/// The records of one input; one error where it cannot be opened.
fn items<'a>(source: Result<Source>, reading: &ReadOptions, log: &'a Log) -> Box<dyn Iterator<Item = Item> + 'a> {
    let shown = source.as_ref().map_or_else(file_of, |source| source.shown().to_owned());
    let file: Arc<str> = shown.into();
    match source.and_then(|source| Ok((origin(&source), open_ecg(source, reading)?))) {
        Ok((mut before, (format, records))) => {
            log.detail(&format!("{file}: {format}"));
            let synthetic = before.as_ref().is_some_and(|p| p.synthetic);
            Box::new(records.map(move |record: Result<Recording>| {
                let record = record.inspect(|r| r.notes.iter().for_each(|note| log.info(&format!("{}: {note}", r.id))));
                Item { file: Arc::clone(&file), before: before.take(), synthetic, record }
            }))
        }
        Err(error) => {
            let record = Err(as_input(error));
            Box::new(std::iter::once(Item { record, before: None, synthetic: false, file }))
        }
    }
}

/// The file that an error names.
fn file_of(error: &Error) -> String {
    match error {
        Error::Input(fault) => fault.file.clone().unwrap_or_default(),
        Error::Io { path, .. } => path.display().to_string(),
        _ => String::new(),
    }
}

/// A file that cannot be opened is a bad record: `--keep-going` leaves it out.
fn as_input(error: Error) -> Error {
    match error {
        Error::Io { doing, path, source } => Fault::new(doing, source.to_string()).file(path).into(),
        other => other,
    }
}

fn prepare_one(item: Item, options: &PrepareOptions, drawing: Option<&Drawing>) -> Prepared {
    let Item { file, before, synthetic, record } = item;
    let (report, ecg) = match record {
        Ok(record) => prepare_and_report(record, options),
        Err(error) => (Report::refused(&named(&error, &file), "unreadable", &error), Err(error)),
    };
    let ecg = ecg.map_err(|e| e.in_file(&*file));
    let picture = drawing.zip(ecg.as_ref().ok()).map(|(drawing, ecg)| {
        let mut legend = drawing.legend.clone();
        legend.synthetic |= synthetic;
        draw(ecg, &legend, drawing.format)
    });
    Prepared { file, before, report, ecg, picture }
}

/// The record that an error names, else the file.
fn named(error: &Error, file: &str) -> String {
    let record = if let Error::Input(fault) = error { fault.record.clone() } else { None };
    record.unwrap_or_else(|| file.to_owned())
}

impl Prepared {
    /// The prepared ECG, unless its quality is worse than wanted.
    ///
    /// # Errors
    /// Why there is none.
    pub fn at_least(ecg: Result<Ecg>, wanted: Option<Verdict>, file: &str) -> Result<Wanted> {
        let ecg = ecg?;
        let verdict = ecg.quality.verdict;
        match wanted {
            Some(wanted) if verdict < wanted => {
                let fault = Fault::new("judging ECG", ecg.quality.reasons.join("; ")).file(file).record(&ecg.id);
                Ok(Wanted::Worse(fault.field("quality").expected(format!("{wanted} or better"), verdict)))
            }
            _ => Ok(Wanted::Good(Box::new(ecg))),
        }
    }
}

/// A record to keep, or one to leave out for its quality.
pub enum Wanted {
    /// Good enough.
    Good(Box<Ecg>),
    /// Worse than wanted.
    Worse(Fault),
}

/// Pictures on their way: one file, or a folder.
pub struct Pictures {
    target: Target,
    ending: &'static str,
}

impl Pictures {
    /// Begins them; `.svg` is SVG, anything else PNG.
    ///
    /// # Errors
    /// Where the output cannot be begun.
    pub fn begin(path: &Path) -> Result<Pictures> {
        let ending = if Pictures::format(path) == PlotFormat::Svg { "svg" } else { "png" };
        Ok(Pictures { target: Target::begin(path, ending)?, ending })
    }

    /// The file format that a name asks for.
    pub fn format(path: &Path) -> PlotFormat {
        let is_svg = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("svg"));
        if is_svg {
            PlotFormat::Svg
        } else {
            PlotFormat::Png
        }
    }

    /// Writes the picture of a record.
    ///
    /// # Errors
    /// Where it could not be drawn or cannot be written.
    pub fn put(&mut self, id: &str, picture: Result<Vec<u8>>) -> Result<()> {
        let name = self.target.name(id)?;
        self.target.write(&name, self.ending, &picture?)
    }

    /// Puts them in their place.
    ///
    /// # Errors
    /// Where they cannot be put there.
    pub fn finish(self) -> Result<()> {
        self.target.finish()
    }
}

/// How pictures are drawn, of records that all have `about` in common.
pub fn drawing(path: &Path, about: &About, provenance: &Provenance) -> Drawing {
    let legend = Legend {
        preset: about.preset.clone(),
        steps: about.steps.clone(),
        unit: about.unit,
        synthetic: provenance.synthetic,
        tool: format!("{} {}", provenance.tool, provenance.tool_version),
    };
    Drawing { legend, format: Pictures::format(path) }
}

/// The table of what was found.
pub struct ReportWriter {
    table: TableWriter,
}

/// Its columns after `id`.
const COLUMNS: [&str; 16] = [
    "file",
    "verdict",
    "codes",
    "reasons",
    "heart_rate_per_min",
    "r_peaks",
    "rr_sd_ms",
    "ectopy_percent",
    "snr_db",
    "mains_uv",
    "wander_uv",
    "muscle_uv",
    "clipped_percent",
    "einthoven_mv",
    "qrs_ms",
    "qrs_mv",
];

impl ReportWriter {
    /// Begins the table.
    ///
    /// # Errors
    /// Where it cannot be begun.
    pub fn begin(path: &Path, provenance: &Provenance) -> Result<ReportWriter> {
        let columns = COLUMNS.map(str::to_owned);
        Ok(ReportWriter { table: TableWriter::begin(path, &columns, provenance, false)? })
    }

    /// Whether it goes to standard output.
    pub fn is_on_stdout(&self) -> bool {
        self.table.is_on_stdout()
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put(&mut self, file: &str, report: &Report) -> Result<()> {
        let mut cells = vec![
            Value::Text(file.to_owned()),
            Value::Text(report.verdict.name().to_owned()),
            Value::Text(report.codes().join(" ")),
            Value::Text(report.reasons.join("; ")),
        ];
        cells.extend(match &report.measures {
            None => vec![Value::Missing; COLUMNS.len() - 4],
            Some(m) => numbers(m).map(Value::Number).to_vec(),
        });
        self.table.put(&Row { id: report.id.clone(), cells })
    }

    /// Completes the table.
    ///
    /// # Errors
    /// Where it cannot be put in its place.
    pub fn finish(self) -> Result<()> {
        self.table.finish()
    }
}

/// In the order of the columns, to the digits that mean something.
fn numbers(m: &Measures) -> [f64; 12] {
    let round = |value: f64, digits: i32| (value * 10f64.powi(digits)).round() / 10f64.powi(digits);
    [
        round(m.heart_rate, 1),
        m.beats as f64,
        round(m.rr_sd_ms, 1),
        round(m.ectopy_percent, 1),
        round(m.snr_db, 1),
        round(m.mains_uv, 1),
        round(m.wander_uv, 1),
        round(m.muscle_uv, 1),
        round(m.clipped_percent, 2),
        round(m.einthoven_mv, 4),
        round(m.qrs_ms, 1),
        round(m.qrs_mv, 3),
    ]
}
