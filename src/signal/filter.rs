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

use crate::error::{Fault, Result};

/// Signals filtered at once: the leads of an ECG.
const LANES: usize = 12;
/// Samples of all signals that are brought together at a time; they stay in the nearest cache.
const BLOCK: usize = 64;

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
        self.run(&mut y, 0.0);
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
        let (Some(&first), Some(&last)) = (x.first(), x.last()) else { return Vec::new() };
        let pad = pad.min(x.len() - 1);
        let before = x.iter().skip(1).take(pad).rev().map(|v| 2.0 * first - v);
        let after = x.iter().rev().skip(1).take(pad).map(|v| 2.0 * last - v);
        let mut y: Vec<f64> = before.chain(x.iter().copied()).chain(after).collect();
        for _ in 0..2 {
            let start = y.first().copied().unwrap_or(0.0);
            self.run(&mut y, start);
            y.reverse();
        }
        y.into_iter().skip(pad).take(x.len()).collect()
    }

    /// [`zero_phase`](Filter::zero_phase) of several signals of one length: the same numbers, twelve signals at a time, as a
    /// processor does many sums in the time of one.
    pub fn zero_phase_rows(&self, rows: &mut ArrayViewMut2<f64>, pad: usize) {
        let n = rows.ncols();
        if n == 0 {
            return;
        }
        let pad = pad.min(n - 1);
        let mut lanes = vec![[0.0; LANES]; n + 2 * pad];
        for mut group in rows.axis_chunks_iter_mut(Axis(0), LANES) {
            gather(&group, &mut lanes, pad);
            let start = lanes.first().copied().unwrap_or_default();
            self.run_lanes(&mut lanes, start, false);
            let start = lanes.last().copied().unwrap_or_default();
            self.run_lanes(&mut lanes, start, true);
            let filtered = lanes.get(pad..pad + n).unwrap_or_default();
            for (block, values) in filtered.chunks(BLOCK).enumerate() {
                for (lane, mut row) in group.rows_mut().into_iter().enumerate() {
                    let places = row.iter_mut().skip(block * BLOCK);
                    places.zip(values).for_each(|(place, v)| *place = v[lane]);
                }
            }
        }
    }

    /// As `run`, of several signals at once, from the first sample to the last or backward.
    fn run_lanes(&self, y: &mut [Lanes], mut constant: Lanes, backward: bool) {
        for &[b0, b1, b2, a1, a2] in &self.sections {
            let settled = (b0 + b1 + b2) / (1.0 + a1 + a2);
            let mut s2 = constant.map(|c| c * (b2 - a2 * settled));
            let mut s1: Lanes = std::array::from_fn(|k| constant[k] * (b1 - a1 * settled) + s2[k]);
            constant = constant.map(|c| c * settled);
            let mut step = |v: &mut Lanes| {
                let out: Lanes = std::array::from_fn(|k| b0 * v[k] + s1[k]);
                s1 = std::array::from_fn(|k| b1 * v[k] - a1 * out[k] + s2[k]);
                s2 = std::array::from_fn(|k| b2 * v[k] - a2 * out[k]);
                *v = out;
            };
            if backward {
                y.iter_mut().rev().for_each(&mut step);
            } else {
                y.iter_mut().for_each(&mut step);
            }
        }
    }

    /// Filters in place; every section starts as if its input had been constant for ever.
    fn run(&self, y: &mut [f64], mut constant: f64) {
        for &[b0, b1, b2, a1, a2] in &self.sections {
            let settled = (b0 + b1 + b2) / (1.0 + a1 + a2);
            let mut s2 = constant * (b2 - a2 * settled);
            let mut s1 = constant * (b1 - a1 * settled) + s2;
            constant *= settled;
            for v in y.iter_mut() {
                let out = b0 * *v + s1;
                s1 = b1 * *v - a1 * out + s2;
                s2 = b2 * *v - a2 * out;
                *v = out;
            }
        }
    }
}

/// One sample of every signal.
type Lanes = [f64; LANES];

/// Brings rows together, sample by sample, with `pad` samples reflected through each end point.
fn gather(rows: &ArrayViewMut2<f64>, lanes: &mut [Lanes], pad: usize) {
    let n = rows.ncols();
    for (block, places) in lanes.get_mut(pad..pad + n).unwrap_or_default().chunks_mut(BLOCK).enumerate() {
        for (lane, row) in rows.rows().into_iter().enumerate() {
            let values = row.iter().skip(block * BLOCK);
            places.iter_mut().zip(values).for_each(|(place, v)| place[lane] = *v);
        }
    }
    for (lane, row) in rows.rows().into_iter().enumerate() {
        let at = |i: usize| row.get(i).copied().unwrap_or(0.0);
        let (first, last) = (at(0), at(n - 1));
        let before = lanes.iter_mut().take(pad).rev().zip(row.iter().skip(1));
        before.for_each(|(place, v)| place[lane] = 2.0 * first - v);
        let after = lanes.iter_mut().skip(pad + n).zip(row.iter().rev().skip(1));
        after.for_each(|(place, v)| place[lane] = 2.0 * last - v);
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
            filter.zero_phase_rows(&mut x.view_mut(), pad);
            assert_eq!(x.into_iter().collect::<Vec<_>>(), one);
        }
    }

    #[test]
    fn short_and_empty_signals_pass() {
        let filter = Filter::butterworth(4, Band::HighPass(0.67), 500.0).unwrap();
        assert!(filter.zero_phase(&[], 1500).is_empty());
        assert_eq!(filter.zero_phase(&[1.0], 1500).len(), 1);
        assert_eq!(filter.default_pad(), 15);
    }
}
