//! The integration tests, one crate so that candle is linked once.
// Clippy knows tests by their attribute only; the functions they share are tests too.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::print_stdout)]

mod bundled;
mod dicom_cine;
mod discriminator;
mod docs;
mod ecg_array;
mod ecg_dicom;
mod ecg_edf;
mod ecg_inputs;
mod ecg_outputs;
mod ecg_prep;
mod ecg_scp;
mod ecg_stated;
mod ecg_wfdb;
mod ecg_xml;
mod evaluate;
mod evaluate_clips;
mod extractor;
mod floors;
mod formats;
mod fuzz_inputs;
mod h5py;
mod heart;
mod import;
mod learn;
mod lpips;
mod malformed;
mod malformed_hdf5;
mod metric;
mod models;
mod pipeline;
mod preset;
mod program;
mod quality;
mod recipe;
mod rpeak;
mod signal;
mod simulate;
mod simulate_ecg;
mod simulate_waves;
mod support;
mod trainers;
mod training;
mod vae_terms;
mod vit;
