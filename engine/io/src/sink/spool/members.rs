//! Members of a spool segment: complete zlib streams, one behind the other, which need no index to be read.

use std::io::Read as _;

use engine_core::bundle::CallEntry;
use flate2::read::ZlibDecoder;
use flate2::{Decompress, FlushDecompress, Status};

/// Bytes that are decompressed at once where only their line ends count.
const CHUNK_BYTES: usize = 64 * 1024;

/// The lines of a member of which there are `line_bytes`; none where it is not one.
pub(super) fn lines(member: &[u8], line_bytes: u32) -> Option<Vec<u8>> {
    let mut lines = Vec::with_capacity((line_bytes as usize).min(1 << 26));
    let most = u64::from(line_bytes) + 1;
    let mut text = ZlibDecoder::new(member).take(most);
    text.read_to_end(&mut lines).ok()?;
    (lines.len() == line_bytes as usize).then_some(lines)
}

/// Lines in the whole members at the start of these bytes.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    let mut count = 0;
    while let Some((lines, end)) = first(rest) {
        count += lines;
        rest = rest.get(end..).unwrap_or_default();
    }
    count
}

/// Lines of the first member, and where it ends.
fn first(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut stream = Decompress::new(true);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut lines = 0;
    loop {
        let (taken, made) = (stream.total_in(), stream.total_out());
        let rest = bytes.get(taken as usize..)?;
        let status = stream.decompress(rest, &mut chunk, FlushDecompress::None);
        let made = (stream.total_out() - made) as usize;
        let text = chunk.get(..made)?;
        lines += text.iter().filter(|octet| **octet == b'\n').count() as u64;
        match status.ok()? {
            Status::StreamEnd => return Some((lines, stream.total_in() as usize)),
            _ if made == 0 && stream.total_in() == taken => return None,
            _ => {}
        }
    }
}

/// The index of these lines, as far as it follows from them.
pub(super) fn index_of(lines: &[u8]) -> Vec<CallEntry> {
    let mut offset = 0;
    let mut index = Vec::new();
    for line in lines.split_inclusive(|octet| *octet == b'\n') {
        index.push(CallEntry {
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            length: u32::try_from(line.len() - 1).unwrap_or(u32::MAX),
            ..CallEntry::default()
        });
        offset += line.len();
    }
    index
}

#[cfg(test)]
mod tests {
    use engine_core::bundle::deflate::Encoder;

    use super::*;

    fn member(text: &str) -> Vec<u8> {
        let mut member = Vec::new();
        Encoder::default().zlib(text.as_bytes(), &mut member);
        member
    }

    #[test]
    fn members_are_read_without_an_index() {
        let long = "[\"a line\"]\n".repeat(50_000);
        let mut bytes = [member("[1]\n[2]\n"), member(&long), member("[3]\n")].concat();
        assert_eq!(count_lines(&bytes), 50_003);
        bytes.truncate(bytes.len() - 1);
        assert_eq!(count_lines(&bytes), 50_002, "the last is not whole");
        assert_eq!(count_lines(b"no member"), 0);
        assert_eq!(count_lines(b""), 0);
    }

    #[test]
    fn lines_are_those_that_were_written() {
        let text = "[1]\n[22]\n";
        let whole = member(text);
        assert_eq!(lines(&whole, 9).as_deref(), Some(text.as_bytes()));
        assert_eq!(lines(&whole, 8), None, "more than there should be");
        assert_eq!(lines(&whole, 10), None);
        assert_eq!(lines(&whole[..whole.len() - 2], 9), None);
        let index = index_of(text.as_bytes());
        let places: Vec<_> = index
            .iter()
            .map(|call| (call.offset, call.length))
            .collect();
        assert_eq!(places, [(0, 3), (4, 4)]);
    }
}
