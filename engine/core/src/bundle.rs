//! Lines in, one POST body out: collected up to a size or an age, then compressed on the shard that made them.
//!
//! Deflate is the dearest stage, so it must scale with the shards and never runs on the uploader. Buffers go round:
//! [`Bundler::recycle`] takes back what was sent, so a steady state allocates nothing. Compressed bodies grow to what comes
//! out, not to what might, and a plain one has room for its lines and one more: a queue of bundles takes hardly more memory
//! than is in them.

pub mod deflate;

use std::collections::VecDeque;
use std::time::Duration;

use deflate::Encoder;
use libdeflater::{CompressionLvl, Compressor};

use crate::limits;
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

/// The body of one POST.
#[derive(Debug, Default)]
pub struct Bundle {
    /// What is sent.
    pub body: Vec<u8>,
    /// How `body` is encoded.
    pub encoding: Encoding,
    /// Lines in it, that is calls.
    pub calls: u32,
    /// Bytes of lines before encoding.
    pub line_bytes: u64,
    /// The same on every try: the `Idempotency-Key`.
    pub id: u128,
}

/// When a bundle is closed, and how it is compressed.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Closed when it holds this many bytes of lines; it exceeds that by one line at most.
    pub bytes: usize,
    /// Closed when its first line is this old.
    pub age: Duration,
    /// How its body is compressed, until [`Bundler::set_compression`].
    pub compression: Compression,
    /// Random: makes bundle ids of this process and shard unlike any other's.
    pub id_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bytes: limits::BUNDLE_BYTES,
            age: Duration::from_secs(1),
            compression: Compression::Fast,
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
    calls: u32,
    /// Set by the first [`Self::close_if_old`] that sees lines: lines themselves carry no wall clock.
    first_seen: Option<Timestamp>,
    number: u64,
    ready: VecDeque<Bundle>,
    spare: Vec<Vec<u8>>,
}

/// Emptied buffers kept for the next bundles; more are freed.
const SPARE_BUFFERS_MAX: usize = 8;

/// Room for the line with which a bundle is full. A longer one costs a copy of the lines into a buffer of twice the size,
/// which is given back afterwards.
const LAST_LINE_BYTES: usize = 64 * 1024;

impl Bundler {
    /// An empty bundler.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            fast: None,
            leveled: None,
            lines: Vec::with_capacity(config.bytes + LAST_LINE_BYTES),
            calls: 0,
            first_seen: None,
            number: 0,
            ready: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// The oldest closed bundle.
    pub fn pop(&mut self) -> Option<Bundle> {
        self.ready.pop_front()
    }

    /// Compresses so from the next bundle that is closed on. A level other than the last one allocates its tables then.
    pub fn set_compression(&mut self, compression: Compression) {
        self.config.compression = compression;
        let kept_bytes = self.kept_bytes();
        self.spare.retain(|buffer| buffer.capacity() <= kept_bytes);
    }

    /// Closes the open bundle if its first line has been here for the configured age. `now` is any clock that runs on
    /// while no packet comes.
    pub fn close_if_old(&mut self, now: Timestamp) {
        if self.calls == 0 {
            return;
        }
        match self.first_seen {
            None => self.first_seen = Some(now),
            Some(first) if now.since(first) >= self.config.age => self.close(),
            Some(_) => {}
        }
    }

    /// Closes the open bundle whatever its size.
    pub fn close(&mut self) {
        if self.calls == 0 {
            return;
        }
        let id = u128::from(self.config.id_seed) << 64 | u128::from(self.number);
        self.number += 1;
        let mut spare = self.spare.pop().unwrap_or_default();
        let room = self.config.bytes + LAST_LINE_BYTES;
        let line_bytes = self.lines.len() as u64;
        let (body, encoding) = match self.config.compression {
            Compression::Off | Compression::Level(0) => {
                spare.reserve_exact(room);
                (std::mem::replace(&mut self.lines, spare), Encoding::Plain)
            }
            Compression::Fast | Compression::Level(1) => self.deflate_fast(spare),
            Compression::Level(level) => self.deflate(level, spare),
        };
        self.lines.clear();
        self.lines.shrink_to(room);
        self.ready.push_back(Bundle {
            body,
            encoding,
            calls: std::mem::take(&mut self.calls),
            line_bytes,
            id,
        });
        self.first_seen = None;
    }

