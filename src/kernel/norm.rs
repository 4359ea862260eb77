//! Group and layer normalisation, with their gradients.
//!
//! Group: z = (x - mean_g) / sqrt(var_g + eps) w_c + b_c within each group g of channels of a map (N, C), then z or
//! z sigmoid(z). Layer: y = (x - mean) / sqrt(var + eps) gain + shift within each row.
//!
//! Group moments are summed per channel over blocks of rows in f32, relative to the first row so that a mean far from 0
//! costs no digits, and over blocks in f64.

use rayon::prelude::*;

use super::buffer::Shared;
use super::math::sigmoid;
use super::product::{read, write};
use super::simd::{dispatch, Isa, Job, Simd};

/// Rows summed in f32 before they go to f64.
const BLOCK: usize = 256;

/// Sizes of a group normalisation.
#[derive(Debug, Clone, Copy)]
pub struct Groups {
    /// Channels C.
    pub channels: usize,
    /// Groups; they divide the channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether swish follows.
    pub swish: bool,
}

/// Mean and 1 / sqrt(var + eps) of the group of each channel.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Mean.
    pub mean: Vec<f32>,
    /// 1 / standard deviation.
    pub inverse: Vec<f32>,
}

/// What a pass over some rows of a map does, channel by channel.
#[derive(Clone, Copy)]
enum Pass<'a> {
    /// Sums of x - first and of its square.
    Moments { first: &'a [f32] },
    /// z or swish(z), with z = x scale + offset.
    Apply { scale: &'a [f32], offset: &'a [f32], swish: bool, y: Shared<'a> },
    /// Sums of dz and of dz x^.
    GradientSums(Gradient<'a>),
    /// The gradient of x: dz scale - a - x^ b.
    Gradient(Gradient<'a>, &'a [f32], &'a [f32], Shared<'a>),
}

/// What the gradient of a group normalisation is made of.
#[derive(Clone, Copy)]
struct Gradient<'a> {
    dy: &'a [f32],
    scale: &'a [f32],
    offset: &'a [f32],
    moments: &'a Moments,
    swish: bool,
}

impl Gradient<'_> {
    /// dz and x^ at a place.
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, x: S::V, at: usize, channel: usize, lanes: usize) -> (S::V, S::V) {
        let of = |values: &[f32]| read::<S>(values.as_ptr().add(channel), lanes);
        let dy = read::<S>(self.dy.as_ptr().add(at), lanes);
        let normal = S::mul(S::sub(x, of(&self.moments.mean)), of(&self.moments.inverse));
        if !self.swish {
            return (dy, normal);
        }
        let z = S::fma(x, of(self.scale), of(self.offset));
        let s = sigmoid::<S>(z);
        let slope = S::mul(s, S::fma(z, S::sub(S::splat(1.0), s), S::splat(1.0))); // s (1 + z (1 - s))
        (S::mul(dy, slope), normal)
    }
}

struct Rows<'a> {
    x: &'a [f32],
    /// Row of the whole map that x begins with.
    first: usize,
    channels: usize,
    pass: Pass<'a>,
    sums: &'a mut [f32],
}

