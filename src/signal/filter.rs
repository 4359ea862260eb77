//! Butterworth filters and the mains notch, run forward or forward and backward (no delay).
//!
//! Analogue Butterworth poles of order n: p_k = exp(i pi (2k + n + 1) / 2n), k = 0..n-1. They are moved to the wanted
//! band (with the corner warped, w = 2 tan(pi f / rate)), brought to z by the bilinear map z = (2 + s) / (2 - s), and
//! grouped into sections of order two:
//!
//! y\[n\] = b0 x\[n\] + b1 x\[n-1\] + b2 x\[n-2\] - a1 y\[n-1\] - a2 y\[n-2\]
//!
//! [`Filter::zero_phase`] extends both ends by point reflection, starts every section in the state of a constant input,
//! and runs forward and backward: the gain is squared (-6 dB at the corners) and the phase is 0. Equal to
//! `scipy.signal.sosfiltfilt(butter(..., output="sos"))`, see `testdata/golden/signal_golden.py`.

use std::f64::consts::PI;
use std::ops::{Add, Div, Mul, Neg, Sub};

use ndarray::{ArrayViewMut2, Axis};

use super::lane::{SideBySide, LANES};
use crate::error::{Fault, Result};
use crate::kernel::simd::{vectorise, Plain};

/// What is left of a start that a filter has forgotten.
const FORGOTTEN: f64 = 1e-13;

/// Which frequencies pass; corners in Hz.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Band {
    /// Below the corner.
    LowPass(f64),
    /// Above the corner.
    HighPass(f64),
    /// Between the corners.
    BandPass(f64, f64),
}

/// One section: b0, b1, b2, a1, a2 (a0 = 1).
type Section = [f64; 5];

/// A cascade of sections of order two.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    sections: Vec<Section>,
}

impl Filter {
    /// A Butterworth filter of `order` (a band-pass has twice as many poles).
    ///
    /// # Errors
    /// Where the order is 0 or above 20, or a corner does not lie between 0 and half the rate.
    pub fn butterworth(order: usize, band: Band, rate_hz: f64) -> Result<Filter> {
        let corners = match band {
            Band::LowPass(f) | Band::HighPass(f) => vec![f],
            Band::BandPass(low, high) => vec![low, high],
        };
        let inside = corners.iter().all(|&f| f > 0.0 && f < rate_hz / 2.0);
        if !inside || !corners.is_sorted_by(|a, b| a < b) || !(1..=20).contains(&order) {
            let fault = Fault::new("designing a Butterworth filter", "");
            let expected = format!("order 1 to 20, rising corners between 0 and {} Hz", rate_hz / 2.0);
            return Err(fault.expected(expected, format!("order {order}, {band:?}")).into());
        }
        let warp = |f: f64| 2.0 * (PI * f / rate_hz).tan();
        let angle = |k: usize| PI * (2 * k + order + 1) as f64 / (2 * order) as f64;
        let analogue = (0..order).map(|k| Complex { re: angle(k).cos(), im: angle(k).sin() });
        // Poles in s, the zeros in z of each pole, and the z where the gain is 1.
        let (poles, zeros, unity): (Vec<Complex>, [f64; 2], Complex) = match band {
            Band::LowPass(f) => (analogue.map(|p| p * real(warp(f))).collect(), [-1.0; 2], real(1.0)),
            Band::HighPass(f) => (analogue.map(|p| real(warp(f)) / p).collect(), [1.0; 2], real(-1.0)),
            Band::BandPass(low, high) => {
                let (width, square) = (warp(high) - warp(low), warp(low) * warp(high));
                let split = |p: Complex| {
                    let half = p * real(width / 2.0);
                    let root = (half * half - real(square)).sqrt();
                    [half + root, half - root]
                };
                (analogue.flat_map(split).collect(), [1.0, -1.0], bilinear(Complex { re: 0.0, im: square.sqrt() }))
            }
        };
        Ok(Filter::from_poles(poles.into_iter().map(bilinear).collect(), zeros, unity))
    }

