//! Messages of rtnetlink(7): a request for a dump, and links and addresses as the kernel describes them.
//!
//! Source: include/uapi/linux/{netlink,rtnetlink,if_link,if_addr}.h. Of a message only what has its length is read: an odd
//! attribute of one driver must not hide an interface, let alone all of them.
//!
//! ```text
//! nlmsghdr  0 length  4 type(16)  6 flags(16)  8 sequence  12 port
//! ifinfomsg 16 family(8)  18 type(16)  20 index  24 flags  28 change   then attributes: length(16) type(16) value
//! ifaddrmsg 16 family(8)  17 prefix(8)  18 flags(8)  19 scope(8)  20 index   then attributes
//! ```

use std::io;
use std::net::IpAddr;

use super::interface::{Answer, Interface, LinkKind};

/// Octets before the attributes of a link, and before those of an address.
const LINK_HEADER: usize = 32;
const ADDRESS_HEADER: usize = 24;

/// Octets before the value of an attribute.
const ATTRIBUTE_HEADER: usize = 4;

/// The bits of an attribute's type that are its number; the others say how its value is written.
const NUMBER: u16 = 0x3fff;

/// Attributes within `IFLA_LINKINFO`: the name of the kind, and what that kind has.
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;

/// Attributes within that of a VXLAN end point.
const VXLAN_ID: u16 = 1;
const VXLAN_PORT: u16 = 15;
const VXLAN_COLLECT_METADATA: u16 = 25;

/// A request for all links.
pub(super) fn links_wanted() -> Vec<u8> {
    dump_of(libc::RTM_GETLINK, LINK_HEADER)
}

/// A request for all addresses.
pub(super) fn addresses_wanted() -> Vec<u8> {
    dump_of(libc::RTM_GETADDR, ADDRESS_HEADER)
}

/// A request without conditions: all octets behind the header are 0.
fn dump_of(kind: u16, length: usize) -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut message = (length as u32).to_ne_bytes().to_vec();
    message.extend([kind, flags].iter().flat_map(|half| half.to_ne_bytes()));
    message.resize(length, 0);
    message
}

