//! Products of matrices whose right factor is packed once and used often.
//!
//! C\[r, n\] = sum over k of A\[r, k\] B\[k, n\]. B is cut into panels of two vectors; a panel holds its columns side by side
//! for each k. A is read where it lies, one broadcast value at a time. A tile of ROWS x 2 accumulators stays in registers
//! for the whole sum over k, so that every element of C is one chain of additions in the order of k, whatever the tile,
//! and goes to an [`Epilogue`] that adds the bias and does what comes next while it is in registers.
//!
//! With [`Precision::Bf16`] both factors hold pairs of bf16 in 32-bit words along k; sums are f32.

use rayon::prelude::*;

use super::buffer::{Buffer, Scratch, Shared};
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
    pub fn new(isa: Isa, precision: Precision, (k, n): (usize, usize), at: impl Fn(usize, usize) -> f32) -> Self {
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

/// One step of a sum, for either precision.
pub(super) trait Factor: Copy {
    /// The precision.
    const PRECISION: Precision;
    /// acc + a b, for one f32 or two bf16 in each word.
    unsafe fn step<S: Simd>(a: S::V, b: S::V, acc: S::V) -> S::V;
    /// Writes the first `lanes` values of a vector to a row of A, as value number `at` and on.
    unsafe fn keep<S: Simd>(self, row: *mut f32, at: usize, v: S::V, lanes: usize);
}

/// Words of one f32.
#[derive(Clone, Copy)]
pub(super) struct Single;

/// Words of two bf16.
#[derive(Clone, Copy)]
pub(super) struct Pairs;

impl Factor for Single {
    const PRECISION: Precision = Precision::F32;

    #[inline(always)]
    unsafe fn step<S: Simd>(a: S::V, b: S::V, acc: S::V) -> S::V {
        S::fma(a, b, acc)
    }

    #[inline(always)]
    unsafe fn keep<S: Simd>(self, row: *mut f32, at: usize, v: S::V, lanes: usize) {
        write::<S>(row.add(at), v, lanes);
    }
}

impl Factor for Pairs {
    const PRECISION: Precision = Precision::Bf16;

    #[inline(always)]
    unsafe fn step<S: Simd>(a: S::V, b: S::V, acc: S::V) -> S::V {
        S::dot2(a, b, acc)
    }

    #[inline(always)]
    unsafe fn keep<S: Simd>(self, row: *mut f32, at: usize, v: S::V, lanes: usize) {
        let to = row.cast::<u16>().add(at);
        if lanes == S::LANES {
            S::store_bf16(to, v);
            return;
        }
        let mut halves = [0u16; 16];
        S::store_bf16(halves.as_mut_ptr(), v);
        to.copy_from_nonoverlapping(halves.as_ptr(), lanes);
        if lanes % 2 == 1 {
            *to.add(lanes) = 0; // the second half of the last word
        }
    }
}

/// The left factor, where it lies: element (r, k) is word `r * row + k * step` of segment `k / depth`.
#[derive(Clone, Copy)]
pub(super) struct Left {
    /// Row 0.
    pub start: *const f32,
    /// Words from a row to the next.
    pub row: usize,
    /// Words from one k to the next.
    pub step: usize,
    /// Segments the sum over k runs through.
    pub segments: usize,
    /// Words from one segment to the next.
    pub hop: usize,
}

impl Left {
    /// Rows of words side by side.
    pub fn rows(start: *const f32, row: usize) -> Self {
        Left { start, row, step: 1, segments: 1, hop: 0 }
    }
}

/// What becomes of C.
pub(super) trait Epilogue: Copy {
    /// Takes C[row, column..column + n], n at most two vectors.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; the row and the columns exist.
    unsafe fn put<S: Simd>(&self, row: usize, column: usize, c: [S::V; 2], n: usize);
}

/// How many of `n` columns lie in vector `i` of a pair.
#[inline(always)]
pub(super) fn lanes_of<S: Simd>(n: usize, i: usize) -> usize {
    n.saturating_sub(i * S::LANES).min(S::LANES)
}

/// Reads `n` lanes, in one go where all are there.
#[inline(always)]
pub(super) unsafe fn read<S: Simd>(p: *const f32, n: usize) -> S::V {
    if n == S::LANES {
        S::load(p)
    } else {
        S::load_n(p, n)
    }
}

/// Writes `n` lanes, in one go where all are wanted.
#[inline(always)]
pub(super) unsafe fn write<S: Simd>(p: *mut f32, v: S::V, n: usize) {
    if n == S::LANES {
        S::store(p, v);
    } else {
        S::store_n(p, v, n);
    }
}

/// `begin` in every row + A[rows of the tile, :] b, with b one panel.
///
/// # Safety
/// The processor has the instructions of `S`; A has M rows; b has `depth` words of two vectors for each segment.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, F: Factor, const M: usize>(
    begin: [S::V; 2],
    a: Left,
    depth: usize,
    mut b: *const f32,
    width: usize,
) -> [[S::V; 2]; M] {
    let mut acc = [begin; M];
    for segment in 0..a.segments {
        // Rows in groups of four, so that each is a base register plus 0, 1, 2 or 3 strides.
        let mut base = a.start.add(segment * a.hop);
        let (one, two, three) = (a.row, 2 * a.row, 3 * a.row);
        let four = 4 * a.row;
        for _ in 0..depth {
            let (b0, b1) = (S::load(b), S::load(b.add(S::LANES)));
            let mut group = base;
            for (r, acc) in acc.iter_mut().enumerate() {
                let at = match r % 4 {
                    0 => group,
                    1 => group.add(one),
                    2 => group.add(two),
                    _ => group.add(three),
                };
                let x = S::splat(*at);
                acc[0] = F::step::<S>(x, b0, acc[0]);
                acc[1] = F::step::<S>(x, b1, acc[1]);
                if r % 4 == 3 {
                    group = group.wrapping_add(four);
                }
            }
            base = base.add(a.step);
            b = b.add(width);
        }
    }
    acc
}

