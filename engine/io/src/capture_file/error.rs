//! Why a capture file cannot be read, or not further: message E080.

use std::{fmt, io};

use crate::diagnostic::system_words;
use crate::limits::CAPTURE_PACKET_BYTES_MAX;

/// What went wrong, with which file, and where in it.
#[derive(Debug)]
pub struct Error {
    file: String,
    cause: Cause,
}

/// What went wrong. `packets` counts those read before it, `at` is the byte in the (decompressed) file.
#[derive(Debug)]
pub(super) enum Cause {
    /// The file cannot be opened.
    Open(io::Error),
    /// Neither pcap nor pcapng.
    NotACapture { begins: Vec<u8> },
    /// A version of pcap that is not defined.
    Version { major: u16, minor: u16 },
    /// All packets are of a link type that is not read.
    LinkType { format: &'static str, number: u32 },
    /// The file ends within a packet or block.
    Cut { packets: u64 },
    /// A packet claims more bytes than a packet can have.
    PacketTooLong { packets: u64, at: u64, len: u32 },
    /// A block contradicts itself or an earlier block.
    Damaged {
        packets: u64,
        at: u64,
        what: &'static str,
    },
    /// The operating system or the decompressor reported an error.
    Read {
        packets: u64,
        at: u64,
        error: io::Error,
    },
}

impl Error {
    /// Its number in the list of messages.
    pub const CODE: &'static str = "E080";

    pub(super) fn new(file: &str, cause: Cause) -> Self {
        Self {
            file: file.to_owned(),
            cause,
        }
    }

    /// Whether the file merely ends early: all packets before the cut were good.
    pub fn is_cut(&self) -> bool {
        matches!(self.cause, Cause::Cut { .. })
    }

    /// Whether the input has nothing to read yet: the next packet may be there later.
    pub fn is_waiting(&self) -> bool {
        self.cause.is_waiting()
    }

    /// Whether the process or the system has no descriptor left.
    pub fn is_out_of_descriptors(&self) -> bool {
        let Cause::Open(error) = &self.cause else {
            return false;
        };
        matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    }
}

impl Cause {
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Self::Read { error, .. } if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, with the number of packets before it.
    pub(super) fn after(mut self, count: u64) -> Self {
        match &mut self {
            Self::Cut { packets }
            | Self::PacketTooLong { packets, .. }
            | Self::Damaged { packets, .. }
            | Self::Read { packets, .. } => *packets = count,
            Self::Open(_)
            | Self::NotACapture { .. }
            | Self::Version { .. }
            | Self::LinkType { .. } => {}
        }
        self
    }

    /// The same, with the position of the first byte of the block.
    pub(super) fn located(mut self, position: u64) -> Self {
        if let Self::PacketTooLong { at, .. } | Self::Damaged { at, .. } = &mut self {
            *at = position;
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(f, "cannot be opened: {}", system_words(error)),
            Self::NotACapture { begins } if begins.is_empty() => {
                write!(f, "is empty, not a capture file")
            }
            Self::NotACapture { begins } => {
                write!(f, "neither pcap nor pcapng (begins with")?;
                for byte in begins {
                    write!(f, " {byte:02x}")?;
                }
                write!(f, ")")
            }
            Self::Version { major, minor } => {
                write!(f, "pcap version {major}.{minor} (only 2.x is known)")
            }
            Self::LinkType { format, number } => {
                write!(f, "{format} with link type {number} (not supported)")
            }
            Self::Cut { packets: 0 } => {
                write!(f, "cut before the first packet (file still being written?)")
            }
            Self::Cut { packets } => {
                write!(f, "cut after packet {packets} (file still being written?)")
            }
            Self::PacketTooLong { packets, at, len } => write!(
                f,
                "packet {} at byte {at} claims {len} bytes, more than any packet has ({CAPTURE_PACKET_BYTES_MAX}); \
                 the file is damaged there",
                packets + 1
            ),
            Self::Damaged { packets, at, what } => {
                write!(f, "damaged after packet {packets}, at byte {at}: {what}")
            }
            Self::Read { packets, at, error } => {
                write!(
                    f,
                    "cannot be read after packet {packets}, at byte {at}: {}",
                    system_words(error)
                )
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Open(error) | Cause::Read { error, .. } => Some(error),
            _ => None,
        }
    }
}
