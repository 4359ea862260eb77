//! Records of one or more files, one at a time in any order: what training reads.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::data::Provenance;
use crate::error::{Error, Fault, Result};
use crate::io::hdf5::{Noun, Records};
use crate::io::Source;
use crate::train;

/// The files stay open; nothing but the names of the records is held.
pub struct Dataset<N> {
    files: Vec<(String, Mutex<Records<N>>)>,
    ids: Vec<String>,
    /// Of each record: its file and its number there.
    places: Vec<(usize, usize)>,
}

impl<N: Noun> Dataset<N> {
    /// Opens the files.
    ///
    /// # Errors
    /// Where one is malformed or holds another noun, or two records have the same name.
    pub fn open(paths: &[PathBuf]) -> Result<Dataset<N>> {
        let (mut files, mut ids, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (file, path) in paths.iter().enumerate() {
            let source = Source::open(path)?;
            let shown = source.shown().to_owned();
            let mut records = Records::<N>::open(source)?;
            for (i, id) in records.ids()?.into_iter().enumerate() {
                if let Some(other) = seen.insert(id.clone(), file) {
                    let other = files.get(other).map_or(&shown, |(name, _): &(String, _)| name);
                    let fault = Fault::new("reading the training data", "").file(&shown).record(&id).field("/id");
                    let found = format!("the same name in {other}");
                    return Err(fault.expected("unique names", found).into());
                }
                ids.push(id);
                places.push((file, i));
            }
            files.push((shown, Mutex::new(records)));
        }
        Ok(Dataset { files, ids, places })
    }

    /// Dimensions of the records, by file; K is the noun's rank.
    pub fn sizes<const K: usize>(&self) -> impl Iterator<Item = (&str, [usize; K])> + '_ {
        self.files.iter().map(|(shown, records)| (shown.as_str(), held(records).size()))
    }

    /// A text of every record; where a file has none, its id.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let of = |(_, records): &(String, Mutex<Records<N>>)| held(records).texts(name);
        let found: Vec<Option<Vec<String>>> = self.files.iter().map(of).collect();
        let text = |((file, i), id): (&(usize, usize), &String)| {
            let text = found.get(*file).and_then(|texts| texts.as_ref()?.get(*i));
            text.filter(|text| !text.is_empty()).unwrap_or(id).clone()
        };
        self.places.iter().zip(&self.ids).map(text).collect()
    }

    /// How many records of which files: `40 ECGs of a.h5, b.h5 (synthetic)`; `noun` is what a record is.
    pub fn about(&self, noun: &str) -> String {
        let names: Vec<String> = self.files.iter().map(|(shown, _)| file_name(shown)).collect();
        let synthetic = self.files.iter().any(|(_, records)| held(records).provenance().synthetic);
        let mark = if synthetic { " (synthetic)" } else { "" };
        format!("{} {noun} of {}{mark}", self.ids.len(), names.join(", "))
    }

    /// The weights that made the records of the first file.
    pub fn model(&self) -> Option<String> {
        self.files.first().and_then(|(_, records)| held(records).provenance().model)
    }

    /// Adds the origin of every file to a provenance.
    pub fn after(&self, provenance: Provenance) -> Provenance {
        self.files.iter().fold(provenance, |all, (_, records)| all.after(&held(records).provenance()))
    }
}

fn file_name(shown: &str) -> String {
    std::path::Path::new(shown).file_name().map_or_else(|| shown.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// An open file, for one thread at a time.
fn held<N>(records: &Mutex<Records<N>>) -> MutexGuard<'_, Records<N>> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<N: Noun> train::Records for Dataset<N> {
    type Item = N;

    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn get(&self, i: usize) -> Result<N> {
        let place = self.places.get(i).and_then(|(file, i)| Some((self.files.get(*file)?, *i)));
        let Some(((shown, records), i)) = place else {
            return Err(Error::usage(format!("there is no record {i}"))); // never: the numbers are ours
        };
        held(records).get(i).map_err(|error| error.in_file(shown))
    }
}
