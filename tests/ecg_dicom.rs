//! DICOM waveforms: every encoding against pydicom (testdata/golden/dicom_golden.py), real objects, damaged ones.

use std::fs;
use std::path::{Path, PathBuf};

use ecgflow::data::ecg::Lead;
use ecgflow::io::ReadOptions;
use serde_json::Value;

use crate::formats::{assert_close, peak_memory, read_all, read_one, Random};
use crate::program::{root, shared};

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("testdata/golden/dicom.json")).unwrap()).unwrap()
}

fn small(name: &str) -> PathBuf {
    root().join("testdata/ecg/dicom").join(format!("{name}.dcm"))
}

#[test]
fn dicom_of_every_encoding_equals_pydicom() {
    let golden = golden();
    let cases = golden["small"].as_object().unwrap();
    assert_eq!(cases.len(), 8);
    for (name, expected) in cases {
        let record = read_one(&small(name));
        assert_eq!((record.id.as_str(), record.rate_hz), (name.as_str(), 250.0));
        assert_eq!(serde_json::json!(record.leads), expected["leads"], "{name}");
        assert_eq!(record.samples_mv.dim(), (4, 16), "{name}");
        for (row, values) in record.samples_mv.rows().into_iter().zip(expected["samples_mv"].as_array().unwrap()) {
            for (found, value) in row.iter().zip(values.as_array().unwrap()) {
                assert_close(*found, value, 1e-9 * found.abs().max(1.0), name);
            }
        }
    }
}

#[test]
fn dicom_says_that_it_chose_the_rhythm() {
    let record = read_one(&small("explicit_16"));
    let note =
        "read multiplex group 2 (RHYTHM, recorded, 5 channels, 0.1 s); left out multiplex group 1 (MEDIAN BEAT, \
                derived, 2 channels, 0.0 s)";
    assert_eq!(record.notes, [note]);
}

