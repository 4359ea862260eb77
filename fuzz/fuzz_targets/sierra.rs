//! Philips Sierra XML as it stands; `xli` reaches further into the compression.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecgflow_fuzz::read(data, "a.xml", ecgflow::io::sierra::open));
