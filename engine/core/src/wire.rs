//! Views of protocol headers: bytes in, the fields that decapsulation needs and the bytes after the header out.
//!
//! Every file has the same inner order: where the format is defined and its figure, numbers, `Header`, `split`, tests.
//! `split` takes bytes that start with the header. It reads only what was captured, checks no checksum (offload and
//! mirrors leave them wrong), follows no inner protocol, and never panics, allocates or trims: which of the bytes after
//! a header belong to it is decided in [`decap`](crate::decap), where the lengths of the headers around it are known.

pub mod ayiya;
pub mod erspan;
pub mod ethernet;
pub mod fddi;
pub mod geneve;
pub mod gre;
pub mod gtp;
pub mod ipoib;
pub mod ipv4;
pub mod ipv6;
pub mod l2tp;
pub mod loopback;
pub mod mpls;
pub mod nflog;
pub mod nsh;
pub mod ppp;
pub mod protocol;
pub mod sll;
pub mod tcp;
pub mod teredo;
pub mod udp;
pub mod vxlan;
pub mod wifi;

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The captured bytes end before the header does.
    Truncated,
    /// The header contradicts itself or its specification.
    Malformed,
}

/// A header and the captured bytes after it.
pub type Split<'a, Header> = Result<(Header, &'a [u8]), Broken>;

/// Takes `count` bytes off the front.
#[inline]
fn skip(bytes: &[u8], count: usize) -> Result<&[u8], Broken> {
    bytes.get(count..).ok_or(Broken::Truncated)
}
