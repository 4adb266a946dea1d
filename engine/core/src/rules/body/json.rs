//! Masks in JSON, RFC 8259, in one pass over the text.
//!
//! What no mask selects is copied as it is, numbers and white space included, which no library that builds values does.
//! Strict in structure, so that no other parser finds a member where this one found none; a bare word inside an object or
//! a list counts as a value, because an earlier replacement may have made one of a number. Depth is bounded by
//! `JSON_DEPTH_MAX`.

use super::super::names::folded;
use super::super::path::Child;
use super::masks::{Active, Fate, Masks, Unreadable};
use super::values::{hides_part_of_form, may_be_json};
use crate::limits::JSON_DEPTH_MAX;

/// A text while the masks are applied to it.
pub(super) struct Document<'t, 'o, 'm, 'r> {
    text: &'t str,
    at: usize,
    masks: &'m mut Masks<'r>,
    out: &'o mut Vec<u8>,
    /// The steps of the outermost value.
    root: Active,
    /// It is the text of a string of another one.
    is_inner: bool,
    /// Something was removed or replaced.
    pub(super) changed: bool,
}

impl<'t, 'o, 'm, 'r> Document<'t, 'o, 'm, 'r> {
    pub(super) fn new(
        text: &'t str,
        root: Active,
        masks: &'m mut Masks<'r>,
        out: &'o mut Vec<u8>,
    ) -> Self {
        Self {
            text,
            at: 0,
            masks,
            out,
            root,
            is_inner: false,
            changed: false,
        }
    }

