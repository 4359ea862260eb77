use super::*;
use crate::io::open_ecg;

/// Writes a header and one signal file and reads them back.
fn read_pair(header: &str, data: &[u8]) -> Result<Recording> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.hea");
    std::fs::write(&path, header).unwrap();
    std::fs::write(folder.path().join("r.dat"), data).unwrap();
    let (name, mut records) = open_ecg(Source::open(&path)?, &ReadOptions::default())?;
    assert_eq!(name, "WFDB");
    records.next().unwrap()
}

fn words(values: &[i16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn converts_integers_to_millivolt_and_marks_invalid_samples() {
    let header = "r 2 500 3\nr.dat 16 200(10)/uV 16 0 210 -32558 0 I\nr.dat 16 2/V 16 1 1 4 0 II\n";
    let record = read_pair(header, &words(&[210, 1, -32768, 2, 0, 1])).unwrap();
    assert_eq!((record.id.as_str(), record.rate_hz), ("r", 500.0));
    assert_eq!(record.leads, ["I", "II"]);
    assert_eq!(record.samples_mv[[0, 0]], 1e-3);
    assert!(record.samples_mv[[0, 1]].is_nan());
    assert_eq!(record.samples_mv[[0, 2]], -10.0 / 200.0 * 1e-3);
    assert_eq!(record.samples_mv.row(1).to_vec(), [0.0, 500.0, 0.0]);
}

#[test]
fn leaves_out_signals_that_are_no_voltage() {
    let header = "r 2 500 2\nr.dat 16 1/mmHg 16 0 0 4 0 ABP\nr.dat 16 1/mV 16 0 0 6 0 I\n";
    let record = read_pair(header, &words(&[1, 2, 3, 4])).unwrap();
    assert_eq!(record.leads, ["I"]);
    assert_eq!(record.samples_mv.row(0).to_vec(), [2.0, 4.0]);
    let error = read_pair("r 1 500 2\nr.dat 16 1/mmHg\n", &words(&[1, 2])).unwrap_err();
    assert!(error.to_string().contains("no signal is a voltage"), "{error}");
}

#[test]
fn moves_skewed_signals_earlier() {
    let record = read_pair("r 2 500 3\nr.dat 16 1\nr.dat 16:1 1\n", &words(&[1, 10, 2, 20, 3, 30])).unwrap();
    assert_eq!(record.samples_mv.row(0).to_vec(), [1.0, 2.0, 3.0]);
    assert_eq!(record.samples_mv.row(1).to_vec()[..2], [20.0, 30.0]);
    assert!(record.samples_mv[[1, 2]].is_nan());
    let all_gone = read_pair("r 1 500 3\nr.dat 16:18446744073709551615 1\n", &words(&[1, 2, 3])).unwrap();
    assert!(all_gone.samples_mv.iter().all(|v| v.is_nan()));
}

#[test]
fn several_samples_a_frame_raise_the_rate() {
    let header = "r 2 250 2\nr.dat 16x2 1 16 0 0 10 0 II\nr.dat 16 1 16 0 0 9 0 RESP\n";
    let record = read_pair(header, &words(&[1, 2, 4, 3, 4, 5])).unwrap();
    assert_eq!((record.rate_hz, record.leads.as_slice()), (500.0, ["II".to_owned()].as_slice()));
    assert_eq!(record.samples_mv.row(0).to_vec(), [1.0, 2.0, 3.0, 4.0]);
    assert!(record.notes.is_empty());
}

#[test]
fn leads_of_several_rates_are_averaged_frame_by_frame() {
    let header = "r 2 250 2\nr.dat 16x2 1 16 0 0 10 0 II\nr.dat 16 1 16 0 0 9 0 I\n";
    let record = read_pair(header, &words(&[1, 2, 4, 3, 4, 5])).unwrap();
    assert_eq!((record.rate_hz, record.notes.len()), (250.0, 1));
    assert_eq!(record.samples_mv.row(0).to_vec(), [1.5, 3.5]);
    assert_eq!(record.samples_mv.row(1).to_vec(), [4.0, 5.0]);
}

#[test]
fn differences_begin_at_the_first_value_of_the_header() {
    let record = read_pair("r 2 500 3\nr.dat 8 1 8 0 5 18 0 I\nr.dat 8 1 8 0 -1 -7 0 II\n", &[0, 255, 1, 255, 1, 1]);
    let record = record.unwrap();
    assert_eq!(record.samples_mv.row(0).to_vec(), [5.0, 6.0, 7.0]);
    assert_eq!(record.samples_mv.row(1).to_vec(), [-2.0, -3.0, -2.0]);
}

/// Writes files and reads the first of them.
fn read_files(files: &[(&str, &[u8])]) -> Result<Recording> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    open_ecg(Source::open(&folder.path().join(files[0].0))?, &ReadOptions::default())?.1.next().unwrap()
}

#[test]
fn joins_segments_and_leaves_gaps_unknown() {
    let data = words(&[1, 2, 3, 4]);
    let files: [(&str, &[u8]); 4] = [
        ("r.hea", b"r/3 2 500 5\na 2\n~ 1\nb 2\n"),
        ("a.hea", b"a 2 500 2\nx.dat 16 1 16 0 0 4 0 I\nx.dat 16 1 16 0 0 6 0 II\n"),
        ("b.hea", b"b 2 500 2\nx.dat 16 2 16 0 0 4 0 I\nx.dat 16 2 16 0 0 6 0 II\n"),
        ("x.dat", &data),
    ];
    let record = read_files(&files).unwrap();
    assert_eq!((record.id.as_str(), record.leads.join(" ")), ("r", "I II".to_owned()));
    let row = record.samples_mv.row(0).to_vec();
    assert_eq!((&row[..2], &row[3..]), (&[1.0, 3.0][..], &[0.5, 1.5][..]));
    assert!(row[2].is_nan());
}

#[test]
fn segments_keep_signals_of_one_name_apart() {
    let head = |name: &str| format!("{name} 2 500 2\nx.dat 16 1 16 0 0 4 0 ECG\nx.dat 16 1 16 0 0 6 0 ECG\n");
    let data = words(&[1, 2, 3, 4]);
    for main in ["r/2 2 500 4\na 2\nb 2\n", "r/3 2 500 4\nl 0\na 2\nb 2\n"] {
        let layout = "l 2 500 0\n~ 0 1 16 0 0 0 0 ECG\n~ 0 1 16 0 0 0 0 ECG\n";
        let record = read_files(&[
            ("r.hea", main.as_bytes()),
            ("l.hea", layout.as_bytes()),
            ("a.hea", head("a").as_bytes()),
            ("b.hea", head("b").as_bytes()),
            ("x.dat", &data),
        ]);
        let record = record.unwrap();
        assert_eq!(record.leads, ["ECG", "ECG"]);
        assert_eq!(record.samples_mv.row(0).to_vec(), [1.0, 3.0, 1.0, 3.0], "{main}");
        assert_eq!(record.samples_mv.row(1).to_vec(), [2.0, 4.0, 2.0, 4.0], "{main}");
    }
}

#[test]
fn refuses_segments_that_do_not_fit() {
    let error = |main: &str, second: &str| {
        let first = b"a 1 500 2\nx.dat 16 1 16 0 0 3 0 I\n";
        let files: [(&str, &[u8]); 4] =
            [("r.hea", main.as_bytes()), ("a.hea", first), ("b.hea", second.as_bytes()), ("x.dat", &[1, 0, 2, 0])];
        read_files(&files).unwrap_err().to_string()
    };
    let fits = "b 1 500 2\nx.dat 16 1 16 0 0 3 0 I\n";
    assert!(error("r/2 1 500 5\na 2\nb 2\n", fits).contains("expected 5 samples, found 4"));
    assert!(error("r/2 1 500\na 2\nb 3\n", fits).contains("record b, field samples: expected 3 samples, found 2"));
    assert!(error("r/2 1 500\na 2\nb 2\n", &fits.replace("500", "250")).contains("expected 500 Hz, found 250"));
    assert!(error("r/2 1 500\na 2\nb 2\n", &fits.replace(" I\n", " II\n")).contains("expected I, found II"));
    assert!(error("r/2 1 500\na 2\nb 2\n", "b/1 1 500\na 2\n").contains("segments within a segment"));
    assert!(error("r/2 1 500\na 2\n~ 999999999999\n", fits).contains("far longer than its signal files"));
    assert!(error("r/2 1 500\na 2\n~ 18446744073709551615\n", fits).contains("far longer than its signal files"));
    assert!(error("r/2 1 500\na 2\n~ 4000000\n", fits).contains("expected at most 3145744 values for 4 bytes"));
    assert!(error("r/1 1 500\n~ 100\n", fits).contains("every segment is a gap"));
    let all = format!("r/90000 1 500\n{}", "a 2000\n".repeat(90_000));
    assert!(error(&all, fits).contains("far longer"));
}

#[test]
fn a_damaged_flac_stream_is_refused() {
    let read = |data: &[u8]| {
        read_files(&[("r.hea", b"r 1 500 5000\nr.dat 508 1 8 0 0 0 0 I\n"), ("r.dat", data)]).unwrap_err().to_string()
    };
    assert!(read(b"no flac").contains("malformed FLAC stream"));
    assert!(read(b"fLaC\x80\xff\xff\xff").contains("malformed FLAC stream"));
}

#[test]
fn compressed_files_may_not_unfold_to_too_many_samples() {
    let whole = "r 1 500 67108865\nr.dat 508 1 8 0 0 0 0 I\n".to_owned();
    let files = "r.dat 508 1 8 0 0 0 0 I\n".repeat(17);
    for (header, says) in [
        (whole.clone(), "expected at most 67108864 samples, found 67108865"),
        (format!("r 17 500 4000000\n{files}"), "expected at most 67108864 samples, found 68000000"),
        (whole.replace("67108865", "67108864"), "malformed FLAC stream"),
        (whole.replace("67108865", "67108864").replace(" 508 ", " 508+1 "), "found 67108865"),
    ] {
        let error = read_files(&[("r.hea", header.as_bytes()), ("r.dat", b"no flac")]).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn infers_an_absent_length_from_the_file() {
    let record = read_pair("r 1 500\nr.dat 16 1\n", &words(&[1, 2, 3])).unwrap();
    assert_eq!(record.samples_mv.dim(), (1, 3));
    let error = read_pair("r 1 500\nr.dat 16 1\n", &[]).unwrap_err();
    assert!(error.to_string().contains("no samples"), "{error}");
}

#[test]
fn a_wrong_checksum_names_file_signal_expected_and_found() {
    let error = read_pair("r 1 500 2\nr.dat 16 1 16 0 1 99 0 II\n", &words(&[1, 2])).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("r.dat") && text.contains("field II"), "{text}");
    assert!(text.contains("expected 99, found 3") && error.hint().is_some(), "{text}");
}

#[test]
fn a_truncated_file_names_expected_and_found_bytes() {
    let error = read_pair("r 2 500 5000\nr.dat 16 1\nr.dat 16 1\n", &[0; 100]).unwrap_err().to_string();
    assert!(error.contains("expected 20000 bytes") && error.contains("found 100 bytes"), "{error}");
    let error = read_pair("r 1 500 5\nr.dat 16+24 1\n", &[0; 30]).unwrap_err().to_string();
    assert!(error.contains("expected 34 bytes"), "{error}");
}

#[test]
fn believes_no_size_before_comparing_it_with_the_file() {
    for (frames, format) in [("1000000000000", "16"), ("18446744073709551615", "212x18446744073709551615")] {
        let header = format!("r 2 500 {frames}\nr.dat {format} 1\nr.dat {format} 1\n");
        let error = read_pair(&header, &[0; 100]).unwrap_err().to_string();
        assert!(error.contains("shorter than its header says"), "{error}");
    }
}

#[test]
fn an_absent_signal_file_is_named_with_a_hint() {
    let error = read_pair("r 1 500 2\nother.dat 16 1\n", &[]).unwrap_err();
    assert!(error.to_string().contains("other.dat"), "{error}");
    assert_eq!(error.hint(), Some("put other.dat into the folder of the header"));
}

#[test]
fn takes_the_record_name_or_the_signal_file_for_the_header() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("r.hea"), "r 1 500 2\nr.dat 16 1\n").unwrap();
    std::fs::write(folder.path().join("r.dat"), words(&[1, 2])).unwrap();
    for name in ["r", "r.dat", "r.hea"] {
        let source = Source::open(&folder.path().join(name)).unwrap();
        let (format, mut records) = open_ecg(source, &ReadOptions::default()).unwrap();
        assert_eq!((format, records.next().unwrap().unwrap().samples_mv.len()), ("WFDB", 2), "{name}");
    }
}

#[test]
fn a_header_from_a_pipe_is_refused_with_a_hint() {
    let head = b"r 1 500 2\nr.dat 16 1\n";
    let source = Source::spool(&mut &head[..], "<stdin>").unwrap();
    let error = open_ecg(source, &ReadOptions::default()).err().unwrap();
    assert!(error.hint().is_some_and(|h| h.contains(".hea")), "{error}");
}
