//! PatchGAN in three dimensions: tells real clips from decoded ones, patch by patch (paper section 3.2).
//!
//! Five convolutions; each of its answers sees a patch of the clip, not the whole, so that it judges texture. It is needed
//! in training only and is part of no weights file.
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | x, x' | `clip`, in \[-1, 1\] | (B, 1, T, S, S) |
//! | D(x) | the result of [`Discriminator::forward_t`] | (B, 1, T/8, S/8 - 2, S/8 - 2) |
//! | w | [`adaptive_weight`] | |
//!
//! T = 50 and S = 96 give 6 x 10 x 10 answers. A clip has 4 frames and 24 rows and columns or more. Convolutions before a
//! normalisation have no bias, since it would cancel; the paper does not say. The hinge loss is half the sum of its two
//! means, as is usual beside this adaptive weight; the optimiser does not see a constant factor.

use candle_core::{bail, Result, Tensor};
use candle_nn::{BatchNorm, ModuleT, VarBuilder};
use serde::{Deserialize, Serialize};

use super::layers::{batch_norm, Conv3d};
use super::op;

/// Slope of the leaky ReLU below 0.
const SLOPE: f64 = 0.2;
/// Share of the reconstruction's gradient that the adversarial gradient is brought to.
const ADVERSARIAL_SHARE: f64 = 0.5;
/// Added to the norm of the adversarial gradient.
const ADAPTIVE_EPS: f64 = 1e-4;
/// Largest adaptive weight.
const ADAPTIVE_LIMIT: f64 = 1e4;

/// Sizes of the discriminator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Width of the first convolution; the next three are twice, four and eight times as wide.
    pub base_width: usize,
}

impl Config {
    /// The published code's size.
    pub fn published() -> Self {
        Config { base_width: 64 }
    }

    /// Small, beside a compact VAE.
    pub fn compact() -> Self {
        Config { base_width: 16 }
    }

    /// For tests.
    pub fn tiny() -> Self {
        Config { base_width: 4 }
    }
}

/// Frames, and rows and columns, of the smallest clip that the convolutions fit.
pub const SMALLEST: (usize, usize) = (4, 24);

/// Kernel, stride and margin of a convolution.
type Window = [[usize; 3]; 3];
/// Frames, rows and columns halved.
const HALVE: Window = [[4, 4, 4], [2, 2, 2], [1, 1, 1]];
/// The same with three frames to a kernel.
const HALVE_SHORT: Window = [[3, 4, 4], [2, 2, 2], [1, 1, 1]];
/// Rows and columns less one.
const LESS: Window = [[1, 4, 4], [1, 1, 1], [0, 1, 1]];

fn leaky_relu(x: &Tensor) -> Result<Tensor> {
    (x * SLOPE)? + (x.relu()? * (1.0 - SLOPE))?
}

/// A convolution without bias, batch normalisation and leaky ReLU.
#[derive(Debug, Clone)]
struct Stage {
    conv: Conv3d,
    norm: BatchNorm,
}

impl Stage {
    /// Its convolution is number `i` of the sequence, its normalisation the next.
    fn new(i: usize, sizes: (usize, usize), [kernel, stride, padding]: Window, vb: &VarBuilder) -> Result<Self> {
        let conv = Conv3d::no_bias(sizes, kernel, stride, padding, vb.pp(i))?;
        Ok(Stage { conv, norm: batch_norm(sizes.1, vb.pp(i + 1))? })
    }

    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let x = self.conv.forward(x)?;
        let x = if op::has_kernels(&x) {
            let rows = x.flatten_to(3)?; // channels last: (B T H W, C)
            self.norm.forward_t(&rows, train)?.contiguous()?.reshape(x.shape())?
        } else {
            self.norm.forward_t(&x, train)?
        };
        leaky_relu(&x)
    }
}

