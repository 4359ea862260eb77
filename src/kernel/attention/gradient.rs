//! The gradient of attention, from the logarithms of the totals that the forward pass left.
//!
//! With P = 2^(s - log total) found again block by block: dV = P^T dY; dS = P * (dY V^T - D), D the row sums of Y * dY;
//! dQ = dS K / sqrt d; dK = dS^T Q / sqrt d.

use rayon::prelude::*;

use super::super::buffer::{Scratch, Shared};
use super::super::gemm::Precision;
use super::super::math::{exp2, LOG2_E};
use super::super::product::{product, tile, Left, Right, Single, Store};
use super::super::simd::{dispatch, Isa, Job, Simd};
use super::head::{Head, Keys, Sizes};
use super::Shape;

/// What the forward pass had and gave, and the gradient of its result.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// Queries (G, queries, heads d).
    pub q: &'a [f32],
    /// Keys (G, keys, heads d).
    pub k: &'a [f32],
    /// Values (G, keys, heads e).
    pub v: &'a [f32],
    /// Results (G, queries, heads e).
    pub y: &'a [f32],
    /// log2 of the totals (G, heads, queries).
    pub log_total: &'a [f32],
    /// The gradient of y.
    pub dy: &'a [f32],
}

#[derive(Clone, Copy)]
struct Whole<'a> {
    past: Past<'a>,
    shape: Shape,
    dq: Shared<'a>,
    dk: Shared<'a>,
    dv: Shared<'a>,
}

/// Rows of a head as they lie.
fn head(x: &[f32], first_row: usize, heads: usize, head: usize, width: usize) -> Head {
    Head { start: x.as_ptr().wrapping_add((first_row * heads + head) * width), row: heads * width }
}

/// One head of one group.
struct OneHead<'a>(Whole<'a>, usize, usize);

/// Some queries as they are needed: lanes first, and rows first as a right factor.
struct Turned<'a> {
    /// (width, 2 LANES).
    lanes: &'a mut [f32],
    /// (panels, 2 LANES queries, 2 LANES columns).
    rows: &'a mut [f32],
}

impl Turned<'_> {
    /// Reads `count` rows of `width` values, the lanes times `scale`.
    #[inline(always)]
    unsafe fn load<S: Simd>(&mut self, from: Head, count: usize, width: usize, scale: f32) {
        let step = 2 * S::LANES;
        for (i, lanes) in self.lanes.chunks_exact_mut(step).enumerate() {
            for (query, lane) in lanes.iter_mut().enumerate() {
                let value = if query < count { *from.start.add(query * from.row + i) } else { 0.0 };
                *lane = value * scale;
                self.rows[(i / step * step + query) * step + i % step] = value;
            }
        }
        for i in width..width.next_multiple_of(step) {
            for query in 0..step {
                self.rows[(i / step * step + query) * step + i % step] = 0.0;
            }
        }
    }

    /// As a right factor over the queries.
    fn right<S: Simd>(&self, width: usize) -> Right {
        let step = 2 * S::LANES;
        Right { start: self.rows.as_ptr(), depth: step, width: step, panel: step * step, n: width }
    }
}

/// Scratch memory of one head.
struct Memory<'a> {
    q: Turned<'a>,
    dy: Turned<'a>,
    /// P and dS, (keys, 2 LANES) each.
    p: &'a mut [f32],
    ds: &'a mut [f32],
}

