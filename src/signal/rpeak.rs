//! R peaks: the sample numbers of the ventricular beats in one lead (II).
//!
//! `published`: local maxima at or above mean + 0.5 sd, at least 0.25 s apart; of two that are closer the higher one
//! stays. Equal to `scipy.signal.find_peaks(x, height=..., distance=int(0.25 * rate))`; of two equally high ones the
//! later stays here, while scipy leaves that to the order in which NumPy happens to sort.
//!
//! `qrs` (default), after Pan and Tompkins (IEEE Trans Biomed Eng 1985;32:230), made zero-phase:
//! 1. band-pass 5-18 Hz, slope, square, mean over 120 ms: the energy e of steep deflections;
//! 2. candidates: maxima of e at least 0.2 s apart;
//! 3. a candidate is a beat where e > N + 0.25 (S - N); S and N are running levels of beats and of noise;
//! 4. a candidate within 0.36 s of a beat and with less than a quarter of its energy is a T wave;
//! 5. where no beat is found for 1.66 times the usual interval, the strongest candidate above half the threshold is one;
//! 6. where an interval is still over 1.6 times the usual one, a candidate of 3.5 % of a beat's energy, three times that of
//!    the usual candidate between beats and far from its neighbours, is a broad beat that starts in a ventricle;
//! 7. the R peak is the extreme of the lead (3-45 Hz) within 80 ms; downward only where the beats, as paper shows them, point
//!    down 1.5 times as far as up.

use super::filter::{Band, Filter};
use super::statistic::{moving_means, running_sums};
use crate::error::Result;

/// The R peak of a lead is its lowest point where beats point down so many times as far as up, as paper shows them: a
/// convention, for beats whose Q or S is about as large as R.
pub const DOWN: f64 = 1.5;
/// Energy of a broad ventricular beat as a share of a usual beat's: above a P wave's (0.01), below a usual one's tenth.
const SLOW_SHARE: f64 = 0.035;

/// How R peaks are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detector {
    /// The rule of the published code.
    Published,
    /// Energy of steep deflections with adaptive thresholds.
    #[default]
    Qrs,
}

impl Detector {
    /// The name on the command line and in provenance.
    pub fn name(self) -> &'static str {
        match self {
            Detector::Published => "published",
            Detector::Qrs => "qrs",
        }
    }

    /// The detector of a name.
    pub fn parse(name: &str) -> Option<Detector> {
        [Detector::Published, Detector::Qrs].into_iter().find(|d| d.name() == name)
    }

    /// Sample numbers of the R peaks in a lead, rising.
    ///
    /// # Errors
    /// Where the rate is below 91 Hz and the detector is [`Detector::Qrs`], whose filter then has no room.
    pub fn find(self, lead: &[f64], rate_hz: f64) -> Result<Vec<usize>> {
        match self {
            Detector::Published => Ok(published(lead, rate_hz)),
            Detector::Qrs => qrs(lead, rate_hz),
        }
    }
}

/// Heart rate, beats a minute, from the median interval; NaN with fewer than two peaks.
///
/// ```
/// use ecgflow::signal::rpeak::heart_rate;
/// assert_eq!(heart_rate(&[100, 500, 900, 1400], 500.0), 75.0);
/// ```
pub fn heart_rate(peaks: &[usize], rate_hz: f64) -> f64 {
    60.0 * rate_hz / median(intervals(peaks))
}

/// Standard deviation (n - 1) of the intervals, ms; NaN with fewer than three peaks.
pub fn rr_sd_ms(peaks: &[usize], rate_hz: f64) -> f64 {
    let intervals = intervals(peaks);
    let n = intervals.len() as f64;
    let mean = intervals.iter().sum::<f64>() / n;
    let variance = intervals.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    if n < 2.0 {
        f64::NAN
    } else {
        variance.sqrt() / rate_hz * 1000.0
    }
}

fn intervals(peaks: &[usize]) -> Vec<f64> {
    peaks.iter().zip(peaks.iter().skip(1)).map(|(a, b)| b.abs_diff(*a) as f64).collect()
}

