//! Whole conversations through [`Connection`]: a recorder, a slow twin that has all the bytes at once, and the accidents.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use crate::decap::{Endpoint, Network};
use crate::flow::{Acked, ByteInfo, Consumer, Direction, FlowEnd, FlowStart};
use crate::http::*;
use crate::limits;
use crate::time::Timestamp;

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

impl Draft {
    /// The body of a message that has begun and is not over.
    fn open_body(&mut self, side: Side) -> &mut Vec<u8> {
        let (head, body, end) = match side {
            Side::Request => (&self.request, &mut self.request_body, &self.request_end),
            Side::Response => (&self.response, &mut self.response_body, &self.response_end),
        };
        assert!(head != "-" && end.is_empty());
        body
    }
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

fn number_of(version: Version) -> &'static str {
    match version {
        Version::Http09 => "0.9",
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
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
            "#{} @{} {} {} {}{}",
            origin.call_index,
            origin.message.number(),
            head.method.escape_ascii(),
            head.target.escape_ascii(),
            number_of(head.version),
            fields_of(head.headers)
        );
        draft
    }

    fn orphan_response(&mut self, head: &ResponseHead<'_>, origin: &Origin<'_>) -> Draft {
        let mut draft = self.begin();
        draft.response = format!(
            "orphan #{} @{} {}{}",
            origin.call_index,
            origin.message.number(),
            head.status,
            fields_of(head.headers)
        );
        draft
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
            origin.message.number(),
            head.status,
            fields_of(head.headers)
        );
    }

    fn body(&mut self, draft: &mut Draft, side: Side, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        self.body_bytes += bytes.len() as u64;
        draft.open_body(side).extend_from_slice(bytes);
    }

    fn missing(&mut self, draft: &mut Draft, side: Side, count: u64) {
        assert!(count > 0);
        let body = draft.open_body(side);
        body.extend_from_slice(format!("<{count}>").as_bytes());
    }

    fn end(&mut self, draft: &mut Draft, side: Side, end: BodyEnd, _time: Timestamp) {
        draft.open_body(side);
        let mark = match end {
            BodyEnd::Complete => ".",
            BodyEnd::Cut => "~",
        };
        match side {
            Side::Request => draft.request_end = mark.to_owned(),
            Side::Response => draft.response_end = mark.to_owned(),
        }
    }

    fn retract_response(&mut self, draft: &mut Draft) {
        assert!(!draft.response_end.is_empty());
        draft.response = "-".to_owned();
        draft.response_body.clear();
        draft.response_end.clear();
    }

    fn finish(&mut self, draft: Draft) {
        assert!(
            !draft.request_end.is_empty() && !draft.response_end.is_empty(),
            "both are over: {draft:?}"
        );
        self.end(draft, "done");
    }

    fn unpaired(&mut self, draft: Draft, reason: UnpairedReason) {
        let both = !draft.request_end.is_empty() && !draft.response_end.is_empty();
        assert!(!both, "not half: {draft:?}");
        assert!(
            !draft.request_end.is_empty() || !draft.response_end.is_empty(),
            "neither is over: {draft:?}"
        );
        self.end(draft, &format!("half {reason:?}"));
    }
}

/// One thing that happens to a flow.
#[derive(Clone)]
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

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            C(bytes) => write!(f, "\nC {}", bytes.escape_ascii()),
            S(bytes) => write!(f, "\nS {}", bytes.escape_ascii()),
            LostC(lost) => write!(f, "\nC lost {lost}"),
            LostS(lost) => write!(f, "\nS lost {lost}"),
            FinC => write!(f, "\nC FIN"),
            FinS => write!(f, "\nS FIN"),
        }
    }
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
    /// Nobody acknowledges anything.
    silent: bool,
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
        evicted: false,
        originator_seq: 1,
        time: Timestamp::ZERO,
        number: 1,
    }
}

impl Flow {
    fn new(ports: &str, midstream: bool, turned: bool) -> Self {
        let config = Config {
            ports: PortSet::parse(ports).unwrap(),
            ..Config::default()
        };
        let mut http = Http::new(config, Recorder::default());
        let connection = Connection::open(&start(midstream), &mut http);
        Self {
            http,
            connection: Some(connection),
            offsets: [0; 2],
            clock: 0,
            turned,
            silent: false,
        }
    }

