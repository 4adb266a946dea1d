//! PPP, RFC 1661 §2 and 1662 §3.1; PPPoE sessions, RFC 2516 §4; Cisco HDLC.
//!
//! ```text
//! PPPoE:      ver/type 11 | code 0 | session 2 | length 2 | PPP
//! PPP:        FF 03, if not left out | protocol 2, or 1 when compressed | payload
//! Cisco HDLC: address 1 | control 1 | EtherType 2 | payload
//! ```

use super::{Broken, Split, ethernet};

/// IPv4.
pub const IPV4: u16 = 0x0021;
/// IPv6.
pub const IPV6: u16 = 0x0057;
/// MPLS, unicast.
pub const MPLS: u16 = 0x0281;

const ADDRESS_AND_CONTROL: [u8; 2] = [0xff, 0x03];
const HDLC_UNICAST: u8 = 0x0f;
const HDLC_BROADCAST: u8 = 0x8f;

/// Splits off PPP's framing and returns the EtherType of what follows; `None` for control protocols and compressed data.
pub fn split(bytes: &[u8]) -> Split<'_, Option<u16>> {
    let bytes = bytes.strip_prefix(&ADDRESS_AND_CONTROL).unwrap_or(bytes);
    let (protocol, after) = match bytes {
        // Protocol numbers are odd in their last byte and even in their first, which is how a compressed one is known.
        [short, after @ ..] if short & 1 != 0 => (u16::from(*short), after),
        [p1, p0, after @ ..] => (u16::from_be_bytes([*p1, *p0]), after),
        _ => return Err(Broken::Truncated),
    };
    let ether_type = match protocol {
        IPV4 => Some(ethernet::IPV4),
        IPV6 => Some(ethernet::IPV6),
        MPLS => Some(ethernet::MPLS),
        _ => None,
    };
    Ok((ether_type, after))
}

/// Splits off the PPPoE header and returns the length of the PPP frame that follows.
pub fn split_pppoe(bytes: &[u8]) -> Split<'_, u16> {
    match bytes.split_first_chunk() {
        Some((&[0x11, 0, _, _, l1, l0], after)) => Ok((u16::from_be_bytes([l1, l0]), after)),
        Some(_) => Err(Broken::Malformed),
        None => Err(Broken::Truncated),
    }
}

/// Splits off the framing of a serial line: Cisco HDLC gives its EtherType, all else is PPP.
pub fn split_serial(bytes: &[u8]) -> Split<'_, Option<u16>> {
    match bytes.split_first_chunk() {
        Some((&[HDLC_UNICAST | HDLC_BROADCAST, _, t1, t0], after)) => {
            Ok((Some(u16::from_be_bytes([t1, t0])), after))
        }
        _ => split(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<(Option<u16>, &[u8]), Broken>) {
        assert_eq!(split_serial(bytes), expected);
    }

    #[test]
    fn framings() {
        check(&[0xff, 3, 0, 0x21, 1], Ok((Some(ethernet::IPV4), &[1])));
        check(&[0, 0x57, 1], Ok((Some(ethernet::IPV6), &[1])));
        check(&[0x21, 1], Ok((Some(ethernet::IPV4), &[1])));
        check(&[0xc0, 0x21, 1], Ok((None, &[1])));
        check(&[0xff, 3], Err(Broken::Truncated));
        check(&[0x0f, 0, 8, 0, 1], Ok((Some(ethernet::IPV4), &[1])));
    }

    #[test]
    fn pppoe_sessions_only() {
        assert_eq!(split_pppoe(&[0x11, 0, 0, 1, 0, 3, 7]), Ok((3, &[7][..])));
        assert_eq!(
            split_pppoe(&[0x11, 9, 0, 1, 0, 3, 7]),
            Err(Broken::Malformed)
        );
        assert_eq!(split_pppoe(&[0x11, 0, 0]), Err(Broken::Truncated));
    }
}
