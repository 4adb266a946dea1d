//! The status of a call: the codes of gRPC.

use super::number;

/// One of the codes of gRPC, or a number that is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::message) struct Status(u64);

/// By number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Status {
    pub(in crate::message) const OK: Self = Self(0);

    /// Of the value of `grpc-status`.
    pub(in crate::message) fn of_header(value: &[u8]) -> Option<Self> {
        number(value).map(Self)
    }

    pub(in crate::message) const fn code(self) -> u64 {
        self.0
    }

    /// Its name; none for a number that is no code.
    pub(in crate::message) fn name(self) -> Option<&'static str> {
        let place = usize::try_from(self.0).ok()?;
        CODES.get(place).copied()
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
    }
}
