//! Opens the toolkit's weights file (its layout: [`crate::checkpoint::models`]).
//!
//! Tensors are read when a model asks for them. Before a model gets its weights, all
//! names and shapes are compared with what the model wants.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use serde::de::DeserializeOwned;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::checkpoint::models::{model_of, of_kind, FORMAT, FORMAT_VERSION};
use crate::checkpoint::shapes::{compare, expected, Shapes};
use crate::checkpoint::store::{Bytes, Place, Store};
use crate::checkpoint::{Configs, Kind, ENCODER, TEMPLATE};
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};
use crate::model::pamae;

const DOING: &str = "opening weights";
/// Longest header; that of the published models takes 0.1 MB.
const LONGEST_HEADER: u64 = 16 << 20;
/// First words of [`Models::origin`](crate::checkpoint::Models::origin) for weights that were never trained.
const UNTRAINED: &str = "untrained";

/// An open weights file.
#[derive(Clone)]
pub struct Weights {
    name: String,
    sha256: String,
    configs: Configs,
    origin: BTreeMap<String, String>,
    provenance: Provenance,
    shapes: Shapes,
    store: Arc<Store>,
    notice: Option<&'static str>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Place>,
}

/// What a look at the whole file tells.
struct Examined {
    header: Header,
    sha256: String,
    /// Where the data begin and end.
    data: (u64, u64),
}

impl Weights {
    /// Opens a weights file.
    ///
    /// # Errors
    /// Where the file cannot be read, is not safetensors, or is not one of ours.
    pub fn open(path: &Path) -> Result<Weights> {
        let mut file = File::open(path).map_err(Error::io(DOING, path))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let examined = examine(&mut file, path)?;
        Weights::assemble(name, examined, Box::new(file), path).map_err(|error| error.in_file(path))
    }

    /// Opens weights that stand in memory, such as those inside the program, under a name of their own. The bytes stay
    /// where they are.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn from_bytes(name: &str, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<Weights> {
        let mut bytes = Cursor::new(bytes);
        let examined = examine(&mut bytes, Path::new(name))?;
        let done = Weights::assemble(name.into(), examined, Box::new(bytes), Path::new(name));
        done.map_err(|error| error.in_file(name))
    }

    fn assemble(name: String, examined: Examined, bytes: Box<dyn Bytes>, path: &Path) -> Result<Weights> {
        let Examined { header: Header { metadata, tensors }, sha256, data: (start, end) } = examined;
        let store = Store::new(bytes, tensors, start, end).map_err(|found| not_safetensors(path, &found))?;
        check_format(&metadata)?;
        let configs: Configs = json(&metadata, "config")?;
        configs.check()?;
        let (origin, provenance) = (json(&metadata, "origin")?, json(&metadata, "provenance")?);
        let shapes = store.shapes()?;
        let stray = |tensor: &&String| Kind::from_name(model_of(tensor)).is_none_or(|kind| !configs.has(kind));
        if let Some(tensor) = shapes.keys().find(stray) {
            let models = Kind::ALL.map(Kind::name).join(", ");
            let fault = Fault::new(DOING, "a tensor of no configured model").field(tensor);
            return Err(fault.expected(format!("one of {models}"), model_of(tensor)).into());
        }
        Ok(Weights { name, sha256, configs, origin, provenance, shapes, store: Arc::new(store), notice: None })
    }

    /// Adds what users must know of results made with these weights.
    #[must_use]
    pub fn with_notice(self, notice: &'static str) -> Weights {
        Weights { notice: Some(notice), ..self }
    }

    /// What users must know of results made with these weights, where there is something.
    pub fn notice(&self) -> Option<&'static str> {
        self.notice
    }

    /// What an output's provenance says of the weights it was made with: `NAME sha256:HEX`, then the notice in
    /// parentheses where there is one.
    pub fn id(&self) -> String {
        let notice = self.notice.map_or_else(String::new, |notice| format!(" ({notice})"));
        format!("{} sha256:{}{notice}", self.name, self.sha256)
    }

    /// The sha256 of the file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The configurations of all models in the file.
    pub fn configs(&self) -> &Configs {
        &self.configs
    }

    /// How the file was made.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Names and shapes of all tensors in the file.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// Where the weights of a model come from.
    pub fn origin(&self, kind: Kind) -> Option<&str> {
        self.origin.get(kind.name()).map(String::as_str)
    }

    /// Whether the file holds a model.
    pub fn has(&self, kind: Kind) -> bool {
        self.configs.has(kind)
    }

    /// Whether a model was never trained, so that its results mean nothing.
    pub fn untrained(&self, kind: Kind) -> bool {
        self.origin(kind).is_some_and(|origin| origin.starts_with(UNTRAINED))
    }

    /// The configuration of a model.
    ///
    /// # Errors
    /// Where the file does not hold the model, or `C` is not its configuration.
    pub fn config<C: DeserializeOwned>(&self, kind: Kind) -> Result<C> {
        self.require(kind)?;
        let all = serde_json::to_value(&self.configs).map_err(Error::compute(DOING))?;
        let one = all.get(kind.name()).cloned().unwrap_or_default();
        serde_json::from_value(one).map_err(|error| self.fault(error.to_string()).field(kind).into())
    }

    /// Checks that the file holds exactly the tensors that a model wants.
    ///
    /// # Errors
    /// Where it does not; the tensors are named with expected and found.
    pub fn check(&self, kind: Kind) -> Result<()> {
        self.require(kind)?;
        let found = of_kind(kind, self.shapes.iter().map(|(name, shape)| (name, shape.clone())));
        compare(kind, &expected(kind, &self.configs)?, &found).map_err(|error| error.in_file(&self.name))
    }

    /// The weights of one model, for its constructor, after [`Weights::check`].
    ///
    /// # Errors
    /// Where the file does not hold the model or its tensors do not fit.
    pub fn builder(&self, kind: Kind, device: &Device) -> Result<VarBuilder<'static>> {
        self.check(kind)?;
        let backend = Box::new(Backend(self.store.clone()));
        Ok(VarBuilder::from_backend(backend, DType::F32, device.clone()).pp(kind.name()))
    }

    /// Configuration and weights of the ECG encoder that was trained along with the flow, where the file has one;
    /// the builder stands where `stem`, `layer1` and so on begin.
    ///
    /// # Errors
    /// Where the file does not hold the flow or its tensors do not fit.
    pub fn flow_encoder(&self, device: &Device) -> Result<Option<(pamae::Config, VarBuilder<'static>)>> {
        let builder = self.builder(Kind::Flow, device)?.pp(ENCODER.trim_end_matches('.'));
        Ok(self.configs.flow_encoder.clone().map(|config| (config, builder)))
    }

    /// The anatomy template, (1, C, 1, L, L).
    ///
    /// # Errors
    /// Where the file does not hold one.
    pub fn template(&self, device: &Device) -> Result<Tensor> {
        self.require(Kind::Flow)?;
        self.tensor(&format!("{}.{TEMPLATE}", Kind::Flow), device)
    }

    /// One tensor, by its full name.
    ///
    /// # Errors
    /// Where the file does not hold it.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        if !self.shapes.contains_key(name) {
            return Err(self.fault("no such tensor").field(name).into());
        }
        self.store.load(name, device).map_err(Error::compute(format!("reading {name} from {}", self.name)))
    }

    fn require(&self, kind: Kind) -> Result<()> {
        if self.has(kind) {
            return Ok(());
        }
        let held: Vec<&str> = self.configs.kinds().into_iter().map(Kind::name).collect();
        let held = if held.is_empty() { "no model".into() } else { held.join(", ") };
        Err(self.fault("the model is missing").expected(kind, held).hint("give weights that hold this model").into())
    }

    fn fault(&self, cause: impl Into<String>) -> Fault {
        Fault::new(DOING, cause).file(&self.name)
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("id", &self.id()).field("configs", &self.configs).finish_non_exhaustive()
    }
}

