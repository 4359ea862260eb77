//! AdamW, as PyTorch computes it, with moments that can be saved (Loshchilov and Hutter, 2019).
//!
//! ```text
//! w <- w (1 - rate decay)              m <- m + (1 - b1) (g - m)              v <- b2 v + (1 - b2) g^2
//! w <- w - rate / (1 - b1^k) * m / (sqrt(v) / sqrt(1 - b2^k) + eps)           k: steps so far, this one included
//! ```
//!
//! A variable without a gradient is left alone, decay included.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{bail, CpuStorage, InplaceOp1, Layout, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::task::Paced;
use super::variables::{each, is_host, is_trained, Buffer, Gradients, Tensors, Variables};
use crate::error::{Error, Fault, Result};
use crate::model::op;

const DOING: &str = "updating the weights";
/// Variables of more values are updated by several threads.
const PIECE: usize = 1 << 16;

/// Settings of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Decay of the first and of the second moment a step.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decay of the weights, in units of the learning rate.
    pub weight_decay: f64,
}

impl Settings {
    /// PyTorch's eps.
    pub fn new(betas: (f64, f64), weight_decay: f64) -> Settings {
        Settings { betas, eps: 1e-8, weight_decay }
    }
}

/// The moments of one variable.
#[derive(Debug)]
struct Moments {
    first: Buffer,
    second: Buffer,
}

/// The optimiser of one network.
#[derive(Debug)]
pub struct AdamW {
    settings: Settings,
    moments: BTreeMap<String, (Var, Moments)>,
    paced: Option<Paced>,
    steps: u64,
}

/// The factors of one step.
#[derive(Debug, Clone, Copy)]
struct Factors {
    /// What every gradient is multiplied by before (clipping).
    scale: f64,
    keep: f64,
    betas: (f64, f64),
    step: f64,
    root: f64,
    eps: f64,
}

impl AdamW {
    /// An optimiser that has made no step.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(variables: &Variables, settings: Settings) -> Result<AdamW> {
        let zeros = |var: &Var| Buffer::copy(&var.as_detached_tensor().zeros_like()?);
        let pair = |(name, var): (&String, &Var)| {
            Ok((name.clone(), (var.clone(), Moments { first: zeros(var)?, second: zeros(var)? })))
        };
        let trained = variables.iter().filter(|(name, _)| is_trained(name));
        let moments = trained.map(pair).collect::<candle_core::Result<_>>().map_err(Error::compute(DOING))?;
        Ok(AdamW { settings, moments, paced: None, steps: 0 })
    }

    /// The same with a part that moves at a rate of its own.
    pub fn with(self, paced: Option<Paced>) -> AdamW {
        AdamW { paced, ..self }
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step at a learning rate, with every gradient multiplied by `scale`.
    ///
    /// # Errors
    /// Where the computation fails.
    pub fn step(&mut self, gradients: &Gradients, rate: f64, scale: f64) -> Result<()> {
        self.steps += 1;
        let Settings { betas, eps, weight_decay } = self.settings;
        let power = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let factors = |rate: f64| Factors {
            scale,
            keep: 1.0 - rate * weight_decay,
            betas,
            step: rate / power(betas.0),
            root: power(betas.1).sqrt(),
            eps,
        };
        let paced = self.paced;
        let rate =
            |name: &str| paced.filter(|part| name.starts_with(part.prefix)).map_or(rate, |part| rate * part.pace);
        let mut all: Vec<(&String, &mut (Var, Moments))> = self.moments.iter_mut().collect();
        let update = |(name, (var, moments)): &mut (&String, &mut (Var, Moments))| match gradients.0.get(*name) {
            Some(gradient) => update(var, gradient, moments, factors(rate(name))),
            None => Ok(()),
        };
        let on_host = all.iter().all(|(_, (var, _))| is_host(var));
        each(&mut all, on_host, update)
    }

    /// First and second moments, by name.
    ///
    /// # Errors
    /// Where they cannot be fetched.
    pub fn moments(&self) -> Result<[Tensors; 2]> {
        let of = |which: fn(&Moments) -> &Buffer| {
            let one = |(name, (var, moments)): (&String, &(Var, Moments))| {
                Ok((name.clone(), which(moments).tensor(var.dims())?))
            };
            self.moments.iter().map(one).collect::<candle_core::Result<Tensors>>().map_err(Error::compute(DOING))
        };
        Ok([of(|m| &m.first)?, of(|m| &m.second)?])
    }

    /// Goes on from these.
    ///
    /// # Errors
    /// Where one is missing or of another shape.
    pub fn restore(&mut self, [first, second]: &[Tensors; 2], steps: u64) -> Result<()> {
        for (name, (var, moments)) in &mut self.moments {
            let of = |all: &Tensors| {
                let found = all.get(name).filter(|value| value.shape() == var.shape());
                let found = found.ok_or_else(|| Fault::new("restoring the optimiser", "missing").field(name))?;
                let found = found.to_device(var.device()).and_then(|value| Buffer::copy(&value));
                found.map_err(Error::compute(DOING))
            };
            *moments = Moments { first: of(first)?, second: of(second)? };
        }
        self.steps = steps;
        Ok(())
    }
}

