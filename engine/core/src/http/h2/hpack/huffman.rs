//! The Huffman code of HPACK (RFC 7541 Appendix B), decoded as its octets come.
//!
//! The code is canonical: ordered by length and then by symbol, each code follows the one before. So the lengths are all
//! that is written down. A string that is cut anywhere decodes the same: the bits that are no whole code yet are kept.
//!
//! Whole strings, which nearly all are, take [`decode`]: a table of the next twelve bits gives two octets at once where their codes
//! are that short, as those of letters and digits are, and eight octets are written at once.

use super::broken::Broken;

/// Length in bits of the code of each octet; the last one is the code of EOS, which no string has.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// No code is longer.
const BITS_MAX: usize = 30;
/// Codes up to this length are found in one step.
const SHORT_BITS: usize = 8;
/// What the last code stands for.
const EOS: u16 = 256;

/// The code, as it is looked up.
struct Code {
    /// By the next eight bits: the octet and the length of its code; 0 where the code is longer.
    short: [(u8, u8); 1 << SHORT_BITS],
    /// By length: the first number of 32 bits that begins with no code of this length or of a shorter one.
    limits: [u64; BITS_MAX + 1],
    /// By length: the first code.
    first: [u32; BITS_MAX + 1],
    /// By length: where its symbols begin in [`Self::symbols`].
    offsets: [u16; BITS_MAX + 1],
    /// Ordered by length, then by value.
    symbols: [u16; LENGTHS.len()],
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
static CODE: Code = {
    let mut code = Code {
        short: [(0, 0); 1 << SHORT_BITS],
        limits: [0; BITS_MAX + 1],
        first: [0; BITS_MAX + 1],
        offsets: [0; BITS_MAX + 1],
        symbols: [0; LENGTHS.len()],
    };
    let (mut next, mut placed, mut length) = (0_u32, 0, 1);
    while length <= BITS_MAX {
        next <<= 1;
        code.first[length] = next;
        code.offsets[length] = placed as u16;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.symbols[placed] = symbol as u16;
                placed += 1;
                if length <= SHORT_BITS {
                    let mut entry = (next as usize) << (SHORT_BITS - length);
                    let end = (next as usize + 1) << (SHORT_BITS - length);
                    while entry < end {
                        code.short[entry] = (symbol as u8, length as u8);
                        entry += 1;
                    }
                }
                next += 1;
            }
            symbol += 1;
        }
        code.limits[length] = (next as u64) << (32 - length);
        length += 1;
    }
    code
};

/// Codes of this length together are found in one step of [`decode`].
const PAIR_BITS: usize = 12;

/// One step of [`decode`], in one word that is read at once: two octets, the first one lower; from bit 16 on how many bits of them
/// there are, 0, 8 or 16; from bit 24 on the bits of their codes. All is 0 where the first code is longer.
type Pair = u32;

/// By the next twelve bits.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
static PAIRS: [Pair; 1 << PAIR_BITS] = {
    // First each code alone.
    let mut single = [(0_u16, 0_u32); 1 << PAIR_BITS];
    let (mut next, mut length) = (0_usize, 1);
    while length <= PAIR_BITS {
        next <<= 1;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                let mut place = next << (PAIR_BITS - length);
                let end = (next + 1) << (PAIR_BITS - length);
                while place < end {
                    single[place] = (symbol as u16, length as u32);
                    place += 1;
                }
                next += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    let mut pairs = [0; 1 << PAIR_BITS];
    let mut place = 0;
    while place < pairs.len() {
        let (octet, length) = single[place];
        // Zeros behind the bits that there are: a code that would need them is longer than they are.
        let (second, more) = single[(place << length) & (pairs.len() - 1)];
        pairs[place] = if length > 0 && more > 0 && length + more <= PAIR_BITS as u32 {
            octet as u32 | (second as u32) << 8 | 16 << 16 | (length + more) << 24
        } else if length > 0 {
            octet as u32 | 8 << 16 | length << 24
        } else {
            0
        };
        place += 1;
    }
    pairs
};

/// Steps between two looks at what is left: the bits of all are there, and all octets fit into a word.
const STEPS: usize = 4;

/// Decodes a whole string into the front of `buffer`, which only grows.
///
/// Behind the string ones are read, as its padding consists of: no code begins with so many of them that it could be found there,
/// so it is enough to look afterwards how many bits were taken.
#[inline]
pub(super) fn decode<'a>(octets: &[u8], buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Broken> {
    // No code is shorter than five bits, and eight octets are written at once.
    let most = octets.len() * 8 / 5 + 2 * size_of::<u64>();
    if buffer.len() < most {
        buffer.resize(most, 0);
    }
    let (mut huffman, mut rest) = (Huffman::default(), octets);
    let mut length = 0;
    loop {
        let word = match rest.first_chunk() {
            Some(word) => u64::from_be_bytes(*word),
            None => last_word(octets, rest),
        };
        huffman.bits |= word >> huffman.count;
        let taken = rest.len().min((63 - huffman.count) as usize / 8);
        huffman.count += 8 * taken as u32;
        rest = rest.get(taken..).unwrap_or_default();

        let (mut decoded, mut sum, mut last) = (0_u64, 0, 0);
        for _ in 0..STEPS {
            let place = (huffman.bits >> (64 - PAIR_BITS)) as usize;
            last = PAIRS.get(place).copied().unwrap_or_default();
            decoded |= u64::from(last & 0xffff) << (sum & 63);
            sum += last >> 16;
            huffman.bits <<= (last >> 24) & 63;
        }
        put(buffer, length, decoded);
        length += (sum & 0xff) as usize / 8;
        // Codes that end behind the string are none.
        huffman.count = huffman.count.checked_sub(sum >> 8).ok_or(Broken)?;
        if last != 0 {
            continue;
        }
        if rest.is_empty() && huffman.is_padding() {
            break;
        }
        match huffman.long() {
            Some((symbol, bits)) => {
                // EOS is no octet.
                let octet = u8::try_from(symbol).map_err(|_| Broken)?;
                put(buffer, length, octet.into());
                length += 1;
                huffman.drop_bits(bits);
            }
            None if rest.is_empty() => return Err(Broken),
            None => {}
        }
    }
    buffer.get(..length).ok_or(Broken)
}

