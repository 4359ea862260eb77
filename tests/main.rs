//! The integration tests, one crate so that the models are linked once.

// Clippy knows tests by their attribute only; the functions they share are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod formats;
mod signal;
