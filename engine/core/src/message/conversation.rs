//! The messages of a WebSocket, of which each side becomes one body: a JSON list in the order in which they came.
//!
//! Source: RFC 6455 and 7692. A text that is a JSON object or list stands as it is, every other message is a string. A message is
//! collected up to the body limit; of a longer one the beginning is kept. What is compressed needs the last
//! [`INFLATE_WINDOW_BYTES`] of the messages before it, which are kept for each side as far as there are as many.

use flate2::{Decompress, FlushDecompress, Status};

use super::json;
use super::observer::Seen;
use crate::http::{MessageKind, Opening, Side};
use crate::limits::{
    CODED_BYTES_MIN, CODING_RATIO_MAX, INFLATE_EXCESS_BYTES_MAX, INFLATE_STATE_BYTES,
    INFLATE_WINDOW_BYTES, INFLATERS_SPARE_MAX,
};
use crate::ndjson;
use crate::time::Timestamp;

/// Both sides.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) request: Sequence,
    pub(super) response: Sequence,
    /// Who has sent the first Close frame.
    pub(super) closed_by: Option<Side>,
    /// Its code.
    pub(super) code: Option<u16>,
}

/// The messages of one side.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) seen: Seen,
    /// Bytes of whole messages, decompressed as far as that is possible.
    pub(super) bytes: u64,
    /// The message that is not over, up to the limit.
    pub(super) open: Vec<u8>,
    /// Its length.
    pub(super) length: u64,
    /// It cannot be decompressed.
    pub(super) is_undecodable: bool,
    /// The list has begun.
    pub(super) has_text: bool,
    pub(super) inflater: Option<Inflater>,
}

impl Conversation {
    pub(super) fn new(opening: Opening) -> Self {
        let sequence = |has_context| Sequence {
            seen: Seen::default(),
            bytes: 0,
            open: Vec::new(),
            length: 0,
            is_undecodable: false,
            has_text: false,
            inflater: opening.is_compressed.then(|| Inflater::new(has_context)),
        };
        Self {
            request: sequence(opening.client_has_context),
            response: sequence(opening.server_has_context),
            closed_by: None,
            code: None,
        }
    }

    pub(super) fn side(&mut self, side: Side) -> &mut Sequence {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// Whether a message was seen.
    pub(super) fn has_messages(&self) -> bool {
        self.request.seen.messages + self.response.seen.messages > 0
    }

    /// What there is of whole messages; the rest goes on.
    pub(super) fn take_part(&mut self) -> Self {
        Self {
            request: self.request.take_part(),
            response: self.response.take_part(),
            closed_by: None,
            code: None,
        }
    }

    /// Memory that it holds.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.request.memory() + self.response.memory()
    }
}

impl Sequence {
    fn memory(&self) -> usize {
        self.open.capacity() + self.inflater.as_ref().map_or(0, Inflater::memory)
    }

    fn take_part(&mut self) -> Self {
        Self {
            seen: std::mem::take(&mut self.seen),
            bytes: std::mem::take(&mut self.bytes),
            open: Vec::new(),
            length: 0,
            is_undecodable: false,
            has_text: std::mem::take(&mut self.has_text),
            inflater: None,
        }
    }

    /// Forgets the message that is not over.
    pub(super) fn forget_message(&mut self) {
        self.open.clear();
        (self.length, self.is_undecodable) = (0, false);
    }
}

/// Appends an element of a list: the message `bytes`, of which the end may be missing. No more than `room` bytes of text, and
/// a few.
pub(super) fn write_element(
    bytes: &[u8],
    kind: MessageKind,
    is_cut: bool,
    room: usize,
    out: &mut Vec<u8>,
) {
    if kind == MessageKind::Text && !is_cut && json::is_object_or_list(bytes) {
        out.extend_from_slice(bytes.trim_ascii());
    } else {
        ndjson::enclose_within(b"\"", (bytes, false), b"\"", room, out);
    }
}

