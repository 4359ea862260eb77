//! The terms of the 3D-VAE's loss (SPEC section 5).
//!
//! ```text
//! reconstruction = mean (a |x - x'| + s (x - x')^2 + LPIPS(x, x'))
//! loss = reconstruction + 1e-6 KL + outliers(x') - w mean D(x')
//! w = 0.5 |d reconstruction / d W| / (|d mean D(x') / d W| + 1e-4),  W = decoder.conv_out.weight
//! ```
//!
//! Both gradients in w pass through the clip x'. So each term is differentiated once down to x', the two results are
//! taken on to W by the last layer alone, and one backward pass of the VAE starts from their weighted sum. This is exact,
//! and costs one more pass through the last convolution where two backward passes of everything would be needed.
//!
//! a is 1 and s is 0 in the paper. The square is what PSNR measures, and it minds edges that are a pixel off more than faint
//! textures.
//!
//! Before the first adversarial step the discriminator rests too, as published.

use candle_core::{Device, Result as Computed, Tensor, Var};

use super::start::fresh;
use super::task::{Losses, Update};
use super::variables::Variables;
use crate::checkpoint::sizes::Sizes;
use crate::checkpoint::{Kind, Weights};
use crate::error::{Error, Result};
use crate::model::discriminator::{adaptive_weight, discriminator_loss, generator_loss, Config, Discriminator};
use crate::model::lpips::Lpips;
use crate::model::vae::{outlier_penalty, Encoder, Posterior, Vae, KL_WEIGHT};

/// First step of the adversarial term, as published.
pub const ADVERSARIAL_FROM: u64 = 10_000;

/// The discriminator beside a 3D-VAE of that size.
pub fn discriminator(sizes: Sizes) -> Config {
    match sizes {
        Sizes::Published | Sizes::Paper => Config::published(),
        Sizes::Compact => Config::compact(),
        Sizes::Tiny => Config::tiny(),
    }
}

/// LPIPS with VGG16 from a weights file.
///
/// # Errors
/// Where the file does not hold it.
pub fn perceptual(weights: &Weights, device: &Device) -> Result<Lpips> {
    let config = weights.config(Kind::LpipsVgg)?;
    let builder = weights.builder(Kind::LpipsVgg, device)?;
    Lpips::new(&config, builder).map_err(Error::compute("opening LPIPS"))
}

/// The terms; by default the published weight of the KL divergence and nothing else.
#[derive(Debug)]
pub struct Terms {
    /// Weight of the KL divergence, which is a sum over the latent of a clip: the longer the clip, the heavier it weighs.
    pub kl: f64,
    /// Weight a of the mean absolute difference.
    pub absolute: f64,
    /// Weight s of the mean square difference; 0 leaves it out.
    pub square: f64,
    /// LPIPS.
    pub perceptual: Option<Lpips>,
    /// Weight of the outlier penalty; 0 leaves it out.
    pub outliers: f64,
    /// The adversarial term.
    pub adversary: Option<Adversary>,
    /// An encoder that stays as it is: the decoder learns alone, from posterior means.
    pub fixed: Option<Encoder>,
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            kl: KL_WEIGHT,
            absolute: 1.0,
            square: 0.0,
            perceptual: None,
            outliers: 0.0,
            adversary: None,
            fixed: None,
        }
    }
}

/// A discriminator that is trained along.
#[derive(Debug)]
pub struct Adversary {
    network: Discriminator,
    variables: Variables,
    from: u64,
}

impl Adversary {
    /// A fresh one, drawn from the seed, that works from step `from` on.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(config: &Config, from: u64, seed: u64, device: &Device) -> Result<Adversary> {
        let values = fresh("discriminator", seed, |vb| Discriminator::new(config, vb))?;
        let variables = Variables::new(values, device)?;
        let network = Discriminator::new(config, variables.builder());
        let network = network.map_err(Error::compute("making the discriminator"))?;
        Ok(Adversary { network, variables, from })
    }

    /// Its tensors.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }
}

/// The clip and what the VAE made of it.
struct Decoded<'a> {
    clip: &'a Tensor,
    posterior: &'a Posterior,
    /// What the last layer sees.
    hidden: Tensor,
    decoded: Tensor,
}

