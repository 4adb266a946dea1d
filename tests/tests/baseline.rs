//! The 66 cases, 1307 calls, on which network-sniffer 1.x was measured, each plain and in VXLAN. It reported 791 of the
//! calls correctly; here every call of every case is reported once, as it was sent. Here belongs no other case.
//!
//! HTTP/2 without TLS is one of them: its calls are counted here, `http2.rs` has what is in them. All others that are not about
//! the bytes of HTTP/1 have a twin with the same calls in HTTP/2.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bench::collect::value;
use bench::traffic::{
    Body, Coding, Conversation, Exchange, Frame as Made, Framing, Segment, Side, Vxlan, Wire, flags,
};
use tests::engine::{Reading, captured, read};
use tests::truth;

type Turns = Vec<(Side, Vec<u8>)>;

/// One case: the conversations, and what happens to them on the way.
struct Case {
    name: &'static str,
    talks: Vec<Conversation>,
    vlans: Vec<u16>,
    /// Changes the turns of a conversation.
    with_turns: Option<fn(Turns) -> Turns>,
    /// Changes the segments of a conversation.
    change: fn(&mut Vec<Segment>),
    /// Wraps one frame, which may give several.
    packet: fn(Vec<u8>) -> Vec<Vec<u8>>,
    /// Calls that the capture does not hold as a whole.
    incomplete: &'static [u64],
    is_http2: bool,
}

const CALLS: u64 = 20;

fn case(name: &'static str, exchange: fn(u64) -> Exchange) -> Case {
    calls(name, CALLS, exchange)
}

fn calls(name: &'static str, count: u64, exchange: fn(u64) -> Exchange) -> Case {
    let talk = Conversation {
        // No acknowledgement within a turn, so that no byte is acknowledged before the capture has it.
        ack_every: usize::MAX,
        ..Conversation::new((0..count).map(exchange).collect())
    };
    Case {
        name,
        talks: vec![talk],
        vlans: Vec::new(),
        with_turns: None,
        change: |_| (),
        packet: |frame| vec![frame],
        incomplete: &[],
        is_http2: false,
    }
}

impl Case {
    fn mss(mut self, mss: usize) -> Self {
        self.talks.iter_mut().for_each(|talk| talk.mss = mss);
        self
    }

    fn with_turns(self, with_turns: fn(Turns) -> Turns) -> Self {
        Self {
            with_turns: Some(with_turns),
            ..self
        }
    }

    /// The same calls in HTTP/2, unless the case is about bytes of HTTP/1, or about bytes that are missing: which calls these
    /// belong to is different there (`http2`).
    fn in_http2(mut self) -> Option<Self> {
        if self.with_turns.is_some() || !self.incomplete.is_empty() {
            return None;
        }
        for talk in &mut self.talks {
            talk.http2 = true;
            for exchange in &mut talk.exchanges {
                if exchange.response_body.framing == Framing::Close {
                    exchange.response_body.framing = Framing::Length;
                }
            }
        }
        // What each side sends first goes with its first message, so that a turn is a message as in HTTP/1.
        Some(self.with_turns(|mut turns| {
            for side in [Side::Client, Side::Server] {
                let mut own = turns.iter().enumerate().filter(|(_, turn)| turn.0 == side);
                if let (Some((first, _)), Some((second, _))) = (own.next(), own.next()) {
                    let begin = std::mem::take(&mut turns[first].1);
                    turns[second].1.splice(0..0, begin);
                }
            }
            turns.retain(|(_, bytes)| !bytes.is_empty());
            turns
        }))
    }

    fn change(self, change: fn(&mut Vec<Segment>)) -> Self {
        Self { change, ..self }
    }

    fn packet(self, packet: fn(Vec<u8>) -> Vec<Vec<u8>>) -> Self {
        Self { packet, ..self }
    }

    fn vlans(self, vlans: &[u16]) -> Self {
        Self {
            vlans: vlans.to_vec(),
            ..self
        }
    }

    fn incomplete(self, incomplete: &'static [u64]) -> Self {
        Self { incomplete, ..self }
    }

