//! Features -> Cine: integrate the flow, decode the latent (paper section 3.2, SPEC section 6).

use candle_core::{Device, Tensor};
use ndarray::{Array3, Array4};

use super::{by_device, finite, stack};
use crate::checkpoint::{Kind, Weights};
use crate::data::cine::{Cine, Latent};
use crate::data::features::Features;
use crate::error::{Error, Fault, Result};
use crate::kernel::gemm::Precision;
use crate::model::{amdf, vae};
use crate::tensor::{self, Noise};

/// One clip to draw: the features, and which draw of them.
#[derive(Debug, Clone)]
pub struct Draw<'a> {
    /// The condition.
    pub features: &'a Features,
    /// Which draw, from 0.
    pub sample: u32,
    /// The clip's name.
    pub id: String,
}

/// The draws of a batch, `samples` of each record, in groups of at most `size`. The clip of a record keeps its name
/// when it is the only one, else it is named `ID.draw0`, `ID.draw1`, ...
pub fn draws<'a>(batch: &'a [Features], samples: usize, size: usize) -> impl Iterator<Item = Vec<Draw<'a>>> {
    let name = move |id: &str, k: usize| if samples == 1 { id.to_owned() } else { format!("{id}.draw{k}") };
    let mut all = batch.iter().flat_map(move |features| (0..samples).map(move |k| (features, k)));
    std::iter::from_fn(move || {
        let draw = |(features, k): (&'a Features, usize)| Draw {
            features,
            sample: u32::try_from(k).unwrap_or(u32::MAX),
            id: name(&features.id, k),
        };
        let part: Vec<Draw<'a>> = all.by_ref().take(size.max(1)).map(draw).collect();
        (!part.is_empty()).then_some(part)
    })
}

/// The flow ready to run.
pub struct Flow {
    velocity: amdf::Velocity,
    template: Tensor,
    config: amdf::Config,
    sampling: amdf::Sampling,
    seed: u64,
    device: Device,
}

impl Flow {
    /// Loads the flow; `change` may override the sampler settings of its configuration. Its products are made in
    /// `precision`; bf16 is for the processor.
    ///
    /// # Errors
    /// Where the weights lack it or do not fit their configuration.
    pub fn open(
        weights: &Weights,
        change: impl FnOnce(&mut amdf::Sampling),
        seed: u64,
        precision: Precision,
        device: &Device,
    ) -> Result<Flow> {
        let config: amdf::Config = weights.config(Kind::Flow)?;
        let builder = weights.builder(Kind::Flow, device)?;
        let template = weights.template(device)?; // (1, C, 1, L, L)
        let velocity =
            amdf::Velocity::with_precision(&config, precision, builder).map_err(Error::compute("loading weights"))?;
        let mut sampling = config.sampling.clone();
        change(&mut sampling);
        Ok(Flow { velocity, template, config, sampling, seed, device: device.clone() })
    }

    /// The sampler settings in force.
    pub fn sampling(&self) -> &amdf::Sampling {
        &self.sampling
    }

    /// Refuses features of another size than the flow was trained on.
    ///
    /// # Errors
    /// The fault, to which the caller adds the file.
    pub fn check(&self, [frames, width]: [usize; 2]) -> Result<()> {
        let expected = (self.config.frames, self.config.feature_dim);
        if (frames, width) == expected {
            return Ok(());
        }
        let fault = Fault::new("reading features", "").field("/feature");
        let expected = format!("{} frames x {} features (the flow's)", expected.0, expected.1);
        let hint = "encode with the same weights: pamae-encode --weights";
        Err(fault.expected(expected, format!("{frames} x {width}")).hint(hint).into())
    }

    /// Draws latents: x0 = template + alpha * noise, carried along the flow.
    ///
    /// # Errors
    /// Where the computation fails or yields values that are not finite.
    pub fn run(&self, draws: &[Draw<'_>]) -> Result<Vec<Latent>> {
        by_device(draws, &self.device, |part| {
            let amdf::Config { latent_channels, frames, latent_side, .. } = self.config;
            let shape = [latent_channels, frames, latent_side, latent_side];
            let noise = |d: &Draw<'_>| Noise::new(self.seed, &d.features.id, d.sample).tensor(&shape, &self.device);
            let noise = stack(part, noise)?; // (B, C, T, L, L)
            let feature = stack(part, |d| tensor::from_array(d.features.feature.view(), &self.device))?; // (B, T, D)
            let amdf::Sampling { alpha, steps, guidance, grid } = self.sampling;
            let start = amdf::start(&self.template, &noise, alpha)?;
            let latents = amdf::sample(&self.velocity, &start, &feature, steps, guidance, grid, |_| ())?; // (B, C, T, L, L)
            let latent = |(b, d): (usize, &Draw<'_>)| {
                let latent: Array4<f32> = tensor::to_array(&latents.get(b)?)?;
                finite("latent", &d.id, &latent)?;
                Ok(Latent {
                    id: d.id.clone(),
                    source: d.features.id.clone(),
                    sample: i32::try_from(d.sample).unwrap_or(i32::MAX),
                    latent,
                    heart_rate: d.features.heart_rate,
                })
            };
            part.iter().enumerate().map(latent).collect()
        })
    }
}

/// The decoder of the 3D-VAE ready to run.
pub struct Decode {
    decoder: vae::Decoder,
    channels: usize,
    device: Device,
}

impl Decode {
    /// Loads the decoder. The products of its attention are made in `precision`; bf16 is for the processor.
    ///
    /// # Errors
    /// Where the weights lack it or do not fit their configuration.
    pub fn open(weights: &Weights, precision: Precision, device: &Device) -> Result<Decode> {
        let config: vae::Config = weights.config(Kind::Vae)?;
        let builder = weights.builder(Kind::Vae, device)?;
        let decoder =
            vae::Decoder::with_precision(&config, precision, builder).map_err(Error::compute("loading weights"))?;
        Ok(Decode { decoder, channels: config.latent_channels, device: device.clone() })
    }

    /// Refuses latents with other channels than the decoder has.
    ///
    /// # Errors
    /// The fault, to which the caller adds the file.
    pub fn check(&self, [channels, _, rows, columns]: [usize; 4]) -> Result<()> {
        if channels == self.channels && rows == columns {
            return Ok(());
        }
        let fault = Fault::new("reading latents", "").field("/latent");
        let found = format!("{channels} channels x frames x {rows} x {columns}");
        Err(fault.expected(format!("{} channels x frames x L x L", self.channels), found).into())
    }

    /// Decodes latents; the clip, in [-1, 1] by the VAE, is clamped and mapped to [0, 1].
    ///
    /// # Errors
    /// Where the computation fails or yields values that are not finite.
    pub fn run(&self, latents: &[Latent]) -> Result<Vec<Cine>> {
        by_device(latents, &self.device, |part| {
            let z = stack(part, |l| tensor::from_array(l.latent.view(), &self.device))?; // (B, C, T, L, L)
            let clips = self.decoder.forward(&z)?.squeeze(1)?; // (B, T, S, S)
            let cine = |(b, l): (usize, &Latent)| {
                let clip: Array3<f32> = tensor::to_array(&clips.get(b)?)?;
                finite("clip", &l.id, &clip)?; // before the clamp, which would make a number of infinity
                let clip = clip.mapv_into(|v| v.clamp(-1.0, 1.0) * 0.5 + 0.5);
                let (id, source) = (l.id.clone(), l.source.clone());
                Ok(Cine { id, source, sample: l.sample, clip, pixel_spacing_mm: None, heart_rate: l.heart_rate })
            };
            part.iter().enumerate().map(cine).collect()
        })
    }
}