impl Job for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Rows { x, first, channels, pass, sums } = self;
        for channel in (0..channels).step_by(S::LANES) {
            let lanes = S::LANES.min(channels - channel);
            let of = |values: &[f32]| read::<S>(values.as_ptr().add(channel), lanes);
            let mut total = [S::splat(0.0); 2];
            for row in 0..x.len() / channels {
                let at = row * channels + channel;
                let whole = first * channels + at;
                let x = read::<S>(x.as_ptr().add(at), lanes);
                let (a, b) = match &pass {
                    Pass::Moments { first } => {
                        let d = S::sub(x, of(first));
                        (d, S::mul(d, d))
                    }
                    Pass::Apply { scale, offset, swish, y } => {
                        let z = S::fma(x, of(scale), of(offset));
                        let z = if *swish { S::mul(z, sigmoid::<S>(z)) } else { z };
                        write::<S>(y.at(whole, lanes), z, lanes);
                        continue;
                    }
                    Pass::GradientSums(gradient) => {
                        let (dz, normal) = gradient.at::<S>(x, whole, channel, lanes);
                        (dz, S::mul(dz, normal))
                    }
                    Pass::Gradient(gradient, a, b, dx) => {
                        let (dz, normal) = gradient.at::<S>(x, whole, channel, lanes);
                        let v = S::sub(S::mul(dz, of(gradient.scale)), S::fma(normal, of(b), of(a)));
                        write::<S>(dx.at(whole, lanes), v, lanes);
                        continue;
                    }
                };
                total = [S::add(total[0], a), S::add(total[1], b)];
            }
            if !sums.is_empty() {
                for (i, total) in total.into_iter().enumerate() {
                    write::<S>(sums.as_mut_ptr().add(i * channels + channel), total, lanes);
                }
            }
        }
    }
}

/// Runs a pass over all rows, block by block; the two sums of each channel.
fn pass(isa: Isa, x: &[f32], channels: usize, pass: Pass<'_>, sums: bool) -> Vec<f64> {
    let blocks = x.par_chunks(BLOCK * channels).enumerate().map(|(i, x)| {
        let mut part = vec![0f32; if sums { 2 * channels } else { 0 }];
        let job = Rows { x, first: i * BLOCK, channels, pass, sums: &mut part };
        // SAFETY: `isa` is here; the callers checked that every slice of the pass has the rows and channels of x.
        unsafe { dispatch(isa, job) };
        part
    });
    let blocks: Vec<Vec<f32>> = blocks.collect();
    let mut total = vec![0f64; if sums { 2 * channels } else { 0 }];
    for block in blocks {
        total.iter_mut().zip(block).for_each(|(total, part)| *total += f64::from(part));
    }
    total
}

impl Groups {
    fn check(&self, x: &[f32]) {
        assert!(self.groups > 0 && self.channels > 0 && self.channels.is_multiple_of(self.groups));
        assert!(!x.is_empty() && x.len().is_multiple_of(self.channels));
    }

    /// Mean of `value` over the channels of each group, for each channel.
    fn over_groups(&self, value: impl Fn(usize) -> f64) -> Vec<f64> {
        let each = self.channels / self.groups;
        let mean = |g: usize| (g * each..(g + 1) * each).map(&value).sum::<f64>() / each as f64;
        let means: Vec<f64> = (0..self.groups).map(mean).collect();
        (0..self.channels).map(|c| means[c / each]).collect()
    }

    /// The moments of a map x (N, C).
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn moments(&self, isa: Isa, x: &[f32]) -> Moments {
        self.check(x);
        let (c, first) = (self.channels, &x[..self.channels]);
        let n = (x.len() / c) as f64;
        let sums = pass(isa, x, c, Pass::Moments { first }, true);
        let mean = |c1: usize| f64::from(first[c1]) + sums[c1] / n;
        let of_group = self.over_groups(mean);
        // var_g = mean over its channels of var_c + (mean_c - mean_g)^2
        let spread =
            |c1: usize| (sums[c + c1] / n - (sums[c1] / n).powi(2)).max(0.0) + (mean(c1) - of_group[c1]).powi(2);
        let variance = self.over_groups(spread);
        Moments {
            mean: of_group.iter().map(|m| *m as f32).collect(),
            inverse: variance.iter().map(|v| (1.0 / (v + self.eps).sqrt()) as f32).collect(),
        }
    }

