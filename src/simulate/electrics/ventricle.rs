//! QRS: how the ventricles are reached, part by part, and what a scar takes away.
//!
//! Parts are bumps in shares of the duration of QRS. A normal loop starts with the septum (right and forward: q in V6, r in
//! V1), goes through apex and right ventricle, the free wall of the left ventricle (left, down: R in V5), its back (S in V1
//! to V3), and ends at the base. With a block of the left bundle the septum is crossed from the right: everything goes
//! left and back, slowly, in two humps. With a block of the right bundle the left ventricle comes in its usual time, and
//! the right ventricle follows (right and forward).

use super::recovery::{self, Recovery};
use super::torso::Torso;
use super::vector::{add, dot, length, scale, turn_frontal, turn_transverse, unit, Vector};
use super::wave::{ramp, Bump, Complex};
use super::{Conduction, Electrics, Infarct, Territory};
use crate::random::Stream;

/// Centre and width (shares of QRS), direction and size of a part.
type Part = (f64, f64, Vector);

const NORMAL: [Part; 5] = [
    (0.14, 0.065, [-0.10, -0.02, -0.26]),
    (0.32, 0.085, [0.22, 0.18, -0.44]),
    (0.47, 0.090, [1.00, 0.66, 0.40]),
    (0.64, 0.085, [0.22, -0.02, 0.82]),
    (0.82, 0.070, [-0.14, -0.16, 0.12]),
];
const LEFT_BLOCK: [Part; 4] = [
    (0.14, 0.080, [0.20, 0.10, -0.12]),
    (0.34, 0.100, [0.95, 0.35, 0.42]),
    (0.66, 0.110, [1.00, 0.12, 0.72]),
    (0.86, 0.060, [0.25, 0.00, 0.20]),
];
const RIGHT_BLOCK: [Part; 5] = [
    (0.09, 0.042, [-0.20, 0.00, -0.30]),
    (0.20, 0.055, [0.20, 0.22, -0.25]),
    (0.30, 0.060, [1.00, 0.66, 0.40]),
    (0.42, 0.060, [0.20, 0.00, 0.55]),
    (0.68, 0.110, [-0.62, 0.02, -0.62]),
];

/// Standard deviation of an entry of a part's direction between people, of its size and of its time.
const DIRECTION: f64 = 0.04;
const SIZE: f64 = 0.08;
const TIME: f64 = 0.012;

/// Draws the QRS of one heart, in seconds from its onset.
pub fn draw(electrics: &Electrics, torso: &Torso, random: &mut Stream) -> Complex {
    let parts: &[Part] = match electrics.conduction {
        Conduction::Normal => &NORMAL,
        Conduction::LeftBlock => &LEFT_BLOCK,
        Conduction::RightBlock => &RIGHT_BLOCK,
    };
    let mut qrs = complex(parts, electrics.qrs_ms / 1000.0, random);
    qrs.map(|dipole| turn_transverse(dipole, electrics.rotation_deg));
    set_axis(&mut qrs, electrics, torso);
    set_size(&mut qrs, electrics.qrs_mv);
    if let Some(infarct) = electrics.infarct {
        scar(&mut qrs, infarct, electrics.qrs_mv);
    }
    qrs
}

/// Parts with the differences between people.
fn complex(parts: &[Part], seconds: f64, random: &mut Stream) -> Complex {
    let mut bumps = Vec::new();
    for (at, width, dipole) in parts {
        let at = (at + TIME * random.normal()) * seconds;
        let width = width * seconds * (0.5 * SIZE * random.normal()).exp();
        let size = (SIZE * random.normal()).exp();
        let dipole = dipole.map(|entry| size * entry + DIRECTION * random.normal());
        bumps.push(Bump { at, rise: width, fall: width, dipole });
    }
    Complex { bumps, end: seconds, edge: 0.10 * seconds }
}

/// The part of QRS whose axis is meant: all of it; with a block of the right bundle the part of the left ventricle.
pub fn axis_part(conduction: Conduction) -> (f64, f64) {
    match conduction {
        Conduction::RightBlock => (0.0, 0.5),
        Conduction::Normal | Conduction::LeftBlock => (0.0, 1.0),
    }
}

