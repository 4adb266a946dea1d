//! The fields of one header block, as they are decoded: what a message is made of.
//!
//! Bounds: [`HEAD_BYTES_MAX`] and [`HEADERS_MAX`], as RFC 9113 §6.5.2 counts a list; beyond them the fields are not kept.

use super::hpack::Fields;
use crate::http::{Header, HeaderName};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

/// What a field counts beside its name and value.
const FIELD_OVERHEAD: usize = 32;

/// Table sizes that a block may set: the smallest one since the block before, and the last one (RFC 7541 §4.2).
const SIZES_MAX: usize = 2;

/// A pseudo-field (RFC 9113 §8.3, RFC 8441 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pseudo {
    Method,
    Path,
    Authority,
    Status,
    Protocol,
    Scheme,
}

/// How many pseudo-fields there are.
const PSEUDO: usize = Pseudo::Scheme as usize + 1;

/// The fields of a block.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Names and values.
    bytes: Vec<u8>,
    fields: Vec<Span>,
    pseudo: [Option<Span>; PSEUDO],
    /// The first field that declares the length of the body.
    content_length: Option<Span>,
    /// Size of the list so far.
    size: usize,
    count: usize,
    /// Cookie fields.
    cookies: usize,
    /// Fields of which the name or the value is not known.
    pub(super) unknown: u32,
    /// The list is too long.
    pub(super) is_oversized: bool,
    /// Memory was short.
    pub(super) is_shed: bool,
    /// It is not as §8.2 and §8.3 require.
    pub(super) is_malformed: bool,
    /// Its call is only counted: nothing but pseudo-fields and the length of the body is kept.
    pub(super) is_skimmed: bool,
    /// The largest table that it has set.
    pub(super) table_size: u32,
    /// How often it has set one.
    sizes: usize,
}

/// A name and a value behind it.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    name: u32,
    value: u32,
}

