//! PA-MAE, the phase-aware masked autoencoder of the ECG (paper section 3.1).
//!
//! A one-dimensional residual network reads a 12-lead ECG and gives, eight times more coarsely, a feature vector and the
//! phase of the cardiac cycle. In training some features are dropped and a decoder restores the ECG from the rest. In
//! use, one cycle is cut out between two wraps of the phase and resampled to T frames: the condition of the flow.
//!
//! | symbol | here | shape | unit |
//! |---|---|---|---|
//! | x | `ecg` | (B, 12, N), N = 5000 | mV |
//! | F | `semantic` | (B, D, N/8) | |
//! | (sin phi, cos phi) | `phase` | (B, 2, N/8) | |
//! | m | `mask`, 1 = kept | (B, 1, N/8) | |
//! | c | aligned features | (D, T) a record | |
//!
//! Departures from the paper: none in the network; [`Config::published`] weighs the losses as the published code does.

use candle_core::{bail, Result, Tensor};
use candle_nn::{BatchNorm, ModuleT, VarBuilder};
use serde::{Deserialize, Serialize};

use super::layers::{batch_norm, mean_squared_error, Conv1d};

/// Leads of the ECG.
const LEADS: usize = 12;
/// Width of the hidden layer of the phase head.
const PHASE_WIDTH: usize = 256;
/// A phase that falls by more than this from one sample to the next has wrapped: a beat ends there (rad).
const WRAP: f32 = -3.0;
/// A shorter beat is no beat (samples at 1/8 of the ECG's rate; 160 ms at 500 Hz).
const SHORTEST_BEAT: usize = 10;

/// Sizes of PA-MAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Width of the first stage; the four stages are 1, 2, 4 and 8 times as wide.
    pub base_width: usize,
    /// Feature width D.
    pub feature_dim: usize,
    /// Frames T that one cycle is resampled to.
    pub frames: usize,
    /// Weight of the reconstruction loss in training.
    pub reconstruction_weight: f64,
    /// Weight of the phase loss in training.
    pub phase_weight: f64,
}

impl Config {
    /// The published code's sizes and loss weights.
    pub fn published() -> Self {
        Config { base_width: 64, feature_dim: 768, frames: 50, reconstruction_weight: 100.0, phase_weight: 10.0 }
    }

    /// The paper: the published sizes, both losses weighted 1.
    pub fn paper() -> Self {
        Config { reconstruction_weight: 1.0, phase_weight: 1.0, ..Config::published() }
    }

    /// Small, for laptops and the bundled weights.
    pub fn compact() -> Self {
        Config { base_width: 16, feature_dim: 128, ..Config::published() }
    }

    /// The sizes of the parity data, for tests.
    pub fn tiny() -> Self {
        Config { base_width: 16, feature_dim: 48, frames: 8, ..Config::published() }
    }
}

/// Convolution without bias, batch normalisation.
#[derive(Debug, Clone)]
struct ConvNorm {
    conv: Conv1d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward_t(&self.conv.forward(x)?, train)
    }
}

/// Two convolutions and a way around them.
#[derive(Debug, Clone)]
struct Block {
    first: ConvNorm,
    second: ConvNorm,
    around: Option<ConvNorm>,
}

impl Block {
    fn new((from, to): (usize, usize), stride: usize, vb: VarBuilder) -> Result<Self> {
        let part = |sizes, k, shape, conv: &str, norm: &str| {
            let conv = Conv1d::no_bias(sizes, k, shape, vb.pp(conv))?;
            Ok::<_, candle_core::Error>(ConvNorm { conv, norm: batch_norm(to, vb.pp(norm))? })
        };
        let changes = stride != 1 || from != to;
        Ok(Block {
            first: part((from, to), 3, (stride, 1), "conv1", "bn1")?,
            second: part((to, to), 3, (1, 1), "conv2", "bn2")?,
            around: if changes {
                Some(part((from, to), 1, (stride, 0), "downsample.0", "downsample.1")?)
            } else {
                None
            },
        })
    }

    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let y = self.first.forward_t(x, train)?.relu()?;
        let y = self.second.forward_t(&y, train)?;
        let x = match &self.around {
            Some(around) => around.forward_t(x, train)?,
            None => x.clone(),
        };
        (y + x)?.relu()
    }
}

/// Reads the ECG.
#[derive(Debug, Clone)]
pub struct Encoder {
    stem: ConvNorm,
    blocks: Vec<Block>,
    feature: Conv1d,
    phase: (Conv1d, Conv1d),
}

