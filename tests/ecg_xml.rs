//! XML ECGs (CardioSoft, MUSE, Sierra, aECG): real files against a decode by hand (testdata/golden/xml_golden.py) and
//! against other formats made of the same signals; small files typed here for what real ones do not show; damaged ones.

use std::fs;
use std::path::Path;

use ecgflow::data::recording::Recording;
use ecgflow::io::ReadOptions;
use ecgflow::signal::prepare::{prepare, PrepareOptions};
use ecgflow::signal::preset::Preset;
use serde_json::Value;

use crate::formats::{assert_equals_golden, peak_memory, read_all, read_one, root, shared, Random};
use crate::program::refuses;

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("testdata/golden/xml.json")).unwrap()).unwrap()
}

#[test]
fn real_xml_files_equal_a_decode_by_hand() {
    let Some(folder) = shared() else { return };
    let golden = golden();
    let records = golden["records"].as_object().unwrap();
    assert_eq!(records.len(), 8);
    for (name, golden) in records {
        assert_equals_golden(&read_one(&folder.join(name)), golden, name);
    }
}

/// Twelve standard leads in mV, ten seconds, nothing filtered.
fn raw(path: &Path) -> ndarray::Array2<f32> {
    let options = PrepareOptions { preset: Preset::Raw, ..PrepareOptions::default() };
    prepare(read_one(path), &options).unwrap().samples_mv
}

#[test]
fn muse_and_cardiosoft_equal_wfdb_made_of_the_same_signals() {
    let Some(folder) = shared() else { return };
    // The WFDB files are rounded to 1 uV (muse2: 0.1 uV), so half a step apart at most; a lead derived here from exact
    // leads may differ by as much again.
    let pairs = [
        ("muse/braveheart_example1.xml", "derived/muse1_16.hea", 0.0011),
        ("muse/braveheart_example2.xml", "derived/muse2_24_reordered.hea", 0.00011),
        ("muse/guangxi_teaching_sinus_rhythm.xml", "derived/guangxi_16.hea", 0.0011),
        ("cardiosoft/ecgprocess_example1.xml", "derived/cardiosoft1_16.hea", 1e-6),
    ];
    for (xml, wfdb, tolerance) in pairs {
        let distance = (&raw(&folder.join(xml)) - &raw(&folder.join(wfdb))).iter().fold(0f32, |m, d| m.max(d.abs()));
        assert!(distance <= tolerance, "{xml}: {distance} mV");
    }
}

#[test]
fn sierra_equals_the_aecg_of_the_same_recording_but_for_its_notch() {
    let apart = &golden()["sierra_against_aecg"];
    assert!(apart["rms_lsb"].as_f64().unwrap() < 1.0, "{apart}");
    assert!(apart["rms_lsb_without_mains"].as_f64().unwrap() < 0.75, "{apart}");
    let Some(folder) = shared() else { return };
    let [sierra, aecg] =
        ["orig", "converted"].map(|kind| read_one(&folder.join(format!("sierra/ad4d3d80-d165_1-04_{kind}.xml"))));
    let (a, b) =
        (sierra.samples_mv.slice(ndarray::s![.., 500..5250]), aecg.samples_mv.slice(ndarray::s![.., 500..5250]));
    let squares = (&a - &b).mapv(|d| (d / 0.005).powi(2)).mean_axis(ndarray::Axis(1)).unwrap();
    assert!(squares.iter().all(|s| s.sqrt() < 1.0), "{squares}");
}

// ---- Files typed here -----------------------------------------------------------------------------------------------

const LEADS: [&str; 12] = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];

/// A CardioSoft file of 4 samples a lead; `change` replaces text in it.
fn cardiosoft(change: &[(&str, &str)]) -> Vec<u8> {
    let leads: String =
        (0..12).map(|k| format!("<WaveformData lead=\"{}\">\t{k},-{k},3,\n\t4</WaveformData>\n", LEADS[k])).collect();
    changed(
        format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\" ?>\r\n<CardiologyXML>\n<FamilyName>Mu&ller\u{a7}</FamilyName>\n\
             <MedianSamples><Resolution units=\"uVperLsb\">9</Resolution><WaveformData lead=\"I\">7,7</WaveformData></MedianSamples>\n\
             <StripData><NumberOfLeads>12</NumberOfLeads><SampleRate units=\"Hz\">500</SampleRate>\n\
             <ChannelSampleCountTotal>4</ChannelSampleCountTotal><Resolution units=\"uVperLsb\">5</Resolution>\n{leads}\
             <ArrhythmiaResults><Time units=\"ms\">800</Time></ArrhythmiaResults></StripData></CardiologyXML>\n"
        ),
        change,
    )
}

