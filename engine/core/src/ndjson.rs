//! The text of JSON strings in a line, from any bytes.
//!
//! RFC 8259 §7. `"`, `\` and controls below 0x20 are escaped; DEL, `<`, `>`, `&` and non-ASCII stay as they are. Every
//! longest run that begins a character and does not end one becomes one U+FFFD (Unicode 3.9, best practice; what
//! `String::from_utf8_lossy` does). The reference logger writes one per byte (`docs/contract.md`, section 1.5, allows both). The output is
//! valid JSON whatever the input is.

/// Appends the JSON string text of `bytes`.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    enclose(b"", bytes, b"", out);
}

/// Appends `before` as it is, the JSON string text of `bytes`, and `after` as it is.
#[inline]
pub fn enclose(before: &[u8], bytes: &[u8], after: &[u8], out: &mut Vec<u8>) {
    let start = out.len() + before.len();
    if !engine_escape::enclose(before, bytes, after, out) {
        validate_enclosed(bytes, start, after, out);
    }
}

/// As [`validate`], for a value that is complete and has `after` behind it.
#[inline(never)]
fn validate_enclosed(bytes: &[u8], start: usize, after: &[u8], out: &mut Vec<u8>) {
    out.truncate(out.len() - after.len());
    let mut tail = Tail::default();
    validate(&mut tail, bytes, start, out);
    escape_end(&mut tail, out);
    out.extend_from_slice(after);
}

/// Bytes of text that one byte becomes at most, as `\u0001`.
pub const GROWTH_MAX: usize = 6;

/// As [`enclose`], with as much of the value as has `room` bytes of text; how many bytes of it that are. A value that was cut
/// may exceed the room by a character. One that is known to be UTF-8 (`is_utf8`) is not examined for it again.
#[inline]
pub fn enclose_within(
    before: &[u8],
    (bytes, is_utf8): (&[u8], bool),
    after: &[u8],
    room: usize,
    out: &mut Vec<u8>,
) -> usize {
    debug_assert!(!is_utf8 || std::str::from_utf8(bytes).is_ok());
    if bytes.len() <= room / GROWTH_MAX {
        if is_utf8 {
            engine_escape::enclose(before, bytes, after, out);
        } else {
            enclose(before, bytes, after, out);
        }
        return bytes.len();
    }
    out.extend_from_slice(before);
    let mut tail = Tail::default();
    let taken = escape_some(&mut tail, bytes, room, out);
    escape_end(&mut tail, out);
    out.extend_from_slice(after);
    taken
}

/// Appends a number in decimal digits. The standard library uses a formatter, which costs several times as much.
pub fn decimal(number: u64, out: &mut Vec<u8>) {
    const EIGHT: u64 = 100_000_000;
    // Most intervals have one digit, and all codes have three.
    if number < 10 {
        return out.push(b'0' + number as u8);
    }
    if (100..1000).contains(&number) {
        let digits = [number / 100, number / 10 % 10, number % 10];
        return out.extend_from_slice(&digits.map(|digit| b'0' + digit as u8));
    }
    let (high, low) = (number / EIGHT, number % EIGHT);
    let digits = eight_digits(low);
    let mut zeros = 0;
    if high > 0 {
        decimal(high, out);
    } else {
        let not_zero = u64::from_le_bytes(digits) ^ u64::from_le_bytes(*b"00000000");
        zeros = (not_zero.trailing_zeros() as usize / 8).min(digits.len() - 1);
    }
    out.extend_from_slice(digits.get(zeros..).unwrap_or_default());
}

/// The digits of a number below 10^8: it is divided in lanes of one word, by 10^4, 100 and 10.
const fn eight_digits(number: u64) -> [u8; 8] {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    // 10486 / 2^20 is 1/100 for what has four digits, 103 / 2^10 is 1/10 for what has two.
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    (tens | ((twos - 10 * tens) << 8) | 0x3030_3030_3030_3030).to_le_bytes()
}

/// The first bytes of a character whose rest was not received yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail {
    bytes: [u8; 4],
    len: usize,
}

impl Tail {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(free) = self.bytes.get_mut(self.len) {
            *free = byte;
            self.len += 1;
        }
    }
}

