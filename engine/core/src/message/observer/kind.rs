//! What the messages within a body are.

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::message) enum Kind {
    /// An event of an event stream, with data.
    Event,
    /// One document of several, each on a line.
    Line,
    /// One of a remote procedure call.
    Message {
        /// Its coding is to be undone.
        is_compressed: bool,
    },
    /// The trailers behind the messages of gRPC-Web.
    Trailers {
        /// As of a message.
        is_compressed: bool,
    },
    /// The end of a stream of Connect.
    Last {
        /// As of a message.
        is_compressed: bool,
    },
    /// A message of which bytes were never captured.
    Torn,
}

impl Kind {
    /// Whether what it names counts as a message.
    pub(super) const fn is_message(self) -> bool {
        matches!(self, Self::Event | Self::Line | Self::Message { .. })
    }
}
