//! Signals of several channels (B, C, N): convolution, batch normalisation, pooling, doubling.

use candle_core::{bail, CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{apply, slice, with_values, Operation};
use crate::kernel::signal::{self, Conv};
use crate::kernel::Isa;

/// x (B, C, N), weight (O, C, k), bias (O) -> (B, O, N').
pub fn conv1d(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let ((_, channels, n), (out, inputs, taps)) = (x.dims3()?, weight.dims3()?);
    let fits = stride > 0 && taps > 0 && n > 0 && out > 0 && n + 2 * padding >= taps && padding < taps;
    if channels != inputs || bias.dims() != [out] || channels == 0 || !fits {
        bail!("a convolution {:?} of stride {stride} and padding {padding} got {:?}", weight.dims(), x.dims())
    }
    apply([x, weight, bias], Conv { channels, out, taps, stride, padding })
}

impl Operation for Conv {
    const NAME: &'static str = "conv1d";

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], dims: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)> {
        let (batch, n) = (dims[0][0], dims[0][2]);
        let y = Conv::forward(self, Isa::best(), x, n, weight, bias);
        Ok((y, vec![batch, self.out, self.length(n)]))
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        dims: [&[usize]; 3],
        _: &[f32],
        dy: &[f32],
    ) -> Result<[Vec<f32>; 3]> {
        Ok(Conv::backward(self, Isa::best(), x, dims[0][2], weight, dy))
    }
}

/// Refuses what has not the channels of `weight` and `bias`.
fn check(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<()> {
    let (_, channels, n) = x.dims3()?;
    if weight.dims() != [channels] || bias.dims() != [channels] || channels == 0 || n == 0 {
        bail!("a layer of {:?} and {:?} channels got {:?}", weight.dims(), bias.dims(), x.dims())
    }
    Ok(())
}

/// x scale + shift, channel by channel: x (B, C, N), scale and shift (C).
pub fn affine(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    check(x, scale, shift)?;
    apply([x, scale, shift], Affine)
}

struct Affine;

impl Operation for Affine {
    const NAME: &'static str = "affine";

    fn forward(&self, [x, scale, shift]: [&[f32]; 3], dims: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)> {
        Ok((signal::affine(x, dims[0][2], scale, shift), dims[0].to_vec()))
    }

    fn backward(
        &self,
        [x, scale, _]: [&[f32]; 3],
        dims: [&[usize]; 3],
        _: &[f32],
        dy: &[f32],
    ) -> Result<[Vec<f32>; 3]> {
        let n = dims[0][2];
        let (plain, product) = signal::sums(x, dy, scale.len(), n);
        Ok([signal::affine(dy, n, scale, &vec![0.0; scale.len()]), product, plain])
    }
}

/// Batch normalisation by the batch's own mean and variance, which are given back too: x (B, C, N), weight, bias (C).
pub fn batch_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<(Tensor, [Tensor; 2])> {
    check(x, weight, bias)?;
    let (_, channels, n) = x.dims3()?;
    let x = x.contiguous()?;
    let (mean, variance) = with_values(&x, |x| signal::moments(x, channels, n))?;
    let of = |values| Tensor::from_vec(values, channels, x.device());
    let norm = BatchNorm { mean: mean.clone(), variance: variance.clone(), eps };
    Ok((apply([&x, weight, bias], norm)?, [of(mean)?, of(variance)?]))
}

struct BatchNorm {
    mean: Vec<f32>,
    variance: Vec<f32>,
    eps: f64,
}

impl Operation for BatchNorm {
    const NAME: &'static str = "batch_norm";

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], dims: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)> {
        let scale: Vec<f32> = weight
            .iter()
            .zip(&self.variance)
            .map(|(w, v)| (f64::from(*w) / (f64::from(*v) + self.eps).sqrt()) as f32)
            .collect();
        let shift: Vec<f32> = bias.iter().zip(&self.mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok((signal::affine(x, dims[0][2], &scale, &shift), dims[0].to_vec()))
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        dims: [&[usize]; 3],
        _: &[f32],
        dy: &[f32],
    ) -> Result<[Vec<f32>; 3]> {
        Ok(signal::norm_gradient(x, dims[0][2], weight, self.eps, dy))
    }
}

/// Largest of each sample at an even place and its two neighbours: (B, C, N) -> (B, C, N/2 rounded up).
pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    whole(x)?.apply_op1(MaxPool)
}

/// Twice as many samples by linear interpolation at half-pixel centres: (B, C, N) -> (B, C, 2N).
pub fn double(x: &Tensor) -> Result<Tensor> {
    whole(x)?.apply_op1(Double)
}

/// Contiguous and not empty.
fn whole(x: &Tensor) -> Result<Tensor> {
    let _ = x.dims3()?;
    if x.elem_count() == 0 {
        bail!("an empty signal {:?}", x.dims())
    }
    x.contiguous()
}

struct MaxPool;

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, c, n) = layout.shape().dims3()?;
        Ok((CpuStorage::F32(signal::pool(slice(x, layout)?, n)), (b, c, n.div_ceil(2)).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (n, x, dy) = (x.dim(2)?, x.contiguous()?, dy.contiguous()?);
        let dx = with_values(&x, |x| with_values(&dy, |dy| signal::pool_gradient(x, n, dy)))??;
        Tensor::from_vec(dx, x.dims(), x.device()).map(Some)
    }
}

struct Double;

impl CustomOp1 for Double {
    fn name(&self) -> &'static str {
        "double"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, c, n) = layout.shape().dims3()?;
        Ok((CpuStorage::F32(signal::double(slice(x, layout)?, n)), (b, c, 2 * n).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (n, dy) = (x.dim(2)?, dy.contiguous()?);
        let dx = with_values(&dy, |dy| signal::double_gradient(n, dy))?;
        Tensor::from_vec(dx, x.dims(), x.device()).map(Some)
    }
}
