//! EDF and EDF+, the European Data Format, and BDF, its 24-bit kin.
//!
//! ```text
//! header | data record 0: all samples of signal 0, all of signal 1, ... | data record 1 | ...
//! ```
//!
//! Samples are little-endian integers of 16 bits (BDF: 24). Value = (integer - digital minimum) * (physical range /
//! digital range) + physical minimum, in the unit of the signal. Signals in other units than volts and annotations are
//! left out. The rate is samples in a data record / its seconds. Where records are interrupted (EDF+D), the first time
//! stamp of each says when it begins, and the gap before it is NaN.
//!
//! Specifications: <https://www.edfplus.info/specs/edf.html>, <https://www.edfplus.info/specs/edfplus.html>.

use std::fs::File;
use std::io::{BufReader, Read};

use ndarray::Array2;

use super::{ReadOptions, Recordings, Source, Unit};
use crate::data::ecg::Lead;
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

mod header;

use header::{Header, Signal};

const DOING: &str = "reading EDF";
/// Values that gaps may add to a record, and more for each byte of the file.
const GAP_VALUES: usize = 1 << 21;
const GAP_VALUES_A_BYTE: usize = 4;

/// Whether a file is EDF, EDF+ or BDF.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    header::recognise(head)
}

/// Reads its one recording.
///
/// # Errors
/// Where the header is malformed, the file is shorter than it says, no signal is a voltage, or leads differ in rate.
pub fn open(source: Source, options: &ReadOptions) -> Result<Recordings> {
    let record = read(&source, options).map_err(|e| e.in_file(source.shown()));
    Ok(Box::new(std::iter::once(Ok(record?))))
}

fn read(source: &Source, options: &ReadOptions) -> Result<Recording> {
    let file = File::open(source.path()).map_err(Error::io("opening", source.shown()))?;
    let size = file.metadata().map_err(Error::io("reading", source.shown()))?.len();
    let mut file = BufReader::new(file);
    let header = read_header(&mut file, source)?;
    let chosen = choose(&header.signals, options)?;
    let records = records(&header, size)?;
    let record_bytes = record_bytes(&header);
    let (mut rows, mut begun) = (vec![Vec::new(); chosen.len()], Begun::default());
    let mut bytes = vec![0; record_bytes]; // `records` has compared it with the file
    for _ in 0..records {
        file.read_exact(&mut bytes).map_err(Error::io("reading EDF", source.shown()))?;
        if header.is_interrupted {
            begun.fill_gap(&header, &bytes, &chosen, &mut rows, size)?;
        }
        take(&header, &bytes, &chosen, &mut rows);
    }
    let leads: Vec<String> = chosen.iter().map(|c| c.name.clone()).collect();
    let samples = rows.first().map_or(0, Vec::len);
    let per_record = chosen.first().and_then(|c| header.signals.get(c.place)).map_or(0, |s| s.samples);
    let shape = (rows.len(), samples);
    let mut values = Vec::with_capacity(rows.len().saturating_mul(samples));
    rows.into_iter().for_each(|row| values.extend(row)); // frees each row as it goes
    let samples_mv = Array2::from_shape_vec(shape, values).map_err(Error::compute("stacking EDF signals"))?;
    Recording::new(source.stem(), leads, per_record as f64 / header.seconds, samples_mv)
}

fn read_header(file: &mut impl Read, source: &Source) -> Result<Header> {
    let mut bytes = Vec::new();
    let system = || Error::io("reading EDF header", source.shown());
    file.take(header::BLOCK as u64).read_to_end(&mut bytes).map_err(system())?;
    let rest = header::length(&bytes)? - header::BLOCK;
    file.take(rest as u64).read_to_end(&mut bytes).map_err(system())?;
    Header::parse(&bytes)
}

/// A signal that is kept.
struct Chosen {
    /// Its place in the header.
    place: usize,
    name: String,
    unit: Unit,
}

