//! CSV and TSV, long and wide; also the look whether a table holds samples, and the origin in `#` lines.
#![no_main]

use ecgflow::io::{csv, origin, Source};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let head = &data[..data.len().min(4096)];
    let path = ecgflow_fuzz::put("a.csv", data);
    ecgflow_fuzz::bounded(data.len(), || {
        let _ = (csv::recognise(head, "a.csv"), csv::holds_samples(head));
        let _ = Source::open(&path).map(|source| origin::origin(&source));
    });
    ecgflow_fuzz::read_at(&path, data.len(), csv::open);
});
