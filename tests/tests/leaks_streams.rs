//! Canaries in messages of WebSockets, over HTTP/1 and HTTP/2, and in event streams: in every form in which a message comes. Here
//! belongs that what the rules hide is hidden in streams as in other bodies, whatever else of them is shown.

use anyhow::{Context as _, Result};
use bench::traffic::{Conversation, Frame as Made, Side, Wire};
use tests::http2::{self, Turns};
use tests::program::sniffer_ends;
use tests::websocket::{
    BINARY, COMPRESSED, CONTINUATION, Deflater, FIN, PING, TEXT, close, frame, handshake,
    handshake_on_stream, text,
};

use super::leaks::write_capture;

use Side::{Client, Server};

/// Members of JSON, which paths lead to.
const MEMBERS: [&str; 8] = [
    "canary-whole",
    "canary-fragments",
    "canary-compressed",
    "canary-context",
    "canary-event",
    "canary-lines",
    "canary-returns",
    "canary-marked",
];

/// Text that is no JSON.
const TEXTS: [&str; 3] = ["canary-plain", "canary-binary", "canary-words"];

fn document(canary: &str) -> String {
    format!("{{\"a\":[{{\"token\":\"{canary}\"}}],\"b\":1}}")
}

/// Messages of both sides, with a control frame between fragments.
fn messages() -> Turns {
    let fragments = document("canary-fragments");
    let (first, rest) = fragments.split_at(20);
    let mut deflater = Deflater::new(true);
    let mut compressed = |canary: &str| {
        let message = deflater.message(document(canary).as_bytes());
        frame(Server, FIN | TEXT | COMPRESSED, &message)
    };
    vec![
        (Client, text(Client, &document("canary-whole"))),
        (Client, text(Client, "canary-plain")),
        (Server, frame(Server, TEXT, first.as_bytes())),
        (Server, frame(Server, FIN | PING, b"ping")),
        (Server, frame(Server, FIN | CONTINUATION, rest.as_bytes())),
        (Server, compressed("canary-compressed")),
        (Server, compressed("canary-context")),
        (Client, frame(Client, FIN | BINARY, b"canary-binary")),
        (Server, close(Server, 1000)),
        (Client, close(Client, 1000)),
    ]
}

/// A stream of events, after a GET.
fn stream(path: &str, events: &str) -> Turns {
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{events}",
        events.len()
    );
    vec![
        (Client, request.into_bytes()),
        (Server, response.into_bytes()),
    ]
}

fn frames() -> Vec<Made> {
    let agreed = "permessage-deflate";
    let over_http1 = [handshake("/chat", agreed), messages()].concat();
    let mut over_http2 = handshake_on_stream("/chat", agreed);
    let of_stream = messages().into_iter();
    over_http2
        .extend(of_stream.map(|(side, bytes)| (side, http2::frame(http2::DATA, 0, 1, &bytes))));
    let event = document("canary-event");
    let marked = document("canary-marked");
    let returns = document("canary-returns");
    let talks = [
        over_http1,
        over_http2,
        stream(
            "/events",
            &format!(": hello\r\n\r\nid: 1\r\ndata: {event}\r\n\r\ndata: [DONE]\r\n\r\n"),
        ),
        stream(
            "/lines",
            "event: x\ndata: {\"a\":[\ndata: {\"token\":\ndata: \"canary-lines\"}]}\n\n",
        ),
        stream("/returns", &format!("data:{returns}\r\rdata: 1\r\r")),
        stream("/marked", &format!("\u{feff}data: {marked}\n\n")),
        stream("/words", "data: canary-words\n\n"),
    ];
    let mut frames = Vec::new();
    for (number, turns) in talks.iter().enumerate() {
        let mut talk = Conversation::new(Vec::new());
        talk.client.set_port(41_000 + number as u16);
        talk.start += number as u64 * 10_000_000_000;
        let segments = talk.segments_of(turns);
        frames.extend(
            segments
                .iter()
                .map(|segment| Wire::default().frame(&talk, segment)),
        );
    }
    frames
}

#[test]
fn no_canary_leaves_a_stream() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = write_capture(folder.path(), &frames())?;
    let path = path.to_str().context("a plain name")?;
    let read = |rules: &str, more: &[&str]| -> Result<String> {
        let words = ["read", path, "--annotate", "--websocket", "--rules", rules];
        let ended = sniffer_ends(&[&words[..], more].concat(), &[])?;
        assert_eq!(ended.code()?, 0, "{rules}: {}", ended.stderr);
        Ok(ended.stdout + &ended.stderr)
    };
    let all: Vec<_> = MEMBERS.iter().chain(&TEXTS).copied().collect();
    let open = read("include debug", &["-o", "ndjson"])?;
    for canary in &all {
        assert!(
            open.contains(canary),
            "without rules {canary} is there: {open}"
        );
    }
    let both = open.matches("canary-context").count();
    assert_eq!(both, 2, "over HTTP/1 and HTTP/2: {open}");
    let members = MEMBERS.to_vec();
    for (rules, hidden) in [
        ("", &all),
        ("include default", &all),
        ("include strict", &all),
        ("include debug\n/(request|response)_body/ remove", &all),
        (
            "include debug\n/(request|response)_body/ replace /canary-[a-z]+/, /x/",
            &all,
        ),
        (
            "include debug\n/(request|response)_body:$..token/ remove",
            &members,
        ),
        (
            "include debug\n/(request|response)_body:$.a.token/ replace /.+/, /x/",
            &members,
        ),
    ] {
        for more in [
            &["-o", "ndjson"][..],
            &["--keep-facts", "--half-calls", "--body-tail", "64"],
            &["--stream-parts", "1"],
            &["-o", "table"],
        ] {
            let text = read(rules, more)?;
            for canary in hidden {
                assert!(
                    !text.contains(canary),
                    "{rules:?} {more:?} lets {canary} out: {text}"
                );
            }
        }
    }
    // What a path does not lead to stays, in each message and event.
    let masked = read(
        "include debug\n/(request|response)_body:$..token/ remove",
        &["-o", "ndjson"],
    )?;
    assert!(masked.contains(r#"\"b\":1"#), "{masked}");
    Ok(())
}