    fn place(&mut self, client: bool, len: u64) -> ByteInfo {
        self.clock += 1;
        let direction = if client == self.turned {
            Direction::Responder
        } else {
            Direction::Originator
        };
        // Whoever sends has received all that was sent before.
        let acked = match self.silent {
            true => Acked::ABSENT,
            false => Some(self.offsets[usize::from(!client)]).into(),
        };
        let offset = &mut self.offsets[usize::from(client)];
        *offset += len;
        ByteInfo {
            direction,
            time: Timestamp::from_nanos(self.clock),
            offset: *offset - len,
            acked,
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

    fn ignored(&self) -> bool {
        let connection = self.connection.as_ref().unwrap();
        Consumer::<Http<Recorder>>::ignores(connection, Direction::Originator)
    }

    fn end(&mut self, how: FlowEnd) {
        self.connection.take().unwrap().close(how, &mut self.http);
        assert_eq!(self.http.exchanges.open.len(), 0, "every exchange ended");
        assert_eq!(self.http.buffers.held(), 0, "every buffer came back");
        self.balanced();
    }

    #[track_caller]
    fn balanced(&self) {
        let counters = &self.http.counters;
        let recorder = &self.http.exchanges;
        assert_eq!(counters.exchanges_opened, recorder.next);
        let ended = counters.exchanges_finished + counters.unpaired_total();
        assert_eq!(ended, recorder.lines.len() as u64);
        assert_eq!(
            counters.exchanges_opened - ended,
            recorder.open.len() as u64
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
        // Only what has to be copied depends on the pieces.
        let same = Counters {
            bytes_copied: counters.bytes_copied,
            ..same
        };
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

#[test]
fn responses_without_a_body_whatever_their_length_says() {
    let head = "HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n";
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
    let same = "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n";
    let none = "HTTP/1.1 204 No Content\r\n\r\n";
    check(
        &[
            c(head),
            s(long),
            c(GET),
            s(same),
            c(GET),
            s(none),
            c(GET),
            s(OK),
        ],
        &[
            "#1 @0 HEAD /x 1.1[Host=h] . => @0 200[Content-Length=1234] . done",
            &format!("#2 @29 {GET_LINE} => @41 304[Content-Length=77] . done"),
            &format!("#3 @57 {GET_LINE} => @90 204 . done"),
            &plain(4, 85, 117),
        ],
    );
}

#[test]
fn chunked_bodies() {
    let post = "POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6;e=1\r\nhello \r\n5\r\nworld\r\n0\r\nX-Sum: 5\r\n\r\n";
    let response =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n0\r\n\r\nab\r\n0\r\n\r\n";
    check(
        &[c(post), s(response), c(GET), s(OK)],
        &[
            r"#1 @0 POST /up 1.1[Transfer-Encoding=chunked] hello world. => @0 200[Transfer-Encoding=chunked] 0\r\n\r\nab. done",
            &plain(2, post.len(), response.len()),
        ],
    );
}

#[test]
fn bodies_until_the_close() {
    let response = "HTTP/1.0 200 OK\r\n\r\nuntil the end";
    let line = |end: &str| format!("#1 @0 {GET_LINE} => @0 200 until the end{end} done");
    check(&[c(GET), s(response), FinS], &[&line(".")]);
    check(&[c(GET), s(response)], &[&line(".")]);
    check_flow(&[c(GET), s(response)], FlowEnd::Reset, false, &[&line("~")]);
    check_flow(&[c(GET), s(response)], FlowEnd::Idle, false, &[&line("~")]);
    check_flow(
        &[c(GET), s(response), FinS],
        FlowEnd::Reset,
        false,
        &[&line(".")],
    );
    check(
        &[
            c(GET),
            s("HTTP/1.0 200 OK\r\n\r\nuntil"),
            LostS(4),
            s(" end"),
            FinS,
        ],
        &[&format!("#1 @0 {GET_LINE} => @0 200 until<4> end~ done")],
    );
}

#[test]
fn a_body_of_zero_bytes_is_a_body() {
    let post = "POST /z HTTP/1.1\r\nContent-Length: 4\r\n\r\n\0\0\0\0";
    check(
        &[c(post), s(OK)],
        &[r"#1 @0 POST /z 1.1[Content-Length=4] \0\0\0\0. => @0 200[Content-Length=2] ok. done"],
    );
}

#[test]
fn interim_responses_are_passed_over() {
    let post = "POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let counters = check(
        &[
            c(post),
            s("HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\n"),
            c("hi"),
            s("HTTP/1.1 199 Odd\r\n\r\n"),
            s(OK),
        ],
        &[
            "#1 @0 POST /p 1.1[Expect=100-continue][Content-Length=2] hi. => @88 200[Content-Length=2] ok. done",
        ],
    );
    assert_eq!(counters.responses_interim, 3);
}

#[test]
fn what_follows_an_upgrade_is_a_tunnel() {
    let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let mut flow = Flow::new("", false, false);
    flow.feed(&c(upgrade), 7);
    flow.feed(
        &s("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x02"),
        usize::MAX,
    );
    assert!(flow.ignored());
    flow.feed(&c(GET), usize::MAX);
    flow.feed(&s(OK), usize::MAX);
    flow.end(FlowEnd::Reset);
    let line = "#1 @0 GET /ws 1.1[Upgrade=websocket][Connection=Upgrade] . => @0 101[Upgrade=websocket] . done";
    assert_eq!(flow.http.exchanges.lines, [line]);
    assert_eq!(flow.http.counters.flows_tunnelled, 1);
    assert_eq!(
        flow.http.counters.bytes_tunnelled,
        (2 + GET.len() + OK.len()) as u64
    );
}

#[test]
fn connect_is_a_tunnel_once_it_is_granted() {
    let connect = "CONNECT db:443 HTTP/1.1\r\nHost: db:443\r\n\r\n";
    let refused = "HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n";
    let hello = "\x16\x03\x01\0\u{5}hello";
    check(
        &[
            c(connect),
            s(refused),
            c(connect),
            c(hello),
            s("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
            c(hello),
        ],
        &[
            "#1 @0 CONNECT db:443 1.1[Host=db:443] . => @0 407[Content-Length=0] . done",
            "#2 @41 CONNECT db:443 1.1[Host=db:443] . => @39 200[Content-Length=9] . done",
        ],
    );
    check(
        &[
            c("CONNECT mail:25 / HTTP/1.0\r\n\r\n"),
            s("HTTP/1.0 200 OK\r\n\r\n220 mail ESMTP\r\n"),
            c("EHLO h\r\n"),
        ],
        &["#1 @0 CONNECT mail:25 / 1.0 . => @0 200 . done"],
    );
}

/// A head in, and the same head as the exchange shows it.
#[track_caller]
fn check_request(head: &str, shown: &str) {
    check(
        &[C(head.bytes().collect()), s(OK)],
        &[&format!("#1 {shown} . => @0 {OK_LINE} done")],
    );
}

#[test]
fn requests_as_they_come() {
    check_request(
        "\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n",
        "@4 GET /x 1.1[Host=h]",
    );
    check_request(
        "GET /lf HTTP/1.1\nHost: h\nX-A: 1\n\n",
        "@0 GET /lf 1.1[Host=h][X-A=1]",
    );
    check_request("x-custom! /c HTTP/1.1\r\n\r\n", "@0 x-custom! /c 1.1");
    check_request(
        "GET /f HTTP/1.1\r\nX-Long: one\r\n two\r\n\tthree\r\n\r\n",
        "@0 GET /f 1.1[X-Long=one two three]",
    );
    check_request(
        "POST /f HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "@0 POST /f 1.1[Transfer-Encoding=chunked]",
    );
    check_request(
        "GET /s HTTP/1.1\r\nHost : h\r\nX-Pad:    v  \r\nX-Tab:\tt\t\r\nX-Empty:\r\n\r\n",
        "@0 GET /s 1.1[Host=h][X-Pad=v][X-Tab=t][X-Empty=]",
    );
    check_request(
        "GET /é HTTP/1.1\r\nX-Näme: café\r\n\r\n",
        r"@0 GET /\xc3\xa9 1.1[X-N\xc3\xa4me=caf\xc3\xa9]",
    );
    check_request(
        "GET http://o.example:81/p?q HTTP/1.1\r\nHost: h\r\n\r\n",
        "@0 GET http://o.example:81/p?q 1.1[Host=h]",
    );
    check_request("OPTIONS * HTTP/1.1\r\n\r\n", "@0 OPTIONS * 1.1");
    check_request(
        "OPTIONS HTTP/1.1\r\nHost: h\r\n\r\n",
        "@0 OPTIONS HTTP/1.1 1.1[Host=h]",
    );
    check_request(
        "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        "@0 GET /a b 1.1[Host=h]",
    );
    check_request("GET /old HTTP/1.0\r\n\r\n", "@0 GET /old 1.0");
}

#[test]
fn long_targets_and_many_headers() {
    let target = format!("/{}", "a".repeat(64 * 1024));
    let head = format!("GET {target} HTTP/1.1\r\n\r\n");
    for step in [1, 100, 1460, usize::MAX] {
        let (lines, _) = run(&[c(&head), s(OK)], step, FlowEnd::Fin, "", false);
        assert_eq!(
            lines,
            [format!("#1 @0 GET {target} 1.1 . => @0 {OK_LINE} done")]
        );
    }
    let many: String = (0..1000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let shown: String = (0..1000).map(|n| format!("[X-{n}={n}]")).collect();
    for step in [1, 1460, usize::MAX] {
        let (lines, _) = run(
            &[c(&format!("GET /m HTTP/1.1\r\n{many}\r\n")), s(OK)],
            step,
            FlowEnd::Fin,
            "",
            false,
        );
        assert_eq!(
            lines,
            [format!("#1 @0 GET /m 1.1{shown} . => @0 {OK_LINE} done")]
        );
    }
}

#[test]
fn responses_as_they_come() {
    for (head, shown) in [
        (
            "HTTP/1.1 499\r\nContent-Length: 0\r\n\r\n",
            "499[Content-Length=0]",
        ),
        (
            "HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n",
            "599[Content-Length=0]",
        ),
        (
            "HTTP/1.0 799 Odd\nContent-Length: 0\n\n",
            "799[Content-Length=0]",
        ),
        (
            "HTTP/1.1 404 Nicht da: foo\r\nContent-Length: 0\r\n\r\n",
            "404[Content-Length=0]",
        ),
    ] {
        check(
            &[c(GET), s(head), c(GET), s(OK)],
            &[
                &format!("#1 @0 {GET_LINE} => @0 {shown} . done"),
                &plain(2, GET.len(), head.len()),
            ],
        );
    }
}

#[test]
fn an_early_answer_waits_for_its_request() {
    let post = "POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
    let answer = "HTTP/1.1 413 Big\r\nContent-Length: 0\r\n\r\n";
    let line = |body: &str| {
        format!("#1 @0 POST /p 1.1[Content-Length=4] {body} => @0 413[Content-Length=0] . done")
    };
    check(
        &[c(post), c("ab"), s(answer), c("cd"), c(GET), s(OK)],
        &[&line("abcd."), &plain(2, 43, answer.len())],
    );
    check(&[c(post), c("ab"), s(answer), FinS], &[&line("ab~")]);
}

#[test]
fn halves_say_why() {
    // A client that says it has no more to send still gets its response.
    check(&[c(GET), FinC, s(OK)], &[&plain(1, 0, 0)]);
    for (end, why) in [
        (FlowEnd::Fin, "Closed"),
        (FlowEnd::Reset, "Closed"),
        (FlowEnd::Reused, "Closed"),
        (FlowEnd::Idle, "Timeout"),
        (FlowEnd::Evicted, "Evicted"),
        (FlowEnd::Shutdown, "Shutdown"),
    ] {
        let line = |n: u64, at: usize| format!("#{n} @{at} {GET_LINE} => -  half {why}");
        check_flow(
            &[c(GET), c(GET)],
            end,
            false,
            &[&line(1, 0), &line(2, GET.len())],
        );
    }
    let half = |why: &str| format!("#1 @0 {GET_LINE} => -  half {why}");
    check_flow(&[c(GET), FinS], FlowEnd::Idle, false, &[&half("Closed")]);
    check_flow(&[c(GET), LostS(400)], FlowEnd::Idle, false, &[&half("Gap")]);
    check_flow(
        &[c(GET), s("HTTP/1.1 200 O")],
        FlowEnd::Reset,
        false,
        &[&half("Closed")],
    );
    check(&[c(GET), s("SSH-2.0-OpenSSH_9.2\r\n")], &[&half("Closed")]);
    let cut = "POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\nab";
    check_flow(
        &[c(cut)],
        FlowEnd::Idle,
        false,
        &["#1 @0 POST /p 1.1[Content-Length=4] ab~ => -  half Timeout"],
    );
    check_flow(
        &[c(GET), s("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")],
        FlowEnd::Idle,
        false,
        &[&format!(
            "#1 @0 {GET_LINE} => @0 200[Content-Length=5] ab~ done"
        )],
    );
}

#[test]
fn responses_without_requests() {
    check(
        &[s(OK), c(GET), s(OK)],
        &[
            "-  => orphan #1 @0 200[Content-Length=2] ok. half Gap",
            &format!("#2 @0 {GET_LINE} => @40 {OK_LINE} done"),
        ],
    );
    // An orphan whose request was a HEAD: a length, no body, and then the next response.
    let head_answer = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
    let orphan = "-  => orphan #1 @0 200[Content-Length=1234] . half Gap";
    check(
        &[s(head_answer), c(GET), s(OK)],
        &[orphan, &format!("#2 @0 {GET_LINE} => @41 {OK_LINE} done")],
    );
    let second = format!("-  => orphan #2 @41 {OK_LINE} half Gap");
    check(&[s(head_answer), s(OK)], &[orphan, &second]);
    check(
        &[s("HTTP/1.1 200 OK\r\n\r\n"), c(GET), s(OK)],
        &[
            "-  => orphan #1 @0 200 . half Gap",
            &format!("#2 @0 {GET_LINE} => @19 {OK_LINE} done"),
        ],
    );
    check(
        &[s("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 ")],
        &["-  => orphan #1 @0 200[Content-Length=9] HTTP/1.1 . half Gap"],
    );
}

#[test]
fn contradicting_lengths_are_marked_and_do_not_desync() {
    let next = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
    for (fields, body, shown) in [
        (
            "Content-Length: 3\r\nContent-Length: 2",
            "",
            "[Content-Length=3][Content-Length=2] ~",
        ),
        ("Content-Length: -1", "", "[Content-Length=-1] ~"),
        (
            "Content-Length: 18446744073709551615",
            "",
            "[Content-Length=18446744073709551615] ~",
        ),
        ("Content-Length: -1", "rubbish\r\n", "[Content-Length=-1] ~"),
        ("Transfer-Encoding: gzip", "", "[Transfer-Encoding=gzip] ~"),
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "1\r\na\r\n0\r\n\r\n",
            "[Content-Length=4][Transfer-Encoding=chunked] a~",
        ),
        (
            "Transfer-Encoding: chunked",
            "10000000000000000\r\nrubbish\r\n",
            "[Transfer-Encoding=chunked] ~",
        ),
        (
            "Transfer-Encoding: chunked",
            "1\r\naXX\r\n",
            "[Transfer-Encoding=chunked] a~",
        ),
        ("Content-Length: 1, 1", "a", "[Content-Length=1, 1] a."),
    ] {
        let post = format!("POST /p HTTP/1.1\r\n{fields}\r\n\r\n{body}");
        check(
            &[c(&post), s(OK), c(next), s(OK)],
            &[
                &format!("#1 @0 POST /p 1.1{shown} => @0 {OK_LINE} done"),
                &plain(2, post.len(), OK.len()),
            ],
        );
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nabcd\r\n";
    check(
        &[c(GET), s(answer), c(GET), s(OK)],
        &[
            &format!("#1 @0 {GET_LINE} => @0 200[Content-Length=5][Content-Length=4] ~ done"),
            &plain(2, GET.len(), answer.len()),
        ],
    );
}

#[test]
fn a_body_longer_than_its_length_does_not_hide_the_next_message() {
    let long = "POST /p HTTP/1.1\r\nContent-Length: 2\r\n\r\n{\"more\":1}";
    check(
        &[c(long), s(OK), c(GET), s(OK)],
        &[
            &format!("#1 @0 POST /p 1.1[Content-Length=2] {{\\\". => @0 {OK_LINE} done"),
            &plain(2, long.len(), OK.len()),
        ],
    );
}

#[test]
fn requests_without_a_version() {
    check(
        &[c("GET /old\r\n"), s("<html>hello</html>"), FinS],
        &["#1 @0 GET /old 0.9 . => -  half Closed"],
    );
    check(
        &[c("GET /old\r\n"), s(OK), FinS],
        &[&format!("#1 @0 GET /old 0.9 . => @0 {OK_LINE} done")],
    );
    check(
        &[c("GET /old\r\nHost: h\r\n\r\n"), s(OK)],
        &[&format!(
            "#1 @0 GET /old 0.9[Host=h] . => @0 {OK_LINE} done"
        )],
    );
    check(
        &[c("GET /old\r\n")],
        &["#1 @0 GET /old 0.9 . => -  half Closed"],
    );
}

#[test]
fn heads_without_their_empty_line() {
    // A server that closes right behind its status line has said all that it wanted to.
    let cut = "HTTP/1.1 400 Bad Request\r\nA: b\r\n";
    let answered = format!("#1 @0 {GET_LINE} => @0 400[A=b] ~ done");
    check(&[c(GET), s(cut), FinS], &[&answered]);
    let half = format!("#1 @0 {GET_LINE} => -  half Closed");
    check(&[c(GET), s(&cut[..cut.len() - 1]), FinS], &[&half]);
    check_flow(&[c(GET), s(cut)], FlowEnd::Reset, false, &[&half]);
    // A request that was answered before it was over, and one that never will be.
    let begun = "POST /p HTTP/1.1\r\nContent-Length: 4\r\n";
    let line = format!("#1 @0 POST /p 1.1[Content-Length=4] ~ => @0 {OK_LINE} done");
    check(&[c(begun), s(OK), FinS], &[&line]);
    check(&[c(begun), FinC, s(OK)], &[&line]);
    check(
        &[c(begun), s(OK), c("Host: h\r\n\r\nbody"), c(GET), s(OK)],
        &[&line, &plain(2, begun.len() + 15, OK.len())],
    );
}

/// What a flow is taken for: the counter that says so, and whether it is read on.
#[track_caller]
fn check_protocol(
    ports: &str,
    midstream: bool,
    events: &[Event],
    named: &str,
    ignored: bool,
) -> Vec<PortFlows> {
    for step in [1, 5, usize::MAX] {
        let mut flow = Flow::new(ports, midstream, false);
        for event in events {
            flow.feed(event, step);
        }
        assert_eq!(flow.ignored(), ignored, "in pieces of {step}");
        let counted = Counters::FIELDS
            .iter()
            .zip(flow.http.counters.values())
            .find(|(field, _)| field.name == named);
        assert_eq!(
            counted.map(|(_, value)| value),
            Some(1),
            "{named} in pieces of {step}"
        );
        flow.end(FlowEnd::Fin);
    }
    let mut flow = Flow::new(ports, midstream, false);
    events.iter().for_each(|event| flow.feed(event, usize::MAX));
    flow.http.ports_seen.rows().to_vec()
}

#[test]
fn what_is_not_http_is_named() {
    let hello = || C(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
    let rows = check_protocol("", false, &[hello()], "flows_tls", true);
    assert_eq!(
        rows,
        [PortFlows {
            port: 80,
            flows: [0, 1, 0, 0],
        }]
    );
    check_protocol("80", false, &[hello()], "flows_tls", true);
    let preface = c("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let rows = check_protocol("", false, &[preface], "flows_http2", true);
    assert_eq!(
        rows,
        [PortFlows {
            port: 80,
            flows: [0, 0, 1, 0],
        }]
    );
    check_protocol(
        "",
        false,
        &[s("220 mail.example ESMTP\r\n")],
        "flows_other",
        true,
    );
    check_protocol("", false, &[c("SSH-2.0-x\r\n")], "flows_other", true);
    check_protocol("", false, &[C(vec![0, 1, 2, 3])], "flows_other", true);
    let rows = check_protocol("", false, &[c(GET)], "flows_http", false);
    assert_eq!(
        rows,
        [PortFlows {
            port: 80,
            flows: [1, 0, 0, 0],
        }]
    );
    check_protocol(
        "",
        false,
        &[c("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), c(GET)],
        "flows_http",
        false,
    );
    check_protocol(
        "",
        false,
        &[
            C(
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x50\0\x51"
                    .to_vec(),
            ),
            c(GET),
        ],
        "flows_http",
        false,
    );
}

#[test]
fn a_port_list_says_which_flows_are_wanted_and_nothing_else() {
    check_protocol("8080,40001-50000", false, &[], "flows_unwanted", true);
    check_protocol("40000", false, &[c(GET)], "flows_http", false);
    check_protocol("80,40000", false, &[c(GET)], "flows_http", false);
    // On a wanted port HTTP may follow what is not HTTP.
    check_protocol(
        "80",
        false,
        &[c("\x01rubbish\r\n"), c(GET)],
        "flows_http",
        false,
    );
}

#[test]
fn in_the_middle_a_flow_has_to_show_a_start_line() {
    let noise = |from: u8| {
        (0..limits::RESYNC_GIVE_UP_BYTES)
            .map(|n| from.wrapping_add((n % 251) as u8))
            .collect::<Vec<u8>>()
    };
    check_protocol("", true, &[C(noise(3)), S(noise(5))], "flows_other", true);
    check_protocol(
        "",
        true,
        &[S(noise(3)), S(noise(5)), S(noise(9)), c(GET)],
        "flows_http",
        false,
    );
    check_protocol(
        "",
        true,
        &[C(noise(3)), C(noise(5)), s(OK)],
        "flows_http",
        false,
    );
}

#[test]
fn in_the_middle_reading_begins_at_the_next_message() {
    let ends = |lines: &[String]| {
        lines
            .iter()
            .map(|line| line.rsplit_once(" => ").unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    // The rest of a response whose request was before the capture.
    let (lines, counters) = run(
        &[s("rest of a body\r\nmore}"), c(GET), s(OK)],
        usize::MAX,
        FlowEnd::Fin,
        "",
        true,
    );
    assert_eq!(lines, [plain(1, 0, 21)]);
    assert_eq!((counters.bytes_hunted, counters.resynchronised), (21, 2));
    // A whole response first: an orphan, and the next call is whole.
    let (lines, _) = run(&[s(OK), c(GET), s(OK)], 7, FlowEnd::Fin, "", true);
    assert_eq!(
        ends(&lines),
        [
            format!("orphan #1 @0 {OK_LINE} half Gap"),
            format!("@40 {OK_LINE} done")
        ]
    );
    // The rest of a request, its response, and the next call: the first response has no request.
    let (lines, _) = run(
        &[c("tail}"), s(OK), c(GET), s(OK)],
        usize::MAX,
        FlowEnd::Fin,
        "",
        true,
    );
    assert_eq!(
        ends(&lines),
        [
            format!("orphan #1 @0 {OK_LINE} half Gap"),
            format!("@40 {OK_LINE} done")
        ]
    );
}

#[test]
fn a_loss_within_a_known_length_only_subtracts() {
    let post = "POST /p HTTP/1.1\r\nContent-Length: 10\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let line = |request: &str, response: &str| {
        format!(
            "#1 @0 POST /p 1.1[Content-Length=10] {request} => @0 200[Content-Length=10] {response} done"
        )
    };
    let next = plain(2, post.len() + 10, answer.len() + 10);
    let first = |request: Vec<Event>, response: Vec<Event>| {
        [
            vec![c(post)],
            request,
            vec![s(answer)],
            response,
            vec![c(GET), s(OK)],
        ]
        .concat()
    };
    let all = |text: &str| vec![c(text)];
    let all_s = |text: &str| vec![s(text)];
    check(
        &first(vec![c("abc"), LostC(4), c("hij")], all_s("0123456789")),
        &[&line("abc<4>hij~", "0123456789."), &next],
    );
    check(
        &first(all("abcdefghij"), vec![LostS(3), s("3456"), LostS(3)]),
        &[&line("abcdefghij.", "<3>3456<3>~"), &next],
    );
    check(
        &first(vec![LostC(10)], vec![LostS(10)]),
        &[&line("<10>~", "<10>~"), &next],
    );
    // Within one chunk the framing is known too.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nab";
    check(
        &[
            c(GET),
            s(chunked),
            LostS(4),
            s("gh\r\n1\r\ni\r\n0\r\n\r\n"),
            c(GET),
            s(OK),
        ],
        &[
            &format!("#1 @0 {GET_LINE} => @0 200[Transfer-Encoding=chunked] ab<4>ghi~ done"),
            &plain(2, GET.len(), chunked.len() + 4 + 15),
        ],
    );
}

#[test]
fn after_a_loss_the_next_message_is_found_and_paired() {
    let half = |n: u64, at: usize| format!("#{n} @{at} {GET_LINE} => -  half Gap");
    // A lost response: the client's next request proves that it was there.
    check(
        &[c(GET), LostS(40), c(GET), s(OK)],
        &[&half(1, 0), &plain(2, 28, 40)],
    );
    // The begin of a response is lost; what is left of it is passed over.
    check(
        &[
            c(GET),
            LostS(10),
            s("K\r\nContent-Length: 2\r\n\r\nok"),
            c(GET),
            s(OK),
        ],
        &[&half(1, 0), &plain(2, 28, 36)],
    );
    // Interim bytes lost: only one request waits, so the response is its own.
    check(&[c(GET), LostS(25), s(OK)], &[&plain(1, 0, 25)]);
    // A lost request: its response is an orphan, the next call is whole.
    let orphan = format!("-  => orphan #2 @40 {OK_LINE} half Gap");
    check(
        &[c(GET), s(OK), LostC(28), s(OK), c(GET), s(OK)],
        &[&plain(1, 0, 0), &orphan, &plain(3, 56, 80)],
    );
    // A whole lost call.
    check(
        &[c(GET), s(OK), LostC(28), LostS(40), c(GET), s(OK)],
        &[&plain(1, 0, 0), &plain(2, 56, 80)],
    );
    // The last chunks are lost, and with them the begin of the next response.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nabcdefgh\r\n";
    let cut = format!("#1 @0 {GET_LINE} => @0 200[Transfer-Encoding=chunked] abcdefgh~ done");
    check(
        &[c(GET), s(chunked), LostS(9), c(GET), s(OK)],
        &[&cut, &plain(2, 28, chunked.len() + 9)],
    );
    check(
        &[
            c(GET),
            s(chunked),
            LostS(19),
            s("tail\r\n0\r\n\r\n"),
            c(GET),
            s(OK),
        ],
        &[&cut, &plain(2, 28, chunked.len() + 30)],
    );
}

#[test]
fn losses_among_pipelined_messages_are_never_guessed() {
    let half = |n: u64, at: usize| format!("#{n} @{at} {GET_LINE} => -  half Gap");
    let orphan = |n: u64, at: usize| format!("-  => orphan #{n} @{at} {OK_LINE} half Gap");
    // Three requests wait and a response is lost: whose is the next one?
    let counters = check(
        &[c(&GET.repeat(3)), s(OK), LostS(40), s(OK), c(GET), s(OK)],
        &[
            &plain(1, 0, 0),
            &half(2, 28),
            &half(3, 56),
            &orphan(4, 80),
            &half(5, 84),
            &orphan(6, 120),
        ],
    );
    assert_eq!(counters.pairings_given_up, 1);
    // One waits: no doubt.
    check(
        &[c(&GET.repeat(2)), s(OK), LostS(40), s(OK), c(GET), s(OK)],
        &[&plain(1, 0, 0), &plain(2, 28, 80), &plain(3, 56, 120)],
    );
}

#[test]
fn in_the_middle_a_pair_waits_for_its_confirmation() {
    let half = |n: u64, at: usize| format!("#{n} @{at} {GET_LINE} => -  half Gap");
    let orphan = |n: u64, at: usize| format!("-  => orphan #{n} @{at} {OK_LINE} half Gap");
    let check = |events: &[Event], expected: &[&str], refuted: u64| {
        let counters = check_flow(events, FlowEnd::Fin, true, expected);
        assert_eq!(counters.pairs_refuted, refuted);
    };
    let mut flow = Flow::new("", true, false);
    flow.feed(&c(GET), usize::MAX);
    flow.feed(&s(OK), usize::MAX);
    assert_eq!(flow.http.counters.exchanges_finished, 0, "it waits");
    flow.feed(&c(GET), usize::MAX);
    assert_eq!(flow.http.counters.exchanges_finished, 1, "it is confirmed");
    flow.feed(&s(OK), usize::MAX);
    assert_eq!(
        flow.http.counters.exchanges_finished, 2,
        "and no doubt is left"
    );
    flow.end(FlowEnd::Idle);
    // The end without another response confirms, too; a loss before it does not.
    check(&[c(GET), s(OK)], &[&plain(1, 0, 0)], 0);
    check(&[c(GET), s(OK), LostS(40)], &[&half(1, 0)], 1);
    // Requests of before the capture were answered first: all responses are other requests' than it seems.
    check(
        &[c(GET), s(OK), s(OK), s(OK)],
        &[&half(1, 0), &orphan(2, 40), &orphan(3, 80)],
        1,
    );
    // The next request knows of more than this response.
    check(
        &[c(GET), s(OK), LostS(40), c(GET), s(OK)],
        &[&half(1, 0), &plain(2, 28, 80)],
        1,
    );
}

#[test]
fn a_body_that_should_not_be_there_costs_no_pair() {
    let head = "HEAD /h HTTP/1.1\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\noops\r\n0\r\n\r\n";
    check(
        &[c(head), s(answer), c(GET), s(OK)],
        &[
            "#1 @0 HEAD /h 1.1 . => @0 200[Transfer-Encoding=chunked] . done",
            &plain(2, head.len(), answer.len()),
        ],
    );
}

#[test]
fn without_acknowledgements_the_order_of_capture_confirms() {
    let mut flow = Flow::new("", true, false);
    flow.silent = true;
    for event in [c(GET), s(OK), c(GET), s(OK)] {
        flow.feed(&event, usize::MAX);
    }
    flow.end(FlowEnd::Shutdown);
    assert_eq!(
        flow.http.exchanges.lines,
        [plain(1, 0, 0), plain(2, GET.len(), OK.len())]
    );
}

#[test]
fn a_gap_that_swallows_no_message_changes_nothing() {
    // Ten lost bytes between messages are no message: the pipelined responses keep their order.
    check(
        &[c(&GET.repeat(2)), LostS(10), s(OK), s(OK)],
        &[&plain(1, 0, 10), &plain(2, 28, 50)],
    );
}

#[test]
fn too_many_waiting_requests_end_the_reading() {
    let mut flow = Flow::new("", false, false);
    for _ in 0..=limits::PIPELINE_DEPTH_MAX {
        flow.feed(&c(GET), usize::MAX);
    }
    assert!(flow.ignored());
    assert_eq!(
        flow.http.counters.half_evicted,
        limits::PIPELINE_DEPTH_MAX as u64
    );
    flow.end(FlowEnd::Fin);
}

/// Seeded randomness (xorshift64*): the same conversations on every run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    /// Text that would mislead a reader who looks for messages in bodies by line breaks or zero chunks alone.
    fn body(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        let mut body = Vec::new();
        while body.len() < length {
            body.extend_from_slice(
                self.pick(&[
                    "0\r\n\r\n",
                    "\r\n\r\n",
                    "\0\0",
                    "{\"a\":1}",
                    "plain text ",
                    "HTTP/1.",
                    "é",
                    "\n",
                ])
                .as_bytes(),
            );
        }
        body.truncate(length);
        body
    }

    fn chunked(&mut self, body: &[u8], eol: &str) -> Vec<u8> {
        let mut coded = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(1 + self.below(rest.len()));
            let extension = self.pick(&["", "", ";a=b", " ", ";x=\"y\""]);
            coded.extend_from_slice(format!("{:x}{extension}{eol}", chunk.len()).as_bytes());
            coded.extend_from_slice(chunk);
            coded.extend_from_slice(eol.as_bytes());
            rest = after;
        }
        let trailer = self.pick(&["", "", "X-Sum: 1"]);
        let end = if trailer.is_empty() {
            String::new()
        } else {
            format!("{trailer}{eol}")
        };
        coded.extend_from_slice(format!("0{eol}{end}{eol}").as_bytes());
        coded
    }
}

/// A conversation that follows RFC 9112, call by call, and whether the server closes to end the last body.
struct Conversation {
    calls: Vec<(Vec<u8>, Vec<u8>)>,
    pipelines: bool,
}

impl Conversation {
    /// Every call has its number in the target and in the response's `X-Id`.
    fn new(random: &mut Random) -> Self {
        let count = 1 + random.below(6);
        let pipelines = random.one_in(3);
        let calls = (0..count)
            .map(|number| Self::call(random, number, number + 1 == count))
            .collect();
        Self { calls, pipelines }
    }

    fn call(random: &mut Random, number: usize, last: bool) -> (Vec<u8>, Vec<u8>) {
        let eol = random.pick(&["\r\n", "\r\n", "\r\n", "\n"]);
        let method = random.pick(&["GET", "POST", "HEAD", "PUT", "DELETE", "PURGE", "PROPFIND"]);
        let odd = random.pick(&[
            "",
            "",
            "X-Fold: a\r\n b\r\n",
            "X-Blank : v \r\n",
            "X-Bytes: \u{e9}\r\n",
            "Accept: */*\r\n",
        ]);
        let start = format!(
            "{method} /call/{number}?a={} HTTP/1.1{eol}Host: h{eol}{odd}",
            random.below(1000)
        );
        let request = Self::message(random, start, eol, random_framing(method));
        let interim = random.pick(&[
            "",
            "",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n",
        ]);
        let status: u16 = *random.pick(&[&200, &201, &204, &304, &404, &500, &799]);
        let bodiless = method == "HEAD" || status == 204 || status == 304;
        let start = format!("HTTP/1.1 {status} {eol}X-Id: {number}{eol}");
        let mut response = interim.as_bytes().to_vec();
        if bodiless {
            let length = random.pick(&[
                "",
                "Content-Length: 77\r\n",
                "Transfer-Encoding: chunked\r\n",
            ]);
            response.extend_from_slice(format!("{start}{length}{eol}").as_bytes());
        } else if last && random.one_in(4) {
            response.extend_from_slice(format!("{start}{eol}").as_bytes());
            response.extend_from_slice(&random.body(60));
        } else {
            response.extend_from_slice(&Self::message(random, start, eol, 1 + 3 % 2));
        }
        (request, response)
    }

    /// `framing`: 0 for a message that may go without a body.
    fn message(random: &mut Random, start: String, eol: &str, framing: usize) -> Vec<u8> {
        let mut message = start.into_bytes();
        if framing == 0 && random.one_in(2) {
            message.extend_from_slice(eol.as_bytes());
            return message;
        }
        let body = random.body(200);
        if random.one_in(2) {
            message
                .extend_from_slice(format!("Content-Length: {}{eol}{eol}", body.len()).as_bytes());
            message.extend_from_slice(&body);
        } else {
            message.extend_from_slice(format!("transfer-encoding: chunked{eol}{eol}").as_bytes());
            message.extend_from_slice(&random.chunked(&body, eol));
        }
        message
    }

    /// Who sends what when: in turns, or several requests at once; never a response before its request.
    fn events(&self, random: &mut Random) -> Vec<Event> {
        let mut events = Vec::new();
        let mut answered = 0;
        for (number, (request, response)) in self.calls.iter().enumerate() {
            events.push(C(request.clone()));
            if !self.pipelines {
                events.push(S(response.clone()));
                continue;
            }
            while number > 0 && answered <= number && random.one_in(3) {
                events.push(S(self.calls[answered].1.clone()));
                answered += 1;
            }
        }
        if self.pipelines {
            events.extend(
                self.calls[answered..]
                    .iter()
                    .map(|(_, response)| S(response.clone())),
            );
        }
        events.push(FinS);
        events
    }
}

fn random_framing(method: &str) -> usize {
    usize::from(!matches!(method, "GET" | "HEAD" | "DELETE"))
}

/// The twin: all bytes at once, lines and text, slow and plain. It knows only what RFC 9112 allows.
mod twin {
    pub(super) struct Message {
        pub(super) start: String,
        pub(super) fields: Vec<(String, String)>,
        pub(super) body: Vec<u8>,
        pub(super) offset: usize,
    }

    /// Bytes as characters of the same number, so that text functions can be used.
    fn text(bytes: &[u8]) -> String {
        bytes.iter().map(|&byte| char::from(byte)).collect()
    }

    fn escaped(text: &str) -> String {
        text.chars()
            .map(|c| c as u8)
            .collect::<Vec<u8>>()
            .escape_ascii()
            .to_string()
    }

    fn line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
        let end = rest.iter().position(|&byte| byte == b'\n').expect("a line");
        let line = &rest[..end];
        *rest = &rest[end + 1..];
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// `bodiless` says whether the message with this start line has no body whatever its fields say.
    pub(super) fn messages(bytes: &[u8], bodiless: impl Fn(usize, &str) -> bool) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            let start = text(line(&mut rest));
            let mut lines: Vec<String> = Vec::new();
            loop {
                let next = text(line(&mut rest));
                if next.is_empty() {
                    break;
                }
                if next.starts_with([' ', '\t']) {
                    let last = lines.last_mut().expect("a field before its fold");
                    *last = format!("{} {}", last.trim_end(), next.trim());
                } else {
                    lines.push(next);
                }
            }
            let fields: Vec<(String, String)> = lines
                .iter()
                .map(|field| field.split_once(':').expect("a colon"))
                .map(|(name, value)| {
                    (
                        escaped(name.trim_matches([' ', '\t'])),
                        escaped(value.trim_matches([' ', '\t'])),
                    )
                })
                .collect();
            let find = |name: &str| {
                fields
                    .iter()
                    .find(|field| field.0.to_lowercase() == name)
                    .map(|field| field.1.clone())
            };
            let mut body = Vec::new();
            if bodiless(messages.len(), &start) {
            } else if find("transfer-encoding").is_some() {
                loop {
                    let size = text(line(&mut rest));
                    let digits = size.split([';', ' ']).next().expect("a size");
                    let size = usize::from_str_radix(digits, 16).expect("hexadecimal");
                    if size == 0 {
                        while !line(&mut rest).is_empty() {}
                        break;
                    }
                    body.extend_from_slice(&rest[..size]);
                    rest = &rest[size..];
                    line(&mut rest);
                }
            } else if let Some(length) = find("content-length") {
                let length: usize = length.parse().expect("a length");
                body.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
            } else if start.starts_with("HTTP/") {
                body.extend_from_slice(rest);
                rest = &[];
            }
            if !start.starts_with("HTTP/1.1 1") {
                messages.push(Message {
                    start,
                    fields,
                    body,
                    offset,
                });
            }
        }
        messages
    }
}

/// What the recorder should say of this conversation.
fn expected_lines(conversation: &Conversation) -> Vec<String> {
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    for (request, response) in &conversation.calls {
        sent.extend_from_slice(request);
        answered.extend_from_slice(response);
    }
    let requests = twin::messages(&sent, |_, _| false);
    let methods: Vec<String> = requests
        .iter()
        .map(|request| request.start.split(' ').next().unwrap().to_owned())
        .collect();
    let responses = twin::messages(&answered, |number, start| {
        methods[number] == "HEAD"
            || ["HTTP/1.1 1", "HTTP/1.1 204", "HTTP/1.1 304"]
                .iter()
                .any(|none| start.starts_with(none))
    });
    assert_eq!(requests.len(), responses.len());
    let fields = |message: &twin::Message| {
        message
            .fields
            .iter()
            .map(|(name, value)| format!("[{name}={value}]"))
            .collect::<String>()
    };
    let body = |message: &twin::Message| {
        String::from_utf8_lossy(&message.body)
            .escape_debug()
            .to_string()
    };
    requests
        .iter()
        .zip(&responses)
        .enumerate()
        .map(|(number, (request, response))| {
            let start = request.start.strip_suffix(" HTTP/1.1").unwrap();
            let status = &response.start["HTTP/1.1 ".len()..][..3];
            format!(
                "#{} @{} {start} 1.1{} {}. => @{} {status}{} {}. done",
                number + 1,
                request.offset,
                fields(request),
                body(request),
                response.offset,
                fields(response),
                body(response)
            )
        })
        .collect()
}

#[test]
fn random_conversations_read_as_by_the_twin_however_they_are_cut() {
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let conversation = Conversation::new(&mut random);
        let expected = expected_lines(&conversation);
        let events = conversation.events(&mut random);
        for step in [usize::MAX, 1, 2, 3, 1 + random.below(60)] {
            let (lines, counters) = run(&events, step, FlowEnd::Fin, "", false);
            assert_eq!(lines, expected, "seed {seed} in pieces of {step}");
            assert_eq!(
                counters.bytes_hunted + counters.heads_malformed,
                0,
                "seed {seed}"
            );
        }
    }
}

#[test]
fn every_two_cuts_of_a_conversation_read_the_same() {
    let mut random = Random::new(7);
    let conversation = Conversation {
        calls: (0..3)
            .map(|n| Conversation::call(&mut random, n, n == 2))
            .collect(),
        pipelines: false,
    };
    let expected = expected_lines(&conversation);
    let events = conversation.events(&mut random);
    let cut = |bytes: &[u8], at: &[usize]| {
        let mut places: Vec<usize> = at.iter().map(|&at| at.min(bytes.len())).collect();
        places.push(bytes.len());
        let mut from = 0;
        places
            .into_iter()
            .map(|to| bytes[std::mem::replace(&mut from, to)..to].to_vec())
            .collect::<Vec<_>>()
    };
    let longest = events
        .iter()
        .map(|event| if let C(b) | S(b) = event { b.len() } else { 0 })
        .max()
        .unwrap();
    for first in 0..=longest {
        for second in first..=longest.min(first + 40) {
            let pieces: Vec<Event> = events
                .iter()
                .flat_map(|event| match event {
                    C(bytes) => cut(bytes, &[first, second]).into_iter().map(C).collect(),
                    S(bytes) => cut(bytes, &[first, second]).into_iter().map(S).collect(),
                    other => vec![other.clone()],
                })
                .collect();
            let (lines, _) = run(&pieces, usize::MAX, FlowEnd::Fin, "", false);
            assert_eq!(lines, expected, "cut at {first} and {second}");
        }
    }
}

/// Replaces random pieces by losses.
fn lossy(events: &[Event], chance: usize, random: &mut Random) -> Vec<Event> {
    let mut out = Vec::new();
    for event in events {
        let (C(bytes) | S(bytes)) = event else {
            out.push(event.clone());
            continue;
        };
        let client = matches!(event, C(_));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + random.below(120)).min(rest.len()));
            rest = after;
            let lost = piece.len() as u64;
            out.push(match (random.one_in(chance), client) {
                (true, true) => LostC(lost),
                (true, false) => LostS(lost),
                (false, true) => C(piece.to_vec()),
                (false, false) => S(piece.to_vec()),
            });
        }
    }
    out
}

/// The number between `before` and the first character that is no digit.
fn number_after(line: &str, before: &str) -> Option<u64> {
    let digits = &line[line.find(before)? + before.len()..];
    digits[..digits.find(|c: char| !c.is_ascii_digit())?]
        .parse()
        .ok()
}

#[test]
fn losses_never_make_a_wrong_pair_or_a_whole_call_of_a_damaged_one() {
    let heavy = check_losses(0..3000, 6);
    assert!(
        heavy > 25,
        "a sixth of all pieces lost: {heavy} % of the calls are whole"
    );
    let light = check_losses(3000..4000, 60);
    assert!(
        light > 80,
        "a sixtieth of all pieces lost: {light} % of the calls are whole"
    );
}

/// Loses one piece in `chance`; the share of calls that were told whole, in percent.
#[track_caller]
fn check_losses(seeds: std::ops::Range<u64>, chance: usize) -> u64 {
    let (mut done, mut halves, mut whole, mut sent) = (0, 0, 0, 0);
    for seed in seeds {
        let mut random = Random::new(seed);
        let conversation = Conversation::new(&mut random);
        let expected = expected_lines(&conversation);
        let events = conversation.events(&mut random);
        let events = lossy(&events, chance, &mut random);
        let (lines, counters) = run(&events, usize::MAX, FlowEnd::Fin, "", false);
        let without_index = |line: &str| line.split_once(' ').unwrap().1.to_owned();
        let truth: Vec<String> = expected.iter().map(|line| without_index(line)).collect();
        for line in &lines {
            if !line.ends_with(" done") {
                halves += 1;
                continue;
            }
            done += 1;
            let pair = (number_after(line, " /call/"), number_after(line, "[X-Id="));
            if let (Some(request), Some(response)) = pair {
                assert_eq!(request, response, "seed {seed}: {line}\n{events:?}");
            }
            // Marked, or as the endpoints said; a head that lost its first fields is a risk that is not taken.
            let marked = line.contains("~ =>") || line.contains("~ done");
            let whole_line = truth.contains(&without_index(line));
            assert!(
                marked || whole_line,
                "seed {seed}: {line}\n{expected:#?}\n{events:?}"
            );
            whole += u64::from(whole_line);
        }
        sent += expected.len() as u64;
        assert_eq!(counters.exchanges_opened, lines.len() as u64);
    }
    println!("{sent} sent, {done} told as calls, {whole} of them whole, {halves} halves");
    whole * 100 / sent
}

#[test]
fn a_client_that_takes_turns_is_never_given_up() {
    for seed in 0..1500 {
        let mut random = Random::new(seed);
        let mut conversation = Conversation::new(&mut random);
        conversation.pipelines = false;
        let events = lossy(&conversation.events(&mut random), 12, &mut random);
        let (_, counters) = run(&events, usize::MAX, FlowEnd::Fin, "", false);
        assert_eq!(counters.pairings_given_up, 0, "seed {seed}\n{events:?}");
    }
}

/// Flips, drops, doubles, swaps and cuts bytes of valid conversations.
fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.below(bytes.len());
        let to = (at + random.below(40)).min(bytes.len());
        match random.below(6) {
            0 => bytes[at] = random.below(256) as u8,
            1 => drop(bytes.drain(at..to)),
            2 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            3 => bytes.truncate(at),
            4 => {
                let odd = random.pick(&[
                    "\0",
                    "\r",
                    "\n",
                    "\n\n",
                    ":",
                    " ",
                    "ffffffffffffffff\r\n",
                    "HTTP/1.1 200\r\n",
                    "GET / HTTP/1.1\r\n",
                    "Content-Length: -1\r\n",
                ]);
                bytes.splice(at..at, odd.bytes());
            }
            _ => bytes[at..to].reverse(),
        }
    }
    bytes
}

#[test]
fn hostile_bytes_break_no_promise() {
    for seed in 0..2500 {
        let mut random = Random::new(seed);
        let conversation = Conversation::new(&mut random);
        let events: Vec<Event> = conversation
            .events(&mut random)
            .iter()
            .map(|event| match event {
                C(bytes) if random.one_in(3) => C(mutated(bytes, &mut random)),
                S(bytes) if random.one_in(3) => S(mutated(bytes, &mut random)),
                other => other.clone(),
            })
            .collect();
        let events = if random.one_in(2) {
            lossy(&events, 20, &mut random)
        } else {
            events
        };
        let step = 1 + random.below(200);
        let ends = [
            FlowEnd::Fin,
            FlowEnd::Reset,
            FlowEnd::Idle,
            FlowEnd::Evicted,
            FlowEnd::Reused,
            FlowEnd::Shutdown,
        ];
        let mut flow = Flow::new(
            random.pick(&["", "80", "1-65535"]),
            random.one_in(3),
            random.one_in(4),
        );
        for event in &events {
            flow.feed(event, step);
            flow.balanced();
        }
        flow.end(ends[random.below(ends.len())]);
    }
}

#[test]
fn hostile_bytes_read_the_same_however_they_are_cut() {
    for seed in 0..800 {
        let mut random = Random::new(seed);
        let conversation = Conversation::new(&mut random);
        let events: Vec<Event> = conversation
            .events(&mut random)
            .iter()
            .map(|event| match event {
                C(bytes) if random.one_in(4) => C(mutated(bytes, &mut random)),
                S(bytes) if random.one_in(4) => S(mutated(bytes, &mut random)),
                other => other.clone(),
            })
            .collect();
        // What a head is called that never was one may depend on the cut; what is told may not.
        let told = |step| {
            let (lines, counters) = run(&events, step, FlowEnd::Fin, "", false);
            (
                lines,
                counters.requests,
                counters.responses,
                counters.responses_interim,
                counters.bodies_cut,
            )
        };
        let whole = told(usize::MAX);
        for step in [1, 2, 7, 1 + random.below(100)] {
            assert_eq!(
                told(step),
                whole,
                "seed {seed} in pieces of {step}\n{events:?}"
            );
        }
    }
}

/// Feeds `piece` until `total` bytes; the most that was held, and the counters.
fn flood(first: &str, piece: &[u8], total: usize) -> (usize, Counters) {
    let mut flow = Flow::new("", false, false);
    flow.feed(&c(first), usize::MAX);
    let mut most = 0;
    for _ in 0..total / piece.len() {
        let place = flow.place(true, piece.len() as u64);
        flow.connection
            .as_mut()
            .unwrap()
            .data(place, piece, &mut flow.http);
        most = most.max(flow.http.buffered_bytes());
    }
    let counters = flow.http.counters;
    flow.end(FlowEnd::Idle);
    (most, counters)
}

#[test]
fn endless_input_is_bounded_and_takes_linear_time() {
    const TOTAL: usize = 2 << 20;
    let start = std::time::Instant::now();
    let head = "GET / HTTP/1.1\r\n";
    let (most, counters) = flood(head, b"a: b\r\n", TOTAL);
    assert!(
        most <= limits::HEAD_BYTES_MAX + 6 && counters.heads_oversized == 1,
        "endless headers: {most} bytes"
    );
    let (most, counters) = flood(head, b"x", TOTAL);
    assert!(
        most <= limits::HEAD_BYTES_MAX + 1 && counters.heads_oversized == 1,
        "an endless header: {most} bytes"
    );
    let (most, counters) = flood("GET /", b"a", TOTAL);
    assert!(
        most <= limits::HEAD_BYTES_MAX + 1 && counters.heads_oversized == 1,
        "an endless target: {most} bytes"
    );
    let (most, _) = flood("GET / HTTP/1.1\r\n\r\n", b"GET /", TOTAL);
    assert!(
        most <= limits::HEAD_BYTES_MAX + 5,
        "an endless line of starts: {most} bytes"
    );
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (most, counters) = flood(chunked, b"1\r\na\r\n", TOTAL);
    assert_eq!(
        (most, counters.bodies_broken),
        (0, 0),
        "endless chunks of one byte"
    );
    let (most, counters) = flood(chunked, b"0", TOTAL);
    assert!(
        most <= limits::RESYNC_LINE_BYTES_MAX.next_power_of_two() && counters.bodies_broken == 1,
        "an endless size: {most} bytes"
    );
    let (most, _) = flood("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\0", TOTAL);
    assert!(
        most <= limits::RESYNC_LINE_BYTES_MAX.next_power_of_two(),
        "zeros: {most} bytes"
    );
    let (most, _) = flood("", b"\r\n", TOTAL);
    assert_eq!(most, 0, "empty lines");
    assert!(start.elapsed().as_secs() < 60, "took {:?}", start.elapsed());
}

#[test]
fn the_shard_bounds_what_all_flows_hold() {
    let mut http = Http::new(Config::default(), Recorder::default());
    let piece = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'x'; 200 * 1024]].concat();
    let mut connections = Vec::new();
    for _ in 0..HEADS_BUFFERED_BYTES_MAX / piece.len() + 9 {
        let mut connection: Connection<Draft> = Connection::open(&start(false), &mut http);
        let place = ByteInfo {
            direction: Direction::Originator,
            time: Timestamp::ZERO,
            offset: 0,
            acked: Acked::UNKNOWN,
        };
        connection.data(place, &piece, &mut http);
        assert!(http.buffered_bytes() <= HEADS_BUFFERED_BYTES_MAX);
        connections.push(connection);
    }
    assert!(http.counters.heads_shed >= 9);
    connections
        .into_iter()
        .for_each(|connection| connection.close(FlowEnd::Idle, &mut http));
    assert_eq!(http.buffered_bytes(), 0);
}

