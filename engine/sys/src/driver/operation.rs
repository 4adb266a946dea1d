//! An operation, its name and its end.

use std::io;
use std::net::SocketAddr;

use super::buffer::Buffer;
use super::socket::Socket;

/// Names an operation from its start to its completion; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub(super) u64);

/// The end of an operation.
#[derive(Debug)]
pub struct Completion {
    /// Which one.
    pub id: OpId,
    /// Bytes sent or received; 0 for a connect. A cancelled operation ends with ECANCELED if it had not ended before.
    pub result: io::Result<usize>,
    /// The buffer it owned; empty for a connect.
    pub buffer: Buffer,
}

/// What an operation does.
#[derive(Debug)]
pub(super) enum Operation {
    Connect(SocketAddr),
    /// Sends the bytes from this offset on.
    Send(usize),
    Recv,
}

/// An operation and what it owns while it runs.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) socket: Socket,
    pub(super) operation: Operation,
    /// Sent from, received into, or the address to connect to.
    pub(super) buffer: Buffer,
}
