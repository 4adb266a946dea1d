//! Which response belongs to which request.
//!
//! The plain rule is order: responses come in the order of their requests (RFC 9112 §9.3), so a response belongs to the
//! oldest request that has none. Interim responses never get here.
//!
//! Losses break the count. Three facts bridge them:
//!
//! 1. *Causality.* The flow layer delivers a response only after the request bytes that it acknowledges were delivered
//!    or declared a gap. So if only one request waits and none was lost, a response start belongs to it, whatever was lost
//!    of the responses before.
//! 2. *Acknowledgements.* Each segment carries how much its sender has of the other direction. So a response never starts
//!    before what its request acknowledged, and never belongs to a request whose start it does not acknowledge. That
//!    places lost responses before or after a request, whenever their gap was declared. The number of a request that was
//!    sent again can be trusted: had its first copy been answered, the answer would have acknowledged it and ended the
//!    sending. Captures in which acknowledgements contradict the count (an overlapping copy made by something between
//!    the endpoints, numbers made up) exist all the same: the number of a request is never taken for more than what was
//!    delivered of the responses when it was read, it is not trusted when it acknowledges lost responses that had no
//!    request, and it is not used where the count alone decides.
//! 3. *Alternation.* A client that does not pipeline sends its next request after it has read the whole response. So when
//!    a request acknowledges lost response bytes, the responses of all older requests are among them; and the answer to a
//!    request starts where its acknowledgement ends. This holds until a client is seen to pipeline: it sends a request
//!    while another waits and nothing was lost, or after a lost request to which no response was seen or lost.
//!
//! Facts 1 and 2 prove, alternation does not: a client may have pipelined where nothing was captured. So once requests may
//! have been lost (or sent before the capture began), a pair that rests on alternation is *probable*. It is delivered when
//! the next request acknowledges exactly its response, or the connection ends without another; when another response comes
//! first, or bytes are missing in between, the pair is refuted and becomes two half calls (`pairs_refuted`). One pair that
//! holds ends the ambiguity. One case stays undetected: a client that keeps a fixed number of requests in flight and whose
//! surplus was sent before the capture, which no capture that began later can show.
//!
//! A pipelining client that suffers a loss of whole messages leaves no way to count: from there on this connection's
//! requests and responses become half calls (`pairings_given_up`). A half call is correct, a wrong pair would not be.
//!
//! # States
//!
//! A connection has an [`Order`] and an [`Attribution`]:
//!
//! | state | entered when | what holds |
//! | --- | --- | --- |
//! | `Order::Alternating` | the connection begins | fact 3 |
//! | `Order::Pipelined` | the client is seen to pipeline | facts 1 and 2 only |
//! | `Attribution::Certain` | the connection begins, or a probable pair holds | a response belongs to the oldest request that waits |
//! | `Attribution::Ambiguous` | the capture began midstream, requests were lost, or a response fits no request | by alternation, pairs are probable; else responses are orphans |
//! | `Attribution::GivenUp` | the client pipelines and whole messages were lost | every request and every response is unpaired, to the end of the connection |
//!
//! An [`Exchange`] leaves the queue by its state:
//!
//! | request | response | pair | what becomes of it |
//! | --- | --- | --- | --- |
//! | `Open` | any | any | stays |
//! | `Done` | `Awaited`, `Open` | | stays; at the end of the flow unpaired for the reason of that, or finished as it is |
//! | `Done` | `Done` | `Certain` | finished |
//! | `Done` | `Done` | `Probable` | stays until the next message confirms or refutes it |
//! | `Done` | `Done` | `Refuted` | unpaired (`Gap`), and its response is an exchange of its own, unpaired (`Gap`) |
//! | `Done` | `GivenUp` | | unpaired (`Gap`) |
//! | `Unseen` | `Done` | `Certain` | unpaired (`Gap`, or `Evicted`) |

use std::collections::VecDeque;

use super::queue::{Exchange, Method, Pair, Request, Response};
use crate::flow::FlowStart;
use crate::http::{
    BodyEnd, Exchanges, Http, Origin, RequestHead, ResponseHead, Side, UnpairedReason,
};
use crate::limits::{self, MESSAGE_BYTES_MIN};
use crate::time::Timestamp;

