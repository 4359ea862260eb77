//! Ecg -> Features: PA-MAE features of one cardiac cycle (paper section 3.1, SPEC section 4).

use candle_core::{Device, Tensor};
use ndarray::{Array1, Array2};

use super::{by_device, finite, stack};
use crate::checkpoint::{Kind, Weights};
use crate::data::ecg::Ecg;
use crate::data::features::Features;
use crate::error::{Error, Fault, Result};
use crate::model::pamae::{align, cycles, phase_angle, CycleChoice, Encoder};
use crate::tensor;

/// Input samples a feature covers.
const STRIDE: usize = 8;

/// Which encoder of a weights file to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderChoice {
    /// The one trained along with the flow where the file has it, else PA-MAE's.
    Auto,
    /// PA-MAE's own.
    Pamae,
    /// The one trained along with the flow.
    Flow,
}

impl std::str::FromStr for EncoderChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(EncoderChoice::Auto),
            "pamae" => Ok(EncoderChoice::Pamae),
            "flow" => Ok(EncoderChoice::Flow),
            _ => Err("expected auto, pamae or flow".to_owned()),
        }
    }
}

/// An encoder ready to run.
pub struct Encode {
    encoder: Encoder,
    kind: Kind,
    frames: usize,
    cycle: CycleChoice,
    device: Device,
}

impl Encode {
    /// Loads the encoder; `frames` overrides the frames of its configuration.
    ///
    /// # Errors
    /// Where the weights lack it or do not fit their configuration.
    pub fn open(
        weights: &Weights,
        choice: EncoderChoice,
        cycle: CycleChoice,
        frames: Option<usize>,
        device: &Device,
    ) -> Result<Encode> {
        let of_flow = match choice {
            EncoderChoice::Auto if weights.has(Kind::Flow) => weights.flow_encoder(device)?,
            EncoderChoice::Flow => weights.flow_encoder(device)?,
            EncoderChoice::Auto | EncoderChoice::Pamae => None,
        };
        let (kind, config, builder) = match of_flow {
            Some((config, builder)) => (Kind::Flow, config, builder),
            None if choice == EncoderChoice::Flow => {
                let fault = Fault::new("loading weights", "").file(weights.id()).field("flow.encoder");
                let hint = "use --encoder pamae, or weights whose flow brings its encoder";
                return Err(fault.expected("an encoder trained along with the flow", "none").hint(hint).into());
            }
            None => (Kind::Pamae, weights.config(Kind::Pamae)?, weights.builder(Kind::Pamae, device)?.pp("encoder")),
        };
        let encoder = Encoder::new(&config, builder).map_err(Error::compute("loading weights"))?;
        Ok(Encode { encoder, kind, frames: frames.unwrap_or(config.frames), cycle, device: device.clone() })
    }

    /// The model whose encoder runs.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Refuses an ECG that PA-MAE cannot read.
    ///
    /// # Errors
    /// Where the rate is not 500 Hz or the length not ten seconds.
    pub fn accept(&self, ecg: Ecg) -> Result<Ecg> {
        ecg.accept("encoding ECG")
    }

    /// Features of the chosen cycles of each ECG, in order. With [`CycleChoice::All`] the beats of record `p` are named
    /// `p.beat0`, `p.beat1`, ...
    ///
    /// # Errors
    /// Where the computation fails or yields values that are not finite; inside, for a record in which the chosen cycle is not found.
    pub fn run(&self, batch: &[Ecg]) -> Result<Vec<Result<Vec<Features>>>> {
        let found = by_device(batch, &self.device, |part| {
            let ecg = stack(part, |e| tensor::from_array(e.samples_mv.view(), &self.device))?; // (B, 12, N)
            let (semantic, phase) = self.encoder.forward_t(&ecg, false)?; // (B, D, N/8), (B, 2, N/8)
            part.iter().enumerate().map(|(b, ecg)| self.one(ecg, &semantic.get(b)?, &phase.get(b)?)).collect()
        })?;
        Ok(batch.iter().zip(found).map(|(ecg, features)| self.found(ecg, features)).collect())
    }

    fn found(&self, ecg: &Ecg, features: Vec<Features>) -> Result<Vec<Features>> {
        if !features.is_empty() {
            return Ok(features);
        }
        let fault = Fault::new("encoding ECG", "PA-MAE finds no such beat").record(&ecg.id).field("cycle");
        let expected = match self.cycle {
            CycleChoice::Index(beat) => format!("at least {} complete beats", beat.saturating_add(1)),
            _ => "a complete beat".to_owned(),
        };
        let hint = "--cycle published falls back on the middle of the record";
        Err(fault.expected(expected, "fewer").hint(hint).into())
    }

    /// The chosen cycles of one record; `semantic` (D, L), `phase` (2, L).
    fn one(&self, ecg: &Ecg, semantic: &Tensor, phase: &Tensor) -> candle_core::Result<Vec<Features>> {
        let rows = phase.to_vec2::<f32>()?;
        let [sin, cos] = rows.as_slice() else {
            candle_core::bail!("expected two phase channels, found {}", rows.len())
        };
        let chosen = cycles(sin, cos, self.cycle);
        let features = chosen.iter().enumerate().map(|(k, &(start, end))| {
            let feature: Array2<f32> = tensor::to_array(&align(semantic, start, end, self.frames)?.t()?)?; // (T, D)
            finite("features", &ecg.id, &feature)?;
            let angle = Array1::from(phase_angle(&align(phase, start, end, self.frames)?)?); // (T)
            let id = if self.cycle == CycleChoice::All { format!("{}.beat{k}", ecg.id) } else { ecg.id.clone() };
            let cycle = [start, end].map(|at| i32::try_from(at * STRIDE).unwrap_or(i32::MAX));
            Ok(Features { id, feature, phase: angle, cycle, heart_rate: ecg.heart_rate })
        });
        features.collect()
    }
}
