//! Real clients and servers of HTTP/2, gRPC, Connect, WebSocket and event streams, live: each call that a client saw is one
//! line, with what the client saw in it, and there is no other line. Here belongs what depends on how peers of the field
//! behave; `http2` has what frames do.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bench::collect::{Row, value};
use serde_json::Value;
use tests::browser::Browser;
use tests::capture::find;
use tests::clients::{Seen, calls_of, compare, node, python, serve};
use tests::network::Namespace;
use tests::process::{PATIENCE, Running, eventually, run};
use tests::scene::Scene;

/// Where the server is, for the client.
const HOST: &str = "10.77.0.1";

/// What is captured.
#[derive(Clone, Copy)]
enum Wire {
    /// The packets on the server.
    Plain,
    /// Their copies in VXLAN.
    Vxlan,
}

/// Settings of all captures here.
const SETTINGS: [(&str, &str); 3] = [
    ("SNIFFER_ANNOTATE", "true"),
    ("SNIFFER_HALF_CALLS", "true"),
    ("SNIFFER_WEBSOCKET", "true"),
];

/// What was delivered, and the status before the end.
struct Captured {
    rows: Vec<Row>,
    status: Value,
}

/// Captures while `work` runs, in `scene`.
fn capture<T>(
    scene: &Scene,
    wire: Wire,
    work: impl FnOnce(&Scene) -> Result<T>,
) -> Result<(T, Captured)> {
    let mut settings = SETTINGS.to_vec();
    settings.extend(match wire {
        Wire::Plain => vec![("NET_DEVICE", "s0")],
        Wire::Vxlan => vec![("NET_DEVICE", "a0"), ("SNIFFER_ENGINE", "vxlan")],
    });
    let capture = scene.capture(&settings)?;
    let done = work(scene)?;
    let status = capture.status()?;
    capture.stop()?;
    let rows = scene.collector.rows();
    Ok((done, Captured { rows, status }))
}

/// A server, a client that reports its calls, and the comparison of these with the lines.
fn check(
    wire: Wire,
    server: impl FnOnce(&Namespace) -> Result<Command>,
    client: impl FnOnce(&Namespace) -> Result<Command>,
) -> Result<Vec<Row>> {
    let scene = match wire {
        Wire::Plain => Scene::without_nginx()?,
        Wire::Vxlan => Scene::mirrored("10.78.0.2")?,
    };
    let server = serve(&mut server(&scene.lab.server)?)?;
    let (calls, captured) = capture(&scene, wire, |scene| {
        calls_of(&mut client(&scene.lab.client)?)
    })?;
    compare(&calls, &captured.rows).with_context(|| server.stderr())?;
    Ok(captured.rows)
}

/// The names of these calls: method and path.
fn targets(rows: &[Row]) -> Vec<String> {
    let path = |row: &Row| {
        let url = value(row, "request_url").unwrap_or("-");
        url.split_once("//")
            .map_or(url, |(_, rest)| rest)
            .to_owned()
    };
    let method = |row: &Row| value(row, "request_method").unwrap_or("-").to_owned();
    rows.iter()
        .map(|row| format!("{} {}", method(row), path(row)))
        .collect()
}

#[test]
fn node_calls_node_over_http2() -> Result<()> {
    // One seed for each run would find more, and could not be repeated.
    let seed = std::env::var("CLIENTS_SEED").unwrap_or_else(|_| "1".to_owned());
    let streams = std::env::var("CLIENTS_STREAMS").unwrap_or_else(|_| "40".to_owned());
    let url = format!("http://{HOST}:8001");
    let rows = check(
        Wire::Plain,
        |server| node(server, "http2.js", &["server", "8001"]),
        |client| node(client, "http2.js", &["client", &url, &seed, "5", &streams]),
    )?;
    let has = |name: &str| rows.iter().filter(|row| value(row, name).is_some()).count();
    for name in ["pushed", "reset", "half"] {
        ensure!(has(&format!("custom_field:{name}")) > 0, "none is {name}");
    }
    Ok(())
}

