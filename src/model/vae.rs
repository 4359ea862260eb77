//! 3D-VAE: clips to latents and back (paper section 3.2).
//!
//! A residual network over frames, rows and columns. Each level halves rows and columns; frames are never reduced, so
//! one latent frame belongs to one frame of the clip. The deep levels attend over all frames and places at once.
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | x | `clip`, in \[-1, 1\] | (B, 1, T, S, S) |
//! | mu, log sigma^2 | [`Posterior`] | (B, z, T, S/8, S/8) |
//! | z | `latent` | (B, z, T, S/8, S/8) |
//!
//! Departures from the paper: none known; the sizes are those of the published code. Shapes are written as the paper has
//! them; inside, the processor holds maps channels last ([`op::enter`]).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::attention::attend;
use super::layers::{is_tracked, Conv3d, GroupNorm};
use super::op;
use crate::kernel::gemm::Precision;

/// Groups of the normalisation, where a layer has that many channels.
const GROUPS: usize = 32;
/// Added to the variance of a group.
const EPS: f64 = 1e-6;
/// Bounds of log sigma^2.
const LOG_VARIANCE: (f64, f64) = (-30.0, 20.0);
/// Weight of the KL divergence in training.
pub const KL_WEIGHT: f64 = 1e-6;
/// Standard deviations above a frame's mean from which a pixel is an outlier.
const OUTLIER_DEVIATIONS: f64 = 3.0;
/// Added to the variance of a frame: the gradient of a flat frame's deviation is then 0 and not undefined.
const VARIANCE_EPS: f64 = 1e-12;

/// Sizes of the 3D-VAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Width of the first level.
    pub base_width: usize,
    /// Width of each level in units of `base_width`, finest first.
    pub multipliers: Vec<usize>,
    /// Residual blocks a level in the encoder; the decoder has one more.
    pub blocks: usize,
    /// Levels with attention after every residual block, 0 = finest.
    pub attention_levels: Vec<usize>,
    /// Heads of the attention blocks.
    pub attention_heads: usize,
    /// Latent channels.
    pub latent_channels: usize,
    /// Consecutive frames a training clip is cut to; 0 trains on the whole cycle (time is never reduced).
    pub training_frames: usize,
}

impl Config {
    /// The published code's sizes.
    pub fn published() -> Self {
        Config {
            base_width: 64,
            multipliers: vec![1, 2, 4, 4],
            blocks: 2,
            attention_levels: vec![2, 3],
            attention_heads: 8,
            latent_channels: 4,
            training_frames: 0,
        }
    }

    /// The paper: as published.
    pub fn paper() -> Self {
        Config::published()
    }

    /// Small, for laptops and the bundled weights: narrow where the images are large, attention in the middle only.
    pub fn compact() -> Self {
        Config {
            base_width: 16,
            multipliers: vec![1, 1, 2, 4],
            blocks: 1,
            attention_levels: vec![],
            training_frames: 8,
            ..Config::published()
        }
    }

    /// The sizes of the parity data, for tests.
    pub fn tiny() -> Self {
        Config { base_width: 32, multipliers: vec![1, 1, 2, 2], blocks: 1, ..Config::published() }
    }

    /// How many times smaller the latent is than the image, per side.
    pub fn reduction(&self) -> usize {
        1 << self.multipliers.len().saturating_sub(1).min(16)
    }
}

fn norm(channels: usize, vb: VarBuilder) -> Result<GroupNorm> {
    GroupNorm::new(channels, GROUPS.min(channels), EPS, vb)
}

/// Two convolutions and a way around them.
#[derive(Debug, Clone)]
struct Residual {
    norm1: GroupNorm,
    conv1: Conv3d,
    norm2: GroupNorm,
    conv2: Conv3d,
    around: Option<Conv3d>,
}

impl Residual {
    fn new(from: usize, to: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Residual {
            norm1: norm(from, vb.pp("norm1"))?,
            conv1: Conv3d::cube((from, to), vb.pp("conv1"))?,
            norm2: norm(to, vb.pp("norm2"))?,
            conv2: Conv3d::cube((to, to), vb.pp("conv2"))?,
            around: if from == to { None } else { Some(Conv3d::point((from, to), vb.pp("nin_shortcut"))?) },
        })
    }

    /// x (B, from, T, H, W) -> (B, to, T, H, W).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (first, second) = (self.norm1.half(&self.conv1), self.norm2.half(&self.conv2));
        let parts = op::Residual { first, second, around: self.around.as_ref().map(Conv3d::affine) };
        if op::has_kernels(x) && !is_tracked(&parts.tensors(x)) {
            return op::residual(x, parts);
        }
        let y = self.norm1.then(&self.conv1, x)?;
        let y = self.norm2.then(&self.conv2, &y)?;
        match &self.around {
            Some(around) => around.forward(x)? + y,
            None => x + y,
        }
    }
}

