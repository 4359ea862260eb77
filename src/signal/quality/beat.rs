//! The median beat of every lead, and what it says: height and width of QRS, beats of another shape, signal to noise.

use ndarray::{s, Array2, ArrayView1, ArrayView2, Axis};

use crate::kernel::simd::{vectorise, Plain};
use crate::signal::rpeak;

/// The part of a beat that is compared with the other beats, s before and after the R peak.
const BEAT_SECONDS: [f64; 2] = [0.25, 0.4];
/// QRS lies within, s of the R peak.
const QRS_SECONDS: f64 = 0.12;
/// A beat whose QRS correlates less with the median beat has another shape.
const SAME_SHAPE: f64 = 0.75;

/// Beats cut out of cleaned leads.
pub struct Beats {
    /// Leads x samples of the median beat; no samples where no beat lies whole in the record.
    pub median: Array2<f64>,
    rate_hz: f64,
    before: usize,
    /// Correlation of each whole beat's QRS with the median beat's; none for beats at the ends.
    likeness: Vec<Option<f64>>,
    r_peak: Vec<usize>,
}

impl Beats {
    /// Cuts beats out of 12 x samples.
    pub fn of(clean: ArrayView2<f64>, r_peak: &[usize], rate_hz: f64) -> Beats {
        let [before, after] = BEAT_SECONDS.map(|s| (s * rate_hz) as usize);
        let whole = |&r: &usize| -> Option<ArrayView2<f64>> {
            let start = r.checked_sub(before)?;
            (r + after <= clean.ncols()).then(|| clean.slice_move(s![.., start..r + after]))
        };
        let cut: Vec<Option<ArrayView2<f64>>> = r_peak.iter().map(whole).collect();
        let found: Vec<&ArrayView2<f64>> = cut.iter().flatten().collect();
        let width = if found.is_empty() { 0 } else { before + after };
        let mut median = Array2::zeros((clean.nrows(), width));
        for (lead, mut median) in median.rows_mut().into_iter().enumerate() {
            let beats = found.iter().map(|beat| beat.row(lead).to_vec()).collect();
            median.iter_mut().zip(medians(beats)).for_each(|(place, value)| *place = value);
        }
        let half = ((QRS_SECONDS / 2.0 * rate_hz) as usize).min(before);
        let qrs = s![.., before - half..before + half];
        let like = |beat: &Option<ArrayView2<f64>>| beat.map(|beat| correlation(beat.slice(qrs), median.slice(qrs)));
        let likeness = cut.iter().map(like).collect();
        Beats { rate_hz, before, likeness, r_peak: r_peak.to_vec(), median }
    }

