//! One thing done to all leads: the building block of presets and of `--steps`.
//!
//! | written | means |
//! |---|---|
//! | `resample:HZ` | the rate of the output, before everything else; 500 without it |
//! | `highpass:HZ[:ORDER]`, `lowpass:HZ[:ORDER]` | zero-phase Butterworth, order 2 and 4 unless said |
//! | `bandpass:LOW-HIGH[:ORDER]` | zero-phase Butterworth, order 5 unless said |
//! | `notch:HZ[:QUALITY]` | zero-phase notch, quality (centre / bandwidth) 30 unless said |
//! | `clip:SD` | values beyond SD standard deviations of the whole record are set to that |
//! | `als[:LAMBDA:P:ITERATIONS]` | asymmetric-least-squares [baseline](super::als) subtracted; 1e7, 0.3, 5 |
//! | `zscore[:lead\|record\|groups]` | mean 0, standard deviation 1: of each lead, of all together, of I-III, aVR-aVF, V1-V6 |
//!
//! A Butterworth filter runs forward and backward: 6 dB down at its corner, no delay. Filters hear some seconds around the
//! ten that are kept; a step that needs the statistics of the record (`clip`, `als`, `zscore`) and all that follow it see
//! those ten alone.

use std::fmt;

use ndarray::{s, Array2, ArrayViewMut2};

use super::als::Als;
use super::filter::{Band, Filter};
use crate::error::Result;

/// Rates an output may have; filters and the R-peak detector have no room at lower ones.
const OUTPUT_RATES_HZ: std::ops::RangeInclusive<f64> = 100.0..=20_000.0;

/// Quality (centre / bandwidth) of the mains notch.
pub const NOTCH_QUALITY: f64 = 30.0;
/// Samples reflected at each end, s: several time constants of the slowest filter.
const PAD_SECONDS: f64 = 3.0;

/// Which leads share a mean and a standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Every lead has its own.
    Lead,
    /// All leads have one.
    Record,
    /// I to III, aVR to aVF and V1 to V6 have one each.
    Kind,
}

/// One thing done to all leads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// The rate of the output; done while the leads are put in order.
    Resample {
        /// Samples a second.
        hz: f64,
    },
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
    /// Zero-phase Butterworth band-pass.
    BandPass {
        /// Order of one pass.
        order: usize,
        /// Lower corner, Hz.
        low_hz: f64,
        /// Upper corner, Hz.
        high_hz: f64,
    },
    /// Zero-phase notch.
    Notch {
        /// Centre, Hz.
        hz: f64,
        /// Centre / bandwidth.
        quality: f64,
    },
    /// Values beyond so many standard deviations of the record, about zero, are set to that.
    Clip {
        /// Standard deviations.
        sd: f64,
    },
    /// Baseline subtracted.
    Baseline(Als),
    /// Mean 0, standard deviation 1.
    ZScore(Group),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Resample { hz } => write!(f, "resample to {hz} Hz: Kaiser-windowed sinc"),
            Step::HighPass { order, hz } => write!(f, "high-pass {hz} Hz, Butterworth order {order}, zero-phase"),
            Step::LowPass { order, hz } => write!(f, "low-pass {hz} Hz, Butterworth order {order}, zero-phase"),
            Step::BandPass { order, low_hz, high_hz } => {
                write!(f, "band-pass {low_hz} to {high_hz} Hz, Butterworth order {order}, zero-phase")
            }
            Step::Notch { hz, quality } => write!(f, "notch {hz} Hz, quality {quality}, zero-phase"),
            Step::Clip { sd } => write!(f, "clip at {sd} standard deviations of the record"),
            Step::Baseline(Als { lambda, p, iterations }) => {
                write!(f, "asymmetric-least-squares baseline, lambda {lambda:e}, p {p}, {iterations} iterations")
            }
            Step::ZScore(Group::Lead) => write!(f, "z-score of each lead"),
            Step::ZScore(Group::Record) => write!(f, "z-score over all leads and time"),
            Step::ZScore(Group::Kind) => write!(f, "z-score of I to III, of aVR to aVF and of V1 to V6"),
        }
    }
}

