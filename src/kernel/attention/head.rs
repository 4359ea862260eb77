//! Attention of one head, some queries at a time, one query a lane.

use super::super::buffer::Scratch;
use super::super::gemm::Precision;
use super::super::math::{exp2, LOG2_E};
use super::super::product::{tile, Factor, Left};
use super::super::simd::{to_bf16, Simd};

/// Keys whose weights are kept before they meet their values; a multiple of every ROWS.
const TOGETHER: usize = 192;
/// How far, in powers of 2, a score may exceed the reference: sums of 2^64 are far from the end of f32.
const HEADROOM: f32 = 64.0;
/// The score of a key that is not there.
const NEVER: f32 = -1e30;

/// Rows of one head among the rows of a larger matrix.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Head {
    /// The first value of row 0.
    pub start: *const f32,
    /// Values from a row to the next.
    pub row: usize,
}

/// Keys and values of one head, packed or where they lie.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Keys {
    k: *const f32,
    /// From a tile of ROWS keys to the next, for each key; within a tile from a key to the next, and along d.
    k_strides: [usize; 3],
    /// Words of keys: f32 of one key or bf16 of two.
    v: *const f32,
    v_row: usize,
    sizes: Sizes,
}

// SAFETY: points at memory that is only read while any copy is in use.
unsafe impl Send for Keys {}
// SAFETY: as above.
unsafe impl Sync for Keys {}

/// Sizes of a head: keys, width of queries and keys, width of values.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Sizes {
    /// Keys.
    pub n: usize,
    /// Width of queries and keys.
    pub d: usize,
    /// Width of values.
    pub e: usize,
}

impl Keys {
    /// Keys and values of f32 where they lie.
    ///
    /// # Safety
    /// k and v have n rows of d and e values; rows of k up to the next multiple of ROWS can be read, whatever they hold;
    /// all of it outlives the result.
    #[inline(always)]
    pub unsafe fn in_place(k: Head, v: Head, sizes: Sizes) -> Keys {
        Keys { k: k.start, k_strides: [k.row, k.row, 1], v: v.start, v_row: v.row, sizes }
    }

    /// Words that the packed keys and values take.
    pub fn words(precision: Precision, rows: usize, sizes: Sizes) -> usize {
        let padded = sizes.n.next_multiple_of(rows);
        padded * precision.words(sizes.d) + precision.words(padded) * sizes.e
    }

    /// Packs keys and values into `words`, of [`Keys::words`] values.
    ///
    /// # Safety
    /// k and v have n rows of d and e values; `words` outlives the result.
    #[inline(always)]
    pub unsafe fn pack<F: Factor>(rows: usize, k: Head, v: Head, sizes: Sizes, words: &mut [f32]) -> Keys {
        let Sizes { n, d, e } = sizes;
        let (padded, depth) = (n.next_multiple_of(rows), F::PRECISION.words(d));
        let (tiles, values) = words.split_at_mut(padded * depth);
        for key in 0..padded {
            let tile = tiles.as_mut_ptr().add(key / rows * depth * rows + key % rows);
            let row = k.start.wrapping_add(key * k.row);
            for word in 0..depth {
                *tile.add(word * rows) = match F::PRECISION {
                    _ if key >= n => 0.0,
                    Precision::F32 => *row.add(word),
                    Precision::Bf16 => {
                        join(*row.add(2 * word), if 2 * word + 1 < d { *row.add(2 * word + 1) } else { 0.0 })
                    }
                };
            }
        }
        for (word, out) in values.chunks_exact_mut(e.max(1)).take(F::PRECISION.words(padded)).enumerate() {
            let at = |key: usize, i: usize| if key < n { *v.start.add(key * v.row + i) } else { 0.0 };
            for (i, out) in out.iter_mut().enumerate() {
                *out = match F::PRECISION {
                    Precision::F32 => at(word, i),
                    Precision::Bf16 => join(at(2 * word, i), at(2 * word + 1, i)),
                };
            }
        }
        Keys::packed(F::PRECISION, rows, words, sizes)
    }

    /// What [`Keys::pack`] left in `words`, which outlive the result.
    #[inline(always)]
    pub fn packed(precision: Precision, rows: usize, words: &[f32], sizes: Sizes) -> Keys {
        let depth = precision.words(sizes.d);
        let values = words[sizes.n.next_multiple_of(rows) * depth..].as_ptr();
        Keys { k: words.as_ptr(), k_strides: [depth, 1, rows], v: values, v_row: sizes.e, sizes }
    }
}

/// Two bf16 in a word.
#[inline(always)]
fn join(low: f32, high: f32) -> f32 {
    f32::from_bits(u32::from(to_bf16(high)) << 16 | u32::from(to_bf16(low)))
}