    fn pipelined(mut self, depth: usize) -> Self {
        self.talks.iter_mut().for_each(|talk| talk.pipeline = depth);
        self
    }

    fn isn(mut self, isn: [u32; 2]) -> Self {
        self.talks.iter_mut().for_each(|talk| talk.isn = isn);
        self
    }

    fn ipv6(mut self) -> Self {
        let host = |last| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
        for talk in &mut self.talks {
            talk.client = SocketAddr::new(host(2), talk.client.port());
            talk.server = SocketAddr::new(host(1), talk.server.port());
        }
        self
    }

    /// A connection of its own for each call, one after the other; `ports` gives each its own.
    fn apart(mut self, ports: bool) -> Self {
        let talk = self.talks.remove(0);
        let alone = |(exchange, number): (&Exchange, u32)| Conversation {
            exchanges: vec![exchange.clone()],
            client: SocketAddr::new(
                talk.client.ip(),
                talk.client.port() + if ports { number as u16 } else { 0 },
            ),
            isn: [1_000 + number * 3_000_000, 2_000 + number * 7_000_000],
            start: talk.start + u64::from(number) * 500_000_000,
            ..talk.clone()
        };
        self.talks = talk.exchanges.iter().zip(0..).map(alone).collect();
        self
    }

    fn frames(&self, tunnel: Option<Vxlan>) -> Vec<Made> {
        let wire = Wire {
            vlans: self.vlans.clone(),
            ..Wire::default()
        };
        let mut frames = Vec::new();
        for talk in &self.talks {
            let turns = talk.turns();
            let mut segments = talk.segments_of(&match self.with_turns {
                Some(change) => change(turns),
                None => turns,
            });
            (self.change)(&mut segments);
            for segment in &segments {
                let frame = wire.frame(talk, segment);
                frames.extend((self.packet)(frame.bytes).into_iter().map(|inner| {
                    let bytes = match tunnel {
                        Some(tunnel) => tunnel.wrap(segment.side, talk.client.port(), &inner),
                        None => inner,
                    };
                    Made {
                        time: segment.time,
                        bytes,
                    }
                }));
            }
        }
        frames
    }

    fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.talks.iter().flat_map(|talk| &talk.exchanges)
    }

    /// What is wrong with a reading of this case.
    fn judge(&self, reading: Reading) -> Result<(), String> {
        if self.is_http2 {
            let flows = reading.ledger.http.flows_http2;
            let calls = reading.calls.len();
            return (flows == 1 && calls == self.exchanges().count())
                .then_some(())
                .ok_or(format!("{flows} flows of HTTP/2 with {calls} calls"));
        }
        let is_whole = |number: u64| !self.incomplete.contains(&number);
        let mut whole = Vec::new();
        for (row, notes) in reading.calls {
            let number = value(&row, "request_header:x-call-number").and_then(|n| n.parse().ok());
            if number.is_none_or(is_whole) {
                whole.push(row);
            } else if notes.missing_bytes == 0 {
                return Err(format!("call {number:?} is not marked as incomplete"));
            }
        }
        let expected = self
            .exchanges()
            .filter(|exchange| is_whole(exchange.number));
        truth::check_all(expected, &whole).map_err(|error| format!("{error:#}"))
    }
}

