//! The walk over one block of a TPACKET_V3 ring: bytes in, frames out. Safe code over a slice.
//!
//! Every offset that the kernel wrote is checked against the block; what does not fit ends the walk, and
//! [`Frames::left`] is the number of frames that were not read. Layout: `include/uapi/linux/if_packet.h`, all fields in host
//! byte order:
//!
//! ```text
//! block   0 version  4 offset_to_priv  8 block_status  12 num_pkts  16 offset_to_first_pkt  20 blk_len  24 seq_num
//! frame   0 next_offset  4 sec  8 nsec  12 snaplen  16 len  20 status  24 mac(16)  26 net(16)
//!         28 rxhash  32 vlan_tci  36 vlan_tpid(16)   48 sockaddr_ll: hardware type(16) at +8, packet type(8) at +10
//!         mac: the frame
//! ```

use std::mem::{offset_of, size_of};

use libc::{
    PACKET_OUTGOING, TP_STATUS_VLAN_TPID_VALID, TP_STATUS_VLAN_VALID, sockaddr_ll,
    tpacket_block_desc, tpacket_hdr_v1, tpacket_hdr_variant1, tpacket3_hdr,
};

use super::prefetch::Prefetch;

/// Where `block_status` stands in a block: the one word that kernel and program both write.
pub(super) const STATUS_OFFSET: usize =
    offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, block_status);

/// First byte of a block that belongs to us alone while we hold it.
pub(super) const AFTER_STATUS: usize = STATUS_OFFSET + size_of::<u32>();

const NUM_PKTS: usize = offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, num_pkts);
const FIRST_PKT: usize =
    offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, offset_to_first_pkt);
const BLK_LEN: usize = offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, blk_len);

const HEADER_BYTES: usize = size_of::<tpacket3_hdr>();
const LINK_BYTES: usize = size_of::<sockaddr_ll>();
const VLAN_TCI: usize =
    offset_of!(tpacket3_hdr, hv1) + offset_of!(tpacket_hdr_variant1, tp_vlan_tci);
const VLAN_TPID: usize =
    offset_of!(tpacket3_hdr, hv1) + offset_of!(tpacket_hdr_variant1, tp_vlan_tpid);
const HATYPE: usize = HEADER_BYTES + offset_of!(sockaddr_ll, sll_hatype);
const PKTTYPE: usize = HEADER_BYTES + offset_of!(sockaddr_ll, sll_pkttype);

const _: () = assert!(STATUS_OFFSET == 8 && NUM_PKTS == 12 && FIRST_PKT == 16 && BLK_LEN == 20);
const _: () = assert!(
    HEADER_BYTES == 48
        && LINK_BYTES == 20
        && VLAN_TCI == 32
        && VLAN_TPID == 36
        && HATYPE == 56
        && PKTTYPE == 58
);

/// The EtherType of an 802.1Q tag, meant where the kernel names none.
const TPID_8021Q: u16 = 0x8100;

/// One captured frame, borrowed from the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFrame<'block> {
    /// When the kernel saw it: seconds since 1970 (32 bits in the ring).
    pub seconds: u32,
    /// Nanoseconds of that second.
    pub nanos: u32,
    /// The captured bytes, from the link-layer header on. Shorter than `wire_len` when the kernel cut the frame.
    pub bytes: &'block [u8],
    /// Bytes that were on the wire.
    pub wire_len: u32,
    /// The VLAN tag that the kernel or the card took out of the frame.
    pub vlan_tci: Option<u16>,
    /// Its EtherType; 0 when there is no tag.
    pub vlan_tpid: u16,
    /// Sent by this host (`PACKET_OUTGOING`).
    pub outgoing: bool,
    /// The hardware type of its interface (`ARPHRD_*`).
    pub hardware: u16,
    /// `TP_STATUS_*` bits of the frame.
    pub status: u32,
}

/// The frames of one block, in the kernel's order.
#[derive(Clone, Debug)]
pub struct Frames<'block> {
    /// The block without its first [`AFTER_STATUS`] bytes, cut at the length that the kernel filled.
    block: &'block [u8],
    /// Offset of the next frame header in `block`.
    at: usize,
    left: u32,
    prefetch: Prefetch,
}

