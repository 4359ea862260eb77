//! ECG as a text table, separated by commas, semicolons or tabs.
//!
//! ```text
//! # comment lines are skipped
//! time,I,II,V1,...      one column a lead: a first column named time, t, sample or index (or unnamed) is no lead
//! 0.000,0.12,0.34,...
//!
//! I,0.12,0.13,0.15,...  one row a lead, its name first; a row before that counts the samples is skipped
//! II,0.30,0.31,...
//!
//! id,lead,time,value    one row a sample of one lead: see `tidy.rs`
//! ```
//!
//! Without a header row, or with one that only counts the columns (0, 1, 2, ...), `--leads` names them (names of
//! standard leads in a header win). Empty cells, `NaN` and `NA`
//! are NaN. Times in seconds give the rate, else `--rate`; see [`unstated`], which also
//! decides the unit, unless a comment line before the table states it (`# unit: mV`, as ours do). The table is read row by
//! row; memory grows with the file, never with what it claims.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use csv::{ReaderBuilder, StringRecord};
use ndarray::{Array2, ShapeBuilder};

use super::{unstated, ReadOptions, Recordings, Source, Unit};
use crate::data::ecg::Lead;
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

mod tidy;

const DOING: &str = "reading CSV";
/// Most columns; more is one long line of something else.
const COLUMNS: usize = 1 << 16;
/// Names of a first column that counts or dates the samples.
const INDEX_NAMES: [&str; 12] =
    ["", "time", "t", "sample", "index", "time_s", "time(s)", "time[s]", "time(sec)", "seconds", "sec", "sample_index"];
/// Comment lines before the table that are looked at, bytes.
const COMMENTS: u64 = 64 << 10;
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

/// Whether the second line is numbers only, times or counts in the first column aside: then the text is samples, not
/// prose with commas in it or a table about patients.
pub fn holds_samples(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let Some(separator) = delimiter(&text) else { return false };
    let mut lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    let cells: Vec<&str> = lines.nth(1).unwrap_or("").split(char::from(separator)).collect();
    let cut = usize::from(lines.next().is_none()); // the last cell may go on beyond the head
    let whole = cells.get(1..cells.len().saturating_sub(cut)).unwrap_or(&[]);
    !whole.is_empty() && whole.iter().all(|cell| number(cell.trim_matches('"')).is_some())
}

/// The separator of the first line that is no comment: the most frequent of tab, semicolon and comma.
fn delimiter(text: &str) -> Option<u8> {
    let line = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#'))?;
    let count = |byte: u8| line.bytes().filter(|&b| b == byte).count();
    [b',', b';', b'\t'].into_iter().max_by_key(|&byte| count(byte)).filter(|&byte| count(byte) > 0)
}

/// Reads its one record; a table in the long layout may hold several.
///
/// # Errors
/// Where a cell is no number, rows differ in length, names are missing, or rate or unit cannot be known.
pub fn open(source: Source, options: &ReadOptions) -> Result<Recordings> {
    let shown = source.shown().to_owned();
    let records = read(&source, options).map_err(|e| e.in_file(&shown))?;
    Ok(Box::new(records.map(move |record| record.map_err(|e| e.in_file(&shown)))))
}

fn read(source: &Source, options: &ReadOptions) -> Result<Recordings> {
    let head = source.head()?;
    let separator = delimiter(&String::from_utf8_lossy(&head)).unwrap_or(b',');
    let options = &ReadOptions { unit: stated_unit(source, options.unit)?, ..options.clone() };
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
    if let Some(columns) = tidy::Columns::find(&first) {
        return Ok(Box::new(tidy::Records::new(rows, columns, options, source.stem())?));
    }
    let mut rows = rows.map(|row| row.map_err(malformed)).filter(|row| !row.as_ref().is_ok_and(is_blank)).peekable();
    let second = rows.peek().and_then(|row| row.as_ref().ok());
    let record = match (is_lead(&first), second.is_some_and(is_lead) && counts_samples(&first)) {
        (true, _) => leads_by_row(std::iter::once(Ok(first)).chain(rows), source.stem(), options)?,
        (false, true) => leads_by_row(rows, source.stem(), options)?,
        (false, false) => {
            let mut table = Table::begin(&first, options)?;
            for row in rows {
                table.push(&row?)?;
            }
            table.finish(source.stem(), options)?
        }
    };
    Ok(Box::new(std::iter::once(Ok(record))))
}

