//! TCP, RFC 9293 §3.1.
//!
//! ```text
//!  0               2               4               8               12  12.4    13      14
//! +---------------+---------------+---------------+---------------+---+-------+-------+-------
//! |  source port  |   dest port   |   sequence    | acknowledged  |off|  res  | flags | window ...
//! +---------------+---------------+---------------+---------------+---+-------+-------+-------
//!  20 options up to 4 * off
//! ```

use super::{Broken, Split};

/// The fields that reassembly needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// Sequence number of the first payload byte, or of the SYN.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flag bits.
    pub flags: u8,
    /// Header bytes, options included.
    pub header_len: u16,
}

/// Splits off the header with its options.
///
/// A capture that ends within the options still gives a header, with nothing after it: ports, sequence number and
/// flags are known, and with them how much is missing.
#[inline]
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let Some((fixed, _)) = bytes.split_first_chunk::<20>() else {
        return Err(Broken::Truncated);
    };
    let &[
        s1,
        s0,
        d1,
        d0,
        q3,
        q2,
        q1,
        q0,
        a3,
        a2,
        a1,
        a0,
        offset,
        flags,
        ..,
    ] = fixed;
    let header_len = u16::from(offset >> 4) * 4;
    if header_len < 20 {
        return Err(Broken::Malformed);
    }
    let header = Header {
        src_port: u16::from_be_bytes([s1, s0]),
        dst_port: u16::from_be_bytes([d1, d0]),
        seq: u32::from_be_bytes([q3, q2, q1, q0]),
        ack: u32::from_be_bytes([a3, a2, a1, a0]),
        flags,
        header_len,
    };
    Ok((
        header,
        bytes.get(usize::from(header_len)..).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 26] = [
        0, 80, 0x1f, 0x90, 0, 0, 0, 7, 0, 0, 0, 9, 0x60, 0x18, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, b'h',
        b'i',
    ];

    #[test]
    fn fields() {
        let (header, payload) = split(&BYTES).unwrap();
        let expected = Header {
            src_port: 80,
            dst_port: 8080,
            seq: 7,
            ack: 9,
            flags: 0x18,
            header_len: 24,
        };
        assert_eq!((header, payload), (expected, &b"hi"[..]));
    }

    #[test]
    fn cut_options_leave_an_empty_payload_and_a_cut_header_none() {
        assert_eq!(split(&BYTES[..22]).unwrap().1, b"");
        assert_eq!(split(&BYTES[..19]), Err(Broken::Truncated));
        let mut short = BYTES;
        short[12] = 0x40;
        assert_eq!(split(&short), Err(Broken::Malformed));
    }
}
