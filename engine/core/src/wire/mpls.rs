//! MPLS label stack, RFC 3032 §2.1; the pseudowire control word, RFC 4385 §3.
//!
//! ```text
//! +---------------+---+-+-------+
//! |   label 20    |tc |S| ttl 8 |   repeated until S; what follows is not part of the stack
//! +---------------+---+-+-------+
//! ```

use super::{Broken, Split, ethernet, skip};

/// UDP port of MPLS in UDP, RFC 7510 §3.
pub const UDP_PORT: u16 = 6635;

/// Labels of one stack. Deeper stacks are not routed in practice (four are common, segment routing uses ten).
pub const LABELS_MAX: usize = 32;

/// What follows the stack, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// An IPv4 or IPv6 packet.
    Ip,
    /// An Ethernet frame (a pseudowire, its control word removed).
    Ethernet,
}

/// Splits off the stack.
///
/// RFC 4385 reserves values of the first nibble: 4 and 6 are IP, 0 is a control word. Pseudowires without one carry a frame
/// whose first nibble may be anything, so a 0 that leads to no known EtherType is read again without it.
pub fn split(bytes: &[u8]) -> Split<'_, Inner> {
    let mut rest = bytes;
    for _ in 0..LABELS_MAX {
        let Some((&[_, _, class_bottom, _], after)) = rest.split_first_chunk() else {
            return Err(Broken::Truncated);
        };
        rest = after;
        if class_bottom & 1 != 0 {
            return split_inner(rest);
        }
    }
    Err(Broken::Malformed)
}

fn split_inner(bytes: &[u8]) -> Split<'_, Inner> {
    match bytes.first().ok_or(Broken::Truncated)? >> 4 {
        4 | 6 => Ok((Inner::Ip, bytes)),
        0 if skip(bytes, 4).is_ok_and(ethernet::is_likely) => {
            Ok((Inner::Ethernet, skip(bytes, 4)?))
        }
        _ => Ok((Inner::Ethernet, bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pops_until_the_bottom() {
        assert_eq!(
            split(&[0, 1, 0, 64, 0, 2, 1, 64, 0x45]),
            Ok((Inner::Ip, &[0x45][..]))
        );
        assert_eq!(split(&[0, 1, 0, 64, 0, 2]), Err(Broken::Truncated));
        assert_eq!(split(&[0; 4 * LABELS_MAX + 4]), Err(Broken::Malformed));
    }

    #[test]
    fn a_control_word_is_removed_and_a_bare_frame_is_not_harmed() {
        let frame = [&[0x02; 12][..], &[8, 0]].concat();
        let with = [&[0, 1, 1, 64, 0, 0, 0, 0][..], &frame].concat();
        let without = [&[0, 1, 1, 64][..], &frame].concat();
        assert_eq!(split(&with), Ok((Inner::Ethernet, &frame[..])));
        assert_eq!(split(&without), Ok((Inner::Ethernet, &frame[..])));
    }
}
