//! Folders, patterns, archives, lists and manifests; damaged and hostile ones.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use ecgflow::io::hdf5::EcgReader;
use ecgflow::io::input::Inputs;
use ecgflow::io::{open_ecg, ReadOptions, Source};
use flate2::write::GzEncoder;
use flate2::Compression;
use zip::write::SimpleFileOptions;

use crate::formats::{peak_memory, Random};
use crate::program::{example, feed, refuses, run, succeed, text};

/// The ids in a prepared file.
fn ids(folder: &Path, name: &str) -> Vec<String> {
    let source = Source::open(&folder.join(name)).unwrap();
    EcgReader::open(source).unwrap().map(|ecg| ecg.unwrap().id).collect()
}

/// Twelve leads of ten seconds as CSV.
pub fn csv() -> String {
    let mut text = String::from("I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6\n");
    for n in 0..5000 {
        let cell =
            |lead: usize| format!("{:.3}", ((n * (lead + 1)) as f64 * 0.011).sin() * f64::from(n as u32 % 400) / 400.0);
        text.push_str(&(0..12).map(cell).collect::<Vec<_>>().join(","));
        text.push('\n');
    }
    text
}

/// What a user's folder holds: two tables, a WFDB record, notes, a table of patients, something hidden.
fn cohort() -> Vec<(&'static str, Vec<u8>)> {
    let read = |end: &str| fs::read(example().with_extension(end)).unwrap();
    vec![
        ("b.csv", csv().into_bytes()),
        ("more/a.txt", csv().into_bytes()),
        ("more/example.dat", read("dat")),
        ("more/example.hea", read("hea")),
        ("notes.md", b"# Notes\nTaken at rest, supine, by hand.\nSee also: nothing, really.\n".to_vec()),
        ("patients.csv", b"id,age,sex\np1,54,F\np2,61,M\n".to_vec()),
        (".hidden.csv", b"I,II\n1,2\n".to_vec()),
        ("empty", Vec::new()),
    ]
}

const FOUND: [&str; 3] = ["b", "a", "example"];

