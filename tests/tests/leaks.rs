//! Canaries: secrets in every kind of detail, searched for in every channel that leaves the process. Here belongs the
//! promise that what the rules hide is in no line, log, status, page, metric, file or name.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::send::send;
use bench::traffic::{Conversation, Frame as Made, Side, Wire, write_pcap};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::http::request;
use tests::http2;
use tests::network::Lab;
use tests::process::{Running, eventually};
use tests::program::{sniffer, sniffer_ends};

const PATIENCE: Duration = Duration::from_secs(60);

/// Text that must not leave, by the place that it is put into.
pub(crate) const CANARIES: [(&str, &str); 17] = [
    ("param", "canary-in-a-param"),
    ("authorization", "canary-in-authorization"),
    ("cookie", "canary-in-a-cookie"),
    ("api key", "canary-in-an-api-key"),
    ("referer", "canary-in-the-referer"),
    ("user information", "canary-in-user-information"),
    ("json", "canary-in-json"),
    ("pin", "canary-in-a-list"),
    ("mail", "canary-mail@corp.example"),
    ("number", "4111-1111-1111-1111"),
    ("form", "canary-in-a-form"),
    ("multipart", "canary-in-multipart"),
    ("text", "canary-in-text"),
    ("response header", "canary-in-a-response-header"),
    ("set-cookie", "canary-in-set-cookie"),
    ("response", "canary-in-an-answer"),
    ("gzip", "canary-in-gzip"),
];

pub(crate) fn canary(place: &str) -> &'static str {
    let found = CANARIES.iter().find(|(other, _)| *other == place);
    found.unwrap_or_else(|| panic!("no canary in {place}")).1
}

/// The canary of one round, in the form of the others: letters stay letters and digits digits.
pub(crate) fn canary_of(round: usize, place: &str) -> String {
    let text = canary(place);
    let letters: String = [round / 26, round % 26]
        .map(|letter| char::from(b'a' + letter as u8))
        .iter()
        .collect();
    match place {
        "mail" => text.replace("mail", &format!("mail{letters}")),
        "number" => text.replace("1111-1111-1111", &format!("1111-1111-{:04}", 2000 + round)),
        _ => format!("{text}-q{letters}"),
    }
}

