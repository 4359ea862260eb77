//! Scores of pairs: a generated clip and the real clip of the same record.

use super::clips::{distances, values, Clips};
use super::{picture, Findings, Score};
use crate::cli::log::Log;
use crate::error::Result;
use crate::infer::score::Perceptual;
use crate::metric::bootstrap::{interval, median};
use crate::metric::cavity::{area_change, area_curve, end_systole, SIDE};
use crate::metric::correlation::pearson;
use crate::metric::psnr::psnr;
use crate::metric::ssim::ssim_of_clips;
use crate::random::Stream;

/// Records whose clips are compared with each other's, for conditioning.
const COMPARED: usize = 200;

/// What one pair gives.
#[derive(Debug, Clone, Copy)]
struct Pair {
    mae: f64,
    psnr: f64,
    ssim: f64,
    lpips: f64,
    /// Correlation of the areas of the cavity, and frames between the ends of systole.
    curve_r: f64,
    systole: f64,
    /// Area at the first frame and change of area: generated, then real.
    area: [f64; 2],
    change: [f64; 2],
}

/// A number of a pair.
type Of = fn(&Pair) -> f64;
/// The generated clip's and the real one's.
type Both = fn(&Pair) -> [f64; 2];
/// A mean or a median over the records.
type Middle = fn(&[f64]) -> f64;

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn compare(real: &[f32], made: &[f32], size: [usize; 3], lpips: f64) -> Pair {
    let apart: f64 = real.iter().zip(made).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).sum();
    let is_square = size[1] == SIDE && size[2] == SIDE;
    let curve = |clip: &[f32]| if is_square { area_curve(clip) } else { Vec::new() };
    let (seen, drawn) = (curve(real), curve(made));
    let first = |curve: &[f64]| curve.first().copied().unwrap_or(f64::NAN);
    Pair {
        mae: apart / real.len() as f64,
        psnr: psnr(real, made),
        ssim: ssim_of_clips(real, made, (size[1], size[2]), 1.0),
        lpips,
        curve_r: pearson(&drawn, &seen),
        systole: if is_square { end_systole(&drawn).abs_diff(end_systole(&seen)) as f64 } else { f64::NAN },
        area: [first(&drawn), first(&seen)],
        change: [area_change(&drawn), area_change(&seen)],
    }
}

