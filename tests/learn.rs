//! `cmr-pretrain`, `cmr-phenotype train` and `cmr-classify train` as programs: exact resume, folds, bad tables.

use std::path::Path;

use ecgflow::data::cine::Cine;
use ecgflow::data::features::Features;
use ecgflow::data::Provenance;
use ecgflow::io::hdf5::{CineWriter, FeaturesWriter};
use ecgflow::io::Sink;
use ecgflow::random::Stream;
use ndarray::{Array1, Array2, Array3};

use crate::program::{names, refuses, run, succeed, text};

/// Radius of a participant's disc, pixels.
fn radius(id: &str) -> f64 {
    Stream::new("test disc", 0, id, 0).between(6.0, 13.0)
}

/// A disc that shrinks and grows, somewhere about the middle; `draw` moves it.
fn cine(id: &str, source: &str, draw: u32) -> Cine {
    let mut stream = Stream::new("test place", 0, source, draw);
    let (y0, x0) = (15.5 + stream.normal(), 15.5 + stream.normal());
    let size = |t: usize| radius(source) * (1.0 - 0.3 * (t as f64 / 8.0 * std::f64::consts::PI).sin());
    let pixel = |(t, y, x): (usize, usize, usize)| {
        let away = (y as f64 - y0).hypot(x as f64 - x0);
        (1.0 / (1.0 + (away - size(t)).exp())) as f32
    };
    let clip = Array3::from_shape_fn((8, 32, 32), pixel);
    let (id, source) = (id.to_owned(), source.to_owned());
    Cine { id, source, sample: draw as i32, clip, pixel_spacing_mm: None, heart_rate: 60.0 }
}

fn provenance() -> Provenance {
    Provenance { synthetic: true, ..Provenance::now("test", "test".to_owned()) }
}

fn write(path: &Path, clips: impl Iterator<Item = Cine>) {
    let mut writer = CineWriter::begin(path, &provenance()).unwrap();
    clips.for_each(|clip| writer.put(&clip).unwrap());
    writer.finish().unwrap();
}

fn ids(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("p{i:03}")).collect()
}

/// `n` participants: real.h5, made.h5 (two draws each of others), f.h5, phenotypes.csv, diagnoses.csv.
fn data(n: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("real.h5"), ids(n).iter().map(|id| cine(id, id, 0)));
    let made = (0..2 * n).map(|i| (format!("g{:03}", i / 2), i % 2));
    write(&at("made.h5"), made.map(|(id, k)| cine(&format!("{id}.draw{k}"), &id, k as u32)));
    let mut features = FeaturesWriter::begin(&at("f.h5"), &provenance()).unwrap();
    for id in ids(n) {
        let mut stream = Stream::new("test features", 0, &id, 0);
        let feature = Array2::from_shape_fn((8, 4), |(_, j)| if j == 0 { radius(&id) } else { stream.normal() } as f32);
        let phase = Array1::zeros(8);
        features.put(&Features { id, feature, phase, cycle: [0, 8], heart_rate: 60.0 }).unwrap();
    }
    features.finish().unwrap();
    let mut phenotypes = "id,lv_edv_ml,24103-2.0,note\n".to_owned();
    let mut diagnoses = "id,dcm,hcm,group\n".to_owned();
    for (i, id) in ids(n).iter().enumerate() {
        let r = radius(id);
        let ef = if i % 7 == 0 { String::new() } else { format!("{}", 60.0 + 0.1 * i as f64 % 3.0) };
        phenotypes.push_str(&format!("{id},{},{ef},x\n", 15.0 * r));
        let group = if r > 11.0 {
            "large"
        } else if r < 8.0 {
            "small"
        } else {
            "middle"
        };
        diagnoses.push_str(&format!("{id},{},{},{group}\n", u8::from(r > 10.0), i % 2));
    }
    std::fs::write(at("phenotypes.csv"), phenotypes).unwrap();
    std::fs::write(at("diagnoses.csv"), diagnoses).unwrap();
    folder
}

const PHENOTYPE: &str = "cmr-phenotype train --cine real.h5 --table phenotypes.csv --preset tiny --threads 2";
const CLASSIFY: &str = "cmr-classify train --cine real.h5 --table diagnoses.csv --preset tiny --threads 2";
const PRETRAIN: &str = "cmr-pretrain --real real.h5 --synthetic made.h5 --mix 1 --preset tiny --threads 2";

