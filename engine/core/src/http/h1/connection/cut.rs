//! Heads of which a mirror or a snap length cut off the end: what was captured of one is a half call.
//!
//! Complete header lines are kept, and the start line as far as it was captured, if that suffices to recognise it.

use memchr::memrchr;

use super::Connection;
use super::heads::origin;
use crate::flow::Direction;
use crate::http::h1::direction::{Start, Step, Unanswered};
use crate::http::h1::head::{self, StartLine};
use crate::http::h1::pairing::ResponseContext;
use crate::http::h1::start_line::{is_known_method, status_line};
use crate::http::{Exchanges, Http, RequestHead, ResponseHead, Side};

impl<D> Connection<D> {
    /// The next bytes of `direction` were cut off: reports the head that they belong to, if it is one.
    #[cold]
    pub(in crate::http) fn read_cut_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        let reading = &self.readings[direction];
        if !matches!(reading.step, Step::Head(_) | Step::Resync) {
            return;
        }
        let Some((text, side)) = completed(&reading.collected.bytes) else {
            return;
        };
        if self.side(direction).is_some_and(|known| known != side) {
            return;
        }
        let client = match side {
            Side::Request => direction,
            Side::Response => direction.reverse(),
        };
        self.set_client(client, shared);
        let reading = &self.readings[direction];
        let start = reading.collected.start(reading.last);
        let mut fields = Vec::new();
        let Ok(head) = head::parse(&text, side, &mut fields) else {
            return;
        };
        let last = start.now;
        match head.start {
            StartLine::Request(line) => {
                let mut head = RequestHead::new(line.method, line.target, line.version, &fields);
                // Any field may have been cut off.
                head.unknown_fields = 1;
                shared.counters.requests += 1;
                self.end_alternating_response(direction.reverse(), last, shared);
                let origin = origin(&self.flow, self.client, start);
                self.pairing.cut_request(&head, origin, shared);
            }
            StartLine::Status { version, status } if !matches!(status, 100..=199) => {
                let head = ResponseHead::new(status, version, &fields);
                self.cut_response(direction, &head, start, shared);
            }
            StartLine::Status { .. } => {}
        }
    }

    fn cut_response<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        head: &ResponseHead<'_>,
        start: Start,
        shared: &mut Http<X>,
    ) {
        shared.counters.responses += 1;
        let context = ResponseContext {
            requests_lost: self.may_have_unread_requests(direction.reverse(), start.acked),
            responses_lost: self.readings[direction].lost,
            acked: start.acked.at_most(),
        };
        let origin = origin(&self.flow, self.client, start);
        self.pairing.cut_response(head, origin, context, shared);
        // It answers what was cut of the requests.
        self.readings[direction.reverse()].unanswered = Unanswered::Nothing;
    }
}

/// The first lines of a head, completed to a head, and whose it is.
fn completed(bytes: &[u8]) -> Option<(Vec<u8>, Side)> {
    let side = if bytes.starts_with(b"HTTP/") {
        Side::Response
    } else {
        Side::Request
    };
    if let Some(end) = memrchr(b'\n', bytes) {
        let lines = bytes.get(..=end).unwrap_or(bytes);
        return Some(([lines, b"\n"].concat(), side));
    }
    let line = bytes.trim_ascii_end();
    if side == Side::Response {
        status_line(line)?;
        return Some(([line, b"\n\n"].concat(), side));
    }
    let mut words = line.splitn(2, |&byte| byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let target = match memrchr(b' ', target) {
        Some(blank) if b"HTTP/1.1".starts_with(target.get(blank + 1..)?) => target.get(..blank)?,
        _ => target,
    };
    let is_target = target.starts_with(b"/") || target.starts_with(b"http");
    if !is_known_method(method) || !is_target {
        return None;
    }
    let line = [method, b" ", target, b" HTTP/1.1\n\n"].concat();
    Some((line, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &str, expected: Option<&str>) {
        let found = completed(bytes.as_bytes());
        let text = found.map(|(text, _)| String::from_utf8(text).unwrap());
        assert_eq!(text.as_deref(), expected, "{bytes}");
    }

    #[test]
    fn what_was_captured_of_a_head() {
        check(
            "GET /a?b HTTP/1.1\r\nHost: h\r\nX-",
            Some("GET /a?b HTTP/1.1\r\nHost: h\r\n\n"),
        );
        check("GET /a?b HTT", Some("GET /a?b HTTP/1.1\n\n"));
        check("DELETE /or", Some("DELETE /or HTTP/1.1\n\n"));
        check("HTTP/1.1 404 Not", Some("HTTP/1.1 404 Not\n\n"));
        check("HTTP/1.1 4", None);
        check("GET ", None);
        check("EHLO host", None);
    }
}
