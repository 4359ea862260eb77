//! The ECG of digital hearts: `ecg-prep` finds its beats, equal streams give equal records, and pictures can be drawn.

use std::fmt::Write as _;

use ecgflow::data::ecg::Lead;
use ecgflow::random::Stream;
use ecgflow::signal::prepare::{prepare, PrepareOptions};
use ecgflow::signal::rpeak;
use ecgflow::simulate::electrics::{record, Beat, Conduction, Electrics, Infarct, NoiseLevels, Territory, Tracing};

/// A found beat may be so far from the true one, samples: 20 ms.
const NEAR: u32 = 10;
/// The tolerance of ANSI/AAMI EC57, samples: 150 ms. Beats so near to the ends do not count, as in tests/rpeak.rs.
const FAR: u32 = 75;

/// A heart of a cohort with the usual share of disease; or, `ill`, of one in which blocks, scars and inverted T abound.
fn any_heart(ill: bool, random: &mut Stream) -> Electrics {
    let once_in =
        |usual: usize, when_ill: usize, random: &mut Stream| random.below(if ill { when_ill } else { usual }) == 0;
    let conduction = match (once_in(30, 10, random), once_in(20, 10, random)) {
        (true, _) => Conduction::LeftBlock,
        (_, true) => Conduction::RightBlock,
        _ => Conduction::Normal,
    };
    let is_normal = conduction == Conduction::Normal;
    let qrs_ms = if is_normal { random.between(76.0, 125.0) } else { random.between(120.0, 170.0) };
    let has_extra = once_in(8, 4, random);
    let turned_t = once_in(8, 5, random);
    let has_scar = once_in(12, 6, random);
    let territory = [Territory::Anterior, Territory::Inferior, Territory::Lateral][random.below(3)];
    let infarct = Some(Infarct { territory, extent: random.between(0.1, 0.6) });
    Electrics {
        heart_rate: random.between(45.0, 120.0),
        rr_sd_ms: random.between(4.0, 60.0),
        ectopy: if has_extra { random.between(0.02, 0.12) } else { 0.0 },
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
        qrs_t_deg: if turned_t { random.between(90.0, 178.0) } else { random.between(15.0, 90.0) },
        st_mv: random.between(-0.15, 0.08),
        infarct: infarct.filter(|_| has_scar),
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
    fn add(&mut self, truth: &[i32], found: &[i32], tolerance: u32) {
        let inside = |r: &&i32| (FAR as i32..5000 - FAR as i32).contains(*r);
        self.beats += truth.iter().filter(inside).count();
        self.hits += truth.iter().filter(inside).filter(|t| is_near(**t, found, tolerance)).count();
        self.wrong += found.iter().filter(inside).filter(|f| !is_near(**f, truth, tolerance)).count();
    }

    /// Sensitivity and precision.
    fn percent(&self) -> [f64; 2] {
        [self.beats, self.hits + self.wrong].map(|of| 100.0 * self.hits as f64 / of as f64)
    }
}

fn is_near(a: i32, all: &[i32], tolerance: u32) -> bool {
    all.iter().any(|b| a.abs_diff(*b) <= tolerance)
}

/// What `ecg-prep` hears of hearts.
#[derive(Default)]
struct Heard {
    /// All beats within 20 ms, and within 150 ms.
    near: Score,
    far: Score,
    /// Within 20 ms, without extra beats that point down.
    without_down: Score,
    /// Those.
    down: Score,
    /// Records whose heart rate is off by over 1 a minute.
    rate_off: usize,
}

impl Heard {
    fn of(ill: bool) -> Heard {
        let mut heard = Heard::default();
        for n in 0..400 {
            let mut random = Stream::new("electrics", 11, &n.to_string(), 0);
            let electrics = any_heart(ill, &mut random);
            let noise = NoiseLevels::typical(&mut random);
            heard.add(&record(&electrics, &noise, &mut random));
        }
        for (name, score) in [
            ("within 20 ms", &heard.near),
            ("within 150 ms", &heard.far),
            ("within 20 ms, without extra beats that point down", &heard.without_down),
            ("extra beats that point down, within 20 ms", &heard.down),
        ] {
            let of = if ill { " of ill hearts" } else { "" };
            let [sensitivity, precision] = score.percent();
            println!(
                "result electrics R peaks{of} {name}: {} beats, sensitivity {sensitivity:.2} %, precision {precision:.2} %",
                score.beats
            );
        }
        println!("result electrics heart rate off by over 1 a minute: {} of 400 records", heard.rate_off);
        heard
    }

    fn add(&mut self, tracing: &Tracing) {
        let ecg = prepare(tracing.recording.clone(), &PrepareOptions::default()).unwrap();
        self.near.add(&tracing.r_peak, &ecg.r_peak, NEAR);
        self.far.add(&tracing.r_peak, &ecg.r_peak, FAR);
        let two = tracing.recording.samples_mv.row(1);
        let at = |n: i32| two[n.max(0) as usize];
        let is_down = |b: &&Beat| b.is_ectopic && at(b.r_peak) < at((b.onset_s * 500.0) as i32);
        let down: Vec<i32> = tracing.beats.iter().filter(is_down).map(|b| b.r_peak).collect();
        let split = |all: &[i32]| all.iter().copied().partition::<Vec<i32>, _>(|r| is_near(*r, &down, FAR));
        let ((_, truth), (of_down, found)) = (split(&tracing.r_peak), split(&ecg.r_peak));
        self.without_down.add(&truth, &found, NEAR);
        self.down.add(&down, &of_down, NEAR);
        let truth: Vec<usize> = tracing.r_peak.iter().map(|r| *r as usize).collect();
        let difference = (rpeak::heart_rate(&truth, 500.0) - f64::from(ecg.heart_rate)).abs();
        self.rate_off += usize::from(difference.is_nan() || difference > 1.0);
    }
}

#[test]
fn ecg_prep_finds_the_beats_of_a_cohort() {
    let heard = Heard::of(false);
    let least = |score: &Score| score.percent().into_iter().fold(100.0, f64::min);
    assert!(least(&heard.without_down) >= 99.5 && least(&heard.far) >= 99.5 && heard.rate_off <= 4);
    assert!(heard.without_down.beats > 5000 && least(&heard.near) >= 99.5);
}

/// Limits of the detector, written down: R and S of one size in lead II, where the choice between them is a convention, and
/// extra beats so tall that the others go unheard.
#[test]
fn ecg_prep_finds_most_beats_of_ill_hearts() {
    assert!(Heard::of(true).far.percent().into_iter().all(|percent| percent >= 99.5));
}

#[test]
fn the_same_stream_gives_the_same_record() {
    let one = |seed| {
        let mut random = Stream::new("electrics", seed, "a", 0);
        let electrics = any_heart(false, &mut random);
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
    for n in 0..12 {
        let mut random = Stream::new("electrics", 11, &n.to_string(), 0);
        let electrics = any_heart(false, &mut random);
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
        let electrics = any_heart(false, &mut random);
        record(&electrics, &NoiseLevels::typical(&mut random), &mut random);
    }
    println!("result electrics time: {:.2} ms a record", start.elapsed().as_secs_f64() * 10.0);
}
