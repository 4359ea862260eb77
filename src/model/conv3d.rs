//! Convolution over frames, rows and columns, which candle lacks, made of copies and matrix products.
//!
//! A clip is laid out as one long row a channel, frame after frame, line after line. Each line ends in `pw` zeros and
//! each frame in `ph` lines of zeros, so that the end of one line is the left margin of the next. In that layout the
//! input of a kernel tap, for *all* output pixels at once, is the same row shifted by a constant:
//!
//! y\[o, n\] = sum over taps (dt, dy, dx) and channels c of w\[o, c, dt, dy, dx\] x\[c, n + dt F + dy S + dx\]
//!
//! with S = W + pw the length of a line and F = (H + ph) S that of a frame. Columns n that fall into a margin are junk
//! and are cropped. The records of a batch follow one another in the same way, `pt` frames of zeros between them. Shifted
//! copies are stacked and multiplied by the kernel; nothing here is specific to a device. A stride s > 1 becomes stride 1
//! by moving the s x s x s phases into the channels.
//!
//! The gradient of the input is the same convolution of dy with the kernel turned round; that of the kernel is dy, in the
//! layout above, times the stack. Nothing but x and the kernel is kept for them.

use candle_core::{bail, Result, Tensor};
use rayon::prelude::*;

use super::layers::is_tracked;
use super::op::gpu;
use super::recompute::{detached, with_gradient, Gradients};

/// Bytes of padded input that are prepared at a time.
const BLOCK_BYTES: usize = 48 << 20;
/// Bytes of stacked shifted copies on the CPU, for each thread at work; small enough to stay near the processor.
const STACK_BYTES_CPU: usize = 16 << 20;
/// Bytes of stacked shifted copies on a GPU, where launches cost more than memory.
const STACK_BYTES_GPU: usize = 512 << 20;

/// x (B, C, T, H, W) with kernel (O, C, kt, kh, kw) and bias (O) -> (B, O, T', H', W'); T' = (T + 2 pt - kt) / st + 1,
/// and so for H and W.
pub fn conv3d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: [usize; 3],
    padding: [usize; 3],
) -> Result<Tensor> {
    let (_, channels, t, h, w) = x.dims5()?;
    let (_, kernel_channels, kt, kh, kw) = weight.dims5()?;
    if channels != kernel_channels {
        bail!("conv3d: the kernel expects {kernel_channels} channels, the input has {channels}")
    }
    for (side, (k, (s, p))) in [t, h, w].into_iter().zip([kt, kh, kw].into_iter().zip(stride.into_iter().zip(padding)))
    {
        if s == 0 || k == 0 || side + 2 * p < k {
            bail!("conv3d: a kernel of {k} with stride {s} does not fit {side} samples padded by {p}")
        }
    }
    if [kt, kh, kw] == [1, 1, 1] && stride == [1, 1, 1] && padding == [0, 0, 0] {
        return pointwise(x, weight, bias);
    }
    let (x, weight, padding) = unit_stride(x, weight, stride, padding)?;
    if !is_tracked(&[&x, &weight]) && !bias.is_some_and(Tensor::track_op) {
        return unit(&x, &weight, bias, padding);
    }
    let bias = bias.map_or_else(|| Tensor::zeros(weight.dim(0)?, x.dtype(), x.device()), |bias| Ok(bias.clone()))?;
    let [free_x, free_weight, free_bias] = detached(&[&x, &weight, &bias]);
    let y = unit(&free_x, &free_weight, Some(&free_bias), padding)?;
    with_gradient([&x, &weight, &bias], y, move |[x, weight, _], dy| {
        gradients(x, &weight.detach(), &dy.contiguous()?, padding)
    })
}

/// [`conv3d`] of stride 1, padded by less than the kernel is wide.
fn unit(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, padding: [usize; 3]) -> Result<Tensor> {
    if gpu::has_cube(x, weight, padding) {
        return gpu::cube(x, weight, bias);
    }
    let (batch, _, t, _, _) = x.dims5()?;
    let ((o, _, kt, _, _), pt) = (weight.dims5()?, padding[0]);
    let y = one_clip(&joined(x, t + pt, batch * (t + pt) - pt)?, weight, bias, padding)?;
    let (_, _, h, w) = y.dims4()?;
    let y = y.pad_with_zeros(1, 0, kt - 1 - pt)?.reshape((o, batch, t + pt, h, w))?;
    y.narrow(2, 0, t + 2 * pt + 1 - kt)?.transpose(0, 1)?.contiguous()
}

