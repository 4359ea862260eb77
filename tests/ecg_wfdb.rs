//! WFDB records of kinds that tests/formats.rs does not read: each storage format alone, large ones; and damaged ones: segments,
//! compressed and packed signals.

use std::fs;
use std::path::Path;

use ecgflow::io::ReadOptions;

use crate::formats::{peak_memory, read_all, read_one, Random};
use crate::program::{measure, root, shared, shell, text, Python};

/// Reads `header` `times` times, each time with another damaged copy of `name` beside it.
fn damage(folder: &Path, header: &Path, name: &str, times: usize) -> (usize, usize) {
    let mut random = Random(name.len() as u64);
    let seed = fs::read(folder.join(name)).unwrap();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..times {
        let path = folder.join(name);
        fs::remove_file(&path).unwrap();
        fs::write(&path, random.damage(&seed)).unwrap();
        match read_all(header, &ReadOptions::default()) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    fs::write(folder.join(name), seed).unwrap();
    (good, bad)
}

#[test]
fn damaged_segments_are_errors_not_panics_and_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(root().join("testdata/ecg/wfdb")).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let before = peak_memory();
    let header = folder.path().join("variable.hea");
    for name in ["variable.hea", "variable_layout.hea", "variable_1.hea", "variable_2.dat"] {
        let (_, bad) = damage(folder.path(), &header, name, 700);
        assert!(bad > 100, "{name}: {bad} refused");
    }
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 512 << 20, "memory grew by {grown} bytes");
}

#[test]
fn damaged_flac_streams_are_errors_not_panics_and_take_no_memory() {
    let Some(real) = shared("data/ecg/wfdb") else { return };
    let folder = tempfile::tempdir().unwrap();
    let before = peak_memory();
    for (part, format) in [("d0", 508), ("d1", 516), ("d2", 524)] {
        let name = format!("r.{part}");
        fs::write(folder.path().join(&name), fs::read(real.join(format!("flacformats.{part}"))).unwrap()).unwrap();
        // With and without a number of samples; no checksum, so that what decodes is read.
        for samples in ["499", "0", "600"] {
            let header = folder.path().join(format!("r{samples}.hea"));
            fs::write(&header, format!("r 1 200 {samples}\n{name} {format} 200/mV\n")).unwrap();
            let (good, bad) = damage(folder.path(), &header, &name, 400);
            assert!(bad > 100, "{name}, {samples} samples: {good} read, {bad} refused");
        }
    }
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 512 << 20, "memory grew by {grown} bytes");
}

#[test]
fn what_a_flac_stream_says_beside_its_samples_is_not_read() {
    let Some(real) = shared("data/ecg/wfdb") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut stream = fs::read(real.join("flacformats.d1")).unwrap();
    let read = |stream: &[u8]| {
        fs::write(folder.path().join("r.flac"), stream).unwrap();
        fs::write(folder.path().join("r.hea"), "r 1 200 499\nr.flac 516 200/mV\n").unwrap();
        read_one(&folder.path().join("r.hea")).samples_mv
    };
    let samples = read(&stream);
    // A block of 16 bytes (kind 4) that claims two billion comments; found by fuzzing: room was made for them.
    let lies = [4, 0, 0, 16, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0];
    stream.splice(42..42, lies);
    assert_eq!(read(&stream), samples);
    stream[4] |= 0x80; // the first block of metadata is the last, and the lies are samples
    fs::write(folder.path().join("r.flac"), &stream).unwrap();
    let error = read_all(&folder.path().join("r.hea"), &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("malformed FLAC stream"), "{error}");
}