    /// Factor and summand of each channel: z = x factor + summand.
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn affine(&self, moments: &Moments, weight: &[f32], bias: &[f32]) -> (Vec<f32>, Vec<f32>) {
        assert_eq!([weight.len(), bias.len(), moments.mean.len(), moments.inverse.len()], [self.channels; 4]);
        let scale: Vec<f32> = weight.iter().zip(&moments.inverse).map(|(w, i)| w * i).collect();
        let offset = bias.iter().zip(&moments.mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        (scale, offset)
    }

    /// y (N, C) from x (N, C).
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn apply(&self, isa: Isa, x: &[f32], moments: &Moments, [weight, bias]: [&[f32]; 2], y: &mut [f32]) {
        self.check(x);
        assert_eq!(x.len(), y.len());
        let (scale, offset) = self.affine(moments, weight, bias);
        let (y, swish) = (Shared::new(y), self.swish);
        pass(isa, x, self.channels, Pass::Apply { scale: &scale, offset: &offset, swish, y }, false);
    }

    /// Gradients of x (N, C, added to nothing), weight (C) and bias (C), from that of y.
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn gradient(
        &self,
        isa: Isa,
        (x, dy): (&[f32], &[f32]),
        moments: &Moments,
        [weight, bias]: [&[f32]; 2],
        dx: &mut [f32],
    ) -> [Vec<f32>; 2] {
        self.check(x);
        assert_eq!([x.len(), x.len()], [dy.len(), dx.len()]);
        let (c, n) = (self.channels, (x.len() / self.channels) as f64);
        let (scale, offset) = self.affine(moments, weight, bias);
        let gradient = Gradient { dy, scale: &scale, offset: &offset, moments, swish: self.swish };
        let sums = pass(isa, x, c, Pass::GradientSums(gradient), true);
        // dx = inverse (w dz - mean(w dz) - x^ mean(w dz x^)), means over rows and channels of the group
        let share = |sums: &[f64]| -> Vec<f32> {
            let mean = self.over_groups(|c1| f64::from(weight[c1]) * sums[c1] / n);
            mean.iter().zip(&moments.inverse).map(|(m, i)| (m * f64::from(*i)) as f32).collect()
        };
        let (a, b) = (share(&sums[..c]), share(&sums[c..]));
        pass(isa, x, c, Pass::Gradient(gradient, &a, &b, Shared::new(dx)), false);
        let single = |sums: &[f64]| sums.iter().map(|s| *s as f32).collect();
        [single(&sums[c..]), single(&sums[..c])]
    }
}

/// Mean and 1 / sqrt(var + eps) of a row.
///
/// # Safety
/// The processor has the instructions of `S`; the row has `width` values.
#[inline(always)]
pub(super) unsafe fn row_moments<S: Simd>(row: *const f32, width: usize, eps: f32) -> (f32, f32) {
    let mut sum = S::splat(0.0);
    for at in (0..width).step_by(S::LANES) {
        sum = S::add(sum, read::<S>(row.add(at), S::LANES.min(width - at)));
    }
    let mean = S::sum(sum) / width as f32;
    let mut square = S::splat(0.0);
    for at in (0..width).step_by(S::LANES) {
        let lanes = S::LANES.min(width - at);
        let d = S::sub(read::<S>(row.add(at), lanes), S::splat(mean));
        square = if lanes == S::LANES {
            S::fma(d, d, square)
        } else {
            let mut squares = [0f32; 16];
            S::store(squares.as_mut_ptr(), S::mul(d, d)); // lanes beyond the row hold mean^2
            S::add(square, S::load_n(squares.as_ptr(), lanes))
        };
    }
    (mean, 1.0 / (S::sum(square) / width as f32 + eps).sqrt())
}

/// Rows of a layer normalisation: gain and shift (width) of all of them.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Values in a row.
    pub width: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Factor of each value.
    pub gain: &'a [f32],
    /// Summand of each value.
    pub shift: &'a [f32],
}

