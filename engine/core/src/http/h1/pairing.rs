//! Which response belongs to which request.
//!
//! The plain rule is order: responses come in the order of their requests (RFC 9112 §9.3), so a response belongs to the
//! oldest request that has none. Interim responses never get here.
//!
//! Losses break the count. Three facts carry us over them:
//!
//! 1. *Causality.* The flow layer delivers a response only after the request bytes that it acknowledges were delivered
//!    or declared lost. So if only one request waits and none was lost, a response start belongs to it, whatever was lost
//!    of the responses before.
//! 2. *Acknowledgements.* Whoever sends bytes says with them how much of the other direction it has. So a response never
//!    starts before what its request acknowledged, and never belongs to a request whose start it does not acknowledge.
//!    That tells on which side of a request lost responses were, whenever their loss was declared. A request that was
//!    sent again does not lie: had its first copy been answered, the answer would have acknowledged it and ended the
//!    sending. Captures in which acknowledgements contradict the count (an overlapping copy made by something between
//!    the endpoints, numbers made up) exist all the same: the number of a request is never taken for more than what was
//!    told of the responses when it was read, it is not believed when it acknowledges lost responses that had no request,
//!    and where the count alone decides it is not asked.
//! 3. *Turns.* A client that does not pipeline sends its next request after it has read the whole response. So when a
//!    request acknowledges lost response bytes, the responses of all older requests are among them; and the answer to a
//!    request starts where its acknowledgement ends. This holds until a client is seen to pipeline: it sends a request
//!    while another waits and nothing was lost, or after a lost request to which no response was seen or lost.
//!
//! Facts 1 and 2 prove, turns do not: a client may have pipelined where nothing was captured. So once requests may have
//! been lost (or sent before the capture began), a pair that rests on turns is *probable*. It is told when the next
//! request acknowledges exactly its response, or the connection ends without another; when another response comes first,
//! or bytes are missing in between, the pair is refuted and told as a half (`pairs_refuted`). One pair that holds ends
//! the doubt. What this cannot find out is a client that keeps a fixed number of requests in flight and whose surplus was
//! sent before the capture: nobody who was not there can.
//!
//! A pipelining client that suffers a loss of whole messages leaves no way to count: from there on this connection's
//! requests and responses are told as halves (`pairings_given_up`). A wrong pair would be a lie, a half is not.

use std::collections::VecDeque;

use super::queue::{Exchange, Method, Pair, Progress};
use crate::http::{BodyEnd, Exchanges, Half, Http, Origin, RequestHead, ResponseHead};
use crate::limits::{self, MESSAGE_BYTES_MIN};
use crate::time::Timestamp;

/// What a new response should know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    /// Whole requests may have come after the last one that was read.
    pub(super) requests: bool,
    /// Bytes of responses lost since the last one that was read.
    pub(super) responses: u64,
    /// What the response acknowledges of the requests.
    pub(super) acked: u64,
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
    /// What it acknowledges of them, at most what was told of them.
    pub(super) acked: u64,
    /// Bytes lost since the last response that was read.
    pub(super) lost: u64,
    /// Some of them were never captured; others were seen, and were no response.
    pub(super) gapped: bool,
    /// Bytes told that it does not acknowledge.
    pub(super) lost_after: u64,
    /// None is being read.
    pub(super) at_boundary: bool,
}

/// The exchanges of one connection that are not over, oldest first.
#[derive(Debug)]
pub(super) struct Pairing<D> {
    queue: VecDeque<Exchange<D>>,
    /// Exchanges begun on this connection.
    calls: u64,
    /// What was told of the responses when the last one ended.
    answered: u64,
    /// Its framing said so.
    answered_whole: bool,
    /// Behind where the last response began that was given to no request; 0 when there was none.
    unclaimed: u64,
    /// The client was seen to pipeline.
    pipelines: bool,
    /// Requests that were not seen may be unanswered.
    doubtful: bool,
    /// Pairs cannot be told any more.
    hopeless: bool,
    /// The connection made room before, and no request was seen since.
    evicted: bool,
}

