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
use crate::signal::lane::{slices, BLOCK, LANES};
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

/// More than any noise; what is above counts as this, so that sums of squares stay numbers.
const MOST_UV: f64 = 1e9;

/// One sample of every lead, uV. Twice as many fit a vector and the cache as would in 64 bits; what that rounds away is far below
/// what a lead is noisy by.
type Lanes = [f32; LANES];

/// Measures all leads; both arrays are leads x samples at the same rate.
pub fn measure(unfiltered: ArrayView2<f64>, clean: ArrayView2<f64>, rate_hz: f64) -> Noise {
    let lead = Lead::I;
    let mut noise = Noise {
        mains_uv: 0.0,
        mains_hz: 50.0,
        mains_lead: lead,
        wander_uv: 0.0,
        wander_lead: lead,
        muscle_uv: 0.0,
        muscle_lead: lead,
    };
    let sines = sines(rate_hz, unfiltered.ncols());
    let mut fast = rest_uv(&unfiltered, &clean);
    let half = (0.1 * rate_hz) as usize / 2;
    let Figures { wander_uv, products } = vectorise(Split { rest: &mut fast, half, sines: &sines });
    for (lead, wander) in Lead::ALL.into_iter().zip(wander_uv) {
        if wander > noise.wander_uv {
            (noise.wander_uv, noise.wander_lead) = (wander, lead);
        }
    }
    let mut mains: Vec<(&Sine, Parts)> = Vec::new();
    for (sine, mut products) in sines.iter().zip(products) {
        for ((_, parts), overlaps) in mains.iter().zip(&sine.overlaps) {
            products.iter_mut().zip(overlaps).for_each(|(products, overlap)| without(products, parts, overlap));
        }
        for (lead, amplitude) in Lead::ALL.into_iter().zip(amplitudes(&products, fast.len())) {
            if amplitude > noise.mains_uv {
                (noise.mains_uv, noise.mains_hz, noise.mains_lead) = (amplitude, sine.hz, lead);
            }
        }
        let [here, ..] = products;
        mains.push((sine, here));
    }
    let width = (0.05 * rate_hz).max(1.0) as usize;
    let pieces = vectorise(Powers { signals: &mut fast, mains: &mains, width });
    for (k, lead) in Lead::ALL.into_iter().enumerate() {
        let muscle = median(pieces.iter().map(|piece| f64::from(piece[k]).sqrt()).collect());
        if muscle > noise.muscle_uv {
            (noise.muscle_uv, noise.muscle_lead) = (muscle, lead);
        }
    }
    noise
}

/// What the cleaning took away, uV, about what it took from the first sample; nothing where a lead is missing.
fn rest_uv(unfiltered: &ArrayView2<f64>, clean: &ArrayView2<f64>) -> Vec<Lanes> {
    let (before, after) = (slices(unfiltered), slices(clean));
    let samples = unfiltered.ncols();
    if before.iter().chain(&after).any(|row| row.len() < samples) {
        return Vec::new();
    }
    vectorise(Rest { before: &before, after: &after, samples })
}

struct Rest<'a> {
    before: &'a [Cow<'a, [f64]>; LANES],
    after: &'a [Cow<'a, [f64]>; LANES],
    samples: usize,
}

impl Plain for Rest<'_> {
    type Output = Vec<Lanes>;

    #[inline(always)]
    fn run(self) -> Vec<Lanes> {
        let mut rest = Vec::with_capacity(self.samples);
        let mut block = [[0f32; LANES]; BLOCK];
        for start in (0..self.samples).step_by(BLOCK) {
            let end = (start + BLOCK).min(self.samples);
            for (lane, (before, after)) in self.before.iter().zip(self.after).enumerate() {
                let first = before.first().zip(after.first()).map_or(0.0, |(a, b)| a - b);
                let [before, after] = [before, after].map(|row| row.get(start..end).unwrap_or_default());
                for (place, (a, b)) in block.iter_mut().zip(before.iter().zip(after)) {
                    place[lane] = (1000.0 * (a - b - first)).clamp(-MOST_UV, MOST_UV) as f32;
                }
            }
            rest.extend_from_slice(block.get(..end - start).unwrap_or_default());
        }
        rest
    }
}