/// What decompresses messages.
pub(super) struct Inflaters {
    pub(super) spare: Vec<Decompress>,
    pub(super) buffer: Vec<u8>,
    /// The second of packet time for which `excess_left` holds.
    second: u64,
    /// Bytes that messages may still become in it beyond [`CODING_RATIO_MAX`].
    excess_left: u64,
}

impl Inflaters {
    /// Bytes that `bytes` bytes of a message may become at `time`.
    pub(super) fn room(&mut self, bytes: usize, time: Timestamp) -> u64 {
        let second = time.nanos() / 1_000_000_000;
        if second != self.second {
            (self.second, self.excess_left) = (second, INFLATE_EXCESS_BYTES_MAX);
        }
        free(bytes).saturating_add(self.excess_left)
    }

    /// After `bytes` bytes have become `made`.
    pub(super) fn spend(&mut self, bytes: usize, made: u64) {
        let excess = made.saturating_sub(free(bytes));
        self.excess_left = self.excess_left.saturating_sub(excess);
    }
}

/// Bytes that so many bytes of a message may always become.
fn free(bytes: usize) -> u64 {
    (bytes.max(CODED_BYTES_MIN) as u64).saturating_mul(CODING_RATIO_MAX as u64)
}

impl Default for Inflaters {
    fn default() -> Self {
        Self {
            spare: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            second: 0,
            excess_left: INFLATE_EXCESS_BYTES_MAX,
        }
    }
}

/// Bytes that are decompressed at once.
const BUFFER_BYTES: usize = 4096;

/// Undoes the compression of the messages of one side (RFC 7692 §7.2.2).
#[derive(Debug)]
pub(super) struct Inflater {
    has_context: bool,
    /// The last bytes of the messages so far, if later ones refer to them.
    window: Vec<u8>,
    /// They are not known.
    is_lost: bool,
    /// In the midst of a message.
    active: Option<Decompress>,
}

/// The message cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

/// What every message ends with, which is not sent.
const END: [u8; 4] = [0, 0, 0xff, 0xff];

impl Inflater {
    fn new(has_context: bool) -> Self {
        Self {
            has_context,
            window: Vec::new(),
            is_lost: false,
            active: None,
        }
    }

    fn memory(&self) -> usize {
        let state = if self.active.is_some() {
            INFLATE_STATE_BYTES
        } else {
            0
        };
        self.window.capacity() + state
    }

    /// Some of a message is not known: nor is it known to those that refer to it.
    pub(super) fn lose(&mut self, spare: &mut Vec<Decompress>) {
        self.end(spare);
        if self.has_context {
            (self.window, self.is_lost) = (Vec::new(), true);
        }
    }

