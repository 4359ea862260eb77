//! ECGs as HDF5: `/ecg`, `/r_peak`, `/heart_rate`, `/quality/...`.

use std::collections::HashSet;
use std::path::Path;

use hdf5::Dataset;
use ndarray::{Array1, Array2};

use super::chunk::{load, Chunk, Packing};
use super::{array, format, reader::shape, Noun, Reader, Records, Writer};
use crate::data::ecg::{Ecg, Lead, Quality, Verdict, LEADS};
use crate::data::recording::Recording;
use crate::data::Provenance;
use crate::error::{Fault, Result};
use crate::io::ordered::Queue;
use crate::io::{unstated, ReadOptions, Recordings, Sink, Source, Unit};

/// Between the reasons of a record in `/quality/reason`.
const REASON_BREAK: &str = "; ";
/// Bytes of unpacked records that wait.
const READ_AHEAD: usize = 32 << 20;

/// Reads `/ecg` of any rate and length as recordings, for `ecg-prep`; attributes `fs` and `lead` are obeyed. A file
/// that lacks `/ecg` or `/id`, or of which `--dataset` names another array, is read by `array.rs`.
///
/// # Errors
/// Where the file is malformed.
pub fn open_ecg(source: Source, options: &ReadOptions) -> Result<Recordings> {
    if options.dataset.is_some() || options.layout.is_some() || array::is_foreign(&source) {
        return array::open(source, options);
    }
    let reader = Reader::open(source, format::ECG)?;
    let ecg = reader.dataset("ecg", 2)?;
    let rows = ecg.shape().get(1).copied().unwrap_or(0);
    let stated = reader.number("fs", None).or_else(|| reader.number("fs", Some(&ecg)));
    let in_file = |e: crate::Error| e.in_file(reader.shown());
    let Some(rate_hz) = unstated::stated_rate_hz(stated, options.rate_hz).map_err(in_file)? else {
        let fault = reader.fault("").field("fs").expected("samples a second", "no attribute");
        return Err(fault.hint("give --rate").into());
    };
    let named = |on: Option<&Dataset>| reader.text("lead", on).map(|t| split_leads(&t));
    let stated = named(None).or_else(|| named(Some(&ecg)));
    let leads = unstated::stated_leads(stated, options.leads.as_deref()).map_err(in_file)?;
    let leads = leads.unwrap_or_else(|| Lead::ALL.iter().map(|l| l.name().to_owned()).collect());
    if leads.len() != rows {
        let fault = reader.fault("").field("/ecg").expected(format!("{} leads", leads.len()), rows);
        return Err(fault.hint("the record axis comes first, then the leads; name them with --leads").into());
    }
    if reader.text("format", None).is_some() {
        in_mv(&reader)?;
    }
    let to_mv = unit(&reader, &ecg, options.unit).map_err(in_file)?.to_mv();
    let packing = Packing::of(&ecg);
    let (reading, next) = (Queue::new(READ_AHEAD), 0);
    Ok(Box::new(Ahead { reader, ecg, packing, leads, rate_hz, to_mv, reading, next }))
}

/// Records of `/ecg`, unpacked by all threads where the library gives the chunks as they are stored.
struct Ahead {
    reader: Reader,
    ecg: Dataset,
    packing: Option<Packing>,
    leads: Vec<String>,
    rate_hz: f64,
    to_mv: f64,
    reading: Queue<Read>,
    next: usize,
}

/// A record's number, id and samples.
type Read = (usize, Result<String>, Samples);

enum Samples {
    Read(Array2<f64>),
    /// The library must read them.
    ByLibrary,
    Damaged,
}

impl Ahead {
    /// Hands out what comes next, as long as there is room.
    fn fill(&mut self) {
        while self.next < self.reader.records() && self.reading.has_room() {
            let (i, shape) = (self.next, self.ecg.shape());
            let (id, packing) = (self.reader.id(i), self.packing);
            let chunk = packing.map_or(Chunk::Absent, |packing| load(&self.ecg, packing, i, self.reader.bytes()));
            let to_mv = self.to_mv;
            let size = shape.iter().skip(1).fold(size_of::<f64>(), |n, d| n.saturating_mul(*d));
            self.reading.push(size, move || {
                let values = match (packing, chunk) {
                    (Some(packing), Chunk::Stored(stored, mask)) => packing.unpack(&stored, mask),
                    (_, Chunk::Damaged) => None,
                    _ => return (i, id, Samples::ByLibrary),
                };
                let (rows, samples) = (shape.get(1).copied().unwrap_or(0), shape.get(2).copied().unwrap_or(0));
                let samples = values.and_then(|values| Array2::from_shape_vec((rows, samples), values).ok());
                (i, id, samples.map_or(Samples::Damaged, |samples| Samples::Read(scaled(samples, to_mv))))
            });
            self.next += 1;
        }
    }

