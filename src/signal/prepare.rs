//! The whole way from a recording to a prepared ECG: twelve leads, mV, 500 Hz, 10 s.
//!
//! In this order, in 64-bit numbers:
//!
//! 1. find the leads;
//! 2. choose the window, and up to 5 s of recording on each side, so that filters have settled when it begins;
//! 3. refuse samples in the window that are not finite (outside it they end the margin);
//! 4. order and derive the leads;
//! 5. resample to 500 Hz;
//! 6. filter (the preset's steps);
//! 7. cut the window;
//! 8. find R peaks in lead II and assess quality;
//! 9. round to 32 bits.
//!
//! A recording at 500 Hz under preset `raw` comes out exactly as its physical values, rounded to 32 bits.
//!
//! Electrode offsets of some hundred mV are lawful in raw recordings, deflections are not: a lead in which over one in
//! a hundred samples lies more than 100 mV from the median is refused, because its unit must be wrong.

use ndarray::{s, Array2, ArrayView2, Axis};

use super::lead::{self, Sources};
use super::preset::Preset;
use super::resample::Resampler;
use super::rpeak::{self, Detector};
use super::window::{Span, Window};
use super::{quality, window};
use crate::data::ecg::{Ecg, Lead, LEADS};
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

/// Rate of a prepared ECG, Hz.
pub const RATE_HZ: f64 = 500.0;
/// Samples of a prepared ECG.
pub const SAMPLES: usize = 5000;
/// Recording kept on each side of the window while filtering, s.
const MARGIN_SECONDS: f64 = 5.0;
/// No ECG deflects further, mV.
const TALL_MV: f64 = 100.0;

/// What the user may choose.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PrepareOptions {
    /// How to clean.
    pub preset: Preset,
    /// Mains frequency to remove, Hz.
    pub mains_hz: Option<f64>,
    /// Which ten seconds.
    pub window: Window,
    /// Whether to fill a short recording with zeros.
    pub pad: bool,
    /// How to find R peaks.
    pub detector: Detector,
}

impl PrepareOptions {
    /// What [`prepare`] does, in words, for provenance.
    ///
    /// # Errors
    /// Where the preset has no place for a mains notch, or the rate of a prepared ECG has none at that frequency.
    pub fn steps(&self) -> Result<Vec<String>> {
        if let Some(hz) = self.mains_hz.filter(|hz| !(0.0 < *hz && *hz < RATE_HZ / 2.0)) {
            let expected = format!("expected above 0 and below {} Hz, found {hz} Hz", RATE_HZ / 2.0);
            return Err(Error::usage(format!("mains frequency: {expected}")));
        }
        let mut steps = vec![
            "leads: standard order, missing limb leads from I and II".to_owned(),
            format!("resample to {RATE_HZ} Hz: Kaiser-windowed sinc"),
        ];
        steps.extend(self.preset.steps(self.mains_hz)?.iter().map(ToString::to_string));
        let short = if self.pad { "zeros after a shorter one" } else { "shorter refused" };
        steps.push(match self.window {
            Window::Centre => format!("window: centre {} s, {short}", window::SECONDS),
            Window::Start(second) => format!("window: {} s from second {second}, {short}", window::SECONDS),
        });
        steps.push(format!("R peaks: lead II, {}", self.detector.name()));
        Ok(steps)
    }
}

/// Prepares one recording.
///
/// ```
/// use ecgflow::data::{ecg::Lead, recording::Recording};
/// use ecgflow::signal::prepare::{prepare, PrepareOptions};
/// let names = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"].map(str::to_owned).to_vec();
/// let wave = ndarray::Array2::from_shape_fn((8, 2500), |(_, n)| if n % 200 == 100 { 1.0 } else { 0.0 });
/// let ecg = prepare(Recording::new("p1", names, 250.0, wave)?, &PrepareOptions::default())?;
/// assert_eq!(ecg.samples_mv.dim(), (12, 5000));
/// assert_eq!(ecg.heart_rate, 75.0);
/// # Ok::<(), ecgflow::Error>(())
/// ```
///
/// # Errors
/// Where leads are missing or double, the recording is too short, holds samples that are not finite or far too tall, or
/// the rate is outside 50 to 20000 Hz. Each names the record.
pub fn prepare(recording: Recording, options: &PrepareOptions) -> Result<Ecg> {
    let id = recording.id.clone();
    prepare_named(recording, options).map_err(|e| e.in_record(id))
}