#[test]
fn grpc_of_python_in_a_mirror() -> Result<()> {
    let address = format!("{HOST}:50051");
    let rows = check(
        Wire::Vxlan,
        |server| python(server, "grpc_calls.py", &["server", "50051"]),
        |client| python(client, "grpc_calls.py", &["client", &address]),
    )?;
    let mirrored = |row: &&Row| value(row, "custom_field:vni") == Some("77");
    ensure!(rows.iter().filter(mirrored).count() == rows.len());
    Ok(())
}

#[test]
fn grpc_of_node_calls_that_of_python() -> Result<()> {
    let address = format!("{HOST}:50052");
    let rows = check(
        Wire::Plain,
        |server| python(server, "grpc_calls.py", &["server", "50052"]),
        |client| node(client, "rpc.js", &["grpc-js", &address]),
    )?;
    ensure!(rows.len() == 23, "{:?}", targets(&rows));
    Ok(())
}

/// Connect, gRPC and gRPC-Web, over HTTP/1.1 and HTTP/2, with messages of protobuf and of JSON.
#[test]
fn the_three_protocols_of_connect() -> Result<()> {
    let rows = check(
        Wire::Plain,
        |server| node(server, "rpc.js", &["server", "8002", "8003"]),
        |client| node(client, "rpc.js", &["client", HOST, "8002", "8003"]),
    )?;
    ensure!(rows.len() >= 50, "{:?}", targets(&rows));
    Ok(())
}

#[test]
fn websockets_of_node() -> Result<()> {
    let authority = format!("{HOST}:8004");
    let rows = check(
        Wire::Plain,
        |server| node(server, "web.js", &["server", "8004"]),
        |client| node(client, "web.js", &["client", &authority]),
    )?;
    ensure!(rows.len() == 16, "{:?}", targets(&rows));
    Ok(())
}

#[test]
fn a_browser_with_a_websocket_and_an_event_stream() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let _server = serve(&mut node(&scene.lab.server, "web.js", &["server", "8005"])?)?;
    let browser = Browser::open(&scene.lab.client)?;
    let (seen, captured) = capture(&scene, Wire::Plain, |_| {
        browser.visit(&format!("http://{HOST}:8005/"))?;
        eventually(PATIENCE, || {
            let seen = browser.script("return window.seen")?;
            ensure!(seen["done"] == 3, "{seen}");
            Ok(seen)
        })
    })?;
    let texts = |name: &str| -> Result<Vec<String>> {
        let list = seen[name].as_array().context("a list")?.iter();
        Ok(list
            .map(|text| text.as_str().unwrap_or("-").to_owned())
            .collect())
    };
    // As the page shows them: an object as it is, text as a string.
    let shown = |texts: Vec<String>| {
        let text = |text: String| match text.starts_with('{') {
            true => text,
            false => Value::String(text).to_string(),
        };
        format!(
            "[{}]",
            texts.into_iter().map(text).collect::<Vec<_>>().join(",")
        )
    };
    let events = texts("events")?;
    ensure!(events.len() == 4 && texts("messages")?.len() == 3, "{seen}");
    let stream: String = (1..).zip(&events).fold(String::new(), |body, (id, data)| {
        format!("{body}id: {id}\ndata: {data}\n\n")
    });
    let call = |method: &str, path: &str, code: &str, more: Vec<(&str, String)>| {
        let mut details = vec![
            ("request_method", method.to_owned()),
            ("request_url", format!("http://{HOST}:8005{path}")),
            ("response_code", code.to_owned()),
        ];
        details.extend(more);
        let details = details
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        Seen {
            details: details.collect(),
            ..Seen::default()
        }
    };
    let text = |text: &str| text.to_owned();
    let mut calls = vec![
        call("GET", "/", "200", vec![]),
        call(
            "GET",
            "/socket",
            "101",
            vec![("request_param:from", text("page"))],
        ),
        call(
            "GET",
            "/socket",
            "101",
            vec![
                ("custom_field:stream", text("websocket")),
                ("request_body", shown(texts("sent")?)),
                ("response_body", shown(texts("messages")?)),
                ("custom_field:websocket_close_code", text("4000")),
                ("custom_field:websocket_close_by", text("client")),
            ],
        ),
        call(
            "GET",
            "/events",
            "200",
            vec![
                (
                    "response_body",
                    format!("{stream}event: end\ndata: bye\n\n"),
                ),
                ("custom_field:sse_events", text("5")),
                ("custom_field:stream_end", text("done")),
            ],
        ),
        call(
            "POST",
            "/api",
            "200",
            vec![
                ("request_body", text("{\"asked\":true}")),
                (
                    "response_body",
                    seen["api"].as_str().unwrap_or("-").to_owned(),
                ),
            ],
        ),
    ];
    // A browser may ask for an icon, too.
    let icon = format!("http://{HOST}:8005/favicon.ico");
    if captured
        .rows
        .iter()
        .any(|row| value(row, "request_url") == Some(&icon))
    {
        calls.push(call("GET", "/favicon.ico", "404", vec![]));
    }
    compare(&calls, &captured.rows)
}

