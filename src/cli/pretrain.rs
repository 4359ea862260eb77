//! `cmr-pretrain`: masked autoencoding of real and generated clips.
//!
//! It stands here because a program holds arguments and calls only; the trainer is in [`crate::train::mae`].

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
use crate::train::protocol::{participants, Protocol};
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
    /// Of each record: which of the others, and its number there.
    places: Vec<(usize, usize)>,
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
        let mut config = self.preset.mae();
        config.mask = self.mask.unwrap_or(config.mask);
        let configs = Configs { mae: Some(config), ..Configs::default() };
        let mut session = Session::begin(tool, Kind::Mae, &configs, None, &self.train)?;
        let config = session.start.configs.mae.clone().ok_or_else(|| Fault::new("pretraining", "no configuration"))?;
        let (records, about) = self.clips(&mut session, log)?;
        let ids = records.ids.clone();
        let augment = if self.no_augment { Augment::NONE } else { Augment::USUAL };
        session.depends_on("augment", augment)?;
        session.depends_on("mix", self.mix)?;
        let split = Split::new(&ids, self.train.validation, self.train.seed)?;
        let drawn: Vec<usize> = split.validation.iter().chain(&split.train).copied().take(DRAWN).collect();
        let clips = Clips::new(records, config.vit.clone(), augment);
        let task = Mae::new(clips, ids, split.clone(), config.clone(), session.variables()?)?;
        let mut plan = self.train.plan_for(&split, mae::defaults(self.preset, self.train.batch));
        plan.schedule.floor = 0.0;
        let shown = match &self.pictures {
            Some(_) => drawn.iter().map(|i| task.shown(*i, self.train.seed)).collect::<Result<Vec<_>>>()?,
            None => Vec::new(),
        };
        let synthetic = session.provenance.synthetic;
        let draw = |folder: &Path, epoch: u64, weights: Tensors| {
            for (number, shown) in shown.iter().enumerate() {
                let clips = restored(&config, weights.clone(), shown, &session.device)?;
                let path = folder.join(format!("clip{number}_epoch{epoch:03}.png"));
                let output = Output::begin(&path, false)?;
                std::fs::write(output.path(), sheet::draw(&clips, FRAMES, synthetic)?)
                    .map_err(Error::io("writing", &path))?;
                output.finish()?;
            }
            Ok(())
        };
        let on_epoch = self.pictures.as_deref().map(|folder| -> Result<OnEpoch<'_>> {
            std::fs::create_dir_all(folder).map_err(Error::io("making the folder", folder))?;
            Ok(Box::new(move |epoch, weights: &dyn Fn() -> Result<Tensors>| draw(folder, epoch, weights()?)))
        });
        let trained =
            train(task, &self.train, plan, session.settings.clone(), &session.provenance, log, on_epoch.transpose()?)?;
        session.finish(trained, &about, &self.train.output)
    }

    /// The clips to train on, and what they are.
    fn clips(&self, session: &mut Session, log: &Log) -> Result<(Chosen<Dataset<Cine>>, String)> {
        let every: Vec<PathBuf> = self.real.iter().chain(&self.synthetic).cloned().collect();
        self.train.spare(self.protocol.as_slice())?;
        drop(self.train.read::<Cine>(&every)?); // names are unique over both
        let real: Dataset<Cine> = Dataset::open(&self.real)?;
        let made: Option<Dataset<Cine>> =
            if self.synthetic.is_empty() { None } else { Some(Dataset::open(&self.synthetic)?) };
        session.provenance = real.after(session.provenance.clone());
        let mut numbers: Vec<usize> = (0..real.ids().len()).collect();
        let mut held_out = Vec::new();
        if let (Some(path), Some(fold)) = (&self.protocol, self.fold) {
            let text = std::fs::read_to_string(path).map_err(Error::io("reading the protocol", path))?;
            let protocol = Protocol::from_json(&text).map_err(|error| error.in_file(path))?;
            let chosen = protocol.folds.get(fold - 1);
            let missing = || Fault::new("reading a protocol", "").file(path).field("folds");
            let chosen = chosen.ok_or_else(|| missing().expected(format!("fold {fold}"), protocol.folds.len()))?;
            let people = participants(&real.texts("source"));
            numbers.retain(|i| people.get(*i).is_some_and(|id| chosen.train.contains(id)));
            held_out = chosen.validation.iter().chain(&chosen.test).cloned().collect();
            if numbers.is_empty() {
                return Err(missing().expected("clips of those who train in the fold", "none").into());
            }
        }
        let mut places: Vec<(usize, usize)> = numbers.iter().map(|i| (0, *i)).collect();
        let mut about = format!("{} of {}", numbers.len(), real.about("real clips"));
        let mut all = vec![real];
        if let Some(made) = made.filter(|_| self.mix > 0) {
            session.provenance = made.after(session.provenance.clone());
            let people = participants(&made.texts("source"));
            let usable: Vec<usize> = (0..people.len()).filter(|i| !held_out.contains(&people[*i])).collect();
            let chosen = mixed(numbers.len(), usable.len(), usize::from(self.mix), self.train.seed);
            let chosen = chosen.into_iter().filter_map(|i| usable.get(i.checked_sub(numbers.len())?).copied());
            let before = places.len();
            places.extend(chosen.map(|i| (1, i)));
            let (wanted, found) = (numbers.len() * usize::from(self.mix), places.len() - before);
            if found < wanted {
                log.warn(&format!("--mix {}: {wanted} generated clips are wanted, {found} are there", self.mix));
            }
            about.push_str(&format!(" and {found} of {}", made.about("generated clips")));
            all.push(made);
        }
        let id = |(of, i): &(usize, usize)| all.get(*of).and_then(|d| d.ids().get(*i)).cloned().unwrap_or_default();
        let ids = places.iter().map(id).collect();
        Ok((Chosen { all, ids, places }, about))
    }
}