/// Attention of every token of the clip to every other.
#[derive(Debug, Clone)]
struct Attention {
    norm: GroupNorm,
    qkv: [Conv3d; 3],
    out: Conv3d,
    heads: usize,
    precision: Precision,
}

impl Attention {
    fn new(channels: usize, heads: usize, precision: Precision, vb: VarBuilder) -> Result<Self> {
        if heads == 0 || !channels.is_multiple_of(heads) {
            candle_core::bail!("{channels} channels cannot be split among {heads} heads")
        }
        let point = |name: &str| Conv3d::point((channels, channels), vb.pp(name));
        let qkv = [point("q")?, point("k")?, point("v")?];
        if precision == Precision::Bf16 && !op::has_kernels(qkv[0].affine()[0]) {
            candle_core::bail!("products of bf16 are for the processor")
        }
        Ok(Attention { norm: norm(channels, vb.pp("norm"))?, qkv, out: point("proj_out")?, heads, precision })
    }

    /// x + proj(attention(q, k, v)) over all tokens T H W.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.norm.forward(x)?;
        let [q, k, v] = &self.qkv;
        if op::has_kernels(x) {
            let (b, t, h, w, c) = x.dims5()?; // channels last: tokens are rows
            let y = y.reshape((b, t * h * w, c))?;
            let tokens = |conv: &Conv3d| conv.forward_tokens(&y, self.precision);
            let y = op::attention(&tokens(q)?, &tokens(k)?, &tokens(v)?, self.heads, self.precision)?;
            return x + self.out.forward_tokens(&y, self.precision)?.reshape(x.shape())?;
        }
        let (b, c, t, h, w) = x.dims5()?;
        let tokens = |conv: &Conv3d| conv.forward(&y)?.reshape((b, c, t * h * w))?.transpose(1, 2)?.contiguous();
        let y = attend(&tokens(q)?, &tokens(k)?, &tokens(v)?, self.heads)?; // (B, T H W, C)
        let y = y.transpose(1, 2)?.contiguous()?.reshape((b, c, t, h, w))?;
        x + self.out.forward(&y)?
    }
}

/// The deepest part of encoder and decoder.
#[derive(Debug, Clone)]
struct Middle {
    first: Residual,
    attention: Attention,
    second: Residual,
}

