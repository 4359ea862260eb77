//! GE CardioSoft XML, which is UK Biobank field 20205: the ten seconds stand in `StripData`, as text.
//!
//! ```text
//! <CardiologyXML>
//!   ... <MedianSamples> an averaged beat </MedianSamples> ...
//!   <StripData>
//!     <NumberOfLeads>12</NumberOfLeads> <SampleRate units="Hz">500</SampleRate>
//!     <ChannelSampleCountTotal>5000</ChannelSampleCountTotal> <Resolution units="uVperLsb">5</Resolution>
//!     <WaveformData lead="I"> -4,-2,-2, ... </WaveformData>  ...
//!   </StripData>
//!   <FullDisclosure> all leads of the whole session </FullDisclosure>
//! </CardiologyXML>
//! ```
//!
//! Value in mV = integer * resolution / 1000. Only the strip is read. There is no published specification; the element
//! names explain themselves, and the numbers are compared with an independent decode of a real file
//! (`testdata/golden/xml_golden.py`). The record's id is the file's name without extension, not the patient's: UK Biobank
//! puts the participant there (`1234567_20205_2_0`).

use super::leads::Leads;
use super::xml::{self, Document, Element, Visit};
use super::{ReadOptions, Recordings, Source};
use crate::data::recording::Recording;
use crate::error::{Fault, Result};

const DOING: &str = "reading CardioSoft XML";

/// Whether the root element is CardioSoft's.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    xml::root(head).as_deref() == Some("CardiologyXML")
}

/// Reads the strip.
///
/// # Errors
/// Where the XML is malformed, there is no strip, or the strip does not hold what it says.
pub fn open(source: Source, _options: &ReadOptions) -> Result<Recordings> {
    let record = read(&source).map_err(|e| e.in_file(source.shown()));
    Ok(Box::new(std::iter::once(Ok(record?))))
}

fn read(source: &Source) -> Result<Recording> {
    let mut strip = Strip::default();
    Document::read(source, DOING)?.walk(&mut strip)?;
    strip.finish(&source.stem())
}

/// What the strip says about itself, and its leads.
#[derive(Default)]
struct Strip {
    strips: usize,
    rate_hz: Option<f64>,
    uv_per_bit: Option<f64>,
    samples: Option<usize>,
    count: Option<usize>,
    leads: Leads,
}

impl Visit for Strip {
    fn open(&mut self, element: &Element, _above: &[Element]) -> Result<()> {
        self.strips += usize::from(element.name == "StripData");
        match self.strips {
            0 | 1 => Ok(()),
            _ => Err(Fault::new(DOING, "").field("StripData").expected("one strip", "a second one").into()),
        }
    }

    fn close(&mut self, element: &Element, above: &[Element]) -> Result<()> {
        if !xml::inside(above, "StripData") {
            return Ok(());
        }
        match element.name.as_str() {
            "SampleRate" => {
                unit(element, "Hz")?;
                self.rate_hz = Some(element.number(DOING)?);
            }
            "Resolution" => {
                unit(element, "uVperLsb")?;
                self.uv_per_bit = Some(element.number(DOING)?);
            }
            "ChannelSampleCountTotal" => self.samples = Some(element.count(DOING)?),
            "NumberOfLeads" => self.count = Some(element.count(DOING)?),
            "WaveformData" => self.lead(element)?,
            _ => {}
        }
        Ok(())
    }
}

/// Refuses another unit than the one expected.
fn unit(element: &Element, expected: &str) -> Result<()> {
    match element.attribute("units") {
        Some(found) if found != expected => {
            let fault = Fault::new(DOING, "unknown unit").field(&element.name);
            Err(fault.expected(expected, found).into())
        }
        _ => Ok(()),
    }
}

impl Strip {
    fn lead(&mut self, element: &Element) -> Result<()> {
        let Some(name) = element.attribute("lead") else {
            return Err(Fault::new(DOING, "a waveform without the name of its lead").field("WaveformData").into());
        };
        let text = element.text.trim().trim_end_matches(',');
        let numbers = text.split(',').enumerate().map(|(place, cell)| {
            xml::number(cell).ok_or_else(|| {
                let fault = Fault::new(DOING, "").field(format!("lead {name}, sample {place}"));
                fault.expected("a number", format!("{:?}", xml::shorten(cell))).into()
            })
        });
        self.leads.push(DOING, name, numbers)?;
        let found = self.leads.last_length();
        match self.samples {
            Some(samples) if samples != found => {
                let fault = Fault::new(DOING, "the lead is incomplete").field(format!("lead {name}"));
                Err(fault.expected(format!("{samples} samples (ChannelSampleCountTotal)"), found).into())
            }
            _ => Ok(()),
        }
    }

    fn finish(self, id: &str) -> Result<Recording> {
        let missing = |field: &str| Fault::new(DOING, "the strip lacks an element").record(id).field(field);
        if self.strips == 0 {
            let fault = Fault::new(DOING, "the file holds no ten-second strip").record(id).field("StripData");
            return Err(fault.hint("exercise tests (UK Biobank field 6025) and bare reports have none").into());
        }
        let rate_hz = self.rate_hz.ok_or_else(|| missing("SampleRate"))?;
        let uv_per_bit = self.uv_per_bit.ok_or_else(|| missing("Resolution"))?;
        let found = self.leads.names().len();
        if let Some(count) = self.count.filter(|&count| count != found) {
            let fault = Fault::new(DOING, "leads are missing").record(id).field("StripData");
            return Err(fault.expected(format!("{count} leads (NumberOfLeads)"), found).into());
        }
        self.leads.finish(DOING, id, rate_hz, uv_per_bit / 1000.0)
    }
}
