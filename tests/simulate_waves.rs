//! Waves of digital hearts are what was asked for, measured without noise by rules of an electrocardiograph: QRS is where
//! all leads together move fast, the axis follows from areas in I and aVF, QT ends where the steepest tangent of T meets the
//! baseline, vectors come back from eight leads by least squares through Dower's transform. Medians over beats.

use ecgflow::data::ecg::Lead;
use ecgflow::random::Stream;
use ecgflow::simulate::electrics::{record, Conduction, Electrics, Infarct, NoiseLevels, Territory};
use ndarray::Array2;

/// Hearts measured of each kind.
const HEARTS: usize = 12;
const RECORDED: [usize; 8] = [0, 1, 6, 7, 8, 9, 10, 11];
const I: usize = Lead::I as usize;
const II: usize = Lead::II as usize;
const III: usize = Lead::III as usize;
const AVL: usize = Lead::AVL as usize;
const AVF: usize = Lead::AVF as usize;
const V1: usize = Lead::V1 as usize;
const V2: usize = Lead::V2 as usize;
const V3: usize = Lead::V3 as usize;
const V4: usize = Lead::V4 as usize;
const V5: usize = Lead::V5 as usize;
const V6: usize = Lead::V6 as usize;

/// Frank's X, Y, Z from I, II, V1 to V6 (Edenbrandt and Pahlm 1988).
const INVERSE: [[f64; 8]; 3] = [
    [0.156, -0.010, -0.172, -0.074, 0.122, 0.231, 0.239, 0.194],
    [-0.227, 0.887, 0.057, -0.019, -0.106, -0.022, 0.041, 0.048],
    [0.022, 0.102, -0.229, -0.310, -0.246, -0.063, 0.055, 0.108],
];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Twelve leads and where QRS of each whole beat begins and ends.
struct Heart {
    x: Array2<f64>,
    qrs: Vec<(usize, usize)>,
    rr_s: f64,
}

impl Heart {
    fn new(electrics: &Electrics, id: usize) -> Heart {
        let mut random = Stream::new("waves", 7, &id.to_string(), 0);
        let tracing = record(electrics, &NoiseLevels::none(), &mut random);
        let x = tracing.recording.samples_mv;
        let whole = |r: &&i32| (300..4600).contains(*r);
        let qrs = tracing.r_peak.iter().filter(whole).map(|r| borders(&x, *r as usize)).collect();
        Heart { x, qrs, rr_s: 60.0 / electrics.heart_rate }
    }

    /// The median of a measure over beats.
    fn each(&self, measure: impl Fn(usize, usize) -> f64) -> f64 {
        median(self.qrs.iter().map(|(on, off)| measure(*on, *off)).collect())
    }

    /// A lead against its level at the onset of QRS.
    fn lead(&self, lead: usize, on: usize, from: usize, to: usize) -> Vec<f64> {
        (from..to).map(|n| self.x[[lead, n]] - self.x[[lead, on]]).collect()
    }

    fn qrs_ms(&self) -> f64 {
        self.each(|on, off| 2.0 * (off - on) as f64)
    }

    /// Highest and lowest point of QRS.
    fn qrs_mv(&self, lead: usize) -> (f64, f64) {
        let of =
            |fold: fn(f64, f64) -> f64| self.each(|on, off| self.lead(lead, on, on, off).into_iter().fold(0.0, fold));
        (of(f64::max), of(f64::min))
    }

    fn axis_deg(&self, share: f64) -> f64 {
        let area = |lead: usize| {
            self.each(|on, off| {
                let to = on + ((off - on) as f64 * share) as usize;
                self.lead(lead, on, on, to).iter().sum()
            })
        };
        (2.0 / 3f64.sqrt() * area(AVF)).atan2(area(I)).to_degrees()
    }

    /// Frank's vector at a sample.
    fn vector(&self, on: usize, n: usize) -> [f64; 3] {
        INVERSE.map(|row| row.iter().zip(RECORDED).map(|(w, lead)| w * (self.x[[lead, n]] - self.x[[lead, on]])).sum())
    }

