//! The key of a flow: the same for the segments of both directions.
//!
//! Equal addresses under two tunnel identifiers are different hosts, so the network is part of the key.

use std::hash::{Hash, Hasher};

use crate::decap::{Endpoint, Segment};

/// What all segments of one flow have in common: the network and both endpoints, the lower one first.
///
/// In whole words (an address is two, in network order): bytes cost three times as much to compare and to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    network: u64,
    low: [u64; 2],
    high: [u64; 2],
    /// The lower endpoint's in the upper half.
    ports: u32,
}

impl Key {
    /// The key, and whether the sender is its lower endpoint.
    #[inline]
    pub(super) fn of(segment: &Segment<'_>) -> (Self, bool) {
        let src = (words(segment.src.addr), segment.src.port);
        let dst = (words(segment.dst.addr), segment.dst.port);
        let from_low = src <= dst;
        let (low, high) = if from_low { (src, dst) } else { (dst, src) };
        (
            Self {
                network: segment.network.id,
                low: low.0,
                high: high.0,
                ports: u32::from(low.1) << 16 | u32::from(high.1),
            },
            from_low,
        )
    }

    /// The network's id.
    pub(super) fn network(&self) -> u64 {
        self.network
    }

    /// The addresses and ports alone.
    pub(super) fn without_network(&self) -> Self {
        Self {
            network: 0,
            ..*self
        }
    }

    /// The two endpoints, the lower first.
    pub(super) fn endpoints(&self) -> (Endpoint, Endpoint) {
        (
            endpoint(self.low, (self.ports >> 16) as u16),
            endpoint(self.high, self.ports as u16),
        )
    }
}

#[inline]
fn words(addr: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr;
    [
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes([i, j, k, l, m, n, o, p]),
    ]
}

fn endpoint([first, last]: [u64; 2], port: u16) -> Endpoint {
    let addr = (u128::from(first) << 64 | u128::from(last)).to_be_bytes();
    Endpoint { addr, port }
}

/// The derived implementation would hash the length of each array, too.
impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (Self { low, high, .. }, pair) =
            (self, |[a, b]: [u64; 2]| u128::from(a) << 64 | u128::from(b));
        state.write_u128(pair(*low));
        state.write_u128(pair(*high));
        state.write_u64(self.network);
        state.write_u32(self.ports);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decap::{Flags, Network};
    use crate::time::Timestamp;

    fn key(network: u64, src: (u8, u16), dst: (u8, u16)) -> (Key, bool) {
        let endpoint = |(host, port)| Endpoint {
            addr: [host; 16],
            port,
        };
        Key::of(&Segment {
            time: Timestamp::ZERO,
            network: Network {
                id: network,
                ..Network::default()
            },
            src: endpoint(src),
            dst: endpoint(dst),
            seq: 0,
            ack: 0,
            flags: Flags(Flags::ACK),
            payload: &[],
            payload_wire_len: 0,
        })
    }

    #[test]
    fn both_directions_share_a_key_and_networks_do_not() {
        let (there, from_low) = key(0, (1, 80), (2, 9));
        let (back, from_high) = key(0, (2, 9), (1, 80));
        assert_eq!(there, back);
        assert!(from_low && !from_high);
        assert_ne!(there, key(7, (1, 80), (2, 9)).0);
        assert_ne!(there, key(0, (1, 9), (2, 80)).0);
        assert_eq!(key(0, (1, 80), (1, 443)).0, key(0, (1, 443), (1, 80)).0);
    }
}
