//! Which frames are our own upload: never to be captured, or every bundle would make the next one.
//!
//! A frame is ours when it is TCP from or to one of the destination's addresses at the destination's port, directly on
//! the interface. The kernel drops most of them before they reach a ring ([`OwnUpload::program`]); what it cannot judge
//! (tags left in the frame) is found again here. Tunnelled copies are not looked for.

use std::net::{IpAddr, SocketAddr};

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JA, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX,
    BPF_MSH, BPF_W,
};

use engine_core::decap::{Frame, LinkType};
use engine_sys::packet::{FILTER_INSTRUCTIONS_MAX, Instruction};

/// The destination's addresses.
#[derive(Clone, Debug, Default)]
pub struct OwnUpload {
    endpoints: Vec<SocketAddr>,
}

impl OwnUpload {
    /// Frames from and to `endpoints` are ours.
    pub fn new(endpoints: impl IntoIterator<Item = SocketAddr>) -> Self {
        let canonical =
            |endpoint: SocketAddr| SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port());
        Self {
            endpoints: endpoints.into_iter().map(canonical).collect(),
        }
    }

    /// The same for the kernel, as classic BPF: drops what is ours, passes everything else uncut. None when nothing is
    /// ours, or too much for one program.
    pub fn program(&self) -> Option<Vec<Instruction>> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for endpoint in &self.endpoints {
            match endpoint.ip() {
                IpAddr::V4(address) => drop_v4(&mut v4, address.into(), endpoint.port()),
                IpAddr::V6(address) => drop_v6(&mut v6, address.into(), endpoint.port()),
            }
        }
        let v4 = only_tcp(
            9,
            [
                fragment_passes().as_slice(),
                &[load_header_length()],
                v4.as_slice(),
            ]
            .concat(),
        );
        let v6 = only_tcp(6, v6);
        let mut program = vec![load(
            BPF_W,
            (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32,
        )];
        program.extend([equals(ETHERTYPE_IPV4, 0, 1), skip(1), skip(v4.len() as u32)]);
        program.extend(v4);
        program.extend([equals(ETHERTYPE_IPV6, 1, 0), PASS]);
        program.extend(v6);
        let fits = !self.endpoints.is_empty() && program.len() < FILTER_INSTRUCTIONS_MAX / 2;
        fits.then_some(program)
    }

    /// Whether this frame is ours. Anything that is not plain TCP over IP is not.
    pub fn has(&self, frame: &Frame<'_>) -> bool {
        if self.endpoints.is_empty() {
            return false;
        }
        let Some((source, destination)) = ends(frame) else {
            return false;
        };
        self.endpoints
            .iter()
            .any(|endpoint| *endpoint == source || *endpoint == destination)
    }
}

const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
const PASS: Instruction = Instruction::ret(u32::MAX);
const DROP: Instruction = Instruction::ret(0);

/// Offset `at` in the IP header, wherever that is in the frame.
const fn network(at: u32) -> u32 {
    (libc::SKF_NET_OFF as u32).wrapping_add(at)
}

const fn load(size: u32, at: u32) -> Instruction {
    Instruction::plain(BPF_LD | size | BPF_ABS, at)
}

/// X becomes the length of the IPv4 header.
const fn load_header_length() -> Instruction {
    Instruction::plain(BPF_LDX | BPF_B | BPF_MSH, network(0))
}

const fn equals(value: u32, when: u8, otherwise: u8) -> Instruction {
    Instruction::jump(BPF_JMP | BPF_JEQ | BPF_K, value, when, otherwise)
}

const fn skip(instructions: u32) -> Instruction {
    Instruction::plain(BPF_JMP | BPF_JA, instructions)
}

/// `program` for TCP; whatever else it is, and whatever `program` does not drop, passes.
fn only_tcp(protocol_at: u32, program: Vec<Instruction>) -> Vec<Instruction> {
    let mut whole = vec![load(BPF_B, network(protocol_at)), equals(6, 1, 0), PASS];
    whole.extend(program);
    whole.push(PASS);
    whole
}

/// Only the first fragment of a packet has ports.
fn fragment_passes() -> [Instruction; 3] {
    [
        load(BPF_H, network(6)),
        Instruction::jump(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 0, 1),
        PASS,
    ]
}

