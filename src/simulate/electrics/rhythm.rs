//! When the heart beats: a sinus node that follows breathing, and extra beats of a ventricle.

use std::f64::consts::TAU;

use super::{Electrics, SECONDS};
use crate::random::Stream;

/// Breathing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breath {
    /// Breaths a second.
    pub hz: f64,
    /// Where in the cycle the record starts, turns.
    pub phase: f64,
}

impl Breath {
    /// Draws the breathing of one person at rest: 10 to 19 a minute.
    pub fn draw(random: &mut Stream) -> Breath {
        Breath { hz: random.between(0.17, 0.32), phase: random.uniform() }
    }

    /// -1 (out) to 1 (in).
    pub fn at(self, seconds: f64) -> f64 {
        (TAU * (self.hz * seconds + self.phase)).sin()
    }
}

/// What happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// P and QRS.
    Sinus,
    /// P without QRS: the ventricle is still refractory from an extra beat.
    Blocked,
    /// QRS without P.
    Ventricular,
}

/// Events with the onset of QRS (or where it would be), seconds from the start of the record, rising in time but for
/// blocked ones.
pub fn draw(electrics: &Electrics, breath: Breath, random: &mut Stream) -> Vec<(f64, Event)> {
    let rr = 60.0 / electrics.heart_rate;
    let mut onset = -rr * (1.0 + random.uniform());
    let coupling = random.between(0.55, 0.70);
    // No two extra beats in a row: a share s of all beats is s / (1 - s) of those that may be early.
    let chance = electrics.ectopy / (1.0 - electrics.ectopy);
    let (mut events, mut may) = (Vec::new(), true);
    for interval in intervals(electrics, breath, random) {
        let early = random.uniform() < chance && may;
        if early {
            let wait = (coupling * interval).max(0.38).min(0.85 * interval) + 0.008 * random.normal();
            events.push((onset + wait, Event::Ventricular));
        }
        onset += interval;
        events.push((onset, if early { Event::Blocked } else { Event::Sinus }));
        may = !early;
    }
    events
}

/// Intervals of the sinus node, s: breathing and chance, with the mean and the standard deviation asked for.
fn intervals(electrics: &Electrics, breath: Breath, random: &mut Stream) -> Vec<f64> {
    let rr = 60.0 / electrics.heart_rate;
    let count = ((SECONDS + 1.0) / rr).ceil() as usize + 3;
    let share = random.between(0.5, 0.9); // of breathing
    let follow = |n: usize| 1.4 * share * breath.at(n as f64 * rr - 0.5);
    let raw: Vec<f64> = (0..count).map(|n| follow(n) + (1.0 - share * share).sqrt() * random.normal()).collect();
    let mean = raw.iter().sum::<f64>() / count as f64;
    let sd = (raw.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count as f64 - 1.0)).sqrt().max(1e-9);
    let size = electrics.rr_sd_ms / 1000.0;
    raw.iter().map(|v| (rr + size * (v - mean) / sd).clamp(0.6 * rr, 1.6 * rr)).collect()
}
