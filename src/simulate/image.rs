//! Pictures of the four-chamber plane as balanced steady-state free precession shows it: bright blood and fat, dark muscle.
//!
//! Each pixel is the mean of a finer grid (partial volume), blurred by the point spread of the receiver, shaded by the coil
//! and covered with Rician noise. Values are fractions of the brightest tissue.

use ndarray::{Array2, Array3};

use crate::random::Stream;
use crate::simulate::scene::{Body, Tissue};

/// Fine points per pixel and side.
const FINE: usize = 2;
/// Signal of tissues relative to fat (Scheffler and Lehnhardt 2003, 1.5 T).
const FAT: f64 = 0.95;
const MUSCLE: f64 = 0.30;
const RIM: f64 = 0.12;
const LUNG: f64 = 0.06;
const LIVER: f64 = 0.36;
const BONE: f64 = 0.42;
const AIR: f64 = 0.015;
/// Part of the signal that the inflow jet loses.
const JET_LOSS: f64 = 0.30;

/// How a participant lies in the scanner.
#[derive(Debug, Clone)]
pub struct View {
    /// From up to the axis of the left ventricle, clockwise, rad.
    pub axis_rad: f64,
    /// Where the middle of the left ventricle is, right and down of the centre of the picture, mm.
    pub shift_mm: [f64; 2],
    /// Subcutaneous fat, mm.
    pub skin_mm: f64,
    /// Brightness of LV, RV, LA and RA blood.
    pub blood: [f64; 4],
    /// Gain of the coil: change to the right and down over 100 mm.
    pub coil: [f64; 2],
    /// Standard deviation of the noise, of the brightest tissue.
    pub noise: f64,
    /// Lattice of the textures.
    pub texture: u64,
}

impl View {
    /// Draws a view; `axis_deg` is the anatomical axis that the ECG sees too.
    pub fn draw(axis_deg: f64, bmi: f64, random: &mut Stream) -> View {
        let between = Stream::between;
        View {
            axis_rad: axis_deg.to_radians(),
            shift_mm: [2.5 * random.normal() + 8.0, 2.5 * random.normal() + 3.0],
            skin_mm: (4.0 + 1.1 * (bmi - 18.0)).clamp(4.0, 28.0),
            blood: [0.88, 0.82, 0.85, 0.78].map(|mean| mean + 0.025 * random.normal()),
            coil: [0.08 * random.normal(), -0.16 + 0.08 * random.normal()],
            noise: between(random, 0.010, 0.018),
            texture: random.bits(),
        }
    }
}

/// Values at the corners of a lattice, smoothly joined: -1 to 1.
fn texture(seed: u64, u: f64, v: f64, cell_mm: f64) -> f64 {
    let (u, v) = (u / cell_mm, v / cell_mm);
    let corner = |i: f64, j: f64| {
        let key = seed ^ (i as i64 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (j as i64 as u64).rotate_left(32);
        let z = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40) as f64 / f64::from(1u32 << 23) - 1.0
    };
    let (i, j) = (u.floor(), v.floor());
    let ease = |t: f64| t * t * (3.0 - 2.0 * t);
    let (s, t) = (ease(u - i), ease(v - j));
    let top = corner(i, j) * (1.0 - s) + corner(i + 1.0, j) * s;
    let bottom = corner(i, j + 1.0) * (1.0 - s) + corner(i + 1.0, j + 1.0) * s;
    top * (1.0 - t) + bottom * t
}

/// A camera on one participant.
pub struct Camera<'a> {
    body: &'a Body,
    view: &'a View,
    /// Centre and half-axes of the inside of the chest.
    chest: [f64; 4],
    /// Centre of the descending aorta.
    aorta: [f64; 2],
    aorta_mm2: (f64, f64),
}

