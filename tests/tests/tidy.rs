//! What can be checked about the code's form: here belongs every rule that would otherwise be a reviewer's memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use tests::imports;
use tests::process::run;
use tests::program::repository;

/// In `engine/core` a module uses only what stands before it.
const CORE_ORDER: [&str; 13] = [
    "limits", "time", "ledger", "reader", "wire", "decap", "flow", "http", "rules", "ndjson",
    "message", "bundle", "pipeline",
];

/// Lines of a file before its tests, at most.
const LINES_MAX: usize = 1100;

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = ["engine", "store", "bench", "tests"]
        .iter()
        .map(|name| repository().join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(
        found.len() > 20,
        "the sources are not where they are looked for"
    );
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(repository())
        .unwrap()
        .display()
        .to_string()
}

/// Collects what is wrong, so that one run shows all of it.
#[track_caller]
fn check(rule: &str, wrong: impl Fn(&Path, &str) -> Option<String>) {
    let found: Vec<_> = sources()
        .iter()
        .filter_map(|path| {
            Some(format!(
                "{}: {}",
                name(path),
                wrong(path, &fs::read_to_string(path).unwrap())?
            ))
        })
        .collect();
    assert!(found.is_empty(), "{rule}\n{}", found.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    check("a file starts with `//!`", |_, text| {
        (!text.starts_with("//!")).then(|| "does not".into())
    });
}

#[test]
fn names_are_nouns_of_the_field() {
    check("no mod.rs, utils, helpers, common", |path, _| {
        let stem = path.file_stem()?.to_str()?;
        [
            "mod", "utils", "util", "helpers", "helper", "common", "misc",
        ]
        .contains(&stem)
        .then(|| "such a name".into())
    });
}

#[test]
fn files_stay_readable() {
    check("a file has few lines before its tests", |path, text| {
        let lines = text
            .lines()
            .take_while(|line| line.trim() != "#[cfg(test)]")
            .count();
        (lines > LINES_MAX && !is_test(path)).then(|| format!("{lines} lines, {LINES_MAX} at most"))
    });
}

/// Whether the file is a module that only tests are built with.
fn is_test(path: &Path) -> bool {
    let module = format!("mod {};", path.file_stem().unwrap().display());
    let parent = path.parent().unwrap();
    [parent.with_extension("rs"), parent.join("lib.rs")]
        .iter()
        .any(|parent| {
            let text = fs::read_to_string(parent).unwrap_or_default();
            text.lines()
                .zip(text.lines().skip(1))
                .any(|(above, line)| above == "#[cfg(test)]" && line.trim() == module)
        })
}

#[test]
fn nothing_is_left_to_do() {
    // Spelt apart, since this file is read as well.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    check("no notes to ourselves", |_, text| {
        marks
            .iter()
            .find(|mark| text.contains(**mark))
            .map(|mark| format!("has {mark}"))
    });
}

#[test]
fn core_modules_use_only_what_stands_to_their_left() {
    check(
        &format!("order in engine/core: {}", CORE_ORDER.join(" → ")),
        |path, text| {
            let inside = path
                .strip_prefix(repository().join("engine/core/src"))
                .ok()?;
            let module = inside
                .components()
                .next()?
                .as_os_str()
                .to_str()?
                .trim_end_matches(".rs")
                .to_owned();
            if module == "lib" {
                return None;
            }
            let Some(own) = CORE_ORDER.iter().position(|known| **known == module) else {
                return Some(format!("module {module} has no place in the order"));
            };
            let code = text.split("#[cfg(test)]").next()?;
            let lines = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let used = lines.flat_map(|line| line.split("crate::").skip(1));
            let mut used = used.map(|rest| {
                rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or("")
            });
            used.find(|name| {
                CORE_ORDER
                    .iter()
                    .position(|known| known == name)
                    .is_some_and(|place| place > own)
            })
            .map(|name| format!("uses crate::{name}"))
        },
    );
}

