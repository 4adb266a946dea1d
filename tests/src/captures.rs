//! Captures that are not part of the repository, and a record of each test that found none.
//!
//! They are looked for in the folder that `TEST_CAPTURES` names, or else in `shared/corpus` next to the repository. Cargo
//! does not show what a passing test prints, so a test without captures appends its name to the file that
//! `TESTS_WITHOUT_CAPTURES` names; `tests/run` sets it and counts the names in its summary.

use std::env;
use std::fs::OpenOptions;
use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};
use std::thread;

use crate::program::repository;

/// Names a folder of captures.
const FOLDER: &str = "TEST_CAPTURES";

/// Names the file that collects the tests without captures.
const RECORD: &str = "TESTS_WITHOUT_CAPTURES";

/// The folder of captures. Without one, the running test is recorded and has nothing to check.
///
/// # Panics
///
/// If `TEST_CAPTURES` names no folder, or the record cannot be written.
pub fn folder() -> Option<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) {
        assert!(
            folder.is_dir(),
            "{FOLDER} is no folder: {}",
            folder.display()
        );
        return Some(folder);
    }
    let folder = repository().join("../shared/corpus");
    if folder.is_dir() {
        return Some(folder);
    }
    record();
    None
}

/// All files beneath `folder`.
///
/// # Panics
///
/// If a folder cannot be read.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a folder of captures is readable") {
            let path = entry.expect("a folder of captures is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

fn record() {
    let current = thread::current();
    let test = current.name().unwrap_or("a test");
    // Not `eprintln!`, whose output the test runner keeps.
    writeln!(
        stderr(),
        "NO CAPTURES for {test}; {FOLDER} can name a folder"
    )
    .ok();
    if let Some(path) = env::var_os(RECORD) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.expect("the record can be opened");
        writeln!(file, "{test}").expect("the record can be written");
    }
}
