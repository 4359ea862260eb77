//! The inside of a product: tiles of rows by two vectors that stay in registers for the whole sum.
//!
//! A is read where it lies, one broadcast value at a time; B lies in panels of two vectors. Every element of C is one
//! chain of additions in the order of k, whatever the tile, and goes to an [`Epilogue`] that does what comes next while it
//! is in registers.

use super::buffer::Shared;
use super::gemm::Precision;
use super::simd::Simd;

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
        let mut base = a.start.wrapping_add(segment * a.hop);
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
            base = base.wrapping_add(a.step);
            b = b.wrapping_add(width);
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

// SAFETY: points at panels that are only read while threads share it.
unsafe impl Sync for Right {}

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
