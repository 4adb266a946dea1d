//! `sniffer top` in a terminal of tmux, and without a terminal.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::network::Namespace;
use tests::nginx::curl;
use tests::process::{PATIENCE, Running, eventually};
use tests::program::{sniffer, sniffer_ends};
use tests::scene::Scene;
use tests::tmux::Tmux;

/// A line with each number, and what is not known, as `#`, and one blank between words.
fn shape(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in line.split_whitespace() {
        let is_number = word == "-" || word.starts_with(|first: char| first.is_ascii_digit());
        let word = if is_number { "#" } else { word };
        if word != "#" || words.last() != Some(&"#") {
            words.push(word);
        }
    }
    words.join(" ")
}

/// The line of a screen that begins with these words.
fn line<'s>(screen: &'s str, start: &str) -> Result<&'s str> {
    let mut lines = screen.lines();
    let found = lines.find(|line| line.starts_with(start));
    found.with_context(|| format!("no line {start:?} in:\n{screen}"))
}

/// `sniffer top WORDS` as a line of a shell.
fn top(words: &str) -> String {
    format!("{} top {words}", sniffer(&[]).get_program().display())
}

/// Calls until it is dropped.
struct Traffic<'a> {
    is_over: &'a AtomicBool,
}

impl Drop for Traffic<'_> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Does something while a client makes calls.
fn during_calls(client: &Namespace, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let urls = ["http://10.77.0.1/hello?[1-20]", "http://10.77.0.1/nowhere"];
                for url in urls {
                    // What is captured is checked elsewhere.
                    let _ = curl(client, &["-o", "/dev/null", url]);
                }
            }
        });
        let _traffic = Traffic { is_over: &is_over };
        work()
    })
}