    /// QRS of the median beat: leads x samples around the R peak.
    pub fn qrs(&self) -> ArrayView2<'_, f64> {
        let half = ((QRS_SECONDS * self.rate_hz) as usize).min(self.before);
        let width = self.median.ncols();
        self.median.slice(s![.., (self.before - half).min(width)..(self.before + half).min(width)])
    }

    /// Height of QRS from its lowest to its highest point, mV, in the lead where that is most; NaN without a beat.
    pub fn qrs_mv(&self) -> f64 {
        let height = |lead: ArrayView1<f64>| {
            let (low, high) = lead.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            high - low
        };
        let qrs = self.qrs();
        let heights = qrs.rows().into_iter().filter(|lead| !lead.is_empty()).map(height);
        heights.fold(f64::NAN, f64::max)
    }

    /// Width of QRS, ms: where all leads together move faster than 15 % of their fastest; NaN without a beat.
    pub fn qrs_ms(&self) -> f64 {
        let qrs = self.qrs();
        let column = |n: usize| qrs.index_axis(Axis(1), n);
        let speed: Vec<f64> =
            (1..qrs.ncols()).map(|n| (&column(n) - &column(n - 1)).mapv(|v| v * v).sum().sqrt()).collect();
        let Some((peak, top)) = speed.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)) else {
            return f64::NAN;
        };
        // From the steepest place outward, over pauses of at most 16 ms: T may follow closely.
        let pause = (0.016 * self.rate_hz) as usize;
        let reach = |steps: &mut dyn Iterator<Item = f64>| {
            let (mut last, mut still) = (0, 0);
            for (n, v) in steps.enumerate() {
                (last, still) = if v > 0.15 * top { (n, 0) } else { (last, still + 1) };
                if still > pause {
                    break;
                }
            }
            last
        };
        let before = reach(&mut speed.iter().take(peak + 1).rev().copied());
        let after = reach(&mut speed.iter().skip(peak).copied());
        (before + after + 1) as f64 / self.rate_hz * 1000.0
    }

    /// Share of beats of another shape, or early with a pause after, percent; NaN with fewer than five beats.
    pub fn ectopy_percent(&self) -> f64 {
        let n = self.r_peak.len();
        if n < 5 {
            return f64::NAN;
        }
        let gaps: Vec<f64> =
            self.r_peak.windows(2).map(|w| w.iter().rev().fold(0.0, |d, &r| r as f64 - d).abs()).collect();
        let usual = rpeak::median(gaps.clone());
        let gap = |k: Option<usize>| k.and_then(|k| gaps.get(k)).copied().unwrap_or(usual);
        let is_ectopic = |k: &usize| {
            let early = gap(k.checked_sub(1)) < 0.8 * usual && gap(Some(*k)) > 1.1 * usual;
            let other = self.likeness.get(*k).copied().flatten().is_some_and(|c| c < SAME_SHAPE);
            early || other
        };
        100.0 * (0..n).filter(is_ectopic).count() as f64 / n as f64
    }

    /// The median beat after QRS: leads x samples.
    pub fn after_qrs(&self) -> ArrayView2<'_, f64> {
        let start = self.before + (QRS_SECONDS * self.rate_hz) as usize;
        self.median.slice(s![.., start.min(self.median.ncols())..])
    }

    /// Time from R to the peak of T over the square root of the RR interval, s: Bazett's measure, without the end of T,
    /// which is hard to find. T is where all leads together lie highest from 80 ms on. NaN without a beat.
    pub fn t_peak_bazett(&self, heart_rate: f64) -> f64 {
        let rr = 60.0 / heart_rate;
        let start = self.before + (0.08 * self.rate_hz) as usize;
        let end = (self.before + (0.7 * rr * self.rate_hz) as usize).min(self.median.ncols());
        let level: Vec<f64> = self.median.rows().into_iter().map(|row| rpeak::median(row.to_vec())).collect();
        let height = |n: usize| self.median.column(n).iter().zip(&level).map(|(v, m)| (v - m).powi(2)).sum::<f64>();
        let top = (start..end).map(|n| (n, height(n))).max_by(|a, b| a.1.total_cmp(&b.1));
        top.map_or(f64::NAN, |(n, _)| (n - self.before) as f64 / self.rate_hz / rr.sqrt())
    }

    /// Why the stated sampling rate must be wrong, in words: twice the true rate makes a fast heart whose QRS is narrow and
    /// whose T comes too early even for that; half the true rate a slow one whose QRS is wider than most blocks.
    pub fn wrong_rate(&self, heart_rate: f64) -> Option<String> {
        let qrs_ms = self.qrs_ms();
        let early_t = || self.t_peak_bazett(heart_rate) < 0.225;
        let narrow = heart_rate > 95.0 && (qrs_ms < 50.0 || (qrs_ms <= 66.0 && early_t()));
        let wide = qrs_ms > 150.0 && heart_rate < 50.0;
        let words = || format!("QRS of {qrs_ms:.0} ms at {heart_rate:.0} beats a minute; is the sampling rate right?");
        (narrow || wide).then(words)
    }
}

/// Median of every column of some rows of one length. The columns are sorted side by side, by exchanging whole rows where they
/// are in the wrong order: a processor compares several numbers at once.
fn medians(rows: Vec<Vec<f64>>) -> Vec<f64> {
    vectorise(Sorting(rows))
}

struct Sorting(Vec<Vec<f64>>);

impl Plain for Sorting {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let Sorting(mut rows) = self;
        let n = rows.len();
        for (low, high) in comparisons(n) {
            let (before, after) = rows.split_at_mut(high);
            let (Some(low), Some(high)) = (before.get_mut(low), after.first_mut()) else { continue };
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (if *b < *a { *b } else { *a }, if *b < *a { *a } else { *b });
            }
        }
        let below = rows.get(n.saturating_sub(1) / 2);
        let Some((below, middle)) = below.zip(rows.get(n / 2)) else { return Vec::new() };
        below.iter().zip(middle).map(|(a, b)| if n % 2 == 1 { *b } else { (a + b) / 2.0 }).collect()
    }
}

/// Which two of n numbers to compare, one pair after the other, so that they are sorted at last: merging pairs, fours, eights
/// (Batcher, AFIPS Proc 1968;32:307).
fn comparisons(n: usize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let sizes = || std::iter::successors(Some(1), |size| Some(2 * size)).take_while(|size| *size < n);
    for size in sizes() {
        let mut gap = size;
        while gap > 0 {
            let first = (gap % size..n - gap).step_by(2 * gap).flat_map(|start| start..start + gap);
            let same = |k: &usize| *k + gap < n && k / (2 * size) == (k + gap) / (2 * size);
            pairs.extend(first.filter(same).map(|k| (k, k + gap)));
            gap /= 2;
        }
    }
    pairs
}

