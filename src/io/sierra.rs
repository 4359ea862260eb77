//! Philips Sierra XML 1.03 and 1.04 (PageWriter, HeartStart, TraceMaster): rhythm compressed by XLI, in base64.
//!
//! ```text
//! <restingecgdata>
//!   <documentinfo> <documentversion>1.04</documentversion> </documentinfo>
//!   <dataacquisition> <signalcharacteristics> samplingrate, resolution (1.03: signalresolution), uV ...
//!   <waveforms>
//!     <parsedwaveforms compression="XLI" leadlabels="I II ..." durationperchannel="11000" (ms) ...> base64
//!     <repbeats> averaged beats </repbeats>
//! ```
//!
//! The bytes are one chunk a lead; `xli` unpacks them. The limb leads III, aVR, aVL and aVF are stored as what is left
//! after predicting them from I and II, in integers, halves cut towards zero:
//! III = II - I - rest, aVR = -(I + II)/2 - rest, aVL = (I - III)/2 - rest, aVF = (II + III)/2 - rest.
//!
//! The cart writes after the signal: zeros, a calibration pulse of 1 mV in all leads, zeros. They are cut off. Only the
//! parsed waveforms are read, averaged beats never. There is no published specification; the numbers are compared with an
//! independent decode and with an HL7 aECG of one of the same recordings (`testdata/golden/xml_golden.py`).
//! The record's id is the file's name without extension, not the patient's.

use super::leads::Leads;
use super::muse::from_base64;
use super::xml::{self, Document, Element, Visit};
use super::{ReadOptions, Recordings, Source};
use crate::data::recording::Recording;
use crate::error::{Fault, Result};

mod xli;

const DOING: &str = "reading Sierra XML";
/// The order of leads in files that do not name them.
const STANDARD: &str = "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6";
const LIMBS: [&str; 6] = ["I", "II", "III", "aVR", "aVL", "aVF"];
/// Carts record at most sixteen.
const MOST_LEADS: usize = 64;
/// Height of the calibration pulse, microvolt.
const PULSE_UV: f64 = 1000.0;

/// Whether the root element is Sierra's.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    xml::root(head).as_deref() == Some("restingecgdata")
}

/// Reads the rhythm.
///
/// # Errors
/// Where the XML is malformed, there is no rhythm, it is stored in another way than XLI, or it does not hold what it says.
pub fn open(source: Source, _options: &ReadOptions) -> Result<Recordings> {
    let record = read(&source).map_err(|e| e.in_file(source.shown()));
    Ok(Box::new(std::iter::once(Ok(record?))))
}

fn read(source: &Source) -> Result<Recording> {
    let mut file = File { id: source.stem(), ..File::default() };
    Document::read(source, DOING)?.walk(&mut file)?;
    let none = Fault::new(DOING, "the file holds no rhythm").record(&file.id).field("parsedwaveforms");
    file.rhythm.ok_or_else(|| none.into())
}

/// The file while it is read; the characteristics stand before the waveforms.
#[derive(Default)]
struct File {
    id: String,
    version: String,
    rate_hz: Option<f64>,
    uv_per_bit: Option<f64>,
    acquisition: String,
    rhythm: Option<Recording>,
}

impl Visit for File {
    fn close(&mut self, element: &Element, above: &[Element]) -> Result<()> {
        let text = element.text.trim();
        match element.name.as_str() {
            "documentversion" => {
                self.version = text.to_owned();
                demand("documentversion", &["1.03", "1.04", "1.04.01"], text)?;
            }
            "parsedwaveforms" if self.rhythm.is_none() => self.rhythm = Some(self.decode(element)?),
            _ if !xml::inside(above, "signalcharacteristics") => {}
            "samplingrate" => self.rate_hz = Some(element.number(DOING)?),
            "signalresolution" | "resolution" => self.uv_per_bit = Some(element.number(DOING)?),
            "acquisitiontype" => self.acquisition = text.to_owned(),
            "bitspersample" => demand("bitspersample", &["16"], text)?,
            "signaloffset" => demand("signaloffset", &["0"], text)?,
            "signalsigned" => demand("signalsigned", &["True", "true"], text)?,
            _ => {}
        }
        Ok(())
    }
}

