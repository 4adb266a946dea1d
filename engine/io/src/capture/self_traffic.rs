//! The end points of self traffic: never to be captured, or every bundle would cause the next.
//!
//! The kernel drops most frames from and to them before they reach a ring
//! ([`FrameFilter::without`](engine_sys::packet::FrameFilter::without)); those that its filter cannot read (three tags) are
//! skipped in decapsulation ([`SelfTraffic`](engine_core::decap::SelfTraffic)). Tunnelled copies are captured.

use std::net::SocketAddr;

use engine_sys::interfaces;

/// The addresses that the sinks connect to, `own_ports` at every address of this machine, and the metrics port at its
/// addresses.
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

#[cfg(test)]
mod tests {
    use engine_core::decap::{Config, Decap, Frame, LinkType, SelfTraffic};
    use engine_core::time::Timestamp;

    /// Connections on loopback to our port and to another one, over IPv4 and IPv6.
    #[test]
    fn the_kernel_drops_self_traffic_and_nothing_else() {
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};
        use std::time::{Duration, Instant};

        use engine_sys::packet::{FrameFilter, RingOptions, RxRing};

        assert!(
            engine_sys::process::may_capture(),
            "needs CAP_NET_RAW; `tests/run quick` leaves it out"
        );
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let ours = TcpListener::bind(host).unwrap();
            let other = TcpListener::bind(host).unwrap();
            let (ours_at, other_at) = (ours.local_addr().unwrap(), other.local_addr().unwrap());
            let own = [
                ours_at,
                "10.9.9.9:7701".parse().unwrap(),
                "[2001:db8::9]:7701".parse().unwrap(),
            ];
            // Counts the frames of one connection.
            let frames_of = |end_point| {
                Decap::new(Config {
                    self_traffic: SelfTraffic::new([end_point]),
                    ..Config::default()
                })
            };
            let mut ring = RxRing::open(
                "lo",
                &RingOptions {
                    blocks: 4,
                    ..RingOptions::default()
                },
            )
            .unwrap();
            let filter = FrameFilter {
                without: own.to_vec(),
                ..FrameFilter::default()
            };
            ring.set_filter(&filter.program().unwrap()).unwrap();
            for listener in [&ours, &other] {
                let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                client.write_all(b"hello").unwrap();
                server.read_exact(&mut [0; 5]).unwrap();
            }
            let [mut of_ours, mut of_other] = [ours_at, other_at].map(frames_of);
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
                        for decap in [&mut of_ours, &mut of_other] {
                            let _ = decap.frame(&frame);
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let [of_ours, of_other] =
                [of_ours, of_other].map(|decap| decap.counters().skipped_self_traffic);
            assert_eq!(of_ours, 0, "{host}");
            assert!(
                of_other >= 8,
                "{host}: {of_other} frames of the other connection, outgoing and incoming"
            );
        }
    }
}
