//! A header line in its parts, and which of the names it has that mean something to us.

/// One header line: the name as sent, the value without surrounding white space and with folds joined by one space.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// As sent; compared without regard to case.
    pub name: &'a [u8],
    /// Bytes as sent; not necessarily UTF-8.
    pub value: &'a [u8],
    known: Option<Known>,
}

/// Names that framing or messages ask for. Which one it is is found out once, when the line is read: a dozen lines are
/// asked half a dozen times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// RFC 9110 §7.2.
    Host,
    /// RFC 6265 §4.2.
    Cookie,
    /// RFC 9110 §6.6.2.
    Trailer,
    /// RFC 9110 §8.3.
    ContentType,
    /// RFC 9110 §8.6.
    ContentLength,
    /// RFC 9110 §8.4.
    ContentEncoding,
    /// RFC 9112 §6.1.
    TransferEncoding,
}

impl<'a> Header<'a> {
    /// `name` and `value` without white space around.
    #[inline]
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Self {
        Self {
            name,
            value,
            known: Known::of(name),
        }
    }

    /// Whether it has that name.
    #[inline]
    pub fn is(&self, known: Known) -> bool {
        self.known == Some(known)
    }

    /// The name that it has, if it is one of those.
    #[inline]
    pub fn known(&self) -> Option<Known> {
        self.known
    }
}

impl Known {
    #[inline]
    fn of(name: &[u8]) -> Option<Self> {
        // No two of them have the same length, so a name is compared with one of them at most.
        let (is, known) = match name.len() {
            4 => (is(name, b"host"), Self::Host),
            6 => (is(name, b"cookie"), Self::Cookie),
            7 => (is(name, b"trailer"), Self::Trailer),
            12 => (is(name, b"content-type"), Self::ContentType),
            14 => (is(name, b"content-length"), Self::ContentLength),
            16 => (is(name, b"content-encoding"), Self::ContentEncoding),
            17 => (is(name, b"transfer-encoding"), Self::TransferEncoding),
            _ => return None,
        };
        is.then_some(known)
    }
}

/// Whether `name` is `lower` but for the case of letters. The library goes byte by byte; here the length is known when this
/// is compiled, and no byte is waited for.
#[inline]
fn is<const LENGTH: usize>(name: &[u8], lower: &[u8; LENGTH]) -> bool {
    let Some(name) = name
        .first_chunk::<LENGTH>()
        .filter(|_| name.len() == LENGTH)
    else {
        return false;
    };
    let bytes = name.iter().zip(lower);
    let difference = bytes.fold(0, |difference, (byte, lower)| {
        let case = if lower.is_ascii_lowercase() { 0x20 } else { 0 };
        difference | ((byte | case) ^ lower)
    });
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<Known>) {
        assert_eq!(
            Header::new(name.as_bytes(), b"").known(),
            expected,
            "{name}"
        );
    }

    #[test]
    fn known_names_in_any_case() {
        check("Host", Some(Known::Host));
        check("COOKIE", Some(Known::Cookie));
        check("trailer", Some(Known::Trailer));
        check("Content-Type", Some(Known::ContentType));
        check("content-LENGTH", Some(Known::ContentLength));
        check("Content-Encoding", Some(Known::ContentEncoding));
        check("Transfer-Encoding", Some(Known::TransferEncoding));
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
}
