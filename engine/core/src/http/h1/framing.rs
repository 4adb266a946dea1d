//! The length of a body by the header fields of its message: RFC 9112 §6.3.

use crate::http::{Header, HeaderName, Side, Version};

/// What the fields of one message mean for its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    length: Length,
    coding: Coding,
    /// Receivers differ in whether one of the fields counts.
    is_odd: bool,
    /// Another protocol is asked for, or agreed on.
    has_upgrade: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Absent,
    Known(u64),
    /// Not a number, too large for any receiver, or several that differ.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// No transfer coding, or only the obsolete `identity`.
    Absent,
    /// `chunked` is applied last.
    Chunked,
    /// Some receivers read `chunked` in what is written: `xchunked`, `chunked;`, `chunked, x`.
    Nearly,
    /// Another one is last: only the close ends such a response, and such a request has no known end.
    Other,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
    /// Nowhere that can be known.
    Unknown,
}

impl Fields {
    /// Reads the fields of a message of this version.
    pub(super) fn read(fields: &[Header<'_>], version: Version) -> Self {
        let mut read = Self {
            length: Length::Absent,
            coding: Coding::Absent,
            is_odd: false,
            has_upgrade: false,
        };
        for field in fields {
            match field.known() {
                Some(HeaderName::ContentLength) => read.add_length(field),
                Some(HeaderName::TransferEncoding) => read.add_coding(field, version),
                Some(HeaderName::Upgrade) => read.has_upgrade = true,
                _ => {}
            }
        }
        read
    }

    /// Whether one of the fields is `Upgrade`.
    pub(super) fn has_upgrade(&self) -> bool {
        self.has_upgrade
    }

    /// The fields contradict each other, or one of them is broken. Receivers differ in what they make of it, so what is read
    /// here may differ from what the peer read, and the message is marked.
    pub(super) fn conflict(&self) -> bool {
        self.is_odd
            || self.length == Length::Bad
            || (self.coding != Coding::Absent && self.length != Length::Absent)
    }

    /// For a request (§6.3 items 3 to 7): a transfer coding overrides a length.
    pub(super) fn of_request(&self) -> Framing {
        match (self.coding, self.length) {
            (Coding::Chunked, _) => Framing::Chunked,
            (Coding::Nearly | Coding::Other, _) | (Coding::Absent, Length::Bad) => Framing::Unknown,
            (Coding::Absent, Length::Known(length)) => Framing::Length(length),
            (Coding::Absent, Length::Absent) => Framing::Length(0),
        }
    }

    /// For a response that may have a body (§6.3 items 4 to 8).
    pub(super) fn of_response(&self) -> Framing {
        match (self.coding, self.length) {
            (Coding::Chunked, _) => Framing::Chunked,
            (Coding::Absent, Length::Bad) => Framing::Unknown,
            (Coding::Absent, Length::Known(length)) => Framing::Length(length),
            (Coding::Nearly | Coding::Other, _) | (Coding::Absent, Length::Absent) => {
                Framing::UntilClose
            }
        }
    }

    /// What receivers make of fields in conflict, what the standard prefers first.
    #[cold]
    pub(super) fn candidates(&self, fields: &[Header<'_>], side: Side) -> Vec<Framing> {
        let mut candidates = Vec::new();
        if matches!(self.coding, Coding::Chunked | Coding::Nearly) {
            candidates.push(Framing::Chunked);
        }
        let lengths = fields
            .iter()
            .filter(|field| field.is(HeaderName::ContentLength))
            .flat_map(|field| field.value.split(|&byte| byte == b','));
        for length in lengths.filter_map(leading_number).map(Framing::Length) {
            if candidates.len() < CANDIDATES_MAX && !candidates.contains(&length) {
                candidates.push(length);
            }
        }
        let absent = match side {
            Side::Request => Framing::Length(0),
            Side::Response => Framing::UntilClose,
        };
        if !candidates.contains(&absent) {
            candidates.push(absent);
        }
        candidates
    }

    /// Equal values, in one list or in several lines, count once (RFC 9110 §8.6).
    fn add_length(&mut self, field: &Header<'_>) {
        self.is_odd |= field.is_odd();
        if let (Length::Absent, Some(length)) = (self.length, number(field.value)) {
            self.length = Length::Known(length);
            return;
        }
        for item in field.value.split(|&byte| byte == b',') {
            self.length = match (self.length, number(item.trim_ascii())) {
                (Length::Absent, Some(length)) => Length::Known(length),
                (Length::Known(before), Some(length)) if before == length => self.length,
                _ => Length::Bad,
            };
        }
    }

    /// In HTTP/1.0 there are no transfer codings (RFC 9112 §6.1): some receivers ignore them.
    fn add_coding(&mut self, field: &Header<'_>, version: Version) {
        self.is_odd |= field.is_odd() || !version.has_transfer_codings();
        for item in field.value.split(|&byte| byte == b',') {
            let item = item.trim_ascii();
            if item.is_empty() || item.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            self.coding = if item.eq_ignore_ascii_case(b"chunked") {
                Coding::Chunked
            } else if self.is_nearly_chunked(item) {
                self.is_odd = true;
                Coding::Nearly
            } else {
                Coding::Other
            };
        }
    }

    #[cold]
    fn is_nearly_chunked(&self, item: &[u8]) -> bool {
        const CHUNKED: &[u8] = b"chunked";
        let mut parts = item.windows(CHUNKED.len());
        matches!(self.coding, Coding::Chunked | Coding::Nearly)
            || parts.any(|part| part.eq_ignore_ascii_case(CHUNKED))
    }
}

/// Further lengths are not tried.
const CANDIDATES_MAX: usize = 4;

/// The number that a lenient receiver finds: without a sign, up to the first byte that is no digit.
fn leading_number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    number(text.get(..digits)?)
}

/// Digits only, at most `i64::MAX`: larger numbers overflow in one receiver or another.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.filter(|&number| number <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fields: &[(&str, &str)], request: Framing, response: Framing, conflict: bool) {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
            .collect();
        let read = Fields::read(&fields, Version::Http11);
        assert_eq!(
            (read.of_request(), read.of_response(), read.conflict()),
            (request, response, conflict)
        );
    }

    #[test]
    fn lengths_and_codings() {
        use Framing::{Chunked, Length, Unknown, UntilClose};
        let (cl, te) = ("Content-Length", "transfer-ENCODING");
        check(&[], Length(0), UntilClose, false);
        check(&[(cl, "5")], Length(5), Length(5), false);
        check(&[(cl, "5, 5"), (cl, "05")], Length(5), Length(5), false);
        for bad in [
            "-1",
            "5x",
            "",
            "0x5",
            "5 5",
            "18446744073709551615",
            "9223372036854775808",
            "3, 4",
        ] {
            check(&[(cl, bad)], Unknown, Unknown, true);
        }
        check(&[(cl, "3"), (cl, "2")], Unknown, Unknown, true);
        check(&[(cl, "+5")], Unknown, Unknown, true);
        check(&[(cl, "+5"), (cl, "5")], Unknown, Unknown, true);
        check(&[(te, "chunked")], Chunked, Chunked, false);
        check(&[(te, "gzip, Chunked")], Chunked, Chunked, false);
        check(&[(te, "gzip"), (te, "chunked")], Chunked, Chunked, false);
        check(&[(te, "chunked"), (cl, "99")], Chunked, Chunked, true);
        check(&[(te, "gzip")], Unknown, UntilClose, false);
        for nearly in [
            "chunked, gzip",
            "xchunked",
            "Chunked;",
            "\"chunked\"",
            "chunked,x",
        ] {
            check(&[(te, nearly)], Unknown, UntilClose, true);
        }
        check(&[(te, "identity"), (cl, "5")], Length(5), Length(5), false);
        let chunked = [Header::new(b"Transfer-Encoding", b"chunked")];
        assert!(Fields::read(&chunked, Version::Http10).conflict());
        let blank = [Header::with_blanks(b"Content-Length", b"5")];
        assert!(Fields::read(&blank, Version::Http11).conflict());
    }

    #[track_caller]
    fn check_candidates(fields: &[(&str, &str)], expected: &[Framing]) {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
            .collect();
        let read = Fields::read(&fields, Version::Http11);
        for (side, absent) in [
            (Side::Request, Framing::Length(0)),
            (Side::Response, Framing::UntilClose),
        ] {
            let found = read.candidates(&fields, side);
            assert_eq!(found, [expected, &[absent]].concat());
        }
    }

    #[test]
    fn candidates_are_what_receivers_read() {
        use Framing::{Chunked, Length};
        let (cl, te) = ("Content-Length", "Transfer-Encoding");
        check_candidates(&[(cl, "3"), (cl, "2"), (cl, "3")], &[Length(3), Length(2)]);
        check_candidates(&[(cl, "+5")], &[Length(5)]);
        check_candidates(&[(cl, "5x, 7")], &[Length(5), Length(7)]);
        check_candidates(&[(cl, "-1"), (cl, "18446744073709551615")], &[]);
        check_candidates(&[(cl, "9"), (te, "chunked")], &[Chunked, Length(9)]);
        check_candidates(&[(te, "xchunked")], &[Chunked]);
        check_candidates(&[(te, "gzip"), (cl, "9")], &[Length(9)]);
    }
}
