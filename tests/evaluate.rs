//! `cmr-eval tables`: predictions against the truth, good tables and bad ones.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::metric::golden;
use crate::program::{feed, names, refuses, run, succeed, text};

/// Of scores in JSON; those in CSV have nine digits.
const TOLERANCE: f64 = 1e-9;
const NINE_DIGITS: f64 = 1e-8;

pub fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

/// Rows of a table of scores: score, name, subgroup; value, low, high, n.
pub type Rows = Vec<([String; 3], [f64; 4])>;

/// Reads a table of scores.
pub fn scores(csv: &[u8]) -> Rows {
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(csv);
    assert_eq!(reader.headers().unwrap().iter().take(4).collect::<Vec<_>>(), ["score", "name", "group", "subgroup"]);
    let row = |row: csv::StringRecord| {
        let number = |i: usize| row[i].parse().unwrap_or(f64::NAN);
        ([0, 1, 3].map(|i| row[i].to_owned()), [4, 5, 6, 7].map(number))
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

pub fn find(all: &[([String; 3], [f64; 4])], score: &str, name: &str, subgroup: &str) -> [f64; 4] {
    let wanted = [score, name, subgroup];
    let found = all.iter().find(|(key, _)| *key == wanted);
    found.unwrap_or_else(|| panic!("no {wanted:?} among {:?}", all.iter().map(|(key, _)| key).collect::<Vec<_>>())).1
}

fn value(json: &Value, score: &str, name: &str) -> f64 {
    let rows = json["scores"].as_array().unwrap();
    let row = rows.iter().find(|row| row["score"] == score && row["name"] == name && row["subgroup"] == "");
    row.unwrap_or_else(|| panic!("no {score} of {name}"))["value"].as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// A table of `columns` of numbers, `id` first, p0, p1 and so on.
fn table(header: &str, columns: &[&[f64]]) -> String {
    let mut text = format!("{header}\n");
    for i in 0..columns[0].len() {
        let cells: String = columns.iter().map(|column| format!(",{}", column[i])).collect();
        writeln!(text, "p{i}{cells}").unwrap();
    }
    text
}

/// Scores `truth` against `predicted` in a fresh folder: CSV, JSON, page, what was said.
fn evaluate(truth: &str, predicted: &str, options: &str) -> (Rows, Value, String, String) {
    let out = tempfile::tempdir().unwrap();
    write(out.path(), "truth.csv", truth);
    write(out.path(), "made.csv", predicted);
    let words = format!(
        "cmr-eval tables --truth truth.csv --predicted made.csv --json s.json --report s.html -o s.csv {options}"
    );
    let output = run(&words, out.path());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{words}\n{said}");
    assert_eq!(names(out.path()), ["made.csv", "s.csv", "s.html", "s.json", "truth.csv"]);
    let read = |name: &str| std::fs::read(out.path().join(name)).unwrap();
    (scores(&read("s.csv")), serde_json::from_slice(&read("s.json")).unwrap(), text(&read("s.html")), said)
}

#[test]
fn phenotypes_are_scored_as_scikit_learn_does_in_every_form_of_table() {
    let golden = golden("regression");
    let (y, p) = (numbers(&golden["truth"]), numbers(&golden["predicted"]));
    let long = |field: &str, unit: &str, values: &[f64]| {
        let rows = values.iter().enumerate().map(|(i, v)| format!("p{i},{field},x,{v},{unit},left_ventricle\n"));
        format!("id,field,label,value,unit,group\n{}", rows.collect::<String>())
    };
    let truths = [table("eid,24100-2.0,31-0.0", &[&y, &vec![1.0; y.len()]]), table("id,lv_edv_ml", &[&y])];
    let predictions = [table("id,lv_edv_ml", &[&p]), long("24100", "ml", &p), long("lv_edv_ml", "ml", &p)];
    for truth in &truths {
        for predicted in &predictions {
            let (rows, json, ..) = evaluate(truth, predicted, "");
            for (score, want) in [
                ("r2", "r2"),
                ("mae", "mae"),
                ("rmse", "rmse"),
                ("pearson", "pearson"),
                ("bias", "bias"),
                ("limits_sd", "sd"),
            ] {
                let want = golden[want].as_f64().unwrap();
                let [got, low, high, n] = find(&rows, score, "lv_edv_ml", "");
                assert!((got - want).abs() <= NINE_DIGITS * want.abs(), "{score}: {got}, expected {want}");
                assert!((value(&json, score, "lv_edv_ml") - want).abs() <= TOLERANCE * want.abs(), "{score}");
                assert!(low < got && got < high && n == 60.0, "{score}: {low} {got} {high} of {n}");
            }
            assert_eq!(find(&rows, "mean_r2", "all", "")[0], find(&rows, "r2", "lv_edv_ml", "")[0]);
        }
    }
}

#[test]
fn answers_and_classes_are_scored_as_scikit_learn_does() {
    let binary = golden("binary");
    let (y, p) = (numbers(&binary["truth"]), numbers(&binary["probability"]));
    let (rows, json, page, said) = evaluate(&table("id,hcm", &[&y]), &table("id,hcm", &[&p]), "");
    for score in ["auc", "accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "brier", "ece"] {
        let want = binary[score].as_f64().unwrap();
        assert!((find(&rows, score, "hcm", "")[0] - want).abs() <= NINE_DIGITS * want, "{score}");
        assert!((value(&json, score, "hcm") - want).abs() <= TOLERANCE * want, "{score}");
    }
    assert!(said.is_empty() && page.contains("ROC") && page.contains("calibration") && page.contains("confusion"));

    let classes = golden("classes");
    let (y, p) = (numbers(&classes["truth"]), numbers(&classes["probability"]));
    let labels = ["a", "b", "c", "d"];
    let truth: String = y.iter().enumerate().map(|(i, y)| format!("p{i},{}\n", labels[*y as usize])).collect();
    let column = |k: usize| p.chunks(4).map(|row| row[k]).collect::<Vec<f64>>();
    let columns = [0, 1, 2, 3].map(column);
    let predicted = table("id,a,b,c,d", &columns.each_ref().map(Vec::as_slice));
    let (_, json, ..) = evaluate(&format!("id,group\n{truth}"), &predicted, "");
    for (score, want) in [
        ("accuracy", "accuracy"),
        ("auc_macro", "auc"),
        ("sensitivity_macro", "sensitivity"),
        ("ppv_macro", "ppv"),
        ("f1_macro", "f1"),
        ("brier", "brier"),
        ("ece", "ece"),
    ] {
        let want = classes[want].as_f64().unwrap();
        let got = value(&json, score, "all");
        assert!((got - want).abs() <= TOLERANCE * want, "{score}: {got}, expected {want}");
    }

    // A class that nobody is of still takes its share of the probability.
    let without: String = truth.lines().filter(|line| !line.ends_with(",d")).map(|line| format!("{line}\n")).collect();
    let (rows, _, _, said) = evaluate(&format!("id,group\n{without}"), &predicted, "");
    assert!(said.contains("no participant is of class d"), "{said}");
    let called = ecgflow::metric::classification::decide(&p, 4);
    let three: Vec<(usize, usize)> = y.iter().map(|y| *y as usize).zip(called).filter(|(y, _)| *y < 3).collect();
    let right = three.iter().filter(|(y, called)| y == called).count() as f64 / three.len() as f64;
    assert!((find(&rows, "accuracy", "all", "")[0] - right).abs() < NINE_DIGITS);
}

#[test]
fn a_subgroup_has_the_scores_of_its_participants_alone() {
    let sex = |i: usize| if i.is_multiple_of(3) { "female" } else { "male" };
    for (case, column, given, wanted) in [
        ("regression", "lv_edv_ml", "predicted", ["r2", "mae", "bias"]),
        ("binary", "hcm", "probability", ["auc", "brier", "sensitivity"]),
    ] {
        let golden = golden(case);
        let (y, p) = (numbers(&golden["truth"]), numbers(&golden[given]));
        let truth = |keep: &dyn Fn(usize) -> bool| {
            let rows = y.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(i, y)| format!("p{i},{y},{}\n", sex(i)));
            format!("id,{column},sex\n{}", rows.collect::<String>())
        };
        let predicted = table(&format!("id,{column}"), &[&p]);
        let (all, ..) = evaluate(&truth(&|_| true), &predicted, "--by sex");
        for group in ["female", "male"] {
            let (alone, _, _, said) = evaluate(&truth(&|i| sex(i) == group), &predicted, "");
            assert!(said.contains("participants are not in truth.csv: left out"), "{said}");
            for score in wanted {
                let within = find(&all, score, column, &format!("sex={group}"));
                assert_eq!(within, find(&alone, score, column, ""), "{group} {score}");
            }
        }
        assert_eq!(find(&all, wanted[0], column, "")[3], y.len() as f64);
    }
}

#[test]
fn missing_values_are_left_out_and_what_is_not_defined_is_empty() {
    let truth = "id,lv_edv_ml,lv_ef_percent,lv_mass_g\na,100,60,90\nb,NA,60,\nc,120,60,\nd,150,60,\n";
    let made = "id,lv_edv_ml,lv_edv_ml_sd,lv_ef_percent,lv_mass_g,x\n\
                a,110,1,50,,1\nb,90,1,55,80,1\nc,120,1,60,80,1\nd,140,1,65,80,1\n";
    let (rows, json, page, said) = evaluate(truth, made, "");
    assert_eq!(find(&rows, "mae", "lv_edv_ml", "")[0], 6.66666667);
    assert_eq!(find(&rows, "mae", "lv_edv_ml", "")[3], 3.0);
    assert!(
        find(&rows, "r2", "lv_ef_percent", "")[0].is_nan() && find(&rows, "pearson", "lv_ef_percent", "")[0].is_nan()
    );
    assert_eq!(find(&rows, "mae", "lv_ef_percent", "")[0], 5.0);
    assert_eq!(find(&rows, "mae", "lv_mass_g", "")[3], 0.0);
    for warning in [
        "lv_ef_percent: the truth does not vary: R2 and r are not defined",
        "lv_mass_g: no participant has both values",
        "columns of made.csv that are no phenotypes: left out: x",
    ] {
        assert!(said.contains(warning) && page.contains(warning), "{said}");
        assert!(json["notes"].as_array().unwrap().iter().any(|note| note == warning), "{}", json["notes"]);
    }
    let (rows, _, _, said) = evaluate("id,hcm\na,1\nb,1\nc,1\n", "id,hcm\na,0.9\nb,0.2\nc,0.7\n", "");
    assert!(said.contains("hcm: all participants are of one class: AUC is not defined"), "{said}");
    assert!(find(&rows, "auc", "hcm", "")[0].is_nan());
    assert_eq!(find(&rows, "sensitivity", "hcm", "")[0], 0.666666667);
}

#[test]
fn bad_tables_each_get_one_error_and_leave_nothing() {
    let good = "id,lv_edv_ml\na,100\nb,110\nc,120\n";
    let cases: [(&str, &str, &str, i32, &[&str]); 15] = [
        (
            good,
            "id,lv_edv_ml\na,1\na,2\n",
            "",
            1,
            &["made.csv, record a (line 3), field id: expected different ids, found the same in line 2"],
        ),
        ("id,lv_edv_ml\na,1\na,2\n", good, "", 1, &["truth.csv, record a (line 3), field id"]),
        (
            good,
            "id,lv_edv_ml\na,high\n",
            "",
            1,
            &["made.csv, record a (line 2), field lv_edv_ml: expected a number or an empty cell, found \"high\""],
        ),
        (good, "id,lv_edv_ml\na,inf\n", "", 1, &["expected a number or an empty cell, found \"inf\""]),
        (
            good,
            "id,lv_edv_ml\nx,1\ny,2\n",
            "",
            1,
            &["made.csv, field id: expected ids of truth.csv, such as a, found others, such as x"],
        ),
        (
            good,
            "id,lv_esv_ml\na,1\n",
            "",
            1,
            &["the tables have no phenotype in common (expected lv_edv_ml, found lv_esv_ml)"],
        ),
        (
            good,
            "id,field,value\na,spleen,1\n",
            "",
            1,
            &["field field: expected one of the 82 fields, by number or name, found \"spleen\""],
        ),
        (good, "id,field,value\na,24100,1\na,lv_edv_ml,2\n", "", 1, &["expected one value, found another in line 2"]),
        (good, good, "--fields spleen_ml", 2, &["--fields: spleen_ml is no phenotype and no group", "hint:"]),
        (good, good, "--fields lv_mass_g", 1, &["field lv_mass_g: expected a column for lv_mass_g, found none"]),
        (good, good, "--by sex", 1, &["truth.csv, field sex: expected one of lv_edv_ml, found sex"]),
        (
            "id,hcm\na,1\nb,2\n",
            "id,hcm\na,0.5\nb,0.5\n",
            "",
            1,
            &["made.csv, field 1: expected a column 1, found hcm", "hint: a question has 0 and 1"],
        ),
        (
            "id,hcm\na,1\nb,0\n",
            "id,hcm\na,0.5\nb,1.5\n",
            "",
            1,
            &["made.csv, record b (line 3), field hcm: expected a probability from 0 to 1, found \"1.5\""],
        ),
        (
            "id,g\na,x\nb,y\n",
            "id,x,y\na,0.5,0.1\nb,0.5,0.5\n",
            "",
            1,
            &["made.csv, record a, field x, y: expected probabilities that add up to 1, found 0.6000"],
        ),
        (good, "", "", 1, &["made.csv: the table is empty"]),
    ];
    for (truth, made, options, code, says) in cases {
        let words = format!(
            "cmr-eval tables --truth truth.csv --predicted made.csv --json s.json --report s.html -o s.csv {options}"
        );
        refuses(&words, code, says, |folder| {
            write(folder, "truth.csv", truth);
            write(folder, "made.csv", made);
        });
    }
    refuses("cmr-eval tables --truth - --predicted -", 2, &["only one input can be standard input"], |_| {});
    refuses("cmr-eval tables --truth no.csv --predicted -", 1, &["no.csv"], |_| {});
    let twice = "cmr-eval tables --truth t.csv --predicted t.csv --json x -o x";
    refuses(twice, 2, &["two outputs go to x"], |folder| write(folder, "t.csv", good));
}

#[test]
fn a_table_comes_down_a_pipe_and_scores_leave_by_one() {
    let out = tempfile::tempdir().unwrap();
    write(out.path(), "truth.csv", "id,lv_edv_ml\na,100\nb,110\nc,125\n");
    let made = "# tool: cmr-phenotype 0.1.0\n# command: cmr-phenotype x.h5\n# created: now\n# synthetic: yes\n\
                id,lv_edv_ml\na,100\nb,110\nc,125\n";
    let output = feed("cmr-eval tables --truth truth.csv --predicted -", out.path(), made.as_bytes());
    let csv = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    assert!(csv.contains("# synthetic: yes\n# before: cmr-phenotype x.h5\n") && csv.contains("# seed: 0\n"), "{csv}");
    assert_eq!(find(&scores(&output.stdout), "r2", "lv_edv_ml", "")[..3], [1.0, 1.0, 1.0]);
    let again = feed("cmr-eval tables --truth truth.csv --predicted - --no-comments", out.path(), made.as_bytes());
    assert!(csv.ends_with(&text(&again.stdout)) && !text(&again.stdout).contains('#'));
    assert_eq!(names(out.path()), ["truth.csv"]);
}

#[test]
fn the_page_is_one_file_that_loads_nothing_and_escapes_what_it_shows() {
    let truth = "id,lv_edv_ml,<site>\na,100,A&B\nb,110,A&B\nc,125,\"<b>\"\nd,115,\"<b>\"\n";
    let (_, _, page, _) = evaluate(truth, "id,lv_edv_ml\na,99\nb,112\nc,120\nd,110\n", "--by <site>");
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("&lt;site&gt;=A&amp;B") && !page.contains("<site>") && !page.contains("<b>"));
    for outside in ["<script", "<link", "<img", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "the page holds {outside}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert_eq!(page.matches("<svg").count(), 2); // scatter, and Bland and Altman
    let rest = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!rest.contains("http"), "the page names another place");
}

#[test]
fn help_names_both_tasks() {
    let out = tempfile::tempdir().unwrap();
    let help = text(&succeed("cmr-eval --help", out.path()));
    assert!(help.contains("clips") && help.contains("tables"));
    assert_eq!(run("cmr-eval", out.path()).status.code(), Some(2));
}