/// How a client sends its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// One after the other, as far as was seen.
    Alternating,
    /// The next before the response of the one before.
    Pipelined,
}

/// What is known of the requests that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribution {
    /// All of them were seen.
    Certain,
    /// Others that were not seen may wait, too.
    Ambiguous,
    /// Responses cannot be attributed any more.
    GivenUp,
}

impl Attribution {
    /// Requests may have been missed.
    fn weaken(&mut self) {
        if *self == Self::Certain {
            *self = Self::Ambiguous;
        }
    }
}

/// What the pairing needs to know about the bytes before a new request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestContext {
    /// Whole requests may have been lost.
    pub(super) requests_lost: bool,
    /// Bytes of requests were lost, and since then no response was seen or lost that can be theirs.
    pub(super) requests_unanswered: bool,
    /// It may lie within the body of an earlier one whose length cannot be believed.
    pub(super) is_doubtful: bool,
    /// What the request acknowledges of the responses, at most what was delivered of them.
    pub(super) acked: u64,
    /// Bytes of responses that were delivered and that it does not acknowledge.
    pub(super) unacked: u64,
    /// Bytes lost since the last response that was read.
    pub(super) responses_lost: u64,
    /// Some of them were never captured; others were seen, and were no response.
    pub(super) responses_gapped: bool,
    /// No response is being read.
    pub(super) at_boundary: bool,
}

/// What the pairing needs to know about the bytes before a new response.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseContext {
    /// Whole requests may have come after the last one that was read.
    pub(super) requests_lost: bool,
    /// Bytes of responses lost since the last one that was read.
    pub(super) responses_lost: u64,
    /// What the response acknowledges of the requests.
    pub(super) acked: u64,
}

/// Which request a response belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The oldest one that waits.
    Oldest(Pair),
    /// One that was not seen.
    Unseen,
    /// One of those that wait, or none.
    Unknown,
    /// The same, and it will not be known of later responses either.
    Unknowable,
}

/// The exchanges of one connection that are not over, oldest first.
#[derive(Debug)]
pub(super) struct Pairing<D> {
    queue: VecDeque<Exchange<D>>,
    /// Exchanges begun on this connection.
    calls: u64,
    order: Order,
    attribution: Attribution,
    /// Where the last response that was read ended.
    answered: u64,
    /// It ended by its framing.
    answered_whole: bool,
    /// Behind the first byte of the last response that was attributed to no request; 0 when there was none.
    last_orphan: u64,
    /// Why the requests before the first one that was seen are not known.
    unseen: UnpairedReason,
}