#[track_caller]
fn check(tunnel: Option<Vxlan>) {
    let cases = cases();
    assert_eq!(cases.len(), 66);
    let exchanges: usize = cases.iter().map(|case| case.exchanges().count()).sum();
    // One call more: the capture that starts in the middle of a call has a call that is not one of the 1307.
    assert_eq!(exchanges, 1307 + 1);
    let twins: Vec<_> = cases_in_http2();
    let calls: usize = twins.iter().map(|case| case.exchanges().count()).sum();
    assert_eq!((twins.len(), calls), (53, 1045));
    let mut wrong = Vec::new();
    for case in cases.iter().chain(&twins) {
        let frames = case.frames(tunnel);
        let reading = read(frames.iter().map(|frame| captured(frame, usize::MAX)));
        if let Err(error) = case.judge(reading) {
            let twin = if case.talks[0].http2 { " (twin)" } else { "" };
            wrong.push(format!("{}{twin}: {error}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_case_plain() {
    check(None);
}

#[test]
fn every_case_in_vxlan() {
    check(Some(Vxlan::new(123)));
}

fn cases() -> Vec<Case> {
    let mut all = messages();
    all.extend(framings());
    all.extend(segments_moved());
    all.extend(connections());
    all.extend(packets());
    all
}

fn cases_in_http2() -> Vec<Case> {
    cases().into_iter().filter_map(Case::in_http2).collect()
}

fn get(number: u64) -> Exchange {
    Exchange::get(number, "/orders/1", "{\"answer\":42}")
}

fn answered(number: u64, body: Body) -> Exchange {
    Exchange {
        response_body: body,
        ..get(number)
    }
}

/// `length` bytes of text that differ from place to place.
fn text(length: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|line: u32| format!("line {line} of the answer\n").into_bytes());
    lines.take(length).collect()
}

fn body(length: usize, coding: Coding, framing: Framing) -> Body {
    Body {
        plain: text(length),
        coding,
        framing,
    }
}

fn long(number: u64) -> Exchange {
    answered(number, body(4_000, Coding::Identity, Framing::Length))
}

fn sent(method: &str, number: u64, length: usize, framing: Framing) -> Exchange {
    Exchange {
        method: method.into(),
        request_body: body(length, Coding::Identity, framing),
        ..get(number)
    }
}

fn chunked(number: u64) -> Exchange {
    answered(number, body(2_000, Coding::Identity, Framing::Chunked(700)))
}

fn coded(number: u64, coding: Coding) -> Exchange {
    answered(number, body(3_000, coding, Framing::Length))
}

fn bodiless(number: u64, method: &str, status: u16, framing: Framing) -> Exchange {
    Exchange {
        method: method.into(),
        status,
        response_body: body(300, Coding::Identity, framing),
        ..get(number)
    }
}

fn continued(number: u64) -> Exchange {
    Exchange {
        interim: vec![100],
        ..sent("POST", number, 500, Framing::Length)
    }
}

/// Cases about the content of messages.
fn messages() -> Vec<Case> {
    vec![
        case("keep-alive", get),
        case("20 kB response", |n| {
            answered(n, body(20_000, Coding::Identity, Framing::Length))
        }),
        calls("1 MB response, 700 segments", 4, |n| {
            answered(n, body(1_000_000, Coding::Identity, Framing::Length))
        }),
        case("gzip", |n| coded(n, Coding::Gzip)),
        case("deflate", |n| coded(n, Coding::Deflate)),
        case("br", |n| coded(n, Coding::Brotli)),
        case("zstd", |n| coded(n, Coding::Zstd)),
        case("gzip, chunked", |n| {
            answered(n, body(3_000, Coding::Gzip, Framing::Chunked(50)))
        }),
        case("HEAD", |n| bodiless(n, "HEAD", 200, Framing::Absent)),
        case("HEAD with Content-Length", |n| {
            bodiless(n, "HEAD", 200, Framing::Length)
        }),
        case("304", |n| bodiless(n, "GET", 304, Framing::Absent)),
        case("304 with Content-Length", |n| {
            bodiless(n, "GET", 304, Framing::Length)
        }),
        case("204", |n| bodiless(n, "GET", 204, Framing::Absent)),
        case("DELETE with a body", |n| {
            sent("DELETE", n, 300, Framing::Length)
        }),
        case("PATCH with a body", |n| {
            sent("PATCH", n, 300, Framing::Length)
        }),
        case("PUT with a body", |n| sent("PUT", n, 300, Framing::Length)),
        case("POST in several segments", |n| {
            sent("POST", n, 5_000, Framing::Length)
        }),
        case("100-continue", continued),
        case("100-continue whose 100 carries a header", continued).with_turns(|turns| {
            let interim = Exchange::interim_head(100);
            let with_header = b"HTTP/1.1 100 Continue\r\nX-Wait: no\r\n\r\n".to_vec();
            turns
                .into_iter()
                .map(|(side, bytes)| {
                    (
                        side,
                        if bytes == interim {
                            with_header.clone()
                        } else {
                            bytes
                        },
                    )
                })
                .collect()
        }),
        case("4 kB of headers", |n| Exchange {
            request_headers: vec![("Cookie".into(), format!("token={}", "ab".repeat(2_000)))],
            ..get(n)
        }),
        case("header names in lower case", get).with_turns(|turns| {
            let lower = |(side, bytes): (Side, Vec<u8>)| (side, lower_names(&bytes));
            turns.into_iter().map(lower).collect()
        }),
        case("a segment of zero bytes", |n| {
            answered(
                n,
                Body {
                    plain: [text(1_000), vec![0; 3_000], text(100)].concat(),
                    coding: Coding::Identity,
                    framing: Framing::Length,
                },
            )
        })
        .mss(1_000),
    ]
}

fn lower_names(bytes: &[u8]) -> Vec<u8> {
    let bytes = String::from_utf8(bytes.to_vec()).expect("it is text");
    let (head, body) = bytes.split_once("\r\n\r\n").expect("it has a head");
    let lines = head.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
        None => line.to_owned(),
    });
    let head = lines.collect::<Vec<_>>().join("\r\n");
    format!("{head}\r\n\r\n{body}").into_bytes()
}

/// Cuts the turns of servers; `at` computes the place.
fn cut(turns: Turns, at: fn(&[u8]) -> usize) -> Turns {
    let mut result = Vec::new();
    for (side, bytes) in turns {
        if side == Side::Client {
            result.push((side, bytes));
            continue;
        }
        let (before, behind) = bytes.split_at(at(&bytes));
        result.push((side, before.to_vec()));
        result.push((side, behind.to_vec()));
    }
    result
}

/// Where `part` ends in `bytes`.
fn end_of(bytes: &[u8], part: &[u8]) -> usize {
    let found = bytes.windows(part.len()).position(|window| window == part);
    found.expect("it is there") + part.len()
}

/// Cases about framing, and about where segments end.
fn framings() -> Vec<Case> {
    vec![
        case("chunked, in one segment", |n| {
            answered(n, body(900, Coding::Identity, Framing::Chunked(300)))
        }),
        case("chunked, in many segments", chunked).mss(90),
        case("chunked, the last chunk in its own segment", chunked)
            .mss(9_000)
            .with_turns(|turns| cut(turns, |bytes| bytes.len() - 5)),
        case("chunked, the last chunk cut in two", chunked)
            .mss(9_000)
            .with_turns(|turns| {
                // At another place in each call.
                let cuts: [fn(&[u8]) -> usize; 4] = [
                    |bytes| bytes.len() - 4,
                    |bytes| bytes.len() - 3,
                    |bytes| bytes.len() - 2,
                    |bytes| bytes.len() - 1,
                ];
                let pairs = turns.chunks(2).zip(cuts.into_iter().cycle());
                pairs
                    .flat_map(|(pair, at)| cut(pair.to_vec(), at))
                    .collect()
            }),
        case(
            "chunked, text that ends as a last chunk does, at a segment's end",
            |n| {
                answered(
                    n,
                    Body {
                        plain: b"begin 0\r\n\r\n and end".to_vec(),
                        coding: Coding::Identity,
                        framing: Framing::Chunked(1_000),
                    },
                )
            },
        )
        .with_turns(|turns| cut(turns, |bytes| end_of(bytes, b"begin 0\r\n\r\n"))),
        case("chunked, with a trailer", chunked).with_turns(|turns| {
            let trail = |(side, mut bytes): (Side, Vec<u8>)| {
                if side == Side::Server {
                    bytes.truncate(bytes.len() - 2);
                    bytes.extend_from_slice(b"X-Checksum: 17\r\n\r\n");
                }
                (side, bytes)
            };
            turns.into_iter().map(trail).collect()
        }),
        case("chunked request", |n| {
            sent("POST", n, 2_000, Framing::Chunked(512))
        }),
        case("no length, ended by FIN", |n| {
            answered(n, body(3_000, Coding::Identity, Framing::Close))
        })
        .apart(true),
        case("cut within the Content-Length header", long)
            .with_turns(|turns| cut(turns, |bytes| end_of(bytes, b"Content-Le"))),
        case("cut within the empty line", long)
            .with_turns(|turns| cut(turns, |bytes| end_of(bytes, b"\r\n\r\n") - 1)),
        calls(
            "pipelining: 3 requests in one segment, 3 responses in one",
            21,
            get,
        )
        .pipelined(3),
        calls(
            "pipelining: 3 requests in one segment, responses in their own",
            21,
            get,
        )
        .pipelined(3)
        .with_turns(|turns| one_by_one(turns, &[Side::Server])),
        calls(
            "pipelining: requests and responses in their own segments",
            21,
            get,
        )
        .pipelined(3)
        .with_turns(|turns| one_by_one(turns, &[Side::Client, Side::Server])),
    ]
}

/// Each message of these sides as a turn of its own.
fn one_by_one(turns: Turns, sides: &[Side]) -> Turns {
    let mut result = Vec::new();
    for (side, bytes) in turns {
        if !sides.contains(&side) {
            result.push((side, bytes));
            continue;
        }
        let start: &[u8] = if side == Side::Client {
            b"GET /"
        } else {
            b"HTTP/1.1 "
        };
        let starts = bytes.windows(start.len()).enumerate();
        let mut cuts: Vec<usize> = starts
            .filter(|(_, window)| *window == start)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(cuts.len(), 3);
        cuts.push(bytes.len());
        let pieces = cuts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec());
        result.extend(pieces.map(|piece| (side, piece)));
    }
    result
}

