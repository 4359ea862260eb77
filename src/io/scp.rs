//! SCP-ECG, the interchange format of electrocardiographs (EN 1064, ISO 11073-91064).
//!
//! ```text
//! CRC u16 | length u32 | section 0: where the other sections begin | section 1: patient | ...
//! section:   CRC u16 | number u16 | length u32 | 2 versions | 6 reserved (SCPECG in section 0) | content
//! section 2: Huffman tables          section 3: leads, first and last sample of each
//! section 6: nV of a step u16 | us of a sample u16 | differences u8 | bimodal u8 | bytes of each lead u16 | leads
//! ```
//!
//! Little-endian throughout. Samples are Huffman-coded (`huffman.rs`) or, without section 2, plain 16-bit integers; they
//! are values, first or second differences. Rhythm stored as the rest after subtraction of a reference beat, or with two
//! sampling rates (bimodal), is refused by name. Section 1, the patient, is not read.

use std::fs::File;
use std::io::Read;

use ndarray::Array2;

use super::lead_code::scp_name;
use super::{ReadOptions, Recordings, Source};
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

mod huffman;

use huffman::Huffman;

const DOING: &str = "reading SCP-ECG";
/// Bytes before section 0, and of the head of a section.
const START: usize = 6;
const HEAD: usize = 16;
/// Most samples of all leads; a bit may stand for a sample, so the size of the file sets no close limit.
const VALUES: usize = 1 << 22;
const HINT: &str = "export it without compression of this kind, or convert it with another program";

/// Whether a file is SCP-ECG: the word in the head of section 0.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    head.get(START + 10..START + HEAD) == Some(b"SCPECG") && head.get(8..10) == Some(&[0, 0])
}

/// Reads its one recording.
///
/// # Errors
/// Where the file is damaged, lacks leads or rhythm, or stores the rhythm in a way that is not read.
pub fn open(source: Source, _options: &ReadOptions) -> Result<Recordings> {
    let mut bytes = Vec::new();
    let mut file = File::open(source.path()).map_err(Error::io("opening", source.shown()))?;
    file.read_to_end(&mut bytes).map_err(Error::io("reading", source.shown()))?;
    let record = read(&bytes, &source.stem()).map_err(|e| e.in_file(source.shown()));
    Ok(Box::new(std::iter::once(Ok(record?))))
}

fn read(bytes: &[u8], id: &str) -> Result<Recording> {
    let mut start = Bytes { bytes, at: 0, name: "record" };
    let (crc, length) = (start.u16()?, start.u32()? as usize);
    let Some(bytes) = bytes.get(..length).filter(|_| length >= START + HEAD) else {
        let fault = Fault::new(DOING, "the file is shorter than it says").field("record length");
        return Err(fault.expected(format!("{length} bytes"), bytes.len()).hint("copy the file again").into());
    };
    let found = checksum(bytes.get(2..).unwrap_or(&[]));
    if crc != 0 && crc != found {
        let fault = Fault::new(DOING, "the checksum does not match").field("record");
        return Err(fault.expected(format!("{crc:04x}"), format!("{found:04x}")).hint("copy the file again").into());
    }
    let leads = leads(section(bytes, 3)?)?;
    let huffman = match section(bytes, 2) {
        Ok(content) if !content.is_empty() => Some(Huffman::parse(content)?),
        _ => None,
    };
    rhythm(section(bytes, 6)?, &leads, huffman.as_ref(), id)
}

/// A lead as section 3 lists it: samples count from 1, both ends included.
struct Lead {
    name: String,
    first: usize,
    samples: usize,
}

/// The content of a section, by the pointers of section 0.
fn section(bytes: &[u8], number: u16) -> Result<&[u8]> {
    let fault = |cause: &str| Fault::new(DOING, cause).field(format!("section {number}"));
    let mut zero = Bytes { bytes, at: START + 4, name: "section 0" };
    let end = START.saturating_add(zero.u32()? as usize).min(bytes.len());
    zero.at = START + HEAD;
    while zero.at + 10 <= end {
        let (found, length, index) = (zero.u16()?, zero.u32()? as usize, zero.u32()? as usize);
        if found != number || length == 0 {
            continue;
        }
        let start = index.wrapping_sub(1); // counts from 1
        let whole = start.checked_add(length).and_then(|end| bytes.get(start..end));
        let head = whole.and_then(|whole| Some((whole.get(2..4)?, whole.get(HEAD..)?)));
        return match head {
            Some((id, content)) if id == number.to_le_bytes() => Ok(content),
            _ => {
                let expected = format!("section {number} of {length} bytes at byte {index}");
                Err(fault("the pointer leads nowhere").expected(expected, "other bytes").into())
            }
        };
    }
    Err(fault("").expected("the section", "none").into())
}

