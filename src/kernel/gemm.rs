//! Products of matrices whose right factor is packed once and used often.
//!
//! C\[r, n\] = sum over k of A\[r, k\] B\[k, n\]. B is cut into panels of two vectors; a panel holds its columns side by side
//! for each k. How the sum is made: `product`.
//!
//! With [`Precision::Bf16`] both factors hold pairs of bf16 in 32-bit words along k; sums are f32.

use rayon::prelude::*;

use super::buffer::{Buffer, Scratch, Shared};
use super::product::{pack_right, product, Left, Pairs, Right, Single, Store};
use super::simd::{dispatch, to_bf16, Isa, Job, Simd};

/// How the factors of products are held; sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    F32,
    /// bfloat16: 8 bits of significand.
    Bf16,
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err("expected f32 or bf16".to_owned()),
        }
    }
}

/// A right factor (k x n) in panels: (n / width, words of k, width), zeros beside n.
#[derive(Debug, Clone)]
pub struct Packed {
    words: Buffer,
    depth: usize,
    k: usize,
    n: usize,
    isa: Isa,
    precision: Precision,
}

impl Packed {
    /// Packs B, whose element at (k, n) `at` gives, for products on `isa`.
    ///
    /// # Panics
    /// Where `isa` cannot make products in that precision.
    pub fn new(isa: Isa, precision: Precision, (k, n): (usize, usize), at: impl Fn(usize, usize) -> f32) -> Self {
        assert!(precision == Precision::F32 || isa.can_bf16());
        let width = 2 * isa.lanes();
        let depth = precision.words(k);
        let mut words = Buffer::zeros(n.div_ceil(width) * depth * width);
        for (panel, words) in words.chunks_exact_mut((depth * width).max(1)).enumerate() {
            for (word, row) in words.chunks_exact_mut(width).enumerate() {
                for (i, place) in row.iter_mut().enumerate().take(n - panel * width) {
                    let column = panel * width + i;
                    *place = precision.word(word, k, |k| at(k, column));
                }
            }
        }
        Packed { words, depth, k, n, isa, precision }
    }

    /// The weight of a linear layer: `weight` (n, k) row by row.
    ///
    /// # Panics
    /// Where the weight is not n x k.
    pub fn from_weight(isa: Isa, precision: Precision, weight: &[f32], (k, n): (usize, usize)) -> Self {
        assert_eq!(weight.len(), k * n);
        Packed::new(isa, precision, (k, n), |row, column| weight[column * k + row])
    }

    /// Rows of B, the length of the sum.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns of B and C.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The instruction set it is packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How it is held.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// 32-bit words along k.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Columns in a panel.
    fn width(&self) -> usize {
        2 * self.isa.lanes()
    }
}

impl Precision {
    /// 32-bit words that k values take.
    pub(super) fn words(self, k: usize) -> usize {
        match self {
            Precision::F32 => k,
            Precision::Bf16 => k.div_ceil(2),
        }
    }

    /// Word number `word` of a column of k values.
    fn word(self, word: usize, k: usize, at: impl Fn(usize) -> f32) -> f32 {
        match self {
            Precision::F32 => at(word),
            Precision::Bf16 => {
                let half = |k1: usize| if k1 < k { u32::from(to_bf16(at(k1))) } else { 0 };
                f32::from_bits(half(2 * word + 1) << 16 | half(2 * word))
            }
        }
    }
}

impl Packed {
    /// As a product's right factor, the sum over k in `segments` parts.
    pub(super) fn right(&self, segments: usize) -> Right {
        let width = self.width();
        Right { start: self.words.as_ptr(), depth: self.depth / segments, width, panel: self.depth * width, n: self.n }
    }
}

/// Rows that a thread takes at a time.
const ROWS_AT_ONCE: usize = 144;

struct Linear<'a> {
    x: &'a [f32],
    weight: &'a Packed,
    store: Store<'a>,
    rows: usize,
}

impl Job for Linear<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let k = self.weight.k();
        match self.weight.precision() {
            Precision::F32 => {
                let a = Left::rows(self.x.as_ptr(), k);
                product::<S, Single, _>(a, self.rows, self.weight.right(1), &self.store);
            }
            Precision::Bf16 => {
                let depth = self.weight.depth();
                let mut words = Scratch::take(self.rows * depth);
                for (x, words) in self.x.chunks_exact(k).zip(words.chunks_exact_mut(depth)) {
                    to_words(x, words);
                }
                let a = Left::rows(words.as_ptr(), depth);
                product::<S, Pairs, _>(a, self.rows, self.weight.right(1), &self.store);
            }
        }
    }
}

/// A row as pairs of bf16.
#[inline(always)]
pub(super) fn to_words(row: &[f32], words: &mut [f32]) {
    for (pair, word) in row.chunks(2).zip(words) {
        let half = |i: usize| pair.get(i).map_or(0, |x| u32::from(to_bf16(*x)));
        *word = f32::from_bits(half(1) << 16 | half(0));
    }
}

/// y (rows, n) = x (rows, k) B + bias; `adds` adds to the y that is there. All threads work.
///
/// # Panics
/// Where the sizes do not agree.
pub fn linear(x: &[f32], weight: &Packed, bias: &[f32], y: &mut [f32], adds: bool) {
    let (k, n) = (weight.k(), weight.n());
    assert!(k > 0 && n > 0 && x.len().is_multiple_of(k) && (bias.is_empty() || bias.len() == n));
    let rows = x.len() / k;
    assert_eq!(y.len(), rows * n);
    let blocks = x.par_chunks(ROWS_AT_ONCE * k).zip(y.par_chunks_mut(ROWS_AT_ONCE * n));
    blocks.for_each(|(x, y)| {
        let store = Store { c: Shared::new(y), first: 0, row: n, bias, adds };
        // SAFETY: the weight was packed for an instruction set that is here; the sizes were checked above.
        unsafe { dispatch(weight.isa(), Linear { x, weight, store, rows: x.len() / k }) };
    });
}

