//! The text header of a WFDB record (`header(5)`).
//!
//! ```text
//! # comments and blank lines anywhere
//! NAME NSIG [RATE[/COUNTER[(BASE)]] [NSAMP [TIME [DATE]]]]
//! FILE FORMAT[xPER_FRAME][:SKEW][+OFFSET] [GAIN[(BASELINE)][/UNIT] [BITS [ZERO [FIRST [CHECKSUM [BLOCK [NAME]]]]]]]
//!
//! NAME/SEGMENTS NSIG ...          a record of several segments, then one line for each:
//! SEGMENT NSAMP                   `~` is a gap; a first segment of 0 samples only lists the signals (variable layout)
//! ```
//!
//! Absent: rate 250 Hz, gain 200 (also for gain 0), unit mV, baseline = ADC zero, ADC zero 0. As the reference reader
//! does, the first word that is not a number where one may stand begins the signal's name.

use super::sample::Format;
use crate::error::{Fault, Result};

const DOING: &str = "reading WFDB header";
const DEFAULT_RATE_HZ: f64 = 250.0;
const DEFAULT_GAIN: f64 = 200.0;

/// What a header says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) name: String,
    /// Frames a second.
    pub(super) rate_hz: f64,
    /// Frames; none where the header does not say.
    pub(super) frames: Option<u64>,
    pub(super) signals: Vec<Signal>,
    /// The segments of a record that has no signals of its own.
    pub(super) segments: Vec<Segment>,
}

/// A part of a record in time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    /// Name of its record; none for a gap.
    pub(super) name: Option<String>,
    pub(super) frames: u64,
}

/// What a header says about one signal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Signal {
    pub(super) file: String,
    pub(super) format: Format,
    /// Samples in each frame, at least 1.
    pub(super) per_frame: u64,
    /// Frames by which the signal comes late.
    pub(super) skew: u64,
    /// Bytes before the first sample in the file.
    pub(super) offset: u64,
    /// Integer steps per unit; finite, not 0.
    pub(super) gain: f64,
    /// The integer that means 0.
    pub(super) baseline: f64,
    pub(super) unit: String,
    /// The sample before the first, where the file holds differences.
    pub(super) first: i64,
    /// Sum of all samples modulo 2^16.
    pub(super) checksum: Option<u16>,
    pub(super) name: String,
}

/// Lines that say something, with their numbers from 1.
fn content(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Whether the first bytes of a file read like a header: a record line, then a line with a storage format.
pub(super) fn looks_like_header(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let mut lines = content(&text);
    let second = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    let (Some((_, record)), Some((_, signal))) = (lines.next(), lines.next()) else { return false };
    let counts_signals = second(record).is_some_and(|n| n.parse::<u32>().is_ok());
    let is_table = signal.split_whitespace().next().is_none_or(|file| file.parse::<f64>().is_ok());
    let number = |field: String| field.split(['x', ':', '+']).next().is_some_and(|n| n.parse::<u32>().is_ok());
    !head.contains(&0)
        && !is_table
        && !record.contains([',', ';'])
        && counts_signals
        && second(signal).is_some_and(number)
}

fn fault(line: usize, cause: impl Into<String>) -> Fault {
    Fault::new(DOING, cause).field(format!("line {line}"))
}

impl Header {
    /// Reads a header.
    pub(super) fn parse(text: &str) -> Result<Header> {
        let mut lines = content(text);
        let Some((line, record)) = lines.next() else {
            let fault = Fault::new(DOING, "the header is empty");
            return Err(fault.expected("a record line: name, number of signals, rate", "nothing").into());
        };
        let (mut header, count, segments) = record_line(line, record)?;
        if let Some(segments) = segments {
            header.segments = segment_lines(lines, segments)?;
            return Ok(header);
        }
        for (line, text) in lines.take(count) {
            let place = header.signals.len();
            header.signals.push(signal_line(line, text, place)?);
        }
        if header.signals.len() < count {
            let found = format!("{} signal lines", header.signals.len());
            return Err(Fault::new(DOING, "").field("signals").expected(format!("{count} signal lines"), found).into());
        }
        Ok(header)
    }
}

/// The header without its signals, and the numbers of signals and of segments it announces.
fn record_line(line: usize, text: &str) -> Result<(Header, usize, Option<usize>)> {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or_default();
    let (name, segments) = name.split_once('/').map_or((name, None), |(name, segments)| (name, Some(segments)));
    let positive = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0);
    let segments = match segments {
        None => None,
        Some(text) => {
            let fault = || fault(line, "").expected("a number of segments, at least 1", text);
            Some(positive(text).ok_or_else(fault)?)
        }
    };
    let signals = words.next().unwrap_or("nothing");
    let count =
        positive(signals).ok_or_else(|| fault(line, "").expected("a number of signals, at least 1", signals))?;
    let rate = words.next().unwrap_or("");
    let plain = rate.split(['/', '(']).next().unwrap_or("");
    let rate_hz = if rate.is_empty() { Some(DEFAULT_RATE_HZ) } else { plain.parse::<f64>().ok() };
    let rate_hz = rate_hz.filter(|r| r.is_finite() && *r > 0.0);
    let rate_hz = rate_hz.ok_or_else(|| fault(line, "").expected("a positive sampling rate, Hz", rate))?;
    let samples = words.next().unwrap_or("0");
    let frames = samples.parse::<u64>().map_err(|_| fault(line, "").expected("a number of samples", samples))?;
    let frames = Some(frames).filter(|&n| n > 0);
    let header = Header { name: name.to_owned(), rate_hz, frames, signals: Vec::new(), segments: Vec::new() };
    Ok((header, count, segments))
}

