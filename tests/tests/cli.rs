//! Wrong command lines and settings. Here belong exit codes and error texts, nothing that needs packets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::process::Running;
use tests::program::{sniffer, sniffer_ends, sniffer_path};

const URL: (&str, &str) = ("USAGE_LOGGERS_URL", "http://127.0.0.1:9/message");
const RULES: (&str, &str) = ("USAGE_LOGGERS_RULES", "include debug");

/// Standard error must contain each of the words and one error with that code, and nothing panics.
#[track_caller]
fn check(arguments: &[&str], environment: &[(&str, &str)], code: i32, words: &[&str]) {
    let ended = sniffer_ends(arguments, environment).unwrap();
    let log = &ended.stderr;
    assert_eq!(
        ended.status.code(),
        Some(code),
        "{arguments:?} {environment:?}: {log}"
    );
    assert!(!log.contains("panicked"), "{log}");
    for word in words {
        assert!(
            log.contains(word),
            "{arguments:?} {environment:?}: no {word:?} in: {log}"
        );
    }
    assert_eq!(ended.stdout, "", "stdout is for data");
}

#[test]
fn unknown_settings_are_refused_with_a_guess() {
    check(
        &["run"],
        &[("SNIFFER_MIROR_VNIS", "1"), URL, RULES],
        2,
        &["E001", "SNIFFER_MIROR_VNIS", "SNIFFER_MIRROR_VNIS"],
    );
    check(&["run", "--prots", "80"], &[URL, RULES], 2, &["--prots"]);
}

/// The commands of network-sniffer 1.x, as its users' scripts call them.
#[test]
fn unknown_commands_are_refused() -> Result<()> {
    let ended = sniffer_ends(&["frobnicate"], &[])?;
    assert_eq!(
        (ended.code()?, ended.stdout.as_str()),
        (2, "Network sniffer: Invalid option.\n")
    );
    assert!(ended.stderr.contains("frobnicate"), "{}", ended.stderr);
    check(
        &["read", "-n"],
        &[],
        2,
        &["a value is missing", "sniffer read --help "],
    );
    Ok(())
}

#[test]
fn bad_values_name_setting_and_expectation() {
    check(
        &["run"],
        &[("SNIFFER_ENGINE", "vlxan"), URL, RULES],
        2,
        &["E002", "vlxan", "vxlan"],
    );
    check(
        &["run"],
        &[("APP_PORTS", "80;8000"), URL, RULES],
        2,
        &["E002", "APP_PORTS", "80;8000"],
    );
    check(
        &["run"],
        &[("SNIFFER_MIRROR_VNIS", "seven"), URL, RULES],
        2,
        &["E002", "SNIFFER_MIRROR_VNIS"],
    );
}

#[test]
fn bad_rules_name_line_and_column() {
    let unclosed = "include debug\n/request_body/ remove\n/request_header:x remove";
    check(
        &["run"],
        &[URL, ("USAGE_LOGGERS_RULES", unclosed)],
        2,
        &["E030", "line 3", "column"],
    );
    check(
        &["run"],
        &[
            URL,
            ("USAGE_LOGGERS_RULES", "include debug\\nsample 5\\nsample 6"),
        ],
        2,
        &["E031"],
    );
    check(
        &["run"],
        &[URL, ("USAGE_LOGGERS_RULES", "file:///nowhere/rules.txt")],
        2,
        &["E032", "/nowhere/rules.txt"],
    );
}

#[test]
fn destinations_are_checked_before_anything_starts() {
    check(&["run"], &[RULES], 2, &["E039", "USAGE_LOGGERS_URL"]);
    check(
        &["run"],
        &[("USAGE_LOGGERS_URL", "localhost:7701"), RULES],
        2,
        &["E040", "localhost:7701"],
    );
}

#[test]
fn a_command_that_is_missing_is_one_of_a_list() {
    check(
        &["spool"],
        &[],
        2,
        &["E002", "status, drain, export, discard"],
    );
    check(&["rules"], &[], 2, &["E002", "check, "]);
}

