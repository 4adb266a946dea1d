//! Whole conversations through [`Connection`]: a recorder, a slow twin that has all the bytes at once, and the accidents.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::*;
use crate::decap::{Endpoint, Network};
use crate::flow::{Consumer, Direction, FlowEnd, FlowStart, Place};
use crate::limits;

/// Writes every exchange as one line, and checks the order of calls that [`Exchanges`] promises.
#[derive(Default)]
struct Recorder {
    lines: Vec<String>,
    next: u64,
    open: HashMap<u64, &'static str>,
    /// Body bytes handed over.
    body_bytes: u64,
}

#[derive(Debug)]
struct Draft {
    id: u64,
    request: String,
    request_body: Vec<u8>,
    request_end: String,
    response: String,
    response_body: Vec<u8>,
    response_end: String,
}

impl Recorder {
    fn begin(&mut self) -> Draft {
        self.next += 1;
        self.open.insert(self.next, "open");
        Draft {
            id: self.next,
            request: "-".to_owned(),
            request_body: Vec::new(),
            request_end: String::new(),
            response: "-".to_owned(),
            response_body: Vec::new(),
            response_end: String::new(),
        }
    }

    fn end(&mut self, draft: Draft, how: &str) {
        assert_eq!(self.open.remove(&draft.id), Some("open"), "ended once");
        let mut line = draft.request;
        let _ = write!(
            line,
            " {}",
            String::from_utf8_lossy(&draft.request_body).escape_debug()
        );
        let _ = write!(line, "{} => {}", draft.request_end, draft.response);
        let _ = write!(
            line,
            " {}",
            String::from_utf8_lossy(&draft.response_body).escape_debug()
        );
        let _ = write!(line, "{} {how}", draft.response_end);
        self.lines.push(line);
    }
}

