//! The messages of a remote procedure call, as the text of a body.
//!
//! The text is a JSON array with one element a message (`docs/grpc.md`). A message is held until it is over, or as long as the
//! text limit of its body allows: what it declares as its length is never allocated, and what it decompresses to is bounded as the
//! body is. Past the limit messages are only counted.

use prost_reflect::MessageDescriptor;

use super::content::{Codings, Decoders};
use super::json;
use super::protobuf::JsonWriter;
use super::rpc::{Base64, Element, Framing, Media};
use crate::ndjson;

/// Messages of one body.
#[derive(Debug)]
pub(super) struct Messages {
    media: Media,
    /// The coding of those that are compressed.
    codings: Codings,
    /// Bytes of protobuf stay as they are.
    is_raw: bool,
    /// What they are, if that is known.
    schema: Option<MessageDescriptor>,
    pub(super) base64: Base64,
    /// The message that is not over, as far as it is needed.
    pub(super) buffer: Vec<u8>,
    /// Its length so far, as it was sent.
    pub(super) length: u64,
    /// Lengths of whole messages, without compression as far as it was undone.
    pub(super) bytes: u64,
    /// Bytes of those that are not in the text.
    pub(super) bytes_left_out: u64,
    /// The frame with the trailers was read.
    pub(super) has_trailers: bool,
}

/// What one shard needs to read messages.
#[derive(Debug, Default)]
pub(super) struct Tools {
    json: JsonWriter,
    /// A message without its compression.
    content: Vec<u8>,
    /// Bytes without base64.
    pub(super) decoded: Vec<u8>,
}

impl Tools {
    /// Frees the memory that one long message took.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.json.shrink_to(bytes);
        for buffer in [&mut self.content, &mut self.decoded] {
            buffer.clear();
            buffer.shrink_to(bytes);
        }
    }
}

/// One message, with what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) is_compressed: bool,
    /// Only its beginning is there.
    pub(super) is_cut: bool,
}

/// A message whose compression cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

impl Messages {
    pub(super) fn new(
        media: Media,
        codings: Codings,
        is_raw: bool,
        schema: Option<MessageDescriptor>,
    ) -> Self {
        Self {
            media,
            codings,
            is_raw: is_raw && media.element == Element::Protobuf,
            schema,
            base64: Base64::default(),
            buffer: Vec::new(),
            length: 0,
            bytes: 0,
            bytes_left_out: 0,
            has_trailers: false,
        }
    }

    /// The same in the memory of others, with their buffer.
    pub(super) fn in_box(self, kept: Option<Box<Self>>) -> Box<Self> {
        let Some(mut kept) = kept else {
            return Box::new(self);
        };
        let mut buffer = std::mem::take(&mut kept.buffer);
        buffer.clear();
        *kept = Self { buffer, ..self };
        kept
    }

    /// What is known of whole messages; the one that is not over goes on.
    pub(super) fn take_part(&mut self) -> Self {
        Self {
            media: self.media,
            codings: self.codings,
            is_raw: self.is_raw,
            schema: self.schema.clone(),
            base64: Base64::default(),
            buffer: Vec::new(),
            length: 0,
            bytes: std::mem::take(&mut self.bytes),
            bytes_left_out: std::mem::take(&mut self.bytes_left_out),
            has_trailers: self.has_trailers,
        }
    }

    /// Whether what becomes of them is JSON text, which is UTF-8.
    pub(super) fn are_text(&self) -> bool {
        !self.is_raw
    }

    /// What they are by the content type.
    pub(super) fn media(&self) -> Media {
        self.media
    }

