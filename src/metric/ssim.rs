//! Structural similarity of two pictures (Wang et al. 2004):
//!
//! ```text
//! SSIM = mean of (2 mx my + c1)(2 cov + c2) / ((mx^2 + my^2 + c1)(vx + vy + c2))
//! ```
//!
//! with means, variances and the covariance under a round Gaussian window of 11 x 11 pixels, sigma 1.5, as population
//! values, c1 = (0.01 R)^2, c2 = (0.03 R)^2 and R the range of the values; the mean is taken where the window lies
//! inside the picture. scikit-image: `structural_similarity(x, y, data_range=R, gaussian_weights=True, sigma=1.5,
//! use_sample_covariance=False)`.

const SIGMA: f64 = 1.5;
/// Pixels from the middle of the window to its edge.
const RADIUS: usize = 5;
const K1: f64 = 0.01;
const K2: f64 = 0.03;

/// SSIM of two pictures of `size` = (rows, columns) with values that span `range`; NaN where they are smaller than the
/// window or hold another number of values.
///
/// ```
/// use ecgflow::metric::ssim::ssim;
/// let x: Vec<f32> = (0..144).map(|i| (i % 7) as f32 / 6.0).collect();
/// assert!((ssim(&x, &x, (12, 12), 1.0) - 1.0).abs() < 1e-12);
/// // Two flat pictures differ in their means alone: (2 * 0.5 * 0.25 + 0.0001) / (0.25 + 0.0625 + 0.0001).
/// assert!((ssim(&[0.5; 144], &[0.25; 144], (12, 12), 1.0) - 0.2501 / 0.3126).abs() < 1e-12);
/// ```
pub fn ssim(x: &[f32], y: &[f32], size: (usize, usize), range: f64) -> f64 {
    let (rows, columns) = size;
    if rows.min(columns) <= 2 * RADIUS || x.len() != rows * columns || y.len() != x.len() {
        return f64::NAN;
    }
    let weights = window();
    let under = |value: &dyn Fn(f64, f64) -> f64| {
        let values: Vec<f64> = x.iter().zip(y).map(|(x, y)| value(f64::from(*x), f64::from(*y))).collect();
        smooth(&values, size, &weights)
    };
    let (mx, my) = (under(&|x, _| x), under(&|_, y| y));
    let (xx, yy, xy) = (under(&|x, _| x * x), under(&|_, y| y * y), under(&|x, y| x * y));
    let (c1, c2) = ((K1 * range).powi(2), (K2 * range).powi(2));
    let sum: f64 = (0..mx.len())
        .map(|i| {
            let (mx, my) = (mx[i], my[i]);
            let (vx, vy, cov) = (xx[i] - mx * mx, yy[i] - my * my, xy[i] - mx * my);
            (2.0 * mx * my + c1) * (2.0 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
        })
        .sum();
    sum / mx.len() as f64
}

/// Mean SSIM of the frames of two clips.
pub fn ssim_of_clips(x: &[f32], y: &[f32], size: (usize, usize), range: f64) -> f64 {
    let pixels = (size.0 * size.1).max(1);
    let frames = x.chunks(pixels).zip(y.chunks(pixels)).map(|(x, y)| ssim(x, y, size, range));
    frames.sum::<f64>() / x.len().div_ceil(pixels) as f64
}

fn window() -> Vec<f64> {
    let weight = |i: usize| (-0.5 * ((i as f64 - RADIUS as f64) / SIGMA).powi(2)).exp();
    let weights: Vec<f64> = (0..=2 * RADIUS).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Weighted means under the window, where it lies inside the picture.
fn smooth(values: &[f64], (rows, columns): (usize, usize), weights: &[f64]) -> Vec<f64> {
    let out = columns - 2 * RADIUS;
    let row = |row: &[f64]| -> Vec<f64> {
        row.windows(weights.len()).map(|w| w.iter().zip(weights).map(|(v, w)| v * w).sum()).collect()
    };
    let lines: Vec<f64> = values.chunks_exact(columns).flat_map(row).collect();
    let mut smoothed = vec![0.0; (rows - 2 * RADIUS) * out];
    for (r, line) in smoothed.chunks_exact_mut(out).enumerate() {
        for (k, weight) in weights.iter().enumerate() {
            let from = (r + k) * out;
            line.iter_mut().zip(&lines[from..from + out]).for_each(|(sum, v)| *sum += weight * v);
        }
    }
    smoothed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_and_unequal_ones_have_none() {
        assert!(ssim(&[0.0; 100], &[0.0; 100], (10, 10), 1.0).is_nan());
        assert!(ssim(&[0.0; 144], &[0.0; 143], (12, 12), 1.0).is_nan());
        assert!(ssim_of_clips(&[], &[], (12, 12), 1.0).is_nan());
    }

    #[test]
    fn a_clip_has_the_mean_of_its_frames() {
        let picture = |speed: f32| -> Vec<f32> { (0..180).map(|i| (i as f32 * speed).sin() * 0.5 + 0.5).collect() };
        let (x, y) = ([picture(0.3), picture(0.5)].concat(), [picture(0.31), picture(0.5)].concat());
        let first = ssim(&picture(0.3), &picture(0.31), (12, 15), 1.0);
        assert!(first < 0.99);
        assert!((ssim_of_clips(&x, &y, (12, 15), 1.0) - (first + 1.0) / 2.0).abs() < 1e-12);
    }
}