/// Two signals of 30,000 samples, at most 100 apart from sample to sample, and their bytes in a format, signal by signal in turn.
fn stored(format: u32) -> (Vec<[i32; 2]>, Vec<u8>) {
    let wave = |n: i32, turn: f64| (100.0 * (f64::from(n) / turn).sin()).round() as i32;
    let frames: Vec<[i32; 2]> = (0..30_000).map(|n| [wave(n, 9.0), wave(n + 3, 17.0)]).collect();
    let values = frames.concat();
    let each = |bytes: &dyn Fn(i32) -> Vec<u8>| values.iter().flat_map(|v| bytes(*v)).collect();
    let ten = |v: i32| v as u32 & 0x3ff;
    let bytes = match format {
        8 => {
            let before = [0, 0].iter().chain(&values); // as the header says
            values.iter().zip(before).map(|(v, last)| (v - last) as i8 as u8).collect()
        }
        80 => each(&|v| vec![(v + 128) as u8]),
        16 => each(&|v| (v as i16).to_le_bytes().to_vec()),
        61 => each(&|v| (v as i16).to_be_bytes().to_vec()),
        160 => each(&|v| ((v + 32_768) as u16).to_le_bytes().to_vec()),
        24 => each(&|v| v.to_le_bytes()[..3].to_vec()),
        212 => {
            let pair = |p: &[i32]| [p[0] as u8, (p[0] >> 8 & 0xf | (p[1] >> 8 & 0xf) << 4) as u8, p[1] as u8];
            values.chunks_exact(2).flat_map(pair).collect()
        }
        310 => {
            let word = |low: i32, high: u32| ((ten(low) << 1 | (high & 0x1f) << 11) as u16).to_le_bytes();
            let three = |t: &[i32]| [word(t[0], ten(t[2])), word(t[1], ten(t[2]) >> 5)].concat();
            values.chunks_exact(3).flat_map(three).collect()
        }
        311 => {
            let three = |t: &[i32]| (ten(t[0]) | ten(t[1]) << 10 | ten(t[2]) << 20).to_le_bytes();
            values.chunks_exact(3).flat_map(three).collect()
        }
        _ => each(&|v| v.to_le_bytes().to_vec()),
    };
    (frames, bytes)
}

#[test]
fn each_format_alone_is_read_as_the_reference_reader_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let formats = [8, 16, 24, 32, 61, 80, 160, 212, 310, 311];
    for format in formats {
        let (frames, bytes) = stored(format);
        let line = |name: &str, lead: usize| {
            let sum: i32 = frames.iter().map(|frame| frame[lead]).sum();
            format!("{format}.dat {format} 200/mV 12 0 0 {} 0 {name}\n", sum as i16)
        };
        let header = format!("{format} 2 500 30000\n{}{}", line("I", 0), line("II", 1));
        fs::write(folder.path().join(format!("{format}.hea")), header).unwrap();
        fs::write(folder.path().join(format!("{format}.dat")), bytes).unwrap();
        let found = read_one(&folder.path().join(format!("{format}.hea")));
        for (lead, row) in found.samples_mv.rows().into_iter().enumerate() {
            let expected: Vec<f64> = frames.iter().map(|frame| f64::from(frame[lead]) / 200.0).collect();
            assert!(
                row.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12),
                "format {format}, lead {lead}: {row}"
            );
            assert_eq!(row.len(), expected.len());
        }
    }
    let Some(python) = Python::with(&["wfdb"], "wfdb") else { return };
    let mut words = vec![root().join("tests/wfdb_values.py").display().to_string()];
    words.extend(formats.map(|format| format.to_string()));
    let output = python.run(&words, folder.path());
    let said: Vec<Vec<[f64; 2]>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said.len(), formats.len());
    for (format, theirs) in formats.into_iter().zip(said) {
        let ours = read_one(&folder.path().join(format!("{format}.hea"))).samples_mv;
        let apart =
            |(n, frame): (usize, &[f64; 2])| (0..2).map(|k| (ours[[k, n]] - frame[k]).abs()).fold(0.0, f64::max);
        let furthest = theirs.iter().enumerate().map(apart).fold(0.0, f64::max);
        println!("result wfdb format {format} against wfdb: furthest {furthest:.2e} mV, one step is 5.00e-3 mV");
        assert!(theirs.len() == ours.ncols() && furthest < 1e-9, "format {format}: {furthest}");
    }
}

