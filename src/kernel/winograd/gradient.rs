//! The gradient of a 3 x 3 x 3 kernel, in the transform domain.
//!
//! With Y = A^T \[U * V\] A, the gradient of U at each point is a product over tiles: dU = V^T (A dY A^T); and
//! dg = G^T dU G.

use rayon::prelude::*;

use super::super::buffer::{Buffer, Scratch, Shared};
use super::super::product::{product, read, Left, Right, Single, Store};
use super::super::simd::{dispatch, Isa, Job, Simd};
use super::{Convolution, Cube, Map, Piece, IN, OUT, P, POINTS, Q, SKEW, TAPS};

/// Parts that the sum is made in, whatever the number of threads.
const PARTS: usize = 8;

/// A d: four gradients along one axis.
#[inline(always)]
unsafe fn to_points<S: Simd>(d: [S::V; OUT]) -> [S::V; IN] {
    let at = |point: f32| {
        let even = S::fma(S::splat(point * point), d[2], d[0]);
        let odd = S::mul(S::splat(point), S::fma(S::splat(point * point), d[3], d[1]));
        (S::add(even, odd), S::sub(even, odd))
    };
    let ((p, minus_p), (q, minus_q)) = (at(P), at(Q));
    [d[0], p, minus_p, q, minus_q, d[3]]
}

/// G, point by tap.
fn weight_matrix() -> [[f32; TAPS]; IN] {
    let (p2, q2) = (P * P, Q * Q);
    let (at_p, at_q) = (0.5 / (p2 * (p2 - q2)), 0.5 / (q2 * (q2 - p2)));
    let row = |point: f32, scale: f32| [scale, scale * point, scale * point * point];
    [[1.0 / (p2 * q2), 0.0, 0.0], row(P, at_p), row(-P, at_p), row(Q, at_q), row(-Q, at_q), [0.0, 0.0, 1.0]]
}

/// dU of one piece, added to `sum` (points, frames of the kernel, C, O).
struct Work<'a> {
    convolution: &'a Convolution<'a>,
    dy: &'a [f32],
    piece: Piece,
    sum: &'a mut [f32],
}

impl Work<'_> {
    /// A dY A^T of every tile, as right factors over the tiles: point, panel, tile, 2 LANES outputs.
    #[inline(always)]
    unsafe fn transform<S: Simd>(&self, out: &mut [f32], point: usize, rows: usize) {
        let (Map { h, w, .. }, outputs, width) = (self.convolution.map, self.convolution.channels.1, 2 * S::LANES);
        let (piece, across, mut row) = (self.piece, self.convolution.across(), 0);
        for frame in piece.frames.0..piece.frames.0 + piece.frames.1 {
            for (line, column) in (0..piece.lines.1).flat_map(|l| (0..across).map(move |c| (piece.lines.0 + l, c))) {
                for channel in (0..outputs.next_multiple_of(width)).step_by(S::LANES) {
                    let lanes = S::LANES.min(outputs.saturating_sub(channel));
                    let mut half = [[S::splat(0.0); IN]; OUT];
                    for (x, half) in half.iter_mut().enumerate() {
                        let mut d = [S::splat(0.0); OUT];
                        for (y, d) in d.iter_mut().enumerate() {
                            let (y, x) = (line * OUT + y, column * OUT + x);
                            if y < h && x < w && lanes > 0 {
                                let at = ((frame * h + y) * w + x) * outputs + channel;
                                *d = read::<S>(self.dy.as_ptr().add(at), lanes);
                            }
                        }
                        *half = to_points::<S>(d);
                    }
                    let to = channel / width * rows * width + row * width + channel % width;
                    for y in 0..IN {
                        let d = [half[0][y], half[1][y], half[2][y], half[3][y]];
                        for (x, v) in to_points::<S>(d).into_iter().enumerate() {
                            S::store(out.as_mut_ptr().add((y * IN + x) * point + to), v);
                        }
                    }
                }
                row += 1;
            }
        }
    }
}