impl Job for OneHead<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let OneHead(whole, group, h) = self;
        let Shape { queries, keys, heads, d, e, .. } = whole.shape;
        let (past, step, padded) = (whole.past, 2 * S::LANES, keys.next_multiple_of(S::ROWS));
        let (k, v) = (head(past.k, group * keys, heads, h, d), head(past.v, group * keys, heads, h, e));
        let (by_k, by_v) = (Sizes { n: keys, d, e }, Sizes { n: keys, d: e, e: d });
        let mut packed = [by_k, by_v].map(|s| Scratch::take(Keys::words(Precision::F32, S::ROWS, s)));
        let [first, second] = &mut packed;
        Keys::pack::<Single>(S::ROWS, k, v, by_k, first); // tiles of k
        Keys::pack::<Single>(S::ROWS, v, k, by_v, second); // tiles of v, then k row by row
        let k_rows = second[padded * e..].as_ptr();
        let mut turned = Scratch::take((d + e) * step + (d.next_multiple_of(step) + e.next_multiple_of(step)) * step);
        let (q_lanes, rest) = turned.split_at_mut(d * step);
        let (dy_lanes, rest) = rest.split_at_mut(e * step);
        let (q_rows, dy_rows) = rest.split_at_mut(d.next_multiple_of(step) * step);
        let mut blocks = Scratch::take(2 * padded * step);
        let (p, ds) = blocks.split_at_mut(padded * step);
        let q = Turned { lanes: q_lanes, rows: q_rows };
        let dy = Turned { lanes: dy_lanes, rows: dy_rows };
        let mut memory = Memory { q, dy, p, ds };
        let root = 1.0 / (d as f32).sqrt();
        for first_query in (0..queries).step_by(step) {
            let (row, count) = (group * queries + first_query, step.min(queries - first_query));
            memory.q.load::<S>(head(past.q, row, heads, h, d), count, d, LOG2_E * root);
            memory.dy.load::<S>(head(past.dy, row, heads, h, e), count, e, 1.0);
            let (mut log_total, mut dot) = ([f32::INFINITY; 32], [0f32; 32]);
            for query in 0..count {
                log_total[query] = past.log_total[(group * heads + h) * queries + first_query + query];
                let at = ((row + query) * heads + h) * e;
                dot[query] = past.y[at..at + e].iter().zip(&past.dy[at..at + e]).map(|(y, dy)| y * dy).sum();
            }
            for key in (0..padded).step_by(S::ROWS) {
                let tiles = (first[key * d..].as_ptr(), second[key * e..].as_ptr());
                let (valid, sizes) = (S::ROWS.min(keys - key), (d, e));
                if S::ROWS == 12 {
                    memory.weights::<S, 12>(tiles, sizes, (key, valid), &log_total, &dot);
                } else if S::ROWS == 6 {
                    memory.weights::<S, 6>(tiles, sizes, (key, valid), &log_total, &dot);
                } else {
                    memory.weights::<S, 4>(tiles, sizes, (key, valid), &log_total, &dot);
                }
            }
            // dQ, lanes first: (d, keys) dS
            let left = Left { start: k_rows, row: 1, step: d, segments: 1, hop: 0 };
            let right = Right { start: memory.ds.as_ptr(), depth: keys, width: step, panel: 0, n: step };
            let mut dq = Scratch::take(d * step);
            let store = Store { c: Shared::new(&mut dq), first: 0, row: step, bias: &[], adds: false };
            product::<S, Single, _>(left, d, right, &store);
            for query in 0..count {
                let to = whole.dq.at(((row + query) * heads + h) * d, d);
                for i in 0..d {
                    *to.add(i) = dq[i * step + query] * root;
                }
            }
            let at = |width: usize| (group * keys * heads + h) * width;
            let add = |c, width: usize| Store { c, first: at(width), row: heads * width, bias: &[], adds: true };
            let (p, ds) = (Left::rows(memory.p.as_ptr(), step), Left::rows(memory.ds.as_ptr(), step));
            product::<S, Single, _>(p, keys, memory.dy.right::<S>(e), &add(whole.dv, e));
            product::<S, Single, _>(ds, keys, memory.q.right::<S>(d), &add(whole.dk, d));
        }
        for key in 0..keys {
            let dk = whole.dk.at(((group * keys + key) * heads + h) * d, d);
            for i in 0..d {
                *dk.add(i) *= root;
            }
        }
    }
}