/// The records x (B, C, T, H, W) one after the other, each followed by frames of zeros up to `frames`, the first `count` of
/// all: (C, count, H, W).
fn joined(x: &Tensor, frames: usize, count: usize) -> Result<Tensor> {
    let (b, c, t, h, w) = x.dims5()?;
    let x = x.pad_with_zeros(2, 0, frames - t)?;
    x.transpose(0, 1)?.contiguous()?.reshape((c, b * frames, h, w))?.narrow(1, 0, count)
}

/// The gradients of x, kernel and bias of [`unit`] from that of its result.
fn gradients(x: &Tensor, weight: &Tensor, dy: &Tensor, padding: [usize; 3]) -> Result<Gradients> {
    let (batch, _, t, _, _) = x.dims5()?;
    let ((o, c, kt, kh, kw), [pt, ph, pw]) = (weight.dims5()?, padding);
    let turned = weight.flip(&[2, 3, 4])?.transpose(0, 1)?.contiguous()?; // (C, O, kt, kh, kw)
    let turn = || unit(dy, &turned, None, [kt - 1 - pt, kh - 1 - ph, kw - 1 - pw]);
    let dx = x.track_op().then(turn).transpose()?;
    let db = dy.flatten_from(2)?.sum((0, 2))?;
    if gpu::has_cube(x, weight, padding) {
        return Ok((dx, Some(gpu::cube_gradient(&x.detach(), dy)?), Some(db)));
    }
    let clip = joined(&x.detach(), t + pt, batch * (t + pt) - pt)?;
    let of_clip = joined(dy, t + pt, batch * (t + pt) + pt + 1 - kt)?;
    let dw = kernel_gradient(&clip, &of_clip, weight, padding)?.reshape((o, kt, kh, kw, c))?;
    Ok((dx, Some(dw.permute((0, 4, 1, 2, 3))?.contiguous()?), Some(db)))
}

/// dy x^T over all pixels for every tap, of one clip x (C, T, H, W) and dy (O, T', H', W'): (O, taps C).
fn kernel_gradient(x: &Tensor, dy: &Tensor, weight: &Tensor, padding: [usize; 3]) -> Result<Tensor> {
    let ((c, ..), (o, frames, rows, columns)) = (x.dims4()?, dy.dims4()?);
    let layout = Layout { whole: true, ..Layout::new(x, weight, padding)? };
    let (group, block) = layout.pieces(x, c);
    let lines = layout.frame / layout.line;
    let mut sum: Option<Tensor> = None;
    for (start, end) in ranges(0, frames, block) {
        let padded = pad(x, &layout, start, end + layout.kernel[0] - 1)?;
        for (a, b) in ranges(start, end, group) {
            let stack = stack(&padded, &layout, a - start, b - a)?; // (taps C, columns)
            let dy = dy.narrow(1, a, b - a)?.pad_with_zeros(3, 0, layout.line - columns)?;
            let dy = dy.pad_with_zeros(2, 0, lines - rows)?.reshape((o, (b - a) * layout.frame))?;
            let term = dy.matmul(&stack.t()?)?;
            sum = Some(match sum {
                None => term,
                Some(sum) => (sum + term)?,
            });
        }
    }
    match sum {
        Some(sum) => Ok(sum),
        None => bail!("conv3d: an empty clip"),
    }
}

/// A 1 x 1 x 1 kernel: one matrix product over the channels.
fn pointwise(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (b, c, t, h, w) = x.dims5()?;
    let o = weight.dim(0)?;
    let weight = weight.reshape((o, c))?.broadcast_left(b)?; // (B, O, C)
    let y = weight.matmul(&x.reshape((b, c, t * h * w))?.contiguous()?)?; // (B, O, T H W)
    add_bias(&y, bias)?.reshape((b, o, t, h, w))
}

