//! The layers of a DiT block, each in one pass over some tokens while they are in the cache.
//!
//! Every layer reads h, normalises and modulates, computes, and adds its result to h through a gate:
//! h += gate * f(norm(h) (1 + scale) + shift). Attention over time takes all frames of some places at a time; everything
//! else takes one frame at a time, through all of its layers. Tokens are rows of h (T P, W), frame by frame.

use rayon::prelude::*;

use super::attention::head::{attend, Head, Keys, Queries, Sizes};
use super::buffer::{Scratch, Shared};
use super::gemm::{to_words, Packed, Precision};
use super::math::gelu;
use super::norm::row_moments;
use super::product::{lanes_of, product, read, write, Epilogue, Factor, Left, Pairs, Right, Single, Store};
use super::simd::{dispatch, Job, Simd};
use weight::View;
pub use weight::{Block, CrossAttention, Dense, Mlp, Seen, SelfAttention};

mod weight;

/// Added to the variance in layer normalisation.
const EPS: f32 = 1e-6;
/// Tokens of the temporal attention that one thread has in work, about.
const TOKENS: usize = 300;
/// Tokens of the multilayer perceptron that one thread has in work.
const MLP_TOKENS: usize = 72;
/// Hidden units of the multilayer perceptron that are in the cache at a time; a multiple of every panel's width.
const HIDDEN: usize = 512;

/// shift, scale and gate of one layer, each (W).
#[derive(Debug, Clone, Copy)]
pub struct Modulation<'a> {
    /// Added after the normalisation.
    pub shift: &'a [f32],
    /// 1 + this multiplies the normalised tokens.
    pub scale: &'a [f32],
    /// Multiplies what the layer gives.
    pub gate: &'a [f32],
}

/// Which tokens a thread has in work: `groups` groups of `each`.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    first: usize,
    groups: usize,
    each: usize,
    /// From a token of a group to the next; groups follow one another.
    step: usize,
}

impl Tokens {
    /// Tokens side by side.
    fn run(first: usize, count: usize) -> Self {
        Tokens { first, groups: 1, each: count, step: 1 }
    }

    fn count(&self) -> usize {
        self.groups * self.each
    }

    /// The token of a row.
    #[inline(always)]
    fn at(&self, row: usize) -> usize {
        self.first + row / self.each + row % self.each * self.step
    }
}

/// h += gate (c + bias), token by token.
#[derive(Clone, Copy)]
struct Gate<'a> {
    h: Shared<'a>,
    tokens: Tokens,
    width: usize,
    gate: &'a [f32],
    bias: &'a [f32],
}

impl Epilogue for Gate<'_> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, row: usize, column: usize, c: [S::V; 2], n: usize) {
        let p = self.h.at(self.tokens.at(row) * self.width + column, n);
        for (i, mut v) in c.into_iter().enumerate() {
            let (at, lanes) = (i * S::LANES, lanes_of::<S>(n, i));
            if lanes == 0 {
                break;
            }
            if !self.bias.is_empty() {
                v = S::add(v, read::<S>(self.bias.as_ptr().add(column + at), lanes));
            }
            let gate = read::<S>(self.gate.as_ptr().add(column + at), lanes);
            write::<S>(p.add(at), S::fma(gate, v, read::<S>(p.add(at), lanes)), lanes);
        }
    }
}

/// gelu(c + bias) as the left factor of the next product.
#[derive(Clone, Copy)]
struct Gelu<'a, F: Factor> {
    out: Shared<'a>,
    /// 32-bit words of a row.
    depth: usize,
    bias: &'a [f32],
    factor: F,
}

impl<F: Factor> Epilogue for Gelu<'_, F> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, row: usize, column: usize, c: [S::V; 2], n: usize) {
        let p = self.out.at(row * self.depth, self.depth);
        for (i, v) in c.into_iter().enumerate() {
            let (at, lanes) = (column + i * S::LANES, lanes_of::<S>(n, i));
            if lanes == 0 {
                break;
            }
            let v = gelu::<S>(S::add(v, read::<S>(self.bias.as_ptr().add(at), lanes)));
            self.factor.keep::<S>(p, at, v, lanes);
        }
    }
}

/// One layer at work on some tokens.
#[derive(Clone, Copy)]
struct Layer<'a> {
    h: Shared<'a>,
    width: usize,
    heads: usize,
    modulation: Modulation<'a>,
}

