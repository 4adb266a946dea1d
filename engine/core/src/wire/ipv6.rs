//! IPv6 and its extension headers, RFC 8200 §3 and §4; jumbo payloads, RFC 2675; routing headers, RFC 5095, 6275, 8754.
//!
//! ```text
//!  0               4               6       7       8            24            40
//! +---------------+---------------+-------+-------+------------+-------------+-----------
//! |6|class| label |payload length | next  |  hops |   source   | destination | extensions
//! +---------------+---------------+-------+-------+------------+-------------+-----------
//! extension: next 1 | length in eights beyond the first 1 | ...
//! fragment:  next 1 | 0 | offset 13 bits, 2 bits, more 1 bit | identification 4
//! ```

use crate::reader::Reader;

use super::{Broken, Split, skip};

/// Hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Routing header.
pub const ROUTING: u8 = 43;
/// Fragment header.
pub const FRAGMENT: u8 = 44;
/// Authentication header, RFC 4302: its length counts in fours.
pub const AUTHENTICATION: u8 = 51;
/// Destination options.
pub const DESTINATION: u8 = 60;
/// Mobility header.
pub const MOBILITY: u8 = 135;
/// Host identity protocol.
pub const HIP: u8 = 139;
/// Shim6.
pub const SHIM6: u8 = 140;

const OPTION_PAD1: u8 = 0;
const OPTION_JUMBO: u8 = 0xc2;
const ROUTING_SOURCE: u8 = 0;
const ROUTING_MOBILE: u8 = 2;
const ROUTING_SEGMENTS: u8 = 4;

/// The fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes after the fixed header; 0 for jumbo payloads and on frames that a network card has yet to cut.
    pub payload_len: u16,
    /// The protocol or extension header that follows.
    pub next: u8,
    /// Sender.
    pub src: [u8; 16],
    /// Receiver, or the next stop if there is a routing header.
    pub dst: [u8; 16],
}

/// The fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Protocol of the reassembled payload.
    pub next: u8,
    /// Offset of this fragment in it, in bytes.
    pub offset: u32,
    /// Further fragments follow this one.
    pub more: bool,
    /// Distinguishes datagrams.
    pub identification: u32,
}

/// Splits off the fixed header.
#[inline]
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let mut reader = Reader::new(bytes);
    let Some(&[version, _, _, _, l1, l0, next, _]) = reader.take_array() else {
        return Err(Broken::Truncated);
    };
    if version >> 4 != 6 {
        return Err(Broken::Malformed);
    }
    let (Some(&src), Some(&dst)) = (reader.take_array(), reader.take_array()) else {
        return Err(Broken::Truncated);
    };
    Ok((
        Header {
            payload_len: u16::from_be_bytes([l1, l0]),
            next,
            src,
            dst,
        },
        reader.rest(),
    ))
}

/// Splits off one extension header other than the fragment header: what follows it, its own bytes, the bytes after.
pub fn split_extension(kind: u8, bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Broken> {
    let Some((&[next, len], _)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    let total = if kind == AUTHENTICATION {
        (usize::from(len) + 2) * 4
    } else {
        (usize::from(len) + 1) * 8
    };
    let (header, after) = bytes.split_at_checked(total).ok_or(Broken::Truncated)?;
    Ok((next, header, after))
}

/// Splits off a fragment header.
pub fn split_fragment(bytes: &[u8]) -> Split<'_, Fragment> {
    let Some((&[next, _, f1, f0, i3, i2, i1, i0], _)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    let field = u16::from_be_bytes([f1, f0]);
    let fragment = Fragment {
        next,
        offset: u32::from(field & 0xfff8),
        more: field & 1 != 0,
        identification: u32::from_be_bytes([i3, i2, i1, i0]),
    };
    Ok((fragment, skip(bytes, 8)?))
}

/// The payload length in a hop-by-hop header's jumbo option, if it has one.
pub fn jumbo_len(hop_by_hop: &[u8]) -> Option<u32> {
    let mut options = Reader::new(hop_by_hop.get(2..)?);
    loop {
        match options.u8()? {
            OPTION_PAD1 => {}
            kind => {
                let len = options.u8()?;
                let mut value = options.sub(usize::from(len))?;
                if kind == OPTION_JUMBO {
                    return value.u32();
                }
            }
        }
    }
}

/// The final destination of a packet with this routing header, if it is still on its way.
///
/// The other direction comes from that address, so a flow is found by it and not by the next stop.
pub fn final_destination(routing: &[u8]) -> Option<[u8; 16]> {
    let mut reader = Reader::new(routing);
    let &[_, _, kind, left, _, _, _, _] = reader.take_array()?;
    let addresses = reader.rest();
    match kind {
        _ if left == 0 => None,
        ROUTING_SOURCE => addresses.split_last_chunk().map(|(_, last)| *last),
        // The segment list of SRv6 is in reverse order.
        ROUTING_MOBILE | ROUTING_SEGMENTS => addresses.first_chunk().copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_header() {
        let mut bytes = [0; 41];
        bytes[0] = 0x60;
        bytes[5] = 1;
        bytes[6] = 17;
        bytes[23] = 1;
        bytes[39] = 2;
        let (header, payload) = split(&bytes).unwrap();
        assert_eq!(
            (
                header.payload_len,
                header.next,
                header.src[15],
                header.dst[15]
            ),
            (1, 17, 1, 2)
        );
        assert_eq!(payload, [0]);
        assert_eq!(split(&bytes[..39]), Err(Broken::Truncated));
        bytes[0] = 0x40;
        assert_eq!(split(&bytes), Err(Broken::Malformed));
    }

    #[test]
    fn extensions_are_counted_in_eights_and_fours() {
        let bytes: Vec<u8> = [&[6, 1][..], &[0; 30]].concat();
        let (next, header, after) = split_extension(DESTINATION, &bytes).unwrap();
        assert_eq!((next, header.len(), after.len()), (6, 16, 16));
        let (_, header, _) = split_extension(AUTHENTICATION, &bytes).unwrap();
        assert_eq!(header.len(), 12);
        assert_eq!(
            split_extension(DESTINATION, &bytes[..15]),
            Err(Broken::Truncated)
        );
    }

    #[test]
    fn fragment_fields() {
        let (fragment, after) = split_fragment(&[6, 0, 0, 0x11, 0, 0, 1, 2, 9]).unwrap();
        assert_eq!(
            fragment,
            Fragment {
                next: 6,
                offset: 16,
                more: true,
                identification: 0x102
            }
        );
        assert_eq!(after, [9]);
    }

    #[test]
    fn jumbo_option_behind_padding() {
        assert_eq!(
            jumbo_len(&[6, 0, 0, 1, 0, 0xc2, 4, 0, 1, 0x86, 0xa0, 0]),
            Some(100_000)
        );
        assert_eq!(jumbo_len(&[6, 0, 1, 4, 0, 0, 0, 0]), None);
        assert_eq!(jumbo_len(&[6, 0, 0xc2, 200, 0]), None);
    }

    #[test]
    fn routed_packets_go_to_the_last_address() {
        let route = |kind, left| [&[6, 4, kind, left, 0, 0, 0, 0][..], &[1; 16], &[2; 16]].concat();
        assert_eq!(final_destination(&route(ROUTING_SOURCE, 1)), Some([2; 16]));
        assert_eq!(
            final_destination(&route(ROUTING_SEGMENTS, 1)),
            Some([1; 16])
        );
        assert_eq!(final_destination(&route(ROUTING_SOURCE, 0)), None);
        assert_eq!(final_destination(&[6, 0, 0, 1, 0, 0, 0, 0]), None);
    }
}
