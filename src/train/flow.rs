//! Training of the flow, its ECG encoder along with it (paper section 3.2, SPEC section 6).
//!
//! ```text
//! x1: posterior mean of the clip     x0 = template + alpha noise     t uniform     xt = (1 - t) x0 + t x1
//! c: features of one cycle, zeros with probability 0.1               loss = mean (v(xt, t, c) - (x1 - x0))^2
//! ```
//!
//! Noise, t and the dropping of c depend on the seed, the record and the step. The weights of the encoder are trained, the
//! running statistics of its batch normalisation stay those of PA-MAE: at two records a batch they would be noise. Its
//! phase head gets no gradient and stays as it is. Validation is the loss with one noise and two times a record for good.

use candle_core::{DType, Tensor};
use ndarray::{Array2, Ix2};
use rayon::prelude::*;

use super::adamw::Settings;
use super::clip::normals;
use super::condition::condition;
use super::task::{At, Defaults, Losses, Network, Paced, Recipe, Records, Task, Update};
use super::variables::Variables;
use crate::checkpoint::sizes::Sizes;
use crate::checkpoint::ENCODER;
use crate::data::cine::Latent;
use crate::data::ecg::Ecg;
use crate::error::{Error, Fault, Result};
use crate::model::amdf::{loss, start, Config, Velocity};
use crate::model::pamae::{self, align, cycles, CycleChoice, Encoder};
use crate::random::Stream;
use crate::tensor;

const DOING: &str = "training the flow";
/// Share of the records whose features are replaced by zeros.
const DROPPED: f64 = 0.1;

/// Tensors that [`Flow::conditioned`] sets.
const PROJECTION: &str = "ecg_proj.weight";
const GLOBAL: &str = "ecg_global_proj.0.weight";
/// Records whose features are computed together then.
const CONDITION_BATCH: usize = 16;

/// The published optimiser.
pub fn recipe() -> Recipe {
    Recipe { adamw: Settings::new((0.9, 0.999), 1e-4), clip: 1.0 }
}

/// The published schedule; the compact network takes larger steps, and its average is saved.
pub fn defaults(sizes: Sizes) -> Defaults {
    match sizes {
        Sizes::Published => Defaults { epochs: 10, batch: 2, rate: 1e-4, ema: 0.0, warm_up: 0 },
        Sizes::Paper => Defaults { epochs: 10, batch: 4, rate: 1e-4, ema: 0.0, warm_up: 0 },
        Sizes::Compact | Sizes::Tiny => Defaults { epochs: 10, batch: 2, rate: 5e-4, ema: 0.999, warm_up: 0 },
    }
}

/// Which part of the ECG is the condition of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cycle {
    /// The same in every step.
    Fixed(CycleChoice),
    /// A random complete beat in every step; where there is none, as published.
    Random,
}

impl Default for Cycle {
    fn default() -> Self {
        Cycle::Fixed(CycleChoice::Published)
    }
}

impl std::str::FromStr for Cycle {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "published" => Ok(Cycle::Fixed(CycleChoice::Published)),
            "median" => Ok(Cycle::Fixed(CycleChoice::Median)),
            "random" => Ok(Cycle::Random),
            "whole" => Ok(Cycle::Fixed(CycleChoice::Whole)),
            _ => Err("expected published, median, random or whole".to_owned()),
        }
    }
}

impl Cycle {
    /// What the sampler does, where it is to do as in training.
    pub fn in_use(self) -> CycleChoice {
        match self {
            Cycle::Fixed(choice) => choice,
            Cycle::Random => CycleChoice::Published,
        }
    }

    fn of(self, sin: &[f32], cos: &[f32], stream: &mut Stream) -> (usize, usize) {
        let chosen = match self {
            Cycle::Fixed(choice) => cycles(sin, cos, choice),
            Cycle::Random => cycles(sin, cos, CycleChoice::All),
        };
        chosen.get(stream.below(chosen.len())).copied().unwrap_or_else(|| pamae::one_cycle(sin, cos))
    }
}

/// ECGs and the latents of their clips, record for record.
pub struct Pairs<E, L> {
    ecgs: E,
    latents: L,
    /// Names of the pairs: those of the clips, of which an ECG may have several.
    ids: Vec<String>,
    /// Numbers of ECG and latent.
    places: Vec<(usize, usize)>,
}

impl<E: Records<Item = Ecg>, L: Records<Item = Latent>> Pairs<E, L> {
    /// These pairs, numbers of ECG and latent, named after the latents.
    pub fn new(ecgs: E, latents: L, places: Vec<(usize, usize)>) -> Pairs<E, L> {
        let ids = places.iter().filter_map(|(_, latent)| latents.ids().get(*latent).cloned()).collect();
        Pairs { ecgs, latents, ids, places }
    }

    fn get(&self, i: usize) -> Result<(Ecg, Latent)> {
        let place = self.places.get(i).ok_or_else(|| Fault::new(DOING, "no such pair").record(i))?;
        Ok((self.ecgs.get(place.0)?.accept(DOING)?, self.latents.get(place.1)?))
    }
}

