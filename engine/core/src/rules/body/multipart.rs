//! Masks in multipart form data, RFC 7578.
//!
//! Readers differ in where a line ends, in what a boundary is, and in how the name of a part is quoted. A body is read only
//! if none of that matters: its lines end as the first one does, its boundary is nowhere else, no other multipart body may
//! be inside, and the heads of its parts have the plain form that clients write.

use std::borrow::Cow;

use super::super::ascii::find_ignoring_case;
use super::super::charset::Charset;
use super::form::{decode, field};
use super::masks::{Active, Fate, Masks, Unreadable};
use super::values::{hides_part_of_form, may_be_multipart};

/// Its first line is the boundary, so no header is needed.
pub(super) fn multipart(
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
    if !(3..=72).contains(&first.len()) || first.contains(char::is_control) {
        return Err(Unreadable);
    }
    let delimiter = format!("{line_end}{first}");
    let head_end = format!("{line_end}{line_end}");
    let mut changed = false;
    let mut new = Vec::new();
    loop {
        let (part, after) = rest.split_once(&delimiter).ok_or(Unreadable)?;
        let (head, content) = part.split_once(&head_end).ok_or(Unreadable)?;
        // Some readers take less for a delimiter: another end of a line before it, or none.
        if part.contains(first) || may_be_multipart(content) {
            return Err(Unreadable);
        }
        let part = Part::read(head, line_end)?;
        if hides_part_of_form(masks, active, head, &['&']) {
            return Err(Unreadable);
        }
        let fate = if part.is_foreign || hides_part_of_form(masks, active, content, &['&', ';']) {
            Fate::Removed
        } else {
            value(masks, active, &part.name, content, &mut new)?
        };
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

/// Applies the masks to a part, under its name as it was sent and, since browsers encode quotes in it, decoded.
fn value(
    masks: &mut Masks<'_>,
    active: Active,
    name: &str,
    content: &str,
    new: &mut Vec<u8>,
) -> Result<Fate, Unreadable> {
    if name.contains('%')
        && let Ok(Cow::Owned(decoded)) = decode(&name.replace('+', "%2B"))
    {
        let steps = masks.enter_field(active, &decoded);
        let is_hidden = !steps.is_empty() && field(masks, steps, content, new)? != Fate::Stays;
        masks.leave(steps);
        if is_hidden {
            return Ok(Fate::Removed);
        }
    }
    let steps = masks.enter_field(active, name);
    let fate = field(masks, steps, content, new);
    masks.leave(steps);
    fate
}

/// What the head of a part says.
struct Part {
    name: String,
    /// Its content is a message, or in characters that rules cannot read.
    is_foreign: bool,
}

impl Part {
    /// A head that could hide the name from this parser is refused.
    fn read(head: &str, line_end: &str) -> Result<Self, Unreadable> {
        let is_break = |letter: char| {
            (letter.is_control() && letter != '\t') || matches!(letter, '\u{2028}' | '\u{2029}')
        };
        let mut name = None;
        let mut is_foreign = false;
        for line in head.split(line_end) {
            let (header, value) = line.split_once(':').ok_or(Unreadable)?;
            if !is_token(header) || value.contains(is_break) {
                return Err(Unreadable);
            }
            match header.to_ascii_lowercase().as_str() {
                "content-transfer-encoding" => {
                    let plain = ["7bit", "8bit", "binary"];
                    let value = value.trim_matches([' ', '\t']);
                    if !plain.iter().any(|word| value.eq_ignore_ascii_case(word)) {
                        return Err(Unreadable);
                    }
                }
                "content-type" => {
                    let holds = |kind: &[u8]| find_ignoring_case(value.as_bytes(), kind).is_some();
                    is_foreign |= holds(b"multipart") || holds(b"message/");
                    is_foreign |= Charset::of_type(value.as_bytes()) != Charset::Ascii;
                }
                "content-disposition" if name.replace(name_parameter(value)?).is_some() => {
                    return Err(Unreadable);
                }
                _ => {}
            }
        }
        Ok(Self {
            name: name.ok_or(Unreadable)?,
            is_foreign,
        })
    }
}

/// `form-data; name="card"; filename=x`, and no other form.
fn name_parameter(value: &str) -> Result<String, Unreadable> {
    let (kind, mut rest) = value.split_once(';').ok_or(Unreadable)?;
    if !is_token(kind.trim_matches([' ', '\t'])) {
        return Err(Unreadable);
    }
    let mut name = None;
    loop {
        let (key, after) = rest.split_once('=').ok_or(Unreadable)?;
        let key = key.trim_start_matches([' ', '\t']);
        if !is_token(key) {
            return Err(Unreadable);
        }
        let (text, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(Unreadable)?,
            None => {
                let end = after.find([';', ' ', '\t']).unwrap_or(after.len());
                let (text, after) = after.split_at_checked(end).ok_or(Unreadable)?;
                if !is_token(text) {
                    return Err(Unreadable);
                }
                (text, after)
            }
        };
        // A backslash before a quote does not end a text for all readers.
        if text.ends_with('\\') {
            return Err(Unreadable);
        }
        let lower = key.to_ascii_lowercase();
        if lower == "name" {
            // Escapes, encoded words (RFC 2047), and further parameters for readers that do not know quotes.
            let is_odd = text.contains(['\\', ';']) || text.contains("=?");
            if is_odd || name.replace(text.to_owned()).is_some() {
                return Err(Unreadable);
            }
        } else if lower.starts_with("name*")
            || (text.contains(';') && find_ignoring_case(text.as_bytes(), b"name").is_some())
        {
            return Err(Unreadable);
        }
        let after = after.trim_matches([' ', '\t']);
        if after.is_empty() {
            return name.ok_or(Unreadable);
        }
        rest = after.strip_prefix(';').ok_or(Unreadable)?;
        if rest.trim_matches([' ', '\t']).is_empty() {
            return name.ok_or(Unreadable);
        }
    }
}

/// Whether `text` is a token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_letter)
}
