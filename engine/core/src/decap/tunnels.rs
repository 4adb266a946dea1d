//! Which tunnels are removed: by encapsulation, and by the host that sends them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::network::Encap;
use super::segment::mapped;

/// A set of encapsulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncapSet(u8);

impl EncapSet {
    /// Every encapsulation.
    pub const ALL: Self = Self(u8::MAX);

    /// None.
    pub const NONE: Self = Self(0);

    /// Whether `encap` is in the set.
    #[inline]
    pub const fn has(self, encap: Encap) -> bool {
        self.0 & 1 << encap as u8 != 0
    }

    /// The set with `encap` in addition.
    #[must_use]
    pub const fn with(self, encap: Encap) -> Self {
        Self(self.0 | 1 << encap as u8)
    }
}

/// Hosts whose tunnels are read: a list of networks, or everybody when it is empty.
///
/// Anybody who can send a datagram to this host can put a made-up connection into a tunnel. Only the source address of
/// the outermost packet shows who sent it, so only where the network drops packets with a false source address does
/// the list keep strangers out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorSources {
    prefixes: Vec<Prefix>,
}

/// A network in the notation of RFC 4632 §3.1. IPv4 addresses are mapped to IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    addr: u128,
    bits: u32,
}

impl MirrorSources {
    /// Reads a list of addresses and networks, such as `10.0.0.0/8,2001:db8::/32,192.0.2.7`, separated by commas.
    /// Blanks around entries and empty entries are ignored.
    ///
    /// # Errors
    /// The entry that is no network.
    pub fn parse(text: &str) -> Result<Self, MirrorSourceError> {
        let words = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        let prefixes = words.map(|word| {
            Prefix::parse(word).ok_or_else(|| MirrorSourceError {
                entry: word.to_owned(),
            })
        });
        Ok(Self {
            prefixes: prefixes.collect::<Result<_, _>>()?,
        })
    }

    /// Whether tunnels from everybody are read.
    pub fn is_everybody(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Whether tunnels from this address are read.
    #[inline]
    pub(super) fn wants(&self, source: u128) -> bool {
        self.is_everybody() || self.prefixes.iter().any(|prefix| prefix.holds(source))
    }
}

impl Prefix {
    fn parse(word: &str) -> Option<Self> {
        let (addr, bits) = word
            .split_once('/')
            .map_or((word, None), |(addr, bits)| (addr, Some(bits)));
        let addr: IpAddr = addr.parse().ok()?;
        let (addr, addr_bits) = match addr {
            IpAddr::V4(addr) => (u128::from_be_bytes(mapped(addr.octets())), u32::BITS),
            IpAddr::V6(addr) => (addr.to_bits(), Ipv6Addr::BITS),
        };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= addr_bits)?,
            None => addr_bits,
        };
        Some(Self {
            addr,
            bits: Ipv6Addr::BITS - addr_bits + bits,
        })
    }

    fn holds(self, addr: u128) -> bool {
        // A shift by 128 is none of `>>`.
        (addr ^ self.addr)
            .checked_shr(Ipv6Addr::BITS - self.bits)
            .unwrap_or(0)
            == 0
    }
}

/// An entry of a list of networks that is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSourceError {
    entry: String,
}

impl fmt::Display for MirrorSourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not an address or a network", self.entry)
    }
}

impl std::error::Error for MirrorSourceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sources: &str, addr: &str, expected: bool) {
        let addr = match addr.parse().unwrap() {
            IpAddr::V4(addr) => u128::from_be_bytes(mapped(addr.octets())),
            IpAddr::V6(addr) => addr.to_bits(),
        };
        let sources = MirrorSources::parse(sources).unwrap();
        assert_eq!(sources.wants(addr), expected, "{sources:?}");
    }

    #[test]
    fn sources_are_networks_of_both_families() {
        check("", "203.0.113.9", true);
        check("10.0.0.0/8, 192.0.2.7", "10.255.0.1", true);
        check("10.0.0.0/8,192.0.2.7", "192.0.2.7", true);
        check("10.0.0.0/8,192.0.2.7", "192.0.2.8", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "203.0.113.9", true);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("2001:db8::1/128", "2001:db8::1", true);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in [
            "10.0.0.0/33",
            "::/129",
            "gateway",
            "10.0.0/8",
            "10.0.0.0/",
            "/8",
        ] {
            assert!(MirrorSources::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_has_what_was_added() {
        let set = EncapSet::NONE.with(Encap::Vxlan).with(Encap::IpIp);
        assert!(set.has(Encap::Vxlan) && set.has(Encap::IpIp));
        assert!(!set.has(Encap::Geneve) && !set.has(Encap::Plain));
        assert!(EncapSet::ALL.has(Encap::Other) && !EncapSet::NONE.has(Encap::Other));
    }
}