impl Encoder {
    /// Reads `stem`, `layer1` .. `layer4`, `feature_proj` and `phase_head`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let width = config.base_width;
        let conv = Conv1d::no_bias((LEADS, width), 7, (2, 3), vb.pp("stem.0"))?;
        let stem = ConvNorm { conv, norm: batch_norm(width, vb.pp("stem.1"))? };
        let (mut blocks, mut from) = (Vec::new(), width);
        for layer in 1..=4 {
            let to = width << (layer - 1);
            for (i, stride) in [(0, if layer == 2 { 2 } else { 1 }), (1, 1)] {
                blocks.push(Block::new((from, to), stride, vb.pp(format!("layer{layer}.{i}")))?);
                from = to;
            }
        }
        let feature = Conv1d::new((from, config.feature_dim), 1, (1, 0), vb.pp("feature_proj"))?;
        let phase = (
            Conv1d::new((from, PHASE_WIDTH), 1, (1, 0), vb.pp("phase_head.0"))?,
            Conv1d::new((PHASE_WIDTH, 2), 1, (1, 0), vb.pp("phase_head.2"))?,
        );
        Ok(Encoder { stem, blocks, feature, phase })
    }

    /// ecg (B, 12, N) -> features (B, D, N/8), phase as (sin, cos) (B, 2, N/8).
    pub fn forward_t(&self, ecg: &Tensor, train: bool) -> Result<(Tensor, Tensor)> {
        let x = self.stem.forward_t(ecg, train)?.relu()?; // (B, W, N/2)
        let mut x = max_pool(&x)?; // (B, W, N/4)
        for block in &self.blocks {
            x = block.forward_t(&x, train)?;
        } // (B, 8 W, N/8)
        let phase = self.phase.1.forward(&self.phase.0.forward(&x)?.relu()?)?; // (B, 2, N/8)
        Ok((self.feature.forward(&x)?, phase))
    }
}

/// Largest of each sample at an even place and its two neighbours: (B, C, N) -> (B, C, N/2 rounded up).
fn max_pool(x: &Tensor) -> Result<Tensor> {
    let (b, c, n) = x.dims3()?;
    let x = if n % 2 == 1 { Tensor::cat(&[x, &x.narrow(2, n - 1, 1)?], 2)? } else { x.clone() };
    let pairs = x.contiguous()?.reshape((b, c, (), 2))?;
    let (even, odd) = (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?);
    let before = Tensor::cat(&[&even.narrow(2, 0, 1)?, &odd.narrow(2, 0, n.div_ceil(2) - 1)?], 2)?;
    before.maximum(&even)?.maximum(&odd)
}

/// Twice as many samples by linear interpolation at half-pixel centres: (B, C, N) -> (B, C, 2N).
fn double(x: &Tensor) -> Result<Tensor> {
    let (b, c, n) = x.dims3()?;
    let before = Tensor::cat(&[&x.narrow(2, 0, 1)?, &x.narrow(2, 0, n - 1)?], 2)?;
    let after = Tensor::cat(&[&x.narrow(2, 1, n - 1)?, &x.narrow(2, n - 1, 1)?], 2)?;
    let near = (x * 0.75)?;
    let (even, odd) = ((&near + (before * 0.25)?)?, (&near + (after * 0.25)?)?);
    Tensor::stack(&[even, odd], 3)?.reshape((b, c, 2 * n))
}

/// Restores the ECG from the features.
#[derive(Debug, Clone)]
pub struct Decoder {
    start: Conv1d,
    ups: Vec<ConvNorm>,
    end: Conv1d,
}

impl Decoder {
    /// Reads `proj`, `up1` .. `up3` and `final_conv`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let width = config.base_width;
        let start = Conv1d::new((config.feature_dim, 8 * width), 1, (1, 0), vb.pp("proj"))?;
        let mut ups = Vec::new();
        for (name, to) in [("up1", 4 * width), ("up2", 2 * width), ("up3", width)] {
            let conv = Conv1d::new((2 * to, to), 3, (1, 1), vb.pp(name).pp(1))?;
            ups.push(ConvNorm { conv, norm: batch_norm(to, vb.pp(name).pp(2))? });
        }
        Ok(Decoder { start, ups, end: Conv1d::new((width, LEADS), 7, (1, 3), vb.pp("final_conv"))? })
    }

    /// Features (B, D, M) -> ecg (B, 12, 8 M).
    pub fn forward_t(&self, features: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = self.start.forward(features)?; // (B, 8 W, M)
        for up in &self.ups {
            x = up.forward_t(&double(&x)?, train)?.relu()?; // half the width, twice the length
        }
        self.end.forward(&x) // (B, 12, 8 M)
    }
}

/// Encoder and decoder, as they are trained.
#[derive(Debug, Clone)]
pub struct PaMae {
    /// Reads the ECG.
    pub encoder: Encoder,
    /// Restores it.
    pub decoder: Decoder,
}