    /// Takes back a bundle that was delivered or given up, for its memory.
    pub fn recycle(&mut self, bundle: Bundle) {
        let mut buffer = bundle.body;
        buffer.clear();
        if self.spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() <= self.kept_bytes() {
            self.spare.push(buffer);
        }
    }

    /// The largest buffer that is kept: one that held plain lines is several times what compressed ones need.
    fn kept_bytes(&self) -> usize {
        match self.config.compression {
            Compression::Off | Compression::Level(0) => self.config.bytes + LAST_LINE_BYTES,
            Compression::Fast | Compression::Level(_) => self.config.bytes / 2,
        }
    }

    /// Calls in the open bundle and in closed ones not yet taken: part of "in flight".
    pub fn held_calls(&self) -> u64 {
        u64::from(self.calls)
            + self
                .ready
                .iter()
                .map(|bundle| u64::from(bundle.calls))
                .sum::<u64>()
    }

    fn deflate_fast(&mut self, mut buffer: Vec<u8>) -> (Vec<u8>, Encoding) {
        buffer.clear();
        let encoder = self.fast.get_or_insert_default();
        encoder.zlib(&self.lines, &mut buffer);
        (buffer, Encoding::Deflated)
    }

    /// Lines compressed into `buffer`; plain lines if the compressor ever refuses, which its own bound rules out.
    fn deflate(&mut self, level: u8, mut buffer: Vec<u8>) -> (Vec<u8>, Encoding) {
        self.leveled = self.leveled.take().filter(|last| last.level == level);
        let leveled = self.leveled.get_or_insert_with(|| Leveled::new(level));
        if let Some(stream) = leveled.zlib(&self.lines) {
            buffer.clear();
            buffer.extend_from_slice(stream);
            (buffer, Encoding::Deflated)
        } else {
            (std::mem::replace(&mut self.lines, buffer), Encoding::Plain)
        }
    }
}

/// A compressor of one level, and room for what it makes.
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
        // Never made shorter: what was zeroed once stays.
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

    /// A bundle is closed after a line only, so none is torn.
    fn parts(&mut self, parts: &[&[u8]], _room: &mut Vec<u8>, _notes: &Notes) {
        for part in parts {
            self.lines.extend_from_slice(part);
        }
        self.lines.push(b'\n');
        self.calls += 1;
        if self.lines.len() >= self.config.bytes {
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
            ("[1234567890]\n[2]\n[345678]\n", 3, 26)
        );
        let full_id = full.id;
        bundler.recycle(full);
        assert!(bundler.pop().is_none(), "one line is left, young and small");

        let start = Timestamp::from_parts(100, 0);
        bundler.close_if_old(start);
        assert!(bundler.pop().is_none());
        bundler.close_if_old(start.after(Duration::from_secs(1)));
        let old = bundler.pop().unwrap();
        assert_eq!((inflate(&old).as_str(), old.calls), ("[4]\n", 1));
        assert_ne!(full_id, old.id);
        assert_eq!(bundler.held_calls(), 0);
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

    #[test]
    fn buffers_are_no_larger_than_they_must_be() {
        let line = |bytes: usize| vec![b'x'; bytes];
        let mut bundler = Bundler::new(Config {
            compression: Compression::Off,
            ..Config::default()
        });
        // A long line makes a large buffer once; then each is as large as a bundle and its last line.
        for (bytes, expected) in [(3 << 20, 6 << 20), (3000, limits::BUNDLE_BYTES)] {
            for _ in 0..3 {
                while bundler.held_calls() == 0 || bundler.ready.is_empty() {
                    bundler.line(&line(bytes), &Notes::default());
                }
                let bundle = bundler.pop().unwrap();
                assert!(bundle.body.capacity() <= expected + LAST_LINE_BYTES);
                assert!(bundler.lines.capacity() <= limits::BUNDLE_BYTES + LAST_LINE_BYTES);
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
    fn compression_changes_with_the_next_bundle() {
        let mut bundler = Bundler::new(Config::default());
        let mut close = |compression| {
            let line = b"[[\"request_method\",\"GET\"]]".repeat(40);
            bundler.line(&line, &Notes::default());
            bundler.set_compression(compression);
            bundler.close();
            let bundle = bundler.pop().unwrap();
            assert_eq!(inflate(&bundle).as_bytes(), [&line[..], b"\n"].concat());
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
