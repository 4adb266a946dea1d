//! The state of one open exchange, with the part of its line that is already written.

use super::content::{Codings, StreamDecoder};
use super::conversation::Conversation;
use super::facts::{Details, Facts};
use super::messages::Messages;
use super::observer::Observer;
use super::operation;
use super::rpc::{Media, System};
use super::tail::BodyTail;
use crate::decap::{Endpoint, Network};
use crate::http::{BodyEnd, MessageId, Origin, Side, Version};
use crate::limits::{BODY_TEXT_BYTES_MIN, BODY_TEXT_FACTOR};
use crate::ndjson::Tail;
use crate::rules::{Charset, Findings};
use crate::time::Timestamp;
use crate::uploads::Candidate;

/// One open exchange. The writer makes it and takes it back; its holder only passes it on.
///
/// Details are written as they are read; joined, the buffers are the line.
#[derive(Debug, Default)]
pub struct Draft {
    pub(super) state: State,
    /// Method, URL, later the response code.
    pub(super) start: Vec<u8>,
    pub(super) request_body: Body,
    /// Request headers and params.
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    pub(super) response_body: Body,
    pub(super) session: Vec<u8>,
    /// Its request has the marker of an upload, and it is not decided yet whether it is one.
    pub(super) upload: Option<Box<Candidate>>,
    /// What was derived of it.
    pub(super) facts: Facts,
    /// It consists of the messages of a WebSocket.
    pub(super) conversation: Option<Box<Conversation>>,
    /// It is written in parts.
    pub(super) parts: Option<Parts>,
}

/// The parts of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// Which draft it is, among those that are written in parts.
    pub(super) serial: u64,
    /// When the next one is.
    pub(super) due: Timestamp,
    /// Those that were written.
    pub(super) number: u32,
    /// Where in the bytes of both bodies the last message ended.
    pub(super) ends: [Option<usize>; 2],
    /// Bytes of the bodies behind that, as they were received.
    pub(super) behind: [usize; 2],
}

impl Parts {
    /// Of which the first is due then.
    pub(super) fn new(due: Timestamp, serial: u64) -> Self {
        Self {
            serial,
            due,
            number: 0,
            ends: [None; 2],
            behind: [0; 2],
        }
    }
}

/// The part of a draft that has no memory of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// Which rule set applies: the one that was in force at its start.
    pub(super) rule_set: u64,
    pub(super) findings: Findings,
    /// The sample rule drops it: its details are tested, not written.
    pub(super) sampled_out: bool,
    /// Most bytes of a body that no rule needs.
    pub(super) body_bytes_max: usize,
    /// Its memory, as last added to the sum of open exchanges, or to that of the pool.
    pub(super) held: usize,
    /// How much of [`Draft::start`] belongs to the request.
    pub(super) start_of_request: usize,
    pub(super) request_times: Option<Times>,
    pub(super) response_times: Option<Times>,
    pub(super) incomplete: bool,
    /// The length of a message cannot be believed.
    pub(super) doubtful: bool,
    /// The response code as it was written; 0 if none was.
    pub(super) status: u16,
    /// Params, form fields and session fields that its line has no room for.
    pub(super) fields_left_out: u32,
    /// Where the params begin in [`Draft::request`]: behind all headers.
    pub(super) headers_end: usize,
    /// Fields of both heads that are not known.
    pub(super) unknown_fields: u32,
    /// Who has reset it, with which code.
    pub(super) reset: Option<(Side, u32)>,
    pub(super) is_pushed: bool,
    /// Which part of the exchange it is; 0 for the whole of it.
    pub(super) part: u32,
    pub(super) is_last_part: bool,
    /// Details that the rules did not leave as they were sent, of those that facts come from.
    pub(super) changed: Details,
    /// Its protocol, if it is a remote procedure call.
    pub(super) rpc: Option<System>,
    /// It may be one whose content type is not known.
    pub(super) may_be_rpc: bool,
    /// What its operation is one of.
    pub(super) operation: Option<operation::Kind>,
    /// The body of its request may have an operation.
    pub(super) may_have_operation: bool,
    /// That is one document of GraphQL.
    pub(super) is_graphql: bool,
    /// Its response, or a part of it, reports an error.
    pub(super) has_errors: bool,
    /// Its headers are those of the Model Context Protocol.
    pub(super) is_mcp: bool,
    /// What its messages are by the content type of the request.
    pub(super) media: Option<Media>,
    /// Of the request, or of a response that stands alone.
    pub(super) version: Option<Version>,
    pub(super) connection: Connection,
}

