//! What other readers find inside a value.
//!
//! A text value of one syntax can be a document of another: a field that is a form itself, or a string with a URL. Masks
//! reach into a field that is JSON; of all else only this is decided, whether a reader finds something in it that a mask
//! selects. Then the value does not leave.

use std::borrow::Cow;

use super::super::ascii::find_ignoring_case;
use super::masks::{Active, Masks};

/// Forms inside each other that are followed; what may hold a further one is not read.
const DEPTH_MAX: usize = 4;

/// Where readers begin a field: of forms, of the query of a URL, of its fragment, and of plain text with a field a line.
const FIELD_STARTS: [char; 6] = ['&', ';', '?', '#', '\n', '\r'];

/// Whether a reader finds a value in `text` that a mask selects, one that does not select all of it. The text has the steps
/// `active` and is read as no document.
pub(super) fn hides_selected(masks: &mut Masks<'_>, active: Active, text: &str) -> bool {
    let inside = masks.enter_inside(active);
    let found = masks.reaches_inside(inside)
        && (may_be_json(text, masks.reaches_elements(inside))
            || may_be_multipart(text)
            || hides_field(masks, inside, text, DEPTH_MAX));
    masks.leave(inside);
    found
}

fn hides_field(masks: &mut Masks<'_>, active: Active, text: &str, depth: usize) -> bool {
    let has_value = |pair: &&str| {
        pair.split_once('=')
            .is_some_and(|(_, value)| !value.trim_matches('=').is_empty())
    };
    for (name, value) in text
        .split(FIELD_STARTS)
        .filter(has_value)
        .filter_map(|pair| pair.split_once('='))
    {
        let Some(deeper) = depth.checked_sub(1) else {
            return true;
        };
        let (name, value) = (decode(name), decode(value));
        let inside = masks.enter_field(active, &name);
        let found = masks.is_selected(inside)
            || (masks.reaches_inside(inside)
                && (may_be_json(&value, masks.reaches_elements(inside))
                    || hides_field(masks, inside, &value, deeper)));
        masks.leave(inside);
        if found {
            return true;
        }
    }
    false
}

/// Whether a reader that takes the text around `part` for a form finds a field in `part` that a mask selects by name; the
/// fields begin at one of `starts`. `active` are the steps of the whole text.
pub(super) fn hides_part_of_form(
    masks: &mut Masks<'_>,
    active: Active,
    part: &str,
    starts: &[char],
) -> bool {
    let mut pairs = part.split(starts).skip(1);
    pairs.any(|pair| {
        let Some((name, _)) = pair.split_once('=') else {
            return false;
        };
        let inside = masks.enter_field(active, &decode(name));
        let found = masks.is_selected_by_name(inside);
        masks.leave(inside);
        found
    })
}

/// Whether some reader may find an object in the text, or a list where `elements` are looked for: behind a byte order mark,
/// another document, or a prefix against inclusion in scripts.
pub(super) fn may_be_json(text: &str, elements: bool) -> bool {
    let object = text.find('{').and_then(|at| text.get(at..));
    object.is_some_and(|object| object.contains(':')) || (elements && text.contains('['))
}

/// Whether a multipart body with another boundary may be in the text: a line may be a delimiter, and there is a head of a
/// part.
pub(super) fn may_be_multipart(text: &str) -> bool {
    text.contains("--")
        && text.split(['\n', '\r']).any(|line| line.starts_with("--"))
        && find_ignoring_case(text.as_bytes(), b"content-disposition").is_some()
}

/// Undoes `+` and `%XX`; a broken escape stands for itself.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        rest = after;
        out.push(match escaped {
            Some((high, low)) => {
                rest = after.get(2..).unwrap_or_default();
                high << 4 | low
            }
            None if byte == b'+' => b' ',
            None => byte,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The value of a hexadecimal digit.
pub(super) fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}