#[test]
fn inspect_shows_the_leads_of_a_dicom_ecg_and_the_choice() {
    let words = format!("ecgflow inspect {}", small("big_16").display());
    let said = crate::program::text(&crate::program::succeed(&words, root()));
    for part in ["kind: DICOM", "leads: 4: II, aVR, V3, V6", "rate_hz: 250", "notes: read multiplex group 2 (RHYTHM"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn real_dicom_ecgs_equal_pydicom() {
    let Some(folder) = shared("data/ecg/dicom") else { return };
    let golden = golden();
    let objects = golden["real"].as_object().unwrap();
    assert_eq!(objects.len(), 3);
    for (name, expected) in objects {
        let record = read_one(&folder.join(name));
        assert_eq!(record.rate_hz, expected["rate_hz"].as_f64().unwrap(), "{name}");
        let samples = expected["samples"].as_u64().unwrap() as usize;
        assert_eq!(record.samples_mv.dim(), (12, samples), "{name}");
        assert_eq!(record.leads, Lead::ALL.map(Lead::name), "{name}");
        assert_eq!(record.notes.len(), 1, "{name}");
        for (row, signal) in record.samples_mv.rows().into_iter().zip(expected["signals"].as_array().unwrap()) {
            let what = format!("{name} {}", signal["meaning"]);
            let each = |key: &str, at: &dyn Fn(usize) -> usize| {
                for (i, value) in signal[key].as_array().unwrap().iter().enumerate() {
                    assert_close(row[at(i)], value, 1e-9, &format!("{what} {key} {i}"));
                }
            };
            each("first", &|i| i);
            each("last", &|i| samples - 8 + i);
            each("every", &|i| 500 * i);
            assert_close(row.sum(), &signal["sum"], 1e-6, &what);
            assert_close(row.mapv(|v| v * v).sum(), &signal["squares"], 1e-6, &what);
        }
    }
}

/// Changes one place of a small object and reads it.
fn error(name: &str, from: &[u8], to: &[u8]) -> ecgflow::Error {
    let mut bytes = fs::read(small(name)).unwrap();
    let at = bytes.windows(from.len()).rposition(|w| w == from).expect("the pattern");
    bytes.splice(at..at + from.len(), to.iter().copied());
    error_of(&bytes)
}

fn error_of(bytes: &[u8]) -> ecgflow::Error {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.dcm");
    fs::write(&path, bytes).unwrap();
    read_all(&path, &ReadOptions::default()).unwrap_err()
}

#[test]
fn malformed_dicom_is_refused_with_expected_and_found() {
    let says = |error: ecgflow::Error, parts: &[&str]| {
        let text = error.to_string();
        assert!(text.contains("a.dcm"), "{text}");
        parts.iter().for_each(|part| assert!(text.contains(part), "{part}: {text}"));
    };
    let samples = |n: u8| [0x3a, 0, 0x10, 0, b'U', b'L', 4, 0, n, 0, 0, 0];
    let data =
        ["multiplex group 2", "Waveform Data (5400,1010)", "5 channels x 17 samples x 2 bytes", "found 160 bytes"];
    says(error("explicit_16", &samples(16), &samples(17)), &data);
    says(error("explicit_16", &samples(16), &samples(0)), &["Number of Waveform Samples", "above 0"]);
    says(error("explicit_16", b"SS", b"MB"), &["expected SB, UB, SS, US, SL or UL, found \"MB\""]);
    says(error("explicit_16", b"SS", b"SB"), &["Bits Allocated", "expected 8 for samples of type SB, found 16"]);
    says(error("explicit_16", b"250 ", b"2x0 "), &["Sampling Frequency", "expected a decimal number, found \"2x0\""]);
    says(error("explicit_16", b"0.1 ", b"inf "), &["channel 5, Channel Sensitivity", "expected a decimal number"]);
    let deflated = error("explicit_16", b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0");
    assert!(deflated.hint().is_some_and(|h| h.contains("dcmconv")));
    says(deflated, &["Transfer Syntax", "found 1.2.840.10008.1.2.9"]);
    let mut image = fs::read(small("explicit_16")).unwrap();
    let at = image.windows(9).position(|w| w == b"1.1.9.1.2").unwrap();
    image[at + 4] = b'4';
    says(error_of(&image), &["holds no ECG", "expected a waveform class"]);
    let whole = fs::read(small("implicit_16")).unwrap();
    says(error_of(&whole[..1500]), &["the file ends within an element"]);
    says(error_of(&whole[..132]), &["SOP Class", "found none"]);
}

#[test]
fn dicom_nested_without_end_is_refused() {
    let mut bytes = fs::read(small("implicit_16")).unwrap();
    let at = bytes.windows(4).position(|w| w == [0, 0x54, 0, 1]).unwrap();
    bytes.truncate(at);
    for _ in 0..10_000 {
        bytes.extend([0, 0x54, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff]);
    }
    let text = error_of(&bytes).to_string();
    assert!(text.contains("nested at most 16 deep"), "{text}");
}

#[test]
fn damaged_dicom_is_an_error_not_a_panic_and_takes_no_memory() {
    let mut random = Random(11);
    let folder = tempfile::tempdir().unwrap();
    let before = peak_memory();
    let (mut good, mut bad) = (0, 0);
    for name in ["explicit_16", "implicit_8", "big_16"] {
        let seed = fs::read(small(name)).unwrap();
        for i in 0..700 {
            let path = folder.path().join(format!("{i}.dcm"));
            fs::write(&path, random.damage(&seed)).unwrap();
            count(&path, &mut good, &mut bad);
            fs::remove_file(&path).unwrap();
        }
    }
    assert!(good > 100 && bad > 500, "{good} read, {bad} refused");
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 512 << 20, "memory grew by {grown} bytes");
}

fn count(path: &Path, good: &mut usize, bad: &mut usize) {
    match read_all(path, &ReadOptions::default()) {
        Ok(_) => *good += 1,
        Err(_) => *bad += 1,
    }
}

/// An element of implicit little endian.
fn element(group: u16, element: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [group.to_le_bytes(), element.to_le_bytes()].concat();
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(value);
    bytes
}

/// A multiplex group of one lead of 20 samples a second.
fn multiplex(lead: &str, samples: u32, offset: Option<&str>) -> Vec<u8> {
    let item = |parts: &[Vec<u8>]| element(0xfffe, 0xe000, &parts.concat());
    let unit = item(&[element(8, 0x100, b"uV")]);
    let channel =
        item(&[element(0x3a, 0x203, lead.as_bytes()), element(0x3a, 0x210, b"1 "), element(0x3a, 0x211, &unit)]);
    item(&[
        offset.map_or(Vec::new(), |offset| element(0x18, 0x1068, offset.as_bytes())),
        element(0x3a, 5, &[1, 0]),
        element(0x3a, 0x10, &samples.to_le_bytes()),
        element(0x3a, 0x1a, b"20"),
        element(0x3a, 0x200, &channel),
        element(0x5400, 0x1004, &[16, 0]),
        element(0x5400, 0x1006, b"SS"),
        element(0x5400, 0x1010, &vec![0; 2 * samples as usize]),
    ])
}

#[test]
fn groups_are_joined_only_where_they_run_side_by_side() {
    let whole = fs::read(small("implicit_16")).unwrap();
    let at = whole.windows(4).position(|w| w == [0, 0x54, 0, 1]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.dcm");
    let (zero, later) = (Some("0 "), Some("2500"));
    for (samples, first, second, joined) in [
        (50, None, None, false), // 2.5 s each: the columns of a page
        (50, zero, later, false),
        (50, zero, None, false),
        (50, zero, zero, true),
        (200, None, None, true), // ten seconds each
        (200, zero, later, false),
    ] {
        let groups = [multiplex("I ", samples, first), multiplex("II", samples, second)].concat();
        let bytes = [&whole[..at], &element(0x5400, 0x100, &groups)].concat();
        fs::write(&path, bytes).unwrap();
        let record = read_one(&path);
        let expected: &[&str] = if joined { &["I", "II"] } else { &["I"] };
        assert_eq!(record.leads, expected, "{samples} {first:?} {second:?}");
        assert_eq!(record.notes[0].contains("left out multiplex group 2"), !joined, "{:?}", record.notes);
    }
}
