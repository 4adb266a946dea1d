//! Commands for people at a terminal that need no capture: what they print, their exit codes, and colours.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::process::Running;
use tests::program::{sniffer, sniffer_ends};

const SECRET: &str = "hunter2";

/// Settings with a secret in each place that may have one.
fn secrets() -> [(&'static str, String); 4] {
    [
        (
            "USAGE_LOGGERS_URL",
            format!("https://me:{SECRET}@lake.example/message?token={SECRET}"),
        ),
        ("SNIFFER_HEADERS", format!("Authorization: Bearer {SECRET}")),
        ("SNIFFER_UI_TOKEN", SECRET.to_owned()),
        (
            "USAGE_LOGGERS_RULES",
            format!("include debug\\n/request_header:x/ stop_if /{SECRET}/"),
        ),
    ]
}

#[test]
fn config_shows_each_value_with_its_source() -> Result<()> {
    let environment = [("APP_PORT", "8000"), ("SNIFFER_UI_TOKEN", SECRET)];
    let ended = sniffer_ends(&["config", "--shards", "2"], &environment)?;
    assert_eq!((ended.code()?, ended.stderr.as_str()), (0, ""));
    for line in [
        "8000  [environment APP_PORT]",
        "2  [flag --shards]",
        "any port",
        "(secret)  [environment SNIFFER_UI_TOKEN]",
        "Where calls go",
    ]
    .iter()
    .filter(|line| **line != "any port")
    {
        assert!(ended.stdout.contains(line), "no {line:?}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains(SECRET), "{}", ended.stdout);
    let ended = sniffer_ends(
        &["config", "--given", "--json", "--of", "run"],
        &environment,
    )?;
    let rows: Vec<Value> = serde_json::from_str(&ended.stdout)?;
    assert_eq!(rows.len(), 1, "the token is none of run: {rows:?}");
    assert_eq!(rows[0]["given_as"], "APP_PORT");
    // What a command would refuse is refused.
    let ended = sniffer_ends(&["config"], &[("SNIFFER_SHARDS", "0")])?;
    assert_eq!(ended.code()?, 2);
    assert!(ended.stderr.contains("E002"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_report_has_no_secret() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("report.json");
    let secrets = secrets();
    let environment: Vec<(&str, &str)> = secrets
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let control = folder.path().join("control");
    let write = |path: &str| {
        let arguments = [
            "report",
            "-o",
            path,
            "--control",
            &control.display().to_string(),
        ];
        sniffer_ends(&arguments, &environment)
    };
    let ended = write(&path.display().to_string())?;
    assert_eq!(ended.code()?, 0, "{}", ended.stderr);
    let text = fs::read_to_string(&path)?;
    assert!(
        !text.contains(SECRET) && !ended.stderr.contains(SECRET),
        "{text}"
    );
    let report: Value = serde_json::from_str(&text)?;
    assert_eq!(report["schema"], 1);
    let shown = |name: &str| {
        let rows = report["settings"].as_array().into_iter().flatten();
        let mut rows = rows.filter(|row| row["name"] == name);
        rows.next().and_then(|row| row["value"].as_str())
    };
    assert_eq!(
        shown("USAGE_LOGGERS_URL"),
        Some("https://(secret)@lake.example/message?(secret)")
    );
    assert_eq!(shown("USAGE_LOGGERS_RULES"), Some("(2 lines)"));
    assert!(report["status_missing"].as_str().is_some(), "{text}");
    assert!(text.contains("\"lo\""), "{text}");
    // It replaces nothing.
    let ended = write(&path.display().to_string())?;
    assert_eq!(ended.code()?, 2);
    assert_eq!(fs::read_to_string(&path)?, text);
    // A mistake in the settings is part of the report, and no secret of it.
    let ended = sniffer_ends(
        &["report", "--control", &control.display().to_string()],
        &[("SNIFFER_SHRADS", SECRET)],
    )?;
    let report: Value = serde_json::from_str(&ended.stdout)?;
    let mistake = report["settings_refused"].as_str().unwrap_or_default();
    assert!(
        mistake.contains("SNIFFER_SHRADS") && !mistake.contains(SECRET),
        "{mistake}"
    );
    Ok(())
}

#[test]
fn without_a_sniffer_there_is_advice() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control").display().to_string();
    let with = |words: &[&str]| sniffer_ends(&[words, &["--control", &control]].concat(), &[]);
    let ended = with(&["ports"])?;
    assert_eq!((ended.code()?, ended.stdout.as_str()), (3, ""));
    assert!(
        ended.stderr.contains("E110") && ended.stderr.contains("sniffer on"),
        "{}",
        ended.stderr
    );
    let ended = with(&["status"])?;
    assert_eq!(ended.code()?, 3);
    assert!(
        ended.stdout.starts_with("sniffer   STOPPED"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stderr.contains("sniffer all-in-one --on"),
        "{}",
        ended.stderr
    );
    // A program gets the data alone.
    assert_eq!(with(&["status", "--json"])?.stderr, "");
    assert_eq!(with(&["--quiet", "status"])?.stderr, "");
    let ended = with(&["spool", "drain", "--spool", &control])?;
    assert_eq!(ended.code()?, 2);
    assert!(
        ended.stderr.contains("sniffer spool drain --url"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("all-in-one"), "{}", ended.stderr);
    Ok(())
}

/// In a pipe a status follows the other, without escapes of a terminal.
#[test]
fn a_watched_status_is_printed_again_and_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = sniffer(&["status", "--watch=1", "--control"]);
    command
        .arg(folder.path().join("control"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let output = child.stdout.take().context("it is piped")?;
    let mut seen = 0;
    for line in BufReader::new(output).lines() {
        let line = line?;
        ensure!(!line.contains('\x1b'), "{line:?}");
        seen += usize::from(line.contains("STOPPED"));
        if seen == 3 {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    assert_eq!(seen, 3);
    Ok(())
}

#[test]
fn completions_and_man_pages_are_made() -> Result<()> {
    let ended = sniffer_ends(&["completions", "bash"], &[])?;
    assert!(ended.stdout.contains("_sniffer()"), "{}", ended.stdout);
    let mut shell = Command::new("bash");
    shell.args(["-n", "/dev/stdin"]).stdin(Stdio::piped());
    let mut shell = shell.spawn()?;
    let mut input = shell.stdin.take().context("it is piped")?;
    std::io::Write::write_all(&mut input, ended.stdout.as_bytes())?;
    drop(input);
    assert!(shell.wait()?.success(), "bash reads them");
    let page = sniffer_ends(&["man", "rules", "test"], &[])?;
    assert_eq!(page.code()?, 0);
    assert!(
        page.stdout.contains("sniffer\\-rules\\-test"),
        "{}",
        page.stdout
    );
    let ended = sniffer_ends(&["man", "ruels"], &[])?;
    assert_eq!(ended.code()?, 2);
    assert!(
        ended.stderr.contains("Did you mean rules?"),
        "{}",
        ended.stderr
    );
    let folder = tempfile::tempdir()?;
    let all = folder.path().display().to_string();
    assert_eq!(sniffer_ends(&["man", "--all", &all], &[])?.code()?, 0);
    for name in ["sniffer.1", "sniffer-run.1", "sniffer-spool-drain.1"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    Ok(())
}

#[test]
fn interfaces_have_a_rate() -> Result<()> {
    let ended = sniffer_ends(&["interfaces"], &[])?;
    let head = ended.stdout.lines().next().unwrap_or_default();
    assert!(head.contains("PACKETS/S"), "{head}");
    let lo = ended.stdout.lines().find(|line| line.starts_with("lo "));
    let rate = lo
        .and_then(|line| line.split_whitespace().nth(3))
        .context("lo is there")?;
    assert!(rate.parse::<u64>().is_ok(), "{rate}");
    Ok(())
}

/// The short help names each option in a line or two, the long one explains it. Colours are those of a terminal, unless
/// `NO_COLOR` or `--color` are given.
#[test]
fn help_and_colours_are_as_usual() -> Result<()> {
    let short = sniffer_ends(&["run", "-h"], &[])?.stdout;
    let long = sniffer_ends(&["run", "--help"], &[])?.stdout;
    assert!(short.lines().count() * 2 < long.lines().count(), "{short}");
    assert!(short.contains("Which packets:") && long.contains("without the members of a bridge"));
    let red = "\x1b[1;31m";
    for (words, has_colour) in [
        (&["run", "--color", "always"][..], true),
        (&["run"], false),
        (&["run", "--color", "never"], false),
    ] {
        let ended = sniffer_ends(words, &[("NO_COLOR", "1")])?;
        assert_eq!(
            ended.stderr.contains(red),
            has_colour,
            "{words:?}: {}",
            ended.stderr
        );
    }
    // A terminal: script(1) makes one.
    let program = sniffer(&[]).get_program().to_owned();
    for (variable, has_colour) in [("", true), ("NO_COLOR=1 ", false)] {
        let line = format!("{variable}{} run", program.display());
        let mut script = Command::new("script");
        script
            .args(["-qec", &line, "/dev/null"])
            .env_remove("NO_COLOR")
            .env_remove("USAGE_LOGGERS_URL");
        let ended = Running::start(&mut script)?.end(Duration::from_secs(60))?;
        assert_eq!(
            ended.stdout.contains(red),
            has_colour,
            "{line}: {}",
            ended.stdout
        );
    }
    Ok(())
}