/// mean |x - x'|, mean (x - x')^2 and LPIPS where they are wanted, and their weighted sum.
struct Reconstruction {
    absolute: Tensor,
    square: Option<Tensor>,
    perceptual: Option<Tensor>,
    sum: Tensor,
}

impl Terms {
    /// Columns of the log.
    pub fn parts(&self) -> Vec<&'static str> {
        let mut parts = vec!["loss", "absolute", "kl"];
        parts.extend((self.square > 0.0).then_some("square"));
        parts.extend(self.perceptual.as_ref().map(|_| "perceptual"));
        parts.extend((self.outliers > 0.0).then_some("outliers"));
        if self.adversary.is_some() {
            parts.extend(["adversarial", "adversarial_weight", "discriminator"]);
        }
        parts
    }

    /// The losses of clips (B, 1, T, S, S) with the noise of their latents, after `step` steps; `last` is the kernel W.
    pub(super) fn losses(&self, vae: &Vae, last: &Var, clip: &Tensor, noise: &Tensor, step: u64) -> Computed<Losses> {
        let (posterior, latent) = match &self.fixed {
            Some(encoder) => encoder.forward(clip).map(|posterior| (posterior.clone(), posterior.mean))?,
            None => vae.encode(clip).and_then(|posterior| Ok((posterior.clone(), posterior.sample(noise)?)))?,
        };
        let (posterior, hidden) = (&posterior, vae.decoder.hidden(&latent)?);
        let made = Decoded { clip, posterior, decoded: vae.decoder.finish(&hidden)?, hidden };
        match self.adversary.as_ref().filter(|adversary| step >= adversary.from) {
            Some(adversary) => self.adversarial(adversary, vae, last, &made),
            None => {
                let (reconstruction, rest) = (self.reconstruction(clip, &made.decoded)?, self.rest(&made)?);
                let total = (&reconstruction.sum + &rest.sum)?;
                let updates = vec![Update { network: 0, loss: total.clone() }];
                let zero = total.zeros_like()?.detach();
                let parts = self.values(total, reconstruction, rest, [zero.clone(), zero.clone(), zero]);
                Ok(Losses { updates, parts })
            }
        }
    }

    fn adversarial(&self, adversary: &Adversary, vae: &Vae, last: &Var, made: &Decoded) -> Computed<Losses> {
        let leaf = Var::from_tensor(&made.decoded.detach())?; // x', where the graph of the VAE is cut
        let reconstruction = self.reconstruction(made.clip, &leaf)?;
        let adversarial = generator_loss(&adversary.network.forward_t(&leaf, true)?)?;
        let by_reconstruction = gradient(&reconstruction.sum, &leaf)?;
        let by_adversary = gradient(&adversarial, &leaf)?;

        let decoded = vae.decoder.finish(&made.hidden.detach())?;
        let at_last = |slope: &Tensor| gradient(&(&decoded * slope)?.sum_all()?, last);
        let weight = adaptive_weight(&at_last(&by_reconstruction)?, &at_last(&by_adversary)?)?;

        let slope = (by_reconstruction + (by_adversary * weight)?)?;
        let rest = self.rest(made)?;
        let loss = ((&made.decoded * slope)?.sum_all()? + &rest.sum)?; // of the right gradient, not value
        let total = ((&reconstruction.sum + (&adversarial * weight)?)? + &rest.sum)?;

        let of = |clip: &Tensor| adversary.network.forward_t(clip, true);
        let judged = discriminator_loss(&of(made.clip)?, &of(&made.decoded.detach())?)?;
        let weight = Tensor::new(weight as f32, leaf.device())?;
        let parts = self.values(total, reconstruction, rest, [adversarial, weight, judged.clone()]);
        Ok(Losses { updates: vec![Update { network: 0, loss }, Update { network: 1, loss: judged }], parts })
    }

    fn reconstruction(&self, clip: &Tensor, decoded: &Tensor) -> Computed<Reconstruction> {
        let (absolute, square, pixels) = self.pixels(clip, decoded)?;
        let perceptual = self.perceptual.as_ref().map(|lpips| lpips.forward(decoded, clip)?.mean_all()).transpose()?;
        let sum = perceptual.as_ref().map_or_else(|| Ok(pixels.clone()), |perceptual| &pixels + perceptual)?;
        Ok(Reconstruction { absolute, square, perceptual, sum })
    }

    /// mean |x - x'|, mean (x - x')^2 where it is wanted, and their weighted sum.
    fn pixels(&self, clip: &Tensor, decoded: &Tensor) -> Computed<(Tensor, Option<Tensor>, Tensor)> {
        let absolute = (clip - decoded)?.abs()?.mean_all()?;
        let square = (self.square > 0.0).then(|| (clip - decoded)?.sqr()?.mean_all()).transpose()?;
        let mut sum = (&absolute * self.absolute)?;
        if let Some(square) = &square {
            sum = (sum + (square * self.square)?)?;
        }
        Ok((absolute, square, sum))
    }

    /// What validation measures: the loss of the pixels.
    pub(super) fn score(&self, clip: &Tensor, decoded: &Tensor) -> Computed<f64> {
        self.pixels(clip, decoded)?.2.to_scalar::<f32>().map(f64::from)
    }

    /// KL divergence and outlier penalty.
    fn rest(&self, made: &Decoded) -> Computed<Rest> {
        let kl = made.posterior.kl()?.mean_all()?;
        let mut sum = (&kl * self.kl)?;
        let mut outliers = None;
        if self.outliers > 0.0 {
            let penalty = outlier_penalty(&made.decoded)?;
            sum = (sum + (&penalty * self.outliers)?)?;
            outliers = Some(penalty);
        }
        Ok(Rest { kl, outliers, sum })
    }

    /// The values of [`Terms::parts`].
    fn values(&self, total: Tensor, made: Reconstruction, rest: Rest, adversarial: [Tensor; 3]) -> Vec<Tensor> {
        let mut values = vec![total, made.absolute, rest.kl];
        values.extend(made.square);
        values.extend(made.perceptual);
        values.extend(rest.outliers);
        if self.adversary.is_some() {
            values.extend(adversarial);
        }
        values.iter().map(Tensor::detach).collect()
    }
}

