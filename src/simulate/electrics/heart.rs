//! One heart in one body: its waves, its beats, and what eight leads see of them.

use super::rhythm::{self, Breath, Event};
use super::torso::{Torso, RECORDED};
use super::vector::{add, dot, scale, turn_frontal, turn_transverse, Vector};
use super::ventricle::{self, Ectopic};
use super::wave::Complex;
use super::{atrium, recovery, recovery::Recovery, Beat, Electrics, MARGIN, RATE_HZ, SECONDS};
use crate::random::Stream;
use crate::signal::rpeak::{as_on_paper, DOWN};

/// The peak on paper is within so many samples of the peak itself.
const NEAR: usize = 4;

/// One heart.
pub struct Heart {
    torso: Torso,
    pr_s: f64,
    p: Complex,
    qrs: Complex,
    recovery: Recovery,
    ectopic: Ectopic,
    /// How the person breathes.
    pub breath: Breath,
    events: Vec<(f64, Event)>,
    /// Sway of the axis with breathing, degrees in the frontal and the transverse plane, and its share in strength.
    sway: [f64; 3],
}

impl Heart {
    /// Draws what differs between people of the same electrics.
    pub fn draw(electrics: &Electrics, random: &mut Stream) -> Heart {
        let torso = Torso::draw(random);
        let p = atrium::draw(electrics, &torso, random);
        let qrs = ventricle::draw(electrics, &torso, random);
        let recovery = recovery::draw(electrics, &qrs, 60.0 / electrics.heart_rate, random);
        let ectopic = ventricle::draw_ectopic(electrics, random);
        let breath = Breath::draw(random);
        let events = rhythm::draw(electrics, breath, random);
        let sway = [random.between(1.0, 4.0), random.between(1.0, 4.0), random.between(0.01, 0.04)];
        Heart { torso, pr_s: electrics.pr_ms / 1000.0, p, qrs, recovery, ectopic, breath, events, sway }
    }

    /// I, II, V1 to V6 without noise, with the margin; beats differ a little from each other.
    pub fn leads(&self, random: &mut Stream) -> [Vec<f64>; RECORDED] {
        let samples = (SECONDS * RATE_HZ) as usize + 2 * MARGIN;
        let mut dipole = vec![[0.0; 3]; samples];
        for &(onset, event) in &self.events {
            let mut near_one = |sd: f64| (sd * random.normal()).exp();
            let (p_size, size, t_size, stretch) = (near_one(0.05), near_one(0.02), near_one(0.03), near_one(0.008));
            let p_onset = onset - self.pr_s + 0.0015 * random.normal();
            let (qrs, recovery) = match event {
                Event::Ventricular => (&self.ectopic.qrs, &self.ectopic.recovery),
                Event::Sinus | Event::Blocked => (&self.qrs, &self.recovery),
            };
            if event != Event::Ventricular {
                put(&mut dipole, p_onset, self.p.end, |t| scale(self.p.at(t), p_size));
            }
            if event != Event::Blocked {
                let recovery = Recovery { stretch, ..recovery.clone() };
                put(&mut dipole, onset, recovery.end(), |t| add(scale(qrs.at(t), size), t_size, recovery.at(t)));
            }
        }
        self.seen(&dipole)
    }

    /// The dipole, swaying with breathing, through the lead field.
    fn seen(&self, dipole: &[Vector]) -> [Vec<f64>; RECORDED] {
        let [frontal, transverse, share] = self.sway;
        let sway = |(n, d): (usize, &Vector)| {
            let air = self.breath.at((n as f64 - MARGIN as f64) / RATE_HZ);
            let turned = turn_transverse(turn_frontal(*d, frontal * air), -transverse * air);
            scale(turned, 1.0 - share * air)
        };
        let swaying: Vec<Vector> = dipole.iter().enumerate().map(sway).collect();
        self.torso.leads.map(|lead| swaying.iter().map(|d| dot(lead, *d)).collect())
    }

    /// The beats whose R peak lies in the record, from the leads before noise.
    pub fn beats(&self, leads: &[Vec<f64>; RECORDED]) -> Vec<Beat> {
        let two = &leads[1];
        let shown = as_on_paper(two, RATE_HZ);
        let whole: Vec<Deflection> = self.events.iter().filter_map(|e| self.deflection(two, &shown, e)).collect();
        let down = |is_ectopic: bool| {
            let same = whole.iter().filter(|d| d.is_ectopic == is_ectopic);
            let (up, down) = same.fold((0.0, 0.0), |(up, down), d| (up + d.highest.1, down + d.lowest.1));
            down > DOWN * up
        };
        let (sinus_down, ectopic_down) = (down(false), down(true));
        let inside = 0..(SECONDS * RATE_HZ) as i32;
        let beat = |d: &Deflection| {
            let is_down = if d.is_ectopic { ectopic_down } else { sinus_down };
            let r_peak = if is_down { d.lowest.0 } else { d.highest.0 } as i32 - MARGIN as i32;
            Beat { onset_s: d.onset_s, r_peak, is_ectopic: d.is_ectopic }
        };
        whole.iter().map(beat).filter(|beat| inside.contains(&beat.r_peak)).collect()
    }

    /// How lead II goes up and down in the QRS of an event, where there is one.
    fn deflection(&self, two: &[f64], shown: &[f64], &(onset_s, event): &(f64, Event)) -> Option<Deflection> {
        let is_ectopic = event == Event::Ventricular;
        let qrs = if is_ectopic { &self.ectopic.qrs } else { &self.qrs };
        let start = onset_s * RATE_HZ + MARGIN as f64;
        let (start, width) = ((start >= 0.0).then_some(start.round() as usize)?, (qrs.end * RATE_HZ).round() as usize);
        let extreme = |signal: &[f64], from: usize, count: usize, sign: f64| {
            let piece = signal.iter().enumerate().skip(from).take(count);
            piece.map(|(n, v)| (n, sign * v)).max_by(|a, b| a.1.total_cmp(&b.1))
        };
        let peak = |sign: f64| {
            let (near, size) = extreme(shown, start, width + 1, sign)?;
            let (at, _) = extreme(two, near.saturating_sub(NEAR), 2 * NEAR + 1, sign)?;
            Some((at, size))
        };
        let (highest, lowest) = (peak(1.0)?, peak(-1.0)?);
        (event != Event::Blocked).then_some(Deflection { onset_s, is_ectopic, highest, lowest })
    }
}

/// QRS of one beat in lead II: sample and size of its highest and its lowest point.
struct Deflection {
    onset_s: f64,
    is_ectopic: bool,
    highest: (usize, f64),
    lowest: (usize, f64),
}

/// Adds a wave that starts at `onset` seconds from the start of the record and lasts `seconds`.
fn put(dipole: &mut [Vector], onset: f64, seconds: f64, wave: impl Fn(f64) -> Vector) {
    let start = onset * RATE_HZ + MARGIN as f64;
    let first = start.max(0.0).ceil() as usize;
    let last = (start + seconds * RATE_HZ).max(0.0) as usize;
    for (n, value) in dipole.iter_mut().enumerate().take(last + 1).skip(first) {
        *value = add(*value, 1.0, wave((n as f64 - start) / RATE_HZ));
    }
}
