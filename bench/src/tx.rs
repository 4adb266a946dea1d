//! Frames onto an interface as fast as one core can: a batch in, the number that went out.
//!
//! Three ways, from the plainest to the fastest: [`messages`] (`sendmmsg`), [`ring`] (a mapped ring that the kernel
//! sends from) and [`live`] (XDP frames that enter an interface's receive path). None of them keeps a queue or looks
//! at what it sends; bounds: [`Batch`] and each way's own. Only for interfaces that a bench or a test made itself.

mod batch;
pub mod live;
pub mod messages;
pub mod ring;
mod socket;

use std::io;

use serde::{Deserialize, Serialize};

pub use self::batch::Batch;
use self::socket::interface_index;

/// How frames get onto the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SenderKind {
    /// `sendmmsg` without a queueing discipline, out of the near end of a cable
    #[default]
    Messages,
    /// A mapped PACKET_TX_RING without a queueing discipline, out of the near end
    Ring,
    /// XDP live frames, straight into the receive path of the far end: above a million a second
    Live,
}

impl SenderKind {
    /// For the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Ring => "ring",
            Self::Live => "live",
        }
    }
}

/// A sender, one of three kinds.
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
    /// Opens it on `interface` of the calling thread's network namespace; [`SenderKind::Live`] wants the receiving end, and
    /// the sending thread in that namespace. Needs CAP_NET_RAW, and CAP_BPF with CAP_NET_ADMIN for [`SenderKind::Live`].
    pub fn open(interface: &str, way: SenderKind) -> io::Result<Self> {
        let index = interface_index(interface)?;
        Ok(match way {
            SenderKind::Messages => Self::Messages(messages::Messages::open(index)?),
            SenderKind::Ring => Self::Ring(ring::TxRing::open(index)?),
            SenderKind::Live => Self::Live(live::LiveFrames::open(index)?),
        })
    }

    /// Frames that are worth collecting before [`Self::send`].
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
        for way in [SenderKind::Messages, SenderKind::Ring, SenderKind::Live] {
            assert!(PacketSender::open("nosuchinterface", way).is_err());
        }
    }
}