/// An all-in-one whose metrics port another program has: everything comes over the control socket, and there is a warning.
#[test]
fn a_terminal_shows_each_table_and_takes_keys() -> Result<()> {
    let scene = Scene::new()?;
    let server = &scene.lab.server;
    let _stranger = server.inside(|| TcpListener::bind("127.0.0.1:7702"))?;
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control").display().to_string();
    let terminal = Tmux::start(server, &top(&format!("--interval 1 --control {control}")))?;
    // Before there is a sniffer.
    let screen = terminal.wait_for(&["no sniffer answers on", "[s]*shards"])?;
    ensure!(
        !screen.contains("[n]"),
        "one node needs no table of nodes: {screen}"
    );

    let mut command = sniffer(&["all-in-one", "--on", "--control", &control]);
    command.arg("--data").arg(folder.path().join("data"));
    command.env("NET_DEVICE", "s0");
    command.env("USAGE_LOGGERS_RULES", "include debug");
    let process = Running::start(&mut server.enter(&command))?;
    during_calls(&scene.lab.client, || {
        let screen = terminal.wait_for(&["up 0:0", "warnings W104", "ledger balanced"])?;
        assert_eq!(screen.lines().next(), Some("sniffer top"));
        let screen = eventually(PATIENCE, || {
            let screen = terminal.screen()?;
            let shaped = shape(line(&screen, "this host")?);
            ensure!(
                shaped
                    == "this host s0 up # calls # in # Mbit/s complete # % dropped # half # % memory # MB, limit # MB",
                "{shaped}"
            );
            Ok(screen)
        })?;
        assert_eq!(
            shape(line(&screen, "shard")?),
            "shard▲ packets/s Mbit/s busy ring flows calls/s gap B/s dropped/s"
        );
        assert_eq!(shape(line(&screen, "0  ")?), "# % # % #");
        assert_eq!(
            screen.trim_end().lines().last().map(str::trim_end),
            Some(
                "[s]*shards [v]networks [h]hosts [r]endpoints [p]ports   [/] filter   [space] pause   [←→] sort   [i] reverse   \
                 [e] explain   [q] quit"
            )
        );
        // Sorted by another column, and the other way round.
        terminal.press(&["Right", "Right"])?;
        terminal.wait_for(&["Mbit/s▼"])?;
        terminal.press(&["i"])?;
        terminal.wait_for(&["Mbit/s▲"])?;

        terminal.press(&["v"])?;
        terminal.wait_for(&["no frame came in a tunnel with a VNI"])?;
        terminal.press(&["p"])?;
        let screen = terminal.wait_for(&["[p]*ports", "http"])?;
        assert_eq!(
            shape(line(&screen, "port")?),
            "port▲ protocol connections new/s"
        );
        assert_eq!(shape(line(&screen, "80 ")?), "# http #");
        terminal.press(&["h"])?;
        let screen = terminal.wait_for(&["10.77.0.1", "p99 size"])?;
        assert_eq!(
            shape(line(&screen, "host")?),
            "host calls/s▼ failed p50 p99 p99 size"
        );
        // Endpoints, of which a filter leaves one.
        terminal.press(&["r"])?;
        terminal.wait_for(&["/hello", "/nowhere"])?;
        terminal.press(&["/", "n", "o", "w"])?;
        terminal.wait_for(&["/now_", "/nowhere"])?;
        terminal.press(&["Enter"])?;
        let screen = terminal.wait_for(&["[/] filter: now", "/nowhere"])?;
        ensure!(!screen.contains("/hello"), "{screen}");
        terminal.press(&["Escape"])?;
        terminal.wait_for(&["[/] filter   ", "/hello"])?;

        terminal.press(&["e"])?;
        let screen = terminal.wait_for(&["warning 1 of 1", "[e] next"])?;
        let help = sniffer_ends(&["help", "W104"], &[])?.stdout;
        ensure!(screen.contains("W104: no metrics"), "{screen}");
        ensure!(
            screen.contains("no metrics on 127.0.0.1:7702"),
            "what this node reports: {screen}"
        );
        let explained = help
            .lines()
            .filter(|line| !line.is_empty())
            .nth(1)
            .context("a text")?;
        ensure!(screen.contains(explained), "no {explained:?} in:\n{screen}");
        terminal.press(&["e"])?;
        terminal.wait_for(&["[r]*endpoints"])?;

        // While it is paused nothing changes, although calls go on.
        terminal.press(&["s", "Space"])?;
        terminal.wait_for(&["[space] PAUSED", "[s]*shards"])?;
        terminal.stays_for(Duration::from_secs(4))?;
        terminal.press(&["Space"])?;
        let paused = terminal.wait_for(&["[space] pause"])?;
        eventually(PATIENCE, || {
            ensure!(terminal.screen()? != paused, "it stays as it was");
            Ok(())
        })
    })?;
    // A capture that ends is reported, and what is left of it is not shown as present.
    process.terminate(PATIENCE)?;
    let screen = terminal.wait_for(&["no sniffer answers on"])?;
    ensure!(!screen.contains("Mbit/s complete"), "{screen}");
    terminal.press(&["q"])?;
    let screen = terminal.wait_for(&["ended with 0"])?;
    ensure!(
        !screen.contains("[q] quit"),
        "the screen from before is back: {screen}"
    );
    Ok(())
}

