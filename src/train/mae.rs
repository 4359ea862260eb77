//! Training of the masked autoencoder: pretraining of the vision transformer (SPEC section 7).
//!
//! Which patches are hidden depends on the seed, the record and the step. Real clips all take part in every epoch; of the
//! generated ones as many as were asked for. Validation is the same loss with one mask a record for good.

use candle_core::{Device, Tensor};

use super::adamw::Settings;
use super::input::{untiled, Clips};
use super::split::Split;
use super::task::{At, Defaults, Losses, Network, Recipe, Records, Task, Update};
use super::variables::{Tensors, Variables};
use crate::checkpoint::sizes::Backbone;
use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::model::mae::{loss, Config, Mae as Model, Mask};
use crate::random::Stream;

const DOING: &str = "pretraining";
/// Batch that the learning rate is said for.
const RATED_BATCH: f64 = 256.0;

/// The published optimiser.
pub fn recipe() -> Recipe {
    Recipe { adamw: Settings::new((0.9, 0.95), 0.05), clip: f64::MAX }
}

/// The published schedule, the rate 1e-3 for 256 clips a batch; the small network takes larger steps and fewer epochs.
pub fn defaults(backbone: Backbone, batch: Option<usize>) -> Defaults {
    let (epochs, warm_up, usual, height) = if backbone.is_small() { (100, 10, 64, 4e-3) } else { (400, 40, 256, 1e-3) };
    let batch = batch.unwrap_or(usual);
    Defaults { epochs, batch, rate: height * batch as f64 / RATED_BATCH, ema: 0.0, warm_up }
}

/// The autoencoder and the clips it is trained on.
pub struct Mae<R> {
    clips: Clips<R>,
    ids: Vec<String>,
    split: Split,
    config: Config,
    model: Model,
    variables: Variables,
}

/// The patches of one clip, those that are seen first.
struct Parts {
    seen: Vec<f32>,
    hidden: Vec<f32>,
    mask: Mask,
}

impl<R: Records<Item = Cine>> Mae<R> {
    /// A trainer whose network has these variables.
    ///
    /// # Errors
    /// Where the variables do not fit the configuration.
    pub fn new(
        clips: Clips<R>,
        ids: Vec<String>,
        split: Split,
        config: Config,
        variables: Variables,
    ) -> Result<Mae<R>> {
        let model = Model::new(&config, variables.builder()).map_err(Error::compute(DOING))?;
        Ok(Mae { clips, ids, split, config, model, variables })
    }

    /// Sizes of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn parts(
        &self,
        records: &[usize],
        change: Option<&dyn Fn(&str) -> Stream>,
        mask: impl Fn(&str) -> Stream,
    ) -> Result<Vec<Parts>> {
        let width = self.config.vit.patch_values().max(1);
        let rows = self.clips.patches(records, change)?;
        let part = |(record, rows): (&usize, Vec<f32>)| {
            let id = self.ids.get(*record).map_or("", String::as_str);
            let mask = Mask::draw(&self.config, &mut mask(id));
            let of = |numbers: &[usize]| {
                numbers.iter().flat_map(|i| rows.get(i * width..(i + 1) * width).unwrap_or(&[])).copied().collect()
            };
            Parts { seen: of(&mask.seen), hidden: of(&mask.hidden), mask }
        };
        Ok(records.iter().zip(rows).map(part).collect())
    }

    /// A clip with one mask for good, to draw it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn shown(&self, record: usize, seed: u64) -> Result<Shown> {
        let mut parts = self.parts(&[record], None, |id| Stream::new("validation patches", seed, id, 0))?;
        let part = parts.pop().ok_or_else(|| Fault::new(DOING, "no such clip").record(record))?;
        Ok(Shown { id: self.ids.get(record).cloned().unwrap_or_default(), part })
    }

    /// What the model makes of these clips: the loss.
    fn loss(&self, parts: &[Parts]) -> candle_core::Result<Tensor> {
        let masks: Vec<Mask> = parts.iter().map(|part| part.mask.clone()).collect();
        let width = self.config.vit.patch_values();
        let tensor = |of: fn(&Parts) -> &Vec<f32>| {
            let all: Vec<f32> = parts.iter().flat_map(of).copied().collect();
            let each = all.len() / parts.len().max(1) / width.max(1);
            Tensor::from_vec(all, (parts.len(), each, width), self.variables.device())
        };
        loss(&self.model, &tensor(|part| &part.seen)?, &tensor(|part| &part.hidden)?, &masks)
    }
}

