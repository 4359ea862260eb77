//! Filters and peaks against scipy (testdata/golden/signal_golden.py), beats against annotated recordings.

use std::f64::consts::PI;
use std::fs;
use std::path::{Path, PathBuf};

use ecgflow::data::ecg::{Lead, Verdict};
use ecgflow::io::{open_ecg, ReadOptions, Source};
use ecgflow::signal::filter::{Band, Filter};
use ecgflow::signal::prepare::{prepare, PrepareOptions};
use ecgflow::signal::preset::Preset;
use ecgflow::signal::resample::Resampler;
use ecgflow::signal::rpeak::{self, Detector};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("testdata/golden/signal.json")).unwrap()).unwrap()
}

/// The input of the golden script.
fn wave(rate_hz: f64) -> Vec<f64> {
    let sine = |hz: f64, n: u32, shift: f64| (2.0 * PI * hz * f64::from(n) / rate_hz + shift).sin();
    let saw = |n: u32| 0.2 * (f64::from(7919 * n % 1000) / 1000.0 - 0.5);
    (0..2000).map(|n| sine(1.3, n, 0.0) + 0.5 * sine(17.0, n, 0.3) + saw(n) + 0.3).collect()
}

fn assert_few(found: &[f64], golden: &Value, what: &str) {
    let places = (0..2000).step_by(37).chain([1999]);
    for (at, expected) in places.zip(golden.as_array().unwrap()) {
        let expected = expected.as_f64().unwrap();
        assert!((found[at] - expected).abs() < 1e-9, "{what}, sample {at}: expected {expected}, found {}", found[at]);
    }
}

#[test]
fn butterworth_filters_equal_scipy() {
    let golden = golden();
    let cases = golden["filters"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let corner = |k: usize| case["corners_hz"][k].as_f64().unwrap();
        let band = match case["kind"].as_str().unwrap() {
            "lowpass" => Band::LowPass(corner(0)),
            "highpass" => Band::HighPass(corner(0)),
            _ => Band::BandPass(corner(0), corner(1)),
        };
        let (order, rate_hz) = (case["order"].as_u64().unwrap() as usize, case["rate_hz"].as_f64().unwrap());
        let filter = Filter::butterworth(order, band, rate_hz).unwrap();
        let what = format!("order {order} {band:?} at {rate_hz} Hz");
        assert_few(&filter.forward(&wave(rate_hz)), &case["forward"], &what);
        let pad = case["pad"].as_u64().map_or(filter.default_pad(), |pad| pad as usize);
        assert_few(&filter.zero_phase(&wave(rate_hz), pad), &case["zero_phase"], &what);
    }
}

#[test]
fn notches_equal_scipy() {
    for case in golden()["notches"].as_array().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap();
        let filter = Filter::notch(number("hz"), number("quality"), number("rate_hz")).unwrap();
        let found = filter.zero_phase(&wave(number("rate_hz")), filter.default_pad());
        assert_few(&found, &case["zero_phase"], &format!("notch {} Hz", number("hz")));
    }
}

#[test]
fn the_published_peak_rule_equals_scipy_find_peaks() {
    for case in golden()["peaks"].as_array().unwrap() {
        let (rate_hz, steps) = (case["rate_hz"].as_f64().unwrap(), case["steps"].as_f64().unwrap());
        let stairs = |(n, v): (usize, f64)| (v * steps).round_ties_even() / steps + (n / 5) as f64 * 1e-4;
        let x = wave(rate_hz).into_iter();
        let x: Vec<f64> = if steps > 0.0 { x.enumerate().map(stairs).collect() } else { x.collect() };
        let expected: Vec<u64> = case["peaks"].as_array().unwrap().iter().map(|p| p.as_u64().unwrap()).collect();
        let found: Vec<u64> = rpeak::published(&x, rate_hz).into_iter().map(|p| p as u64).collect();
        assert_eq!(found, expected, "{rate_hz} Hz, {steps} steps");
    }
}