impl<D> Pairing<D> {
    /// A connection on which `calls` exchanges began before.
    pub(super) fn new(flow: &FlowStart, calls: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            calls,
            order: Order::Alternating,
            attribution: if flow.midstream {
                Attribution::Ambiguous
            } else {
                Attribution::Certain
            },
            answered: 0,
            answered_whole: true,
            last_orphan: 0,
            unseen: if flow.evicted {
                UnpairedReason::Evicted
            } else {
                UnpairedReason::Gap
            },
        }
    }

    /// Exchanges begun so far.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// The number of the exchange that begins next.
    pub(super) fn next_index(&self) -> u64 {
        self.calls + 1
    }

    /// Whether the client was seen to pipeline.
    pub(super) fn is_pipelined(&self) -> bool {
        self.order == Order::Pipelined
    }

    /// The client has sent requests before the response of an earlier one.
    pub(super) fn pipeline(&mut self) {
        self.order = Order::Pipelined;
    }

    /// Where the response of the request that is being read ended, if it is over.
    pub(super) fn early_answer(&self) -> Option<u64> {
        let newest = self.queue.back()?;
        (newest.request == Request::Open && newest.response == Response::Done)
            .then_some(self.answered)
    }

    /// Whether the next response but those of the requests before it is certainly that of the newest request.
    pub(super) fn newest_awaits(&self) -> bool {
        self.queue
            .back()
            .is_some_and(|newest| newest.waits() && !newest.is_ambiguous)
    }

    /// The methods of the requests that wait, oldest first.
    pub(super) fn waiting(&self) -> Vec<Method> {
        let waiting = self.queue.iter().filter(|exchange| exchange.waits());
        waiting.map(|exchange| exchange.method).collect()
    }

    /// The exchange of which the response is being read, if its request is known for certain.
    pub(super) fn answered(&self) -> Option<&D> {
        let oldest = self.queue.front()?;
        let is_certain = oldest.response == Response::Open
            && !matches!(oldest.request, Request::Unseen(_))
            && oldest.pair == Pair::Certain;
        is_certain.then_some(&oldest.draft)
    }

    /// The newest request if it waits for its response and begins at `offset`.
    pub(super) fn awaiting_at(&self, offset: u64) -> Option<&D> {
        let newest = self.queue.back()?;
        (newest.offset == offset && newest.waits()).then_some(&newest.draft)
    }

    /// Whether a request waits for its response.
    pub(super) fn waits(&self) -> bool {
        self.queue.iter().any(Exchange::waits)
    }

    /// Whether a response that begins now, with no response lost before it, is certainly that of an exchange of this kind.
    pub(super) fn answers_next(&self, is_such: impl Fn(&D) -> bool) -> bool {
        self.queue
            .front()
            .is_some_and(|oldest| oldest.waits() && !oldest.is_ambiguous && is_such(&oldest.draft))
    }

    /// Where in the responses that to the newest request may begin.
    pub(super) fn awaited_from(&self) -> u64 {
        self.queue
            .back()
            .map_or(u64::MAX, |exchange| exchange.acked)
    }
}

/// Requests.
impl<D> Pairing<D> {
    /// A request head. False when too many wait already.
    pub(super) fn open_request<X: Exchanges<Draft = D>>(
        &mut self,
        head: &RequestHead<'_>,
        mut origin: Origin<'_>,
        context: RequestContext,
        shared: &mut Http<X>,
    ) -> bool {
        let answered = self.answered..self.answered + MESSAGE_BYTES_MIN;
        let confirms = !context.requests_lost
            && context.responses_lost < MESSAGE_BYTES_MIN
            && answered.contains(&context.acked);
        self.resolve_probable(confirms, shared);
        let waiting = self.waits();
        // Responses were lost, but every request that was read had its own: this one may have been answered by them
        // and read from a later copy.
        let lost = context.responses_gapped && context.responses_lost >= MESSAGE_BYTES_MIN;
        let excess = lost && !waiting && self.answered_whole;
        let is_certain = self.attribution == Attribution::Certain;
        let acked = if excess && !context.requests_lost && is_certain {
            self.attribution = Attribution::Ambiguous;
            context.acked.min(self.answered)
        } else {
            context.acked
        };
        if !context.is_doubtful {
            // What is no request shows nothing of how the client sends.
            self.apply_alternation(context, shared);
        }
        if self.queue.len() >= limits::PIPELINE_DEPTH_MAX {
            return false;
        }
        if context.requests_unanswered {
            self.order = Order::Pipelined;
        }
        // A response that it does not acknowledge was read before it and taken for another's: it is late, and that may
        // be its own.
        let is_late = self.last_orphan > context.acked;
        if context.requests_lost || is_late {
            self.attribution.weaken();
        }
        self.begin(&mut origin, shared);
        let draft = shared.exchanges.request(head, &origin);
        let given_up = is_late || context.is_doubtful || self.attribution == Attribution::GivenUp;
        self.queue.push_back(Exchange {
            draft,
            call_index: origin.call_index,
            method: Method::of(head.method),
            request: Request::Open,
            response: if given_up {
                Response::GivenUp
            } else {
                Response::Awaited
            },
            pair: Pair::Certain,
            is_ambiguous: self.attribution != Attribution::Certain,
            offset: origin.message.number(),
            acked,
        });
        self.unseen = UnpairedReason::Gap;
        true
    }

