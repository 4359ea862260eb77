//! The training loop: three steps of each model against PyTorch, and what it does with numbers that are not finite.
//!
//! The numbers are those of `training.safetensors` beside the parity data; `ECGFLOW_PARITY=DIR` names the folder.

use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use ecgflow::checkpoint::shapes::shapes_of;
use ecgflow::model::amdf::{self, Velocity};
use ecgflow::model::pamae::{self, PaMae};
use ecgflow::model::vae::{self, Vae};
use ecgflow::train::adamw::Settings;
use ecgflow::train::schedule::Schedule;
use ecgflow::train::state::State;
use ecgflow::train::variables::Tensors;
use ecgflow::train::{At, End, Losses, Network, Plan, Recipe, Row, Task, Training, Update, Variables, Watch};
use ecgflow::Result;

use crate::models::{tiny, Sizes};
use crate::support::{self, Report};

/// Everything after an optimiser step.
const STEPPED: f32 = 1e-3;

/// A trainer with the losses of a closure on one record.
struct Given<F> {
    network: Network,
    parts: Vec<&'static str>,
    ids: Vec<String>,
    losses: F,
}

impl<F: Fn(&[usize], At) -> Vec<Tensor>> Task for Given<F> {
    fn networks(&self) -> Vec<Network> {
        vec![self.network.clone()]
    }

    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn parts(&self) -> Vec<&'static str> {
        self.parts.clone()
    }

    fn losses(&self, records: &[usize], at: At) -> Result<Losses> {
        let parts = (self.losses)(records, at);
        Ok(Losses { updates: vec![Update { network: 0, loss: parts[0].clone() }], parts })
    }

    fn score(&self, record: usize, seed: u64) -> Result<f64> {
        let parts = (self.losses)(&[record], At { seed, step: 0 });
        Ok(f64::from(parts[0].to_scalar::<f32>().unwrap()))
    }
}

/// Remembers the rows, and the state where it is to stop.
#[derive(Default)]
struct Remember {
    rows: Vec<Row>,
    stop_after: Option<u64>,
    state: Vec<u8>,
    /// A state holds f32 only, so a training in another type keeps none.
    keeps_no_state: bool,
}

impl Watch for Remember {
    fn on_step(&mut self, row: &Row) -> Result<()> {
        self.rows.push(row.clone());
        Ok(())
    }

    fn wants_state(&mut self, _: u64) -> bool {
        false
    }

    fn save(&mut self, write: &dyn Fn(&mut dyn Write) -> Result<()>) -> Result<()> {
        self.state.clear();
        if self.keeps_no_state {
            return Ok(());
        }
        write(&mut self.state)
    }

    fn wants_stop(&mut self) -> bool {
        self.stop_after.is_some_and(|step| self.rows.last().is_some_and(|row| row.step >= step))
    }
}

fn plan(batch: usize, steps: u64) -> Plan {
    let schedule = Schedule { peak: 1e-3, floor: 1e-3, warm_up: 0, steps };
    Plan { batch, accumulate: 1, schedule, validation: 0.0, validate_every: None, ema: None, patience: None, seed: 0 }
}