/// The tensors of a weights file, without its header, which names the time it was made.
fn tensors(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// One figure of a figures.csv.
fn figure(folder: &Path, method: &str, scope: &str, name: &str, metric: &str) -> [f64; 3] {
    let wanted = [method, scope, name, metric];
    let rows = rows(&folder.join("figures.csv"));
    let found = rows.iter().find(|row| row[..4].iter().eq(wanted.iter())).unwrap_or_else(|| panic!("no {wanted:?}"));
    [5, 6, 7].map(|i| found[i].parse().unwrap_or(f64::NAN))
}

/// Trains at once, and in two parts; the weights are the same bytes.
fn goes_on(words: &str, steps: usize) {
    let folder = data(24);
    let words = format!("{words} --batch 8 --steps {steps} --validate-every 3");
    succeed(&format!("{words} -o whole.safetensors --log whole.csv"), folder.path());
    let torn = format!("{words} -o torn.safetensors --log torn.csv --state t.state --checkpoint 1");
    let mut child = crate::program::program(torn.split(' ').next().unwrap(), folder.path());
    let mut child = child.args(torn.split(' ').skip(1)).stderr(std::process::Stdio::null()).spawn().unwrap();
    let log = folder.path().join("torn.csv");
    let rows = |log: &Path| std::fs::read_to_string(log).map_or(0, |text| text.lines().count());
    while rows(&log) < 3 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.path().join("torn.safetensors").exists(), "it ended before it was killed");
    succeed(&torn, folder.path());
    let log = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(log("torn.csv"), log("whole.csv"));
    assert!(tensors(&folder.path().join("torn.safetensors")) == tensors(&folder.path().join("whole.safetensors")));
}

#[test]
fn pretraining_goes_on_to_the_same_bytes() {
    goes_on(PRETRAIN, 40);
}

#[test]
fn phenotypes_go_on_to_the_same_bytes() {
    goes_on(&format!("{PHENOTYPE} --patience 100"), 40);
}

#[test]
fn diagnoses_go_on_to_the_same_bytes() {
    goes_on(&format!("{CLASSIFY} --labels dcm,hcm --balance sampling --patience 100"), 40);
}

