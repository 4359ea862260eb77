//! Damaged WFDB records of the kinds that tests/formats.rs does not damage: segments, compressed and packed signals.

use std::fs;
use std::path::Path;

use ecgflow::io::ReadOptions;

use crate::formats::{peak_memory, read_all, Random};
use crate::program::{root, shared};

/// Reads `header` `times` times, each time with another damaged copy of `name` beside it.
fn damage(folder: &Path, header: &Path, name: &str, times: usize) -> (usize, usize) {
    let mut random = Random(name.len() as u64);
    let seed = fs::read(folder.join(name)).unwrap();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..times {
        let path = folder.join(name);
        fs::remove_file(&path).unwrap();
        fs::write(&path, random.damage(&seed)).unwrap();
        match read_all(header, &ReadOptions::default()) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    fs::write(folder.join(name), seed).unwrap();
    (good, bad)
}

#[test]
fn damaged_segments_are_errors_not_panics_and_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(root().join("testdata/ecg/wfdb")).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let before = peak_memory();
    let header = folder.path().join("variable.hea");
    for name in ["variable.hea", "variable_layout.hea", "variable_1.hea", "variable_2.dat"] {
        let (_, bad) = damage(folder.path(), &header, name, 700);
        assert!(bad > 100, "{name}: {bad} refused");
    }
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 512 << 20, "memory grew by {grown} bytes");
}

#[test]
fn damaged_flac_streams_are_errors_not_panics_and_take_no_memory() {
    let Some(real) = shared("data/ecg/wfdb") else { return };
    let folder = tempfile::tempdir().unwrap();
    let before = peak_memory();
    for (part, format) in [("d0", 508), ("d1", 516), ("d2", 524)] {
        let name = format!("r.{part}");
        fs::write(folder.path().join(&name), fs::read(real.join(format!("flacformats.{part}"))).unwrap()).unwrap();
        // With and without a number of samples; no checksum, so that what decodes is read.
        for samples in ["499", "0", "600"] {
            let header = folder.path().join(format!("r{samples}.hea"));
            fs::write(&header, format!("r 1 200 {samples}\n{name} {format} 200/mV\n")).unwrap();
            let (good, bad) = damage(folder.path(), &header, &name, 400);
            assert!(bad > 100, "{name}, {samples} samples: {good} read, {bad} refused");
        }
    }
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 512 << 20, "memory grew by {grown} bytes");
}
