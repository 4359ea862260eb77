//! Presets against numpy and scipy (testdata/golden/preset_golden.py); filters and resampling against formulas.

use std::f64::consts::PI;
use std::path::Path;

use ecgflow::signal::als::Als;
use ecgflow::signal::preset::Preset;
use ecgflow::signal::resample::Resampler;
use ecgflow::signal::step::Step;
use ndarray::Array2;
use serde_json::Value;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/preset.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The input of the golden script.
fn wave(rate_hz: f64, samples: usize) -> Array2<f64> {
    let value = |(k, n): (usize, usize)| {
        let (lead, t) = (k as f64, n as f64);
        let slow = 0.5 * (2.0 * PI * 0.15 * t / rate_hz + lead).sin();
        let beat = (1.0 + lead / 10.0) * (-0.5 * (((n % 400) as f64 - 200.0) / 6.0).powi(2)).exp();
        let saw = 0.02 * ((7919 * (n + 31 * k) % 1000) as f64 / 1000.0 - 0.5);
        let spike = if k == 3 && (1000..1010).contains(&n) { 9.0 } else { 0.0 };
        slow + beat + saw + 0.1 * lead + spike
    };
    Array2::from_shape_fn((12, samples), value)
}

/// Largest difference to the golden values, which are every 613th.
fn distance(found: &Array2<f64>, golden: &Value) -> f64 {
    let expected: Vec<f64> = golden["every"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let found_few: Vec<f64> = found.iter().copied().step_by(613).collect();
    assert_eq!(found_few.len(), expected.len());
    let squares: f64 = found.iter().map(|v| v * v).sum();
    let expected_squares = golden["squares"].as_f64().unwrap();
    assert!((squares - expected_squares).abs() < 1e-6 * expected_squares, "{squares} {expected_squares}");
    found_few.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn apply(preset: Preset, mut x: Array2<f64>, rate_hz: f64) -> Array2<f64> {
    for step in preset.steps(None).unwrap() {
        step.apply(&mut x, rate_hz).unwrap();
    }
    x
}

#[test]
fn mmcl_and_cardionets_equal_scipy() {
    let golden = golden();
    let mmcl = distance(&apply(Preset::Mmcl, wave(500.0, 5000), 500.0), &golden["mmcl"]);
    let cardionets = distance(&apply(Preset::CardioNets, wave(250.0, 2500), 250.0), &golden["cardionets"]);
    println!("result preset mmcl: largest difference to numpy and scipy {mmcl:.1e} sd");
    println!("result preset cardionets: largest difference to numpy and scipy {cardionets:.1e} sd");
    assert!(mmcl < 1e-5 && cardionets < 1e-8);
}

#[test]
fn the_banded_baseline_equals_a_sparse_solver() {
    let x = wave(500.0, 5000);
    let als = Als { lambda: 1e7, p: 0.3, iterations: 5 };
    let start = std::time::Instant::now();
    let rows: Vec<f64> = x.rows().into_iter().flat_map(|row| als.baseline(&row.to_vec())).collect();
    let time = start.elapsed();
    let found = Array2::from_shape_vec((12, 5000), rows).unwrap();
    let distance = distance(&found, &golden()["baseline"]);
    println!(
        "result als baseline: largest difference to spsolve {distance:.1e} mV; 12 leads in {time:.1?} (test profile)"
    );
    assert!(distance < 1e-6);
}

#[test]
fn z_scores_have_mean_zero_and_deviation_one() {
    let x = apply(Preset::ZScore, wave(500.0, 5000), 500.0);
    assert!(x.rows().into_iter().all(|row| row.mean().unwrap().abs() < 1e-9 && (row.std(0.0) - 1.0).abs() < 1e-9));
}

/// Gain of the preset, dB, from the answer to one impulse of 1 mV: its spectrum at one frequency. Both passes are in it.
fn gain_db(hz: f64) -> f64 {
    let samples = 60_000;
    let mut x = Array2::zeros((1, samples));
    x[[0, samples / 2]] = 1.0;
    for step in Preset::Clean.steps(None).unwrap() {
        step.apply(&mut x, 500.0).unwrap();
    }
    let turn = |n: usize| 2.0 * PI * hz * (n as f64 - samples as f64 / 2.0) / 500.0;
    let (re, im) =
        x.iter().enumerate().fold((0.0, 0.0), |(c, s), (n, v)| (c + v * turn(n).cos(), s + v * turn(n).sin()));
    20.0 * f64::hypot(re, im).log10()
}

#[test]
fn the_frequency_response_of_clean_is_that_of_scipy() {
    let mut worst = 0.0f64;
    let golden = golden();
    let points = golden["clean_response"].as_array().unwrap();
    for point in points {
        let (hz, expected) = (point["hz"].as_f64().unwrap(), point["db"].as_f64().unwrap());
        let found = gain_db(hz);
        worst = worst.max((found - expected).abs());
        assert!((found - expected).abs() < 0.5, "{hz} Hz: {found} dB, scipy {expected} dB");
    }
    println!(
        "result clean response: largest difference to scipy {worst:.4} dB at {} frequencies, bar 0.5 dB",
        points.len()
    );
}

#[test]
fn resampling_error_is_below_minus_60_db() {
    let mut worst = f64::NEG_INFINITY;
    for from_hz in [100.0, 128.0, 240.0, 250.0, 257.13, 360.0, 400.0, 512.0, 977.3, 1000.0, 2000.0] {
        for to_hz in [250.0, 500.0] {
            let value = |t: f64| {
                let tones = [1.2, 7.0, 19.0, 33.0, 0.38 * f64::min(from_hz, to_hz)];
                tones.iter().enumerate().map(|(k, hz)| (2.0 * PI * hz * t + k as f64).sin()).sum::<f64>()
            };
            let x: Vec<f64> = (0..(10.0 * from_hz) as usize).map(|n| value(n as f64 / from_hz)).collect();
            let y = Resampler::new(from_hz, to_hz).unwrap().all(&x);
            let half = (to_hz / 2.0) as usize;
            let inner = half..y.len() - half;
            let rms = |f: &dyn Fn(usize) -> f64| {
                (inner.clone().map(|n| f(n).powi(2)).sum::<f64>() / inner.len() as f64).sqrt()
            };
            let error = rms(&|n| y[n] - value(n as f64 / to_hz)) / rms(&|n| value(n as f64 / to_hz));
            worst = worst.max(20.0 * error.log10());
        }
    }
    println!("result resampling: largest error {worst:.1} dB over 11 rates to 250 and 500 Hz, bar -60 dB");
    assert!(worst < -60.0);
}

#[test]
fn steps_by_hand_do_what_the_preset_does() {
    let hand = Step::parse_list("highpass:0.67,lowpass:40").unwrap();
    assert_eq!(hand, Preset::Clean.steps(None).unwrap());
    assert_eq!(Step::parse_list("clip:4,als:1e7:0.3:5,zscore:groups").unwrap(), Preset::Mmcl.steps(None).unwrap());
    let cardionets = Step::parse_list("resample:250,bandpass:0.67-40:5,zscore:record").unwrap();
    assert_eq!(cardionets, Preset::CardioNets.steps(None).unwrap());
}
