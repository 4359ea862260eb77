//! Whether the leads are what their names say: limb-lead identities, inverted and double leads, exchanged electrodes.
//!
//! Identities hold for any heart, so a lead that breaks them, or mends them when turned over, is named with certainty.
//! Exchanged electrodes break no identity. Two guesses are made from the median beat:
//!
//! - arms: lead I is the mirror image of V6, which in a usual heart looks alike (a heart on the right side does the same);
//! - chest: walking from V1 to V6 the beat changes gradually. The way is the sum of the distances between the beats of
//!   neighbours; where it gets much shorter with one lead turned over or two exchanged, that is what happened.

use ndarray::{s, Array2, ArrayView2, Axis};

use super::beat::{correlation, Beats};
use super::{Findings, Subject};
use crate::data::ecg::{Lead, Verdict, LEADS};
use crate::kernel::simd::{vectorise, Plain};
use crate::signal::statistic::values;

/// Two leads that differ by less than this share of what they move are one lead.
const SAME_SHARE: f64 = 0.02;
/// Limb leads that contradict each other by more, and no more once one is turned over, have that one upside down, mV.
const CONTRADICTS_MV: f64 = 0.015;
/// Correlation of I and V6 below which they mirror each other.
const MIRRORED: f64 = -0.4;
/// Turning a chest lead over is believed where the way gets shorter than this share of itself.
const TURNED: f64 = 0.80;
/// Exchanging two chest leads is believed where the way gets shorter than this share of itself.
const EXCHANGED: f64 = 0.95;

/// The limb-lead identities, each with the lead that it says and what it takes of I and II for it. Einthoven's is first.
const IDENTITIES: [(&str, Lead, [f64; 2]); 4] = [
    ("I + III - II", Lead::III, [1.0, -1.0]),
    ("aVR + (I + II) / 2", Lead::AVR, [0.5, 0.5]),
    ("aVL - I + II / 2", Lead::AVL, [-1.0, 0.5]),
    ("aVF - II + I / 2", Lead::AVF, [0.5, -1.0]),
];

/// The limb-lead identities, each a name and its root mean square, mV: 0 where its lead was derived. Einthoven's is first.
pub fn identities(samples: ArrayView2<f64>, derived: &[bool; LEADS]) -> Vec<(&'static str, f64)> {
    turned(samples, derived, None)
}

/// The same with one lead turned over.
fn turned(samples: ArrayView2<f64>, derived: &[bool; LEADS], over: Option<Lead>) -> Vec<(&'static str, f64)> {
    let sign = |lead: Lead| if over == Some(lead) { -1.0 } else { 1.0 };
    let row = |lead: Lead| values(samples.index_axis_move(Axis(0), lead as usize));
    let (one, two) = (row(Lead::I), row(Lead::II));
    let rms = |(name, lead, [a, b]): (&'static str, Lead, [f64; 2])| {
        if derived.get(lead as usize).copied().unwrap_or(true) {
            return (name, 0.0);
        }
        let shares = [a * sign(Lead::I), b * sign(Lead::II), sign(lead)];
        let sum = vectorise(Contradiction { leads: [&one, &two, &row(lead)], shares });
        (name, (sum / one.len().max(1) as f64).sqrt())
    };
    IDENTITIES.map(rms).to_vec()
}

/// Sum of the squares of what shares of three leads add up to.
struct Contradiction<'a> {
    leads: [&'a [f64]; 3],
    shares: [f64; 3],
}

impl Plain for Contradiction<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let ([x, y, z], [a, b, c]) = (self.leads, self.shares);
        let mut sums = [0.0; 8];
        for ((x, y), z) in x.chunks(sums.len()).zip(y.chunks(sums.len())).zip(z.chunks(sums.len())) {
            for (sum, ((x, y), z)) in sums.iter_mut().zip(x.iter().zip(y).zip(z)) {
                let rest = a * x + c * z + b * y;
                *sum += rest * rest;
            }
        }
        sums.iter().sum()
    }
}

/// Adds what is wrong with the places of the leads.
pub(super) fn judge(subject: &Subject, beats: &Beats, flat: &[bool; LEADS], found: &mut Findings) {
    let derived = subject.sources.derived();
    if let Some(lead) = inverted_limb(subject.clean, &derived) {
        found.add(Verdict::Bad, "inverted-lead", format!("the limb leads agree when {lead} is turned over"));
    }
    let doubles = doubles(subject.clean, &derived, flat);
    for (one, two) in &doubles {
        found.add(Verdict::Bad, "duplicate-lead", format!("{one} and {two} are the same"));
    }
    if has_exchanged_arms(beats) {
        let words = "I is the mirror image of V6: arm electrodes exchanged, or a heart on the right";
        found.add(Verdict::Usable, "arm-reversal", words);
    }
    let chest = |lead: usize| flat.get(lead).copied().unwrap_or(false) || doubles.iter().any(|d| d.1 as usize == lead);
    if (6..LEADS).any(chest) {
        return; // the way through the chest leads means nothing
    }
    match chest_order(beats.median.view()) {
        Some(Chest::Turned(lead)) => {
            found.add(Verdict::Bad, "inverted-lead", format!("{lead} fits its neighbours when turned over"));
        }
        Some(Chest::Exchanged(a, b)) => {
            found.add(
                Verdict::Usable,
                "chest-order",
                format!("the beats change more gradually with {a} and {b} exchanged"),
            );
        }
        None => {}
    }
}

