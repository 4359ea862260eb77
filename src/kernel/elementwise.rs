//! Functions of every value by itself, by all threads.

use rayon::prelude::*;

use super::math;
use super::product::{read, write};
use super::simd::{dispatch, Isa, Job, Simd};

/// Values that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// GELU of x, or its slope times dy where there is one.
struct Gelu<'a> {
    x: &'a [f32],
    dy: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl Job for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Gelu { x, dy, out } = self;
        for at in (0..x.len()).step_by(S::LANES) {
            let lanes = S::LANES.min(x.len() - at);
            let v = read::<S>(x.as_ptr().add(at), lanes);
            let v = match dy {
                None => math::gelu::<S>(v),
                Some(dy) => S::mul(math::gelu_slope::<S>(v), read::<S>(dy.as_ptr().add(at), lanes)),
            };
            write::<S>(out.as_mut_ptr().add(at), v, lanes);
        }
    }
}

/// The exact GELU of every value.
pub fn gelu(isa: Isa, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; x.len()];
    x.par_chunks(CHUNK).zip(y.par_chunks_mut(CHUNK)).for_each(|(x, out)| {
        // SAFETY: `isa` is here; both slices are as long.
        unsafe { dispatch(isa, Gelu { x, dy: None, out }) };
    });
    y
}

/// The gradient of x from that of gelu(x).
///
/// # Panics
/// Where the sizes do not agree.
pub fn gelu_gradient(isa: Isa, x: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), dy.len());
    let mut dx = vec![0f32; x.len()];
    x.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK)).zip(dx.par_chunks_mut(CHUNK)).for_each(|((x, dy), out)| {
        // SAFETY: `isa` is here; all slices are as long.
        unsafe { dispatch(isa, Gelu { x, dy: Some(dy), out }) };
    });
    dx
}

/// The gradient of doubling rows and columns: each value of y (.., H, W, C), W and C given, is the sum of the four of
/// x (.., 2 H, 2 W, C) that came from it.
///
/// # Panics
/// Where x is not four times y, in whole lines.
pub fn sum_of_four(x: &[f32], (w, c): (usize, usize), y: &mut [f32]) {
    let line = w * c;
    assert!(line > 0 && y.len().is_multiple_of(line) && x.len() == 4 * y.len());
    x.par_chunks(4 * line).zip(y.par_chunks_mut(line)).for_each(|(two, y)| {
        for (column, y) in y.chunks_exact_mut(c).enumerate() {
            let at = |line: usize, side: usize| (line * 2 * w + 2 * column + side) * c;
            for (i, y) in y.iter_mut().enumerate() {
                *y = two[at(0, 0) + i] + two[at(0, 1) + i] + two[at(1, 0) + i] + two[at(1, 1) + i];
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_and_its_gradient_by_hand() {
        for isa in Isa::all() {
            let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{isa:?}: {a} {b}");
            let y = gelu(isa, &[1.0, -2.0, 0.0]);
            near(y[0], 0.841_344_7);
            near(y[1], -0.045_500_26);
            near(y[2], 0.0);
            let dx = gelu_gradient(isa, &[1.0, -2.0, 0.0], &[1.0, 2.0, 3.0]);
            near(dx[0], 1.083_315_5);
            near(dx[1], 2.0 * -0.085_231_8);
            near(dx[2], 1.5);
        }
    }

    #[test]
    fn four_values_are_summed_in_place_of_each() {
        // Two lines of two columns of two channels into one of one.
        let x = [1., 10., 2., 20., 3., 30., 4., 40.];
        let mut y = [0.0; 2];
        sum_of_four(&x, (1, 2), &mut y);
        assert_eq!(y, [10., 100.]);
    }
}
