//! What a file states wins over what the user gives; a contradiction is an error.

use std::path::{Path, PathBuf};

use ecgflow::data::ecg::Lead;
use ecgflow::io::{ReadOptions, Unit};
use hdf5::types::VarLenUnicode;
use ndarray::Array3;

use crate::formats::read_all;

/// An HDF5 file of one ECG, 2.0 everywhere, in the dataset `name`.
fn file(folder: &Path, name: &str, texts: &[(&str, &str)]) -> PathBuf {
    let path = folder.join("e.h5");
    let file = hdf5::File::create(&path).unwrap();
    file.new_dataset_builder().with_data(&Array3::from_elem((1, 12, 20), 2.0)).create(name).unwrap();
    file.new_dataset_builder().with_data(&["a".parse::<VarLenUnicode>().unwrap()]).create("id").unwrap();
    file.new_attr::<f64>().create("fs").unwrap().write_scalar(&400.0).unwrap();
    for (key, value) in texts {
        let value: VarLenUnicode = value.parse().unwrap();
        file.new_attr::<VarLenUnicode>().create(*key).unwrap().write_scalar(&value).unwrap();
    }
    path
}

fn told(rate_hz: Option<f64>, unit: Option<Unit>, leads: Option<&str>) -> ReadOptions {
    let leads = leads.map(|text| text.split(' ').map(str::to_owned).collect());
    ReadOptions { rate_hz, unit, leads, ..ReadOptions::default() }
}

#[test]
fn what_an_hdf5_file_states_is_not_overruled() {
    let folder = tempfile::tempdir().unwrap();
    let leads = Lead::ALL.map(Lead::name);
    let turned: Vec<&str> = leads.iter().rev().copied().collect();
    for name in ["ecg", "signals"] {
        let path = file(folder.path(), name, &[("units", "uV"), ("lead", &leads.join(","))]);
        let says = |options: ReadOptions, words: &str| {
            let error = read_all(&path, &options).unwrap_err().to_string();
            assert!(error.contains("e.h5") && error.contains(words), "{name}: {error}");
        };
        says(told(Some(500.0), None, None), "--rate is not what the file states (expected 400 Hz, found 500 Hz)");
        says(told(None, Some(Unit::Volt), None), "--units is not what the file states (expected uV, found V)");
        says(told(None, None, Some(&turned.join(" "))), "--leads is not what the file states (expected I,II,III");
        let agreed = told(Some(400.0), Some(Unit::Microvolt), Some(&leads.join(" ")));
        for options in [ReadOptions::default(), agreed] {
            let record = read_all(&path, &options).unwrap().remove(0);
            assert_eq!((record.rate_hz, record.samples_mv[[0, 0]]), (400.0, 0.002), "{name}");
        }
    }
}

#[test]
fn our_own_file_is_in_millivolts_whatever_units_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "ecg", &[("format", "ecgflow.ecg")]);
    let record = read_all(&path, &told(None, Some(Unit::Microvolt), None)).unwrap().remove(0);
    assert_eq!(record.samples_mv[[0, 0]], 2.0);
}

#[test]
fn an_unknown_unit_is_refused_unless_the_user_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ecg", "signals"] {
        let path = file(folder.path(), name, &[("units", "counts")]);
        let error = read_all(&path, &ReadOptions::default()).unwrap_err();
        assert!(error.to_string().contains("unknown unit (expected uV, mV or V, found counts)"), "{name}: {error}");
        assert_eq!(error.hint(), Some("give --units"));
        let record = read_all(&path, &told(None, Some(Unit::Volt), None)).unwrap().remove(0);
        assert_eq!(record.samples_mv[[0, 0]], 2000.0, "{name}");
    }
}