/// The last octets of a string, less than eight, with ones behind them.
#[inline]
fn last_word(all: &[u8], rest: &[u8]) -> u64 {
    if rest.is_empty() {
        return u64::MAX;
    }
    let word = match all.last_chunk() {
        Some(last) => u64::from_be_bytes(*last),
        None => (rest.iter()).fold(0, |word, octet| word << 8 | u64::from(*octet)),
    };
    let bits = 8 * rest.len() as u32;
    word << (64 - bits) | u64::MAX >> bits
}

/// Writes eight octets at `at`.
#[inline(always)]
fn put(buffer: &mut [u8], at: usize, octets: u64) {
    let place = buffer.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
    if let Some(place) = place {
        *place = octets.to_le_bytes();
    }
}

/// The decoder of one string.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Huffman {
    /// Bits that are not decoded yet, the next one highest.
    bits: u64,
    /// How many of them are valid.
    count: u32,
}

impl Huffman {
    /// Decodes the next octets of the string, and passes each decoded one to `each`.
    #[inline]
    pub(super) fn push(
        &mut self,
        mut octets: &[u8],
        mut each: impl FnMut(u8),
    ) -> Result<(), Broken> {
        loop {
            octets = self.refill(octets);
            while self.count >= SHORT_BITS as u32 || octets.is_empty() {
                let entry = CODE.short.get((self.bits >> 56) as usize);
                let (octet, length) = entry.copied().unwrap_or_default();
                if length == 0 {
                    let Some((symbol, length)) = self.long() else {
                        break;
                    };
                    // EOS is no octet.
                    each(u8::try_from(symbol).map_err(|_| Broken)?);
                    self.drop_bits(length);
                } else if u32::from(length) <= self.count {
                    each(octet);
                    self.drop_bits(u32::from(length));
                } else {
                    break;
                }
            }
            if octets.is_empty() {
                return Ok(());
            }
        }
    }

    /// Whether the string may end here.
    pub(super) fn end(self) -> Result<(), Broken> {
        if self.is_padding() {
            Ok(())
        } else {
            Err(Broken)
        }
    }

    /// Whether what is left is padding: less than an octet, which begins EOS.
    #[inline]
    fn is_padding(self) -> bool {
        self.count < 8 && self.bits.leading_ones() >= self.count
    }

