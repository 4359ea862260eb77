//! Scores against scikit-learn, scipy and scikit-image: testdata/golden/metric_golden.py.

use ecgflow::metric::classification::{self as class, Counts, BINS};
use ecgflow::metric::frechet::{distance, Spread};
use ecgflow::metric::neighbour::{cover, Vectors, NEAREST};
use ecgflow::metric::psnr::psnr;
use ecgflow::metric::regression::{agreement, Regression};
use ecgflow::metric::ssim::ssim;
use serde_json::Value;

use crate::program::root;

/// Relative, of scores of tables and pictures; of the Frechet distance.
const TOLERANCE: f64 = 1e-9;
const FRECHET: f64 = 1e-6;

pub fn golden(part: &str) -> Value {
    let text = std::fs::read(root().join("testdata/golden/metric.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()[part].clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn check(name: &str, got: f64, want: &Value, tolerance: f64) {
    let want = want.as_f64().unwrap_or_else(|| panic!("no golden {name}"));
    let apart = (got - want).abs();
    eprintln!("{name}: relative difference {:.1e}", apart / want.abs());
    assert!(apart <= tolerance * want.abs(), "{name}: {got}, expected {want}");
}

#[test]
fn scores_of_numbers_are_those_of_scikit_learn() {
    let golden = golden("regression");
    let (y, p) = (numbers(&golden["truth"]), numbers(&golden["predicted"]));
    let (score, differences) = (Regression::new(&y, &p), agreement(&y, &p));
    assert_eq!(score.n, 60);
    for (name, got) in [("mae", score.mae), ("rmse", score.rmse), ("r2", score.r2), ("pearson", score.pearson)] {
        check(name, got, &golden[name], TOLERANCE);
    }
    check("bias", differences.bias, &golden["bias"], TOLERANCE);
    check("sd", differences.sd, &golden["sd"], TOLERANCE);
}

#[test]
fn scores_of_answers_with_ties_are_those_of_scikit_learn() {
    let golden = golden("binary");
    let y: Vec<bool> = numbers(&golden["truth"]).iter().map(|y| *y > 0.5).collect();
    let p = numbers(&golden["probability"]);
    let c = Counts::at(0.5, &y, &p);
    let all = [
        ("auc", class::auc(&y, &p)),
        ("accuracy", c.accuracy()),
        ("sensitivity", c.sensitivity()),
        ("specificity", c.specificity()),
        ("ppv", c.ppv()),
        ("npv", c.npv()),
        ("f1", c.f1()),
        ("brier", class::brier(&y, &p)),
        ("ece", class::ece(&y, &p, BINS)),
    ];
    all.into_iter().for_each(|(name, got)| check(name, got, &golden[name], TOLERANCE));
    let corners = class::roc(&y, &p);
    for (axis, want) in golden["roc"].as_array().unwrap().iter().enumerate() {
        let want = numbers(want);
        assert_eq!(corners.len(), want.len());
        assert!(corners.iter().zip(&want).all(|(got, want)| (got[axis] - want).abs() < 1e-12));
    }
}

#[test]
fn scores_of_classes_are_those_of_scikit_learn() {
    let golden = golden("classes");
    let y: Vec<usize> = numbers(&golden["truth"]).iter().map(|y| *y as usize).collect();
    let p = numbers(&golden["probability"]);
    let called = class::decide(&p, 4);
    let all = [
        ("accuracy", class::accuracy(&y, &called)),
        ("auc", class::macro_auc(&y, &p, 4)),
        ("sensitivity", class::macro_counts(&y, &called, 4, Counts::sensitivity)),
        ("ppv", class::macro_counts(&y, &called, 4, Counts::ppv)),
        ("f1", class::macro_counts(&y, &called, 4, Counts::f1)),
        ("brier", class::brier_of_classes(&y, &p, 4)),
        ("ece", class::ece_of_classes(&y, &p, 4, BINS)),
    ];
    all.into_iter().for_each(|(name, got)| check(name, got, &golden[name], TOLERANCE));
    let want: Vec<Vec<usize>> = serde_json::from_value(golden["confusion"].clone()).unwrap();
    assert_eq!(class::confusion(&y, &called, 4), want);
}

/// A picture of the recipe.
fn picture(rows: usize, columns: usize, speed: f64, shift: f64) -> Vec<f32> {
    let value = |i: usize| {
        let (x, y) = ((i % columns) as f64, (i / columns) as f64);
        let wave = 0.5 + 0.3 * (speed * x + shift).sin() * (0.7 * speed * y).cos();
        (wave + 0.15 * (0.9 * x * y / 40.0 + shift).sin()) as f32
    };
    (0..rows * columns).map(value).collect()
}

#[test]
fn ssim_and_psnr_are_those_of_scikit_image() {
    let golden = golden("pictures");
    let (a, b) = (picture(60, 52, 0.31, 0.0), picture(60, 52, 0.33, 0.2));
    check("ssim", ssim(&a, &b, (60, 52), 1.0), &golden["ssim"], TOLERANCE);
    check("psnr", psnr(&a, &b), &golden["psnr"], TOLERANCE);
}

/// Feature vectors of the recipe.
fn vectors(n: usize, width: usize, speed: f64, lift: f64) -> Vec<f32> {
    let value = |k: usize| {
        let (i, j) = ((k / width) as f64, (k % width) as f64);
        let u = (12.9898 * (i + 1.0) * speed + 78.233 * (j + 1.0)).sin() * 43758.5453;
        ((u - u.floor()) * (1.0 + 0.1 * j) + lift * j) as f32
    };
    (0..n * width).map(value).collect()
}

#[test]
fn frechet_distances_are_those_of_scipys_square_root() {
    let golden = golden("frechet");
    for (name, width, real, made) in [
        ("wide", 12, vectors(80, 12, 1.0, 0.0), vectors(70, 12, 1.3, 0.02)),
        ("square", 40, vectors(300, 40, 1.0, 0.0), vectors(250, 40, 1.7, 0.01)),
    ] {
        let (a, b) = (Spread::new(&real, width).unwrap(), Spread::new(&made, width).unwrap());
        check(name, distance(&a, &b), &golden[name], FRECHET);
    }
}

#[test]
fn precision_recall_density_and_coverage_are_those_of_the_definition_in_numpy() {
    let golden = golden("cover");
    let (real, made) = (vectors(60, 12, 1.0, 0.0), vectors(50, 12, 1.3, 0.02));
    let found = cover(Vectors::new(&real, 12), Vectors::new(&made, 12), NEAREST).unwrap();
    let all = [
        ("precision", found.precision),
        ("recall", found.recall),
        ("density", found.density),
        ("coverage", found.coverage),
    ];
    all.into_iter().for_each(|(name, got)| check(name, got, &golden[name], TOLERANCE));
}
