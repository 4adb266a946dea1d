//! Exchanges read from the ordered bytes of flows, their bodies passed on by reference.
//!
//! [`Connection`] reads one flow: it recognises the [`Protocol`] and starts the reader of that. Readers report
//! to an [`Exchanges`]; [`Http`] is what all flows of a shard share. HTTP/1.x, HTTP/2 and WebSocket are read; TLS and what else
//! follows a `101` are recognised and counted. Content codings are not undone here.

mod buffers;
mod connection;
mod counters;
mod detect;
mod exchange;
mod h1;
mod h2;
mod hand_over;
mod header;
mod ports;
mod protocol;
mod quic;
mod unread;
mod websocket;

use self::buffers::Buffers;
pub use self::connection::Connection;
pub use self::counters::Counters;
pub use self::exchange::{
    BodyEnd, Exchanges, MessageId, MessageKind, MessagePart, Opening, Origin, RequestHead,
    ResponseHead, Side, UnpairedReason, Version,
};
use self::h1::Scratch;
pub use self::header::{Header, HeaderName, HeaderNames};
pub use self::ports::{PortCounts, PortError, PortFlows, PortSet, PortTable};
pub use self::protocol::Protocol;
use self::quic::QuicClients;
use crate::decap::Quic;
use crate::flow::{Direction, FlowStart};
use crate::limits::{HEADS_BUFFERED_BYTES_MAX, HTTP2_TABLES_BYTES_MAX};

/// Where QUIC is looked for.
const QUIC_PORT: u16 = 443;

/// Configuration of the HTTP stage.
#[derive(Clone, Debug)]
pub struct Config {
    /// Server ports that are wanted; any port by default.
    pub ports: PortSet,
    /// Bytes of memory that unfinished heads and lines of all flows may hold.
    pub heads_bytes_max: usize,
    /// Bytes of memory that the header tables of all HTTP/2 connections may hold.
    pub tables_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ports: PortSet::default(),
            heads_bytes_max: HEADS_BUFFERED_BYTES_MAX,
            tables_bytes_max: HTTP2_TABLES_BYTES_MAX,
        }
    }
}

/// What all flows of a shard share: the receiver of exchanges, counters, recycled buffers.
pub struct Http<X: Exchanges> {
    /// The writer of exchanges.
    pub exchanges: X,
    /// What was read, and what was not.
    pub counters: Counters,
    /// The protocols of each server port.
    pub ports_seen: PortTable,
    /// Flows with no wanted port, by the server's port.
    pub ports_unwanted: PortCounts,
    config: Config,
    buffers: Buffers,
    h1: Scratch<X::Draft>,
    h2: h2::Shared<X::Draft>,
    quic: QuicClients,
    /// Bytes of WebSocket, with the mask removed.
    unmasked: Vec<u8>,
}

impl<X: Exchanges> Http<X> {
    /// Reads flows as `config` has it, and reports to `exchanges`.
    pub fn new(config: Config, exchanges: X) -> Self {
        Self {
            exchanges,
            counters: Counters::default(),
            ports_seen: PortTable::default(),
            ports_unwanted: PortCounts::default(),
            buffers: Buffers::new(config.heads_bytes_max),
            h2: h2::Shared::new(config.tables_bytes_max),
            config,
            h1: Scratch::default(),
            quic: QuicClients::default(),
            unmasked: Vec::new(),
        }
    }

    /// Counts a datagram of QUIC, which is not read.
    #[cold]
    pub fn quic(&mut self, datagram: &Quic) {
        let protocol = Protocol::Quic;
        *protocol.bytes(&mut self.counters) += u64::from(datagram.bytes);
        if let Some(client) = datagram.opens
            && self.quic.is_new(client)
        {
            self.counters.flows_quic += 1;
            self.ports_seen.record(QUIC_PORT, protocol);
        }
    }

    /// Memory of unfinished heads and lines of all flows of the shard: a gauge, bounded by [`Config::heads_bytes_max`].
    pub fn buffered_bytes(&self) -> usize {
        self.buffers.held()
    }

    /// Memory of the header tables of all HTTP/2 connections: a gauge, bounded by [`Config::tables_bytes_max`].
    pub fn table_bytes(&self) -> usize {
        self.h2.tables_held()
    }

    /// Counts a flow whose protocol is now known.
    fn recognised(&mut self, protocol: Protocol, flow: &FlowStart, client: Option<Direction>) {
        if let Some(flows) = protocol.flows(&mut self.counters) {
            *flows += 1;
        }
        if protocol.column().is_some() {
            self.ports_seen.record(server_port(flow, client), protocol);
        }
        if protocol == Protocol::Unwanted {
            self.ports_unwanted.add(server_port(flow, client), 1);
        }
    }

    /// An exchange ends with both sides.
    fn finish(&mut self, draft: X::Draft) {
        self.counters.exchanges_finished += 1;
        self.exchanges.finish(draft);
    }

    /// An exchange ends with one side.
    fn unpaired(&mut self, draft: X::Draft, reason: UnpairedReason) {
        *self.counters.unpaired_mut(reason) += 1;
        self.exchanges.unpaired(draft, reason);
    }
}

/// The port that a table of ports should name: the responder's, or the lower one if the originator is not known.
fn server_port(flow: &FlowStart, client: Option<Direction>) -> u16 {
    match client {
        Some(Direction::Responder) => flow.originator.port,
        None if flow.midstream => flow.originator.port.min(flow.responder.port),
        _ => flow.responder.port,
    }
}
