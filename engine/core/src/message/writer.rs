//! The line writer: events of the HTTP parser become finished lines.
//!
//! Details go through the rules and are escaped as they are read, into buffers of their exchange whose order is that of
//! the line (`docs/contract.md`, section 1.1). A body without a coding and without a rule of its own is escaped directly
//! from the bytes of the capture; others are collected, up to the body limit, and decoded at their end. Of a call that is
//! certain to be dropped nothing more is written; rules are still applied to it.
//!
//! Memory: what open exchanges hold is summed and bounded (`OPEN_BYTES_MAX`), buffers of finished ones are reused up to
//! `POOL_BYTES_MAX`. One rule set applies to the whole of an exchange: the one that was in force at its start.

mod body;
mod coded;
mod facts;
mod filter;
mod heads;
mod lines;
mod messages;
mod parts;
mod rpc;
mod upload;

use std::sync::Arc;

use super::content::{Decoders, Space};
use super::conversation::Inflaters;
use super::draft::{Connection, Draft, Times};
use super::facts::{Details, Fact};
use super::identity::{ConnectionIds, exchange_id};
use super::kept::Kept;
use super::keys::Kind;
use super::messages::Tools;
use super::{
    Config, Counters, Measures, Notes, Output, RpcCounts, ShedPolicy, Unwritten, annotate,
};
use crate::http::{
    BodyEnd, Exchanges, Header, HeaderName, HeaderNames, MessagePart, Opening, Origin, RequestHead,
    ResponseHead, Side, UnpairedReason, Version,
};
use crate::limits::{BUFFER_KEPT_BYTES, POOL_BYTES_MAX, RULE_SETS_MAX};
use crate::mix::GOLDEN_GAMMA;
use crate::ndjson;
use crate::rules::{RuleSet, Sampler, Verdict};
use crate::time::Timestamp;
use crate::uploads::{End, SenderTable};
use filter::{ActiveSet, RuleFilter, set_of};

/// Writes exchanges as lines.
pub struct LineWriter<O> {
    config: Config,
    policy: ShedPolicy,
    /// The set for new exchanges.
    set: ActiveSet,
    /// Exchanges that are written in parts.
    kept: Kept,
    /// Earlier sets, as long as an exchange is open under them; oldest first.
    retired: Vec<ActiveSet>,
    sampler: Sampler,
    #[expect(
        clippy::vec_box,
        reason = "the boxes themselves are handed out and taken back"
    )]
    pool: Vec<Box<Draft>>,
    pool_bytes: usize,
    /// Exchanges that have started and not ended.
    open: u64,
    /// Memory of all open exchanges.
    held: usize,
    work: Work,
    /// The last detail of every line, and the end of the line.
    host: Vec<u8>,
    /// Joins the parts for an output that needs the line in one piece.
    line: Vec<u8>,
    ids: ConnectionIds,
    senders: SenderTable,
    counters: Counters,
    rpc: RpcCounts,
    measures: Measures,
    output: O,
}

/// Buffers for the work of one event.
struct Work {
    name: Vec<u8>,
    value: Vec<u8>,
    /// Becomes the buffer of a body that was collected.
    spare: Vec<u8>,
    /// The facts of a call.
    facts: Vec<u8>,
    messages: Tools,
    decoders: Decoders,
    space: Space,
    inflaters: Inflaters,
}

impl<O: Output> LineWriter<O> {
    /// Lines go to `output`.
    pub fn new(config: Config, rules: Arc<RuleSet>, output: O) -> Self {
        let mut host = b"[\"host\",\"".to_vec();
        ndjson::escape(config.host.as_bytes(), &mut host);
        host.extend_from_slice(b"\"]]");
        Self {
            sampler: Sampler::new(config.sample_seed),
            set: ActiveSet::new(0, &rules, config.rules_bytes_max),
            kept: Kept::default(),
            retired: Vec::new(),
            pool: Vec::new(),
            pool_bytes: 0,
            open: 0,
            held: 0,
            work: Work {
                name: Vec::new(),
                value: Vec::new(),
                spare: Vec::new(),
                facts: Vec::new(),
                messages: Tools::default(),
                decoders: Decoders::new(),
                space: Space::default(),
                inflaters: Inflaters::default(),
            },
            host,
            line: Vec::new(),
            ids: ConnectionIds::default(),
            senders: SenderTable::default(),
            counters: Counters::default(),
            rpc: RpcCounts::default(),
            measures: Measures::default(),
            policy: ShedPolicy::default(),
            config,
            output,
        }
    }