/// Appends the next part of a value that is received in slices. A character that is split between two of them is written
/// whole.
pub fn escape_part(tail: &mut Tail, mut bytes: &[u8], out: &mut Vec<u8>) {
    while let (1.., Some((&next, rest))) = (tail.len, bytes.split_first()) {
        tail.push(next);
        match std::str::from_utf8(tail.bytes()) {
            Ok(_) => {
                out.extend_from_slice(tail.bytes());
                tail.len = 0;
                bytes = rest;
            }
            Err(error) if error.error_len().is_none() => bytes = rest,
            // `next` does not continue the character: it is handled below.
            Err(_) => {
                replace(out);
                tail.len = 0;
            }
        }
    }
    let before = out.len();
    if !engine_escape::escape(bytes, out) {
        validate(tail, bytes, before, out);
    }
}

/// As [`escape_part`], with as much as has `room` bytes of text; how many bytes that are.
#[inline]
pub fn escape_within(tail: &mut Tail, bytes: &[u8], room: usize, out: &mut Vec<u8>) -> usize {
    if bytes.len() <= room / GROWTH_MAX {
        escape_part(tail, bytes, out);
        return bytes.len();
    }
    escape_some(tail, bytes, room, out)
}

/// Step by step, each as long as certainly fits: nothing is written that has to be taken back, and as long as the text grows
/// little, a few steps are enough.
#[inline(never)]
fn escape_some(tail: &mut Tail, bytes: &[u8], room: usize, out: &mut Vec<u8>) -> usize {
    let end = out.len().saturating_add(room);
    let mut rest = bytes;
    while !rest.is_empty() {
        let fits = end.saturating_sub(out.len()) / GROWTH_MAX;
        let Some((part, later)) = rest.split_at_checked(fits.min(rest.len())) else {
            break;
        };
        if part.is_empty() {
            break;
        }
        escape_part(tail, part, out);
        rest = later;
    }
    bytes.len() - rest.len()
}

/// Validates `bytes`, which were just escaped to what `out` holds after `before`, and replaces what is not UTF-8.
///
/// Nearly all values are ASCII, and the rest nearly always UTF-8, so escaping comes first and ignores characters.
fn validate(tail: &mut Tail, mut bytes: &[u8], before: usize, out: &mut Vec<u8>) {
    let Err(error) = simdutf8::compat::from_utf8(bytes) else {
        return;
    };
    if error.error_len().is_none() {
        // A character continues in the next slice: its bytes are the last, and were copied as they are.
        let unfinished = bytes.get(error.valid_up_to()..).unwrap_or_default();
        unfinished.iter().for_each(|byte| tail.push(*byte));
        return out.truncate(out.len() - unfinished.len());
    }
    out.truncate(before);
    // The next error is probably near: this is no text. A validator that goes byte by byte finds it sooner.
    loop {
        let Err(error) = std::str::from_utf8(bytes) else {
            engine_escape::escape(bytes, out);
            return;
        };
        let Some((valid, rest)) = bytes.split_at_checked(error.valid_up_to()) else {
            return;
        };
        engine_escape::escape(valid, out);
        let Some(wrong) = error.error_len() else {
            rest.iter().for_each(|byte| tail.push(*byte));
            return;
        };
        replace(out);
        bytes = rest.get(wrong..).unwrap_or_default();
    }
}

/// Ends a value that was received in slices: an unfinished character is replaced.
pub fn escape_end(tail: &mut Tail, out: &mut Vec<u8>) {
    if std::mem::take(tail).len > 0 {
        replace(out);
    }
}

