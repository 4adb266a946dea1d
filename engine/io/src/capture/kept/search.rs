//! The search for packets that are wanted among those that are kept: decapsulation as the capture does it, so that a connection is
//! found by its inner addresses, whatever tunnels are around it.

use std::net::{IpAddr, SocketAddr};

use engine_core::decap::{self, Decap, Endpoint, Frame, LinkType, Segment};
use engine_core::http::PortSet;
use engine_core::pipeline;
use engine_core::time::Timestamp;

use super::record::{Chunk, HEADER_BYTES, Header};
use crate::control::{WantedConnection, WantedPackets};
use crate::limits::PACKETS_FILE_BYTES_MAX;

/// Bytes of a packet in the file beside those of its frame: the block around it, a tag, padding.
const BLOCK_BYTES_MAX: usize = 32 + 4 + 3;

/// What of the packets may be in a file.
pub(super) struct Search {
    decap: decap::Config,
    ports: PortSet,
}

/// The records that are wanted.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By time.
    pub(super) records: Vec<Place>,
    /// Older ones that have no place in the file.
    pub(super) left_out: usize,
    /// The time of the oldest packet that is kept.
    pub(super) kept_from: Option<Timestamp>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    time: Timestamp,
    /// The number of its chunk.
    pub(super) chunk: usize,
    /// Its beginning there.
    pub(super) at: usize,
    bytes: usize,
}

impl Search {
    pub(super) fn new(config: &pipeline::Config) -> Self {
        Self {
            decap: config.decap.clone(),
            ports: config.http.ports.clone(),
        }
    }

    /// The newest records that are wanted and have a place in one file. Of a packet in fragments it is the one that completes it.
    pub(super) fn find(&self, chunks: &[Chunk], wanted: &WantedPackets) -> Found {
        let mut decap = Decap::new(self.decap.clone());
        let ends = wanted.connection.map(Ends::of);
        let mut found = Found::default();
        for (number, chunk) in chunks.iter().enumerate() {
            let mut at = 0;
            while let Some((header, bytes)) = Header::read(chunk, at) {
                let place = Place {
                    time: Timestamp::from_nanos(header.nanos),
                    chunk: number,
                    at,
                    bytes: bytes.len(),
                };
                at += HEADER_BYTES + bytes.len();
                let oldest = found.kept_from.get_or_insert(place.time);
                *oldest = place.time.min(*oldest);
                let frame = frame(&header, bytes);
                let Ok(segment) = decap.frame(&frame) else {
                    continue;
                };
                let is_of_time =
                    (wanted.from_millis..wanted.until_millis).contains(&place.time.millis());
                if is_of_time && self.is_wanted(&segment, ends.as_ref()) {
                    found.records.push(place);
                }
            }
        }
        found.records.sort_by_key(|place| place.time);
        let mut bytes = 0;
        let newest = found.records.iter().rev();
        let fit = newest.take_while(|place| {
            bytes += place.bytes + BLOCK_BYTES_MAX;
            bytes <= PACKETS_FILE_BYTES_MAX
        });
        found.left_out = found.records.len() - fit.count();
        found.records.drain(..found.left_out);
        found
    }

    fn is_wanted(&self, segment: &Segment<'_>, ends: Option<&Ends>) -> bool {
        let is_read =
            self.ports.contains(segment.src.port) || self.ports.contains(segment.dst.port);
        is_read && ends.is_none_or(|ends| ends.are_of(segment))
    }
}

/// The frame of a record.
pub(super) fn frame<'a>(header: &Header, bytes: &'a [u8]) -> Frame<'a> {
    Frame {
        time: Timestamp::from_nanos(header.nanos),
        link: if header.is_ethernet {
            LinkType::Ethernet
        } else {
            LinkType::RawIp
        },
        bytes,
        wire_len: header.wire_len,
        vlan: header.vlan,
    }
}

/// The end points of a connection, as segments have them.
struct Ends {
    client: Endpoint,
    server: Endpoint,
    vni: Option<u32>,
}

impl Ends {
    fn of(connection: WantedConnection) -> Self {
        Self {
            client: endpoint(connection.client),
            server: endpoint(connection.server),
            vni: connection.vni,
        }
    }

    fn are_of(&self, segment: &Segment<'_>) -> bool {
        let Segment { src, dst, .. } = segment;
        let is_between = (*src, *dst) == (self.client, self.server)
            || (*src, *dst) == (self.server, self.client);
        is_between && (self.vni.is_none() || self.vni == segment.network.vni)
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    Endpoint {
        addr: ip.octets(),
        port: address.port(),
    }
}
