//! Linux netfilter log, LINKTYPE_NFLOG (tcpdump.org/linktypes): a family, then attributes, one of which is the packet.
//!
//! ```text
//! family 1 | version 1 | resource 2 | { length 2, type 2, value, padding to 4 }   length and type in host order
//! ```

use crate::reader::Reader;

use super::Broken;

const PAYLOAD: u16 = 9;

/// The packet that was logged, an IPv4 or IPv6 one.
pub fn inner(bytes: &[u8]) -> Result<&[u8], Broken> {
    let mut reader = Reader::new(bytes);
    reader.take(4).ok_or(Broken::Truncated)?;
    loop {
        let Some(&[l0, l1, t0, t1]) = reader.take_array() else {
            return Err(Broken::Truncated);
        };
        // Host order of the capturing machine; every kernel that still logs this way in the field is little-endian.
        let len = usize::from(u16::from_le_bytes([l0, l1]))
            .checked_sub(4)
            .ok_or(Broken::Malformed)?;
        if u16::from_le_bytes([t0, t1]) == PAYLOAD {
            return Ok(reader.rest().get(..len).unwrap_or(reader.rest()));
        }
        reader
            .take(len.next_multiple_of(4))
            .ok_or(Broken::Truncated)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<&[u8], Broken>) {
        assert_eq!(inner(bytes), expected);
    }

    #[test]
    fn finds_the_payload() {
        check(
            &[
                2, 0, 0, 0, 5, 0, 1, 0, 1, 0, 0, 0, 6, 0, 9, 0, 0x45, 1, 0, 0,
            ],
            Ok(&[0x45, 1]),
        );
        check(&[2, 0, 0, 0, 3, 0, 1, 0], Err(Broken::Malformed));
        check(&[2, 0, 0, 0, 8, 0, 1, 0], Err(Broken::Truncated));
    }
}
