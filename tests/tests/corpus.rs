//! Foreign captures with known calls, graded by the corpus' own grader. Here belongs nothing else: what is ours is made
//! by the traffic maker.

use std::io::{Write as _, stderr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use engine_core::pipeline::Config;
use sniffer::capture_file::CaptureFile;
use tests::engine::Reader;
use tests::program::{repository, sniffer_path};

#[test]
fn every_case_passes() -> Result<()> {
    let corpus = repository().join("../shared/corpus");
    if !corpus.is_dir() {
        // Past the test runner, which keeps what passing tests print to itself.
        let skipped = "SKIPPED: no conformance corpus at";
        writeln!(
            stderr(),
            "{skipped} {}; nothing was graded",
            corpus.display()
        )?;
        return Ok(());
    }
    let mut grader = Command::new("python3");
    grader
        .arg(corpus.join("grade.py"))
        .arg("--sniffer")
        .arg(sniffer_path());
    grader
        .arg("--expected")
        .arg(corpus.join("expected.json"))
        .arg("--pcaps")
        .arg(&corpus);
    grader.args(["--jobs", "2", "--timeout", "30"]);
    let graded = grader.output().context("apt-get install python3")?;
    let report = String::from_utf8_lossy(&graded.stdout);
    for line in report
        .lines()
        .rev()
        .take(3)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        writeln!(stderr(), "corpus: {}", line.trim())?;
    }
    if !graded.status.success() {
        bail!("{}{report}", String::from_utf8_lossy(&graded.stderr));
    }
    Ok(())
}

/// The ledger balances at every level, at the end of each capture and on the way through it.
#[test]
fn every_ledger_balances() -> Result<()> {
    let corpus = repository().join("../shared/corpus");
    if !corpus.is_dir() {
        eprintln!("SKIPPED: no captures at {}", corpus.display());
        return Ok(());
    }
    let mut folders: Vec<PathBuf> = vec![corpus];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // What is no capture says so at once.
            let Ok(mut file) = CaptureFile::open(&path.to_string_lossy()) else {
                continue;
            };
            let mut reader = Reader::new(&Config::default());
            while let Ok(Some(frame)) = file.next() {
                reader.feed(&frame);
            }
            reader.finish();
            read += 1;
        }
    }
    ensure!(read > 1000, "only {read} captures");
    Ok(())
}
