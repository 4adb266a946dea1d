//! Heads of one connection: from where they start to what they mean for pairing and for the body after them.
//!
//! A head that lies in one slice is read there; another is collected, its start line first, so that what is no start
//! line is given up before its end is looked for. Bounded by [`limits::HEAD_BYTES_MAX`] and by what the shard may hold.

use memchr::memchr;

use super::Connection;
use crate::flow::{Acked, Direction, FlowStart};
use crate::http::detect::{self, Detected};
use crate::http::h1::chunked::Chunked;
use crate::http::h1::direction::{HeadPart, Input, Start, Step, Unanswered};
use crate::http::h1::framing::{Fields, Framing};
use crate::http::h1::head::{self, Fault, Head, StartLine};
use crate::http::h1::pairing::{RequestContext, ResponseContext};
use crate::http::h1::queue::Method;
use crate::http::h1::skim;
use crate::http::hand_over::BodyLeft;
use crate::http::header::emptied;
use crate::http::websocket;
use crate::http::{
    BodyEnd, Exchanges, Header, Http, MessageId, Origin, Protocol, RequestHead, ResponseHead, Side,
    UnpairedReason,
};
use crate::limits;
use crate::time::Timestamp;

/// Up to this length each byte of an unfinished start line is checked, beyond only the whole line.
const START_BYTES_CHECKED: usize = 64;

/// Sequence numbers that a FIN occupies.
const FIN: u64 = 1;

/// Heads that do not lie in one piece.
impl<D> Connection<D> {
    pub(super) fn collect_from(&mut self, direction: Direction, input: &Input<'_>) {
        let reading = &mut self.readings[direction];
        reading.step = Step::Head(HeadPart::StartLine);
        reading.collected.begin(input);
    }

