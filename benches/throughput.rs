//! Records a second of `ecg-prep`, HDF5 to HDF5 under preset `clean`: `make throughput`, or
//! `cargo bench --bench throughput -- FOLDER [COUNT=n] [THREADS=n]`.
//!
//! FOLDER/ecg.h5 gets COUNT simulated records where it is not there yet: 500 distinct ones, again and again under other ids.
//! One line a figure: `bench ecg_prep seconds=S records_per_second=R peak_mb=M`, for the program as it is built for release.

// A bench prints its figures, and stops at the first thing that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ecgflow::data::ecg::Ecg;
use ecgflow::data::Provenance;
use ecgflow::io::hdf5::EcgWriter;
use ecgflow::io::Sink;
use ecgflow::signal::prepare::{prepare, PrepareOptions, RATE_HZ};
use ecgflow::signal::preset::Preset;
use ecgflow::simulate::participant;
use rayon::prelude::*;

/// Records that differ.
const DISTINCT: u64 = 500;
const SEED: u64 = 1;

/// Simulated records as recorded.
fn write(path: &Path, count: usize) {
    let options = PrepareOptions { preset: Preset::Raw, ..PrepareOptions::default() };
    let one = |index| prepare(participant(SEED, index, None).ecg().recording, &options).unwrap();
    let distinct: Vec<Ecg> = (0..DISTINCT).into_par_iter().map(one).collect();
    let mut provenance = Provenance::now("throughput", "cargo bench --bench throughput".into());
    provenance.synthetic = true;
    let steps = options.describe().unwrap();
    let mut writer = EcgWriter::begin(path, &provenance, RATE_HZ, "raw", &steps).unwrap();
    writer.unit("mV").unwrap();
    for (turn, ecg) in (0..count).zip(distinct.iter().cycle()) {
        writer.put(&Ecg { id: format!("{}-{turn}", ecg.id), ..ecg.clone() }).unwrap();
    }
    writer.finish().unwrap();
    std::fs::File::open(path).unwrap().sync_all().unwrap(); // else the system writes it while the programs are timed
}

/// Seconds and peak resident memory, MB, of a run.
fn run(input: &Path, output: &Path, threads: &str) -> (f64, f64) {
    let watch = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecg-prep"));
    let mut child = command.arg(input).arg("-o").arg(output).args(["--threads", threads]).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0f64;
    let ended = loop {
        let said = std::fs::read_to_string(&status).unwrap_or_default();
        let line = said.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak_kib = kib.map_or(peak_kib, |kib: f64| kib.max(peak_kib));
        match child.try_wait().unwrap() {
            Some(ended) => break ended,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert!(ended.success(), "{ended}");
    (watch.elapsed().as_secs_f64(), peak_kib * 1024.0 / 1e6)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let option = |name: &str, default: &str| {
        let given = words.iter().find_map(|word| word.strip_prefix(&format!("{name}=")));
        given.unwrap_or(default).to_owned()
    };
    let folder = PathBuf::from(words.iter().find(|word| !word.contains('=')).expect("give a folder for the files"));
    let (count, threads) = (option("COUNT", "10000").parse().unwrap(), option("THREADS", "2"));
    std::fs::create_dir_all(&folder).unwrap();
    let (input, output) = (folder.join("ecg.h5"), folder.join("clean.h5"));
    if !input.exists() {
        eprintln!("simulating {DISTINCT} records, writing {count}");
        write(&input, count);
    }
    let (seconds, peak_mb) = run(&input, &output, &threads);
    let rate = count as f64 / seconds;
    println!("bench ecg_prep seconds={seconds:.2} records_per_second={rate:.0} peak_mb={peak_mb:.0} threads={threads}");
    for (name, path) in [("input", &input), ("output", &output)] {
        println!("bench ecg_prep_{name} mb={:.0}", std::fs::metadata(path).unwrap().len() as f64 / 1e6);
    }
}
