//! `ecgflow import`: checkpoints of PyTorch, pickled NumPy arrays, weights of the toolkit, told apart by content.
#![no_main]

use ecgflow::checkpoint::import::{import, Options};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = ecgflow_fuzz::put("a.bin", data);
    ecgflow_fuzz::bounded(data.len(), || ecgflow_fuzz::settle(import(&[path], &Options::default())));
});
