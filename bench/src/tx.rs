//! Frames onto an interface as fast as one core can: a batch in, the number that went out.
//!
//! Three ways, from the plainest to the fastest: [`messages`] (`sendmmsg`), [`ring`] (a mapped ring that the kernel
//! sends from) and [`live`] (XDP frames that enter an interface's receive path). None of them keeps a queue or looks
//! at what it sends; bounds: [`Batch`] and each way's own. Only for interfaces that a bench or a test made itself.
#![expect(
    unsafe_code,
    reason = "packet sockets that send, and if_nametoindex, have no safe wrapper among the dependencies"
)]

pub mod live;
pub mod messages;
pub mod ring;

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use serde::{Deserialize, Serialize};

/// How frames get onto the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// `sendmmsg` without a queueing discipline, out of the near end of a cable
    #[default]
    Messages,
    /// A mapped PACKET_TX_RING without a queueing discipline, out of the near end
    Ring,
    /// XDP live frames, straight into the receive path of the far end: above a million a second
    Live,
}

impl Way {
    /// For the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Ring => "ring",
            Self::Live => "live",
        }
    }
}

/// Frames that go out together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// Forgets all frames and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds what `write` appends as one frame, if it says that it did.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let is_added = write(&mut self.bytes);
        if is_added {
            self.ends.push(self.bytes.len());
        }
        is_added
    }

    /// Frames in it.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The frames from the `first` on.
    pub fn frames(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        let mut start = match first {
            0 => 0,
            _ => self.ends[first - 1],
        };
        self.ends[first..].iter().map(move |&end| {
            let frame = &self.bytes[start..end];
            start = end;
            frame
        })
    }
}

/// Somebody who sends.
#[derive(Debug)]
pub enum PacketSender {
    /// See [`Way::Messages`].
    Messages(messages::Messages),
    /// See [`Way::Ring`].
    Ring(ring::TxRing),
    /// See [`Way::Live`].
    Live(live::LiveFrames),
}

impl PacketSender {
    /// Opens it on `interface` of the calling thread's network namespace; [`Way::Live`] wants the receiving end, and
    /// the sending thread in that namespace. Needs CAP_NET_RAW, and CAP_BPF with CAP_NET_ADMIN for [`Way::Live`].
    pub fn open(interface: &str, way: Way) -> io::Result<Self> {
        let index = interface_index(interface)?;
        Ok(match way {
            Way::Messages => Self::Messages(messages::Messages::open(index)?),
            Way::Ring => Self::Ring(ring::TxRing::open(index)?),
            Way::Live => Self::Live(live::LiveFrames::open(index)?),
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

/// A packet socket bound to `interface` that only sends, past the queueing discipline; `prepare` sees it before it is
/// bound.
fn sending_socket(
    interface: i32,
    prepare: impl FnOnce(&OwnedFd) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; protocol 0 keeps the kernel from queueing received frames to it.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    let fd = check(fd)?;
    // SAFETY: `fd` was opened above and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    set_packet_option(&fd, libc::PACKET_QDISC_BYPASS, &on)?;
    prepare(&fd)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: `address` outlives the call, and the length is its own.
    let bound = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    check(bound)?;
    Ok(fd)
}

fn set_packet_option<T>(fd: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` outlives the call, and the length is its own.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(set).map(drop)
}

fn interface_index(name: &str) -> io::Result<i32> {
    let name = CString::new(name)?;
    // SAFETY: `name` ends with a NUL and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index as i32),
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        for way in [Way::Messages, Way::Ring, Way::Live] {
            assert!(PacketSender::open("nosuchinterface", way).is_err());
        }
    }

    #[test]
    fn a_batch_gives_its_frames_back() {
        let mut batch = Batch::default();
        for frame in ["one", "two", "three"] {
            assert!(batch.add(|out| {
                out.extend_from_slice(frame.as_bytes());
                true
            }));
        }
        assert!(!batch.add(|_| false));
        assert_eq!(batch.len(), 3);
        let texts = |first| -> Vec<&[u8]> { batch.frames(first).collect() };
        assert_eq!(texts(0), [b"one".as_slice(), b"two", b"three"]);
        assert_eq!(texts(2), [b"three"]);
        assert!(texts(3).is_empty());
    }
}
