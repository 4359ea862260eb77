//! R peaks of fresh simulated hearts at four noise levels: `make evaluate`, or
//! `cargo bench --bench rpeaks -- [SEED=n] [COUNT=n] [WRITE=folder]`.
//!
//! One line a figure: `result rpeaks_LEVEL_sensitivity VALUE [LOW HIGH]`, `..._precision`, the interval by bootstrap over
//! records (95 %). The levels are the noise of an ordinary recording (`clean`), and the same with muscle noise 18, 12 and 6 dB
//! below the power of each lead. A beat may be 0.15 s off (`metric::beats`). Records go through what `ecg-prep` does by
//! default. WRITE keeps lead II as recorded, the true beats and ours, for `.ci/rpeaks.py`.

// It prints its figures, and stops at the first thing that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;

use ecgflow::metric::beats::Counts;
use ecgflow::metric::bootstrap::interval;
use ecgflow::random::Stream;
use ecgflow::signal::prepare::{prepare, PrepareOptions};
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

fn main() {
    let given = std::env::args().skip(1).filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())));
    let options: BTreeMap<String, String> = given.collect();
    let known = ["SEED", "COUNT", "WRITE"];
    let strange = options.keys().find(|name| !known.contains(&name.as_str()));
    assert!(strange.is_none(), "unknown option {strange:?}; known: {known:?}");
    let number = |name: &str, default: u64| options.get(name).map_or(default, |v| v.parse().unwrap());
    let (seed, count) = (number("SEED", 1), number("COUNT", 1000));
    assert!(seed != TRAINED, "SEED={TRAINED} is the cohort that the bundled weights were trained on");
    eprintln!("simulated hearts: cohort of seed {seed}, {count} records a level, lead II");
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
