//! The shape of steady traffic.

use crate::traffic::Wire;

/// Number of different bodies, which calls use one after the other.
pub const VARIANTS: usize = 256;

/// The last 32 bits of the first client address, of IPv4 and of IPv6; the lower 22 of them number the clients.
pub(super) const CLIENT_NET: u32 = 0x0a40_0000;

/// How calls are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one call after the other.
    Http1,
    /// The same with the headers and the messages that gRPC has in HTTP/2.
    Http1Grpc,
    /// HTTP/2 with prior knowledge.
    Http2(Http2),
}

/// HTTP/2 on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Calls at once, each on a stream of its own, with their heads and bodies interleaved.
    pub streams: u64,
    /// Fields that are the same in all calls are sent by the table; otherwise all are literals.
    pub table: bool,
    /// Bodies are messages of gRPC, with trailers.
    pub is_grpc: bool,
}

impl Protocol {
    /// Whether bodies are messages of gRPC.
    pub(super) const fn is_grpc(self) -> bool {
        match self {
            Self::Http1 => false,
            Self::Http1Grpc => true,
            Self::Http2(http2) => http2.is_grpc,
        }
    }

    /// Calls that a connection carries at once.
    pub(super) const fn at_once(self) -> u64 {
        match self {
            Self::Http1 | Self::Http1Grpc => 1,
            Self::Http2(http2) => http2.streams,
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = String;

    /// `http1`, `http1-grpc`, or `h2c` or `grpc`, which `-NUMBER` streams at once and `-literal` may follow.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split('-');
        let is_grpc = match words.next() {
            Some("http1") if text == "http1" => return Ok(Self::Http1),
            Some("http1") if text == "http1-grpc" => return Ok(Self::Http1Grpc),
            Some("h2c") => false,
            Some("grpc") => true,
            _ => {
                return Err(format!(
                    "{text}: http1, http1-grpc, h2c, grpc, h2c-10, h2c-100-literal"
                ));
            }
        };
        let mut http2 = Http2 {
            streams: 1,
            table: true,
            is_grpc,
        };
        for word in words {
            match word.parse() {
                Ok(streams @ 1..=100) => http2.streams = streams,
                _ if word == "literal" => http2.table = false,
                _ => return Err(format!("{word}: 1 to 100 streams, or literal")),
            }
        }
        Ok(Self::Http2(http2))
    }
}

/// The shape of steady traffic.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Bytes of a response body.
    pub body_bytes: usize,
    /// Connections open at a time.
    pub connections: usize,
    /// Calls on one connection.
    pub calls_per_connection: u64,
    /// Server port.
    pub port: u16,
    /// IPv6 instead of IPv4; in a tunnel, of the inner packets.
    pub ipv6: bool,
    /// VLAN tags and tunnel.
    pub wire: Wire,
    /// Seed of the contents of calls.
    pub seed: u64,
    /// Packets of the same lengths that carry no call, but what looks like TLS records. They carry no numbers.
    pub opaque: bool,
    /// How calls are sent.
    pub protocol: Protocol,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            body_bytes: 2000,
            connections: 512,
            calls_per_connection: 100,
            port: 80,
            ipv6: false,
            wire: Wire::default(),
            seed: 1,
            opaque: false,
            protocol: Protocol::Http1,
        }
    }
}
