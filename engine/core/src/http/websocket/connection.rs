//! The reader of a connection of HTTP/1 that has become a WebSocket.

use super::Conversation;
use crate::flow::{ByteInfo, Direction, FlowEnd};
use crate::http::hand_over::HandOver;
use crate::http::{Exchanges, Http, Side};

/// Reads one WebSocket; `D` is [`Exchanges::Draft`].
#[derive(Debug)]
pub(in crate::http) struct Connection<D> {
    client: Direction,
    /// Nothing once it is over: bytes that follow are counted.
    conversation: Option<Conversation<D>>,
}

impl<D> Connection<D> {
    /// Takes over a connection behind the answer to a handshake, of which the details wait.
    pub(in crate::http) fn new<X: Exchanges<Draft = D>>(
        hand_over: HandOver<D>,
        shared: &mut Http<X>,
    ) -> Self {
        let mut waiting = hand_over.waiting.into_iter();
        let mut conversation = waiting
            .next()
            .map(|draft| Conversation::new(draft, hand_over.opening, shared));
        debug_assert!(waiting.next().is_none(), "one handshake");
        let client = hand_over.client.unwrap_or(Direction::Originator);
        if hand_over.lost[client.reverse()]
            && let Some(conversation) = &mut conversation
        {
            // The answer to the handshake is among what is missing, and where frames begin behind it is not known.
            conversation.lose(Side::Response);
        }
        Self {
            client,
            conversation,
        }
    }

    pub(in crate::http) fn data<X: Exchanges<Draft = D>>(
        &mut self,
        place: ByteInfo,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) {
        let side = self.side(place.direction);
        let Some(conversation) = &mut self.conversation else {
            shared.counters.bytes_tunnelled += bytes.len() as u64;
            return;
        };
        if !conversation.data(side, bytes, place.time, shared) {
            self.conclude(true, shared);
        }
    }

    pub(in crate::http) fn gap<X: Exchanges<Draft = D>>(
        &mut self,
        place: ByteInfo,
        count: u64,
        shared: &mut Http<X>,
    ) {
        let side = self.side(place.direction);
        if let Some(conversation) = &mut self.conversation {
            conversation.missing(side, count, shared);
        }
    }

    pub(in crate::http) fn close<X: Exchanges<Draft = D>>(
        mut self,
        end: FlowEnd,
        shared: &mut Http<X>,
    ) {
        self.conclude(matches!(end, FlowEnd::Fin | FlowEnd::Reset), shared);
    }

    /// Whether further bytes are not needed.
    pub(in crate::http) fn is_over(&self) -> bool {
        self.conversation.is_none()
    }

    fn conclude<X: Exchanges<Draft = D>>(&mut self, was_ended: bool, shared: &mut Http<X>) {
        if let Some(conversation) = self.conversation.take() {
            conversation.conclude(was_ended, shared);
        }
    }

    fn side(&self, direction: Direction) -> Side {
        if direction == self.client {
            Side::Request
        } else {
            Side::Response
        }
    }
}