impl Job for Work<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (convolution, piece, width) = (self.convolution, self.piece, 2 * S::LANES);
        let tiles = convolution.across() * piece.lines.1;
        let ((channels, outputs), c) = (convolution.channels, convolution.padded.0);
        let rows = tiles * piece.frames.1;
        let (reach, hop) = (convolution.reach, tiles * c);
        let (v_point, w_point) = (rows * c + 2 * reach * hop + SKEW, rows * outputs.next_multiple_of(width) + SKEW);
        let mut v = Scratch::take(POINTS * v_point);
        let mut w = Scratch::take(POINTS * w_point);
        convolution.transform::<S>(piece, &mut v, v_point);
        self.transform::<S>(&mut w, w_point, rows);
        let sum = Shared::new(self.sum);
        for (point, frame) in (0..POINTS).flat_map(|point| (0..=2 * reach).map(move |frame| (point, frame))) {
            let dt = frame + 1 - reach;
            let start = v.as_ptr().add(point * v_point + frame * hop);
            let left = Left { start, row: 1, step: c, segments: 1, hop: 0 };
            let start = w.as_ptr().add(point * w_point);
            let right = Right { start, depth: rows, width, panel: rows * width, n: outputs };
            let first = (point * TAPS + dt) * channels * outputs;
            let store = Store { c: sum, first, row: outputs, bias: &[], adds: true };
            product::<S, Single, _>(left, channels, right, &store);
        }
    }
}

/// The gradient of the kernel (O, C, 3, 3, 3) from that of y (T, H, W, O); `cube` tells how y came about, its kernel,
/// direction and bias aside. All threads work.
///
/// # Panics
/// Where the sizes do not agree.
pub fn weight_gradient(isa: Isa, cube: Cube<'_>, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let Cube { map, doubles, alone, channels, .. } = cube;
    let (zoom, reach, (c, o)) = (if doubles { 2 } else { 1 }, usize::from(!alone), channels);
    assert!(map.h.is_multiple_of(zoom) && map.w.is_multiple_of(zoom) && c > 0 && o > 0);
    assert_eq!([x.len() * zoom * zoom, dy.len()], [map.places() * c, map.places() * o]);
    let padded = (c.next_multiple_of(isa.lanes()), o.next_multiple_of(isa.lanes()));
    let (zeros, mut nothing) = (vec![0f32; c], []);
    let y = Shared::new(&mut nothing);
    let (bias, before): (&[f32], _) = (&[], None);
    let convolution =
        Convolution { x, map, zoom, reach, channels, padded, bias, adds: false, before, y, zeros: &zeros };
    let pieces = convolution.pieces(PARTS / 2);
    let part = |part: usize| {
        let mut sum = Buffer::zeros(POINTS * TAPS * c * o);
        for piece in pieces.iter().skip(part).step_by(PARTS) {
            // SAFETY: `isa` is here; the sizes were checked; `sum` is this part's own.
            unsafe { dispatch(isa, Work { convolution: &convolution, dy, piece: *piece, sum: &mut sum }) };
        }
        sum
    };
    let parts: Vec<Buffer> = (0..PARTS.min(pieces.len())).into_par_iter().map(part).collect();
    let mut total = vec![0f32; POINTS * TAPS * c * o];
    for part in parts {
        total.iter_mut().zip(part.iter()).for_each(|(total, part)| *total += part);
    }
    restore(&total, c, o)
}

/// G^T dU G of every channel and output.
fn restore(du: &[f32], c: usize, o: usize) -> Vec<f32> {
    let (g, mut dw) = (weight_matrix(), vec![0f32; o * c * TAPS * TAPS * TAPS]);
    dw.par_chunks_mut(c * TAPS * TAPS * TAPS).enumerate().for_each(|(out, dw)| {
        for (channel, taps) in dw.chunks_exact_mut(TAPS * TAPS * TAPS).enumerate() {
            for (dt, taps) in taps.chunks_exact_mut(TAPS * TAPS).enumerate() {
                let at = |i: usize, j: usize| du[(((i * IN + j) * TAPS + dt) * c + channel) * o + out];
                let mut half = [[0f32; TAPS]; IN];
                for (i, half) in half.iter_mut().enumerate() {
                    for (x, half) in half.iter_mut().enumerate() {
                        *half = (0..IN).map(|j| g[j][x] * at(i, j)).sum();
                    }
                }
                for (tap, place) in taps.iter_mut().enumerate() {
                    *place = (0..IN).map(|i| g[i][tap / TAPS] * half[i][tap % TAPS]).sum();
                }
            }
        }
    });
    dw
}

