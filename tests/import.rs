//! `ecgflow import` of weights files: fewer models, smaller numbers, and what stays known of their origin.

use ecgflow::checkpoint::{Kind, Weights};

use crate::program::{names, refuses, shared, succeed, text, tiny_weights};

#[test]
fn import_makes_a_file_of_half_the_size_with_the_models_asked_for() {
    let out = tempfile::tempdir().unwrap();
    let w = tiny_weights().display();
    succeed(&format!("ecgflow import {w} --only pamae,vae,flow -o whole.safetensors"), out.path());
    succeed(&format!("ecgflow import {w} --only pamae,vae,flow --half -o half.safetensors"), out.path());
    assert_eq!(names(out.path()), ["half.safetensors", "whole.safetensors"]);
    let size = |name: &str| std::fs::metadata(out.path().join(name)).unwrap().len() as f64;
    assert!(size("half.safetensors") < 0.6 * size("whole.safetensors"));
    let weights = Weights::open(&out.path().join("half.safetensors")).unwrap();
    assert_eq!(weights.configs().kinds(), [Kind::Pamae, Kind::Vae, Kind::Flow]);
    assert!([Kind::Pamae, Kind::Vae, Kind::Flow].iter().all(|kind| weights.untrained(*kind)));
    let before: Vec<&str> = weights.provenance().history.iter().map(|step| step.command.as_str()).collect();
    assert_eq!(before, ["ecgflow init tiny --seed 7 -o w.safetensors"]);
}

#[test]
fn half_weights_go_through_the_whole_pipe() {
    let out = tempfile::tempdir().unwrap();
    let w = tiny_weights().display();
    succeed(&format!("ecgflow import {w} --half -o half.safetensors"), out.path());
    succeed(&format!("ecg-prep {} -o ecg.h5", crate::program::example().display()), out.path());
    succeed("pamae-encode ecg.h5 -o features.h5 --weights half.safetensors", out.path());
    succeed("amdf-sample features.h5 -o cine.h5 --weights half.safetensors", out.path());
    let table = text(&succeed("cmr-phenotype cine.h5 --weights half.safetensors --no-comments", out.path()));
    assert_eq!(table.lines().count(), 2);
}

#[test]
fn import_refuses_models_that_are_not_there() {
    refuses("ecgflow import WEIGHTS w.safetensors -o x", 1, &["the pamae is already in"], |folder| {
        succeed("ecgflow init tiny --only pamae -o w.safetensors", folder);
    });
    let says = ["expected flow, found pamae"];
    refuses("ecgflow import w.safetensors --only flow -o x.safetensors", 1, &says, |folder| {
        succeed("ecgflow init tiny --only pamae -o w.safetensors", folder);
    });
    refuses("ecgflow import WEIGHTS --only fow -o x.safetensors", 2, &["expected one of pamae, vae, flow"], |_| {});
}

#[test]
fn python_opens_half_weights_and_sees_the_same_numbers() {
    let out = tempfile::tempdir().unwrap();
    let Some(python) = crate::program::Python::with(&["safetensors"], "safetensors.numpy") else { return };
    let w = tiny_weights().display();
    succeed(&format!("ecgflow import {w} --only pamae --half -o half.safetensors"), out.path());
    let code = "from safetensors.numpy import load_file
tensors = load_file('half.safetensors')
for name in sorted(tensors):
    print(name, tensors[name].dtype, float(tensors[name].astype('f8').sum()))";
    let output = python.run(&["-c", code], out.path());
    let weights = Weights::open(&out.path().join("half.safetensors")).unwrap();
    let mut seen = 0;
    for line in text(&output.stdout).lines() {
        let [name, dtype, sum] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let tensor = weights.tensor(name, &candle_core::Device::Cpu).unwrap();
        assert_eq!(dtype, if tensor.rank() > 1 { "float16" } else { "float32" }, "{name}");
        let ours: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        let ours: f64 = ours.iter().map(|value| f64::from(*value)).sum();
        assert!((ours - sum.parse::<f64>().unwrap()).abs() < 1e-9 * (1.0 + ours.abs()), "{name}");
        seen += 1;
    }
    assert_eq!(seen, weights.shapes().len());
}

#[test]
fn published_checkpoints_are_imported_in_half() {
    let Some(folder) = shared("parity/tiny") else { return };
    let out = tempfile::tempdir().unwrap();
    let folder = folder.display();
    succeed(&format!("ecgflow import {folder}/vae_checkpoint.pth --half -o vae.safetensors"), out.path());
    let weights = Weights::open(&out.path().join("vae.safetensors")).unwrap();
    weights.check(Kind::Vae).unwrap();
    assert!(!weights.untrained(Kind::Vae));
}
