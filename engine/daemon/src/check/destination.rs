//! Whether something answers where calls would go. A connection is opened and closed; no request is made.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::finding::{Finding, Level};
use crate::capture_url::CaptureUrl;
use crate::diagnostic::system_words;

/// For each address of the name.
const PATIENCE: Duration = Duration::from_secs(3);

const TOPIC: &str = "capture URL";

pub(super) fn finding(url: &CaptureUrl) -> Finding {
    let failed = |words: String| {
        Finding::new(Level::Fail, TOPIC, format!("{url}: {words}"))
            .why("calls would wait, and be dropped when no more can be kept")
            .fix("the address as seen from here? a firewall? in a container, localhost is the container")
    };
    let addresses = match (url.host(), url.port()).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return failed(system_words(&error)),
    };
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => {
                let text = format!("{url}: {address} takes connections (nothing was sent)");
                return Finding::new(Level::Ok, TOPIC, text);
            }
            Err(error) => last = format!("{address}: {}", system_words(&error)),
        }
    }
    failed(last)
}