    /// Where lines go.
    pub fn output(&mut self) -> &mut O {
        &mut self.output
    }

    /// The outcome of exchanges so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How long calls took so far, and the calls of each network.
    pub fn measures(&self) -> &Measures {
        &self.measures
    }

    /// Messages of remote procedure calls so far.
    pub fn rpc_counts(&self) -> RpcCounts {
        self.rpc
    }

    /// The uploads of other sniffers that were skipped, by sender.
    pub fn upload_senders(&self) -> &SenderTable {
        &self.senders
    }

    /// Exchanges that are open now, including those for which there was no memory.
    pub fn open_calls(&self) -> u64 {
        self.open
    }

    /// How often each rule of the newest set acted, by its number in [`RuleSet::rules`]. Empty before the first did.
    pub fn rule_matches(&self) -> &[u64] {
        self.set.scratch.matches()
    }

    /// Lines of exchanges that are written in parts, without the last line of each.
    pub fn stream_parts(&self) -> u64 {
        self.kept.written
    }

    /// Memory that open exchanges hold, in bytes.
    pub fn open_bytes(&self) -> usize {
        self.held
    }

    /// Memory that the searches of the rules keep, in bytes.
    pub fn rules_bytes(&self) -> usize {
        let sets = std::iter::once(&self.set).chain(&self.retired);
        sets.map(ActiveSet::searches_bytes).sum()
    }

