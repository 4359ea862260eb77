//! The kernels of the processor ([`crate::kernel`]) as operations on tensors, with gradients.
//!
//! Maps are channels-last here, (B, T, H, W, C), where the models for other devices hold (B, C, T, H, W):
//! [`enter`] and [`leave`] turn one into the other.

use std::cell::Cell;
use std::sync::OnceLock;

use candle_core::{bail, CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor};

use crate::kernel::attention_grad::{self, Past};
use crate::kernel::gemm::{self, Packed, Precision};
use crate::kernel::norm::{Groups, Layer, Moments};
use crate::kernel::transformer::{self, Dense, Modulation, Seen};
use crate::kernel::winograd::{self, Cube, Direction, Map};
use crate::kernel::{attention, conv, elementwise, winograd_grad, Isa};

thread_local! {
    static BY_CANDLE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the kernels compute on such tensors: f32 on the processor.
pub fn has_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && !BY_CANDLE.get()
}

/// Runs `f` with candle's own operations in place of the kernels: what they are measured and tested against. Models must
/// be built inside too.
pub fn by_candle<R>(f: impl FnOnce() -> R) -> R {
    let before = BY_CANDLE.replace(true);
    let result = f();
    BY_CANDLE.set(before);
    result
}

/// The values of a tensor of f32.
pub fn values(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// Calls `f` with the values of a contiguous tensor of f32 on the processor, where they lie.
pub fn with_values<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("expected a tensor on the processor") };
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("expected a contiguous tensor") };
    match storage.as_slice::<f32>()?.get(start..end) {
        Some(values) => Ok(f(values)),
        None => bail!("a tensor of {} values lies outside its storage", x.elem_count()),
    }
}

/// A linear layer, packed: weight (out, in), bias (out).
pub fn dense(weight: &Tensor, bias: &Tensor, precision: Precision) -> Result<Dense> {
    let ((_, inputs), bias) = (weight.dims2()?, values(bias)?);
    with_values(&weight.contiguous()?, |weight| Dense::new(Isa::best(), precision, weight, &bias, inputs))
}

/// A block of the flow on tokens h (B, T P, W): `modulation` (B, 12 W) in the order of the weights (spatial, temporal,
/// cross, MLP); `seen` tells what each record sees of its ECG.
pub fn block<'a>(
    block: &transformer::Block,
    h: Tensor,
    modulation: &Tensor,
    frames: usize,
    seen: impl Fn(usize) -> Result<&'a Seen>,
) -> Result<Tensor> {
    let (b, n, width) = h.dims3()?;
    if h.track_op() || frames == 0 || n % frames != 0 {
        bail!("packed weights carry no gradient, and {n} tokens must be whole frames of {frames}")
    }
    let mut values = values(&h)?;
    drop(h);
    for (record, h) in values.chunks_exact_mut(n * width).enumerate() {
        let all = self::values(&modulation.get(record)?)?;
        let part = |i: usize| &all[i * width..(i + 1) * width];
        let of = |i: usize| Modulation { shift: part(i), scale: part(i + 1), gate: part(i + 2) };
        block.forward(h, (frames, n / frames), [of(3), of(6), of(0), of(9)], seen(record)?);
    }
    Tensor::from_vec(values, (b, n, width), modulation.device())
}

/// (B, C, T, H, W) to (B, T, H, W, C) where the kernels compute; else as it is.
pub fn enter(x: &Tensor) -> Result<Tensor> {
    if has_kernels(x) {
        x.permute((0, 2, 3, 4, 1))?.contiguous()
    } else {
        Ok(x.clone())
    }
}

/// The inverse of [`enter`].
pub fn leave(x: &Tensor) -> Result<Tensor> {
    if has_kernels(x) {
        x.permute((0, 4, 1, 2, 3))?.contiguous()
    } else {
        Ok(x.clone())
    }
}

/// The f32 of a contiguous argument.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("expected a contiguous tensor") };
    let values = storage.as_slice::<f32>()?.get(start..end);
    values.ok_or_else(|| candle_core::Error::Msg("a tensor outside its storage".to_owned()))
}