impl<'a> Layer<'a> {
    /// norm(h) (1 + scale) + shift as rows of a left factor.
    #[inline(always)]
    unsafe fn enter<S: Simd, F: Factor>(&self, factor: F, tokens: Tokens, rows: &mut [f32]) {
        let (width, depth) = (self.width, F::PRECISION.words(self.width));
        for (row, out) in rows.chunks_exact_mut(depth).enumerate() {
            let h = self.h.at(tokens.at(row) * width, width);
            let (mean, inverse) = row_moments::<S>(h, width, EPS);
            for at in (0..width).step_by(S::LANES) {
                let lanes = S::LANES.min(width - at);
                let normal = S::mul(S::sub(read::<S>(h.add(at), lanes), S::splat(mean)), S::splat(inverse));
                let scale = read::<S>(self.modulation.scale.as_ptr().add(at), lanes);
                let shift = read::<S>(self.modulation.shift.as_ptr().add(at), lanes);
                let v = S::fma(normal, S::add(scale, S::splat(1.0)), shift);
                factor.keep::<S>(out.as_mut_ptr(), at, v, lanes);
            }
        }
    }

    fn gate(&self, tokens: Tokens, bias: &'a [f32]) -> Gate<'a> {
        Gate { h: self.h, tokens, width: self.width, gate: self.modulation.gate, bias }
    }

    /// Gives y (rows, W) of f32 through `out` to h; `rows` is room for it as a left factor.
    #[inline(always)]
    unsafe fn leave<S: Simd, F: Factor>(&self, y: &[f32], rows: &mut [f32], tokens: Tokens, out: &'a Dense) {
        let (width, depth) = (self.width, F::PRECISION.words(self.width));
        let left = match F::PRECISION {
            Precision::F32 => Left::rows(y.as_ptr(), width),
            Precision::Bf16 => {
                y.chunks_exact(width).zip(rows.chunks_exact_mut(depth)).for_each(|(y, row)| to_words(y, row));
                Left::rows(rows.as_ptr(), depth)
            }
        };
        product::<S, F, _>(left, tokens.count(), out.weight.right(1), &self.gate(tokens, &out.bias));
    }

    /// Attention within each group of tokens.
    #[inline(always)]
    unsafe fn attend<S: Simd, F: Factor>(&self, factor: F, layer: &'a SelfAttention, tokens: Tokens) {
        let (width, count, d) = (self.width, tokens.count(), self.width / self.heads);
        let mut rows = Scratch::take(count * F::PRECISION.words(width));
        self.enter::<S, F>(factor, tokens, &mut rows);
        let mut qkv = Scratch::take((count + S::ROWS) * 3 * width); // keys are read ROWS at a time
        let c = Shared::new(&mut qkv);
        let store = Store { c, first: 0, row: 3 * width, bias: &layer.qkv.bias, adds: false };
        let left = Left::rows(rows.as_ptr(), F::PRECISION.words(width));
        product::<S, F, _>(left, count, layer.qkv.weight.right(1), &store);
        let mut y = Scratch::take(count * width);
        let sizes = Sizes { n: tokens.each, d, e: d };
        let mut words = Scratch::take(Keys::words(F::PRECISION, S::ROWS, sizes));
        for (group, head) in (0..tokens.groups).flat_map(|g| (0..self.heads).map(move |head| (g, head))) {
            let row = group * tokens.each;
            let part = |which: usize| Head {
                start: qkv.as_ptr().wrapping_add(row * 3 * width + which * width + head * d),
                row: 3 * width,
            };
            let keys = match F::PRECISION {
                Precision::F32 => Keys::in_place(part(1), part(2), sizes),
                Precision::Bf16 => Keys::pack::<F>(S::ROWS, part(1), part(2), sizes, &mut words),
            };
            let y = y.as_mut_ptr().add(row * width + head * d);
            let queries = Queries { q: part(0), count: tokens.each, y, y_row: width, log_total: std::ptr::null_mut() };
            attend::<S, F>(queries, &keys);
        }
        self.leave::<S, F>(&y, &mut rows, tokens, &layer.out);
    }

    /// Attention of every token to the ECG.
    #[inline(always)]
    unsafe fn cross<S: Simd, F: Factor>(&self, factor: F, layer: &'a CrossAttention, seen: &Seen, tokens: Tokens) {
        let (width, count, d) = (self.width, tokens.count(), self.width / self.heads);
        let (words, each, n) = match &seen.0 {
            View::Tokens { words, each, count } => (words, *each, *count),
            View::Constant(y) => {
                for row in 0..count {
                    let h = self.h.at(tokens.at(row) * width, width);
                    for at in (0..width).step_by(S::LANES) {
                        let lanes = S::LANES.min(width - at);
                        let (gate, y) = (self.modulation.gate.as_ptr().add(at), y.as_ptr().add(at));
                        let v = S::fma(read::<S>(gate, lanes), read::<S>(y, lanes), read::<S>(h.add(at), lanes));
                        write::<S>(h.add(at), v, lanes);
                    }
                }
                return;
            }
        };
        let mut rows = Scratch::take(count * F::PRECISION.words(width));
        self.enter::<S, F>(factor, tokens, &mut rows);
        let mut q = Scratch::take(count * width);
        let store = Store { c: Shared::new(&mut q), first: 0, row: width, bias: &layer.q.bias, adds: false };
        let left = Left::rows(rows.as_ptr(), F::PRECISION.words(width));
        product::<S, F, _>(left, count, layer.q.weight.right(1), &store);
        let mut y = Scratch::take(count * width);
        for head in 0..self.heads {
            let sizes = Sizes { n, d, e: d };
            let keys = Keys::packed(F::PRECISION, S::ROWS, &words[head * each..], sizes);
            let q = Head { start: q.as_ptr().add(head * d), row: width };
            let y = y.as_mut_ptr().add(head * d);
            let queries = Queries { q, count, y, y_row: width, log_total: std::ptr::null_mut() };
            attend::<S, F>(queries, &keys);
        }
        self.leave::<S, F>(&y, &mut rows, tokens, &layer.out);
    }

    /// The multilayer perceptron, some hidden units at a time.
    #[inline(always)]
    unsafe fn mlp<S: Simd, F: Factor>(&self, factor: F, layer: &'a Mlp, tokens: Tokens) {
        let depth = F::PRECISION.words(self.width);
        let hidden = layer.up.weight.n();
        let mut rows = Scratch::take(MLP_TOKENS * depth);
        let mut between = Scratch::take(MLP_TOKENS * F::PRECISION.words(HIDDEN));
        for first in (0..tokens.count()).step_by(MLP_TOKENS) {
            let some = Tokens::run(tokens.first + first, MLP_TOKENS.min(tokens.count() - first));
            let count = some.count();
            self.enter::<S, F>(factor, some, &mut rows[..count * depth]);
            for unit in (0..hidden).step_by(HIDDEN) {
                let n = HIDDEN.min(hidden - unit);
                let words = F::PRECISION.words(n);
                let out = Shared::new(&mut between);
                let up = Gelu { out, depth: words, bias: &layer.up.bias[unit..unit + n], factor };
                let left = Left::rows(rows.as_ptr(), depth);
                product::<S, F, _>(left, count, layer.up.weight.columns(unit, n), &up);
                let bias: &[f32] = if unit == 0 { &layer.down.bias } else { &[] };
                let left = Left::rows(between.as_ptr(), words);
                product::<S, F, _>(left, count, layer.down.weight.depths(unit, n), &self.gate(some, bias));
            }
        }
    }
}

/// Attention over time at some places.
struct Temporal<'a>(Layer<'a>, &'a SelfAttention, Tokens);

impl Job for Temporal<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Temporal(layer, weights, tokens) = self;
        match weights.qkv.weight.precision() {
            Precision::F32 => layer.attend::<S, Single>(Single, weights, tokens),
            Precision::Bf16 => layer.attend::<S, Pairs>(Pairs, weights, tokens),
        }
    }
}

