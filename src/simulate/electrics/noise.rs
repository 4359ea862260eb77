//! What the recorder adds: wander with breathing and skin, mains, muscle, electrodes and amplifier.
//!
//! Noise arises at nine electrodes and is seen by leads as differences of electrodes, so that Einthoven's law holds and
//! what one arm does is seen in all leads of that arm.

use std::f64::consts::{SQRT_2, TAU};

use super::rhythm::Breath;
use super::torso::RECORDED;
use super::{MARGIN, RATE_HZ};
use crate::random::Stream;

/// RA, LA, LL, V1 to V6.
const ELECTRODES: usize = 9;

/// How much noise; root mean square in a typical lead, mV.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseLevels {
    /// Below 0.7 Hz: breathing, and drift of the skin's potential.
    pub wander_mv: f64,
    /// Mains with its third and fifth harmonic.
    pub mains_mv: f64,
    /// Frequency of the mains, Hz.
    pub mains_hz: f64,
    /// Muscle, 20 to 150 Hz.
    pub muscle_mv: f64,
    /// Electrodes (more at low frequencies) and amplifier (white).
    pub electrode_mv: f64,
    /// Instead of `muscle_mv`: muscle so strong that, lead by lead, the heart has so many dB more power.
    pub muscle_snr_db: Option<f64>,
}

impl Default for NoiseLevels {
    /// A good recording at rest.
    fn default() -> Self {
        let none = NoiseLevels::none();
        NoiseLevels { wander_mv: 0.04, mains_mv: 0.003, muscle_mv: 0.006, electrode_mv: 0.004, ..none }
    }
}

impl NoiseLevels {
    /// No noise at all.
    pub fn none() -> NoiseLevels {
        NoiseLevels {
            wander_mv: 0.0,
            mains_mv: 0.0,
            mains_hz: 50.0,
            muscle_mv: 0.0,
            electrode_mv: 0.0,
            muscle_snr_db: None,
        }
    }

    /// Draws the noise of one recording at rest: usually little, now and then more.
    pub fn typical(random: &mut Stream) -> NoiseLevels {
        let mut around = |level: f64, spread: f64, most: f64| (level * (spread * random.normal()).exp()).min(most);
        NoiseLevels {
            wander_mv: around(0.035, 0.5, 0.12),
            mains_mv: around(0.002, 0.7, 0.012),
            muscle_mv: around(0.005, 0.5, 0.018),
            electrode_mv: around(0.003, 0.3, 0.008),
            ..NoiseLevels::none()
        }
    }

    /// The same with muscle noise relative to the heart.
    #[must_use]
    pub fn muscle_snr(self, db: f64) -> NoiseLevels {
        NoiseLevels { muscle_snr_db: Some(db), ..self }
    }

    /// Adds the noise to I, II and V1 to V6.
    pub(super) fn add(&self, leads: &mut [Vec<f64>; RECORDED], breath: Breath, random: &mut Stream) {
        let muscle = seen(muscle, random);
        let others = seen(|random| self.others(breath, random), random);
        for ((lead, muscle), others) in leads.iter_mut().zip(&muscle).zip(&others) {
            let size = match self.muscle_snr_db {
                Some(db) => (power(lead) / 10f64.powf(db / 10.0) / power(muscle).max(1e-12)).sqrt(),
                None => self.muscle_mv,
            };
            lead.iter_mut().zip(muscle).zip(others).for_each(|((v, m), o)| *v += size * m + o);
        }
    }

    /// Everything but muscle at one electrode.
    fn others(&self, breath: Breath, random: &mut Stream) -> Vec<f64> {
        let wander = wander(breath, random);
        let mains = mains(self.mains_hz, random);
        let electrode = electrode(random);
        let sum = |((w, m), e): ((f64, f64), f64)| self.wander_mv * w + self.mains_mv * m + self.electrode_mv * e;
        wander.into_iter().zip(mains).zip(electrode).map(sum).collect()
    }
}

fn samples() -> usize {
    (super::SECONDS * RATE_HZ) as usize + 2 * MARGIN
}

/// Seconds from the start of the record.
fn time(n: usize) -> f64 {
    (n as f64 - MARGIN as f64) / RATE_HZ
}

/// Power about the mean.
fn power(x: &[f64]) -> f64 {
    let n = x.len().max(1) as f64;
    let mean = x.iter().sum::<f64>() / n;
    x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n
}

