//! GTP-U, 3GPP TS 29.281 §5: user packets of mobile networks, UDP port 2152.
//!
//! ```text
//!  0       1       2               4               8
//! +-------+-------+---------------+---------------+-----------------------------+--------
//! |ver 1..|type255|    length     |     TEID      | sequence 2, N-PDU 1, next 1 | packet
//! +-------+-------+---------------+---------------+-----------------------------+--------
//!   001 1 r E S P                                   if E, S or P; extensions while next != 0
//! ```

use crate::reader::Reader;

use super::Broken;

/// UDP port.
pub const PORT: u16 = 2152;

const VERSION_1_GTP: u8 = 0x30;
const VERSION_AND_TYPE: u8 = 0xf0;
const EXTENSION: u8 = 0x04;
const OPTIONAL: u8 = 0x07;
const G_PDU: u8 = 255;
/// Extension headers of one message; more are malformed.
const EXTENSIONS_MAX: usize = 16;

/// The user packet inside. Anything but a G-PDU is malformed here: it carries none.
///
/// The tunnel endpoint identifier is not given: each direction has its own, so it names no network.
pub fn inner(bytes: &[u8]) -> Result<&[u8], Broken> {
    let mut reader = Reader::new(bytes);
    let Some(&[flags, kind, _, _, _, _, _, _]) = reader.take_array() else {
        return Err(Broken::Truncated);
    };
    if flags & VERSION_AND_TYPE != VERSION_1_GTP || kind != G_PDU {
        return Err(Broken::Malformed);
    }
    if flags & OPTIONAL != 0 {
        let Some(&[_, _, _, next]) = reader.take_array() else {
            return Err(Broken::Truncated);
        };
        if flags & EXTENSION != 0 {
            pass_extensions(&mut reader, next)?;
        }
    }
    Ok(reader.rest())
}

fn pass_extensions(reader: &mut Reader<'_>, first: u8) -> Result<(), Broken> {
    let mut next = first;
    for _ in 0..EXTENSIONS_MAX {
        if next == 0 {
            return Ok(());
        }
        let fours = reader.u8().ok_or(Broken::Truncated)?;
        let content = (usize::from(fours) * 4)
            .checked_sub(1)
            .ok_or(Broken::Malformed)?;
        let extension = reader.take(content).ok_or(Broken::Truncated)?;
        next = *extension.last().ok_or(Broken::Malformed)?;
    }
    Err(Broken::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<&[u8], Broken>) {
        assert_eq!(inner(bytes), expected);
    }

    #[test]
    fn optional_fields_and_extensions() {
        check(&[0x30, 255, 0, 1, 0, 0, 0, 1, 0x45], Ok(&[0x45]));
        check(
            &[0x32, 255, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 0x45],
            Ok(&[0x45]),
        );
        check(
            &[0x34, 255, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0, 0x45],
            Ok(&[0x45]),
        );
        check(
            &[0x34, 255, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0x85, 0, 0, 0, 0],
            Err(Broken::Malformed),
        );
        check(&[0x30, 26, 0, 1, 0, 0, 0, 1], Err(Broken::Malformed));
        check(&[0x48, 255, 0, 1, 0, 0, 0, 1], Err(Broken::Malformed));
        check(&[0x30, 255, 0], Err(Broken::Truncated));
    }
}
