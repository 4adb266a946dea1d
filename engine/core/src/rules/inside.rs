//! Text of a body and masks by path in, the body without what they hide out; or nothing when it cannot be read.
//!
//! Three syntaxes are known, told apart by the text itself, since a content type may lie: JSON (also one document a
//! line), form fields (a field `card[number]` is at `$.card.number`) and multipart form data. A field's value that looks
//! like JSON is read on inside. Everything that no mask hits stays as it was sent, byte by byte.
//!
//! What does not read as one of these is [`Unreadable`], and then nothing of the body leaves: the masked value may be
//! anywhere in it. Depth is bounded by `JSON_DEPTH_MAX`, the rest by the body limit.

use std::borrow::Cow;

use super::apply::PerRule;
use super::json::Document;
use super::path::{Child, Progress};
use super::pattern::{Answer, Replaced};
use super::verb::Verb;
use super::{Action, Rule};

/// The masks cannot be applied, or one of them is in doubt: the body must not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What becomes of a value in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it was sent.
    Stays,
    /// Its new text is in [`Masks::text`].
    Changed,
    Removed,
}

/// One mask on its way through a body: number of the rule, and how far its path has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    mask: usize,
    progress: Progress,
}

/// The active steps of one value: a range of [`Masks::steps`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    from: usize,
    to: usize,
}

impl Active {
    pub(super) fn is_empty(self) -> bool {
        self.from == self.to
    }
}

/// Memory that is reused from body to body.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) out: Vec<u8>,
    steps: Vec<Step>,
    from: String,
    to: String,
}

impl Memory {
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.out.clear();
        self.out.shrink_to(bytes);
        for text in [&mut self.from, &mut self.to] {
            text.clear();
            text.shrink_to(bytes);
        }
    }
}

/// The masks of one body, and what they have found.
pub(super) struct Masks<'a> {
    rules: &'a [Rule],
    per_rule: &'a mut PerRule,
    steps: &'a mut Vec<Step>,
    from: &'a mut String,
    to: &'a mut String,
}

/// Hides in `text` what the rules numbered `masks` hide, and writes the rest to `memory.out`. True when something
/// changed; otherwise the text may leave as it is.
pub(super) fn hide(
    text: &str,
    rules: &[Rule],
    masks: &[usize],
    per_rule: &mut PerRule,
    memory: &mut Memory,
) -> Result<bool, Unreadable> {
    let Memory {
        out,
        steps,
        from,
        to,
    } = memory;
    out.clear();
    steps.clear();
    steps.extend(masks.iter().map(|mask| Step {
        mask: *mask,
        progress: 0,
    }));
    let active = Active {
        from: 0,
        to: steps.len(),
    };
    let mut masks = Masks {
        rules,
        per_rule,
        steps,
        from,
        to,
    };
    let start = text.trim_start();
    if start.is_empty() {
        return Ok(false);
    }
    if start.starts_with(['{', '[']) {
        let mut document = Document::new(text, &mut masks, out);
        document.all(active)?;
        return Ok(document.changed);
    }
    if start.starts_with("--") {
        return multipart(start, active, &mut masks, out);
    }
    if super::json::is_scalar(start.trim_end()) {
        // A value without a name: no path leads to it.
        return Ok(false);
    }
    form(text, active, &mut masks, out)
}

