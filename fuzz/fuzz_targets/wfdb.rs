//! WFDB: a header, two signal files, three headers of segments; all storage formats but FLAC, and MATLAB v4 files.
#![no_main]

use ecgflow::io::wfdb;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = ecgflow_fuzz::put_parts(data, &["r.hea", "a.dat", "b.dat", "s1.hea", "s2.hea", "s3.hea"]);
    let _ = wfdb::recognise(&data[..data.len().min(4096)], "r");
    if path.is_file() {
        ecgflow_fuzz::read_at(&path, data.len(), wfdb::open);
    }
});
