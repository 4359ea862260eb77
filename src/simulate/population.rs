//! Who the participants are: one joint model of people, of their hearts, and of what disease does to both.
//!
//! Healthy hearts follow the reference ranges of UK Biobank; docs/simulation.md holds the table of sources and what the
//! model gives. Disease moves the same quantities; the groups overlap. Every number of a participant comes from one
//! stream, so it depends on (seed, index) alone.

use crate::random::Stream;
use crate::simulate::electrics::{Conduction, Infarct, Territory};

/// Why a participant would be in a clinic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// No heart disease.
    Healthy,
    /// Hypertrophic cardiomyopathy.
    Hypertrophic,
    /// Dilated cardiomyopathy.
    Dilated,
    /// Restrictive cardiomyopathy.
    Restrictive,
    /// A healed infarct.
    Ischaemic,
    /// Heart failure of no named cause.
    HeartFailure,
}

impl Group {
    /// All groups and their shares of a cohort, percent.
    pub const ALL: [(Group, f64); 6] = [
        (Group::Healthy, 40.0),
        (Group::Hypertrophic, 12.0),
        (Group::Dilated, 12.0),
        (Group::Restrictive, 12.0),
        (Group::Ischaemic, 12.0),
        (Group::HeartFailure, 12.0),
    ];

    /// The word in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Group::Healthy => "healthy",
            Group::Hypertrophic => "hcm",
            Group::Dilated => "dcm",
            Group::Restrictive => "rcm",
            Group::Ischaemic => "ischaemic",
            Group::HeartFailure => "heart-failure",
        }
    }

    /// The group of a word.
    pub fn parse(word: &str) -> Option<Group> {
        Group::ALL.into_iter().map(|(group, _)| group).find(|group| group.name() == word)
    }

    fn draw(random: &mut Stream) -> Group {
        let mut left = 100.0 * random.uniform();
        for (group, share) in Group::ALL {
            left -= share;
            if left <= 0.0 {
                return group;
            }
        }
        Group::Healthy
    }
}

/// A person.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// True for a man.
    pub male: bool,
    /// Age, years.
    pub age: f64,
    /// Height, cm.
    pub height_cm: f64,
    /// Body mass index, kg/m2.
    pub bmi: f64,
}

impl Person {
    fn draw(random: &mut Stream) -> Person {
        let male = random.uniform() < 0.5;
        let height = if male { 176.0 + 6.8 * random.normal() } else { 163.0 + 6.4 * random.normal() };
        Person {
            male,
            age: (63.0 + 7.6 * random.normal()).clamp(45.0, 82.0),
            height_cm: height.clamp(140.0, 205.0),
            bmi: (26.6 + 4.0 * random.normal()).clamp(18.0, 42.0),
        }
    }

    /// Body surface area, m2 (Mosteller 1987).
    pub fn bsa_m2(&self) -> f64 {
        let weight_kg = self.bmi * (self.height_cm / 100.0).powi(2);
        (self.height_cm * weight_kg / 3600.0).sqrt()
    }
}