/// Queries on their way through the keys.
struct Block<'a, S: Simd> {
    /// Scaled queries, (words of d, 2 LANES).
    q: &'a mut [f32],
    /// 2^(s - m) of the keys since the last flush, (words, 2 LANES).
    weights: &'a mut [f32],
    /// Sum of weight times value, (e, 2 LANES).
    sum: &'a mut [f32],
    /// Keys in `weights`.
    kept: usize,
    /// Keys that `sum` has.
    flushed: usize,
    reference: [S::V; 2],
    total: [S::V; 2],
}

impl<S: Simd> Block<'_, S> {
    /// Scales, transposes and packs `count` queries.
    #[inline(always)]
    unsafe fn load<F: Factor>(&mut self, q: Head, count: usize, d: usize) {
        let (scale, width) = (LOG2_E / (d as f32).sqrt(), 2 * S::LANES);
        for (word, out) in self.q.chunks_exact_mut(width).enumerate() {
            for (lane, out) in out.iter_mut().enumerate() {
                let at = |i: usize| if lane < count && i < d { *q.start.add(lane * q.row + i) * scale } else { 0.0 };
                *out = match F::PRECISION {
                    Precision::F32 => at(word),
                    Precision::Bf16 => join(at(2 * word), at(2 * word + 1)),
                };
            }
        }
        self.sum.fill(0.0);
        (self.kept, self.flushed) = (0, 0);
        (self.reference, self.total) = ([S::splat(0.0); 2], [S::splat(0.0); 2]);
    }

    /// Runs through all keys.
    #[inline(always)]
    unsafe fn attend<F: Factor>(&mut self, keys: &Keys) {
        for first in (0..keys.sizes.n).step_by(S::ROWS) {
            let valid = S::ROWS.min(keys.sizes.n - first);
            if S::ROWS == 12 {
                self.score::<F, 12>(keys, first, valid);
            } else if S::ROWS == 6 {
                self.score::<F, 6>(keys, first, valid);
            } else {
                self.score::<F, 4>(keys, first, valid);
            }
            if self.kept + S::ROWS > TOGETHER {
                self.flush::<F>(keys);
            }
        }
        self.flush::<F>(keys);
    }

    /// The weights of M keys, of which `valid` are there.
    #[inline(always)]
    unsafe fn score<F: Factor, const M: usize>(&mut self, keys: &Keys, first: usize, valid: usize) {
        let (depth, width) = (F::PRECISION.words(keys.sizes.d), 2 * S::LANES);
        let zero = S::splat(0.0);
        let below = [S::sub(zero, self.reference[0]), S::sub(zero, self.reference[1])];
        let [of_key, row, step] = keys.k_strides;
        let left = Left { start: keys.k.add(first * of_key), row, step, segments: 1, hop: 0 };
        let mut s = tile::<S, F, M>(below, left, depth, self.q.as_ptr(), width);
        let mut most = s[0];
        for s in s.iter().take(valid).skip(1) {
            most = [S::max(most[0], s[0]), S::max(most[1], s[1])];
        }
        let limit = S::splat(HEADROOM);
        if first == 0 || S::any_above(most[0], limit) || S::any_above(most[1], limit) {
            let step = self.raise::<F>(keys, most, first == 0);
            for s in &mut s {
                *s = [S::sub(s[0], step[0]), S::sub(s[1], step[1])];
            }
        }
        for s in s.iter_mut().skip(valid) {
            *s = [S::splat(NEVER); 2];
        }
        for i in 0..2 {
            let mut sum = zero;
            for r in (0..M).step_by(2) {
                let (a, b) = (exp2::<S>(s[r][i]), exp2::<S>(s[r + 1][i]));
                sum = S::add(sum, S::add(a, b));
                let at = self.weights.as_mut_ptr().add(i * S::LANES);
                match F::PRECISION {
                    Precision::F32 => {
                        S::store(at.add((self.kept + r) * width), a);
                        S::store(at.add((self.kept + r + 1) * width), b);
                    }
                    Precision::Bf16 => S::store(at.add((self.kept + r) / 2 * width), S::pair(a, b)),
                }
            }
            self.total[i] = S::add(self.total[i], sum);
        }
        self.kept += valid;
    }

    /// Raises the reference to `most` where that is more, or to it at the start; gives by how much.
    #[inline(always)]
    unsafe fn raise<F: Factor>(&mut self, keys: &Keys, most: [S::V; 2], start: bool) -> [S::V; 2] {
        let zero = S::splat(0.0);
        let step = if start { most } else { [S::max(most[0], zero), S::max(most[1], zero)] };
        self.reference = [S::add(self.reference[0], step[0]), S::add(self.reference[1], step[1])];
        if !start {
            self.flush::<F>(keys); // what is kept was taken relative to the old reference
            let shrink = [exp2::<S>(S::sub(zero, step[0])), exp2::<S>(S::sub(zero, step[1]))];
            for (i, shrink) in shrink.into_iter().enumerate() {
                self.total[i] = S::mul(self.total[i], shrink);
                for row in self.sum.chunks_exact_mut(2 * S::LANES) {
                    let p = row.as_mut_ptr().add(i * S::LANES);
                    S::store(p, S::mul(S::load(p), shrink));
                }
            }
        }
        step
    }

    /// Multiplies the kept weights by their values.
    #[inline(always)]
    unsafe fn flush<F: Factor>(&mut self, keys: &Keys) {
        if self.kept == 0 {
            return;
        }
        let mut row = 0;
        while row < keys.sizes.e {
            let left = keys.sizes.e - row;
            row += if S::ROWS == 12 && left >= 12 {
                self.values::<F, 12>(keys, row)
            } else if S::ROWS == 12 && left >= 8 {
                self.values::<F, 8>(keys, row)
            } else if S::ROWS == 6 && left >= 6 {
                self.values::<F, 6>(keys, row)
            } else if left >= 4 {
                self.values::<F, 4>(keys, row)
            } else {
                self.values::<F, 1>(keys, row)
            };
        }
        self.flushed += self.kept;
        self.kept = 0;
    }

    /// M of the e sums.
    #[inline(always)]
    unsafe fn values<F: Factor, const M: usize>(&mut self, keys: &Keys, row: usize) -> usize {
        let (done, words, width) = (F::PRECISION.words(self.flushed), F::PRECISION.words(self.kept), 2 * S::LANES);
        let start = keys.v.wrapping_add(done * keys.v_row + row);
        let left = Left { start, row: 1, step: keys.v_row, segments: 1, hop: 0 };
        let add = tile::<S, F, M>([S::splat(0.0); 2], left, words, self.weights.as_ptr(), width);
        for (r, add) in add.into_iter().enumerate() {
            let p = self.sum.as_mut_ptr().add((row + r) * width);
            S::store(p, S::add(S::load(p), add[0]));
            S::store(p.add(S::LANES), S::add(S::load(p.add(S::LANES)), add[1]));
        }
        M
    }

    /// sum / total of `count` queries to rows of y; the logarithm of the total, to base 2, to `log_total`.
    #[inline(always)]
    unsafe fn store(&mut self, y: *mut f32, y_row: usize, count: usize, e: usize, log_total: *mut f32) {
        let width = 2 * S::LANES;
        for i in 0..2 {
            let share = S::div(S::splat(1.0), self.total[i]);
            for row in self.sum.chunks_exact_mut(width) {
                let p = row.as_mut_ptr().add(i * S::LANES);
                S::store(p, S::mul(S::load(p), share));
            }
        }
        for lane in 0..count {
            let y = y.add(lane * y_row);
            for i in 0..e {
                *y.add(i) = self.sum[i * width + lane];
            }
        }
        if !log_total.is_null() {
            let p = self.weights.as_mut_ptr();
            for i in 0..2 {
                S::store(p.add(i * S::LANES), self.reference[i]);
                S::store(p.add(width + i * S::LANES), self.total[i]);
            }
            for lane in 0..count {
                *log_total.add(lane) = *p.add(lane) + (*p.add(width + lane)).log2();
            }
        }
    }
}

