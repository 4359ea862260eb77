//! What a recording looked like before it was cleaned ([`Quality`]), and what speaks against using it ([`reasons`]).
//!
//! The thresholds are ours, chosen to catch failures and not borderline recordings; no data set has judged them.

use ndarray::{ArrayView1, ArrayView2};

use super::rpeak;
use crate::data::ecg::{Ecg, Lead, Quality, LEADS};

/// A lead that moves less than this is flat, mV.
const FLAT_MV: f64 = 1e-3;
/// I + III - II above this means that a limb lead is not what its name says, mV.
const EINTHOVEN_MV: f32 = 0.1;
/// Below this, most beats differ from the median beat by more than half of what it moves, dB.
const NOISY_DB: f64 = 6.0;
/// Heart rates outside are more often a failed detection than a heart, beats a minute.
const RATES: std::ops::RangeInclusive<f32> = 25.0..=220.0;
/// The part of a beat that is compared with the other beats, s before and after the R peak.
const BEAT_SECONDS: [f64; 2] = [0.25, 0.4];

/// Quality of one record.
///
/// `recorded_mv`: 12 x samples before filtering, mV; `einthoven_mv`: see
/// [`Sources::einthoven_mv`](super::lead::Sources::einthoven_mv); `r_peak`: sample numbers at `rate_hz`.
pub fn assess(recorded_mv: ArrayView2<f64>, einthoven_mv: f64, r_peak: &[usize], rate_hz: f64) -> Quality {
    let mut flat = [false; LEADS];
    for (flat, row) in flat.iter_mut().zip(recorded_mv.rows()) {
        *flat = row.std(0.0) < FLAT_MV;
    }
    Quality { flat, einthoven_mv: einthoven_mv as f32, rr_sd_ms: rpeak::rr_sd_ms(r_peak, rate_hz) as f32 }
}

/// What speaks against using a prepared ECG, in words; nothing where it looks usable.
pub fn reasons(ecg: &Ecg) -> Vec<String> {
    let mut reasons = Vec::new();
    let flat = Lead::ALL.iter().zip(ecg.quality.flat).filter(|(_, flat)| *flat).map(|(lead, _)| lead.name());
    let flat: Vec<&str> = flat.collect();
    if !flat.is_empty() {
        reasons.push(format!("flat: {}", flat.join(", ")));
    }
    if ecg.quality.einthoven_mv > EINTHOVEN_MV {
        reasons.push(format!("I + III differs from II by {:.2} mV", ecg.quality.einthoven_mv));
    }
    if ecg.r_peak.len() < 2 {
        reasons.push(format!("{} R peaks in lead II", ecg.r_peak.len()));
    } else if !RATES.contains(&ecg.heart_rate) {
        reasons.push(format!("heart rate {:.0} a minute", ecg.heart_rate));
    }
    let snr_db = signal_to_noise_db(ecg.samples_mv.row(Lead::II as usize), &ecg.r_peak, ecg.rate_hz);
    if snr_db < NOISY_DB {
        reasons.push(format!("beats of lead II differ: signal to noise {snr_db:.1} dB"));
    }
    if has_exchanged_arms(ecg) {
        reasons.push("QRS down in I and up in aVR: arm electrodes exchanged, or a heart on the right".to_owned());
    }
    reasons
}

/// Power of the median beat over the power of what the median beat adds to it, dB; NaN with fewer than three whole
/// beats. Medians, because one extra beat of another shape is no noise.
pub fn signal_to_noise_db(lead: ArrayView1<f32>, r_peak: &[i32], rate_hz: f64) -> f64 {
    let [before, after] = BEAT_SECONDS.map(|s| (s * rate_hz) as usize);
    let beat = |&r: &i32| -> Option<Vec<f64>> {
        let start = usize::try_from(r).ok()?.checked_sub(before)?;
        let values = (start..start + before + after).map(|n| lead.get(n).map(|&v| f64::from(v)));
        values.collect()
    };
    let beats: Vec<Vec<f64>> = r_peak.iter().filter_map(beat).collect();
    if beats.len() < 3 {
        return f64::NAN;
    }
    let column = |n: usize| beats.iter().filter_map(|beat| beat.get(n).copied()).collect();
    let usual: Vec<f64> = (0..before + after).map(|n| rpeak::median(column(n))).collect();
    let rest = |beat: &Vec<f64>| beat.iter().zip(&usual).map(|(v, u)| (v - u).powi(2)).sum::<f64>();
    let noise = rpeak::median(beats.iter().map(rest).collect());
    let mean = usual.iter().sum::<f64>() / usual.len() as f64;
    let signal: f64 = usual.iter().map(|u| (u - mean).powi(2)).sum();
    10.0 * (signal / noise).log10()
}

