//! Bundles: the lines of one POST with the index of their calls, collected up to a size or an age, then compressed.
//!
//! Compression is the most expensive stage. It runs on the shard that made the lines, so that it scales with the shards,
//! and never on the thread of a sink. Buffers circulate: [`Bundler::recycle`] takes a delivered bundle back, so a steady
//! state allocates nothing. A compressed body has the capacity that its bytes needed, and a plain one that of a full bundle:
//! a backlog of bundles takes hardly more memory than its bytes.
//!
//! **A large line.** A line that does not fit into what is left of the open bundle closes it and begins the next one. So a
//! bundle is larger than configured only with one line that is larger alone: what a collector refuses for its size takes
//! no other line along.
//!
//! **One bundle, several sinks.** Sinks with equal rules share the bundles of one [`Bundler`]. [`Config::compression`] is
//! what the sinks that accept compressed bundles need, [`Compression::Off`] where there is none of them;
//! [`Config::keeps_lines`] is set where another sink needs the lines as they are. A sink then sends [`Bundle::body`] with
//! its [`Bundle::encoding`], or [`Bundle::plain_lines`]. Both are made here, once, whatever the number of sinks.

pub mod deflate;
mod index;

pub use index::{CallEntry, CallFlags};

use std::collections::VecDeque;
use std::time::Duration;

use deflate::Encoder;
use libdeflater::{CompressionLvl, Compressor};

use crate::limits::{self, BUNDLE_CALLS_MAX};
use crate::message::{Notes, Output};
use crate::time::Timestamp;

/// How a bundle's body is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Lines as they are.
    #[default]
    Plain,
    /// zlib (RFC 1950), sent as `Content-Encoding: deflated`.
    Deflated,
}

/// How hard a bundle is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: lines leave as they are.
    Off,
    /// As fast as it gets at a useful ratio, by [`deflate`].
    #[default]
    Fast,
    /// 0 is [`Self::Off`] and 1 is [`Self::Fast`]; from 2 to 9 smaller and slower, by libdeflate; more counts as 9.
    Level(u8),
}

/// The lines of one POST, and the index of their calls.
#[derive(Debug, Default)]
pub struct Bundle {
    /// The body of the POST: the lines, compressed as [`Self::encoding`] indicates.
    pub body: Vec<u8>,
    /// How `body` is encoded.
    pub encoding: Encoding,
    /// The lines of a compressed bundle, where [`Config::keeps_lines`] is set; else empty.
    pub lines: Vec<u8>,
    /// One entry for each call, in the order of the lines.
    pub index: Vec<CallEntry>,
    /// Lines in it, that is calls.
    pub calls: u32,
    /// Bytes of lines before encoding.
    pub line_bytes: u64,
    /// The same on every try: the `Idempotency-Key`.
    pub id: u128,
}

impl Bundle {
    /// The lines before encoding, where the bundle has them.
    pub fn plain_lines(&self) -> Option<&[u8]> {
        match self.encoding {
            Encoding::Plain => Some(&self.body),
            Encoding::Deflated if self.lines.is_empty() => None,
            Encoding::Deflated => Some(&self.lines),
        }
    }

    /// Memory that its contents take, in bytes: what a bound on waiting bundles counts.
    pub fn memory_bytes(&self) -> usize {
        self.body.len() + self.lines.len() + size_of_val(self.index.as_slice())
    }

    /// Empties it. Buffers keep their memory up to these bounds, in bytes; larger ones are freed.
    fn clear(&mut self, body_bytes: usize, lines_bytes: usize) {
        clear(&mut self.body, body_bytes);
        clear(&mut self.lines, lines_bytes);
        clear(&mut self.index, lines_bytes / size_of::<CallEntry>());
    }
}

fn clear<T>(buffer: &mut Vec<T>, kept: usize) {
    buffer.clear();
    if buffer.capacity() > kept {
        *buffer = Vec::new();
    }
}

