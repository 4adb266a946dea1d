//! Ethernet II and IEEE 802.3 with LLC/SNAP, and the tags between addresses and EtherType.
//!
//! ```text
//!  0            6            12      14
//! +------------+------------+-------+------------------
//! | destination|   source   | type  | payload
//! +------------+------------+-------+------------------
//! 802.1Q tag:        type 8100 | TCI 2 | type 2
//! 802.3:             length 2  | AA AA 03 | OUI 3 | type 2   (RFC 1042); 06 06 03 is IP at once
//! Cisco ISL:         26 bytes with a destination of its own | the frame | checksum 4
//! MACsec:            type 88e5 | flags 1 | length 1 | number 4 | channel 8 if flagged | type 2
//! TRILL:             type 22f3 | flags 2 | egress 2 | ingress 2 | options | the frame   (RFC 6325)
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
/// Another service tag of such switches, where both tags are 9100.
pub const QINQ_OLDER: u16 = 0x9200;
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

/// High-availability seamless redundancy (IEC 62439-3): four bytes, then the next type.
pub const HSR: u16 = 0x892f;
/// Cisco MetaData, the security group of TrustSec: six bytes, then the next type.
pub const CISCO_METADATA: u16 = 0x8909;
/// MACsec (802.1AE).
pub const MACSEC: u16 = 0x88e5;
/// TRILL: the frame of a customer between switches.
pub const TRILL: u16 = 0x22f3;

/// Values of the type field up to this are the length of an 802.3 frame.
pub const LENGTH_MAX: u16 = 1500;
/// Destination and source SAP for SNAP, unnumbered information.
const SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];
/// Destination and source SAP for IP, unnumbered information (RFC 948).
const SAP_IP: [u8; 3] = [0x06, 0x06, 0x03];

/// The largest length in the type field of ISL: it counts the header of the frame inside.
const ISL_LENGTH_MAX: u16 = 0x060f;
/// Bytes before the frame inside of ISL.
const ISL_BYTES: usize = 26;
/// Destinations of ISL without their last byte, which holds type and priority.
const ISL_DESTINATIONS: [[u8; 5]; 2] = [[1, 0, 0x0c, 0, 0], [3, 0, 0x0c, 0, 0]];

/// What follows the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The EtherType; `None` for 802.2 without SNAP, which carries no IP that is read.
    pub ether_type: Option<u16>,
}

/// Splits off the addresses and the type, and LLC/SNAP where the type is a length.
#[inline]
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let Some(([.., t1, t0], payload)) = bytes.split_first_chunk::<14>() else {
        return Err(Broken::Truncated);
    };
    let ether_type = u16::from_be_bytes([*t1, *t0]);
    let of = |ether_type| Header {
        ether_type: Some(ether_type),
    };
    if ether_type > ISL_LENGTH_MAX {
        return Ok((of(ether_type), payload));
    }
    if ISL_DESTINATIONS.iter().any(|isl| bytes.starts_with(isl)) {
        return Ok((of(BRIDGED), skip(bytes, ISL_BYTES)?));
    }
    if ether_type > LENGTH_MAX {
        return Ok((of(ether_type), payload));
    }
    Ok(split_llc(payload))
}

/// Splits off an 802.2 header: SNAP gives an EtherType, the SAP of IP that of IPv4, all else none.
pub fn split_llc(bytes: &[u8]) -> (Header, &[u8]) {
    match bytes.split_first_chunk() {
        Some((&[d, s, c, _, _, _, t1, t0], payload)) if [d, s, c] == SNAP => (
            Header {
                ether_type: Some(u16::from_be_bytes([t1, t0])),
            },
            payload,
        ),
        _ if bytes.starts_with(&SAP_IP) => (
            Header {
                ether_type: Some(IPV4),
            },
            bytes.get(SAP_IP.len()..).unwrap_or_default(),
        ),
        _ => (Header { ether_type: None }, bytes),
    }
}

/// Splits off the `tag_bytes` after a tag's type, the last two of which are the next type.
#[inline]
pub fn split_tag(bytes: &[u8], tag_bytes: usize) -> Split<'_, u16> {
    let after = skip(bytes, tag_bytes)?;
    let head = bytes.get(..tag_bytes).ok_or(Broken::Truncated)?;
    let (_, &[t1, t0]) = head.split_last_chunk().ok_or(Broken::Malformed)?;
    Ok((u16::from_be_bytes([t1, t0]), after))
}

/// Splits off the security tag of MACsec and the type behind it; `None` where what follows is encrypted.
pub fn split_macsec(bytes: &[u8]) -> Split<'_, Option<u16>> {
    const ENCRYPTED_OR_CHANGED: u8 = 0x0c;
    const CHANNEL: u8 = 0x20;
    let flags = *bytes.first().ok_or(Broken::Truncated)?;
    if flags & ENCRYPTED_OR_CHANGED != 0 {
        return Ok((None, bytes));
    }
    let channel = if flags & CHANNEL == 0 { 0 } else { 8 };
    let (ether_type, after) = split_tag(bytes, 6 + channel + 2)?;
    Ok((Some(ether_type), after))
}

/// The frame behind a TRILL header.
pub fn trill_inner(bytes: &[u8]) -> Result<&[u8], Broken> {
    let flags = bytes.first_chunk().ok_or(Broken::Truncated)?;
    let option_words = usize::from(u16::from_be_bytes(*flags) >> 6 & 0x1f);
    skip(bytes, 6 + 4 * option_words)
}

/// Whether bytes look like an Ethernet frame with a type that is read, for layers that do not name their content.
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
        check(&[0, 4, 6, 6, 3, 0x45], Ok((Some(IPV4), &[0x45])));
        check(&[6, 0, 7], Ok((Some(0x0600), &[7])));
    }

    #[test]
    fn tags() {
        assert_eq!(split_tag(&[0, 7, 0x86, 0xdd, 1], 4), Ok((IPV6, &[1][..])));
        assert_eq!(split_tag(&[0, 7, 0x86], 4), Err(Broken::Truncated));
        assert_eq!(split_tag(&[0, 7, 0x86], 1), Err(Broken::Malformed));
    }

    #[test]
    fn isl_carries_a_frame() {
        let isl = [
            &[1, 0, 0x0c, 0, 0, 0x40][..],
            &[0; 6],
            &[6, 0x0c],
            &[0; 12],
            &[7],
        ]
        .concat();
        let expected = Header {
            ether_type: Some(BRIDGED),
        };
        assert_eq!(split(&isl), Ok((expected, &[7][..])));
        assert_eq!(split(&isl[..25]), Err(Broken::Truncated));
    }

    #[test]
    fn macsec_is_read_where_it_only_signs() {
        let plain = [&[0_u8; 6][..], &[8, 0, 7]].concat();
        assert_eq!(split_macsec(&plain), Ok((Some(IPV4), &[7][..])));
        let with_channel = [&[0x20][..], &[0; 13], &[8, 0, 7]].concat();
        assert_eq!(split_macsec(&with_channel), Ok((Some(IPV4), &[7][..])));
        assert_eq!(split_macsec(&[0x0c, 0, 0]).map(|(t, _)| t), Ok(None));
        assert_eq!(split_macsec(&plain[..7]), Err(Broken::Truncated));
    }

    #[test]
    fn trill_options_are_passed_over() {
        let bytes = [&[0, 0x40 | 9][..], &[0; 4], &[1; 4], &[7]].concat();
        assert_eq!(trill_inner(&bytes), Ok(&[7][..]));
        assert_eq!(trill_inner(&bytes[..9]), Err(Broken::Truncated));
    }
}
