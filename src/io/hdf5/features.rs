//! Features as HDF5: `/feature`, `/phase`, `/cycle`, `/heart_rate`.

use std::path::Path;

use hdf5::Dataset;
use ndarray::{Array1, Array2};

use super::{format, reader::finite, Noun, Reader, Records, Writer};
use crate::data::features::Features;
use crate::data::Provenance;
use crate::error::Result;
use crate::io::Sink;

/// Features from a file, one by one: what `pamae-encode` wrote.
pub type FeaturesReader = Records<Features>;

impl Noun for Features {
    const FORMAT: &'static str = format::FEATURES;
    const DATASET: &'static str = "feature";
    const RANK: usize = 2;

    fn read(reader: &mut Reader, main: &Dataset, i: usize) -> Result<Self> {
        let id = reader.id(i)?;
        let feature: Array2<f32> = reader.array(main, i)?;
        finite(reader, &id, "/feature", feature.iter())?;
        let phase = match reader.has("phase") {
            true => reader.array(&reader.dataset("phase", 1)?, i)?,
            false => Array1::from_elem(feature.nrows(), f32::NAN),
        };
        let cycle = match reader.has("cycle") {
            true => reader.array::<i32, ndarray::Ix1>(&reader.dataset("cycle", 1)?, i)?.to_vec(),
            false => vec![-1, -1],
        };
        let cycle = <[i32; 2]>::try_from(cycle.as_slice());
        let cycle = cycle.map_err(|_| reader.fault("").field("/cycle").expected("start and end", "other"))?;
        Ok(Features { id, feature, phase, cycle, heart_rate: reader.scalar("heart_rate", i)? })
    }
}

/// Features into a file.
pub struct FeaturesWriter(Writer);

impl FeaturesWriter {
    /// Begins the file.
    ///
    /// # Errors
    /// Where the output cannot be begun.
    pub fn begin(path: &Path, provenance: &Provenance) -> Result<FeaturesWriter> {
        Ok(FeaturesWriter(Writer::begin(path, format::FEATURES, provenance)?))
    }
}

impl Sink<Features> for FeaturesWriter {
    fn put(&mut self, features: &Features) -> Result<()> {
        let FeaturesWriter(writer) = self;
        writer.array("feature", features.feature.view())?;
        writer.array("phase", features.phase.view())?;
        writer.array("cycle", Array1::from(features.cycle.to_vec()).view())?;
        writer.text("id", &features.id);
        writer.f32("heart_rate", features.heart_rate);
        writer.end_record()
    }

    fn finish(self) -> Result<()> {
        self.0.finish()
    }
}