struct LayerRows<'a> {
    layer: Layer<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Job for LayerRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Layer { width, eps, gain, shift } = self.layer;
        for (x, y) in self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width)) {
            let (mean, inverse) = row_moments::<S>(x.as_ptr(), width, eps);
            for at in (0..width).step_by(S::LANES) {
                let lanes = S::LANES.min(width - at);
                let of = |values: &[f32]| read::<S>(values.as_ptr().add(at), lanes);
                let normal = S::mul(S::sub(of(x), S::splat(mean)), S::splat(inverse));
                write::<S>(y.as_mut_ptr().add(at), S::fma(normal, of(gain), of(shift)), lanes);
            }
        }
    }
}

struct LayerGradient<'a> {
    layer: Layer<'a>,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    /// Gradients of gain and shift, added up.
    sums: &'a mut [f32],
}

impl Job for LayerGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Layer { width, eps, gain, .. } = self.layer;
        let rows = self.x.chunks_exact(width).zip(self.dy.chunks_exact(width)).zip(self.dx.chunks_exact_mut(width));
        for ((x, dy), dx) in rows {
            let (mean, inverse) = row_moments::<S>(x.as_ptr(), width, eps);
            let normal = |x: S::V| S::mul(S::sub(x, S::splat(mean)), S::splat(inverse));
            let mut total = [S::splat(0.0); 2];
            for at in (0..width).step_by(S::LANES) {
                let lanes = S::LANES.min(width - at);
                let of = |values: &[f32]| read::<S>(values.as_ptr().add(at), lanes);
                let (dy, normal) = (of(dy), normal(of(x)));
                let g = S::mul(dy, of(gain)); // 0 in lanes beyond the row
                total = [S::add(total[0], g), S::fma(g, normal, total[1])];
                for (i, part) in [S::mul(dy, normal), dy].into_iter().enumerate() {
                    let p = self.sums.as_mut_ptr().add(i * width + at);
                    write::<S>(p, S::add(read::<S>(p, lanes), part), lanes);
                }
            }
            let share = |v: S::V| S::splat(S::sum(v) / width as f32);
            let (a, b) = (share(total[0]), share(total[1]));
            for at in (0..width).step_by(S::LANES) {
                let lanes = S::LANES.min(width - at);
                let of = |values: &[f32]| read::<S>(values.as_ptr().add(at), lanes);
                let g = S::sub(S::mul(of(dy), of(gain)), S::fma(normal(of(x)), b, a));
                write::<S>(dx.as_mut_ptr().add(at), S::mul(g, S::splat(inverse)), lanes);
            }
        }
    }
}