    /// Adds to a head that does not lie in one piece: first its start line, then the rest up to the empty line.
    pub(super) fn collect<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let end = if let Step::Head(HeadPart::Fields(state)) = &mut reading.step {
            head::find_end(input.bytes, state)
        } else {
            memchr(b'\n', input.bytes).map(|end| end + 1)
        };
        let in_fields = reading.is_in_fields();
        let collected = &mut reading.collected;
        let now = input.time;
        let piece = input.take(end.unwrap_or(usize::MAX));
        if !shared.buffers.append(&mut collected.bytes, piece) {
            shared.counters.heads_shed += 1;
            self.leave_head(direction, Unanswered::Message);
            return self.lose(direction, piece.len() as u64, shared);
        }
        shared.counters.bytes_copied += piece.len() as u64;
        let length = collected.bytes.len();
        if length > limits::HEAD_BYTES_MAX {
            shared.counters.heads_oversized += 1;
            self.leave_head(direction, Unanswered::Message);
            if self.client.is_none() {
                self.recognise(direction, Detected::Unknown, shared);
                self.drop_held(direction, shared);
            } else {
                self.lose(direction, 0, shared);
            }
        } else if in_fields && end.is_some() {
            self.read_collected(direction, now, shared);
        } else if !in_fields && (end.is_some() || length <= START_BYTES_CHECKED) {
            self.check_line(direction, shared);
        }
    }

    /// Checks the collected part of a start line.
    fn check_line<X: Exchanges<Draft = D>>(&mut self, direction: Direction, shared: &mut Http<X>) {
        self.skip_blank_lines(direction, shared);
        if matches!(self.readings[direction].step, Step::Start) {
            return;
        }
        let detected = detect::classify(&self.readings[direction].collected.bytes);
        let fits = match (detected, self.side(direction)) {
            (Detected::Partial, _) => return,
            (_, None) => {
                self.recognise(direction, detected, shared);
                self.client.is_some()
            }
            (Detected::Request | Detected::Simple, Some(side)) => side == Side::Request,
            (Detected::Response, Some(side)) => side == Side::Response,
            _ => false,
        };
        if self.is_over() || matches!(self.readings[direction].step, Step::Hold(_)) {
            return;
        }
        if fits {
            return self.readings[direction].read_as_head();
        }
        if self.has_switched_in_collected(direction, shared) {
            return;
        }
        shared.counters.heads_malformed += 1;
        self.leave_head(direction, Unanswered::End);
        self.readings[direction].step = Step::Resync;
        self.find_start_in_line(direction, None, shared);
    }

    /// Leaves out lines of white space before a start line.
    fn skip_blank_lines<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let blank = detect::blank_lines(&reading.collected.bytes);
        if blank == 0 {
            return;
        }
        shared
            .buffers
            .drop_front(&mut reading.collected.bytes, blank);
        reading.collected.offset += blank as u64;
        if reading.collected.bytes.is_empty() {
            shared.buffers.release(&mut reading.collected.bytes);
            reading.step = Step::Start;
        }
    }

    /// A head is not read: one of a request keeps its place, so that its answer does not go to the request behind it. A
    /// malformed line may also be the end of the request before (`unanswered` is [`Unanswered::End`]).
    #[cold]
    pub(super) fn leave_head(&mut self, direction: Direction, unanswered: Unanswered) {
        if self.client == Some(direction) {
            self.readings[direction].miss_message(unanswered);
        }
    }

    /// Reads the collected head, which is complete.
    fn read_collected<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let Some(side) = self.side(direction) else {
            return;
        };
        let reading = &mut self.readings[direction];
        let start = reading.collected.start(now);
        let mut bytes = std::mem::take(&mut reading.collected.bytes);
        reading.step = Step::Start;
        let result = self.read_head(direction, side, &bytes, start, shared);
        let length = bytes.len();
        shared.buffers.release(&mut bytes);
        match result {
            Ok(_) => return,
            Err(Fault::TooMany) => shared.counters.heads_oversized += 1,
            Err(_) => shared.counters.heads_malformed += 1,
        }
        self.leave_head(direction, Unanswered::Message);
        self.readings[direction].step = Step::Resync;
        self.pass_over(direction, length, shared);
    }

    /// The server answers a line without a version: the request is HTTP/0.9, which consists of that line.
    pub(super) fn read_simple_request<X: Exchanges<Draft = D>>(
        &mut self,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let Some(client) = self.client else { return };
        let reading = &mut self.readings[client];
        let in_fields = reading.is_in_fields();
        let collected = &mut reading.collected;
        let one_line =
            || memchr(b'\n', &collected.bytes).is_some_and(|end| end + 1 == collected.bytes.len());
        let simple =
            in_fields && one_line() && detect::classify(&collected.bytes) == Detected::Simple;
        if simple && shared.buffers.append(&mut collected.bytes, b"\n") {
            self.read_collected(client, now, shared);
        }
    }

    /// No more of a head will come, or its answer is there: one that has all its lines except the empty one is read, and
    /// marked. One that ends within a line is cut, and the rest of it is unknown.
    pub(super) fn read_unfinished_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let in_fields = reading.is_in_fields();
        let collected = &mut reading.collected;
        let end = collected.offset + collected.bytes.len() as u64;
        if !in_fields
            || !collected.bytes.ends_with(b"\n")
            || !shared.buffers.append(&mut collected.bytes, b"\n")
        {
            return;
        }
        shared.counters.heads_cut += 1;
        reading.unfinished = true;
        self.read_collected(direction, now, shared);
        let reading = &mut self.readings[direction];
        reading.unfinished = false;
        reading.position = reading.position.min(end);
    }

    /// A server answers a head that is not over: it waited too long for the rest (408), or has seen enough (431).
    fn read_answered_head<X: Exchanges<Draft = D>>(
        &mut self,
        client: Direction,
        acked: Acked,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let reading = &self.readings[client];
        let answered =
            matches!(reading.step, Step::Head(_)) && acked.at_least() > reading.collected.offset;
        if !answered || self.pairing.waits() {
            return;
        }
        self.read_unfinished_head(client, now, shared);
        if matches!(
            self.readings[client].step,
            Step::Length(_) | Step::Chunked(_)
        ) {
            self.readings[client].damaged = true;
            self.end_message(client, now, shared);
        }
        self.end_trial(client, None, false, shared);
        let reading = &mut self.readings[client];
        if matches!(reading.step, Step::Start) {
            // The rest of the head may follow.
            reading.step = Step::Resync;
        }
    }
}

