//! WFDB, the format of PhysioNet: a text header (`.hea`) that says what stands in one or more signal files.
//!
//! ```text
//! record.hea            record.dat, one file per group of signals
//! name nsig rate nsamp  frame 0: signal 0, signal 1, ...; frame 1: ...   (integers, interleaved)
//! file format gain ...
//! ```
//!
//! Value in mV = (integer - baseline) / gain * unit. Signals in other units than uV, mV or V (pressure, respiration)
//! are left out. A skewed signal is moved earlier by its skew; where nothing is left to move, and where the file marks
//! a sample as invalid, the value is NaN. The 16-bit checksum of each signal is verified where the header gives one.
//! Multi-segment records and compressed formats are refused by name. No size is believed before it has been compared
//! with the size of the signal file.
//!
//! Specification: `header(5)` and `signal(5)` of the WFDB applications guide, <https://physionet.org/physiotools/wag/>.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::{ReadOptions, Recordings, Source, Unit};
use crate::data::ecg::Lead;
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

mod header;
mod sample;

use header::{Header, Signal};
use sample::Format;

/// A header longer than this is no header.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// Whether this is the header of a WFDB record, or a signal file (`.dat`, `.mat`) that has its header beside it.
pub fn recognise(head: &[u8], name: &str) -> bool {
    let path = Path::new(name);
    match path.extension().and_then(|e| e.to_str()) {
        Some(e) if e.eq_ignore_ascii_case("hea") => true,
        Some("dat" | "mat") => path.with_extension("hea").is_file(),
        _ => header::looks_like_header(head),
    }
}

/// Reads the one record that the header describes.
///
/// # Errors
/// Where the header is malformed or asks for what is not supported (segments, formats), where a signal file is
/// absent, shorter than the header says or fails its checksum, and where no signal is a voltage.
pub fn open(source: Source, _options: &ReadOptions) -> Result<Recordings> {
    if source._spool.is_some() {
        let fault = Fault::new("reading WFDB record", "a header without its signal files").file(source.shown());
        return Err(fault.hint("a pipe carries one file: name the .hea file instead").into());
    }
    let record = read(&header_path(source.path())).map_err(|e| e.in_file(source.shown()));
    Ok(Box::new(std::iter::once(Ok(record?))))
}

/// The header that belongs to a path: itself, or the `.hea` beside a signal file.
fn header_path(path: &Path) -> PathBuf {
    match path.extension().and_then(|e| e.to_str()) {
        Some("dat" | "mat") => path.with_extension("hea"),
        _ => path.to_owned(),
    }
}

fn read(path: &Path) -> Result<Recording> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(Error::io("opening WFDB header", path))?;
    file.take(MAX_HEADER_BYTES + 1).read_to_end(&mut text).map_err(Error::io("reading WFDB header", path))?;
    if text.len() as u64 > MAX_HEADER_BYTES {
        let fault = Fault::new("reading WFDB header", "this is no header").file(path);
        return Err(fault.expected(format!("at most {MAX_HEADER_BYTES} bytes"), "more").into());
    }
    let header = Header::parse(&String::from_utf8_lossy(&text)).map_err(|e| e.in_file(path))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    assemble(&header, folder).map_err(|e| e.in_file(path).in_record(&header.name))
}

