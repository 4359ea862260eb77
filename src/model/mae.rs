//! The masked autoencoder that prepares the vision transformer without labels (paper section 3.3; He et al., CVPR 2022).
//!
//! Three quarters of a clip's patches are hidden. The encoder, a [`Vit`] without head, sees the others; a small decoder
//! restores the hidden ones.
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | P, M | patches of a clip, patches that are seen | |
//! | x | `seen`: values of the patches that are seen | (B, M, pf p p) |
//! | target | `hidden`: values of the others | (B, P - M, pf p p) |
//! | y | [`Mae::forward`] | (B, P - M, pf p p) |
//!
//! Tensor names are those of the encoder (timm's) and, for the decoder, those of the authors' code. Departures: positions are
//! learnt, as in the ViT that the weights go to; the decoder's last layer is asked for hidden patches only, since nothing
//! else enters the loss.

use candle_core::{bail, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use super::layers::{linear, mean_squared_error, xavier, LayerNorm, Linear};
use super::vit::{self, Block, Vit};
use crate::random::Stream;

const EPS: f32 = 1e-6;
const EMBEDDING_SD: f64 = 0.02;

/// Sizes of the autoencoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The encoder; its task is [`vit::Task::Backbone`].
    pub vit: vit::Config,
    /// Token width of the decoder.
    pub decoder_width: usize,
    /// Blocks of the decoder.
    pub decoder_depth: usize,
    /// Attention heads of the decoder.
    pub decoder_heads: usize,
    /// Share of the patches that is hidden.
    pub mask: f64,
}

impl Config {
    /// ViT-B/16 with the decoder of the publication: width 512, 8 blocks, 16 heads.
    pub fn published() -> Self {
        let vit = vit::Config::published(vit::Task::Backbone);
        Config { vit, decoder_width: 512, decoder_depth: 8, decoder_heads: 16, mask: 0.75 }
    }

    /// The same with patches of 10 frames.
    pub fn vit3d() -> Self {
        Config { vit: vit::Config::vit3d(vit::Task::Backbone), ..Config::published() }
    }

    /// Small, for laptops.
    pub fn compact() -> Self {
        let vit = vit::Config::compact(vit::Task::Backbone);
        Config { vit, decoder_width: 64, decoder_depth: 2, decoder_heads: 4, mask: 0.75 }
    }

    /// For tests.
    pub fn tiny() -> Self {
        let vit = vit::Config::tiny(vit::Task::Backbone);
        Config { vit, decoder_width: 16, decoder_depth: 1, decoder_heads: 2, mask: 0.75 }
    }

    /// Patches M that the encoder sees: one at least, and not all.
    pub fn seen(&self) -> usize {
        let all = self.vit.patches();
        let seen = (all as f64 * (1.0 - self.mask)).floor() as usize;
        seen.clamp(1, all.saturating_sub(1).max(1))
    }
}

/// Which patches of a clip are seen and which are hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Numbers of the patches that are seen.
    pub seen: Vec<usize>,
    /// Numbers of the others.
    pub hidden: Vec<usize>,
}

impl Mask {
    /// A random mask.
    pub fn draw(config: &Config, stream: &mut Stream) -> Mask {
        let mut seen = stream.shuffle(config.vit.patches());
        let hidden = seen.split_off(config.seen().min(seen.len()));
        Mask { seen, hidden }
    }
}

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct Mae {
    encoder: Vit,
    embed: Linear,
    token: Tensor,
    position: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    pred: Linear,
    config: Config,
}

