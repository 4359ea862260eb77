//! Bootstrap intervals (Efron 1979, percentile method): the statistic is computed on many samples of the participants, drawn
//! with replacement; its 2.5th and 97.5th percentiles are the interval.

use rayon::prelude::*;

use crate::random::Stream;

/// Samples drawn.
pub const SAMPLES: usize = 2000;
/// Samples that are held at a time.
const HELD: usize = 50;

/// The 95 % interval of a statistic of `n` participants; it is given the numbers of those in a sample.
///
/// ```
/// use ecgflow::metric::bootstrap::interval;
/// let x: Vec<f64> = (0..100).map(f64::from).collect();
/// let [low, high] = interval(100, 0, |sample| sample.iter().map(|&i| x[i]).sum::<f64>() / sample.len() as f64);
/// // The mean is 49.5, its standard error 2.9.
/// assert!((43.0..45.0).contains(&low) && (54.0..56.0).contains(&high));
/// ```
pub fn interval(n: usize, seed: u64, mut statistic: impl FnMut(&[usize]) -> f64) -> [f64; 2] {
    let mut random = Stream::new("ecgflow bootstrap 1", seed, "", 0);
    let values = (0..SAMPLES).map(|_| {
        let sample: Vec<usize> = (0..n).map(|_| random.below(n)).collect();
        statistic(&sample)
    });
    limits(values.collect())
}

/// The 95 % intervals of several statistics of the same samples, which all threads compute; a statistic that a sample does
/// not define is NaN there and left out.
///
/// ```
/// use ecgflow::metric::bootstrap::intervals;
/// let x: Vec<f64> = (0..100).map(f64::from).collect();
/// let found = intervals(100, 0, |s| vec![s.iter().map(|&i| x[i]).sum::<f64>() / 100.0, f64::NAN]);
/// assert!((43.0..45.0).contains(&found[0][0]) && (54.0..56.0).contains(&found[0][1]) && found[1][0].is_nan());
/// ```
pub fn intervals(n: usize, seed: u64, statistics: impl Fn(&[usize]) -> Vec<f64> + Sync) -> Vec<[f64; 2]> {
    let mut random = Stream::new("ecgflow bootstrap 1", seed, "", 0);
    let mut all: Vec<Vec<f64>> = Vec::with_capacity(SAMPLES);
    while all.len() < SAMPLES {
        let some = HELD.min(SAMPLES - all.len());
        let samples: Vec<Vec<usize>> = (0..some).map(|_| (0..n).map(|_| random.below(n)).collect()).collect();
        all.extend(samples.par_iter().map(|sample| statistics(sample)).collect::<Vec<_>>());
    }
    let count = all.first().map_or(0, Vec::len);
    (0..count).map(|k| limits(all.iter().filter_map(|values| values.get(k).copied()).collect())).collect()
}

/// The 2.5th and 97.5th percentiles of the finite ones.
fn limits(mut values: Vec<f64>) -> [f64; 2] {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * values.len().saturating_sub(1) as f64).round() as usize;
        values.get(place).copied().unwrap_or(f64::NAN)
    };
    [at(0.025), at(0.975)]
}

/// Median; NaN of nothing.
///
/// ```
/// use ecgflow::metric::bootstrap::median;
/// assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
/// assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
/// ```
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), middle.checked_sub(1).and_then(|i| sorted.get(i))) {
        (Some(upper), Some(lower)) if sorted.len().is_multiple_of(2) => 0.5 * (lower + upper),
        (Some(middle), _) => *middle,
        _ => f64::NAN,
    }
}
