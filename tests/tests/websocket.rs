//! WebSocket through the whole pipeline: seeded conversations over HTTP/1 and HTTP/2 in any segments, losses, joining late,
//! rules, bounds, and hostile peers with their neighbours.

use std::sync::Arc;
use std::time::Duration;

use bench::collect::{Row, value};
use bench::seed::Seed;
use bench::traffic::{Close, Conversation, Frame as Made, Side, Wire};
use engine_core::http::UnpairedReason;
use engine_core::pipeline::Config;
use engine_core::rules::RuleSet;
use tests::engine::{Reader, Reading, captured};
use tests::http2::{self, Turns};
use tests::websocket::*;

use Side::{Client, Server};

const SEEDS: u64 = 60;

fn config() -> Config {
    let mut config = Config::default();
    config.message.websocket = true;
    config.message.half_calls = true;
    config
}

fn frames_of(talk: &Conversation, turns: &Turns) -> Vec<Made> {
    let segments = talk.segments_of(turns);
    let frames = segments
        .iter()
        .map(|segment| Wire::default().frame(talk, segment));
    frames.collect()
}

fn talk() -> Conversation {
    Conversation::new(Vec::new())
}

fn read_with<'a>(
    config: &Config,
    rules: &str,
    frames: impl IntoIterator<Item = &'a Made>,
) -> Reading {
    let mut reader = Reader::new(config);
    reader.set_rules(Arc::new(RuleSet::parse(rules).expect("rules")));
    for frame in frames {
        reader.feed(&captured(frame, usize::MAX));
    }
    reader.finish()
}

fn read(turns: &Turns) -> Reading {
    read_with(&config(), "include debug", &frames_of(&talk(), turns))
}

/// The lines with messages.
fn messages(reading: &Reading) -> Vec<&Row> {
    let rows = reading.calls.iter().map(|(row, _)| row);
    rows.filter(|row| value(row, "custom_field:stream") == Some("websocket"))
        .collect()
}

fn bodies(row: &Row) -> [Option<String>; 2] {
    ["request_body", "response_body"].map(|key| value(row, key).map(str::to_owned))
}

/// The elements of a list.
fn elements(list: &str) -> Vec<serde_json::Value> {
    let list: serde_json::Value = serde_json::from_str(list).expect("JSON");
    list.as_array().expect("a list").clone()
}

/// A connection with these bytes of both sides behind the handshake.
fn behind_handshake(extensions: &str, turns: Turns) -> Turns {
    let mut all = handshake("/chat?room=1", extensions);
    all.extend(turns);
    all
}

#[test]
fn seeded_conversations_in_any_segments() {
    for number in 0..SEEDS {
        let mut seed = Seed::new(number);
        let chat = Chat::seeded(&mut seed);
        for turns in [
            chat.over_http1("/chat"),
            chat.over_http2("/chat", &mut seed),
        ] {
            let mut first = None;
            for mss in [1448, 97, 8000, 1] {
                if mss == 1 && turns.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 20_000 {
                    continue;
                }
                let talk = Conversation {
                    mss,
                    ragged: mss > 100,
                    seed: number,
                    ..talk()
                };
                let reading = read_with(&config(), "include debug", &frames_of(&talk, &turns));
                let rows = messages(&reading);
                let lists = chat.lists();
                if lists == [None, None] {
                    assert!(rows.is_empty(), "seed {number}");
                    assert_eq!(reading.ledger.message.websocket_silent, 1);
                    continue;
                }
                assert_eq!(rows.len(), 1, "seed {number}, segments of {mss}");
                assert_eq!(bodies(rows[0]), lists, "seed {number}, segments of {mss}");
                let counts = ["request", "response"].map(|side| {
                    value(rows[0], &format!("custom_field:websocket_{side}_messages"))
                        .map(str::to_owned)
                });
                let made = chat
                    .elements
                    .each_ref()
                    .map(|list| Some(list.len().to_string()));
                assert_eq!(counts, made, "seed {number}");
                let annotations: Vec<_> = rows[0]
                    .iter()
                    .filter(|(key, _)| key.starts_with("custom_field:"))
                    .cloned()
                    .collect();
                let first = first.get_or_insert_with(|| annotations.clone());
                assert_eq!(*first, annotations, "seed {number}, segments of {mss}");
            }
        }
    }
}

