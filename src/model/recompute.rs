//! Operations whose inner values are not kept for the backward pass but computed again in it.
//!
//! candle keeps every value that a gradient may need. A convolution made of copies keeps 27 copies of its input, an
//! attention its scores: the published 3D-VAE would need hundreds of GB for one clip. Here only the arguments and the result
//! are kept, as by the kernels of the processor; the price is one more forward pass, unless the gradient is written out
//! ([`with_gradient`]). docs/performance.md has the sums.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    bail, CpuStorage, CudaStorage, CustomOp3, Layout, MetalStorage, Result, Shape, Storage, Tensor, Var,
};

use super::layers::is_tracked;

/// A result that is wanted as storage once, and its gradient.
struct Given<G> {
    y: Mutex<Option<Tensor>>,
    gradient: G,
}

/// The gradients of an operation on three tensors.
pub type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// f of three tensors, with its gradient; f must not use other tensors that want a gradient.
pub fn recomputed<F>(x: [&Tensor; 3], f: F) -> Result<Tensor>
where
    F: Fn([&Tensor; 3]) -> Result<Tensor> + Send + Sync + 'static,
{
    if !is_tracked(&x) {
        return f(x);
    }
    let y = f(detached(&x).each_ref())?;
    with_gradient(x, y, move |x, dy| {
        let leaf = |x: &Tensor| match x.track_op() {
            true => Var::from_tensor(&x.detach()).map(|var| var.as_tensor().clone()),
            false => Ok(x.clone()), // fixed weights want no gradient
        };
        let [a, b, c] = x;
        let (a, b, c) = (leaf(a)?, leaf(b)?, leaf(c)?);
        let mut grads = (f([&a, &b, &c])? * dy)?.sum_all()?.backward()?;
        Ok((grads.remove(&a), grads.remove(&b), grads.remove(&c)))
    })
}

/// y, the value of an operation on the three x, whose gradients `gradient` computes from x and that of y.
pub fn with_gradient<G>(x: [&Tensor; 3], y: Tensor, gradient: G) -> Result<Tensor>
where
    G: Fn([&Tensor; 3], &Tensor) -> Result<Gradients> + Send + Sync + 'static,
{
    let y = Mutex::new(Some(y.contiguous()?));
    x[0].apply_op3(x[1], x[2], Given { y, gradient })
}

/// The same values, of which nothing is recorded.
pub fn detached(x: &[&Tensor; 3]) -> [Tensor; 3] {
    x.map(Tensor::detach)
}

impl<G> Given<G> {
    /// The result computed before, a copy of whose storage `take` makes.
    fn result<S>(&self, take: impl Fn(&Storage, &Layout) -> Result<S>) -> Result<(S, Shape)> {
        let y = self.y.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(y) = y else { bail!("a result that is recomputed is made once") };
        let (storage, layout) = y.storage_and_layout();
        Ok((take(&storage, layout)?, y.shape().clone()))
    }
}

impl<G: Fn([&Tensor; 3], &Tensor) -> Result<Gradients> + Send + Sync> CustomOp3 for Given<G> {
    fn name(&self) -> &'static str {
        "given"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.result(|storage, layout| match storage {
            Storage::Cpu(storage) => storage.try_clone(layout),
            _ => bail!("expected a tensor on the processor"),
        })
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.result(|storage, layout| match storage {
            Storage::Cuda(storage) => storage.try_clone(layout),
            _ => bail!("expected a tensor on a GPU"),
        })
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.result(|storage, layout| match storage {
            Storage::Metal(storage) => storage.try_clone(layout),
            _ => bail!("expected a tensor on a GPU"),
        })
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, c: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Gradients> {
        (self.gradient)([a, b, c], &dy.detach())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn value_and_gradients_are_those_of_the_operation_itself() {
        let var = |values: &[f64]| Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap();
        let (a, b, c) = (var(&[1.0, 2.0, -3.0]), var(&[0.5, -1.5, 2.5]), var(&[2.0, 3.0, 4.0]));
        let f = |[a, b, c]: [&Tensor; 3]| ((a * b)?.sin()? + (c.sqr()? * a)?)? * 2.0;
        let values = |x: &Tensor| x.to_vec1::<f64>().unwrap();
        let direct = f([&a, &b, &c]).unwrap();
        // The arguments come from elsewhere, the result goes on, and one argument counts twice.
        let twice = |y: &Tensor| (y.sqr().unwrap() + a.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
        let again = recomputed([&(a.as_tensor() * 1.0).unwrap(), &b, &c], f).unwrap();
        assert_eq!(values(&again), values(&direct));
        let (want, got) = (twice(&direct), twice(&again));
        for x in [&a, &b, &c] {
            let (want, got) = (values(want.get(x).unwrap()), values(got.get(x).unwrap()));
            assert!(want.iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-12), "{want:?} {got:?}");
        }
    }

    #[test]
    fn nothing_is_recorded_where_no_gradient_is_wanted() {
        let one = Tensor::new(&[1f64], &Device::Cpu).unwrap();
        assert!(!recomputed([&one, &one, &one], |[a, b, c]| (a + b)? + c).unwrap().track_op());
    }
}