/// Variables with the values of a checkpoint, those that `build` asks for.
fn variables<M>(
    folder: &std::path::Path,
    name: &str,
    build: impl FnOnce(VarBuilder<'static>) -> candle_core::Result<M>,
) -> Variables {
    let tensors = support::checkpoint(&folder.join(name));
    let wanted = shapes_of(build).unwrap();
    let of = |name: &String| (name.clone(), tensors[name].clone());
    Variables::new(wanted.keys().map(of), &Device::Cpu).unwrap()
}

/// Makes three steps and compares every row and every tensor that the file has of this model.
fn three_steps(
    model: &str,
    inputs: &[&str],
    variables: Variables,
    recipe: Recipe,
    parts: &[&'static str],
    losses: impl Fn(&[usize], At) -> Vec<Tensor>,
) {
    let Some(folder) = tiny() else { return };
    let expected = support::safetensors(&folder.join("training.safetensors"));
    let prefix = format!("{model}.");
    let mut report = Report::new(expected.into_iter().filter(|(name, _)| name.starts_with(&prefix)).collect());
    let network = Network { name: "network", variables: variables.clone(), recipe, paced: None };
    let task = Given { network, parts: parts.to_vec(), ids: vec!["p".to_owned()], losses };
    let mut training = Training::new(task, plan(1, 3), Default::default(), String::new()).unwrap();
    let mut seen = Remember::default();
    assert_eq!(training.run(&mut seen).unwrap(), End::Finished);
    let want = report.input(&format!("{model}.losses"));
    for (k, row) in seen.rows.iter().enumerate() {
        let want: Vec<f32> = want.get(k).unwrap().to_vec1().unwrap();
        let got: Vec<f64> = row.parts.iter().copied().chain(row.norms.iter().flatten().copied()).collect();
        assert_eq!(got.len(), want.len());
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let one = |v: f32| Tensor::new(v, &Device::Cpu).unwrap();
            report.compare(&format!("{model}.losses[{k}][{i}] = {want}"), &one(*got as f32), &one(want), STEPPED);
        }
    }
    for (name, var) in variables.iter() {
        let name = format!("{model}.after.{name}");
        if report.has(&name) {
            report.check(&name, var.as_tensor(), STEPPED);
        }
    }
    inputs.iter().for_each(|name| report.leave(&format!("{model}.{name}")));
    report.finish();
}

/// Three steps of PA-MAE in a type; gives the rows and the variables afterwards.
fn pamae_steps(folder: &Path, dtype: DType) -> (Vec<Row>, Variables) {
    let config = Sizes::read(folder).pamae();
    let of_type = |name: &str| -> Tensors {
        let all = support::safetensors(&folder.join(name)).into_iter();
        all.map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap())).collect()
    };
    let (expected, training) = (of_type("expected.safetensors"), of_type("training.safetensors"));
    let fixed = variables(folder, "pamae_checkpoint.pth", |vb| PaMae::new(&config, vb));
    let variables = Variables::of_type(fixed.values().unwrap(), dtype, &Device::Cpu).unwrap();
    let model = PaMae::new(&config, variables.builder()).unwrap();
    let losses = move |_: &[usize], at: At| {
        let mask = &training[&format!("pamae.mask.{}", at.step)];
        let l = pamae::loss(&model, &config, &expected["ecg"], mask, &training["pamae.phase_target"], true).unwrap();
        vec![l.total, l.phase, l.reconstruction]
    };
    let recipe = Recipe { adamw: Settings::new((0.9, 0.95), 0.05), clip: 3.0 };
    let network = Network { name: "network", variables: variables.clone(), recipe, paced: None };
    let parts = vec!["total", "phase", "reconstruction"];
    let task = Given { network, parts, ids: vec!["p".to_owned()], losses };
    let mut training = Training::new(task, plan(1, 3), Default::default(), String::new()).unwrap();
    let mut seen = Remember { keeps_no_state: dtype != DType::F32, ..Remember::default() };
    training.run(&mut seen).unwrap();
    (seen.rows, variables)
}

/// total, phase, reconstruction, norm of three steps: PyTorch in double precision on the equations of reference.py, with
/// the weights, inputs and settings of the parity data.
const DOUBLE: [[f64; 4]; 3] = [
    [67.951096999, 0.675955978, 0.611915372, 471.787890162],
    [46.158289837, 0.768291679, 0.384753730, 224.868802717],
    [32.077140912, 0.496262710, 0.271145138, 143.951299265],
];
/// From the same run: the sum and the sum of squares of every tensor that the parity data look at.
const DOUBLE_AFTER: [(&str, f64, f64); 7] = [
    ("decoder.final_conv.weight", -2.539987055, 12.057734360),
    ("decoder.up1.2.running_var", 60.415096324, 60.627105270),
    ("encoder.layer4.1.conv2.weight", -3.136700358, 128.110891699),
    ("encoder.phase_head.2.bias", 0.047404557, 0.001739798),
    ("encoder.stem.0.weight", -4.955640545, 16.142717282),
    ("encoder.stem.1.running_mean", 0.102206239, 0.010989614),
    ("encoder.stem.1.running_var", 12.038927098, 10.016118522),
];

#[test]
fn parity_of_three_training_steps_of_pamae_in_double_precision() {
    let Some(folder) = tiny() else { return };
    let (rows, variables) = pamae_steps(&folder, DType::F64);
    let close = |what: &str, got: f64, want: f64| {
        eprintln!("{what:40} {got:.9}, PyTorch {want:.9}");
        assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{what}: {got}, PyTorch {want}");
    };
    for (k, (row, want)) in rows.iter().zip(DOUBLE).enumerate() {
        let got = row.parts.iter().chain(row.norms.iter().flatten());
        got.zip(want).enumerate().for_each(|(i, (got, want))| close(&format!("losses[{k}][{i}]"), *got, want));
    }
    for (name, sum, squares) in DOUBLE_AFTER {
        let x = variables.get(name).unwrap().as_tensor();
        close(name, x.sum_all().unwrap().to_scalar().unwrap(), sum);
        close(name, x.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap(), squares);
    }
}

