//! The weights inside the programs: used where none are named, said once, told in the output, carried by few.

use ecgflow::bundled;
use ecgflow::io::hdf5::FeaturesReader;
use ecgflow::io::Source;

use crate::program::{bin, example, refuses, run, succeed, text, tiny_weights};

/// What the programs say of the bundled weights.
fn notice() -> &'static str {
    bundled::weights().unwrap().notice().unwrap()
}

#[test]
fn without_weights_the_bundled_ones_run_and_it_is_said_once() {
    let out = tempfile::tempdir().unwrap();
    succeed(&format!("ecg-prep {} -o ecg.h5", example().display()), out.path());
    for words in ["pamae-encode ecg.h5 -o features.h5", "amdf-sample features.h5 --steps 1 --latent-only -o latent.h5"]
    {
        let output = run(words, out.path());
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{words}: {stderr}");
        assert_eq!(stderr.matches(notice()).count(), 1, "{words}: {stderr}");
        let file = words.split(' ').next_back().unwrap();
        let said = text(&succeed(&format!("ecgflow inspect {file}"), out.path()));
        assert!(said.contains("model: bundled compact sha256:") && said.contains(notice()), "{said}");
        let quiet = run(&format!("{words} -q"), out.path());
        assert!(quiet.status.success() && quiet.stderr.is_empty(), "{}", text(&quiet.stderr));
    }
    let features = FeaturesReader::open(Source::open(&out.path().join("features.h5")).unwrap()).unwrap();
    assert_eq!(features.provenance().model, Some(bundled::weights().unwrap().id()));
}

#[test]
fn named_weights_are_used_without_a_word_about_the_bundled_ones() {
    let out = tempfile::tempdir().unwrap();
    succeed(&format!("ecg-prep {} -o ecg.h5", example().display()), out.path());
    let output = run(&format!("pamae-encode ecg.h5 -o f.h5 --weights {}", tiny_weights().display()), out.path());
    assert!(output.status.success() && !text(&output.stderr).contains("bundled"), "{}", text(&output.stderr));
    let said = text(&succeed("ecgflow inspect f.h5", out.path()));
    assert!(said.contains("model: w.safetensors sha256:") && !said.contains("bundled"), "{said}");
}

#[test]
fn phenotypes_and_diagnoses_come_from_the_bundled_weights() {
    let out = tempfile::tempdir().unwrap();
    succeed("ecgflow simulate -n 2 --seed 3 --hdf5 -o hearts", out.path());
    for (program, columns) in [("cmr-phenotype", "id,lv_edv_ml,"), ("cmr-classify", "id,")] {
        let output = run(&format!("{program} hearts/cine.h5 -o {program}.csv"), out.path());
        let stderr = text(&output.stderr);
        assert!(output.status.success() && stderr.matches(notice()).count() == 1, "{program}: {stderr}");
        let table = std::fs::read_to_string(out.path().join(format!("{program}.csv"))).unwrap();
        assert!(table.contains(&bundled::downstream().unwrap().id()), "{table}");
        assert_eq!(table.lines().filter(|line| line.starts_with("H3-")).count(), 2, "{table}");
        assert!(table.lines().any(|line| line.starts_with(columns)), "{table}");
    }
}

#[test]
fn inspect_says_what_is_bundled() {
    let out = tempfile::tempdir().unwrap();
    let said = text(&succeed("ecgflow inspect --bundled", out.path()));
    assert!(said.contains(&bundled::weights().unwrap().id()) && said.contains("flow:"), "{said}");
    assert!(said.contains(&bundled::downstream().unwrap().id()) && said.contains("diagnosis:"), "{said}");
    refuses("ecgflow inspect", 2, &["<FILE>"], |_| {});
}

#[test]
fn programs_carry_the_weights_that_they_run_and_no_others() {
    let carries = |program: &str, weights: &str| {
        let weights = std::fs::read(crate::program::root().join("weights").join(weights)).unwrap();
        let binary = std::fs::read(bin().join(program)).unwrap();
        let name = &weights[8..40];
        let mut found = binary.windows(name.len()).enumerate().filter(|(_, window)| *window == name);
        found.any(|(at, _)| binary[at..].starts_with(&weights[8..]))
    };
    let (generator, downstream) = ("compact.safetensors", "downstream.safetensors");
    assert!(!carries("ecg-prep", generator) && !carries("ecg-prep", downstream));
    for (programs, carried, other) in [
        (["pamae-encode", "amdf-sample"], generator, downstream),
        (["cmr-phenotype", "cmr-classify"], downstream, generator),
    ] {
        assert!(programs.iter().all(|program| carries(program, carried) && !carries(program, other)), "{programs:?}");
    }
}
