//! Synthetic cine series as DICOM: pydicom opens every object and finds what was written. Skipped loudly without pydicom.

use std::path::{Path, PathBuf};

use ecgflow::data::series::{CineSeries, Plane, Scanner};
use ecgflow::data::Provenance;
use ecgflow::io::dicom::cine::{encode, SeriesFolders};
use ecgflow::io::Sink;
use ndarray::Array3;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

use crate::program::{names, root, succeed, text, Python};

fn provenance(seed: u64) -> Provenance {
    let mut provenance = Provenance::now("ecgflow", "ecgflow simulate".into());
    (provenance.seed, provenance.synthetic) = (Some(seed), true);
    provenance
}

fn series(id: &str) -> CineSeries {
    let frames = Array3::from_shape_fn((30, 20, 17), |(t, y, x)| ((t * 131 + y * 17 + x * 7) % 4096) as u16);
    CineSeries {
        id: id.into(),
        frames,
        pixel_spacing_mm: [1.826_923, 1.75],
        slice_thickness_mm: 6.0,
        plane: Plane::four_chamber(),
        trigger_ms: (0..30).map(|t| f64::from(t) * 928.4 / 30.0).collect(),
        rr_ms: 928.4,
        scanner: Scanner::biobank(),
    }
}

fn write(folder: &Path, series: &CineSeries, seed: u64) -> Vec<PathBuf> {
    let mut folders = SeriesFolders::begin(folder, &provenance(seed)).unwrap();
    folders.put(series).unwrap();
    folders.finish().unwrap();
    let inside = folder.join(names(folder).remove(0));
    names(&inside).into_iter().map(|name| inside.join(name)).collect()
}

