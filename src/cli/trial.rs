//! `ecgflow trial`: what a generator makes of the ECGs of digital hearts, against the truth behind them.
//!
//! Every participant is simulated, the ECG prepared, encoded and sampled as the other programs do by default, and the area
//! of the left ventricle's cavity measured in each frame of the clip ([`cavity`](crate::metric::cavity)).

use std::path::PathBuf;

use candle_core::Device;
use clap::Args;

use super::args::{count, non_negative, ThreadArgs};
use super::log::Log;
use crate::bundled;
use crate::checkpoint::Weights;
use crate::data::cine::Cine;
use crate::data::ecg::Ecg;
use crate::data::table::{Row, Value};
use crate::error::{Error, Fault, Result};
use crate::infer::chain::{Chain, Changes};
use crate::io::ordered::Ordered;
use crate::io::table::TableWriter;
use crate::io::Sink;
use crate::metric::bootstrap::{interval, median};
use crate::metric::cavity::{area_change, area_curve, end_systole};
use crate::metric::correlation::pearson;
use crate::metric::psnr::psnr;
use crate::random::Stream;
use crate::signal::prepare::{prepare, PrepareOptions};
use crate::simulate::{participant, Group, Participant};
use crate::train::latent::Frozen;

/// Participants whose clips are encoded and decoded again.
const RECONSTRUCTED: usize = 100;
/// The cohort that the bundled weights were trained on.
const TRAINED: u64 = 0;
/// A beat is found where an R peak is this near, samples of 2 ms.
const NEAR: i32 = 10;
/// Beats so near to the ends of the record do not count, for their QRS may be cut: 150 ms, the tolerance of ANSI/AAMI EC57.
const CUT: i32 = 75;
/// Bytes that one participant takes while under way, about.
const PARTICIPANT_BYTES: usize = 5 << 20;