#[test]
fn after_losses_only_whole_messages_in_order() {
    let (mut made, mut found) = (0, 0);
    for number in 0..4 * SEEDS {
        let mut seed = Seed::new(number);
        let chat = Chat::seeded(&mut seed);
        let turns = if seed.chance(500) {
            chat.over_http1("/chat")
        } else {
            chat.over_http2("/chat", &mut seed)
        };
        let talk = Conversation { mss: 500, ..talk() };
        let frames = frames_of(&talk, &turns);
        let lost = seed.within(4..=frames.len());
        let kept = frames.iter().enumerate().filter(|(at, _)| *at != lost);
        let reading = read_with(&config(), "include debug", kept.map(|(_, frame)| frame));
        for row in messages(&reading) {
            for (list, sent) in bodies(row).iter().zip(&chat.elements) {
                let Some(list) = list else { continue };
                let sent: Vec<serde_json::Value> = sent
                    .iter()
                    .map(|element| serde_json::from_str(element).unwrap())
                    .collect();
                made += sent.len();
                let mut left = sent.iter();
                for element in elements(list) {
                    found += 1;
                    assert!(
                        left.any(|other| *other == element),
                        "seed {number}: {element} was not sent, or not then"
                    );
                }
            }
        }
    }
    assert!(found * 2 > made, "{found} of {made}");
}

#[test]
fn joined_late_nothing_of_it_is_a_call() {
    for number in 0..30 {
        let mut seed = Seed::new(number);
        let chat = Chat::seeded(&mut seed);
        let frames = frames_of(&talk(), &chat.over_http1("/chat"));
        // Behind the heads of the handshake.
        let reading = read_with(&config(), "include debug", &frames[7.min(frames.len())..]);
        assert!(messages(&reading).is_empty(), "seed {number}");
        assert_eq!(reading.ledger.http.websocket_connections, 0);
    }
}

#[test]
fn only_whoever_wants_messages_gets_them() {
    let turns = behind_handshake(
        "",
        vec![
            (Client, text(Client, "secret")),
            (Server, text(Server, "secret")),
        ],
    );
    let frames = frames_of(&talk(), &turns);
    let reading = read_with(&Config::default(), "include debug", &frames);
    assert_eq!(reading.calls.len(), 1);
    assert!(!format!("{:?}", reading.calls).contains("secret"));
    assert_eq!(reading.ledger.http.flows_tunnelled, 1);
}

#[test]
fn the_second_line_has_the_details_of_the_handshake() {
    let turns = behind_handshake(
        "",
        vec![
            (Client, text(Client, "hi")),
            (Server, text(Server, " {\"k\":1}\n")),
            (Server, close(Server, 4001)),
            (Client, close(Client, 1000)),
        ],
    );
    let reading = read(&turns);
    assert_eq!(reading.calls.len(), 2);
    let (handshake, messages) = (&reading.calls[0].0, &reading.calls[1].0);
    let own = ["request_body", "response_body"];
    let shared = |(key, _): &&(String, String)| {
        !own.contains(&key.as_str()) && !key.starts_with("custom_field:")
    };
    let details: Vec<_> = messages.iter().filter(shared).collect();
    assert_eq!(details, handshake.iter().collect::<Vec<_>>());
    for (key, expected) in [
        ("request_body", "[\"hi\"]"),
        ("response_body", "[{\"k\":1}]"),
        ("custom_field:stream", "websocket"),
        ("custom_field:websocket_request_message_bytes", "2"),
        ("custom_field:websocket_response_message_bytes", "9"),
        ("custom_field:websocket_close_code", "4001"),
        ("custom_field:websocket_close_by", "server"),
    ] {
        assert_eq!(value(messages, key), Some(expected), "{key}");
    }
    let message = reading.ledger.message;
    assert_eq!((message.calls_seen, message.websocket), (2, 1));
}

#[test]
fn how_a_websocket_ends() {
    for (close, expected) in [
        (Close::Fin, None),
        (Close::Reset, None),
        (Close::Open, Some("true")),
    ] {
        let talk = Conversation { close, ..talk() };
        let mut config = config();
        config.message.annotate = true;
        let turns = behind_handshake("", vec![(Client, text(Client, "hi"))]);
        let reading = read_with(&config, "include debug", &frames_of(&talk, &turns));
        let rows = messages(&reading);
        assert_eq!(
            value(rows[0], "custom_field:websocket_close_by"),
            Some("none")
        );
        assert_eq!(
            value(rows[0], "custom_field:incomplete"),
            expected,
            "{close:?}"
        );
    }
}

