//! What a flow was recognised as: one value per flow, and one table of what each value means.
//!
//! A protocol that is recognised and not read is a row here, a counter, and a case in [`detect`](super::detect); status,
//! metrics and `sniffer read` take its names from the row. One that is read also has a reader, which
//! [`Connection`](super::Connection) starts.

use crate::http::counters::Counters;

/// What a flow was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing yet: its first message is looked for.
    Detecting,
    /// HTTP/1.x.
    Http1,
    /// HTTP/2 without TLS, by its connection preface (RFC 9113 §3.4) or after an upgrade.
    Http2,
    /// The same without its beginning, by its frames.
    Http2Midstream,
    /// TLS or SSL.
    Tls,
    /// QUIC, which HTTP/3 runs over: not a TCP flow, but a connection all the same.
    Quic,
    /// WebSocket behind its handshake, if it is read.
    WebSocket,
    /// Whatever follows a 101, or a 2xx to CONNECT.
    Tunnel,
    /// Nothing that is known here.
    Other,
    /// Unknown, since neither port is wanted.
    Unwanted,
    /// HTTP/1.x with so many requests without a response that it is no longer read.
    Overflowed,
}

type Counter = fn(&mut Counters) -> &mut u64;

/// What a [`Protocol`] means.
struct Row {
    label: &'static str,
    unit: &'static str,
    column: Option<&'static str>,
    unread_as: Option<&'static str>,
    flows: Option<Counter>,
    /// Bytes that are delivered although nothing reads them.
    bytes: Counter,
}

const IGNORED: Counter = |counters| &mut counters.bytes_ignored;
const TUNNELLED: Counter = |counters| &mut counters.bytes_tunnelled;

const fn read(
    label: &'static str,
    unit: &'static str,
    column: Option<&'static str>,
    flows: Option<Counter>,
) -> Row {
    Row {
        label,
        unit,
        column,
        unread_as: None,
        flows,
        bytes: IGNORED,
    }
}

