//! Where the outputs of ecg-prep may go, and what is left behind when it is ended.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::ecg_inputs::{csv, npy, write_zip};
use crate::program::{example, names, program, refuses, run, shell, succeed, text};

/// Runs `ecg-prep words` beside `z.zip` with `input` on an open standard input and a TMPDIR of its own; ends it by `signal`
/// once `begun(TMPDIR)`. What is left in TMPDIR and in the folder.
#[cfg(unix)]
fn ended(
    words: &[&str],
    (signal, number): (&str, i32),
    zip: &Path,
    input: &[u8],
    begun: impl Fn(&Path) -> bool,
) -> [Vec<String>; 2] {
    let (out, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::copy(zip, out.path().join("z.zip")).unwrap();
    let mut command = program("ecg-prep", out.path());
    let mut child = command.args(words).env("TMPDIR", temporary.path()).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    while !begun(temporary.path()) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    let kill = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number));
    [names(temporary.path()), names(out.path())]
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_no_spool_and_no_unpacked_record() {
    let (folder, record) = (tempfile::tempdir().unwrap(), csv().into_bytes());
    let zip = folder.path().join("z.zip");
    let entries: Vec<String> = (0..400).map(|k| format!("{k}.csv")).collect(); // more than are read before the signal
    write_zip(&zip, &entries.iter().map(|name| (name.as_str(), record.clone())).collect::<Vec<_>>());
    let holds = |folder: &Path| !names(folder).is_empty();
    let holds_folder = |folder: &Path| fs::read_dir(folder).unwrap().any(|e| e.unwrap().path().is_dir());
    for signal in [("-TERM", 15), ("-INT", 2), ("-HUP", 1)] {
        let spooled = ended(&["-", "-o", "out.h5"], signal, &zip, b"I,II\n0,1\n", holds);
        assert_eq!(spooled, [vec![], vec!["z.zip".to_owned()]], "{signal:?}");
        let unpacked = ended(&["z.zip", "-o", "out.h5"], signal, &zip, b"", holds_folder);
        assert_eq!(unpacked, [vec![], vec!["z.zip".to_owned()]], "{signal:?}");
    }
}

#[test]
fn a_report_on_standard_output_is_the_table_alone() {
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("a.csv"), csv()).unwrap();
    fs::write(out.path().join("b.csv"), "I,II\n1,x\n").unwrap();
    let checked = run("ecg-prep a.csv b.csv --check --report -", out.path());
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked.stderr));
    let mut table = csv::Reader::from_reader(checked.stdout.as_slice());
    assert_eq!(&table.headers().unwrap()[0], "id");
    let rows: Vec<csv::StringRecord> = table.records().map(|row| row.unwrap()).collect();
    assert_eq!(rows.iter().map(|row| &row[0]).collect::<Vec<_>>(), ["a", "b.csv"]);
    assert_eq!(&rows[1][2], "bad");
    // Two outputs do not share standard output.
    refuses("ecg-prep a.csv --report -", 2, &["two outputs go to -"], |f| fs::write(f.join("a.csv"), csv()).unwrap());
}

/// A file that may grow no further stands in for a full disk.
#[cfg(unix)]
#[test]
fn an_output_that_does_not_fit_says_why() {
    let out = tempfile::tempdir().unwrap();
    for file in ["e.h5", "e.npy"] {
        let line = format!("trap '' XFSZ; ulimit -f 64; ecg-prep {} -o {file}", example().display());
        let output = shell(&line, out.path());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{file}: {said}");
        assert!(said.contains(file) && said.contains("File too large"), "{file}: {said}");
        assert_eq!(names(out.path()), Vec::<String>::new(), "{file}: {said}");
    }
}