/// Size and function of a heart; all that its shape and motion follow from.
#[derive(Debug, Clone, PartialEq)]
pub struct Heart {
    /// LV end-diastolic volume, mL.
    pub edv_ml: f64,
    /// LV ejection fraction, 0 to 1.
    pub ef: f64,
    /// LV myocardial mass, g.
    pub mass_g: f64,
    /// Length of the LV cavity from the valve plane to the apex over its diameter.
    pub slimness: f64,
    /// Wall thickness of the 16 AHA segments relative to each other.
    pub thickness: [f64; 16],
    /// How much of the normal motion each AHA segment has, 0 to 1.
    pub function: [f64; 16],
    /// How late each AHA segment contracts, ms.
    pub delay_ms: [f64; 16],
    /// Shortening of the long axis, share of its length.
    pub shortening: f64,
    /// RV end-diastolic volume, mL.
    pub rv_edv_ml: f64,
    /// RV ejection fraction, 0 to 1.
    pub rv_ef: f64,
    /// Largest LA volume, mL.
    pub la_max_ml: f64,
    /// LA emptying fraction, 0 to 1.
    pub la_ef: f64,
    /// Largest RA volume, mL.
    pub ra_max_ml: f64,
    /// RA emptying fraction, 0 to 1.
    pub ra_ef: f64,
    /// Share of the filling before diastasis, 0 to 1.
    pub early_filling: f64,
    /// Beats a minute.
    pub heart_rate: f64,
    /// From R to the opening of the aortic valve, ms.
    pub ejection_start_ms: f64,
    /// From R to end-systole, ms.
    pub end_systole_ms: f64,
    /// From end-systole to the opening of the mitral valve, ms.
    pub relaxation_ms: f64,
    /// Ascending and descending aorta: smallest area, mm2, and distensibility, 1e-3/mmHg.
    pub aorta: [(f64, f64); 2],
    /// Systolic minus diastolic pressure, mmHg.
    pub pulse_mmhg: f64,
    /// How the ventricles are reached.
    pub conduction: Conduction,
    /// A scar.
    pub infarct: Option<Infarct>,
}

/// What disease changes, before the individual differences.
struct Change {
    /// LV end-diastolic volume over body surface, mL/m2: factor.
    edv: f64,
    /// Ejection fraction: mean and sd where it is not the healthy one.
    ef: Option<(f64, f64)>,
    /// LV mass: factor.
    mass: f64,
    /// LA and RA: factors.
    atria: [f64; 2],
    /// Chance of left bundle branch block.
    left_block: f64,
    /// Added beats a minute.
    rate: f64,
    /// Spread of the factors (sd of their logarithm).
    spread: f64,
}

fn change(group: Group) -> Change {
    let change =
        |edv, ef, mass, atria, left_block, rate, spread| Change { edv, ef, mass, atria, left_block, rate, spread };
    match group {
        Group::Healthy => change(1.0, None, 1.0, [1.0, 1.0], 0.005, 0.0, 0.0),
        Group::Hypertrophic => change(0.93, Some((0.68, 0.06)), 1.75, [1.45, 1.1], 0.03, 1.0, 0.15),
        Group::Dilated => change(1.60, Some((0.31, 0.08)), 1.65, [1.55, 1.4], 0.22, 9.0, 0.13),
        Group::Restrictive => change(0.86, Some((0.52, 0.07)), 1.55, [1.85, 1.7], 0.06, 10.0, 0.12),
        Group::Ischaemic => change(1.08, None, 1.12, [1.2, 1.05], 0.06, 3.0, 0.10),
        Group::HeartFailure => change(1.25, Some((0.43, 0.10)), 1.40, [1.5, 1.35], 0.18, 8.0, 0.14),
    }
}

/// Relative thickness of a normal wall: the septum a little thicker, the apex thinner (Bai 2020, figure of the segments).
const NORMAL_WALL: [f64; 16] =
    [1.0, 1.10, 1.12, 1.02, 0.98, 1.0, 0.95, 1.05, 1.08, 0.98, 0.95, 0.96, 0.88, 0.95, 0.90, 0.88];

/// AHA segments fed by one artery (Cerqueira 2002), from 0.
pub fn segments(territory: Territory) -> &'static [usize] {
    match territory {
        Territory::Anterior => &[0, 1, 6, 7, 12, 13],
        Territory::Inferior => &[2, 3, 8, 9, 14],
        Territory::Lateral => &[4, 5, 10, 11, 15],
    }
}

/// AHA segments of the septum, from 0.
const SEPTUM: [usize; 5] = [1, 2, 7, 8, 13];
/// AHA segments of the lateral wall, from 0.
const LATERAL: [usize; 5] = [4, 5, 10, 11, 15];

/// Draws a participant.
pub fn draw(group: Option<Group>, random: &mut Stream) -> (Group, Person, Heart) {
    let drawn = Group::draw(random); // drawn in any case: the rest of the stream is then the same
    let group = group.unwrap_or(drawn);
    let person = Person::draw(random);
    let heart = Heart::draw(group, &person, random);
    (group, person, heart)
}