/// Hands tensors to a [`VarBuilder`].
struct Backend(Arc<Store>);

impl SimpleBackend for Backend {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if tensor.shape() == &shape {
            return Ok(tensor);
        }
        candle_core::bail!("{name}: expected {shape:?}, found {:?}", tensor.shape())
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.0.load(name, device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.has(name)
    }
}

/// The header of a safetensors file and the SHA-256 of the whole.
fn examine(file: &mut (impl Read + Seek), path: &Path) -> Result<Examined> {
    let mut header = Vec::new();
    let length = file.seek(SeekFrom::End(0)).map_err(Error::io(DOING, path))?;
    let mut size = [0; 8];
    file.rewind().map_err(Error::io(DOING, path))?;
    if length < 8 {
        return Err(not_safetensors(path, &format!("{length} bytes are too few")).into());
    }
    file.read_exact(&mut size).map_err(Error::io(DOING, path))?;
    let size = u64::from_le_bytes(size);
    if size > LONGEST_HEADER.min(length - 8) {
        return Err(not_safetensors(path, &format!("a header of {size} bytes in a file of {length}")).into());
    }
    file.take(size).read_to_end(&mut header).map_err(Error::io(DOING, path))?;
    let header: Header =
        serde_json::from_slice(&header).map_err(|error| not_safetensors(path, &format!("header: {error}")))?;
    file.rewind().map_err(Error::io(DOING, path))?;
    let mut hash = Sha256::new();
    std::io::copy(file, &mut hash).map_err(Error::io(DOING, path))?;
    Ok(Examined { header, sha256: hex(&hash.finalize()), data: (8 + size, length) })
}

/// The bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn not_safetensors(path: &Path, found: &str) -> Fault {
    let fault = Fault::new(DOING, "").file(path).expected("a safetensors file", found);
    fault.hint("give a weights file of this toolkit; `ecgflow import` makes one from published checkpoints")
}

fn check_format(metadata: &BTreeMap<String, String>) -> Result<()> {
    match metadata.get("format").map(String::as_str) {
        Some(FORMAT) => {}
        other => {
            let found = other.unwrap_or("no format: another program's safetensors file");
            let fault = Fault::new(DOING, "").field("format").expected(FORMAT, found);
            return Err(fault.hint("`ecgflow import` makes a weights file from published checkpoints").into());
        }
    }
    match metadata.get("format_version").map(String::as_str) {
        Some(FORMAT_VERSION) => Ok(()),
        other => {
            let fault = Fault::new(DOING, "").field("format_version").expected(FORMAT_VERSION, other.unwrap_or("none"));
            Err(fault.hint("the file was written by another version of this toolkit: use that version").into())
        }
    }
}

fn json<T: DeserializeOwned>(metadata: &BTreeMap<String, String>, field: &str) -> Result<T> {
    let text = metadata.get(field).ok_or_else(|| Fault::new(DOING, "missing from the metadata").field(field))?;
    serde_json::from_str(text).map_err(|error| Fault::new(DOING, error.to_string()).field(field).into())
}
