//! Any sampling rate to another: a sinc under a Kaiser window, evaluated at the phases that the two rates need.
//!
//! Output sample k stands at input position p = k from/to; its value is the sum over input samples n of x\[n\] h(p - n),
//! h(d) = 2 c sinc(2 c d) kaiser(d / w), c = 0.46 min(1, to/from) cycles per input sample,
//! w = 32 / min(1, to/from) samples, kaiser with beta 7.86 (80 dB). The weights of each phase are divided by their sum,
//! so a constant stays itself. Where the rates have no small ratio, weights are interpolated between 1024 positions a
//! sample. The signal passes up to 0.84 of the lower Nyquist frequency and is gone at 1.
//! Ends are extended by point reflection.
//!
//! Length: all output samples whose time lies in the recording, ceil(N to/from); 10 s stay 10 s.

use std::f64::consts::PI;

use crate::error::{Fault, Result};

/// Rates that an ECG may have, Hz.
pub const RATES_HZ: std::ops::RangeInclusive<f64> = 50.0..=20_000.0;

const HALF_ZEROS: f64 = 32.0;
const CUTOFF: f64 = 0.46;
const BETA: f64 = 7.857;
/// Phases that are worth keeping.
const MAX_PHASES: u32 = 1000;
/// Positions per sample whose weights are interpolated where rates have no small ratio (error below -86 dB).
const INTERPOLATED: f64 = 1024.0;

/// The weights to go from one rate to another.
#[derive(Debug, Clone)]
pub struct Resampler {
    /// Input samples per output sample.
    step: f64,
    /// Input samples per `phases.len()` output samples, where the rates are a ratio of small numbers.
    numerator: Option<i64>,
    /// Weights per phase; without `numerator` those of evenly spaced positions from 0 to 1, to be interpolated.
    phases: Vec<Vec<f64>>,
}

impl Resampler {
    /// Prepares the way from one rate to another.
    ///
    /// # Errors
    /// Where a rate lies outside [`RATES_HZ`].
    pub fn new(from_hz: f64, to_hz: f64) -> Result<Resampler> {
        if let Some(rate) = [from_hz, to_hz].into_iter().find(|r| !RATES_HZ.contains(r)) {
            let fault = Fault::new("resampling ECG", "").field("rate");
            let expected = format!("{} to {} Hz", RATES_HZ.start(), RATES_HZ.end());
            return Err(fault.expected(expected, format!("{rate} Hz")).into());
        }
        let step = from_hz / to_hz;
        let whole = |count: &u32| (step * f64::from(*count) - (step * f64::from(*count)).round()).abs() < 1e-9;
        let count = (1..=MAX_PHASES).find(whole);
        let parts = count.unwrap_or((INTERPOLATED / step.max(1.0)).ceil() as u32);
        let last = if count.is_some() { parts - 1 } else { parts };
        let phases = (0..=last).map(|phase| weights(f64::from(phase) / f64::from(parts), step)).collect();
        let numerator = count.map(|count| (step * f64::from(count)).round() as i64);
        Ok(Resampler { step, numerator, phases })
    }

    /// Whether both rates are the same.
    pub fn is_same(&self) -> bool {
        self.step == 1.0
    }

    /// How many output samples `samples` input samples make.
    pub fn length(&self, samples: usize) -> usize {
        (samples as f64 / self.step - 1e-9).ceil().max(0.0) as usize
    }

    /// `count` output samples from number `first` on, where output sample 0 stands at input sample `origin`.
    pub fn part(&self, x: &[f64], origin: usize, first: i64, count: usize) -> Vec<f64> {
        let rows = first..first.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        let start = usize::try_from(first.saturating_add(origin as i64)).ok();
        let inside = start.and_then(|start| x.get(start..start.checked_add(count)?));
        if let Some(same) = inside.filter(|_| self.step == 1.0) {
            return same.to_vec();
        }
        if self.step == 1.0 {
            return rows.map(|k| reflected(x, k + origin as i64)).collect();
        }
        let phase = |number: usize| self.phases.get(number).map_or(&[][..], Vec::as_slice);
        let value = |k: i64| match self.numerator {
            Some(numerator) => {
                let (at, count) = (k * numerator, self.phases.len() as i64);
                apply(phase(at.rem_euclid(count) as usize), x, at.div_euclid(count) + origin as i64)
            }
            None => {
                let at = k as f64 * self.step;
                let (start, place) =
                    (at.floor() as i64 + origin as i64, (at - at.floor()) * (self.phases.len() - 1) as f64);
                let (number, share) = (place as usize, place.fract());
                (1.0 - share) * apply(phase(number), x, start) + share * apply(phase(number + 1), x, start)
            }
        };
        rows.map(value).collect()
    }

    /// The whole signal at the new rate.
    ///
    /// ```
    /// use ecgflow::signal::resample::Resampler;
    /// let up = Resampler::new(250.0, 500.0).unwrap();
    /// let y = up.all(&[0.5; 100]);
    /// assert_eq!(y.len(), 200);
    /// assert!(y.iter().all(|v| (v - 0.5).abs() < 1e-12));
    /// ```
    pub fn all(&self, x: &[f64]) -> Vec<f64> {
        self.part(x, 0, 0, self.length(x.len()))
    }
}

/// Input samples on each side of an output sample.
fn reach(step: f64) -> i64 {
    (HALF_ZEROS * step.max(1.0)).ceil() as i64
}

