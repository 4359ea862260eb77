//! `ecgflow simulate`: what the folder holds, that it depends on seed and index alone, that others can read it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ecgflow::data::cine::Cine;
use ecgflow::io::hdf5::{CineReader, CineWriter, EcgReader};
use ecgflow::io::{Sink, Source};

use crate::dicom_cine::pydicom;
use crate::program::{names, program, refuses, root, succeed, text, tiny_weights};

/// A table: its rows by id, each cell by column.
fn table(path: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let row = |row: csv::StringRecord| {
        let cells = header.iter().zip(row.iter()).map(|(name, cell)| (name.to_owned(), cell.to_owned()));
        (row[0].to_owned(), cells.collect())
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

fn ecgs(path: &Path) -> Vec<ecgflow::Ecg> {
    EcgReader::open(Source::open(path).unwrap()).unwrap().map(|ecg| ecg.unwrap()).collect()
}

/// Every file below a folder, with its bytes; the `#` lines of tables and headers, which hold the command, left out.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            found.extend(contents(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        if name.ends_with(".csv") || name.ends_with(".hea") {
            let lines = text(&bytes);
            bytes = lines.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n").into_bytes();
        }
        found.insert(name, bytes);
    }
    found
}

#[test]
fn a_cohort_holds_ecg_cine_and_truth_of_every_participant() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 3 --seed 5 -o hearts", out.path());
    let hearts = out.path().join("hearts");
    assert_eq!(names(out.path()), ["hearts"]);
    assert_eq!(names(&hearts), ["cine", "diagnoses.csv", "ecg", "phenotypes.csv", "truth.csv"]);
    let ids = ["H5-000000", "H5-000001", "H5-000002"];
    assert_eq!(names(&hearts.join("cine")), ids);
    assert_eq!(names(&hearts.join("ecg")).len(), 9);
    let truth = table(&hearts.join("truth.csv"));
    assert_eq!(truth.keys().collect::<Vec<_>>(), ids);
    assert_eq!(table(&hearts.join("phenotypes.csv"))["H5-000001"].len(), 83);
    for id in ids {
        let frames = names(&hearts.join("cine").join(id));
        assert!((25..=50).contains(&frames.len()) && frames[0] == "IM0001.dcm", "{frames:?}");
        let header = std::fs::read_to_string(hearts.join(format!("ecg/{id}.hea"))).unwrap();
        assert!(header.starts_with(&format!("{id} 12 500 5000\n")), "{header}");
        assert!(header.contains("# synthetic: yes\n") && header.contains("# seed: 5\n"), "{header}");
        let peaks = truth[id]["r_peak_samples"].split(' ').count() as f64;
        let rate = truth[id]["heart_rate_per_min"].parse::<f64>().unwrap();
        assert!((peaks - rate / 6.0).abs() < 3.0, "{id}: {peaks} R peaks at {rate} a minute");
    }
}

#[test]
fn hdf5_holds_the_same_hearts_as_the_files() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 2 --seed 5 -o files", out.path());
    succeed("ecgflow simulate -n 2 --seed 5 --hdf5 -o hdf5", out.path());
    succeed("ecg-prep files/ecg -o ecg.h5", out.path());
    assert_eq!(names(&out.path().join("hdf5")), ["cine.h5", "diagnoses.csv", "ecg.h5", "phenotypes.csv", "truth.csv"]);
    let (ours, theirs) = (ecgs(&out.path().join("hdf5/ecg.h5")), ecgs(&out.path().join("ecg.h5")));
    assert_eq!((ours.len(), theirs.len()), (2, 2));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!((&ours.id, &ours.r_peak), (&theirs.id, &theirs.r_peak));
        // WFDB counts in steps of 1 uV; a thousandth of one is the rounding of 0.001 mV in binary.
        let furthest = (&ours.samples_mv - &theirs.samples_mv).iter().fold(0f32, |most, d| most.max(d.abs()));
        assert!(furthest < 1e-6, "{}: {furthest} mV", ours.id);
    }
    let (files, hdf5) = (contents(&out.path().join("files")), contents(&out.path().join("hdf5")));
    for name in ["phenotypes.csv", "diagnoses.csv", "truth.csv"] {
        assert_eq!(files[name], hdf5[name], "{name}");
    }
    let reader = CineReader::open(Source::open(&out.path().join("hdf5/cine.h5")).unwrap()).unwrap();
    assert!(reader.provenance().synthetic);
    assert_eq!(reader.provenance().seed, Some(5));
    let clips: Vec<_> = reader.map(|clip| clip.unwrap()).collect();
    assert_eq!(clips.iter().map(|clip| clip.id.as_str()).collect::<Vec<_>>(), ["H5-000000", "H5-000001"]);
    assert!(clips.iter().all(|clip| clip.clip.dim() == (50, 96, 96)));
}

