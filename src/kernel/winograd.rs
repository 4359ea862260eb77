//! 3 x 3 x 3 convolution, stride 1, margin 1, with 4 times fewer multiplications: Winograd's F(4 x 4, 3 x 3) in rows and
//! columns (Lavin and Gray, 2016), the three frames of the kernel summed in the transform domain.
//!
//! A tile of 4 x 4 outputs of a frame depends on 6 x 6 inputs. Y = A^T \[ sum over frames dt and channels of
//! (G g_dt G^T) * (B^T d_dt B) \] A, where * is element by element: 36 products of matrices over channels, one for each
//! point of the transform, in place of 9 x 16. The points are 0, +-5/8, +-3/2 and infinity; with them the error in single
//! precision is one to three times that of direct summation, about half of what the usual 0, +-1, +-2 give.
//!
//! The input may be half as large: rows and columns are then doubled (nearest neighbour) as they are read.

use rayon::prelude::*;

use super::buffer::{Scratch, Shared};
use super::math::sigmoid;
use super::product::{product, read, write, Left, Single, Store};
use super::simd::{dispatch, Isa, Job, Simd};
pub use weight::Direction;
use weight::Transformed;

pub mod gradient;
mod weight;

/// Rows and columns of a tile of outputs.
const OUT: usize = 4;
/// Rows and columns of a tile of inputs.
const IN: usize = 6;
/// Points of the transform.
const POINTS: usize = IN * IN;
/// Frames, rows or columns of the kernel.
const TAPS: usize = 3;
/// The finite points other than 0 are +-P and +-Q.
const P: f32 = 0.625;
const Q: f32 = 1.5;
/// Tiles that one thread has in work at a time, about.
const TILES: usize = 160;
/// Added between the matrices of two points, so that they do not fall on the same places of the cache.
const SKEW: usize = 16;

/// Sizes of a map: frames, rows, columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Frames.
    pub t: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Map {
    /// Places.
    pub fn places(&self) -> usize {
        self.t.saturating_mul(self.h).saturating_mul(self.w) // absurd sizes then agree with no slice
    }
}

/// B^T d: six inputs along one axis.
#[inline(always)]
unsafe fn to_points<S: Simd>(d: [S::V; IN]) -> [S::V; IN] {
    let (p2, q2) = (S::splat(P * P), S::splat(Q * Q));
    let (both, sum) = (S::splat(P * P * Q * Q), S::splat(-(P * P + Q * Q)));
    let minus = |a: S::V, b: S::V, c: S::V| S::sub(a, S::mul(b, c));
    let (even_p, odd_p) = (minus(d[4], q2, d[2]), S::mul(S::splat(P), minus(d[3], q2, d[1])));
    let (even_q, odd_q) = (minus(d[4], p2, d[2]), S::mul(S::splat(Q), minus(d[3], p2, d[1])));
    [
        S::fma(both, d[0], S::fma(sum, d[2], d[4])),
        S::add(even_p, odd_p),
        S::sub(even_p, odd_p),
        S::add(even_q, odd_q),
        S::sub(even_q, odd_q),
        S::fma(both, d[1], S::fma(sum, d[3], d[5])),
    ]
}

/// A^T m: four outputs along one axis.
#[inline(always)]
unsafe fn from_points<S: Simd>(m: [S::V; IN]) -> [S::V; OUT] {
    let (even_p, odd_p) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
    let (even_q, odd_q) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
    [
        S::add(m[0], S::add(even_p, even_q)),
        S::fma(S::splat(P), odd_p, S::mul(S::splat(Q), odd_q)),
        S::fma(S::splat(P * P), even_p, S::mul(S::splat(Q * Q), even_q)),
        S::fma(S::splat(P * P * P), odd_p, S::fma(S::splat(Q * Q * Q), odd_q, m[5])),
    ]
}

/// swish(x scale + offset), channel by channel: a normalisation that is applied as the input is read.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Factor of each channel.
    pub scale: &'a [f32],
    /// Summand of each channel.
    pub offset: &'a [f32],
}

/// A convolution under way.
#[derive(Clone, Copy)]
struct Convolution<'a> {
    pub x: &'a [f32],
    /// Size of the output.
    pub map: Map,
    /// How many outputs a side share one input: 1, or 2 to double rows and columns.
    pub zoom: usize,
    /// Frames before and after an output that the kernel sees: 1, or 0 where every frame is a clip of its own.
    pub reach: usize,
    /// Channels of input and output, and the same with those that fill the last vector.
    pub channels: (usize, usize),
    pub padded: (usize, usize),
    pub bias: &'a [f32],
    pub adds: bool,
    /// What happens to x before.
    pub before: Option<Affine<'a>>,
    pub y: Shared<'a>,
    /// As many zeros as there are channels of input.
    pub zeros: &'a [f32],
}

