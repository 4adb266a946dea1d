//! Which short texts occur in the lines of a block, so that a search for a word leaves out the blocks that cannot have it.
//!
//! A gram is a few ASCII letters or digits in a row, in lower case, as a place in a set. A word of which one gram is in no line is in no
//! line. There are two sets of a block:
//!
//! - *short* grams are all those of four characters. Words of a language have few of what is possible.
//! - *long* grams are some of those of eight characters, hyphens and underscores included, for ids, of whose short grams a block has
//!   all. Of each [`WINDOW`] neighbours the one with the least hash is chosen, so that whatever has as many neighbours in a
//!   row has one that was chosen, wherever it is.
//!
//! A set may have grams that no line has, never the other way round: it is computed of whole lines, and merged with those of other
//! blocks. One that would be so full that it excludes little is left out, and the block is searched.
//!
//! Case is ignored as the search does it, by Unicode's simple folding, by which two characters that are not ASCII are equal to
//! letters of ASCII: the long s and the sign of Kelvin.

mod set;

use set::{Encoded, PLACES_POWER, Set};

use memchr::memchr2;

use super::damaged::Damaged;
use crate::filter::Word;
use crate::histogram::{put, take};

/// Characters of a short gram.
const SHORT: usize = 4;

/// Characters of a long gram.
const LONG: usize = 8;

/// Long grams in a row of which one is chosen: a text of 16 characters has one at least.
const WINDOW: usize = 9;

/// The grams of a block, while it is filled.
#[derive(Clone, Default)]
pub(super) struct Grams {
    short: Set,
    long: Set,
    /// There may be others in the lines.
    is_open: [bool; 2],
}

impl std::fmt::Debug for Grams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grams").finish_non_exhaustive()
    }
}

/// What a byte is in a gram: in the lower half a letter or a digit in lower case, which is in both, or a mark that is in long ones
/// alone; 0 for what is in none.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let character = byte as u8;
        if character.is_ascii_alphanumeric() || character == b'-' || character == b'_' {
            classes[byte] = character.to_ascii_lowercase();
        }
        byte += 1;
    }
    classes
};

/// The place of four characters, the last in the lowest bits.
fn short_place(gram: u32) -> usize {
    // The highest bits of the product depend on all others.
    (gram.wrapping_mul(0x9E37_79B1) >> (u32::BITS - PLACES_POWER)) as usize
}