/// Pearson's correlation of two pieces of the same shape, each lead about its own mean; 0 where one does not move.
pub fn correlation(a: ArrayView2<f64>, b: ArrayView2<f64>) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.rows().into_iter().zip(b.rows()) {
        let (mean_a, mean_b) = (a.mean().unwrap_or(0.0), b.mean().unwrap_or(0.0));
        for (x, y) in a.iter().zip(b) {
            let (x, y) = (x - mean_a, y - mean_b);
            (ab, aa, bb) = (ab + x * y, aa + x * x, bb + y * y);
        }
    }
    if aa * bb > 0.0 {
        ab / (aa * bb).sqrt()
    } else {
        0.0
    }
}

/// Power of the median beat over the power of what the median beat adds to it, dB; NaN with fewer than three whole
/// beats. Medians, because one extra beat of another shape is no noise.
pub fn signal_to_noise_db(lead: ArrayView1<f64>, r_peak: &[usize], rate_hz: f64) -> f64 {
    let [before, after] = BEAT_SECONDS.map(|s| (s * rate_hz) as usize);
    let beat = |&r: &usize| -> Option<ArrayView1<f64>> {
        let start = r.checked_sub(before)?;
        (r + after <= lead.len()).then(|| lead.slice_move(s![start..r + after]))
    };
    let beats: Vec<ArrayView1<f64>> = r_peak.iter().filter_map(beat).collect();
    if beats.len() < 3 {
        return f64::NAN;
    }
    let usual = medians(beats.iter().map(|beat| beat.to_vec()).collect());
    let rest = |beat: &ArrayView1<f64>| beat.iter().zip(&usual).map(|(v, u)| (v - u).powi(2)).sum::<f64>();
    let noise = rpeak::median(beats.iter().map(rest).collect());
    let mean = usual.iter().sum::<f64>() / usual.len() as f64;
    let signal: f64 = usual.iter().map(|u| (u - mean).powi(2)).sum();
    10.0 * (signal / noise).log10()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn signal_to_noise_is_that_of_the_definition() {
        // Three beats of one sample, 1.1, 1 and 0.9: the median is 1, and two of three are off by 0.1.
        let mut lead = ndarray::Array1::<f64>::zeros(60);
        lead.slice_mut(s![10..50;16]).assign(&array![1.1, 1.0, 0.9]);
        let db = signal_to_noise_db(lead.view(), &[10, 26, 42], 20.0);
        let width = 13.0; // 0.25 s and 0.4 s at 20 Hz
        assert!((db - 10.0 * ((1.0 - 1.0 / width) / 0.01f64).log10()).abs() < 1e-4, "{db}");
    }

    #[test]
    fn medians_are_those_of_the_columns() {
        let rows = vec![vec![3.0, 1.0], vec![1.0, 9.0], vec![2.0, 5.0], vec![8.0, 5.0]];
        assert_eq!(medians(rows.clone()), [2.5, 5.0]);
        assert_eq!(medians(rows[..3].to_vec()), [2.0, 5.0]);
        assert!(medians(vec![]).is_empty() && medians(vec![vec![7.0]]) == [7.0]);
        for n in 2..40usize {
            let mut x: Vec<f64> = (0..n).map(|k| (k * 7919 % 101) as f64).collect();
            let found = medians(x.iter().map(|v| vec![*v]).collect());
            x.sort_by(f64::total_cmp);
            assert_eq!(found, [(x[(n - 1) / 2] + x[n / 2]) / 2.0], "{n}");
        }
    }

    #[test]
    fn a_wide_beat_of_another_shape_is_ectopic() {
        let r_peak: Vec<usize> = (0..10).map(|k| 300 + 400 * k).collect();
        let wave = |(_, n): (usize, usize)| {
            let bump = |at: f64, width: f64| (-0.5 * ((n as f64 - at) / width).powi(2)).exp();
            let one =
                |(k, &r): (usize, &usize)| if k == 4 { -bump(r as f64 + 25.0, 25.0) } else { bump(r as f64, 6.0) };
            r_peak.iter().enumerate().map(one).sum::<f64>()
        };
        let beats = Beats::of(Array2::from_shape_fn((12, 4500), wave).view(), &r_peak, 500.0);
        assert!((beats.ectopy_percent() - 10.0).abs() < 1e-9, "{}", beats.ectopy_percent());
        assert!((beats.qrs_mv() - 1.0).abs() < 0.01 && (50.0..90.0).contains(&beats.qrs_ms()), "{}", beats.qrs_ms());
        assert!(Beats::of(Array2::zeros((12, 4500)).view(), &[], 500.0).qrs_mv().is_nan());
    }
}
