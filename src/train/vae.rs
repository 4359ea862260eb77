//! Training of the 3D-VAE (paper section 3.2, SPEC section 5).
//!
//! A clip, or a run of consecutive frames of it (`training_frames` of the configuration), is encoded, drawn from its
//! posterior and decoded; the loss is the mean absolute difference and the KL divergence. The first frame and the noise
//! depend on the seed, the record and the step. Validation is the absolute difference without noise, on one run a record
//! for good.

use candle_core::Tensor;

use super::adamw::Settings;
use super::clip::{normal, run, stretched, tensor};
use super::task::{At, Defaults, Losses, Network, Recipe, Records, Task, Update};
use super::variables::Variables;
use crate::checkpoint::sizes::Sizes;
use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::model::vae::{loss, Config, Vae as Model};
use crate::random::Stream;

const DOING: &str = "training the 3D-VAE";

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
}

impl<R: Records<Item = Cine>> Vae<R> {
    /// A trainer whose network has these variables.
    ///
    /// # Errors
    /// Where the variables do not fit the configuration.
    pub fn new(records: R, config: Config, variables: Variables, recipe: Recipe) -> Result<Vae<R>> {
        let model = Model::new(&config, variables.builder()).map_err(Error::compute(DOING))?;
        Ok(Vae { records, config, model, variables, recipe })
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
        vec![Network { name: "vae", variables: self.variables.clone(), recipe: self.recipe }]
    }

    fn ids(&self) -> &[String] {
        self.records.ids()
    }

    fn parts(&self) -> Vec<&'static str> {
        vec!["loss", "absolute", "kl"]
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
        let compute = || {
            let (clip, noise) = (Tensor::stack(&clips, 0)?, Tensor::stack(&noises, 0)?);
            let posterior = self.model.encode(&clip)?;
            let decoded = self.model.decode(&posterior.sample(&noise)?)?;
            loss(&clip, &decoded, &posterior)
        };
        let losses = compute().map_err(Error::compute(DOING))?;
        let updates = vec![Update { network: 0, loss: losses.total.clone() }];
        Ok(Losses { updates, parts: vec![losses.total, losses.absolute, losses.kl] })
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