impl<'block> Frames<'block> {
    /// Frames of a block, given as its bytes after the status word.
    pub fn new(after_status: &'block [u8]) -> Self {
        let Some(header) = after_status.first_chunk::<{ HEADER_BYTES - AFTER_STATUS }>() else {
            return Self {
                block: &[],
                at: 0,
                left: 0,
                prefetch: Prefetch::default(),
            };
        };
        let filled = (word(header, BLK_LEN - AFTER_STATUS) as usize).saturating_sub(AFTER_STATUS);
        let first = word(header, FIRST_PKT - AFTER_STATUS) as usize;
        let mut frames = Self {
            block: after_status.get(..filled).unwrap_or(after_status),
            at: first.checked_sub(AFTER_STATUS).unwrap_or(usize::MAX),
            left: word(header, NUM_PKTS - AFTER_STATUS),
            prefetch: Prefetch::default(),
        };
        frames.prefetch.look_ahead(frames.block, frames.at);
        frames
    }

    /// Frames that the block should have and that were not read yet. Not zero after the end: the block was malformed.
    pub fn left(&self) -> u32 {
        self.left
    }
}

impl RingFrame<'_> {
    /// Whether the frame starts with an Ethernet header, by the hardware type of its interface.
    #[inline]
    pub fn is_ethernet(&self) -> bool {
        matches!(self.hardware, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK)
    }
}

impl<'block> Iterator for Frames<'block> {
    type Item = RingFrame<'block>;

    #[inline]
    fn next(&mut self) -> Option<RingFrame<'block>> {
        if self.left == 0 {
            return None;
        }
        let rest = self.block.get(self.at..)?;
        let header = rest.first_chunk::<HEADER_BYTES>()?;
        let start = usize::from(half(header, offset_of!(tpacket3_hdr, tp_mac)));
        let length = word(header, offset_of!(tpacket3_hdr, tp_snaplen)) as usize;
        let bytes = rest.get(start..start.checked_add(length)?)?;
        let status = word(header, offset_of!(tpacket3_hdr, tp_status));
        let vlan_tci = (status & TP_STATUS_VLAN_VALID != 0).then(|| word(header, VLAN_TCI) as u16);
        let vlan_tpid = match vlan_tci {
            None => 0,
            Some(_) if status & TP_STATUS_VLAN_TPID_VALID != 0 => half(header, VLAN_TPID),
            Some(_) => TPID_8021Q,
        };

        self.left -= 1;
        // Zero stands in the last frame only. Elsewhere it would give the same frame again, so it ends the walk.
        self.at = match word(header, offset_of!(tpacket3_hdr, tp_next_offset)) as usize {
            0 => usize::MAX,
            next => self.at.saturating_add(next),
        };
        self.prefetch.look_ahead(self.block, self.at);
        Some(RingFrame {
            seconds: word(header, offset_of!(tpacket3_hdr, tp_sec)),
            nanos: word(header, offset_of!(tpacket3_hdr, tp_nsec)),
            bytes,
            wire_len: word(header, offset_of!(tpacket3_hdr, tp_len)),
            vlan_tci,
            vlan_tpid,
            outgoing: rest.get(PKTTYPE) == Some(&PACKET_OUTGOING),
            hardware: rest
                .get(HATYPE..)
                .and_then(<[u8]>::first_chunk)
                .map_or(0, |&bytes| u16::from_ne_bytes(bytes)),
            status,
        })
    }
}

/// Four bytes in host order. `at` is one of the constants above, so the slice always fits.
#[inline]
fn word<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_ne_bytes(bytes)
}

