//! `sniffer check` as a user types it: what it finds, what it advises, how it ends. Here belongs what needs a real
//! machine underneath; the wording of single findings is tested in the unit tests. `tuning/apply` and `tuning/undo`
//! are tested here as well: they do what `check` advises, and take it back.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};
use bench::collect::Collector;
use serde_json::Value;
use tests::network::{Namespace, cable};
use tests::process::{Ended, Running, run};
use tests::program::{repository, sniffer, sniffer_path};

const PATIENCE: Duration = Duration::from_secs(60);

const RULES: (&str, &str) = ("USAGE_LOGGERS_RULES", "include debug");

/// The finding about `topic`, from `check --json`.
fn finding<'a>(report: &'a Value, topic: &str) -> Result<&'a Value> {
    let findings = report["findings"].as_array().context("a list")?;
    let found = findings.iter().find(|finding| finding["topic"] == topic);
    found.with_context(|| format!("nothing about {topic}: {report:#}"))
}

#[track_caller]
fn check_finding(report: &Value, topic: &str, level: &str, words: &str) {
    let finding = finding(report, topic).unwrap();
    let text = finding["text"].as_str().unwrap_or_default();
    assert_eq!(finding["level"], level, "{finding}");
    assert!(text.contains(words), "{finding}");
}

/// Runs `sniffer check --json` in a namespace.
fn check_in(
    namespace: &Namespace,
    arguments: &[&str],
    settings: &[(&str, &str)],
) -> Result<(Ended, Value)> {
    let mut command = sniffer(&["check", "--json"]);
    command.args(arguments).envs(settings.iter().copied());
    let ended = Running::start(&mut namespace.enter(&command))?.end(PATIENCE)?;
    let report = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    Ok((ended, report))
}

#[test]
fn all_is_well_in_a_namespace_with_a_destination() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    cable(&here, "h0", &there, "t0", 9000)?;
    here.ip("address add 10.79.0.1/24 dev h0")?;
    let listener = here.inside(|| TcpListener::bind("127.0.0.1:0"))?;
    let collector = Collector::serve(listener)?;
    let url = collector.url();
    let settings = [
        ("USAGE_LOGGERS_URL", url.as_str()),
        RULES,
        ("SNIFFER_SHARDS", "2"),
    ];
    let (ended, report) = check_in(&here, &["--mirror"], &settings)?;
    assert_eq!(ended.code()?, 0, "{report:#}");
    assert_eq!(
        (&report["schema"], &report["failed"]),
        (&1.into(), &0.into())
    );
    check_finding(&report, "packet socket", "ok", "TPACKET_V3");
    check_finding(&report, "interface h0", "ok", "10.79.0.1");
    check_finding(&report, "steering", "ok", "one shard");
    check_finding(
        &report,
        "capture URL",
        "ok",
        "answered an empty bundle with 400",
    );
    check_finding(&report, "mirror on h0", "info", "8946");
    check_finding(&report, "UDP 4789", "ok", "no program listens");
    check_finding(&report, "landlock", "ok", "landlock ABI");
    check_finding(&report, "seccomp", "ok", "");
    // No call was sent to the destination.
    assert_eq!((collector.counts().posts, collector.counts().lines), (1, 0));
    Ok(())
}

/// Anything that keeps calls from arriving gives exit code 8; the other checks are made all the same.
#[test]
fn what_does_not_work_is_reported_with_a_remedy() -> Result<()> {
    let here = Namespace::new("alone")?;
    let nobody =
        here.inside(|| -> io::Result<_> { TcpListener::bind("127.0.0.1:0")?.local_addr() })?;
    let url = format!("http://{nobody}/message");
    let settings = [("USAGE_LOGGERS_URL", url.as_str()), RULES];
    let (ended, report) = check_in(&here, &[], &settings)?;
    assert_eq!(ended.code()?, 8, "{report:#}");
    check_finding(&report, "capture URL", "fail", "connection refused");
    check_finding(&report, "packet socket", "ok", "");

    let (ended, report) = check_in(&here, &["-i", "no-such0"], &settings)?;
    assert_eq!(ended.code()?, 8);
    check_finding(&report, "interfaces", "fail", "E020");

    let (ended, report) = check_in(&here, &[], &[("SNIFFER_ENGINE", "vlxan")])?;
    assert_eq!(ended.code()?, 8);
    check_finding(&report, "settings", "fail", "did you mean vxlan");
    check_finding(&report, "capture URL", "info", "no capture URL");

    // A socket and a kernel link that take a mirror's datagrams.
    here.ip("link add vx0 type vxlan id 7 dstport 4789 local 127.0.0.1 remote 127.0.0.2 dev lo")?;
    here.ip("link set vx0 up")?;
    let (_, report) = check_in(&here, &["--mirror"], &settings)?;
    check_finding(&report, "UDP 4789", "warn", "listens");
    check_finding(&report, "kernel vxlan link", "warn", "4789");
    Ok(())
}

