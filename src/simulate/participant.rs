//! One participant: person, heart, ECG, pictures and truth, all from (seed, index).

use ndarray::Array3;

use crate::data::cine::Cine;
use crate::random::Stream;
use crate::simulate::coupling;
use crate::simulate::electrics::{self, Electrics, NoiseLevels, Territory, Tracing};
use crate::simulate::image::{Camera, View};
use crate::simulate::phenotype::{largest_mm2, phenotypes};
use crate::simulate::population::{self, Group, Heart, Person};
use crate::simulate::scene::Body;

/// Frames of a clip.
const FRAMES: usize = 50;
/// Side of a clip, pixels.
const SIDE: usize = 96;
/// Pixel of a clip, mm: 96 of them show the heart and its surroundings.
const PIXEL_MM: f64 = 1.8;
/// Mean angle between upright and the long axis in the four-chamber plane, degrees, and its spread.
const LIE_DEG: (f64, f64) = (38.0, 6.0);
/// Ejection fraction below which a weak heart may be called failing.
const FAILING: f64 = 0.40;

/// A participant of a simulated cohort.
#[derive(Debug, Clone)]
pub struct Participant {
    /// Name, unique in the cohort of one seed.
    pub id: String,
    /// Why they are in a clinic.
    pub group: Group,
    /// Whether heart failure was diagnosed, alone or beside another diagnosis.
    pub failing: bool,
    /// The person.
    pub person: Person,
    /// The heart.
    pub heart: Heart,
    /// What the electrocardiograph sees.
    pub electrics: Electrics,
    /// How the person lies in the scanner.
    pub view: View,
    /// The heart in space and time.
    pub body: Body,
    seed: u64,
}

/// A cine series as a scanner stores it.
#[derive(Debug, Clone)]
pub struct Series {
    /// Frames x rows x columns.
    pub frames: Array3<u16>,
    /// Row and column spacing, mm.
    pub pixel_spacing_mm: f64,
    /// Times of the frames after R, ms.
    pub trigger_ms: Vec<f64>,
}

/// Participant `index` of the cohort of `seed`; of `group` where one is given, else of the group that falls to them.
pub fn participant(seed: u64, index: u64, group: Option<Group>) -> Participant {
    // A cohort of one group is a cohort of its own: nobody else may have these names.
    let id = match group {
        None => format!("H{seed}-{index:06}"),
        Some(group) => format!("H{seed}-{}-{index:06}", group.name()),
    };
    let mut random = Stream::new("ecgflow heart 1", seed, &id, 0);
    let (group, person, heart) = population::draw(group, &mut random);
    let lie = LIE_DEG.1 * random.normal();
    let electrics = coupling::electrics(group, &person, &heart, lie, &mut random);
    let weak = heart.ef < FAILING && matches!(group, Group::Dilated | Group::Ischaemic | Group::Restrictive);
    let failing = group == Group::HeartFailure || (weak && random.uniform() < 0.6);
    let view = View::draw(LIE_DEG.0 + lie, person.bmi, &mut random);
    let fat_mm = (1.5 + 0.16 * (person.bmi - 18.0) + 0.5 * random.normal()).clamp(0.8, 6.0);
    let off = 2.0 * random.normal();
    let body = Body::new(&heart, electrics.pr_ms / 1000.0, fat_mm, [off, off + 2.5 + random.normal()]);
    Participant { id, group, failing, person, heart, electrics, view, body, seed }
}

impl Participant {
    /// The stream of one purpose.
    fn stream(&self, purpose: &str) -> Stream {
        Stream::new(purpose, self.seed, &self.id, 0)
    }

    /// Ten seconds of 12-lead ECG at 500 Hz with the noise of an ordinary recording, and where its R peaks are.
    pub fn ecg(&self) -> Tracing {
        let mut random = self.stream("ecgflow ecg 1");
        let noise = NoiseLevels::typical(&mut random);
        self.ecg_with(&noise, &mut random)
    }

    /// The same heart with another noise.
    pub fn ecg_with(&self, noise: &NoiseLevels, random: &mut Stream) -> Tracing {
        let mut tracing = electrics::record(&self.electrics, noise, random);
        tracing.recording.id.clone_from(&self.id);
        tracing
    }

