//! EDF, EDF+ and BDF written by pyedflib, against what pyedflib reads (testdata/golden/edf_golden.py); damaged files.

use std::fs;
use std::path::PathBuf;

use ecgflow::io::ReadOptions;
use serde_json::Value;

use crate::formats::{assert_equals_golden, read_all, read_one, Random};
use crate::program::root;

const FILES: [&str; 3] = ["plain.edf", "plus.edf", "plus.bdf"];

fn small(name: &str) -> PathBuf {
    root().join("testdata/ecg/edf").join(name)
}

#[test]
fn edf_of_every_kind_equals_pyedflib() {
    let golden = fs::read_to_string(root().join("testdata/golden/edf.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    for name in FILES {
        assert_equals_golden(&read_one(&small(name)), &golden[name], name);
    }
}

#[test]
fn damaged_edf_is_an_error_not_a_panic() {
    let mut random = Random(3);
    let folder = tempfile::tempdir().unwrap();
    let (mut good, mut bad) = (0, 0);
    for name in FILES {
        let seed = fs::read(small(name)).unwrap();
        for i in 0..500 {
            let path = folder.path().join(format!("{i}.edf"));
            let mut bytes = random.damage(&seed);
            // Most of the file is samples: every other file is damaged in its header for sure.
            if i % 2 == 0 {
                bytes = seed.clone();
                let at = random.below(1024);
                bytes[at] = b"0123456789+-. D\xff"[random.below(16)];
            }
            fs::write(&path, bytes).unwrap();
            match read_all(&path, &ReadOptions::default()) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
            fs::remove_file(&path).unwrap();
        }
    }
    assert!(good > 100 && bad > 100, "{good} read, {bad} refused");
}
