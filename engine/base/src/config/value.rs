//! The text of one setting as it was given: under which name, and where.

use std::borrow::Cow;
use std::fmt;

use crate::diagnostic::{Code, Diagnostic};

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
}

/// One value as it was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// The name that the user wrote: a flag or a variable.
    pub name: String,
    /// The text without the quotes around it.
    pub text: String,
    /// Where it came from.
    pub source: Source,
    /// Never shown: not in a message, a status or a report.
    pub is_secret: bool,
}

impl Value {
    /// The text for people, or a placeholder when it is a secret.
    pub fn shown(&self) -> Cow<'_, str> {
        if self.is_secret {
            "(secret)".into()
        } else {
            without_password(&self.text)
        }
    }

    /// The setting as the user wrote it: `NAME=TEXT` or `--ports TEXT`.
    pub fn written(&self) -> String {
        self.written_with(&self.shown())
    }

    /// The setting as the user would write it with another text.
    pub fn written_with(&self, text: &str) -> String {
        let between = if self.name.starts_with('-') { ' ' } else { '=' };
        format!("{}{between}{text}", self.name)
    }

    /// The error for a text that cannot be read.
    pub fn expected(&self, what: &str) -> Diagnostic {
        Diagnostic::new(Code::E002, format!("{}: expected {what}", self.written()))
    }

    /// The error for a list that cannot be read. The fix is the list itself where only its separators are wrong, and an example
    /// otherwise.
    pub fn bad_list(
        &self,
        reason: &impl fmt::Display,
        example: &str,
        is_valid: impl Fn(&str) -> bool,
    ) -> Diagnostic {
        let with_commas: Vec<&str> = self
            .text
            .split([';', '|', ',', ' ', '\n'])
            .filter(|item| !item.is_empty())
            .collect();
        let with_commas = with_commas.join(",");
        let problem = |reason: &dyn fmt::Display| {
            Diagnostic::new(Code::E002, format!("{}: {reason}", self.written()))
        };
        if self.is_secret || !is_valid(&with_commas) {
            // The reason names the item at fault; where that is the whole value, once is enough.
            let reason = reason.to_string();
            let whole = format!("{:?}: ", self.text.trim());
            let reason = reason.strip_prefix(&whole).unwrap_or(&reason);
            return problem(&reason).fix(self.written_with(example));
        }
        problem(&"separate the items with commas").fix(self.written_with(&with_commas))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.written(), self.source)
    }
}

/// The text without the user and the password of a URL in it. What is meant as a password may have any character, so all
/// up to the last `@` counts as one.
pub fn without_password(text: &str) -> Cow<'_, str> {
    let parts = text.split_once("://");
    let parts = parts.and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1)));
    parts.map_or(text.into(), |(scheme, rest)| {
        format!("{scheme}://(secret)@{rest}").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for (text, expected) in [
            ("https://me:pw@host/m", "https://(secret)@host/m"),
            ("https://me:p@/#w@host", "https://(secret)@host"),
            ("https://host/m", "https://host/m"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(without_password(text), expected);
        }
    }
}
