//! Calls and rows as lines for people.

use serde_json::Value;
use store::date;

/// Characters of a cell of a table with the rows of a query; the rest is left out.
const CELL_CHARS_MAX: usize = 80;

/// The line of a call: time, method, status, time to the response, size of the response, URL, note.
pub(super) fn call(call: &Value) -> String {
    let text = |name: &str| plain(call[name].as_str().unwrap_or_default());
    let number = |name: &str, unit: &str| match call[name].as_i64() {
        Some(number) => format!("{number}{unit}"),
        None => "-".into(),
    };
    let note = match text("note") {
        note if note.is_empty() => note,
        note => format!("  {note}"),
    };
    format!(
        "{}  {:<7} {:>4} {:>9} {:>11}  {}{note}\n",
        date::format(call["time_ms"].as_i64().unwrap_or_default()),
        text("method"),
        number("status", ""),
        number("interval_ms", " ms"),
        number("response_bytes", " B"),
        text("url"),
    )
}

/// The rows of a query below their names, in columns.
pub(super) fn rows(columns: &Value, rows: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = vec![list(columns).iter().map(cell).collect::<Vec<_>>()];
    lines.extend(
        list(rows)
            .iter()
            .map(|row| list(row).iter().map(cell).collect()),
    );
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    };
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// A text without what a terminal takes for an order, and without changes of the direction of writing.
pub fn plain(text: &str) -> String {
    let replaced = |letter: char| match letter {
        '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{2028}'
        | '\u{2029}' => '\u{fffd}',
        letter if letter.is_control() => ' ',
        letter => letter,
    };
    text.chars().map(replaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_is_one_line_of_plain_text() {
        let made = call(&json!({
            "time_ms": 1_700_000_000_500_i64, "method": "GET", "status": 503, "interval_ms": 12,
            "response_bytes": null, "url": "http://h/\u{1b}[31m\u{202e}x\n", "note": "VNI 7",
        }));
        assert_eq!(
            made,
            "2023-11-14T22:13:20.500Z  GET      503     12 ms           -  http://h/ [31m\u{fffd}x   VNI 7\n"
        );
    }

    #[test]
    fn rows_stand_in_columns() {
        let made = rows(
            &json!(["host", "n"]),
            &json!([["api.shop", 5], [null, 1.5]]),
        );
        assert_eq!(made, "host      n\napi.shop  5\n          1.5\n");
        let long = rows(&json!(["a"]), &json!([["é".repeat(100)]]));
        assert_eq!(
            long.lines().nth(1).expect("a row").chars().count(),
            CELL_CHARS_MAX + 1
        );
    }
}
