//! What PA-MAE does to signals of several channels: convolution, batch normalisation, pooling, doubling; each with its
//! gradient. A signal is C channels of N samples, one channel after the other; a batch is one record after the other.
//!
//! Records are computed side by side, and sums over records are made in their order, so a result does not depend on the
//! number of threads.

use rayon::prelude::*;

use super::gemm::{self, Packed, Precision};
use super::Isa;

/// A convolution over time: kernel (O, C, k), stride s, p zeros on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Channels in.
    pub channels: usize,
    /// Channels out.
    pub out: usize,
    /// Taps k.
    pub taps: usize,
    /// Stride.
    pub stride: usize,
    /// Zeros on both sides.
    pub padding: usize,
}

impl Conv {
    /// Samples out of `n` in: (n + 2 p - k) / s + 1.
    pub fn length(&self, n: usize) -> usize {
        (n + 2 * self.padding).checked_sub(self.taps).map_or(0, |room| room / self.stride + 1)
    }

    /// The taps' inputs of each sample out, one row a sample: (N', C k).
    fn columns(&self, x: &[f32], n: usize) -> Vec<f32> {
        let (rows, width) = (self.length(n), self.channels * self.taps);
        let mut columns = vec![0f32; rows * width];
        for (c, x) in x.chunks_exact(n).enumerate() {
            for k in 0..self.taps {
                let (from, to) = self.inside(k, n, rows);
                for row in from..to {
                    columns[row * width + c * self.taps + k] = x[row * self.stride + k - self.padding];
                }
            }
        }
        columns
    }

    /// Rows whose tap `k` lies inside the signal.
    fn inside(&self, k: usize, n: usize, rows: usize) -> (usize, usize) {
        let from = self.padding.saturating_sub(k).div_ceil(self.stride);
        let to = (n + self.padding).saturating_sub(k).div_ceil(self.stride).min(rows);
        (from.min(to), to)
    }

    /// The transpose of [`Conv::columns`]: adds each row back to where it came from.
    fn gather(&self, columns: &[f32], n: usize) -> Vec<f32> {
        let (rows, width) = (self.length(n), self.channels * self.taps);
        let mut x = vec![0f32; self.channels * n];
        for (c, x) in x.chunks_exact_mut(n).enumerate() {
            for k in 0..self.taps {
                let (from, to) = self.inside(k, n, rows);
                for row in from..to {
                    x[row * self.stride + k - self.padding] += columns[row * width + c * self.taps + k];
                }
            }
        }
        x
    }

    /// y (B, O, N') of x (B, C, n), weight (O, C, k) and bias (O), which may be empty.
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn forward(&self, isa: Isa, x: &[f32], n: usize, weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let (rows, width) = (self.length(n), self.channels * self.taps);
        let packed = Packed::from_weight(isa, Precision::F32, weight, (width, self.out));
        let mut y = vec![0f32; x.len() / (self.channels * n) * self.out * rows];
        let records = y.par_chunks_exact_mut(self.out * rows).zip(x.par_chunks_exact(self.channels * n));
        records.for_each(|(y, x)| {
            let mut by_row = vec![0f32; rows * self.out];
            gemm::linear(&self.columns(x, n), &packed, bias, &mut by_row, false);
            transpose(&by_row, y, self.out);
        });
        y
    }

    /// Gradients of x, weight and bias from that of y.
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn backward(&self, isa: Isa, x: &[f32], n: usize, weight: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let (rows, width) = (self.length(n), self.channels * self.taps);
        let packed = Packed::new(isa, Precision::F32, (self.out, width), |o, i| weight[o * width + i]);
        let records = dy.par_chunks_exact(self.out * rows).zip(x.par_chunks_exact(self.channels * n));
        let each: Vec<[Vec<f32>; 3]> = records
            .map(|(dy, x)| {
                let mut by_row = vec![0f32; rows * self.out];
                transpose(dy, &mut by_row, rows);
                let mut columns = vec![0f32; rows * width];
                gemm::linear(&by_row, &packed, &[], &mut columns, false);
                let dx = self.gather(&columns, n);
                let dw = gemm::outer(isa, &by_row, &self.columns(x, n), self.out, width);
                [dx, dw, gemm::column_sums(&by_row, self.out)]
            })
            .collect();
        let mut sums = [Vec::with_capacity(x.len()), vec![0f32; weight.len()], vec![0f32; self.out]];
        for [dx, dw, db] in each {
            sums[0].extend(dx);
            sums[1].iter_mut().zip(dw).for_each(|(sum, value)| *sum += value);
            sums[2].iter_mut().zip(db).for_each(|(sum, value)| *sum += value);
        }
        sums
    }
}

