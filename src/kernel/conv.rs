//! Convolution of any kernel, stride and margin over a channels-last map, with its gradients: the inputs of some outputs
//! are laid out as rows, taps by channels, and multiplied by the kernel.

use rayon::prelude::*;

use super::buffer::{Scratch, Shared};
use super::gemm::{linear, Packed, Precision};
use super::product::{pack_right, product, Left, Single, Store};
use super::simd::{dispatch, Isa, Job, Simd};
use super::winograd::Map;

/// Outputs whose inputs are laid out at a time.
const ROWS: usize = 96;
/// Parts that the gradient of a kernel is summed in, whatever the number of threads.
const PARTS: usize = 8;

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Size of the input.
    pub map: Map,
    /// Channels of input and output.
    pub channels: (usize, usize),
    /// Frames, rows and columns of the kernel.
    pub kernel: [usize; 3],
    /// From one output to the next.
    pub stride: [usize; 3],
    /// Zeros on each side.
    pub padding: [usize; 3],
}

impl Shape {
    /// Size of the output, (n + 2 p - k) / s + 1 along each axis; nothing where the kernel does not fit.
    pub fn output(&self) -> Option<Map> {
        let side = |n: usize, i: usize| {
            let room = (n + 2 * self.padding[i]).checked_sub(self.kernel[i])?;
            (self.kernel[i] > 0).then_some(room.checked_div(self.stride[i])? + 1)
        };
        Some(Map { t: side(self.map.t, 0)?, h: side(self.map.h, 1)?, w: side(self.map.w, 2)? })
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Values in a row: taps by channels of the input.
    fn row(&self) -> usize {
        self.taps() * self.channels.0
    }

    /// The place of the input under a tap of an output, where there is one.
    #[inline(always)]
    fn under(&self, out: Map, place: usize, tap: usize) -> Option<usize> {
        let at = [place / (out.h * out.w), place / out.w % out.h, place % out.w];
        let [_, kh, kw] = self.kernel;
        let tap = [tap / (kh * kw), tap / kw % kh, tap % kw];
        let side =
            |i: usize, n: usize| (at[i] * self.stride[i] + tap[i]).checked_sub(self.padding[i]).filter(|at| *at < n);
        let Map { t, h, w } = self.map;
        Some((side(0, t)? * h + side(1, h)?) * w + side(2, w)?)
    }

    /// The inputs of the outputs `first..` as rows.
    fn lay_out(&self, out: Map, first: usize, x: &[f32], rows: &mut [f32]) {
        let c = self.channels.0;
        for (i, row) in rows.chunks_exact_mut(self.row()).enumerate() {
            for (tap, to) in row.chunks_exact_mut(c).enumerate() {
                match self.under(out, first + i, tap) {
                    Some(at) => to.copy_from_slice(&x[at * c..(at + 1) * c]),
                    None => to.fill(0.0),
                }
            }
        }
    }

    /// Tap and channel of a value of a row.
    fn tap_of(&self, weight: &[f32], k: usize, o: usize) -> f32 {
        let (c, taps) = (self.channels.0, self.taps());
        weight[(o * c + k % c) * taps + k / c]
    }

    fn check(&self, x: usize, y: usize, weight: usize) -> Map {
        let out = self.output().filter(|out| self.channels.0 > 0 && self.channels.1 > 0 && out.places() > 0);
        assert!(out.is_some(), "a kernel that does not fit: {self:?}");
        let out = out.unwrap_or(self.map);
        assert_eq!([x, y], [self.map.places() * self.channels.0, out.places() * self.channels.1]);
        assert_eq!(weight, self.row() * self.channels.1);
        out
    }

    /// y (T', H', W', O) of x (T, H, W, C) with kernel (O, C, kt, kh, kw) and bias (O) or none. All threads work.
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn forward(&self, isa: Isa, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
        let (out, o) = (self.check(x.len(), y.len(), weight.len()), self.channels.1);
        let packed = Packed::new(isa, Precision::F32, (self.row(), o), |k, o| self.tap_of(weight, k, o));
        if self.is_point() {
            return linear(x, &packed, bias, y, false);
        }
        y.par_chunks_mut(ROWS * o).enumerate().for_each(|(i, y)| {
            let mut rows = Scratch::take(y.len() / o * self.row());
            self.lay_out(out, i * ROWS, x, &mut rows);
            linear(&rows, &packed, bias, y, false);
        });
    }

    /// Whether it is one product over the channels.
    fn is_point(&self) -> bool {
        (self.kernel, self.stride, self.padding) == ([1; 3], [1; 3], [0; 3])
    }

    /// The gradient of x from that of y.
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn input_gradient(&self, isa: Isa, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        let (c, o) = self.channels;
        let mut dx = vec![0f32; self.map.places() * c];
        let out = self.check(dx.len(), dy.len(), weight.len());
        let packed = Packed::new(isa, Precision::F32, (o, self.row()), |o, k| self.tap_of(weight, k, o));
        if self.is_point() {
            linear(dy, &packed, &[], &mut dx, false);
            return dx;
        }
        // Frames that share no input can go side by side.
        let alone = self.kernel[0] == 1 && self.padding[0] == 0;
        let frame = out.h * out.w;
        let (units, frames) = if alone { (out.t, 1) } else { (1, out.t) };
        let shared = Shared::new(&mut dx);
        (0..units).into_par_iter().for_each(|unit| {
            for first in (unit * frame * frames..(unit + 1) * frame * frames).step_by(ROWS) {
                let count = ROWS.min((unit + 1) * frame * frames - first);
                let mut rows = Scratch::take(count * self.row());
                linear(&dy[first * o..(first + count) * o], &packed, &[], &mut rows, false);
                for (place, row) in (first..).zip(rows.chunks_exact(self.row())) {
                    for (tap, from) in row.chunks_exact(c).enumerate() {
                        let Some(at) = self.under(out, place, tap) else { continue };
                        // SAFETY: `at` is a place of the input; frames of one unit share no input with another's.
                        let to = unsafe { std::slice::from_raw_parts_mut(shared.at(at * c, c), c) };
                        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                    }
                }
            }
        });
        dx
    }

    /// The gradient of the kernel (O, C, kt, kh, kw) from that of y.
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn weight_gradient(&self, isa: Isa, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let ((c, o), row) = (self.channels, self.row());
        let out = self.check(x.len(), dy.len(), row * o);
        let share = out.places().div_ceil(PARTS).next_multiple_of(ROWS);
        let part = |first: usize| {
            let mut sum = vec![0f32; row * o];
            for first in (first..out.places().min(first + share)).step_by(ROWS) {
                let count = ROWS.min(out.places() - first);
                let mut rows = Scratch::take(count * row);
                self.lay_out(out, first, x, &mut rows);
                let dy = &dy[first * o..(first + count) * o];
                // SAFETY: `isa` is here; there are `count` rows of both.
                unsafe { dispatch(isa, Outer { a: &rows, b: dy, m: row, n: o, c: &mut sum }) };
            }
            sum
        };
        let starts: Vec<usize> = (0..out.places()).step_by(share).collect();
        let parts: Vec<Vec<f32>> = starts.into_par_iter().map(part).collect();
        let mut dw = vec![0f32; row * o];
        let taps = self.taps();
        for part in parts {
            for (at, v) in part.into_iter().enumerate() {
                let (k, out) = (at / o, at % o);
                dw[(out * c + k % c) * taps + k / c] += v;
            }
        }
        dw
    }
}

/// c (m, n) += a^T b, for a (rows, m) and b (rows, n).
struct Outer<'a> {
    a: &'a [f32],
    b: &'a [f32],
    m: usize,
    n: usize,
    c: &'a mut [f32],
}

