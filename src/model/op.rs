//! The kernels of the processor ([`crate::kernel`]) as operations on tensors, with gradients.
//!
//! Maps are channels-last here, (B, T, H, W, C), where the models for other devices hold (B, C, T, H, W):
//! [`enter`] and [`leave`] turn one into the other.

use std::cell::Cell;

use candle_core::{bail, CpuStorage, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor};

use crate::kernel::gemm::Precision;
use crate::kernel::transformer::{self, Dense, Modulation, Seen};
use crate::kernel::winograd::Map;
use crate::kernel::Isa;

mod attention;
mod conv;
#[cfg(feature = "cuda")]
pub mod gpu;
#[cfg(not(feature = "cuda"))]
#[path = "op/no_gpu.rs"]
pub mod gpu;
mod linear;
mod norm;
mod signal;

pub use attention::attention;
pub use conv::{conv3d, double_conv3d, norm_conv3d, residual, Residual};
pub use linear::{gelu, linear};
pub use norm::{group_norm, layer_norm};
pub use signal::{affine, batch_norm, conv1d, double, max_pool};

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
    /// Sets back what was before, also when `f` panics.
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            BY_CANDLE.set(self.0);
        }
    }
    let _back = Back(BY_CANDLE.replace(true));
    f()
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

/// Refuses a precision that this processor cannot compute in.
fn check(precision: Precision) -> Result<()> {
    if precision == Precision::Bf16 && !Isa::best().can_bf16() {
        bail!("this processor has no products of bf16")
    }
    Ok(())
}

/// Refuses tensors that want a gradient, for an operation that has none.
fn refuse_gradient(tensors: &[&Tensor]) -> Result<()> {
    if tensors.iter().any(|t| t.track_op()) {
        bail!("packed weights and fused layers carry no gradient")
    }
    Ok(())
}

/// A linear layer, packed: weight (out, in), bias (out).
pub fn dense(weight: &Tensor, bias: &Tensor, precision: Precision) -> Result<Dense> {
    check(precision)?;
    let ((_, inputs), bias) = (weight.dims2()?, values(bias)?);
    with_values(&weight.contiguous()?, |weight| Dense::new(Isa::best(), precision, weight, &bias, inputs))
}

/// What a block sees of an ECG's tokens (T, W).
pub fn see(block: &transformer::Block, tokens: &Tensor) -> Result<Seen> {
    refuse_gradient(&[tokens])?;
    if tokens.elem_count() == 0 {
        bail!("an ECG of no tokens")
    }
    Ok(block.see(&values(tokens)?))
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
    refuse_gradient(&[&h, modulation])?;
    if frames == 0 || !n.is_multiple_of(frames) {
        bail!("{n} tokens are not whole frames of {frames}")
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

/// An operation on three tensors of f32, with its gradient, as it is computed on slices.
trait Operation: Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;

    /// Values and shape of the result.
    fn forward(&self, x: [&[f32]; 3], dims: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)>;

    /// The gradients of the three, from the result y and its gradient.
    fn backward(&self, x: [&[f32]; 3], dims: [&[usize]; 3], y: &[f32], dy: &[f32]) -> Result<[Vec<f32>; 3]>;

    /// The same where the first, an input of the network, wants none; its place is not looked at.
    fn backward_of_weights(&self, x: [&[f32]; 3], dims: [&[usize]; 3], y: &[f32], dy: &[f32]) -> Result<[Vec<f32>; 3]> {
        self.backward(x, dims, y, dy)
    }
}

/// Applies an operation.
fn apply<O: Operation>([a, b, c]: [&Tensor; 3], operation: O) -> Result<Tensor> {
    a.contiguous()?.apply_op3(&b.contiguous()?, &c.contiguous()?, Node(operation))
}

/// An operation as candle wants it.
struct Node<O>(O);

impl<O: Operation> CustomOp3 for Node<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        of_a: &Layout,
        b: &CpuStorage,
        of_b: &Layout,
        c: &CpuStorage,
        of_c: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = [slice(a, of_a)?, slice(b, of_b)?, slice(c, of_c)?];
        let (values, dims) = self.0.forward(x, [of_a.dims(), of_b.dims(), of_c.dims()])?;
        Ok((CpuStorage::F32(values), dims.into()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, c: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Gradients> {
        let (y, dy, dims) = (y.contiguous()?, dy.contiguous()?, [a.dims(), b.dims(), c.dims()]);
        let wanted = a.track_op();
        let backward = |x: [&[f32]; 3], y: &[f32], dy: &[f32]| match wanted {
            true => self.0.backward(x, dims, y, dy),
            false => self.0.backward_of_weights(x, dims, y, dy),
        };
        let [da, db, dc] =
            with_three([a, b, c], |x| with_values(&y, |y| with_values(&dy, |dy| backward(x, y, dy))))????;
        let of = |values, x: &Tensor| Tensor::from_vec(values, x.dims(), x.device()).map(Some);
        Ok((if wanted { of(da, a)? } else { None }, of(db, b)?, of(dc, c)?))
    }
}

/// The gradients of an operation on three tensors.
type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// Calls `f` with the values of three tensors.
fn with_three<R>(tensors: [&Tensor; 3], f: impl FnOnce([&[f32]; 3]) -> R) -> Result<R> {
    let [a, b, c] = [tensors[0].contiguous()?, tensors[1].contiguous()?, tensors[2].contiguous()?];
    with_values(&a, |a| with_values(&b, |b| with_values(&c, |c| f([a, b, c]))))??
}

/// Sizes of a batch of maps (B, T, H, W, C).
fn sizes(x: &[usize]) -> Result<(usize, Map, usize)> {
    match *x {
        [b, t, h, w, c] if x.iter().all(|n| *n > 0) => Ok((b, Map { t, h, w }, c)),
        _ => bail!("expected a map (B, T, H, W, C), found {x:?}"),
    }
}

/// a += b.
fn add(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}
