//! Clips and their latents as HDF5: `/cine` or `/latent`, `/source`, `/sample`, `/heart_rate`, `/pixel_spacing`.

use std::path::Path;

use hdf5::types::{IntSize, TypeDescriptor};
use hdf5::Dataset;
use ndarray::{Array1, Array3, Array4};

use super::{format, reader::finite, Noun, Reader, Records, Writer};
use crate::data::cine::{Cine, Latent};
use crate::data::Provenance;
use crate::error::Result;
use crate::io::Sink;

/// What clips and latents have in common: where they come from.
struct Origin {
    id: String,
    source: String,
    sample: i32,
    heart_rate: f32,
}

fn origin(reader: &mut Reader, i: usize) -> Result<Origin> {
    let id = reader.id(i)?;
    let source = reader.string("source", i).unwrap_or_else(|| id.clone());
    let sample = reader.scalar("sample", i)?;
    Ok(Origin { id, source, sample: sample.max(0.0) as i32, heart_rate: reader.scalar("heart_rate", i)? })
}

fn put_origin(writer: &mut Writer, id: &str, source: &str, sample: i32, heart_rate: f32) {
    writer.text("id", id);
    writer.text("source", source);
    writer.i32("sample", sample);
    writer.f32("heart_rate", heart_rate);
}

/// Clips from a file, one by one; values of type u8 are taken as 0 to 255.
pub type CineReader = Records<Cine>;

impl Noun for Cine {
    const FORMAT: &'static str = format::CINE;
    const DATASET: &'static str = "cine";
    const RANK: usize = 3;

    fn read(reader: &mut Reader, main: &Dataset, i: usize) -> Result<Self> {
        let from = origin(reader, i)?;
        let bytes = main.dtype().and_then(|t| t.to_descriptor());
        let mut clip: Array3<f32> = reader.array(main, i)?;
        if matches!(bytes, Ok(TypeDescriptor::Unsigned(IntSize::U1))) {
            clip /= 255.0;
        }
        if let Some((at, value)) = clip.indexed_iter().find(|(_, v)| !(0.0..=1.0).contains(*v)) {
            let fault = reader.fault("").record(&from.id).field("/cine");
            let found = format!("{value} at frame {}, row {}, column {}", at.0, at.1, at.2);
            return Err(fault.expected("values from 0 to 1", found).into());
        }
        let pixel_spacing_mm = match reader.has("pixel_spacing") {
            true => {
                let pair: Array1<f32> = reader.array(&reader.dataset("pixel_spacing", 1)?, i)?;
                <[f32; 2]>::try_from(pair.to_vec().as_slice()).ok().filter(|p| p.iter().all(|v| v.is_finite()))
            }
            false => None,
        };
        let Origin { id, source, sample, heart_rate } = from;
        Ok(Cine { id, source, sample, clip, pixel_spacing_mm, heart_rate })
    }
}

/// Clips into a file.
pub struct CineWriter(Writer);

impl CineWriter {
    /// Begins the file.
    ///
    /// # Errors
    /// Where the output cannot be begun.
    pub fn begin(path: &Path, provenance: &Provenance) -> Result<CineWriter> {
        Ok(CineWriter(Writer::begin(path, format::CINE, provenance)?))
    }
}

impl Sink<Cine> for CineWriter {
    fn put(&mut self, cine: &Cine) -> Result<()> {
        let CineWriter(writer) = self;
        writer.array("cine", cine.clip.view())?;
        put_origin(writer, &cine.id, &cine.source, cine.sample, cine.heart_rate);
        let spacing = cine.pixel_spacing_mm.unwrap_or([f32::NAN; 2]); // every record has its row
        writer.array("pixel_spacing", Array1::from(spacing.to_vec()).view())?;
        writer.end_record()
    }

    fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

/// Latents from a file, one by one: what `amdf-sample --latent` wrote.
pub type LatentReader = Records<Latent>;

impl Noun for Latent {
    const FORMAT: &'static str = format::LATENT;
    const DATASET: &'static str = "latent";
    const RANK: usize = 4;

    fn read(reader: &mut Reader, main: &Dataset, i: usize) -> Result<Self> {
        let Origin { id, source, sample, heart_rate } = origin(reader, i)?;
        let latent: Array4<f32> = reader.array(main, i)?;
        finite(reader, &id, "/latent", latent.iter())?;
        Ok(Latent { id, source, sample, latent, heart_rate })
    }
}

/// Latents into a file.
pub struct LatentWriter(Writer);

impl LatentWriter {
    /// Begins the file.
    ///
    /// # Errors
    /// Where the output cannot be begun.
    pub fn begin(path: &Path, provenance: &Provenance) -> Result<LatentWriter> {
        Ok(LatentWriter(Writer::begin(path, format::LATENT, provenance)?))
    }
}

impl Sink<Latent> for LatentWriter {
    fn put(&mut self, latent: &Latent) -> Result<()> {
        let LatentWriter(writer) = self;
        writer.array("latent", latent.latent.view())?;
        put_origin(writer, &latent.id, &latent.source, latent.sample, latent.heart_rate);
        writer.end_record()
    }

    fn finish(self) -> Result<()> {
        self.0.finish()
    }
}
