//! Peak signal-to-noise ratio of pictures in [0, 1]:
//!
//! ```text
//! PSNR = -10 log10 (mean (x - y)^2)
//! ```

/// PSNR of two pictures or clips, dB; infinite where they are equal.
///
/// ```
/// use ecgflow::metric::psnr::psnr;
/// assert!((psnr(&[0.0, 0.5, 1.0], &[0.1, 0.4, 0.9]) - 20.0).abs() < 1e-6);
/// ```
pub fn psnr(x: &[f32], y: &[f32]) -> f64 {
    let sum: f64 = x.iter().zip(y).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    -10.0 * (sum / x.len().min(y.len()) as f64).log10()
}
