//! The state of one open exchange: what is written of its line so far.

use super::content::Codings;
use crate::decap::{Endpoint, Network};
use crate::http::{MessageId, Origin};
use crate::ndjson::Tail;
use crate::rules::Findings;
use crate::time::Timestamp;

/// One open exchange. Made and taken back by the writer; whoever holds it only hands it on.
///
/// Details are written as they come and stand in the order of the line when the buffers are joined.
#[derive(Debug, Default)]
pub struct Draft {
    /// Which rule set judges it: the one that was there when it began.
    pub(super) rules: u64,
    pub(super) findings: Findings,
    /// The sample rule drew it out: its details are tested, not written.
    pub(super) sampled_out: bool,
    /// Bytes of a body that no rule has to see.
    pub(super) body_bytes_max: usize,
    /// Its memory, as last added to the writer's sum.
    pub(super) held: usize,
    /// Method, URL, later the response code.
    pub(super) start: Vec<u8>,
    /// Of `start`: how much is the request's.
    pub(super) start_of_request: usize,
    pub(super) request_body: Body,
    /// Request headers and params.
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    pub(super) response_body: Body,
    pub(super) session: Vec<u8>,
    pub(super) request_times: Option<Times>,
    pub(super) response_times: Option<Times>,
    pub(super) incomplete: bool,
    /// The response code as it was written; 0 if none was.
    pub(super) status: u16,
    pub(super) connection: Connection,
}

/// When a message was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) first: Timestamp,
    /// The last byte; the first as long as the message is not over.
    pub(super) last: Timestamp,
    /// Which one of its direction.
    pub(super) message: MessageId,
}

impl Times {
    pub(super) fn begin(origin: &Origin<'_>) -> Self {
        Self {
            first: origin.time,
            last: origin.time,
            message: origin.message,
        }
    }
}

/// Where an exchange was seen: its [`Origin`] without the borrow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connection {
    pub(super) network: Network,
    pub(super) client: Option<Endpoint>,
    pub(super) server: Option<Endpoint>,
    pub(super) originator_seq: u32,
    pub(super) client_is_originator: bool,
    /// Number of the flow in the shard.
    pub(super) flow: u64,
    pub(super) call_index: u64,
}

impl Connection {
    pub(super) fn new(origin: &Origin<'_>) -> Self {
        let flow = origin.flow;
        let (client, server) = if origin.client_is_originator {
            (flow.originator, flow.responder)
        } else {
            (flow.responder, flow.originator)
        };
        Self {
            network: flow.network,
            client: Some(client),
            server: Some(server),
            originator_seq: flow.originator_seq,
            client_is_originator: origin.client_is_originator,
            flow: flow.number,
            call_index: origin.call_index,
        }
    }
}

/// What is done with the bytes of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Counted only: a rule hides it whatever it says, the call is dropped already, or its coding is unknown.
    #[default]
    Counted,
    /// Escaped into the line as they come.
    Streamed,
    /// Kept until the end: a coding is to be undone, or a rule has to see the whole.
    Collected,
}

/// One body.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) mode: Mode,
    /// Streamed: the detail as it stands in the line. Collected: bytes as they came. Once it is over: the detail.
    pub(super) bytes: Vec<u8>,
    pub(super) tail: Tail,
    pub(super) codings: Codings,
    /// It may hold form fields that are wanted as params.
    pub(super) is_form: bool,
    /// Bytes of it, without codings, that go into the message.
    pub(super) bytes_max: usize,
    /// Bytes taken in of those that came.
    pub(super) taken: usize,
    /// Bytes that came, then (once it is over) its full length without codings as far as known.
    pub(super) len: u64,
    pub(super) missing: u64,
    /// Nothing more is taken in: it is cut, or a hole ended what can be decoded.
    pub(super) sealed: bool,
    /// A piece of it is not there: not captured, cut before its end, undecodable from somewhere on, or not taken in for
    /// want of memory. The body limit alone makes no hole.
    pub(super) holed: bool,
    /// Truncated: at the body limit, or because memory was short.
    pub(super) limited: bool,
    /// Truncated or given up because memory was short or the shard could not keep up.
    pub(super) shed: bool,
    pub(super) over: bool,
}

impl Body {
    /// Lets go of its bytes for want of memory; its length goes on being counted.
    pub(super) fn give_up(&mut self) {
        self.bytes = Vec::new();
        self.taken = 0;
        (self.sealed, self.limited, self.holed, self.shed) = (true, true, true, true);
    }

    /// Forgets all of it but the memory of its bytes.
    fn clear(&mut self) {
        let Self {
            mode,
            bytes,
            tail,
            codings,
            is_form,
            taken,
            len,
            missing,
            sealed,
            holed,
            limited,
            shed,
            over,
            bytes_max,
        } = self;
        bytes.clear();
        (*mode, *tail, *codings) = (Mode::default(), Tail::default(), Codings::default());
        (*taken, *len, *missing, *bytes_max) = (0, 0, 0, 0);
        (*is_form, *sealed, *holed) = (false, false, false);
        (*limited, *shed, *over) = (false, false, false);
    }
}

impl Draft {
    fn buffers(&mut self) -> [&mut Vec<u8>; 6] {
        [
            &mut self.start,
            &mut self.request_body.bytes,
            &mut self.request,
            &mut self.response,
            &mut self.response_body.bytes,
            &mut self.session,
        ]
    }

    /// Forgets the response.
    pub(super) fn retract_response(&mut self) {
        self.start.truncate(self.start_of_request);
        self.response.clear();
        self.response_body.clear();
        self.response_times = None;
        self.status = 0;
    }

    /// Memory of it and of its buffers.
    pub(super) fn memory(&mut self) -> usize {
        let buffers: usize = self.buffers().iter().map(|buffer| buffer.capacity()).sum();
        size_of::<Self>() + buffers
    }

    /// Ready for another exchange, with small buffers kept.
    pub(super) fn recycle(&mut self, kept_bytes: usize) {
        self.request_body.clear();
        self.response_body.clear();
        for buffer in self.buffers() {
            buffer.clear();
            if buffer.capacity() > kept_bytes {
                *buffer = Vec::new();
            }
        }
        // Named one by one, so that none can be forgotten, and in place, so that nothing large is moved.
        let Self {
            rules,
            findings,
            sampled_out,
            held,
            start: _,
            start_of_request,
            request_body: _,
            request: _,
            response: _,
            response_body: _,
            session: _,
            request_times,
            response_times,
            incomplete,
            status,
            connection,
            body_bytes_max,
        } = self;
        (*rules, *held, *start_of_request, *body_bytes_max) = (0, 0, 0, 0);
        (*sampled_out, *incomplete, *status) = (false, false, 0);
        (*request_times, *response_times) = (None, None);
        *findings = Findings::default();
        *connection = Connection::default();
    }
}
