//! How well the shipped weights do on freshly simulated participants: `make evaluate`, or
//! `cargo bench --bench evaluate -- [SEED=n] [COUNT=n] [WEIGHTS=file] [STEPS=n] [GUIDANCE=g] [CYCLE=whole] [NAME=prefix]`.
//!
//! One line a figure: `result NAME VALUE [LOW HIGH]`, the interval by bootstrap over participants (95 %). Every heart is
//! simulated; docs/results.md says what each name means. Areas in clips are those of `metric::cavity`.

// It prints its figures, and stops at the first thing that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use ecgflow::checkpoint::{Kind, Weights};
use ecgflow::data::cine::Cine;
use ecgflow::data::ecg::Ecg;
use ecgflow::infer::encode::{Encode, EncoderChoice};
use ecgflow::infer::generate::{draws, Decode, Flow};
use ecgflow::kernel::gemm::Precision;
use ecgflow::metric::bootstrap::{interval, median};
use ecgflow::metric::cavity::{area_change, area_curve, end_systole};
use ecgflow::metric::correlation::pearson;
use ecgflow::metric::psnr::psnr;
use ecgflow::model::pamae::CycleChoice;
use ecgflow::model::vae::Vae;
use ecgflow::random::Stream;
use ecgflow::signal::prepare::{prepare, PrepareOptions};
use ecgflow::simulate::{participant, Participant};
use ecgflow::tensor::from_array;
use rayon::prelude::*;

/// Participants whose clips are encoded and decoded again.
const RECONSTRUCTED: usize = 100;
/// The cohort of `make weights`.
const TRAINED: u64 = 0;
/// A beat is found where an R peak is this near, samples of 2 ms.
const NEAR: i32 = 10;

/// What is known of one participant and what was found.
struct Case {
    group: &'static str,
    /// True ejection fraction, percent.
    ef: f64,
    /// True area of the cavity in the plane at each frame, mm2.
    truth: Vec<f64>,
    /// Area that the segmentation finds at each frame of the true clip and of the generated clip, pixels.
    seen: Vec<f64>,
    made: Vec<f64>,
    /// Beats: true, found, and in both.
    beats: [f64; 3],
    /// Of the true clip through the VAE, dB.
    psnr: Option<f64>,
}

/// A number of a case.
type Value = fn(&Case) -> f64;

/// Everything that makes a clip.
struct Generator {
    encode: Encode,
    flow: Flow,
    decode: Decode,
    vae: Vae,
}

impl Generator {
    fn open(weights: &Weights, options: &BTreeMap<String, String>) -> Generator {
        let number = |name: &str| options.get(name).map(|v| v.parse::<f64>().unwrap());
        let cycle = match options.get("CYCLE").map(String::as_str) {
            None | Some("published") => CycleChoice::Published,
            Some("whole") => CycleChoice::Whole,
            other => panic!("CYCLE: expected published or whole, found {other:?}"),
        };
        let change = |sampling: &mut ecgflow::model::amdf::Sampling| {
            sampling.steps = number("STEPS").map_or(sampling.steps, |v| v as usize);
            sampling.guidance = number("GUIDANCE").unwrap_or(sampling.guidance);
        };
        let device = Device::Cpu;
        Generator {
            encode: Encode::open(weights, EncoderChoice::Auto, cycle, None, &device).unwrap(),
            flow: Flow::open(weights, change, 0, Precision::F32, &device).unwrap(),
            decode: Decode::open(weights, Precision::F32, &device).unwrap(),
            vae: Vae::new(&weights.config(Kind::Vae).unwrap(), weights.builder(Kind::Vae, &device).unwrap()).unwrap(),
        }
    }

    /// The clip that an ECG gives.
    fn run(&self, ecg: Ecg) -> Cine {
        let ecg = self.encode.accept(ecg).unwrap();
        let features = self.encode.run(&[ecg]).unwrap().remove(0).unwrap();
        let draw = draws(&features, 1, 1).next().unwrap();
        self.decode.run(&self.flow.run(&draw).unwrap()).unwrap().remove(0)
    }