/// What single precision can tell of three steps of PA-MAE. Its ReLUs and its max-pool have kinks, and AdamW divides every
/// gradient by its own size, so a rounding decides the sign of whole steps: PyTorch in single precision with one thread and
/// with two misses the tolerance of the parity data against itself (norm of step 3: 139.76 and 140.73). What stands here is
/// how far PyTorch in double precision, the input moved by 1e-7 of itself in eight ways, lies from the recorded values;
/// twice that is allowed, since instruction sets round differently. The test above holds every value to 1e-5 in double
/// precision.
const ROUNDED: [(&str, f64); 7] = [
    ("losses[1][3]", 1.06),
    ("losses[2][0]", 0.09),
    ("losses[2][1]", 3.1e-3),
    ("losses[2][3]", 5.34),
    ("decoder.up1.2.running_var", 3.0e-3),
    ("encoder.layer4.1.conv2.weight", 2.7e-3),
    ("encoder.stem.0.weight", 2.11e-3),
];

#[test]
fn parity_of_three_training_steps_of_pamae_as_far_as_rounding_lets() {
    let Some(folder) = tiny() else { return };
    let expected = support::safetensors(&folder.join("training.safetensors"));
    let (rows, variables) = pamae_steps(&folder, DType::F32);
    let mut missed = Vec::new();
    let mut look = |name: &str, difference: f64, largest: f64| {
        let known = ROUNDED.iter().find(|(known, _)| *known == name).map(|(_, d)| 2.0 * d);
        let allowed = known.unwrap_or(f64::from(STEPPED) * largest.max(1.0));
        eprintln!("{name:34} difference {difference:.1e}, allowed {allowed:.1e}");
        if difference > allowed {
            missed.push(name.to_owned());
        }
    };
    let want = expected["pamae.losses"].to_vec2::<f32>().unwrap();
    for (k, (row, want)) in rows.iter().zip(want).enumerate() {
        let got = row.parts.iter().chain(row.norms.iter().flatten());
        for (i, (got, want)) in got.zip(want).enumerate() {
            look(&format!("losses[{k}][{i}]"), (got - f64::from(want)).abs(), f64::from(want.abs()));
        }
    }
    let mut after = 0;
    for (name, want) in &expected {
        let Some(name) = name.strip_prefix("pamae.after.") else { continue };
        let largest = |x: &Tensor| f64::from(x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap());
        let got = variables.get(name).unwrap().as_tensor();
        look(name, largest(&(got - want).unwrap()), largest(want));
        after += 1;
    }
    assert_eq!(after, DOUBLE_AFTER.len());
    assert!(missed.is_empty(), "out of tolerance: {missed:?}");
}

#[test]
fn parity_of_three_training_steps_of_the_vae() {
    let Some(folder) = tiny() else { return };
    let config = Sizes::read(&folder).vae();
    let (expected, training) = (
        support::safetensors(&folder.join("expected.safetensors")),
        support::safetensors(&folder.join("training.safetensors")),
    );
    let variables = variables(&folder, "vae_checkpoint.pth", |vb| Vae::new(&config, vb));
    let model = Vae::new(&config, variables.builder()).unwrap();
    let losses = move |_: &[usize], at: At| {
        let clip = &expected["cine"];
        let posterior = model.encode(clip).unwrap();
        let latent = posterior.sample(&training[&format!("vae.noise.{}", at.step)]).unwrap();
        let l = vae::loss(clip, &model.decode(&latent).unwrap(), &posterior).unwrap();
        vec![l.total, l.absolute, l.kl]
    };
    let recipe = Recipe { adamw: Settings::new((0.5, 0.9), 0.02), clip: 3.0 };
    three_steps("vae", &["noise."], variables, recipe, &["total", "absolute", "kl"], losses);
}

#[test]
fn parity_of_three_training_steps_of_the_flow() {
    let Some(folder) = tiny() else { return };
    let config = Sizes::read(&folder).amdf();
    let (expected, training) = (
        support::safetensors(&folder.join("expected.safetensors")),
        support::safetensors(&folder.join("training.safetensors")),
    );
    let variables = variables(&folder, "flow_checkpoint.pth", |vb| Velocity::new(&config, vb));
    let model = Velocity::new(&config, variables.builder()).unwrap();
    let losses = move |_: &[usize], at: At| {
        let t = &training[&format!("flow.t.{}", at.step)];
        let (x0, x1, feature) = (&expected["start"], &expected["vae.mean"], &expected["encoder.feature"]);
        vec![amdf::loss(&model, x0, x1, t, feature).unwrap()]
    };
    let recipe = Recipe { adamw: Settings::new((0.9, 0.999), 1e-4), clip: 1.0 };
    three_steps("flow", &["t."], variables, recipe, &["loss"], losses);
}

