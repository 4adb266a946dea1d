//! A store in front of a ClickHouse: what of its own traffic is captured (nothing), calls that are moved there, and the page.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::capture::Capture;
use tests::clickhouse::{ClickHouse, HTTP_PORT};
use tests::network::{Lab, Namespace};
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, Running, eventually};
use tests::store;

use crate::all_in_one::AllInOne;

/// Statements that have to come while nothing of them is captured.
const STATEMENTS: u64 = 60;

/// An answer of the API, by the link of the page.
fn get(namespace: &Namespace, link: &str, path: &str) -> Result<Value> {
    let (page, token) = link.split_once("?token=").unwrap_or((link, ""));
    let authorization = format!("Authorization: Bearer {token}");
    let url = format!("{page}api/v1/{path}");
    let text = curl(namespace, &["-f", "-g", "-H", &authorization, &url])?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Waits until the list has so many calls; their URLs.
fn listed(namespace: &Namespace, link: &str, calls: usize) -> Result<Vec<String>> {
    eventually(PATIENCE, || {
        let list = get(namespace, link, "calls?limit=1000")?;
        let urls = list["calls"].as_array().context("calls")?.iter();
        let urls: Vec<_> = urls
            .filter_map(|call| call["url"].as_str().map(str::to_owned))
            .collect();
        ensure!(
            urls.len() == calls,
            "{} calls of {calls}: {urls:?}",
            urls.len()
        );
        Ok(urls)
    })
}

/// Has the store send statements, as an open page does.
fn make_statements(server: &ClickHouse<'_>, namespace: &Namespace, link: &str) -> Result<()> {
    let count = || -> Result<u64> {
        let value = server.sql("SELECT value FROM system.events WHERE event = 'Query'")?;
        Ok(value.parse()?)
    };
    let before = count()?;
    eventually(PATIENCE, || {
        get(namespace, link, "calls")?;
        get(namespace, link, "stats?from=-1h&by=host")?;
        let statements = count()? - before;
        ensure!(statements > STATEMENTS, "{statements} statements");
        Ok(())
    })
}

/// By their addresses: the capture of an all-in-one reads nothing of what its own store and the ClickHouse exchange.
#[test]
fn an_all_in_one_delivers_the_calls_of_clients_and_nothing_of_its_own() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let server = ClickHouse::start(&lab.server)?;
    let settings = server.settings();
    let ports = format!("80,{HTTP_PORT}");
    let mut words = vec!["--on", "--interface", "lo,s0", "--ports", &ports];
    words.extend(settings.iter().map(String::as_str));
    let all = AllInOne::start(&lab.server, &words)?;
    all.wait_for_running()?;
    let link = all.page_link()?;
    for _ in 0..5 {
        curl(&lab.client, &["http://10.77.0.1/hello"])?;
        curl(&lab.server, &["http://127.0.0.1/hello"])?;
    }
    listed(&lab.server, &link, 10)?;
    make_statements(&server, &lab.server, &link)?;
    // The port is read, from elsewhere; and a last call on the loopback comes behind all statements.
    let ping = format!("http://10.77.0.1:{HTTP_PORT}/ping");
    curl(&lab.client, &[&ping])?;
    curl(&lab.server, &["http://127.0.0.1/created"])?;
    let urls = listed(&lab.server, &link, 12)?;
    let of_server: Vec<_> = urls.iter().filter(|url| !url.contains("/hello")).collect();
    ensure!(of_server.len() == 2 && urls.contains(&ping), "{urls:?}");
    let status: Value = serde_json::from_str(&all.control(&["status", "--json"])?.stdout)?;
    let calls = &status["capture"]["calls"];
    ensure!(calls["seen"] == 12 && calls["sent"] == 12, "{calls}");
    let uploads = &status["capture"]["uploads"];
    ensure!(uploads["markers_refused"] == 0, "{uploads}");
    Ok(())
}

/// By their marker: another sniffer sees the statements, on the host of the server or behind a proxy, and takes none for a call.
#[test]
fn a_sniffer_that_sees_the_statements_of_a_store_skips_them() -> Result<()> {
    let lab = Lab::new()?;
    let server = ClickHouse::start(&lab.server)?;
    let data = tempfile::tempdir()?;
    let mut command = store::command(&data.path().join("data"));
    command
        .args(server.settings())
        .env("SNIFFER_UI_TOKEN", "off");
    let mut store = Running::start(&mut lab.server.enter(&command))?;
    store.wait_for_log("store ready", PATIENCE)?;
    let link = "http://127.0.0.1:7700/";
    let port = HTTP_PORT.to_string();
    let settings = [
        ("NET_DEVICE", "lo"),
        ("APP_PORTS", port.as_str()),
        ("USAGE_LOGGERS_RULES", "include debug\nallow_http_url"),
        ("SNIFFER_FLUSH_TIMEOUT", "60s"),
    ];
    let capture = Capture::start(&lab.server, "http://127.0.0.1:7701/message", &settings)?;
    // Calls of somebody else are calls. What they cause, an INSERT, is none.
    let ping = format!("http://127.0.0.1:{HTTP_PORT}/ping");
    for _ in 0..3 {
        curl(&lab.server, &[&ping])?;
    }
    listed(&lab.server, link, 3)?;
    for _ in 0..30 {
        get(&lab.server, link, "calls")?;
    }
    curl(&lab.server, &[&ping])?;
    let urls = listed(&lab.server, link, 4)?;
    ensure!(urls.iter().all(|url| *url == ping), "{urls:?}");
    let status = capture.status()?["capture"].clone();
    let uploads = &status["uploads"];
    ensure!(uploads["other"].as_u64() > Some(STATEMENTS), "{uploads}");
    ensure!(uploads["markers_refused"] == 0, "{uploads}");
    ensure!(uploads.to_string().contains("\"store\""), "{uploads}");
    ensure!(status["calls"]["seen"] == 4, "{}", status["calls"]);
    ensure!(
        server.sql("SELECT count() FROM calls")? == "4",
        "other rows"
    );
    ensure!(capture.terminate()?.code()? == 0, "the capture");
    Ok(())
}