/// When a bundle is closed, and how it is compressed.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of lines, with their line ends, that it holds at most; one line alone may have more. At most
    /// [`LINES_BYTES_MAX`].
    pub bytes: usize,
    /// Closed when its first line is this old.
    pub age: Duration,
    /// How its body is compressed, until [`Bundler::set_compression`].
    pub compression: Compression,
    /// Keep the lines in addition to a compressed body, for sinks that send them as they are.
    pub keeps_lines: bool,
    /// Random: makes bundle ids of this process and shard unlike any other's.
    pub id_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bytes: limits::BUNDLE_BYTES,
            age: Duration::from_secs(1),
            compression: Compression::Fast,
            keeps_lines: false,
            id_seed: 0,
        }
    }
}

/// Collects the lines of one shard.
pub struct Bundler {
    config: Config,
    fast: Option<Encoder>,
    leveled: Option<Leveled>,
    lines: Vec<u8>,
    index: Vec<CallEntry>,
    /// Set by the first [`Self::close_if_old`] that sees lines: lines themselves carry no wall clock.
    first_seen: Option<Timestamp>,
    number: u64,
    ready: VecDeque<Bundle>,
    spare: Vec<Bundle>,
}

/// Emptied bundles kept for the next ones; more are freed.
const SPARE_BUNDLES_MAX: usize = 8;

/// A bundle with this many bytes of lines is closed whatever is configured: offsets in the index have 32 bits, and the
/// last line starts below this one.
pub const LINES_BYTES_MAX: usize = 1 << 30;

