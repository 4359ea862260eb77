//! What ecg-prep writes besides HDF5, and what it says of quality.

use std::fs;
use std::path::Path;

use ecgflow::data::ecg::{Ecg, Verdict};
use ecgflow::io::hdf5::EcgReader;
use ecgflow::io::Source;
use ecgflow::signal::prepare::{prepare, PrepareOptions};
use ecgflow::signal::rpeak::Detector;
use serde_json::Value;

use crate::heart::{beat, Kind};
use crate::program::{example, names, on_terminal, root, run, shell, succeed, text, Python};

fn read(path: &Path) -> Vec<Ecg> {
    EcgReader::open(Source::open(path).unwrap()).unwrap().map(|e| e.unwrap()).collect()
}

/// CSV of a simulated heart with some change.
fn write_csv(path: &Path, seed: u64, change: impl Fn(usize, usize, f64) -> f64) {
    let record = beat(seed, Kind::default(), 10.0, 500.0, 0.005).recording;
    let mut table = format!("{}\n", record.leads.join(","));
    for (n, frame) in record.samples_mv.columns().into_iter().enumerate() {
        let cells: Vec<String> = frame.iter().enumerate().map(|(lead, v)| change(lead, n, *v).to_string()).collect();
        table.push_str(&format!("{}\n", cells.join(",")));
    }
    fs::write(path, table).unwrap();
}

fn as_is(_: usize, _: usize, v: f64) -> f64 {
    v
}

#[test]
fn the_reference_reader_reads_our_wfdb_to_one_step() {
    let out = tempfile::tempdir().unwrap();
    let Some(python) = Python::with(&["wfdb"], "wfdb") else { return };
    let mut records = vec![example()];
    records.extend(crate::program::shared("data/ecg/derived/muse2_16.hea"));
    records.extend(crate::program::shared("data/ecg/wfdb/s0010_re.hea"));
    for record in records {
        for preset in ["raw", "clean"] {
            let words = |to: &str| format!("ecg-prep {} --preset {preset} -o {to}", record.display());
            ["r.hea", "r.npy", "r.h5"].iter().for_each(|to| drop(succeed(&words(to), out.path())));
            let script = root().join("tests/wfdb_files.py").display().to_string();
            let output = python.run(&[script.as_str(), "r", "r.npy"], out.path());
            let said: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
            let furthest = said["furthest"].as_f64().unwrap();
            println!("result wfdb round trip {preset} {}: furthest {furthest:.6} mV, step 0.001 mV", record.display());
            assert!(furthest <= 0.000_501, "{furthest}");
            assert_eq!((said["fs"].as_f64(), said["length"].as_u64()), (Some(500.0), Some(5000)));
            assert_eq!(said["names"][3], "aVR");
            assert_eq!(said["units"][0], "mV");
            assert_eq!(said["shape"], serde_json::json!([1, 12, 5000]));
            let ecg = &read(&out.path().join("r.h5"))[0];
            let beats: Vec<i64> = said["beats"].as_array().unwrap().iter().map(|b| b.as_i64().unwrap()).collect();
            assert_eq!(beats, ecg.r_peak.iter().map(|r| i64::from(*r)).collect::<Vec<_>>());
            assert_eq!(said["symbols"], serde_json::json!(["N"]));
            assert!(said["comments"].to_string().contains("preset"), "{said}");
        }
    }
}