#[test]
fn pretrained_weights_are_started_from_and_the_result_predicts() {
    let folder = data(30);
    succeed(&format!("{PRETRAIN} --steps 4 -o mae.safetensors --pictures seen"), folder.path());
    let pictures = names(&folder.path().join("seen"));
    assert!(
        ["clip0_epoch001.png", "clip2_epoch001.png"].iter().all(|name| pictures.contains(&(*name).to_owned())),
        "{pictures:?}"
    );
    let said = text(&succeed("ecgflow inspect mae.safetensors --json", folder.path()));
    assert!(said.contains("30 of 30 real clips of real.h5") && said.contains("30 of 60 generated clips"), "{said}");
    // Another mask than that of the weights to start from; generated clips that no mix asks for.
    let words = PRETRAIN.replace("--mix 1", "--init mae.safetensors --mask 0.5 --steps 1 -o half.safetensors");
    let output = run(&words, folder.path());
    assert!(output.status.success() && text(&output.stderr).contains("none of the generated clips is used"));
    let said = text(&succeed("ecgflow inspect half.safetensors --json", folder.path()));
    assert!(said.contains("\"mask\": 0.5"), "{said}");
    let words = format!("{PHENOTYPE} --init mae.safetensors --epochs 30 --fields lv_edv_ml -o w.safetensors");
    let output = run(&words, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("not used: note"), "{}", text(&output.stderr));
    succeed("cmr-phenotype real.h5 --weights w.safetensors -o wide.csv", folder.path());
    let wide = rows(&folder.path().join("wide.csv"));
    assert_eq!((wide[0].as_slice(), wide.len()), (["id".to_owned(), "lv_edv_ml".to_owned()].as_slice(), 31));
    let (truth, found): (Vec<f64>, Vec<f64>) =
        wide[1..].iter().map(|row| (15.0 * radius(&row[0]), row[1].parse::<f64>().unwrap())).unzip();
    let r = ecgflow::metric::correlation::pearson(&truth, &found);
    assert!(r > 0.8, "it learns the size of a disc: r = {r}");
    // Two draws of each record: their mean and spread.
    succeed("cmr-phenotype made.h5 --weights w.safetensors --samples 2 --long -o long.csv", folder.path());
    let long = rows(&folder.path().join("long.csv"));
    assert_eq!(long[0].join(","), "id,field,name,value,unit,group,n,sd,low,high");
    assert_eq!((long.len(), long[1][..3].join(",")), (31, "g000,24100,lv_edv_ml".to_owned()));
    assert_eq!(long[1][4..7].join(","), "mL,left_ventricle,2");
    succeed("cmr-phenotype made.h5 --weights w.safetensors --each -o each.csv", folder.path());
    let each = rows(&folder.path().join("each.csv"));
    assert_eq!((each.len(), each[2][0].as_str()), (61, "g000.draw1"));
    let mean = (each[1][1].parse::<f64>().unwrap() + each[2][1].parse::<f64>().unwrap()) / 2.0;
    assert!((long[1][3].parse::<f64>().unwrap() - mean).abs() < 1e-4);
    let [sd, low, high] = [7, 8, 9].map(|i| long[1][i].parse::<f64>().unwrap());
    let apart = (each[1][1].parse::<f64>().unwrap() - each[2][1].parse::<f64>().unwrap()).abs();
    assert!(apart > 0.01 && (sd - apart / 2f64.sqrt()).abs() < 1e-4, "{sd} of {apart}");
    assert!((low - (mean - 1.96 * sd)).abs() < 1e-3 && (high - (mean + 1.96 * sd)).abs() < 1e-3, "{low} {high}");
    // An ensemble of the network with itself changes nothing and has no spread.
    let words = "cmr-phenotype real.h5 --weights w.safetensors --ensemble w.safetensors -o two.csv";
    succeed(words, folder.path());
    let two = rows(&folder.path().join("two.csv"));
    assert_eq!(
        (two[0].join(","), &two[1][1], two[1][2].as_str()),
        ("id,lv_edv_ml,lv_edv_ml_sd".to_owned(), &wide[1][1], "0")
    );
    // With another network it has the mean of both, and their spread.
    let other = format!("{PHENOTYPE} --epochs 3 --seed 1 --fields lv_edv_ml -o other.safetensors");
    succeed(&other, folder.path());
    succeed("cmr-phenotype real.h5 --weights other.safetensors -o other.csv", folder.path());
    succeed(&words.replace("--ensemble w.", "--ensemble other."), folder.path());
    let [a, b] = [&wide, &rows(&folder.path().join("other.csv"))].map(|table| table[1][1].parse::<f64>().unwrap());
    let two = rows(&folder.path().join("two.csv"));
    let [mean, sd] = [1, 2].map(|i| two[1][i].parse::<f64>().unwrap());
    assert!((a - b).abs() > 0.01, "other networks: {a} {b}");
    assert!((mean - (a + b) / 2.0).abs() < 1e-4 && (sd - (a - b).abs() / 2f64.sqrt()).abs() < 1e-4, "{mean} {sd}");
    let output = run("cmr-phenotype made.h5 --weights w.safetensors --samples 3", folder.path());
    let stderr = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && stderr.contains("expected 3 clips of every record, found 2"),
        "{stderr}"
    );
}

