//! Import of the parity data: sizes, names and values of every tensor.

use std::path::PathBuf;

use candle_core::{Device, Tensor};

use super::import::{import, Import, Options};
use super::{fill, Kind, Weights};
use crate::data::Provenance;
use crate::model::{amdf, pamae, vae};

const FILES: [&str; 4] = ["pamae_checkpoint.pth", "vae_checkpoint.pth", "flow_checkpoint.pth", "anatomy_template.pt"];

/// The folder of the tiny parity data, or none, said loudly. These tests know its sizes and its rule, so no other will do.
fn folder(test: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/parity/tiny");
    if folder.join("config.json").exists() {
        return Some(folder);
    }
    let said = format!("SKIPPED {test}: no parity data in {}\n", folder.display());
    let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()); // past the capture of the test runner
    None
}

fn imported(folder: &std::path::Path, files: &[&str]) -> crate::Result<Import> {
    import(&files.iter().map(|file| folder.join(file)).collect::<Vec<_>>(), &Options::default())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn parity_sizes_are_read_off_the_shapes() {
    let Some(folder) = folder("parity_sizes_are_read_off_the_shapes") else { return };
    let configs = imported(&folder, &FILES).unwrap().models.configs;
    assert_eq!(configs.pamae, Some(pamae::Config::tiny()));
    assert_eq!(configs.flow_encoder, Some(pamae::Config::tiny()));
    assert_eq!(configs.vae, Some(vae::Config::tiny()));
    assert_eq!(configs.flow, Some(amdf::Config::tiny()));
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (flow, vae) = (configs.flow.unwrap(), configs.vae.unwrap());
    let found = serde_json::json!({
        "base_filters": configs.pamae.unwrap().base_width, "ecg_dim": flow.feature_dim, "frames": flow.frames,
        "image": flow.latent_side * vae.reduction(), "vae_ch": vae.base_width, "vae_mult": vae.multipliers,
        "vae_blocks": vae.blocks, "hidden": flow.width, "depth": flow.depth, "heads": flow.heads,
        "steps": flow.sampling.steps, "guidance": flow.sampling.guidance, "alpha": flow.training_alpha,
    });
    for (name, value) in found.as_object().unwrap() {
        assert_eq!(said[name], *value, "{name}");
    }
}

#[test]
fn every_imported_tensor_equals_the_rule() {
    let Some(folder) = folder("every_imported_tensor_equals_the_rule") else { return };
    let models = imported(&folder, &FILES).unwrap().models;
    let expected = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
    let mut compared = 0;
    for (full, tensor) in &models.tensors {
        if full == "flow.anatomy_template" {
            assert_eq!(tensor.dims(), [1, 4, 1, 4, 4]);
            assert_eq!(values(tensor), values(&expected["template"]));
            continue;
        }
        let prefixes = ["pamae.encoder.", "pamae.decoder.", "flow.encoder.", "flow.", "vae."];
        let name = prefixes.iter().find_map(|prefix| full.strip_prefix(prefix)).unwrap();
        let rule = fill::parity(name, tensor.dims()).unwrap();
        for (found, want) in values(tensor).iter().zip(values(&rule)) {
            assert!((found - want).abs() <= 1e-6, "{full}: expected {want}, found {found}");
        }
        compared += 1;
    }
    assert!(compared > 400, "{compared}");
}

#[test]
fn weights_file_gives_back_what_was_imported_and_is_deterministic() {
    let Some(folder) = folder("weights_file_gives_back_what_was_imported_and_is_deterministic") else { return };
    let models = imported(&folder, &FILES).unwrap().models;
    let place = tempfile::tempdir().unwrap();
    let (one, two) = (place.path().join("one.safetensors"), place.path().join("two.safetensors"));
    let provenance = Provenance::now("ecgflow", "ecgflow import".into());
    models.save(&one, &provenance).unwrap();
    let merged = import(std::slice::from_ref(&one), &Options::default()).unwrap().models;
    merged.save(&two, &provenance).unwrap();
    assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
    let weights = Weights::open(&one).unwrap();
    assert_eq!(weights.configs(), &models.configs);
    assert_eq!(weights.provenance(), &provenance);
    assert_eq!(weights.config::<amdf::Config>(Kind::Flow).unwrap(), amdf::Config::tiny());
    for kind in [Kind::Pamae, Kind::Vae, Kind::Flow] {
        weights.check(kind).unwrap();
        assert!(!weights.untrained(kind));
    }
    assert!(weights.origin(Kind::Pamae).unwrap().starts_with("imported from pamae_checkpoint.pth sha256:"));
    let (config, builder) = weights.flow_encoder(&Device::Cpu).unwrap().unwrap();
    pamae::Encoder::new(&config, builder).unwrap();
    amdf::Velocity::new(&amdf::Config::tiny(), weights.builder(Kind::Flow, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(weights.template(&Device::Cpu).unwrap().dims(), [1, 4, 1, 4, 4]);
    for (name, tensor) in &models.tensors {
        assert_eq!(values(tensor), values(&weights.tensor(name, &Device::Cpu).unwrap()), "{name}");
    }
    assert!(weights.check(Kind::Phenotype).unwrap_err().to_string().contains("pamae, vae, flow"));
}

#[test]
fn import_says_what_is_missing_or_given_twice() {
    let Some(folder) = folder("import_says_what_is_missing_or_given_twice") else { return };
    let message = |files: &[&str]| imported(&folder, files).unwrap_err().to_string();
    assert!(message(&["flow_checkpoint.pth"]).contains("the flow without its anatomy template"));
    assert!(message(&["anatomy_template.pt"]).contains("an anatomy template without its flow"));
    let twice = message(&["vae_checkpoint.pth", "vae_checkpoint.pth"]);
    assert!(twice.contains("the vae is already in"), "{twice}");
    assert!(message(&["expected.safetensors"]).contains("expected ecgflow.weights"));
    assert!(message(&["config.json"]).contains("expected a ZIP archive"));
    assert_eq!(imported(&folder, &[]).unwrap_err().exit_code(), 2);
    let heads = Options { heads: Some(7), ..Options::default() };
    let error = import(&FILES.map(|file| folder.join(file)), &heads).unwrap_err();
    assert!(error.to_string().contains("field flow.heads: expected a divisor of 64, found 7"), "{error}");
    assert!(error.hint().unwrap().contains("--heads"));
}
