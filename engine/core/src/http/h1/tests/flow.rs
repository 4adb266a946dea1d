//! One flow as events, read in pieces of every size.

use std::fmt;

use super::recorder::{Draft, Recorder};
use crate::decap::{Endpoint, Network};
use crate::flow::{Acked, ByteInfo, Consumer, Direction, FlowEnd, FlowStart};
use crate::http::*;
use crate::time::Timestamp;

/// One thing that happens to a flow.
#[derive(Clone)]
pub(super) enum Event {
    /// The client sends.
    C(Vec<u8>),
    /// The server sends.
    S(Vec<u8>),
    /// Bytes from the client are lost.
    LostC(u64),
    /// Bytes from the server are lost.
    LostS(u64),
    /// A mirror cut off bytes from the client.
    CutC(u64),
    /// A mirror cut off bytes from the server.
    CutS(u64),
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
            CutC(lost) => write!(f, "\nC cut {lost}"),
            CutS(lost) => write!(f, "\nS cut {lost}"),
            FinC => write!(f, "\nC FIN"),
            FinS => write!(f, "\nS FIN"),
        }
    }
}

pub(super) use Event::{C, CutC, CutS, FinC, FinS, LostC, LostS, S};

pub(super) fn c(text: &str) -> Event {
    C(text.as_bytes().to_vec())
}

pub(super) fn s(text: &str) -> Event {
    S(text.as_bytes().to_vec())
}

pub(super) struct Flow {
    pub(super) http: Http<Recorder>,
    pub(super) connection: Option<Connection<Draft>>,
    pub(super) offsets: [u64; 2],
    pub(super) clock: u64,
    /// The originator is the server.
    pub(super) turned: bool,
    /// No segment acknowledges anything.
    pub(super) silent: bool,
}

pub(super) fn start(midstream: bool) -> FlowStart {
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
    pub(super) fn new(ports: &str, midstream: bool, turned: bool) -> Self {
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

    pub(super) fn place(&mut self, client: bool, len: u64) -> ByteInfo {
        self.clock += 1;
        let direction = if client == self.turned {
            Direction::Responder
        } else {
            Direction::Originator
        };
        // A sender has received all that was sent before.
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
    pub(super) fn feed(&mut self, event: &Event, step: usize) {
        let (client, bytes, lost) = match event {
            C(bytes) => (true, Some(bytes), 0),
            S(bytes) => (false, Some(bytes), 0),
            LostC(lost) | CutC(lost) => (true, None, *lost),
            LostS(lost) | CutS(lost) => (false, None, *lost),
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
                cut if matches!(event, CutC(_) | CutS(_)) => {
                    connection.cut(place, cut, &mut self.http);
                }
                lost => connection.gap(place, lost, &mut self.http),
            }
        }
    }

    pub(super) fn ignored(&self) -> bool {
        let connection = self.connection.as_ref().unwrap();
        Consumer::<Http<Recorder>>::ignores(connection, Direction::Originator)
    }

    pub(super) fn end(&mut self, how: FlowEnd) {
        self.connection.take().unwrap().close(how, &mut self.http);
        assert_eq!(self.http.exchanges.open.len(), 0, "every exchange ended");
        assert_eq!(self.http.buffers.held(), 0, "every buffer came back");
        self.balanced();
    }

    #[track_caller]
    pub(super) fn balanced(&self) {
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

pub(super) fn run(
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
pub(super) fn check(events: &[Event], expected: &[&str]) -> Counters {
    check_flow(events, FlowEnd::Fin, false, expected)
}

#[track_caller]
pub(super) fn check_flow(
    events: &[Event],
    end: FlowEnd,
    midstream: bool,
    expected: &[&str],
) -> Counters {
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

pub(super) const GET: &str = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
pub(super) const GET_LINE: &str = "GET /x 1.1[Host=h] .";
pub(super) const OK_LINE: &str = "200[Content-Length=2] ok.";

/// The line of the plain call with number `n` at these offsets.
pub(super) fn plain(n: u64, request_at: usize, response_at: usize) -> String {
    format!("#{n} @{request_at} {GET_LINE} => @{response_at} {OK_LINE} done")
}
