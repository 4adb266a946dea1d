//! The replacement expression of a `replace` rule, and the text that it makes.
//!
//! Source: `docs/contract.md`, section 4.7, with decision D3.

use std::ops::Range;

use super::work::{Budget, Spent};

/// What became of a value under `replace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// No match: the value stays, nothing was written.
    Same,
    /// The new value was written.
    Changed,
    /// The work that is allowed was done before the answer was known, or the new value is too long: the value must not
    /// leave.
    Doubt,
}

/// The replacement expression of a `replace` rule, in Go's forms and `\1`..`\9` (D3).
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// 0 is the whole match.
    Group(usize),
}

impl Replacement {
    /// Reads `text` for these groups. Every text is valid: what is no reference is itself, and a reference
    /// to a group that does not exist is empty, as in Go.
    pub(super) fn new(text: &str, groups: &Groups<'_>) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(position) = rest.find(['$', '\\']) {
            let (before, after) = rest.split_at(position);
            plain.push_str(before);
            let (part, len) = reference(after, groups);
            match part {
                Some(Part::Text(text)) => plain.push_str(&text),
                Some(group) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(group);
                }
                None => {}
            }
            rest = after.get(len..).unwrap_or_default();
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self { parts }
    }

    pub(super) fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether it is `$1`.
    pub(super) fn is_first_group(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Group(1)])
    }
}

/// The reference at the start of `text`, which begins with `$` or `\`, and how many bytes it takes.
fn reference(text: &str, groups: &Groups<'_>) -> (Option<Part>, usize) {
    let mut chars = text.chars();
    let sign = chars.next().unwrap_or_default();
    let Some(next) = chars.next() else {
        return (Some(Part::Text(sign.to_string())), 1);
    };
    if sign == '\\' {
        return match next.to_digit(10) {
            // Only groups that exist: `\7` is text where there are two groups, as it is in Go.
            Some(number) if number > 0 && (number as usize) < groups.count => {
                (Some(Part::Group(number as usize)), 2)
            }
            // Two backslashes are text, both of them, and start no reference.
            _ if next == '\\' => (Some(Part::Text("\\\\".to_owned())), 2),
            _ => (Some(Part::Text("\\".to_owned())), 1),
        };
    }
    match next {
        '$' => (Some(Part::Text("$".to_owned())), 2),
        '{' => braced(text, groups),
        '0'..='9' => numbered(text, groups),
        _ if next.is_alphabetic() || next == '_' => {
            let name = chars_of_name(text.get(1..).unwrap_or_default());
            (named(&name, groups), 1 + name.len())
        }
        _ => (Some(Part::Text("$".to_owned())), 1),
    }
}

fn chars_of_name(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn named(name: &str, groups: &Groups<'_>) -> Option<Part> {
    groups
        .names
        .iter()
        .position(|other| *other == Some(name))
        .map(Part::Group)
}

/// `${1}` and `${name}`. Without a closing brace, or with anything but a name inside, the `$` is text.
fn braced(text: &str, groups: &Groups<'_>) -> (Option<Part>, usize) {
    let inner = text.get(2..).unwrap_or_default();
    let name = chars_of_name(inner);
    if name.is_empty() || !inner.get(name.len()..).unwrap_or_default().starts_with('}') {
        return (Some(Part::Text("$".to_owned())), 1);
    }
    let part = match name.parse::<usize>() {
        Ok(number) => (number < groups.count).then_some(Part::Group(number)),
        Err(_) => named(&name, groups),
    };
    (part, name.len() + 3)
}

/// `$1`: the first digit is always the reference; more digits belong to it as long as such a group exists (D3).
fn numbered(text: &str, groups: &Groups<'_>) -> (Option<Part>, usize) {
    let mut digits = text
        .chars()
        .skip(1)
        .map_while(|c| c.to_digit(10))
        .map(|digit| digit as usize);
    let mut number = digits.next().unwrap_or_default();
    let mut len = 2;
    for digit in digits {
        let longer = number * 10 + digit;
        if longer >= groups.count {
            break;
        }
        number = longer;
        len += 1;
    }
    ((number < groups.count).then_some(Part::Group(number)), len)
}

/// The groups of a pattern.
pub(super) struct Groups<'a> {
    /// The whole match included.
    pub(super) count: usize,
    pub(super) names: Vec<Option<&'a str>>,
}

/// Copies a value with its matches replaced.
pub(super) struct Splice<'v, 'o> {
    value: &'v str,
    out: &'o mut String,
    from: usize,
    bytes_max: usize,
    changed: bool,
}

impl<'v, 'o> Splice<'v, 'o> {
    /// The result has at most `bytes_max` bytes.
    pub(super) fn new(value: &'v str, out: &'o mut String, bytes_max: usize) -> Self {
        Self {
            value,
            out,
            from: 0,
            bytes_max,
            changed: false,
        }
    }

    /// Copies the text before a match, and what `with` makes of the match.
    pub(super) fn put<'t>(
        &mut self,
        found: Range<usize>,
        with: &Replacement,
        group: impl Fn(usize) -> Option<&'t str>,
    ) -> Result<(), Spent> {
        // Matches come in order and end on character boundaries, so the range exists.
        let before = self.value.get(self.from..found.start);
        self.copy(before.unwrap_or_default())?;
        self.from = found.end;
        self.changed = true;
        for part in &with.parts {
            self.copy(match part {
                Part::Text(text) => text,
                Part::Group(number) => group(*number).unwrap_or_default(),
            })?;
        }
        Ok(())
    }

    fn copy(&mut self, text: &str) -> Result<(), Spent> {
        if text.len() > self.bytes_max.saturating_sub(self.out.len()) {
            return Err(Spent);
        }
        self.out.push_str(text);
        Ok(())
    }

    /// Copies the rest. What was written is work, too, which bounds the sum of all replacements of a call.
    pub(super) fn finish(mut self, budget: &mut Budget) -> Result<Replaced, Spent> {
        if !self.changed {
            return Ok(Replaced::Same);
        }
        let rest = self.value.get(self.from..);
        self.copy(rest.unwrap_or_default())?;
        budget.spend(self.out.len())?;
        Ok(Replaced::Changed)
    }
}

impl From<Spent> for Replaced {
    fn from(_: Spent) -> Self {
        Self::Doubt
    }
}
