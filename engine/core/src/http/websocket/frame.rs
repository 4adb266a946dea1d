//! The header of a frame (RFC 6455 §5.2), and what is wrong with one.

/// Octets of the longest header.
pub(super) const HEADER_MAX: usize = 14;

/// Octets of the part that shows how long a header is.
pub(super) const HEADER_START: usize = 2;

/// The longest payload of a control frame (§5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    /// Ping or pong.
    Other,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) opcode: Opcode,
    /// The last one of its message.
    pub(super) is_final: bool,
    /// RSV1, which compression uses (RFC 7692 §6).
    pub(super) is_compressed: bool,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) length: u64,
}

/// The header breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Octets of the header that begins so.
pub(super) fn header_length(start: [u8; HEADER_START]) -> usize {
    let [_, second] = start;
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    HEADER_START + length + mask
}

/// Whether the first octets of a client begin a frame, which no message of HTTP/1 begins with. `may_be_compressed`: its handshake
/// offers compression.
pub(in crate::http) fn begins_masked_frame(bytes: &[u8], may_be_compressed: bool) -> bool {
    let Some((first, rest)) = bytes.split_first() else {
        return false;
    };
    let is_data = matches!(first & 0x0f, 1 | 2);
    let is_control = matches!(first & 0x8f, 0x88..=0x8a);
    let is_plain = first & 0x70 == 0;
    let is_compressed = first & 0x70 == 0x40 && is_data && may_be_compressed;
    let is_masked = rest.first().is_none_or(|second| second & 0x80 != 0);
    (is_data || is_control) && (is_plain || is_compressed) && is_masked
}

impl Frame {
    /// Reads a header, of which there are as many octets as [`header_length`] has.
    pub(super) fn parse(header: &[u8]) -> Result<Self, Broken> {
        let (&[first, second], rest) = header.split_first_chunk().ok_or(Broken)?;
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 | 10 => Opcode::Other,
            _ => return Err(Broken),
        };
        let (length, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk().ok_or(Broken)?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk().ok_or(Broken)?;
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        let mask = (second & 0x80 != 0).then(|| rest.first_chunk().copied().unwrap_or_default());
        let frame = Self {
            opcode,
            is_final: first & 0x80 != 0,
            is_compressed: first & 0x40 != 0,
            mask,
            length,
        };
        let is_broken = first & 0x30 != 0
            || length >> 63 != 0
            || (frame.is_compressed && !frame.begins_message())
            || (frame.is_control() && (length > CONTROL_BYTES_MAX || !frame.is_final));
        if is_broken { Err(Broken) } else { Ok(frame) }
    }

    pub(super) fn begins_message(&self) -> bool {
        matches!(self.opcode, Opcode::Text | Opcode::Binary)
    }

    pub(super) fn is_control(&self) -> bool {
        matches!(self.opcode, Opcode::Close | Opcode::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &[u8], expected: Result<(Opcode, u64), Broken>) {
        assert_eq!(
            header_length(*header.first_chunk().unwrap()),
            header.len(),
            "{header:x?}"
        );
        let found = Frame::parse(header).map(|frame| (frame.opcode, frame.length));
        assert_eq!(found, expected, "{header:x?}");
    }

    #[test]
    fn what_a_client_begins_with() {
        let begins = |bytes: &[u8]| begins_masked_frame(bytes, false);
        assert!(begins(&[0x81, 0x85]) && begins(&[0x01, 0x85]) && begins(&[0x89, 0x80]));
        assert!(begins(&[0x82]) && !begins(&[]));
        assert!(!begins(&[0x81, 5]), "without a mask");
        assert!(!begins(&[0x80, 0x85]) && !begins(&[0x09, 0x80]) && !begins(&[0x8b, 0x80]));
        assert!(!begins(&[0xa1, 0x85]) && !begins(b"GET / HTTP/1.1") && !begins(b"\r\n"));
        for bytes in [&[0xc1, 0x85], &[0x41, 0x85]] {
            assert!(!begins(bytes) && begins_masked_frame(bytes, true));
        }
        assert!(!begins_masked_frame(&[0xc9, 0x80], true));
    }

    #[test]
    fn headers_of_every_length() {
        check(&[0x81, 5], Ok((Opcode::Text, 5)));
        check(&[0x82, 0xfd, 1, 2, 3, 4], Ok((Opcode::Binary, 125)));
        check(&[0x00, 126, 1, 0], Ok((Opcode::Continuation, 256)));
        check(
            &[0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0],
            Ok((Opcode::Text, 1 << 32)),
        );
        let longest = [0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 7, 9, 8, 7, 6];
        assert_eq!(longest.len(), HEADER_MAX);
        check(&longest, Ok((Opcode::Text, 7)));
        assert_eq!(Frame::parse(&longest).unwrap().mask, Some([9, 8, 7, 6]));
        check(&[0x88, 0x80, 1, 2, 3, 4], Ok((Opcode::Close, 0)));
        check(&[0x89, 125], Ok((Opcode::Other, 125)));
        // A length in more octets than it needs is read all the same.
        check(&[0x81, 126, 0, 5], Ok((Opcode::Text, 5)));
    }

    #[test]
    fn headers_that_break_the_protocol() {
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            check(&[0x80 | opcode, 0], Err(Broken));
        }
        check(&[0xa1, 0], Err(Broken));
        check(&[0x91, 0], Err(Broken));
        check(&[0xc0, 0], Err(Broken));
        check(&[0xc9, 0], Err(Broken));
        check(&[0x09, 0], Err(Broken));
        check(&[0x88, 126, 0, 126], Err(Broken));
        check(&[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Err(Broken));
    }
}