/// What one thread has in work: some rows of tiles over some frames.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// First row of tiles, and how many.
    pub lines: (usize, usize),
    /// First frame, and how many.
    pub frames: (usize, usize),
}

impl Convolution<'_> {
    /// Tiles side by side.
    pub fn across(&self) -> usize {
        self.map.w.div_ceil(OUT)
    }

    /// All pieces, two or more for each thread; they cut the work, not the sums, so outputs do not depend on them.
    pub fn pieces(&self, threads: usize) -> Vec<Piece> {
        let (across, down, t) = (self.across(), self.map.h.div_ceil(OUT), self.map.t);
        let mut parts = 1;
        while t.div_ceil(parts) * across > TILES && parts < t {
            parts *= 2;
        }
        let mut lines = (TILES / (t.div_ceil(parts) * across).max(1)).clamp(1, down.max(1));
        while down.div_ceil(lines) * parts < 2 * threads && (lines > 1 || parts < t) {
            if parts < t {
                parts *= 2;
            } else {
                lines = lines.div_ceil(2);
            }
        }
        let frames = t.div_ceil(parts).max(1);
        let cut = |first: usize, most: usize, all: usize| (first, most.min(all - first));
        let starts = (0..down).step_by(lines).flat_map(|line| (0..t).step_by(frames).map(move |frame| (line, frame)));
        starts.map(|(line, frame)| Piece { lines: cut(line, lines, down), frames: cut(frame, frames, t) }).collect()
    }

    /// Where the six lines of inputs of a row of tiles begin; null outside the map.
    #[inline(always)]
    fn lines(&self, frame: usize, line: usize) -> [*const f32; IN] {
        let (Map { h, w, .. }, zoom) = (self.map, self.zoom);
        let mut at = [std::ptr::null(); IN];
        for (i, at) in at.iter_mut().enumerate() {
            let y = (line * OUT + i).wrapping_sub(1);
            if y < h {
                let place = (frame * (h / zoom) + y / zoom) * (w / zoom);
                *at = self.x.as_ptr().wrapping_add(place * self.channels.0);
            }
        }
        at
    }

    /// Where the 6 x 6 inputs of a tile lie; zeros outside the map.
    #[inline(always)]
    fn inputs(&self, lines: &[*const f32; IN], column: usize) -> [*const f32; POINTS] {
        let mut at = [self.zeros.as_ptr(); POINTS];
        for (i, at) in at.iter_mut().enumerate() {
            let (line, x) = (lines[i / IN], (column * OUT + i % IN).wrapping_sub(1));
            if !line.is_null() && x < self.map.w {
                *at = line.wrapping_add(x / self.zoom * self.channels.0);
            }
        }
        at
    }

    /// swish(x scale + offset) of six lines, to `strip`; where those lie then.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(
        &self,
        lines: [*const f32; IN],
        before: Affine<'_>,
        strip: &mut [f32],
    ) -> [*const f32; IN] {
        let channels = self.channels.0;
        let mut at = [std::ptr::null(); IN];
        for (i, line) in lines.into_iter().enumerate().filter(|(_, line)| !line.is_null()) {
            let to = strip.as_mut_ptr().add(i * self.map.w * channels);
            for channel in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - channel);
                let scale = read::<S>(before.scale.as_ptr().add(channel), lanes);
                let offset = read::<S>(before.offset.as_ptr().add(channel), lanes);
                for place in (0..self.map.w).map(|x| x * channels + channel) {
                    let z = S::fma(read::<S>(line.add(place), lanes), scale, offset);
                    write::<S>(to.add(place), S::mul(z, sigmoid::<S>(z)), lanes);
                }
            }
            at[i] = to;
        }
        at
    }

    /// B^T d B of every tile of a piece, and of the frames before and after it: point, frame, tile, channel.
    #[inline(always)]
    pub unsafe fn transform<S: Simd>(&self, piece: Piece, v: &mut [f32], point: usize) {
        let mut strip = Scratch::take(self.before.map_or(0, |_| IN * self.map.w * self.channels.0));
        let mut row = v.as_mut_ptr();
        for frame in piece.frames.0..piece.frames.0 + piece.frames.1 + 2 * self.reach {
            let frame = frame.wrapping_sub(self.reach);
            for line in piece.lines.0..piece.lines.0 + piece.lines.1 {
                let mut lines = [std::ptr::null(); IN];
                if frame < self.map.t {
                    lines = self.lines(frame, line);
                    if let Some(before) = self.before {
                        lines = self.prepare::<S>(lines, before, &mut strip);
                    }
                }
                for column in 0..self.across() {
                    self.transform_tile::<S>(self.inputs(&lines, column), row, point);
                    row = row.add(self.padded.0);
                }
            }
        }
    }

    /// B^T d B of one tile, every channel.
    #[inline(always)]
    unsafe fn transform_tile<S: Simd>(&self, from: [*const f32; POINTS], row: *mut f32, point: usize) {
        let channels = self.channels.0;
        for channel in (0..self.padded.0).step_by(S::LANES) {
            let lanes = S::LANES.min(channels - channel);
            let mut half = [[S::splat(0.0); IN]; IN];
            for (x, half) in half.iter_mut().enumerate() {
                let mut d = [S::splat(0.0); IN];
                for (y, d) in d.iter_mut().enumerate() {
                    *d = read::<S>(from[y * IN + x].add(channel), lanes);
                }
                *half = to_points::<S>(d);
            }
            for y in 0..IN {
                let mut d = [S::splat(0.0); IN];
                for (d, half) in d.iter_mut().zip(&half) {
                    *d = half[y];
                }
                for (x, v) in to_points::<S>(d).into_iter().enumerate() {
                    S::store(row.add((y * IN + x) * point + channel), v);
                }
            }
        }
    }

    /// A^T m A of every tile of a piece, with bias, to y.
    #[inline(always)]
    unsafe fn restore<S: Simd>(&self, piece: Piece, m: &[f32], point: usize) {
        let (across, (outputs, padded), Map { h, w, .. }) = (self.across(), (self.channels.1, self.padded.1), self.map);
        let mut row = m.as_ptr();
        for frame in piece.frames.0..piece.frames.0 + piece.frames.1 {
            for (line, column) in (0..piece.lines.1).flat_map(|l| (0..across).map(move |c| (piece.lines.0 + l, c))) {
                let (down, right) = (OUT.min(h - line * OUT), OUT.min(w - column * OUT));
                for channel in (0..outputs).step_by(S::LANES) {
                    let lanes = S::LANES.min(outputs - channel);
                    let bias = if self.bias.is_empty() {
                        S::splat(0.0)
                    } else {
                        read::<S>(self.bias.as_ptr().add(channel), lanes)
                    };
                    let mut half = [[S::splat(0.0); OUT]; IN];
                    for (x, half) in half.iter_mut().enumerate() {
                        let mut m = [S::splat(0.0); IN];
                        for (y, m) in m.iter_mut().enumerate() {
                            *m = S::load(row.add((y * IN + x) * point + channel));
                        }
                        *half = from_points::<S>(m);
                    }
                    for y in 0..down {
                        let mut m = [S::splat(0.0); IN];
                        for (m, half) in m.iter_mut().zip(&half) {
                            *m = half[y];
                        }
                        let place = (frame * h + line * OUT + y) * w + column * OUT;
                        for (x, v) in from_points::<S>(m).into_iter().enumerate().take(right) {
                            let p = self.y.at((place + x) * outputs + channel, lanes);
                            let mut v = S::add(v, bias);
                            if self.adds {
                                v = S::add(v, read::<S>(p, lanes));
                            }
                            write::<S>(p, v, lanes);
                        }
                    }
                }
                row = row.add(padded);
            }
        }
    }
}

