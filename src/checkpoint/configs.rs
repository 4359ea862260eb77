//! The configurations of one weights file: within limits, and in agreement with each other.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::checkpoint::Kind;
use crate::error::{Fault, Result};
use crate::model::lpips::{self, Network};
use crate::model::vit::Task;
use crate::model::{amdf, i3d, inception, mae, pamae, vae, vit};

/// The configurations of the models in one weights file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configs {
    /// PA-MAE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pamae: Option<pamae::Config>,
    /// 3D-VAE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<vae::Config>,
    /// AMDF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<amdf::Config>,
    /// The ECG encoder that was trained along with the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_encoder: Option<pamae::Config>,
    /// ViT for phenotypes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phenotype: Option<vit::Config>,
    /// ViT for diagnoses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<vit::Config>,
    /// Masked autoencoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mae: Option<mae::Config>,
    /// LPIPS with VGG16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips_vgg: Option<lpips::Config>,
    /// LPIPS with AlexNet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips_alex: Option<lpips::Config>,
    /// Inception-v3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inception: Option<inception::Config>,
    /// I3D.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub i3d: Option<i3d::Config>,
}

const DOING: &str = "checking the configuration of the weights";
/// The encoder that needs no head.
const HEADLESS: &str = "mae.vit";

/// Fails where a size is outside its limits; the limits keep a damaged file from asking for absurd memory.
fn within(field: &str, value: usize, limits: RangeInclusive<usize>) -> Result<()> {
    if limits.contains(&value) {
        return Ok(());
    }
    let expected = format!("{} to {}", limits.start(), limits.end());
    Err(Fault::new(DOING, "").field(field).expected(expected, value).into())
}

/// Fails where `whole` is no multiple of `part`.
fn divides(field: &str, part: usize, whole: usize) -> Result<()> {
    if part > 0 && whole.is_multiple_of(part) {
        return Ok(());
    }
    Err(Fault::new(DOING, "").field(field).expected(format!("a divisor of {whole}"), part).into())
}

/// Fails where two models disagree.
fn agree(field: &str, expected: Option<usize>, found: Option<usize>) -> Result<()> {
    match (expected, found) {
        (Some(expected), Some(found)) if expected != found => {
            let fault = Fault::new(DOING, "the models do not fit each other").field(field).expected(expected, found);
            Err(fault.hint("import or train the models of one set together").into())
        }
        _ => Ok(()),
    }
}

impl Configs {
    /// Whether there is a configuration of that model.
    pub fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Pamae => self.pamae.is_some(),
            Kind::Vae => self.vae.is_some(),
            Kind::Flow => self.flow.is_some(),
            Kind::Phenotype => self.phenotype.is_some(),
            Kind::Diagnosis => self.diagnosis.is_some(),
            Kind::Mae => self.mae.is_some(),
            Kind::LpipsVgg => self.lpips_vgg.is_some(),
            Kind::LpipsAlex => self.lpips_alex.is_some(),
            Kind::Inception => self.inception.is_some(),
            Kind::I3d => self.i3d.is_some(),
        }
    }

    /// The models that have a configuration.
    pub fn kinds(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| self.has(*kind)).collect()
    }

    /// Takes over the configuration of one model (and, for the flow, of its encoder) from another set.
    pub fn copy(&mut self, kind: Kind, from: &Configs) {
        match kind {
            Kind::Pamae => self.pamae.clone_from(&from.pamae),
            Kind::Vae => self.vae.clone_from(&from.vae),
            Kind::Flow => {
                self.flow.clone_from(&from.flow);
                self.flow_encoder.clone_from(&from.flow_encoder);
            }
            Kind::Phenotype => self.phenotype.clone_from(&from.phenotype),
            Kind::Diagnosis => self.diagnosis.clone_from(&from.diagnosis),
            Kind::Mae => self.mae.clone_from(&from.mae),
            Kind::LpipsVgg => self.lpips_vgg.clone_from(&from.lpips_vgg),
            Kind::LpipsAlex => self.lpips_alex.clone_from(&from.lpips_alex),
            Kind::Inception => self.inception.clone_from(&from.inception),
            Kind::I3d => self.i3d.clone_from(&from.i3d),
        }
    }

    /// Checks each configuration against its limits, then all of them against each other.
    ///
    /// # Errors
    /// Where a size is impossible or two models do not fit; the field is named.
    pub fn check(&self) -> Result<()> {
        for (name, config) in [("pamae", &self.pamae), ("flow_encoder", &self.flow_encoder)] {
            config.as_ref().map_or(Ok(()), |config| check_pamae(name, config))?;
        }
        self.vae.as_ref().map_or(Ok(()), check_vae)?;
        self.flow.as_ref().map_or(Ok(()), check_flow)?;
        for (name, config) in [("phenotype", &self.phenotype), ("diagnosis", &self.diagnosis)] {
            config.as_ref().map_or(Ok(()), |config| check_vit(name, config))?;
        }
        self.mae.as_ref().map_or(Ok(()), check_mae)?;
        for (name, config, network) in
            [("lpips_vgg", &self.lpips_vgg, Network::Vgg16), ("lpips_alex", &self.lpips_alex, Network::AlexNet)]
        {
            config.as_ref().map_or(Ok(()), |config| check_lpips(name, config, network))?;
        }
        self.inception.as_ref().map_or(Ok(()), |config| divides("inception.narrow", config.narrow, 16))?;
        self.i3d.as_ref().map_or(Ok(()), |config| divides("i3d.narrow", config.narrow, 8))?;
        self.check_agreement()
    }

    fn check_agreement(&self) -> Result<()> {
        let flow = self.flow.as_ref();
        let feature_dim = flow.map(|flow| flow.feature_dim);
        let frames = flow.map(|flow| flow.frames);
        for (name, encoder) in [("pamae", &self.pamae), ("flow_encoder", &self.flow_encoder)] {
            let encoder = encoder.as_ref();
            agree(&format!("{name}.feature_dim"), feature_dim, encoder.map(|encoder| encoder.feature_dim))?;
            agree(&format!("{name}.frames"), frames, encoder.map(|encoder| encoder.frames))?;
        }
        let channels = self.vae.as_ref().map(|vae| vae.latent_channels);
        agree("flow.latent_channels", channels, flow.map(|flow| flow.latent_channels))?;
        let image = self.vae.as_ref().zip(flow).map(|(vae, flow)| vae.reduction() * flow.latent_side);
        for (name, vit) in [("phenotype", &self.phenotype), ("diagnosis", &self.diagnosis)] {
            let vit = vit.as_ref();
            agree(&format!("{name}.frames"), frames, vit.map(|vit| vit.frames))?;
            agree(&format!("{name}.image"), image, vit.map(|vit| vit.image))?;
        }
        Ok(())
    }
}

