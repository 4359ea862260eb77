//! What speaks against using a record ([`assess`]): defects of the recording, noise, leads that are not what their names
//! say, a heart that beats oddly. Each reason has a code, words, and a weight; together they make the verdict.
//!
//! | code | bad | usable | how it is found |
//! |---|---|---|---|
//! | `missing-lead`, `short`, `missing-samples`, `rate` | always | | the record cannot be prepared ([`Report::refused`]) |
//! | `flat-lead` | a lead moves by less than 1 uV | stands still for 0.5 s | standard deviation, runs of one value |
//! | `clipping` | over 5 % of a lead | | plateaus at the extreme that begin or end steeply |
//! | `mains` | | 30 uV at 50 or 60 Hz | amplitude of that sine, against its neighbours |
//! | `wander` | | 0.25 mV below 0.67 Hz | what the high-pass takes away |
//! | `muscle-noise` | | 30 uV above 40 Hz | median over pieces of 50 ms of what the low-pass takes away |
//! | `noise` | beats differ by more than half of what they move | | power around the median beat, after cleaning |
//! | `limb-identities` | limb leads contradict each other by 0.1 mV | | Einthoven and Goldberger |
//! | `inverted-lead`, `duplicate-lead` | always | | see [`place`] |
//! | `arm-reversal`, `chest-order` | | always: a guess | see [`place`] |
//! | `gain` | QRS above 7 mV or below 0.15 mV in every lead | | height of the median beat |
//! | `rate-suspicion` | beats too short or too long to be a heart's | | width of QRS with heart rate, see [`beat`] |
//! | `few-beats`, `heart-rate` | under two R peaks; outside 25 to 220 a minute | | R peaks |
//! | `ectopy` | | over 20 % of the beats | beats of another shape, or early with a pause after |
//!
//! The thresholds are ours. They were set on simulated records and looked at on the few real ones at hand
//! (`tests/quality.rs` prints both); no large labelled set has judged them.

use ndarray::ArrayView2;

use super::lead::Sources;
use super::rpeak;
use super::statistic::{deviation, values};
use crate::data::ecg::{Lead, Quality, Verdict, LEADS};
use crate::error::Error;

pub mod advice;
pub mod beat;
pub mod noise;
pub mod place;

use beat::Beats;

/// A lead that moves less than this is flat, mV.
const FLAT_MV: f64 = 1e-3;
/// A lead that keeps one value for so long was not connected, s.
const STILL_SECONDS: f64 = 0.5;
/// Limb leads that contradict each other by more are not what their names say, mV.
const IDENTITY_MV: f64 = 0.1;
/// Below this, most beats differ from the median beat by more than half of what it moves, dB.
const NOISY_DB: f64 = 6.0;
/// Heart rates outside are more often a failed detection than a heart, beats a minute.
const RATES: std::ops::RangeInclusive<f64> = 25.0..=220.0;
const MAINS_UV: f64 = 30.0;
const WANDER_UV: f64 = 250.0;
const MUSCLE_UV: f64 = 30.0;
/// Share of clipped samples above which a lead is lost, percent.
const CLIPPED_PERCENT: f64 = 5.0;
const ECTOPY_PERCENT: f64 = 20.0;
/// Height of QRS in the lead where it is highest, mV.
const QRS_MV: std::ops::RangeInclusive<f64> = 0.15..=7.0;

/// One record to be judged: the window as it came and as it is prepared.
pub struct Subject<'a> {
    /// The record's name.
    pub id: &'a str,
    /// Which leads were recorded.
    pub sources: &'a Sources,
    /// 12 x samples as recorded, mV.
    pub recorded: ArrayView2<'a, f64>,
    /// Samples a second of `recorded`.
    pub recorded_hz: f64,
    /// 12 x samples at the rate of the output, before any filter, mV.
    pub unfiltered: ArrayView2<'a, f64>,
    /// The same from 0.67 to 40 Hz.
    pub clean: ArrayView2<'a, f64>,
    /// Samples a second of the last two.
    pub rate_hz: f64,
    /// R peaks, sample numbers at `rate_hz`.
    pub r_peak: &'a [usize],
}

/// What was measured. Where a value is one of twelve leads it is the worst.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measures {
    /// Beats a minute.
    pub heart_rate: f64,
    /// R peaks.
    pub beats: usize,
    /// Standard deviation of the intervals between R peaks, ms.
    pub rr_sd_ms: f64,
    /// Beats of another shape or early with a pause, percent.
    pub ectopy_percent: f64,
    /// Signal to noise of lead II after cleaning, dB.
    pub snr_db: f64,
    /// Amplitude at 50 or 60 Hz, uV.
    pub mains_uv: f64,
    /// Root mean square below 0.67 Hz, uV.
    pub wander_uv: f64,
    /// Root mean square above 40 Hz between the beats, uV.
    pub muscle_uv: f64,
    /// Clipped samples, percent.
    pub clipped_percent: f64,
    /// Root mean square of I + III - II, mV.
    pub einthoven_mv: f64,
    /// Width of QRS, ms.
    pub qrs_ms: f64,
    /// Height of QRS in the lead where it is highest, mV.
    pub qrs_mv: f64,
}

