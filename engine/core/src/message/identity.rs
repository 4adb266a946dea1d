//! Identity of connections and exchanges: the same packets give the same number, in every capture and every version.
//!
//! An id is FNV-1a with 128 bits, since no hasher of a crate promises to stay as it is. It covers the network, both
//! endpoints and the initial sequence number of the connection, then the messages of the exchange in it.

use super::draft::{Connection, Draft, Times};
use crate::decap::Endpoint;

/// The state of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u128);

impl Id {
    const EMPTY: Self = Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);

    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    fn and(self, bytes: &[u8]) -> Self {
        let step = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(Self::PRIME);
        Self(bytes.iter().fold(self.0, step))
    }

    /// Eight octets of a message's number. Most are offsets, and hardly any connection carries 4 GiB, so the first four are
    /// zero.
    fn and_number(self, number: u64) -> Self {
        match u32::try_from(number) {
            Ok(low) => {
                let zeros = self.0.wrapping_mul(const { power(Self::PRIME, 4) });
                Self(zeros).and(&low.to_be_bytes())
            }
            Err(_) => self.and(&number.to_be_bytes()),
        }
    }

    /// Eight octets of ones, the number of a message that is not there.
    ///
    /// A step changes the low octet of the hash and multiplies. Multiples of 256 stay multiples of 256, so they are
    /// multiplied once for all eight steps, and the rest depends on the low octet alone.
    fn and_none(self) -> Self {
        let low = self.0 & 0xff;
        let octet = ONES.get(low as usize).copied().unwrap_or_default();
        let others = (self.0 ^ low).wrapping_mul(const { power(Self::PRIME, 8) });
        Self(others.wrapping_add(octet))
    }

    /// The 64 bits that name a connection in annotations.
    pub(super) const fn folded(self) -> u64 {
        (self.0 >> 64) as u64 ^ self.0 as u64
    }
}

const fn power(base: u128, exponent: u32) -> u128 {
    let (mut product, mut left) = (1_u128, exponent);
    while left > 0 {
        product = product.wrapping_mul(base);
        left -= 1;
    }
    product
}

/// Eight octets of ones added to each hash below 256.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
static ONES: [u128; 256] = {
    let mut hashes = [0; 256];
    let mut low = 0;
    while low < hashes.len() {
        let (mut hash, mut step) = (low as u128, 0);
        while step < 8 {
            hash = (hash ^ 0xff).wrapping_mul(Id::PRIME);
            step += 1;
        }
        hashes[low] = hash;
        low += 1;
    }
    hashes
};

/// Connections that [`ConnectionIds`] remembers.
const REMEMBERED: usize = 64;

/// Ids of connections. The last ones are remembered, because the id of a connection takes five times as long to compute
/// as that of an exchange on it, and most connections carry many exchanges.
pub(super) struct ConnectionIds {
    /// By the number of the flow; 0 is the number of none.
    recent: Box<[(u64, Id); REMEMBERED]>,
}

impl Default for ConnectionIds {
    fn default() -> Self {
        Self {
            recent: Box::new([(0, Id::EMPTY); REMEMBERED]),
        }
    }
}

impl ConnectionIds {
    pub(super) fn connection(&mut self, connection: &Connection) -> Id {
        // Which end is the client may change while a flow is read, so it is a part of the name.
        let name = connection.flow << 1 | u64::from(connection.client_is_originator);
        let index = connection.flow as usize % REMEMBERED;
        let Some((remembered, id)) = self.recent.get_mut(index) else {
            return connection_id(connection);
        };
        if *remembered != name || connection.flow == 0 {
            (*remembered, *id) = (name, connection_id(connection));
        }
        *id
    }
}

/// Client before server: which end sent the first segment may differ between two captures of one connection.
fn connection_id(connection: &Connection) -> Id {
    let endpoint = |id: Id, endpoint: Option<Endpoint>| {
        let endpoint = endpoint.unwrap_or(Endpoint {
            addr: [0; 16],
            port: 0,
        });
        id.and(&endpoint.addr).and(&endpoint.port.to_be_bytes())
    };
    let id = Id::EMPTY.and(&connection.network.id.to_be_bytes());
    let id = endpoint(endpoint(id, connection.client), connection.server);
    id.and(&[u8::from(connection.client_is_originator)])
        .and(&connection.originator_seq.to_be_bytes())
}

/// The id of an exchange: that of its request, or of its response where there is no request.
pub(super) fn exchange_id(connection: Id, draft: &Draft) -> u128 {
    let number = |times: Times| times.message.number();
    let (request, response) = (draft.state.request_times, draft.state.response_times);
    let id = match (request.map(number), response.map(number)) {
        (Some(request), _) => connection.and_number(request).and_none(),
        (None, Some(response)) => connection.and_none().and_number(response),
        (None, None) => connection.and_none().and_none(),
    };
    id.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_their_octets() {
        for offset in [0, 1, 0x1234_5678, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let expected = Id::EMPTY.and(&offset.to_be_bytes());
            assert_eq!(Id::EMPTY.and_number(offset), expected, "{offset:#x}");
        }
    }

    #[test]
    fn a_missing_number_is_eight_octets_of_ones() {
        let mut id = Id::EMPTY;
        for octet in 0..=u8::MAX {
            id = id.and(&[octet]);
            assert_eq!(id.and_none(), id.and(&[0xff; 8]));
        }
    }

    #[test]
    fn remembered_ids_are_the_ids() {
        let mut ids = ConnectionIds::default();
        for flow in [0, 1, 65, 1, 64, 0, 129, 65].into_iter().cycle().take(50) {
            for client_is_originator in [true, false] {
                let connection = Connection {
                    originator_seq: flow as u32 * 7,
                    client_is_originator,
                    flow,
                    ..Connection::default()
                };
                assert_eq!(ids.connection(&connection), connection_id(&connection));
            }
        }
    }
}
