//! Where generated clips go: the clips themselves, their latents, their pictures.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::{ComputeArgs, RejectArgs, StreamArgs};
use super::log::Log;
use super::reject::Rejects;
use crate::checkpoint::{Kind, Weights};
use crate::data::cine::{Cine, Latent};
use crate::data::Provenance;
use crate::error::{Error, Result};
use crate::infer::generate::Decode;
use crate::io::hdf5::{CineWriter, LatentReader, LatentWriter};
use crate::io::output::Output;
use crate::io::{gif, Sink, Source};
use crate::kernel::gemm::Precision;

/// Which outputs besides the clips, or instead of them.
#[derive(Args, Debug, Clone)]
pub struct ClipArgs {
    /// Also draw GIFs: a .gif file for one clip, else a folder with one for each.
    #[arg(long, value_name = "PATH")]
    pub gif: Option<PathBuf>,
    /// Also write the latents.
    #[arg(long, value_name = "FILE")]
    pub latent: Option<PathBuf>,
    /// Write the latents to OUTPUT instead of clips: nothing is decoded.
    #[arg(long, conflicts_with_all = ["latent", "gif"])]
    pub latent_only: bool,
}

impl ClipArgs {
    /// Begins the outputs for `count` clips.
    ///
    /// # Errors
    /// Where an output cannot be begun, or two have the same path.
    pub fn begin(&self, output: &Path, provenance: &Provenance, count: usize) -> Result<ClipOutputs> {
        let (clips, latents) = match self.latent_only {
            true => (None, Some(output)),
            false => (Some(output), self.latent.as_deref()),
        };
        ClipOutputs::begin(clips, latents, self.gif.as_deref(), provenance, count)
    }
}

/// Up to three outputs that appear together, or not at all.
pub struct ClipOutputs {
    clips: Option<CineWriter>,
    latents: Option<LatentWriter>,
    pictures: Option<Pictures>,
    synthetic: bool,
}

struct Pictures {
    path: PathBuf,
    /// Whether `path` is a folder with a GIF for each clip.
    folder: bool,
    /// Whether the folder was made for these.
    made: bool,
    drawn: Vec<Output>,
}

impl Drop for Pictures {
    fn drop(&mut self) {
        self.drawn.clear();
        if self.made {
            let _ = std::fs::remove_dir(&self.path); // where nothing was finished it is empty, else this fails
        }
    }
}

impl ClipOutputs {
    /// Begins those that have a path.
    fn begin(
        clips: Option<&Path>,
        latents: Option<&Path>,
        pictures: Option<&Path>,
        provenance: &Provenance,
        count: usize,
    ) -> Result<ClipOutputs> {
        let paths: Vec<&Path> = [clips, latents, pictures].into_iter().flatten().collect();
        if let Some(twice) = paths.iter().enumerate().find(|(i, p)| paths[..*i].contains(p)) {
            return Err(Error::usage(format!("two outputs go to {}", twice.1.display())));
        }
        let pictures = pictures.map(|path| Pictures::begin(path, count)).transpose()?;
        Ok(ClipOutputs {
            clips: clips.map(|p| CineWriter::begin(p, provenance)).transpose()?,
            latents: latents.map(|p| LatentWriter::begin(p, provenance)).transpose()?,
            pictures,
            synthetic: provenance.synthetic,
        })
    }

    /// Writes latents and, where they were decoded, their clips.
    ///
    /// # Errors
    /// Where writing fails.
    pub fn put(&mut self, latents: &[Latent], clips: Option<&[Cine]>) -> Result<()> {
        if let Some(writer) = &mut self.latents {
            latents.iter().try_for_each(|latent| writer.put(latent))?;
        }
        for clip in clips.unwrap_or_default() {
            if let Some(writer) = &mut self.clips {
                writer.put(clip)?;
            }
            if let Some(pictures) = &mut self.pictures {
                pictures.put(clip, self.synthetic)?;
            }
        }
        Ok(())
    }

