//! Calls as CSV (RFC 4180): a head, then one record for each call, lines end in CR LF.
//!
//! A spreadsheet takes a cell that begins with one of `= + - @`, a tabulator or a line end for a formula, and what calls contain is
//! written by strangers: such a text gets an apostrophe in front, which makes it text again.

use crate::call::{Cell, Summary};
use crate::date;
use crate::fields::Kind;

/// The first record: the names of the fields that a row of the list has.
pub(super) fn head() -> String {
    let mut head = "id".to_owned();
    for (spec, _) in Summary::empty().cells() {
        head.push(',');
        head.push_str(spec.name);
    }
    head + "\r\n"
}

/// The record of a call.
pub(super) fn record(call: &Summary) -> String {
    let mut record = text(call.id.as_str());
    for (spec, cell) in call.cells() {
        record.push(',');
        record += &match cell {
            Cell::Number(Some(time_ms)) if spec.kind == Kind::Time => date::format(time_ms),
            Cell::Number(Some(number)) => number.to_string(),
            Cell::Number(None) => String::new(),
            Cell::Text(value) => text(value),
        };
    }
    record + "\r\n"
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
