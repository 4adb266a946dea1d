//! One conversation in every encapsulation, through `sniffer read`: the calls are the same, and annotated with the
//! encapsulation. Here belongs what lies around a TCP segment; single headers are tested in the unit tests.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use bench::traffic::{
    Body, Coding, Conversation, Exchange, Frame as Made, Framing, Side, Vxlan, Wire, write_pcap,
};
use tests::truth;

use crate::live_read;

const ETHERNET: u32 = 1;
const PPP: u32 = 9;
const RAW: u32 = 101;
const LOOP: u32 = 108;
const NULL: u32 = 0;
const SLL: u32 = 113;
const SLL2: u32 = 276;

/// Keep-alive, a body in many segments each way, chunks, a coding.
fn talk(ipv6: bool) -> Conversation {
    let body = |text: &str, coding, framing| Body {
        plain: text.repeat(300).into_bytes(),
        coding,
        framing,
    };
    let posted = Exchange {
        method: "POST".into(),
        request_body: body("posted text ", Coding::Identity, Framing::Length),
        response_body: body("chunked text ", Coding::Identity, Framing::Chunked(700)),
        ..Exchange::get(2, "/posted", "")
    };
    let coded = Exchange {
        response_body: body("coded text ", Coding::Gzip, Framing::Length),
        ..Exchange::get(3, "/coded", "")
    };
    let talk = Conversation {
        mss: 1_100,
        ..Conversation::new(vec![Exchange::get(1, "/", "first"), posted, coded])
    };
    match ipv6 {
        false => talk,
        true => Conversation {
            client: "[fd00::2]:40000".parse().expect("an address"),
            server: "[fd00::1]:80".parse().expect("an address"),
            ..talk
        },
    }
}

fn be16(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("it fits").to_be_bytes()
}

fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ether_type.to_be_bytes(), payload].concat()
}

/// An IPv4 packet between two other hosts; `options` in words of four bytes.
fn ipv4(protocol: u8, id: u16, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let start = [
        &[0x40 | (header / 4) as u8, 0][..],
        &be16(header + payload.len()),
        &id.to_be_bytes(),
        &fragment.to_be_bytes(),
        &[64, protocol, 0, 0, 192, 168, 7, 1, 192, 168, 7, 2],
    ];
    [&start.concat(), options, payload].concat()
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut address = [0xfd; 32];
    (address[15], address[31]) = (1, 2);
    let start = [&[0x60, 0, 0, 0][..], &be16(payload.len()), &[next, 64]];
    [&start.concat(), &address[..], payload].concat()
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = be16(8 + payload.len());
    [
        &[200, 1][..],
        &port.to_be_bytes(),
        &length,
        &[0, 0],
        payload,
    ]
    .concat()
}

fn outer(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(protocol, 1, 0, &[], payload))
}

/// The IP packet of an Ethernet frame, without padding.
fn packet(frame: &[u8]) -> &[u8] {
    let packet = &frame[14..];
    let at = |index: usize| usize::from(u16::from_be_bytes([packet[index], packet[index + 1]]));
    let length = match packet[0] >> 4 {
        4 => at(2),
        _ => 40 + at(4),
    };
    &packet[..length]
}

fn ether_type(frame: &[u8]) -> [u8; 2] {
    [frame[12], frame[13]]
}

/// `flags` of RFC 2784 and RFC 2890: checksum, key and sequence number, each with its word.
fn gre(flags: u8, key: u32, protocol: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let mut header = vec![flags, 0, protocol[0], protocol[1]];
    for (flag, word) in [(0x80, 0xbeef_0000), (0x20, key), (0x10, 77)] {
        if flags & flag != 0 {
            header.extend_from_slice(&word.to_be_bytes());
        }
    }
    outer(47, &[&header, payload].concat())
}

/// A frame's packet in GRE with a key.
pub(crate) fn gre_with_key(frame: &[u8], key: u32) -> Vec<u8> {
    gre(0x20, key, ether_type(frame), packet(frame))
}

/// One frame of the conversation, and its number, as the frames that carry it.
type Wrap = fn(&[u8], u16) -> Vec<Vec<u8>>;

