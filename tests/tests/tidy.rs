//! The form of the code and the documents. Here belongs every rule of CONTRIBUTING.md that can be checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use tests::imports;
use tests::process::run;
use tests::program::repository;

/// In `engine/core` a module uses only what stands before it.
const CORE_ORDER: [&str; 15] = [
    "limits", "time", "ledger", "mix", "reader", "wire", "decap", "flow", "http", "uploads",
    "rules", "ndjson", "message", "bundle", "pipeline",
];

/// In `engine/base` as well; `ARCHITECTURE.md` describes them.
const BASE_ORDER: [&str; 19] = [
    "limits",
    "quantity",
    "diagnostic",
    "clock",
    "random",
    "process",
    "signals",
    "descriptors",
    "supervised",
    "stdout",
    "counters",
    "capture_url",
    "config",
    "invocation",
    "pipeline",
    "sandbox",
    "delegate",
    "status",
    "control",
];

/// In `engine/io`.
const IO_ORDER: [&str; 6] = [
    "capture_file",
    "timeline",
    "printer",
    "reader",
    "sink",
    "capture",
];

/// In `engine/daemon`.
const DAEMON_ORDER: [&str; 19] = [
    "rule_trial",
    "metrics",
    "report",
    "run",
    "read",
    "spool_command",
    "settings_command",
    "support",
    "canary",
    "check",
    "store_process",
    "store_transfer",
    "supervisor",
    "demo",
    "store_client",
    "rules_command",
    "client",
    "top",
    "usage",
];

/// Lines of a file before its tests, at most.
const LINES_MAX: usize = 900;

/// Lines of a file that only tests are built with, at most.
const TEST_LINES_MAX: usize = 1000;

/// Words that no code, comment, message or document has: programs do not speak, and the glossary has another word. An
/// underscore separates words as a blank does.
const WORDS_BANNED: [&str; 29] = [
    "told",
    "tell",
    "tells",
    "lent",
    "thrift",
    "thinned",
    "farewell",
    "for want of",
    "at the begin",
    "the begin",
    "goes without",
    "go without",
    "made room",
    "makes room",
    "make room",
    "so manieth",
    "hunt",
    "hunted",
    "hunting",
    "taking turns",
    "takes turns",
    "strays",
    "dearest",
    "dearer",
    "muted",
    "drawn out",
    "crossings",
    "own upload",
    "wire word",
];

/// Files that may have a banned word, and why.
const WORDS_EXCEPTED: [(&str, &str); 3] = [
    ("tests/tests/tidy.rs", "it lists them"),
    ("CONTRIBUTING.md", "its glossary lists what they replace"),
    ("CHANGELOG.md", "it lists names that changed"),
];

/// All files of the repository but those that are built or made.
fn files() -> Vec<PathBuf> {
    let made = [
        "bench/results",
        "tests/corpus",
        "tests/golden",
        "tests/vectors",
        "data",
    ];
    let made = made.map(|folder| repository().join(folder));
    let mut found = Vec::new();
    let mut folders = vec![repository().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("target") || path.ends_with(".git") || made.contains(&path) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

fn sources() -> Vec<PathBuf> {
    let mut found = files();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(found.len() > 20, "there are sources");
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
        let (lines, most) = if is_test(path) {
            (text.lines().count(), TEST_LINES_MAX)
        } else {
            (lines, LINES_MAX)
        };
        (lines > most).then(|| format!("{lines} lines, {most} at most"))
    });
}

/// Whether only tests are built with the file.
fn is_test(path: &Path) -> bool {
    let inside = path.strip_prefix(repository()).unwrap();
    if inside.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs") {
        return true;
    }
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
    check_order("engine/core/src", &CORE_ORDER);
}

#[test]
fn modules_of_the_program_use_only_what_stands_to_their_left() {
    check_order("engine/base/src", &BASE_ORDER);
    check_order("engine/io/src", &IO_ORDER);
    check_order("engine/daemon/src", &DAEMON_ORDER);
}

/// Checks that the modules of a crate use only modules that stand before them in `order`.
fn check_order(folder: &str, order: &[&str]) {
    let folder = repository().join(folder);
    let place = |path: &Path| {
        let inside = path.strip_prefix(&folder).unwrap();
        let module = inside.components().next().unwrap().as_os_str();
        let module = module.to_str().unwrap().trim_end_matches(".rs");
        let place = order.iter().position(|known| *known == module);
        place.unwrap_or_else(|| panic!("{module} has no place in the order"))
    };
    let mut wrong = Vec::new();
    for (file, used) in imports::of_crate(&folder.join("lib.rs")) {
        if file.ends_with("lib.rs") {
            continue;
        }
        for (other, items) in used {
            if !other.ends_with("lib.rs") && place(&other) > place(&file) {
                wrong.push(format!("{} uses {}: {items:?}", name(&file), name(&other)));
            }
        }
    }
    let order = order.join(" → ");
    assert!(
        wrong.is_empty(),
        "the order is {order}\n{}",
        wrong.join("\n")
    );
}

