//! The cine cardiac MR clip, one cycle from end-diastole, and its latent.

use ndarray::{Array3, Array4};

/// One clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Cine {
    /// The clip's name, unique in its file.
    pub id: String,
    /// The record that the clip was made from; equal to `id` unless several clips were drawn for one record.
    pub source: String,
    /// Which draw of that record this is, from 0.
    pub sample: i32,
    /// T frames x H rows x W columns, in [0, 1].
    pub clip: Array3<f32>,
    /// Row and column spacing, mm, where known.
    pub pixel_spacing_mm: Option<[f32; 2]>,
    /// Beats a minute; NaN where unknown.
    pub heart_rate: f32,
}

/// One clip in the latent space of the 3D-VAE.
#[derive(Debug, Clone, PartialEq)]
pub struct Latent {
    /// The clip's name, unique in its file.
    pub id: String,
    /// The record that the clip was made from.
    pub source: String,
    /// Which draw of that record this is, from 0.
    pub sample: i32,
    /// 4 channels x T frames x L rows x L columns.
    pub latent: Array4<f32>,
    /// Beats a minute; NaN where unknown.
    pub heart_rate: f32,
}
