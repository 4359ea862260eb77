use super::*;
use crate::data::ecg::{Quality, LEADS};
use crate::io::{open_ecg, ReadOptions, Source};
use ndarray::Array2;

fn ecg(id: &str, offset_mv: f32) -> Ecg {
    let wave = |(lead, n): (usize, usize)| offset_mv + (lead as f32) * 0.25 - 0.001 * n as f32;
    let samples_mv = Array2::from_shape_fn((LEADS, 5000), wave);
    let r_peak = vec![100, 1600, 2500];
    Ecg { id: id.into(), rate_hz: 500.0, samples_mv, r_peak, heart_rate: 75.0, quality: Quality::default() }
}

fn about() -> About {
    About { rate_hz: 500.0, preset: "raw".into(), steps: vec!["leads: standard order".into()], unit: "mV" }
}

fn write(path: &Path, format: Format, records: &[Ecg]) -> Result<()> {
    let mut sink = EcgSink::begin(path, format, &about(), &Provenance::now("test", "test".into()))?;
    records.iter().try_for_each(|ecg| sink.put(ecg))?;
    sink.finish()
}

fn read(path: &Path) -> Vec<crate::data::recording::Recording> {
    open_ecg(Source::open(path).unwrap(), &ReadOptions::default()).unwrap().1.map(|r| r.unwrap()).collect()
}

fn furthest(ecg: &Ecg, found: &crate::data::recording::Recording) -> f64 {
    (&ecg.samples_mv.mapv(f64::from) - &found.samples_mv).mapv(f64::abs).into_iter().fold(0.0, f64::max)
}

#[test]
fn every_format_comes_back_within_its_step() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format, step) in [
        ("a.hea", Format::Wfdb, 0.000_51),
        ("a.csv", Format::Csv, 1e-5),
        ("a.npy", Format::Npy, 1e-9),
        ("a.h5", Format::Hdf5, 1e-9),
    ] {
        for offset in [0.0, 40.0] {
            let (path, ecg) = (folder.path().join(name), ecg("a", offset));
            write(&path, format, std::slice::from_ref(&ecg)).unwrap();
            let found = if offset > 0.0 && format == Format::Npy { continue } else { read(&path) };
            assert_eq!((found.len(), found[0].id.as_str(), found[0].rate_hz), (1, "a", 500.0), "{name}");
            assert!(furthest(&ecg, &found[0]) < step, "{name}: {}", furthest(&ecg, &found[0]));
        }
    }
}

#[test]
fn standardised_leads_are_not_read_as_millivolts() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("z.h5");
    for (unit, is_read) in [("mV", true), ("sd", false)] {
        let about = About { unit, ..about() };
        let mut sink = EcgSink::begin(&path, Format::Hdf5, &about, &Provenance::now("t", "t".into())).unwrap();
        sink.put(&ecg("a", 0.0)).unwrap();
        sink.finish().unwrap();
        let again = open_ecg(Source::open(&path).unwrap(), &ReadOptions::default()).err();
        let encoded = crate::io::hdf5::EcgReader::open(Source::open(&path).unwrap()).err();
        for error in [again, encoded] {
            let said = error.map(|e| (e.to_string(), e.hint().map(str::to_owned)));
            assert_eq!(said.is_none(), is_read, "{unit}: {said:?}");
            let says =
                |(text, hint): (String, Option<String>)| text.contains("expected mV, found sd") && hint.is_some();
            assert!(said.is_none_or(says));
        }
    }
}

#[test]
fn a_folder_takes_many_records_and_one_file_takes_one() {
    let out = tempfile::tempdir().unwrap();
    let records = [ecg("one", 0.0), ecg("ward 3/two", 0.5)];
    for (format, ending) in [(Format::Wfdb, "hea"), (Format::Csv, "csv")] {
        let folder = out.path().join(format.name());
        write(&folder, format, &records).unwrap();
        for (name, ecg) in ["one", &file_name("ward 3/two")].iter().zip(&records) {
            assert!(furthest(ecg, &read(&folder.join(format!("{name}.{ending}")))[0]) < 0.000_51);
        }
        write(&folder, format, &records[..1]).unwrap(); // again, into the folder that is there
        let single = out.path().join(format!("x.{ending}"));
        let error = write(&single, format, &records).unwrap_err();
        assert!(error.to_string().contains("one record a file") && error.hint().is_some(), "{error}");
        assert_eq!(error.exit_code(), 2); // a wrong command line, which --keep-going does not forgive
        assert!(!single.exists());
        write(&folder, format, &[ecg("p.1", 0.0), ecg("p 1", 0.0), ecg("p_1", 0.0)]).unwrap();
        let error = write(&folder, format, &[ecg("p1", 0.0), ecg("p1", 0.0)]).unwrap_err();
        assert!(error.to_string().contains("unique names"), "{error}");
        assert!(write(&folder, format, &[]).is_err());
    }
    let mut left: Vec<_> = std::fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["csv", "wfdb"]);
    assert_eq!(
        EcgSink::begin("-".as_ref(), Format::Wfdb, &about(), &Provenance::now("t", "t".into()))
            .err()
            .unwrap()
            .exit_code(),
        2
    );
}

#[test]
fn a_wfdb_output_has_a_name_that_its_header_can_state() {
    let out = tempfile::tempdir().unwrap();
    let error = write(&out.path().join("my rec.hea"), Format::Wfdb, &[ecg("a", 0.0)]).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    write(&out.path().join("rec.dat"), Format::Wfdb, &[ecg("a", 0.0)]).unwrap();
    assert_eq!(read(&out.path().join("rec.hea"))[0].id, "rec");
    assert_eq!(std::fs::metadata(out.path().join("rec.dat")).unwrap().len(), 12 * 5000 * 2);
}