/// Whether at most R peaks lead I points down and aVR up, as no usual heart does.
fn has_exchanged_arms(ecg: &Ecg) -> bool {
    let at = |lead: Lead, r: i32| usize::try_from(r).ok().and_then(|n| ecg.samples_mv.get((lead as usize, n)).copied());
    let turned = |&&r: &&i32| at(Lead::I, r).is_some_and(|v| v < -0.1) && at(Lead::AVR, r).is_some_and(|v| v > 0.1);
    2 * ecg.r_peak.iter().filter(turned).count() > ecg.r_peak.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{array, s, Array2};

    /// Ten beats of 20 ms, as tall as `heights` says in each lead, with noise that alternates by `noise_mv`.
    fn ecg(heights: [f32; LEADS], noise_mv: f32) -> Ecg {
        let r_peak: Vec<i32> = (0..10).map(|k| 200 + 401 * k).collect();
        let bump = |n: usize| r_peak.iter().map(|&r| (-0.5 * ((n as f32 - r as f32) / 5.0).powi(2)).exp()).sum::<f32>();
        let value = |(lead, n)| heights[lead] * bump(n) + noise_mv * if n % 2 == 0 { 1.0 } else { -1.0 };
        let samples_mv = Array2::from_shape_fn((LEADS, 5000), value);
        let recorded = samples_mv.mapv(f64::from);
        let quality = assess(recorded.view(), 0.0, &[0, 400, 800], 500.0);
        Ecg { id: "p".into(), rate_hz: 500.0, samples_mv, r_peak, heart_rate: 75.0, quality }
    }

    const USUAL: [f32; LEADS] = [0.7, 1.1, 0.4, -0.9, 0.2, 0.8, -0.5, 0.5, 0.9, 1.5, 1.4, 1.0];

    #[test]
    fn nothing_speaks_against_a_usual_ecg() {
        assert_eq!(reasons(&ecg(USUAL, 0.01)), Vec::<String>::new());
    }

    #[test]
    fn exchanged_arms_noise_and_flat_leads_are_named() {
        let exchanged = [-0.7, 0.4, 1.1, 0.2, -0.9, 0.8, -0.5, 0.5, 0.9, 1.5, 1.4, 1.0];
        assert!(reasons(&ecg(exchanged, 0.01))[0].contains("arm electrodes exchanged"));
        let noisy = reasons(&ecg(USUAL, 0.4));
        assert!(noisy.len() == 1 && noisy[0].contains("signal to noise"), "{noisy:?}");
        let mut flat = ecg(USUAL, 0.01);
        flat.quality.flat[6] = true;
        flat.quality.einthoven_mv = 0.3;
        flat.r_peak.clear();
        assert_eq!(reasons(&flat), ["flat: V1", "I + III differs from II by 0.30 mV", "0 R peaks in lead II"]);
    }

    #[test]
    fn signal_to_noise_is_that_of_the_definition() {
        // Three beats of one sample, 1.1, 1 and 0.9: the median is 1, and two of three are off by 0.1.
        let mut lead = ndarray::Array1::<f32>::zeros(60);
        lead.slice_mut(s![10..50;16]).assign(&array![1.1, 1.0, 0.9]);
        let db = signal_to_noise_db(lead.view(), &[10, 26, 42], 20.0);
        let width = 13.0; // 0.25 s and 0.4 s at 20 Hz
        assert!((db - 10.0 * ((1.0 - 1.0 / width) / 0.01f64).log10()).abs() < 1e-4, "{db}");
    }

    #[test]
    fn names_the_leads_that_do_not_move() {
        let moves = |(lead, n): (usize, usize)| if lead == 4 { 0.7 } else { (n % 2) as f64 * 0.01 };
        let quality = assess(Array2::from_shape_fn((12, 100), moves).view(), 0.25, &[0, 50, 90], 500.0);
        let flat: Vec<usize> = (0..12).filter(|&k| quality.flat[k]).collect();
        assert_eq!((flat, quality.einthoven_mv), (vec![4], 0.25));
        assert!((quality.rr_sd_ms - 14.142).abs() < 1e-3);
    }
}