    /// PSNR of a clip encoded (posterior mean) and decoded.
    fn psnr(&self, cine: &Cine) -> f64 {
        let clip = from_array(cine.clip.view(), &Device::Cpu).unwrap();
        let input = ((clip * 2.0).unwrap() - 1.0).unwrap().unsqueeze(0).unwrap().unsqueeze(0).unwrap(); // (1, 1, T, S, S)
        let back = self.vae.decode(&self.vae.encode(&input).unwrap().mean).unwrap();
        let back: Vec<f32> = back.flatten_all().unwrap().to_vec1().unwrap();
        let back: Vec<f32> = back.into_iter().map(|v| v.clamp(-1.0, 1.0) * 0.5 + 0.5).collect();
        psnr(cine.clip.as_slice().unwrap(), &back)
    }
}

/// True beats, found ones, and those found at the right place.
fn beats(truth: &[i32], found: &[i32]) -> [f64; 3] {
    let hit = truth.iter().filter(|t| found.iter().any(|f| (*t - f).abs() <= NEAR)).count();
    [truth.len(), found.len(), hit].map(|n| n as f64)
}

/// Prints `result NAME VALUE [LOW HIGH]` of a statistic of the cases.
fn report(name: &str, cases: &[Case], statistic: impl Fn(&[&Case]) -> f64) {
    let all: Vec<&Case> = cases.iter().collect();
    let [low, high] =
        interval(cases.len(), 0, |sample| statistic(&sample.iter().filter_map(|&i| cases.get(i)).collect::<Vec<_>>()));
    println!("result {name} {:.4} [{low:.4} {high:.4}]", statistic(&all));
}

/// Correlation of two numbers of each case.
fn r<'a>(x: impl Fn(&'a Case) -> f64, y: impl Fn(&'a Case) -> f64, cases: &[&'a Case]) -> f64 {
    let both: (Vec<f64>, Vec<f64>) = cases.iter().map(|c| (x(c), y(c))).unzip();
    pearson(&both.0, &both.1)
}

fn middle(f: impl Fn(&Case) -> f64, cases: &[&Case]) -> f64 {
    median(&cases.iter().map(|c| f(c)).collect::<Vec<_>>())
}

fn main() {
    let given = std::env::args().skip(1).filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())));
    let options: BTreeMap<String, String> = given.collect();
    let known = ["SEED", "COUNT", "WEIGHTS", "STEPS", "GUIDANCE", "CYCLE", "NAME"];
    let strange = options.keys().find(|name| !known.contains(&name.as_str()));
    assert!(strange.is_none(), "unknown option {strange:?}; known: {known:?}");
    let number = |name: &str, default: u64| options.get(name).map_or(default, |v| v.parse().unwrap());
    let (seed, count) = (number("SEED", 1), number("COUNT", 500));
    assert!(seed != TRAINED, "SEED={TRAINED} is the cohort that the bundled weights were trained on");
    let weights = match options.get("WEIGHTS") {
        Some(path) => Weights::open(Path::new(path)).unwrap(),
        None => ecgflow::bundled::weights().unwrap(),
    };
    let prefix = options.get("NAME").map_or(String::new(), |name| format!("{name}."));
    let generator = Generator::open(&weights, &options);
    eprintln!("simulated hearts: cohort of seed {seed}, {count} participants; weights {}", weights.id());
    let mut cases = Vec::new();
    for part in (0..count).collect::<Vec<u64>>().chunks(16) {
        let people: Vec<(Participant, Ecg, [f64; 3], Cine)> = part.par_iter().map(|&i| person(seed, i)).collect();
        cases.extend(people.into_iter().enumerate().map(|(k, (person, ecg, beats, cine))| {
            let wanted = part.first().is_some_and(|first| *first as usize + k < RECONSTRUCTED);
            let psnr = wanted.then(|| generator.psnr(&cine));
            let made = generator.run(ecg);
            Case {
                group: person.group.name(),
                ef: person.phenotypes()[3],
                truth: person.lv_area_mm2(),
                seen: area_curve(cine.clip.as_slice().unwrap()),
                made: area_curve(made.clip.as_standard_layout().as_slice().unwrap()),
                beats,
                psnr,
            }
        }));
        eprint!("\r{} of {count}", cases.len());
    }
    eprintln!();
    figures(&prefix, &cases, seed);
}