#[test]
fn frames_that_break_the_protocol_end_it_and_nothing_else() {
    let unmasked = frame(Server, FIN | TEXT, b"no mask");
    let masked = frame(Client, FIN | TEXT, b"a mask");
    let long_ping = frame(Server, FIN | PING, &[0; 126]);
    let endless = [&[FIN | TEXT, 127, 0xff][..], &[0xff; 7]].concat();
    let open = frame(Server, TEXT, b"begun");
    let two = [open.clone(), frame(Server, FIN | TEXT, b"again")].concat();
    let hostile: Vec<(Side, Vec<u8>)> = vec![
        (Client, unmasked),
        (Server, masked),
        (Server, long_ping),
        (Server, endless),
        (Server, two),
        (Server, frame(Server, FIN | CONTINUATION, b"of nothing")),
        (
            Server,
            frame(Server, FIN | COMPRESSED | TEXT, b"not agreed"),
        ),
        (Server, frame(Server, FIN | 0x20 | TEXT, b"rsv")),
        (Server, frame(Server, FIN | 3, b"opcode")),
        (Server, frame(Server, CLOSE, b"in fragments")),
    ];
    let neighbour = |turns: Turns| {
        let talk = Conversation {
            client: "10.1.0.3:50000".parse().unwrap(),
            ..talk()
        };
        frames_of(&talk, &turns)
    };
    for (side, bytes) in hostile {
        let turns = behind_handshake(
            "",
            vec![
                (Client, text(Client, "before")),
                (side, [bytes.clone(), text(side, "behind")].concat()),
                (Client, text(Client, "behind")),
            ],
        );
        let mut frames = frames_of(&talk(), &turns);
        frames.extend(neighbour(behind_handshake(
            "",
            vec![(Server, text(Server, "whole"))],
        )));
        let reading = read_with(&config(), "include debug", &frames);
        let found: Vec<_> = messages(&reading).into_iter().map(bodies).collect();
        let list = |list: &str| Some(list.to_owned());
        assert_eq!(
            found,
            [[list("[\"before\"]"), None], [None, list("[\"whole\"]")]],
            "{bytes:x?}"
        );
        assert_eq!(reading.ledger.http.websocket_broken, 1, "{bytes:x?}");
    }
}

#[test]
fn a_stream_of_http2_has_whole_neighbours() {
    let mut turns = handshake_on_stream("/chat", "");
    let broken = frame(Server, FIN | 3, b"opcode");
    turns.extend(vec![
        (
            Client,
            http2::frame(http2::DATA, 0, 1, &text(Client, "before")),
        ),
        (Client, http2::get(3, "/other")),
        (Server, http2::frame(http2::DATA, 0, 1, &broken)),
        (Server, http2::ok(3, "whole")),
        (
            Client,
            http2::frame(http2::DATA, 0, 1, &text(Client, "behind")),
        ),
    ]);
    let reading = read(&turns);
    let rows: Vec<_> = reading.calls.iter().map(|(row, _)| bodies(row)).collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows,
        [
            [None, None],
            [text("[\"before\"]"), None],
            [None, text("whole")]
        ]
    );
}

#[test]
fn rules_apply_to_messages() {
    let turns = behind_handshake(
        "",
        vec![
            (
                Client,
                text(Client, "{\"card\":\"4111111111111111\",\"id\":7}"),
            ),
            (Client, text(Client, "pay with 4111111111111111")),
            (Server, text(Server, "{\"user\":{\"password\":\"canary\"}}")),
            (Server, frame(Server, TEXT, b"{\"password\":\"can")),
            (Server, frame(Server, FIN | CONTINUATION, b"ary\"}")),
        ],
    );
    let frames = frames_of(&talk(), &turns);
    let rules = "include debug\n\
                 /request_body/ replace /[0-9]{16}/, /x/\n\
                 /response_body:$..password/ remove";
    let reading = read_with(&config(), rules, &frames);
    assert_eq!(
        bodies(messages(&reading)[0]),
        [
            Some("[{\"card\":\"x\",\"id\":7},\"pay with x\"]".to_owned()),
            Some("[{\"user\":{}},{}]".to_owned()),
        ]
    );
    assert!(!format!("{:?}", reading.calls).contains("canary"));
    let stop = "include debug\n/response_body/ stop_if_found /canary/";
    let reading = read_with(&config(), stop, &frames);
    assert!(messages(&reading).is_empty());
    assert_eq!(reading.ledger.message.calls_stopped, 1);
    let preset = read_with(&config(), "include default", &frames);
    assert!(!format!("{:?}", preset.calls).contains("4111"));
}