    /// A notch of one frequency: bandwidth `hz / quality` at -3 dB, gain 1 far away.
    ///
    /// # Errors
    /// Where the frequency does not lie between 0 and half the rate, or the quality is not positive.
    pub fn notch(hz: f64, quality: f64, rate_hz: f64) -> Result<Filter> {
        if !(hz > 0.0 && hz < rate_hz / 2.0 && quality > 0.0) {
            let fault = Fault::new("designing a notch", "");
            let expected = format!("a frequency between 0 and {} Hz, a positive quality", rate_hz / 2.0);
            return Err(fault.expected(expected, format!("{hz} Hz, quality {quality}")).into());
        }
        let w = 2.0 * PI * hz / rate_hz;
        let gain = 1.0 / (1.0 + (w / quality / 2.0).tan());
        let side = -2.0 * gain * w.cos();
        Ok(Filter { sections: vec![[gain, side, gain, side, 2.0 * gain - 1.0]] })
    }

    /// Pairs poles into sections (conjugates together, real ones as they come) and sets the gain to 1 at `unity`.
    fn from_poles(poles: Vec<Complex>, [first, second]: [f64; 2], unity: Complex) -> Filter {
        let is_real = |p: &Complex| p.im.abs() < 1e-10;
        let mut sections: Vec<Section> = Vec::new();
        let reals: Vec<f64> = poles.iter().filter(|p| is_real(p)).map(|p| p.re).collect();
        for pair in reals.chunks(2) {
            sections.push(match *pair {
                [p, q] => [1.0, -(first + second), first * second, -(p + q), p * q],
                [p] => [1.0, -first, 0.0, -p, 0.0],
                _ => [1.0, 0.0, 0.0, 0.0, 0.0],
            });
        }
        for p in poles.iter().filter(|p| !is_real(p) && p.im > 0.0) {
            sections.push([1.0, -(first + second), first * second, -2.0 * p.re, p.re * p.re + p.im * p.im]);
        }
        let response = sections.iter().fold(real(1.0), |h, &[b0, b1, b2, a1, a2]| {
            let z = unity;
            h * (real(b0) * z * z + real(b1) * z + real(b2)) / (z * z + real(a1) * z + real(a2))
        });
        let gain = (real(1.0) / response).re;
        if let Some([b0, b1, b2, ..]) = sections.first_mut() {
            (*b0, *b1, *b2) = (*b0 * gain, *b1 * gain, *b2 * gain);
        }
        Filter { sections }
    }

    /// Runs forward from rest.
    pub fn forward(&self, x: &[f64]) -> Vec<f64> {
        let mut y = x.to_vec();
        cascade(&self.splat(), [0.0], singly(&mut y), false);
        y
    }

    /// Samples that scipy reflects at each end unless told otherwise.
    pub fn default_pad(&self) -> usize {
        let first_order = self.sections.iter().filter(|[_, _, b2, _, a2]| *b2 == 0.0 && *a2 == 0.0).count();
        3 * (2 * self.sections.len() + 1 - first_order)
    }

    /// Runs forward and backward, with `pad` samples (fewer where `x` is short) reflected through each end point.
    ///
    /// ```
    /// use ecgflow::signal::filter::{Band, Filter};
    /// let filter = Filter::butterworth(2, Band::LowPass(40.0), 500.0).unwrap();
    /// let still = filter.zero_phase(&[0.7; 100], 30);
    /// assert!(still.iter().all(|v| (v - 0.7).abs() < 1e-12));
    /// ```
    pub fn zero_phase(&self, x: &[f64], pad: usize) -> Vec<f64> {
        let (pad, mut y) = extended(x, pad);
        forward_and_backward(&self.splat(), singly(&mut y));
        y.into_iter().skip(pad).take(x.len()).collect()
    }

