use super::*;
use crate::io::open_ecg;

/// A file of these sections, with its pointers and its checksum.
fn file(sections: &[(u16, &[u8])]) -> Vec<u8> {
    let head = |number: u16, length: usize, word: &[u8; 6]| {
        [&[0, 0], &number.to_le_bytes()[..], &(length as u32).to_le_bytes(), &[20, 20], word].concat()
    };
    let zero = HEAD + 10 * sections.len();
    let (mut pointers, mut content, mut at) = (Vec::new(), Vec::new(), START + zero + 1);
    for (number, bytes) in sections {
        let length = HEAD + bytes.len();
        pointers
            .extend([&number.to_le_bytes()[..], &(length as u32).to_le_bytes(), &(at as u32).to_le_bytes()].concat());
        content.extend([head(*number, length, &[0; 6]), bytes.to_vec()].concat());
        at += length;
    }
    let body = [head(0, zero, b"SCPECG"), pointers, content].concat();
    let rest = [&((body.len() + START) as u32).to_le_bytes()[..], &body].concat();
    [&checksum(&rest).to_le_bytes()[..], &rest].concat()
}

fn read_bytes(bytes: &[u8]) -> Result<Recording> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.scp");
    std::fs::write(&path, bytes).unwrap();
    let (name, mut records) = open_ecg(Source::open(&path)?, &ReadOptions::default())?;
    assert_eq!(name, "SCP-ECG");
    records.next().unwrap()
}

/// Section 3 of leads II (samples 1 to 5) and aVR (2 to 4).
const LEADS: [u8; 20] = [2, 4, 1, 0, 0, 0, 5, 0, 0, 0, 2, 2, 0, 0, 0, 4, 0, 0, 0, 62];
/// 2500 nV a step, 2000 us a sample.
const SCALE: [u8; 4] = [0xc4, 0x09, 0xd0, 0x07];
const DEFAULT: [u8; 2] = [0x1f, 0x4e];

fn assert_rows(record: &Recording, second: [i32; 5], augmented: [i32; 3]) {
    assert_eq!((record.leads.join(" "), record.rate_hz), ("II aVR".to_owned(), 500.0));
    let near = |found: f64, steps: i32| (found - f64::from(steps) * 0.0025).abs() < 1e-12;
    let x = &record.samples_mv;
    assert!(x.row(0).iter().zip(second).all(|(found, steps)| near(*found, steps)), "{x}");
    assert!(x[[1, 0]].is_nan() && x[[1, 4]].is_nan(), "{x}");
    assert!(x.row(1).iter().skip(1).zip(augmented).all(|(found, steps)| near(*found, steps)), "{x}");
}

#[test]
fn reads_plain_samples() {
    let data = [1i16, -2, 300, -400, 5, 7, 8, 9].map(i16::to_le_bytes).concat();
    let section = [&SCALE[..], &[0, 0, 10, 0, 6, 0], &data].concat();
    let record = read_bytes(&file(&[(1, b"patient"), (3, &LEADS), (6, &section)])).unwrap();
    assert_eq!(record.id, "p");
    assert_rows(&record, [1, -2, 300, -400, 5], [7, 8, 9]);
}

#[test]
fn undoes_the_huffman_code_and_differences() {
    // First differences of 1 2 1 1 3: 1 1 -1 0 2 = 100 100 101 0 1100; of 0 -1 -1: 0 -1 0 = 0 101 0.
    let first = [&SCALE[..], &[1, 0, 2, 0, 1, 0, 0b1001_0010, 0b1011_0000, 0b0101_0000]].concat();
    let record = read_bytes(&file(&[(2, &DEFAULT), (3, &LEADS), (6, &first)])).unwrap();
    assert_rows(&record, [1, 2, 1, 1, 3], [0, -1, -1]);
    // Second differences of 1 2 4 6 8: 1 2 1 0 0 = 100 1100 100 0 0; of 2 1 0: 2 1 0 = 1100 100 0.
    let second = [&SCALE[..], &[2, 0, 2, 0, 1, 0, 0b1001_1001, 0b0000_0000, 0b1100_1000]].concat();
    let record = read_bytes(&file(&[(2, &DEFAULT), (3, &LEADS), (6, &second)])).unwrap();
    assert_rows(&record, [1, 2, 4, 6, 8], [2, 1, 0]);
}

#[test]
fn the_checksum_is_crc_ccitt() {
    assert_eq!(checksum(b"123456789"), 0x29b1); // the check value of CRC-16/IBM-3740
}

#[test]
fn refuses_with_what_was_expected_and_found() {
    let rhythm = [&SCALE[..], &[0, 0, 10, 0, 6, 0], &[0; 16]].concat();
    let error = |sections: &[(u16, &[u8])]| read_bytes(&file(sections)).unwrap_err().to_string();
    assert!(error(&[(3, &LEADS)]).contains("section 6: expected the section, found none"));
    assert!(error(&[(6, &rhythm)]).contains("section 3: expected the section, found none"));
    assert!(error(&[(3, &LEADS), (6, &rhythm[..20])])
        .contains("section 6: the section breaks off (expected 6 bytes, found 0"));
    let short = [&SCALE[..], &[0, 0, 8, 0, 6, 0], &[0; 16]].concat();
    assert!(error(&[(3, &LEADS), (6, &short)]).contains("lead II: expected 5 samples of 2 bytes, found 8 bytes"));
    let changed = |at: usize, to: u8, of: &[u8]| [&of[..at], &[to], &of[at + 1..]].concat();
    assert!(error(&[(3, &changed(1, 1, &LEADS)), (6, &rhythm)]).contains("less a reference beat"));
    assert!(error(&[(3, &changed(5, 255, &LEADS)), (6, &rhythm)]).contains("samples from 1 on"));
    assert!(error(&[(3, &changed(9, 255, &LEADS)), (6, &rhythm)]).contains("at most 4194304 samples"));
    assert!(error(&[(3, &LEADS), (6, &changed(5, 1, &rhythm))]).contains("bimodal"));
    assert!(error(&[(3, &LEADS), (6, &changed(4, 3, &rhythm))]).contains("differences 0 to 2"));
    let whole = file(&[(3, &LEADS), (6, &rhythm)]);
    let text = |bytes: &[u8]| read_bytes(bytes).unwrap_err().to_string();
    assert!(text(&whole[..whole.len() - 1]).contains("shorter than it says"));
    assert!(text(&changed(80, 9, &whole)).contains("the checksum does not match"));
}

#[test]
fn damaged_files_are_errors_not_panics() {
    let first = [&SCALE[..], &[1, 0, 2, 0, 1, 0, 0b1001_0010, 0b1011_0000, 0b0101_0000]].concat();
    let mut seed = file(&[(2, &DEFAULT), (3, &LEADS), (6, &first)]);
    seed[..2].fill(0); // without checksum
    for at in 6..seed.len() {
        for value in [0, 1, 127, 128, 255] {
            let mut bytes = seed.clone();
            bytes[at] = value;
            if recognise(&bytes, "") {
                let _ = read(&bytes, "p");
            }
            let _ = read(&seed[..at], "p");
        }
    }
}
