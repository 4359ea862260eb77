//! EDF, EDF+ and BDF.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecgflow_fuzz::read(data, "a.edf", ecgflow::io::edf::open));
