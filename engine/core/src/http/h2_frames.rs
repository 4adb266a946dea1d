//! Frames of HTTP/2 (RFC 9113 §4.1), recognised where the preface of a connection was not captured.
//!
//! ```text
//! frame = length(24) type(8) flags(8) reserved(1) stream(31) payload
//! ```
//!
//! Endpoints write whole frames, so a segment mostly begins with one. Only frames that end where the bytes end, or two of
//! them, are taken for HTTP/2.

/// The length that a frame may have unless the peer has set another one.
const FRAME_BYTES_MAX: usize = 16_384;

/// Streams beyond this number are not taken for any: a connection is seldom used for so many calls.
const STREAM_MAX: u32 = 1 << 24;

/// Whether `bytes`, the first of a segment, are frames.
pub(super) fn are_frames(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut frames = 0;
    while let Some((header, payload)) = rest.split_first_chunk() {
        let Some(length) = length_of(header) else {
            return false;
        };
        frames += 1;
        match payload.get(length..) {
            Some(next) => rest = next,
            None => return frames > 1,
        }
    }
    frames > 0 && (rest.is_empty() || frames > 1)
}

/// The length of a frame's payload, if its header is one.
fn length_of(header: &[u8; 9]) -> Option<usize> {
    let &[high, middle, low, kind, flags, a, b, c, d] = header;
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    let stream = u32::from_be_bytes([a, b, c, d]);
    let on_stream = stream > 0 && stream < STREAM_MAX;
    let (fits, allowed) = match kind {
        // DATA, HEADERS.
        0 => (on_stream, 0x09),
        1 => (on_stream && length > 0, 0x2d),
        // PRIORITY, RST_STREAM.
        2 => (on_stream && length == 5, 0),
        3 => (on_stream && length == 4, 0),
        // SETTINGS, and its acknowledgement.
        4 if flags == 1 => (stream == 0 && length == 0, 1),
        4 => (stream == 0 && length.is_multiple_of(6), 0),
        // PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION.
        5 => (on_stream && length >= 4, 0x0c),
        6 => (stream == 0 && length == 8, 1),
        7 => (stream == 0 && length >= 8, 0),
        8 => (stream < STREAM_MAX && length == 4, 0),
        9 => (on_stream, 4),
        _ => (false, 0),
    };
    (fits && flags & !allowed == 0 && length <= FRAME_BYTES_MAX).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: bool) {
        assert_eq!(are_frames(bytes), expected, "{}", bytes.escape_ascii());
    }

    #[test]
    fn frames_and_what_resembles_them() {
        let ping = b"\0\0\x08\x06\0\0\0\0\0pingping";
        let update = b"\0\0\x04\x08\0\0\0\0\x05\0\x01\0\0";
        let headers = b"\0\0\x03\x01\x04\0\0\0\x07\x82\x86\x84";
        let data = b"\0\x40\0\0\0\0\0\0\x07{\"a\":";
        check(ping, true);
        check(update, true);
        check(headers, true);
        check(&[&headers[..], data].concat(), true);
        check(data, false);
        check(&ping[..12], false);
        check(b"", false);
        check(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d", true);
        check(b"\0\0\0\x2d\0\x03\0\x09\0\0\0\x05\0\x08producer", false);
        check(b"\0\0\x08\x06\x02\0\0\0\0pingping", false);
        check(b"GET / HTTP/1.1\r\n\r\n", false);
        check(&[0; 64], false);
    }
}
