//! `cmr-eval clips`: generated clips against real ones.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ecgflow::data::cine::Cine;
use ecgflow::data::Provenance;
use ecgflow::io::hdf5::{CineReader, CineWriter};
use ecgflow::io::{Sink, Source};
use tempfile::TempDir;

use crate::evaluate::{find, scores, Rows};
use crate::program::{names, program, refuses, run, succeed, text};

/// Two cohorts of digital hearts, made once: `train`, and `other` with no heart of the first.
fn hearts() -> &'static Path {
    static HEARTS: OnceLock<TempDir> = OnceLock::new();
    let made = HEARTS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        succeed("ecgflow simulate -n 8 --seed 4 --hdf5 -o train", folder.path());
        succeed("ecgflow simulate -n 8 --seed 5 --hdf5 -o other", folder.path());
        folder
    });
    made.path()
}

fn cohort(name: &str) -> PathBuf {
    hearts().join(name).join("cine.h5")
}

fn clips(path: &Path) -> Vec<Cine> {
    CineReader::open(Source::open(path).unwrap()).unwrap().map(Result::unwrap).collect()
}

fn save(path: &Path, clips: &[Cine]) {
    let mut provenance = Provenance::now("test", "test".into());
    provenance.synthetic = true;
    let mut writer = CineWriter::begin(path, &provenance).unwrap();
    clips.iter().for_each(|clip| writer.put(clip).unwrap());
    writer.finish().unwrap();
}

/// Clips of `name`, each changed, under the names that `id` gives.
fn changed(name: &str, id: impl Fn(usize, &Cine) -> String, change: impl Fn(f32, usize) -> f32) -> Vec<Cine> {
    let mut all = clips(&cohort(name));
    for (i, cine) in all.iter_mut().enumerate() {
        cine.id = id(i, cine);
        cine.source.clone_from(&cine.id);
        cine.clip.iter_mut().enumerate().for_each(|(k, v)| *v = change(*v, k).clamp(0.0, 1.0));
    }
    all
}

