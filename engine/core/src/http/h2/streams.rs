//! The open streams of a connection: a list by id, and the order of their last activity.
//!
//! Bound: [`HTTP2_STREAMS_MAX`](crate::limits::HTTP2_STREAMS_MAX); a closed stream leaves nothing behind.

use crate::http::websocket::Conversation;
use crate::http::{Side, UnpairedReason};

const NONE: u32 = u32::MAX;

/// One exchange on its stream; `D` is [`Exchanges::Draft`](crate::http::Exchanges::Draft).
#[derive(Debug)]
pub(super) struct Stream<D> {
    pub(super) id: u32,
    /// Number of the exchange on its connection.
    pub(super) call_index: u64,
    /// Nothing once the exchange is over and only bytes of a tunnel follow.
    pub(super) draft: Option<D>,
    pub(super) request: Part,
    pub(super) response: Part,
    /// What a handshake of WebSocket has opened, if that is read.
    pub(super) websocket: Option<Box<Conversation<D>>>,
    /// CONNECT: what follows the head of the request is no body.
    pub(super) is_connect: bool,
    /// The CONNECT asks for a WebSocket (RFC 8441).
    pub(super) is_websocket: bool,
    /// HEAD: the response has no body.
    pub(super) is_head: bool,
    pub(super) is_pushed: bool,
    /// The head of its final response was seen.
    pub(super) is_answered: bool,
    /// Why it is a half call even with both heads.
    pub(super) unpaired: Option<UnpairedReason>,
}

/// One side of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) state: State,
    /// Bytes of it may be missing.
    pub(super) is_damaged: bool,
    /// Frames of it may be missing: its head, if that was not seen, or its trailers.
    pub(super) lost_frames: bool,
    /// What its head says of the length of the body.
    pub(super) declared: Option<u64>,
    /// Bytes of the body.
    pub(super) received: u64,
}

/// How far one side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its head was not seen.
    Awaited,
    Open,
    Ended,
}

impl Part {
    pub(super) const AWAITED: Self = Self {
        state: State::Awaited,
        is_damaged: false,
        lost_frames: false,
        declared: None,
        received: 0,
    };
}

impl<D> Stream<D> {
    pub(super) fn new(id: u32, call_index: u64, draft: D) -> Self {
        Self {
            id,
            call_index,
            draft: Some(draft),
            request: Part::AWAITED,
            response: Part::AWAITED,
            websocket: None,
            is_websocket: false,
            is_connect: false,
            is_head: false,
            is_pushed: false,
            is_answered: false,
            unpaired: None,
        }
    }

    pub(super) fn part(&mut self, side: Side) -> &mut Part {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// Whether both sides have ended. The request of a response that stands alone will not come.
    pub(super) fn is_over(&self) -> bool {
        self.response.state == State::Ended && self.request.state != State::Open
    }
}

/// The open streams.
#[derive(Debug)]
pub(super) struct Streams<D> {
    /// By id.
    index: Vec<(u32, u32)>,
    slots: Vec<Slot<D>>,
    /// First unused slot.
    free: u32,
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Slot<D> {
    stream: Option<Stream<D>>,
    before: u32,
    after: u32,
}

impl<D> Default for Streams<D> {
    fn default() -> Self {
        Self {
            index: Vec::new(),
            slots: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
        }
    }
}

impl<D> Streams<D> {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Memory that it holds, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<D>>()
            + self.index.capacity() * size_of::<(u32, u32)>()
    }

    /// Whether one more stream needs memory.
    pub(super) fn is_full(&self) -> bool {
        self.free == NONE && self.slots.len() == self.slots.capacity()
    }

    /// Memory that it holds after it has grown for one more stream, in bytes.
    pub(super) fn memory_grown(&self) -> usize {
        2 * self.memory() + 4 * (size_of::<Slot<D>>() + size_of::<(u32, u32)>())
    }

    /// Removes all streams, in the order of their ids, and keeps the memory once they are taken.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Stream<D>> + use<'_, D> {
        (self.free, self.oldest, self.newest) = (NONE, NONE, NONE);
        let (index, slots) = (&mut self.index, &mut self.slots);
        let stream = |(_, slot): (u32, u32)| slots.get_mut(slot as usize)?.stream.take();
        index.drain(..).filter_map(stream)
    }

    /// Ready for another connection, if there is no stream.
    pub(super) fn reset(&mut self) {
        self.drain().for_each(drop);
        self.slots.clear();
    }

    /// Whether it has memory.
    pub(super) fn has_memory(&self) -> bool {
        self.slots.capacity() > 0
    }

