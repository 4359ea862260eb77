//! The ECG of digital hearts: `ecg-prep` finds its beats, equal streams give equal records, and pictures can be drawn.

use std::fmt::Write as _;

use ecgflow::data::ecg::Lead;
use ecgflow::random::Stream;
use ecgflow::signal::prepare::{prepare, PrepareOptions};
use ecgflow::signal::rpeak;
use ecgflow::simulate::electrics::{record, Conduction, Electrics, Infarct, NoiseLevels, Territory, Tracing};

/// A found beat may be so far from the true one, samples: 20 ms.
const NEAR: usize = 10;
/// Beats so near to the ends do not count, samples: 150 ms, as in tests/rpeak.rs.
const EDGE: usize = 75;

/// Any heart of a mixed cohort.
fn any_heart(random: &mut Stream) -> Electrics {
    let conduction = match random.below(20) {
        0 | 1 => Conduction::LeftBlock,
        2 | 3 => Conduction::RightBlock,
        _ => Conduction::Normal,
    };
    let qrs_ms =
        if conduction == Conduction::Normal { random.between(76.0, 125.0) } else { random.between(120.0, 170.0) };
    let territory = [Territory::Anterior, Territory::Inferior, Territory::Lateral][random.below(3)];
    let infarct = Some(Infarct { territory, extent: random.between(0.1, 0.6) });
    Electrics {
        heart_rate: random.between(45.0, 120.0),
        rr_sd_ms: random.between(4.0, 60.0),
        ectopy: if random.below(4) == 0 { random.between(0.02, 0.15) } else { 0.0 },
        pr_ms: random.between(120.0, 220.0),
        p_ms: random.between(85.0, 140.0),
        p_mv: random.between(0.05, 0.2),
        p_terminal_mv: random.between(0.0, 0.12),
        qrs_ms,
        axis_deg: (40.0 + 28.0 * random.normal()).clamp(-60.0, 110.0),
        qrs_mv: (1.5 * (0.3 * random.normal()).exp()).clamp(0.5, 3.5),
        conduction,
        qtc_ms: random.between(370.0, 480.0),
        t_mv: random.between(0.1, 0.7),
        qrs_t_deg: if random.below(5) == 0 { random.between(90.0, 178.0) } else { random.between(15.0, 90.0) },
        st_mv: random.between(-0.15, 0.08),
        infarct: infarct.filter(|_| random.below(6) == 0),
        rotation_deg: random.between(-25.0, 25.0),
    }
}

/// True beats, those found, and those found that are none.
#[derive(Default, Debug)]
struct Score {
    beats: usize,
    hits: usize,
    wrong: usize,
}

impl Score {
    fn add(&mut self, truth: &[i32], found: &[i32]) {
        let inside = |r: &&i32| (EDGE..5000 - EDGE).contains(&(**r as usize));
        let near = |a: &i32, all: &[i32]| all.iter().any(|b| a.abs_diff(*b) as usize <= NEAR);
        self.beats += truth.iter().filter(inside).count();
        self.hits += truth.iter().filter(inside).filter(|t| near(t, found)).count();
        self.wrong += found.iter().filter(inside).filter(|f| !near(f, truth)).count();
    }

    fn percent(&self) -> (f64, f64) {
        let hits = 100.0 * self.hits as f64;
        (hits / self.beats as f64, hits / (self.hits + self.wrong) as f64)
    }
}