fn leads(content: &[u8]) -> Result<Vec<Lead>> {
    let mut bytes = Bytes { bytes: content, at: 0, name: "section 3" };
    let (count, flags) = (bytes.u8()?, bytes.u8()?);
    if flags & 1 == 1 {
        let fault = Fault::new(DOING, "the rhythm is stored less a reference beat, which is not read");
        return Err(fault.field("section 3").expected("the whole rhythm", "residuals").hint(HINT).into());
    }
    let mut leads = Vec::new();
    for _ in 0..count {
        let (first, last, code) = (bytes.u32()? as usize, bytes.u32()? as usize, bytes.u8()?);
        let name = scp_name(u16::from(code)).map_or(format!("SCP lead {code}"), str::to_owned);
        if first == 0 || last < first {
            let fault = Fault::new(DOING, "").field(format!("section 3, lead {name}"));
            return Err(fault.expected("samples from 1 on", format!("{first} to {last}")).into());
        }
        leads.push(Lead { name, first, samples: last - first + 1 });
    }
    let most = leads.iter().map(|lead| lead.first + lead.samples).max().unwrap_or(0);
    if leads.is_empty() || most.saturating_mul(leads.len()) > VALUES {
        let fault = Fault::new(DOING, "").field("section 3");
        return Err(fault.expected(format!("leads of at most {VALUES} samples"), format!("{count} x {most}")).into());
    }
    Ok(leads)
}

fn rhythm(content: &[u8], leads: &[Lead], huffman: Option<&Huffman>, id: &str) -> Result<Recording> {
    let mut bytes = Bytes { bytes: content, at: 0, name: "section 6" };
    let fault = |cause: &str| Fault::new(DOING, cause).field("section 6");
    let (step_nv, sample_us) = (bytes.u16()?, bytes.u16()?);
    let (order, bimodal) = (bytes.u8()?, bytes.u8()?);
    if step_nv == 0 || sample_us == 0 || order > 2 {
        let expected = "nV of a step, us of a sample, differences 0 to 2";
        return Err(fault("").expected(expected, format!("{step_nv}, {sample_us}, {order}")).into());
    }
    if bimodal & 1 == 1 {
        let fault = fault("the rhythm has two sampling rates (bimodal compression), which is not read");
        return Err(fault.expected("one rate", "two").hint(HINT).into());
    }
    let lengths = leads.iter().map(|_| bytes.u16()).collect::<Result<Vec<u16>>>()?;
    let start = leads.iter().map(|lead| lead.first).min().unwrap_or(1);
    let end = leads.iter().map(|lead| lead.first + lead.samples).max().unwrap_or(1);
    let mut samples_mv = Array2::from_elem((leads.len(), end - start), f64::NAN);
    for ((lead, length), mut row) in leads.iter().zip(lengths).zip(samples_mv.rows_mut()) {
        let data = bytes.take(usize::from(length))?;
        let mut values = match huffman {
            Some(huffman) => huffman.decode(data, lead.samples, &lead.name)?,
            None => plain(data, lead)?,
        };
        undo_differences(&mut values, order);
        let places = row.iter_mut().skip(lead.first - start);
        places.zip(values).for_each(|(place, value)| *place = f64::from(value) * f64::from(step_nv) * 1e-6);
    }
    let names = leads.iter().map(|lead| lead.name.clone()).collect();
    Recording::new(id, names, 1e6 / f64::from(sample_us), samples_mv)
}

/// Samples of 16 bits.
fn plain(data: &[u8], lead: &Lead) -> Result<Vec<i32>> {
    let values: Vec<i32> = data
        .chunks_exact(2)
        .take(lead.samples)
        .map(|pair| match *pair {
            [a, b] => i32::from(i16::from_le_bytes([a, b])),
            _ => 0,
        })
        .collect();
    if values.len() < lead.samples {
        let fault = Fault::new(DOING, "").field(format!("section 6, lead {}", lead.name));
        return Err(fault
            .expected(format!("{} samples of 2 bytes", lead.samples), format!("{} bytes", data.len()))
            .into());
    }
    Ok(values)
}

/// From first differences (the first value stands whole) or second ones (the first two do) to values.
fn undo_differences(values: &mut [i32], order: u8) {
    let (mut before, mut last) = (0i32, 0i32);
    for (i, value) in values.iter_mut().enumerate() {
        *value = match order {
            1 => value.wrapping_add(last),
            2 if i >= 2 => value.wrapping_add(last.wrapping_mul(2)).wrapping_sub(before),
            _ => *value,
        };
        (before, last) = (last, *value);
    }
}

/// CRC-CCITT: polynomial x^16 + x^12 + x^5 + 1, begun with ones.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

/// Numbers, one after the other.
struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
    name: &'static str,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let bytes = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| {
            let left = self.bytes.len().saturating_sub(self.at);
            Fault::new(DOING, "the section breaks off").field(self.name).expected(format!("{length} bytes"), left)
        })?;
        self.at += length;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or(0))
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().unwrap_or([0; 2])))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().unwrap_or([0; 4])))
    }
}

#[cfg(test)]
mod tests;
