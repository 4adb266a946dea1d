//! Encapsulations in UDP, recognised by their port: one row each in [`TUNNELS`].
//!
//! A new one is a file in [`wire`](crate::wire), a row here and a test.

use super::config::Config;
use super::network::Encap;
use crate::wire::{Split, ayiya, gre, gtp, l2tp, mpls, teredo, udp, vxlan};

/// What the next bytes of a frame are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    Ethernet,
    /// By EtherType.
    EtherType(u16),
    /// IPv4 or IPv6, by the version.
    Ip,
    /// By IP protocol number.
    Protocol(u8),
    Gre,
    Mpls,
    Nsh,
    Ppp,
}

/// The datagrams that a tunnel is looked for in.
#[derive(Clone, Copy, Debug)]
enum Ports {
    /// Those to a port of [`Config::vxlan_ports`].
    VxlanSetting,
    /// Those to a port of [`Config::geneve_ports`].
    GeneveSetting,
    /// Those to this port.
    To(u16),
    /// Those from or to this port.
    FromOrTo(u16),
}

/// How the header of a tunnel is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// VXLAN, whose VNI the filter tests.
    Vxlan,
    /// GENEVE, whose VNI the filter tests where there is no VXLAN.
    Geneve,
    /// Any other. Its port alone is no proof: a datagram that does not parse is ordinary UDP.
    Probable(for<'a> fn(&'a [u8]) -> Split<'a, Next>),
}

/// An encapsulation in UDP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnel {
    ports: Ports,
    pub(super) format: Format,
    /// What counters and annotations call it.
    pub(super) encap: Encap,
}

static TUNNELS: [Tunnel; 9] = [
    Tunnel {
        ports: Ports::VxlanSetting,
        format: Format::Vxlan,
        encap: Encap::Vxlan,
    },
    Tunnel {
        ports: Ports::To(vxlan::PORT_GPE),
        format: Format::Vxlan,
        encap: Encap::Vxlan,
    },
    Tunnel {
        ports: Ports::GeneveSetting,
        format: Format::Geneve,
        encap: Encap::Geneve,
    },
    Tunnel {
        ports: Ports::FromOrTo(gtp::PORT),
        format: Format::Probable(|bytes| Ok((Next::Ip, gtp::inner(bytes)?))),
        encap: Encap::Other,
    },
    Tunnel {
        ports: Ports::FromOrTo(teredo::PORT),
        format: Format::Probable(|bytes| Ok((Next::Ip, teredo::inner(bytes)?))),
        encap: Encap::Other,
    },
    Tunnel {
        ports: Ports::FromOrTo(ayiya::PORT),
        format: Format::Probable(|bytes| Ok((Next::Ip, ayiya::inner(bytes)?))),
        encap: Encap::Other,
    },
    Tunnel {
        ports: Ports::FromOrTo(l2tp::PORT),
        format: Format::Probable(|bytes| Ok((Next::Ppp, l2tp::inner(bytes)?))),
        encap: Encap::Other,
    },
    Tunnel {
        ports: Ports::To(gre::UDP_PORT),
        format: Format::Probable(|bytes| Ok((Next::Gre, bytes))),
        encap: Encap::Other,
    },
    Tunnel {
        ports: Ports::To(mpls::UDP_PORT),
        format: Format::Probable(|bytes| Ok((Next::Mpls, bytes))),
        encap: Encap::Other,
    },
];

impl Tunnel {
    /// The tunnel that a datagram carries by its ports.
    #[inline]
    pub(super) fn of(header: udp::Header, config: &Config) -> Option<&'static Self> {
        let udp::Header { src_port, dst_port } = header;
        TUNNELS.iter().find(|tunnel| match tunnel.ports {
            Ports::VxlanSetting => config.vxlan_ports.contains(&dst_port),
            Ports::GeneveSetting => config.geneve_ports.contains(&dst_port),
            Ports::To(port) => dst_port == port,
            Ports::FromOrTo(port) => src_port == port || dst_port == port,
        })
    }
}

impl Config {
    /// The UDP ports behind which a tunnel is looked for. For a kernel filter: no other datagram has a segment in it.
    pub fn udp_ports(&self) -> Vec<u16> {
        let read = TUNNELS.iter().filter(|row| self.encaps.has(row.encap));
        let ports = read.flat_map(|tunnel| match &tunnel.ports {
            Ports::VxlanSetting => self.vxlan_ports.as_slice(),
            Ports::GeneveSetting => self.geneve_ports.as_slice(),
            Ports::To(port) | Ports::FromOrTo(port) => std::slice::from_ref(port),
        });
        ports.copied().collect()
    }
}
