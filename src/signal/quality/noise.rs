//! Noise by band, as what the cleaning takes away, and clipped samples.
//!
//! The rest r = recorded - clean holds what lies below 0.67 Hz and above 40 Hz. Its moving mean over 0.1 s is the
//! wander; the rest of the rest is mains and muscle, and the steepest part of QRS, which a median over time passes by.

use std::f64::consts::TAU;

use ndarray::{Array1, ArrayView1, ArrayView2};

use crate::data::ecg::Lead;
use crate::signal::rpeak::median;

/// Noise of the worst lead in each band.
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// Amplitude of the mains sine, uV.
    pub mains_uv: f64,
    /// Its frequency, Hz.
    pub mains_hz: f64,
    /// The lead that has it.
    pub mains_lead: Lead,
    /// Root mean square below 0.67 Hz, uV.
    pub wander_uv: f64,
    /// The lead that has it.
    pub wander_lead: Lead,
    /// Root mean square above 40 Hz without the mains, in the quieter half of the time, uV.
    pub muscle_uv: f64,
    /// The lead that has it.
    pub muscle_lead: Lead,
}

/// Measures all leads; both arrays are leads x samples at the same rate.
pub fn measure(unfiltered: ArrayView2<f64>, clean: ArrayView2<f64>, rate_hz: f64) -> Noise {
    let lead = Lead::I;
    let tables = Mains::all(rate_hz, unfiltered.ncols());
    let mut noise = Noise {
        mains_uv: 0.0,
        mains_hz: 50.0,
        mains_lead: lead,
        wander_uv: 0.0,
        wander_lead: lead,
        muscle_uv: 0.0,
        muscle_lead: lead,
    };
    for ((lead, before), after) in Lead::ALL.into_iter().zip(unfiltered.rows()).zip(clean.rows()) {
        let rest: Vec<f64> = before.iter().zip(after).map(|(a, b)| 1000.0 * (a - b)).collect(); // uV
        let slow = moving_mean(&rest, (0.1 * rate_hz) as usize);
        let mean = slow.iter().sum::<f64>() / slow.len().max(1) as f64;
        let wander = rms(slow.iter().map(|v| v - mean));
        let mut fast: Array1<f64> = rest.iter().zip(&slow).map(|(r, s)| r - s).collect();
        for mains in &tables {
            let amplitude = mains.remove(&mut fast);
            if amplitude > noise.mains_uv {
                (noise.mains_uv, noise.mains_hz, noise.mains_lead) = (amplitude, mains.hz, lead);
            }
        }
        let fast = fast.to_vec();
        let pieces = fast.chunks((0.05 * rate_hz).max(1.0) as usize);
        let muscle = median(pieces.map(|piece| rms(piece.iter().copied())).collect());
        if wander > noise.wander_uv {
            (noise.wander_uv, noise.wander_lead) = (wander, lead);
        }
        if muscle > noise.muscle_uv {
            (noise.muscle_uv, noise.muscle_lead) = (muscle, lead);
        }
    }
    noise
}

fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    (values.map(|v| v * v).sum::<f64>() / n).sqrt()
}

/// The mean of `width` samples around each sample, fewer at the ends.
fn moving_mean(x: &[f64], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0];
    let mut sum = 0.0;
    sums.extend(x.iter().map(|v| {
        sum += v;
        sum
    }));
    let upto = |n: usize| sums.get(n.min(x.len())).copied().unwrap_or(0.0);
    let half = width / 2;
    let around = |n: usize| (n.saturating_sub(half), (n + half + 1).min(x.len()));
    (0..x.len()).map(around).map(|(start, end)| (upto(end) - upto(start)) / (end - start) as f64).collect()
}

/// Cosine and sine of one frequency, scaled so that a product with a signal is its amplitude there.
struct Sine {
    cos: Array1<f64>,
    sin: Array1<f64>,
}