/// The layers that follow, on one frame.
struct Frame<'a> {
    block: &'a Block,
    layers: [Layer<'a>; 3],
    seen: &'a Seen,
    tokens: Tokens,
}

impl Frame<'_> {
    #[inline(always)]
    unsafe fn all<S: Simd, F: Factor>(self, factor: F) {
        let Frame { block, layers: [cross, spatial, mlp], seen, tokens } = self;
        cross.cross::<S, F>(factor, &block.cross, seen, tokens);
        spatial.attend::<S, F>(factor, &block.spatial, tokens);
        mlp.mlp::<S, F>(factor, &block.mlp, tokens);
    }
}

impl Job for Frame<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        match self.block.mlp.up.weight.precision() {
            Precision::F32 => self.all::<S, Single>(Single),
            Precision::Bf16 => self.all::<S, Pairs>(Pairs),
        }
    }
}

impl Block {
    /// h (T P, W) through the block. Modulations in the order of the layers: temporal, cross, spatial, MLP. All threads
    /// work.
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn forward(
        &self,
        h: &mut [f32],
        (frames, places): (usize, usize),
        [temporal, cross, spatial, mlp]: [Modulation<'_>; 4],
        seen: &Seen,
    ) {
        let (width, isa) = (self.temporal.out.weight.n(), self.temporal.out.weight.isa());
        assert_eq!(h.len(), frames * places * width);
        let d = width / self.heads;
        assert!(match &seen.0 {
            View::Constant(y) => y.len() == width,
            View::Tokens { words, each, count } => {
                let sizes = Sizes { n: *count, d, e: d };
                let precision = self.temporal.out.weight.precision();
                *each == Keys::words(precision, isa.rows(), sizes) && words.len() == each * self.heads
            }
        });
        for m in [temporal, cross, spatial, mlp] {
            assert_eq!([m.shift.len(), m.scale.len(), m.gate.len()], [width; 3]);
        }
        let (h, heads) = (Shared::new(h), self.heads);
        let layer = |modulation| Layer { h, width, heads, modulation };
        let some = (TOKENS / frames.max(1)).max(1);
        (0..places.div_ceil(some)).into_par_iter().for_each(|i| {
            let groups = some.min(places - i * some);
            let tokens = Tokens { first: i * some, groups, each: frames, step: places };
            // SAFETY: the weights were packed for an instruction set that is here; each thread has its own places.
            unsafe { dispatch(isa, Temporal(layer(temporal), &self.temporal, tokens)) };
        });
        (0..frames).into_par_iter().for_each(|frame| {
            let tokens = Tokens::run(frame * places, places);
            let layers = [layer(cross), layer(spatial), layer(mlp)];
            // SAFETY: as above; each thread has its own frames.
            unsafe { dispatch(isa, Frame { block: self, layers, seen, tokens }) };
        });
    }
}

/// The columns `first..first + n` of the right factor, whole panels.
impl Packed {
    fn columns(&self, first: usize, n: usize) -> Right {
        let right = self.right(1);
        debug_assert_eq!(first % right.width, 0);
        Right { start: right.start.wrapping_add(first / right.width * right.panel), n, ..right }
    }

