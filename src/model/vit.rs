//! The vision transformer that reads a clip: phenotypes and diagnoses (paper section 3.3).
//!
//! The clip is cut into patches that span some or all frames; a class token attends to them, and a small head reads it.
//! Tensor names are timm's.
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | x | `clip`, in \[0, 1\], [`prepared`] | (B, T, H, W) |
//! | patches | tokens | (B, P, width), P = T/pf * H/p * W/p |
//! | cls | [`Vit::features`] | (B, width) |
//! | K | phenotypes or logits | (B, K) |
//!
//! Departures from the paper: none known; the hidden layers of the phenotype head are 1/3 and 1/6 of the width (256 and
//! 128 at 768), never fewer than 8. `compact` sees the clip averaged over neighbouring frames and pixels ([`Config::pool`])
//! and standardised ([`Config::standardise`]).

use candle_core::{bail, Result, Tensor};
use candle_nn::init::{ONE, ZERO};
use candle_nn::{Init, VarBuilder};
use ndarray::{Array3, ArrayView3};
use serde::{Deserialize, Serialize};

use super::attention::attend;
use super::layers::{each_token, gelu, linear, linear_forward, xavier, LayerNorm, Linear};

/// Added to the variance in layer normalisation.
const EPS: f32 = 1e-6;
/// Standard deviation that embeddings are drawn with.
const EMBEDDING_SD: f64 = 0.02;
/// A clip whose grey levels vary less is not stretched further.
const LEAST_SD: f64 = 1e-3;
/// Fewest units of a hidden layer of the phenotype head.
const LEAST_UNITS: usize = 8;

/// What the head predicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// z-scores of the phenotypes with these UK Biobank fields, in order.
    Phenotype {
        /// Field numbers.
        fields: Vec<u32>,
    },
    /// Diagnoses. One label: one logit, its probability by the sigmoid. Several: softmax over them, or, where they are
    /// independent, a sigmoid for each.
    Diagnosis {
        /// Labels, in the order of the logits.
        labels: Vec<String>,
        /// Whether a clip may have several of the labels, or none.
        #[serde(default, skip_serializing_if = "is_false")]
        independent: bool,
    },
    /// Nothing: the class token itself, as pretraining leaves it.
    Backbone,
}

fn is_false(x: &bool) -> bool {
    !x
}

impl Task {
    /// Labels of which a clip has exactly one; one label is a yes-or-no question.
    pub fn labels(labels: Vec<String>) -> Task {
        Task::Diagnosis { labels, independent: false }
    }

    /// Numbers that the head gives for a clip.
    pub fn outputs(&self) -> usize {
        match self {
            Task::Phenotype { fields } => fields.len(),
            Task::Diagnosis { labels, .. } => labels.len(),
            Task::Backbone => 0,
        }
    }
}

/// Frames and pixels that are averaged before the clip is cut into patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Neighbouring frames.
    pub frames: usize,
    /// Neighbouring rows, and as many columns.
    pub pixels: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Pool { frames: 1, pixels: 1 }
    }
}

impl Pool {
    fn is_none(&self) -> bool {
        *self == Pool::default()
    }
}

/// Sizes of the ViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Frames T of the clip.
    pub frames: usize,
    /// Rows and columns of the clip.
    pub image: usize,
    /// What is averaged first.
    #[serde(default, skip_serializing_if = "Pool::is_none")]
    pub pool: Pool,
    /// Whether each clip is then moved and scaled to mean 0 and standard deviation 1, so that neither the gain of the
    /// scanner nor the window of a generator matters.
    #[serde(default, skip_serializing_if = "is_false")]
    pub standardise: bool,
    /// Frames a patch covers, after pooling; equal to `frames` where frames are channels (ViT-B/16), fewer for `vit3d`.
    pub patch_frames: usize,
    /// Rows and columns a patch covers, after pooling.
    pub patch: usize,
    /// Token width.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// What it predicts.
    pub task: Task,
}