/// The voltages. Where standard leads are among them, those and others of their rate; they must share one rate.
fn choose(signals: &[Signal], options: &ReadOptions) -> Result<Vec<Chosen>> {
    let mut voltages = Vec::new();
    for (place, signal) in signals.iter().enumerate().filter(|(_, s)| !s.is_annotation()) {
        let name = lead_name(&signal.label);
        let unit = match signal.unit.is_empty() && Lead::parse(&name).is_some() {
            true => Some(options.unit.ok_or_else(|| {
                let fault = Fault::new(DOING, "the signal has no unit").field(&signal.label);
                fault.expected("uV, mV or V", "nothing").hint("give --units")
            })?),
            false => Unit::parse(&signal.unit),
        };
        voltages.extend(unit.map(|unit| Chosen { place, name, unit }));
    }
    if voltages.is_empty() {
        let units: Vec<&str> = signals.iter().map(|s| s.unit.as_str()).collect();
        let fault = Fault::new(DOING, "no signal is a voltage");
        return Err(fault.expected("a unit of uV, mV or V", units.join(", ")).into());
    }
    let samples = |c: &Chosen| signals.get(c.place).map_or(0, |s| s.samples);
    let is_lead = |c: &&Chosen| Lead::parse(&c.name).is_some();
    let any_lead = voltages.iter().any(|c| is_lead(&c));
    let mut deciding = voltages.iter().filter(|c| !any_lead || is_lead(c));
    let wanted = deciding.next().map_or(0, samples);
    if let Some(other) = deciding.find(|c| samples(c) != wanted) {
        let fault = Fault::new(DOING, "the leads have different sampling rates").field(&other.name);
        return Err(fault.expected(format!("{wanted} samples in a data record"), samples(other)).into());
    }
    voltages.retain(|c| signals.get(c.place).is_some_and(|s| s.samples == wanted));
    Ok(voltages)
}

/// The label without the kind of signal that EDF+ puts before it.
fn lead_name(label: &str) -> String {
    let rest = ["ECG ", "EKG "].iter().find_map(|kind| label.strip_prefix(kind));
    rest.map_or(label, str::trim).to_owned()
}

fn record_bytes(header: &Header) -> usize {
    let samples = header.signals.iter().map(|s| s.samples).fold(0usize, usize::saturating_add);
    samples.saturating_mul(header.width)
}

/// Data records in the file: what the header says, else what is there.
fn records(header: &Header, size: u64) -> Result<u64> {
    let bytes = record_bytes(header) as u64;
    let held = size.saturating_sub(header.length as u64) / bytes.max(1);
    let records = header.records.unwrap_or(held);
    if records == 0 || records > held {
        let fault = Fault::new(DOING, "the file is shorter than its header says");
        let expected = format!("{} data records of {bytes} bytes", records.max(1));
        return Err(fault.expected(expected, held).hint("copy the file again").into());
    }
    Ok(records)
}

/// The integers of the signal at `place` in a data record.
fn integers<'a>(header: &'a Header, bytes: &'a [u8], place: usize) -> impl Iterator<Item = i32> + 'a {
    let before: usize = header.signals.iter().take(place).map(|s| s.samples).sum();
    let samples = header.signals.get(place).map_or(0, |s| s.samples);
    let (start, end) = (before * header.width, (before + samples) * header.width);
    bytes.get(start..end).unwrap_or(&[]).chunks_exact(header.width).map(|sample| match *sample {
        [a, b] => i32::from(i16::from_le_bytes([a, b])),
        [a, b, c] => i32::from_le_bytes([0, a, b, c]) >> 8,
        _ => 0,
    })
}

/// Adds a data record to the rows, in mV.
fn take(header: &Header, bytes: &[u8], chosen: &[Chosen], rows: &mut [Vec<f64>]) {
    for (chosen, row) in chosen.iter().zip(rows) {
        let Some(signal) = header.signals.get(chosen.place) else { continue };
        let (step, zero) = signal.scale();
        row.extend(integers(header, bytes, chosen.place).map(|d| (f64::from(d) * step + zero) * chosen.unit.to_mv()));
    }
}

/// When interrupted records begin.
#[derive(Default)]
struct Begun {
    /// Onset of the first record, s.
    first: Option<f64>,
}