    /// [`zero_phase`](Filter::zero_phase) of several signals of one length by several filters, one after the other: the same
    /// numbers, twelve signals at a time, as a processor does many sums in the time of one. Each filter has its `pad`.
    pub fn zero_phase_rows(filters: &[(Filter, usize)], rows: &mut ArrayViewMut2<f64>) {
        let most = rows.ncols().saturating_sub(1);
        let margin = filters.iter().map(|(_, pad)| (*pad).min(most)).max().unwrap_or(0);
        for mut group in rows.axis_chunks_iter_mut(Axis(0), LANES) {
            let mut signals = SideBySide::gather(&group.view(), margin);
            for (filter, pad) in filters {
                forward_and_backward(&filter.splat(), signals.reflected((*pad).min(most)));
            }
            signals.scatter(&mut group);
        }
    }

    /// The same coefficients for N signals.
    fn splat<const N: usize>(&self) -> Vec<[[f64; N]; 5]> {
        self.sections.iter().map(|section| section.map(|b| [b; N])).collect()
    }

    /// Samples after which the filter has forgotten how it was started: the slowest pole r^n = 1e-13, half as many again for those
    /// beside it.
    pub fn memory(&self) -> usize {
        let radius = |[_, _, _, a1, a2]: &Section| {
            let square = a1 * a1 - 4.0 * a2;
            if square < 0.0 {
                a2.sqrt()
            } else {
                (a1.abs() + square.sqrt()) / 2.0
            }
        };
        let slowest = self.sections.iter().map(radius).fold(0.0, f64::max);
        if slowest >= 1.0 {
            return usize::MAX; // by rounding, at extreme corners: it never forgets
        }
        (1.5 * FORGOTTEN.ln() / slowest.ln()).max(0.0) as usize
    }

    /// Two filters of as many sections over one signal, each forward and backward as in
    /// [`zero_phase`](Filter::zero_phase): the same numbers, in the time of one.
    pub fn zero_phase_both(pair: [&Filter; 2], x: &[f64], pad: usize) -> [Vec<f64>; 2] {
        let [a, b] = pair;
        if a.sections.len() != b.sections.len() {
            return pair.map(|filter| filter.zero_phase(x, pad));
        }
        let both: Vec<[[f64; 2]; 5]> =
            a.sections.iter().zip(&b.sections).map(|(a, b)| std::array::from_fn(|k| [a[k], b[k]])).collect();
        let (pad, y) = extended(x, pad);
        let mut y: Vec<[f64; 2]> = y.into_iter().map(|v| [v, v]).collect();
        forward_and_backward(&both, &mut y);
        [0, 1].map(|k| y.iter().skip(pad).take(x.len()).map(|v| v[k]).collect())
    }
}

/// A signal with `pad` samples, fewer where it is short, reflected through each end point; how many there are.
fn extended(x: &[f64], pad: usize) -> (usize, Vec<f64>) {
    let (Some(&first), Some(&last)) = (x.first(), x.last()) else { return (0, Vec::new()) };
    let pad = pad.min(x.len() - 1);
    let before = x.iter().skip(1).take(pad).rev().map(|v| 2.0 * first - v);
    let after = x.iter().rev().skip(1).take(pad).map(|v| 2.0 * last - v);
    (pad, before.chain(x.iter().copied()).chain(after).collect())
}

/// The samples of one signal as those of a group of one.
fn singly(y: &mut [f64]) -> &mut [[f64; 1]] {
    y.as_chunks_mut().0
}

/// Runs a cascade for each of N signals from the first sample to the last and back, each time as if its input had been
/// the first sample it sees for ever.
fn forward_and_backward<const N: usize>(sections: &[[[f64; N]; 5]], samples: &mut [[f64; N]]) {
    cascade(sections, samples.first().copied().unwrap_or([0.0; N]), samples, false);
    cascade(sections, samples.last().copied().unwrap_or([0.0; N]), samples, true);
}

/// Runs a cascade for each of N signals, in the state that a constant input leaves behind.
fn cascade<const N: usize>(
    sections: &[[[f64; N]; 5]],
    mut constant: [f64; N],
    samples: &mut [[f64; N]],
    backward: bool,
) {
    let stages: Vec<Stage<N>> = sections.iter().map(|section| Stage::settled(section, &mut constant)).collect();
    // While one section waits for its last sum, a processor works on another; one of many signals is work enough.
    let together = if N > 2 { 1 } else { 2 };
    for stages in stages.chunks(together) {
        vectorise(Sweep { stages, samples, backward });
    }
}

