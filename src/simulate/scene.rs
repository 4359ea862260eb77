//! All chambers in the four-chamber plane at one instant: which tissue lies at a point.
//!
//! Frame of the heart: the axis of the left ventricle runs along `z` from the valve plane at end-diastole (0) to the apex;
//! `x` points from the septum to the lateral wall. Millimetres. The apex stays where it is and the valve plane comes to it.

use crate::simulate::motion::Beat;
use crate::simulate::population::Heart;
use crate::simulate::ventricle::{Shape, Ventricle};

/// Half the angle that the right ventricle takes around the left, rad.
const RV_REACH: f64 = 1.4;
/// Wall of the right ventricle, mm.
const RV_WALL: f64 = 3.5;
/// Wall of the atria, mm.
const ATRIAL_WALL: f64 = 2.0;
/// How far the tricuspid valve sits towards the apex, mm.
const TRICUSPID_OFFSET: f64 = 5.0;
/// Descent of the tricuspid over that of the mitral valve plane.
const TRICUSPID_DESCENT: f64 = 1.35;
/// Depth over half-width of an atrium, and how much of the depth lies between its centre and the valve.
const ATRIUM: (f64, f64) = (1.1, 0.7);
/// Share of the ellipsoid that the valve plane leaves to an atrium: 1 - (1 - 0.7)^2 (2 + 0.7) / 4.
const ATRIUM_LEFT: f64 = 0.93925;
/// Half the thickness of a valve leaflet, mm.
const LEAFLET: f64 = 1.3;

/// What lies at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tissue {
    /// Blood of the left ventricle; `jet` is 1 in the middle of the inflow.
    LeftBlood {
        /// How much of the inflow jet, 0 to 1.
        jet: f64,
    },
    /// Blood of the right ventricle.
    RightBlood,
    /// Blood of the left atrium.
    LeftAtrialBlood,
    /// Blood of the right atrium.
    RightAtrialBlood,
    /// Heart muscle and valves.
    Muscle,
    /// Fat around the heart.
    Fat,
    /// Pericardium and what is beside it.
    Rim,
}

/// An atrium: an ellipse cut off by its valve plane.
#[derive(Debug, Clone, Copy)]
struct Atrium {
    x: f64,
    z: f64,
    plane: f64,
    half: f64,
}

impl Atrium {
    fn half_mm(volume_ml: f64) -> f64 {
        (volume_ml * 1000.0 / (4.0 / 3.0 * std::f64::consts::PI * ATRIUM.0 * ATRIUM_LEFT)).cbrt()
    }

    fn new(half: f64, x: f64, plane: f64) -> Atrium {
        Atrium { x, z: plane - ATRIUM.1 * ATRIUM.0 * half, plane, half }
    }

    /// Distance to the surface, mm, negative inside; roughly.
    fn distance(&self, x: f64, z: f64) -> f64 {
        let scaled = ((x - self.x).powi(2) + ((z - self.z) / ATRIUM.0).powi(2)).sqrt();
        scaled - self.half
    }

    fn roof(&self) -> f64 {
        self.z - ATRIUM.0 * self.half
    }
}

/// The heart of one participant, at rest and in motion.
#[derive(Debug, Clone)]
pub struct Body {
    heart: Heart,
    ventricle: Ventricle,
    /// The beat.
    pub beat: Beat,
    /// Fat around the heart, mm.
    fat_mm: f64,
    /// How far beside the axis the plane is cut, mm, at end-diastole and at end-systole.
    off_mm: [f64; 2],
}

/// The heart at one instant.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The left ventricle.
    pub shape: Shape,
    /// Where the mitral valve plane is, mm.
    base: f64,
    tricuspid: f64,
    rv_end: f64,
    rv_mm: f64,
    left: Atrium,
    right: Atrium,
    opened: f64,
    inflow: f64,
    off: f64,
    fat: f64,
    septum: f64,
}

impl Body {
    /// The body of a heart whose atria are excited `pr_s` before its ventricles; the plane is cut `off_mm` beside the axis.
    pub fn new(heart: &Heart, pr_s: f64, fat_mm: f64, off_mm: [f64; 2]) -> Body {
        let (ventricle, beat) = (Ventricle::new(heart), Beat::new(heart, pr_s));
        Body { heart: heart.clone(), ventricle, beat, fat_mm, off_mm }
    }

    /// Length of the LV cavity at end-diastole, mm.
    pub fn length_mm(&self) -> f64 {
        self.ventricle.rest().length_mm
    }

    /// The left ventricle at time `t`, s after R.
    pub fn ventricle_at(&self, t: f64) -> Shape {
        self.ventricle.at(t, |t| self.beat.contraction(t))
    }