fn write_folder(root: &Path) {
    for (name, bytes) in cohort() {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

pub fn write_zip(path: &Path, entries: &[(&str, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

fn tar(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written raw: the library refuses names that lead out of the archive, attackers do not.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn a_folder_a_zip_and_a_tar_give_the_same_ecgs() {
    let out = tempfile::tempdir().unwrap();
    let f = out.path();
    write_folder(&f.join("in"));
    write_zip(&f.join("z.bin"), &cohort()); // told by content, not by name
    fs::write(f.join("t.tar"), tar(&cohort())).unwrap();
    fs::write(f.join("t.tar.gz"), gzip(&tar(&cohort()))).unwrap();
    for input in ["in", "z.bin", "t.tar", "t.tar.gz"] {
        let said = run(&format!("ecg-prep {input} -o out.h5 -v"), f);
        assert!(said.status.success(), "{input}: {}", text(&said.stderr));
        assert_eq!(ids(f, "out.h5"), FOUND, "{input}");
        for passed in ["notes.md", "patients.csv"] {
            assert!(
                text(&said.stderr).contains(&format!("passed over, no ECG: {input}/{passed}")),
                "{input}: {}",
                text(&said.stderr)
            );
        }
    }
    let piped = feed("ecg-prep -o piped.h5", f, &gzip(&tar(&cohort())));
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    assert_eq!(ids(f, "piped.h5"), FOUND);
}

#[test]
fn a_pattern_means_the_files_that_match_by_name() {
    let out = tempfile::tempdir().unwrap();
    write_folder(&out.path().join("in"));
    succeed("ecg-prep in/**/[ab].* -o out.h5", out.path());
    assert_eq!(ids(out.path(), "out.h5"), ["b", "a"]);
    for (pattern, expected) in [("in/more/**", &["a", "example"][..]), ("in/**/*.[ct][sx][vt]", &["b", "a"])] {
        let inputs = Inputs::begin(&[out.path().join(pattern)], None).unwrap();
        let mut found: Vec<String> = inputs.map(|s| s.unwrap().stem()).collect();
        found.retain(|stem| stem != "patients" && stem != ".hidden");
        found.sort_by_key(|stem| expected.iter().position(|e| e == stem));
        assert_eq!(found, expected, "{pattern}");
    }
    let says = ["ecg-prep: error: finding input: *.xml", "nothing matches the pattern", "expected files, found none"];
    refuses("ecg-prep *.xml -o out.h5", 1, &says, |_| ());
}

#[test]
fn one_file_packed_by_gzip_is_that_file() {
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("p7.csv.gz"), gzip(csv().as_bytes())).unwrap();
    succeed("ecg-prep p7.csv.gz -o out.h5", out.path());
    assert_eq!(ids(out.path(), "out.h5"), ["p7"]);
}

#[test]
fn a_list_and_a_manifest_name_files_and_records() {
    let out = tempfile::tempdir().unwrap();
    let f = out.path();
    write_folder(&f.join("in"));
    let listed = feed("ecg-prep --from-list - -o list.h5", f, b"in/more/a.txt\nin/more/example.hea\n");
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    assert_eq!(ids(f, "list.h5"), ["a", "example"]);
    fs::write(f.join("m.csv"), "id,path\nkate,in/more/example.hea\ntom,in/b.csv\n").unwrap();
    succeed("ecg-prep in/more/a.txt --from-list m.csv -o manifest.h5", f);
    assert_eq!(ids(f, "manifest.h5"), ["a", "kate", "tom"]);
    refuses("ecg-prep - --from-list - -o out.h5", 2, &["standard input is named twice"], |_| ());
    refuses("ecg-prep --from-list l -o out.h5", 1, &["none.xml"], |f| fs::write(f.join("l"), "none.xml\n").unwrap());
}

#[test]
fn a_bad_file_in_an_archive_is_left_out_and_named_as_the_user_knows_it() {
    let out = tempfile::tempdir().unwrap();
    let f = out.path();
    let mut entries = cohort();
    entries[2].1.truncate(60_000); // more/example.dat
    write_zip(&f.join("z.zip"), &entries);
    succeed("ecg-prep z.zip -o out.h5 --keep-going --rejects r.csv", f);
    assert_eq!(ids(f, "out.h5"), ["b", "a"]);
    let rejects = fs::read_to_string(f.join("r.csv")).unwrap();
    assert!(rejects.contains("z.zip/more/example.dat") && !rejects.contains("/tmp"), "{rejects}");
}

#[test]
fn a_folder_without_any_ecg_is_an_error() {
    let make = |f: &Path| {
        write_folder(&f.join("in"));
        fs::create_dir(f.join("none")).unwrap();
        fs::write(f.join("none/notes.md"), "# Notes\n").unwrap();
    };
    refuses("ecg-prep none in -o out.h5", 1, &["there is no ECG in the folder"], make);
    let out = tempfile::tempdir().unwrap();
    make(out.path());
    for (input, told) in [("in", false), ("none", true), ("in none", true)] {
        let said = run(&format!("ecg-prep {input} --check"), out.path());
        assert_eq!(text(&said.stdout).contains("there is no ECG in the folder"), told, "{input}");
        assert!(!told || said.status.code() == Some(1), "{input}");
    }
}

#[test]
fn hidden_entries_of_archives_are_not_opened() {
    let out = tempfile::tempdir().unwrap();
    let junk = || b"\0\x05\x16\x07".to_vec();
    let entries = [
        ("./b.csv", csv().into_bytes()),
        ("__MACOSX/c/._r.hea", junk()),
        (".git/r.hea", junk()),
        ("c/._r.hea", junk()),
    ];
    fs::write(out.path().join("t.tar"), tar(&entries)).unwrap();
    write_zip(&out.path().join("z.zip"), &entries);
    for input in ["t.tar", "z.zip"] {
        let found: Vec<_> =
            Inputs::begin(&[out.path().join(input)], None).unwrap().map(|s| s.unwrap().stem()).collect();
        assert_eq!(found, ["b"], "{input}");
    }
}

#[test]
fn names_in_an_archive_lead_nowhere() {
    let out = tempfile::tempdir().unwrap();
    let f = out.path().join("deep");
    fs::create_dir(&f).unwrap();
    let hostile = [("../../evil.csv", csv().into_bytes()), ("/evil2.csv", csv().into_bytes())];
    fs::write(f.join("t.tar"), tar(&hostile)).unwrap();
    succeed("ecg-prep t.tar -o out.h5", &f);
    assert_eq!(ids(&f, "out.h5"), ["evil", "evil2"]);
    assert!(!out.path().join("evil.csv").exists() && !Path::new("/evil2.csv").exists());
}

#[test]
fn segments_of_a_wfdb_record_are_read_through_its_header() {
    let text = |text: &str| text.as_bytes().to_vec();
    let record = [
        ("r.hea", text("# two segments\nr/2 1 500 8\nr1 4\nr2 4\n")),
        ("r1.dat", vec![0; 8]),
        ("r1.hea", text("r1 1 500 4\nr1.dat 16 200 16 0 0 0 0 II\n")),
        ("r2.hea", text("r2 1 500 4\nr2.dat 16 200 16 0 0 0 0 II\n")),
        ("s.hea", text("s 1 500 4\nr1.dat 16 200 16 0 0 0 0 II\n")),
    ];
    let out = tempfile::tempdir().unwrap();
    let inputs = [out.path().join("in"), out.path().join("t.tar")];
    fs::create_dir(&inputs[0]).unwrap();
    record.iter().for_each(|(name, bytes)| fs::write(inputs[0].join(name), bytes).unwrap());
    fs::write(&inputs[1], tar(&record)).unwrap();
    let turned: Vec<_> = record.iter().rev().cloned().collect(); // segments before their master
    fs::write(out.path().join("u.tar"), tar(&turned)).unwrap();
    let found = Inputs::begin(&[out.path().join("u.tar")], None).unwrap().map(|s| s.unwrap().stem());
    assert_eq!(found.collect::<Vec<_>>(), ["s", "r"]);
    for input in &inputs {
        let found = Inputs::begin(std::slice::from_ref(input), None).unwrap().map(|s| s.unwrap().shown().to_owned());
        let expected = ["r.hea", "s.hea"].map(|name| input.join(name).display().to_string());
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}

/// An NPY file of f32.
pub fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
    let header = format!("{:<117}\n", format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"));
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(header.bytes());
    values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    bytes
}

/// An NPZ file of two ECGs and their ages.
fn npz(folder: &Path) -> Vec<u8> {
    let leads: Vec<Vec<f32>> =
        csv().lines().skip(1).map(|l| l.split(',').map(|c| c.parse().unwrap()).collect()).collect();
    let ecg: Vec<f32> = leads.into_iter().flatten().collect();
    let entries = [("age.npy", npy("(2,)", &[54.0, 61.0])), ("ecg.npy", npy("(2, 5000, 12)", &ecg.repeat(2)))];
    write_zip(&folder.join("made.npz"), &entries);
    fs::read(folder.join("made.npz")).unwrap()
}

#[test]
fn an_npz_file_is_one_file_wherever_it_lies() {
    let out = tempfile::tempdir().unwrap();
    let f = out.path();
    let bytes = npz(f);
    fs::create_dir(f.join("in")).unwrap();
    fs::write(f.join("in/made.npz"), &bytes).unwrap();
    fs::write(f.join("made.npz.gz"), gzip(&bytes)).unwrap();
    fs::write(f.join("t.tar"), tar(&[("deep/made.npz", bytes.clone())])).unwrap();
    fs::write(f.join("m.csv"), "path,id\nmade.npz,made\n").unwrap();
    for input in ["made.npz", "made.npz --dataset ecg", "in", "made.npz.gz", "t.tar", "--from-list m.csv"] {
        succeed(&format!("ecg-prep {input} -o out.h5"), f);
        assert_eq!(ids(f, "out.h5"), ["made_0", "made_1"], "{input}");
    }
    let piped = feed("ecg-prep -o out.h5", f, &bytes);
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    assert_eq!(ids(f, "out.h5"), ["stdin_0", "stdin_1"]);
}

#[test]
fn images_and_signal_files_beside_ecgs_are_passed_over() {
    let out = tempfile::tempdir().unwrap();
    let f = out.path();
    write_folder(&f.join("in"));
    let mut image = fs::read(crate::program::root().join("testdata/ecg/dicom/explicit_16.dcm")).unwrap();
    let class = b"1.2.840.10008.5.1.4.1.1.9.1.";
    let places: Vec<usize> = (0..image.len() - class.len()).filter(|&k| image[k..].starts_with(class)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|k| image[k + 24] = b'4'); // MR image storage
    fs::write(f.join("in/image.dcm"), &image).unwrap();
    fs::rename(f.join("in/more/example.dat"), f.join("in/more/signals.bin")).unwrap();
    let header = fs::read_to_string(f.join("in/more/example.hea")).unwrap();
    fs::write(f.join("in/more/example.hea"), header.replace("example.dat", "signals.bin")).unwrap();
    let said = run("ecg-prep in -o out.h5 -v", f);
    assert!(said.status.success(), "{}", text(&said.stderr));
    assert_eq!(ids(f, "out.h5"), FOUND);
    let said = text(&said.stderr);
    assert!(said.contains("passed over, no ECG: in/image.dcm") && !said.contains("signals.bin"), "{said}");
    refuses(
        "ecg-prep in -o out.h5",
        1,
        &["input: in: there is no ECG in the folder", "hint: files passed over: 1"],
        |f| {
            fs::create_dir(f.join("in")).unwrap();
            fs::write(f.join("in/image.dcm"), &image).unwrap();
        },
    );
    refuses("ecg-prep image.dcm -o out.h5", 1, &["image.dcm", "the object holds no ECG"], |f| {
        fs::write(f.join("image.dcm"), &image).unwrap();
    });
}

#[test]
fn an_archive_is_checked_reported_and_drawn_like_files() {
    let out = tempfile::tempdir().unwrap();
    let f = out.path();
    let mut entries = cohort();
    entries.push(("more/short.csv", csv().lines().take(3001).collect::<Vec<_>>().join("\n").into_bytes()));
    write_zip(&f.join("z.zip"), &entries);
    let said = run("ecg-prep z.zip --rate 500 --check --report r.csv", f);
    assert_eq!(said.status.code(), Some(1), "{}", text(&said.stderr));
    let words = text(&said.stdout);
    assert!(words.contains("example: good (75 beats a minute"), "{words}");
    assert!(words.contains("short: bad, z.zip/more/short.csv\n  short: "), "{words}");
    let report = fs::read_to_string(f.join("r.csv")).unwrap();
    assert!(report.lines().any(|line| line.starts_with("example,z.zip/more/example.hea,good,")), "{report}");
    succeed("ecg-prep z.zip --rate 500 --keep-going --rejects l.csv --plot pictures --format npy -o out.npy", f);
    let drawn = |name: &str| fs::read(f.join("pictures").join(name)).unwrap().starts_with(b"\x89PNG");
    assert!(drawn("a.png") && drawn("b.png") && drawn("example.png"));
    let left_out = fs::read_to_string(f.join("l.csv")).unwrap();
    assert!(left_out.contains("short,z.zip/more/short.csv,"), "{left_out}");
}

#[test]
fn archives_without_an_ecg_are_refused() {
    let notes = || vec![("notes.md", b"nothing here".to_vec())];
    refuses("ecg-prep z.zip -o out.h5", 1, &["z.zip", "there is no ECG in the archive"], |f| {
        write_zip(&f.join("z.zip"), &notes())
    });
    refuses("ecg-prep z.zip -o out.h5", 1, &["z.zip", "there is no ECG in the archive"], |f| {
        write_zip(&f.join("z.zip"), &[])
    });
    refuses("ecg-prep in -o out.h5", 1, &["in", "there is no ECG in the folder"], |f| {
        fs::create_dir(f.join("in")).unwrap()
    });
    let says = [
        "a.xz",
        "compressed in a way that is not read",
        "expected ZIP, TAR or gzip, found xz",
        "hint: unpack it first",
    ];
    refuses("ecg-prep a.xz -o out.h5", 1, &says, |f| fs::write(f.join("a.xz"), b"\xfd7zXZ\0rest of it").unwrap());
}

#[test]
fn damaged_archives_are_refused() {
    let cut = |bytes: Vec<u8>, keep: usize| bytes[..bytes.len() * keep / 100].to_vec();
    refuses("ecg-prep z.zip -o out.h5", 1, &["z.zip", "the archive is damaged", "hint: copy the archive again"], |f| {
        write_zip(&f.join("z.zip"), &cohort());
        let whole = fs::read(f.join("z.zip")).unwrap();
        fs::write(f.join("z.zip"), cut(whole, 60)).unwrap();
    });
    refuses("ecg-prep t.tar -o out.h5", 1, &["t.tar", "the archive is truncated", "expected", "found"], |f| {
        fs::write(f.join("t.tar"), cut(tar(&cohort()[..1]), 50)).unwrap();
    });
    refuses("ecg-prep t.gz -o out.h5", 1, &["t.gz", "the archive is damaged"], |f| {
        fs::write(f.join("t.gz"), cut(gzip(csv().as_bytes()), 60)).unwrap();
    });
    refuses(
        "ecg-prep z.zip -o out.h5",
        1,
        &["z.zip", "b.csv", "the archive is damaged", "expected a readable entry"],
        |f| {
            write_zip(&f.join("z.zip"), &cohort()[..1]);
            let mut whole = fs::read(f.join("z.zip")).unwrap();
            whole[2000] ^= 0x10; // within the packed bytes: the checksum tells
            fs::write(f.join("z.zip"), whole).unwrap();
        },
    );
}

#[test]
fn an_archive_bomb_is_refused() {
    let zeros = vec![0u8; 150 << 20];
    let says = ["bomb", "grows like an archive bomb", "expected at most", "hint: unpack it yourself if you trust it"];
    refuses("ecg-prep z.zip -o out.h5", 1, &says, |f| write_zip(&f.join("z.zip"), &[("bomb", zeros.clone())]));
    refuses("ecg-prep bomb.gz -o out.h5", 1, &says, |f| fs::write(f.join("bomb.gz"), gzip(&zeros)).unwrap());
}

#[test]
fn entries_that_share_bytes_are_refused() {
    refuses(
        "ecg-prep z.zip -o out.h5",
        1,
        &["z.zip", "the entries share bytes, as those of an archive bomb do"],
        |f| {
            write_zip(&f.join("z.zip"), &[("a.csv", csv().into_bytes()), ("b.csv", csv().into_bytes())]);
            let mut whole = fs::read(f.join("z.zip")).unwrap();
            // The second entry of the directory claims more packed bytes than there are.
            let last = whole.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
            let length = whole.len() as u32;
            whole[last + 20..last + 24].copy_from_slice(&length.to_le_bytes());
            fs::write(f.join("z.zip"), whole).unwrap();
        },
    );
}

#[test]
fn damaged_archives_and_lists_are_errors_not_panics_and_take_no_memory() {
    let small = [
        ("r.hea", b"r 1 500 4\nr.dat 16 200 16 0 0 0 0 II\n".to_vec()),
        ("r.dat", vec![0; 8]),
        ("dir/t.csv", [b"I,II\n".to_vec(), b"1,2\n3,4\n".repeat(40)].concat()),
    ];
    let out = tempfile::tempdir().unwrap();
    write_zip(&out.path().join("z"), &small);
    let zip = fs::read(out.path().join("z")).unwrap();
    let seeds = [zip, tar(&small), gzip(&tar(&small)), gzip(&small[2].1)];
    let path = out.path().join("damaged");
    let mut random = Random(5);
    let options = ReadOptions { rate_hz: Some(500.0), ..ReadOptions::default() };
    let before = peak_memory();
    let (mut good, mut bad) = (0, 0);
    for seed in &seeds {
        for _ in 0..300 {
            let _ = fs::remove_file(&path);
            fs::write(&path, random.damage(seed)).unwrap();
            let Ok(inputs) = Inputs::begin(std::slice::from_ref(&path), None) else { continue };
            for source in inputs {
                match source.and_then(|s| open_ecg(s, &options)?.1.collect::<Result<Vec<_>, _>>()) {
                    Ok(_) => good += 1,
                    Err(_) => bad += 1,
                }
            }
            let _ = Inputs::begin(&[], Some(&path));
        }
    }
    assert!(good > 100 && bad > 500, "{good} read, {bad} refused: the damage is too strong or too weak");
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 256 << 20, "memory grew by {grown} bytes");
}