#[test]
fn only_what_delivers_a_spool_needs_a_capture_url() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let spool = folder.path().display().to_string();
    for (command, expected) in [("export", 0), ("discard", 0), ("drain", 2)] {
        let ended = sniffer_ends(&["spool", command, "--spool", &spool], &[])?;
        assert_eq!(
            ended.status.code(),
            Some(expected),
            "{command}: {}",
            ended.stderr
        );
        assert_eq!(
            ended.stderr.contains("E039"),
            expected == 2,
            "{}",
            ended.stderr
        );
    }
    let ended = sniffer_ends(&["spool", "status", "--spool", &spool], &[])?;
    assert!(
        ended.stdout.contains("0 calls not delivered"),
        "{} {}",
        ended.stdout,
        ended.stderr
    );
    Ok(())
}

#[test]
fn the_http_gate_says_that_nothing_would_be_sent() {
    check(
        &["run"],
        &[URL, ("USAGE_LOGGERS_RULES", "include default")],
        2,
        &["E041", "allow_http_url"],
    );
    check(&["run"], &[URL], 2, &["E041", "allow_http_url"]);
}

#[test]
fn a_missing_interface_is_named_with_those_that_are_there() {
    check(
        &["run", "-i", "no-such0"],
        &[URL, RULES],
        6,
        &["E020", "no-such0", "lo"],
    );
}

#[test]
fn unreadable_capture_files() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(
        path("text"),
        "this is no capture file, whatever its name is",
    )?;
    fs::write(path("empty"), "")?;
    check(
        &["read", &path("missing.pcap")],
        &[],
        6,
        &["E080", "missing.pcap"],
    );
    check(&["read", &path("text")], &[], 6, &["E080", "text"]);
    check(&["read", &path("empty")], &[], 6, &["E080", "empty"]);
    Ok(())
}

/// The user `nobody` has no capability; the program is copied to where that user may run it.
#[test]
fn a_missing_capability_is_explained() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // The usual umask would close it to nobody.
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o1777))?;
    let program = folder.path().join("sniffer");
    fs::copy(sniffer_path(), &program)?;
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]);
    command
        .arg(&program)
        .args(["run", "-i", "lo", "--control"])
        .arg(folder.path().join("control"));
    command.envs([URL, RULES]);
    let ended = Running::start(&mut command)
        .context("setpriv is part of util-linux")?
        .end(Duration::from_secs(20))?;
    assert_eq!(ended.code()?, 5, "{}", ended.stderr);
    for word in ["E010", "CAP_NET_RAW", "--cap-add NET_RAW"] {
        assert!(
            ended.stderr.contains(word),
            "no {word:?} in: {}",
            ended.stderr
        );
    }
    Ok(())
}

#[test]
fn status_without_a_running_sniffer() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control").display().to_string();
    for command in [&["status"][..], &[]] {
        let arguments = [&["--control", control.as_str()], command].concat();
        let ended = sniffer_ends(&arguments, &[])?;
        assert_eq!(
            ended.code()?,
            3,
            "{arguments:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        assert!(ended.stdout.contains("STOPPED"), "{}", ended.stdout);
    }
    Ok(())
}

#[test]
fn every_code_explains_itself() -> Result<()> {
    for code in ["E010", "E041", "W003"] {
        let ended = sniffer_ends(&["help", code], &[])?;
        assert_eq!(ended.code()?, 0);
        assert!(ended.stdout.contains(code), "{}", ended.stdout);
    }
    Ok(())
}

/// A reader that closes the pipe early is no error.
#[test]
fn a_broken_pipe_ends_quietly() -> Result<()> {
    let mut command = Command::new("sh");
    command
        .args(["-c", "\"$0\" run --help | head -n 1"])
        .arg(sniffer(&[]).get_program());
    let ended = Running::start(&mut command)?.end(Duration::from_secs(10))?;
    assert_eq!((ended.code()?, ended.stderr.as_str()), (0, ""));
    Ok(())
}
