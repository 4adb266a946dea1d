//! The store: what is posted to its capture URL, and the filters of its page.

use ::store::bundle::Bundle;
use ::store::content;
use ::store::filter::{Expression, Filter};
use ::store::limits::{COLUMN_BYTES_MAX, LINE_DETAILS_MAX, NOTE_CHARS_MAX, POST_LINES_MAX};
use ::store::line::{self, Columns};
use ::store::sender::Sender;
use engine_core::limits::LINE_DETAILS_MAX as ENGINE_DETAILS_MAX;
use serde_json::Value;

const _: () = assert!(ENGINE_DETAILS_MAX <= LINE_DETAILS_MAX);

/// Plain bytes of one POST here; the store's own bound is a constant, and larger than a fuzzer needs.
const PLAIN_BYTES_MAX: usize = 1 << 20;

/// A POST whose coding the first octet names: lines that are stored are such for another JSON reader, with columns and
/// details within their bounds, and the others are counted.
pub(super) fn store_bundle(input: &[u8]) {
    let Some((&coding, body)) = input.split_first() else {
        return;
    };
    let names = [
        "", "identity", "deflated", "deflate", "gzip", "x-gzip", "br", "GZip ",
    ];
    let name = names[usize::from(coding) % names.len()];
    let Ok(plain) = content::decode(name, body.to_vec().into(), PLAIN_BYTES_MAX) else {
        return;
    };
    assert!(plain.len() <= PLAIN_BYTES_MAX);
    let text = plain.clone();
    let Ok(bundle) = Bundle::split(plain, None, Sender::Local) else {
        return;
    };
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.trim_ascii().is_empty()).count();
    assert!(lines <= POST_LINES_MAX);
    assert_eq!(bundle.calls() as u64 + bundle.bad_lines, lines as u64);
    let mut rest = &text[..];
    for (line, columns) in bundle.lines() {
        let at = memchr::memmem::find(rest, line.as_bytes()).expect("a line of the body");
        rest = &rest[at + line.len()..];
        check_line(line);
        for column in [
            &columns.method,
            &columns.url,
            &columns.host,
            &columns.path,
            &columns.content_type,
        ] {
            assert!(
                column.len() <= COLUMN_BYTES_MAX + "…".len(),
                "{}",
                column.len()
            );
        }
        assert!(columns.note.chars().count() <= NOTE_CHARS_MAX + 1);
    }
}

/// A good line, read by a library: the same details in the same order.
fn check_line(line: &str) {
    let details = line::details(line).expect("it was checked");
    assert!(!details.is_empty() && details.len() <= LINE_DETAILS_MAX);
    let Ok(Value::Array(members)) = serde_json::from_str(line) else {
        // The library refuses numbers and depths that nobody looks at.
        return;
    };
    // A number or a truth value is a text, too; how it is written is not compared.
    let text = |value: &Value| match value {
        Value::String(text) => Some(Some(text.clone())),
        Value::Number(_) | Value::Bool(_) => Some(None),
        _ => None,
    };
    let pair = |member: &Value| match member.as_array()?.as_slice() {
        [name, value] => Some((text(name)?, text(value)?)),
        _ => None,
    };
    let pairs: Vec<_> = members.iter().filter_map(pair).collect();
    assert_eq!(pairs.len(), details.len(), "{line}");
    for ((name, value), detail) in pairs.iter().zip(&details) {
        assert!(name.as_ref().is_none_or(|name| *name == detail.0), "{line}");
        assert!(
            value.as_ref().is_none_or(|value| *value == detail.1),
            "{line}"
        );
    }
}

/// A filter, a NUL, and a line: an error has its place in the text, columns decide as the line does, and laws of logic hold. A word
/// that matches occurs in the line.
pub(super) fn store_filter(input: &[u8]) {
    let cut = input.iter().position(|byte| *byte == 0);
    let (text, line) = input.split_at(cut.unwrap_or(input.len()));
    let line = line.strip_prefix(b"\0").unwrap_or(line);
    let (Ok(text), Ok(line)) = (std::str::from_utf8(text), std::str::from_utf8(line)) else {
        return;
    };
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(error.position <= error.end && error.end <= text.len());
            assert!(text.get(error.position..error.end).is_some(), "{text:?}");
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let matches = filter.matches(line);
    if let Ok(columns) = Columns::read(line) {
        assert_eq!(filter.matches_known(&columns, line), matches, "{text:?}");
        let decided = filter.decide(&columns);
        assert!(decided.is_none_or(|decided| decided == matches), "{text:?}");
    }
    // What is made of it may be too long or too deep.
    let check = |made: String, expected: bool| {
        if let Ok(filter) = Filter::parse(&made) {
            assert_eq!(filter.matches(line), expected, "{made:?}");
        }
    };
    if !text.trim().is_empty() {
        check(format!("not ({text})"), !matches);
        check(format!("({text}) and ({text})"), matches);
        check(format!("({text}) or not ({text})"), true);
    }
    if let Expression::Word(word) = filter.expression() {
        let may_occur = word.may_occur_in(line);
        assert!(may_occur || !matches, "{text:?}");
        if matches && input.is_ascii() {
            let line = line.to_ascii_lowercase();
            let mut texts = word.texts().map(str::to_ascii_lowercase);
            assert!(texts.any(|text| line.contains(&text)), "{text:?}");
        }
    }
}
