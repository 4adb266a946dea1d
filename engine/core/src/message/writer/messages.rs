//! Messages of WebSockets: from their pieces to the text of a body.
//!
//! A message is collected, since only a whole one shows whether it is JSON, up to what may leave of a body; its memory is that
//! of open exchanges. What is beyond the body limit is counted and not kept.

use super::super::conversation::{Conversation, Inflaters, Sequence, Undecodable, write_element};
use super::super::draft::{Body, Draft, Mode};
use super::super::facts::Details;
use super::super::keys::Kind;
use super::super::{Output, Unwritten};
use super::LineWriter;
use super::filter::{RuleFilter, set_of};
use crate::http::{MessagePart, Opening, Side};

impl<O: Output> LineWriter<O> {
    /// A draft for the messages behind a handshake.
    #[cold]
    pub(super) fn open_conversation(
        &mut self,
        handshake: &Draft,
        opening: Opening,
    ) -> Option<Result<Box<Draft>, Unwritten>> {
        if handshake.state.findings.is_stopped() {
            return None;
        }
        self.open += 1;
        if self.held >= self.config.open_bytes_max {
            return Some(Err(Unwritten::Memory));
        }
        let mut draft = self.empty_draft();
        draft.copy_details(handshake);
        draft.conversation = Some(Box::new(Conversation::new(opening)));
        let bounds = (self.config.body_bytes_max, draft.state.body_bytes_max);
        if let Some(set) = set_of(&mut self.set, &mut self.retired, draft.state.rule_set) {
            set.open += 1;
            let Draft {
                state,
                request_body,
                response_body,
                ..
            } = &mut *draft;
            let mut filter = RuleFilter {
                set,
                findings: &mut state.findings,
                only_tests: state.sampled_out,
            };
            for (kind, body) in [
                (Kind::RequestBody, request_body),
                (Kind::ResponseBody, response_body),
            ] {
                if filter.start_body(kind, body, &[], Default::default(), false, bounds) {
                    state.changed = state.changed.and(Details::body(kind.side()));
                }
            }
        }
        self.account(&mut draft);
        if draft.state.response_times.is_none() {
            // The answer to the handshake was lost.
            self.doubt_fields(&mut draft, Side::Response);
        }
        let times = draft.state.response_times.or(draft.state.request_times);
        let start = times.map(|times| times.first);
        let mut draft = Ok(draft);
        self.keep(&mut draft, start.unwrap_or_default());
        Some(draft)
    }

    /// Some bytes of a message.
    pub(super) fn add_message(
        &mut self,
        draft: &mut Result<Box<Draft>, Unwritten>,
        side: Side,
        part: &MessagePart<'_>,
    ) {
        self.counters.payload_bytes += part.bytes.len() as u64;
        let Ok(draft) = draft else { return };
        if draft.state.findings.is_stopped() {
            return;
        }
        self.write_due_part(draft, part.time);
        let Some(mut conversation) = draft.conversation.take() else {
            return;
        };
        let sequence = conversation.side(side);
        self.collect(draft.body(side), sequence, part);
        if part.is_last {
            self.end_message_text(draft, side, sequence, part);
        }
        draft.conversation = Some(conversation);
        self.account(draft);
    }