impl Mae {
    /// Reads the encoder's tensors, `decoder_embed`, `mask_token`, `decoder_pos_embed`, `decoder_blocks`, `decoder_norm` and
    /// `decoder_pred`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let (width, inner, pixels) = (config.vit.width, config.decoder_width, config.vit.patch_values());
        let embedding = Init::Randn { mean: 0.0, stdev: EMBEDDING_SD };
        let block = |i: usize| Block::new(inner, config.decoder_heads, vb.pp(format!("decoder_blocks.{i}")));
        Ok(Mae {
            encoder: Vit::new(&config.vit, vb.clone())?,
            embed: linear(width, inner, xavier(width, inner), vb.pp("decoder_embed"))?,
            token: vb.get_with_hints((1, 1, inner), "mask_token", embedding)?,
            position: vb.get_with_hints((1, config.vit.patches() + 1, inner), "decoder_pos_embed", embedding)?,
            blocks: (0..config.decoder_depth).map(block).collect::<Result<_>>()?,
            norm: LayerNorm::new(inner, EPS, vb.pp("decoder_norm"))?,
            pred: linear(inner, pixels, xavier(inner, pixels), vb.pp("decoder_pred"))?,
            config: config.clone(),
        })
    }

    /// Restores the hidden patches of clips from the others: seen (B, M, pf p p) -> (B, P - M, pf p p).
    pub fn forward(&self, seen: &Tensor, masks: &[Mask]) -> Result<Tensor> {
        let (b, m, pixels) = seen.dims3()?;
        let (p, inner) = (self.config.vit.patches(), self.config.decoder_width);
        if masks.len() != b || masks.iter().any(|mask| mask.seen.len() != m || mask.hidden.len() + m != p) {
            bail!("{b} clips of {m} patches of {p} do not fit their masks")
        }
        let device = seen.device();
        let index = |values: Vec<u32>| {
            let n = values.len();
            Tensor::from_vec(values, n, device)
        };
        let at = masks.iter().flat_map(|mask| mask.seen.iter().map(|i| *i as u32)).collect();
        let x = self.encoder.encode(&self.encoder.embed_at(seen, &index(at)?)?)?; // (B, 1 + M, width)
        let x = self.embed.forward(&x)?; // (B, 1 + M, inner)
        let class = x.narrow(1, 0, 1)?;
        let rows = x.narrow(1, 1, m)?.reshape((b * m, inner))?;
        let rows = Tensor::cat(&[&rows, &self.token.reshape((1, inner))?], 0)?; // the last is the hidden patch
        let mut from = vec![(b * m) as u32; b * p];
        for (clip, mask) in masks.iter().enumerate() {
            for (place, patch) in mask.seen.iter().enumerate() {
                if let Some(row) = from.get_mut(clip * p + patch) {
                    *row = (clip * m + place) as u32;
                }
            }
        }
        let x = rows.index_select(&index(from)?, 0)?.reshape((b, p, inner))?;
        let mut x = Tensor::cat(&[&class, &x], 1)?.broadcast_add(&self.position)?; // (B, 1 + P, inner)
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let place = |(clip, mask): (usize, &Mask)| -> Vec<u32> {
            mask.hidden.iter().map(|patch| (clip * (p + 1) + 1 + patch) as u32).collect()
        };
        let hidden = masks.iter().enumerate().flat_map(place).collect();
        let x = self.norm.forward(&x)?.reshape((b * (p + 1), inner))?.index_select(&index(hidden)?, 0)?;
        self.pred.forward(&x)?.reshape((b, p - m, pixels))
    }
}

/// Mean squared difference over the pixels of the hidden patches (B, P - M, pf p p).
pub fn loss(model: &Mae, seen: &Tensor, hidden: &Tensor, masks: &[Mask]) -> Result<Tensor> {
    mean_squared_error(&model.forward(seen, masks)?, hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn exactly_three_quarters_are_hidden_and_every_patch_once() {
        for config in [Config::published(), Config::vit3d(), Config::compact(), Config::tiny()] {
            let mask = Mask::draw(&config, &mut Stream::new("mask", 0, "p", 0));
            let all = config.vit.patches();
            assert_eq!((mask.seen.len(), mask.hidden.len()), (all / 4, all - all / 4));
            let mut both: Vec<usize> = mask.seen.iter().chain(&mask.hidden).copied().collect();
            both.sort_unstable();
            assert_eq!(both, (0..all).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_hidden_patches_come_back_in_their_own_order_and_depend_on_no_other_clip() {
        let config = Config::tiny();
        let map = candle_nn::VarMap::new();
        let model = Mae::new(&config, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
        let masks: Vec<Mask> = ["a", "b"].map(|id| Mask::draw(&config, &mut Stream::new("mask", 0, id, 0))).to_vec();
        let seen = Tensor::randn(0f32, 1f32, (2, config.seen(), config.vit.patch_values()), &Device::Cpu).unwrap();
        let both = model.forward(&seen, &masks).unwrap();
        assert_eq!(both.dims(), [2, config.vit.patches() - config.seen(), config.vit.patch_values()]);
        let second = model.forward(&seen.narrow(0, 1, 1).unwrap().contiguous().unwrap(), &masks[1..]).unwrap();
        let apart = (both.get(1).unwrap() - second.get(0).unwrap()).unwrap().abs().unwrap().max_all().unwrap();
        assert!(apart.to_scalar::<f32>().unwrap() < 1e-5);
    }
}
