//! Where a file says it comes from: attributes of our HDF5 files, `#` lines of our WFDB headers and CSV files.

use std::fs::File;
use std::io::Read;

use super::{hdf5, wfdb, Source};
use crate::data::Provenance;

/// The `#` lines stand at the end of a WFDB header and at the beginning of a CSV file.
const LOOKED_AT: u64 = 64 << 10;

/// The origin of an input; none where it does not tell it in our words.
pub fn origin(source: &Source) -> Option<Provenance> {
    hdf5::origin(source).or_else(|| {
        let header = wfdb::header_path(source.path());
        let path = if header.is_file() { &header } else { source.path() };
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(LOOKED_AT).read_to_end(&mut bytes).ok()?;
        told(std::str::from_utf8(&bytes).ok()?)
    })
}

/// Reads what [`comment_lines`](super::table::comment_lines) wrote; the seeds of earlier steps are not in it.
fn told(text: &str) -> Option<Provenance> {
    let lines = || text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(": "));
    let value = |name: &str| lines().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    let (tool, version) =
        value("tool")?.rsplit_once(' ').map(|(tool, version)| (tool.to_owned(), version.to_owned()))?;
    let step = |command: &str| Provenance {
        tool: command.split(' ').next().unwrap_or_default().to_owned(),
        tool_version: String::new(),
        command: command.to_owned(),
        model: None,
        seed: None,
        created: String::new(),
        synthetic: false,
        history: Vec::new(),
    };
    let history = lines().filter(|(key, _)| *key == "before").map(|(_, command)| step(command));
    Some(Provenance {
        tool,
        tool_version: version,
        model: value("model"),
        seed: value("seed").and_then(|seed| seed.parse().ok()),
        created: value("created")?,
        synthetic: value("synthetic")? == "yes",
        history: history.collect(),
        ..step(&value("command")?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::table::comment_lines;

    #[test]
    fn what_was_written_is_read() {
        let mut first = Provenance::now("ecgflow", "ecgflow simulate -n 1".into());
        first.synthetic = true;
        let mut second = Provenance::now("ecg-prep", "ecg-prep 'a b' -o c.hea".into()).after(&first);
        second.seed = Some(u64::MAX);
        let found = told(&format!("r 12 500 5000\nr.dat 16\n{}# preset: raw\n", comment_lines(&second))).unwrap();
        assert_eq!(found.history[0].command, "ecgflow simulate -n 1");
        assert!(found.synthetic);
        assert_eq!(Provenance { history: vec![], ..found }, Provenance { history: vec![], ..second });
    }

    #[test]
    fn remarks_of_others_are_no_origin() {
        for text in ["", "r 12 500 5000\n# tool: ours 1\n", "# created: now\n", "# <age>: 81\n# tool: x\n"] {
            assert_eq!(told(text), None, "{text}");
        }
    }
}
