//! HL7 aECG, the annotated ECG of the FDA (HL7 v3, namespace `urn:hl7-org:v3`).
//!
//! ```text
//! <AnnotatedECG>
//!   <component><series> <code code="RHYTHM"/>
//!     <component><sequenceSet>
//!       <component><sequence> <code code="TIME_ABSOLUTE"/> <value> <head .../> <increment value="0.002" unit="s"/>
//!       <component><sequence> <code code="MDC_ECG_LEAD_I"/> <value> <origin value="0" unit="uV"/>
//!                                                    <scale value="5" unit="uV"/> <digits>10 9 9 ...</digits>
//!     <derivation><derivedSeries> averaged beats </derivedSeries>
//! ```
//!
//! Value = origin + scale * digit. Each sequence set of the rhythm series is one record; averaged beats (derived series,
//! and series of another code) are passed over, and so are sequences that are no voltage. The record's id is the file's
//! name without extension, numbered where there are several sets.
//!
//! Specification: HL7 Version 3 Standard: Annotated ECG, and its implementation guide, <https://www.hl7.org/>.

use super::leads::Leads;
use super::xml::{self, Document, Element, Visit};
use super::{ReadOptions, Recordings, Source, Unit};
use crate::data::recording::Recording;
use crate::error::{Fault, Result};

const DOING: &str = "reading HL7 aECG";
/// More sets are no resting ECG.
const MOST_SETS: usize = 1000;

/// Whether the root element is an annotated ECG.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    xml::root(head).as_deref() == Some("AnnotatedECG")
}

/// Reads the rhythm series.
///
/// # Errors
/// Where the XML is malformed, there is no rhythm series, or a sequence does not hold what it says.
pub fn open(source: Source, _options: &ReadOptions) -> Result<Recordings> {
    let records = read(&source).map_err(|e| e.in_file(source.shown()))?;
    Ok(Box::new(records.into_iter().map(Ok)))
}

fn read(source: &Source) -> Result<Vec<Recording>> {
    let mut file = File { id: source.stem(), ..File::default() };
    Document::read(source, DOING)?.walk(&mut file)?;
    let mut records = file.records;
    if records.is_empty() {
        let fault = Fault::new(DOING, "the file holds no rhythm").record(&file.id).field("series");
        return Err(fault.expected("a series of code RHYTHM with voltages", "none").into());
    }
    if records.len() > 1 {
        records.iter_mut().enumerate().for_each(|(k, record)| record.id = format!("{}_{k}", file.id));
    }
    Ok(records)
}

/// The file while it is read.
#[derive(Default)]
struct File {
    id: String,
    set: Set,
    sequence: Sequence,
    records: Vec<Recording>,
    samples: usize,
}

/// One `sequenceSet`.
#[derive(Default)]
struct Set {
    /// Whether the series around is the rhythm; none until its code is known.
    rhythm: Option<bool>,
    rate_hz: Option<f64>,
    leads: Leads,
}

/// One `sequence`.
#[derive(Default)]
struct Sequence {
    code: String,
    increment_s: Option<f64>,
    origin: Option<(f64, String)>,
    scale: Option<(f64, String)>,
    has_digits: bool,
}

