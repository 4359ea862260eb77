//! The vision transformer that reads a clip: phenotypes and diagnoses (paper section 3.3).

use serde::{Deserialize, Serialize};

/// What the head predicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// z-scores of the phenotypes with these UK Biobank fields, in order.
    Phenotype {
        /// Field numbers.
        fields: Vec<u32>,
    },
    /// Diagnoses. One label: one logit, its probability by the sigmoid. Several: softmax over them.
    Diagnosis {
        /// Labels, in the order of the logits.
        labels: Vec<String>,
    },
}

/// Sizes of the ViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Frames T of the clip.
    pub frames: usize,
    /// Rows and columns of the clip.
    pub image: usize,
    /// Frames a patch covers; equal to `frames` where frames are channels (ViT-B/16), fewer for `vit3d`.
    pub patch_frames: usize,
    /// Rows and columns a patch covers.
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
        Config { frames: 50, image: 96, patch_frames: 50, patch: 16, width: 768, depth: 12, heads: 12, task }
    }

    /// Patches of 10 frames x 16 x 16 pixels.
    pub fn vit3d(task: Task) -> Self {
        Config { patch_frames: 10, ..Config::published(task) }
    }

    /// Small, for laptops and the bundled weights.
    pub fn compact(task: Task) -> Self {
        Config { width: 128, depth: 4, heads: 4, ..Config::published(task) }
    }

    /// The sizes of the parity data, for tests.
    pub fn tiny(task: Task) -> Self {
        Config { frames: 8, image: 32, patch_frames: 8, patch: 8, width: 32, depth: 2, heads: 4, task }
    }
}
