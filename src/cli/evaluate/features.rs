//! Scores of sets of clips, in the features of a network: Frechet distances, precision, recall, density, coverage.

use std::path::PathBuf;

use candle_core::Device;

use super::clips::{warn, Clips};
use super::{Findings, Score};
use crate::checkpoint::Weights;
use crate::cli::log::Log;
use crate::data::cine::Cine;
use crate::error::Result;
use crate::infer::score;
use crate::metric::frechet::{distance, Spread};
use crate::metric::neighbour::{cover, Vectors, NEAREST};

/// Name and sha256 of weights.
type Named = [String; 2];

/// The networks that were given.
pub(super) struct Extractors {
    pub(super) perceptual: Option<(score::Perceptual, Named)>,
    frames: Option<(score::Frames, Named)>,
    clips: Option<(score::Clips, Named)>,
}

impl Extractors {
    /// Name and sha256 of each.
    pub(super) fn names(&self) -> Vec<String> {
        let all = [
            self.perceptual.as_ref().map(|(_, named)| named),
            self.frames.as_ref().map(|(_, named)| named),
            self.clips.as_ref().map(|(_, named)| named),
        ];
        all.into_iter().flatten().map(|[name, sha256]| format!("{name} sha256:{sha256}")).collect()
    }
}

/// Opens the networks whose weights are named.
pub(super) fn open(
    lpips: &Option<PathBuf>,
    inception: &Option<PathBuf>,
    i3d: &Option<PathBuf>,
    device: &Device,
) -> Result<Extractors> {
    let weights = |path: &Option<PathBuf>, name: &str| {
        let opened = path.as_deref().map(Weights::open).transpose()?;
        let named = |w: Weights| {
            let sha256 = w.sha256().to_owned();
            (w, [name.to_owned(), sha256])
        };
        Ok::<_, crate::Error>(opened.map(named))
    };
    let perceptual = weights(lpips, "lpips_alex")?
        .map(|(w, named)| Ok::<_, crate::Error>((score::Perceptual::open(&w, device)?, named)));
    let frames = weights(inception, "inception")?
        .map(|(w, named)| Ok::<_, crate::Error>((score::Frames::open(&w, device)?, named)));
    let clips = weights(i3d, "i3d")?.map(|(w, named)| Ok::<_, crate::Error>((score::Clips::open(&w, device)?, named)));
    Ok(Extractors { perceptual: perceptual.transpose()?, frames: frames.transpose()?, clips: clips.transpose()? })
}

/// Features of all clips of a file: for each clip `vectors` of them.
fn run(clips: &mut Clips, log: &Log, of: impl Fn(&Cine) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
    let bar = log.progress(clips.count());
    let mut all = Vec::new();
    for i in 0..clips.count() {
        all.extend(of(&clips.get(i)?)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(all)
}

/// The mean of the frames of each clip.
fn of_clips(frames: &[f32], width: usize, count: usize) -> Vec<f32> {
    let each = (frames.len() / width.max(1) / count.max(1)).max(1);
    let mean = |clip: &[f32]| -> Vec<f32> {
        let sum = |j: usize| clip.iter().skip(j).step_by(width).map(|v| f64::from(*v)).sum::<f64>();
        (0..width).map(|j| (sum(j) / each as f64) as f32).collect()
    };
    frames.chunks_exact(each * width).flat_map(mean).collect()
}

/// Adds the scores of the sets.
pub(super) fn score(
    real: &mut Clips,
    made: &mut Clips,
    with: &mut Extractors,
    found: &mut Findings,
    log: &Log,
) -> Result<()> {
    let counts = [real.count(), made.count()];
    if let Some((net, named)) = &with.frames {
        let width = net.width();
        let (a, b) = (run(real, log, |cine| net.run(cine))?, run(made, log, |cine| net.run(cine))?);
        add("fid", [&a, &b], width, named, found, log);
        covers([&of_clips(&a, width, counts[0]), &of_clips(&b, width, counts[1])], width, named, found, log);
    }
    if let Some((net, named)) = &with.clips {
        let width = net.width();
        let (a, b) = (run(real, log, |cine| net.run(cine))?, run(made, log, |cine| net.run(cine))?);
        add("fvd", [&a, &b], width, named, found, log);
        covers([&a, &b], width, named, found, log);
    }
    Ok(())
}

fn line(score: &'static str, value: f64, n: usize, named: &Named) -> Score {
    let [extractor, sha256] = named.clone();
    Score { score, name: "clips".to_owned(), value, n, extractor, sha256, ..Score::default() }
}

/// A Frechet distance. Samples drawn again would hold clips twice and lie apart for that alone, so it has no interval.
fn add(name: &'static str, [a, b]: [&[f32]; 2], width: usize, named: &Named, found: &mut Findings, log: &Log) {
    let n = a.len().min(b.len()) / width.max(1);
    match (Spread::new(a, width), Spread::new(b, width)) {
        (Some(real), Some(made)) => {
            found.scores.push(line(name, distance(&real, &made), n, named));
            if n < width {
                let note =
                    format!("{name} of {n} samples of {width} features is too large: compare it at equal numbers only");
                found.notes.push(note);
            }
        }
        _ => warn(log, found, &format!("no {name}: it needs two clips or more on both sides")),
    }
}

/// Precision, recall, density and coverage of whole clips.
fn covers([a, b]: [&[f32]; 2], width: usize, named: &Named, found: &mut Findings, log: &Log) {
    let (real, made) = (Vectors::new(a, width), Vectors::new(b, width));
    let n = real.count().min(made.count());
    match cover(real, made, NEAREST) {
        Some(c) => {
            let all =
                [("precision", c.precision), ("recall", c.recall), ("density", c.density), ("coverage", c.coverage)];
            found.scores.extend(all.map(|(name, value)| line(name, value, n, named)));
        }
        None => {
            warn(log, found, &format!("no precision and recall: they need more than {NEAREST} clips on both sides"))
        }
    }
}
