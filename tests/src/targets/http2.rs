//! Fuzz bodies of HTTP/2: connections, also joined late, and header blocks.

use bench::traffic::{Conversation, Side, Wire};

use super::turns::{frames_of, turns_of};
use crate::{engine, http2};

/// Turns as `http1` reads them, behind the prefaces of HTTP/2; the first octet says how many frames of the capture are left
/// out at its beginning, so that some are joined late.
pub(super) fn h2(input: &[u8]) {
    let Some((&late, rest)) = input.split_first() else {
        return;
    };
    let turns = http2::conversation(turns_of(rest));
    let made = frames_of(&Conversation::new(Vec::new()), &turns);
    let frames = made.iter().skip(usize::from(late) % 8);
    engine::read(frames.map(|frame| engine::captured(frame, usize::MAX)));
}

/// Header blocks, each after its length (one octet), on streams of their own: however they are cut, the same is found.
pub(super) fn hpack(mut input: &[u8]) {
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    let mut stream = 1;
    while let Some((&length, rest)) = input.split_first() {
        let (block, rest) = rest.split_at(rest.len().min(usize::from(length)));
        input = rest;
        whole.extend(http2::headers(http2::END_STREAM, stream, block));
        let (first, second) = block.split_at(block.len() / 2);
        cut.extend(http2::frame(
            http2::HEADERS,
            http2::END_STREAM,
            stream,
            first,
        ));
        let (kind, flags) = (http2::CONTINUATION, http2::END_HEADERS);
        cut.extend(http2::frame(kind, flags, stream, second));
        stream += 2;
    }
    assert_eq!(found(whole), found(cut));
}

/// What is found in the frames of a client.
fn found(frames: Vec<u8>) -> [u64; 5] {
    let talk = Conversation::new(Vec::new());
    let turns = http2::conversation(vec![(Side::Client, frames)]);
    let segments = talk.segments_of(&turns);
    let made: Vec<_> = segments
        .iter()
        .map(|segment| Wire::default().frame(&talk, segment))
        .collect();
    let reading = engine::read(made.iter().map(|frame| engine::captured(frame, usize::MAX)));
    let http = reading.ledger.http;
    [
        http.requests,
        http.http2_fields_unknown,
        http.http2_blocks_broken,
        http.heads_oversized,
        http.http2_messages_malformed,
    ]
}
