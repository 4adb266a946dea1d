//! Bodies that are messages of remote procedure calls: their text is collected message by message.

use super::super::draft::{Body, Draft, Mode};
use super::super::messages::{Message, Messages, Undecodable};
use super::super::observer::Kind;
use super::super::rpc::System;
use super::super::{Output, derive};
use super::LineWriter;
use crate::http::{Header, Side};
use crate::limits::{CODED_OVERHEAD_BYTES, HEAD_BYTES_MAX, HEADERS_MAX};
use crate::time::Timestamp;

impl<O: Output> LineWriter<O> {
    /// Bytes of a body with messages, as they come.
    #[cold]
    pub(super) fn add_rpc_messages(
        &mut self,
        draft: &mut Draft,
        side: Side,
        bytes: &[u8],
        time: Timestamp,
    ) {
        let body = draft.body(side);
        let (Some(mut observer), Some(mut messages)) = (body.observer.take(), body.messages.take())
        else {
            return;
        };
        let capacity = body.bytes.capacity() + messages.buffer.capacity();
        let mut decoded = std::mem::take(&mut self.work.messages.decoded);
        let (mut rest, mut has_special) = (bytes, false);
        if messages.is_base64() {
            decoded.clear();
            messages.base64.decode(bytes, &mut decoded);
            rest = &decoded;
        }
        while let Some(piece) = observer.next(time, &mut rest) {
            match piece.kind {
                Kind::Message { is_compressed } => {
                    self.take_message(
                        draft,
                        side,
                        &mut messages,
                        piece.bytes,
                        piece.is_last,
                        is_compressed,
                    );
                }
                Kind::Torn if piece.is_last => self.tear(draft.body(side), &mut messages),
                Kind::Trailers { is_compressed } | Kind::Last { is_compressed } => {
                    let room = HEAD_BYTES_MAX.saturating_sub(messages.buffer.len());
                    let taken = piece.bytes.get(..room).unwrap_or(piece.bytes);
                    messages.buffer.extend_from_slice(taken);
                    has_special = true;
                    if piece.is_last {
                        self.take_special(draft, side, &mut messages, is_compressed, piece.kind);
                    }
                }
                _ => {}
            }
        }
        if messages.base64.is_broken() {
            observer.stop();
        }
        self.work.messages.decoded = decoded;
        let body = draft.body(side);
        let is_same = body.bytes.capacity() + messages.buffer.capacity() == capacity;
        (body.observer, body.messages) = (Some(observer), Some(messages));
        if has_special || !is_same {
            self.account(draft);
        }
    }

    /// The response shows whether the body of a request of which the type is not known has messages.
    #[cold]
    pub(super) fn settle_request(&mut self, draft: &mut Draft) {
        let media = draft
            .response_body
            .messages
            .as_ref()
            .map(|messages| messages.media());
        let body = &mut draft.request_body;
        let is_raw = body.state.mode == Mode::Collected
            && body.state.may_be_coded
            && !body.state.over
            && body.messages.is_none();
        // Behind a hole the beginning of a message cannot be recognised.
        let media = media.filter(|_| is_raw && body.state.missing == 0);
        if let Some(media) = media {
            let content = std::mem::take(&mut body.bytes);
            let lost = body.state.len.saturating_sub(content.len() as u64);
            let is_sealed = std::mem::take(&mut body.state.sealed);
            (body.state.len, body.state.taken) = (0, 0);
            let schema = derive::schema(draft, Side::Request, &self.config);
            let time = draft.state.request_times.map(|times| times.last);
            let body = &mut draft.request_body;
            derive::begin_messages(body, media, &[], &self.config, schema);
            if body.takes_messages() {
                self.add_rpc_messages(draft, Side::Request, &content, time.unwrap_or_default());
                if let Some(observer) = draft.request_body.observer.as_mut().filter(|_| lost > 0) {
                    observer.missing(lost);
                }
            } else {
                body.bytes = content;
            }
            draft.request_body.state.sealed |= is_sealed;
        }
        if let Some(end) = draft.request_body.state.waits {
            self.end_body(draft, Side::Request, end);
        }
    }

