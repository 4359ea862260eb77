//! Figures of one lead, made of eight sums or extremes side by side, as a processor does many in the time of one.

use std::borrow::Cow;

use ndarray::ArrayView1;

use crate::kernel::simd::{vectorise, Plain};

/// Sums side by side.
const SIDE: usize = 8;

/// The values of a row, copied only where they do not lie one after the other.
pub fn values(row: ArrayView1<'_, f64>) -> Cow<'_, [f64]> {
    row.to_slice().map_or_else(|| Cow::Owned(row.to_vec()), Cow::Borrowed)
}

/// Values, and what is made of each before they are added.
struct Sum<'a, F>(&'a [f64], F);

impl<F: Fn(f64) -> f64> Plain for Sum<'_, F> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let Sum(x, of) = self;
        let mut sums = [0.0; SIDE];
        let pieces = x.chunks_exact(SIDE);
        let rest = pieces.remainder();
        for piece in pieces {
            for (sum, v) in sums.iter_mut().zip(piece) {
                *sum += of(*v);
            }
        }
        for (sum, v) in sums.iter_mut().zip(rest) {
            *sum += of(*v);
        }
        sums.into_iter().fold(0.0, |a, b| a + b)
    }
}

/// Sum of what `of` makes of the values.
fn sum(x: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    vectorise(Sum(x, of))
}

/// Lowest and highest value; [`f64::MAX`] and [`f64::MIN`] of nothing.
///
/// ```
/// assert_eq!(ecgflow::signal::statistic::extremes(&[2.0, -1.0, 3.0]), (-1.0, 3.0));
/// ```
pub fn extremes(x: &[f64]) -> (f64, f64) {
    vectorise(Extremes(x))
}

struct Extremes<'a>(&'a [f64]);

impl Plain for Extremes<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run(self) -> (f64, f64) {
        let lower = |low: f64, v: f64| if v < low { v } else { low };
        let higher = |high: f64, v: f64| if v > high { v } else { high };
        let (mut lowest, mut highest) = ([f64::MAX; SIDE], [f64::MIN; SIDE]);
        let pieces = self.0.chunks_exact(SIDE);
        let rest = pieces.remainder();
        for piece in pieces {
            for ((low, high), v) in lowest.iter_mut().zip(&mut highest).zip(piece) {
                (*low, *high) = (lower(*low, *v), higher(*high, *v));
            }
        }
        for ((low, high), v) in lowest.iter_mut().zip(&mut highest).zip(rest) {
            (*low, *high) = (lower(*low, *v), higher(*high, *v));
        }
        (lowest.into_iter().fold(f64::MAX, lower), highest.into_iter().fold(f64::MIN, higher))
    }
}

/// Standard deviation (of n).
///
/// ```
/// assert_eq!(ecgflow::signal::statistic::deviation(&[2.0, 4.0]), 1.0);
/// ```
pub fn deviation(x: &[f64]) -> f64 {
    let n = x.len().max(1) as f64;
    let mean = sum(x, |v| v) / n;
    (sum(x, |v| (v - mean) * (v - mean)) / n).sqrt()
}

/// How many are equal to `value`.
///
/// ```
/// assert_eq!(ecgflow::signal::statistic::count(&[2.0, 4.0, 2.0], 2.0), 2);
/// ```
pub fn count(x: &[f64], value: f64) -> usize {
    sum(x, |v| if v == value { 1.0 } else { 0.0 }) as usize
}

/// Whether all are finite.
///
/// ```
/// assert!(!ecgflow::signal::statistic::are_finite(&[0.0, f64::NAN]));
/// ```
pub fn are_finite(x: &[f64]) -> bool {
    sum(x, |v| if v.is_finite() { 0.0 } else { 1.0 }) == 0.0
}

/// Sums of the first 0, 1, 2, ... values.
pub fn running_sums(values: impl ExactSizeIterator<Item = f64>) -> Vec<f64> {
    let mut sums = Vec::with_capacity(values.len() + 1);
    let mut sum = 0.0;
    sums.push(sum);
    sums.extend(values.map(|v| {
        sum += v;
        sum
    }));
    sums
}

/// Sum over `reach` samples before and after each sample, fewer at the ends, divided by what `divisor` says of their
/// number; `sums` are the [`running_sums`] of the samples.
///
/// ```
/// use ecgflow::signal::statistic::{moving_means, running_sums};
/// let sums = running_sums([1.0, 2.0, 6.0, 4.0].into_iter());
/// assert_eq!(moving_means(&sums, 1, |n| n as f64), [1.5, 3.0, 4.0, 5.0]);
/// ```
pub fn moving_means(sums: &[f64], reach: usize, divisor: impl Fn(usize) -> f64) -> Vec<f64> {
    let samples = sums.len().saturating_sub(1);
    let upto = |n: usize| sums.get(n).copied().unwrap_or(0.0);
    let at_end = |n: usize| {
        let (from, to) = (n.saturating_sub(reach), n.saturating_add(reach + 1).min(samples));
        (upto(to) - upto(from)) / divisor(to - from)
    };
    let head = reach.min(samples);
    let mut means = Vec::with_capacity(samples);
    means.extend((0..head).map(at_end));
    let whole = 2 * reach + 1;
    vectorise(Across { sums, whole, divisor: divisor(whole), means: &mut means });
    means.extend((means.len()..samples).map(at_end));
    means
}

/// Differences of sums that lie `whole` samples apart, divided by a number.
struct Across<'a> {
    sums: &'a [f64],
    whole: usize,
    divisor: f64,
    means: &'a mut Vec<f64>,
}

impl Plain for Across<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let later = self.sums.get(self.whole..).unwrap_or_default();
        self.means.extend(self.sums.iter().zip(later).map(|(before, upto)| (upto - before) / self.divisor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_any_length_are_those_of_the_definition() {
        for n in [0, 1, 7, 8, 9, 100] {
            let x: Vec<f64> = (0..n).map(|k| f64::from(k * 7919 % 13) - 4.0).collect();
            let low = x.iter().copied().fold(f64::MAX, f64::min);
            let high = x.iter().copied().fold(f64::MIN, f64::max);
            assert_eq!(extremes(&x), (low, high), "{n}");
            assert_eq!(count(&x, -4.0), x.iter().filter(|v| **v == -4.0).count(), "{n}");
            assert!(are_finite(&x));
            for k in 0..x.len() {
                let mut gap = x.clone();
                gap[k] = f64::INFINITY;
                assert!(!are_finite(&gap), "{n}");
            }
        }
        assert!((deviation(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]) - (60f64 / 9.0).sqrt()).abs() < 1e-12);
        assert_eq!(deviation(&[]), 0.0);
    }

    #[test]
    fn moving_means_are_those_of_the_definition() {
        for n in [0usize, 1, 2, 5, 40] {
            let x: Vec<f64> = (0..n).map(|k| (k * 7919 % 13) as f64).collect();
            let sums = running_sums(x.iter().copied());
            for reach in [0, 1, 3, 20, 50] {
                let mean = |k: usize| {
                    let piece = &x[k.saturating_sub(reach)..(k + reach + 1).min(n)];
                    piece.iter().sum::<f64>() / piece.len() as f64
                };
                let expected: Vec<f64> = (0..n).map(mean).collect();
                assert_eq!(moving_means(&sums, reach, |n| n as f64), expected, "{n} {reach}");
            }
        }
    }
}
