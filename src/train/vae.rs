//! Training of the 3D-VAE (paper section 3.2, SPEC section 5).
//!
//! A clip, or a run of consecutive frames of it (`training_frames` of the configuration), is encoded, drawn from its
//! posterior and decoded; the loss is made of [`Terms`]. The first frame and the noise depend on the seed, the record and
//! the step. Validation is the pixels' part of the loss without noise, on one run a record for good.

use candle_core::Tensor;

use super::adamw::Settings;
use super::clip::{normal, run, stretched, tensor};
use super::task::{At, Defaults, Losses, Network, Recipe, Records, Task};
use super::terms::Terms;
use super::variables::Variables;
use crate::checkpoint::sizes::Sizes;
use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::model::discriminator::SMALLEST;
use crate::model::vae::{Config, Encoder, Vae as Model};
use crate::random::Stream;

const DOING: &str = "training the 3D-VAE";
/// The kernel at which the adaptive weight compares gradients.
const LAST: &str = "decoder.conv_out.weight";

/// The published optimiser; the compact network, which has no discriminator beside it, averages over more steps.
pub fn recipe(sizes: Sizes) -> Recipe {
    let betas = if matches!(sizes, Sizes::Compact) { (0.9, 0.99) } else { (0.5, 0.9) };
    Recipe { adamw: Settings::new(betas, 0.02), clip: 3.0 }
}

/// Weight of the mean square difference beside the absolute one: none as published.
pub fn square(sizes: Sizes) -> f64 {
    if matches!(sizes, Sizes::Compact) {
        5.0
    } else {
        0.0
    }
}

