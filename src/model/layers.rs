//! Layers that two or more of the models share, and the distributions fresh weights are drawn from.

use super::recompute::recomputed;
use super::{conv3d, op};
use crate::kernel::gemm::Precision;
use crate::kernel::norm::Groups;
use candle_core::{bail, Result, Tensor, Var, D};
use candle_nn::init::{ONE, ZERO};
use candle_nn::{BatchNorm, BatchNormConfig, Init, Module, ModuleT, VarBuilder};

/// Tokens that a multilayer perceptron handles at a time where no gradient is wanted.
const TOKENS: usize = 720;
/// Rows from which packing the weight for the kernels of the processor pays.
const PACKED_ROWS: usize = 16;

/// True where candle would record the operation for a backward pass.
pub fn is_tracked(tensors: &[&Tensor]) -> bool {
    tensors.iter().any(|t| t.track_op())
}

/// Uniform in +-1/sqrt(fan in): PyTorch's own choice for convolutions, linear layers and their biases.
pub fn uniform(fan_in: usize) -> Init {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// Xavier (Glorot) uniform.
pub fn xavier(fan_in: usize, fan_out: usize) -> Init {
    let bound = (6.0 / (fan_in + fan_out).max(1) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// x W^T + b.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

/// A linear layer whose weight is drawn from `init` and whose bias starts at 0.
pub fn linear(fan_in: usize, fan_out: usize, init: Init, vb: VarBuilder) -> Result<Linear> {
    let weight = vb.get_with_hints((fan_out, fan_in), "weight", init)?;
    Ok(Linear { weight, bias: vb.get_with_hints(fan_out, "bias", ZERO)? })
}

impl Linear {
    /// (out, in).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// (out).
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// x (.., in) -> (.., out).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear_forward(x, &self.weight, &self.bias)
    }
}

/// x (.., in) W^T + b for weight (out, in) and bias (out).
pub fn linear_forward(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let rows: usize = x.dims().iter().rev().skip(1).product();
    if op::has_kernels(x) && rows >= PACKED_ROWS {
        return op::linear(x, weight, bias, Precision::F32);
    }
    candle_nn::Linear::new(weight.clone(), Some(bias.clone())).forward(x)
}

/// The exact GELU.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if op::has_kernels(x) {
        op::gelu(x)
    } else {
        x.gelu_erf()
    }
}

/// Convolution over frames, rows and columns, with bias.
#[derive(Debug, Clone)]
pub struct Conv3d {
    weight: Tensor,
    bias: Tensor,
    stride: [usize; 3],
    padding: [usize; 3],
}

impl Conv3d {
    /// `weight` (out, in, kt, kh, kw) and `bias` (out).
    pub fn new(
        (fan_in, out): (usize, usize),
        [kt, kh, kw]: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
        vb: VarBuilder,
    ) -> Result<Self> {
        let bias = vb.get_with_hints(out, "bias", uniform(fan_in * kt * kh * kw))?;
        Ok(Conv3d { bias, ..Conv3d::no_bias((fan_in, out), [kt, kh, kw], stride, padding, vb)? })
    }

    /// `weight` (out, in, kt, kh, kw) alone.
    pub fn no_bias(
        (fan_in, out): (usize, usize),
        [kt, kh, kw]: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
        vb: VarBuilder,
    ) -> Result<Self> {
        let weight = vb.get_with_hints((out, fan_in, kt, kh, kw), "weight", uniform(fan_in * kt * kh * kw))?;
        let bias = Tensor::zeros(out, weight.dtype(), weight.device())?;
        Ok(Conv3d { weight, bias, stride, padding })
    }