/// The user `nobody` has no capability; the program is copied to where that user may run it.
#[test]
fn a_missing_capability_is_found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // The usual umask would close it to nobody.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    let program = folder.path().join("sniffer");
    fs::copy(sniffer_path(), &program)?;
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["--inh-caps=-all", "--bounding-set=-all"])
        .arg(&program)
        .args(["check", "-i", "lo"])
        .env("USAGE_LOGGERS_DISABLE", "true");
    let ended = Running::start(&mut command)?.end(PATIENCE)?;
    assert_eq!(ended.code()?, 8, "{ended:?}");
    for words in [
        "fail  packet socket",
        "[E010]",
        "fix: docker:",
        "--cap-add NET_RAW",
    ] {
        assert!(
            ended.stdout.contains(words),
            "no {words:?} in: {}",
            ended.stdout
        );
    }
    Ok(())
}

/// The script and the program read one table and must find the same.
#[test]
fn program_and_script_advise_the_same() -> Result<()> {
    let (here, there) = (Namespace::new("one")?, Namespace::new("two")?);
    cable(&here, "h0", &there, "t0", 1500)?;
    let (_, report) = check_in(&here, &["--tuning", "-i", "h0"], &[])?;
    let findings = report["findings"].as_array().context("a list")?;
    ensure!(findings.len() >= 3, "{report:#}");
    let script = repository().join("tuning/check");
    let ended = Running::start(here.command(script).arg("h0"))?.end(PATIENCE)?;
    assert_eq!(ended.code()?, 0, "{ended:?}");
    for finding in findings {
        let topic = finding["topic"].as_str().unwrap_or_default();
        let word = match finding["level"].as_str() {
            Some("warn") => "change",
            _ => "ok",
        };
        let line = ended.stdout.lines().find(|line| line.contains(topic));
        let line = line.with_context(|| format!("nothing about {topic}: {}", ended.stdout))?;
        assert!(line.starts_with(word), "{line} but {finding}");
    }
    Ok(())
}

#[test]
fn text_is_for_people() -> Result<()> {
    let here = Namespace::new("text")?;
    let command = sniffer(&["check", "-i", "lo"]);
    let ended = Running::start(&mut here.enter(&command))?.end(PATIENCE)?;
    assert_eq!(ended.code()?, 0, "{ended:?}");
    for words in [
        "ok    packet socket: ",
        "info  capture URL: no capture URL is set",
        "nothing was changed",
    ] {
        assert!(ended.stdout.contains(words), "{}", ended.stdout);
    }
    assert_eq!(ended.stderr, "", "findings are data");
    Ok(())
}

/// `tuning/SCRIPT` in a namespace, where `/sys` shows that namespace's interfaces.
fn tune(namespace: &Namespace, script: &str, arguments: &[&str]) -> Result<Ended> {
    let script = repository().join("tuning").join(script);
    Running::start(namespace.command(script).args(arguments))?.end(PATIENCE)
}

fn merges(namespace: &Namespace) -> Result<bool> {
    let text = run(namespace.command("ethtool").args(["-k", "h0"]))?;
    Ok(text.contains("generic-receive-offload: on"))
}