/// Turns QRS in the frontal plane until leads I and aVF show the axis; as near as that body allows, where most of the
/// loop lies front to back.
fn set_axis(qrs: &mut Complex, electrics: &Electrics, torso: &Torso) {
    let (from, to) = axis_part(electrics.conduction);
    let mean = qrs.mean(from, to);
    let off = |turn: f64| {
        let off = torso.axis_deg(turn_frontal(mean, turn)) - electrics.axis_deg;
        ((off + 180.0).rem_euclid(360.0) - 180.0).abs()
    };
    let (mut best, mut step) = (0.0, 4.0);
    while step > 0.01 {
        let reach = if step == 4.0 { 45 } else { 4 };
        let near = (-reach..=reach).map(|k| best + step * f64::from(k));
        best = near.min_by(|a, b| off(*a).total_cmp(&off(*b))).unwrap_or(best);
        step /= 4.0;
    }
    qrs.map(|dipole| turn_frontal(dipole, best));
}

fn set_size(qrs: &mut Complex, size_mv: f64) {
    let largest = qrs.path(0.0, 1.0).map(length).fold(0.0, f64::max);
    let factor = size_mv / largest.max(1e-9);
    qrs.map(|dipole| scale(dipole, factor));
}

/// From the heart's centre to a territory.
pub fn direction(territory: Territory) -> Vector {
    unit(match territory {
        Territory::Anterior => [0.28, 0.05, -0.95],
        Territory::Inferior => [-0.10, 1.00, 0.05],
        Territory::Lateral => [0.92, -0.25, 0.20],
    })
}

/// Takes away what the scar no longer gives: the early forces towards it. What is left points away from it: Q waves.
fn scar(qrs: &mut Complex, infarct: Infarct, size_mv: f64) {
    let towards = direction(infarct.territory);
    let extent = infarct.extent.clamp(0.0, 1.0);
    let lost = (2.0 * extent).min(1.0);
    let end = qrs.end;
    for bump in &mut qrs.bumps {
        let early = 1.0 - ramp((bump.at / end - 0.45) / 0.3);
        let force = dot(bump.dipole, towards).max(0.0);
        bump.dipole = add(bump.dipole, -(0.35 * lost + 0.55 * lost * early) * force, towards);
    }
    let width = 0.11 * end;
    let away = scale(towards, -0.55 * extent.sqrt() * size_mv);
    qrs.bumps.push(Bump { at: 0.24 * end, rise: width, fall: width, dipole: away });
}

/// QRS, ST and T of a beat that starts in a ventricle.
pub struct Ectopic {
    /// QRS.
    pub qrs: Complex,
    /// ST and T, against QRS.
    pub recovery: Recovery,
}

/// From the right outflow tract (left block, axis down), the left one (right block, axis down), and the back of the left
/// ventricle (right block, axis up), with their share of resting extra beats.
const ORIGINS: [(f64, [Part; 3]); 3] = [
    (0.55, [(0.22, 0.09, [-0.10, 0.55, -0.20]), (0.45, 0.10, [0.35, 1.20, 0.30]), (0.70, 0.10, [0.40, 0.50, 0.60])]),
    (0.25, [(0.22, 0.09, [0.15, 0.45, -0.30]), (0.45, 0.10, [-0.30, 1.10, -0.55]), (0.70, 0.10, [-0.45, 0.50, -0.30])]),
    (
        0.20,
        [(0.22, 0.09, [0.15, -0.40, -0.40]), (0.45, 0.10, [-0.30, -1.05, -0.60]), (0.70, 0.10, [-0.60, -0.60, -0.30])],
    ),
];

/// Draws the extra beat of one heart: broad, tall, with T against QRS.
pub fn draw_ectopic(electrics: &Electrics, random: &mut Stream) -> Ectopic {
    let mut left = random.uniform();
    let is_it = |(share, _): &&(f64, [Part; 3])| {
        left -= share;
        left <= 0.0
    };
    let (_, parts) = ORIGINS.iter().find(is_it).unwrap_or(&ORIGINS[0]);
    let seconds = (electrics.qrs_ms / 1000.0 * 1.55).clamp(0.13, 0.165);
    let mut qrs = complex(parts, seconds, random);
    set_size(&mut qrs, 1.25 * electrics.qrs_mv);
    let against = Electrics {
        qtc_ms: electrics.qtc_ms + 40.0,
        t_mv: 0.35 * electrics.qrs_mv,
        qrs_t_deg: 165.0,
        ..electrics.clone()
    };
    let against = Electrics { st_mv: -0.08 * electrics.qrs_mv, infarct: None, ..against };
    let recovery = recovery::draw(&against, &qrs, 60.0 / electrics.heart_rate, random);
    Ectopic { qrs, recovery }
}
