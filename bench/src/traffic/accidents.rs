//! Accidents: loss, reordering, duplication, retransmission and skew of segments between the endpoints and the capture.
//!
//! Reordering, duplicates and retransmission with other boundaries leave every byte in the capture, and no byte is
//! acknowledged before it is captured, so a correct reader loses nothing. Loss and skew are faults of the capture: the
//! endpoints received everything, but the capture misses segments or has an answer before its request.

use super::conversation::{Segment, flags};
use super::side::Side;
use crate::seed::Seed;

/// The frequency of each accident, in cases of 1000 segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accidents {
    /// The capture misses the segment.
    pub lose_per_mille: u32,
    /// The segment is swapped with its neighbour from the same side.
    pub reorder_per_mille: u32,
    /// The segment is repeated, at once or a little later.
    pub duplicate_per_mille: u32,
    /// Its bytes are retransmitted with other boundaries, so that they overlap the segments around it.
    pub resegment_per_mille: u32,
    /// The segment is swapped with a neighbour from the other side, so that an acknowledgement or an answer may be
    /// captured before the bytes that it is for.
    pub skew_per_mille: u32,
}

impl Accidents {
    /// A perfect capture.
    pub const fn none() -> Self {
        Self {
            lose_per_mille: 0,
            reorder_per_mille: 0,
            duplicate_per_mille: 0,
            resegment_per_mille: 0,
            skew_per_mille: 0,
        }
    }

    /// A bad network and a perfect capture: nothing may be lost.
    pub const fn harmless() -> Self {
        Self {
            reorder_per_mille: 150,
            duplicate_per_mille: 80,
            resegment_per_mille: 80,
            ..Self::none()
        }
    }

    /// Applies the accidents to the segments of one connection. Times are assigned again in rising order.
    pub fn happen(&self, segments: Vec<Segment>, mss: usize, seed: &mut Seed) -> Vec<Segment> {
        if *self == Self::none() {
            return segments;
        }
        let mut times: Vec<u64> = segments.iter().map(|segment| segment.time).collect();
        let mut segments = self.resegment(segments, mss, seed);
        segments = self.duplicate(segments, seed);
        swap_neighbours(&mut segments, self.reorder_per_mille, true, seed);
        swap_neighbours(&mut segments, self.skew_per_mille, false, seed);
        segments.retain(|_| !seed.chance(self.lose_per_mille));
        while times.len() < segments.len() {
            times.push(times.last().copied().unwrap_or_default() + 1_000);
        }
        for (segment, time) in segments.iter_mut().zip(times) {
            segment.time = time;
        }
        segments
    }

    fn resegment(&self, segments: Vec<Segment>, mss: usize, seed: &mut Seed) -> Vec<Segment> {
        if self.resegment_per_mille == 0 {
            return segments;
        }
        let streams = [
            Stream::of(&segments, Side::Client),
            Stream::of(&segments, Side::Server),
        ];
        let mut result = Vec::with_capacity(segments.len());
        for (index, segment) in segments.iter().enumerate() {
            result.push(segment.clone());
            if segment.payload.is_empty() || !seed.chance(self.resegment_per_mille) {
                continue;
            }
            let stream = &streams[usize::from(segment.side == Side::Server)];
            // The retransmission may reach into the next segment only if that is from the same side.
            let next = segments
                .get(index + 1)
                .filter(|next| next.side == segment.side);
            let end = stream.offset(segment) + segment.payload.len();
            let end = end + next.map_or(0, |next| seed.within(0..=next.payload.len()));
            let start = end.saturating_sub(seed.within(1..=mss));
            if start < end {
                let payload = stream.bytes[start..end].to_vec();
                let seq = stream.first.wrapping_add(start as u32);
                result.push(Segment {
                    seq,
                    payload,
                    flags: flags::ACK,
                    ..segment.clone()
                });
            }
        }
        result
    }

