//! A header line in its parts, with the names that framing and messages look for.

/// One header line: the name as sent, the value without surrounding white space and with folds joined by one space.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// As sent; compared without regard to case.
    pub name: &'a [u8],
    /// Bytes as sent; not necessarily UTF-8.
    pub value: &'a [u8],
    known: Option<HeaderName>,
    /// Some receivers read another name.
    is_odd: bool,
}

/// A name that framing or messages look for. Names are compared once, when the line is read, since a message is searched
/// for such a name half a dozen times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderName {
    /// RFC 9110 §7.2.
    Host,
    /// RFC 6265 §4.2.
    Cookie,
    /// RFC 9110 §6.6.2.
    Trailer,
    /// RFC 9110 §8.3.
    ContentType,
    /// RFC 9110 §8.4.
    ContentEncoding,
    /// The marker of an upload of a sniffer ([`uploads`](crate::uploads)).
    UploadMarker,
    // Framing looks for the last three, which it finds by one comparison.
    /// RFC 9110 §8.6.
    ContentLength,
    /// RFC 9112 §6.1.
    TransferEncoding,
    /// RFC 9110 §7.8.
    Upgrade,
}

/// Which of the names that are looked for a message has. One pass over its headers replaces a search for each name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderNames(u16);

impl HeaderNames {
    /// The names of these headers.
    #[inline]
    pub fn of(headers: &[Header<'_>]) -> Self {
        let bit = |header: &Header<'_>| header.known.map_or(0, |known| 1 << known as u16);
        Self(headers.iter().map(bit).fold(0, |names, bit| names | bit))
    }

    /// Whether a header has this name.
    #[inline]
    pub const fn has(self, known: HeaderName) -> bool {
        self.0 & 1 << known as u16 != 0
    }
}

impl<'a> Header<'a> {
    /// `name` and `value` without white space around.
    #[inline]
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Self {
        Self {
            name,
            value,
            known: HeaderName::of(name),
            is_odd: false,
        }
    }

    /// A header whose name has white space around it in the message, which some receivers take for a part of the name.
    #[cold]
    pub(super) fn with_blanks(name: &'a [u8], value: &'a [u8]) -> Self {
        Self {
            is_odd: true,
            ..Self::new(name, value)
        }
    }

    /// Whether some receivers read another name.
    #[inline]
    pub(super) fn is_odd(&self) -> bool {
        self.is_odd
    }

    /// Whether it has this name.
    #[inline]
    pub fn is(&self, known: HeaderName) -> bool {
        self.known == Some(known)
    }

    /// Its name, if it is one of those that are looked for.
    #[inline]
    pub fn known(&self) -> Option<HeaderName> {
        self.known
    }
}

impl HeaderName {
    /// The value of the first of these headers that has the name.
    #[inline]
    pub fn find<'a>(self, headers: &[Header<'a>]) -> Option<&'a [u8]> {
        let found = headers.iter().find(|header| header.is(self));
        found.map(|header| header.value)
    }

    #[inline]
    fn of(name: &[u8]) -> Option<Self> {
        // Only two of them have the same length, so a name is compared with one of them, or with two.
        let (is, known) = match name.len() {
            4 => (const { Name::new(b"host") }.is(name), Self::Host),
            6 => (const { Name::new(b"cookie") }.is(name), Self::Cookie),
            7 if const { Name::new(b"upgrade") }.is(name) => (true, Self::Upgrade),
            7 => (const { Name::new(b"trailer") }.is(name), Self::Trailer),
            12 => (
                const { Name::new(b"content-type") }.is(name),
                Self::ContentType,
            ),
            14 => (
                const { Name::new(b"content-length") }.is(name),
                Self::ContentLength,
            ),
            16 => (
                const { Name::new(b"content-encoding") }.is(name),
                Self::ContentEncoding,
            ),
            17 => (
                const { Name::new(b"transfer-encoding") }.is(name),
                Self::TransferEncoding,
            ),
            21 => (
                const { Name::new(b"sniffer-upload-marker") }.is(name),
                Self::UploadMarker,
            ),
            _ => return None,
        };
        is.then_some(known)
    }
}

/// A name of `LENGTH` bytes, in lower case, as words that are compared at once.
struct Name<const LENGTH: usize> {
    lower: [u64; 3],
    /// The bit that upper case lacks, for each letter.
    case: [u64; 3],
}