/// Calls that carry a canary in every kind of detail.
pub(crate) fn calls_with_canaries(c: impl Fn(&str) -> String) -> Vec<(Vec<u8>, Vec<u8>)> {
    let request = |target: &str, headers: &str, content_type: &str, body: &str| {
        let length = body.len();
        format!("POST {target} HTTP/1.1\r\nHost: api.example\r\n{headers}Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    let response = |headers: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(format!("{{\"a\":[{{\"token\":\"{}\"}}]}}", c("gzip")).as_bytes())
        .expect("memory");
    let gzip = gzip.finish().expect("memory");
    let headers = format!(
        "Authorization: Bearer {}\r\nCookie: sid={}\r\nX-Api-Key: {}\r\nReferer: {}\r\n",
        c("authorization"),
        c("cookie"),
        c("api key"),
        c("referer")
    );
    let json = format!(
        "{{\"card\":{{\"number\":\"{}\"}},\"items\":[{{\"pin\":\"{}\"}}],\"mail\":\"{}\",\"n\":\"{}\"}}",
        c("json"),
        c("pin"),
        c("mail"),
        c("number")
    );
    let answer = format!("{{\"token\":\"{}\"}}", c("response"));
    let answer_headers = format!(
        "X-Debug: {}\r\nSet-Cookie: sid={}\r\n",
        c("response header"),
        c("set-cookie")
    );
    let form = format!("a=1&card={}", c("form"));
    let multipart = format!(
        "--B\r\nContent-Disposition: form-data; name=\"card\"\r\n\r\n{}\r\n--B--\r\n",
        c("multipart")
    );
    let plain = || response("", b"{}");
    vec![
        (
            request(
                &format!("/pay?access_token={}", c("param")),
                &headers,
                "application/json",
                &json,
            ),
            response(&answer_headers, answer.as_bytes()),
        ),
        (
            request("/form", "", "application/x-www-form-urlencoded", &form),
            plain(),
        ),
        (
            request("/upload", "", "multipart/form-data; boundary=B", &multipart),
            plain(),
        ),
        (
            request("/text", "", "text/plain", &format!("card {}", c("text"))),
            plain(),
        ),
        (
            request(
                &format!("http://u:{}@api.example/absolute", c("user information")),
                "",
                "application/json",
                "{}",
            ),
            response("Content-Encoding: gzip\r\n", &gzip),
        ),
    ]
}

pub(crate) fn frames_with_canaries() -> Vec<Made> {
    frames_of_calls(
        41_000,
        calls_with_canaries(|place| canary(place).to_owned()),
    )
}

/// Each call on a connection of its own, from this port and the next ones.
fn frames_of_calls(port: u16, calls: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<Made> {
    let wire = Wire::default();
    let calls = calls.into_iter().zip(port..).enumerate();
    calls
        .flat_map(|(number, ((request, response), port))| {
            let mut talk = Conversation::new(Vec::new());
            talk.client.set_port(port);
            talk.start += number as u64 * 1_000_000_000;
            let segments = talk.segments_of(&[(Side::Client, request), (Side::Server, response)]);
            segments
                .iter()
                .map(|segment| wire.frame(&talk, segment))
                .collect::<Vec<_>>()
        })
        .collect()
}

pub(crate) fn write_capture(folder: &Path, frames: &[Made]) -> Result<PathBuf> {
    let path = folder.join("traffic.pcap");
    write_pcap(
        &mut BufWriter::new(File::create(&path)?),
        frames,
        usize::MAX,
    )?;
    Ok(path)
}

const ALL_BODIES: [&str; 8] = [
    "json",
    "pin",
    "mail",
    "number",
    "form",
    "multipart",
    "text",
    "response",
];

/// Rules, and the places whose canaries they hide. User information never leaves, whatever the rules are.
pub(crate) fn promises() -> Vec<(&'static str, Vec<&'static str>)> {
    let but_the_path: Vec<&str> = CANARIES.iter().map(|(place, _)| *place).collect();
    let bodies = |more: &[&'static str]| [&ALL_BODIES[..], more].concat();
    vec![
        ("include default", but_the_path.clone()),
        ("include strict", but_the_path.clone()),
        ("", but_the_path.clone()),
        (
            "include standard",
            vec!["cookie", "set-cookie", "mail", "number"],
        ),
        (
            "/request_header:authorization/ remove",
            vec!["authorization"],
        ),
        (
            "/request_header:(cookie|authorization|x-api-key)/ remove",
            vec!["cookie", "authorization", "api key"],
        ),
        ("/response_header:set-cookie/ remove", vec!["set-cookie"]),
        (
            "/request_header:.*/ remove_if_found /canary/",
            vec!["authorization", "cookie", "api key", "referer"],
        ),
        (
            "/response_header:.*/ remove_unless /application.*/",
            vec!["response header", "set-cookie"],
        ),
        ("/request_param:.*token.*/ replace /.+/, /*/", vec!["param"]),
        ("/(request|response)_body/ remove", bodies(&["gzip"])),
        (
            "/(request|response)_body/ replace /canary[-a-z]*|[0-9-]{9,}/, /x/",
            bodies(&["gzip"]),
        ),
        ("/request_body:$.card.number/ remove", vec!["json", "text"]),
        (
            "/request_body:$..card/ remove",
            vec!["json", "form", "multipart", "text"],
        ),
        (
            "/request_body:$..card/ replace /.+/, /x/",
            vec!["json", "form", "multipart", "text"],
        ),
        (
            "/request_body:$.items[0].pin/ remove_if_found /canary/",
            vec!["pin", "text"],
        ),
        (
            "/(request|response)_body:$..token/ remove",
            vec!["response", "gzip", "text"],
        ),
        (
            "/(request|response)_body:$..*/ replace /(?s).+/, /x/",
            bodies(&["gzip"]),
        ),
        ("/request_url/ stop", but_the_path),
    ]
}

#[test]
fn no_canary_leaves_a_reading() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = write_capture(folder.path(), &frames_with_canaries())?;
    let path = path.to_str().context("a plain name")?;
    let read = |rules: &str, more: &[&str]| {
        let arguments = [&["read", path, "--rules", rules, "--annotate"], more].concat();
        sniffer_ends(&arguments, &[])
    };
    let all = read("include debug", &[])?.stdout;
    for (place, canary) in CANARIES
        .iter()
        .filter(|(place, _)| *place != "user information")
    {
        assert!(
            all.contains(canary),
            "without rules {place} is there: {all}"
        );
    }
    for (rules, places) in promises() {
        for more in [&["-o", "ndjson"][..], &["-o", "table", "--half-calls"]] {
            let ended = read(rules, more)?;
            assert_eq!(ended.code()?, 0, "{rules}: {}", ended.stderr);
            for place in places.iter().copied().chain(["user information"]) {
                let text = format!("{}{}", ended.stdout, ended.stderr);
                assert!(
                    !text.contains(canary(place)),
                    "{rules:?} lets {place} out: {text}"
                );
            }
        }
    }
    Ok(())
}

/// Text of remote procedure calls that must not leave, by the place that it is put into.
const RPC_CANARIES: [(&str, &str); 9] = [
    ("metadata", "canary-in-metadata"),
    ("binary metadata", "canary-in-binary-metadata"),
    ("method", "CanaryMethod"),
    ("message", "canary-in-a-message"),
    ("field", "canary-in-a-field"),
    ("card", "4111111111111111"),
    ("compressed", "canary-in-a-compressed-message"),
    ("trailer", "canary-in-a-trailer"),
    ("status message", "canary-in-a-status-message"),
];

fn rpc_canary(place: &str) -> &'static str {
    let found = RPC_CANARIES.iter().find(|(other, _)| *other == place);
    found.unwrap_or_else(|| panic!("no canary in {place}")).1
}

/// A length-delimited field of protobuf.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, value.len() as u8], value].concat()
}

fn envelope(flags: u8, message: &[u8]) -> Vec<u8> {
    [&[flags], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

/// A call of gRPC over HTTP/2, and one of gRPC-Web over HTTP/1 with the same messages and trailers.
fn rpc_frames() -> Result<Vec<Made>> {
    let c = |place| rpc_canary(place);
    let inside = field(1, c("field").as_bytes());
    let message = [
        field(1, c("message").as_bytes()),
        field(2, &inside),
        field(3, c("card").as_bytes()),
    ]
    .concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&field(1, c("compressed").as_bytes()))?;
    let answer = envelope(1, &gzip.finish()?);
    let path = format!("/acme.Pay/{}", c("method"));
    let request = [
        http2::headers(
            0,
            1,
            &http2::block(&[
                (":method", "POST"),
                (":authority", "h"),
                (":path", &path),
                ("content-type", "application/grpc"),
                ("x-token", c("metadata")),
                ("trace-bin", c("binary metadata")),
            ]),
        ),
        http2::frame(http2::DATA, http2::END_STREAM, 1, &envelope(0, &message)),
    ]
    .concat();
    let trailers = [
        ("grpc-status", "7"),
        ("grpc-message", c("status message")),
        ("x-trailer", c("trailer")),
    ];
    let response = [
        http2::headers(
            0,
            1,
            &http2::block(&[
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-encoding", "gzip"),
            ]),
        ),
        http2::frame(http2::DATA, 0, 1, &answer),
        http2::headers(http2::END_STREAM, 1, &http2::block(&trailers)),
    ]
    .concat();
    let turns = http2::conversation(vec![(Side::Client, request), (Side::Server, response)]);
    let mut talk = Conversation::new(Vec::new());
    let segments = talk.segments_of(&turns);
    let wire = Wire::default();
    let mut frames: Vec<_> = segments
        .iter()
        .map(|segment| wire.frame(&talk, segment))
        .collect();

    let trailers = trailers.map(|(name, value)| format!("{name}: {value}\r\n"));
    let answer = [answer, envelope(0x80, trailers.concat().as_bytes())].concat();
    let message = envelope(0, &message);
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc-web\r\nX-Token: {}\r\nTrace-Bin: {}\r\nContent-Length: {}\r\n\r\n",
        c("metadata"),
        c("binary metadata"),
        message.len()
    );
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nGrpc-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    );
    talk.client.set_port(42_000);
    talk.start += 1_000_000_000;
    let turns = [
        (Side::Client, [request.as_bytes(), &message].concat()),
        (Side::Server, [response.as_bytes(), &answer].concat()),
    ];
    let segments = talk.segments_of(&turns);
    frames.extend(segments.iter().map(|segment| wire.frame(&talk, segment)));
    Ok(frames)
}

