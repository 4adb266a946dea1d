//! HPACK against the examples of the RFC, an independent decoder, and a slow twin that has seen every block.

use super::huffman::tests::encoded;
use super::*;
use crate::limits::HTTP2_TABLE_BYTES_MAX;
use crate::mix::{GOLDEN_GAMMA, mix};

/// A field, or nothing if it is unknown.
type Field = Option<(Vec<u8>, Vec<u8>)>;

#[derive(Default)]
struct Recorder {
    list: Vec<Field>,
    too_long: usize,
    sizes: Vec<u32>,
}

impl Fields for Recorder {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.list.push(Some((name.to_vec(), value.to_vec())));
    }

    fn unknown(&mut self) {
        self.list.push(None);
    }

    fn too_long(&mut self) {
        self.too_long += 1;
    }

    fn table_size(&mut self, size: u32) {
        self.sizes.push(size);
    }
}

/// A table with entries of its own.
struct Own(Table, Entries);

impl Own {
    fn new(is_whole: bool) -> Self {
        Self(Table::new(is_whole), Entries::default())
    }

    fn table(&mut self) -> TableMut<'_> {
        self.0.with(&mut self.1)
    }
}

/// Decodes one block, in fragments.
fn decode<'a>(
    own: &mut Own,
    fragments: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Recorder, Broken> {
    let (mut decoder, mut strings) = (Decoder::default(), Strings::default());
    let mut recorder = Recorder::default();
    for fragment in fragments {
        decoder.fragment(fragment, &mut own.table(), &mut strings, &mut recorder)?;
    }
    decoder.end().map(|()| recorder)
}

fn known(fields: &[(&str, &str)]) -> Vec<Field> {
    let known = |(name, value): &(&str, &str)| Some(((*name).into(), (*value).into()));
    fields.iter().map(known).collect()
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

/// Blocks of one direction in order: whole, and cut after every octet.
#[track_caller]
fn check(size: u32, blocks: &[(&str, &[(&str, &str)])]) {
    for length in [usize::MAX, 1, 2, 7] {
        let mut table = Own::new(true);
        table.table().resize(size);
        for (hex, fields) in blocks {
            let block = octets(hex);
            let read = decode(&mut table, block.chunks(length.min(block.len()))).unwrap();
            assert_eq!(read.list, known(fields), "{hex} in pieces of {length}");
        }
    }
}

/// Characters that stand for octets.
fn latin(value: &serde_json::Value) -> Option<Vec<u8>> {
    let octet = |character| u8::try_from(u32::from(character)).expect("an octet");
    value.as_str().map(|text| text.chars().map(octet).collect())
}

/// Whole tables, connections joined late, and broken blocks, each block whole and in pieces.
#[test]
fn vectors() {
    let vectors = crate::rules::tests::vectors("hpack-vectors.json");
    assert!(vectors.len() > 50);
    for (vector, length) in vectors
        .iter()
        .flat_map(|v| [(v, usize::MAX), (v, 1), (v, 3)])
    {
        let mut table = Own::new(vector["whole"] == true);
        for block in vector["blocks"].as_array().expect("blocks") {
            let hex = block["hex"].as_str().expect("octets");
            let octets = octets(hex);
            let pieces = octets.chunks(length.min(octets.len()).max(1));
            let read = decode(&mut table, pieces);
            let Some(fields) = block["fields"].as_array() else {
                assert!(read.is_err(), "{hex} is broken");
                break;
            };
            let fields: Vec<_> = fields
                .iter()
                .map(|field| latin(&field[0]).zip(latin(&field[1])))
                .collect();
            let read = read.unwrap_or_else(|_| panic!("{hex} is not broken"));
            assert_eq!(read.list, fields, "{hex} in pieces of {length}");
        }
    }
}

#[test]
fn examples_of_the_rfc() {
    let first = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    let second = [&first[..], &[("cache-control", "no-cache")]].concat();
    let third = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    // Appendix C.3 and C.4.
    check(
        4096,
        &[
            ("828684410f7777772e6578616d706c652e636f6d", &first),
            ("828684be58086e6f2d6361636865", &second),
            (
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
                &third,
            ),
        ],
    );
    check(
        4096,
        &[
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", &first),
            ("828684be5886a8eb10649cbf", &second),
            ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", &third),
        ],
    );
    // Appendix C.5: a table of 256 octets, from which entries are evicted.
    let found = |date| {
        [
            (":status", "302"),
            ("cache-control", "private"),
            ("date", date),
            ("location", "https://www.example.com"),
        ]
    };
    let moved = found("Mon, 21 Oct 2013 20:13:21 GMT");
    let mut temporary = moved;
    temporary[0].1 = "307";
    let cookie = [
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        (
            "set-cookie",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ];
    check(
        256,
        &[
            (
                "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54\
                 6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
                &moved,
            ),
            ("4803333037c1c0bf", &temporary),
            (
                "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f\
                 3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076\
                 657273696f6e3d31",
                &cookie,
            ),
        ],
    );
}

/// Seeded randomness (splitmix64).
pub(in crate::http::h2) struct Random(u64);

impl Random {
    pub(in crate::http::h2) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::http::h2) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        (mix(self.0) >> 33) as usize % bound
    }

    pub(in crate::http::h2) fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }
}

