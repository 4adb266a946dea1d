//! Header blocks: decoded as their fragments come, in wire order, whatever becomes of their message.

use super::Connection;
use crate::flow::{Direction, PerDirection};
use crate::http::h2::block::Pseudo;
use crate::http::h2::frame::{END_STREAM, Frame};
use crate::http::h2::hpack::Broken;
use crate::http::h2::reading::{Open, Step};
use crate::http::{Exchanges, Http, Side};

impl<D> Connection<D> {
    /// HEADERS or PUSH_PROMISE: a block begins.
    pub(super) fn begin_block<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        frame: Frame,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let ends_stream = frame.has(END_STREAM);
        let open = shared
            .h2
            .open_block(frame.stream, ends_stream, reading.start);
        (reading.open, reading.lost_block) = (Some(open), false);
        self.skim(direction, shared);
        if self.tables.is_none() {
            let is_whole = PerDirection {
                originator: !self.readings.originator.is_lossy,
                responder: !self.readings.responder.is_lossy,
            };
            self.tables = Some(shared.h2.tables.open(is_whole));
        }
    }

    /// The next bytes of a block.
    pub(super) fn fragment<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) {
        let Some(open) = &mut self.readings[direction].open else {
            return;
        };
        let h2 = &mut shared.h2;
        let table = self
            .tables
            .as_ref()
            .and_then(|key| h2.tables.get(key, direction));
        let Some(mut table) = table else { return };
        let Open { decoder, block, .. } = &mut **open;
        if decoder.fragment(bytes, &mut table, &mut h2.strings, block) == Err(Broken) {
            self.break_block(direction, shared);
        }
    }

    /// A block is over: its message is read.
    pub(super) fn end_block<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        let Some(mut open) = self.readings[direction].open.take() else {
            return;
        };
        if open.decoder.end() == Err(Broken) {
            self.readings[direction].open = Some(open);
            return self.break_block(direction, shared);
        }
        shared.buffers.let_go(std::mem::take(&mut open.held));
        self.readings[direction].is_trial = false;
        let block = &open.block;
        if let Some(key) = &self.tables {
            let tables = &mut shared.h2.tables;
            let table = tables.get(key, direction);
            let forgotten = table.map(|mut table| table.take_forgotten());
            shared.counters.http2_table_entries_forgotten += u64::from(forgotten.unwrap_or(0));
            shared.counters.http2_tables_shed += tables.settle(key);
        }
        shared.counters.http2_fields_unknown += u64::from(block.unknown);
        shared.counters.heads_oversized += u64::from(block.is_oversized);
        self.find_client(direction, &open);
        self.confirm(shared);
        let allowed = self.readings[direction.reverse()].table_size;
        let is_malformed = block.is_malformed || block.table_size > allowed;
        shared.counters.http2_messages_malformed += u64::from(is_malformed);
        self.message(direction, &open, shared);
        shared.h2.recycle(open);
    }

    /// Counts the memory of a block that goes on in the next bytes. If there is too little, nothing of it is kept, and the
    /// table is kept exact all the same.
    #[cold]
    pub(super) fn count_open_block<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        let Some(open) = &mut self.readings[direction].open else {
            return;
        };
        let memory = open.block.memory() + open.decoder.memory();
        if shared.buffers.hold(open.held, memory) {
            open.held = memory;
            return;
        }
        shared.counters.heads_shed += u64::from(!open.block.is_shed);
        open.block.shed();
        let table = self
            .tables
            .as_ref()
            .and_then(|key| shared.h2.tables.get(key, direction));
        let is_broken = table.is_some_and(|table| open.decoder.shed(&table).is_err());
        shared.buffers.let_go(std::mem::take(&mut open.held));
        if is_broken {
            self.break_block(direction, shared);
        }
    }

    /// A block cannot be decoded, and so no later one of its direction.
    #[cold]
    fn break_block<X: Exchanges<Draft = D>>(&mut self, direction: Direction, shared: &mut Http<X>) {
        if self.is_confirmed && !self.readings[direction].is_trial {
            shared.counters.http2_blocks_broken += 1;
            self.stop_reading(direction, shared);
        } else {
            self.stop(direction, shared);
        }
    }

    /// A request has a method or a path, a response a status, and a promise comes from the server, though it has a request; the
    /// ports say nothing.
    fn find_client(&mut self, direction: Direction, open: &Open) {
        if self.client.is_some() {
            return;
        }
        let is_promise = open.promised.is_some();
        let has = |pseudo| open.block.pseudo(pseudo).is_some();
        if !is_promise && (has(Pseudo::Method) || has(Pseudo::Path)) {
            self.client = Some(direction);
        } else if is_promise || has(Pseudo::Status) {
            self.client = Some(direction.reverse());
        }
    }

    /// Of a call that is only counted nothing but pseudo-fields is kept.
    fn skim<X: Exchanges<Draft = D>>(&mut self, direction: Direction, shared: &mut Http<X>) {
        let Some(open) = &self.readings[direction].open else {
            return;
        };
        let (id, start) = (open.stream, open.start);
        let is_skimmed = match self.side(direction) {
            Some(Side::Request) if id > self.readings[direction].highest => shared
                .exchanges
                .sheds(&self.origin(id, self.calls + 1, start)),
            Some(_) => {
                let stream = self.streams.get(id);
                let draft = stream.and_then(|stream| stream.draft.as_ref());
                draft.is_some_and(|draft| shared.exchanges.is_shed(draft))
            }
            None => false,
        };
        let reading = &mut self.readings[direction];
        if let Some(open) = reading
            .open
            .as_mut()
            .filter(|_| reading.step != Step::Stopped)
        {
            open.block.is_skimmed = is_skimmed;
        }
    }
}