impl PaMae {
    /// Reads `encoder.*` and `decoder.*`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        Ok(PaMae { encoder: Encoder::new(config, vb.pp("encoder"))?, decoder: Decoder::new(config, vb.pp("decoder"))? })
    }
}

/// The loss and its parts, each a scalar.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Weighted sum.
    pub total: Tensor,
    /// Mean squared error of the phase.
    pub phase: Tensor,
    /// Mean squared error of the restored ECG.
    pub reconstruction: Tensor,
}

/// w_rec MSE(decoder(m F), x) + w_phase MSE(phase, target); mask (B, 1, N/8) is 1 where a feature is kept.
pub fn loss(
    model: &PaMae,
    config: &Config,
    ecg: &Tensor,
    mask: &Tensor,
    target: &Tensor,
    train: bool,
) -> Result<Losses> {
    let (semantic, phase) = model.encoder.forward_t(ecg, train)?;
    let restored = model.decoder.forward_t(&semantic.broadcast_mul(mask)?, train)?; // (B, 12, N)
    let phase = mean_squared_error(&phase, target)?;
    let reconstruction = mean_squared_error(&restored, ecg)?;
    let total = ((&reconstruction * config.reconstruction_weight)? + (&phase * config.phase_weight)?)?;
    Ok(Losses { total, phase, reconstruction })
}

/// Which cardiac cycles of a record become clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CycleChoice {
    /// The one in the middle of the record, by the published rule.
    Published,
    /// The complete beat of median length; where there is none, as `Published`.
    Median,
    /// The complete beat of this number, from 0.
    Index(usize),
    /// Every complete beat.
    All,
    /// The whole record, not one beat: what alignment is compared with.
    Whole,
}

/// The cycles of one record as (start, end exclusive) in samples of the phase; empty where the record has no such beat.
pub fn cycles(sin: &[f32], cos: &[f32], choice: CycleChoice) -> Vec<(usize, usize)> {
    let all = beats(sin, cos);
    match choice {
        CycleChoice::Published => vec![one_cycle(sin, cos)],
        CycleChoice::All => all,
        CycleChoice::Whole => vec![(0, sin.len().min(cos.len()))],
        CycleChoice::Index(i) => all.get(i).copied().into_iter().collect(),
        CycleChoice::Median => {
            let mut by_length = all;
            by_length.sort_by_key(|(start, end)| end - start);
            let middle = by_length.len().saturating_sub(1) / 2;
            vec![by_length.get(middle).copied().unwrap_or_else(|| one_cycle(sin, cos))]
        }
    }
}

/// Every complete beat, from one wrap of the phase to the next, in samples of the phase.
pub fn beats(sin: &[f32], cos: &[f32]) -> Vec<(usize, usize)> {
    let wraps = wraps(sin, cos);
    let pairs = wraps.iter().zip(wraps.iter().skip(1)).map(|(a, b)| (a + 1, b + 1));
    pairs.filter(|(start, end)| end - start >= SHORTEST_BEAT).collect()
}

/// One cycle by the published rule: the beat before the middle wrap; the middle third of a record with fewer than two
/// wraps; the whole record where that beat is too short to be one.
pub fn one_cycle(sin: &[f32], cos: &[f32]) -> (usize, usize) {
    let length = sin.len().min(cos.len());
    let wraps = wraps(sin, cos);
    let middle = wraps.len() / 2;
    match (middle.checked_sub(1).and_then(|i| wraps.get(i)), wraps.get(middle)) {
        (Some(a), Some(b)) if b - a >= SHORTEST_BEAT => (a + 1, b + 1),
        (Some(_), Some(_)) => (0, length),
        _ => (length / 3, 2 * length / 3),
    }
}

/// The last sample before each fall of the phase from +pi to -pi.
fn wraps(sin: &[f32], cos: &[f32]) -> Vec<usize> {
    let angle: Vec<f32> = sin.iter().zip(cos).map(|(sin, cos)| sin.atan2(*cos)).collect();
    let falls = angle.iter().zip(angle.iter().skip(1)).map(|(now, next)| next - now < WRAP);
    falls.enumerate().filter_map(|(i, falls)| falls.then_some(i)).collect()
}

