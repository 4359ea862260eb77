//! Scaled dot-product attention that never holds the matrix of scores.
//!
//! y = softmax(Q K^T / sqrt d) V. Two vectors of queries, one query a lane, run through the keys ROWS at a time. Their
//! scores, in units of log 2, are taken relative to a reference m that each query keeps; 2^(s - m) stays in the nearest
//! cache until some keys are together and is then multiplied by their values. m starts as the largest of the first
//! scores and is raised only when a score exceeds it by much, so that most scores cost no comparison of their
//! own and sums are never scaled for nothing. All sums are lane by lane; nothing is added across lanes.

use rayon::prelude::*;

use super::buffer::{Buffer, Scratch, Shared};
use super::gemm::Precision;
use super::product::{Factor, Pairs, Single};
use super::simd::{dispatch, Isa, Job, Simd};
use head::{attend, Head, Keys, Queries, Sizes};

pub mod gradient;
pub(super) mod head;

/// Queries of one head that a thread takes at a time.
const QUERIES: usize = 128;
/// Heads with fewer queries than this are taken whole.
const SMALL: usize = 1024;

/// Attention of many groups of tokens, each with all its heads side by side in a row.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Groups G that do not see each other.
    pub groups: usize,
    /// Queries in a group.
    pub queries: usize,
    /// Keys in a group.
    pub keys: usize,
    /// Heads side by side in a row.
    pub heads: usize,
    /// Width of a query and of a key of one head.
    pub d: usize,
    /// Width of a value of one head.
    pub e: usize,
}

impl Shape {
    fn sizes(&self) -> Sizes {
        Sizes { n: self.keys, d: self.d, e: self.e }
    }

    /// Values of queries, keys, values and results.
    pub fn lengths(&self) -> [usize; 4] {
        let Shape { groups, queries, keys, heads, d, e } = *self;
        let all = |rows: usize, width: usize| [rows, heads, width].iter().fold(groups, |n, m| n.saturating_mul(*m));
        [all(queries, d), all(keys, d), all(keys, e), all(queries, e)]
    }
}

#[derive(Clone, Copy)]
struct Whole<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    y: Shared<'a>,
    log_total: Option<Shared<'a>>,
    shape: Shape,
    precision: Precision,
    isa: Isa,
}

impl Whole<'_> {
    /// Packs the keys of a head into `words`.
    #[inline(always)]
    unsafe fn pack<F: Factor>(&self, group: usize, head: usize, words: &mut [f32]) -> Keys {
        let Shape { keys, heads, d, e, .. } = self.shape;
        let of = |x: &[f32], width: usize| Head {
            start: x.as_ptr().wrapping_add((group * keys * heads + head) * width),
            row: heads * width,
        };
        Keys::pack::<F>(self.isa.rows(), of(self.k, d), of(self.v, e), self.shape.sizes(), words)
    }

    /// `count` queries of a head from `first` on.
    #[inline(always)]
    fn queries(&self, group: usize, head: usize, first: usize, count: usize) -> Queries {
        let Shape { queries, heads, d, e, .. } = self.shape;
        let row = group * queries + first;
        let start = self.q.as_ptr().wrapping_add((row * heads + head) * d);
        let log_total = |all: Shared<'_>| all.at((group * heads + head) * queries + first, count);
        Queries {
            q: Head { start, row: heads * d },
            count,
            y: self.y.at((row * heads + head) * e, (count.max(1) - 1) * heads * e + e),
            y_row: heads * e,
            log_total: self.log_total.map_or(std::ptr::null_mut(), log_total),
        }
    }
}

/// All of a small head.
struct SmallHead<'a>(&'a Whole<'a>, usize, usize);

