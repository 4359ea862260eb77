//! Nouns to bytes and back: one file per format; nothing else opens a data file.
//!
//! A reader is whatever iterates `Result<noun>`. To add an ECG format: write its file with `recognise` and `open`,
//! and add one line to [`ECG_FORMATS`].

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

pub mod aecg;
pub mod archive;
pub mod array;
pub mod cardiosoft;
pub mod chart;
pub mod columns;
pub mod csv;
pub mod dicom;
pub mod edf;
pub mod gif;
pub mod hdf5;
mod identity;
pub mod input;
pub mod lead_code;
mod leads;
pub mod muse;
pub mod npy;
pub mod npz;
pub mod ordered;
pub mod origin;
pub mod output;
pub mod plot;
pub mod scp;
pub mod scratch;
pub mod sheet;
pub mod sierra;
pub mod sink;
pub mod table;
pub mod unstated;
pub mod wfdb;
mod xml;

use scratch::{ScratchFile, ScratchFolder};

/// Where input comes from: a file, or standard input kept in a temporary file so that it can be read at any place.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    shown: String,
    /// What the records are called, where a manifest says so.
    id: Option<String>,
    _spool: Option<ScratchFile>,
    /// Holds the file where it came out of an archive.
    folder: Option<Arc<ScratchFolder>>,
}

/// How many bytes of a file `recognise` sees.
const HEAD: u64 = 4096;

impl Source {
    /// `-` is standard input, anything else a path; where only `path.hea` exists, that WFDB header is meant.
    ///
    /// # Errors
    /// Where the file does not exist or standard input cannot be read.
    pub fn open(argument: &Path) -> Result<Source> {
        if argument == Path::new("-") {
            return Source::spool(&mut io::stdin().lock(), "<stdin>");
        }
        let mut named = argument.as_os_str().to_owned();
        named.push(".hea");
        let header = PathBuf::from(named);
        let argument = if !argument.exists() && header.is_file() { &header } else { argument };
        let shown = argument.display().to_string();
        let about = std::fs::metadata(argument).map_err(Error::io("opening", argument))?;
        if about.is_dir() {
            return Err(Fault::new("opening", "").file(argument).expected("a file", "a directory").into());
        }
        if !about.is_file() {
            let mut pipe = File::open(argument).map_err(Error::io("opening", argument))?;
            return Source::spool(&mut pipe, &shown); // a named pipe or a shell's <( )
        }
        Ok(Source { path: argument.to_owned(), shown, id: None, _spool: None, folder: None })
    }

    fn spool(from: &mut dyn Read, shown: &str) -> Result<Source> {
        let refused = || Error::io("making a temporary file in", std::env::temp_dir());
        let spool = ScratchFile::new().map_err(refused())?;
        io::copy(from, &mut spool.file().map_err(refused())?).map_err(Error::io("reading", shown))?;
        let path = spool.path().to_owned();
        Ok(Source { path, shown: shown.to_owned(), id: None, _spool: Some(spool), folder: None })
    }

    /// A file out of an archive, in a temporary folder that lives as long as the source.
    fn unpacked(path: PathBuf, shown: String, folder: Arc<ScratchFolder>) -> Source {
        Source { path, shown, id: None, _spool: None, folder: Some(folder) }
    }

    /// The same, its records called `id` where that is given.
    fn with_id(self, id: Option<String>) -> Source {
        Source { id, ..self }
    }

    /// The file to read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name the user knows it by; for messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// A record id for a format that carries none: the file's stem.
    pub fn stem(&self) -> String {
        let named = if self.folder.is_some() { &self.path } else { Path::new(&self.shown) };
        let stem = named.file_stem().map(|s| s.to_string_lossy().into_owned());
        stem.filter(|_| self._spool.is_none()).unwrap_or_else(|| "stdin".to_owned())
    }

    /// The first bytes.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn head(&self) -> Result<Vec<u8>> {
        let file = File::open(&self.path).map_err(Error::io("opening", &self.shown))?;
        let mut head = Vec::new();
        file.take(HEAD).read_to_end(&mut head).map_err(Error::io("reading", &self.shown))?;
        Ok(head)
    }
}

/// Unit of the samples in a file that does not state it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Microvolt.
    Microvolt,
    /// Millivolt.
    Millivolt,
    /// Volt.
    Volt,
}