/// Passes on each message of a datagram.
///
/// # Errors
///
/// The kernel's, if the message is one.
pub(super) fn messages(datagram: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<Answer> {
    let mut rest = datagram;
    while let Some(length) = word(rest, 0) {
        let length = length as usize;
        let message = rest.get(..length).unwrap_or(rest);
        match half(message, 4).map(i32::from) {
            Some(libc::NLMSG_DONE) => return Ok(Answer::Done),
            Some(libc::NLMSG_ERROR) => {
                let code = word(message, 16).unwrap_or_default().cast_signed();
                return Err(io::Error::from_raw_os_error(code.saturating_abs()));
            }
            Some(libc::NLMSG_NOOP | libc::NLMSG_OVERRUN) => {}
            _ => each(message),
        }
        let next = length.max(4).next_multiple_of(4);
        rest = rest.get(next..).unwrap_or_default();
    }
    Ok(Answer::More)
}

/// The interface that a message describes.
pub(super) fn link(message: &[u8]) -> Option<Interface> {
    let attributes = body(message, libc::RTM_NEWLINK, LINK_HEADER)?;
    let flags = word(message, 24)?;
    let on = |flag: i32| flags & flag as u32 != 0;
    let mut interface = Interface {
        name: String::new(),
        index: word(message, 20)?,
        up: on(libc::IFF_UP),
        carrier: on(libc::IFF_UP) && on(libc::IFF_LOWER_UP),
        loopback: on(libc::IFF_LOOPBACK),
        ethernet: matches!(
            half(message, 18),
            Some(libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK)
        ),
        mtu: 0,
        addresses: Vec::new(),
        kind: LinkKind::Plain,
        master: None,
    };
    for (number, value) in all(attributes) {
        match number {
            libc::IFLA_IFNAME => interface.name = text(value),
            libc::IFLA_MTU => interface.mtu = word(value, 0).unwrap_or(0),
            libc::IFLA_MASTER => interface.master = word(value, 0).filter(|index| *index != 0),
            libc::IFLA_LINKINFO => interface.kind = kind(value),
            _ => {}
        }
    }
    (!interface.name.is_empty()).then_some(interface)
}

/// The name of the interface that a message describes, with the packets that it has received and sent.
pub(super) fn packets(message: &[u8]) -> Option<(String, u64)> {
    let (mut name, mut packets) = (String::new(), 0);
    for (number, value) in all(body(message, libc::RTM_NEWLINK, LINK_HEADER)?) {
        match number {
            libc::IFLA_IFNAME => name = text(value),
            // rtnl_link_stats64 begins with those received and those sent.
            libc::IFLA_STATS64 => {
                let counts = value.as_chunks().0.iter().take(2);
                packets = counts.fold(0_u64, |sum, count| {
                    sum.saturating_add(u64::from_ne_bytes(*count))
                });
            }
            _ => {}
        }
    }
    (!name.is_empty()).then_some((name, packets))
}

/// An address of our own end, with the index of its interface: on a point-to-point link `IFA_ADDRESS` is the peer's.
pub(super) fn address(message: &[u8]) -> Option<(u32, IpAddr)> {
    let attributes = body(message, libc::RTM_NEWADDR, ADDRESS_HEADER)?;
    let (mut local, mut other) = (None, None);
    for (number, value) in all(attributes) {
        match number {
            libc::IFA_LOCAL => local = ip(value),
            libc::IFA_ADDRESS => other = ip(value),
            _ => {}
        }
    }
    Some((word(message, 20)?, local.or(other)?))
}

fn kind(info: &[u8]) -> LinkKind {
    let find = |wanted| all(info).find(|(number, _)| *number == wanted);
    let Some((_, name)) = find(INFO_KIND) else {
        return LinkKind::Plain;
    };
    match text(name).as_str() {
        "bridge" => LinkKind::Bridge,
        "bond" => LinkKind::Bond,
        "veth" => LinkKind::Veth,
        "vlan" => LinkKind::Vlan,
        "vxlan" => vxlan(find(INFO_DATA).map_or(&[], |(_, data)| data)),
        other => LinkKind::Other(other.to_owned()),
    }
}

fn vxlan(data: &[u8]) -> LinkKind {
    let (mut vni, mut port, mut takes_all) = (None, 0, false);
    for (number, value) in all(data) {
        match number {
            VXLAN_ID => vni = word(value, 0),
            // In network order, unlike all others.
            VXLAN_PORT => port = half(value, 0).map_or(0, u16::from_be),
            VXLAN_COLLECT_METADATA => takes_all = value.first().is_some_and(|on| *on != 0),
            _ => {}
        }
    }
    LinkKind::Vxlan {
        vni: vni.filter(|_| !takes_all),
        port,
    }
}

/// What follows the header of a message of this type.
fn body(message: &[u8], kind: u16, header: usize) -> Option<&[u8]> {
    message
        .get(header..)
        .filter(|_| half(message, 4) == Some(kind))
}

/// The attributes, each with its number; as far as their lengths are right.
fn all(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0)?);
        let number = half(rest, 2)? & NUMBER;
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        let next = length.next_multiple_of(4);
        rest = rest.get(next..).unwrap_or_default();
        Some((number, value))
    })
}

