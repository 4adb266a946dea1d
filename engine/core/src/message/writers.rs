//! One line writer, or one for each of several rule sets: the same exchanges, and of each set its own lines.
//!
//! The reader of HTTP runs once, whatever the number of sets; each writer has its own draft of an exchange, applies its own
//! rules to it, and counts its own outcome. So a call that one set stops is a line of the other, nothing that one set hides
//! can reach the output of the other, and the equation of [`Counters`](super::Counters) holds for each writer.
//!
//! [`LineWriter`] is the common case and costs nothing here. [`LineWriters`] passes each event on to all of its writers, at
//! most [`RULE_SETS_AT_ONCE_MAX`]; a place without a writer is never looked at.

use std::slice;
use std::sync::Arc;

use super::{Config, Draft, LineWriter, Output, Unwritten};
use crate::http::{
    BodyEnd, Exchanges, Header, MessagePart, Opening, Origin, RequestHead, ResponseHead, Side,
    UnpairedReason,
};
use crate::limits::RULE_SETS_AT_ONCE_MAX;
use crate::rules::RuleSet;
use crate::time::Timestamp;

/// What a pipeline writes with.
pub trait Writers: Exchanges {
    /// Where lines go.
    type Output: Output;

    /// The writers, one for each rule set.
    fn all(&self) -> &[LineWriter<Self::Output>];

    /// The same, to change them.
    fn all_mut(&mut self) -> &mut [LineWriter<Self::Output>];
}

impl<O: Output> Writers for LineWriter<O> {
    type Output = O;

    #[inline]
    fn all(&self) -> &[Self] {
        slice::from_ref(self)
    }

    #[inline]
    fn all_mut(&mut self) -> &mut [Self] {
        slice::from_mut(self)
    }
}

/// The draft of one writer.
type OneDraft = Result<Box<Draft>, Unwritten>;

/// A line writer for each rule set.
pub struct LineWriters<O>(Vec<LineWriter<O>>);

impl<O: Output> LineWriters<O> {
    /// Lines under each of these rule sets go to the output beside it, at most [`RULE_SETS_AT_ONCE_MAX`] of them. The memory
    /// of open exchanges is divided among them.
    pub fn new(config: &Config, mut sets: Vec<(Arc<RuleSet>, O)>) -> Self {
        sets.truncate(RULE_SETS_AT_ONCE_MAX);
        let config = Config {
            open_bytes_max: config.open_bytes_max / sets.len().max(1),
            ..config.clone()
        };
        let sets = sets.into_iter();
        let writers = sets.map(|(rules, output)| LineWriter::new(config.clone(), rules, output));
        Self(writers.collect())
    }

    /// A draft of each writer. Of the places behind them nothing is ever read.
    fn drafts(&mut self, mut of: impl FnMut(&mut LineWriter<O>) -> OneDraft) -> Drafts {
        let mut drafts = Drafts::default();
        for (writer, draft) in self.0.iter_mut().zip(&mut drafts.0) {
            *draft = of(writer);
        }
        drafts
    }

    /// Each writer with its draft.
    fn each<'a>(
        &'a mut self,
        drafts: &'a mut Drafts,
    ) -> impl Iterator<Item = (&'a mut LineWriter<O>, &'a mut OneDraft)> {
        self.0.iter_mut().zip(&mut drafts.0)
    }
}

impl<O: Output> Writers for LineWriters<O> {
    type Output = O;

    fn all(&self) -> &[LineWriter<O>] {
        &self.0
    }

    fn all_mut(&mut self) -> &mut [LineWriter<O>] {
        &mut self.0
    }
}

/// The drafts of one exchange, by writer.
pub struct Drafts([OneDraft; RULE_SETS_AT_ONCE_MAX]);

impl Default for Drafts {
    fn default() -> Self {
        Self([const { Err(Unwritten::Memory) }; RULE_SETS_AT_ONCE_MAX])
    }
}

impl<O: Output> Exchanges for LineWriters<O> {
    type Draft = Drafts;

    fn request(&mut self, head: &RequestHead<'_>, origin: &Origin<'_>) -> Drafts {
        self.drafts(|writer| writer.request(head, origin))
    }