    /// The longest vector from `from` to `to` samples after the onset (or the end, with `after_end`) of QRS.
    fn largest(&self, from: usize, to: usize, after_end: bool) -> f64 {
        self.each(|on, off| {
            let start = if after_end { off } else { on };
            (start + from..start + to).map(|n| norm(self.vector(on, n))).fold(0.0, f64::max)
        })
    }

    /// From the onset of QRS to where the steepest tangent after the top of T, in the lead where T is tallest, meets the
    /// baseline, by Fridericia.
    fn qtc_ms(&self) -> f64 {
        let qt = self.each(|on, off| {
            let t = |lead: usize| self.lead(lead, on, off + 30, on + 260);
            let tall = |lead: &usize| t(*lead).into_iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            let lead = RECORDED.into_iter().max_by(|a, b| tall(a).total_cmp(&tall(b))).unwrap();
            let t = t(lead);
            let top = (0..t.len()).max_by(|a, b| t[*a].abs().total_cmp(&t[*b].abs())).unwrap();
            let slope = |n: usize| (t[n + 1] - t[n - 1]) / 2.0;
            let steep = (top + 1..t.len() - 1).max_by(|a, b| slope(*a).abs().total_cmp(&slope(*b).abs())).unwrap();
            2.0 * (30.0 + (off - on) as f64 + steep as f64 - t[steep] / slope(steep))
        });
        qt / self.rr_s.cbrt()
    }

    /// First and last sample of P: more than 8 uV from the level before it, in any of eight leads.
    fn p(&self, on: usize) -> (usize, usize) {
        let far = |n: usize| RECORDED.iter().any(|lead| (self.x[[*lead, n]] - self.x[[*lead, on - 140]]).abs() > 0.008);
        let first = (on - 139..on - 10).find(|n| far(*n)).unwrap_or(on);
        let last = (on - 139..on - 8).rev().find(|n| far(*n)).unwrap_or(on);
        (first, last)
    }

    /// Angle between the mean vectors of QRS and of T, degrees.
    fn qrs_t_deg(&self) -> f64 {
        let sum = |range: std::ops::Range<usize>, on: usize| {
            range.map(|n| self.vector(on, n)).fold([0.0; 3], |s, v| [s[0] + v[0], s[1] + v[1], s[2] + v[2]])
        };
        self.each(|on, off| {
            let (a, b) = (sum(on..off, on), sum(off + 60..on + 220, on));
            let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            (dot / norm(a) / norm(b)).acos().to_degrees()
        })
    }

    /// Depth in mV and width in ms of the first downward deflection, where it comes before any upward one of 20 uV.
    fn q(&self, lead: usize) -> (f64, f64) {
        let of = |on: usize, off: usize| {
            let qrs = self.lead(lead, on, on, off);
            let start = qrs.iter().position(|v| v.abs() > 0.02).unwrap_or(0);
            let q: Vec<f64> = qrs.into_iter().skip(start).take_while(|v| *v < 0.0).collect();
            (q.iter().fold(0.0, |m: f64, v| m.min(*v)), 2.0 * q.len() as f64)
        };
        (-self.each(|on, off| of(on, off).0), self.each(|on, off| of(on, off).1))
    }

    /// The extreme of T.
    fn t_mv(&self, lead: usize) -> f64 {
        self.each(|on, off| {
            let t = self.lead(lead, on, off + 50, on + 250);
            t.into_iter().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap()
        })
    }
}

