//! Text of a child without what has an effect on a terminal: colours pass, other control characters become blanks.

/// Where the text is, since it comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Harmless {
    /// The beginning of what may be a colour, or a control character of two bytes.
    begun: Vec<u8>,
}

/// The first byte of what has an effect.
const ESCAPE: u8 = 0x1b;

/// The first byte of the control characters from U+0080 to U+009F in UTF-8; U+009B has the effect of `ESC [`.
const HIGH_CONTROL: u8 = 0xc2;

/// Bytes of a colour at most, such as `ESC [1;33m`.
const COLOUR_BYTES_MAX: usize = 16;

impl Harmless {
    /// The next piece, without what is not passed on.
    pub(super) fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(piece.len());
        for &byte in piece {
            match (self.begun.as_slice(), byte) {
                ([], ESCAPE | HIGH_CONTROL) | ([ESCAPE], b'[') => self.begun.push(byte),
                ([ESCAPE, b'[', ..], b'0'..=b'9' | b';') if self.begun.len() < COLOUR_BYTES_MAX => {
                    self.begun.push(byte);
                }
                ([ESCAPE, b'[', ..], b'm') => {
                    passed.append(&mut self.begun);
                    passed.push(byte);
                }
                ([HIGH_CONTROL], 0x80..=0x9f) => {
                    self.begun.clear();
                    passed.push(b' ');
                }
                _ => {
                    // What was begun is neither; its letters and digits have no effect without the first byte.
                    let begun = std::mem::take(&mut self.begun);
                    passed.extend(begun.into_iter().map(plain));
                    match byte {
                        ESCAPE | HIGH_CONTROL => self.begun.push(byte),
                        byte => passed.push(plain(byte)),
                    }
                }
            }
        }
        passed
    }
}

/// A byte of UTF-8 text, or a blank for a control character.
fn plain(byte: u8) -> u8 {
    match byte {
        b'\n' | b'\t' => byte,
        0..0x20 | 0x7f => b' ',
        _ => byte,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_nothing_else_does() {
        let whole =
            |text: &str| String::from_utf8(Harmless::default().pass(text.as_bytes())).unwrap();
        let colours = "\x1b[1;33mwarning\x1b[0m: zu\u{fc}rich\n\tfix\n";
        assert_eq!(whole(colours), colours);
        // Clears the screen, sets the title, types an answer, goes back in the line.
        assert_eq!(whole("a\x1b[2Jb"), "a [2Jb");
        assert_eq!(whole("\x1b]0;title\x07"), " ]0;title ");
        assert_eq!(whole("\x1b\x1b[6n\r"), "  [6n ");
        assert_eq!(whole("\u{9b}2J \u{a7}"), " 2J \u{a7}");
        assert_eq!(
            whole(&format!("\x1b[{}m", "1".repeat(99)))
                .matches('\x1b')
                .count(),
            0
        );
    }

    #[test]
    fn pieces_are_read_as_the_whole() {
        let text = "\x1b[1;31merror\x1b[0m\x1b[2J\x1b]0;x\x07\u{9b}\u{a7}\n".as_bytes();
        let whole = Harmless::default().pass(text);
        for at in 0..text.len() {
            let mut filter = Harmless::default();
            let mut pieces = filter.pass(&text[..at]);
            pieces.extend(filter.pass(&text[at..]));
            assert_eq!(pieces, whole, "{at}");
        }
    }
}