/// The times of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) first: Timestamp,
    /// The last byte; the first until the message is over.
    pub(super) last: Timestamp,
    /// Which one of its direction.
    pub(super) message: MessageId,
}

impl Times {
    pub(super) fn start(origin: &Origin<'_>) -> Self {
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

/// How the bytes of a body are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Counted only: a rule hides it whatever its value is, the call is already dropped, or its coding is unknown.
    #[default]
    Counted,
    /// Escaped into the line as they are received.
    Streamed,
    /// Kept until the end: a coding has to be undone, or a rule needs the whole.
    Collected,
}

/// One body.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) state: BodyState,
    /// Streamed: the detail as it is in the line. Collected: bytes as they were received. After the end: the detail.
    pub(super) bytes: Vec<u8>,
    /// Finds its messages, if it has any.
    pub(super) observer: Option<Box<Observer>>,
    /// Its messages, if it is of a remote procedure call.
    pub(super) messages: Option<Box<Messages>>,
    /// What few bodies have.
    pub(super) extra: Option<Box<Extra>>,
    /// The memory of what found and held the messages of the body before.
    pub(super) spare: Option<(Box<Observer>, Box<Messages>)>,
}

/// What few bodies have: those that are decoded as they come, and those whose end is kept.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) decoder: Option<StreamDecoder>,
    pub(super) tail: Option<BodyTail>,
}

/// The part of a body that has no memory of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BodyState {
    pub(super) mode: Mode,
    pub(super) tail: Tail,
    pub(super) codings: Codings,
    /// It may contain form fields that become params.
    pub(super) is_form: bool,
    /// A coding may be among the fields that are not known.
    pub(super) may_be_coded: bool,
    /// The body of a request of which the type is not known is over, in this way: the response may show what it is.
    pub(super) waits: Option<BodyEnd>,
    /// Most bytes of it, without codings, that go into the message.
    pub(super) bytes_max: usize,
    /// Bytes beyond that which its rules see.
    pub(super) beyond: usize,
    /// What its content type says of its characters, if a rule may need them.
    pub(super) charset: Charset,
    /// Bytes accepted, with codings.
    pub(super) taken: usize,
    /// Bytes received; after the end its full length without codings, as far as known.
    pub(super) len: u64,
    /// Bytes that were never captured.
    pub(super) missing: u64,
    /// Nothing more is accepted: it is truncated, or nothing after a gap can be decoded.
    pub(super) sealed: bool,
    /// A piece of it is missing: not captured, cut before its end, undecodable from some byte on, or given up because memory
    /// was short. Truncation at the body limit alone is no gap.
    pub(super) has_gap: bool,
    /// Truncated: at the body limit, or because memory was short.
    pub(super) truncated: bool,
    /// Truncated or given up because memory was short or the shard could not keep up.
    pub(super) shed: bool,
    /// Bytes between its beginning and its end, if the end is kept.
    pub(super) left_out: u64,
    pub(super) over: bool,
}

impl State {
    /// Whether it is a part of an exchange, and not the last one.
    pub(super) fn is_further_part(&self) -> bool {
        self.part > 0 && !self.is_last_part
    }
}

impl BodyState {
    /// Most bytes of its text in the line.
    pub(super) fn text_bytes_max(&self) -> usize {
        self.bytes_max.saturating_mul(BODY_TEXT_FACTOR) + BODY_TEXT_BYTES_MIN
    }

    /// Most bytes of the body, without codings, that its rules see.
    pub(super) fn bytes_seen_max(&self) -> usize {
        self.bytes_max.saturating_add(self.beyond)
    }
}

