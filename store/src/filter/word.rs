//! Text search: a word of a filter, searched for in the line as it was sent, which holds method, URL, status, headers and bodies.
//!
//! A word is searched for as it is written, in upper and lower case, so `%`, `_` and `.*` stand for themselves. Time stamps are
//! left out, since their digits would match any status code sooner or later, and only long words match the ids of exchange and
//! connection. In a line the text of a body is JSON-escaped, so a word with a quote or a backslash is also searched for in its
//! escaped form.

use regex::{Regex, RegexBuilder};

/// A text that is searched for.
#[derive(Clone, Debug)]
pub struct Word {
    text: String,
    /// The text as a JSON string contains it, when that differs.
    escaped: Option<String>,
    pattern: Regex,
    /// Long enough to be part of an id on purpose.
    is_long: bool,
}

/// A line in two parts: what stands before its `now` detail, and the interval, the annotations and the host of the logger
/// behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Searched<'a> {
    before: &'a str,
    behind: &'a str,
}

impl<'a> Searched<'a> {
    /// Inside a value the quotes would be escaped, so this finds no look-alike.
    pub(super) fn new(line: &'a str) -> Self {
        const NOW: &str = r#"["now",""#;
        let (before, rest) = line.rsplit_once(NOW).unwrap_or((line, ""));
        let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        Self { before, behind }
    }
}

/// Characters from which on a word is searched for in ids.
const ID_WORD_CHARS: usize = 8;

impl Word {
    pub(super) fn new(text: &str) -> Result<Self, regex::Error> {
        let escaped = json_escaped(text);
        let escaped = (escaped != text).then_some(escaped);
        let pattern = match &escaped {
            Some(escaped) => format!("{}|{}", regex::escape(text), regex::escape(escaped)),
            None => regex::escape(text),
        };
        Ok(Self {
            text: text.to_owned(),
            escaped,
            pattern: RegexBuilder::new(&pattern).case_insensitive(true).build()?,
            is_long: text.chars().count() >= ID_WORD_CHARS,
        })
    }

    /// Texts of which every line that matches contains at least one, when cases are ignored as in Unicode's simple case
    /// folding. A line that contains one need not match.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.text.as_str()).chain(self.escaped.as_deref())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a line within a text may contain it. A text in which it does not occur has none.
    pub fn may_occur_in(&self, text: &str) -> bool {
        self.pattern.is_match(text)
    }

    /// Whether a line contains it.
    pub(super) fn occurs_in(&self, line: &Searched<'_>) -> bool {
        self.pattern.is_match(line.before)
            || line
                .behind
                .split("],[")
                .any(|detail| self.occurs_in_detail(detail))
    }

    fn occurs_in_detail(&self, detail: &str) -> bool {
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

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(&quoted)
        .to_owned()
}
