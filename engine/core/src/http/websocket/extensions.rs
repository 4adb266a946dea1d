//! What a handshake opens, and with which compression (RFC 6455 §4, RFC 7692 §7).

use crate::http::{Header, Opening};

/// Whether the headers of a 101 change to WebSocket.
pub(in crate::http) fn opens_websocket(headers: &[Header<'_>]) -> bool {
    headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case(b"upgrade")
            && header.value.trim_ascii().eq_ignore_ascii_case(b"websocket")
    })
}

/// What the headers of the response to a handshake have agreed on.
pub(in crate::http) fn opening_of(headers: &[Header<'_>]) -> Opening {
    let mut opening = Opening::default();
    let extensions = headers
        .iter()
        .filter(|header| {
            header
                .name
                .eq_ignore_ascii_case(b"sec-websocket-extensions")
        })
        .flat_map(|header| header.value.split(|byte| *byte == b','));
    for extension in extensions {
        let mut parts = extension
            .split(|byte| *byte == b';')
            .map(<[u8]>::trim_ascii);
        let is_deflate = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(b"permessage-deflate"));
        if !is_deflate {
            continue;
        }
        opening = Opening {
            is_compressed: true,
            client_has_context: true,
            server_has_context: true,
        };
        for part in parts {
            let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
            let name = name.trim_ascii();
            if name.eq_ignore_ascii_case(b"client_no_context_takeover") {
                opening.client_has_context = false;
            } else if name.eq_ignore_ascii_case(b"server_no_context_takeover") {
                opening.server_has_context = false;
            }
        }
    }
    opening
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: (bool, bool, bool)) {
        let header = Header::new(b"Sec-WebSocket-Extensions", value.as_bytes());
        let opening = opening_of(&[Header::new(b"Server", b"x"), header]);
        let found = (
            opening.is_compressed,
            opening.client_has_context,
            opening.server_has_context,
        );
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn extensions_that_are_agreed_on() {
        check("permessage-deflate", (true, true, true));
        check(
            "x-other; a=1, Permessage-Deflate ; server_no_context_takeover; client_max_window_bits=10",
            (true, true, false),
        );
        check(
            "permessage-deflate; client_no_context_takeover;server_no_context_takeover",
            (true, false, false),
        );
        check("", (false, false, false));
        check("x-webkit-deflate-frame", (false, false, false));
    }

    #[test]
    fn an_upgrade_names_its_protocol() {
        assert!(opens_websocket(&[Header::new(b"UPGRADE", b"WebSocket")]));
        assert!(!opens_websocket(&[Header::new(b"upgrade", b"h2c")]));
    }
}