    /// The rows `first..first + n` of the right factor.
    fn depths(&self, first: usize, n: usize) -> Right {
        let right = self.right(1);
        let words = |k: usize| self.precision().words(k);
        Right { start: right.start.wrapping_add(words(first) * right.width), depth: words(n), ..right }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::tests::{ramp, worst};
    use crate::kernel::Isa;

    /// Nothing is a whole number of vectors, tiles, units of hidden layer or tokens at a time.
    const FRAMES: usize = 13;
    const PLACES: usize = 100;
    const WIDTH: usize = 40;
    const HEADS: usize = 5;
    const HIDDEN_UNITS: usize = 650;

    fn block(isa: Isa, precision: Precision) -> Block {
        let dense = |seed: u64, k: usize, n: usize| {
            let weight: Vec<f32> = ramp(k * n, seed).iter().map(|w| w * (3.0 / k as f32).sqrt()).collect();
            Dense::new(isa, precision, &weight, &ramp(n, seed + 50), k)
        };
        let own = |seed| SelfAttention { qkv: dense(seed, WIDTH, 3 * WIDTH), out: dense(seed + 1, WIDTH, WIDTH) };
        let (q, kv) = (dense(5, WIDTH, WIDTH), dense(6, WIDTH, 2 * WIDTH));
        let cross = CrossAttention { q, kv, out: dense(7, WIDTH, WIDTH) };
        let mlp = Mlp { up: dense(8, WIDTH, HIDDEN_UNITS), down: dense(9, HIDDEN_UNITS, WIDTH) };
        Block::new(own(1), cross, own(3), mlp, HEADS)
    }

    fn run(block: &Block, ecg: &[f32]) -> Vec<f32> {
        let mut h = ramp(FRAMES * PLACES * WIDTH, 20);
        let all = ramp(12 * WIDTH, 21);
        let part = |i: usize| &all[i * WIDTH..(i + 1) * WIDTH];
        let of = |i: usize| Modulation { shift: part(i), scale: part(i + 1), gate: part(i + 2) };
        block.forward(&mut h, (FRAMES, PLACES), [of(0), of(3), of(6), of(9)], &block.see(ecg));
        h
    }

    #[test]
    fn every_instruction_set_gives_the_same_block() {
        let ecg = ramp(7 * WIDTH, 22);
        let want: Vec<f64> = run(&block(Isa::all()[0], Precision::F32), &ecg).into_iter().map(f64::from).collect();
        assert!(want.iter().all(|v| v.is_finite()));
        for isa in Isa::all() {
            assert!(worst(&run(&block(isa, Precision::F32), &ecg), &want) < 2e-5, "{isa:?}");
            if isa.can_bf16() {
                let off = worst(&run(&block(isa, Precision::Bf16), &ecg), &want);
                assert!(off > 0.0 && off < 0.1, "{isa:?}: {off}");
            }
        }
    }

    #[test]
    fn equal_tokens_give_what_almost_equal_tokens_do() {
        let row = ramp(WIDTH, 23);
        let equal = row.repeat(7);
        let mut almost = equal.clone();
        almost[0] += 1e-6;
        for isa in Isa::all() {
            let block = block(isa, Precision::F32);
            assert!(
                matches!(block.see(&equal).0, View::Constant(_)) && matches!(block.see(&almost).0, View::Tokens { .. })
            );
            let want: Vec<f64> = run(&block, &almost).into_iter().map(f64::from).collect();
            assert!(worst(&run(&block, &equal), &want) < 1e-4, "{isa:?}");
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (block, ecg) = (block(Isa::best(), Precision::F32), ramp(7 * WIDTH, 22));
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&block, &ecg))
        };
        assert_eq!(on(1), on(3));
    }
}