/// A clip and what is seen of it.
pub struct Shown {
    id: String,
    part: Parts,
}

/// Three clips to look at: as it is, with the hidden patches black, and with them restored by these weights.
///
/// # Errors
/// Where the weights do not fit the configuration.
pub fn restored(config: &Config, weights: Tensors, shown: &Shown, device: &Device) -> Result<[Cine; 3]> {
    let variables = Variables::new(weights, device)?;
    let Parts { seen, hidden, mask } = &shown.part;
    let width = config.vit.patch_values();
    let found = || -> candle_core::Result<Vec<f32>> {
        let model = Model::new(config, variables.builder())?;
        let seen = Tensor::from_vec(seen.clone(), (1, mask.seen.len(), width), device)?;
        model.forward(&seen, std::slice::from_ref(mask))?.detach().flatten_all()?.to_vec1()
    };
    let found = found().map_err(Error::compute(DOING))?;
    // Grey levels of the true clip, darkest to brightest: standardised clips have others than 0 to 1.
    let values = || seen.iter().chain(hidden).copied();
    let (low, high) = (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max));
    let black = vec![low; hidden.len()];
    Ok([("true", hidden), ("masked", &black), ("restored", &found)].map(|(word, hidden)| {
        let rows = |i: usize| match mask.seen.iter().position(|seen| *seen == i) {
            Some(place) => seen.get(place * width..(place + 1) * width),
            None => {
                let place = mask.hidden.iter().position(|other| *other == i).unwrap_or(0);
                hidden.get(place * width..(place + 1) * width)
            }
        };
        let all: Vec<f32> = (0..config.vit.patches()).flat_map(|i| rows(i).unwrap_or(&[])).copied().collect();
        let clip = untiled(&all, &config.vit).mapv(|v| (v - low) / (high - low).max(f32::MIN_POSITIVE));
        let id = format!("{} {word}", shown.id);
        Cine { source: id.clone(), id, sample: 0, clip, pixel_spacing_mm: None, heart_rate: f32::NAN }
    }))
}

impl<R: Records<Item = Cine>> Task for Mae<R> {
    fn networks(&self) -> Vec<Network> {
        vec![Network { name: "mae", variables: self.variables.clone(), recipe: recipe(), paced: None }]
    }

    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn parts(&self) -> Vec<&'static str> {
        vec!["loss"]
    }

    fn losses(&self, records: &[usize], at: At) -> Result<Losses> {
        let change = |id: &str| at.stream("augment", id);
        let parts = self.parts(records, Some(&change), |id| at.stream("patches", id))?;
        let loss = self.loss(&parts).map_err(Error::compute(DOING))?;
        Ok(Losses { updates: vec![Update { network: 0, loss: loss.clone() }], parts: vec![loss] })
    }

    fn split(&self) -> Option<Split> {
        Some(self.split.clone())
    }

    fn score(&self, record: usize, seed: u64) -> Result<f64> {
        let parts = self.parts(&[record], None, |id| Stream::new("validation patches", seed, id, 0))?;
        self.loss(&parts).and_then(|loss| loss.to_scalar::<f32>()).map(f64::from).map_err(Error::compute(DOING))
    }
}

/// Which of the generated clips take part: `wanted` of them, drawn from the seed; all where there are fewer.
pub fn mixed(generated: usize, wanted: usize, seed: u64) -> Vec<usize> {
    let mut chosen = Stream::new("mix", seed, "", 0).shuffle(generated);
    chosen.truncate(wanted);
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_holds_as_many_generated_clips_as_are_wanted() {
        for wanted in [0, 10, 30] {
            let mix = mixed(100, wanted, 1);
            assert!(mix.len() == wanted && mix.windows(2).all(|pair| pair[0] < pair[1]), "{mix:?}");
        }
        assert_eq!(mixed(15, 30, 1), (0..15).collect::<Vec<_>>());
        assert_ne!(mixed(100, 10, 1), mixed(100, 10, 2));
        let few = mixed(100, 10, 1);
        assert!(few.iter().all(|i| mixed(100, 20, 1).contains(i)), "more of them hold those that were there");
    }

    #[test]
    fn the_published_rate_follows_the_batch() {
        assert_eq!(defaults(Backbone::Published, None).rate, 1e-3);
        assert_eq!(defaults(Backbone::Vit3d, Some(64)).rate, 2.5e-4);
    }
}
