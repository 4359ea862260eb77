//! The seven floors, the sizes, the names and the dependencies of docs/design.md, enforced on the source text.
//!
//! The text is read as tokens, not parsed: comments, literals and items under `#[cfg(test)]` are dropped, then every
//! path from the crate root (`crate::x`, `crate::{x, y}`, `super::super::x`) is compared with the table below.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, iter};

/// What the modules under `src/` may use, apart from themselves. A module that is not listed here has no floor.
#[rustfmt::skip] // one module a line
const FLOORS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("random", &[]),
    ("data", &["error"]),
    ("io", &["error", "data", "kernel"]),
    ("signal", &["error", "data", "kernel"]),
    ("simulate", &["error", "random", "data", "signal"]),
    ("metric", &["error", "random"]),
    ("kernel", &["error"]),
    ("model", &["error", "random", "data", "signal", "simulate", "metric", "kernel"]),
    ("tensor", &["error", "random", "data", "signal", "simulate", "metric", "kernel"]),
    ("checkpoint", &["error", "random", "data", "io", "signal", "simulate", "metric", "kernel", "model", "tensor"]),
    ("bundled", &["error", "random", "data", "signal", "simulate", "metric", "kernel", "model", "tensor", "checkpoint"]),
    ("train", &["error", "random", "data", "signal", "simulate", "metric", "kernel", "model", "tensor", "checkpoint", "bundled"]),
    ("infer", &["error", "random", "data", "signal", "metric", "kernel", "model", "tensor", "checkpoint", "bundled"]),
    ("inspect", &["error", "data", "io", "checkpoint"]),
    ("cli", &["error", "random", "data", "io", "signal", "simulate", "metric", "kernel", "tensor", "checkpoint", "bundled", "infer", "train"]),
];

/// Names that say nothing about what is inside.
const BANNED: &[&str] = &["util", "utils", "misc", "common", "helpers", "types", "manager", "handler"];

const FILE_LINES: usize = 500;
const PROGRAM_LINES: usize = 150;

