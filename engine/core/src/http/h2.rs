//! HTTP/2, RFC 9113: the reader of a connection, and the parts that it is made of.

mod block;
mod connection;
mod frame;
mod hpack;
mod places;
mod reading;
mod shared;
mod streams;
mod tables;

pub(super) use self::connection::Connection;
pub(super) use self::frame::Chain;
pub(super) use self::shared::Shared;
