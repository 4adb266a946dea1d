//! The table of `sniffer read`: a row for each call, made from the finished line, so that it shows only what would be sent.
//!
//! Captured text may contain anything, terminal commands included, so only printable characters are shown.

use engine_core::message::Notes;
use engine_core::time::Timestamp;

use crate::quantity::{bytes, thousands};

/// Least columns of a URL, however narrow the terminal.
const URL_COLUMNS_MIN: usize = 20;

/// Columns of everything other than URL and note.
const OTHER_COLUMNS: usize = 58;

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    number: u64,
    start: Option<Timestamp>,
    url_columns: usize,
    body_bytes_max: usize,
    colour: bool,
}

impl Table {
    /// A table for a terminal of this many columns.
    pub(super) fn new(columns: usize, body_bytes_max: usize, colour: bool) -> Self {
        let url_columns = columns
            .saturating_sub(OTHER_COLUMNS + 16)
            .max(URL_COLUMNS_MIN);
        Self {
            number: 0,
            start: None,
            url_columns,
            body_bytes_max,
            colour,
        }
    }

    /// Times are shown relative to this one.
    pub(super) fn starts_at(&mut self, time: Timestamp) {
        self.start.get_or_insert(time);
    }

    /// The row with the names of the columns.
    pub(super) fn head(&self) -> String {
        let width = self.url_columns;
        format!(
            "{:>4}  {:>10}  {:<7} {:<width$} {:>6} {:>8} {:>8} {:>8}  note\n",
            "#", "time (s)", "method", "url", "status", "took", "req", "resp"
        )
    }

    /// The row of one call.
    pub(super) fn row(&mut self, line: &[u8], notes: &Notes) -> String {
        self.number += 1;
        // A line that is not a list of pairs would be a bug; its row then shows only what is in the notes.
        let details: Vec<(String, String)> = serde_json::from_slice(line).unwrap_or_default();
        let value = |name: &str| {
            details
                .iter()
                .find(|(key, _)| key == name)
                .map_or("-", |(_, value)| value.as_str())
        };
        let url = value("request_url");
        let url = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"))
            .unwrap_or(url);
        let width = self.url_columns;
        let start = self.start.unwrap_or_default();
        let seconds = Timestamp::from_nanos(notes.started_nanos)
            .since(start)
            .as_secs_f64();
        let status = value("response_code");
        let took = if notes.unpaired {
            "-".to_owned()
        } else {
            span(notes.took_nanos)
        };
        let row = format!(
            "{:>4}  {seconds:>10.6}  {:<7} {:<width$} {:>6} {took:>8} {:>8} {:>8}  {}",
            self.number,
            printable(value("request_method"), 7),
            printable(url, width),
            printable(status, 6),
            bytes(notes.request_body_bytes),
            bytes(notes.response_body_bytes),
            self.note(notes),
        );
        let paint = match status.as_bytes().first() {
            Some(b'5') => "\x1b[31m",
            Some(b'4') => "\x1b[33m",
            _ => "",
        };
        if self.colour && !paint.is_empty() {
            format!("{paint}{}\x1b[0m\n", row.trim_end())
        } else {
            format!("{}\n", row.trim_end())
        }
    }

    fn note(&self, notes: &Notes) -> String {
        let mut words = Vec::new();
        if let Some(vni) = notes.vni {
            words.push(format!("vni {vni}"));
        }
        if notes.unpaired {
            words.push("half call".to_owned());
        }
        if notes.truncated {
            words.push(format!("body cut at {}", limit(self.body_bytes_max)));
        }
        if notes.missing_bytes > 0 {
            words.push(format!(
                "{} B missing in packets",
                thousands(notes.missing_bytes)
            ));
        }
        if notes.incomplete && !notes.unpaired && notes.missing_bytes == 0 {
            words.push("incomplete".to_owned());
        }
        words.join("; ")
    }
}

/// `1 MiB`: a power of two, as in the settings.
fn limit(count: usize) -> String {
    match count {
        count if count >= 1 << 20 && count % (1 << 20) == 0 => format!("{} MiB", count >> 20),
        count if count >= 1 << 10 && count % (1 << 10) == 0 => format!("{} KiB", count >> 10),
        count => format!("{count} B"),
    }
}

/// `12 ms`, `1.2 s`.
fn span(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        1_000_000..1_000_000_000 => format!("{} ms", nanos / 1_000_000),
        _ => format!("{:.1} s", nanos as f64 / 1e9),
    }
}

/// At most `columns` characters, without any that does something else than to be shown.
pub fn printable(text: &str, columns: usize) -> String {
    let is_plain = |letter: char| {
        !letter.is_control()
            && !matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let shown = |letter| if is_plain(letter) { letter } else { '·' };
    if text.chars().count() <= columns {
        return text.chars().map(shown).collect();
    }
    text.chars()
        .take(columns.saturating_sub(1))
        .map(shown)
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = br#"[["request_method","GET"],["request_url","http://api.shop/v1/orders/17"],["response_code","200"]]"#;

    #[track_caller]
    fn check(line: &[u8], notes: Notes, expected: &str) {
        let mut table = Table::new(100, 1 << 20, false);
        table.starts_at(Timestamp::from_parts(100, 0));
        assert_eq!(table.row(line, &notes), expected);
    }

    #[test]
    fn a_row_shows_what_is_known() {
        let notes = Notes {
            started_nanos: 100_031_877_000,
            took_nanos: 12_400_000,
            response_body_bytes: 1_234,
            ..Notes::default()
        };
        check(
            LINE,
            notes,
            "   1    0.031877  GET     api.shop/v1/orders/17         200    12 ms      0 B   1.2 kB\n",
        );
        let notes = Notes {
            vni: Some(123),
            missing_bytes: 4096,
            truncated: true,
            ..notes
        };
        check(
            LINE,
            notes,
            "   1    0.031877  GET     api.shop/v1/orders/17         200    12 ms      0 B   1.2 kB  \
             vni 123; body cut at 1 MiB; 4 096 B missing in packets\n",
        );
        check(
            b"[]",
            Notes {
                unpaired: true,
                ..Notes::default()
            },
            "   1    0.000000  -       -                               -        -      0 B      0 B  half call\n",
        );
    }

    #[test]
    fn nothing_captured_commands_the_terminal() {
        let line =
            br#"[["request_url","http://x/\u001b]0;pwned\u0007\u202e"],["request_method","A\nB"]]"#;
        let row = Table::new(100, 0, false).row(line, &Notes::default());
        assert!(!row.trim_end().chars().any(char::is_control), "{row:?}");
        assert!(
            row.contains("A·B") && row.contains("x/·]0;pwned··"),
            "{row:?}"
        );
    }

    #[test]
    fn a_long_url_is_cut_with_a_mark() {
        assert_eq!(printable("abcdef", 4), "abc…");
        assert_eq!(printable("abcd", 4), "abcd");
    }
}
