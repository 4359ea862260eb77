//! The whole way from a recording to a prepared ECG: twelve leads, mV, 10 s, at 500 Hz unless a step says otherwise.
//!
//! In this order, in 64-bit numbers:
//!
//! 1. find the leads;
//! 2. choose the window, and up to 5 s of recording on each side, so that filters have settled when it begins;
//! 3. refuse samples in the window that are not finite (outside it they end the margin);
//! 4. order and derive the leads;
//! 5. resample;
//! 6. filter (the steps before the first that needs the window alone), find R peaks in lead II;
//! 7. cut the window, do the other steps;
//! 8. assess quality, on the recording as it came and on the leads from 0.67 to 40 Hz;
//! 9. round to 32 bits.
//!
//! A recording at 500 Hz under preset `raw` comes out exactly as its physical values, rounded to 32 bits.
//!
//! Electrode offsets of some hundred mV are lawful in raw recordings, deflections are not: a lead in which over one in
//! a hundred samples lies more than 100 mV from the median is refused, because its unit must be wrong.

use ndarray::{s, Array2, ArrayView2, CowArray, Ix2};

use super::lead::{self, Sources};
use super::preset::Preset;
use super::quality::{self, Report, Subject};
use super::resample::Resampler;
use super::rpeak::{self, Detector};
use super::statistic::{are_finite, extremes, values};
use super::step::Step;
use super::window::{self, Span, Window};
use crate::data::ecg::{Ecg, Lead, LEADS};
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

/// Rate of a prepared ECG unless a step says otherwise, Hz.
pub const RATE_HZ: f64 = 500.0;
/// Recording kept on each side of the window while filtering, s.
const MARGIN_SECONDS: f64 = 5.0;
/// No ECG deflects further, mV.
const TALL_MV: f64 = 100.0;

/// What the user may choose.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PrepareOptions {
    /// How to clean.
    pub preset: Preset,
    /// Steps given by hand, in place of the preset's.
    pub steps: Option<Vec<Step>>,
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
    /// The name of the way to clean: the preset's, or `steps` for a list given by hand.
    pub fn name(&self) -> &'static str {
        if self.steps.is_some() {
            "steps"
        } else {
            self.preset.name()
        }
    }

    /// The steps, in their order.
    ///
    /// # Errors
    /// Where the preset has no place for a mains notch.
    pub fn recipe(&self) -> Result<Vec<Step>> {
        match &self.steps {
            Some(steps) => Ok(steps.clone()),
            None => self.preset.steps(self.mains_hz),
        }
    }

    /// Rate of the prepared ECG, Hz.
    ///
    /// # Errors
    /// Where the preset has no place for a mains notch.
    pub fn rate_hz(&self) -> Result<f64> {
        let rate_of = |step: &Step| if let Step::Resample { hz } = step { Some(*hz) } else { None };
        Ok(self.recipe()?.iter().find_map(rate_of).unwrap_or(RATE_HZ))
    }

    /// What [`prepare`] does, in words, for provenance.
    ///
    /// # Errors
    /// Where a filter has no place: a preset without room for a mains notch, a frequency beyond half the rate.
    pub fn describe(&self) -> Result<Vec<String>> {
        let (recipe, rate_hz) = (self.recipe()?, self.rate_hz()?);
        if let Some(hz) = self.mains_hz.filter(|hz| !(0.0 < *hz && *hz < rate_hz / 2.0)) {
            let expected = format!("expected above 0 and below {} Hz, found {hz} Hz", rate_hz / 2.0);
            return Err(Error::usage(format!("mains frequency: {expected}")));
        }
        for step in &recipe {
            step.filter(rate_hz).map_err(|e| Error::usage(format!("{step} at {rate_hz} Hz: {e}")))?;
        }
        let mut steps = vec![
            "leads: standard order, missing limb leads from I and II".to_owned(),
            Step::Resample { hz: rate_hz }.to_string(),
        ];
        let is_resample = |step: &&Step| matches!(step, Step::Resample { .. });
        steps.extend(recipe.iter().filter(|step| !is_resample(step)).map(ToString::to_string));
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
    prepare_and_report(recording, options).1
}