    /// Ids of all streams, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.index.iter().map(|(id, _)| *id)
    }

    /// The first stream with an id above `last`, of the odd or of the even ones.
    pub(super) fn first_above(&self, last: u32, parity: u32) -> Option<u32> {
        let from = self.index.partition_point(|(id, _)| *id <= last);
        let mut above = self.index.iter().skip(from).map(|(id, _)| *id);
        above.find(|id| id % 2 == parity)
    }

    /// The stream that has been silent longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        let slot = self.slots.get(self.oldest as usize)?;
        slot.stream.as_ref().map(|stream| stream.id)
    }

    /// The stream with this id, which is now the most active one.
    #[inline]
    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream<D>> {
        let newest = self.slots.get(self.newest as usize)?;
        let is_newest = newest.stream.as_ref().is_some_and(|stream| stream.id == id);
        let slot = if is_newest {
            self.newest
        } else {
            self.touch(id)?
        };
        self.slots.get_mut(slot as usize)?.stream.as_mut()
    }

    /// Adds a stream as the most active one. Returns the one that had its id, if any: that one is over.
    #[must_use]
    pub(super) fn insert(&mut self, stream: Stream<D>) -> Option<Stream<D>> {
        let id = stream.id;
        if let Some(before) = self.get(id) {
            return Some(std::mem::replace(before, stream));
        }
        let place = self.place(id).unwrap_or_else(|place| place);
        let entry = Slot {
            stream: Some(stream),
            before: NONE,
            after: NONE,
        };
        let slot = match self.slots.get_mut(self.free as usize) {
            Some(unused) => {
                let slot = std::mem::replace(&mut self.free, unused.after);
                *unused = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                self.slots.len() as u32 - 1
            }
        };
        self.index.insert(place, (id, slot));
        self.link(slot);
        None
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream<D>> {
        let place = self.place(id).ok()?;
        let (_, slot) = self.index.remove(place);
        self.unlink(slot);
        let unused = self.slots.get_mut(slot as usize)?;
        unused.after = std::mem::replace(&mut self.free, slot);
        unused.stream.take()
    }

    /// Changes every stream.
    pub(super) fn for_each(&mut self, change: impl FnMut(&mut Stream<D>)) {
        let streams = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.stream.as_mut());
        streams.for_each(change);
    }

    #[inline]
    fn place(&self, id: u32) -> Result<usize, usize> {
        self.index.binary_search_by_key(&id, |(id, _)| *id)
    }

    fn touch(&mut self, id: u32) -> Option<u32> {
        let place = self.place(id).ok()?;
        let slot = self.index.get(place)?.1;
        self.unlink(slot);
        self.link(slot);
        Some(slot)
    }

    fn link(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        if let Some(entry) = self.slots.get_mut(slot as usize) {
            (entry.before, entry.after) = (before, NONE);
        }
        match self.slots.get_mut(before as usize) {
            Some(entry) => entry.after = slot,
            None => self.oldest = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(&Slot { before, after, .. }) = self.slots.get(slot as usize) else {
            return;
        };
        match self.slots.get_mut(before as usize) {
            Some(entry) => entry.after = after,
            None => self.oldest = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(entry) => entry.before = before,
            None => self.newest = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_by_id_and_by_activity() {
        let mut streams = Streams::default();
        for id in [1, 5, 3, 7] {
            assert!(streams.insert(Stream::new(id, 0, ())).is_none());
        }
        assert_eq!(streams.ids().collect::<Vec<_>>(), [1, 3, 5, 7]);
        assert_eq!(streams.oldest(), Some(1));
        assert_eq!(streams.get(1).unwrap().id, 1);
        assert_eq!(streams.oldest(), Some(5));
        assert!(streams.get(2).is_none());
        assert_eq!(streams.remove(5).unwrap().id, 5);
        assert_eq!((streams.len(), streams.oldest()), (3, Some(3)));
        let memory = streams.memory();
        assert!(streams.insert(Stream::new(9, 0, ())).is_none());
        assert_eq!(streams.memory(), memory, "the place of the one before");
        let before = streams.insert(Stream::new(9, 1, ()));
        assert_eq!(before.unwrap().call_index, 0, "no stream is forgotten");
        for id in [1, 3, 7, 9] {
            assert!(streams.remove(id).is_some());
        }
        assert_eq!((streams.len(), streams.oldest()), (0, None));
        assert!(streams.get(9).is_none() && streams.remove(9).is_none());
        for id in [3, 1] {
            assert!(streams.insert(Stream::new(id, 0, ())).is_none());
        }
        let ids = streams.drain().map(|stream| stream.id);
        assert_eq!(ids.collect::<Vec<_>>(), [1, 3]);
        streams.reset();
        assert_eq!((streams.memory(), streams.len()), (memory, 0));
        assert!(streams.insert(Stream::new(5, 0, ())).is_none());
        assert_eq!(streams.oldest(), Some(5));
    }
}
