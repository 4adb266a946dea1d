//! The store: what is posted to its capture URL, and the filters of its page.

use ::store::bundle::Bundle;
use ::store::content;
use ::store::filter::Filter;
use ::store::limits::{COLUMN_BYTES_MAX, LINE_DETAILS_MAX, NOTE_CHARS_MAX, POST_LINES_MAX};
use ::store::line;
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

/// A filter, a NUL, and a line: a filter matches where each of its words does, and what it matches contains them.
pub(super) fn store_filter(input: &[u8]) {
    let cut = input.iter().position(|byte| *byte == 0);
    let (text, line) = input.split_at(cut.unwrap_or(input.len()));
    let (Ok(text), Ok(line)) = (std::str::from_utf8(text), std::str::from_utf8(line)) else {
        return;
    };
    let Ok(filter) = Filter::parse(text) else {
        return;
    };
    let matches = filter.matches(line);
    let mut words = text.split_whitespace();
    let each = |word: &str| Filter::parse(word).expect("it is shorter").matches(line);
    assert_eq!(matches, words.clone().all(each), "{text:?}");
    assert_eq!(filter.is_empty(), words.clone().next().is_none());
    if matches && input.is_ascii() {
        let line = line.to_ascii_lowercase();
        let occurs = |word: &str| {
            let word = word.to_ascii_lowercase();
            let escaped = serde_json::to_string(&word).expect("a text");
            line.contains(&word)
                || line.contains(escaped.trim_matches('"'))
                || escaped.len() > word.len() + 2
        };
        assert!(words.all(occurs), "{text:?}");
    }
}
