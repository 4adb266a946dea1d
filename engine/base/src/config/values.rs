//! The values that were given for all settings: those of the environment, and flags over them.

use std::collections::BTreeMap;

use super::setting::{Form, Row};
use super::value::{Source, Value};

/// All values that were given and are not empty, by their names in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, Value>);

impl Values {
    /// Adds the value of the environment variable `name`, which is one of the row's names.
    pub(super) fn add_variable(&mut self, row: &Row, name: &str, text: String) {
        self.0.insert(
            name.to_owned(),
            Value {
                name: name.to_owned(),
                text,
                source: Source::Environment,
                is_secret: row.is_secret,
            },
        );
    }

    /// Sets the flag of a setting, over whatever the environment has.
    pub fn set(&mut self, row: &Row, text: impl Into<String>) {
        let text = text.into();
        let text = if row.form.has_lines() {
            with_line_ends(&text)
        } else {
            text
        };
        let (name, text) = match row.form {
            Form::Named => self.of_flag(row, &text),
            _ => (row.name.to_owned(), text),
        };
        self.0.insert(
            name,
            Value {
                name: row.long_flag(),
                text,
                source: Source::Flag,
                is_secret: row.is_secret,
            },
        );
    }

    /// The name in the environment and the text of a flag `SINK=TEXT`, behind what the same flag has given for that sink. A
    /// text without a sink is that of a sink without a name, which does not exist.
    fn of_flag(&self, row: &Row, text: &str) -> (String, String) {
        let (sink, text) = text.split_once('=').unwrap_or(("", text));
        let name = row.name_of(sink);
        let before = self.0.get(&name);
        let before = before.filter(|value| value.source == Source::Flag);
        let text = match before {
            Some(before) => format!("{}\n{text}", before.text),
            None => text.to_owned(),
        };
        (name, text)
    }

    /// The value of a setting of one sink.
    pub fn of_sink(&self, row: &Row, sink: &str) -> Option<&Value> {
        self.0.get(&row.name_of(sink))
    }

    /// The values of a setting of one sink, of all sinks, by their names in the environment.
    pub fn of_family<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let all = self.0.iter();
        let is_of_it = |name: &str| row.is_family_of(name) || name == row.name_of("");
        all.filter(move |(name, _)| is_of_it(name))
            .map(|(name, value)| (name.as_str(), value))
    }

    /// The value of a setting, under the first of its names that has one. A flag counts as the first name, so it wins.
    pub fn given(&self, row: &Row) -> Option<&Value> {
        row.names().find_map(|name| self.0.get(name))
    }

    /// Whether a setting was given.
    pub fn has(&self, row: &Row) -> bool {
        self.given(row).is_some()
    }

    /// Removes what was given for a setting.
    pub fn remove(&mut self, row: &Row) {
        for name in row.names() {
            self.0.remove(name);
        }
    }

    /// Name and text of all, for the environment of a child process.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.text.as_str()))
    }
}

/// The text with the characters `\r\n` and `\n` turned into line ends.
pub(super) fn with_line_ends(text: &str) -> String {
    text.replace("\\r\\n", "\n").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kinds::{Optional, Text};
    use crate::config::setting::Setting;

    #[test]
    fn a_secret_is_never_shown() {
        let token: Setting<Optional<Text>> = Setting::new("SNIFFER_TOKEN", || None)
            .flag("token", "TEXT")
            .secret();
        let mut values = Values::default();
        values.set(&token, "hunter2");
        let value = values.given(&token).unwrap();
        assert_eq!(value.written(), "--token (secret)");
        let shown = [
            format!("{values:?}"),
            value.expected("a token").to_string(),
            value.bad_list(&"no token", "TOKEN", |_| true).to_string(),
        ];
        assert!(
            shown.iter().all(|text| !text.contains("hunter2")),
            "{shown:?}"
        );
        assert_eq!(
            token.check(Some(value)).unwrap(),
            Some("hunter2".to_owned())
        );
    }
}
