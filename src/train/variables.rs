//! The tensors of a network while they are trained, and their gradients.

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use rayon::prelude::*;

use crate::error::{Error, Fault, Result};
use crate::model::op;

/// Tensors by name, in the order of the names.
pub type Tensors = BTreeMap<String, Tensor>;

const DOING: &str = "training";

/// The tensors of a network: those that are trained, and the running statistics of batch normalisation.
#[derive(Debug, Clone)]
pub struct Variables {
    all: BTreeMap<String, Var>,
    dtype: DType,
    device: Device,
}

/// Whether a gradient changes the tensor of that name; running statistics are changed by the forward pass.
pub fn is_trained(name: &str) -> bool {
    !name.ends_with("running_mean") && !name.ends_with("running_var")
}

impl Variables {
    /// Variables of f32 with these values.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(values: impl IntoIterator<Item = (String, Tensor)>, device: &Device) -> Result<Variables> {
        Variables::of_type(values, DType::F32, device)
    }

    /// The same of another type: f64 has no kernels of ours, but tells what rounding does.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn of_type(
        values: impl IntoIterator<Item = (String, Tensor)>,
        dtype: DType,
        device: &Device,
    ) -> Result<Variables> {
        let var = |(name, tensor): (String, Tensor)| {
            let tensor = tensor.to_dtype(dtype)?.to_device(device)?.contiguous()?;
            Ok((name, Var::from_tensor(&tensor.detach())?))
        };
        let all = values.into_iter().map(var).collect::<candle_core::Result<_>>().map_err(Error::compute(DOING))?;
        Ok(Variables { all, dtype, device: device.clone() })
    }

    /// For the constructors of models: the variables themselves.
    pub fn builder(&self) -> VarBuilder<'static> {
        let all: HashMap<String, Tensor> =
            self.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        VarBuilder::from_tensors(all, self.dtype, &self.device)
    }

    /// For the constructors of models that no gradient reaches: the values as they are and become.
    pub fn constants(&self) -> VarBuilder<'static> {
        let all = self.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        VarBuilder::from_tensors(all, self.dtype, &self.device)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Var)> {
        self.all.iter()
    }

    /// One, by name.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.all.get(name)
    }

    /// Where they lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A copy of the values, on the processor.
    ///
    /// # Errors
    /// Where they cannot be fetched.
    pub fn values(&self) -> Result<Tensors> {
        let copy = |(name, var): (&String, &Var)| {
            Ok((name.clone(), var.as_detached_tensor().copy()?.to_device(&Device::Cpu)?))
        };
        self.iter().map(copy).collect::<candle_core::Result<_>>().map_err(Error::compute(DOING))
    }

    /// Gives every variable the value of that name.
    ///
    /// # Errors
    /// Where one is missing or of another shape.
    pub fn set(&self, values: &Tensors) -> Result<()> {
        for (name, var) in self.iter() {
            let value = values.get(name).filter(|value| value.shape() == var.shape()).ok_or_else(|| {
                let found = values.get(name).map_or_else(|| "none".to_owned(), |value| format!("{:?}", value.dims()));
                Error::from(Fault::new("setting weights", "").field(name).expected(format!("{:?}", var.dims()), found))
            })?;
            let value = value.to_device(&self.device).and_then(|value| value.contiguous());
            value.and_then(|value| var.set(&value)).map_err(Error::compute(DOING))?;
        }
        Ok(())
    }
}

/// The gradients of a network, by name; a variable that the loss does not depend on has none.
#[derive(Debug, Clone, Default)]
pub struct Gradients(pub(super) Tensors);

impl Gradients {
    /// Takes those of `variables` out of a backward pass, each multiplied by `share`.
    ///
    /// # Errors
    /// Where the computation fails.
    pub fn take(variables: &Variables, store: &mut GradStore, share: f64) -> Result<Gradients> {
        let of = |(name, var): (&String, &Var)| {
            let grad = store.remove(var.as_tensor())?;
            Some(if share == 1.0 { grad.contiguous() } else { grad * share }.map(|grad| (name.clone(), grad)))
        };
        let trained = variables.iter().filter(|(name, _)| is_trained(name));
        let all = trained.filter_map(of).collect::<candle_core::Result<_>>().map_err(Error::compute(DOING))?;
        Ok(Gradients(all))
    }

