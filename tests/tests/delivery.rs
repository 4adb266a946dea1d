//! What it takes to deliver to a collector behind a login or a certificate of its own, and what is shown when it refuses.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Behaviour, Collector};
use serde_json::Value;
use tests::capture::Capture;
use tests::http::request;
use tests::network::Namespace;
use tests::nginx::{Nginx, curl};
use tests::process::{Ended, PATIENCE, Running, eventually, run};
use tests::program::sniffer;

const ON_LOOPBACK: (&str, &str) = ("NET_DEVICE", "lo");

fn collector(namespace: &Namespace) -> Result<Collector> {
    Collector::serve(namespace.inside(|| TcpListener::bind("127.0.0.1:7711"))?)
}

fn warning<'a>(status: &'a Value, code: &str) -> Option<&'a str> {
    let mut warnings = status["warnings"].as_array()?.iter();
    let found = warnings.find(|warning| warning["code"] == code)?;
    found["text"].as_str()
}

/// `sniffer check` in a namespace with a capture URL and more arguments.
fn check(namespace: &Namespace, url: &str, arguments: &[&str]) -> Result<Ended> {
    let mut command = sniffer(&[
        "check",
        "-i",
        "lo",
        "--rules",
        "include debug",
        "--url",
        url,
    ]);
    command.args(arguments);
    Running::start(&mut namespace.enter(&command))?.end(PATIENCE)
}

/// Every light shows that the destination takes nothing, with the total of what is lost, until a bundle is accepted.
#[test]
fn a_refusal_is_in_status_metrics_and_log() -> Result<()> {
    let namespace = Namespace::new("refused")?;
    let _nginx = Nginx::start(&namespace)?;
    let collector = collector(&namespace)?;
    for (status, code, words) in [
        (401, "W043", "it requires credentials"),
        (404, "W044", "nothing takes calls there"),
        (
            413,
            "W049",
            "is too large for it. fix: a smaller --body-limit",
        ),
        (400, "W044", "it does not understand the bundle"),
        (503, "W045", "answered 503"),
    ] {
        let is_final = matches!(status, 400 | 413);
        collector.set_behaviour(Behaviour::Refuse(status));
        let mut capture = Capture::start(&namespace, &collector.url(), &[ON_LOOPBACK])?;
        for _ in 0..3 {
            curl(&namespace, &["http://127.0.0.1/hello"])?;
        }
        capture.wait_for_log(code)?;
        let shown = eventually(PATIENCE, || -> Result<Value> {
            let shown = capture.status()?;
            let text = warning(&shown, code).unwrap_or_default();
            ensure!(text.contains(words), "{status}: {shown}");
            let lost = if is_final { 3 } else { 0 };
            let is_total = text.contains(&format!("{lost} calls dropped so far"));
            ensure!(is_total, "{status}: {text}");
            Ok(shown)
        })?;
        assert_eq!(shown["capture"]["output"]["up"], false, "{status}");
        let text = capture.control(&["status"])?.stdout;
        assert!(text.contains("DOWN: ") && text.contains(words), "{text}");
        let metrics =
            namespace.inside(|| request("127.0.0.1:7702", "GET", "/metrics", &[], b""))?;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        assert!(metrics.contains("\nsniffer_output_up 0\n"), "{status}");
        collector.set_behaviour(Behaviour::Accept);
        curl(&namespace, &["http://127.0.0.1/hello"])?;
        capture.wait_for_log("takes calls again")?;
        let shown = capture.status()?;
        assert_eq!(shown["capture"]["output"]["up"], true, "{status}");
        assert_eq!(warning(&shown, code), None);
        let code = if is_final { 8 } else { 0 };
        capture.stop_with(code)?;
    }
    Ok(())
}

/// Calls that were dropped make the exit code 8, and a destination that is required and down makes it 7.
#[test]
fn a_destination_that_is_required_and_down_is_the_exit_code() -> Result<()> {
    let namespace = Namespace::new("required")?;
    let _nginx = Nginx::start(&namespace)?;
    let short = ("SNIFFER_FLUSH_TIMEOUT", "100ms");
    let required = ("SNIFFER_REQUIRE_OUTPUT", "true");
    for (setting, code) in [(ON_LOOPBACK, 8), (required, 7)] {
        let settings = [ON_LOOPBACK, ("APP_PORTS", "80"), short, setting];
        let rules = ("USAGE_LOGGERS_RULES", "include debug\nallow_http_url");
        let settings = [&settings[..], &[rules]].concat();
        let mut capture = Capture::start(&namespace, "http://127.0.0.1:7799/message", &settings)?;
        curl(&namespace, &["http://127.0.0.1/hello"])?;
        capture.wait_for_log("W042")?;
        capture.stop_with(code)?;
    }
    Ok(())
}