#[test]
fn what_a_hole_hides_does_not_leave_through_a_mask() {
    let long = format!("{{\"password\":\"{}\"}}", "canary".repeat(200));
    let turns = behind_handshake(
        "",
        vec![
            (Server, text(Server, "{\"password\":\"first\"}")),
            (Server, text(Server, &long)),
            (Server, text(Server, "{\"password\":\"last\"}")),
        ],
    );
    let talk = Conversation { mss: 300, ..talk() };
    let frames = frames_of(&talk, &turns);
    for lost in 5..frames.len() {
        let kept = frames.iter().enumerate().filter(|(at, _)| *at != lost);
        let kept: Vec<_> = kept.map(|(_, frame)| frame).collect();
        let rules = "include debug\n/response_body:$..password/ remove";
        let reading = read_with(&config(), rules, kept.iter().copied());
        let text = format!("{:?}", reading.calls);
        for secret in ["canary", "first", "last"] {
            assert!(!text.contains(secret), "{secret}, without frame {lost}");
        }
        let stop = "include debug\n/response_body/ stop_if_found /nothing like it/";
        let reading = read_with(&config(), stop, kept);
        let has_gap = reading.ledger.http.response_bytes_missing > 0;
        assert!(
            !has_gap || messages(&reading).is_empty(),
            "without frame {lost}"
        );
    }
}

#[test]
fn a_message_is_cut_at_the_body_limit_and_those_behind_it_count() {
    let mut config = config();
    config.message.body_bytes_max = 40;
    config.message.annotate = true;
    let turns = behind_handshake(
        "",
        vec![
            (Server, text(Server, "short")),
            (Server, text(Server, &"long ".repeat(500))),
            (Server, text(Server, "behind")),
        ],
    );
    let reading = read_with(&config, "include debug", &frames_of(&talk(), &turns));
    let row = messages(&reading)[0];
    let body = value(row, "response_body").unwrap();
    assert!(
        body.starts_with("[\"short\",\"long long ") && body.len() == 40,
        "{body}"
    );
    for (key, expected) in [
        ("custom_field:websocket_response_messages", "3"),
        ("custom_field:websocket_response_message_bytes", "2511"),
    ] {
        assert_eq!(value(row, key), Some(expected), "{key}");
    }
    assert_eq!(reading.ledger.message.bodies_limited, 1);
    assert!(reading.calls[1].1.truncated);
}

#[test]
fn memory_of_messages_is_bounded() {
    let mut config = config();
    config.message.open_bytes_max = 300_000;
    let mut frames = Vec::new();
    let deflate = "permessage-deflate";
    for number in 0..60 {
        let mut deflater = Deflater::new(true);
        let noise = Seed::new(number).bytes(40_000);
        let turns = behind_handshake(
            deflate,
            vec![
                (
                    Client,
                    frame(Client, FIN | COMPRESSED | BINARY, &deflater.message(&noise)),
                ),
                (Server, frame(Server, TEXT, &[b'x'; 20_000])),
            ],
        );
        let talk = Conversation {
            client: format!("10.1.1.{number}:40000").parse().unwrap(),
            close: Close::Open,
            ..talk()
        };
        frames.extend(frames_of(&talk, &turns));
    }
    let mut reader = Reader::new(&config);
    let mut most = 0;
    for frame in &frames {
        reader.feed(&captured(frame, usize::MAX));
        most = most.max(reader.ledger().held.exchange_bytes);
    }
    // One message may exceed it by what it has collected.
    assert!(most < 500_000, "{most}");
    let reading = reader.finish();
    assert!(reading.ledger.message.bodies_shed > 0);
}

