//! 3D-VAE: clips to latents and back (paper section 3.2).

use serde::{Deserialize, Serialize};

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

    /// Small, for laptops and the bundled weights: narrow, attention at the deepest level only.
    pub fn compact() -> Self {
        Config {
            base_width: 16,
            multipliers: vec![1, 2, 4, 4],
            blocks: 1,
            attention_levels: vec![3],
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