impl Heart {
    fn draw(group: Group, person: &Person, random: &mut Stream) -> Heart {
        let change = change(group);
        let bsa = person.bsa_m2();
        let infarct = (group == Group::Ischaemic).then(|| draw_infarct(random));
        let extent = infarct.map_or(0.0, |infarct| infarct.extent);
        // Size of the ventricle and its mass share a cause: body build and load.
        let (build, size, bulk) = (random.normal(), random.normal(), random.normal());
        let disease = (change.spread * random.normal()).exp();
        let pick = |man: f64, woman: f64| if person.male { man } else { woman };
        let edv_index = pick(85.0, 74.0) - 0.35 * (person.age - 60.0) + pick(13.5, 11.5) * (0.6 * build + 0.8 * size);
        let edv_ml = (edv_index * bsa * change.edv * disease * (1.0 + 0.35 * extent)).clamp(60.0, 420.0);
        let mass_index = pick(53.0, 42.0) + pick(9.0, 7.0) * (0.75 * build + 0.66 * bulk);
        let grown = (change.spread * random.normal()).exp();
        let mass_g = (mass_index * bsa * change.mass * grown).clamp(35.0, 380.0);
        let (mean, sd) = change.ef.unwrap_or((pick(0.58, 0.61) - 0.24 * extent, 0.05));
        let ef = (mean + sd * random.normal()).clamp(0.12, 0.80);
        let conduction = draw_conduction(change.left_block, random);
        let heart_rate = (62.5 + pick(-1.5, 1.5) + change.rate + 9.0 * random.normal()).clamp(44.0, 115.0);
        let weak = ((0.60 - ef) / 0.30).clamp(0.0, 1.3);
        let [left, right] = change.atria;
        let mut heart = Heart {
            edv_ml,
            ef,
            mass_g,
            slimness: (1.72 - 0.28 * weak + 0.09 * random.normal()).clamp(1.25, 2.1),
            thickness: draw_wall(group, random),
            function: [1.0; 16],
            delay_ms: [0.0; 16],
            shortening: shortening(group, ef, random),
            rv_edv_ml: 0.0,
            rv_ef: (pick(0.55, 0.58) - 0.12 * weak + 0.4 * (ef - mean) + 0.04 * random.normal()).clamp(0.20, 0.75),
            la_max_ml: (36.5 * bsa * left * (0.22 * random.normal()).exp()).clamp(25.0, 220.0),
            la_ef: (0.61 - 0.16 * (left - 1.0) - 0.08 * weak + 0.06 * random.normal()).clamp(0.15, 0.78),
            ra_max_ml: (pick(46.0, 40.0) * bsa * right * (0.22 * random.normal()).exp()).clamp(25.0, 230.0),
            ra_ef: (0.47 - 0.12 * (right - 1.0) - 0.06 * weak + 0.07 * random.normal()).clamp(0.12, 0.68),
            early_filling: early_filling(group, person.age, random),
            heart_rate,
            ejection_start_ms: 0.0,
            end_systole_ms: 0.0,
            relaxation_ms: (78.0 + 0.5 * (person.age - 60.0) + 10.0 * random.normal()).clamp(45.0, 120.0),
            aorta: draw_aorta(person, random),
            pulse_mmhg: (52.0 + 0.55 * (person.age - 60.0) + 9.0 * random.normal()).clamp(28.0, 95.0),
            conduction,
            infarct,
        };
        heart.time_systole(person.male, random);
        heart.move_walls(random);
        // No shunt: both ventricles pump the same, but for what measuring adds.
        let stroke = heart.edv_ml * heart.ef * (1.0 + 0.04 * random.normal());
        heart.rv_edv_ml = (stroke / heart.rv_ef).clamp(60.0, 420.0);
        heart
    }