fn drop_v4(program: &mut Vec<Instruction>, address: u32, port: u16) {
    for (address_at, port_at) in [(12, 0), (16, 2)] {
        program.extend([
            load(BPF_W, network(address_at)),
            equals(address, 0, 3),
            Instruction::plain(BPF_LD | BPF_H | BPF_IND, network(port_at)),
            equals(u32::from(port), 0, 1),
            DROP,
        ]);
    }
}

fn drop_v6(program: &mut Vec<Instruction>, address: u128, port: u16) {
    for (address_at, port_at) in [(8, 40), (24, 42)] {
        for word in 0..4_u8 {
            let bits = (address >> (96 - 32 * u32::from(word))) as u32;
            // Past the words that are left, the port and the drop.
            let rest = 2 * (3 - word) + 3;
            program.extend([
                load(BPF_W, network(address_at + 4 * u32::from(word))),
                equals(bits, 0, rest),
            ]);
        }
        program.extend([
            load(BPF_H, network(port_at)),
            equals(u32::from(port), 0, 1),
            DROP,
        ]);
    }
}

/// Both ends of a TCP segment.
fn ends(frame: &Frame<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let (kind, packet) = match frame.link {
        LinkType::Ethernet => {
            let (kind, rest) = frame.bytes.get(12..)?.split_first_chunk::<2>()?;
            match kind {
                // One tag that the kernel left in the frame (802.1Q, 802.1ad).
                [0x81, 0x00] | [0x88, 0xa8] => {
                    let (kind, rest) = rest.get(2..)?.split_first_chunk::<2>()?;
                    (*kind, rest)
                }
                kind => (*kind, rest),
            }
        }
        LinkType::RawIp => match frame.bytes.first()? >> 4 {
            4 => ([0x08, 0x00], frame.bytes),
            _ => ([0x86, 0xdd], frame.bytes),
        },
        _ => return None,
    };
    match kind {
        [0x08, 0x00] => {
            let header = packet.first_chunk::<20>()?;
            let &[
                first,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                protocol,
                _,
                _,
                a,
                b,
                c,
                d,
                e,
                f,
                g,
                h,
            ] = header;
            let ports = packet.get(usize::from(first & 0x0f) * 4..)?;
            is_tcp(protocol)?;
            pair(
                ports,
                IpAddr::from([a, b, c, d]),
                IpAddr::from([e, f, g, h]),
            )
        }
        [0x86, 0xdd] => {
            is_tcp(*packet.get(6)?)?;
            let address = |bytes: &[u8]| {
                bytes
                    .first_chunk::<16>()
                    .map(|bytes| IpAddr::from(*bytes).to_canonical())
            };
            pair(
                packet.get(40..)?,
                address(packet.get(8..)?)?,
                address(packet.get(24..)?)?,
            )
        }
        _ => None,
    }
}

fn is_tcp(protocol: u8) -> Option<()> {
    (protocol == 6).then_some(())
}

fn pair(ports: &[u8], source: IpAddr, destination: IpAddr) -> Option<(SocketAddr, SocketAddr)> {
    let &[a, b, c, d] = ports.first_chunk::<4>()?;
    let port = |high, low| u16::from_be_bytes([high, low]);
    Some((
        SocketAddr::new(source, port(a, b)),
        SocketAddr::new(destination, port(c, d)),
    ))
}

#[cfg(test)]
mod tests {
    use engine_core::time::Timestamp;

    use super::*;

    fn ipv4(source: [u8; 4], destination: [u8; 4], ports: [u16; 2], options: usize) -> Vec<u8> {
        let mut packet = vec![0; 20 + options * 4];
        packet[0] = 0x45 + options as u8;
        packet[9] = 6;
        packet[12..16].copy_from_slice(&source);
        packet[16..20].copy_from_slice(&destination);
        for port in ports {
            packet.extend_from_slice(&port.to_be_bytes());
        }
        packet
    }

