//! HTTP/1.x, RFC 9112: the reader of a connection, and the parts of messages that it is made of.

mod asked;
mod chunked;
mod connection;
mod direction;
mod framing;
mod head;
mod lines;
mod pairing;
mod queue;
mod scratch;
mod skim;
pub(super) mod start_line;
#[cfg(test)]
mod tests;
mod walk;

pub(super) use self::chunked::{Chunked, Piece};
pub(super) use self::connection::Connection;
pub(super) use self::scratch::Scratch;