const fn unread(
    label: &'static str,
    unread_as: &'static str,
    unit: &'static str,
    column: Option<&'static str>,
    flows: Counter,
    bytes: Counter,
) -> Row {
    Row {
        label,
        unit,
        column,
        unread_as: Some(unread_as),
        flows: Some(flows),
        bytes,
    }
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Detecting,
        Self::Http1,
        Self::Http2,
        Self::Http2Midstream,
        Self::Tls,
        Self::Quic,
        Self::WebSocket,
        Self::Tunnel,
        Self::Other,
        Self::Unwanted,
        Self::Overflowed,
    ];

    /// The columns of the table of ports: what a flow can be when its first bytes are recognised.
    pub const COLUMNS: [Self; 6] = [
        Self::Http1,
        Self::Tls,
        Self::Http2,
        Self::Http2Midstream,
        Self::Quic,
        Self::Other,
    ];

    #[rustfmt::skip]
    const fn row(self) -> Row {
        match self {
            Self::Detecting => read("unknown", "unknown connection", None, None),
            Self::Http1 => read("HTTP", "HTTP connection", Some("http"), Some(|c| &mut c.flows_http)),
            Self::Http2 => read("HTTP/2", "HTTP/2 connection", Some("http2"), Some(|c| &mut c.flows_http2)),
            Self::Http2Midstream => read("midstream HTTP/2", "HTTP/2 connection joined late", Some("http2_midstream"), Some(|c| &mut c.flows_http2_midstream)),
            Self::Tls => unread("TLS", "tls", "TLS handshake", Some("tls"), |c| &mut c.flows_tls, IGNORED),
            Self::Quic => unread("QUIC", "quic", "QUIC connection", Some("quic"), |c| &mut c.flows_quic, |c| &mut c.bytes_quic),
            Self::WebSocket => read("WebSocket", "WebSocket connection", None, Some(|c| &mut c.websocket_connections)),
            Self::Tunnel => unread("tunnel", "tunnel", "tunnel", None, |c| &mut c.flows_tunnelled, TUNNELLED),
            Self::Other => unread("other", "other", "other connection", Some("other"), |c| &mut c.flows_other, IGNORED),
            Self::Unwanted => unread("unwanted", "unwanted_port", "unwanted connection", None, |c| &mut c.flows_unwanted, IGNORED),
            Self::Overflowed => unread("overflowed", "overflowed", "overflowed connection", None, |c| &mut c.flows_overflowed, IGNORED),
        }
    }

    /// Its name for people.
    pub const fn label(self) -> &'static str {
        self.row().label
    }

    /// What one flow is, for people, in the singular: `TLS handshake`.
    pub const fn unit(self) -> &'static str {
        self.row().unit
    }

    /// The name of its column in a table of ports, if it has one.
    pub const fn column(self) -> Option<&'static str> {
        self.row().column
    }

    /// Whether exchanges are read from it.
    pub const fn is_read(self) -> bool {
        self.row().unread_as.is_none()
    }

    /// Its value in the label of the metric of unread connections; nothing for one that is read.
    pub const fn unread_as(self) -> Option<&'static str> {
        self.row().unread_as
    }

    /// The name of the counter of its flows; nothing for those that are not recognised.
    pub fn counter(self) -> Option<&'static str> {
        let mut counters = Counters::default();
        *self.flows(&mut counters)? = 1;
        let mut named = Counters::FIELDS.iter().zip(counters.values());
        named.find_map(|(field, flows)| (flows > 0).then_some(field.name))
    }

    /// Flows that were recognised as this.
    pub fn count(self, counters: &Counters) -> u64 {
        let mut counters = *counters;
        self.flows(&mut counters).map_or(0, |flows| *flows)
    }

    /// The counter of its flows; nothing for those that are not recognised.
    pub(super) fn flows(self, counters: &mut Counters) -> Option<&mut u64> {
        self.row().flows.map(|of| of(counters))
    }

    /// Whether its first bytes are kept for its reader while it is not certain.
    pub(super) fn is_kept(self) -> bool {
        self != Self::Other
    }

    /// The counter of tunnels in which it was recognised.
    pub(super) fn tunnels(self, counters: &mut Counters) -> Option<&mut u64> {
        match self {
            Self::Http1 => Some(&mut counters.tunnels_http),
            Self::Http2 | Self::Http2Midstream => Some(&mut counters.tunnels_http2),
            Self::Tls => Some(&mut counters.tunnels_tls),
            Self::Other | Self::Tunnel | Self::Quic => Some(&mut counters.tunnels_other),
            Self::Overflowed => Some(&mut counters.flows_overflowed),
            Self::WebSocket => Some(&mut counters.websocket_connections),
            Self::Detecting | Self::Unwanted => None,
        }
    }

    /// The counter of its bytes that nothing reads.
    pub(super) fn bytes(self, counters: &mut Counters) -> &mut u64 {
        (self.row().bytes)(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_has_a_counter_of_its_own() {
        let mut counters = Counters::default();
        let unread = Protocol::ALL.into_iter().filter(|known| !known.is_read());
        for protocol in unread.clone() {
            let flows = protocol.flows(&mut counters).unwrap();
            assert_eq!(*flows, 0, "{}", protocol.label());
            *flows += 1;
            assert_eq!(protocol.count(&counters), 1);
        }
        assert_eq!(counters.values().sum::<u64>(), unread.count() as u64);
    }

    #[test]
    fn every_counter_of_flows_belongs_to_one_protocol() {
        // An upgrade is counted beside the protocol of its beginning.
        let counters = Counters::FIELDS.iter().map(|field| field.name);
        let counters = counters.filter(|name| *name != "flows_http2_upgraded");
        for counter in counters.filter(|name| name.starts_with("flows_")) {
            let counted = Protocol::ALL.into_iter().map(Protocol::counter);
            let counted = counted.filter(|known| *known == Some(counter));
            assert_eq!(counted.count(), 1, "{counter}");
        }
    }

    #[test]
    fn columns_have_names() {
        let names = Protocol::COLUMNS.map(Protocol::column);
        let distinct: std::collections::BTreeSet<_> = names.iter().flatten().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
