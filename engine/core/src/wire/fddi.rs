//! FDDI, LINKTYPE_FDDI: frame control 1, destination 6, source 6, then 802.2 (RFC 1188).

use super::{Broken, Split, ethernet, skip};

const HEADER_BYTES: usize = 13;

/// Splits off the header and returns the EtherType of what follows.
pub fn split(bytes: &[u8]) -> Split<'_, Option<u16>> {
    let (header, after) = ethernet::split_llc(skip(bytes, HEADER_BYTES)?);
    match header.ether_type {
        None if after.is_empty() => Err(Broken::Truncated),
        ether_type => Ok((ether_type, after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snap_follows() {
        let bytes = [&[0; HEADER_BYTES][..], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 7]].concat();
        assert_eq!(split(&bytes), Ok((Some(ethernet::IPV4), &[7][..])));
        assert_eq!(split(&bytes[..HEADER_BYTES]), Err(Broken::Truncated));
        assert_eq!(split(&bytes[..12]), Err(Broken::Truncated));
    }
}