impl Begun {
    /// Fills the rows with NaN up to the onset of a data record.
    fn fill_gap(
        &mut self,
        header: &Header,
        bytes: &[u8],
        chosen: &[Chosen],
        rows: &mut [Vec<f64>],
        size: u64,
    ) -> Result<()> {
        let place = header.signals.iter().position(Signal::is_annotation);
        let onset = place.and_then(|place| onset(header, bytes, place));
        let Some(onset) = onset else {
            let fault = Fault::new(DOING, "the records are interrupted (EDF+D)").field("EDF Annotations");
            return Err(fault.expected("the time at which each data record begins", "none").into());
        };
        let first = *self.first.get_or_insert(onset);
        let per_record = chosen.first().and_then(|c| header.signals.get(c.place)).map_or(0, |s| s.samples);
        let wanted = ((onset - first) / header.seconds * per_record as f64).round();
        let held = rows.first().map_or(0, Vec::len);
        let most = (size as usize).saturating_mul(GAP_VALUES_A_BYTE).saturating_add(GAP_VALUES) / rows.len().max(1);
        if wanted < held as f64 || wanted > most as f64 {
            let fault = Fault::new(DOING, "").field("EDF Annotations");
            let at = header.seconds / per_record.max(1) as f64;
            let expected = format!("a data record that begins at {:.3} to {:.0} s", held as f64 * at, most as f64 * at);
            return Err(fault.expected(expected, format!("{:.3} s", onset - first)).into());
        }
        rows.iter_mut().for_each(|row| row.resize(wanted as usize, f64::NAN));
        Ok(())
    }
}

