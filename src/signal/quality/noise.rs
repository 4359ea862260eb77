//! Noise by band, as what the cleaning takes away, and clipped samples.
//!
//! The rest r = recorded - clean holds what lies below 0.67 Hz and above 40 Hz. Its moving mean over 0.1 s is the
//! wander; the rest of the rest is mains and muscle, and the steepest part of QRS, which a median over time passes by.

use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::linalg::general_mat_mul;
use ndarray::{s, Array2, ArrayView1, ArrayView2, Axis};

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
    let sines = Sines::of(rate_hz, unfiltered.ncols());
    let mut noise = Noise {
        mains_uv: 0.0,
        mains_hz: 50.0,
        mains_lead: lead,
        wander_uv: 0.0,
        wander_lead: lead,
        muscle_uv: 0.0,
        muscle_lead: lead,
    };
    let width = (0.1 * rate_hz) as usize;
    let mut fast = Array2::zeros(unfiltered.dim());
    for (((lead, before), after), mut fast) in
        Lead::ALL.into_iter().zip(unfiltered.rows()).zip(clean.rows()).zip(fast.rows_mut())
    {
        let rest: Vec<f64> = before.iter().zip(after).map(|(a, b)| 1000.0 * (a - b)).collect(); // uV
        let slow = moving_mean(&rest, width);
        let mean = slow.iter().sum::<f64>() / slow.len().max(1) as f64;
        let wander = rms(slow.iter().map(|v| v - mean));
        fast.iter_mut().zip(rest.iter().zip(&slow)).for_each(|(place, (r, s))| *place = r - s);
        if wander > noise.wander_uv {
            (noise.wander_uv, noise.wander_lead) = (wander, lead);
        }
    }
    let found = sines.remove(&mut fast);
    for ((lead, fast), amplitudes) in Lead::ALL.into_iter().zip(fast.rows()).zip(found.rows()) {
        for (amplitude, hz) in amplitudes.iter().zip(&sines.hz) {
            if *amplitude > noise.mains_uv {
                (noise.mains_uv, noise.mains_hz, noise.mains_lead) = (*amplitude, *hz, lead);
            }
        }
        let pieces = fast.axis_chunks_iter(Axis(0), (0.05 * rate_hz).max(1.0) as usize);
        let muscle = median(pieces.map(|piece| rms(piece.iter().copied())).collect());
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
    let mut sums = Vec::with_capacity(x.len() + 1);
    let mut sum = 0.0;
    sums.push(sum);
    sums.extend(x.iter().map(|v| {
        sum += v;
        sum
    }));
    let upto = |n: usize| sums.get(n.min(x.len())).copied().unwrap_or(0.0);
    let half = width / 2;
    let around = |n: usize| {
        let (start, end) = (n.saturating_sub(half), (n + half + 1).min(x.len()));
        (upto(end) - upto(start)) / (end - start) as f64
    };
    let whole = 2 * half + 1;
    let count = (x.len() + 1).saturating_sub(whole); // of samples with neighbours enough
    let mut means = Vec::with_capacity(x.len());
    means.extend((0..half.min(x.len())).map(around));
    let pairs = sums.iter().zip(sums.iter().skip(whole)).take(count);
    means.extend(pairs.map(|(start, end)| (end - start) / whole as f64));
    means.extend((means.len()..x.len()).map(around));
    means
}

/// Cosine and sine of a frequency each, scaled so that the product with itself is 1.
fn sine(hz: f64, rate_hz: f64, samples: usize) -> [Vec<f64>; 2] {
    let (turn_sin, turn_cos) = (TAU * hz / rate_hz).sin_cos();
    let (mut c, mut s) = ((2.0 / samples.max(1) as f64).sqrt(), 0.0);
    let (mut cos, mut sin) = (Vec::with_capacity(samples), Vec::with_capacity(samples));
    for _ in 0..samples {
        cos.push(c);
        sin.push(s);
        (c, s) = (c * turn_cos - s * turn_sin, s * turn_cos + c * turn_sin);
        // one product is faster than a sine
    }
    [cos, sin]
}

/// The mains frequencies that a rate has room for, each with its neighbours, 3 Hz away on either side.
struct Sines {
    rate_hz: f64,
    hz: Vec<f64>,
    /// Of each mains frequency cosine and sine, then those of its neighbours; x samples.
    table: Array2<f64>,
    /// Products of the rows of `table` with each other.
    gram: Array2<f64>,
}

/// Rows of `table` for one mains frequency.
const ROWS: usize = 6;

impl Sines {
    /// Those of the last record, where rate and length are the same.
    fn of(rate_hz: f64, samples: usize) -> Arc<Sines> {
        static LAST: Mutex<Option<Arc<Sines>>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref().filter(|sines| sines.rate_hz == rate_hz && sines.table.ncols() == samples) {
            Some(sines) => Arc::clone(sines),
            None => Arc::clone(last.insert(Arc::new(Sines::new(rate_hz, samples)))),
        }
    }

    fn new(rate_hz: f64, samples: usize) -> Sines {
        let hz: Vec<f64> = [50.0, 60.0].into_iter().filter(|hz| hz + 5.0 <= rate_hz / 2.0).collect();
        let rows = hz.iter().flat_map(|hz| [*hz, hz - 3.0, hz + 3.0]).flat_map(|hz| sine(hz, rate_hz, samples));
        let values: Vec<f64> = rows.flatten().collect();
        let table = Array2::from_shape_vec((ROWS * hz.len(), samples), values).unwrap_or_default();
        let gram = table.dot(&table.t());
        Sines { rate_hz, hz, table, gram }
    }

    /// Takes the mains out of signals (rows), one frequency after the other; of each signal and frequency the amplitude where it
    /// stands out among its neighbours, else 0.
    fn remove(&self, signals: &mut Array2<f64>) -> Array2<f64> {
        let mut amplitudes = Array2::zeros((signals.nrows(), self.hz.len()));
        let mut products = signals.dot(&self.table.t()); // signals x rows of the table
        let scale = (2.0 / signals.ncols().max(1) as f64).sqrt();
        for number in 0..self.hz.len() {
            let (first, here) = (ROWS * number, s![.., ROWS * number..ROWS * number + 2]);
            let mut part = Array2::zeros((signals.nrows(), 2));
            part.assign(&products.slice(here));
            for (products, amplitude) in products.rows().into_iter().zip(amplitudes.column_mut(number)) {
                let size = |row: usize| {
                    let at = |row: usize| products.get(first + row).copied().unwrap_or(0.0);
                    scale * at(row).hypot(at(row + 1))
                };
                let beside = size(2).max(size(4));
                *amplitude = if size(0) > 3.0 * beside { size(0) } else { 0.0 };
            }
            // What is taken out of the signals is taken out of their products too.
            general_mat_mul(-1.0, &part, &self.gram.slice(s![first..first + 2, ..]), 1.0, &mut products);
            general_mat_mul(-1.0, &part, &self.table.slice(s![first..first + 2, ..]), 1.0, signals);
        }
        amplitudes
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
        if x.iter().filter(|v| **v == extreme).count() < 2 * least {
            continue; // no room for two plateaus
        }
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
    use ndarray::Array1;

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
