//! Calls as CSV (RFC 4180): a head, then one record for each call, lines end in CR LF.
//!
//! A spreadsheet takes a cell that begins with one of `= + - @`, a tabulator or a line end for a formula, and what calls contain is
//! written by strangers: such a text gets an apostrophe in front, which makes it text again.

use crate::call::Summary;
use crate::date;

/// The columns, in their order.
const HEAD: [&str; 20] = [
    "id",
    "time",
    "method",
    "url",
    "host",
    "path",
    "endpoint",
    "operation",
    "status",
    "took_ms",
    "first_byte_ms",
    "request_bytes",
    "response_bytes",
    "content_type",
    "protocol",
    "vni",
    "client",
    "server",
    "appliance",
    "note",
];

/// The first record.
pub(super) fn head() -> String {
    HEAD.join(",") + "\r\n"
}

/// The record of a call.
pub(super) fn record(call: &Summary) -> String {
    let number = |number: Option<i64>| number.map_or_else(String::new, |number| number.to_string());
    let cells: [String; HEAD.len()] = [
        text(call.id.as_str()),
        date::format(call.time_ms),
        text(&call.method),
        text(&call.url),
        text(&call.host),
        text(&call.path),
        text(&call.endpoint),
        text(&call.operation),
        number(call.status),
        number(call.interval_ms),
        number(call.first_byte_ms),
        number(call.request_bytes),
        number(call.response_bytes),
        text(&call.content_type),
        text(&call.protocol),
        number(call.vni),
        text(&call.client),
        text(&call.server),
        text(&call.appliance),
        text(&call.note),
    ];
    cells.join(",") + "\r\n"
}

/// A cell with a text that anybody may have written.
pub(super) fn text(value: &str) -> String {
    let is_formula = value.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let mark = if is_formula { "'" } else { "" };
    if value.contains(['"', ',', '\r', '\n']) {
        format!("\"{mark}{}\"", value.replace('"', "\"\""))
    } else {
        format!("{mark}{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formula() {
        for (value, expected) in [
            ("", ""),
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("@SUM(A1,B1)", "\"'@SUM(A1,B1)\""),
            ("-2", "'-2"),
            ("+49", "'+49"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("a=1", "a=1"),
        ] {
            assert_eq!(text(value), expected, "{value:?}");
        }
    }
}
