//! Linux cooked capture, LINKTYPE_LINUX_SLL and LINKTYPE_LINUX_SLL2 (tcpdump.org/linktypes).
//!
//! ```text
//! v1: packet type 2 | ARPHRD 2 | address length 2 | address 8 | protocol 2              16 bytes
//! v2: protocol 2 | reserved 2 | interface 4 | ARPHRD 2 | packet type 1 | length 1 | address 8   20 bytes
//! ```

use super::{Broken, Split, ethernet};

/// "Protocol" of frames that are 802.2 (ETH_P_802_2).
const LLC: u16 = 4;

/// Splits off a version 1 header and returns the EtherType of what follows.
pub fn split(bytes: &[u8]) -> Split<'_, Option<u16>> {
    let Some(([.., p1, p0], after)) = bytes.split_first_chunk::<16>() else {
        return Err(Broken::Truncated);
    };
    Ok(by_protocol(u16::from_be_bytes([*p1, *p0]), after))
}

/// Splits off a version 2 header and returns the EtherType of what follows.
pub fn split_v2(bytes: &[u8]) -> Split<'_, Option<u16>> {
    let Some(([p1, p0, ..], after)) = bytes.split_first_chunk::<20>() else {
        return Err(Broken::Truncated);
    };
    Ok(by_protocol(u16::from_be_bytes([*p1, *p0]), after))
}

fn by_protocol(protocol: u16, after: &[u8]) -> (Option<u16>, &[u8]) {
    if protocol == LLC {
        let (header, after) = ethernet::split_llc(after);
        (header.ether_type, after)
    } else {
        (Some(protocol), after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let v1 = [&[0; 14][..], &[8, 0, 7]].concat();
        assert_eq!(split(&v1), Ok((Some(ethernet::IPV4), &[7][..])));
        assert_eq!(split(&v1[..15]), Err(Broken::Truncated));
        let v2 = [&[0x86, 0xdd][..], &[0; 18], &[7]].concat();
        assert_eq!(split_v2(&v2), Ok((Some(ethernet::IPV6), &[7][..])));
        assert_eq!(split_v2(&v2[..19]), Err(Broken::Truncated));
    }
}