    /// Ends the doubt about a probable pair: it `holds` or is refuted.
    fn resolve_probable<X: Exchanges<Draft = D>>(&mut self, holds: bool, shared: &mut Http<X>) {
        let Some(exchange) = self
            .queue
            .front_mut()
            .filter(|exchange| exchange.pair == Pair::Probable)
        else {
            return;
        };
        if holds && exchange.response == Response::Done {
            exchange.pair = Pair::Certain;
            self.attribution = Attribution::Certain;
        } else {
            exchange.pair = Pair::Refuted;
            shared.counters.pairs_refuted += 1;
        }
        self.settle(shared);
    }

    /// The third fact: what a new request shows of those before it.
    fn apply_alternation<X: Exchanges<Draft = D>>(
        &mut self,
        context: RequestContext,
        shared: &mut Http<X>,
    ) {
        let waiting = self.queue.iter().find(|exchange| exchange.waits());
        let lost = waiting.is_some_and(|oldest| {
            let before = context.responses_lost.saturating_sub(context.unacked);
            before.min(context.acked.saturating_sub(oldest.acked)) >= MESSAGE_BYTES_MIN
        });
        if lost && context.at_boundary && !self.is_pipelined() {
            self.give_up_waiting(shared);
        } else if waiting.is_some() || !context.at_boundary {
            self.order = Order::Pipelined;
        }
    }

    pub(super) fn request_body<X: Exchanges<Draft = D>>(
        &mut self,
        bytes: &[u8],
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        if let Some(exchange) = self.open_request_mut() {
            shared
                .exchanges
                .body(&mut exchange.draft, Side::Request, bytes, time);
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
                .missing(&mut exchange.draft, Side::Request, missing);
        }
    }

    pub(super) fn request_end<X: Exchanges<Draft = D>>(
        &mut self,
        end: BodyEnd,
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        if let Some(exchange) = self.open_request_mut() {
            exchange.request = Request::Done;
            shared
                .exchanges
                .end(&mut exchange.draft, Side::Request, end, time);
        }
        self.settle(shared);
    }
}

/// Responses.
impl<D> Pairing<D> {
    /// A final response head. Returns the method of its request.
    pub(super) fn open_response<X: Exchanges<Draft = D>>(
        &mut self,
        head: &ResponseHead<'_>,
        mut origin: Origin<'_>,
        context: ResponseContext,
        shared: &mut Http<X>,
    ) -> Method {
        self.resolve_probable(false, shared);
        let offset = origin.message.number();
        match self.owner(offset, context) {
            Owner::Oldest(pair) => {
                let oldest = self.queue.front_mut().filter(|oldest| oldest.waits());
                if let Some(exchange) = oldest {
                    exchange.response = Response::Open;
                    // A client that leaves HTTP waits for the answer.
                    let leaves = head.status == 101 || exchange.method == Method::Connect;
                    exchange.pair = if leaves { Pair::Certain } else { pair };
                    origin.call_index = exchange.call_index;
                    shared
                        .exchanges
                        .response(&mut exchange.draft, head, &origin);
                    return exchange.method;
                }
            }
            Owner::Unseen => self.attribution.weaken(),
            Owner::Unknown => {
                self.attribution.weaken();
                self.give_up_waiting(shared);
            }
            Owner::Unknowable => {
                self.attribution = Attribution::GivenUp;
                shared.counters.pairings_given_up += 1;
                self.give_up_waiting(shared);
            }
        }
        self.begin(&mut origin, shared);
        self.last_orphan = offset + 1;
        shared.counters.orphans += 1;
        let draft = shared.exchanges.orphan_response(head, &origin);
        self.queue.push_front(Exchange {
            draft,
            call_index: origin.call_index,
            method: Method::Unknown,
            request: Request::Unseen(self.unseen),
            response: Response::Open,
            pair: Pair::Certain,
            is_ambiguous: false,
            offset: 0,
            acked: 0,
        });
        Method::Unknown
    }

