//! Training of the network that reads phenotypes or diagnoses (paper section 3.3, SPEC section 7).
//!
//! ```text
//! phenotypes  mean over known values of (y - z)^2, z the z-score by the training records
//! questions   mean over known answers of w_a BCE(y, a)        classes  mean of w_c CE(y, c)
//! w           1, or for balanced weights n / (K n_c): every answer weighs the same in all
//! ```
//!
//! Validation is 1 - mean R2 of the phenotypes, or 1 - mean area under the ROC curve of the labels.

use std::rc::Rc;

use candle_core::{DType, Tensor, D};
use candle_nn::ops::log_softmax;

use super::adamw::Settings;
use super::input::Inputs;
use super::split::Split;
use super::task::{At, Defaults, Losses, Network, Recipe, Task};
use super::truth::{Question, Truth};
use super::variables::Variables;
use super::Update;
use crate::checkpoint::sizes::Backbone;
use crate::error::{Error, Result};
use crate::metric::{classification::auc, regression};
use crate::model::vit::{Config, Vit};

const DOING: &str = "training";
/// Records that are looked at together where no gradient is wanted.
const TOGETHER: usize = 32;

/// The optimiser: as published, or for small networks with decay.
pub fn recipe(backbone: Backbone) -> Recipe {
    let decay = if backbone.is_small() { 0.05 } else { 0.0 };
    Recipe { adamw: Settings::new((0.9, 0.999), decay), clip: if backbone.is_small() { 1.0 } else { f64::MAX } }
}

/// The schedule: as published, or for small networks larger steps and smaller batches.
pub fn defaults(backbone: Backbone, question: Question) -> Defaults {
    let batch = if question == Question::Numbers { 128 } else { 32 };
    match backbone.is_small() {
        false => Defaults { epochs: 100, batch, rate: 5e-5, ema: 0.0, warm_up: 5 },
        true => Defaults { epochs: 50, batch: 32, rate: 2e-3, ema: 0.99, warm_up: 5 },
    }
}

/// A network from inputs to outputs.
pub trait Forward {
    /// Inputs (B, ..) to z-scores or logits (B, K).
    ///
    /// # Errors
    /// Where the inputs do not fit.
    fn outputs(&self, inputs: &Tensor) -> candle_core::Result<Tensor>;
}

impl Forward for Vit {
    fn outputs(&self, patches: &Tensor) -> candle_core::Result<Tensor> {
        self.forward_patches(patches)
    }
}

/// The network of a configuration with these variables.
///
/// # Errors
/// Where the variables do not fit it.
pub fn network(config: &Config, variables: &Variables) -> Result<Rc<dyn Forward>> {
    Ok(Rc::new(Vit::new(config, variables.builder()).map_err(Error::compute(DOING))?))
}

/// What the class token of a network holds for records, without a head: the network as it is, frozen.
///
/// # Errors
/// Where a record cannot be read or the computation fails.
pub fn probe(config: &Config, variables: &Variables, inputs: &dyn Inputs, records: &[usize]) -> Result<Vec<Vec<f32>>> {
    let vit = Vit::new(config, variables.builder()).map_err(Error::compute(DOING))?;
    let mut all = Vec::with_capacity(records.len());
    for part in records.chunks(TOGETHER) {
        let patches = inputs.batch(part, None, variables.device())?;
        let rows = vit.embed(&patches).and_then(|tokens| vit.read(&tokens)?.detach().to_vec2());
        all.extend(rows.map_err(Error::compute(DOING))?);
    }
    Ok(all)
}

/// How rare answers are made to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    /// Not at all.
    None,
    /// They weigh more in the loss.
    Weights,
    /// They are drawn more often.
    Sampling,
}

impl std::str::FromStr for Balance {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "none" => Ok(Balance::None),
            "weights" => Ok(Balance::Weights),
            "sampling" => Ok(Balance::Sampling),
            _ => Err("expected none, weights or sampling".to_owned()),
        }
    }
}

