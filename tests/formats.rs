//! Readers against the reference reader (testdata/golden/wfdb_golden.py), on real recordings where they are at hand,
//! and against thousands of damaged files; our own files against what was written.

use std::fs;
use std::path::{Path, PathBuf};

use ecgflow::data::ecg::{Ecg, Lead, Quality, Verdict};
use ecgflow::data::recording::Recording;
use ecgflow::data::Provenance;
use ecgflow::io::hdf5::{EcgReader, EcgWriter};
use ecgflow::io::{open_ecg, ReadOptions, Sink, Source, Unit};
use ndarray::ArrayView2;
use serde_json::Value;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of recordings that may not be copied into this project; says so where it is absent.
pub fn shared() -> Option<PathBuf> {
    crate::program::shared("data/ecg")
}

pub fn read_all(path: &Path, options: &ReadOptions) -> ecgflow::Result<Vec<Recording>> {
    open_ecg(Source::open(path)?, options)?.1.collect()
}

pub fn read_one(path: &Path) -> Recording {
    let mut records = read_all(path, &ReadOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(records.len(), 1);
    records.remove(0)
}

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("testdata/golden/wfdb.json")).unwrap()).unwrap()
}

pub fn assert_close(found: f64, expected: &Value, tolerance: f64, what: &str) {
    match expected.as_f64() {
        Some(expected) => assert!((found - expected).abs() <= tolerance, "{what}: expected {expected}, found {found}"),
        None => assert!(found.is_nan(), "{what}: expected NaN, found {found}"),
    }
}

pub fn assert_equals_golden(record: &Recording, golden: &Value, what: &str) {
    let signals = golden["signals"].as_array().unwrap();
    let names: Vec<&str> = signals.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(record.leads, names, "{what}");
    assert_eq!(record.rate_hz, golden["rate_hz"].as_f64().unwrap(), "{what}");
    let samples = golden["samples"].as_u64().unwrap() as usize;
    assert_eq!(record.samples_mv.dim(), (signals.len(), samples), "{what}");
    let step = golden["step"].as_u64().unwrap() as usize;
    for (row, signal) in record.samples_mv.rows().into_iter().zip(signals) {
        let what = format!("{what} {}", signal["name"]);
        let each = |key: &str, at: &dyn Fn(usize) -> usize| {
            for (i, expected) in signal[key].as_array().unwrap().iter().enumerate() {
                assert_close(row[at(i)], expected, 1e-6, &format!("{what} {key} {i}"));
            }
        };
        each("first", &|i| i);
        each("last", &|i| samples - 8 + i);
        each("every", &|i| i * step);
        let valid: Vec<f64> = row.iter().copied().filter(|v| !v.is_nan()).collect();
        assert_eq!(valid.len() as u64, signal["valid"].as_u64().unwrap(), "{what}");
        let squares: f64 = valid.iter().map(|v| v * v).sum();
        assert_close(valid.iter().sum(), &signal["sum"], 1e-6 * samples as f64, &what);
        assert_close(squares, &signal["squares"], 1e-9 * squares.max(1.0), &what);
    }
}

#[test]
fn wfdb_records_equal_the_reference_reader() {
    let Some(folder) = shared() else { return };
    let golden = golden();
    let records = golden["records"].as_object().unwrap();
    assert_eq!(records.len(), 33);
    for (name, golden) in records {
        assert_equals_golden(&read_one(&folder.join(format!("{name}.hea"))), golden, name);
    }
}

#[test]
fn each_storage_format_equals_the_reference_reader() {
    let Some(shared) = shared() else { return };
    for (part, golden) in golden()["formats"].as_object().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("single.hea"), golden["header"].as_str().unwrap()).unwrap();
        fs::copy(shared.join(format!("wfdb/binformats.{part}")), folder.path().join("single.dat")).unwrap();
        assert_equals_golden(&read_one(&folder.path().join("single.hea")), golden, part);
    }
}

#[test]
fn segments_of_variable_layout_equal_the_reference_reader() {
    let record = read_one(&root().join("testdata/ecg/wfdb/variable.hea"));
    assert_equals_golden(&record, &golden()["small"]["variable"], "variable");
}

