//! L2TP version 2 data messages, RFC 2661 §3.1: PPP in UDP port 1701.
//!
//! ```text
//! T L x x S x O P x x x x ver 4 | length 2 if L | tunnel 2 | session 2 | Ns 2, Nr 2 if S | offset 2 if O | PPP
//! ```

use crate::reader::Reader;

use super::Broken;

/// UDP port.
pub const PORT: u16 = 1701;

const CONTROL: u16 = 0x8000;
const LENGTH: u16 = 0x4000;
const SEQUENCE: u16 = 0x0800;
const OFFSET: u16 = 0x0200;

/// The PPP frame inside. Control messages carry none and are malformed here.
///
/// Tunnel and session are not given: each direction has its own numbers, so they name no network.
pub fn inner(bytes: &[u8]) -> Result<&[u8], Broken> {
    let mut reader = Reader::new(bytes);
    let flags = reader.u16().ok_or(Broken::Truncated)?;
    if flags & CONTROL != 0 || flags & 0x000f != 2 {
        return Err(Broken::Malformed);
    }
    let fields =
        4 + if flags & LENGTH != 0 { 2 } else { 0 } + if flags & SEQUENCE != 0 { 4 } else { 0 };
    reader.take(fields).ok_or(Broken::Truncated)?;
    if flags & OFFSET != 0 {
        let padding = reader.u16().ok_or(Broken::Truncated)?;
        reader.take(usize::from(padding)).ok_or(Broken::Truncated)?;
    }
    Ok(reader.rest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<&[u8], Broken>) {
        assert_eq!(inner(bytes), expected);
    }

    #[test]
    fn optional_fields() {
        check(&[0, 2, 0, 1, 0, 1, 0x21], Ok(&[0x21]));
        check(
            &[0x4a, 2, 0, 9, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 9, 0x21],
            Ok(&[0x21]),
        );
        check(&[0xc8, 2, 0, 1, 0, 1], Err(Broken::Malformed));
        check(&[0, 3, 0, 1, 0, 1], Err(Broken::Malformed));
        check(&[0, 2, 0, 1], Err(Broken::Truncated));
    }
}
