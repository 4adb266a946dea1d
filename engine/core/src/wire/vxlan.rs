//! VXLAN, RFC 7348 §5, and its generic protocol extension (draft-ietf-nvo3-vxlan-gpe §3).
//!
//! ```text
//!  0        1               3       4               7       8
//! +--------+---------------+-------+---------------+-------+--------------
//! |RRRRIPRR|   reserved    |next P |      VNI      |  res  | inner frame
//! +--------+---------------+-------+---------------+-------+--------------
//! ```

use super::{Broken, Split};

/// The registered UDP port, RFC 7348 §8.
pub const PORT: u16 = 4789;
/// The registered UDP port of the generic protocol extension.
pub const PORT_GPE: u16 = 4790;

const FLAG_VNI: u8 = 0x08;
const FLAG_NEXT_PROTOCOL: u8 = 0x04;

/// Kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// An Ethernet frame.
    Ethernet,
    /// An IPv4 or IPv6 packet.
    Ip,
    /// A network service header.
    Nsh,
    /// An MPLS label stack.
    Mpls,
}

impl Inner {
    /// By the next-protocol number that VXLAN-GPE and NSH share (RFC 8300 §2.2).
    pub fn from_next_protocol(next: u8) -> Option<Self> {
        match next {
            1 | 2 => Some(Self::Ip),
            3 => Some(Self::Ethernet),
            4 => Some(Self::Nsh),
            5 => Some(Self::Mpls),
            _ => None,
        }
    }
}

/// Network identifier and kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The network identifier; `None` without the I flag, which RFC 7348 requires.
    pub vni: Option<u32>,
    /// Kind of content. Reserved bits are ignored on receipt, as the RFC requires: only a known next protocol together
    /// with the P flag makes it anything but Ethernet.
    pub inner: Inner,
}

/// Splits a UDP payload into header and inner frame.
#[inline]
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let Some((&[flags, _, _, next, v2, v1, v0, _], inner)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    let vni = (flags & FLAG_VNI != 0).then_some(u32::from_be_bytes([0, v2, v1, v0]));
    let kind = if flags & FLAG_NEXT_PROTOCOL == 0 {
        None
    } else {
        Inner::from_next_protocol(next)
    };
    Ok((
        Header {
            vni,
            inner: kind.unwrap_or(Inner::Ethernet),
        },
        inner,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<(Option<u32>, Inner), Broken>) {
        assert_eq!(
            split(bytes).map(|(header, _)| (header.vni, header.inner)),
            expected
        );
    }

    #[test]
    fn flags_and_identifiers() {
        check(
            &[0x08, 0, 0, 0, 0, 0, 123, 0],
            Ok((Some(123), Inner::Ethernet)),
        );
        check(
            &[0xf8, 9, 9, 1, 0xff, 0xff, 0xff, 9],
            Ok((Some(0xff_ffff), Inner::Ethernet)),
        );
        check(&[0x0c, 0, 0, 1, 0, 0, 1, 0], Ok((Some(1), Inner::Ip)));
        check(&[0x0c, 0, 0, 4, 0, 0, 1, 0], Ok((Some(1), Inner::Nsh)));
        check(
            &[0x0c, 0, 0, 99, 0, 0, 1, 0],
            Ok((Some(1), Inner::Ethernet)),
        );
        check(&[0, 0, 0, 0, 0, 0, 1, 0], Ok((None, Inner::Ethernet)));
        check(&[0x08, 0, 0, 0, 0, 0, 1], Err(Broken::Truncated));
    }
}
