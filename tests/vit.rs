//! The vision transformer and the masked autoencoder against PyTorch: testdata/golden/vit_golden.py.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use ecgflow::checkpoint::shapes::shapes_of;
use ecgflow::model::mae::{self, Mae, Mask};
use ecgflow::model::op;
use ecgflow::model::vit::{patches, Config, Task, Vit};
use ecgflow::train::adamw::{AdamW, Settings};
use ecgflow::train::variables::Gradients;
use ecgflow::train::Variables;
use serde_json::Value;

use crate::program::root;
use crate::support;

/// Of the largest expected value, or of 1.
const TOLERANCE: f64 = 1e-4;

fn golden() -> Value {
    let text = std::fs::read(root().join("testdata/golden/vit.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn close(name: &str, got: &[f64], want: &Value) {
    let want: Vec<f64> = match want {
        Value::Array(all) => all.iter().map(|v| v.as_f64().unwrap()).collect(),
        one => vec![one.as_f64().unwrap()],
    };
    assert_eq!(got.len(), want.len(), "{name}");
    let largest = want.iter().fold(1f64, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= TOLERANCE * largest, "{name}: off by {worst:.1e}, largest {largest:.1e}");
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Variables with weights by rule, those that `build` asks for.
fn by_rule<M>(build: impl Fn(VarBuilder<'static>) -> candle_core::Result<M>) -> (M, Variables) {
    let rule = support::rule();
    let wanted = shapes_of(&build).unwrap();
    let of = |(name, shape): (String, Vec<usize>)| (name.clone(), rule.get(shape, &name).unwrap());
    let variables = Variables::new(wanted.into_iter().map(of), &Device::Cpu).unwrap();
    (build(variables.builder()).unwrap(), variables)
}

/// The clip by rule: bare numbers, which the rule would scale.
fn clip() -> Tensor {
    let shape = [2usize, 8, 32, 32];
    let fan_in = shape.iter().skip(1).product::<usize>() as f64;
    (support::rule().get(shape.to_vec(), "clip").unwrap() * (fan_in / 3.0).sqrt()).unwrap()
}

fn phenotypes(patch_frames: usize) -> Config {
    Config { patch_frames, ..Config::tiny(Task::Phenotype { fields: vec![24100, 24101, 24102] }) }
}

/// One AdamW step at 1e-3 compared with PyTorch's: loss, norm of the gradient, tensors afterwards.
fn step(name: &str, variables: &Variables, loss: &Tensor, settings: Settings) {
    let golden = &golden()[name];
    close(&format!("{name} loss"), &values(loss), &golden["loss"]);
    let mut store = loss.backward().unwrap();
    let gradients = Gradients::take(variables, &mut store, 1.0).unwrap();
    close(&format!("{name} gradient norm"), &[gradients.norm().unwrap()], &golden["gradient_norm"]);
    let before = variables.values().unwrap();
    AdamW::new(variables, settings).unwrap().step(&gradients, 1e-3, 1.0).unwrap();
    let mut compared = 0;
    for (tensor, after) in golden["after"].as_object().unwrap() {
        let now = values(variables.get(tensor).unwrap());
        close(tensor, &now[..now.len().min(8)], after);
        // A constant added to all keys changes no softmax: their biases have a gradient of rounding alone, and AdamW makes
        // whole steps of it.
        if !tensor.ends_with("qkv.bias") {
            let change = values(&now_minus(variables, tensor, &before[tensor]));
            close(tensor, &[change.iter().map(|v| v.abs()).sum()], &golden["change"][tensor]);
        }
        compared += 1;
    }
    assert!(compared > 30, "{compared}");
}

fn now_minus(variables: &Variables, name: &str, before: &Tensor) -> Tensor {
    (variables.get(name).unwrap().as_tensor() - before).unwrap()
}

/// Both ways of the processor: the kernels, and candle's own operations as on a GPU.
fn both_ways(f: impl Fn()) {
    f();
    op::by_candle(&f);
}

#[test]
fn class_token_and_phenotypes_are_pytorch_s() {
    both_ways(|| {
        for frames in [8, 2] {
            let (vit, _) = by_rule(|vb| Vit::new(&phenotypes(frames), vb));
            let golden = &golden()[format!("phenotype{frames}")];
            close("features", &values(&vit.features(&clip()).unwrap()), &golden["features"]);
            close("outputs", &values(&vit.forward(&clip()).unwrap()), &golden["outputs"]);
        }
    });
}

#[test]
fn a_step_on_phenotypes_with_a_gap_is_pytorch_s() {
    both_ways(|| {
        let (vit, variables) = by_rule(|vb| Vit::new(&phenotypes(8), vb));
        let target = Tensor::new(&[[0.5f32, -1.0, 0.0], [1.5, 0.25, -0.5]], &Device::Cpu).unwrap();
        let known = Tensor::new(&[[1f32, 1.0, 0.0], [1.0, 1.0, 1.0]], &Device::Cpu).unwrap();
        let y = vit.forward(&clip()).unwrap();
        let loss = ((y - target).unwrap().sqr().unwrap() * known).unwrap().sum_all().unwrap();
        step("phenotype_step", &variables, &(loss / 5.0).unwrap(), Settings::new((0.9, 0.999), 0.0));
    });
}

#[test]
fn the_loss_of_the_autoencoder_and_a_step_are_pytorch_s() {
    both_ways(|| {
        let config = mae::Config::tiny();
        let (model, variables) = by_rule(|vb| Mae::new(&config, vb));
        let seen: Vec<Vec<usize>> = serde_json::from_value(golden()["seen"].clone()).unwrap();
        let of = |seen: &Vec<usize>| {
            let hidden: Vec<usize> = (0..16).filter(|i| !seen.contains(i)).collect();
            Mask { seen: seen.clone(), hidden }
        };
        let masks: Vec<Mask> = seen.iter().map(of).collect();
        let all = patches(&clip(), &config.vit).unwrap();
        let part = |of: fn(&Mask) -> &Vec<usize>| {
            let rows = masks.iter().enumerate().map(|(b, mask)| {
                let numbers: Vec<u32> = of(mask).iter().map(|i| *i as u32).collect();
                all.get(b).unwrap().contiguous().unwrap().index_select(&Tensor::new(numbers, &Device::Cpu).unwrap(), 0)
            });
            Tensor::stack(&rows.collect::<candle_core::Result<Vec<_>>>().unwrap(), 0).unwrap()
        };
        let loss = mae::loss(&model, &part(|m| &m.seen), &part(|m| &m.hidden), &masks).unwrap();
        step("mae_step", &variables, &loss, Settings::new((0.9, 0.95), 0.05));
    });
}
