//! What the kernel answers: messages of rtnetlink.

use engine_sys::interfaces::{Answer, read_links};

/// One datagram of a dump of links: every interface has a name and took bytes of the datagram, and the end is the end.
pub(super) fn netlink(input: &[u8]) {
    let mut bytes = 0;
    let mut interfaces = 0;
    let answer = read_links(input, |interface, message| {
        bytes += message.len();
        interfaces += usize::from(interface.is_some());
        if let Some(interface) = interface {
            assert!(interface.addresses.is_empty(), "those come by another dump");
            assert!(interface.name.len() <= 3 * message.len());
        }
    });
    assert!(bytes <= input.len() && interfaces <= input.len() / 16);
    assert!(!matches!(answer, Ok(Answer::More)) || input.len() < 16 || bytes <= input.len());
}
