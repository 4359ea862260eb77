//! What the fuzz targets share: an input becomes a file, a reader reads all of it, and its allocations are bounded.
//!
//! A finding is a panic (overflow and failed assertions among them), a run longer than `-timeout`, or a moment at which more
//! than four times the size of the input and 64 MB are allocated. Bytes that a C library allocates are not counted; libFuzzer's
//! `-rss_limit_mb` bounds those.

use std::fs;
use std::path::{Path, PathBuf};

use ecgflow::data::recording::Recording;
use ecgflow::io::{ReadOptions, Recordings, Source, Unit};
use ecgflow::Result;

mod allocation;
mod folder;

pub use allocation::bounded;
pub use folder::{clear, put};

/// Stands between the files of an input that is several files.
const BREAK: &[u8] = b"\0#@#\n";

/// How a format is opened.
pub type Open = fn(Source, &ReadOptions) -> Result<Recordings>;

/// Reads an input as a file of that name: as it is, and with everything stated that a file may leave open.
pub fn read(data: &[u8], name: &str, open: Open) {
    let path = put(name, data);
    read_at(&path, data.len(), open);
}

/// Reads a file that is there; `size` counts its companions too.
pub fn read_at(path: &Path, size: usize, open: Open) {
    for options in [ReadOptions::default(), stated()] {
        bounded(size, || settle(drain(path, open, &options)));
    }
}

/// All that a user can say about a file.
fn stated() -> ReadOptions {
    let leads = "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6".split(' ').map(str::to_owned);
    ReadOptions {
        rate_hz: Some(500.0),
        unit: Some(Unit::Microvolt),
        leads: Some(leads.collect()),
        ..ReadOptions::default()
    }
}

fn drain(path: &Path, open: Open, options: &ReadOptions) -> Result<()> {
    for record in open(Source::open(path)?, options)? {
        sound(&record?);
    }
    Ok(())
}

/// What every recording promises.
fn sound(recording: &Recording) {
    let (leads, samples) = recording.samples_mv.dim();
    assert_eq!(leads, recording.leads.len(), "one row for each lead");
    assert!(samples > 0, "samples");
    assert!(recording.rate_hz.is_finite() && recording.rate_hz > 0.0, "a rate: {}", recording.rate_hz);
}

/// An error must be one that can be told.
pub fn settle<T>(result: Result<T>) {
    if let Err(error) = result {
        assert!(!error.to_string().is_empty());
    }
}

/// The files of an input that is several.
pub fn parts(data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(BREAK.len()).position(|window| window == BREAK) {
        parts.push(&rest[..at]);
        rest = &rest[at + BREAK.len()..];
    }
    parts.push(rest);
    parts
}

/// A ZIP archive of stored entries.
pub fn zip<'a>(entries: impl IntoIterator<Item = (String, &'a [u8])>) -> Vec<u8> {
    use std::io::Write;
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(name, stored).expect("a new entry");
        writer.write_all(bytes).expect("memory to write to");
    }
    writer.finish().expect("memory to write to").into_inner()
}

/// The folder without what an earlier input left, and the files of this one under these names.
pub fn put_parts(data: &[u8], names: &[&str]) -> PathBuf {
    for name in names {
        clear(name);
    }
    for (name, part) in names.iter().zip(parts(data)) {
        put(name, part);
    }
    folder::path(names[0])
}

/// The size of a file; 0 where there is none.
pub fn size_of(path: &Path) -> usize {
    fs::metadata(path).map_or(0, |about| about.len() as usize)
}
