//! Capture files: the classic pcap format with nanoseconds, little-endian, Ethernet.
//!
//! Source: draft-ietf-opsawg-pcap. Only files of this format are read.

use std::io::{self, Read, Write};

use super::wire::Frame;

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;
/// The maximum of tcpdump; common readers refuse longer records.
const SNAP_BYTES_MAX: usize = 262_144;

/// Writes `frames`, each cut to the snap length `snap`.
pub fn write_pcap(out: &mut impl Write, frames: &[Frame], snap: usize) -> io::Result<()> {
    let snap = snap.min(SNAP_BYTES_MAX);
    out.write_all(&MAGIC_NANOSECONDS.to_le_bytes())?;
    // Version 2.4, two unused words.
    out.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    out.write_all(&(snap as u32).to_le_bytes())?;
    out.write_all(&LINKTYPE_ETHERNET.to_le_bytes())?;
    for frame in frames {
        let captured = &frame.bytes[..frame.bytes.len().min(snap)];
        let words = [
            (frame.time / 1_000_000_000) as u32,
            (frame.time % 1_000_000_000) as u32,
            captured.len() as u32,
            frame.bytes.len() as u32,
        ];
        for word in words {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(captured)?;
    }
    out.flush()
}

/// Reads a file that [`write_pcap`] wrote.
pub fn read_pcap(input: &mut impl Read) -> io::Result<Vec<Frame>> {
    let mut header = [0; 24];
    input.read_exact(&mut header)?;
    if header[..4] != MAGIC_NANOSECONDS.to_le_bytes()
        || header[20..] != LINKTYPE_ETHERNET.to_le_bytes()
    {
        let only = "only little-endian pcap with nanoseconds and Ethernet is read here";
        return Err(io::Error::new(io::ErrorKind::InvalidData, only));
    }
    let mut rest = Vec::new();
    input.read_to_end(&mut rest)?;
    let mut frames = Vec::new();
    let mut left = rest.as_slice();
    while let Some((record, after)) = left.split_first_chunk::<16>() {
        let word = |at: usize| {
            u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
        };
        let Some((bytes, after)) = after.split_at_checked(word(8) as usize) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let time = u64::from(word(0)) * 1_000_000_000 + u64::from(word(4));
        frames.push(Frame {
            time,
            bytes: bytes.to_vec(),
        });
        left = after;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let frames = [
            Frame {
                time: 1_767_225_600_123_456_789,
                bytes: vec![1; 60],
            },
            Frame {
                time: 1_767_225_601_000_000_000,
                bytes: vec![2; 1514],
            },
        ];
        let mut file = Vec::new();
        write_pcap(&mut file, &frames, usize::MAX).unwrap();
        assert_eq!(read_pcap(&mut file.as_slice()).unwrap(), frames);
    }

    #[test]
    fn a_snap_length_cuts_and_the_wire_length_stays() {
        let mut file = Vec::new();
        write_pcap(
            &mut file,
            &[Frame {
                time: 0,
                bytes: vec![7; 100],
            }],
            64,
        )
        .unwrap();
        assert_eq!(file.len(), 24 + 16 + 64);
        assert_eq!(file[24 + 8..24 + 16], [64, 0, 0, 0, 100, 0, 0, 0]);
    }
}
