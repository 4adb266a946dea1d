//! A message cut anywhere gives the same line: through the whole pipeline, byte for byte. Here belongs how bytes are cut
//! into segments, and nothing else.

use bench::collect::Row;
use bench::seed::Seed;
use bench::traffic::{Body, Coding, Conversation, Exchange, Framing, Side, Wire};
use tests::engine::{captured, read};

type Turns = Vec<(Side, Vec<u8>)>;

/// Framings and codings that are sensitive to cuts: chunks, a coded body, an interim response, a body that looks like heads.
fn talk() -> Conversation {
    let body = |text: &str, coding, framing| Body {
        plain: text.into(),
        coding,
        framing,
    };
    let chunked = Exchange {
        response_body: body(
            "HTTP/1.1 200 OK\r\n\r\n0\r\n\r\nä",
            Coding::Identity,
            Framing::Chunked(7),
        ),
        ..Exchange::get(1, "/chunked", "")
    };
    let coded = Exchange {
        method: "POST".into(),
        interim: vec![100],
        request_body: body("{\"a\":\"€\"}", Coding::Identity, Framing::Chunked(2)),
        response_body: body("GET / HTTP/1.1\r\n", Coding::Gzip, Framing::Length),
        ..Exchange::get(2, "/coded", "")
    };
    let bodiless = Exchange {
        method: "HEAD".into(),
        ..Exchange::get(3, "/head", "not sent")
    };
    let closed = Exchange {
        response_body: body("to the end\r\n\r\n", Coding::Identity, Framing::Close),
        ..Exchange::get(4, "/closed", "")
    };
    Conversation {
        mss: 8_000,
        ..Conversation::new(vec![chunked, coded, bodiless, closed])
    }
}

/// All at one time, so that the times in lines are equal.
fn rows(talk: &Conversation, turns: &Turns) -> Vec<Row> {
    let wire = Wire::default();
    let segments = talk.segments_of(turns).into_iter().map(|mut segment| {
        segment.time = talk.start;
        wire.frame(talk, &segment)
    });
    let frames: Vec<_> = segments.collect();
    let reading = read(frames.iter().map(|frame| captured(frame, usize::MAX)));
    reading.calls.into_iter().map(|(row, _)| row).collect()
}

/// The turn at `index`, cut at `places`.
fn cut(turns: &Turns, index: usize, places: &[usize]) -> Turns {
    let mut result = turns[..index].to_vec();
    let (side, bytes) = &turns[index];
    let mut from = 0;
    for place in places.iter().copied().chain([bytes.len()]) {
        result.push((*side, bytes[from..place].to_vec()));
        from = place;
    }
    result.retain(|(_, bytes)| !bytes.is_empty());
    result.extend_from_slice(&turns[index + 1..]);
    result
}

#[test]
fn every_cut_of_every_turn() {
    let talk = talk();
    let turns = talk.turns();
    let whole = rows(&talk, &turns);
    assert_eq!(whole.len(), 4);
    for (index, (side, bytes)) in turns.iter().enumerate() {
        for place in 1..bytes.len() {
            let cut = rows(&talk, &cut(&turns, index, &[place]));
            assert_eq!(cut, whole, "turn {index} of {side:?}, cut at {place}");
        }
    }
}

#[test]
fn any_cuts_of_everything() {
    let talk = talk();
    let whole = rows(&talk, &talk.turns());
    for number in 0..300 {
        let mut seed = Seed::new(number);
        let mut turns = talk.turns();
        for index in (0..turns.len()).rev() {
            let length = turns[index].1.len();
            let mut places: Vec<_> = (0..seed.within(0..=12))
                .map(|_| seed.within(0..=length))
                .collect();
            places.sort_unstable();
            turns = cut(&turns, index, &places);
        }
        assert_eq!(rows(&talk, &turns), whole, "seed {number}");
    }
}
