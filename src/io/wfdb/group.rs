//! The signals of one signal file: whether the file can hold them, and their values in mV.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use claxon::{FlacReader, FlacReaderOptions};

use super::header::{Header, Signal};
use super::sample::Format;
use crate::error::{Error, Fault, Result};
use crate::io::Unit;

const DOING: &str = "reading WFDB signal file";
/// Most samples a compressed file may unfold to; its size sets no limit.
const UNFOLDED: u64 = 1 << 26;

/// The signals of one file.
pub(super) struct Group<'a> {
    pub(super) path: PathBuf,
    format: Format,
    offset: u64,
    /// Size of the file, bytes.
    pub(super) size: u64,
    /// Samples of all its signals in one frame.
    width: u64,
    /// The signals, with their places in the header.
    signals: Vec<(usize, &'a Signal)>,
}

/// The samples of a file, in frame order.
enum Stored {
    Bytes(Vec<u8>),
    Integers(Vec<i32>),
}

/// Sorts the signals of a header by file.
pub(super) fn group<'a>(header: &'a Header, folder: &Path) -> Result<Vec<Group<'a>>> {
    let mut groups: Vec<Group> = Vec::new();
    for (k, signal) in header.signals.iter().enumerate().filter(|(_, s)| s.format != Format::Null) {
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
    fn fault(&self, cause: &str) -> Fault {
        Fault::new(DOING, cause).file(&self.path)
    }

    /// Complete frames in the file; none where it is compressed and does not say.
    pub(super) fn frames(&self) -> Result<Option<u64>> {
        if self.format.is_compressed() {
            let total = self.flac()?.streaminfo().samples;
            let each = self.per_channel()?;
            return Ok(total.map(|n| n.saturating_sub(self.offset) / each));
        }
        Ok(Some(self.format.samples_in(self.size.saturating_sub(self.offset)) / self.width.max(1)))
    }

    /// Whether the file can hold that many frames.
    pub(super) fn check(&self, frames: u64) -> Result<()> {
        let samples = frames.checked_mul(self.width);
        if self.format.is_compressed() {
            if samples.is_some_and(|n| n <= UNFOLDED) {
                return Ok(());
            }
            let fault = self.fault("a compressed signal file unfolds to too many samples");
            let fault = fault.expected(format!("at most {UNFOLDED} samples"), format!("{frames} x {}", self.width));
            return Err(fault
                .hint("cut the record into pieces first, for example with `xform` of the WFDB tools")
                .into());
        }
        let bytes = samples.and_then(|n| self.format.bytes_for(n));
        let needed = bytes.and_then(|b| b.checked_add(self.offset));
        if needed.is_some_and(|n| n <= self.size && usize::try_from(n).is_ok()) {
            return Ok(());
        }
        let claim = format!("{frames} frames of {} samples in format {}", self.width, self.format.code());
        let expected = needed.map_or(format!("over 2^64 bytes ({claim})"), |n| format!("{n} bytes ({claim})"));
        let fault = self.fault("the file is shorter than its header says");
        Err(fault.expected(expected, format!("{} bytes", self.size)).hint("copy the record again").into())
    }

    /// Decodes all signals into `rows`, in mV; those that are no voltage stay empty.
    pub(super) fn decode(&self, frames: u64, rows: &mut [Vec<f64>]) -> Result<()> {
        let stored = match self.format.is_compressed() {
            true => Stored::Integers(self.unfold(frames)?),
            false => Stored::Bytes(self.bytes(frames)?),
        };
        let (frames, width) = (frames as usize, self.width as usize); // `check` has compared both with the file
        let mut first = 0;
        for &(k, signal) in &self.signals {
            let per_frame = signal.per_frame as usize;
            let places = (0..frames).flat_map(|f| (0..per_frame).map(move |s| f * width + first + s));
            let row = self.decode_signal(signal, &stored, places, frames * per_frame)?;
            if let Some(place) = rows.get_mut(k) {
                *place = row;
            }
            first += per_frame;
        }
        Ok(())
    }

    /// One signal, whose samples lie at `places`; its checksum is verified.
    fn decode_signal(
        &self,
        signal: &Signal,
        stored: &Stored,
        places: impl Iterator<Item = usize>,
        length: usize,
    ) -> Result<Vec<f64>> {
        let invalid = self.format.invalid();
        let mut sum: u16 = 0;
        let mut level = signal.first as i32; // format 8 only
        let scale = Unit::parse(&signal.unit).map(|u| u.to_mv() / signal.gain);
        let mut row = Vec::with_capacity(if scale.is_some() { length } else { 0 });
        for place in places {
            let value = match stored {
                Stored::Bytes(bytes) => self.format.at(bytes, place),
                Stored::Integers(integers) => integers.get(place).copied(),
            };
            let value = match self.format {
                Format::F8 => {
                    level = level.wrapping_add(value.unwrap_or(0));
                    level
                }
                _ => value.or(invalid).unwrap_or(0),
            };
            sum = sum.wrapping_add(value as u16);
            if let Some(scale) = scale {
                let valid = Some(value) != invalid;
                row.push(if valid { (f64::from(value) - signal.baseline) * scale } else { f64::NAN });
            }
        }
        self.verify(signal, sum)?;
        advance(&mut row, signal.skew, signal.per_frame);
        Ok(row)
    }

    fn bytes(&self, frames: u64) -> Result<Vec<u8>> {
        let mut file = File::open(&self.path).map_err(Error::io(DOING, &self.path))?;
        file.seek(SeekFrom::Start(self.offset)).map_err(Error::io(DOING, &self.path))?;
        let length = self.format.bytes_for(frames.saturating_mul(self.width)).unwrap_or(0);
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).map_err(Error::io(DOING, &self.path))?;
        Ok(bytes)
    }

    fn flac(&self) -> Result<FlacReader<BufReader<File>>> {
        let file = File::open(&self.path).map_err(Error::io(DOING, &self.path))?;
        let options = FlacReaderOptions { metadata_only: false, read_vorbis_comment: false };
        let reader = FlacReader::new_ext(BufReader::new(file), options).map_err(|e| self.damaged(&e.to_string()))?;
        let (bits, most) = (reader.streaminfo().bits_per_sample, self.format.code() - 500);
        if bits > most {
            let fault = self.fault("the FLAC stream is too fine for its format");
            return Err(fault.expected(format!("at most {most} bits"), bits).into());
        }
        Ok(reader)
    }

    fn damaged(&self, said: &str) -> Error {
        let fault = self.fault("malformed FLAC stream").expected("a FLAC stream", said);
        fault.hint("copy the record again").into()
    }

    /// Samples a frame, which all channels of a FLAC stream share.
    fn per_channel(&self) -> Result<u64> {
        let each = self.signals.first().map_or(1, |(_, s)| s.per_frame);
        match self.signals.iter().find(|(_, s)| s.per_frame != each) {
            None => Ok(each),
            Some((_, other)) => {
                let fault = self.fault("the signals of a compressed file must share one rate").field(&other.name);
                Err(fault.expected(format!("{each} samples a frame"), other.per_frame).into())
            }
        }
    }

    /// The samples of a FLAC stream, brought from time order into frame order.
    fn unfold(&self, frames: u64) -> Result<Vec<i32>> {
        let mut reader = self.flac()?;
        let each = self.per_channel()? as usize;
        let channels = self.signals.len();
        self.check_channels(reader.streaminfo().channels)?;
        let mut skip = u32::try_from(self.offset).unwrap_or(u32::MAX);
        let wanted = (frames * self.width) as usize; // `check` has bounded it
        let (mut flat, mut buffer): (Vec<i32>, Vec<i32>) = (Vec::new(), Vec::new());
        let mut blocks = reader.blocks();
        while flat.len() < wanted {
            let block = blocks.read_next_or_eof(buffer).map_err(|e| self.damaged(&e.to_string()))?;
            let Some(block) = block else {
                let (held, wanted) = (flat.len() / channels.max(1), wanted / channels.max(1));
                let fault = self.fault("the file is shorter than its header says");
                return Err(fault.expected(format!("{wanted} samples a signal"), held).into());
            };
            self.check_channels(block.channels())?;
            for time in skip.min(block.duration())..block.duration() {
                flat.extend((0..block.channels()).map(|channel| block.sample(channel, time)));
            }
            skip -= skip.min(block.duration());
            buffer = block.into_buffer();
        }
        flat.truncate(wanted);
        if each == 1 {
            return Ok(flat);
        }
        let frame = |f: &[i32]| -> Vec<i32> {
            (0..channels).flat_map(|c| (0..each).filter_map(move |s| f.get(s * channels + c).copied())).collect()
        };
        Ok(flat.chunks(each * channels).flat_map(frame).collect())
    }

    fn check_channels(&self, channels: u32) -> Result<()> {
        if channels as usize == self.signals.len() {
            return Ok(());
        }
        let fault = self.fault("the FLAC stream has another number of channels than the header");
        Err(fault.expected(format!("{} channels", self.signals.len()), channels).into())
    }

    fn verify(&self, signal: &Signal, sum: u16) -> Result<()> {
        match signal.checksum {
            Some(expected) if expected != sum => {
                let fault = self.fault("the checksum does not match");
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
