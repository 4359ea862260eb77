//! Cine -> Table: phenotypes in real units, diagnosis probabilities (paper section 3.3, SPEC section 7).

use candle_core::{Device, Tensor, D};

use super::{by_device, finite, stack};
use crate::checkpoint::{Kind, Weights};
use crate::data::cine::Cine;
use crate::data::phenotype::PHENOTYPES;
use crate::data::table::{Row, Value};
use crate::error::{Error, Fault, Result};
use crate::model::vit::{Config, Task, Vit};
use crate::tensor;

/// A vision transformer ready to run.
pub struct Predict {
    vit: Vit,
    config: Config,
    device: Device,
}

impl Predict {
    /// Loads the network of `kind`, [`Kind::Phenotype`] or [`Kind::Diagnosis`].
    ///
    /// # Errors
    /// Where the weights lack it or do not fit their configuration.
    pub fn open(weights: &Weights, kind: Kind, device: &Device) -> Result<Predict> {
        let config: Config = weights.config(kind)?;
        let builder = weights.builder(kind, device)?;
        let vit = Vit::new(&config, builder).map_err(Error::compute("loading weights"))?;
        Ok(Predict { vit, config, device: device.clone() })
    }

    /// Refuses clips of another size than the network was trained on.
    ///
    /// # Errors
    /// The fault, to which the caller adds the file.
    pub fn check(&self, found: [usize; 3]) -> Result<()> {
        let Config { frames, image, .. } = self.config;
        if found == [frames, image, image] {
            return Ok(());
        }
        let [t, h, w] = found;
        let fault = Fault::new("reading cine", "").field("/cine");
        let expected = format!("{frames} frames x {image} x {image} (the network's)");
        Err(fault.expected(expected, format!("{t} x {h} x {w}")).hint("the weights are for clips of that size").into())
    }

    /// Column names of the table, after `id`.
    pub fn columns(&self) -> Vec<String> {
        match &self.config.task {
            Task::Phenotype { fields } => fields.iter().map(|f| column(*f)).collect(),
            Task::Diagnosis { labels } => labels.clone(),
        }
    }

    /// A row per clip: phenotypes in their units, or probabilities.
    ///
    /// # Errors
    /// Where the computation fails or yields values that are not finite.
    pub fn run(&self, batch: &[Cine]) -> Result<Vec<Row>> {
        by_device(batch, &self.device, |part| {
            let clips = stack(part, |c| tensor::from_array(c.clip.view(), &self.device))?; // (B, T, H, W)
            let values = self.values(&clips)?.to_vec2::<f32>()?; // (B, K)
            let row = |(cine, values): (&Cine, Vec<f32>)| {
                finite("prediction", &cine.id, &values)?;
                let cells = values.into_iter().map(|v| Value::Number(f64::from(v))).collect();
                Ok(Row { id: cine.id.clone(), cells })
            };
            part.iter().zip(values).map(row).collect()
        })
    }

    fn values(&self, clips: &Tensor) -> candle_core::Result<Tensor> {
        match &self.config.task {
            Task::Phenotype { .. } => self.vit.forward_units(clips),
            Task::Diagnosis { labels } => {
                let logits = self.vit.forward(clips)?; // (B, K)
                match labels.len() {
                    1 => candle_nn::ops::sigmoid(&logits),
                    _ => candle_nn::ops::softmax(&logits, D::Minus1),
                }
            }
        }
    }
}

/// Column name of a UK Biobank field; an unknown field keeps its number.
fn column(field: u32) -> String {
    let known = PHENOTYPES.iter().find(|p| p.field == field);
    known.map_or_else(|| field.to_string(), |p| p.name.to_owned())
}