fn check_pamae(name: &str, config: &pamae::Config) -> Result<()> {
    within(&format!("{name}.base_width"), config.base_width, 1..=4096)?;
    within(&format!("{name}.feature_dim"), config.feature_dim, 1..=16_384)?;
    within(&format!("{name}.frames"), config.frames, 1..=4096)
}

fn check_vae(config: &vae::Config) -> Result<()> {
    within("vae.base_width", config.base_width, 1..=4096)?;
    within("vae.multipliers", config.multipliers.len(), 1..=8)?;
    config.multipliers.iter().try_for_each(|multiplier| within("vae.multipliers", *multiplier, 1..=64))?;
    within("vae.blocks", config.blocks, 1..=16)?;
    within("vae.latent_channels", config.latent_channels, 1..=256)?;
    within("vae.training_frames", config.training_frames, 0..=4096)?;
    for level in &config.attention_levels {
        within("vae.attention_levels", *level, 0..=config.multipliers.len() - 1)?;
        let multiplier = config.multipliers.get(*level).copied().unwrap_or(1);
        divides("vae.attention_heads", config.attention_heads, multiplier * config.base_width)?;
    }
    let deepest = config.multipliers.last().copied().unwrap_or(1);
    divides("vae.attention_heads", config.attention_heads, deepest * config.base_width)
}

fn check_flow(config: &amdf::Config) -> Result<()> {
    within("flow.width", config.width, 1..=16_384)?;
    within("flow.depth", config.depth, 1..=256)?;
    divides("flow.heads", config.heads, config.width)?;
    within("flow.feature_dim", config.feature_dim, 1..=16_384)?;
    within("flow.frames", config.frames, 1..=4096)?;
    within("flow.latent_channels", config.latent_channels, 1..=256)?;
    within("flow.latent_side", config.latent_side, 1..=1024)?;
    divides("flow.patch", config.patch, config.latent_side)?;
    within("flow.sampling.steps", config.sampling.steps, 1..=100_000)
}

fn check_lpips(name: &str, config: &lpips::Config, network: Network) -> Result<()> {
    if config.network != network {
        let fault = Fault::new(DOING, "").field(format!("{name}.network"));
        return Err(fault.expected(format!("{network:?}"), format!("{:?}", config.network)).into());
    }
    within(&format!("{name}.base_width"), config.base_width, 1..=4096)
}

