//! Which tensors a model wants, asked of the model itself: it is built from a recorder that hands out zeros and
//! writes down every name and shape it is asked for. So no list of tensors is kept beside the model's code.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::checkpoint::{Configs, Kind, ENCODER, TEMPLATE};
use crate::error::{Error, Fault, Result};
use crate::model::{amdf, i3d, inception, lpips, mae, pamae, vae, vit};

/// Names and shapes of tensors.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// At most so many names are listed in one message.
const LISTED: usize = 10;

struct Recorder(Arc<Mutex<Shapes>>);

impl SimpleBackend for Recorder {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let mut shapes = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shapes.insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros((), dtype, device)?.broadcast_as(shape) // one number, whatever the shape
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        Err(candle_core::Error::CannotFindTensor { path: format!("{name} (asked for without a shape)") })
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// The names and shapes of all tensors that `build` asks for.
///
/// # Errors
/// Where `build` fails.
pub fn shapes_of<T, E>(build: impl FnOnce(VarBuilder<'static>) -> std::result::Result<T, E>) -> Result<Shapes>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let shapes = Arc::new(Mutex::new(Shapes::new()));
    let recorder = Box::new(Recorder(shapes.clone()));
    // In double precision, for which there are no kernels: in f32 the flow would pack its weights, gigabytes of zeros where a
    // configuration says so.
    let builder = VarBuilder::from_backend(recorder, DType::F64, Device::Cpu);
    build(builder).map_err(Error::compute("asking a model for the names and shapes of its weights"))?;
    let shapes = shapes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(shapes.clone())
}

/// The tensors that a model of that configuration wants, by state-dict name. For the flow these are the velocity,
/// [`TEMPLATE`] and, where its encoder has a configuration, [`ENCODER`]`*`.
///
/// # Errors
/// Where the model has no configuration, or none that it accepts.
pub fn expected(kind: Kind, configs: &Configs) -> Result<Shapes> {
    configs.check()?;
    let missing = || Fault::new("checking weights", "there is no configuration").field(kind);
    match kind {
        Kind::Pamae => {
            let config = configs.pamae.as_ref().ok_or_else(missing)?;
            shapes_of(|vb| pamae::PaMae::new(config, vb))
        }
        Kind::Vae => {
            let config = configs.vae.as_ref().ok_or_else(missing)?;
            shapes_of(|vb| vae::Vae::new(config, vb))
        }
        Kind::Flow => {
            let config = configs.flow.as_ref().ok_or_else(missing)?;
            let mut shapes = shapes_of(|vb| amdf::Velocity::new(config, vb))?;
            shapes.insert(TEMPLATE.into(), vec![1, config.latent_channels, 1, config.latent_side, config.latent_side]);
            if let Some(encoder) = &configs.flow_encoder {
                let all = shapes_of(|vb| pamae::PaMae::new(encoder, vb))?;
                shapes.extend(all.into_iter().filter(|(name, _)| name.starts_with(ENCODER)));
            }
            Ok(shapes)
        }
        Kind::Phenotype | Kind::Diagnosis => {
            let config = if kind == Kind::Phenotype { &configs.phenotype } else { &configs.diagnosis };
            let config = config.as_ref().ok_or_else(missing)?;
            shapes_of(|vb| vit::Vit::new(config, vb))
        }
        Kind::Mae => {
            let config = configs.mae.as_ref().ok_or_else(missing)?;
            shapes_of(|vb| mae::Mae::new(config, vb))
        }
        Kind::LpipsVgg | Kind::LpipsAlex => {
            let config = if kind == Kind::LpipsVgg { &configs.lpips_vgg } else { &configs.lpips_alex };
            let config = config.as_ref().ok_or_else(missing)?;
            shapes_of(|vb| lpips::Lpips::new(config, vb))
        }
        Kind::Inception => {
            let config = configs.inception.as_ref().ok_or_else(missing)?;
            shapes_of(|vb| inception::Inception::new(config, vb))
        }
        Kind::I3d => {
            let config = configs.i3d.as_ref().ok_or_else(missing)?;
            shapes_of(|vb| i3d::I3d::new(config, vb))
        }
    }
}

/// Compares the tensors a model wants with those that are there.
///
/// # Errors
/// Where tensors are missing, too many or of another shape; up to ten are named, each with expected and found.
pub fn compare(kind: Kind, expected: &Shapes, found: &Shapes) -> Result<()> {
    let wanted = expected.iter().filter_map(|(name, shape)| match found.get(name) {
        None => Some(format!("{name}: expected {shape:?}, found nothing")),
        Some(other) if other != shape => Some(format!("{name}: expected {shape:?}, found {other:?}")),
        Some(_) => None,
    });
    let extra = found.iter().filter(|(name, _)| !expected.contains_key(*name));
    let extra = extra.map(|(name, shape)| format!("{name}: expected nothing, found {shape:?}"));
    let faults: Vec<String> = wanted.chain(extra).collect();
    if faults.is_empty() {
        return Ok(());
    }
    let more = faults.len().saturating_sub(LISTED);
    let mut listed = faults.get(..faults.len().min(LISTED)).unwrap_or_default().join("; ");
    if more > 0 {
        listed.push_str(&format!("; and {more} more"));
    }
    let cause = format!("{} of {} tensors do not fit: {listed}", faults.len(), expected.len().max(found.len()));
    Err(Fault::new("checking weights", cause).field(kind).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(list: &[(&str, &[usize])]) -> Shapes {
        list.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }

    #[test]
    fn records_what_a_model_asks_for_without_its_memory() {
        let asked = shapes_of(|vb| {
            let first = vb.pp("a").get((1 << 20, 1 << 20), "weight")?;
            assert_eq!(first.dims(), [1 << 20, 1 << 20]);
            candle_nn::batch_norm(4, 1e-5, vb.pp("bn"))
        });
        let four: &[usize] = &[4];
        let expected = shapes(&[
            ("a.weight", &[1 << 20, 1 << 20]),
            ("bn.bias", four),
            ("bn.running_mean", four),
            ("bn.running_var", four),
            ("bn.weight", four),
        ]);
        assert_eq!(asked.unwrap(), expected);
    }

    #[test]
    fn names_missing_extra_and_misshaped_tensors() {
        let want = shapes(&[("a", &[1]), ("b", &[2, 3]), ("c", &[4])]);
        compare(Kind::Vae, &want, &want).unwrap();
        let found = shapes(&[("b", &[3, 2]), ("c", &[4]), ("d", &[5])]);
        let error = compare(Kind::Vae, &want, &found).unwrap_err().to_string();
        let parts =
            ["a: expected [1], found nothing", "b: expected [2, 3], found [3, 2]", "d: expected nothing, found [5]"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        let many: Shapes = (0..30).map(|i| (format!("{i:02}"), vec![1])).collect();
        let error = compare(Kind::Vae, &many, &Shapes::new()).unwrap_err().to_string();
        assert!(error.contains("30 of 30 tensors") && error.contains("and 20 more"), "{error}");
    }
}