/// Two nodes by their metrics ports, one of which does not answer; mirrored traffic with a VNI. With colours and without.
#[test]
fn several_nodes_are_shown_side_by_side() -> Result<()> {
    let scene = Scene::mirrored("10.78.0.2")?;
    let settings = [("NET_DEVICE", "a0"), ("SNIFFER_ENGINE", "vxlan")];
    let capture = scene.capture(&settings)?;
    let appliance = &scene.lab.appliance;
    let words = "--interval 1 --host 127.0.0.1 --host 127.0.0.1:9";
    let terminal = Tmux::start(appliance, &top(words))?;
    let plain = Tmux::start(appliance, &format!("NO_COLOR=1 {}", top(words)))?;
    during_calls(&scene.lab.client, || {
        let screen =
            terminal.wait_for(&["127.0.0.1:7702   up", "127.0.0.1:9   connection refused"])?;
        ensure!(
            screen.contains("node▲") && screen.contains("[n]nodes"),
            "{screen}"
        );
        terminal.press(&["v"])?;
        let screen = terminal.wait_for(&["77 ", "ms"])?;
        assert_eq!(
            shape(line(&screen, "node")?),
            "node▲ vni packets/s calls/s failed p50 p99 half"
        );
        terminal.press(&["h"])?;
        terminal.wait_for(&["no store is named", "--page LINK"])?;
        terminal.press(&["n"])?;
        let screen = terminal.wait_for(&["[n]*nodes", "complete  dropped"])?;
        ensure!(
            line(&screen, "127.0.0.1:9  ")?.ends_with("connection refused"),
            "{screen}"
        );
        plain.wait_for(&["127.0.0.1:7702   up"]).map(drop)
    })?;
    // A destination that takes nothing is red; without colours it is bold.
    scene
        .collector
        .set_behaviour(bench::collect::Behaviour::Refuse(403));
    scene.get("/hello")?;
    for (screen, mark) in [
        (&terminal, "\x1b[38;5;1moutput DOWN"),
        (&plain, "\x1b[1moutput DOWN"),
    ] {
        eventually(PATIENCE, || {
            let coloured = screen.coloured()?;
            ensure!(coloured.contains(mark), "no {mark:?} in {coloured:?}");
            Ok(())
        })?;
    }
    ensure!(!plain.coloured()?.contains("\x1b[38;"));
    plain.press(&["C-c"])?;
    plain.wait_for(&["ended with 0"])?;

    // Without a terminal it is text, and JSON for programs.
    let print = |words: &[&str]| {
        let all = [&["top", "--interval", "1"], words].concat();
        Running::start(&mut appliance.enter(&sniffer(&all)))?.end(PATIENCE)
    };
    let ended = print(&["--host", "127.0.0.1", "--host", "127.0.0.1:9"])?;
    assert_eq!(ended.code()?, 0, "{ended:?}");
    ensure!(
        ended.stderr.contains("E114") && ended.stderr.contains("127.0.0.1:9: connection refused"),
        "{ended:?}"
    );
    ensure!(!ended.stdout.contains('\x1b'), "{ended:?}");
    line(&ended.stdout, "node            vni  packets/s")?;
    let ended = print(&["--json", "--host", "127.0.0.1"])?;
    let shown: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    assert_eq!(shown["networks"][0]["vni"], "77");
    assert_eq!(
        (
            &shown["schema"],
            shown["shards"].as_array().map(Vec::is_empty)
        ),
        (&Value::from(1), Some(false))
    );
    let ended = print(&["--host", "127.0.0.1:9"])?;
    assert_eq!((ended.code()?, ended.stdout.as_str()), (3, ""), "{ended:?}");
    // A port of another service is no node.
    let ended = print(&["--host", "10.78.0.1:22", "--once"])?;
    assert_eq!(ended.code()?, 3, "{ended:?}");
    drop(capture.terminate()?);
    Ok(())
}

/// What it refuses before it begins.
#[test]
fn mistakes_of_the_command_line_are_reported() -> Result<()> {
    let mut many = vec!["top"];
    many.extend(["--host", "h"].repeat(65));
    let ended = sniffer_ends(&many, &[])?;
    ensure!(
        ended.code()? == 2 && ended.stderr.contains("64 at most"),
        "{ended:?}"
    );
    let ended = sniffer_ends(&["top", "--page", "localhost"], &[])?;
    ensure!(ended.stderr.contains("E131"), "{ended:?}");
    let ended = sniffer_ends(&["top", "--interval", "0"], &[])?;
    assert_eq!(ended.code()?, 2, "{ended:?}");
    // A terminal that is none any more: standard output goes to a file, so it prints and ends.
    let mut script = Command::new("sh");
    script.args([
        "-c",
        &format!("{} >/dev/null", top("--control /nonexistent/control")),
    ]);
    let ended = Running::start(&mut script)?.end(PATIENCE)?;
    assert_eq!(ended.code()?, 3, "{ended:?}");
    Ok(())
}