/// Refuses another value than those we know.
fn demand(field: &str, known: &[&str], found: &str) -> Result<()> {
    if known.contains(&found) {
        return Ok(());
    }
    let fault = Fault::new(DOING, "this is not supported").field(field);
    Err(fault.expected(known.join(" or "), format!("{:?}", xml::shorten(found))).into())
}

/// An attribute as a number.
fn number(element: &Element, name: &str) -> Result<Option<f64>> {
    let Some(text) = element.attribute(name) else { return Ok(None) };
    let fault = || Fault::new(DOING, "").field(name).expected("a number", format!("{:?}", xml::shorten(text)));
    xml::number(text).map(Some).ok_or_else(|| fault().into())
}

impl File {
    fn decode(&self, element: &Element) -> Result<Recording> {
        let lacking = |field: &str| Fault::new(DOING, "the rhythm does not state it").field(field);
        let compression = element.attribute("compression").or(element.attribute("compressmethod"));
        demand("compression", &["XLI"], compression.unwrap_or("none"))?;
        demand("dataencoding", &["Base64"], element.attribute("dataencoding").unwrap_or("Base64"))?;
        for (field, known) in [("bitspersample", "16"), ("nbitspersample", "16"), ("signaloffset", "0")] {
            demand(field, &[known], element.attribute(field).unwrap_or(known))?;
        }
        let rate_hz = number(element, "samplespersecond")?.or(self.rate_hz).ok_or_else(|| lacking("samplingrate"))?;
        let uv = number(element, "resolution")?.or(self.uv_per_bit).filter(|uv| *uv > 0.0);
        let uv = uv.ok_or_else(|| lacking("resolution"))?;
        let duration_ms = number(element, "durationperchannel")?.ok_or_else(|| lacking("durationperchannel"))?;
        let names = self.names(element)?;
        let bytes = from_base64(&element.text).map_err(|why| {
            let fault = Fault::new(DOING, "the samples are damaged").field("parsedwaveforms");
            fault.expected("base64", why).hint("copy or export the file again")
        })?;
        let samples = duration_ms * rate_hz / 1000.0;
        let mut stored = unpack(&bytes, &names, samples)?;
        restore_limbs(&names, &mut stored);
        let mut leads = Leads::default();
        for (name, lead) in names.iter().zip(&stored) {
            leads.push(DOING, name, lead.iter().map(|&value| Ok(f64::from(value))))?;
        }
        drop(stored);
        cut_pulse(&mut leads, PULSE_UV / uv);
        leads.finish(DOING, &self.id, rate_hz, uv / 1000.0)
    }

    /// Names of the leads, one a chunk.
    fn names(&self, element: &Element) -> Result<Vec<String>> {
        let Some(labels) = element.attribute("leadlabels").filter(|labels| !labels.trim().is_empty()) else {
            let fault = Fault::new(DOING, "the file does not name its leads").field("acquisitiontype");
            return match self.acquisition.as_str() {
                "STD-12" | "10-WIRE" => Ok(STANDARD.split(' ').map(str::to_owned).collect()),
                other => Err(fault.expected("STD-12 or 10-WIRE", format!("{:?}", xml::shorten(other))).into()),
            };
        };
        let names: Vec<String> = labels.split_whitespace().map(str::to_owned).collect();
        if names.len() > MOST_LEADS {
            let fault = Fault::new(DOING, "").field("leadlabels");
            return Err(fault.expected(format!("at most {MOST_LEADS} names"), names.len()).into());
        }
        match number(element, "numberofleads")? {
            Some(count) if count != names.len() as f64 => {
                let fault = Fault::new(DOING, "").field("leadlabels");
                Err(fault.expected(format!("{count} names (numberofleads)"), names.len()).into())
            }
            _ => Ok(names),
        }
    }
}

