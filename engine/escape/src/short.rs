//! Up to 16 bytes as two words, without a copy of unknown length.

/// The first eight bytes and the next eight, little-endian, padded with zeros. Of more than 16 bytes the first.
#[inline(always)]
pub(crate) fn load(bytes: &[u8]) -> [u64; 2] {
    if let Some(both) = bytes.first_chunk::<16>() {
        let both = u128::from_le_bytes(*both);
        return [both as u64, (both >> 64) as u64];
    }
    let len = bytes.len();
    // Longer than a word: its last word overlaps the first; what both contain is shifted out.
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let unused = 8 * (16 - len) as u32;
        let last = u64::from_le_bytes(*last).unbounded_shr(unused);
        return [u64::from_le_bytes(*first), last];
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let [first, last] = [*first, *last].map(|word| u64::from(u32::from_le_bytes(word)));
        return [first | last << (8 * (len - 4)), 0];
    }
    // Up to three: the first, the middle and the last, which may be the same.
    let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or_default()) << (8 * at);
    [byte(0) | byte(len / 2) | byte(len.saturating_sub(1)), 0]
}
