//! AYIYA, draft-massar-v6ops-ayiya §3: IPv6 of tunnel brokers, UDP port 5072.
//!
//! ```text
//! id length 4 bits, id type 4 | signature length 4, hash 4 | auth 4, opcode 4 | next header 1 | epoch 4
//! identity 2^id length | signature 4 * length | packet
//! ```

use crate::reader::Reader;

use super::Broken;

/// UDP port.
pub const PORT: u16 = 5072;

const OPCODE_FORWARD: u8 = 1;
const IPV4: u8 = 4;
const IPV6: u8 = 41;

/// The IP packet inside. Queries and other messages carry none and are malformed here.
pub fn inner(bytes: &[u8]) -> Result<&[u8], Broken> {
    let mut reader = Reader::new(bytes);
    let Some(&[id, signature, opcode, next, _, _, _, _]) = reader.take_array() else {
        return Err(Broken::Truncated);
    };
    if opcode & 0x0f != OPCODE_FORWARD || !matches!(next, IPV4 | IPV6) {
        return Err(Broken::Malformed);
    }
    reader
        .take((1 << (id >> 4)) + usize::from(signature >> 4) * 4)
        .ok_or(Broken::Truncated)?;
    Ok(reader.rest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_and_signature_are_passed_over() {
        let head = [0x11, 0x11, 0x11, 41, 0, 0, 0, 0];
        let message = [&head[..], &[1, 1, 2, 2, 2, 2, 0x60]].concat();
        assert_eq!(inner(&message), Ok(&[0x60][..]));
        assert_eq!(inner(&message[..12]), Err(Broken::Truncated));
        assert_eq!(
            inner(&[0x11, 0x11, 0x10, 41, 0, 0, 0, 0]),
            Err(Broken::Malformed)
        );
    }
}
