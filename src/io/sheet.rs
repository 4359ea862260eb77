//! A sheet of pictures as PNG: a row for each clip, some of its frames from left to right. For eyes only.
//!
//! Grey levels, nearest-neighbour enlargement. A sheet with a synthetic clip carries the word SYNTHETIC under it and a
//! `Comment` text that says so.

use ndarray::Axis;

use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::io::gif::{word_strip, STRIP};

/// Pixels a side that one pixel of a clip becomes.
const ENLARGE: usize = 2;
/// Pixels between two pictures.
const GAP: usize = 2;
/// Widest and highest sheet, pixels.
const LARGEST: usize = 20_000;

/// Draws `frames` frames of each clip, evenly spaced from the first on, as the bytes of a PNG file.
///
/// # Errors
/// Where the clips differ in size, or the sheet would be larger than 20,000 pixels a side.
pub fn draw(clips: &[Cine], frames: usize, synthetic: bool) -> Result<Vec<u8>> {
    let Some(first) = clips.first() else { return Err(Fault::new("drawing a sheet", "there is no clip").into()) };
    let (_, rows, columns) = first.clip.dim();
    let other = clips.iter().find(|c| (c.clip.dim().1, c.clip.dim().2) != (rows, columns));
    if let Some(other) = other {
        let found = format!("{} x {}", other.clip.dim().1, other.clip.dim().2);
        let fault = Fault::new("drawing a sheet", "").record(&other.id);
        return Err(fault.expected(format!("{rows} x {columns} pixels, as the first clip"), found).into());
    }
    let (cell_width, cell_height) = (columns * ENLARGE + GAP, rows * ENLARGE + GAP);
    let width = cell_width.saturating_mul(frames);
    let height = cell_height.saturating_mul(clips.len()).saturating_add(if synthetic { STRIP } else { 0 });
    if frames == 0 || width > LARGEST || height > LARGEST {
        let found = format!("{width} x {height}");
        let fault = Fault::new("drawing a sheet", "").expected(format!("1 to {LARGEST} pixels a side"), found);
        return Err(fault.hint("draw fewer records (--record) or frames (--frames)").into());
    }
    let mut pixels = vec![0u8; width * cell_height * clips.len()];
    for (row, cine) in clips.iter().enumerate() {
        let count = cine.clip.len_of(Axis(0));
        for cell in 0..frames {
            let frame = cine.clip.index_axis(Axis(0), (cell * count / frames).min(count.saturating_sub(1)));
            for ((i, j), value) in frame.indexed_iter() {
                let grey = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
                for k in 0..ENLARGE {
                    let line = row * cell_height + i * ENLARGE + k;
                    let start = line * width + cell * cell_width + j * ENLARGE;
                    pixels[start..start + ENLARGE].fill(grey);
                }
            }
        }
    }
    if synthetic {
        pixels.extend(word_strip(width));
    }
    encode(&pixels, (width, height), synthetic).map_err(Error::compute("drawing a sheet"))
}

fn encode(
    pixels: &[u8],
    (width, height): (usize, usize),
    synthetic: bool,
) -> std::result::Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32); // at most 20,000 each
    encoder.set_color(png::ColorType::Grayscale);
    if synthetic {
        encoder.add_text_chunk("Comment".to_owned(), "synthetic: made by ecgflow".to_owned())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn cine(side: usize) -> Cine {
        let clip = Array3::from_shape_fn((4, side, side), |(t, ..)| t as f32 / 4.0);
        Cine { id: "p1".into(), source: "p1".into(), sample: 0, clip, pixel_spacing_mm: None, heart_rate: 75.0 }
    }

    #[test]
    fn a_sheet_holds_frames_in_order_and_says_synthetic() {
        let bytes = draw(&[cine(10), cine(10)], 2, true).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes.as_slice())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!((reader.info().width, reader.info().height), (44, 44 + STRIP as u32));
        assert_eq!((pixels[0], pixels[22]), (0, 128)); // frames 0 and 2 of 4
        assert!(bytes.windows(9).any(|w| w == b"synthetic"));
    }

    #[test]
    fn clips_of_two_sizes_make_no_sheet() {
        let error = draw(&[cine(10), cine(12)], 2, false).unwrap_err().to_string();
        assert!(error.contains("expected 10 x 10 pixels") && error.contains("found 12 x 12"), "{error}");
        assert!(draw(&[cine(10)], 10_000, false).is_err() && draw(&[], 2, false).is_err());
    }
}
