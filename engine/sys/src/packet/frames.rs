//! Small frames: what the self-test sends, and what programs are tested with. Each function puts a header before its
//! payload. Checksums are 0: nobody on the way looks at them.

use std::net::IpAddr;

/// An Ethernet frame to nobody: a locally administered address that no interface has, so no host takes it.
pub(super) fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0xff, 0, 0, 0, 1, 0x02, 0xff, 0, 0, 0, 2];
    frame.extend_from_slice(&ether_type.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What stands between two IP addresses of one family: IPv4 without options, or IPv6.
pub(super) fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut packet = match source {
        IpAddr::V4(_) => {
            let total = (length + 20).to_be_bytes();
            vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0]
        }
        IpAddr::V6(_) => {
            let length = length.to_be_bytes();
            vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64]
        }
    };
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => packet.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => packet.extend_from_slice(&address.octets()),
        }
    }
    packet.extend_from_slice(payload);
    packet
}

/// A UDP datagram.
pub(super) fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16 + 8;
    let mut datagram = Vec::with_capacity(length.into());
    for field in [source, destination, length, 0] {
        datagram.extend_from_slice(&field.to_be_bytes());
    }
    datagram.extend_from_slice(payload);
    datagram
}

/// An empty TCP segment.
pub(super) fn tcp(source: u16, destination: u16) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&source.to_be_bytes());
    segment[2..4].copy_from_slice(&destination.to_be_bytes());
    segment[12] = 0x50;
    segment
}

/// A frame in VXLAN, network 7.
pub(super) fn vxlan(frame: &[u8]) -> Vec<u8> {
    [&[0x08, 0, 0, 0, 0, 0, 7, 0], frame].concat()
}