/// A name, up to its end.
fn text(value: &[u8]) -> String {
    let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(octets.into());
    }
    let octets = <[u8; 16]>::try_from(value).ok()?;
    Some(octets.into())
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let octets = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*octets))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let octets = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        let mut bytes = [length.to_ne_bytes(), number.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, fixed: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let behind = [fixed, &attributes.concat()].concat();
        let mut bytes = (16 + behind.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(16, 0);
        bytes.extend(behind);
        bytes
    }

    fn link_message(index: u32, flags: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let ether = libc::ARPHRD_ETHER.to_ne_bytes();
        let fixed = [
            &[0, 0][..],
            &ether,
            &index.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &[0; 4],
        ];
        message(libc::RTM_NEWLINK, &fixed.concat(), attributes)
    }

    fn vxlan_data(more: &[Vec<u8>]) -> Vec<u8> {
        let mut data = vec![
            attribute(VXLAN_ID, &77_u32.to_ne_bytes()),
            attribute(VXLAN_PORT, &4790_u16.to_be_bytes()),
        ];
        data.extend_from_slice(more);
        data.concat()
    }

    #[track_caller]
    fn check_kind(name: &str, data: &[u8], expected: LinkKind) {
        let nested = 0x8000;
        let info = [
            attribute(INFO_KIND, format!("{name}\0").as_bytes()),
            attribute(INFO_DATA | nested, data),
        ];
        let bytes = link_message(
            7,
            libc::IFF_UP | libc::IFF_LOWER_UP,
            &[
                attribute(libc::IFLA_IFNAME, b"x0\0"),
                attribute(libc::IFLA_MTU, &1400_u32.to_ne_bytes()),
                attribute(libc::IFLA_MASTER, &0_u32.to_ne_bytes()),
                attribute(libc::IFLA_LINKINFO | nested, &info.concat()),
            ],
        );
        let found = link(&bytes).unwrap();
        assert_eq!((found.kind, found.index, found.mtu), (expected, 7, 1400));
        assert!(found.up && found.carrier && found.ethernet && !found.loopback);
        assert_eq!((found.name.as_str(), found.master), ("x0", None));
        for length in 0..bytes.len() {
            // Cut anywhere, it is an interface or nothing.
            let _ = link(&bytes[..length]);
            let _ = packets(&bytes[..length]);
        }
    }

    #[test]
    fn kinds_of_links() {
        check_kind("bridge", &[], LinkKind::Bridge);
        check_kind("bond", &[], LinkKind::Bond);
        check_kind("vlan", &[1], LinkKind::Vlan);
        check_kind("wireguard", &[], LinkKind::Other("wireguard".into()));
        let one = LinkKind::Vxlan {
            vni: Some(77),
            port: 4790,
        };
        check_kind("vxlan", &vxlan_data(&[]), one);
        let all = LinkKind::Vxlan {
            vni: None,
            port: 4790,
        };
        let takes_all = attribute(VXLAN_COLLECT_METADATA, &[1]);
        check_kind("vxlan", &vxlan_data(&[takes_all]), all);
    }

    #[test]
    fn odd_attributes_hide_nothing() {
        let mut odd = attribute(libc::IFLA_MTU, &[1]);
        odd.extend(attribute(libc::IFLA_IFNAME, b"\xffx\0y"));
        // Its length is less than that of its own header.
        odd.extend([1, 0, 0, 0]);
        let found = link(&link_message(3, 0, &[odd])).unwrap();
        assert_eq!((found.name.as_str(), found.mtu), ("\u{fffd}x", 0));
        assert_eq!(link(&link_message(3, 0, &[])), None, "it has no name");
    }

    #[test]
    fn packets_are_those_of_both_directions() {
        let stats = [u64::MAX - 5, 3, 1000].map(u64::to_ne_bytes).concat();
        let attributes = [
            attribute(libc::IFLA_IFNAME, b"x0\0"),
            attribute(libc::IFLA_STATS64, &stats),
        ];
        let found = packets(&link_message(3, 0, &attributes));
        assert_eq!(found, Some(("x0".into(), u64::MAX - 2)));
    }

    #[test]
    fn our_own_end_of_a_link() {
        let fixed = [&[2, 32, 0, 0][..], &9_u32.to_ne_bytes()].concat();
        let peer = attribute(libc::IFA_ADDRESS, &[10, 0, 0, 2]);
        let own = attribute(libc::IFA_LOCAL, &[10, 0, 0, 1]);
        let six = attribute(libc::IFA_ADDRESS, &[0xfd; 16]);
        for (attributes, expected) in [
            (vec![own.clone(), peer.clone()], Some("10.0.0.1")),
            (vec![peer.clone(), own], Some("10.0.0.1")),
            (vec![peer], Some("10.0.0.2")),
            (vec![six], Some("fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd")),
            (vec![attribute(libc::IFA_ADDRESS, &[1; 5])], None),
        ] {
            let found = address(&message(libc::RTM_NEWADDR, &fixed, &attributes));
            let expected = expected.map(|text| (9, text.parse().unwrap()));
            assert_eq!(found, expected);
        }
        assert_eq!(address(&link_message(9, 0, &[])), None);
    }

    #[test]
    fn a_datagram_has_several_messages() {
        let one = link_message(1, 0, &[attribute(libc::IFLA_IFNAME, b"a\0")]);
        let done = message(libc::NLMSG_DONE as u16, &[0; 4], &[]);
        let noop = message(libc::NLMSG_NOOP as u16, &[], &[]);
        let mut seen = 0;
        let datagram = [&one[..], &noop, &one].concat();
        assert_eq!(messages(&datagram, |_| seen += 1).unwrap(), Answer::More);
        assert_eq!(seen, 2);
        let datagram = [&one[..], &done, &one].concat();
        assert_eq!(messages(&datagram, |_| seen += 1).unwrap(), Answer::Done);
        assert_eq!(seen, 3);
        for (code, expected) in [(-libc::EPERM, libc::EPERM), (i32::MIN, i32::MAX)] {
            let error = message(libc::NLMSG_ERROR as u16, &code.to_ne_bytes(), &[]);
            let error = messages(&error, |_| ()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(expected));
        }
    }
}