#[test]
fn parts_and_threads_change_no_byte() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 3 --seed 9 --threads 2 -o whole", out.path());
    succeed("ecgflow simulate -n 1 --seed 9 --start 2 --threads 1 -o part", out.path());
    let (whole, part) = (contents(&out.path().join("whole")), contents(&out.path().join("part")));
    let files: Vec<&String> = part.keys().filter(|name| name.contains('/')).collect();
    assert!(files.len() > 25 && files.iter().all(|name| name.contains("H9-000002")));
    assert!(files.iter().all(|name| part[*name] == whole[*name]));
    for name in ["phenotypes.csv", "diagnoses.csv", "truth.csv"] {
        let last = |bytes: &[u8]| text(bytes).lines().last().unwrap().to_owned();
        assert_eq!(last(&part[name]), last(&whole[name]));
        assert_eq!((text(&whole[name]).lines().count(), text(&part[name]).lines().count()), (4, 2));
    }
    succeed("ecgflow simulate -n 1 --seed 10 --start 2 -o other", out.path());
    let other = contents(&out.path().join("other"));
    assert_ne!(text(&other["phenotypes.csv"]).lines().last(), text(&part["phenotypes.csv"]).lines().last());
}

#[test]
fn a_cohort_of_one_group_holds_that_group() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 3 --group hcm --hdf5 -o hearts", out.path());
    let hearts = out.path().join("hearts");
    assert!(table(&hearts.join("truth.csv")).values().all(|row| row["group"] == "hcm"));
    assert!(table(&hearts.join("diagnoses.csv")).values().all(|row| row["hcm"] == "1" && row["dcm"] == "0"));
}

#[test]
fn what_is_made_of_simulated_ecgs_is_marked_synthetic() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 1 -o hearts", out.path());
    let w = tiny_weights().display();
    succeed("ecg-prep hearts/ecg/H0-000000.hea -o ecg.h5", out.path());
    succeed(&format!("pamae-encode ecg.h5 -o features.h5 --weights {w}"), out.path());
    for file in ["ecg.h5", "features.h5"] {
        let said = text(&succeed(&format!("ecgflow inspect {file}"), out.path()));
        assert!(said.contains("synthetic: true"), "{file}: {said}");
        assert!(said.contains("ecgflow simulate -n 1"), "{file}: {said}");
    }
}

#[test]
fn the_reference_reader_finds_the_true_r_peaks_of_a_simulated_ecg() {
    let out = tempfile::tempdir().unwrap();
    let Some(python) = crate::program::Python::with(&["wfdb"], "wfdb") else { return };
    succeed("ecgflow simulate -n 1 --seed 5 -o hearts", out.path());
    let code = "import wfdb
name = 'hearts/ecg/H5-000000'
record, beats = wfdb.rdrecord(name), wfdb.rdann(name, 'qrs')
print(record.fs, record.p_signal.shape, *record.sig_name)
print(*beats.sample)
print(*record.comments, sep='|')";
    let output = python.run(&["-c", code], out.path());
    let lines = text(&output.stdout);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[0], "500 (5000, 12) I II III aVR aVL aVF V1 V2 V3 V4 V5 V6");
    assert_eq!(lines[1], table(&out.path().join("hearts/truth.csv"))["H5-000000"]["r_peak_samples"]);
    assert!(lines[2].contains("|synthetic: yes|"), "{}", lines[2]);
}

#[test]
fn pydicom_opens_a_simulated_series() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 1 --seed 5 -o hearts", out.path());
    let folder = out.path().join("hearts/cine/H5-000000");
    let files: Vec<_> = names(&folder).into_iter().map(|name| folder.join(name)).collect();
    let Some(found) = pydicom(&files) else { return };
    assert_eq!(found.len(), files.len());
    let rate: f64 = table(&out.path().join("hearts/truth.csv"))["H5-000000"]["heart_rate_per_min"].parse().unwrap();
    for found in &found {
        let elements = &found["elements"];
        assert_eq!(elements["PatientID"], "H5-000000");
        assert_eq!(elements["SyntheticData"], "YES");
        assert_eq!(elements["CardiacNumberOfImages"], files.len() as f64);
        assert!((elements["NominalInterval"].as_f64().unwrap() - 60_000.0 / rate).abs() < 1.0);
        assert!(found["shape"][0].as_u64().unwrap() > 96);
    }
}

