//! `cmr-pretrain`: masked autoencoding of real and generated clips.
//!
//! It stands here because a program holds arguments and calls only; the trainer is in [`crate::train::mae`].

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::named;
use super::dataset::Dataset;
use super::log::Log;
use super::session::Session;
use super::train::{train, OnEpoch, TrainArgs};
use crate::checkpoint::sizes::Backbone;
use crate::checkpoint::{Configs, Kind};
use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::io::output::Output;
use crate::io::sheet;
use crate::train::input::{Augment, Clips};
use crate::train::mae::{self, mixed, restored, Mae};
use crate::train::protocol::{participants, Fold, Protocol};
use crate::train::split::Split;
use crate::train::variables::Tensors;
use crate::train::Records;

/// Clips that are drawn after an epoch.
const DRAWN: usize = 3;
/// Frames of a picture.
const FRAMES: usize = 6;

/// What is pretrained, on which clips.
#[derive(Args, Debug, Clone)]
pub struct PretrainArgs {
    /// Files of acquired clips; all of them take part.
    #[arg(long, required = true, num_args = 1.., value_name = "CINE")]
    real: Vec<PathBuf>,
    /// Files of generated clips.
    #[arg(long, num_args = 1.., value_name = "CINE", required_if_eq_any([("mix", "1"), ("mix", "2"), ("mix", "3")]))]
    synthetic: Vec<PathBuf>,
    /// How many times as many generated clips as real ones: 0, 1, 2 or 3.
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=3))]
    mix: u8,
    /// Network and schedule: published, vit3d, compact or tiny.
    #[arg(long, value_name = "PRESET", default_value = "compact")]
    preset: Backbone,
    /// Share of the patches that is hidden [default: 0.75].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    mask: Option<f64>,
    /// Show the network the clips as they are.
    #[arg(long)]
    no_augment: bool,
    /// Take the real clips only of those who train in a fold of this protocol, see --fold.
    #[arg(long, value_name = "FILE", requires = "fold")]
    protocol: Option<PathBuf>,
    /// The fold, from 1.
    #[arg(long, value_name = "N", value_parser = super::args::count, requires = "protocol")]
    fold: Option<usize>,
    /// Draw into this folder after every epoch, as PNG: a clip, the patches that are seen, the restored clip.
    #[arg(long, value_name = "DIR", value_parser = named)]
    pictures: Option<PathBuf>,
    #[command(flatten)]
    train: TrainArgs,
}

fn share(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..1.0).contains(x)).ok_or_else(|| "expected a number from 0 to below 1".to_owned())
}

/// Some of the records of others, one after the other.
struct Chosen<R> {
    all: Vec<R>,
    ids: Vec<String>,
    /// Participant of each record.
    people: Vec<String>,
    /// Of each record: which of the others, and its number there.
    places: Vec<(usize, usize)>,
}

impl<R: Records> Chosen<R> {
    fn none() -> Chosen<R> {
        Chosen { all: Vec::new(), ids: Vec::new(), people: Vec::new(), places: Vec::new() }
    }

    /// Adds records of `from` by their numbers; `people` names the participant of each of its records.
    fn add(&mut self, from: R, people: &[String], numbers: &[usize]) {
        for i in numbers {
            self.ids.push(from.ids().get(*i).cloned().unwrap_or_default());
            self.people.push(people.get(*i).cloned().unwrap_or_default());
            self.places.push((self.all.len(), *i));
        }
        self.all.push(from);
    }
}

impl<R: Records<Item = Cine>> Records for Chosen<R> {
    type Item = Cine;

    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn get(&self, i: usize) -> Result<Cine> {
        let place = self.places.get(i).and_then(|(of, i)| Some((self.all.get(*of)?, *i)));
        let (records, i) = place.ok_or_else(|| Fault::new("pretraining", "no such clip").record(i))?;
        records.get(i)
    }
}

impl PretrainArgs {
    /// Trains.
    ///
    /// # Errors
    /// Whatever stops the work.
    pub fn run(self, tool: &str, log: &Log) -> Result<()> {
        let configs = Configs { mae: Some(self.preset.mae()), ..Configs::default() };
        let mut session = Session::begin(tool, Kind::Mae, &configs, None, &self.train)?;
        let mut config =
            session.start.configs.mae.take().ok_or_else(|| Fault::new("pretraining", "no configuration"))?;
        config.mask = self.mask.unwrap_or(config.mask); // also of weights to start from
        session.start.configs.mae = Some(config.clone());
        session.depends_on("config", session.start.configs.clone())?;
        let (records, about) = self.clips(&mut session, log)?;
        let ids = records.ids.clone();
        let split = Split::new(&records.people, self.train.validation, self.train.seed)?;
        let augment = if self.no_augment { Augment::NONE } else { Augment::USUAL };
        session.depends_on("augment", augment)?;
        session.depends_on("mix", self.mix)?;
        let clips = Clips::new(records, config.vit.clone(), augment);
        let task = Mae::new(clips, ids, split.clone(), config, session.variables()?)?;
        let mut plan = self.train.plan_for(&split, mae::defaults(self.preset, self.train.batch));
        plan.schedule.floor = 0.0;
        let on_epoch = self.pictures.as_deref().map(|folder| drawing(folder, &task, &split, &session, plan.seed));
        let settings = session.settings.clone();
        let trained = train(task, &self.train, plan, settings, &session.provenance, log, on_epoch.transpose()?)?;
        session.finish(trained, &about, &self.train.output)
    }

