//! How far predicted numbers are from true ones:
//!
//! ```text
//! MAE  = mean |y - p|
//! RMSE = sqrt(mean (y - p)^2)
//! R2   = 1 - sum (y - p)^2 / sum (y - mean y)^2
//! r    = Pearson's correlation of y and p
//! ```
//!
//! and how two measurements agree (Bland and Altman 1986): the mean and the standard deviation of p - y, and the limits
//! mean +- 1.96 sd. Values are finite: the caller leaves missing ones out, of both series ([`pairs`]).

use super::correlation::{is_constant, pearson};

/// Width of the limits of agreement, standard deviations: 95 % of normal differences.
const LIMITS: f64 = 1.96;

/// All scores of one series of predictions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regression {
    /// Pairs of values.
    pub n: usize,
    /// Mean absolute error, in the unit of the values.
    pub mae: f64,
    /// Root of the mean squared error, in the unit of the values.
    pub rmse: f64,
    /// Share of the variance explained; NaN where the truth does not vary.
    pub r2: f64,
    /// Pearson's correlation; NaN where either does not vary.
    pub pearson: f64,
}

impl Regression {
    /// The scores of `predicted` for `truth`.
    ///
    /// ```
    /// use ecgflow::metric::regression::Regression;
    /// let score = Regression::new(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 6.0]);
    /// assert_eq!([score.mae, score.rmse], [0.5, 1.0]);
    /// assert!((score.r2 - 0.2).abs() < 1e-12); // 1 - 4 / 5
    /// ```
    pub fn new(truth: &[f64], predicted: &[f64]) -> Regression {
        Regression {
            n: truth.len().min(predicted.len()),
            mae: mae(truth, predicted),
            rmse: rmse(truth, predicted),
            r2: r2(truth, predicted),
            pearson: pearson(truth, predicted),
        }
    }
}

/// The values of both series at the places where both are finite.
///
/// ```
/// use ecgflow::metric::regression::pairs;
/// assert_eq!(pairs(&[1.0, f64::NAN, 3.0], &[4.0, 5.0, 6.0]), (vec![1.0, 3.0], vec![4.0, 6.0]));
/// ```
pub fn pairs(truth: &[f64], predicted: &[f64]) -> (Vec<f64>, Vec<f64>) {
    truth.iter().zip(predicted).filter(|(y, p)| y.is_finite() && p.is_finite()).unzip()
}

/// Mean absolute error; NaN of nothing.
pub fn mae(truth: &[f64], predicted: &[f64]) -> f64 {
    mean(truth.iter().zip(predicted).map(|(y, p)| (y - p).abs()))
}

/// Root of the mean squared error; NaN of nothing.
pub fn rmse(truth: &[f64], predicted: &[f64]) -> f64 {
    mean(truth.iter().zip(predicted).map(|(y, p)| (y - p).powi(2))).sqrt()
}

/// 1 - SSres / SStot; below zero where the mean of the truth would have been the better prediction; NaN where the truth
/// does not vary.
pub fn r2(truth: &[f64], predicted: &[f64]) -> f64 {
    if is_constant(truth) {
        return f64::NAN;
    }
    let middle = mean(truth.iter().copied());
    let residual: f64 = truth.iter().zip(predicted).map(|(y, p)| (y - p).powi(2)).sum();
    let total: f64 = truth.iter().map(|y| (y - middle).powi(2)).sum();
    1.0 - residual / total
}

/// Agreement of two measurements of the same things.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Mean of predicted - true.
    pub bias: f64,
    /// Standard deviation of predicted - true (n - 1).
    pub sd: f64,
    /// The limits of agreement: bias +- 1.96 sd.
    pub limits: [f64; 2],
}

/// Agreement of `predicted` with `truth`.
///
/// ```
/// use ecgflow::metric::regression::agreement;
/// let found = agreement(&[1.0, 2.0, 3.0], &[2.0, 3.0, 6.0]);
/// assert!((found.bias - 5.0 / 3.0).abs() < 1e-12 && (found.sd - 1.154_700_538).abs() < 1e-9);
/// ```
pub fn agreement(truth: &[f64], predicted: &[f64]) -> Agreement {
    let difference: Vec<f64> = truth.iter().zip(predicted).map(|(y, p)| p - y).collect();
    let bias = mean(difference.iter().copied());
    let square: f64 = difference.iter().map(|d| (d - bias).powi(2)).sum();
    let sd = (square / (difference.len() as f64 - 1.0)).sqrt();
    Agreement { bias, sd, limits: [bias - LIMITS * sd, bias + LIMITS * sd] }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0usize), |(sum, n), value| (sum + value, n + 1));
    sum / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_explains_nothing_and_the_truth_everything() {
        let y = [1.0, 2.0, 4.0, 5.0];
        assert_eq!(r2(&y, &[3.0; 4]), 0.0);
        assert_eq!(r2(&y, &y), 1.0);
        assert!(r2(&y, &[5.0, 4.0, 2.0, 1.0]) < 0.0);
    }

    #[test]
    fn a_target_that_does_not_vary_has_no_share_of_variance() {
        let score = Regression::new(&[0.1; 3], &[0.1, 0.2, 0.3]);
        assert!(score.r2.is_nan() && score.pearson.is_nan());
        assert!((score.mae - 0.1).abs() < 1e-12);
        assert!(Regression::new(&[], &[]).mae.is_nan());
    }
}
