//! The PatchGAN and the terms of the VAE's loss against PyTorch: testdata/golden/discriminator_golden.py.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use ecgflow::model::discriminator::{adaptive_weight, discriminator_loss, generator_loss, Config, Discriminator};
use ecgflow::model::{op, vae};
use serde_json::Value;

use crate::program::root;
use crate::support;

/// Single forward passes, of the largest expected value or 1.
const FORWARD: f64 = 1e-4;
/// Gradients, and running statistics after two passes.
const BACKWARD: f64 = 1e-3;

fn golden() -> Value {
    let text = std::fs::read(root().join("testdata/golden/discriminator.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().map(|v| v.as_f64().unwrap()).collect(),
        one => vec![one.as_f64().unwrap()],
    }
}

fn close(name: &str, got: &Tensor, want: &Value, tolerance: f64) {
    let got: Vec<f64> = got.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let want = numbers(want);
    assert_eq!(got.len(), want.len(), "{name}");
    let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    eprintln!("{name:24} max difference {worst:.1e}, largest {largest:.1e}");
    assert!(worst <= tolerance * largest.max(1.0), "{name}: {worst}");
}

/// The discriminator with weights by rule, its variables, and clips by rule.
fn made() -> (Discriminator, VarMap, impl Fn(&str, &[usize]) -> Tensor) {
    let (map, config) = (VarMap::new(), Config::tiny());
    let net = Discriminator::new(&config, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
    let rule = support::rule();
    for (name, var) in map.data().lock().unwrap().iter() {
        var.set(&rule.get(var.shape().clone(), name).unwrap()).unwrap();
    }
    // The rule scales tensors of several dimensions; clips are the bare numbers.
    let clip = |name: &str, shape: &[usize]| {
        let fan_in = shape.iter().skip(1).product::<usize>() as f64;
        (support::rule().get(shape.to_vec(), name).unwrap() * (fan_in / 3.0).sqrt()).unwrap()
    };
    (net, map, clip)
}

/// Both ways of the processor: the kernels, and candle's own operations as on a GPU.
fn both_ways(f: impl Fn()) {
    f();
    op::by_candle(&f);
}

#[test]
fn answers_losses_and_gradients_are_pytorch_s() {
    both_ways(|| {
        let (golden, (net, map, clip)) = (golden(), made());
        let shape: Vec<usize> = numbers(&golden["shape"]).into_iter().map(|n| n as usize).collect();
        let (real, decoded) = (clip("real", &shape), Var::from_tensor(&clip("decoded", &shape)).unwrap());
        let on_real = net.forward_t(&real, true).unwrap();
        let on_decoded = net.forward_t(&decoded, true).unwrap();
        close("D(x)", &on_real, &golden["real"], FORWARD);
        close("D(x')", &on_decoded, &golden["decoded"], FORWARD);
        let loss = discriminator_loss(&on_real, &on_decoded).unwrap();
        close("discriminator loss", &loss, &golden["discriminator_loss"], FORWARD);
        let grads = loss.backward().unwrap();
        for (name, var) in map.data().lock().unwrap().iter() {
            if name.contains("running") {
                close(name, var, &golden["running"][name], BACKWARD);
            } else {
                let norm = grads.get(var).unwrap().sqr().unwrap().sum_all().unwrap().sqrt().unwrap();
                close(name, &norm, &golden["gradient_norm"][name], BACKWARD);
            }
        }
        let loss = generator_loss(&on_decoded).unwrap();
        close("generator loss", &loss, &golden["generator_loss"], FORWARD);
        let grads = loss.backward().unwrap();
        let grad = grads.get(&decoded).unwrap().flatten_all().unwrap();
        let every: Vec<u32> = (0..grad.elem_count() as u32).step_by(997).collect();
        let some = grad.index_select(&Tensor::new(every, &Device::Cpu).unwrap(), 0).unwrap();
        let largest = numbers(&golden["generator_gradient"]).iter().fold(0f64, |m, v| m.max(v.abs()));
        let scaled = golden["generator_gradient"].as_array().unwrap().iter();
        let scaled = Value::from(scaled.map(|v| v.as_f64().unwrap() / largest).collect::<Vec<_>>());
        close("generator gradient", &(some / largest).unwrap(), &scaled, BACKWARD);
        close("evaluated", &net.forward_t(&real, false).unwrap(), &golden["evaluated"], FORWARD);
    });
}

#[test]
fn the_adaptive_weight_and_the_outlier_penalty_are_pytorch_s() {
    both_ways(|| {
        let (golden, (net, _map, clip)) = (golden(), made());
        let shape: Vec<usize> = numbers(&golden["shape"]).into_iter().map(|n| n as usize).collect();
        let kernel = support::rule().get((1, 3, 3, 3, 3), "conv_out.weight").unwrap();
        let kernel = Var::from_tensor(&kernel).unwrap();
        let bias = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let hidden = op::enter(&clip("hidden", &[2, 3, 10, 32, 40])).unwrap();
        let last = if op::has_kernels(&hidden) {
            op::leave(&op::conv3d(&hidden, [&kernel, &bias], [1; 3], [1; 3]).unwrap()).unwrap()
        } else {
            ecgflow::model::conv3d::conv3d(&hidden, &kernel, Some(&bias), [1; 3], [1; 3]).unwrap()
        };
        let reconstruction = (clip("real", &shape) - &last).unwrap().abs().unwrap().mean_all().unwrap();
        let adversarial = generator_loss(&net.forward_t(&last, true).unwrap()).unwrap();
        let grad = |loss: Tensor| loss.backward().unwrap().get(&kernel).unwrap().clone();
        let weight = adaptive_weight(&grad(reconstruction), &grad(adversarial)).unwrap();
        close("weight", &Tensor::new(weight, &Device::Cpu).unwrap(), &golden["adaptive_weight"], FORWARD);
        let bright = (clip("bright", &shape).powf(9.0).unwrap() * 3.0).unwrap();
        close("outliers", &vae::outlier_penalty(&bright).unwrap(), &golden["outlier_penalty"], 1e-6);
    });
}
