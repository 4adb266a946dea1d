//! Masks in form fields: the URL-encoded syntax, and the value of a field of either form syntax.

use std::borrow::Cow;

use super::json::{self, Document};
use super::masks::{Active, Fate, Masks, Unreadable};
use super::values::{digit, hides_selected};

/// `a=1&card=4111`, the serialization of the URL standard (section 5).
pub(super) fn form(
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
        let fate = if hides_part(masks, active, pair)? {
            Fate::Removed
        } else {
            field(masks, steps, &decoded, &mut new)?
        };
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

/// Whether a reader that splits a pair at its semicolons finds a field in it that a mask selects.
fn hides_part(masks: &mut Masks<'_>, active: Active, pair: &str) -> Result<bool, Unreadable> {
    if !pair.contains(';') {
        return Ok(false);
    }
    for part in pair.split(';') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let steps = masks.enter_field(active, &decode(name)?);
        let found = masks.is_selected(steps) || hides_selected(masks, steps, &decode(value)?);
        masks.leave(steps);
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Undoes `+` and `%XX`.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, Unreadable> {
    if !text.contains(['+', '%']) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let digit = |byte: Option<u8>| byte.and_then(digit).ok_or(Unreadable);
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
            _ => out.extend_from_slice(&[b'%', json::digit(byte >> 4), json::digit(byte & 15)]),
        }
    }
}

/// Applies the masks to the value of a form field. One that looks like JSON is masked inside, too, and removed where it
/// does not parse. So is one in which another reader finds what a mask selects.
pub(super) fn field(
    masks: &mut Masks<'_>,
    active: Active,
    text: &str,
    out: &mut Vec<u8>,
) -> Result<Fate, Unreadable> {
    out.clear();
    if active.is_empty() {
        return Ok(Fate::Stays);
    }
    if !text.trim_start().starts_with(['{', '[']) {
        if hides_selected(masks, active, text) {
            return Ok(Fate::Removed);
        }
        let fate = masks.apply(active, text)?;
        out.extend_from_slice(masks.text().as_bytes());
        return Ok(fate);
    }
    if masks.removes(active, text) {
        return Ok(Fate::Removed);
    }
    let mut document = Document::new(text, active, masks, out);
    Ok(match document.all() {
        Err(Unreadable) => Fate::Removed,
        Ok(()) if document.changed => Fate::Changed,
        Ok(()) => Fate::Stays,
    })
}