struct Wrapping {
    name: &'static str,
    link: u32,
    wrap: Wrap,
    encapsulation: Option<&'static str>,
    vni: Option<&'static str>,
}

const fn plain(name: &'static str, wrap: Wrap) -> Wrapping {
    linked(name, ETHERNET, wrap)
}

const fn linked(name: &'static str, link: u32, wrap: Wrap) -> Wrapping {
    Wrapping {
        name,
        link,
        wrap,
        encapsulation: None,
        vni: None,
    }
}

const fn tunnel(
    name: &'static str,
    encapsulation: &'static str,
    vni: Option<&'static str>,
    wrap: Wrap,
) -> Wrapping {
    Wrapping {
        encapsulation: Some(encapsulation),
        vni,
        ..linked(name, ETHERNET, wrap)
    }
}

fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

/// Between IP header and TCP: hop-by-hop options, a routing header at its end, destination options.
fn with_extensions(frame: &[u8]) -> Vec<u8> {
    let packet = packet(frame);
    if packet[0] >> 4 == 4 {
        let (header, payload) = packet.split_at(20);
        let mut optional = ipv4(6, 1, 0, &[1, 1, 1, 1, 1, 1, 1, 0], payload);
        optional[12..20].copy_from_slice(&header[12..20]);
        return ethernet(0x0800, &optional);
    }
    let (header, payload) = packet.split_at(40);
    let pad = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let routing = [60, 0, 4, 0, 0, 0, 0, 0];
    let extensions = [pad(43), routing, pad(6)].concat();
    let mut long = ipv6(0, &[&extensions, payload].concat());
    long[8..40].copy_from_slice(&header[8..40]);
    ethernet(0x86dd, &long)
}