    /// Replaces the rules for exchanges that start from now on; to those that are open the earlier set applies.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        let bytes = self.config.rules_bytes_max;
        let next = ActiveSet::new(self.set.id + 1, &rules, bytes);
        let mut old = std::mem::replace(&mut self.set, next);
        if old.open > 0 {
            old.retire(bytes);
            self.retired.push(old);
        }
        if self.retired.len() > RULE_SETS_MAX {
            self.retired.remove(0);
        }
    }

    /// Sets which parts of new exchanges are given up; those that are open keep the policy of their start.
    pub fn set_shed_policy(&mut self, policy: ShedPolicy) {
        self.policy = policy;
    }

    /// A draft of the pool, or a new one.
    #[inline]
    fn empty_draft(&mut self) -> Box<Draft> {
        let mut draft = self.pool.pop().unwrap_or_default();
        let bytes = std::mem::take(&mut draft.state.held);
        self.pool_bytes = self.pool_bytes.saturating_sub(bytes);
        draft
    }

    /// A draft for a new exchange, unless it is only counted.
    fn open(&mut self, origin: &Origin<'_>) -> Result<Box<Draft>, Unwritten> {
        self.open += 1;
        if self.sheds(origin) {
            return Err(Unwritten::Overload);
        }
        if self.held >= self.config.open_bytes_max {
            return Err(Unwritten::Memory);
        }
        let mut draft = self.empty_draft();
        // The types of messages are found by their method.
        let needs_facts = self.config.annotate || self.config.schemas.is_some();
        draft.facts.set_off(!needs_facts);
        draft.state.connection = Connection::new(origin);
        draft.state.body_bytes_max = self.config.body_bytes_max;
        if shed_rank(origin) < self.policy.truncated {
            draft.state.body_bytes_max = draft.state.body_bytes_max.min(self.policy.body_bytes_max);
        }
        draft.state.rule_set = self.set.id;
        draft.state.sampled_out = self.set.rules.samples_out(&mut self.sampler);
        self.set.open += 1;
        Ok(draft)
    }

    /// The conversation of a handshake for which this writer has none, where another writer has one.
    pub(super) fn conversation_elsewhere(&mut self) -> Result<Box<Draft>, Unwritten> {
        self.open += 1;
        Err(Unwritten::Elsewhere)
    }

    /// Updates the sum of held memory after a change of `draft`.
    #[inline]
    fn account(&mut self, draft: &mut Draft) {
        let now = draft.memory();
        self.held = self
            .held
            .saturating_sub(draft.state.held)
            .saturating_add(now);
        draft.state.held = now;
    }

    fn close(
        &mut self,
        mut draft: Result<Box<Draft>, Unwritten>,
        unpaired: Option<UnpairedReason>,
    ) {
        draft = self.unkept(draft);
        if let Ok(open) = &draft
            && open.upload.is_some()
        {
            self.decide_upload(&mut draft, Some(End::Cut));
        }
        self.open = self.open.saturating_sub(1);
        let is_call = !matches!(draft, Err(Unwritten::Upload | Unwritten::Elsewhere));
        let written = is_call && (unpaired.is_none() || self.config.half_calls);
        if let Some(reason) = unpaired {
            *self.counters.unpaired_mut(reason) += 1;
            self.counters.calls_half += u64::from(written);
            if let Ok(open) = &mut draft {
                self.doubt_half(open, reason);
            }
        }
        if let Ok(open) = &mut draft
            && let Some(conversation) = &open.conversation
        {
            if !conversation.has_messages() && open.state.part == 0 {
                self.counters.websocket_silent += 1;
                if let Ok(open) = draft {
                    self.release(open);
                }
                return;
            }
            self.counters.websocket += 1;
        }
        self.counters.calls_seen += u64::from(written);
        let mut draft = match draft {
            Ok(draft) => draft,
            Err(Unwritten::Upload) => {
                return self.counters.uploads_answered += u64::from(unpaired.is_none());
            }
            Err(Unwritten::Elsewhere) => return self.counters.websocket_silent += 1,
            Err(Unwritten::Kept(_)) => return,
            Err(Unwritten::Memory) => return self.counters.calls_shed += u64::from(written),
            Err(Unwritten::Overload) => {
                return self.counters.calls_shed_overload += u64::from(written);
            }
        };
        // A body that has not ended by now never will.
        if !(draft.request_body.state.over && draft.response_body.state.over) {
            self.end_body(&mut draft, Side::Request, BodyEnd::Cut);
            self.end_body(&mut draft, Side::Response, BodyEnd::Cut);
        }
        self.measure(&draft, unpaired.is_some());
        if written {
            self.conclude(&mut draft, unpaired);
        }
        self.release(draft);
    }

    /// Counts a call that is over by its time and its network. The messages of a WebSocket are no call of their own here.
    #[inline]
    fn measure(&mut self, draft: &Draft, is_half: bool) {
        if draft.conversation.is_some() {
            return;
        }
        let state = &draft.state;
        let nanos = match (state.request_times, state.response_times) {
            (Some(request), Some(response)) if !is_half => {
                Some((response.first.nanos()).saturating_sub(request.first.nanos()))
            }
            _ => None,
        };
        let vni = state.connection.network.vni;
        self.measures.record(vni, state.status, nanos);
    }

    /// Applies the verdict to a call that is over, and writes its line.
    fn conclude(&mut self, draft: &mut Draft, unpaired: Option<UnpairedReason>) {
        let Self {
            set, retired, work, ..
        } = self;
        let Some(set) = set_of(set, retired, draft.state.rule_set) else {
            self.counters.calls_shed += 1;
            return;
        };
        let mut times = std::mem::take(&mut work.spare);
        let mut facts = Vec::new();
        let mut filter = RuleFilter {
            set,
            findings: &mut draft.state.findings,
            only_tests: draft.state.sampled_out,
        };
        let (now, interval) = clock(draft.state.request_times, draft.state.response_times);
        for (kind, millis) in [(Kind::Now, Some(now)), (Kind::Interval, interval)] {
            let Some(millis) = millis else { continue };
            work.value.clear();
            ndjson::decimal(millis, &mut work.value);
            filter.write(kind, b"", &work.value, &mut times);
        }
        let may_have_facts = !draft.facts.is_empty() || draft.response_body.observer.is_some();
        let has_conversation = draft.conversation.is_some();
        if (self.config.annotate && may_have_facts) || has_conversation {
            facts = std::mem::take(&mut self.work.facts);
            self.write_facts(draft, &mut facts);
        }
        let Some(set) = set_of(&mut self.set, &mut self.retired, draft.state.rule_set) else {
            return;
        };
        match set
            .rules
            .verdict(&draft.state.findings, draft.state.sampled_out)
        {
            Verdict::Kept => self.write_line(draft, unpaired, &mut times, &facts),
            // The call is counted with its last part.
            _ if draft.state.is_further_part() => {}
            Verdict::Stopped => self.counters.calls_stopped += 1,
            Verdict::Sampled => self.counters.calls_sampled += 1,
            Verdict::Emptied => {
                self.counters.calls_stopped += 1;
                self.counters.calls_emptied += 1;
            }
        }
        times.clear();
        self.work.spare = times;
        if facts.capacity() > 0 {
            facts.clear();
            self.work.facts = facts;
        }
    }

    /// Passes the line to the output in its parts; `last` holds the details after all others, and annotations are appended
    /// with the facts behind them.
    fn write_line(
        &mut self,
        draft: &Draft,
        unpaired: Option<UnpairedReason>,
        last: &mut Vec<u8>,
        facts: &[u8],
    ) {
        let connection_id = self.ids.connection(&draft.state.connection);
        let notes = notes(draft, exchange_id(connection_id, draft), unpaired);
        if self.config.annotate {
            annotate::write(draft, connection_id, &notes, unpaired, last);
        }
        last.extend_from_slice(facts);
        if draft.request_body.state.left_out + draft.response_body.state.left_out > 0 {
            annotate::left_out(draft, last);
        }
        if draft.conversation.is_some() {
            annotate::websocket(draft, last);
        }
        if draft.state.part > 0 {
            annotate::part(draft, last);
        }
        let parts: [&[u8]; 9] = [
            b"[",
            &draft.start,
            &draft.request_body.bytes,
            &draft.request,
            &draft.response,
            &draft.response_body.bytes,
            &draft.session,
            last,
            &self.host,
        ];
        if draft.state.is_further_part() {
            self.kept.written += 1;
        } else {
            self.counters.lines_written += 1;
        }
        self.counters.line_bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        self.output.parts(&parts, &mut self.line, &notes);
    }

    /// Takes a draft back, and frees the memory of a large one.
    fn release(&mut self, mut draft: Box<Draft>) {
        self.held = self.held.saturating_sub(draft.state.held);
        self.counters.rules_doubts += u64::from(draft.state.findings.doubts);
        self.counters.rules_unseen += u64::from(draft.state.findings.unseen);
        self.counters.bodies_unreadable += u64::from(draft.state.findings.unreadable);
        if let Some(set) = set_of(&mut self.set, &mut self.retired, draft.state.rule_set) {
            set.open = set.open.saturating_sub(1);
            self.counters.keys_forgotten += std::mem::take(&mut set.keys.forgotten);
            self.counters.rules_states_forgotten += set.take_forgotten();
            let passed = std::mem::take(&mut set.keys.passed);
            self.counters.credentials_headers += passed.headers;
            self.counters.credentials_cookies += passed.cookies;
            self.counters.credentials_params += passed.params;
        }
        if !self.retired.is_empty() {
            self.retired.retain(|set| set.open > 0);
        }
        if self.line.len() > BUFFER_KEPT_BYTES
            || self.set.scratch.exceeds(BUFFER_KEPT_BYTES)
            || draft.request_body.state.len + draft.response_body.state.len
                > BUFFER_KEPT_BYTES as u64
        {
            self.line.clear();
            self.line.shrink_to(BUFFER_KEPT_BYTES);
            self.work.spare.shrink_to(BUFFER_KEPT_BYTES);
            self.set.scratch.shrink_to(BUFFER_KEPT_BYTES);
            self.work.decoders.shrink_to(BUFFER_KEPT_BYTES);
            self.work.messages.shrink_to(BUFFER_KEPT_BYTES);
        }
        draft.recycle(BUFFER_KEPT_BYTES);
        let bytes = draft.memory();
        if self.pool_bytes + bytes <= POOL_BYTES_MAX.min(self.config.open_bytes_max / 8) {
            self.pool_bytes += bytes;
            draft.state.held = bytes;
            self.pool.push(draft);
        }
    }
}

