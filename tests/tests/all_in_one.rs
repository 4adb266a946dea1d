//! `sniffer all-in-one`: on, off, status, and what survives a SIGKILL. Here belongs what the supervisor promises.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tests::faults::{Fault, FaultServer};
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

    /// The link that opens the page.
    pub(crate) fn page_link(&self) -> Result<String> {
        let page = self.control(&["page"])?;
        ensure!(page.code()? == 0, "{page:?}");
        Ok(page.stdout.trim().to_owned())
    }

    /// The path of its control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// Calls in the database, counted by SQL.
    pub(crate) fn stored(&self) -> Result<i64> {
        self.count("SELECT count(*) FROM calls", [])
    }

    /// Those with this URL in their line.
    pub(crate) fn stored_with(&self, url: &str) -> Result<i64> {
        self.count(
            "SELECT count(*) FROM calls WHERE instr(line, ?1) > 0",
            [url],
        )
    }

    fn count(&self, query: &str, parameters: impl rusqlite::Params) -> Result<i64> {
        let database = store::backend::sqlite::query::open(&self.folder.path().join("data"))?;
        Ok(database.query_row(query, parameters, |row| row.get(0))?)
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
    let ports = all.control(&["ports"])?;
    ensure!(
        ports.code()? == 0 && ports.stdout.contains("\nAPP_PORTS=80\n"),
        "{ports:?}"
    );
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    let off = all.control(&["off"])?;
    ensure!(
        off.code()? == 0 && off.stdout.contains("sniffer: stopped"),
        "{off:?}"
    );
    let ledgers = all.count(
        "SELECT count(*) FROM ledgers WHERE sender = 'capture' AND data ->> '$.calls.seen' = 2 AND data ->> '$.calls.sent' = 2",
        [],
    )?;
    ensure!(
        ledgers == 1,
        "the ledger of the capture was posted at its end"
    );
    // Captured calls are delivered before `off` reports that the capture has stopped.
    ensure!(all.stored()? == 2, "{} calls are stored", all.stored()?);
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    thread::sleep(Duration::from_secs(2));
    ensure!(all.stored()? == 2, "a call was captured after off");
    let ended = all.process.terminate(PATIENCE)?;
    ensure!(ended.code()? == 0, "{}", ended.stderr);
    // `off` has the summary of the log, with the same time.
    let summary = off.stdout.lines().nth(1).unwrap_or_default();
    ensure!(
        summary.starts_with("stopped after ") && ended.stderr.contains(summary),
        "{summary}: {}",
        ended.stderr
    );
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

/// The page shows captured calls, and every user of the host reaches its address: it opens only to who has the token, which
/// stands in no argument, status, metric or log, and stays the same after a restart.
#[test]
fn the_page_opens_only_by_its_link() -> Result<()> {
    let namespace = Namespace::new("page")?;
    let data = tempfile::tempdir()?;
    let data = data.path().join("data");
    let mut command = sniffer(&["all-in-one", "--on"]);
    command.arg("--data").arg(&data);
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control");
    command.arg("--control").arg(&control);
    let page = |path: &str, headers: &[(&str, &str)]| {
        namespace.inside(|| request("127.0.0.1:7700", "GET", path, headers, b""))
    };
    let asks = |words: &[&str]| {
        let mut asking = sniffer(words);
        asking.arg("--control").arg(&control);
        Running::start(&mut namespace.enter(&asking))?.end(PATIENCE)
    };
    let none = asks(&["page"])?;
    ensure!(none.code()? == 3 && none.stdout.is_empty(), "{none:?}");
    ensure!(none.stderr.contains("[E113]"), "{none:?}");
    let mut links = Vec::new();
    for _ in 0..2 {
        let process = Running::start(&mut namespace.enter(&command))?;
        let running = || -> Result<()> {
            let status = asks(&["status"])?;
            ensure!(status.stdout.contains("RUNNING"), "{status:?}");
            Ok(())
        };
        eventually(PATIENCE, running).with_context(|| process.stderr())?;
        let refused = page("/api/v1/calls", &[])?;
        ensure!(refused.status == 401, "{refused:?}");
        let words = page("/", &[])?;
        ensure!(
            words.status == 401 && String::from_utf8_lossy(&words.body).contains("sniffer page"),
            "{words:?}"
        );
        let link = asks(&["page"])?;
        ensure!(link.code()? == 0, "{link:?}");
        let link = link.stdout.trim().to_owned();
        let (place, token) = link.split_once("?token=").context("a link with a token")?;
        assert_eq!(place, "http://localhost:7700/");
        let opened = page(&format!("/?token={token}"), &[])?;
        ensure!(
            opened.status == 303 && opened.head.contains("\r\nlocation: /\r\n"),
            "{opened:?}"
        );
        let authorization = format!("Bearer {token}");
        let with_token = [("Authorization", authorization.as_str())];
        assert_eq!(page("/api/v1/calls", &with_token)?.status, 200);

        let metrics =
            namespace.inside(|| request("127.0.0.1:7702", "GET", "/metrics", &[], b""))?;
        let mut shown = String::from_utf8_lossy(&metrics.body).into_owned();
        for words in [&["status"][..], &["status", "--json"]] {
            shown += &asks(words)?.stdout;
        }
        for child in run(Command::new("pgrep").args(["-P", &process.pid().to_string()]))?.lines() {
            shown += &fs::read_to_string(format!("/proc/{child}/cmdline"))?;
        }
        ensure!(!shown.contains(token), "{shown}");
        let ended = process.terminate(PATIENCE)?;
        ensure!(ended.code()? == 0, "{}", ended.stderr);
        // A container's log is where its newcomer looks for the link; any other log has none.
        let is_container = ["/.dockerenv", "/run/.containerenv"]
            .iter()
            .any(|file| fs::exists(file).unwrap_or(false));
        assert_eq!(
            ended.stderr.contains(token),
            is_container,
            "{}",
            ended.stderr
        );
        links.push(link);
    }
    assert_eq!(links[0], links[1], "a bookmark stays good");
    let mode = fs::metadata(data.join("page.token"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A token of the user's own is in no log; without one that is said.
    command.env("SNIFFER_UI_TOKEN", "correct-horse-battery");
    let process = Running::start(&mut namespace.enter(&command))?;
    let own = [("Authorization", "Bearer correct-horse-battery")];
    let opens = || -> Result<()> {
        let status = page("/api/v1/calls", &own)?.status;
        ensure!(status == 200, "{status}");
        Ok(())
    };
    eventually(PATIENCE, opens).with_context(|| process.stderr())?;
    let ended = process.terminate(PATIENCE)?;
    ensure!(!ended.stderr.contains("battery"), "{}", ended.stderr);
    command.env("SNIFFER_UI_TOKEN", "off");
    let process = Running::start(&mut namespace.enter(&command))?;
    let opens = || -> Result<()> {
        let status = page("/api/v1/calls", &[])?.status;
        ensure!(status == 200, "{status}");
        Ok(())
    };
    eventually(PATIENCE, opens).with_context(|| process.stderr())?;
    let ended = process.terminate(PATIENCE)?;
    ensure!(
        ended.stderr.contains("[W106]") && ended.stderr.contains("requires no token"),
        "{}",
        ended.stderr
    );
    Ok(())
}

/// A store of root that cannot become the owner of its folder does not use that, nor one that others may write to, and it follows
/// no link in it.
#[test]
fn a_data_folder_of_another_user_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    let victim = folder.path().join("victim");
    fs::write(&victim, "root:x:0:0\n")?;
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o644))?;
    let refused = |owner: u32, mode: u32| -> Result<String> {
        std::os::unix::fs::chown(&data, Some(owner), Some(owner))?;
        fs::set_permissions(&data, fs::Permissions::from_mode(mode))?;
        let store = sniffer(&["store", "--store", "127.0.0.1:0", "--ui", "127.0.0.1:0"]);
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-setuid"]);
        command.arg(store.get_program()).args(store.get_args());
        command.arg("--data").arg(&data).env_remove("SUDO_UID");
        let ended = Running::start(&mut command)?.end(PATIENCE)?;
        ensure!(ended.code()? == 2, "{ended:?}");
        Ok(ended.stderr)
    };
    let foreign = refused(65_534, 0o755)?;
    ensure!(foreign.contains("belongs to user 65534"), "{foreign}");
    let open = refused(0, 0o777)?;
    ensure!(open.contains("every user may write to it"), "{open}");
    for name in [
        "calls.sqlite",
        "calls.sqlite-wal",
        "calls.lock",
        "page.token",
    ] {
        let link = data.join(name);
        std::os::unix::fs::symlink(&victim, &link)?;
        let linked = refused(0, 0o755)?;
        ensure!(linked.contains(name) && linked.contains("link"), "{linked}");
        fs::remove_file(&link)?;
    }
    assert_eq!(fs::read_to_string(&victim)?, "root:x:0:0\n");
    assert_eq!(fs::metadata(&victim)?.permissions().mode() & 0o777, 0o644);
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
        .with_context(|| self.process.stderr())
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
        let database = store::backend::sqlite::query::open(folder.path())?;
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

/// SIGKILL of the capture while nobody takes its calls: supervisor, status and metrics have their number.
#[test]
fn a_killed_capture_leaves_the_number_of_its_calls() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let nobody = ["--url", "http://127.0.0.1:9/message", "--rules"];
    let rules = ["include debug\nallow_http_url", "--on"];
    let mut all = AllInOne::start(&lab.server, &[&nobody[..], &rules].concat())?;
    let status = || -> Result<serde_json::Value> {
        let ended = all.control(&["status", "--json"])?;
        Ok(serde_json::from_str(&ended.stdout)?)
    };
    let running = |killed: u64| {
        eventually(PATIENCE * 2, || {
            let status = status()?;
            ensure!(status["state"] == "RUNNING", "{status}");
            ensure!(status["killed"]["captures"] == killed, "{status}");
            Ok(status)
        })
    };
    running(0)?;
    for _ in 0..3 {
        curl(&lab.client, &["http://10.77.0.1/hello"])?;
    }
    let pid = eventually(PATIENCE, || {
        let status = status()?;
        ensure!(status["capture"]["calls"]["in_flight"] == 3, "{status}");
        status["pid"].as_i64().context("a pid")
    })?;
    // Longer than the number of calls in flight may be old.
    thread::sleep(Duration::from_millis(500));
    run(Command::new("kill").arg("-9").arg(pid.to_string()))?;
    let after = running(1)?;
    assert_eq!(after["killed"]["calls"], 3, "{after}");
    let text = all.control(&["status"])?.stdout;
    let line = " killed   1 capture without a final report · 3 calls in flight in them";
    assert!(text.contains(line), "{text}");
    let page = lab
        .server
        .inside(|| request("127.0.0.1:7702", "GET", "/metrics", &[], b""))?;
    let page = String::from_utf8(page.body)?;
    for sample in [
        "sniffer_killed_captures_total 1",
        "sniffer_killed_calls_total 3",
    ] {
        assert!(page.lines().any(|line| line == sample), "{page}");
    }
    all.process
        .wait_for_log("(signal 9) with 3 calls in flight, as of ", PATIENCE)?;
    Ok(())
}