/// Adds bias (O) to y (.., O, N).
fn add_bias(y: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((bias.elem_count(), 1))?),
        None => Ok(y.clone()),
    }
}

/// Rewrites a strided convolution as one of stride 1 over s^3 as many channels; also pads in full where the padding is
/// as wide as the kernel.
fn unit_stride(
    x: &Tensor,
    weight: &Tensor,
    stride: [usize; 3],
    padding: [usize; 3],
) -> Result<(Tensor, Tensor, [usize; 3])> {
    let (b, c, t, h, w) = x.dims5()?;
    let (o, _, kt, kh, kw) = weight.dims5()?;
    let kernel = [kt, kh, kw];
    if stride == [1, 1, 1] && padding.iter().zip(kernel).all(|(p, k)| *p < k) {
        return Ok((x.contiguous()?, weight.clone(), padding));
    }
    let (mut x, mut weight) = (x.contiguous()?, weight.contiguous()?);
    let (mut blocks, mut taps) = ([0; 3], [0; 3]);
    for (axis, side) in [t, h, w].into_iter().enumerate() {
        let (k, s, p) = (kernel[axis], stride[axis], padding[axis]);
        taps[axis] = k.div_ceil(s);
        blocks[axis] = (side + 2 * p - k) / s + taps[axis];
        let whole = blocks[axis] * s;
        x = x.pad_with_zeros(axis + 2, p, whole.saturating_sub(side + p))?.narrow(axis + 2, 0, whole)?.contiguous()?;
        weight = weight.pad_with_zeros(axis + 2, 0, taps[axis] * s - k)?;
    }
    let [st, sh, sw] = stride;
    let phases =
        |x: Tensor, rows: usize, n: [usize; 3]| {
            x.reshape(vec![rows, c, n[0], st, n[1], sh, n[2], sw])?
                .permute([0, 1, 3, 5, 7, 2, 4, 6].as_slice())?
                .reshape((rows, c * st * sh * sw, n[0], n[1], n[2]))
        };
    Ok((phases(x, b, blocks)?, phases(weight, o, taps)?, [0; 3]))
}

/// Lengths in the layout of the module page, in samples.
struct Layout {
    /// Kernel.
    kernel: [usize; 3],
    /// Zeros at the end of each line.
    pw: usize,
    /// Lines of zeros at the end of each frame.
    ph: usize,
    /// Zero frames before and after the clip.
    pt: usize,
    /// S, one line with its margin.
    line: usize,
    /// F, one frame with its margin.
    frame: usize,
    /// Rows and columns of the output.
    out: (usize, usize),
    /// The columns of the kernel are stacked too, not summed afterwards.
    whole: bool,
}

impl Layout {
    fn new(x: &Tensor, weight: &Tensor, [pt, ph, pw]: [usize; 3]) -> Result<Self> {
        let (c, _, h, w) = x.dims4()?;
        let (o, _, kt, kh, kw) = weight.dims5()?;
        // Passes over memory per output column: copying kt kh kw c rows, or kt kh c rows and then kw sums over o rows.
        let whole = !x.device().is_cpu() || kt * kh * c * (kw - 1) <= 3 * kw * o;
        let line = w + pw;
        let out = (h + 2 * ph + 1 - kh, w + 2 * pw + 1 - kw);
        Ok(Layout { kernel: [kt, kh, kw], pw, ph, pt, line, frame: (h + ph) * line, out, whole })
    }

    /// Zeros before the first line.
    fn lead(&self) -> usize {
        self.ph * self.line + self.pw
    }

    /// Output frames that are stacked at a time, and that are padded at a time, of x with c channels.
    fn pieces(&self, x: &Tensor, c: usize) -> (usize, usize) {
        let ([kt, kh, kw], sample) = (self.kernel, x.dtype().size_in_bytes());
        let stack_bytes = if x.device().is_cpu() { STACK_BYTES_CPU } else { STACK_BYTES_GPU };
        let rows = c * kt * kh * if self.whole { kw } else { 1 };
        let group = (stack_bytes / (rows * self.frame * sample).max(1)).max(1);
        (group, (BLOCK_BYTES / (c * self.frame * sample).max(1)).max(group))
    }

