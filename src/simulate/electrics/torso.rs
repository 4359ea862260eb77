//! How twelve leads see a dipole: the lead field.
//!
//! The mean body is Dower's transform from Frank's leads (Edenbrandt and Pahlm, J Electrocardiol 1988;21:361). A body
//! differs from it: each lead a little in strength and direction, each chest electrode by a share of the way to its
//! neighbour.

use super::vector::{add, dot, scale, Vector};
use crate::random::Stream;

/// Leads that are recorded; the other four follow from I and II.
pub const RECORDED: usize = 8;

/// I, II, V1 to V6 of the mean body.
pub const MEAN: [Vector; RECORDED] = [
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
];

/// Standard deviation of a lead's strength, of an entry of its direction, and of the place of a chest electrode in
/// distances to its neighbour.
const STRENGTH: f64 = 0.05;
const DIRECTION: f64 = 0.03;
const PLACE: f64 = 0.15;

/// The lead field of one body.
#[derive(Debug, Clone, PartialEq)]
pub struct Torso {
    /// I, II, V1 to V6.
    pub leads: [Vector; RECORDED],
}

impl Torso {
    /// Draws a body.
    pub fn draw(random: &mut Stream) -> Torso {
        let mut leads = MEAN;
        for (place, lead) in leads.iter_mut().enumerate().skip(2) {
            let shift = (PLACE * random.normal()).clamp(-0.4, 0.4);
            let neighbour = if shift < 0.0 { (place - 1).max(2) } else { (place + 1).min(RECORDED - 1) };
            let other = MEAN.get(neighbour).copied().unwrap_or(*lead);
            *lead = add(scale(*lead, 1.0 - shift.abs()), shift.abs(), other);
        }
        for lead in &mut leads {
            let strength = (STRENGTH * random.normal()).exp();
            *lead = lead.map(|entry| strength * entry + DIRECTION * random.normal());
        }
        Torso { leads }
    }

    /// Axis of a dipole in the frontal plane as leads I and aVF show it, degrees.
    pub fn axis_deg(&self, dipole: Vector) -> f64 {
        let (one, two) = (dot(self.leads[0], dipole), dot(self.leads[1], dipole));
        let avf = two - one / 2.0;
        (2.0 / 3.0f64.sqrt() * avf).atan2(one).to_degrees()
    }
}