/// One piece, from inputs to outputs.
struct Work<'a>(&'a Convolution<'a>, &'a Transformed, Piece);

impl Job for Work<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Work(convolution, weight, piece) = self;
        let tiles = convolution.across() * piece.lines.1;
        let (rows, (c, o)) = (tiles * piece.frames.1, convolution.padded);
        let (segments, hop) = (2 * convolution.reach + 1, tiles * c);
        let (v_point, m_point) = (rows * c + (segments - 1) * hop + SKEW, rows * o + SKEW);
        let mut v = Scratch::take(POINTS * v_point);
        let mut m = Scratch::take(POINTS * m_point);
        convolution.transform::<S>(piece, &mut v, v_point);
        for point in 0..POINTS {
            let start = v.as_ptr().add(point * v_point);
            let left = Left { start, row: c, step: 1, segments, hop };
            let c = Shared::new(&mut m);
            let store = Store { c, first: point * m_point, row: o, bias: &[], adds: false };
            product::<S, Single, _>(left, rows, weight.at(point), &store);
        }
        convolution.restore::<S>(piece, &m, m_point);
    }
}

/// What a convolution reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct Cube<'a> {
    /// Size of the output.
    pub map: Map,
    /// Whether the input has half as many rows and columns, to be doubled.
    pub doubles: bool,
    /// Whether every frame is a clip of its own, which the middle of the kernel alone sees.
    pub alone: bool,
    /// Channels of input and output.
    pub channels: (usize, usize),
    /// Kernel (O, C, 3, 3, 3), whichever the direction.
    pub weight: &'a [f32],
    /// Its direction.
    pub direction: Direction,
    /// Bias of each output, or nothing.
    pub bias: &'a [f32],
    /// What happens to x before; not together with `doubles`.
    pub before: Option<Affine<'a>>,
}

