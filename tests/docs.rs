//! The documentation agrees with the programs and with the code.
//!
//! What can be generated is compared, and written afresh with
//! `ECGFLOW_UPDATE_DOCS=1 cargo test --test main docs`: the usage blocks (a line `<!-- help: TOOL [SUBCOMMAND] -->`, then
//! a fenced block) and the table of phenotypes (a line `<!-- phenotypes -->`, then the table).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ecgflow::data::phenotype::PHENOTYPES;

/// The programs that have a page in docs/, and where they were built.
const TOOLS: [(&str, &str); 8] = [
    ("ecg-prep", env!("CARGO_BIN_EXE_ecg-prep")),
    ("pamae-encode", env!("CARGO_BIN_EXE_pamae-encode")),
    ("amdf-sample", env!("CARGO_BIN_EXE_amdf-sample")),
    ("cmr-pretrain", env!("CARGO_BIN_EXE_cmr-pretrain")),
    ("cmr-phenotype", env!("CARGO_BIN_EXE_cmr-phenotype")),
    ("cmr-classify", env!("CARGO_BIN_EXE_cmr-classify")),
    ("cmr-eval", env!("CARGO_BIN_EXE_cmr-eval")),
    ("ecgflow", env!("CARGO_BIN_EXE_ecgflow")),
];
/// The subcommands, each with a usage block of its own.
const TASKS: [&str; 12] = [
    "ecgflow import",
    "ecgflow init",
    "ecgflow inspect",
    "ecgflow render",
    "ecgflow simulate",
    "ecgflow trial",
    "pamae-encode train",
    "amdf-sample train",
    "cmr-phenotype train",
    "cmr-classify train",
    "cmr-eval clips",
    "cmr-eval tables",
];
/// The longest a program may take to answer `--help`.
const HELP_TIME: Duration = Duration::from_millis(50);
/// Beginnings of paths that exist on one machine only.
const MACHINE: [&str; 5] = ["/home/", "/root/", "/Users/", "/work/", "/mnt/"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// README.md and docs/*.md.
fn pages() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path());
    let mut pages: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

fn executable(tool: &str) -> &'static str {
    TOOLS.iter().find(|(name, _)| *name == tool).unwrap_or_else(|| panic!("no tool is called {tool}")).1
}

/// What `words --help` prints. Away from a terminal, clap breaks lines at 100 columns.
fn help(words: &str) -> String {
    let mut words = words.split_whitespace();
    let mut command = Command::new(executable(words.next().unwrap()));
    let output = command.args(words).arg("--help").env_remove("COLUMNS").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{command:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{command:?} prints long lines");
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Compares what stands in a page with what should, or writes it where `ECGFLOW_UPDATE_DOCS` is set.
fn agrees(page: &Path, found: &str, expected: &str) {
    if found == expected {
        return;
    }
    if std::env::var_os("ECGFLOW_UPDATE_DOCS").is_some() {
        std::fs::write(page, read(page).replacen(found, expected, 1)).unwrap();
        return;
    }
    let differs = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
    panic!("{}: {differs:?}; to write it afresh: ECGFLOW_UPDATE_DOCS=1 cargo test --test main docs", page.display());
}

#[test]
fn usage_blocks_are_what_help_prints() {
    let mut seen = BTreeSet::new();
    for page in pages() {
        let text = read(&page);
        for part in text.split("<!-- help: ").skip(1) {
            let (words, rest) = part.split_once(" -->\n").unwrap();
            let rest = rest.trim_start().strip_prefix("```text\n").unwrap_or_else(|| panic!("{words}: no text block"));
            let (block, _) = rest.split_once("```").unwrap();
            let with = |usage: &str| format!("<!-- help: {words} -->\n\n```text\n{usage}```");
            agrees(&page, &with(block), &with(&help(words)));
            assert_eq!(page, root().join(format!("docs/{}.md", words.split(' ').next().unwrap())));
            seen.insert(words.to_owned());
        }
    }
    let tools = TOOLS.iter().map(|(tool, _)| (*tool).to_owned());
    assert_eq!(seen, tools.chain(TASKS.map(str::to_owned)).collect());
}

#[test]
fn help_answers_at_once() {
    for (tool, path) in TOOLS {
        let once = || {
            let start = Instant::now();
            let output = Command::new(path).arg("--help").stdin(Stdio::null()).output().unwrap();
            assert!(output.status.success());
            start.elapsed()
        };
        let best = (0..5).map(|_| once()).min().unwrap();
        eprintln!("{tool} --help: {best:?}");
        assert!(best < HELP_TIME, "{tool} --help took {best:?}, expected less than {HELP_TIME:?}");
    }
}

/// Lines outside fenced blocks; those inside, with the language of the block.
fn split(text: &str) -> (Vec<&str>, Vec<(&str, &str)>) {
    let (mut prose, mut fenced, mut language) = (Vec::new(), Vec::new(), None);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), language) {
            (Some(_), Some(_)) => language = None,
            (Some(name), None) => language = Some(name),
            (None, Some(name)) => fenced.push((name, line)),
            (None, None) => prose.push(line),
        }
    }
    (prose, fenced)
}

