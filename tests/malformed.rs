//! Malformed ECG files and command lines: each gives one clear error and its exit code, and leaves no file.

use std::fs;
use std::path::Path;

use crate::malformed_hdf5::features_file;
use crate::program::{example, feed, refuses, succeed, text, tiny_weights};

// ---- ECG files --------------------------------------------------------------------------------------------

fn copy_example(folder: &Path) {
    for end in ["hea", "dat"] {
        fs::copy(example().with_extension(end), folder.join("example").with_extension(end)).unwrap();
    }
}

fn change(path: &Path, from: &str, to: &str) {
    let before = fs::read_to_string(path).unwrap();
    assert!(before.contains(from), "{before}");
    fs::write(path, before.replace(from, to)).unwrap();
}

#[test]
fn a_truncated_signal_file_is_refused() {
    let says = ["ecg-prep: error:", "example.dat", "expected 120000 bytes", "found 60000"];
    refuses("ecg-prep example.hea -o out.h5", 1, &says, |f| {
        copy_example(f);
        let dat = fs::read(f.join("example.dat")).unwrap();
        fs::write(f.join("example.dat"), &dat[..60000]).unwrap();
    });
}

#[test]
fn a_header_that_claims_a_trillion_samples_is_refused() {
    let says = ["example.dat", "expected 24000000000000 bytes", "found 120000"];
    refuses("ecg-prep example.hea -o out.h5", 1, &says, |f| {
        copy_example(f);
        change(&f.join("example.hea"), "500 5000", "500 1000000000000");
    });
}

#[test]
fn a_changed_sample_breaks_the_checksum() {
    refuses("ecg-prep example.hea -o out.h5", 1, &["checksum", "expected", "found", "field I"], |f| {
        copy_example(f);
        let mut dat = fs::read(f.join("example.dat")).unwrap();
        dat[0] ^= 1;
        fs::write(f.join("example.dat"), dat).unwrap();
    });
}

#[test]
fn a_segment_that_is_not_there_is_named() {
    refuses("ecg-prep a.hea -o out.h5", 1, &["a1.hea"], |f| {
        fs::write(f.join("a.hea"), "a/2 12 500 5000\na1 2500\na2 2500\n").unwrap();
    });
}

#[test]
fn a_signal_format_that_is_none_is_named() {
    refuses("ecg-prep example.hea -o out.h5", 1, &["99", "expected 0, 8, 16"], |f| {
        copy_example(f);
        change(&f.join("example.hea"), "example.dat 16 ", "example.dat 99 ");
    });
}

#[test]
fn an_empty_file_is_refused() {
    refuses("ecg-prep a.csv -o out.h5", 1, &["a.csv", "empty"], |f| fs::write(f.join("a.csv"), "").unwrap());
}

#[test]
fn a_missing_file_is_refused() {
    refuses("ecg-prep nothing.hea -o out.h5", 1, &["nothing.hea"], |_| ());
}

#[test]
fn bytes_of_no_known_format_are_refused() {
    let says = ["a.bin", "unknown format", "expected HDF5"];
    refuses("ecg-prep a.bin -o out.h5", 1, &says, |f| fs::write(f.join("a.bin"), [7u8, 0, 255, 3].repeat(99)).unwrap());
}

/// A wide CSV of `rows` samples; `cell` may change one.
fn table(header: &str, rows: usize, cell: impl Fn(usize, usize) -> Option<String>) -> String {
    let mut out = format!("{header}\n");
    for row in 0..rows {
        let value = |c: usize| cell(row, c).unwrap_or_else(|| format!("{:.3}", ((row + c) % 100) as f64 / 100.0));
        out.push_str(&(0..header.split(',').count()).map(value).collect::<Vec<_>>().join(","));
        out.push('\n');
    }
    out
}

const LEADS: &str = "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6";

fn csv(folder: &Path, content: String) {
    fs::write(folder.join("a.csv"), content).unwrap();
}

#[test]
fn text_where_a_number_belongs_is_refused() {
    let says = ["a.csv", "line 12", "V1", "expected a finite number", "\"high\""];
    let cell = |r, c| (r == 10 && c == 6).then(|| "high".to_owned());
    refuses("ecg-prep a.csv -o out.h5", 1, &says, |f| csv(f, table(LEADS, 5000, cell)));
}

#[test]
fn a_missing_sample_is_refused() {
    let says = ["a.csv", "record a", "lead V3, sample 40", "finite"];
    let cell = |r, c| (r == 40 && c == 8).then(|| "NaN".to_owned());
    refuses("ecg-prep a.csv -o out.h5", 1, &says, |f| csv(f, table(LEADS, 5000, cell)));
}

#[test]
fn an_unknown_lead_is_named() {
    let says = ["a.csv", "V6", "W6"];
    refuses("ecg-prep a.csv -o out.h5", 1, &says, |f| csv(f, table(&LEADS.replace("V6", "W6"), 5000, |_, _| None)));
}

#[test]
fn a_rate_that_nobody_states_is_asked_for() {
    let says = ["a.csv", "--rate", "2500 samples", "hint:"];
    refuses("ecg-prep a.csv -o out.h5", 1, &says, |f| csv(f, table(LEADS, 2500, |_, _| None)));
}

