//! Which response belongs to which request.
//!
//! The plain rule is order: responses come in the order of their requests (RFC 9112 §9.3), so a response belongs to the
//! oldest request that has none. Interim responses never get here.
//!
//! Losses break the count. Two facts carry us over them:
//!
//! 1. *Causality.* The flow layer delivers a response only after the request bytes that it acknowledges were delivered
//!    or declared lost. So if only one request waits and none was lost after it, a response start belongs to it,
//!    whatever was lost of the responses before.
//! 2. *Turns.* A client that does not pipeline sends its next request after it has read the whole response. So when a
//!    request arrives while response bytes are lost, the responses of all older requests are among the lost bytes; and
//!    when one arrives with nothing waiting, requests lost before it were answered before it. This holds until a client
//!    is seen to pipeline: it sends a request while another waits and nothing was lost, or after a lost request to
//!    which no response was seen or lost. What was concluded from turns then counts as a doubt again.
//!
//! The order of losses in the two directions is not used: they are declared when they are proven, not when they happen.
//! So a client whose very first pipelined requests fall into a loss of both directions can still be taken for one that
//! takes turns; nobody who was not there can tell the two apart.
//!
//! A pipelining client that suffers a loss of whole messages leaves no way to count: from there on this connection's
//! requests and responses are told as halves (`pairings_given_up`). A wrong pair would be a lie, a half is not.

use std::collections::VecDeque;

use super::{BodyEnd, Exchanges, Half, Http, Origin, RequestHead, ResponseHead};
use crate::limits;
use crate::time::Timestamp;

/// How far one side of an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Awaited,
    Open,
    Done,
}

/// What a request's method means for the body of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    Other,
    /// The request is not known.
    Unknown,
}

/// One exchange that is not over.
#[derive(Debug)]
pub(super) struct Exchange<D> {
    draft: D,
    call_index: u64,
    method: Method,
    request: Progress,
    response: Progress,
    /// Messages were lost before this one, and their responses may still come.
    after_loss: bool,
    /// The same, but for a client that takes turns.
    unless_pipelined: bool,
    /// It will end as a half; no response is given to it.
    given_up: bool,
}

impl<D> Exchange<D> {
    fn is_over(&self) -> bool {
        self.request == Progress::Done && (self.response == Progress::Done || self.given_up)
    }

    fn waits(&self) -> bool {
        self.response == Progress::Awaited && !self.given_up
    }
}

/// What a new response should know about losses: whole messages of each kind since the last one that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) requests: bool,
    pub(super) responses: bool,
}

/// What a new request should know about losses of requests before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Whole requests may have been lost.
    pub(super) lost: bool,
    /// Bytes of requests were lost, and since then no response was seen or lost that can be theirs.
    pub(super) unanswered: bool,
}

/// What a new request should know about the other half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Responses {
    /// Whole responses may have been lost since the last one read.
    pub(super) lost: bool,
    /// None is being read.
    pub(super) at_boundary: bool,
}

/// The exchanges of one connection that are not over, oldest first.
#[derive(Debug)]
pub(super) struct Pairing<D> {
    queue: VecDeque<Exchange<D>>,
    /// Exchanges begun on this connection.
    calls: u64,
    /// The client was seen to pipeline.
    pipelines: bool,
    /// Pairs cannot be told any more.
    hopeless: bool,
}