    /// Its memory.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.buffer.capacity()
    }

    /// Whether the body is one message, without a prefix.
    pub(super) fn is_whole(&self) -> bool {
        self.media.framing == Framing::Whole
    }

    pub(super) fn is_base64(&self) -> bool {
        self.media.framing == Framing::Base64
    }

    /// Appends a message to the text, up to `bytes_max` bytes of it and what ends it.
    pub(super) fn push(
        &mut self,
        message: Message<'_>,
        bytes_max: usize,
        decoders: &mut Decoders,
        tools: &mut Tools,
        text: &mut Vec<u8>,
    ) -> Result<(), Undecodable> {
        let Tools { json, content, .. } = tools;
        let opened = self.undo(message, bytes_max, decoders, content);
        self.bytes += opened.map_or(self.length, |(bytes, _)| {
            if message.is_compressed {
                bytes.len() as u64
            } else {
                self.length
            }
        });
        if self.is_raw {
            let (bytes, _) = opened?;
            let room = bytes_max.saturating_sub(text.len());
            text.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            return Ok(());
        }
        text.push(if text.is_empty() { b'[' } else { b',' });
        let Ok((bytes, is_cut)) = opened else {
            text.extend_from_slice(b"null");
            return Err(Undecodable);
        };
        match &self.schema {
            Some(schema) if self.media.element == Element::Protobuf => {
                json.write_typed(schema, bytes, is_cut, bytes_max, text);
            }
            _ => element(self.media.element, bytes, is_cut, bytes_max, json, text),
        }
        Ok(())
    }

    /// A message of which bytes are missing.
    pub(super) fn push_torn(&self, text: &mut Vec<u8>) {
        if !self.is_raw {
            text.push(if text.is_empty() { b'[' } else { b',' });
            text.extend_from_slice(b"null");
        }
    }

    /// What a frame that is no message holds.
    pub(super) fn open<'a>(
        &self,
        message: Message<'a>,
        bytes_max: usize,
        decoders: &mut Decoders,
        tools: &'a mut Tools,
    ) -> Option<&'a [u8]> {
        let opened = self.undo(message, bytes_max, decoders, &mut tools.content);
        opened.ok().map(|(bytes, _)| bytes)
    }

    /// The last frame of a stream of Connect, which is JSON.
    pub(super) fn push_last(&self, document: &[u8], bytes_max: usize, text: &mut Vec<u8>) {
        if self.is_raw {
            text.extend_from_slice(document);
        } else {
            text.push(if text.is_empty() { b'[' } else { b',' });
            let json = &mut JsonWriter::default();
            element(Element::Json, document, false, bytes_max, json, text);
        }
    }

    /// Ends the text.
    pub(super) fn end(&self, text: &mut Vec<u8>) {
        if !self.is_raw && !text.is_empty() {
            text.push(b']');
        }
    }

    /// The text of a body that is one message.
    pub(super) fn whole(
        &self,
        message: &mut Vec<u8>,
        is_cut: bool,
        bytes_max: usize,
        tools: &mut Tools,
    ) {
        if self.is_raw || message.is_empty() {
            return;
        }
        let Tools { json, content, .. } = tools;
        content.clear();
        match &self.schema {
            Some(schema) => json.write_typed(schema, message, is_cut, bytes_max, content),
            None => element(
                self.media.element,
                message,
                is_cut,
                bytes_max,
                json,
                content,
            ),
        }
        std::mem::swap(message, content);
    }

    /// The bytes of a message, and whether they are only its beginning.
    fn undo<'a>(
        &self,
        message: Message<'a>,
        bytes_max: usize,
        decoders: &mut Decoders,
        content: &'a mut Vec<u8>,
    ) -> Result<(&'a [u8], bool), Undecodable> {
        let Message { bytes, is_cut, .. } = message;
        if !message.is_compressed {
            return Ok((bytes, is_cut));
        }
        if self.codings.is_identity() || self.codings.is_unknown() {
            return Err(Undecodable);
        }
        content.clear();
        content.extend_from_slice(bytes);
        let undone = decoders.undo(&self.codings, content, !is_cut, bytes_max);
        let decoded = undone.ok_or(Undecodable)?;
        if decoded.broken && !is_cut {
            return Err(Undecodable);
        }
        Ok((content, is_cut || decoded.limited || decoded.expanded))
    }
}

fn element(
    kind: Element,
    bytes: &[u8],
    is_cut: bool,
    bytes_max: usize,
    json: &mut JsonWriter,
    text: &mut Vec<u8>,
) {
    match kind {
        Element::Protobuf => json.write(bytes, is_cut, bytes_max, text),
        Element::Json if !is_cut && json::is_json(bytes) => text.extend_from_slice(bytes),
        Element::Json | Element::Other => {
            // A few bytes more show that there is more.
            let room = bytes_max
                .saturating_add(2 * ndjson::GROWTH_MAX)
                .saturating_sub(text.len());
            ndjson::enclose_within(b"\"", (bytes, false), b"\"", room, text);
        }
    }
}