#[test]
fn folds_train_test_and_are_repeated_by_their_protocol() {
    let folder = data(36);
    let words =
        format!("{PHENOTYPE} --epochs 40 --batch 16 --features f.h5 --baselines constant,ridge,head,mean-clip,probe");
    succeed(&format!("{words} --folds 3 --seed 1 -o cv"), folder.path());
    let cv = folder.path().join("cv");
    for name in ["figures.csv", "figures.json", "fold1.safetensors", "predictions.clip.csv", "protocol.json"] {
        assert!(names(&cv).iter().any(|held| held == name), "{name} of {:?}", names(&cv));
    }
    assert_eq!(rows(&cv.join("predictions.clip.csv")).len(), 37, "everyone is tested once");
    let r2 = |method: &str| figure(&cv, method, "pooled", "lv_edv_ml", "r2");
    let ([network, low, high], [ridge, ..], [constant, ..]) = (r2("clip"), r2("ecg-ridge"), r2("constant"));
    assert!(low <= network && network <= high && high <= 1.0, "{low} {network} {high}");
    assert!(ridge > 0.9, "the features hold the size: {ridge}");
    assert!(constant < 0.05, "{constant}");
    assert!(r2("ecg-head")[0] > 0.2, "{:?}", r2("ecg-head"));
    assert!(r2("mean-clip")[0] > 0.5, "{:?}", r2("mean-clip"));
    assert!(figure(&cv, "clip", "fold 2", "lv_edv_ml", "mae")[0] > 0.0);
    let json = std::fs::read_to_string(cv.join("figures.json")).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["figures"].as_array().unwrap().len() > 50);
    // The same protocol, whose seed is not the default, gives the same figures; one fold of it alone the same weights.
    succeed(&format!("{words} --protocol cv/protocol.json -o again"), folder.path());
    assert_eq!(rows(&cv.join("figures.csv")), rows(&folder.path().join("again/figures.csv")));
    succeed(&format!("{PHENOTYPE} --epochs 40 --batch 16 --protocol cv/protocol.json --fold 2 -o one"), folder.path());
    assert!(tensors(&cv.join("fold2.safetensors")) == tensors(&folder.path().join("one/fold2.safetensors")));
    // Leaks are refused.
    let text = std::fs::read_to_string(cv.join("protocol.json")).unwrap();
    let mut protocol: serde_json::Value = serde_json::from_str(&text).unwrap();
    let leaked = protocol["folds"][0]["test"][0].clone();
    protocol["folds"][0]["train"].as_array_mut().unwrap().push(leaked);
    std::fs::write(folder.path().join("leak.json"), protocol.to_string()).unwrap();
    let output = run(&format!("{PHENOTYPE} --protocol leak.json -o leak"), folder.path());
    let stderr = crate::program::text(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("a participant leaks"), "{stderr}");
    assert!(!folder.path().join("leak").exists());
}

#[test]
fn answers_of_those_who_are_tested_change_no_weight_and_no_prediction() {
    let folder = data(24);
    let words =
        format!("{PHENOTYPE} --steps 6 --batch 8 --features f.h5 --baselines constant,ridge,head,mean-clip,probe");
    succeed(&format!("{words} --folds 3 -o cv"), folder.path());
    let said = std::fs::read_to_string(folder.path().join("cv/protocol.json")).unwrap();
    let protocol: serde_json::Value = serde_json::from_str(&said).unwrap();
    let tested: Vec<&str> =
        protocol["folds"][1]["test"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    let path = folder.path().join("phenotypes.csv");
    let table = std::fs::read_to_string(&path).unwrap();
    let turned = table.lines().map(|line| match line.split_once(',') {
        Some((id, _)) if tested.contains(&id) => format!("{id},500,5,x\n"),
        _ => format!("{line}\n"),
    });
    let words = format!("{words} --protocol cv/protocol.json --fold 2");
    succeed(&format!("{words} -o before"), folder.path());
    std::fs::write(&path, turned.collect::<String>()).unwrap();
    succeed(&format!("{words} -o after"), folder.path());
    let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
    assert!(tensors(&before.join("fold2.safetensors")) == tensors(&after.join("fold2.safetensors")));
    let predictions: Vec<String> = names(&before).into_iter().filter(|name| name.starts_with("predictions.")).collect();
    assert_eq!(predictions.len(), 6, "{predictions:?}");
    for name in predictions {
        let found = rows(&before.join(&name));
        assert_eq!((found.len(), &found), (tested.len() + 1, &rows(&after.join(&name))), "{name}");
    }
    let mae = |folder: &Path| figure(folder, "clip", "fold 2", "lv_edv_ml", "mae")[0];
    assert!(mae(&after) > mae(&before) + 100.0, "the answers are other ones: {} {}", mae(&before), mae(&after));
}

#[test]
fn pretraining_in_a_fold_leaves_out_everyone_who_is_validated_or_tested() {
    let folder = data(12);
    write(&folder.path().join("own.h5"), ids(12).iter().map(|id| cine(&format!("{id}.draw1"), id, 1)));
    let words = format!("{PHENOTYPE} --folds 3 --baselines constant --baselines-only -o cv");
    succeed(&words, folder.path());
    for fold in 1..=3 {
        let words = PRETRAIN.replace("made.h5 --mix 1", "own.h5 --mix 3");
        let words = format!("{words} --protocol cv/protocol.json --fold {fold} --validation 0 --steps 1");
        let output = run(&format!("{words} -o mae{fold}.safetensors"), folder.path());
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains("12 generated clips are wanted, 4 are there"), "{stderr}");
    }
    let said = text(&succeed("ecgflow inspect mae1.safetensors --json", folder.path()));
    assert!(said.contains("4 of 12 real clips of real.h5 (synthetic) in fold 1 and 4 of 12"), "{said}");
    // Each fold starts from its own.
    let words = format!("{PHENOTYPE} --steps 1 --protocol cv/protocol.json --init mae{{fold}}.safetensors");
    succeed(&format!("{words} --baselines probe -o pre"), folder.path());
    assert!(names(&folder.path().join("pre")).contains(&"fold3.safetensors".to_owned()));
    let told = std::fs::read_to_string(folder.path().join("pre/figures.csv")).unwrap();
    assert!((1..=3).all(|fold| told.contains(&format!("mae{fold}.safetensors sha256:"))), "{told}");
    // Weights that all folds start from may have seen those who are tested.
    let output = run(&format!("{} -o same", words.replace("{fold}", "1")), folder.path());
    assert!(output.status.success() && text(&output.stderr).contains("mae1.safetensors: all folds start from it"));
    std::fs::remove_file(folder.path().join("mae2.safetensors")).unwrap();
    let output = run(&format!("{words} -o none"), folder.path());
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("mae2.safetensors"));
    assert!(!folder.path().join("none").exists());
}

