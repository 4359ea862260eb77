//! The model that a training starts from, and its variables.
//!
//! Fresh values come from the distributions that the layers ask for, each tensor from a stream of its own, (seed, name).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::variables::{Tensors, Variables};
use crate::checkpoint::{fill, Configs, Kind, Models, Weights, ENCODER, TEMPLATE};
use crate::error::{Error, Fault, Result};
use crate::model::{amdf, mae, pamae, vae, vit};
use crate::random::Stream;

const DOING: &str = "drawing fresh weights";

/// One model: that of `init` with its own configuration, else one of `configs` with values drawn from the seed.
///
/// # Errors
/// Where `init` does not hold the model, or a configuration is missing or impossible.
pub fn start(kind: Kind, configs: &Configs, init: Option<&Weights>, seed: u64) -> Result<Models> {
    let mut models = Models::default();
    match init {
        Some(weights) if matches!(kind, Kind::Phenotype | Kind::Diagnosis) => {
            return from_backbone(kind, configs, weights, seed);
        }
        Some(weights) => models.take(kind, weights)?,
        None => {
            models.configs.copy(kind, configs);
            fill::init(&mut models, kind, seed)?; // complete and checked; then what the layers ask for
            let drawn = drawn(kind, configs, seed)?;
            models.tensors.extend(drawn.into_iter().map(|(name, tensor)| (format!("{kind}.{name}"), tensor)));
        }
    }
    Ok(models)
}

/// A vision transformer that starts from another: all but its head, and the head too where both ask for the same. The other
/// is of its own kind, or pretrained, or of the other task.
fn from_backbone(kind: Kind, configs: &Configs, weights: &Weights, seed: u64) -> Result<Models> {
    let others = [kind, Kind::Mae, Kind::Phenotype, Kind::Diagnosis];
    let from = others.into_iter().find(|other| weights.has(*other)).unwrap_or(Kind::Mae);
    let found: vit::Config = match from {
        Kind::Mae => weights.config::<mae::Config>(from)?.vit,
        _ => weights.config(from)?,
    };
    let asked = if kind == Kind::Phenotype { &configs.phenotype } else { &configs.diagnosis };
    let asked = asked.as_ref().ok_or_else(|| Fault::new(DOING, "there is no configuration").field(kind))?;
    let with_head = found.task == asked.task;
    let config = vit::Config { task: asked.task.clone(), ..found };
    let mut sized = Configs::default();
    match kind {
        Kind::Phenotype => sized.phenotype = Some(config),
        _ => sized.diagnosis = Some(config),
    }
    let mut models = start(kind, &sized, None, seed)?;
    weights.check(from)?;
    let is_head =
        |name: &str| ["head.", "target_", "temperature", "threshold"].iter().any(|start| name.starts_with(start));
    for (full, value) in &mut models.tensors {
        let name = full.split_once('.').map_or("", |(_, name)| name);
        if with_head || !is_head(name) {
            *value = weights.tensor(&format!("{from}.{name}"), &Device::Cpu)?;
        }
    }
    Ok(models)
}

/// The vision transformer of a kind.
///
/// # Errors
/// Where there is none.
pub fn vit(configs: &Configs, kind: Kind) -> Result<vit::Config> {
    let found = match kind {
        Kind::Phenotype => configs.phenotype.clone(),
        Kind::Diagnosis => configs.diagnosis.clone(),
        Kind::Mae => configs.mae.clone().map(|mae| mae.vit),
        _ => None,
    };
    Ok(found.ok_or_else(|| Fault::new(DOING, "there is no configuration").field(kind))?)
}

/// Gives a flow the ECG encoder of PA-MAE to start from.
///
/// # Errors
/// Where the weights hold no PA-MAE.
pub fn take_encoder(flow: &mut Models, weights: &Weights) -> Result<()> {
    let mut pamae = Models::default();
    pamae.take(Kind::Pamae, weights)?;
    flow.configs.flow_encoder = pamae.configs.pamae;
    let prefix = format!("{}.{ENCODER}", Kind::Pamae);
    let encoder = pamae.tensors.into_iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix(&prefix)?.to_owned();
        Some((format!("{}.{ENCODER}{name}", Kind::Flow), tensor))
    });
    flow.tensors.extend(encoder);
    Ok(())
}

/// The tensors of one model as variables, without the anatomy template, which is not learnt.
///
/// # Errors
/// Where the device has no room.
pub fn variables(models: &Models, kind: Kind, device: &Device) -> Result<Variables> {
    let prefix = format!("{kind}.");
    let of = |(name, tensor): (&String, &Tensor)| {
        let name = name.strip_prefix(&prefix).filter(|name| *name != TEMPLATE)?;
        Some((name.to_owned(), tensor.clone()))
    };
    Variables::new(models.tensors.iter().filter_map(of), device)
}

