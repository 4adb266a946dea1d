//! One capture URL of a sink with the way to it: straight, through a forward proxy, over a Unix socket, or over the supervisor.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderValue};

use super::addresses::{addresses_now, needs_delegate};
use crate::capture_url::CaptureUrl;
use crate::delegate::Delegate;
use crate::diagnostic::{Code, Diagnostic};
use crate::sandbox::Plan;

/// How a capture URL is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a connection to its host.
    Straight,
    /// By one to this proxy: through a tunnel to https://, by requests with the whole URL to http:// (RFC 9110 sections 9.3.6
    /// and 7.1).
    Proxy(CaptureUrl),
    /// By one to its Unix socket.
    Socket,
    /// By one that the supervisor passes to its store.
    Supervisor,
}

/// A capture URL and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) url: CaptureUrl,
    pub(super) way: Way,
    /// Looks up the name of the next hop, or connects to the socket; none where neither is needed.
    pub(super) delegate: Option<Arc<Mutex<Delegate>>>,
}

impl Route {
    /// The way to `url`, through `proxy` where there is one.
    pub(super) fn new(url: CaptureUrl, proxy: Option<CaptureUrl>) -> Self {
        let way = match proxy {
            _ if url.socket().is_some() => Way::Socket,
            Some(proxy) => Way::Proxy(proxy),
            None => Way::Straight,
        };
        Self {
            url,
            way,
            delegate: None,
        }
    }

    /// What is connected to: the URL's host or the proxy's. None where no address is.
    pub(super) fn hop(&self) -> Option<&CaptureUrl> {
        match &self.way {
            Way::Straight => Some(&self.url),
            Way::Proxy(proxy) => Some(proxy),
            Way::Socket | Way::Supervisor => None,
        }
    }

    /// The proxy that makes a connection of its own to the collector.
    pub(super) fn tunnel(&self) -> Option<&CaptureUrl> {
        match &self.way {
            Way::Proxy(proxy) if self.url.is_https() => Some(proxy),
            _ => None,
        }
    }

    /// As messages name it.
    pub(super) fn name(&self) -> String {
        let collector = self.url.authority();
        match &self.way {
            Way::Proxy(proxy) => format!("{collector} (by proxy {})", proxy.authority()),
            _ => collector,
        }
    }

    /// Starts the process that looks up the host or connects to the socket, if one is needed.
    pub(super) fn prepare(&mut self, is_confined: bool) -> Result<(), Diagnostic> {
        let started = match (self.hop(), self.url.socket()) {
            (Some(hop), _) if needs_delegate(hop) => {
                Delegate::for_name(hop.host(), hop.port(), is_confined)
            }
            (None, Some(socket)) => Delegate::for_socket(socket, is_confined),
            _ => return Ok(()),
        };
        let delegate = started.map_err(|error| {
            let what = format!(
                "cannot start the process that finds {}: {error}",
                self.name()
            );
            Diagnostic::new(Code::E199, what)
        })?;
        self.delegate = Some(Arc::new(Mutex::new(delegate)));
        Ok(())
    }

    /// Adds what it takes to connect.
    pub(super) fn plan(&self, plan: &mut Plan) {
        match &self.way {
            Way::Supervisor => plan.makes_socket_pairs = true,
            Way::Socket => {
                let delegate = self
                    .delegate
                    .as_ref()
                    .and_then(|delegate| delegate.lock().ok());
                plan.connections_over
                    .extend(delegate.map(|delegate| delegate.descriptor()));
            }
            Way::Straight | Way::Proxy(_) => {
                plan.connect.extend(self.hop().map(CaptureUrl::port));
            }
        }
    }

    /// The addresses that are connected to, as far as they are known now.
    pub(super) fn endpoints(&self) -> Vec<SocketAddr> {
        let addresses = |hop| addresses_now(hop, self.delegate.as_ref());
        let found = self.hop().map(addresses);
        found.and_then(Result::ok).unwrap_or_default()
    }

