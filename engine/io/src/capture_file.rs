//! Capture files in, frames out: pcap and pcapng, plain, gzip or zstd, from a path or standard input.
//!
//! Formats are recognised by their first bytes, never by a file name. Memory is constant: one window of the file, at
//! least as long as the longest packet, which [`CAPTURE_PACKET_BYTES_MAX`](crate::limits::CAPTURE_PACKET_BYTES_MAX) bounds. A file that ends within a packet gives
//! all packets before the cut and then [`Error`] with [`Error::is_cut`]; after any error there are no more packets. The
//! one exception is input that has nothing to read yet (`WouldBlock`): [`Error::is_waiting`], and the next call goes on.
//!
//! The crate `pcap-parser` was tried first and now checks the result in a test. It reads the time offset of big-endian
//! sections as little-endian, refuses time resolutions that are powers of two, returns padding as data of simple packet
//! blocks, does not support the obsolete packet block, rejects a packet because of a damaged option after it, collects
//! the options of every packet in a vector, and keeps neither the position nor the cause of a failed read.

mod error;
mod pcap;
mod pcapng;
mod record;
#[cfg(test)]
mod tests;
mod window;

use std::fs::File;
use std::io::{self, Read};

use engine_core::decap::{Frame, LinkType};
use engine_core::time::Timestamp;

use error::Cause;
pub use error::Error;
use record::Record;
use window::{WINDOW_BYTES, Window};

/// The path that means standard input.
pub const STDIN: &str = "-";

/// What messages call it.
pub const STDIN_NAME: &str = "standard input";

const MAGIC_GZIP: [u8; 2] = [0x1f, 0x8b];
const MAGIC_ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An open capture file.
pub struct CaptureFile {
    name: String,
    window: Window,
    format: Format,
    /// The next packet, if its time was looked at before it was taken.
    ahead: Option<Record>,
    progress: Progress,
}

enum Format {
    /// The first bytes have not been read yet.
    Unknown,
    /// These are the first bytes of what was decompressed.
    Decompressed,
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
    /// The end or an error was reached: there are no more packets.
    Finished,
}

/// What was read so far.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    packets: u64,
    /// Packets of a link type that is read.
    readable: u64,
    /// The first link type that is not read.
    unsupported: Option<u32>,
    /// Packets shorter than on the wire.
    cut: u64,
    time: Timestamp,
}

impl CaptureFile {
    /// Opens a file, or standard input for `-`, and reads its header.
    pub fn open(path: &str) -> Result<Self, Error> {
        if path == STDIN {
            return Self::from_reader(STDIN_NAME, io::stdin());
        }
        Self::from_reader(path, open_input(path)?)
    }

    /// Reads a capture from anywhere; `name` is for messages.
    pub fn from_reader(name: &str, input: impl Read + 'static) -> Result<Self, Error> {
        Self::with_window(name, input, WINDOW_BYTES)
    }

    /// The same with another number of bytes that are read at once.
    pub fn with_window(
        name: &str,
        input: impl Read + 'static,
        window_bytes: usize,
    ) -> Result<Self, Error> {
        let mut file = Self {
            name: name.to_owned(),
            window: Window::new(Box::new(input), window_bytes),
            format: Format::Unknown,
            ahead: None,
            progress: Progress::default(),
        };
        match file.detect() {
            Err(cause) if !cause.is_waiting() => Err(Error::new(name, cause)),
            _ => Ok(file),
        }
    }

