//! Pictures of clips: `ecgflow render`.

use std::path::{Path, PathBuf};

use clap::Args;
use ndarray::{concatenate, Array3, Axis};

use super::args::count;
use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::io::hdf5::CineReader;
use crate::io::output::Output;
use crate::io::{gif, sheet, Source};

/// Draw clips: an animated GIF of one record, or a PNG sheet of frames.
///
/// With several files the clips of the same record stand beside each other (GIF) or under each other (PNG). Example:
/// ecgflow render generated.h5 truth.h5 -o clip.gif
#[derive(Args, Debug)]
pub struct RenderArgs {
    /// Files of clips.
    #[arg(required = true, value_name = "CINE")]
    files: Vec<PathBuf>,
    /// Picture to write: .gif or .png.
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,
    /// Only these records [default: the first for a GIF, the first sixteen for a PNG].
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    record: Vec<String>,
    /// Frames a row of a PNG [default: 12].
    #[arg(long, value_name = "N", value_parser = count)]
    frames: Option<usize>,
}

/// Frames a row of a PNG.
const FRAMES: usize = 12;
/// Records of a PNG that names none.
const ROWS: usize = 16;

/// An open file of clips.
struct Clips {
    shown: String,
    reader: CineReader,
    synthetic: bool,
}

impl Clips {
    fn open(path: &Path) -> Result<Clips> {
        let source = Source::open(path)?;
        let shown = source.shown().to_owned();
        let reader = CineReader::open(source)?;
        let synthetic = reader.provenance().synthetic;
        Ok(Clips { shown, reader, synthetic })
    }

    fn missing(&self, record: &str) -> Error {
        Fault::new("drawing clips", "no such record").file(&self.shown).record(record).into()
    }

    /// The clips to draw: those of the records `wanted`, in that order, else the first ones; `most` at most of those.
    fn rows(&mut self, wanted: &[String], most: usize) -> Result<Vec<Cine>> {
        if wanted.is_empty() {
            return self.reader.by_ref().take(most).collect();
        }
        let mut found: Vec<Vec<Cine>> = vec![Vec::new(); wanted.len()];
        for cine in self.reader.by_ref() {
            let cine = cine?;
            if let Some(place) = wanted.iter().position(|name| cine.id == *name || cine.source == *name) {
                found[place].push(cine);
            }
        }
        match found.iter().zip(wanted).find(|(clips, _)| clips.is_empty()) {
            Some((_, name)) => Err(self.missing(name)),
            None => Ok(found.into_iter().flatten().take(most).collect()),
        }
    }

    /// For each row the clip of that name here, else the first clip of the same record.
    fn partners(&mut self, rows: &[Cine]) -> Result<Vec<Cine>> {
        let mut found: Vec<Option<Cine>> = vec![None; rows.len()];
        for cine in self.reader.by_ref() {
            let cine = cine?;
            for (row, place) in rows.iter().zip(&mut found) {
                if cine.id == row.id || (place.is_none() && cine.source == row.source) {
                    *place = Some(cine.clone());
                }
            }
            if rows.iter().zip(&found).all(|(row, place)| place.as_ref().is_some_and(|cine| cine.id == row.id)) {
                break;
            }
        }
        found.into_iter().zip(rows).map(|(cine, row)| cine.ok_or_else(|| self.missing(&row.source))).collect()
    }
}

/// Draws.
///
/// # Errors
/// Where a file cannot be read, a record is missing, or clips do not fit beside each other.
pub fn render(args: &RenderArgs) -> Result<()> {
    let is_gif = match args.output.extension().and_then(|e| e.to_str()) {
        Some("gif") => true,
        Some("png") => false,
        _ => return Err(Error::usage("--output: expected a name that ends in .gif or .png".to_owned())),
    };
    if is_gif && args.record.len() > 1 {
        return Err(Error::usage("--record: a GIF shows one record".to_owned()));
    }
    if is_gif && args.frames.is_some() {
        return Err(Error::usage("--frames: a GIF shows every frame".to_owned()));
    }
    let most = match (args.record.is_empty(), is_gif) {
        (_, true) => 1,
        (true, false) => ROWS,
        (false, false) => usize::MAX,
    };
    let (first, others) = args.files.split_first().ok_or_else(|| Error::usage("give a file of clips".to_owned()))?;
    let mut first = Clips::open(first)?;
    let mut synthetic = first.synthetic;
    let mut columns = vec![first.rows(&args.record, most)?];
    for path in others {
        let mut other = Clips::open(path)?;
        synthetic |= other.synthetic;
        columns.push(other.partners(&columns[0])?);
    }
    let count = columns[0].len();
    let clips: Vec<Cine> = (0..count).flat_map(|row| columns.iter().map(move |clips| clips[row].clone())).collect();
    if is_gif {
        return gif::write(&args.output, &beside(&clips)?, synthetic)?.finish();
    }
    Output::holding(&args.output, true, sheet::draw(&clips, args.frames.unwrap_or(FRAMES), synthetic)?)?.finish()
}

/// One clip out of several, side by side.
fn beside(clips: &[Cine]) -> Result<Cine> {
    let Some(first) = clips.first() else { return Err(Fault::new("drawing clips", "there is no clip").into()) };
    let (frames, rows, _) = first.clip.dim();
    let gap = Array3::<f32>::zeros((frames, rows, 2));
    let mut parts = Vec::new();
    for cine in clips {
        let found = (cine.clip.dim().0, cine.clip.dim().1);
        if found != (frames, rows) {
            let fault = Fault::new("drawing clips", "").record(&cine.id);
            let expected = format!("{frames} frames of {rows} rows, as the first clip");
            return Err(fault.expected(expected, format!("{} of {}", found.0, found.1)).into());
        }
        if !parts.is_empty() {
            parts.push(gap.view());
        }
        parts.push(cine.clip.view());
    }
    let clip = concatenate(Axis(2), &parts).map_err(Error::compute("drawing clips"))?;
    Ok(Cine { clip, ..first.clone() })
}
