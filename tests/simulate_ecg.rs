//! The ECG of digital hearts: beats that `ecg-prep` finds, and waves as they were asked for.

use std::fmt::Write as _;

use ecgflow::data::ecg::Lead;
use ecgflow::random::Stream;
use ecgflow::simulate::electrics::{record, Conduction, Electrics, Infarct, NoiseLevels, Territory, Tracing};

/// Hearts a cardiologist knows at a glance.
fn gallery() -> Vec<(&'static str, Electrics)> {
    let healthy = Electrics::healthy();
    let scar = |territory, extent| Electrics { infarct: Some(Infarct { territory, extent }), ..healthy.clone() };
    let strain = Electrics { qrs_mv: 3.0, axis_deg: -5.0, qrs_ms: 104.0, st_mv: -0.15, t_mv: 0.5, ..healthy.clone() };
    let left_block = Electrics { conduction: Conduction::LeftBlock, qrs_ms: 150.0, axis_deg: 0.0, ..healthy.clone() };
    let right_block = Electrics { conduction: Conduction::RightBlock, qrs_ms: 140.0, ..healthy.clone() };
    let atrium = Electrics { p_ms: 135.0, p_terminal_mv: 0.12, pr_ms: 190.0, ..healthy.clone() };
    let pause = Electrics { ectopy: 0.15, ..healthy.clone() };
    vec![
        ("healthy", healthy.clone()),
        ("strain", Electrics { qrs_t_deg: 165.0, ..strain }),
        ("left_block", Electrics { qrs_t_deg: 165.0, st_mv: -0.1, qrs_mv: 2.0, ..left_block }),
        ("right_block", Electrics { qrs_t_deg: 75.0, ..right_block }),
        ("anterior_scar", scar(Territory::Anterior, 0.4)),
        ("inferior_scar", scar(Territory::Inferior, 0.4)),
        ("lateral_scar", scar(Territory::Lateral, 0.4)),
        ("low_voltage", Electrics { qrs_mv: 0.6, t_mv: 0.15, ..healthy.clone() }),
        ("left_atrium", atrium),
        ("extra_beats", pause),
        ("clockwise", Electrics { rotation_deg: 25.0, ..healthy.clone() }),
        ("counterclockwise", Electrics { rotation_deg: -25.0, ..healthy.clone() }),
        ("fast", Electrics { heart_rate: 115.0, ..healthy }),
    ]
}

fn heart(electrics: &Electrics, id: &str, noise: &NoiseLevels) -> Tracing {
    record(electrics, noise, &mut Stream::new("electrics", 1, id, 0))
}

#[test]
#[ignore = "writes target/hearts/*.csv, to be drawn with ecg-prep --plot; nothing is tested"]
fn write_the_gallery() {
    let folder = crate::program::root().join("target/hearts");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, electrics) in gallery() {
        for id in ["a", "b"] {
            let tracing = heart(&electrics, id, &NoiseLevels::default());
            let mut text = Lead::ALL.map(Lead::name).join(",") + "\n";
            for column in tracing.recording.samples_mv.columns() {
                let row: Vec<String> = column.iter().map(|v| format!("{v:.3}")).collect();
                writeln!(text, "{}", row.join(",")).unwrap();
            }
            std::fs::write(folder.join(format!("{name}_{id}.csv")), text).unwrap();
        }
    }
}