#[test]
fn one_ecg_reads_the_same_from_wfdb_csv_tsv_and_npy() {
    let Some(folder) = shared() else { return };
    let folder = folder.join("derived");
    let wfdb = read_one(&folder.join("guangxi_16.hea"));
    let csv = read_one(&folder.join("guangxi_wide_mV.csv"));
    assert_eq!((csv.rate_hz, csv.id.as_str()), (500.0, "guangxi_wide_mV"));
    let furthest = |a: ArrayView2<f64>, b: ArrayView2<f64>| (&a - &b).mapv(f64::abs).into_iter().fold(0.0, f64::max);
    let distance = furthest(wfdb.samples_mv.view(), csv.samples_mv.view());
    assert!(distance <= 0.0006, "half a step of the 1 uV WFDB file, found {distance} mV");
    let tsv = folder.join("guangxi_long_uV_250Hz.tsv");
    let silent = read_all(&tsv, &ReadOptions { rate_hz: Some(250.0), ..ReadOptions::default() }).unwrap_err();
    assert_eq!(silent.hint(), Some("if these are microvolts, give --units uV"));
    let told = ReadOptions { rate_hz: Some(250.0), unit: Some(Unit::Microvolt), ..ReadOptions::default() };
    let tsv = read_all(&tsv, &told).unwrap().remove(0);
    assert_eq!((&tsv.leads, tsv.rate_hz, tsv.samples_mv.dim()), (&csv.leads, 250.0, (12, 2500)));
    let every_other = csv.samples_mv.slice(ndarray::s![.., ..;2]);
    let distance = furthest(tsv.samples_mv.view(), every_other);
    assert!(distance < 1e-9, "every other sample of the same numbers, found {distance} mV");
    let npy = read_all(&folder.join("four_records_N12T_mV.npy"), &ReadOptions::default()).unwrap();
    assert_eq!(npy.len(), 4);
    let leads = |of: &Recording| of.leads.iter().map(|name| Lead::parse(name).unwrap()).collect::<Vec<Lead>>(); // AVR, aVR
    for (k, (record, name)) in npy.iter().zip(["muse1_16", "muse2_16", "guangxi_16", "cardiosoft1_16"]).enumerate() {
        let wfdb = read_one(&folder.join(name).with_extension("hea"));
        assert_eq!((record.id.clone(), leads(record)), (format!("four_records_N12T_mV_{k}"), leads(&wfdb)));
        let distance = furthest(record.samples_mv.view(), wfdb.samples_mv.view());
        assert!(distance <= 0.0006, "half a step of the 1 uV file {name}, found {distance} mV");
    }
}

#[test]
fn the_example_record_reads_as_its_script_wrote_it() {
    let record = read_one(&root().join("testdata/ecg/example.hea"));
    assert_eq!((record.id.as_str(), record.rate_hz, record.samples_mv.dim()), ("example", 500.0, (12, 5000)));
    let [one, two, three] = [0, 1, 2].map(|k| record.samples_mv.row(k).to_owned());
    assert!((one + three - two).iter().all(|v| v.abs() < 1e-9));
}

/// The numbers of a splitmix64 stream.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    /// Flips, inserts, removes, repeats, cuts, and writes large numbers.
    pub fn damage(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 => bytes.insert(at, b"0123456789,;\t\n\"'#/x:+()-. \xff\x00"[self.below(28)]),
                3 if !bytes.is_empty() => drop(bytes.remove(at)),
                4 => bytes.truncate(at),
                5 => drop(bytes.splice(at..at, *b"99999999999999999")),
                _ => {
                    let end = (at + self.below(30)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}

/// The most memory this process has held, bytes; 0 where the system does not say.
pub fn peak_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
}

#[test]
fn damaged_files_are_errors_not_panics_and_take_no_memory() {
    let mut npy = b"\x93NUMPY\x01\x00\x4a\x00".to_vec();
    npy.extend(format!("{:<73}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 12, 3), }").bytes());
    npy.extend([0u8; 288]);
    let header =
        "# c\nr 3 250 4\nr.dat 212x2 200(10)/mV 12 0 0 0 0 I\nr.dat 212:1 2/uV 12 5 0 0 0 II\nr.dat 212 1/NU\n";
    let seeds: [(&str, &[u8]); 4] = [
        ("r.hea", header.as_bytes()),
        ("r.hea", b"r 1 500 6\nr.dat 16+2 200 16 0 0 0 0 II\n"),
        ("r.npy", &npy),
        ("r.csv", b"# c\ntime,I,II\n0,1,2\n0.002,NaN,3\n0.004,\"1\",-3e-1\n"),
    ];
    let mut random = Random(7);
    let before = peak_memory();
    let (mut good, mut bad) = (0, 0);
    for (name, seed) in seeds {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("r.dat"), [0x21u8; 60]).unwrap();
        for i in 0..2500 {
            let path = folder.path().join(name);
            let _ = fs::remove_file(&path); // writing anew is a hundred times faster than overwriting on ext4
            fs::write(&path, random.damage(seed)).unwrap();
            let rate_hz = [None, Some(500.0)][i % 2];
            let options = ReadOptions { rate_hz, ..ReadOptions::default() };
            match read_all(&path, &options) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
    }
    assert!(good > 100 && bad > 1000, "{good} read, {bad} refused: the damage is too strong or too weak");
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 512 << 20, "memory grew by {grown} bytes");
}

#[test]
fn a_prepared_ecg_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ecg.h5");
    let mut flat = [false; 12];
    flat[6] = true;
    let reasons = vec!["flat-lead: V1 does not move".to_owned(), "ectopy: 25 % of the beats".to_owned()];
    let ecg = Ecg {
        id: "p1".into(),
        rate_hz: 500.0,
        samples_mv: ndarray::Array2::from_shape_fn((12, 40), |(lead, n)| (lead * 40 + n) as f32),
        r_peak: vec![3, 17, 31],
        heart_rate: 71.5,
        quality: Quality { flat, einthoven_mv: 0.25, rr_sd_ms: 12.5, verdict: Verdict::Bad, reasons },
    };
    let mut writer = EcgWriter::begin(&path, &Provenance::now("test", "test".into()), 500.0, "raw", &[]).unwrap();
    writer.put(&ecg).unwrap();
    writer.finish().unwrap();
    let read: Vec<Ecg> = EcgReader::open(Source::open(&path).unwrap()).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(read, [ecg]);
}