#[test]
fn classes_and_questions_are_learnt_calibrated_and_decided() {
    let folder = data(45);
    succeed(
        &format!("{CLASSIFY} --labels dcm,hcm --epochs 60 --batch 16 --folds 3 --balance weights -o cv"),
        folder.path(),
    );
    let cv = folder.path().join("cv");
    assert!(figure(&cv, "clip", "pooled", "dcm", "auc")[0] > 0.8, "{:?}", figure(&cv, "clip", "pooled", "dcm", "auc"));
    succeed(&format!("{CLASSIFY} --labels group --epochs 40 --batch 16 -o g.safetensors"), folder.path());
    succeed("cmr-classify real.h5 --weights g.safetensors --decide -o g.csv", folder.path());
    let table = rows(&folder.path().join("g.csv"));
    assert_eq!(table[0].join(","), "id,large,middle,small,call");
    for row in &table[1..] {
        let p: Vec<f64> = row[1..4].iter().map(|cell| cell.parse().unwrap()).collect();
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        let best = (0..3).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap();
        assert_eq!(row[4], ["large", "middle", "small"][best]);
    }
    succeed(&format!("{CLASSIFY} --labels dcm,hcm --epochs 2 -o q.safetensors"), folder.path());
    // Each question has a temperature and a threshold of its own, by those who validate; the threshold decides.
    let held = candle_core::safetensors::load(folder.path().join("q.safetensors"), &candle_core::Device::Cpu).unwrap();
    let [temperature, threshold] = ["temperature", "threshold"].map(|name| {
        let found =
            held.iter().find(|(held, _)| held.ends_with(name)).unwrap_or_else(|| panic!("{name}: {:?}", held.keys()));
        found.1.to_vec1::<f32>().unwrap()
    });
    assert!(temperature.len() == 2 && temperature.iter().all(|t| *t > 0.0 && *t != 1.0), "{temperature:?}");
    assert!(threshold.len() == 2 && threshold.iter().any(|p| *p != 0.5), "{threshold:?}");
    succeed("cmr-classify real.h5 --weights q.safetensors --decide -o q.csv", folder.path());
    let table = rows(&folder.path().join("q.csv"));
    assert_eq!(table[0].join(","), "id,dcm,dcm_call,hcm,hcm_call");
    for (row, k) in table[1..].iter().flat_map(|row| [(row, 0), (row, 1)]) {
        let p: f64 = row[1 + 2 * k].parse().unwrap();
        let is_far = (p - f64::from(threshold[k])).abs() > 1e-6; // a table rounds
        assert!(
            !is_far || row[2 + 2 * k] == u8::from(p >= f64::from(threshold[k])).to_string(),
            "{row:?} {threshold:?}"
        );
    }
    let long = text(&succeed("cmr-classify real.h5 --weights q.safetensors --decide --long", folder.path()));
    assert!(long.contains("id,field,name,value,unit,group,call") && long.contains(",dcm,"), "{long}");
}