/// A trainer; cheap to clone, clones share the network.
#[derive(Clone)]
pub struct Learn {
    /// The network's inputs.
    pub inputs: Rc<dyn Inputs>,
    /// What they are to give.
    pub truth: Rc<Truth>,
    /// The network.
    pub network: Rc<dyn Forward>,
    /// Its tensors.
    pub variables: Variables,
    /// How it is optimised.
    pub recipe: Recipe,
    /// The records that train and that validate.
    pub split: Split,
    /// How rare answers are made to count.
    pub balance: Balance,
}

impl Learn {
    /// Outputs of the network for records, unchanged ones: z-scores or logits.
    ///
    /// # Errors
    /// Where a record cannot be read or the computation fails.
    pub fn outputs(&self, records: &[usize]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(records.len());
        for part in records.chunks(TOGETHER) {
            let inputs = self.inputs.batch(part, None, self.variables.device())?;
            let outputs = self.network.outputs(&inputs).and_then(|y| y.detach().to_vec2());
            all.extend(outputs.map_err(Error::compute(DOING))?);
        }
        Ok(all)
    }

    fn loss(&self, records: &[usize], outputs: &Tensor) -> candle_core::Result<Tensor> {
        let device = outputs.device();
        let weights = self.truth.weights(&self.split.train, self.balance == Balance::Weights);
        if self.truth.question == Question::Classes {
            let place = |i: &usize| self.truth.class(*i).unwrap_or(0);
            let known = |i: &usize| self.truth.class(*i).map_or(0.0, |class| weights.get(class).map_or(1.0, |w| w[1]));
            let class: Vec<u32> = records.iter().map(|i| place(i) as u32).collect();
            let known: Vec<f32> = records.iter().map(known).collect();
            let total = known.iter().sum::<f32>().max(f32::MIN_POSITIVE);
            let class = Tensor::from_vec(class, (records.len(), 1), device)?;
            let known = Tensor::from_vec(known, (records.len(), 1), device)?;
            let log = log_softmax(outputs, D::Minus1)?.gather(&class, 1)?; // (B, 1)
            return (log * known)?.sum_all()? / f64::from(-total);
        }
        let (mut target, mut known) = (Vec::new(), Vec::new());
        for i in records {
            for (value, weight) in self.truth.row(*i).iter().zip(&weights) {
                let is_known = value.is_finite();
                target.push(if is_known { *value } else { 0.0 });
                known.push(if is_known { weight[usize::from(*value > 0.5)] } else { 0.0 });
            }
        }
        let total = known.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        let target = Tensor::from_vec(target, outputs.shape(), device)?;
        let known = Tensor::from_vec(known, outputs.shape(), device)?;
        let each = match self.truth.question {
            Question::Numbers => (outputs - target)?.sqr()?,
            // BCE(y, a) = max(y, 0) - y a + ln(1 + exp(-|y|))
            _ => ((outputs.relu()? - (outputs * target)?)? + (outputs.abs()?.neg()?.exp()? + 1.0)?.log()?)?,
        };
        (each * known)?.sum_all()? / f64::from(total)
    }

    /// The records of one batch: those that were dealt, or as many drawn so that every combination of answers is as
    /// frequent.
    fn drawn(&self, records: &[usize], at: At) -> Vec<usize> {
        if self.balance != Balance::Sampling {
            return records.to_vec();
        }
        let strata = self.truth.strata(&self.split.train);
        let draw = |i: &usize| {
            let mut stream = at.stream("balance", self.inputs.ids().get(*i).map_or("", String::as_str));
            let stratum = strata.get(stream.below(strata.len()));
            stratum.and_then(|all| all.get(stream.below(all.len()))).copied().unwrap_or(*i)
        };
        records.iter().map(draw).collect()
    }