/// A MUSE file of an averaged beat and a rhythm of 3 samples a lead: 1, -2, 256.
fn muse(change: &[(&str, &str)]) -> Vec<u8> {
    let lead = |name: &str, data: &str, samples: usize| {
        format!(
            "<LeadData><LeadTimeOffset>0</LeadTimeOffset><LeadSampleCountTotal>{samples}</LeadSampleCountTotal>\
             <LeadAmplitudeUnitsPerBit>4.88</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>\
             <LeadID>{name}</LeadID><LeadSampleSize>2</LeadSampleSize><LeadDataCRC32>0</LeadDataCRC32>\n\
             <WaveFormData>\n{data}\n</WaveFormData></LeadData>\n"
        )
    };
    let leads: String = ["I", "II"].map(|name| lead(name, "AQD+/\nwAB", 3)).concat();
    let beat = lead("I", "CQA=", 1);
    changed(
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE RestingECG SYSTEM \"restecg.dtd\">\n<RestingECG>\n\
             <Waveform><WaveformType>Median</WaveformType><NumberofLeads>1</NumberofLeads><SampleBase>500</SampleBase>{beat}</Waveform>\n\
             <Waveform><WaveformType>Rhythm</WaveformType><NumberofLeads>2</NumberofLeads><SampleType>CONTINUOUS_SAMPLES</SampleType>\n\
             <SampleBase>25</SampleBase><SampleExponent>1</SampleExponent>{leads}</Waveform></RestingECG>"
        ),
        change,
    )
}

/// An aECG of two leads and 3 samples, a pressure and an averaged beat.
fn aecg(change: &[(&str, &str)]) -> Vec<u8> {
    let sequence = |code: &str, unit: &str, digits: &str| {
        format!(
            "<component><sequence><code code=\"{code}\"/><value xsi:type=\"SLIST_PQ\"><origin value=\"1\" unit=\"{unit}\"/>\
             <scale value=\"2.5\" unit=\"{unit}\"/><digits>{digits}</digits></value></sequence></component>\n"
        )
    };
    let time = "<component><sequence><code code=\"TIME_RELATIVE\"/><value xsi:type=\"GLIST_PQ\"><head value=\"0\" unit=\"s\"/>\
                <increment value=\"4\" unit=\"ms\"/></value></sequence></component>\n";
    let leads = sequence("MDC_ECG_LEAD_I", "uV", "2 -4\n6")
        + &sequence("MDC_PRESS", "mm[Hg]", "1 2")
        + &sequence("MDC_ECG_LEAD_II", "mV", "0 1 2");
    let beat = sequence("MDC_ECG_LEAD_I", "uV", "9 9");
    changed(
        format!(
            "<h:AnnotatedECG xmlns:h=\"urn:hl7-org:v3\" xmlns:xsi=\"x\">\n<code code=\"93000\"/>\n<component><series><code code=\"RHYTHM\"/>\n\
             <component><sequenceSet>{time}{leads}</sequenceSet></component>\n<derivation><derivedSeries><code code=\"REPRESENTATIVE_BEAT\"/>\
             <component><sequenceSet>{time}{beat}</sequenceSet></component></derivedSeries></derivation></series></component></h:AnnotatedECG>"
        ),
        change,
    )
}

fn changed(mut text: String, change: &[(&str, &str)]) -> Vec<u8> {
    for (from, to) in change {
        assert!(text.contains(from), "no {from} in {text}");
        text = text.replacen(from, to, 1);
    }
    encoding(&text)
}

