//! BSD loopback, LINKTYPE_NULL and LINKTYPE_LOOP: the address family in four bytes, in the byte order of the machine
//! that captured or in network order.

use super::{Broken, Split};

/// AF_INET everywhere.
const INET: u32 = 2;
/// AF_INET6 of Linux, Windows, NetBSD and OpenBSD, FreeBSD, macOS.
const INET6: [u32; 5] = [10, 23, 24, 28, 30];

/// Splits off the family: whether an IP packet follows, and the bytes after.
pub fn split(bytes: &[u8]) -> Split<'_, bool> {
    let Some((family, after)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    let is_ip = |family: u32| family == INET || INET6.contains(&family);
    // All families are small numbers, so they are valid in one byte order only.
    Ok((
        is_ip(u32::from_le_bytes(*family)) || is_ip(u32::from_be_bytes(*family)),
        after,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders() {
        for ip in [[2, 0, 0, 0], [0, 0, 0, 2], [30, 0, 0, 0], [0, 0, 0, 24]] {
            assert_eq!(split(&ip), Ok((true, &[][..])));
        }
        assert_eq!(split(&[7, 0, 0, 0, 1]), Ok((false, &[1][..])));
        assert_eq!(split(&[2, 0, 0]), Err(Broken::Truncated));
    }
}
