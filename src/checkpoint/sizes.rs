//! The named sizes of all models together, for fresh weights.

use std::str::FromStr;

use super::{Configs, Kind};
use crate::data::phenotype::PHENOTYPES;
use crate::model::lpips::{self, Network};
use crate::model::vit::Task;
use crate::model::{amdf, i3d, inception, mae, pamae, vae, vit};

/// A named set of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// The published code's.
    Published,
    /// The paper's: as published, other losses and sampler.
    Paper,
    /// Small, for laptops.
    Compact,
    /// Those of the parity data, for tests.
    Tiny,
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "published" => Ok(Sizes::Published),
            "paper" => Ok(Sizes::Paper),
            "compact" => Ok(Sizes::Compact),
            "tiny" => Ok(Sizes::Tiny),
            _ => Err("expected published, paper, compact or tiny".to_owned()),
        }
    }
}

/// A named size of the vision transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backbone {
    /// ViT-B/16, the frames as channels.
    Published,
    /// The same with patches of ten frames.
    Vit3d,
    /// Small, for laptops.
    Compact,
    /// For tests.
    Tiny,
}

impl FromStr for Backbone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "published" => Ok(Backbone::Published),
            "vit3d" => Ok(Backbone::Vit3d),
            "compact" => Ok(Backbone::Compact),
            "tiny" => Ok(Backbone::Tiny),
            _ => Err("expected published, vit3d, compact or tiny".to_owned()),
        }
    }
}

impl Backbone {
    /// Whether it is trained as small networks are.
    pub fn is_small(self) -> bool {
        matches!(self, Backbone::Compact | Backbone::Tiny)
    }

    fn vit(self, task: Task) -> vit::Config {
        match self {
            Backbone::Published => vit::Config::published(task),
            Backbone::Vit3d => vit::Config::vit3d(task),
            Backbone::Compact => vit::Config::compact(task),
            Backbone::Tiny => vit::Config::tiny(task),
        }
    }

    /// The network that reads these fields.
    pub fn phenotype(self, fields: &[u32]) -> vit::Config {
        self.vit(Task::Phenotype { fields: fields.to_vec() })
    }

    /// The network that tells these labels apart.
    pub fn diagnosis(self, labels: &[String], independent: bool) -> vit::Config {
        self.vit(Task::Diagnosis { labels: labels.to_vec(), independent })
    }

    /// The masked autoencoder.
    pub fn mae(self) -> mae::Config {
        match self {
            Backbone::Published => mae::Config::published(),
            Backbone::Vit3d => mae::Config::vit3d(),
            Backbone::Compact => mae::Config::compact(),
            Backbone::Tiny => mae::Config::tiny(),
        }
    }
}

impl Sizes {
    /// The configurations of `kinds`; the classifier tells `labels` apart.
    pub fn configs(self, kinds: &[Kind], labels: &[String]) -> Configs {
        let mut configs = Configs::default();
        for kind in kinds {
            match kind {
                Kind::Pamae => configs.pamae = Some(self.pamae()),
                Kind::Vae => configs.vae = Some(self.vae()),
                Kind::Flow => configs.flow = Some(self.flow()),
                Kind::Phenotype => {
                    let fields = PHENOTYPES.iter().map(|p| p.field).collect();
                    configs.phenotype = Some(self.vit(Task::Phenotype { fields }));
                }
                Kind::Diagnosis => configs.diagnosis = Some(self.vit(Task::labels(labels.to_vec()))),
                Kind::Mae => configs.mae = Some(self.mae()),
                Kind::LpipsVgg => configs.lpips_vgg = Some(self.lpips(Network::Vgg16)),
                Kind::LpipsAlex => configs.lpips_alex = Some(self.lpips(Network::AlexNet)),
                Kind::Inception => configs.inception = Some(self.inception()),
                Kind::I3d => configs.i3d = Some(self.i3d()),
            }
        }
        configs
    }

    fn pamae(self) -> pamae::Config {
        match self {
            Sizes::Published => pamae::Config::published(),
            Sizes::Paper => pamae::Config::paper(),
            Sizes::Compact => pamae::Config::compact(),
            Sizes::Tiny => pamae::Config::tiny(),
        }
    }

    fn vae(self) -> vae::Config {
        match self {
            Sizes::Published => vae::Config::published(),
            Sizes::Paper => vae::Config::paper(),
            Sizes::Compact => vae::Config::compact(),
            Sizes::Tiny => vae::Config::tiny(),
        }
    }

    fn flow(self) -> amdf::Config {
        match self {
            Sizes::Published => amdf::Config::published(),
            Sizes::Paper => amdf::Config::paper(),
            Sizes::Compact => amdf::Config::compact(),
            Sizes::Tiny => amdf::Config::tiny(),
        }
    }

    fn lpips(self, network: Network) -> lpips::Config {
        match self {
            Sizes::Published | Sizes::Paper | Sizes::Compact => lpips::Config::published(network),
            Sizes::Tiny => lpips::Config::tiny(network),
        }
    }

    fn inception(self) -> inception::Config {
        match self {
            Sizes::Tiny => inception::Config::tiny(),
            _ => inception::Config::published(),
        }
    }

    fn i3d(self) -> i3d::Config {
        match self {
            Sizes::Tiny => i3d::Config::tiny(),
            _ => i3d::Config::published(),
        }
    }

    fn mae(self) -> mae::Config {
        match self {
            Sizes::Published | Sizes::Paper => mae::Config::published(),
            Sizes::Compact => mae::Config::compact(),
            Sizes::Tiny => mae::Config::tiny(),
        }
    }

    fn vit(self, task: Task) -> vit::Config {
        match self {
            Sizes::Published | Sizes::Paper => vit::Config::published(task),
            Sizes::Compact => vit::Config::compact(task),
            Sizes::Tiny => vit::Config::tiny(task),
        }
    }
}