struct PackRight<'a>(&'a [f32], usize, &'a mut [f32]);

impl Job for PackRight<'_> {
    type Output = Right;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Right {
        pack_right::<S>(self.0, self.1, self.2)
    }
}

/// Some rows of a^T b.
struct OuterRows<'a> {
    a: &'a [f32],
    m: usize,
    first: usize,
    right: Right,
    c: &'a mut [f32],
}

impl Job for OuterRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let OuterRows { a, m, first, right, c } = self;
        let left = Left { start: a.as_ptr().add(first), row: 1, step: m, segments: 1, hop: 0 };
        let rows = c.len() / right.n;
        let store = Store { c: Shared::new(c), first: 0, row: right.n, bias: &[], adds: false };
        product::<S, Single, _>(left, rows, right, &store);
    }
}

/// c (m, n) = a^T b for a (rows, m) and b (rows, n): the gradient of a weight. All threads work.
///
/// # Panics
/// Where the sizes do not agree.
pub fn outer(isa: Isa, a: &[f32], b: &[f32], m: usize, n: usize) -> Vec<f32> {
    assert!(m > 0 && n > 0 && a.len().is_multiple_of(m) && b.len().is_multiple_of(n) && a.len() / m == b.len() / n);
    let mut c = vec![0f32; m * n];
    if b.is_empty() {
        return c;
    }
    let mut panels = Buffer::zeros(n.next_multiple_of(2 * isa.lanes()) * (b.len() / n));
    // SAFETY: `isa` is here; the panels have the size asked for and live to the end.
    let right = unsafe { dispatch(isa, PackRight(b, n, &mut panels)) };
    let some = m.div_ceil(rayon::current_num_threads()).next_multiple_of(isa.rows());
    c.par_chunks_mut(some * n).enumerate().for_each(|(i, c)| {
        let right = &right;
        // SAFETY: as above; each thread writes its own rows.
        unsafe { dispatch(isa, OuterRows { a, m, first: i * some, right: *right, c }) };
    });
    c
}

/// Sums of the columns of b (rows, n), block by block in a fixed order: the gradient of a bias.
pub fn column_sums(b: &[f32], n: usize) -> Vec<f32> {
    let add = |mut sum: Vec<f32>, row: &[f32]| {
        sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        sum
    };
    let blocks = b.par_chunks(256 * n.max(1)).map(|rows| rows.chunks_exact(n).fold(vec![0f32; n], add));
    let blocks: Vec<Vec<f32>> = blocks.collect();
    blocks.into_iter().fold(vec![0f32; n], |sum, block| add(sum, &block))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Numbers in [-1, 1) that do not repeat.
    pub fn ramp(n: usize, seed: u64) -> Vec<f32> {
        let value = |i: u64| {
            let z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed.wrapping_mul(0xBF58_476D));
            let z = (z ^ (z >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..n as u64).map(value).collect()
    }

    /// The largest difference; what is no number differs without end.
    pub fn worst(got: &[f32], want: &[f64]) -> f64 {
        assert_eq!(got.len(), want.len());
        let off = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs();
        got.iter().zip(want).map(off).fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) })
    }

    #[test]
    fn products_equal_those_of_f64_for_every_size_and_instruction_set() {
        for (rows, k, n) in [(1, 1, 1), (13, 7, 33), (150, 64, 40), (31, 130, 5), (12, 16, 64), (7, 3, 16)] {
            let (x, w, bias) = (ramp(rows * k, 1), ramp(k * n, 2), ramp(n, 3));
            for isa in Isa::all() {
                for precision in [Precision::F32, Precision::Bf16] {
                    if precision == Precision::Bf16 && !isa.can_bf16() {
                        continue;
                    }
                    let weight = Packed::from_weight(isa, precision, &w, (k, n));
                    let mut y = vec![1f32; rows * n];
                    linear(&x, &weight, &bias, &mut y, true);
                    let held = |v: f32| match precision {
                        Precision::F32 => f64::from(v),
                        Precision::Bf16 => f64::from(f32::from_bits(u32::from(to_bf16(v)) << 16)),
                    };
                    for (at, y) in y.iter().enumerate() {
                        let (r, c) = (at / n, at % n);
                        let sum: f64 = (0..k).map(|k1| held(x[r * k + k1]) * held(w[c * k + k1])).sum();
                        let want = sum + 1.0 + f64::from(bias[c]);
                        assert!(
                            (f64::from(*y) - want).abs() < 2e-5,
                            "{isa:?} {precision:?} {rows} {k} {n}: {y} {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn outer_products_and_column_sums_by_definition() {
        for (rows, m, n) in [(1, 1, 1), (37, 13, 40), (300, 70, 5)] {
            let (a, b) = (ramp(rows * m, 1), ramp(rows * n, 2));
            for isa in Isa::all() {
                for (at, c) in outer(isa, &a, &b, m, n).into_iter().enumerate() {
                    let term = |r: usize| f64::from(a[r * m + at / n]) * f64::from(b[r * n + at % n]);
                    assert!((f64::from(c) - (0..rows).map(term).sum::<f64>()).abs() < 1e-5, "{isa:?}");
                }
            }
            for (i, sum) in column_sums(&b, n).into_iter().enumerate() {
                let want: f64 = b.iter().skip(i).step_by(n).map(|v| f64::from(*v)).sum();
                assert!((f64::from(sum) - want).abs() < 1e-5);
            }
        }
    }
}