/// Every message of the vectors is read as one call, but for the named ones.
#[test]
fn the_vectors_of_the_reference_loggers() {
    for vector in crate::rules::tests::vectors("message-vectors.json") {
        let name = vector["name"].as_str().unwrap();
        if vector.get("request_b64").is_none() {
            continue; // Long bodies, compressed: the message writer's business.
        }
        let (request, response) = (
            decode_base64(&vector["request_b64"]),
            decode_base64(&vector["response_b64"]),
        );
        let (lines, counters) = run(
            &[C(request.clone()), S(response.clone()), FinS],
            usize::MAX,
            FlowEnd::Fin,
            "80",
            false,
        );
        let done = lines.iter().filter(|line| line.ends_with(" done")).count();
        let no_call = [
            "bad/response-empty",
            "bad/response-http2",
            "bad/response-bad-code",
            "bad/response-headers-cut",
        ];
        let interim = response.starts_with(b"HTTP/1.1 100 ");
        let odd = name == "bad/request-http2-preface" || name == "bad/request-headers-cut";
        if no_call.contains(&name) || interim || odd {
            assert_eq!(done, 0, "{name}: {lines:?}");
        } else {
            let clean = name.starts_with("bad/") || counters.bytes_hunted == 0;
            assert!(done == 1 && lines.len() == 1 && clean, "{name}: {lines:?}");
        }
        for step in [1, 3, 50] {
            let (cut, _) = run(
                &[C(request.clone()), S(response.clone()), FinS],
                step,
                FlowEnd::Fin,
                "80",
                false,
            );
            assert_eq!(cut, lines, "{name} in pieces of {step}");
        }
    }
}

fn decode_base64(value: &serde_json::Value) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for byte in value
        .as_str()
        .unwrap_or_default()
        .bytes()
        .filter(|&byte| byte != b'=')
    {
        bits = bits << 6 | ALPHABET.iter().position(|&letter| letter == byte).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
