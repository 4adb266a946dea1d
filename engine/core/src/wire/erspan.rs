//! ERSPAN types II and III, draft-foschiano-erspan §4.2 and §4.3. Type I has no header of its own.
//!
//! ```text
//!  0         2         4               8
//! +---+-----+---+-----+---------------+--------------------------+----------
//! |ver| vlan|...|sess |     index     |                          | frame     II, version 1
//! +---+-----+---+-----+---------------+--------------------------+----------
//! |ver| vlan|...|sess |   timestamp   | group 2 |P| type 5 |..|O | frame     III, version 2
//! +---+-----+---+-----+---------------+--------------------------+----------
//!                                      8                           12, eight more if O
//! ```

use super::{Broken, Split, skip};

const VERSION_II: u8 = 1;
const VERSION_III: u8 = 2;
const SUBHEADER: u8 = 0x01;
const TYPE_IP: u8 = 2;

/// Mirror session, and kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The session, 10 bits.
    pub session: u32,
    /// An IP packet is inside rather than an Ethernet frame (type III only).
    pub ip: bool,
}

/// Splits off the header, by its version.
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let Some((&[version_vlan, _, s1, s0, _, _, _, _], after)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    let session = u32::from(u16::from_be_bytes([s1, s0]) & 0x03ff);
    match version_vlan >> 4 {
        VERSION_II => Ok((Header { session, ip: false }, after)),
        VERSION_III => split_rest_of_iii(session, after),
        _ => Err(Broken::Malformed),
    }
}

fn split_rest_of_iii(session: u32, bytes: &[u8]) -> Split<'_, Header> {
    let Some((&[_, _, frame_type, options], after)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    let header = Header {
        session,
        ip: frame_type >> 2 & 0x1f == TYPE_IP,
    };
    let after = if options & SUBHEADER == 0 {
        after
    } else {
        skip(after, 8)?
    };
    Ok((header, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<(u32, bool, usize), Broken>) {
        assert_eq!(
            split(bytes).map(|(header, after)| (header.session, header.ip, after.len())),
            expected
        );
    }

    #[test]
    fn types_two_and_three() {
        check(&[0x10, 1, 0xfc, 5, 0, 0, 0, 0, 9], Ok((5, false, 1)));
        check(
            &[0x20, 1, 3, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 9],
            Ok((1023, false, 1)),
        );
        check(
            &[
                0x20, 1, 0, 5, 0, 0, 0, 0, 0, 0, 8, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9,
            ],
            Ok((5, true, 1)),
        );
        check(
            &[0x20, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 9],
            Err(Broken::Truncated),
        );
        check(&[0x00, 1, 0, 5, 0, 0, 0, 0, 0], Err(Broken::Malformed));
    }
}
