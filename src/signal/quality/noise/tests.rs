use super::*;
use ndarray::{Array1, Array2};

#[test]
fn each_band_is_measured_in_its_unit() {
    let t = |n: usize| n as f64 / 500.0;
    let clean = Array2::zeros((12, 5000));
    let wave = |(lead, n): (usize, usize)| match lead {
        2 => 0.1 * (TAU * 50.0 * t(n)).sin(),            // 100 uV amplitude
        5 => 0.3 * (TAU * 0.3 * t(n)).sin() + 200.0,     // 212 uV rms, on an offset
        7 => 0.05 * if n % 2 == 0 { 1.0 } else { -1.0 }, // 50 uV rms
        _ => 0.0,
    };
    let noise = measure(Array2::from_shape_fn((12, 5000), wave).view(), clean.view(), 500.0);
    assert!((noise.mains_uv - 100.0).abs() < 3.0 && noise.mains_hz == 50.0, "{noise:?}");
    assert!((noise.wander_uv - 212.0).abs() < 3.0 && noise.wander_lead == Lead::AVF, "{noise:?}");
    assert!((noise.muscle_uv - 50.0).abs() < 2.0 && noise.muscle_lead == Lead::V2, "{noise:?}");
}

#[test]
fn each_mains_frequency_is_measured_beside_the_other() {
    let wave = |(lead, n): (usize, usize)| {
        let sine = |mv: f64, hz: f64| mv * (TAU * hz * n as f64 / 500.0).sin();
        if lead == 0 {
            sine(0.2, 50.0)
        } else {
            sine(0.2, 50.0) + sine(0.3, 60.0)
        }
    };
    // 0.62 s: 31 turns of 50 Hz, but 37.2 of 60 Hz.
    let noise = measure(Array2::from_shape_fn((12, 310), wave).view(), Array2::zeros((12, 310)).view(), 500.0);
    assert!((noise.mains_uv - 300.0).abs() < 15.0 && noise.mains_hz == 60.0, "{noise:?}");
    assert!(noise.muscle_uv < 15.0, "{noise:?}");
}

#[test]
fn cut_off_beats_are_clipped_and_round_tops_are_not() {
    let beat = |n: usize| (-0.5 * (((n % 400) as f64 - 200.0) / 6.0).powi(2)).exp();
    let whole = Array1::from_shape_fn(4000, |n| (beat(n) / 0.005).round() * 0.005);
    assert_eq!(clipped(&whole.to_vec(), 500.0), 0);
    let cut = whole.mapv(|v| v.min(0.6));
    let share = clipped(&cut.to_vec(), 500.0);
    assert!((100..200).contains(&share), "{share}"); // ten beats of about 13 samples
    assert_eq!(clipped(&[0.0; 100], 500.0), 0);
}

#[test]
fn absurd_values_are_much_noise_and_still_a_number() {
    let clean = Array2::zeros((12, 5000));
    for absurd in [1e20, 1e36, -1e300] {
        let wave = |(lead, n): (usize, usize)| match (lead, n) {
            (3, 2500) => absurd,
            (3, _) => 2.0 * (TAU * 0.3 * n as f64 / 500.0).sin(),
            _ => 0.0,
        };
        let noise = measure(Array2::from_shape_fn((12, 5000), wave).view(), clean.view(), 500.0);
        assert!(noise.wander_uv.is_finite() && noise.wander_uv > 1400.0 && noise.wander_lead == Lead::AVR, "{noise:?}");
        assert!(noise.muscle_uv.is_finite() && noise.mains_uv.is_finite(), "{noise:?}");
    }
}