/// w is pulled towards the numbers of the records, one dimension a record.
fn pulled(ids: &[&str], targets: Vec<f32>) -> Given<impl Fn(&[usize], At) -> Vec<Tensor>> {
    let w = Tensor::new(vec![0.5f32; targets.len()], &Device::Cpu).unwrap();
    let variables = Variables::new([("w".to_owned(), w)], &Device::Cpu).unwrap();
    let w = variables.get("w").unwrap().as_tensor().clone();
    let losses = move |records: &[usize], _: At| {
        let all: Vec<Tensor> = records
            .iter()
            .map(|i| (w.get(*i).unwrap() - f64::from(targets[*i])).unwrap().sqr().unwrap().reshape(1).unwrap())
            .collect();
        vec![Tensor::cat(&all, 0).unwrap().mean_all().unwrap()]
    };
    let recipe = Recipe { adamw: Settings::new((0.9, 0.999), 0.0), clip: 10.0 };
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    Given { network: Network { name: "pull", variables, recipe, paced: None }, parts: vec!["loss"], ids, losses }
}

fn run<F: Fn(&[usize], At) -> Vec<Tensor>>(
    task: Given<F>,
    plan: Plan,
    watch: &mut Remember,
) -> Result<Training<Given<F>>> {
    let mut training = Training::new(task, plan, Default::default(), String::new())?;
    training.run(watch)?;
    Ok(training)
}

#[test]
fn a_loss_that_is_not_finite_stops_with_the_step_and_the_record() {
    let task = pulled(&["a", "b", "c"], vec![1.0, f32::NAN, 2.0]);
    let error = run(task, plan(3, 5), &mut Remember::default()).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "training, step 1: record b, field loss: expected a finite number, found NaN");
    let task = pulled(&["a", "b"], vec![f32::INFINITY; 2]);
    let error = run(task, plan(2, 5), &mut Remember::default()).map(drop).unwrap_err();
    assert!(error.to_string().contains("record a, b") || error.to_string().contains("record b, a"), "{error}");
}

#[test]
fn gradients_of_accumulated_batches_are_those_of_one() {
    let targets = vec![1.0, -2.0, 3.0, 0.25, 7.0];
    let weights = |batch, accumulate| {
        let task = pulled(&["a", "b", "c", "d", "e"], targets.clone());
        let mut watch = Remember::default();
        let training = run(task, Plan { accumulate, ..plan(batch, 3) }, &mut watch).unwrap();
        assert_eq!(watch.rows[0].norms.len(), 1);
        (training.weights().unwrap()["w"].to_vec1::<f32>().unwrap(), watch.rows)
    };
    let ((whole, rows), (parts, others)) = (weights(5, 1), weights(2, 3));
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-6), "{whole:?} {parts:?}");
    assert!(rows.iter().zip(&others).all(|(a, b)| (a.parts[0] - b.parts[0]).abs() < 1e-6));
}

#[test]
fn stopped_and_resumed_is_the_same_as_not_stopped_with_average_and_best() {
    let plan = Plan { validation: 0.3, ema: Some(0.9), ..plan(2, 11) };
    let task = || pulled(&["a", "b", "c", "d", "e", "f"], vec![1.0, -2.0, 3.0, 0.25, 7.0, 1.0]);
    let mut whole = Remember::default();
    let expected = run(task(), plan, &mut whole).unwrap();
    let mut first = Remember { stop_after: Some(5), ..Remember::default() };
    run(task(), plan, &mut first).unwrap();
    let mut second = Remember::default();
    let mut resumed = Training::new(task(), plan, Default::default(), String::new()).unwrap();
    resumed.resume(State::read(&mut first.state.as_slice()).unwrap()).unwrap();
    assert_eq!(resumed.progress().step, 5);
    assert_eq!(resumed.run(&mut second).unwrap(), End::Finished);
    let rows: Vec<Row> = first.rows.into_iter().chain(second.rows).collect();
    assert_eq!(rows, whole.rows);
    assert!(rows.iter().any(|row| row.validation.is_some()));
    let values = |tensors: Tensors| tensors["w"].to_vec1::<f32>().unwrap();
    assert_eq!(values(resumed.weights().unwrap()), values(expected.weights().unwrap()));
    assert_eq!(second.state, whole.state);
}
