//! Named ways to clean an ECG. A preset is a list of [`Step`]s; a step knows its name, its text (kept in provenance) and
//! its work. The user may write a list of their own.
//!
//! | preset | rate, Hz | steps after lead order and resampling |
//! |---|---|---|
//! | `raw` | 500 | none: what the published code does |
//! | `clean` | 500 | mains notch where asked for, high-pass 0.67 Hz order 2, low-pass 40 Hz order 4 |
//! | `zscore` | 500 | every lead to mean 0 and standard deviation 1 |
//! | `cardionets` | 250 | mains notch where asked for, band-pass 0.67-40 Hz order 5, z-score over all leads and time |
//! | `mmcl` | 500 | clip at 4 standard deviations, asymmetric-least-squares baseline, z-score in three groups of leads |
//!
//! To add a preset: one variant, its name, its steps.

use super::als::Als;
use super::step::{Group, Step, NOTCH_QUALITY};
use crate::error::{Error, Result};

/// A named way to clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Nothing.
    Raw,
    /// Baseline and noise removed.
    #[default]
    Clean,
    /// Each lead standardised.
    ZScore,
    /// What CardioNets expects.
    CardioNets,
    /// What MMCL (contrastive learning of ECG and CMR) expects.
    Mmcl,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 5] = [Preset::Raw, Preset::Clean, Preset::ZScore, Preset::CardioNets, Preset::Mmcl];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Raw => "raw",
            Preset::Clean => "clean",
            Preset::ZScore => "zscore",
            Preset::CardioNets => "cardionets",
            Preset::Mmcl => "mmcl",
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
        let notch = mains_hz.map(|hz| Step::Notch { hz, quality: NOTCH_QUALITY });
        let (before, after) = match self {
            Preset::Raw => (vec![], vec![]),
            Preset::Clean => {
                (vec![], vec![Step::HighPass { order: 2, hz: 0.67 }, Step::LowPass { order: 4, hz: 40.0 }])
            }
            Preset::ZScore => (vec![], vec![Step::ZScore(Group::Lead)]),
            Preset::CardioNets => {
                let band = Step::BandPass { order: 5, low_hz: 0.67, high_hz: 40.0 };
                (vec![Step::Resample { hz: 250.0 }], vec![band, Step::ZScore(Group::Record)])
            }
            Preset::Mmcl => {
                let baseline = Step::Baseline(Als { lambda: 1e7, p: 0.3, iterations: 5 });
                (vec![], vec![Step::Clip { sd: 4.0 }, baseline, Step::ZScore(Group::Kind)])
            }
        };
        if notch.is_some() && !matches!(self, Preset::Clean | Preset::CardioNets) {
            let cause = format!("preset {} filters nothing: leave out the mains notch", self.name());
            return Err(Error::usage(cause).or_hint("--steps takes any list, as notch:50,zscore:lead"));
        }
        Ok(before.into_iter().chain(notch).chain(after).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
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
        assert_eq!(Preset::CardioNets.steps(Some(50.0)).unwrap().len(), 4);
    }
}