    fn camera(&self) -> Camera<'_> {
        let smallest = self.heart.aorta[1].0;
        Camera::new(&self.body, &self.view, (smallest, largest_mm2(self.heart.aorta[1], self.heart.pulse_mmhg)))
    }

    /// Times of the frames of a clip, s after R.
    pub fn times(&self) -> Vec<f64> {
        (0..FRAMES).map(|i| i as f64 / FRAMES as f64 * self.body.beat.rr_s).collect()
    }

    /// The clip that the models see: 50 frames of 96 x 96 pixels, values scaled to 0 to 1 over the clip.
    pub fn cine(&self) -> Cine {
        let mut clip =
            self.camera().record(&self.times(), (SIDE, SIDE), PIXEL_MM, &mut self.stream("ecgflow clip noise 1"));
        let (low, high) = clip.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        clip.mapv_inplace(|v| ((v - low) / (high - low)).clamp(0.0, 1.0));
        Cine {
            id: self.id.clone(),
            source: self.id.clone(),
            sample: 0,
            clip,
            pixel_spacing_mm: Some([PIXEL_MM as f32; 2]),
            heart_rate: self.heart.heart_rate as f32,
        }
    }

    /// The same heart as a scanner stores it: a larger matrix, 25 to 50 frames.
    pub fn series(&self) -> Series {
        let mut random = self.stream("ecgflow series 1");
        let frames = 25 + random.below(26);
        let pixel_mm = (random.between(1.55, 1.90) * 1000.0).round() / 1000.0;
        let step = self.body.beat.rr_s / frames as f64;
        let times: Vec<f64> = (0..frames).map(|i| i as f64 * step).collect();
        let signal = self.camera().record(&times, (208, 184), pixel_mm, &mut random);
        let gain = random.between(700.0, 1100.0) as f32;
        Series {
            frames: signal.mapv(|v| (v * gain).round().clamp(0.0, 4095.0) as u16),
            pixel_spacing_mm: pixel_mm,
            trigger_ms: times.iter().map(|t| 1000.0 * t).collect(),
        }
    }

    /// The 82 phenotypes.
    pub fn phenotypes(&self) -> [f64; 82] {
        phenotypes(&self.heart, &self.body)
    }

    /// Area of the LV cavity in the plane at each frame of the clip, mm2.
    pub fn lv_area_mm2(&self) -> Vec<f64> {
        self.times().into_iter().map(|t| self.body.at(t).lv_area_mm2()).collect()
    }

    /// Names and answers.
    pub fn diagnoses(&self) -> [(&'static str, bool); 5] {
        let of = |group: Group| self.group == group;
        [
            ("hcm", of(Group::Hypertrophic)),
            ("dcm", of(Group::Dilated)),
            ("rcm", of(Group::Restrictive)),
            ("ischaemic", of(Group::Ischaemic)),
            ("heart_failure", self.failing),
        ]
    }

    /// What the participant was drawn as, beside phenotypes and diagnoses: names end in their unit.
    pub fn truth(&self) -> Vec<(&'static str, f64)> {
        let (person, heart, electrics, beat) = (&self.person, &self.heart, &self.electrics, &self.body.beat);
        let area = self.lv_area_mm2();
        let smallest = area.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or((0, 0.0), |(i, v)| (i, *v));
        let scar = |territory| electrics.infarct.filter(|i| i.territory == territory).map_or(0.0, |i| i.extent);
        vec![
            ("male", f64::from(u8::from(person.male))),
            ("age_years", person.age),
            ("height_cm", person.height_cm),
            ("bmi_kg_m2", person.bmi),
            ("bsa_m2", person.bsa_m2()),
            ("heart_rate_per_min", heart.heart_rate),
            ("ed_area_mm2", area.first().copied().unwrap_or(f64::NAN)),
            ("es_area_mm2", smallest.1),
            ("es_frame", smallest.0 as f64),
            ("ejection_start_ms", 1000.0 * beat.ejection_s),
            ("end_systole_ms", 1000.0 * beat.end_systole_s),
            ("mitral_opening_ms", 1000.0 * beat.opening_s),
            ("early_filling", heart.early_filling),
            ("axis_shortening", heart.shortening),
            ("length_over_width", heart.slimness),
            ("pulse_pressure_mmhg", heart.pulse_mmhg),
            ("left_bundle_block", f64::from(u8::from(heart.conduction == electrics::Conduction::LeftBlock))),
            ("right_bundle_block", f64::from(u8::from(heart.conduction == electrics::Conduction::RightBlock))),
            ("scar_anterior", scar(Territory::Anterior)),
            ("scar_inferior", scar(Territory::Inferior)),
            ("scar_lateral", scar(Territory::Lateral)),
            ("rr_sd_ms", electrics.rr_sd_ms),
            ("ectopy", electrics.ectopy),
            ("pr_ms", electrics.pr_ms),
            ("p_ms", electrics.p_ms),
            ("p_mv", electrics.p_mv),
            ("p_terminal_mv", electrics.p_terminal_mv),
            ("qrs_ms", electrics.qrs_ms),
            ("qrs_axis_deg", electrics.axis_deg),
            ("qrs_mv", electrics.qrs_mv),
            ("qtc_ms", electrics.qtc_ms),
            ("t_mv", electrics.t_mv),
            ("qrs_t_deg", electrics.qrs_t_deg),
            ("st_mv", electrics.st_mv),
            ("rotation_deg", electrics.rotation_deg),
            ("long_axis_deg", self.view.axis_rad.to_degrees()),
        ]
    }
}
