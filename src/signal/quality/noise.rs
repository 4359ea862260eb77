//! Noise by band, as what the cleaning takes away, and clipped samples.
//!
//! The rest r = recorded - clean holds what lies below 0.67 Hz and above 40 Hz. Its moving mean over 0.1 s is the
//! wander; the rest of the rest is mains and muscle, and the steepest part of QRS, which a median over time passes by.

use std::borrow::Cow;
use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::ArrayView2;

use crate::data::ecg::Lead;
use crate::kernel::simd::{vectorise, Plain};
use crate::signal::lane::{slices, Lanes, LANES};
use crate::signal::rpeak::median;
use crate::signal::statistic::{count, extremes};

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
    let sines = sines(rate_hz, unfiltered.ncols());
    let mut noise = Noise {
        mains_uv: 0.0,
        mains_hz: 50.0,
        mains_lead: lead,
        wander_uv: 0.0,
        wander_lead: lead,
        muscle_uv: 0.0,
        muscle_lead: lead,
    };
    let rest = rest_uv(&unfiltered, &clean);
    let (mut fast, wander) = vectorise(Split { rest: &rest, half: (0.1 * rate_hz) as usize / 2 });
    for (lead, wander) in Lead::ALL.into_iter().zip(wander) {
        if wander > noise.wander_uv {
            (noise.wander_uv, noise.wander_lead) = (wander, lead);
        }
    }
    for sine in sines.iter() {
        for (lead, amplitude) in Lead::ALL.into_iter().zip(sine.remove(&mut fast)) {
            if amplitude > noise.mains_uv {
                (noise.mains_uv, noise.mains_hz, noise.mains_lead) = (amplitude, sine.hz, lead);
            }
        }
    }
    let pieces = vectorise(Powers { signals: &fast, width: (0.05 * rate_hz).max(1.0) as usize });
    for (k, lead) in Lead::ALL.into_iter().enumerate() {
        let muscle = median(pieces.iter().map(|piece| piece[k].sqrt()).collect());
        if muscle > noise.muscle_uv {
            (noise.muscle_uv, noise.muscle_lead) = (muscle, lead);
        }
    }
    noise
}

/// What the cleaning took away, uV, about what it took from the first sample.
fn rest_uv(unfiltered: &ArrayView2<f64>, clean: &ArrayView2<f64>) -> Vec<Lanes> {
    let mut rest = vec![[0.0; LANES]; unfiltered.ncols()];
    vectorise(Rest { before: &slices(unfiltered), after: &slices(clean), rest: &mut rest });
    rest
}

struct Rest<'a> {
    before: &'a [Cow<'a, [f64]>; LANES],
    after: &'a [Cow<'a, [f64]>; LANES],
    rest: &'a mut [Lanes],
}

impl Plain for Rest<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows: [[&[f64]; 2]; LANES] = std::array::from_fn(|k| [self.before[k].as_ref(), self.after[k].as_ref()]);
        let first = rows.map(|[a, b]| a.first().zip(b.first()).map_or(0.0, |(a, b)| a - b));
        if rows.iter().flatten().any(|row| row.len() < self.rest.len()) {
            return; // a lead is missing: nothing is measured
        }
        for (n, place) in self.rest.iter_mut().enumerate() {
            for (place, ([before, after], first)) in place.iter_mut().zip(rows.iter().zip(&first)) {
                *place = 1000.0 * (before[n] - after[n] - first);
            }
        }
    }
}

/// Takes from the signals their mean over `half` samples before and after, fewer at the ends; gives what is left, and the root
/// mean square of that moving mean about its own.
struct Split<'a> {
    rest: &'a [Lanes],
    half: usize,
}

impl Plain for Split<'_> {
    type Output = (Vec<Lanes>, Lanes);

    #[inline(always)]
    fn run(self) -> (Vec<Lanes>, Lanes) {
        let Split { rest, half } = self;
        let mut around = [0.0; LANES];
        let add = |sum: &mut Lanes, by: &Lanes, sign: f64| sum.iter_mut().zip(by).for_each(|(s, v)| *s += sign * v);
        rest.iter().take(half).for_each(|v| add(&mut around, v, 1.0));
        let (mut sum, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let mut fast = Vec::with_capacity(rest.len());
        for (n, v) in rest.iter().enumerate() {
            if let Some(next) = rest.get(n + half) {
                add(&mut around, next, 1.0);
            }
            if let Some(gone) = n.checked_sub(half + 1).and_then(|gone| rest.get(gone)) {
                add(&mut around, gone, -1.0);
            }
            let share = 1.0 / ((n + half + 1).min(rest.len()) - n.saturating_sub(half)) as f64;
            let mut left = *v;
            for k in 0..LANES {
                let slow = share * around[k];
                left[k] -= slow;
                sum[k] += slow;
                squares[k] += slow * slow;
            }
            fast.push(left);
        }
        let share = 1.0 / rest.len().max(1) as f64;
        let spread = |k: usize| (share * squares[k] - (share * sum[k]).powi(2)).max(0.0).sqrt();
        (fast, std::array::from_fn(spread))
    }
}

/// Mean square of every `width` samples.
struct Powers<'a> {
    signals: &'a [Lanes],
    width: usize,
}

