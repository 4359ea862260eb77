//! Cine -> Table: phenotypes in real units, diagnosis probabilities (paper section 3.3, SPEC section 7).

use candle_core::{Device, Tensor, D};
use ndarray::Array3;

use super::{by_device, finite, stack};
use crate::checkpoint::{Kind, Weights};
use crate::data::cine::Cine;
use crate::data::phenotype::{of_field, Phenotype};
use crate::error::{Error, Fault, Result};
use crate::model::vit::{prepared, Config, Task, Vit};
use crate::tensor;

/// A vision transformer ready to run.
pub struct Predict {
    vit: Vit,
    config: Config,
    device: Device,
    threshold: Vec<f64>,
}

/// What a column of numbers is.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The phenotype, where it is a known one.
    pub phenotype: Option<&'static Phenotype>,
    /// The probability from which the answer is yes, for questions.
    pub threshold: Option<f64>,
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
        let threshold = match &config.task {
            Task::Diagnosis { .. } => {
                let values = weights.tensor(&format!("{kind}.threshold"), &Device::Cpu)?.to_vec1::<f32>();
                values.map_err(Error::compute("loading weights"))?.into_iter().map(f64::from).collect()
            }
            _ => Vec::new(),
        };
        Ok(Predict { vit, config, device: device.clone(), threshold })
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

    /// Whether a clip has exactly one of the labels.
    pub fn is_exclusive(&self) -> bool {
        matches!(&self.config.task, Task::Diagnosis { labels, independent: false } if labels.len() > 1)
    }

    /// The numbers that [`Predict::run`] gives, in order.
    pub fn columns(&self) -> Vec<Column> {
        match &self.config.task {
            Task::Phenotype { fields } => fields.iter().map(|field| of_number(*field)).collect(),
            Task::Diagnosis { labels, .. } => {
                let threshold = |k: usize| self.threshold.get(k).copied().filter(|_| !self.is_exclusive());
                let column = |(k, name): (usize, &String)| Column {
                    name: name.clone(),
                    phenotype: None,
                    threshold: threshold(k),
                };
                labels.iter().enumerate().map(column).collect()
            }
            Task::Backbone => Vec::new(),
        }
    }

    /// Numbers for each clip: phenotypes in their units, or probabilities.
    ///
    /// # Errors
    /// Where the computation fails or yields values that are not finite.
    pub fn run(&self, batch: &[Cine]) -> Result<Vec<Vec<f64>>> {
        by_device(batch, &self.device, |part| {
            let clip = |cine: &Cine| -> Array3<f32> { prepared(cine.clip.view(), &self.config) };
            let clips = stack(part, |c| tensor::from_array(clip(c).view(), &self.device))?; // (B, T, H, W)
            let values = self.values(&clips)?.to_vec2::<f32>()?; // (B, K)
            let row = |(cine, values): (&Cine, Vec<f32>)| {
                finite("prediction", &cine.id, &values)?;
                Ok(values.into_iter().map(f64::from).collect())
            };
            part.iter().zip(values).map(row).collect()
        })
    }

    fn values(&self, clips: &Tensor) -> candle_core::Result<Tensor> {
        let outputs = self.vit.forward_units(clips)?; // (B, K)
        match &self.config.task {
            Task::Phenotype { .. } | Task::Backbone => Ok(outputs),
            Task::Diagnosis { .. } if self.is_exclusive() => candle_nn::ops::softmax(&outputs, D::Minus1),
            Task::Diagnosis { .. } => candle_nn::ops::sigmoid(&outputs),
        }
    }
}

/// The column of a UK Biobank field; an unknown field keeps its number.
fn of_number(field: u32) -> Column {
    let phenotype = of_field(field);
    let name = phenotype.map_or_else(|| field.to_string(), |p| p.name.to_owned());
    Column { name, phenotype, threshold: None }
}