impl Block {
    /// Ready for another block; a small buffer keeps its memory.
    pub(super) fn clear(&mut self, kept_bytes: usize) {
        let (mut bytes, mut fields) = (
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.fields),
        );
        bytes.clear();
        bytes.shrink_to(kept_bytes);
        fields.clear();
        fields.shrink_to(kept_bytes / size_of::<Span>());
        *self = Self {
            bytes,
            fields,
            ..Self::default()
        };
    }

    /// Memory that it holds, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.fields.capacity() * size_of::<Span>()
    }

    /// Memory is short: its fields are given up.
    pub(super) fn shed(&mut self) {
        self.is_shed = true;
        self.bytes = Vec::new();
        self.fields = Vec::new();
        self.pseudo = [None; PSEUDO];
        self.content_length = None;
    }

    /// Fields that cannot be shown: those that are unknown; all, where the list is too long or was not kept.
    pub(super) fn hidden(&self) -> u32 {
        if self.is_oversized || self.is_shed {
            u32::try_from(self.count).unwrap_or(u32::MAX).max(1)
        } else {
            self.unknown
        }
    }

    /// Whether it has any pseudo-field.
    pub(super) fn has_pseudo(&self) -> bool {
        self.pseudo.iter().any(Option::is_some)
    }

    /// The value of a pseudo-field.
    pub(super) fn pseudo(&self, pseudo: Pseudo) -> Option<&[u8]> {
        let span = self.pseudo.get(pseudo as usize).copied().flatten()?;
        Some(self.field_at(span).1)
    }

    /// The three digits of the status, if they are known.
    pub(super) fn status(&self) -> Option<u16> {
        let digits = self.pseudo(Pseudo::Status)?;
        let is_status = digits.len() == 3 && digits.iter().all(u8::is_ascii_digit);
        let number = |number: u16, digit: &u8| number * 10 + u16::from(digit - b'0');
        is_status.then(|| digits.iter().fold(0, number))
    }

    /// The declared length of the body, if there is one.
    pub(super) fn content_length(&self) -> Option<u64> {
        let (_, value) = self.field_at(self.content_length?);
        std::str::from_utf8(value).ok()?.parse().ok()
    }

    /// Joins its cookies in `joined`, if there are several (RFC 9113 §8.2.3).
    pub(super) fn join_cookies(&self, joined: &mut Vec<u8>) {
        joined.clear();
        if self.cookies < 2 {
            return;
        }
        let fields = self.fields.iter().map(|span| self.field_at(*span));
        for (place, (_, crumb)) in fields.filter(|(name, _)| is_cookie(name)).enumerate() {
            if place > 0 {
                joined.extend_from_slice(b"; ");
            }
            joined.extend_from_slice(crumb);
        }
    }

    /// Adds its headers to `out`, with the authority of a request as its `host`, and without those that describe how a
    /// message is framed; `cookies` is what [`Self::join_cookies`] made.
    pub(super) fn headers<'a>(
        &'a self,
        is_request: bool,
        cookies: &'a [u8],
        out: &mut Vec<Header<'a>>,
    ) {
        let fields = || self.fields.iter().map(|span| self.field_at(*span));
        if is_request {
            let mut hosts = fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"host"));
            let host = self
                .pseudo(Pseudo::Authority)
                .or_else(|| hosts.next().map(|(_, value)| value));
            out.extend(host.map(|host| Header::new(b"host", host)));
        }
        if self.is_oversized || self.is_shed {
            return;
        }
        let mut cookies = (self.cookies > 1).then_some(cookies);
        for (name, value) in fields() {
            let mut header = Header::new(name, value);
            match header.known() {
                Some(HeaderName::Host | HeaderName::TransferEncoding | HeaderName::Trailer) => {
                    continue;
                }
                Some(HeaderName::Cookie) if self.cookies > 1 => match cookies.take() {
                    Some(joined) => header = Header::new(name, joined),
                    None => continue,
                },
                _ => {}
            }
            out.push(header);
        }
    }

    fn field_at(&self, span: Span) -> (&[u8], &[u8]) {
        let start = span.start as usize;
        let name_end = start + span.name as usize;
        let value_end = name_end + span.value as usize;
        let name = self.bytes.get(start..name_end).unwrap_or_default();
        (
            name,
            self.bytes.get(name_end..value_end).unwrap_or_default(),
        )
    }

    fn push(&mut self, name: &[u8], value: &[u8]) -> Span {
        // A list is bounded, so its lengths fit.
        let span = Span {
            start: self.bytes.len() as u32,
            name: name.len() as u32,
            value: value.len() as u32,
        };
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        span
    }

    /// Counts a field of this length; whether the list is still short enough.
    fn admit(&mut self, length: usize) -> bool {
        self.count += 1;
        self.size = self.size.saturating_add(length + FIELD_OVERHEAD);
        self.is_oversized |= self.size > HEAD_BYTES_MAX || self.count > HEADERS_MAX;
        !self.is_oversized && !self.is_shed
    }

    fn pseudo_field(&mut self, name: &[u8], value: &[u8]) {
        let pseudo = match name {
            b":method" => Pseudo::Method,
            b":path" => Pseudo::Path,
            b":authority" => Pseudo::Authority,
            b":status" => Pseudo::Status,
            b":protocol" => Pseudo::Protocol,
            b":scheme" => Pseudo::Scheme,
            _ => {
                self.is_malformed = true;
                return;
            }
        };
        self.is_malformed |= !self.fields.is_empty();
        let span = self.push(name, value);
        if let Some(place) = self.pseudo.get_mut(pseudo as usize) {
            self.is_malformed |= place.is_some();
            place.get_or_insert(span);
        }
    }
}

impl Fields for Block {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if !self.admit(name.len() + value.len()) {
            return;
        }
        if name.starts_with(b":") {
            return self.pseudo_field(name, value);
        }
        let is_length =
            name.len() == "content-length".len() && name.eq_ignore_ascii_case(b"content-length");
        if self.is_skimmed && !is_length {
            return;
        }
        self.is_malformed |= name.is_empty() || has_uppercase(name) || is_of_connection(name);
        self.cookies += usize::from(is_cookie(name));
        let span = self.push(name, value);
        self.fields.push(span);
        if is_length {
            self.content_length.get_or_insert(span);
        }
    }

    fn unknown(&mut self) {
        self.admit(0);
        self.unknown = self.unknown.saturating_add(1);
    }

    fn too_long(&mut self) {
        self.is_oversized = true;
    }

    fn table_size(&mut self, size: u32) {
        self.table_size = self.table_size.max(size);
        self.sizes += 1;
        self.is_malformed |= self.sizes > SIZES_MAX;
    }
}