impl Job for Outer<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Outer { a, b, m, n, c } = self;
        let rows = b.len() / n;
        let mut panels = Scratch::take(n.next_multiple_of(2 * S::LANES) * rows);
        let right = pack_right::<S>(b, n, &mut panels);
        let left = Left { start: a.as_ptr(), row: 1, step: m, segments: 1, hop: 0 };
        let store = Store { c: Shared::new(c), first: 0, row: n, bias: &[], adds: true };
        product::<S, Single, _>(left, m, right, &store);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::tests::ramp;

    /// Map, channels, kernel, stride, padding.
    type Case = (Map, (usize, usize), [usize; 3], [usize; 3], [usize; 3]);
    const CASES: [Case; 5] = [
        (Map { t: 3, h: 8, w: 6 }, (5, 7), [1, 3, 3], [1, 2, 2], [0, 1, 1]),
        (Map { t: 9, h: 10, w: 8 }, (2, 33), [4, 4, 4], [2, 2, 2], [1, 1, 1]),
        (Map { t: 2, h: 3, w: 4 }, (20, 3), [1, 1, 1], [1, 1, 1], [0, 0, 0]),
        (Map { t: 3, h: 4, w: 5 }, (2, 3), [1, 2, 3], [1, 3, 2], [2, 3, 1]),
        (Map { t: 4, h: 12, w: 12 }, (3, 2), [3, 3, 3], [1, 1, 1], [1, 1, 1]),
    ];

    #[test]
    fn forward_equals_the_definition() {
        for (map, channels, kernel, stride, padding) in CASES {
            let shape = Shape { map, channels, kernel, stride, padding };
            let (out, (c, o)) = (shape.output().unwrap(), channels);
            let x = ramp(map.places() * c, 1);
            let (weight, bias) = (ramp(shape.row() * o, 2), ramp(o, 3));
            for isa in Isa::all() {
                let mut y = vec![0.0; out.places() * o];
                shape.forward(isa, &x, &weight, &bias, &mut y);
                for (at, y) in y.iter().enumerate() {
                    let (place, o1) = (at / o, at % o);
                    let mut want = f64::from(bias[o1]);
                    for (tap, c1) in (0..shape.taps()).flat_map(|tap| (0..c).map(move |c1| (tap, c1))) {
                        if let Some(from) = shape.under(out, place, tap) {
                            let w = weight[(o1 * c + c1) * shape.taps() + tap];
                            want += f64::from(x[from * c + c1]) * f64::from(w);
                        }
                    }
                    assert!((f64::from(*y) - want).abs() < 1e-5, "{isa:?} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn gradients_are_those_of_a_bilinear_form() {
        // y is linear in x and in the kernel, so <dy, y> = <dx, x> = <dw, w>.
        for (map, channels, kernel, stride, padding) in CASES {
            let shape = Shape { map, channels, kernel, stride, padding };
            let out = shape.output().unwrap();
            let (x, weight) = (ramp(map.places() * channels.0, 1), ramp(shape.row() * channels.1, 2));
            let dy = ramp(out.places() * channels.1, 3);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            for isa in Isa::all() {
                let mut y = vec![0.0; dy.len()];
                shape.forward(isa, &x, &weight, &[], &mut y);
                let want = dot(&dy, &y);
                let dx = shape.input_gradient(isa, &weight, &dy);
                let dw = shape.weight_gradient(isa, &x, &dy);
                for got in [dot(&dx, &x), dot(&dw, &weight)] {
                    assert!((got - want).abs() < 1e-4 * want.abs().max(1.0), "{isa:?} {shape:?}: {got} for {want}");
                }
            }
        }
    }
}