/// The answers of a language model, whole and as a stream of events, to PyPI's `openai`.
#[test]
fn a_client_of_language_models() -> Result<()> {
    let authority = format!("{HOST}:8006");
    let rows = check(
        Wire::Plain,
        |server| python(server, "models.py", &["server", "8006"]),
        |client| python(client, "models.py", &["client", &authority]),
    )?;
    let mut ends: Vec<_> = rows
        .iter()
        .filter_map(|row| value(row, "custom_field:stream_end"))
        .collect();
    ends.sort_unstable();
    ensure!(rows.len() == 4 && ends == ["done", "error"], "{ends:?}");
    Ok(())
}

/// The Model Context Protocol of PyPI's `mcp`, in the revision that has its methods in headers and in the one before, whose
/// answers are streams of events and whose session has one that stays open.
#[test]
fn a_client_of_tools() -> Result<()> {
    let authority = format!("{HOST}:8013");
    let rows = check(
        Wire::Plain,
        |server| python(server, "tools.py", &["server", "8013"]),
        |client| python(client, "tools.py", &["client", &authority]),
    )?;
    let calls = |operation: &str| {
        let rows = rows.iter();
        rows.filter(|row| value(row, "custom_field:operation") == Some(operation))
            .count()
    };
    ensure!(
        calls("tools/call weather") == 2 && calls("tools/call fail") == 2,
        "{:?}",
        targets(&rows)
    );
    ensure!(calls("server/discover") == 1 && calls("initialize") == 1);
    let with_errors = rows
        .iter()
        .filter(|row| value(row, "custom_field:application_errors") == Some("1"));
    ensure!(with_errors.count() == 2, "of both tools that fail");
    Ok(())
}

/// A response of curl with its heads (`-i`), and what was sent.
fn curl(client: &Namespace, words: &[&str], method: &str, url: &str, body: &str) -> Result<Seen> {
    let mut command = client.command("curl");
    command.args(["-sS", "--max-time", "20", "-i"]).args(words);
    let output = run(command.arg(url))?;
    let mut rest = output.as_str();
    // Interim responses come first, the switch of an upgrade among them.
    let (code, fields) = loop {
        let (head, behind) = rest.split_once("\r\n\r\n").context("a head")?;
        rest = behind;
        let (status, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        let code = status.split(' ').nth(1).context("a status")?;
        if !code.starts_with('1') {
            break (code.to_owned(), fields.to_owned());
        }
    };
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let mut details = vec![
        ("request_method".to_owned(), method.to_owned()),
        ("request_url".to_owned(), url.to_owned()),
        ("response_code".to_owned(), code),
    ];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').context("a parameter")?;
        details.push((format!("request_param:{name}"), value.to_owned()));
    }
    for field in fields.lines() {
        let (name, value) = field.split_once(": ").context("a field")?;
        details.push((
            format!("response_header:{}", name.to_lowercase()),
            value.to_owned(),
        ));
    }
    for (key, body) in [("request_body", body), ("response_body", rest)] {
        if !body.is_empty() {
            details.push((key.to_owned(), body.to_owned()));
        }
    }
    Ok(Seen {
        details,
        whole: vec!["response".to_owned()],
        absent: vec!["custom_field:incomplete".to_owned()],
        ..Seen::default()
    })
}

/// The files of a server, by name.
fn files(folder: &std::path::Path) -> Result<()> {
    fs::write(folder.join("small.txt"), "a small file\n")?;
    fs::write(
        folder.join("medium.txt"),
        "a line of a file\n".repeat(1_000),
    )?;
    fs::write(
        folder.join("large.txt"),
        "a line of a large file\n".repeat(20_000),
    )?;
    Ok(fs::write(
        folder.join("style.css"),
        "body { color: black }\n",
    )?)
}