    fn record(&self, (i, id, samples): Read) -> Result<Recording> {
        let id = id?;
        let samples = match samples {
            Samples::Read(samples) => samples,
            Samples::ByLibrary => scaled(self.reader.array(&self.ecg, i)?, self.to_mv),
            Samples::Damaged => {
                let fault = self.reader.fault("").record(id).field("/ecg");
                let expected = format!("a chunk of {} samples", shape(self.ecg.shape().get(1..).unwrap_or_default()));
                return Err(fault.expected(expected, "damaged bytes").hint("copy the file again").into());
            }
        };
        Recording::new(id, self.leads.clone(), self.rate_hz, samples).map_err(|e| e.in_file(self.reader.shown()))
    }
}

impl Iterator for Ahead {
    type Item = Result<Recording>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill();
        let read = self.reading.pop()?;
        Some(read.and_then(|read| self.record(read)))
    }
}

fn scaled(mut samples: Array2<f64>, to_mv: f64) -> Array2<f64> {
    if to_mv != 1.0 {
        samples *= to_mv;
    }
    samples
}

/// Ours are in mV; files that only look like ours may say what they are in.
fn unit(reader: &Reader, ecg: &Dataset, given: Option<Unit>) -> Result<Unit> {
    if reader.text("format", None).is_some() {
        return Ok(Unit::Millivolt);
    }
    let stated = |on: Option<&Dataset>| array::UNIT_NAMES.iter().find_map(|name| reader.text(name, on));
    let stated = stated(Some(ecg)).or_else(|| stated(None));
    Ok(unstated::stated_unit(stated.as_deref(), given)?.unwrap_or(Unit::Millivolt))
}

/// Refuses what `ecg-prep` standardised. A file that says no unit holds mV.
fn in_mv(reader: &Reader) -> Result<()> {
    match reader.text("unit", None) {
        Some(unit) if unit != "mV" => Err(unstated::not_mv(reader.fault(""), &unit).into()),
        _ => Ok(()),
    }
}

pub(super) fn split_leads(text: &str) -> Vec<String> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

/// Samples a second, an attribute of the root or of `/ecg`.
fn rate_hz(reader: &Reader, ecg: &Dataset) -> Result<f64> {
    let found = reader.number("fs", None).or_else(|| reader.number("fs", Some(ecg)));
    found.ok_or_else(|| {
        let fault = reader.fault("").field("fs").expected("samples a second", "no attribute");
        fault.hint("run it through ecg-prep --rate HZ").into()
    })
}

/// Prepared ECGs from a file, one by one: what `ecg-prep` wrote, with a rate and twelve leads in the standard order.
pub type EcgReader = Records<Ecg>;

impl Noun for Ecg {
    const FORMAT: &'static str = format::ECG;
    const DATASET: &'static str = "ecg";
    const RANK: usize = 2;

    fn check(reader: &Reader, ecg: &Dataset) -> Result<()> {
        if ecg.shape().get(1) != Some(&LEADS) {
            let expected = format!("{} x {LEADS} leads x samples", reader.records());
            return Err(reader.fault("").field("/ecg").expected(expected, shape(&ecg.shape())).into());
        }
        rate_hz(reader, ecg)?;
        in_mv(reader)?;
        let leads = reader.text("lead", None).map(|t| split_leads(&t)).unwrap_or_default();
        let standard = |(name, lead): (&String, Lead)| Lead::parse(name) == Some(lead);
        let in_order = leads.len() == LEADS && leads.iter().zip(Lead::ALL).all(standard);
        if !leads.is_empty() && !in_order {
            let expected = Lead::ALL.map(Lead::name).join(",");
            let fault = reader.fault("").field("lead").expected(expected, leads.join(","));
            return Err(fault.hint("run it through ecg-prep").into());
        }
        Ok(())
    }