    /// All objects and lists, to the end of the text.
    pub(super) fn all(&mut self) -> Result<(), Unreadable> {
        self.blanks();
        while let Some(byte) = self.peek() {
            if !matches!(byte, b'{' | b'[') {
                return Err(Unreadable);
            }
            self.value(self.root, 0)?;
            self.blanks();
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn since(&self, start: usize) -> &'t str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn copy(&mut self, start: usize) {
        let text = self.since(start);
        self.out.extend_from_slice(text.as_bytes());
    }

    fn blanks(&mut self) {
        let start = self.at;
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.copy(start);
    }

    /// Consumes and copies `byte`, if it is next.
    fn token(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        if is_there {
            self.at += 1;
            self.out.push(byte);
        }
        is_there
    }

    /// A value and its fate. A removed one may leave bytes in `out`, which the caller truncates.
    fn value(&mut self, active: Active, depth: usize) -> Result<Fate, Unreadable> {
        if depth >= JSON_DEPTH_MAX {
            return Err(Unreadable);
        }
        let start = self.at;
        match self.peek().ok_or(Unreadable)? {
            b'{' => self.object(active, depth)?,
            b'[' => self.list(active, depth)?,
            b'"' => return self.string(active),
            _ => return self.bare(active),
        }
        // The test of a remove rule sees a whole object or list as it was sent.
        let removed = !active.is_empty() && self.masks.removes(active, self.since(start));
        self.changed |= removed;
        Ok(if removed { Fate::Removed } else { Fate::Stays })
    }

    fn object(&mut self, active: Active, depth: usize) -> Result<(), Unreadable> {
        let mut name = String::new();
        self.token(b'{');
        self.blanks();
        if self.token(b'}') {
            return Ok(());
        }
        let mut is_first = true;
        loop {
            let mark = self.separator(is_first);
            let start = self.at;
            let raw = self.quoted()?;
            if self.hides_field(raw) {
                return Err(Unreadable);
            }
            self.copy(start);
            self.blanks();
            if !self.token(b':') {
                return Err(Unreadable);
            }
            self.blanks();
            let inside = if active.is_empty() {
                active
            } else {
                unescape(raw, &mut name)?;
                name = lower(std::mem::take(&mut name));
                self.masks.enter_member(active, &name)
            };
            let fate = self.value(inside, depth + 1)?;
            if !active.is_empty() {
                self.masks.leave(inside);
            }
            self.blanks();
            self.end(fate, mark, &mut is_first);
            match self.peek() {
                Some(b',') => self.at += 1,
                _ if self.token(b'}') => return Ok(()),
                _ => return Err(Unreadable),
            }
        }
    }

    fn list(&mut self, active: Active, depth: usize) -> Result<(), Unreadable> {
        self.token(b'[');
        self.blanks();
        if self.token(b']') {
            return Ok(());
        }
        let mut is_first = true;
        for index in 0.. {
            let mark = self.separator(is_first);
            let inside = if active.is_empty() {
                active
            } else {
                self.masks.enter(active, Child::Element(index))
            };
            let fate = self.value(inside, depth + 1)?;
            if !active.is_empty() {
                self.masks.leave(inside);
            }
            self.blanks();
            self.end(fate, mark, &mut is_first);
            match self.peek() {
                Some(b',') => self.at += 1,
                _ if self.token(b']') => break,
                _ => return Err(Unreadable),
            }
        }
        Ok(())
    }

    /// Before a member or an element: the comma that separates it from those that stayed. Returns its start in `out`.
    fn separator(&mut self, is_first: bool) -> usize {
        let mark = self.out.len();
        if !is_first {
            self.out.push(b',');
        }
        self.blanks();
        mark
    }

    /// After a member or an element: truncates `out` if it was removed.
    fn end(&mut self, fate: Fate, mark: usize, is_first: &mut bool) {
        match fate {
            Fate::Removed => self.out.truncate(mark),
            Fate::Stays | Fate::Changed => *is_first = false,
        }
    }

    fn string(&mut self, active: Active) -> Result<Fate, Unreadable> {
        let start = self.at;
        let raw = self.quoted()?;
        if self.hides_field(raw) || self.hides_document(raw, active)? {
            self.changed = true;
            return Ok(Fate::Removed);
        }
        if !self.masks.is_selected(active) {
            self.copy(start);
            return Ok(Fate::Stays);
        }
        let mut text = String::new();
        unescape(raw, &mut text)?;
        let fate = self.masks.apply(active, &text)?;
        match fate {
            Fate::Stays => self.copy(start),
            Fate::Changed => quote(self.masks.text(), self.out),
            Fate::Removed => {}
        }
        self.changed |= fate != Fate::Stays;
        Ok(fate)
    }

    /// Whether the text of a string is JSON itself, in which a mask selects something, or looks like it.
    fn hides_document(&mut self, raw: &str, active: Active) -> Result<bool, Unreadable> {
        if active.is_empty() || !raw.contains(['{', '[']) {
            return Ok(false);
        }
        let mut text = String::new();
        unescape(raw, &mut text)?;
        if !text.trim_start().starts_with(['{', '[', '\u{feff}']) {
            return Ok(false);
        }
        let steps = self.masks.enter_inside(active);
        let may_be_json = self.masks.reaches_inside(steps)
            && may_be_json(&text, self.masks.reaches_elements(steps));
        let mut left = Vec::new();
        let found = if self.is_inner || !may_be_json {
            may_be_json
        } else {
            let mut inner = Document::new(&text, steps, self.masks, &mut left);
            inner.is_inner = true;
            inner.all().is_err() || inner.changed
        };
        self.masks.leave(steps);
        Ok(found)
    }

    /// Whether a reader that takes the whole text for a form finds a field in this string that a mask selects, as in the URL
    /// `/?a=1&password=x`.
    fn hides_field(&mut self, raw: &str) -> bool {
        memchr::memchr(b'=', raw.as_bytes()).is_some()
            && hides_part_of_form(self.masks, self.root, raw, &['&', ';', '?', '#'])
    }

    /// A number, `true`, `false`, `null`, or another bare word.
    fn bare(&mut self, active: Active) -> Result<Fate, Unreadable> {
        let start = self.at;
        let is_end = |byte: u8| byte <= b' ' || b",:]}[{\"'`\\".contains(&byte);
        while self.peek().is_some_and(|byte| !is_end(byte)) {
            self.at += 1;
        }
        let text = self.since(start);
        // A reader of forms or of multipart bodies would find its own syntax here.
        if text.is_empty() || text.starts_with("--") || text.contains(['&', '=', ';', '%']) {
            return Err(Unreadable);
        }
        let fate = if self.masks.is_selected(active) {
            self.masks.apply(active, text)?
        } else {
            Fate::Stays
        };
        match fate {
            Fate::Stays => self.copy(start),
            Fate::Changed
                if is_scalar(self.masks.text()) && !self.masks.text().starts_with('"') =>
            {
                self.out.extend_from_slice(self.masks.text().as_bytes());
            }
            Fate::Changed => quote(self.masks.text(), self.out),
            Fate::Removed => {}
        }
        self.changed |= fate != Fate::Stays;
        Ok(fate)
    }

    /// Consumes a string; returns what is between its quotes.
    fn quoted(&mut self) -> Result<&'t str, Unreadable> {
        if self.peek() != Some(b'"') {
            return Err(Unreadable);
        }
        let start = self.at + 1;
        let mut at = start;
        loop {
            let rest = self.text.as_bytes().get(at..).ok_or(Unreadable)?;
            at += memchr::memchr2(b'"', b'\\', rest).ok_or(Unreadable)?;
            if self.text.as_bytes().get(at) == Some(&b'"') {
                break;
            }
            // The character after a backslash does not end the string. Of a longer character the other bytes do not, either.
            at += 2;
        }
        self.at = at + 1;
        let raw = self.text.get(start..at).ok_or(Unreadable)?;
        // A line break is no part of a string, and behind one a reader of multipart bodies would find a delimiter.
        if memchr::memchr2(b'\n', b'\r', raw.as_bytes()).is_some() {
            return Err(Unreadable);
        }
        Ok(raw)
    }
}