impl Config {
    /// ViT-B/16 with the 50 frames as channels.
    pub fn published(task: Task) -> Self {
        let (pool, standardise, patch_frames, patch) = (Pool::default(), false, 50, 16);
        Config { frames: 50, image: 96, pool, standardise, patch_frames, patch, width: 768, depth: 12, heads: 12, task }
    }

    /// Patches of 10 frames x 16 x 16 pixels.
    pub fn vit3d(task: Task) -> Self {
        Config { patch_frames: 10, ..Config::published(task) }
    }

    /// Small, for laptops and the bundled weights.
    pub fn compact(task: Task) -> Self {
        let pool = Pool { frames: 5, pixels: 2 };
        let (width, depth, heads) = (128, 4, 4);
        Config { pool, standardise: true, patch_frames: 10, patch: 8, width, depth, heads, ..Config::published(task) }
    }

    /// The sizes of the parity data, for tests.
    pub fn tiny(task: Task) -> Self {
        let (pool, standardise, patch_frames, patch) = (Pool::default(), false, 8, 8);
        Config { frames: 8, image: 32, pool, standardise, patch_frames, patch, width: 32, depth: 2, heads: 4, task }
    }

    /// Frames, rows and columns after pooling.
    pub fn input(&self) -> [usize; 3] {
        let side = self.image / self.pool.pixels.max(1);
        [self.frames / self.pool.frames.max(1), side, side]
    }

    /// Values of one patch.
    pub fn patch_values(&self) -> usize {
        self.patch_frames * self.patch * self.patch
    }

    /// Patches P of a clip.
    pub fn patches(&self) -> usize {
        let [frames, side, _] = self.input();
        let side = side / self.patch.max(1);
        frames / self.patch_frames.max(1) * side * side
    }
}

/// Attention of every token to every other.
#[derive(Debug, Clone)]
struct Attention {
    qkv: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn new(width: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            bail!("a width of {width} cannot be split among {heads} heads")
        }
        let qkv = linear(width, 3 * width, xavier(width, 3 * width), vb.pp("qkv"))?;
        Ok(Attention { qkv, out: linear(width, width, xavier(width, width), vb.pp("proj"))?, heads })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, width) = x.dims3()?;
        let qkv = self.qkv.forward(x)?; // (B, N, 3 width)
        let part = |i: usize| qkv.narrow(2, i * width, width);
        self.out.forward(&attend(&part(0)?, &part(1)?, &part(2)?, self.heads)?)
    }
}

/// x + attention(norm(x)), then x + MLP(norm(x)).
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    mlp: (Linear, Linear),
}

impl Block {
    /// Reads `norm1`, `attn.qkv`, `attn.proj`, `norm2`, `mlp.fc1` and `mlp.fc2`.
    pub fn new(width: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        let inner = 4 * width;
        Ok(Block {
            norm1: LayerNorm::new(width, EPS, vb.pp("norm1"))?,
            attention: Attention::new(width, heads, vb.pp("attn"))?,
            norm2: LayerNorm::new(width, EPS, vb.pp("norm2"))?,
            mlp: (
                linear(width, inner, xavier(width, inner), vb.pp("mlp.fc1"))?,
                linear(inner, width, xavier(inner, width), vb.pp("mlp.fc2"))?,
            ),
        })
    }

    /// Tokens (B, N, width) -> (B, N, width).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention.forward(&self.norm1.forward(x)?)?)?;
        let mlp = |y: &Tensor| self.mlp.1.forward(&gelu(&self.mlp.0.forward(y)?)?);
        &x + each_token(&self.norm2.forward(&x)?, mlp)?
    }
}

/// What reads the class token.
#[derive(Debug, Clone)]
enum Head {
    /// Three layers; the mean and standard deviation of each phenotype in the training split.
    Phenotype { layers: Vec<Linear>, mean: Tensor, sd: Tensor },
    /// One layer; what the logits are divided by.
    Diagnosis { layer: Linear, temperature: Tensor },
    /// None.
    Backbone,
}

