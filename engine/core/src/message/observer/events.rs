//! Event streams (`text/event-stream`, the HTML standard, section 9.2.6): lines of fields, and an empty one behind each event.
//!
//! An event counts if it has a `data` field: others are comments, and are dispatched by no client. Of each line the first
//! octets are kept, which show its field and the few values by which streams of models and tools end.

use memchr::memchr2;

/// How an event stream has ended by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With the mark of its end.
    Done,
    /// With an error.
    Error,
}

/// Octets of a line that are kept: the longest field that is looked for, with some blanks.
const LINE_BYTES: usize = 32;

/// Where the reading of an event stream stands.
#[derive(Clone, Debug)]
pub(super) struct Events {
    /// The beginning of the line.
    line: [u8; LINE_BYTES],
    /// Octets of the line, at most one more than are kept.
    length: usize,
    /// The octet before was a CR: an LF that follows belongs to it.
    is_behind_cr: bool,
    /// The beginning of the line is not known.
    is_torn: bool,
    /// Nothing of the stream was seen: a byte order mark may come.
    is_first: bool,
    /// The event has a `data` field.
    has_data: bool,
    /// How the stream ends by a field of the event.
    hint: Option<Outcome>,
    outcome: Option<Outcome>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            line: [0; LINE_BYTES],
            length: 0,
            is_behind_cr: false,
            is_torn: false,
            is_first: true,
            has_data: false,
            hint: None,
            outcome: None,
        }
    }
}

impl Events {
    /// Takes a line, or what there is of it; whether it ends an event.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a [u8]) -> (&'a [u8], bool) {
        let whole = *rest;
        let is_rest_of_end =
            std::mem::take(&mut self.is_behind_cr) && whole.first() == Some(&b'\n');
        let start = usize::from(is_rest_of_end);
        let behind = whole.get(start..).unwrap_or_default();
        let Some(end) = memchr2(b'\r', b'\n', behind) else {
            self.keep(behind);
            *rest = &[];
            return (whole, false);
        };
        let (text, end) = behind.split_at_checked(end).unwrap_or((behind, &[]));
        self.keep(text);
        self.is_behind_cr = end.first() == Some(&b'\r');
        let (line, behind) = whole
            .split_at_checked(start + text.len() + 1)
            .unwrap_or((whole, &[]));
        *rest = behind;
        (line, self.end_line())
    }

    pub(super) fn missing(&mut self) {
        (self.is_torn, self.is_behind_cr, self.is_first) = (true, false, false);
        (self.has_data, self.hint) = (false, None);
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    fn keep(&mut self, text: &[u8]) {
        let places = self.line.iter_mut().skip(self.length);
        for (place, octet) in places.zip(text) {
            *place = *octet;
        }
        self.length = (self.length + text.len()).min(LINE_BYTES + 1);
    }

    /// Acts on the line that is over; whether it ends an event.
    fn end_line(&mut self) -> bool {
        let length = std::mem::take(&mut self.length);
        let is_first = std::mem::take(&mut self.is_first);
        if std::mem::take(&mut self.is_torn) {
            return false;
        }
        let line = self.line.get(..length.min(LINE_BYTES)).unwrap_or_default();
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(behind) if is_first => behind,
            _ => line,
        };
        if line.is_empty() {
            let hint = self.hint.take();
            let is_event = std::mem::take(&mut self.has_data);
            if is_event && self.outcome != Some(Outcome::Error) {
                self.outcome = hint.or(self.outcome);
            }
            return is_event;
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (field, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        let value = value.strip_prefix(b":").unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let is_cut = length > LINE_BYTES;
        match field {
            b"data" => {
                self.has_data = true;
                self.hint = self.hint.or(outcome_of_data(value, is_cut));
            }
            b"event" if !is_cut => self.hint = outcome_of_name(value).or(self.hint),
            _ => {}
        }
        false
    }
}

/// How the stream ends by the data of an event: the mark of the APIs of models, or an object whose first member is an error, unless
/// it says that there is none.
fn outcome_of_data(value: &[u8], is_cut: bool) -> Option<Outcome> {
    if !is_cut && value.trim_ascii_end() == b"[DONE]" {
        return Some(Outcome::Done);
    }
    let member = value.strip_prefix(b"{")?.trim_ascii_start();
    let behind = member.strip_prefix(b"\"error\"")?.trim_ascii_start();
    let error = behind.strip_prefix(b":")?.trim_ascii_start();
    let is_none = [&b"null"[..], b"false"]
        .iter()
        .any(|none| error.starts_with(none));
    (!is_none).then_some(Outcome::Error)
}

/// How the stream ends by the name of an event.
fn outcome_of_name(name: &[u8]) -> Option<Outcome> {
    match name {
        b"error" | b"response.failed" => Some(Outcome::Error),
        b"message_stop" | b"response.completed" => Some(Outcome::Done),
        _ => None,
    }
}
