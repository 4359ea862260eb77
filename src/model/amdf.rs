//! AMDF, the anatomy-motion disentangled flow: the DiT velocity and its sampler (paper section 3.2).
//!
//! A transformer tells, for a latent on its way from the anatomy template plus noise (t = 0) to a clip (t = 1), which way
//! to move, given the features of one cardiac cycle. Each block attends over time at every place, then from every token
//! to the ECG, then over the places of every frame, each modulated by time and the mean ECG.
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | x_t | `x` | (B, z, T, L, L) |
//! | t | `t`, in \[0, 1\] | (B) |
//! | c | `feature`, zeros for none | (B, T, D) |
//! | v(x_t, t, c) | [`Velocity::forward`] | (B, z, T, L, L) |
//! | h | tokens | (B, T P, W), P = (L / patch)^2 |
//!
//! Departures from the paper: [`Config::published`] takes alpha, guidance and the time grid from the published code, and
//! `patch` may join p x p latent places into one token (`compact`).

use candle_core::{bail, Result, Tensor};
use candle_nn::init::ZERO;
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use super::attention::MultiHead;
use super::layers::{each_token, gelu, is_tracked, linear, mean_squared_error, modulated_norm, xavier, Linear};
use super::op;
use crate::kernel::gemm::Precision;
use crate::kernel::transformer::{self, Seen};

/// Added to the variance in layer normalisation.
const EPS: f32 = 1e-6;
/// Frequencies of the time embedding; it is twice as wide.
const FREQUENCIES: usize = 128;
/// Longest period of the time embedding.
const MAX_PERIOD: f64 = 10_000.0;
/// Standard deviation that the positional embedding is drawn with.
const POSITION_SD: f64 = 0.02;
/// (shift, scale, gate) for each of spatial, temporal, cross and MLP.
const MODULATIONS: usize = 12;

/// Where in each Euler interval the velocity is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeGrid {
    /// t = (i + 0.5) / steps (published code).
    Middle,
    /// t = i / steps (paper).
    Start,
}

impl std::str::FromStr for TimeGrid {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "middle" => Ok(TimeGrid::Middle),
            "start" => Ok(TimeGrid::Start),
            _ => Err("expected middle or start".to_owned()),
        }
    }
}

/// How clips are drawn unless the command line says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Standard deviation of the noise around the anatomy template.
    pub alpha: f64,
    /// Euler steps.
    pub steps: usize,
    /// Guidance g: v = u + g (c - u); 1 is none.
    pub guidance: f64,
    /// Time grid.
    pub grid: TimeGrid,
}

/// Sizes of the DiT and defaults of its sampler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Token width.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the ECG features D.
    pub feature_dim: usize,
    /// Frames T.
    pub frames: usize,
    /// Latent channels.
    pub latent_channels: usize,
    /// Rows and columns of the latent.
    pub latent_side: usize,
    /// Latent positions a side that one token covers (1: published).
    pub patch: usize,
    /// Standard deviation of the noise in training.
    pub training_alpha: f64,
    /// Sampler defaults.
    pub sampling: Sampling,
}

impl Config {
    /// The published code's sizes and sampler.
    pub fn published() -> Self {
        Config {
            width: 512,
            depth: 8,
            heads: 8,
            feature_dim: 768,
            frames: 50,
            latent_channels: 4,
            latent_side: 12,
            patch: 1,
            training_alpha: 0.8,
            sampling: Sampling { alpha: 0.6, steps: 10, guidance: 2.0, grid: TimeGrid::Middle },
        }
    }

    /// The paper: noise of standard deviation 1, velocity at the start of each interval, no guidance stated.
    pub fn paper() -> Self {
        let sampling = Sampling { alpha: 1.0, steps: 10, guidance: 1.0, grid: TimeGrid::Start };
        Config { training_alpha: 1.0, sampling, ..Config::published() }
    }

    /// Small, for laptops and the bundled weights: 4 x 4 latent positions a token. Sampled with less noise than the published,
    /// so that a draw is nearer to the heart that the ECG makes likeliest.
    pub fn compact() -> Self {
        let published = Config::published();
        let sampling = Sampling { alpha: 0.2, ..published.sampling.clone() };
        Config { width: 128, depth: 4, heads: 4, feature_dim: 128, patch: 4, sampling, ..published }
    }