/// What every signal has of a cosine and of a sine: sums of products over all samples.
type Parts = [Lanes; 2];

/// What a moving mean says of signals, and the parts of what is left.
struct Figures {
    /// Root mean square of the moving mean about its own mean.
    wander_uv: [f64; LANES],
    /// The parts of each sine, at its frequency and at its neighbours.
    products: Vec<[Parts; 3]>,
}

/// Takes from the signals their mean over `half` samples before and after, fewer at the ends.
struct Split<'a> {
    rest: &'a mut [Lanes],
    half: usize,
    sines: &'a [Sine],
}

impl Plain for Split<'_> {
    type Output = Figures;

    #[inline(always)]
    fn run(self) -> Figures {
        let Split { rest, half, sines } = self;
        let samples = rest.len();
        let mut around = [0.0; LANES];
        for v in rest.iter().take(half) {
            add(&mut around, v, 1.0);
        }
        let (mut sum, mut squares) = ([0f64; LANES], [0f64; LANES]);
        let mut products = vec![[[[0.0; LANES]; 2]; 3]; sines.len()];
        let mut gone = vec![[0.0; LANES]; half + 1]; // what the mean loses next: sample n in place n mod (half + 1)
        let mut place = 0;
        for start in (0..samples).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(samples);
            let (mut block_sum, mut block_squares) = ([0f32; LANES], [0f32; LANES]);
            for n in block.clone() {
                if let Some(next) = rest.get(n + half) {
                    add(&mut around, next, 1.0);
                }
                let (Some(v), Some(lost)) = (rest.get_mut(n), gone.get_mut(place)) else { break };
                if n > half {
                    add(&mut around, lost, -1.0);
                }
                *lost = *v;
                place = if place == half { 0 } else { place + 1 };
                let share = 1.0 / ((n + half + 1).min(samples) - n.saturating_sub(half)) as f32;
                for k in 0..LANES {
                    let slow = share * around[k];
                    v[k] -= slow;
                    block_sum[k] += slow;
                    block_squares[k] += slow * slow;
                }
            }
            for k in 0..LANES {
                sum[k] += f64::from(block_sum[k]);
                squares[k] += f64::from(block_squares[k]);
            }
            // While the block is in the nearest cache.
            let signals = rest.get(block.clone()).unwrap_or_default();
            for (products, sine) in products.iter_mut().zip(sines) {
                for (parts, table) in products.iter_mut().zip(&sine.tables) {
                    add_products(parts, signals, table.get(block.clone()).unwrap_or_default());
                }
            }
        }
        let share = 1.0 / samples.max(1) as f64;
        let spread = |k: usize| (share * squares[k] - (share * sum[k]).powi(2)).max(0.0).sqrt();
        Figures { wander_uv: std::array::from_fn(spread), products }
    }
}

#[inline(always)]
fn add(sum: &mut Lanes, by: &Lanes, sign: f32) {
    for k in 0..LANES {
        sum[k] += sign * by[k];
    }
}

/// Adds the products of every signal with a cosine and a sine.
#[inline(always)]
fn add_products([with_cos, with_sin]: &mut Parts, signals: &[Lanes], table: &[[f32; 2]]) {
    let (mut of_cos, mut of_sin) = (*with_cos, *with_sin);
    for (v, [cos, sin]) in signals.iter().zip(table) {
        for k in 0..LANES {
            of_cos[k] += cos * v[k];
            of_sin[k] += sin * v[k];
        }
    }
    (*with_cos, *with_sin) = (of_cos, of_sin);
}

/// What the parts of one frequency would be, had the parts of another been taken out of the signals before.
fn without(products: &mut Parts, parts: &Parts, overlap: &[[f32; 2]; 2]) {
    let [of_cos, of_sin] = parts;
    for (products, [with_cos, with_sin]) in products.iter_mut().zip(overlap) {
        products.iter_mut().zip(of_cos.iter().zip(of_sin)).for_each(|(p, (c, s))| *p -= c * with_cos + s * with_sin);
    }
}

