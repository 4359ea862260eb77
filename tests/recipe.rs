//! The recipe of the bundled weights, run as it stands at a small size; and what the shipped weights can do at least.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use crate::program::{names, refuses, root, shell, succeed, text, tiny_weights};

/// The figures of a trial: value, low, high.
fn figures(table: &str) -> BTreeMap<String, [f64; 3]> {
    let row = |line: &str| {
        let mut cells = line.split(',');
        let name = cells.next().unwrap().to_owned();
        let mut number = || cells.next().unwrap().parse().unwrap_or(f64::NAN);
        (name, [number(), number(), number()])
    };
    let mut lines = table.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("id,value,low,high"));
    lines.map(row).collect()
}

/// Runs the recipe with budgets of one or two steps; says which commands it ran.
fn recipe(what: &str, folder: &Path) -> String {
    let sizes = "WORK=work HEARTS=12 PAMAE_STEPS=1 VAE_STEPS=2 FLOW_STEPS=2 ABLATION_STEPS=1 TRIAL=2";
    let output = shell(&format!("{sizes} {}/docs/recipe.sh {what}", root().display()), folder);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    said.lines().filter(|line| line.starts_with("recipe: ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_recipe_runs_from_nothing_with_its_ablations_and_does_nothing_twice() {
    let out = tempfile::tempdir().unwrap();
    let ran = recipe("", out.path());
    let stages = ["ecgflow simulate", "pamae-encode train", "--stage vae", "--stage flow", "ecgflow trial"];
    assert!(stages.iter().all(|stage| ran.contains(stage)), "{ran}");
    let work = out.path().join("work");
    let inspected = text(&succeed("ecgflow inspect compact.safetensors", &work));
    assert!(["pamae", "vae", "flow"].iter().all(|kind| inspected.contains(kind)), "{inspected}");
    assert!(!inspected.contains("untrained"), "{inspected}");
    let gif = std::fs::read(work.join("clip.gif")).unwrap();
    assert!(gif.starts_with(b"GIF89a"));
    let trial = figures(&std::fs::read_to_string(work.join("trial.csv")).unwrap());
    assert!(trial["vae_psnr"][0].is_finite() && trial["beats_found"][0] > 0.9, "{trial:?}");

    let times = |folder: &Path| -> BTreeMap<String, SystemTime> {
        let time = |name: &String| std::fs::metadata(folder.join(name)).unwrap().modified().unwrap();
        names(folder).into_iter().map(|name| (name.clone(), time(&name))).collect()
    };
    let before = times(&work);
    assert_eq!(recipe("", out.path()), "");
    assert_eq!(times(&work), before);

    let ran = recipe("ablations", out.path());
    assert_eq!(ran.matches("--stage flow").count(), 4, "{ran}");
    for name in ["full", "no_template", "no_phase", "no_alignment", "no_guidance", "full_alpha", "steps_2", "steps_20"]
    {
        let trial = figures(&std::fs::read_to_string(work.join(format!("trial_{name}.csv"))).unwrap());
        assert!(trial["vae_psnr"][0].is_finite(), "{name}: {trial:?}");
    }
}

#[test]
fn the_shipped_weights_are_trained_and_draw_hearts() {
    let out = tempfile::tempdir().unwrap();
    let found = figures(&text(&succeed("ecgflow trial -n 4 --seed 3 -q", out.path())));
    // Below what 500 participants give (docs/results.md): four of them must tell trained weights from a stand-in.
    assert!(found["vae_psnr"][0] > 24.0, "{found:?}");
    assert!(found["area_curve_r"][0] > 0.8, "{found:?}");
    assert!(found["es_frame_error"][0] <= 4.0, "{found:?}");
}

#[test]
fn a_trial_depends_on_its_seed_alone_and_refuses_the_cohort_of_the_training() {
    let out = tempfile::tempdir().unwrap();
    let table = |words: &str| {
        let table = text(&succeed(words, out.path()));
        table.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    };
    let one = table("ecgflow trial -n 2 --seed 5 --steps 1 -q --threads 1");
    assert_eq!(one, table("ecgflow trial -n 2 --seed 5 --steps 1 -q --threads 2"));
    assert_ne!(one, table("ecgflow trial -n 2 --seed 6 --steps 1 -q"));
    let says = ["--seed 0 is the cohort that the bundled weights were trained on", "hint: take another seed"];
    refuses("ecgflow trial -n 2 --seed 0", 2, &says, |_| {});
    let small = format!("ecgflow trial -n 1 --weights {}", tiny_weights().display());
    refuses(&small, 1, &["expected (50, 96, 96) frames, rows and columns", "found (8, 32, 32)"], |_| {});
    refuses("ecgflow trial -n 0", 2, &["--participants <N>", "from 1"], |_| {});
    refuses("ecgflow trial -n 2 --steps 0", 2, &["--steps"], |_| {});
    refuses("ecgflow trial -n 2 --guidance nan", 2, &["--guidance"], |_| {});
}
