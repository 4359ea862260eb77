//! The kernels of the processor ([`crate::kernel`]) as operations on tensors.

use candle_core::{bail, DType, Result, Storage, Tensor};

use crate::kernel::gemm::Precision;
use crate::kernel::transformer::{self, Dense, Modulation, Seen};
use crate::kernel::Isa;

/// Whether the kernels compute on such tensors: f32 on the processor.
pub fn has_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
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

/// A linear layer, packed: weight (out, in), bias (out) or zeros.
pub fn dense(weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Dense> {
    let (out, inputs) = weight.dims2()?;
    let bias = bias.map_or_else(|| Ok(vec![0.0; out]), values)?;
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