/// nghttpd with padding, trailers, pushes and the given options, in a folder with these files.
fn nghttpd(
    server: &Namespace,
    folder: &std::path::Path,
    port: &str,
    words: &[&str],
) -> Result<Running> {
    files(folder)?;
    let mut command = server.command("nghttpd");
    command.args(["--no-tls", "--verbose"]).args(words);
    let running = Running::start(command.arg("-d").arg(folder).arg(port))?;
    answers(server, port)?;
    Ok(running)
}

/// Waits until something accepts connections there.
fn answers(server: &Namespace, port: &str) -> Result<()> {
    let address = format!("127.0.0.1:{port}");
    let connect = || {
        Ok(server
            .inside(|| std::net::TcpStream::connect(&address))
            .map(drop)?)
    };
    eventually(PATIENCE, connect)
}

#[test]
fn curl_by_prior_knowledge_and_by_upgrade() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let folder = tempfile::tempdir()?;
    let server = &scene.lab.server;
    let _nghttpd = nghttpd(
        server,
        folder.path(),
        "8007",
        &["--padding=200", "--echo-upload"],
    )?;
    // nghttpx answers an upgrade; behind it, on loopback, is nghttpd again.
    let mut proxy = server.command("nghttpx");
    proxy.args([
        "--frontend=*,8008;no-tls",
        "--backend=127.0.0.1,8007;;proto=h2",
    ]);
    proxy.args(["--conf=/dev/null", "--workers=1"]);
    let _nghttpx = Running::start(&mut proxy)?;
    answers(server, "8008")?;
    let (calls, captured) = capture(&scene, Wire::Plain, |scene| {
        let client = &scene.lab.client;
        let mut calls = Vec::new();
        for (port, how) in [("8007", "--http2-prior-knowledge"), ("8008", "--http2")] {
            let at = |path: &str| format!("http://{HOST}:{port}{path}");
            calls.push(curl(client, &[how], "GET", &at("/small.txt?a=1"), "")?);
            // This version of curl fails where more than 32 KiB come with the answer to an upgrade.
            let (file, copies) = if how == "--http2" {
                ("/medium.txt", 900)
            } else {
                ("/large.txt", 9_000)
            };
            calls.push(curl(client, &[how], "GET", &at(file), "")?);
            calls.push(curl(client, &[how], "GET", &at("/none"), "")?);
            calls.push(curl(client, &[how, "-I"], "HEAD", &at("/large.txt"), "")?);
            // Larger than the window of a new connection; over HTTP/1.1 before it is upgraded.
            let long = "sent by curl ".repeat(copies);
            let words = [how, "-d", long.as_str()];
            calls.push(curl(client, &words, "POST", &at("/echo"), &long)?);
        }
        Ok(calls)
    })?;
    compare(&calls, &captured.rows)?;
    let http = &captured.status["capture"]["stages"]["http"];
    let upgraded = find(http, "flows_http2_upgraded");
    ensure!(upgraded >= Some(4), "{http}");
    Ok(())
}

/// What nghttp wrote about its requests and the responses, pushed ones among them.
fn har(text: &str) -> Result<Vec<Seen>> {
    let har: Value = serde_json::from_str(text)?;
    let entries = har["log"]["entries"].as_array().context("entries")?;
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let seen = |entry: &Value| {
        let [request, response] = [&entry["request"], &entry["response"]];
        let mut details = vec![
            ("request_method".to_owned(), text(&request["method"])),
            ("request_url".to_owned(), text(&request["url"])),
            ("response_code".to_owned(), response["status"].to_string()),
        ];
        // Nor has it the method of what was pushed, and trailers of requests.
        if details[0].1.is_empty() {
            "GET".clone_into(&mut details[0].1);
        }
        if details[0].1 == "POST" {
            details.push(("request_header:x-sent".to_owned(), "a trailer".to_owned()));
        }
        for (side, message) in [("request", request), ("response", response)] {
            let fields = message["headers"].as_array();
            for field in fields.into_iter().flatten() {
                let name = text(&field["name"]);
                // It has no trailers, but the header that announces them.
                if name == "trailer" {
                    details.push(("response_header:x-sum".to_owned(), "a sum".to_owned()));
                } else if !name.starts_with(':') {
                    details.push((format!("{side}_header:{name}"), text(&field["value"])));
                }
            }
        }
        Seen {
            details,
            whole: vec!["request".to_owned(), "response".to_owned()],
            absent: vec!["custom_field:incomplete".to_owned()],
            ..Seen::default()
        }
    };
    Ok(entries.iter().map(seen).collect())
}

