//! Text of a body and masks by path in, the body without what they hide out; or nothing when it cannot be read.
//!
//! Three syntaxes are known, told apart by the text itself, since a content type may lie: JSON (also one document a
//! line), form fields (a field `card[number]` is at `$.card.number`) and multipart form data. A field's value that looks
//! like JSON is read on inside. Everything that no mask hits stays as it was sent, byte by byte.
//!
//! What does not read as one of these is [`Unreadable`], and then nothing of the body leaves: the masked value may be
//! anywhere in it. Depth is bounded by `JSON_DEPTH_MAX`, the rest by the body limit.

mod form;
mod json;
mod masks;
mod multipart;

pub(super) use masks::{Memory, Unreadable};

use form::form;
use json::{Document, is_scalar};
use masks::Masks;
use multipart::multipart;

use super::matches::PerRule;
use super::set::Rule;

/// Hides in `text` what the rules numbered `masks` hide, and writes the rest to `memory.out`. True when something
/// changed; otherwise the text may leave as it is.
pub(super) fn hide(
    text: &str,
    rules: &[Rule],
    masks: &[usize],
    per_rule: &mut PerRule,
    memory: &mut Memory,
) -> Result<bool, Unreadable> {
    let (mut masks, active, out) = Masks::new(rules, masks, per_rule, memory);
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
    if is_scalar(start.trim_end()) {
        // A value without a name: no path leads to it.
        return Ok(false);
    }
    form(text, active, &mut masks, out)
}

#[cfg(test)]
mod tests;