/// Noise of no network: between -1 and 1.
fn noise(k: usize) -> f32 {
    let mixed = (k as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    mixed as f32 / (1u64 << 23) as f32 - 1.0
}

fn evaluate(folder: &Path, words: &str) -> (Rows, String) {
    let output = run(&format!("cmr-eval clips --threads 2 {words}"), folder);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{words}\n{said}");
    (scores(&output.stdout), said)
}

#[test]
fn the_clips_themselves_have_the_best_scores() {
    let out = tempfile::tempdir().unwrap();
    let real = cohort("train").display().to_string();
    let (rows, said) = evaluate(out.path(), &format!("--real {real} --generated {real} --report r.html --json r.json"));
    assert!(said.is_empty(), "{said}");
    for (score, want) in [
        ("mae", 0.0),
        ("psnr", f64::INFINITY),
        ("ssim", 1.0),
        ("area_curve_r", 1.0),
        ("es_frame_error", 0.0),
        ("ed_area_r", 1.0),
        ("area_change_r", 1.0),
        ("own_closer", 1.0),
    ] {
        let [value, .., n] = find(&rows, score, "clips", "");
        assert!(value == want || (value - want).abs() < 1e-9, "{score}: {value}");
        assert_eq!(n, 8.0, "{score}");
    }
    assert!(find(&rows, "area_change_r_shuffled", "clips", "")[0] < 0.9);
    assert_eq!(names(out.path()), ["r.html", "r.json"]);
}

#[test]
fn noise_of_known_size_gives_its_error_and_clips_of_others_follow_another_ecg() {
    let out = tempfile::tempdir().unwrap();
    // Away from the ends of the range nothing is cut off.
    save(&out.path().join("real.h5"), &changed("train", |_, c| c.id.clone(), |v, _| 0.2 + 0.6 * v));
    save(&out.path().join("made.h5"), &changed("train", |_, c| c.id.clone(), |v, k| 0.2 + 0.6 * v + 0.1 * noise(k)));
    let (rows, _) = evaluate(out.path(), "--real real.h5 --generated made.h5");
    // Evenly spread over +-0.1: mean size 0.05, mean square 0.01 / 3.
    assert!((find(&rows, "mae", "clips", "")[0] - 0.05).abs() < 1e-4);
    assert!((find(&rows, "psnr", "clips", "")[0] + 10.0 * (0.01f64 / 3.0).log10()).abs() < 0.01);
    assert!(find(&rows, "ssim", "clips", "")[0] < 0.95);
    let own = find(&rows, "own_closer", "clips", "")[0];
    assert_eq!(own, 1.0);

    // The same clips under the names of others: each is nearer to a stranger.
    let ids: Vec<String> = clips(&cohort("train")).into_iter().map(|c| c.id).collect();
    let next = |i: usize, _: &Cine| ids[(i + 1) % ids.len()].clone();
    save(&out.path().join("turned.h5"), &changed("train", next, |v, _| 0.2 + 0.6 * v));
    let (rows, _) = evaluate(out.path(), "--real real.h5 --generated turned.h5");
    let [share, _, high, _] = find(&rows, "own_closer", "clips", "");
    assert!(share < 0.75 && high < 0.9, "{share} up to {high}");
}

#[test]
fn copies_of_training_clips_are_flagged_and_new_hearts_are_not() {
    let out = tempfile::tempdir().unwrap();
    let fresh = |i: usize, _: &Cine| format!("made{i}");
    save(&out.path().join("copies.h5"), &changed("train", fresh, |v, k| 0.97 * v + 0.05 * noise(k)));
    save(&out.path().join("new.h5"), &changed("other", fresh, |v, k| 0.97 * v + 0.05 * noise(k)));
    let (train, real) = (cohort("train"), cohort("other"));
    let (train, real) = (train.display(), real.display());
    let (rows, said) = evaluate(out.path(), &format!("--real {real} --generated copies.h5 --train {train}"));
    assert_eq!(find(&rows, "copied", "clips", "")[0], 1.0);
    assert_eq!(find(&rows, "copies_flagged", "clips", "")[0], 1.0);
    assert!(find(&rows, "nearest_ratio", "clips", "")[0] < 0.3);
    assert!(said.contains("the generator copies: 8 of 8 generated clips are copies of training clips"), "{said}");
    assert!(said.contains("no clip of --generated has its record in --real"), "{said}");

    let (rows, said) = evaluate(out.path(), &format!("--real {real} --generated new.h5 --train {train}"));
    assert_eq!(find(&rows, "copies_flagged", "clips", "")[0], 0.0);
    assert!(!said.contains("the generator copies"), "{said}");
    assert_eq!(find(&rows, "real_copied", "clips", "")[3], 8.0);
}

#[test]
fn networks_score_sets_and_stand_beside_their_scores_with_their_sha256() {
    let out = tempfile::tempdir().unwrap();
    let some = |name: &str| clips(&cohort(name)).into_iter().take(2).collect::<Vec<_>>();
    // Nine frames are the fewest that I3D takes.
    let short = |mut cine: Cine| {
        cine.clip = cine.clip.slice(ndarray::s![..10, .., ..]).to_owned();
        cine
    };
    save(&out.path().join("a.h5"), &some("train").into_iter().map(short).collect::<Vec<_>>());
    let darker = changed("train", |_, c| c.id.clone(), |v, _| 0.5 * v).into_iter().take(2).map(short);
    save(&out.path().join("b.h5"), &darker.collect::<Vec<_>>());
    succeed("ecgflow init tiny --only lpips_alex,inception,i3d --seed 3 -o w.safetensors", out.path());
    let networks = "--lpips w.safetensors --inception w.safetensors --i3d w.safetensors";
    let scored = |made: &str| {
        let words = format!("cmr-eval clips --real a.h5 --generated {made} {networks} --no-comments");
        let output = run(&words, out.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        (scores(&output.stdout), text(&output.stdout), text(&output.stderr))
    };
    let (same, csv, said) = scored("a.h5");
    for score in ["lpips", "fid", "fvd"] {
        assert!(find(&same, score, "clips", "")[0].abs() < 1e-6, "{score}");
    }
    assert!(said.contains("no precision and recall: they need more than 5 clips on both sides"), "{said}");
    let sum = std::process::Command::new("sha256sum").arg("w.safetensors").current_dir(out.path()).output().unwrap();
    let sum = text(&sum.stdout)[..64].to_owned();
    for (score, network) in [("lpips,", "lpips_alex"), ("fid,", "inception"), ("fvd,", "i3d")] {
        let line = csv.lines().find(|line| line.starts_with(score)).unwrap();
        assert!(line.ends_with(&format!(",{network},{sum}")), "{line}");
    }
    let (other, ..) = scored("b.h5");
    for score in ["lpips", "fid", "fvd"] {
        assert!(find(&other, score, "clips", "")[0] > find(&same, score, "clips", "")[0].abs() + 1e-6, "{score}");
    }
}

#[test]
fn clips_that_do_not_fit_are_refused() {
    let tiny = |folder: &Path| {
        let clip = |i: usize| Cine {
            id: format!("p{i}"),
            source: format!("p{i}"),
            sample: 0,
            clip: ndarray::Array3::from_elem((8, 32, 32), 0.5),
            pixel_spacing_mm: None,
            heart_rate: 60.0,
        };
        save(&folder.join("tiny.h5"), &[clip(0), clip(1)]);
        save(&folder.join("one.h5"), &[clip(0)]);
    };
    let real = cohort("train").display().to_string();
    let says = ["tiny.h5, field /cine: expected 50 frames x 96 x 96, as in", "found 8 x 32 x 32"];
    refuses(&format!("cmr-eval clips --real {real} --generated tiny.h5 -o s.csv"), 1, &says, tiny);
    let words = "cmr-eval clips --real tiny.h5 --generated tiny.h5 --train one.h5 -o s.csv";
    refuses(words, 1, &["one.h5: expected at least two training clips, found 1"], tiny);
    let words = "cmr-eval clips --real tiny.h5 --generated tiny.h5 --i3d WEIGHTS";
    refuses(words, 1, &["the model is missing (expected i3d"], tiny);
    refuses("cmr-eval clips --real - --generated -", 2, &["only one input can be standard input"], |_| {});
    refuses("cmr-eval clips --real tiny.h5 --generated x.h5", 1, &["x.h5"], tiny);

    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    let (rows, _) = evaluate(folder.path(), "--real tiny.h5 --generated tiny.h5");
    assert_eq!(find(&rows, "mae", "clips", "")[0], 0.0);
    assert!(rows.iter().all(|([score, ..], _)| score != "area_curve_r"), "the segmentation is for 96 x 96");
}

#[test]
fn generated_clips_come_down_a_pipe() {
    let out = tempfile::tempdir().unwrap();
    let file = std::fs::File::open(cohort("train")).unwrap();
    let mut command = program("cmr-eval", out.path());
    command.args(["clips", "--generated", "-", "--real"]).arg(cohort("train")).stdin(file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(find(&scores(&output.stdout), "mae", "clips", "")[0], 0.0);
}
