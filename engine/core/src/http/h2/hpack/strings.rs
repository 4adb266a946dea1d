//! Decoded strings: memory that is used again, and the texts of coded strings that come again.
//!
//! A sender without a header table codes the same names and values in each message: most of its octets are those of a string
//! that was decoded before. To compare a string with the one in its place of a cache takes a tenth of decoding it. Bound: two
//! caches of [`HTTP2_STRINGS_MAX`] places a shard, 33 KB each. Strings of less than eight octets are decoded as fast.

use super::broken::Broken;
use super::huffman;
use crate::limits::{HTTP2_STRING_OCTETS_MAX, HTTP2_STRINGS_MAX};

const _: () = assert!(HTTP2_STRINGS_MAX.is_power_of_two());

/// Bytes of the longest text: no code is shorter than five bits.
const TEXT_MAX: usize = HTTP2_STRING_OCTETS_MAX * 8 / 5;

const _: () = assert!(TEXT_MAX <= u8::MAX as usize);

/// Of strings that miss the one in their place, in a row, every n-th replaces it: what differs in each message replaces nothing
/// that comes again.
const MISSES: u8 = 8;

/// Memory of decoded strings: each text is at the front of what others have left, or in a cache.
#[derive(Debug, Default)]
pub(in crate::http::h2) struct Strings {
    pub(super) name: Decoded,
    pub(super) value: Decoded,
}

/// That of names, or of values.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) buffer: Vec<u8>,
    /// Without any until the first string that is looked for.
    places: Vec<Place>,
}

/// A coded string and its text.
#[derive(Clone, Debug)]
struct Place {
    octets: [u8; HTTP2_STRING_OCTETS_MAX],
    text: [u8; TEXT_MAX],
    octets_length: u8,
    text_length: u8,
    misses: u8,
}

impl Place {
    const EMPTY: Self = Self {
        octets: [0; HTTP2_STRING_OCTETS_MAX],
        text: [0; TEXT_MAX],
        octets_length: 0,
        text_length: 0,
        misses: 0,
    };

    fn octets(&self) -> Option<&[u8]> {
        self.octets.get(..usize::from(self.octets_length))
    }

    fn text(&self) -> &[u8] {
        let text = self.text.get(..usize::from(self.text_length));
        text.unwrap_or_default()
    }

    /// Counts a miss, after some of which the place has this string.
    fn miss(&mut self, octets: &[u8], text: &[u8]) {
        if self.misses == 0
            && let Some(octets_place) = self.octets.get_mut(..octets.len())
            && let Some(text_place) = self.text.get_mut(..text.len())
        {
            octets_place.copy_from_slice(octets);
            text_place.copy_from_slice(text);
            (self.octets_length, self.text_length) = (octets.len() as u8, text.len() as u8);
        }
        self.misses = (self.misses + 1) % MISSES;
    }
}

impl Decoded {
    /// The text of a coded string.
    #[inline]
    pub(super) fn text(&mut self, octets: &[u8]) -> Result<&[u8], Broken> {
        let Some(number) = place_of(octets) else {
            return huffman::decode(octets, &mut self.buffer);
        };
        if self.places.is_empty() {
            self.places = vec![Place::EMPTY; HTTP2_STRINGS_MAX];
        }
        let Some(place) = self.places.get_mut(number) else {
            return Err(Broken);
        };
        if place.octets() == Some(octets) {
            place.misses = 1;
            return Ok(place.text());
        }
        let text = huffman::decode(octets, &mut self.buffer)?;
        place.miss(octets, text);
        Ok(text)
    }
}

/// The number of a string's place, by its first and its last octets; none if it is not looked for.
#[inline]
fn place_of(octets: &[u8]) -> Option<usize> {
    if octets.len() > HTTP2_STRING_OCTETS_MAX {
        return None;
    }
    let (first, last) = (octets.first_chunk()?, octets.last_chunk()?);
    let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    let mixed = (first ^ last.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Some((mixed >> (u64::BITS - HTTP2_STRINGS_MAX.ilog2())) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::huffman::tests::encoded;
    use super::*;

    /// Strings that come again and others between them, in random order: each text is what the decoder alone finds.
    #[test]
    fn texts_are_those_of_the_decoder() {
        let (mut cached, mut plain) = (Decoded::default(), Vec::new());
        let mut state = 3_u64;
        let mut hits = 0;
        for round in 0..50_000_u64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Half of them are one of 40, of which some share a place.
            let number = if round % 2 == 0 { state % 40 } else { state };
            let text = format!("{number:x}-value").repeat((number % 9) as usize + 1);
            let mut octets = encoded(text.as_bytes());
            if state.is_multiple_of(50)
                && let Some(last) = octets.last_mut()
            {
                // Perhaps with padding that is none.
                *last = last.wrapping_add(1);
            }
            let before = place_of(&octets).and_then(|place| cached.places.get(place).cloned());
            hits += u64::from(before.is_some_and(|place| place.octets() == Some(&octets)));
            let expected = huffman::decode(&octets, &mut plain);
            assert_eq!(cached.text(&octets), expected, "{text}");
        }
        assert!(hits > 10_000, "{hits}");
        assert_eq!(cached.places.len(), HTTP2_STRINGS_MAX);
    }

    #[test]
    fn the_longest_text_fits() {
        // The shortest code is that of a digit.
        let text = [b'0'; TEXT_MAX];
        let octets = encoded(&text);
        assert_eq!(octets.len(), HTTP2_STRING_OCTETS_MAX);
        let mut cached = Decoded::default();
        for _ in 0..2 {
            assert_eq!(cached.text(&octets), Ok(&text[..]));
        }
        let longer = encoded(&[b'0'; TEXT_MAX + 2]);
        assert_eq!(place_of(&longer), None);
        assert_eq!(cached.text(&longer).map(<[u8]>::len), Ok(TEXT_MAX + 2));
        assert_eq!(place_of(&octets[..7]), None, "a short one");
    }

    /// What differs in each message replaces nothing that comes again.
    #[test]
    fn a_string_that_comes_again_keeps_its_place() {
        let mut cached = Decoded::default();
        let own = encoded(b"application/json");
        let place = place_of(&own);
        let mut others = (0..).map(|number: u64| encoded(format!("{number:016}").as_bytes()));
        for _ in 0..200 {
            cached.text(&own).unwrap();
            let other = others.find(|octets| place_of(octets) == place).unwrap();
            cached.text(&other).unwrap();
            let kept = cached.places[place.unwrap()].octets();
            assert_eq!(kept, Some(&own[..]));
        }
    }
}