/// Indices of the segments with data, for each turn of `side`.
fn turns_of(segments: &[Segment], side: Side) -> Vec<Vec<usize>> {
    let mut turns: Vec<Vec<usize>> = Vec::new();
    let mut last = None;
    for (index, segment) in segments.iter().enumerate() {
        if segment.payload.is_empty() {
            continue;
        }
        if segment.side == side {
            match turns.last_mut() {
                Some(turn) if last == Some(side) => turn.push(index),
                _ => turns.push(vec![index]),
            }
        }
        last = Some(segment.side);
    }
    turns
}

/// Each turn of `side` by itself, from the last to the first, so that a change does not move the others.
fn each_turn(
    segments: &mut Vec<Segment>,
    side: Side,
    mut change: impl FnMut(&mut Vec<Segment>, &[usize]),
) {
    for turn in turns_of(segments, side).iter().rev() {
        change(segments, turn);
    }
    in_time(segments);
}

/// Gives the segments rising times in their present order.
fn in_time(segments: &mut [Segment]) {
    let mut last = 0;
    for segment in segments {
        segment.time = segment.time.max(last + 1_000);
        last = segment.time;
    }
}

/// The bytes of these segments from `from` to `to`, sent again as one.
fn again(segments: &[Segment], turn: &[usize], from: usize, to: usize) -> Segment {
    let first = &segments[turn[0]];
    let bytes = turn
        .iter()
        .flat_map(|index| segments[*index].payload.iter());
    let bytes: Vec<u8> = bytes.copied().collect();
    Segment {
        seq: first.seq.wrapping_add(from as u32),
        payload: bytes[from..to].to_vec(),
        ..first.clone()
    }
}