fn norm(v: [f64; 3]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Outward from the steepest place near R, until eight leads together move by less than 4 % of that for 12 ms.
fn borders(x: &Array2<f64>, r: usize) -> (usize, usize) {
    let speed = |n: usize| RECORDED.iter().map(|l| (x[[*l, n + 1]] - x[[*l, n]]).powi(2)).sum::<f64>().sqrt();
    let steepest = (r - 40..r + 60).max_by(|a, b| speed(*a).total_cmp(&speed(*b))).unwrap();
    let slow = 0.04 * speed(steepest);
    let still = |n: &usize, step: isize| (0..6).all(|k| speed(n.wrapping_add_signed(k * step)) < slow);
    let on = (0..=steepest).rev().find(|n| still(n, -1)).unwrap() + 1;
    (on, (steepest..).find(|n| still(n, 1)).unwrap())
}

/// Measures hearts that differ from the healthy one; the worst and the mean difference from what was asked for.
fn off(name: &str, asked: &[f64], heart: impl Fn(f64) -> Electrics, measure: impl Fn(&Heart) -> f64) -> (f64, f64) {
    let (mut worst, mut sum) = (0.0f64, 0.0);
    for value in asked {
        let mut got = Vec::new();
        for id in 0..HEARTS {
            got.push(measure(&Heart::new(&heart(*value), id)));
        }
        let mean = got.iter().sum::<f64>() / HEARTS as f64;
        worst = got.iter().fold(worst, |m, v| m.max((v - value).abs()));
        sum += (mean - value).abs() / asked.len() as f64;
        println!("result electrics {name}: asked {value}, measured {mean:.3} on average of {HEARTS} hearts");
    }
    (worst, sum)
}

fn healthy() -> Electrics {
    Electrics::healthy()
}

#[test]
fn intervals_are_those_asked_for() {
    let qrs = off("QRS, ms", &[80.0, 100.0, 120.0], |v| Electrics { qrs_ms: v, ..healthy() }, Heart::qrs_ms);
    let blocks = [Conduction::LeftBlock, Conduction::RightBlock].map(|conduction| {
        let heart = |v| Electrics { qrs_ms: v, conduction, ..healthy() };
        off("QRS with a block, ms", &[130.0, 150.0, 170.0], heart, Heart::qrs_ms)
    });
    let qtc = off("QTc, ms", &[370.0, 420.0, 480.0], |v| Electrics { qtc_ms: v, ..healthy() }, Heart::qtc_ms);
    let fast = off(
        "QTc at 85 a minute, ms",
        &[420.0],
        |v| Electrics { qtc_ms: v, heart_rate: 85.0, ..healthy() },
        Heart::qtc_ms,
    );
    let pr = |h: &Heart| h.each(|on, _| 2.0 * (on - h.p(on).0) as f64);
    let pr = off("PR, ms", &[130.0, 160.0, 220.0], |v| Electrics { pr_ms: v, ..healthy() }, pr);
    let p = |h: &Heart| h.each(|on, _| 2.0 * (h.p(on).1 - h.p(on).0) as f64);
    let p = off("P, ms", &[85.0, 105.0, 135.0], |v| Electrics { p_ms: v, pr_ms: 190.0, ..healthy() }, p);
    assert!(qrs.0 <= 8.0 && blocks.iter().all(|b| b.0 <= 8.0), "{qrs:?} {blocks:?}");
    assert!(qtc.0 <= 6.0 && fast.0 <= 6.0 && pr.0 <= 6.0 && p.0 <= 12.0, "{qtc:?} {fast:?} {pr:?} {p:?}");
}

#[test]
fn axis_and_sizes_are_those_asked_for() {
    let axis = |share| move |h: &Heart| h.axis_deg(share);
    let normal = off("axis, degrees", &[-45.0, 0.0, 45.0, 90.0], |v| Electrics { axis_deg: v, ..healthy() }, axis(1.0));
    let left = |v| Electrics { axis_deg: v, conduction: Conduction::LeftBlock, qrs_ms: 150.0, ..healthy() };
    let left = off("axis with left block, degrees", &[-30.0, 10.0, 50.0], left, axis(1.0));
    let right = |v| Electrics { axis_deg: v, conduction: Conduction::RightBlock, qrs_ms: 140.0, ..healthy() };
    let right = off("axis with right block (first half), degrees", &[-20.0, 45.0, 80.0], right, axis(0.5));
    assert!([normal, left, right].iter().all(|o| o.0 <= 5.0), "{normal:?} {left:?} {right:?}");
    let qrs = |h: &Heart| h.largest(0, 60, false);
    let qrs = off("QRS, mV", &[0.6, 1.5, 3.0], |v| Electrics { qrs_mv: v, ..healthy() }, qrs);
    let t = |h: &Heart| h.largest(50, 180, true);
    let t = off("T, mV", &[0.2, 0.45, 0.7], |v| Electrics { t_mv: v, ..healthy() }, t);
    let angle = off(
        "QRS-T, degrees",
        &[20.0, 60.0, 100.0, 160.0],
        |v| Electrics { qrs_t_deg: v, ..healthy() },
        Heart::qrs_t_deg,
    );
    let p = |h: &Heart| h.each(|on, _| h.lead(II, on, on - 100, on).into_iter().fold(0.0, f64::max));
    let p = off("P in II, mV", &[0.06, 0.12, 0.2], |v| Electrics { p_mv: v, ..healthy() }, p);
    let end = |h: &Heart| h.each(|on, _| -h.lead(V1, on, on - 90, on).into_iter().fold(0.0, f64::min));
    let end = off("end of P in V1, mV", &[0.02, 0.06, 0.12], |v| Electrics { p_terminal_mv: v, ..healthy() }, end);
    assert!(qrs.1 <= 0.05 && t.1 <= 0.02 && angle.1 <= 5.0 && p.1 <= 0.006 && end.1 <= 0.006);
}

#[test]
fn rhythm_is_that_asked_for() {
    for (heart_rate, rr_sd_ms) in [(45.0, 60.0), (70.0, 30.0), (120.0, 5.0)] {
        let mut rr = Vec::new();
        let mut sd = Vec::new();
        for id in 0..40 {
            let electrics = Electrics { heart_rate, rr_sd_ms, ..healthy() };
            let mut random = Stream::new("rhythm", 1, &id.to_string(), 0);
            let beats = record(&electrics, &NoiseLevels::none(), &mut random).beats;
            let intervals: Vec<f64> = beats.windows(2).map(|w| 1000.0 * (w[1].onset_s - w[0].onset_s)).collect();
            let mean = intervals.iter().sum::<f64>() / intervals.len() as f64;
            sd.push((intervals.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (intervals.len() - 1) as f64).sqrt());
            rr.push(60_000.0 / mean);
        }
        let [rr, sd] = [rr, sd].map(|v| v.iter().sum::<f64>() / 40.0);
        println!("result electrics rhythm: asked {heart_rate} a minute and {rr_sd_ms} ms, got {rr:.1} and {sd:.1}");
        assert!((rr / heart_rate - 1.0).abs() < 0.02 && (sd / rr_sd_ms - 1.0).abs() < 0.12);
    }
}

#[test]
fn extra_beats_are_as_many_as_asked_for_early_broad_and_followed_by_a_pause() {
    let electrics = Electrics { ectopy: 0.1, rr_sd_ms: 5.0, heart_rate: 60.0, ..healthy() };
    let (mut beats, mut extra) = (0, 0);
    for id in 0..200 {
        let mut random = Stream::new("ectopy", 1, &id.to_string(), 0);
        let tracing = record(&electrics, &NoiseLevels::none(), &mut random);
        beats += tracing.beats.len();
        extra += tracing.beats.iter().filter(|b| b.is_ectopic).count();
        for w in tracing.beats.windows(3).filter(|w| w[1].is_ectopic) {
            let (before, after) = (w[1].onset_s - w[0].onset_s, w[2].onset_s - w[1].onset_s);
            assert!(before < 0.8 && after > 1.2 && (before + after - 2.0).abs() < 0.1, "{before} {after}");
        }
        for beat in tracing.beats.iter().filter(|b| (300..4600).contains(&b.r_peak)) {
            let (on, off) = borders(&tracing.recording.samples_mv, beat.r_peak as usize);
            assert_eq!(2 * (off - on) > 115, beat.is_ectopic, "{} ms", 2 * (off - on));
        }
    }
    let share = f64::from(extra as u32) / beats as f64;
    assert!((share - 0.1).abs() < 0.015, "{share}");
}

#[test]
fn a_healthy_heart_has_a_healthy_ecg() {
    for id in 0..HEARTS {
        let heart = Heart::new(&healthy(), id);
        let [v1, v2, v3, v4, v5, v6] = [V1, V2, V3, V4, V5, V6].map(|lead| heart.qrs_mv(lead));
        assert!(v1.0 > 0.05 && v1.0 < -v1.1 && v2.0 < -v2.1, "heart {id}: rS in V1 {v1:?} and V2 {v2:?}");
        assert!(
            v1.0 < v3.0 && v2.0 < v4.0 && v4.0 > -v4.1 && v5.0 > -3.0 * v5.1,
            "heart {id}: R grows {v3:?} {v4:?} {v5:?}"
        );
        assert!(v6.0 > -3.0 * v6.1 && v6.0 < 1.2 * v5.0, "heart {id}: V6 {v6:?}");
        for lead in [I, II, AVF, V4, V5, V6] {
            let (depth, width) = heart.q(lead);
            assert!(
                depth < 0.25 * heart.qrs_mv(lead).0 && width <= 30.0,
                "heart {id}: Q in {lead}: {depth} mV, {width} ms"
            );
        }
        for lead in [I, II, V3, V4, V5, V6] {
            assert!(heart.t_mv(lead) > 0.03, "heart {id}: T in {lead} {}", heart.t_mv(lead));
        }
    }
}

#[test]
fn blocks_scars_strain_and_rotation_look_like_the_textbook() {
    let conduction = |conduction, qrs_ms| Electrics { conduction, qrs_ms, ..healthy() };
    let scar = |territory, extent| Electrics { infarct: Some(Infarct { territory, extent }), ..healthy() };
    let transition = |heart: &Heart| {
        let chest = [V1, V2, V3, V4, V5, V6];
        chest.iter().position(|l| heart.qrs_mv(*l).0 > -heart.qrs_mv(*l).1).unwrap_or(6) + 1
    };
    let mut transitions = [0; 3];
    for id in 0..HEARTS {
        let left =
            Heart::new(&Electrics { qrs_mv: 2.0, axis_deg: 0.0, ..conduction(Conduction::LeftBlock, 150.0) }, id);
        let (r, s) = left.qrs_mv(V1);
        assert!(r < 0.25 * -s, "heart {id}: left block, V1 {r} {s}");
        for lead in [I, V6] {
            assert!(
                left.q(lead).0 < 0.03 && -left.qrs_mv(lead).1 < 0.1 * left.qrs_mv(lead).0,
                "heart {id}: left block {lead}"
            );
        }
        let right = Heart::new(&conduction(Conduction::RightBlock, 140.0), id);
        let late = |lead| right.each(|on, off| right.lead(lead, on, (on + off) / 2, off).iter().sum::<f64>() / 35.0);
        assert!(
            late(V1) > 0.1 && late(I) < -0.05 && late(V6) < -0.1,
            "heart {id}: {} {} {}",
            late(V1),
            late(I),
            late(V6)
        );
        assert!(right.qrs_mv(V1).1 < -0.15, "heart {id}: S between r and R'");

        let strain = Electrics { st_mv: -0.15, qrs_t_deg: 165.0, qrs_mv: 2.8, ..healthy() };
        let strain = Heart::new(&strain, id);
        for lead in [V5, V6] {
            let st = strain.each(|on, off| strain.lead(lead, on, off + 20, off + 21)[0]);
            assert!(
                strain.t_mv(lead) < -0.1 && st < -0.05,
                "heart {id}: strain in {lead}: T {}, ST {st}",
                strain.t_mv(lead)
            );
        }
        let territories = [
            (Territory::Anterior, vec![V1, V2, V3]),
            (Territory::Inferior, vec![II, III, AVF]),
            (Territory::Lateral, vec![I, AVL, V6]),
        ];
        for (territory, leads) in territories {
            let heart = Heart::new(&scar(territory, 0.4), id);
            let with_q = |lead: &&usize| {
                let (depth, width) = heart.q(**lead);
                depth > 0.1 && depth > 0.25 * heart.qrs_mv(**lead).0 && width >= 24.0
            };
            let found = leads.iter().filter(with_q).count();
            assert!(
                found >= 2,
                "heart {id}: {territory:?} {:?}",
                leads.iter().map(|l| (heart.q(*l), heart.qrs_mv(*l))).collect::<Vec<_>>()
            );
        }
        for (total, rotation_deg) in transitions.iter_mut().zip([-25.0, 0.0, 25.0]) {
            *total += transition(&Heart::new(&Electrics { rotation_deg, ..healthy() }, id));
        }
    }
    let mean = transitions.map(|t| t as f64 / HEARTS as f64);
    println!(
        "result electrics transition: V{:.1} at -25 degrees, V{:.1} at 0, V{:.1} at 25",
        mean[0], mean[1], mean[2]
    );
    assert!(mean[0] < mean[1] - 0.3 && mean[1] < mean[2] - 0.3);
}