impl Middle {
    fn new(channels: usize, heads: usize, precision: Precision, vb: VarBuilder) -> Result<Self> {
        Ok(Middle {
            first: Residual::new(channels, channels, vb.pp("block_1"))?,
            attention: Attention::new(channels, heads, precision, vb.pp("attn_1"))?,
            second: Residual::new(channels, channels, vb.pp("block_2"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.attention.forward(&self.first.forward(x)?)?)
    }
}

/// Residual blocks of one resolution, each followed by attention where the level has it.
#[derive(Debug, Clone)]
struct Level {
    blocks: Vec<(Residual, Option<Attention>)>,
    resample: Option<Conv3d>,
}

impl Level {
    /// Level `i` with `blocks` residual blocks, the first of which changes the width.
    fn new(
        config: &Config,
        i: usize,
        (from, to): (usize, usize),
        blocks: usize,
        precision: Precision,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let attends = config.attention_levels.contains(&i);
        let block = |j: usize| {
            let residual = Residual::new(if j == 0 { from } else { to }, to, vb.pp(format!("block.{j}")))?;
            let attention = || Attention::new(to, config.attention_heads, precision, vb.pp(format!("attn.{j}")));
            Ok((residual, attends.then(attention).transpose()?))
        };
        Ok(Level { blocks: (0..blocks).map(block).collect::<Result<_>>()?, resample: None })
    }

    fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        for (residual, attention) in &self.blocks {
            x = residual.forward(&x)?;
            if let Some(attention) = attention {
                x = attention.forward(&x)?;
            }
        }
        Ok(x)
    }
}

/// Normalisation, swish and a 3 x 3 x 3 convolution: the end of encoder and decoder.
#[derive(Debug, Clone)]
struct Out {
    norm: GroupNorm,
    conv: Conv3d,
}

impl Out {
    fn new(from: usize, to: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Out { norm: norm(from, vb.pp("norm_out"))?, conv: Conv3d::cube((from, to), vb.pp("conv_out"))? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.then(&self.conv, x)
    }
}

/// Clips to latents.
#[derive(Debug, Clone)]
pub struct Encoder {
    start: Conv3d,
    levels: Vec<Level>,
    middle: Middle,
    out: Out,
    quantise: Conv3d,
}

impl Encoder {
    /// Reads `encoder_3d.*` and `quant_conv`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let (net, z, mut width) = (vb.pp("encoder_3d"), config.latent_channels, config.base_width);
        let start = Conv3d::cube((1, width), net.pp("conv_in"))?;
        let mut levels = Vec::new();
        for (i, multiplier) in config.multipliers.iter().enumerate() {
            let (to, vb) = (config.base_width * multiplier, net.pp(format!("down.{i}")));
            let mut level = Level::new(config, i, (width, to), config.blocks, Precision::F32, &vb)?;
            if i + 1 < config.multipliers.len() {
                let vb = vb.pp("downsample.conv");
                level.resample = Some(Conv3d::new((to, to), [1, 3, 3], [1, 2, 2], [0, 1, 1], vb)?);
            }
            levels.push(level);
            width = to;
        }
        let middle = Middle::new(width, config.attention_heads, Precision::F32, net.pp("mid"))?;
        let quantise = Conv3d::point((2 * z, 2 * z), vb.pp("quant_conv"))?;
        Ok(Encoder { start, levels, middle, out: Out::new(width, 2 * z, &net)?, quantise })
    }

    /// clip (B, 1, T, S, S) in \[-1, 1\] -> the distribution of its latent.
    pub fn forward(&self, clip: &Tensor) -> Result<Posterior> {
        let mut x = self.start.forward(&op::enter(clip)?)?; // (B, W, T, S, S)
        for level in &self.levels {
            x = level.forward(x)?;
            if let Some(halve) = &level.resample {
                x = halve.forward(&x)?; // rows and columns halved
            }
        }
        let x = self.out.forward(&self.middle.forward(&x)?)?; // (B, 2 z, T, S/8, S/8)
        let x = op::leave(&self.quantise.forward(&x)?)?;
        let z = x.dim(1)? / 2;
        let (low, high) = LOG_VARIANCE;
        Ok(Posterior { mean: x.narrow(1, 0, z)?.contiguous()?, logvar: x.narrow(1, z, z)?.clamp(low, high)? })
    }
}

/// The normal distribution of a latent, given its clip.
#[derive(Debug, Clone)]
pub struct Posterior {
    /// mu (B, z, T, S/8, S/8).
    pub mean: Tensor,
    /// log sigma^2, of the same shape.
    pub logvar: Tensor,
}

impl Posterior {
    /// KL divergence from the standard normal distribution, summed over each record: (B).
    pub fn kl(&self) -> Result<Tensor> {
        let terms = ((self.mean.sqr()? + self.logvar.exp()?)? - (&self.logvar + 1.0)?)?;
        terms.flatten_from(1)?.sum(1)? * 0.5
    }

    /// mu + sigma * noise.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        &self.mean + ((&self.logvar * 0.5)?.exp()? * noise)?
    }
}

/// Latents to clips; needs `post_quant_conv` and `decoder.*` only.
#[derive(Debug, Clone)]
pub struct Decoder {
    dequantise: Conv3d,
    start: Conv3d,
    middle: Middle,
    /// Deepest first.
    levels: Vec<Level>,
    out: Out,
}

impl Decoder {
    /// Reads `post_quant_conv` and `decoder.*`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        Decoder::with_precision(config, Precision::F32, vb)
    }

    /// The same with the products of the attention in `precision`; bf16 is for fixed weights on the processor.
    pub fn with_precision(config: &Config, precision: Precision, vb: VarBuilder) -> Result<Self> {
        let (net, z) = (vb.pp("decoder"), config.latent_channels);
        let dequantise = Conv3d::point((z, z), vb.pp("post_quant_conv"))?;
        let mut width = config.base_width * config.multipliers.last().copied().unwrap_or(1);
        let start = Conv3d::cube((z, width), net.pp("conv_in"))?;
        let middle = Middle::new(width, config.attention_heads, precision, net.pp("mid"))?;
        let mut levels = Vec::new();
        for (i, multiplier) in config.multipliers.iter().enumerate().rev() {
            let (to, vb) = (config.base_width * multiplier, net.pp(format!("up.{i}")));
            let mut level = Level::new(config, i, (width, to), config.blocks + 1, precision, &vb)?;
            if i > 0 {
                level.resample = Some(Conv3d::cube((to, to), vb.pp("upsample.conv"))?);
            }
            levels.push(level);
            width = to;
        }
        Ok(Decoder { dequantise, start, middle, levels, out: Out::new(width, 1, &net)? })
    }

    /// latent (B, z, T, S/8, S/8) -> clip (B, 1, T, S, S), not clamped.
    pub fn forward(&self, latent: &Tensor) -> Result<Tensor> {
        self.finish(&self.hidden(latent)?)
    }

