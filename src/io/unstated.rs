//! What files without rate and unit (CSV, NPY) leave to the user, and what may be assumed when the user is silent.
//!
//! What a file states wins; a user who says otherwise is told so, as one of the two is wrong.
//! Rate: `--rate`; else 500 Hz where there are exactly 5000 samples (10 s, the only length the models take); else refused.
//! Unit: `--units`; else mV, unless the 99th percentile of |x - median of its lead| exceeds 20: no ECG is that tall
//! in mV, so the numbers are refused, with the hint that they may be microvolts.

use ndarray::Array2;

use super::{ReadOptions, Unit};
use crate::data::ecg::Lead;
use crate::error::{Error, Fault, Result};

/// Samples that mean 10 s at 500 Hz.
const ASSUMED_SAMPLES: usize = 5000;
const ASSUMED_RATE_HZ: f64 = 500.0;
/// Rates that differ by less are the same: times in a table are rounded.
const SAME_RATE: f64 = 1e-3;
/// Taller than any ECG, mV.
const TALL_MV: f64 = 20.0;

/// The rate that the file states, else the one given.
///
/// ```
/// use ecgflow::io::unstated::stated_rate_hz;
/// assert_eq!(stated_rate_hz(Some(400.0), None).unwrap(), Some(400.0));
/// assert_eq!(stated_rate_hz(None, Some(250.0)).unwrap(), Some(250.0));
/// assert!(stated_rate_hz(Some(400.0), Some(250.0)).is_err());
/// ```
///
/// # Errors
/// Where both are there and differ, or the stated one is no rate; the caller adds the file.
pub fn stated_rate_hz(stated: Option<f64>, given: Option<f64>) -> Result<Option<f64>> {
    let Some(rate) = stated else { return Ok(given) };
    if !(rate.is_finite() && rate > 0.0) {
        let fault = Fault::new("reading ECG", "").field("rate");
        return Err(fault.expected("a positive number of samples a second", rate).into());
    }
    match given {
        Some(given) if (given / rate - 1.0).abs() > SAME_RATE => {
            Err(differ("rate", "--rate", format!("{rate} Hz"), format!("{given} Hz")))
        }
        _ => Ok(Some(rate)),
    }
}

/// The unit that the file states, else the one given.
///
/// # Errors
/// Where both are there and differ, or the stated one is unknown and none is given; the caller adds the file.
pub fn stated_unit(stated: Option<&str>, given: Option<Unit>) -> Result<Option<Unit>> {
    let Some(text) = stated.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(given) };
    match (Unit::parse(text), given) {
        (None, None) => {
            let fault = Fault::new("reading ECG", "unknown unit").field("unit").expected("uV, mV or V", text);
            Err(fault.hint("give --units").into())
        }
        (Some(unit), Some(given)) if unit != given => {
            let name = |unit: Unit| unit.name().to_owned();
            Err(differ("unit", "--units", name(unit), name(given)))
        }
        (unit, given) => Ok(unit.or(given)),
    }
}

/// Refuses leads that `ecg-prep` left in another unit: standard deviations (`sd`), which nothing turns back into mV.
pub fn not_mv(fault: Fault, unit: &str) -> Fault {
    let fault = fault.field("unit").expected("mV", unit);
    fault.hint("prepare the original ECGs with ecg-prep --preset clean or raw")
}

/// The leads that the file names, else those given. Names that are no standard leads (`ch1`) may be given better ones.
///
/// # Errors
/// Where a standard lead would become another, or the numbers differ; the caller adds the file.
pub fn stated_leads(stated: Option<Vec<String>>, given: Option<&[String]>) -> Result<Option<Vec<String>>> {
    let (Some(stated), Some(given)) = (stated.as_deref(), given) else {
        return Ok(stated.or_else(|| given.map(<[String]>::to_vec)));
    };
    let other = |(s, g): (&String, &String)| Lead::parse(s).is_some_and(|lead| Lead::parse(g) != Some(lead));
    if stated.len() != given.len() || stated.iter().zip(given).any(other) {
        return Err(differ("leads", "--leads", stated.join(","), given.join(",")));
    }
    Ok(Some(given.to_vec()))
}

fn differ(field: &str, option: &str, stated: String, given: String) -> Error {
    let fault = Fault::new("reading ECG", format!("{option} is not what the file states")).field(field);
    fault.expected(stated, given).hint(format!("leave out {option}: it is for files that do not say it")).into()
}