impl Memory<'_> {
    /// P and dS of M keys from number `key` on, of which `valid` are there.
    #[inline(always)]
    unsafe fn weights<S: Simd, const M: usize>(
        &mut self,
        (k, v): (*const f32, *const f32),
        (d, e): (usize, usize),
        (key, valid): (usize, usize),
        log_total: &[f32; 32],
        dot: &[f32; 32],
    ) {
        let (step, zero) = (2 * S::LANES, S::splat(0.0));
        let two = |x: &[f32; 32]| [S::sub(zero, S::load(x.as_ptr())), S::sub(zero, S::load(x.as_ptr().add(S::LANES)))];
        let left = |start| Left { start, row: 1, step: M, segments: 1, hop: 0 };
        let s = tile::<S, Single, M>([zero; 2], left(k), d, self.q.lanes.as_ptr(), step);
        let dp = tile::<S, Single, M>(two(dot), left(v), e, self.dy.lanes.as_ptr(), step);
        let below = two(log_total);
        for (r, (s, dp)) in s.into_iter().zip(dp).enumerate() {
            for i in 0..2 {
                let at = (key + r) * step + i * S::LANES;
                let p = if r < valid { exp2::<S>(S::max(S::splat(-1e30), S::add(s[i], below[i]))) } else { zero };
                S::store(self.p.as_mut_ptr().add(at), p);
                S::store(self.ds.as_mut_ptr().add(at), S::mul(p, dp[i]));
            }
        }
    }
}

/// The gradients of q, k and v. All threads work, each on its own heads.
///
/// # Panics
/// Where the sizes do not agree.
pub fn gradient(isa: Isa, shape: Shape, past: Past<'_>) -> [Vec<f32>; 3] {
    let Shape { groups, queries, keys, heads, .. } = shape;
    let [a, b, c, out] = shape.lengths();
    assert_eq!([past.q.len(), past.k.len(), past.v.len(), past.y.len(), past.dy.len()], [a, b, c, out, out]);
    assert!(keys > 0 && past.log_total.len() == groups * heads * queries);
    let (mut dq, mut dk, mut dv) = (vec![0f32; a], vec![0f32; b], vec![0f32; c]);
    let [q, k, v] = [&mut dq, &mut dk, &mut dv].map(|x| Shared::new(x));
    let whole = Whole { past, shape, dq: q, dk: k, dv: v };
    (0..groups * heads).into_par_iter().for_each(|i| {
        let whole = &whole;
        // SAFETY: `isa` is here; the sizes were checked; each head writes its own columns.
        unsafe { dispatch(isa, OneHead(*whole, i / heads, i % heads)) };
    });
    [dq, dk, dv]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::attention::attention;
    use crate::kernel::gemm::tests::ramp;

    #[test]
    fn gradient_equals_finite_differences_along_a_direction() {
        for shape in [
            Shape { groups: 2, queries: 5, keys: 7, heads: 2, d: 4, e: 3 },
            Shape { groups: 1, queries: 70, keys: 41, heads: 3, d: 9, e: 35 },
        ] {
            let [a, b, c, out] = shape.lengths();
            let (x, dy) = ([ramp(a, 1), ramp(b, 2), ramp(c, 3)], ramp(out, 4));
            for isa in Isa::all() {
                let run = |x: &[Vec<f32>; 3], log_total: Option<&mut [f32]>| {
                    let mut y = vec![0.0; out];
                    attention(isa, Precision::F32, shape, [&x[0], &x[1], &x[2]], &mut y, log_total);
                    y
                };
                let mut log_total = vec![0.0; shape.groups * shape.heads * shape.queries];
                let y = run(&x, Some(&mut log_total));
                let past = Past { q: &x[0], k: &x[1], v: &x[2], y: &y, log_total: &log_total, dy: &dy };
                let grads = gradient(isa, shape, past);
                for (i, grad) in grads.iter().enumerate() {
                    let way = ramp(grad.len(), 5);
                    let along: f64 = grad.iter().zip(&way).map(|(g, w)| f64::from(g * w)).sum();
                    let moved = |step: f32| -> f64 {
                        let mut x = x.clone();
                        x[i].iter_mut().zip(&way).for_each(|(x, w)| *x += step * w);
                        run(&x, None).iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
                    };
                    let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                    assert!((along - slope).abs() < 2e-3 * slope.abs().max(0.1), "{isa:?} {i}: {along} {slope}");
                }
            }
        }
    }
}
