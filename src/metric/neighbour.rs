//! How two sets of feature vectors cover each other, and whether new vectors are copies of known ones.
//!
//! With B(x) the ball around x that reaches its k-th nearest neighbour in its own set (Kynkaanniemi et al. 2019, Naeem et
//! al. 2020):
//!
//! ```text
//! precision = share of generated vectors inside B(r) of some real r
//! recall    = share of real vectors inside B(g) of some generated g
//! density   = 1/k mean over generated vectors of the number of B(r) they are in
//! coverage  = share of the B(r) that hold a generated vector
//! ```
//!
//! Copies (Carlini et al. 2023): the ratio of the distance of a generated vector to its nearest training vector to the
//! mean of the distances to the next nearest ones. Another draw of the same distribution has a ratio near 1, a copy one
//! near 0.

use rayon::prelude::*;

/// Neighbours that make the ball.
pub const NEAREST: usize = 5;
/// Next nearest training vectors that a distance is compared with.
pub const NEXT: usize = 50;
/// Ratio below which a vector is taken for a copy.
pub const COPY: f64 = 0.5;

/// Vectors of one width, one after another.
#[derive(Debug, Clone, Copy)]
pub struct Vectors<'a> {
    values: &'a [f32],
    width: usize,
}

impl<'a> Vectors<'a> {
    /// Vectors of `width` numbers.
    pub fn new(values: &'a [f32], width: usize) -> Vectors<'a> {
        Vectors { values, width: width.max(1) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.values.len() / self.width
    }

    fn iter(&self) -> impl Iterator<Item = &'a [f32]> {
        self.values.chunks_exact(self.width)
    }

    /// Euclidean distances of every vector (row) to every other's (column).
    fn distances(&self, others: Vectors) -> Vec<Vec<f64>> {
        let rows: Vec<&[f32]> = self.iter().collect();
        rows.par_iter().map(|row| others.iter().map(|other| apart(row, other)).collect()).collect()
    }
}

/// Euclidean distance.
pub fn apart(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0f64; LANES];
    let (x, y) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f64 = x.remainder().iter().zip(y.remainder()).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    for (x, y) in x.zip(y) {
        sums.iter_mut().zip(x.iter().zip(y)).for_each(|(sum, (a, b))| *sum += f64::from(a - b).powi(2));
    }
    (sums.iter().sum::<f64>() + tail).sqrt()
}

/// The four scores.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Cover {
    pub precision: f64,
    pub recall: f64,
    pub density: f64,
    pub coverage: f64,
}

/// How `generated` covers `real`, with balls of `k` neighbours; none where a set has no more than k vectors.
///
/// ```
/// use ecgflow::metric::neighbour::{cover, Vectors};
/// let real = Vectors::new(&[0.0, 1.0, 2.0, 10.0], 1); // balls reach 1, 1, 1 and 8 far
/// let found = cover(real, Vectors::new(&[0.5, 0.6, 30.0], 1), 1).unwrap();
/// assert_eq!([found.precision, found.recall], [2.0 / 3.0, 0.75]); // the ball of 30 reaches 29.4 far, not to 0
/// assert_eq!([found.density, found.coverage], [4.0 / 3.0, 0.5]);
/// ```
pub fn cover(real: Vectors, generated: Vectors, k: usize) -> Option<Cover> {
    if real.count().min(generated.count()) <= k || k == 0 {
        return None;
    }
    let (real_balls, generated_balls) = (balls(real, k), balls(generated, k));
    let apart = real.distances(generated);
    let (n, m) = (real.count(), generated.count());
    let inside = |r: usize, g: usize| apart[r][g] < real_balls[r];
    let share = |hits: usize, of: usize| hits as f64 / of as f64;
    let held: usize = (0..m).map(|g| (0..n).filter(|r| inside(*r, g)).count()).sum();
    Some(Cover {
        precision: share((0..m).filter(|g| (0..n).any(|r| inside(r, *g))).count(), m),
        recall: share((0..n).filter(|r| (0..m).any(|g| apart[*r][g] < generated_balls[g])).count(), n),
        density: share(held, k * m),
        coverage: share((0..n).filter(|r| (0..m).any(|g| inside(*r, g))).count(), n),
    })
}

/// The distance of each vector to its k-th nearest neighbour in its own set.
fn balls(set: Vectors, k: usize) -> Vec<f64> {
    let mut rows = set.distances(set);
    rows.par_iter_mut().for_each(|row| row.sort_by(f64::total_cmp)); // the first is the vector itself
    rows.iter().filter_map(|row| row.get(k).copied()).collect()
}

