//! The recorder: exchanges as lines, and the order of calls that [`Exchanges`] promises.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::http::*;
use crate::time::Timestamp;

/// Writes every exchange as one line, and checks the order of calls that [`Exchanges`] promises.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) lines: Vec<String>,
    pub(super) next: u64,
    pub(super) open: HashMap<u64, &'static str>,
    /// Body bytes handed over.
    pub(super) body_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Draft {
    pub(super) id: u64,
    pub(super) request: String,
    pub(super) request_body: Vec<u8>,
    pub(super) request_end: String,
    pub(super) response: String,
    pub(super) response_body: Vec<u8>,
    pub(super) response_end: String,
}

impl Draft {
    /// The body of a message that has begun and is not over.
    pub(super) fn open_body(&mut self, side: Side) -> &mut Vec<u8> {
        let (head, body, end) = match side {
            Side::Request => (&self.request, &mut self.request_body, &self.request_end),
            Side::Response => (&self.response, &mut self.response_body, &self.response_end),
        };
        assert!(head != "-" && end.is_empty());
        body
    }
}

impl Recorder {
    pub(super) fn begin(&mut self) -> Draft {
        self.next += 1;
        self.open.insert(self.next, "open");
        Draft {
            id: self.next,
            request: "-".to_owned(),
            request_body: Vec::new(),
            request_end: String::new(),
            response: "-".to_owned(),
            response_body: Vec::new(),
            response_end: String::new(),
        }
    }

    pub(super) fn end(&mut self, draft: Draft, how: &str) {
        assert_eq!(self.open.remove(&draft.id), Some("open"), "ended once");
        let mut line = draft.request;
        let _ = write!(
            line,
            " {}",
            String::from_utf8_lossy(&draft.request_body).escape_debug()
        );
        let _ = write!(line, "{} => {}", draft.request_end, draft.response);
        let _ = write!(
            line,
            " {}",
            String::from_utf8_lossy(&draft.response_body).escape_debug()
        );
        let _ = write!(line, "{} {how}", draft.response_end);
        self.lines.push(line);
    }
}

pub(super) fn number_of(version: Version) -> &'static str {
    match version {
        Version::Http09 => "0.9",
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2",
    }
}

pub(super) fn fields_of(headers: &[Header<'_>]) -> String {
    headers
        .iter()
        .map(|field| {
            format!(
                "[{}={}]",
                field.name.escape_ascii(),
                field.value.escape_ascii()
            )
        })
        .collect()
}

impl Exchanges for Recorder {
    type Draft = Draft;

    fn request(&mut self, head: &RequestHead<'_>, origin: &Origin<'_>) -> Draft {
        let mut draft = self.begin();
        draft.request = format!(
            "#{} @{} {} {} {}{}",
            origin.call_index,
            origin.message.number(),
            head.method.escape_ascii(),
            head.target.escape_ascii(),
            number_of(head.version),
            fields_of(head.headers)
        );
        draft
    }

    fn orphan_response(&mut self, head: &ResponseHead<'_>, origin: &Origin<'_>) -> Draft {
        let mut draft = self.begin();
        draft.response = format!(
            "orphan #{} @{} {}{}",
            origin.call_index,
            origin.message.number(),
            head.status,
            fields_of(head.headers)
        );
        draft
    }

    fn trailers(
        &mut self,
        _draft: &mut Draft,
        _side: Side,
        _headers: &[Header<'_>],
        _unknown_fields: u32,
    ) {
        unreachable!("HTTP/1 has none that are reported");
    }

    fn reset(&mut self, _draft: &mut Draft, _by: Side, _code: u32) {
        unreachable!("HTTP/1 resets no exchange");
    }

    fn response(&mut self, draft: &mut Draft, head: &ResponseHead<'_>, origin: &Origin<'_>) {
        assert!(draft.request != "-" && draft.response == "-");
        assert!(
            draft
                .request
                .starts_with(&format!("#{} ", origin.call_index))
        );
        draft.response = format!(
            "@{} {}{}",
            origin.message.number(),
            head.status,
            fields_of(head.headers)
        );
    }

    fn body(&mut self, draft: &mut Draft, side: Side, bytes: &[u8], _: Timestamp) {
        assert!(!bytes.is_empty());
        self.body_bytes += bytes.len() as u64;
        draft.open_body(side).extend_from_slice(bytes);
    }

    fn missing(&mut self, draft: &mut Draft, side: Side, count: u64) {
        assert!(count > 0);
        let body = draft.open_body(side);
        body.extend_from_slice(format!("<{count}>").as_bytes());
    }

    fn end(&mut self, draft: &mut Draft, side: Side, end: BodyEnd, _time: Timestamp) {
        draft.open_body(side);
        let mark = match end {
            BodyEnd::Complete => ".",
            BodyEnd::Cut | BodyEnd::Doubtful => "~",
        };
        match side {
            Side::Request => draft.request_end = mark.to_owned(),
            Side::Response => draft.response_end = mark.to_owned(),
        }
    }

    fn split_response(&mut self, draft: &mut Draft, call_index: u64) -> Draft {
        assert!(!draft.request_end.is_empty() && !draft.response_end.is_empty());
        let mut other = self.begin();
        let response = std::mem::replace(&mut draft.response, "-".to_owned());
        other.response = format!("orphan #{call_index} {response}");
        other.response_body = std::mem::take(&mut draft.response_body);
        other.response_end = std::mem::take(&mut draft.response_end);
        other
    }

    fn finish(&mut self, draft: Draft) {
        assert!(
            !draft.request_end.is_empty() && !draft.response_end.is_empty(),
            "both are over: {draft:?}"
        );
        self.end(draft, "done");
    }

    fn unpaired(&mut self, draft: Draft, reason: UnpairedReason) {
        let both = !draft.request_end.is_empty() && !draft.response_end.is_empty();
        assert!(!both, "not half: {draft:?}");
        assert!(
            !draft.request_end.is_empty() || !draft.response_end.is_empty(),
            "neither is over: {draft:?}"
        );
        self.end(draft, &format!("half {reason:?}"));
    }
}
