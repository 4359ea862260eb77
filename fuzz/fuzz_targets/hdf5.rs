//! HDF5 files that the library itself writes, with the datasets, shapes, types, attributes and layouts that the input says.
//!
//! Damaged bytes are not tried: they crash the HDF5 library (1.10.8) itself, in its own code, and would hide what ours does. What
//! is tried are sound files that claim anything: this is what our checks stand against.
#![no_main]

use ecgflow::io::hdf5::{self, Noun, Records};
use ecgflow::io::{origin, ReadOptions, Source};
use ecgflow::{Cine, Ecg, Features};
use hdf5_metno::types::{FixedAscii, VarLenUnicode};
use hdf5_metno::{File, H5Type, Location};

const DATASETS: [&str; 20] = [
    "ecg", "id", "tracings", "exam_id", "feature", "cine", "signals", "r_peak", "heart_rate", "quality/flat", "quality/verdict",
    "quality/reason", "quality/rr_sd_ms", "phase", "cycle", "source", "sample", "pixel_spacing", "group/a", "group/b",
];
const ATTRIBUTES: [&str; 14] = [
    "fs", "lead", "unit", "format", "format_version", "units", "sampling_rate", "leads", "tool", "seed", "synthetic", "history",
    "created", "command",
];
const TEXTS: [&str; 12] = [
    "", "mV", "uV", "sd", "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6", "I II", "ecgflow.ecg", "ecgflow.features", "ecgflow.cine",
    "[]", "[{\"tool\":\"x\"}]", "r",
];
const SIZES: [usize; 20] =
    [0, 1, 2, 3, 4, 5, 8, 12, 16, 50, 64, 96, 400, 768, 4096, 5000, 1 << 20, 1 << 26, 1 << 32, 1 << 40];
const NUMBERS: [f64; 10] = [0.0, 1.0, 500.0, 400.0, -1.0, 0.5, f64::NAN, f64::INFINITY, 1e300, 1e-300];
/// Values that are written; larger datasets stay as they were made.
const WRITTEN: usize = 1 << 16;
/// Values that are claimed; beyond, the binding itself overflows.
const MOST: usize = 1 << 48;

/// The input, byte by byte; zeros at its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.next() % of.len()]
    }
}

fn dataset<T: H5Type + Clone>(file: &File, bytes: &mut Bytes, value: T) -> hdf5_metno::Result<()> {
    let name = bytes.one(&DATASETS);
    let rank = bytes.next() % 6;
    let dims: Vec<usize> = (0..rank).map(|_| bytes.one(&SIZES)).collect();
    let values = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    if values.is_none_or(|n| n > MOST) {
        return Ok(());
    }
    let (layout, write, attributes) = (bytes.next() % 4, bytes.next() % 4 > 0, bytes.next() % 4);
    let builder = file.new_dataset::<T>().shape(dims.clone());
    let made = match layout {
        0 | 1 => builder.create(name)?,
        deflated => {
            let chunk: Vec<usize> = dims.iter().map(|n| bytes.one(&SIZES).clamp(1, (*n).clamp(1, 4096))).collect();
            let builder = builder.chunk(chunk);
            let builder = if deflated == 3 { builder.deflate(1) } else { builder };
            builder.create(name)?
        }
    };
    let values = values.filter(|n| *n <= WRITTEN);
    if let (Some(values), true) = (values, write) {
        made.write_raw(&vec![value; values])?;
    }
    (0..attributes).for_each(|_| drop(attribute(&made, bytes)));
    Ok(())
}

fn attribute(place: &Location, bytes: &mut Bytes) -> hdf5_metno::Result<()> {
    let name = bytes.one(&ATTRIBUTES);
    match bytes.next() % 6 {
        0 | 1 => {
            let text: VarLenUnicode = bytes.one(&TEXTS).parse().expect("no zero in it");
            place.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&text)
        }
        2 | 3 => place.new_attr::<f64>().create(name)?.write_scalar(&bytes.one(&NUMBERS)),
        4 => place.new_attr::<i64>().create(name)?.write_scalar(&(bytes.next() as i64)),
        _ => {
            let size = bytes.next() % 5;
            place.new_attr::<f32>().shape(size).create(name)?.write_raw(&vec![bytes.next() as f32; size])
        }
    }
}

/// Writes what the bytes say; what the library refuses is left out.
fn write(path: &std::path::Path, bytes: &mut Bytes) -> hdf5_metno::Result<()> {
    let file = File::create(path)?;
    for _ in 0..bytes.next() % 5 {
        let _ = attribute(&file, bytes);
    }
    for _ in 0..bytes.next() % 8 {
        let number = bytes.next();
        let _ = match bytes.next() % 8 {
            0 | 1 => dataset(&file, bytes, number as f32),
            2 => dataset(&file, bytes, bytes_f64(number)),
            3 => dataset(&file, bytes, number as i16),
            4 => dataset(&file, bytes, number as u8),
            5 => dataset(&file, bytes, number as i64),
            6 => dataset(&file, bytes, format!("r{number}").parse::<VarLenUnicode>().expect("no zero in it")),
            _ => dataset(&file, bytes, FixedAscii::<8>::from_ascii(b"r1").expect("ASCII")),
        };
    }
    Ok(())
}

fn bytes_f64(number: usize) -> f64 {
    NUMBERS[number % NUMBERS.len()]
}

fn all<N: Noun>(path: &std::path::Path) -> ecgflow::Result<()> {
    let records: Records<N> = Records::open(Source::open(path)?)?;
    let _ = (records.provenance(), records.texts("source"));
    for noun in records.take(64) {
        noun?;
    }
    Ok(())
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let path = ecgflow_fuzz::put("a.h5", b"");
    if write(&path, &mut bytes).is_err() {
        return;
    }
    let size = ecgflow_fuzz::size_of(&path);
    ecgflow_fuzz::bounded(size, || {
        ecgflow_fuzz::settle(all::<Ecg>(&path));
        ecgflow_fuzz::settle(all::<Features>(&path));
        ecgflow_fuzz::settle(all::<Cine>(&path));
        ecgflow_fuzz::settle(Source::open(&path).and_then(|source| hdf5::describe(&source)));
        let _ = Source::open(&path).map(|source| origin::origin(&source));
    });
    ecgflow_fuzz::read_at(&path, size, hdf5::open_ecg);
    let named = |source: Source, options: &ReadOptions| {
        let options = ReadOptions { dataset: Some("group".to_owned()), ..options.clone() };
        hdf5::open_ecg(source, &options)
    };
    ecgflow_fuzz::read_at(&path, size, named);
});
