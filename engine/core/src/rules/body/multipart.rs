//! Masks in multipart form data, RFC 7578.

use super::form::field;
use super::masks::{Active, Fate, Masks, Unreadable};

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
        let fate = field(masks, steps, content, &mut new)?;
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

/// The name of a part's field. A head that could hide the name from this parser is refused.
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