    fn collect(&mut self, body: &mut Body, sequence: &mut Sequence, part: &MessagePart<'_>) {
        if self.held > self.config.open_bytes_max / 4 * 3
            || self.exceeds_share(body.bytes.len() + sequence.open.len() + part.bytes.len())
        {
            self.give_up_messages(body, sequence);
        }
        let is_kept = body.state.mode != Mode::Counted && !body.state.sealed;
        let bytes_max = if is_kept {
            body.state.bytes_seen_max()
        } else {
            0
        };
        let mut copied = 0;
        let Sequence {
            open,
            length,
            inflater,
            is_undecodable,
            ..
        } = sequence;
        let mut keep = |piece: &[u8]| {
            let room = bytes_max.saturating_sub(open.len());
            let kept = piece.get(..room.min(piece.len())).unwrap_or_default();
            open.extend_from_slice(kept);
            copied += kept.len() as u64;
            *length += piece.len() as u64;
        };
        match inflater {
            _ if !part.is_compressed => keep(part.bytes),
            Some(inflater) if !*is_undecodable => {
                let inflaters = &mut self.work.inflaters;
                let most = inflaters.room(part.bytes.len(), part.time);
                let mut made = 0;
                let Inflaters { spare, buffer, .. } = inflaters;
                let work = (spare, &mut **buffer);
                let result = inflater.feed(part.bytes, part.is_last, work, (most, &mut made), keep);
                inflaters.spend(part.bytes.len(), made);
                *is_undecodable = result == Err(Undecodable);
            }
            _ => *is_undecodable = true,
        }
        if *is_undecodable {
            open.clear();
            *length += part.bytes.len() as u64;
        }
        self.counters.copied_bytes += copied;
    }

    /// Memory is short: the messages of this side are only counted from here on.
    #[cold]
    fn give_up_messages(&mut self, body: &mut Body, sequence: &mut Sequence) {
        sequence.inflater = None;
        sequence.open = Vec::new();
        if !body.state.shed {
            self.counters.bodies_shed += 1;
            body.give_up();
        }
    }

    /// A message is over: it becomes the next element of the list.
    fn end_message_text(
        &mut self,
        draft: &mut Draft,
        side: Side,
        sequence: &mut Sequence,
        part: &MessagePart<'_>,
    ) {
        sequence.seen.add(part.time);
        sequence.bytes += sequence.length;
        let body = draft.body(side);
        if sequence.is_undecodable {
            self.counters.websocket_messages_undecodable += 1;
            body.state.has_gap = true;
            draft.state.incomplete = true;
            return sequence.forget_message();
        }
        let is_cut = sequence.open.len() as u64 != sequence.length;
        if body.state.mode == Mode::Counted || body.state.sealed {
            // It has no text that could leave; its length stands for it.
            body.state.len += sequence.length;
            return sequence.forget_message();
        }
        let room = (body.state.bytes_seen_max()).saturating_sub(body.state.taken);
        let mut element = std::mem::take(&mut self.work.spare);
        element.push(if std::mem::replace(&mut sequence.has_text, true) {
            b','
        } else {
            b'['
        });
        // A few bytes more show that there is more.
        let room = room.saturating_add(2 * crate::ndjson::GROWTH_MAX);
        write_element(&sequence.open, part.kind, is_cut, room, &mut element);
        self.add_text(draft, side, &element);
        element.clear();
        self.work.spare = element;
        sequence.forget_message();
    }

    /// Bytes of a message were never captured, or some messages: the one that is not over is left out.
    #[cold]
    pub(super) fn add_missing_message(
        &mut self,
        draft: &mut Result<Box<Draft>, Unwritten>,
        side: Side,
        count: u64,
        is_compressed: bool,
    ) {
        let Ok(draft) = draft else { return };
        let body = draft.body(side);
        body.state.missing = body.state.missing.saturating_add(count);
        body.state.has_gap = true;
        draft.state.incomplete = true;
        if let Some(conversation) = &mut draft.conversation {
            let sequence = conversation.side(side);
            sequence.forget_message();
            if let Some(inflater) = sequence.inflater.as_mut().filter(|_| is_compressed) {
                inflater.lose(&mut self.work.inflaters.spare);
            }
        }
    }

    /// No further message of a side will come.
    pub(super) fn end_messages(&mut self, draft: &mut Draft, side: Side) {
        let Some(conversation) = &mut draft.conversation else {
            return;
        };
        let sequence = conversation.side(side);
        sequence.open = Vec::new();
        sequence.inflater = None;
        if std::mem::take(&mut sequence.has_text) && !draft.body(side).state.sealed {
            self.add_text(draft, side, b"]");
        }
    }
}
