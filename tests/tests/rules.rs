//! The rules as a user meets them: the commands, every vector through the program, the reference messages as packets, and
//! what status and log report of rules. That nothing leaves that rules hide is in `leaks`.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::collect::value;
use bench::traffic::{Conversation, Exchange, Frame as Made, Segment, Side, Wire};
use engine_core::message::{self, Notes, Output};
use engine_core::pipeline::{Config, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::engine::captured;
use tests::process::eventually;
use tests::program::{repository, sniffer, sniffer_ends};
use tests::scene::Scene;
use tests::truth;

use crate::leaks::{canary, frames_with_canaries, write_capture};

const PATIENCE: Duration = Duration::from_secs(60);

/// The vectors of one file in `tests/vectors`.
fn vectors(name: &str) -> Vec<Value> {
    let path = repository().join("tests/vectors").join(name);
    let text = fs::read_to_string(&path).expect("vectors are part of the repository");
    let file: Value = serde_json::from_str(&text).expect("vectors are JSON");
    file["vectors"].as_array().expect("a list").clone()
}

/// The answers of `sniffer rules apply`, one a task.
fn apply(tasks: &[Value]) -> Result<Vec<Value>> {
    let mut input = tempfile::tempfile()?;
    for task in tasks {
        writeln!(input, "{task}")?;
    }
    std::io::Seek::rewind(&mut input)?;
    let output = sniffer(&["rules", "apply"]).stdin(input).output()?;
    ensure!(output.status.success(), "{output:?}");
    let answers = String::from_utf8(output.stdout)?;
    answers
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
        .collect()
}

/// An error by its class alone; anything else as it is.
fn class_of(answer: &Value) -> Value {
    match answer.get("error") {
        Some(class) => json!({ "error": class }),
        None => json!({ "out": answer }),
    }
}

#[test]
fn every_rules_vector_passes_through_the_program() -> Result<()> {
    let vectors = vectors("rules-vectors.json");
    let tasks: Vec<_> = vectors
        .iter()
        .map(|vector| json!({"rules": vector["rules"], "details": vector["details_in"]}))
        .collect();
    let answers = apply(&tasks)?;
    assert_eq!(answers.len(), vectors.len());
    let mut wrong = Vec::new();
    for (vector, answer) in vectors.iter().zip(&answers) {
        let ours = class_of(answer);
        let expected = match vector.get("expected_error") {
            Some(class) => json!({ "error": class }),
            None => json!({ "out": vector["expected_out"] }),
        };
        // Where the reference loggers differ among themselves any of them may be followed.
        let others = vector["outputs"].as_object().into_iter().flatten();
        let is_allowed = vector.get("latitude").is_some()
            && others.into_iter().any(|(_, output)| *output == ours);
        if ours != expected && !is_allowed {
            wrong.push(format!(
                "{}: ours {ours}, expected {expected}",
                vector["name"]
            ));
        }
        if answer.get("error").is_some() {
            assert!(
                answer["line"].as_u64() >= Some(1) && answer["column"].as_u64() >= Some(1),
                "{answer}"
            );
            assert!(
                answer["message"]
                    .as_str()
                    .is_some_and(|text| text.len() > 10),
                "{answer}"
            );
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn every_line_vector_passes_through_the_program() -> Result<()> {
    let vectors = vectors("rules-parse-vectors.json");
    // Blank text would be the default set; as one line of a set it is blank.
    let text = |vector: &Value| format!("#\n{}", vector["rule_text"].as_str().expect("a text"));
    let tasks: Vec<_> = vectors
        .iter()
        .map(|vector| json!({"rules": text(vector), "details": [["now", "1"]]}))
        .collect();
    let answers = apply(&tasks)?;
    assert_eq!(answers.len(), vectors.len());
    let mut wrong = Vec::new();
    for (vector, answer) in vectors.iter().zip(&answers) {
        let class = answer.get("error").unwrap_or(&Value::Null);
        if class != vector.get("error").unwrap_or(&Value::Null) && vector.get("latitude").is_none()
        {
            wrong.push(format!(
                "{}: ours {class}, expected {}",
                vector["rule_text"], vector["error"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn apply_says_what_is_wrong_and_goes_on() -> Result<()> {
    let output = {
        let mut input = tempfile::tempfile()?;
        write!(
            input,
            "{}\n\nno json\n{}\n{}\n{}",
            json!({"rules": "include debug\n/a/b/ remove", "details": []}),
            json!({"rules": "file:///nowhere/rules.txt", "details": []}),
            json!({"rules": "include debug", "details": [["now", "1"]]}),
            json!({"rules": "/now/ stop", "details": [["now", "1"]]}),
        )?;
        std::io::Seek::rewind(&mut input)?;
        sniffer(&["rules", "apply"]).stdin(input).output()?
    };
    let answers: Vec<Value> = String::from_utf8(output.stdout)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(answers.len(), 5, "{answers:?}");
    assert_eq!(
        (
            &answers[0]["error"],
            &answers[0]["line"],
            &answers[0]["column"]
        ),
        (&json!("unescaped_separator"), &json!(2), &json!(3))
    );
    assert_eq!(answers[1]["error"], "invalid_input");
    assert_eq!(answers[2]["error"], "file");
    assert_eq!(answers[3], json!([["now", "1"]]));
    assert_eq!(answers[4], Value::Null);
    Ok(())
}

/// Lines of one pipeline.
#[derive(Default)]
struct Lines(Vec<Vec<(String, String)>>);

impl Output for Lines {
    fn line(&mut self, line: &[u8], _: &Notes) {
        self.0
            .push(serde_json::from_slice(line).expect("a line is a list of pairs"));
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let joined = group
            .iter()
            .fold(0_u32, |bits, letter| bits << 6 | u32::from(digit(*letter)));
        let bits = joined << (6 * (4 - group.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    out
}

fn message(vector: &Value, side: &str) -> Vec<u8> {
    if let Some(text) = vector[format!("{side}_b64")].as_str() {
        return base64(text);
    }
    let packed = base64(
        vector[format!("{side}_zlib_b64")]
            .as_str()
            .expect("packed or plain"),
    );
    let mut out = Vec::new();
    let mut unpacked = flate2::read::ZlibDecoder::new(&packed[..]);
    std::io::Read::read_to_end(&mut unpacked, &mut out).expect("zlib");
    out
}

/// One exchange as frames whose first bytes of request and response have these times in milliseconds.
fn frames_of(request: Vec<u8>, response: Vec<u8>, requested: u64, answered: u64) -> Vec<Made> {
    let talk = Conversation {
        start: (requested - 10) * 1_000_000,
        ..Conversation::new(Vec::new())
    };
    let mut segments = talk.segments_of(&[(Side::Client, request), (Side::Server, response)]);
    let mut now = talk.start;
    let first = |side, at: u64, segments: &[Segment]| {
        let first = segments
            .iter()
            .position(|segment| segment.side == side && !segment.payload.is_empty());
        first.map(|index| (index, at * 1_000_000))
    };
    let marks = [
        first(Side::Client, requested, &segments),
        first(Side::Server, answered, &segments),
    ];
    for (index, segment) in segments.iter_mut().enumerate() {
        now += 1_000;
        if let Some((_, at)) = marks.iter().flatten().find(|(mark, _)| *mark == index) {
            now = *at;
        }
        segment.time = now;
    }
    let wire = Wire::default();
    segments
        .iter()
        .map(|segment| wire.frame(&talk, segment))
        .collect()
}

/// Names of a kind sorted, values of one name as they came, runs of replacement characters as one: as the vectors are
/// compared.
fn comparable(details: &[(String, String)]) -> Vec<(String, String)> {
    let kind = |key: &str| key.split(':').next().unwrap_or(key).to_owned();
    let mut order: Vec<String> = Vec::new();
    for (key, _) in details {
        if !order.contains(&kind(key)) {
            order.push(kind(key));
        }
    }
    let once = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.dedup_by(|left, right| *left == '\u{fffd}' && *right == '\u{fffd}');
        letters.into_iter().collect::<String>()
    };
    let mut out: Vec<_> = details
        .iter()
        .map(|(key, value)| (key.clone(), once(value)))
        .collect();
    out.sort_by_key(|(key, _)| {
        let kind = kind(key);
        let name = if kind == "session_field" {
            String::new()
        } else {
            key.clone()
        };
        (order.iter().position(|other| *other == kind), name)
    });
    out
}

fn agrees(ours: &[(String, String)], expected: &Value, is_prefix: bool) -> bool {
    let once = |text: &str| {
        comparable(&[("x".to_owned(), text.to_owned())])[0]
            .1
            .clone()
    };
    let expected = expected.as_array().expect("a list of details");
    ours.len() == expected.len()
        && ours.iter().zip(expected).all(|((key, value), expected)| {
            let is_value = match &expected[1] {
                Value::String(text) if is_prefix && key == "response_body" => {
                    text.starts_with(value.as_str())
                }
                Value::String(text) => *value == once(text),
                long => {
                    long["chars"].as_u64() == Some(value.chars().count() as u64)
                        && long["starts"]
                            .as_str()
                            .is_some_and(|start| value.starts_with(start))
                        && long["ends"]
                            .as_str()
                            .is_some_and(|end| value.ends_with(end))
                }
            };
            expected[0] == json!(key) && is_value
        })
}

/// A vector that is not followed.
struct Otherwise {
    name: &'static str,
    /// Method and URL of the line that we write, or none.
    line: Option<(&'static str, &'static str)>,
    /// The exchange is marked as one whose lengths contradict each other.
    is_conflict: bool,
}

const fn otherwise(
    name: &'static str,
    line: Option<(&'static str, &'static str)>,
    is_conflict: bool,
) -> Otherwise {
    Otherwise {
        name,
        line,
        is_conflict,
    }
}

/// Vectors for which a capture differs from a logger. Go's reader refuses the requests of the `bad/` ones, so its logger
/// never sees them. On the wire a server answered them with 200: the call took place, and leaving it out would be a loss
/// that nothing reports. Calls with contradictory lengths are marked and not dropped.
const DECIDED_OTHERWISE: [Otherwise; 8] = [
    // An interim response is not the final one (RFC 9110 section 15.2; `docs/contract.md` 1.6), although network-sniffer 1.x
    // pairs all of them but a bare 100. Without a final response there is half a call.
    otherwise("interim-100", None, false),
    // A preface means that the connection is HTTP/2 (RFC 9113 section 3.4): counted and named, not read.
    otherwise("bad/request-http2-preface", None, false),
    // A server that answers with a status line took it for a request; HTTP/0.9 (RFC 1945 section 4.1) has no headers,
    // so this is neither, and is reported as it was sent.
    otherwise("bad/request-no-version", Some(("GET", "http://a/x")), false),
    // A server may refuse it or not (RFC 9112 section 3); this one did not.
    otherwise(
        "bad/request-space-in-target",
        Some(("GET", "http://a/a b")),
        false,
    ),
    // RFC 9112 section 6.3 has servers refuse these two; this one did not. The call is marked.
    otherwise(
        "bad/request-two-lengths",
        Some(("POST", "http://api.example/x")),
        true,
    ),
    otherwise(
        "bad/request-bad-length",
        Some(("POST", "http://api.example/x")),
        true,
    ),
    // M14: logged as sent.
    otherwise(
        "bad/request-bad-path-escape",
        Some(("GET", "http://api.example/a%zz")),
        false,
    ),
    // A request ends with chunked or has no body (RFC 9112 section 6.3); servers answer 501 or, as this one, accept it.
    otherwise(
        "bad/request-te-not-chunked",
        Some(("POST", "http://api.example/x")),
        false,
    ),
];

impl Otherwise {
    fn is_so(&self, ours: Option<&[(String, String)]>, conflicts: u64) -> bool {
        let find = |key: &str| {
            let details = ours?.iter();
            let mut found = details.filter(|(other, _)| other == key);
            found.next().map(|(_, value)| value.as_str())
        };
        let line = find("request_method").zip(find("request_url"));
        let code = self.line.map(|_| "200");
        line == self.line && find("response_code") == code && (conflicts > 0) == self.is_conflict
    }
}

#[test]
fn every_message_vector_passes_as_packets() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for vector in vectors("message-vectors.json") {
        let name = vector["name"].as_str().expect("a name").to_owned();
        let Ok(rules) = RuleSet::parse(vector["rules"].as_str().expect("a text")) else {
            assert_eq!(vector["rejected_at"], "rules", "{name}");
            continue;
        };
        let now = vector["now_ms"].as_u64().expect("a time");
        let interval = vector["interval_ms"].as_u64().expect("a time");
        let frames = frames_of(
            message(&vector, "request"),
            message(&vector, "response"),
            now - interval,
            now,
        );
        let config = Config {
            message: message::Config {
                host: "oracle-host".to_owned(),
                ..message::Config::default()
            },
            ..Config::default()
        };
        let mut pipeline = Pipeline::new(&config, Arc::new(rules), Lines::default());
        for frame in &frames {
            pipeline.feed(&captured(frame, usize::MAX));
        }
        pipeline.finish(Timestamp::from_nanos((now + 1_000) * 1_000_000));
        let ours = pipeline
            .output()
            .0
            .first()
            .map(|details| comparable(details));
        let expected = vector.get("recommended").unwrap_or(&vector["expected"]);
        let is_prefix = vector.get("recommended_prefix_of").is_some();
        let decided = DECIDED_OTHERWISE
            .iter()
            .find(|decided| decided.name == name);
        let is_right = match (&ours, decided) {
            (ours, Some(decided)) => {
                let conflicts = pipeline.ledger().http.framing_conflicts;
                decided.is_so(ours.as_deref(), conflicts)
            }
            (None, None) => expected.is_null(),
            (Some(ours), None) => !expected.is_null() && agrees(ours, expected, is_prefix),
        };
        checked += 1;
        if !is_right {
            let counters = pipeline.ledger();
            wrong.push(format!(
                "{name}\n  ours     {ours:?}\n  expected {expected}\n  {:?}",
                counters.http
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {checked} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Masks hide what their paths select and nothing else, and the call is still there.
#[test]
fn masks_leave_the_rest() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = write_capture(folder.path(), &frames_with_canaries())?;
    let rules = "/(request|response)_body:$..(card|token)/ remove".replace("(card|token)", "card");
    let ended = sniffer_ends(
        &[
            "read",
            path.to_str().context("a plain name")?,
            "--rules",
            &rules,
        ],
        &[],
    )?;
    assert_eq!(ended.stdout.lines().count(), 5, "{}", ended.stdout);
    for place in [
        "pin", "mail", "number", "response", "gzip", "cookie", "param",
    ] {
        assert!(
            ended.stdout.contains(canary(place)),
            "{place}: {}",
            ended.stdout
        );
    }
    Ok(())
}

#[test]
fn check_shows_the_set_and_gives_advice() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rules.txt");
    fs::write(
        &file,
        "include standard\n/request_header:Cookie/ remove\n/request_url/ stop_if /health|ready/\nsample 10\n",
    )?;
    let from_file = sniffer_ends(&["rules", "check", file.to_str().context("plain")?], &[])?;
    let shown = sniffer(&["rules", "check", "-"])
        .stdin(File::open(&file)?)
        .output()?;
    assert_eq!(from_file.code()?, 0, "{}", from_file.stderr);
    let shown = String::from_utf8(shown.stdout)?;
    for words in [
        "rules are valid: ",
        "line 1  removes it",
        "line 2  removes it",
        "keeps 10 % of calls",
        "no allow_http_url",
    ] {
        assert!(
            shown.contains(words) && from_file.stdout.contains(words),
            "{shown}{}",
            from_file.stdout
        );
    }
    for words in [
        "W037",
        "request_header:authorization",
        "include private",
        "W035",
        "line 2",
        "write `request_header:cookie`",
        "line 3",
        "(health|ready)",
    ] {
        assert!(
            from_file.stderr.contains(words),
            "{words}: {}",
            from_file.stderr
        );
    }
    let private = sniffer_ends(&["rules", "check", "include standard include private"], &[])?;
    assert!(!private.stderr.contains("W037"), "{}", private.stderr);
    assert!(
        private.stdout.lines().all(|line| line.len() < 250),
        "{}",
        private.stdout
    );
    let slow = "include private\n/request_body/ stop_if_found /(?=.*password)(?=.*secret)/";
    let slow = sniffer_ends(&["rules", "check", slow], &[])?;
    for words in ["W035", "line 2", "the square", "reads through `.*` again"] {
        assert!(slow.stderr.contains(words), "{words}: {}", slow.stderr);
    }
    let gate = sniffer_ends(
        &["rules", "check", "include strict"],
        &[("USAGE_LOGGERS_URL", "http://h/message")],
    )?;
    assert!(gate.stdout.contains("nothing would be sent"), "{gate:?}");
    for (rules, code) in [
        ("/a/b/ remove", "E030"),
        ("sample 1\nsample 2", "E031"),
        ("/nowhere/rules.txt", "E032"),
    ] {
        let refused = sniffer_ends(&["rules", "check", rules], &[])?;
        assert!(
            refused.code()? == 2 && refused.stderr.contains(code),
            "{refused:?}"
        );
    }
    Ok(())
}

#[test]
fn test_shows_calls_before_and_after() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = write_capture(folder.path(), &frames_with_canaries())?;
    let rules = "/request_header:cookie/ remove\n/request_body:$..card/ replace /canary/, /***/\n/request_url/ stop_if_found /text/";
    let ended = sniffer_ends(
        &[
            "rules",
            "test",
            path.to_str().context("plain")?,
            "--rules",
            rules,
        ],
        &[],
    )?;
    assert_eq!(ended.code()?, 0, "{}", ended.stderr);
    let squeezed = ended
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for words in [
        "call 1 POST http://api.example/pay 200 (line 1, line 2)",
        "- request_header:cookie sid=canary-in-a-cookie",
        "~ request_body {\"card\":{\"number\":\"canary-in-json\"}",
        "> {\"card\":{\"number\":\"***-in-json\"}",
        "call 4 POST http://api.example/text 200 DROPPED",
        "5 calls: 4 kept, 1 stopped",
        "3 line 2: /request_body:$..card/",
    ] {
        assert!(squeezed.contains(words), "no {words:?} in {}", ended.stdout);
    }
    Ok(())
}

/// Every rule in the manual parses.
#[test]
fn the_manual_shows_rules_that_parse() -> Result<()> {
    let manual = fs::read_to_string(repository().join("docs/rules.md"))?;
    let blocks: Vec<_> = manual
        .split("```rules\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 5);
    let tasks: Vec<_> = blocks
        .iter()
        .map(|text| json!({"rules": text, "details": []}))
        .collect();
    for (text, answer) in blocks.iter().zip(apply(&tasks)?) {
        assert!(answer.get("error").is_none(), "{answer}\n{text}");
    }
    Ok(())
}

/// Calls of the shape that rules are warned about, many on one connection.
fn many_calls(count: u64) -> Vec<Made> {
    const ON_ONE: u64 = 50;
    let wire = Wire::default();
    let talks = (0..count.div_ceil(ON_ONE)).flat_map(|number| {
        let from = number * ON_ONE;
        let calls = (from..count.min(from + ON_ONE)).map(|call| Exchange::get(call, "/x", "hello"));
        let mut talk = Conversation::new(calls.collect());
        talk.client.set_port(10_000 + number as u16);
        talk.start += number * 10_000_000;
        talk.segments()
            .iter()
            .map(|segment| wire.frame(&talk, segment))
            .collect::<Vec<_>>()
    });
    talks.collect()
}

/// Status and log warn of these rules after a number of calls, and no longer after a reload of rules that have an effect.
#[track_caller]
fn check_warning(rules: &str, calls: u64, code: &str, words: &str) -> Result<()> {
    let scene = Scene::without_nginx()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rules");
    fs::write(&file, rules)?;
    let mut capture = scene.capture(&[
        ("NET_DEVICE", "s0"),
        ("SNIFFER_PCAP_BUFFER_SIZE", "64M"),
        ("USAGE_LOGGERS_RULES", &format!("file://{}", file.display())),
    ])?;
    let warned = |status: &Value| {
        let warnings = status["warnings"].as_array().into_iter().flatten();
        let ours = warnings.filter(|warning| warning["code"] == code);
        ours.map(|warning| warning["text"].to_string())
            .collect::<String>()
    };
    let frames = many_calls(calls);
    // One call less gives no warning: the last connection is left out.
    let last = frames.len() - 60;
    scene.send(&frames[..last], 12_000)?;
    thread::sleep(Duration::from_millis(1500));
    let early = capture.status()?;
    ensure!(warned(&early).is_empty(), "{early}");
    scene.send(&frames[last..], 12_000)?;
    eventually(PATIENCE, || {
        let status = capture.status()?;
        ensure!(warned(&status).contains(words), "{}", status["warnings"]);
        ensure!(
            status["capture"]["calls"]["seen"] == calls,
            "{}",
            status["capture"]["calls"]
        );
        ensure!(status["capture"]["calls"]["unaccounted"] == 0, "{status}");
        Ok(())
    })?;
    let text = capture.control(&["status"])?.stdout;
    ensure!(text.contains(code), "the text has it, too: {text}");
    capture.wait_for_log(code)?;
    fs::write(&file, "include debug\n/request_header:.*/ remove\n")?;
    capture.control(&["rules", "reload"])?;
    ensure!(
        warned(&capture.status()?).is_empty(),
        "the warning was of the old rules"
    );
    let ended = capture.terminate()?;
    assert_eq!(
        ended.stderr.matches(&format!("[{code}]")).count(),
        1,
        "{}",
        ended.stderr
    );
    Ok(())
}

#[test]
fn a_mask_that_never_matches_is_reported() -> Result<()> {
    let rules = "include debug\n/request_header:.*/ remove\n/request_header:X-Misspelt/ remove\n";
    check_warning(rules, 10_000, "W033", "line 3")
}

#[test]
fn rules_that_stop_everything_are_reported() -> Result<()> {
    check_warning("include debug\n/request_url/ stop\n", 500, "W034", "line 2")
}

/// Patterns of more memory than a small limit leaves.
fn large_rules() -> String {
    "allow_http_url\n".to_owned() + &"/request_body/ replace /[ab]*a[ab]{3000}c/, /x/\n".repeat(60)
}

/// Rules that need more memory than the limit leaves for them are refused before anything is read, and what is enough is named.
#[test]
fn rules_without_enough_memory_are_refused_at_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let capture = write_capture(folder.path(), &frames_with_canaries())?;
    let capture = capture.display().to_string();
    let rules = large_rules();
    let read = |limit: &str| {
        let words = ["read", &capture, "--rules", &rules, "--memory-limit", limit];
        sniffer_ends(&words, &[])
    };
    let refused = read("16M")?;
    ensure!(refused.code()? == 2, "{refused:?}");
    ensure!(refused.stderr.contains("line 2"), "{}", refused.stderr);
    let (_, fix) = (refused.stderr.split_once("SNIFFER_MEMORY_LIMIT=")).context("no fix")?;
    let enough: String = fix.chars().take_while(char::is_ascii_digit).collect();
    let accepted = read(&format!("{enough}M"))?;
    ensure!(accepted.code()? == 0, "{}", accepted.stderr);
    Ok(())
}

/// Rules are swapped again and again under traffic: every call arrives, once, and each set is applied; a bad
/// file leaves the old set in use, which the log reports.
#[test]
fn a_reload_loses_no_call_and_a_bad_file_changes_nothing() -> Result<()> {
    const CALLS: u64 = 600;
    const MASK: &str = "allow_http_url\n/request_header:authorization/ remove\n";
    let scene = Scene::without_nginx()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rules.txt");
    fs::write(&file, "allow_http_url\n")?;
    let mut capture = scene.capture(&[
        ("NET_DEVICE", "s0"),
        ("USAGE_LOGGERS_RULES", &format!("file://{}", file.display())),
        ("SNIFFER_MEMORY_LIMIT", "16M"),
    ])?;
    let calls = |from: u64, count: u64| -> Vec<Made> {
        let wire = Wire::default();
        let calls = (from..from + count).flat_map(|number| {
            let mut exchange = Exchange::get(number, "/x", "hello");
            exchange
                .request_headers
                .push(("Authorization".into(), "canary".into()));
            let mut talk = Conversation::new(vec![exchange]);
            talk.client.set_port(10_000 + number as u16);
            talk.start += number * 1_000_000;
            talk.segments()
                .iter()
                .map(|segment| wire.frame(&talk, segment))
                .collect::<Vec<_>>()
        });
        calls.collect()
    };
    // Under traffic, with one set or the other.
    let frames = calls(0, CALLS);
    thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(|| scene.send(&frames, 3_000));
        for round in 0..10 {
            fs::write(
                &file,
                if round % 2 == 0 {
                    MASK
                } else {
                    "allow_http_url\n"
                },
            )?;
            capture.signal(Signal::SIGHUP)?;
            thread::sleep(Duration::from_millis(150));
        }
        sender.join().expect("sending does not panic")?;
        Ok(())
    })?;
    scene.wait_for_lines(CALLS).with_context(|| capture.log())?;
    let masked = scene
        .collector
        .rows()
        .iter()
        .filter(|row| value(row, "request_header:authorization").is_none())
        .count();
    ensure!(
        masked > 0 && masked < CALLS as usize,
        "{masked} of {CALLS} are masked"
    );
    // A good file, a bad one, a missing one.
    fs::write(&file, MASK)?;
    let good = capture.control(&["rules", "reload"])?;
    ensure!(
        good.code()? == 0 && good.stdout.contains("rules read again"),
        "{good:?}"
    );
    fs::write(&file, "allow_http_url\n/request_header:x/ remvoe\n")?;
    let bad = capture.control(&["rules", "reload"])?;
    ensure!(bad.code()? == 2 && bad.stdout.contains("line 2"), "{bad:?}");
    capture.wait_for_log("the old rules stay")?;
    fs::write(&file, large_rules())?;
    let large = capture.control(&["rules", "reload"])?;
    ensure!(
        large.code()? == 2 && large.stdout.contains("SNIFFER_MEMORY_LIMIT leaves"),
        "{large:?}"
    );
    fs::remove_file(&file)?;
    ensure!(
        capture.control(&["rules", "reload"])?.code()? == 2,
        "a missing file is no rules"
    );
    // To open a pipe that nobody writes to would take forever, and with it every signal.
    ensure!(Command::new("mkfifo").arg(&file).status()?.success());
    let pipe = capture.control(&["rules", "reload"])?;
    ensure!(
        pipe.code()? == 2 && pipe.stdout.contains("not a regular file"),
        "{pipe:?}"
    );
    let more = calls(CALLS, 50);
    scene.send(&more, 2_000)?;
    scene.wait_for_lines(CALLS + 50)?;
    let rows = scene.collector.rows();
    let late = rows.iter().filter(|row| {
        let number = value(row, "request_header:x-call-number")
            .and_then(|number| number.parse::<u64>().ok());
        number.is_some_and(|number| number >= CALLS)
    });
    ensure!(late.clone().count() == 50, "{} late calls", late.count());
    for row in late {
        ensure!(
            value(row, "request_header:authorization").is_none(),
            "{row:?}"
        );
    }
    ensure!(
        truth::by_number(&rows)?.len() as u64 == CALLS + 50,
        "each call once"
    );
    let status = capture.status()?;
    let hits = &status["capture"]["rule_hits"];
    ensure!(hits[0]["line"] == 2 && hits[0]["hits"] == 50, "{hits}");
    ensure!(status["capture"]["calls"]["unaccounted"] == 0, "{status}");
    let ended = capture.terminate()?;
    ensure!(ended.code()? == 0, "{}", ended.stderr);
    Ok(())
}
