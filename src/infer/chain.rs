//! Ecg -> Cine: encoder, flow and decoder in a row, one clip an ECG.

use candle_core::Device;

use super::encode::{Encode, EncoderChoice};
use super::generate::{draws, Decode, Flow};
use crate::checkpoint::Weights;
use crate::data::cine::Cine;
use crate::data::ecg::Ecg;
use crate::error::{Error, Fault, Result};
use crate::kernel::gemm::Precision;
use crate::model::pamae::CycleChoice;

/// What may differ from the weights' own settings.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Euler steps of the sampler.
    pub steps: Option<usize>,
    /// Guidance of the sampler.
    pub guidance: Option<f64>,
    /// Standard deviation of the noise around the anatomy template.
    pub alpha: Option<f64>,
    /// Condition on the whole record, not on one beat.
    pub whole: bool,
}

/// The three stages ready to run.
pub struct Chain {
    encode: Encode,
    flow: Flow,
    decode: Decode,
}

impl Chain {
    /// Loads them; the noise of the clips follows from `seed`.
    ///
    /// # Errors
    /// Where the weights lack one of the models or do not fit their configuration, or a change is out of range.
    pub fn open(weights: &Weights, changes: &Changes, seed: u64, device: &Device) -> Result<Chain> {
        let cycle = if changes.whole { CycleChoice::Whole } else { CycleChoice::Published };
        let change = |sampling: &mut crate::model::amdf::Sampling| {
            sampling.steps = changes.steps.unwrap_or(sampling.steps);
            sampling.guidance = changes.guidance.unwrap_or(sampling.guidance);
            sampling.alpha = changes.alpha.unwrap_or(sampling.alpha);
        };
        Ok(Chain {
            encode: Encode::open(weights, EncoderChoice::Auto, cycle, None, device)?,
            flow: Flow::open(weights, change, seed, Precision::F32, device)?,
            decode: Decode::open(weights, Precision::F32, device)?,
        })
    }

    /// The clip that a prepared ECG gives.
    ///
    /// # Errors
    /// Where the ECG has no complete beat, or a stage fails.
    pub fn run(&self, ecg: Ecg) -> Result<Cine> {
        let nothing = Error::from(Fault::new("generating a clip", "no clip came out").record(&ecg.id));
        let features = self.encode.run(&[self.encode.accept(ecg)?])?.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let Some(draw) = draws(&features, 1, 1).next() else { return Err(nothing) };
        self.decode.run(&self.flow.run(&draw)?)?.pop().ok_or(nothing)
    }

    /// The stage that decodes latents.
    pub fn decoder(&self) -> &Decode {
        &self.decode
    }
}
