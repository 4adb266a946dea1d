//! A segment's endpoints in, the same key for both directions out.
//!
//! Equal addresses under two tunnel identifiers are different hosts, so the network is part of the key.

use std::hash::{Hash, Hasher};

use crate::decap::{Endpoint, Segment};

/// What all segments of one flow have in common: the network and both endpoints, the lower one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    network: u64,
    low: Endpoint,
    high: Endpoint,
}

impl Key {
    /// The key, and whether the sender is its lower endpoint.
    pub(super) fn of(segment: &Segment<'_>) -> (Self, bool) {
        let (src, dst) = (segment.src, segment.dst);
        let from_low = src <= dst;
        let (low, high) = if from_low { (src, dst) } else { (dst, src) };
        (
            Self {
                network: segment.network.id,
                low,
                high,
            },
            from_low,
        )
    }

    /// The network's id.
    pub(super) fn network(&self) -> u64 {
        self.network
    }

    /// The two endpoints, the lower first.
    pub(super) fn endpoints(&self) -> (Endpoint, Endpoint) {
        (self.low, self.high)
    }
}

/// Whole words: the derived form feeds each array with its length and costs three times as much.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_ne_bytes(self.low.addr));
        state.write_u128(u128::from_ne_bytes(self.high.addr));
        state.write_u64(self.network);
        state.write_u32(u32::from(self.low.port) << 16 | u32::from(self.high.port));
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