/// Rules, and the places of [`RPC_CANARIES`] that they hide.
fn rpc_promises() -> Vec<(&'static str, Vec<&'static str>)> {
    let bodies = || vec!["message", "field", "card", "compressed"];
    let all_but_the_method: Vec<&str> = RPC_CANARIES
        .iter()
        .map(|(place, _)| *place)
        .filter(|place| *place != "method")
        .collect();
    vec![
        ("include default", all_but_the_method.clone()),
        ("include strict", all_but_the_method.clone()),
        ("", all_but_the_method),
        ("/request_header:x-token/ remove", vec!["metadata"]),
        ("/request_header:.*-bin/ remove", vec!["binary metadata"]),
        (
            "/response_header:.*/ remove_if_found /canary/",
            vec!["trailer", "status message"],
        ),
        ("/(request|response)_body/ remove", bodies()),
        (
            "/(request|response)_body/ replace /canary[-a-z]*|[0-9]{13,16}/, /x/",
            bodies(),
        ),
        ("/request_body:$.2.1/ remove", vec!["field"]),
        (
            "/(request|response)_body:$..1/ replace /(?s).+/, /x/",
            vec!["message", "field", "compressed"],
        ),
        (
            "/(request|response)_body:$..*/ replace /(?s).+/, /x/",
            bodies(),
        ),
        (
            "/request_url/ replace /Canary[A-Za-z]*/, /x/",
            vec!["method"],
        ),
        ("/request_url/ remove", vec!["method"]),
    ]
}

