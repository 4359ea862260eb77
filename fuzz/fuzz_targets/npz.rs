//! NPZ: an archive as it stands where the input is one, else one made of the parts of the input.
#![no_main]

use ecgflow::io::npz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"PK") {
        return ecgflow_fuzz::read(data, "a.npz", npz::open);
    }
    let parts = ecgflow_fuzz::parts(data);
    let archive = ecgflow_fuzz::zip(parts.into_iter().take(9).enumerate().map(|(k, part)| (format!("a{k}.npy"), part)));
    ecgflow_fuzz::read(&archive, "a.npz", npz::open);
});