const WRAPPINGS: &[Wrapping] = &[
    plain("ethernet", |frame, _| vec![frame.to_vec()]),
    plain("three tags", |frame, _| {
        let tags = [[0x91, 0, 0, 5], [0x88, 0xa8, 0, 6], [0x81, 0, 0, 7]];
        vec![tagged(frame, &tags)]
    }),
    plain("IP options and extension headers", |frame, _| {
        vec![with_extensions(frame)]
    }),
    plain("MPLS, three labels", |frame, _| {
        let labels = [0, 1, 0, 9, 0, 2, 0, 9, 0, 3, 1, 9];
        vec![ethernet(0x8847, &[&labels, packet(frame)].concat())]
    }),
    plain("PPPoE", |frame, _| {
        let packet = packet(frame);
        let ppp = if packet[0] >> 4 == 4 { 0x21 } else { 0x57 };
        let length = be16(2 + packet.len());
        let head = [&[0x11, 0, 0, 9][..], &length, &[0, ppp]].concat();
        vec![ethernet(0x8864, &[&head, packet].concat())]
    }),
    linked("PPP", PPP, |frame, _| {
        let packet = packet(frame);
        let ppp = if packet[0] >> 4 == 4 { 0x21 } else { 0x57 };
        vec![[&[0xff, 3, 0, ppp], packet].concat()]
    }),
    linked("raw IP", RAW, |frame, _| vec![packet(frame).to_vec()]),
    linked("BSD loopback", NULL, |frame, _| {
        let packet = packet(frame);
        let family = if packet[0] >> 4 == 4 { 2 } else { 30 };
        vec![[&[family, 0, 0, 0], packet].concat()]
    }),
    linked("OpenBSD loopback", LOOP, |frame, _| {
        let packet = packet(frame);
        let family = if packet[0] >> 4 == 4 { 2 } else { 24 };
        vec![[&[0, 0, 0, family], packet].concat()]
    }),
    linked("Linux cooked", SLL, |frame, _| {
        vec![[&[0; 14], &ether_type(frame)[..], packet(frame)].concat()]
    }),
    linked("Linux cooked 2", SLL2, |frame, _| {
        vec![[&ether_type(frame)[..], &[0; 18], packet(frame)].concat()]
    }),
    tunnel("IP in IP, 6in4", "ipip", None, |frame, _| {
        let packet = packet(frame);
        let protocol = if packet[0] >> 4 == 4 { 4 } else { 41 };
        vec![outer(protocol, packet)]
    }),
    tunnel("4in6, IPv6 in IPv6", "ipip", None, |frame, _| {
        let packet = packet(frame);
        let next = if packet[0] >> 4 == 4 { 4 } else { 41 };
        vec![ethernet(0x86dd, &ipv6(next, packet))]
    }),
    tunnel("GRE", "gre", None, |frame, _| {
        vec![gre(0, 0, ether_type(frame), packet(frame))]
    }),
    tunnel("GRE with checksum", "gre", None, |frame, _| {
        vec![gre(0x80, 0, ether_type(frame), packet(frame))]
    }),
    tunnel("GRE with sequence", "gre", None, |frame, _| {
        vec![gre(0x10, 0, ether_type(frame), packet(frame))]
    }),
    tunnel("GRE with all of it", "gre", Some("4242"), |frame, _| {
        vec![gre(0xb0, 4242, ether_type(frame), packet(frame))]
    }),
    tunnel("GRE around Ethernet", "gre", Some("7"), |frame, _| {
        vec![gre(0x20, 7, [0x65, 0x58], frame)]
    }),
    tunnel("ERSPAN I", "erspan", None, |frame, _| {
        vec![gre(0, 0, [0x88, 0xbe], frame)]
    }),
    tunnel("ERSPAN II", "erspan", Some("6"), |frame, _| {
        let head = [0x10, 5, 0, 6, 0, 0, 0, 0];
        vec![gre(0x10, 0, [0x88, 0xbe], &[&head, frame].concat())]
    }),
    tunnel("ERSPAN III", "erspan", Some("6"), |frame, _| {
        let head = [0x20, 5, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0];
        vec![gre(0x10, 0, [0x22, 0xeb], &[&head, frame].concat())]
    }),
    tunnel(
        "ERSPAN III and its platform's words",
        "erspan",
        Some("6"),
        |frame, _| {
            let head = [
                0x20, 5, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
            ];
            vec![gre(0x10, 0, [0x22, 0xeb], &[&head, frame].concat())]
        },
    ),
    tunnel("VXLAN", "vxlan", Some("123"), |frame, _| {
        vec![Vxlan::new(123).wrap(Side::Client, 1, frame)]
    }),
    tunnel(
        "VXLAN over IPv6, tags inside",
        "vxlan",
        Some("123"),
        |frame, _| {
            let tagged = tagged(frame, &[[0x81, 0, 0, 7]]);
            let head = [8, 0, 0, 0, 0, 0, 123, 0];
            let datagram = udp(4789, &[&head, &tagged[..]].concat());
            vec![ethernet(0x86dd, &ipv6(17, &datagram))]
        },
    ),
    tunnel("GENEVE with options", "geneve", Some("123"), |frame, _| {
        vec![Vxlan::geneve(123).wrap(Side::Client, 1, frame)]
    }),
    tunnel("GENEVE around VXLAN", "vxlan", Some("123"), |frame, _| {
        // As gateway load balancers do: a mirror's packets, each in GENEVE without Ethernet, with options.
        let mirrored = Vxlan::new(123).wrap(Side::Client, 1, frame);
        let head = [2, 0, 8, 0, 0, 0, 0, 0, 1, 8, 1, 1, 0, 0, 0, 7];
        let datagram = udp(6081, &[&head, packet(&mirrored)].concat());
        vec![outer(17, &datagram)]
    }),
    plain("fragments", |frame, number| {
        cut(frame, number, 400, Order::Forth)
    }),
    plain("fragments backwards", |frame, number| {
        cut(frame, number, 400, Order::Back)
    }),
    plain("fragments that overlap and lie", |frame, number| {
        cut(frame, number, 160, Order::Overlapping)
    }),
    tunnel(
        "VXLAN in fragments that overlap and lie",
        "vxlan",
        Some("123"),
        |frame, number| {
            let mirrored = Vxlan::new(123).wrap(Side::Client, 1, frame);
            cut(&mirrored, number, 240, Order::Overlapping)
        },
    ),
    tunnel(
        "VXLAN over IPv6 in fragments",
        "vxlan",
        Some("123"),
        |frame, number| {
            let head = [8, 0, 0, 0, 0, 0, 123, 0];
            let datagram = udp(4789, &[&head, frame].concat());
            let mirrored = ethernet(0x86dd, &ipv6(17, &datagram));
            cut(&mirrored, number, 320, Order::Back)
        },
    ),
    tunnel(
        "fragments in VXLAN in fragments",
        "vxlan",
        Some("123"),
        |frame, number| {
            let inner = cut(frame, number, 400, Order::Overlapping);
            let outer = (0..).zip(&inner).flat_map(|(piece, inner)| {
                let mirrored = Vxlan::new(123).wrap(Side::Client, 1, inner);
                cut(&mirrored, number * 32 + piece, 120, Order::Back)
            });
            outer.collect()
        },
    ),
];

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Forth,
    Back,
    /// Each piece reaches into the next, which comes after it, with other bytes: the first ones win.
    Overlapping,
}

