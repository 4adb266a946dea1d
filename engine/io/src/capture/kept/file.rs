//! A capture file of kept packets: pcapng (draft-ietf-opsawg-pcapng), since interfaces with and without a link header may be in one
//! file, and since it can state what is missing.
//!
//! The comment of the section is the coverage: what was wanted, from when on packets are kept, what did not fit, and what rings lost.

use std::fmt::Write as _;

use store::date;

use super::record::{Chunk, Header};
use super::search::Found;
use crate::control::{WantedConnection, WantedPackets};
use crate::limits::PACKETS_FILE_BYTES_MAX;
use crate::quantity::bytes as shown;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

/// Options of blocks: their end, a comment, the program that wrote the section, the name of an interface, the unit of times.
const END: u16 = 0;
const COMMENT: u16 = 1;
const PROGRAM: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;

/// Times are in units of 10^-9 s.
const NANOSECONDS: u8 = 9;

/// LINKTYPE_ETHERNET, LINKTYPE_RAW.
const LINKS: [(u16, &str); 2] = [(1, "Ethernet"), (101, "IP without a link header")];

/// Where a VLAN tag stands in an Ethernet frame, and its length. The kernel removes its type as well, which is 802.1Q for all but the
/// outer one of two.
const VLAN_AT: usize = 12;
const VLAN_BYTES: usize = 4;
const VLAN_TYPE: [u8; 2] = [0x81, 0];

/// Writes the records that were found.
pub(super) fn write(
    chunks: &[Chunk],
    found: &Found,
    wanted: &WantedPackets,
    dropped: u64,
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut section = Vec::new();
    section.extend(0x1a2b_3c4d_u32.to_le_bytes());
    section.extend([1_u16.to_le_bytes(), 0_u16.to_le_bytes()].concat());
    // The length of the section is not given.
    section.extend(u64::MAX.to_le_bytes());
    option(
        &mut section,
        COMMENT,
        coverage(found, wanted, dropped).as_bytes(),
    );
    option(&mut section, PROGRAM, b"sniffer");
    option(&mut section, END, &[]);
    block(&mut file, SECTION, &section);
    for (link, name) in LINKS {
        let mut interface = link.to_le_bytes().to_vec();
        interface.extend([0; 6]);
        option(&mut interface, NAME, name.as_bytes());
        option(&mut interface, RESOLUTION, &[NANOSECONDS]);
        option(&mut interface, END, &[]);
        block(&mut file, INTERFACE, &interface);
    }
    let mut body = Vec::new();
    for place in &found.records {
        let chunk = chunks.get(place.chunk);
        let Some((header, bytes)) = chunk.and_then(|chunk| Header::read(chunk, place.at)) else {
            continue;
        };
        body.clear();
        packet(&mut body, &header, bytes);
        block(&mut file, PACKET, &body);
    }
    file
}

/// The body of a packet's block.
fn packet(body: &mut Vec<u8>, header: &Header, bytes: &[u8]) {
    let tag = header
        .vlan
        .filter(|_| header.is_ethernet && bytes.len() >= VLAN_AT);
    let more = if tag.is_some() { VLAN_BYTES as u32 } else { 0 };
    for word in [
        u32::from(!header.is_ethernet),
        (header.nanos >> 32) as u32,
        header.nanos as u32,
        header.len + more,
        header.wire_len.saturating_add(more),
    ] {
        body.extend(word.to_le_bytes());
    }
    let (before, after) = bytes.split_at(if tag.is_some() { VLAN_AT } else { 0 });
    body.extend(before);
    if let Some(tag) = tag {
        body.extend(VLAN_TYPE);
        body.extend(tag.to_be_bytes());
    }
    body.extend(after);
}

fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let value = &value[..length.into()];
    block.extend(code.to_le_bytes());
    block.extend(length.to_le_bytes());
    block.extend(value);
    pad(block);
}

fn block(file: &mut Vec<u8>, kind: u32, body: &[u8]) {
    const FRAME_BYTES: usize = 12;
    let length = (FRAME_BYTES + body.len().next_multiple_of(4)) as u32;
    file.extend(kind.to_le_bytes());
    file.extend(length.to_le_bytes());
    file.extend(body);
    pad(file);
    file.extend(length.to_le_bytes());
}

/// Up to a multiple of four, which every part of the file begins at.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// What the file has, and what is missing in it.
fn coverage(found: &Found, wanted: &WantedPackets, dropped: u64) -> String {
    let time = |millis: u64| date::format(i64::try_from(millis).unwrap_or(i64::MAX));
    let mut text = "Packets".to_owned();
    if let Some(WantedConnection {
        client,
        server,
        vni,
    }) = wanted.connection
    {
        let _ = write!(text, " between {client} and {server}");
        if let Some(vni) = vni {
            let _ = write!(text, ", VNI {vni}");
        }
    }
    let (from, until) = (time(wanted.from_millis), time(wanted.until_millis));
    let _ = write!(text, " from {from} until {until}, unmasked.");
    if let Some(oldest) = found
        .kept_from
        .filter(|at| at.millis() > wanted.from_millis)
    {
        let _ = write!(text, " None is kept from before {}.", time(oldest.millis()));
    }
    if found.left_out > 0 {
        let (count, room) = (found.left_out, shown(PACKETS_FILE_BYTES_MAX as u64));
        let _ = write!(
            text,
            " A file has {room} at most: {count} older ones are left out."
        );
    }
    let _ = write!(
        text,
        " {dropped} packets dropped in rings since the start of the capture."
    );
    text
}