#[test]
fn ecg_prep_finds_the_beats_of_any_heart_within_20_ms() {
    let (mut all, mut ectopic, mut rate_off) = (Score::default(), Score::default(), 0.0f64);
    for n in 0..400 {
        let mut random = Stream::new("electrics", 11, &n.to_string(), 0);
        let electrics = any_heart(&mut random);
        let noise = NoiseLevels::typical(&mut random);
        let tracing = record(&electrics, &noise, &mut random);
        let ecg = prepare(tracing.recording.clone(), &PrepareOptions::default()).unwrap();
        let mut score = Score::default();
        score.add(&tracing.r_peak, &ecg.r_peak);
        if score.hits < score.beats || score.wrong > 0 {
            println!("record {n}: {score:?} truth {:?} found {:?} {electrics:?}", tracing.beats, ecg.r_peak);
        }
        all.add(&tracing.r_peak, &ecg.r_peak);
        let extra: Vec<i32> = tracing.beats.iter().filter(|b| b.is_ectopic).map(|b| b.r_peak).collect();
        ectopic.add(&extra, &ecg.r_peak);
        let truth: Vec<usize> = tracing.r_peak.iter().map(|r| *r as usize).collect();
        rate_off = rate_off.max((rpeak::heart_rate(&truth, 500.0) - f64::from(ecg.heart_rate)).abs());
    }
    let (sensitivity, precision) = all.percent();
    println!(
        "result electrics R peaks: {} beats of 400 hearts, sensitivity {sensitivity:.2} %, precision {precision:.2} %, bar \
         99.5 %; extra beats {} of {} found; heart rate off by at most {rate_off:.2} a minute",
        all.beats, ectopic.hits, ectopic.beats
    );
    assert!(sensitivity >= 99.5 && precision >= 99.5 && rate_off < 3.0);
}

#[test]
fn the_same_stream_gives_the_same_record() {
    let one = |seed| {
        let mut random = Stream::new("electrics", seed, "a", 0);
        let electrics = any_heart(&mut random);
        record(&electrics, &NoiseLevels::typical(&mut random), &mut random)
    };
    assert_eq!(one(5), one(5));
    assert_ne!(one(5).recording.samples_mv, one(6).recording.samples_mv);
}

#[test]
fn a_record_is_twelve_consistent_leads_in_steps_of_1_uv() {
    let tracing = record(&Electrics::healthy(), &NoiseLevels::default(), &mut Stream::new("electrics", 2, "a", 0));
    let x = &tracing.recording.samples_mv;
    assert_eq!((x.dim(), tracing.recording.rate_hz), ((12, 5000), 500.0));
    assert!(x.iter().all(|v| (v * 1000.0 - (v * 1000.0).round()).abs() < 1e-6));
    for column in x.columns() {
        assert!((column[0] + column[2] - column[1]).abs() < 1e-9); // Einthoven
        assert!((column[3] + column[4] + column[5]).abs() < 0.0021); // Goldberger, each rounded
    }
    assert!((9..=12).contains(&tracing.r_peak.len()) && tracing.r_peak.is_sorted());
}

#[test]
fn values_of_no_heart_give_a_record_all_the_same() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e300] {
        let infarct = Some(Infarct { territory: Territory::Lateral, extent: value });
        let odd = Electrics {
            heart_rate: value,
            rr_sd_ms: value,
            ectopy: value,
            pr_ms: value,
            p_ms: value,
            p_mv: value,
            p_terminal_mv: value,
            qrs_ms: value,
            axis_deg: value,
            qrs_mv: value,
            conduction: Conduction::Normal,
            qtc_ms: value,
            t_mv: value,
            qrs_t_deg: value,
            st_mv: value,
            infarct,
            rotation_deg: value,
        };
        let tracing = record(&odd, &NoiseLevels::none(), &mut Stream::new("electrics", 3, "a", 0));
        assert!(tracing.recording.samples_mv.iter().all(|v| v.is_finite()), "{value}");
    }
}

#[test]
fn muscle_noise_has_the_power_asked_for_in_every_recorded_lead() {
    let of = |noise: &NoiseLevels| {
        record(&Electrics::healthy(), noise, &mut Stream::new("electrics", 4, "a", 0)).recording.samples_mv
    };
    let clean = of(&NoiseLevels::none());
    for db in [12.0, 6.0, 0.0] {
        let noisy = of(&NoiseLevels::none().muscle_snr(db));
        for lead in [0, 1, 6, 7, 8, 9, 10, 11] {
            let rest = &noisy.row(lead) - &clean.row(lead);
            let got = 10.0 * (clean.row(lead).var(0.0) / rest.var(0.0)).log10();
            assert!((got - db).abs() < 0.5, "{} {got} dB", Lead::ALL[lead]);
        }
    }
}

