//! Server-sent events, as far as the store sends them: name, id and data of one line each.

use std::io::{BufRead, Read as _};

use serde_json::Value;

use crate::limits::STORE_ANSWER_BYTES_MAX;

/// One event.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) data: Value,
}

/// The events of a stream, until it ends.
pub(super) struct Events<R>(R);

impl<R: BufRead> Events<R> {
    pub(super) fn new(stream: R) -> Self {
        Self(stream)
    }
}

impl<R: BufRead> Iterator for Events<R> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            let read = (&mut self.0)
                .take(STORE_ANSWER_BYTES_MAX)
                .read_line(&mut line);
            if !line.ends_with('\n') || read.is_err() {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                if event != Event::default() {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event.name = value.into(),
                "id" => event.id = value.into(),
                "data" => event.data = serde_json::from_str(value).unwrap_or_default(),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_end_with_a_blank_line() {
        let stream =
            ": comment\n\nevent: calls\nid: 7\ndata: {\"a\":1}\n\nevent:x\r\n\r\nevent: cut";
        let events: Vec<Event> = Events::new(stream.as_bytes()).collect();
        assert_eq!(events.len(), 2);
        assert_eq!(
            (events[0].name.as_str(), events[0].id.as_str()),
            ("calls", "7")
        );
        assert_eq!(events[0].data["a"], 1);
        assert_eq!(events[1].name, "x");
    }
}