/// ISO-8859-1, as the declaration of the CardioSoft file says; the others are ASCII.
fn encoding(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn read(bytes: &[u8]) -> ecgflow::Result<Vec<Recording>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("7_20205_2_0.bin"); // the name tells nothing: sniffing goes by content
    fs::write(&path, bytes).unwrap();
    read_all(&path, &ReadOptions::default())
}

fn says(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn cardiosoft_gives_the_strip_and_not_the_averaged_beat() {
    let record = read(&cardiosoft(&[])).unwrap().remove(0);
    assert_eq!((record.id.as_str(), record.rate_hz), ("7_20205_2_0", 500.0));
    assert_eq!(record.leads, LEADS);
    assert_eq!(record.samples_mv.row(11).to_vec(), [0.055, -0.055, 0.015, 0.02]);
}

#[test]
fn muse_gives_the_rhythm_and_not_the_averaged_beat() {
    for late in [false, true] {
        // The type of a block may stand after its leads.
        let kind = "<WaveformType>Rhythm</WaveformType>";
        let change = if late {
            vec![
                (kind, ""),
                ("</Waveform></RestingECG>", "<WaveformType>Rhythm</WaveformType></Waveform></RestingECG>"),
            ]
        } else {
            vec![]
        };
        let record = read(&muse(&change)).unwrap().remove(0);
        assert_eq!((record.rate_hz, record.leads.join(" ").as_str()), (250.0, "I II"));
        let expected = [0.00488, -0.00976, 1.24928];
        assert!(record
            .samples_mv
            .row(1)
            .iter()
            .zip(expected)
            .all(|(found, expected)| (found - expected).abs() < 1e-12));
    }
}

#[test]
fn aecg_gives_voltages_of_the_rhythm_series_only() {
    let record = read(&aecg(&[])).unwrap().remove(0);
    assert_eq!((record.id.as_str(), record.rate_hz), ("7_20205_2_0", 250.0));
    assert_eq!(record.leads, ["MDC_ECG_LEAD_I", "MDC_ECG_LEAD_II"]);
    let expected = [[0.006, -0.009, 0.016], [1.0, 3.5, 6.0]];
    assert!(record.samples_mv.iter().zip(expected.as_flattened()).all(|(a, b)| (a - b).abs() < 1e-12), "{record:?}");
}

#[test]
fn several_sets_of_an_aecg_are_several_records() {
    let one = String::from_utf8(aecg(&[])).unwrap();
    let start = one.find("<component><sequenceSet>").unwrap();
    let end = one.find("<derivation>").unwrap();
    let two = format!("{}{}{}", &one[..end], &one[start..end], &one[end..]);
    let ids: Vec<String> = read(two.as_bytes()).unwrap().into_iter().map(|r| r.id).collect();
    assert_eq!(ids, ["7_20205_2_0_0", "7_20205_2_0_1"]);
}

#[test]
fn each_fault_of_a_cardiosoft_file_is_named() {
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("<SampleRate units=\"Hz\">500</SampleRate>", "")], "field SampleRate: the strip lacks an element"),
        (
            &[("<Resolution units=\"uVperLsb\">5", "<Resolution units=\"nVperLsb\">5")],
            "unknown unit (expected uVperLsb, found nVperLsb)",
        ),
        (
            &[("Total>4<", "Total>5000<")],
            "lead I (line 7): the lead is incomplete (expected 5000 samples (ChannelSampleCountTotal), found 4)",
        ),
        (
            &[("Leads>12<", "Leads>1000000000<")],
            "leads are missing (expected 1000000000 leads (NumberOfLeads), found 12)",
        ),
        (&[("\t1,-1", "\t1,high")], "lead II, sample 1 (line 9): expected a number, found \"high\""),
        (&[("\t1,-1", "\t1,,-1")], "lead II, sample 1 (line 9): expected a number, found \"\""),
        (&[("<StripData>", "<Strip>"), ("</StripData>", "</Strip>")], "the file holds no ten-second strip"),
        (&[("</StripData>", "</StripData><StripData></StripData>")], "expected one strip, found a second one"),
        (&[("4</WaveformData>\n<ArrhythmiaResults>", "4,5</WaveformData>\n<ArrhythmiaResults>")], "expected 4 samples"),
    ];
    for (change, expected) in cases {
        let found = says(&cardiosoft(change));
        assert!(
            found.contains("reading CardioSoft XML") && found.contains("7_20205_2_0.bin") && found.contains(expected),
            "{expected}:\n{found}"
        );
    }
}