/// A call that is too large for the server before the collector is lost, in whatever bundle it was, and no other.
#[test]
fn a_call_that_is_too_large_for_a_proxy_takes_no_other_along() -> Result<()> {
    const OTHERS: u64 = 16;
    for bundle_size in ["512K", "8M"] {
        let namespace = Namespace::new("large")?;
        let _nginx = Nginx::proxying_at_most(&namespace, 7791, "127.0.0.1:7711", "64k")?;
        let collector = collector(&namespace)?;
        let settings = [
            ON_LOOPBACK,
            ("APP_PORTS", "80"),
            ("USAGE_LOGGERS_BUNDLE_SIZE", bundle_size),
        ];
        let mut capture = Capture::start(&namespace, "http://127.0.0.1:7791/message", &settings)?;
        let hello: Vec<&str> = vec!["http://127.0.0.1/hello"; OTHERS as usize / 2];
        // In one connection, and so within the age of one bundle.
        let large = ["http://127.0.0.1/large.bin", "-o", "/dev/null"];
        curl(&namespace, &[&hello[..], &large[..], &hello[..]].concat())?;
        ensure!(
            collector.wait_for_lines(OTHERS, PATIENCE),
            "{}",
            capture.log()
        );
        capture.wait_for_log("W049")?;
        let shown = capture.status()?;
        let calls = &shown["capture"]["calls"];
        assert_eq!(calls["dropped"]["too_large"], 1, "{shown}");
        assert_eq!(
            (&calls["seen"], &calls["sent"]),
            (&(OTHERS + 1).into(), &OTHERS.into())
        );
        assert_eq!(calls["unaccounted"], 0);
        assert_eq!(shown["capture"]["output"]["up"], true, "{shown}");
        assert!(collector.errors().is_empty(), "{:?}", collector.errors());
        capture.stop_with(8)?;
    }
    Ok(())
}

/// Answers each request with 204, and passes its head on.
fn heads(namespace: &Namespace, port: u16) -> Result<Receiver<String>> {
    let (sender, receiver) = channel();
    namespace.inside(move || -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || answer(client, &sender));
            }
        });
        Ok(())
    })?;
    Ok(receiver)
}

fn answer(mut client: TcpStream, heads: &Sender<String>) -> Option<()> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or(("", ""));
        let mut lines = head.lines().map(str::to_ascii_lowercase);
        let length = lines.find_map(|line| Some(line.strip_prefix("content-length: ")?.to_owned()));
        if length.is_some_and(|length| length.parse() == Ok(body.len())) {
            heads.send(head.to_owned()).ok()?;
            client.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
            if head.to_ascii_lowercase().contains("connection: close") {
                return Some(());
            }
            bytes.clear();
            continue;
        }
        let count = client.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
    }
}

#[test]
fn headers_and_a_password_are_sent_and_shown_nowhere() -> Result<()> {
    let namespace = Namespace::new("login")?;
    let _nginx = Nginx::start(&namespace)?;
    let heads = heads(&namespace, 7711)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("headers");
    fs::write(&file, "X-File: hunter2\n")?;
    let settings = [
        ON_LOOPBACK,
        ("SNIFFER_COMPRESSION", "off"),
        (
            "SNIFFER_HEADERS",
            &format!("X-One: hunter2, a\\nfile://{}", file.display()),
        ),
    ];
    let url = "http://me:hunter2@127.0.0.1:7711/message";
    let capture = Capture::start(&namespace, url, &settings)?;
    curl(&namespace, &["http://127.0.0.1/hello"])?;
    let head = heads.recv_timeout(PATIENCE).context("no post came")?;
    for line in [
        "x-one: hunter2, a",
        "x-file: hunter2",
        "authorization: Basic bWU6aHVudGVyMg==",
    ] {
        assert!(head.lines().any(|is| is == line), "{line}: {head}");
    }
    let shown = [
        capture.control(&["status"])?.stdout,
        capture.status()?.to_string(),
        capture.log(),
    ];
    // Rules are read again although the file of headers is out of reach by now.
    let reloaded = capture.control(&["rules", "reload"])?;
    assert_eq!(reloaded.code()?, 0, "{reloaded:?}");
    capture.stop()?;

    let flags = ["--header", "X-Two: hunter2", "--header", "X-Three: hunter2"];
    let ended = check(&namespace, url, &flags)?;
    let head = heads.recv_timeout(PATIENCE).context("no probe came")?;
    for line in ["x-two: hunter2", "x-three: hunter2", "content-length: 0"] {
        assert!(head.lines().any(|is| is == line), "{line}: {head}");
    }
    let answered = "answered an empty bundle with 204";
    assert!(ended.stdout.contains(answered), "{}", ended.stdout);
    for text in shown.iter().chain([&ended.stdout, &ended.stderr]) {
        assert!(!text.contains("hunter2"), "{text}");
    }
    Ok(())
}

