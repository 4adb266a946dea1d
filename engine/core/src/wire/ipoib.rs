//! IP over InfiniBand, LINKTYPE_IPOIB: a global routing header of 40 bytes, then EtherType 2 and two reserved bytes
//! (RFC 4391 §6).

use super::{Broken, Split};

/// Splits off the headers and returns the EtherType of what follows.
pub fn split(bytes: &[u8]) -> Split<'_, Option<u16>> {
    let Some(([.., t1, t0, _, _], after)) = bytes.split_first_chunk::<44>() else {
        return Err(Broken::Truncated);
    };
    Ok((Some(u16::from_be_bytes([*t1, *t0])), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_after_forty() {
        let bytes = [&[0; 40][..], &[0x86, 0xdd, 0, 0, 7]].concat();
        assert_eq!(split(&bytes), Ok((Some(0x86dd), &[7][..])));
        assert_eq!(split(&bytes[..43]), Err(Broken::Truncated));
    }
}
