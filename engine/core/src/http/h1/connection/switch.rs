//! A change of the protocol whose answer was lost.
//!
//! A request may ask for another protocol (RFC 9110 §7.8), and the server changes to it with a 101. Where bytes of the server are lost
//! and the 101 may be among them, its next bytes are held ([`held`](super::held)) until the client's show what they are: another
//! request, or what no request begins with and the protocol that was asked for does. Then the 101 was sent, for no client goes on
//! without it.
//!
//! | what follows | is | how it is read |
//! | --- | --- | --- |
//! | the preface of HTTP/2 | the change to h2c | the request is stream 1; the client from its first frame; of the server the next frame is looked for |
//! | a frame of WebSocket | the handshake | a half call (`gap`); messages of the client, if they are read; nothing of the server, for nothing shows where a frame begins |
//!
//! Which extensions a lost 101 has agreed on is not known: compression is possible if the client offers it, and a message that is marked
//! as compressed shows that it was agreed on. The window of the messages before is kept, which is right also where none refers to it.

use super::Connection;
use crate::flow::Direction;
use crate::http::detect::{self, Detected};
use crate::http::h1::asked::Asked;
use crate::http::h1::direction::Step;
use crate::http::{Exchanges, Header, Http, Opening, Protocol, RequestHead, websocket};

impl<D> Connection<D> {
    /// A request has an `Upgrade` field.
    #[cold]
    pub(super) fn ask_for_switch(&mut self, head: &RequestHead<'_>, offset: u64) {
        let has = |token: &[u8], name: &[u8]| has_token(head.headers, name, token);
        let protocol = if head.method == b"CONNECT" || !has(b"upgrade", b"connection") {
            return;
        } else if has(b"websocket", b"upgrade") {
            Protocol::WebSocket
        } else if has(b"h2c", b"upgrade") {
            Protocol::Http2
        } else {
            return;
        };
        let is_compressed = websocket::opening_of(head.headers).is_compressed;
        self.asked = Some(Box::new(Asked {
            offset,
            protocol,
            opening: Opening {
                is_compressed,
                client_has_context: is_compressed,
                server_has_context: is_compressed,
            },
        }));
    }

    /// Bytes of a direction were lost. If the answer to a request for another protocol may be among them, what follows is held.
    #[cold]
    pub(super) fn await_switch<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        if self.client == Some(direction) {
            // The client's first bytes in the other protocol may be lost.
            self.asked = None;
            return self.end_await_of_switch(direction.reverse(), shared);
        }
        let client = &self.readings[direction.reverse()];
        let is_read = !matches!(client.step, Step::Resync) && !self.pairing.is_pipelined();
        if is_read && self.may_have_lost_switch() {
            self.readings[direction].step = Step::Hold(0);
        }
    }

    /// What is held of the server is read as HTTP/1, unless the requests before are held as well.
    #[cold]
    pub(super) fn end_await_of_switch<X: Exchanges<Draft = D>>(
        &mut self,
        server: Direction,
        shared: &mut Http<X>,
    ) {
        let Some(client) = self.client.filter(|client| *client != server) else {
            return;
        };
        if !self.in_trial && !matches!(self.readings[client].step, Step::Trial(_)) {
            self.read_held(server, Step::Resync, shared);
        }
    }

    /// Whether bytes that begin no message of HTTP/1 show that the protocol has changed.
    #[cold]
    pub(super) fn has_switched<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) -> bool {
        if self.client != Some(direction) || self.asked.is_none() {
            return false;
        }
        let asked = self.asked.take().filter(|asked| {
            self.may_have_lost(asked)
                && match asked.protocol {
                    Protocol::Http2 => {
                        detect::classify(bytes) == Detected::Protocol(Protocol::Http2)
                    }
                    _ => websocket::begins_masked_frame(bytes, asked.opening.is_compressed),
                }
        });
        let Some(asked) = asked else {
            self.end_await_of_switch(direction.reverse(), shared);
            return false;
        };
        self.has_lost_switch = true;
        if asked.protocol == Protocol::Http2 {
            self.next = Some(Protocol::Http2);
            return true;
        }
        let request = self.pairing.awaiting_at(asked.offset);
        let draft = request
            .and_then(|draft| shared.exchanges.conversation(draft, asked.opening))
            .map(|draft| Box::new((draft, asked.opening)));
        self.next = Some(if draft.is_some() {
            Protocol::WebSocket
        } else {
            Protocol::Tunnel
        });
        self.opened = draft;
        true
    }

    /// As [`Self::has_switched`], for the bytes that were collected.
    #[cold]
    pub(super) fn has_switched_in_collected<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) -> bool {
        if self.asked.is_none() {
            return false;
        }
        let bytes = std::mem::take(&mut self.readings[direction].collected.bytes);
        let has_switched = self.has_switched(direction, &bytes, shared);
        self.readings[direction].collected.bytes = bytes;
        has_switched
    }

    /// Whether the answer to the request for another protocol may be lost.
    fn may_have_lost_switch(&self) -> bool {
        self.asked
            .as_ref()
            .is_some_and(|asked| self.may_have_lost(asked))
    }

    fn may_have_lost(&self, asked: &Asked) -> bool {
        let server = self.client.map(|client| &self.readings[client.reverse()]);
        self.pairing.awaiting_at(asked.offset).is_some()
            && server.is_some_and(|server| server.gapped && server.may_have_lost_message())
    }
}

/// Whether one of the fields of this name has `token` in its list.
fn has_token(headers: &[Header<'_>], name: &[u8], token: &[u8]) -> bool {
    let fields = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    let mut tokens = fields.flat_map(|header| header.value.split(|byte| *byte == b','));
    tokens.any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}
