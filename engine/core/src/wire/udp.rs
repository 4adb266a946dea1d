//! UDP, RFC 768.
//!
//! ```text
//!  0               2               4               6               8
//! +---------------+---------------+---------------+---------------+--------
//! |  source port  |   dest port   |    length     |   checksum    | payload
//! +---------------+---------------+---------------+---------------+--------
//! ```
//!
//! The length is not read. The content of a tunnel has lengths of its own, and on frames that a network card has yet to
//! cut the field is 0 or the low 16 bits of the real length.

use super::{Broken, Split};

/// The ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Sender's port; tunnels put entropy here.
    pub src_port: u16,
    /// Receiver's port; identifies the tunnel.
    pub dst_port: u16,
}

/// Splits off the header.
#[inline]
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let Some((&[s1, s0, d1, d0, _, _, _, _], payload)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    Ok((
        Header {
            src_port: u16::from_be_bytes([s1, s0]),
            dst_port: u16::from_be_bytes([d1, d0]),
        },
        payload,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let bytes = [0x12, 0xb5, 0, 80, 0, 9, 0, 0, 7];
        assert_eq!(
            split(&bytes),
            Ok((
                Header {
                    src_port: 4789,
                    dst_port: 80
                },
                &[7][..]
            ))
        );
        assert_eq!(split(&bytes[..7]), Err(Broken::Truncated));
    }
}