/// The packet of a frame in fragments of about `size` bytes.
fn cut(frame: &[u8], number: u16, size: usize, order: Order) -> Vec<Vec<u8>> {
    let packet = packet(frame);
    let header_bytes = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let (header, payload) = packet.split_at(header_bytes);
    let size = size / 8 * 8;
    let mut pieces: Vec<Vec<u8>> = (0..payload.len())
        .step_by(size)
        .map(|at| {
            // Eight false bytes before the piece's own; another piece has the true ones.
            let overlap = if order == Order::Overlapping && at > 0 {
                8
            } else {
                0
            };
            let end = (at + size).min(payload.len());
            let bytes = [&vec![b'X'; overlap], &payload[at..end]].concat();
            fragment(header, number, at - overlap, end < payload.len(), &bytes)
        })
        .collect();
    if order == Order::Back {
        pieces.reverse();
    }
    pieces
}

fn fragment(header: &[u8], number: u16, at: usize, more: bool, bytes: &[u8]) -> Vec<u8> {
    if header[0] >> 4 == 4 {
        let field = (at / 8) as u16 | if more { 0x2000 } else { 0 };
        let mut packet = ipv4(header[9], number, field, &[], bytes);
        packet[12..20].copy_from_slice(&header[12..20]);
        return ethernet(0x0800, &packet);
    }
    let [high, low] = (at as u16 | u16::from(more)).to_be_bytes();
    let [id1, id0] = number.to_be_bytes();
    let extension = [header[6], 0, high, low, 0, 0, id1, id0];
    let mut packet = ipv6(44, &[&extension, bytes].concat());
    packet[8..40].copy_from_slice(&header[8..40]);
    ethernet(0x86dd, &packet)
}

/// Rows of `sniffer read` on these frames of a link type.
fn read(link: u32, frames: &[Made]) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x.pcap");
    let mut file = Vec::new();
    write_pcap(&mut file, frames, usize::MAX)?;
    file[20..24].copy_from_slice(&link.to_le_bytes());
    fs::write(&path, &file)?;
    truth::rows(&live_read::read(&path, &live_read::SETTINGS)?.0)
}

/// The conversation of one wrapping: each has a port and call numbers of its own, so that all can be in one file.
fn talk_in(which: u16, ipv6: bool) -> Conversation {
    let mut talk = talk(ipv6);
    talk.client.set_port(40_000 + which);
    for exchange in &mut talk.exchanges {
        exchange.number += u64::from(which) * 10;
    }
    talk
}

fn wrapped(wrapping: &Wrapping, talk: &Conversation, frames: &mut Vec<Made>) {
    let wire = Wire::default();
    for (number, segment) in (1..).zip(&talk.segments()) {
        let frame = wire.frame(talk, segment);
        let carried = (wrapping.wrap)(&frame.bytes, number).into_iter();
        frames.extend(carried.map(|bytes| Made {
            time: segment.time,
            bytes,
        }));
    }
}

