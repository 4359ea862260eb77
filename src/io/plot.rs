//! A 12-lead ECG as a clinician reads it: three rows of four leads, 2.5 s each, and lead II for the whole ten seconds below,
//! on paper of 1 mm and 5 mm squares, 25 mm/s and 10 mm/mV, landscape A4.
//!
//! ```text
//! id, heart rate, verdict                                    SYNTHETIC where it is
//! _|-|_ I      | aVR     | V1      | V4
//! _|-|_ II     | aVL     | V2      | V5
//! _|-|_ III    | aVF     | V3      | V6
//! _|-|_ II  ten seconds, every R peak marked, RR intervals in ms
//! speed, gain, filters, program
//! ```
//!
//! Every lead is drawn about its median, so that an electrode offset does not push it off the paper. PNG has 8 pixels a mm
//! and says so; SVG is in mm. For eyes only, and not for diagnosis.

use crate::data::ecg::{Ecg, Lead, Verdict};
use crate::error::Result;

mod canvas;
mod glyph;

use canvas::{Anchor, Canvas, Png, Rgb, Svg};

/// A4, landscape, mm.
const PAGE: [f64; 2] = [297.0, 210.0];
/// The squared paper: left, top, width, height, mm.
const PAPER: [f64; 4] = [8.5, 27.0, 280.0, 170.0];
/// Where the traces begin, mm from the left end of the paper: the calibration pulse stands before.
const START: f64 = 15.0;
const SPEED_MM_PER_S: f64 = 25.0;
const GAIN_MM_PER_MV: f64 = 10.0;
/// The leads of the three rows, from left to right.
const ROWS: [[Lead; 4]; 3] = [
    [Lead::I, Lead::AVR, Lead::V1, Lead::V4],
    [Lead::II, Lead::AVL, Lead::V2, Lead::V5],
    [Lead::III, Lead::AVF, Lead::V3, Lead::V6],
];
/// Seconds of each lead in the three rows, and of the strip below.
const COLUMN_SECONDS: f64 = 2.5;
const STRIP_SECONDS: f64 = 10.0;

const BLANK: Rgb = [255, 255, 255];
const GROUND: Rgb = [255, 250, 249];
const FINE: Rgb = [250, 216, 213];
const BOLD: Rgb = [238, 165, 160];
const INK: Rgb = [20, 20, 28];
const GREY: Rgb = [95, 95, 105];
const MARK: Rgb = [20, 80, 190];
const WARN: Rgb = [190, 30, 30];

/// A picture's file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotFormat {
    /// Pixels.
    Png,
    /// Lines.
    Svg,
}

/// What stands on the page besides the ECG.
#[derive(Debug, Clone, PartialEq)]
pub struct Legend {
    /// Name of the preset, or `steps`.
    pub preset: String,
    /// What was done, one step each.
    pub steps: Vec<String>,
    /// `mV`, or `sd` where the leads were standardised.
    pub unit: &'static str,
    /// Whether a program made the ECG up.
    pub synthetic: bool,
    /// The program and its version.
    pub tool: String,
}

/// Draws one ECG; the bytes of the file.
///
/// # Errors
/// Where there is no memory, or the encoder refuses.
pub fn draw(ecg: &Ecg, legend: &Legend, format: PlotFormat) -> Result<Vec<u8>> {
    let made = if legend.synthetic { "SYNTHETIC; " } else { "" };
    let origin = format!("{made}{}: {}", legend.tool, legend.steps.join("; "));
    match format {
        PlotFormat::Svg => {
            let mut svg = Svg::new(PAGE);
            sheet(&mut svg, ecg, legend);
            Ok(svg.finish(&ecg.id, &origin))
        }
        PlotFormat::Png => {
            let mut png = Png::new(PAGE)?;
            sheet(&mut png, ecg, legend);
            png.finish(&ecg.id, &origin)
        }
    }
}

fn sheet(on: &mut dyn Canvas, ecg: &Ecg, legend: &Legend) {
    paper(on);
    header(on, ecg, legend);
    let [left, top, _, height] = PAPER;
    let spacing = height / 4.0;
    let line = |row: usize| top + spacing * (row as f64 + 0.5);
    for (row, leads) in ROWS.iter().enumerate() {
        pulse(on, left + 4.0, line(row));
        for (column, &lead) in leads.iter().enumerate() {
            let from = column as f64 * COLUMN_SECONDS;
            let x = left + START + from * SPEED_MM_PER_S;
            trace(on, ecg, lead, [from, COLUMN_SECONDS], [x, line(row)]);
            if column > 0 {
                on.polyline(&[[x, line(row) - 4.0], [x, line(row) + 4.0]], 0.25, INK);
            }
            label(on, [x + 1.5, line(row) - 13.0], lead);
        }
    }
    pulse(on, left + 4.0, line(3));
    trace(on, ecg, Lead::II, [0.0, STRIP_SECONDS], [left + START, line(3)]);
    label(on, [left + START + 1.5, line(3) - 13.0], Lead::II);
    peaks(on, ecg, line(3) + 17.5);
    footer(on, legend);
}