impl Sine {
    fn new(hz: f64, rate_hz: f64, samples: usize) -> Sine {
        let (turn_sin, turn_cos) = (TAU * hz / rate_hz).sin_cos();
        let (mut c, mut s) = ((2.0 / samples.max(1) as f64).sqrt(), 0.0);
        let (mut cos, mut sin) = (Vec::with_capacity(samples), Vec::with_capacity(samples));
        for _ in 0..samples {
            cos.push(c);
            sin.push(s);
            (c, s) = (c * turn_cos - s * turn_sin, s * turn_cos + c * turn_sin);
            // one product is faster than a sine
        }
        Sine { cos: cos.into(), sin: sin.into() }
    }

    /// Its share of a signal.
    fn amplitude(&self, x: &Array1<f64>) -> f64 {
        (2.0 / x.len().max(1) as f64).sqrt() * self.cos.dot(x).hypot(self.sin.dot(x))
    }

    fn subtract(&self, x: &mut Array1<f64>) {
        let (along, across) = (self.cos.dot(x), self.sin.dot(x));
        x.scaled_add(-along, &self.cos);
        x.scaled_add(-across, &self.sin);
    }
}

/// A mains frequency with its neighbours, 3 Hz away on either side.
struct Mains {
    hz: f64,
    here: Sine,
    beside: [Sine; 2],
}

impl Mains {
    /// Those the rate has room for.
    fn all(rate_hz: f64, samples: usize) -> Vec<Mains> {
        let sine = |hz: f64| Sine::new(hz, rate_hz, samples);
        let mains = |hz: f64| Mains { hz, here: sine(hz), beside: [sine(hz - 3.0), sine(hz + 3.0)] };
        [50.0, 60.0].into_iter().filter(|hz| hz + 5.0 <= rate_hz / 2.0).map(mains).collect()
    }

    /// Takes it out of a signal; its amplitude where it stands out among its neighbours, else 0.
    fn remove(&self, x: &mut Array1<f64>) -> f64 {
        let here = self.here.amplitude(x);
        let beside = self.beside.iter().map(|sine| sine.amplitude(x)).fold(0.0, f64::max);
        self.here.subtract(x);
        if here > 3.0 * beside {
            here
        } else {
            0.0
        }
    }
}

/// Samples in plateaus at the highest or lowest value that begin or end steeply, as a round top never does: at least
/// 4 samples and 6 ms long, the signal 2 % of its range away 4 ms before or after. Two plateaus at least: one is a spike.
pub fn clipped(row: ArrayView1<f64>, rate_hz: f64) -> usize {
    let x: Vec<f64> = row.to_vec();
    let (low, high) = x.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let steep = 0.02 * (high - low);
    let step = (0.004 * rate_hz).ceil().max(1.0) as usize;
    let least = ((0.006 * rate_hz).ceil() as usize).max(4);
    let mut samples = 0;
    for extreme in [low, high] {
        let (mut here, mut plateaus, mut start) = (0, 0, None);
        for n in 0..=x.len() {
            let on = x.get(n) == Some(&extreme);
            match (on, start) {
                (true, None) => start = Some(n),
                (false, Some(first)) => {
                    let away =
                        |at: Option<usize>| at.and_then(|at| x.get(at)).is_some_and(|v| (v - extreme).abs() > steep);
                    if n - first >= least && (away(first.checked_sub(step)) || away(Some(n - 1 + step))) {
                        (here, plateaus) = (here + n - first, plateaus + 1);
                    }
                    start = None;
                }
                _ => {}
            }
        }
        if plateaus > 1 {
            samples += here;
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

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
    fn cut_off_beats_are_clipped_and_round_tops_are_not() {
        let beat = |n: usize| (-0.5 * (((n % 400) as f64 - 200.0) / 6.0).powi(2)).exp();
        let whole = Array1::from_shape_fn(4000, |n| (beat(n) / 0.005).round() * 0.005);
        assert_eq!(clipped(whole.view(), 500.0), 0);
        let cut = whole.mapv(|v| v.min(0.6));
        let share = clipped(cut.view(), 500.0);
        assert!((100..200).contains(&share), "{share}"); // ten beats of about 13 samples
        assert_eq!(clipped(Array1::zeros(100).view(), 500.0), 0);
    }
}