/// The recorded limb lead that, turned over, mends all identities that do not hold.
fn inverted_limb(samples: ArrayView2<f64>, derived: &[bool; LEADS]) -> Option<Lead> {
    let worst = |over| turned(samples, derived, over).iter().fold(0.0f64, |m, (_, mv)| m.max(*mv));
    let before = worst(None);
    if before <= CONTRADICTS_MV {
        return None;
    }
    let tried = Lead::ALL.into_iter().take(6).map(|lead| (lead, worst(Some(lead))));
    tried.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, mv)| *mv < 0.2 * before).map(|(lead, _)| lead)
}

/// Pairs of leads that are one and the same.
fn doubles(clean: ArrayView2<f64>, derived: &[bool; LEADS], flat: &[bool; LEADS]) -> Vec<(Lead, Lead)> {
    let usable: Vec<Lead> = Lead::ALL
        .into_iter()
        .zip(derived.iter().zip(flat))
        .filter(|(_, (d, f))| !**d && !**f)
        .map(|(l, _)| l)
        .collect();
    // Every eighth sample tells beats apart.
    let thin = |lead: &Lead| clean.row(*lead as usize).iter().step_by(8).copied().collect::<Vec<f64>>();
    let power = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>();
    let leads: Vec<(Lead, Vec<f64>, f64)> = usable
        .iter()
        .map(|lead| {
            let values = thin(lead);
            let size = power(&values);
            (*lead, values, size)
        })
        .collect();
    let mut pairs = Vec::new();
    for (k, (a, x, size_x)) in leads.iter().enumerate() {
        for (b, y, size_y) in leads.iter().skip(k + 1) {
            let size = size_x.max(*size_y);
            let limit = SAME_SHARE * SAME_SHARE * size;
            let mut apart = 0.0;
            let differ = x.chunks(32).zip(y.chunks(32)).any(|(x, y)| {
                apart += x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
                apart >= limit
            });
            if size > 0.0 && !differ {
                pairs.push((*a, *b));
            }
        }
    }
    pairs
}

/// Whether lead I mirrors V6, in the whole beat and in the T wave alone: an axis far to the right mirrors QRS only.
fn has_exchanged_arms(beats: &Beats) -> bool {
    let alike = |beat: ArrayView2<f64>| {
        let lead = |lead: Lead| beat.slice(s![lead as usize..=lead as usize, ..]);
        correlation(lead(Lead::I), lead(Lead::V6))
    };
    alike(beats.median.view()) < MIRRORED && alike(beats.after_qrs()) < 0.0
}

/// What happened to the chest leads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Chest {
    /// One lead is upside down.
    Turned(Lead),
    /// Two leads stand in each other's place.
    Exchanged(Lead, Lead),
}

/// What makes the way from V1 to V6 much shorter, if anything does.
pub fn chest_order(median: ArrayView2<f64>) -> Option<Chest> {
    let (turned, exchanged) = shortest(median)?;
    match (turned.1 < TURNED, exchanged.1 < EXCHANGED) {
        (true, _) if turned.1 < exchanged.1 => Some(turned.0),
        (_, true) => Some(exchanged.0),
        (true, _) => Some(turned.0),
        _ => None,
    }
}

/// The best lead to turn over and the best two to exchange, each with the share of the way that is left.
pub fn shortest(median: ArrayView2<f64>) -> Option<((Chest, f64), (Chest, f64))> {
    let beats = centred(median);
    let chest: Vec<Lead> = Lead::ALL.into_iter().skip(6).collect();
    let order: Vec<usize> = (0..beats.nrows()).collect();
    if order.len() != 6 {
        return None;
    }
    let legs = Legs::of(&beats);
    let now = legs.way(&order, None);
    if now <= 0.0 {
        return None;
    }
    let turned = chest.iter().enumerate().map(|(k, &lead)| (Chest::Turned(lead), legs.way(&order, Some(k)) / now));
    let pairs = (0..6).flat_map(|a| (a + 1..6).map(move |b| (a, b)));
    let exchanged = pairs.filter_map(|(a, b)| {
        let mut order = order.clone();
        order.swap(a, b);
        Some((Chest::Exchanged(*chest.get(a)?, *chest.get(b)?), legs.way(&order, None) / now))
    });
    let least = |x: &(Chest, f64), y: &(Chest, f64)| x.1.total_cmp(&y.1);
    Some((turned.min_by(least)?, exchanged.min_by(least)?))
}

/// The chest leads of the median beat, each about its own mean.
fn centred(median: ArrayView2<f64>) -> Array2<f64> {
    let mut beats = median.slice(s![6.min(median.nrows()).., ..]).to_owned();
    for mut row in beats.rows_mut() {
        let mean = row.mean().unwrap_or(0.0);
        row.mapv_inplace(|v| v - mean);
    }
    beats
}

/// Distances between any two chest leads: as they are, and with one turned over.
struct Legs([[[f64; 2]; 6]; 6]);

impl Legs {
    fn of(beats: &Array2<f64>) -> Legs {
        let mut legs = [[[0.0; 2]; 6]; 6];
        for (a, b) in (0..6).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let both = [values(beats.row(a)), values(beats.row(b))];
            let apart = |sign: f64| distance(&both[0], &both[1], sign);
            legs[a][b] = [apart(1.0), apart(-1.0)];
            legs[b][a] = legs[a][b];
        }
        Legs(legs)
    }

    /// Sum of the distances between neighbours, with one lead turned over.
    fn way(&self, order: &[usize], turned: Option<usize>) -> f64 {
        let leg = |pair: &[usize]| match *pair {
            [a, b] => self.0[a][b][usize::from((Some(a) == turned) != (Some(b) == turned))],
            _ => 0.0,
        };
        order.windows(2).map(leg).sum()
    }
}

/// Root of the sum of squares of a - sign b.
fn distance(a: &[f64], b: &[f64], sign: f64) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - sign * y).powi(2)).sum::<f64>().sqrt()
}
