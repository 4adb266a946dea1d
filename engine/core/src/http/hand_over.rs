//! What one reader of a connection leaves to the next one.
//!
//! A connection may change its protocol: when its first bytes are recognised, and after a 101 or a CONNECT. Its reader then
//! gives up both directions with the bytes that it has collected and not read, and [`Connection`](super::Connection) starts
//! the next reader with them. What is left of the bytes at hand follows, so that the next reader gets each direction from
//! the first byte that the one before did not read.

use crate::flow::{ByteInfo, Direction, FlowStart, PerDirection};
use crate::http::Opening;
use crate::http::h1::Chunked;
use crate::http::protocol::Protocol;

/// A connection between two readers; `D` is [`Exchanges::Draft`](crate::http::Exchanges::Draft).
#[derive(Debug)]
pub(super) struct HandOver<D> {
    pub(super) flow: FlowStart,
    /// What follows.
    pub(super) to: Protocol,
    /// Who sends the requests, once that is known.
    pub(super) client: Option<Direction>,
    /// What follows is what a CONNECT opened.
    pub(super) in_tunnel: bool,
    /// Exchanges begun so far.
    pub(super) calls: u64,
    /// Requests that wait for a response, oldest first.
    pub(super) waiting: Vec<D>,
    /// What a handshake of WebSocket has agreed on.
    pub(super) opening: Opening,
    /// What is to come of the body of the last of them.
    pub(super) body_left: BodyLeft,
    /// Where nothing was recognised before: bytes of the direction were never captured.
    pub(super) lost: PerDirection<bool>,
    /// What was collected and not read, at most once for each direction.
    pub(super) remainders: [Option<Remainder>; 2],
}

/// What is to come of a body in HTTP/1 before its connection goes on in another protocol.
#[derive(Debug)]
pub(super) enum BodyLeft {
    Nothing,
    /// So many bytes.
    Length(u32),
    Chunked(Box<Chunked>),
}

/// Bytes of one direction, with the place of the first of them.
#[derive(Debug)]
pub(super) struct Remainder {
    pub(super) place: ByteInfo,
    pub(super) bytes: Vec<u8>,
}

impl<D> HandOver<D> {
    /// A flow that begins; `to` is what is known of it before its first byte.
    pub(super) fn of_new_flow(flow: &FlowStart, to: Protocol) -> Self {
        Self {
            flow: *flow,
            to,
            client: None,
            in_tunnel: false,
            calls: 0,
            waiting: Vec::new(),
            opening: Opening::default(),
            body_left: BodyLeft::Nothing,
            lost: PerDirection::default(),
            remainders: [None, None],
        }
    }
}