#[test]
fn check_refuses_the_options_of_bad_records() {
    for words in ["--keep-going", "--keep-going --rejects r.csv", "--rejects r.csv"] {
        let words = format!("ecg-prep a.csv --check {words}");
        refuses(&words, 2, &["--check", "cannot be used with"], |f| fs::write(f.join("a.csv"), csv()).unwrap());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_picture_is_not_drawn_into_a_terminal() {
    let out = tempfile::tempdir().unwrap();
    if !shell("command -v script", out.path()).status.success() {
        crate::program::skipped("no program `script` to open a terminal");
        return;
    }
    let line = |plot: &str| {
        format!("script -qec 'ecg-prep {} --plot {plot} -o e.h5' /dev/null < /dev/null", example().display())
    };
    let output = shell(&line("-"), out.path());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("binary output to a terminal"), "{}", text(&output.stdout));
    assert_eq!(names(out.path()), Vec::<String>::new());
    let piped = shell(&format!("ecg-prep {} --plot - -o e.h5 | head -c 4", example().display()), out.path());
    assert_eq!(piped.stdout, b"\x89PNG");
}

#[test]
fn no_output_replaces_an_input() {
    let fill = |f: &Path| {
        fs::write(f.join("a.csv"), csv()).unwrap();
        fs::write(f.join("list"), "a.csv\n").unwrap();
        fs::create_dir(f.join("in")).unwrap();
        fs::write(f.join("in/a.csv"), csv()).unwrap();
        for end in ["hea", "dat"] {
            fs::copy(example().with_extension(end), f.join("example").with_extension(end)).unwrap();
        }
    };
    let outputs = [
        "ecg-prep a.csv -o a.csv",
        "ecg-prep a.csv -o in/../a.csv",
        "ecg-prep *.csv -o a.csv",
        "ecg-prep in -o in/a.csv",
        "ecg-prep in -o in --format csv",
        "ecg-prep example.hea -o example.dat",
        "ecg-prep --from-list list -o list",
        "ecg-prep a.csv -o e.h5 --report a.csv",
        "ecg-prep a.csv -o e.h5 --keep-going --rejects a.csv",
        "ecg-prep a.csv --check --report a.csv",
    ];
    for words in outputs {
        refuses(words, 2, &["would replace an input", "hint: give the output another name"], fill);
    }
    refuses("pamae-encode e.h5 -o e.h5 --weights WEIGHTS", 2, &["would replace an input"], |f| {
        succeed(&format!("ecg-prep {} -o e.h5", example().display()), f);
    });
    let out = tempfile::tempdir().unwrap();
    fill(out.path());
    succeed("ecg-prep a.csv -o in --format csv --report b.csv", out.path()); // in/a.csv is not read
    assert!(fs::read_to_string(out.path().join("in/a.csv")).unwrap().starts_with("# tool: ecg-prep"));
}

#[test]
fn standardised_leads_are_not_read_as_millivolts_whatever_the_format() {
    let out = tempfile::tempdir().unwrap();
    for name in ["z.csv", "z.hea", "z.h5"] {
        succeed(&format!("ecg-prep {} --preset zscore -o {name}", example().display()), out.path());
        let output = run(&format!("ecg-prep {name} -o again.h5"), out.path());
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains(name) && said.contains("found sd"), "{said}");
        succeed(&format!("ecg-prep {} -o clean-{name}", example().display()), out.path());
        succeed(&format!("ecg-prep clean-{name} -o again.h5"), out.path());
    }
}

#[test]
fn a_pattern_reads_a_wfdb_record_once() {
    let out = tempfile::tempdir().unwrap();
    fs::create_dir(out.path().join("in")).unwrap();
    for end in ["hea", "dat"] {
        fs::copy(example().with_extension(end), out.path().join("in/example").with_extension(end)).unwrap();
    }
    let header = fs::read_to_string(example()).unwrap().replace("example", "other").replace("other.dat", "other.bin");
    fs::write(out.path().join("in/other.hea"), header).unwrap();
    fs::copy(example().with_extension("dat"), out.path().join("in/other.bin")).unwrap();
    for pattern in ["in/**", "in/*", "in/*e*.*", "in/*.hea"] {
        let checked = run(&format!("ecg-prep {pattern} --check"), out.path());
        let said = text(&checked.stdout);
        assert!(said.ends_with("2 records: 2 good, 0 usable, 0 bad\n"), "{pattern}: {said}{}", text(&checked.stderr));
    }
    let signals = run("ecg-prep in/*.dat --check", out.path()); // the header is no match, so the signal file stands for it
    assert!(text(&signals.stdout).ends_with("1 records: 1 good, 0 usable, 0 bad\n"), "{}", text(&signals.stdout));
}

#[test]
fn a_zip_of_several_arrays_holds_a_record_each() {
    let out = tempfile::tempdir().unwrap();
    let rows: Vec<Vec<f32>> =
        csv().lines().skip(1).map(|l| l.split(',').map(|c| c.parse().unwrap()).collect()).collect();
    let by_sample: Vec<f32> = rows.concat();
    let by_lead: Vec<f32> = (0..12).flat_map(|lead| rows.iter().map(move |row| row[lead])).collect();
    let entries = [
        ("ward/p2.npy", npy("(5000, 12)", &by_sample)),
        ("ward/p1.npy", npy("(12, 5000)", &by_lead)),
        ("age.npy", npy("(2, 3)", &[1.0; 6])),
    ];
    write_zip(&out.path().join("z.zip"), &entries);
    write_zip(
        &out.path().join("stacks.zip"),
        &[("a.npy", npy("(1, 12, 5000)", &by_lead)), ("b.npy", npy("(1, 12, 5000)", &by_lead))],
    );
    succeed("ecg-prep z.zip --preset raw -o e.h5", out.path());
    let source = ecgflow::io::Source::open(&out.path().join("e.h5")).unwrap();
    let ecgs: Vec<_> = ecgflow::io::hdf5::EcgReader::open(source).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(ecgs.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["p1", "p2"]);
    assert_eq!(ecgs[0].samples_mv, ecgs[1].samples_mv);
    assert_eq!(ecgs[0].samples_mv[[3, 7]], rows[7][3]);
    succeed("ecg-prep z.zip --dataset ward/p2 -o one.h5", out.path());
    let stacks = run("ecg-prep stacks.zip -o no.h5", out.path());
    assert_eq!(stacks.status.code(), Some(1));
    assert!(text(&stacks.stderr).contains("expected an array of ECGs, found a, b"), "{}", text(&stacks.stderr));
}
