//! HDF5, the exchange format of the stages.
//!
//! ```text
//! /                 attributes: format, format_version, tool, tool_version, command, model, seed, created, synthetic, history
//! |- id             N strings, unique
//! |- heart_rate     N f32, beats a minute, NaN where unknown
//! |- ecg            N,12,S f32      format "ecgflow.ecg"        (attributes fs, lead, preset; r_peak; quality/...)
//! |- feature        N,T,D f32       format "ecgflow.features"   (phase, cycle)
//! |- cine           N,T,H,W f32     format "ecgflow.cine"       (sample, source, pixel_spacing)
//! `- latent         N,4,T,L,L f32   format "ecgflow.latent"     (sample, source)
//! ```
//!
//! The record axis comes first. Large datasets are chunked one record a chunk, shuffled and deflated at level 1: noise
//! gains nothing from more. Threads of ours pack the chunks where the library lets them. Readers hold some records at a time;
//! what a header claims is held against the file's size before anything is allocated. Files without our attributes (written
//! by h5py, say) are read if the datasets fit; ECGs in other layouts are read too (`--dataset`, `--layout`), that of CODE-15 %
//! without being told.

mod array;
mod chunk;
mod clip;
mod deflate;
mod describe;
mod ecg;
mod features;
mod reader;
mod records;
mod writer;

pub use clip::{CineReader, CineWriter, LatentReader, LatentWriter};
pub use describe::describe;
pub use ecg::{open_ecg, EcgReader, EcgWriter};
pub use features::{FeaturesReader, FeaturesWriter};
pub use reader::{origin, Reader};
pub use records::{Noun, Records};
pub use writer::Writer;

/// Version of the layout above.
pub const FORMAT_VERSION: i64 = 1;

/// Value of the root attribute `format` for each noun.
pub mod format {
    /// Prepared ECGs.
    pub const ECG: &str = "ecgflow.ecg";
    /// Features of one cycle.
    pub const FEATURES: &str = "ecgflow.features";
    /// Cine clips.
    pub const CINE: &str = "ecgflow.cine";
    /// Latents of clips.
    pub const LATENT: &str = "ecgflow.latent";

    /// The program that writes a format; for hints.
    pub fn writer(format: &str) -> &'static str {
        match format {
            ECG => "ecg-prep",
            FEATURES => "pamae-encode",
            CINE => "amdf-sample",
            LATENT => "amdf-sample --latent",
            _ => "one of the stages",
        }
    }
}

/// Whether a file is HDF5: its signature.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    head.starts_with(b"\x89HDF\r\n\x1a\n")
}