/// Sample numbers of the beats in an annotation file in MIT format: 16-bit words, type in the upper 6 bits, distance
/// from the annotation before in the lower 10.
fn annotated_beats(path: &Path) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let word = |i: usize| usize::from(u16::from_le_bytes([bytes[i], bytes[i + 1]]));
    let (mut beats, mut now, mut i) = (Vec::new(), 0, 0);
    while i + 1 < bytes.len() && word(i) != 0 {
        let (kind, distance) = (word(i) >> 10, word(i) & 1023);
        i += 2;
        match kind {
            59 => {
                now += (word(i) << 16) + word(i + 2); // a long distance: upper half first
                i += 4;
            }
            60..=62 => {}
            63 => i += distance.next_multiple_of(2), // text
            _ => {
                now += distance;
                if matches!(kind, 1..=13 | 25 | 30 | 34 | 35 | 38) {
                    beats.push(now);
                }
            }
        }
    }
    beats
}

/// Beats that were found, and found beats that are beats, each at most 50 ms away and counted once.
fn matches(expected: &[f64], found: &[f64]) -> usize {
    let (mut hits, mut next) = (0, 0);
    for beat in expected {
        while next < found.len() && found[next] < beat - 0.05 {
            next += 1;
        }
        if next < found.len() && found[next] <= beat + 0.05 {
            hits += 1;
            next += 1;
        }
    }
    hits
}

/// MLII of record 100 at 500 Hz with `noise_mv` of white noise and a wander of three times that, and its beats, s.
fn record_100(noise_mv: f64) -> Option<(Vec<f64>, Vec<f64>)> {
    let folder = crate::program::shared("data/ecg/wfdb")?;
    let source = Source::open(&folder.join("100.hea")).unwrap();
    let record = open_ecg(source, &ReadOptions::default()).unwrap().1.next().unwrap().unwrap();
    let mut lead = Resampler::new(record.rate_hz, 500.0).unwrap().all(&record.samples_mv.row(0).to_vec());
    let mut state = 1u64;
    for (n, v) in lead.iter_mut().enumerate() {
        let mut sum = 0.0; // of twelve uniform numbers: nearly normal
        for _ in 0..12 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            sum += (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        }
        *v += noise_mv * (sum + 3.0 * (2.0 * PI * 0.3 * n as f64 / 500.0).sin());
    }
    let beats = annotated_beats(&folder.join("100.atr")).into_iter().map(|b| b as f64 / 360.0).collect();
    Some((lead, beats))
}

fn score(detector: Detector, lead: &[f64], beats: &[f64], what: &str) -> (f64, f64) {
    let found: Vec<f64> = detector.find(lead, 500.0).unwrap().into_iter().map(|p| p as f64 / 500.0).collect();
    let hits = matches(beats, &found) as f64;
    let (sensitivity, precision) = (hits / beats.len() as f64, hits / found.len() as f64);
    let (beats, found) = (beats.len(), found.len());
    println!(
        "result rpeak {what}, {}: {beats} beats, {found} found, sensitivity {sensitivity:.5}, precision {precision:.5}",
        detector.name()
    );
    (sensitivity, precision)
}

#[test]
fn the_default_detector_finds_the_annotated_beats_of_record_100() {
    for (noise_mv, least) in [(0.0, 0.999), (0.1, 0.999), (0.2, 0.995)] {
        let Some((lead, beats)) = record_100(noise_mv) else { return };
        assert_eq!(beats.len(), 2273);
        let what = format!("record 100, noise {noise_mv} mV");
        let (sensitivity, precision) = score(Detector::Qrs, &lead, &beats, &what);
        score(Detector::Published, &lead, &beats, &what);
        assert!(sensitivity >= least && precision >= least);
    }
}

#[test]
fn ten_second_pieces_of_record_100_keep_their_beats() {
    for (noise_mv, least) in [(0.0, 0.995), (0.1, 0.995)] {
        let Some((lead, beats)) = record_100(noise_mv) else { return };
        let (mut hits, mut wanted, mut found) = (0, 0, 0);
        for (k, piece) in lead.chunks_exact(5000).enumerate() {
            let start = k as f64 * 10.0;
            let here: Vec<f64> = beats.iter().map(|b| b - start).filter(|b| (0.1..9.9).contains(b)).collect();
            let peaks = Detector::Qrs.find(piece, 500.0).unwrap().into_iter().map(|p| p as f64 / 500.0);
            let peaks: Vec<f64> = peaks.filter(|p| (0.1..9.9).contains(p)).collect();
            hits += matches(&here, &peaks);
            (wanted, found) = (wanted + here.len(), found + peaks.len());
        }
        let (sensitivity, precision) = (f64::from(hits as u32) / wanted as f64, hits as f64 / found as f64);
        println!(
            "result rpeak record 100 in 10 s pieces, noise {noise_mv} mV: sensitivity {sensitivity:.5}, precision \
             {precision:.5}, bar {least}"
        );
        assert!(sensitivity >= least && precision >= least);
    }
}

