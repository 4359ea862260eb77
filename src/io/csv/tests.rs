use super::*;
use crate::io::{open_ecg, Unit};

fn read_with(text: &str, options: &ReadOptions) -> Result<Recording> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p7.csv");
    std::fs::write(&path, text).unwrap();
    let (name, mut records) = open_ecg(Source::open(&path)?, options)?;
    assert_eq!(name, "CSV");
    records.next().unwrap()
}

fn read(text: &str) -> Result<Recording> {
    read_with(text, &ReadOptions { rate_hz: Some(500.0), ..ReadOptions::default() })
}

#[test]
fn reads_columns_as_leads_whatever_the_separator() {
    for text in ["I,II\n0.5,-1\n,1e-1\n", "# c\nI;II\n0.5; -1\nNaN;0.1\n\n", "\u{feff}I\tII\r\n0.5\t-1\r\nNA\t0.1\r\n"]
    {
        let record = read(text).unwrap();
        assert_eq!((record.id.as_str(), record.rate_hz), ("p7", 500.0));
        assert_eq!(record.leads, ["I", "II"], "{text:?}");
        assert_eq!(record.samples_mv.row(1).to_vec(), [-1.0, 0.1]);
        assert!(record.samples_mv[[0, 1]].is_nan());
    }
}

#[test]
fn times_in_seconds_give_the_rate_and_milliseconds_do_not() {
    let silent = ReadOptions::default();
    let record = read_with("Time (s),II\n0,1\n0.004,2\n0.008,3\n", &silent).unwrap();
    assert_eq!((record.rate_hz, record.leads.len()), (250.0, 1));
    for text in ["time,II\n0,1\n2,2\n4,3\n", "sample,II\n0,1\n0.004,2\n", "t,II\n0,1\n0.004,2\n0.1,3\n"] {
        let error = read_with(text, &silent).unwrap_err();
        assert!(error.to_string().contains("does not state its sampling rate"), "{error}");
    }
}

#[test]
fn names_from_the_command_line_serve_tables_without_header() {
    let leads = Some(vec!["I".to_owned(), "II".to_owned()]);
    let options = ReadOptions { rate_hz: Some(500.0), unit: Some(Unit::Microvolt), leads, ..ReadOptions::default() };
    let record = read_with("1000,2000\n3000,4000\n", &options).unwrap();
    assert_eq!(record.samples_mv.row(1).to_vec(), [2.0, 4.0]);
    assert_eq!(read_with("a,b\n1,2\n", &options).unwrap().leads, ["I", "II"]);
    assert_eq!(read_with("1000\t2000\n3000\t4000\n", &options).unwrap().samples_mv.ncols(), 2);
    assert_eq!(read_with(",0,1\n0,3000,4000\n", &options).unwrap().samples_mv.column(0).to_vec(), [3.0, 4.0]);
    assert!(read_with("0,1\n3000,4000\n", &ReadOptions { leads: None, ..options.clone() }).is_err());
    assert!(read_with("a,b,c\n1,2,3\n", &options).is_err());
    let error = read("0.1,0.2\n0.1,0.2\n").unwrap_err();
    assert!(error.hint().is_some_and(|h| h.contains("--leads")), "{error}");
}

#[test]
fn text_where_a_number_belongs_is_named_by_line_and_column() {
    let error = read("# c\nI,II\n1,2\n1,high\n").unwrap_err().to_string();
    assert!(error.contains("line 4, column 2 (II): expected a finite number, found \"high\""), "{error}");
    let error = read("I;II\n0,5;1\n").unwrap_err();
    assert_eq!(error.hint(), Some("write decimals with a point"));
    assert!(read("I,II\n1,inf\n").is_err());
}

#[test]
fn refuses_ragged_and_empty_tables() {
    let error = read("I,II\n1,2\n1\n").unwrap_err().to_string();
    assert!(error.contains("line 3: expected 2 cells, found 1"), "{error}");
    assert!(read("I,II\n").unwrap_err().to_string().contains("no samples"));
    assert!(read("").unwrap_err().to_string().contains("empty"));
    assert!(read(&"1,".repeat(70_000)).unwrap_err().to_string().contains("at most 65536 columns, found 70001"));
    assert!(read_with("I,II\n100,1\n-900,1\n", &ReadOptions { rate_hz: Some(500.0), ..Default::default() }).is_err());
}

/// All records of a table.
fn read_all(text: &str, options: &ReadOptions) -> Result<Vec<Recording>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p7.csv");
    std::fs::write(&path, text).unwrap();
    open_ecg(Source::open(&path)?, options)?.1.collect()
}

