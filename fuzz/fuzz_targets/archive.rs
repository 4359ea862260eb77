//! ZIP, TAR and gzip: every file in an archive is unpacked. What is unpacked is read by the other targets.
#![no_main]

use ecgflow::io::input::Inputs;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = ecgflow_fuzz::put("a.zip", data);
    ecgflow_fuzz::bounded(data.len(), || match Inputs::begin(&[path], None) {
        Ok(inputs) => inputs.for_each(|source| ecgflow_fuzz::settle(source.and_then(|source| source.head()))),
        Err(error) => ecgflow_fuzz::settle::<()>(Err(error)),
    });
});