/// Paper with squares of 1 mm and, bolder, of 5 mm.
fn paper(on: &mut dyn Canvas) {
    let [left, top, width, height] = PAPER;
    on.rectangle([0.0, 0.0, PAGE[0], PAGE[1]], BLANK);
    on.rectangle(PAPER, GROUND);
    for (bold, colour, thick) in [(false, FINE, 0.125), (true, BOLD, 0.25)] {
        let lines =
            |length: f64| (0..=length as usize).filter(move |mm| mm.is_multiple_of(5) == bold).map(|mm| mm as f64);
        lines(width).for_each(|mm| on.rectangle([left + mm, top, thick, height], colour));
        lines(height).for_each(|mm| on.rectangle([left, top + mm, width + thick, thick], colour));
    }
}

fn header(on: &mut dyn Canvas, ecg: &Ecg, legend: &Legend) {
    let [left, _, width, _] = PAPER;
    let right = left + width;
    on.text([left, 10.0], 3.6, Anchor::Left, INK, &shorten(&ecg.id, 60));
    let mut facts = Vec::new();
    if ecg.heart_rate.is_finite() {
        facts.push(format!("{:.0} beats/min", ecg.heart_rate));
    }
    facts.push(format!("{} R peaks", ecg.r_peak.len()));
    if ecg.quality.rr_sd_ms.is_finite() {
        facts.push(format!("RR sd {:.0} ms", ecg.quality.rr_sd_ms));
    }
    on.text([left, 16.5], 2.5, Anchor::Left, INK, &facts.join("    "));
    let colour = if ecg.quality.verdict == Verdict::Good { GREY } else { WARN };
    let verdict = format!("quality: {}", ecg.quality.verdict);
    let said = std::iter::once(verdict).chain(ecg.quality.reasons.iter().cloned()).collect::<Vec<_>>().join("; ");
    on.text([left, 22.5], 2.2, Anchor::Left, colour, &shorten(&said, 150));
    if legend.synthetic {
        on.text([right, 10.0], 3.6, Anchor::Right, WARN, "SYNTHETIC");
    }
    on.text([right, 16.5], 2.2, Anchor::Right, GREY, "not for diagnosis");
}

fn footer(on: &mut dyn Canvas, legend: &Legend) {
    let [left, top, width, height] = PAPER;
    let y = top + height + 6.0;
    let scale = format!("{SPEED_MM_PER_S} mm/s    {GAIN_MM_PER_MV} mm/{}", legend.unit);
    on.text([left, y], 2.4, Anchor::Left, INK, &scale);
    let is_cleaning = |step: &&String| !["leads:", "resample", "window", "R peaks"].iter().any(|w| step.starts_with(w));
    let short = |step: &String| step.replace(", zero-phase", "").replace("Butterworth ", "");
    let done: Vec<String> = legend.steps.iter().filter(is_cleaning).map(short).collect();
    let text = if done.is_empty() { legend.preset.clone() } else { format!("{}: {}", legend.preset, done.join("; ")) };
    on.text([left + 48.0, y], 2.2, Anchor::Left, GREY, &shorten(&text, 110));
    on.text([left + width, y], 2.2, Anchor::Right, GREY, &legend.tool);
}

fn shorten(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 3).chain("...".chars()).collect(),
        false => text.to_owned(),
    }
}

/// 1 mV for 0.2 s.
fn pulse(on: &mut dyn Canvas, x: f64, y: f64) {
    let (high, wide) = (GAIN_MM_PER_MV, 0.2 * SPEED_MM_PER_S);
    let points = [[x - 1.5, y], [x, y], [x, y - high], [x + wide, y - high], [x + wide, y], [x + wide + 1.5, y]];
    on.polyline(&points, 0.3, INK);
}

fn label(on: &mut dyn Canvas, at: [f64; 2], lead: Lead) {
    on.text(at, 3.0, Anchor::Left, INK, lead.name());
}

