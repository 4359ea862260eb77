//! The folder in which inputs become files. `.ci/fuzz.sh` puts it into memory and removes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder").keep())
}

/// Where a file of that name lies.
pub(crate) fn path(name: &str) -> PathBuf {
    folder().join(name)
}

/// Writes a file.
pub fn put(name: &str, bytes: &[u8]) -> PathBuf {
    let path = path(name);
    fs::write(&path, bytes).expect("room in the temporary folder");
    path
}

/// Removes a file of an earlier input.
pub fn clear(name: &str) {
    let _ = fs::remove_file(path(name)); // it may not be there
}
