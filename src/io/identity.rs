//! What records and files are called: by a manifest, and where they came out of an archive.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scratch::ScratchFolder;
use super::{Recordings, Source};
use crate::data::recording::Recording;
use crate::error::Error;

/// Calls a file's only record `id`, and the records of one that holds several `id_0`, `id_1`, ...
pub fn named(records: Recordings, id: Option<String>) -> Recordings {
    let Some(id) = id else { return records };
    let (mut records, mut count) = (records.peekable(), 0);
    Box::new(std::iter::from_fn(move || {
        let record = records.next()?;
        let several = count > 0 || records.peek().is_some();
        let name = if several { format!("{id}_{count}") } else { id.clone() };
        count += 1;
        Some(record.map(|record| Recording { id: name, ..record }))
    }))
}

/// Where a file from an archive lies, and how the user knows that place.
pub struct Unpacked {
    folder: Option<(Arc<ScratchFolder>, PathBuf)>,
}

impl Unpacked {
    /// Remembers the place of a source.
    pub fn new(source: &Source) -> Unpacked {
        let parent = || Path::new(&source.shown).parent().unwrap_or(Path::new("")).to_owned();
        Unpacked { folder: source.folder.clone().map(|folder| (folder, parent())) }
    }

    /// Names the file as the user knows it; keeps the temporary folder while records are read.
    pub fn rename(&self, mut error: Error) -> Error {
        if let (Error::Input(fault), Some((folder, parent))) = (&mut error, &self.folder) {
            let inside = fault.file.as_deref().and_then(|file| Path::new(file).strip_prefix(folder.path()).ok());
            if let Some(inside) = inside {
                fault.file = Some(parent.join(inside).display().to_string());
            }
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<String> {
        let samples_mv = ndarray::array![[0.0]];
        let record = Recording { id: "x".into(), leads: vec!["I".into()], rate_hz: 1.0, samples_mv, notes: Vec::new() };
        let records: Recordings = Box::new(std::iter::repeat_n(record, count).map(Ok));
        named(records, Some("p1".into())).map(|r| r.unwrap().id).collect()
    }

    #[test]
    fn several_records_of_one_file_are_numbered() {
        assert_eq!(ids(1), ["p1"]);
        assert_eq!(ids(3), ["p1_0", "p1_1", "p1_2"]);
    }
}