/// An encoder that takes every liberty, and the slow twin of the table: it keeps with each entry whether a decoder that
/// joined late has seen it.
struct Encoder {
    random: Random,
    /// Newest first.
    entries: Vec<Entry>,
    size_max: usize,
    /// The decoder has joined.
    is_heard: bool,
}

#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    value: Vec<u8>,
    is_known: bool,
}

impl Encoder {
    fn new(seed: u64, is_heard: bool) -> Self {
        Self {
            random: Random::new(seed),
            entries: Vec::new(),
            size_max: 4096,
            is_heard,
        }
    }

    fn shrink(&mut self) {
        let size = |entry: &Entry| entry.name.len() + entry.value.len() + 32;
        while self.entries.iter().map(size).sum::<usize>() > self.size_max {
            self.entries.pop();
        }
    }

    fn integer(first: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
        let most = (1 << prefix) - 1;
        if value < most {
            return out.push(first | value as u8);
        }
        out.push(first | most as u8);
        let mut rest = value - most;
        while rest >= 128 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    fn string(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.random.one_in(2) {
            let coded = encoded(text);
            Self::integer(0x80, 7, coded.len(), out);
            out.extend_from_slice(&coded);
        } else {
            Self::integer(0, 7, text.len(), out);
            out.extend_from_slice(text);
        }
    }

    fn index(&mut self) -> (usize, Entry) {
        let index = if self.entries.is_empty() || self.random.one_in(2) {
            1 + self.random.below(61)
        } else {
            62 + self.random.below(self.entries.len())
        };
        let entry = match static_table::entry(index as u32) {
            Some((name, value)) => Entry {
                name: name.to_vec(),
                value: value.to_vec(),
                is_known: true,
            },
            None => self.entries[index - 62].clone(),
        };
        (index, entry)
    }

    /// Appends a field, and returns it as the decoder has to find it.
    fn field(&mut self, out: &mut Vec<u8>) -> Field {
        let (index, mut entry) = self.index();
        if self.random.one_in(2) {
            Self::integer(0x80, 7, index, out);
            return entry.is_known.then_some((entry.name, entry.value));
        }
        let (first, prefix) = [(0x40, 6), (0x10, 4), (0, 4)][self.random.below(3)];
        let length = [0, 3, 20, 200, 1500][self.random.below(5)]
            * if self.random.one_in(40) { 4 } else { 1 };
        entry.value = (0..length).map(|_| self.random.below(256) as u8).collect();
        if self.random.one_in(2) {
            Self::integer(first, prefix, index, out);
        } else {
            entry.name = format!("x-{}", self.random.below(50)).into_bytes();
            entry.is_known = true;
            Self::integer(first, prefix, 0, out);
            self.string(&entry.name.clone(), out);
        }
        self.string(&entry.value.clone(), out);
        let field = entry
            .is_known
            .then(|| (entry.name.clone(), entry.value.clone()));
        if prefix == 6 {
            entry.is_known &= self.is_heard;
            self.entries.insert(0, entry);
            self.shrink();
        }
        field
    }

    fn block(&mut self) -> (Vec<u8>, Vec<Field>) {
        let mut out = Vec::new();
        while self.random.one_in(8) {
            self.size_max = [0, 64, 300, 4096][self.random.below(4)];
            Self::integer(0x20, 5, self.size_max, &mut out);
            self.shrink();
        }
        // A size at the end of a block is refused by some decoders.
        let count = 1 + self.random.below(12);
        let fields = (0..count).map(|_| self.field(&mut out)).collect();
        (out, fields)
    }
}

/// Cuts at random places.
fn cuts<'a>(random: &mut Random, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let most = [1, 3, bytes.len()][random.below(3)].min(bytes.len());
        let (piece, rest) = bytes.split_at(1 + random.below(most));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[test]
fn an_independent_decoder_reads_the_same() {
    for seed in 0..60 {
        let mut encoder = Encoder::new(seed, true);
        let mut random = Random::new(seed + 1000);
        let (mut whole, mut cut) = (Own::new(true), Own::new(true));
        let mut other = loona_hpack::Decoder::new();
        for number in 0..20 {
            let (block, sent) = encoder.block();
            let expected = other.decode(&block).unwrap();
            let expected: Vec<Field> = expected.into_iter().map(Some).collect();
            assert_eq!(expected, sent, "seed {seed}, block {number}, the encoder");
            let read = decode(&mut whole, [&block[..]]).unwrap();
            assert_eq!(read.list, expected, "seed {seed}, block {number}");
            let read = decode(&mut cut, cuts(&mut random, &block)).unwrap();
            assert_eq!(read.list, expected, "seed {seed}, block {number}, cut");
        }
    }
}

#[test]
fn joined_late_what_was_inserted_since_is_exact_and_nothing_else_known() {
    let mut unknown = 0;
    for seed in 0..60 {
        let mut encoder = Encoder::new(seed, false);
        for _ in 0..=encoder.random.below(10) {
            encoder.block();
        }
        encoder.is_heard = true;
        let mut table = Own::new(false);
        for number in 0..10 {
            let (block, expected) = encoder.block();
            let read = decode(&mut table, [&block[..]]).unwrap();
            assert_eq!(read.list, expected, "seed {seed}, block {number}");
            unknown += expected.iter().filter(|field| field.is_none()).count();
        }
    }
    assert!(unknown > 100);
}

#[test]
fn hostile_blocks_are_broken_and_never_a_panic() {
    for hex in [
        "80",
        "be",
        "ff",
        "3f",
        "40",
        "7f80",
        "7fffffffffff01",
        "0085",
        "41",
        "400161",
        "8240",
        "8220",
        "0081fe00",
        "0001610181ff",
    ] {
        let read = decode(&mut Own::new(true), [&octets(hex)[..]]);
        assert!(read.is_err(), "{hex}");
    }
    let mut random = Random::new(7);
    for _ in 0..5_000 {
        let mut table = Own::new(random.one_in(2));
        let length = random.below(40);
        let bytes: Vec<_> = (0..length).map(|_| random.below(256) as u8).collect();
        let _ = decode(&mut table, [&bytes[..]]);
        assert!(table.1.memory() <= 2 * HTTP2_TABLE_BYTES_MAX);
        let mut again = Own::new(true);
        if let Ok(list) = decode(&mut again, [&bytes[..]]) {
            let mut other = loona_hpack::Decoder::new();
            if let Ok(expected) = other.decode(&bytes) {
                let expected: Vec<_> = expected.into_iter().map(Some).collect();
                assert_eq!(list.list, expected, "{bytes:x?}");
            }
        }
    }
}

#[test]
fn a_field_that_is_too_long_is_walked_and_the_table_stays_exact() {
    let mut block = Vec::new();
    let value = vec![b'v'; HEAD_BYTES_MAX + 1];
    Encoder::integer(0x40, 6, 0, &mut block);
    block.extend_from_slice(b"\x01n");
    Encoder::integer(0, 7, value.len(), &mut block);
    block.extend_from_slice(&value);
    // Behind it a short one, and one that refers to that.
    block.extend_from_slice(b"\x40\x01a\x01b\xbe");
    let coded = encoded(&[&value[..], &value].concat());
    let mut second = Vec::new();
    Encoder::integer(0x00, 4, 0, &mut second);
    Encoder::integer(0x80, 7, coded.len(), &mut second);
    second.extend_from_slice(&coded);
    second.extend_from_slice(b"\x03abc\xbe");
    for length in [usize::MAX, 1000, 1] {
        let mut table = Own::new(true);
        table.table().insert(b"old", b"evicted by the long one");
        for block in [&block, &second] {
            let read = decode(&mut table, block.chunks(length.min(block.len()))).unwrap();
            assert_eq!(read.too_long, 1);
            assert_eq!(read.list.last().unwrap(), &known(&[("a", "b")])[0]);
        }
        // The long entry is larger than the table, and has emptied it.
        assert_eq!(table.table().get(0), Found::Known(b"a", b"b"));
        assert_eq!(table.table().get(1), Found::Nothing);
    }
}

#[test]
fn a_field_that_is_shed_is_counted_in_the_table() {
    let block = b"\x40\x04name\x05value\x40\x01a\x01b";
    for cut in 1..13 {
        let mut table = Own::new(true);
        let (mut decoder, mut strings) = (Decoder::default(), Strings::default());
        let mut recorder = Recorder::default();
        let (first, second) = block.split_at(cut);
        decoder
            .fragment(first, &mut table.table(), &mut strings, &mut recorder)
            .unwrap();
        decoder.shed(&table.table()).unwrap();
        assert!(decoder.memory() <= 16, "{}", decoder.memory());
        decoder
            .fragment(second, &mut table.table(), &mut strings, &mut recorder)
            .unwrap();
        decoder.end().unwrap();
        assert_eq!(
            recorder.list.last().unwrap(),
            &known(&[("a", "b")])[0],
            "cut at {cut}"
        );
        assert_eq!(table.table().get(0), Found::Known(b"a", b"b"));
        let shed = matches!(table.table().get(1), Found::Unknown);
        assert_eq!(shed, recorder.too_long == 1, "cut at {cut}");
    }
}