/// Cases about TCP, and about what happens on the way to the capture.
fn segments_moved() -> Vec<Case> {
    vec![
        case("segments swapped", long).change(|all| {
            each_turn(all, Side::Server, |all, turn| all.swap(turn[0], turn[1]));
        }),
        case("the first segment last", long).change(|all| {
            each_turn(all, Side::Server, |all, turn| {
                all[turn[0]..=turn[turn.len() - 1]].rotate_left(1);
            });
        }),
        case("the last segment first", long).change(|all| {
            each_turn(all, Side::Server, |all, turn| {
                all[turn[0]..=turn[turn.len() - 1]].rotate_right(1);
            });
        }),
        case("the response before its request", get).change(|all| {
            let requests = turns_of(all, Side::Client);
            for (request, response) in requests.iter().zip(turns_of(all, Side::Server)) {
                all[request[0]..=response[0]].rotate_right(1);
            }
            in_time(all);
        }),
        case("segments of a POST swapped", |n| {
            sent("POST", n, 4_000, Framing::Length)
        })
        .change(|all| {
            each_turn(all, Side::Client, |all, turn| all.swap(turn[0], turn[1]));
        }),
        case("a segment sent again", long).change(|all| {
            each_turn(all, Side::Server, |all, turn| {
                let copy = all[turn[1]].clone();
                all.insert(turn[1] + 1, copy);
            });
        }),
        case(
            "the last segment sent again, after its acknowledgement",
            long,
        )
        .change(|all| {
            each_turn(all, Side::Server, |all, turn| {
                let last = turn[turn.len() - 1];
                let copy = all[last].clone();
                all.insert(last + 2, copy);
            });
        }),
        case("the request sent again", long).change(|all| {
            each_turn(all, Side::Client, |all, turn| {
                let copy = all[turn[0]].clone();
                all.insert(turn[0] + 1, copy);
            });
        }),
        case("two segments sent again as one", long).change(|all| {
            each_turn(all, Side::Server, |all, turn| {
                let both = again(all, turn, 0, 2 * 1448);
                all.insert(turn[1] + 1, both);
            });
        }),
        case("a retransmission that overlaps new data", long).change(|all| {
            each_turn(all, Side::Server, |all, turn| {
                all[turn[1]] = again(all, turn, 700, 2 * 1448);
            });
        }),
        case("a hole filled with other cuts", long).change(|all| {
            each_turn(all, Side::Server, |all, turn| {
                let filling = [again(all, turn, 0, 2_000), again(all, turn, 2_000, 3_500)];
                // Both come after the segments that are there already; the first was lost on its way.
                let behind = turn[turn.len() - 1] + 1;
                all.splice(behind..behind, filling);
                all.remove(turn[0]);
            });
        }),
        case("calls after a lost segment", long)
            .incomplete(&[0])
            .change(|all| {
                let lost = turns_of(all, Side::Server)[0][1];
                all.remove(lost);
            }),
        case("sequence numbers that wrap", long).isn([u32::MAX - 1_000, u32::MAX - 30_000]),
        case("keep-alive probes of one byte between calls", get).change(|all| {
            each_turn(all, Side::Client, |all, turn| {
                let request = &all[turn[0]];
                let probe = Segment {
                    seq: request.seq.wrapping_sub(1),
                    flags: flags::ACK,
                    payload: vec![0],
                    ..request.clone()
                };
                let answer = Segment {
                    side: Side::Server,
                    seq: request.ack,
                    ack: request.seq,
                    payload: Vec::new(),
                    ..probe.clone()
                };
                all.splice(turn[0]..turn[0], [probe, answer]);
            });
        }),
    ]
}

