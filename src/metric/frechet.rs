//! Frechet distance of two sets of feature vectors, each taken for normal (Dowson and Landau 1982; Heusel et al. 2017):
//!
//! ```text
//! d = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))
//! ```
//!
//! with the means m and the covariances S (n - 1). Write S1 = A^T A and S2 = B^T B; then S1 S2 has the non-zero
//! eigenvalues of M M^T with M = A B^T, so that tr (S1 S2)^(1/2) is the sum of their square roots: no square root of a
//! matrix is taken, and few samples of wide features cost little. A holds the centred samples over sqrt(n - 1), or,
//! where there are more samples than features, the pivoted Cholesky factor of S.

use rayon::prelude::*;

use super::eigen::eigenvalues;

/// Mean and factor of the covariance of one set of vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    mean: Vec<f64>,
    /// Rows of A, S = A^T A.
    factor: Vec<Vec<f64>>,
}

impl Spread {
    /// Of vectors of `width` numbers that stand one after another; none where there are fewer than two.
    pub fn new(vectors: &[f32], width: usize) -> Option<Spread> {
        let n = vectors.len().checked_div(width)?;
        if n < 2 {
            return None;
        }
        let mut mean = vec![0.0; width];
        for row in vectors.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        mean.iter_mut().for_each(|sum| *sum /= n as f64);
        let scale = (n as f64 - 1.0).sqrt().recip();
        let centred = |row: &[f32]| row.iter().zip(&mean).map(|(v, m)| (f64::from(*v) - m) * scale).collect();
        let rows: Vec<Vec<f64>> = vectors.chunks_exact(width).map(centred).collect();
        let factor = if n > width { cholesky(covariance(&rows, width)) } else { rows };
        Some(Spread { mean, factor })
    }

    fn trace(&self) -> f64 {
        self.factor.iter().map(|row| dot(row, row)).sum()
    }
}

/// A^T A, row by row.
fn covariance(rows: &[Vec<f64>], width: usize) -> Vec<Vec<f64>> {
    let columns: Vec<Vec<f64>> =
        (0..width).into_par_iter().map(|j| rows.iter().filter_map(|row| row.get(j).copied()).collect()).collect();
    columns.par_iter().map(|a| columns.iter().map(|b| dot(a, b)).collect()).collect()
}

/// Rows of L^T with S = L L^T; ends where what is left is rounding.
fn cholesky(s: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = s.len();
    let mut left: Vec<f64> = s.iter().enumerate().map(|(i, row)| row[i]).collect();
    let largest = left.iter().copied().fold(0.0, f64::max);
    let mut factor: Vec<Vec<f64>> = Vec::new();
    while factor.len() < n {
        let Some(pivot) = (0..n).max_by(|a, b| left[*a].total_cmp(&left[*b])) else { break };
        if left[pivot] <= largest * n as f64 * f64::EPSILON {
            break;
        }
        let root = left[pivot].sqrt();
        let mut row = s[pivot].clone();
        for earlier in &factor {
            let share = earlier[pivot];
            row.iter_mut().zip(earlier).for_each(|(r, e)| *r -= share * e);
        }
        row.iter_mut().for_each(|r| *r /= root);
        left.iter_mut().zip(&row).for_each(|(left, r)| *left -= r * r);
        left[pivot] = 0.0;
        factor.push(row);
    }
    factor
}

/// The distance; NaN where the widths differ or a number is not finite.
///
/// ```
/// use ecgflow::metric::frechet::{distance, Spread};
/// // Means 1 and 3, variances 2 and 8: (3 - 1)^2 + (sqrt 8 - sqrt 2)^2 = 6.
/// let (a, b) = (Spread::new(&[0.0, 2.0], 1).unwrap(), Spread::new(&[1.0, 5.0], 1).unwrap());
/// assert!((distance(&a, &b) - 6.0).abs() < 1e-12);
/// assert!(distance(&a, &a).abs() < 1e-12);
/// ```
pub fn distance(a: &Spread, b: &Spread) -> f64 {
    if a.mean.len() != b.mean.len() {
        return f64::NAN;
    }
    let (few, many) = if a.factor.len() <= b.factor.len() { (a, b) } else { (b, a) };
    let product: Vec<Vec<f64>> =
        few.factor.par_iter().map(|row| many.factor.iter().map(|other| dot(row, other)).collect()).collect();
    let n = product.len();
    let gram: Vec<f64> = product.par_iter().flat_map_iter(|row| product.iter().map(|other| dot(row, other))).collect();
    let Some(values) = eigenvalues(gram, n) else { return f64::NAN };
    let least = values.last().copied().unwrap_or(0.0) * n as f64 * f64::EPSILON;
    let root: f64 = values.iter().filter(|value| **value > least).map(|value| value.sqrt()).sum();
    let apart: f64 = a.mean.iter().zip(&b.mean).map(|(a, b)| (a - b).powi(2)).sum();
    apart + a.trace() + b.trace() - 2.0 * root
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (whole, rest) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f64 = whole.remainder().iter().zip(rest.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in whole.zip(rest) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn vectors(n: usize, width: usize, scale: f64, seed: u64) -> Vec<f32> {
        let mut random = Stream::new("frechet test", seed, "", 0);
        (0..n * width).map(|i| ((1.0 + (i % width) as f64) * scale * random.normal()) as f32).collect()
    }

    #[test]
    fn the_factor_of_many_samples_gives_the_distance_of_the_samples_themselves() {
        let (a, b) = (vectors(40, 6, 1.0, 0), vectors(30, 6, 1.5, 1));
        let whole = |v: &[f32]| {
            let spread = Spread::new(v, 6).unwrap();
            assert_eq!(spread.factor.len(), 6);
            spread
        };
        let rows = |v: &[f32]| {
            let n = v.len() / 6;
            let scale = (n as f64 - 1.0).sqrt().recip();
            let mean = whole(v).mean;
            let centred = |row: &[f32]| row.iter().zip(&mean).map(|(v, m)| (f64::from(*v) - m) * scale).collect();
            Spread { factor: v.chunks_exact(6).map(centred).collect(), mean: mean.clone() }
        };
        let (one, other) = (distance(&whole(&a), &whole(&b)), distance(&rows(&a), &rows(&b)));
        assert!((one - other).abs() < 1e-9 * one, "{one} {other}");
    }

    #[test]
    fn features_that_never_vary_and_single_vectors_end() {
        let flat = Spread::new(&[1.0; 30], 3).unwrap();
        assert_eq!(distance(&flat, &flat), 0.0);
        assert!(Spread::new(&[1.0; 3], 3).is_none() && Spread::new(&[], 0).is_none());
        let wild = Spread::new(&[f32::INFINITY, 0.0, 1.0, 2.0], 2).unwrap();
        assert!(distance(&wild, &wild).is_nan());
    }
}