#[test]
fn a_short_recording_is_refused_without_pad() {
    let says = ["record a", "expected", "10 s", "--pad"];
    refuses("ecg-prep a.csv --rate 500 -o out.h5", 1, &says, |f| csv(f, table(LEADS, 2500, |_, _| None)));
}

#[test]
fn microvolts_taken_for_millivolts_are_refused() {
    let cell = |r: usize, c: usize| Some(format!("{}", (r + c) % 100 * 30));
    refuses("ecg-prep a.csv -o out.h5", 1, &["--units uV"], |f| csv(f, table(LEADS, 5000, cell)));
}

/// An NPY header of little-endian f32 that claims `shape`, with `bytes` bytes of data behind it.
fn npy(folder: &Path, shape: &str, bytes: usize) {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    header.push_str(&" ".repeat(63 - (header.len() + 10) % 64));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(vec![0; bytes]);
    fs::write(folder.join("a.npy"), file).unwrap();
}

#[test]
fn an_array_of_another_shape_is_refused() {
    refuses("ecg-prep a.npy -o out.h5", 1, &["a.npy", "expected", "3"], |f| npy(f, "3, 5000", 60000));
}

#[test]
fn an_array_that_claims_more_than_the_file_holds_is_refused() {
    let says = ["a.npy", "expected", "found"];
    refuses("ecg-prep a.npy -o out.h5", 1, &says, |f| npy(f, "1000000000, 12, 5000", 240000));
}

#[test]
fn two_records_of_one_name_are_refused() {
    let says = ["record example", "unique", "hint:"];
    refuses("ecg-prep example.hea example.hea -o out.h5", 1, &says, copy_example);
}

// ---- command lines ----------------------------------------------------------------------------------------

#[test]
fn a_stack_trace_is_never_part_of_an_error() {
    let folder = tempfile::tempdir().unwrap();
    features_file(folder.path(), 8, 48, 0.0);
    let mut command = crate::program::program("amdf-sample", folder.path());
    command.args(["f.h5", "-o", "out.h5", "-q", "--steps", "1", "--guidance", "1e308", "--weights"]);
    let output = command.arg(tiny_weights()).env("RUST_BACKTRACE", "1").output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
}

#[test]
fn outputs_that_would_overwrite_each_other_are_refused() {
    let says = ["ecg-prep: error: two outputs go to ./x.h5"];
    refuses("ecg-prep example.hea -o x.h5 --keep-going --rejects ./x.h5", 2, &says, copy_example);
    refuses("ecg-prep example.hea --keep-going --rejects -", 2, &["two outputs go to -"], copy_example);
}

#[test]
fn pictures_that_were_not_finished_leave_no_folder() {
    let words = "amdf-sample f.h5 -o out.h5 --gif clips --steps 1 --guidance 1e308 --weights WEIGHTS";
    refuses(words, 1, &["not finite"], |f| features_file(f, 8, 48, 0.0));
}

#[test]
fn command_lines_that_cannot_be_obeyed_end_with_two() {
    refuses(
        "ecg-prep --preset lovely x.hea",
        2,
        &["ecg-prep: error:", "lovely", "raw, clean, zscore, cardionets or mmcl"],
        |_| (),
    );
    refuses("ecg-prep --mains 0 x.hea", 2, &["--mains", "above zero"], |_| ());
    refuses("ecg-prep --mains 250 x.hea", 2, &["mains frequency: expected above 0 and below 250 Hz"], |_| ());
    refuses("ecg-prep --rate 0 x.hea", 2, &["--rate", "above zero"], |_| ());
    refuses("ecg-prep --no-such-option", 2, &["--no-such-option"], |_| ());
    refuses("amdf-sample f.h5 --steps 0 --weights WEIGHTS", 2, &["--steps"], |_| ());
    refuses("amdf-sample f.h5 --alpha -1 --weights WEIGHTS", 2, &["--alpha"], |_| ());
    refuses("amdf-sample f.h5 -o x.h5 --latent x.h5 --weights WEIGHTS", 2, &["x.h5"], |f| features_file(f, 8, 48, 0.0));
    for option in ["--latent-only", "--samples 2", "--steps 3", "--guidance 1", "--alpha 1", "--grid start"] {
        let words = format!("amdf-sample l.h5 -o x.h5 {option} --weights WEIGHTS");
        refuses(&words, 2, &["latents already"], |f| {
            features_file(f, 8, 48, 0.0);
            succeed(&format!("amdf-sample f.h5 -o l.h5 --latent-only --weights {}", tiny_weights().display()), f);
        });
    }
    refuses("ecgflow init huge -o w", 2, &["huge", "published, paper, compact or tiny"], |_| ());
    refuses("ecgflow", 2, &["Usage"], |_| ());
}

#[cfg(not(feature = "cuda"))]
#[test]
fn asking_for_a_gpu_that_this_build_cannot_use_is_an_error() {
    let says = ["cuda", "hint:"];
    refuses("pamae-encode ecg.h5 -o out.h5 --device cuda --weights WEIGHTS", 2, &says, |_| ());
}

#[test]
fn an_empty_pipe_points_at_the_stage_before() {
    let folder = tempfile::tempdir().unwrap();
    let words = format!("amdf-sample --weights {}", tiny_weights().display());
    let output = feed(&words, folder.path(), b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let stderr = text(&output.stderr);
    assert!(stderr.contains("<stdin>: the input is empty") && stderr.contains("hint: in a pipe"), "{stderr}");
}