    /// Some bytes of a message.
    fn take_message(
        &mut self,
        draft: &mut Draft,
        side: Side,
        messages: &mut Messages,
        bytes: &[u8],
        is_last: bool,
        is_compressed: bool,
    ) {
        let is_stopped = draft.state.findings.is_stopped();
        let body = draft.body(side);
        messages.length += bytes.len() as u64;
        let is_written = body.state.mode == Mode::Collected && !body.state.sealed && !is_stopped;
        if is_written && self.lacks_memory(body, messages, bytes.len()) {
            body.give_up();
            messages.buffer = Vec::new();
            self.counters.bodies_shed += 1;
        }
        let is_written = is_written && !body.state.sealed;
        if is_written {
            // A byte more than the body may have shows that there is more.
            let bytes_max = body.state.bytes_seen_max().saturating_add(1);
            let held_max = if is_compressed {
                bytes_max.saturating_add(CODED_OVERHEAD_BYTES)
            } else {
                bytes_max
            };
            if is_last && messages.buffer.is_empty() && bytes.len() <= held_max {
                let message = Message {
                    bytes,
                    is_compressed,
                    is_cut: false,
                };
                self.write_message(body, messages, message, bytes_max);
            } else {
                let room = held_max.saturating_sub(messages.buffer.len());
                let taken = bytes.get(..room).unwrap_or(bytes);
                self.counters.copied_bytes += taken.len() as u64;
                messages.buffer.extend_from_slice(taken);
                let is_cut = messages.length > messages.buffer.len() as u64;
                // What is cut is past the limit, whatever follows.
                if is_last || is_cut {
                    let buffer = std::mem::take(&mut messages.buffer);
                    let message = Message {
                        bytes: &buffer,
                        is_compressed,
                        is_cut,
                    };
                    self.write_message(body, messages, message, bytes_max);
                    messages.buffer = buffer;
                    messages.buffer.clear();
                    if is_cut {
                        self.seal(body);
                    }
                }
            }
        } else if is_last {
            messages.bytes += messages.length;
            messages.bytes_left_out += messages.length;
        }
        if is_last {
            messages.length = 0;
        }
    }

    /// Whether there is no memory for more of the messages.
    fn lacks_memory(&self, body: &Body, messages: &Messages, more: usize) -> bool {
        let wanted = body.bytes.len() + messages.buffer.len() + more;
        let most = self.config.open_bytes_max / 4 * 3;
        self.exceeds_share(wanted) || self.held.saturating_add(more) > most
    }

    fn write_message(
        &mut self,
        body: &mut Body,
        messages: &mut Messages,
        message: Message<'_>,
        bytes_max: usize,
    ) {
        let (decoders, tools) = (&mut self.work.decoders, &mut self.work.messages);
        let pushed = messages.push(message, bytes_max, decoders, tools, &mut body.bytes);
        self.rpc.undecodable += u64::from(pushed == Err(Undecodable));
        if body.bytes.len() >= bytes_max {
            self.seal(body);
        }
    }

    /// The text has reached its limit.
    fn seal(&mut self, body: &mut Body) {
        if !body.state.sealed {
            self.count_truncation(body);
        }
        (body.state.sealed, body.state.truncated) = (true, true);
    }

    /// Bytes of a message are missing.
    fn tear(&mut self, body: &mut Body, messages: &mut Messages) {
        messages.buffer.clear();
        messages.length = 0;
        self.rpc.undecodable += 1;
        if body.state.mode == Mode::Collected && !body.state.sealed {
            messages.push_torn(&mut body.bytes);
        }
    }