/// The unit that a comment line before the table states, else the one given. What `ecg-prep` standardised is refused; words
/// that are no unit are somebody's remark.
fn stated_unit(source: &Source, given: Option<Unit>) -> Result<Option<Unit>> {
    let file = File::open(source.path()).map_err(Error::io("opening", source.shown()))?;
    let lines = BufReader::new(file.take(COMMENTS)).lines().map_while(std::result::Result::ok);
    let comments = lines.map_while(|line| line.trim_start_matches('\u{feff}').strip_prefix('#').map(str::to_owned));
    let mut units = comments.filter_map(|line| line.trim().strip_prefix("unit:").map(str::to_owned));
    let Some(line) = units.next() else { return Ok(given) };
    match line.split(';').next().unwrap_or_default().trim() {
        "sd" => Err(unstated::not_mv(Fault::new(DOING, ""), "sd").into()),
        unit => unstated::stated_unit(Some(unit).filter(|unit| Unit::parse(unit).is_some()), given),
    }
}

fn is_blank(row: &StringRecord) -> bool {
    row.len() == 1 && row.get(0).is_some_and(|cell| cell.trim().is_empty())
}

/// Whether a row is a lead's name and its samples.
fn is_lead(row: &StringRecord) -> bool {
    let name = row.get(0).map(|cell| cell.trim_start_matches('\u{feff}')).and_then(Lead::parse);
    name.is_some() && row.len() > 2 && row.iter().skip(1).all(|cell| number(cell).is_some())
}

/// Whether a row only counts the samples of the rows below: any first cell, then 0, 1, 2, ... or times.
fn counts_samples(row: &StringRecord) -> bool {
    let mut numbers = row.iter().skip(1).map(|cell| number(cell).unwrap_or(f64::NAN));
    let mut before = numbers.next().unwrap_or(f64::NAN);
    numbers.all(|number| number > std::mem::replace(&mut before, number))
}

/// A table with one row a lead.
fn leads_by_row(
    rows: impl Iterator<Item = Result<StringRecord>>,
    id: String,
    options: &ReadOptions,
) -> Result<Recording> {
    let (mut leads, mut values, mut width) = (Vec::new(), Vec::new(), None);
    for row in rows {
        let row = row?;
        let line = row.position().map_or(0, csv::Position::line);
        let fault = |column: usize| Fault::new(DOING, "").field(format!("line {line}, column {}", column + 1));
        let width = *width.get_or_insert(row.len());
        if row.len() != width {
            let fault = Fault::new(DOING, "").field(format!("line {line}"));
            return Err(fault.expected(format!("{width} cells"), row.len()).into());
        }
        leads.push(row.get(0).unwrap_or("").trim_start_matches('\u{feff}').trim().to_owned());
        for (column, cell) in row.iter().enumerate().skip(1) {
            let value = number(cell);
            values.push(value.ok_or_else(|| fault(column).expected("a finite number", format!("{cell:?}")))?);
        }
    }
    let samples = width.unwrap_or(1) - 1;
    let rate_hz = unstated::rate_hz(options, samples)?;
    let mut samples_mv =
        Array2::from_shape_vec((leads.len(), samples), values).map_err(Error::compute("shaping CSV"))?;
    unstated::to_mv(options, &mut samples_mv)?;
    Recording::new(id, leads, rate_hz, samples_mv)
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
            Some(leads) if leads.len() == named.len() => {
                unstated::stated_leads(Some(named), Some(leads))?.unwrap_or_default()
            }
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
        let derived = self.times.rate_hz().filter(|_| self.index.as_deref().is_some_and(is_seconds));
        let rate_hz = unstated::stated_rate_hz(derived, options.rate_hz)?;
        let rate_hz = unstated::rate_hz(&ReadOptions { rate_hz, ..options.clone() }, samples)?;
        let shape = (self.leads.len(), samples).f();
        let samples_mv = Array2::from_shape_vec(shape, self.values).map_err(Error::compute("shaping CSV"))?;
        let mut samples_mv = samples_mv.as_standard_layout().into_owned();
        unstated::to_mv(options, &mut samples_mv)?;
        Recording::new(id, self.leads, rate_hz, samples_mv)
    }
}

impl Times {
    /// Whether a time comes after the last one; unknown times do.
    fn follows(&self, time: f64) -> bool {
        self.count == 0 || time.is_nan() || self.last.is_nan() || time > self.last
    }

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
mod tests;