impl Masks<'_> {
    /// The steps of a value inside the one with `around`. Give them back with [`Self::leave`].
    pub(super) fn enter(&mut self, around: Active, child: Child<'_>) -> Active {
        let from = self.steps.len();
        for index in around.from..around.to {
            let Some(&Step { mask, progress }) = self.steps.get(index) else {
                continue;
            };
            let Some((rule, path)) = self
                .rules
                .get(mask)
                .and_then(|rule| Some((rule, rule.path.as_ref()?)))
            else {
                continue;
            };
            let steps = &mut *self.steps;
            let mut add = |progress| {
                let step = Step { mask, progress };
                if !steps.iter().skip(from).any(|other| *other == step) {
                    steps.push(step);
                }
            };
            // A replacement of an object or a list is one of all values in it.
            if path.is_done(progress) && rule.verb == Verb::Replace {
                add(progress);
            }
            path.step(progress, child, add);
        }
        Active {
            from,
            to: self.steps.len(),
        }
    }

    /// Forgets the steps of a value that is over.
    pub(super) fn leave(&mut self, value: Active) {
        self.steps.truncate(value.from);
    }

    /// The rules that mean the value itself, in order of application.
    fn meant(&self, active: Active) -> impl Iterator<Item = usize> + use<> {
        let steps = self.steps.get(active.from..active.to).unwrap_or_default();
        let mut meant: Vec<usize> = steps
            .iter()
            .filter(|step| {
                let path = self
                    .rules
                    .get(step.mask)
                    .and_then(|rule| rule.path.as_ref());
                path.is_some_and(|path| path.is_done(step.progress))
            })
            .map(|step| step.mask)
            .collect();
        meant.sort_unstable();
        meant.dedup();
        meant.into_iter()
    }

    /// Whether a rule means the value itself.
    pub(super) fn is_meant(&self, active: Active) -> bool {
        !active.is_empty() && self.meant(active).next().is_some()
    }

    /// Whether a rule removes a value that reads `text`.
    pub(super) fn removes(&mut self, active: Active, text: &str) -> bool {
        let mut removed = false;
        for mask in self.meant(active) {
            let Some(rule) = self.rules.get(mask) else {
                continue;
            };
            let takes = match &rule.action {
                Action::Always => true,
                Action::Replace { .. } => false,
                Action::Test(param) => {
                    let answer = param.test(text);
                    match rule.verb {
                        Verb::RemoveUnless | Verb::RemoveUnlessFound => answer != Answer::Yes,
                        _ => answer != Answer::No,
                    }
                }
            };
            if takes {
                self.per_rule.hit(mask);
            }
            removed |= takes;
        }
        removed
    }

    /// What becomes of a value that is a text of its own: a JSON value that holds no others, or a field.
    pub(super) fn judge(&mut self, active: Active, text: &str) -> Result<Fate, Unreadable> {
        if self.removes(active, text) {
            return Ok(Fate::Removed);
        }
        let mut changed = false;
        for mask in self.meant(active) {
            let Some((rule, groups)) = self.rules.get(mask).zip(self.per_rule.groups.get_mut(mask))
            else {
                continue;
            };
            let Action::Replace { find, with } = &rule.action else {
                continue;
            };
            let input = if changed { self.from.as_str() } else { text };
            match find.replace(input, with, self.to, groups) {
                Replaced::Same => continue,
                Replaced::Changed => std::mem::swap(self.from, self.to),
                Replaced::Doubt => return Err(Unreadable),
            }
            changed = true;
            self.per_rule.hit(mask);
        }
        Ok(if changed { Fate::Changed } else { Fate::Stays })
    }

    /// The new text of the last value that was changed.
    pub(super) fn text(&self) -> &str {
        self.from
    }

    /// What becomes of a form field's value. One that looks like JSON is masked inside too; what of it does not read is
    /// removed.
    fn field(&mut self, active: Active, text: &str, out: &mut Vec<u8>) -> Result<Fate, Unreadable> {
        out.clear();
        if active.is_empty() {
            return Ok(Fate::Stays);
        }
        if !text.trim_start().starts_with(['{', '[']) {
            let fate = self.judge(active, text)?;
            out.extend_from_slice(self.text().as_bytes());
            return Ok(fate);
        }
        if self.removes(active, text) {
            return Ok(Fate::Removed);
        }
        let mut document = Document::new(text, self, out);
        Ok(match document.all(active) {
            Err(Unreadable) => Fate::Removed,
            Ok(()) if document.changed => Fate::Changed,
            Ok(()) => Fate::Stays,
        })
    }

    /// The steps of the field `name`: as it is, and with its parts in brackets as names of their own.
    fn enter_field(&mut self, around: Active, name: &str) -> Active {
        let name = name.to_lowercase();
        let whole = self.enter(around, Child::Member(&name));
        if !name.contains(['[', '.']) {
            return whole;
        }
        let mut found: Vec<Step> = self
            .steps
            .get(whole.from..whole.to)
            .unwrap_or_default()
            .to_vec();
        let mut active = around;
        for part in name.split(['[', ']', '.']).filter(|part| !part.is_empty()) {
            let element = part.parse().ok().map(Child::Element);
            let member = self.enter(active, Child::Member(part));
            let end = element.map_or(member.to, |element| self.enter(active, element).to);
            active = Active {
                from: member.from,
                to: end,
            };
        }
        found.extend_from_slice(self.steps.get(active.from..active.to).unwrap_or_default());
        self.steps.truncate(whole.from);
        self.steps.extend_from_slice(&found);
        Active {
            from: whole.from,
            to: self.steps.len(),
        }
    }
}

/// `a=1&card=4111`, the serialization of the URL standard (section 5).
fn form(
    text: &str,
    active: Active,
    masks: &mut Masks<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Unreadable> {
    let fields = text.trim_end_matches(['\r', '\n']);
    let is_foreign = |letter: char| {
        letter.is_ascii_whitespace() || letter.is_ascii_control() || "<>\"{}\\^`".contains(letter)
    };
    if !fields.contains('=') || fields.contains(is_foreign) {
        return Err(Unreadable);
    }
    let mut changed = false;
    let mut is_first = true;
    let mut new = Vec::new();
    for pair in fields.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, decoded) = (decode(name)?, decode(value)?);
        let steps = masks.enter_field(active, &name);
        let fate = masks.field(steps, &decoded, &mut new)?;
        masks.leave(steps);
        changed |= fate != Fate::Stays;
        if fate == Fate::Removed {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(b'&');
        }
        if fate == Fate::Stays {
            out.extend_from_slice(pair.as_bytes());
        } else {
            out.extend_from_slice(pair.split('=').next().unwrap_or_default().as_bytes());
            out.push(b'=');
            encode(&new, out);
        }
    }
    Ok(changed)
}