#[test]
fn nghttp_with_padding_continuation_push_and_trailers() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let folder = tempfile::tempdir()?;
    let words = [
        "--padding=255",
        "--trailer=x-sum: a sum",
        "--push=/small.txt=/style.css",
        "--echo-upload",
        "--header-table-size=300",
    ];
    let _nghttpd = nghttpd(&scene.lab.server, folder.path(), "8009", &words)?;
    let posted = folder.path().join("posted");
    fs::write(&posted, "sent by nghttp ".repeat(7_000))?;
    let posted = posted.display().to_string();
    let (calls, captured) = capture(&scene, Wire::Plain, |scene| {
        let url = |path: &str| format!("http://{HOST}:8009{path}");
        let [small, large, echo] = ["/small.txt", "/large.txt", "/echo"].map(url);
        let runs: [&[&str]; 4] = [
            &["--continuation", "--padding=200", &small],
            // Sizes of the table that fall and rise.
            &[
                "-m",
                "9",
                "-c",
                "0",
                "-c",
                "4K",
                "-H",
                "x-many: a field",
                &large,
            ],
            &[
                "--trailer=x-sent: a trailer",
                "--expect-continue",
                "-d",
                &posted,
                &echo,
            ],
            &[
                "--no-push",
                "--no-dep",
                "--encoder-header-table-size=100",
                &small,
                &large,
            ],
        ];
        let mut calls = Vec::new();
        for words in runs {
            let mut command = scene.lab.client.command("nghttp");
            let text = run(command.args(["-n", "--har=-"]).args(words))?;
            calls.extend(har(&text)?);
        }
        Ok(calls)
    })?;
    compare(&calls, &captured.rows)?;
    let pushed = |row: &&Row| value(row, "custom_field:pushed").is_some();
    let pushed: Vec<_> = captured.rows.iter().filter(pushed).collect();
    ensure!(
        pushed.len() == 1 && value(pushed[0], "response_body") == Some("body { color: black }\n")
    );
    let of = |path: &str| {
        let url = format!("http://{HOST}:8009{path}");
        let rows = captured.rows.iter();
        rows.filter(move |row| value(row, "request_url") == Some(&url))
    };
    let posted = fs::read_to_string(posted)?;
    let echo = of("/echo").next().context("the echo")?;
    ensure!(
        value(echo, "request_body") == Some(&posted)
            && value(echo, "response_body") == Some(&posted)
    );
    ensure!(
        value(echo, "request_header:x-sent") == Some("a trailer"),
        "{echo:.500?}"
    );
    let large = fs::read_to_string(folder.path().join("large.txt"))?;
    ensure!(of("/large.txt").all(|row| value(row, "response_body") == Some(&large)));
    ensure!(of("/large.txt").all(|row| value(row, "response_header:x-sum") == Some("a sum")));
    Ok(())
}

