//! Tensors filled by rule: from the name and a seed alone, whatever the order, the platform and the thread count.
//!
//! Numbers: h = FNV-1a-64(name), z_i = splitmix64(h + (i+1) * 0x9E3779B97F4A7C15), u_i = (z_i >> 40) / 2^24 * 2 - 1,
//! uniform in [-1, 1).

use candle_core::{Device, Tensor};

use crate::checkpoint::shapes::{expected, Shapes};
use crate::checkpoint::{Configs, Kind, Models, TEMPLATE};
use crate::error::{Error, Result};

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// FNV-1a, 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The finaliser of splitmix64.
pub fn splitmix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// u_i of the stream that starts at `hash`, uniform in [-1, 1).
fn units(hash: u64) -> impl Iterator<Item = f32> {
    (1u64..).map(move |i| {
        let z = splitmix(hash.wrapping_add(i.wrapping_mul(GOLDEN)));
        ((z >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0) as f32
    })
}

/// sqrt(3 / fan in): uniform numbers of this size have variance 1 / fan in.
fn spread(shape: &[usize]) -> f32 {
    let fan_in = shape.iter().skip(1).product::<usize>().max(1);
    (3.0 / fan_in as f64).sqrt() as f32
}

/// The tensor that the rule of the parity data gives for a state-dict name (parity/README).
///
/// # Errors
/// Where the tensor cannot be made.
pub fn parity(name: &str, shape: &[usize]) -> Result<Tensor> {
    let (centre, scale) = match shape.len() {
        1 if name.ends_with("running_var") => (1.0, 0.5),
        1 if name.ends_with(".weight") => (1.0, 0.1),
        1 => (0.0, 0.05),
        _ if name == "pos_embed" => (0.0, 0.05),
        _ => (0.0, spread(shape)),
    };
    tensor(units(fnv1a(name.as_bytes())), centre, scale, shape)
}

/// A fresh tensor for training: norm scales and running variances 1, biases, running means and the anatomy template
/// 0, learned positions and tokens small, all else uniform with variance 1 / fan in.
fn fresh(name: &str, shape: &[usize], seed: u64) -> Result<Tensor> {
    let (centre, scale) = match shape.len() {
        0 | 1
            if [".var", "running_var", ".weight", "target_sd", ".temperature"]
                .iter()
                .any(|end| name.ends_with(end)) =>
        {
            (1.0, 0.0)
        }
        0 | 1 if name.ends_with(".threshold") => (0.5, 0.0),
        0 | 1 => (0.0, 0.0),
        _ if name.ends_with(TEMPLATE) => (0.0, 0.0),
        _ if ["pos_embed", "cls_token", "mask_token"].iter().any(|end| name.ends_with(end)) => (0.0, 0.035),
        _ if name.ends_with("_bias") || name.ends_with(".bias") => (0.0, 0.0),
        _ => (0.0, spread(shape)),
    };
    tensor(units(splitmix(seed ^ fnv1a(name.as_bytes()))), centre, scale, shape)
}

fn tensor(units: impl Iterator<Item = f32>, centre: f32, scale: f32, shape: &[usize]) -> Result<Tensor> {
    let values: Vec<f32> = units.take(shape.iter().product()).map(|unit| centre + scale * unit).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).map_err(Error::compute("filling weights by rule"))
}

/// Adds a fresh, untrained model to `models`, whose `configs` already hold its configuration.
///
/// # Errors
/// Where the model has no configuration, or none that it accepts.
pub fn init(models: &mut Models, kind: Kind, seed: u64) -> Result<()> {
    let shapes: Shapes = expected(kind, &models.configs)?;
    for (name, shape) in shapes {
        let name = format!("{kind}.{name}");
        let values = fresh(&name, &shape, seed)?;
        models.tensors.insert(name, values);
    }
    models.origin.insert(kind.name().to_owned(), format!("untrained, drawn from seed {seed}"));
    Ok(())
}

/// One fresh, untrained model.
///
/// # Errors
/// Where `configs` does not hold its configuration, or none that it accepts.
pub fn untrained(kind: Kind, configs: &Configs, seed: u64) -> Result<Models> {
    let mut models = Models::default();
    models.configs.copy(kind, configs);
    init(&mut models, kind, seed)?;
    Ok(models)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lpips::{self, Network};
    use crate::model::{amdf, i3d, inception, mae, pamae, vae, vit};

    #[test]
    fn hashes_are_the_published_ones() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(splitmix(GOLDEN), 0xe220_a839_7b1d_cdaf); // first output of splitmix64 seeded with 0
    }

    #[test]
    fn fresh_norms_are_identities_and_other_weights_vary() {
        let values = |name: &str, shape: &[usize], seed| {
            fresh(name, shape, seed).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(values("vae.norm.weight", &[2], 0), [1.0, 1.0]);
        assert_eq!(values("pamae.bn1.running_var", &[1], 0), [1.0]);
        assert_eq!(values("vae.conv.bias", &[2], 0), [0.0, 0.0]);
        let one = values("vae.conv.weight", &[8, 3], 0);
        assert_eq!(one, values("vae.conv.weight", &[8, 3], 0));
        assert_ne!(one, values("vae.conv.weight", &[8, 3], 1));
        assert_ne!(one, values("vae.other.weight", &[8, 3], 0));
        assert!(one.iter().all(|value| value.abs() <= 1.0) && one.iter().any(|value| value.abs() > 0.3));
    }

    #[test]
    fn every_model_is_drawn_complete_and_the_same_alone_or_with_others() {
        let configs = Configs {
            pamae: Some(pamae::Config::tiny()),
            vae: Some(vae::Config::tiny()),
            flow: Some(amdf::Config::tiny()),
            flow_encoder: Some(pamae::Config::tiny()),
            phenotype: Some(vit::Config::tiny(vit::Task::Phenotype { fields: vec![24100, 24103] })),
            diagnosis: Some(vit::Config::tiny(vit::Task::labels(vec!["HCM".into()]))),
            mae: Some(mae::Config::tiny()),
            lpips_vgg: Some(lpips::Config::tiny(Network::Vgg16)),
            lpips_alex: Some(lpips::Config::tiny(Network::AlexNet)),
            inception: Some(inception::Config::tiny()),
            i3d: Some(i3d::Config::tiny()),
        };
        let mut all = Models { configs: configs.clone(), ..Models::default() };
        Kind::ALL.into_iter().rev().for_each(|kind| init(&mut all, kind, 5).unwrap());
        all.check().unwrap();
        for kind in Kind::ALL {
            let one = untrained(kind, &configs, 5).unwrap();
            one.check().unwrap();
            one.builder(kind, &Device::Cpu).unwrap();
            for (name, tensor) in &one.tensors {
                let difference = (tensor - &all.tensors[name]).unwrap().abs().unwrap().max_all().unwrap();
                assert_eq!(difference.to_scalar::<f32>().unwrap(), 0.0, "{name}");
            }
        }
        vae::Vae::new(&vae::Config::tiny(), all.builder(Kind::Vae, &Device::Cpu).unwrap()).unwrap();
    }
}
