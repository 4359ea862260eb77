//! An ECG as a file holds it: any leads, any rate, any length. `ecg-prep` turns it into an [`Ecg`](super::ecg::Ecg).

use ndarray::Array2;

use crate::error::{Fault, Result};

/// One recording as read, in physical units.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The record's name.
    pub id: String,
    /// Lead names as the file gives them, one per row of `samples_mv`.
    pub leads: Vec<String>,
    /// Samples per second and lead.
    pub rate_hz: f64,
    /// Leads x samples, mV; NaN where the file marks a sample as missing.
    pub samples_mv: Array2<f64>,
    /// What the reader chose or left out, in words for the user.
    pub notes: Vec<String>,
}

impl Recording {
    /// Checks that names and rows agree, that there is something to read and that the rate is a rate.
    ///
    /// # Errors
    /// A fault that names the field; the caller adds the file.
    pub fn new(id: impl Into<String>, leads: Vec<String>, rate_hz: f64, samples_mv: Array2<f64>) -> Result<Self> {
        let id = id.into();
        let fault = |cause: &str| Fault::new("reading ECG", cause).record(&id);
        let (rows, samples) = samples_mv.dim();
        if rows != leads.len() {
            return Err(fault("").field("leads").expected(format!("{rows} lead names"), leads.len()).into());
        }
        if rows == 0 || samples == 0 {
            return Err(fault("the record is empty").field("samples").into());
        }
        if !(rate_hz.is_finite() && rate_hz > 0.0) {
            return Err(fault("").field("rate").expected("a positive number of samples a second", rate_hz).into());
        }
        Ok(Recording { id, leads, rate_hz, samples_mv, notes: Vec::new() })
    }

    /// Adds a remark of the reader.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}