/// What the layers of a model draw.
fn drawn(kind: Kind, configs: &Configs, seed: u64) -> Result<Tensors> {
    let missing = || Fault::new(DOING, "there is no configuration").field(kind);
    match kind {
        Kind::Pamae => {
            let config = configs.pamae.as_ref().ok_or_else(missing)?;
            fresh(kind.name(), seed, |vb| pamae::PaMae::new(config, vb))
        }
        Kind::Vae => {
            let config = configs.vae.as_ref().ok_or_else(missing)?;
            let drawn = fresh(kind.name(), seed, |vb| vae::Vae::new(config, vb))?;
            if config.training_frames > 0 {
                drawn.into_iter().map(still).collect()
            } else {
                Ok(drawn)
            }
        }
        Kind::Flow => {
            let config = configs.flow.as_ref().ok_or_else(missing)?;
            fresh(kind.name(), seed, |vb| amdf::Velocity::new(config, vb))
        }
        Kind::Phenotype | Kind::Diagnosis => {
            let config = if kind == Kind::Phenotype { &configs.phenotype } else { &configs.diagnosis };
            let config = config.as_ref().ok_or_else(missing)?;
            fresh(kind.name(), seed, |vb| vit::Vit::new(config, vb))
        }
        Kind::Mae => {
            let config = configs.mae.as_ref().ok_or_else(missing)?;
            fresh(kind.name(), seed, |vb| mae::Mae::new(config, vb))
        }
        Kind::LpipsVgg | Kind::LpipsAlex | Kind::Inception | Kind::I3d => Ok(Tensors::new()), // as `fill` has them
    }
}

/// A kernel of 3 frames without the outer two. A network that sees a run of a clip in each step starts as one of single
/// frames: then what it learns from short runs, the margins of which are zeros, holds for long ones.
fn still((name, tensor): (String, Tensor)) -> Result<(String, Tensor)> {
    let zeroed = || match *tensor.dims() {
        [_, _, 3, _, _] => {
            let middle = tensor.narrow(2, 1, 1)?;
            let zeros = middle.zeros_like()?;
            Tensor::cat(&[&zeros, &middle, &zeros], 2)
        }
        _ => Ok(tensor.clone()),
    };
    Ok((name, zeroed().map_err(Error::compute(DOING))?))
}

/// What the layers of a network draw that `build` makes; `name` and the seed are the key of its streams.
///
/// # Errors
/// Where `build` fails.
pub fn fresh<T>(
    name: &'static str,
    seed: u64,
    build: impl FnOnce(VarBuilder<'static>) -> candle_core::Result<T>,
) -> Result<Tensors> {
    let made = Arc::new(Mutex::new(Tensors::new()));
    let vb = VarBuilder::from_backend(Box::new(Drawn { seed, name, made: made.clone() }), DType::F32, Device::Cpu);
    build(vb).map_err(Error::compute(DOING))?;
    let made = made.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(made.clone())
}

/// Hands out fresh tensors and remembers them.
struct Drawn {
    seed: u64,
    name: &'static str,
    made: Arc<Mutex<Tensors>>,
}

impl SimpleBackend for Drawn {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, _: &Device) -> candle_core::Result<Tensor> {
        let mut stream = Stream::new("fresh weights", self.seed, &format!("{}.{name}", self.name), 0);
        let mut draw = distribution(init, &shape);
        let values: Vec<f32> = (0..shape.elem_count()).map(|_| draw(&mut stream) as f32).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name} was asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// One number of a distribution.
fn distribution(init: Init, shape: &Shape) -> impl FnMut(&mut Stream) -> f64 {
    let (centre, normal, half_width) = match init {
        Init::Const(value) => (value, 0.0, 0.0),
        Init::Randn { mean, stdev } => (mean, stdev, 0.0),
        Init::Uniform { lo, up } => ((lo + up) / 2.0, 0.0, (up - lo) / 2.0),
        Init::Kaiming { dist, fan, non_linearity } => {
            let sd = non_linearity.gain() / (fan.for_shape(shape).max(1) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => (0.0, sd, 0.0),
                NormalOrUniform::Uniform => (0.0, 0.0, 3f64.sqrt() * sd),
            }
        }
    };
    move |stream| match (normal > 0.0, half_width > 0.0) {
        (true, _) => centre + normal * stream.normal(),
        (_, true) => stream.between(centre - half_width, centre + half_width),
        _ => centre,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_learns_from_runs_starts_as_one_of_single_frames() {
        let outer = |training_frames: usize| {
            let vae = Some(vae::Config { training_frames, ..vae::Config::tiny() });
            let models = start(Kind::Vae, &Configs { vae, ..Configs::default() }, None, 0).unwrap();
            models.check().unwrap();
            let kernel = &models.tensors["vae.encoder_3d.conv_in.weight"];
            let part = |frame| kernel.narrow(2, frame, 1).unwrap().abs().unwrap().sum_all().unwrap();
            [0, 1, 2].map(|frame| part(frame).to_scalar::<f32>().unwrap() > 0.0)
        };
        assert_eq!(outer(0), [true; 3]);
        assert_eq!(outer(8), [false, true, false]);
    }

    #[test]
    fn a_fresh_flow_opens_no_gate_and_the_seed_decides_the_rest() {
        let configs = Configs { flow: Some(amdf::Config::tiny()), ..Configs::default() };
        let values = |seed, name: &str| {
            let models = start(Kind::Flow, &configs, None, seed).unwrap();
            models.check().unwrap();
            models.tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        for closed in ["flow.blocks.0.adaLN_modulation.1.weight", "flow.final_linear.weight"] {
            assert!(values(0, closed).iter().all(|v| *v == 0.0), "{closed}");
        }
        let name = "flow.x_embedder.weight"; // 64 x 4: Xavier, +-sqrt(6 / 68)
        let (one, largest) = (values(0, name), (6.0f32 / 68.0).sqrt());
        assert!(one.iter().all(|v| v.abs() <= largest) && one.iter().any(|v| v.abs() > 0.9 * largest));
        assert_eq!(one, values(0, name));
        assert_ne!(one, values(1, name));
    }
}