/// The time stamp with which a data record begins: `+12.5` before the first separator.
fn onset(header: &Header, bytes: &[u8], place: usize) -> Option<f64> {
    let before: usize = header.signals.iter().take(place).map(|s| s.samples).sum();
    let stamp = bytes.get(before * header.width..)?;
    let end = stamp.iter().position(|b| matches!(b, 0x14 | 0x15))?;
    let text = std::str::from_utf8(stamp.get(..end)?).ok()?;
    text.starts_with(['+', '-']).then(|| text.parse::<f64>().ok().filter(|t| t.is_finite()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::open_ecg;

    /// A header of these signals: label, unit, samples; digital -100 to 100 is physical -1 to 1.
    fn file(kind: &str, records: &str, signals: &[(&str, &str, &str)], data: &[i16]) -> Vec<u8> {
        let mut text = format!("{:<8}{:<160}{:<16}", "0", "", "01.01.0001.01.01");
        text += &format!("{:<8}{kind:<44}{records:<8}{:<8}{:<4}", 256 * (signals.len() + 1), "0.5", signals.len());
        let mut column = |width: usize, field: &dyn Fn(&(&str, &str, &str)) -> String| {
            signals.iter().for_each(|s| text += &format!("{:<width$}", field(s)));
        };
        column(16, &|s| s.0.into());
        column(80, &|_| String::new());
        column(8, &|s| s.1.into());
        ["-1", "1", "-100", "100"].iter().for_each(|range| column(8, &|_| (*range).into()));
        column(80, &|_| String::new());
        column(8, &|s| s.2.into());
        column(32, &|_| String::new());
        let mut bytes = text.into_bytes();
        bytes.extend(data.iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<Recording> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.edf");
        std::fs::write(&path, bytes).unwrap();
        let (name, mut records) = open_ecg(Source::open(&path)?, &ReadOptions::default())?;
        assert_eq!(name, "EDF");
        records.next().unwrap()
    }

    /// The two samples of an annotation that say when a record begins.
    fn at(second: u8) -> [i16; 2] {
        [i16::from_le_bytes([b'+', b'0' + second]), i16::from_le_bytes([0x14, 0])]
    }

    #[test]
    fn reads_the_voltages_of_each_data_record() {
        let signals = [("ECG II", "mV", "2"), ("SpO2", "%", "1"), ("EKG V1", "uV", "2")];
        let record = read_bytes(&file("", "2", &signals, &[1, 2, 9, 10, 20, 3, 4, 9, 30, 40])).unwrap();
        assert_eq!((record.id.as_str(), record.rate_hz, record.leads.join(" ")), ("p", 4.0, "II V1".to_owned()));
        let near = |row: usize, expected: [f64; 4]| {
            record.samples_mv.row(row).iter().zip(expected).all(|(found, value)| (found - value).abs() < 1e-12)
        };
        assert!(near(0, [0.01, 0.02, 0.03, 0.04]), "{}", record.samples_mv);
        assert!(near(1, [1e-4, 2e-4, 3e-4, 4e-4]), "{}", record.samples_mv);
        let unknown = read_bytes(&file("", "-1", &signals, &[0; 12])).unwrap();
        assert_eq!(unknown.samples_mv.dim(), (2, 4));
    }

    #[test]
    fn gaps_between_interrupted_records_are_unknown() {
        let signals = [("I", "mV", "2"), ("EDF Annotations", "", "2")];
        let data = [[1, 2], at(3), [3, 4], at(5)].concat();
        let record = read_bytes(&file("EDF+D", "2", &signals, &data)).unwrap();
        let row = record.samples_mv.row(0).to_vec();
        assert_eq!(row.len(), 10);
        assert!(row[2..8].iter().all(|v| v.is_nan()) && (row[9] - 0.04).abs() < 1e-12, "{row:?}");
        let back = [[1, 2], at(3), [3, 4], at(3)].concat();
        let error = read_bytes(&file("EDF+D", "2", &signals, &back)).unwrap_err().to_string();
        assert!(error.contains("begins at 0.500") && error.contains("found 0.000 s"), "{error}");
        let error = read_bytes(&file("EDF+D", "1", &signals, &[1, 2, 3, 4])).unwrap_err().to_string();
        assert!(error.contains("expected the time at which each data record begins"), "{error}");
    }

    #[test]
    fn a_gap_that_takes_far_more_memory_than_the_file_is_refused() {
        let signals = [("I", "mV", "2"), ("EDF Annotations", "", "5")];
        let stamp =
            |text: &[u8; 10]| -> Vec<i16> { text.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect() };
        let data = [vec![1, 2], stamp(b"+0\x14\0\0\0\0\0\0\0"), vec![3, 4], stamp(b"+700000.5\x14")].concat();
        let error = read_bytes(&file("EDF+D", "2", &signals, &data)).unwrap_err().to_string();
        assert!(
            error.contains("a data record that begins at 0.500 to 525084 s") && error.contains("found 700000.500 s"),
            "{error}"
        );
    }

    #[test]
    fn refuses_with_what_was_expected_and_found() {
        let error = |bytes: &[u8]| read_bytes(bytes).unwrap_err().to_string();
        let one = [("I", "mV", "2")];
        let good = file("", "2", &one, &[1, 2, 3, 4]);
        assert!(error(&good[..good.len() - 1]).contains("expected 2 data records of 4 bytes, found 1"));
        assert!(error(&good[..300]).contains("the file ends within its header"));
        assert!(error(&file("", "two", &one, &[1, 2])).contains("number of data records: expected a number"));
        assert!(error(&file("", "0", &one, &[1, 2])).contains("shorter than its header says"));
        assert!(error(&file("", "99999999", &one, &[1, 2])).contains("expected 99999999 data records"));
        assert!(error(&file("", "1", &[("I", "mV", "0")], &[1, 2])).contains("expected 1 or more, found 0"));
        assert!(
            error(&file("", "1", &[("I", "mV", "2"), ("II", "mV", "1")], &[1, 2, 3])).contains("different sampling")
        );
        assert!(error(&file("", "1", &[("Resp", "Ohm", "2")], &[1, 2])).contains("no signal is a voltage"));
        assert!(error(&file("", "1", &[("V1", "", "2")], &[1, 2])).contains("the signal has no unit"));
        let flat = String::from_utf8(file("", "1", &one, &[])).unwrap().replacen("-100", "100 ", 1);
        assert!(error(flat.as_bytes()).contains("minima unlike maxima"));
    }
}