    /// How far the last tap reaches beyond the first, within one frame.
    fn reach(&self) -> usize {
        (self.kernel[1] - 1) * self.line + self.kernel[2] - 1
    }
}

/// One clip x (C, T, H, W), stride 1 -> (O, T', H', W').
fn one_clip(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, padding: [usize; 3]) -> Result<Tensor> {
    let (c, t, _, _) = x.dims4()?;
    let layout = Layout::new(x, weight, padding)?;
    let (group, block) = layout.pieces(x, c);
    let weight = tap_weights(weight, layout.whole)?;
    let mut frames = Vec::new();
    for (start, end) in ranges(0, t + 2 * layout.pt + 1 - layout.kernel[0], block) {
        let padded = pad(x, &layout, start, end + layout.kernel[0] - 1)?;
        let product = |(a, b)| product(&padded, &weight, bias, &layout, a - start, b - a);
        let groups = ranges(start, end, group);
        frames.extend(if x.device().is_cpu() {
            groups.into_par_iter().map(product).collect::<Result<Vec<_>>>()?
        } else {
            groups.into_iter().map(product).collect::<Result<Vec<_>>>()?
        });
    }
    Tensor::cat(&frames, 1)
}

/// start..end in pieces of at most `length`.
fn ranges(start: usize, end: usize, length: usize) -> Vec<(usize, usize)> {
    (start..end).step_by(length.max(1)).map(|a| (a, end.min(a + length))).collect()
}

/// The kernel as one matrix (O, taps C) for each tap that is summed afterwards.
fn tap_weights(weight: &Tensor, whole: bool) -> Result<Vec<Tensor>> {
    let (o, _, _, _, kw) = weight.dims5()?;
    let taps_last = weight.permute((0, 2, 3, 4, 1))?; // (O, kt, kh, kw, C)
    if whole {
        return Ok(vec![taps_last.reshape((o, ()))?]);
    }
    (0..kw).map(|dx| taps_last.narrow(3, dx, 1)?.reshape((o, ()))).collect()
}

/// Frames start..end of the clip with its zero frames, with all margins: (C, lead + frames F + rest).
fn pad(x: &Tensor, layout: &Layout, start: usize, end: usize) -> Result<Tensor> {
    let (c, t, h, w) = x.dims4()?;
    let (first, last) = (start.max(layout.pt).min(t + layout.pt), end.min(t + layout.pt));
    let (before, after) = (first - start.min(first), end - last.max(first));
    let lead = layout.lead() + before * layout.frame;
    let rest = layout.reach().saturating_sub(layout.lead()) + after * layout.frame;
    let n = last.saturating_sub(first);
    if n == 0 {
        return Tensor::zeros((c, lead + rest), x.dtype(), x.device());
    }
    let x = x.narrow(1, first - layout.pt, n)?.contiguous()?.reshape((c * n * h, w))?;
    let x = x.pad_with_zeros(1, 0, layout.pw)?.reshape((c * n, h * layout.line))?;
    let x = x.pad_with_zeros(1, 0, layout.ph * layout.line)?.reshape((c, n * layout.frame))?;
    x.pad_with_zeros(1, lead, rest) // (C, lead + n F + rest)
}

/// What every tap sees for `count` output frames from `first` of the padded block: (taps C, columns + spare).
fn stack(padded: &Tensor, layout: &Layout, first: usize, count: usize) -> Result<Tensor> {
    let [kt, kh, kw] = layout.kernel;
    let (width, spare) = if layout.whole { (kw, 0) } else { (1, kw - 1) };
    let columns = count * layout.frame + spare;
    let mut taps = Vec::with_capacity(kt * kh * width);
    for dt in 0..kt {
        for dy in 0..kh {
            for dx in 0..width {
                taps.push(padded.narrow(1, (first + dt) * layout.frame + dy * layout.line + dx, columns)?);
            }
        }
    }
    Tensor::cat(&taps, 0)
}