/// One section over N signals at once, each by coefficients of its own, and its memory of each.
#[derive(Clone, Copy)]
struct Stage<const N: usize> {
    section: [[f64; N]; 5],
    s1: [f64; N],
    s2: [f64; N],
}

impl<const N: usize> Stage<N> {
    /// As if the input had been constant for ever; the constant becomes what then comes out.
    fn settled(section: &[[f64; N]; 5], constant: &mut [f64; N]) -> Stage<N> {
        let [b0, b1, b2, a1, a2] = section;
        let mut stage = Stage { section: *section, s1: [0.0; N], s2: [0.0; N] };
        for k in 0..N {
            let settled = (b0[k] + b1[k] + b2[k]) / (1.0 + a1[k] + a2[k]);
            stage.s2[k] = constant[k] * (b2[k] - a2[k] * settled);
            stage.s1[k] = constant[k] * (b1[k] - a1[k] * settled) + stage.s2[k];
            constant[k] *= settled;
        }
        stage
    }

    /// One sample of every signal.
    #[inline(always)]
    fn step(&mut self, v: &mut [f64; N]) {
        let Stage { section: [b0, b1, b2, a1, a2], s1, s2 } = self;
        for k in 0..N {
            let out = b0[k] * v[k] + s1[k];
            s1[k] = b1[k] * v[k] + s2[k] - a1[k] * out;
            s2[k] = b2[k] * v[k] - a2[k] * out;
            v[k] = out;
        }
    }
}

/// One section, or two one after the other.
struct Sweep<'a, const N: usize> {
    stages: &'a [Stage<N>],
    samples: &'a mut [[f64; N]],
    backward: bool,
}

impl<const N: usize> Plain for Sweep<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Sweep { stages, samples, backward } = self;
        // Loops, no closures: a closure that is called in several places is a function of its own, without the vectors.
        match (stages, backward) {
            (&[mut one], false) => {
                for v in samples {
                    one.step(v);
                }
            }
            (&[mut one], true) => {
                for v in samples.iter_mut().rev() {
                    one.step(v);
                }
            }
            (&[mut one, mut two], false) => {
                for v in samples {
                    one.step(v);
                    two.step(v);
                }
            }
            (&[mut one, mut two], true) => {
                for v in samples.iter_mut().rev() {
                    one.step(v);
                    two.step(v);
                }
            }
            _ => {}
        }
    }
}

fn bilinear(s: Complex) -> Complex {
    (real(2.0) + s) / (real(2.0) - s)
}

#[derive(Debug, Clone, Copy)]
struct Complex {
    re: f64,
    im: f64,
}

fn real(re: f64) -> Complex {
    Complex { re, im: 0.0 }
}

impl Complex {
    fn sqrt(self) -> Complex {
        let size = self.re.hypot(self.im);
        let im = ((size - self.re) / 2.0).max(0.0).sqrt();
        Complex { re: ((size + self.re) / 2.0).max(0.0).sqrt(), im: if self.im < 0.0 { -im } else { im } }
    }
}

impl Add for Complex {
    type Output = Complex;
    fn add(self, o: Complex) -> Complex {
        Complex { re: self.re + o.re, im: self.im + o.im }
    }
}

impl Neg for Complex {
    type Output = Complex;
    fn neg(self) -> Complex {
        Complex { re: -self.re, im: -self.im }
    }
}

impl Sub for Complex {
    type Output = Complex;
    fn sub(self, o: Complex) -> Complex {
        self + -o
    }
}

impl Mul for Complex {
    type Output = Complex;
    fn mul(self, o: Complex) -> Complex {
        Complex { re: self.re * o.re - self.im * o.im, im: self.re * o.im + self.im * o.re }
    }
}