    /// The next packet, `None` at the end.
    ///
    /// The first packet is number 1 in messages. A packet without a time (pcapng's simple ones) gets that of the packet
    /// before it.
    #[expect(
        clippy::should_implement_trait,
        reason = "constant memory needs items that borrow from the reader, which an iterator cannot give"
    )]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Error> {
        let record = match self.ahead.take() {
            Some(record) => Some(record),
            None => self.record()?,
        };
        Ok(record.map(|record| self.frame(record)))
    }

    /// The time of the packet that [`Self::next`] will give, `None` at the end.
    pub fn next_time(&mut self) -> Result<Option<Timestamp>, Error> {
        if self.ahead.is_none() {
            self.ahead = self.record()?;
        }
        Ok(self
            .ahead
            .map(|record| record.time.unwrap_or(self.progress.time)))
    }

    /// Packets read so far.
    pub fn packets(&self) -> u64 {
        self.progress.packets
    }

    /// Of these, packets of which the capture kept less than was on the wire (a small snap length).
    pub fn packets_cut(&self) -> u64 {
        self.progress.cut
    }

    /// The first link type that is not read, by its LINKTYPE number.
    pub fn unsupported_link_type(&self) -> Option<u32> {
        self.progress.unsupported
    }

    fn record(&mut self) -> Result<Option<Record>, Error> {
        self.window.release();
        let found = self.detect().and_then(|()| match &mut self.format {
            Format::Pcap(header) => header.next(&mut self.window),
            Format::Pcapng(section) => section.next(&mut self.window),
            Format::Unknown | Format::Decompressed | Format::Finished => Ok(None),
        });
        match found {
            Ok(Some(record)) => Ok(Some(record)),
            Err(cause) if cause.is_waiting() => Err(Error::new(&self.name, cause)),
            Ok(None) if matches!(self.format, Format::Finished) => Ok(None),
            Ok(None) => {
                self.format = Format::Finished;
                self.whole_file_unreadable().map_or(Ok(None), Err)
            }
            Err(cause) => {
                self.format = Format::Finished;
                let cause = cause.after(self.progress.packets);
                Err(Error::new(&self.name, cause))
            }
        }
    }

    /// Recognises compression and format, unless that is done.
    fn detect(&mut self) -> Result<(), Cause> {
        if matches!(self.format, Format::Unknown) {
            decompress(&mut self.window)?;
            self.format = Format::Decompressed;
        }
        if matches!(self.format, Format::Decompressed) {
            self.format = Format::detect(&mut self.window)?;
        }
        Ok(())
    }

    fn frame(&mut self, record: Record) -> Frame<'_> {
        let progress = &mut self.progress;
        progress.packets += 1;
        progress.cut += u64::from(record.wire_len as usize > record.len);
        progress.time = record.time.unwrap_or(progress.time);
        match record.link {
            LinkType::Other(number) => progress.unsupported = progress.unsupported.or(Some(number)),
            _ => progress.readable += 1,
        }
        let bytes = self.window.borrow(record.start, record.len, record.total);
        Frame {
            time: progress.time,
            link: record.link,
            bytes,
            wire_len: record.wire_len,
            vlan: None,
        }
    }

    /// The error at the end of a file that had packets, none of a link type that is read.
    fn whole_file_unreadable(&self) -> Option<Error> {
        let number = self
            .progress
            .unsupported
            .filter(|_| self.progress.readable == 0)?;
        let format = "pcapng interface";
        Some(Error::new(&self.name, Cause::LinkType { format, number }))
    }
}

/// Opens the file of a capture; the error names it.
pub fn open_input(path: &str) -> Result<File, Error> {
    File::open(path).map_err(|error| Error::new(path, Cause::Open(error)))
}

impl Format {
    fn detect(window: &mut Window) -> Result<Self, Cause> {
        if let Some(header) = pcap::Header::read(window)? {
            return Ok(Self::Pcap(header));
        }
        if pcapng::is_section(window)? {
            return Ok(Self::Pcapng(pcapng::Section::default()));
        }
        if window.is_cut() {
            return Err(Cause::Cut { packets: 0 });
        }
        Err(Cause::NotACapture {
            begins: window.peek(4)?.to_vec(),
        })
    }
}

/// Decompresses gzip and zstd, recognised by their magic numbers.
fn decompress(window: &mut Window) -> Result<(), Cause> {
    let magic = window.peek(MAGIC_ZSTD.len())?;
    if magic.starts_with(&MAGIC_GZIP) {
        window.decode(|input| Ok(Box::new(flate2::read::MultiGzDecoder::new(input))))
    } else if magic == MAGIC_ZSTD {
        window.decode(|input| Ok(Box::new(zstd::stream::read::Decoder::new(input)?)))
    } else {
        Ok(())
    }
}
