//! The charts of the page.

use crate::io::chart::{escape, short, Chart, Mark, FITTED};
use crate::metric::classification::{auc, calibration, roc, BINS};
use crate::metric::neighbour::COPY;
use crate::metric::regression::{agreement, Regression};

/// Bars of a histogram.
const BARS: usize = 24;
/// The diagonal of a chart from 0 to 1.
const DIAGONAL: Mark = Mark::Guide([[0.0, 0.0], [1.0, 1.0]], true);

/// Charts under a heading; groups of `together` stay beside each other.
fn section(heading: &str, charts: &[Chart], together: usize) -> String {
    let group =
        |charts: &[Chart]| format!("<div class=\"group\">{}</div>", charts.iter().map(Chart::svg).collect::<String>());
    let charts: String = charts.chunks(together).map(group).collect();
    format!("<h2>{}</h2>\n<div class=\"charts\">{charts}</div>", escape(heading))
}

/// Smallest and largest of all values, with a little room.
fn reach<'a>(values: impl Iterator<Item = &'a f64>) -> [f64; 2] {
    let [low, high] = values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| [low.min(*v), high.max(*v)]);
    let room = 0.04 * (high - low);
    [low - room, high + room]
}

/// Predicted against true, on equal axes.
fn scatter(title: String, axes: [String; 2], truth: &[f64], predicted: &[f64]) -> Chart {
    let range = reach(truth.iter().chain(predicted));
    let points = truth.iter().zip(predicted).map(|(y, p)| [*y, *p]).collect();
    let ends = [[range[0]; 2], [range[1]; 2]];
    Chart { title, axes, range: [range; 2], marks: vec![Mark::Guide(ends, true), Mark::Points(points)] }
}

/// Scatter and Bland-Altman chart of each phenotype: label, unit, truth, prediction.
pub(super) fn phenotypes(all: &[(String, &str, Vec<f64>, Vec<f64>)]) -> String {
    let mut charts = Vec::new();
    for (label, unit, truth, predicted) in all {
        let Regression { r2, mae, .. } = Regression::new(truth, predicted);
        let axes = [format!("true, {unit}"), format!("predicted, {unit}")];
        let mut chart = scatter(label.clone(), axes, truth, predicted);
        chart.marks.push(Mark::Note(format!("R2 {}, MAE {}", short(r2), short(mae))));
        charts.push(chart);
        let found = agreement(truth, predicted);
        let middle: Vec<[f64; 2]> = truth.iter().zip(predicted).map(|(y, p)| [(y + p) / 2.0, p - y]).collect();
        let ends = reach(middle.iter().map(|[x, _]| x));
        let level = |y: f64, dashed| Mark::Guide([[ends[0], y], [ends[1], y]], dashed);
        let mut marks = vec![Mark::Points(middle), level(found.bias, false)];
        marks.extend(found.limits.map(|limit| level(limit, true)).into_iter().filter(|_| found.sd.is_finite()));
        let [low, high] = found.limits.map(short);
        charts.push(Chart {
            title: format!("bias {}, limits {low} to {high}", short(found.bias)),
            axes: [format!("mean, {unit}"), format!("predicted - true, {unit}")],
            range: [FITTED; 2],
            marks,
        });
    }
    section("Phenotypes: prediction against truth, and differences (Bland and Altman)", &charts, 2)
}

/// ROC and calibration curves: label, truth, probability.
pub(super) fn classes(all: &[(String, Vec<bool>, Vec<f64>)]) -> String {
    let unit = [[0.0, 1.0]; 2];
    let mut curves = vec![DIAGONAL];
    let mut bins = vec![DIAGONAL];
    for (label, truth, probability) in all {
        let area = auc(truth, probability);
        if area.is_finite() {
            let name = format!("{label} {}", short(area));
            curves.push(Mark::Line { name, places: roc(truth, probability), dots: false });
        }
        let places: Vec<[f64; 2]> =
            calibration(truth, probability, BINS).iter().map(|bin| [bin.predicted, bin.observed]).collect();
        bins.push(Mark::Line { name: label.clone(), places, dots: true });
    }
    let axes = |x: &str, y: &str| [x.to_owned(), y.to_owned()];
    let roc = Chart {
        title: "ROC, with AUC".into(),
        axes: axes("1 - specificity", "sensitivity"),
        range: unit,
        marks: curves,
    };
    let title = "calibration".to_owned();
    let calibration = Chart { title, axes: axes("predicted probability", "observed share"), range: unit, marks: bins };
    section("Diagnoses: ROC and calibration", &[roc, calibration], 1)
}

/// A confusion matrix: rows are the truth, columns the decision; darker is more of the row.
pub(super) fn confusion(title: &str, labels: &[String], table: &[Vec<usize>]) -> String {
    let head: String = labels.iter().map(|label| format!("<th class=\"n\">{}</th>", escape(label))).collect();
    let row = |(label, row): (&String, &Vec<usize>)| {
        let whole = row.iter().sum::<usize>().max(1);
        let cell = |n: &usize| {
            let share = *n as f64 / whole as f64;
            let ink = if share > 0.6 { "#fff" } else { "#222" };
            format!("<td class=\"n\" style=\"background:rgba(0,114,178,{share:.2});color:{ink}\">{n}</td>")
        };
        format!("<tr><th>{}</th>{}</tr>", escape(label), row.iter().map(cell).collect::<String>())
    };
    let rows: String = labels.iter().zip(table).map(row).collect();
    format!(
        "<div class=\"matrix\"><h3>{}</h3>\n<table><tr><th>true \\ decided</th>{head}</tr>\n{rows}</table></div>",
        escape(title)
    )
}

/// Change of area of the cavity, generated against real.
pub(super) fn motion(real: &[f64], made: &[f64]) -> String {
    let axes = ["real".to_owned(), "generated".to_owned()];
    section(
        "Motion: share of the cavity's area that systole takes",
        &[scatter("change of area".into(), axes, real, made)],
        1,
    )
}

/// Histograms of the ratios that tell copies.
pub(super) fn ratios(made: &[f64], real: &[f64]) -> String {
    let chart = |title: &str, values: &[f64]| {
        let most = values.iter().copied().filter(|v| v.is_finite()).fold(1.2, f64::max);
        let step = most / BARS as f64;
        let count = |k: usize| values.iter().filter(|v| ((**v / step) as usize).min(BARS - 1) == k).count() as f64;
        let bars: Vec<[f64; 3]> = (0..BARS).map(|k| [k as f64 * step, (k + 1) as f64 * step, count(k)]).collect();
        let top = bars.iter().map(|bar| bar[2]).fold(1.0, f64::max) * 1.05;
        let axes = ["distance to nearest / to next nearest".to_owned(), "clips".to_owned()];
        let guide = Mark::Guide([[COPY, 0.0], [COPY, top]], true);
        Chart { title: title.to_owned(), axes, range: [[0.0, most], [0.0, top]], marks: vec![Mark::Bars(bars), guide] }
    };
    let mut charts = vec![chart("generated clips", made)];
    if !real.is_empty() {
        charts.push(chart("real clips not trained on", real));
    }
    section("Copies of training clips: left of the dashed line", &charts, 1)
}