fn segment_lines<'a>(lines: impl Iterator<Item = (usize, &'a str)>, count: usize) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for (line, text) in lines.take(count) {
        let mut words = text.split_whitespace();
        let (name, frames) = (words.next().unwrap_or_default(), words.next().unwrap_or("nothing"));
        let frames = frames.parse().map_err(|_| fault(line, "").expected("a number of samples", frames))?;
        plain_name(line, name, "a segment")?;
        segments.push(Segment { name: Some(name).filter(|n| *n != "~").map(str::to_owned), frames });
    }
    if segments.len() < count {
        let found = format!("{} segment lines", segments.len());
        return Err(Fault::new(DOING, "").field("segments").expected(format!("{count} segment lines"), found).into());
    }
    Ok(segments)
}

/// Refuses names that lead out of the header's folder.
fn plain_name(line: usize, name: &str, what: &str) -> Result<()> {
    if name.contains(['/', '\\', '\0']) || name == ".." || name == "." {
        let fault = fault(line, format!("{what} must lie beside its header")).expected("a plain file name", name);
        return Err(fault.hint("move the file and take the folder out of the header").into());
    }
    Ok(())
}

/// Takes the next word if `accept` makes something of it.
fn take<'a, T>(rest: &mut &'a str, accept: impl Fn(&'a str) -> Option<T>) -> Option<T> {
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    let value = accept(word)?;
    *rest = after.trim_start();
    Some(value)
}

fn signal_line(line: usize, text: &str, place: usize) -> Result<Signal> {
    let mut rest = text;
    let file = take(&mut rest, |w| Some(w.to_owned())).unwrap_or_default();
    plain_name(line, &file, "a signal file")?;
    let (format, per_frame, skew, offset) = match take(&mut rest, Some).filter(|w| !w.is_empty()) {
        Some(word) => format_field(line, word)?,
        None => return Err(fault(line, "").expected("a signal file and a storage format", text).into()),
    };
    let (gain, baseline, unit) = take(&mut rest, gain_field).unwrap_or((DEFAULT_GAIN, None, "mV"));
    let mut integer = || take(&mut rest, |w| w.parse::<i64>().ok());
    let _bits = integer();
    let zero = integer().unwrap_or(0);
    let first = integer().unwrap_or(zero);
    let checksum = integer().map(|sum| sum as u16);
    let _block = integer();
    let name = if rest.is_empty() { format!("signal {place}") } else { rest.to_owned() };
    let baseline = baseline.unwrap_or(zero as f64);
    let unit = unit.to_owned();
    Ok(Signal { file, format, per_frame, skew, offset, gain, baseline, unit, first, checksum, name })
}

/// `FORMAT[xPER_FRAME][:SKEW][+OFFSET]`.
fn format_field(line: usize, word: &str) -> Result<(Format, u64, u64, u64)> {
    let malformed = || fault(line, "").expected("a storage format such as 16, 212x2 or 16+24", word);
    let (word_, offset) = word.split_once('+').unwrap_or((word, "0"));
    let (word_, skew) = word_.split_once(':').unwrap_or((word_, "0"));
    let (code, per_frame) = word_.split_once('x').unwrap_or((word_, "1"));
    let number = |text: &str| -> Result<u64> { text.parse().map_err(|_| malformed().into()) };
    let (code, per_frame, skew, offset) = (number(code)?, number(per_frame)?, number(skew)?, number(offset)?);
    if per_frame == 0 {
        return Err(malformed().into());
    }
    let Some(format) = Format::ALL.into_iter().find(|f| u64::from(f.code()) == code) else {
        let known = Format::ALL.map(|f| f.code().to_string()).join(", ");
        return Err(fault(line, format!("storage format {code} is unknown")).expected(known, code).into());
    };
    Ok((format, per_frame, skew, offset))
}