    /// The fold whose participants train, where one is asked for.
    fn asked(&self) -> Result<Option<Fold>> {
        let (Some(path), Some(number)) = (&self.protocol, self.fold) else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(Error::io("reading the protocol", path))?;
        let protocol = Protocol::from_json(&text).map_err(|error| error.in_file(path))?;
        let found = protocol.folds.len();
        let missing = || Fault::new("reading a protocol", "").file(path).field("folds");
        let fold = protocol.folds.into_iter().nth(number - 1);
        Ok(Some(fold.ok_or_else(|| missing().expected(format!("fold {number}"), found))?))
    }

    /// The clips to train on, and what they are.
    fn clips(&self, session: &mut Session, log: &Log) -> Result<(Chosen<Dataset<Cine>>, String)> {
        let every: Vec<PathBuf> = self.real.iter().chain(&self.synthetic).cloned().collect();
        self.train.spare(self.protocol.as_slice())?;
        drop(self.train.read::<Cine>(&every)?); // names are unique over both
        let fold = self.asked()?;
        let real: Dataset<Cine> = Dataset::open(&self.real)?;
        session.provenance = real.after(session.provenance.clone());
        let people = participants(&real.texts("source"));
        let train: Option<HashSet<String>> = fold.as_ref().map(|fold| participants(&fold.train).into_iter().collect());
        let numbers: Vec<usize> = (0..people.len())
            .filter(|i| train.as_ref().is_none_or(|train| people.get(*i).is_some_and(|id| train.contains(id))))
            .collect();
        if let Some(path) = self.protocol.as_ref().filter(|_| numbers.is_empty()) {
            let fault = Fault::new("reading a protocol", "").file(path).field("folds");
            return Err(fault.expected("clips of those who train in the fold", "none").into());
        }
        let mut about = format!("{} of {}", numbers.len(), real.about("real clips"));
        about.extend(self.fold.map(|fold| format!(" in fold {fold}")));
        let mut chosen = Chosen::none();
        chosen.add(real, &people, &numbers);
        if self.mix > 0 {
            about.push_str(&self.generated(&mut chosen, fold.as_ref(), session, log)?);
        } else if !self.synthetic.is_empty() {
            log.warn("--mix 0: none of the generated clips is used");
        }
        Ok((chosen, about))
    }

    /// Adds generated clips, none of someone who validates or is tested in the fold; says how many.
    fn generated(
        &self,
        chosen: &mut Chosen<Dataset<Cine>>,
        fold: Option<&Fold>,
        session: &mut Session,
        log: &Log,
    ) -> Result<String> {
        let made: Dataset<Cine> = Dataset::open(&self.synthetic)?;
        session.provenance = made.after(session.provenance.clone());
        let people = participants(&made.texts("source"));
        let held_out = fold.into_iter().flat_map(|fold| [&fold.validation, &fold.test]);
        let held_out: HashSet<String> = held_out.flat_map(|ids| participants(ids)).collect();
        let usable: Vec<usize> =
            (0..people.len()).filter(|i| people.get(*i).is_some_and(|id| !held_out.contains(id))).collect();
        let real = chosen.places.len();
        let wanted = real.saturating_mul(usize::from(self.mix));
        let numbers: Vec<usize> = mixed(usable.len(), wanted, self.train.seed)
            .into_iter()
            .filter_map(|place| usable.get(place).copied())
            .collect();
        if numbers.len() < wanted {
            let found = numbers.len();
            log.warn(&format!("--mix {}: {wanted} generated clips are wanted, {found} are there", self.mix));
        }
        let about = format!(" and {} of {}", numbers.len(), made.about("generated clips"));
        chosen.add(made, &people, &numbers);
        Ok(about)
    }
}

/// What draws a few clips into a folder after every epoch: as they are, what is seen of them, and restored.
fn drawing<'a, R: Records<Item = Cine>>(
    folder: &'a Path,
    task: &Mae<R>,
    split: &Split,
    session: &Session,
    seed: u64,
) -> Result<OnEpoch<'a>> {
    let drawn = split.validation.iter().chain(&split.train).take(DRAWN);
    let shown = drawn.map(|i| task.shown(*i, seed)).collect::<Result<Vec<_>>>()?;
    let (config, device) = (task.config().clone(), session.device.clone());
    let synthetic = session.provenance.synthetic;
    std::fs::create_dir_all(folder).map_err(Error::io("making the folder", folder))?;
    Ok(Box::new(move |epoch, weights: &dyn Fn() -> Result<Tensors>| {
        let weights = weights()?;
        for (number, shown) in shown.iter().enumerate() {
            let clips = restored(&config, weights.clone(), shown, &device)?;
            let path = folder.join(format!("clip{number}_epoch{epoch:03}.png"));
            Output::holding(&path, false, sheet::draw(&clips, FRAMES, synthetic)?)?.finish()?;
        }
        Ok(())
    }))
}