impl Bundler {
    /// An empty bundler.
    pub fn new(mut config: Config) -> Self {
        config.bytes = config.bytes.min(LINES_BYTES_MAX);
        Self {
            config,
            fast: None,
            leveled: None,
            lines: Vec::with_capacity(config.bytes),
            index: Vec::new(),
            first_seen: None,
            number: 0,
            ready: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// The oldest closed bundle.
    #[inline]
    pub fn pop(&mut self) -> Option<Bundle> {
        self.ready.pop_front()
    }

    /// Changes the compression, from the next bundle that is closed on. A level other than the last one allocates its
    /// tables then.
    pub fn set_compression(&mut self, compression: Compression) {
        self.config.compression = compression;
        let (body_bytes, lines_bytes) = (self.body_bytes_kept(), self.config.bytes);
        for bundle in &mut self.spare {
            bundle.clear(body_bytes, lines_bytes);
        }
    }

    /// Closes the open bundle if its first line has been here for the configured age. `now` is any clock that runs on
    /// while no packet comes.
    pub fn close_if_old(&mut self, now: Timestamp) {
        if self.index.is_empty() {
            return;
        }
        match self.first_seen {
            None => self.first_seen = Some(now),
            // A wall clock that was set back shows no age, and the lines would wait until it is where it was.
            Some(first) if now < first => self.close(),
            Some(first) if now.since(first) >= self.config.age => self.close(),
            Some(_) => {}
        }
    }

    /// Closes the open bundle whatever its size.
    pub fn close(&mut self) {
        if self.index.is_empty() {
            return;
        }
        let mut bundle = self.spare.pop().unwrap_or_default();
        bundle.id = u128::from(self.config.id_seed) << 64 | u128::from(self.number);
        bundle.line_bytes = self.lines.len() as u64;
        self.number += 1;
        bundle.encoding = match self.config.compression {
            Compression::Off | Compression::Level(0) => Encoding::Plain,
            Compression::Fast | Compression::Level(1) => self.deflate_fast(&mut bundle.body),
            Compression::Level(level) => self.deflate(level, &mut bundle.body),
        };
        // The lines change places with an empty buffer of the bundle, or stay for the next ones.
        let room = self.config.bytes;
        if bundle.encoding == Encoding::Plain {
            bundle.body.reserve_exact(room);
            std::mem::swap(&mut self.lines, &mut bundle.body);
        } else if self.config.keeps_lines {
            bundle.lines.reserve_exact(room);
            std::mem::swap(&mut self.lines, &mut bundle.lines);
        }
        self.lines.clear();
        self.lines.shrink_to(room);
        // The next index is about as long, so it need not grow again.
        bundle.index.reserve(self.index.len());
        std::mem::swap(&mut self.index, &mut bundle.index);
        bundle.calls = u32::try_from(bundle.index.len()).unwrap_or(u32::MAX);
        self.ready.push_back(bundle);
        self.first_seen = None;
    }

    /// For a line of so many bytes, with its line end, which do not fit into the open bundle.
    #[cold]
    fn close_before(&mut self, bytes: usize) {
        self.close();
        // Exactly: the buffer becomes the body of the bundle that the line has for itself.
        self.lines.reserve_exact(bytes);
    }

    /// Takes back a bundle that was delivered or given up, for its memory.
    pub fn recycle(&mut self, mut bundle: Bundle) {
        if self.spare.len() < SPARE_BUNDLES_MAX {
            bundle.clear(self.body_bytes_kept(), self.config.bytes);
            self.spare.push(bundle);
        }
    }

    /// Most bytes of a body's buffer that is kept: one that held plain lines is several times what compressed ones need.
    fn body_bytes_kept(&self) -> usize {
        match self.config.compression {
            Compression::Off | Compression::Level(0) => self.config.bytes,
            Compression::Fast | Compression::Level(_) => self.config.bytes / 2,
        }
    }

    /// Calls in the open bundle and in closed ones not yet taken: part of "in flight".
    pub fn held_calls(&self) -> u64 {
        let ready = self.ready.iter().map(|bundle| u64::from(bundle.calls));
        self.index.len() as u64 + ready.sum::<u64>()
    }

    fn deflate_fast(&mut self, out: &mut Vec<u8>) -> Encoding {
        let encoder = self.fast.get_or_insert_default();
        encoder.zlib(&self.lines, out);
        Encoding::Deflated
    }

    /// Compresses the lines into `out`; plain lines if the compressor ever refuses, which its own bound rules out.
    fn deflate(&mut self, level: u8, out: &mut Vec<u8>) -> Encoding {
        self.leveled = self.leveled.take().filter(|last| last.level == level);
        let leveled = self.leveled.get_or_insert_with(|| Leveled::new(level));
        let Some(stream) = leveled.zlib(&self.lines) else {
            return Encoding::Plain;
        };
        out.extend_from_slice(stream);
        Encoding::Deflated
    }
}

/// A compressor of one level, and the buffer for its output.
struct Leveled {
    level: u8,
    compressor: Compressor,
    stream: Vec<u8>,
}

impl Leveled {
    fn new(level: u8) -> Self {
        let valid = CompressionLvl::new(level.min(9).into()).unwrap_or_default();
        Self {
            level,
            compressor: Compressor::new(valid),
            stream: Vec::new(),
        }
    }

    fn zlib(&mut self, lines: &[u8]) -> Option<&[u8]> {
        let bound = self.compressor.zlib_compress_bound(lines.len());
        // Never made shorter, so that no byte is zeroed twice.
        if self.stream.len() < bound {
            self.stream.resize(bound, 0);
        }
        let length = self
            .compressor
            .zlib_compress(lines, &mut self.stream)
            .ok()?;
        self.stream.get(..length)
    }
}

impl Output for Bundler {
    fn line(&mut self, line: &[u8], notes: &Notes) {
        self.parts(&[line], &mut Vec::new(), notes);
    }

    /// Closes a bundle after a whole line only.
    #[inline]
    fn parts(&mut self, parts: &[&[u8]], _room: &mut Vec<u8>, notes: &Notes) {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.lines.len() + length >= self.config.bytes {
            self.close_before(length + 1);
        }
        let offset = self.lines.len();
        for part in parts {
            self.lines.extend_from_slice(part);
        }
        self.lines.push(b'\n');
        self.index.push(CallEntry::new(offset, length, notes));
        if self.lines.len() >= self.config.bytes || self.index.len() >= BUNDLE_CALLS_MAX {
            self.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn inflate(bundle: &Bundle) -> String {
        let mut text = String::new();
        match bundle.encoding {
            Encoding::Plain => text.push_str(std::str::from_utf8(&bundle.body).unwrap()),
            Encoding::Deflated => {
                flate2::read::ZlibDecoder::new(&bundle.body[..])
                    .read_to_string(&mut text)
                    .unwrap();
            }
        }
        text
    }

    #[track_caller]
    fn check(compression: Compression) {
        let mut bundler = Bundler::new(Config {
            bytes: 20,
            compression,
            ..Config::default()
        });
        for line in ["[1234567890]", "[2]", "[345678]", "[4]"] {
            bundler.line(line.as_bytes(), &Notes::default());
        }
        assert_eq!(bundler.held_calls(), 4);
        let full = bundler.pop().unwrap();
        assert_eq!(
            (inflate(&full).as_str(), full.calls, full.line_bytes),
            ("[1234567890]\n[2]\n", 2, 17)
        );
        let full_id = full.id;
        bundler.recycle(full);
        assert!(bundler.pop().is_none(), "what is left is young and small");

        let start = Timestamp::from_parts(100, 0);
        bundler.close_if_old(start);
        assert!(bundler.pop().is_none());
        bundler.close_if_old(start.after(Duration::from_secs(1)));
        let old = bundler.pop().unwrap();
        assert_eq!((inflate(&old).as_str(), old.calls), ("[345678]\n[4]\n", 2));
        assert_ne!(full_id, old.id);
        assert_eq!(bundler.held_calls(), 0);
    }

    #[test]
    fn a_wall_clock_that_is_set_delays_no_bundle() {
        let mut bundler = Bundler::new(Config::default());
        let start = Timestamp::from_parts(100_000, 0);
        for now in [
            start.before(Duration::from_hours(5)),
            start.after(Duration::from_hours(5)),
        ] {
            bundler.line(b"[1]", &Notes::default());
            bundler.close_if_old(start);
            assert!(bundler.pop().is_none(), "it is young");
            bundler.close_if_old(now);
            assert_eq!(bundler.pop().map(|bundle| bundle.calls), Some(1));
        }
    }

    #[test]
    fn lines_that_resemble_each_other_become_much_smaller() {
        let mut bundler = Bundler::new(Config::default());
        for call in 0..1000 {
            let line = format!(
                "[[\"request_method\",\"GET\"],[\"request_url\",\"http://api.example/v1/orders/{call}\"]]"
            );
            bundler.line(line.as_bytes(), &Notes::default());
        }
        bundler.close();
        let bundle = bundler.pop().unwrap();
        assert_eq!(bundle.encoding, Encoding::Deflated);
        assert!(
            bundle.body.len() as u64 * 5 < bundle.line_bytes,
            "{} of {}",
            bundle.body.len(),
            bundle.line_bytes
        );
    }

    #[test]
    fn closes_by_size_and_by_age() {
        check(Compression::Off);
        check(Compression::Fast);
        check(Compression::Level(9));
    }

    /// Lines of these lengths, with their line ends, become bundles of these.
    #[track_caller]
    fn check_division(lines: &[usize], bundles: &[&[usize]]) {
        let mut bundler = Bundler::new(Config {
            bytes: 100,
            ..Config::default()
        });
        for length in lines {
            let text = vec![b'x'; length - 1];
            bundler.parts(&[b"", &text], &mut Vec::new(), &Notes::default());
        }
        bundler.close();
        let mut made = Vec::new();
        while let Some(bundle) = bundler.pop() {
            let lengths = bundle.index.iter();
            made.push(
                lengths
                    .map(|entry| entry.length as usize + 1)
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(made, bundles, "of {lines:?}");
    }

    #[test]
    fn a_large_line_takes_no_other_along() {
        check_division(&[40, 40, 20, 1], &[&[40, 40, 20], &[1]]);
        check_division(&[40, 40, 21, 1], &[&[40, 40], &[21, 1]]);
        check_division(&[10, 10, 500, 10, 10], &[&[10, 10], &[500], &[10, 10]]);
        check_division(
            &[500, 101, 100, 99, 2],
            &[&[500], &[101], &[100], &[99], &[2]],
        );
        check_division(&[], &[]);
    }

    #[test]
    fn a_bundle_has_no_more_calls_than_the_store_takes() {
        let mut bundler = Bundler::new(Config {
            bytes: 64 << 20,
            ..Config::default()
        });
        for _ in 0..=BUNDLE_CALLS_MAX {
            bundler.line(b"[]", &Notes::default());
        }
        let calls = bundler.pop().map(|bundle| bundle.calls as usize);
        assert_eq!((calls, bundler.held_calls()), (Some(BUNDLE_CALLS_MAX), 1));
    }

    #[test]
    fn buffers_are_no_larger_than_they_must_be() {
        let line = |bytes: usize| vec![b'x'; bytes];
        let mut bundler = Bundler::new(Config {
            compression: Compression::Off,
            ..Config::default()
        });
        // A long line makes a buffer of its size once; all others are as large as a bundle.
        for (bytes, expected) in [((3 << 20) - 1, 3 << 20), (3000, limits::BUNDLE_BYTES)] {
            for _ in 0..3 {
                while bundler.held_calls() == 0 || bundler.ready.is_empty() {
                    bundler.line(&line(bytes), &Notes::default());
                }
                let bundle = bundler.pop().unwrap();
                assert!(bundle.body.capacity() <= expected);
                assert!(bundler.lines.capacity() <= limits::BUNDLE_BYTES);
                bundler.recycle(bundle);
            }
        }
        // Those are too large for compressed bodies.
        bundler.set_compression(Compression::Fast);
        while bundler.ready.is_empty() {
            bundler.line(&line(3000), &Notes::default());
        }
        assert!(bundler.pop().unwrap().body.capacity() < limits::BUNDLE_BYTES / 2);
    }

    #[test]
    fn sinks_with_equal_rules_have_both_encodings() {
        let mut bundler = Bundler::new(Config {
            bytes: 1000,
            keeps_lines: true,
            ..Config::default()
        });
        // The line that does not fit any more is the first of the next bundle.
        let mut next = Vec::new();
        for round in 0..20 {
            let mut expected = Vec::new();
            while bundler.ready.is_empty() {
                expected.append(&mut next);
                next = format!("[{round},{}]\n", expected.len()).into_bytes();
                bundler.line(&next[..next.len() - 1], &Notes::default());
            }
            let bundle = bundler.pop().unwrap();
            assert_eq!(bundle.encoding, Encoding::Deflated);
            assert_eq!(bundle.plain_lines(), Some(&expected[..]));
            assert_eq!(inflate(&bundle).as_bytes(), expected);
            let of_index = bundle.index.len() * size_of::<CallEntry>();
            assert_eq!(
                bundle.memory_bytes(),
                bundle.body.len() + expected.len() + of_index
            );
            bundler.recycle(bundle);
        }
        bundler.set_compression(Compression::Off);
        bundler.close();
        let bundle = bundler.pop().unwrap();
        assert!(bundle.lines.is_empty(), "the body has them");
        assert_eq!(bundle.plain_lines(), Some(&next[..]));
    }

    #[test]
    fn compression_changes_with_the_next_bundle() {
        let mut bundler = Bundler::new(Config::default());
        let mut close = |compression| {
            let line = b"[[\"request_method\",\"GET\"]]".repeat(40);
            bundler.line(&line, &Notes::default());
            bundler.set_compression(compression);
            bundler.close();
            let bundle = bundler.pop().unwrap();
            assert_eq!(inflate(&bundle).as_bytes(), [&line[..], b"\n"].concat());
            assert_eq!(
                bundle.plain_lines().is_some(),
                bundle.encoding == Encoding::Plain
            );
            bundle.encoding
        };
        for (compression, encoding) in [
            (Compression::Fast, Encoding::Deflated),
            (Compression::Off, Encoding::Plain),
            (Compression::Level(1), Encoding::Deflated),
            (Compression::Level(0), Encoding::Plain),
            (Compression::Level(6), Encoding::Deflated),
            (Compression::Level(u8::MAX), Encoding::Deflated),
            (Compression::Fast, Encoding::Deflated),
        ] {
            assert_eq!(close(compression), encoding, "{compression:?}");
        }
    }
}
