//! The phase target of PA-MAE: where in its cycle the heart is, as a point on the unit circle.
//!
//! phi rises linearly from 0 at an R peak to 2 pi at the next, and is 0 before the first and from the last peak on.
//! The target is (sin phi, cos phi) of every 8th sample: 2 x 625 for 5000 samples.

use std::f64::consts::TAU;

use ndarray::Array2;

/// Samples per position of the target.
pub const STRIDE: usize = 8;

/// The target for a record of `samples` samples with R peaks at rising sample numbers: 2 x samples / 8.
///
/// ```
/// use ecgflow::signal::phase::target;
/// let target = target(&[8, 40], 64);
/// assert_eq!(target.dim(), (2, 8));
/// assert!((target[[0, 2]] - 1.0).abs() < 1e-6); // sample 16: a quarter of the way from 8 to 40
/// assert_eq!((target[[0, 0]], target[[1, 7]]), (0.0, 1.0)); // outside: angle 0
/// ```
pub fn target(r_peak: &[i32], samples: usize) -> Array2<f32> {
    let mut target = Array2::zeros((2, samples / STRIDE));
    for (place, mut column) in target.columns_mut().into_iter().enumerate() {
        let (sin, cos) = angle(r_peak, place * STRIDE).sin_cos();
        column.iter_mut().zip([sin, cos]).for_each(|(out, value)| *out = value as f32);
    }
    target
}

/// phi of one sample, rad, in [0, 2 pi).
pub fn angle(r_peak: &[i32], sample: usize) -> f64 {
    let after = r_peak.partition_point(|&r| i64::from(r) <= sample as i64);
    let before = after.checked_sub(1).and_then(|k| r_peak.get(k));
    match (before, r_peak.get(after)) {
        (Some(&r), Some(&next)) => TAU * (sample as f64 - f64::from(r)) / (f64::from(next) - f64::from(r)),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_make_625_positions_on_the_circle() {
        let target = target(&[100, 500, 900, 1300], 5000);
        assert_eq!(target.dim(), (2, 625));
        assert!(target.columns().into_iter().all(|c| (c[0] * c[0] + c[1] * c[1] - 1.0).abs() < 1e-6));
        assert!((target[[1, 37]] - (TAU * 196.0 / 400.0).cos() as f32).abs() < 1e-6);
    }

    #[test]
    fn fewer_than_two_peaks_are_angle_zero() {
        for peaks in [&[][..], &[300]] {
            assert!((0..5000).all(|n| angle(peaks, n) == 0.0));
        }
        assert_eq!(angle(&[-5, 5], 0), TAU / 2.0);
        assert_eq!(angle(&[0, 8], 8), 0.0);
    }
}