impl<D> Pairing<D> {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            calls: 0,
            pipelines: false,
            hopeless: false,
        }
    }

    /// Whether the client was seen to pipeline.
    pub(super) fn pipelines(&self) -> bool {
        self.pipelines
    }

    /// A request head. False when too many wait already.
    pub(super) fn open_request<X: Exchanges<Draft = D>>(
        &mut self,
        head: &RequestHead<'_>,
        mut origin: Origin<'_>,
        before: Before,
        responses: Responses,
        shared: &mut Http<X>,
    ) -> bool {
        self.settle_turn(responses, shared);
        if self.queue.len() >= limits::PIPELINE_DEPTH_MAX {
            return false;
        }
        self.pipelines |= before.unanswered;
        let in_turn = self.queue.is_empty() && responses.at_boundary && !self.pipelines;
        self.begin(&mut origin, shared);
        let draft = shared.exchanges.request(head, &origin);
        self.queue.push_back(Exchange {
            draft,
            call_index: origin.call_index,
            method: match head.method {
                b"HEAD" => Method::Head,
                b"CONNECT" => Method::Connect,
                _ => Method::Other,
            },
            request: Progress::Open,
            response: Progress::Awaited,
            after_loss: before.lost && !in_turn,
            unless_pipelined: before.lost || responses.lost,
            given_up: self.hopeless,
        });
        true
    }

    /// The second fact: what a new request says about those before it.
    fn settle_turn<X: Exchanges<Draft = D>>(&mut self, responses: Responses, shared: &mut Http<X>) {
        let waiting = self.queue.iter().any(Exchange::waits);
        if waiting && responses.lost && responses.at_boundary && !self.pipelines {
            self.give_up_waiting(shared);
        } else if waiting || !responses.at_boundary {
            self.pipelines = true;
        }
    }

    pub(super) fn request_body<X: Exchanges<Draft = D>>(
        &mut self,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) {
        if let Some(exchange) = self.open_request_mut() {
            shared.exchanges.request_body(&mut exchange.draft, bytes);
        }
    }

    pub(super) fn request_missing<X: Exchanges<Draft = D>>(
        &mut self,
        missing: u64,
        shared: &mut Http<X>,
    ) {
        shared.counters.request_bytes_missing += missing;
        if let Some(exchange) = self.open_request_mut() {
            shared
                .exchanges
                .request_missing(&mut exchange.draft, missing);
        }
    }

    pub(super) fn request_end<X: Exchanges<Draft = D>>(
        &mut self,
        end: BodyEnd,
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        if let Some(exchange) = self.open_request_mut() {
            exchange.request = Progress::Done;
            shared.exchanges.request_end(&mut exchange.draft, end, time);
        }
        self.settle(shared);
    }

    /// A final response head; `lost`: whole responses may have been lost before it, or whole requests of late. Says
    /// whose it is.
    pub(super) fn open_response<X: Exchanges<Draft = D>>(
        &mut self,
        head: &ResponseHead<'_>,
        mut origin: Origin<'_>,
        lost: Lost,
        shared: &mut Http<X>,
    ) -> Method {
        let mut waiting = self.queue.iter().filter(|exchange| exchange.waits());
        let oldest_unsure = waiting
            .next()
            .is_some_and(|oldest| oldest.after_loss || (oldest.unless_pipelined && self.pipelines));
        let several = waiting.next().is_some();
        if oldest_unsure || (lost.responses && (several || lost.requests)) {
            if oldest_unsure || several || self.pipelines {
                self.hopeless = true;
                shared.counters.pairings_given_up += 1;
            }
            self.give_up_waiting(shared);
        }
        if let Some(exchange) = self.queue.front_mut().filter(|exchange| exchange.waits()) {
            exchange.response = Progress::Open;
            origin.call_index = exchange.call_index;
            shared
                .exchanges
                .response(&mut exchange.draft, head, &origin);
            return exchange.method;
        }
        self.begin(&mut origin, shared);
        shared.counters.orphans += 1;
        let draft = shared.exchanges.orphan_response(head, &origin);
        self.queue.push_front(Exchange {
            draft,
            call_index: origin.call_index,
            method: Method::Unknown,
            request: Progress::Done,
            response: Progress::Open,
            after_loss: false,
            unless_pipelined: false,
            given_up: false,
        });
        Method::Unknown
    }

    pub(super) fn response_body<X: Exchanges<Draft = D>>(
        &mut self,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) {
        if let Some(exchange) = self.open_response_mut() {
            shared.exchanges.response_body(&mut exchange.draft, bytes);
        }
    }

    pub(super) fn response_missing<X: Exchanges<Draft = D>>(
        &mut self,
        missing: u64,
        shared: &mut Http<X>,
    ) {
        shared.counters.response_bytes_missing += missing;
        if let Some(exchange) = self.open_response_mut() {
            shared
                .exchanges
                .response_missing(&mut exchange.draft, missing);
        }
    }

    pub(super) fn response_end<X: Exchanges<Draft = D>>(
        &mut self,
        end: BodyEnd,
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        if let Some(exchange) = self.open_response_mut() {
            exchange.response = Progress::Done;
            shared
                .exchanges
                .response_end(&mut exchange.draft, end, time);
        }
        self.settle(shared);
    }

    /// Nothing more will come: open messages are cut, and what still waits is half for the reason `why`.
    pub(super) fn close<X: Exchanges<Draft = D>>(
        &mut self,
        why: Half,
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        self.request_end(BodyEnd::Cut, time, shared);
        self.response_end(BodyEnd::Cut, time, shared);
        while let Some(exchange) = self.queue.pop_front() {
            conclude(exchange, why, shared);
        }
        self.recycle(shared);
    }

    fn begin<X: Exchanges<Draft = D>>(&mut self, origin: &mut Origin<'_>, shared: &mut Http<X>) {
        if self.queue.capacity() == 0 {
            self.queue = shared.queues.pop().unwrap_or_default();
        }
        self.calls += 1;
        origin.call_index = self.calls;
        shared.counters.exchanges_opened += 1;
    }

    /// The request being read is the newest one: a request begins after the one before it has ended.
    fn open_request_mut(&mut self) -> Option<&mut Exchange<D>> {
        self.queue
            .back_mut()
            .filter(|exchange| exchange.request == Progress::Open)
    }

    /// The response being read belongs to the oldest exchange: those before it are over.
    fn open_response_mut(&mut self) -> Option<&mut Exchange<D>> {
        self.queue
            .front_mut()
            .filter(|exchange| exchange.response == Progress::Open)
    }

    fn give_up_waiting<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        for exchange in &mut self.queue {
            exchange.given_up |= exchange.waits();
        }
        self.settle(shared);
    }

    /// Concludes what is over. Exchanges end at the front; only a request that is still being read while its response
    /// is over (an early answer) or was given up stays at the back for longer, perhaps behind an orphan.
    fn settle<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        while self.queue.front().is_some_and(Exchange::is_over) {
            if let Some(exchange) = self.queue.pop_front() {
                conclude(exchange, Half::Gap, shared);
            }
        }
        while self.queue.back().is_some_and(Exchange::is_over) {
            if let Some(exchange) = self.queue.pop_back() {
                conclude(exchange, Half::Gap, shared);
            }
        }
        if self.queue.is_empty() {
            self.recycle(shared);
        }
    }

    /// An idle connection holds no queue: there may be a million of them.
    fn recycle<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        if (1..=SPARE_QUEUE_LENGTH_MAX).contains(&self.queue.capacity())
            && shared.queues.len() < SPARE_QUEUES_MAX
        {
            shared.queues.push(std::mem::take(&mut self.queue));
        }
    }
}