#[test]
fn each_fault_of_a_muse_file_is_named() {
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("Rhythm", "Median")], "the file holds no rhythm (expected a Waveform of WaveformType Rhythm, found Median, Median)"),
        (&[("AQD+/\nwAB", "AQD+/\nw!B")], "the samples are damaged (expected base64"),
        (&[("AQD+/\nwAB", "AQD+")], "lead I, WaveFormData (line 10): the lead is incomplete (expected 3 samples (LeadSampleCountTotal), found 3 bytes)"),
        (&[("Leads>2<", "Leads>8<")], "leads are missing (expected 8 leads (NumberofLeads), found 2)"),
        (&[("Base>25<", "Base>fast<")], "field SampleBase (line 10): expected a number, found \"fast\""),
        (&[("CONTINUOUS_SAMPLES", "DIFFERENCES")], "expected CONTINUOUS_SAMPLES"),
        (&[("</SampleExponent><LeadData><LeadTimeOffset>0", "</SampleExponent><LeadData><LeadTimeOffset>2500")], "field LeadTimeOffset"),
        (&[("CRC32>0<", "CRC32>0<"), ("</SampleExponent><LeadData>", "</SampleExponent><LeadData><LeadOff/>")], ""),
        (&[("3</LeadSampleCountTotal>", "99999999999999999999</LeadSampleCountTotal>")], "expected a whole number, zero or more"),
    ];
    for (change, expected) in cases {
        let bytes = muse(change);
        if expected.is_empty() {
            assert!(read(&bytes).is_ok());
            continue;
        }
        let found = says(&bytes);
        assert!(found.contains("reading MUSE XML") && found.contains(expected), "{expected}:\n{found}");
    }
    let damaged = String::from_utf8(muse(&[])).unwrap().replace("CRC32>0<", "CRC32>17<");
    assert!(says(damaged.as_bytes())
        .contains("lead I, LeadDataCRC32 (line 10): the checksum does not match (expected 17, found "));
    let volts = String::from_utf8(muse(&[])).unwrap().replace("MICROVOLTS", "FURLONGS");
    assert!(says(volts.as_bytes()).contains("expected MICROVOLTS or MILLIVOLTS, found \"FURLONGS\""));
}

#[test]
fn each_fault_of_an_aecg_is_named() {
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[("\"RHYTHM\"", "\"BEAT\"")], "the file holds no rhythm"),
        (&[("\"TIME_RELATIVE\"", "\"HOURS\"")], "the set does not state its rate"),
        (&[("value=\"4\" unit=\"ms\"", "value=\"0\" unit=\"ms\"")], "expected an increment above zero"),
        (&[("unit=\"ms\"", "unit=\"d\"")], "unknown unit (expected s, ms or us, found \"d\")"),
        (&[("2 -4\n6", "2 -4 x")], "sequence MDC_ECG_LEAD_I, digit 2"),
        (&[("2 -4\n6", "2 -4")], "the leads differ in length (expected 2 samples, found 3)"),
    ];
    for (change, expected) in cases {
        let found = says(&aecg(change));
        assert!(found.contains("reading HL7 aECG") && found.contains(expected), "{expected}:\n{found}");
    }
}

/// A Sierra file around compressed samples.
fn sierra(attributes: &str, version: &str, data: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><restingecgdata><documentinfo><documentversion>{version}</documentversion></documentinfo>\n\
         <signalcharacteristics><samplingrate>500</samplingrate><resolution>5</resolution></signalcharacteristics>\n\
         <parsedwaveforms {attributes}>{data}</parsedwaveforms></restingecgdata>"
    )
    .into_bytes()
}