/// What pydicom says of each file.
pub fn pydicom(files: &[PathBuf]) -> Option<Vec<Value>> {
    let python = Python::with(&["pydicom", "h5py"], "pydicom, numpy")?;
    let words: Vec<PathBuf> =
        std::iter::once(root().join("tests/pydicom_files.py")).chain(files.iter().cloned()).collect();
    let output = python.run(&words, root());
    assert!(output.stderr.is_empty(), "pydicom warns: {}", text(&output.stderr));
    Some(text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn pydicom_opens_every_frame_and_finds_its_pixels() {
    let out = tempfile::tempdir().unwrap();
    let series = series("s7_12");
    let files = write(&out.path().join("cine"), &series, 7);
    assert_eq!(files.len(), 30);
    assert!(files[0].ends_with("cine/s7_12/IM0001.dcm") && files[29].ends_with("IM0030.dcm"));
    let Some(found) = pydicom(&files) else { return };
    assert_eq!(found.len(), 30);
    for (number, (found, frame)) in found.iter().zip(series.frames.outer_iter()).enumerate() {
        let bytes: Vec<u8> = frame.iter().flat_map(|value| value.to_le_bytes()).collect();
        let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found["sha256"], hash);
        assert_eq!((&found["shape"], &found["dtype"]), (&json!([20, 17]), &json!("uint16")));
        assert_eq!((&found["meta_agrees"], &found["uids_valid"]), (&json!(true), &json!(true)));
        assert_eq!(found["class"], "MR Image Storage");
        assert_eq!(found["transfer_syntax"], "Explicit VR Little Endian");
        assert_eq!(found["elements"]["InstanceNumber"], (number + 1) as f64);
        let trigger = found["elements"]["TriggerTime"].as_f64().unwrap();
        assert!((trigger - series.trigger_ms[number]).abs() < 1e-6);
    }
    let uids = |name: &str| -> std::collections::BTreeSet<String> {
        found.iter().map(|found| found["elements"][name].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(uids("SOPInstanceUID").len(), 30);
    assert_eq!([uids("StudyInstanceUID").len(), uids("SeriesInstanceUID").len()], [1, 1]);
}

#[test]
fn pydicom_finds_the_elements_of_the_mr_module() {
    let out = tempfile::tempdir().unwrap();
    let files = write(&out.path().join("cine"), &series("s7_12"), 7);
    let Some(found) = pydicom(&files[..1]) else { return };
    let elements = &found[0]["elements"];
    let expected = json!({
        "Modality": "MR", "PatientID": "s7_12", "PatientName": "SYNTHETIC^s7_12", "PatientBirthDate": "",
        "SeriesDescription": "CINE_segmented_LAX_4Ch", "StudyDescription": "SYNTHETIC heart MR",
        "SyntheticData": "YES", "ImageType": ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"],
        "ImageComments": "SYNTHETIC: drawn by a computer program, no patient, not for diagnosis",
        "BodyPartExamined": "HEART", "BurnedInAnnotation": "NO", "PhotometricInterpretation": "MONOCHROME2", "Rows": 20.0, "Columns": 17.0,
        "BitsAllocated": 16.0, "BitsStored": 12.0, "HighBit": 11.0, "PixelRepresentation": 0.0, "SamplesPerPixel": 1.0,
        "PixelSpacing": [1.826923, 1.75], "SliceThickness": 6.0, "CardiacNumberOfImages": 30.0,
        "NominalInterval": 928.0, "HeartRate": 65.0, "RepetitionTime": 2.6, "EchoTime": 1.1, "FlipAngle": 80.0,
        "MagneticFieldStrength": 1.5, "StudyDate": "20000101", "ContentTime": "120000",
        "ImageOrientationPatient": [0.8660254, 0.0, -0.5, 0.17101007, 0.93969262, 0.29619813],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&elements[name], value, "{name}");
    }
    let derivation = elements["DerivationDescription"].as_str().unwrap();
    assert!(derivation.starts_with("SYNTHETIC") && derivation.contains("seed 7"), "{derivation}");
    assert!(elements.as_object().unwrap().keys().all(|name| !name.starts_with('(')), "unknown elements: {elements}");
}

#[test]
fn the_same_participant_gives_the_same_bytes_and_another_gives_other_uids() {
    let files = |id: &str, seed| encode(&series(id), &provenance(seed)).unwrap().files().to_vec();
    let mut later = provenance(7);
    (later.created, later.command) = ("2030-01-01T00:00:00Z".into(), "ecgflow simulate -o elsewhere".into());
    assert_eq!(files("p", 7), encode(&series("p"), &later).unwrap().files());
    assert_ne!(files("p", 7), files("p", 8));
    assert_ne!(files("p", 7), files("q", 7));
}

#[test]
fn inspect_shows_a_frame_and_ecg_prep_knows_it_for_no_ecg() {
    let out = tempfile::tempdir().unwrap();
    write(&out.path().join("cine"), &series("p"), 0);
    let said = text(&succeed("ecgflow inspect cine/p/IM0001.dcm", out.path()));
    assert!(said.contains("SeriesDescription: CINE_segmented_LAX_4Ch") && said.contains("Rows: 20"), "{said}");
    let refused = crate::program::run("ecg-prep cine/p/IM0001.dcm -o x.h5", out.path());
    assert!(text(&refused.stderr).contains("the object holds no ECG"), "{}", text(&refused.stderr));
}

#[test]
fn a_folder_that_holds_something_is_refused_and_an_unfinished_one_leaves_nothing() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("cine");
    let mut folders = SeriesFolders::begin(&path, &provenance(0)).unwrap();
    folders.put(&series("p")).unwrap();
    assert!(folders.put(&series("p")).is_err(), "a participant twice");
    drop(folders);
    assert!(names(out.path()).is_empty());
    std::fs::create_dir(&path).unwrap();
    drop(write(&path, &series("p"), 0)); // an empty one is fine
    let error = SeriesFolders::begin(&path, &provenance(0)).err().unwrap();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("not empty"), "{error}");
    let mut bad = series("p");
    bad.frames[[0, 0, 0]] = 5000;
    assert!(encode(&bad, &provenance(0)).is_err());
}
