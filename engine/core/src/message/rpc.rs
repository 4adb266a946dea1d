//! Remote procedure calls: gRPC, gRPC-Web and Connect, and what their heads say of a call.
//!
//! Source: `PROTOCOL-HTTP2` and `PROTOCOL-WEB` of gRPC, and the protocol reference of Connect (`docs/grpc.md`). A call is
//! recognised by the content type of its request (of its response, where that of the request is unknown), and one of Connect
//! that looks like any other by a header or a parameter; nothing is guessed from a path or a body.

mod base64;
mod status;

pub(super) use base64::Base64;
pub(super) use status::Status;

/// The protocol of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Grpc,
    GrpcWeb,
    Connect,
}

impl System {
    /// Its name in annotations: those of OpenTelemetry.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc_web",
            Self::Connect => "connect",
        }
    }
}

/// How messages lie in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Each behind five octets: flags and length.
    Envelopes,
    /// The same, as base64.
    Base64,
    /// The body is one message.
    Whole,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Protobuf,
    Json,
    Other,
}

/// What a body is by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) system: System,
    pub(super) framing: Framing,
    pub(super) element: Element,
}

impl Media {
    /// By the value of a content type.
    #[inline]
    pub(super) fn of_type(value: &[u8]) -> Option<Self> {
        // What nearly all calls of gRPC have.
        if value == b"application/grpc" {
            return Some(Self {
                system: System::Grpc,
                framing: Framing::Envelopes,
                element: Element::Protobuf,
            });
        }
        // Most are `application/json`: one comparison excludes them.
        let (kind, rest) = value.trim_ascii_start().split_first_chunk::<12>()?;
        let is_possible = matches!(rest.first(), Some(b'g' | b'G' | b'c' | b'C' | b'p' | b'P'));
        if is_possible && kind.eq_ignore_ascii_case(b"application/") {
            Self::of_subtype(rest)
        } else {
            None
        }
    }

    #[cold]
    fn of_subtype(rest: &[u8]) -> Option<Self> {
        let end = rest.iter().position(|byte| matches!(byte, b';' | b','));
        let name = rest.get(..end.unwrap_or(rest.len()))?.trim_ascii();
        let plus = name.iter().position(|byte| *byte == b'+');
        let (name, suffix) = name.split_at_checked(plus.unwrap_or(name.len()))?;
        let suffix = suffix.get(1..).unwrap_or_default();
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        let (system, framing) = if is(b"grpc") {
            (System::Grpc, Framing::Envelopes)
        } else if is(b"grpc-web") {
            (System::GrpcWeb, Framing::Envelopes)
        } else if is(b"grpc-web-text") {
            (System::GrpcWeb, Framing::Base64)
        } else if is(b"connect") {
            (System::Connect, Framing::Envelopes)
        } else if is(b"proto") && suffix.is_empty() {
            (System::Connect, Framing::Whole)
        } else {
            return None;
        };
        let is = |other: &[u8]| suffix.eq_ignore_ascii_case(other);
        let element = if suffix.is_empty() || is(b"proto") {
            Element::Protobuf
        } else if is(b"json") {
            Element::Json
        } else {
            Element::Other
        };
        Some(Self {
            system,
            framing,
            element,
        })
    }
}

/// Service and method of a path `/package.Service/Method`, which a proxy may have put behind others.
pub(super) fn service_and_method(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let path = target.get(..end.unwrap_or(target.len()))?;
    let mut parts = path.rsplit(|byte| *byte == b'/');
    let (method, service) = (parts.next()?, parts.next()?);
    // Before the service there is a slash.
    parts.next()?;
    (!method.is_empty() && !service.is_empty()).then_some((service, method))
}