#[test]
fn parts_together_are_the_whole() {
    let mut parts = 0;
    for number in 0..SEEDS {
        let mut seed = Seed::new(number);
        let chat = Chat::seeded(&mut seed);
        let turns = if seed.chance(500) {
            chat.over_http1("/chat")
        } else {
            chat.over_http2("/chat", &mut seed)
        };
        let talk = Conversation { mss: 900, ..talk() };
        let mut frames = frames_of(&talk, &turns);
        // A second for each some thousand bytes.
        let mut later = 0;
        for frame in &mut frames {
            later += frame.bytes.len() as u64 * 300_000;
            frame.time += later;
        }
        let mut config = config();
        config.message.annotate = true;
        config.message.stream_parts = Some(Duration::from_secs(2));
        let mut reader = Reader::new(&config);
        for frame in &frames {
            reader.feed(&captured(frame, usize::MAX));
            if seed.chance(100) {
                reader.tick(frame.time);
            }
        }
        let reading = reader.finish();
        let rows = messages(&reading);
        let mut lists = [Vec::new(), Vec::new()];
        for (at, row) in rows.iter().enumerate() {
            if rows.len() > 1 {
                let part = (at + 1).to_string();
                assert_eq!(value(row, "custom_field:stream_part"), Some(&*part));
            }
            let is_last = value(row, "custom_field:stream_part_last") == Some("true");
            assert_eq!(
                is_last,
                rows.len() > 1 && at + 1 == rows.len(),
                "seed {number}"
            );
            let id = "custom_field:exchange_id";
            assert_eq!(value(row, id), value(rows[0], id), "seed {number}");
            for (list, body) in lists.iter_mut().zip(bodies(row)) {
                list.extend(body.iter().flat_map(|body| elements(body)));
            }
        }
        let sent = chat.elements.each_ref().map(|elements| {
            let values = elements.iter().map(|text| serde_json::from_str(text));
            values
                .collect::<Result<Vec<serde_json::Value>, _>>()
                .expect("JSON")
        });
        assert_eq!(lists, sent, "seed {number}");
        assert_eq!(
            reading.ledger.http.stream_parts,
            rows.len().saturating_sub(1) as u64,
            "seed {number}"
        );
        parts += rows.len();
    }
    assert!(parts > 2 * SEEDS as usize, "{parts}");
}

/// The answer to the handshake is lost: messages of the client are read if messages are, and what the server sends is counted.
#[test]
fn a_handshake_whose_answer_was_lost() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    let request = |extensions: &str| {
        let (_, head) = handshake("/chat", "").remove(0);
        let head = String::from_utf8(head).expect("text");
        head.trim_end().to_owned() + "\r\n" + extensions
    };
    let answer = handshake("/chat", "").remove(1).1;
    let phantom = "\nGET /phantom HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let of_server = [text(Server, phantom), text(Server, "two")].concat();
    let expected = serde_json::json!([phantom, {"k": 1}]);
    let json = "{\"k\":1}";
    let mut deflater = Deflater::new(true);
    let mut compressed = |message: &str| {
        let payload = deflater.message(message.as_bytes());
        frame(Client, FIN | COMPRESSED | TEXT, &payload)
    };
    let compressed = [compressed(phantom), compressed(json)].concat();
    let plain = [text(Client, phantom), text(Client, json)].concat();
    for (extensions, of_client) in [("\r\n", plain), (offer, compressed)] {
        let length = of_server.len() as u64 + of_client.len() as u64;
        for client_first in [true, false] {
            let mut turns = vec![
                (Client, request(extensions).into_bytes()),
                (Server, answer.clone()),
                (Client, of_client[..1].to_vec()),
                (Client, of_client[1..].to_vec()),
            ];
            turns.insert(
                if client_first { 4 } else { 2 },
                (Server, of_server.clone()),
            );
            let frames = frames_of(&talk(), &turns);
            let kept = || {
                frames
                    .iter()
                    .filter(|frame| !frame.bytes.ends_with(&answer))
            };
            assert_eq!(kept().count() + 1, frames.len());
            let reading = read_with(&config(), "include debug", kept());
            let rows = messages(&reading);
            assert_eq!(rows.len(), 1, "{client_first}");
            let [request, response] = bodies(rows[0]);
            assert_eq!(
                request.map(|list| elements(&list)),
                expected.as_array().cloned()
            );
            assert_eq!(response, None);
            assert_eq!(value(rows[0], "response_code"), None);
            assert_eq!(value(rows[0], "request_url"), Some("http://h/chat"));
            // Beside it there is the handshake, and nothing else.
            let halves = reading.ledger.message.unpaired_for(UnpairedReason::Gap);
            assert_eq!((reading.calls.len(), halves), (2, 1));
            assert_eq!(reading.ledger.http.websocket_connections, 1);
            // What only a response can have is not known.
            let rules = "include debug\n/response_header:x/ stop";
            assert!(read_with(&config(), rules, kept()).calls.is_empty());
            // Where messages are not read, the bytes are those of a tunnel.
            let mut config = config();
            config.message.websocket = false;
            let reading = read_with(&config, "include debug", kept());
            let http = &reading.ledger.http;
            assert_eq!((http.flows_tunnelled, http.heads_malformed), (1, 0));
            assert!((1..=length).contains(&http.bytes_tunnelled));
            assert_eq!((reading.calls.len(), http.bytes_passed_over), (1, 0));
        }
    }
}