/// Median; NaN of nothing.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    let n = values.len();
    if n == 0 {
        return f64::NAN;
    }
    let (below, middle, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    match below.iter().copied().max_by(f64::total_cmp) {
        Some(below) if n.is_multiple_of(2) => (below + *middle) / 2.0,
        _ => *middle,
    }
}

/// Local maxima; of a plateau its middle (rounded down).
fn maxima(x: &[f64]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut rise = None; // where the present plateau began after a rise
    for (i, pair) in x.windows(2).enumerate() {
        let &[a, b] = pair else { continue };
        if b > a {
            rise = Some(i + 1);
        } else if b < a {
            found.extend(rise.take().map(|start| (start + i) / 2));
        }
    }
    found
}

/// Keeps peaks at least `gap` samples apart, the higher first; of equal ones the later.
fn apart(x: &[f64], peaks: Vec<usize>, gap: usize) -> Vec<usize> {
    let height = |k: &usize| peaks.get(*k).and_then(|&p| x.get(p)).copied().unwrap_or(f64::NEG_INFINITY);
    let mut order: Vec<usize> = (0..peaks.len()).collect();
    order.sort_by(|a, b| height(a).total_cmp(&height(b)));
    let mut kept: Vec<bool> = vec![true; peaks.len()];
    for &k in order.iter().rev() {
        let Some(&here) = peaks.get(k).filter(|_| kept.get(k) == Some(&true)) else { continue };
        let near = |p: &&usize| p.abs_diff(here) < gap;
        let before = peaks.iter().take(k).rev().take_while(near).count();
        let after = peaks.iter().skip(k + 1).take_while(near).count();
        kept.iter_mut().skip(k - before).take(before).for_each(|keep| *keep = false);
        kept.iter_mut().skip(k + 1).take(after).for_each(|keep| *keep = false);
    }
    peaks.into_iter().zip(kept).filter_map(|(p, keep)| keep.then_some(p)).collect()
}

