//! Two surfaces for the same drawing, both in mm: SVG text, and PNG of 8 pixels a mm (203 dots an inch).

use std::fmt::Write;

use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Rect, Stroke, Transform};

use super::glyph;
use crate::error::{Error, Result};

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// Pixels a mm in PNG.
const PIXELS_PER_MM: f32 = 8.0;

/// Where a line of text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// At its left end.
    Left,
    /// In its middle.
    Middle,
    /// At its right end.
    Right,
}

/// A surface to draw on; places and sizes in mm from the upper left corner.
pub trait Canvas {
    /// A filled box: left, top, width, height.
    fn rectangle(&mut self, place: [f64; 4], colour: Rgb);
    /// A line through points.
    fn polyline(&mut self, points: &[[f64; 2]], width: f64, colour: Rgb);
    /// A filled shape.
    fn polygon(&mut self, points: &[[f64; 2]], colour: Rgb);
    /// A line of text standing on y, its capitals `size` high.
    fn text(&mut self, at: [f64; 2], size: f64, anchor: Anchor, colour: Rgb, text: &str);
}

/// SVG as it is written.
pub struct Svg {
    body: String,
    size: [f64; 2],
}

impl Svg {
    /// An empty page, width and height in mm.
    pub fn new(size: [f64; 2]) -> Svg {
        Svg { body: String::new(), size }
    }

    /// The document; `title` and `origin` are told to readers of the file.
    pub fn finish(self, title: &str, origin: &str) -> Vec<u8> {
        let [width, height] = self.size;
        let (title, origin) = (escape(title), escape(origin));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}mm\" \
             height=\"{height}mm\" viewBox=\"0 0 {width} {height}\" stroke-linecap=\"round\" stroke-linejoin=\"round\">\n\
             <title>{title}</title>\n<desc>{origin}</desc>\n{}</svg>\n",
            self.body
        )
        .into_bytes()
    }

    fn points(points: &[[f64; 2]]) -> String {
        points.iter().map(|[x, y]| format!("{},{}", number(*x), number(*y))).collect::<Vec<_>>().join(" ")
    }
}

/// Hundredths of a mm are finer than any printer.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

impl Canvas for Svg {
    fn rectangle(&mut self, [x, y, w, h]: [f64; 4], colour: Rgb) {
        let [x, y, w, h] = [x, y, w, h].map(number);
        let fill = hex(colour);
        let _ = writeln!(self.body, "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"/>");
    }

    fn polyline(&mut self, points: &[[f64; 2]], width: f64, colour: Rgb) {
        let (points, width, stroke) = (Svg::points(points), number(width), hex(colour));
        let style = format!("fill=\"none\" stroke=\"{stroke}\" stroke-width=\"{width}\"");
        let _ = writeln!(self.body, "<polyline points=\"{points}\" {style}/>");
    }

    fn polygon(&mut self, points: &[[f64; 2]], colour: Rgb) {
        let _ = writeln!(self.body, "<polygon points=\"{}\" fill=\"{}\"/>", Svg::points(points), hex(colour));
    }

    fn text(&mut self, [x, y]: [f64; 2], size: f64, anchor: Anchor, colour: Rgb, text: &str) {
        let anchor = match anchor {
            Anchor::Left => "start",
            Anchor::Middle => "middle",
            Anchor::Right => "end",
        };
        let (x, y, fill, text) = (number(x), number(y), hex(colour), escape(text));
        let size = number(size / 0.72); // capitals of common faces are 0.72 of their size
        let face = "font-family=\"Helvetica,Arial,sans-serif\"";
        let place = format!("x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{anchor}\"");
        let _ = writeln!(self.body, "<text {place} {face} fill=\"{fill}\">{text}</text>");
    }
}

/// PNG as it is painted.
pub struct Png {
    pixels: Pixmap,
}

impl Png {
    /// An empty page, width and height in mm.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn new(size: [f64; 2]) -> Result<Png> {
        let [width, height] = size.map(|mm| (mm as f32 * PIXELS_PER_MM).round() as u32);
        let pixels = Pixmap::new(width, height).ok_or("no room for the picture");
        Ok(Png { pixels: pixels.map_err(Error::compute("drawing ECG"))? })
    }

    /// The file, with its true size and a line about its origin.
    ///
    /// # Errors
    /// Where the encoder refuses.
    pub fn finish(self, title: &str, origin: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.pixels.width(), self.pixels.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        encoder.set_filter(png::FilterType::Up); // a row of squared paper is mostly the row above
        let per_metre = (PIXELS_PER_MM * 1000.0) as u32;
        let size = png::PixelDimensions { xppu: per_metre, yppu: per_metre, unit: png::Unit::Meter };
        encoder.set_pixel_dims(Some(size));
        let failed = || Error::compute("writing PNG");
        encoder.add_itxt_chunk("Title".to_owned(), title.to_owned()).map_err(failed())?;
        encoder.add_itxt_chunk("Comment".to_owned(), origin.to_owned()).map_err(failed())?;
        let rgb: Vec<u8> = self.pixels.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
        let mut writer = encoder.write_header().map_err(failed())?;
        writer.write_image_data(&rgb).map_err(failed())?;
        writer.finish().map_err(failed())?;
        Ok(bytes)
    }

    fn path(points: &[[f64; 2]]) -> Option<tiny_skia::Path> {
        let mut path = PathBuilder::new();
        for (k, [x, y]) in points.iter().enumerate() {
            let (x, y) = (*x as f32 * PIXELS_PER_MM, *y as f32 * PIXELS_PER_MM);
            match k {
                0 => path.move_to(x, y),
                _ => path.line_to(x, y),
            }
        }
        path.finish()
    }
}

fn paint([r, g, b]: Rgb) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(Color::from_rgba8(r, g, b, 255));
    paint.anti_alias = true;
    paint
}

impl Canvas for Png {
    fn rectangle(&mut self, place: [f64; 4], colour: Rgb) {
        let [x, y, w, h] = place.map(|mm| (mm as f32 * PIXELS_PER_MM).round());
        if let Some(area) = Rect::from_xywh(x, y, w.max(1.0), h.max(1.0)) {
            self.pixels.fill_rect(area, &paint(colour), Transform::identity(), None);
        }
    }

    fn polyline(&mut self, points: &[[f64; 2]], width: f64, colour: Rgb) {
        let width = width as f32 * PIXELS_PER_MM;
        let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        if let Some(path) = Png::path(points) {
            self.pixels.stroke_path(&path, &paint(colour), &stroke, Transform::identity(), None);
        }
    }

    fn polygon(&mut self, points: &[[f64; 2]], colour: Rgb) {
        if let Some(path) = Png::path(points) {
            self.pixels.fill_path(&path, &paint(colour), FillRule::Winding, Transform::identity(), None);
        }
    }

    fn text(&mut self, [x, y]: [f64; 2], size: f64, anchor: Anchor, colour: Rgb, text: &str) {
        let (strokes, width) = glyph::line(text, size);
        let left = match anchor {
            Anchor::Left => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::Right => x - width,
        };
        for stroke in strokes {
            let mut points: Vec<[f64; 2]> = stroke.into_iter().map(|[dx, dy]| [left + dx, y + dy]).collect();
            if let [a, b] = points.as_mut_slice() {
                if a == b {
                    b[0] += 0.02; // a dot
                }
            }
            self.polyline(&points, size / 8.0, colour);
        }
    }
}