/// The discriminator D.
#[derive(Debug, Clone)]
pub struct Discriminator {
    start: Conv3d,
    stages: [Stage; 3],
    end: Conv3d,
}

impl Discriminator {
    /// Reads `main.0` to `main.11`, numbered as in PyTorch's sequence with the ReLUs counted.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let (w, vb) = (config.base_width, vb.pp("main"));
        if w == 0 {
            bail!("a discriminator of no channels")
        }
        let plain =
            |i: usize, sizes, [kernel, stride, padding]: Window| Conv3d::new(sizes, kernel, stride, padding, vb.pp(i));
        Ok(Discriminator {
            start: plain(0, (1, w), HALVE)?,
            stages: [
                Stage::new(2, (w, 2 * w), HALVE, &vb)?,
                Stage::new(5, (2 * w, 4 * w), HALVE_SHORT, &vb)?,
                Stage::new(8, (4 * w, 8 * w), LESS, &vb)?,
            ],
            end: plain(11, (8 * w, 1), LESS)?,
        })
    }

    /// clip (B, 1, T, S, S) in \[-1, 1\] -> one number a patch (B, 1, T/8, S/8 - 2, S/8 - 2): above 0 for real. In
    /// training every pass moves the running statistics, whosever loss it is for.
    pub fn forward_t(&self, clip: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = leaky_relu(&self.start.forward(&op::enter(clip)?)?)?; // (B, W, T/2, S/2, S/2)
        for stage in &self.stages {
            x = stage.forward_t(&x, train)?;
        } // (B, 8 W, T/8, S/8 - 1, S/8 - 1)
        op::leave(&self.end.forward(&x)?)
    }
}

/// Loss of the discriminator: (mean max(0, 1 - D(x)) + mean max(0, 1 + D(x'))) / 2.
pub fn discriminator_loss(real: &Tensor, decoded: &Tensor) -> Result<Tensor> {
    let real = (1.0 - real)?.relu()?.mean_all()?;
    let decoded = (decoded + 1.0)?.relu()?.mean_all()?;
    (real + decoded)? * 0.5
}

/// Adversarial loss of the VAE: -mean D(x').
pub fn generator_loss(decoded: &Tensor) -> Result<Tensor> {
    decoded.mean_all()?.neg()
}

/// Weight of the adversarial loss from two gradients at the last kernel of the decoder: 0.5 |reconstruction| /
/// (|adversarial| + 1e-4), at most 10^4.
pub fn adaptive_weight(reconstruction: &Tensor, adversarial: &Tensor) -> Result<f64> {
    let (reconstruction, adversarial) = (norm(reconstruction)?, norm(adversarial)?);
    Ok((ADVERSARIAL_SHARE * reconstruction / (adversarial + ADAPTIVE_EPS)).clamp(0.0, ADAPTIVE_LIMIT))
}