impl Head {
    fn new(width: usize, task: &Task, vb: VarBuilder) -> Result<Self> {
        let outputs = task.outputs();
        match task {
            Task::Backbone => Ok(Head::Backbone),
            Task::Diagnosis { .. } => {
                let layer = linear(width, outputs, xavier(width, outputs), vb.pp("head"))?;
                vb.get_with_hints(outputs, "threshold", Init::Const(0.5))?; // for those who decide; not used here
                Ok(Head::Diagnosis { layer, temperature: vb.get_with_hints(outputs, "temperature", ONE)? })
            }
            Task::Phenotype { .. } => {
                let sizes = [width, (width / 3).max(LEAST_UNITS), (width / 6).max(LEAST_UNITS), outputs];
                let pairs = sizes.iter().zip(sizes.iter().skip(1)).enumerate();
                let layer = |(i, (from, to)): (usize, (&usize, &usize))| {
                    linear(*from, *to, xavier(*from, *to), vb.pp(format!("head.{}", 2 * i)))
                };
                Ok(Head::Phenotype {
                    layers: pairs.map(layer).collect::<Result<_>>()?,
                    mean: vb.get_with_hints(outputs, "target_mean", ZERO)?,
                    sd: vb.get_with_hints(outputs, "target_sd", ONE)?,
                })
            }
        }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let layers = match self {
            Head::Backbone => return Ok(x.clone()),
            Head::Diagnosis { layer, .. } => return layer.forward(x),
            Head::Phenotype { layers, .. } => layers,
        };
        let mut x = x.clone();
        for (i, layer) in layers.iter().enumerate() {
            let input = if i == 0 { x } else { gelu(&x)? };
            x = layer.forward(&input)?;
        }
        Ok(x)
    }
}

/// Patch embedding, transformer and head.
#[derive(Debug, Clone)]
pub struct Vit {
    class: Tensor,
    position: Tensor,
    patch: (Tensor, Tensor),
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Head,
    config: Config,
}