    /// Which request a response that starts at `offset` answers.
    fn owner(&self, offset: u64, context: ResponseContext) -> Owner {
        let mut waiting = self.queue.iter().filter(|exchange| exchange.waits());
        let Some(oldest) = waiting.next() else {
            return Owner::Unseen;
        };
        // Of what was lost, what can have come after the request.
        let lost_after = context
            .responses_lost
            .min(offset.saturating_sub(oldest.acked));
        let is_next = lost_after < MESSAGE_BYTES_MIN;
        let has_others = waiting.clone().next().is_some();
        if !oldest.is_ambiguous {
            let is_alone = !waiting.any(|exchange| exchange.admits(offset, context.acked));
            return if is_next || (is_alone && !context.requests_lost) {
                Owner::Oldest(Pair::Certain)
            } else if has_others || self.is_pipelined() {
                Owner::Unknowable
            } else {
                Owner::Unknown
            };
        }
        if !oldest.admits(offset, context.acked) {
            return Owner::Unseen;
        }
        if self.is_pipelined() || has_others {
            return Owner::Unknowable;
        }
        let alternates = is_next && !context.requests_lost && self.answered <= oldest.acked;
        if alternates {
            Owner::Oldest(Pair::Probable)
        } else {
            Owner::Unknown
        }
    }

    pub(super) fn response_body<X: Exchanges<Draft = D>>(
        &mut self,
        bytes: &[u8],
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        if let Some(exchange) = self.open_response_mut() {
            shared
                .exchanges
                .body(&mut exchange.draft, Side::Response, bytes, time);
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
                .missing(&mut exchange.draft, Side::Response, missing);
        }
    }

    /// The response being read is over, and with it the first `position` bytes of the responses.
    pub(super) fn response_end<X: Exchanges<Draft = D>>(
        &mut self,
        end: BodyEnd,
        position: u64,
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        self.answered = position;
        self.answered_whole = end == BodyEnd::Complete;
        if let Some(exchange) = self.open_response_mut() {
            exchange.response = Response::Done;
            shared
                .exchanges
                .end(&mut exchange.draft, Side::Response, end, time);
        }
        self.settle(shared);
    }
}

/// Heads of which a mirror or a snap length cut off the end: half calls of their own.
impl<D> Pairing<D> {
    pub(super) fn cut_request<X: Exchanges<Draft = D>>(
        &mut self,
        head: &RequestHead<'_>,
        mut origin: Origin<'_>,
        shared: &mut Http<X>,
    ) {
        self.begin(&mut origin, shared);
        let mut draft = shared.exchanges.request(head, &origin);
        let time = origin.time;
        shared
            .exchanges
            .end(&mut draft, Side::Request, BodyEnd::Cut, time);
        shared.unpaired(draft, UnpairedReason::Truncated);
        self.settle(shared);
    }

    /// The request that it answers, if that is certain, is a half call for the same reason.
    pub(super) fn cut_response<X: Exchanges<Draft = D>>(
        &mut self,
        head: &ResponseHead<'_>,
        mut origin: Origin<'_>,
        context: ResponseContext,
        shared: &mut Http<X>,
    ) {
        self.resolve_probable(false, shared);
        let owner = self.owner(origin.message.number(), context);
        let oldest = self.queue.iter().position(Exchange::waits);
        let ended = |exchange: &Exchange<D>| exchange.request == Request::Done;
        if matches!(owner, Owner::Oldest(_))
            && let Some(place) = oldest
            && self.queue.get(place).is_some_and(ended)
            && let Some(exchange) = self.queue.remove(place)
        {
            shared.unpaired(exchange.draft, UnpairedReason::Truncated);
        }
        self.begin(&mut origin, shared);
        shared.counters.orphans += 1;
        let mut draft = shared.exchanges.orphan_response(head, &origin);
        let time = origin.time;
        shared.exchanges.fields_lost(&mut draft, Side::Response);
        shared
            .exchanges
            .end(&mut draft, Side::Response, BodyEnd::Cut, time);
        shared.unpaired(draft, UnpairedReason::Truncated);
        self.answered_whole = false;
        self.settle(shared);
    }
}