fn prepare_named(recording: Recording, options: &PrepareOptions) -> Result<Ecg> {
    let sources = lead::find(&recording)?;
    let resampler = Resampler::new(recording.rate_hz, RATE_HZ)?;
    let samples = recording.samples_mv.view();
    let span = options.window.span(samples.ncols(), recording.rate_hz, options.pad)?;
    check_values(&sources, samples, span)?;
    let wide = widen(&sources, samples, span, (MARGIN_SECONDS * recording.rate_hz) as usize);
    let inside = samples.slice(s![.., span.start..span.end]);
    let einthoven_mv = sources.einthoven_mv(inside);

    let ordered = sources.order(samples.slice(s![.., wide.start..wide.end]));
    let origin = span.start - wide.start;
    let before = (origin as f64 * RATE_HZ / recording.rate_hz) as usize;
    let after = resampler.length(wide.end - span.start);
    let recorded = resampler.length(span.end - span.start).min(SAMPLES);
    let mut x = resample(&resampler, &ordered, origin, before, after)?; // 12 x (before + after)
    let window = s![.., before..before + recorded];
    let unfiltered = x.slice(window).to_owned();
    for step in options.preset.steps(options.mains_hz)? {
        step.apply(&mut x, RATE_HZ)?;
    }
    let r_peak = find_peaks(&x, before, recorded, options.detector)?;
    let quality = quality::assess(unfiltered.view(), einthoven_mv, &r_peak, RATE_HZ);
    let heart_rate = rpeak::heart_rate(&r_peak, RATE_HZ) as f32;
    let mut samples_mv = Array2::zeros((LEADS, SAMPLES));
    samples_mv.slice_mut(s![.., ..recorded]).assign(&x.slice(window).mapv(|v| v as f32));
    let r_peak = r_peak.into_iter().filter_map(|p| i32::try_from(p).ok()).collect();
    let ecg = Ecg { id: recording.id, rate_hz: RATE_HZ, samples_mv, r_peak, heart_rate, quality };
    ecg.check()?;
    Ok(ecg)
}

/// Refuses samples of needed leads in the window that are not finite, and leads that cannot be in mV.
fn check_values(sources: &Sources, samples: ArrayView2<f64>, span: Span) -> Result<()> {
    for (lead, row) in sources.needed() {
        let values = samples.index_axis(Axis(0), row);
        let values = values.slice(s![span.start..span.end]);
        let field = |at: usize| format!("lead {lead}, sample {at}");
        if let Some((at, value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            let fault = Fault::new("checking ECG", "the window holds a missing sample").field(field(span.start + at));
            let fault = fault.expected("a finite value in mV", value);
            return Err(fault.hint("choose a window without gaps with --window, or drop the record").into());
        }
        let tall = tall_mv(values.to_vec());
        if tall > TALL_MV {
            let fault = Fault::new("checking ECG", "far too tall for an ECG").field(field(span.start));
            let fault = fault.expected(format!("at most {TALL_MV} mV from the median"), format!("{tall:.1} mV"));
            return Err(fault.hint("is the unit right? see --units").into());
        }
    }
    Ok(())
}

/// 99th percentile of the distance from the median.
fn tall_mv(mut values: Vec<f64>) -> f64 {
    let n = values.len();
    if n == 0 {
        return 0.0;
    }
    let median = *values.select_nth_unstable_by(n / 2, f64::total_cmp).1;
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    *values.select_nth_unstable_by(n * 99 / 100, f64::total_cmp).1
}

/// The window with up to `margin` samples on each side, as far as all needed leads are finite.
fn widen(sources: &Sources, samples: ArrayView2<f64>, span: Span, margin: usize) -> Span {
    let finite = |&n: &usize| sources.needed().all(|(_, row)| samples.get((row, n)).is_some_and(|v| v.is_finite()));
    let left = (span.start.saturating_sub(margin)..span.start).rev().take_while(finite).count();
    let right = (span.end..samples.ncols().min(span.end.saturating_add(margin))).take_while(finite).count();
    Span { start: span.start - left, end: span.end + right }
}

/// All leads at the new rate: `before` samples before input sample `origin`, `after` from it on.
fn resample(by: &Resampler, x: &Array2<f64>, origin: usize, before: usize, after: usize) -> Result<Array2<f64>> {
    let count = before + after;
    let rows = x.rows().into_iter().flat_map(|row| by.part(&row.to_vec(), origin, -(before as i64), count));
    Array2::from_shape_vec((x.nrows(), count), rows.collect()).map_err(Error::compute("resampling ECG"))
}

/// R peaks of the window. The published rule takes its mean from the window; the other detector hears the margin too.
fn find_peaks(x: &Array2<f64>, before: usize, recorded: usize, detector: Detector) -> Result<Vec<usize>> {
    let lead: Vec<f64> = x.row(Lead::II as usize).to_vec();
    if detector == Detector::Published {
        let window: Vec<f64> = lead.into_iter().skip(before).take(recorded).collect();
        return detector.find(&window, RATE_HZ);
    }
    let peaks = detector.find(&lead, RATE_HZ)?.into_iter().filter_map(|p| p.checked_sub(before));
    Ok(peaks.filter(|&p| p < recorded).collect())
}

#[cfg(test)]
mod tests;
