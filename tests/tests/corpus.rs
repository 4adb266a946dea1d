//! Foreign captures with known calls, graded by the corpus' own grader. Here belongs nothing else: what is ours is made
//! by the traffic maker.

use std::io::{Write as _, stderr};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
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