#[cfg(test)]
mod tests {
    use super::super::Direction;
    use super::*;
    use crate::kernel::conv::Shape;
    use crate::kernel::gemm::tests::{ramp, worst};

    fn cube(map: Map, channels: (usize, usize)) -> Cube<'static> {
        let (weight, bias, direction): (&[f32], &[f32], _) = (&[], &[], Direction::Forward);
        Cube { map, doubles: false, alone: false, channels, weight, direction, bias, before: None }
    }

    #[test]
    fn equals_the_gradient_of_the_plain_convolution() {
        for (map, channels) in [
            (Map { t: 3, h: 4, w: 4 }, (16, 32)),
            (Map { t: 5, h: 6, w: 7 }, (3, 5)),
            (Map { t: 2, h: 12, w: 9 }, (20, 33)),
            (Map { t: 9, h: 24, w: 24 }, (8, 1)),
        ] {
            let (x, dy) = (ramp(map.places() * channels.0, 1), ramp(map.places() * channels.1, 2));
            let plain = Shape { map, channels, kernel: [3; 3], stride: [1; 3], padding: [1; 3] };
            for isa in Isa::all() {
                let want = plain.weight_gradient(isa, &x, &dy);
                let got = weight_gradient(isa, cube(map, channels), &x, &dy);
                let largest = want.iter().fold(1f64, |a, b| a.max(f64::from(b.abs())));
                let want: Vec<f64> = want.into_iter().map(f64::from).collect();
                let worst = worst(&got, &want);
                assert!(worst < 1e-5 * largest, "{isa:?} {map:?} {channels:?}: {worst} of {largest}");
            }
        }
    }

    #[test]
    fn frames_that_are_clips_of_their_own_give_the_sum_of_their_gradients() {
        let (map, channels) = (Map { t: 5, h: 12, w: 9 }, (20, 33));
        let (x, dy) = (ramp(map.places() * channels.0, 1), ramp(map.places() * channels.1, 2));
        let one = Map { t: 1, ..map };
        let plain = Shape { map: one, channels, kernel: [3; 3], stride: [1; 3], padding: [1; 3] };
        for isa in Isa::all() {
            let mut want = vec![0f64; channels.0 * channels.1 * 27];
            let frames = x.chunks_exact(one.places() * channels.0).zip(dy.chunks_exact(one.places() * channels.1));
            for (x, dy) in frames {
                let part = plain.weight_gradient(isa, x, dy);
                want.iter_mut().zip(part).for_each(|(sum, v)| *sum += f64::from(v));
            }
            let got = weight_gradient(isa, Cube { alone: true, ..cube(map, channels) }, &x, &dy);
            let (worst, largest) = (worst(&got, &want), want.iter().fold(1f64, |a, b| a.max(b.abs())));
            assert!(worst < 1e-5 * largest, "{isa:?}: {worst} of {largest}");
        }
    }

    #[test]
    fn doubled_inputs_give_the_gradient_of_the_large_map() {
        let (map, c) = (Map { t: 2, h: 4, w: 6 }, 3);
        let (x, dy) = (ramp(2 * 2 * 3 * c, 1), ramp(map.places() * 2, 2));
        let mut large = Vec::new();
        for place in 0..map.places() {
            let (t, y, column) = (place / 24, place / 6 % 4, place % 6);
            let at = ((t * 2 + y / 2) * 3 + column / 2) * c;
            large.extend_from_slice(&x[at..at + c]);
        }
        let fine = cube(map, (c, 2));
        let want = weight_gradient(Isa::best(), fine, &large, &dy);
        assert_eq!(weight_gradient(Isa::best(), Cube { doubles: true, ..fine }, &x, &dy), want);
    }
}
