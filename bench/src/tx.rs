//! Senders that put batches of frames on an interface as fast as one core can.
//!
//! There are three kinds: [`messages`] (`sendmmsg`), [`ring`] (a mapped ring that the kernel sends from) and [`live`] (XDP
//! frames that enter the receive path of an interface), which is the fastest. None of them keeps a queue or inspects
//! frames; bounds: [`Batch`] and those of each kind. Only for interfaces that a bench or a test made itself.

mod batch;
pub mod live;
pub mod messages;
pub mod ring;
mod socket;

use std::io;

use serde::{Deserialize, Serialize};

pub use self::batch::Batch;
use self::socket::interface_index;

/// The kinds of senders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SenderKind {
    /// `sendmmsg` that bypasses the queueing discipline, on the near end of the cable
    #[default]
    Messages,
    /// A mapped PACKET_TX_RING that bypasses the queueing discipline, on the near end
    Ring,
    /// XDP live frames, straight into the receive path of the far end: more than a million a second
    Live,
}

impl SenderKind {
    /// The name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Ring => "ring",
            Self::Live => "live",
        }
    }
}

/// A sender of one of the three kinds.
#[derive(Debug)]
pub enum PacketSender {
    /// See [`SenderKind::Messages`].
    Messages(messages::Messages),
    /// See [`SenderKind::Ring`].
    Ring(ring::TxRing),
    /// See [`SenderKind::Live`].
    Live(live::LiveFrames),
}

impl PacketSender {
    /// Opens it on `interface` in the network namespace of the calling thread. [`SenderKind::Live`] needs the receiving end,
    /// and the sending thread must be in that namespace. Needs CAP_NET_RAW; [`SenderKind::Live`] also needs CAP_BPF and
    /// CAP_NET_ADMIN.
    pub fn open(interface: &str, kind: SenderKind) -> io::Result<Self> {
        let index = interface_index(interface)?;
        Ok(match kind {
            SenderKind::Messages => Self::Messages(messages::Messages::open(index)?),
            SenderKind::Ring => Self::Ring(ring::TxRing::open(index)?),
            SenderKind::Live => Self::Live(live::LiveFrames::open(index)?),
        })
    }

    /// The number of frames to collect before [`Self::send`].
    pub fn batch_max(&self) -> usize {
        match self {
            Self::Messages(_) => messages::BATCH_MAX,
            Self::Ring(_) => ring::BATCH_MAX,
            Self::Live(_) => live::BATCH_MAX,
        }
    }

    /// Sends frames of `batch` in order from the `first` on, and returns how many were taken: at least one, or an
    /// error for that one.
    pub fn send(&mut self, batch: &Batch, first: usize) -> io::Result<usize> {
        match self {
            Self::Messages(sender) => sender.send(batch, first),
            Self::Ring(sender) => sender.send(batch, first),
            Self::Live(sender) => sender.send(batch, first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        for kind in [SenderKind::Messages, SenderKind::Ring, SenderKind::Live] {
            assert!(PacketSender::open("nosuchinterface", kind).is_err());
        }
    }
}