fn fields_of(headers: &[Header<'_>]) -> String {
    headers
        .iter()
        .map(|field| {
            format!(
                "[{}={}]",
                field.name.escape_ascii(),
                field.value.escape_ascii()
            )
        })
        .collect()
}

impl Exchanges for Recorder {
    type Draft = Draft;

    fn request(&mut self, head: &RequestHead<'_>, origin: &Origin<'_>) -> Draft {
        let mut draft = self.begin();
        draft.request = format!(
            "#{} @{} {} {} 1.{}{}",
            origin.call_index,
            origin.offset,
            head.method.escape_ascii(),
            head.target.escape_ascii(),
            head.minor,
            fields_of(head.headers)
        );
        draft
    }

    fn orphan_response(&mut self, head: &ResponseHead<'_>, origin: &Origin<'_>) -> Draft {
        let mut draft = self.begin();
        draft.response = format!(
            "orphan #{} @{} {}{}",
            origin.call_index,
            origin.offset,
            head.status,
            fields_of(head.headers)
        );
        draft
    }

    fn request_body(&mut self, draft: &mut Draft, bytes: &[u8]) {
        assert!(draft.request != "-" && draft.request_end.is_empty() && !bytes.is_empty());
        self.body_bytes += bytes.len() as u64;
        draft.request_body.extend_from_slice(bytes);
    }

    fn request_missing(&mut self, draft: &mut Draft, missing: u64) {
        assert!(draft.request != "-" && draft.request_end.is_empty() && missing > 0);
        draft
            .request_body
            .extend_from_slice(format!("<{missing}>").as_bytes());
    }

    fn request_end(&mut self, draft: &mut Draft, end: BodyEnd, _time: Timestamp) {
        assert!(draft.request != "-" && draft.request_end.is_empty());
        draft.request_end = mark(end);
    }

    fn response(&mut self, draft: &mut Draft, head: &ResponseHead<'_>, origin: &Origin<'_>) {
        assert!(draft.request != "-" && draft.response == "-");
        assert!(
            draft
                .request
                .starts_with(&format!("#{} ", origin.call_index))
        );
        draft.response = format!(
            "@{} {}{}",
            origin.offset,
            head.status,
            fields_of(head.headers)
        );
    }

    fn response_body(&mut self, draft: &mut Draft, bytes: &[u8]) {
        assert!(draft.response != "-" && draft.response_end.is_empty() && !bytes.is_empty());
        self.body_bytes += bytes.len() as u64;
        draft.response_body.extend_from_slice(bytes);
    }

    fn response_missing(&mut self, draft: &mut Draft, missing: u64) {
        assert!(draft.response != "-" && draft.response_end.is_empty() && missing > 0);
        draft
            .response_body
            .extend_from_slice(format!("<{missing}>").as_bytes());
    }

    fn response_end(&mut self, draft: &mut Draft, end: BodyEnd, _time: Timestamp) {
        assert!(draft.response != "-" && draft.response_end.is_empty());
        draft.response_end = mark(end);
    }

    fn finish(&mut self, draft: Draft) {
        assert!(
            !draft.request_end.is_empty() && !draft.response_end.is_empty(),
            "both are over: {draft:?}"
        );
        self.end(draft, "done");
    }

    fn half(&mut self, draft: Draft, why: Half) {
        let both = !draft.request_end.is_empty() && !draft.response_end.is_empty();
        assert!(!both, "not half: {draft:?}");
        assert!(
            !draft.request_end.is_empty() || !draft.response_end.is_empty(),
            "neither is over: {draft:?}"
        );
        self.end(draft, &format!("half {why:?}"));
    }
}

fn mark(end: BodyEnd) -> String {
    match end {
        BodyEnd::Complete => ".",
        BodyEnd::Cut => "~",
    }
    .to_owned()
}

/// One thing that happens to a flow.
#[derive(Clone, Debug)]
enum Event {
    /// The client sends.
    C(Vec<u8>),
    /// The server sends.
    S(Vec<u8>),
    /// Bytes from the client are lost.
    LostC(u64),
    /// Bytes from the server are lost.
    LostS(u64),
    /// The client sends FIN.
    FinC,
    /// The server sends FIN.
    FinS,
}

use Event::{C, FinC, FinS, LostC, LostS, S};

fn c(text: &str) -> Event {
    C(text.as_bytes().to_vec())
}

fn s(text: &str) -> Event {
    S(text.as_bytes().to_vec())
}

struct Flow {
    http: Http<Recorder>,
    connection: Option<Connection<Draft>>,
    offsets: [u64; 2],
    clock: u64,
    /// The originator is the server.
    turned: bool,
}

fn start(midstream: bool) -> FlowStart {
    let end = |port| Endpoint {
        addr: [0; 16],
        port,
    };
    FlowStart {
        network: Network::default(),
        originator: end(40000),
        responder: end(80),
        midstream,
        originator_seq: 1,
        time: Timestamp::ZERO,
        number: 1,
    }
}

impl Flow {
    fn new(ports: &str, midstream: bool, turned: bool) -> Self {
        let config = Config {
            ports: PortSet::parse(ports).unwrap(),
        };
        let mut http = Http::new(config, Recorder::default());
        let connection = Connection::open(&start(midstream), &mut http);
        Self {
            http,
            connection: Some(connection),
            offsets: [0; 2],
            clock: 0,
            turned,
        }
    }

    fn place(&mut self, client: bool, len: u64) -> Place {
        self.clock += 1;
        let direction = if client == self.turned {
            Direction::Responder
        } else {
            Direction::Originator
        };
        let offset = &mut self.offsets[usize::from(client)];
        *offset += len;
        Place {
            direction,
            time: Timestamp::from_nanos(self.clock),
            offset: *offset - len,
        }
    }

    /// One event, its bytes in pieces of `step`.
    fn feed(&mut self, event: &Event, step: usize) {
        let (client, bytes, lost) = match event {
            C(bytes) => (true, Some(bytes), 0),
            S(bytes) => (false, Some(bytes), 0),
            LostC(lost) => (true, None, *lost),
            LostS(lost) => (false, None, *lost),
            FinC => (true, None, 0),
            FinS => (false, None, 0),
        };
        for piece in bytes.map_or(&[][..], |bytes| bytes).chunks(step.max(1)) {
            let place = self.place(client, piece.len() as u64);
            self.connection
                .as_mut()
                .unwrap()
                .data(place, piece, &mut self.http);
        }
        if bytes.is_none() {
            let place = self.place(client, lost);
            let connection = self.connection.as_mut().unwrap();
            match lost {
                0 => connection.finished(place, &mut self.http),
                lost => connection.gap(place, lost, &mut self.http),
            }
        }
    }

    fn end(&mut self, how: FlowEnd) {
        let time = Timestamp::from_nanos(self.clock + 1);
        self.connection
            .take()
            .unwrap()
            .close(how, time, &mut self.http);
        assert_eq!(self.http.exchanges.open.len(), 0, "every exchange ended");
        assert_eq!(self.http.buffers.held(), 0, "every buffer came back");
        self.balanced();
        assert_eq!(self.http.counters.open(), 0);
    }

    #[track_caller]
    fn balanced(&self) {
        let counters = &self.http.counters;
        let recorder = &self.http.exchanges;
        assert_eq!(counters.exchanges_opened, recorder.next);
        assert_eq!(counters.open(), recorder.open.len() as u64);
        assert_eq!(
            counters.exchanges_finished + counters.halves(),
            recorder.lines.len() as u64
        );
        assert_eq!(
            counters.requests + counters.orphans,
            counters.exchanges_opened + counters.flows_overflowed
        );
    }
}

fn run(
    events: &[Event],
    step: usize,
    end: FlowEnd,
    ports: &str,
    midstream: bool,
) -> (Vec<String>, Counters) {
    let mut flow = Flow::new(ports, midstream, false);
    for event in events {
        flow.feed(event, step);
    }
    flow.end(end);
    (flow.http.exchanges.lines, flow.http.counters)
}

/// The lines of a conversation closed by FIN, the same for pieces of every size and for a server that is the originator.
#[track_caller]
fn check(events: &[Event], expected: &[&str]) -> Counters {
    check_flow(events, FlowEnd::Fin, false, expected)
}

#[track_caller]
fn check_flow(events: &[Event], end: FlowEnd, midstream: bool, expected: &[&str]) -> Counters {
    let (lines, counters) = run(events, usize::MAX, end, "", midstream);
    assert_eq!(lines, expected);
    let longest = events
        .iter()
        .map(|event| if let C(b) | S(b) = event { b.len() } else { 0 })
        .max()
        .unwrap_or(0);
    for step in 1..longest.min(300) {
        let (cut, same) = run(events, step, end, "", midstream);
        assert_eq!(cut, expected, "in pieces of {step}");
        assert_eq!(same, counters, "in pieces of {step}");
    }
    let mut turned = Flow::new("", midstream, true);
    for event in events {
        turned.feed(event, usize::MAX);
    }
    turned.end(end);
    assert_eq!(
        turned.http.exchanges.lines, expected,
        "with the server as originator"
    );
    counters
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET_LINE: &str = "GET /x 1.1[Host=h] .";
const OK_LINE: &str = "200[Content-Length=2] ok.";

/// The line of the plain call with number `n` at these offsets.
fn plain(n: u64, request_at: usize, response_at: usize) -> String {
    format!("#{n} @{request_at} {GET_LINE} => @{response_at} {OK_LINE} done")
}

#[test]
fn one_call() {
    let counters = check(&[c(GET), s(OK)], &[&plain(1, 0, 0)]);
    assert_eq!(
        (counters.requests, counters.responses, counters.flows_http),
        (1, 1, 1)
    );
    assert_eq!(counters.bytes_hunted, 0);
}

#[test]
fn pipelining_in_every_layout() {
    let lines: Vec<String> = (0..3)
        .map(|n| plain(n as u64 + 1, n * GET.len(), n * OK.len()))
        .collect();
    let expected: Vec<&str> = lines.iter().map(String::as_str).collect();
    check(&[c(&GET.repeat(3)), s(&OK.repeat(3))], &expected);
    check(&[c(&GET.repeat(3)), s(OK), s(OK), s(OK)], &expected);
    check(&[c(GET), c(GET), c(GET), s(&OK.repeat(3))], &expected);
    check(&[c(GET), s(OK), c(GET), s(OK), c(GET), s(OK)], &expected);
}
