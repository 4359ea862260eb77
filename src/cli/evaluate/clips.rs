//! `cmr-eval clips`: generated clips against real ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;

use super::{features, pairs, picture, write, Findings, Score, ScoreArgs};
use crate::cli::args::ThreadArgs;
use crate::cli::{log::Log, provenance, use_threads};
use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::io::hdf5::CineReader;
use crate::io::Source;
use crate::metric::bootstrap::{interval, median};
use crate::metric::neighbour::{apart, nearest_of, COPY};
use crate::tensor::DeviceChoice;

const DOING: &str = "comparing clips";
/// Clips that are held in memory while others go by.
const BLOCK: usize = 64;
/// Share of copies, beyond those among real clips, from which a generator is said to copy.
const FLAGGED: f64 = 0.05;

/// Score generated clips against real ones.
///
/// Clips of the same name or record make pairs. Without weights: MAE, PSNR, SSIM, motion, conditioning; with --train
/// also whether training clips were copied; with weights LPIPS, FID and FVD. Example: cmr-eval clips --real real.h5
/// --generated made.h5 --report page.html -o scores.csv
#[derive(Args, Debug)]
pub struct ClipsArgs {
    /// Real clips; - is standard input.
    #[arg(long, value_name = "CINE")]
    real: PathBuf,
    /// Generated clips; - is standard input.
    #[arg(long, value_name = "CINE")]
    generated: PathBuf,
    /// Clips that the generator was trained on: are any copied?
    #[arg(long, value_name = "CINE")]
    train: Option<PathBuf>,
    /// Weights file with lpips_alex, for LPIPS (made by `ecgflow import`).
    #[arg(long, value_name = "FILE", help_heading = "Extractors")]
    lpips: Option<PathBuf>,
    /// Weights file with inception, for FID.
    #[arg(long, value_name = "FILE", help_heading = "Extractors")]
    inception: Option<PathBuf>,
    /// Weights file with i3d, for FVD.
    #[arg(long, value_name = "FILE", help_heading = "Extractors")]
    i3d: Option<PathBuf>,
    #[command(flatten)]
    scores: ScoreArgs,
    /// cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Computing")]
    device: DeviceChoice,
    /// Threads of the processor.
    #[command(flatten)]
    threads: ThreadArgs,
}

/// An open file of clips.
pub(super) struct Clips {
    pub(super) shown: String,
    pub(super) reader: CineReader,
    pub(super) ids: Vec<String>,
    /// The record of each clip.
    pub(super) sources: Vec<String>,
}

impl Clips {
    fn open(path: &Path) -> Result<Clips> {
        let source = Source::open(path)?;
        let shown = source.shown().to_owned();
        let mut reader = CineReader::open(source)?;
        let ids = reader.ids()?;
        if ids.is_empty() {
            return Err(Fault::new(DOING, "").file(shown).expected("at least one clip", "none").into());
        }
        let sources = reader.texts("source").unwrap_or_else(|| ids.clone());
        Ok(Clips { shown, reader, ids, sources })
    }