/// The flow and what it is trained on.
pub struct Flow<E, L> {
    pairs: Pairs<E, L>,
    config: Config,
    cycle: Cycle,
    velocity: Velocity,
    encoder: Encoder,
    template: Tensor,
    variables: Variables,
    recipe: Recipe,
    paced: Option<Paced>,
}

/// One batch as tensors.
struct Batch {
    ecg: Tensor,
    x1: Tensor,
    noise: Tensor,
    t: Tensor,
    /// What each record's features are multiplied by, 1 or 0.
    kept: Vec<f64>,
    cycles: Vec<Stream>,
}

impl<E: Records<Item = Ecg>, L: Records<Item = Latent>> Flow<E, L> {
    /// A trainer whose networks have these variables: those of the velocity, and `encoder.*`.
    ///
    /// # Errors
    /// Where the variables do not fit the configurations.
    pub fn new(
        pairs: Pairs<E, L>,
        (config, encoder): (Config, &pamae::Config),
        cycle: Cycle,
        template: &Tensor,
        variables: Variables,
        recipe: Recipe,
    ) -> Result<Flow<E, L>> {
        let build = || {
            let velocity = Velocity::new(&config, variables.builder())?;
            let encoder = Encoder::new(encoder, variables.builder().pp(ENCODER.trim_end_matches('.')))?;
            Ok::<_, candle_core::Error>((velocity, encoder, template.to_device(variables.device())?))
        };
        let (velocity, encoder, template) = build().map_err(Error::compute(DOING))?;
        Ok(Flow { pairs, config, cycle, velocity, encoder, template, variables, recipe, paced: None })
    }

    /// The same with an encoder that learns at this part of the learning rate; at 0 it stays as it is.
    ///
    /// # Errors
    /// Where the variables do not fit the configuration.
    pub fn encoder_pace(mut self, encoder: &pamae::Config, pace: f64) -> Result<Flow<E, L>> {
        self.paced = (pace != 1.0).then_some(Paced { prefix: ENCODER, pace });
        if pace == 0.0 {
            let constants = self.variables.constants().pp(ENCODER.trim_end_matches('.'));
            self.encoder = Encoder::new(encoder, constants).map_err(Error::compute(DOING))?;
        }
        Ok(self)
    }

    /// The same with weights that start from what the ECGs of some records tell of their people ([`condition`]).
    ///
    /// # Errors
    /// Where a record cannot be read or the computation fails.
    pub fn conditioned(self, records: &[usize]) -> Result<Flow<E, L>> {
        let mut features = Vec::new();
        for records in records.chunks(CONDITION_BATCH) {
            let mut batch = self.batch(records, |what, id| Stream::new(what, 0, id, 0))?;
            batch.kept.fill(1.0);
            let rows = self.feature(&batch, Cycle::Fixed(self.cycle.in_use())).and_then(|all| {
                (0..records.len()).map(|i| all.get(i)?.to_dtype(DType::F64)?.to_vec2::<f64>()).collect()
            });
            let rows: Vec<Vec<Vec<f64>>> = rows.map_err(Error::compute(DOING))?;
            features.extend(rows.into_iter().map(|rows| {
                let shape = (rows.len(), rows.first().map_or(0, Vec::len));
                Array2::from_shape_fn(shape, |(t, d)| rows[t][d])
            }));
        }
        let (Some(projection), Some(global)) = (self.variables.get(PROJECTION), self.variables.get(GLOBAL)) else {
            return Err(Fault::new(DOING, "no such tensors").field(format!("{PROJECTION}, {GLOBAL}")).into());
        };
        let start = || {
            let drawn = tensor::to_array::<Ix2>(projection.as_tensor())?;
            let Some(found) = condition(&features, drawn.mapv(f64::from).view()) else { return Ok(()) };
            let weight = found.projection.mapv(|v| v as f32);
            projection.set(&tensor::from_array(weight.view(), self.variables.device())?)?;
            global.set(&(global.as_detached_tensor() * found.gain)?)
        };
        start().map_err(Error::compute(DOING))?;
        Ok(self)
    }

