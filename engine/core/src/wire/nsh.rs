//! Network service header, RFC 8300 §2.2.
//!
//! ```text
//!  0               2       3       4               8
//! +---+-+-+---+---+-------+-------+---------------+----------------------
//! |ver|O|U|ttl|len|md type| next  | path, index   | context up to 4 * len
//! +---+-+-+---+---+-------+-------+---------------+----------------------
//! ```

use super::vxlan::Inner;
use super::{Broken, Split, skip};

/// Splits off the header, its context included, and returns the kind of content.
pub fn split(bytes: &[u8]) -> Split<'_, Inner> {
    let Some((&[version, len, _, next], _)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    let total = usize::from(len & 0x3f) * 4;
    if version >> 6 != 0 || total < 8 {
        return Err(Broken::Malformed);
    }
    let inner = Inner::from_next_protocol(next).ok_or(Broken::Malformed)?;
    Ok((inner, skip(bytes, total)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<(Inner, &[u8]), Broken>) {
        assert_eq!(split(bytes), expected);
    }

    #[test]
    fn length_and_next() {
        check(&[0, 2, 2, 3, 0, 0, 1, 255, 7], Ok((Inner::Ethernet, &[7])));
        check(&[0, 2, 2, 1, 0, 0, 1, 255, 7], Ok((Inner::Ip, &[7])));
        check(&[0, 1, 2, 3, 0, 0, 1, 255], Err(Broken::Malformed));
        check(&[0, 3, 2, 3, 0, 0, 1, 255], Err(Broken::Truncated));
        check(&[0, 2, 2, 9, 0, 0, 1, 255], Err(Broken::Malformed));
    }
}