    fn orphan_response(&mut self, head: &ResponseHead<'_>, origin: &Origin<'_>) -> Drafts {
        self.drafts(|writer| writer.orphan_response(head, origin))
    }

    fn response(&mut self, drafts: &mut Drafts, head: &ResponseHead<'_>, origin: &Origin<'_>) {
        for (writer, draft) in self.each(drafts) {
            writer.response(draft, head, origin);
        }
    }

    fn body(&mut self, drafts: &mut Drafts, side: Side, bytes: &[u8], time: Timestamp) {
        for (writer, draft) in self.each(drafts) {
            writer.body(draft, side, bytes, time);
        }
    }

    fn trailers(
        &mut self,
        drafts: &mut Drafts,
        side: Side,
        headers: &[Header<'_>],
        unknown_fields: u32,
    ) {
        for (writer, draft) in self.each(drafts) {
            writer.trailers(draft, side, headers, unknown_fields);
        }
    }

    fn fields_lost(&mut self, drafts: &mut Drafts, side: Side) {
        for (writer, draft) in self.each(drafts) {
            writer.fields_lost(draft, side);
        }
    }

    fn reset(&mut self, drafts: &mut Drafts, by: Side, code: u32) {
        for (writer, draft) in self.each(drafts) {
            writer.reset(draft, by, code);
        }
    }

    fn missing(&mut self, drafts: &mut Drafts, side: Side, count: u64) {
        for (writer, draft) in self.each(drafts) {
            writer.missing(draft, side, count);
        }
    }

    fn end(&mut self, drafts: &mut Drafts, side: Side, end: BodyEnd, time: Timestamp) {
        for (writer, draft) in self.each(drafts) {
            writer.end(draft, side, end, time);
        }
    }

    fn split_response(&mut self, drafts: &mut Drafts, call_index: u64) -> Drafts {
        let mut given = drafts.0.iter_mut();
        self.drafts(|writer| match given.next() {
            Some(draft) => writer.split_response(draft, call_index),
            None => Err(Unwritten::Memory),
        })
    }

    /// A conversation where one of the writers writes it; for the others it is an exchange that is only counted.
    fn conversation(&mut self, drafts: &Drafts, opening: Opening) -> Option<Drafts> {
        let found: [Option<OneDraft>; RULE_SETS_AT_ONCE_MAX] = std::array::from_fn(|place| {
            let (writer, draft) = (self.0.get_mut(place)?, drafts.0.get(place)?);
            writer.conversation(draft, opening)
        });
        if found.iter().all(Option::is_none) {
            return None;
        }
        let mut found = found.into_iter();
        Some(self.drafts(|writer| {
            let draft = found.next().flatten();
            draft.unwrap_or_else(|| writer.conversation_elsewhere())
        }))
    }

    fn message(&mut self, drafts: &mut Drafts, side: Side, part: &MessagePart<'_>) {
        for (writer, draft) in self.each(drafts) {
            writer.message(draft, side, part);
        }
    }

    fn message_missing(
        &mut self,
        drafts: &mut Drafts,
        side: Side,
        count: u64,
        is_compressed: bool,
    ) {
        for (writer, draft) in self.each(drafts) {
            writer.message_missing(draft, side, count, is_compressed);
        }
    }

    fn closed(&mut self, drafts: &mut Drafts, by: Side, code: Option<u16>) {
        for (writer, draft) in self.each(drafts) {
            writer.closed(draft, by, code);
        }
    }

    fn finish(&mut self, drafts: Drafts) {
        for (writer, draft) in self.0.iter_mut().zip(drafts.0) {
            writer.finish(draft);
        }
    }

    fn unpaired(&mut self, drafts: Drafts, reason: UnpairedReason) {
        for (writer, draft) in self.0.iter_mut().zip(drafts.0) {
            writer.unpaired(draft, reason);
        }
    }

    fn sheds(&self, origin: &Origin<'_>) -> bool {
        self.0.iter().all(|writer| writer.sheds(origin))
    }

    fn is_shed(&self, drafts: &Drafts) -> bool {
        let mut each = self.0.iter().zip(&drafts.0);
        each.all(|(writer, draft)| writer.is_shed(draft))
    }
}