fn update(var: &Var, gradient: &Tensor, moments: &mut Moments, f: Factors) -> candle_core::Result<()> {
    match (&mut moments.first, &mut moments.second) {
        (Buffer::Host(first), Buffer::Host(second)) => {
            let gradient = gradient.contiguous()?;
            op::with_values(&gradient, |g| var.inplace_op1(&Step { moments: RefCell::new((first, second)), g, f }))?
        }
        (Buffer::Device(first), Buffer::Device(second)) => {
            let g = (gradient * f.scale)?;
            let m = (&*first + ((&g - &*first)? * (1.0 - f.betas.0))?)?;
            let v = ((&*second * f.betas.1)? + (g.sqr()? * (1.0 - f.betas.1))?)?;
            let w = (var.as_detached_tensor() * f.keep)?;
            var.set(&(w - ((&m / ((v.sqrt()? / f.root)? + f.eps)?)? * f.step)?)?)?;
            (*first, *second) = (m, v);
            Ok(())
        }
        _ => bail!("moments on two devices"),
    }
}

/// The step of one variable, in place.
struct Step<'a> {
    moments: RefCell<(&'a mut Vec<f32>, &'a mut Vec<f32>)>,
    g: &'a [f32],
    f: Factors,
}

impl InplaceOp1 for Step<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            bail!("expected a contiguous variable of f32")
        };
        let Some(values) = values.get_mut(start..end) else { bail!("a variable outside its storage") };
        let mut moments = self.moments.borrow_mut();
        let (first, second) = &mut *moments;
        let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
        let all = values.par_chunks_mut(PIECE).zip(self.g.par_chunks(PIECE)).zip(moments);
        let f = self.f;
        all.for_each(|((w, g), (m, v))| piece(w, g, m, v, f));
        Ok(())
    }
}

fn piece(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], f: Factors) {
    let (scale, keep, step, root, eps) = (f.scale as f32, f.keep as f32, f.step as f32, f.root as f32, f.eps as f32);
    let (towards, b2, rest) = ((1.0 - f.betas.0) as f32, f.betas.1 as f32, (1.0 - f.betas.1) as f32);
    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * scale;
        *m += towards * (g - *m);
        *v = b2 * *v + rest * g * g;
        *w = *w * keep - step * *m / (v.sqrt() / root + eps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn one(value: &[f32]) -> Variables {
        Variables::new([("w".to_owned(), Tensor::new(value, &Device::Cpu).unwrap())], &Device::Cpu).unwrap()
    }

    fn gradients(value: &[f32]) -> Gradients {
        Gradients(Tensors::from([("w".to_owned(), Tensor::new(value, &Device::Cpu).unwrap())]))
    }

    fn value(variables: &Variables) -> Vec<f32> {
        variables.get("w").unwrap().to_vec1().unwrap()
    }

    /// torch.optim.AdamW([1, -2], lr 0.1, betas 0.9/0.95, weight_decay 0.5), gradients [1, 3] then [-2, 0.5] then [4, 4].
    #[test]
    fn three_steps_are_those_of_pytorch() {
        let variables = one(&[1.0, -2.0]);
        let mut adam = AdamW::new(&variables, Settings::new((0.9, 0.95), 0.5)).unwrap();
        let expected = [[0.85, -2.0], [0.843_837_4, -1.979_281_5], [0.760_416_9, -1.967_192_2]];
        for (g, want) in [[1.0, 3.0], [-2.0, 0.5], [4.0, 4.0]].iter().zip(expected) {
            adam.step(&gradients(g), 0.1, 1.0).unwrap();
            let got = value(&variables);
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, PyTorch {want:?}");
        }
    }

    #[test]
    fn a_restored_optimiser_goes_on_with_the_same_bits() {
        let (long, short) = (one(&[1.0, -2.0]), one(&[1.0, -2.0]));
        let mut uninterrupted = AdamW::new(&long, Settings::new((0.9, 0.999), 0.01)).unwrap();
        let mut first = AdamW::new(&short, Settings::new((0.9, 0.999), 0.01)).unwrap();
        uninterrupted.step(&gradients(&[0.3, 0.7]), 0.01, 0.5).unwrap();
        first.step(&gradients(&[0.3, 0.7]), 0.01, 0.5).unwrap();
        let mut second = AdamW::new(&short, Settings::new((0.9, 0.999), 0.01)).unwrap();
        second.restore(&first.moments().unwrap(), first.steps()).unwrap();
        uninterrupted.step(&gradients(&[-0.2, 0.1]), 0.01, 1.0).unwrap();
        second.step(&gradients(&[-0.2, 0.1]), 0.01, 1.0).unwrap();
        assert_eq!(value(&long), value(&short));
    }

    #[test]
    fn a_paced_part_moves_at_its_part_of_the_rate() {
        let whole = one(&[1.0, -2.0]);
        AdamW::new(&whole, Settings::new((0.9, 0.999), 0.5))
            .unwrap()
            .step(&gradients(&[1.0, 3.0]), 0.025, 1.0)
            .unwrap();
        for (prefix, expected) in [("w", value(&whole)), ("x", vec![0.85, -2.0])] {
            let part = one(&[1.0, -2.0]);
            let paced = Some(Paced { prefix, pace: 0.25 });
            let mut adam = AdamW::new(&part, Settings::new((0.9, 0.999), 0.5)).unwrap().with(paced);
            adam.step(&gradients(&[1.0, 3.0]), 0.1, 1.0).unwrap();
            assert!(value(&part).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{prefix}");
        }
    }

    #[test]
    fn a_variable_without_a_gradient_does_not_decay() {
        let variables = one(&[1.0, -2.0]);
        let mut adam = AdamW::new(&variables, Settings::new((0.9, 0.999), 0.5)).unwrap();
        adam.step(&Gradients::default(), 0.1, 1.0).unwrap();
        assert_eq!(value(&variables), [1.0, -2.0]);
    }
}
