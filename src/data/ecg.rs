//! The prepared ECG: twelve standard leads in mV at one rate, with R peaks and quality.

use std::fmt;

use ndarray::Array2;

use crate::error::{Fault, Result};

/// Number of standard leads.
pub const LEADS: usize = 12;

/// Rate that the networks read, samples a second.
pub const RATE_HZ: f64 = 500.0;
/// Samples that the networks read: ten seconds.
pub const SAMPLES: usize = 5000;

/// Minus signs before the name of a lead.
const MINUS: [char; 3] = ['-', '\u{2212}', '\u{2013}'];

/// The twelve standard leads, in the order every file of ours keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Lead {
    I,
    II,
    III,
    AVR,
    AVL,
    AVF,
    V1,
    V2,
    V3,
    V4,
    V5,
    V6,
}

impl Lead {
    /// All leads in standard order.
    pub const ALL: [Lead; LEADS] = [
        Lead::I,
        Lead::II,
        Lead::III,
        Lead::AVR,
        Lead::AVL,
        Lead::AVF,
        Lead::V1,
        Lead::V2,
        Lead::V3,
        Lead::V4,
        Lead::V5,
        Lead::V6,
    ];

    /// The name in our files.
    pub fn name(self) -> &'static str {
        ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"][self as usize]
    }

    /// The lead a file means by `name`: case, spaces and the prefixes `lead`, `ECG` and `MDC_ECG_LEAD_` do not count.
    ///
    /// ```
    /// use ecgflow::data::ecg::Lead;
    /// assert_eq!(Lead::parse("Lead avr"), Some(Lead::AVR));
    /// assert_eq!(Lead::parse("MDC_ECG_LEAD_V3"), Some(Lead::V3));
    /// assert_eq!(Lead::parse("vx"), None);
    /// ```
    ///
    /// A minus before the name turns the lead over (`-aVR` of the Cabrera sequence): that is another lead.
    pub fn parse(name: &str) -> Option<Lead> {
        let is_turned = |word: &str| word.strip_prefix(MINUS).is_some_and(|rest| !rest.is_empty());
        if name.split_whitespace().any(is_turned) {
            return None;
        }
        let mut plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        plain.make_ascii_uppercase();
        let mut plain = plain.as_str();
        for prefix in ["MDC", "ECG", "LEAD"] {
            plain = plain.strip_prefix(prefix).unwrap_or(plain);
        }
        Lead::ALL.into_iter().find(|lead| lead.name().eq_ignore_ascii_case(plain))
    }
}

impl fmt::Display for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a record can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verdict {
    /// Something is wrong that no filter mends.
    Bad,
    /// Something is there that the cleaning should remove, or that a reader should look at.
    Usable,
    /// Nothing speaks against it.
    #[default]
    Good,
}

impl Verdict {
    /// All verdicts, the worst first.
    pub const ALL: [Verdict; 3] = [Verdict::Bad, Verdict::Usable, Verdict::Good];

    /// The word in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Bad => "bad",
            Verdict::Usable => "usable",
            Verdict::Good => "good",
        }
    }

    /// The verdict of a word.
    pub fn parse(word: &str) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|verdict| verdict.name() == word)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What `ecg-prep` noticed about a record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quality {
    /// Per lead: true where the recording does not move (standard deviation below 1 uV).
    pub flat: [bool; LEADS],
    /// Root mean square of I + III - II before any lead was derived, mV; 0 where III was derived (Einthoven's law).
    pub einthoven_mv: f32,
    /// Standard deviation of the intervals between R peaks, ms; NaN with fewer than three peaks.
    pub rr_sd_ms: f32,
    /// Whether the record can be used.
    pub verdict: Verdict,
    /// Why it is not good, each as `code: words`.
    pub reasons: Vec<String>,
}

/// One prepared ECG.
#[derive(Debug, Clone, PartialEq)]
pub struct Ecg {
    /// The record's name.
    pub id: String,
    /// Samples per second (500 for every preset that feeds PA-MAE).
    pub rate_hz: f64,
    /// 12 x samples, mV (standardised units where the preset standardises), leads in the order of [`Lead::ALL`].
    pub samples_mv: Array2<f32>,
    /// R peaks, sample numbers, rising.
    pub r_peak: Vec<i32>,
    /// Heart rate, beats a minute, from the median RR interval; NaN with fewer than two R peaks.
    pub heart_rate: f32,
    /// What was noticed.
    pub quality: Quality,
}

impl Ecg {
    /// Checks shape and values.
    ///
    /// # Errors
    /// Where there are not twelve rows, no samples, or a value that is not finite.
    pub fn check(&self) -> Result<()> {
        let fault = |cause: &str| Fault::new("checking ECG", cause).record(&self.id);
        let (rows, samples) = self.samples_mv.dim();
        if rows != LEADS || samples == 0 {
            let found = format!("{rows} x {samples}");
            return Err(fault("").field("/ecg").expected("12 leads x samples", found).into());
        }
        let fit = |values: &[f32]| values.iter().fold(true, |fit, v| fit & v.is_finite()); // all of them: many at once
        if self.samples_mv.as_slice().is_some_and(fit) {
            return Ok(());
        }
        if let Some(((lead, sample), value)) = self.samples_mv.indexed_iter().find(|(_, v)| !v.is_finite()) {
            let at = format!("lead {}, sample {sample}", Lead::ALL[lead]);
            return Err(fault("").field(at).expected("a finite value in mV", value).into());
        }
        Ok(())
    }

    /// Refuses an ECG that the networks cannot read; `doing` is what was to be done with it.
    ///
    /// # Errors
    /// Where the rate is not 500 Hz or the length not ten seconds.
    pub fn accept(self, doing: &str) -> Result<Ecg> {
        let fault = |field: &str| Fault::new(doing, "").record(&self.id).field(field);
        let hint = "prepare the original ECG with ecg-prep --preset clean";
        let is_its_rate = (self.rate_hz - RATE_HZ).abs() <= 1e-6; // false for NaN
        if !is_its_rate {
            let found = format!("{} Hz", self.rate_hz);
            return Err(fault("fs").expected(format!("{RATE_HZ} Hz"), found).hint(hint).into());
        }
        let (leads, samples) = self.samples_mv.dim();
        if (leads, samples) != (LEADS, SAMPLES) {
            let expected = format!("{LEADS} leads x {SAMPLES} samples");
            return Err(fault("/ecg").expected(expected, format!("{leads} x {samples}")).hint(hint).into());
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::lead_code::scp_name;

    #[test]
    fn a_lead_turned_over_is_not_the_lead() {
        for name in ["-aVR", " \u{2212}aVR", "Lead -aVR", scp_name(65).unwrap()] {
            assert_eq!(Lead::parse(name), None, "{name}");
        }
        assert_eq!(Lead::parse("ECG - II"), Some(Lead::II));
        assert_eq!(scp_name(62).and_then(Lead::parse), Some(Lead::AVR));
    }
}
