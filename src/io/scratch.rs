//! Temporary files and folders that hold input: a spool of standard input, a record out of an archive. They hold what
//! patients left, so they go when they are dropped, and when a signal ends the program.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempDir};

/// What is there now; a signal handler removes it.
static HELD: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
/// A file may appear in a folder while that is removed; so often it is tried again.
const TRIES: usize = 5;

fn held() -> MutexGuard<'static, Option<HashSet<PathBuf>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place that is held; let go when it is dropped, after what lies there.
#[derive(Debug)]
struct Held(PathBuf);

impl Held {
    /// Makes something under the lock, so that no signal comes between making and noting it.
    fn new<T>(make: impl FnOnce() -> io::Result<T>, path: impl FnOnce(&T) -> &Path) -> io::Result<(T, Held)> {
        let mut held = held();
        let made = make()?;
        let path = path(&made).to_owned();
        held.get_or_insert_with(HashSet::new).insert(path.clone());
        Ok((made, Held(path)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(held) = held().as_mut() {
            held.remove(&self.0);
        }
    }
}

/// Removes everything for good: whoever wants to make more waits for the end of the program. For the moment before a signal
/// ends it.
pub fn remove_all() {
    let mut held = held();
    for path in held.take().unwrap_or_default() {
        let remove = || fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        let _ = (0..TRIES).any(|_| remove().is_ok() || !path.exists()); // the most that can be done
    }
    std::mem::forget(held);
}

/// A temporary file. Fields are dropped in turn: the file goes before its place is let go.
#[derive(Debug)]
pub struct ScratchFile {
    file: NamedTempFile,
    held: Held,
}

impl ScratchFile {
    /// Makes one in `TMPDIR`.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn new() -> io::Result<ScratchFile> {
        let (file, held) = Held::new(NamedTempFile::new, NamedTempFile::path)?;
        Ok(ScratchFile { file, held })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The open file.
    ///
    /// # Errors
    /// Where the system refuses another handle.
    pub fn file(&self) -> io::Result<fs::File> {
        self.file.as_file().try_clone()
    }

    /// Moves it to `path`, in a folder that is held itself.
    ///
    /// # Errors
    /// Where it cannot be moved.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        let ScratchFile { file, held } = self;
        let moved = file.persist(path).map(drop).map_err(|e| e.error);
        drop(held);
        moved
    }
}

/// A temporary folder. Fields are dropped in turn: the folder goes before its place is let go.
#[derive(Debug)]
pub struct ScratchFolder {
    folder: TempDir,
    _held: Held,
}

impl ScratchFolder {
    /// Makes one in `TMPDIR`.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn new() -> io::Result<ScratchFolder> {
        let (folder, held) = Held::new(TempDir::new, TempDir::path)?;
        Ok(ScratchFolder { folder, _held: held })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_held(path: &Path) -> bool {
        held().as_ref().is_some_and(|held| held.contains(path))
    }

    #[test]
    fn what_is_made_is_held_until_it_is_gone() {
        let (file, folder) = (ScratchFile::new().unwrap(), ScratchFolder::new().unwrap());
        let (a, b) = (file.path().to_owned(), folder.path().to_owned());
        assert!(is_held(&a) && is_held(&b) && a.is_file() && b.is_dir());
        file.persist(&b.join("x")).unwrap();
        assert!(!is_held(&a) && b.join("x").is_file());
        drop(folder);
        assert!(!is_held(&b) && !b.exists());
    }
}
