//! The 82 phenotypes of a digital heart: they follow from its geometry.

use crate::simulate::population::Heart;
use crate::simulate::scene::Body;
use crate::simulate::ventricle::{by_segment, Field, Shape, ANGLES, DENSITY, LEVELS};

/// Points along the wall of the four-chamber plane.
const STEPS: usize = 60;

/// Largest area of an aorta, mm2: smallest area, distensibility (1e-3/mmHg) and pulse pressure give it.
pub fn largest_mm2((smallest, distensibility): (f64, f64), pulse_mmhg: f64) -> f64 {
    smallest * (1.0 + distensibility * pulse_mmhg / 1000.0)
}

/// All phenotypes in the order of [`PHENOTYPES`](crate::data::phenotype::PHENOTYPES).
pub fn phenotypes(heart: &Heart, body: &Body) -> [f64; 82] {
    let (rest, systole) = (body.ventricle_at(0.0), body.ventricle_at(body.beat.end_systole_s));
    let mut out = Vec::with_capacity(82);
    let pump = |full: f64, ef: f64| [full, full * (1.0 - ef), full * ef, 100.0 * ef];
    let edv = rest.cavity_ml();
    let stroke = edv - systole.cavity_ml();
    out.extend([edv, edv - stroke, stroke, 100.0 * stroke / edv, stroke * heart.heart_rate / 1000.0]);
    out.push(rest.wall_ml() * DENSITY);
    out.extend(pump(heart.rv_edv_ml, heart.rv_ef));
    out.extend(pump(heart.la_max_ml, heart.la_ef));
    out.extend(pump(heart.ra_max_ml, heart.ra_ef));
    for aorta in heart.aorta {
        out.extend([largest_mm2(aorta, heart.pulse_mmhg), aorta.0, aorta.1]);
    }
    let wall = by_segment(&rest.wall_mm);
    let middle =
        |shape: &Shape| by_segment(&join(&shape.radius_mm, &shape.wall_mm, |radius, wall| radius + wall / 2.0));
    let strain = |late: [f64; 16], early: [f64; 16]| std::array::from_fn(|k| 100.0 * (late[k] / early[k] - 1.0));
    with_mean(&mut out, wall);
    with_mean(&mut out, strain(middle(&systole), middle(&rest)));
    with_mean(&mut out, strain(by_segment(&systole.wall_mm), wall));
    let (late, early) = (along(&systole), along(&rest));
    out.extend((0..6).map(|k| 100.0 * (late[k] / early[k] - 1.0)));
    out.push(100.0 * (late.iter().sum::<f64>() / early.iter().sum::<f64>() - 1.0));
    std::array::from_fn(|k| out.get(k).copied().unwrap_or(f64::NAN))
}

fn with_mean(out: &mut Vec<f64>, values: [f64; 16]) {
    out.extend(values);
    out.push(values.iter().sum::<f64>() / 16.0);
}

fn join(a: &Field, b: &Field, f: impl Fn(f64, f64) -> f64) -> Field {
    let mut out = [[0.0; LEVELS]; ANGLES];
    for i in 0..ANGLES {
        for j in 0..LEVELS {
            out[i][j] = f(a[i][j], b[i][j]);
        }
    }
    out
}

/// Lengths of the middle of the wall in the four-chamber plane, mm: basal, mid and apical septum, then apical, mid and
/// basal lateral wall.
fn along(shape: &Shape) -> [f64; 6] {
    let end = shape.length_mm + 0.5 * shape.apex_mm;
    let mut out = [0.0; 6];
    for (lateral, thirds) in [(false, [0, 1, 2]), (true, [5, 4, 3])] {
        let point = |k: usize| {
            let s = k as f64 / STEPS as f64;
            let (inner, outer) =
                (shape.cavity_at(lateral, s * shape.length_mm), shape.outside_at(lateral, s * shape.length_mm));
            // Towards the tip the middle of the wall leaves the cavity behind.
            let tip = s.powi(8);
            (0.5 * (inner + outer) * (1.0 - tip), s * shape.length_mm + tip * (end - shape.length_mm))
        };
        for k in 0..STEPS {
            let (from, to) = (point(k), point(k + 1));
            out[thirds[3 * k / STEPS]] += (to.0 - from.0).hypot(to.1 - from.1);
        }
    }
    out
}
