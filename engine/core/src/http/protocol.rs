//! What a flow was recognised as: one value per flow, and one table of what each value means.
//!
//! A protocol that is recognised and not read is a row here, a counter, and a case in [`detect`](super::detect). One that
//! is read also has a reader, which [`Connection`](super::Connection) starts.

use crate::http::counters::Counters;

/// What a flow was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing yet: its first message is looked for.
    Detecting,
    /// HTTP/1.x.
    Http1,
    /// HTTP/2 without TLS, by its connection preface (RFC 9113 §3.4).
    Http2,
    /// TLS or SSL.
    Tls,
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
    is_read: bool,
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
        is_read: true,
        flows,
        bytes: IGNORED,
    }
}

const fn unread(
    label: &'static str,
    unit: &'static str,
    column: Option<&'static str>,
    flows: Counter,
    bytes: Counter,
) -> Row {
    Row {
        label,
        unit,
        column,
        is_read: false,
        flows: Some(flows),
        bytes,
    }
}

impl Protocol {
    /// The columns of the table of ports: what a flow can be when its first bytes are recognised.
    pub const COLUMNS: [Self; 4] = [Self::Http1, Self::Tls, Self::Http2, Self::Other];

    #[rustfmt::skip]
    const fn row(self) -> Row {
        match self {
            Self::Detecting => read("unknown", "unknown connection", None, None),
            Self::Http1 => read("HTTP", "HTTP connection", Some("http"), Some(|c| &mut c.flows_http)),
            Self::Http2 => unread("HTTP/2", "HTTP/2 connection", Some("http2"), |c| &mut c.flows_http2, IGNORED),
            Self::Tls => unread("TLS", "TLS handshake", Some("tls"), |c| &mut c.flows_tls, IGNORED),
            Self::Tunnel => unread("tunnel", "tunnel", None, |c| &mut c.flows_tunnelled, TUNNELLED),
            Self::Other => unread("other", "other connection", Some("other"), |c| &mut c.flows_other, IGNORED),
            Self::Unwanted => unread("unwanted", "unwanted connection", None, |c| &mut c.flows_unwanted, IGNORED),
            Self::Overflowed => unread("overflowed", "overflowed connection", None, |c| &mut c.flows_overflowed, IGNORED),
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
        self.row().is_read
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
        let unread = [
            Protocol::Http2,
            Protocol::Tls,
            Protocol::Tunnel,
            Protocol::Other,
            Protocol::Unwanted,
            Protocol::Overflowed,
        ];
        for protocol in unread {
            assert!(!protocol.is_read());
            let flows = protocol.flows(&mut counters).unwrap();
            assert_eq!(*flows, 0, "{}", protocol.label());
            *flows += 1;
            assert_eq!(protocol.count(&counters), 1);
        }
        assert_eq!(counters.values().sum::<u64>(), unread.len() as u64);
    }

    #[test]
    fn columns_have_names() {
        let names = Protocol::COLUMNS.map(Protocol::column);
        assert_eq!(
            names,
            [Some("http"), Some("tls"), Some("http2"), Some("other")]
        );
    }
}