/// Ends.
impl<D> Pairing<D> {
    /// Nothing more will come: open messages are cut, and what still waits is unpaired for this `reason`. `lost`: whole
    /// responses may have been lost since the last one.
    pub(super) fn close<X: Exchanges<Draft = D>>(
        &mut self,
        reason: UnpairedReason,
        lost: bool,
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        self.resolve_probable(!lost, shared);
        self.request_end(BodyEnd::Cut, time, shared);
        self.response_end(BodyEnd::Cut, self.answered, time, shared);
        while let Some(exchange) = self.queue.pop_front() {
            conclude(exchange, reason, &mut self.calls, shared);
        }
        shared.h1.recycle(&mut self.queue);
    }

    /// Leaves the requests that wait to the next reader of the connection.
    pub(super) fn give_up<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) -> Vec<D> {
        let mut waiting = Vec::new();
        while let Some(exchange) = self.queue.pop_front() {
            if exchange.waits() {
                waiting.push(exchange.draft);
            } else {
                conclude(exchange, UnpairedReason::Gap, &mut self.calls, shared);
            }
        }
        shared.h1.recycle(&mut self.queue);
        waiting
    }

    fn begin<X: Exchanges<Draft = D>>(&mut self, origin: &mut Origin<'_>, shared: &mut Http<X>) {
        if self.queue.capacity() == 0 {
            shared.h1.take_queue(&mut self.queue);
        }
        self.calls += 1;
        origin.call_index = self.calls;
        shared.counters.exchanges_opened += 1;
    }

    /// The request being read is the newest one: a request begins after the one before it has ended.
    fn open_request_mut(&mut self) -> Option<&mut Exchange<D>> {
        self.queue
            .back_mut()
            .filter(|exchange| exchange.request == Request::Open)
    }

    /// The response being read belongs to the oldest exchange: those before it are over.
    fn open_response_mut(&mut self) -> Option<&mut Exchange<D>> {
        self.queue
            .front_mut()
            .filter(|exchange| exchange.response == Response::Open)
    }

    fn give_up_waiting<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        for exchange in self.queue.iter_mut().filter(|exchange| exchange.waits()) {
            exchange.response = Response::GivenUp;
        }
        self.settle(shared);
    }

    /// Concludes what is over. Exchanges end at the front; only a request that is still being read while its response
    /// is over (an early answer) or was given up stays at the back for longer, perhaps behind an orphan.
    fn settle<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        while self.queue.front().is_some_and(Exchange::is_over) {
            if let Some(exchange) = self.queue.pop_front() {
                conclude(exchange, UnpairedReason::Gap, &mut self.calls, shared);
            }
        }
        while self.queue.back().is_some_and(Exchange::is_over) {
            if let Some(exchange) = self.queue.pop_back() {
                conclude(exchange, UnpairedReason::Gap, &mut self.calls, shared);
            }
        }
        if self.queue.is_empty() {
            shared.h1.recycle(&mut self.queue);
        }
    }
}

/// Reports how an exchange ended; `reason` holds if its response did not come. `calls` counts the exchanges of the
/// connection.
fn conclude<X: Exchanges>(
    mut exchange: Exchange<X::Draft>,
    reason: UnpairedReason,
    calls: &mut u64,
    shared: &mut Http<X>,
) {
    if exchange.pair == Pair::Refuted {
        *calls += 1;
        shared.counters.exchanges_opened += 1;
        shared.counters.orphans += 1;
        let response = shared.exchanges.split_response(&mut exchange.draft, *calls);
        shared.unpaired(exchange.draft, UnpairedReason::Gap);
        return shared.unpaired(response, UnpairedReason::Gap);
    }
    // The request of an orphan was lost, or before the capture, whatever ended the flow.
    if let Request::Unseen(reason) = exchange.request {
        return shared.unpaired(exchange.draft, reason);
    }
    match exchange.response {
        Response::Done => shared.finish(exchange.draft),
        Response::GivenUp => shared.unpaired(exchange.draft, UnpairedReason::Gap),
        Response::Awaited | Response::Open => shared.unpaired(exchange.draft, reason),
    }
}
