//! The small weights inside the programs, so that they work without `--weights`.
//!
//! | file | models |
//! |---|---|
//! | `weights/compact.safetensors` | PA-MAE, 3D-VAE, flow: an ECG to a clip |
//! | `weights/downstream.safetensors` | phenotypes, diagnoses: a clip to numbers |
//!
//! The `compact` models in f16, trained on simulated hearts alone. What they make is for trying the tools. Programs that
//! never ask for a file do not carry it.

use crate::checkpoint::Weights;
use crate::error::Result;

/// Name in provenance of those that make a clip.
pub const NAME: &str = "bundled compact";
/// Name of those that read one.
pub const DOWNSTREAM_NAME: &str = "bundled downstream";
/// What every program says that uses them, and what stands in the provenance of its output.
pub const NOTICE: &str = "bundled weights, trained on simulated hearts; for trying the tools, not for science or care";

static BYTES: &[u8] = include_bytes!("../weights/compact.safetensors");
static DOWNSTREAM: &[u8] = include_bytes!("../weights/downstream.safetensors");

/// Opens those that make a clip, in the memory where they lie.
///
/// # Errors
/// Where this build of the program is damaged.
pub fn weights() -> Result<Weights> {
    Ok(Weights::from_bytes(NAME, BYTES)?.with_notice(NOTICE))
}

/// Opens those that read a clip.
///
/// # Errors
/// Where this build of the program is damaged.
pub fn downstream() -> Result<Weights> {
    Ok(Weights::from_bytes(DOWNSTREAM_NAME, DOWNSTREAM)?.with_notice(NOTICE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::sizes::{Backbone, Sizes};
    use crate::checkpoint::Kind;
    use crate::model::vit;
    use candle_core::Device;

    /// The models that a clip needs, in the order of the pipe.
    const CLIP: [Kind; 3] = [Kind::Pamae, Kind::Vae, Kind::Flow];
    /// The models that read one.
    const NUMBERS: [Kind; 2] = [Kind::Phenotype, Kind::Diagnosis];

    #[test]
    fn the_bundled_models_are_whole_and_of_the_compact_clip() {
        let weights = weights().unwrap();
        let compact = Sizes::Compact.configs(&CLIP, &[]);
        let (flow, wanted) = (weights.configs().flow.clone().unwrap(), compact.flow.unwrap());
        assert_eq!((flow.frames, flow.feature_dim), (wanted.frames, wanted.feature_dim));
        let of_clip = |found: &vit::Config| (found.frames, found.image, found.standardise);
        let downstream = downstream().unwrap();
        let wanted = Backbone::Compact.phenotype(&[24100]);
        for found in [&downstream.configs().phenotype, &downstream.configs().diagnosis] {
            assert_eq!(of_clip(found.as_ref().unwrap()), of_clip(&wanted));
        }
        for (weights, kinds) in [(weights, CLIP.as_slice()), (downstream, NUMBERS.as_slice())] {
            assert!(kinds.iter().all(|kind| weights.has(*kind)));
            weights.configs().kinds().into_iter().for_each(|kind| weights.check(kind).unwrap());
            for name in weights.shapes().keys() {
                let tensor = weights.tensor(name, &Device::Cpu).unwrap();
                let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
                assert!(values.iter().all(|value| value.is_finite()), "{name}");
            }
        }
    }

    #[test]
    fn the_bundled_models_take_at_most_16_mb_to_make_a_clip_and_8_mb_to_read_one() {
        assert!(BYTES.len() <= 16 << 20, "{} bytes", BYTES.len());
        assert!(DOWNSTREAM.len() <= 8 << 20, "{} bytes", DOWNSTREAM.len());
    }

    #[test]
    fn all_bundled_models_were_trained() {
        for (weights, name) in [(weights().unwrap(), NAME), (downstream().unwrap(), DOWNSTREAM_NAME)] {
            for kind in weights.configs().kinds() {
                assert!(!weights.untrained(kind), "{kind:?} was never trained: `make weights`");
            }
            let id = weights.id();
            assert!(id.starts_with(&format!("{name} sha256:")) && id.ends_with(&format!(" ({NOTICE})")), "{id}");
        }
    }
}
