//! Pearson's correlation of two series:
//!
//! ```text
//! r = sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2)
//! ```

/// Correlation of two series of the same length; NaN where one of them does not vary or there are fewer than two values.
///
/// ```
/// use ecgflow::metric::correlation::pearson;
/// assert_eq!(pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]), 1.0);
/// assert!((pearson(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]) - 0.8).abs() < 1e-12);
/// ```
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len().min(y.len()) as f64;
    let mean = |v: &[f64]| v.iter().take(n as usize).sum::<f64>() / n;
    let (mx, my) = (mean(x), mean(y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mx, y - my);
        xy += dx * dy;
        xx += dx * dx;
        yy += dy * dy;
    }
    // A mean is rounded, so that the sums of a constant need not be 0.
    if is_constant(x) || is_constant(y) {
        return f64::NAN;
    }
    xy / (xx * yy).sqrt()
}

/// Whether all values are the same, or there are none.
pub fn is_constant(values: &[f64]) -> bool {
    values.iter().zip(values.iter().skip(1)).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_correlates_with_nothing() {
        assert!(pearson(&[1.0, 1.0], &[1.0, 2.0]).is_nan());
        assert!(pearson(&[1.0, 2.0, 3.0], &[0.1; 3]).is_nan());
        assert!(pearson(&[], &[]).is_nan());
    }
}
