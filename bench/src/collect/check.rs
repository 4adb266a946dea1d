//! Checks of a POST and of its lines by `docs/contract.md`: every line is inflated, parsed and compared.
//!
//! The head and body of a POST give counts, call numbers and, if wanted, rows, or an error that describes the breach of
//! the contract. Bound: [`BUNDLE_BYTES_MAX`] after inflating.

use std::io::Read as _;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::ZlibDecoder;
use hyper::http::request::Parts;

use super::arrival::Arrival;
use super::row::Row;
use crate::lab;
use crate::load::{BODY_END, FIRST_NUMBER};

/// The most bytes of a bundle, before and after inflating.
pub(super) const BUNDLE_BYTES_MAX: usize = 256 << 20;

/// The parts of the head of a POST that the contract constrains.
#[derive(Debug, Default)]
pub(super) struct Head {
    method: String,
    path: String,
    content_type: Option<String>,
    content_encoding: Option<String>,
    /// `Idempotency-Key`.
    pub(super) key: Option<String>,
}

impl Head {
    /// The head of a request that hyper has read.
    pub(super) fn of(parts: &Parts) -> Self {
        let mut head = Self {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            ..Self::default()
        };
        for (name, value) in &parts.headers {
            head.header(name.as_str(), value.as_bytes());
        }
        head
    }

    /// The head in `bytes`, which are known to hold a complete one.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(bytes)?;
        let target = request.path.unwrap_or_default();
        let mut head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            path: target.split('?').next().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        for header in request.headers {
            head.header(header.name, header.value);
        }
        Ok(head)
    }

    fn header(&mut self, name: &str, value: &[u8]) {
        let field = match name.to_ascii_lowercase().as_str() {
            "content-type" => &mut self.content_type,
            "content-encoding" => &mut self.content_encoding,
            "idempotency-key" => &mut self.key,
            _ => return,
        };
        *field = Some(String::from_utf8_lossy(value).into_owned());
    }
}

/// The lines of one bundle, counted.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    pub(super) lines: u64,
    pub(super) line_bytes: u64,
    /// Whether it was not compressed.
    pub(super) is_plain: bool,
    pub(super) mismatched: u64,
    pub(super) truncated: u64,
    pub(super) torn: u64,
    pub(super) arrivals: Vec<Arrival>,
    /// Values of the call number header that are not numbers.
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<Row>,
}

/// Reads all lines of a bundle, or returns how it breaks the contract. `bodies` are the response bodies as they were
/// sent, by call number; empty if they are not known.
pub(super) fn read(
    head: &Head,
    body: &[u8],
    arrived: SystemTime,
    bodies: &[String],
    keep_rows: bool,
) -> Result<Bundle> {
    ensure!(head.method == "POST", "method {}", head.method);
    ensure!(head.path == "/message", "path {}", head.path);
    let content_type = head.content_type.as_deref().context("no Content-Type")?;
    ensure!(
        content_type == "application/ndjson; charset=UTF-8",
        "Content-Type {content_type}"
    );
    let mut bundle = Bundle::default();
    let mut lines = match head.content_encoding.as_deref() {
        None | Some("identity") => {
            bundle.is_plain = true;
            body.to_vec()
        }
        Some("deflated") => inflate(body)?,
        Some(other) => bail!("Content-Encoding {other}"),
    };
    let micros = lab::micros_since_epoch(arrived);
    let mut buffers = simd_json::Buffers::default();
    // simd-json parses in place, so each line is split off as its own mutable slice.
    for line in lines
        .split_mut(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let start = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        bundle.lines += 1;
        bundle.line_bytes += line.len() as u64;
        let row: Vec<(&str, &str)> = simd_json::serde::from_slice_with_buffers(line, &mut buffers)
            .with_context(|| format!("not an array of pairs: {start}"))?;
        bundle.add_row(&row, micros, bodies);
        if keep_rows {
            let owned = row
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            bundle.rows.push(owned.collect());
        }
    }
    ensure!(bundle.lines > 0, "a bundle without a line");
    Ok(bundle)
}

