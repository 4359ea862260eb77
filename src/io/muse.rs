//! GE MUSE XML: 16-bit little-endian samples in base64, eight leads recorded, the other four left to be derived.
//!
//! ```text
//! <RestingECG>
//!   <Waveform> <WaveformType>Median</WaveformType> ... an averaged beat ... </Waveform>
//!   <Waveform> <WaveformType>Rhythm</WaveformType>
//!     <SampleBase>500</SampleBase> <SampleExponent>0</SampleExponent>         rate = base * 10^exponent
//!     <LeadData>
//!       <LeadSampleCountTotal>5000</LeadSampleCountTotal>
//!       <LeadAmplitudeUnitsPerBit>4.88</LeadAmplitudeUnitsPerBit> <LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>
//!       <LeadID>I</LeadID> <LeadDataCRC32>...</LeadDataCRC32>
//!       <WaveFormData> base64 </WaveFormData>
//!     </LeadData> ...
//! ```
//!
//! Value in mV = sample * units per bit. Only the Rhythm block is read, the first where there are several; averaged beats
//! (Median) never are. The checksum, CRC-32 of the bytes, is verified where it is given and not 0. There is no published
//! specification: the elements and the checksum were found in real files and are compared with an independent decode
//! (`testdata/golden/xml_golden.py`). The record's id is the file's name without extension, not the patient's.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::Engine;

use super::leads::Leads;
use super::xml::{self, Document, Element, Visit};
use super::{ReadOptions, Recordings, Source};
use crate::data::recording::Recording;
use crate::error::{Fault, Result};

const DOING: &str = "reading MUSE XML";
const RHYTHM: &str = "Rhythm";

/// Base64 with or without padding at the end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether the root element is MUSE's.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    xml::root(head).as_deref() == Some("RestingECG")
}

/// Reads the Rhythm block.
///
/// # Errors
/// Where the XML is malformed, there is no Rhythm block, or a lead does not hold what it says.
pub fn open(source: Source, _options: &ReadOptions) -> Result<Recordings> {
    let record = read(&source).map_err(|e| e.in_file(source.shown()));
    Ok(Box::new(std::iter::once(Ok(record?))))
}

fn read(source: &Source) -> Result<Recording> {
    let mut file = File { id: source.stem(), ..File::default() };
    Document::read(source, DOING)?.walk(&mut file)?;
    let others = file.kinds.join(", ");
    let note = |rhythm: Recording| match others.as_str() {
        "" => rhythm,
        others => rhythm.note(format!("read the waveform Rhythm; left out {others}")),
    };
    file.rhythm.map(note).ok_or_else(|| {
        let found = if others.is_empty() { "no waveform" } else { &others };
        let fault = Fault::new(DOING, "the file holds no rhythm").record(&file.id).field("Waveform");
        fault.expected("a Waveform of WaveformType Rhythm", found).into()
    })
}

/// The bytes of base64 text, blanks within it allowed.
///
/// # Errors
/// What is wrong with the text, in words.
pub(super) fn from_base64(text: &str) -> std::result::Result<Vec<u8>, String> {
    let plain: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(plain).map_err(|e| e.to_string())
}

/// The file while it is read.
#[derive(Default)]
struct File {
    id: String,
    /// Types of the blocks that were passed over.
    kinds: Vec<String>,
    block: Block,
    lead: Lead,
    rhythm: Option<Recording>,
}

/// One `Waveform`.
#[derive(Default)]
struct Block {
    kind: Option<String>,
    base_hz: Option<f64>,
    exponent: Option<f64>,
    count: Option<usize>,
    leads: Leads,
}

/// One `LeadData`.
#[derive(Default)]
struct Lead {
    name: String,
    samples: Option<usize>,
    units_per_bit: Option<f64>,
    unit: String,
    crc: Option<u32>,
    data: Option<Vec<u8>>,
}

impl Visit for File {
    fn open(&mut self, element: &Element, _above: &[Element]) -> Result<()> {
        match element.name.as_str() {
            "Waveform" => self.block = Block::default(),
            "LeadData" => self.lead = Lead::default(),
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, element: &Element, above: &[Element]) -> Result<()> {
        if xml::inside(above, "LeadData") {
            return if self.wanted() { self.lead.field(element) } else { Ok(()) };
        }
        match element.name.as_str() {
            "LeadData" if self.wanted() => std::mem::take(&mut self.lead).decode(&mut self.block.leads),
            "Waveform" => self.end_block(),
            _ if xml::inside(above, "Waveform") => self.block.field(element),
            _ => Ok(()),
        }
    }
}

impl File {
    /// Whether the block may still turn out to be the rhythm: its type may stand after its leads.
    fn wanted(&self) -> bool {
        self.rhythm.is_none() && self.block.kind.as_deref().is_none_or(is_rhythm)
    }

