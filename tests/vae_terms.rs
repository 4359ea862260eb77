//! `amdf-sample train --stage vae` with the perceptual, outlier and adversarial terms.

use std::path::Path;

use ecgflow::data::cine::Cine;
use ecgflow::data::Provenance;
use ecgflow::io::hdf5::CineWriter;
use ecgflow::io::Sink;
use ndarray::Array3;

use crate::program::{refuses, run, succeed, text};

const TRAIN: &str = "amdf-sample train --stage vae --cine cine.h5 --preset tiny --steps 4 --validation 0 --threads 1";
const TERMS: &str = "--perceptual lpips.safetensors --adversarial-from 2 --outliers 1";

/// Two clips of beating discs, and made-up weights of LPIPS.
fn data(folder: &Path) {
    let provenance = Provenance { synthetic: true, ..Provenance::now("test", "test".to_owned()) };
    let mut writer = CineWriter::begin(&folder.join("cine.h5"), &provenance).unwrap();
    for (id, size) in [("a", 9.0), ("b", 11.0)] {
        let clip = Array3::from_shape_fn((8, 32, 32), |(t, y, x)| {
            let away = (x as f32 - 15.0).hypot(y as f32 - 16.0);
            1.0 / (1.0 + (away - size - (t as f32).sin()).exp())
        });
        let (id, source) = (id.to_owned(), id.to_owned());
        writer.put(&Cine { id, source, sample: 0, clip, pixel_spacing_mm: None, heart_rate: 70.0 }).unwrap();
    }
    writer.finish().unwrap();
    succeed("ecgflow init tiny --only lpips_vgg -o lpips.safetensors", folder);
}

#[test]
fn every_term_is_a_column_of_the_log_and_a_stopped_training_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    succeed(&format!("{TRAIN} {TERMS} --state whole.state --log log.csv -o whole.safetensors"), folder);
    let log = std::fs::read_to_string(folder.join("log.csv")).unwrap();
    let mut lines = log.lines().filter(|line| !line.starts_with('#'));
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name).unwrap_or_else(|| panic!("{name}"));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 4);
    for (i, row) in rows.iter().enumerate() {
        let value = |name: &str| row[column(name)].parse::<f64>();
        for name in ["loss", "absolute", "kl", "perceptual", "outliers", "adversarial"] {
            assert!(value(name).unwrap().is_finite(), "{name}");
        }
        assert_eq!(value("adversarial_weight").unwrap() > 0.0, i >= 2, "{row:?}");
        assert_eq!(value("discriminator").unwrap() > 0.0, i >= 2, "{row:?}");
        assert_eq!(value("discriminator_gradient_norm").is_ok(), i >= 2, "{row:?}");
    }
    // Stopped at once, then on to the end.
    succeed(&format!("{TRAIN} {TERMS} --state s.state --max-time 1ms -o w.safetensors"), folder);
    succeed(&format!("{TRAIN} {TERMS} --state s.state -o w.safetensors"), folder);
    let tensors = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..].to_vec()
    };
    assert!(tensors("w.safetensors") == tensors("whole.safetensors"));
    let other = run(&format!("{TRAIN} --outliers 1 --state s.state -o w.safetensors"), folder);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("field adversarial_from: the settings differ"), "{}", text(&other.stderr));
}

#[test]
fn refuses_terms_that_do_not_fit() {
    let weights = format!("{TRAIN} --perceptual WEIGHTS -o w.safetensors");
    refuses(&weights, 1, &["the model is missing", "expected lpips_vgg"], data);
    let both = format!("{TRAIN} --no-adversarial --adversarial-from 3 -o w.safetensors");
    refuses(&both, 2, &["--no-adversarial"], data);
    let flow =
        "amdf-sample train --stage flow --cine cine.h5 --ecg e.h5 --weights WEIGHTS --outliers 1 -o w.safetensors";
    refuses(flow, 2, &["are for --stage vae"], data);
}
