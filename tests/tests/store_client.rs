//! `sniffer tail`, `query`, `delete`, and `rules test` and `explain`, against a store, over the link of its page.

use std::net::TcpStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Result, ensure};
use serde_json::Value;
use store::{Config, Ready};
use tests::http::request;
use tests::process::{PATIENCE, Running, eventually};
use tests::program::{repository, sniffer, sniffer_ends};

/// A store in this process; ends when dropped.
struct Store {
    ready: Ready,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Store {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut config = Config::new(folder.path());
        config.capture = "127.0.0.1:0".parse()?;
        config.page = "127.0.0.1:0".parse()?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let on_ready = |ready: &Ready| sender.send(ready.clone()).expect("the test waits");
            let stopped = async { drop(stopped.await) };
            store::run_until(config, on_ready, stopped).expect("runs");
        });
        Ok(Self {
            ready: receiver.recv_timeout(PATIENCE)?,
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        })
    }

    fn post(&self, url: &str, status: &str) -> Result<()> {
        let line = serde_json::json!([
            ["request_method", "GET"],
            ["request_url", url],
            ["response_code", status]
        ]);
        let address = self.ready.capture.to_string();
        let headers = [("Content-Type", "application/ndjson")];
        let body = format!("{line}\n");
        let answer = request(&address, "POST", "/message", &headers, body.as_bytes())?;
        ensure!(answer.status == 204, "{}", answer.status);
        Ok(())
    }

    fn run(&self, words: &[&str]) -> Result<tests::process::Ended> {
        let link = self.ready.page_link();
        let mut all = words.to_vec();
        all.extend(["--page", &link]);
        sniffer_ends(&all, &[])
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// `sniffer rules test` and `explain` without a capture file.
#[test]
fn rules_are_tried_on_the_newest_calls() -> Result<()> {
    const RULES: &str = "/request_url/ stop_if_found /health/\n/response_code/ remove\n/request_url/ replace /[0-9]+/, /#/";
    let store = Store::start()?;
    store.post("http://shop/orders/17", "201")?;
    store.post("http://shop/health", "200")?;
    let tested = store.run(&["rules", "test", "--rules", RULES])?;
    assert_eq!(tested.code()?, 0, "{tested:?}");
    for expected in [
        "call 1  GET http://shop/health  200  DROPPED  (line 1",
        "~ request_url                      http://shop/orders/17",
        "- response_code                    201",
        "2 calls: 1 kept, 1 stopped, 0 with nothing left, 0 sampled out",
    ] {
        assert!(
            tested.stdout.contains(expected),
            "{expected}: {}",
            tested.stdout
        );
    }
    let words = [
        "rules",
        "explain",
        "--rules",
        RULES,
        "--where",
        "path~orders",
    ];
    let explained = store.run(&words)?;
    let lines: Vec<_> = explained.stdout.lines().map(str::trim_end).collect();
    let expected = [
        "call 1  GET http://shop/orders/17  201",
        "  line 2    removes  response_code                    201",
        "  line 3    changes  request_url                      http://shop/orders/17",
        "            into                                      http://shop/orders/#",
        "",
        "1 call: 1 kept, 0 stopped, 0 with nothing left, 0 sampled out",
    ];
    assert_eq!(lines[..6], expected, "{lines:#?}");
    let refused = store.run(&["rules", "test", "--where", "status=="])?;
    ensure!(refused.stderr.contains("E130"), "{refused:?}");
    Ok(())
}

#[test]
fn the_calls_of_a_store_are_listed_queried_and_deleted() -> Result<()> {
    let store = Store::start()?;
    for number in 0..3 {
        store.post(&format!("http://api.shop/{number}"), "200")?;
    }
    store.post("http://pay.shop/\u{1b}[31m\u{202e}", "503")?;

    let listed = store.run(&["tail", "-n", "2"])?;
    ensure!(listed.code()? == 0, "{listed:?}");
    let lines: Vec<&str> = listed.stdout.lines().collect();
    ensure!(lines.len() == 2, "{listed:?}");
    ensure!(lines[0].contains("http://api.shop/2") && lines[1].contains("503"));
    ensure!(
        !listed.stdout.contains(['\u{1b}', '\u{202e}']),
        "{listed:?}"
    );
    let json = store.run(&["tail", "--json", "status==200 and", "host==api.shop"])?;
    let calls: Vec<Value> = json
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(calls.len() == 3 && calls[0]["path"] == "/0", "{json:?}");
    let wrong = store.run(&["tail", "statsu>1"])?;
    ensure!(
        wrong.code()? == 2 && wrong.stderr.contains("error[E130]"),
        "{wrong:?}"
    );

    let sql = "SELECT host, count(*) AS calls FROM calls GROUP BY host ORDER BY host";
    let rows = store.run(&["query", sql])?;
    ensure!(
        rows.stdout == "host      calls\napi.shop  3\npay.shop  1\n",
        "{rows:?}"
    );
    let some = store.run(&["query", sql, "--where", "status>=500", "--json"])?;
    let some: Value = serde_json::from_str(&some.stdout)?;
    ensure!(
        some["rows"] == serde_json::json!([["pay.shop", 1]]),
        "{some}"
    );
    let refused = store.run(&["query", "DELETE FROM calls"])?;
    ensure!(
        refused.code()? == 2 && refused.stderr.contains("error[E132]"),
        "{refused:?}"
    );

    // Nobody is at a terminal who could confirm.
    let asked = store.run(&["delete", "host==api.shop", "--from", "-1h"])?;
    ensure!(
        asked.code()? == 2 && asked.stderr.contains("3 calls"),
        "{asked:?}"
    );
    let deleted = store.run(&["delete", "host==api.shop", "--from", "-1h", "--yes"])?;
    ensure!(deleted.stdout == "3 calls deleted\n", "{deleted:?}");
    let left = store.run(&["tail"])?;
    ensure!(left.stdout.lines().count() == 1, "{left:?}");
    Ok(())
}

#[test]
fn calls_are_followed_as_they_come() -> Result<()> {
    let store = Store::start()?;
    store.post("http://api.shop/first", "200")?;
    let link = store.ready.page_link();
    let words = ["tail", "-f", "--json", "--page", &link, "path~^/"];
    let tail = Running::start(&mut sniffer(&words))?;
    let has = |path: &str| {
        eventually(PATIENCE, || {
            let shown = tail.stdout();
            ensure!(shown.contains(&format!("\"path\":\"{path}\"")), "{shown}");
            Ok(())
        })
    };
    has("/first")?;
    store.post("http://api.shop/second", "200")?;
    has("/second")?;
    Ok(())
}

#[test]
fn without_a_store_there_is_a_reason() -> Result<()> {
    // A port that nobody listens on: one that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    ensure!(TcpStream::connect(free).is_err(), "nobody listens");
    let link = format!("http://{free}/");
    let ended = sniffer_ends(&["tail", "--page", &link], &[])?;
    ensure!(ended.code()? == 4, "{ended:?}");
    ensure!(ended.stderr.contains("error[E131]"), "{ended:?}");
    let unlinked = sniffer_ends(&["tail", "--page", "localhost"], &[])?;
    let text = unlinked.stderr;
    ensure!(text.contains("is not the link of a page"), "{text}");
    Ok(())
}

/// The same of a capture file: with session fields, and with packets.
#[test]
fn rules_are_explained_on_a_capture_file() -> Result<()> {
    let folder = repository().join("tests/golden/masked");
    let capture = folder.join("traffic.pcap").display().to_string();
    let rules = format!("file://{}", folder.join("rules.txt").display());
    let explained = sniffer_ends(&["rules", "explain", &capture, "--rules", &rules], &[])?;
    assert_eq!(explained.code()?, 0, "{explained:?}");
    for expected in [
        "removes  request_header:",
        "changes  request_body ",
        "into ",
        "stops    request_url",
    ] {
        ensure!(
            explained.stdout.contains(expected),
            "{expected}: {}",
            explained.stdout
        );
    }
    ensure!(
        !explained.stdout.contains("differs"),
        "{}",
        explained.stdout
    );
    let tested = sniffer_ends(&["rules", "test", &capture, "--rules", &rules], &[])?;
    let last = |text: &str| text.rsplit("kept,").next().map(str::to_owned);
    assert_eq!(last(&explained.stdout), last(&tested.stdout));
    Ok(())
}
