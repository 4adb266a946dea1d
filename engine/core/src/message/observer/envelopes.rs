//! Messages behind a prefix of five octets, flags and length: gRPC, gRPC-Web and the streams of Connect.
//!
//! The declared length, up to 4 GiB, is only counted. A hole within a message costs that message; one that may cover a prefix
//! ends the reading, since no later byte is known to be one. So does a flag that the protocol does not have.

use super::kind::Kind;

/// Bytes of the prefix.
const PREFIX: usize = 5;

/// The message is compressed.
const COMPRESSED: u8 = 1;

/// Where the reading of envelopes stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelopes {
    /// The flag of a frame that is no message, and what it is.
    special: Option<(u8, Kind)>,
    prefix: [u8; PREFIX],
    /// Octets of the prefix that are there.
    filled: u8,
    /// What is left of the message.
    left: u64,
    kind: Kind,
    is_within: bool,
    /// Nothing more can be attributed.
    is_stopped: bool,
}

impl Envelopes {
    /// `special`: the flag of a frame that is no message, and what it is.
    pub(super) const fn new(special: Option<(u8, Kind)>) -> Self {
        Self {
            special,
            prefix: [0; PREFIX],
            filled: 0,
            left: 0,
            kind: Kind::Message {
                is_compressed: false,
            },
            is_within: false,
            is_stopped: false,
        }
    }

    /// As at the beginning of a message, if one can still be found.
    pub(super) const fn begun_anew(&self) -> Self {
        Self {
            is_stopped: self.is_stopped,
            ..Self::new(self.special)
        }
    }

    /// Takes what there is of a message, or of its prefix; whether it is over.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a [u8]) -> (&'a [u8], bool) {
        if !self.is_within && !self.is_stopped {
            self.take_prefix(rest);
        }
        if self.is_stopped {
            *rest = &[];
        }
        if !self.is_within {
            return (&[], false);
        }
        let length = usize::try_from(self.left).unwrap_or(usize::MAX);
        let (bytes, behind) = rest.split_at(length.min(rest.len()));
        *rest = behind;
        self.left -= bytes.len() as u64;
        let is_last = self.left == 0;
        self.is_within = !is_last;
        (bytes, is_last)
    }

    fn take_prefix(&mut self, rest: &mut &[u8]) {
        let filled = usize::from(self.filled);
        let free = self.prefix.get_mut(filled..).unwrap_or_default();
        let count = free.len().min(rest.len());
        let (taken, behind) = rest.split_at(count);
        for (place, octet) in free.iter_mut().zip(taken) {
            *place = *octet;
        }
        *rest = behind;
        self.filled += count as u8;
        if usize::from(self.filled) < PREFIX {
            return;
        }
        self.filled = 0;
        let [flags, length @ ..] = self.prefix;
        self.left = u32::from_be_bytes(length).into();
        let special = self.special.filter(|(flag, _)| flags & flag != 0);
        let known = COMPRESSED | special.map_or(0, |(flag, _)| flag);
        let is_compressed = flags & COMPRESSED != 0;
        self.kind = match special {
            Some((_, Kind::Trailers { .. })) => Kind::Trailers { is_compressed },
            Some(_) => Kind::Last { is_compressed },
            None => Kind::Message { is_compressed },
        };
        self.is_stopped = flags & !known != 0;
        self.is_within = !self.is_stopped;
    }

    /// `count` bytes were never captured.
    pub(super) fn missing(&mut self, count: u64) {
        if !self.is_within || count > self.left {
            (self.is_within, self.is_stopped) = (false, true);
            return;
        }
        self.left -= count;
        self.kind = Kind::Torn;
    }

    /// What the bytes at hand belong to.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether something is missing at the end: the rest of a message, or what could not be read.
    pub(super) fn is_cut(&self) -> bool {
        self.is_stopped || self.is_within || self.filled > 0
    }

    /// Ends the reading: what follows cannot be read.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }
}
