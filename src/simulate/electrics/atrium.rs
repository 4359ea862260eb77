//! P: the right atrium, then the left.

use super::torso::Torso;
use super::vector::{dot, scale, Vector};
use super::wave::{Bump, Complex};
use super::Electrics;
use crate::random::Stream;

/// Centres of the two halves, shares of P.
const RIGHT: f64 = 0.29;
const LEFT: f64 = 0.71;
/// Each half lasts no longer than this, s: a long P has two humps.
const LONGEST_WIDTH: f64 = 0.022;

/// Draws the P wave of one heart, in seconds from its onset.
pub fn draw(electrics: &Electrics, torso: &Torso, random: &mut Stream) -> Complex {
    let seconds = electrics.p_ms / 1000.0;
    let width = (0.20 * seconds).min(LONGEST_WIDTH);
    let mut vary = |v: Vector| v.map(|entry| entry + 0.06 * random.normal());
    let (right, left) = (vary([0.35, 0.85, -0.42]), vary([0.70, 0.74, 0.0]));
    let bump = |at: f64, dipole| Bump { at: at * seconds, rise: width, fall: width, dipole };
    let bumps = vec![bump(RIGHT, right), bump(LEFT, left)];
    let mut p = Complex { bumps, end: seconds, edge: 0.10 * seconds };
    set_height(&mut p, torso, electrics.p_mv);
    for _ in 0..4 {
        set_terminal(&mut p, torso, electrics.p_terminal_mv);
        set_height(&mut p, torso, electrics.p_mv);
    }
    p
}

/// Makes P in lead II so high.
fn set_height(p: &mut Complex, torso: &Torso, height_mv: f64) {
    let highest = p.path(0.0, 1.0).map(|dipole| dot(torso.leads[1], dipole)).fold(1e-6, f64::max);
    p.map(|dipole| scale(dipole, height_mv / highest));
}

/// Turns the left half so far back that P in V1 ends with so deep a trough, by bisection.
fn set_terminal(p: &mut Complex, torso: &Torso, depth_mv: f64) {
    let trough = |p: &Complex| p.path(0.4, 1.0).map(|dipole| dot(torso.leads[2], dipole)).fold(0.0, f64::min);
    let (mut low, mut high) = (-1.0, 1.0);
    for _ in 0..30 {
        let middle = (low + high) / 2.0;
        if let Some(left) = p.bumps.last_mut() {
            left.dipole[2] = middle;
        }
        if trough(p) < -depth_mv {
            high = middle;
        } else {
            low = middle;
        }
    }
}