#[test]
fn no_canary_of_a_remote_procedure_call_leaves_a_reading() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = write_capture(folder.path(), &rpc_frames()?)?;
    let path = path.to_str().context("a plain name")?;
    let read = |rules: &str, more: &[&str]| {
        let rules = format!("include debug\n{rules}");
        let arguments = ["read", path, "--ports", "all", "--annotate", "--rules"];
        let arguments = [&arguments[..], &[rules.as_str()], more].concat();
        sniffer_ends(&arguments, &[])
    };
    let all = read("", &[])?.stdout;
    for (place, canary) in RPC_CANARIES {
        let count = all.matches(canary).count();
        assert!(count >= 2, "without rules {place} is there: {all}");
    }
    for (rules, places) in rpc_promises() {
        for more in [
            &["-o", "ndjson"][..],
            &["--keep-facts", "--half-calls"],
            &["--protobuf", "raw"],
            &["-o", "table"],
        ] {
            let presets = rules.is_empty() || rules.starts_with("include");
            let ended = if presets {
                let arguments = ["read", path, "--ports", "all", "--annotate", "--rules"];
                sniffer_ends(&[&arguments[..], &[rules], more].concat(), &[])?
            } else {
                read(rules, more)?
            };
            assert_eq!(ended.code()?, 0, "{rules}: {}", ended.stderr);
            let text = format!("{}{}", ended.stdout, ended.stderr);
            for place in &places {
                assert!(
                    !text.contains(rpc_canary(place)),
                    "{rules:?} {more:?} lets {place} out: {text}"
                );
            }
        }
    }
    Ok(())
}

/// All files under a folder: their paths, and what is in them.
fn files(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files(&path, found)?,
            // A socket has nothing to read.
            false => found.push((path.clone(), fs::read(&path).unwrap_or_default())),
        }
    }
    Ok(())
}

/// What others on the machine can see of a process and its children, and what a core dump is named after: command line,
/// names of the threads, files that are open and mapped.
fn titles(pid: u32, seen: &mut String) {
    let of = |path: String| fs::read_to_string(path).unwrap_or_default();
    seen.push_str(&of(format!("/proc/{pid}/cmdline")).replace('\0', " "));
    seen.push_str(&of(format!("/proc/{pid}/maps")));
    let entries = |path: String| fs::read_dir(path).into_iter().flatten().flatten();
    for file in entries(format!("/proc/{pid}/fd")) {
        let name = fs::read_link(file.path()).unwrap_or_default();
        seen.push_str(&format!("{}\n", name.display()));
    }
    for thread in entries(format!("/proc/{pid}/task")) {
        let thread = thread.path().display().to_string();
        seen.push_str(&of(format!("{thread}/comm")));
        for child in of(format!("{thread}/children")).split_whitespace() {
            titles(child.parse().expect("a number"), seen);
        }
    }
}