#[test]
fn unsafe_code_lives_where_it_must() {
    let block = concat!("unsafe", " {");
    // The bench's sender and the tries of what is forbidden are no part of the program.
    let places = [
        "engine/sys",
        "engine/escape/src/free.rs",
        "engine/escape/src/lib.rs",
        "engine/escape/src/marks.rs",
        "engine/escape/src/steps.rs",
        "bench/src/tx.rs",
        "bench/src/tx",
        "tests/tests/sandbox.rs",
    ]
    .map(|place| repository().join(place));
    check("no unsafe outside engine/sys and escaping", |path, text| {
        let is_allowed = places.iter().any(|place| path.starts_with(place));
        (text.contains(block) && !is_allowed).then(|| "has a block".into())
    });
}

#[test]
fn dependencies_come_from_one_registry() {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let sources = lock
        .lines()
        .filter_map(|line| line.strip_prefix("source = "));
    let others: Vec<_> = sources
        .filter(|source| *source != "\"registry+https://github.com/rust-lang/crates.io-index\"")
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

/// What cargo-deny checks by deny.toml, without cargo-deny: every package has a licence of that list.
#[test]
fn licences_are_permissive() {
    let deny = fs::read_to_string(repository().join("deny.toml")).unwrap();
    let list = deny
        .split_once("allow = [")
        .unwrap()
        .1
        .split_once(']')
        .unwrap()
        .0;
    let allowed: Vec<_> = list.split('"').skip(1).step_by(2).collect();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let metadata = run(cargo
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(repository()))
    .unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"]
            .as_str()
            .unwrap_or("none")
            .replace('/', " OR ")
            .replace(['(', ')'], "");
        let mut known = licence
            .split(" OR ")
            .flat_map(|part| part.split(" AND "))
            .map(|id| allowed.contains(&id.trim()));
        let enough = if licence.contains(" AND ") {
            known.all(|is| is)
        } else {
            known.any(|is| is)
        };
        assert!(enough, "{}: {licence}", package["name"]);
    }
}

#[test]
fn scripts_are_executable_and_stop_at_errors() {
    use std::os::unix::fs::PermissionsExt as _;
    for script in [
        ".ci/run",
        "bench/instructions",
        "tests/run",
        "tests/docker",
        "tuning/apply",
        "tuning/check",
        "tuning/undo",
    ] {
        let path = repository().join(script);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{script}: {error}"));
        assert!(text.starts_with("#!/bin/"), "{script}: which shell?");
        assert!(
            text.contains("\nset -eu"),
            "{script}: goes on after an error"
        );
        assert!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o111 != 0,
            "{script}: not executable"
        );
    }
}

/// Roots of all crates: libraries, programs, and tests of more than one file.
fn roots() -> Vec<PathBuf> {
    let is_root = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        ["lib.rs", "main.rs", "integration.rs"].contains(&&*name)
    };
    sources().into_iter().filter(is_root).collect()
}

/// Circles whose files all lie beneath one of these are known and not mended yet.
const CIRCLES_KNOWN: [&str; 5] = [
    "bench",
    "engine/core",
    "engine/daemon",
    "engine/sys",
    "store",
];

#[test]
fn no_two_files_use_each_other() {
    let mut found = Vec::new();
    for root in roots() {
        let uses = imports::of_crate(&root);
        for circle in imports::circles(&uses) {
            let is_known = CIRCLES_KNOWN.iter().any(|known| {
                circle
                    .iter()
                    .all(|file| file.starts_with(repository().join(known)))
            });
            let text = imports::describe(&uses, &circle, repository());
            if is_known && env::var_os("TIDY_ALL").is_none() {
                continue;
            }
            found.push(format!("{} files:\n{text}", circle.len()));
        }
    }
    assert!(
        found.is_empty(),
        "files that use each other\n{}",
        found.join("\n")
    );
}
