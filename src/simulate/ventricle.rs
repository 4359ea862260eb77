//! The left ventricle: a truncated ellipsoid whose wall differs from segment to segment and keeps its volume.
//!
//! In the frame of the heart z runs from the valve plane (0) to the apex, theta around it: 0 is the anterolateral wall, 180
//! degrees the inferoseptal one, so that the four-chamber plane is theta = 0 and 180. With s = z / L, centre s0 = K/(1+K)
//! and zeta = (s - s0)(1 + K):
//!
//! ```text
//! cavity  r(theta, s) = a(theta, s) sqrt(1 - zeta^2)
//! outside R(theta, s) = (a + w)(theta, s) sqrt(1 - zeta_out^2)
//! volume  = sum over theta and s of r^2 / 2
//! ```
//!
//! At every instant the volume and the length are given. Each place moves inwards by its own share of one common factor,
//! which is the root of the volume; then each wall thickens by its own share of another, the root of the wall's volume.

use crate::simulate::population::Heart;

/// Angles around the axis.
pub const ANGLES: usize = 24;
/// Levels from valve plane to apex.
pub const LEVELS: usize = 24;
/// Part of the lower half-axis that the valve plane leaves: the ellipsoid is cut at zeta = -K.
pub const TRUNCATION: f64 = 0.55;
/// Density of myocardium, g/mL.
pub const DENSITY: f64 = 1.05;
/// Wall at the apex over the mean wall.
const APEX_WALL: f64 = 0.65;
/// Movement that even a wall without function makes, pulled by its neighbours.
const TETHER: f64 = 0.06;
/// The AHA segments of the three rings in the order of theta, from 0.
const RINGS: [&[usize]; 3] = [&[5, 0, 1, 2, 3, 4], &[11, 6, 7, 8, 9, 10], &[15, 12, 13, 14]];
/// Where the rings have their middle, s.
const RING_AT: [f64; 3] = [0.17, 0.50, 0.82];

/// A quantity of the wall at each angle and level.
pub type Field = [[f64; LEVELS]; ANGLES];

fn level(j: usize) -> f64 {
    (j as f64 + 0.5) / LEVELS as f64
}

/// Where `s` stands on the axis of the ellipsoid, -K to 1.
pub fn zeta(s: f64) -> f64 {
    s * (1.0 + TRUNCATION) - TRUNCATION
}

/// Values of the 16 AHA segments, smoothly joined.
pub fn spread(values: &[f64; 16]) -> Field {
    let ring = |ring: usize, i: usize| {
        let order = RINGS[ring];
        let place = i as f64 / ANGLES as f64 * order.len() as f64;
        let share = 0.5 - 0.5 * (std::f64::consts::PI * place.fract()).cos();
        let [here, next] = [0, 1].map(|k| values[order[(place as usize + k) % order.len()]]);
        here + share * (next - here)
    };
    let mut field = [[0.0; LEVELS]; ANGLES];
    for (i, row) in field.iter_mut().enumerate() {
        for (j, value) in row.iter_mut().enumerate() {
            let s = level(j);
            let upper = usize::from(s >= RING_AT[1]);
            let share = ((s - RING_AT[upper]) / (RING_AT[upper + 1] - RING_AT[upper])).clamp(0.0, 1.0);
            *value = ring(upper, i) * (1.0 - share) + ring(upper + 1, i) * share;
        }
    }
    field
}

/// Mean of a field over each AHA segment.
pub fn by_segment(field: &Field) -> [f64; 16] {
    let mut out = [0.0; 16];
    for (k, order) in RINGS.iter().enumerate() {
        for (n, &segment) in order.iter().enumerate() {
            let (width, mut sum, mut count) = (ANGLES / order.len(), 0.0, 0.0);
            for step in 0..width {
                let i = (n * width + step + ANGLES - width / 2) % ANGLES;
                for value in &field[i][k * LEVELS / 3..(k + 1) * LEVELS / 3] {
                    sum += value;
                    count += 1.0;
                }
            }
            out[segment] = sum / count;
        }
    }
    out
}

fn map(field: &Field, mut f: impl FnMut(usize, usize, f64) -> f64) -> Field {
    let mut out = *field;
    for (i, row) in out.iter_mut().enumerate() {
        row.iter_mut().enumerate().for_each(|(j, value)| *value = f(i, j, *value));
    }
    out
}

fn mean(field: &Field) -> f64 {
    field.iter().flatten().sum::<f64>() / (ANGLES * LEVELS) as f64
}