/// Rows that attend: `count` queries, where their results go, and where the logarithms of their totals go (or null).
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Queries {
    /// The queries.
    pub q: Head,
    /// How many.
    pub count: usize,
    /// Results of query 0.
    pub y: *mut f32,
    /// Values from a result to the next.
    pub y_row: usize,
    /// log2 of the sum of 2^score, for each query.
    pub log_total: *mut f32,
}

/// Attention of some queries to keys, on this thread.
///
/// # Safety
/// The processor has the instructions of `S`; all pointers reach what their sizes say; y is nobody else's.
#[inline(always)]
pub(in crate::kernel) unsafe fn attend<S: Simd, F: Factor>(queries: Queries, keys: &Keys) {
    let (width, Sizes { d, e, .. }) = (2 * S::LANES, keys.sizes);
    let depth = F::PRECISION.words(d);
    let mut memory = Scratch::take((depth + TOGETHER + e) * width);
    let (q, rest) = memory.split_at_mut(depth * width);
    let (weights, sum) = rest.split_at_mut(TOGETHER * width);
    let zero = [S::splat(0.0); 2];
    let mut block = Block::<S> { q, weights, sum, kept: 0, flushed: 0, reference: zero, total: zero };
    for first in (0..queries.count).step_by(width) {
        let count = width.min(queries.count - first);
        let q = Head { start: queries.q.start.add(first * queries.q.row), ..queries.q };
        block.load::<F>(q, count, d);
        block.attend::<F>(keys);
        let log_total = if queries.log_total.is_null() { queries.log_total } else { queries.log_total.add(first) };
        block.store(queries.y.add(first * queries.y_row), queries.y_row, count, e, log_total);
    }
}