/// Of every signal the amplitude of a sine where it stands out among its neighbours, else 0.
fn amplitudes([here, below, above]: &[Parts; 3], samples: usize) -> [f64; LANES] {
    let scale = (2.0 / samples.max(1) as f64).sqrt();
    let size = |[cos, sin]: &Parts, k: usize| scale * f64::from(cos[k]).hypot(f64::from(sin[k]));
    std::array::from_fn(|k| {
        let beside = size(below, k).max(size(above, k));
        if size(here, k) > 3.0 * beside {
            size(here, k)
        } else {
            0.0
        }
    })
}

/// Mean square of every `width` samples, without the mains.
struct Powers<'a> {
    signals: &'a mut [Lanes],
    mains: &'a [(&'a Sine, Parts)],
    width: usize,
}

impl Plain for Powers<'_> {
    type Output = Vec<Lanes>;

    #[inline(always)]
    fn run(self) -> Vec<Lanes> {
        let mut powers = Vec::with_capacity(self.signals.len() / self.width + 1);
        for (n, piece) in self.signals.chunks_mut(self.width).enumerate() {
            for (Sine { tables: [table, ..], .. }, [of_cos, of_sin]) in self.mains {
                let table = table.get(n * self.width..).unwrap_or_default();
                for (v, [cos, sin]) in piece.iter_mut().zip(table) {
                    for k in 0..LANES {
                        v[k] -= of_cos[k] * cos + of_sin[k] * sin;
                    }
                }
            }
            let mut sum = [0f32; LANES];
            for v in piece.iter() {
                sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += v * v);
            }
            powers.push(sum.map(|sum| sum / piece.len() as f32));
        }
        powers
    }
}

/// Cosine and sine of a frequency, one pair a sample, scaled so that the product of each with itself is 1.
type Table = Vec<[f32; 2]>;

fn table(hz: f64, rate_hz: f64, samples: usize) -> Table {
    let (turn_sin, turn_cos) = (TAU * hz / rate_hz).sin_cos();
    let mut now = [(2.0 / samples.max(1) as f64).sqrt(), 0.0];
    let mut next = || {
        let [c, s] = now;
        now = [c * turn_cos - s * turn_sin, s * turn_cos + c * turn_sin]; // one product is faster than a sine
        [c as f32, s as f32]
    };
    (0..samples).map(|_| next()).collect()
}

/// A mains frequency.
struct Sine {
    hz: f64,
    /// The frequency, and its neighbours 3 Hz below and above.
    tables: [Table; 3],
    /// For each mains frequency that is taken out before: products of its cosine and sine with those of the three tables.
    overlaps: Vec<[[[f32; 2]; 2]; 3]>,
}

/// The mains frequencies that a rate has room for: those of the last record, where rate and length are the same.
fn sines(rate_hz: f64, samples: usize) -> Arc<Vec<Sine>> {
    type Known = (f64, usize, Arc<Vec<Sine>>);
    static LAST: Mutex<Option<Known>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match last.as_ref().filter(|(hz, n, _)| (*hz, *n) == (rate_hz, samples)) {
        Some((_, _, sines)) => Arc::clone(sines),
        None => {
            let mut sines = Vec::new();
            for hz in [50.0, 60.0].into_iter().filter(|hz| hz + 5.0 <= rate_hz / 2.0) {
                sines.push(Sine::new(hz, rate_hz, samples, &sines));
            }
            let sines = Arc::new(sines);
            *last = Some((rate_hz, samples, Arc::clone(&sines)));
            sines
        }
    }
}

impl Sine {
    fn new(hz: f64, rate_hz: f64, samples: usize, before: &[Sine]) -> Sine {
        let tables = [hz, hz - 3.0, hz + 3.0].map(|hz| table(hz, rate_hz, samples));
        let product = |a: &Table, i: usize, b: &Table, j: usize| {
            a.iter().zip(b).map(|(a, b)| f64::from(a[i]) * f64::from(b[j])).sum::<f64>() as f32
        };
        let overlap = |one: &Table, other: &Table| [0, 1].map(|i| [0, 1].map(|j| product(one, i, other, j)));
        let of = |Sine { tables: [here, ..], .. }: &Sine| tables.each_ref().map(|table| overlap(table, here));
        let overlaps = before.iter().map(of).collect();
        Sine { hz, tables, overlaps }
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
mod tests;
