//! Running the programs: arguments, standard input, exit codes, pipes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// The folder with the programs under test.
pub fn bin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ecg-prep")).parent().unwrap()
}

/// The package.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program, to be given arguments and run in `folder`.
pub fn program(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(bin().join(name));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs `words`, program first, in `folder`.
pub fn run(words: &str, folder: &Path) -> Output {
    let mut words = words.split_whitespace();
    program(words.next().unwrap(), folder).args(words).output().unwrap()
}

/// Runs `words` in `folder` and insists on success; returns what it wrote to standard output.
pub fn succeed(words: &str, folder: &Path) -> Vec<u8> {
    let output = run(words, folder);
    assert!(output.status.success(), "{words}\n{}", text(&output.stderr));
    output.stdout
}

/// Runs `words` with `input` on standard input.
pub fn feed(words: &str, folder: &Path, input: &[u8]) -> Output {
    let mut split = words.split_whitespace();
    let mut command = program(split.next().unwrap(), folder);
    command.args(split).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Runs `words` in `folder`; what came of it, and the most memory that the program held, bytes.
pub fn measure(words: &str, folder: &Path) -> (Output, u64) {
    let mut split = words.split_whitespace();
    let mut command = program(split.next().unwrap(), folder);
    let child = command.args(split).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let watch = std::thread::spawn(move || {
        let mut peak = 0;
        // A program that has ended says no more of its memory.
        let held = || {
            let said = std::fs::read_to_string(&status).ok()?;
            said.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        };
        while let Some(kib) = held() {
            peak = peak.max(kib << 10);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        peak
    });
    let output = child.wait_with_output().unwrap();
    (output, watch.join().unwrap())
}

/// Python 3 with packages that `make test` fetches.
pub struct Python {
    path: String,
}

impl Python {
    /// None, said loudly, where it has not all of these modules; CI must have them.
    pub fn with(packages: &[&str], modules: &str) -> Option<Python> {
        let paths = packages.iter().map(|name| root().join("target/setup").join(name).display().to_string());
        let python = Python { path: paths.collect::<Vec<_>>().join(":") };
        let import = format!("import {modules}");
        if python.command().args(["-c", &import]).output().is_ok_and(|output| output.status.success()) {
            return Some(python);
        }
        assert!(std::env::var_os("CI").is_none(), "CI must have {modules}");
        skipped(&format!("python3 has no {modules}"));
        None
    }

    fn command(&self) -> Command {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &self.path);
        command
    }

    /// Runs it in `folder` and insists on success.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S], folder: &Path) -> Output {
        let output = self.command().current_dir(folder).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        output
    }
}

/// Runs `words` in `folder` on a terminal, whose output is what it shows. None, said loudly, where no program gives one.
pub fn on_terminal(words: &str, folder: &Path) -> Option<Output> {
    if !shell("command -v script", folder).status.success() {
        assert!(std::env::var_os("CI").is_none(), "CI must have script (bsdutils)");
        skipped("no program `script` to open a terminal");
        return None;
    }
    Some(shell(&format!("script -qec '{words}' /dev/null < /dev/null"), folder))
}

/// A line of bash in `folder`, the programs on its PATH, failing where any part of a pipe fails.
pub fn shell(line: &str, folder: &Path) -> Output {
    let path = format!("{}:{}", bin().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", line]).env("PATH", path).current_dir(folder).stdin(Stdio::null());
    command.output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fresh weights of all models at the tiny size, made once.
pub fn tiny_weights() -> &'static Path {
    static WEIGHTS: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = WEIGHTS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        succeed("ecgflow init tiny --seed 7 -o w.safetensors", folder.path());
        let path = folder.path().join("w.safetensors");
        (folder, path)
    });
    path
}

/// The WFDB record of testdata/.
pub fn example() -> PathBuf {
    root().join("testdata/ecg/example.hea")
}

/// The names in a folder, sorted; hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let entry = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(entry).collect();
    names.sort();
    names
}

/// A file or folder of the shared test data. None, said loudly, where it is not there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = root().join("../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("no {}", path.display()));
    None
}

/// Says that the running test is skipped, and why, past the capture of the test runner: a skipped test is not a passed one.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = std::io::stderr().lock().write_all(format!("SKIPPED {test}: {why}\n").as_bytes());
}

/// Runs `words` in a folder that `make` fills; expects the exit code, the words of the error, and no further file.
pub fn refuses(words: &str, code: i32, says: &[&str], make: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let before = names(folder.path());
    let words = words.replace("WEIGHTS", &tiny_weights().display().to_string());
    let output = run(&words, folder.path());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words}\n{stderr}");
    assert!(output.stdout.is_empty(), "{words} wrote to standard output");
    assert_eq!(names(folder.path()), before, "{words} left files behind");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for part in says {
        assert!(stderr.contains(part), "{words}: the error lacks {part:?}:\n{stderr}");
    }
}
