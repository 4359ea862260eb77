//! DICOM waveforms.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecgflow_fuzz::read(data, "a.dcm", ecgflow::io::dicom::open));
