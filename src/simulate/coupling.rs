//! What the ECG shows of a heart: every coupling of anatomy and function to electrics in one place.
//!
//! Each line of [`electrics`] is one coupling: its size is of the order that the cited studies report, and each has a rest
//! that the heart does not explain (`random.normal()`), so that no phenotype can be read off the ECG without error. The
//! table with sources stands in docs/simulation.md.

use crate::random::Stream;
use crate::simulate::electrics::{Conduction, Electrics};
use crate::simulate::population::{Group, Heart, Person};

/// LV mass over body surface that voltages are relative to, g/m2.
const MASS_INDEX: f64 = 48.0;

/// The electrics of a heart that lies `lie_deg` further from upright than the mean heart.
pub fn electrics(group: Group, person: &Person, heart: &Heart, lie_deg: f64, random: &mut Stream) -> Electrics {
    let thick = (heart.mass_g / person.bsa_m2() / MASS_INDEX).ln();
    let weak = ((0.60 - heart.ef) / 0.30).max(-0.5);
    let (left, right) = (heart.conduction == Conduction::LeftBlock, heart.conduction == Conduction::RightBlock);
    let if_left = |value: f64| if left { value } else { 0.0 };
    let of = |wanted: Group, value: f64| if group == wanted { value } else { 0.0 };
    let heavy = person.bmi - 26.6;
    let wide = heart.edv_ml - 145.0;
    let atrium = heart.la_max_ml - 68.0;
    let mut rest = |sd: f64| sd * random.normal();

    let qrs_ms = 88.0
        + if person.male { 4.0 } else { 0.0 }
        + 0.09 * wide
        + 0.06 * (heart.mass_g - 90.0)
        + rest(4.5)
        + if_left(44.0)
        + if right { 40.0 } else { 0.0 };
    let qrs_mv = 1.45 * (0.45 * thick - 0.016 * heavy - of(Group::Restrictive, 0.48) + rest(0.15)).exp();
    let axis_deg =
        44.0 - 1.1 * heavy - 0.4 * (person.age - 63.0) - 12.0 * thick.max(0.0) - 1.2 * lie_deg - if_left(28.0)
            + rest(14.0);
    let qrs_t_deg =
        50.0 + 62.0 * weak + 45.0 * thick.clamp(0.0, 1.2) + of(Group::Hypertrophic, 35.0) + if_left(60.0) + rest(10.0);
    let t_mv = 0.36 * (-0.60 * weak - 0.010 * heavy - of(Group::Restrictive, 0.25) + rest(0.11)).exp();
    let st_mv = -0.05 * thick.max(0.0) - 0.03 * weak + rest(0.010);
    let qtc_ms = 398.0
        + if person.male { 0.0 } else { 21.0 }
        + 26.0 * weak
        + 18.0 * thick.max(0.0)
        + 0.55 * (qrs_ms - 95.0).max(0.0)
        + rest(9.0);
    let p_ms = 103.0 + 0.22 * atrium + rest(5.5);
    let p_terminal_mv = 0.035 + 0.0007 * atrium + rest(0.025);
    let p_mv = 0.125 * (0.0030 * (heart.ra_max_ml - 82.0) + rest(0.14)).exp();
    let pr_ms = 158.0 + 0.12 * atrium + 0.35 * (person.age - 63.0) + rest(13.0);
    let rr_sd_ms = 30.0 * (-0.80 * weak - 0.010 * (heart.heart_rate - 62.0) + rest(0.25)).exp();
    let rotation_deg = 0.15 * wide + rest(6.0);
    let often = random.uniform() < 0.03 + 0.14 * weak.max(0.0);
    Electrics {
        heart_rate: heart.heart_rate,
        rr_sd_ms: rr_sd_ms.clamp(4.0, 90.0),
        ectopy: if often { random.between(0.04, 0.14) } else { 0.0 },
        pr_ms: pr_ms.clamp(115.0, 260.0),
        p_ms: p_ms.clamp(80.0, 150.0),
        p_mv: p_mv.clamp(0.06, 0.32),
        p_terminal_mv: p_terminal_mv.clamp(0.0, 0.16),
        qrs_ms: qrs_ms.clamp(74.0, 190.0),
        axis_deg: axis_deg.clamp(-75.0, 105.0),
        qrs_mv: qrs_mv.clamp(0.45, 4.0),
        conduction: heart.conduction,
        qtc_ms: qtc_ms.clamp(360.0, 540.0),
        t_mv: t_mv.clamp(0.08, 0.9),
        qrs_t_deg: qrs_t_deg.clamp(5.0, 176.0),
        st_mv: st_mv.clamp(-0.2, 0.05),
        infarct: heart.infarct,
        rotation_deg: rotation_deg.clamp(-40.0, 50.0),
    }
}
