//! A small set of simulated hearts for tests of R peaks and of quality: a dipole that turns through P, Q, R, S and T, seen
//! by twelve leads. Times of R are known. Nothing here is used by the programs.
//!
//! Each wave is a Gaussian in time with a direction in space (left, down, back) that varies from heart to heart. Leads see
//! it through the transform of Dower (Edenbrandt and Pahlm 1988), every entry of which varies by a tenth, so that no torso
//! is the textbook's.

use ecgflow::data::ecg::Lead;
use ecgflow::data::recording::Recording;
use ecgflow::signal::filter::{Band, Filter};
use ndarray::Array2;

/// Numbers of a splitmix64 stream.
pub struct Random(pub u64);

impl Random {
    /// Between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }
}

/// What the heart and the recording do.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Kind {
    /// Share of ventricular extra beats.
    pub ectopy: f64,
    /// T waves as tall as R.
    pub tall_t: bool,
    /// A pacing spike 30 ms before R.
    pub paced: bool,
    /// A fifth of the usual voltage.
    pub low_voltage: bool,
    /// Irregular intervals without P.
    pub fibrillation: bool,
}

/// A recording and where its R peaks are, s.
pub struct Heart {
    pub recording: Recording,
    pub r_seconds: Vec<f64>,
}

/// Rows I, II, V1 to V6 of the transform; columns left, down, back.
const TRANSFORM: [[f64; 3]; 8] = [
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
];

/// Centre s, width s, direction, size mV, spread of the direction.
type Wave = (f64, f64, [f64; 3], f64, f64);

const SINUS: [Wave; 5] = [
    (-0.160, 0.020, [0.5, 0.8, 0.0], 0.14, 0.12),
    (-0.028, 0.008, [-0.5, 0.1, -0.6], 0.25, 0.15),
    (0.000, 0.010, [0.75, 0.55, 0.3], 1.30, 0.22),
    (0.027, 0.011, [-0.35, -0.15, 0.85], 0.55, 0.15),
    (0.270, 0.045, [0.6, 0.5, -0.5], 0.32, 0.15),
];
const VENTRICULAR: [Wave; 3] = [
    (0.000, 0.028, [-0.6, 0.7, 0.4], 1.7, 0.2),
    (0.060, 0.030, [0.5, -0.6, -0.3], 0.9, 0.2),
    (0.320, 0.060, [0.6, -0.6, -0.4], 0.6, 0.2),
];

/// Draws the waves of one heart.
fn draw<const N: usize>(waves: [Wave; N], random: &mut Random) -> [Wave; N] {
    waves.map(|(at, width, direction, size, spread)| {
        let direction = direction.map(|d| d + spread * random.normal());
        let stretch = random.between(0.9, 1.15);
        (at * random.between(0.93, 1.07), width * stretch, direction, size * random.between(0.75, 1.3), spread)
    })
}

/// A heart of `seconds` at `rate_hz`, with `noise_mv` of resting noise in every electrode.
pub fn beat(seed: u64, kind: Kind, seconds: f64, rate_hz: f64, noise_mv: f64) -> Heart {
    let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(99));
    let mut sinus = draw(SINUS, &mut random);
    let ventricular = draw(VENTRICULAR, &mut random);
    let scale = if kind.low_voltage { 0.2 } else { 1.0 };
    if kind.tall_t {
        sinus[4].3 = 1.3 * sinus[2].3;
        sinus[4].2 = sinus[2].2;
    }
    let transform = TRANSFORM.map(|row| row.map(|v| v * (1.0 + 0.1 * random.normal()) + 0.03 * random.normal()));
    let samples = (seconds * rate_hz) as usize;
    let mut eight = Array2::<f64>::zeros((8, samples));
    let (rr, mut now) = (random.between(0.55, 1.1), random.between(0.05, 0.8));
    let mut r_seconds = Vec::new();
    while now < seconds + 0.5 {
        let early = random.unit() < kind.ectopy;
        let interval = match (early, kind.fibrillation) {
            (true, _) => rr * 0.65,
            (false, true) => rr * random.between(0.65, 1.45),
            (false, false) => rr * (1.0 + 0.025 * random.normal() + 0.03 * (1.6 * now).sin()),
        };
        let at = if early { now - rr * 0.35 } else { now };
        let waves: &[Wave] = if early { &ventricular } else { &sinus };
        let stretch = rr.sqrt(); // repolarisation follows the rate
        for (k, &(centre, width, direction, size, _)) in waves.iter().enumerate() {
            if kind.fibrillation && !early && k == 0 {
                continue;
            }
            let centre = if centre > 0.1 { centre * stretch } else { centre };
            let height = size * scale * random.between(0.97, 1.03);
            add(&mut eight, &transform, direction.map(|d| d * height), (at + centre) * rate_hz, width * rate_hz);
        }
        if kind.paced && !early {
            let spike = [0.9, 1.2, 0.5].map(|d| d * random.between(0.8, 2.0));
            add(&mut eight, &transform, spike, (at - 0.040) * rate_hz, 0.0008 * rate_hz);
        }
        if at > 0.0 && at < seconds {
            r_seconds.push(at);
        }
        now += if early { rr * 1.05 } else { interval };
    }
    let breath = random.between(0.15, 0.35);
    for (lead, mut row) in eight.rows_mut().into_iter().enumerate() {
        let wander = 0.03 * random.unit();
        for (n, v) in row.iter_mut().enumerate() {
            let t = n as f64 / rate_hz;
            *v += wander * (std::f64::consts::TAU * breath * t + lead as f64).sin() + noise_mv * random.normal();
        }
    }
    Heart { recording: recording(&eight, rate_hz, seed), r_seconds }
}