/// `to` (columns, rows) becomes the transpose of `from` (rows, columns).
fn transpose(from: &[f32], to: &mut [f32], columns: usize) {
    /// Side of the blocks that stay near the processor.
    const SIDE: usize = 32;
    let rows = from.len() / columns;
    for top in (0..rows).step_by(SIDE) {
        for left in (0..columns).step_by(SIDE) {
            for column in left..(left + SIDE).min(columns) {
                for row in top..(top + SIDE).min(rows) {
                    to[column * rows + row] = from[row * columns + column];
                }
            }
        }
    }
}

/// Mean and variance (of the population) of each channel of x (B, C, n) over records and samples.
pub fn moments(x: &[f32], channels: usize, n: usize) -> (Vec<f32>, Vec<f32>) {
    let count = (x.len() / channels) as f64;
    let all: Vec<(f32, f32)> = (0..channels)
        .into_par_iter()
        .map(|c| {
            let sum = |f: &dyn Fn(f32) -> f64| -> f64 {
                x.chunks_exact(n).skip(c).step_by(channels).map(|x| x.iter().map(|v| f(*v)).sum::<f64>()).sum()
            };
            let mean = sum(&f64::from) / count;
            let variance = sum(&|v| (f64::from(v) - mean).powi(2)) / count;
            (mean as f32, variance as f32)
        })
        .collect();
    all.into_iter().unzip()
}

/// y = x scale + shift, channel by channel: x (B, C, n), scale and shift (C).
///
/// # Panics
/// Where the sizes do not agree.
pub fn affine(x: &[f32], n: usize, scale: &[f32], shift: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; x.len()];
    y.par_chunks_exact_mut(n).zip(x.par_chunks_exact(n)).enumerate().for_each(|(i, (y, x))| {
        let (scale, shift) = (scale[i % scale.len()], shift[i % shift.len()]);
        y.iter_mut().zip(x).for_each(|(y, x)| *y = x * scale + shift);
    });
    y
}

/// For each channel the sums of dy and of dy x.
pub fn sums(x: &[f32], dy: &[f32], channels: usize, n: usize) -> (Vec<f32>, Vec<f32>) {
    let all: Vec<(f32, f32)> = (0..channels)
        .into_par_iter()
        .map(|c| {
            let pairs = x.chunks_exact(n).zip(dy.chunks_exact(n)).skip(c).step_by(channels);
            let (mut plain, mut product) = (0f64, 0f64);
            for (x, dy) in pairs {
                for (x, dy) in x.iter().zip(dy) {
                    plain += f64::from(*dy);
                    product += f64::from(*dy) * f64::from(*x);
                }
            }
            (plain as f32, product as f32)
        })
        .collect();
    all.into_iter().unzip()
}

/// Gradients of batch normalisation y = (x - mean) / sqrt(variance + eps) weight + bias, mean and variance those of x:
/// of x, weight and bias from that of y.
///
/// # Panics
/// Where the sizes do not agree.
pub fn norm_gradient(x: &[f32], n: usize, weight: &[f32], eps: f64, dy: &[f32]) -> [Vec<f32>; 3] {
    let channels = weight.len();
    let (mean, variance) = moments(x, channels, n);
    let count = (x.len() / channels) as f32;
    let (plain, product) = sums(x, dy, channels, n);
    let inverse: Vec<f32> = variance.iter().map(|v| (1.0 / (f64::from(*v) + eps).sqrt()) as f32).collect();
    // sum of dy * normalised x
    let along: Vec<f32> = (0..channels).map(|c| (product[c] - mean[c] * plain[c]) * inverse[c]).collect();
    let mut dx = vec![0f32; x.len()];
    let rows = dx.par_chunks_exact_mut(n).zip(x.par_chunks_exact(n)).zip(dy.par_chunks_exact(n)).enumerate();
    rows.for_each(|(i, ((dx, x), dy))| {
        let c = i % channels;
        let (gain, level, slope) = (weight[c] * inverse[c], plain[c] / count, along[c] / count * inverse[c]);
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = gain * (dy - level - (x - mean[c]) * slope);
        }
    });
    [dx, along, plain]
}

