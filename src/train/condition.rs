//! Where the flow's view of the ECG starts from.
//!
//! The features of a heartbeat differ from frame to frame far more than from person to person, and people differ along a
//! few directions far more than along the others; what tells a large heart from a small one hides in the others. Layers that
//! start as they are drawn would have to find them first. So `ecg_proj` starts with the features' means over the beat
//! whitened between people, and `ecg_global_proj`, which sees the means of what `ecg_proj` gives, with that brought to a
//! standard deviation of 1:
//!
//! ```text
//! m: mean features of a person     C = cov(P m) + e     L L^T = C     ecg_proj = s X L^-1 P     ecg_global_proj.0 = X' / g
//! ```
//!
//! X and X' are the weights as drawn; P removes the direction of the mean of all people, so that features of zeros, which
//! stand for no ECG, are those of the mean person; s gives tokens of a root mean square of 1, and g is the standard
//! deviation that their means then have.

use ndarray::{Array1, Array2, ArrayView2, Axis};

/// What is added to the covariance, of its mean diagonal: directions that vary less are noise.
const FLOOR: f64 = 3e-3;

/// Variance between people below which it is rounding, of the square of their mean.
const ROUNDING: f64 = 1e-14;

/// The weights to start with.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Weight of `ecg_proj`, (W, D).
    pub projection: Array2<f64>,
    /// Factor of the weight of `ecg_global_proj.0`.
    pub gain: f64,
}

/// From the features (T, D) of some people and the weight of `ecg_proj` as drawn, (W, D). None where people do not differ.
pub fn condition(features: &[Array2<f64>], drawn: ArrayView2<'_, f64>) -> Option<Condition> {
    let mut means = Array2::zeros((0, drawn.ncols()));
    for person in features {
        means.push_row(person.mean_axis(Axis(0))?.view()).ok()?;
    }
    let mean = means.mean_axis(Axis(0))?;
    let length = mean.dot(&mean).sqrt();
    let axis = if length > 0.0 { mean / length } else { mean };
    let apart = without(&means, &axis);
    let mut covariance = apart.t().dot(&apart) / apart.nrows() as f64;
    let variance = covariance.diag().mean().filter(|v| *v > ROUNDING * length * length)?;
    let floor = FLOOR * variance;
    covariance.diag_mut().mapv_inplace(|v| v + floor);
    let lower = cholesky(&covariance)?;

    let mut whitened = drawn.to_owned();
    for mut row in whitened.rows_mut() {
        for j in (0..row.len()).rev() {
            let known: f64 = (j + 1..row.len()).map(|i| row[i] * lower[[i, j]]).sum();
            row[j] = (row[j] - known) / lower[[j, j]];
        }
    }
    let projection = without(&whitened, &axis);

    let size = root_mean_square(features.iter().map(|f| f.dot(&projection.t())))?;
    let spread = root_mean_square([apart.dot(&projection.t())])?;
    Some(Condition { projection: projection / size, gain: size / spread })
}

/// Rows without what lies along an axis of length 1.
fn without(rows: &Array2<f64>, axis: &Array1<f64>) -> Array2<f64> {
    let along = rows.dot(axis).insert_axis(Axis(1));
    rows - &along.dot(&axis.view().insert_axis(Axis(0)))
}

/// Root mean square of all numbers; none where it is not a positive number.
fn root_mean_square(parts: impl IntoIterator<Item = Array2<f64>>) -> Option<f64> {
    let (sum, n) = parts
        .into_iter()
        .fold((0.0, 0), |(sum, n), part| (sum + part.iter().map(|v| v * v).sum::<f64>(), n + part.len()));
    Some((sum / n as f64).sqrt()).filter(|size| size.is_finite() && *size > 0.0)
}

/// L of a symmetric positive definite matrix L L^T, lower triangular; none where it is not one.
fn cholesky(matrix: &Array2<f64>) -> Option<Array2<f64>> {
    let n = matrix.nrows();
    let mut lower = Array2::<f64>::zeros((n, n));
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| lower[[i, k]] * lower[[j, k]]).sum();
            let rest = matrix[[i, j]] - known;
            lower[[i, j]] = if i == j { Some(rest.sqrt()).filter(|v| *v > 0.0)? } else { rest / lower[[j, j]] };
        }
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// People who differ by 1 along one direction and by 0.05 along the others, on a beat that is the same for all.
    fn people() -> Vec<Array2<f64>> {
        let mut random = Stream::new("people", 0, "", 0);
        let person = |_| {
            let own: Vec<f64> = (0..6).map(|k| random.normal() * if k == 0 { 1.0 } else { 0.05 }).collect();
            Array2::from_shape_fn((10, 6), |(t, k)| 0.3 + own[k] + 2.0 * ((t * (k + 1)) as f64 * 0.7).sin())
        };
        (0..400).map(person).collect()
    }

    #[test]
    fn people_differ_alike_in_every_direction_and_zeros_are_the_mean_person() {
        let (people, drawn) = (people(), Array2::eye(6));
        let Condition { projection, gain } = condition(&people, drawn.view()).unwrap();
        let global: Vec<Array1<f64>> =
            people.iter().map(|f| projection.dot(&f.mean_axis(Axis(0)).unwrap()) * gain).collect();
        for k in 0..6 {
            let mean = global.iter().map(|g| g[k]).sum::<f64>() / 400.0;
            let sd = (global.iter().map(|g| (g[k] - mean).powi(2)).sum::<f64>() / 400.0).sqrt();
            assert!(mean.abs() < 1e-9, "{k}: mean {mean}"); // what zeros give, too
            assert!((0.5..1.5).contains(&sd), "{k}: sd {sd}"); // of 1 and 0.05 before; one direction is gone
        }
        let tokens = root_mean_square(people.iter().map(|f| f.dot(&projection.t()))).unwrap();
        assert!((tokens - 1.0).abs() < 1e-9);
    }

    #[test]
    fn people_who_do_not_differ_give_nothing() {
        let one = people().remove(0);
        assert_eq!(condition(&[one.clone(), one], Array2::eye(6).view()), None);
        assert_eq!(condition(&[], Array2::eye(6).view()), None);
    }
}
