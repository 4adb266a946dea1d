//! A tunnel through a forward proxy: CONNECT, and the answer to it (RFC 9110 section 9.3.6).

use super::retry::Failure;
use crate::limits;

/// The head of an answer, while it is received.
#[derive(Debug, Default)]
pub(super) struct Head(Vec<u8>);

impl Head {
    /// Takes what was received, up to the end of the head or its bound; how much of it that was, and whether there is no need
    /// of more.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (index, byte) in bytes.iter().enumerate() {
            self.0.push(*byte);
            if self.is_whole() || self.0.len() >= limits::UPLOAD_PROXY_HEAD_BYTES_MAX {
                return (index + 1, true);
            }
        }
        (bytes.len(), false)
    }

    fn is_whole(&self) -> bool {
        self.0.ends_with(b"\r\n\r\n") || self.0.ends_with(b"\n\n")
    }

    /// Whether a tunnel begins behind this head.
    ///
    /// # Errors
    ///
    /// What it says instead.
    pub(super) fn opens(&self) -> Result<(), Failure> {
        let why = match self.status().filter(|_| self.is_whole()) {
            Some(200..=299) => return Ok(()),
            None => return Err(Failure::Proxy(0, "its answer is not HTTP/1".to_owned())),
            Some(407) => {
                "it does not accept the credentials, or requires some. fix: --proxy http://USER:PASSWORD@HOST:PORT"
            }
            Some(403 | 405) => "it does not allow connections to this host and port",
            Some(502..=504) => "it cannot connect to the collector",
            Some(_) => "it makes no connection",
        };
        Err(Failure::Proxy(
            self.status().unwrap_or_default(),
            why.to_owned(),
        ))
    }

    /// The status, if it is one of HTTP/1.
    pub(super) fn status(&self) -> Option<u16> {
        let line = self.0.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line.trim_ascii()).ok()?;
        let mut parts = line.split(' ');
        parts
            .next()
            .filter(|version| version.starts_with("HTTP/1."))?;
        let status = parts.next()?;
        (status.len() == 3).then(|| status.parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], taken: usize, is_whole: bool, status: Option<u16>) {
        // At once, and byte by byte.
        let mut head = Head::default();
        assert_eq!(head.take(bytes), (taken, is_whole));
        assert_eq!(head.status(), status);
        let mut slow = Head::default();
        let ends = bytes.iter().map(|byte| slow.take(&[*byte]).1);
        assert_eq!(ends.take(taken).last(), Some(is_whole));
        assert_eq!(slow.status(), status);
    }

    #[test]
    fn a_head_ends_where_the_tunnel_begins() {
        check(b"HTTP/1.1 200 OK\r\n\r\nTLS", 19, true, Some(200));
        check(b"HTTP/1.0 407 No\r\nA: b\r\n\r\n", 25, true, Some(407));
        check(b"HTTP/1.1 200\n\nx", 14, true, Some(200));
        check(b"HTTP/1.1 200 OK\r\n", 17, false, Some(200));
        check(b"SSH-2.0-x\r\n\r\n", 13, true, None);
        check(b"HTTP/1.1 20x OK\r\n\r\n", 19, true, None);
        check(b"HTTP/2 200\r\n\r\n", 14, true, None);
    }

    #[test]
    fn a_head_without_end_is_too_long() {
        let most = limits::UPLOAD_PROXY_HEAD_BYTES_MAX;
        let mut bytes = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        bytes.resize(2 * most, b'x');
        let mut head = Head::default();
        assert_eq!(head.take(&bytes), (most, true));
        assert!(matches!(head.opens(), Err(Failure::Proxy(0, _))));
    }

    #[test]
    fn an_answer_that_opens_no_tunnel_is_explained() {
        for (bytes, status, expected) in [
            ("HTTP/1.1 407 x\r\n\r\n", 407, "credentials"),
            ("HTTP/1.1 403 x\r\n\r\n", 403, "does not allow"),
            ("HTTP/1.1 503 x\r\n\r\n", 503, "cannot connect"),
            ("HTTP/1.1 400 x\r\n\r\n", 400, "no connection"),
            ("SSH-2.0\n\n", 0, "not HTTP/1"),
        ] {
            let mut head = Head::default();
            head.take(bytes.as_bytes());
            let Err(Failure::Proxy(number, why)) = head.opens() else {
                panic!("{bytes}")
            };
            assert!(number == status && why.contains(expected), "{number} {why}");
        }
        let mut head = Head::default();
        head.take(b"HTTP/1.1 200 Connection established\r\n\r\n");
        assert_eq!(head.opens(), Ok(()));
    }
}
