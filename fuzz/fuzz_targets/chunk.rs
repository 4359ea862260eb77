//! Chunks of HDF5 as they are stored: a byte for numbers and filters, one for samples a lead, then the chunk.
//!
//! The file around the chunk is sound, written by the library. Chunks that were shuffled or deflated are ours to unpack; others the
//! library reads.
#![no_main]

use std::path::Path;

use ecgflow::io::hdf5;
use hdf5_metno::types::VarLenUnicode;
use hdf5_metno::{Dataset, File, H5Type};

const LEADS: usize = 12;

fn dataset<T: H5Type>(file: &File, samples: usize, filters: u8) -> hdf5_metno::Result<Dataset> {
    let builder = file.new_dataset::<T>().shape((1, LEADS, samples)).chunk((1, LEADS, samples));
    let builder = if filters & 1 > 0 { builder.shuffle() } else { builder };
    let builder = if filters & 2 > 0 { builder.deflate(1) } else { builder };
    builder.create("ecg")
}

fn write(path: &Path, kind: u8, samples: usize, stored: &[u8]) -> hdf5_metno::Result<()> {
    let file = File::create(path)?;
    file.new_attr::<f64>().create("fs")?.write_scalar(&500.0)?;
    let id: VarLenUnicode = "r".parse().expect("no zero in it");
    file.new_dataset::<VarLenUnicode>().shape(1).create("id")?.write(&[id])?;
    let filters = kind / 3;
    let ecg = match kind % 3 {
        0 => dataset::<f32>(&file, samples, filters)?,
        1 => dataset::<f64>(&file, samples, filters)?,
        _ => dataset::<i16>(&file, samples, filters)?,
    };
    // SAFETY: the dataset is open and has three dimensions; the library copies the bytes before it returns.
    let code = unsafe {
        hdf5_metno_sys::h5d::H5Dwrite_chunk(
            ecg.id(),
            hdf5_metno_sys::h5p::H5P_DEFAULT,
            0,
            [0u64; 3].as_ptr(),
            stored.len(),
            stored.as_ptr().cast(),
        )
    };
    if code < 0 {
        return Err("the library refuses the chunk".into());
    }
    Ok(())
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [kind, samples, stored @ ..] = data else { return };
    let path = ecgflow_fuzz::put("a.h5", b"");
    if write(&path, *kind, usize::from(*samples) + 1, stored).is_ok() {
        ecgflow_fuzz::read_at(&path, ecgflow_fuzz::size_of(&path), hdf5::open_ecg);
    }
});
