//! Which frames are our own upload: never to be captured, or every bundle would make the next one.
//!
//! A frame is ours when it is TCP from or to one of the destination's addresses at the destination's port, directly on
//! the interface. The kernel drops most of them before they reach a ring ([`FrameFilter::without`]); what it cannot judge
//! (three tags) is found again here. Tunnelled copies are not looked for.

use std::net::{IpAddr, SocketAddr};

use engine_core::decap::{Frame, LinkType};
use engine_sys::interfaces;
#[cfg(doc)]
use engine_sys::packet::FrameFilter;

/// Where the sinks connect to, our own ports at every address of this machine, and metrics at theirs.
pub fn endpoints(
    sinks: Vec<SocketAddr>,
    own_ports: &[u16],
    metrics: Option<SocketAddr>,
) -> Vec<SocketAddr> {
    let mut own_ports = own_ports.to_vec();
    own_ports.extend(
        metrics
            .filter(|at| at.ip().is_unspecified())
            .map(|at| at.port()),
    );
    let mut endpoints = sinks;
    endpoints.extend(metrics.filter(|at| !at.ip().is_unspecified()));
    // Listed once already when the interfaces were chosen; that it fails now and not then is not worth an error.
    for address in interfaces::list()
        .unwrap_or_default()
        .iter()
        .flat_map(|interface| &interface.addresses)
    {
        endpoints.extend(
            own_ports
                .iter()
                .map(|&port| SocketAddr::new(*address, port)),
        );
    }
    endpoints
}

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

    /// Whether this frame is ours. Anything that is not plain TCP over IP is not.
    pub fn has(&self, frame: &Frame<'_>) -> bool {
        if self.endpoints.is_empty() {
            return false;
        }
        let Some(packet) = tcp(frame) else {
            return false;
        };
        // The ports alone rule out nearly every frame, and cost no addresses.
        let [from, to] = packet.ports();
        let may_be = |endpoint: &&SocketAddr| endpoint.port() == from || endpoint.port() == to;
        self.endpoints.iter().filter(may_be).any(|endpoint| {
            let (source, destination) = packet.ends();
            *endpoint == source || *endpoint == destination
        })
    }
}

/// Where an IP packet with TCP has its addresses, and its ports.
struct Tcp<'a> {
    addresses: Addresses<'a>,
    ports: &'a [u8; 4],
}

enum Addresses<'a> {
    V4(&'a [u8; 8]),
    V6(&'a [u8; 32]),
}

impl Tcp<'_> {
    /// Source and destination.
    fn ports(&self) -> [u16; 2] {
        let &[a, b, c, d] = self.ports;
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    }

    /// Both ends of the segment, the source first.
    fn ends(&self) -> (SocketAddr, SocketAddr) {
        let (source, destination) = match self.addresses {
            Addresses::V4(&[a, b, c, d, e, f, g, h]) => {
                (IpAddr::from([a, b, c, d]), IpAddr::from([e, f, g, h]))
            }
            Addresses::V6(both) => {
                let (source, destination) = both.split_at(16);
                (v6(source), v6(destination))
            }
        };
        let [from, to] = self.ports();
        (
            SocketAddr::new(source, from),
            SocketAddr::new(destination, to),
        )
    }
}

fn v6(address: &[u8]) -> IpAddr {
    let address: [u8; 16] = address.try_into().unwrap_or_default();
    IpAddr::from(address).to_canonical()
}

/// The packet of a frame, if it is TCP.
fn tcp<'a>(frame: &Frame<'a>) -> Option<Tcp<'a>> {
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
            is_tcp(*packet.get(9)?)?;
            let after = packet.get(usize::from(packet.first()? & 0x0f) * 4..)?;
            Some(Tcp {
                addresses: Addresses::V4(packet.get(12..)?.first_chunk()?),
                ports: after.first_chunk()?,
            })
        }
        [0x86, 0xdd] => {
            is_tcp(*packet.get(6)?)?;
            Some(Tcp {
                addresses: Addresses::V6(packet.get(8..)?.first_chunk()?),
                ports: packet.get(40..)?.first_chunk()?,
            })
        }
        _ => None,
    }
}

fn is_tcp(protocol: u8) -> Option<()> {
    (protocol == 6).then_some(())
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

        use engine_sys::packet::{FrameFilter, RingOptions, RxRing};

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
            let filter = FrameFilter {
                without: own.endpoints.clone(),
                ..FrameFilter::default()
            };
            ring.set_filter(&filter.program().unwrap()).unwrap();
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
                        let ends = tcp(&frame).map(|packet| packet.ends());
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
}