impl Layer<'_> {
    fn check(&self, x: &[f32], y: &[f32]) {
        assert!(self.width > 0 && x.len().is_multiple_of(self.width) && x.len() == y.len());
        assert_eq!([self.gain.len(), self.shift.len()], [self.width; 2]);
    }

    /// y (N, width) from x (N, width).
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn apply(&self, isa: Isa, x: &[f32], y: &mut [f32]) {
        self.check(x, y);
        let some = BLOCK * self.width;
        x.par_chunks(some).zip(y.par_chunks_mut(some)).for_each(|(x, y)| {
            // SAFETY: `isa` is here; the sizes were checked.
            unsafe { dispatch(isa, LayerRows { layer: *self, x, y }) };
        });
    }

    /// Gradients of x (N, width), gain and shift (width), from that of y.
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn gradient(&self, isa: Isa, x: &[f32], dy: &[f32], dx: &mut [f32]) -> [Vec<f32>; 2] {
        self.check(x, dy);
        self.check(x, dx);
        let some = BLOCK * self.width;
        let blocks = x.par_chunks(some).zip(dy.par_chunks(some)).zip(dx.par_chunks_mut(some));
        let parts: Vec<Vec<f32>> = blocks
            .map(|((x, dy), dx)| {
                let mut sums = vec![0f32; 2 * self.width];
                // SAFETY: `isa` is here; the sizes were checked.
                unsafe { dispatch(isa, LayerGradient { layer: *self, x, dy, dx, sums: &mut sums }) };
                sums
            })
            .collect();
        let mut total = vec![0f32; 2 * self.width];
        parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(t, p)| *t += p));
        let shift = total.split_off(self.width);
        [total, shift]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::tests::ramp;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    /// Compares gradients with finite differences of <dy, y> along a direction, argument by argument.
    fn check(
        isa: Isa,
        x: [Vec<f32>; 3],
        gradients: [Vec<f32>; 3],
        dy: &[f32],
        run: impl Fn(&[Vec<f32>; 3]) -> Vec<f32>,
    ) {
        for (i, gradient) in gradients.iter().enumerate() {
            let way = ramp(gradient.len(), 9);
            let moved = |step: f32| {
                let mut x = x.clone();
                x[i].iter_mut().zip(&way).for_each(|(x, w)| *x += step * w);
                dot(&run(&x), dy)
            };
            let (along, slope) = (dot(gradient, &way), (moved(1e-2) - moved(-1e-2)) / 2e-2);
            assert!((along - slope).abs() < 3e-3 * slope.abs().max(1.0), "{isa:?} argument {i}: {along} for {slope}");
        }
    }

    #[test]
    fn gradients_of_group_normalisation_equal_finite_differences() {
        for swish in [false, true] {
            let groups = Groups { channels: 20, groups: 5, eps: 1e-6, swish };
            let n = 300 * 20; // more rows than a block
            let (x, dy) = ([ramp(n, 1), ramp(20, 2), ramp(20, 3)], ramp(n, 4));
            for isa in Isa::all() {
                let run = |x: &[Vec<f32>; 3]| {
                    let mut y = vec![0.0; n];
                    groups.apply(isa, &x[0], &groups.moments(isa, &x[0]), [&x[1], &x[2]], &mut y);
                    y
                };
                let mut dx = vec![0.0; n];
                let moments = groups.moments(isa, &x[0]);
                let [dw, db] = groups.gradient(isa, (&x[0], &dy), &moments, [&x[1], &x[2]], &mut dx);
                check(isa, x.clone(), [dx, dw, db], &dy, run);
            }
        }
    }

    #[test]
    fn gradients_of_layer_normalisation_equal_finite_differences() {
        let (width, n) = (37, 300 * 37);
        let (x, dy) = ([ramp(n, 1), ramp(width, 2), ramp(width, 3)], ramp(n, 4));
        for isa in Isa::all() {
            let run = |x: &[Vec<f32>; 3]| {
                let mut y = vec![0.0; n];
                Layer { width, eps: 1e-6, gain: &x[1], shift: &x[2] }.apply(isa, &x[0], &mut y);
                y
            };
            let mut dx = vec![0.0; n];
            let layer = Layer { width, eps: 1e-6, gain: &x[1], shift: &x[2] };
            let [dg, ds] = layer.gradient(isa, &x[0], &dy, &mut dx);
            check(isa, x.clone(), [dx, dg, ds], &dy, run);
        }
    }

    #[test]
    fn a_mean_far_from_0_costs_no_digits() {
        let groups = Groups { channels: 4, groups: 2, eps: 1e-6, swish: false };
        let x: Vec<f32> = ramp(4000, 1).iter().map(|v| 1000.0 + v).collect();
        let values =
            |group: usize| x.chunks_exact(4).flat_map(move |row| [row[2 * group], row[2 * group + 1]]).map(f64::from);
        for isa in Isa::all() {
            let moments = groups.moments(isa, &x);
            for group in 0..2 {
                let mean = values(group).sum::<f64>() / 2000.0;
                let variance = values(group).map(|v| (v - mean).powi(2)).sum::<f64>() / 2000.0;
                let inverse = 1.0 / (variance + 1e-6).sqrt();
                assert!((f64::from(moments.inverse[2 * group]) / inverse - 1.0).abs() < 1e-5, "{isa:?}");
            }
        }
    }
}