/// The rank of a call among [`ShedPolicy::CALLS`]; parts of the lowest are given up. Multiples of the golden ratio are
/// spread evenly, so neighbouring calls of a connection, and of neighbouring connections, share the loss.
fn shed_rank(origin: &Origin<'_>) -> u16 {
    const SHIFT: u32 = u64::BITS - ShedPolicy::CALLS.ilog2();
    let number = origin.flow.number.wrapping_add(origin.call_index);
    (number.wrapping_mul(GOLDEN_GAMMA) >> SHIFT) as u16
}

/// `now` and `interval` in milliseconds (`docs/contract.md`, section 1.2); no interval without both sides.
fn clock(request: Option<Times>, response: Option<Times>) -> (u64, Option<u64>) {
    let first = |times: Times| times.first;
    match (request.map(first), response.map(first)) {
        (Some(request), Some(response)) => {
            let millis = u64::try_from(response.since(request).as_millis()).unwrap_or(u64::MAX);
            (response.millis(), Some(millis.max(1)))
        }
        (request, response) => (response.or(request).unwrap_or_default().millis(), None),
    }
}

fn notes(draft: &Draft, exchange_id: u128, unpaired: Option<UnpairedReason>) -> Notes {
    let (request, response) = (draft.state.request_times, draft.state.response_times);
    let (request_body, response_body) = (&draft.request_body, &draft.response_body);
    let first = request
        .or(response)
        .map_or(Timestamp::ZERO, |times| times.first);
    let last = response
        .or(request)
        .map_or(Timestamp::ZERO, |times| times.last);
    let answered = response.map_or(first, |times| times.first);
    Notes {
        exchange_id,
        started_nanos: first.nanos(),
        ended_nanos: last.nanos(),
        took_nanos: answered.nanos().saturating_sub(first.nanos()),
        request_body_bytes: request_body.state.len,
        response_body_bytes: response_body.state.len,
        missing_bytes: request_body
            .state
            .missing
            .saturating_add(response_body.state.missing),
        vni: draft.state.connection.network.vni,
        status: draft.state.status,
        unpaired: unpaired.is_some(),
        incomplete: draft.state.incomplete,
        truncated: request_body.state.truncated
            || response_body.state.truncated
            || draft.state.fields_left_out > 0,
        shed: request_body.state.shed || response_body.state.shed,
    }
}

