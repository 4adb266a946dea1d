//! Turns of client and server as the targets read them, and the frames in which they are sent.

use bench::traffic::{Conversation, Frame as Made, Side, Wire};

/// Turns, each after its length (two octets, the highest bit for the server), on one flawless connection.
pub(super) fn conversation(input: &[u8]) -> Vec<Made> {
    frames_of(&Conversation::new(Vec::new()), &turns_of(input))
}

/// The turns of [`conversation`].
pub(super) fn turns_of(mut input: &[u8]) -> Vec<(Side, Vec<u8>)> {
    let mut turns = Vec::new();
    while let Some((&[high, low], rest)) = input.split_first_chunk() {
        let side = if high & 0x80 == 0 {
            Side::Client
        } else {
            Side::Server
        };
        let length = usize::from(u16::from_be_bytes([high & 0x7f, low]));
        let (bytes, rest) = rest.split_at(rest.len().min(length));
        turns.push((side, bytes.to_vec()));
        input = rest;
    }
    turns
}

/// The frames of these turns.
pub(super) fn frames_of(talk: &Conversation, turns: &[(Side, Vec<u8>)]) -> Vec<Made> {
    let wire = Wire::default();
    let segments = talk.segments_of(turns);
    segments
        .iter()
        .map(|segment| wire.frame(talk, segment))
        .collect()
}