/// Adds one wave as every lead sees it.
fn add(eight: &mut Array2<f64>, transform: &[[f64; 3]; 8], dipole: [f64; 3], centre: f64, width: f64) {
    let reach = (5.0 * width).max(2.0);
    let last = eight.ncols() as f64 - 1.0;
    if centre + reach < 0.0 || centre - reach > last {
        return;
    }
    let (start, end) = ((centre - reach).max(0.0) as usize, (centre + reach).min(last) as usize);
    for (mut row, vector) in eight.rows_mut().into_iter().zip(transform) {
        let height: f64 = vector.iter().zip(dipole).map(|(v, d)| v * d).sum();
        for n in start..=end {
            row[n] += height * (-0.5 * ((n as f64 - centre) / width).powi(2)).exp();
        }
    }
}

/// Twelve recorded leads in steps of 1 uV.
fn recording(eight: &Array2<f64>, rate_hz: f64, seed: u64) -> Recording {
    let round = |v: f64| (v * 1000.0).round() / 1000.0;
    let at = |row: usize, n: usize| round(eight[[row, n]]);
    let twelve = Array2::from_shape_fn((12, eight.ncols()), |(lead, n)| {
        let (one, two) = (at(0, n), at(1, n));
        match lead {
            0 => one,
            1 => two,
            2 => two - one,
            3 => round(-(one + two) / 2.0),
            4 => round(one - two / 2.0),
            5 => round(two - one / 2.0),
            _ => at(lead - 4, n),
        }
    });
    let names = Lead::ALL.map(|l| l.name().to_owned()).to_vec();
    Recording::new(format!("heart{seed}"), names, rate_hz, twelve).unwrap()
}

/// Adds muscle noise (20 to 150 Hz) to I, II and the chest leads, so strong that lead by lead the signal has `snr_db` more
/// power; the other limb leads follow.
pub fn add_muscle(recording: &mut Recording, snr_db: f64, seed: u64) {
    let mut random = Random(seed ^ 0x00c0_ffee);
    let rate_hz = recording.rate_hz;
    let high = (0.45 * rate_hz).min(150.0);
    let filter = Filter::butterworth(2, Band::BandPass(20.0, high), rate_hz).unwrap();
    let rows: Vec<usize> = [0, 1].into_iter().chain(6..12).collect();
    let mut eight = recording.samples_mv.select(ndarray::Axis(0), &rows);
    for mut row in eight.rows_mut() {
        let noise = filter.forward(&(0..row.len()).map(|_| random.normal()).collect::<Vec<_>>());
        let mean = row.mean().unwrap();
        let power = |sum: f64| sum / row.len() as f64;
        let signal = power(row.iter().map(|v| (v - mean).powi(2)).sum());
        let scale = (signal / 10f64.powf(snr_db / 10.0) / power(noise.iter().map(|v| v * v).sum())).sqrt();
        row.iter_mut().zip(noise).for_each(|(v, n)| *v += scale * n);
    }
    recording.samples_mv = self::recording(&eight, rate_hz, 0).samples_mv;
}
