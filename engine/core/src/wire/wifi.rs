//! IEEE 802.11 data frames as a card in monitor mode delivers them, with or without a radiotap header (radiotap.org).
//!
//! ```text
//! radiotap: version 0 | pad 1 | length 2 | present 4, repeated while bit 31 | fields     little-endian
//! 802.11:   control 2 | duration 2 | addresses 18 | sequence 2 | address 6 if ToDS and FromDS | QoS 2 | HT 4 | 802.2
//! ```
//!
//! Encrypted, fragmented and aggregated frames are not read.

use crate::reader::Reader;

use super::{Broken, Split, ethernet, skip};

const PRESENT_TSFT: u32 = 1;
const PRESENT_FLAGS: u32 = 1 << 1;
const PRESENT_MORE: u32 = 1 << 31;
/// Radiotap flag: the 802.11 header is padded to a multiple of four.
const FLAG_PADDED: u8 = 0x20;

const TYPE_MASK: u8 = 0x0c;
const TYPE_DATA: u8 = 0x08;
const SUBTYPE_NO_DATA: u8 = 0x40;
const SUBTYPE_QOS: u8 = 0x80;
const BOTH_DS: u8 = 0x03;
const MORE_FRAGMENTS: u8 = 0x04;
const PROTECTED: u8 = 0x40;
const ORDER: u8 = 0x80;
const QOS_AGGREGATED: u8 = 0x80;

/// Splits off the radiotap header and that of a data frame, and returns the EtherType of what follows; `None` for all
/// frames that carry nothing readable.
pub fn split_radiotap(bytes: &[u8]) -> Split<'_, Option<u16>> {
    let Some((&[version, _, l0, l1], _)) = bytes.split_first_chunk() else {
        return Err(Broken::Truncated);
    };
    if version != 0 {
        return Err(Broken::Malformed);
    }
    let (header, frame) = bytes
        .split_at_checked(usize::from(u16::from_le_bytes([l0, l1])))
        .ok_or(Broken::Truncated)?;
    split_frame(frame, is_padded(header).unwrap_or(false))
}

/// Splits off the header of a data frame without radiotap.
pub fn split(bytes: &[u8]) -> Split<'_, Option<u16>> {
    split_frame(bytes, false)
}

/// Reads the flags field, which only the timestamp can precede.
fn is_padded(header: &[u8]) -> Option<bool> {
    let mut reader = Reader::new(header);
    reader.take(4)?;
    let first = reader.u32()?.swap_bytes();
    let mut present = first;
    while present & PRESENT_MORE != 0 {
        present = reader.u32()?.swap_bytes();
    }
    if first & PRESENT_TSFT != 0 {
        let at = header.len() - reader.len();
        reader.take(at.next_multiple_of(8) - at + 8)?;
    }
    Some(first & PRESENT_FLAGS != 0 && reader.u8()? & FLAG_PADDED != 0)
}

fn split_frame(bytes: &[u8], is_padded: bool) -> Split<'_, Option<u16>> {
    let mut reader = Reader::new(bytes);
    let Some(&[kind, flags]) = reader.take_array() else {
        return Err(Broken::Truncated);
    };
    let is_data = kind & TYPE_MASK == TYPE_DATA && kind & SUBTYPE_NO_DATA == 0;
    if !is_data || flags & (MORE_FRAGMENTS | PROTECTED) != 0 {
        return Ok((None, reader.rest()));
    }
    reader.take(20).ok_or(Broken::Truncated)?;
    let &[sequence, _] = reader.take_array().ok_or(Broken::Truncated)?;
    if flags & BOTH_DS == BOTH_DS {
        reader.take(6).ok_or(Broken::Truncated)?;
    }
    let mut is_aggregated = false;
    if kind & SUBTYPE_QOS != 0 {
        let &[qos, _] = reader.take_array().ok_or(Broken::Truncated)?;
        is_aggregated = qos & QOS_AGGREGATED != 0;
        reader
            .take(if flags & ORDER != 0 { 4 } else { 0 })
            .ok_or(Broken::Truncated)?;
    }
    if sequence & 0x0f != 0 || is_aggregated {
        return Ok((None, reader.rest()));
    }
    let header_bytes = bytes.len() - reader.len();
    let content = if is_padded {
        skip(bytes, header_bytes.next_multiple_of(4))?
    } else {
        reader.rest()
    };
    let (header, after) = ethernet::split_llc(content);
    Ok((header.ether_type, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAP: [u8; 9] = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 7];

    #[track_caller]
    fn check(control: [u8; 2], more_header: &[u8], expected: Option<u16>) {
        let bytes = [&control[..], &[0; 22], more_header, &SNAP].concat();
        assert_eq!(
            split(&bytes).map(|(ether_type, _)| ether_type),
            Ok(expected)
        );
        let radiotap = [&[0, 0, 8, 0, 0, 0, 0, 0][..], &bytes].concat();
        assert_eq!(split_radiotap(&radiotap), split(&bytes));
    }

    #[test]
    fn data_frames_of_all_lengths() {
        check([0x08, 1], &[], Some(ethernet::IPV4));
        check([0x08, 3], &[0; 6], Some(ethernet::IPV4));
        check([0x88, 1], &[0; 2], Some(ethernet::IPV4));
        check([0x88, 0x81], &[0; 6], Some(ethernet::IPV4));
    }

    #[test]
    fn what_cannot_be_read_gives_none() {
        check([0x80, 0], &[], None);
        check([0x48, 1], &[], None);
        check([0x08, 0x41], &[], None);
        check([0x08, 5], &[], None);
        check([0x88, 1], &[0x80, 0], None);
    }

    #[test]
    fn padding_is_announced_by_radiotap() {
        let frame = [&[0x88, 1][..], &[0; 24], &[0, 0], &SNAP].concat();
        // The flags follow a timestamp that is aligned to eight.
        let header = [&[0, 0, 25, 0, 3, 0, 0, 0][..], &[9; 8], &[0x20], &[0; 8]].concat();
        let bytes = [header, frame].concat();
        assert_eq!(split_radiotap(&bytes), Ok((Some(ethernet::IPV4), &[7][..])));
        assert_eq!(split_radiotap(&bytes[..20]), Err(Broken::Truncated));
        assert_eq!(split_radiotap(&[1, 0, 4, 0]), Err(Broken::Malformed));
    }
}