    /// A kernel of k rows and columns within each frame, stored as for images: `weight` (out, in, k, k) and `bias` (out).
    pub fn planar(
        (fan_in, out): (usize, usize),
        k: usize,
        (stride, padding): (usize, usize),
        vb: VarBuilder,
    ) -> Result<Self> {
        let init = uniform(fan_in * k * k);
        let weight = vb.get_with_hints((out, fan_in, k, k), "weight", init)?.unsqueeze(2)?;
        let bias = vb.get_with_hints(out, "bias", init)?;
        Ok(Conv3d { weight, bias, stride: [1, stride, stride], padding: [0, padding, padding] })
    }

    /// A 3 x 3 x 3 kernel that keeps the size.
    pub fn cube(sizes: (usize, usize), vb: VarBuilder) -> Result<Self> {
        Conv3d::new(sizes, [3; 3], [1; 3], [1; 3], vb)
    }

    /// A 1 x 1 x 1 kernel.
    pub fn point(sizes: (usize, usize), vb: VarBuilder) -> Result<Self> {
        Conv3d::new(sizes, [1; 3], [1; 3], [0; 3], vb)
    }

    /// x (B, in, T, H, W) -> (B, out, T', H', W'); channels last where the kernels of the processor compute.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if op::has_kernels(x) {
            return op::conv3d(x, [&self.weight, &self.bias], self.stride, self.padding);
        }
        conv3d::conv3d(x, &self.weight, Some(&self.bias), self.stride, self.padding)
    }

    /// Kernel and bias.
    pub fn affine(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    /// Rows and columns doubled (nearest neighbour), then [`Conv3d::forward`], for a 3 x 3 x 3 kernel.
    pub fn forward_doubled(&self, x: &Tensor) -> Result<Tensor> {
        if op::has_kernels(x) {
            return op::double_conv3d(x, [&self.weight, &self.bias]);
        }
        self.forward(&double_space(x)?)
    }

    /// Tokens (B, N, in) -> (B, N, out), for a 1 x 1 x 1 kernel, by the kernels of the processor.
    pub fn forward_tokens(&self, x: &Tensor, precision: Precision) -> Result<Tensor> {
        let (out, channels, ..) = self.weight.dims5()?;
        op::linear(x, &self.weight.reshape((out, channels))?, &self.bias, precision)
    }
}

/// Nearest-neighbour doubling of rows and columns: (B, C, T, H, W) -> (B, C, T, 2H, 2W).
fn double_space(x: &Tensor) -> Result<Tensor> {
    let (b, c, t, h, w) = x.dims5()?;
    let lines = b * c * t * h;
    let x = x.reshape((lines, w, 1))?.broadcast_as((lines, w, 2))?.reshape((b * c * t, h, 1, 2 * w))?;
    x.broadcast_as((b * c * t, h, 2, 2 * w))?.reshape((b, c, t, 2 * h, 2 * w))
}

/// Convolution over time of a signal.
#[derive(Debug, Clone)]
pub struct Conv1d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: usize,
    padding: usize,
}

impl Conv1d {
    /// `weight` (out, in, k) and `bias` (out).
    pub fn new(
        (fan_in, out): (usize, usize),
        k: usize,
        (stride, padding): (usize, usize),
        vb: VarBuilder,
    ) -> Result<Self> {
        let bias = vb.get_with_hints(out, "bias", uniform(fan_in * k))?;
        Ok(Conv1d { bias: Some(bias), ..Conv1d::no_bias((fan_in, out), k, (stride, padding), vb)? })
    }

    /// `weight` (out, in, k) alone.
    pub fn no_bias(
        (fan_in, out): (usize, usize),
        k: usize,
        (stride, padding): (usize, usize),
        vb: VarBuilder,
    ) -> Result<Self> {
        let weight = vb.get_with_hints((out, fan_in, k), "weight", uniform(fan_in * k))?;
        Ok(Conv1d { weight, bias: None, stride, padding })
    }