    /// Volumes at time `t`: LV, RV, LA, RA, mL.
    pub fn volumes_ml(&self, t: f64) -> [f64; 4] {
        let heart = &self.heart;
        let (now, full) = (self.beat.contraction(t), self.beat.reservoir(t));
        [
            heart.edv_ml * (1.0 - heart.ef * now),
            heart.rv_edv_ml * (1.0 - heart.rv_ef * now),
            heart.la_max_ml * (1.0 - heart.la_ef * (1.0 - full)),
            heart.ra_max_ml * (1.0 - heart.ra_ef * (1.0 - full)),
        ]
    }

    /// Everything at time `t`, s after R.
    pub fn at(&self, t: f64) -> Scene {
        let shape = self.ventricle_at(t);
        let [_, rv, la, ra] = self.volumes_ml(t);
        let base = self.length_mm() - shape.length_mm;
        let tricuspid = TRICUSPID_OFFSET + TRICUSPID_DESCENT * base;
        let rv_end = 0.90 * self.length_mm();
        let (left, right) = (Atrium::half_mm(la), Atrium::half_mm(ra));
        let rest = self.ventricle.rest();
        let septum = -0.5 * (rest.cavity_at(false, 0.0) + rest.outside_at(false, 0.0));
        let left_x = (septum + ATRIAL_WALL + left).max(2.0);
        let now = self.beat.contraction(t);
        Scene {
            rv_mm: rv_thickness(&shape, base, (tricuspid, rv_end), rv),
            left: Atrium::new(left, left_x, base),
            right: Atrium::new(right, septum - ATRIAL_WALL - right, tricuspid),
            opened: self.beat.opened(t),
            inflow: self.beat.inflow(t),
            off: self.off_mm[0] + (self.off_mm[1] - self.off_mm[0]) * now,
            fat: self.fat_mm,
            shape,
            base,
            tricuspid,
            rv_end,
            septum,
        }
    }
}

/// Thickness profile of the right ventricle from valve (0) to apex (1): a blunt triangle.
fn rv_profile(along: f64) -> f64 {
    (1.0 - along * along).max(0.0).sqrt() * (1.0 - 0.25 * along)
}

/// How thick the right ventricle must be over the septum for its volume: with delta = d cos^2 (theta) p(z), the volume is the
/// integral of R delta + delta^2 / 2 over theta and z.
fn rv_thickness(shape: &Shape, base: f64, (from, to): (f64, f64), volume_ml: f64) -> f64 {
    const STEPS: usize = 32;
    let (mut linear, mut square) = (0.0, 0.0);
    for k in 0..STEPS {
        let along = (k as f64 + 0.5) / STEPS as f64;
        let p = rv_profile(along);
        linear += shape.outside_at(false, from + along * (to - from) - base) * p;
        square += p * p;
    }
    let step = (to - from) / STEPS as f64;
    let (a, b) = (0.5 * 0.75 * RV_REACH * square * step, RV_REACH * linear * step);
    (-b + (b * b + 4.0 * a * volume_ml * 1000.0).sqrt()) / (2.0 * a)
}

/// Distance of a point to a line between two points.
fn to_segment((x, z): (f64, f64), (ax, az): (f64, f64), (bx, bz): (f64, f64)) -> f64 {
    let (dx, dz) = (bx - ax, bz - az);
    let along = (((x - ax) * dx + (z - az) * dz) / (dx * dx + dz * dz)).clamp(0.0, 1.0);
    (x - ax - along * dx).hypot(z - az - along * dz)
}

impl Scene {
    /// The radius as the plane beside the axis sees it.
    fn cut(&self, radius: f64) -> f64 {
        (radius * radius - self.off * self.off).max(0.0).sqrt()
    }

    /// Area of the LV cavity in the plane, mm2: the truth that a segmentation should find.
    pub fn lv_area_mm2(&self) -> f64 {
        const STEPS: usize = 96;
        let step = self.shape.length_mm / STEPS as f64;
        let width = |k: usize| {
            let z = (k as f64 + 0.5) * step;
            self.cut(self.shape.cavity_at(true, z)) + self.cut(self.shape.cavity_at(false, z))
        };
        (0..STEPS).map(width).sum::<f64>() * step
    }

    /// Where the roof of the left atrium is, mm.
    pub fn roof(&self) -> f64 {
        self.left.roof()
    }

    /// The outermost point of the apex, mm.
    pub fn tip(&self) -> f64 {
        self.base + self.shape.length_mm + self.shape.apex_mm
    }