/// The terms that have nothing to do with the adaptive weight.
struct Rest {
    kl: Tensor,
    outliers: Option<Tensor>,
    sum: Tensor,
}

/// d loss / d x.
fn gradient(loss: &Tensor, x: &Var) -> Computed<Tensor> {
    let grad = loss.backward()?.remove(x);
    grad.map_or_else(|| x.zeros_like(), |grad| Ok(grad.detach()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::lpips::{self, Network};
    use crate::model::vae;
    use candle_core::DType;
    use candle_nn::{VarBuilder, VarMap};

    const LAST: &str = "decoder.conv_out.weight";

    fn wave(shape: &[usize], speed: f32) -> Tensor {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * speed).sin() * (i as f32 * 0.013).cos()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// LPIPS with made-up weights whose heads are positive.
    pub fn made_up() -> Lpips {
        let (map, config) = (VarMap::new(), lpips::Config::tiny(Network::Vgg16));
        Lpips::new(&config, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
        let all = map.data().lock().unwrap();
        let value = |(name, var): (&String, &Var)| {
            let values = wave(var.dims(), 0.7);
            (name.clone(), if name.starts_with("lin") { values.abs().unwrap() } else { values })
        };
        let tensors = all.iter().map(value).collect();
        Lpips::new(&config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).unwrap()
    }

    fn all_terms(from: u64) -> Terms {
        let adversary = Adversary::new(&Config::tiny(), from, 3, &Device::Cpu).unwrap();
        Terms { perceptual: Some(made_up()), outliers: 1.0, adversary: Some(adversary), ..Terms::default() }
    }

    fn small_vae() -> (Vae, Variables) {
        let config =
            vae::Config { base_width: 8, multipliers: vec![1, 1], attention_levels: vec![], ..vae::Config::tiny() };
        let values = fresh("vae", 5, |vb| Vae::new(&config, vb)).unwrap();
        let variables = Variables::new(values, &Device::Cpu).unwrap();
        (Vae::new(&config, variables.builder()).unwrap(), variables)
    }

    fn number(x: &Tensor) -> f64 {
        x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn the_gradient_is_that_of_the_whole_loss_with_the_weight_held_fixed() {
        let (vae, variables) = small_vae();
        let terms = all_terms(0);
        let (clip, noise) = (wave(&[1, 1, 4, 24, 24], 0.11), wave(&[1, 4, 4, 12, 12], 0.7));
        let last = variables.get(LAST).unwrap();
        let losses = terms.losses(&vae, last, &clip, &noise, 0).unwrap();
        let parts: Vec<f64> = losses.parts.iter().map(number).collect();
        assert_eq!(terms.parts().len(), parts.len());

        // The same by two backward passes of everything.
        let posterior = vae.encode(&clip).unwrap();
        let decoded = vae.decode(&posterior.sample(&noise).unwrap()).unwrap();
        let reconstruction = terms.reconstruction(&clip, &decoded).unwrap().sum;
        let network = &terms.adversary.as_ref().unwrap().network;
        let adversarial = generator_loss(&network.forward_t(&decoded, true).unwrap()).unwrap();
        let at = |loss: &Tensor| loss.backward().unwrap().get(last).unwrap().clone();
        let weight = adaptive_weight(&at(&reconstruction), &at(&adversarial)).unwrap();
        let kl = posterior.kl().unwrap().mean_all().unwrap();
        let rest = ((kl * KL_WEIGHT).unwrap() + outlier_penalty(&decoded).unwrap()).unwrap();
        let whole = ((reconstruction + (adversarial * weight).unwrap()).unwrap() + rest).unwrap();
        assert!((parts[0] - number(&whole)).abs() < 1e-5 * parts[0].abs(), "{parts:?}");
        assert!((parts[6] - weight).abs() < 1e-4 * weight && weight > 0.0, "{parts:?}, {weight}");

        let (want, got) = (whole.backward().unwrap(), losses.updates[0].loss.backward().unwrap());
        let size = |x: &Tensor| number(&x.sqr().unwrap().sum_all().unwrap()).sqrt();
        let largest = variables.iter().map(|(_, var)| size(want.get(var).unwrap())).fold(0.0, f64::max);
        for (name, var) in variables.iter() {
            let (want, got) = (want.get(var).unwrap(), got.get(var).unwrap());
            let (apart, size) = (size(&(want - got).unwrap()), size(want));
            // A bias before a normalisation of single channels has the gradient 0 but for rounding.
            assert!(apart <= 2e-4 * size.max(1e-3 * largest), "{name}: {apart} of {size}, largest {largest}");
        }
        let discriminator = losses.updates[1].loss.backward().unwrap();
        assert!(variables.iter().all(|(_, var)| discriminator.get(var).is_none()));
        let own = terms.adversary.as_ref().unwrap().variables();
        assert!(own.iter().filter(|(name, _)| !name.contains("running")).all(|(_, v)| discriminator.get(v).is_some()));
    }

    #[test]
    fn the_discriminator_rests_before_its_first_step() {
        let (vae, variables) = small_vae();
        let terms = all_terms(7);
        let (clip, noise) = (wave(&[1, 1, 4, 24, 24], 0.11), wave(&[1, 4, 4, 12, 12], 0.7));
        let last = variables.get(LAST).unwrap();
        let early = terms.losses(&vae, last, &clip, &noise, 6).unwrap();
        assert_eq!(early.updates.len(), 1);
        let values: Vec<f64> = early.parts.iter().map(number).collect();
        assert_eq!(values[5..], [0.0, 0.0, 0.0]);
        assert!((values[0] - (values[1] + values[3] + values[4] + 1e-6 * values[2])).abs() < 1e-6);
        let names =
            ["loss", "absolute", "kl", "perceptual", "outliers", "adversarial", "adversarial_weight", "discriminator"];
        assert_eq!(terms.parts(), names);
        assert_eq!(terms.losses(&vae, last, &clip, &noise, 7).unwrap().updates.len(), 2);
        assert_eq!(Terms::default().parts(), names[..3]);
    }
}