/// The verdict on a record, with its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The record's name.
    pub id: String,
    /// Whether it can be used.
    pub verdict: Verdict,
    /// Why it is not good, each as `code: words`.
    pub reasons: Vec<String>,
    /// What was measured; nothing where the record could not be prepared.
    pub measures: Option<Measures>,
}

impl Report {
    /// The report on a record that cannot be prepared.
    pub fn refused(id: &str, code: &str, error: &Error) -> Report {
        let words = match error {
            Error::Input(fault) => {
                let place = fault.field.iter().map(|field| format!("{field}: ")).collect::<String>();
                let pair = fault.expected.as_ref().zip(fault.found.as_ref());
                match (fault.cause.as_str(), pair.map(|(e, f)| format!("expected {e}, found {f}"))) {
                    ("", pair) => place + &pair.unwrap_or_default(),
                    (cause, Some(pair)) => format!("{place}{cause} ({pair})"),
                    (cause, None) => place + cause,
                }
            }
            other => other.to_string(),
        };
        let reasons = vec![format!("{code}: {words}")];
        Report { id: id.to_owned(), verdict: Verdict::Bad, reasons, measures: None }
    }

    /// The codes of its reasons.
    pub fn codes(&self) -> Vec<&str> {
        self.reasons.iter().filter_map(|reason| reason.split_once(": ")).map(|(code, _)| code).collect()
    }
}

/// Reasons as they are found.
#[derive(Default)]
pub(super) struct Findings {
    verdict: Verdict,
    reasons: Vec<String>,
}

impl Findings {
    fn add(&mut self, verdict: Verdict, code: &str, words: impl std::fmt::Display) {
        self.verdict = self.verdict.min(verdict);
        self.reasons.push(format!("{code}: {words}"));
    }
}

/// Judges a record.
pub fn assess(subject: &Subject) -> (Quality, Report) {
    let mut found = Findings::default();
    let flat = flat(subject, &mut found);
    let clipped_percent = clipping(subject, &flat, &mut found);
    let beats = Beats::of(subject.clean, subject.r_peak, subject.rate_hz);
    let rhythm = rhythm(subject, &beats, &mut found);
    let noise = noise::measure(subject.unfiltered, subject.clean, subject.rate_hz);
    judge_noise(&noise, &mut found);
    let lead = subject.clean.row(Lead::II as usize);
    let snr_db = beat::signal_to_noise_db(lead, subject.r_peak, subject.rate_hz);
    if snr_db < NOISY_DB {
        found.add(Verdict::Bad, "noise", format!("beats of lead II differ: signal to noise {snr_db:.1} dB"));
    }
    let einthoven_mv = identities(subject, &mut found);
    place::judge(subject, &beats, &flat, &mut found);
    let measures = Measures {
        clipped_percent,
        snr_db,
        mains_uv: noise.mains_uv,
        wander_uv: noise.wander_uv,
        muscle_uv: noise.muscle_uv,
        einthoven_mv,
        ..rhythm
    };
    let quality = Quality {
        flat,
        einthoven_mv: einthoven_mv as f32,
        rr_sd_ms: measures.rr_sd_ms as f32,
        verdict: found.verdict,
        reasons: found.reasons.clone(),
    };
    let Findings { verdict, reasons } = found;
    (quality, Report { id: subject.id.to_owned(), verdict, reasons, measures: Some(measures) })
}

/// Leads that do not move, or stand still for a while.
fn flat(subject: &Subject, found: &mut Findings) -> [bool; LEADS] {
    let mut flat = [false; LEADS];
    let (mut whole, mut part) = (Vec::new(), Vec::new());
    let least = (STILL_SECONDS * subject.recorded_hz).ceil().max(2.0) as usize;
    for ((lead, flat), row) in Lead::ALL.iter().zip(&mut flat).zip(subject.recorded.rows()) {
        let row = values(row);
        *flat = deviation(&row) < FLAT_MV;
        if *flat {
            whole.push(lead.name());
        } else if let Some((start, length)) = longest_run(&row, least) {
            let seconds = |n: usize| n as f64 / subject.recorded_hz;
            part.push(format!("{lead} from {:.1} to {:.1} s", seconds(start), seconds(start + length)));
        }
    }
    if !whole.is_empty() {
        found.add(Verdict::Bad, "flat-lead", format!("{} does not move", whole.join(", ")));
    }
    if part.len() == LEADS {
        found.add(Verdict::Bad, "short", format!("all leads stand still: {}", part.first().map_or("", |p| p.as_str())));
    } else if !part.is_empty() {
        found.add(Verdict::Usable, "flat-lead", format!("stands still: {}", part.join(", ")));
    }
    flat
}

