//! Mathematics on signals, without learned weights and without files.
//!
//! [`prepare`](prepare::prepare) is the whole way from a [`Recording`](crate::data::recording::Recording) to an
//! [`Ecg`](crate::data::ecg::Ecg); every other file is one of its steps, or what the models take from a prepared ECG.

pub mod als;
pub mod filter;
pub mod lane;
pub mod lead;
pub mod phase;
pub mod prepare;
pub mod preset;
pub mod quality;
pub mod resample;
pub mod rpeak;
pub mod statistic;
pub mod step;
pub mod window;