/// Hearts a cardiologist knows at a glance.
pub fn gallery() -> Vec<(&'static str, Electrics)> {
    let healthy = Electrics::healthy();
    let scar = |territory, extent| Electrics { infarct: Some(Infarct { territory, extent }), ..healthy.clone() };
    let strain = Electrics { qrs_mv: 3.0, axis_deg: -5.0, qrs_ms: 104.0, st_mv: -0.15, t_mv: 0.5, ..healthy.clone() };
    let left_block = Electrics { conduction: Conduction::LeftBlock, qrs_ms: 150.0, axis_deg: 0.0, ..healthy.clone() };
    let right_block = Electrics { conduction: Conduction::RightBlock, qrs_ms: 140.0, ..healthy.clone() };
    let atrium = Electrics { p_ms: 135.0, p_terminal_mv: 0.12, pr_ms: 190.0, ..healthy.clone() };
    vec![
        ("healthy", healthy.clone()),
        ("strain", Electrics { qrs_t_deg: 165.0, ..strain }),
        ("left_block", Electrics { qrs_t_deg: 165.0, st_mv: -0.1, qrs_mv: 2.0, ..left_block }),
        ("right_block", right_block),
        ("anterior_scar", scar(Territory::Anterior, 0.4)),
        ("inferior_scar", scar(Territory::Inferior, 0.4)),
        ("lateral_scar", scar(Territory::Lateral, 0.4)),
        ("low_voltage", Electrics { qrs_mv: 0.6, t_mv: 0.15, ..healthy.clone() }),
        ("left_atrium", atrium),
        ("extra_beats", Electrics { ectopy: 0.15, ..healthy.clone() }),
        ("clockwise", Electrics { rotation_deg: 25.0, ..healthy.clone() }),
        ("counterclockwise", Electrics { rotation_deg: -25.0, ..healthy.clone() }),
        ("fast", Electrics { heart_rate: 115.0, ..healthy }),
    ]
}

fn write_csv(name: &str, tracing: &Tracing) {
    let folder = crate::program::root().join("target/hearts");
    std::fs::create_dir_all(&folder).unwrap();
    let mut text = Lead::ALL.map(Lead::name).join(",") + "\n";
    for column in tracing.recording.samples_mv.columns() {
        let row: Vec<String> = column.iter().map(|v| format!("{v:.3}")).collect();
        writeln!(text, "{}", row.join(",")).unwrap();
    }
    std::fs::write(folder.join(format!("{name}.csv")), text).unwrap();
}

#[test]
#[ignore = "writes target/hearts/*.csv, to be drawn with ecg-prep --plot; nothing is tested"]
fn write_the_gallery() {
    for (name, electrics) in gallery() {
        for id in ["a", "b", "c"] {
            let mut random = Stream::new("electrics", 1, id, 0);
            write_csv(&format!("{name}_{id}"), &record(&electrics, &NoiseLevels::default(), &mut random));
        }
    }
    for n in [9, 21, 42, 55, 62, 93, 136, 151, 231, 254, 258, 349] {
        let mut random = Stream::new("electrics", 11, &n.to_string(), 0);
        let electrics = any_heart(&mut random);
        let noise = NoiseLevels::typical(&mut random);
        write_csv(&format!("any_{n}"), &record(&electrics, &noise, &mut random));
    }
}

#[test]
#[ignore = "a time, printed: only of use in a release build on a quiet machine"]
fn the_time_of_a_record() {
    let start = std::time::Instant::now();
    for n in 0..100 {
        let mut random = Stream::new("electrics", 12, &n.to_string(), 0);
        let electrics = any_heart(&mut random);
        record(&electrics, &NoiseLevels::typical(&mut random), &mut random);
    }
    println!("result electrics time: {:.2} ms a record", start.elapsed().as_secs_f64() * 10.0);
}
