//! The signals of one signal file: whether the file can hold them, and their values in mV.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Chain, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use claxon::{Block, FlacReader, FlacReaderOptions};

use super::header::{Header, Signal};
use super::sample::Format;
use crate::error::{Error, Fault, Result};
use crate::io::Unit;

const DOING: &str = "reading WFDB signal file";
/// Samples that are read at a time: a multiple of six, after which every format stands at a whole byte and a whole group of samples.
const PIECE: u64 = 6 << 13;
/// `fLaC` and STREAMINFO, the first block of metadata of a FLAC stream (RFC 9639, 8).
const FLAC_HEAD: usize = 42;
/// The bit that marks the last block of metadata.
const FLAC_LAST: u8 = 0x80;

/// A FLAC stream without metadata but the first block.
type Stream = Chain<Cursor<[u8; FLAC_HEAD]>, BufReader<File>>;

/// Where each kept signal goes, by its place in the header.
pub(super) type Rows<'a> = BTreeMap<usize, &'a mut [f64]>;

/// The signals of one file.
pub(super) struct Group<'a> {
    pub(super) path: PathBuf,
    format: Format,
    /// Where the samples begin: bytes, of a compressed file samples.
    pub(super) offset: u64,
    /// Size of the file, bytes.
    pub(super) size: u64,
    /// Samples of all its signals in one frame.
    pub(super) width: u64,
    /// The signals, with their places in the header.
    signals: Vec<(usize, &'a Signal)>,
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
        if self.is_compressed() {
            let total = self.flac()?.streaminfo().samples;
            let each = self.per_channel()?;
            return Ok(total.map(|n| n.saturating_sub(self.offset) / each));
        }
        Ok(Some(self.format.samples_in(self.size.saturating_sub(self.offset)) / self.width.max(1)))
    }

    /// Whether the size of the file says nothing of its samples.
    pub(super) fn is_compressed(&self) -> bool {
        self.format.is_compressed()
    }

    /// Whether the file can hold that many frames, where its size says so.
    pub(super) fn check(&self, frames: u64) -> Result<()> {
        if self.is_compressed() {
            return Ok(()); // judged with all compressed files of the record together
        }
        let bytes = frames.checked_mul(self.width).and_then(|n| self.format.bytes_for(n));
        let needed = bytes.and_then(|b| b.checked_add(self.offset));
        if needed.is_some_and(|n| n <= self.size && usize::try_from(n).is_ok()) {
            return Ok(());
        }
        let claim = format!("{frames} frames of {} samples in format {}", self.width, self.format.code());
        let expected = needed.map_or(format!("over 2^64 bytes ({claim})"), |n| format!("{n} bytes ({claim})"));
        let fault = self.fault("the file is shorter than its header says");
        Err(fault.expected(expected, format!("{} bytes", self.size)).hint("copy the record again").into())
    }

    /// Decodes all signals, each that is kept into its row: the mean of each frame where `averaged`, else every sample. What has
    /// no room in its row is left out.
    pub(super) fn decode(&self, frames: u64, rows: &mut Rows, averaged: bool) -> Result<()> {
        let signals = self.signals.iter();
        let mut channels: Vec<Channel> =
            signals.map(|(k, signal)| Channel::new(self.format, signal, rows.remove(k), averaged)).collect();
        match self.is_compressed() {
            true => self.unfold(frames, |block, times| hand(block, times, &mut channels))?,
            false => self.read(frames, &mut channels)?,
        }
        channels.into_iter().try_for_each(|channel| self.verify(channel))
    }

    /// Hands the samples of a file to its channels, in the order in which they are stored.
    fn read(&self, frames: u64, channels: &mut [Channel]) -> Result<()> {
        let mut file = File::open(&self.path).map_err(Error::io(DOING, &self.path))?;
        file.seek(SeekFrom::Start(self.offset)).map_err(Error::io(DOING, &self.path))?;
        let mut left = frames.saturating_mul(self.width); // `check` has compared it with the file
        let mut bytes = Vec::new();
        let (mut number, mut of_channel) = (0, 0); // the channel that is next, and how many of its samples in this frame were
        while left > 0 {
            let here = left.min(PIECE);
            bytes.clear();
            let length = self.format.bytes_for(here).unwrap_or(0);
            file.by_ref().take(length).read_to_end(&mut bytes).map_err(Error::io(DOING, &self.path))?;
            for place in 0..here as usize {
                let Some(channel) = channels.get_mut(number) else { return Ok(()) };
                channel.take(self.format.at(&bytes, place));
                of_channel += 1;
                if of_channel == channel.signal.per_frame {
                    (number, of_channel) = ((number + 1) % channels.len(), 0);
                }
            }
            left -= here;
        }
        Ok(())
    }

    /// The stream behind its first block of metadata. The others are passed over: claxon makes room for as many comments as they
    /// claim to hold.
    fn flac(&self) -> Result<FlacReader<Stream>> {
        let mut file = BufReader::new(File::open(&self.path).map_err(Error::io(DOING, &self.path))?);
        let mut head = [0u8; FLAC_HEAD];
        let ends = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => self.damaged("the end of the file"),
            _ => Error::io(DOING, &self.path)(e),
        };
        file.read_exact(&mut head).map_err(ends)?;
        let mut is_last = head[4] & FLAC_LAST > 0;
        head[4] |= FLAC_LAST;
        while !is_last {
            let mut block = [0u8; 4];
            file.read_exact(&mut block).map_err(ends)?;
            let [kind, a, b, c] = block;
            is_last = kind & FLAC_LAST > 0;
            file.seek_relative(i64::from(u32::from_be_bytes([0, a, b, c]))).map_err(ends)?;
        }
        let options = FlacReaderOptions { metadata_only: false, read_vorbis_comment: false };
        let stream = Cursor::new(head).chain(file);
        let reader = FlacReader::new_ext(stream, options).map_err(|e| self.damaged(&e.to_string()))?;
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

    /// Whether a compressed file holds that many frames.
    pub(super) fn look_through(&self, frames: u64) -> Result<()> {
        self.unfold(frames, |_, _| {})
    }

    /// Hands out the blocks of a FLAC stream, each with those of its samples that are wanted.
    fn unfold(&self, frames: u64, mut take: impl FnMut(&Block, Range<u32>)) -> Result<()> {
        let mut reader = self.flac()?;
        self.check_channels(reader.streaminfo().channels)?;
        let mut skip = u32::try_from(self.offset).unwrap_or(u32::MAX);
        let wanted = frames.saturating_mul(self.per_channel()?);
        let (mut held, mut buffer) = (0, Vec::new());
        let mut blocks = reader.blocks();
        while held < wanted {
            let block = blocks.read_next_or_eof(buffer).map_err(|e| self.damaged(&e.to_string()))?;
            let Some(block) = block else {
                let fault = self.fault("the file is shorter than its header says");
                return Err(fault.expected(format!("{wanted} samples a signal"), held).into());
            };
            self.check_channels(block.channels())?;
            let (first, length) = (skip.min(block.duration()), block.duration());
            let end = u64::from(length).min(u64::from(first).saturating_add(wanted - held)) as u32;
            take(&block, first..end);
            held += u64::from(end - first);
            skip -= first;
            buffer = block.into_buffer();
        }
        Ok(())
    }

    fn check_channels(&self, channels: u32) -> Result<()> {
        if channels as usize == self.signals.len() {
            return Ok(());
        }
        let fault = self.fault("the FLAC stream has another number of channels than the header");
        Err(fault.expected(format!("{} channels", self.signals.len()), channels).into())
    }

    /// Ends a channel: its checksum must be that of the header.
    fn verify(&self, channel: Channel) -> Result<()> {
        let Channel { signal, sum, .. } = channel;
        if let Some(expected) = signal.checksum.filter(|expected| *expected != sum) {
            let fault = self.fault("the checksum does not match");
            let fault = fault.field(&signal.name).expected(expected as i16, sum as i16);
            return Err(fault
                .hint("header and signal file do not belong together or are damaged: copy both again")
                .into());
        }
        channel.finish();
        Ok(())
    }
}