fn check(wrapping: &Wrapping, talk: &Conversation, rows: &[Row]) -> Result<()> {
    let port = talk.client.port().to_string();
    let is_ours = |row: &&Row| value(row, "custom_field:client_port") == Some(&port);
    let rows: Vec<Row> = rows.iter().filter(is_ours).cloned().collect();
    truth::check_all(&talk.exchanges, &rows)?;
    for row in &rows {
        let reported = ["encapsulation", "vni", "missing_bytes"]
            .map(|name| value(row, &format!("custom_field:{name}")));
        let expected = [wrapping.encapsulation, wrapping.vni, None];
        ensure!(reported == expected, "{reported:?} instead of {expected:?}");
    }
    Ok(())
}

#[test]
fn every_wrapping_gives_the_same_calls() -> Result<()> {
    let mut wrong = Vec::new();
    for link in [ETHERNET, PPP, RAW, LOOP, NULL, SLL, SLL2] {
        let of_link = (0..).zip(WRAPPINGS).filter(|(_, one)| one.link == link);
        let talks: Vec<_> = of_link
            .flat_map(|(number, one)| [false, true].map(|ipv6| (one, 2 * number, ipv6)))
            .map(|(one, number, ipv6)| (one, talk_in(number + u16::from(ipv6), ipv6)))
            .collect();
        let mut frames = Vec::new();
        for (wrapping, talk) in &talks {
            wrapped(wrapping, talk, &mut frames);
        }
        let rows = read(link, &frames)?;
        let exchanges: usize = talks.iter().map(|(_, talk)| talk.exchanges.len()).sum();
        ensure!(
            rows.len() == exchanges,
            "{} of {exchanges} calls",
            rows.len()
        );
        for (wrapping, talk) in &talks {
            let error = check(wrapping, talk, &rows).err();
            wrong.extend(
                error.map(|error| format!("{}, {}: {error:#}", wrapping.name, talk.client)),
            );
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A mirror that leaves 400 bytes of each frame: exactly the bytes that it cut are missing, in the bodies that it cut, and Ethernet's
/// padding of short frames is no payload.
#[test]
fn a_mirror_that_cuts_takes_what_it_cuts_and_no_more() -> Result<()> {
    const LEFT: usize = 400;
    let mut talk = talk(false);
    // A coding cannot be read on after a gap, and the next chunk is not found.
    talk.exchanges[1].response_body.framing = Framing::Length;
    talk.exchanges[2].response_body.coding = Coding::Identity;
    talk.exchanges.push(Exchange::get(4, "/last", "short"));
    for tunnel in [None, Some(Vxlan::new(5))] {
        let wire = Wire {
            mirror_cut: Some(LEFT),
            vxlan: tunnel,
            ..Wire::default()
        };
        let segments = talk.segments();
        let frames: Vec<Made> = segments
            .iter()
            .map(|segment| wire.frame(&talk, segment))
            .collect();
        let rows = read(ETHERNET, &frames)?;
        let numbered = truth::by_number(&rows)?;
        ensure!(numbered.len() == 4, "{rows:?}");
        // Headers of 54 bytes.
        let cut = |side: Side| -> usize {
            let of_side = segments.iter().filter(|segment| segment.side == side);
            let cut = of_side.map(|segment| (segment.payload.len() + 54).saturating_sub(LEFT));
            cut.sum()
        };
        let missing = |number: u64| -> Result<usize> {
            let row = numbered.get(&number).context("reported")?;
            let missing = value(row, "custom_field:missing_bytes");
            Ok(missing.map_or(Ok(0), str::parse)?)
        };
        assert_eq!((missing(1)?, missing(4)?), (0, 0));
        for number in [1, 4] {
            let exchange = &talk.exchanges[number as usize - 1];
            ensure!(
                truth::difference(exchange, numbered[&number]).is_none(),
                "{number}"
            );
        }
        for number in [2, 3] {
            let exchange = &talk.exchanges[number as usize - 1];
            ensure!(
                truth::difference_of_heads(exchange, numbered[&number]).is_none(),
                "{number}"
            );
        }
        // The request of the second call, the responses of the second and third.
        let requests = cut(Side::Client);
        let responses = cut(Side::Server);
        assert_eq!(missing(2)? + missing(3)?, requests + responses);
        ensure!(requests > 1_000 && responses > 1_000);
    }
    Ok(())
}
