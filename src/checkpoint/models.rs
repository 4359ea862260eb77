//! The models of one weights file in memory, and the writer of that file.
//!
//! ```text
//! 8 bytes: length of the header | header (JSON, padded to 8 bytes) | tensors, little-endian: f32 by name, f16 by name
//! ```
//!
//! The file is safetensors. Its metadata: `format` = `ecgflow.weights`, `format_version` = `1`, and as JSON texts
//! `config` ([`Configs`]), `origin` (model: where its weights come from) and `provenance` ([`Provenance`]).
//! The same models and provenance give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use half::f16;
use serde_json::json;

use crate::checkpoint::encoding::{Encoding, Number};
use crate::checkpoint::shapes::{compare, expected, Shapes};
use crate::checkpoint::weights::Weights;
use crate::checkpoint::{Configs, Kind};
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};

/// What `format` says in the metadata of our files.
pub const FORMAT: &str = "ecgflow.weights";
/// What `format_version` says.
pub const FORMAT_VERSION: &str = "1";

const DOING: &str = "writing weights";

/// Models in memory.
#[derive(Debug, Clone, Default)]
pub struct Models {
    /// Their configurations.
    pub configs: Configs,
    /// Their tensors, `<model>.<state-dict name>`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Where the weights of each model come from, by its name.
    pub origin: BTreeMap<String, String>,
}

/// The tensors of one model: names and shapes without the model's prefix.
pub(super) fn of_kind<'a>(kind: Kind, all: impl Iterator<Item = (&'a String, Vec<usize>)>) -> Shapes {
    let prefix = format!("{kind}.");
    all.filter_map(|(name, shape)| Some((name.strip_prefix(&prefix)?.to_owned(), shape))).collect()
}

impl Models {
    /// Adds tensors of one model, named without the model's prefix.
    pub fn insert(&mut self, kind: Kind, tensors: impl IntoIterator<Item = (String, Tensor)>, origin: String) {
        self.tensors.extend(tensors.into_iter().map(|(name, tensor)| (format!("{kind}.{name}"), tensor)));
        self.origin.insert(kind.name().to_owned(), origin);
    }

    /// Takes over one model of a weights file; a model of the same kind is replaced.
    ///
    /// # Errors
    /// Where the file has no such model or its tensors do not fit its configuration.
    pub fn take(&mut self, kind: Kind, weights: &Weights) -> Result<()> {
        weights.check(kind)?;
        let prefix = format!("{kind}.");
        self.tensors.retain(|name, _| !name.starts_with(&prefix));
        for name in weights.shapes().keys().filter(|name| name.starts_with(&prefix)) {
            self.tensors.insert(name.clone(), weights.tensor(name, &Device::Cpu)?);
        }
        self.configs.copy(kind, weights.configs());
        let origin = weights.origin(kind).map_or_else(|| format!("copied from {}", weights.id()), str::to_owned);
        self.origin.insert(kind.name().to_owned(), origin);
        Ok(())
    }

    /// Leaves out all models but these.
    ///
    /// # Errors
    /// Where one of them is not there.
    pub fn keep(&mut self, kinds: &[Kind]) -> Result<()> {
        let held = std::mem::take(&mut self.configs);
        if let Some(missing) = kinds.iter().find(|kind| !held.has(**kind)) {
            let names: Vec<&str> = held.kinds().into_iter().map(Kind::name).collect();
            return Err(Fault::new("choosing models", "").expected(missing, names.join(", ")).into());
        }
        kinds.iter().for_each(|kind| self.configs.copy(*kind, &held));
        let kept = |name: &str| Kind::from_name(name).is_some_and(|kind| kinds.contains(&kind));
        self.tensors.retain(|name, _| kept(model_of(name)));
        self.origin.retain(|name, _| kept(name));
        Ok(())
    }