/// A load of many connections with many streams, in a mirror: each call once, and each whole.
#[test]
fn h2load_in_a_mirror() -> Result<()> {
    let scene = Scene::mirrored("10.78.0.2")?;
    let folder = tempfile::tempdir()?;
    let _nghttpd = nghttpd(&scene.lab.server, folder.path(), "8010", &["--padding=31"])?;
    let (output, captured) = capture(&scene, Wire::Vxlan, |scene| {
        let mut command = scene.lab.client.command("h2load");
        command.args([
            "-n",
            "1500",
            "-c",
            "10",
            "-m",
            "50",
            "-H",
            "x-load: the same",
        ]);
        let urls = ["/small.txt", "/style.css", "/none"];
        run(command.args(urls.map(|path| format!("http://{HOST}:8010{path}"))))
    })?;
    ensure!(
        output.contains("1500 done") && output.contains("0 errored"),
        "{output}"
    );
    // It reports `status codes: 1000 2xx, 0 3xx, 500 4xx, 0 5xx`.
    let class = |class: char| {
        let rows = captured.rows.iter();
        let code =
            |row: &&Row| value(row, "response_code").is_some_and(|code| code.starts_with(class));
        format!("{} {class}xx", rows.filter(code).count())
    };
    for class in ['2', '3', '4', '5'].map(class) {
        ensure!(output.contains(&class), "{class} in the lines: {output}");
    }
    for (path, body) in [
        ("/small.txt", "a small file\n"),
        ("/style.css", "body { color: black }\n"),
    ] {
        let url = format!("http://{HOST}:8010{path}");
        let rows = captured.rows.iter();
        let whole = rows.filter(|row| {
            value(row, "request_url") == Some(&url)
                && value(row, "response_body") == Some(body)
                && value(row, "request_header:x-load") == Some("the same")
        });
        ensure!(whole.count() == 500, "{path}");
    }
    Ok(())
}

/// A client that keeps one connection and calls whenever it reads a line.
struct Late {
    process: Running,
    input: std::io::PipeWriter,
    rounds: usize,
}

impl Late {
    fn start(command: &mut Command) -> Result<Self> {
        let (reader, input) = std::io::pipe()?;
        let process = Running::start_fed(command, reader.into())?;
        let mut late = Self {
            process,
            input,
            rounds: 0,
        };
        late.wait()?;
        Ok(late)
    }

    fn wait(&mut self) -> Result<()> {
        self.rounds += 1;
        eventually(PATIENCE, || {
            let stderr = self.process.stderr();
            ensure!(stderr.matches("round ").count() >= self.rounds, "{stderr}");
            Ok(())
        })
    }

    fn round(&mut self) -> Result<()> {
        self.input.write_all(b"\n")?;
        self.wait()
    }

    /// All calls, and how many of them were made before the capture.
    fn end(self) -> Result<Vec<Seen>> {
        drop(self.input);
        tests::clients::seen(&self.process.end(PATIENCE)?)
    }
}

/// The first detail of a line that its client did not see.
fn unseen<'a>(call: &Seen, row: &'a Row) -> Option<&'a (String, String)> {
    row.iter().find(|detail| {
        let (key, value) = detail;
        if key.ends_with("_body") {
            let mut bodies = call.details.iter().filter(|(other, _)| other == key);
            return match bodies.next() {
                Some((_, body)) => !is_part(value, body),
                // Of a stream that was reset the client may not have seen all that was sent.
                None => call.absent.contains(key),
            };
        }
        // gRPC writes what is left of the deadline, which the client does not see.
        let is_compared = key != "request_header:grpc-timeout"
            && (key.contains("_header:")
                || key.starts_with("request_param:")
                || key == "response_code");
        is_compared && !call.details.contains(detail)
    })
}

/// Whether a line may be of this call, by what it has of its number and its URL.
fn may_be_of(call: &Seen, row: &Row) -> bool {
    let is_of = |name: &str| {
        let Some(of_row) = value(row, name) else {
            return true;
        };
        // Of an URL without an authority the rest is known.
        let rest = of_row.strip_prefix("http:///");
        call.details.iter().any(|(key, value)| {
            let ends = |rest: &str| value.ends_with(&format!("/{rest}"));
            key == name && (value == of_row || rest.is_some_and(ends))
        })
    };
    is_of("request_header:x-call") && is_of("request_url")
}

/// Nothing is in the lines that the client did not see, where the capture lacks a part of what was sent. Returns how many
/// lines have all of it.
fn compare_what_is_known(calls: &[Seen], rows: &[Row]) -> Result<usize> {
    let mut whole = 0;
    for row in rows {
        let candidates = calls.iter().filter(|call| may_be_of(call, row));
        let unseen: Vec<_> = candidates.map(|call| (unseen(call, row), call)).collect();
        let Some((_, call)) = unseen.iter().find(|(unseen, _)| unseen.is_none()) else {
            let unseen: Vec<_> = unseen.iter().map(|(unseen, _)| unseen).collect();
            bail!("{:?}: {unseen:.1000?}", value(row, "request_url"));
        };
        whole += usize::from(call.details.iter().all(|detail| row.contains(detail)));
    }
    Ok(whole)
}