/// Targets of links and pictures.
fn links(text: &str) -> Vec<String> {
    let prose = split(text).0.join("\n");
    let markdown =
        prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned());
    let pictures = prose.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(t, _)| t.to_owned());
    markdown.chain(pictures).collect()
}

/// The name that a heading gets in links: lower case, hyphens for spaces, punctuation dropped.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = split(text).0.into_iter().filter(|line| line.starts_with('#'));
    let plain = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let name =
        |line: &str| line.trim_start_matches('#').trim().to_lowercase().chars().filter(plain).collect::<String>();
    headings.map(|line| name(line).replace(' ', "-")).collect()
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = read(&page);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            let known = || anchors(&read(&target)).contains(anchor);
            assert!(anchor.is_empty() || known(), "{}: {link}: no such heading", page.display());
        }
    }
}

#[test]
fn readme_links_to_every_page() {
    let known: BTreeSet<String> = links(&read(&root().join("README.md"))).into_iter().collect();
    for page in pages().iter().filter(|page| !page.ends_with("README.md")) {
        let name = format!("docs/{}", page.file_name().unwrap().to_string_lossy());
        assert!(known.contains(&name), "README.md has no link to {name}");
    }
}

#[test]
fn phenotype_table_is_the_one_in_the_code() {
    let page = root().join("docs/models.md");
    let text = read(&page);
    let mark = "<!-- phenotypes -->\n\n";
    let table = text.split_once(mark).expect("docs/models.md has no phenotypes").1.split("\n\n").next().unwrap();
    let row = |p: &ecgflow::data::phenotype::Phenotype| {
        format!("| {} | `{}` | {} | {} |\n", p.field, p.name, p.label, p.unit)
    };
    let rows: String = PHENOTYPES.iter().map(row).collect();
    let expected = format!("| field | column | what | unit |\n|---|---|---|---|\n{rows}");
    agrees(&page, &format!("{mark}{}\n", table.trim_end()), &format!("{mark}{expected}"));
}

/// The commands of shell text that call our programs: the program with its subcommand, and the options given to it.
fn calls(shell: &str) -> Vec<(String, Vec<String>)> {
    let shell = shell.replace("\\\n", " ").replace("$(", "\n");
    let mut found = Vec::new();
    for command in shell.split(['\n', '|', ';', '&', '(', ')']) {
        let words = command.split_whitespace().map(|word| word.trim_matches(['\'', '"', '`']));
        let mut words = words.skip_while(|word| !TOOLS.iter().any(|(tool, _)| tool == word)).peekable();
        let Some(tool) = words.next() else { continue };
        let is_task = |word: &str| TASKS.iter().any(|task| *task == format!("{tool} {word}"));
        let task = words.next_if(|word| is_task(word)).map(|task| format!(" {task}"));
        let options = words.filter(|word| word.starts_with('-') && word.len() > 1 && !word.starts_with("-{"));
        let name = |word: &str| word.split('=').next().unwrap_or(word).to_owned();
        found.push((format!("{tool}{}", task.unwrap_or_default()), options.map(name).collect()));
    }
    found
}

#[test]
fn options_in_examples_exist() {
    let mut shell = read(&root().join("docs/workflow/Snakefile"));
    for page in pages() {
        let text = read(&page);
        let lines = split(&text).1.into_iter().filter(|(language, _)| *language == "sh").map(|(_, line)| line);
        shell.push('\n');
        shell.push_str(&lines.collect::<Vec<_>>().join("\n"));
    }
    let calls = calls(&shell);
    assert!(calls.len() > 20, "found only {} calls in the documentation", calls.len());
    for (words, options) in calls {
        let help = help(&words);
        let known: BTreeSet<&str> = help
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with('-'))
            .flat_map(|line| line.split("  ").next().unwrap_or(line).split([',', ' ', '=']))
            .map(|word| word.trim_end_matches('.'))
            .filter(|word| word.starts_with('-'))
            .collect();
        for option in options {
            assert!(known.contains(option.as_str()), "{words} has no option {option}: {known:?}");
        }
    }
}

#[test]
fn pages_hold_no_paths_of_one_machine() {
    for page in pages().into_iter().chain(["Snakefile", "config.yaml"].map(|f| root().join("docs/workflow").join(f))) {
        let text = read(&page);
        for (number, line) in text.lines().enumerate() {
            let found = MACHINE.iter().find(|start| line.contains(*start));
            assert!(found.is_none(), "{}, line {}: {}", page.display(), number + 1, found.unwrap());
        }
    }
}

#[test]
fn calls_are_found_in_pipes_and_quotes() {
    let text = "a=1 ecgflow init tiny -o w.h5\nx | pamae-encode --weights=w \\\n  --keep-going > f; ls --all\n";
    let expected = [("ecgflow init", vec!["-o"]), ("pamae-encode", vec!["--weights", "--keep-going"])];
    let found = calls(text);
    let found: Vec<(&str, Vec<&str>)> =
        found.iter().map(|(w, o)| (w.as_str(), o.iter().map(String::as_str).collect())).collect();
    assert_eq!(found, expected);
}