#[test]
fn tables_that_cannot_be_learnt_from_are_refused_and_named() {
    let with = |table: &'static str| {
        move |folder: &Path| {
            write(&folder.join("c.h5"), ids(4).iter().map(|id| cine(id, id, 0)));
            std::fs::write(folder.join("t.csv"), table).unwrap();
        }
    };
    let phenotype = "cmr-phenotype train --cine c.h5 --table t.csv --preset tiny --threads 1 -o w.s";
    let classify = "cmr-classify train --cine c.h5 --table t.csv --preset tiny --threads 1 -o w.s";
    for (words, table, says) in [
        (phenotype, "id,24100\np000,1\np000,2\n", "record p000 (line 3), field id: expected different ids"),
        (phenotype, "id,24100\np000,tall\n", "field 24100: expected a number or an empty cell, found \"tall\""),
        (phenotype, "id,field,value\np000,99999,1\n", "field field: expected one of the 82 fields"),
        (phenotype, "id,weight\np000,1\n", "expected columns of phenotypes such as lv_edv_ml or 24100-2.0, found none"),
        (phenotype, "id,24100\nq1,1\nq2,2\n", "no clip has a row in the table (expected ids such as p000"),
        (phenotype, "id,24100\np000,5\np001,5\np002,5\np003,5\n", "field lv_edv_ml: expected values that differ"),
        (phenotype, "id,24100\np000,5,6\n", "record line 2: expected 2 cells, found 3"),
        (classify, "id,hcm\np000,1\np001,1\np002,1\np003,1\n", "field hcm: expected 0 and 1, both among the records"),
        (classify, "id,hcm,dcm\np000,1,maybe\n", "field dcm: expected 0, 1 or an empty cell, found \"maybe\""),
        (classify, "id,group\np000,a\np001,a\np002,a\np003,a\n", "expected two classes or more, found 1"),
    ] {
        refuses(words, 1, &["t.csv", says], with(table));
    }
    refuses(&format!("{phenotype} --fields spleen"), 2, &["or a group: left_ventricle"], with("id,24100\n"));
    refuses(
        &format!("{phenotype} --fields 24101"),
        1,
        &["expected a column for lv_esv_ml"],
        with("id,24100\np000,1\n"),
    );
    refuses(
        &format!("{phenotype} --baselines ridge --folds 3"),
        2,
        &["--baselines ridge needs --features"],
        with("id,24100\n"),
    );
    refuses(&format!("{phenotype} --fold 1"), 2, &["need --folds or --protocol"], with("id,24100\n"));
    refuses(&format!("{phenotype} --init {{fold}}.s"), 2, &["needs --folds or --protocol"], with("id,24100\n"));
    let all = "id,24100\np000,1\np001,2\np002,3\np003,5\n";
    refuses(&format!("{phenotype} --folds 3 --fold 4"), 2, &["--fold 4: there are 3 folds"], with(all));
    refuses(&phenotype.replace("w.s", "t.csv"), 2, &["t.csv would be read and replaced"], with(all));
    refuses("cmr-pretrain --real c.h5 --mix 2 -o w.s", 2, &["--synthetic"], with("id\n"));
    refuses("cmr-pretrain --real c.h5 --synthetic c.h5 --mix 4 -o w.s", 2, &["--mix", "0..=3"], with("id\n"));
}

#[test]
fn clips_without_a_row_are_left_out_and_permuted_rows_are_said() {
    let folder = data(20);
    let table = std::fs::read_to_string(folder.path().join("phenotypes.csv")).unwrap();
    let few: Vec<&str> = table.lines().filter(|line| !line.starts_with("p003")).chain(["q1,100,50,x"]).collect();
    std::fs::write(folder.path().join("phenotypes.csv"), few.join("\n")).unwrap();
    let output = run(&format!("{PHENOTYPE} --steps 1 --permute -o w.safetensors"), folder.path());
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("19 clips are used; 1 have no row in the table, 1 rows have no clip"), "{stderr}");
    assert!(stderr.contains("whatever is learnt is chance"), "{stderr}");
}
