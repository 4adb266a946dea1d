//! A set of places, and its bytes: the distances between its members as Rice codes, in sections, each of which can be read alone.

use super::super::damaged::Damaged;
use crate::histogram::{put, take};
use crate::limits::BLOCK_GRAMS_MAX;

/// Places of a set, as a power of two: so many that the members of an ordinary block are a small part of them.
pub(super) const PLACES_POWER: u32 = 21;

/// Number of places.
const PLACES: usize = 1 << PLACES_POWER;

/// Words of 64 places.
const WORDS: usize = PLACES / 64;

/// Of so many words one is looked at for the number of members.
const SAMPLE: usize = 8;

/// Sections of a set.
const SECTIONS: usize = 128;

/// Places of a section.
const SECTION_PLACES: usize = PLACES / SECTIONS;

/// A set that grows.
#[derive(Clone, Default)]
pub(super) struct Set {
    /// A bit for each place; none before the first member.
    bits: Vec<u64>,
}

impl Set {
    /// Adds a place, of which no more than [`PLACES_POWER`] bits count.
    pub(super) fn add(&mut self, place: usize) {
        if let Some(bits) = self.bits().first_chunk_mut::<WORDS>() {
            bits[place / 64 % WORDS] |= 1 << (place % 64);
        }
    }

    fn bits(&mut self) -> &mut Vec<u64> {
        if self.bits.is_empty() {
            self.bits.resize(WORDS, 0);
        }
        &mut self.bits
    }

    /// As bytes; none where it excludes too little to be of use.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        // Places are hashes, so that a part of the words has its part of the members.
        let sample = self.bits.iter().step_by(SAMPLE);
        let members = SAMPLE * sample.map(|bits| bits.count_ones() as usize).sum::<usize>();
        if members > BLOCK_GRAMS_MAX {
            return None;
        }
        let parameter = parameter(members);
        let mut lengths = Vec::with_capacity(SECTIONS * 2);
        let mut sections = Vec::with_capacity(members);
        for section in 0..SECTIONS {
            let start = sections.len();
            let mut writer = BitWriter {
                bytes: &mut sections,
                bits: 0,
                count: 0,
            };
            let mut next = 0;
            let words = SECTION_PLACES / 64;
            let of_section = self.bits.iter().skip(section * words).take(words);
            for (index, &word) in of_section.enumerate() {
                let mut word = word;
                while word != 0 {
                    let place = index as u32 * 64 + word.trailing_zeros();
                    word &= word - 1;
                    writer.rice(place - next, parameter);
                    next = place + 1;
                }
            }
            writer.end();
            put(&mut lengths, (sections.len() - start) as u64);
        }
        let mut bytes = vec![parameter as u8];
        bytes.append(&mut lengths);
        bytes.append(&mut sections);
        Some(bytes)
    }

    /// Adds the members of a set that was written.
    pub(super) fn merge_encoded(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let encoded = Encoded::new(bytes)?;
        let bits = self.bits();
        for section in 0..SECTIONS {
            encoded.each(section, |place| {
                let place = section * SECTION_PLACES + place as usize;
                if let Some(word) = bits.get_mut(place / 64) {
                    *word |= 1 << (place % 64);
                }
            })?;
        }
        Ok(())
    }
}

/// The parameter of the Rice code that fits the mean distance.
fn parameter(members: usize) -> u32 {
    let mean = PLACES / members.max(1);
    // 0.69 of the mean, as a power of two.
    (mean * 11 / 16).max(1).ilog2()
}

/// One bits that are written in one step: with the rest of a code, and what waits for its byte, they are within 64 bits.
const ONES_AT_ONCE: u32 = 32;

struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    bits: u64,
    count: u32,
}

impl BitWriter<'_> {
    /// A number: its highest bits in ones with a zero behind them, then the others.
    fn rice(&mut self, number: u32, parameter: u32) {
        let mut ones = number >> parameter;
        while ones > ONES_AT_ONCE {
            self.put((1 << ONES_AT_ONCE) - 1, ONES_AT_ONCE);
            ones -= ONES_AT_ONCE;
        }
        let low = u64::from(number) & ((1 << parameter) - 1);
        self.put(((1 << ones) - 1) | low << (ones + 1), ones + 1 + parameter);
    }

    fn put(&mut self, bits: u64, count: u32) {
        self.bits |= bits << self.count;
        let all = self.count + count;
        if all < u64::BITS {
            self.count = all;
            return;
        }
        self.bytes.extend_from_slice(&self.bits.to_le_bytes());
        // What had no room.
        self.bits = bits.checked_shr(u64::BITS - self.count).unwrap_or_default();
        self.count = all - u64::BITS;
    }

    /// Fills the last byte with ones, which are no number.
    fn end(mut self) {
        let missing = (8 - self.count % 8) % 8;
        if missing > 0 {
            self.put(u64::MAX >> (u64::BITS - missing), missing);
        }
        let bytes = self.bits.to_le_bytes();
        self.bytes
            .extend_from_slice(&bytes[..(self.count / 8) as usize]);
    }
}

