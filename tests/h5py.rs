//! h5py opens what we write, and we read what h5py writes. Skipped loudly where Python has no h5py.

use std::path::Path;
use std::process::Output;

use ecgflow::io::hdf5::{CineReader, EcgReader, FeaturesReader};
use ecgflow::io::Source;
use serde_json::{json, Value};

use crate::program::{example, root, succeed, text, tiny_weights, Python};

/// Runs `h5py_files.py`. None where there is no h5py; `make test` fetches one, so CI must have it.
fn h5py(arguments: &[&str], folder: &Path) -> Option<Output> {
    let python = Python::with(&["h5py"], "h5py")?;
    let script = root().join("tests/h5py_files.py").display().to_string();
    Some(python.run(&[&[script.as_str()], arguments].concat(), folder))
}

#[test]
fn h5py_opens_every_file_we_write() {
    let out = tempfile::tempdir().unwrap();
    let w = tiny_weights().display();
    succeed(&format!("ecg-prep {} -o ecg.h5", example().display()), out.path());
    succeed(&format!("pamae-encode ecg.h5 -o features.h5 --weights {w}"), out.path());
    succeed(&format!("amdf-sample features.h5 -o cine.h5 --latent latent.h5 --seed 3 --weights {w}"), out.path());
    let Some(output) = h5py(&["read", "ecg.h5", "features.h5", "cine.h5", "latent.h5"], out.path()) else { return };
    let files: Vec<Value> = text(&output.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let large = [
        ("ecg", "ecg", json!([1, 12, 5000]), json!([1, 12, 5000])),
        ("features", "feature", json!([1, 8, 48]), json!([1, 8, 48])),
        ("cine", "cine", json!([1, 8, 32, 32]), json!([1, 8, 32, 32])),
        ("latent", "latent", json!([1, 4, 8, 4, 4]), json!([1, 4, 8, 4, 4])),
    ];
    for (file, (format, name, shape, chunks)) in files.iter().zip(large) {
        let attributes = &file["attributes"];
        assert_eq!(attributes["format"], format!("ecgflow.{format}"));
        assert_eq!(attributes["format_version"], 1);
        assert_eq!(attributes["synthetic"], format == "cine" || format == "latent");
        for name in ["tool", "tool_version", "command", "created", "model", "history"] {
            assert!(attributes[name].is_string(), "{name} in {attributes}");
        }
        let dataset = &file["datasets"][name];
        assert_eq!((&dataset["shape"], &dataset["chunks"]), (&shape, &chunks));
        assert_eq!(dataset["dtype"], "float32");
        assert_eq!((&dataset["compression"], &dataset["shuffle"]), (&json!("gzip"), &json!(true)));
        assert_eq!(file["datasets"]["id"]["content"], json!(["example"]));
    }
    assert_eq!(files[2]["attributes"]["seed"], 3);
    assert_eq!(files[0]["attributes"]["fs"], 500.0);
    assert_eq!(files[0]["attributes"]["lead"], "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6");
    // The same values on both sides.
    let ecg = EcgReader::open(Source::open(&out.path().join("ecg.h5")).unwrap()).unwrap().next().unwrap().unwrap();
    let ours: f64 = ecg.samples_mv.iter().map(|v| f64::from(*v)).sum();
    let theirs = files[0]["datasets"]["ecg"]["content"].as_f64().unwrap();
    assert!((ours - theirs).abs() < 1e-6 * (1.0 + ours.abs()), "{ours} {theirs}");
    let peaks: i32 = ecg.r_peak.iter().sum();
    assert_eq!(files[0]["datasets"]["r_peak"]["content"], f64::from(peaks));
}

/// Chunks are packed and unpacked by code of ours; NPY is neither.
#[test]
fn h5py_finds_every_value_of_records_that_we_packed() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 3 --seed 5 --hdf5 -o hearts", out.path());
    for preset in ["raw", "clean"] {
        for form in ["h5", "npy"] {
            succeed(&format!("ecg-prep hearts/ecg.h5 --preset {preset} -o {preset}.{form}"), out.path());
        }
    }
    let Some(output) = h5py(&["same", "raw", "clean"], out.path()) else { return };
    assert_eq!(text(&output.stdout), "3 0\n3 0\n", "records, values that are other ones");
}

#[test]
fn files_that_h5py_wrote_are_read() {
    let out = tempfile::tempdir().unwrap();
    if h5py(&["write", "."], out.path()).is_none() {
        return;
    }
    let open = |name: &str| Source::open(&out.path().join(name)).unwrap();
    let ecgs: Vec<_> = EcgReader::open(open("ecg.h5")).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(ecgs.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["p1", "p2"]);
    assert_eq!(ecgs[1].samples_mv[[1, 50]], -(50.0f64 * 0.02).sin() as f32);
    let features: Vec<_> = FeaturesReader::open(open("features.h5")).unwrap().map(|f| f.unwrap()).collect();
    assert!(features.len() == 2 && features[1].feature.iter().all(|v| *v == 1.0));
    let clips: Vec<_> = CineReader::open(open("cine.h5")).unwrap().map(|c| c.unwrap()).collect();
    assert_eq!(clips[2].id, "p\u{e9}");
    assert!(clips.iter().all(|c| c.clip.iter().all(|v| *v == 0.2)));
    let w = tiny_weights().display();
    succeed("ecg-prep ecg.h5 -o prepared.h5", out.path());
    succeed(&format!("pamae-encode ecg.h5 -o f.h5 --weights {w}"), out.path());
    succeed(&format!("amdf-sample features.h5 -o c.h5 --weights {w}"), out.path());
    let table = text(&succeed(&format!("cmr-classify cine.h5 --weights {w} --no-comments"), out.path()));
    assert_eq!(table.lines().count(), 4);
}