/// What an operation gives.
fn done(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// A gradient of the shape of `x`.
fn gradient(values: Vec<f32>, x: &Tensor) -> Result<Option<Tensor>> {
    Tensor::from_vec(values, x.dims(), x.device()).map(Some)
}

/// The values of three tensors, contiguous.
fn three<R>(tensors: [&Tensor; 3], f: impl FnOnce([&[f32]; 3]) -> R) -> Result<R> {
    let [a, b, c] = [tensors[0].contiguous()?, tensors[1].contiguous()?, tensors[2].contiguous()?];
    with_values(&a, |a| with_values(&b, |b| with_values(&c, |c| f([a, b, c]))))??
}

/// The gradients of an operation on three tensors.
type Three = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// Sizes of a batch of maps (B, T, H, W, C).
fn sizes(x: &[usize]) -> Result<(usize, Map, usize)> {
    match *x {
        [b, t, h, w, c] if x.iter().all(|n| *n > 0) => Ok((b, Map { t, h, w }, c)),
        _ => bail!("expected a map (B, T, H, W, C), found {x:?}"),
    }
}

/// x (B, T, H, W, C) normalised in groups of channels, then swish where wanted.
pub fn group_norm(x: &Tensor, [weight, bias]: [&Tensor; 2], groups: Groups) -> Result<Tensor> {
    let (_, _, channels) = sizes(x.dims())?;
    if [weight.dims(), bias.dims()] != [[groups.channels]; 2] || channels != groups.channels {
        bail!("group normalisation: expected {} channels, found {:?}", groups.channels, x.dims())
    }
    x.contiguous()?.apply_op3(weight, bias, GroupNorm { groups, moments: OnceLock::new() })
}

struct GroupNorm {
    groups: Groups,
    /// Of each record.
    moments: OnceLock<Vec<Moments>>,
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let affine = [slice(weight, of_weight)?, slice(bias, of_bias)?];
        let x = slice(x, layout)?;
        let mut y = vec![0f32; x.len()];
        let each = x.len() / layout.dims()[0];
        let moments = x.chunks_exact(each).zip(y.chunks_exact_mut(each)).map(|(x, y)| {
            let moments = self.groups.moments(Isa::best(), x);
            self.groups.apply(Isa::best(), x, &moments, affine, y);
            moments
        });
        let _ = self.moments.set(moments.collect());
        done(y, layout.shape())
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        let Some(moments) = self.moments.get() else { bail!("group normalisation: no forward pass") };
        let affine = [values(weight)?, values(bias)?];
        let [dx, dw, db] = three([x, dy, weight], |[x, dy, _]| {
            let each = x.len() / moments.len();
            let (mut dx, mut dw, mut db) = (vec![0f32; x.len()], vec![0f32; affine[0].len()], vec![0f32; affine[0].len()]);
            let records = x.chunks_exact(each).zip(dy.chunks_exact(each)).zip(dx.chunks_exact_mut(each));
            for (((x, dy), dx), moments) in records.zip(moments) {
                let affine = [affine[0].as_slice(), affine[1].as_slice()];
                let [w, b] = self.groups.gradient(Isa::best(), (x, dy), moments, affine, dx);
                add(&mut dw, &w);
                add(&mut db, &b);
            }
            [dx, dw, db]
        })?;
        Ok((gradient(dx, x)?, gradient(dw, weight)?, gradient(db, bias)?))
    }
}

/// a += b.
fn add(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}