    /// The target of a request.
    pub(super) fn target(&self) -> Uri {
        let text = match &self.way {
            Way::Proxy(_) if self.tunnel().is_none() => self.url.absolute(),
            _ => self.url.path_and_query().to_owned(),
        };
        // Both were checked when the URL was parsed.
        text.parse().unwrap_or_default()
    }

    /// The target of a ledger: what stands beside the capture URL.
    pub(super) fn ledger_target(&self) -> Uri {
        let text = match &self.way {
            Way::Proxy(_) if self.tunnel().is_none() => self.url.absolute(),
            _ => self.url.path_and_query().to_owned(),
        };
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (text.as_str(), String::new()),
        };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/ledger{query}")
            .parse()
            .unwrap_or_default()
    }

    /// Adds the headers that the way needs.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        if let (Some(value), None) = (self.proxy_authorization(), self.tunnel()) {
            headers.insert(header::PROXY_AUTHORIZATION, value.clone());
        }
    }

    /// The credentials for the proxy.
    fn proxy_authorization(&self) -> Option<&HeaderValue> {
        match &self.way {
            Way::Proxy(proxy) => proxy.authorization(),
            _ => None,
        }
    }

    /// The request that opens a tunnel.
    pub(super) fn tunnel_request(&self) -> Vec<u8> {
        let to = self.url.authority();
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n").into_bytes();
        if let Some(value) = self.proxy_authorization() {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(url: &str, proxy: Option<&str>) -> Route {
        let proxy = proxy.map(|proxy| CaptureUrl::parse_proxy(proxy).unwrap());
        Route::new(CaptureUrl::parse(url).unwrap(), proxy)
    }

    #[test]
    fn a_ledger_goes_beside_the_calls() {
        let of = |url: &str, proxy| route(url, proxy).ledger_target().to_string();
        assert_eq!(of("https://lake.example/message", None), "/ledger");
        assert_eq!(
            of("https://lake.example/a/m?t=a/b", None),
            "/a/ledger?t=a/b"
        );
        assert_eq!(of("http://lake.example", None), "/ledger");
        assert_eq!(
            of("http://lake.example/m", Some("p:1")),
            "http://lake.example:80/ledger"
        );
        assert_eq!(of("unix:///run/c.sock", None), "/ledger");
    }

    #[track_caller]
    fn check(route: &Route, target: &str, name: &str, hop: Option<&str>, header: Option<&str>) {
        assert_eq!(route.target().to_string(), target);
        assert_eq!(route.name(), name);
        let authority = route.hop().map(CaptureUrl::authority);
        assert_eq!(authority.as_deref(), hop);
        let mut headers = HeaderMap::new();
        route.add_headers(&mut headers);
        let value = headers.get(header::PROXY_AUTHORIZATION);
        assert_eq!(value.map(|value| value.to_str().unwrap()), header);
    }

    #[test]
    fn a_way_decides_what_is_connected_to_and_requested() {
        let plain = "http://lake.example/m?a=b";
        let lake = "lake.example:80";
        check(&route(plain, None), "/m?a=b", lake, Some(lake), None);
        check(
            &route(plain, Some("me:pw@p:1")),
            "http://lake.example:80/m?a=b",
            "lake.example:80 (by proxy p:1)",
            Some("p:1"),
            Some("Basic bWU6cHc="),
        );
        let tls = route("https://lake.example/m", Some("me:pw@p:1"));
        check(
            &tls,
            "/m",
            "lake.example:443 (by proxy p:1)",
            Some("p:1"),
            None,
        );
        assert_eq!(
            String::from_utf8(tls.tunnel_request()).unwrap(),
            "CONNECT lake.example:443 HTTP/1.1\r\nhost: lake.example:443\r\n\
             proxy-authorization: Basic bWU6cHc=\r\n\r\n"
        );
        assert!(!format!("{tls:?}").contains("bWU6"), "{tls:?}");
        let socket = route("unix:///run/c.sock", Some("p:1"));
        check(&socket, "/message", "/run/c.sock", None, None);
    }
}