impl<D> Pairing<D> {
    /// `midstream`: requests may have been sent before the first byte that was seen. `evicted`: they were, and made room.
    pub(super) fn new(midstream: bool, evicted: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            calls: 0,
            answered: 0,
            answered_whole: true,
            unclaimed: 0,
            pipelines: false,
            doubtful: midstream,
            hopeless: false,
            evicted,
        }
    }

    /// Whether the client was seen to pipeline.
    pub(super) fn pipelines(&self) -> bool {
        self.pipelines
    }

    /// Whether a request waits for its response.
    pub(super) fn waits(&self) -> bool {
        self.queue.iter().any(Exchange::waits)
    }

    /// The number of the exchange that begins next.
    pub(super) fn next_index(&self) -> u64 {
        self.calls + 1
    }

    /// Whether a response that begins now, with no response lost before it, surely is that of an exchange of this kind.
    pub(super) fn answers_next(&self, is_such: impl Fn(&D) -> bool) -> bool {
        self.queue
            .front()
            .is_some_and(|oldest| oldest.waits() && !oldest.doubtful && is_such(&oldest.draft))
    }

    /// Where in the responses that to the newest request may begin.
    pub(super) fn awaited_from(&self) -> u64 {
        self.queue
            .back()
            .map_or(u64::MAX, |exchange| exchange.acked)
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
        let in_turn = !before.lost
            && responses.lost < MESSAGE_BYTES_MIN
            && (self.answered..self.answered + MESSAGE_BYTES_MIN).contains(&responses.acked);
        self.judge(in_turn, shared);
        let waiting = self.waits();
        // Responses were lost, but every request that was read had its own: this one may have been answered by them
        // and read from a later copy.
        let lost = responses.gapped && responses.lost >= MESSAGE_BYTES_MIN;
        let excess = lost && !waiting && self.answered_whole;
        let acked = if excess && !before.lost && !self.doubtful {
            self.doubtful = true;
            responses.acked.min(self.answered)
        } else {
            responses.acked
        };
        self.settle_turn(responses, shared);
        if self.queue.len() >= limits::PIPELINE_DEPTH_MAX {
            return false;
        }
        self.pipelines |= before.unanswered;
        // A response that it does not acknowledge was told before it and taken for another's: it is late, and that may
        // be its own.
        let late = self.unclaimed > responses.acked;
        self.doubtful |= before.lost || late;
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
            offset: origin.offset,
            acked,
            doubtful: self.doubtful,
            pair: Pair::Certain,
            given_up: self.hopeless || late,
            evicted: false,
        });
        self.evicted = false;
        true
    }

    /// Ends the doubt about a probable pair: it `holds` or is refuted.
    fn judge<X: Exchanges<Draft = D>>(&mut self, holds: bool, shared: &mut Http<X>) {
        let Some(exchange) = self
            .queue
            .front_mut()
            .filter(|exchange| exchange.pair == Pair::Probable)
        else {
            return;
        };
        if holds && exchange.response == Progress::Done {
            exchange.pair = Pair::Certain;
            self.doubtful = false;
        } else {
            exchange.pair = Pair::Refuted;
            shared.counters.pairs_refuted += 1;
        }
        self.settle(shared);
    }

    /// The third fact: what a new request says about those before it.
    fn settle_turn<X: Exchanges<Draft = D>>(&mut self, responses: Responses, shared: &mut Http<X>) {
        let waiting = self.queue.iter().find(|exchange| exchange.waits());
        let lost = waiting.is_some_and(|oldest| {
            let before = responses.lost.saturating_sub(responses.lost_after);
            before.min(responses.acked.saturating_sub(oldest.acked)) >= MESSAGE_BYTES_MIN
        });
        if lost && responses.at_boundary && !self.pipelines {
            self.give_up_waiting(shared);
        } else if waiting.is_some() || !responses.at_boundary {
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

    /// A final response head. Says whose it is.
    pub(super) fn open_response<X: Exchanges<Draft = D>>(
        &mut self,
        head: &ResponseHead<'_>,
        mut origin: Origin<'_>,
        lost: Lost,
        shared: &mut Http<X>,
    ) -> Method {
        self.judge(false, shared);
        match self.whose(origin.offset, lost) {
            Whose::Oldest(pair) => {
                let oldest = self.queue.front_mut().filter(|oldest| oldest.waits());
                if let Some(exchange) = oldest {
                    exchange.response = Progress::Open;
                    // Whoever asks to leave HTTP waits for the answer.
                    let leaves = head.status == 101 || exchange.method == Method::Connect;
                    exchange.pair = if leaves { Pair::Certain } else { pair };
                    origin.call_index = exchange.call_index;
                    shared
                        .exchanges
                        .response(&mut exchange.draft, head, &origin);
                    return exchange.method;
                }
            }
            Whose::NotSeen => self.doubtful = true,
            Whose::Unknown => {
                self.doubtful = true;
                self.give_up_waiting(shared);
            }
            Whose::Hopeless => {
                self.hopeless = true;
                shared.counters.pairings_given_up += 1;
                self.give_up_waiting(shared);
            }
        }
        self.begin(&mut origin, shared);
        self.unclaimed = origin.offset + 1;
        shared.counters.orphans += 1;
        let draft = shared.exchanges.orphan_response(head, &origin);
        self.queue.push_front(Exchange {
            draft,
            call_index: origin.call_index,
            method: Method::Unknown,
            request: Progress::Done,
            response: Progress::Open,
            offset: 0,
            acked: 0,
            doubtful: false,
            pair: Pair::Certain,
            given_up: false,
            evicted: self.evicted,
        });
        Method::Unknown
    }

    /// Which request a response that starts at `offset` answers.
    fn whose(&self, offset: u64, lost: Lost) -> Whose {
        let mut waiting = self.queue.iter().filter(|exchange| exchange.waits());
        let Some(oldest) = waiting.next() else {
            return Whose::NotSeen;
        };
        // Of what was lost, what can have come after the request.
        let lost_after = lost.responses.min(offset.saturating_sub(oldest.acked));
        let in_place = lost_after < MESSAGE_BYTES_MIN;
        let others = waiting.clone().next().is_some();
        if !oldest.doubtful {
            let alone = !waiting.any(|exchange| exchange.admits(offset, lost.acked));
            return if in_place || (alone && !lost.requests) {
                Whose::Oldest(Pair::Certain)
            } else if others || self.pipelines {
                Whose::Hopeless
            } else {
                Whose::Unknown
            };
        }
        if !oldest.admits(offset, lost.acked) {
            return Whose::NotSeen;
        }
        if self.pipelines || others {
            return Whose::Hopeless;
        }
        let in_turn = in_place && !lost.requests && self.answered <= oldest.acked;
        if in_turn {
            Whose::Oldest(Pair::Probable)
        } else {
            Whose::Unknown
        }
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

    /// The response being read is over; `told`: so much was told of the responses.
    pub(super) fn response_end<X: Exchanges<Draft = D>>(
        &mut self,
        end: BodyEnd,
        told: u64,
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        (self.answered, self.answered_whole) = (told, end == BodyEnd::Complete);
        if let Some(exchange) = self.open_response_mut() {
            exchange.response = Progress::Done;
            shared
                .exchanges
                .response_end(&mut exchange.draft, end, time);
        }
        self.settle(shared);
    }

    /// Nothing more will come: open messages are cut, and what still waits is half for the reason `why`. `lost`: whole
    /// responses may have been lost since the last one.
    pub(super) fn close<X: Exchanges<Draft = D>>(
        &mut self,
        why: Half,
        lost: bool,
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        self.judge(!lost, shared);
        self.request_end(BodyEnd::Cut, time, shared);
        self.response_end(BodyEnd::Cut, self.answered, time, shared);
        while let Some(exchange) = self.queue.pop_front() {
            conclude(exchange, why, shared);
        }
        shared.h1.recycle(&mut self.queue);
    }

    fn begin<X: Exchanges<Draft = D>>(&mut self, origin: &mut Origin<'_>, shared: &mut Http<X>) {
        if self.queue.capacity() == 0 {
            self.queue = shared.h1.take_queue();
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
            shared.h1.recycle(&mut self.queue);
        }
    }
}

/// Whose a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The oldest request's that waits.
    Oldest(Pair),
    /// That of a request that was not seen.
    NotSeen,
    /// One of those that wait, or none.
    Unknown,
    /// The same, and it will not be known of later ones either.
    Hopeless,
}

/// Tells how an exchange ended; `why` holds if it is half.
fn conclude<X: Exchanges>(mut exchange: Exchange<X::Draft>, why: Half, shared: &mut Http<X>) {
    if exchange.pair == Pair::Refuted {
        shared.exchanges.unpair(&mut exchange.draft);
        return half(exchange.draft, Half::Gap, shared);
    }
    if exchange.method == Method::Unknown {
        // The request of an orphan was before the capture or in a loss, whatever ended the flow; or it was here.
        let why = if exchange.evicted {
            Half::Evicted
        } else {
            Half::Gap
        };
        return half(exchange.draft, why, shared);
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
