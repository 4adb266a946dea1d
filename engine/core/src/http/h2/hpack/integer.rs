//! Integers of HPACK (RFC 7541 §5.1): a prefix within an octet, and octets of seven bits after it.
//!
//! More than 32 bits, or more than [`OCTETS_MAX`] octets after the prefix, are broken. An integer that is longer than it
//! has to be is accepted.

use super::broken::Broken;

/// Octets after the prefix that 32 bits need.
const OCTETS_MAX: usize = 5;

/// Reads the integer whose prefix are the lowest `prefix` bits of the first octet: its value and its length in octets;
/// nothing if the bytes end within it.
#[inline]
pub(super) fn read(bytes: &[u8], prefix: u32) -> Result<Option<(u32, usize)>, Broken> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let most = (1_u32 << prefix) - 1;
    let value = u32::from(first) & most;
    if value < most {
        return Ok(Some((value, 1)));
    }
    read_rest(value, rest)
}

fn read_rest(prefix: u32, octets: &[u8]) -> Result<Option<(u32, usize)>, Broken> {
    let mut value = u64::from(prefix);
    for (place, octet) in octets.iter().take(OCTETS_MAX).enumerate() {
        value += u64::from(octet & 0x7f) << (7 * place);
        if octet & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| Broken)?;
            return Ok(Some((value, place + 2)));
        }
    }
    if octets.len() < OCTETS_MAX {
        Ok(None)
    } else {
        Err(Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], prefix: u32, expected: Result<Option<(u32, usize)>, Broken>) {
        assert_eq!(read(bytes, prefix), expected, "{bytes:x?}");
        let whole = expected
            .ok()
            .flatten()
            .map_or(bytes.len(), |(_, length)| length);
        for cut in 0..whole.min(OCTETS_MAX + 1) {
            assert_eq!(read(&bytes[..cut], prefix), Ok(None), "{cut} of {bytes:x?}");
        }
    }

    #[test]
    fn values_and_lengths() {
        // RFC 7541 Appendix C.1.
        check(&[0b1110_1010], 5, Ok(Some((10, 1))));
        check(&[0b0001_1111, 0x9a, 0x0a], 5, Ok(Some((1337, 3))));
        check(&[42], 8, Ok(Some((42, 1))));
        // Longer than needed; the largest one; one more.
        check(&[0x7f, 0x80, 0x80, 0x00], 7, Ok(Some((127, 4))));
        check(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x00], 7, Ok(Some((127, 6))));
        check(
            &[0xff, 0x80, 0xff, 0xff, 0xff, 0x0f],
            7,
            Ok(Some((u32::MAX, 6))),
        );
        check(&[0xff, 0x81, 0xff, 0xff, 0xff, 0x0f], 7, Err(Broken));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 7, Err(Broken));
        check(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 7, Err(Broken));
    }
}