/// Try a generator on simulated participants, whose truth is known: a table of figures with 95 % intervals.
///
/// Every heart is simulated, and nothing that comes out says how the generator does on patients. Example: ecgflow trial -n
/// 100 --weights mine.safetensors
#[derive(Args, Debug, Clone)]
pub struct TrialArgs {
    /// Number of participants.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 500, value_parser = count)]
    participants: usize,
    /// Seed of the cohort; 0 is what the bundled weights were trained on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Weights file [default: the bundled weights].
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Euler steps of the sampler [default: as the weights say].
    #[arg(long, value_name = "N", value_parser = count)]
    steps: Option<usize>,
    /// Guidance of the sampler [default: as the weights say].
    #[arg(long, value_name = "G", allow_negative_numbers = true, value_parser = non_negative)]
    guidance: Option<f64>,
    /// Standard deviation of the noise around the anatomy template [default: as the weights say].
    #[arg(long, value_name = "A", allow_negative_numbers = true, value_parser = non_negative)]
    alpha: Option<f64>,
    /// Condition on the whole record, for a flow that was trained so.
    #[arg(long)]
    whole: bool,
    /// Table to write; - or nothing is standard output.
    #[arg(short, long, value_name = "OUTPUT", default_value = "-", hide_default_value = true)]
    output: PathBuf,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Runs the trial and writes the table.
///
/// # Errors
/// Where the weights lack a model, or a stage fails.
pub fn trial(args: &TrialArgs, log: &Log) -> Result<()> {
    super::use_threads(args.threads.threads)?;
    let weights = match &args.weights {
        Some(path) => Weights::open(path)?,
        None if args.seed == TRAINED => {
            let cause = format!("--seed {TRAINED} is the cohort that the bundled weights were trained on");
            return Err(Error::usage(cause).or_hint("take another seed"));
        }
        None => bundled::weights()?,
    };
    weights.notice().iter().for_each(|notice| log.note(notice));
    let mut provenance = super::provenance("ecgflow");
    (provenance.seed, provenance.synthetic, provenance.model) = (Some(args.seed), true, Some(weights.id()));
    let columns = ["value", "low", "high"].map(str::to_owned);
    let mut table = TableWriter::begin(&args.output, &columns, &provenance, true)?;
    let cases = cases(args, &weights, log)?;
    for (name, [value, low, high]) in figures(&cases, args.seed) {
        table.put(&Row { id: name, cells: [value, low, high].map(Value::Number).to_vec() })?;
    }
    table.finish()
}

/// What is known of one participant and what was found.
struct Case {
    group: Group,
    /// True ejection fraction, percent.
    ef: f64,
    /// True area of the cavity in the plane at each frame, mm2.
    truth: Vec<f64>,
    /// Area that the segmentation finds at each frame of the true clip and of the generated clip, pixels.
    seen: Vec<f64>,
    made: Vec<f64>,
    /// Beats: true, found, and in both.
    beats: [f64; 3],
    /// Of the true clip through the 3D-VAE, dB.
    psnr: Option<f64>,
}

/// A participant with the prepared ECG, its beats, and the true clip.
struct Drawn {
    person: Participant,
    ecg: Ecg,
    beats: [f64; 3],
    cine: Cine,
}

impl Drawn {
    fn new(seed: u64, index: u64) -> Result<Drawn> {
        let person = participant(seed, index, None);
        let tracing = person.ecg();
        let ecg = prepare(tracing.recording, &PrepareOptions::default())?;
        let (beats, cine) = (beats(&tracing.r_peak, &ecg.r_peak, ecg.samples_mv.ncols()), person.cine());
        Ok(Drawn { person, ecg, beats, cine })
    }
}

/// True beats, found ones, and those found at the right place, of a record of `samples`.
fn beats(truth: &[i32], found: &[i32], samples: usize) -> [f64; 3] {
    let whole = CUT..i32::try_from(samples).unwrap_or(i32::MAX) - CUT;
    let count = |beats: &[i32], others: &[i32], near: bool| {
        let is_near = |beat: &i32| others.iter().any(|other| (beat - other).abs() <= NEAR);
        beats.iter().filter(|beat| whole.contains(beat) && is_near(beat) == near).count() as f64
    };
    let (hit, missed, wrong) = (count(truth, found, true), count(truth, found, false), count(found, truth, false));
    let twice = (count(found, truth, true) - hit).max(0.0); // found at one true beat
    [hit + missed, hit + wrong + twice, hit]
}

fn cases(args: &TrialArgs, weights: &Weights, log: &Log) -> Result<Vec<Case>> {
    let changes = Changes { steps: args.steps, guidance: args.guidance, alpha: args.alpha, whole: args.whole };
    let chain = Chain::open(weights, &changes, 0, &Device::Cpu)?;
    let frozen = Frozen::open(weights, &Device::Cpu)?;
    let bar = log.progress(args.participants);
    let (seed, end) = (args.seed, args.participants as u64);
    let drawn = Ordered::new(0..end, |_| PARTICIPANT_BYTES, move |index| Drawn::new(seed, index));
    let mut cases = Vec::new();
    for drawn in drawn {
        let Drawn { person, ecg, beats, cine } = drawn??;
        let (seen, wanted) = (curve(&cine), cases.len() < RECONSTRUCTED);
        let psnr = wanted.then(|| reconstruction(&chain, &frozen, &cine)).transpose()?;
        let clip = chain.run(ecg)?;
        if clip.clip.dim() != cine.clip.dim() {
            let fault = Fault::new("trying the generator", "").field("clip");
            let (expected, found) =
                (format!("{:?} frames, rows and columns", cine.clip.dim()), format!("{:?}", clip.clip.dim()));
            return Err(fault.expected(expected, found).hint("the weights must make clips of that size").into());
        }
        let made = curve(&clip);
        let [_, _, _, ef, ..] = person.phenotypes();
        cases.push(Case { group: person.group, ef, truth: person.lv_area_mm2(), seen, made, beats, psnr });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(cases)
}

fn curve(cine: &Cine) -> Vec<f64> {
    area_curve(&cine.clip.iter().copied().collect::<Vec<f32>>())
}

/// PSNR of a clip encoded (posterior mean) and decoded, dB.
fn reconstruction(chain: &Chain, frozen: &Frozen, cine: &Cine) -> Result<f64> {
    let back = chain.decoder().run(&[frozen.latent(cine.clone())?])?;
    let flat = |cine: &Cine| cine.clip.iter().copied().collect::<Vec<f32>>();
    Ok(back.first().map_or(f64::NAN, |back| psnr(&flat(cine), &flat(back))))
}

/// A number of a case.
type Number = fn(&Case) -> f64;
/// A number of several cases.
type Statistic = dyn Fn(&[&Case]) -> f64;

/// Names and values with 95 % intervals: [value, low, high].
fn figures(cases: &[Case], seed: u64) -> Vec<(String, [f64; 3])> {
    let all: Vec<usize> = (0..cases.len()).collect();
    let pick = |sample: &[usize]| sample.iter().filter_map(|&i| cases.get(i)).collect::<Vec<&Case>>();
    let of = |statistic: &dyn Fn(&[usize]) -> f64| {
        let [low, high] = interval(cases.len(), 0, |sample| statistic(sample));
        [statistic(&all), low, high]
    };
    let share = |k: usize| {
        move |c: &[&Case]| c.iter().map(|c| c.beats[2]).sum::<f64>() / c.iter().map(|c| c.beats[k]).sum::<f64>()
    };
    let r = |x: Number, y: Number| {
        move |c: &[&Case]| {
            pearson(&c.iter().map(|c| x(c)).collect::<Vec<_>>(), &c.iter().map(|c| y(c)).collect::<Vec<_>>())
        }
    };
    let middle = |x: Number| move |c: &[&Case]| median(&c.iter().map(|c| x(c)).collect::<Vec<_>>());
    let (ef_made, ed_made): (Number, Number) = (|c| area_change(&c.made), |c| first(&c.made));
    let (ef, ed): (Number, Number) = (|c| c.ef, |c| first(&c.truth));
    let psnr = |c: &[&Case]| mean(&c.iter().filter_map(|c| c.psnr).collect::<Vec<f64>>());
    let plain: Vec<(&str, Box<Statistic>)> = vec![
        ("beats_found", Box::new(share(0))),
        ("beats_true", Box::new(share(1))),
        ("ef_r", Box::new(r(ef_made, ef))),
        ("ed_area_r", Box::new(r(ed_made, ed))),
        ("area_curve_r", Box::new(middle(|c| pearson(&c.made, &c.truth)))),
        ("es_frame_error", Box::new(middle(|c| frames_apart(&c.made, &c.truth)))),
        ("vae_psnr", Box::new(psnr)),
        ("true_clip.ef_r", Box::new(r(|c| area_change(&c.seen), ef))),
        ("true_clip.ed_area_r", Box::new(r(|c| first(&c.seen), ed))),
        ("true_clip.area_curve_r", Box::new(middle(|c| pearson(&c.seen, &c.truth)))),
        ("true_clip.es_frame_error", Box::new(middle(|c| frames_apart(&c.seen, &c.truth)))),
    ];
    let mut figures: Vec<(String, [f64; 3])> =
        plain.iter().map(|(name, f)| ((*name).to_owned(), of(&|sample: &[usize]| f(&pick(sample))))).collect();
    let order = Stream::new("ecgflow evaluate shuffle 1", seed, "", 0).shuffle(cases.len());
    for (name, x, y) in [("ef_r_shuffled", ef_made, ef), ("ed_area_r_shuffled", ed_made, ed)] {
        let others = |sample: &[usize]| pick(&sample.iter().filter_map(|&i| order.get(i).copied()).collect::<Vec<_>>());
        figures.push((
            name.to_owned(),
            of(&|sample: &[usize]| {
                let (made, truth) = (others(sample), pick(sample));
                pearson(&made.iter().map(|c| x(c)).collect::<Vec<_>>(), &truth.iter().map(|c| y(c)).collect::<Vec<_>>())
            }),
        ));
    }
    for (group, _) in Group::ALL {
        let own = r(ef_made, ef);
        let of_group =
            |sample: &[usize]| own(&pick(sample).into_iter().filter(|c| c.group == group).collect::<Vec<_>>());
        figures.push((format!("{}.ef_r", group.name()), of(&of_group)));
    }
    figures
}

fn first(curve: &[f64]) -> f64 {
    curve.first().copied().unwrap_or(f64::NAN)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn frames_apart(made: &[f64], truth: &[f64]) -> f64 {
    end_systole(made).abs_diff(end_systole(truth)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_counted_once_and_not_where_the_record_may_cut_them() {
        assert_eq!(beats(&[10, 1000, 2000, 4990], &[1003, 2000, 3000], 5000), [2.0, 3.0, 2.0]);
        assert_eq!(beats(&[1000], &[995, 1005], 5000), [1.0, 2.0, 1.0]);
        assert_eq!(beats(&[10], &[10], 100), [0.0, 0.0, 0.0]);
    }
}
