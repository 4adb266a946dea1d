//! `sniffer all-in-one`: on, off, status, and what survives a SIGKILL. Here belongs what the supervisor promises.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tests::http::request;
use tests::network::{Lab, Namespace};
use tests::nginx::{Nginx, curl};
use tests::process::{Ended, PATIENCE, Running, eventually, run};
use tests::program::sniffer;

/// A supervisor in a namespace, on its usual ports.
pub(crate) struct AllInOne<'a> {
    namespace: &'a Namespace,
    process: Running,
    folder: TempDir,
}

impl<'a> AllInOne<'a> {
    /// Starts it and waits until page and capture URL answer.
    pub(crate) fn start(namespace: &'a Namespace, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = sniffer(&["all-in-one"]);
        command
            .args(arguments)
            .arg("--data")
            .arg(folder.path().join("data"));
        command.arg("--control").arg(folder.path().join("control"));
        command.env("APP_PORTS", "80");
        let process = Running::start(&mut namespace.enter(&command))?;
        let all = Self {
            namespace,
            process,
            folder,
        };
        let answers = || namespace.inside(|| request("127.0.0.1:7700", "GET", "/", &[], b""));
        eventually(PATIENCE, answers).with_context(|| all.process.stderr())?;
        Ok(all)
    }

    /// Runs `sniffer WORDS` against this supervisor.
    pub(crate) fn control(&self, words: &[&str]) -> Result<Ended> {
        let mut command = sniffer(words);
        command
            .arg("--control")
            .arg(self.folder.path().join("control"));
        Running::start(&mut self.namespace.enter(&command))?.end(PATIENCE)
    }

    /// Calls in the database, counted by SQL.
    pub(crate) fn stored(&self) -> Result<i64> {
        let path = self.folder.path().join("data/calls.sqlite");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = rusqlite::Connection::open_with_flags(path, flags)?;
        Ok(database.query_row("SELECT count(*) FROM calls", [], |row| row.get(0))?)
    }

    fn wait_for_calls(&self, calls: i64) -> Result<()> {
        eventually(PATIENCE, || {
            let stored = self.stored()?;
            ensure!(stored == calls, "{stored} of {calls} calls are stored");
            Ok(())
        })
    }
}

#[test]
fn on_off_and_status() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let all = AllInOne::start(&lab.server, &[])?;
    let before = all.control(&["status"])?;
    ensure!(
        before.code()? == 3 && before.stdout.contains("STOPPED"),
        "{before:?}"
    );
    let on = all.control(&["on"])?;
    ensure!(
        on.code()? == 0 && on.stdout.contains("sniffer: started"),
        "{on:?}"
    );
    let again = all.control(&["on"])?;
    ensure!(
        (again.stdout.clone() + &again.stderr).contains("ERROR (already started)"),
        "{again:?}"
    );
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    all.wait_for_calls(1)?;
    let running = all.control(&[])?;
    ensure!(
        running.code()? == 0 && running.stdout.contains("RUNNING"),
        "{running:?}"
    );
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    let off = all.control(&["off"])?;
    ensure!(
        off.code()? == 0 && off.stdout.contains("sniffer: stopped"),
        "{off:?}"
    );
    // Captured calls are delivered before `off` reports that the capture has stopped.
    ensure!(all.stored()? == 2, "{} calls are stored", all.stored()?);
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    thread::sleep(Duration::from_secs(2));
    ensure!(all.stored()? == 2, "a call was captured after off");
    let ended = all.process.terminate(PATIENCE)?;
    ensure!(ended.code()? == 0, "{}", ended.stderr);
    Ok(())
}

#[test]
fn only_the_owner_may_command() -> Result<()> {
    let namespace = Namespace::new("owner")?;
    let all = AllInOne::start(&namespace, &[])?;
    let mode = fs::metadata(all.folder.path().join("control"))?
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    Ok(())
}

/// SIGKILL of the store's own process, again and again while calls come in: what was acknowledged is there, nothing is
/// there twice, and the supervisor brings the store back.
#[test]
fn a_killed_store_loses_nothing_acknowledged() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let all = AllInOne::start(&lab.server, &["--on"])?;
    all.wait_for_running()?;
    let mut calls = 0;
    for _ in 0..3 {
        for _ in 0..10 {
            curl(&lab.client, &["http://10.77.0.1/hello"])?;
            calls += 1;
        }
        kill_store(all.process.pid())?;
    }
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    all.wait_for_calls(calls + 1)?;
    let ended = all.process.terminate(PATIENCE)?;
    ensure!(ended.code()? == 0, "{}", ended.stderr);
    Ok(())
}

impl AllInOne<'_> {
    /// Waits until the status reports a capture.
    pub(crate) fn wait_for_running(&self) -> Result<()> {
        eventually(PATIENCE, || {
            let status = self.control(&["status"])?;
            ensure!(status.stdout.contains("RUNNING"), "{status:?}");
            Ok(())
        })
    }
}

/// `sniffer demo`: calls of several shapes are in the store within seconds, made and captured on loopback.
#[test]
fn the_demo_shows_calls_within_seconds() -> Result<()> {
    let namespace = Namespace::new("demo")?;
    let folder = tempfile::tempdir()?;
    let mut command = sniffer(&["demo"]);
    command
        .arg("--data")
        .arg(folder.path())
        .arg("--control")
        .arg(folder.path().join("control"));
    let demo = Running::start(&mut namespace.enter(&command))?;
    let shapes = eventually(PATIENCE, || {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database =
            rusqlite::Connection::open_with_flags(folder.path().join("calls.sqlite"), flags)?;
        let count = "SELECT count(*), count(DISTINCT method), count(DISTINCT status) FROM calls";
        let shapes: (i64, i64, i64) =
            database.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        ensure!(shapes.0 >= 12, "{shapes:?}");
        Ok(shapes)
    })
    .with_context(|| demo.stderr())?;
    ensure!(
        shapes.1 >= 3 && shapes.2 >= 3,
        "calls, methods and codes: {shapes:?}"
    );
    let ended = demo.terminate(PATIENCE)?;
    ensure!(ended.code()? == 0, "{}", ended.stderr);
    Ok(())
}

/// The child of the supervisor with `store` in its command line.
fn kill_store(supervisor: u32) -> Result<()> {
    let children = eventually(PATIENCE, || {
        let children = run(Command::new("pgrep").args(["-P", &supervisor.to_string()]))?;
        let of_store = |pid: &&str| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"store")
        };
        children
            .lines()
            .find(of_store)
            .map(str::to_owned)
            .context("the supervisor has no child `sniffer store`")
    })?;
    run(Command::new("kill").args(["-KILL", &children])).map(drop)
}