/// The stored numbers of each lead.
fn unpack(bytes: &[u8], names: &[String], samples: f64) -> Result<Vec<Vec<i16>>> {
    let room = Leads::default().room() / names.len().max(1);
    if !(samples >= 1.0 && samples <= room as f64) {
        let fault = Fault::new(DOING, "no length of a resting ECG").field("durationperchannel");
        return Err(fault.expected(format!("1 to {room} samples a lead"), samples).into());
    }
    let samples = samples.round() as usize;
    let mut stored = Vec::new();
    let mut rest = bytes;
    for name in names {
        let damaged = |cause: &str| Fault::new(DOING, cause).field(format!("lead {name}"));
        let lead;
        (lead, rest) = xli::unpack(rest, samples).map_err(|(expected, found)| {
            let fault = damaged("the compressed samples are damaged").expected(expected, found);
            fault.hint("copy or export the file again")
        })?;
        stored.push(lead);
    }
    Ok(stored)
}

/// Turns what is left of the predicted limb leads into the leads.
fn restore_limbs(names: &[String], stored: &mut [Vec<i16>]) {
    let is_limb = |(name, limb): (&String, &str)| name.eq_ignore_ascii_case(limb);
    if names.len() < LIMBS.len() || !names.iter().zip(LIMBS).all(is_limb) {
        return; // other lead sets are stored as they are
    }
    let [one, two, three, avr, avl, avf, ..] = stored else { return };
    let cut = |value: i32| value as i16; // the encoder reckons in 16 bits
    for (k, iii) in three.iter_mut().enumerate() {
        let at = |lead: &[i16]| lead.get(k).map_or(0, |&value| i32::from(value));
        let (i, ii) = (at(one), at(two));
        *iii = cut(ii - i - i32::from(*iii));
        let iii = i32::from(*iii);
        for (lead, predicted) in [(&mut *avr, -((i + ii) / 2)), (&mut *avl, (i - iii) / 2), (&mut *avf, (ii + iii) / 2)]
        {
            if let Some(value) = lead.get_mut(k) {
                *value = cut(predicted - i32::from(*value));
            }
        }
    }
}

/// Cuts off the end in which all leads are the same and show the calibration pulse.
fn cut_pulse(leads: &mut Leads, pulse: f64) {
    let rows: Vec<&[f64]> = (0..leads.names().len()).map(|k| leads.lead(k)).collect();
    let [first, others @ ..] = rows.as_slice() else { return };
    let same = |k: &usize| others.iter().all(|lead| lead.get(*k) == first.get(*k));
    let end = (0..first.len()).rev().take_while(same).last().unwrap_or(first.len());
    if !others.is_empty() && first.get(end..).is_some_and(|tail| tail.contains(&pulse)) {
        leads.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limb_leads_follow_from_what_is_left() {
        let names: Vec<String> = STANDARD.split(' ').map(str::to_owned).collect();
        let mut stored = vec![vec![4], vec![-9], vec![1], vec![2], vec![0], vec![1]];
        restore_limbs(&names, &mut stored);
        // III = -9 - 4 - 1; aVR = -(-5)/2 - 2, cut towards zero; aVL = (4 + 14)/2; aVF = -23/2 - 1, cut towards zero
        assert_eq!(stored, [[4], [-9], [-14], [0], [9], [-12]]);
    }

    #[test]
    fn the_calibration_pulse_is_cut_off_and_nothing_else() {
        let mut leads = Leads::default();
        for head in [1.0, 2.0] {
            let samples = [head, 200.0, head, 0.0, 0.0, 200.0, 200.0, 0.0];
            leads.push(DOING, "L", samples.into_iter().map(Ok)).unwrap();
        }
        cut_pulse(&mut leads, 300.0);
        assert_eq!(leads.lead(1).len(), 8);
        cut_pulse(&mut leads, 200.0);
        assert_eq!(leads.lead(1), [2.0, 200.0, 2.0]);
    }
}