#[test]
fn the_example_record_is_prepared_with_its_known_beats() {
    let source = Source::open(&root().join("testdata/ecg/example.hea")).unwrap();
    let record = open_ecg(source, &ReadOptions::default()).unwrap().1.next().unwrap().unwrap();
    let expected = record.samples_mv.mapv(|v| v as f32);
    let raw = PrepareOptions { preset: Preset::Raw, ..PrepareOptions::default() };
    let raw = prepare(record.clone(), &raw).unwrap();
    assert_eq!(raw.samples_mv, expected);
    let clean = prepare(record, &PrepareOptions::default()).unwrap();
    assert_eq!(clean.r_peak.len(), 13);
    assert!((clean.heart_rate - 75.0).abs() < 3.0, "{}", clean.heart_rate);
    assert!((clean.r_peak[0] - 175).abs() <= 2, "{:?}", clean.r_peak);
    assert!(clean.quality.einthoven_mv < 1e-6 && clean.quality.flat == [false; 12]);
}

#[test]
fn real_recordings_are_prepared_whatever_their_layout() {
    let Some(folder) = crate::program::shared("data/ecg") else { return };
    let read = |name: &str, options: &PrepareOptions| {
        let source = Source::open(&folder.join(name)).unwrap();
        let record = open_ecg(source, &ReadOptions::default()).unwrap().1.next().unwrap().unwrap();
        prepare(record, options).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let names =
        ["cardiosoft1_16", "guangxi_16", "guangxi_32_8leads", "muse1_16", "muse1_212", "muse1_cinc", "muse2_16"];
    for name in names.map(|n| format!("derived/{n}")).iter().chain(&["wfdb/s0010_re".to_owned()]) {
        for detector in [Detector::Qrs, Detector::Published] {
            let ecg = read(&format!("{name}.hea"), &PrepareOptions { detector, ..PrepareOptions::default() });
            let (rate, beats, law) = (ecg.heart_rate, ecg.r_peak.len(), ecg.quality.einthoven_mv);
            eprintln!("{name}, {}: {rate:.1}/min, {beats} beats, I + III - II {law:.4} mV", detector.name());
            let (verdict, reasons) = (ecg.quality.verdict, &ecg.quality.reasons);
            eprintln!("{name}: {verdict} {reasons:?}");
            // The published rule counts T waves of some records.
            assert!(verdict > Verdict::Bad || detector == Detector::Published, "{name}: {reasons:?}");
            assert!((30.0..200.0).contains(&rate) || detector == Detector::Published, "{name}: {:?}", ecg.r_peak);
        }
    }
    let raw = PrepareOptions { preset: Preset::Raw, ..PrepareOptions::default() };
    let (twelve, reordered) = (read("derived/muse2_16.hea", &raw), read("derived/muse2_24_reordered.hea", &raw));
    let distance = (&twelve.samples_mv - &reordered.samples_mv).mapv(f32::abs).into_iter().fold(0.0, f32::max);
    assert!(distance < 6e-4, "half a step of the 16-bit file, found {distance} mV");
    let (twelve, eight) = (read("derived/guangxi_16.hea", &raw), read("derived/guangxi_32_8leads.hea", &raw));
    for lead in Lead::ALL {
        let row = lead as usize;
        let apart = (&twelve.samples_mv.row(row) - &eight.samples_mv.row(row)).mapv(f32::abs);
        let apart = apart.into_iter().fold(0.0, f32::max);
        eprintln!("guangxi {lead}: 8 stored leads against 12: {apart} mV");
    }
}
