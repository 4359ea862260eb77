//! Leads that stand one after another in a file, gathered into one recording.

use ndarray::Array2;

use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

/// More samples are no resting ECG: twelve leads of ten minutes at 500 Hz.
const MOST_SAMPLES: usize = 1 << 22;

/// The leads so far; samples of one lead after those of another.
#[derive(Default)]
pub struct Leads {
    names: Vec<String>,
    lengths: Vec<usize>,
    values: Vec<f64>,
}

impl Leads {
    /// Names of the leads so far.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Samples that may still be pushed.
    pub fn room(&self) -> usize {
        MOST_SAMPLES.saturating_sub(self.values.len())
    }

    /// Adds a lead.
    ///
    /// # Errors
    /// Where a sample is wrong, or there are more than an ECG has.
    pub fn push(&mut self, doing: &str, name: &str, samples: impl Iterator<Item = Result<f64>>) -> Result<()> {
        let before = self.values.len();
        for sample in samples {
            if self.room() == 0 {
                let fault = Fault::new(doing, "there are too many samples for an ECG").field(name);
                return Err(fault.expected(format!("at most {MOST_SAMPLES}"), "more").into());
            }
            self.values.push(sample?);
        }
        self.names.push(name.to_owned());
        self.lengths.push(self.values.len() - before);
        Ok(())
    }

    /// The number of samples of the last lead.
    pub fn last_length(&self) -> usize {
        self.lengths.last().copied().unwrap_or(0)
    }

    /// Cuts all leads to `samples`.
    pub fn truncate(&mut self, samples: usize) {
        let (mut from, mut to) = (0, 0);
        for length in &mut self.lengths {
            let kept = samples.min(*length);
            self.values.copy_within(from..from + kept, to); // in place: a copy would hold them twice
            (from, to) = (from + *length, to + kept);
            *length = kept;
        }
        self.values.truncate(to);
    }

    /// The samples of one lead.
    pub fn lead(&self, place: usize) -> &[f64] {
        let start: usize = self.lengths.iter().take(place).sum();
        let length = self.lengths.get(place).copied().unwrap_or(0);
        self.values.get(start..start + length).unwrap_or(&[])
    }

    /// The recording, each number times `mv_per_unit`.
    ///
    /// # Errors
    /// Where there is no lead, or two differ in length.
    pub fn finish(mut self, doing: &str, id: &str, rate_hz: f64, mv_per_unit: f64) -> Result<Recording> {
        let samples = self.lengths.first().copied().unwrap_or(0);
        if let Some((name, length)) = self.names.iter().zip(&self.lengths).find(|(_, &length)| length != samples) {
            let fault = Fault::new(doing, "the leads differ in length").record(id).field(name);
            return Err(fault.expected(format!("{samples} samples"), length).into());
        }
        self.values.iter_mut().for_each(|value| *value *= mv_per_unit);
        let shape = (self.names.len(), samples);
        let samples_mv = Array2::from_shape_vec(shape, self.values).map_err(Error::compute("stacking leads"))?;
        Recording::new(id, self.names, rate_hz, samples_mv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(lengths: &[usize]) -> Leads {
        let mut leads = Leads::default();
        for (k, &n) in lengths.iter().enumerate() {
            leads.push("reading", &format!("L{k}"), (0..n).map(|i| Ok((10 * k + i) as f64))).unwrap();
        }
        leads
    }

    #[test]
    fn leads_become_rows_in_millivolts() {
        let record = leads(&[2, 2]).finish("reading", "r", 500.0, 0.5).unwrap();
        assert_eq!(record.samples_mv, ndarray::array![[0.0, 0.5], [5.0, 5.5]]);
    }

    #[test]
    fn leads_of_different_length_are_refused() {
        let error = leads(&[2, 3]).finish("reading", "r", 500.0, 1.0).unwrap_err();
        assert!(
            error.to_string().contains("field L1: the leads differ in length (expected 2 samples, found 3)"),
            "{error}"
        );
        assert!(Leads::default().finish("reading", "r", 500.0, 1.0).is_err());
    }

    #[test]
    fn a_cut_takes_the_end_of_every_lead() {
        let mut leads = leads(&[3, 3]);
        leads.truncate(2);
        assert_eq!((leads.lead(0), leads.lead(1)), (&[0.0, 1.0][..], &[10.0, 11.0][..]));
        assert_eq!(leads.lead(2), &[] as &[f64]);
    }
}
