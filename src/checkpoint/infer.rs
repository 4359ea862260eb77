//! The sizes of published models, read off the shapes of their tensors.
//!
//! Shapes do not show everything. Attention heads of the flow: width / 64 from width 512 on (512 has 8, as published),
//! else 4. Attention heads of the VAE: 8, as published. Frames of PA-MAE: those of the flow, else 50. What only
//! matters in training or sampling comes from the preset.

use crate::checkpoint::shapes::Shapes;
use crate::error::{Fault, Result};
use crate::model::{amdf, pamae, vae};

/// Whose values the settings take that no tensor shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// The published code.
    #[default]
    Published,
    /// The paper.
    Paper,
}

const DOING: &str = "reading the sizes of a model off its tensors";
/// Width of a head from which the default number of heads follows.
const HEAD_WIDTH: usize = 64;
/// Width from which heads are [`HEAD_WIDTH`] wide.
const WIDE: usize = 512;
/// Heads of narrower models.
const FEW_HEADS: usize = 4;

/// One size of one tensor.
fn size(shapes: &Shapes, name: &str, axis: usize, rank: usize) -> Result<usize> {
    let missing = || Fault::new(DOING, "").field(name).expected(format!("a tensor of {rank} dimensions"), "nothing");
    let shape = shapes.get(name).ok_or_else(missing)?;
    match shape.get(axis) {
        Some(size) if shape.len() == rank && *size > 0 => Ok(*size),
        _ => {
            let expected = format!("{rank} dimensions, none of size 0");
            Err(Fault::new(DOING, "").field(name).expected(expected, format!("{shape:?}")).into())
        }
    }
}

/// How many of 0, 1, 2... give the name of a tensor that is there.
fn count(shapes: &Shapes, name: impl Fn(usize) -> String) -> usize {
    (0..shapes.len()).take_while(|i| shapes.contains_key(&name(*i))).count()
}

/// PA-MAE, from its encoder, whose tensors are named `<prefix>stem.0.weight` and so on.
pub fn pamae(shapes: &Shapes, prefix: &str, preset: Preset, frames: usize) -> Result<pamae::Config> {
    let others = if preset == Preset::Paper { pamae::Config::paper() } else { pamae::Config::published() };
    Ok(pamae::Config {
        base_width: size(shapes, &format!("{prefix}stem.0.weight"), 0, 3)?,
        feature_dim: size(shapes, &format!("{prefix}feature_proj.weight"), 0, 3)?,
        frames,
        ..others
    })
}

/// The 3D-VAE.
pub fn vae(shapes: &Shapes, preset: Preset) -> Result<vae::Config> {
    let others = if preset == Preset::Paper { vae::Config::paper() } else { vae::Config::published() };
    let base_width = size(shapes, "encoder_3d.conv_in.weight", 0, 5)?;
    let last = |level: usize| format!("encoder_3d.down.{level}.block.0.conv2.weight");
    let levels = count(shapes, last);
    let mut multipliers = Vec::new();
    for level in 0..levels {
        let width = size(shapes, &last(level), 0, 5)?;
        if width % base_width != 0 {
            let expected = format!("a multiple of the base width {base_width}");
            return Err(Fault::new(DOING, "").field(last(level)).expected(expected, width).into());
        }
        multipliers.push(width / base_width);
    }
    let attends = |level: &usize| shapes.contains_key(&format!("encoder_3d.down.{level}.attn.0.q.weight"));
    Ok(vae::Config {
        base_width,
        multipliers,
        blocks: count(shapes, |block| format!("encoder_3d.down.0.block.{block}.conv2.weight")),
        attention_levels: (0..levels).filter(attends).collect(),
        latent_channels: size(shapes, "post_quant_conv.weight", 0, 5)?,
        ..others
    })
}

/// The flow, over latents of `channels` channels.
pub fn flow(shapes: &Shapes, channels: usize, preset: Preset, heads: Option<usize>) -> Result<amdf::Config> {
    let others = if preset == Preset::Paper { amdf::Config::paper() } else { amdf::Config::published() };
    let width = size(shapes, "x_embedder.weight", 0, 2)?;
    let inputs = size(shapes, "x_embedder.weight", 1, 2)?;
    let patch = (inputs / channels.max(1)).isqrt();
    if patch * patch * channels != inputs {
        let expected = format!("{channels} latent channels times a square number");
        return Err(Fault::new(DOING, "").field("x_embedder.weight").expected(expected, inputs).into());
    }
    let tokens = size(shapes, "pos_embed", 2, 4)?;
    if tokens.isqrt().pow(2) != tokens {
        return Err(Fault::new(DOING, "").field("pos_embed").expected("a square number of positions", tokens).into());
    }
    let usual = if width >= WIDE { width / HEAD_WIDTH } else { FEW_HEADS };
    Ok(amdf::Config {
        width,
        depth: count(shapes, |block| format!("blocks.{block}.mlp.0.weight")),
        heads: heads.unwrap_or(usual),
        feature_dim: size(shapes, "ecg_proj.weight", 1, 2)?,
        frames: size(shapes, "pos_embed", 1, 4)?,
        latent_channels: channels,
        latent_side: tokens.isqrt() * patch,
        patch,
        ..others
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(list: &[(&str, &[usize])]) -> Shapes {
        list.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }

    #[test]
    fn reads_the_published_flow_and_one_with_patches() {
        let mut seen = shapes(&[
            ("x_embedder.weight", &[512, 4]),
            ("pos_embed", &[1, 50, 144, 512]),
            ("ecg_proj.weight", &[512, 768]),
        ]);
        for block in 0..8 {
            seen.insert(format!("blocks.{block}.mlp.0.weight"), vec![2048, 512]);
        }
        assert_eq!(flow(&seen, 4, Preset::Published, None).unwrap(), amdf::Config::published());
        assert_eq!(flow(&seen, 4, Preset::Paper, None).unwrap(), amdf::Config::paper());
        seen.insert("x_embedder.weight".into(), vec![512, 16]);
        seen.insert("pos_embed".into(), vec![1, 50, 36, 512]);
        let patched = flow(&seen, 4, Preset::Published, Some(16)).unwrap();
        assert_eq!((patched.patch, patched.latent_side, patched.heads), (2, 12, 16));
        seen.insert("x_embedder.weight".into(), vec![512, 12]);
        assert!(flow(&seen, 4, Preset::Published, None).unwrap_err().to_string().contains("found 12"));
    }

    #[test]
    fn names_the_tensor_that_is_missing() {
        let error = pamae(&Shapes::new(), "encoder.", Preset::Published, 50).unwrap_err().to_string();
        assert!(error.contains("encoder.stem.0.weight: expected a tensor of 3 dimensions, found nothing"), "{error}");
    }
}
