//! The weights of a DiT block, packed, and what a block sees of the ECG.

use super::super::attention::head::{Head, Keys, Sizes};
use super::super::buffer::Buffer;
use super::super::gemm::{linear, Packed, Precision};
use super::super::product::{Pairs, Single};
use super::super::simd::Isa;

/// A linear layer, packed: y = x W^T + b.
#[derive(Debug, Clone)]
pub struct Dense {
    pub(super) weight: Packed,
    pub(super) bias: Vec<f32>,
}

impl Dense {
    /// `weight` (out, in) row by row, `bias` (out).
    ///
    /// # Panics
    /// Where the sizes do not agree.
    pub fn new(isa: Isa, precision: Precision, weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        assert_eq!(weight.len(), bias.len() * inputs);
        Dense { weight: Packed::from_weight(isa, precision, weight, (inputs, bias.len())), bias: bias.to_vec() }
    }

    /// y (rows, out) of x (rows, in); all threads work.
    ///
    /// # Panics
    /// Where x is not whole rows.
    pub fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / self.weight.k() * self.weight.n()];
        linear(x, &self.weight, &self.bias, &mut y, false);
        y
    }
}

/// Attention within groups of tokens.
#[derive(Debug, Clone)]
pub struct SelfAttention {
    /// To q, k and v side by side: (W, 3 W).
    pub qkv: Dense,
    /// From all heads: (W, W).
    pub out: Dense,
}

/// Attention to the tokens of the ECG.
#[derive(Debug, Clone)]
pub struct CrossAttention {
    /// To q: (W, W).
    pub q: Dense,
    /// From the ECG's tokens to k and v side by side: (W, 2 W).
    pub kv: Dense,
    /// From all heads: (W, W).
    pub out: Dense,
}

/// Two linear layers with GELU between.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// (W, hidden).
    pub up: Dense,
    /// (hidden, W).
    pub down: Dense,
}

/// One block; its parts fit together.
#[derive(Debug, Clone)]
pub struct Block {
    pub(super) temporal: SelfAttention,
    pub(super) cross: CrossAttention,
    pub(super) spatial: SelfAttention,
    pub(super) mlp: Mlp,
    pub(super) heads: usize,
}

impl Block {
    /// A block of `temporal` attention over the frames at each place, attention to the ECG, `spatial` attention over the
    /// places of each frame, and a perceptron, all of `heads` heads.
    ///
    /// # Panics
    /// Where the widths, precisions or instruction sets of the parts differ, or the width is not whole heads.
    pub fn new(temporal: SelfAttention, cross: CrossAttention, spatial: SelfAttention, mlp: Mlp, heads: usize) -> Self {
        let width = temporal.out.weight.n();
        assert!(heads > 0 && width.is_multiple_of(heads));
        let hidden = mlp.up.weight.n();
        for (layer, k, n) in [
            (&temporal.qkv, width, 3 * width),
            (&temporal.out, width, width),
            (&cross.q, width, width),
            (&cross.kv, width, 2 * width),
            (&cross.out, width, width),
            (&spatial.qkv, width, 3 * width),
            (&spatial.out, width, width),
            (&mlp.up, width, hidden),
            (&mlp.down, hidden, width),
        ] {
            let weight = &layer.weight;
            assert_eq!([weight.k(), weight.n(), layer.bias.len()], [k, n, n]);
            assert_eq!(weight.isa(), temporal.out.weight.isa());
            assert_eq!(weight.precision(), temporal.out.weight.precision());
        }
        Block { temporal, cross, spatial, mlp, heads }
    }

    /// Prepares the ECG's tokens (M, W), once for a clip.
    ///
    /// # Panics
    /// Where they are not one or more whole rows.
    pub fn see(&self, ecg: &[f32]) -> Seen {
        let (heads, cross) = (self.heads, &self.cross);
        let width = cross.q.weight.n();
        assert!(!ecg.is_empty() && ecg.len().is_multiple_of(width));
        let count = ecg.len() / width;
        let equal = ecg.chunks_exact(width).all(|row| row == &ecg[..width]);
        if equal {
            let kv = cross.kv.apply(&ecg[..width]);
            return Seen(View::Constant(cross.out.apply(&kv[width..])));
        }
        let (isa, precision) = (cross.q.weight.isa(), cross.q.weight.precision());
        let (kv, d) = (cross.kv.apply(ecg), width / heads);
        let sizes = Sizes { n: count, d, e: d };
        let each = Keys::words(precision, isa.rows(), sizes);
        let mut words = Buffer::zeros(each * heads);
        for (head, words) in words.chunks_exact_mut(each).enumerate() {
            let part = |at: usize| Head { start: kv[at + head * d..].as_ptr(), row: 2 * width };
            // SAFETY: kv has `count` rows of k and v; only the words are kept, not the pointers.
            unsafe {
                match precision {
                    Precision::F32 => Keys::pack::<Single>(isa.rows(), part(0), part(width), sizes, words),
                    Precision::Bf16 => Keys::pack::<Pairs>(isa.rows(), part(0), part(width), sizes, words),
                }
            };
        }
        Seen(View::Tokens { words, each, count })
    }
}

/// What every token sees of the ECG through one block.
#[derive(Debug, Clone)]
pub struct Seen(pub(super) View);

#[derive(Debug, Clone)]
pub(super) enum View {
    /// Keys and values of its tokens, head by head, packed.
    Tokens {
        /// The packed words.
        words: Buffer,
        /// How many of them belong to a head.
        each: usize,
        /// Tokens.
        count: usize,
    },
    /// All tokens are equal, so every query gets the same (W): the output of the layer.
    Constant(Vec<f32>),
}