impl<'a> Camera<'a> {
    /// Looks at a body; `aorta_mm2` is the smallest and the largest area of the descending aorta.
    pub fn new(body: &'a Body, view: &'a View, aorta_mm2: (f64, f64)) -> Camera<'a> {
        let mut camera = Camera { body, view, chest: [-30.0, 45.0, 128.0, 100.0], aorta: [0.0; 2], aorta_mm2 };
        let rest = body.at(0.0);
        let tip = camera.to_picture(0.0, rest.tip() + 6.0);
        let [u, v, half, _] = camera.chest;
        let share = (1.0 - ((tip[0] - u) / half).powi(2)).max(0.2).sqrt();
        camera.chest[3] = ((v - tip[1]) / share).clamp(80.0, 150.0);
        let radius = (aorta_mm2.1 / std::f64::consts::PI).sqrt();
        camera.aorta = camera.to_picture(14.0, rest.roof() - radius - 7.0);
        camera
    }

    /// Millimetres right and down of the centre of a point of the heart.
    fn to_picture(&self, x: f64, z: f64) -> [f64; 2] {
        let (sin, cos) = self.view.axis_rad.sin_cos();
        let z = z - self.middle();
        [x * cos + z * sin + self.view.shift_mm[0], x * sin - z * cos + self.view.shift_mm[1]]
    }

    fn to_heart(&self, u: f64, v: f64) -> (f64, f64) {
        let (sin, cos) = self.view.axis_rad.sin_cos();
        let (u, v) = (u - self.view.shift_mm[0], v - self.view.shift_mm[1]);
        (u * cos + v * sin, u * sin - v * cos + self.middle())
    }

    /// The point of the axis that the picture is centred on, mm.
    fn middle(&self) -> f64 {
        0.36 * self.body.length_mm()
    }

    /// One picture of `rows` x `columns` pixels of `pixel_mm` at each of the times, without noise.
    fn clean(&self, times: &[f64], (rows, columns): (usize, usize), pixel_mm: f64) -> Array3<f64> {
        let (fine_rows, fine_columns) = (rows * FINE, columns * FINE);
        let step = pixel_mm / FINE as f64;
        let place = |i: usize, n: usize| (i as f64 + 0.5 - n as f64 / 2.0) * step;
        let around = Array2::from_shape_fn((fine_rows, fine_columns), |(i, j)| {
            self.surroundings(place(j, fine_columns), place(i, fine_rows))
        });
        let mut pictures = Array3::zeros((times.len(), rows, columns));
        for (mut picture, &t) in pictures.outer_iter_mut().zip(times) {
            let scene = self.body.at(t);
            let aorta = (self.aorta_mm2.0 + (self.aorta_mm2.1 - self.aorta_mm2.0) * self.body.beat.pulse(t, 0.05))
                / std::f64::consts::PI;
            let fine = Array2::from_shape_fn((fine_rows, fine_columns), |(i, j)| {
                let (u, v) = (place(j, fine_columns), place(i, fine_rows));
                let (x, z) = self.to_heart(u, v);
                let from_aorta = (u - self.aorta[0]).powi(2) + (v - self.aorta[1]).powi(2);
                match scene.tissue(x, z) {
                    Some(tissue) => self.signal(tissue, u, v),
                    None if from_aorta < aorta => self.view.blood[0],
                    None => around[[i, j]],
                }
            });
            picture.assign(&self.receive(&fine, pixel_mm));
        }
        pictures
    }

    fn signal(&self, tissue: Tissue, u: f64, v: f64) -> f64 {
        let [lv, rv, la, ra] = self.view.blood;
        match tissue {
            Tissue::LeftBlood { jet } => lv * (1.0 - JET_LOSS * jet),
            Tissue::RightBlood => rv,
            Tissue::LeftAtrialBlood => la,
            Tissue::RightAtrialBlood => ra,
            Tissue::Muscle => MUSCLE + 0.015 * texture(self.view.texture, u, v, 9.0),
            Tissue::Fat => FAT,
            Tissue::Rim => RIM,
        }
    }

    /// What lies around the heart: lungs, liver, chest wall, skin, air.
    fn surroundings(&self, u: f64, v: f64) -> f64 {
        let [cu, cv, half_u, half_v] = self.chest;
        let grown = |by: f64| ((u - cu) / (half_u + by)).powi(2) + ((v - cv) / (half_v + by)).powi(2);
        let seed = self.view.texture;
        if grown(0.0) < 1.0 {
            let (lu, lv) = (u + 92.0, v - 18.0);
            if lu * lu / 3000.0 + lv * lv / 5200.0 < 1.0 {
                return LIVER + 0.03 * texture(seed ^ 1, u, v, 6.0);
            }
            if (u - cu).hypot(v - cv - half_v + 12.0) < 24.0 {
                return BONE + 0.05 * texture(seed ^ 2, u, v, 5.0);
            }
            let vessel = texture(seed ^ 3, u, v, 7.0) * texture(seed ^ 4, u, v, 5.0);
            return LUNG + if vessel > 0.30 { 0.9 * (vessel - 0.30) } else { 0.0 };
        }
        if grown(14.0) < 1.0 {
            let rib = texture(seed ^ 5, (v - cv).atan2(u - cu) * 60.0, 0.0, 16.0);
            let inside = grown(4.0) > 1.0 && grown(11.0) < 1.0;
            return if inside && rib > 0.25 { BONE } else { MUSCLE + 0.02 * texture(seed ^ 6, u, v, 6.0) };
        }
        if grown(14.0 + self.view.skin_mm) < 1.0 {
            return FAT - 0.06 + 0.05 * texture(seed ^ 7, u, v, 8.0);
        }
        AIR
    }

    /// Point spread, then the mean over each pixel, then the gain of the coil.
    fn receive(&self, fine: &Array2<f64>, pixel_mm: f64) -> Array2<f64> {
        let blurred = blur(&blur(fine, 0), 1);
        let (rows, columns) = (fine.nrows() / FINE, fine.ncols() / FINE);
        Array2::from_shape_fn((rows, columns), |(i, j)| {
            let mut sum = 0.0;
            for di in 0..FINE {
                for dj in 0..FINE {
                    sum += blurred[[i * FINE + di, j * FINE + dj]];
                }
            }
            let place = |i: usize, n: usize| (i as f64 + 0.5 - n as f64 / 2.0) * pixel_mm / 100.0;
            let (u, v) = (place(j, columns), place(i, rows));
            let gain = 1.0 + self.view.coil[0] * u + self.view.coil[1] * v - 0.06 * (u * u + v * v);
            sum / (FINE * FINE) as f64 * gain.clamp(0.4, 1.7)
        })
    }

    /// Pictures with noise at the times given, s after R; not scaled.
    pub fn record(&self, times: &[f64], size: (usize, usize), pixel_mm: f64, random: &mut Stream) -> Array3<f32> {
        let noise = self.view.noise;
        self.clean(times, size, pixel_mm).mapv(|signal| {
            let (real, imaginary) = (signal + noise * random.normal(), noise * random.normal());
            real.hypot(imaginary) as f32
        })
    }
}

/// [1 2 1] / 4 along one axis, the edges held: a point spread of about one fine point.
fn blur(picture: &Array2<f64>, axis: usize) -> Array2<f64> {
    let last = picture.shape()[axis] - 1;
    Array2::from_shape_fn(picture.raw_dim(), |(i, j)| {
        let at = |k: usize| if axis == 0 { picture[[k, j]] } else { picture[[i, k]] };
        let k = if axis == 0 { i } else { j };
        0.25 * at(k.saturating_sub(1)) + 0.5 * at(k) + 0.25 * at((k + 1).min(last))
    })
}
