//! Latents of the training clips, computed once by the frozen 3D-VAE, and the anatomy template.
//!
//! The template is the mean of the posterior means over training clips and frames: 4 x 1 x 12 x 12 at the published size.

use candle_core::{Device, Tensor};
use ndarray::{Array1, Array3, Array4, Axis};

use super::clip::{stretched, tensor};
use super::task::Records;
use crate::checkpoint::{Kind, Weights};
use crate::data::cine::{Cine, Latent};
use crate::error::{Error, Fault, Result};
use crate::model::vae::{Config, Encoder};
use crate::tensor::to_array;

const DOING: &str = "encoding the training clips";

/// Latents held in memory.
pub struct Held {
    ids: Vec<String>,
    latents: Vec<Latent>,
}

impl Held {
    /// Holds these.
    pub fn new(latents: Vec<Latent>) -> Held {
        Held { ids: latents.iter().map(|latent| latent.id.clone()).collect(), latents }
    }
}

impl Records for Held {
    type Item = Latent;

    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn get(&self, i: usize) -> Result<Latent> {
        let missing = || Fault::new(DOING, "no such latent").record(i);
        Ok(self.latents.get(i).cloned().ok_or_else(missing)?)
    }
}

/// The encoder of a 3D-VAE that is not trained any more.
pub struct Frozen {
    encoder: Encoder,
    device: Device,
}

impl Frozen {
    /// Loads it.
    ///
    /// # Errors
    /// Where the weights hold no 3D-VAE.
    pub fn open(weights: &Weights, device: &Device) -> Result<Frozen> {
        let config: Config = weights.config(Kind::Vae)?;
        let builder = weights.builder(Kind::Vae, device)?;
        let encoder = Encoder::new(&config, builder).map_err(Error::compute("loading weights"))?;
        Ok(Frozen { encoder, device: device.clone() })
    }

    /// The posterior mean of a clip, stretched to \[-1, 1\].
    ///
    /// # Errors
    /// Where the clip has no contrast, or the computation fails or yields values that are not finite.
    pub fn latent(&self, cine: Cine) -> Result<Latent> {
        let clip = tensor(&stretched(&cine, DOING)?, &self.device)?;
        let mean = clip.unsqueeze(0).and_then(|clip| to_array(&self.encoder.forward(&clip)?.mean.get(0)?));
        let latent: Array4<f32> = mean.map_err(Error::compute(DOING))?;
        if let Some(found) = latent.iter().find(|value| !value.is_finite()) {
            let fault = Fault::new(DOING, "").record(&cine.id).field("latent").expected("finite numbers", found);
            return Err(fault.hint("the weights of the 3D-VAE are damaged").into());
        }
        let Cine { id, source, sample, heart_rate, .. } = cine;
        Ok(Latent { id, source, sample, latent, heart_rate })
    }
}

/// The mean over these records and all their frames: (1, C, 1, L, L).
///
/// # Errors
/// Where a record cannot be read, or two differ in size.
pub fn template(latents: &impl Records<Item = Latent>, records: &[usize]) -> Result<Tensor> {
    let mut sum: Option<Array3<f64>> = None;
    for record in records {
        let latent = latents.get(*record)?;
        let frames = Array1::from_elem(1, latent.latent.len_of(Axis(1)).max(1) as f64);
        let mean = latent.latent.mapv(f64::from).sum_axis(Axis(1)) / &frames; // (C, L, L)
        match &mut sum {
            None => sum = Some(mean),
            Some(sum) if sum.dim() == mean.dim() => *sum += &mean,
            Some(sum) => {
                let fault = Fault::new(DOING, "").record(&latent.id).field("/cine");
                return Err(fault
                    .expected(format!("{:?} as the others", sum.dim()), format!("{:?}", mean.dim()))
                    .into());
            }
        }
    }
    let sum = sum.ok_or_else(|| Fault::new(DOING, "").expected("at least one record", "none"))?;
    let (c, rows, columns) = sum.dim();
    let values: Vec<f32> = sum.iter().map(|v| (v / records.len() as f64) as f32).collect();
    Tensor::from_vec(values, (1, c, 1, rows, columns), &Device::Cpu).map_err(Error::compute(DOING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_the_mean_over_clips_and_frames() {
        let latent = |id: &str, values: [f32; 4]| Latent {
            id: id.to_owned(),
            source: id.to_owned(),
            sample: 0,
            latent: Array4::from_shape_vec((2, 2, 1, 1), values.to_vec()).unwrap(),
            heart_rate: f32::NAN,
        };
        let held =
            Held::new(vec![latent("a", [1., 3., 10., 20.]), latent("b", [5., 7., 0., 0.]), latent("c", [9.; 4])]);
        let template = template(&held, &[0, 1]).unwrap();
        assert_eq!(template.dims(), [1, 2, 1, 1, 1]);
        assert_eq!(template.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [4.0, 7.5]);
    }
}
