//! The status of a call: the codes of gRPC, which Connect writes as words.

use super::number;

/// One of the codes of gRPC, or a number that is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::message) struct Status(u64);

/// By number: the name in gRPC, the word in Connect.
const CODES: [(&str, &str); 17] = [
    ("OK", ""),
    ("CANCELLED", "canceled"),
    ("UNKNOWN", "unknown"),
    ("INVALID_ARGUMENT", "invalid_argument"),
    ("DEADLINE_EXCEEDED", "deadline_exceeded"),
    ("NOT_FOUND", "not_found"),
    ("ALREADY_EXISTS", "already_exists"),
    ("PERMISSION_DENIED", "permission_denied"),
    ("RESOURCE_EXHAUSTED", "resource_exhausted"),
    ("FAILED_PRECONDITION", "failed_precondition"),
    ("ABORTED", "aborted"),
    ("OUT_OF_RANGE", "out_of_range"),
    ("UNIMPLEMENTED", "unimplemented"),
    ("INTERNAL", "internal"),
    ("UNAVAILABLE", "unavailable"),
    ("DATA_LOSS", "data_loss"),
    ("UNAUTHENTICATED", "unauthenticated"),
];

impl Status {
    pub(in crate::message) const OK: Self = Self(0);

    /// Of the value of `grpc-status`.
    pub(in crate::message) fn of_header(value: &[u8]) -> Option<Self> {
        number(value).map(Self)
    }

    /// Of the code in an error of Connect.
    pub(in crate::message) fn of_word(word: &str) -> Option<Self> {
        let place = CODES.iter().position(|(_, code)| *code == word)?;
        (place > 0).then_some(Self(place as u64))
    }

    pub(in crate::message) const fn code(self) -> u64 {
        self.0
    }

    /// Its name; none for a number that is no code.
    pub(in crate::message) fn name(self) -> Option<&'static str> {
        let place = usize::try_from(self.0).ok()?;
        CODES.get(place).map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words() {
        let of = |value: &str| Status::of_header(value.as_bytes());
        assert_eq!(of("5").and_then(Status::name), Some("NOT_FOUND"));
        assert_eq!(of("0"), Some(Status::OK));
        let odd = of("99").unwrap();
        assert_eq!((odd.code(), odd.name()), (99, None));
        for none in ["", "x", "-1", "5 ", "99999999999"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(Status::of_word("canceled").map(Status::code), Some(1));
        assert_eq!(Status::of_word("").map(Status::code), None);
        assert_eq!(Status::of_word("no"), None);
    }
}