    /// x (B, in, N) -> (B, out, N').
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if op::has_kernels(x) {
            let none = || Tensor::zeros(self.weight.dim(0)?, x.dtype(), x.device());
            let bias = self.bias.clone().map_or_else(none, Ok)?;
            return op::conv1d(x, &self.weight, &bias, self.stride, self.padding);
        }
        conv3d::conv1d(x, &self.weight, self.bias.as_ref(), self.stride, self.padding)
    }
}

/// Batch normalisation as PyTorch's: eps 1e-5, momentum 0.1. Its running statistics are the variables of the builder,
/// so that training updates them where they are saved.
pub fn batch_norm(channels: usize, vb: VarBuilder) -> Result<BatchNorm> {
    candle_nn::batch_norm(
        channels,
        BatchNormConfig { eps: BATCH_EPS, momentum: MOMENTUM, ..BatchNormConfig::default() },
        vb,
    )
}

/// Share of a batch's statistics in the running ones.
const MOMENTUM: f64 = 0.1;
/// Added to the variance of a batch.
const BATCH_EPS: f64 = 1e-5;

/// Batch normalisation of a signal (B, C, N): in training by the batch's statistics, which move the running ones; else by
/// the running ones.
pub fn batch_norm_forward(norm: &BatchNorm, x: &Tensor, train: bool) -> Result<Tensor> {
    let Some((weight, bias)) = norm.weight_and_bias().filter(|_| op::has_kernels(x)) else {
        return norm.forward_t(x, train);
    };
    let running = [norm.running_mean(), norm.running_var()];
    if !train {
        let [mean, variance] = running.map(Tensor::detach); // variables of the layer, but never trained
        let scale = (weight / (variance + norm.eps())?.sqrt()?)?;
        let shift = (bias - (mean * &scale)?)?;
        return op::affine(x, &scale, &shift);
    }
    let (y, [mean, variance]) = op::batch_norm(x, weight, bias, norm.eps())?;
    let count = (x.elem_count() / weight.elem_count().max(1)) as f64;
    let unbiased = (variance * (count / (count - 1.0).max(1.0)))?; // as PyTorch keeps it
    for (running, now) in running.into_iter().zip([mean, unbiased]) {
        Var::from_tensor(running)?.set(&((running.detach() * (1.0 - MOMENTUM))? + (now * MOMENTUM)?)?)?;
    }
    Ok(y)
}

/// Group normalisation.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// `weight` and `bias` (channels), in `groups` groups of channels.
    pub fn new(channels: usize, groups: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            bail!("{channels} channels cannot be split into {groups} groups")
        }
        let weight = vb.get_with_hints(channels, "weight", ONE)?;
        Ok(GroupNorm { weight, bias: vb.get_with_hints(channels, "bias", ZERO)?, groups, eps })
    }

    /// (x - mean) / sqrt(var + eps) * weight + bias within each group of channels: x (B, C, ..) -> (B, C, ..); channels
    /// last where the kernels of the processor compute.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.compute(x, false)
    }

    /// Normalised, then y sigmoid(y).
    pub fn forward_swish(&self, x: &Tensor) -> Result<Tensor> {
        self.compute(x, true)
    }

    /// By the kernels of the device, else from candle's own operations.
    fn compute(&self, x: &Tensor, swish: bool) -> Result<Tensor> {
        let (affine, groups) = self.parts(swish);
        if op::has_kernels(x) {
            op::group_norm(x, affine, groups)
        } else if op::gpu::has_norm(x) {
            op::gpu::group_norm(x, affine, groups)
        } else {
            self.by_candle(x, swish)
        }
    }

    /// Its parts as the kernels want them.
    fn parts(&self, swish: bool) -> ([&Tensor; 2], Groups) {
        let groups = Groups { channels: self.weight.elem_count(), groups: self.groups, eps: self.eps, swish };
        ([&self.weight, &self.bias], groups)
    }

    /// conv(swish(norm(x))) for a 3 x 3 x 3 kernel.
    pub fn then(&self, conv: &Conv3d, x: &Tensor) -> Result<Tensor> {
        if op::has_kernels(x) && !is_tracked(&[x, &self.weight, &self.bias, &conv.weight, &conv.bias]) {
            let (affine, groups) = self.parts(true);
            return op::norm_conv3d(x, affine, groups, conv.affine());
        }
        conv.forward(&self.forward_swish(x)?)
    }

    /// A half of a residual block, as the kernels want it.
    pub fn half<'a>(&'a self, conv: &'a Conv3d) -> ([&'a Tensor; 2], Groups, [&'a Tensor; 2]) {
        let (affine, groups) = self.parts(true);
        (affine, groups, conv.affine())
    }

    /// From candle's own operations.
    fn by_candle(&self, x: &Tensor, swish: bool) -> Result<Tensor> {
        let (groups, eps) = (self.groups, self.eps);
        recomputed([x, &self.weight, &self.bias], move |[x, weight, bias]| {
            let y = each_group(x, weight, bias, groups, eps)?;
            if swish {
                y.silu()
            } else {
                Ok(y)
            }
        })
    }
}

