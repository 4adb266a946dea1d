//! The interfaces of this network namespace, from rtnetlink(7): two dumps, links and addresses.
//!
//! Lists what there is; which of them to capture on is the daemon's choice.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// What kind of device a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Hardware, or a driver that names no kind.
    Plain,
    /// A bridge; its ports have it as [`Interface::master`].
    Bridge,
    /// A bond; its ports have it as [`Interface::master`].
    Bond,
    /// One end of a veth pair.
    Veth,
    /// A VLAN of another link.
    Vlan,
    /// A VXLAN end point: the kernel decapsulates.
    Vxlan {
        /// Its network; none when it takes all (`external`).
        vni: Option<u32>,
        /// The UDP port it listens on.
        port: u16,
    },
    /// Any other kind, by the kernel's name.
    Other(String),
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its index in this namespace.
    pub index: u32,
    /// Switched on (`IFF_UP`).
    pub up: bool,
    /// Switched on and connected (`IFF_LOWER_UP`, which is exact: `IFF_RUNNING` follows the state of operation, which the
    /// kernel brings up to date within a second, net/core/link_watch.c).
    pub carrier: bool,
    /// Loopback: each frame passes it twice, outgoing and incoming.
    pub loopback: bool,
    /// Whether its frames start with an Ethernet header. They do not on tun, wireguard or ipip links.
    pub ethernet: bool,
    /// Largest packet, in bytes, without the link-layer header.
    pub mtu: u32,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
    /// Its kind.
    pub kind: LinkKind,
    /// Index of the bridge, bond or VRF it is a port of.
    pub master: Option<u32>,
}

/// All interfaces, by index.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut interfaces = Vec::new();
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    dump(links, |message, bytes| {
        interfaces.extend(link_of(message, bytes));
    })?;
    let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    dump(addresses, |message, _| {
        let Some(RouteNetlinkMessage::NewAddress(address)) = message else {
            return;
        };
        let owner = interfaces
            .iter_mut()
            .find(|interface| interface.index == address.header.index);
        if let (Some(interface), Some(ip)) = (owner, local_address(&address)) {
            interface.addresses.push(ip);
        }
    })?;
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// Packets that each interface has received and sent since it was made, by name.
pub fn packets() -> io::Result<Vec<(String, u64)>> {
    let mut packets = Vec::new();
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    dump(links, |message, _| {
        let Some(RouteNetlinkMessage::NewLink(link)) = message else {
            return;
        };
        let (mut name, mut count) = (None, 0);
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text),
                LinkAttribute::Stats64(stats) => {
                    count = stats.rx_packets.saturating_add(stats.tx_packets);
                }
                _ => {}
            }
        }
        packets.extend(name.map(|name| (name, count)));
    })?;
    Ok(packets)
}

/// What follows a datagram of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Another one.
    More,
    /// Nothing: the answer is complete.
    Done,
}

/// Reads one datagram of the answer to a request for all links: each message of it, and the interface that it describes, if it
/// is one.
///
/// # Errors
///
/// The kernel's, if the message is one.
pub fn read_links(
    datagram: &[u8],
    mut each: impl FnMut(Option<Interface>, &[u8]),
) -> io::Result<Answer> {
    messages(datagram, &mut |message, bytes| {
        each(link_of(message, bytes), bytes);
    })
}

fn link_of(message: Option<RouteNetlinkMessage>, bytes: &[u8]) -> Option<Interface> {
    match message {
        Some(RouteNetlinkMessage::NewLink(link)) => Some(interface(link)),
        Some(_) => None,
        None => bare_link(bytes),
    }
}

/// Reports when links appear, disappear or change, so that polling is unnecessary.
pub struct Changes(Socket);

impl Changes {
    /// Listens from now on. Needs no privilege.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, libc::RTMGRP_LINK as u32))?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Whether anything changed since the last call; also when the kernel could not report all changes.
    pub fn any(&self) -> bool {
        let mut any = false;
        loop {
            match self.0.recv_from_full() {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(_) => return any,
            }
        }
    }
}

fn interface(link: LinkMessage) -> Interface {
    let flags = link.header.flags;
    let mut interface = Interface {
        name: String::new(),
        index: link.header.index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        ethernet: matches!(
            link.header.link_layer_type,
            LinkLayerType::Ether | LinkLayerType::Loopback
        ),
        mtu: 0,
        addresses: Vec::new(),
        kind: LinkKind::Plain,
        master: None,
    };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
            LinkAttribute::Controller(index) if index != 0 => interface.master = Some(index),
            LinkAttribute::LinkInfo(info) => interface.kind = kind(&info),
            _ => {}
        }
    }
    interface
}

fn kind(info: &[LinkInfo]) -> LinkKind {
    let kind = info.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        None => LinkKind::Plain,
        Some(InfoKind::Bridge) => LinkKind::Bridge,
        Some(InfoKind::Bond) => LinkKind::Bond,
        Some(InfoKind::Veth) => LinkKind::Veth,
        Some(InfoKind::Vlan) => LinkKind::Vlan,
        Some(InfoKind::Vxlan) => vxlan(info),
        Some(kind) => LinkKind::Other(kind.to_string()),
    }
}