/// A participant with the prepared ECG, its beats, and the true clip.
fn person(seed: u64, index: u64) -> (Participant, Ecg, [f64; 3], Cine) {
    let person = participant(seed, index, None);
    let tracing = person.ecg();
    let ecg = prepare(tracing.recording, &PrepareOptions::default()).unwrap();
    let beats = beats(&tracing.r_peak, &ecg.r_peak);
    let cine = person.cine();
    (person, ecg, beats, cine)
}

fn figures(prefix: &str, cases: &[Case], seed: u64) {
    let name = |name: &str| format!("{prefix}{name}");
    let share = |of: usize| {
        move |cases: &[&Case]| {
            let sum = |k: usize| cases.iter().map(|c| c.beats[k]).sum::<f64>();
            sum(2) / sum(of)
        }
    };
    report(&name("beats_found"), cases, share(0));
    report(&name("beats_true"), cases, share(1));
    report(&name("ef_r"), cases, |c| r(|c| area_change(&c.made), |c| c.ef, c));
    let order = Stream::new("ecgflow evaluate shuffle 1", seed, "", 0).shuffle(cases.len());
    let shuffled = |value: Value, truth: Value, sample: &[usize]| {
        let x: Vec<f64> = sample.iter().map(|&i| value(&cases[order[i]])).collect();
        let y: Vec<f64> = sample.iter().map(|&i| truth(&cases[i])).collect();
        pearson(&x, &y)
    };
    let pairs: [(&str, Value, Value); 2] =
        [("ef_r_shuffled", |c| area_change(&c.made), |c| c.ef), ("ed_area_r_shuffled", |c| c.made[0], |c| c.truth[0])];
    for (what, value, truth) in pairs {
        let all: Vec<usize> = (0..cases.len()).collect();
        let [low, high] = interval(cases.len(), 0, |sample| shuffled(value, truth, sample));
        println!("result {} {:.4} [{low:.4} {high:.4}]", name(what), shuffled(value, truth, &all));
    }
    report(&name("ed_area_r"), cases, |c| r(|c| c.made[0], |c| c.truth[0], c));
    report(&name("area_curve_r"), cases, |c| middle(|c| pearson(&c.made, &c.truth), c));
    report(&name("es_frame_error"), cases, |c| middle(|c| frames_apart(&c.made, &c.truth), c));
    report(&name("true_clip.ef_r"), cases, |c| r(|c| area_change(&c.seen), |c| c.ef, c));
    report(&name("true_clip.ed_area_r"), cases, |c| r(|c| c.seen[0], |c| c.truth[0], c));
    report(&name("true_clip.area_curve_r"), cases, |c| middle(|c| pearson(&c.seen, &c.truth), c));
    report(&name("true_clip.es_frame_error"), cases, |c| middle(|c| frames_apart(&c.seen, &c.truth), c));
    report(&name("vae_psnr"), cases, |c| {
        let all: Vec<f64> = c.iter().filter_map(|c| c.psnr).collect();
        all.iter().sum::<f64>() / all.len() as f64
    });
    for group in ["healthy", "hcm", "dcm", "rcm", "ischaemic", "heart-failure"] {
        report(&name(&format!("{group}.ef_r")), cases, |c| {
            let own: Vec<&Case> = c.iter().filter(|c| c.group == group).copied().collect();
            r(|c| area_change(&c.made), |c| c.ef, &own)
        });
    }
}

fn frames_apart(made: &[f64], truth: &[f64]) -> f64 {
    end_systole(made).abs_diff(end_systole(truth)) as f64
}
