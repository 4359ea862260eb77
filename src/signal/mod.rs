//! Mathematics on signals, without learned weights and without files.

pub mod filter;
pub mod lead;
pub mod phase;
pub mod preset;
pub mod quality;
pub mod resample;
pub mod rpeak;
pub mod window;