/// Reading of heads.
impl<D> Connection<D> {
    /// Reads a head at the front of `bytes` and acts on it; its length.
    pub(super) fn read_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        side: Side,
        bytes: &[u8],
        start: Start,
        shared: &mut Http<X>,
    ) -> Result<usize, Fault> {
        let mut fields = emptied(std::mem::take(&mut shared.h1.fields));
        let parse = if self.is_shed(direction, side, start, shared) {
            skim::parse
        } else {
            head::parse
        };
        let result = match parse(bytes, side, &mut fields) {
            Ok(head) => {
                self.readings[direction].position = start.offset + head.length as u64;
                self.act_on_head(direction, &head, &fields, start, shared);
                Ok(head.length)
            }
            Err(Fault::Folded { length }) => {
                let mut unfolded = std::mem::take(&mut shared.h1.unfolded);
                head::unfold(bytes.get(..length).unwrap_or(bytes), &mut unfolded);
                let mut fields = Vec::new();
                self.readings[direction].position = start.offset + length as u64;
                let result = head::parse(&unfolded, side, &mut fields).map(|head| {
                    self.act_on_head(direction, &head, &fields, start, shared);
                    length
                });
                shared.h1.unfolded = unfolded;
                result
            }
            Err(fault) => Err(fault),
        };
        shared.h1.fields = emptied(fields);
        result
    }

    /// Whether the head that begins is one of a call that is only counted. Of a response this is not known where losses
    /// make its request ambiguous.
    fn is_shed<X: Exchanges<Draft = D>>(
        &self,
        direction: Direction,
        side: Side,
        start: Start,
        shared: &Http<X>,
    ) -> bool {
        match side {
            Side::Request => {
                let origin = Origin {
                    call_index: self.pairing.next_index(),
                    ..origin(&self.flow, self.client, start)
                };
                shared.exchanges.sheds(&origin)
            }
            Side::Response => {
                let is_shed = |draft: &D| shared.exchanges.is_shed(draft);
                self.readings[direction].lost == 0 && self.pairing.answers_next(is_shed)
            }
        }
    }

    fn act_on_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        head: &Head<'_>,
        fields: &[Header<'_>],
        start: Start,
        shared: &mut Http<X>,
    ) {
        shared.counters.header_lines_odd += head.odd_lines;
        let is_odd = head.is_odd;
        match head.start {
            StartLine::Request(line) => {
                let head = RequestHead::new(line.method, line.target, line.version, fields);
                self.request_head(direction, &head, is_odd, start, shared);
            }
            StartLine::Status { version, status } => {
                let head = ResponseHead::new(status, version, fields);
                self.response_head(direction, &head, is_odd, start, shared);
            }
        }
    }

    fn request_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        head: &RequestHead<'_>,
        is_odd: bool,
        start: Start,
        shared: &mut Http<X>,
    ) {
        shared.counters.requests += 1;
        self.end_alternating_response(direction.reverse(), start.now, shared);
        let context = self.request_context(direction, start, shared);
        let is_open = self.pairing.open_request(
            head,
            origin(&self.flow, self.client, start),
            context,
            shared,
        );
        if !is_open {
            return self.overflow(start.now, shared);
        }
        if !self.pairing.is_pipelined() {
            // What was lost of the responses until now was before this request, except for what it does not acknowledge.
            let from = self.pairing.awaited_from();
            let server = &mut self.readings[direction.reverse()];
            let unacked = server.position.saturating_sub(from);
            server.lost = server.lost.min(unacked);
            server.gapped &= server.lost > 0;
        }
        if context.is_doubtful {
            let reading = &mut self.readings[direction];
            (reading.damaged, reading.doubtful) = (true, true);
        }
        let fields = Fields::read(head.headers, head.version);
        if fields.has_upgrade() {
            self.ask_for_switch(head, start.offset);
        }
        let is_conflict = is_odd || fields.conflict();
        if is_conflict || self.in_trial {
            self.doubt_head(direction, is_conflict, shared);
        }
        if head.method == b"CONNECT" {
            self.end_message(direction, start.now, shared);
            self.readings[direction].step = Step::Hold(0);
        } else if is_conflict {
            self.doubtful_until = self.doubtful_until.max(context.acked + 1);
            if self.pairing.newest_awaits() && !self.in_trial {
                let candidates = fields.candidates(head.headers, Side::Request);
                self.readings[direction].step = Step::Trial(candidates);
            } else {
                self.begin_body(direction, fields.of_request(), start.now, shared);
            }
        } else {
            self.begin_body(direction, fields.of_request(), start.now, shared);
        }
    }

    /// What is known of the bytes before a request, and of the responses until then.
    fn request_context<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        start: Start,
        shared: &mut Http<X>,
    ) -> RequestContext {
        let responses_lost = self.readings[direction.reverse()].may_have_lost_message();
        let unanswered = self.readings[direction].unanswered != Unanswered::Nothing;
        let requests_lost = self.message_found(direction, shared);
        let server = &self.readings[direction.reverse()];
        // A segment that is read late may acknowledge what was not read yet.
        let acked = match start.acked {
            Acked::ABSENT => server.position,
            known => known.at_least().min(server.position),
        };
        RequestContext {
            requests_lost,
            requests_unanswered: unanswered && !responses_lost,
            acked,
            is_doubtful: acked < self.doubtful_until,
            responses_lost: server.lost,
            responses_gapped: server.gapped,
            unacked: server.position - acked,
            at_boundary: server.at_boundary(),
        }
    }

    fn response_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        head: &ResponseHead<'_>,
        is_odd: bool,
        start: Start,
        shared: &mut Http<X>,
    ) {
        if matches!(head.status, 100..=199) && head.status != 101 {
            shared.counters.responses_interim += 1;
            self.readings[direction].step = Step::Start;
            return;
        }
        if head.status == 101 && self.is_upgrade_to_http2(direction, head, start.now, shared) {
            return;
        }
        shared.counters.responses += 1;
        self.read_answered_head(direction.reverse(), start.acked, start.now, shared);
        let context = ResponseContext {
            requests_lost: self.may_have_unread_requests(direction.reverse(), start.acked),
            responses_lost: self.readings[direction].lost,
            acked: start.acked.at_most(),
        };
        self.message_found(direction, shared);
        let method = self.pairing.open_response(
            head,
            origin(&self.flow, self.client, start),
            context,
            shared,
        );
        let fields = Fields::read(head.headers, head.version);
        if head.status == 101 || (method == Method::Connect && matches!(head.status, 200..=299)) {
            if head.status == 101 && websocket::opens_websocket(head.headers) {
                self.open_websocket(head, shared);
            }
            self.end_message(direction, start.now, shared);
            return self.tunnel(head.status == 101, start.now, shared);
        }
        let client = &mut self.readings[direction.reverse()];
        // The response of a known request accounts for a loss at the end of that request, but for no request that was lost.
        if method == Method::Unknown || client.unanswered == Unanswered::End {
            client.unanswered = Unanswered::Nothing;
        }
        if matches!(client.step, Step::UntilClose) {
            // A body of unknown length ends where it is answered.
            self.end_message(direction.reverse(), start.now, shared);
        } else if matches!(client.step, Step::Hold(_)) {
            // The tunnel was refused: the client continues with requests, or did so already.
            let step = if method == Method::Connect {
                Step::Start
            } else {
                Step::Resync
            };
            if !client.collected.bytes.is_empty() {
                self.pairing.pipeline();
            }
            self.read_held(direction.reverse(), step, shared);
        } else if matches!(client.step, Step::Trial(_)) {
            self.end_answered_trial(direction.reverse(), shared);
        }
        let has_body = method != Method::Head && !matches!(head.status, 204 | 304);
        let is_doubtful = has_body && fields.conflict();
        if is_odd || is_doubtful || self.in_trial {
            self.doubt_head(direction, is_odd || is_doubtful, shared);
        }
        if !has_body {
            return self.end_message(direction, start.now, shared);
        }
        let framing = fields.of_response();
        if is_doubtful && method != Method::Unknown && !self.in_trial {
            let candidates = fields.candidates(head.headers, Side::Response);
            self.readings[direction].step = Step::Trial(candidates);
        } else if method == Method::Unknown
            && !matches!(framing, Framing::Length(0) | Framing::Unknown)
        {
            self.readings[direction].step = Step::Orphan(framing);
        } else {
            self.begin_body(direction, framing, start.now, shared);
        }
    }

    /// Whether the server may have had requests behind the last one that was read, when it acknowledged `acked`: they
    /// were lost, or their heads are not complete (the rest of one can be lost without a trace: a single byte at the end
    /// is taken for a FIN), or they were not delivered yet.
    pub(super) fn may_have_unread_requests(&self, client: Direction, acked: Acked) -> bool {
        let reading = &self.readings[client];
        let in_head =
            matches!(reading.step, Step::Head(_)) && acked.at_most() > reading.collected.offset;
        let undelivered = acked.at_least() > reading.position + FIN;
        reading.may_have_lost_message() || in_head || undelivered
    }

    /// A message was found; whether others may have been lost before it.
    fn message_found<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) -> bool {
        let reading = &mut self.readings[direction];
        reading.damaged = reading.unfinished;
        let may_hide_message = reading.may_have_lost_message();
        let lost = std::mem::take(&mut reading.lost);
        reading.gapped = false;
        reading.unanswered = Unanswered::Nothing;
        shared.counters.resynchronised += u64::from(lost > 0);
        may_hide_message
    }

    /// The message that begins is marked: its fields are in conflict, or those of one before it.
    #[cold]
    fn doubt_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        is_conflict: bool,
        shared: &mut Http<X>,
    ) {
        shared.counters.framing_conflicts += u64::from(is_conflict);
        let reading = &mut self.readings[direction];
        (reading.damaged, reading.doubtful) = (true, true);
    }

    /// The rest of both directions is of another protocol: what an upgrade names is not read, and in what a CONNECT opens
    /// any may come.
    fn tunnel<X: Exchanges<Draft = D>>(
        &mut self,
        is_upgrade: bool,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        self.pairing.request_end(BodyEnd::Cut, now, shared);
        self.next = if self.opened.is_some() {
            Some(Protocol::WebSocket)
        } else if is_upgrade {
            Some(Protocol::Tunnel)
        } else {
            if !self.in_tunnel {
                shared.recognised(Protocol::Tunnel, &self.flow, self.client);
            }
            Some(Protocol::Detecting)
        };
    }

    /// What follows is a WebSocket: if its messages are to be read, they are an exchange of their own.
    #[cold]
    fn open_websocket<X: Exchanges<Draft = D>>(
        &mut self,
        head: &ResponseHead<'_>,
        shared: &mut Http<X>,
    ) {
        let opening = websocket::opening_of(head.headers);
        let draft = self
            .pairing
            .answered()
            .and_then(|draft| shared.exchanges.conversation(draft, opening));
        self.opened = draft.map(|draft| Box::new((draft, opening)));
    }

    /// Whether a 101 changes to HTTP/2 (RFC 7540 §3.2): it is no response then, for that comes in HTTP/2.
    #[cold]
    fn is_upgrade_to_http2<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        head: &ResponseHead<'_>,
        now: Timestamp,
        shared: &mut Http<X>,
    ) -> bool {
        let upgrades = |header: &Header<'_>| {
            header.name.eq_ignore_ascii_case(b"upgrade")
                && header.value.trim_ascii().eq_ignore_ascii_case(b"h2c")
        };
        if !head.headers.iter().any(upgrades) {
            return false;
        }
        shared.counters.responses_interim += 1;
        self.end_trial(direction.reverse(), None, false, shared);
        if matches!(self.upgraded_body_left(Protocol::Http2), BodyLeft::Nothing) {
            self.pairing.request_end(BodyEnd::Cut, now, shared);
        }
        self.next = Some(Protocol::Http2);
        true
    }

    /// What of its body the client of an upgrade has not sent yet: it sends the whole request before its preface, and the
    /// server may switch before that (RFC 7540 §3.2).
    #[cold]
    pub(super) fn upgraded_body_left(&self, to: Protocol) -> BodyLeft {
        let client = self.client.filter(|_| to == Protocol::Http2);
        match client.map(|client| &self.readings[client].step) {
            Some(Step::Length(left)) => {
                u32::try_from(*left).map_or(BodyLeft::Nothing, BodyLeft::Length)
            }
            Some(Step::Chunked(chunked)) => BodyLeft::Chunked(Box::new(chunked.clone())),
            // What is there of the size is read again.
            Some(Step::FirstSize) => BodyLeft::Chunked(Box::new(Chunked::new())),
            _ => BodyLeft::Nothing,
        }
    }

    /// More requests wait than any client would send.
    fn overflow<X: Exchanges<Draft = D>>(&mut self, now: Timestamp, shared: &mut Http<X>) {
        self.pairing
            .close(UnpairedReason::Evicted, true, now, shared);
        self.next = Some(Protocol::Overflowed);
    }
}

pub(super) fn origin(flow: &FlowStart, client: Option<Direction>, start: Start) -> Origin<'_> {
    Origin {
        flow,
        client_is_originator: client != Some(Direction::Responder),
        call_index: 0,
        message: MessageId::at(start.offset),
        time: start.time,
    }
}