/// `count` output frames from `first` of the padded block -> (O, count, H', W').
fn product(
    padded: &Tensor,
    weight: &[Tensor],
    bias: Option<&Tensor>,
    layout: &Layout,
    first: usize,
    count: usize,
) -> Result<Tensor> {
    let (columns, stack) = (count * layout.frame, stack(padded, layout, first, count)?);
    let mut y = None;
    for (dx, weight) in weight.iter().enumerate() {
        let term = weight.matmul(&stack.narrow(1, dx, columns)?)?; // (O, columns)
        y = Some(match y {
            None => term,
            Some(sum) => (sum + term)?,
        });
    }
    let Some(y) = y else { bail!("conv3d: empty kernel") };
    let y = add_bias(&y, bias)?.reshape((y.dim(0)?, count, columns / count / layout.line, layout.line))?;
    y.narrow(2, 0, layout.out.0)?.narrow(3, 0, layout.out.1)?.contiguous() // (O, count, H', W')
}

/// x (B, C, N) with kernel (O, C, k) and bias (O) -> (B, O, N'); N' = (N + 2 p - k) / s + 1.
///
/// candle's own convolution of signals gives a wrong gradient of the kernel where B > 1.
pub fn conv1d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    let ((b, c, n), (o, i, k)) = (x.dims3()?, weight.dims3()?);
    let (x, weight) = (x.reshape((b, c, 1, 1, n))?, weight.reshape((o, i, 1, 1, k))?);
    conv3d(&x, &weight, bias, [1, 1, stride], [0, 0, padding])?.squeeze(2)?.squeeze(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    /// Numbers in [-1, 1) that do not repeat.
    fn ramp(shape: &[usize], seed: u64) -> Tensor {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n as u64)
            .map(|i| {
                let z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed.wrapping_mul(0xBF58_476D));
                let z = (z ^ (z >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB);
                (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn flat(x: &Tensor) -> Vec<f64> {
        x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    /// The definition, one multiplication at a time.
    fn naive(x: &Tensor, w: &Tensor, b: &[f64], stride: [usize; 3], padding: [usize; 3]) -> Vec<f64> {
        let (n, c, t, h, wd) = x.dims5().unwrap();
        let (o, _, kt, kh, kw) = w.dims5().unwrap();
        let (x, w) = (flat(x), flat(w));
        let out = |side: usize, k: usize, a: usize| (side + 2 * padding[a] - k) / stride[a] + 1;
        let mut y = Vec::new();
        for (n, o, t1, h1, w1) in (0..n).flat_map(|n| (0..o).map(move |o| (n, o))).flat_map(|(n, o)| {
            let (ot, oh, ow) = (out(t, kt, 0), out(h, kh, 1), out(wd, kw, 2));
            (0..ot * oh * ow).map(move |i| (n, o, i / (oh * ow), i / ow % oh, i % ow))
        }) {
            let mut sum = b[o];
            for (c1, dt, dy, dx) in
                (0..c * kt * kh * kw).map(|i| (i / (kt * kh * kw), i / (kh * kw) % kt, i / kw % kh, i % kw))
            {
                let at = |o: usize, a: usize, d: usize, side: usize| {
                    (o * stride[a] + d).checked_sub(padding[a]).filter(|i| *i < side)
                };
                if let (Some(i), Some(j), Some(k)) = (at(t1, 0, dt, t), at(h1, 1, dy, h), at(w1, 2, dx, wd)) {
                    sum += x[(((n * c + c1) * t + i) * h + j) * wd + k]
                        * w[(((o * c + c1) * kt + dt) * kh + dy) * kw + dx];
                }
            }
            y.push(sum);
        }
        y
    }

    /// Input, kernel, stride, padding of each case: 3 x 3 x 3, down-sampling, PatchGAN, wide padding, a point, a signal.
    type Case = ([usize; 5], [usize; 5], [usize; 3], [usize; 3]);
    const CASES: [Case; 10] = [
        ([2, 3, 5, 6, 7], [4, 3, 3, 3, 3], [1, 1, 1], [1, 1, 1]),
        ([1, 40, 4, 6, 5], [2, 40, 3, 3, 3], [1, 1, 1], [1, 1, 1]),
        ([1, 2, 4, 8, 8], [3, 2, 1, 3, 3], [1, 2, 2], [0, 1, 1]),
        ([1, 2, 9, 10, 8], [3, 2, 4, 4, 4], [2, 2, 2], [1, 1, 1]),
        ([2, 2, 6, 8, 9], [3, 2, 3, 4, 4], [2, 2, 2], [1, 1, 1]),
        ([1, 2, 5, 6, 6], [3, 2, 1, 4, 4], [1, 1, 1], [0, 1, 1]),
        ([1, 2, 3, 4, 5], [3, 2, 1, 1, 1], [1, 1, 1], [0, 0, 0]),
        ([1, 2, 3, 4, 5], [3, 2, 1, 2, 3], [1, 3, 2], [2, 3, 1]),
        ([1, 1, 1, 1, 1], [1, 1, 3, 3, 3], [1, 1, 1], [1, 1, 1]),
        ([2, 3, 1, 1, 10], [4, 3, 1, 1, 7], [1, 1, 2], [0, 0, 3]),
    ];

    #[test]
    fn equals_the_definition_for_every_kernel_stride_and_padding() {
        for (i, (x, w, stride, padding)) in CASES.into_iter().enumerate() {
            let (x, w, b) = (ramp(&x, 1), ramp(&w, 2), ramp(&[w[0]], 3));
            let y = conv3d(&x, &w, Some(&b), stride, padding).unwrap();
            let want = naive(&x, &w, &flat(&b), stride, padding);
            assert_eq!(y.elem_count(), want.len(), "case {i}");
            let worst = flat(&y).iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 2e-5, "case {i}: {worst}");
        }
    }

    #[test]
    fn gradient_equals_finite_differences() {
        for (i, (x, w, stride, padding)) in CASES.into_iter().enumerate() {
            let var =
                |shape: &[usize], seed| Var::from_tensor(&ramp(shape, seed).to_dtype(DType::F64).unwrap()).unwrap();
            let (x, w, b) = (var(&x, 4), var(&w, 5), var(&[w[0]], 6));
            let loss = |x: &Tensor, w: &Tensor, b: &Tensor| {
                conv3d(x, w, Some(b), stride, padding).unwrap().sqr().unwrap().sum_all().unwrap()
            };
            let grads = loss(&x, &w, &b).backward().unwrap();
            for (which, v) in [&x, &w, &b].into_iter().enumerate() {
                let direction = ramp(v.dims(), 7).to_dtype(DType::F64).unwrap();
                let along = flat(&(grads.get(v).unwrap() * &direction).unwrap()).iter().sum::<f64>();
                let moved = |step: f64| {
                    let mut all = [x.as_tensor().clone(), w.as_tensor().clone(), b.as_tensor().clone()];
                    all[which] = (&all[which] + (&direction * step).unwrap()).unwrap();
                    loss(&all[0], &all[1], &all[2]).to_scalar::<f64>().unwrap()
                };
                let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!((along - slope).abs() < 1e-6 * slope.abs().max(1.0), "case {i}, argument {which}");
            }
        }
    }

    #[test]
    fn signals_equal_candle_s_own_convolution() {
        for (n, k, stride, padding) in [(20, 7, 2, 3), (21, 3, 1, 1), (20, 1, 2, 0), (20, 1, 1, 0)] {
            let (x, w) = (ramp(&[2, 3, n], 1), ramp(&[4, 3, k], 2));
            let y = conv1d(&x, &w, None, stride, padding).unwrap();
            let want = x.conv1d(&w, padding, stride, 1, 1).unwrap();
            assert_eq!(y.dims(), want.dims());
            let worst = flat(&(y - want).unwrap()).into_iter().fold(0.0, |m: f64, d| m.max(d.abs()));
            assert!(worst < 1e-5, "{n} {k} {stride} {padding}: {worst}");
        }
    }

    #[test]
    fn refuses_other_channels_and_kernels_that_do_not_fit() {
        let x = ramp(&[1, 2, 2, 2, 2], 1);
        assert!(conv3d(&x, &ramp(&[1, 3, 1, 1, 1], 1), None, [1; 3], [0; 3]).is_err());
        assert!(conv3d(&x, &ramp(&[1, 2, 3, 3, 3], 1), None, [1; 3], [0; 3]).is_err());
        assert!(conv3d(&x, &ramp(&[1, 2, 1, 1, 1], 1), None, [0; 3], [0; 3]).is_err());
    }
}
