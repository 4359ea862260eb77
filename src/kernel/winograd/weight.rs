//! The kernel in the transform domain.

use rayon::prelude::*;

use super::super::buffer::{Buffer, Shared};
use super::super::product::Right;
use super::super::simd::{dispatch, Isa, Job, Simd};
use super::{IN, P, POINTS, Q, TAPS};

/// G g: three taps along one axis.
#[inline(always)]
unsafe fn weight_points<S: Simd>(g: [S::V; TAPS]) -> [S::V; IN] {
    let (p2, q2) = (P * P, Q * Q);
    let (at_p, at_q) = (0.5 / (p2 * (p2 - q2)), 0.5 / (q2 * (q2 - p2)));
    let even = |square: f32, scale: f32| S::mul(S::splat(scale), S::fma(S::splat(square), g[2], g[0]));
    let odd = |point: f32, scale: f32| S::mul(S::splat(scale * point), g[1]);
    let (even_p, odd_p) = (even(p2, at_p), odd(P, at_p));
    let (even_q, odd_q) = (even(q2, at_q), odd(Q, at_q));
    [
        S::mul(S::splat(1.0 / (p2 * q2)), g[0]),
        S::add(even_p, odd_p),
        S::sub(even_p, odd_p),
        S::add(even_q, odd_q),
        S::sub(even_q, odd_q),
        g[2],
    ]
}

/// The kernel in the transform domain: for each point a right factor of (frames x channels, outputs).
pub(super) struct Transformed {
    words: Buffer,
    right: Right,
    point: usize,
}

/// Which way round a kernel is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// (O, C, 3, 3, 3): from C channels to O.
    Forward,
    /// The gradient of the input: from O channels to C, taps in reverse.
    Backward,
}

/// Work on one panel of outputs.
struct TransformPanel<'a> {
    weight: &'a [f32],
    direction: Direction,
    /// Channels of input and output.
    channels: (usize, usize),
    /// Channels of input with those that fill the last vector.
    padded: usize,
    /// Frames of the kernel, from the middle: 3 or 1.
    frames: usize,
    panel: usize,
    out: Shared<'a>,
    point: usize,
}

impl TransformPanel<'_> {
    /// Tap (dt, dy, dx) from channel c to output o.
    #[inline(always)]
    fn tap(&self, o: usize, c: usize, [dt, dy, dx]: [usize; 3]) -> f32 {
        let at = (dt * TAPS + dy) * TAPS + dx;
        let taps = TAPS * TAPS * TAPS;
        match self.direction {
            Direction::Forward => self.weight[(o * self.channels.0 + c) * taps + at],
            Direction::Backward => self.weight[(c * self.channels.1 + o) * taps + taps - 1 - at],
        }
    }
}

impl Job for TransformPanel<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (width, (channels, outputs)) = (2 * S::LANES, self.channels);
        let first = self.panel * width;
        for (frame, c) in (0..self.frames).flat_map(|frame| (0..channels).map(move |c| (frame, c))) {
            let (dt, row) = (frame + (TAPS - self.frames) / 2, (frame * self.padded + c) * width);
            for half in 0..2 {
                let mut taps = [[0f32; 16]; TAPS * TAPS];
                for lane in 0..S::LANES.min(outputs.saturating_sub(first + half * S::LANES)) {
                    for (i, tap) in taps.iter_mut().enumerate() {
                        tap[lane] = self.tap(first + half * S::LANES + lane, c, [dt, i / TAPS, i % TAPS]);
                    }
                }
                let g = |y: usize, x: usize| S::load(taps[y * TAPS + x].as_ptr());
                let mut columns = [[S::splat(0.0); IN]; TAPS];
                for (x, column) in columns.iter_mut().enumerate() {
                    *column = weight_points::<S>([g(0, x), g(1, x), g(2, x)]);
                }
                for y in 0..IN {
                    let line = weight_points::<S>([columns[0][y], columns[1][y], columns[2][y]]);
                    for (x, v) in line.into_iter().enumerate() {
                        let at = (y * IN + x) * self.point + self.panel * self.frames * self.padded * width + row;
                        S::store(self.out.at(at + half * S::LANES, S::LANES), v);
                    }
                }
            }
        }
    }
}

impl Transformed {
    /// G g G^T of the middle `frames` of every kernel: 3 or 1.
    pub fn new(isa: Isa, weight: &[f32], direction: Direction, channels: (usize, usize), frames: usize) -> Self {
        let (width, padded) = (2 * isa.lanes(), channels.0.next_multiple_of(isa.lanes()));
        let panels = channels.1.div_ceil(width);
        let point = panels * frames * padded * width;
        let mut words = Buffer::zeros(POINTS * point);
        let out = Shared::new(&mut words);
        (0..panels).into_par_iter().for_each(|panel| {
            let job = TransformPanel { weight, direction, channels, padded, frames, panel, out, point };
            // SAFETY: `isa` is here; each panel is written by one thread, within the 36 points.
            unsafe { dispatch(isa, job) };
        });
        let right =
            Right { start: words.as_ptr(), depth: padded, width, panel: frames * padded * width, n: channels.1 };
        Transformed { words, right, point }
    }

    /// The right factor of a point.
    pub fn at(&self, point: usize) -> Right {
        Right { start: self.words[point * self.point..].as_ptr(), ..self.right }
    }
}
