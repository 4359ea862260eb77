//! Prepared ECGs into a file of any format we write, chosen by the name of the output or by the user.
//!
//! | format | names | records | holds |
//! |---|---|---|---|
//! | HDF5 | `.h5`, `.hdf5`, anything else, standard output | any number | everything |
//! | WFDB | `.hea`, or a folder | one, or one pair of files each | leads, R peaks (`.qrs`), origin as comments |
//! | CSV | `.csv`, or a folder | one, or one file each | leads with times, origin as comments |
//! | NPY | `.npy` | any number | leads only: R x 12 x N, 32 bits |

use std::path::Path;

use super::hdf5::EcgWriter;
use super::Sink;
use crate::data::ecg::Ecg;
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};

mod csv;
mod npy;
mod target;
mod wfdb;

pub use target::{file_name, Target};

/// A format ECGs are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Ours: the exchange format of the stages.
    Hdf5,
    /// PhysioNet's: header, signals, annotation.
    Wfdb,
    /// Text, a column a lead.
    Csv,
    /// One NumPy array.
    Npy,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 4] = [Format::Hdf5, Format::Wfdb, Format::Csv, Format::Npy];

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Hdf5 => "hdf5",
            Format::Wfdb => "wfdb",
            Format::Csv => "csv",
            Format::Npy => "npy",
        }
    }

    /// The format of a word.
    pub fn parse(word: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == word)
    }

    /// The format that an output's name asks for.
    ///
    /// ```
    /// use ecgflow::io::sink::Format;
    /// assert_eq!(Format::of("out/p1.hea".as_ref()), Format::Wfdb);
    /// assert_eq!(Format::of("-".as_ref()), Format::Hdf5);
    /// ```
    pub fn of(path: &Path) -> Format {
        let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("hea" | "dat") => Format::Wfdb,
            Some("csv") => Format::Csv,
            Some("npy") => Format::Npy,
            _ => Format::Hdf5,
        }
    }
}

/// What is true of every record of an output.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Samples a second.
    pub rate_hz: f64,
    /// Name of the preset, or `steps`.
    pub preset: String,
    /// What was done, one step each.
    pub steps: Vec<String>,
    /// `mV`, or `sd` where the leads were standardised.
    pub unit: &'static str,
}

/// An output of ECGs under way.
pub struct EcgSink {
    kind: Kind,
}

enum Kind {
    Hdf5(Box<EcgWriter>),
    Wfdb(Files),
    Csv(Files),
    Npy(npy::Writer),
}

/// Formats that have one file, or a few, for each record.
struct Files {
    target: Target,
    about: About,
    provenance: Provenance,
}

impl EcgSink {
    /// Begins an output.
    ///
    /// # Errors
    /// Where the output cannot be begun, or the format cannot go there.
    pub fn begin(path: &Path, format: Format, about: &About, provenance: &Provenance) -> Result<EcgSink> {
        let files = |ending: &str| -> Result<Files> {
            let target = Target::begin(path, ending)?;
            Ok(Files { target, about: about.clone(), provenance: provenance.clone() })
        };
        let kind = match format {
            Format::Hdf5 => {
                let writer = EcgWriter::begin(path, provenance, about.rate_hz, &about.preset, &about.steps)?;
                writer.unit(about.unit)?;
                Kind::Hdf5(Box::new(writer))
            }
            Format::Wfdb if path == Path::new("-") => {
                let cause = "WFDB is several files, which standard output does not carry";
                return Err(Error::usage(cause).or_hint("give -o NAME.hea, or -o FOLDER --format wfdb"));
            }
            Format::Wfdb => Kind::Wfdb(files("hea")?),
            Format::Csv => Kind::Csv(files("csv")?),
            Format::Npy => Kind::Npy(npy::Writer::begin(path)?),
        };
        Ok(EcgSink { kind })
    }

    /// Adds the origin of an input to the provenance.
    pub fn after(&mut self, input: &Provenance) {
        match &mut self.kind {
            Kind::Hdf5(writer) => writer.after(input),
            Kind::Wfdb(files) | Kind::Csv(files) => files.provenance = files.provenance.clone().after(input),
            Kind::Npy(_) => {}
        }
    }
}

impl Sink<Ecg> for EcgSink {
    fn put(&mut self, ecg: &Ecg) -> Result<()> {
        match &mut self.kind {
            Kind::Hdf5(writer) => writer.put(ecg),
            Kind::Wfdb(files) => wfdb::put(&mut files.target, ecg, &files.about, &files.provenance),
            Kind::Csv(files) => csv::put(&mut files.target, ecg, &files.about, &files.provenance),
            Kind::Npy(writer) => writer.put(ecg),
        }
    }

    fn finish(self) -> Result<()> {
        match self.kind {
            Kind::Hdf5(writer) => writer.finish(),
            Kind::Wfdb(files) | Kind::Csv(files) => files.target.finish(),
            Kind::Npy(writer) => writer.finish(),
        }
    }
}

/// No record came through: an error, as an empty output would be taken for a good one.
fn nothing(shown: &str) -> Error {
    Fault::new("writing", "no record could be used").file(shown).into()
}

#[cfg(test)]
mod tests;
