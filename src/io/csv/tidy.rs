//! The long layout of a table: one row a sample of one lead.
//!
//! ```text
//! id,lead,time,value
//! p1,I,0.000,0.12
//! p1,I,0.002,0.13       leads one after the other, or all leads of an instant together
//! p1,II,0.000,0.30
//! p2,I,0.000,...        the rows of a record stand together
//! ```
//!
//! The columns are found by name, whatever their order; `id` and `time` may be missing. Rows of a lead are in order of
//! time. A value column called `mV` or `uV`, alone or at its end (`value_uV`), states the unit.

use std::fs::File;

use csv::{StringRecord, StringRecordsIntoIter};
use ndarray::Array2;

use super::{is_seconds, malformed, number, squeeze, Times, DOING, INDEX_NAMES};
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};
use crate::io::{unstated, ReadOptions, Unit};

const LEAD_NAMES: [&str; 4] = ["lead", "channel", "leadname", "signal"];
const VALUE_NAMES: [&str; 7] = ["value", "voltage", "amplitude", "ecg", "mv", "uv", "signalvalue"];
const ID_NAMES: [&str; 6] = ["id", "record", "recordid", "recordname", "ecgid", "examid"];
/// Most leads of a record.
const LEADS: usize = 1000;

/// Where the columns stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Columns {
    lead: usize,
    value: usize,
    id: Option<usize>,
    time: Option<(usize, String)>,
    unit: Option<Unit>,
    width: usize,
}

impl Columns {
    /// The columns of a header in the long layout; none where it is of another layout.
    pub(super) fn find(header: &StringRecord) -> Option<Columns> {
        let names: Vec<String> = header.iter().map(plain).collect();
        let place = |known: &[&str]| names.iter().position(|name| known.contains(&name.as_str()));
        let lead = place(&LEAD_NAMES)?;
        let united = |name: &str| VALUE_NAMES.iter().any(|v| *name == format!("{v}mv") || *name == format!("{v}uv"));
        let value = place(&VALUE_NAMES).or_else(|| names.iter().position(|name| united(name)))?;
        let mut dates = header.iter().map(squeeze).enumerate().filter(|(at, _)| ![lead, value].contains(at));
        let time = dates.find(|(_, name)| INDEX_NAMES.contains(&name.as_str()));
        let unit = match names.get(value)?.as_str() {
            name if name.ends_with("mv") => Some(Unit::Millivolt),
            name if name.ends_with("uv") => Some(Unit::Microvolt),
            _ => None,
        };
        Some(Columns { lead, value, id: place(&ID_NAMES), time, unit, width: names.len() })
    }
}

/// Lower case without blanks, underscores, hyphens and brackets.
fn plain(cell: &str) -> String {
    squeeze(cell).chars().filter(|c| !matches!(c, '_' | '-' | '(' | ')' | '[' | ']' | '\u{feff}')).collect()
}

/// The records of a table, one at a time.
pub(super) struct Records {
    rows: StringRecordsIntoIter<File>,
    columns: Columns,
    options: ReadOptions,
    stem: String,
    /// The first row of the next record.
    ahead: Option<StringRecord>,
    over: bool,
}

/// A lead while it is read.
#[derive(Default)]
struct Lead {
    name: String,
    times: Times,
    values: Vec<f64>,
}

impl Records {
    pub(super) fn new(
        rows: StringRecordsIntoIter<File>,
        columns: Columns,
        options: &ReadOptions,
        stem: String,
    ) -> Result<Records> {
        let unit = unstated::stated_unit(columns.unit.map(Unit::name), options.unit)?;
        let options = ReadOptions { unit, ..options.clone() };
        Ok(Records { rows, columns, options, stem, ahead: None, over: false })
    }