/// What leads see of nine electrodes of unit power: limb leads are differences, chest leads stand against the mean of the
/// limbs.
fn seen(mut electrode: impl FnMut(&mut Stream) -> Vec<f64>, random: &mut Stream) -> [Vec<f64>; RECORDED] {
    let nine: [Vec<f64>; ELECTRODES] = std::array::from_fn(|_| electrode(random));
    let [right, left, leg, chest @ ..] = &nine;
    let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) / SQRT_2).collect::<Vec<f64>>();
    let limbs: Vec<f64> = right.iter().zip(left).zip(leg).map(|((r, l), f)| (r + l + f) / 3.0).collect();
    let [one, two, three, four, five, six] = chest;
    let v = |electrode: &[f64]| difference(electrode, &limbs);
    [difference(left, right), difference(leg, right), v(one), v(two), v(three), v(four), v(five), v(six)]
}

/// Breathing and slow drift.
fn wander(breath: Breath, random: &mut Stream) -> Vec<f64> {
    let share = random.normal();
    let lag = random.between(-0.4, 0.4);
    let drifts: [(f64, f64, f64); 4] =
        std::array::from_fn(|_| (random.between(0.04, 0.45), random.uniform(), 0.5 * random.normal()));
    let at = |n: usize| {
        let t = time(n);
        let drift = |(hz, phase, size): &(f64, f64, f64)| size * (TAU * (hz * t + phase)).sin();
        share * breath.at(t - lag) + drifts.iter().map(drift).sum::<f64>()
    };
    (0..samples()).map(at).collect()
}

/// Mains: nearly the same phase everywhere, another size at every electrode.
fn mains(hz: f64, random: &mut Stream) -> Vec<f64> {
    let (size, phase) = (SQRT_2 * (1.0 + 0.5 * random.normal()), 0.1 * random.normal());
    let (third, fifth) = (random.between(0.0, 0.25), random.between(0.0, 0.1));
    let (slow, slow_phase) = (random.between(0.1, 0.5), random.uniform());
    let at = |n: usize| {
        let t = time(n);
        let turn = TAU * (hz * t + phase);
        // A harmonic above half the rate is what the recorder's filter keeps out.
        let above = |k: f64| if k * hz < 0.5 * RATE_HZ { (k * turn).sin() } else { 0.0 };
        let swell = 1.0 + 0.2 * (TAU * (slow * t + slow_phase)).sin();
        size * swell * (turn.sin() + third * above(3.0) + fifth * above(5.0))
    };
    (0..samples()).map(at).collect()
}

/// Muscle: white noise from 20 to 150 Hz that swells and fades, of unit power.
fn muscle(random: &mut Stream) -> Vec<f64> {
    let (mut high, mut low) = (Section::high_pass(20.0), Section::low_pass(150.0));
    let (slow, phase) = (random.between(0.1, 0.5), random.uniform());
    let swell = |n: usize| 1.0 + 0.3 * (TAU * (slow * time(n) + phase)).sin();
    let mut noise: Vec<f64> = (0..samples()).map(|n| swell(n) * low.step(high.step(random.normal()))).collect();
    let size = power(&noise).max(1e-12).sqrt();
    noise.iter_mut().for_each(|v| *v /= size);
    noise
}

/// Amplifier and electrode: a white part, and two that remember for 20 and 200 ms.
fn electrode(random: &mut Stream) -> Vec<f64> {
    let (mut quick, mut slow) = (0.0, 0.0);
    let (keep_quick, keep_slow) = ((-1.0 / (0.02 * RATE_HZ)).exp(), (-1.0 / (0.2 * RATE_HZ)).exp());
    let drive = |keep: f64| (1.0 - keep * keep).sqrt();
    let mut step = |_| {
        let (a, b) = (random.normal(), random.normal());
        quick = keep_quick * quick + drive(keep_quick) * a;
        slow = keep_slow * slow + drive(keep_slow) * b;
        0.7 * (a - b) / SQRT_2 + 0.5 * quick + 0.5 * slow
    };
    (0..samples()).map(&mut step).collect()
}

/// A Butterworth filter of order 2 (bilinear transform).
struct Section {
    feed: [f64; 3],
    back: [f64; 2],
    held: [f64; 2],
}

impl Section {
    fn new(hz: f64, high: bool) -> Section {
        let k = (TAU / 2.0 * hz / RATE_HZ).tan();
        let norm = 1.0 / (1.0 + SQRT_2 * k + k * k);
        let (b0, sign) = if high { (norm, -2.0) } else { (k * k * norm, 2.0) };
        let back = [2.0 * (k * k - 1.0) * norm, (1.0 - SQRT_2 * k + k * k) * norm];
        Section { feed: [b0, sign * b0, b0], back, held: [0.0; 2] }
    }

    fn high_pass(hz: f64) -> Section {
        Section::new(hz, true)
    }

    fn low_pass(hz: f64) -> Section {
        Section::new(hz, false)
    }

    /// One sample (transposed direct form II).
    fn step(&mut self, x: f64) -> f64 {
        let y = self.feed[0] * x + self.held[0];
        self.held = [self.feed[1] * x - self.back[0] * y + self.held[1], self.feed[2] * x - self.back[1] * y];
        y
    }
}