    fn ethernet(tags: &[[u8; 4]], kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 12];
        for tag in tags {
            bytes.extend_from_slice(tag);
        }
        bytes.extend_from_slice(&kind);
        bytes.extend_from_slice(packet);
        bytes
    }

    #[track_caller]
    fn check(link: LinkType, bytes: &[u8], expected: bool) {
        let own = OwnUpload::new([
            "10.0.0.9:7701".parse().unwrap(),
            "[2001:db8::9]:7701".parse().unwrap(),
        ]);
        let frame = Frame {
            time: Timestamp::ZERO,
            link,
            bytes,
            wire_len: bytes.len() as u32,
            vlan: None,
        };
        assert_eq!(own.has(&frame), expected);
        for cut in 0..bytes.len() {
            let frame = Frame {
                bytes: &bytes[..cut],
                ..frame
            };
            assert!(!own.has(&frame) || expected, "cut at {cut}");
        }
    }

    #[test]
    fn both_directions_of_the_upload_are_ours_and_nothing_else() {
        let there = ipv4([10, 0, 0, 1], [10, 0, 0, 9], [50_000, 7701], 0);
        let back = ipv4([10, 0, 0, 9], [10, 0, 0, 1], [7701, 50_000], 2);
        let other_port = ipv4([10, 0, 0, 1], [10, 0, 0, 9], [50_000, 80], 0);
        let other_host = ipv4([10, 0, 0, 1], [10, 0, 0, 8], [50_000, 7701], 0);
        for (packet, expected) in [
            (&there, true),
            (&back, true),
            (&other_port, false),
            (&other_host, false),
        ] {
            check(LinkType::RawIp, packet, expected);
            check(
                LinkType::Ethernet,
                &ethernet(&[], [0x08, 0x00], packet),
                expected,
            );
            check(
                LinkType::Ethernet,
                &ethernet(&[[0x81, 0x00, 0, 5]], [0x08, 0x00], packet),
                expected,
            );
        }
    }

    #[test]
    fn ipv6_too() {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = 6;
        let address: std::net::Ipv6Addr = "2001:db8::9".parse().unwrap();
        packet[24..40].copy_from_slice(&address.octets());
        packet.extend_from_slice(&[0xc3, 0x50, 0x1e, 0x15]);
        check(LinkType::RawIp, &packet, true);
        packet[6] = 17;
        check(LinkType::RawIp, &packet, false);
    }

    /// The kernel is the judge: connections on loopback to our port and to another one, over IPv4 and IPv6.
    #[test]
    fn the_kernel_drops_our_upload_and_nothing_else() {
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};
        use std::time::{Duration, Instant};

        use engine_sys::packet::{RingOptions, RxRing};

        if !engine_sys::process::may_capture() {
            eprintln!("SKIPPED: needs CAP_NET_RAW");
            return;
        }
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(ours) = TcpListener::bind(host) else {
                eprintln!("SKIPPED: no {host}");
                continue;
            };
            let other = TcpListener::bind(host).unwrap();
            let (ours_at, other_at) = (ours.local_addr().unwrap(), other.local_addr().unwrap());
            let own = OwnUpload::new([
                ours_at,
                "10.9.9.9:7701".parse().unwrap(),
                "[2001:db8::9]:7701".parse().unwrap(),
            ]);
            let mut ring = RxRing::open(
                "lo",
                &RingOptions {
                    blocks: 4,
                    ..RingOptions::default()
                },
            )
            .unwrap();
            ring.set_filter(&own.program().unwrap()).unwrap();
            for listener in [&ours, &other] {
                let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                client.write_all(b"hello").unwrap();
                server.read_exact(&mut [0; 5]).unwrap();
            }
            let (mut of_ours, mut of_other) = (0, 0);
            let until = Instant::now() + Duration::from_millis(300);
            while Instant::now() < until {
                while let Some(block) = ring.next_block() {
                    for frame in block.frames() {
                        let link = LinkType::Ethernet;
                        let frame = Frame {
                            time: Timestamp::ZERO,
                            link,
                            bytes: frame.bytes,
                            wire_len: frame.wire_len,
                            vlan: None,
                        };
                        let ends = ends(&frame);
                        of_ours +=
                            u32::from(ends.is_some_and(|(a, b)| a == ours_at || b == ours_at));
                        of_other +=
                            u32::from(ends.is_some_and(|(a, b)| a == other_at || b == other_at));
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(of_ours, 0, "{host}");
            assert!(
                of_other >= 8,
                "{host}: {of_other} frames of the other connection, outgoing and incoming"
            );
        }
    }

    #[test]
    fn nothing_of_ours_needs_no_program() {
        assert_eq!(OwnUpload::default().program(), None);
    }
}