#[test]
fn a_row_a_lead_is_read_with_and_without_a_row_of_counts() {
    for text in ["I,0.5,-1,0\nII,1,,2\n", "lead,0,1,2\nI,0.5,-1,0\nII,1,NaN,2\n", ",0,0.002,0.004\nI;0.5;-1;0\n"] {
        let text = text.replace(';', ",");
        let record = read(&text).unwrap();
        assert_eq!(
            (record.leads[0].as_str(), record.samples_mv.row(0).to_vec()),
            ("I", vec![0.5, -1.0, 0.0]),
            "{text}"
        );
    }
    let error = read("I,1,2,3\nII,1,2\n").unwrap_err().to_string();
    assert!(error.contains("line 2: expected 4 cells, found 3"), "{error}");
    let error = read("I,1,2,3\nII,1,high,2\n").unwrap_err().to_string();
    assert!(error.contains("line 2, column 3: expected a finite number, found \"high\""), "{error}");
}

#[test]
fn a_row_a_sample_is_read_lead_by_lead_or_instant_by_instant() {
    let silent = ReadOptions::default();
    for text in [
        "lead,time,value\nI,0,1\nI,0.002,2\nII,0,3\nII,0.002,4\n",
        "time;Lead;Value\n0;I;1\n0;II;3\n0.002;I;2\n0.002;II;4\n",
    ] {
        let records = read_all(text, &silent).unwrap();
        assert_eq!((records[0].id.as_str(), records[0].rate_hz, records.len()), ("p7", 500.0, 1));
        assert_eq!(records[0].samples_mv.row(1).to_vec(), [3.0, 4.0], "{text}");
    }
    let text = "record_id,channel,value_uV\np1,I,1000\np1,I,2000\np2,I,3000\np2,I,4000\n";
    let records = read_all(text, &ReadOptions { rate_hz: Some(500.0), ..silent.clone() }).unwrap();
    let found: Vec<_> = records.iter().map(|r| (r.id.as_str(), r.samples_mv.row(0).to_vec())).collect();
    assert_eq!(found, [("p1", vec![1.0, 2.0]), ("p2", vec![3.0, 4.0])]);
}

#[test]
fn refuses_long_tables_that_are_out_of_order_or_ragged() {
    let error = |text: &str| read_all(text, &ReadOptions::default()).unwrap_err().to_string();
    let back = error("lead,time,value\nI,0.002,1\nI,0,2\n");
    assert!(back.contains("record p7, field line 3: expected lead I in order of time, found 0"), "{back}");
    let ragged = error("lead,time,value\nI,0,1\nI,0.002,2\nII,0,3\n");
    assert!(ragged.contains("the leads differ in length (expected 2 rows, found 1)"), "{ragged}");
    assert!(error("lead,time,value\nI,0\n").contains("line 2: expected 3 cells, found 2"));
    assert!(error("lead,time,value\nI,0,x\n").contains("expected a finite number, found \"x\""));
    let all: String = (0..1001).map(|i| format!("L{i},0,1\n")).collect();
    assert!(error(&format!("lead,time,value\n{all}")).contains("at most 1000 leads"));
}

#[test]
fn what_a_table_states_wins_and_a_contradiction_is_told() {
    let options = |rate_hz, unit| ReadOptions { rate_hz, unit, ..ReadOptions::default() };
    let says = |text: &str, options: &ReadOptions, words: &str| {
        let error = read_all(text, options).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let (wide, long) = ("time,I\n0,1\n0.004,2\n", "lead,time,value_uV\nI,0,1000\nI,0.004,2000\n");
    for text in [wide, long] {
        let words = "--rate is not what the file states (expected 250 Hz, found 500 Hz)";
        says(text, &options(Some(500.0), None), words);
        assert_eq!(read_all(text, &options(Some(250.0), None)).unwrap()[0].rate_hz, 250.0);
    }
    let words = "--units is not what the file states (expected uV, found mV)";
    says(long, &options(None, Some(Unit::Millivolt)), words);
    let leads = Some(vec!["II".to_owned(), "I".to_owned()]);
    let words = "--leads is not what the file states (expected I,II, found II,I)";
    says("I,II\n1,2\n1,2\n", &ReadOptions { leads, ..options(Some(500.0), None) }, words);
}

#[test]
fn a_unit_in_the_comments_is_obeyed_and_standard_deviations_are_refused() {
    let options = |unit| ReadOptions { rate_hz: Some(500.0), unit, ..ReadOptions::default() };
    let table =
        |unit: &str| format!("# tool: ecg-prep 0.1.0\n# unit: {unit}; rate: 500 Hz\n# step: x\nI,II\n1,2\n1,2\n");
    let first = |text: &str, unit| read_with(text, &options(unit)).unwrap().samples_mv[[0, 0]];
    assert_eq!((first(&table("uV"), None), first(&table("mV"), None)), (0.001, 1.0));
    assert_eq!(first(&table("as the nurse said"), Some(Unit::Volt)), 1000.0);
    assert_eq!(first("I,II\n# unit: uV\n1,2\n", None), 1.0); // not before the table
    let error = read_with(&table("sd"), &options(None)).unwrap_err();
    assert!(error.to_string().ends_with("p7.csv, field unit: expected mV, found sd"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("the original ECGs")), "{error}");
    let error = read_with(&table("mV"), &options(Some(Unit::Microvolt))).unwrap_err().to_string();
    assert!(error.contains("--units is not what the file states (expected mV, found uV)"), "{error}");
}
