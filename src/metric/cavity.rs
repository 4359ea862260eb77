//! A fixed, simple segmentation of the LV cavity in clips that stand as those of the digital hearts do: centred on the left
//! ventricle, its axis 38 degrees clockwise from up.
//!
//! Rays leave the middle of the ventricle towards the apex and up to 105 degrees to both sides, so that they do not look
//! through the mitral valve. A ray ends where the picture falls below 0.62 of the blood around its origin. Ends are
//! smoothed by the median of five neighbours; the area is that of the fan. What lies between the outermost rays and the
//! valve is not counted, so the area is a part of the cavity, and it is a measure for comparisons only.
//!
//! It knows nothing of a clip's truth and is the same for all of them. For clips of real hearts take a segmentation
//! that was validated on them.

/// Side of the clips it is made for, pixels.
pub const SIDE: usize = 96;
/// Origin of the rays: row and column.
const ORIGIN: (f64, f64) = (49.2, 52.0);
/// Clockwise from up, degrees: the axis of the ventricle, and how far the rays go to each side.
const AXIS_DEG: f64 = 38.0;
const REACH_DEG: f64 = 105.0;
const RAYS: usize = 43;
/// Length of the rays and their step, pixels.
const LENGTH: f64 = 45.0;
const STEP: f64 = 0.25;
/// Points of each ray, from the origin, that are blood in any heart.
const BLOOD_POINTS: usize = 24;
/// Share of the blood's brightness below which the cavity ends.
const EDGE: f64 = 0.62;
/// Neighbours on each side that an end is compared with.
const NEIGHBOURS: usize = 2;

/// Brightness between four pixels; the picture goes on unchanged beyond its edge.
fn at(frame: &[f32], row: f64, column: f64) -> f64 {
    let last = (SIDE - 1) as f64 - 1e-6;
    let (row, column) = (row.clamp(0.0, last), column.clamp(0.0, last));
    let (i, j) = (row as usize, column as usize);
    let (a, b) = (row - i as f64, column - j as f64);
    let pixel = |i: usize, j: usize| frame.get(i * SIDE + j).map_or(0.0, |v| f64::from(*v));
    (pixel(i, j) * (1.0 - b) + pixel(i, j + 1) * b) * (1.0 - a)
        + (pixel(i + 1, j) * (1.0 - b) + pixel(i + 1, j + 1) * b) * a
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Area of the fan in one picture of 96 x 96, pixels.
pub fn area(frame: &[f32]) -> f64 {
    let points = (LENGTH / STEP) as usize;
    let angle = |k: usize| (AXIS_DEG + REACH_DEG * (2.0 * k as f64 / (RAYS - 1) as f64 - 1.0)).to_radians();
    let rays: Vec<Vec<f64>> = (0..RAYS)
        .map(|k| {
            let (sin, cos) = angle(k).sin_cos();
            (0..points).map(|n| n as f64 * STEP).map(|r| at(frame, ORIGIN.0 - r * cos, ORIGIN.1 + r * sin)).collect()
        })
        .collect();
    let mut near: Vec<f64> = rays.iter().flat_map(|ray| ray.iter().take(BLOOD_POINTS).copied()).collect();
    let edge = EDGE * middle(&mut near);
    let end = |ray: &Vec<f64>| ray.iter().position(|v| *v < edge).unwrap_or(points - 1) as f64 * STEP;
    let ends: Vec<f64> = rays.iter().map(end).collect();
    let smooth: Vec<f64> = (0..RAYS)
        .map(|k| {
            let from = k.saturating_sub(NEIGHBOURS);
            middle(&mut ends.iter().skip(from).take(k + NEIGHBOURS + 1 - from).copied().collect::<Vec<_>>())
        })
        .collect();
    let wedge = (angle(1) - angle(0)).sin() / 2.0;
    smooth.iter().zip(smooth.iter().skip(1)).map(|(a, b)| a * b * wedge).sum()
}

/// Area at each frame of a clip, pixels; [1 2 1] / 4 smoothed twice over the cycle, which has no ends.
pub fn area_curve(clip: &[f32]) -> Vec<f64> {
    let mut curve: Vec<f64> = clip.chunks_exact(SIDE * SIDE).map(area).collect();
    let n = curve.len();
    for _ in 0..2 {
        let round = |i: usize| curve.get(i % n).copied().unwrap_or(f64::NAN);
        curve = (0..n).map(|i| (round(i + n - 1) + 2.0 * round(i) + round(i + 1)) / 4.0).collect();
    }
    curve
}

/// The frame of the smallest area.
pub fn end_systole(curve: &[f64]) -> usize {
    curve.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(frame, _)| frame)
}

/// Share of the area at the first frame that the smallest area lacks.
pub fn area_change(curve: &[f64]) -> f64 {
    match curve.first() {
        Some(first) => 1.0 - curve.iter().copied().fold(f64::INFINITY, f64::min) / first,
        None => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bright disc of this radius around the origin of the rays.
    fn disc(radius: f64) -> Vec<f32> {
        let inside = |i: usize| {
            let (row, column) = ((i / SIDE) as f64, (i % SIDE) as f64);
            (row - ORIGIN.0).hypot(column - ORIGIN.1) < radius
        };
        (0..SIDE * SIDE).map(|i| if inside(i) { 0.9 } else { 0.3 }).collect()
    }

    #[test]
    fn the_area_of_a_disc_is_that_of_its_sector() {
        for radius in [8.0, 15.0, 22.0] {
            let sector = radius * radius * REACH_DEG.to_radians();
            let found = area(&disc(radius));
            assert!((found / sector - 1.0).abs() < 0.06, "{radius}: {found} of {sector}");
        }
    }

    #[test]
    fn a_beating_disc_gives_its_frame_and_its_change() {
        let radius = |t: usize| 16.0 + 4.0 * (std::f64::consts::TAU * t as f64 / 50.0).cos();
        let clip: Vec<f32> = (0..50).flat_map(|t| disc(radius(t))).collect();
        let curve = area_curve(&clip);
        assert!((24..=26).contains(&end_systole(&curve)), "{}", end_systole(&curve));
        let expected = 1.0 - (12.0f64 / 20.0).powi(2);
        assert!((area_change(&curve) - expected).abs() < 0.03, "{}", area_change(&curve));
    }

    #[test]
    fn a_picture_of_the_wrong_size_gives_a_number_or_none_but_no_panic() {
        assert!(area_curve(&[0.5; 10]).is_empty());
        assert!(area(&[0.5; 10]).is_finite() && area_change(&[]).is_nan());
    }
}