    /// The sizes of the parity data, for tests.
    pub fn tiny() -> Self {
        Config { width: 64, depth: 2, heads: 4, feature_dim: 48, frames: 8, latent_side: 4, ..Config::published() }
    }
}

/// Two linear layers with SiLU between.
#[derive(Debug, Clone)]
struct Silu2(Linear, Linear);

impl Silu2 {
    fn new(from: usize, to: usize, first: VarBuilder, second: VarBuilder) -> Result<Self> {
        Ok(Silu2(linear(from, to, xavier(from, to), first)?, linear(to, to, xavier(to, to), second)?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.1.forward(&self.0.forward(x)?.silu()?)
    }
}

/// [cos, sin] of t at falling frequencies: t (B) -> (B, 256).
fn time_embedding(t: &Tensor) -> Result<Tensor> {
    let frequency = |k| (-MAX_PERIOD.ln() * f64::from(k) / FREQUENCIES as f64).exp() as f32;
    let frequencies: Vec<f32> = (0..FREQUENCIES as u32).map(frequency).collect();
    let frequencies = Tensor::from_vec(frequencies, (1, FREQUENCIES), t.device())?.to_dtype(t.dtype())?;
    let angle = t.unsqueeze(1)?.broadcast_mul(&frequencies)?; // (B, 128)
    Tensor::cat(&[angle.cos()?, angle.sin()?], 1)
}

/// shift, scale and gate of one operation, each (B, 1, W).
#[derive(Debug, Clone)]
struct Modulation {
    shift: Tensor,
    scale: Tensor,
    gate: Tensor,
}

impl Modulation {
    /// norm(h) (1 + scale) + shift.
    fn enter(&self, h: &Tensor) -> Result<Tensor> {
        modulated_norm(h, &self.scale, &self.shift, EPS)
    }

    /// h + gate y.
    fn leave(&self, h: &Tensor, y: &Tensor) -> Result<Tensor> {
        h + y.broadcast_mul(&self.gate)?
    }
}

/// One block of the transformer.
#[derive(Debug, Clone)]
struct Block {
    layers: Layers,
    modulation: Linear,
}

/// The layers of a block, as tensors or packed for the kernels of the processor.
#[derive(Debug, Clone)]
enum Layers {
    Tensors { temporal: MultiHead, cross: MultiHead, spatial: MultiHead, mlp: (Linear, Linear) },
    Packed(Box<transformer::Block>),
}

impl Block {
    fn new(width: usize, heads: usize, precision: Precision, vb: VarBuilder) -> Result<Self> {
        let inner = 4 * width;
        let temporal = MultiHead::new(width, heads, vb.pp("attn_temporal"))?;
        let cross = MultiHead::new(width, heads, vb.pp("attn_cross"))?;
        let spatial = MultiHead::new(width, heads, vb.pp("attn_spatial"))?;
        let mlp = (
            linear(width, inner, xavier(width, inner), vb.pp("mlp.0"))?,
            linear(inner, width, xavier(inner, width), vb.pp("mlp.2"))?,
        );
        let modulation = linear(width, MODULATIONS * width, ZERO, vb.pp("adaLN_modulation.1"))?;
        let weight = mlp.0.weight();
        let layers = if op::has_kernels(weight) && !is_tracked(&[weight]) {
            let dense = |l: &Linear| op::dense(l.weight(), l.bias(), precision);
            let mlp = transformer::Mlp { up: dense(&mlp.0)?, down: dense(&mlp.1)? };
            let (temporal, spatial) = (temporal.packed(precision)?, spatial.packed(precision)?);
            let cross = cross.packed_cross(precision)?;
            Layers::Packed(Box::new(transformer::Block::new(temporal, cross, spatial, mlp, heads)))
        } else if precision == Precision::F32 {
            Layers::Tensors { temporal, cross, spatial, mlp }
        } else {
            bail!("bf16 products are for fixed weights on the processor")
        };
        Ok(Block { layers, modulation })
    }

    /// h (B, T P, W), condition after SiLU (B, W) -> (B, T P, W).
    fn forward(&self, h: Tensor, condition: &Tensor, ecg: &Ecg, block: usize, frames: usize) -> Result<Tensor> {
        let (b, n, width) = h.dims3()?;
        let places = n / frames.max(1);
        let all = self.modulation.forward(condition)?; // (B, 12 W)
        let (temporal, cross, spatial, mlp) = match &self.layers {
            Layers::Tensors { temporal, cross, spatial, mlp } => (temporal, cross, spatial, mlp),
            Layers::Packed(packed) => return op::block(packed, h, &all, frames, |record| ecg.seen(record, block)),
        };
        let all = all.unsqueeze(1)?;
        let part = |i: usize| all.narrow(2, i * width, width)?.contiguous();
        let modulation = |i: usize| {
            Ok::<_, candle_core::Error>(Modulation { shift: part(i)?, scale: part(i + 1)?, gate: part(i + 2)? })
        };
        let (m_spatial, m_temporal, m_cross, m_mlp) = (modulation(0)?, modulation(3)?, modulation(6)?, modulation(9)?);

        let y = m_temporal.enter(&h)?.reshape((b, frames, places, width))?.transpose(1, 2)?;
        let y = y.contiguous()?.reshape((b * places, frames, width))?; // (B P, T, W)
        let y = temporal.forward(&y, &y)?.reshape((b, places, frames, width))?;
        let h = m_temporal.leave(&h, &y.transpose(1, 2)?.contiguous()?.reshape((b, n, width))?)?;

        let y = cross.forward(&m_cross.enter(&h)?, &ecg.tokens)?; // every token to the T tokens of the ECG
        let h = m_cross.leave(&h, &y)?;

        let y = m_spatial.enter(&h)?.reshape((b * frames, places, width))?; // (B T, P, W)
        let h = m_spatial.leave(&h, &spatial.forward(&y, &y)?.reshape((b, n, width))?)?;

        let y = each_token(&m_mlp.enter(&h)?, |y| mlp.1.forward(&gelu(&mlp.0.forward(y)?)?))?;
        m_mlp.leave(&h, &y)
    }
}

/// What the flow sees of the ECG: the same at every step, so it is computed once.
#[derive(Debug, Clone)]
pub struct Ecg {
    /// Tokens (B, T', W).
    tokens: Tensor,
    /// g (B, W).
    global: Tensor,
    /// For each record, what each block sees; nothing where the blocks are not packed.
    seen: Vec<Vec<Seen>>,
}

impl Ecg {
    fn seen(&self, record: usize, block: usize) -> Result<&Seen> {
        let seen = self.seen.get(record).and_then(|blocks| blocks.get(block));
        seen.ok_or_else(|| candle_core::Error::Msg(format!("no ECG of record {record} for block {block}")))
    }
}

/// The velocity v(x_t, t, c) of the flow.
#[derive(Debug, Clone)]
pub struct Velocity {
    token: Linear,
    position: Tensor,
    time: Silu2,
    ecg: Linear,
    ecg_global: Silu2,
    blocks: Vec<Block>,
    last_modulation: Linear,
    last: Linear,
    patch: usize,
}

impl Velocity {
    /// Reads `x_embedder`, `pos_embed`, `t_embedder`, `ecg_proj`, `ecg_global_proj`, `blocks`, `final_*`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        Velocity::with_precision(config, Precision::F32, vb)
    }

    /// The same with the products of the blocks in `precision`; bf16 is for fixed weights on the processor.
    pub fn with_precision(config: &Config, precision: Precision, vb: VarBuilder) -> Result<Self> {
        let (width, patch) = (config.width, config.patch);
        if patch == 0 || !config.latent_side.is_multiple_of(patch) {
            bail!("a latent of {0} x {0} cannot be cut into patches of {patch} x {patch}", config.latent_side)
        }
        let places = (config.latent_side / patch).pow(2);
        let pixels = config.latent_channels * patch * patch;
        let position = Init::Randn { mean: 0.0, stdev: POSITION_SD };
        let block = |i: usize| Block::new(width, config.heads, precision, vb.pp(format!("blocks.{i}")));
        let (time, global) = (vb.pp("t_embedder.mlp"), vb.pp("ecg_global_proj"));
        Ok(Velocity {
            token: linear(pixels, width, xavier(pixels, width), vb.pp("x_embedder"))?,
            position: vb.get_with_hints((1, config.frames, places, width), "pos_embed", position)?,
            time: Silu2::new(2 * FREQUENCIES, width, time.pp(0), time.pp(2))?,
            ecg: linear(config.feature_dim, width, xavier(config.feature_dim, width), vb.pp("ecg_proj"))?,
            ecg_global: Silu2::new(width, width, global.pp(0), global.pp(2))?,
            blocks: (0..config.depth).map(block).collect::<Result<_>>()?,
            last_modulation: linear(width, 2 * width, ZERO, vb.pp("final_adaLN_modulation.1"))?,
            last: linear(width, pixels, ZERO, vb.pp("final_linear"))?,
            patch,
        })
    }

    /// What every step needs of the features (B, T', D).
    pub fn see(&self, feature: &Tensor) -> Result<Ecg> {
        let tokens = self.ecg.forward(&feature.contiguous()?)?; // (B, T', W)
        let global = self.ecg_global.forward(&tokens.mean(1)?)?; // (B, W)
        let packed = |block: &Block, record: &Tensor| match &block.layers {
            Layers::Packed(packed) => Ok(Some(op::see(packed, record)?)),
            Layers::Tensors { .. } => Ok(None),
        };
        let record = |b: usize| {
            let tokens = tokens.get(b)?;
            self.blocks.iter().filter_map(|block| packed(block, &tokens).transpose()).collect()
        };
        let seen = (0..tokens.dim(0)?).map(record).collect::<Result<_>>()?;
        Ok(Ecg { tokens, global, seen })
    }

    /// x (B, z, T, L, L) at times t (B) with features (B, T', D) -> velocity (B, z, T, L, L).
    pub fn forward(&self, x: &Tensor, t: &Tensor, feature: &Tensor) -> Result<Tensor> {
        self.at(x, t, &self.see(feature)?)
    }

    /// The same for an ECG that was seen before.
    pub fn at(&self, x: &Tensor, t: &Tensor, ecg: &Ecg) -> Result<Tensor> {
        let (_, channels, frames, side, _) = x.dims5()?;
        let h = self.token.forward(&to_tokens(x, self.patch)?)?; // (B, T P, W)
        let (_, n, width) = h.dims3()?;
        if self.position.elem_count() != n * width {
            bail!("the flow was made for positions {:?}, the latent is {:?}", self.position.dims(), x.dims())
        }
        let mut h = h.broadcast_add(&self.position.reshape((1, n, width))?)?;
        let time = self.time.forward(&time_embedding(t)?)?; // (B, W)
        let condition = (time + &ecg.global)?.silu()?;
        for (i, block) in self.blocks.iter().enumerate() {
            h = block.forward(h, &condition, ecg, i, frames)?;
        }
        let last = self.last_modulation.forward(&condition)?.unsqueeze(1)?.chunk(2, 2)?;
        let [shift, scale] = last.as_slice() else { bail!("expected shift and scale") };
        let h = modulated_norm(&h, scale, shift, EPS)?;
        from_tokens(&self.last.forward(&h)?, channels, frames, side, self.patch)
        // (B, z, T, L, L)
    }
}

/// x (B, C, T, L, L) -> tokens (B, T (L/p)^2, C p p).
fn to_tokens(x: &Tensor, p: usize) -> Result<Tensor> {
    let (b, c, t, rows, columns) = x.dims5()?;
    let (rows, columns) = (rows / p, columns / p);
    x.reshape(vec![b, c, t, rows, p, columns, p])?.permute([0, 2, 3, 5, 1, 4, 6].as_slice())?.reshape((
        b,
        t * rows * columns,
        c * p * p,
    ))
}

/// The inverse of `to_tokens`.
fn from_tokens(h: &Tensor, c: usize, t: usize, side: usize, p: usize) -> Result<Tensor> {
    let (b, n) = (h.dim(0)?, side / p);
    h.reshape(vec![b, t, n, n, c, p, p])?.permute([0, 4, 1, 2, 5, 3, 6].as_slice())?.reshape((b, c, t, side, side))
}

/// x_0 = template (1, z, 1, L, L) + alpha * noise (B, z, T, L, L).
pub fn start(template: &Tensor, noise: &Tensor, alpha: f64) -> Result<Tensor> {
    (noise * alpha)?.broadcast_add(template)
}

/// Euler steps from `start` (B, z, T, L, L) with the features of each record (B, T, D) -> latents at t = 1.
///
/// v = u + g (c - u), with u the velocity without features; g = 1 leaves u out. `on_step` hears how many steps are done.
pub fn sample<F: FnMut(usize)>(
    velocity: &Velocity,
    start: &Tensor,
    feature: &Tensor,
    steps: usize,
    guidance: f64,
    grid: TimeGrid,
    mut on_step: F,
) -> Result<Tensor> {
    let offset = match grid {
        TimeGrid::Middle => 0.5,
        TimeGrid::Start => 0.0,
    };
    let ecg = velocity.see(feature)?;
    let none = if guidance == 1.0 { None } else { Some(velocity.see(&feature.zeros_like()?)?) };
    let mut x = start.clone();
    for i in 0..steps {
        let t = (i as f64 + offset) / steps as f64;
        let t = (Tensor::ones(x.dim(0)?, x.dtype(), x.device())? * t)?; // (B)
        let mut v = velocity.at(&x, &t, &ecg)?;
        if let Some(none) = &none {
            let u = velocity.at(&x, &t, none)?;
            v = (&u + ((v - &u)? * guidance)?)?;
        }
        x = (x + (v / steps as f64)?)?;
        on_step(i + 1);
    }
    Ok(x)
}

/// mean (v(x_t, t, c) - (x_1 - x_0))^2 with x_t = (1 - t) x_0 + t x_1; t (B).
pub fn loss(velocity: &Velocity, x0: &Tensor, x1: &Tensor, t: &Tensor, feature: &Tensor) -> Result<Tensor> {
    let direction = (x1 - x0)?;
    let xt = (x0 + direction.broadcast_mul(&t.reshape((t.elem_count(), 1, 1, 1, 1))?)?)?;
    mean_squared_error(&velocity.forward(&xt, t, feature)?, &direction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    fn fresh(config: &Config) -> (VarMap, Velocity) {
        let map = VarMap::new();
        let velocity = Velocity::new(config, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
        (map, velocity)
    }

    #[test]
    fn tokens_and_back_are_the_same_latent() {
        let x = Tensor::arange(0f32, 192.0, &Device::Cpu).unwrap().reshape((2, 2, 3, 4, 4)).unwrap();
        for p in [1, 2, 4] {
            let h = to_tokens(&x, p).unwrap();
            assert_eq!(h.dims(), [2, 3 * (4 / p) * (4 / p), 2 * p * p]);
            let back = from_tokens(&h, 2, 3, 4, p).unwrap();
            assert_eq!((back - &x).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
        }
        let first = to_tokens(&x, 2).unwrap().get(0).unwrap().get(0).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(first, [0., 1., 4., 5., 48., 49., 52., 53.]); // channel by channel
    }

    #[test]
    fn closed_gates_move_nothing() {
        let config = Config { patch: 2, ..Config::tiny() };
        let (_map, velocity) = fresh(&config);
        let x = Tensor::randn(0f32, 1f32, (2, 4, 8, 4, 4), &Device::Cpu).unwrap();
        let feature = Tensor::randn(0f32, 1f32, (2, 8, 48), &Device::Cpu).unwrap();
        let mut heard = Vec::new();
        let y = sample(&velocity, &x, &feature, 3, 2.0, TimeGrid::Middle, |i| heard.push(i)).unwrap();
        assert_eq!((y - x).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
        assert_eq!(heard, [1, 2, 3]);
    }

    #[test]
    fn refuses_a_latent_of_another_size_and_patches_that_do_not_fit() {
        let config = Config::tiny();
        let (_map, velocity) = fresh(&config);
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        assert!(velocity.forward(&zeros(&[1, 4, 7, 4, 4]), &zeros(&[1]), &zeros(&[1, 8, 48])).is_err());
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        assert!(Velocity::new(&Config { patch: 3, ..config }, vb).is_err());
    }

    #[test]
    fn time_zero_is_all_cosines() {
        let e = time_embedding(&Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap()).unwrap();
        let e = e.to_vec2::<f32>().unwrap();
        assert!(e[0][..128].iter().all(|v| *v == 1.0) && e[0][128..].iter().all(|v| *v == 0.0));
    }
}
