//! Training of the 3D-VAE (paper section 3.2, SPEC section 5).
//!
//! A clip, or a run of consecutive frames of it (`training_frames` of the configuration), is encoded, drawn from its
//! posterior and decoded; the loss is the mean absolute difference, the KL divergence and the wanted [`Terms`]. The first frame and the noise
//! depend on the seed, the record and the step. Validation is the absolute difference without noise, on one run a record
//! for good.

use candle_core::Tensor;

use super::adamw::Settings;
use super::clip::{normal, run, stretched, tensor};
use super::terms::Terms;
use super::task::{At, Defaults, Losses, Network, Recipe, Records, Task};
use super::variables::Variables;
use crate::checkpoint::sizes::Sizes;
use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::model::discriminator::SMALLEST;
use crate::model::vae::{loss, Config, Vae as Model};
use crate::random::Stream;

const DOING: &str = "training the 3D-VAE";
/// The kernel at which the adaptive weight compares gradients.
const LAST: &str = "decoder.conv_out.weight";

/// The published optimiser.
pub fn recipe() -> Recipe {
    Recipe { adamw: Settings::new((0.5, 0.9), 0.02), clip: 3.0 }
}

/// The published schedule; the compact network takes larger steps.
pub fn defaults(sizes: Sizes) -> Defaults {
    let rate = if matches!(sizes, Sizes::Published | Sizes::Paper) { 5e-5 } else { 5e-4 };
    Defaults { epochs: 10, batch: 1, rate, ema: 0.0 }
}

/// The 3D-VAE and the clips it is trained on.
pub struct Vae<R> {
    records: R,
    config: Config,
    model: Model,
    variables: Variables,
    recipe: Recipe,
    terms: Terms,
}

impl<R: Records<Item = Cine>> Vae<R> {
    /// A trainer whose network has these variables.
    ///
    /// # Errors
    /// Where the variables do not fit the configuration.
    pub fn new(records: R, config: Config, variables: Variables, recipe: Recipe) -> Result<Vae<R>> {
        let model = Model::new(&config, variables.builder()).map_err(Error::compute(DOING))?;
        Ok(Vae { records, config, model, variables, recipe, terms: Terms::default() })
    }

    /// The same with more terms in its loss.
    pub fn with(self, terms: Terms) -> Vae<R> {
        Vae { terms, ..self }
    }

    /// The frames that are trained on: (1, T, S, S).
    fn clip(&self, record: usize, stream: impl Fn(&str) -> Stream) -> Result<Tensor> {
        let cine = self.records.get(record)?;
        let (_, rows, columns) = cine.clip.dim();
        let side = self.config.reduction();
        if rows != columns || !rows.is_multiple_of(side) {
            let fault = Fault::new(DOING, "").record(&cine.id).field("/cine");
            let expected = format!("square frames of a multiple of {side} pixels a side");
            return Err(fault.expected(expected, format!("{rows} x {columns}")).into());
        }
        let frames = if self.config.training_frames == 0 { cine.clip.dim().0 } else { self.config.training_frames };
        if self.terms.adversary.is_some() && (frames.min(cine.clip.dim().0) < SMALLEST.0 || rows < SMALLEST.1) {
            let fault = Fault::new(DOING, "").record(&cine.id).field("/cine");
            let expected = format!("{} frames of {1} x {1} or more for the discriminator", SMALLEST.0, SMALLEST.1);
            let found = format!("{} frames of {rows} x {rows}", frames.min(cine.clip.dim().0));
            return Err(fault.expected(expected, found).hint("--no-adversarial trains without it").into());
        }
        let clip = run(stretched(&cine, DOING)?, self.config.training_frames, &mut stream(&cine.id));
        tensor(&clip, self.variables.device())
    }

    /// Shape of the latent of a clip (1, T, S, S).
    fn latent(&self, clip: &Tensor) -> candle_core::Result<[usize; 4]> {
        let (_, t, h, w) = clip.dims4()?;
        let side = self.config.reduction();
        Ok([self.config.latent_channels, t, h / side, w / side])
    }
}

impl<R: Records<Item = Cine>> Task for Vae<R> {
    fn networks(&self) -> Vec<Network> {
        let mut networks = vec![Network { name: "vae", variables: self.variables.clone(), recipe: self.recipe }];
        networks.extend(self.terms.adversary.as_ref().map(|adversary| {
            let variables = adversary.variables().clone();
            Network { name: "discriminator", variables, recipe: self.recipe }
        }));
        networks
    }

    fn ids(&self) -> &[String] {
        self.records.ids()
    }

    fn parts(&self) -> Vec<&'static str> {
        self.terms.parts()
    }

    fn losses(&self, records: &[usize], at: At) -> Result<Losses> {
        let (mut clips, mut noises) = (Vec::new(), Vec::new());
        for record in records {
            let clip = self.clip(*record, |id| at.stream("frames", id))?;
            let id = self.ids().get(*record).map_or("", String::as_str);
            let noise = |clip| normal(&mut at.stream("latent", id), &self.latent(clip)?, self.variables.device());
            noises.push(noise(&clip).map_err(Error::compute(DOING))?);
            clips.push(clip);
        }
        let last = self.variables.get(LAST).ok_or_else(|| Fault::new(DOING, "no such tensor").field(LAST))?;
        let compute = || {
            let (clip, noise) = (Tensor::stack(&clips, 0)?, Tensor::stack(&noises, 0)?);
            self.terms.losses(&self.model, last, &clip, &noise, at.step)
        };
        compute().map_err(Error::compute(DOING))
    }

    fn score(&self, record: usize, seed: u64) -> Result<f64> {
        let clip = self.clip(record, |id| Stream::new("validation frames", seed, id, 0))?;
        let compute = || {
            let clip = clip.unsqueeze(0)?;
            let posterior = self.model.encode(&clip)?;
            let decoded = self.model.decode(&posterior.mean)?;
            loss(&clip, &decoded, &posterior)?.absolute.to_scalar::<f32>()
        };
        compute().map(f64::from).map_err(Error::compute(DOING))
    }
}