/// Convolution of x (B, T, H, W, C) with kernel (O, C, kt, kh, kw) and bias (O).
pub fn conv3d(x: &Tensor, [weight, bias]: [&Tensor; 2], stride: [usize; 3], padding: [usize; 3]) -> Result<Tensor> {
    let ((_, map, c), (o, i, kt, kh, kw)) = (sizes(x.dims())?, weight.dims5()?);
    if i != c || bias.dims() != [o] {
        bail!("conv3d: the kernel expects {i} channels, the input has {c}")
    }
    let weight = weight.contiguous()?;
    if ([kt, kh, kw], stride, padding) == ([3; 3], [1; 3], [1; 3]) {
        return x.contiguous()?.apply_op3(&weight, bias, Cube3 { doubles: false });
    }
    let shape = conv::Shape { map, channels: (c, o), kernel: [kt, kh, kw], stride, padding };
    if shape.output().is_none() {
        bail!("conv3d: a kernel of {:?} with stride {stride:?} does not fit {map:?} padded by {padding:?}", shape.kernel)
    }
    x.contiguous()?.apply_op3(&weight, bias, Conv3d { shape })
}

/// Rows and columns doubled (nearest neighbour), then convolved 3 x 3 x 3.
pub fn double_conv3d(x: &Tensor, [weight, bias]: [&Tensor; 2]) -> Result<Tensor> {
    let ((_, _, c), (o, i, kt, kh, kw)) = (sizes(x.dims())?, weight.dims5()?);
    if (i, [kt, kh, kw]) != (c, [3; 3]) || bias.dims() != [o] {
        bail!("conv3d: expected a 3 x 3 x 3 kernel for {c} channels, found {:?}", weight.dims())
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, bias, Cube3 { doubles: true })
}

/// 3 x 3 x 3, stride 1, margin 1.
struct Cube3 {
    doubles: bool,
}

impl Cube3 {
    fn map(&self, Map { t, h, w }: Map) -> Map {
        let zoom = if self.doubles { 2 } else { 1 };
        Map { t, h: h * zoom, w: w * zoom }
    }
}

impl CustomOp3 for Cube3 {
    fn name(&self) -> &'static str {
        "conv3x3x3"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((b, map, c), o) = (sizes(layout.dims())?, of_weight.dims()[0]);
        let (x, weight, bias) = (slice(x, layout)?, slice(weight, of_weight)?, slice(bias, of_bias)?);
        let map = self.map(map);
        let cube = Cube { map, doubles: self.doubles, channels: (c, o), weight, direction: Direction::Forward, bias };
        let mut y = vec![0f32; b * map.places() * o];
        for (x, y) in x.chunks_exact(x.len() / b).zip(y.chunks_exact_mut(map.places() * o)) {
            winograd::cube(Isa::best(), cube, x, y, false);
        }
        done(y, (b, map.t, map.h, map.w, o))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        let ((b, small, c), o) = (sizes(x.dims())?, weight.dim(0)?);
        let map = self.map(small);
        let [dx, dw, db] = three([x, weight, dy], |[x, weight, dy]| {
            let (mut dx, mut dw) = (vec![0f32; x.len()], vec![0f32; weight.len()]);
            let back =
                Cube { map, doubles: false, channels: (o, c), weight, direction: Direction::Backward, bias: &[] };
            let each = (x.len() / b, dy.len() / b);
            for ((x, dy), dx) in x.chunks_exact(each.0).zip(dy.chunks_exact(each.1)).zip(dx.chunks_exact_mut(each.0)) {
                add(&mut dw, &winograd_grad::weight_gradient(Isa::best(), map, self.doubles, (c, o), x, dy));
                if self.doubles {
                    let mut fine = vec![0f32; map.places() * c];
                    winograd::cube(Isa::best(), back, dy, &mut fine, false);
                    elementwise::sum_of_four(&fine, (small.w, c), dx);
                } else {
                    winograd::cube(Isa::best(), back, dy, dx, false);
                }
            }
            [dx, dw, gemm::column_sums(dy, o)]
        })?;
        Ok((gradient(dx, x)?, gradient(dw, weight)?, gradient(db, bias)?))
    }
}

/// Any other convolution.
struct Conv3d {
    shape: conv::Shape,
}