/// Group normalisation from candle's own operations.
fn each_group(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    let shape = x.dims();
    let &[b, c, ..] = shape else { bail!("group normalisation: expected (B, C, ..), found {shape:?}") };
    let each = c / groups;
    let x = x.reshape((b, groups, each, ()))?; // (B, G, C/G, T H W)
    let pieces = |t: &Tensor| t.reshape((1, groups, each, 1));
    let x = x.broadcast_sub(&group_mean(&x)?)?;
    let deviation = (group_mean(&x.sqr()?)? + eps)?.sqrt()?; // (B, G, 1, 1)
    let scale = pieces(weight)?.broadcast_div(&deviation)?; // (B, G, C/G, 1)
    x.broadcast_mul(&scale)?.broadcast_add(&pieces(bias)?)?.reshape(shape)
}

/// Mean of the last two dimensions, first within each channel, which keeps single-precision sums short.
fn group_mean(x: &Tensor) -> Result<Tensor> {
    x.mean_keepdim(3)?.mean_keepdim(2)
}

/// Layer normalisation over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// `weight` and `bias` (width).
    pub fn new(width: usize, eps: f32, vb: VarBuilder) -> Result<Self> {
        let weight = vb.get_with_hints(width, "weight", ONE)?;
        Ok(LayerNorm { weight, bias: vb.get_with_hints(width, "bias", ZERO)?, eps })
    }

    /// x (.., width) -> (.., width).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if op::has_kernels(x) {
            op::layer_norm(x, &self.weight.unsqueeze(0)?, &self.bias.unsqueeze(0)?, self.eps)
        } else if is_tracked(&[x, &self.weight, &self.bias]) {
            plain_norm(x, self.eps)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
        } else {
            candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.eps)
        }
    }
}

/// norm(x) (1 + scale) + shift: x (B, N, width), scale and shift (B, 1, width), no weights of its own.
pub fn modulated_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, eps: f32) -> Result<Tensor> {
    let gain = (scale + 1.0)?;
    if op::has_kernels(x) {
        return op::layer_norm(x, &gain.squeeze(1)?, &shift.squeeze(1)?, eps);
    }
    let x = if is_tracked(&[x]) {
        plain_norm(x, eps)?
    } else {
        let one = Tensor::ones(x.dim(D::Minus1)?, x.dtype(), x.device())?;
        candle_nn::ops::layer_norm(&x.contiguous()?, &one, &one.zeros_like()?, eps)?
    };
    x.broadcast_mul(&gain)?.broadcast_add(shift)
}

/// The same from operations that have a gradient.
fn plain_norm(x: &Tensor, eps: f32) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?)
}