    /// Adds others to these.
    ///
    /// # Errors
    /// Where the computation fails.
    pub fn add(&mut self, others: Gradients) -> Result<()> {
        for (name, other) in others.0 {
            let sum = match self.0.get(&name) {
                Some(grad) => (grad + &other).map_err(Error::compute(DOING))?,
                None => other,
            };
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// Root of the sum of all squares.
    ///
    /// # Errors
    /// Where the computation fails.
    pub fn norm(&self) -> Result<f64> {
        let all: Vec<&Tensor> = self.0.values().collect();
        let squares: candle_core::Result<Vec<f64>> = if all.iter().all(|x| is_host(x)) {
            all.par_iter().map(|x| host_squares(x)).collect()
        } else {
            device_squares(&all)
        };
        Ok(squares.map_err(Error::compute(DOING))?.iter().sum::<f64>().sqrt())
    }
}

fn host_squares(x: &Tensor) -> candle_core::Result<f64> {
    op::with_values(&x.contiguous()?, |x| x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum())
}

/// Fetched together: a GPU stands still at every number that is asked of it.
fn device_squares(all: &[&Tensor]) -> candle_core::Result<Vec<f64>> {
    let squares = all.iter().map(|x| x.to_dtype(DType::F64)?.sqr()?.sum_all());
    let squares: Vec<Tensor> = squares.collect::<candle_core::Result<_>>()?;
    if squares.is_empty() {
        return Ok(Vec::new());
    }
    Tensor::stack(&squares, 0)?.to_vec1()
}

/// f of every item: by all threads where the values lie on the processor, one after the other where a GPU queues the work.
pub fn each<T: Send>(
    items: &mut [T],
    on_host: bool,
    f: impl Fn(&mut T) -> candle_core::Result<()> + Send + Sync,
) -> Result<()> {
    let done = if on_host { items.par_iter_mut().try_for_each(f) } else { items.iter_mut().try_for_each(f) };
    done.map_err(Error::compute(DOING))
}

/// Whether a tensor can be worked on where it lies.
pub fn is_host(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Numbers that accompany a variable: a moment, an average.
#[derive(Debug, Clone)]
pub enum Buffer {
    /// f32 on the processor, changed in place.
    Host(Vec<f32>),
    /// On another device, or of another type.
    Device(Tensor),
}

impl Buffer {
    /// A copy of a tensor.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub fn copy(x: &Tensor) -> candle_core::Result<Buffer> {
        Ok(if is_host(x) { Buffer::Host(op::values(x)?) } else { Buffer::Device(x.detach().copy()?) })
    }

    /// As a tensor of that shape, on the processor.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub fn tensor(&self, shape: &[usize]) -> candle_core::Result<Tensor> {
        match self {
            Buffer::Host(values) => Tensor::from_vec(values.clone(), shape, &Device::Cpu),
            Buffer::Device(tensor) => tensor.to_device(&Device::Cpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(names: &[&str]) -> Variables {
        let one = |name: &&str| ((*name).to_owned(), Tensor::new(&[3f32, 4.], &Device::Cpu).unwrap());
        Variables::new(names.iter().map(one), &Device::Cpu).unwrap()
    }

    #[test]
    fn gradients_are_those_of_the_trained_variables_that_the_loss_depends_on() {
        let variables = variables(&["a", "b", "bn.running_mean"]);
        let x = variables.builder().get(2, "a").unwrap();
        let mut store = (x.sqr().unwrap() * 0.5).unwrap().sum_all().unwrap().backward().unwrap();
        let mut gradients = Gradients::take(&variables, &mut store, 1.0).unwrap();
        assert_eq!(gradients.0.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(gradients.norm().unwrap(), 5.0);
        gradients.add(gradients.clone()).unwrap();
        assert_eq!(gradients.norm().unwrap(), 10.0);
    }

    #[test]
    fn values_are_a_copy_and_can_be_set_back() {
        let variables = variables(&["a"]);
        let before = variables.values().unwrap();
        variables.get("a").unwrap().set(&Tensor::new(&[0f32, 0.], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(before["a"].to_vec1::<f32>().unwrap(), [3.0, 4.0]);
        variables.set(&before).unwrap();
        assert_eq!(variables.get("a").unwrap().to_vec1::<f32>().unwrap(), [3.0, 4.0]);
        assert!(variables.set(&Tensors::new()).unwrap_err().to_string().contains("field a: expected [2], found none"));
    }
}