/// One lead from a second on for some seconds, about its median. The pen lifts where it leaves the paper.
fn trace(on: &mut dyn Canvas, ecg: &Ecg, lead: Lead, [from, seconds]: [f64; 2], [x, y]: [f64; 2]) {
    let row = ecg.samples_mv.row(lead as usize);
    let mut sorted: Vec<f32> = row.to_vec();
    sorted.sort_by(f32::total_cmp);
    let middle = f64::from(sorted.get(sorted.len() / 2).copied().unwrap_or(0.0));
    let [_, top, _, height] = PAPER;
    let first = (from * ecg.rate_hz).round() as usize;
    let count = (seconds * ecg.rate_hz).round() as usize + 1;
    let place = |(n, v): (usize, &f32)| {
        let along = (n as f64 / ecg.rate_hz - from) * SPEED_MM_PER_S;
        [x + along, y - (f64::from(*v) - middle) * GAIN_MM_PER_MV]
    };
    let points: Vec<[f64; 2]> = row.iter().enumerate().skip(first).take(count).map(place).collect();
    let on_paper = |p: &[f64; 2]| (top..=top + height).contains(&p[1]);
    let pieces = points.chunk_by(|a, b| on_paper(a) == on_paper(b));
    pieces.filter(|piece| piece.first().is_some_and(on_paper)).for_each(|piece| on.polyline(piece, 0.28, INK));
}

/// A mark under every R peak, and the interval in ms between two.
fn peaks(on: &mut dyn Canvas, ecg: &Ecg, y: f64) {
    let at = |r: i32| PAPER[0] + START + f64::from(r) / ecg.rate_hz * SPEED_MM_PER_S;
    for &r in &ecg.r_peak {
        let x = at(r);
        on.polygon(&[[x, y - 2.2], [x - 1.1, y], [x + 1.1, y]], MARK);
    }
    for (a, b) in ecg.r_peak.iter().zip(ecg.r_peak.iter().skip(1)) {
        let ms = f64::from(b - a) / ecg.rate_hz * 1000.0;
        if at(*b) - at(*a) > 7.0 {
            on.text([(at(*a) + at(*b)) / 2.0, y], 1.7, Anchor::Middle, MARK, &format!("{ms:.0}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ecg::{Quality, LEADS};
    use ndarray::Array2;

    fn ecg() -> Ecg {
        let wave = |(lead, n): (usize, usize)| {
            300.0 + (lead as f32 + 1.0) * 0.1 * (-0.5 * ((n as f32 % 400.0 - 200.0) / 5.0).powi(2)).exp()
        };
        let samples_mv = Array2::from_shape_fn((LEADS, 5000), wave);
        let quality = Quality { rr_sd_ms: 3.0, ..Quality::default() };
        Ecg { id: "a<b>&c".into(), rate_hz: 500.0, samples_mv, r_peak: vec![200, 600, 1000], heart_rate: 75.0, quality }
    }

    fn legend(synthetic: bool) -> Legend {
        let steps =
            vec!["leads: standard order".to_owned(), "low-pass 40 Hz, Butterworth order 4, zero-phase".to_owned()];
        Legend { preset: "clean".into(), steps, unit: "mV", synthetic, tool: "ecg-prep 0.1.0".into() }
    }

    #[test]
    fn svg_is_in_mm_names_every_lead_and_marks_every_peak() {
        let text = String::from_utf8(draw(&ecg(), &legend(true), PlotFormat::Svg).unwrap()).unwrap();
        assert!(text.contains("width=\"297mm\"") && text.contains("viewBox=\"0 0 297 210\""));
        for lead in Lead::ALL {
            assert!(text.contains(&format!(">{lead}</text>")), "{lead}");
        }
        assert_eq!(text.matches("<polygon").count(), 3);
        assert_eq!(text.matches(">800</text>").count(), 2);
        assert!(text.contains("SYNTHETIC") && text.contains("a&lt;b&gt;&amp;c") && text.contains("25 mm/s"));
        assert!(!String::from_utf8(draw(&ecg(), &legend(false), PlotFormat::Svg).unwrap()).unwrap().contains("SYNTH"));
        // R of lead II at sample 200 of the strip: 0.4 s are 10 mm, 0.2 mV are 2 mm above the line in spite of the offset.
        let y = PAPER[1] + PAPER[3] / 4.0 * 3.5 - 2.0;
        assert!(text.contains(&format!("33.5,{y:.2}")), "{y}");
    }

    #[test]
    fn png_has_its_true_size() {
        let bytes = draw(&ecg(), &legend(false), PlotFormat::Png).unwrap();
        let mut reader = png::Decoder::new(bytes.as_slice()).read_info().unwrap();
        let info = reader.info();
        assert_eq!((info.width, info.height), (2376, 1680));
        assert_eq!(info.pixel_dims.map(|p| p.xppu), Some(8000));
        let mut pixels = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut pixels).unwrap();
        let at = |x: usize, y: usize| [0, 1, 2].map(|k| pixels[3 * (y * 2376 + x) + k]);
        assert_eq!(at(0, 0), BLANK);
        assert_eq!(at(68, 1000), BOLD); // the left edge of the paper, 8.5 mm
        assert_eq!(at(76, 216 + 12), FINE); // 1 mm further, between two lines of 1 mm
    }
}
