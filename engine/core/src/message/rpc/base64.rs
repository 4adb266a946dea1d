//! Base64 (RFC 4648 §4) that comes in slices, also in several padded pieces one after another, as gRPC-Web sends it.

/// Where the decoding of a body stands.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::message) struct Base64 {
    bits: u32,
    /// Letters of the group that are there.
    letters: u8,
    /// Signs of padding that are there.
    padding: u8,
    /// A byte was no base64: nothing is read any more.
    is_broken: bool,
}

impl Base64 {
    /// Appends the bytes that `text` completes.
    pub(in crate::message) fn decode(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.is_broken {
            return;
        }
        out.reserve(text.len() / 4 * 3 + 3);
        for letter in text {
            if !self.push(*letter, out) {
                self.is_broken = true;
                return;
            }
        }
    }

    /// Whether what was given was base64, as far as it goes.
    pub(in crate::message) fn is_broken(&self) -> bool {
        self.is_broken
    }

    fn push(&mut self, letter: u8, out: &mut Vec<u8>) -> bool {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => return self.pad(out),
            b'\r' | b'\n' => return true,
            _ => return false,
        };
        if self.padding > 0 {
            return false;
        }
        self.bits = self.bits << 6 | u32::from(value);
        self.letters += 1;
        if self.letters == 4 {
            let [_, bytes @ ..] = self.bits.to_be_bytes();
            out.extend_from_slice(&bytes);
            *self = Self::default();
        }
        true
    }

    fn pad(&mut self, out: &mut Vec<u8>) -> bool {
        self.padding += 1;
        if self.letters < 2 || self.letters + self.padding > 4 {
            return false;
        }
        if self.letters + self.padding == 4 {
            let bits = self.bits << (6 * u32::from(self.padding));
            let [_, bytes @ ..] = bits.to_be_bytes();
            let count = usize::from(self.letters - 1);
            out.extend_from_slice(bytes.get(..count).unwrap_or_default());
            *self = Self::default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[u8], is_broken: bool) {
        for length in 1..=text.len().max(1) {
            let (mut base64, mut out) = (Base64::default(), Vec::new());
            for part in text.as_bytes().chunks(length) {
                base64.decode(part, &mut out);
            }
            assert_eq!(out, expected, "{text} by {length}");
            assert_eq!(base64.is_broken(), is_broken, "{text}");
        }
    }

    #[test]
    fn pieces_and_slices() {
        check("", b"", false);
        check("AAAA", b"\0\0\0", false);
        check("aGVsbG8=", b"hello", false);
        check("aGVsbG8h", b"hello!", false);
        check("aA==aGU=aGVs", b"hhehel", false);
        check("aGVs\r\nbG8=", b"hello", false);
        check("aGVsbG", b"hel", false);
        for broken in ["aGVs*AAA", "aGVsA===", "aGVs=", "aGVsaG=A"] {
            check(broken, b"hel", true);
        }
    }
}
