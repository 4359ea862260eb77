//! NPZ, several NumPy arrays in a ZIP archive (`numpy.savez`, `numpy.savez_compressed`).
//!
//! `--dataset` names the array to read; without it the only one of two or three dimensions is, or, where there are several, the
//! only one that fits the leads. Where several of two dimensions fit, each is a record of that name: so is a ZIP archive of NPY
//! files. An array is unpacked into a temporary file and read as [`npy`]; what an entry claims to unfold to is not believed.

use std::fs::File;
use std::io::{BufReader, Read};

use zip::ZipArchive;

use super::array::layout;
use super::{npy, ReadOptions, Recordings, Source};
use crate::data::ecg::LEADS;
use crate::error::{Error, Fault, Result};

/// An archive that is read where its entries lie.
type Archive = ZipArchive<BufReader<File>>;

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

/// Reads the records of one of its arrays, or of several that are a record each.
///
/// # Errors
/// Where the archive is malformed, the array is not there or is one of several, and where [`npy::open`] refuses it.
pub fn open(source: Source, options: &ReadOptions) -> Result<Recordings> {
    let shown = source.shown().to_owned();
    let (mut archive, names) = choose(&source, options).map_err(|e| e.in_file(&shown))?;
    let (options, each) = (options.clone(), names.len() > 1);
    let mut records = names.into_iter().map(move |name| {
        let stem = if each { plain(name.rsplit('/').next().unwrap_or(&name)) } else { source.stem() };
        let renamed = {
            let (shown, name) = (source.shown().to_owned(), plain(&name));
            move |e: Error| e.in_file(&shown).or_hint(format!("the array is {name}"))
        };
        let records = unpack(&mut archive, &source, &name).and_then(|array| npy::open_named(array, &options, &stem));
        let records = records.map_err(&renamed)?;
        Ok(Box::new(records.map(move |record| record.map_err(&renamed))) as Recordings)
    });
    if !each {
        return records.next().unwrap_or_else(|| Err(damaged("no array")));
    }
    Ok(Box::new(records.flat_map(|records| -> Recordings {
        match records {
            Ok(records) => records,
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    })))
}

/// The name of an array less its ending.
fn plain(name: &str) -> String {
    name.strip_suffix(".npy").unwrap_or(name).to_owned()
}

/// The archive, and the names of the arrays to read: what `--dataset` says, else the only one that may hold ECGs, else all that are one each.
fn choose(source: &Source, options: &ReadOptions) -> Result<(Archive, Vec<String>)> {
    let file = File::open(source.path()).map_err(Error::io("opening", source.shown()))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&e.to_string()))?;
    let mut names: Vec<String> = archive.file_names().flatten().map(|name| name.into_owned()).collect();
    names.sort();
    let chosen = match &options.dataset {
        Some(wanted) => {
            names.iter().filter(|name| *name == wanted || plain(name) == *wanted).take(1).cloned().collect()
        }
        None => may_hold(&mut archive, &names, options)?,
    };
    if chosen.is_empty() {
        let listed = names.iter().map(|n| plain(n)).collect::<Vec<_>>().join(", ");
        let fault = Fault::new(DOING, "").expected(options.dataset.as_deref().unwrap_or("an array of ECGs"), listed);
        return Err(fault.hint("name one of its arrays with --dataset").into());
    }
    Ok((archive, chosen))
}

/// An array in a temporary file.
fn unpack(archive: &mut Archive, source: &Source, name: &str) -> Result<Source> {
    let mut entry = archive.by_name(name).map_err(|e| damaged(&e.to_string()))?;
    let most = entry.compressed_size().saturating_mul(SHRINK).saturating_add(SLACK);
    Source::spool(&mut entry.by_ref().take(most), source.shown())
}

/// The only array of two or three dimensions; where there are several, those that fit the leads, if each is one record.
fn may_hold(archive: &mut Archive, names: &[String], options: &ReadOptions) -> Result<Vec<String>> {
    let mut found: Vec<(&String, Vec<usize>)> = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".npy")) {
        let mut entry = archive.by_name(name).map_err(|e| damaged(&e.to_string()))?;
        let size = entry.size();
        // Arrays of other types than numbers (texts, say) stand beside the ECGs; they are none.
        let shape = npy::shape(&mut entry.by_ref().take(SLACK), size);
        found.extend(shape.ok().filter(|shape| matches!(shape.len(), 2 | 3)).map(|shape| (name, shape)));
    }
    if found.len() > 1 {
        let leads = options.leads.as_ref().map_or(LEADS, Vec::len);
        found.retain(|(_, shape)| layout(DOING, shape, leads, options.layout).is_ok());
        if found.len() > 1 && found.iter().any(|(_, shape)| shape.len() == 3) {
            found.clear();
        }
    }
    Ok(found.into_iter().map(|(name, _)| name.clone()).collect())
}

fn damaged(said: &str) -> Error {
    Fault::new(DOING, "malformed archive").expected("a ZIP archive of arrays", said).into()
}