/// Root of the sum of squares.
fn norm(x: &Tensor) -> Result<f64> {
    let squares = x.to_dtype(candle_core::DType::F64)?.sqr()?.sum_all()?;
    Ok(squares.to_scalar::<f64>()?.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use candle_nn::VarMap;

    fn wave(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let values: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin() * (i as f64 * 0.013).cos()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn zeros(config: &Config) -> Discriminator {
        Discriminator::new(config, VarBuilder::zeros(DType::F32, &Device::Cpu)).unwrap()
    }

    #[test]
    fn published_clips_get_six_times_ten_times_ten_answers() {
        let answers = |t, s| {
            let clip = Tensor::zeros((1, 1, t, s, s), DType::F32, &Device::Cpu).unwrap();
            zeros(&Config::tiny()).forward_t(&clip, true).map(|y| y.dims().to_vec())
        };
        assert_eq!(answers(50, 96).unwrap(), [1, 1, 6, 10, 10]);
        assert_eq!(answers(8, 96).unwrap(), [1, 1, 1, 10, 10]);
        assert_eq!(answers(4, 24).unwrap(), [1, 1, 1, 1, 1]);
        assert!(answers(8, 16).is_err());
    }

    #[test]
    fn tensors_are_named_as_in_a_sequence_of_pytorch() {
        let map = VarMap::new();
        Discriminator::new(&Config::published(), VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
        let data = map.data().lock().unwrap();
        let shape = |name: &str| data[name].dims().to_vec();
        assert_eq!(shape("main.0.weight"), [64, 1, 4, 4, 4]);
        assert_eq!(shape("main.2.weight"), [128, 64, 4, 4, 4]);
        assert_eq!(shape("main.5.weight"), [256, 128, 3, 4, 4]);
        assert_eq!(shape("main.8.weight"), [512, 256, 1, 4, 4]);
        assert_eq!(shape("main.9.running_var"), [512]);
        assert_eq!(shape("main.11.weight"), [1, 512, 1, 4, 4]);
        assert_eq!(data.len(), 2 + 3 * 5 + 2);
    }

    /// A discriminator in double precision whose weights are waves, and its variables.
    fn waves() -> (Discriminator, Vec<(String, Var)>) {
        let map = VarMap::new();
        let net = Discriminator::new(&Config::tiny(), VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu)).unwrap();
        let mut all: Vec<(String, Var)> =
            map.data().lock().unwrap().iter().map(|(name, var)| (name.clone(), var.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, var) in &all {
            let shift = if name.ends_with("running_var") || var.rank() == 1 { 1.5 } else { 0.0 };
            let shrink = 1.0 / (var.elem_count() as f64 / var.dim(0).unwrap() as f64).sqrt();
            var.set(&((wave(var.dims()) * shrink).unwrap() + shift).unwrap()).unwrap();
        }
        (net, all)
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let (net, all) = waves();
        let real = wave(&[2, 1, 8, 24, 24]);
        let decoded = Var::from_tensor(&(real.flip(&[4]).unwrap() * 0.7).unwrap()).unwrap();
        let loss = |decoded: &Tensor| {
            let (real, decoded) = (net.forward_t(&real, true).unwrap(), net.forward_t(decoded, true).unwrap());
            (discriminator_loss(&real, &decoded).unwrap() + generator_loss(&decoded).unwrap()).unwrap()
        };
        let grads = loss(&decoded).backward().unwrap();
        let trained = all.iter().filter(|(name, _)| !name.contains("running"));
        for (name, var) in trained.chain([&("decoded".to_owned(), decoded.clone())]) {
            let direction = wave(var.dims());
            let along = (grads.get(var).unwrap() * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            let before = var.as_detached_tensor().copy().unwrap();
            let moved = |step: f64| {
                var.set(&(&before + (&direction * step).unwrap()).unwrap()).unwrap();
                loss(&decoded).to_scalar::<f64>().unwrap()
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            var.set(&before).unwrap();
            assert!((along - slope).abs() < 1e-5 * slope.abs().max(0.1), "{name}: {along} and {slope}");
        }
    }

    #[test]
    fn losses_and_adaptive_weight_by_hand() {
        let of = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let scalar = |x: Tensor| x.to_scalar::<f32>().unwrap();
        let (real, decoded) = (of(&[2.0, 0.5, -1.0]), of(&[-3.0, 0.0, 1.0]));
        assert!((scalar(discriminator_loss(&real, &decoded).unwrap()) - (2.5 / 3.0 + 3.0 / 3.0) / 2.0).abs() < 1e-6);
        assert!((scalar(generator_loss(&decoded).unwrap()) - 2.0 / 3.0).abs() < 1e-6);
        assert!((adaptive_weight(&of(&[3.0, 4.0]), &of(&[0.0, 1.0])).unwrap() - 2.5 / 1.0001).abs() < 1e-9);
        assert_eq!(adaptive_weight(&of(&[3.0, 4.0]), &of(&[0.0, 0.0])).unwrap(), 1e4);
    }
}