/// A set that was written.
pub(super) struct Encoded<'a> {
    parameter: u32,
    sections: Vec<&'a [u8]>,
}

impl<'a> Encoded<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let (&parameter, mut bytes) = bytes.split_first().ok_or(Damaged)?;
        if u32::from(parameter) > PLACES_POWER {
            return Err(Damaged);
        }
        let lengths: Vec<u64> = (0..SECTIONS).map(|_| take(&mut bytes)).collect();
        let mut sections = Vec::with_capacity(SECTIONS);
        for length in lengths {
            let length = usize::try_from(length).map_err(|_| Damaged)?;
            let (section, rest) = bytes.split_at_checked(length).ok_or(Damaged)?;
            sections.push(section);
            bytes = rest;
        }
        Ok(Self {
            parameter: u32::from(parameter),
            sections,
        })
    }

    /// Passes the places of a section on, which count from its beginning, in ascending order.
    fn each(&self, section: usize, mut each: impl FnMut(u32)) -> Result<(), Damaged> {
        let bytes = self.sections.get(section).ok_or(Damaged)?;
        let (mut bits, mut count, mut at) = (0u64, 0u32, 0);
        let mut next = 0u32;
        let mut high = 0u32;
        loop {
            while count <= 48
                && let Some(&byte) = bytes.get(at)
            {
                bits |= u64::from(byte) << count;
                count += 8;
                at += 1;
            }
            let ones = bits.trailing_ones().min(count);
            if ones == count {
                // All that is left are ones, of a number that is longer or of none.
                if at >= bytes.len() {
                    return Ok(());
                }
                high += ones;
                (bits, count) = (0, 0);
                if high as usize > SECTION_PLACES {
                    return Err(Damaged);
                }
                continue;
            }
            let length = ones + 1 + self.parameter;
            if count < length {
                if at >= bytes.len() || ones == 0 {
                    return Err(Damaged);
                }
                // Without the ones there is room for the rest of the code.
                high += ones;
                bits >>= ones;
                count -= ones;
                continue;
            }
            let low = (bits >> (ones + 1)) & ((1 << self.parameter) - 1);
            bits >>= length;
            count -= length;
            let distance = (u64::from(high + ones) << self.parameter) | low;
            high = 0;
            let place = distance + u64::from(next);
            if place >= SECTION_PLACES as u64 {
                return Err(Damaged);
            }
            each(place as u32);
            next = place as u32 + 1;
        }
    }

    /// Whether all of these places, which are ascending, are members.
    pub(super) fn has_all(&self, places: &[usize]) -> Result<bool, Damaged> {
        let section_of = |place: &usize| place / SECTION_PLACES;
        for of_section in places.chunk_by(|a, b| section_of(a) == section_of(b)) {
            let section = of_section.first().map_or(0, section_of);
            let mut wanted = of_section.iter().map(|place| place % SECTION_PLACES);
            let mut next = wanted.next();
            self.each(section, |place| {
                if next == Some(place as usize) {
                    next = wanted.next();
                }
            })?;
            if next.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random places.
    fn set(count: usize, seed: u64) -> Set {
        let mut state = seed | 1;
        let mut set = Set::default();
        for _ in 0..count {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            set.add(state as usize % PLACES);
        }
        set
    }

    #[test]
    fn sets_come_back_and_merge() {
        for count in [1, 7, 300, 20_000, 400_000] {
            let one = set(count, 77);
            let bytes = one.encode().expect("not full");
            let mut read = Set::default();
            read.merge_encoded(&bytes).expect("whole");
            assert_eq!(read.bits, one.bits, "{count}");
            let other = set(50, 99);
            read.merge_encoded(&other.encode().expect("not full"))
                .expect("whole");
            let both = one.bits.iter().zip(&other.bits).map(|(a, b)| a | b);
            assert!(read.bits.iter().copied().eq(both), "{count}");
        }
        let mut ends = Set::default();
        for place in [0, 1, PLACES - 1] {
            ends.add(place);
        }
        let bytes = ends.encode().expect("not full");
        let encoded = Encoded::new(&bytes).expect("whole");
        for (places, expected) in [
            (&[][..], true),
            (&[0, 1, PLACES - 1], true),
            (&[1], true),
            (&[2], false),
            (&[0, 2, PLACES - 1], false),
            (&[PLACES - 2], false),
        ] {
            assert_eq!(encoded.has_all(places), Ok(expected), "{places:?}");
        }
        let none = Set::default().encode().expect("not full");
        let mut read = Set::default();
        read.merge_encoded(&none).expect("whole");
        assert!(read.bits.iter().all(|&bits| bits == 0));
        let full = Set {
            bits: vec![u64::MAX; PLACES / 64],
        };
        assert_eq!(full.encode(), None);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_some_set() {
        let bytes = set(500, 5).encode().expect("not full");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let _ = Set::default().merge_encoded(&damaged);
            let _ = Set::default().merge_encoded(&bytes[..at]);
        }
    }
}
