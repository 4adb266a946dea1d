//! Calls of gRPC: the messages, and the same calls over HTTP/1.1, so that the two versions of HTTP compare with the same headers
//! and the same bodies.

use super::call::COOKIE;
use crate::traffic::{Body, Coding, Exchange, Framing};

/// The text in the message of a request.
pub(super) const REQUEST: &[u8] = b"what the caller asks for";

/// The type of both bodies.
pub(super) const TYPE: &str = "application/grpc";

/// A message behind its prefix, with `text` as its first field.
pub(super) fn message(text: &[u8]) -> Vec<u8> {
    let mut message = vec![0x0a];
    let mut rest = text.len();
    while rest >= 128 {
        message.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    message.push(rest as u8);
    message.extend_from_slice(text);
    let length = (message.len() as u32).to_be_bytes();
    [&[0][..], &length, &message].concat()
}

/// The call over HTTP/1.1. The status, which HTTP/2 sends behind the message, is in the head: it is the same detail there, and
/// trailers of HTTP/1 are none.
pub(super) fn over_http1(exchange: &Exchange) -> Exchange {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let body = |text: &[u8]| Body {
        plain: message(text),
        coding: Coding::Identity,
        framing: Framing::Chunked(usize::MAX),
    };
    let mut call = exchange.clone();
    call.method = "POST".into();
    for (name, value) in &mut call.request_headers {
        if name == "Cookie" {
            *value = COOKIE.into();
        }
    }
    call.request_headers
        .extend([header("Content-Type", TYPE), header("TE", "trailers")]);
    call.request_body = body(REQUEST);
    for (name, value) in &mut call.response_headers {
        if name == "Content-Type" {
            *value = TYPE.into();
        }
    }
    call.response_headers.push(header("Grpc-Status", "0"));
    call.response_body = body(&exchange.response_body.plain);
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_lengths() {
        assert_eq!(message(b"ab"), b"\0\0\0\0\x04\x0a\x02ab");
        assert_eq!(message(&[b'x'; 300])[..8], *b"\0\0\0\x01\x2f\x0a\xac\x02");
    }
}