/// Delays all segments from there on by `nanos`.
fn delay(all: &mut [Segment], from: usize, nanos: u64) {
    all[from..]
        .iter_mut()
        .for_each(|segment| segment.time += nanos);
}

const THREE_SECONDS: u64 = 3_000_000_000;

/// Cases about the start of a capture, and about one tuple that is used again.
fn connections() -> Vec<Case> {
    vec![
        case("plain GET, a connection each", get).apart(true),
        case("the client's port used again", get).apart(false),
        case("3 s between request and response", get).change(|all| {
            each_turn(all, Side::Server, |all, turn| {
                delay(all, turn[0], THREE_SECONDS);
            });
        }),
        case("3 s in the middle of a response", long).change(|all| {
            each_turn(all, Side::Server, |all, turn| {
                delay(all, turn[1], THREE_SECONDS);
            });
        }),
        calls("the capture starts within the connection", 21, long)
            .incomplete(&[0])
            .change(|all| {
                // With the last segment of the first response, whose request is gone too.
                let first = turns_of(all, Side::Server)[0].clone();
                all.drain(..first[first.len() - 1]);
            }),
        Case {
            is_http2: true,
            ..case("HTTP/2 without TLS", get)
        }
        .with_turns(|turns| {
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
            let mut bytes = vec![
                (Side::Client, preface),
                (Side::Server, b"\0\0\0\x04\0\0\0\0\0".to_vec()),
            ];
            // HEADERS of a stream each: `:method GET`, `:scheme http`, `:path /` by their static indices.
            for number in 0..turns.len() as u8 / 2 {
                let stream = 2 * number + 1;
                bytes.push((
                    Side::Client,
                    vec![0, 0, 3, 1, 5, 0, 0, 0, stream, 0x82, 0x86, 0x84],
                ));
                bytes.push((Side::Server, vec![0, 0, 1, 1, 5, 0, 0, 0, stream, 0x88]));
            }
            bytes
        }),
    ]
}