impl<O: Output> Exchanges for LineWriter<O> {
    /// Or why the exchange is only counted.
    type Draft = Result<Box<Draft>, Unwritten>;

    fn request(&mut self, head: &RequestHead<'_>, origin: &Origin<'_>) -> Self::Draft {
        let mut draft = self.open(origin)?;
        draft.state.request_times = Some(Times::start(origin));
        let names = HeaderNames::of(head.headers);
        if names.has(HeaderName::UploadMarker)
            && let Some(marker) = HeaderName::UploadMarker.find(head.headers)
        {
            self.may_be_upload(&mut draft, marker, head, origin);
        }
        draft.state.version = Some(head.version);
        if head.version == Version::Http2 {
            draft.state.unknown_fields = head.unknown_fields;
            draft.state.is_pushed = head.is_pushed;
            let protocol = head.protocol.unwrap_or_default();
            if !protocol.is_empty() {
                let facts = &mut draft.facts;
                facts.add(Fact::ConnectProtocol, Details::NONE, protocol);
            }
        }
        self.write_request(&mut draft, head, names, origin);
        self.account(&mut draft);
        Ok(draft)
    }

    fn orphan_response(&mut self, head: &ResponseHead<'_>, origin: &Origin<'_>) -> Self::Draft {
        let mut draft = self.open(origin);
        self.response(&mut draft, head, origin);
        draft
    }

    fn response(&mut self, draft: &mut Self::Draft, head: &ResponseHead<'_>, origin: &Origin<'_>) {
        if let Ok(draft) = draft {
            draft.state.response_times = Some(Times::start(origin));
            draft.state.start_of_request = draft.start.len();
            draft.state.version.get_or_insert(head.version);
            draft.state.unknown_fields += head.unknown_fields;
            self.write_response(draft, head);
            if draft.state.may_be_rpc {
                self.settle_request(draft);
            }
            self.account(draft);
        }
        if self.config.stream_parts.is_some() && draft.as_ref().is_ok_and(|open| open.is_stream()) {
            self.keep(draft, origin.time);
        }
    }