/// Milliseconds of `grpc-timeout`, rounded up: at most eight digits and a unit.
pub(super) fn timeout_ms(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    let number = number(digits).filter(|_| digits.len() <= 8)?;
    Some(match unit {
        b'H' => number * 3_600_000,
        b'M' => number * 60_000,
        b'S' => number * 1_000,
        b'm' => number,
        b'u' => number.div_ceil(1_000),
        b'n' => number.div_ceil(1_000_000),
        _ => return None,
    })
}

/// The name of a coding of messages, unless they have none. Another one than these is no name of a closed list.
pub(super) fn encoding(value: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 6] = ["gzip", "deflate", "zstd", "snappy", "br", "lz4"];
    let value = value.trim_ascii();
    if value.is_empty() || value.eq_ignore_ascii_case(b"identity") {
        return None;
    }
    let mut names = NAMES.iter();
    let known = names.find(|name| value.eq_ignore_ascii_case(name.as_bytes()));
    Some(known.copied().unwrap_or("other"))
}

/// A decimal number of no more than ten digits.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let is_number = (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let digits = is_number.then(|| digits.iter().map(|digit| u64::from(digit - b'0')))?;
    Some(digits.fold(0, |number, digit| 10 * number + digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        use Element::{Json, Other, Protobuf};
        use Framing::{Base64, Envelopes, Whole};
        use System::{Connect, Grpc, GrpcWeb};
        #[track_caller]
        fn check(value: &str, expected: Option<(System, Framing, Element)>) {
            let media = Media::of_type(value.as_bytes());
            let media = media.map(|media| (media.system, media.framing, media.element));
            assert_eq!(media, expected, "{value}");
        }
        check("application/grpc", Some((Grpc, Envelopes, Protobuf)));
        check("Application/GRPC", Some((Grpc, Envelopes, Protobuf)));
        check("application/grpc+proto", Some((Grpc, Envelopes, Protobuf)));
        check(
            "application/grpc+JSON; charset=utf-8",
            Some((Grpc, Envelopes, Json)),
        );
        check("application/grpc;x=y", Some((Grpc, Envelopes, Protobuf)));
        check("application/grpc+flat", Some((Grpc, Envelopes, Other)));
        check("application/grpc-web", Some((GrpcWeb, Envelopes, Protobuf)));
        check(
            "application/grpc-web-text+proto",
            Some((GrpcWeb, Base64, Protobuf)),
        );
        check("application/connect+json", Some((Connect, Envelopes, Json)));
        check("application/proto", Some((Connect, Whole, Protobuf)));
        for other in [
            "",
            "application/",
            "application/json",
            "application/grpc2",
            "application/grpcweb",
            "application/proto+json",
            "application/protobuf",
            "text/grpc",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn paths() {
        #[track_caller]
        fn check(target: &str, expected: Option<(&str, &str)>) {
            let found = service_and_method(target.as_bytes());
            let expected = expected.map(|(one, two)| (one.as_bytes(), two.as_bytes()));
            assert_eq!(found, expected, "{target}");
        }
        check("/lab.v1.Lab/Unary", Some(("lab.v1.Lab", "Unary")));
        check(
            "/api/lab.v1.Lab/Unary?a=/b/c",
            Some(("lab.v1.Lab", "Unary")),
        );
        check("http://h/lab.Lab/U", Some(("lab.Lab", "U")));
        for other in ["", "/", "/Unary", "lab.Lab/Unary", "/lab.Lab/", "//Unary"] {
            check(other, None);
        }
    }

    #[test]
    fn times() {
        for (value, expected) in [
            ("5S", Some(5_000)),
            ("99999999H", Some(99_999_999 * 3_600_000)),
            ("1M", Some(60_000)),
            ("7m", Some(7)),
            ("1u", Some(1)),
            ("1001u", Some(2)),
            ("1000000n", Some(1)),
            ("1000001n", Some(2)),
            ("0n", Some(0)),
            ("123456789S", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
            ("", None),
        ] {
            assert_eq!(timeout_ms(value.as_bytes()), expected, "{value}");
        }
    }
}