#[test]
fn folders_of_wfdb_and_csv_are_read_again() {
    let out = tempfile::tempdir().unwrap();
    for (k, name) in ["a.csv", "b.csv", "c.csv"].iter().enumerate() {
        write_csv(&out.path().join(name), k as u64, as_is);
    }
    succeed("ecg-prep a.csv b.csv c.csv -o direct.h5", out.path());
    for (format, ending) in [("wfdb", "hea"), ("csv", "csv")] {
        succeed(&format!("ecg-prep a.csv b.csv c.csv -o {format} --format {format}"), out.path());
        let back =
            format!("ecg-prep {format}/a.{ending} {format}/b.{ending} {format}/c.{ending} --preset raw -o back.h5");
        succeed(&back, out.path());
        let (direct, back) = (read(&out.path().join("direct.h5")), read(&out.path().join("back.h5")));
        assert_eq!(back.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        for (a, b) in direct.iter().zip(&back) {
            let furthest = (&a.samples_mv - &b.samples_mv).mapv(f32::abs).into_iter().fold(0.0, f32::max);
            assert!(furthest <= 0.000_51, "{format}: {furthest}");
        }
    }
    assert!(names(&out.path().join("wfdb")).contains(&"b.qrs".to_owned()));
    let output = run("ecg-prep a.csv b.csv --keep-going -o one.hea", out.path());
    assert_eq!(output.status.code(), Some(2)); // the command line is wrong, so no record is to blame
    assert!(text(&output.stderr).contains("one record a file") && text(&output.stderr).contains("--format wfdb"));
    assert!(!out.path().join("one.hea").exists() && !out.path().join("one.dat").exists());
    assert_eq!(run("ecg-prep a.csv --format wfdb", out.path()).status.code(), Some(2));
    let piped = succeed("ecg-prep a.csv --format csv", out.path());
    assert!(text(&piped).lines().any(|l| l == "time,I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6"));
}

#[test]
fn every_preset_and_steps_by_hand_are_written_with_their_steps() {
    let out = tempfile::tempdir().unwrap();
    let example = example();
    for (options, rate, samples, step) in [
        ("--preset zscore", 500.0, 5000, "z-score of each lead"),
        ("--preset cardionets", 250.0, 2500, "band-pass 0.67 to 40 Hz, Butterworth order 5"),
        ("--preset mmcl", 500.0, 5000, "asymmetric-least-squares baseline, lambda 1e7, p 0.3, 5 iterations"),
        ("--steps highpass:0.67,lowpass:40,notch:50", 500.0, 5000, "notch 50 Hz, quality 30"),
        ("--steps resample:100,lowpass:30", 100.0, 1000, "resample to 100 Hz"),
    ] {
        succeed(&format!("ecg-prep {} {options} -o e.h5", example.display()), out.path());
        let file = hdf5::File::open(out.path().join("e.h5")).unwrap();
        let fs: f64 = file.attr("fs").unwrap().read_scalar().unwrap();
        assert_eq!((fs, file.dataset("ecg").unwrap().shape()), (rate, vec![1, 12, samples]), "{options}");
        let peaks: Vec<i32> = file.dataset("r_peak").unwrap().read_raw().unwrap();
        assert_eq!(peaks.iter().filter(|peak| **peak >= 0).count(), 13, "{options}");
        if options.starts_with("--preset") {
            let output = run("ecg-prep e.h5 -o again.h5", out.path());
            assert_eq!(output.status.code(), Some(1), "{options}");
            assert!(text(&output.stderr).contains("expected mV, found sd"), "{options}: {}", text(&output.stderr));
        }
        let said = text(&succeed("ecgflow inspect e.h5", out.path()));
        assert!(said.contains(step), "{options}: {said}");
    }
    for (words, says) in [
        ("--steps blur:3", "expected resample, highpass"),
        ("--steps lowpass:300", "corners between 0 and 250 Hz"),
        ("--steps lowpass:40 --preset raw", "cannot be used with"),
        ("--steps lowpass:40 --mains 50", "cannot be used with"),
        ("--preset mmcl --mains 50", "filters nothing"),
    ] {
        let output = run(&format!("ecg-prep {} {words} -o no.h5", example.display()), out.path());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {said}");
        assert!(said.contains(says), "{words}: {said}");
    }
}

#[test]
fn quality_is_reported_checked_and_dropped() {
    let out = tempfile::tempdir().unwrap();
    write_csv(&out.path().join("good.csv"), 1, as_is);
    write_csv(&out.path().join("flat.csv"), 2, |lead, _, v| if lead == 8 { 0.0 } else { v });
    write_csv(&out.path().join("hum.csv"), 3, |lead, n, v| {
        let share = [1.0, 0.6, -0.4, -0.8, 0.7, 0.1, 1.0, 0.9, 1.1, 0.8, 1.0, 0.7][lead];
        v + 0.1 * share * (std::f64::consts::TAU * 50.0 * n as f64 / 500.0).sin()
    });
    fs::write(out.path().join("broken.csv"), "I,II\n1,x\n").unwrap();
    let all = "good.csv flat.csv hum.csv broken.csv";
    let checked = run(&format!("ecg-prep {all} --check --report check.csv"), out.path());
    let said = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("good: good (") && said.contains("flat: bad (") && said.contains("hum: usable ("), "{said}");
    assert!(said.contains("  flat-lead: V3 does not move\n    -> an electrode was off"), "{said}");
    assert!(
        said.contains("broken.csv: bad\n  unreadable: ") && said.contains("4 records: 1 good, 1 usable, 2 bad"),
        "{said}"
    );
    assert_eq!(names(out.path()), ["broken.csv", "check.csv", "flat.csv", "good.csv", "hum.csv"]);
    succeed("ecg-prep good.csv hum.csv --check", out.path());
    let words = format!("ecg-prep {all} --keep-going --min-quality usable --rejects r.csv --report q.csv -o e.h5");
    succeed(&words, out.path());
    let kept = read(&out.path().join("e.h5"));
    let verdicts: Vec<(&str, Verdict)> = kept.iter().map(|e| (e.id.as_str(), e.quality.verdict)).collect();
    assert_eq!(verdicts, [("good", Verdict::Good), ("hum", Verdict::Usable)]);
    assert!(kept[1].quality.reasons[0].starts_with("mains: "), "{:?}", kept[1].quality.reasons);
    succeed(&words.replace("usable", "good").replace("e.h5", "g.h5").replace("r.csv", "g.csv"), out.path());
    assert_eq!(read(&out.path().join("g.h5")).iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["good"]);
    let rejects = fs::read_to_string(out.path().join("g.csv")).unwrap();
    assert!(rejects.contains("hum,hum.csv,quality,mains: "), "{rejects}");
    let rejects = fs::read_to_string(out.path().join("r.csv")).unwrap();
    assert!(
        rejects.lines().count() == 3 && rejects.contains("flat,flat.csv,quality,flat-lead: V3 does not move"),
        "{rejects}"
    );
    let report = fs::read_to_string(out.path().join("q.csv")).unwrap();
    let rows: Vec<&str> = report.lines().collect();
    assert!(rows[0].starts_with("id,file,verdict,codes,reasons,heart_rate_per_min,r_peaks,"), "{report}");
    assert!(
        rows.len() == 5 && rows[2].starts_with("flat,flat.csv,bad,flat-lead,") && rows[4].contains(",bad,unreadable,")
    );
}

