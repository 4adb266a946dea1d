//! A cursor over borrowed bytes that cannot read past their end.
//!
//! Every read returns exactly as many bytes as requested or `None`, and a read that fails takes nothing. It never
//! allocates, never panics and is of no protocol; multi-byte integers are in network order.
//!
//! ```
//! use engine_core::reader::Reader;
//!
//! // A type, a length and a value, and then one byte more.
//! let mut reader = Reader::new(&[1, 0, 3, b'a', b'b', b'c', 9]);
//! let kind = reader.u8();
//! let mut value = reader.u16().and_then(|len| reader.sub(len.into())).unwrap();
//! assert_eq!((kind, value.take(3), value.u8()), (Some(1), Some(&b"abc"[..]), None));
//! assert_eq!(reader.rest(), [9]);
//! ```

/// The bytes of a slice that have not been read yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the first of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next `N` bytes as an array, for patterns.
    #[inline]
    pub fn take_array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(taken)
    }

    /// A cursor over the next `count` bytes; this one continues after them.
    #[inline]
    pub fn sub(&mut self, count: usize) -> Option<Self> {
        self.take(count).map(Self::new)
    }

    /// The next byte.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        self.take_array().map(|&[byte]| byte)
    }

    /// The next two bytes as a number.
    #[inline]
    pub fn u16(&mut self) -> Option<u16> {
        self.take_array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// The next four bytes as a number.
    #[inline]
    pub fn u32(&mut self) -> Option<u32> {
        self.take_array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// All that is left; the cursor stays.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes are left.
    #[inline]
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether nothing is left.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_stops_at_the_end() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u16(), Some(0x0203));
        assert_eq!(reader.u32(), Some(0x0405_0607));
        assert_eq!(reader.take_array(), Some(&[8, 9]));
        assert_eq!(reader.take(1), Some(&[10][..]));
        assert!(reader.is_empty());
        assert_eq!(reader.u8(), None);
    }

    #[test]
    fn a_read_that_fails_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.take(usize::MAX), None);
        assert_eq!(reader.take_array::<4>(), None);
        assert!(reader.sub(4).is_none());
        assert_eq!((reader.len(), reader.rest()), (3, &[1, 2, 3][..]));
    }

    #[test]
    fn a_sub_reader_ends_at_its_count() {
        let mut reader = Reader::new(&[1, 2, 3]);
        let mut sub = reader.sub(2).unwrap();
        assert_eq!((sub.u16(), sub.u8()), (Some(0x0102), None));
        assert_eq!(reader.rest(), &[3]);
    }
}
