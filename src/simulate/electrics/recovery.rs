//! ST and T: the ventricles recover.

use super::vector::{add, dot, scale, unit, Vector};
use super::ventricle;
use super::wave::{ramp, Bump, Complex};
use super::{Conduction, Electrics, Infarct};
use crate::random::Stream;

/// Where T points when it is free to: left, down, forward.
const USUAL: Vector = [0.62, 0.50, -0.60];
/// The same with a block of the right bundle, whose late forces to the right and forward T opposes.
const RIGHT_BLOCK: Vector = [0.85, 0.40, 0.20];
/// Widths of the two sides of T as shares of QT: slow up, fast down.
const RISE: f64 = 0.155;
const FALL: f64 = 0.105;
/// ST begins this long before QRS ends, so that QRS runs into it, s.
const RUN_IN: f64 = 0.016;

/// ST and T of one kind of beat, in seconds from the onset of QRS.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovery {
    /// T; its end, where the tangent of its steepest fall meets the baseline, is two widths after its top.
    pub t: Bump,
    /// ST.
    pub st: Vector,
    /// End of QRS.
    pub j: f64,
    /// How much slower than usual T is.
    pub stretch: f64,
}

impl Recovery {
    /// The dipole at a time.
    pub fn at(&self, time: f64) -> Vector {
        if time < self.j - RUN_IN {
            return [0.0; 3];
        }
        let time = self.j + (time - self.j) / self.stretch;
        let t = &self.t;
        let width = if time < t.at { t.rise } else { t.fall };
        let height = (-0.5 * ((time - t.at) / width).powi(2)).exp();
        let on = ramp((time - self.j + RUN_IN) / RUN_IN);
        let off = 1.0 - ramp((time - t.at + 2.0 * t.rise) / (2.0 * t.rise + t.fall));
        add(scale(t.dipole, height * on), on * off, self.st)
    }

    /// When it is over.
    pub fn end(&self) -> f64 {
        self.j + (self.t.at + 4.5 * self.t.fall - self.j) * self.stretch
    }
}

/// Draws ST and T for a QRS and an interval between beats in seconds.
pub fn draw(electrics: &Electrics, qrs: &Complex, rr: f64, random: &mut Stream) -> Recovery {
    let qt = (electrics.qtc_ms / 1000.0 * rr.cbrt()).max(qrs.end + 0.12);
    let (from, to) = ventricle::axis_part(electrics.conduction);
    let mean = unit(qrs.mean(from, to));
    let fall = FALL * qt * (0.04 * random.normal()).exp();
    let at = qt - 2.0 * fall;
    let rise = (RISE * qt * (0.05 * random.normal()).exp()).min((at - qrs.end) / 2.8);
    let usual = if electrics.conduction == Conduction::RightBlock { RIGHT_BLOCK } else { USUAL };
    let usual = usual.map(|entry| entry + 0.05 * random.normal());
    let turned = turned(mean, usual, electrics.qrs_t_deg);
    let direction = unit(electrics.infarct.map_or(turned, |infarct| away(turned, infarct)));
    let t = Bump { at, rise, fall, dipole: scale(direction, electrics.t_mv) };
    Recovery { t, st: scale(mean, electrics.st_mv), j: qrs.end, stretch: 1.0 }
}

/// The direction at an angle from `mean`, on the side of `usual`.
fn turned(mean: Vector, usual: Vector, degrees: f64) -> Vector {
    let across = unit(add(usual, -dot(usual, mean), mean));
    let (sin, cos) = degrees.to_radians().sin_cos();
    add(scale(mean, cos), sin, across)
}

/// T turns away from a scar.
fn away(direction: Vector, infarct: Infarct) -> Vector {
    add(direction, -2.0 * infarct.extent.clamp(0.0, 1.0), ventricle::direction(infarct.territory))
}