#[test]
fn a_file_of_calls_is_imported_once_and_keeps_its_times() -> Result<()> {
    let lab = Lab::new()?;
    let server = ClickHouse::start(&lab.server)?;
    let now = std::time::UNIX_EPOCH.elapsed()?.as_millis() as u64;
    // Longer ago than a POST may date a call back.
    let time = |number: u64| now - (10 + number % 3) * 86_400_000 - number;
    let mut file = String::new();
    for group in 0..3_u64 {
        file += &format!(
            "{}\n",
            json!({"group": format!("{group:032x}"), "calls": 100})
        );
        for number in group * 100..group * 100 + 100 {
            let line = json!([
                ["request_method", "GET"],
                ["request_url", format!("http://shop.example/{number}")],
                ["now", time(number).to_string()]
            ]);
            file += &format!("{line}\n");
        }
    }
    file += "{\"end\":300,\"after\":300}\n";
    let path = file_of(&file)?;
    for words in ["300 calls imported, 0 were", "0 calls imported, 300 were"] {
        let ended = server.run(&["store", "import", &path.path().display().to_string()])?;
        ensure!(
            ended.code()? == 0 && ended.stdout.contains(words),
            "{ended:?}"
        );
    }
    let counted = server.sql("SELECT count(), uniqExact(path), min(time), max(time) FROM calls")?;
    let first = (0..300).map(time).min().unwrap_or_default();
    let last = (0..300).map(time).max().unwrap_or_default();
    ensure!(counted == format!("300\t300\t{first}\t{last}"), "{counted}");
    ensure!(
        server.sql("SELECT sum(calls_sum) FROM minutes")? == "300",
        "charts"
    );
    Ok(())
}

fn file_of(text: &str) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    Ok(file)
}

/// The page as it is with a file: a list that grows by itself, a call that opens, a filter, charts, an older page of the list.
#[test]
fn the_page_is_usable_in_a_browser() -> Result<()> {
    const ROWS: &str = "#calls tbody tr[data-id]";
    let lab = Lab::new()?;
    let server = ClickHouse::start(&lab.server)?;
    let settings = server.settings();
    let words: Vec<_> = settings.iter().map(String::as_str).collect();
    let all = AllInOne::start(&lab.server, &words)?;
    let now = std::time::UNIX_EPOCH.elapsed()?.as_millis() as u64;
    let post = |numbers: std::ops::Range<u64>| -> Result<()> {
        let lines = numbers.map(|number| {
            let line = json!([
                [
                    "request_method",
                    if number % 3 == 0 { "POST" } else { "GET" }
                ],
                [
                    "request_url",
                    format!("http://shop-{}.example/item/{number}", number % 4)
                ],
                [
                    "response_code",
                    if number % 50 == 7 { "503" } else { "200" }
                ],
                ["response_header:content-type", "application/json"],
                ["response_body", format!("{{\"number\":{number}}}")],
                ["now", (now - 3_000_000 + number * 1000).to_string()],
                ["interval", (number % 90 + 1).to_string()],
                ["host", "edge-1"]
            ]);
            format!("{line}\n")
        });
        let file = file_of(&lines.collect::<String>())?;
        let body = format!("@{}", file.path().display());
        let kind = "Content-Type: application/ndjson";
        let url = "http://127.0.0.1:7701/message";
        let status = curl(
            &lab.server,
            &[
                "-w",
                "%{http_code}",
                "-H",
                kind,
                "--data-binary",
                &body,
                url,
            ],
        )?;
        ensure!(status == "204", "{status}");
        Ok(())
    };
    post(0..2000)?;
    let browser = Browser::open(&lab.server)?;
    browser.visit(&all.page_link()?)?;
    let first = |expected: &str| {
        eventually(PATIENCE, || {
            let row = browser.text(ROWS)?;
            ensure!(row.contains(expected), "{row}");
            Ok(())
        })
    };
    first("/item/1999")?;
    // Live: the page is not loaded again.
    post(2000..2001)?;
    first("/item/2000")?;
    browser.click(ROWS)?;
    eventually(PATIENCE, || {
        let detail = browser.text("#detail")?;
        ensure!(detail.contains("shop-0.example"), "{detail}");
        Ok(())
    })?;
    browser.click("#tab-response")?;
    eventually(PATIENCE, || {
        let body = browser.text("#detail-response")?;
        ensure!(body.contains("2000"), "{body}");
        Ok(())
    })?;
    browser.picture("clickhouse-detail")?;
    browser.replace("#filter", "status >= 500")?;
    first("/item/1957")?;
    browser.replace("#filter", "host == \"shop-2.example\" and \"item/1234\"")?;
    first("/item/1234")?;
    browser.replace("#filter", "method in (GET, POST)")?;
    first("/item/2000")?;
    browser.picture("clickhouse-list")?;
    browser.click("[data-pane=charts]")?;
    eventually(PATIENCE, || {
        let groups = browser.text("#charts-groups")?;
        ensure!(
            groups.contains("item") || groups.contains("shop"),
            "{groups}"
        );
        Ok(())
    })?;
    browser.picture("clickhouse-charts")?;
    Ok(())
}
