//! ECG as a text table: one column per lead, one row per sample, separated by commas, semicolons or tabs.
//!
//! ```text
//! # comment lines are skipped
//! time,I,II,V1,...      a first column named time, t, sample or index (or unnamed) is no lead
//! 0.000,0.12,0.34,...
//! ```
//!
//! Without a header row, or with one that only counts the columns (0, 1, 2, ...), `--leads` names them (where both are
//! there, `--leads` wins). Empty cells, `NaN` and `NA`
//! are NaN. Times in seconds give the rate where `--rate` does not; else see [`unstated`], which also
//! decides the unit. The table is read row by row; memory grows with the file, never with what it claims.

use std::fs::File;

use csv::{ReaderBuilder, StringRecord};
use ndarray::{Array2, ShapeBuilder};

use super::{unstated, ReadOptions, Recordings, Source};
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

const DOING: &str = "reading CSV";
/// Most columns; more is one long line of something else.
const COLUMNS: usize = 1 << 16;
/// Names of a first column that counts or dates the samples.
const INDEX_NAMES: [&str; 12] =
    ["", "time", "t", "sample", "index", "time_s", "time(s)", "time[s]", "time(sec)", "seconds", "sec", "sample_index"];
/// Cells that mean "not known".
const MISSING: [&str; 4] = ["", "nan", "na", "null"];

/// Whether a file is a text table.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(head.get(..e.valid_up_to()).unwrap_or(b"")).unwrap_or("")
        }
        Err(_) => return false,
    };
    !head.contains(&0) && delimiter(text).is_some()
}

/// The separator of the first line that is no comment: the most frequent of tab, semicolon and comma.
fn delimiter(text: &str) -> Option<u8> {
    let line = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#'))?;
    let count = |byte: u8| line.bytes().filter(|&b| b == byte).count();
    [b',', b';', b'\t'].into_iter().max_by_key(|&byte| count(byte)).filter(|&byte| count(byte) > 0)
}

/// Reads its one record.
///
/// # Errors
/// Where a cell is no number, rows differ in length, names are missing, or rate or unit cannot be known.
pub fn open(source: Source, options: &ReadOptions) -> Result<Recordings> {
    let record = read(&source, options).map_err(|e| e.in_file(source.shown()));
    Ok(Box::new(std::iter::once(Ok(record?))))
}

fn read(source: &Source, options: &ReadOptions) -> Result<Recording> {
    let head = source.head()?;
    let separator = delimiter(&String::from_utf8_lossy(&head)).unwrap_or(b',');
    let file = File::open(source.path()).map_err(Error::io("opening", source.shown()))?;
    let mut reader = ReaderBuilder::new();
    reader.delimiter(separator).has_headers(false).flexible(true).comment(Some(b'#'));
    let mut rows = reader.from_reader(file).into_records();
    let first = match rows.next() {
        Some(row) => row.map_err(malformed)?,
        None => return Err(Fault::new(DOING, "the table is empty").into()),
    };
    if first.len() > COLUMNS {
        let fault = Fault::new(DOING, "the first line is too long").field("line 1");
        return Err(fault.expected(format!("at most {COLUMNS} columns"), first.len()).into());
    }
    let mut table = Table::begin(&first, options)?;
    for row in rows {
        let row = row.map_err(malformed)?;
        if row.len() == 1 && row.get(0).is_some_and(|cell| cell.trim().is_empty()) {
            continue; // a line of blanks
        }
        table.push(&row)?;
    }
    table.finish(source.stem(), options)
}

fn malformed(error: csv::Error) -> Error {
    let line = error.position().map_or("unknown line".to_owned(), |p| format!("line {}", p.line()));
    let fault = Fault::new(DOING, "malformed text").field(line);
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => fault.expected("UTF-8 text", "other bytes").into(),
        _ => fault.expected("separated cells", error.to_string()).into(),
    }
}

/// The table while it is read.
struct Table {
    leads: Vec<String>,
    /// Name of the index column, where there is one.
    index: Option<String>,
    times: Times,
    /// Sample after sample, each all leads.
    values: Vec<f64>,
}

/// First, second and last cell of the index column, and whether its steps are equal.
#[derive(Default)]
struct Times {
    first: f64,
    step: f64,
    last: f64,
    count: usize,
    uneven: bool,
}

