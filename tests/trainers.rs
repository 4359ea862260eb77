//! The training programs: killed ten times they end with the same bytes, and they say what is wrong.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use candle_core::Device;
use ecgflow::checkpoint::Weights;
use ecgflow::data::cine::Cine;
use ecgflow::data::ecg::Ecg;
use ecgflow::data::Provenance;
use ecgflow::io::hdf5::{CineWriter, EcgWriter};
use ecgflow::io::Sink;
use ecgflow::random::Stream;
use ecgflow::train::state::State;
use ndarray::{Array2, Array3};

use crate::program::{names, program, run, succeed, text, tiny_weights};

/// Ten seconds of beats with noise.
fn ecg(id: &str) -> Ecg {
    let mut stream = Stream::new("test ecg", 0, id, 0);
    let interval = stream.between(300.0, 600.0);
    let peaks: Vec<f64> = (0..16).map(|k| 100.0 + interval * f64::from(k)).filter(|p| *p < 5000.0).collect();
    let wave = |n: usize| peaks.iter().map(|p| (-((n as f64 - p) / 8.0).powi(2)).exp()).sum::<f64>();
    let samples_mv = Array2::from_shape_fn((12, 5000), |(lead, n)| {
        (wave(n) * (0.5 + 0.1 * lead as f64) + 0.02 * stream.normal()) as f32
    });
    let r_peak = peaks.iter().map(|p| *p as i32).collect();
    Ecg { id: id.to_owned(), rate_hz: 500.0, samples_mv, r_peak, heart_rate: 70.0, quality: Default::default() }
}

/// A disc that shrinks and grows.
fn cine(id: &str) -> Cine {
    let size = Stream::new("test cine", 0, id, 0).between(8.0, 12.0);
    let radius = |t: usize| size * (1.0 - 0.3 * (t as f64 / 8.0 * std::f64::consts::PI).sin());
    let pixel = |(t, y, x): (usize, usize, usize)| {
        let distance = ((y as f64 - 15.5).powi(2) + (x as f64 - 15.5).powi(2)).sqrt();
        (1.0 / (1.0 + (distance - radius(t)).exp())) as f32
    };
    let (clip, source) = (Array3::from_shape_fn((8, 32, 32), pixel), id.to_owned());
    Cine { id: id.to_owned(), source, sample: 0, clip, pixel_spacing_mm: None, heart_rate: 70.0 }
}

fn provenance() -> Provenance {
    Provenance { synthetic: true, ..Provenance::now("test", "test".to_owned()) }
}

fn write_ecgs(path: &Path, ids: &[String]) {
    let mut writer = EcgWriter::begin(path, &provenance(), 500.0, "clean", &[]).unwrap();
    ids.iter().for_each(|id| writer.put(&ecg(id)).unwrap());
    writer.finish().unwrap();
}

fn write_cines(path: &Path, ids: &[String]) {
    let mut writer = CineWriter::begin(path, &provenance()).unwrap();
    ids.iter().for_each(|id| writer.put(&cine(id)).unwrap());
    writer.finish().unwrap();
}

fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|i| format!("p{i:02}")).collect()
}

/// A folder with ecg.h5 (p00 to p06) and cine.h5 (p01 to p07).
fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_ecgs(&folder.path().join("ecg.h5"), &ids(0..7));
    write_cines(&folder.path().join("cine.h5"), &ids(1..8));
    folder
}