impl Visit for File {
    fn open(&mut self, element: &Element, _above: &[Element]) -> Result<()> {
        match element.name.as_str() {
            "series" => self.set = Set { rhythm: None, ..Set::default() },
            "sequenceSet" => self.set = Set { rhythm: self.set.rhythm, ..Set::default() },
            "sequence" => self.sequence = Sequence::default(),
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, element: &Element, above: &[Element]) -> Result<()> {
        if above.iter().any(|e| e.name == "derivedSeries") {
            return Ok(());
        }
        let parent = above.last().map_or("", |e| e.name.as_str());
        match (parent, element.name.as_str()) {
            ("series", "code") => self.set.rhythm = Some(element.attribute("code") == Some("RHYTHM")),
            (_, "sequenceSet") => self.end_set()?,
            _ if self.set.rhythm == Some(false) => {}
            ("sequence", "code") => self.sequence.code = element.attribute("code").unwrap_or("").to_owned(),
            ("value", "increment") => self.sequence.increment_s = seconds(element)?,
            ("value", "origin") => self.sequence.origin = Some(quantity(element)?),
            ("value", "scale") => self.sequence.scale = Some(quantity(element)?),
            ("value", "digits") => self.digits(element)?,
            (_, "sequence") => self.end_sequence()?,
            _ => {}
        }
        Ok(())
    }
}

/// The number and the unit of a quantity.
fn quantity(element: &Element) -> Result<(f64, String)> {
    let text = element.attribute("value").unwrap_or("");
    let value = xml::number(text).ok_or_else(|| {
        let fault = Fault::new(DOING, "").field(format!("{} value", element.name));
        fault.expected("a number", format!("{:?}", xml::shorten(text)))
    })?;
    Ok((value, element.attribute("unit").unwrap_or("").to_owned()))
}

/// The step of a time sequence.
fn seconds(element: &Element) -> Result<Option<f64>> {
    let (value, unit) = quantity(element)?;
    let per_second = match unit.as_str() {
        "s" => 1.0,
        "ms" => 1e3,
        "us" => 1e6,
        _ => {
            let fault = Fault::new(DOING, "unknown unit").field("increment unit");
            return Err(fault.expected("s, ms or us", format!("{:?}", xml::shorten(&unit))).into());
        }
    };
    Ok(Some(value / per_second))
}

/// Millivolts in one of a UCUM unit; none where it is no voltage.
fn to_mv(unit: &str) -> Option<f64> {
    match unit {
        "nV" => Some(1e-6),
        _ => Unit::parse(unit).map(Unit::to_mv),
    }
}

impl File {
    fn digits(&mut self, element: &Element) -> Result<()> {
        self.sequence.has_digits = true;
        let code = self.sequence.code.as_str();
        let fault = |cause: &str| Fault::new(DOING, cause).field(format!("sequence {}", xml::shorten(code)));
        let Some((scale, unit)) = &self.sequence.scale else {
            return Err(fault("the sequence has digits before a scale").into());
        };
        let Some(scale_mv) = to_mv(unit).map(|mv| mv * scale) else { return Ok(()) }; // pressure and the like
        let origin_mv = match &self.sequence.origin {
            Some((origin, unit)) => to_mv(unit).map(|mv| mv * origin).ok_or_else(|| {
                fault("unknown unit of the origin").expected("uV, mV or V", format!("{:?}", xml::shorten(unit)))
            })?,
            None => 0.0,
        };
        let room = Leads::default().room().saturating_sub(self.samples);
        let digits = element.text.split_ascii_whitespace().enumerate().map(|(place, digit)| {
            if place >= room {
                return Err(fault("there are too many samples for an ECG").into());
            }
            let digit = xml::number(digit).ok_or_else(|| {
                let fault = Fault::new(DOING, "").field(format!("sequence {}, digit {place}", xml::shorten(code)));
                fault.expected("a number", format!("{:?}", xml::shorten(digit)))
            })?;
            Ok(origin_mv + scale_mv * digit)
        });
        self.set.leads.push(DOING, code, digits)?;
        self.samples += self.set.leads.last_length();
        Ok(())
    }

    fn end_sequence(&mut self) -> Result<()> {
        let sequence = std::mem::take(&mut self.sequence);
        if !sequence.code.starts_with("TIME_") {
            return Ok(());
        }
        match sequence.increment_s {
            Some(step) if step > 0.0 => self.set.rate_hz = Some((1e6 / step).round() / 1e6),
            _ => {
                let found = if sequence.has_digits { "single times" } else { "none" };
                let fault = Fault::new(DOING, "samples without an even rate").field(&sequence.code);
                return Err(fault.expected("an increment above zero", found).into());
            }
        }
        Ok(())
    }

    fn end_set(&mut self) -> Result<()> {
        let rhythm = self.set.rhythm;
        let set = std::mem::replace(&mut self.set, Set { rhythm, ..Set::default() });
        if set.leads.names().is_empty() || rhythm == Some(false) {
            return Ok(());
        }
        if self.records.len() == MOST_SETS {
            let fault = Fault::new(DOING, "too many pieces for a resting ECG").field("sequenceSet");
            return Err(fault.expected(format!("at most {MOST_SETS}"), "more").into());
        }
        let Some(rate_hz) = set.rate_hz else {
            let fault = Fault::new(DOING, "the set does not state its rate").field("sequenceSet");
            return Err(fault.expected("a sequence TIME_ABSOLUTE or TIME_RELATIVE", "none").into());
        };
        self.records.push(set.leads.finish(DOING, &self.id, rate_hz, 1.0)?);
        Ok(())
    }
}