/// Whether `part` is `whole` without some of its bytes. Only ASCII is compared: what is left of two characters on both sides of
/// a hole may be a third one.
fn is_part(part: &str, whole: &str) -> bool {
    let mut rest = whole.bytes();
    let mut bytes = part.bytes().filter(u8::is_ascii);
    bytes.all(|byte| rest.any(|other| other == byte))
}

/// The capture begins within a connection whose tables are filled: what refers to them is unknown and left out, what is
/// sent anew is read, and nothing is guessed.
#[test]
fn a_capture_that_joins_late() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let server = &scene.lab.server;
    let _http2 = serve(&mut node(server, "http2.js", &["server", "8011"])?)?;
    let _grpc = serve(&mut python(server, "grpc_calls.py", &["server", "50053"])?)?;
    let client = &scene.lab.client;
    let url = format!("http://{HOST}:8011");
    let mut by_node = Late::start(&mut node(client, "http2.js", &["late", &url])?)?;
    let address = format!("{HOST}:50053");
    let mut by_grpc = Late::start(&mut python(client, "grpc_calls.py", &["late", &address])?)?;
    let ((by_node, by_grpc), captured) = capture(&scene, Wire::Plain, |_| {
        for _ in 0..3 {
            by_node.round()?;
            by_grpc.round()?;
        }
        Ok((by_node.end()?, by_grpc.end()?))
    })?;
    ensure!(by_node.len() == 8 && by_grpc.len() == 8);
    // Three rounds of two calls, by each client.
    let rows = &captured.rows;
    ensure!(rows.len() == 12, "{:?}", targets(rows));
    let calls: Vec<Seen> = by_node[2..].iter().chain(&by_grpc[2..]).cloned().collect();
    compare_what_is_known(&calls, rows)?;
    // A path that is sent anew is known, though the authority is not.
    let urls: Vec<_> = rows
        .iter()
        .filter_map(|row| value(row, "request_url"))
        .collect();
    for path in [
        "/new/1",
        "/new/2",
        "/new/3",
        "/lab.v1.Lab/New3",
        "/lab.v1.Lab/New5",
        "/lab.v1.Lab/New7",
    ] {
        ensure!(
            urls.contains(&&*format!("http://{path}")),
            "{path}: {urls:?}"
        );
    }
    let unknown = rows
        .iter()
        .filter(|row| value(row, "custom_field:unknown_fields").is_some());
    ensure!(unknown.count() == 12);
    let text = format!("{rows:?}");
    ensure!(
        !text.contains("of the table"),
        "a value whose name is unknown"
    );
    Ok(())
}

/// A mirror that loses packets: the lines have nothing that was not sent, and some of them all of it. How many depends on which
/// packets are lost: behind a lost header block its part of the table is unknown for the rest of the connection.
#[test]
fn a_mirror_with_losses() -> Result<()> {
    let scene = Scene::mirrored("10.78.0.2")?;
    // By the identification of the packets, so that those are lost whatever the machine does: one in 64.
    for direction in ["ingress", "egress"] {
        scene.lab.server.tc(&format!(
            "filter add dev s0 {direction} protocol ip prio 1 u32 match u16 5 0x3f at 4 flowid 1:1"
        ))?;
    }
    let _server = serve(&mut node(
        &scene.lab.server,
        "http2.js",
        &["server", "8012"],
    )?)?;
    let url = format!("http://{HOST}:8012");
    let (calls, captured) = capture(&scene, Wire::Vxlan, |scene| {
        calls_of(&mut node(
            &scene.lab.client,
            "http2.js",
            &["client", &url, "3", "4", "100"],
        )?)
    })?;
    let whole = compare_what_is_known(&calls, &captured.rows)?;
    let gaps = find(&captured.status["capture"]["stages"]["flow"], "flow_gaps");
    println!(
        "{whole} of {} lines are whole; {gaps:?} gaps",
        captured.rows.len()
    );
    ensure!(gaps > Some(0), "nothing was lost");
    ensure!(
        whole * 16 > calls.len(),
        "{whole} of {} calls are whole",
        calls.len()
    );
    Ok(())
}
