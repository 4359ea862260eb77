//! Placeholder.
use super::{ReadOptions, Recordings, Source};
use crate::error::{Fault, Result};

/// Whether a file is of this format.
pub fn recognise(_head: &[u8], _name: &str) -> bool {
    false
}

/// Reads it.
///
/// # Errors
/// Where the file is malformed.
pub fn open(_source: Source, _options: &ReadOptions) -> Result<Recordings> {
    Err(Fault::new("reading", "not yet").into())
}
