//! The 12-lead ECG of a digital heart.
//!
//! A dipole turns through P, QRS, ST and T of every beat (after McSharry et al., IEEE Trans Biomed Eng 2003;50:289, with
//! waves in space), sways with breathing, and is seen by twelve leads through the lead field of a body (`torso`). Every
//! field of [`Electrics`] is met by construction: parts are laid out in shares of the duration asked for, then the loop is
//! turned and scaled until it has the axis and the size asked for.
//!
//! The R peak is where lead II has the extreme of QRS before noise, as paper shows it (10 ms smooth, against the level around
//! it): the highest point, unless the sinus beats of the record go down half as far again as they go up; then the lowest. The
//! extra beats of a record have a direction of their own by the same rule.

use ndarray::Array2;

use crate::data::ecg::{Lead, LEADS};
use crate::data::recording::Recording;
use crate::random::Stream;

mod atrium;
mod heart;
mod noise;
mod recovery;
mod rhythm;
mod torso;
mod vector;
mod ventricle;
mod wave;

pub use noise::NoiseLevels;

use heart::Heart;
use torso::RECORDED;

/// Length of a record, s.
pub const SECONDS: f64 = 10.0;
/// Samples a second and lead.
pub const RATE_HZ: f64 = 500.0;
/// Samples computed before and after the record, so that beats at its ends are whole.
const MARGIN: usize = 250;

/// How the impulse reaches the ventricles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conduction {
    /// By both bundle branches.
    #[default]
    Normal,
    /// Left bundle branch block: the left ventricle is reached from the right.
    LeftBlock,
    /// Right bundle branch block: the right ventricle is reached last.
    RightBlock,
}

/// Part of the left ventricle, by the coronary artery that feeds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Territory {
    /// Left anterior descending artery: anterior wall, septum, apex.
    Anterior,
    /// Right coronary artery: inferior wall.
    Inferior,
    /// Circumflex artery: lateral wall.
    Lateral,
}

/// A scar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Infarct {
    /// Where.
    pub territory: Territory,
    /// Share of the wall that no longer conducts, 0 to 1.
    pub extent: f64,
}

/// What the electrocardiograph sees of one heart at rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Electrics {
    /// Beats a minute.
    pub heart_rate: f64,
    /// Standard deviation of the RR interval over ten seconds, ms.
    pub rr_sd_ms: f64,
    /// Share of beats that come early from a ventricle.
    pub ectopy: f64,
    /// P to R (onset to onset), ms.
    pub pr_ms: f64,
    /// Duration of P, ms.
    pub p_ms: f64,
    /// Height of P in lead II, mV.
    pub p_mv: f64,
    /// Size of the negative end of P in V1, mV (left atrial enlargement).
    pub p_terminal_mv: f64,
    /// Duration of QRS, ms.
    pub qrs_ms: f64,
    /// Axis of QRS in the frontal plane, degrees, 0 = lead I, 90 = aVF: before a scar, and with a block of the right bundle
    /// that of the left ventricle's part.
    pub axis_deg: f64,
    /// Largest length of the QRS vector at the body surface, mV, before a scar.
    pub qrs_mv: f64,
    /// How the ventricles are reached.
    pub conduction: Conduction,
    /// QT interval corrected by Fridericia, ms.
    pub qtc_ms: f64,
    /// Largest length of the T vector at the body surface, mV.
    pub t_mv: f64,
    /// Angle between the mean vectors of QRS and T, degrees; 180 = inverted T.
    pub qrs_t_deg: f64,
    /// Level of ST against the baseline along the QRS direction, mV; negative with strain.
    pub st_mv: f64,
    /// A scar, where there is one.
    pub infarct: Option<Infarct>,
    /// Turn of the heart about its long axis, degrees; moves the transition in the chest leads: to V5 where positive
    /// (clockwise, seen from below), to V2 where negative.
    pub rotation_deg: f64,
}

impl Electrics {
    /// A healthy heart of middle age at rest.
    pub fn healthy() -> Electrics {
        Electrics {
            heart_rate: 62.0,
            rr_sd_ms: 35.0,
            ectopy: 0.0,
            pr_ms: 160.0,
            p_ms: 104.0,
            p_mv: 0.13,
            p_terminal_mv: 0.03,
            qrs_ms: 90.0,
            axis_deg: 45.0,
            qrs_mv: 1.5,
            conduction: Conduction::Normal,
            qtc_ms: 415.0,
            t_mv: 0.45,
            qrs_t_deg: 50.0,
            st_mv: 0.03,
            infarct: None,
            rotation_deg: 0.0,
        }
    }