/// Decodes every signal file of the record and keeps the voltages.
fn assemble(header: &Header, folder: &Path) -> Result<Recording> {
    let kept = choose(&header.signals)?;
    let groups = group(header, folder)?;
    let frames = match header.frames {
        Some(frames) => frames,
        None => groups.iter().map(Group::frames).min().unwrap_or(0),
    };
    if frames == 0 {
        return Err(Fault::new("reading WFDB record", "the record has no samples").into());
    }
    for group in &groups {
        group.check(frames)?; // before anything is allocated
    }
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); header.signals.len()];
    for group in &groups {
        group.decode(frames, &mut rows)?;
    }
    let per_frame = kept.first().and_then(|&k| header.signals.get(k)).map_or(1, |s| s.per_frame);
    let (mut leads, mut values) = (Vec::new(), Vec::new());
    for &k in &kept {
        if let (Some(signal), Some(row)) = (header.signals.get(k), rows.get_mut(k)) {
            leads.push(signal.name.clone());
            values.extend(std::mem::take(row)); // frees each row as it goes
        }
    }
    let shape = (leads.len(), values.len() / leads.len().max(1));
    let samples_mv = Array2::from_shape_vec(shape, values).map_err(Error::compute("stacking WFDB signals"))?;
    Recording::new(&header.name, leads, header.rate_hz * per_frame as f64, samples_mv)
}

/// The signals to keep: voltages of one rate. Where standard ECG leads are among them, their rate decides and
/// voltages of another rate are left out; otherwise all voltages must agree.
fn choose(signals: &[Signal]) -> Result<Vec<usize>> {
    let fault = |cause: &str| Fault::new("reading WFDB record", cause);
    let voltage = |s: &Signal| Unit::parse(&s.unit).is_some();
    if !signals.iter().any(voltage) {
        let units: Vec<&str> = signals.iter().map(|s| s.unit.as_str()).collect();
        return Err(fault("no signal is a voltage").expected("a unit of uV, mV or V", units.join(", ")).into());
    }
    let is_lead = |s: &&Signal| voltage(s) && Lead::parse(&s.name).is_some();
    let deciding: Vec<&Signal> = match signals.iter().any(|s| is_lead(&s)) {
        true => signals.iter().filter(is_lead).collect(),
        false => signals.iter().filter(|s| voltage(s)).collect(),
    };
    let per_frame = deciding.first().map_or(1, |s| s.per_frame);
    if let Some(other) = deciding.iter().find(|s| s.per_frame != per_frame) {
        let found = format!("{} samples a frame for signal {}", other.per_frame, other.name);
        let fault =
            fault("the leads have different sampling rates").expected(format!("{per_frame} samples a frame"), found);
        return Err(fault
            .hint("bring the signals to one rate first, for example with `xform` of the WFDB tools")
            .into());
    }
    let keep = |s: &Signal| voltage(s) && s.per_frame == per_frame;
    Ok((0..signals.len()).filter(|&k| signals.get(k).is_some_and(keep)).collect())
}

/// The signals of one file.
struct Group<'a> {
    path: PathBuf,
    format: Format,
    offset: u64,
    /// Size of the file, bytes.
    size: u64,
    /// Samples of all its signals in one frame.
    width: u64,
    /// The signals, with their places in the header.
    signals: Vec<(usize, &'a Signal)>,
}

fn group<'a>(header: &'a Header, folder: &Path) -> Result<Vec<Group<'a>>> {
    let mut groups: Vec<Group> = Vec::new();
    for (k, signal) in header.signals.iter().enumerate() {
        let path = folder.join(&signal.file);
        if let Some(group) = groups.iter_mut().find(|g| g.path == path) {
            if (group.format, group.offset) != (signal.format, signal.offset) {
                let fault = Fault::new("reading WFDB header", "one signal file, two formats").field(&signal.name);
                return Err(fault.expected(group.format.code(), signal.format.code()).into());
            }
            group.width = group.width.saturating_add(signal.per_frame);
            group.signals.push((k, signal));
            continue;
        }
        let size = std::fs::metadata(&path).map_err(|source| absent(&path, signal, source))?.len();
        let (format, offset, width) = (signal.format, signal.offset, signal.per_frame);
        groups.push(Group { path, format, offset, size, width, signals: vec![(k, signal)] });
    }
    Ok(groups)
}

fn absent(path: &Path, signal: &Signal, source: std::io::Error) -> Error {
    if source.kind() != std::io::ErrorKind::NotFound {
        return Error::io("opening WFDB signal file", path)(source);
    }
    let fault = Fault::new("reading WFDB record", "the signal file is absent").file(path).field(&signal.name);
    fault.hint(format!("put {} into the folder of the header", signal.file)).into()
}