    /// 1 - mean R2 or 1 - mean AUC of these records; the loss where neither is defined.
    ///
    /// # Errors
    /// Where a record cannot be read or the computation fails.
    pub fn lacking(&self, records: &[usize]) -> Result<f64> {
        let outputs = self.outputs(records)?;
        let labels =
            if self.truth.question == Question::Classes { self.truth.labels.len() } else { self.truth.width() };
        let of = |k: usize| {
            let found = outputs.iter().map(|y| y.get(k).map_or(f64::NAN, |v| f64::from(*v)));
            let truth: Vec<f64> = records.iter().map(|i| self.truth.answer(*i, k)).collect();
            let (truth, found) = regression::pairs(&truth, &found.collect::<Vec<f64>>());
            match self.truth.question {
                Question::Numbers => regression::r2(&truth, &found),
                _ => auc(&truth.iter().map(|v| *v > 0.5).collect::<Vec<bool>>(), &found),
            }
        };
        let scores: Vec<f64> = (0..labels).map(of).filter(|score| score.is_finite()).collect();
        if !scores.is_empty() {
            return Ok(1.0 - scores.iter().sum::<f64>() / scores.len() as f64);
        }
        let outputs: Vec<f32> = outputs.concat();
        let width = outputs.len() / records.len().max(1);
        let loss = || {
            let outputs = Tensor::from_vec(outputs, (records.len(), width), self.variables.device())?;
            self.loss(records, &outputs)?.to_dtype(DType::F64)?.to_scalar()
        };
        loss().map_err(Error::compute(DOING))
    }
}

impl Task for Learn {
    fn networks(&self) -> Vec<Network> {
        vec![Network { name: "vit", variables: self.variables.clone(), recipe: self.recipe, paced: None }]
    }

    fn ids(&self) -> &[String] {
        self.inputs.ids()
    }

    fn parts(&self) -> Vec<&'static str> {
        vec!["loss"]
    }

    fn losses(&self, records: &[usize], at: At) -> Result<Losses> {
        let records = self.drawn(records, at);
        let change = |id: &str| at.stream("augment", id);
        let inputs = self.inputs.batch(&records, Some(&change), self.variables.device())?;
        let loss = self.network.outputs(&inputs).and_then(|y| self.loss(&records, &y));
        let loss = loss.map_err(Error::compute(DOING))?;
        Ok(Losses { updates: vec![Update { network: 0, loss: loss.clone() }], parts: vec![loss] })
    }

    fn split(&self) -> Option<Split> {
        Some(self.split.clone())
    }

    fn score_of_all(&self, records: &[usize], _: u64) -> Result<Option<f64>> {
        self.lacking(records).map(Some)
    }

    fn score(&self, record: usize, _: u64) -> Result<f64> {
        self.lacking(&[record])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::data::target::{Meaning, Targets};
    use crate::train::input::Rows;

    struct Same;

    impl Forward for Same {
        fn outputs(&self, inputs: &Tensor) -> candle_core::Result<Tensor> {
            Ok(inputs.clone())
        }
    }

    /// One in ten has the answer; `balance` says how that counts.
    fn of_a_hundred(balance: Balance) -> Learn {
        let ids: Vec<String> = (0..100).map(|i| format!("p{i}")).collect();
        let values = (0..100).map(|i| vec![f64::from(u8::from(i % 10 == 0))]).collect();
        let (meaning, labels) = (Meaning::Questions, vec!["rare".to_owned()]);
        let targets = Targets { meaning, labels, ids: ids.clone(), values, unused: Vec::new() };
        let (truth, _) = Truth::of(&targets, &ids).unwrap();
        Learn {
            inputs: Rc::new(Rows::new(ids, vec![vec![0.0]; 100])),
            truth: Rc::new(truth),
            network: Rc::new(Same),
            variables: Variables::new([], &Device::Cpu).unwrap(),
            recipe: recipe(Backbone::Tiny),
            split: Split { train: (0..100).collect(), validation: Vec::new() },
            balance,
        }
    }

    #[test]
    fn balanced_sampling_draws_a_rare_answer_half_of_the_time() {
        let dealt: Vec<usize> = (0..100).collect();
        let rare = |balance| {
            let learn = of_a_hundred(balance);
            let of = |step| learn.drawn(&dealt, At { seed: 0, step }).into_iter().filter(|i| i % 10 == 0).count();
            (0..20).map(of).sum::<usize>()
        };
        assert_eq!(rare(Balance::None), 200);
        assert_eq!(rare(Balance::Weights), 200);
        let drawn = rare(Balance::Sampling); // 1,000 of 2,000 with a standard deviation of 22
        assert!((910..1090).contains(&drawn), "{drawn}");
    }
}