    /// The nearest values that a living heart may have; what is not a number becomes the healthy one.
    fn clamped(&self) -> Electrics {
        let healthy = Electrics::healthy();
        let within = |value: f64, usual: f64, low: f64, high: f64| {
            if value.is_nan() {
                usual
            } else {
                value.clamp(low, high)
            }
        };
        let infarct = self.infarct.map(|infarct| Infarct { extent: within(infarct.extent, 0.0, 0.0, 1.0), ..infarct });
        Electrics {
            heart_rate: within(self.heart_rate, healthy.heart_rate, 30.0, 200.0),
            rr_sd_ms: within(self.rr_sd_ms, healthy.rr_sd_ms, 0.0, 300.0),
            ectopy: within(self.ectopy, 0.0, 0.0, 0.5),
            pr_ms: within(self.pr_ms, healthy.pr_ms, 80.0, 400.0),
            p_ms: within(self.p_ms, healthy.p_ms, 40.0, 200.0),
            p_mv: within(self.p_mv, healthy.p_mv, 0.0, 1.0),
            p_terminal_mv: within(self.p_terminal_mv, healthy.p_terminal_mv, 0.0, 0.5),
            qrs_ms: within(self.qrs_ms, healthy.qrs_ms, 60.0, 240.0),
            axis_deg: within(self.axis_deg, healthy.axis_deg, -180.0, 360.0),
            qrs_mv: within(self.qrs_mv, healthy.qrs_mv, 0.05, 10.0),
            conduction: self.conduction,
            qtc_ms: within(self.qtc_ms, healthy.qtc_ms, 250.0, 700.0),
            t_mv: within(self.t_mv, healthy.t_mv, 0.0, 3.0),
            qrs_t_deg: within(self.qrs_t_deg, healthy.qrs_t_deg, 0.0, 180.0),
            st_mv: within(self.st_mv, healthy.st_mv, -1.0, 1.0),
            infarct,
            rotation_deg: within(self.rotation_deg, 0.0, -60.0, 60.0),
        }
    }
}

/// A beat whose R peak is inside the record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beat {
    /// Onset of QRS, s from the start of the record.
    pub onset_s: f64,
    /// R peak, sample number.
    pub r_peak: i32,
    /// Whether it came from a ventricle.
    pub is_ectopic: bool,
}

/// A record and the truth about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// 12 leads, 10 s at 500 Hz, mV in steps of 1 uV; the caller gives it a name.
    pub recording: Recording,
    /// R peaks, sample numbers, rising.
    pub r_peak: Vec<i32>,
    /// The beats of those R peaks.
    pub beats: Vec<Beat>,
}

/// Records ten seconds that begin anywhere in the cycle.
///
/// The same stream gives the same record. Values no heart has are moved to the nearest that one may have.
pub fn record(electrics: &Electrics, noise: &NoiseLevels, random: &mut Stream) -> Tracing {
    let electrics = &electrics.clamped();
    let heart = Heart::draw(electrics, random);
    let mut leads = heart.leads(random);
    let beats = heart.beats(&leads);
    noise.add(&mut leads, heart.breath, random);
    Tracing { recording: recording(&leads), r_peak: beats.iter().map(|beat| beat.r_peak).collect(), beats }
}

/// Twelve leads in steps of 1 uV, without the margin; limb leads follow from the rounded I and II.
fn recording(leads: &[Vec<f64>; RECORDED]) -> Recording {
    let round = |v: f64| (v * 1000.0).round() / 1000.0;
    let at = |row: usize, n: usize| leads.get(row).and_then(|lead| lead.get(n + MARGIN)).map_or(0.0, |v| round(*v));
    let samples_mv = Array2::from_shape_fn((LEADS, (SECONDS * RATE_HZ) as usize), |(lead, n)| {
        let (one, two) = (at(0, n), at(1, n));
        match lead {
            0 => one,
            1 => two,
            2 => round(two - one),
            3 => round(-(one + two) / 2.0),
            4 => round(one - two / 2.0),
            5 => round(two - one / 2.0),
            _ => at(lead - 4, n),
        }
    });
    let names = Lead::ALL.map(|lead| lead.name().to_owned()).to_vec();
    Recording { id: String::new(), leads: names, rate_hz: RATE_HZ, samples_mv, notes: Vec::new() }
}