/// A vector and its nearest training vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Place of the training vector.
    pub place: usize,
    /// Distance to it.
    pub distance: f64,
    /// That distance over the mean of the distances to the next nearest; below [`COPY`] the vector is taken for a copy.
    pub ratio: f64,
}

/// The nearest training vector of `vector`; none where there are fewer than two.
///
/// ```
/// use ecgflow::metric::neighbour::{nearest, Vectors};
/// let train = Vectors::new(&[0.0, 10.0, 20.0], 1);
/// let found = nearest(&[1.0], train).unwrap();
/// assert_eq!((found.place, found.distance, found.ratio), (0, 1.0, 1.0 / 14.0)); // (9 + 19) / 2
/// ```
pub fn nearest(vector: &[f32], train: Vectors) -> Option<Nearest> {
    nearest_of(train.iter().map(|other| apart(vector, other)).collect())
}

/// The same from the distances to the training vectors.
pub fn nearest_of(distances: Vec<f64>) -> Option<Nearest> {
    let mut order: Vec<(f64, usize)> = distances.into_iter().zip(0..).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (distance, place) = order.first().copied()?;
    let next: Vec<f64> = order.iter().skip(1).take(NEXT).map(|(distance, _)| *distance).collect();
    let mean = next.iter().sum::<f64>() / next.len() as f64;
    // Where all training vectors are the same, a vector is a copy of all or of none.
    let ratio = if distance == 0.0 { 0.0 } else { distance / mean };
    (!next.is_empty()).then_some(Nearest { place, distance, ratio })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const WIDTH: usize = 200;

    fn draws(n: usize, seed: u64) -> Vec<f32> {
        let mut random = Stream::new("neighbour test", seed, "", 0);
        (0..n * WIDTH).map(|_| random.normal() as f32).collect()
    }

    fn copies(train: &[f32], n: usize, noise: f32) -> Vec<f32> {
        let noises = draws(n, 9);
        let rows = noises.chunks_exact(WIDTH).zip(train.chunks_exact(WIDTH).cycle());
        rows.flat_map(|(noise_row, row)| row.iter().zip(noise_row).map(move |(v, e)| v + noise * e)).collect()
    }

    #[test]
    fn copies_with_noise_are_told_from_independent_draws_and_from_the_mean() {
        let train = draws(8, 0);
        let known = Vectors::new(&train, WIDTH);
        let ratios = |set: &[f32]| -> Vec<f64> {
            set.chunks_exact(WIDTH).map(|row| nearest(row, known).unwrap().ratio).collect()
        };
        assert!(ratios(&copies(&train, 16, 0.3)).iter().all(|ratio| *ratio < COPY));
        assert!(ratios(&draws(40, 1)).iter().all(|ratio| *ratio > 0.8));
        let mean: Vec<f32> =
            (0..WIDTH).map(|j| train.chunks_exact(WIDTH).map(|row| row[j]).sum::<f32>() / 8.0).collect();
        assert!(ratios(&mean)[0] > 0.8);
        assert_eq!(nearest(&copies(&train, 3, 0.1)[2 * WIDTH..], known).unwrap().place, 2);
    }

    #[test]
    fn the_same_distribution_is_covered_and_a_single_mode_is_not() {
        let (real, same) = (draws(60, 0), draws(60, 1));
        let whole = cover(Vectors::new(&real, WIDTH), Vectors::new(&same, WIDTH), NEAREST).unwrap();
        let mode = copies(&real[..WIDTH], 60, 0.05);
        let narrow = cover(Vectors::new(&real, WIDTH), Vectors::new(&mode, WIDTH), NEAREST).unwrap();
        assert!(whole.coverage > 0.8 && whole.recall > 0.6, "{whole:?}");
        assert!(narrow.precision == 1.0 && narrow.recall < 0.1 && narrow.coverage < 0.5, "{narrow:?}");
    }

    #[test]
    fn too_few_vectors_have_no_scores() {
        let few = [0.0f32; 5];
        assert!(cover(Vectors::new(&few, 1), Vectors::new(&few, 1), 5).is_none());
        assert!(nearest(&[0.0], Vectors::new(&[1.0], 1)).is_none());
        assert_eq!(nearest(&[1.0], Vectors::new(&[1.0, 1.0], 1)).unwrap().ratio, 0.0);
    }
}