/// Cases about encapsulation.
fn packets() -> Vec<Case> {
    vec![
        case("IPv6", long).ipv6(),
        case("IPv6 with hop-by-hop options", long)
            .ipv6()
            .packet(|frame| vec![with_ipv6_options(&frame, 0)]),
        case("IPv6 with destination options", long)
            .ipv6()
            .packet(|frame| vec![with_ipv6_options(&frame, 60)]),
        case("IPv4 options", long).packet(|frame| vec![with_ipv4_options(&frame)]),
        case("802.1Q", long).vlans(&[7]),
        case("QinQ", long).vlans(&[100, 7]),
        case("jumbo frames", |n| {
            answered(n, body(20_000, Coding::Identity, Framing::Length))
        })
        .mss(8_961),
        case("a segment-offload frame of 20 kB", |n| {
            answered(n, body(20_000, Coding::Identity, Framing::Length))
        })
        .mss(60_000),
        case("frames of 2 kB", long).mss(1_960),
        case("IP fragments", long).packet(|frame| fragments(&frame)),
        case("every frame twice", long).packet(|frame| vec![frame.clone(), frame]),
    ]
}

/// The Ethernet header and the rest.
fn split_ethernet(frame: &[u8]) -> (&[u8], &[u8]) {
    frame.split_at(14)
}

fn with_ipv6_options(frame: &[u8], next_header: u8) -> Vec<u8> {
    let (ethernet, packet) = split_ethernet(frame);
    let (header, payload) = packet.split_at(40);
    let mut header = header.to_vec();
    let length = u16::from_be_bytes([header[4], header[5]]) + 8;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    let behind = std::mem::replace(&mut header[6], next_header);
    // Eight octets, six of them PadN (RFC 8200 §4.2).
    let options = [behind, 0, 1, 4, 0, 0, 0, 0];
    [ethernet, &header, &options, payload].concat()
}

fn with_ipv4_options(frame: &[u8]) -> Vec<u8> {
    let (ethernet, packet) = split_ethernet(frame);
    let (header, payload) = packet.split_at(20);
    let mut header = header.to_vec();
    header[0] = 0x46;
    let length = u16::from_be_bytes([header[2], header[3]]) + 4;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    // Three times "no operation", and the end (RFC 791 §3.1). The padding stays.
    [ethernet, &header, &[1, 1, 1, 0], payload].concat()
}

/// Two fragments of each packet that is long enough, the second one first for every other packet.
fn fragments(frame: &[u8]) -> Vec<Vec<u8>> {
    const MORE: u16 = 0x2000;
    let (ethernet, packet) = split_ethernet(frame);
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let (header, payload) = packet[..total].split_at(20);
    if payload.len() < 64 {
        return vec![frame.to_vec()];
    }
    // Different for each packet, as a sender makes it: from the sequence and acknowledgement numbers.
    let identification = payload[4..12].chunks(2).fold(0, |sum: u16, pair| {
        sum.wrapping_mul(31)
            .wrapping_add(u16::from_be_bytes([pair[0], pair[1]]))
    });
    let cut = payload.len() / 2 / 8 * 8;
    let piece = |bytes: &[u8], offset: usize, more: u16| {
        let mut header = header.to_vec();
        header[2..4].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
        header[4..6].copy_from_slice(&identification.to_be_bytes());
        header[6..8].copy_from_slice(&((offset / 8) as u16 | more).to_be_bytes());
        [ethernet, &header, bytes].concat()
    };
    let mut pieces = vec![
        piece(&payload[..cut], 0, MORE),
        piece(&payload[cut..], cut, 0),
    ];
    if identification % 2 == 1 {
        pieces.reverse();
    }
    pieces
}