impl Job for SmallHead<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let SmallHead(whole, group, head) = self;
        let mut words = Scratch::take(Keys::words(whole.precision, S::ROWS, whole.shape.sizes()));
        let queries = whole.queries(group, head, 0, whole.shape.queries);
        match whole.precision {
            Precision::F32 => attend::<S, Single>(queries, &whole.pack::<Single>(group, head, &mut words)),
            Precision::Bf16 => attend::<S, Pairs>(queries, &whole.pack::<Pairs>(group, head, &mut words)),
        }
    }
}

/// Some queries of a large head.
struct SomeQueries<'a>(&'a Whole<'a>, Keys, Queries);

impl Job for SomeQueries<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        match self.0.precision {
            Precision::F32 => attend::<S, Single>(self.2, &self.1),
            Precision::Bf16 => attend::<S, Pairs>(self.2, &self.1),
        }
    }
}

/// y (G, queries, heads e) = softmax(q k^T / sqrt d) v for q (G, queries, heads d), k (G, keys, heads d) and
/// v (G, keys, heads e). `log_total` (G, heads, queries), where wanted, gets log2 of the sum of 2^(score / ln 2), from
/// which the gradient finds the weights again. All threads work.
///
/// # Panics
/// Where the sizes do not agree, or there are no keys.
pub fn attention(
    isa: Isa,
    precision: Precision,
    shape: Shape,
    [q, k, v]: [&[f32]; 3],
    y: &mut [f32],
    log_total: Option<&mut [f32]>,
) {
    let Shape { groups, queries, keys, heads, .. } = shape;
    assert_eq!([q.len(), k.len(), v.len(), y.len()], shape.lengths());
    assert!(precision == Precision::F32 || isa.can_bf16());
    assert!(keys > 0 && log_total.as_ref().is_none_or(|l| l.len() == groups * heads * queries));
    let (y, log_total) = (Shared::new(y), log_total.map(Shared::new));
    let whole = Whole { q, k, v, y, log_total, shape, precision, isa };
    if queries.max(keys) <= SMALL {
        // SAFETY: `isa` is one of this processor's; the sizes were checked; each head writes its own columns.
        (0..groups * heads).into_par_iter().for_each(|i| unsafe {
            dispatch(isa, SmallHead(&whole, i / heads, i % heads));
        });
        return;
    }
    let mut words = Buffer::zeros(Keys::words(precision, isa.rows(), shape.sizes()));
    for (group, head) in (0..groups * heads).map(|i| (i / heads, i % heads)) {
        // SAFETY: k and v were checked to have these rows; `words` lives until the threads below are done.
        let packed = unsafe {
            match precision {
                Precision::F32 => whole.pack::<Single>(group, head, &mut words),
                Precision::Bf16 => whole.pack::<Pairs>(group, head, &mut words),
            }
        };
        (0..queries.div_ceil(QUERIES)).into_par_iter().for_each(|i| {
            let first = i * QUERIES;
            let some = whole.queries(group, head, first, QUERIES.min(queries - first));
            // SAFETY: as above; each thread writes its own rows.
            unsafe { dispatch(isa, SomeQueries(&whole, packed, some)) };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::tests::{ramp, worst};

    /// The definition in f64.
    fn definition(shape: Shape, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
        let Shape { groups, queries, keys, heads, d, e } = shape;
        let mut y = vec![0.0; groups * queries * heads * e];
        for (g, h) in (0..groups * heads).map(|i| (i / heads, i % heads)) {
            for n in 0..queries {
                let dot = |m: usize| -> f64 {
                    let at = |x: &[f32], row: usize, i: usize| f64::from(x[(row * heads + h) * d + i]);
                    (0..d).map(|i| at(q, g * queries + n, i) * at(k, g * keys + m, i)).sum::<f64>() / (d as f64).sqrt()
                };
                let scores: Vec<f64> = (0..keys).map(dot).collect();
                let most = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
                let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
                let total: f64 = weights.iter().sum();
                for i in 0..e {
                    let value = |m: usize| f64::from(v[((g * keys + m) * heads + h) * e + i]);
                    y[((g * queries + n) * heads + h) * e + i] =
                        (0..keys).map(|m| weights[m] * value(m)).sum::<f64>() / total;
                }
            }
        }
        y
    }

    fn check(shape: Shape, gain: f32, tolerance: f64) {
        let [a, b, c, out] = shape.lengths();
        let q: Vec<f32> = ramp(a, 1).iter().map(|x| x * gain).collect();
        let (k, v) = (ramp(b, 2), ramp(c, 3));
        let want = definition(shape, &q, &k, &v);
        for isa in Isa::all() {
            let mut y = vec![f32::NAN; out];
            attention(isa, Precision::F32, shape, [&q, &k, &v], &mut y, None);
            let worst = worst(&y, &want);
            assert!(worst < tolerance, "{isa:?} {shape:?}: {worst}");
        }
    }

    #[test]
    fn equals_the_definition_for_every_size() {
        check(Shape { groups: 2, queries: 5, keys: 3, heads: 2, d: 4, e: 3 }, 1.0, 1e-6);
        check(Shape { groups: 1, queries: 50, keys: 50, heads: 4, d: 16, e: 16 }, 1.0, 1e-6);
        check(Shape { groups: 1, queries: 33, keys: 401, heads: 1, d: 8, e: 13 }, 1.0, 1e-6);
        check(Shape { groups: 1, queries: 130, keys: 1030, heads: 2, d: 5, e: 6 }, 1.0, 1e-6);
    }

    #[test]
    fn scores_far_apart_neither_overflow_nor_vanish() {
        // Scores of some thousands: the reference must be raised many times.
        check(Shape { groups: 1, queries: 40, keys: 500, heads: 1, d: 16, e: 4 }, 2000.0, 1e-3);
    }

    #[test]
    fn one_key_gives_its_value_whatever_its_score() {
        let shape = Shape { groups: 1, queries: 2, keys: 1, heads: 1, d: 1, e: 2 };
        for isa in Isa::all() {
            let mut y = vec![0.0; 4];
            attention(isa, Precision::F32, shape, [&[-3e4, 3e4], &[1e4], &[5.0, 6.0]], &mut y, None);
            assert_eq!(y, [5.0, 6.0, 5.0, 6.0], "{isa:?}");
        }
    }

    #[test]
    fn pairs_of_bf16_are_as_near_as_their_rounding() {
        let shape = Shape { groups: 1, queries: 70, keys: 431, heads: 2, d: 16, e: 8 };
        let [a, b, c, out] = shape.lengths();
        let (q, k, v) = (ramp(a, 1), ramp(b, 2), ramp(c, 3));
        let want = definition(shape, &q, &k, &v);
        for isa in Isa::all().into_iter().filter(|isa| isa.can_bf16()) {
            let mut y = vec![f32::NAN; out];
            attention(isa, Precision::Bf16, shape, [&q, &k, &v], &mut y, None);
            let worst = worst(&y, &want);
            assert!(worst < 4e-3, "{isa:?}: {worst}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_never_counts() {
        // Three keys in a tile of more, all with scores below that of a key that is not there.
        let shape = Shape { groups: 1, queries: 1, keys: 3, heads: 1, d: 1, e: 1 };
        for isa in Isa::all() {
            let mut y = [0.0];
            attention(isa, Precision::F32, shape, [&[-1e16], &[1e15; 3], &[5.0, 6.0, 7.0]], &mut y, None);
            assert_eq!(y, [6.0], "{isa:?}");
            attention(isa, Precision::F32, shape, [&[-1e30], &[1e30; 3], &[5.0; 3]], &mut y, None);
            assert!(y[0].is_nan(), "{isa:?}: scores of minus infinity have no softmax");
            attention(isa, Precision::F32, shape, [&[1.0], &[1.0, f32::NAN, 1.0], &[5.0; 3]], &mut y, None);
            assert!(y[0].is_nan(), "{isa:?}");
        }
    }
}
