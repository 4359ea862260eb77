//! NPZ, several NumPy arrays in a ZIP archive (`numpy.savez`, `numpy.savez_compressed`).
//!
//! `--dataset` names the array to read; without it the only one of two or three dimensions is. It is unpacked into a
//! temporary file and read as [`npy`]; what an entry claims to unfold to is not believed.

use std::fs::File;
use std::io::{BufReader, Read};

use zip::ZipArchive;

use super::{npy, ReadOptions, Recordings, Source};
use crate::error::{Error, Fault, Result};

const DOING: &str = "reading NPZ archive";
/// Deflate shrinks by at most 1032; an entry that unfolds further is no honest one.
const SHRINK: u64 = 1100;
/// Bytes every entry may unfold to.
const SLACK: u64 = 1 << 16;

/// Whether a file is a ZIP archive whose first entry is an array.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    let length = head.get(26..28).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
    let name = length.and_then(|n| head.get(30..30 + usize::from(n)));
    head.starts_with(b"PK\x03\x04") && name.is_some_and(|name| name.ends_with(b".npy"))
}

/// Reads the records of one of its arrays.
///
/// # Errors
/// Where the archive is malformed, the array is not there or is one of several, and where [`npy::open`] refuses it.
pub fn open(source: Source, options: &ReadOptions) -> Result<Recordings> {
    let shown = source.shown().to_owned();
    let (unpacked, name) = unpack(&source, options).map_err(|e| e.in_file(&shown))?;
    let stem = source.stem();
    let renamed = move |e: Error| e.in_file(&shown).or_hint(format!("the array is {name}"));
    let records = npy::open_named(unpacked, options, &stem).map_err(&renamed)?;
    Ok(Box::new(records.map(move |record| record.map_err(&renamed))))
}

/// The array to read, in a temporary file, and its name.
fn unpack(source: &Source, options: &ReadOptions) -> Result<(Source, String)> {
    let file = File::open(source.path()).map_err(Error::io("opening", source.shown()))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&e.to_string()))?;
    let mut names: Vec<String> = archive.file_names().flatten().map(|name| name.into_owned()).collect();
    names.sort();
    let plain = |name: &str| name.strip_suffix(".npy").unwrap_or(name).to_owned();
    let listed = || names.iter().map(|n| plain(n)).collect::<Vec<_>>().join(", ");
    let chosen = match &options.dataset {
        Some(wanted) => names.iter().find(|name| *name == wanted || plain(name) == *wanted).cloned(),
        None => only_array(&mut archive, &names)?,
    };
    let Some(chosen) = chosen else {
        let fault = Fault::new(DOING, "").expected(options.dataset.as_deref().unwrap_or("an array of ECGs"), listed());
        return Err(fault.hint("name one of its arrays with --dataset").into());
    };
    let entry = archive.by_name(&chosen).map_err(|e| damaged(&e.to_string()))?;
    let most = entry.compressed_size().saturating_mul(SHRINK).saturating_add(SLACK);
    let unpacked = Source::spool(&mut entry.take(most), source.shown())?;
    Ok((unpacked, plain(&chosen)))
}

/// The only array of two or three dimensions.
fn only_array(archive: &mut ZipArchive<BufReader<File>>, names: &[String]) -> Result<Option<String>> {
    let mut found: Vec<&String> = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".npy")) {
        let mut entry = archive.by_name(name).map_err(|e| damaged(&e.to_string()))?;
        let size = entry.size();
        // Arrays of other types than numbers (texts, say) stand beside the ECGs; they are none.
        if npy::shape(&mut entry.by_ref().take(SLACK), size).is_ok_and(|shape| matches!(shape.len(), 2 | 3)) {
            found.push(name);
        }
    }
    match found.as_slice() {
        [one] => Ok(Some((*one).clone())),
        _ => Ok(None),
    }
}

fn damaged(said: &str) -> Error {
    Fault::new(DOING, "malformed archive").expected("a ZIP archive of arrays", said).into()
}
