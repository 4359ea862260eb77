//! HDF5 and NPZ files of other people, and the layout of CODE-15 %, against h5py and NumPy (testdata/golden/array_golden.py).

use std::fs;
use std::path::{Path, PathBuf};

use ecgflow::data::recording::Recording;
use ecgflow::io::array::AxisOrder;
use ecgflow::io::ReadOptions;
use serde_json::Value;

use crate::formats::{assert_close, assert_equals_golden, read_all, Random};
use crate::program::{root, shared};

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("testdata/golden/array.json")).unwrap()).unwrap()
}

fn small(name: &str) -> PathBuf {
    root().join("testdata/ecg/array").join(name)
}

fn assert_rows(records: &[Recording], golden: &Value, rate_hz: f64) {
    let ids: Vec<&str> = records.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(serde_json::json!(ids), golden["ids"]);
    for (i, record) in records.iter().enumerate() {
        assert_eq!(record.rate_hz, rate_hz);
        let x = &record.samples_mv;
        for (key, row) in [("first", x.row(0)), ("last", x.row(x.nrows() - 1))] {
            let expected = golden[key][i].as_array().unwrap();
            assert_eq!(expected.len(), x.ncols());
            for (found, value) in row.iter().zip(expected) {
                assert_close(*found, value, 1e-12, &record.id);
            }
        }
    }
}

#[test]
fn hdf5_of_other_people_equals_h5py() {
    let golden = golden();
    let grouped = ReadOptions { dataset: Some("data/signals".into()), ..ReadOptions::default() };
    assert_rows(&read_all(&small("grouped.h5"), &grouped).unwrap(), &golden["grouped"], 250.0);
    let one = read_all(&small("one.h5"), &ReadOptions::default()).unwrap();
    assert_eq!(one[0].leads.join(" "), "I II V1 V2 V3 V4 V5 V6");
    assert_rows(&one, &golden["one"], 500.0);
    let group = ReadOptions { dataset: Some("/records".into()), ..ReadOptions::default() };
    assert_rows(&read_all(&small("each.h5"), &group).unwrap(), &golden["each"], 250.0);
}

#[test]
fn a_layout_that_is_none_is_refused() {
    let words = format!("ecg-prep --layout tln {}", small("one.h5").display());
    crate::program::refuses(&words, 2, &["--layout", "expected nlt or ntl"], |_| ());
}

#[test]
fn npz_equals_numpy() {
    let golden = golden();
    let rate = ReadOptions { rate_hz: Some(500.0), ..ReadOptions::default() };
    assert_rows(&read_all(&small("two.npz"), &rate).unwrap(), &golden["two"], 500.0);
    let train = ReadOptions { dataset: Some("train".into()), layout: Some(AxisOrder::TimeFirst), ..rate };
    assert_rows(&read_all(&small("several.npz"), &train).unwrap(), &golden["several"], 500.0);
}

#[test]
fn the_layout_of_code_15_reads_without_being_told() {
    let Some(folder) = shared("data/ecg/derived") else { return };
    let records = read_all(&folder.join("code15_layout_400Hz.hdf5"), &ReadOptions::default()).unwrap();
    let golden = golden();
    let expected = golden["code15"].as_array().unwrap();
    assert_eq!(records.len(), expected.len());
    for (record, golden) in records.iter().zip(expected) {
        assert_eq!(record.id, golden["id"].as_str().unwrap());
        assert_equals_golden(record, golden, &record.id);
        assert!(record.notes[0].contains("96 filling zeros cut"), "{:?}", record.notes);
    }
}

fn error(path: &Path, options: &ReadOptions) -> ecgflow::Error {
    read_all(path, options).unwrap_err()
}

#[test]
fn arrays_that_cannot_be_told_apart_are_listed() {
    let silent = ReadOptions::default();
    let named = |name: &str| ReadOptions { dataset: Some(name.into()), ..silent.clone() };
    let several = error(&small("several.npz"), &silent);
    assert!(several.to_string().contains("found test, train"), "{several}");
    assert_eq!(several.hint(), Some("name one of its arrays with --dataset"));
    assert!(error(&small("several.npz"), &named("valid")).to_string().contains("expected valid, found test, train"));
    let text = error(&small("grouped.h5"), &named("data/record_id")).to_string();
    assert!(text.contains("field /data/record_id: expected numbers"), "{text}");
    assert!(error(&small("grouped.h5"), &named("nothing")).to_string().contains("expected nothing, found labels"));
    let labels = error(&small("grouped.h5"), &silent).to_string();
    assert!(labels.contains("expected (12, N), (N, 12), (R, 12, N) or (R, N, 12), found [3, 4]"), "{labels}");
    let records = error(&small("each.h5"), &silent);
    assert!(records.to_string().contains("expected one dataset of two or three dimensions, found none"), "{records}");
    let group =
        error(&small("grouped.h5"), &ReadOptions { leads: Some(vec!["I".into()]), ..named("data") }).to_string();
    assert!(group.contains("there is no such dataset (expected data, found a group of data/signals)"), "{group}");
    let layout = ReadOptions { layout: Some(AxisOrder::LeadsFirst), ..named("data/signals") };
    assert!(error(&small("grouped.h5"), &layout).to_string().contains("found [3, 20, 12]"));
    let unrated = error(&small("two.npz"), &silent);
    assert!(unrated.to_string().contains("does not state its sampling rate"), "{unrated}");
}

#[test]
fn damaged_npz_is_an_error_not_a_panic() {
    let mut random = Random(5);
    let folder = tempfile::tempdir().unwrap();
    let seed = fs::read(small("two.npz")).unwrap();
    let options = ReadOptions { rate_hz: Some(500.0), ..ReadOptions::default() };
    let (mut good, mut bad) = (0, 0);
    for i in 0..1000 {
        let path = folder.path().join(format!("{i}.npz"));
        fs::write(&path, random.damage(&seed)).unwrap();
        match read_all(&path, &options) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    assert!(good > 20 && bad > 300, "{good} read, {bad} refused");
}