/// A certificate as the usual command makes it, for this name.
fn openssl(folder: &std::path::Path, name: &str, days: &str) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem",
    ]);
    command.args([
        "-out",
        "cert.pem",
        "-days",
        days,
        "-subj",
        &format!("/CN={name}"),
    ]);
    run(command.current_dir(folder)).map(drop)
}

#[test]
fn a_self_signed_certificate_of_openssl_is_trusted_with_ca() -> Result<()> {
    let namespace = Namespace::new("tls")?;
    let collector = collector(&namespace)?;
    let folder = tempfile::tempdir()?;
    openssl(folder.path(), "localhost", "30")?;
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let files = [certificate.as_path(), key.as_path()];
    let _nginx = Nginx::encrypting(&namespace, 7743, "127.0.0.1:7711", files)?;
    let (url, ca) = (
        "https://localhost:7743/message",
        certificate.display().to_string(),
    );
    let trusting = Capture::start(&namespace, url, &[ON_LOOPBACK, ("SNIFFER_CA", &ca)])?;
    curl(&namespace, &["http://127.0.0.1/hello"])?;
    ensure!(collector.wait_for_lines(1, PATIENCE), "{}", trusting.log());
    trusting.stop()?;
    let found = check(&namespace, url, &["--ca", &ca])?;
    // This collector takes no bundle without a line.
    let answered = "answered an empty bundle with 400";
    assert!(found.stdout.contains(answered), "{}", found.stdout);
    for (url, words) in [
        (url, "its certificate is self-signed and not trusted"),
        ("https://localhost:7711/message", "is it an http:// URL?"),
        (
            "http://localhost:7743/message",
            "does the port expect https://?",
        ),
    ] {
        let found = check(&namespace, url, &[])?;
        assert_eq!(found.code()?, 8, "{found:?}");
        assert!(found.stdout.contains(words), "{url}: {}", found.stdout);
    }
    let mut capture = Capture::start(&namespace, url, &[ON_LOOPBACK])?;
    curl(&namespace, &["http://127.0.0.1/hello"])?;
    capture.wait_for_log("W046")?;
    let shown = capture.status()?;
    let text = warning(&shown, "W046").context("no W046 in the status")?;
    assert!(
        text.contains("is self-signed") && text.contains("--ca FILE"),
        "{text}"
    );
    capture.terminate()?;
    Ok(())
}

/// What E041 advises, pasted.
#[test]
fn the_fix_for_plain_http_works() -> Result<()> {
    let url = "http://127.0.0.1:9/message";
    for arguments in [&["--rules", "include standard"][..], &[]] {
        let mut command = sniffer(&["run", "-i", "lo", "--metrics", "off", "--url", url]);
        let ended = Running::start(command.args(arguments))?.end(PATIENCE)?;
        assert_eq!(ended.code()?, 2, "{}", ended.stderr);
        let (_, fix) = ended.stderr.split_once("fix: ").context("no fix")?;
        let fix = fix.lines().next().unwrap_or_default();
        let path = tests::program::sniffer_path();
        let pasted = format!("{} check -i lo --url {url} {fix}", path.display());
        let ended = Running::start(Command::new("sh").args(["-c", &pasted]))?.end(PATIENCE)?;
        assert!(
            ended.stdout.contains("settings: rules"),
            "{fix}: {}",
            ended.stdout
        );
        assert!(!ended.stdout.contains("E041"), "{fix}: {}", ended.stdout);
    }
    Ok(())
}

/// The port of the store belongs to another store: calls go there, also without any setting.
#[test]
fn an_all_in_one_beside_another_store_delivers_to_that() -> Result<()> {
    let namespace = Namespace::new("taken")?;
    let _nginx = Nginx::start(&namespace)?;
    let heads = heads(&namespace, 7701)?;
    let data = tempfile::tempdir()?;
    let control = data.path().join("control").display().to_string();
    let mut command = sniffer(&["all-in-one", "--on", "--control", &control, "-i", "lo"]);
    command
        .args(["--metrics", "off", "--data"])
        .arg(data.path());
    let mut program = Running::start(&mut namespace.enter(&command))?;
    program.wait_for_log("warning[W100]", PATIENCE)?;
    program.wait_for_log("capturing", PATIENCE)?;
    curl(&namespace, &["http://127.0.0.1/hello"])?;
    eventually(PATIENCE, || {
        let head = heads.recv_timeout(PATIENCE)?.to_ascii_lowercase();
        ensure!(!head.contains("content-length: 0"), "{head}");
        Ok(())
    })
    .with_context(|| program.stderr())?;
    program.terminate(PATIENCE)?;
    Ok(())
}