    /// Pre-ejection period and electromechanical systole fall with the rate (Boudoulas 1981); a weak ventricle and bundle
    /// branch block delay the ejection and shorten it (Weissler 1968).
    fn time_systole(&mut self, male: bool, random: &mut Stream) {
        let (total, slope) = if male { (541.0, 2.2) } else { (540.0, 2.0) };
        let block = if self.conduction == Conduction::LeftBlock { 1.0 } else { 0.0 };
        let weak = ((0.60 - self.ef) / 0.30).clamp(0.0, 1.3);
        let r_after_onset = 42.0 + 22.0 * block; // the intervals count from the onset of QRS
        let qs2 = total - slope * self.heart_rate + 20.0 * block + 8.0 * random.normal();
        self.end_systole_ms = (qs2 - r_after_onset).max(180.0);
        let pre_ejection = 98.0 + 22.0 * weak + 28.0 * block + 7.0 * random.normal();
        self.ejection_start_ms = (pre_ejection - r_after_onset).clamp(25.0, 0.6 * self.end_systole_ms);
    }

    /// Scars do not move, blocks make walls late.
    fn move_walls(&mut self, random: &mut Stream) {
        for function in &mut self.function {
            *function = (1.0 + 0.05 * random.normal()).clamp(0.5, 1.2);
        }
        if let Some(infarct) = self.infarct {
            for &segment in segments(infarct.territory) {
                self.function[segment] *= 1.0 - 0.9 * infarct.extent;
                self.thickness[segment] *= 1.0 - 0.35 * infarct.extent;
            }
        }
        if self.conduction == Conduction::LeftBlock {
            LATERAL.iter().for_each(|&segment| self.delay_ms[segment] = 70.0);
            SEPTUM.iter().for_each(|&segment| self.delay_ms[segment] = -25.0);
        }
    }
}

fn draw_infarct(random: &mut Stream) -> Infarct {
    let territory = [Territory::Anterior, Territory::Inferior, Territory::Lateral][random.below(3)];
    Infarct { territory, extent: random.between(0.25, 1.0) }
}

fn draw_conduction(left_block: f64, random: &mut Stream) -> Conduction {
    let at = random.uniform();
    match at {
        _ if at < left_block => Conduction::LeftBlock,
        _ if at < left_block + 0.015 => Conduction::RightBlock,
        _ => Conduction::Normal,
    }
}

fn draw_wall(group: Group, random: &mut Stream) -> [f64; 16] {
    let mut wall = NORMAL_WALL.map(|part| part * (0.05 * random.normal()).exp());
    let septal = random.between(0.6, 1.4);
    if group == Group::Hypertrophic {
        SEPTUM.iter().for_each(|&segment| wall[segment] *= 1.0 + septal);
    }
    wall
}

/// The long axis shortens by 16 % in health (Ell of Bai 2020 is -18.5 %); less where the ventricle is weak, thick or stiff.
fn shortening(group: Group, ef: f64, random: &mut Stream) -> f64 {
    let stiff = match group {
        Group::Hypertrophic => 0.75,
        Group::Restrictive => 0.72,
        _ => 1.0,
    };
    (0.165 * stiff * (ef / 0.60).min(1.1) + 0.014 * random.normal()).clamp(0.02, 0.24)
}

/// Early filling falls with age; restriction fills early and then no more.
fn early_filling(group: Group, age: f64, random: &mut Stream) -> f64 {
    let mean = match group {
        Group::Restrictive => 0.80,
        Group::Hypertrophic => 0.50,
        Group::Dilated | Group::HeartFailure => 0.64,
        _ => 0.62 - 0.006 * (age - 60.0),
    };
    (mean + 0.06 * random.normal()).clamp(0.35, 0.88)
}

fn draw_aorta(person: &Person, random: &mut Stream) -> [(f64, f64); 2] {
    let older = person.age - 60.0;
    let large = if person.male { 1.12 } else { 0.88 };
    let wide = (0.16 * random.normal()).exp();
    let soft = |mean: f64, random: &mut Stream| mean * (-0.028 * older + 0.30 * random.normal()).exp();
    [
        (760.0 * large * wide * (1.0 + 0.006 * older), soft(1.9, random)),
        (430.0 * large * wide * (0.08 * random.normal()).exp() * (1.0 + 0.007 * older), soft(2.5, random)),
    ]
}
