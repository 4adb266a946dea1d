//! The interfaces of this network namespace, from rtnetlink(7): two dumps, links and addresses.
//!
//! Lists what there is; which of them to capture on is the daemon's choice.

mod interface;
mod message;

use std::io;

pub use interface::{Answer, Interface, LinkKind};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// All interfaces, by index.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut interfaces = Vec::new();
    dump(&message::links_wanted(), |bytes| {
        interfaces.extend(message::link(bytes));
    })?;
    dump(&message::addresses_wanted(), |bytes| {
        let Some((index, address)) = message::address(bytes) else {
            return;
        };
        let owner = interfaces
            .iter_mut()
            .find(|interface: &&mut Interface| interface.index == index);
        if let Some(interface) = owner {
            interface.addresses.push(address);
        }
    })?;
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// Packets that each interface has received and sent since it was made, by name.
pub fn packets() -> io::Result<Vec<(String, u64)>> {
    let mut packets = Vec::new();
    dump(&message::links_wanted(), |bytes| {
        packets.extend(message::packets(bytes));
    })?;
    Ok(packets)
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
    message::messages(datagram, |bytes| each(message::link(bytes), bytes))
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

/// Requests a dump and passes on each message of the answer.
fn dump(request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(request, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        if message::messages(&answer, &mut each)? == Answer::Done {
            return Ok(());
        }
    }
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

    /// The kernel says the same of each link in files.
    #[test]
    fn links_are_as_the_kernel_shows_them_in_files() {
        let interfaces = list().unwrap();
        assert!(!interfaces.is_empty());
        for interface in interfaces {
            let file = |name: &str| {
                let path = format!("/sys/class/net/{}/{name}", interface.name);
                std::fs::read_to_string(path).map(|text| text.trim().to_owned())
            };
            // It may be of another namespace than the files, or gone by now.
            if file("ifindex").ok() != Some(interface.index.to_string()) {
                continue;
            }
            assert_eq!(file("mtu").unwrap(), interface.mtu.to_string());
            let flags = file("flags").unwrap();
            let flags = i32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap();
            assert_eq!(flags & libc::IFF_UP != 0, interface.up);
            assert_eq!(flags & libc::IFF_LOOPBACK != 0, interface.loopback);
            let is_ethernet = matches!(file("type").unwrap().as_str(), "1" | "772");
            assert_eq!(is_ethernet, interface.ethernet);
        }
    }
}