/// The published schedule; the compact network takes larger steps.
pub fn defaults(sizes: Sizes) -> Defaults {
    let rate = if matches!(sizes, Sizes::Published | Sizes::Paper) { 5e-5 } else { 5e-4 };
    Defaults { epochs: 10, batch: 1, rate, ema: 0.0, warm_up: 0 }
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

    /// The same with an encoder, and therefore latents, that stay as they are; the decoder learns by the mean square difference.
    ///
    /// # Errors
    /// Where the variables do not fit the configuration.
    pub fn decoder_only(mut self) -> Result<Vae<R>> {
        let encoder = Encoder::new(&self.config, self.variables.constants()).map_err(Error::compute(DOING))?;
        self.terms = Terms { fixed: Some(encoder), absolute: 0.0, square: 1.0, ..self.terms };
        Ok(self)
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
        let variables = self.variables.clone();
        let mut networks = vec![Network { name: "vae", variables, recipe: self.recipe, paced: None }];
        networks.extend(self.terms.adversary.as_ref().map(|adversary| {
            let variables = adversary.variables().clone();
            Network { name: "discriminator", variables, recipe: self.recipe, paced: None }
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
            let decoded = self.model.decode(&self.model.encode(&clip)?.mean)?;
            self.terms.score(&clip, &decoded)
        };
        compute().map_err(Error::compute(DOING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::sizes::Sizes;
    use crate::model::discriminator;
    use crate::train::schedule::Schedule;
    use crate::train::start::fresh;
    use crate::train::state::State;
    use crate::train::terms::{tests::made_up, Adversary};
    use crate::train::{Plan, Row, Training, Watch};
    use candle_core::Device;
    use ndarray::Array3;
    use std::io::Write;

    /// Three small clips of a beating disc.
    struct Discs(Vec<String>);

    impl Records for Discs {
        type Item = Cine;

        fn ids(&self) -> &[String] {
            &self.0
        }

        fn get(&self, i: usize) -> Result<Cine> {
            let clip = Array3::from_shape_fn((6, 24, 24), |(t, y, x)| {
                let radius = 5.0 + i as f32 + (t as f32).sin();
                let away = (x as f32 - 11.0).hypot(y as f32 - 12.0);
                1.0 / (1.0 + (away - radius).exp())
            });
            let id = self.0[i].clone();
            Ok(Cine { source: id.clone(), id, sample: 0, clip, pixel_spacing_mm: None, heart_rate: 60.0 })
        }
    }

    /// Keeps rows and the last state; wants to stop after some steps.
    #[derive(Default)]
    struct Notes {
        rows: Vec<Row>,
        state: Vec<u8>,
        stop: Option<u64>,
    }

    impl Watch for Notes {
        fn on_step(&mut self, row: &Row) -> Result<()> {
            self.rows.push(row.clone());
            Ok(())
        }

        fn wants_state(&mut self, _: u64) -> bool {
            false
        }

        fn save(&mut self, write: &dyn Fn(&mut dyn Write) -> Result<()>) -> Result<()> {
            self.state.clear();
            write(&mut self.state)
        }

        fn wants_stop(&mut self) -> bool {
            self.stop.is_some_and(|stop| self.rows.len() as u64 == stop)
        }
    }

    fn small(terms: Terms) -> Vae<Discs> {
        let config = Config { base_width: 8, multipliers: vec![1, 1], attention_levels: vec![], ..Config::tiny() };
        let values = fresh("vae", 1, |vb| Model::new(&config, vb)).unwrap();
        let variables = Variables::new(values, &Device::Cpu).unwrap();
        let records = Discs(["a", "b", "c"].map(str::to_owned).to_vec());
        Vae::new(records, config, variables, recipe(Sizes::Tiny)).unwrap().with(terms)
    }

    fn training(from: u64) -> Training<Vae<Discs>> {
        let adversary = Adversary::new(&discriminator::Config::tiny(), from, 1, &Device::Cpu).unwrap();
        let terms =
            Terms { perceptual: Some(made_up()), outliers: 1.0, adversary: Some(adversary), ..Terms::default() };
        planned(small(terms))
    }

    fn planned(task: Vae<Discs>) -> Training<Vae<Discs>> {
        let plan = Plan {
            batch: 1,
            accumulate: 2,
            schedule: Schedule::cosine(defaults(Sizes::Tiny).rate, 0, 6),
            validation: 0.34,
            validate_every: Some(2),
            ema: None,
            patience: None,
            seed: 9,
        };
        Training::new(task, plan, Default::default(), "{}".into()).unwrap()
    }

    #[test]
    fn a_training_with_every_term_goes_on_where_it_stopped_and_ends_with_the_same_bytes() {
        let mut whole = Notes::default();
        training(2).run(&mut whole).unwrap();
        for stop in [1, 3, 5] {
            let mut first = Notes { stop: Some(stop), ..Notes::default() };
            training(2).run(&mut first).unwrap();
            let mut again = training(2);
            again.resume(State::read(&mut first.state.as_slice()).unwrap()).unwrap();
            let mut rest = Notes::default();
            again.run(&mut rest).unwrap();
            assert_eq!(rest.rows, whole.rows[stop as usize..], "stopped after {stop}");
            assert!(rest.state == whole.state, "stopped after {stop}: the states differ");
        }
    }

    #[test]
    fn every_term_is_logged_and_the_discriminator_moves_from_its_first_step_on() {
        let (mut notes, mut training) = (Notes::default(), training(2));
        let columns = training.columns();
        let wanted = ["perceptual", "outliers", "adversarial", "adversarial_weight", "discriminator"];
        assert!(wanted.iter().all(|name| columns.iter().any(|column| column == name)), "{columns:?}");
        assert!(columns.iter().any(|column| column == "discriminator_gradient_norm"));
        training.run(&mut notes).unwrap();
        for (i, row) in notes.rows.iter().enumerate() {
            assert_eq!(row.norms[1].is_some(), i >= 2);
            assert_eq!(row.parts[6] > 0.0, i >= 2, "{:?}", row.parts);
            assert!(row.parts[3] > 0.0);
        }
        let state = State::read(&mut notes.state.as_slice()).unwrap();
        let saved = |name: &str| state.tensors.contains_key(name);
        for name in ["value.main.3.running_var", "first.main.2.weight", "second.main.11.bias"] {
            assert!(saved(&format!("discriminator.{name}")), "{name}");
        }
    }

    #[test]
    fn a_decoder_that_learns_alone_leaves_the_encoder_as_it_is() {
        let task = small(Terms::default()).decoder_only().unwrap();
        let (variables, before) = (task.variables.clone(), task.variables.values().unwrap());
        let mut training = planned(task);
        assert!(training.columns().iter().any(|column| column == "square"));
        let mut notes = Notes::default();
        training.run(&mut notes).unwrap();
        let scores: Vec<f64> = notes.rows.iter().filter_map(|row| row.validation).collect();
        assert!(scores.last().unwrap() < scores.first().unwrap(), "{scores:?}");
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (name, after) in variables.values().unwrap() {
            let stays = name.starts_with("encoder_3d.") || name.starts_with("quant_conv.");
            assert_eq!(values(&before[&name]) == values(&after), stays, "{name}");
        }
    }

    #[test]
    fn clips_too_small_for_the_discriminator_are_named() {
        struct Small;
        impl Records for Small {
            type Item = Cine;
            fn ids(&self) -> &[String] {
                &[]
            }
            fn get(&self, _: usize) -> Result<Cine> {
                let clip = Array3::from_shape_fn((3, 24, 24), |(t, y, x)| (t + y + x) as f32);
                let id = "p".to_owned();
                Ok(Cine { source: id.clone(), id, sample: 0, clip, pixel_spacing_mm: None, heart_rate: 60.0 })
            }
        }
        let config = Config::tiny();
        let values = fresh("vae", 1, |vb| Model::new(&config, vb)).unwrap();
        let variables = Variables::new(values, &Device::Cpu).unwrap();
        let adversary = Adversary::new(&discriminator::Config::tiny(), 0, 1, &Device::Cpu).unwrap();
        let terms = Terms { adversary: Some(adversary), ..Terms::default() };
        let task = Vae::new(Small, config, variables, recipe(Sizes::Tiny)).unwrap().with(terms);
        let error = task.losses(&[0], At { seed: 0, step: 0 }).unwrap_err().to_string();
        assert!(error.contains("record p") && error.contains("found 3 frames of 24 x 24"), "{error}");
    }
}
