//! PA-MAE, the phase-aware masked autoencoder of the ECG (paper section 3.1).

use serde::{Deserialize, Serialize};

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
