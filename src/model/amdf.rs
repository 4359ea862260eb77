//! AMDF, the anatomy-motion disentangled flow: the DiT velocity and its sampler (paper section 3.2).

use serde::{Deserialize, Serialize};

/// Where in each Euler interval the velocity is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeGrid {
    /// t = (i + 0.5) / steps (published code).
    Middle,
    /// t = i / steps (paper).
    Start,
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

    /// Small, for laptops and the bundled weights: 2 x 2 latent positions a token.
    pub fn compact() -> Self {
        Config { width: 128, depth: 4, heads: 4, feature_dim: 128, patch: 2, ..Config::published() }
    }

    /// The sizes of the parity data, for tests.
    pub fn tiny() -> Self {
        Config { width: 64, depth: 2, heads: 4, feature_dim: 48, frames: 8, latent_side: 4, ..Config::published() }
    }
}
