//! The rest of a connection that nothing reads: its bytes are counted.
//!
//! It receives few of them: once the flow table has seen that they are ignored
//! ([`Consumer::ignores`](crate::flow::Consumer::ignores)), it delivers no more.

use crate::flow::FlowEnd;
use crate::http::hand_over::HandOver;
use crate::http::{Exchanges, Http, Protocol};

/// Counts the bytes of a connection; `D` is [`Exchanges::Draft`].
#[derive(Debug)]
pub(super) struct Unread<D> {
    protocol: Protocol,
    /// Requests of the protocol before, which nothing here can answer.
    waiting: Vec<D>,
}

impl<D> Unread<D> {
    pub(super) fn new(hand_over: HandOver<D>) -> Self {
        Self {
            protocol: if hand_over.in_tunnel {
                Protocol::Tunnel
            } else {
                hand_over.to
            },
            waiting: hand_over.waiting,
        }
    }

    pub(super) fn data<X: Exchanges<Draft = D>>(&self, bytes: &[u8], shared: &mut Http<X>) {
        *self.protocol.bytes(&mut shared.counters) += bytes.len() as u64;
    }

    pub(super) fn close<X: Exchanges<Draft = D>>(self, end: FlowEnd, shared: &mut Http<X>) {
        for draft in self.waiting {
            shared.unpaired(draft, end.into());
        }
    }
}
