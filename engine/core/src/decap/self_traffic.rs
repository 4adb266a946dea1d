//! Self traffic: the connections of the sniffer itself, which must not be captured, or every bundle would cause the next.

use std::net::{IpAddr, SocketAddr};

use super::segment::Endpoint;

/// The end points of the sniffer's own connections.
#[derive(Clone, Debug, Default)]
pub struct SelfTraffic {
    /// Each port once.
    ports: Vec<u16>,
    endpoints: Vec<Endpoint>,
}

impl SelfTraffic {
    /// Segments from and to `endpoints` are self traffic.
    pub fn new(endpoints: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut all = Self::default();
        for endpoint in endpoints {
            let addr = match endpoint.ip() {
                IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
                IpAddr::V6(addr) => addr.octets(),
            };
            let port = endpoint.port();
            if !all.ports.contains(&port) {
                all.ports.push(port);
            }
            all.endpoints.push(Endpoint { addr, port });
        }
        all
    }

    /// Whether an end point has this source or this destination port. It rules out nearly every segment without a look at
    /// its addresses.
    #[inline]
    pub(super) fn has_port(&self, src: u16, dst: u16) -> bool {
        self.ports.iter().any(|port| *port == src || *port == dst)
    }

    /// Whether a segment between `src` and `dst` is self traffic.
    pub(super) fn has(&self, src: Endpoint, dst: Endpoint) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| *endpoint == src || *endpoint == dst)
    }
}
