//! NPY.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecgflow_fuzz::read(data, "a.npy", ecgflow::io::npy::open));