impl Step {
    /// Reads a comma-separated list as the table above has it.
    ///
    /// ```
    /// use ecgflow::signal::step::Step;
    /// let steps = Step::parse_list("highpass:0.67,lowpass:40,notch:50").unwrap();
    /// assert_eq!(steps[2].to_string(), "notch 50 Hz, quality 30, zero-phase");
    /// assert!(Step::parse_list("lowpass:high").unwrap_err().contains("lowpass:high"));
    /// ```
    ///
    /// # Errors
    /// A sentence that names the step which cannot be read.
    pub fn parse_list(text: &str) -> std::result::Result<Vec<Step>, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let steps: Vec<Step> = words.map(Step::parse).collect::<std::result::Result<_, _>>()?;
        match steps.iter().skip(1).any(|step| matches!(step, Step::Resample { .. })) {
            true => Err("resample comes first and once".to_owned()),
            false => Ok(steps),
        }
    }

    fn parse(word: &str) -> std::result::Result<Step, String> {
        let mut parts = word.split(':');
        let name = parts.next().unwrap_or_default();
        let values: Vec<&str> = parts.collect();
        let step = read(name, &values).filter(|step| step.is_sane());
        step.ok_or_else(|| format!("step {word}: expected {}", expected(name)))
    }

    /// Whether its numbers can be meant; a filter also needs room under half the rate, which `apply` knows.
    fn is_sane(&self) -> bool {
        let above_zero = |v: f64| v.is_finite() && v > 0.0;
        let order = |order: usize| (1..=20).contains(&order);
        match *self {
            Step::Resample { hz } => OUTPUT_RATES_HZ.contains(&hz) && (10.0 * hz).fract() == 0.0,
            Step::HighPass { order: n, hz } | Step::LowPass { order: n, hz } => above_zero(hz) && order(n),
            Step::BandPass { order: n, low_hz, high_hz } => above_zero(low_hz) && high_hz > low_hz && order(n),
            Step::Notch { hz, quality } => above_zero(hz) && above_zero(quality),
            Step::Clip { sd } => above_zero(sd),
            Step::Baseline(Als { lambda, p, iterations }) => {
                above_zero(lambda) && p > 0.0 && p < 1.0 && (1..=100).contains(&iterations)
            }
            Step::ZScore(_) => true,
        }
    }

    /// Whether it needs the statistics of the window, so that the margin must be gone before it.
    pub fn needs_window(&self) -> bool {
        matches!(self, Step::Clip { .. } | Step::Baseline(_) | Step::ZScore(_))
    }

    /// Its filter at a rate; none where it is no filter.
    ///
    /// # Errors
    /// Where the rate is too low for the filter.
    pub fn filter(&self, rate_hz: f64) -> Result<Option<Filter>> {
        Ok(Some(match *self {
            Step::HighPass { order, hz } => Filter::butterworth(order, Band::HighPass(hz), rate_hz)?,
            Step::LowPass { order, hz } => Filter::butterworth(order, Band::LowPass(hz), rate_hz)?,
            Step::BandPass { order, low_hz, high_hz } => {
                Filter::butterworth(order, Band::BandPass(low_hz, high_hz), rate_hz)?
            }
            Step::Notch { hz, quality } => Filter::notch(hz, quality, rate_hz)?,
            _ => return Ok(None),
        }))
    }

    /// Does steps on every lead (row), in place, filters that follow each other together.
    ///
    /// # Errors
    /// Where the rate is too low for a filter.
    pub fn apply_all(steps: &[Step], samples: &mut Array2<f64>, rate_hz: f64) -> Result<()> {
        for group in steps.chunk_by(|a, b| a.is_filter() && b.is_filter()) {
            let filters = group.iter().filter_map(|step| step.filter(rate_hz).transpose());
            let padded = |filter: Filter| {
                let pad = filter.memory().min((PAD_SECONDS * rate_hz) as usize);
                (filter, pad)
            };
            let filters: Vec<(Filter, usize)> = filters.map(|filter| filter.map(padded)).collect::<Result<_>>()?;
            if filters.is_empty() {
                group.iter().for_each(|step| step.without_filter(samples));
            } else {
                Filter::zero_phase_rows(&filters, &mut samples.view_mut());
            }
        }
        Ok(())
    }

    fn is_filter(&self) -> bool {
        use Step::{BandPass, HighPass, LowPass, Notch};
        matches!(self, HighPass { .. } | LowPass { .. } | BandPass { .. } | Notch { .. })
    }

    /// Works on every lead (row), in place.
    ///
    /// # Errors
    /// Where the rate is too low for the filter.
    pub fn apply(&self, samples: &mut Array2<f64>, rate_hz: f64) -> Result<()> {
        Step::apply_all(&[*self], samples, rate_hz)
    }

    /// Does what is no filter.
    fn without_filter(&self, samples: &mut Array2<f64>) {
        match *self {
            Step::Clip { sd } => {
                let limit = sd * samples.std(0.0);
                samples.mapv_inplace(|v| v.clamp(-limit, limit));
            }
            Step::Baseline(als) => rows(samples, |x| {
                let baseline = als.baseline(&x);
                x.iter().zip(baseline).map(|(y, z)| y - z).collect()
            }),
            Step::ZScore(Group::Lead) => {
                (0..samples.nrows()).for_each(|row| standardise(samples.slice_mut(s![row..=row, ..])));
            }
            Step::ZScore(Group::Record) => standardise(samples.view_mut()),
            Step::ZScore(Group::Kind) => {
                let rows = samples.nrows();
                let cut = |n: usize| n.min(rows);
                let groups = [cut(0)..cut(3), cut(3)..cut(6), cut(6)..rows];
                groups.into_iter().for_each(|group| standardise(samples.slice_mut(s![group, ..])));
            }
            _ => {} // resampling is done before
        }
    }
}