/// The ventricle at one instant.
#[derive(Debug, Clone)]
pub struct Shape {
    /// From the valve plane to the apex of the cavity, mm.
    pub length_mm: f64,
    /// Half-axis of the cavity, mm.
    pub radius_mm: Field,
    /// Wall, mm.
    pub wall_mm: Field,
    /// Wall at the apex, mm.
    pub apex_mm: f64,
}

impl Shape {
    /// Half the length of the whole ellipsoid, mm.
    fn half_mm(&self) -> f64 {
        self.length_mm / (1.0 + TRUNCATION)
    }

    /// Volume of the cavity, mL.
    pub fn cavity_ml(&self) -> f64 {
        let part = |i: usize, j: usize| self.radius_mm[i][j].powi(2) * (1.0 - zeta(level(j)).powi(2));
        integrate(part) * self.length_mm / 1000.0
    }

    /// Volume inside the outer surface, mL.
    fn outside_ml(&self) -> f64 {
        let outer = self.half_mm() + self.apex_mm;
        let length = self.length_mm + self.apex_mm;
        let part = |i: usize, j: usize| {
            let along = level(j) * length - self.half_mm() * TRUNCATION;
            (self.radius_mm[i][j] + self.wall_mm[i][j]).powi(2) * (1.0 - (along / outer).powi(2)).max(0.0)
        };
        integrate(part) * length / 1000.0
    }

    /// Volume of the wall, mL.
    pub fn wall_ml(&self) -> f64 {
        self.outside_ml() - self.cavity_ml()
    }

    /// Radius of the cavity in the four-chamber plane at `z_mm`, on the lateral (true) or the septal side; 0 outside.
    pub fn cavity_at(&self, lateral: bool, z_mm: f64) -> f64 {
        let s = z_mm / self.length_mm;
        if !(0.0..=1.0).contains(&s) {
            return 0.0;
        }
        self.along(&self.radius_mm, lateral, s) * (1.0 - zeta(s).powi(2)).max(0.0).sqrt()
    }

    /// Radius of the outer surface in the four-chamber plane; levels above the valve plane are taken as the valve plane.
    pub fn outside_at(&self, lateral: bool, z_mm: f64) -> f64 {
        let s = (z_mm / self.length_mm).clamp(0.0, 1.0);
        let along = (z_mm.max(0.0) - self.half_mm() * TRUNCATION) / (self.half_mm() + self.apex_mm);
        let axis = self.along(&self.radius_mm, lateral, s) + self.along(&self.wall_mm, lateral, s);
        axis * (1.0 - along.powi(2)).max(0.0).sqrt()
    }

    fn along(&self, field: &Field, lateral: bool, s: f64) -> f64 {
        let row = &field[if lateral { 0 } else { ANGLES / 2 }];
        let place = (s * LEVELS as f64 - 0.5).clamp(0.0, (LEVELS - 1) as f64);
        let j = (place as usize).min(LEVELS - 2);
        row[j] + (place - j as f64) * (row[j + 1] - row[j])
    }
}

/// Integral of `part` / 2 over theta and s.
fn integrate(part: impl Fn(usize, usize) -> f64) -> f64 {
    let sum: f64 = (0..ANGLES).map(|i| (0..LEVELS).map(|j| part(i, j)).sum::<f64>()).sum();
    sum * std::f64::consts::PI / (ANGLES * LEVELS) as f64
}