/// y (T, H, W, O) = x (T, H, W, C) convolved, with zeros around; `adds` adds to the y that is there. All threads work.
///
/// # Panics
/// Where the sizes do not agree.
pub fn cube(isa: Isa, cube: Cube<'_>, x: &[f32], y: &mut [f32], adds: bool) {
    let Cube { map, doubles, alone, channels, weight, direction, bias, before } = cube;
    let zoom = if doubles { 2 } else { 1 };
    assert!(map.h.is_multiple_of(zoom) && map.w.is_multiple_of(zoom) && channels.0 > 0 && channels.1 > 0);
    assert_eq!(x.len() * zoom * zoom, map.places() * channels.0);
    assert_eq!(y.len(), map.places() * channels.1);
    assert_eq!(weight.len(), channels.0 * channels.1 * TAPS * TAPS * TAPS);
    assert!(bias.is_empty() || bias.len() == channels.1);
    assert!(before.is_none_or(|b| !doubles && [b.scale.len(), b.offset.len()] == [channels.0; 2]));
    let padded = (channels.0.next_multiple_of(isa.lanes()), channels.1.next_multiple_of(isa.lanes()));
    let reach = usize::from(!alone);
    let transformed = Transformed::new(isa, weight, direction, channels, 2 * reach + 1);
    let (zeros, y) = (vec![0.0; channels.0], Shared::new(y));
    let convolution = Convolution { x, map, zoom, reach, channels, padded, bias, adds, before, y, zeros: &zeros };
    convolution.pieces(rayon::current_num_threads()).into_par_iter().for_each(|piece| {
        // SAFETY: `isa` is here; the sizes were checked; the pieces do not overlap.
        unsafe { dispatch(isa, Work(&convolution, &transformed, piece)) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::tests::{ramp, worst};

    /// The definition in f64.
    fn definition(cube: &Cube<'_>, x: &[f32]) -> Vec<f64> {
        let (Map { t, h, w }, (c, o), zoom) = (cube.map, cube.channels, if cube.doubles { 2 } else { 1 });
        let mut y = vec![0.0; t * h * w * o];
        for (at, y) in y.iter_mut().enumerate() {
            let (out, place) = (at % o, at / o);
            let (frame, row, column) = (place / (h * w), place / w % h, place % w);
            *y = cube.bias.get(out).map_or(0.0, |b| f64::from(*b));
            for i in 0..27 {
                let near = |at: usize, d: usize, n: usize| (at + d).checked_sub(1).filter(|at| *at < n);
                let (Some(f), Some(r), Some(q)) =
                    (near(frame, i / 9, t), near(row, i / 3 % 3, h), near(column, i % 3, w))
                else {
                    continue;
                };
                if cube.alone && f != frame {
                    continue;
                }
                let from = (f * (h / zoom) + r / zoom) * (w / zoom) + q / zoom;
                for k in 0..c {
                    let tap = match cube.direction {
                        Direction::Forward => cube.weight[(out * c + k) * 27 + i],
                        Direction::Backward => cube.weight[(k * o + out) * 27 + 26 - i],
                    };
                    *y += f64::from(x[from * c + k]) * f64::from(tap);
                }
            }
        }
        y
    }

    #[test]
    fn equals_the_definition_for_every_size_direction_and_instruction_set() {
        for (map, channels, doubles, direction) in [
            (Map { t: 3, h: 4, w: 4 }, (16, 32), false, Direction::Forward),
            (Map { t: 5, h: 6, w: 7 }, (3, 5), false, Direction::Forward),
            (Map { t: 2, h: 12, w: 9 }, (20, 33), false, Direction::Backward),
            (Map { t: 1, h: 1, w: 1 }, (1, 1), false, Direction::Forward),
            (Map { t: 4, h: 8, w: 6 }, (4, 17), true, Direction::Forward),
            (Map { t: 9, h: 24, w: 24 }, (32, 1), false, Direction::Forward),
        ] {
            let zoom = if doubles { 4 } else { 1 };
            let (x, weight) = (ramp(map.places() / zoom * channels.0, 1), ramp(channels.0 * channels.1 * 27, 2));
            let bias = ramp(channels.1, 3);
            let alone = map.t == 9;
            let cube = Cube { map, doubles, alone, channels, weight: &weight, direction, bias: &bias, before: None };
            let want = definition(&cube, &x);
            for isa in Isa::all() {
                let mut y = vec![1.0; want.len()];
                super::cube(isa, cube, &x, &mut y, true);
                let more: Vec<f64> = want.iter().map(|w| w + 1.0).collect();
                let worst = worst(&y, &more);
                let largest = want.iter().fold(1f64, |a, b| a.max(b.abs()));
                assert!(worst < 3e-6 * largest, "{isa:?} {map:?} {channels:?}: {worst} of {largest}");
            }
        }
    }

    #[test]
    fn the_error_is_at_most_three_times_that_of_a_sum_in_single_precision() {
        let (map, channels) = (Map { t: 3, h: 4, w: 4 }, (256, 64));
        let x = ramp(map.places() * 256, 1);
        let weight: Vec<f32> = ramp(256 * 64 * 27, 2).iter().map(|w| w * (3f32 / (256.0 * 27.0)).sqrt()).collect();
        let cube = Cube {
            map,
            doubles: false,
            alone: false,
            channels,
            weight: &weight,
            direction: Direction::Forward,
            bias: &[],
            before: None,
        };
        let want = definition(&cube, &x);
        let mut y = vec![0.0; want.len()];
        super::cube(Isa::best(), cube, &x, &mut y, false);
        let plain = |at: usize| {
            let (out, place) = (at % 64, at / 64);
            let mut sum = 0f32;
            for i in 0..27 {
                let near = |at: usize, d: usize, n: usize| (at + d).checked_sub(1).filter(|at| *at < n);
                let places = (near(place / 16, i / 9, 3), near(place / 4 % 4, i / 3 % 3, 4), near(place % 4, i % 3, 4));
                let (Some(f), Some(r), Some(q)) = places else { continue };
                for k in 0..256 {
                    sum += x[((f * 4 + r) * 4 + q) * 256 + k] * weight[(out * 256 + k) * 27 + i];
                }
            }
            f64::from(sum) - want[at]
        };
        let square = |f: &dyn Fn(usize) -> f64| (0..want.len()).map(|i| f(i).powi(2)).sum::<f64>().sqrt();
        let (ours, plain) = (square(&|i| f64::from(y[i]) - want[i]), square(&plain));
        assert!(ours < 3.0 * plain, "{ours:e} for {plain:e}");
    }

    #[test]
    fn a_normalisation_on_the_way_in_is_that_of_a_pass_before() {
        let (map, channels) = (Map { t: 3, h: 6, w: 9 }, (20, 5));
        let (x, weight) = (ramp(map.places() * 20, 1), ramp(20 * 5 * 27, 2));
        let (scale, offset) = (ramp(20, 3), ramp(20, 4));
        let z = |(at, x): (usize, &f32)| x * scale[at % 20] + offset[at % 20];
        let swished: Vec<f32> = x.iter().enumerate().map(z).map(|z| z / (1.0 + (-z).exp())).collect();
        let plain = Cube {
            map,
            doubles: false,
            alone: false,
            channels,
            weight: &weight,
            direction: Direction::Forward,
            bias: &[],
            before: None,
        };
        let fused = Cube { before: Some(Affine { scale: &scale, offset: &offset }), ..plain };
        let want = definition(&plain, &swished);
        for isa in Isa::all() {
            let mut y = vec![0.0; want.len()];
            super::cube(isa, fused, &x, &mut y, false);
            let worst = worst(&y, &want);
            assert!(worst < 3e-5, "{isa:?}: {worst}");
        }
    }
}