/// `GAIN[(BASELINE)][/UNIT]`.
fn gain_field(word: &str) -> Option<(f64, Option<f64>, &str)> {
    let (number, unit) = word.split_once('/').unwrap_or((word, "mV"));
    let (gain, baseline) = match number.split_once('(') {
        Some((gain, baseline)) => (gain, Some(baseline.strip_suffix(')')?.parse::<i64>().ok()? as f64)),
        None => (number, None),
    };
    let gain = gain.parse::<f64>().ok().filter(|g| g.is_finite())?;
    Some((if gain == 0.0 { DEFAULT_GAIN } else { gain }, baseline, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_field_of_a_signal_line() {
        let text =
            "# note\n\nr 1 360/720(5) 10 12:00:00\nr.dat 212x4:3+24 20.5(-1600)/uV 12 7 0 -9286 0 lead II \n# end";
        let header = Header::parse(text).unwrap();
        assert_eq!((header.name.as_str(), header.rate_hz, header.frames), ("r", 360.0, Some(10)));
        let s = &header.signals[0];
        assert_eq!((s.format, s.per_frame, s.skew, s.offset), (Format::F212, 4, 3, 24));
        assert_eq!((s.gain, s.baseline, s.unit.as_str()), (20.5, -1600.0, "uV"));
        assert_eq!((s.checksum, s.name.as_str()), (Some(65536u32.wrapping_sub(9286) as u16), "lead II"));
    }

    #[test]
    fn fills_absent_fields_with_the_defaults_of_the_specification() {
        let header = Header::parse("r 2\nr.dat 16\nr.dat 16 0 11 1024").unwrap();
        assert_eq!((header.rate_hz, header.frames), (250.0, None));
        let baselines: Vec<f64> = header.signals.iter().map(|s| s.baseline).collect();
        assert_eq!(baselines, [0.0, 1024.0]);
        assert!(header.signals.iter().all(|s| s.gain == 200.0 && s.unit == "mV" && s.checksum.is_none()));
        assert_eq!(header.signals[1].name, "signal 1");
    }

    #[test]
    fn reads_segments_and_gaps() {
        let header = Header::parse("r/3 2 250 100\nlayout 0\n# c\na 60 \n~ 40\n").unwrap();
        let segments: Vec<_> = header.segments.iter().map(|s| (s.name.as_deref(), s.frames)).collect();
        assert_eq!(segments, [(Some("layout"), 0), (Some("a"), 60), (None, 40)]);
        assert_eq!((header.name.as_str(), header.frames, header.signals.len()), ("r", Some(100), 0));
    }

    #[test]
    fn refuses_with_what_was_expected_and_found() {
        let error = |text: &str| Header::parse(text).unwrap_err().to_string();
        assert!(error("").contains("empty"));
        assert!(error("r/3 2 250 100\na 50\n~ 50").contains("expected 3 segment lines, found 2"));
        assert!(error("r/x 2 250 100").contains("a number of segments, at least 1, found x"));
        assert!(error("r/1 2 250 100\na ten").contains("a number of samples, found ten"));
        assert!(error("r/1 2 250 100\n../a 100").contains("plain file name"));
        assert!(error("r x").contains("expected a number of signals, at least 1, found x"));
        assert!(error("r 0").contains("at least 1"));
        assert!(error("r 1 -5").contains("positive sampling rate"));
        assert!(error("r 1 250 ten").contains("a number of samples"));
        assert!(error("r 2 250\nr.dat 16").contains("expected 2 signal lines, found 1 signal lines"));
        assert!(error("r 1\nr.dat 99")
            .contains("storage format 99 is unknown (expected 0, 8, 16, 24, 32, 61, 80, 160, 212"));
        assert!(error("r 1\nr.dat 16x0").contains("expected a storage format"));
        assert!(error("r 1\n../r.dat 16").contains("plain file name"));
        assert!(error("r 1\n.. 16").contains("plain file name"));
        assert!(error("r 1\nr.dat").contains("line 2"));
    }

    #[test]
    fn tells_headers_from_tables() {
        assert!(looks_like_header(b"# c\n100 2 360 650000\n100.dat 212 200 11\n"));
        assert!(!looks_like_header(b"I,II\n0.1,0.2\n"));
        assert!(!looks_like_header(b"I\tII\n1\t2\n"));
        assert!(!looks_like_header(b"1\t2\n3\t4\n"));
    }
}