/// The hash of eight characters, by whose order grams are chosen; the lowest bits of that are no part of their place.
fn long_hash(gram: u64) -> u64 {
    let product = gram.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (product ^ (product >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// The place of a long gram. Those that are chosen have small hashes, so the highest bits are left out.
fn long_place(hash: u64) -> usize {
    (hash & ((1 << PLACES_POWER) - 1)) as usize
}

/// Passes the places of the grams of a text on, some of them repeatedly.
fn each_place(text: &str, mut short: impl FnMut(usize), mut long: impl FnMut(usize)) {
    // The beginnings of the two characters that are equal to letters of ASCII.
    if memchr2(0xC5, 0xE2, text.as_bytes()).is_some() {
        return each_place_slowly(text, &mut short, &mut long);
    }
    let class = |byte: u8| CLASSES[usize::from(byte)];
    let is_letter = |byte: &u8| !matches!(class(*byte), 0 | b'-' | b'_');
    let mut rest = text.as_bytes();
    while let Some(start) = rest.iter().position(|&byte| class(byte) != 0) {
        rest = &rest[start..];
        let mut length = 0;
        loop {
            let part = &rest[length..];
            let letters = part.iter().position(|byte| !is_letter(byte));
            let letters = letters.unwrap_or(part.len());
            short_grams(&part[..letters], &mut short);
            length += letters;
            // A mark goes on with the run, but not with short grams.
            match rest.get(length) {
                Some(&byte) if class(byte) != 0 => length += 1,
                _ => break,
            }
        }
        let (run, behind) = rest.split_at(length);
        long_grams(run, &mut long);
        rest = behind;
    }
}

/// The short grams of letters and digits.
fn short_grams(letters: &[u8], short: &mut impl FnMut(usize)) {
    let mut gram = 0;
    for (number, &byte) in letters.iter().enumerate() {
        gram = gram << 8 | u32::from(CLASSES[usize::from(byte)]);
        if number >= SHORT - 1 {
            short(short_place(gram));
        }
    }
}

/// Long grams that are examined together.
const LONG_MAX: usize = 64;

/// The long grams that are chosen of a run.
fn long_grams(run: &[u8], long: &mut impl FnMut(usize)) {
    if run.len() < LONG + WINDOW - 1 {
        return;
    }
    let mut gram = 0u64;
    let mut hashes = run.iter().map(|&byte| {
        gram = gram << 8 | u64::from(CLASSES[usize::from(byte)]);
        long_hash(gram)
    });
    // The first ones are not whole.
    let mut hashes = hashes.by_ref().skip(LONG - 1);
    let mut least = [0; LONG_MAX];
    let mut kept = 0;
    loop {
        let mut count = kept;
        for (place, hash) in least[kept..].iter_mut().zip(&mut hashes) {
            *place = hash;
            count += 1;
        }
        if count < WINDOW {
            return;
        }
        // Those that are in windows with later ones.
        let mut last = [0; WINDOW - 1];
        last.copy_from_slice(&least[count - (WINDOW - 1)..count]);
        // The least of one, then of two, four, eight and nine neighbours. Which of equal ones is chosen makes no difference.
        for (distance, left) in [
            (1, count - 1),
            (2, count - 3),
            (4, count - 7),
            (1, count - 8),
        ] {
            for at in 0..left {
                least[at] = least[at].min(least[at + distance]);
            }
        }
        least[..count - (WINDOW - 1)]
            .iter()
            .for_each(|&hash| long(long_place(hash)));
        if count < LONG_MAX {
            return;
        }
        kept = WINDOW - 1;
        least[..kept].copy_from_slice(&last);
    }
}

/// The same of any text, one character after the other.
fn each_place_slowly(text: &str, short: &mut impl FnMut(usize), long: &mut impl FnMut(usize)) {
    let bytes = text.as_bytes();
    let (mut gram, mut letters) = (0u64, 0);
    let mut length = 0;
    let mut window = Window::default();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        let mut class = CLASSES[usize::from(byte)];
        if byte >= 0x80 {
            // U+017F and U+212A.
            match (byte, bytes.get(at), bytes.get(at + 1)) {
                (0xC5, Some(0xBF), _) => {
                    class = b's';
                    at += 1;
                }
                (0xE2, Some(0x84), Some(0xAA)) => {
                    class = b'k';
                    at += 2;
                }
                _ => {}
            }
        }
        if class == 0 {
            (letters, length) = (0, 0);
            continue;
        }
        gram = gram << 8 | u64::from(class);
        letters = if class == b'-' || class == b'_' {
            0
        } else {
            letters + 1
        };
        length += 1;
        if letters >= SHORT {
            short(short_place(gram as u32));
        }
        if length == LONG {
            window = Window::default();
        }
        if length >= LONG
            && let Some(chosen) = window.push(long_hash(gram))
        {
            long(long_place(chosen));
        }
    }
}

/// The hashes of the last grams of a run.
#[derive(Default)]
struct Window {
    hashes: [u64; WINDOW],
    /// Grams that came.
    count: usize,
    /// Number of the one that was chosen last.
    chosen: usize,
    least: u64,
}

impl Window {
    /// The hash of the gram that is chosen of the last ones, if it is another than before, or the first.
    fn push(&mut self, hash: u64) -> Option<u64> {
        let number = self.count;
        self.count += 1;
        self.hashes[number % WINDOW] = hash;
        let is_first = self.count == WINDOW;
        if number == 0 || hash <= self.least {
            (self.chosen, self.least) = (number, hash);
            return (self.count >= WINDOW).then_some(hash);
        }
        if self.chosen + WINDOW > number {
            return is_first.then_some(self.least);
        }
        // The one that was chosen is behind. Of equal ones the last counts.
        let first = self.count - WINDOW;
        self.least = u64::MAX;
        for number in first..self.count {
            let hash = self.hashes[number % WINDOW];
            if hash <= self.least {
                (self.chosen, self.least) = (number, hash);
            }
        }
        Some(self.least)
    }
}

impl Grams {
    /// Adds those of a line.
    pub(super) fn add(&mut self, line: &str) {
        let Self { short, long, .. } = self;
        each_place(line, |place| short.add(place), |place| long.add(place));
    }

    /// Adds what is not known.
    pub(super) fn open(&mut self) {
        self.is_open = [true; 2];
    }

    /// As bytes: the length of the short set, the short set, the long set; nothing in place of one that is not known or too full.
    pub(super) fn encode(&self) -> Vec<u8> {
        let [short, long] = [(&self.short, 0), (&self.long, 1)].map(|(set, index)| {
            let known = (!self.is_open[index]).then(|| set.encode()).flatten();
            known.unwrap_or_default()
        });
        let mut bytes = Vec::with_capacity(short.len() + long.len() + 4);
        put(&mut bytes, short.len() as u64);
        bytes.extend_from_slice(&short);
        bytes.extend_from_slice(&long);
        bytes
    }

    /// Adds those of a block that was written.
    pub(super) fn merge_encoded(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let Self {
            short,
            long,
            is_open,
        } = self;
        let sets = [short, long].into_iter().zip(is_open);
        for ((set, is_open), bytes) in sets.zip(split(bytes)?) {
            match bytes {
                [] => *is_open = true,
                bytes => set.merge_encoded(bytes)?,
            }
        }
        Ok(())
    }
}

/// The bytes of the two sets.
fn split(mut bytes: &[u8]) -> Result<[&[u8]; 2], Damaged> {
    let length = usize::try_from(take(&mut bytes)).map_err(|_| Damaged)?;
    let (short, long) = bytes.split_at_checked(length).ok_or(Damaged)?;
    Ok([short, long])
}

/// Whether some line of a block with these grams may contain a word.
pub(super) fn may_contain(bytes: &[u8], word: &Word) -> Result<bool, Damaged> {
    let sets = split(bytes)?;
    for text in word.texts() {
        let (mut short, mut long) = (Vec::new(), Vec::new());
        each_place(text, |place| short.push(place), |place| long.push(place));
        let mut may_contain = true;
        for (mut places, set) in [short, long].into_iter().zip(sets) {
            places.sort_unstable();
            places.dedup();
            may_contain &= set.is_empty() || Encoded::new(set)?.has_all(&places)?;
        }
        if may_contain {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{Expression, Filter};

    fn bytes_of(lines: &[&str]) -> Vec<u8> {
        let mut grams = Grams::default();
        lines.iter().for_each(|line| grams.add(line));
        grams.encode()
    }

    #[track_caller]
    fn check(lines: &[&str], word: &str, expected: bool) {
        let bytes = bytes_of(lines);
        let filter = Filter::parse(word).expect("a filter");
        let Expression::Word(word) = filter.expression() else {
            panic!("a word");
        };
        assert_eq!(may_contain(&bytes, word), Ok(expected), "{lines:?}");
        if lines.iter().any(|line| word.may_occur_in(line)) {
            assert!(expected, "{lines:?}");
        }
    }

    #[test]
    fn a_word_needs_its_grams() {
        let lines = ["the quick brown fox", "jumps OVER8000 times"];
        for (word, expected) in [
            ("quick", true),
            ("QUIC", true),
            ("over80", true),
            ("quack", false),
            ("\"quick brown\"", true),
            ("\"quick braun\"", false),
            // Too short to exclude anything.
            ("zzz", true),
            ("\"é-z z\"", true),
        ] {
            check(&lines, word, expected);
        }
        check(&[], "quick", false);
        check(&[r#"a\"quoted\"word"#], r#""\"quoted\"""#, true);
        check(&[r"a\nquoted"], "quoted", true);
    }

    #[test]
    fn letters_that_are_equal_to_those_of_ascii_are_grams_too() {
        check(&["\u{212A}eyboard"], "keyboard", true);
        check(&["\u{212A}EYBOARD"], "KEYB", true);
        check(&["mi\u{17F}\u{17F}ing"], "missing", true);
        check(&["mi\u{17E}\u{17F}ing"], "missing", false);
        check(&["missing"], "\"mi\u{17F}sing\"", true);
    }

    /// Pseudo-random hexadecimal digits.
    fn hex(count: usize, seed: u64) -> String {
        let mut state = seed | 1;
        let mut text = String::new();
        while text.len() < count {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(&format!("{state:016x}"));
        }
        text.truncate(count);
        text
    }

    #[test]
    fn an_id_is_excluded_where_all_its_short_grams_occur_and_never_where_it_is() {
        // Every group of four digits occurs.
        let mut all = String::new();
        for number in 0..=0xffff {
            all.push_str(&format!("{number:04x} "));
        }
        let mut excluded = 0;
        for seed in 1..=40 {
            let id = hex(16 + seed as usize % 20, seed * 77);
            let line = format!("{}{id}{}", hex(seed as usize % 30, seed), hex(7, seed + 1));
            check(&[&all, &line], &id, true);
            check(&[&all, &line.to_uppercase()], &id, true);
            let bytes = bytes_of(&[&all, &hex(2000, seed + 500)]);
            let filter = Filter::parse(&id).expect("a filter");
            let Expression::Word(word) = filter.expression() else {
                panic!("a word");
            };
            excluded += usize::from(may_contain(&bytes, word) == Ok(false));
        }
        assert!(excluded >= 38, "{excluded} of 40");
        check(
            &["a 123e4567-e89b-12d3-a456-426614174000 z"],
            "3e4567-e89b-12d3-a456-42",
            true,
        );
        check(
            &["a 123e4567-e89b-12d3-a456-426614174000 z"],
            "923e4568-f89b-42d3-b456-526614174111",
            false,
        );
    }

    #[test]
    fn what_is_chosen_of_neighbours_does_not_depend_on_what_is_around() {
        for seed in 1..200 {
            let text = hex(16 + seed as usize % 9, seed);
            let places = |text: &str| {
                let mut places = Vec::new();
                each_place(text, |_| {}, |place| places.push(place));
                places
            };
            let inner = places(&text);
            assert!(!inner.is_empty());
            let outer = places(&format!("{}{text}{}", hex(11, seed + 7), hex(13, seed + 9)));
            assert!(inner.iter().all(|place| outer.contains(place)), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_excludes_nothing() {
        let mut open = Grams::default();
        open.add("word");
        open.open();
        let bytes = open.encode();
        let filter = Filter::parse("absent").expect("a filter");
        let Expression::Word(word) = filter.expression() else {
            panic!("a word");
        };
        assert_eq!(may_contain(&bytes, word), Ok(true));
        assert_eq!(may_contain(&bytes_of(&["word"]), word), Ok(false));
        let mut merged = Grams::default();
        merged.merge_encoded(&bytes).expect("whole");
        merged.add("other");
        assert_eq!(may_contain(&merged.encode(), word), Ok(true));
        assert_eq!(may_contain(&[], word), Ok(true));
        assert_eq!(may_contain(&[9], word), Err(Damaged));
    }

    fn sorted(each: impl FnOnce(&mut Vec<usize>, &mut Vec<usize>)) -> [Vec<usize>; 2] {
        let (mut short, mut long) = (Vec::new(), Vec::new());
        each(&mut short, &mut long);
        [short, long].map(|mut places| {
            places.sort_unstable();
            places.dedup();
            places
        })
    }

    #[test]
    fn whole_runs_have_the_grams_that_single_characters_have() {
        let mut state = 3u64;
        let pieces = [
            "a",
            "B",
            "7",
            "-",
            "_",
            " ",
            "\"",
            "word",
            "0123456789abcdef",
            "the-quick_brown",
            "é",
            "€",
            "\u{17F}",
            "\u{212A}",
        ];
        for _ in 0..3_000 {
            let mut text = String::new();
            let wanted = state as usize % 700;
            // Runs without an end, and short ones.
            let kinds = [3, 5, 11, pieces.len()][(state >> 17) as usize % 4];
            while text.len() < wanted {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(9);
                text.push_str(pieces[(state >> 33) as usize % kinds]);
            }
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(9);
            let fast = sorted(|short, long| {
                each_place(&text, |place| short.push(place), |place| long.push(place));
            });
            let slow = sorted(|short, long| {
                each_place_slowly(&text, &mut |place| short.push(place), &mut |place| {
                    long.push(place);
                });
            });
            assert_eq!(fast, slow, "{text}");
        }
    }
}
