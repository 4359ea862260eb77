//! The terms of the 3D-VAE's loss beside absolute difference and KL divergence (SPEC section 5).
//!
//! ```text
//! reconstruction = mean (|x - x'| + LPIPS(x, x'))
//! loss = reconstruction + 1e-6 KL + outliers(x') - w mean D(x')
//! w = 0.5 |d reconstruction / d W| / (|d mean D(x') / d W| + 1e-4),  W = decoder.conv_out.weight
//! ```
//!
//! Both gradients in w pass through the clip x'. So each term is differentiated once down to x', the two results are
//! taken on to W by the last layer alone, and one backward pass of the VAE starts from their weighted sum. This is exact,
//! and costs one more pass through the last convolution where two backward passes of everything would be needed.
//!
//! Before the first adversarial step the discriminator rests too, as published.

use candle_core::{Result as Computed, Tensor, Var};

use super::start::fresh;
use super::task::{Losses, Update};
use super::variables::Variables;
use crate::error::{Error, Result};
use crate::model::discriminator::{adaptive_weight, discriminator_loss, generator_loss, Config, Discriminator};
use crate::model::lpips::Lpips;
use crate::model::vae::{outlier_penalty, Posterior, Vae, KL_WEIGHT};

/// The terms; by default none.
#[derive(Debug, Default)]
pub struct Terms {
    /// LPIPS.
    pub perceptual: Option<Lpips>,
    /// Weight of the outlier penalty; 0 leaves it out.
    pub outliers: f64,
    /// The adversarial term.
    pub adversary: Option<Adversary>,
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
    pub fn new(config: &Config, from: u64, seed: u64, device: &candle_core::Device) -> Result<Adversary> {
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

/// mean |x - x'|, LPIPS where it is wanted, and their sum.
struct Reconstruction {
    absolute: Tensor,
    perceptual: Option<Tensor>,
    sum: Tensor,
}

impl Terms {
    /// Columns of the log.
    pub fn parts(&self) -> Vec<&'static str> {
        let mut parts = vec!["loss", "absolute", "kl"];
        parts.extend(self.perceptual.as_ref().map(|_| "perceptual"));
        parts.extend((self.outliers > 0.0).then_some("outliers"));
        if self.adversary.is_some() {
            parts.extend(["adversarial", "adversarial_weight", "discriminator"]);
        }
        parts
    }

    /// The losses of clips (B, 1, T, S, S) with the noise of their latents, after `step` steps; `last` is the kernel W.
    pub(super) fn losses(&self, vae: &Vae, last: &Var, clip: &Tensor, noise: &Tensor, step: u64) -> Computed<Losses> {
        let posterior = &vae.encode(clip)?;
        let hidden = vae.decoder.hidden(&posterior.sample(noise)?)?;
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
        let absolute = (clip - decoded)?.abs()?.mean_all()?;
        let perceptual = self.perceptual.as_ref().map(|lpips| lpips.forward(decoded, clip)?.mean_all()).transpose()?;
        let sum = perceptual.as_ref().map_or_else(|| Ok(absolute.clone()), |perceptual| &absolute + perceptual)?;
        Ok(Reconstruction { absolute, perceptual, sum })
    }

    /// KL divergence and outlier penalty.
    fn rest(&self, made: &Decoded) -> Computed<Rest> {
        let kl = made.posterior.kl()?.mean_all()?;
        let mut sum = (&kl * KL_WEIGHT)?;
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