fn check_vit(name: &str, config: &vit::Config) -> Result<()> {
    within(&format!("{name}.frames"), config.frames, 1..=4096)?;
    within(&format!("{name}.image"), config.image, 1..=4096)?;
    divides(&format!("{name}.pool.frames"), config.pool.frames, config.frames)?;
    divides(&format!("{name}.pool.pixels"), config.pool.pixels, config.image)?;
    let [frames, side, _] = config.input();
    divides(&format!("{name}.patch_frames"), config.patch_frames, frames)?;
    divides(&format!("{name}.patch"), config.patch, side)?;
    within(&format!("{name}.width"), config.width, 1..=16_384)?;
    within(&format!("{name}.depth"), config.depth, 1..=256)?;
    divides(&format!("{name}.heads"), config.heads, config.width)?;
    let columns: Vec<String> = match &config.task {
        Task::Phenotype { fields } => fields.iter().map(u32::to_string).collect(),
        Task::Diagnosis { labels, .. } => labels.clone(),
        Task::Backbone if name == HEADLESS => return Ok(()),
        Task::Backbone => {
            let fault = Fault::new(DOING, "").field(format!("{name}.task"));
            return Err(fault.expected("phenotypes or diagnoses", "a network without a head").into());
        }
    };
    within(&format!("{name}.task"), columns.len(), 1..=65_536)?;
    let mut seen = HashSet::from(["", "id"]); // each becomes a column of a table, beside `id`
    match columns.iter().find(|column| !seen.insert(column.as_str())) {
        None => Ok(()),
        Some(column) => {
            let fault = Fault::new(DOING, "").field(format!("{name}.task"));
            Err(fault.expected("different names, none empty or id", format!("{column:?}")).into())
        }
    }
}

fn check_mae(config: &mae::Config) -> Result<()> {
    check_vit(HEADLESS, &config.vit)?;
    if config.vit.task != Task::Backbone {
        return Err(Fault::new(DOING, "").field("mae.vit.task").expected("backbone", "a task with a head").into());
    }
    within("mae.vit.patches", config.vit.patches(), 2..=1 << 20)?;
    within("mae.decoder_width", config.decoder_width, 1..=16_384)?;
    within("mae.decoder_depth", config.decoder_depth, 0..=256)?;
    divides("mae.decoder_heads", config.decoder_heads, config.decoder_width)?;
    match config.mask {
        mask if (0.0..1.0).contains(&mask) => Ok(()),
        mask => Err(Fault::new(DOING, "").field("mae.mask").expected("a share from 0 to below 1", mask).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Configs {
        let phenotype = vit::Config::published(Task::Phenotype { fields: vec![24100] });
        Configs {
            pamae: Some(pamae::Config::published()),
            vae: Some(vae::Config::published()),
            flow: Some(amdf::Config::published()),
            flow_encoder: Some(pamae::Config::published()),
            phenotype: Some(phenotype),
            lpips_vgg: Some(lpips::Config::published(Network::Vgg16)),
            lpips_alex: Some(lpips::Config::published(Network::AlexNet)),
            inception: Some(inception::Config::published()),
            i3d: Some(i3d::Config::published()),
            diagnosis: None,
            mae: Some(mae::Config::published()),
        }
    }

    #[test]
    fn published_configurations_fit_each_other() {
        published().check().unwrap();
        let json = serde_json::to_string(&published()).unwrap();
        assert_eq!(serde_json::from_str::<Configs>(&json).unwrap(), published());
    }

    #[test]
    fn names_the_field_in_which_two_models_disagree() {
        let mut configs = published();
        configs.pamae = Some(pamae::Config::compact());
        let error = configs.check().unwrap_err().to_string();
        assert!(error.contains("field pamae.feature_dim") && error.contains("expected 768, found 128"), "{error}");
    }

    #[test]
    fn refuses_impossible_sizes() {
        let mut configs = published();
        configs.flow = Some(amdf::Config { heads: 0, ..amdf::Config::published() });
        assert!(configs
            .check()
            .unwrap_err()
            .to_string()
            .contains("field flow.heads: expected a divisor of 512, found 0"));
        configs.flow = Some(amdf::Config { depth: usize::MAX, ..amdf::Config::published() });
        assert!(configs.check().unwrap_err().to_string().contains("field flow.depth: expected 1 to 256"));
        configs.flow = None;
        for labels in [["HCM", "HCM"], ["HCM", ""], ["id", "HCM"]] {
            let labels = labels.map(str::to_owned).to_vec();
            let config = vit::Config::published(Task::labels(labels));
            let error = Configs { diagnosis: Some(config), ..Configs::default() }.check().unwrap_err().to_string();
            assert!(error.contains("field diagnosis.task: expected different names"), "{error}");
        }
        configs.vae = Some(vae::Config { attention_levels: vec![4], ..vae::Config::published() });
        assert!(configs.check().is_err());
    }
}