impl<const LENGTH: usize> Name<LENGTH> {
    #[expect(
        clippy::indexing_slicing,
        reason = "the index is below the length of both, and this runs while the program is compiled"
    )]
    const fn new(lower: &[u8; LENGTH]) -> Self {
        let mut case = [0; LENGTH];
        let mut index = 0;
        while index < LENGTH {
            if lower[index].is_ascii_lowercase() {
                case[index] = 0x20;
            }
            index += 1;
        }
        Self {
            lower: words(lower),
            case: words(&case),
        }
    }

    /// Whether `name` is this one without regard to case. The standard library compares byte by byte and stops at the first
    /// difference; here the length is a constant, and the bytes are compared as three words.
    #[inline(always)]
    fn is(&self, name: &[u8]) -> bool {
        let Ok(name) = <&[u8; LENGTH]>::try_from(name) else {
            return false;
        };
        let [a, b, c] = words(name);
        let difference = ((a | self.case[0]) ^ self.lower[0])
            | ((b | self.case[1]) ^ self.lower[1])
            | ((c | self.case[2]) ^ self.lower[2]);
        difference == 0
    }
}

/// All bytes of a name of 4 to 24 bytes, some of them twice.
#[inline(always)]
const fn words<const LENGTH: usize>(bytes: &[u8; LENGTH]) -> [u64; 3] {
    const {
        assert!(LENGTH >= 4 && LENGTH <= 24);
    }
    if LENGTH < 8 {
        let (first, last) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>());
        let (Some(first), Some(last)) = (first, last) else {
            return [0; 3];
        };
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return [first as u64 | (last as u64) << 32, 0, 0];
    }
    let (first, last) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>());
    let (Some(first), Some(last)) = (first, last) else {
        return [0; 3];
    };
    let middle = match bytes.split_at_checked(8) {
        Some((_, behind)) => match behind.first_chunk::<8>() {
            Some(middle) => middle,
            None => last,
        },
        None => last,
    };
    [
        u64::from_le_bytes(*first),
        u64::from_le_bytes(*middle),
        u64::from_le_bytes(*last),
    ]
}

/// The same memory as a list for other lifetimes: collecting in place keeps the allocation.
pub(super) fn emptied<'a>(mut fields: Vec<Header<'_>>) -> Vec<Header<'a>> {
    fields.clear();
    fields.into_iter().map(|_| Header::new(&[], &[])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<HeaderName>) {
        assert_eq!(
            Header::new(name.as_bytes(), b"").known(),
            expected,
            "{name}"
        );
    }

    #[test]
    fn known_names_in_any_case() {
        check("Host", Some(HeaderName::Host));
        check("COOKIE", Some(HeaderName::Cookie));
        check("trailer", Some(HeaderName::Trailer));
        check("UpGrade", Some(HeaderName::Upgrade));
        check("referer", None);
        check("Content-Type", Some(HeaderName::ContentType));
        check("content-LENGTH", Some(HeaderName::ContentLength));
        check("Content-Encoding", Some(HeaderName::ContentEncoding));
        check("Transfer-Encoding", Some(HeaderName::TransferEncoding));
        check("Sniffer-Upload-Marker", Some(HeaderName::UploadMarker));
        for other in [
            "",
            "h",
            "hosts",
            "hest",
            "(ost",
            "cookies",
            "content\rtype",
            "Content_Length",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn a_set_has_the_names_of_its_headers() {
        let headers =
            ["HOST", "x-host", "Transfer-Encoding"].map(|name| Header::new(name.as_bytes(), b""));
        let names = HeaderNames::of(&headers);
        assert!(names.has(HeaderName::Host) && names.has(HeaderName::TransferEncoding));
        assert!(!names.has(HeaderName::Cookie) && !names.has(HeaderName::UploadMarker));
        assert_eq!(HeaderNames::of(&[]), HeaderNames::default());
    }

    #[test]
    fn the_list_of_fields_keeps_its_memory() {
        let name = b"a".to_vec();
        let fields = vec![Header::new(&name, &[]); 100];
        let memory = fields.as_ptr().cast::<u8>();
        let (capacity, again) = (fields.capacity(), emptied(fields));
        assert_eq!(
            (again.len(), again.capacity(), again.as_ptr().cast::<u8>()),
            (0, capacity, memory)
        );
    }
}