impl Body {
    /// Frees its bytes because memory is short; its length is still counted.
    pub(super) fn give_up(&mut self) {
        self.bytes = Vec::new();
        let state = &mut self.state;
        state.taken = 0;
        (state.sealed, state.truncated) = (true, true);
        (state.has_gap, state.shed) = (true, true);
        self.drop_tail();
    }

    /// Gives up its end.
    pub(super) fn drop_tail(&mut self) {
        if let Some(extra) = &mut self.extra {
            extra.tail = None;
        }
    }

    /// What decodes it as it comes.
    pub(super) fn decoder(&mut self) -> Option<&mut StreamDecoder> {
        self.extra.as_mut()?.decoder.as_mut()
    }

    /// Its end, if that is kept.
    pub(super) fn tail(&mut self) -> Option<&mut BodyTail> {
        self.extra.as_mut()?.tail.as_mut()
    }

    /// Whether nothing finds or holds messages in it.
    fn is_plain(&self) -> bool {
        self.observer.is_none()
            && self.messages.is_none()
            && self.extra.is_none()
            && self.spare.is_none()
    }

    /// Memory of what finds and holds its messages, and of what few bodies have.
    fn memory_of_messages(&self) -> usize {
        let observer = self.observer.as_ref().map_or(0, |_| size_of::<Observer>());
        let messages = self.messages.as_ref();
        let extra = self.extra.as_ref().map_or(0, |extra| extra.memory());
        let spare = self.spare.as_ref();
        let spare = spare.map_or(0, |(_, messages)| size_of::<Observer>() + messages.memory());
        observer + extra + spare + messages.map_or(0, |messages| messages.memory())
    }

    /// Whether its bytes are messages of a remote procedure call, as they come.
    pub(super) fn takes_messages(&self) -> bool {
        self.messages.is_some() && self.observer.is_some() && self.state.codings.is_identity()
    }

    /// Ready for another body; the buffer keeps its memory, and a small one for messages.
    fn clear(&mut self, kept_bytes: usize) {
        self.state = BodyState::default();
        self.bytes.clear();
        self.extra = None;
        if self.observer.is_some() || self.messages.is_some() {
            self.clear_messages(kept_bytes);
        }
    }

    #[cold]
    fn clear_messages(&mut self, kept_bytes: usize) {
        let both = self.observer.take().zip(self.messages.take());
        self.spare = both.filter(|(_, messages)| messages.buffer.capacity() <= kept_bytes);
    }
}

impl Extra {
    fn memory(&self) -> usize {
        let decoder = self.decoder.as_ref().map_or(0, StreamDecoder::memory);
        size_of::<Self>() + decoder + self.tail.as_ref().map_or(0, BodyTail::memory)
    }
}

impl Draft {
    fn buffers(&mut self) -> [&mut Vec<u8>; 7] {
        [
            &mut self.start,
            &mut self.request_body.bytes,
            &mut self.request,
            &mut self.response,
            &mut self.response_body.bytes,
            &mut self.session,
            self.facts.buffer(),
        ]
    }

    /// Moves the response to `other`, an empty draft.
    pub(super) fn split_response(&mut self, other: &mut Self, call_index: u64) {
        other.state = self.state;
        other.state.held = 0;
        other.state.connection.call_index = call_index;
        other.state.request_times = None;
        other.state.start_of_request = 0;
        let start = self.start.get(self.state.start_of_request..);
        other.start.extend_from_slice(start.unwrap_or_default());
        self.start.truncate(self.state.start_of_request);
        std::mem::swap(&mut other.response, &mut self.response);
        std::mem::swap(&mut other.response_body, &mut self.response_body);
        self.state.response_times = None;
        self.state.status = 0;
        other.state.fields_left_out = 0;
        self.facts.remove_from(Details::OF_RESPONSE);
        let events = self.state.findings;
        other.state.findings = events.of_part(other.details_left());
        self.state.findings = events.of_part(self.details_left());
        self.state.findings.doubts = events.doubts;
        self.state.findings.unseen = events.unseen;
        self.state.findings.unreadable = events.unreadable;
    }