impl Table {
    /// Takes the first row for the header, or for samples where `--leads` names the columns and all cells are numbers.
    fn begin(first: &StringRecord, options: &ReadOptions) -> Result<Table> {
        let plain = |cell: &str| cell.trim().trim_start_matches('\u{feff}').trim().to_owned();
        let cells: Vec<String> = first.iter().map(plain).collect();
        let counted = counts_columns(&cells);
        let header = counted || !cells.iter().all(|cell| number(cell).is_some());
        let index = cells.first().filter(|name| header && INDEX_NAMES.contains(&squeeze(name).as_str())).cloned();
        let named: Vec<String> = cells.iter().skip(usize::from(index.is_some())).cloned().collect();
        let leads = match &options.leads {
            Some(leads) if leads.len() == named.len() => leads.clone(),
            Some(leads) => {
                let fault = Fault::new(DOING, "--leads does not fit the table");
                return Err(fault.expected(format!("{} columns", leads.len()), named.len()).into());
            }
            None if header && !counted => named,
            None => {
                let fault = Fault::new(DOING, "the table does not name its leads").field("line 1");
                let fault = fault.expected("lead names", cells.join(" ").chars().take(60).collect::<String>());
                return Err(fault.hint("name the columns with --leads I,II,V1,...").into());
            }
        };
        let mut table = Table { leads, index, times: Times::default(), values: Vec::new() };
        if !header {
            table.push(first)?;
        }
        Ok(table)
    }

    fn push(&mut self, row: &StringRecord) -> Result<()> {
        let line = row.position().map_or(0, csv::Position::line);
        let skip = usize::from(self.index.is_some());
        let width = self.leads.len() + skip;
        if row.len() != width {
            let fault = Fault::new(DOING, "").field(format!("line {line}"));
            return Err(fault.expected(format!("{width} cells"), row.len()).into());
        }
        if skip == 1 {
            self.times.push(row.get(0).and_then(number).unwrap_or(f64::NAN));
        }
        for (column, cell) in row.iter().enumerate().skip(skip) {
            let Some(value) = number(cell) else {
                let name = self.leads.get(column - skip).map_or("", String::as_str);
                let fault = Fault::new(DOING, "").field(format!("line {line}, column {} ({name})", column + 1));
                let fault = fault.expected("a finite number", format!("{cell:?}"));
                let comma = cell.contains(',');
                return Err(if comma { fault.hint("write decimals with a point") } else { fault }.into());
            };
            self.values.push(value);
        }
        Ok(())
    }

    fn finish(self, id: String, options: &ReadOptions) -> Result<Recording> {
        let samples = self.values.len() / self.leads.len().max(1);
        if samples == 0 {
            return Err(Fault::new(DOING, "the table has no samples").into());
        }
        let derived = self.times.rate_hz().filter(|_| options.rate_hz.is_none());
        let rate_hz = match derived.filter(|_| self.index.as_deref().is_some_and(is_seconds)) {
            Some(rate_hz) => rate_hz,
            None => unstated::rate_hz(options, samples)?,
        };
        let shape = (self.leads.len(), samples).f();
        let samples_mv = Array2::from_shape_vec(shape, self.values).map_err(Error::compute("shaping CSV"))?;
        let mut samples_mv = samples_mv.as_standard_layout().into_owned();
        unstated::to_mv(options, &mut samples_mv)?;
        Recording::new(id, self.leads, rate_hz, samples_mv)
    }
}

impl Times {
    fn push(&mut self, time: f64) {
        match self.count {
            0 => self.first = time,
            1 => self.step = time - self.first,
            // Rounded times: half a step either way still counts the samples.
            _ => {
                let off = (time - self.last - self.step).abs();
                self.uneven |= off.is_nan() || off > 0.5 * self.step.abs();
            }
        }
        self.last = time;
        self.count += 1;
    }

    /// Samples a second where the times are seconds that rise evenly at a rate an ECG can have; a whole number
    /// where within a thousandth of one.
    fn rate_hz(&self) -> Option<f64> {
        let rate = self.count.saturating_sub(1) as f64 / (self.last - self.first);
        let rate = if (rate - rate.round()).abs() < 1e-3 * rate { rate.round() } else { rate };
        (!self.uneven && (50.0..=20_000.0).contains(&rate)).then_some(rate)
    }
}

/// Whether a row says 0, 1, 2, ... after at most one empty cell: what pandas writes for columns without names.
fn counts_columns(cells: &[String]) -> bool {
    let skip = usize::from(cells.first().is_some_and(String::is_empty));
    let mut named = cells.iter().skip(skip).enumerate();
    cells.len() > skip + 1 && named.all(|(i, cell)| *cell == i.to_string())
}

/// Lower case without blanks and dots.
fn squeeze(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace() && *c != '.').flat_map(char::to_lowercase).collect()
}

/// Whether an index column of this name may hold seconds.
fn is_seconds(name: &str) -> bool {
    !["", "sample", "index", "sample_index"].contains(&squeeze(name).as_str())
}

