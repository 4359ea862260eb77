//! FLAC signal files of WFDB: a byte each for format and signals, two for the samples, then the stream.
#![no_main]

use ecgflow::io::wfdb;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [kind, low, high, stream @ ..] = data else { return };
    let format = [508, 516, 524][usize::from(kind % 3)];
    let signals = kind / 3 % 8 + 1;
    let per_frame = kind / 24 % 4 + 1;
    let mut header = format!("r {signals} 500 {}\n", u16::from_le_bytes([*low, *high]));
    for _ in 0..signals {
        header.push_str(&format!("a.dat {format}x{per_frame} 200/mV\n"));
    }
    let path = ecgflow_fuzz::put("r.hea", header.as_bytes());
    ecgflow_fuzz::put("a.dat", stream);
    ecgflow_fuzz::read_at(&path, data.len(), wfdb::open);
});
