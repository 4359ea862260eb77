//! Published checkpoints to the toolkit's weights.
//!
//! What a file holds is told by the names of its tensors: PA-MAE (`encoder.stem...`, `decoder...`), the VAE
//! (`encoder_3d...`), the flow (`pos_embed`, `blocks.0.attn_temporal...`; beside it, under `encoder_state_dict`, the
//! ECG encoder that was trained along), the anatomy template (one tensor, 1 x C x 1 x L x L), weights of this
//! toolkit, or a package with weights of a score (`extractor`). State dictionaries may stand under `model_state_dict`, `state_dict` or `model`, or bare; the prefixes of
//! `DataParallel` and `torch.compile` are dropped; tensors that the networks never use are left out by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use sha2::{Digest, Sha256};

use crate::checkpoint::shapes::Shapes;
use crate::checkpoint::torch::{self, Value};
use crate::checkpoint::weights::hex;
use crate::checkpoint::{extractor, inception, infer, Kind, Models, Weights, ENCODER, TEMPLATE};
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};

pub use crate::checkpoint::infer::Preset;

const DOING: &str = "importing weights";
/// Where state dictionaries stand.
const NESTS: [&str; 3] = ["model_state_dict", "state_dict", "model"];
/// Where the encoder trained along with the flow stands.
const ENCODER_NEST: &str = "encoder_state_dict";
/// Prefixes that wrappers add to every name.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// How often tensors may show each byte of a file: they may share storage, but not without end.
const SHARED: u64 = 2;
/// Frames of PA-MAE where no flow says otherwise.
const FRAMES: usize = 50;

/// What the tensors do not tell.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whose sampler settings and loss weights to write into the configuration.
    pub preset: Preset,
    /// Attention heads of the flow; by default width / 64 from width 512 on, else 4.
    pub heads: Option<usize>,
    /// Frames T of PA-MAE; by default those of the flow, else 50.
    pub frames: Option<usize>,
}

/// What was imported.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The models.
    pub models: Models,
    /// What was found in each file and what was left out, for the log.
    pub notes: Vec<String>,
    /// How the weights files among them were made.
    pub before: Vec<Provenance>,
}

/// A part of the models, as the published files cut them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Pamae,
    Vae,
    Flow,
    FlowEncoder,
    Template,
}

/// One part: the file it comes from and its tensors.
struct Found {
    file: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Default)]
struct Draft {
    parts: BTreeMap<Part, Found>,
    /// Models from weights files of this toolkit.
    ready: Models,
    /// The file of each model.
    files: BTreeMap<Kind, PathBuf>,
    notes: Vec<String>,
    before: Vec<Provenance>,
}

/// Imports published checkpoints and weights of this toolkit into one set of models.
///
/// # Errors
/// Where a file cannot be read or recognised, a model comes twice, tensors are missing, too many, misshaped or not
/// finite, the models do not fit each other, or the flow comes without its anatomy template.
pub fn import(paths: &[PathBuf], options: &Options) -> Result<Import> {
    let mut draft = Draft::default();
    for path in paths {
        let torch = torch::recognise(path)?;
        if !torch && is_safetensors(path)? {
            draft.add_weights(path)?;
        } else if extractor::recognise(path)? {
            let found = extractor::read(path).map_err(|error| error.in_file(path))?;
            found.into_iter().try_for_each(|found| draft.add_extractor(path, found))?;
        } else {
            draft.add_checkpoint(path).map_err(|error| error.in_file(path))?;
        }
    }
    draft.finish(options)
}

/// Whether the file starts as safetensors do: a length, then a brace.
fn is_safetensors(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(Error::io("opening", path))?;
    file.take(9).read_to_end(&mut head).map_err(Error::io("reading", path))?;
    Ok(head.get(8) == Some(&b'{'))
}

fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(Error::io("opening", path))?;
    std::io::copy(&mut file, &mut hash).map_err(Error::io("reading", path))?;
    Ok(hex(&hash.finalize()))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl Draft {
    fn add_weights(&mut self, path: &Path) -> Result<()> {
        let weights = Weights::open(path)?;
        self.before.push(weights.provenance().clone());
        for kind in weights.configs().kinds() {
            self.claim(kind, path)?;
            self.ready.take(kind, &weights)?;
            self.notes.push(format!("{}: {kind}, from weights of this toolkit", file_name(path)));
        }
        Ok(())
    }

    fn add_extractor(&mut self, path: &Path, found: extractor::Found) -> Result<()> {
        let extractor::Found { kind, configs, tensors } = found;
        self.claim(kind, path)?;
        self.notes.push(format!("{}: {kind}, {} tensors", file_name(path), tensors.len()));
        self.ready.configs.copy(kind, &configs);
        self.ready.insert(kind, tensors, origin(&[path])?);
        Ok(())
    }

    fn add_checkpoint(&mut self, path: &Path) -> Result<()> {
        let checkpoint = torch::read(path)?;
        let root = checkpoint.root();
        if root.is_module() {
            return self.add_extractor(path, inception::convert(root)?);
        }
        if let Some(tensor) = root.tensor() {
            let tensors = BTreeMap::from([(TEMPLATE.to_owned(), tensor.load()?)]);
            return self.add(Part::Template, path, tensors);
        }
        let nested = NESTS.iter().find_map(|nest| root.get(nest).filter(|value| value.entries().is_some()));
        let mut tensors = self.load(nested.unwrap_or(root), path)?;
        let part = recognise(&tensors)?;
        match part {
            Part::Template => tensors = tensors.into_values().map(|tensor| (TEMPLATE.to_owned(), tensor)).collect(),
            Part::FlowEncoder => tensors = prefixed(tensors, ENCODER), // PA-MAE's encoder alone: its decoder is missing
            _ => {}
        }
        let part = if part == Part::FlowEncoder { Part::Pamae } else { part };
        self.add(part, path, tensors)?;
        if let Some(encoder) = root.get(ENCODER_NEST).filter(|_| part == Part::Flow) {
            let tensors = self.load(encoder, path)?;
            self.add(Part::FlowEncoder, path, tensors)?;
        }
        Ok(())
    }

    /// The tensors of a state dictionary.
    fn load(&mut self, dictionary: Value, path: &Path) -> Result<BTreeMap<String, Tensor>> {
        let entries = dictionary.entries().ok_or_else(|| {
            Fault::new(DOING, "").expected("a dictionary of tensors or one tensor", dictionary.what())
        })?;
        let (mut tensors, mut ignored) = (BTreeMap::new(), 0);
        let size = std::fs::metadata(path).map_err(Error::io("reading", path))?.len();
        let mut left = size.saturating_mul(SHARED); // elements; one takes a byte at least
        for (name, value) in entries {
            let name = unwrapped(name);
            match value.tensor() {
                Some(_) if is_unused(name) => ignored += 1,
                Some(tensor) => {
                    let elements = tensor.shape().iter().fold(1u64, |n, side| n.saturating_mul(*side as u64));
                    left = left.checked_sub(elements).ok_or_else(|| {
                        let fault = Fault::new(DOING, "the tensors show the same bytes too often").field(name);
                        fault.expected(format!("at most {SHARED} elements for each of {size} bytes"), "more")
                    })?;
                    let loaded = tensor.load().map_err(|error| in_field(error, name))?;
                    if tensors.insert(name.to_owned(), loaded).is_some() {
                        return Err(Fault::new(DOING, "the tensor comes twice").field(name).into());
                    }
                }
                None => self.notes.push(format!("{}: left out {name}: {}", file_name(path), value.what())),
            }
        }
        if ignored > 0 {
            let what = "tensors the networks never use (temb_proj, num_batches_tracked)";
            self.notes.push(format!("{}: left out {ignored} {what}", file_name(path)));
        }
        Ok(tensors)
    }

    fn add(&mut self, part: Part, path: &Path, tensors: BTreeMap<String, Tensor>) -> Result<()> {
        let kind = match part {
            Part::Pamae => Some(Kind::Pamae),
            Part::Vae => Some(Kind::Vae),
            Part::Flow => Some(Kind::Flow),
            Part::FlowEncoder | Part::Template => None,
        };
        kind.map_or(Ok(()), |kind| self.claim(kind, path))?;
        self.notes.push(format!("{}: {part:?}, {} tensors", file_name(path), tensors.len()));
        match self.parts.insert(part, Found { file: path.to_owned(), tensors }) {
            None => Ok(()),
            Some(first) => Err(twice("anatomy template", &first.file, path)),
        }
    }

    fn claim(&mut self, kind: Kind, path: &Path) -> Result<()> {
        match self.files.insert(kind, path.to_owned()) {
            None => Ok(()),
            Some(first) => Err(twice(kind.name(), &first, path)),
        }
    }

    fn finish(mut self, options: &Options) -> Result<Import> {
        self.finish_vae(options)?;
        self.finish_flow(options)?;
        self.finish_pamae(options)?;
        if self.ready.configs.kinds().is_empty() {
            return Err(Error::usage("nothing to import: give at least one checkpoint"));
        }
        self.ready.configs.check().map_err(|error| error.or_hint("--heads sets the attention heads of the flow"))?;
        for (kind, file) in &self.files {
            self.ready.check_kind(*kind).map_err(|error| error.in_file(file))?;
        }
        self.ready.check()?;
        Ok(Import { models: self.ready, notes: self.notes, before: self.before })
    }

    fn finish_vae(&mut self, options: &Options) -> Result<()> {
        let Some(found) = self.parts.remove(&Part::Vae) else { return Ok(()) };
        let config = infer::vae(&found.shapes(), options.preset).map_err(|error| error.in_file(&found.file))?;
        self.ready.configs.vae = Some(config);
        self.ready.insert(Kind::Vae, found.tensors, origin(&[&found.file])?);
        Ok(())
    }

    fn finish_flow(&mut self, options: &Options) -> Result<()> {
        let (flow, template) = (self.parts.remove(&Part::Flow), self.parts.remove(&Part::Template));
        let (flow, template) = match (flow, template) {
            (None, None) => return Ok(()),
            (Some(flow), Some(template)) => (flow, template),
            (Some(flow), None) => return Err(lonely("the flow", "its anatomy template", &flow.file)),
            (None, Some(template)) => return Err(lonely("an anatomy template", "its flow", &template.file)),
        };
        let shape = template.tensors.get(TEMPLATE).map(|tensor| tensor.dims().to_vec()).unwrap_or_default();
        let [1, channels, 1, _, _] = shape[..] else {
            let fault = Fault::new(DOING, "").file(&template.file).field("the anatomy template");
            return Err(fault.expected("shape [1, C, 1, L, L]", format!("{shape:?}")).into());
        };
        let config = infer::flow(&flow.shapes(), channels, options.preset, options.heads);
        let config = config.map_err(|error| error.in_file(&flow.file))?;
        let (frames, mut tensors) = (config.frames, flow.tensors);
        self.ready.configs.flow = Some(config);
        if let Some(encoder) = self.parts.remove(&Part::FlowEncoder) {
            let config = infer::pamae(&encoder.shapes(), "", options.preset, frames);
            self.ready.configs.flow_encoder = Some(config.map_err(|error| error.in_file(&encoder.file))?);
            tensors.extend(prefixed(encoder.tensors, ENCODER));
        }
        tensors.extend(template.tensors);
        self.ready.insert(Kind::Flow, tensors, origin(&[&flow.file, &template.file])?);
        Ok(())
    }

    fn finish_pamae(&mut self, options: &Options) -> Result<()> {
        let flow = self.ready.configs.flow.as_ref().map(|flow| flow.frames);
        let frames = options.frames.or(flow).unwrap_or(FRAMES);
        if let Some(flow) = flow.filter(|flow| *flow != frames) {
            return Err(Error::usage(format!("--frames {frames} does not fit the flow, which has {flow} frames")));
        }
        let Some(found) = self.parts.remove(&Part::Pamae) else { return Ok(()) };
        let config = infer::pamae(&found.shapes(), ENCODER, options.preset, frames);
        self.ready.configs.pamae = Some(config.map_err(|error| error.in_file(&found.file))?);
        self.ready.insert(Kind::Pamae, found.tensors, origin(&[&found.file])?);
        Ok(())
    }
}

