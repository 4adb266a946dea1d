//! The fuzz body of WebSocket: a handshake, then any bytes of both sides.

use std::sync::Arc;

use bench::collect::value;
use bench::traffic::{Conversation, Wire};
use engine_core::pipeline::Config;
use engine_core::rules::RuleSet;

use super::turns::turns_of;
use crate::engine::{self, Reader};
use crate::{http2, websocket as made};

/// Turns as `http1` reads them, behind a handshake; the first octet says what it has agreed on, and whether it is on a stream of
/// HTTP/2. However the bytes are cut into segments, the same lists are found, and they are JSON.
pub(super) fn websocket(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else {
        return;
    };
    let extensions = [
        "",
        "permessage-deflate",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover",
    ][usize::from(kind) % 4];
    let turns = if kind & 0x80 == 0 {
        let mut turns = made::handshake("/", extensions);
        turns.extend(turns_of(rest));
        turns
    } else {
        let mut turns = made::handshake_on_stream("/", extensions);
        let frames = turns_of(rest)
            .into_iter()
            .map(|(side, bytes)| (side, http2::frame(http2::DATA, 0, 1, &bytes)));
        turns.extend(frames);
        turns
    };
    let rules = if kind & 0x40 == 0 {
        "include debug"
    } else {
        "include debug\n/response_body:$..password/ remove"
    };
    let rules = Arc::new(RuleSet::parse(rules).expect("rules"));
    let whole = lists(1448, &turns, &rules);
    assert_eq!(whole, lists(61, &turns, &rules));
}

/// The lists of messages that are found in segments of `mss` bytes.
fn lists(mss: usize, turns: &http2::Turns, rules: &Arc<RuleSet>) -> Vec<[Option<String>; 2]> {
    let talk = Conversation {
        mss,
        ..Conversation::new(Vec::new())
    };
    let mut config = Config::default();
    config.message.websocket = true;
    config.message.body_bytes_max = 4096;
    let mut reader = Reader::new(&config);
    reader.set_rules(rules.clone());
    for segment in talk.segments_of(turns) {
        let frame = Wire::default().frame(&talk, &segment);
        reader.feed(&engine::captured(&frame, usize::MAX));
    }
    let calls = reader.finish().calls.into_iter();
    let messages = calls.filter(|(row, _)| value(row, "custom_field:stream") == Some("websocket"));
    messages
        .map(|(row, notes)| {
            ["request_body", "response_body"].map(|key| {
                let list = value(&row, key)?.to_owned();
                let is_json = serde_json::from_str::<serde_json::Value>(&list).is_ok();
                assert!(is_json || notes.truncated, "{list}");
                Some(list)
            })
        })
        .collect()
}