/// Largest of each sample at an even place and its two neighbours: rows of `n` -> rows of n / 2 rounded up.
pub fn pool(x: &[f32], n: usize) -> Vec<f32> {
    let half = n.div_ceil(2);
    let mut y = vec![0f32; x.len() / n * half];
    y.par_chunks_exact_mut(half).zip(x.par_chunks_exact(n)).for_each(|(y, x)| {
        for (i, y) in y.iter_mut().enumerate() {
            *y = x[winner(x, i)];
        }
    });
    y
}

/// The place of the largest of samples 2 i - 1, 2 i and 2 i + 1; the first of equals.
fn winner(x: &[f32], i: usize) -> usize {
    let mut best = (2 * i).saturating_sub(1);
    for k in 2 * i..=(2 * i + 1).min(x.len() - 1) {
        if x[k] > x[best] {
            best = k;
        }
    }
    best
}

/// The gradient of x from that of [`pool`].
pub fn pool_gradient(x: &[f32], n: usize, dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![0f32; x.len()];
    let rows = dx.par_chunks_exact_mut(n).zip(x.par_chunks_exact(n)).zip(dy.par_chunks_exact(n.div_ceil(2)));
    rows.for_each(|((dx, x), dy)| dy.iter().enumerate().for_each(|(i, dy)| dx[winner(x, i)] += dy));
    dx
}

/// Twice as many samples by linear interpolation at half-pixel centres: rows of `n` -> rows of 2 n.
pub fn double(x: &[f32], n: usize) -> Vec<f32> {
    let mut y = vec![0f32; 2 * x.len()];
    y.par_chunks_exact_mut(2 * n).zip(x.par_chunks_exact(n)).for_each(|(y, x)| {
        for i in 0..n {
            let (before, after) = (x[i.saturating_sub(1)], x[(i + 1).min(n - 1)]);
            y[2 * i] = 0.75 * x[i] + 0.25 * before;
            y[2 * i + 1] = 0.75 * x[i] + 0.25 * after;
        }
    });
    y
}