    /// Decompresses the next bytes of a message, and passes them to `sink` in pieces. They may become `most` bytes; `made` is how
    /// many they have become.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        is_last: bool,
        (spare, buffer): (&mut Vec<Decompress>, &mut [u8]),
        (most, made): (u64, &mut u64),
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), Undecodable> {
        if self.is_lost {
            return Err(Undecodable);
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => {
                let mut active = spare.pop().unwrap_or_else(|| Decompress::new(false));
                self.begin(&mut active)?;
                active
            }
        };
        let mut sink = |piece: &[u8]| {
            *made += piece.len() as u64;
            if *made > most {
                return Err(Undecodable);
            }
            sink(piece);
            Ok(())
        };
        let result = self
            .inflate(&mut active, bytes, buffer, &mut sink)
            .and_then(|()| {
                if is_last {
                    self.inflate(&mut active, &END, buffer, &mut sink)
                } else {
                    Ok(())
                }
            });
        self.active = Some(active);
        if result.is_err() {
            self.lose(spare);
        } else if is_last {
            self.end(spare);
        }
        result
    }

    fn begin(&self, active: &mut Decompress) -> Result<(), Undecodable> {
        active.reset(false);
        if self.window.is_empty() {
            return Ok(());
        }
        let set = active.set_dictionary(&self.window);
        set.map(|_| ()).map_err(|_| Undecodable)
    }

    fn end(&mut self, spare: &mut Vec<Decompress>) {
        if let Some(active) = self.active.take()
            && spare.len() < INFLATERS_SPARE_MAX
        {
            spare.push(active);
        }
        if !self.has_context {
            self.window = Vec::new();
        }
    }

    fn inflate(
        &mut self,
        active: &mut Decompress,
        bytes: &[u8],
        buffer: &mut [u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), Undecodable>,
    ) -> Result<(), Undecodable> {
        let mut rest = bytes;
        loop {
            let (taken, made) = (active.total_in(), active.total_out());
            let status = active
                .decompress(rest, buffer, FlushDecompress::Sync)
                .map_err(|_| Undecodable)?;
            let taken = usize::try_from(active.total_in() - taken).map_err(|_| Undecodable)?;
            let made = usize::try_from(active.total_out() - made).map_err(|_| Undecodable)?;
            rest = rest.get(taken..).unwrap_or_default();
            let piece = buffer.get(..made).unwrap_or_default();
            self.remember(piece);
            sink(piece)?;
            match status {
                // A block that is marked as the last one is not the last of the message (§7.2.3.4).
                Status::StreamEnd => {
                    self.begin(active)?;
                    if rest.is_empty() {
                        return Ok(());
                    }
                }
                Status::Ok | Status::BufError => {
                    let is_full = made == buffer.len();
                    if rest.is_empty() && !is_full {
                        return Ok(());
                    }
                    if taken == 0 && made == 0 {
                        return Err(Undecodable);
                    }
                }
            }
        }
    }

    /// Keeps what later blocks may refer to: those of the same message, too, where one was marked as the last.
    fn remember(&mut self, piece: &[u8]) {
        let kept = piece.len().min(INFLATE_WINDOW_BYTES);
        let kept = piece.get(piece.len() - kept..).unwrap_or_default();
        let excess = (self.window.len() + kept.len()).saturating_sub(INFLATE_WINDOW_BYTES);
        self.window.drain(..excess);
        self.window.extend_from_slice(kept);
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// Compresses messages as a peer does, with or without context.
    struct Peer {
        compress: Compress,
        has_context: bool,
    }

    impl Peer {
        fn new(has_context: bool) -> Self {
            Self {
                compress: Compress::new(Compression::default(), false),
                has_context,
            }
        }

        fn message(&mut self, text: &[u8]) -> Vec<u8> {
            let mut out = Vec::with_capacity(text.len() + 1000);
            self.compress
                .compress_vec(text, &mut out, FlushCompress::Sync)
                .unwrap();
            if !self.has_context {
                self.compress.reset();
            }
            out.strip_suffix(&END).unwrap().to_vec()
        }
    }

    fn inflated(
        inflater: &mut Inflater,
        message: &[u8],
        length: usize,
    ) -> Result<Vec<u8>, Undecodable> {
        let (mut spare, mut buffer, mut out) = (Vec::new(), [0; 100], Vec::new());
        let mut parts = message.chunks(length).peekable();
        if message.is_empty() {
            let most = (u64::MAX, &mut 0);
            inflater.feed(&[], true, (&mut spare, &mut buffer), most, |piece| {
                out.extend_from_slice(piece);
            })?;
        }
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            let most = (u64::MAX, &mut 0);
            inflater.feed(part, is_last, (&mut spare, &mut buffer), most, |piece| {
                out.extend_from_slice(piece);
            })?;
        }
        Ok(out)
    }

    #[test]
    fn what_messages_become_in_a_second_is_bounded() {
        const MESSAGES: u64 = 50;
        let bomb = Peer::new(false).message(&vec![0; 4 << 20]);
        let (mut inflaters, mut spare) = (Inflaters::default(), Vec::new());
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut feed = |second: u64| {
            let (mut made, mut inflater) = (0, Inflater::new(false));
            let most = inflaters.room(bomb.len(), Timestamp::from_parts(second, 0));
            let tools = (&mut spare, &mut *buffer);
            let result = inflater.feed(&bomb, true, tools, (most, &mut made), |_| {});
            inflaters.spend(bomb.len(), made);
            (result, made)
        };
        assert_eq!(feed(1), (Ok(()), 4 << 20));
        let mut all = 0;
        for _ in 0..MESSAGES {
            all += feed(1).1;
        }
        let most = INFLATE_EXCESS_BYTES_MAX + MESSAGES * (free(bomb.len()) + BUFFER_BYTES as u64);
        assert!(all < most && feed(1).0 == Err(Undecodable), "{all}");
        assert_eq!(feed(2), (Ok(()), 4 << 20), "the next second");
    }

    #[test]
    fn messages_with_and_without_context() {
        for has_context in [true, false] {
            for length in [1, 2, 7, 1000, usize::MAX] {
                let (mut peer, mut inflater) = (Peer::new(has_context), Inflater::new(has_context));
                for number in 0..60 {
                    let text = format!("message {number} of many, {}", "more ".repeat(number * 40));
                    let message = peer.message(text.as_bytes());
                    let found = inflated(&mut inflater, &message, length).unwrap();
                    assert_eq!(
                        String::from_utf8_lossy(&found),
                        text,
                        "{has_context} {length}"
                    );
                    assert!(inflater.window.len() <= INFLATE_WINDOW_BYTES);
                    assert!(has_context || inflater.window.is_empty());
                }
            }
        }
    }

    #[test]
    fn the_examples_of_rfc_7692() {
        let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
        let again = b"\xf2\x00\x11\x00\x00";
        let stored = b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00";
        let last = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00";
        let two = b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
        for length in [1, 3, usize::MAX] {
            let mut inflater = Inflater::new(true);
            for message in [&hello[..], again, stored, last, again, two] {
                assert_eq!(
                    inflated(&mut inflater, message, length).unwrap(),
                    b"Hello",
                    "{message:x?}"
                );
            }
            assert_eq!(inflated(&mut inflater, b"\x00", length).unwrap(), b"");
        }
    }

    #[test]
    fn what_refers_to_a_lost_message_is_not_decompressed() {
        let (mut peer, mut inflater) = (Peer::new(true), Inflater::new(true));
        let first = peer.message(b"the first message");
        inflated(&mut inflater, &first, 5).unwrap();
        inflater.lose(&mut Vec::new());
        let second = peer.message(b"the first message again");
        assert_eq!(inflated(&mut inflater, &second, 5), Err(Undecodable));
        let (mut peer, mut inflater) = (Peer::new(false), Inflater::new(false));
        inflater.lose(&mut Vec::new());
        let message = peer.message(b"alone");
        assert_eq!(inflated(&mut inflater, &message, 5).unwrap(), b"alone");
        assert_eq!(
            inflated(&mut inflater, b"\xff\xff\xff", 5),
            Err(Undecodable)
        );
    }

    #[test]
    fn elements() {
        let element = |bytes: &[u8], kind, is_cut| {
            let mut out = Vec::new();
            write_element(bytes, kind, is_cut, 1000, &mut out);
            String::from_utf8(out).unwrap()
        };
        let (text, binary) = (MessageKind::Text, MessageKind::Binary);
        assert_eq!(element(b" {\"k\": 1}\n", text, false), "{\"k\": 1}");
        assert_eq!(element(b"{\"k\": 1}", binary, false), r#""{\"k\": 1}""#);
        assert_eq!(element(b"[1]", text, true), "\"[1]\"");
        assert_eq!(element(b"1", text, false), "\"1\"");
        assert_eq!(
            element(b"a\"\n\x01\xff", binary, false),
            "\"a\\\"\\n\\u0001\u{fffd}\""
        );
    }
}
