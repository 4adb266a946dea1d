//! Addresses of the host in a URL: known from its text, or found by the delegate that looks it up.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::capture_url::CaptureUrl;
use crate::delegate::Delegate;

/// Whether its host is a name that has to be looked up.
pub(super) fn needs_delegate(url: &CaptureUrl) -> bool {
    known(url).is_none()
}

/// The addresses that need no look-up: the host is one, or names this machine. The order is that of the C library.
pub(super) fn known(url: &CaptureUrl) -> Option<Vec<SocketAddr>> {
    let at = |address| SocketAddr::new(address, url.port());
    match url.address() {
        Some(address) => Some(vec![at(address)]),
        None if url.is_loopback() => Some(vec![
            at(Ipv6Addr::LOCALHOST.into()),
            at(Ipv4Addr::LOCALHOST.into()),
        ]),
        None => None,
    }
}

/// Addresses of the collector, in the order in which they should be tried. Waits for them.
pub(super) fn addresses_now(
    url: &CaptureUrl,
    delegate: Option<&Arc<Mutex<Delegate>>>,
) -> io::Result<Vec<SocketAddr>> {
    if let Some(addresses) = known(url) {
        return Ok(addresses);
    }
    let delegate = delegate.ok_or_else(|| io::Error::other("no process looks it up"))?;
    let mut delegate = delegate.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = String::from_utf8(delegate.ask()?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(lines.lines().filter_map(|line| line.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_is_looked_up() {
        let addresses = |url: &str| {
            let url = CaptureUrl::parse(url).unwrap();
            let found = addresses_now(&url, None).map(|found| {
                let texts = found.iter().map(ToString::to_string);
                texts.collect::<Vec<_>>().join(" ")
            });
            (needs_delegate(&url), found.unwrap_or_default())
        };
        let ours = (false, "[::1]:80 127.0.0.1:80".to_owned());
        assert_eq!(addresses("http://localhost/m"), ours);
        assert_eq!(addresses("http://a.localhost/m"), ours);
        assert_eq!(
            addresses("http://[fe80::1]:9/m"),
            (false, "[fe80::1]:9".to_owned())
        );
        assert_eq!(addresses("https://lake.example/m"), (true, String::new()));
    }
}