/// One tile of M rows, to the epilogue.
#[inline(always)]
unsafe fn finish<S: Simd, F: Factor, E: Epilogue, const M: usize>(
    a: Left,
    row: usize,
    (depth, panel, width): (usize, *const f32, usize),
    (column, n): (usize, usize),
    epilogue: &E,
) {
    let a = Left { start: a.start.add(row * a.row), ..a };
    let acc = tile::<S, F, M>([S::splat(0.0); 2], a, depth, panel, width);
    for (r, c) in acc.into_iter().enumerate() {
        epilogue.put::<S>(row + r, column, c, n);
    }
}

/// A right factor that lies in panels: words of k in each segment, panels of `width` columns, n columns.
#[derive(Clone, Copy)]
pub(super) struct Right {
    /// The first panel.
    pub start: *const f32,
    /// Words of k in a segment of the left factor.
    pub depth: usize,
    /// Words from one k to the next; two vectors or more.
    pub width: usize,
    /// Words from one panel to the next.
    pub panel: usize,
    /// Columns.
    pub n: usize,
}

impl Packed {
    /// As a product's right factor, the sum over k in `segments` parts.
    pub(super) fn right(&self, segments: usize) -> Right {
        let width = self.width();
        Right { start: self.words.as_ptr(), depth: self.depth / segments, width, panel: self.depth * width, n: self.n }
    }
}

/// C = A B, row tiles within column panels, on this thread.
///
/// # Safety
/// The processor has the instructions of `S`; A has `rows` rows; the epilogue takes them.
#[inline(always)]
pub(super) unsafe fn product<S: Simd, F: Factor, E: Epilogue>(a: Left, rows: usize, b: Right, epilogue: &E) {
    let step = 2 * S::LANES;
    for (i, column) in (0..b.n).step_by(step).enumerate() {
        let right = (b.depth, b.start.add(i * b.panel), b.width);
        let columns = (column, step.min(b.n - column));
        let mut row = 0;
        while row < rows {
            let left = rows - row;
            // ROWS is a constant, so each instruction set keeps only the tiles it uses.
            let taken = if S::ROWS >= 12 && left >= 12 {
                finish::<S, F, E, 12>(a, row, right, columns, epilogue);
                12
            } else if S::ROWS >= 8 && left >= 8 {
                finish::<S, F, E, 8>(a, row, right, columns, epilogue);
                8
            } else if S::ROWS == 6 && left >= 6 {
                finish::<S, F, E, 6>(a, row, right, columns, epilogue);
                6
            } else if left >= 4 {
                finish::<S, F, E, 4>(a, row, right, columns, epilogue);
                4
            } else if left >= 2 {
                finish::<S, F, E, 2>(a, row, right, columns, epilogue);
                2
            } else {
                finish::<S, F, E, 1>(a, row, right, columns, epilogue);
                1
            };
            row += taken;
        }
    }
}

