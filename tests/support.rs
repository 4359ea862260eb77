//! What the integration tests share: where the parity data lies, how weights are loaded, how numbers are compared.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder, VarMap};
use ecgflow::checkpoint::torch;

/// Tensors by name.
pub type Tensors = HashMap<String, Tensor>;

/// The folder that `variable` names, else `default` relative to the package. None, said loudly, where the default is not
/// there; a folder that was asked for must be there.
pub fn folder(variable: &str, default: &str) -> Option<PathBuf> {
    if let Some(asked) = std::env::var_os(variable) {
        let asked = PathBuf::from(asked);
        assert!(asked.join("config.json").is_file(), "{variable}={} holds no config.json", asked.display());
        return Some(asked);
    }
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join(default);
    if default.join("config.json").is_file() {
        return Some(default);
    }
    crate::program::skipped(&format!("no parity data in {}; set {variable} to its folder", default.display()));
    None
}

/// The tensors of a PyTorch checkpoint, under the names of its state dictionary.
pub fn checkpoint(path: &Path) -> Tensors {
    let file = torch::read(path).unwrap_or_else(|e| panic!("{e}"));
    let state = file.root().get("model_state_dict").and_then(|state| state.entries()).unwrap();
    let tensor = |(name, value): (&str, torch::Value<'_>)| Some((name.to_owned(), value.tensor()?.load().unwrap()));
    state.into_iter().filter_map(tensor).collect()
}

/// A safetensors file.
pub fn safetensors(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A builder of fixed weights.
pub fn weights(tensors: Tensors) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

/// Gives every variable of the map the value of the checkpoint.
pub fn assign(map: &VarMap, tensors: &Tensors) {
    for (name, var) in map.data().lock().unwrap().iter() {
        let value = tensors.get(name).unwrap_or_else(|| panic!("the checkpoint lacks {name}"));
        var.set(value).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// Norm of the gradient of `loss` over everything that is trained: all variables but running statistics.
pub fn gradient_norm(map: &VarMap, loss: &Tensor) -> f32 {
    let grads = loss.backward().unwrap();
    let mut sum = 0.0;
    for (name, var) in map.data().lock().unwrap().iter() {
        if name.ends_with(".running_mean") || name.ends_with(".running_var") {
            continue;
        }
        let grad = grads.get(var).unwrap_or_else(|| panic!("{name} gets no gradient"));
        sum += grad.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    }
    sum.sqrt() as f32
}

/// Comparisons with expected values, printed as they are made; every expected value must be asked for.
pub struct Report {
    expected: Tensors,
    left: BTreeSet<String>,
    missed: Vec<String>,
}

impl Report {
    /// Expects these values.
    pub fn new(expected: Tensors) -> Self {
        let left = expected.keys().cloned().collect();
        Report { expected, left, missed: Vec::new() }
    }

    /// An expected value that is an input here.
    pub fn input(&mut self, name: &str) -> Tensor {
        self.left.remove(name);
        self.expected.get(name).unwrap_or_else(|| panic!("no expected value is called {name}")).clone()
    }

    /// Whether there is an expected value of that name.
    pub fn has(&self, name: &str) -> bool {
        self.expected.contains_key(name)
    }

    /// max |got - want| <= tolerance * max(1, max |want|).
    pub fn check(&mut self, name: &str, got: &Tensor, tolerance: f32) {
        let want = self.input(name);
        self.compare(name, got, &want, tolerance);
    }

    /// The same with the expected value given.
    pub fn compare(&mut self, name: &str, got: &Tensor, want: &Tensor, tolerance: f32) {
        assert_eq!(got.dims(), want.dims(), "{name}");
        let largest = |x: &Tensor| {
            let values: Vec<f32> = x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            values.iter().fold(0f32, |m, v| if v.is_nan() { f32::INFINITY } else { m.max(v.abs()) })
        };
        let (difference, allowed) = (largest(&(got - want).unwrap()), tolerance * largest(want).max(1.0));
        eprintln!("{name:34} max difference {difference:.1e}, allowed {allowed:.1e}");
        if difference > allowed {
            self.missed.push(name.to_string());
        }
    }

    /// Whole numbers, equal.
    pub fn check_equal(&mut self, name: &str, got: &[[i64; 2]]) {
        let want: Vec<Vec<i64>> = self.input(name).to_vec2().unwrap();
        eprintln!("{name:34} {got:?}");
        if got.iter().map(|row| row.to_vec()).ne(want.iter().cloned()) {
            eprintln!("{name:34} expected {want:?}");
            self.missed.push(name.to_string());
        }
    }

    /// Forgets expected values whose names start so: another test looks at them.
    pub fn leave(&mut self, prefix: &str) {
        self.left.retain(|name| !name.starts_with(prefix));
    }

    /// Fails if any value missed its tolerance or was never looked at.
    pub fn finish(self) {
        assert!(self.missed.is_empty(), "out of tolerance: {:?}", self.missed);
        assert!(self.left.is_empty(), "never compared: {:?}", self.left);
    }
}

/// Weights filled by the rule of the parity data's README.
pub struct Rule;

/// The numbers of one tensor by that rule: in [-1, 1), from its name.
fn units(name: &str, n: usize) -> impl Iterator<Item = f32> {
    let step = |h: u64, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    let h = name.bytes().fold(0xCBF2_9CE4_8422_2325, step);
    (1..=n as u64).map(move |i| {
        let z = h.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let z = z ^ (z >> 31);
        ((z >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0) as f32
    })
}

impl SimpleBackend for Rule {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let n = shape.elem_count();
        let (offset, factor) = match shape.rank() {
            1 if name.ends_with(".running_var") || name.ends_with(".var") => (1.0, 0.5),
            1 if name.ends_with(".weight") => (1.0, 0.1),
            1 => (0.0, 0.05),
            _ if name == "pos_embed" => (0.0, 0.05),
            _ => (0.0, (3.0 / (n as f64 / shape.dims()[0] as f64)).sqrt() as f32),
        };
        let values: Vec<f32> = units(name, n).map(|u| offset + factor * u).collect();
        Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name}: the rule needs a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// A builder of weights filled by rule.
pub fn rule() -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(Rule), DType::F32, Device::Cpu)
}