/// Prepares one recording and judges it; a recording that cannot be prepared is judged too.
pub fn prepare_and_report(recording: Recording, options: &PrepareOptions) -> (Report, Result<Ecg>) {
    let id = recording.id.clone();
    match run(recording, options) {
        Ok((ecg, report)) => (report, Ok(ecg)),
        Err((code, error)) => {
            let error = error.in_record(&id);
            (Report::refused(&id, code, &error), Err(error))
        }
    }
}

/// An error with the code of the defect it names.
type Coded = (&'static str, Error);

/// Gives an error its code.
fn code(code: &'static str) -> impl Fn(Error) -> Coded {
    move |error| (code, error)
}

fn run(recording: Recording, options: &PrepareOptions) -> std::result::Result<(Ecg, Report), Coded> {
    let (recipe, rate_hz) = options.recipe().and_then(|r| Ok((r, options.rate_hz()?))).map_err(code("options"))?;
    let sources = lead::find(&recording).map_err(code("missing-lead"))?;
    let resampler = Resampler::new(recording.rate_hz, rate_hz).map_err(code("rate"))?;
    let samples = recording.samples_mv.view();
    let span = options.window.span(samples.ncols(), recording.rate_hz, options.pad).map_err(code("short"))?;
    check_values(&sources, samples, span)?;
    let wide = widen(&sources, samples, span, (MARGIN_SECONDS * recording.rate_hz) as usize);
    let ordered = sources.order(samples.slice(s![.., wide.start..wide.end]));
    let origin = span.start - wide.start;
    let before = (origin as f64 * rate_hz / recording.rate_hz) as usize;
    let after = resampler.length(wide.end - span.start);
    let whole = (window::SECONDS * rate_hz).round() as usize;
    let recorded = resampler.length(span.end - span.start).min(whole);
    let resampled = resample(&resampler, ordered.view(), origin, before, after).map_err(code("options"))?;
    let mut x = resampled.to_owned();
    let cut = s![.., before..before + recorded];

    let first = recipe.iter().position(Step::needs_window).unwrap_or(recipe.len());
    let (wide_steps, window_steps) = recipe.split_at(first);
    let mut for_quality = (!is_clean(wide_steps)).then(|| x.clone());
    let apply = |steps: &[Step], x: &mut Array2<f64>| Step::apply_all(steps, x, rate_hz).map_err(code("options"));
    apply(wide_steps, &mut x)?;
    let r_peak = find_peaks(&x, before, recorded, rate_hz, options.detector).map_err(code("options"))?;
    if let Some(copy) = &mut for_quality {
        apply(&Preset::Clean.steps(None).map_err(code("options"))?, copy)?;
    }
    let mut windowed = (!window_steps.is_empty()).then(|| x.slice(cut).to_owned());
    windowed.as_mut().map_or(Ok(()), |windowed| apply(window_steps, windowed))?;
    let windowed = windowed.as_ref().map_or_else(|| x.slice(cut), |windowed| windowed.view());

    let inside = ordered.slice(s![.., origin..origin + span.end - span.start]);
    let subject = Subject {
        id: &recording.id,
        sources: &sources,
        recorded: inside,
        recorded_hz: recording.rate_hz,
        unfiltered: resampled.slice(cut),
        clean: for_quality.as_ref().unwrap_or(&x).slice(cut),
        rate_hz,
        r_peak: &r_peak,
    };
    let (quality, report) = quality::assess(&subject);
    let heart_rate = rpeak::heart_rate(&r_peak, rate_hz) as f32;
    let mut samples_mv = Array2::zeros((LEADS, whole));
    samples_mv.slice_mut(s![.., ..recorded]).zip_mut_with(&windowed, |place, v| *place = *v as f32);
    let r_peak = r_peak.into_iter().filter_map(|p| i32::try_from(p).ok()).collect();
    let ecg = Ecg { id: recording.id, rate_hz, samples_mv, r_peak, heart_rate, quality };
    ecg.check().map_err(code("options"))?;
    Ok((ecg, report))
}

/// Whether the leads come out of these steps as quality wants them, from 0.67 to 40 Hz.
fn is_clean(steps: &[Step]) -> bool {
    let asked = |step: &Step| matches!(step, Step::HighPass { hz: 0.67, .. } | Step::LowPass { hz: 40.0, .. });
    let harmless = |step: &Step| asked(step) || matches!(step, Step::Notch { .. } | Step::Resample { .. });
    steps.iter().filter(|step| asked(step)).count() == 2 && steps.iter().all(harmless)
}

/// Refuses samples of needed leads in the window that are not finite, and leads that cannot be in mV.
fn check_values(sources: &Sources, samples: ArrayView2<f64>, span: Span) -> std::result::Result<(), Coded> {
    let coded = |code: &'static str, fault: Fault| Err((code, fault.into()));
    let missing = |row: usize| {
        let values = samples.row(row);
        values.iter().skip(span.start).take(span.end - span.start).filter(|v| !v.is_finite()).count()
    };
    let count = || sources.needed().map(|(_, row)| missing(row)).sum::<usize>();
    for (lead, row) in sources.needed() {
        let window = values(samples.slice_move(s![row, span.start..span.end]));
        let field = |at: usize| format!("lead {lead}, sample {at}");
        let unfit = || window.iter().enumerate().find(|(_, v)| !v.is_finite());
        if let Some((at, value)) = if are_finite(&window) { None } else { unfit() } {
            let cause = match count() {
                1 => "the window holds a missing sample".to_owned(),
                count => format!("the window holds {count} missing samples, of which this is the first"),
            };
            let fault = Fault::new("checking ECG", cause).field(field(span.start + at));
            let fault = fault.expected("a finite value in mV", value);
            let hint = "choose a window without gaps with --window, or drop the record";
            return coded("missing-samples", fault.hint(hint));
        }
        let tall = tall_mv(&window);
        if tall > TALL_MV {
            let fault = Fault::new("checking ECG", "far too tall for an ECG").field(field(span.start));
            let fault = fault.expected(format!("at most {TALL_MV} mV from the median"), format!("{tall:.1} mV"));
            return coded("gain", fault.hint("is the unit right? see --units"));
        }
    }
    Ok(())
}

/// 99th percentile of the distance from the median; 0 where no distance can be too large.
fn tall_mv(values: &[f64]) -> f64 {
    let n = values.len();
    let (low, high) = extremes(values);
    if n == 0 || high - low <= TALL_MV {
        return 0.0; // nothing to sort
    }
    let mut values = values.to_vec();
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
fn resample<'a>(
    by: &Resampler,
    x: ArrayView2<'a, f64>,
    origin: usize,
    before: usize,
    after: usize,
) -> Result<CowArray<'a, f64, Ix2>> {
    let count = before + after;
    if by.is_same() && before <= origin && origin + after <= x.ncols() {
        return Ok(x.slice_move(s![.., origin - before..origin + after]).into());
    }
    let mut out = Vec::with_capacity(x.nrows() * count);
    for row in x.rows() {
        out.extend(by.part(&values(row), origin, -(before as i64), count));
    }
    Ok(Array2::from_shape_vec((x.nrows(), count), out).map_err(Error::compute("resampling ECG"))?.into())
}

/// R peaks of the window. The published rule takes its mean from the window; the other detector hears the margin too.
fn find_peaks(x: &Array2<f64>, before: usize, recorded: usize, rate_hz: f64, detector: Detector) -> Result<Vec<usize>> {
    let lead: Vec<f64> = x.row(Lead::II as usize).to_vec();
    if detector == Detector::Published {
        let window: Vec<f64> = lead.into_iter().skip(before).take(recorded).collect();
        return detector.find(&window, rate_hz);
    }
    let peaks = detector.find(&lead, rate_hz)?.into_iter().filter_map(|p| p.checked_sub(before));
    Ok(peaks.filter(|&p| p < recorded).collect())
}

#[cfg(test)]
mod tests;