    /// Reads the records; `stream` gives the numbers of a purpose and a record.
    fn batch(&self, records: &[usize], stream: impl Fn(&str, &str) -> Stream + Sync) -> Result<Batch> {
        let device = self.variables.device();
        let Config { latent_channels, frames, latent_side, .. } = self.config;
        let shape = [latent_channels, frames, latent_side, latent_side];
        let load = |record: &usize| {
            let (ecg, latent) = self.pairs.get(*record)?;
            if latent.latent.shape() != shape {
                let fault = Fault::new(DOING, "").record(&latent.id).field("latent");
                return Err(fault.expected(format!("{shape:?}"), format!("{:?}", latent.latent.shape())).into());
            }
            let noise = normals(&mut stream("noise", &latent.id), &shape);
            Ok((ecg, latent, noise))
        };
        let loaded: Vec<(Ecg, Latent, Vec<f32>)> = records.par_iter().map(load).collect::<Result<_>>()?;
        let (mut parts, mut t) = ([Vec::new(), Vec::new(), Vec::new()], Vec::new());
        let (mut kept, mut cycles) = (Vec::new(), Vec::new());
        for (ecg, latent, noise) in loaded {
            let id = &latent.id;
            let x1 = tensor::from_array(latent.latent.view(), device);
            let noise = Tensor::from_vec(noise, &shape, device);
            let all = [tensor::from_array(ecg.samples_mv.view(), device), x1, noise];
            for (part, tensor) in parts.iter_mut().zip(all) {
                part.push(tensor.map_err(Error::compute(DOING))?);
            }
            t.push(stream("time", id).uniform() as f32);
            kept.push(if stream("condition", id).uniform() > DROPPED { 1.0 } else { 0.0 });
            cycles.push(stream("cycle", id));
        }
        let t = Tensor::from_vec(t, records.len(), device).map_err(Error::compute(DOING))?;
        let [ecg, x1, noise] = parts.map(|part| Tensor::stack(&part, 0).map_err(Error::compute(DOING)));
        Ok(Batch { ecg: ecg?, x1: x1?, noise: noise?, t, kept, cycles })
    }

    /// The condition of a batch: (B, T, D).
    fn feature(&self, batch: &Batch, cycle: Cycle) -> candle_core::Result<Tensor> {
        let (semantic, phase) = self.encoder.forward_t(&batch.ecg, false)?; // (B, D, N/8), (B, 2, N/8)
        let phase = phase.detach();
        let mut features = Vec::new();
        for (b, (kept, stream)) in batch.kept.iter().zip(&batch.cycles).enumerate() {
            let rows = phase.get(b)?.to_vec2::<f32>()?;
            let [sin, cos] = rows.as_slice() else { candle_core::bail!("expected two rows of phase") };
            let (start, end) = cycle.of(sin, cos, &mut stream.clone());
            let feature = align(&semantic.get(b)?, start, end, self.config.frames)?; // (D, T)
            features.push((feature.t()?.contiguous()? * *kept)?);
        }
        Tensor::stack(&features, 0)
    }
}

impl<E: Records<Item = Ecg>, L: Records<Item = Latent>> Task for Flow<E, L> {
    fn networks(&self) -> Vec<Network> {
        vec![Network { name: "flow", variables: self.variables.clone(), recipe: self.recipe, paced: self.paced }]
    }

    fn ids(&self) -> &[String] {
        &self.pairs.ids
    }

    fn parts(&self) -> Vec<&'static str> {
        vec!["loss"]
    }

    fn losses(&self, records: &[usize], at: At) -> Result<Losses> {
        let batch = self.batch(records, |purpose, id| at.stream(purpose, id))?;
        let compute = || {
            let feature = self.feature(&batch, self.cycle)?;
            let x0 = start(&self.template, &batch.noise, self.config.training_alpha)?;
            loss(&self.velocity, &x0, &batch.x1, &batch.t, &feature)
        };
        let loss = compute().map_err(Error::compute(DOING))?;
        Ok(Losses { updates: vec![Update { network: 0, loss: loss.clone() }], parts: vec![loss] })
    }

    fn score(&self, record: usize, seed: u64) -> Result<f64> {
        let purpose = |purpose: &str| format!("validation {purpose}");
        let mut batch = self.batch(&[record], |what, id| Stream::new(&purpose(what), seed, id, 0))?;
        batch.kept = vec![1.0];
        let compute = || {
            let feature = self.feature(&batch, Cycle::Fixed(self.cycle.in_use()))?.detach();
            let x0 = start(&self.template, &batch.noise, self.config.training_alpha)?;
            let early = (&batch.t * 0.5)?;
            let of = |t: &Tensor| loss(&self.velocity, &x0, &batch.x1, t, &feature)?.to_scalar::<f32>();
            let late = of(&(&early + 0.5)?)?;
            Ok::<_, candle_core::Error>((f64::from(of(&early)?) + f64::from(late)) / 2.0)
        };
        compute().map_err(Error::compute(DOING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_cycle_is_a_complete_beat_or_the_published_one() {
        let angle = |i: usize| (i as f32 / 50.0 * std::f32::consts::TAU) - std::f32::consts::PI;
        let (sin, cos): (Vec<f32>, Vec<f32>) = (0..200).map(|i| angle(i).sin_cos()).unzip();
        let mut stream = Stream::new("cycle", 0, "p", 0);
        let drawn: Vec<_> = (0..50).map(|_| Cycle::Random.of(&sin, &cos, &mut stream)).collect();
        let all = cycles(&sin, &cos, CycleChoice::All);
        assert!(all.len() >= 2 && all.iter().all(|beat| drawn.contains(beat)) && drawn.iter().all(|b| all.contains(b)));
        assert_eq!(Cycle::Random.of(&[0.0; 90], &[1.0; 90], &mut stream), (30, 60));
    }
}