impl Bundle {
    /// Counts a row by its numbers and its response body.
    fn add_row(&mut self, row: &[(&str, &str)], micros: u64, bodies: &[String]) {
        let value = |key: &str| {
            let found = row.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| *value)
        };
        let url_number = value("request_url").and_then(number_in_url);
        let sent = value("request_header:x-call-number");
        let answered = value("response_header:x-answered-number");
        let known = [sent, url_number, answered];
        let mut numbers = known.into_iter().flatten();
        let mut call = None;
        if let Some(text) = numbers.next() {
            self.mismatched += u64::from(numbers.any(|other| other != text));
            // The number in the response alone does not show to which request the line belongs.
            if sent.or(url_number).is_some() {
                match text.parse() {
                    Ok(number) => {
                        call = Some(number);
                        self.arrivals.push(Arrival { number, micros });
                    }
                    Err(_) => self.names.push(text.to_owned()),
                }
            }
        }
        if url_number.is_some()
            && let Some(body) = value("response_body")
        {
            match compare(body, call.and_then(|call| body_of(bodies, call))) {
                Body::Complete => {}
                Body::Truncated => self.truncated += 1,
                Body::Torn => self.torn += 1,
            }
        }
    }
}

/// The state of a reported response body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Complete,
    /// A prefix of what was sent, as far as that is known.
    Truncated,
    /// Different from what was sent.
    Torn,
}

fn body_of(bodies: &[String], call: u64) -> Option<&str> {
    let index = call.checked_rem(bodies.len() as u64)?;
    let known = bodies.get(index as usize).map(String::as_str);
    known.filter(|_| call >= FIRST_NUMBER)
}

fn compare(body: &str, sent: Option<&str>) -> Body {
    match sent {
        Some(sent) if body == sent => Body::Complete,
        // The cut may lie within a character.
        Some(sent) if body.len() < sent.len() => {
            if sent.starts_with(body.trim_end_matches(char::REPLACEMENT_CHARACTER)) {
                Body::Truncated
            } else {
                Body::Torn
            }
        }
        Some(_) => Body::Torn,
        None if body.ends_with(BODY_END) => Body::Complete,
        None => Body::Truncated,
    }
}

/// The number in a URL of [`crate::load`]: `.../n1234567890`, before any query.
fn number_in_url(url: &str) -> Option<&str> {
    let path = url.split(['?', ';']).next()?;
    let number = path.rsplit_once("/n")?.1;
    (number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

fn inflate(body: &[u8]) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    let read = ZlibDecoder::new(body)
        .take(BUNDLE_BYTES_MAX as u64)
        .read_to_end(&mut lines);
    ensure!(
        read.context("not zlib")? < BUNDLE_BYTES_MAX,
        "inflates to more than {BUNDLE_BYTES_MAX} bytes"
    );
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, sent: Option<&str>, expected: Body) {
        assert_eq!(compare(body, sent), expected, "{body} of {sent:?}");
    }

    #[test]
    fn a_prefix_is_truncated_and_anything_else_is_torn() {
        let whole = format!("{{\"city\":\"Zürich\",{BODY_END}");
        let sent = Some(whole.as_str());
        check(&whole, sent, Body::Complete);
        check(&whole, None, Body::Complete);
        check("{\"city\":\"Z", sent, Body::Truncated);
        check("{\"city\":\"Z\u{fffd}", sent, Body::Truncated);
        check("{\"city\":\"Berl", sent, Body::Torn);
        check(&format!("{whole} "), sent, Body::Torn);
        // It does not suffice that both ends are right.
        check(&whole.replace("Zürich", "München"), sent, Body::Torn);
        check("{\"city\":\"Z", None, Body::Truncated);
    }

    #[test]
    fn bodies_repeat_by_call_number() {
        let bodies = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let remainder = (FIRST_NUMBER % 3) as usize;
        assert_eq!(
            body_of(&bodies, FIRST_NUMBER),
            Some(bodies[remainder].as_str())
        );
        assert_eq!(body_of(&bodies, 3 * FIRST_NUMBER), Some("a"));
        assert_eq!(body_of(&bodies, 7), None);
        assert_eq!(body_of(&[], FIRST_NUMBER), None);
    }
}
