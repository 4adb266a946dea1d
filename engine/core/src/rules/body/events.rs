//! Masks in event streams (the HTML standard, section 9.2.6): the data of each event is a document of its own.
//!
//! The lines of the data of one event are joined before they are read, as clients do. Data that is no JSON stays if no reader
//! finds something in it that a mask selects, and so do all other lines; else nothing of the stream leaves.

use super::json::Document;
use super::masks::{Active, Masks, Unreadable};
use super::values::{hides_part_of_form, hides_selected};

/// Whether a text begins as an event stream does, and has more than one line or a blank, so that it is no form.
pub(super) fn is_event_stream(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.split(['\r', '\n']).next().unwrap_or_default();
    let field = first.split_once(':').map(|(field, _)| field);
    matches!(field, Some("" | "data" | "event" | "id" | "retry"))
        && text.contains(['\r', '\n', ' '])
}

/// A line with its end.
struct Line<'t> {
    text: &'t str,
    end: &'t str,
}

pub(super) fn events(
    text: &str,
    active: Active,
    masks: &mut Masks<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Unreadable> {
    let behind = text.strip_prefix('\u{feff}').unwrap_or(text);
    out.extend_from_slice(text.strip_suffix(behind).unwrap_or_default().as_bytes());
    let mut changed = false;
    let mut event = Vec::new();
    let mut rest = behind;
    while !rest.is_empty() {
        let (line, later) = split_line(rest);
        rest = later;
        let is_last = line.text.is_empty() || rest.is_empty();
        event.push(line);
        if is_last {
            changed |= write_event(&event, active, masks, out)?;
            event.clear();
        }
    }
    Ok(changed)
}

fn split_line(text: &str) -> (Line<'_>, &str) {
    let length = text.find(['\r', '\n']).unwrap_or(text.len());
    let (line, rest) = text.split_at_checked(length).unwrap_or((text, ""));
    let end = if rest.starts_with("\r\n") {
        2
    } else {
        rest.len().min(1)
    };
    let (end, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
    (Line { text: line, end }, rest)
}

/// The data of a line, with what stands before it.
fn data<'t>(line: &Line<'t>) -> Option<(&'t str, &'t str)> {
    let behind = line.text.strip_prefix("data")?;
    let value = match behind.strip_prefix(':') {
        Some(value) => value.strip_prefix(' ').unwrap_or(value),
        None if behind.is_empty() => behind,
        None => return None,
    };
    line.text.split_at_checked(line.text.len() - value.len())
}

fn write_event(
    lines: &[Line<'_>],
    active: Active,
    masks: &mut Masks<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Unreadable> {
    let values: Vec<_> = lines
        .iter()
        .filter_map(data)
        .map(|(_, value)| value)
        .collect();
    let joined = values.join("\n");
    let mut new = Vec::new();
    let is_json = joined.trim_start().starts_with(['{', '[']) && joined.trim() != END_OF_MODELS;
    let changed = if is_json {
        let mut document = Document::new(&joined, active, masks, &mut new);
        document.all()?;
        document.changed
    } else {
        let is_hidden = hides_selected(masks, active, &joined)
            || hides_part_of_form(masks, active, &joined, &['&', ';', '?', '#']);
        if is_hidden {
            return Err(Unreadable);
        }
        false
    };
    let new = String::from_utf8_lossy(&new);
    let mut is_written = false;
    for line in lines {
        match data(line) {
            Some((before, _)) if changed => {
                if std::mem::replace(&mut is_written, true) {
                    continue;
                }
                for part in new.split('\n') {
                    out.extend_from_slice(before.as_bytes());
                    out.extend_from_slice(part.as_bytes());
                    out.extend_from_slice(line.end.as_bytes());
                }
            }
            of_data => {
                if of_data.is_none() && hides_selected(masks, active, line.text) {
                    return Err(Unreadable);
                }
                out.extend_from_slice(line.text.as_bytes());
                out.extend_from_slice(line.end.as_bytes());
            }
        }
    }
    Ok(changed)
}

/// What ends the streams of models: it begins like a list, and is none.
const END_OF_MODELS: &str = "[DONE]";