/// The gradient of x from that of [`double`].
pub fn double_gradient(n: usize, dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![0f32; dy.len() / 2];
    dx.par_chunks_exact_mut(n).zip(dy.par_chunks_exact(2 * n)).for_each(|(dx, dy)| {
        for i in 0..n {
            dx[i] += 0.75 * (dy[2 * i] + dy[2 * i + 1]);
            dx[i.saturating_sub(1)] += 0.25 * dy[2 * i];
            dx[(i + 1).min(n - 1)] += 0.25 * dy[2 * i + 1];
        }
    });
    dx
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::tests::ramp;

    /// The definition, one multiplication at a time.
    fn by_definition(conv: Conv, x: &[f32], n: usize, weight: &[f32], bias: &[f32]) -> Vec<f64> {
        let mut y = Vec::new();
        for x in x.chunks_exact(conv.channels * n) {
            for o in 0..conv.out {
                for i in 0..conv.length(n) {
                    let mut sum = bias.get(o).map_or(0.0, |b| f64::from(*b));
                    for c in 0..conv.channels {
                        for k in 0..conv.taps {
                            let Some(at) = (i * conv.stride + k).checked_sub(conv.padding).filter(|at| *at < n) else {
                                continue;
                            };
                            sum +=
                                f64::from(x[c * n + at]) * f64::from(weight[(o * conv.channels + c) * conv.taps + k]);
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }

    /// Convolutions of PA-MAE, small: stem, residual block with and without stride, point, the decoder's last.
    const CONVS: [(Conv, usize); 5] = [
        (Conv { channels: 12, out: 5, taps: 7, stride: 2, padding: 3 }, 41),
        (Conv { channels: 6, out: 7, taps: 3, stride: 1, padding: 1 }, 20),
        (Conv { channels: 3, out: 4, taps: 3, stride: 2, padding: 1 }, 21),
        (Conv { channels: 5, out: 6, taps: 1, stride: 2, padding: 0 }, 13),
        (Conv { channels: 4, out: 12, taps: 7, stride: 1, padding: 3 }, 30),
    ];

    #[test]
    fn a_convolution_is_its_definition_on_every_instruction_set() {
        for isa in Isa::all() {
            for (conv, n) in CONVS {
                let (x, weight) = (ramp(2 * conv.channels * n, 1), ramp(conv.out * conv.channels * conv.taps, 2));
                let bias = ramp(conv.out, 3);
                let (got, want) =
                    (conv.forward(isa, &x, n, &weight, &bias), by_definition(conv, &x, n, &weight, &bias));
                assert_eq!(got.len(), want.len());
                let worst = got.iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-5, "{conv:?}: {worst}");
            }
        }
    }

    /// Compares gradients with differences of sum (y dy), which is linear in weight and bias and, here, in x.
    #[test]
    fn gradients_of_convolutions_are_the_slopes() {
        for (conv, n) in CONVS {
            let (x, weight) = (ramp(2 * conv.channels * n, 4), ramp(conv.out * conv.channels * conv.taps, 5));
            let (bias, dy) = (ramp(conv.out, 6), ramp(2 * conv.out * conv.length(n), 7));
            let value = |x: &[f32], w: &[f32], b: &[f32]| -> f64 {
                by_definition(conv, x, n, w, b).iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum()
            };
            let [dx, dw, db] = conv.backward(Isa::best(), &x, n, &weight, &dy);
            let still = value(&x, &weight, &bias);
            let moved = |v: &[f32], i: usize| {
                let mut v = v.to_vec();
                v[i] += 1.0;
                v
            };
            for i in (0..x.len()).step_by(7) {
                assert!(
                    (value(&moved(&x, i), &weight, &bias) - still - f64::from(dx[i])).abs() < 1e-4,
                    "{conv:?} x {i}"
                );
            }
            for i in 0..weight.len() {
                assert!(
                    (value(&x, &moved(&weight, i), &bias) - still - f64::from(dw[i])).abs() < 1e-4,
                    "{conv:?} w {i}"
                );
            }
            for i in 0..bias.len() {
                assert!(
                    (value(&x, &weight, &moved(&bias, i)) - still - f64::from(db[i])).abs() < 1e-4,
                    "{conv:?} b {i}"
                );
            }
        }
    }

    #[test]
    fn pools_and_doubles_by_hand_and_back() {
        assert_eq!(pool(&[5., 1., 2., 4., 3.], 5), [5., 4., 4.]);
        assert_eq!(pool_gradient(&[5., 1., 2., 4., 3.], 5, &[1., 10., 100.]), [1., 0., 0., 110., 0.]);
        assert_eq!(double(&[0., 4., 8.], 3), [0., 1., 3., 5., 7., 8.]);
        // The transpose of the matrix of `double`.
        assert_eq!(double_gradient(3, &[1., 0., 0., 0., 0., 0.]), [1.0, 0.0, 0.0]);
        assert_eq!(double_gradient(3, &[0., 1., 0., 0., 0., 0.]), [0.75, 0.25, 0.0]);
        assert_eq!(double_gradient(3, &[0., 0., 0., 0., 0., 1.]), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn moments_and_affine_by_hand() {
        // Two records of two channels of two samples.
        let x = [1., 3., 10., 10., 5., 7., 10., 10.];
        let (mean, variance) = moments(&x, 2, 2);
        assert_eq!((mean.as_slice(), variance.as_slice()), ([4., 10.].as_slice(), [5., 0.].as_slice()));
        assert_eq!(affine(&x, 2, &[2., 0.5], &[1., 0.]), [3., 7., 5., 5., 11., 15., 5., 5.]);
    }
}