/// All-in-one in a lab, and all that can be seen of it.
struct Watched {
    lab: Lab,
    folder: tempfile::TempDir,
    process: Running,
}

impl Watched {
    /// With everything on that adds output: half calls, annotations; the rules come from a file.
    fn start() -> Result<Self> {
        let lab = Lab::new()?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("rules"), "include debug\n")?;
        let mut command = sniffer(&["all-in-one", "--on", "-i", "s0", "--half-calls"]);
        for (flag, name) in [("--data", "data"), ("--control", "control")] {
            command.arg(flag).arg(folder.path().join(name));
        }
        command.envs([
            ("SNIFFER_ANNOTATE", "true"),
            ("SNIFFER_DEBUG_ENABLED", "true"),
            ("SNIFFER_DEBUG_VERBOSITY", "5"),
            ("RUST_LOG", "trace"),
            ("RUST_BACKTRACE", "full"),
        ]);
        command.env(
            "USAGE_LOGGERS_RULES",
            format!("file://{}/rules", folder.path().display()),
        );
        let process = Running::start(&mut lab.server.enter(&command))?;
        let watched = Self {
            lab,
            folder,
            process,
        };
        eventually(PATIENCE, || {
            let text = watched.output_of(&["status"])?;
            ensure!(
                text.contains("RUNNING"),
                "{text}{}",
                watched.process.stderr()
            );
            Ok(())
        })?;
        Ok(watched)
    }

    fn output_of(&self, words: &[&str]) -> Result<String> {
        let mut command = sniffer(words);
        command
            .arg("--control")
            .arg(self.folder.path().join("control"));
        let ended = Running::start(&mut self.lab.server.enter(&command))?.end(PATIENCE)?;
        Ok(ended.stdout + &ended.stderr)
    }

    /// Makes these calls under these rules, and waits until each is delivered or stopped.
    fn make(&self, rules: &str, frames: &[Made], calls: u64) -> Result<()> {
        fs::write(self.folder.path().join("rules"), rules)?;
        let output = self.output_of(&["rules", "reload"])?;
        ensure!(output.contains("rules read again"), "{output}");
        let seen = |text: &str| -> Result<(u64, u64)> {
            let status: Value = serde_json::from_str(text)?;
            let calls = &status["capture"]["calls"];
            let count = |name: &str| calls[name].as_u64().context("a count");
            Ok((count("seen")?, count("in_flight")?))
        };
        let (before, _) = seen(&self.output_of(&["status", "--json"])?)?;
        self.lab.client.inside(|| send("c0", frames, 2_000))?;
        eventually(PATIENCE, || {
            let (now, on_their_way) = seen(&self.output_of(&["status", "--json"])?)?;
            ensure!(
                now == before + calls && on_their_way == 0,
                "{now} after {before}"
            );
            Ok(())
        })
    }

    /// Every channel by its name, while the program runs and after its end.
    fn channels(self) -> Result<Vec<(String, String)>> {
        let mut channels = Vec::new();
        let mut add = |name: &str, text: String| channels.push((name.to_owned(), text));
        add("status", self.output_of(&["status"])?);
        add("status --json", self.output_of(&["status", "--json"])?);
        let link = self.output_of(&["page"])?;
        let (_, token) = link.trim().split_once("?token=").context("a link")?;
        let authorization = format!("Bearer {token}");
        let get = |port: u16, path: &str| -> Result<String> {
            let at = format!("127.0.0.1:{port}");
            let headers = [("Authorization", authorization.as_str())];
            let answer = self
                .lab
                .server
                .inside(|| request(&at, "GET", path, &headers, b""))?;
            Ok(format!(
                "{}{}",
                answer.head,
                String::from_utf8_lossy(&answer.body)
            ))
        };
        for path in ["/metrics", "/livez", "/readyz", "/healthz", "/nothing"] {
            add(path, get(7702, path)?);
        }
        for path in ["/", "/api/v1/status", "/api/v1/calls?limit=1000"] {
            add(path, get(7700, path)?);
        }
        let mut pages = String::new();
        for number in 1..=200 {
            let page = get(7700, &format!("/api/v1/calls/{number}"))?;
            if page.starts_with("HTTP/1.1 404") {
                break;
            }
            pages.push_str(&page);
        }
        ensure!(pages.starts_with("HTTP/1.1 200"), "{pages}");
        add("calls on the page", pages);
        let mut titled = String::new();
        titles(self.process.pid(), &mut titled);
        add("process", titled);
        self.process.signal(Signal::SIGUSR1)?;
        thread::sleep(Duration::from_millis(200));
        let ended = self.process.terminate(PATIENCE)?;
        add("log", ended.stdout + &ended.stderr);
        let mut kept = Vec::new();
        files(self.folder.path(), &mut kept)?;
        let (mut names, mut store) = (String::new(), String::new());
        for (path, bytes) in kept {
            names.push_str(&format!("{}\n", path.display()));
            if !path.ends_with("rules") {
                store.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        // Lines and long columns are compressed in the file.
        let database = store::backend::sqlite::query::open(&self.folder.path().join("data"))?;
        let mut calls = database.prepare("SELECT * FROM calls")?;
        let columns = calls.column_count();
        let mut rows = calls.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                if let rusqlite::types::ValueRef::Text(text) = row.get_ref(column)? {
                    store.push_str(&String::from_utf8_lossy(text));
                    store.push('\n');
                }
            }
        }
        add("file names", names);
        add("store", store);
        Ok(channels)
    }
}