impl Unit {
    /// The unit a file means by `name` (`uV`, `mV`, `V`, any case but that of the prefix).
    pub fn parse(name: &str) -> Option<Unit> {
        match name.trim() {
            "uV" | "UV" | "uv" | "\u{b5}V" | "\u{3bc}V" => Some(Unit::Microvolt),
            "mV" | "MV" | "mv" => Some(Unit::Millivolt),
            "V" | "v" => Some(Unit::Volt),
            _ => None,
        }
    }

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Microvolt => "uV",
            Unit::Millivolt => "mV",
            Unit::Volt => "V",
        }
    }

    /// Millivolts in one of this unit.
    pub fn to_mv(self) -> f64 {
        match self {
            Unit::Microvolt => 1e-3,
            Unit::Millivolt => 1.0,
            Unit::Volt => 1e3,
        }
    }
}

/// What the user says about files that do not say it themselves.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Samples a second.
    pub rate_hz: Option<f64>,
    /// Unit of the samples.
    pub unit: Option<Unit>,
    /// Lead names in file order.
    pub leads: Option<Vec<String>>,
    /// Which array of a file that holds several (HDF5, NPZ).
    pub dataset: Option<String>,
    /// Order of the axes of an array.
    pub layout: Option<array::AxisOrder>,
}

/// The records of one file.
pub type Recordings = Box<dyn Iterator<Item = Result<Recording>>>;

/// A format that holds ECGs.
pub struct EcgFormat {
    /// Its name, for messages.
    pub name: &'static str,
    /// Whether a file is of this format, from its first bytes and its name.
    pub recognise: fn(head: &[u8], name: &str) -> bool,
    /// Reads it.
    pub open: fn(Source, &ReadOptions) -> Result<Recordings>,
}

/// The ECG formats, asked in this order: magic numbers first, text last.
pub const ECG_FORMATS: &[EcgFormat] = &[
    EcgFormat { name: "HDF5", recognise: hdf5::recognise, open: hdf5::open_ecg },
    EcgFormat { name: "NPY", recognise: npy::recognise, open: npy::open },
    EcgFormat { name: "CardioSoft XML", recognise: cardiosoft::recognise, open: cardiosoft::open },
    EcgFormat { name: "MUSE XML", recognise: muse::recognise, open: muse::open },
    EcgFormat { name: "Sierra XML", recognise: sierra::recognise, open: sierra::open },
    EcgFormat { name: "HL7 aECG", recognise: aecg::recognise, open: aecg::open },
    EcgFormat { name: "NPZ", recognise: npz::recognise, open: npz::open },
    EcgFormat { name: "DICOM", recognise: dicom::recognise, open: dicom::open },
    EcgFormat { name: "SCP-ECG", recognise: scp::recognise, open: scp::open },
    EcgFormat { name: "EDF", recognise: edf::recognise, open: edf::open },
    EcgFormat { name: "WFDB", recognise: wfdb::recognise, open: wfdb::open },
    EcgFormat { name: "CSV", recognise: csv::recognise, open: csv::open },
];

/// Opens an ECG file of any known format; returns the format's name too.
///
/// # Errors
/// Where no format recognises the file, or the one that does finds it malformed.
pub fn open_ecg(source: Source, options: &ReadOptions) -> Result<(&'static str, Recordings)> {
    let head = source.head()?;
    let fault = |cause: &str| Fault::new("reading ECG", cause).file(source.shown());
    if head.is_empty() {
        return Err(fault("the file is empty").into());
    }
    let Some(format) = ECG_FORMATS.iter().find(|f| (f.recognise)(&head, source.shown())) else {
        let known: Vec<&str> = ECG_FORMATS.iter().map(|f| f.name).collect();
        let hint = "for WFDB name the header (.hea)";
        return Err(fault("unknown format").expected(known.join(", "), "none of them").hint(hint).into());
    };
    let (id, unpacked) = (source.id.clone(), identity::Unpacked::new(&source));
    let records = (format.open)(source, options).map_err(|e| unpacked.rename(e))?;
    let records = records.map(move |record| record.map_err(|e| unpacked.rename(e)));
    Ok((format.name, identity::named(Box::new(records), id)))
}

/// Where nouns go. A sink that is dropped before `finish` leaves no file.
pub trait Sink<T> {
    /// Writes one.
    ///
    /// # Errors
    /// Where writing fails.
    fn put(&mut self, item: &T) -> Result<()>;
    /// Completes the output and puts it in its place.
    ///
    /// # Errors
    /// Where writing fails.
    fn finish(self) -> Result<()>;
}