#[test]
fn a_run_that_is_stopped_leaves_nothing() {
    let out = tempfile::tempdir().unwrap();
    let mut command = program("ecgflow", out.path());
    let words = ["simulate", "-n", "100000", "--threads", "2", "-o", "hearts"];
    let mut child = command.args(words).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(!names(out.path()).is_empty(), "it is under way");
    let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success() && !child.wait().unwrap().success());
    assert!(names(out.path()).is_empty(), "{:?}", names(out.path()));
}

#[test]
fn impossible_cohorts_are_refused() {
    refuses("ecgflow simulate -n 1 -o old", 2, &["old is a folder that is not empty"], |folder| {
        std::fs::create_dir(folder.join("old")).unwrap();
        std::fs::write(folder.join("old/mine.txt"), "x").unwrap();
    });
    refuses("ecgflow simulate -n 1 -o file", 2, &["is a file, expected a folder"], |folder| {
        std::fs::write(folder.join("file"), "x").unwrap();
    });
    refuses("ecgflow simulate -n 0 -o x", 2, &["expected a whole number from 1"], |_| {});
    refuses("ecgflow simulate -n 1 --group athlete -o x", 2, &["expected one of healthy, hcm, dcm"], |_| {});
    refuses("ecgflow simulate -n 2 --start 18446744073709551615 -o x", 2, &["--start"], |_| {});
}

/// The record that the README's pipeline begins with. Mathematics of another system may round one step of 1 uV otherwise.
#[test]
fn the_heart_of_testdata_is_that_of_the_cohort() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 1 --seed 1 --start 4 -o hearts", out.path());
    let samples = |path: &Path| -> Vec<i16> {
        let bytes = std::fs::read(path).unwrap();
        bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
    };
    let made = samples(&out.path().join("hearts/ecg/H1-000004.dat"));
    let kept = samples(&root().join("testdata/ecg/H1-000004.dat"));
    assert!(made.len() == 60_000 && made.len() == kept.len());
    let apart = made.iter().zip(&kept).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(apart <= Some(1), "{apart:?} uV: make testdata/ecg afresh (testdata/README.md)");
}

#[test]
fn clips_are_drawn_beside_each_other_by_the_record_they_come_from() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 2 --seed 5 --hdf5 -o hearts", out.path());
    succeed("ecgflow render hearts/cine.h5 hearts/cine.h5 --record H5-000001 -o two.gif", out.path());
    succeed("ecgflow render hearts/cine.h5 -o sheet.png --frames 3", out.path());
    let gif = std::fs::read(out.path().join("two.gif")).unwrap();
    assert_eq!(u16::from_le_bytes([gif[6], gif[7]]), 3 * (96 + 2 + 96)); // two clips, a gap of two, enlarged by three
    let png = std::fs::read(out.path().join("sheet.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.windows(9).any(|w| w == b"synthetic"));
    for (words, code, says) in [
        ("ecgflow render hearts/cine.h5 -o a.jpg", 2, ".gif or .png"),
        ("ecgflow render hearts/cine.h5 -o a.gif --frames 3", 2, "a GIF shows every frame"),
        ("ecgflow render hearts/cine.h5 -o a.gif --record nobody", 1, "no such record"),
    ] {
        refuses(words, code, &[says], |folder| {
            std::os::unix::fs::symlink(out.path().join("hearts"), folder.join("hearts")).unwrap();
        });
    }
}

#[test]
fn every_draw_of_a_record_is_drawn_with_the_truth_of_that_record() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 2 --seed 5 --hdf5 -o hearts", out.path());
    let hearts = CineReader::open(Source::open(&out.path().join("hearts/cine.h5")).unwrap()).unwrap();
    let mut writer = CineWriter::begin(&out.path().join("draws.h5"), &hearts.provenance()).unwrap();
    for cine in hearts {
        let cine = cine.unwrap();
        for draw in 0..2 {
            writer.put(&Cine { id: format!("{}.draw{draw}", cine.id), sample: draw, ..cine.clone() }).unwrap();
        }
    }
    writer.finish().unwrap();
    let height = |files: &str, more: &str| {
        succeed(&format!("ecgflow render {files} -o sheet.png --frames 2 {more}"), out.path());
        let png = std::fs::read(out.path().join("sheet.png")).unwrap();
        u32::from_be_bytes(png[20..24].try_into().unwrap())
    };
    let rows = |n: u32| n * (96 * 2 + 2) + 11; // the strip that says SYNTHETIC
    assert_eq!(height("draws.h5 hearts/cine.h5", ""), rows(4 * 2));
    assert_eq!(height("draws.h5 hearts/cine.h5", "--record H5-000001,H5-000000"), rows(4 * 2));
    assert_eq!(height("draws.h5 hearts/cine.h5", "--record H5-000001.draw1"), rows(2));
    assert_eq!(height("hearts/cine.h5 draws.h5", ""), rows(2 * 2));
}
