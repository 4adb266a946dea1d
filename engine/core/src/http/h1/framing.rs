//! The length of a body by the header fields of its message: RFC 9112 §6.3.

use crate::http::{Header, HeaderName};

/// What the fields of one message mean for its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    length: Length,
    coding: Coding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Absent,
    Known(u64),
    /// A number with a sign, which some receivers accept.
    Signed(u64),
    /// Not a number, too large for any receiver, or several that differ.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// No transfer coding, or only the obsolete `identity`.
    Absent,
    /// `chunked` is applied last.
    Chunked,
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
    pub(super) fn read(fields: &[Header<'_>]) -> Self {
        let mut read = Self {
            length: Length::Absent,
            coding: Coding::Absent,
        };
        for field in fields {
            match field.known() {
                Some(HeaderName::ContentLength) => read.add_length(field.value),
                Some(HeaderName::TransferEncoding) => read.add_coding(field.value),
                _ => {}
            }
        }
        read
    }

    /// The fields contradict each other, or one of them is broken. Receivers differ in what they make of it, so what is read
    /// here may differ from what the peer read, and the message is marked.
    pub(super) fn conflict(&self) -> bool {
        matches!(self.length, Length::Bad | Length::Signed(_))
            || (self.coding != Coding::Absent && self.length != Length::Absent)
    }

    /// For a request (§6.3 items 3 to 7): a transfer coding overrides a length.
    pub(super) fn of_request(&self) -> Framing {
        match (self.coding, self.length) {
            (Coding::Chunked, _) => Framing::Chunked,
            (Coding::Other, _) | (Coding::Absent, Length::Bad) => Framing::Unknown,
            (Coding::Absent, Length::Known(length) | Length::Signed(length)) => {
                Framing::Length(length)
            }
            (Coding::Absent, Length::Absent) => Framing::Length(0),
        }
    }

    /// For a response that may have a body (§6.3 items 4 to 8).
    pub(super) fn of_response(&self) -> Framing {
        match (self.coding, self.length) {
            (Coding::Chunked, _) => Framing::Chunked,
            (Coding::Absent, Length::Bad) => Framing::Unknown,
            (Coding::Absent, Length::Known(length) | Length::Signed(length)) => {
                Framing::Length(length)
            }
            (Coding::Other, _) | (Coding::Absent, Length::Absent) => Framing::UntilClose,
        }
    }

    /// Equal values, in one list or in several lines, count once (RFC 9110 §8.6).
    fn add_length(&mut self, value: &[u8]) {
        if let (Length::Absent, Some(length)) = (self.length, number(value)) {
            self.length = Length::Known(length);
            return;
        }
        if self.length == Length::Absent
            && let Some(length) = value.strip_prefix(b"+").and_then(number)
        {
            self.length = Length::Signed(length);
            return;
        }
        for item in value.split(|&byte| byte == b',') {
            self.length = match (self.length, number(item.trim_ascii())) {
                (Length::Absent, Some(length)) => Length::Known(length),
                (Length::Known(before), Some(length)) if before == length => self.length,
                _ => Length::Bad,
            };
        }
    }

    fn add_coding(&mut self, value: &[u8]) {
        for item in value.split(|&byte| byte == b',') {
            let item = item.trim_ascii();
            if item.is_empty() || item.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            let chunked = item.eq_ignore_ascii_case(b"chunked");
            self.coding = if chunked {
                Coding::Chunked
            } else {
                Coding::Other
            };
        }
    }
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
        let read = Fields::read(&fields);
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
        check(&[(cl, "+5")], Length(5), Length(5), true);
        check(&[(cl, "+5"), (cl, "5")], Unknown, Unknown, true);
        check(&[(te, "chunked")], Chunked, Chunked, false);
        check(&[(te, "gzip, Chunked")], Chunked, Chunked, false);
        check(&[(te, "gzip"), (te, "chunked")], Chunked, Chunked, false);
        check(&[(te, "chunked"), (cl, "99")], Chunked, Chunked, true);
        check(&[(te, "gzip")], Unknown, UntilClose, false);
        check(&[(te, "chunked, gzip")], Unknown, UntilClose, false);
        check(&[(te, "identity"), (cl, "5")], Length(5), Length(5), false);
    }
}
