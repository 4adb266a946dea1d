//! Tables for the vector versions.
#![expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses a wrong index"
)]

/// At the low four bits of each byte that has an escape of two bytes: the byte. Elsewhere a byte with other low bits, so
/// that a byte is equal to its entry exactly when it has such an escape.
pub(crate) const SHORT: [u8; 16] = by_low_bits(*b"\"\\\n\r\t", [1; 16]);

/// At the same indices: the letter after the backslash.
pub(crate) const LETTERS: [u8; 16] = {
    let mut letters = by_low_bits(*b"\"\\\n\r\t", [0; 16]);
    letters[b'\n' as usize] = b'n';
    letters[b'\r' as usize] = b'r';
    letters[b'\t' as usize] = b't';
    letters
};

/// Index of the backslash among 16 bytes: after eight of text.
const BACKSLASH: u8 = 8;

/// For each mask of eight bytes: their order, with [`BACKSLASH`] before those in the mask. What follows the last one does
/// not count.
pub(crate) static SPREAD: [[u8; 16]; 256] = {
    let mut table = [[BACKSLASH; 16]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut from, mut to) = (0, 0);
        while from < 8 {
            to += (mask >> from) & 1;
            table[mask][to] = from as u8;
            from += 1;
            to += 1;
        }
        mask += 1;
    }
    table
};

const fn by_low_bits(bytes: [u8; 5], mut table: [u8; 16]) -> [u8; 16] {
    let mut index = 0;
    while index < bytes.len() {
        table[bytes[index] as usize & 15] = bytes[index];
        index += 1;
    }
    // An entry of 1 is right but for the byte 1 itself, whose place is the second.
    if table[1] == 1 {
        table[1] = 0;
    }
    table
}