/// Start and length of the first longest run of one value, of those of `least` samples at least.
fn longest_run(x: &[f64], least: usize) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    let mut at = least - 1; // a run that begins before and is long enough holds this sample
    while let Some(value) = x.get(at) {
        let before = x.iter().take(at).rev().take_while(|v| *v == value).count();
        let after = x.iter().skip(at).take_while(|v| *v == value).count();
        let length = before + after;
        if length >= best.map_or(least, |(_, longest)| longest + 1) {
            best = Some((at - before, length));
        }
        at += after.max(1) + least - 1;
    }
    best
}

/// Share of clipped samples in the worst recorded lead, percent.
fn clipping(subject: &Subject, flat: &[bool; LEADS], found: &mut Findings) -> f64 {
    let mut worst = 0.0f64;
    let mut names = Vec::new();
    let rows = Lead::ALL.iter().zip(subject.recorded.rows()).zip(flat.iter().zip(subject.sources.derived()));
    for ((lead, row), (flat, derived)) in rows {
        if *flat || derived {
            continue;
        }
        let share = 100.0 * noise::clipped(&values(row), subject.recorded_hz) as f64 / row.len().max(1) as f64;
        worst = worst.max(share);
        if share > 0.0 {
            names.push(format!("{lead} {share:.1} %"));
        }
    }
    if !names.is_empty() {
        let verdict = if worst > CLIPPED_PERCENT { Verdict::Bad } else { Verdict::Usable };
        found.add(verdict, "clipping", format!("samples cut off at the extreme: {}", names.join(", ")));
    }
    worst
}

/// Heart rate, ectopy, and what the median beat says about gain and rate.
fn rhythm(subject: &Subject, beats: &Beats, found: &mut Findings) -> Measures {
    let heart_rate = rpeak::heart_rate(subject.r_peak, subject.rate_hz);
    let (qrs_ms, qrs_mv) = (beats.qrs_ms(), beats.qrs_mv());
    let ectopy_percent = beats.ectopy_percent();
    if subject.r_peak.len() < 2 {
        found.add(Verdict::Bad, "few-beats", format!("{} R peaks in lead II", subject.r_peak.len()));
    } else if !RATES.contains(&heart_rate) {
        found.add(Verdict::Bad, "heart-rate", format!("{heart_rate:.0} beats a minute"));
    }
    if qrs_mv.is_finite() && !QRS_MV.contains(&qrs_mv) {
        found.add(Verdict::Bad, "gain", format!("the highest QRS is {qrs_mv:.2} mV; is the unit or the gain right?"));
    }
    if let Some(words) = beats.wrong_rate(heart_rate) {
        found.add(Verdict::Bad, "rate-suspicion", words);
    }
    if ectopy_percent > ECTOPY_PERCENT {
        found.add(Verdict::Usable, "ectopy", format!("{ectopy_percent:.0} % of the beats"));
    }
    let rr_sd_ms = rpeak::rr_sd_ms(subject.r_peak, subject.rate_hz);
    let beats = subject.r_peak.len();
    Measures { heart_rate, beats, rr_sd_ms, ectopy_percent, qrs_ms, qrs_mv, ..Measures::default() }
}

fn judge_noise(noise: &noise::Noise, found: &mut Findings) {
    if noise.mains_uv > MAINS_UV {
        let words = format!(
            "{:.0} uV at {} Hz in {}; --mains {} removes it",
            noise.mains_uv, noise.mains_hz, noise.mains_lead, noise.mains_hz
        );
        found.add(Verdict::Usable, "mains", words);
    }
    if noise.wander_uv > WANDER_UV {
        found.add(
            Verdict::Usable,
            "wander",
            format!("{:.0} uV below 0.67 Hz in {}", noise.wander_uv, noise.wander_lead),
        );
    }
    if noise.muscle_uv > MUSCLE_UV {
        let words = format!("{:.0} uV above 40 Hz in {}", noise.muscle_uv, noise.muscle_lead);
        found.add(Verdict::Usable, "muscle-noise", words);
    }
}

/// Root mean square of I + III - II, mV, and 0 where III was derived; the other identities are judged too.
fn identities(subject: &Subject, found: &mut Findings) -> f64 {
    let derived = subject.sources.derived();
    let broken = place::identities(subject.clean, &derived); // noise that each lead has for itself breaks no law
    for (name, mv) in broken.iter().filter(|(_, mv)| *mv > IDENTITY_MV) {
        found.add(Verdict::Bad, "limb-identities", format!("{name} is off by {mv:.2} mV"));
    }
    place::identities(subject.recorded, &derived).first().map_or(0.0, |(_, mv)| *mv)
}

#[cfg(test)]
mod tests;
