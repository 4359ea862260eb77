//! Eigenvalues of symmetric matrices: Householder's reduction to three diagonals, then QL steps with implicit shifts
//! (Bowdler, Martin, Reinsch and Wilkinson 1968; Dubrulle 1970).
//!
//! Written here because the Frechet distance needs the values alone of one matrix, and the crates that have them bring
//! a whole linear algebra along.

/// Steps for one eigenvalue; two are usual.
const MOST_STEPS: usize = 60;

/// The eigenvalues of a symmetric matrix (n x n, row by row; its lower triangle is read), in rising order. None where
/// the iteration does not settle, as with numbers that are not finite.
///
/// ```
/// use ecgflow::metric::eigen::eigenvalues;
/// let values = eigenvalues(vec![2.0, 1.0, 1.0, 2.0], 2).unwrap();
/// assert!((values[0] - 1.0).abs() < 1e-12 && (values[1] - 3.0).abs() < 1e-12);
/// ```
pub fn eigenvalues(mut matrix: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    let (mut diagonal, mut beside) = tridiagonal(&mut matrix, n);
    if !diagonal.iter().chain(&beside).all(|value| value.is_finite()) {
        return None;
    }
    settle(&mut diagonal, &mut beside)?;
    diagonal.sort_by(f64::total_cmp);
    Some(diagonal)
}

/// The diagonal, and what stands beside it: `beside[i]` between i and i + 1.
fn tridiagonal(matrix: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n]);
    for last in (0..n).rev() {
        let (above, rest) = matrix.split_at_mut(last * n);
        let row = &mut rest[..=last];
        diagonal[last] = row[last];
        let Some(before) = last.checked_sub(1) else { continue };
        // Reflects the row's first `last` numbers onto the last of them.
        let scale: f64 = row[..last].iter().map(|v| v.abs()).sum();
        if row[..before].iter().all(|v| *v == 0.0) || scale == 0.0 {
            beside[before] = row[before];
            continue;
        }
        let vector = &mut row[..last];
        vector.iter_mut().for_each(|v| *v /= scale);
        let square: f64 = vector.iter().map(|v| v * v).sum();
        let length = if vector[before] >= 0.0 { -square.sqrt() } else { square.sqrt() };
        beside[before] = scale * length;
        let half = square - vector[before] * length;
        vector[before] -= length;
        // A <- (1 - v v^T / half) A (1 - v v^T / half) = A - v w^T - w v^T
        let mut w = vec![0.0; last];
        for i in 0..last {
            let line = &above[i * n..i * n + i];
            let (mut sum, vi) = (above[i * n + i] * vector[i], vector[i]);
            for ((a, v), w) in line.iter().zip(vector.iter()).zip(w.iter_mut()) {
                sum += a * v;
                *w += a * vi;
            }
            w[i] += sum;
        }
        w.iter_mut().for_each(|w| *w /= half);
        let along = w.iter().zip(vector.iter()).map(|(w, v)| w * v).sum::<f64>() / (2.0 * half);
        w.iter_mut().zip(vector.iter()).for_each(|(w, v)| *w -= along * v);
        for i in 0..last {
            let (vi, wi) = (vector[i], w[i]);
            let line = &mut above[i * n..=i * n + i];
            line.iter_mut().zip(vector.iter().zip(&w)).for_each(|(a, (v, w))| *a -= vi * w + wi * v);
        }
    }
    (diagonal, beside)
}

/// Turns the diagonal into the eigenvalues.
fn settle(d: &mut [f64], e: &mut [f64]) -> Option<()> {
    let n = d.len();
    for l in 0..n {
        for step in 0.. {
            let is_small = |m: usize| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs());
            let m = (l..n - 1).find(|m| is_small(*m)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            if step == MOST_STEPS {
                return None;
            }
            let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut g = d[m] - d[l] + e[l] / (g + g.hypot(1.0).copysign(g));
            let (mut sin, mut cos, mut p) = (1.0, 1.0, 0.0);
            let mut whole = true;
            for i in (l..m).rev() {
                let (f, b) = (sin * e[i], cos * e[i]);
                let r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    whole = false;
                    break;
                }
                (sin, cos) = (f / r, g / r);
                g = d[i + 1] - p;
                let r = (d[i] - g) * sin + 2.0 * cos * b;
                p = sin * r;
                d[i + 1] = g + p;
                g = cos * r - b;
            }
            if whole {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_difference_has_its_known_values() {
        let n = 40;
        let at = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 2.0,
            1 => -1.0,
            _ => 0.0,
        };
        let matrix = (0..n * n).map(|k| at(k / n, k % n)).collect();
        let found = eigenvalues(matrix, n).unwrap();
        for (k, value) in found.iter().enumerate() {
            let angle = std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64;
            assert!((value - (2.0 - 2.0 * angle.cos())).abs() < 1e-13, "{k}: {value}");
        }
    }

    #[test]
    fn a_full_matrix_keeps_its_trace_and_the_sum_of_its_squares() {
        let n = 31;
        let mut random = crate::random::Stream::new("eigen test", 0, "", 0);
        let mut matrix = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let value = random.normal();
                (matrix[i * n + j], matrix[j * n + i]) = (value, value);
            }
        }
        let trace: f64 = (0..n).map(|i| matrix[i * n + i]).sum();
        let squares: f64 = matrix.iter().map(|v| v * v).sum();
        let found = eigenvalues(matrix, n).unwrap();
        assert!((found.iter().sum::<f64>() - trace).abs() < 1e-11);
        assert!((found.iter().map(|v| v * v).sum::<f64>() - squares).abs() < 1e-9);
    }

    #[test]
    fn empty_zero_and_infinite_matrices_end() {
        assert_eq!(eigenvalues(vec![], 0), Some(vec![]));
        assert_eq!(eigenvalues(vec![0.0; 9], 3), Some(vec![0.0; 3]));
        assert_eq!(eigenvalues(vec![f64::NAN; 9], 3), None);
    }
}
