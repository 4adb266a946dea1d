//! Fuzz bodies of HTTP/2: connections, also joined late, and header blocks.

use bench::collect::{Row, value};
use bench::traffic::{Conversation, Side, Wire};
use engine_core::pipeline::Config;

use super::turns::{frames_of, turns_of};
use crate::engine::{Reader, Reading, captured, read};
use crate::http2;

/// Turns as `http1` reads them, behind the prefaces of HTTP/2; the first octet says how many frames of the capture are left
/// out at its beginning, so that some are joined late. From the beginning, any segments give the same lines.
pub(super) fn h2(input: &[u8]) {
    let Some((&late, rest)) = input.split_first() else {
        return;
    };
    let turns = http2::conversation(turns_of(rest));
    let lines = |mss: usize, late: usize| {
        let talk = Conversation {
            mss,
            ..Conversation::new(Vec::new())
        };
        let made = frames_of(&talk, &turns);
        let frames = made.iter().skip(late);
        lines_of(&read(frames.map(|frame| captured(frame, usize::MAX))))
    };
    let late = usize::from(late) % 8;
    let found = lines(Conversation::new(Vec::new()).mss, late);
    if late == 0 {
        assert_eq!(found, lines(61, 0));
    }
}

/// The lines without their times, which the length of segments changes.
fn lines_of(reading: &Reading) -> Vec<Row> {
    let calls = reading.calls.iter();
    let details = calls.map(|(row, _)| {
        let details = row.iter();
        let details = details.filter(|(key, _)| !matches!(&**key, "now" | "interval"));
        details.cloned().collect()
    });
    details.collect()
}

/// Header blocks, each after its length (one octet), on streams of their own: however they are cut, the same is found, and it is
/// what another decoder finds.
pub(super) fn hpack(mut input: &[u8]) {
    // A request has a method and a path; what a block says of them itself comes first.
    let request = http2::block(&[(":method", "GET"), (":path", "/")]);
    let mut blocks = Vec::new();
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    let mut stream = 1;
    while let Some((&length, rest)) = input.split_first() {
        let (block, rest) = rest.split_at(rest.len().min(usize::from(length)));
        input = rest;
        let block = [block, &request].concat();
        whole.extend(http2::headers(http2::END_STREAM, stream, &block));
        let (first, second) = block.split_at(block.len() / 2);
        cut.extend(http2::frame(
            http2::HEADERS,
            http2::END_STREAM,
            stream,
            first,
        ));
        let (kind, flags) = (http2::CONTINUATION, http2::END_HEADERS);
        cut.extend(http2::frame(kind, flags, stream, second));
        blocks.push((stream, block));
        stream += 2;
    }
    let reading = requests(whole);
    assert_eq!(found(&reading), found(&requests(cut)));
    let http = reading.ledger.http;
    // The other one has a larger table, and reads longer lists.
    if http.http2_fields_unknown + http.heads_oversized > 0 {
        return;
    }
    let mut other = loona_hpack::Decoder::new();
    for (stream, block) in blocks {
        let Ok(fields) = other.decode(&block) else {
            return;
        };
        let stream = stream.to_string();
        let is_of_stream =
            |row: &&Row| value(row, "custom_field:stream_id") == Some(stream.as_str());
        // It is less strict than the RFC.
        let Some(row) = reading.calls.iter().map(|(row, _)| row).find(is_of_stream) else {
            return;
        };
        let expected: Vec<_> = fields
            .iter()
            .filter(|(name, value)| is_compared(name) && !value.is_empty())
            .map(|(name, value)| (lossy(name).to_lowercase(), lossy(value)))
            .collect();
        let headers = row.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("request_header:")?;
            is_compared(name.as_bytes()).then(|| (name.to_owned(), value.clone()))
        });
        assert_eq!(headers.collect::<Vec<_>>(), expected, "stream {stream}");
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a field of this name is a detail as it was sent, but for capitals.
fn is_compared(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let others: [&[u8]; 5] = [
        b"host",
        b"cookie",
        b"content-length",
        b"transfer-encoding",
        b"trailer",
    ];
    let is_other = |other: &&[u8]| name.eq_ignore_ascii_case(other);
    !name.is_empty() && name.iter().all(is_plain) && !others.iter().any(is_other)
}

/// The frames of a client, whose requests are not answered.
fn requests(frames: Vec<u8>) -> Reading {
    let talk = Conversation::new(Vec::new());
    let turns = http2::conversation(vec![(Side::Client, frames)]);
    let mut config = Config::default();
    config.message.half_calls = true;
    config.message.annotate = true;
    let mut reader = Reader::new(&config);
    for segment in talk.segments_of(&turns) {
        let frame = Wire::default().frame(&talk, &segment);
        reader.feed(&captured(&frame, usize::MAX));
    }
    reader.finish()
}

/// What is found in header blocks.
fn found(reading: &Reading) -> [u64; 5] {
    let http = reading.ledger.http;
    [
        http.requests,
        http.http2_fields_unknown,
        http.http2_blocks_broken,
        http.heads_oversized,
        http.http2_messages_malformed,
    ]
}