#[test]
fn the_window_the_rule_of_peaks_and_the_leads_are_those_that_were_asked_for() {
    let out = tempfile::tempdir().unwrap();
    let long = beat(7, Kind { tall_t: true, ..Kind::default() }, 20.0, 500.0, 0.005).recording;
    let whole: Vec<f64> = long.samples_mv.iter().copied().collect();
    let file = hdf5::File::create(out.path().join("long.h5")).unwrap();
    file.new_dataset::<f64>().shape((1, 12, 10_000)).create("x").unwrap().write_raw(&whole).unwrap();
    file.close().unwrap();
    let names: Vec<&str> = long.leads.iter().map(String::as_str).collect();
    let mut turned = names.clone();
    turned.reverse(); // the file then says of its first row that it is V6
    let words = |leads: &[&str], more: &str| {
        format!("ecg-prep long.h5 --dataset x --rate 500 --units mV --leads {} {more} -o e.h5", leads.join(","))
    };
    let prepared = |leads: &[&str], more: &str| {
        succeed(&words(leads, more), out.path());
        read(&out.path().join("e.h5")).remove(0)
    };
    let cut =
        |row: usize, start: usize| long.samples_mv.slice(ndarray::s![row, start..start + 5000]).mapv(|v| v as f32);
    for (more, start) in [("", 2500), ("--window 2.5", 1250), ("--window 0", 0), ("--window 10", 5000)] {
        let ecg = prepared(&names, &format!("{more} --preset raw"));
        (0..12).for_each(|row| assert_eq!(ecg.samples_mv.row(row), cut(row, start), "{more}, row {row}"));
    }
    let ecg = prepared(&turned, "--preset raw");
    (0..12).for_each(|row| assert_eq!(ecg.samples_mv.row(row), cut(11 - row, 2500), "row {row}"));
    let output = run(&words(&names, "--window 10.5"), out.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("expected at least 10 s, found 9.5 s after second 10.5"),
        "{}",
        text(&output.stderr)
    );

    let counted = |rule: &str| prepared(&names, rule).r_peak;
    let published = counted("--rpeaks published");
    let options = PrepareOptions { detector: Detector::Published, ..PrepareOptions::default() };
    assert_eq!(published, prepare(long.clone(), &options).unwrap().r_peak);
    assert_ne!(published, counted(""), "the published rule takes tall T waves for beats");
    assert!(text(&succeed("ecgflow inspect e.h5", out.path())).contains("R peaks: lead II, qrs"));
}