#[test]
fn words_are_those_of_the_field() {
    let mut wrong = Vec::new();
    for path in files() {
        let file = name(&path);
        let is_excepted = WORDS_EXCEPTED.iter().any(|(excepted, _)| *excepted == file);
        let Some(text) = fs::read_to_string(&path).ok().filter(|_| !is_excepted) else {
            continue;
        };
        let words = words(&text);
        let found: Vec<_> = WORDS_BANNED
            .iter()
            .filter(|banned| words.contains(&format!(" {banned} ")))
            .collect();
        if !found.is_empty() {
            wrong.push(format!("{file}: {found:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "words with a better one in CONTRIBUTING.md\n{}",
        wrong.join("\n")
    );
}

/// The words of a text in lower case, one blank between them; comment signs and line ends are no words.
fn words(text: &str) -> String {
    let mut words = String::from(" ");
    let mut last = ' ';
    for character in text.chars() {
        if character.is_uppercase() && last.is_lowercase() {
            words.push(' ');
        }
        if character.is_alphanumeric() {
            words.extend(character.to_lowercase());
        } else if !words.ends_with(' ') {
            words.push(' ');
        }
        last = character;
    }
    words.push(' ');
    words
}

#[test]
fn words_are_found_in_names_and_across_lines() {
    assert_eq!(
        words("/// made\n/// room, isTold_so"),
        " made room is told so "
    );
}

/// A comment that names a counter names one that exists.
#[test]
fn counters_in_comments_exist() {
    let sources: Vec<_> = sources()
        .into_iter()
        .map(|path| (fs::read_to_string(&path).unwrap(), path))
        .collect();
    let mut names = BTreeSet::new();
    for (text, _) in &sources {
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        names.extend(code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')));
    }
    let mut wrong = Vec::new();
    for (text, path) in &sources {
        let text = text.replace("\n/// ", " ").replace("\n//! ", " ");
        for named in text.split(concat!("counted", " as `")).skip(1) {
            let counter = named.split('`').next().unwrap_or_default();
            if !names.contains(counter) {
                wrong.push(format!("{}: {counter}", name(path)));
            }
        }
    }
    assert!(wrong.is_empty(), "no such counter\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_lives_where_it_must() {
    let block = concat!("unsafe", " {");
    // The bench's sender and the tries of what is forbidden are no part of the program.
    let places = [
        "engine/sys",
        "engine/escape/src/controls.rs",
        "engine/escape/src/free.rs",
        "engine/escape/src/lib.rs",
        "engine/escape/src/marks.rs",
        "engine/escape/src/steps.rs",
        "bench/src/tx.rs",
        "bench/src/tx",
        "tests/tests/sandbox/attempts.rs",
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

/// What cargo-deny checks by deny.toml, without cargo-deny: no forbidden package, and no dependency of any version.
#[test]
fn forbidden_packages_are_absent() {
    let deny = fs::read_to_string(repository().join("deny.toml")).unwrap();
    let list = deny.split_once("\ndeny = [").unwrap().1;
    let list = list.split_once("\n]").unwrap().0;
    let forbidden: Vec<_> = (list.split("crate = \"").skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(forbidden.len() >= 4, "{forbidden:?}");
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = "));
    let found: Vec<_> = names
        .map(|name| name.trim_matches('"'))
        .filter(|name| forbidden.contains(name))
        .collect();
    assert!(found.is_empty(), "{found:?}");
    let manifests = files()
        .into_iter()
        .filter(|path| path.ends_with("Cargo.toml"));
    for manifest in manifests {
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(
            !text.contains("= \"*\""),
            "{}: any version",
            name(&manifest)
        );
    }
}

#[test]
fn scripts_are_executable_and_stop_at_errors() {
    use std::os::unix::fs::PermissionsExt as _;
    for script in [
        ".ci/run",
        "bench/instructions",
        "deploy/debian/postinst",
        "deploy/debian/postrm",
        "deploy/debian/prerm",
        "deploy/package",
        "deploy/release",
        "tests/run",
        "tests/docker",
        "tests/package",
        "tests/soak-image",
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

#[test]
fn no_two_files_use_each_other() {
    let mut found = Vec::new();
    for root in roots() {
        let uses = imports::of_crate(&root);
        for circle in imports::circles(&uses) {
            let text = imports::describe(&uses, &circle, repository());
            found.push(format!("{} files:\n{text}", circle.len()));
        }
    }
    assert!(
        found.is_empty(),
        "files that use each other\n{}",
        found.join("\n")
    );
}