/// Writes the text of a string to `out`, which is cleared first.
fn unescape(raw: &str, out: &mut String) -> Result<(), Unreadable> {
    out.clear();
    let mut rest = raw;
    while let Some((before, escape)) = rest.split_once('\\') {
        out.push_str(before);
        let mut letters = escape.chars();
        out.push(match letters.next().ok_or(Unreadable)? {
            letter @ ('"' | '\\' | '/') => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (letter, len) = unicode(letters.as_str())?;
                rest = letters.as_str().get(len..).ok_or(Unreadable)?;
                out.push(letter);
                continue;
            }
            _ => return Err(Unreadable),
        });
        rest = letters.as_str();
    }
    out.push_str(rest);
    Ok(())
}

/// The character whose digits start here, after `\u`, and how many bytes it takes. A lone surrogate is U+FFFD.
fn unicode(text: &str) -> Result<(char, usize), Unreadable> {
    let unit = |text: &str| {
        let digits = text
            .get(..4)
            .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(text).ok_or(Unreadable)?;
    let second = text
        .get(4..)
        .and_then(|rest| rest.strip_prefix("\\u"))
        .and_then(unit);
    let pair = char::decode_utf16([first].into_iter().chain(second)).next();
    Ok(match pair {
        Some(Ok(letter)) => (letter, if letter.len_utf16() == 2 { 10 } else { 4 }),
        _ => (char::REPLACEMENT_CHARACTER, 4),
    })
}

fn lower(mut name: String) -> String {
    if name.is_ascii() {
        name.make_ascii_lowercase();
        return name;
    }
    folded(&name)
}

/// Whether `text` is one JSON value that is neither an object nor a list.
pub(super) fn is_scalar(text: &str) -> bool {
    if let Some(inside) = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        let is_odd = |letter: char| letter == '"' || letter.is_control();
        return !inside.contains(is_odd) && unescape(inside, &mut String::new()).is_ok();
    }
    matches!(text, "true" | "false" | "null") || is_number(text)
}

fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (text, exponent) = match text.split_once(['e', 'E']) {
        Some((text, exponent)) => (text, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

/// Appends a JSON string. Only what RFC 8259, section 7, requires is escaped.
fn quote(text: &str, out: &mut Vec<u8>) {
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
pub(super) fn digit(number: u8) -> u8 {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    DIGITS.get(usize::from(number)).copied().unwrap_or_default()
}
