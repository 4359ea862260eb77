//! R peaks of fresh simulated hearts at four noise levels: `make evaluate`, or
//! `cargo bench --bench rpeaks -- [SEED=n] [COUNT=n] [WRITE=folder] [RECORD=file]`.
//!
//! One line a figure: `result rpeaks_LEVEL_sensitivity VALUE [LOW HIGH]`, `..._precision`, the interval by bootstrap over
//! records (95 %). The levels are the noise of an ordinary recording (`clean`), and the same with muscle noise 18, 12 and 6 dB
//! below the power of each lead. A beat may be 0.15 s off (`metric::beats`). Records go through what `ecg-prep` does by
//! default. WRITE keeps lead II as recorded, the true beats and ours, for `.ci/rpeaks.py`; with RECORD, an ECG file with annotated
//! beats, also ours in its first lead: as recorded and whole, at 500 Hz.

// It prints its figures, and stops at the first thing that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;

use ecgflow::io::{open_ecg, ReadOptions, Source};
use ecgflow::metric::beats::Counts;
use ecgflow::metric::bootstrap::interval;
use ecgflow::random::Stream;
use ecgflow::signal::prepare::{prepare, PrepareOptions};
use ecgflow::signal::resample::Resampler;
use ecgflow::signal::rpeak::Detector;
use ecgflow::simulate::electrics::{NoiseLevels, RATE_HZ, SECONDS};
use ecgflow::simulate::participant;
use rayon::prelude::*;

/// Names of the levels, and the power of the ECG over that of muscle noise, dB.
const LEVELS: [(&str, Option<f64>); 4] =
    [("clean", None), ("18dB", Some(18.0)), ("12dB", Some(12.0)), ("6dB", Some(6.0))];
/// The cohort of `make weights`, on whose like the detector's constants were looked at.
const TRAINED: u64 = 0;

/// One record: lead II as recorded, true beats and ours, s.
struct Record {
    id: String,
    lead: Vec<f64>,
    truth: Vec<f64>,
    found: Vec<f64>,
}

/// The same heart and the same beats at every level.
fn record(seed: u64, index: u64, muscle_db: Option<f64>) -> Record {
    let person = participant(seed, index, None);
    let mut random = Stream::new("ecgflow rpeaks 1", seed, &person.id, 0);
    let typical = NoiseLevels::typical(&mut random);
    let noise = match muscle_db {
        Some(db) => typical.muscle_snr(db),
        None => typical,
    };
    let tracing = person.ecg_with(&noise, &mut random);
    let seconds = |peaks: &[i32]| peaks.iter().map(|r| f64::from(*r) / RATE_HZ).collect::<Vec<_>>();
    let (lead, truth) = (tracing.recording.samples_mv.row(1).to_vec(), seconds(&tracing.r_peak));
    let ecg = prepare(tracing.recording, &PrepareOptions::default()).unwrap();
    Record { id: person.id, lead, truth, found: seconds(&ecg.r_peak) }
}

/// Keeps the records of a level where other programs find them: leads in one file, beats in another.
fn write(folder: &Path, level: &str, records: &[Record]) {
    std::fs::create_dir_all(folder).unwrap();
    let bytes: Vec<u8> = records.iter().flat_map(|r| &r.lead).flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.join(format!("{level}.f64")), bytes).unwrap();
    let told = |r: &Record| serde_json::json!({ "id": r.id, "truth": r.truth, "found": r.found });
    let told: Vec<_> = records.iter().map(told).collect();
    std::fs::write(folder.join(format!("{level}.json")), serde_json::to_string(&told).unwrap()).unwrap();
}

/// Keeps our beats in the first lead of a long recording, s.
fn write_annotated(folder: &Path, path: &Path) {
    let source = Source::open(path).unwrap();
    let record = open_ecg(source, &ReadOptions::default()).unwrap().1.next().unwrap().unwrap();
    let lead = Resampler::new(record.rate_hz, RATE_HZ).unwrap().all(&record.samples_mv.row(0).to_vec());
    let found: Vec<f64> = Detector::Qrs.find(&lead, RATE_HZ).unwrap().into_iter().map(|r| r as f64 / RATE_HZ).collect();
    let name = path.file_stem().unwrap().to_string_lossy();
    std::fs::write(folder.join(format!("annotated-{name}.json")), serde_json::json!({ "found": found }).to_string())
        .unwrap();
}

fn main() {
    let given = std::env::args().skip(1).filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())));
    let options: BTreeMap<String, String> = given.collect();
    let known = ["SEED", "COUNT", "WRITE", "RECORD"];
    let strange = options.keys().find(|name| !known.contains(&name.as_str()));
    assert!(strange.is_none(), "unknown option {strange:?}; known: {known:?}");
    let number = |name: &str, default: u64| options.get(name).map_or(default, |v| v.parse().unwrap());
    let (seed, count) = (number("SEED", 1), number("COUNT", 1000));
    assert!(seed != TRAINED, "SEED={TRAINED} is the cohort that the bundled weights were trained on");
    eprintln!("simulated hearts: cohort of seed {seed}, {count} records a level, lead II");
    if let (Some(folder), Some(path)) = (options.get("WRITE"), options.get("RECORD")) {
        std::fs::create_dir_all(folder).unwrap();
        write_annotated(Path::new(folder), Path::new(path));
    }
    for (level, muscle_db) in LEVELS {
        let records: Vec<Record> = (0..count).into_par_iter().map(|i| record(seed, i, muscle_db)).collect();
        if let Some(folder) = options.get("WRITE") {
            write(Path::new(folder), level, &records);
        }
        let counts: Vec<Counts> = records.iter().map(|r| Counts::of(&r.truth, &r.found, SECONDS)).collect();
        for (name, share) in
            [("sensitivity", Counts::sensitivity as fn(Counts) -> f64), ("precision", Counts::precision)]
        {
            let of = |sample: &[usize]| share(Counts::sum(sample.iter().filter_map(|&i| counts.get(i))));
            let [low, high] = interval(counts.len(), 0, of);
            println!("result rpeaks_{level}_{name} {:.4} [{low:.4} {high:.4}]", share(Counts::sum(&counts)));
        }
        eprintln!("{level}: {} beats", Counts::sum(&counts).beats);
    }
}