impl Div for Complex {
    type Output = Complex;
    fn div(self, o: Complex) -> Complex {
        let square = o.re * o.re + o.im * o.im;
        let up = self * Complex { re: o.re, im: -o.im };
        Complex { re: up.re / square, im: up.im / square }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_turned_array_are_filtered_too() {
        let filter = || Filter::butterworth(2, Band::LowPass(40.0), 500.0).unwrap();
        let x = ndarray::Array2::from_shape_fn((12, 300), |(k, n)| ((k + 1) * n * 7919 % 100) as f64);
        let mut turned = ndarray::Array2::zeros((300, 12)).reversed_axes();
        turned.assign(&x);
        let mut straight = x.clone();
        Filter::zero_phase_rows(&[(filter(), 50)], &mut straight.view_mut());
        Filter::zero_phase_rows(&[(filter(), 50)], &mut turned.view_mut());
        assert!(turned == straight && turned != x);
    }

    #[test]
    fn refuses_corners_outside_the_band() {
        for band in [Band::LowPass(250.0), Band::HighPass(0.0), Band::BandPass(40.0, 5.0), Band::LowPass(f64::NAN)] {
            assert!(Filter::butterworth(2, band, 500.0).is_err(), "{band:?}");
        }
        assert!(Filter::butterworth(0, Band::LowPass(40.0), 500.0).is_err());
        assert!(Filter::notch(250.0, 30.0, 500.0).is_err());
    }

    #[test]
    fn several_signals_at_once_give_the_numbers_of_one() {
        let wave = |(row, n): (usize, usize)| ((n * (row + 3)) as f64 * 0.01).sin() + (n * 7919 % 100) as f64 * 1e-3;
        for (rows, n, pad) in [(12, 700, 300), (5, 40, 300), (1, 1, 10), (3, 0, 10)] {
            let mut x = ndarray::Array2::from_shape_fn((rows, n), wave);
            let filter = Filter::butterworth(5, Band::BandPass(0.67, 40.0), 250.0).unwrap();
            let one: Vec<f64> = x.rows().into_iter().flat_map(|row| filter.zero_phase(&row.to_vec(), pad)).collect();
            Filter::zero_phase_rows(&[(filter, pad)], &mut x.view_mut());
            assert_eq!(x.into_iter().collect::<Vec<_>>(), one);
        }
    }

    #[test]
    fn filters_one_after_the_other_give_the_numbers_of_each_in_turn() {
        let x: Vec<f64> = (0..900).map(|n| (n as f64 * 0.03).sin() + (n * 7919 % 100) as f64 * 1e-3).collect();
        let design = |order, band| Filter::butterworth(order, band, 500.0).unwrap();
        let (high, low) = (design(2, Band::HighPass(0.67)), design(4, Band::LowPass(40.0)));
        let mut rows = ndarray::Array2::from_shape_vec((1, 900), x.clone()).unwrap();
        Filter::zero_phase_rows(&[(high.clone(), 300), (low.clone(), 50)], &mut rows.view_mut());
        assert_eq!(rows.into_iter().collect::<Vec<_>>(), low.zero_phase(&high.zero_phase(&x, 300), 50));
        let both = Filter::zero_phase_both([&design(2, Band::BandPass(5.0, 18.0)), &low], &x, 100);
        assert_eq!(both, [design(2, Band::BandPass(5.0, 18.0)).zero_phase(&x, 100), low.zero_phase(&x, 100)]);
    }

    #[test]
    fn a_filter_forgets_its_start() {
        let filter = Filter::butterworth(4, Band::LowPass(40.0), 500.0).unwrap();
        assert!((200..300).contains(&filter.memory()), "{}", filter.memory());
        let mut impulse = vec![0.0; 1000];
        impulse[0] = 1.0;
        let answer = filter.forward(&impulse);
        assert!(answer.iter().skip(filter.memory()).all(|v| v.abs() < 1e-13));
        assert!(Filter::butterworth(2, Band::HighPass(0.67), 500.0).unwrap().memory() > 1500);
    }

    #[test]
    fn short_and_empty_signals_pass() {
        let filter = Filter::butterworth(4, Band::HighPass(0.67), 500.0).unwrap();
        assert!(filter.zero_phase(&[], 1500).is_empty());
        assert_eq!(filter.zero_phase(&[1.0], 1500).len(), 1);
        assert_eq!(filter.default_pad(), 15);
    }
}
