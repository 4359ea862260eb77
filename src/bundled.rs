//! The small weights inside the programs, so that they work without `--weights`.
//!
//! The file is `weights/compact.safetensors`: the `compact` models in f16, trained on simulated hearts alone. What they
//! make is for trying the tools. Programs that never ask for them do not carry them.

use crate::checkpoint::Weights;
use crate::error::Result;

/// Their name in provenance.
pub const NAME: &str = "bundled compact";
/// What every program says that uses them, and what stands in the provenance of its output.
pub const NOTICE: &str = "bundled weights, trained on simulated hearts; for trying the tools, not for science or care";

static BYTES: &[u8] = include_bytes!("../weights/compact.safetensors");

/// Opens them, in the memory where they lie.
///
/// # Errors
/// Where this build of the program is damaged.
pub fn weights() -> Result<Weights> {
    Ok(Weights::from_bytes(NAME, BYTES)?.with_notice(NOTICE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{sizes::Sizes, Kind};
    use candle_core::Device;

    /// The models that a clip needs, in the order of the pipe.
    const CLIP: [Kind; 3] = [Kind::Pamae, Kind::Vae, Kind::Flow];

    #[test]
    fn the_bundled_models_are_whole_and_of_the_compact_clip() {
        let weights = weights().unwrap();
        let compact = Sizes::Compact.configs(&CLIP, &[]);
        let (flow, wanted) = (weights.configs().flow.clone().unwrap(), compact.flow.unwrap());
        assert_eq!((flow.frames, flow.feature_dim), (wanted.frames, wanted.feature_dim));
        for kind in weights.configs().kinds() {
            weights.check(kind).unwrap();
        }
        assert!(CLIP.iter().all(|kind| weights.has(*kind)));
        for name in weights.shapes().keys() {
            let values: Vec<f32> =
                weights.tensor(name, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert!(values.iter().all(|value| value.is_finite()), "{name}");
        }
    }

    #[test]
    fn all_bundled_models_together_take_at_most_16_mb() {
        assert!(BYTES.len() <= 16 << 20, "{} bytes", BYTES.len());
    }

    #[test]
    fn all_bundled_models_were_trained() {
        let weights = weights().unwrap();
        for kind in weights.configs().kinds() {
            assert!(!weights.untrained(kind), "{kind:?} was never trained: `make weights`");
        }
        assert!(weights.id().starts_with("bundled compact sha256:") && weights.id().ends_with(&format!(" ({NOTICE})")));
    }
}
