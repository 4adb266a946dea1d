//! Ordered bytes in, paired HTTP/1.x exchanges out, body bytes by reference.
//!
//! [`Connection`] reads one flow through [`Consumer`](crate::flow::Consumer) and tells an [`Exchanges`] what it finds;
//! [`Http`] is what all flows of a shard share. The source is RFC 9112. Heads are bounded by
//! [`limits::HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX) and
//! [`limits::HEADERS_MAX`](crate::limits::HEADERS_MAX), waiting exchanges by
//! [`limits::PIPELINE_DEPTH_MAX`](crate::limits::PIPELINE_DEPTH_MAX).
//!
//! Content codings are not undone here. TLS, HTTP/2 and what follows a `101` or a `CONNECT` are recognised, counted and
//! not read.

mod buffers;
mod counters;
mod detect;
mod exchange;
mod h1;
mod header;
mod ports;

use self::buffers::Buffers;
pub use self::counters::Counters;
pub use self::exchange::{BodyEnd, Exchanges, Half, Origin, RequestHead, ResponseHead, Side};
pub use self::h1::Connection;
use self::h1::Scratch;
pub use self::header::{Header, Known};
pub use self::ports::{PortError, PortFlows, PortSet, PortTable, Speech};
use crate::limits::HEADS_BUFFERED_BYTES_MAX;

/// What to read.
#[derive(Clone, Debug)]
pub struct Config {
    /// Server ports wanted; any port by default, HTTP then is detected.
    pub ports: PortSet,
    /// Bytes of memory that unfinished heads and lines of all flows may hold.
    pub heads_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ports: PortSet::default(),
            heads_bytes_max: HEADS_BUFFERED_BYTES_MAX,
        }
    }
}

/// What all flows of a shard share: the receiver of exchanges, counters, recycled buffers.
pub struct Http<X: Exchanges> {
    /// Who writes the exchanges.
    pub exchanges: X,
    /// What was read, and what was not.
    pub counters: Counters,
    /// What each server port speaks.
    pub ports_seen: PortTable,
    config: Config,
    buffers: Buffers,
    h1: Scratch<X::Draft>,
}

impl<X: Exchanges> Http<X> {
    /// Tells `exchanges` what flows speak on the ports of `config`.
    pub fn new(config: Config, exchanges: X) -> Self {
        Self {
            exchanges,
            counters: Counters::default(),
            ports_seen: PortTable::default(),
            buffers: Buffers::new(config.heads_bytes_max),
            config,
            h1: Scratch::default(),
        }
    }

    /// Memory of unfinished heads and lines of all flows of the shard: a gauge, bounded by [`Config::heads_bytes_max`].
    pub fn buffered_bytes(&self) -> usize {
        self.buffers.held()
    }
}