#[test]
fn each_fault_of_a_sierra_file_is_named() {
    let known = "compression=\"XLI\" leadlabels=\"I II\" durationperchannel=\"8\"";
    let cases = [
        (sierra(known, "1.05", ""), "expected 1.03 or 1.04 or 1.04.01, found \"1.05\""),
        (
            sierra(known, "1.04", "AAAA"),
            "lead I (line 3): the compressed samples are damaged (expected a chunk header of 8 bytes, found 3 bytes)",
        ),
        (sierra(known, "1.04", "/////wEAAAA="), "expected a chunk of 4294967295 bytes, found 0 bytes"),
        (sierra(known, "1.04", "A?"), "the samples are damaged (expected base64"),
        (sierra("durationperchannel=\"8\"", "1.04", ""), "expected XLI, found \"none\""),
        (
            sierra("compression=\"XLI\" durationperchannel=\"8\"", "1.03", ""),
            "the file does not name its leads (expected STD-12 or 10-WIRE",
        ),
        (
            sierra("compression=\"XLI\" leadlabels=\"I II\" durationperchannel=\"1e18\"", "1.04", ""),
            "no length of a resting ECG",
        ),
        (
            sierra("compression=\"XLI\" leadlabels=\"I II\" numberofleads=\"12\" durationperchannel=\"8\"", "1.04", ""),
            "expected 12 names (numberofleads), found 2",
        ),
        (b"<restingecgdata></restingecgdata>".to_vec(), "the file holds no rhythm"),
    ];
    for (bytes, expected) in cases {
        let found = says(&bytes);
        assert!(found.contains("reading Sierra XML") && found.contains(expected), "{expected}:\n{found}");
    }
}

#[test]
fn a_truncated_xml_file_is_refused_by_the_program() {
    let says = [
        "ecg-prep: error: reading CardioSoft XML: a.xml",
        "malformed XML",
        "the end of the file inside <WaveformData>",
        "hint: copy or export the file again",
    ];
    refuses("ecg-prep a.xml -o out.h5", 1, &says, |f| {
        let whole = cardiosoft(&[]);
        let end = String::from_utf8_lossy(&whole).find("V5").unwrap() + 8;
        fs::write(f.join("a.xml"), &whole[..end]).unwrap();
    });
}

#[test]
fn files_too_large_for_an_ecg_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.xml");
    fs::write(&path, "<CardiologyXML><StripData><WaveformData lead=\"I\">").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len((64 << 20) + 1).unwrap(); // sparse
    let error = read_all(&path, &ReadOptions::default()).unwrap_err().to_string();
    assert!(
        error.contains("the file is too large for an ECG (expected at most 67108864 bytes, found more)"),
        "{error}"
    );
    let many = "1,".repeat((1 << 22) + 1);
    let found = says(&cardiosoft(&[("\t0,-0", &many)]));
    assert!(found.contains("there are too many samples for an ECG (expected at most 4194304, found more)"), "{found}");
}

#[test]
fn xml_of_another_kind_is_an_unknown_format() {
    let found = says(b"<?xml version=\"1.0\"?>\n<svg width=\"1\"/>");
    assert!(
        found.contains("unknown format") && found.contains("CardioSoft XML, MUSE XML, Sierra XML, HL7 aECG"),
        "{found}"
    );
}

#[test]
fn damaged_xml_is_an_error_not_a_panic_and_takes_no_memory() {
    let mut seeds = vec![
        cardiosoft(&[]),
        muse(&[]),
        aecg(&[]),
        sierra("compression=\"XLI\" leadlabels=\"I\" durationperchannel=\"4\"", "1.04", "BQAAAAEAAAAAAA/8AA=="),
    ];
    if let Some(folder) = shared() {
        seeds.push(fs::read(folder.join("sierra/129DYPRG.XML")).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.xml");
    let mut random = Random(11);
    let before = peak_memory();
    let (mut good, mut bad) = (0, 0);
    for (k, seed) in seeds.iter().enumerate() {
        for _ in 0..if k < 4 { 1500 } else { 150 } {
            let _ = fs::remove_file(&path); // writing anew is faster than overwriting
            fs::write(&path, random.damage(seed)).unwrap();
            match read_all(&path, &ReadOptions { rate_hz: Some(500.0), ..ReadOptions::default() }) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
    }
    assert!(good > 100 && bad > 1000, "{good} read, {bad} refused: the damage is too strong or too weak");
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 256 << 20, "memory grew by {grown} bytes");
}