    /// latent (B, z, T, S/8, S/8) -> what the last layer sees (B, W, T, S, S); channels last where the kernels of the
    /// processor compute.
    pub fn hidden(&self, latent: &Tensor) -> Result<Tensor> {
        let x = self.start.forward(&self.dequantise.forward(&op::enter(latent)?)?)?;
        let mut x = self.middle.forward(&x)?;
        for level in &self.levels {
            x = level.forward(x)?;
            if let Some(conv) = &level.resample {
                x = conv.forward_doubled(&x)?; // rows and columns doubled
            }
        }
        Ok(x)
    }

    /// The last layer: [`Decoder::hidden`] -> clip (B, 1, T, S, S).
    pub fn finish(&self, hidden: &Tensor) -> Result<Tensor> {
        op::leave(&self.out.forward(hidden)?)
    }
}

/// Both halves.
#[derive(Debug, Clone)]
pub struct Vae {
    /// Clips to latents.
    pub encoder: Encoder,
    /// Latents to clips.
    pub decoder: Decoder,
}

impl Vae {
    /// Reads `encoder_3d.*`, `quant_conv`, `post_quant_conv` and `decoder.*`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        Ok(Vae { encoder: Encoder::new(config, vb.clone())?, decoder: Decoder::new(config, vb)? })
    }

    /// clip (B, 1, T, S, S) in \[-1, 1\] -> the distribution of its latent.
    pub fn encode(&self, clip: &Tensor) -> Result<Posterior> {
        self.encoder.forward(clip)
    }

    /// latent (B, z, T, S/8, S/8) -> clip (B, 1, T, S, S), not clamped.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        self.decoder.forward(latent)
    }
}

/// The pixel-wise loss and its parts, each a scalar.
#[derive(Debug, Clone)]
pub struct Losses {
    /// L1 + 1e-6 KL.
    pub total: Tensor,
    /// Mean absolute difference.
    pub absolute: Tensor,
    /// KL divergence, mean over records.
    pub kl: Tensor,
}

/// Mean of what pixels exceed their frame's mean by beyond three standard deviations: clip (B, 1, T, S, S).
pub fn outlier_penalty(clip: &Tensor) -> Result<Tensor> {
    let (b, _, t, h, w) = clip.dims5()?;
    let pixels = clip.reshape((b * t, h * w))?;
    let centred = pixels.broadcast_sub(&pixels.mean_keepdim(1)?)?;
    let variance = (centred.sqr()?.sum_keepdim(1)? / (h * w).saturating_sub(1).max(1) as f64)?; // (B T, 1)
    let limit = ((variance + VARIANCE_EPS)?.sqrt()? * OUTLIER_DEVIATIONS)?;
    centred.broadcast_sub(&limit)?.relu()?.mean_all()
}

/// mean |x - x'| + 1e-6 mean over records of KL; the perceptual and adversarial terms are added by training.
pub fn loss(clip: &Tensor, decoded: &Tensor, posterior: &Posterior) -> Result<Losses> {
    let absolute = (clip - decoded)?.abs()?.mean_all()?;
    let kl = posterior.kl()?.mean_all()?;
    Ok(Losses { total: (&absolute + (&kl * KL_WEIGHT)?)?, absolute, kl })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn latents_are_eight_times_smaller_and_keep_every_frame() {
        let config = Config::tiny();
        let vae = Vae::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu)).unwrap();
        let clip = Tensor::zeros((1, 1, 3, 16, 16), DType::F32, &Device::Cpu).unwrap();
        let posterior = vae.encode(&clip).unwrap();
        assert_eq!(posterior.mean.dims(), [1, 4, 3, 2, 2]);
        assert_eq!(vae.decode(&posterior.mean).unwrap().dims(), [1, 1, 3, 16, 16]);
    }

    #[test]
    fn outliers_are_what_exceeds_three_deviations() {
        let mut values = vec![0f64; 100];
        values[7] = 10.0; // mean 0.1, unbiased variance (99 * 0.01 + 98.01) / 99 = 1
        let frame = Tensor::from_vec(values, (1, 1, 1, 10, 10), &Device::Cpu).unwrap();
        let penalty = outlier_penalty(&frame).unwrap().to_scalar::<f64>().unwrap();
        assert!((penalty - (10.0 - 0.1 - 3.0) / 100.0).abs() < 1e-9, "{penalty}");
        let flat = candle_core::Var::zeros((1, 1, 1, 4, 4), DType::F32, &Device::Cpu).unwrap();
        let grads = outlier_penalty(&flat).unwrap().backward().unwrap();
        let largest = grads.get(&flat).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(largest.is_finite());
    }

    #[test]
    fn divergence_by_hand() {
        let mean = Tensor::new(&[[1f32, 0.], [2., 0.]], &Device::Cpu).unwrap();
        let posterior = Posterior { logvar: mean.zeros_like().unwrap(), mean };
        assert_eq!(posterior.kl().unwrap().to_vec1::<f32>().unwrap(), [0.5, 2.0]);
    }
}
