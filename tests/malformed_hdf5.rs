//! Malformed files between the stages, and malformed weights: each gives one clear error, and leaves no file.

use std::fs;
use std::path::Path;

use hdf5::types::VarLenUnicode;
use ndarray::{Array2, Array3, Array4};

use crate::program::{refuses, succeed};

// ---- HDF5 between the stages ------------------------------------------------------------------------------

fn unicode(text: &str) -> VarLenUnicode {
    text.parse().unwrap()
}

fn ids(file: &hdf5::File, ids: &[&str]) {
    let ids: Vec<VarLenUnicode> = ids.iter().map(|t| unicode(t)).collect();
    file.new_dataset_builder().with_data(&ids).create("id").unwrap();
}

fn ecg_file(folder: &Path, samples: usize, rate_hz: f64, names: &[&str], change: impl Fn(&mut Array3<f32>)) {
    let file = hdf5::File::create(folder.join("ecg.h5")).unwrap();
    let mut ecg = Array3::from_shape_fn((names.len(), 12, samples), |(_, l, s)| ((l + s) % 50) as f32 / 50.0);
    change(&mut ecg);
    file.new_dataset_builder().with_data(&ecg).create("ecg").unwrap();
    file.new_attr::<f64>().create("fs").unwrap().write_scalar(&rate_hz).unwrap();
    ids(&file, names);
}

const ENCODE: &str = "pamae-encode ecg.h5 -o out.h5 --weights WEIGHTS";

#[test]
fn a_text_file_is_no_hdf5_file() {
    let says = ["ecg.h5", "expected an HDF5 file", "ecg-prep"];
    refuses(ENCODE, 1, &says, |f| fs::write(f.join("ecg.h5"), "I,II\n1,2\n").unwrap());
}

#[test]
fn a_truncated_hdf5_file_is_refused() {
    refuses(ENCODE, 1, &["ecg.h5"], |f| {
        ecg_file(f, 5000, 500.0, &["a"], |_| ());
        let whole = fs::read(f.join("ecg.h5")).unwrap();
        fs::write(f.join("ecg.h5"), &whole[..whole.len() / 2]).unwrap();
    });
}

#[test]
fn another_rate_is_refused() {
    let says = ["ecg.h5, record a", "field fs", "expected 500 Hz", "found 250 Hz", "ecg-prep"];
    refuses(ENCODE, 1, &says, |f| ecg_file(f, 5000, 250.0, &["a"], |_| ()));
    let says = ["expected 500 Hz", "found NaN Hz"];
    refuses(ENCODE, 1, &says, |f| ecg_file(f, 5000, f64::NAN, &["a"], |_| ()));
}

#[test]
fn another_length_is_refused() {
    let says = ["record a", "expected 12 leads x 5000 samples", "found 12 x 4000"];
    refuses(ENCODE, 1, &says, |f| ecg_file(f, 4000, 500.0, &["a"], |_| ()));
}

#[test]
fn a_sample_that_is_not_finite_is_refused() {
    let says = ["record b", "lead aVR, sample 7", "expected a finite value", "NaN"];
    refuses(ENCODE, 1, &says, |f| ecg_file(f, 5000, 500.0, &["a", "b"], |e| e[[1, 3, 7]] = f32::NAN));
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let says = ["/id", "expected unique names", "\"a\" again"];
    refuses(ENCODE, 1, &says, |f| ecg_file(f, 5000, 500.0, &["a", "a"], |_| ()));
}

#[test]
fn a_missing_dataset_is_named() {
    refuses(ENCODE, 1, &["field /ecg", "expected a dataset", "found none"], |f| {
        ids(&hdf5::File::create(f.join("ecg.h5")).unwrap(), &["a"]);
    });
}

#[test]
fn strings_where_numbers_belong_are_refused() {
    refuses(ENCODE, 1, &["field /ecg", "expected numbers"], |f| {
        let file = hdf5::File::create(f.join("ecg.h5")).unwrap();
        let words = Array3::from_shape_fn((1, 12, 5), |_| unicode("x"));
        file.new_dataset_builder().with_data(&words).create("ecg").unwrap();
        ids(&file, &["a"]);
    });
}

#[test]
fn a_trillion_records_that_are_not_there_are_refused() {
    refuses(ENCODE, 1, &["/id", "expected data for 1000000000000 records", "hint:"], |f| {
        let file = hdf5::File::create(f.join("ecg.h5")).unwrap();
        let many = 1_000_000_000_000usize;
        file.new_dataset::<f32>().shape((many, 12, 5000)).chunk((1, 12, 5000)).create("ecg").unwrap();
        file.new_dataset::<VarLenUnicode>().shape(many).chunk(64).create("id").unwrap();
    });
}

#[test]
fn features_are_no_ecg() {
    let says = ["field format", "expected ecgflow.ecg", "found ecgflow.features", "ecg-prep"];
    refuses(ENCODE, 1, &says, |f| {
        let file = hdf5::File::create(f.join("ecg.h5")).unwrap();
        ids(&file, &["a"]);
        file.new_attr::<VarLenUnicode>().create("format").unwrap().write_scalar(&unicode("ecgflow.features")).unwrap();
    });
}

#[test]
fn a_rate_that_is_no_number_is_refused() {
    let says = ["record a", "expected 500 Hz", "found NaN Hz"];
    refuses(ENCODE, 1, &says, |f| ecg_file(f, 5000, f64::NAN, &["a"], |_| ()));
}