/// The rule of the published code.
pub fn published(x: &[f64], rate_hz: f64) -> Vec<usize> {
    let n = x.len().max(1) as f64;
    let mean = x.iter().sum::<f64>() / n;
    let sd = (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let high = maxima(x).into_iter().filter(|&p| x.get(p).is_some_and(|&v| v >= mean + 0.5 * sd)).collect();
    apart(x, high, (0.25 * rate_hz) as usize)
}

/// The default detector.
///
/// # Errors
/// Where the rate is below 91 Hz.
pub fn qrs(x: &[f64], rate_hz: f64) -> Result<Vec<usize>> {
    let samples = |seconds: f64| (seconds * rate_hz) as usize;
    let band = |low_hz, high_hz| Filter::butterworth(2, Band::BandPass(low_hz, high_hz), rate_hz);
    let [steep, smooth] = Filter::zero_phase_both([&band(5.0, 18.0)?, &band(3.0, 45.0)?], x, samples(0.6));
    let energy = energy(&steep, samples(0.12));
    let top = energy.iter().copied().fold(0.0, f64::max);
    if top <= 1e-9 / rate_hz.powi(2) {
        return Ok(Vec::new()); // the lead does not move
    }
    let candidates = apart(&energy, maxima(&energy), samples(0.2));
    let beats = Hunt::new(&energy, &candidates, rate_hz).beats();
    Ok(sharpen(x, &smooth, &beats, rate_hz))
}

/// A lead as paper shows it: the mean over 10 ms against the level of a quarter of a second.
pub fn as_on_paper(lead: &[f64], rate_hz: f64) -> Vec<f64> {
    let sums = running_sums(lead.iter().copied());
    let mean = |seconds: f64| moving_means(&sums, (seconds * rate_hz / 2.0) as usize, |n| n as f64);
    let (mut shown, level) = (mean(0.01), mean(0.25));
    shown.iter_mut().zip(level).for_each(|(v, level)| *v -= level);
    shown
}

/// Mean of the squared slope over `width` samples around each sample.
fn energy(x: &[f64], width: usize) -> Vec<f64> {
    let last = x.len().saturating_sub(1);
    let at = |n: usize| x.get(n.min(last)).copied().unwrap_or(0.0);
    let squared_slope = |before: f64, after: f64| ((after - before) / 2.0).powi(2);
    let mut squares = Vec::with_capacity(x.len());
    squares.extend((0..x.len().min(1)).map(|n| squared_slope(at(n), at(n + 1))));
    squares.extend(x.iter().zip(x.iter().skip(2)).map(|(before, after)| squared_slope(*before, *after)));
    squares.extend((squares.len()..x.len()).map(|n| squared_slope(at(n.saturating_sub(1)), at(n + 1))));
    let half = (width / 2).max(1);
    moving_means(&running_sums(squares.into_iter()), half, |_| (2 * half + 1) as f64)
}

/// The search for beats among candidates.
struct Hunt {
    /// Sample number and energy of each candidate.
    candidates: Vec<(usize, f64)>,
    /// Length of the lead.
    samples: usize,
    rate_hz: f64,
    beat: f64,
    noise: f64,
}

impl Hunt {
    fn new(energy: &[f64], candidates: &[usize], rate_hz: f64) -> Hunt {
        let candidates: Vec<(usize, f64)> = candidates.iter().filter_map(|&p| Some((p, *energy.get(p)?))).collect();
        // Every 2 s hold a beat: the median of their maxima is the level of beats, whatever spikes there are.
        let tops = energy.chunks((2.0 * rate_hz) as usize).take(15).map(|c| c.iter().copied().fold(0.0, f64::max));
        let beat = median(tops.collect());
        Hunt { candidates, samples: energy.len(), rate_hz, beat, noise: 0.05 * beat }
    }

    fn threshold(&self) -> f64 {
        self.noise + 0.25 * (self.beat - self.noise)
    }

    fn beats(mut self) -> Vec<usize> {
        let mut beats: Vec<(usize, f64)> = Vec::new();
        for (place, (at, e)) in self.candidates.clone().into_iter().enumerate() {
            if let Some(missed) = self.missed(&beats, place) {
                beats.push(missed);
                self.beat += 0.25 * (missed.1 - self.beat);
            }
            let near = |last: &&(usize, f64)| ((at - last.0) as f64) < 0.36 * self.rate_hz;
            let is_t_wave = beats.last().filter(near).is_some_and(|last| e < 0.25 * last.1);
            if e > self.threshold() && !is_t_wave {
                beats.push((at, e));
                // One spike must not deafen the search.
                self.beat += 0.125 * (e.min(4.0 * self.beat) - self.beat);
            } else {
                self.noise += 0.125 * (e - self.noise);
            }
        }
        if let Some(missed) = self.missed(&beats, self.candidates.len()) {
            beats.push(missed);
        }
        self.rescue(&mut beats);
        beats.into_iter().map(|(at, _)| at).collect()
    }

    /// Puts broad, slow beats where an interval is too long: the strongest candidate of the gap, again and again.
    fn rescue(&self, beats: &mut Vec<(usize, f64)>) {
        let usual = median(intervals(&beats.iter().map(|b| b.0).collect::<Vec<_>>()));
        if usual.is_nan() {
            return;
        }
        let is_beat = |c: &(usize, f64)| beats.iter().any(|b| b.0 == c.0);
        let resting = median(self.candidates.iter().filter(|c| !is_beat(c)).map(|c| c.1).collect());
        let least = (SLOW_SHARE * self.beat).max(3.0 * resting);
        let refractory = (0.6 * usual).clamp(0.3 * self.rate_hz, 0.45 * self.rate_hz);
        let mut gap = 0;
        while gap <= beats.len() {
            let before = gap.checked_sub(1).and_then(|k| beats.get(k)).map(|b| b.0 as f64);
            let after = beats.get(gap).map(|b| b.0 as f64);
            // At the ends of the lead, a beat may have been just outside.
            let (start, end) = (before.unwrap_or(-0.34 * usual), after.unwrap_or(self.samples as f64 + 0.34 * usual));
            let clear = |c: &&(usize, f64)| {
                let at = c.0 as f64;
                before.is_none_or(|b| at - b > refractory) && after.is_none_or(|a| a - at > refractory)
            };
            let found = self.candidates.iter().filter(clear).filter(|c| c.1 > least);
            match found.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|_| end - start > 1.6 * usual) {
                Some(&found) => beats.insert(gap, found),
                None => gap += 1,
            }
        }
    }

    /// The strongest candidate between the last beat and candidate `place`, or the end of the lead where there is no such
    /// candidate, where that gap is too long for none.
    fn missed(&self, beats: &[(usize, f64)], place: usize) -> Option<(usize, f64)> {
        let last = beats.last()?.0;
        let recent: Vec<usize> = beats.iter().rev().take(9).rev().map(|b| b.0).collect();
        let usual = median(intervals(&recent));
        let here = self.candidates.get(place).map_or(self.samples, |c| c.0);
        if usual.is_nan() || ((here - last) as f64) < 1.66 * usual {
            return None;
        }
        let clear = |c: &&(usize, f64)| (c.0.saturating_sub(last)) as f64 > 0.36 * self.rate_hz;
        let between = self.candidates.iter().take(place).rev().take_while(|c| c.0 > last).filter(clear);
        between.copied().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|c| c.1 > 0.5 * self.threshold())
    }
}

