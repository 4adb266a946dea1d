//! Teredo, RFC 4380 §5.1.1: IPv6 in UDP port 3544, after an authentication and an origin indication, both optional.
//!
//! ```text
//! authentication: 00 01 | id length 1 | value length 1 | id | value | nonce 8 | confirmation 1
//! origin:         00 00 | port 2 | address 4
//! ```

use crate::reader::Reader;

use super::Broken;

/// UDP port of servers and relays.
pub const PORT: u16 = 3544;

const AUTHENTICATION: [u8; 2] = [0, 1];
const ORIGIN: [u8; 2] = [0, 0];

/// The IPv6 packet inside.
pub fn inner(bytes: &[u8]) -> Result<&[u8], Broken> {
    let mut reader = Reader::new(bytes);
    if reader.rest().starts_with(&AUTHENTICATION) {
        let Some(&[_, _, id, value]) = reader.take_array() else {
            return Err(Broken::Truncated);
        };
        reader
            .take(usize::from(id) + usize::from(value) + 9)
            .ok_or(Broken::Truncated)?;
    }
    if reader.rest().starts_with(&ORIGIN) {
        reader.take(8).ok_or(Broken::Truncated)?;
    }
    match reader.rest().first() {
        Some(first) if first >> 4 == 6 => Ok(reader.rest()),
        Some(_) => Err(Broken::Malformed),
        None => Err(Broken::Truncated),
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
    fn indications_are_passed_over() {
        check(&[0x60, 1], Ok(&[0x60, 1]));
        check(&[0, 0, 1, 2, 3, 4, 5, 6, 0x60], Ok(&[0x60]));
        check(
            &[
                0, 1, 1, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0x60,
            ],
            Ok(&[0x60]),
        );
        check(&[0, 1, 1], Err(Broken::Truncated));
        check(&[0x45], Err(Broken::Malformed));
    }
}
