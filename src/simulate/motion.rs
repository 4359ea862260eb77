//! One beat in time: what the chambers hold at each instant after R.
//!
//! ```text
//! R .. ejection .. end-systole .. relaxation .. early filling (E) .. diastasis .. atrial kick (A) .. R
//! ```

use crate::simulate::population::Heart;

/// Part of the filling that comes between E and A.
const DIASTASIS: f64 = 0.08;
/// Part of the stroke by which the cavity widens while both valves are closed.
const UNTWISTING: f64 = 0.04;
/// Share of the atrial reservoir that is filled when ejection has half ended, and how it rises.
const RESERVOIR: f64 = 1.3;

/// Times of one beat, s after R, and how the filling is shared.
#[derive(Debug, Clone)]
pub struct Beat {
    /// From R to R.
    pub rr_s: f64,
    /// Opening of the aortic valve.
    pub ejection_s: f64,
    /// End-systole.
    pub end_systole_s: f64,
    /// Opening of the mitral valve.
    pub opening_s: f64,
    /// End of early filling.
    early_end_s: f64,
    /// Beginning of the atrial kick.
    pub kick_s: f64,
    /// Share of early filling.
    early: f64,
}

/// Rises from 0 to 1 with rest at both ends.
fn smooth(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

impl Beat {
    /// The beat of a heart whose atria are excited `pr_s` before its ventricles.
    pub fn new(heart: &Heart, pr_s: f64) -> Beat {
        let rr_s = 60.0 / heart.heart_rate;
        let end_systole_s = (heart.end_systole_ms / 1000.0).min(0.62 * rr_s);
        let opening_s = (end_systole_s + heart.relaxation_ms / 1000.0).min(0.75 * rr_s);
        let early_end_s = opening_s + (0.24_f64).min(0.55 * (rr_s - opening_s));
        // The atria contract 90 ms after their excitation begins and must be done at R.
        let kick_s = (rr_s - pr_s + 0.05).max(opening_s + 0.3 * (rr_s - opening_s)).min(rr_s - 0.07);
        Beat {
            rr_s,
            ejection_s: (heart.ejection_start_ms / 1000.0).min(0.6 * end_systole_s),
            end_systole_s,
            opening_s,
            early_end_s,
            kick_s,
            early: heart.early_filling,
        }
    }

    /// How far the ventricle has emptied: 0 at end-diastole, 1 at end-systole.
    pub fn contraction(&self, t: f64) -> f64 {
        let t = t.rem_euclid(self.rr_s);
        if t < self.ejection_s {
            return 0.0;
        }
        if t < self.end_systole_s {
            let x = (t - self.ejection_s) / (self.end_systole_s - self.ejection_s);
            return (std::f64::consts::FRAC_PI_2 * x.powf(0.8)).sin().powi(2);
        }
        if t < self.opening_s {
            let x = (t - self.end_systole_s) / (self.opening_s - self.end_systole_s);
            return 1.0 - UNTWISTING * x * x;
        }
        (1.0 - UNTWISTING) * (1.0 - self.filling(t))
    }

    /// How much of its stroke the ventricle has taken in since the valve opened.
    fn filling(&self, t: f64) -> f64 {
        let early = smooth((t - self.opening_s) / (self.early_end_s - self.opening_s));
        let slow = ((t - self.opening_s) / (self.rr_s - self.opening_s)).clamp(0.0, 1.0);
        let early_share = self.early - DIASTASIS / 2.0;
        early_share * early + DIASTASIS * slow + (1.0 - early_share - DIASTASIS) * self.kick(t)
    }

    /// How far the atria have contracted.
    fn kick(&self, t: f64) -> f64 {
        smooth((t - self.kick_s) / (self.rr_s - 0.005 - self.kick_s))
    }

    /// How full an atrium is between its smallest (0) and its largest volume (1).
    pub fn reservoir(&self, t: f64) -> f64 {
        let t = t.rem_euclid(self.rr_s);
        if t < self.opening_s {
            return smooth((t / self.opening_s).powf(1.0 / RESERVOIR));
        }
        let early = smooth((t - self.opening_s) / (self.early_end_s - self.opening_s));
        let passive = (0.9 * self.early).clamp(0.3, 0.75);
        1.0 - passive * early - (1.0 - passive) * self.kick(t)
    }

    /// How far the valves between atria and ventricles are open, 0 to 1.
    pub fn opened(&self, t: f64) -> f64 {
        let t = t.rem_euclid(self.rr_s);
        let opens = smooth((t - self.opening_s) / 0.04);
        let drifts = 1.0 - 0.45 * smooth((t - self.early_end_s) / 0.1) * (1.0 - smooth((t - self.kick_s) / 0.05));
        opens * drifts * (1.0 - smooth((t - self.rr_s + 0.05) / 0.05))
    }

    /// Speed of the inflow relative to its peak, 0 to 1.
    pub fn inflow(&self, t: f64) -> f64 {
        let t = t.rem_euclid(self.rr_s);
        let bump = |from: f64, to: f64| {
            let x = ((t - from) / (to - from)).clamp(0.0, 1.0);
            4.0 * x * (1.0 - x)
        };
        (self.early * bump(self.opening_s, self.early_end_s)).max((1.0 - self.early) * bump(self.kick_s, self.rr_s))
            / 0.6
    }

    /// Pressure wave in the aorta, 0 (smallest area) to 1.
    pub fn pulse(&self, t: f64, delay_s: f64) -> f64 {
        let t = (t - self.ejection_s - delay_s).rem_euclid(self.rr_s);
        let rise = smooth(t / 0.16);
        rise * (-(t - 0.16).max(0.0) / 0.35).exp() * (1.0 - smooth((t - self.rr_s + 0.06) / 0.06))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use crate::simulate::population::draw;

    #[test]
    fn every_beat_begins_and_ends_at_end_diastole_and_empties_once() {
        for i in 0..50 {
            let heart = draw(None, &mut Stream::new("test", 2, "beat", i)).2;
            let beat = Beat::new(&heart, 0.16);
            assert!(beat.ejection_s < beat.end_systole_s && beat.end_systole_s < beat.opening_s);
            assert!(beat.opening_s < beat.kick_s && beat.kick_s < beat.rr_s, "{beat:?}");
            assert_eq!(beat.contraction(0.0), 0.0);
            assert!(beat.contraction(beat.rr_s - 1e-9) < 0.01);
            assert!((beat.contraction(beat.end_systole_s) - 1.0).abs() < 1e-9);
            let path: Vec<f64> = (0..200).map(|k| beat.contraction(f64::from(k) / 200.0 * beat.rr_s)).collect();
            let turns = path.windows(3).filter(|w| (w[1] - w[0]) * (w[2] - w[1]) < -1e-12).count();
            assert_eq!(turns, 1, "the volume falls once and rises once");
            assert!(beat.reservoir(0.0) < 0.01 && beat.reservoir(beat.opening_s - 1e-9) > 0.99);
        }
    }
}