/// A finite number, NaN for a missing one, or nothing.
fn number(cell: &str) -> Option<f64> {
    let cell = cell.trim();
    if cell.len() <= 4 && MISSING.contains(&cell.to_ascii_lowercase().as_str()) {
        return Some(f64::NAN);
    }
    cell.parse::<f64>().ok().filter(|v| v.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{open_ecg, Unit};

    fn read_with(text: &str, options: &ReadOptions) -> Result<Recording> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p7.csv");
        std::fs::write(&path, text).unwrap();
        let (name, mut records) = open_ecg(Source::open(&path)?, options)?;
        assert_eq!(name, "CSV");
        records.next().unwrap()
    }

    fn read(text: &str) -> Result<Recording> {
        read_with(text, &ReadOptions { rate_hz: Some(500.0), ..ReadOptions::default() })
    }

    #[test]
    fn reads_columns_as_leads_whatever_the_separator() {
        for text in
            ["I,II\n0.5,-1\n,1e-1\n", "# c\nI;II\n0.5; -1\nNaN;0.1\n\n", "\u{feff}I\tII\r\n0.5\t-1\r\nNA\t0.1\r\n"]
        {
            let record = read(text).unwrap();
            assert_eq!((record.id.as_str(), record.rate_hz), ("p7", 500.0));
            assert_eq!(record.leads, ["I", "II"], "{text:?}");
            assert_eq!(record.samples_mv.row(1).to_vec(), [-1.0, 0.1]);
            assert!(record.samples_mv[[0, 1]].is_nan());
        }
    }

    #[test]
    fn times_in_seconds_give_the_rate_and_milliseconds_do_not() {
        let silent = ReadOptions::default();
        let record = read_with("Time (s),II\n0,1\n0.004,2\n0.008,3\n", &silent).unwrap();
        assert_eq!((record.rate_hz, record.leads.len()), (250.0, 1));
        for text in ["time,II\n0,1\n2,2\n4,3\n", "sample,II\n0,1\n0.004,2\n", "t,II\n0,1\n0.004,2\n0.1,3\n"] {
            let error = read_with(text, &silent).unwrap_err();
            assert!(error.to_string().contains("does not state its sampling rate"), "{error}");
        }
    }

    #[test]
    fn names_from_the_command_line_serve_tables_without_header() {
        let leads = Some(vec!["I".to_owned(), "II".to_owned()]);
        let options =
            ReadOptions { rate_hz: Some(500.0), unit: Some(Unit::Microvolt), leads, ..ReadOptions::default() };
        let record = read_with("1000,2000\n3000,4000\n", &options).unwrap();
        assert_eq!(record.samples_mv.row(1).to_vec(), [2.0, 4.0]);
        assert_eq!(read_with("a,b\n1,2\n", &options).unwrap().leads, ["I", "II"]);
        assert_eq!(read_with("1000\t2000\n3000\t4000\n", &options).unwrap().samples_mv.ncols(), 2);
        assert_eq!(read_with(",0,1\n0,3000,4000\n", &options).unwrap().samples_mv.column(0).to_vec(), [3.0, 4.0]);
        assert!(read_with("0,1\n3000,4000\n", &ReadOptions { leads: None, ..options.clone() }).is_err());
        assert!(read_with("a,b,c\n1,2,3\n", &options).is_err());
        let error = read("0.1,0.2\n0.1,0.2\n").unwrap_err();
        assert!(error.hint().is_some_and(|h| h.contains("--leads")), "{error}");
    }

    #[test]
    fn text_where_a_number_belongs_is_named_by_line_and_column() {
        let error = read("# c\nI,II\n1,2\n1,high\n").unwrap_err().to_string();
        assert!(error.contains("line 4, column 2 (II): expected a finite number, found \"high\""), "{error}");
        let error = read("I;II\n0,5;1\n").unwrap_err();
        assert_eq!(error.hint(), Some("write decimals with a point"));
        assert!(read("I,II\n1,inf\n").is_err());
    }

    #[test]
    fn refuses_ragged_and_empty_tables() {
        let error = read("I,II\n1,2\n1\n").unwrap_err().to_string();
        assert!(error.contains("line 3: expected 2 cells, found 1"), "{error}");
        assert!(read("I,II\n").unwrap_err().to_string().contains("no samples"));
        assert!(read("").unwrap_err().to_string().contains("empty"));
        assert!(read(&"1,".repeat(70_000)).unwrap_err().to_string().contains("at most 65536 columns, found 70001"));
        assert!(
            read_with("I,II\n100,1\n-900,1\n", &ReadOptions { rate_hz: Some(500.0), ..Default::default() }).is_err()
        );
    }
}
