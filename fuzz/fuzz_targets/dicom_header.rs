//! What `ecgflow inspect` says of a DICOM object, and the look whether it is a waveform.
#![no_main]

use ecgflow::io::dicom;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = ecgflow_fuzz::put("a.dcm", data);
    ecgflow_fuzz::bounded(data.len(), || {
        let _ = dicom::holds_waveform(&data[..data.len().min(4096)]);
        ecgflow_fuzz::settle(dicom::describe(&path));
    });
});
