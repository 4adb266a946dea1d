//! GRE, RFC 2784 and 2890; NVGRE, RFC 7637; version 1 for PPTP, RFC 2637 §4.1.
//!
//! ```text
//!  0               2               4
//! +-+-+-+-+-----+-+---------------+----------------------+---------+--------------+--------
//! |C|R|K|S| ... |v|   protocol    | checksum, reserved 4 |  key 4  |  sequence 4  | payload
//! +-+-+-+-+-----+-+---------------+----------------------+---------+--------------+--------
//!                                   if C                    if K      if S
//! version 1:                        key = length 2, call 2; acknowledgement 4 if A (0x0080)
//! with R (RFC 1701): the checksum field is there, and before the payload source routes, each family 2 | offset 1 |
//! length 1 | data, up to one of family and length 0
//! ```

use crate::reader::Reader;

use super::{Broken, Split};

/// UDP port of GRE in UDP, RFC 8086 §8.
pub const UDP_PORT: u16 = 4754;

const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const ACKNOWLEDGEMENT: u16 = 0x0080;
const VERSION: u16 = 0x0007;

/// Kind of content, and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// EtherType of the payload, or an ERSPAN number.
    pub protocol: u16,
    /// The key. Never that of version 1: its call number differs between the two directions.
    pub key: Option<u32>,
    /// Whether there is a sequence number: ERSPAN II has one, ERSPAN I has none.
    pub sequenced: bool,
}

/// Splits off the header with its optional fields; source routes, which RFC 2784 withdrew, only in version 0.
pub fn split(bytes: &[u8]) -> Split<'_, Header> {
    let mut reader = Reader::new(bytes);
    let (flags, protocol) = (next_u16(&mut reader)?, next_u16(&mut reader)?);
    let version = flags & VERSION;
    let routed = flags & ROUTING != 0;
    if version > 1 || (routed && version == 1) {
        return Err(Broken::Malformed);
    }
    if routed || flags & CHECKSUM != 0 {
        next_u32(&mut reader)?;
    }
    let key = if flags & KEY != 0 {
        Some(next_u32(&mut reader)?)
    } else {
        None
    };
    let sequenced = flags & SEQUENCE != 0;
    if sequenced {
        next_u32(&mut reader)?;
    }
    if version == 1 && flags & ACKNOWLEDGEMENT != 0 {
        next_u32(&mut reader)?;
    }
    if routed {
        skip_routes(&mut reader)?;
    }
    Ok((
        Header {
            protocol,
            key: key.filter(|_| version == 0),
            sequenced,
        },
        reader.rest(),
    ))
}

fn skip_routes(reader: &mut Reader<'_>) -> Result<(), Broken> {
    loop {
        let &[f1, f0, _, length] = reader.take_array().ok_or(Broken::Truncated)?;
        reader.take(usize::from(length)).ok_or(Broken::Truncated)?;
        if [f1, f0, length] == [0; 3] {
            return Ok(());
        }
    }
}

fn next_u16(reader: &mut Reader<'_>) -> Result<u16, Broken> {
    reader.u16().ok_or(Broken::Truncated)
}

fn next_u32(reader: &mut Reader<'_>) -> Result<u32, Broken> {
    reader.u32().ok_or(Broken::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<(Option<u32>, bool, &[u8]), Broken>) {
        assert_eq!(
            split(bytes).map(|(header, after)| (header.key, header.sequenced, after)),
            expected
        );
    }

    #[test]
    fn optional_fields() {
        check(&[0, 0, 8, 0, 1], Ok((None, false, &[1])));
        check(
            &[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 1],
            Ok((Some(7), true, &[1])),
        );
        check(&[0x20, 0, 8, 0, 0, 0, 0], Err(Broken::Truncated));
        check(&[0x40, 1, 8, 0, 0, 0, 0, 0], Err(Broken::Malformed));
        check(&[0, 2, 8, 0], Err(Broken::Malformed));
    }

    #[test]
    fn source_routes_are_passed_over() {
        let route = [0, 2, 0, 4, 1, 2, 3, 4];
        let bytes = [
            &[0x40, 0, 8, 0, 0, 0, 0, 0][..],
            &route,
            &route,
            &[0; 4],
            &[1],
        ]
        .concat();
        check(&bytes, Ok((None, false, &[1])));
        check(&bytes[..23], Err(Broken::Truncated));
    }

    #[test]
    fn a_call_number_is_no_key() {
        check(
            &[
                0x30, 0x81, 0x88, 0x0b, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2, 9,
            ],
            Ok((None, true, &[9])),
        );
    }
}