/// A whole program with store, page and metrics, under one promise after the other: what a rule set hides is in no
/// line, log, status, page, metric, database, file name or process title. Each promise has canaries of its own, so that
/// each is looked for in everything. What no rule hides is found, so the search works.
#[test]
fn no_canary_is_anywhere_in_the_running_program() -> Result<()> {
    const STOPS_NOTHING: &str = "include strict\n/now/ remove_if /0/";
    let watched = Watched::start()?;
    let all: Vec<&str> = CANARIES.iter().map(|(place, _)| *place).collect();
    let mut promises = promises();
    promises.push((STOPS_NOTHING, all));
    promises.push(("include debug", vec!["user information"]));
    let open = promises.len() - 1;
    for (round, (rules, _)) in promises.iter().enumerate() {
        let calls = calls_with_canaries(|place| canary_of(round, place));
        let count = calls.len() as u64;
        let frames = frames_of_calls(20_000 + round as u16 * 100, calls);
        watched
            .make(rules, &frames, count)
            .with_context(|| rules.to_string())?;
    }
    let channels = watched.channels()?;
    for (round, (rules, places)) in promises.iter().enumerate() {
        for place in places.iter().copied().chain(["user information"]) {
            let canary = canary_of(round, place);
            for (channel, text) in &channels {
                assert!(
                    !text.contains(&canary),
                    "{rules:?} lets {place} out: {channel}"
                );
            }
        }
    }
    // Every channel was really searched.
    for (channel, word) in [
        ("status", "RUNNING"),
        ("status --json", "\"stages\":{"),
        ("/metrics", "sniffer_calls_sent_total"),
        ("/livez", "{\"live\":true}"),
        ("/readyz", "\"ready\":true"),
        ("/healthz", "\"ready\":true"),
        ("/nothing", "404"),
        ("/", "<html"),
        ("/api/v1/status", "200"),
        ("/api/v1/calls?limit=1000", "api.example"),
        ("process", "shard-0"),
        ("process", "calls.sqlite"),
        ("log", "rules read again"),
        ("log", "stopped after"),
        ("file names", "calls.sqlite"),
    ] {
        let found = channels.iter().find(|(other, _)| other == channel);
        let text = &found.with_context(|| channel.to_owned())?.1;
        assert!(
            text.to_lowercase().contains(&word.to_lowercase()),
            "{channel}: no {word:?} in {text}"
        );
    }
    for place in CANARIES.iter().map(|(place, _)| *place) {
        let canary = canary_of(open, place);
        for channel in ["store", "calls on the page"] {
            let (_, text) = channels
                .iter()
                .find(|(other, _)| other == channel)
                .context("there")?;
            assert_eq!(
                text.contains(&canary),
                place != "user information",
                "{channel}: {canary}"
            );
        }
    }
    Ok(())
}
