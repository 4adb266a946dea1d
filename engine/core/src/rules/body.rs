//! Masks in bodies: rules with a path, applied to the values inside a body.
//!
//! Four syntaxes are supported. The text itself decides which one it is, since a content type may be wrong: JSON (also
//! one document per line), event streams, form fields (a field `card[number]` is at `$.card.number`) and multipart form data. The value
//! of a field that looks like JSON is parsed, too. Everything that no mask selects stays as it was sent, byte by byte.
//!
//! What is none of these is [`Unreadable`], and then nothing of the body leaves: the masked value may be anywhere in it.
//! Depth is bounded by `JSON_DEPTH_MAX`, the rest by the body limit.

mod events;
mod form;
mod json;
mod masks;
mod multipart;
mod values;

pub(super) use masks::{Memory, Unreadable};

use events::{events, is_event_stream};
use form::form;
use json::{Document, is_scalar};
use masks::{Active, Masks};
use multipart::multipart;
use values::{hides_part_of_form, hides_selected};

use super::matches::PerRule;
use super::set::Rule;

/// Applies the rules numbered `masks` to `text` and writes what they leave to `memory.out`. True when something changed;
/// otherwise the text may leave as it is.
pub(super) fn mask(
    text: &str,
    rules: &[Rule],
    masks: &[usize],
    per_rule: &mut PerRule,
    memory: &mut Memory,
) -> Result<bool, Unreadable> {
    let (mut masks, active, out) = Masks::new(rules, masks, per_rule, memory);
    let changed = any(text, active, &mut masks, out)?;
    if masks.gave_up() {
        return Err(Unreadable);
    }
    Ok(changed)
}

/// A body in any of the syntaxes.
fn any(
    text: &str,
    active: Active,
    masks: &mut Masks<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Unreadable> {
    let start = text.trim_start();
    if start.is_empty() {
        return Ok(false);
    }
    if start.starts_with(['{', '[']) {
        let mut document = Document::new(text, active, masks, out);
        document.all()?;
        return Ok(document.changed);
    }
    if start.starts_with("--") {
        return multipart(start, active, masks, out);
    }
    if is_event_stream(start) {
        return events(text, active, masks, out);
    }
    if is_scalar(start.trim_end()) {
        // A value without a name: no path leads to it, unless a reader takes it for a form.
        if hides_part_of_form(masks, active, start, &['&', ';', '?', '#'])
            || hides_selected(masks, active, start)
        {
            return Err(Unreadable);
        }
        return Ok(false);
    }
    form(text, active, masks, out)
}

#[cfg(test)]
mod tests;