/// Undoes `+` and `%XX`.
fn decode(text: &str) -> Result<Cow<'_, str>, Unreadable> {
    if !text.contains(['+', '%']) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or(Unreadable)
    };
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => digit(bytes.next())? << 4 | digit(bytes.next())?,
            _ => byte,
        });
    }
    Ok(Cow::Owned(String::from_utf8_lossy(&out).into_owned()))
}

fn encode(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b' ' => out.push(b'+'),
            b'*' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(*byte),
            _ => out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
}

/// Multipart form data, RFC 7578. Its first line says the boundary.
fn multipart(
    text: &str,
    active: Active,
    masks: &mut Masks<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Unreadable> {
    let (first, mut rest) = text.split_once('\n').ok_or(Unreadable)?;
    let (first, line_end) = match first.strip_suffix('\r') {
        Some(first) => (first, "\r\n"),
        None => (first, "\n"),
    };
    let first = first.trim_end_matches([' ', '\t']);
    // RFC 2046, section 5.1.1: one to seventy characters behind the hyphens.
    if !(3..=72).contains(&first.len()) {
        return Err(Unreadable);
    }
    let delimiter = format!("{line_end}{first}");
    let head_end = format!("{line_end}{line_end}");
    let mut changed = false;
    let mut new = Vec::new();
    loop {
        let (part, after) = rest.split_once(&delimiter).ok_or(Unreadable)?;
        let (head, content) = part.split_once(&head_end).ok_or(Unreadable)?;
        let name = field_name(head)?;
        let steps = masks.enter_field(active, &name);
        let fate = masks.field(steps, content, &mut new)?;
        masks.leave(steps);
        changed |= fate != Fate::Stays;
        if fate != Fate::Removed {
            for text in [first, line_end, head, &head_end] {
                out.extend_from_slice(text.as_bytes());
            }
            out.extend_from_slice(if fate == Fate::Changed {
                &new
            } else {
                content.as_bytes()
            });
            out.extend_from_slice(line_end.as_bytes());
        }
        if let Some(after) = after.strip_prefix("--") {
            if !after.trim().is_empty() {
                return Err(Unreadable);
            }
            for text in [first, "--", after] {
                out.extend_from_slice(text.as_bytes());
            }
            return Ok(changed);
        }
        rest = after
            .trim_start_matches([' ', '\t'])
            .strip_prefix(line_end)
            .ok_or(Unreadable)?;
    }
}

/// The name of a part's field. Heads that could hide it from us are not read.
fn field_name(head: &str) -> Result<String, Unreadable> {
    let mut name = None;
    for line in head.lines() {
        let (header, value) = line.split_once(':').ok_or(Unreadable)?;
        if header.eq_ignore_ascii_case("content-transfer-encoding") {
            let plain = ["7bit", "8bit", "binary"];
            if !plain
                .iter()
                .any(|word| value.trim().eq_ignore_ascii_case(word))
            {
                return Err(Unreadable);
            }
        }
        if header.eq_ignore_ascii_case("content-disposition") {
            let found = name_parameter(value)?;
            if name.replace(found).is_some() {
                return Err(Unreadable);
            }
        }
    }
    name.ok_or(Unreadable)
}

/// `form-data; name="card"; filename=x`.
fn name_parameter(value: &str) -> Result<String, Unreadable> {
    let mut name = None;
    let mut rest = value.split_once(';').ok_or(Unreadable)?.1;
    loop {
        let (key, after) = rest.split_once('=').ok_or(Unreadable)?;
        let key = key.trim();
        let (text, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                let (token, after) = after.split_at_checked(end).ok_or(Unreadable)?;
                (token.trim().to_owned(), after)
            }
        };
        if key.eq_ignore_ascii_case("name*") {
            return Err(Unreadable);
        }
        if key.eq_ignore_ascii_case("name") && name.replace(text).is_some() {
            return Err(Unreadable);
        }
        let after = after.trim();
        if after.is_empty() {
            return name.ok_or(Unreadable);
        }
        rest = after.strip_prefix(';').ok_or(Unreadable)?;
        if rest.trim().is_empty() {
            return name.ok_or(Unreadable);
        }
    }
}

/// The rest of a quoted text, and what stands behind it. Browsers write `%22` for a quote, others a backslash.
fn unquote(text: &str) -> Result<(String, &str), Unreadable> {
    let mut out = String::new();
    let mut letters = text.chars();
    loop {
        match letters.next().ok_or(Unreadable)? {
            '"' => return Ok((out.replace("%22", "\""), letters.as_str())),
            '\\' => out.push(letters.next().ok_or(Unreadable)?),
            letter => out.push(letter),
        }
    }
}

/// Appends a JSON string. Only what RFC 8259 section 7 asks for is escaped.
pub(super) fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// The hexadecimal digit of a number below sixteen.
fn digit(number: u8) -> u8 {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    DIGITS.get(usize::from(number)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
