//! Named ways to clean an ECG. A preset is a list of steps; a step knows its text (kept in provenance) and its work.
//!
//! | preset | steps after lead order, resampling and window |
//! |---|---|
//! | `raw` | none: what the published code does |
//! | `clean` | mains notch where asked for, high-pass 0.67 Hz order 2, low-pass 40 Hz order 4 |
//!
//! Butterworth filters run forward and backward, so each attenuates by 6 dB at its corner and delays nothing. To add a
//! preset: one variant, its name, its steps.

use std::fmt;

use ndarray::Array2;

use super::filter::{Band, Filter};
use crate::error::{Error, Result};

/// Quality (centre / bandwidth) of the mains notch.
const NOTCH_QUALITY: f64 = 30.0;
/// Samples reflected at each end, s: several time constants of the slowest filter.
const PAD_SECONDS: f64 = 3.0;

/// A named way to clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Nothing.
    Raw,
    /// Baseline and noise removed.
    #[default]
    Clean,
}

/// One thing done to all leads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Zero-phase Butterworth high-pass.
    HighPass {
        /// Order of one pass.
        order: usize,
        /// Corner, Hz.
        hz: f64,
    },
    /// Zero-phase Butterworth low-pass.
    LowPass {
        /// Order of one pass.
        order: usize,
        /// Corner, Hz.
        hz: f64,
    },
    /// Zero-phase notch.
    Notch {
        /// Centre, Hz.
        hz: f64,
    },
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 2] = [Preset::Raw, Preset::Clean];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Raw => "raw",
            Preset::Clean => "clean",
        }
    }

    /// The preset of a name.
    pub fn parse(name: &str) -> Option<Preset> {
        Preset::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// Its steps, with a notch at the mains frequency where one is given.
    ///
    /// ```
    /// use ecgflow::signal::preset::Preset;
    /// let steps: Vec<String> = Preset::Clean.steps(None).unwrap().iter().map(|s| s.to_string()).collect();
    /// assert_eq!(steps[1], "low-pass 40 Hz, Butterworth order 4, zero-phase");
    /// ```
    ///
    /// # Errors
    /// Where the preset has no place for a notch.
    pub fn steps(self, mains_hz: Option<f64>) -> Result<Vec<Step>> {
        match (self, mains_hz) {
            (Preset::Raw, None) => Ok(Vec::new()),
            (Preset::Raw, Some(_)) => Err(Error::usage("preset raw filters nothing: leave out the mains notch")),
            (Preset::Clean, mains_hz) => {
                let notch = mains_hz.map(|hz| Step::Notch { hz });
                let rest = [Step::HighPass { order: 2, hz: 0.67 }, Step::LowPass { order: 4, hz: 40.0 }];
                Ok(notch.into_iter().chain(rest).collect())
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::HighPass { order, hz } => write!(f, "high-pass {hz} Hz, Butterworth order {order}, zero-phase"),
            Step::LowPass { order, hz } => write!(f, "low-pass {hz} Hz, Butterworth order {order}, zero-phase"),
            Step::Notch { hz } => write!(f, "notch {hz} Hz, quality {NOTCH_QUALITY}, zero-phase"),
        }
    }
}

impl Step {
    /// Works on every lead (row), in place.
    ///
    /// # Errors
    /// Where the rate is too low for the filter.
    pub fn apply(self, samples: &mut Array2<f64>, rate_hz: f64) -> Result<()> {
        let filter = match self {
            Step::HighPass { order, hz } => Filter::butterworth(order, Band::HighPass(hz), rate_hz)?,
            Step::LowPass { order, hz } => Filter::butterworth(order, Band::LowPass(hz), rate_hz)?,
            Step::Notch { hz } => Filter::notch(hz, NOTCH_QUALITY, rate_hz)?,
        };
        for mut row in samples.rows_mut() {
            let filtered = filter.zero_phase(&row.to_vec(), (PAD_SECONDS * rate_hz) as usize);
            row.iter_mut().zip(filtered).for_each(|(place, value)| *place = value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    /// Size left of a sine of 1 mV after the preset, in the middle of 20 s.
    fn left(hz: f64, mains_hz: Option<f64>) -> f64 {
        let mut x = Array2::from_shape_fn((1, 10_000), |(_, n)| (2.0 * PI * hz * n as f64 / 500.0).sin());
        for step in Preset::Clean.steps(mains_hz).unwrap() {
            step.apply(&mut x, 500.0).unwrap();
        }
        x.iter().skip(4000).take(2000).fold(0.0, |m, v| v.abs().max(m))
    }

    #[test]
    fn clean_keeps_the_ecg_and_removes_the_rest() {
        assert!(left(0.05, None) < 0.001);
        assert!((left(10.0, None) - 1.0).abs() < 0.01);
        assert!((left(40.0, None) - 0.5).abs() < 0.01);
        assert!(left(100.0, None) < 0.002);
        assert!(left(50.0, Some(50.0)) < 0.001);
    }

    #[test]
    fn names_lead_back_to_presets() {
        for preset in Preset::ALL {
            assert_eq!(Preset::parse(preset.name()), Some(preset));
        }
        assert_eq!(Preset::parse("Clean"), None);
        assert_eq!(Preset::Raw.steps(Some(50.0)).unwrap_err().exit_code(), 2);
    }
}