impl Found {
    fn shapes(&self) -> Shapes {
        self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect()
    }
}

/// What the names of the tensors say; [`Part::FlowEncoder`] is an ECG encoder alone.
fn recognise(tensors: &BTreeMap<String, Tensor>) -> Result<Part> {
    let has = |start: &str| tensors.keys().any(|name| name.starts_with(start));
    let is_template = |tensor: &Tensor| matches!(tensor.dims(), [1, _, 1, _, _]);
    Ok(match () {
        () if has("encoder_3d.") => Part::Vae,
        () if has("pos_embed") && has("blocks.0.attn_temporal") => Part::Flow,
        () if has("encoder.stem.") || has("decoder.final_conv.") => Part::Pamae,
        () if has("stem.0.") => Part::FlowEncoder,
        () if tensors.len() == 1 && tensors.values().all(is_template) => Part::Template,
        () => {
            let names: Vec<&str> = tensors.keys().map(String::as_str).take(5).collect();
            let found = if names.is_empty() { "no tensors".into() } else { names.join(", ") };
            let expected = "the tensors of PA-MAE, the VAE, the flow or an anatomy template";
            return Err(Fault::new(DOING, "the checkpoint is of no known model").expected(expected, found).into());
        }
    })
}

fn unwrapped(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    name
}

/// Tensors that published files hold and no network uses.
fn is_unused(name: &str) -> bool {
    name.ends_with("num_batches_tracked") || name.contains(".temb_proj.")
}

fn prefixed(tensors: BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

fn origin(files: &[&Path]) -> Result<String> {
    let named = files.iter().map(|file| Ok(format!("{} sha256:{}", file_name(file), sha256(file)?)));
    Ok(format!("imported from {}", named.collect::<Result<Vec<_>>>()?.join(" and ")))
}

fn in_field(error: Error, name: &str) -> Error {
    match error {
        Error::Input(fault) if fault.field.is_none() => fault.field(name).into(),
        other => other,
    }
}

fn twice(what: &str, first: &Path, second: &Path) -> Error {
    let fault = Fault::new(DOING, format!("the {what} is already in {}", first.display())).file(second);
    fault.hint("give each model once").into()
}

fn lonely(what: &str, missing: &str, file: &Path) -> Error {
    let fault = Fault::new(DOING, format!("{what} without {missing}")).file(file);
    fault.hint("give both: ecgflow import flow_checkpoint.pth anatomy_template.pt ...").into()
}