/// Puts `change` of every row in its place.
fn rows(samples: &mut Array2<f64>, change: impl Fn(Vec<f64>) -> Vec<f64>) {
    for mut row in samples.rows_mut() {
        let changed = change(row.to_vec());
        row.iter_mut().zip(changed).for_each(|(place, value)| *place = value);
    }
}

/// Mean 0 and standard deviation 1 (of n) over everything; zeros where nothing moves.
fn standardise(mut samples: ArrayViewMut2<f64>) {
    let mean = samples.mean().unwrap_or(0.0);
    let sd = samples.std(0.0);
    samples.mapv_inplace(|v| if sd > 1e-9 { (v - mean) / sd } else { 0.0 });
}

/// A step from its name and values, not yet checked.
fn read(name: &str, values: &[&str]) -> Option<Step> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|v| v.is_finite());
    let order = |text: Option<&&str>, otherwise: usize| text.map_or(Some(otherwise), |t| t.parse().ok());
    Some(match (name, values) {
        ("resample", [hz]) => Step::Resample { hz: number(hz)? },
        ("highpass", [hz, rest @ ..]) if rest.len() < 2 => {
            Step::HighPass { order: order(rest.first(), 2)?, hz: number(hz)? }
        }
        ("lowpass", [hz, rest @ ..]) if rest.len() < 2 => {
            Step::LowPass { order: order(rest.first(), 4)?, hz: number(hz)? }
        }
        ("bandpass", [corners, rest @ ..]) if rest.len() < 2 => {
            let (low, high) = corners.split_once('-')?;
            Step::BandPass { order: order(rest.first(), 5)?, low_hz: number(low)?, high_hz: number(high)? }
        }
        ("notch", [hz]) => Step::Notch { hz: number(hz)?, quality: NOTCH_QUALITY },
        ("notch", [hz, quality]) => Step::Notch { hz: number(hz)?, quality: number(quality)? },
        ("clip", [sd]) => Step::Clip { sd: number(sd)? },
        ("als", []) => Step::Baseline(Als { lambda: 1e7, p: 0.3, iterations: 5 }),
        ("als", [lambda, p, turns]) => {
            Step::Baseline(Als { lambda: number(lambda)?, p: number(p)?, iterations: turns.parse().ok()? })
        }
        ("zscore", [] | ["lead"]) => Step::ZScore(Group::Lead),
        ("zscore", ["record"]) => Step::ZScore(Group::Record),
        ("zscore", ["groups"]) => Step::ZScore(Group::Kind),
        _ => return None,
    })
}