impl CustomOp3 for Conv3d {
    fn name(&self) -> &'static str {
        "conv3d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((b, _, _), o) = (sizes(layout.dims())?, self.shape.channels.1);
        let Some(out) = self.shape.output() else { bail!("conv3d: the kernel does not fit") };
        let (x, weight, bias) = (slice(x, layout)?, slice(weight, of_weight)?, slice(bias, of_bias)?);
        let mut y = vec![0f32; b * out.places() * o];
        for (x, y) in x.chunks_exact(x.len() / b).zip(y.chunks_exact_mut(out.places() * o)) {
            self.shape.forward(Isa::best(), x, weight, bias, y);
        }
        done(y, (b, out.t, out.h, out.w, o))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        let (b, o) = (x.dim(0)?, self.shape.channels.1);
        let [dx, dw, db] = three([x, weight, dy], |[x, weight, dy]| {
            let (mut dx, mut dw) = (Vec::with_capacity(x.len()), vec![0f32; weight.len()]);
            for (x, dy) in x.chunks_exact(x.len() / b).zip(dy.chunks_exact(dy.len() / b)) {
                add(&mut dw, &self.shape.weight_gradient(Isa::best(), x, dy));
                dx.extend(self.shape.input_gradient(Isa::best(), weight, dy));
            }
            [dx, dw, gemm::column_sums(dy, o)]
        })?;
        Ok((gradient(dx, x)?, gradient(dw, weight)?, gradient(db, bias)?))
    }
}

/// softmax(Q K^T / sqrt d) V with all heads side by side: q (G, N, heads d), k (G, M, heads d), v (G, M, heads e) ->
/// (G, N, heads e). bf16 has no gradient.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, precision: Precision) -> Result<Tensor> {
    let ((groups, queries, width), (_, keys, out)) = (q.dims3()?, v.dims3()?);
    if heads == 0 || width % heads != 0 || out % heads != 0 || keys == 0 {
        bail!("attention: {width} and {out} values cannot be split among {heads} heads")
    }
    if k.dims() != [groups, keys, width] || v.dim(0)? != groups {
        bail!("attention: queries {:?}, keys {:?} and values {:?} do not fit", q.dims(), k.dims(), v.dims())
    }
    let shape = attention::Shape { groups, queries, keys, heads, d: width / heads, e: out / heads };
    let op = Attention { shape, precision, log_total: OnceLock::new() };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

struct Attention {
    shape: attention::Shape,
    precision: Precision,
    log_total: OnceLock<Vec<f32>>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        of_q: &Layout,
        k: &CpuStorage,
        of_k: &Layout,
        v: &CpuStorage,
        of_v: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let attention::Shape { groups, queries, heads, e, .. } = self.shape;
        let qkv = [slice(q, of_q)?, slice(k, of_k)?, slice(v, of_v)?];
        let mut y = vec![0f32; groups * queries * heads * e];
        let mut log_total = vec![0f32; groups * heads * queries];
        attention::attention(Isa::best(), self.precision, self.shape, qkv, &mut y, Some(&mut log_total));
        let _ = self.log_total.set(log_total);
        done(y, (groups, queries, heads * e))
    }

    fn bwd(&self, q: &Tensor, k: &Tensor, v: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Three> {
        let Some(log_total) = self.log_total.get() else { bail!("attention: no forward pass") };
        if self.precision != Precision::F32 {
            bail!("attention in bf16 has no gradient")
        }
        let (y, dy) = (values(y)?, values(dy)?);
        let [dq, dk, dv] = three([q, k, v], |[q, k, v]| {
            attention_grad::gradient(Isa::best(), self.shape, Past { q, k, v, y: &y, log_total, dy: &dy })
        })?;
        Ok((gradient(dq, q)?, gradient(dk, k)?, gradient(dv, v)?))
    }
}

/// x (.., in) W^T + b: weight (out, in), bias (out).
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, precision: Precision) -> Result<Tensor> {
    let (out, inputs) = weight.dims2()?;
    if x.dims().last() != Some(&inputs) || bias.dims() != [out] {
        bail!("a linear layer for {inputs} values and {out} biases got {:?} and {:?}", x.dims(), bias.dims())
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear { precision })
}