#[test]
fn a_large_record_takes_four_times_its_file_and_64_mb_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let (frames, leads) = (2_000_000u64, ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]);
    let size = 2 * frames * leads.len() as u64;
    fs::File::create(folder.path().join("r.dat")).unwrap().set_len(size).unwrap(); // zeros that take no room
    let lines: String = leads.map(|lead| format!("r.dat 16 1000/mV 16 0 0 0 0 {lead}\n")).concat();
    fs::write(folder.path().join("r.hea"), format!("r 8 500 {frames}\n{lines}")).unwrap();
    let whole = format!("s/3 8 500 {}\nr {frames}\n~ 10\nr {frames}\n", 2 * frames + 10);
    fs::write(folder.path().join("s.hea"), whole).unwrap();
    fs::write(folder.path().join("t.hea"), format!("t 1 500 1\nr.dat 16x{} 1000/mV 16 0 0 0 0 I\n", size / 2)).unwrap();
    // Of two segments the record is twice as long as the file: each of its samples still stands in memory once.
    let once = 4 * size + (64 << 20);
    for (name, most, says) in
        [("r", once, "flat-lead"), ("s", once + 4 * size, "flat-lead"), ("t", once, "missing-lead")]
    {
        let (output, peak) = measure(&format!("ecg-prep {name}.hea --check --window 0"), folder.path());
        let said = text(&output.stdout);
        assert!(said.contains(says), "{said}{}", text(&output.stderr));
        println!("result wfdb memory {name}: {} MB for a file of {} MB, bar {} MB", peak >> 20, size >> 20, most >> 20);
        assert!(peak > 4 * size && peak <= most, "{name}: {peak} bytes, at most {most}");
    }
}

#[test]
fn claims_that_the_files_do_not_bear_out_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, content: String| fs::write(folder.path().join(name), content).unwrap();
    // 2,000 leads of a layout and 2,000 samples a frame of a segment: 50 GB for an empty file.
    put("x.dat", String::new());
    put("wide.hea", "wide/2 1 500 1572\nlay 0\ns 1572\n".to_owned());
    put("lay.hea", format!("lay 2000 500\n{}", "x.dat 16 I\n".repeat(2000)));
    put("s.hea", "s 1 500\nx.dat 16x2000 200/mV 16 0 0 0 0 I\n".to_owned());
    // 4,000 compressed files of four million samples each: 134 GB.
    put(
        "many.hea",
        format!("many 4000 500 4194304\n{}", (0..4000).map(|k| format!("{k}.f 516 200/mV\n")).collect::<String>()),
    );
    (0..4000).for_each(|k| put(&format!("{k}.f"), String::new()));
    // A compressed file of 60 million samples, 480 MB, that is none.
    put("still.hea", "still 1 500 60000000\n0.f 516 200/mV\n".to_owned());
    // 300 headers of segments with a thousand signals each.
    put("parts.hea", format!("parts/300 1000 500\n{}", (0..300).map(|k| format!("p{k} 1\n")).collect::<String>()));
    (0..300).for_each(|k| put(&format!("p{k}.hea"), format!("p{k} 1000 500 1\n{}", "x.dat 0\n".repeat(1000))));
    for (name, room_kb, says) in [
        ("wide", 4_000_000, "far longer than its signal files"),
        ("many", 4_000_000, "unfold to too many samples"),
        ("still", 400_000, "malformed FLAC stream"),
        ("parts", 400_000, "the segments have too many signals"),
    ] {
        let words = format!("ulimit -v {room_kb}; ecg-prep {name}.hea --threads 1 -o e.h5");
        let output = shell(&words, folder.path());
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(says), "{name}: {said}");
    }
}
