//! Charts as SVG, and pages of HTML that hold them. For eyes only; nothing is loaded from elsewhere.

use std::fmt::Write;

/// Size of a chart, pixels.
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 270.0;
/// Room around the frame: left, top, right, bottom.
const ROOM: [f64; 4] = [52.0, 26.0, 12.0, 42.0];
/// Most points of a chart; of more, evenly spaced ones are drawn.
const MOST_POINTS: usize = 700;
/// Colours that are told apart by all eyes (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A dot for each pair.
    Points(Vec<[f64; 2]>),
    /// A line through the pairs, with its name, dots where it bends where `dots` is set.
    Line {
        /// Its name in the legend; none where it is empty.
        name: String,
        /// The pairs.
        places: Vec<[f64; 2]>,
        /// Whether the pairs are marked.
        dots: bool,
    },
    /// A thin line for the eye: dashed where `dashed` is set.
    Guide([[f64; 2]; 2], bool),
    /// Bars from 0: left, right, height.
    Bars(Vec<[f64; 3]>),
    /// Words in the upper left corner, one line below the other.
    Note(String),
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// Names of the axes.
    pub axes: [String; 2],
    /// Smallest and largest value of each axis; not finite or equal: taken from the marks.
    pub range: [[f64; 2]; 2],
    /// What is drawn, the first below the others.
    pub marks: Vec<Mark>,
}

/// For [`Chart::range`]: as the marks have it.
pub const FITTED: [f64; 2] = [f64::NAN, f64::NAN];

/// Text as HTML.
///
/// ```
/// assert_eq!(ecgflow::io::chart::escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
/// ```
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Four digits at most, for eyes.
///
/// ```
/// use ecgflow::io::chart::short;
/// assert_eq!([short(0.71234), short(1234.6), short(-2.0), short(0.00012)], ["0.712", "1235", "-2", "1.2e-4"]);
/// assert_eq!([short(f64::NAN), short(f64::INFINITY)], ["", "inf"]);
/// ```
pub fn short(value: f64) -> String {
    let plain = |decimals: usize| {
        let text = format!("{value:.decimals$}");
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    };
    match value.abs() {
        _ if value.is_nan() => String::new(),
        _ if value.is_infinite() => value.to_string(),
        size if size >= 100.0 => plain(0),
        size if size >= 10.0 => plain(1),
        size if size >= 1.0 => plain(2),
        size if size >= 0.001 || size == 0.0 => plain(3),
        _ => format!("{value:.1e}"),
    }
}

impl Chart {
    /// As an `<svg>` element.
    pub fn svg(&self) -> String {
        let scale = Scale { x: self.limits(0), y: self.limits(1) };
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\" font-family=\"sans-serif\" font-size=\"11\"><title>{}</title>",
            escape(&self.title)
        );
        let mut text = |x: f64, y: f64, anchor: &str, more: &str, text: &str| {
            let _ =
                write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{}</text>", escape(text));
        };
        let [left, top, right, bottom] = frame();
        text(WIDTH / 2.0, 16.0, "middle", " font-weight=\"bold\"", &self.title);
        text((left + right) / 2.0, HEIGHT - 8.0, "middle", "", &self.axes[0]);
        let middle = (top + bottom) / 2.0;
        text(12.0, middle, "middle", &format!(" transform=\"rotate(-90 12 {middle:.1})\""), &self.axes[1]);
        for tick in ticks(scale.x) {
            text(scale.place([tick, scale.y[0]]).0, bottom + 14.0, "middle", " fill=\"#555\"", &short(tick));
        }
        for tick in ticks(scale.y) {
            text(left - 5.0, scale.place([scale.x[0], tick]).1 + 4.0, "end", " fill=\"#555\"", &short(tick));
        }
        let (w, h) = (right - left, bottom - top);
        let _ =
            write!(out, "<rect x=\"{left}\" y=\"{top}\" width=\"{w}\" height=\"{h}\" fill=\"none\" stroke=\"#999\"/>");
        let mut named = Vec::new();
        for mark in &self.marks {
            draw(mark, &scale, &mut out, &mut named);
        }
        let notes = self.marks.iter().filter_map(|mark| if let Mark::Note(note) = mark { Some(note) } else { None });
        for (i, note) in notes.enumerate() {
            let (x, y) = (left + 6.0, top + 14.0 + 13.0 * i as f64);
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"#333\">{}</text>", escape(note));
        }
        for (i, (name, colour)) in named.iter().rev().enumerate() {
            let y = bottom - 8.0 - 13.0 * i as f64;
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
                right - 6.0,
                escape(name)
            );
        }
        out.push_str("</svg>");
        out
    }

    /// Smallest and largest value of an axis.
    fn limits(&self, axis: usize) -> [f64; 2] {
        let [low, high] = self.range[axis];
        if low < high {
            return [low, high];
        }
        let mut all: Vec<f64> = Vec::new();
        for mark in &self.marks {
            match mark {
                Mark::Points(places) | Mark::Line { places, .. } => all.extend(places.iter().map(|p| p[axis])),
                Mark::Guide(ends, _) => all.extend(ends.iter().map(|p| p[axis])),
                Mark::Bars(bars) if axis == 0 => all.extend(bars.iter().flat_map(|bar| [bar[0], bar[1]])),
                Mark::Bars(bars) => all.extend(bars.iter().flat_map(|bar| [0.0, bar[2]])),
                Mark::Note(_) => {}
            }
        }
        all.retain(|value| value.is_finite());
        let (low, high) =
            (all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        match high - low {
            room if room > 0.0 => [low - 0.04 * room, high + 0.04 * room],
            _ if low.is_finite() => [low - 1.0, low + 1.0],
            _ => [0.0, 1.0],
        }
    }
}