impl Plain for Powers<'_> {
    type Output = Vec<Lanes>;

    #[inline(always)]
    fn run(self) -> Vec<Lanes> {
        let mut powers = Vec::with_capacity(self.signals.len() / self.width + 1);
        for piece in self.signals.chunks(self.width) {
            let mut sum = [0.0; LANES];
            for v in piece {
                sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += v * v);
            }
            powers.push(sum.map(|sum| sum / piece.len() as f64));
        }
        powers
    }
}

/// Cosine and sine of a frequency each, scaled so that the product with itself is 1.
fn sine(hz: f64, rate_hz: f64, samples: usize) -> Vec<[f64; 2]> {
    let (turn_sin, turn_cos) = (TAU * hz / rate_hz).sin_cos();
    let mut now = [(2.0 / samples.max(1) as f64).sqrt(), 0.0];
    let mut next = || {
        let [c, s] = now;
        now = [c * turn_cos - s * turn_sin, s * turn_cos + c * turn_sin]; // one product is faster than a sine
        [c, s]
    };
    (0..samples).map(|_| next()).collect()
}

/// A mains frequency: its cosine and sine, and those of its neighbours 3 Hz below and above.
struct Sine {
    hz: f64,
    tables: [Vec<[f64; 2]>; 3],
}

/// The mains frequencies that a rate has room for: those of the last record, where rate and length are the same.
fn sines(rate_hz: f64, samples: usize) -> Arc<Vec<Sine>> {
    type Known = (f64, usize, Arc<Vec<Sine>>);
    static LAST: Mutex<Option<Known>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match last.as_ref().filter(|(hz, n, _)| (*hz, *n) == (rate_hz, samples)) {
        Some((_, _, sines)) => Arc::clone(sines),
        None => {
            let room = |hz: &f64| hz + 5.0 <= rate_hz / 2.0;
            let mains = [50.0, 60.0].into_iter().filter(room);
            let sines = Arc::new(mains.map(|hz| Sine::new(hz, rate_hz, samples)).collect());
            *last = Some((rate_hz, samples, Arc::clone(&sines)));
            sines
        }
    }
}

impl Sine {
    fn new(hz: f64, rate_hz: f64, samples: usize) -> Sine {
        Sine { hz, tables: [hz, hz - 3.0, hz + 3.0].map(|hz| sine(hz, rate_hz, samples)) }
    }

    /// Takes it out of the signals; of each the amplitude where it stands out among its neighbours, else 0.
    fn remove(&self, signals: &mut [Lanes]) -> Lanes {
        let scale = (2.0 / signals.len().max(1) as f64).sqrt();
        let [here, below, above] = [0, 1, 2].map(|k| vectorise(Products { signals, table: &self.tables[k] }));
        vectorise(Less { signals, table: &self.tables[0], parts: here });
        let size = |[cos, sin]: &[Lanes; 2], k: usize| scale * cos[k].hypot(sin[k]);
        std::array::from_fn(|k| {
            let beside = size(&below, k).max(size(&above, k));
            if size(&here, k) > 3.0 * beside {
                size(&here, k)
            } else {
                0.0
            }
        })
    }
}

/// Sums over all samples of every signal times a cosine and a sine.
struct Products<'a> {
    signals: &'a [Lanes],
    table: &'a [[f64; 2]],
}

impl Plain for Products<'_> {
    type Output = [Lanes; 2];

    #[inline(always)]
    fn run(self) -> [Lanes; 2] {
        let (mut with_cos, mut with_sin) = ([0.0; LANES], [0.0; LANES]);
        for (v, [cos, sin]) in self.signals.iter().zip(self.table) {
            for k in 0..LANES {
                with_cos[k] += cos * v[k];
                with_sin[k] += sin * v[k];
            }
        }
        [with_cos, with_sin]
    }
}

/// Takes from every signal its parts of a cosine and a sine.
struct Less<'a> {
    signals: &'a mut [Lanes],
    table: &'a [[f64; 2]],
    parts: [Lanes; 2],
}

impl Plain for Less<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [of_cos, of_sin] = self.parts;
        for (v, [cos, sin]) in self.signals.iter_mut().zip(self.table) {
            for k in 0..LANES {
                v[k] -= of_cos[k] * cos + of_sin[k] * sin;
            }
        }
    }
}

/// Samples in plateaus at the highest or lowest value that begin or end steeply, as a round top never does: at least
/// 4 samples and 6 ms long, the signal 2 % of its range away 4 ms before or after. Two plateaus at least: one is a spike.
pub fn clipped(x: &[f64], rate_hz: f64) -> usize {
    let (low, high) = extremes(x);
    let steep = 0.02 * (high - low);
    let step = (0.004 * rate_hz).ceil().max(1.0) as usize;
    let least = ((0.006 * rate_hz).ceil() as usize).max(4);
    let mut samples = 0;
    for extreme in [low, high] {
        if count(x, extreme) < 2 * least {
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
    fn cut_off_beats_are_clipped_and_round_tops_are_not() {
        let beat = |n: usize| (-0.5 * (((n % 400) as f64 - 200.0) / 6.0).powi(2)).exp();
        let whole = Array1::from_shape_fn(4000, |n| (beat(n) / 0.005).round() * 0.005);
        assert_eq!(clipped(&whole.to_vec(), 500.0), 0);
        let cut = whole.mapv(|v| v.min(0.6));
        let share = clipped(&cut.to_vec(), 500.0);
        assert!((100..200).contains(&share), "{share}"); // ten beats of about 13 samples
        assert_eq!(clipped(&[0.0; 100], 500.0), 0);
    }
}