    fn end_block(&mut self) -> Result<()> {
        let block = std::mem::take(&mut self.block);
        match &block.kind {
            Some(kind) if is_rhythm(kind) && self.rhythm.is_none() => self.rhythm = Some(block.finish(&self.id)?),
            kind if self.kinds.len() < 8 => {
                self.kinds.push(kind.as_deref().map_or_else(|| "one without a type".to_owned(), xml::shorten));
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_rhythm(kind: &str) -> bool {
    kind.eq_ignore_ascii_case(RHYTHM)
}

impl Block {
    fn field(&mut self, element: &Element) -> Result<()> {
        match element.name.as_str() {
            "WaveformType" => self.kind = Some(element.text.trim().to_owned()),
            "SampleBase" => self.base_hz = Some(element.number(DOING)?),
            "SampleExponent" => self.exponent = Some(element.number(DOING)?),
            "NumberofLeads" => self.count = Some(element.count(DOING)?),
            "SampleType" => return plain(element, "CONTINUOUS_SAMPLES"),
            _ => {}
        }
        Ok(())
    }

    fn finish(self, id: &str) -> Result<Recording> {
        let fault = |cause: &str| Fault::new(DOING, cause).record(id);
        let Some(base_hz) = self.base_hz else {
            return Err(fault("the rhythm does not state its rate").field("SampleBase").into());
        };
        let found = self.leads.names().len();
        if let Some(count) = self.count.filter(|&count| count != found) {
            let fault = fault("leads are missing").field("Waveform");
            return Err(fault.expected(format!("{count} leads (NumberofLeads)"), found).into());
        }
        let rate_hz = base_hz * 10f64.powf(self.exponent.unwrap_or(0.0));
        self.leads.finish(DOING, id, rate_hz, 1.0)
    }
}

/// Refuses a way of storing samples that no file we know uses.
fn plain(element: &Element, expected: &str) -> Result<()> {
    let found = element.text.trim();
    if found == expected {
        return Ok(());
    }
    let fault = Fault::new(DOING, "samples stored in this way are not supported").field(&element.name);
    Err(fault.expected(expected, format!("{:?}", xml::shorten(found))).into())
}

impl Lead {
    fn field(&mut self, element: &Element) -> Result<()> {
        match element.name.as_str() {
            "LeadID" => self.name = element.text.trim().to_owned(),
            "LeadSampleCountTotal" => self.samples = Some(element.count(DOING)?),
            "LeadAmplitudeUnitsPerBit" => self.units_per_bit = Some(element.number(DOING)?),
            "LeadAmplitudeUnits" => self.unit = element.text.trim().to_owned(),
            "LeadSampleSize" => return plain(element, "2"),
            // Leads recorded one after another, or part of a lead, are no twelve-lead ECG.
            "LeadTimeOffset" | "LeadOffsetFirstSample" => return plain(element, "0"),
            "LeadDataCRC32" => self.crc = element.text.trim().parse().ok().filter(|&crc| crc != 0),
            "WaveFormData" | "WaveformData" => {
                let bytes = from_base64(&element.text).map_err(|why| {
                    let fault = Fault::new(DOING, "the samples are damaged").field(&element.name);
                    fault.expected("base64", why).hint("copy or export the file again")
                })?;
                self.data = Some(bytes);
            }
            _ => {}
        }
        Ok(())
    }

    fn decode(self, into: &mut Leads) -> Result<()> {
        let fault = |cause: &str, field: &str| Fault::new(DOING, cause).field(format!("lead {}, {field}", self.name));
        let bytes = self.data.as_deref().ok_or_else(|| fault("the lead holds no samples", "WaveFormData"))?;
        let crc = crc32fast::hash(bytes);
        if let Some(expected) = self.crc.filter(|&expected| expected != crc) {
            let fault = fault("the checksum does not match", "LeadDataCRC32").expected(expected, crc);
            return Err(fault.hint("the file is damaged: copy or export it again").into());
        }
        let found = bytes.len() / 2;
        if let Some(samples) = self.samples.filter(|&samples| samples != found || bytes.len() % 2 == 1) {
            let fault = fault("the lead is incomplete", "WaveFormData");
            return Err(fault
                .expected(format!("{samples} samples (LeadSampleCountTotal)"), format!("{} bytes", bytes.len()))
                .into());
        }
        let per_bit = self.units_per_bit.ok_or_else(|| fault("the unit is missing", "LeadAmplitudeUnitsPerBit"))?;
        let to_mv = match self.unit.to_ascii_uppercase().as_str() {
            "MICROVOLTS" => 1e-3,
            "MILLIVOLTS" => 1.0,
            _ => {
                let fault = fault("unknown unit", "LeadAmplitudeUnits");
                return Err(fault
                    .expected("MICROVOLTS or MILLIVOLTS", format!("{:?}", xml::shorten(&self.unit)))
                    .into());
            }
        };
        let pairs = bytes.chunks_exact(2).map(|pair| match *pair {
            [low, high] => Ok(f64::from(i16::from_le_bytes([low, high])) * per_bit * to_mv),
            _ => Ok(f64::NAN), // never: all are pairs
        });
        into.push(DOING, &self.name, pairs)
    }
}