/// How a step of this name is written.
fn expected(name: &str) -> &'static str {
    match name {
        "resample" => "resample:HZ, 100 to 20000, so that ten seconds are whole samples",
        "highpass" => "highpass:HZ or highpass:HZ:ORDER (1 to 20)",
        "lowpass" => "lowpass:HZ or lowpass:HZ:ORDER (1 to 20)",
        "bandpass" => "bandpass:LOW-HIGH or bandpass:LOW-HIGH:ORDER (1 to 20)",
        "notch" => "notch:HZ or notch:HZ:QUALITY",
        "clip" => "clip:SD",
        "als" => "als or als:LAMBDA:P:ITERATIONS",
        "zscore" => "zscore:lead, zscore:record or zscore:groups",
        _ => "resample, highpass, lowpass, bandpass, notch, clip, als or zscore",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn every_kind_of_step_is_read_and_says_what_it_does() {
        let text = "resample:250, highpass:0.5:3,bandpass:0.67-40,notch:60:20,clip:4,als,als:1e5:0.1:10,zscore:groups";
        let said: Vec<String> = Step::parse_list(text).unwrap().iter().map(Step::to_string).collect();
        assert_eq!(said[0], "resample to 250 Hz: Kaiser-windowed sinc");
        assert_eq!(said[1], "high-pass 0.5 Hz, Butterworth order 3, zero-phase");
        assert_eq!(said[2], "band-pass 0.67 to 40 Hz, Butterworth order 5, zero-phase");
        assert_eq!(said[3], "notch 60 Hz, quality 20, zero-phase");
        assert_eq!(said[5], "asymmetric-least-squares baseline, lambda 1e7, p 0.3, 5 iterations");
        assert_eq!(said[6], "asymmetric-least-squares baseline, lambda 1e5, p 0.1, 10 iterations");
        assert_eq!(Step::parse_list("").unwrap(), []);
    }

    #[test]
    fn steps_that_mean_nothing_are_refused() {
        let wrong =
            "blur:3 lowpass lowpass:0 lowpass:40:0 lowpass:40:4:1 highpass:-1 highpass:nan notch:50:inf bandpass:40-1 \
                     clip:0 als:1e7 als:1e7:1:5 als:1e7:0.3:1000000 zscore:all resample:10 resample:80 resample:333.33";
        for word in wrong.split_whitespace() {
            let error = Step::parse_list(word).unwrap_err();
            assert!(error.contains(word) && error.contains("expected"), "{error}");
        }
        assert!(Step::parse_list("lowpass:40,resample:250").is_err());
        let mut x = Array2::zeros((1, 100));
        assert!(Step::LowPass { order: 4, hz: 300.0 }.apply(&mut x, 500.0).is_err());
    }

    #[test]
    fn z_scores_are_of_the_leads_they_name() {
        let leads = || Array2::from_shape_fn((12, 2), |(lead, n)| (lead + 1) as f64 * if n == 0 { 1.0 } else { -3.0 });
        let after = |group| {
            let mut x = leads();
            Step::ZScore(group).apply(&mut x, 500.0).unwrap();
            x
        };
        assert_eq!(after(Group::Lead).column(0).to_vec(), [1.0; 12]);
        let kinds = after(Group::Kind);
        assert!(kinds.slice(s![0..3, ..]).mean().unwrap().abs() < 1e-12 && kinds[[2, 0]] != kinds[[5, 0]]);
        assert!((after(Group::Record).std(0.0) - 1.0).abs() < 1e-12);
        let mut still = array![[2.0, 2.0, 2.0]];
        Step::ZScore(Group::Lead).apply(&mut still, 500.0).unwrap();
        assert_eq!(still, array![[0.0, 0.0, 0.0]]);
    }

    #[test]
    fn clipping_is_about_zero_at_deviations_of_the_record() {
        let mut x = array![[1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 9.0, -1.0]]; // sd = sqrt(11 - 1) = 3.1623
        Step::Clip { sd: 2.0 }.apply(&mut x, 500.0).unwrap();
        assert!((x[[0, 6]] - 6.324_555).abs() < 1e-6 && x[[0, 7]] == -1.0, "{x}");
    }
}
