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
/// The same where one of the models was never trained.
const STAND_IN: &str = "bundled weights, a stand-in that was never trained; the output means nothing";

static BYTES: &[u8] = include_bytes!("../weights/compact.safetensors");

/// Opens them, in the memory where they lie.
///
/// # Errors
/// Where this build of the program is damaged.
pub fn weights() -> Result<Weights> {
    let weights = Weights::from_bytes(NAME, BYTES)?;
    let never_trained = weights.configs().kinds().into_iter().any(|kind| weights.untrained(kind));
    Ok(weights.with_notice(if never_trained { STAND_IN } else { NOTICE }))
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
    fn a_stand_in_is_never_said_to_be_trained() {
        let weights = weights().unwrap();
        let untrained: Vec<Kind> =
            weights.configs().kinds().into_iter().filter(|kind| weights.untrained(*kind)).collect();
        let notice = weights.notice().unwrap();
        assert_eq!(notice == NOTICE, untrained.is_empty());
        assert_eq!(notice.contains("never trained"), !untrained.is_empty());
        assert!(weights.id().starts_with("bundled compact sha256:") && weights.id().ends_with(&format!(" ({notice})")));
        if !untrained.is_empty() {
            let said = format!("NOTE the bundled weights are a stand-in: {untrained:?} were never trained\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
        }
    }
}