    fn read(reader: &mut Reader, main: &Dataset, i: usize) -> Result<Self> {
        let id = reader.id(i)?;
        let samples_mv: Array2<f32> = reader.array(main, i)?;
        let peaks = match reader.has("r_peak") {
            true => reader.array::<i32, _>(&reader.dataset("r_peak", 1)?, i)?,
            false => Array1::from(vec![]),
        };
        let mut flat = [false; LEADS];
        if reader.has("quality/flat") {
            let found: Array1<u8> = reader.array(&reader.dataset("quality/flat", 1)?, i)?;
            flat.iter_mut().zip(found).for_each(|(flat, value)| *flat = value != 0);
        }
        let said = |name: &str| reader.string(name, i).unwrap_or_default();
        let verdict = Verdict::parse(&said("quality/verdict")).unwrap_or_default();
        let reasons = said("quality/reason");
        let reasons = reasons.split(REASON_BREAK).filter(|r| !r.is_empty()).map(str::to_owned).collect();
        let quality = Quality {
            flat,
            verdict,
            reasons,
            einthoven_mv: reader.scalar("quality/einthoven_mv", i)?,
            rr_sd_ms: reader.scalar("quality/rr_sd_ms", i)?,
        };
        let heart_rate = reader.scalar("heart_rate", i)?;
        let r_peak = peaks.iter().copied().filter(|p| *p >= 0).collect();
        let ecg = Ecg { id, rate_hz: rate_hz(reader, main)?, samples_mv, r_peak, heart_rate, quality };
        ecg.check().map_err(|e| e.in_file(reader.shown()))?;
        Ok(ecg)
    }
}

/// Prepared ECGs into a file.
pub struct EcgWriter {
    writer: Writer,
    seen: HashSet<String>,
}

impl EcgWriter {
    /// Begins the file; the preset's name and its steps are written beside the samples.
    ///
    /// # Errors
    /// Where the output cannot be begun.
    pub fn begin(
        path: &Path,
        provenance: &Provenance,
        rate_hz: f64,
        preset: &str,
        steps: &[String],
    ) -> Result<EcgWriter> {
        let writer = Writer::begin(path, format::ECG, provenance)?;
        writer.number_attribute("fs", rate_hz)?;
        writer.text_attribute("lead", &Lead::ALL.map(Lead::name).join(","))?;
        writer.text_attribute("preset", preset)?;
        writer.text_attribute("steps", &steps.join("\n"))?;
        Ok(EcgWriter { writer, seen: HashSet::new() })
    }

    /// States the unit of the samples: `mV`, or `sd` where the leads were standardised.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn unit(&self, unit: &str) -> Result<()> {
        self.writer.text_attribute("unit", unit)
    }

    /// Adds the origin of an input to the provenance.
    pub fn after(&mut self, input: &Provenance) {
        self.writer.after(input);
    }
}

impl Sink<Ecg> for EcgWriter {
    fn put(&mut self, ecg: &Ecg) -> Result<()> {
        if !self.seen.insert(ecg.id.clone()) {
            let fault = Fault::new("writing ECG", "").record(&ecg.id).field("/id");
            let hint = "records are named after their files: rename one, or give ids in a manifest (--from-list)";
            return Err(fault.expected("unique names", "the same name again").hint(hint).into());
        }
        let writer = &mut self.writer;
        writer.array("ecg", ecg.samples_mv.view())?;
        writer.text("id", &ecg.id);
        writer.ragged("r_peak", &ecg.r_peak);
        writer.f32("heart_rate", ecg.heart_rate);
        writer.bytes("quality/flat", &ecg.quality.flat.map(u8::from));
        writer.f32("quality/einthoven_mv", ecg.quality.einthoven_mv);
        writer.f32("quality/rr_sd_ms", ecg.quality.rr_sd_ms);
        writer.text("quality/verdict", ecg.quality.verdict.name());
        writer.text("quality/reason", &ecg.quality.reasons.join(REASON_BREAK));
        writer.end_record()
    }

    fn finish(self) -> Result<()> {
        self.writer.finish()
    }
}