/// The sampling rate of a record of `samples` samples.
///
/// ```
/// use ecgflow::io::{unstated::rate_hz, ReadOptions};
/// assert_eq!(rate_hz(&ReadOptions::default(), 5000).unwrap(), 500.0);
/// assert!(rate_hz(&ReadOptions::default(), 4096).is_err());
/// ```
///
/// # Errors
/// Where the rate is neither given nor evident; the caller adds the file.
pub fn rate_hz(options: &ReadOptions, samples: usize) -> Result<f64> {
    match options.rate_hz {
        Some(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        Some(rate) => Err(Error::usage(format!("--rate: expected a positive number of Hz, found {rate}"))),
        None if samples == ASSUMED_SAMPLES => Ok(ASSUMED_RATE_HZ),
        None => {
            let fault = Fault::new("reading ECG", "the file does not state its sampling rate");
            let fault = fault.expected("--rate, or 5000 samples (10 s at 500 Hz)", format!("{samples} samples"));
            Err(fault.hint(rate_hint(samples)).into())
        }
    }
}

fn rate_hint(samples: usize) -> String {
    let tenth = samples as f64 / 10.0;
    if (50.0..=20_000.0).contains(&tenth) {
        format!("{samples} samples are 10 s at {tenth} Hz: give --rate {tenth} if that is so")
    } else {
        "give --rate with the number of samples a second".to_owned()
    }
}

/// Brings samples to mV, in place.
///
/// # Errors
/// Where the unit is not given and the numbers cannot be mV; the caller adds the file.
pub fn to_mv(options: &ReadOptions, samples: &mut Array2<f64>) -> Result<()> {
    if let Some(unit) = options.unit {
        if unit != Unit::Millivolt {
            samples.mapv_inplace(|v| v * unit.to_mv());
        }
        return Ok(());
    }
    let tall = percentile_99(samples);
    if tall > TALL_MV {
        let fault = Fault::new("reading ECG", "the file does not state its unit, and these are no millivolts");
        let fault = fault.expected(format!("at most {TALL_MV} mV in 99 of 100 samples"), format!("{tall:.1}"));
        return Err(fault.hint("if these are microvolts, give --units uV").into());
    }
    Ok(())
}

/// 99th percentile of the distance from the median of each lead; 0 where nothing is known.
fn percentile_99(samples: &Array2<f64>) -> f64 {
    let mut all = Vec::with_capacity(samples.len());
    for row in samples.rows() {
        let mut known: Vec<f64> = row.iter().copied().filter(|v| !v.is_nan()).collect();
        let middle = known.len() / 2;
        if middle < known.len() {
            let median = *known.select_nth_unstable_by(middle, f64::total_cmp).1;
            all.extend(known.iter().map(|v| (v - median).abs()));
        }
    }
    let place = all.len() * 99 / 100;
    if place < all.len() {
        *all.select_nth_unstable_by(place, f64::total_cmp).1
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn assumes_500_hz_for_5000_samples_only() {
        let silent = ReadOptions::default();
        assert_eq!(rate_hz(&silent, 5000).unwrap(), 500.0);
        assert_eq!(rate_hz(&ReadOptions { rate_hz: Some(250.0), ..silent.clone() }, 5000).unwrap(), 250.0);
        let error = rate_hz(&silent, 2500).unwrap_err();
        assert!(error.to_string().contains("found 2500 samples"), "{error}");
        assert_eq!(error.hint(), Some("2500 samples are 10 s at 250 Hz: give --rate 250 if that is so"));
        assert!(rate_hz(&ReadOptions { rate_hz: Some(-1.0), ..silent }, 5000).is_err());
    }

    #[test]
    fn what_the_file_states_wins_and_a_contradiction_is_told() {
        assert_eq!(stated_rate_hz(Some(500.0), Some(500.1)).unwrap(), Some(500.0));
        let error = stated_rate_hz(Some(500.0), Some(250.0)).unwrap_err();
        let says = "reading ECG: field rate: --rate is not what the file states (expected 500 Hz, found 250 Hz)";
        assert_eq!(error.to_string(), says);
        assert_eq!(error.hint(), Some("leave out --rate: it is for files that do not say it"));
        assert!(stated_rate_hz(Some(0.0), Some(250.0)).is_err());
        let microvolt = Some(Unit::Microvolt);
        assert_eq!(stated_unit(Some("uV"), microvolt).unwrap(), microvolt);
        let error = stated_unit(Some("mV"), microvolt).unwrap_err().to_string();
        assert!(error.contains("--units is not what the file states (expected mV, found uV)"), "{error}");
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(stated_leads(Some(names("I ch2")), Some(&names("i II"))).unwrap(), Some(names("i II")));
        let error = stated_leads(Some(names("I II")), Some(&names("II I"))).unwrap_err().to_string();
        assert!(error.contains("--leads is not what the file states (expected I,II, found II,I)"), "{error}");
        assert!(stated_leads(Some(names("I II")), Some(&names("I"))).is_err());
        assert_eq!(stated_leads(None, Some(&names("I"))).unwrap(), Some(names("I")));
    }

    #[test]
    fn a_unit_that_nobody_knows_is_refused() {
        let error = stated_unit(Some("counts"), None).unwrap_err();
        assert!(error.to_string().contains("unknown unit (expected uV, mV or V, found counts)"), "{error}");
        assert_eq!(error.hint(), Some("give --units"));
        assert_eq!(stated_unit(Some("counts"), Some(Unit::Volt)).unwrap(), Some(Unit::Volt));
        assert_eq!(stated_unit(Some(" "), None).unwrap(), None);
    }

    #[test]
    fn refuses_microvolts_that_nobody_announced() {
        let mut samples = arr2(&[[-300.0, 0.0, 900.0, f64::NAN]]);
        let error = to_mv(&ReadOptions::default(), &mut samples).unwrap_err();
        assert_eq!(error.hint(), Some("if these are microvolts, give --units uV"));
        to_mv(&ReadOptions { unit: Some(Unit::Microvolt), ..ReadOptions::default() }, &mut samples).unwrap();
        assert!((samples[[0, 2]] - 0.9).abs() < 1e-15);
        let mut offset = arr2(&[[300.0, 300.5, 301.0]]);
        assert!(to_mv(&ReadOptions::default(), &mut offset).is_ok());
    }
}
