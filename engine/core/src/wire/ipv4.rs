//! IPv4, RFC 791 §3.1.
//!
//! ```text
//!  0       1       2               4               6               8       9       10
//! +-------+-------+---------------+---------------+-+-+-+---------+-------+-------+---------
//! |ver|ihl|  tos  | total length  |identification |0|D|M| offset  |  ttl  | proto | checksum
//! +-------+-------+---------------+---------------+-+-+-+---------+-------+-------+---------
//!  12 source      16 destination  20 options up to 4 * ihl
//! ```

use crate::reader::Reader;

use super::{Broken, Split, skip};

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
/// Loose and strict source routes.
const SOURCE_ROUTES: [u8; 2] = [131, 137];
/// Bytes of a source route before its addresses; the pointer counts from 1.
const ROUTE_BYTES: u8 = 3;

/// The fields that matter for decapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Header bytes, options included.
    pub header_len: u16,
    /// Bytes of header and payload; 0 on frames that a network card has yet to cut into segments.
    pub total_len: u16,
    /// Distinguishes datagrams with the same addresses and protocol.
    pub identification: u16,
    /// Offset of this fragment in the payload, in bytes.
    pub fragment_offset: u32,
    /// Further fragments follow this one.
    pub more_fragments: bool,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Sender.
    pub src: [u8; 4],
    /// Receiver.
    pub dst: [u8; 4],
}

/// Splits off the header with its options.
#[inline]
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let Some((fixed, _)) = bytes.split_first_chunk::<20>() else {
        return Err(Broken::Truncated);
    };
    let &[
        vi,
        _,
        l1,
        l0,
        i1,
        i0,
        f1,
        f0,
        _,
        protocol,
        _,
        _,
        s3,
        s2,
        s1,
        s0,
        d3,
        d2,
        d1,
        d0,
    ] = fixed;
    let header_len = u16::from(vi & 0x0f) * 4;
    if vi >> 4 != 4 || header_len < 20 {
        return Err(Broken::Malformed);
    }
    let fragment = u16::from_be_bytes([f1, f0]);
    let header = Header {
        header_len,
        total_len: u16::from_be_bytes([l1, l0]),
        identification: u16::from_be_bytes([i1, i0]),
        fragment_offset: u32::from(fragment & OFFSET) * 8,
        more_fragments: fragment & MORE_FRAGMENTS != 0,
        protocol,
        src: [s3, s2, s1, s0],
        dst: [d3, d2, d1, d0],
    };
    Ok((header, skip(bytes, usize::from(header_len))?))
}

/// The final destination of a packet whose source route is not used up; `header` is the whole header.
pub fn final_destination(header: &[u8]) -> Option<[u8; 4]> {
    let mut options = Reader::new(header.get(20..)?);
    loop {
        match options.u8()? {
            OPTION_END => return None,
            OPTION_NOTHING => {}
            kind => {
                let len = options.u8()?;
                let mut value = options.sub(usize::from(len.checked_sub(2)?))?;
                if SOURCE_ROUTES.contains(&kind) {
                    let pointer = value.u8()?;
                    let left = (ROUTE_BYTES + 1..len).contains(&pointer);
                    return value.rest().last_chunk().copied().filter(|_| left);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 20] = [
        0x45, 0, 0, 24, 0x12, 0x34, 0x20, 3, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];

    #[test]
    fn fields() {
        let bytes = [&PLAIN[..], &[9, 9, 9, 9]].concat();
        let (header, payload) = split(&bytes).unwrap();
        assert_eq!(payload, [9; 4]);
        let expected = Header {
            header_len: 20,
            total_len: 24,
            identification: 0x1234,
            fragment_offset: 24,
            more_fragments: true,
            protocol: 6,
            src: [10, 0, 0, 1],
            dst: [10, 0, 0, 2],
        };
        assert_eq!(header, expected);
    }

    #[track_caller]
    fn check(first: u8, len: usize, expected: Result<usize, Broken>) {
        let mut bytes = [0; 64];
        bytes[0] = first;
        assert_eq!(
            split(&bytes[..len]).map(|(_, payload)| payload.len()),
            expected
        );
    }

    #[test]
    fn lengths_and_versions() {
        check(0x45, 20, Ok(0));
        check(0x46, 25, Ok(1));
        check(0x46, 23, Err(Broken::Truncated));
        check(0x45, 19, Err(Broken::Truncated));
        check(0x44, 64, Err(Broken::Malformed));
        check(0x65, 64, Err(Broken::Malformed));
    }

    #[test]
    fn source_routes_lead_to_the_last_stop() {
        let header = |pointer| {
            let route = [1, 131, 11, pointer, 1, 1, 1, 1, 2, 2, 2, 2];
            [&PLAIN[..], &route].concat()
        };
        assert_eq!(final_destination(&header(4)), Some([2; 4]));
        assert_eq!(final_destination(&header(8)), Some([2; 4]));
        assert_eq!(final_destination(&header(12)), None, "used up");
        assert_eq!(final_destination(&header(4)[..30]), None);
        assert_eq!(final_destination(&PLAIN), None);
        assert_eq!(
            final_destination(&[&PLAIN[..], &[0, 131, 7, 4]].concat()),
            None
        );
        assert_eq!(
            final_destination(&[&PLAIN[..], &[148, 0, 0, 0]].concat()),
            None
        );
    }
}