    /// Copies the details of the handshake `of`, to an empty draft.
    pub(super) fn copy_details(&mut self, of: &Self) {
        self.state = of.state;
        self.state.held = 0;
        let findings = &mut self.state.findings;
        // They are counted with the handshake.
        (findings.doubts, findings.unseen, findings.unreadable) = (0, 0, 0);
        for (copy, buffer) in [
            (&mut self.start, &of.start),
            (&mut self.request, &of.request),
            (&mut self.response, &of.response),
            (&mut self.session, &of.session),
        ] {
            copy.extend_from_slice(buffer);
        }
        self.facts.copy(&of.facts);
    }

    /// Whether the content type of its response may show what the body of its request is.
    #[inline]
    pub(super) fn may_be_shown_by_response(&self) -> bool {
        self.state.may_be_rpc
            && self.state.response_times.is_none()
            && self.request_body.state.may_be_coded
    }

    /// Whether its response is a stream of messages that can be written in parts.
    pub(super) fn is_stream(&self) -> bool {
        let body = &self.response_body;
        body.observer.is_some() && body.state.codings.is_identity() && !body.state.may_be_coded
    }

    /// Whether a message has come since the part before.
    pub(super) fn has_messages(&self) -> bool {
        let bodies = [&self.request_body, &self.response_body];
        let mut observers = bodies.iter().filter_map(|body| body.observer.as_ref());
        let conversation = self.conversation.as_ref();
        observers.any(|observer| observer.seen.messages > 0)
            || conversation.is_some_and(|conversation| conversation.has_messages())
    }

    /// When the last message has come since the part before.
    pub(super) fn last_message(&self) -> Option<Timestamp> {
        let bodies = [&self.request_body, &self.response_body];
        let observers = bodies.iter().filter_map(|body| body.observer.as_ref());
        let conversation = self.conversation.iter();
        let sequences = conversation.flat_map(|both| [&both.request, &both.response]);
        let seen = observers.map(|observer| observer.seen.last);
        seen.chain(sequences.map(|sequence| sequence.seen.last))
            .flatten()
            .max()
    }

    /// In how many of its buffers there are details; a body has one when it is over.
    fn details_left(&self) -> usize {
        let heads = [&self.start, &self.request, &self.response, &self.session];
        let bodies = [&self.request_body, &self.response_body];
        let bodies = bodies.into_iter().filter(|body| body.state.over);
        let buffers = heads.into_iter().chain(bodies.map(|body| &body.bytes));
        buffers.filter(|buffer| !buffer.is_empty()).count()
    }

    /// Memory of it and of its buffers.
    #[inline]
    pub(super) fn memory(&mut self) -> usize {
        let buffers: usize = self.buffers().iter().map(|buffer| buffer.capacity()).sum();
        let is_plain = self.upload.is_none()
            && self.conversation.is_none()
            && self.request_body.is_plain()
            && self.response_body.is_plain();
        size_of::<Self>() + buffers + if is_plain { 0 } else { self.memory_of_parts() }
    }

    /// Memory of what few calls have.
    #[cold]
    fn memory_of_parts(&self) -> usize {
        let upload = self.upload.as_ref();
        let upload = upload.map_or(0, |upload| size_of::<Candidate>() + upload.memory());
        let bodies = [&self.request_body, &self.response_body];
        let bodies: usize = bodies.into_iter().map(Body::memory_of_messages).sum();
        let conversation = self.conversation.as_ref();
        let conversation = conversation.map_or(0, |conversation| conversation.memory());
        upload + conversation + bodies
    }

    /// Ready for another exchange, with small buffers kept.
    pub(super) fn recycle(&mut self, kept_bytes: usize) {
        self.state = State::default();
        self.upload = None;
        self.conversation = None;
        self.parts = None;
        self.request_body.clear(kept_bytes);
        self.response_body.clear(kept_bytes);
        for buffer in self.buffers() {
            buffer.clear();
            if buffer.capacity() > kept_bytes {
                *buffer = Vec::new();
            }
        }
    }
}
