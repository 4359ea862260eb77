//! SCP-ECG. The checksum of the file is made 0, which means none: no mutation hits it.
#![no_main]

use ecgflow::io::scp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    bytes.iter_mut().take(2).for_each(|byte| *byte = 0);
    ecgflow_fuzz::read(&bytes, "a.scp", scp::open);
});