/// Left, top, right and bottom of the frame.
fn frame() -> [f64; 4] {
    [ROOM[0], ROOM[1], WIDTH - ROOM[2], HEIGHT - ROOM[3]]
}

struct Scale {
    x: [f64; 2],
    y: [f64; 2],
}

impl Scale {
    fn place(&self, [x, y]: [f64; 2]) -> (f64, f64) {
        let [left, top, right, bottom] = frame();
        let share = |value: f64, [low, high]: [f64; 2]| ((value - low) / (high - low)).clamp(-0.02, 1.02);
        (left + share(x, self.x) * (right - left), bottom - share(y, self.y) * (bottom - top))
    }
}

/// Round values on an axis.
fn ticks([low, high]: [f64; 2]) -> Vec<f64> {
    let step = 10f64.powf(((high - low) / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * step).into_iter().find(|s| (high - low) / s <= 5.0).unwrap_or(step);
    let first = (low / step).ceil() as i64;
    (0..7).map(|i| (first + i) as f64 * step).filter(|tick| *tick <= high).collect()
}

fn draw(mark: &Mark, scale: &Scale, out: &mut String, named: &mut Vec<(String, &'static str)>) {
    match mark {
        Mark::Points(places) => {
            let stride = places.len().div_ceil(MOST_POINTS).max(1);
            let _ = write!(out, "<g fill=\"{}\" fill-opacity=\"0.45\">", COLOURS[0]);
            for place in places.iter().step_by(stride).filter(|p| p.iter().all(|v| v.is_finite())) {
                let (x, y) = scale.place(*place);
                let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/>");
            }
            out.push_str("</g>");
        }
        Mark::Line { name, places, dots } => {
            let colour = COLOURS[named.len() % COLOURS.len()];
            let at: Vec<(f64, f64)> = places.iter().map(|p| scale.place(*p)).collect();
            let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = write!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
                path.join(" ")
            );
            for (x, y) in at.iter().filter(|_| *dots) {
                let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
            named.push((name.clone(), colour));
        }
        Mark::Guide([from, to], dashed) => {
            let ((x, y), (u, v)) = (scale.place(*from), scale.place(*to));
            let dash = if *dashed { " stroke-dasharray=\"4 3\"" } else { "" };
            let _ =
                write!(out, "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{u:.1}\" y2=\"{v:.1}\" stroke=\"#777\"{dash}/>");
        }
        Mark::Note(_) => {} // above everything else, by the caller
        Mark::Bars(bars) => {
            for [left, right, height] in bars {
                let ((x, y), (u, v)) = (scale.place([*left, *height]), scale.place([*right, 0.0]));
                let (w, h) = ((u - x - 1.0).max(0.5), (v - y).max(0.0));
                let _ = write!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{}\"/>",
                    COLOURS[0]
                );
            }
        }
    }
}

/// A page of HTML: a title, then its parts, each HTML already.
pub fn page(title: &str, parts: &[String]) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n{}\n</body></html>\n",
        parts.join("\n")
    )
}

const STYLE: &str = "body{font-family:sans-serif;max-width:1380px;margin:1.5em auto;padding:0 1em;color:#222}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.6em}table{border-collapse:collapse;font-size:.85em}\
td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left}td.n,th.n{text-align:right}\
.note{background:#fff3cd;border:1px solid #e6c200;padding:.5em .8em;margin:.5em 0}\
.charts{display:flex;flex-wrap:wrap;gap:6px}.group{display:flex;gap:6px}\
.matrix{display:inline-block;vertical-align:top;margin-right:2em}h3{font-size:1em}\
.origin{color:#555;font-size:.8em;overflow-wrap:anywhere}";

/// A table of HTML: its header and rows of text; columns from `numbers` on are set right.
pub fn table(header: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let class = |i: usize| if i >= numbers { " class=\"n\"" } else { "" };
    let line = |cells: Vec<String>, tag: &str| {
        let cells = cells.iter().enumerate().map(|(i, cell)| format!("<{tag}{}>{}</{tag}>", class(i), escape(cell)));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let head = line(header.iter().map(|h| (*h).to_owned()).collect(), "th");
    let body: Vec<String> = rows.iter().map(|row| line(row.clone(), "td")).collect();
    format!("<table>{head}\n{}</table>", body.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(marks: Vec<Mark>) -> Chart {
        Chart { title: "a < b".into(), axes: ["x".into(), "y".into()], range: [FITTED; 2], marks }
    }

    #[test]
    fn points_lie_inside_the_frame_and_words_are_escaped() {
        let svg = chart(vec![Mark::Points(vec![[1.0, 10.0], [3.0, 30.0], [f64::NAN, 1.0]])]).svg();
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && !svg.contains("NaN"));
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks([0.0, 1.0]), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks([93.0, 207.0]), [100.0, 150.0, 200.0]);
    }

    #[test]
    fn nothing_and_one_value_still_make_a_chart() {
        for marks in [vec![], vec![Mark::Points(vec![[2.0, 2.0]])], vec![Mark::Bars(vec![[0.0, 1.0, 4.0]])]] {
            let svg = chart(marks).svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