    pub(super) fn count(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn get(&mut self, i: usize) -> Result<Cine> {
        self.reader.get(i)
    }

    /// Refuses clips of another size than `other` has.
    fn must_fit(&self, other: &Clips) -> Result<()> {
        let ([t, h, w], found) = (other.reader.size(), self.reader.size());
        if found == [t, h, w] {
            return Ok(());
        }
        let fault = Fault::new(DOING, "").file(&self.shown).field("/cine");
        let expected = format!("{t} frames x {h} x {w}, as in {}", other.shown);
        Err(fault.expected(expected, format!("{} x {} x {}", found[0], found[1], found[2])).into())
    }
}

/// For each clip of `made` the place in `real` of the clip of the same name, else of the first of the same record.
fn partners(made: &Clips, real: &Clips) -> Vec<Option<usize>> {
    let first = |names: &[String]| -> HashMap<String, usize> {
        names.iter().enumerate().rev().map(|(i, name)| (name.clone(), i)).collect()
    };
    let (by_id, by_source) = (first(&real.ids), first(&real.sources));
    let of = |(id, source): (&String, &String)| {
        by_id.get(id).or_else(|| by_source.get(source)).or_else(|| by_id.get(source)).copied()
    };
    made.ids.iter().zip(&made.sources).map(of).collect()
}

/// Distances of clips of `a` (rows) to clips of `b` (columns), over all pixels of all frames.
pub(super) fn distances(a: &mut Clips, rows: &[usize], b: &mut Clips, columns: &[usize]) -> Result<Vec<Vec<f64>>> {
    let mut all = vec![Vec::with_capacity(columns.len()); rows.len()];
    for (block, found) in rows.chunks(BLOCK).zip(all.chunks_mut(BLOCK)) {
        let held = block.iter().map(|i| a.get(*i)).collect::<Result<Vec<Cine>>>()?;
        for column in columns {
            let other = b.get(*column)?;
            let other = values(&other);
            let far: Vec<f64> = held.par_iter().map(|clip| apart(values(clip), other)).collect();
            found.iter_mut().zip(far).for_each(|(row, far)| row.push(far));
        }
    }
    Ok(all)
}

/// The pixels of a clip, as the reader lays them out.
pub(super) fn values(cine: &Cine) -> &[f32] {
    cine.clip.as_slice().unwrap_or_default()
}

/// Reads, scores and writes.
///
/// # Errors
/// Where a file cannot be read or does not fit, weights lack a network, or an output cannot be written.
pub fn clips(args: &ClipsArgs, log: &Log) -> Result<()> {
    use_threads(args.threads.threads)?;
    let device = args.device.open()?;
    let dash = Path::new("-");
    let inputs = [Some(&args.real), Some(&args.generated), args.train.as_ref()];
    if inputs.into_iter().flatten().filter(|path| path.as_path() == dash).count() > 1 {
        return Err(Error::usage("only one input can be standard input"));
    }
    let mut extractors = features::open(&args.lpips, &args.inception, &args.i3d, &device)?;
    let (mut real, mut made) = (Clips::open(&args.real)?, Clips::open(&args.generated)?);
    made.must_fit(&real)?;
    let mut train = args.train.as_deref().map(Clips::open).transpose()?;
    train.as_ref().map_or(Ok(()), |train| train.must_fit(&real))?;
    let mut origin = provenance("cmr-eval").after(&real.reader.provenance()).after(&made.reader.provenance());
    if let Some(train) = &train {
        origin = origin.after(&train.reader.provenance());
    }
    origin.seed = Some(args.scores.seed);
    let ids = extractors.names();
    origin.model = (!ids.is_empty()).then(|| ids.join("; "));
    let mut found = Findings { scores: Vec::new(), notes: notes(&real, &made), parts: Vec::new() };
    let partners = partners(&made, &real);
    let paired: Vec<(usize, usize)> = partners.iter().enumerate().filter_map(|(i, p)| Some((i, (*p)?))).collect();
    if paired.is_empty() {
        warn(log, &mut found, "no clip of --generated has its record in --real: no scores of pairs");
    } else if paired.len() < made.count() {
        let lonely = made.count() - paired.len();
        warn(
            log,
            &mut found,
            &format!("{lonely} of {} generated clips have no real clip of their record", made.count()),
        );
    }
    if !paired.is_empty() {
        pairs::score(&mut real, &mut made, &paired, extractors.perceptual.as_ref(), args.scores.seed, &mut found, log)?;
    }
    features::score(&mut real, &mut made, &mut extractors, &mut found, log)?;
    if let Some(train) = &mut train {
        copies(&mut real, &mut made, train, args.scores.seed, &mut found, log)?;
    }
    write(&args.scores, "Generated clips against real ones", &found, &origin)
}

/// What readers must know of where the clips come from.
fn notes(real: &Clips, made: &Clips) -> Vec<String> {
    let synthetic = |clips: &Clips| clips.reader.provenance().synthetic;
    let mut notes = Vec::new();
    notes.push(match synthetic(made) {
        true => format!("The generated clips ({}) are synthetic.", made.shown),
        false => format!("The generated clips ({}) are not marked synthetic in their file.", made.shown),
    });
    if synthetic(real) {
        notes.push(format!("The clips they are compared with ({}) are synthetic too: no patient's.", real.shown));
    }
    notes
}

pub(super) fn warn(log: &Log, found: &mut Findings, text: &str) {
    log.warn(text);
    found.notes.push(text.to_owned());
}

/// Whether generated clips are copies of training clips; real clips that were not trained on are the control.
fn copies(
    real: &mut Clips,
    made: &mut Clips,
    train: &mut Clips,
    seed: u64,
    found: &mut Findings,
    log: &Log,
) -> Result<()> {
    if train.count() < 2 {
        let fault = Fault::new(DOING, "").file(&train.shown);
        return Err(fault.expected("at least two training clips", train.count()).into());
    }
    let known: Vec<usize> = (0..train.count()).collect();
    let held_out = |clips: &Clips, train: &Clips| -> Vec<usize> {
        (0..clips.count())
            .filter(|i| !train.ids.contains(&clips.ids[*i]) && !train.sources.contains(&clips.sources[*i]))
            .collect()
    };
    let all: Vec<usize> = (0..made.count()).collect();
    let of_made = ratios(made, &all, train, &known)?;
    let rows = held_out(real, train);
    let of_real = ratios(real, &rows, train, &known)?;
    let share = |ratios: &[f64]| ratios.iter().filter(|ratio| **ratio < COPY).count() as f64 / ratios.len() as f64;
    for (names, ratios) in [(["nearest_ratio", "copied"], &of_made), (["real_nearest_ratio", "real_copied"], &of_real)]
    {
        let statistics: [fn(&[f64]) -> f64; 2] =
            [median, |r| r.iter().filter(|r| **r < COPY).count() as f64 / r.len() as f64];
        for (name, statistic) in names.into_iter().zip(statistics).filter(|_| !ratios.is_empty()) {
            let pick = |sample: &[usize]| statistic(&sample.iter().map(|i| ratios[*i]).collect::<Vec<f64>>());
            let around = interval(ratios.len(), seed, pick);
            let unit = if name.ends_with("ratio") { "" } else { "share" };
            found.scores.push(Score {
                score: name,
                name: "clips".to_owned(),
                value: statistic(ratios),
                interval: Some(around),
                n: ratios.len(),
                unit,
                ..Score::default()
            });
        }
    }
    let beyond = share(&of_made) - if of_real.is_empty() { 0.0 } else { share(&of_real) };
    let flagged = beyond > FLAGGED;
    let n = of_made.len();
    let value = f64::from(flagged);
    found.scores.push(Score { score: "copies_flagged", name: "clips".to_owned(), value, n, ..Score::default() });
    if flagged {
        let copied = of_made.iter().filter(|ratio| **ratio < COPY).count();
        warn(
            log,
            found,
            &format!("the generator copies: {copied} of {n} generated clips are copies of training clips"),
        );
    }
    found.parts.push(picture::ratios(&of_made, &of_real));
    Ok(())
}

/// For each clip the distance to its nearest training clip over that to the next nearest ones.
fn ratios(clips: &mut Clips, rows: &[usize], train: &mut Clips, known: &[usize]) -> Result<Vec<f64>> {
    let far = distances(clips, rows, train, known)?;
    Ok(far.into_iter().filter_map(nearest_of).map(|nearest| nearest.ratio).collect())
}