/// C + bias, stored or added to what is there.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    /// Where C begins.
    pub c: Shared<'a>,
    /// Place of row 0.
    pub first: usize,
    /// Values from a row of C to the next.
    pub row: usize,
    /// Bias of each column, empty for none.
    pub bias: &'a [f32],
    /// Adds to what is there.
    pub adds: bool,
}

impl Epilogue for Store<'_> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, row: usize, column: usize, c: [S::V; 2], n: usize) {
        let p = self.c.at(self.first + row * self.row + column, n);
        for (i, mut v) in c.into_iter().enumerate() {
            let (at, lanes) = (i * S::LANES, lanes_of::<S>(n, i));
            if lanes == 0 {
                break;
            }
            if !self.bias.is_empty() {
                v = S::add(v, read::<S>(self.bias.as_ptr().add(column + at), lanes));
            }
            if self.adds {
                v = S::add(v, read::<S>(p.add(at), lanes));
            }
            write::<S>(p.add(at), v, lanes);
        }
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
    assert!(k > 0 && n > 0 && x.len() % k == 0 && (bias.is_empty() || bias.len() == n));
    let rows = x.len() / k;
    assert_eq!(y.len(), rows * n);
    let blocks = x.par_chunks(ROWS_AT_ONCE * k).zip(y.par_chunks_mut(ROWS_AT_ONCE * n));
    blocks.for_each(|(x, y)| {
        let store = Store { c: Shared::new(y), first: 0, row: n, bias, adds };
        // SAFETY: the weight was packed for an instruction set that is here; the sizes were checked above.
        unsafe { dispatch(weight.isa(), Linear { x, weight, store, rows: x.len() / k }) };
    });
}

/// Rows b (rows, n) as a right factor over the rows, in `panels` of the size that its columns fill.
///
/// # Safety
/// `panels` has n rounded up to whole panels times the rows, and outlives the result.
#[inline(always)]
pub(super) unsafe fn pack_right<S: Simd>(b: &[f32], n: usize, panels: &mut [f32]) -> Right {
    let (width, rows) = (2 * S::LANES, b.len() / n);
    for (first, panel) in (0..n).step_by(width).zip(panels.chunks_exact_mut(rows * width)) {
        let count = width.min(n - first);
        for (row, to) in b.chunks_exact(n).zip(panel.chunks_exact_mut(width)) {
            to[..count].copy_from_slice(&row[first..first + count]);
            to[count..].fill(0.0);
        }
    }
    Right { start: panels.as_ptr(), depth: rows, width, panel: rows * width, n }
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

// SAFETY: points at panels that are only read while threads share it.
unsafe impl Sync for Right {}

/// c (m, n) = a^T b for a (rows, m) and b (rows, n): the gradient of a weight. All threads work.
///
/// # Panics
/// Where the sizes do not agree.
pub fn outer(isa: Isa, a: &[f32], b: &[f32], m: usize, n: usize) -> Vec<f32> {
    assert!(m > 0 && n > 0 && a.len() % m == 0 && b.len() % n == 0 && a.len() / m == b.len() / n);
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

    #[test]
    fn products_equal_those_of_f64_for_every_size_and_instruction_set() {
        for (rows, k, n) in [(1, 1, 1), (13, 7, 33), (150, 64, 40), (31, 130, 5), (12, 16, 64), (7, 3, 16)] {
            let (x, w, bias) = (ramp(rows * k, 1), ramp(k * n, 2), ramp(n, 3));
            for isa in Isa::all() {
                for precision in [Precision::F32, Precision::Bf16] {
                    if precision == Precision::Bf16 && isa == Isa::Avx512 {
                        continue; // has no such instruction, so nothing packs for it
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
                        assert!((f64::from(*y) - want).abs() < 2e-5, "{isa:?} {precision:?} {rows} {k} {n}: {y} {want}");
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
