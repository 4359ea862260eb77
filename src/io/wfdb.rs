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
//! Records of several segments are joined (`segment.rs`). Every storage format is read (`sample.rs`), so the `.mat` files of
//! the PhysioNet challenges are too: they are signal files of format 16 that begin after 24 bytes of MATLAB v4 header.
//! No size is believed before it has been compared with the size of the signal file.
//!
//! Specification: `header(5)` and `signal(5)` of the WFDB applications guide, <https://physionet.org/physiotools/wag/>.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{ReadOptions, Recordings, Source};
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

mod group;
mod header;
mod record;
mod sample;
mod segment;

use header::Header;

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

/// Whether this is the header of a record of several segments.
pub(super) fn has_segments(path: &Path) -> bool {
    read_header(path).is_ok_and(|header| !header.segments.is_empty())
}

/// Reads the one record that the header describes.
///
/// # Errors
/// Where the header is malformed or names a storage format that is none, where a signal file is absent, shorter than
/// the header says or fails its checksum, where segments do not fit each other, and where no signal is a voltage.
pub fn open(source: Source, _options: &ReadOptions) -> Result<Recordings> {
    if source._spool.is_some() {
        let fault = Fault::new("reading WFDB record", "a header without its signal files").file(source.shown());
        return Err(fault.hint("a pipe carries one file: name the .hea file instead").into());
    }
    let record = read(&header_path(source.path())).map_err(|e| e.in_file(source.shown()));
    Ok(Box::new(std::iter::once(Ok(record?))))
}

/// The header that belongs to a path: itself, or the `.hea` beside a signal file.
pub(super) fn header_path(path: &Path) -> PathBuf {
    match path.extension().and_then(|e| e.to_str()) {
        Some("dat" | "mat") => path.with_extension("hea"),
        _ => path.to_owned(),
    }
}

fn read(path: &Path) -> Result<Recording> {
    let header = read_header(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let record = match header.segments.is_empty() {
        true => record::assemble(&header, folder),
        false => segment::join(&header, folder),
    };
    record.map_err(|e| e.in_file(path).in_record(&header.name))
}

fn read_header(path: &Path) -> Result<Header> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(Error::io("opening WFDB header", path))?;
    file.take(MAX_HEADER_BYTES + 1).read_to_end(&mut text).map_err(Error::io("reading WFDB header", path))?;
    if text.len() as u64 > MAX_HEADER_BYTES {
        let fault = Fault::new("reading WFDB header", "this is no header").file(path);
        return Err(fault.expected(format!("at most {MAX_HEADER_BYTES} bytes"), "more").into());
    }
    Header::parse(&String::from_utf8_lossy(&text)).map_err(|e| e.in_file(path))
}

#[cfg(test)]
mod tests;
