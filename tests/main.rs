//! The integration tests, one crate so that the models are linked once.

mod formats;
mod signal;