/// f of every token: x (B, N, width), a few rows at a time where no gradient is wanted and the processor computes, so that
/// what f widens stays small.
pub fn each_token<F: Fn(&Tensor) -> Result<Tensor>>(x: &Tensor, f: F) -> Result<Tensor> {
    let (_, n, _) = x.dims3()?;
    if is_tracked(&[x]) || !x.device().is_cpu() || n <= TOKENS {
        return f(x);
    }
    let starts = (0..n).step_by(TOKENS);
    let part = |start: usize| f(&x.narrow(1, start, TOKENS.min(n - start))?.contiguous()?);
    let parts: Vec<Tensor> = starts.map(part).collect::<Result<_>>()?;
    Tensor::cat(&parts, 1)
}

/// Mean of the squared differences.
pub fn mean_squared_error(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    (x - target)?.sqr()?.mean_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::{ModuleT, VarMap};

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0.3f32, 2f32, shape, &Device::Cpu).unwrap()
    }

    fn worst(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn training_updates_the_running_statistics_in_the_map() {
        let map = VarMap::new();
        let norm = batch_norm(1, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
        let x = Tensor::new(&[[[1f32, 2., 3., 6.]]], &Device::Cpu).unwrap();
        norm.forward_t(&x, true).unwrap();
        let data = map.data().lock().unwrap();
        let value = |name: &str| data[name].to_vec1::<f32>().unwrap()[0];
        assert!((value("running_mean") - 0.3).abs() < 1e-6); // 0.9 * 0 + 0.1 * 3
        assert!((value("running_var") - (0.9 + 0.1 * 14.0 / 3.0)).abs() < 1e-6);
        // unbiased variance 14 / 3
    }

    #[test]
    fn group_norm_is_the_same_by_kernel_and_by_candle() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let x = random(&[2, 8, 3, 7, 5]);
        let mut norm = GroupNorm::new(8, 4, 1e-6, vb).unwrap();
        norm.weight = random(&[8]);
        let by_candle = norm.by_candle(&x, true).unwrap();
        let by_kernel = op::leave(&norm.forward_swish(&op::enter(&x).unwrap()).unwrap()).unwrap();
        let largest = by_candle.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(worst(&by_candle, &by_kernel) < 5e-6 * largest.max(1.0));
        assert!(GroupNorm::new(8, 3, 1e-6, VarBuilder::zeros(DType::F32, &Device::Cpu)).is_err());
    }

    #[test]
    fn group_norm_brings_each_group_to_mean_0_and_variance_1() {
        let map = VarMap::new();
        let norm = GroupNorm::new(4, 2, 1e-6, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
        let y = norm.forward(&op::enter(&random(&[3, 4, 2, 5, 6])).unwrap()).unwrap();
        let y = op::leave(&y).unwrap().reshape((6, 120)).unwrap();
        assert!(y.mean(1).unwrap().abs().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-5);
        let power: Vec<f32> = y.sqr().unwrap().mean(1).unwrap().to_vec1().unwrap();
        assert!(power.iter().all(|p| (p - 1.0).abs() < 1e-4));
    }

    #[test]
    fn layer_norm_is_the_same_by_kernel_and_by_candle() {
        let (x, scale, shift) = (random(&[4, 3, 16]), random(&[4, 1, 16]), random(&[4, 1, 16]));
        let gain = (&scale + 1.0).unwrap();
        let want = plain_norm(&x, 1e-6).unwrap().broadcast_mul(&gain).unwrap().broadcast_add(&shift).unwrap();
        let largest = want.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(worst(&want, &modulated_norm(&x, &scale, &shift, 1e-6).unwrap()) < 5e-6 * largest.max(1.0));
    }

    #[test]
    fn doubles_rows_and_columns_only() {
        let x = Tensor::arange(0f32, 4.0, &Device::Cpu).unwrap().reshape((1, 1, 1, 2, 2)).unwrap();
        let y = double_space(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(y, [0., 0., 1., 1., 0., 0., 1., 1., 2., 2., 3., 3., 2., 2., 3., 3.]);
    }
}