#[test]
fn pictures_are_drawn_one_or_a_folder_of_them() {
    let out = tempfile::tempdir().unwrap();
    write_csv(&out.path().join("a.csv"), 1, as_is);
    write_csv(&out.path().join("b.csv"), 2, as_is);
    succeed("ecg-prep a.csv b.csv --plot pictures -o e.h5", out.path());
    assert_eq!(names(&out.path().join("pictures")), ["a.png", "b.png"]);
    succeed("ecg-prep a.csv --plot a.svg -o e.h5", out.path());
    let svg = fs::read_to_string(out.path().join("a.svg")).unwrap();
    assert!(svg.starts_with("<?xml") && svg.contains("<title>a</title>") && svg.contains("10 mm/mV"));
    let output = run("ecg-prep a.csv b.csv --plot one.png -o f.h5", out.path());
    assert_eq!(output.status.code(), Some(2)); // one picture cannot hold two records: the command line is wrong
    assert!(!out.path().join("f.h5").exists() && !out.path().join("one.png").exists());
}

#[test]
fn a_terminal_shows_the_records_a_second_and_a_pipe_does_not() {
    let out = tempfile::tempdir().unwrap();
    write_csv(&out.path().join("a.csv"), 1, as_is);
    let Some(shown) = on_terminal("ecg-prep a.csv -o e.h5", out.path()) else { return };
    let shown = text(&shown.stdout);
    let (count, rate) = shown.split_once(" records, ").unwrap_or_else(|| panic!("{shown:?}"));
    assert!(
        count.ends_with(['0', '1']) && rate.split_once("/s").is_some_and(|(r, _)| r.parse::<f64>().is_ok()),
        "{shown:?}"
    );
    let hidden = shell("ecg-prep a.csv -o e.h5 2>&1", out.path());
    assert!(hidden.stdout.is_empty(), "{}", text(&hidden.stdout));
}

#[test]
fn many_threads_keep_the_order_and_the_numbers() {
    let out = tempfile::tempdir().unwrap();
    for k in 0..9 {
        write_csv(&out.path().join(format!("p{k}.csv")), k, as_is);
    }
    for threads in [1, 4] {
        let output = shell(&format!("ecg-prep p*.csv --threads {threads} -o t{threads}.h5"), out.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let (one, four) = (read(&out.path().join("t1.h5")), read(&out.path().join("t4.h5")));
    assert_eq!(
        one.iter().map(|e| e.id.clone()).collect::<Vec<_>>(),
        (0..9).map(|k| format!("p{k}")).collect::<Vec<_>>()
    );
    assert!(one == four);
}