    /// Puts all outputs in their places; the one that may go down a pipe last.
    ///
    /// # Errors
    /// Where one cannot be finished.
    pub fn finish(self) -> Result<()> {
        if let Some(pictures) = self.pictures {
            pictures.finish()?;
        }
        if let Some(writer) = self.latents {
            writer.finish()?;
        }
        self.clips.map_or(Ok(()), CineWriter::finish)
    }
}

/// Latents -> clips.
///
/// # Errors
/// Whatever stops the work.
pub fn decode(
    name: &'static str,
    source: Source,
    weights: &Weights,
    precision: Precision,
    (stream, clips, compute, rejects): (&StreamArgs, &ClipArgs, &ComputeArgs, &RejectArgs),
    log: &Log,
) -> Result<()> {
    let decode = Decode::open(weights, precision, &compute.device.open()?)?;
    let shown = source.shown().to_owned();
    let reader = LatentReader::open(source)?;
    decode.check(reader.size()).map_err(|e| e.in_file(&shown))?;
    log.weights(weights, Kind::Vae);
    let provenance = super::provenance_after(name, &reader.provenance(), weights);
    let provenance = super::computed_in(provenance, precision);
    let mut outputs = clips.begin(&stream.output, &provenance, reader.records())?;
    let rejects = Rejects::begin(rejects, log, &provenance)?;
    let bar = log.progress(reader.records());
    for batch in super::batches(reader, compute.batch, &rejects) {
        let latents = batch?;
        outputs.put(&latents, Some(&decode.run(&latents)?))?;
        bar.inc(latents.len() as u64);
    }
    rejects.finish()?;
    outputs.finish()
}

impl Pictures {
    fn begin(path: &Path, count: usize) -> Result<Pictures> {
        if path == Path::new("-") {
            return Err(Error::usage("--gif - : a picture needs a file or a folder"));
        }
        let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gif"));
        let folder = !named || path.is_dir();
        if !folder && count != 1 {
            let hint = Some("give a folder: a GIF for each clip is drawn in it".to_owned());
            return Err(Error::Usage {
                cause: format!("--gif {}: one picture for {count} clips", path.display()),
                hint,
            });
        }
        Ok(Pictures { path: path.to_owned(), folder, made: false, drawn: Vec::new() })
    }

    fn put(&mut self, clip: &Cine, synthetic: bool) -> Result<()> {
        if !self.folder {
            self.drawn.push(gif::write(&self.path, clip, synthetic)?);
            return Ok(());
        }
        self.made |= !self.path.exists();
        std::fs::create_dir_all(&self.path).map_err(Error::io("making the folder", &self.path))?;
        let number = self.drawn.len();
        let file = self.path.join(format!("{number:04}_{}.gif", file_name(&clip.id)));
        self.drawn.push(gif::write(&file, clip, synthetic)?);
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        std::mem::take(&mut self.drawn).into_iter().try_for_each(Output::finish)
    }
}

/// An id as part of a file name: letters, digits, `.`, `-` and `_` stay, at most 100 bytes of them.
fn file_name(id: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || ".-_".contains(c) { c } else { '_' };
    id.char_indices().take_while(|(at, c)| at + c.len_utf8() <= 100).map(|(_, c)| plain(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_leave_the_folder() {
        assert_eq!(file_name("../../etc/passwd"), ".._.._etc_passwd");
        assert_eq!(file_name("p 7.draw1"), "p_7.draw1");
        assert_eq!(file_name(&"\u{5fc3}".repeat(90)).len(), 99); // file systems allow 255 bytes
    }

    #[test]
    fn two_outputs_may_not_share_a_path() {
        let path = Path::new("x.h5");
        let provenance = Provenance::now("t", "t".into());
        let error = ClipOutputs::begin(Some(path), Some(path), None, &provenance, 1).err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }
}
