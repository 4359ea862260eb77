//! Features as HDF5: `/feature`, `/phase`, `/cycle`, `/heart_rate`.

use std::path::Path;

use hdf5::Dataset;
use ndarray::{Array1, Array2};

use super::{format, reader::finite, Reader, Writer};
use crate::data::features::Features;
use crate::data::Provenance;
use crate::error::{Fault, Result};
use crate::io::{Sink, Source};

/// Features from a file, one by one.
pub struct FeaturesReader {
    reader: Reader,
    feature: Dataset,
    next: usize,
}

impl FeaturesReader {
    /// Opens what `pamae-encode` wrote.
    ///
    /// # Errors
    /// Where the file is malformed.
    pub fn open(source: Source) -> Result<FeaturesReader> {
        let reader = Reader::open(source, format::FEATURES)?;
        let feature = reader.dataset("feature", 2)?;
        Ok(FeaturesReader { reader, feature, next: 0 })
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.reader.records()
    }

    /// Origin of the file.
    pub fn provenance(&self) -> Provenance {
        self.reader.provenance()
    }

    /// A fault in this file.
    pub fn fault(&self, cause: &str) -> Fault {
        self.reader.fault(cause)
    }

    /// Frames and feature width of every record.
    pub fn size(&self) -> (usize, usize) {
        let shape = self.feature.shape();
        (shape.get(1).copied().unwrap_or(0), shape.get(2).copied().unwrap_or(0))
    }

    fn read(&mut self, i: usize) -> Result<Features> {
        let id = self.reader.id(i)?;
        let feature: Array2<f32> = self.reader.array(&self.feature, i)?;
        finite(&self.reader, &id, "/feature", feature.iter())?;
        let phase = match self.reader.has("phase") {
            true => self.reader.array(&self.reader.dataset("phase", 1)?, i)?,
            false => Array1::from_elem(feature.nrows(), f32::NAN),
        };
        let cycle = match self.reader.has("cycle") {
            true => self.reader.array::<i32, ndarray::Ix1>(&self.reader.dataset("cycle", 1)?, i)?.to_vec(),
            false => vec![-1, -1],
        };
        let cycle = <[i32; 2]>::try_from(cycle.as_slice());
        let cycle = cycle.map_err(|_| self.reader.fault("").field("/cycle").expected("start and end", "other"))?;
        Ok(Features { id, feature, phase, cycle, heart_rate: self.reader.scalar("heart_rate", i)? })
    }
}

impl Iterator for FeaturesReader {
    type Item = Result<Features>;

    fn next(&mut self) -> Option<Self::Item> {
        let i = self.next;
        self.next += 1;
        (i < self.records()).then(|| self.read(i))
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
