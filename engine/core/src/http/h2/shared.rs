//! Memory of the HTTP/2 readers of a shard: the header tables, and what is used again.

use super::block::Block;
use super::hpack::{Decoder, Strings};
use super::reading::Open;
use super::streams::Streams;
use super::tables::Tables;
use crate::http::Header;
use crate::time::Timestamp;

/// Open blocks kept; more are freed.
const SPARE_BLOCKS_MAX: usize = 64;

/// Bytes that a block which is used again keeps.
const SPARE_BLOCK_BYTES: usize = 4096;

/// Lists of streams kept; more are freed.
const SPARE_STREAMS_MAX: usize = 256;

/// A longer list is freed.
const SPARE_STREAMS_BYTES_MAX: usize = 32 * 1024;

/// Bytes of all lists kept.
const SPARE_STREAMS_ALL_BYTES_MAX: usize = 1 << 20;

/// What all HTTP/2 connections of a shard share; `D` is [`Exchanges::Draft`](crate::http::Exchanges::Draft).
#[derive(Debug)]
pub(in crate::http) struct Shared<D> {
    pub(super) tables: Tables,
    pub(super) strings: Strings,
    /// Emptied between heads; only its memory stays.
    pub(super) headers: Vec<Header<'static>>,
    pub(super) cookies: Vec<u8>,
    #[expect(
        clippy::vec_box,
        reason = "the boxes themselves are handed out and taken back"
    )]
    spare: Vec<Box<Open>>,
    /// Emptied lists of connections without an open stream.
    streams: Vec<Streams<D>>,
    /// Their memory.
    streams_bytes: usize,
}

impl<D> Shared<D> {
    /// The header tables of all connections may hold `tables_bytes_max`.
    pub(in crate::http) fn new(tables_bytes_max: usize) -> Self {
        Self {
            tables: Tables::new(tables_bytes_max),
            strings: Strings::default(),
            headers: Vec::new(),
            cookies: Vec::new(),
            spare: Vec::new(),
            streams: Vec::new(),
            streams_bytes: 0,
        }
    }

    /// Memory for the streams of a connection that opens its first one.
    pub(super) fn take_streams(&mut self) -> Streams<D> {
        let streams = self.streams.pop().unwrap_or_default();
        self.streams_bytes -= streams.memory();
        streams
    }

    /// Takes back the memory of a list without a stream.
    pub(super) fn recycle_streams(&mut self, streams: &mut Streams<D>) {
        let mut streams = std::mem::take(streams);
        let bytes = streams.memory();
        let fits = bytes <= SPARE_STREAMS_BYTES_MAX
            && self.streams_bytes + bytes <= SPARE_STREAMS_ALL_BYTES_MAX;
        if fits && self.streams.len() < SPARE_STREAMS_MAX {
            streams.reset();
            self.streams_bytes += streams.memory();
            self.streams.push(streams);
        }
    }

    /// Memory of the header tables, in bytes.
    pub(in crate::http) fn tables_held(&self) -> usize {
        self.tables.held()
    }

    /// For a header block that begins.
    pub(super) fn open_block(
        &mut self,
        stream: u32,
        ends_stream: bool,
        start: Timestamp,
    ) -> Box<Open> {
        let mut open = self.spare.pop().unwrap_or_else(|| {
            Box::new(Open {
                block: Block::default(),
                decoder: Decoder::default(),
                stream,
                promised: None,
                ends_stream,
                start,
                held: 0,
            })
        });
        (open.stream, open.promised) = (stream, None);
        (open.ends_stream, open.start) = (ends_stream, start);
        open
    }

    /// Takes a block back.
    pub(super) fn recycle(&mut self, mut open: Box<Open>) {
        if self.spare.len() < SPARE_BLOCKS_MAX {
            open.block.clear(SPARE_BLOCK_BYTES);
            open.decoder = Decoder::default();
            open.held = 0;
            self.spare.push(open);
        }
    }
}
