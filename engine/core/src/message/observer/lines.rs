//! Documents on lines of their own (NDJSON, JSON Lines, RFC 7464): a line that is not blank is one.

use memchr::memchr;

/// Where the reading of lines stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// The line has more than white space.
    has_text: bool,
    /// The beginning of the line is not known.
    is_torn: bool,
}

impl Lines {
    /// Takes a line, or what there is of it; whether a document is over with it.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a [u8]) -> (&'a [u8], bool) {
        let end = memchr(b'\n', rest).map(|end| end + 1);
        let length = end.unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        *rest = behind;
        self.has_text |= !line.trim_ascii().is_empty();
        (line, end.is_some() && self.end())
    }

    pub(super) fn missing(&mut self) {
        self.is_torn = true;
    }

    /// The line is over; whether it was a document.
    pub(super) fn end(&mut self) -> bool {
        let is_torn = std::mem::take(&mut self.is_torn);
        std::mem::take(&mut self.has_text) && !is_torn
    }
}
