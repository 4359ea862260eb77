//! Features of one heartbeat: what PA-MAE makes of an ECG and what the flow is conditioned on.

use ndarray::{Array1, Array2};

/// The features of one cardiac cycle.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// The record's name.
    pub id: String,
    /// Condition c: T frames x D features.
    pub feature: Array2<f32>,
    /// Cardiac phase of each frame, rad, in (-pi, pi].
    pub phase: Array1<f32>,
    /// Start and end (exclusive) of the cycle, in samples of the input ECG.
    pub cycle: [i32; 2],
    /// Beats a minute; NaN where unknown.
    pub heart_rate: f32,
}
