//! Pictures of clips: `ecgflow render`.

use std::path::PathBuf;

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

/// The clips of one file, and whether they were generated.
struct Clips {
    shown: String,
    clips: Vec<Cine>,
    synthetic: bool,
}

impl Clips {
    /// Reads the records that `wanted` names, or the first ones up to `most`.
    fn read(path: &std::path::Path, wanted: &[String], most: usize) -> Result<Clips> {
        let source = Source::open(path)?;
        let shown = source.shown().to_owned();
        let reader = CineReader::open(source)?;
        let synthetic = reader.provenance().synthetic;
        let mut clips = Vec::new();
        for cine in reader {
            let cine = cine?;
            if wanted.is_empty() || wanted.contains(&cine.id) || wanted.contains(&cine.source) {
                clips.push(cine);
            }
            if clips.len() >= most && !clips.is_empty() {
                break;
            }
        }
        Ok(Clips { shown, clips, synthetic })
    }

    /// The clip of a record.
    fn of(&self, id: &str) -> Result<&Cine> {
        let found = self.clips.iter().find(|cine| cine.id == id || cine.source == id);
        found.ok_or_else(|| Fault::new("drawing clips", "no such record").file(&self.shown).record(id).into())
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
    let most = match (args.record.len(), is_gif) {
        (0, true) => 1,
        (0, false) => ROWS,
        (n, _) => n,
    };
    let (first, others) = args.files.split_first().ok_or_else(|| Error::usage("give a file of clips".to_owned()))?;
    let first = Clips::read(first, &args.record, most)?;
    let ids: Vec<String> = match args.record.as_slice() {
        [] => first.clips.iter().map(|cine| cine.source.clone()).collect(),
        ids => ids.to_vec(),
    };
    let mut files = vec![first];
    for path in others {
        files.push(Clips::read(path, &ids, ids.len())?);
    }
    let synthetic = files.iter().any(|file| file.synthetic);
    let mut clips = Vec::new();
    for id in &ids {
        for file in &files {
            clips.push(file.of(id)?.clone());
        }
    }
    if is_gif {
        return gif::write(&args.output, &beside(&clips)?, synthetic)?.finish();
    }
    let output = Output::begin(&args.output, true)?;
    std::fs::write(output.path(), sheet::draw(&clips, args.frames.unwrap_or(FRAMES), synthetic)?)
        .map_err(Error::io("writing", &args.output))?;
    output.finish()
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
