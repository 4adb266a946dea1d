//! Independent decoders recover every input.

use std::io::Read;

use super::token::{Counts, DISTANCE_MAX, LENGTH_MAX, LENGTH_MIN, Token};
use super::*;
use crate::mix::{GOLDEN_GAMMA, mix};

/// The output of two decoders, which must be the same.
#[track_caller]
fn inflate(stream: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut decoder = flate2::read::ZlibDecoder::new(stream);
    decoder.read_to_end(&mut bytes).unwrap();
    assert_eq!(
        decoder.total_in(),
        stream.len() as u64,
        "nothing behind the end"
    );
    let mut again = vec![0; length + 1];
    let made = libdeflater::Decompressor::new()
        .zlib_decompress(stream, &mut again)
        .unwrap();
    assert!(bytes == again[..made]);
    bytes
}

/// Length of the stream.
#[track_caller]
fn check(encoder: &mut Encoder, input: &[u8]) -> usize {
    let mut stream = b"before".to_vec();
    encoder.zlib(input, &mut stream);
    assert!(stream.starts_with(b"before"));
    let stream = &stream[6..];
    assert!(
        inflate(stream, input.len()) == input,
        "{} bytes",
        input.len()
    );
    let blocks = input.len() / (16 * 1024 - 40) + 1;
    assert!(stream.len() <= input.len() + 5 * blocks + 6);
    stream.len()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        mix(self.0)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<const N: usize>(&mut self, of: [usize; N]) -> usize {
        of[self.below(N)]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn nothing_and_next_to_nothing() {
    let mut encoder = Encoder::default();
    assert_eq!(check(&mut encoder, b""), 11);
    assert_eq!(check(&mut encoder, b"a"), 12);
    for length in 0..300 {
        check(&mut encoder, &vec![b'x'; length]);
        check(
            &mut encoder,
            &b"[\"name\",\"value\"],"[..].repeat(20)[..length],
        );
    }
}

#[test]
fn a_run_of_zeros_becomes_next_to_nothing() {
    let mut encoder = Encoder::default();
    let length = check(&mut encoder, &vec![0; 10_000_000]);
    assert!(length < 50_000, "{length}");
}

#[test]
fn what_cannot_be_compressed_is_stored() {
    let mut encoder = Encoder::default();
    let mut random = Random(1);
    for length in [
        100, 16_343, 16_344, 16_345, 65_535, 65_536, 65_537, 1_000_000,
    ] {
        check(&mut encoder, &random.bytes(length));
    }
    // Between what can: blocks of both kinds follow each other.
    let text = b"the same words again and again, ".repeat(3000);
    check(
        &mut encoder,
        &[
            &text[..],
            &random.bytes(70_001),
            &text,
            &random.bytes(33_333),
            &text,
        ]
        .concat(),
    );
}

#[test]
fn lengths_about_all_bounds() {
    let mut encoder = Encoder::default();
    let line =
        b"[[\"request_method\",\"GET\"],[\"request_url\",\"http://api.example/v1/orders/\"]]\n";
    let mut input = line.repeat(10_000);
    let mut random = Random(2);
    for at in (0..input.len()).step_by(40) {
        let at = at + random.below(40);
        input[at] = random.next() as u8;
    }
    for bound in [
        40, 80, 258, 16_344, 16_384, 32_768, 65_536, 131_072, 600_000,
    ] {
        for length in bound - 3..=bound + 3 {
            check(&mut encoder, &input[..length]);
        }
    }
}

/// The slow, obvious twin of the search: what its tokens mean.
fn expand(tokens: &[Token], bytes: &mut Vec<u8>) {
    for token in tokens {
        match token.first() {
            literal @ ..=255 => bytes.push(literal as u8),
            length => {
                let code = token.distance();
                let base = match code {
                    0 | 1 => code + 1,
                    _ => ((2 + code % 2) << (code / 2 - 1)) + 1,
                };
                let from = bytes.len() - base - token.extra() as usize;
                for at in from..from + length - 253 {
                    bytes.push(bytes[at]);
                }
            }
        }
    }
}

#[test]
fn tokens_mean_what_they_were_made_of() {
    let mut random = Random(3);
    let mut finder = Finder::default();
    for _ in 0..40 {
        let input = structured(&mut random, 60_000);
        finder.forget();
        let (mut bytes, mut start) = (Vec::new(), 0);
        while start < input.len() {
            let (Block { tokens, counts }, end) = finder.block(&input, start);
            check_counts(tokens, counts);
            assert!(end > start && !tokens.is_empty());
            expand(tokens, &mut bytes);
            assert_eq!(bytes.len(), end);
            start = end;
        }
        assert!(bytes == input);
    }
}

fn check_counts(tokens: &[Token], counts: &Counts) {
    let expected = count(tokens);
    assert_eq!(counts.firsts, expected.firsts);
    assert_eq!(counts.distances, expected.distances);
}

fn count(tokens: &[Token]) -> Counts {
    let mut counts = Counts::default();
    for token in tokens {
        counts.firsts[token.first()] += 1;
        if token.first() > 255 {
            counts.distances[token.distance()] += 1;
        }
    }
    counts
}

/// Copies of what came before, near and far, short and long, between random bytes of a small alphabet.
fn structured(random: &mut Random, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let mask = random.pick([0, 1, 7, 0xff]) as u8;
        let most = random.pick([3, 30, 300]);
        let fresh = random.below(most);
        bytes.extend((0..fresh).map(|_| random.next() as u8 & mask));
        if !bytes.is_empty() {
            let far = random.pick([bytes.len(), 100, 33_000]).min(bytes.len());
            let from = bytes.len() - 1 - random.below(far);
            let most = random.pick([5, 50, 700, 5000]);
            for at in from..from + random.below(most) {
                bytes.push(bytes[at]);
            }
        }
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn structured_inputs() {
    let mut encoder = Encoder::default();
    let mut random = Random(4);
    for _ in 0..300 {
        let most = random.pick([100, 5000, 50_000, 300_000]);
        let length = 1 + random.below(most);
        let input = structured(&mut random, length);
        check(&mut encoder, &input);
    }
}

#[test]
fn every_length_at_every_distance_code() {
    let mut random = Random(5);
    let (mut tables, mut writer) = (Tables::default(), BitWriter::default());
    let mut distances: Vec<_> = (1..=DISTANCE_MAX).collect();
    // All distances; and all lengths at both ends of each distance code.
    for power in 0..15 {
        for distance in [
            1 << power,
            (1 << power) + 1,
            3 << power >> 1,
            (3 << power >> 1) + 1,
            2 << power,
        ] {
            distances.extend(std::iter::repeat_n(distance, 256));
        }
    }
    let mut stream = HEADER.to_vec();
    let mut bytes = random.bytes(DISTANCE_MAX);
    store(&bytes, false, &mut writer, &mut stream);
    let mut length = LENGTH_MIN;
    for (number, group) in distances.chunks(1000).enumerate() {
        let start = bytes.len();
        let mut tokens = Vec::new();
        for distance in group {
            tokens.push(Token::found(length, *distance));
            tokens.push(Token::literal(random.next() as u8));
            length = if length == LENGTH_MAX {
                LENGTH_MIN
            } else {
                length + 1
            };
        }
        expand(&tokens, &mut bytes);
        let is_last = (number + 1) * 1000 >= distances.len();
        let made = Block {
            tokens: &tokens,
            counts: &count(&tokens),
        };
        block(
            &made,
            &bytes[start..],
            is_last,
            &mut tables,
            &mut writer,
            &mut stream,
        );
    }
    writer.align(&mut stream);
    stream.extend_from_slice(&simd_adler32::adler32(&&bytes[..]).to_be_bytes());
    assert!(inflate(&stream, bytes.len()) == bytes);
}

#[test]
fn an_encoder_forgets() {
    let mut random = Random(6);
    let (first, second) = (
        structured(&mut random, 100_000),
        structured(&mut random, 100_000),
    );
    let mut used = Encoder::default();
    used.zlib(&first, &mut Vec::new());
    let (mut one, mut other) = (Vec::new(), Vec::new());
    used.zlib(&second, &mut one);
    Encoder::default().zlib(&second, &mut other);
    assert!(one == other);
}