fn replace(out: &mut Vec<u8>) {
    out.extend_from_slice("\u{fffd}".as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow obvious twin.
    fn naive(bytes: &[u8]) -> String {
        let mut out = String::new();
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' => out.push_str("\\\""),
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
                    c => out.push(c),
                }
            }
            if !chunk.invalid().is_empty() {
                out.push('\u{fffd}');
            }
        }
        out
    }

    #[track_caller]
    fn check(bytes: &[u8]) {
        let expected = naive(bytes);
        let mut whole = Vec::new();
        escape(bytes, &mut whole);
        assert_eq!(String::from_utf8(whole).unwrap(), expected, "{bytes:x?}");
        for cut in 0..=bytes.len() {
            let (mut tail, mut parts) = (Tail::default(), Vec::new());
            escape_part(&mut tail, &bytes[..cut], &mut parts);
            escape_part(&mut tail, &[], &mut parts);
            escape_part(&mut tail, &bytes[cut..], &mut parts);
            escape_end(&mut tail, &mut parts);
            assert_eq!(
                String::from_utf8(parts).unwrap(),
                expected,
                "{bytes:x?} cut at {cut}"
            );
        }
        let quoted = format!("\"{expected}\"");
        let read: String = serde_json::from_str(&quoted).unwrap();
        assert_eq!(read, String::from_utf8_lossy(bytes));
    }

    #[test]
    fn a_value_stands_between_what_encloses_it() {
        for value in [&b"plain"[..], b"", "\u{e9} \"".as_bytes(), b"\xff\xc3"] {
            let mut out = b"[".to_vec();
            enclose(b"key:", value, b"],", &mut out);
            let expected = format!("[key:{}],", naive(value));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_bounded_text_is_the_longest_beginning_that_fits() {
        let texts: [&[u8]; 5] = [
            &b"plain".repeat(40),
            &[1; 200],
            &"\u{e9}\"\n".repeat(50).into_bytes(),
            &[0xff; 200],
            b"",
        ];
        for text in texts {
            let is_utf8 = std::str::from_utf8(text).is_ok();
            for room in 0..=text.len() * GROWTH_MAX + 1 {
                let mut out = b"before".to_vec();
                let taken = enclose_within(b"<", (text, is_utf8), b">", room, &mut out);
                let (mut examined, value) = (b"before".to_vec(), (text, false));
                assert_eq!(
                    enclose_within(b"<", value, b">", room, &mut examined),
                    taken
                );
                assert_eq!(examined, out);
                let expected = format!("before<{}>", naive(&text[..taken]));
                assert_eq!(String::from_utf8(out).unwrap(), expected);
                let length = naive(&text[..taken]).len();
                assert!(length < room + 4, "{length} of {room}");
                let (mut tail, mut parts, mut in_parts) = (Tail::default(), Vec::new(), 0);
                for part in text.chunks(7) {
                    let done = escape_within(
                        &mut tail,
                        part,
                        room.saturating_sub(parts.len()),
                        &mut parts,
                    );
                    in_parts += done;
                    if done < part.len() {
                        break;
                    }
                }
                escape_end(&mut tail, &mut parts);
                assert_eq!(String::from_utf8(parts).unwrap(), naive(&text[..in_parts]));
                // What is left of the room would not have been enough for another byte of the longest text.
                assert!(taken == text.len() || length + GROWTH_MAX + 4 > room);
                assert!(in_parts.abs_diff(taken) <= GROWTH_MAX);
            }
        }
    }

    #[test]
    fn numbers_are_written_as_the_library_writes_them() {
        let powers = (0..20).map(|digits| 10_u64.pow(digits));
        let around = powers.flat_map(|power| [power - 1, power, power + 1]);
        let spread = (0..20_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 64));
        for number in around.chain(spread).chain([u64::MAX]) {
            let mut out = Vec::new();
            decimal(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn known_texts() {
        check(b"");
        check(b"plain text that is longer than eight bytes");
        check(
            &b"and longer than a block, with \"quotes\" at the end of it \"\"\\ \x01 and more"
                .repeat(5),
        );
        check("a\0b\x01c\x07\x1b\x7f\tf\ng\r\"\\\u{2028}\u{85}<&>".as_bytes());
        check("😀 Zoë ok 😀".as_bytes());
        check(b"\xf0\x9f\x98a\xc3(\xed\xa0\x80z\xff\xfe\xe2\x82");
        check(b"\xf0\x9f\xf0\x9f\x98\x80\xc3\xc3\xa9");
    }

    #[test]
    fn random_texts() {
        const PARTS: [&[u8]; 12] = [
            b"abcdefgh",
            b"\"",
            b"\\",
            b"\x1f",
            b" ",
            b"\xc3\xa9",
            b"\xe2\x82\xac",
            b"\xf0\x9f\x98\x80",
            b"\xf0",
            b"\x9f\x98",
            b"\xff",
            b"\x7f",
        ];
        let mut state = 7u64;
        for _ in 0..2_000 {
            let mut bytes = Vec::new();
            for _ in 0..state % 13 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                bytes.extend_from_slice(PARTS[(state >> 33) as usize % PARTS.len()]);
            }
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99)
                >> 1;
            check(&bytes);
        }
    }
}
