use super::*;

const EIGHT: [&str; 8] = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"];

/// Beats of 1 mV every 0.8 s on a slow wave, in eight leads.
fn recording(rate_hz: f64, seconds: f64) -> Recording {
    let value = |(lead, n): (usize, usize)| {
        let t = n as f64 / rate_hz;
        let beat = (-0.5 * (((t + 0.4) % 0.8 - 0.4) / 0.012).powi(2)).exp();
        (1.0 + 0.1 * lead as f64) * beat + 0.3 * (1.3 * t).sin()
    };
    let samples = Array2::from_shape_fn((8, (rate_hz * seconds) as usize), value);
    Recording::new("p1", EIGHT.map(str::to_owned).to_vec(), rate_hz, samples).unwrap()
}

fn raw() -> PrepareOptions {
    PrepareOptions { preset: Preset::Raw, ..PrepareOptions::default() }
}

#[test]
fn raw_at_500_hz_is_the_recording_rounded_to_32_bits() {
    let recording = recording(500.0, 12.0);
    let expected = recording.samples_mv.slice(s![1, 500..5500]).mapv(|v| v as f32);
    let ecg = prepare(recording, &raw()).unwrap();
    assert_eq!(ecg.samples_mv.row(1), expected);
}

#[test]
fn every_rate_gives_the_same_ecg_and_heart_rate() {
    let expected = prepare(recording(500.0, 20.0), &PrepareOptions::default()).unwrap();
    assert_eq!((expected.heart_rate, expected.r_peak.len()), (75.0, 12));
    for rate_hz in [250.0, 360.0, 1000.0] {
        let ecg = prepare(recording(rate_hz, 20.0), &PrepareOptions::default()).unwrap();
        let distance = (&ecg.samples_mv - &expected.samples_mv).mapv(f32::abs).into_iter().fold(0.0, f32::max);
        assert!(distance < 2e-3, "{rate_hz} Hz: {distance} mV");
        assert!(ecg.r_peak.iter().zip(&expected.r_peak).all(|(a, b)| (a - b).abs() <= 1), "{rate_hz} Hz");
    }
}

#[test]
fn a_missing_sample_is_refused_in_the_window_only() {
    let mut gap = recording(500.0, 20.0);
    gap.samples_mv[[3, 2600]] = f64::NAN;
    let error = prepare(gap.clone(), &PrepareOptions::default()).unwrap_err().to_string();
    assert!(error.contains("record p1, field lead V2, sample 2600"), "{error}");
    assert!(error.contains("expected a finite value in mV, found NaN"), "{error}");
    let later = PrepareOptions { window: Window::Start(6.0), ..PrepareOptions::default() };
    assert!(prepare(gap, &later).is_ok());
}

#[test]
fn a_gap_in_a_lead_nobody_needs_does_no_harm() {
    let plain = recording(500.0, 10.0);
    let mut rows = plain.samples_mv.clone();
    rows.push_row(ndarray::Array1::from_elem(5000, f64::NAN).view()).unwrap();
    let names = EIGHT.iter().chain(&["vx"]).map(|n| n.to_string()).collect();
    assert!(prepare(Recording::new("p", names, 500.0, rows).unwrap(), &raw()).is_ok());
}

#[test]
fn wrong_units_are_refused_and_offsets_are_not() {
    let mut micro = recording(500.0, 10.0);
    micro.samples_mv.mapv_inplace(|v| v * 1000.0);
    let error = prepare(micro, &raw()).unwrap_err();
    assert!(error.hint().is_some_and(|h| h.contains("--units")), "{error}");
    let mut offset = recording(500.0, 10.0);
    offset.samples_mv.mapv_inplace(|v| v + 300.0);
    assert!(prepare(offset, &raw()).is_ok());
}

#[test]
fn a_short_recording_is_refused_or_followed_by_zeros() {
    let error = prepare(recording(250.0, 6.0), &raw()).unwrap_err();
    assert!(error.to_string().contains("expected at least 10 s, found 6 s"), "{error}");
    let ecg = prepare(recording(250.0, 6.0), &PrepareOptions { pad: true, ..raw() }).unwrap();
    assert!(ecg.samples_mv.slice(s![.., 3000..]).iter().all(|&v| v == 0.0));
    assert!(ecg.samples_mv[[1, 2999]] != 0.0 && ecg.r_peak.iter().all(|&r| r < 3000));
}

#[test]
fn odd_rates_are_refused() {
    assert!(prepare(recording(40.0, 20.0), &raw()).unwrap_err().to_string().contains("expected 50 to 20000 Hz"));
}

#[test]
fn steps_say_what_was_done() {
    let options = PrepareOptions { mains_hz: Some(50.0), ..PrepareOptions::default() };
    let steps = options.describe().unwrap();
    assert_eq!(steps.len(), 7);
    assert_eq!(steps[2], "notch 50 Hz, quality 30, zero-phase");
    assert_eq!(raw().describe().unwrap().len(), 4);
}

#[test]
fn strange_recordings_are_errors_not_panics() {
    let strange = [0.0, 1e-300, 1e300, -1e300, f64::MAX, f64::NAN, f64::INFINITY, 0.5, 99.0];
    let (mut good, mut bad) = (0, 0);
    for (k, rate_hz) in [50.0, 51.7, 100.0, 499.99, 500.0, 2000.0, 1e300].into_iter().enumerate() {
        for seconds in [0.02, 2.0, 9.99, 10.0, 10.02, 16.0] {
            for (j, value) in strange.into_iter().enumerate() {
                let samples = ((rate_hz * seconds) as usize).clamp(1, 40_000);
                let mut samples_mv = recording(500.0, 1.0).samples_mv;
                samples_mv = Array2::from_shape_fn((8, samples), |(lead, n)| samples_mv[[lead, n % 500]]);
                samples_mv[[(j + k) % 8, samples / 2]] = value;
                samples_mv[[(j * k) % 8, samples / 9]] = value;
                let strange = Recording::new("p", EIGHT.map(str::to_owned).to_vec(), rate_hz, samples_mv).unwrap();
                let window = [Window::Centre, Window::Start(seconds - 10.0), Window::Start(1.0)][(j + k) % 3];
                let detector = [Detector::Qrs, Detector::Published][j % 2];
                let options = PrepareOptions { window, detector, pad: j % 3 > 0, mains_hz: Some(60.0), ..raw() };
                let options = PrepareOptions { preset: Preset::Clean, ..options };
                match prepare(strange, &options) {
                    Ok(ecg) => good += usize::from(ecg.samples_mv.iter().all(|v| v.is_finite())),
                    Err(_) => bad += 1,
                }
            }
        }
    }
    assert!(good > 20 && good + bad == 7 * 6 * 9, "{good} prepared, {bad} refused");
}
