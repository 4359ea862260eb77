//! The baseline of a signal by asymmetric least squares (Eilers and Boelens 2005): smooth, and below most of the signal.
//!
//! The baseline z of y minimises sum w_n (y_n - z_n)^2 + lambda sum (z_n - 2 z_{n+1} + z_{n+2})^2, with w_n = p where y_n
//! lies above z_n, 1 - p where it lies below, and 0 where it lies on it; weights and baseline are found in turn.
//!
//! Each turn solves (W + lambda D D') z = W y. The matrix is symmetric, positive and has five diagonals, so it is factored
//! as L d L' in one pass: time and memory grow with the number of samples, where a general sparse solver orders and fills
//! in first. Equal to `scipy.sparse.linalg.spsolve` on the same matrix, see `testdata/golden/preset_golden.py`.

/// How stiff and how lopsided the baseline is, and how often the weights are found anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Als {
    /// Weight of the curvature.
    pub lambda: f64,
    /// Weight of samples above the baseline, between 0 and 1; samples below weigh the rest.
    pub p: f64,
    /// Turns.
    pub iterations: usize,
}

impl Als {
    /// The baseline of `y`; fewer than three samples are their own.
    ///
    /// ```
    /// use ecgflow::signal::als::Als;
    /// let line: Vec<f64> = (0..50).map(|n| 0.2 * f64::from(n)).collect();
    /// let baseline = Als { lambda: 1e4, p: 0.3, iterations: 5 }.baseline(&line);
    /// assert!(line.iter().zip(&baseline).all(|(y, z)| (y - z).abs() < 1e-6)); // a straight line has no curvature
    /// ```
    pub fn baseline(&self, y: &[f64]) -> Vec<f64> {
        if y.len() < 3 {
            return y.to_vec();
        }
        let mut work = Work::new(y.len());
        let mut weights = vec![1.0; y.len()];
        for _ in 0..self.iterations.max(1) {
            work.solve(self.lambda, &weights, y);
            let mut same = true;
            for ((w, y), z) in weights.iter_mut().zip(y).zip(&work.z) {
                let new = if y > z {
                    self.p
                } else if y < z {
                    1.0 - self.p
                } else {
                    0.0
                };
                same &= *w == new;
                *w = new;
            }
            if same {
                break; // every further turn would give this baseline again
            }
        }
        work.z
    }
}

/// One row of the factors: d, the two entries of L below it, and the right-hand side on its way.
#[derive(Clone, Copy, Default)]
struct Factor {
    d: f64,
    next: f64,
    after: f64,
    rest: f64,
}

struct Work {
    /// D D': the diagonal and the first one beside it; the second one beside it is 1.
    penalty: Vec<[f64; 2]>,
    factors: Vec<Factor>,
    z: Vec<f64>,
}

impl Work {
    fn new(n: usize) -> Work {
        // Second differences of n samples: rows 1, -2, 1, each from another sample on.
        let ends = |i: usize, values: &[f64]| {
            let near = i.min(n - 1 - i);
            values.get(near).or(values.last()).copied().unwrap_or(0.0)
        };
        let diagonal = |i: usize| if n == 3 { ends(i, &[1.0, 4.0]) } else { ends(i, &[1.0, 5.0, 6.0]) };
        let beside = |i: usize| if i == 0 || i + 2 >= n { -2.0 } else { -4.0 };
        let penalty = (0..n).map(|i| [diagonal(i), beside(i)]).collect();
        Work { penalty, factors: vec![Factor::default(); n], z: vec![0.0; n] }
    }

    /// z of (W + lambda D D') z = W y.
    fn solve(&mut self, lambda: f64, weights: &[f64], y: &[f64]) {
        let (mut one, mut two) = (Factor::default(), Factor::default()); // the rows before: nearest, second
        let rows = self.penalty.iter().zip(weights.iter().zip(y));
        for (factor, (&[diagonal, beside], (w, y))) in self.factors.iter_mut().zip(rows) {
            let d = w + lambda * diagonal - one.d * one.next * one.next - two.d * two.after * two.after;
            let next = (lambda * beside - one.d * one.next * one.after) / d;
            let rest = w * y - one.next * one.rest - two.after * two.rest;
            *factor = Factor { d, next, after: lambda / d, rest };
            (two, one) = (one, *factor);
        }
        let (mut one, mut two) = (0.0, 0.0); // the solution after: nearest, second
        for (z, factor) in self.z.iter_mut().zip(&self.factors).rev() {
            *z = factor.rest / factor.d - factor.next * one - factor.after * two;
            (two, one) = (one, *z);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_signals_are_their_own_baseline() {
        let als = Als { lambda: 1e7, p: 0.3, iterations: 5 };
        for y in [&[][..], &[1.0], &[1.0, 5.0]] {
            assert_eq!(als.baseline(y), y);
        }
        // With three samples and much stiffness: the straight line nearest to them, all weights 1.
        let z = Als { iterations: 1, ..als }.baseline(&[0.0, 3.0, 0.0]);
        assert!(z.iter().all(|v| (v - 1.0).abs() < 1e-5), "{z:?}");
    }

    #[test]
    fn a_beat_on_a_slow_wave_leaves_the_wave() {
        let wave = |n: usize| 0.4 * (n as f64 / 1500.0).sin();
        let beat = |n: usize| (-0.5 * (((n % 400) as f64 - 200.0) / 6.0).powi(2)).exp();
        let y: Vec<f64> = (0..5000).map(|n| wave(n) + beat(n)).collect();
        let z = Als { lambda: 1e7, p: 0.05, iterations: 10 }.baseline(&y);
        assert!((100..4900).all(|n| (z[n] - wave(n)).abs() < 0.03));
    }
}