    fn trailers(
        &mut self,
        draft: &mut Self::Draft,
        side: Side,
        headers: &[Header<'_>],
        unknown_fields: u32,
    ) {
        if let Err(Unwritten::Kept(_)) = draft {
            return self.with_kept(draft, |writer, draft| {
                writer.trailers(draft, side, headers, unknown_fields);
            });
        }
        if let Ok(draft) = draft {
            self.write_trailers(draft, side, headers, unknown_fields);
            self.account(draft);
        }
    }

    fn fields_lost(&mut self, draft: &mut Self::Draft, side: Side) {
        if let Err(Unwritten::Kept(_)) = draft {
            return self.with_kept(draft, |writer, draft| writer.fields_lost(draft, side));
        }
        if let Ok(draft) = draft {
            self.doubt_fields(draft, side);
        }
    }

    fn reset(&mut self, draft: &mut Self::Draft, by: Side, code: u32) {
        if let Err(Unwritten::Kept(_)) = draft {
            return self.with_kept(draft, |writer, draft| writer.reset(draft, by, code));
        }
        if let Ok(draft) = draft {
            draft.state.reset = Some((by, code));
        }
    }

    fn body(&mut self, draft: &mut Self::Draft, side: Side, bytes: &[u8], time: Timestamp) {
        if let Err(Unwritten::Kept(_)) = draft {
            return self.with_kept(draft, |writer, draft| writer.body(draft, side, bytes, time));
        }
        self.counters.payload_bytes += bytes.len() as u64;
        if draft.is_ok() {
            self.add_to_body(draft, side, bytes, time);
        }
    }

    fn missing(&mut self, draft: &mut Self::Draft, side: Side, count: u64) {
        if let Err(Unwritten::Kept(_)) = draft {
            return self.with_kept(draft, |writer, draft| writer.missing(draft, side, count));
        }
        self.add_missing(draft, side, count);
    }

    fn end(&mut self, draft: &mut Self::Draft, side: Side, end: BodyEnd, time: Timestamp) {
        if let Err(Unwritten::Kept(_)) = draft {
            return self.with_kept(draft, |writer, draft| writer.end(draft, side, end, time));
        }
        self.end_message(draft, side, end, time);
    }

    fn split_response(&mut self, draft: &mut Self::Draft, call_index: u64) -> Self::Draft {
        // Its pair is not certain: then it is not kept any longer.
        *draft = self.unkept(std::mem::replace(draft, Err(Unwritten::Upload)));
        self.open += 1;
        let draft = match draft {
            Ok(draft) => draft,
            Err(shed) => return Err(*shed),
        };
        let mut other = self.empty_draft();
        draft.split_response(&mut other, call_index);
        if let Some(set) = set_of(&mut self.set, &mut self.retired, other.state.rule_set) {
            set.open += 1;
        }
        self.account(draft);
        self.account(&mut other);
        Ok(other)
    }

    fn conversation(&mut self, draft: &Self::Draft, opening: Opening) -> Option<Self::Draft> {
        let draft = draft.as_ref().ok().filter(|_| self.config.websocket)?;
        self.open_conversation(draft, opening)
    }

    fn message(&mut self, draft: &mut Self::Draft, side: Side, part: &MessagePart<'_>) {
        if let Err(Unwritten::Kept(_)) = draft {
            return self.with_kept(draft, |writer, draft| writer.message(draft, side, part));
        }
        self.add_message(draft, side, part);
    }

    fn message_missing(
        &mut self,
        draft: &mut Self::Draft,
        side: Side,
        count: u64,
        is_compressed: bool,
    ) {
        if let Err(Unwritten::Kept(_)) = draft {
            return self.with_kept(draft, |writer, draft| {
                writer.message_missing(draft, side, count, is_compressed);
            });
        }
        self.add_missing_message(draft, side, count, is_compressed);
    }

    fn closed(&mut self, draft: &mut Self::Draft, by: Side, code: Option<u16>) {
        if let Err(Unwritten::Kept(_)) = draft {
            return self.with_kept(draft, |writer, draft| writer.closed(draft, by, code));
        }
        let conversation = draft
            .as_mut()
            .ok()
            .and_then(|open| open.conversation.as_mut());
        if let Some(conversation) = conversation {
            (conversation.closed_by, conversation.code) = (Some(by), code);
        }
    }

    fn finish(&mut self, draft: Self::Draft) {
        self.close(draft, None);
    }

    fn sheds(&self, origin: &Origin<'_>) -> bool {
        shed_rank(origin) < self.policy.shed
    }

    fn is_shed(&self, draft: &Self::Draft) -> bool {
        !matches!(draft, Ok(_) | Err(Unwritten::Kept(_)))
    }

    fn unpaired(&mut self, draft: Self::Draft, reason: UnpairedReason) {
        self.close(draft, Some(reason));
    }
}