struct Linear {
    precision: Precision,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, inputs) = (of_weight.dims()[0], of_weight.dims()[1]);
        let packed = Packed::from_weight(Isa::best(), self.precision, slice(weight, of_weight)?, (inputs, out));
        let x = slice(x, layout)?;
        let mut y = vec![0f32; x.len() / inputs * out];
        gemm::linear(x, &packed, slice(bias, of_bias)?, &mut y, false);
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = out;
        }
        done(y, dims)
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        if self.precision != Precision::F32 {
            bail!("a linear layer in bf16 has no gradient")
        }
        let (out, inputs) = weight.dims2()?;
        let [dx, dw, db] = three([x, weight, dy], |[x, weight, dy]| {
            let packed = Packed::new(Isa::best(), Precision::F32, (out, inputs), |o, i| weight[o * inputs + i]);
            let mut dx = vec![0f32; x.len()];
            gemm::linear(dy, &packed, &[], &mut dx, false);
            [dx, gemm::outer(Isa::best(), dy, x, out, inputs), gemm::column_sums(dy, out)]
        })?;
        Ok((gradient(dx, x)?, gradient(dw, weight)?, gradient(db, bias)?))
    }
}

/// (x - mean) / sqrt(var + eps) gain + shift within each row: x (B, .., width), gain and shift (B, width), or (1, width)
/// for all records.
pub fn layer_norm(x: &Tensor, gain: &Tensor, shift: &Tensor, eps: f32) -> Result<Tensor> {
    let (b, width) = gain.dims2()?;
    if x.dims().last() != Some(&width) || shift.dims() != gain.dims() || b == 0 || x.dim(0)? % b != 0 {
        bail!("layer normalisation: {:?} with gain {:?} and shift {:?}", x.dims(), gain.dims(), shift.dims())
    }
    x.contiguous()?.apply_op3(&gain.contiguous()?, &shift.contiguous()?, LayerNorm { eps })
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        gain: &CpuStorage,
        of_gain: &Layout,
        shift: &CpuStorage,
        of_shift: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gain, shift) = (slice(x, layout)?, slice(gain, of_gain)?, slice(shift, of_shift)?);
        let (b, width) = (of_gain.dims()[0], of_gain.dims()[1]);
        let mut y = vec![0f32; x.len()];
        let each = (x.len() / b).max(1);
        let records = x.chunks_exact(each).zip(y.chunks_exact_mut(each));
        for ((x, y), (gain, shift)) in records.zip(gain.chunks_exact(width).zip(shift.chunks_exact(width))) {
            Layer { width, eps: self.eps, gain, shift }.apply(Isa::best(), x, y);
        }
        done(y, layout.shape())
    }

    fn bwd(&self, x: &Tensor, gain: &Tensor, shift: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        let (b, width) = gain.dims2()?;
        let [dx, dg, ds] = three([x, gain, dy], |[x, gain, dy]| {
            let (mut dx, mut dg, mut ds) = (vec![0f32; x.len()], Vec::new(), Vec::new());
            let each = (x.len() / b).max(1);
            let records = x.chunks_exact(each).zip(dy.chunks_exact(each)).zip(dx.chunks_exact_mut(each));
            for (((x, dy), dx), gain) in records.zip(gain.chunks_exact(width)) {
                let layer = Layer { width, eps: self.eps, gain, shift: gain };
                let [g, s] = layer.gradient(Isa::best(), x, dy, dx);
                dg.extend(g);
                ds.extend(s);
            }
            [dx, dg, ds]
        })?;
        Ok((gradient(dx, x)?, gradient(dg, gain)?, gradient(ds, shift)?))
    }
}

/// The exact GELU.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        done(elementwise::gelu(Isa::best(), slice(x, layout)?), layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = three([x, dy, dy], |[x, dy, _]| elementwise::gelu_gradient(Isa::best(), x, dy))?;
        gradient(dx, x)
    }
}