#[test]
fn modules_use_only_floors_below_their_own() {
    let exports = exports(&code(&read(&root().join("src/lib.rs"))));
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let path = module_path(&file);
        if path.is_empty() {
            continue; // lib.rs stands on no floor
        }
        for offence in offences(&path, &code(&read(&root().join(&file))), &exports) {
            wrong.push(format!("{}:{offence}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "against the floors of docs/design.md:\n{}", wrong.join("\n"));
}

#[test]
fn programs_do_not_reach_into_each_other() {
    let mut wrong = Vec::new();
    for file in rust_files("bin") {
        for offence in program_offences(&code(&read(&root().join(&file)))) {
            wrong.push(format!("{}:{offence}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "programs share code through the library only:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    let mut wrong = Vec::new();
    for (folder, limit) in [("src", FILE_LINES), ("tests", FILE_LINES), ("bin", PROGRAM_LINES)] {
        for file in rust_files(folder) {
            let lines = read(&root().join(&file)).lines().count();
            if lines > limit {
                wrong.push(format!("{}: {lines} lines, limit {limit}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "too long:\n{}", wrong.join("\n"));
}

#[test]
fn modules_are_named_after_what_they_hold() {
    let files: Vec<PathBuf> = ["src", "bin", "tests"].into_iter().flat_map(rust_files).collect();
    let wrong: Vec<String> = files.iter().filter(|f| has_banned_name(f)).map(|f| f.display().to_string()).collect();
    assert!(wrong.is_empty(), "a name that says nothing:\n{}", wrong.join("\n"));
}

#[test]
fn every_dependency_is_used() {
    let uses = |folders: &[&str]| -> BTreeSet<String> {
        let files = folders.iter().flat_map(|f| rust_files(f));
        files.flat_map(|f| crates_named(&tokens(&read(&root().join(f))))).collect()
    };
    let (shipped, tested) = (uses(&["src", "bin"]), uses(&["src", "bin", "tests", "benches"]));
    let unused: Vec<String> = dependencies(&read(&root().join("Cargo.toml")))
        .into_iter()
        .filter(|(section, name)| match section.as_str() {
            "dependencies" => !shipped.contains(name),
            "dev-dependencies" => !tested.contains(name),
            _ => false,
        })
        .map(|(section, name)| format!("{name} in [{section}]"))
        .collect();
    assert!(unused.is_empty(), "in Cargo.toml but named nowhere in the code:\n{}", unused.join("\n"));
}

// ---- Rules ----------------------------------------------------------------------------------------------------------

/// Uses in a module of `src/` that its floor does not allow, each as `line: what`.
fn offences(path: &[String], code: &[Token], exports: &BTreeMap<String, String>) -> Vec<String> {
    let own = path[0].as_str();
    let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == own) else {
        return vec![format!("1: `{own}` has no floor; give it one in tests/floors.rs")];
    };
    let mut wrong = Vec::new();
    for (line, name) in root_paths(path.len(), code) {
        let used = exports.get(&name).unwrap_or(&name).as_str();
        if used == own || allowed.contains(&used) {
            continue;
        }
        wrong.push(if FLOORS.iter().any(|(known, _)| *known == used) {
            format!("{line}: `{own}` may not use `{used}`")
        } else {
            format!("{line}: `crate::{name}` is on no floor")
        });
    }
    wrong
}

/// Modules of a program's own: every other file of `bin/` would be reached through one of these words.
fn program_offences(code: &[Token]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (i, token) in code.iter().enumerate() {
        let next = |n: usize| code.get(i + n).map_or("", |t| t.text.as_str());
        match token.text.as_str() {
            "mod" if next(2) == ";" => wrong.push(format!("{}: module `{}` in a file of its own", token.line, next(1))),
            "path" if next(1) == "=" => wrong.push(format!("{}: #[path]", token.line)),
            "include" if next(1) == "!" => wrong.push(format!("{}: include!", token.line)),
            _ => {}
        }
    }
    wrong
}

fn has_banned_name(file: &Path) -> bool {
    file.with_extension("").iter().any(|part| BANNED.iter().any(|banned| part == *banned))
}

// ---- Reading paths --------------------------------------------------------------------------------------------------

/// The names that follow the crate root in paths, with their lines. `depth` is the module's distance from the root.
fn root_paths(depth: usize, code: &[Token]) -> Vec<(usize, String)> {
    let text = |i: usize| code.get(i).map_or("", |t: &Token| t.text.as_str());
    let mut found = Vec::new();
    let mut i = 0;
    while i < code.len() {
        let mut after = i;
        if text(i) == "crate" && text(i + 1) == "::" {
            after = i + 2;
        } else if text(i) == "super" {
            let mut ups = 0;
            while text(after) == "super" && text(after + 1) == "::" {
                ups += 1;
                after += 2;
            }
            if ups < depth {
                i = after.max(i + 1);
                continue; // stays inside the module
            }
        }
        if after > i {
            for (line, name) in leaves(code, after) {
                found.push((line, name));
            }
            i = after;
        } else {
            i += 1;
        }
    }
    found
}

/// First names of the use-tree that starts at `start`: one, or those of a group.
fn leaves(code: &[Token], start: usize) -> Vec<(usize, String)> {
    let Some(first) = code.get(start) else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.line, first.text.clone())];
    }
    let (mut names, mut nesting, mut fresh) = (Vec::new(), 0, true);
    for token in &code[start..] {
        match token.text.as_str() {
            "{" => nesting += 1,
            "}" => {
                nesting -= 1;
                if nesting == 0 {
                    break;
                }
            }
            "," if nesting == 1 => fresh = true,
            name if nesting == 1 && fresh => {
                names.push((token.line, name.to_string()));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// Names that lib.rs re-exports at the root, with the module each comes from.
fn exports(code: &[Token]) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    let mut i = 0;
    while i + 2 < code.len() {
        if code[i].text == "pub" && code[i + 1].text == "use" {
            let module = code[i + 2].text.clone();
            i += 3;
            while i < code.len() && code[i].text != ";" {
                if code[i].text.starts_with(char::is_uppercase) {
                    map.insert(code[i].text.clone(), module.clone());
                }
                i += 1;
            }
        }
        i += 1;
    }
    map
}

/// `src/io/hdf5.rs` is `["io", "hdf5"]`, `src/io/mod.rs` is `["io"]`, `src/lib.rs` is empty.
fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let parts = inside.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// Crates named in the code: `name::`, `use name;`, `extern crate name`.
fn crates_named(tokens: &[Token]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (i, token) in tokens.iter().enumerate() {
        let before = i.checked_sub(1).map_or("", |b| tokens[b].text.as_str());
        let after = tokens.get(i + 1).map_or("", |t| t.text.as_str());
        if after == "::" || matches!(before, "use" | "crate") {
            names.insert(token.text.clone());
        }
    }
    names
}

/// The dependencies of a manifest as (section, crate name in code).
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let in_code = |name: &str| name.trim_matches(|c| c == '"' || c == ' ').replace('-', "_");
    let mut found = Vec::new();
    let mut section = String::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default();
            // [target.'cfg(unix)'.dependencies] and [dependencies.name] count as dependencies.
            section = header.rsplit("'.").next().unwrap_or_default().to_string();
            if let Some((outer, name)) = section.clone().split_once('.') {
                if outer.ends_with("dependencies") {
                    found.push((outer.to_string(), in_code(name)));
                }
            }
        } else if section.ends_with("dependencies") && !section.contains('.') && !line.starts_with('#') {
            if let Some((name, _)) = line.split_once('=') {
                found.push((section.clone(), in_code(name.split('.').next().unwrap_or_default())));
            }
        }
    }
    found
}

// ---- Tokens ---------------------------------------------------------------------------------------------------------

struct Token {
    line: usize,
    text: String,
}

/// Identifiers, `::` and single signs; comments and literals are dropped.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut line, mut i) = (Vec::new(), 1, 0);
    while i < chars.len() {
        let start = i;
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            i = end_of(&chars, i, |i| at(i) == '\n');
        } else if c == '/' && at(i + 1) == '*' {
            let mut nesting = 0;
            loop {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (nesting, i) = (nesting + 1, i + 2),
                    ('*', '/') => (nesting, i) = (nesting - 1, i + 2),
                    _ => i += 1,
                }
                if nesting == 0 || i >= chars.len() {
                    break;
                }
            }
        } else if c == 'r' && (at(i + 1) == '"' || at(i + 1) == '#' && matches!(at(i + 2), '"' | '#')) {
            let hashes = (i + 1..).take_while(|&j| at(j) == '#').count();
            let closes = |j: usize| at(j) == '"' && (1..=hashes).all(|h| at(j + h) == '#');
            i = end_of(&chars, i + hashes + 2, closes) + hashes + 1;
        } else if c == '"' {
            i += 1;
            while i < chars.len() && at(i) != '"' {
                i += if at(i) == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c == '\'' && at(i + 1) == '\\' {
            i = end_of(&chars, i + 3, |i| at(i) == '\'') + 1;
        } else if c == '\'' && at(i + 2) == '\'' {
            i += 3;
        } else if is_word(c) {
            i = end_of(&chars, i, |i| !is_word(at(i)));
            // The letter before a string or byte literal belongs to the literal.
            if !(matches!(at(i), '"' | '\'') && i - start == 1 && matches!(c, 'b' | 'c')) {
                found.push(Token { line, text: chars[start..i].iter().collect() });
            }
        } else {
            i += if c == ':' && at(i + 1) == ':' { 2 } else { 1 };
            if !c.is_whitespace() {
                found.push(Token { line, text: chars[start..i].iter().collect() });
            }
        }
        line += chars[start..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

/// The first place from `start` where `stop` holds, or the end.
fn end_of(chars: &[char], start: usize, stop: impl Fn(usize) -> bool) -> usize {
    (start..chars.len()).find(|&i| stop(i)).unwrap_or(chars.len())
}

/// The tokens of a file less the items under `#[cfg(test)]`.
fn code(source: &str) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut rest = tokens(source).into_iter().peekable();
    while let Some(token) = rest.next() {
        kept.push(token);
        let tail: Vec<&str> = kept.iter().rev().take(7).map(|t: &Token| t.text.as_str()).collect();
        if tail == ["]", ")", "test", "(", "cfg", "[", "#"] {
            kept.truncate(kept.len() - 7);
            let mut nesting = 0;
            // The item ends with its closing brace, or with a semicolon outside of any bracket.
            for token in iter::from_fn(|| rest.next()) {
                match token.text.as_str() {
                    "{" | "(" | "[" => nesting += 1,
                    "}" | ")" | "]" => nesting -= 1,
                    _ => {}
                }
                if nesting == 0 && matches!(token.text.as_str(), "}" | ";") {
                    break;
                }
            }
        }
    }
    kept
}

// ---- Files ----------------------------------------------------------------------------------------------------------

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The Rust files below a folder of the package, relative to the package, sorted. None where there is no such folder.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![root().join(folder)]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.extend(path.strip_prefix(root()).map(Path::to_path_buf));
            }
        }
    }
    found.sort();
    found
}

// ---- The rules can fail ---------------------------------------------------------------------------------------------

fn offences_in(file: &str, source: &str) -> Vec<String> {
    let lib = exports(&code("pub use data::{cine::Cine, ecg::Ecg};\npub use error::{Error, Result};\npub mod io;"));
    offences(&module_path(Path::new(file)), &code(source), &lib)
}

#[test]
fn finds_a_use_of_the_same_or_a_higher_floor() {
    assert_eq!(offences_in("src/signal/phase.rs", "use crate::io::hdf5;"), ["1: `signal` may not use `io`"]);
    assert_eq!(offences_in("src/error.rs", "\nfn f(x: crate::data::Id) {}"), ["2: `error` may not use `data`"]);
    assert_eq!(offences_in("src/cli/mod.rs", "use crate::{data, model::vae};"), ["1: `cli` may not use `model`"]);
    assert_eq!(offences_in("src/data/ecg.rs", "use super::super::io;"), ["1: `data` may not use `io`"]);
    assert_eq!(offences_in("src/error.rs", "use crate::{Cine, Result};"), ["1: `error` may not use `data`"]);
    assert_eq!(offences_in("src/odd.rs", ""), ["1: `odd` has no floor; give it one in tests/floors.rs"]);
    assert_eq!(offences_in("src/io/csv.rs", "use crate::*;"), ["1: `crate::*` is on no floor"]);
}

#[test]
fn allows_lower_floors_and_the_module_itself() {
    let source =
        "use crate::{data::{self, ecg::Ecg}, error::Error};\nuse super::csv; use crate::io::Format;\nuse crate::Cine;";
    assert_eq!(offences_in("src/io/wfdb.rs", source), Vec::<String>::new());
    assert_eq!(offences_in("src/checkpoint/mod.rs", "use crate::model::pamae;"), Vec::<String>::new());
}

#[test]
fn ignores_comments_literals_and_tests() {
    let source = r###"
        //! [`crate::io`]
        /* use crate::io; /* nested */ use crate::io; */
        const A: &str = "crate::io \" crate::io";
        const B: &str = r#"crate::io " crate::io"#;
        const C: [char; 3] = ['"', '\'', '\u{22}'];
        fn f<'a>(x: &'a str) -> my_crate::io { x }
        #[cfg(test)]
        mod tests { use crate::io; fn g() { { } } }
        #[cfg(test)]
        use crate::io;
        use crate::model;
    "###;
    assert_eq!(offences_in("src/signal/mod.rs", source), ["12: `signal` may not use `model`"]);
}

#[test]
fn finds_a_program_that_shares_files() {
    let source = "mod other;\n#[path = \"x.rs\"]\nmod x { }\ninclude!(\"y.rs\");";
    let found = program_offences(&code(source));
    assert_eq!(found, ["1: module `other` in a file of its own", "2: #[path]", "4: include!"]);
}

#[test]
fn finds_a_banned_name() {
    assert!(has_banned_name(Path::new("src/io/utils.rs")) && has_banned_name(Path::new("src/common/ecg.rs")));
    assert!(!has_banned_name(Path::new("src/io/utilisation.rs")));
}

#[test]
fn finds_a_dependency_that_no_code_names() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nserde_json = \"1\" # why\nsignal-hook = { version = \"0.3\" }\n\
                    gif.workspace = true\n[dev-dependencies.proptest]\nversion = \"1\"\n[target.'cfg(unix)'.dependencies]\nlibc = \"1\"";
    let names: Vec<String> = dependencies(manifest).into_iter().map(|(s, n)| format!("{s} {n}")).collect();
    let (normal, dev) = (["serde_json", "signal_hook", "gif"], "dev-dependencies proptest");
    let mut expected: Vec<String> = normal.iter().map(|n| format!("dependencies {n}")).collect();
    expected.extend([dev.to_string(), "dependencies libc".to_string()]);
    assert_eq!(names, expected);
    let used = crates_named(&tokens("use gif; // serde_json::x\nfn f() { signal_hook::low_level::exit() }"));
    assert!(used.contains("gif") && used.contains("signal_hook") && !used.contains("serde_json"));
}