    /// The tissue at a point, or nothing outside of the heart.
    pub fn tissue(&self, x: f64, z: f64) -> Option<Tissue> {
        let own = z - self.base;
        let outside = self.cut(self.shape.outside_at(x >= 0.0, own));
        if own >= 0.0 && x.abs() < outside {
            return Some(self.left_ventricle(x, own));
        }
        if let Some(tissue) = self.right_ventricle(x, z, outside) {
            return Some(tissue);
        }
        self.atria(x, z).or_else(|| self.surroundings(x, z, outside))
    }

    fn left_ventricle(&self, x: f64, own: f64) -> Tissue {
        if x.abs() >= self.cut(self.shape.cavity_at(x >= 0.0, own)) {
            return Tissue::Muscle;
        }
        let (lateral, septal) = (self.cut(self.shape.cavity_at(true, 0.0)), self.cut(self.shape.cavity_at(false, 0.0)));
        if self.leaflet((x, own), (-septal, lateral)) {
            return Tissue::Muscle;
        }
        let spread = 6.0 + 0.12 * own;
        let jet = self.inflow * (-(x / spread).powi(2)).exp() * (-(own / 40.0).powi(2)).exp();
        Tissue::LeftBlood { jet }
    }

    fn right_ventricle(&self, x: f64, z: f64, inner: f64) -> Option<Tissue> {
        if x >= 0.0 || z < self.tricuspid || z > self.rv_end + RV_WALL {
            return None;
        }
        let along = (z - self.tricuspid) / (self.rv_end - self.tricuspid);
        let outer = inner + self.rv_mm * rv_profile(along);
        if -x < outer {
            let (from, to) = (-self.rv_base(), -self.cut(self.shape.outside_at(false, self.tricuspid - self.base)));
            let closed = self.leaflet((x, z - self.tricuspid), (from, to));
            return Some(if closed { Tissue::Muscle } else { Tissue::RightBlood });
        }
        (-x < outer + RV_WALL).then_some(Tissue::Muscle)
    }

    /// Outer edge of the right ventricle at its valve, mm.
    fn rv_base(&self) -> f64 {
        self.cut(self.shape.outside_at(false, self.tricuspid - self.base)) + self.rv_mm
    }

    /// Whether a point, with z from the valve plane, lies in one of the two leaflets hinged at the ends of the valve.
    fn leaflet(&self, at: (f64, f64), (from, to): (f64, f64)) -> bool {
        let half = 0.5 * (to - from);
        if at.1 > half + LEAFLET {
            return false;
        }
        let (sin, cos) = (0.12 + 1.25 * self.opened).sin_cos();
        let left = to_segment(at, (from, 0.0), (from + half * cos, half * sin));
        left.min(to_segment(at, (to, 0.0), (to - half * cos, half * sin))) < LEAFLET
    }

    fn atria(&self, x: f64, z: f64) -> Option<Tissue> {
        for (atrium, blood) in [(&self.left, Tissue::LeftAtrialBlood), (&self.right, Tissue::RightAtrialBlood)] {
            if z > atrium.plane {
                continue;
            }
            let distance = atrium.distance(x, z);
            if distance < 0.0 {
                return Some(blood);
            }
            if distance < ATRIAL_WALL {
                return Some(Tissue::Muscle);
            }
        }
        None
    }

    /// Fat in the grooves and along the free walls, then the pericardium.
    fn surroundings(&self, x: f64, z: f64, outside: f64) -> Option<Tissue> {
        let own = z - self.base;
        let groove = |at: f64, plane: f64, size: f64| (x - at).hypot(z - plane) < size;
        let lateral = self.shape.outside_at(true, 0.0);
        if groove(lateral + 1.0, self.base - 2.0, 5.5 + 0.5 * self.fat)
            || groove(-self.rv_base() - 2.0, self.tricuspid - 3.0, 6.0 + 0.7 * self.fat)
            || groove(self.septum, self.base - 1.0, 5.0)
        {
            return Some(Tissue::Fat);
        }
        let beside = if x < 0.0 && z > self.tricuspid {
            let along = (z - self.tricuspid) / (self.rv_end - self.tricuspid);
            (-x - outside - self.rv_mm * rv_profile(along.min(1.0)) - RV_WALL).max(z - self.tip())
        } else if own > 0.0 {
            (x.abs() - outside).max(z - self.tip())
        } else {
            self.left.distance(x, z).min(self.right.distance(x, z)) - ATRIAL_WALL
        };
        let fat = if x < 0.0 { self.fat } else { 0.35 * self.fat };
        match beside {
            d if d < fat => Some(Tissue::Fat),
            d if d < fat + 1.6 => Some(Tissue::Rim),
            _ => None,
        }
    }
}