/// The root of a rising function between two bounds.
fn root(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..48 {
        let middle = 0.5 * (low + high);
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// A left ventricle that can be asked for its shape at any contraction.
#[derive(Debug, Clone)]
pub struct Ventricle {
    rest: Shape,
    function: Field,
    delay_s: Field,
    volume_ml: f64,
    stroke_ml: f64,
    shortening: f64,
    wall_ml: f64,
}

impl Ventricle {
    /// The end-diastolic shape of a heart's volume, mass and slimness.
    pub fn new(heart: &Heart) -> Ventricle {
        // V = pi a^2 c (1 + K - (1 + K^3)/3) and 2 a slimness = (1 + K) c.
        let factor = std::f64::consts::PI * (1.0 + TRUNCATION - (1.0 + TRUNCATION.powi(3)) / 3.0);
        let half_per_radius = 2.0 * heart.slimness / (1.0 + TRUNCATION);
        let radius = (heart.edv_ml * 1000.0 / (factor * half_per_radius)).cbrt();
        let relative = spread(&heart.thickness);
        let relative = map(&relative, |_, _, value| value / mean(&relative));
        let wall_ml = heart.mass_g / DENSITY;
        let shape = |wall: f64| Shape {
            length_mm: 2.0 * radius * heart.slimness,
            radius_mm: [[radius; LEVELS]; ANGLES],
            wall_mm: map(&relative, |_, _, value| wall * value),
            apex_mm: APEX_WALL * wall,
        };
        let wall = root(0.5, 60.0, |wall| shape(wall).wall_ml() - wall_ml);
        let rest = shape(wall);
        Ventricle {
            function: spread(&heart.function),
            delay_s: map(&spread(&heart.delay_ms), |_, _, ms| ms / 1000.0),
            volume_ml: rest.cavity_ml(),
            stroke_ml: rest.cavity_ml() * heart.ef,
            shortening: heart.shortening,
            wall_ml: rest.wall_ml(),
            rest,
        }
    }

    /// The shape at end-diastole.
    pub fn rest(&self) -> &Shape {
        &self.rest
    }

    /// The shape at time `t` s after R, for a contraction that runs from 0 (end-diastole) to 1 (end-systole).
    pub fn at(&self, t: f64, contraction: impl Fn(f64) -> f64) -> Shape {
        let now = contraction(t);
        let share = map(&self.function, |i, j, function| TETHER + function * contraction(t - self.delay_s[i][j]));
        let mut shape = self.rest.clone();
        shape.length_mm *= 1.0 - self.shortening * now;
        let moved =
            |factor: f64| map(&share, |i, j, share| self.rest.radius_mm[i][j] * (1.0 - factor * share).max(0.15));
        let wanted = self.volume_ml - self.stroke_ml * now;
        let factor = root(-1.0, 4.0, |factor| wanted - Shape { radius_mm: moved(factor), ..shape.clone() }.cavity_ml());
        shape.radius_mm = moved(factor);
        let thick = |factor: f64| Shape {
            wall_mm: map(&share, |i, j, share| self.rest.wall_mm[i][j] * (1.0 + factor * share).max(0.3)),
            apex_mm: self.rest.apex_mm * (1.0 + 0.5 * factor * now).max(0.3),
            ..shape.clone()
        };
        let factor = root(-2.0, 8.0, |factor| thick(factor).wall_ml() - self.wall_ml);
        thick(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use crate::simulate::population::{draw, Group};

    fn heart() -> Heart {
        draw(Some(Group::Healthy), &mut Stream::new("test", 1, "heart", 0)).2
    }

    #[test]
    fn volume_and_mass_are_those_of_the_heart() {
        let heart = heart();
        let ventricle = Ventricle::new(&heart);
        assert!((ventricle.rest.cavity_ml() / heart.edv_ml - 1.0).abs() < 2e-3, "{}", ventricle.rest.cavity_ml());
        assert!((ventricle.rest.wall_ml() * DENSITY / heart.mass_g - 1.0).abs() < 1e-6);
        let longer_than_wide = ventricle.rest.length_mm / (2.0 * ventricle.rest.radius_mm[0][0]);
        assert!((longer_than_wide - heart.slimness).abs() < 1e-9);
    }

    #[test]
    fn the_wall_keeps_its_volume_and_the_stroke_is_the_ejection_fraction() {
        let heart = heart();
        let ventricle = Ventricle::new(&heart);
        for t in [0.0, 0.3, 0.7, 1.0] {
            let shape = ventricle.at(t, |t| t.clamp(0.0, 1.0));
            let ejected = 1.0 - shape.cavity_ml() / ventricle.volume_ml;
            assert!((ejected - t * heart.ef).abs() < 1e-6, "{t}: {ejected}");
            assert!((shape.wall_ml() / ventricle.wall_ml - 1.0).abs() < 1e-6, "{t}");
        }
    }

    #[test]
    fn segments_spread_over_the_wall_come_back() {
        let mut values = [1.0; 16];
        values[2] = 3.0; // basal inferoseptal
        let back = by_segment(&spread(&values));
        assert!(back[2] > 1.9, "{back:?}");
        for far in [4, 5, 10, 15] {
            assert!((back[far] - 1.0).abs() < 0.01, "{back:?}");
        }
        assert!((spread(&values)[ANGLES / 2][0] - 3.0).abs() < 1e-9, "180 degrees is the inferoseptal wall");
    }
}