/// The tensors of a weights file, without its header, which names the time it was made.
fn tensors(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

fn command(words: &str, folder: &Path) -> Command {
    let mut words = words.split_whitespace();
    let mut command = program(words.next().unwrap(), folder);
    command.args(words).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs, and kills after `milliseconds` by SIGKILL or SIGTERM.
fn killed(words: &str, folder: &Path, milliseconds: f64, signal: &str) -> Output {
    let child = command(words, folder).spawn().unwrap();
    std::thread::sleep(Duration::from_secs_f64(milliseconds / 1000.0));
    let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
    child.wait_with_output().unwrap()
}

/// The last step of a log, 0 where there is none.
fn last_step(log: &Path) -> u64 {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let complete = text.rsplit_once('\n').map_or("", |(rows, _)| rows);
    complete.lines().last().and_then(|row| row.split(',').next()?.parse().ok()).unwrap_or(0)
}

fn saved_step(state: &Path) -> u64 {
    let Ok(mut file) = std::fs::File::open(state) else { return 0 };
    State::read(&mut file).unwrap().progress.step
}

/// Trains without interruption, then with ten; the results are the same bytes.
fn survives(words: &str, step_ms: f64) {
    let words = words.replace("WEIGHTS", &tiny_weights().display().to_string());
    let words = format!("{words} -o w.safetensors --state t.state --checkpoint 2 --log t.csv");
    let (whole, torn) = (data(), data());
    let started = std::time::Instant::now();
    succeed(&words, whole.path());
    let second = started.elapsed().as_secs_f64() * 1000.0; // start and all steps, on this machine as it is now
    let mut random = Stream::new("kill", 0, &words, 0);
    let mut progressed = 0;
    for life in 0..10 {
        let signal = if life % 2 == 0 { "-KILL" } else { "-TERM" };
        let before = saved_step(&torn.path().join("t.state"));
        let output = killed(&words, torn.path(), random.between(0.0, second * 0.3 + step_ms), signal);
        let (saved, logged) = (saved_step(&torn.path().join("t.state")), last_step(&torn.path().join("t.csv")));
        assert!(saved >= before && logged.saturating_sub(saved) <= 2, "life {life}: saved {saved}, logged {logged}");
        progressed += u32::from(saved > before);
        if output.status.code() == Some(1) {
            let stderr = text(&output.stderr);
            assert!(stderr.contains("stopped by a signal") && stderr.contains("the state is saved"), "{stderr}");
            assert_eq!(saved, logged, "SIGTERM loses no step");
        }
    }
    eprintln!("ten kills, {progressed} lives made a checkpoint");
    assert!(progressed > 0, "every kill came before the first checkpoint: nothing was resumed");
    succeed(&words, torn.path());
    let log = |folder: &Path| std::fs::read_to_string(folder.join("t.csv")).unwrap();
    assert_eq!(log(torn.path()), log(whole.path()));
    assert!(tensors(&torn.path().join("w.safetensors")) == tensors(&whole.path().join("w.safetensors")));
    assert!(std::fs::read(torn.path().join("t.state")).unwrap().len() > 1000);
}

#[test]
fn pamae_killed_ten_times_ends_with_the_same_bytes() {
    survives("pamae-encode train ecg.h5 --preset tiny --batch 2 --steps 14 --threads 1 --ema 0.9", 100.0);
}

#[test]
fn the_vae_killed_ten_times_ends_with_the_same_bytes() {
    survives("amdf-sample train --stage vae --cine cine.h5 --preset tiny --steps 14 --threads 2", 100.0);
}

#[test]
fn the_flow_killed_ten_times_ends_with_the_same_bytes() {
    let words = "amdf-sample train --stage flow --cine cine.h5 --ecg ecg.h5 --weights WEIGHTS --preset tiny --steps 14";
    survives(&format!("{words} --cycle random --latents l.h5 --threads 2"), 100.0);
}

#[test]
fn a_trained_generator_samples_and_says_what_it_was_trained_on() {
    let folder = data();
    let weights = tiny_weights().display().to_string();
    let words = "amdf-sample train --stage flow --cine cine.h5 --ecg ecg.h5 --preset tiny --steps 2 --threads 2 -o w.safetensors --gif g";
    let output = run(&format!("{words} --weights {weights}"), folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("6 pairs; 1 clips have no ECG, 1 ECGs have no clip"),
        "{}",
        text(&output.stderr)
    );
    let said = text(&succeed("ecgflow inspect w.safetensors --json", folder.path()));
    assert!(
        said.contains("trained on 6 pairs of 7 clips of cine.h5 (synthetic) and 7 ECGs of ecg.h5 (synthetic), 2 steps"),
        "{said}"
    );
    succeed("pamae-encode ecg.h5 -o f.h5 --weights w.safetensors --encoder flow", folder.path());
    succeed("amdf-sample f.h5 -o c.h5 --weights w.safetensors --threads 2", folder.path());
    assert!(names(&folder.path().join("g")).iter().any(|name| name.ends_with("_truth.gif")));
}

#[test]
fn an_encoder_of_pace_0_stays_and_one_of_another_pace_learns() {
    let folder = data();
    let words = "amdf-sample train --stage flow --cine cine.h5 --ecg ecg.h5 --preset tiny --steps 8 \
        --lr 1e-2 --warm-up 0 --ema 0 -q --weights";
    let encoder = |pace: &str| {
        let weights = folder.path().join(format!("{pace}.safetensors"));
        let words = format!("{words} {} --encoder-pace {pace} -o {}", tiny_weights().display(), weights.display());
        succeed(&words, folder.path());
        let of = |kind: &str| {
            let name = format!("{kind}.encoder.layer1.0.conv1.weight");
            let tensor = Weights::open(&weights).unwrap().tensor(&name, &Device::Cpu).unwrap();
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        (of("flow"), of("pamae"))
    };
    let moved = |pace: &str| {
        let (after, before) = encoder(pace);
        after.iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert_eq!(moved("0"), 0.0);
    let (slow, full) = (moved("0.01"), moved("1"));
    assert!(slow > 0.0 && slow < 0.1 * full, "{slow} {full}");
    let usage = "amdf-sample train --stage vae --cine cine.h5 -o w.s --encoder-pace 0";
    assert_eq!(run(usage, folder.path()).status.code(), Some(2));
}

#[test]
fn what_differs_on_resuming_is_named_and_max_time_writes_the_weights() {
    let folder = data();
    let words =
        "amdf-sample train --stage vae --cine cine.h5 --preset tiny --threads 2 -o w.safetensors --state t.state";
    let output = run(&format!("{words} --steps 1000 --max-time 1s --validation 0"), folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("--max-time: stopped after step"), "{}", text(&output.stderr));
    assert!(folder.path().join("w.safetensors").exists());
    for (change, says) in [
        ("--steps 1000 --validation 0 --seed 1", "field plan.seed: the settings differ (expected 0, found 1)"),
        ("--steps 1000 --validation 0 --lr 0.5", "field plan.schedule.peak: the settings differ"),
        ("--steps 1000 --validation 0 --batch 2", "field plan.batch: the settings differ (expected 1, found 2)"),
    ] {
        let output = run(&format!("{words} {change}"), folder.path());
        assert!(output.status.code() == Some(1) && text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    write_cines(&folder.path().join("cine.h5"), &ids(1..7));
    let output = run(&format!("{words} --steps 1000 --validation 0"), folder.path());
    assert!(text(&output.stderr).contains("the data differ (expected 7 records"), "{}", text(&output.stderr));
}

#[test]
fn an_absurd_learning_rate_stops_with_the_step_and_the_records() {
    let folder = data();
    let words = "amdf-sample train --stage vae --cine cine.h5 --preset tiny --threads 2 -o w.safetensors --steps 30";
    let output = run(&format!("{words} --lr 1e30 --validation 0"), folder.path());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("training, step ") && stderr.contains("record p0") && stderr.contains("lower --lr"),
        "{stderr}"
    );
    assert!(!folder.path().join("w.safetensors").exists());
}

#[test]
fn no_output_of_a_training_replaces_what_it_reads_or_another_output_or_a_foreign_file() {
    let folder = data();
    let words = "pamae-encode train ecg.h5 --preset tiny --batch 2 --steps 1 --threads 1";
    std::fs::write(folder.path().join("notes.txt"), "thesis").unwrap();
    let before = std::fs::read(folder.path().join("ecg.h5")).unwrap();
    for (more, code, says) in [
        ("-o w.s --log ecg.h5", 2, "ecg.h5 would be read and replaced"),
        ("-o ecg.h5", 2, "ecg.h5 would be read and replaced"),
        ("-o w.s --state w.s", 2, "two outputs go to w.s"),
        ("-o w.s --state -", 2, "expected the name of a file, found -"),
        ("-o w.s --log notes.txt", 1, "expected a new file, or the log of a training, found another file"),
    ] {
        let output = run(&format!("{words} {more}"), folder.path());
        assert!(output.status.code() == Some(code) && text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    assert_eq!(std::fs::read(folder.path().join("ecg.h5")).unwrap(), before);
    assert_eq!(std::fs::read(folder.path().join("notes.txt")).unwrap(), b"thesis");
    assert!(!folder.path().join("w.s").exists());
}

#[test]
fn a_validation_record_that_gives_no_finite_score_stops_the_training() {
    let folder = data();
    let mut writer = EcgWriter::begin(&folder.path().join("tall.h5"), &provenance(), 500.0, "raw", &[]).unwrap();
    for id in ids(10..20) {
        let mut ecg = ecg(&id);
        ecg.samples_mv.mapv_inplace(|v| v * 1e38);
        writer.put(&ecg).unwrap();
    }
    writer.finish().unwrap();
    let words = "pamae-encode train ecg.h5 tall.h5 --preset tiny --batch 1 --steps 1 --threads 1 --validation 0.5";
    let output = run(&format!("{words} -o w.s"), folder.path());
    let stderr = text(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("expected a finite number"), "{stderr}");
}

#[test]
fn options_of_the_flow_are_refused_for_the_vae() {
    let folder = data();
    let output = run("amdf-sample train --stage vae --cine cine.h5 -o w.s --cycle median", folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