impl Vit {
    /// Reads `cls_token`, `pos_embed`, `patch_embed.proj`, `blocks`, `norm`, `head` and, for phenotypes, `target_mean`
    /// and `target_sd`, for diagnoses `temperature` and `threshold`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let (width, p, pf) = (config.width, config.patch, config.patch_frames);
        let [t, side, _] = config.input();
        if p == 0 || pf == 0 || !side.is_multiple_of(p) || !t.is_multiple_of(pf) {
            bail!("a clip of {t} frames of {side} x {side} cannot be cut into patches of {pf} x {p} x {p}")
        }
        let embedding = Init::Randn { mean: 0.0, stdev: EMBEDDING_SD };
        let init = xavier(pf * p * p, width);
        let proj = vb.pp("patch_embed.proj");
        let weight = if pf == t {
            proj.get_with_hints((width, pf, p, p), "weight", init)?
        } else {
            proj.get_with_hints((width, 1, pf, p, p), "weight", init)?
        };
        let block = |i: usize| Block::new(width, config.heads, vb.pp(format!("blocks.{i}")));
        Ok(Vit {
            class: vb.get_with_hints((1, 1, width), "cls_token", embedding)?,
            position: vb.get_with_hints((1, config.patches() + 1, width), "pos_embed", embedding)?,
            patch: (weight, proj.get_with_hints(width, "bias", ZERO)?),
            blocks: (0..config.depth).map(block).collect::<Result<_>>()?,
            norm: LayerNorm::new(width, EPS, vb.pp("norm"))?,
            head: Head::new(width, &config.task, vb)?,
            config: config.clone(),
        })
    }

    /// Patches of the prepared clip with their positions: (B, T, H, W) -> (B, P, width).
    pub fn tokens(&self, clip: &Tensor) -> Result<Tensor> {
        self.embed(&patches(clip, &self.config)?)
    }

    /// Patches without positions: (B, M, pf p p) -> (B, M, width).
    fn project(&self, patches: &Tensor) -> Result<Tensor> {
        let (b, n, pixels) = patches.dims3()?;
        let width = self.config.width;
        let (weight, bias) = &self.patch;
        let weight = weight.reshape((width, pixels))?;
        linear_forward(&patches.reshape((b * n, pixels))?, &weight, bias)?.reshape((b, n, width))
    }

    /// All patches of a clip with their positions: (B, P, pf p p) -> (B, P, width).
    pub fn embed(&self, patches: &Tensor) -> Result<Tensor> {
        let x = self.project(patches)?;
        x.broadcast_add(&self.position.narrow(1, 1, x.dim(1)?)?)
    }

    /// Some patches of each clip (B, M, pf p p) with their positions, which `at` (B M) numbers: (B, M, width).
    pub fn embed_at(&self, patches: &Tensor, at: &Tensor) -> Result<Tensor> {
        let x = self.project(patches)?;
        let all = self.position.narrow(1, 1, self.config.patches())?.squeeze(0)?; // (P, width)
        &x + all.index_select(at, 0)?.reshape(x.shape())?
    }

    /// The class token before tokens (B, M, width), all or some of a clip's, through every block -> (B, 1 + M, width).
    pub fn encode(&self, tokens: &Tensor) -> Result<Tensor> {
        let class = (&self.class + self.position.narrow(1, 0, 1)?)?;
        let class = class.broadcast_as((tokens.dim(0)?, 1, self.config.width))?;
        let mut x = Tensor::cat(&[&class.contiguous()?, tokens], 1)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.norm.forward(&x)
    }

    /// What the class token holds at the end: tokens (B, P, width) -> (B, width).
    pub fn read(&self, tokens: &Tensor) -> Result<Tensor> {
        self.encode(tokens)?.narrow(1, 0, 1)?.squeeze(1)?.contiguous()
    }

    /// What the class token holds at the end: prepared clip (B, T, H, W) -> (B, width).
    pub fn features(&self, clip: &Tensor) -> Result<Tensor> {
        self.read(&self.tokens(clip)?)
    }

    /// Prepared clip (B, T, H, W) -> z-scores of the phenotypes or logits of the diagnoses (B, K).
    pub fn forward(&self, clip: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.features(clip)?)
    }

    /// The same of all patches of a clip (B, P, pf p p), as [`patches`] gives them.
    pub fn forward_patches(&self, patches: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.read(&self.embed(patches)?)?)
    }

    /// Phenotypes in their own units; logits divided by their temperature.
    pub fn forward_units(&self, clip: &Tensor) -> Result<Tensor> {
        let y = self.forward(clip)?;
        match &self.head {
            Head::Phenotype { mean, sd, .. } => y.broadcast_mul(sd)?.broadcast_add(mean),
            Head::Diagnosis { temperature, .. } => y.broadcast_div(temperature),
            Head::Backbone => Ok(y),
        }
    }
}

