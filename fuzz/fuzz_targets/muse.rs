//! GE MUSE XML.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecgflow_fuzz::read(data, "a.xml", ecgflow::io::muse::open));