fn vxlan(info: &[LinkInfo]) -> LinkKind {
    let mut vni = None;
    let mut port = 0;
    let mut takes_all = false;
    let data = info.iter().filter_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
        _ => None,
    });
    for attribute in data.flatten() {
        match attribute {
            InfoVxlan::Id(id) => vni = Some(*id),
            // The crate swaps the bytes of this attribute, which the kernel writes in network order, as it should.
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::CollectMetadata(on) => takes_all = *on,
            _ => {}
        }
    }
    LinkKind::Vxlan {
        vni: vni.filter(|_| !takes_all),
        port,
    }
}

/// The address of our own end: on a point-to-point link `Address` is the peer's.
fn local_address(address: &AddressMessage) -> Option<IpAddr> {
    let mut found = None;
    for attribute in &address.attributes {
        match attribute {
            AddressAttribute::Local(ip) => return Some(*ip),
            AddressAttribute::Address(ip) => found = Some(*ip),
            _ => {}
        }
    }
    found
}

/// The fields of a link's message that have not changed since Linux 2.2, for a message that has something the
/// parser does not take: an odd attribute of one driver must not hide an interface, let alone all of them.
///
/// ```text
/// nlmsghdr  0 length  4 type(16)  6 flags(16)  8 sequence  12 port
/// ifinfomsg 16 family(8)  18 type(16)  20 index  24 flags  28 change   then attributes: length(16) type(16) value
/// ```
fn bare_link(message: &[u8]) -> Option<Interface> {
    let (header, mut attributes) = message.split_first_chunk::<32>()?;
    let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let word = |at: usize| {
        u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if half(4) != libc::RTM_NEWLINK {
        return None;
    }
    let on = |flag: i32| word(24) & flag as u32 != 0;
    let mut interface = Interface {
        name: String::new(),
        index: word(20),
        up: on(libc::IFF_UP),
        carrier: on(libc::IFF_UP) && on(libc::IFF_LOWER_UP),
        loopback: on(libc::IFF_LOOPBACK),
        ethernet: matches!(half(18), libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK),
        mtu: 0,
        addresses: Vec::new(),
        kind: LinkKind::Plain,
        master: None,
    };
    while let Some((&[l0, l1, t0, t1], _)) = attributes.split_first_chunk() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = attributes.get(4..length) else {
            break;
        };
        let number = value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        match u16::from_ne_bytes([t0, t1]) {
            libc::IFLA_IFNAME => {
                let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
                interface.name = String::from_utf8_lossy(name).into_owned();
            }
            libc::IFLA_MTU => interface.mtu = number.unwrap_or(0),
            libc::IFLA_MASTER => interface.master = number,
            _ => {}
        }
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    (!interface.name.is_empty()).then_some(interface)
}

/// Requests a dump and passes on each message of the answer with its bytes, or the bytes alone if it cannot be parsed.
fn dump(
    request: RouteNetlinkMessage,
    mut each: impl FnMut(Option<RouteNetlinkMessage>, &[u8]),
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    loop {
        let (answer, _) = socket.recv_from_full()?;
        if messages(&answer, &mut each)? == Answer::Done {
            return Ok(());
        }
    }
}

/// Passes on each message of a datagram with its bytes, or the bytes alone if it cannot be parsed.
fn messages(
    datagram: &[u8],
    each: &mut impl FnMut(Option<RouteNetlinkMessage>, &[u8]),
) -> io::Result<Answer> {
    let mut rest = datagram;
    while let Some(length) = rest
        .first_chunk()
        .map(|length| u32::from_ne_bytes(*length) as usize)
    {
        let bytes = rest.get(..length).unwrap_or(rest);
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes);
        match message.map(|message| message.payload) {
            Ok(NetlinkPayload::Done(_)) => return Ok(Answer::Done),
            Ok(NetlinkPayload::Error(error)) => {
                // The crate's own conversion overflows at the smallest number.
                let code = error.code.map_or(0, |code| code.get().saturating_abs());
                return Err(io::Error::from_raw_os_error(code));
            }
            Ok(NetlinkPayload::InnerMessage(message)) => each(Some(message), bytes),
            Ok(_) => {}
            Err(_) => each(None, bytes),
        }
        rest = rest
            .get(length.max(4).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(Answer::More)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found() {
        let interfaces = list().unwrap();
        let lo = interfaces
            .iter()
            .find(|interface| interface.name == "lo")
            .expect("every namespace has lo");
        assert!(lo.loopback && lo.ethernet && lo.index > 0 && lo.mtu > 0);
        assert_eq!((lo.kind.clone(), lo.master), (LinkKind::Plain, None));
    }

    #[test]
    fn packets_are_counted() {
        let of_lo = || {
            let all = packets().unwrap();
            let lo = all.iter().find(|(name, _)| name == "lo");
            lo.expect("every namespace has lo").1
        };
        let before = of_lo();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"1", socket.local_addr().unwrap()).unwrap();
        assert!(of_lo() >= before + 2, "sent and received");
    }

    #[test]
    fn a_link_is_read_alike_with_and_without_the_parser() {
        let mut links = 0;
        dump(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            |message, bytes| {
                let Some(RouteNetlinkMessage::NewLink(link)) = message else {
                    return;
                };
                links += 1;
                let expected = Interface {
                    kind: LinkKind::Plain,
                    ..interface(link)
                };
                assert_eq!(bare_link(bytes), Some(expected));
                for length in 0..bytes.len() {
                    // Cut anywhere, it is an interface or nothing.
                    let _ = bare_link(&bytes[..length]);
                }
            },
        )
        .unwrap();
        assert!(links > 0);
    }
}