#[test]
fn what_apply_changes_undo_brings_back_and_nothing_else() -> Result<()> {
    let (here, there) = (Namespace::new("tuned")?, Namespace::new("peer")?);
    cable(&here, "h0", &there, "t0", 1500)?;
    run(here.command("ethtool").args(["-K", "h0", "gro", "off"]))?;
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    let state_text = state.display().to_string();
    let only = [
        "--only",
        "offload,mirror,defer,rings",
        "--state",
        &state_text,
        "h0",
    ];
    let link = || here.ip("-brief address show sniffer-gro");

    let dry = tune(&here, "apply", &[&["--dry-run"][..], &only].concat())?;
    ensure!(
        dry.code()? == 0 && dry.stdout.contains("4 of these differ from the advice"),
        "{dry:?}"
    );
    ensure!(
        !merges(&here)? && link().is_err() && !state.exists(),
        "nothing changed"
    );

    let applied = tune(&here, "apply", &only)?;
    ensure!(
        applied.code()? == 0 && applied.stdout.contains("4 changed, 0 refused"),
        "{applied:?}"
    );
    for words in [
        "change       h0 generic receive offload = off, advised on",
        "why: merged segments",
        "unknown      h0 receive ring",
    ] {
        assert!(applied.stdout.contains(words), "{}", applied.stdout);
    }
    ensure!(merges(&here)?);
    // Up, and without an address: nothing can be reached through it.
    let shown = link()?;
    ensure!(
        shown.split_whitespace().count() == 2 && !shown.contains("fe80"),
        "{shown}"
    );
    let recorded = fs::read_to_string(&state)?;
    let expected = "offload|h0|off|on\ndefer|h0/gro_flush_timeout|0|20000\n\
                    defer|h0/napi_defer_hard_irqs|0|2\nmirror|4789|absent|4789\n";
    assert_eq!(recorded, expected);

    let again = tune(&here, "apply", &only)?;
    ensure!(again.stdout.contains("0 changed, 0 refused"), "{again:?}");
    assert_eq!(fs::read_to_string(&state)?, recorded);

    let undone = tune(&here, "undo", &["--state", &state_text])?;
    ensure!(undone.code()? == 0, "{undone:?}");
    ensure!(
        !merges(&here)? && link().is_err() && !state.exists(),
        "{undone:?}"
    );
    let nothing = tune(&here, "undo", &["--state", &state_text])?;
    ensure!(
        nothing.code()? == 0 && nothing.stdout.contains("nothing to undo"),
        "{nothing:?}"
    );
    Ok(())
}

/// Values of the whole machine, which must be what they were however this test ends.
struct Restored(Vec<(&'static str, String)>);

impl Restored {
    fn read() -> Result<Self> {
        let names = [
            "netdev_max_backlog",
            "netdev_budget",
            "netdev_budget_usecs",
            "rmem_max",
        ];
        let values = names.into_iter().map(|name| Ok((name, value_of(name)?)));
        Ok(Self(values.collect::<Result<_>>()?))
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        for (name, former) in &self.0 {
            // Nothing is left to do about a value that cannot be written.
            let _ = fs::write(format!("/proc/sys/net/core/{name}"), former);
        }
    }
}

fn value_of(name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/sys/net/core/{name}"))?;
    Ok(text.trim().to_owned())
}

#[test]
fn sysctls_come_back_to_the_digit() -> Result<()> {
    let before = Restored::read()?;
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state").display().to_string();
    let script = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(repository().join("tuning").join(name));
        Running::start(command.args(arguments))?.end(PATIENCE)
    };
    fs::write("/proc/sys/net/core/rmem_max", "300001")?;
    let applied = script("apply", &["--only", "sysctl", "--state", &state])?;
    ensure!(applied.code()? == 0, "{applied:?}");
    let now: u64 = value_of("netdev_max_backlog")?.parse()?;
    ensure!(now >= 10_000, "{now}");
    assert_eq!(value_of("rmem_max")?, "16777216");
    // Somebody else sets one of them in the meantime.
    fs::write("/proc/sys/net/core/rmem_max", "300002")?;
    let undone = script("undo", &["--state", &state])?;
    ensure!(undone.code()? == 0, "{undone:?}");
    ensure!(
        undone
            .stdout
            .contains("left alone   net.core.rmem_max = 300002"),
        "{undone:?}"
    );
    assert_eq!(value_of("rmem_max")?, "300002");
    for (name, former) in &before.0 {
        ensure!(
            *name == "rmem_max" || value_of(name)? == *former,
            "{name}: {undone:?}"
        );
    }
    let reapplied = script("apply", &["--only", "sysctl", "--state", &state])?;
    let undone = script("undo", &["--state", &state])?;
    ensure!(undone.code()? == 0 && reapplied.code()? == 0, "{undone:?}");
    assert_eq!(value_of("rmem_max")?, "300002");
    Ok(())
}

#[test]
fn groups_and_options_that_are_not_there_are_refused() -> Result<()> {
    let here = Namespace::new("usage")?;
    for (script, arguments, words) in [
        ("apply", &["--only", "warp"][..], "no group warp"),
        ("apply", &["--faster"], "no option --faster"),
        ("apply", &["--dry-run", "no-such0"], "no interface no-such0"),
        ("undo", &["everything"], "no option everything"),
    ] {
        let ended = tune(&here, script, arguments)?;
        assert_eq!(ended.code()?, 2, "{ended:?}");
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    Ok(())
}