    fn duplicate(&self, segments: Vec<Segment>, seed: &mut Seed) -> Vec<Segment> {
        let mut result = Vec::with_capacity(segments.len());
        let mut later: Vec<(usize, Segment)> = Vec::new();
        for (index, segment) in segments.into_iter().enumerate() {
            // A SYN after data may correctly be read as a new connection, so it is not repeated.
            if segment.flags & flags::SYN == 0 && seed.chance(self.duplicate_per_mille) {
                later.push((index + seed.within(0..=5), segment.clone()));
            }
            result.push(segment);
            for (_, due) in later.extract_if(.., |(when, _)| *when <= index) {
                result.push(due);
            }
        }
        result
    }
}

/// Swaps neighbours of the same side or of different sides.
fn swap_neighbours(segments: &mut [Segment], per_mille: u32, same_side: bool, seed: &mut Seed) {
    for index in 1..segments.len() {
        let fits = (segments[index - 1].side == segments[index].side) == same_side;
        if fits && seed.chance(per_mille) {
            segments.swap(index - 1, index);
        }
    }
}

/// All bytes that one side sends.
struct Stream {
    first: u32,
    bytes: Vec<u8>,
}

impl Stream {
    fn of(segments: &[Segment], side: Side) -> Self {
        let sent = || {
            segments
                .iter()
                .filter(|segment| segment.side == side && !segment.payload.is_empty())
        };
        Self {
            first: sent().next().map_or(0, |segment| segment.seq),
            bytes: sent()
                .flat_map(|segment| segment.payload.iter().copied())
                .collect(),
        }
    }

    fn offset(&self, segment: &Segment) -> usize {
        segment.seq.wrapping_sub(self.first) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::conversation::{Conversation, Shape};
    use super::*;

    /// A slow, obvious receiver: every byte at its sequence number.
    fn received(segments: &[Segment], side: Side, isn: u32) -> Vec<Option<u8>> {
        let mut bytes = Vec::new();
        for segment in segments.iter().filter(|segment| segment.side == side) {
            let offset = segment.seq.wrapping_sub(isn.wrapping_add(1)) as usize;
            for (n, byte) in segment.payload.iter().enumerate() {
                bytes.resize(bytes.len().max(offset + n + 1), None);
                assert!(
                    bytes[offset + n].is_none_or(|seen| seen == *byte),
                    "overlapping bytes are equal"
                );
                bytes[offset + n] = Some(*byte);
            }
        }
        bytes
    }

    #[test]
    fn harmless_accidents_keep_every_byte_and_acknowledge_none_unseen() {
        for seed in 0..30 {
            let shape = Shape {
                near_wrap: seed % 2 == 0,
                ..Shape::default()
            };
            let conversation = Conversation::seeded(&mut Seed::new(seed), &shape);
            let clean = conversation.segments();
            let rough =
                Accidents::harmless().happen(clean.clone(), conversation.mss, &mut Seed::new(seed));
            assert!(
                rough.is_sorted_by_key(|segment| segment.time),
                "seed {seed}"
            );
            for (side, isn) in [
                (Side::Client, conversation.isn[0]),
                (Side::Server, conversation.isn[1]),
            ] {
                assert_eq!(
                    received(&clean, side, isn),
                    received(&rough, side, isn),
                    "seed {seed}"
                );
                check_acknowledgements(&rough, side, isn, seed);
            }
        }
    }

    #[track_caller]
    fn check_acknowledgements(segments: &[Segment], side: Side, isn: u32, seed: u64) {
        for (index, segment) in segments.iter().enumerate() {
            if segment.side == side
                || segment.flags & flags::ACK == 0
                || segment.flags & flags::SYN != 0
            {
                continue;
            }
            let acknowledged = segment.ack.wrapping_sub(isn.wrapping_add(1)) as usize;
            let seen = received(&segments[..index], side, isn);
            let needed = acknowledged.min(received(segments, side, isn).len());
            assert!(
                seen.len() >= needed && seen[..needed].iter().all(Option::is_some),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn loss_loses() {
        let conversation = Conversation::seeded(&mut Seed::new(3), &Shape::default());
        let accidents = Accidents {
            lose_per_mille: 500,
            ..Accidents::none()
        };
        let left = accidents
            .happen(conversation.segments(), conversation.mss, &mut Seed::new(1))
            .len();
        assert!(left < conversation.segments().len(), "{left}");
    }
}
