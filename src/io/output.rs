//! Finish or nothing: an output appears complete, by rename or by one copy into the pipe, or not at all.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempPath;

use crate::error::{Error, Result};

/// Temporary files that are not finished yet; a signal handler removes them.
static UNFINISHED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

fn unfinished(change: impl FnOnce(&mut HashSet<PathBuf>)) {
    let mut set = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    change(set.get_or_insert_with(HashSet::new));
}

/// Removes every output that is not finished; for the moment before a signal ends the program.
pub fn remove_unfinished() {
    unfinished(|set| {
        for path in set.drain() {
            let _ = std::fs::remove_file(path); // nothing more can be done about it
        }
    });
}

/// Where a finished output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    Stdout,
    File(PathBuf),
    /// A device or named pipe, which rename would replace.
    Special(PathBuf),
}

/// An output under way. Dropped before [`finish`](Output::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct Output {
    temporary: Option<TempPath>,
    destination: Destination,
}

impl Output {
    /// Begins an output; `-` is standard output. The temporary file stands beside the final one.
    ///
    /// # Errors
    /// Where the folder cannot be written, or `binary` data would go to a terminal.
    pub fn begin(path: &Path, binary: bool) -> Result<Output> {
        let destination = destination(path, binary)?;
        let folder = match &destination {
            Destination::File(path) => match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            },
            _ => std::env::temp_dir(),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".ecgflow-").suffix(".unfinished");
        let temporary = builder.tempfile_in(&folder).map_err(Error::io("writing in the folder", &folder))?;
        let temporary = temporary.into_temp_path(); // a thousand outputs may be open at once
        unfinished(|set| {
            set.insert(temporary.to_path_buf());
        });
        Ok(Output { temporary: Some(temporary), destination })
    }

    /// The temporary file to write to, for libraries that open files themselves.
    pub fn path(&self) -> &Path {
        self.temporary.as_ref().map_or(Path::new(""), |t| t)
    }

    /// The temporary file to write to.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn file(&self) -> Result<File> {
        File::create(self.path()).map_err(Error::io("writing", self.path()))
    }

    /// The name the user knows it by.
    pub fn shown(&self) -> String {
        match &self.destination {
            Destination::Stdout => "<stdout>".to_owned(),
            Destination::File(path) | Destination::Special(path) => path.display().to_string(),
        }
    }

    /// Puts the output in its place.
    ///
    /// # Errors
    /// Where it cannot be renamed or copied; [`Error::Closed`] where the reader of the pipe has left.
    pub fn finish(mut self) -> Result<()> {
        let Some(temporary) = self.temporary.take() else { return Ok(()) };
        let path = temporary.to_path_buf();
        let done = match &self.destination {
            Destination::Stdout => copy(&path, &mut io::stdout().lock(), "<stdout>"),
            Destination::Special(to) => {
                let mut file = File::options().write(true).open(to).map_err(Error::io("writing", to))?;
                copy(&path, &mut file, &to.display().to_string())
            }
            Destination::File(to) => persist(temporary, to),
        };
        unfinished(|set| {
            set.remove(&path);
        });
        done
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            unfinished(|set| {
                set.remove::<Path>(&temporary);
            });
        }
    }
}

fn destination(path: &Path, binary: bool) -> Result<Destination> {
    if path == Path::new("-") {
        if binary && io::stdout().is_terminal() {
            let hint = "give -o FILE, or pipe into the next stage".to_owned();
            return Err(Error::Usage { cause: "binary output to a terminal".to_owned(), hint: Some(hint) });
        }
        return Ok(Destination::Stdout);
    }
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => {
            Err(Error::usage(format!("output {} is a directory, expected a file", path.display())))
        }
        Ok(about) if !about.is_file() => Ok(Destination::Special(path.to_owned())),
        _ => Ok(Destination::File(path.to_owned())),
    }
}

/// Renames into place with the permissions a new file would have.
fn persist(temporary: TempPath, to: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(to).map_or(mask(&temporary), |about| about.permissions().mode());
        let allowed = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&temporary, allowed).map_err(Error::io("writing", to))?;
    }
    temporary.persist(to).map(drop).map_err(|e| Error::io("writing", to)(e.error))
}

/// The permissions a new file gets, read off one made beside the temporary one.
#[cfg(unix)]
fn mask(beside: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let probe = beside.with_extension("mask");
    let mode = File::create_new(&probe).and_then(|f| f.metadata()).map(|about| about.permissions().mode());
    let _ = std::fs::remove_file(&probe);
    mode.unwrap_or(0o644)
}

fn copy(from: &Path, to: &mut dyn Write, shown: &str) -> Result<()> {
    let mut file = File::open(from).map_err(Error::io("reading", from))?;
    match io::copy(&mut file, to).and_then(|_| to.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Error::Closed),
        other => other.map_err(Error::io("writing", shown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_output_leaves_no_file_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        std::fs::write(&path, "old").unwrap();
        let output = Output::begin(&path, false).unwrap();
        output.file().unwrap().write_all(b"half").unwrap();
        drop(output);
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["out.txt"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn finished_output_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        std::fs::write(&path, "old").unwrap();
        let output = Output::begin(&path, false).unwrap();
        output.file().unwrap().write_all(b"new").unwrap();
        output.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