#[test]
fn values_that_lie_in_another_file_are_not_read() {
    let says = ["field /ecg", "expected data in this file", "found data in another file"];
    refuses(ENCODE, 1, &says, |f| {
        fs::write(f.join("secret"), [0; 60000]).unwrap();
        let file = hdf5::File::create(f.join("ecg.h5")).unwrap();
        let secret = f.join("secret").display().to_string();
        let builder = file.new_dataset::<u8>().shape((1, 12, 5000)).external(&secret, 0, 60000);
        builder.layout(hdf5::dataset::Layout::Contiguous).create("ecg").unwrap();
        file.new_dataset_builder().with_data(&[0f32; 90000]).create("padding").unwrap();
        ids(&file, &["a"]);
    });
    refuses(ENCODE, 1, &says, |f| {
        ecg_file(f, 5000, 500.0, &["a"], |_| ());
        fs::rename(f.join("ecg.h5"), f.join("other.h5")).unwrap();
        let file = hdf5::File::create(f.join("ecg.h5")).unwrap();
        file.link_external("other.h5", "/ecg", "ecg").unwrap();
        ids(&file, &["a"]);
    });
}

pub fn features_file(folder: &Path, frames: usize, width: usize, value: f32) {
    let file = hdf5::File::create(folder.join("f.h5")).unwrap();
    let feature = Array3::from_elem((1, frames, width), value);
    file.new_dataset_builder().with_data(&feature).create("feature").unwrap();
    ids(&file, &["a"]);
}

#[test]
fn features_of_another_size_are_refused() {
    let says = ["f.h5", "expected 8 frames x 48 features", "found 50 x 768", "hint:"];
    let words = "amdf-sample f.h5 -o out.h5 --gif out.gif --latent l.h5 --weights WEIGHTS";
    refuses(words, 1, &says, |f| features_file(f, 50, 768, 0.0));
}

#[test]
fn infinite_features_are_refused() {
    let words = "amdf-sample f.h5 -o out.h5 --gif clips --latent l.h5 --weights WEIGHTS";
    refuses(words, 1, &["record a", "/feature", "expected finite numbers", "inf"], |f| {
        features_file(f, 8, 48, f32::INFINITY)
    });
}

#[test]
fn latents_that_are_not_finite_are_not_written() {
    let words = "amdf-sample f.h5 -o out.h5 --latent-only --alpha 1e39 --weights WEIGHTS";
    refuses(words, 1, &["the latent of record a is not finite"], |f| features_file(f, 8, 48, 0.0));
}

fn cine_file(folder: &Path, side: usize, value: f32) {
    let file = hdf5::File::create(folder.join("c.h5")).unwrap();
    let cine = Array4::from_elem((1, 8, side, side), value);
    file.new_dataset_builder().with_data(&cine).create("cine").unwrap();
    ids(&file, &["a"]);
}

#[test]
fn clips_of_another_size_are_refused() {
    let says = ["c.h5", "expected 8 frames x 32 x 32", "found 8 x 96 x 96"];
    refuses("cmr-phenotype c.h5 -o out.csv --weights WEIGHTS", 1, &says, |f| cine_file(f, 96, 0.5));
}

#[test]
fn clips_beyond_one_are_refused() {
    let says = ["record a", "/cine", "expected values from 0 to 1", "found 255"];
    refuses("cmr-classify c.h5 -o out.csv --weights WEIGHTS", 1, &says, |f| cine_file(f, 32, 255.0));
}

#[test]
fn a_flat_array_is_no_clip() {
    refuses("cmr-phenotype c.h5 -o out.csv --weights WEIGHTS", 1, &["/cine", "expected 1 records and 3 more"], |f| {
        let file = hdf5::File::create(f.join("c.h5")).unwrap();
        file.new_dataset_builder().with_data(&Array2::<f32>::zeros((1, 9))).create("cine").unwrap();
        ids(&file, &["a"]);
    });
}

// ---- weights ----------------------------------------------------------------------------------------------

#[test]
fn weights_that_are_none_are_refused() {
    let words = "pamae-encode ecg.h5 -o out.h5 --weights w.safetensors";
    refuses(words, 1, &["w.safetensors", "hint:"], |f| {
        ecg_file(f, 5000, 500.0, &["a"], |_| ());
        fs::write(f.join("w.safetensors"), "not weights").unwrap();
    });
}

#[test]
fn weights_without_the_model_are_refused() {
    let words = "pamae-encode ecg.h5 -o out.h5 --weights w.safetensors";
    refuses(words, 1, &["w.safetensors", "expected pamae, found phenotype"], |f| {
        ecg_file(f, 5000, 500.0, &["a"], |_| ());
        succeed("ecgflow init tiny --only phenotype -o w.safetensors", f);
    });
}

#[test]
fn a_truncated_checkpoint_is_refused() {
    let Some(parity) = crate::program::shared("parity/tiny/pamae_checkpoint.pth") else { return };
    refuses("ecgflow import p.pth -o w.safetensors", 1, &["p.pth"], |f| {
        let whole = fs::read(&parity).unwrap();
        fs::write(f.join("p.pth"), &whole[..whole.len() / 2]).unwrap();
    });
}

#[test]
fn a_flow_without_its_template_is_refused() {
    let Some(parity) = crate::program::shared("parity/tiny/flow_checkpoint.pth") else { return };
    refuses("ecgflow import flow.pth -o w.safetensors", 1, &["template", "hint:"], |f| {
        fs::copy(&parity, f.join("flow.pth")).map(drop).unwrap();
    });
}