    /// A frame that is no message is over: trailers, or the end of a stream.
    fn take_special(
        &mut self,
        draft: &mut Draft,
        side: Side,
        messages: &mut Messages,
        is_compressed: bool,
        kind: Kind,
    ) {
        let buffer = std::mem::take(&mut messages.buffer);
        let message = Message {
            bytes: &buffer,
            is_compressed,
            is_cut: buffer.len() == HEAD_BYTES_MAX,
        };
        let mut tools = std::mem::take(&mut self.work.messages);
        let opened = messages.open(message, HEAD_BYTES_MAX, &mut self.work.decoders, &mut tools);
        if let Some(bytes) = opened {
            if matches!(kind, Kind::Trailers { .. }) {
                messages.has_trailers = !message.is_cut;
                self.write_trailers(draft, side, &trailers(bytes), 0);
            } else {
                derive::connect_end(draft, side, bytes);
                let is_stopped = draft.state.findings.is_stopped();
                let body = draft.body(side);
                if body.state.mode == Mode::Collected && !body.state.sealed && !is_stopped {
                    let bytes_max = body.state.bytes_seen_max().saturating_add(1);
                    messages.push_last(bytes, bytes_max, &mut body.bytes);
                    if body.bytes.len() >= bytes_max {
                        self.seal(body);
                    }
                }
            }
        } else {
            self.rpc.undecodable += 1;
        }
        self.work.messages = tools;
        messages.buffer = buffer;
        messages.buffer.clear();
    }

    /// The messages of a body that was collected.
    pub(super) fn read_collected_messages(
        &mut self,
        draft: &mut Draft,
        side: Side,
        content: &mut Vec<u8>,
    ) {
        let body = draft.body(side);
        if body.takes_messages() {
            // The text is already there.
            return;
        }
        if body.observer.is_some() {
            return self.read_decoded_messages(draft, side, content);
        }
        let bytes_max = body.state.bytes_seen_max().saturating_add(1);
        let is_cut = body.state.has_gap || body.state.truncated;
        if let Some(messages) = &body.messages {
            messages.whole(content, is_cut, bytes_max, &mut self.work.messages);
        }
    }

    /// The messages of a body whose coding is undone.
    fn read_decoded_messages(&mut self, draft: &mut Draft, side: Side, content: &mut Vec<u8>) {
        // The text takes the place of the content.
        let detail = std::mem::take(&mut draft.body(side).bytes);
        let is_sealed = std::mem::take(&mut draft.body(side).state.sealed);
        self.add_rpc_messages(draft, side, content, Timestamp::ZERO);
        if let Some(observer) = &mut draft.body(side).observer {
            observer.forget_times();
        }
        draft.body(side).state.sealed |= is_sealed;
        self.end_rpc_messages(draft, side);
        *content = std::mem::replace(&mut draft.body(side).bytes, detail);
    }

    /// Completes the text of a body, and derives what is known of its messages.
    pub(super) fn end_rpc_messages(&mut self, draft: &mut Draft, side: Side) {
        let body = draft.body(side);
        let (Some(observer), Some(messages)) = (&body.observer, &body.messages) else {
            return;
        };
        // What a bound cut off is not missing.
        let is_shortened = body.state.truncated && !body.state.codings.is_identity();
        let is_cut = observer.ends_within() && !is_shortened;
        let lacks_trailers = side == Side::Response
            && messages.media().system == System::GrpcWeb
            && !messages.has_trailers
            && (is_cut || observer.is_cut() || body.state.has_gap || body.state.truncated);
        if !body.state.sealed {
            messages.end(&mut body.bytes);
        }
        let text_bytes = body.bytes.len() as u64;
        body.state.len = match body.state.mode {
            Mode::Collected => text_bytes + messages.bytes_left_out,
            Mode::Counted | Mode::Streamed => messages.bytes + 5 * observer.seen.messages,
        };
        body.state.len = body.state.len.saturating_add(body.state.missing);
        body.state.has_gap |= is_cut;
        self.rpc.messages += observer.seen.messages;
        draft.state.incomplete |= is_cut;
        if lacks_trailers {
            self.doubt_fields(draft, side);
        }
        derive::messages(draft, side);
    }
}

/// The lines of a frame with trailers.
fn trailers(text: &[u8]) -> Vec<Header<'_>> {
    let lines = text.split(|byte| *byte == b'\n');
    let headers = lines.filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at_checked(colon)?;
        let (name, value) = (name.trim_ascii(), value.get(1..)?.trim_ascii());
        (!name.is_empty()).then(|| Header::new(name, value))
    });
    headers.take(HEADERS_MAX).collect()
}