    /// Checks that the configurations fit each other and that every model has exactly the tensors it wants, all of
    /// them finite.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn check(&self) -> Result<()> {
        self.configs.check()?;
        for kind in self.configs.kinds() {
            self.check_kind(kind)?;
        }
        let stray = |name: &&String| Kind::from_name(model_of(name)).is_none_or(|kind| !self.configs.has(kind));
        if let Some(name) = self.tensors.keys().find(stray) {
            return Err(Fault::new("checking weights", "a tensor of no configured model").field(name).into());
        }
        self.tensors.iter().try_for_each(|(name, tensor)| check_finite(name, tensor))
    }

    pub(super) fn check_kind(&self, kind: Kind) -> Result<()> {
        let found = of_kind(kind, self.tensors.iter().map(|(name, tensor)| (name, tensor.dims().to_vec())));
        compare(kind, &expected(kind, &self.configs)?, &found)
    }

    /// The weights of one model, for its constructor.
    ///
    /// # Errors
    /// Where its tensors do not fit its configuration.
    pub fn builder(&self, kind: Kind, device: &Device) -> Result<VarBuilder<'static>> {
        self.check_kind(kind)?;
        let all = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        Ok(VarBuilder::from_tensors(all, DType::F32, device).pp(kind.name()))
    }

    /// Writes the weights file to `path`, its numbers in f32.
    ///
    /// # Errors
    /// Where [`Models::check`] fails or the file cannot be written.
    pub fn save(&self, path: &Path, provenance: &Provenance) -> Result<()> {
        self.save_in(Encoding::F32, path, provenance)
    }

    /// Writes the weights file to `path`.
    ///
    /// # Errors
    /// Where [`Models::check`] fails, a number is too large for the encoding, or the file cannot be written.
    pub fn save_in(&self, encoding: Encoding, path: &Path, provenance: &Provenance) -> Result<()> {
        self.check().and_then(|()| self.check_range(encoding)).map_err(|error| error.in_file(path))?;
        let tensors = self.in_file_order(encoding);
        let header = self.header(&tensors, provenance)?;
        let mut out = BufWriter::new(File::create(path).map_err(Error::io(DOING, path))?);
        let written = write(&header, &tensors, &mut out)?;
        written.and_then(|()| out.flush()).map_err(Error::io(DOING, path))
    }

    /// Wide numbers first, so that every tensor begins at a multiple of its width.
    fn in_file_order(&self, encoding: Encoding) -> Vec<Placed<'_>> {
        let all = self.tensors.iter().map(|(name, tensor)| Placed { name, tensor, number: encoding.of(tensor.rank()) });
        let (wide, narrow): (Vec<_>, Vec<_>) = all.partition(|placed| placed.number == Number::F32);
        wide.into_iter().chain(narrow).collect()
    }

    /// Fails where a number would become infinite.
    fn check_range(&self, encoding: Encoding) -> Result<()> {
        for (name, tensor) in self.tensors.iter().filter(|(_, tensor)| encoding.of(tensor.rank()) == Number::F16) {
            if let Some(found) = values(tensor)?.iter().find(|value| f16::from_f32(**value).is_infinite()) {
                let fault = Fault::new(DOING, "").field(name).expected(format!("at most {} for f16", f16::MAX), found);
                return Err(fault.hint("write these weights in f32, without --half").into());
            }
        }
        Ok(())
    }

    fn header(&self, tensors: &[Placed<'_>], provenance: &Provenance) -> Result<String> {
        let text = |value: serde_json::Result<String>| value.map_err(Error::compute("writing JSON"));
        let mut header = BTreeMap::from([(
            "__metadata__".to_owned(),
            json!({
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "config": text(serde_json::to_string(&self.configs))?,
                "origin": text(serde_json::to_string(&self.origin))?,
                "provenance": text(serde_json::to_string(provenance))?,
            }),
        )]);
        let mut start = 0;
        for Placed { name, tensor, number } in tensors {
            let stop = start + tensor.elem_count() * number.width();
            let place = json!({"dtype": number.name(), "shape": tensor.dims(), "data_offsets": [start, stop]});
            header.insert((*name).clone(), place);
            start = stop;
        }
        let mut header = text(serde_json::to_string(&header))?;
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        Ok(header)
    }
}

/// A tensor and how it is written.
struct Placed<'a> {
    name: &'a String,
    tensor: &'a Tensor,
    number: Number,
}

fn write(header: &str, tensors: &[Placed<'_>], out: &mut impl Write) -> Result<std::io::Result<()>> {
    let mut written = out.write_all(&(header.len() as u64).to_le_bytes());
    written = written.and_then(|()| out.write_all(header.as_bytes()));
    for Placed { tensor, number, .. } in tensors {
        let bytes = number.encode(&values(tensor)?);
        written = written.and_then(|()| out.write_all(&bytes));
    }
    Ok(written)
}

/// The part of a tensor's name before the first dot.
pub(super) fn model_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let values = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1());
    values.map_err(Error::compute("reading a tensor"))
}

/// Fails where a number is infinite or none.
pub(super) fn check_finite(name: &str, tensor: &Tensor) -> Result<()> {
    match values(tensor)?.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(found) => {
            let fault = Fault::new("checking weights", "").field(name).expected("finite numbers", found);
            Err(fault.hint("the training that wrote these weights diverged: take an earlier checkpoint").into())
        }
    }
}