/// An extra beat from elsewhere may point the other way: it does so by this much more than the usual way,
const OTHER_WAY: f64 = 2.5;
/// and the usual way by less than this share of what beats do. Beats whose R and S are alike keep one mark.
const UNLIKE: f64 = 0.4;

/// Moves each beat to the extreme of the lead nearby.
fn sharpen(x: &[f64], smooth: &[f64], beats: &[usize], rate_hz: f64) -> Vec<usize> {
    let samples = |seconds: f64| (seconds * rate_hz).round() as usize;
    let around = |signal: &[f64], at: usize, reach: usize, sign: f64| {
        let start = at.saturating_sub(reach);
        let piece = signal.iter().enumerate().skip(start).take(at + reach + 1 - start);
        piece.map(|(i, v)| (i, sign * v)).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    };
    let shown = as_on_paper(x, rate_hz);
    let size = |sign| median(beats.iter().filter_map(|&b| Some(around(&shown, b, samples(0.08), sign)?.1)).collect());
    let sign = if size(-1.0) > DOWN * size(1.0) { -1.0 } else { 1.0 };
    let rest = median(x.to_vec());
    let height =
        |beat, sign| around(x, beat, samples(0.08), sign).map_or(0.0, |found| (found.1 - sign * rest).max(0.0));
    let usual = median(beats.iter().map(|&beat| height(beat, sign)).collect());
    let mut peaks: Vec<usize> = Vec::new();
    for &beat in beats {
        let (own, other) = (height(beat, sign), height(beat, -sign));
        let sign = if other > OTHER_WAY * own && own < UNLIKE * usual { -sign } else { sign };
        let near = around(smooth, beat, samples(0.08), sign).and_then(|(at, _)| around(x, at, samples(0.008), sign));
        if let Some((at, _)) = near.filter(|near| peaks.last().is_none_or(|last| near.0 > *last)) {
            peaks.push(at);
        }
    }
    peaks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beats of 1 mV and 20 ms every 400 samples, T waves of `t_mv`, upright or not.
    fn beats(t_mv: f64, sign: f64) -> Vec<f64> {
        let bump = |n: usize, at: f64, width: f64| (-0.5 * ((n as f64 - at) / width).powi(2)).exp();
        let one = |n: usize| bump(n, 150.0, 5.0) + t_mv * bump(n, 290.0, 22.0);
        (0..5000).map(|n| sign * one(n % 400)).collect()
    }

    #[test]
    fn finds_every_beat_upright_or_downward_and_no_t_wave() {
        let expected: Vec<usize> = (0..13).map(|k| 150 + 400 * k).filter(|&p| p < 5000).collect();
        for (t_mv, sign) in [(0.0, 1.0), (0.6, 1.0), (0.6, -1.0)] {
            assert_eq!(qrs(&beats(t_mv, sign), 500.0).unwrap(), expected, "T {t_mv} mV, sign {sign}");
        }
    }

    #[test]
    fn finds_a_weak_beat_between_others_and_at_the_end() {
        for weak in [5, 11] {
            let mut lead = beats(0.0, 1.0);
            lead.truncate(4900); // twelve beats and most of a pause
            lead.iter_mut().skip(400 * weak).take(400).for_each(|v| *v *= 0.42);
            let expected: Vec<usize> = (0..12).map(|k| 150 + 400 * k).collect();
            assert_eq!(qrs(&lead, 500.0).unwrap(), expected, "beat {weak}");
        }
    }

    #[test]
    fn an_extra_beat_that_points_down_among_upright_ones_is_marked_at_its_lowest_point() {
        let mut lead = beats(0.2, 1.0);
        for (n, v) in lead.iter_mut().enumerate().skip(4 * 400).take(400) {
            *v = -1.6 * (-0.5 * ((n as f64 - 1750.0) / 16.0).powi(2)).exp();
        }
        let expected: Vec<usize> = (0..13).map(|k| 150 + 400 * k).filter(|&p| p < 5000).collect();
        let found = qrs(&lead, 500.0).unwrap();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(f, e)| f.abs_diff(e) <= 2), "{found:?}");
    }

    #[test]
    fn paper_shows_the_mean_of_10_ms_against_a_quarter_of_a_second() {
        let mut lead = vec![5.0; 1000];
        lead[500] += 1.0;
        let shown = as_on_paper(&lead, 500.0); // means of 5 and of 125 samples
        assert!((shown[500] - (1.0 / 5.0 - 1.0 / 125.0)).abs() < 1e-9, "{}", shown[500]);
        assert!((shown[503] + 1.0 / 125.0).abs() < 1e-9 && shown[600].abs() < 1e-9);
    }

    /// On paper Q goes 1.6 times as far down as R goes up, after a band-pass of 3-45 Hz 1.4 times.
    #[test]
    fn beats_with_a_deep_q_are_marked_where_paper_shows_them_largest() {
        let bump = |n: usize, at: f64, width: f64| (-0.5 * ((n as f64 - at) / width).powi(2)).exp();
        let one = |n: usize| -bump(n, 150.0, 6.0) + 0.55 * bump(n, 164.0, 4.0) - 0.25 * bump(n, 178.0, 5.0);
        let lead: Vec<f64> = (0..5000).map(|n| one(n % 400)).collect();
        let found = qrs(&lead, 500.0).unwrap();
        assert_eq!(found.len(), 13, "{found:?}");
        assert!(found.iter().enumerate().all(|(k, f)| f.abs_diff(150 + 400 * k) <= 2), "{found:?}");
    }

    #[test]
    fn a_lead_that_does_not_move_has_no_beats() {
        for lead in [vec![0.0; 5000], vec![1.0; 5000], vec![], vec![0.3]] {
            assert!(qrs(&lead, 500.0).unwrap().is_empty());
            assert!(published(&lead, 500.0).is_empty());
        }
        assert!(heart_rate(&[7], 500.0).is_nan() && rr_sd_ms(&[7, 9], 500.0).is_nan());
        assert!((rr_sd_ms(&[0, 500, 900], 500.0) - 141.421).abs() < 1e-3);
    }

    #[test]
    fn published_keeps_the_higher_of_two_close_maxima() {
        let mut x = vec![0.0; 1000];
        for (at, height) in [(100, 1.0), (200, 2.0), (324, 1.5), (449, 1.0)] {
            x[at] = height;
        }
        assert_eq!(published(&x, 500.0), [200, 449]);
        assert_eq!(maxima(&[0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 2.0, 2.0]), [2]);
    }
}