/// Hands some samples of a block to the channels.
fn hand(block: &Block, times: Range<u32>, channels: &mut [Channel]) {
    for (channel, number) in channels.iter_mut().zip(0..) {
        times.clone().for_each(|time| channel.take(Some(block.sample(number, time))));
    }
}

/// One signal while its file is read.
struct Channel<'a> {
    signal: &'a Signal,
    format: Format,
    invalid: Option<i32>,
    /// The last sample, of which format 8 says the difference.
    level: i32,
    sum: u16,
    /// mV for one step.
    scale: f64,
    /// Where it goes, if it is kept, and how much of that is filled.
    row: Option<(&'a mut [f64], usize)>,
    /// Samples of which the mean is taken; how many there are, and their sum.
    of: u64,
    taken: (u64, f64),
}

impl<'a> Channel<'a> {
    fn new(format: Format, signal: &'a Signal, row: Option<&'a mut [f64]>, averaged: bool) -> Channel<'a> {
        Channel {
            signal,
            format,
            invalid: format.invalid(),
            level: signal.first as i32,
            sum: 0,
            scale: Unit::parse(&signal.unit).map_or(f64::NAN, |unit| unit.to_mv() / signal.gain),
            row: row.map(|row| (row, 0)),
            of: if averaged { signal.per_frame } else { 1 },
            taken: (0, 0.0),
        }
    }

    /// The next sample; what the file lacks is invalid.
    #[inline]
    fn take(&mut self, value: Option<i32>) {
        let value = if self.format == Format::F8 {
            self.level = self.level.wrapping_add(value.unwrap_or(0));
            self.level
        } else {
            value.or(self.invalid).unwrap_or(0)
        };
        self.sum = self.sum.wrapping_add(value as u16);
        let Some((row, at)) = &mut self.row else { return };
        let valid = Some(value) != self.invalid;
        let mv = if valid { (f64::from(value) - self.signal.baseline) * self.scale } else { f64::NAN };
        let (count, total) = (self.taken.0 + 1, self.taken.1 + mv);
        if count < self.of {
            self.taken = (count, total);
            return;
        }
        if let Some(place) = row.get_mut(*at) {
            *place = if count > 1 { total / count as f64 } else { mv };
        }
        *at += 1;
        self.taken = (0, 0.0);
    }

    /// Moves the row earlier by the skew of the signal; what is left at the end is unknown.
    fn finish(self) {
        let Some((row, _)) = self.row else { return };
        let frame = self.signal.per_frame / self.of.max(1);
        let shift = usize::try_from(self.signal.skew.saturating_mul(frame)).unwrap_or(usize::MAX).min(row.len());
        row.rotate_left(shift);
        let kept = row.len() - shift;
        row.iter_mut().skip(kept).for_each(|v| *v = f64::NAN);
    }
}