/// Samples start..end of x (C, N) resized to `frames` by linear interpolation at half-pixel centres, the edges held:
/// (C, frames).
pub fn align(x: &Tensor, start: usize, end: usize, frames: usize) -> Result<Tensor> {
    let (_, n) = x.dims2()?;
    if start >= end || end > n || frames == 0 {
        bail!("a cycle of samples {start}..{end} of {n} cannot be resized to {frames} frames")
    }
    let length = end - start;
    let (mut left, mut right, mut share) = (Vec::new(), Vec::new(), Vec::new());
    for frame in 0..frames {
        let place = ((frame as f64 + 0.5) * length as f64 / frames as f64 - 0.5).clamp(0.0, (length - 1) as f64);
        left.push((start + place as usize) as u32);
        right.push((start + (place as usize + 1).min(length - 1)) as u32);
        share.push(place.fract());
    }
    let index = |at: Vec<u32>| x.index_select(&Tensor::from_vec(at, frames, x.device())?, 1);
    let (left, right) = (index(left)?, index(right)?); // (C, T)
    let share = Tensor::from_vec(share, frames, &candle_core::Device::Cpu)?.to_dtype(x.dtype())?;
    let share = share.to_device(x.device())?;
    &left + (right - &left)?.broadcast_mul(&share)?
}

/// Angle of each frame from its aligned (sin, cos), phase (2, T), in rad.
pub fn phase_angle(phase: &Tensor) -> Result<Vec<f32>> {
    let rows = phase.to_dtype(candle_core::DType::F32)?.to_vec2::<f32>()?;
    let [sin, cos] = rows.as_slice() else { bail!("expected the two rows sin and cos, found {}", rows.len()) };
    Ok(sin.iter().zip(cos).map(|(sin, cos)| sin.atan2(*cos)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// Phase of beats with these lengths, one after the other.
    fn phases(lengths: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let angles = lengths.iter().flat_map(|n| (0..*n).map(|i| (i as f32 + 0.5) / *n as f32 * std::f32::consts::TAU));
        angles.map(|a| (a - std::f32::consts::PI).sin_cos()).unzip()
    }

    #[test]
    fn shapes_are_one_eighth_and_back() {
        let config = Config::tiny();
        let model = PaMae::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu)).unwrap();
        let ecg = Tensor::zeros((2, 12, 400), DType::F32, &Device::Cpu).unwrap();
        let (semantic, phase) = model.encoder.forward_t(&ecg, false).unwrap();
        assert_eq!((semantic.dims(), phase.dims()), ([2, 48, 50].as_slice(), [2, 2, 50].as_slice()));
        assert_eq!(model.decoder.forward_t(&semantic, false).unwrap().dims(), [2, 12, 400]);
    }

    #[test]
    fn pools_and_doubles_by_hand() {
        let x = Tensor::new(&[[[5f32, 1., 2., 4., 3.]]], &Device::Cpu).unwrap();
        assert_eq!(max_pool(&x).unwrap().to_vec3::<f32>().unwrap(), [[[5., 4., 4.]]]);
        let x = Tensor::new(&[[[0f32, 4., 8.]]], &Device::Cpu).unwrap();
        assert_eq!(double(&x).unwrap().to_vec3::<f32>().unwrap(), [[[0., 1., 3., 5., 7., 8.]]]);
    }

    #[test]
    fn chooses_beats_by_name() {
        let (sin, cos) = phases(&[50, 60, 40, 80, 55]);
        let all = [(50, 110), (110, 150), (150, 230)];
        assert_eq!(cycles(&sin, &cos, CycleChoice::All), all);
        assert_eq!(cycles(&sin, &cos, CycleChoice::Median), [(50, 110)]);
        assert_eq!(cycles(&sin, &cos, CycleChoice::Index(2)), [(150, 230)]);
        assert_eq!(cycles(&sin, &cos, CycleChoice::Index(3)), []);
        assert_eq!(cycles(&sin, &cos, CycleChoice::Published), [(110, 150)]);
    }

    #[test]
    fn hopeless_phases_give_a_third_or_the_whole_record_and_never_panic() {
        assert_eq!(one_cycle(&[f32::NAN; 30], &[f32::NAN; 30]), (10, 20));
        assert_eq!(one_cycle(&[], &[]), (0, 0));
        let (sin, cos) = phases(&[4; 10]);
        assert_eq!(one_cycle(&sin, &cos), (0, 40));
        assert_eq!(cycles(&sin, &cos, CycleChoice::All), []);
    }

    #[test]
    fn aligning_holds_the_edges_and_keeps_a_line_straight() {
        let x = Tensor::new(&[[9f32, 0., 1., 2., 3., 9.]], &Device::Cpu).unwrap();
        assert_eq!(align(&x, 1, 5, 2).unwrap().to_vec2::<f32>().unwrap(), [[0.5, 2.5]]);
        assert_eq!(align(&x, 1, 3, 4).unwrap().to_vec2::<f32>().unwrap(), [[0.0, 0.25, 0.75, 1.0]]);
        assert_eq!(align(&x, 0, 1, 3).unwrap().to_vec2::<f32>().unwrap(), [[9.0, 9.0, 9.0]]);
        assert!(align(&x, 3, 3, 2).is_err());
    }
}
