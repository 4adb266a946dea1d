//! The text filter of the list: words that must all occur in a call, whatever their case.
//!
//! A word is searched as it is written, so `%`, `_`, `.*` and quotes mean themselves. It is looked for in the line as it was
//! sent, which holds method, URL, status, headers and bodies. Time stamps are left out, since their digits would
//! match any status code sooner or later, and the ids of exchange and connection are met by long words only. In a line the text
//! of a body is JSON-escaped, so a word with a quote or a backslash is also looked for in its escaped form.

use regex::{Regex, RegexBuilder};

use crate::limits::FILTER_BYTES_MAX;

/// A parsed filter; the empty one lets everything through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    words: Vec<Word>,
}

#[derive(Clone, Debug)]
struct Word {
    pattern: Regex,
    /// Long enough to be part of an id on purpose.
    is_long: bool,
}

/// Characters from which on a word is looked for in ids.
const ID_WORD_CHARS: usize = 8;

/// The filter is longer than [`FILTER_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Filter {
    /// Reads a filter: words between white space.
    pub(crate) fn parse(text: &str) -> Result<Self, TooLong> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(TooLong);
        }
        let words = text
            .split_whitespace()
            .map(word)
            .collect::<Result<_, _>>()
            .map_err(|_| TooLong)?;
        Ok(Self { words })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether every word occurs in the line.
    pub(crate) fn matches(&self, line: &str) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let (before, after) = around_now(line);
        self.words.iter().all(|word| {
            word.pattern.is_match(before) || after.split("],[").any(|detail| word.is_in(detail))
        })
    }
}

impl Word {
    /// Whether it occurs in one of the details behind `now`: the interval, the annotations, the logger's host.
    fn is_in(&self, detail: &str) -> bool {
        let name = detail
            .strip_prefix("\"custom_field:")
            .and_then(|rest| rest.split('"').next());
        match name {
            Some(name) if name.ends_with("_started") || name.ends_with("_ended") => false,
            Some("exchange_id" | "connection_id") if !self.is_long => false,
            _ => self.pattern.is_match(detail),
        }
    }
}

fn word(text: &str) -> Result<Word, regex::Error> {
    let plain = regex::escape(text);
    let escaped = regex::escape(&json_escaped(text));
    let pattern = if plain == escaped {
        plain
    } else {
        format!("{plain}|{escaped}")
    };
    let pattern = RegexBuilder::new(&pattern).case_insensitive(true).build()?;
    let is_long = text.chars().count() >= ID_WORD_CHARS;
    Ok(Word { pattern, is_long })
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(&quoted)
        .to_owned()
}

/// The line without its `now` detail. Inside a value the quotes would be escaped, so this finds no look-alike.
fn around_now(line: &str) -> (&str, &str) {
    const NOW: &str = r#"["now",""#;
    let Some((before, rest)) = line.rsplit_once(NOW) else {
        return (line, "");
    };
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"[["request_method","POST"],["request_url","http://Shop.example/v1/a_b"],["response_code","201"],["response_body","{\"rate\":\"5%\",\"Straße\":\"a\\b\"} .*"],["now","1700000000500"],["interval","12"],["custom_field:exchange_id","0503abcdef"],["custom_field:vni","77"],["custom_field:request_started","1700000000502000000"],["host","box"]]"#;

    #[track_caller]
    fn check(filter: &str, expected: bool) {
        assert_eq!(
            Filter::parse(filter).expect("short").matches(LINE),
            expected,
            "{filter}"
        );
    }

    #[test]
    fn words_are_plain_text() {
        for filter in [
            "",
            "  ",
            "post",
            "POST 201",
            "shop.EXAMPLE/v1",
            "a_b",
            "5%",
            ".*",
            "STRASSE",
            "straße",
            "box",
        ] {
            check(filter, filter != "STRASSE");
        }
        for filter in [
            "get",
            "post 404",
            "a%b",
            "axb",
            "%",
            "_",
            "o.t",
            "[a-z]+",
            "(",
            "'",
            "' or 1=1 --",
        ] {
            check(filter, matches!(filter, "%" | "_"));
        }
    }

    #[test]
    fn quotes_and_backslashes_are_found_escaped() {
        check(r#""rate":"5%""#, true);
        check(r"a\b", true);
        check(r#"["request_method","POST"]"#, true);
        check(r#""rate":"6%""#, false);
    }

    #[test]
    fn the_time_stamp_is_no_text() {
        check("500", false);
        check("1700000000500", false);
        check("502", false);
        check("12", true);
        check("77", true);
    }

    #[test]
    fn ids_are_met_by_long_words() {
        check("503", false);
        check("0503ABCDEF", true);
    }

    #[test]
    fn too_long() {
        assert_eq!(
            Filter::parse(&"x".repeat(FILTER_BYTES_MAX + 1)).err(),
            Some(TooLong)
        );
        assert!(Filter::parse(&"é".repeat(FILTER_BYTES_MAX / 2)).is_ok());
    }
}