    /// The next row that is not blank.
    fn row(&mut self) -> Result<Option<StringRecord>> {
        if let Some(row) = self.ahead.take() {
            return Ok(Some(row));
        }
        for row in self.rows.by_ref() {
            let row = row.map_err(malformed)?;
            if row.len() == 1 && row.get(0).is_some_and(|cell| cell.trim().is_empty()) {
                continue;
            }
            if row.len() != self.columns.width {
                let line = row.position().map_or(0, csv::Position::line);
                let fault = Fault::new(DOING, "").field(format!("line {line}"));
                return Err(fault.expected(format!("{} cells", self.columns.width), row.len()).into());
            }
            return Ok(Some(row));
        }
        Ok(None)
    }

    fn id(&self, row: &StringRecord) -> String {
        let id = self.columns.id.and_then(|at| row.get(at)).map(str::trim);
        id.map_or_else(|| self.stem.clone(), str::to_owned)
    }

    fn record(&mut self) -> Result<Option<Recording>> {
        let Some(first) = self.row()? else { return Ok(None) };
        let id = self.id(&first);
        let mut leads: Vec<Lead> = Vec::new();
        let mut next = Some(first);
        while let Some(row) = next {
            if self.id(&row) != id {
                self.ahead = Some(row);
                break;
            }
            self.push(&mut leads, &row).map_err(|e| e.in_record(&id))?;
            next = self.row()?;
        }
        self.finish(&id, leads).map(Some).map_err(|e| e.in_record(&id))
    }

    fn push(&self, leads: &mut Vec<Lead>, row: &StringRecord) -> Result<()> {
        let cell = |at: usize| row.get(at).unwrap_or("").trim();
        let (name, cell_value) = (cell(self.columns.lead), cell(self.columns.value));
        let line = row.position().map_or(0, csv::Position::line);
        let fault = || Fault::new(DOING, "").field(format!("line {line}"));
        let place = match leads.iter().position(|lead| lead.name == name) {
            Some(place) => place,
            None if leads.len() == LEADS => {
                return Err(fault().expected(format!("at most {LEADS} leads"), "more").into());
            }
            None => {
                leads.push(Lead { name: name.to_owned(), ..Lead::default() });
                leads.len() - 1
            }
        };
        let value = number(cell_value).ok_or_else(|| fault().expected("a finite number", format!("{cell_value:?}")))?;
        let Some(lead) = leads.get_mut(place) else { return Ok(()) };
        lead.values.push(value);
        if let Some((at, _)) = &self.columns.time {
            let time = number(cell(*at)).unwrap_or(f64::NAN);
            if !lead.times.follows(time) {
                let fault = fault().expected(format!("lead {name} in order of time"), format!("{time}"));
                return Err(fault.hint("sort the table by id, lead and time").into());
            }
            lead.times.push(time);
        }
        Ok(())
    }

    fn finish(&self, id: &str, leads: Vec<Lead>) -> Result<Recording> {
        let samples = leads.first().map_or(0, |lead| lead.values.len());
        if let Some(other) = leads.iter().find(|lead| lead.values.len() != samples) {
            let fault = Fault::new(DOING, "the leads differ in length").field(&other.name);
            return Err(fault.expected(format!("{samples} rows"), other.values.len()).into());
        }
        let seconds = self.columns.time.as_ref().filter(|(_, name)| is_seconds(name));
        let derived = seconds.and_then(|_| leads.first()?.times.rate_hz());
        let rate_hz = unstated::stated_rate_hz(derived, self.options.rate_hz)?;
        let rate_hz = unstated::rate_hz(&ReadOptions { rate_hz, ..self.options.clone() }, samples)?;
        let names = leads.iter().map(|lead| lead.name.clone()).collect();
        let shape = (leads.len(), samples);
        let values = leads.into_iter().flat_map(|lead| lead.values).collect();
        let mut samples_mv = Array2::from_shape_vec(shape, values).map_err(Error::compute("shaping CSV"))?;
        unstated::to_mv(&self.options, &mut samples_mv)?;
        Recording::new(id, names, rate_hz, samples_mv)
    }
}

impl Iterator for Records {
    type Item = Result<Recording>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let record = self.record().transpose();
        self.over = !matches!(record, Some(Ok(_)));
        record
    }
}