impl Group<'_> {
    /// Complete frames in the file.
    fn frames(&self) -> u64 {
        self.format.samples_in(self.size.saturating_sub(self.offset)) / self.width.max(1)
    }

    /// Whether the file holds that many frames.
    fn check(&self, frames: u64) -> Result<()> {
        let bytes = frames.checked_mul(self.width).and_then(|n| self.format.bytes_for(n));
        let needed = bytes.and_then(|b| b.checked_add(self.offset));
        if needed.is_some_and(|n| n <= self.size && usize::try_from(n).is_ok()) {
            return Ok(());
        }
        let claim = format!("{frames} frames of {} samples in format {}", self.width, self.format.code());
        let expected = needed.map_or(format!("over 2^64 bytes ({claim})"), |n| format!("{n} bytes ({claim})"));
        let fault = Fault::new("reading WFDB signal file", "the file is shorter than its header says").file(&self.path);
        Err(fault.expected(expected, format!("{} bytes", self.size)).hint("copy the record again").into())
    }

    /// Decodes all signals into `rows`, in mV; those that are no voltage stay empty.
    fn decode(&self, frames: u64, rows: &mut [Vec<f64>]) -> Result<()> {
        let bytes = self.bytes(frames)?;
        let (frames, width) = (frames as usize, self.width as usize); // `check` has compared both with the file
        let mut first = 0;
        for &(k, signal) in &self.signals {
            let per_frame = signal.per_frame as usize;
            let places = (0..frames).flat_map(|f| (0..per_frame).map(move |s| f * width + first + s));
            let raw = places.map(|place| self.format.at(&bytes, place).unwrap_or(self.format.invalid()));
            let mut sum: u16 = 0;
            let mut row = Vec::with_capacity(frames * per_frame);
            let scale = Unit::parse(&signal.unit).map(|u| u.to_mv() / signal.gain);
            for value in raw {
                sum = sum.wrapping_add(value as u16);
                if let Some(scale) = scale {
                    let valid = value != self.format.invalid();
                    row.push(if valid { (f64::from(value) - signal.baseline) * scale } else { f64::NAN });
                }
            }
            self.verify(signal, sum)?;
            advance(&mut row, signal.skew, signal.per_frame);
            if let Some(place) = rows.get_mut(k) {
                *place = row;
            }
            first += per_frame;
        }
        Ok(())
    }

    fn bytes(&self, frames: u64) -> Result<Vec<u8>> {
        let doing = "reading WFDB signal file";
        let mut file = File::open(&self.path).map_err(Error::io(doing, &self.path))?;
        file.seek(SeekFrom::Start(self.offset)).map_err(Error::io(doing, &self.path))?;
        let length = self.format.bytes_for(frames.saturating_mul(self.width)).unwrap_or(0);
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).map_err(Error::io(doing, &self.path))?;
        Ok(bytes)
    }

    fn verify(&self, signal: &Signal, sum: u16) -> Result<()> {
        match signal.checksum {
            Some(expected) if expected != sum => {
                let fault = Fault::new("reading WFDB signal file", "the checksum does not match").file(&self.path);
                let fault = fault.field(&signal.name).expected(expected as i16, sum as i16);
                Err(fault.hint("header and signal file do not belong together or are damaged: copy both again").into())
            }
            _ => Ok(()),
        }
    }
}

/// Moves a row earlier by `skew` frames; what is left at the end is unknown.
fn advance(row: &mut [f64], skew: u64, per_frame: u64) {
    let shift = usize::try_from(skew.saturating_mul(per_frame)).unwrap_or(usize::MAX).min(row.len());
    row.rotate_left(shift);
    let kept = row.len() - shift;
    row.iter_mut().skip(kept).for_each(|v| *v = f64::NAN);
}

#[cfg(test)]
mod tests;