/// Weights of the input samples from `reach - 1` before to `reach` after, for a position `fraction` past a sample.
fn weights(fraction: f64, step: f64) -> Vec<f64> {
    let narrow = step.max(1.0);
    let (cutoff, half) = (CUTOFF / narrow, HALF_ZEROS * narrow);
    let weight = |n: i64| {
        let d = fraction - n as f64;
        let u = 1.0 - (d / half).powi(2);
        let window = if u > 0.0 { bessel_i0(BETA * u.sqrt()) } else { 0.0 };
        let turn = 2.0 * PI * cutoff * d;
        window * if turn.abs() < 1e-12 { 1.0 } else { turn.sin() / turn }
    };
    let row: Vec<f64> = (1 - reach(step)..=reach(step)).map(weight).collect();
    let sum: f64 = row.iter().sum();
    row.into_iter().map(|w| w / sum).collect()
}

/// The sum of weights times samples around input sample `at`.
fn apply(weights: &[f64], x: &[f64], at: i64) -> f64 {
    let start = at + 1 - weights.len() as i64 / 2;
    let inside = usize::try_from(start).ok().and_then(|s| x.get(s..s.checked_add(weights.len())?));
    match inside {
        Some(samples) => weights.iter().zip(samples).map(|(w, v)| w * v).sum(),
        None => weights.iter().zip(start..).map(|(w, i)| w * reflected(x, i)).sum(),
    }
}

/// Sample i; outside, the point reflection through the end: 2 x\[0\] - x\[-i\].
fn reflected(x: &[f64], i: i64) -> f64 {
    let last = x.len() as i64 - 1;
    let at = |i: i64| usize::try_from(i.clamp(0, last.max(0))).ok().and_then(|i| x.get(i)).copied().unwrap_or(0.0);
    match i {
        _ if i < 0 => 2.0 * at(0) - at(-i),
        _ if i > last => 2.0 * at(last) - at(2 * last - i),
        _ => at(i),
    }
}

/// Modified Bessel function of the first kind, order 0: the sum of ((x/2)^k / k!)^2.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut term, mut sum, mut k) = (1.0, 1.0, 1.0);
    while term > sum * 1e-17 {
        term *= quarter / (k * k);
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate_hz: f64, samples: usize) -> Vec<f64> {
        (0..samples).map(|n| (2.0 * PI * hz * n as f64 / rate_hz + 0.4).sin()).collect()
    }

    /// Largest error, dB, half a second away from the ends.
    fn error_db(from_hz: f64, hz: f64) -> f64 {
        let x = sine(hz, from_hz, (from_hz * 10.0) as usize);
        let y = Resampler::new(from_hz, 500.0).unwrap().all(&x);
        let truth = sine(hz, 500.0, y.len());
        let inner = 250..y.len() - 250;
        let error = y[inner.clone()].iter().zip(&truth[inner]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        20.0 * error.log10()
    }

    #[test]
    fn sines_survive_below_minus_60_db() {
        for from_hz in [128.0, 200.0, 240.0, 250.0, 257.13, 360.0, 400.0, 512.0, 977.3, 1000.0, 2000.0, 5000.0] {
            for part in [0.01, 0.1, 0.3, 0.4] {
                let hz = part * 500f64.min(from_hz);
                let error = error_db(from_hz, hz);
                assert!(error < -70.0, "{hz} Hz at {from_hz} Hz: {error} dB");
            }
        }
    }

    #[test]
    fn interpolated_weights_are_those_of_the_position() {
        let resampler = Resampler::new(499.99, 500.0).unwrap();
        assert_eq!((resampler.numerator, resampler.phases.len()), (None, 1025));
        for (number, pair) in resampler.phases.windows(2).enumerate() {
            let exact = weights((number as f64 + 0.5) / 1024.0, resampler.step);
            let middle = pair[0].iter().zip(&pair[1]).map(|(a, b)| (a + b) / 2.0);
            let error: f64 = middle.zip(&exact).map(|(m, e)| (m - e).abs()).sum();
            assert!(error < 5e-5, "position {number}: {error}"); // -86 dB
        }
    }

    #[test]
    fn what_cannot_be_kept_is_removed() {
        let y = Resampler::new(1000.0, 500.0).unwrap().all(&sine(300.0, 1000.0, 10_000));
        assert!(y[250..4750].iter().all(|v| v.abs() < 1e-3));
    }

    #[test]
    fn ends_follow_a_slope() {
        let x: Vec<f64> = (0..3600).map(|n| f64::from(n) / 360.0).collect();
        let y = Resampler::new(360.0, 500.0).unwrap().all(&x);
        assert_eq!(y.len(), 5000);
        for (k, v) in y.iter().enumerate() {
            assert!((v - k as f64 / 500.0).abs() < 1e-3, "{k}: {v}");
        }
    }

    #[test]
    fn lengths_follow_the_rule_and_parts_equal_the_whole() {
        let length = |from_hz, n| Resampler::new(from_hz, 500.0).unwrap().length(n);
        assert_eq!(
            [length(250.0, 2500), length(1000.0, 10_001), length(360.0, 3600), length(500.0, 7)],
            [5000, 5001, 5000, 7]
        );
        let x = sine(3.0, 360.0, 3600);
        let resampler = Resampler::new(360.0, 500.0).unwrap();
        let (whole, part) = (resampler.all(&x), resampler.part(&x, 360, -500, 1000));
        assert!(whole.iter().zip(&part).all(|(a, b)| (a - b).abs() < 1e-12));
        assert_eq!(Resampler::new(500.0, 500.0).unwrap().all(&x), x);
    }

    #[test]
    fn refuses_rates_no_ecg_has() {
        for rate in [0.0, 49.9, 20_001.0, f64::NAN, f64::INFINITY] {
            assert!(Resampler::new(rate, 500.0).is_err(), "{rate}");
        }
        let error = Resampler::new(10.0, 500.0).unwrap_err().to_string();
        assert!(error.contains("expected 50 to 20000 Hz, found 10 Hz"), "{error}");
    }
}
