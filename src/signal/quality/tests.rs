use super::*;
use crate::data::recording::Recording;
use crate::signal::lead;
use ndarray::Array2;

const USUAL: [f64; LEADS] = [0.7, 1.1, 0.4, -0.9, 0.15, 0.75, 0.2, 0.5, 0.85, 1.2, 1.35, 1.5];

/// Ten beats of 20 ms, as tall as `heights` says in each lead, with noise that alternates by `noise_mv`.
fn judge(heights: [f64; LEADS], noise_mv: f64) -> Report {
    let r_peak: Vec<usize> = (0..10).map(|k| 200 + 401 * k).collect();
    let bump = |n: usize| r_peak.iter().map(|&r| (-0.5 * ((n as f64 - r as f64) / 8.0).powi(2)).exp()).sum::<f64>();
    let value = |(lead, n): (usize, usize)| {
        heights[lead] * (bump(n) + 0.002 * (0.01 * n as f64).sin()) + noise_mv * if n % 2 == 0 { 1.0 } else { -1.0 }
    };
    let samples = Array2::from_shape_fn((LEADS, 5000), value);
    let names = Lead::ALL.map(|l| l.name().to_owned()).to_vec();
    let recording = Recording::new("p", names, 500.0, samples.clone()).unwrap();
    let sources = lead::find(&recording).unwrap();
    let subject = Subject {
        id: "p",
        sources: &sources,
        recorded: samples.view(),
        recorded_hz: 500.0,
        unfiltered: samples.view(),
        clean: samples.view(),
        rate_hz: 500.0,
        r_peak: &r_peak,
    };
    assess(&subject).1
}

#[test]
fn nothing_speaks_against_a_usual_ecg() {
    let report = judge(USUAL, 0.0);
    assert_eq!((report.verdict, report.reasons.clone()), (Verdict::Good, vec![]));
    let measures = report.measures.unwrap();
    assert_eq!((measures.beats, measures.einthoven_mv < 1e-9), (10, true));
    assert!((measures.heart_rate - 74.8).abs() < 0.1 && (measures.qrs_mv - 1.5).abs() < 1e-3, "{measures:?}");
}

#[test]
fn exchanged_arms_noise_and_flat_leads_are_named() {
    let exchanged = [-0.7, 0.4, 1.1, 0.15, -0.9, 0.75, 0.2, 0.5, 0.85, 1.2, 1.35, 1.5];
    let report = judge(exchanged, 0.0);
    assert_eq!((report.codes(), report.verdict), (vec!["arm-reversal"], Verdict::Usable));
    assert!(judge(USUAL, 0.4).codes().contains(&"noise"));
    let mut flat = USUAL;
    flat[6] = 0.0;
    let report = judge(flat, 0.0);
    assert_eq!((report.codes(), report.verdict), (vec!["flat-lead"], Verdict::Bad));
    assert_eq!(report.reasons, ["flat-lead: V1 does not move"]);
}

#[test]
fn a_limb_lead_turned_over_is_named_by_the_identities() {
    for k in 0..6 {
        let mut turned = USUAL;
        turned[k] = -turned[k];
        let report = judge(turned, 0.0);
        let named = format!("inverted-lead: the limb leads agree when {} is turned over", Lead::ALL[k]);
        assert!(report.reasons.contains(&named) && report.verdict == Verdict::Bad, "{report:?}");
    }
}

#[test]
fn wrong_gain_and_double_leads_are_named() {
    assert!(judge(USUAL.map(|v| 10.0 * v), 0.0).reasons[0].starts_with("gain: the highest QRS is 15.00 mV"));
    let mut double = USUAL;
    double[9] = double[8];
    let report = judge(double, 0.0);
    assert!(report.reasons.contains(&"duplicate-lead: V3 and V4 are the same".to_owned()), "{report:?}");
}

#[test]
fn a_record_that_cannot_be_prepared_is_bad_with_the_reason() {
    let error =
        Error::from(crate::error::Fault::new("cutting ECG", "").field("length").expected("at least 10 s", "6 s"));
    let report = Report::refused("p", "short", &error);
    assert_eq!(report.reasons, ["short: length: expected at least 10 s, found 6 s"]);
    assert!(report.codes() == ["short"] && report.verdict == Verdict::Bad && report.measures.is_none());
}

#[test]
fn the_first_longest_run_is_found_where_it_is_long_enough() {
    let mut x: Vec<f64> = (0..100).map(f64::from).collect();
    assert_eq!(longest_run(&x, 2), None);
    x[10..14].fill(-1.0);
    x[30..35].fill(-2.0);
    x[95..].fill(-3.0);
    assert_eq!((longest_run(&x, 2), longest_run(&x, 5), longest_run(&x, 6)), (Some((30, 5)), Some((30, 5)), None));
    x[94] = -3.0;
    assert_eq!(longest_run(&x, 4), Some((94, 6)));
    assert_eq!((longest_run(&[1.0; 9], 9), longest_run(&[], 2)), (Some((0, 9)), None));
    for start in 0..20 {
        let mut x: Vec<f64> = (0..40).map(f64::from).collect();
        x[start..start + 7].fill(-1.0);
        assert_eq!(longest_run(&x, 7), Some((start, 7)));
    }
}
