//! Where formats with one file a record go: one file, which takes one record, or a folder, which takes any number.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::nothing;
use crate::error::{Error, Fault, Result};
use crate::io::output::{look, Folder, Output};

/// One file (with what stands beside it), or a folder.
pub struct Target {
    place: Place,
    ending: String,
    seen: HashSet<String>,
}

enum Place {
    /// The main file, and those that are complete and wait for `finish`.
    File {
        path: PathBuf,
        ready: Vec<Output>,
    },
    Folder(Folder),
}

impl Target {
    /// A folder where `path` is one, ends in a slash, or has another ending than `ending`; else one file.
    ///
    /// # Errors
    /// Where the output cannot be begun, is an input, or is not text and would go to a terminal.
    pub fn begin(path: &Path, ending: &str) -> Result<Target> {
        let of_format = path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending) || e == "dat");
        let is_file = path == Path::new("-") || path.starts_with("/dev") || of_format;
        let place = match is_file && !path.is_dir() {
            true if ending == "hea" => Place::File { path: header_of(path)?, ready: Vec::new() },
            true => Place::File { path: path.to_owned(), ready: Vec::new() },
            false => Place::Folder(Folder::begin(path)?),
        };
        if let Place::File { path, .. } = &place {
            look(path, is_binary(ending))?;
        }
        Ok(Target { place, ending: ending.to_owned(), seen: HashSet::new() })
    }

    /// The name that the files of record `id` have, less the ending: the output's where it is one file.
    ///
    /// # Errors
    /// Where a second record comes to one file, or two records would have one name.
    pub fn name(&mut self, id: &str) -> Result<String> {
        let fault = |cause: &str| Fault::new("writing ECG", cause).record(id);
        let name = match &self.place {
            Place::File { path, .. } if !self.seen.is_empty() => {
                let hint = format!("give a folder: -o FOLDER --format {}", self.format());
                let cause = format!("{}: this format holds one record a file, and there are more", path.display());
                return Err(Error::usage(cause).or_hint(hint));
            }
            Place::File { path, .. } => {
                let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
                stem.filter(|stem| stem != "-").unwrap_or_else(|| id.to_owned())
            }
            Place::Folder(_) => file_name(id),
        };
        if !self.seen.insert(name.clone()) {
            let hint = "records are named after their files: rename one, or give ids in a manifest (--from-list)";
            return Err(fault("")
                .field("file name")
                .expected("unique names", format!("{name} again"))
                .hint(hint)
                .into());
        }
        Ok(name)
    }

    fn format(&self) -> &str {
        if self.ending == "hea" {
            "wfdb"
        } else {
            &self.ending
        }
    }

    /// Writes one file of a record: `name` with `ending`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&mut self, name: &str, ending: &str, bytes: &[u8]) -> Result<()> {
        match &mut self.place {
            Place::Folder(folder) => {
                let path = folder.file(&format!("{name}.{ending}"))?;
                std::fs::write(&path, bytes).map_err(Error::io("writing", path))
            }
            Place::File { path, ready } => {
                let path = if ending == self.ending { path.clone() } else { path.with_extension(ending) };
                ready.push(Output::holding(&path, is_binary(ending), bytes)?);
                Ok(())
            }
        }
    }

    /// Puts everything in its place; the main file last, so that a header always finds its signals.
    ///
    /// # Errors
    /// Where there is nothing, or it cannot be put there.
    pub fn finish(self) -> Result<()> {
        match self.place {
            Place::Folder(folder) if self.seen.is_empty() => Err(nothing(folder.shown())),
            Place::Folder(folder) => folder.finish(),
            Place::File { path, .. } if self.seen.is_empty() => Err(nothing(&path.display().to_string())),
            Place::File { ready, .. } => ready.into_iter().try_for_each(Output::finish),
        }
    }
}

/// Whether files of this ending hold anything but text.
fn is_binary(ending: &str) -> bool {
    !matches!(ending, "csv" | "hea" | "svg")
}

/// The header of a WFDB record of which the header or the signal file is named; the header states the record's name.
fn header_of(path: &Path) -> Result<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if file_name(&stem) != stem {
        let cause = format!("-o {}: a WFDB record cannot have the name {stem:?}", path.display());
        return Err(Error::usage(cause).or_hint("use letters, digits, - and _"));
    }
    Ok(path.with_extension("hea"))
}

/// A record's name as a file name that every system takes and WFDB too: letters, digits, `-` and `_`. Where
/// that changes the name, a checksum of the name follows, so that two names stay two.
///
/// ```
/// use ecgflow::io::sink::file_name;
/// assert_eq!(file_name("p_1"), "p_1");
/// assert!(file_name("ward 3/p\u{e9}.1").starts_with("ward_3_p__1_"));
/// assert_ne!(file_name("p.1"), file_name("p 1"));
/// ```
pub fn file_name(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let name: String = id.chars().take(200).map(plain).collect();
    let lead = if name.is_empty() || name.starts_with('-') { "_" } else { "" };
    if lead.is_empty() && name == id {
        name
    } else {
        format!("{lead}{name}_{:08x}", checksum(id))
    }
}

/// FNV-1a of 64 bits, folded to 32.
fn checksum(text: &str) -> u32 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (hash ^ (hash >> 32)) as u32
}