/// Adds the scores of the pairs `paired`: places in `made` and in `real`.
pub(super) fn score(
    real: &mut Clips,
    made: &mut Clips,
    paired: &[(usize, usize)],
    perceptual: Option<&(Perceptual, [String; 2])>,
    seed: u64,
    found: &mut Findings,
    log: &Log,
) -> Result<()> {
    let size = real.reader.size();
    let bar = log.progress(paired.len());
    let mut pairs = Vec::with_capacity(paired.len());
    for (i, j) in paired {
        let (a, b) = (real.get(*j)?, made.get(*i)?);
        let lpips = perceptual.map_or(Ok(f64::NAN), |(net, _)| net.distance(&a, &b))?;
        pairs.push(compare(values(&a), values(&b), size, lpips));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let records = records(made, paired);
    let extractor = perceptual.map(|(_, extractor)| extractor.clone()).unwrap_or_default();
    let single: [(&'static str, Of, Middle, &'static str); 6] = [
        ("mae", |p| p.mae, mean, ""),
        ("psnr", |p| p.psnr, mean, "dB"),
        ("ssim", |p| p.ssim, mean, ""),
        ("lpips", |p| p.lpips, mean, ""),
        ("area_curve_r", |p| p.curve_r, median, ""),
        ("es_frame_error", |p| p.systole, median, "frames"),
    ];
    for (score, of, middle, unit) in single {
        // Draws of one record are averaged: the interval is over records.
        let each: Vec<f64> =
            records.iter().map(|rows| mean(&rows.iter().map(|i| of(&pairs[*i])).collect::<Vec<_>>())).collect();
        let each: Vec<f64> = each.into_iter().filter(|value| !value.is_nan()).collect();
        if each.is_empty() {
            continue;
        }
        let around = interval(each.len(), seed, |s| middle(&s.iter().map(|i| each[*i]).collect::<Vec<f64>>()));
        let mut line = line(score, middle(&each), around, each.len(), unit);
        if score == "lpips" {
            let [name, sha256] = extractor.clone();
            line = Score { extractor: name, sha256, ..line };
        }
        found.scores.push(line);
    }
    if size[1] == SIDE && size[2] == SIDE {
        correlations(&pairs, &records, seed, found);
    } else {
        found.notes.push(format!("No scores of motion: the segmentation is for clips of {SIDE} x {SIDE} pixels."));
    }
    conditioning(real, made, paired, &records, seed, found)
}

fn line(score: &'static str, value: f64, around: [f64; 2], n: usize, unit: &'static str) -> Score {
    Score { score, name: "clips".to_owned(), value, interval: Some(around), n, unit, ..Score::default() }
}

/// The pairs of each record.
fn records(made: &Clips, paired: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut places = std::collections::HashMap::new();
    let mut all: Vec<Vec<usize>> = Vec::new();
    for (row, (i, _)) in paired.iter().enumerate() {
        let place = *places.entry(made.sources[*i].clone()).or_insert(all.len());
        match all.get_mut(place) {
            Some(rows) => rows.push(row),
            None => all.push(vec![row]),
        }
    }
    all
}

/// Areas of the cavity, generated against real, over the records: own ones, and those of another record.
fn correlations(pairs: &[Pair], records: &[Vec<usize>], seed: u64, found: &mut Findings) {
    let n = records.len();
    let order = Stream::new("ecgflow eval shuffle 1", seed, "", 0).shuffle(n);
    let measures: [(&'static str, &'static str, Both); 2] =
        [("ed_area_r", "ed_area_r_shuffled", |p| p.area), ("area_change_r", "area_change_r_shuffled", |p| p.change)];
    for (own, shuffled, of) in measures {
        let side = |k: usize, rows: &Vec<usize>| mean(&rows.iter().map(|i| of(&pairs[*i])[k]).collect::<Vec<_>>());
        let (drawn, seen): (Vec<f64>, Vec<f64>) = records.iter().map(|rows| (side(0, rows), side(1, rows))).unzip();
        if n < 3 {
            continue;
        }
        for (score, order) in [(own, None), (shuffled, Some(&order))] {
            let r = |sample: &[usize]| {
                let x: Vec<f64> = sample.iter().map(|i| drawn[order.map_or(*i, |order| order[*i])]).collect();
                let y: Vec<f64> = sample.iter().map(|i| seen[*i]).collect();
                pearson(&x, &y)
            };
            let all: Vec<usize> = (0..n).collect();
            found.scores.push(line(score, r(&all), interval(n, seed, r), n, ""));
        }
        if own == "area_change_r" {
            found.parts.push(picture::motion(&seen, &drawn));
        }
    }
}

/// Whether a generated clip is nearer to the real clip of its own record than to those of others: the share of others
/// that are farther away.
fn conditioning(
    real: &mut Clips,
    made: &mut Clips,
    paired: &[(usize, usize)],
    records: &[Vec<usize>],
    seed: u64,
    found: &mut Findings,
) -> Result<()> {
    let chosen: Vec<(usize, usize)> =
        records.iter().take(COMPARED).filter_map(|rows| paired.get(*rows.first()?).copied()).collect();
    if chosen.len() < 2 {
        return Ok(());
    }
    let (rows, columns): (Vec<usize>, Vec<usize>) = chosen.into_iter().unzip();
    let far = distances(made, &rows, real, &columns)?;
    let share = |(own, row): (usize, &Vec<f64>)| {
        let others = row.iter().enumerate().filter(|(k, _)| *k != own);
        let nearer: f64 = others.map(|(_, d)| if *d > row[own] { 1.0 } else { 0.5 * f64::from(*d == row[own]) }).sum();
        nearer / (row.len() - 1) as f64
    };
    let shares: Vec<f64> = far.iter().enumerate().map(share).collect();
    let around = interval(shares.len(), seed, |s| mean(&s.iter().map(|i| shares[*i]).collect::<Vec<f64>>()));
    found.scores.push(line("own_closer", mean(&shares), around, shares.len(), "share"));
    Ok(())
}