fn is_cookie(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"cookie")
}

/// Whether a name has an upper-case letter (RFC 9113 §8.2.1), by words of eight bytes.
#[inline]
fn has_uppercase(name: &[u8]) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    // The high bits of bytes that are letters: from `A` on, and not behind `Z`, in ASCII.
    let letters = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let low = word & (ONES * 0x7f);
        (low + ONES * (0x80 - b'A' as u64)) & !(low + ONES * (0x7f - b'Z' as u64)) & !word
    };
    let Some(last) = name.last_chunk() else {
        return name.iter().any(u8::is_ascii_uppercase);
    };
    let (words, _) = name.as_chunks();
    let found = words
        .iter()
        .fold(letters(last), |found, word| found | letters(word));
    found & (ONES * 0x80) != 0
}

/// Whether a field belongs to a connection of HTTP/1 (RFC 9113 §8.2.2).
fn is_of_connection(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    ];
    matches!(name.len(), 7 | 10 | 16 | 17)
        && NAMES.iter().any(|other| name.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fields: &[(&str, &str)]) -> Block {
        let mut block = Block::default();
        for (name, value) in fields {
            block.field(name.as_bytes(), value.as_bytes());
        }
        block
    }

    fn headers(block: &Block, is_request: bool) -> String {
        let (mut cookies, mut out) = (Vec::new(), Vec::new());
        block.join_cookies(&mut cookies);
        block.headers(is_request, &cookies, &mut out);
        let text = |header: &Header<'_>| {
            let (name, value) = (header.name.escape_ascii(), header.value.escape_ascii());
            format!("{name}={value} ")
        };
        out.iter().map(text).collect()
    }

    #[test]
    fn cookies_are_joined_at_the_place_of_the_first() {
        let fields = [
            (":authority", "a"),
            ("cookie", "a=1"),
            ("x", "y"),
            ("host", "b"),
            ("cookie", "b=2"),
            ("trailer", "t"),
            ("cookie", ""),
        ];
        let block = block(&fields);
        assert_eq!(headers(&block, true), "host=a cookie=a=1; b=2;  x=y ");
        assert_eq!(headers(&block, false), "cookie=a=1; b=2;  x=y ");
        assert!(!block.is_malformed);
    }

    #[test]
    fn upper_case_is_found_at_any_place() {
        for length in 0..40 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut name = vec![b'z'; length];
                    name[at] = byte;
                    assert_eq!(
                        has_uppercase(&name),
                        byte.is_ascii_uppercase(),
                        "{byte} at {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn malformed_lists_are_kept_as_sent() {
        for (fields, expected) in [
            (&[("X-Upper", "1")][..], "X-Upper=1 "),
            (&[("x", "1"), (":path", "/late")], "x=1 "),
            (&[(":path", "/a"), (":path", "/b")], ""),
            (&[(":unheard", "of")], ""),
            (&[("connection", "close")], "connection=close "),
            (&[("", "nameless")], "=nameless "),
        ] {
            let block = block(fields);
            assert!(block.is_malformed, "{fields:?}");
            assert_eq!(headers(&block, true), expected);
        }
        let mut sizes = block(&[]);
        sizes.table_size(64);
        sizes.table_size(4096);
        assert!(!sizes.is_malformed && sizes.table_size == 4096);
        sizes.table_size(128);
        assert!(sizes.is_malformed);
        let twice = block(&[(":path", "/a"), (":path", "/b"), (":status", "2x0")]);
        assert_eq!(twice.pseudo(Pseudo::Path), Some(&b"/a"[..]));
        assert_eq!(twice.status(), None);
    }

    #[test]
    fn a_list_has_a_bound() {
        let mut large = Block::default();
        let value = vec![b'v'; 4000];
        for _ in 0..1000 {
            large.field(b"x-bomb", &value);
        }
        assert!(large.is_oversized && large.memory() <= 2 * HEAD_BYTES_MAX);
        assert_eq!((large.unknown, large.hidden()), (0, 1000));
        let mut many = Block::default();
        (0..=HEADERS_MAX).for_each(|_| many.unknown());
        assert!(many.is_oversized);
    }
}
