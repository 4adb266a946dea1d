//! Whether bytes are text: UTF-8 without control characters but tab and line ends.

/// Whether a value is text. One that is cut may end within a character.
pub(super) fn is_text(value: &[u8], is_cut: bool) -> bool {
    !engine_escape::has_control(value)
        && match simdutf8::compat::from_utf8(value) {
            Ok(_) => true,
            Err(error) => is_cut && error.error_len().is_none(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow obvious twin.
    fn naive(value: &[u8], is_cut: bool) -> bool {
        let text = match str::from_utf8(value) {
            Ok(text) => text,
            Err(error) if is_cut && error.error_len().is_none() => {
                str::from_utf8(&value[..error.valid_up_to()]).unwrap()
            }
            Err(_) => return false,
        };
        text.chars()
            .all(|letter| !letter.is_ascii_control() || matches!(letter, '\t' | '\n' | '\r'))
    }

    #[track_caller]
    fn check(value: &[u8]) {
        for is_cut in [false, true] {
            let expected = naive(value, is_cut);
            let shown = value.escape_ascii();
            assert_eq!(is_text(value, is_cut), expected, "{is_cut} {shown}");
        }
    }

    #[test]
    fn every_byte_at_every_place() {
        for length in [1, 15, 16, 17, 63, 64, 65, 81, 150] {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut value = vec![b'x'; length];
                    value[at] = byte;
                    check(&value);
                }
            }
        }
    }

    #[test]
    fn only_text_is_plain() {
        for text in ["", "{\"a\":\t1}\r\n", "ä€"] {
            assert!(is_text(text.as_bytes(), true), "{text}");
            check(text.as_bytes());
        }
        assert!(is_text(b"\xe2\x82", true), "cut within a character");
        for other in [
            &b"\xe2\x82"[..],
            b"\x1f\x8b\x08\0",
            b"\x0a\x03abc\x07",
            b"a\xffb",
            b"a\x7f",
        ] {
            check(other);
        }
    }
}
