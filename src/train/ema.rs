//! The exponential moving average of a network's weights: what is validated and saved where it is on.
//!
//! After step k: average <- d average + (1 - d) weights, with d = min(decay, (1 + k) / (10 + k)), so that the first weights
//! are soon forgotten. Running statistics are averaged too.

use std::collections::BTreeMap;

use candle_core::{bail, Tensor, Var};

use super::variables::{each, is_host, Buffer, Tensors, Variables};
use crate::error::{Error, Fault, Result};
use crate::model::op;

const DOING: &str = "averaging the weights";

/// The average of one network.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    average: BTreeMap<String, (Var, Buffer)>,
}

impl Ema {
    /// Starts at the weights as they are.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(variables: &Variables, decay: f64) -> Result<Ema> {
        let copy =
            |(name, var): (&String, &Var)| Ok((name.clone(), (var.clone(), Buffer::copy(&var.as_detached_tensor())?)));
        let average = variables.iter().map(copy).collect::<candle_core::Result<_>>().map_err(Error::compute(DOING))?;
        Ok(Ema { decay, average })
    }

    /// Takes the weights in after step `k`, from 1.
    ///
    /// # Errors
    /// Where the computation fails.
    pub fn step(&mut self, k: u64) -> Result<()> {
        let share = 1.0 - self.decay.min((1 + k) as f64 / (10 + k) as f64);
        let mut all: Vec<&mut (Var, Buffer)> = self.average.values_mut().collect();
        let take = |(var, average): &mut &mut (Var, Buffer)| take(var, average, share);
        let on_host = all.iter().all(|(var, _)| is_host(var));
        each(&mut all, on_host, take)
    }

    /// The average, by name.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub fn values(&self) -> Result<Tensors> {
        let one = |(name, (var, average)): (&String, &(Var, Buffer))| Ok((name.clone(), average.tensor(var.dims())?));
        self.average.iter().map(one).collect::<candle_core::Result<_>>().map_err(Error::compute(DOING))
    }

    /// Goes on from this average.
    ///
    /// # Errors
    /// Where a tensor is missing or of another shape.
    pub fn restore(&mut self, values: &Tensors) -> Result<()> {
        for (name, (var, average)) in &mut self.average {
            let found = values.get(name).filter(|value| value.shape() == var.shape());
            let found = found.ok_or_else(|| Fault::new("restoring the average", "missing").field(name))?;
            *average = found.to_device(var.device()).and_then(|v| Buffer::copy(&v)).map_err(Error::compute(DOING))?;
        }
        Ok(())
    }
}

fn take(var: &Tensor, average: &mut Buffer, share: f64) -> candle_core::Result<()> {
    match average {
        Buffer::Host(average) if var.device().is_cpu() => op::with_values(&var.detach(), |values| {
            average.iter_mut().zip(values).for_each(|(a, v)| *a += share as f32 * (v - *a));
        }),
        Buffer::Device(average) => {
            *average = (&*average + ((var.detach() - &*average)? * share)?)?;
            Ok(())
        }
        Buffer::Host(_) => bail!("an average on another device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_average_follows_the_weights_by_hand() {
        let zero = Tensor::new(&[0f32], &Device::Cpu).unwrap();
        let variables = Variables::new([("w".to_owned(), zero)], &Device::Cpu).unwrap();
        let mut ema = Ema::new(&variables, 0.5).unwrap();
        variables.get("w").unwrap().set(&Tensor::new(&[11f32], &Device::Cpu).unwrap()).unwrap();
        ema.step(1).unwrap(); // d = 2 / 11
        assert!((ema.values().unwrap()["w"].to_vec1::<f32>().unwrap()[0] - 9.0).abs() < 1e-6);
        ema.step(100).unwrap(); // d = 0.5
        assert!((ema.values().unwrap()["w"].to_vec1::<f32>().unwrap()[0] - 10.0).abs() < 1e-6);
    }
}