/// Two bytes in host order, as [`word`].
#[inline]
fn half<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_ne_bytes([header[at], header[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block as the kernel would write it: what `Frames` reads back.
    fn block(frames: &[(u32, &[u8], u32, u8)]) -> Vec<u8> {
        let mut block = vec![0; 4096];
        let put = |block: &mut [u8], at: usize, value: u32| {
            block[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(&mut block, NUM_PKTS, frames.len() as u32);
        put(&mut block, FIRST_PKT, 48);
        let mut at = 48;
        for (index, &(seconds, bytes, status, pkttype)) in frames.iter().enumerate() {
            let step = (82 + bytes.len()).next_multiple_of(8);
            put(
                &mut block,
                at,
                if index + 1 == frames.len() {
                    0
                } else {
                    step as u32
                },
            );
            put(&mut block, at + 4, seconds);
            put(&mut block, at + 8, 7);
            put(&mut block, at + 12, bytes.len() as u32);
            put(&mut block, at + 16, bytes.len() as u32 + 1);
            put(&mut block, at + 20, status);
            block[at + 24..at + 26].copy_from_slice(&82_u16.to_ne_bytes());
            put(&mut block, at + 32, 42);
            block[at + 36..at + 38].copy_from_slice(&0x88a8_u16.to_ne_bytes());
            block[at + 56..at + 58].copy_from_slice(&772_u16.to_ne_bytes());
            block[at + 58] = pkttype;
            block[at + 82..at + 82 + bytes.len()].copy_from_slice(bytes);
            at += step;
        }
        put(&mut block, BLK_LEN, at as u32);
        block.split_off(AFTER_STATUS)
    }

    #[test]
    fn reads_what_the_kernel_wrote() {
        let both = TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
        let block = block(&[
            (1, b"one", 1, 0),
            (2, b"", both, PACKET_OUTGOING),
            (3, b"three", TP_STATUS_VLAN_VALID, 3),
        ]);
        let mut frames = Frames::new(&block);
        let read: Vec<_> = frames.by_ref().collect();
        let frame =
            |seconds, bytes: &'static [u8], vlan_tci, vlan_tpid, outgoing, status| RingFrame {
                seconds,
                nanos: 7,
                bytes,
                wire_len: bytes.len() as u32 + 1,
                vlan_tci,
                vlan_tpid,
                outgoing,
                hardware: libc::ARPHRD_LOOPBACK,
                status,
            };
        assert_eq!(
            read,
            [
                frame(1, b"one", None, 0, false, 1),
                frame(2, b"", Some(42), 0x88a8, true, both),
                frame(3, b"three", Some(42), 0x8100, false, TP_STATUS_VLAN_VALID),
            ]
        );
        assert_eq!(frames.left(), 0);
    }

    /// `change` spoils a good block of three frames; `read` frames come out and `left` are counted as unread.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<u8>), read: usize, left: u32) {
        let mut bytes = block(&[(1, b"one", 1, 0), (2, b"two", 1, 0), (3, b"three", 1, 0)]);
        change(&mut bytes);
        let mut frames = Frames::new(&bytes);
        assert_eq!((frames.by_ref().count(), frames.left()), (read, left));
        assert_eq!(frames.next(), None, "the end stays the end");
    }

    #[test]
    fn a_spoiled_block_ends_the_walk() {
        let first = 48 - AFTER_STATUS;
        let word_at = |at: usize, value: u32| {
            move |block: &mut Vec<u8>| block[at..at + 4].copy_from_slice(&value.to_ne_bytes())
        };
        check(|_| {}, 3, 0);
        check(|block| block.truncate(20), 0, 0);
        check(|block| block.truncate(first + 10), 0, 3);
        check(|block| block.truncate(first + 100), 1, 2);
        check(word_at(NUM_PKTS - AFTER_STATUS, 5), 3, 2);
        check(word_at(NUM_PKTS - AFTER_STATUS, 0), 0, 0);
        check(word_at(FIRST_PKT - AFTER_STATUS, 4), 0, 3);
        check(word_at(FIRST_PKT - AFTER_STATUS, u32::MAX), 0, 3);
        check(word_at(BLK_LEN - AFTER_STATUS, 100), 0, 3);
        check(word_at(first, 0), 1, 2);
        check(word_at(first, u32::MAX), 1, 2);
        check(word_at(first + 12, 5000), 0, 3);
        check(word_at(first + 12, u32::MAX), 0, 3);
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20_000 {
            let mut bytes = block(&[(1, b"one", 1, 0), (2, b"two", 1, 0), (3, b"three", 1, 0)]);
            bytes.truncate(random() as usize % 500);
            for _ in 0..random() % 8 {
                let at = random() as usize % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random() as u8;
                }
            }
            // A hostile count of frames must not make the walk long: each step moves on or ends it.
            assert!(Frames::new(&bytes).count() <= bytes.len());
        }
    }
}