/// The collector does not answer and there is an hour to wait: a second signal to the supervisor ends that. What is not delivered is
/// in the spool, and dropped and counted without one.
#[test]
fn a_second_signal_ends_the_waiting_of_the_capture() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let faults = FaultServer::start(&lab.server, 7711, 7701)?;
    faults.set(Fault::Stall);
    let folder = tempfile::tempdir()?;
    let spool = folder.path().join("spool").display().to_string();
    for (spool, code, words) in [
        (spool.as_str(), 0, "0 dropped, 3 in the spool"),
        ("off", 8, "3 dropped (shutdown 3)"),
    ] {
        let all = AllInOne::start(
            &lab.server,
            &[
                "--on",
                "--flush-timeout",
                "3600s",
                "--spool",
                spool,
                "--url",
                "http://127.0.0.1:7711/message",
                "--rules",
                "include debug\nallow_http_url",
            ],
        )?;
        all.wait_for_running()?;
        for _ in 0..3 {
            curl(&lab.client, &["http://10.77.0.1/hello"])?;
        }
        eventually(PATIENCE, || {
            let status = all.control(&["status", "--json"])?.stdout;
            let status: serde_json::Value = serde_json::from_str(&status)?;
            ensure!(status["capture"]["calls"]["seen"] == 3, "{status}");
            Ok(())
        })?;
        all.process.signal(Signal::SIGTERM)?;
        eventually(PATIENCE, || {
            let status = all.control(&["status"])?;
            ensure!(status.stdout.contains("STOPPING"), "{status:?}");
            Ok(())
        })?;
        all.process.signal(Signal::SIGTERM)?;
        let ended = all.process.end(PATIENCE)?;
        ensure!(ended.stderr.contains(words), "{ended:?}");
        assert_eq!(ended.code()?, code, "{ended:?}");
    }
    Ok(())
}
