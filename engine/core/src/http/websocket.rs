//! WebSocket (RFC 6455) behind its handshake: messages, passed on by reference.
//!
//! A [`Conversation`] is what both directions carry from the handshake on, over a connection of HTTP/1 ([`Connection`]) or a
//! stream of HTTP/2 (RFC 8441). Nothing is collected but the header of a frame; fragments are pieces of one message, and
//! control frames between them are read where they stand. Compression (RFC 7692) is negotiated here and undone by the writer.
//!
//! A frame that breaks the protocol ends the reading of the connection, counted as `websocket_broken`. A hole costs the
//! message that it is in as long as the length of its frame bridges it; behind any other hole the direction is not read, since
//! nothing shows where a frame begins.

mod connection;
mod conversation;
mod extensions;
mod frame;
mod open;
mod reading;

pub(super) use connection::Connection;
pub(super) use extensions::{opening_of, opens_websocket};
pub(super) use frame::begins_masked_frame;
pub(super) use open::Conversation;