    /// Takes octets as long as there is space for them; what is left.
    #[inline]
    fn refill<'a>(&mut self, octets: &'a [u8]) -> &'a [u8] {
        if let Some(word) = octets.first_chunk() {
            // Bits beyond the count are those that come next anyway.
            self.bits |= u64::from_be_bytes(*word) >> self.count;
            let taken = (63 - self.count) / 8;
            self.count += taken * 8;
            return octets.get(taken as usize..).unwrap_or_default();
        }
        let mut rest = octets;
        while let Some((&octet, after)) = rest.split_first()
            && self.count <= 56
        {
            self.bits |= u64::from(octet) << (56 - self.count);
            self.count += 8;
            rest = after;
        }
        rest
    }

    /// The symbol whose code begins the bits, and its length, if the whole code is there.
    #[cold]
    fn long(self) -> Option<(u16, u32)> {
        let top = self.bits >> 32;
        let lengths = SHORT_BITS + 1..=BITS_MAX;
        let length = lengths
            .into_iter()
            .find(|length| CODE.limits.get(*length).is_some_and(|limit| top < *limit))?;
        let bits = u32::try_from(length).ok()?;
        if bits > self.count {
            return None;
        }
        let code = u32::try_from(top >> (32 - bits)).ok()?;
        let place = code - CODE.first.get(length)? + u32::from(*CODE.offsets.get(length)?);
        let symbol = CODE.symbols.get(usize::try_from(place).ok()?);
        Some((symbol.copied().unwrap_or(EOS), bits))
    }

    #[inline]
    fn drop_bits(&mut self, length: u32) {
        self.bits <<= length;
        self.count -= length;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bit by bit, with the codes as the RFC lists them.
    pub(in crate::http::h2) fn encoded(text: &[u8]) -> Vec<u8> {
        let codes = codes();
        let (mut octets, mut bits, mut count) = (Vec::new(), 0_u64, 0);
        for octet in text {
            let (code, length) = codes[usize::from(*octet)];
            bits = bits << length | code;
            count += length;
            while count >= 8 {
                count -= 8;
                octets.push((bits >> count) as u8);
            }
            bits &= (1 << count) - 1;
        }
        if count > 0 {
            octets.push((bits << (8 - count)) as u8 | (0xff >> count) as u8);
        }
        octets
    }

    fn codes() -> Vec<(u64, u8)> {
        let mut order: Vec<_> = (0..LENGTHS.len()).collect();
        order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
        let mut codes = vec![(0, 0); LENGTHS.len()];
        let (mut code, mut before) = (0_u64, LENGTHS[order[0]]);
        for symbol in order {
            code <<= LENGTHS[symbol] - before;
            before = LENGTHS[symbol];
            codes[symbol] = (code, before);
            code += 1;
        }
        codes
    }

    fn decoded(pieces: &[&[u8]]) -> Result<Vec<u8>, Broken> {
        let (mut huffman, mut text) = (Huffman::default(), Vec::new());
        for piece in pieces {
            huffman.push(piece, |octet| text.push(octet))?;
        }
        let text = huffman.end().map(|()| text);
        let (octets, mut buffer) = (pieces.concat(), vec![b'x'; 3]);
        let whole = decode(&octets, &mut buffer).map(<[u8]>::to_vec);
        assert_eq!(whole, text, "{}", octets.escape_ascii());
        text
    }

    /// Both decoders find the same in any octets.
    #[test]
    fn random_strings() {
        let mut state = 1_u64;
        for round in 0..20_000_u64 {
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state >> 32
            };
            let letters: &[u8] =
                [&b"0123456789abcdef-"[..], b"aZ{<\0\xff}|~ et/"][round as usize % 2];
            let text: Vec<_> = (0..random() % 60)
                .map(|_| letters[random() as usize % letters.len()])
                .collect();
            assert_eq!(decoded(&[&encoded(&text)]).as_ref(), Ok(&text));
            let octets: Vec<_> = (0..random() % 24).map(|_| random() as u8).collect();
            let _ = decoded(&[&octets]);
        }
    }

    #[test]
    fn the_code_is_that_of_the_rfc() {
        let examples: [(&str, &[u8]); 4] = [
            // RFC 7541 Appendix C.4 and C.6.
            (
                "www.example.com",
                b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            ),
            ("no-cache", b"\xa8\xeb\x10\x64\x9c\xbf"),
            ("custom-value", b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"),
            (
                "Mon, 21 Oct 2013 20:13:21 GMT",
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
            ),
        ];
        for (text, octets) in examples {
            assert_eq!(encoded(text.as_bytes()), octets, "{text}");
            assert_eq!(decoded(&[octets]).as_deref(), Ok(text.as_bytes()));
        }
        // The codes at both ends of the table of the RFC.
        assert_eq!(encoded(&[0]), [0xff, 0xc7]);
        assert_eq!(encoded(&[22]), [0xff, 0xff, 0xff, 0xfb]);
    }

    #[test]
    fn every_octet_and_every_cut() {
        let text: Vec<_> = (0..=255).chain((0..=255).rev()).collect();
        let octets = encoded(&text);
        assert_eq!(decoded(&[&octets]).as_ref(), Ok(&text));
        for place in 0..octets.len() {
            let (first, second) = octets.split_at(place);
            assert_eq!(
                decoded(&[first, second]).as_ref(),
                Ok(&text),
                "cut at {place}"
            );
        }
        let single: Vec<_> = octets.chunks(1).collect();
        assert_eq!(decoded(&single).as_ref(), Ok(&text));
    }

    #[test]
    fn wrong_ends_are_broken() {
        // EOS; padding of eight bits; padding with zeros; half of a long code.
        for octets in [
            &b"\xff\xff\xff\xff"[..],
            b"\xff\xff\xff\xfc",
            b"\x07\xff",
            b"\xff",
            b"\x00",
            b"\x06",
            b"\xff\xc0",
        ] {
            assert_eq!(decoded(&[octets]), Err(Broken), "{}", octets.escape_ascii());
        }
        assert_eq!(decoded(&[b"\x07"]).as_deref(), Ok(&b"0"[..]));
        assert_eq!(decoded(&[]).as_deref(), Ok(&b""[..]));
    }
}
