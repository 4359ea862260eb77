//! Prepared ECGs as one NumPy array, R x 12 x N of little-endian 32-bit floats. Names, rate and R peaks have no place in it.
//!
//! The header has a fixed length, so that the number of records can be filled in at the end.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use super::nothing;
use crate::data::ecg::{Ecg, LEADS};
use crate::error::{Error, Fault, Result};
use crate::io::output::Output;

/// Bytes before the numbers; a multiple of 64, as NumPy wants it.
const HEADER: usize = 128;

/// An array under way.
pub(super) struct Writer {
    output: Output,
    file: BufWriter<File>,
    records: usize,
    samples: usize,
}

impl Writer {
    pub(super) fn begin(path: &Path) -> Result<Writer> {
        let output = Output::begin(path, true)?;
        let mut file = BufWriter::new(output.file()?);
        file.write_all(&[0; HEADER]).map_err(Error::io("writing", output.shown()))?;
        Ok(Writer { output, file, records: 0, samples: 0 })
    }

    pub(super) fn put(&mut self, ecg: &Ecg) -> Result<()> {
        let samples = ecg.samples_mv.ncols();
        if self.records > 0 && samples != self.samples {
            let fault = Fault::new("writing ECG", "").record(&ecg.id).field("samples");
            return Err(fault.expected(self.samples, samples).into());
        }
        let bytes: Vec<u8> = ecg.samples_mv.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.file.write_all(&bytes).map_err(Error::io("writing", self.output.shown()))?;
        (self.records, self.samples) = (self.records + 1, samples);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        if self.records == 0 {
            return Err(nothing(self.output.shown()));
        }
        let failed = || Error::io("writing", self.output.shown());
        self.file.seek(SeekFrom::Start(0)).map_err(failed())?;
        self.file.write_all(&header(self.records, self.samples)).map_err(failed())?;
        self.file.flush().map_err(failed())?;
        self.output.finish()
    }
}

fn header(records: usize, samples: usize) -> Vec<u8> {
    let shape = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({records}, {LEADS}, {samples}), }}");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(((HEADER - 10) as u16).to_le_bytes());
    bytes.extend(shape.bytes());
    bytes.resize(HEADER - 1, b' ');
    bytes.push(b'\n');
    bytes
}
