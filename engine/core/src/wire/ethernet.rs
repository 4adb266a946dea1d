//! Ethernet II and IEEE 802.3 with LLC/SNAP, and the tags between addresses and EtherType.
//!
//! ```text
//!  0            6            12      14
//! +------------+------------+-------+------------------
//! | destination|   source   | type  | payload
//! +------------+------------+-------+------------------
//! 802.1Q tag:        type 8100 | TCI 2 | type 2
//! 802.3:             length 2  | AA AA 03 | OUI 3 | type 2   (RFC 1042)
//! ```

use super::{Broken, Split, skip};

/// IPv4.
pub const IPV4: u16 = 0x0800;
/// IPv6.
pub const IPV6: u16 = 0x86dd;
/// 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// 802.1ad service tag.
pub const QINQ: u16 = 0x88a8;
/// The service tag of switches older than 802.1ad.
pub const QINQ_OLD: u16 = 0x9100;
/// MPLS, unicast.
pub const MPLS: u16 = 0x8847;
/// MPLS, upstream-assigned label.
pub const MPLS_UPSTREAM: u16 = 0x8848;
/// PPPoE session stage.
pub const PPPOE: u16 = 0x8864;
/// PPP (in GRE, RFC 2637).
pub const PPP: u16 = 0x880b;
/// An Ethernet frame inside (transparent Ethernet bridging).
pub const BRIDGED: u16 = 0x6558;
/// Network service header, RFC 8300.
pub const NSH: u16 = 0x894f;
/// 802.1ah backbone service tag: flags 1, service identifier 3, then the customer's Ethernet frame.
pub const BACKBONE: u16 = 0x88e7;
/// VN-Tag: four bytes, then the next type.
pub const VN_TAG: u16 = 0x8926;
/// 802.1BR E-Tag: six bytes, then the next type.
pub const E_TAG: u16 = 0x893f;
/// Cisco FabricPath: two bytes, then the Ethernet frame that was carried.
pub const FABRIC_PATH: u16 = 0x8903;

/// Values of the type field up to this are the length of an 802.3 frame.
pub const LENGTH_MAX: u16 = 1500;
/// Destination and source SAP for SNAP, unnumbered information.
const SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];

/// What follows the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The EtherType; `None` for 802.2 without SNAP, which carries no IP that we read.
    pub ether_type: Option<u16>,
}

/// Splits off the addresses and the type, and LLC/SNAP where the type is a length.
#[inline]
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let Some(([.., t1, t0], payload)) = bytes.split_first_chunk::<14>() else {
        return Err(Broken::Truncated);
    };
    let ether_type = u16::from_be_bytes([*t1, *t0]);
    if ether_type > LENGTH_MAX {
        return Ok((
            Header {
                ether_type: Some(ether_type),
            },
            payload,
        ));
    }
    Ok(split_llc(payload))
}

/// Splits off an 802.2 header: SNAP gives an EtherType, all else none.
pub fn split_llc(bytes: &[u8]) -> (Header, &[u8]) {
    match bytes.split_first_chunk() {
        Some((&[d, s, c, _, _, _, t1, t0], payload)) if [d, s, c] == SNAP => (
            Header {
                ether_type: Some(u16::from_be_bytes([t1, t0])),
            },
            payload,
        ),
        _ => (Header { ether_type: None }, bytes),
    }
}

/// Splits off what stands between a tag's type and the next: `tag_bytes`, of which the last two are that next type.
#[inline]
pub fn split_tag(bytes: &[u8], tag_bytes: usize) -> Split<'_, u16> {
    let after = skip(bytes, tag_bytes)?;
    let head = bytes.get(..tag_bytes).ok_or(Broken::Truncated)?;
    let (_, &[t1, t0]) = head.split_last_chunk().ok_or(Broken::Malformed)?;
    Ok((u16::from_be_bytes([t1, t0]), after))
}

/// Whether bytes look like an Ethernet frame that carries something we read, for layers that do not say.
pub fn is_likely(bytes: &[u8]) -> bool {
    let tags_and_ip = [IPV4, IPV6, VLAN, QINQ, QINQ_OLD, MPLS, PPPOE];
    matches!(split(bytes), Ok((Header { ether_type: Some(t) }, _)) if tags_and_ip.contains(&t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(after_addresses: &[u8], expected: Result<(Option<u16>, &[u8]), Broken>) {
        let bytes = [&[0; 12], after_addresses].concat();
        let got = split(&bytes).map(|(header, payload)| (header.ether_type, payload));
        assert_eq!(got, expected);
    }

    #[test]
    fn types_and_lengths() {
        check(&[8, 0, 1, 2], Ok((Some(IPV4), &[1, 2])));
        check(&[8], Err(Broken::Truncated));
        check(
            &[0, 9, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 7],
            Ok((Some(IPV4), &[7])),
        );
        check(&[0, 3, 0x42, 0x42, 3], Ok((None, &[0x42, 0x42, 3])));
        check(&[0, 3], Ok((None, &[])));
    }

    #[test]
    fn tags() {
        assert_eq!(split_tag(&[0, 7, 0x86, 0xdd, 1], 4), Ok((IPV6, &[1][..])));
        assert_eq!(split_tag(&[0, 7, 0x86], 4), Err(Broken::Truncated));
        assert_eq!(split_tag(&[0, 7, 0x86], 1), Err(Broken::Malformed));
    }
}
