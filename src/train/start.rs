//! The model that a training starts from, and its variables.

use candle_core::Device;

use super::variables::Variables;
use crate::checkpoint::{fill, Configs, Kind, Models, Weights};
use crate::error::Result;

/// One model: that of `init` with its own configuration, else one of `configs` with values drawn from the seed.
///
/// # Errors
/// Where `init` does not hold the model, or a configuration is missing or impossible.
pub fn start(kind: Kind, configs: &Configs, init: Option<&Weights>, seed: u64) -> Result<Models> {
    let mut models = Models::default();
    match init {
        Some(weights) => models.take(kind, weights)?,
        None => {
            models.configs.copy(kind, configs);
            fill::init(&mut models, kind, seed)?;
        }
    }
    Ok(models)
}

/// The tensors of one model as variables, without those named in `fixed`.
///
/// # Errors
/// Where the device has no room.
pub fn variables(models: &Models, kind: Kind, fixed: &[&str], device: &Device) -> Result<Variables> {
    let prefix = format!("{kind}.");
    let of = |(name, tensor): (&String, &candle_core::Tensor)| {
        let name = name.strip_prefix(&prefix).filter(|name| !fixed.contains(name))?;
        Some((name.to_owned(), tensor.clone()))
    };
    Variables::new(models.tensors.iter().filter_map(of), device)
}
