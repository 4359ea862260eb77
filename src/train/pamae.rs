//! Training of PA-MAE: phase-aware masked pretraining (paper section 3.1, SPEC section 4).
//!
//! Each of the 625 positions of the features is dropped with probability 1/2, all channels at once; the decoder restores
//! the ECG from the rest, and the phase head tells where in its cycle the heart is. The mask depends on the seed, the
//! record and the step. Validation is the reconstruction loss in evaluation mode, with one mask a record for good.

use candle_core::{Device, Tensor};

use super::adamw::Settings;
use super::task::{At, Defaults, Losses, Network, Recipe, Records, Task, Update};
use super::variables::Variables;
use crate::checkpoint::sizes::Sizes;
use crate::data::ecg::{Ecg, SAMPLES};
use crate::error::{Error, Fault, Result};
use crate::model::pamae::{loss, Config, PaMae};
use crate::random::Stream;
use crate::signal::phase::{target, STRIDE};
use crate::tensor;

const DOING: &str = "training PA-MAE";
/// Share of the positions that is dropped.
const DROPPED: f64 = 0.5;
/// Positions of the features of one record.
const POSITIONS: usize = SAMPLES / STRIDE;

/// The published optimiser.
pub fn recipe() -> Recipe {
    Recipe { adamw: Settings::new((0.9, 0.95), 0.05), clip: 3.0 }
}

/// The published schedule; the compact network takes larger steps.
pub fn defaults(sizes: Sizes) -> Defaults {
    let rate = if matches!(sizes, Sizes::Published | Sizes::Paper) { 1e-4 } else { 1e-3 };
    Defaults { epochs: 100, batch: 32, rate, ema: 0.0, warm_up: 0 }
}

/// PA-MAE and the ECGs it is trained on.
pub struct Pamae<R> {
    records: R,
    config: Config,
    model: PaMae,
    variables: Variables,
    recipe: Recipe,
}

/// One batch as tensors.
struct Batch {
    /// (B, 12, N).
    ecg: Tensor,
    /// (B, 1, N/8).
    mask: Tensor,
    /// (B, 2, N/8).
    target: Tensor,
}

impl<R: Records<Item = Ecg>> Pamae<R> {
    /// A trainer whose network has these variables.
    ///
    /// # Errors
    /// Where the variables do not fit the configuration.
    pub fn new(records: R, config: Config, variables: Variables, recipe: Recipe) -> Result<Pamae<R>> {
        let model = PaMae::new(&config, variables.builder()).map_err(Error::compute(DOING))?;
        Ok(Pamae { records, config, model, variables, recipe })
    }

    /// The records as tensors; `stream` gives the numbers of a record's mask.
    fn batch(&self, records: &[usize], stream: impl Fn(&str) -> Stream) -> Result<Batch> {
        let device = self.variables.device();
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for record in records {
            let ecg = self.records.get(*record)?.accept(DOING)?;
            if ecg.r_peak.len() < 2 {
                let fault = Fault::new(DOING, "").record(&ecg.id).field("/r_peak");
                let hint = "leave such records out: ecg-prep --min-quality usable";
                return Err(fault.expected("two R peaks or more", ecg.r_peak.len()).hint(hint).into());
            }
            let mask = mask(&mut stream(&ecg.id), device);
            let phase = target(&ecg.r_peak, SAMPLES);
            let all =
                [tensor::from_array(ecg.samples_mv.view(), device), mask, tensor::from_array(phase.view(), device)];
            for (part, tensor) in parts.iter_mut().zip(all) {
                part.push(tensor.map_err(Error::compute(DOING))?);
            }
        }
        let [ecg, mask, target] = parts.map(|part| Tensor::stack(&part, 0).map_err(Error::compute(DOING)));
        Ok(Batch { ecg: ecg?, mask: mask?, target: target? })
    }
}

/// 1 where a position is kept, 0 where it is dropped: (1, N/8).
fn mask(stream: &mut Stream, device: &Device) -> candle_core::Result<Tensor> {
    let kept: Vec<f32> = (0..POSITIONS).map(|_| if stream.uniform() > DROPPED { 1.0 } else { 0.0 }).collect();
    Tensor::from_vec(kept, (1, POSITIONS), device)
}

impl<R: Records<Item = Ecg>> Task for Pamae<R> {
    fn networks(&self) -> Vec<Network> {
        vec![Network { name: "pamae", variables: self.variables.clone(), recipe: self.recipe, paced: None }]
    }

    fn ids(&self) -> &[String] {
        self.records.ids()
    }

    fn parts(&self) -> Vec<&'static str> {
        vec!["loss", "phase", "reconstruction"]
    }

    fn losses(&self, records: &[usize], at: At) -> Result<Losses> {
        let Batch { ecg, mask, target } = self.batch(records, |id| at.stream("mask", id))?;
        let losses = loss(&self.model, &self.config, &ecg, &mask, &target, true).map_err(Error::compute(DOING))?;
        let updates = vec![Update { network: 0, loss: losses.total.clone() }];
        Ok(Losses { updates, parts: vec![losses.total, losses.phase, losses.reconstruction] })
    }

    fn score(&self, record: usize, seed: u64) -> Result<f64> {
        let Batch { ecg, mask, target } = self.batch(&[record], |id| Stream::new("validation mask", seed, id, 0))?;
        let losses = loss(&self.model, &self.config, &ecg, &mask, &target, false).map_err(Error::compute(DOING))?;
        losses.reconstruction.to_scalar::<f32>().map(f64::from).map_err(Error::compute(DOING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_positions_are_dropped_and_others_in_every_step() {
        let values = |step| {
            let mut stream = At { seed: 1, step }.stream("mask", "p");
            mask(&mut stream, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let kept: f32 = (0..100).map(|step| values(step).iter().sum::<f32>()).sum();
        assert!((kept / 62_500.0 - 0.5).abs() < 0.01, "{kept}");
        assert_eq!(values(3), values(3));
        assert_ne!(values(3), values(4));
    }
}