/// A clip as the network takes it: averaged over neighbouring frames and pixels, and standardised, where the configuration
/// says so.
pub fn prepared(clip: ArrayView3<'_, f32>, config: &Config) -> Array3<f32> {
    let clip = pooled(clip, config.pool);
    if !config.standardise {
        return clip;
    }
    let n = clip.len().max(1) as f64;
    let mean = clip.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let sd = (clip.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    clip.mapv(|v| ((f64::from(v) - mean) / sd.max(LEAST_SD)) as f32)
}

/// A clip averaged over neighbouring frames and pixels; its values as they are where nothing is pooled.
fn pooled(clip: ArrayView3<'_, f32>, pool: Pool) -> Array3<f32> {
    if pool.is_none() {
        return clip.to_owned();
    }
    let (t, h, w) = clip.dim();
    let (frames, pixels) = (pool.frames.max(1), pool.pixels.max(1));
    let mut sums = Array3::zeros((t / frames, h / pixels, w / pixels));
    let cubes = clip.exact_chunks((frames, pixels, pixels));
    sums.iter_mut().zip(cubes).for_each(|(sum, cube)| *sum = cube.iter().sum());
    sums / (frames * pixels * pixels) as f32
}

/// The patches of a prepared clip as rows, frame, row and column order within each: (B, T, H, W) -> (B, P, pf p p).
pub fn patches(clip: &Tensor, config: &Config) -> Result<Tensor> {
    let (b, t, h, w) = clip.dims4()?;
    let (pf, p) = (config.patch_frames, config.patch);
    let [frames, side, _] = config.input();
    if (t, h, w) != (frames, side, side) {
        bail!("the model reads clips of {frames} x {side} x {side}, found {t} x {h} x {w}")
    }
    clip.reshape(vec![b, t / pf, pf, h / p, p, w / p, p])?.permute([0, 1, 3, 5, 2, 4, 6].as_slice())?.reshape((
        b,
        config.patches(),
        pf * p * p,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    fn phenotypes() -> Task {
        Task::Phenotype { fields: vec![24100, 24101, 24102] }
    }

    #[test]
    fn both_heads_and_both_patch_shapes_give_one_row_a_clip() {
        let clip = Tensor::randn(0f32, 1f32, (2, 8, 32, 32), &Device::Cpu).unwrap();
        for (task, k) in [(phenotypes(), 3), (Task::labels(vec!["CAD".into()]), 1)] {
            for patch_frames in [8, 2] {
                let config = Config { patch_frames, ..Config::tiny(task.clone()) };
                let vit = Vit::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu)).unwrap();
                assert_eq!(vit.forward(&clip).unwrap().dims(), [2, k]);
                assert_eq!(vit.features(&clip).unwrap().dims(), [2, 32]);
            }
        }
    }

    #[test]
    fn units_are_z_scores_times_sd_plus_mean() {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let vit = Vit::new(&Config::tiny(phenotypes()), vb).unwrap();
        for (name, values) in [("target_mean", [100f32, 50., 60.]), ("target_sd", [10., 20., 30.])] {
            map.data().lock().unwrap()[name].set(&Tensor::new(&values, &Device::Cpu).unwrap()).unwrap();
        }
        let clip = Tensor::randn(0f32, 1f32, (1, 8, 32, 32), &Device::Cpu).unwrap();
        let z = vit.forward(&clip).unwrap().to_vec2::<f32>().unwrap();
        let y = vit.forward_units(&clip).unwrap().to_vec2::<f32>().unwrap();
        assert!((y[0][1] - (z[0][1] * 20.0 + 50.0)).abs() < 1e-3);
        assert!(z[0][1] != 0.0);
    }

    #[test]
    fn a_patch_is_a_tile_of_every_frame() {
        let config = Config { frames: 2, image: 4, patch_frames: 2, patch: 2, ..Config::tiny(phenotypes()) };
        let clip = Tensor::arange(0f32, 32.0, &Device::Cpu).unwrap().reshape((1, 2, 4, 4)).unwrap();
        let rows = patches(&clip, &config).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(rows[0][1], [2., 3., 6., 7., 18., 19., 22., 23.]);
        assert!(patches(&clip, &Config::tiny(phenotypes())).is_err());
    }

    #[test]
    fn pooling_averages_whole_cubes_and_leaves_the_rest_out() {
        let clip = Array3::from_shape_fn((5, 7, 8), |(t, y, x)| (t * 100 + y * 10 + x) as f32);
        let pooled = pooled(clip.view(), Pool { frames: 2, pixels: 3 });
        assert_eq!(
            pooled,
            Array3::from_shape_fn((2, 2, 2), |(t, y, x)| (200 * t + 50 + 30 * y + 10 + 3 * x + 1) as f32)
        );
    }

    #[test]
    fn a_prepared_clip_is_averaged_and_knows_no_gain() {
        let pool = Pool { frames: 1, pixels: 2 };
        let config = Config { frames: 1, image: 4, pool, standardise: true, ..Config::tiny(phenotypes()) };
        let clip = Array3::from_shape_fn((1, 4, 4), |(_, _, x)| if x < 2 { 0.25f32 } else { 0.75 });
        assert_eq!(prepared(clip.view(), &config).as_slice().unwrap(), [-1.0, 1.0, -1.0, 1.0]);
        let other = clip.mapv(|v| 0.5 * v + 0.125);
        assert_eq!(prepared(other.view(), &config), prepared(clip.view(), &config));
        assert!(prepared(Array3::zeros((1, 4, 4)).view(), &config).iter().all(|v| *v == 0.0));
    }
}
