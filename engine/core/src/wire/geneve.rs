//! GENEVE, RFC 8926 §3.4.
//!
//! ```text
//!  0       1       2               4               7       8
//! +-------+-------+---------------+---------------+-------+----------------------+---------
//! |ver|len|O|C|res|   protocol    |      VNI      |  res  | options, 4 * len     | payload
//! +-------+-------+---------------+---------------+-------+----------------------+---------
//! ```

use super::{Broken, Split, skip};

/// The registered UDP port, RFC 8926 §3.3.
pub const PORT: u16 = 6081;

/// Network identifier and kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// EtherType of the payload; 0x6558 is an Ethernet frame.
    pub protocol: u16,
    /// The network identifier.
    pub vni: u32,
}

/// Splits a UDP payload into header and content. Options are skipped, critical or not: they are about forwarding, not
/// about the format of the content.
#[inline]
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let Some((&[version_len, _, p1, p0, v2, v1, v0, _], _)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    if version_len >> 6 != 0 {
        return Err(Broken::Malformed);
    }
    let header = Header {
        protocol: u16::from_be_bytes([p1, p0]),
        vni: u32::from_be_bytes([0, v2, v1, v0]),
    };
    Ok((
        header,
        skip(bytes, 8 + usize::from(version_len & 0x3f) * 4)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<(u16, u32, &[u8]), Broken>) {
        assert_eq!(
            split(bytes).map(|(header, after)| (header.protocol, header.vni, after)),
            expected
        );
    }

    #[test]
    fn options_are_skipped() {
        check(&[0, 0, 0x65, 0x58, 0, 0, 9, 0, 1], Ok((0x6558, 9, &[1])));
        check(
            &[1, 0x40, 8, 0, 0, 0, 9, 0, 1, 1, 1, 1, 2],
            Ok((0x0800, 9, &[2])),
        );
        check(
            &[2, 0, 8, 0, 0, 0, 9, 0, 1, 1, 1, 1, 2],
            Err(Broken::Truncated),
        );
        check(&[0x40, 0, 8, 0, 0, 0, 9, 0], Err(Broken::Malformed));
    }
}
