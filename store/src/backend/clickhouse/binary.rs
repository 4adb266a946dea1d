//! RowBinary, the format in which rows are sent and answered: numbers in little-endian order, texts behind their length.

use std::fmt;

/// An answer that is not what was requested: another program answers, or the tables are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer of ClickHouse has other columns than were requested")
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for crate::backend::Failure {
    fn from(error: Malformed) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Writes a length.
pub(super) fn put_length(bytes: &mut Vec<u8>, length: usize) {
    crate::histogram::put(bytes, length as u64);
}

/// Writes a text.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Values that are taken from an answer one after the other.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// Whether there is another row.
    pub(super) fn has_more(&self) -> bool {
        !self.0.is_empty()
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    /// A length that the rest of the answer can have.
    pub(super) fn length(&mut self) -> Result<usize, Malformed> {
        let mut length: u64 = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.u8()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let length = usize::try_from(length).map_err(|_| Malformed)?;
                return if length <= self.0.len() {
                    Ok(length)
                } else {
                    Err(Malformed)
                };
            }
        }
        Err(Malformed)
    }

    /// A text. What is not UTF-8 in it, which another program must have written, is replaced.
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let length = self.length()?;
        let bytes = self.bytes(length)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(super) fn texts(&mut self) -> Result<Vec<String>, Malformed> {
        (0..self.length()?).map(|_| self.text()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_garbage_is_refused() {
        let mut bytes = Vec::new();
        put_text(&mut bytes, "é\0");
        put_text(&mut bytes, &"x".repeat(300));
        bytes.extend((-7_i64).to_le_bytes());
        let mut reader = Reader(&bytes);
        assert_eq!(reader.text().as_deref(), Ok("é\0"));
        assert_eq!(reader.text().map(|text| text.len()), Ok(300));
        assert_eq!(reader.i64(), Ok(-7));
        assert!(!reader.has_more());
        for end in 0..bytes.len() {
            let mut reader = Reader(&bytes[..end]);
            let all = reader
                .text()
                .and_then(|_| reader.text())
                .and_then(|_| reader.i64());
            assert_eq!(all, Err(Malformed), "{end}");
        }
        assert_eq!(Reader(&[0xff; 20]).texts(), Err(Malformed));
    }
}
