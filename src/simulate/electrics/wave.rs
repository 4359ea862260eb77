//! Waves: Gaussian bumps of a dipole (McSharry et al., IEEE Trans Biomed Eng 2003;50:289), between an onset and an offset.

use super::vector::{add, Vector};

/// One bump.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bump {
    /// Centre.
    pub at: f64,
    /// Standard deviation before the centre.
    pub rise: f64,
    /// Standard deviation after it.
    pub fall: f64,
    /// Direction and height.
    pub dipole: Vector,
}

impl Bump {
    /// Its share at a time, 0 to 1.
    fn share(&self, t: f64) -> f64 {
        let width = if t < self.at { self.rise } else { self.fall };
        (-0.5 * ((t - self.at) / width).powi(2)).exp()
    }
}

/// From 0 to 1 with level ends, as t goes from 0 to 1.
pub fn ramp(t: f64) -> f64 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Bumps that start at 0 and are over at `end`: nothing is seen outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Complex {
    /// What it is made of, in the unit of `end`.
    pub bumps: Vec<Bump>,
    /// When it is over.
    pub end: f64,
    /// How long it takes to come and to go.
    pub edge: f64,
}

impl Complex {
    /// The dipole at a time.
    pub fn at(&self, t: f64) -> Vector {
        let gate = ramp(t / self.edge) * ramp((self.end - t) / self.edge);
        if gate <= 0.0 {
            return [0.0; 3];
        }
        self.bumps.iter().fold([0.0; 3], |sum, bump| add(sum, gate * bump.share(t), bump.dipole))
    }

    /// The dipole at even times from `from` to `to`, both shares of its duration.
    pub fn path(&self, from: f64, to: f64) -> impl Iterator<Item = Vector> + '_ {
        const STEPS: usize = 128;
        (0..=STEPS).map(move |n| self.at(self.end * (from + (to - from) * n as f64 / STEPS as f64)))
    }

    /// The mean dipole of a part.
    pub fn mean(&self, from: f64, to: f64) -> Vector {
        self.path(from, to).fold([0.0; 3], |sum, dipole| add(sum, 1.0 / 129.0, dipole))
    }

    /// Changes every dipole.
    pub fn map(&mut self, change: impl Fn(Vector) -> Vector) {
        self.bumps.iter_mut().for_each(|bump| bump.dipole = change(bump.dipole));
    }
}
