//! The header of an EDF file: fixed-width ASCII fields.
//!
//! ```text
//! 8 version | 80 patient | 80 recording | 8 date | 8 time | 8 header bytes | 44 EDF+C, EDF+D or blank
//! | 8 data records, -1 if unknown | 8 seconds of one | 4 signals
//! then for all signals each: 16 label | 80 transducer | 8 unit | 8, 8 physical minimum, maximum
//! | 8, 8 digital minimum, maximum | 80 filters | 8 samples in a data record | 32 reserved
//! ```

use crate::error::{Fault, Result};

pub(super) const DOING: &str = "reading EDF header";
/// Bytes of the fixed part, and of the fields of each signal.
pub(super) const BLOCK: usize = 256;
/// Most signals; the field has four digits.
const SIGNALS: usize = 9999;

/// What the header says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    /// Bytes of a sample: 2 in EDF, 3 in BDF.
    pub(super) width: usize,
    /// Bytes of the header.
    pub(super) length: usize,
    /// Whether data records may leave gaps (EDF+D).
    pub(super) is_interrupted: bool,
    /// Number of data records; none where it was not known when the header was written.
    pub(super) records: Option<u64>,
    /// Seconds of a data record.
    pub(super) seconds: f64,
    pub(super) signals: Vec<Signal>,
}

/// What the header says about one signal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Signal {
    pub(super) label: String,
    pub(super) unit: String,
    /// Physical and digital range.
    pub(super) physical: [f64; 2],
    pub(super) digital: [f64; 2],
    /// Samples in a data record.
    pub(super) samples: usize,
}

impl Signal {
    /// Whether it holds time stamps and remarks instead of samples.
    pub(super) fn is_annotation(&self) -> bool {
        matches!(self.label.as_str(), "EDF Annotations" | "BDF Annotations")
    }

    /// Units of one step, and of the integer 0.
    pub(super) fn scale(&self) -> (f64, f64) {
        let ([low, high], [first, last]) = (self.physical, self.digital);
        let step = (high - low) / (last - first);
        (step, low - first * step)
    }
}

/// Whether a file begins like EDF or BDF: its version, and a header length that fits the number of signals.
pub(super) fn recognise(head: &[u8]) -> bool {
    let number = |from: usize, to: usize| text(head.get(from..to)?).parse::<usize>().ok();
    let fits = number(252, 256).zip(number(184, 192)).is_some_and(|(signals, length)| length == (signals + 1) * BLOCK);
    fits && (head.starts_with(b"0       ") || head.starts_with(b"\xffBIOSEMI"))
}

/// Bytes of the header, from its fixed part.
pub(super) fn length(fixed: &[u8]) -> Result<usize> {
    let mut fields = Fields { bytes: fixed, at: 252 };
    let signals = fields.number("number of signals", 4)?;
    if !(1.0..=SIGNALS as f64).contains(&signals) || signals.fract() != 0.0 {
        let fault = Fault::new(DOING, "").field("number of signals");
        return Err(fault.expected(format!("1 to {SIGNALS}"), signals).into());
    }
    Ok((signals as usize + 1) * BLOCK)
}

impl Header {
    /// Reads the whole header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Header> {
        let length = length(bytes)?;
        let width = if bytes.starts_with(b"\xff") { 3 } else { 2 };
        let mut fields = Fields { bytes, at: 192 };
        let is_interrupted = fields.text(44)?.get(4..).is_some_and(|rest| rest.starts_with('D'));
        let records = fields.number("number of data records", 8)?;
        let seconds = fields.number("duration of a data record", 8)?;
        if seconds <= 0.0 {
            let fault = Fault::new(DOING, "").field("duration of a data record");
            return Err(fault.expected("seconds above 0", seconds).into());
        }
        let records = if records < 0.0 { None } else { Some(records as u64) };
        let signals = signals(bytes, length / BLOCK - 1)?;
        Ok(Header { width, length, is_interrupted, records, seconds, signals })
    }
}

fn signals(bytes: &[u8], count: usize) -> Result<Vec<Signal>> {
    let mut fields = Fields { bytes, at: BLOCK };
    let texts =
        |fields: &mut Fields, width: usize| -> Result<Vec<String>> { (0..count).map(|_| fields.text(width)).collect() };
    let numbers = |fields: &mut Fields, name: &str| -> Result<Vec<f64>> {
        (0..count).map(|i| fields.number(&format!("{name} of signal {}", i + 1), 8)).collect()
    };
    let labels = texts(&mut fields, 16)?;
    texts(&mut fields, 80)?;
    let units = texts(&mut fields, 8)?;
    let ranges = ["physical minimum", "physical maximum", "digital minimum", "digital maximum"];
    let ranges = ranges.map(|name| numbers(&mut fields, name));
    let [low, high, first, last] = ranges;
    let ranges = low?.into_iter().zip(high?).zip(first?.into_iter().zip(last?));
    texts(&mut fields, 80)?;
    let samples = numbers(&mut fields, "samples in a data record")?;
    let named = labels.into_iter().zip(units).zip(ranges).zip(samples);
    named
        .map(|(((label, unit), ((low, high), (first, last))), samples)| {
            let fault = |name: &str| Fault::new(DOING, "").field(format!("{name} of signal {label}"));
            if low == high || first == last {
                let found = format!("{low} to {high} for {first} to {last}");
                return Err(fault("range").expected("minima unlike maxima", found).into());
            }
            if !(1.0..=1e8).contains(&samples) {
                return Err(fault("samples in a data record").expected("1 or more", samples).into());
            }
            Ok(Signal { label, unit, physical: [low, high], digital: [first, last], samples: samples as usize })
        })
        .collect()
}

/// Fixed-width fields, one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn text(&mut self, width: usize) -> Result<String> {
        let bytes = self.bytes.get(self.at..self.at + width).ok_or_else(|| {
            let fault = Fault::new(DOING, "the file ends within its header");
            fault.expected(format!("{} bytes", self.at + width), self.bytes.len())
        })?;
        self.at += width;
        Ok(text(bytes))
    }

    fn number(&mut self, name: &str, width: usize) -> Result<f64> {
        let text = self.text(width)?;
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
        Ok(number.ok_or_else(|| Fault::new(DOING, "").field(name).expected("a number", format!("{text:?}")))?)
    }
}

/// A field without its padding; each byte is a character (Latin-1, for the micro sign).
fn text(bytes: &[u8]) -> String {
    let text: String = bytes.iter().map(|&b| char::from(b)).collect();
    text.trim_matches([' ', '\0']).to_owned()
}