/// Emptied queues kept; more are freed with their connection.
const SPARE_QUEUES_MAX: usize = 256;
/// A longer queue stays with its connection.
const SPARE_QUEUE_LENGTH_MAX: usize = 16;

/// Tells how an exchange ended; `why` holds if it is half.
fn conclude<X: Exchanges>(exchange: Exchange<X::Draft>, why: Half, shared: &mut Http<X>) {
    if exchange.method == Method::Unknown {
        // The request of an orphan was before the capture or in a loss, whatever ended the flow.
        return half(exchange.draft, Half::Gap, shared);
    }
    if exchange.response == Progress::Done {
        shared.counters.exchanges_finished += 1;
        return shared.exchanges.finish(exchange.draft);
    }
    half(
        exchange.draft,
        if exchange.given_up { Half::Gap } else { why },
        shared,
    );
}

fn half<X: Exchanges>(draft: X::Draft, why: Half, shared: &mut Http<X>) {
    let counters = &mut shared.counters;
    let cell = match why {
        Half::Timeout => &mut counters.half_timeout,
        Half::Closed => &mut counters.half_closed,
        Half::Gap => &mut counters.half_gap,
        Half::Evicted => &mut counters.half_evicted,
        Half::Shutdown => &mut counters.half_shutdown,
    };
    *cell += 1;
    shared.exchanges.half(draft, why);
}
