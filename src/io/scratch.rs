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

/// Makes something under the lock, so that no signal comes between making and noting it.
fn hold<T>(make: impl FnOnce() -> io::Result<T>, path: impl FnOnce(&T) -> PathBuf) -> io::Result<T> {
    let mut held = held();
    let made = make()?;
    held.get_or_insert_with(HashSet::new).insert(path(&made));
    Ok(made)
}

fn release(path: &Path) {
    if let Some(held) = held().as_mut() {
        held.remove(path);
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

/// A temporary file.
#[derive(Debug)]
pub struct ScratchFile(Option<NamedTempFile>);

impl ScratchFile {
    /// Makes one in `TMPDIR`.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn new() -> io::Result<ScratchFile> {
        hold(NamedTempFile::new, |file| file.path().to_owned()).map(|file| ScratchFile(Some(file)))
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), NamedTempFile::path)
    }

    /// The open file.
    ///
    /// # Errors
    /// Where the system refuses another handle.
    pub fn file(&self) -> io::Result<fs::File> {
        let file = self.0.as_ref().map(|file| file.as_file().try_clone());
        file.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::NotFound)))
    }

    /// Moves it to `path`, in a folder that is held itself.
    ///
    /// # Errors
    /// Where it cannot be moved.
    pub fn persist(mut self, path: &Path) -> io::Result<()> {
        let Some(file) = self.0.take() else { return Ok(()) };
        let before = file.path().to_owned();
        let moved = file.persist(path).map(drop).map_err(|e| e.error);
        release(&before);
        moved
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            let path = file.path().to_owned();
            drop(file);
            release(&path);
        }
    }
}

/// A temporary folder.
#[derive(Debug)]
pub struct ScratchFolder(Option<TempDir>);

impl ScratchFolder {
    /// Makes one in `TMPDIR`.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn new() -> io::Result<ScratchFolder> {
        hold(TempDir::new, |folder| folder.path().to_owned()).map(|folder| ScratchFolder(Some(folder)))
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), TempDir::path)
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take() {
            let path = folder.path().to_owned();
            drop(folder);
            release(&path);
        }
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
