//! The capture URL as the user typed it, checked: scheme, host, port, path; or the path of a Unix socket.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hyper::Uri;
use hyper::http::HeaderValue;

/// Where bundles are posted.
#[derive(Clone, PartialEq, Eq)]
pub struct CaptureUrl {
    https: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    path_and_query: String,
    /// User and password, as `Authorization` has them.
    authorization: Option<HeaderValue>,
    /// The Unix socket that takes the place of host and port.
    socket: Option<PathBuf>,
}

/// Path of the requests over a Unix socket whose URL names none.
const PATH: &str = "/message";

/// Bytes of the path of a Unix socket, with the NUL at its end (unix(7)).
const SOCKET_BYTES_MAX: usize = 108;

/// The capture URLs of one destination, at least one, in the order in which they are tried. They lead to the same store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureUrls(Vec<CaptureUrl>);

impl CaptureUrls {
    /// Checks URLs with blanks between them.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let urls: Result<Vec<_>, _> = text.split_whitespace().map(CaptureUrl::parse).collect();
        match urls? {
            none if none.is_empty() => Err(UrlError::Empty),
            urls => Ok(Self(urls)),
        }
    }

    /// Each of them, the first choice first.
    pub fn iter(&self) -> impl Iterator<Item = &CaptureUrl> {
        self.0.iter()
    }

    /// Whether all of them are on this machine.
    pub fn are_loopback(&self) -> bool {
        self.0.iter().all(CaptureUrl::is_loopback)
    }
}

impl From<CaptureUrl> for CaptureUrls {
    fn from(url: CaptureUrl) -> Self {
        Self(vec![url])
    }
}

impl IntoIterator for CaptureUrls {
    type Item = CaptureUrl;
    type IntoIter = std::vec::IntoIter<CaptureUrl>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What is wrong with a capture URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Nothing, or blanks.
    Empty,
    /// It names no scheme.
    NoScheme,
    /// Its scheme is none of http, https and unix.
    OtherScheme,
    /// It names a Unix socket without its whole path.
    NoSocket,
    /// It names no host.
    NoHost,
    /// Its port is not a number from 1 to 65535.
    BadPort,
    /// Its user name or password is not written as a URL has it.
    Credentials,
    /// It has a character that no URL has.
    Malformed,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::NoScheme => "missing http:// or https://",
            Self::OtherScheme => "expected http:// or https://",
            Self::NoSocket => "expected unix:///PATH with the whole path of the socket",
            Self::NoHost => "missing a host after ://",
            Self::BadPort => "the port must be a number from 1 to 65535",
            Self::Credentials => {
                "a character of the user name or password has to be percent-encoded (%40 for @, %2F for /, %25 for %)"
            }
            Self::Malformed => "it is not a URL",
        })
    }
}

impl std::error::Error for UrlError {}

impl CaptureUrl {
    /// Checks a URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "unix" => return Self::of_socket(rest),
            "" => return Err(UrlError::NoScheme),
            _ => return Err(UrlError::OtherScheme),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, authority) = match authority.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, authority),
        };
        let authorization = credentials.map(basic).transpose()?;
        if authority.is_empty() || authority.starts_with(':') {
            return Err(UrlError::NoHost);
        }
        check_port(authority)?;

        let behind = credentials.map_or(0, |credentials| credentials.len() + 1);
        let rest = rest.get(behind..).unwrap_or_default();
        if rest
            .split(['?', '#'])
            .next()
            .is_some_and(|path| path.contains('@'))
        {
            // More likely the end of a password that has a slash than a part of a path.
            return Err(UrlError::Credentials);
        }
        let uri = format!("{scheme}://{rest}");
        let uri: Uri = uri.parse().map_err(|_| UrlError::Malformed)?;
        let host = uri.host().unwrap_or_default();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(UrlError::NoHost);
        }
        Ok(Self {
            https,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            path_and_query: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            authorization,
            socket: None,
        })
    }

    /// `/PATH` of a socket, and perhaps `:/PATH` of the requests behind it.
    fn of_socket(rest: &str) -> Result<Self, UrlError> {
        let (socket, path) = match rest.split_once(":/") {
            Some((socket, path)) => (socket, format!("/{path}")),
            None => (rest, PATH.to_owned()),
        };
        let is_whole = socket.len() > 1 && socket.starts_with('/') && !socket.ends_with('/');
        if !is_whole {
            return Err(UrlError::NoSocket);
        }
        // What the kernel takes, with the NUL behind it.
        if socket.len() >= SOCKET_BYTES_MAX || socket.contains('\0') {
            return Err(UrlError::Malformed);
        }
        let uri: Uri = path.parse().map_err(|_| UrlError::Malformed)?;
        Ok(Self {
            https: false,
            host: "localhost".to_owned(),
            port: 80,
            path_and_query: uri
                .path_and_query()
                .map_or(PATH, |path| path.as_str())
                .to_owned(),
            authorization: None,
            socket: Some(socket.into()),
        })
    }

    /// The Unix socket, where it names one.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The URL of a forward proxy, whose scheme may be left out.
    pub fn parse_proxy(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let url = match text.contains("://") {
            true => Self::parse(text)?,
            false => Self::parse(&format!("http://{text}"))?,
        };
        if url.https || url.socket.is_some() {
            return Err(UrlError::OtherScheme);
        }
        Ok(url)
    }

    /// User and password as basic authentication (RFC 7617).
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Whether posts are encrypted.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Host name or address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it names this machine: an address of the loopback network, or `localhost` (RFC 6761 section 6.3).
    pub fn is_loopback(&self) -> bool {
        let host = self.host.to_ascii_lowercase();
        let is_name = host == "localhost" || host.ends_with(".localhost");
        is_name
            || self
                .address()
                .is_some_and(|address| address.to_canonical().is_loopback())
    }

    /// Path and query, at least `/`.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The host, if it is an address and needs no look-up.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// `host:port`, or the path of the socket, as messages name the collector.
    pub fn authority(&self) -> String {
        match &self.socket {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.bracketed(), self.port),
        }
    }

    /// Scheme, host and port in front of the path, as a request to a forward proxy has them (RFC 9112 section 3.2.2).
    pub fn absolute(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path_and_query)
    }

    /// The value of the `Host` header: the port only where it is not the scheme's own.
    pub fn host_header(&self) -> Option<HeaderValue> {
        let host = match (self.https, self.port) {
            _ if self.socket.is_some() => self.host.clone(),
            (false, 80) | (true, 443) => self.bracketed(),
            _ => self.authority(),
        };
        HeaderValue::from_str(&host).ok()
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }
}

/// The value of `Authorization` for `USER:PASSWORD` as a URL has them.
fn basic(credentials: &str) -> Result<HeaderValue, UrlError> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let [user, password] = [user, password].map(store::percent::decoded);
    let (user, password) = user.zip(password).ok_or(UrlError::Credentials)?;
    // The first colon ends the user.
    if user.contains(&b':') {
        return Err(UrlError::Credentials);
    }
    let mut plain = user;
    plain.push(b':');
    plain.extend(password);
    let mut value = HeaderValue::from_str(&format!("Basic {}", base64(&plain)))
        .map_err(|_| UrlError::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS[(bits >> shift) as usize & 63];
            text.push(if index > chunk.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

/// A port is optional, but one that is there must be one: the URL parser takes `host:` and `host:99999` silently.
fn check_port(authority: &str) -> Result<(), UrlError> {
    let after_host = authority
        .rsplit_once(']')
        .map_or(authority, |(_, rest)| rest);
    match after_host.split_once(':') {
        None => Ok(()),
        Some((_, port)) => match port.parse::<u16>() {
            Ok(1..) => Ok(()),
            _ => Err(UrlError::BadPort),
        },
    }
}

impl fmt::Display for CaptureUrl {
    /// Without the query, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        if let Some(socket) = &self.socket {
            write!(f, "unix://{}", socket.display())?;
            return match path {
                PATH => Ok(()),
                path => write!(f, ":{path}"),
            };
        }
        write!(
            f,
            "{}://{}{path}",
            if self.https { "https" } else { "http" },
            self.authority()
        )
    }
}

impl fmt::Debug for CaptureUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaptureUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &str, &str), UrlError>) {
        let url = CaptureUrl::parse(text);
        let seen = url.as_ref().map(|url| {
            (
                url.to_string(),
                url.path_and_query().to_owned(),
                url.host_header().unwrap(),
            )
        });
        let seen = seen
            .as_ref()
            .map(|(url, path, host)| (url.as_str(), path.as_str(), host.to_str().unwrap()));
        assert_eq!(seen.map_err(|error| **error), expected, "{text}");
    }

    #[test]
    fn this_machine_is_distinguished_from_others() {
        for (host, expected) in [
            ("localhost:7701", true),
            ("Store.LOCALHOST", true),
            ("127.8.0.1", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
            ("127.example", false),
        ] {
            let url = CaptureUrl::parse(&format!("http://{host}/message")).unwrap();
            assert_eq!(url.is_loopback(), expected, "{host}");
        }
    }

    #[test]
    fn urls_are_taken_or_refused_with_a_reason() {
        check(
            "http://localhost:7701/message",
            Ok((
                "http://localhost:7701/message",
                "/message",
                "localhost:7701",
            )),
        );
        check(
            " HTTP://localhost:80 ",
            Ok(("http://localhost:80/", "/", "localhost")),
        );
        check(
            "https://lake.example/a?token=b",
            Ok(("https://lake.example:443/a", "/a?token=b", "lake.example")),
        );
        check(
            "https://[fd00::1]:8443/m",
            Ok(("https://[fd00::1]:8443/m", "/m", "[fd00::1]:8443")),
        );
        check(
            "http://10.0.0.1",
            Ok(("http://10.0.0.1:80/", "/", "10.0.0.1")),
        );
        check("", Err(UrlError::Empty));
        check("localhost:7701", Err(UrlError::NoScheme));
        check("localhost:7701/message", Err(UrlError::NoScheme));
        check("://x", Err(UrlError::NoScheme));
        check("ftp://x/", Err(UrlError::OtherScheme));
        check("http://", Err(UrlError::NoHost));
        check("http:///message", Err(UrlError::NoHost));
        check("http://:7701/", Err(UrlError::NoHost));
        check("http://host:0/", Err(UrlError::BadPort));
        check("http://host:99999/", Err(UrlError::BadPort));
        check("http://host:/", Err(UrlError::BadPort));
        check("http://host:port/", Err(UrlError::BadPort));
        check(
            "http://me:secret@host/m",
            Ok(("http://host:80/m", "/m", "host")),
        );
        check(
            "https://me:secret@[::1]:8/",
            Ok(("https://[::1]:8/", "/", "[::1]:8")),
        );
        check("http://me:sec%ret@host/", Err(UrlError::Credentials));
        check("http://m%3Ae:secret@host/", Err(UrlError::Credentials));
        check("http://me:sec/ret@host/", Err(UrlError::BadPort));
        check("http://me:1/ret@host/", Err(UrlError::Credentials));
        check("http://ho\tst/", Err(UrlError::Malformed));
        check("\"http://host/\"", Err(UrlError::OtherScheme));
    }

    #[test]
    fn a_unix_socket_takes_the_place_of_host_and_port() {
        for (text, shown, path) in [
            ("unix:///run/c.sock", "unix:///run/c.sock", "/message"),
            (
                "unix:///run/c.sock:/m?a=b",
                "unix:///run/c.sock:/m",
                "/m?a=b",
            ),
        ] {
            let url = CaptureUrl::parse(text).unwrap();
            assert_eq!(
                (url.to_string().as_str(), url.path_and_query()),
                (shown, path)
            );
            assert_eq!(url.socket(), Some(Path::new("/run/c.sock")));
            assert_eq!(url.authority(), "/run/c.sock");
            assert!(url.is_loopback() && !url.is_https());
            assert_eq!(url.host_header().unwrap(), "localhost");
        }
        for text in ["unix://run/c.sock", "unix://", "unix:///", "unix:///run/"] {
            assert_eq!(CaptureUrl::parse(text), Err(UrlError::NoSocket), "{text}");
        }
        let long = format!("unix:///{}", "x".repeat(SOCKET_BYTES_MAX));
        assert_eq!(CaptureUrl::parse(&long), Err(UrlError::Malformed));
    }

    #[test]
    fn several_urls_have_blanks_between_them() {
        let urls =
            CaptureUrls::parse(" http://localhost/a\nunix:///b\thttps://c.example/m ").unwrap();
        let shown: Vec<String> = urls.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "http://localhost:80/a",
                "unix:///b",
                "https://c.example:443/m"
            ]
        );
        assert!(!urls.are_loopback());
        assert_eq!(CaptureUrls::parse("  "), Err(UrlError::Empty));
        assert_eq!(CaptureUrls::parse("http://a/ b"), Err(UrlError::NoScheme));
    }

    #[test]
    fn a_proxy_needs_no_scheme_and_has_no_other_than_http() {
        for text in [
            "http://me:pw@proxy:3128",
            "me:pw@proxy:3128",
            "http://me:pw@proxy:3128/",
        ] {
            let proxy = CaptureUrl::parse_proxy(text).unwrap();
            assert_eq!(proxy.authority(), "proxy:3128");
            assert_eq!(proxy.authorization().unwrap(), "Basic bWU6cHc=");
        }
        for text in ["https://proxy:3128", "socks5://proxy:1080", "unix:///proxy"] {
            assert_eq!(CaptureUrl::parse_proxy(text), Err(UrlError::OtherScheme));
        }
    }

    #[test]
    fn user_and_password_become_a_header_and_are_not_shown() {
        for (credentials, expected) in [
            (
                "Aladdin:open%20sesame",
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            ),
            ("me:p%40%2F:%C3%A9", "Basic bWU6cEAvOsOp"),
            ("me", "Basic bWU6"),
            ("me:a", "Basic bWU6YQ=="),
        ] {
            let url = CaptureUrl::parse(&format!("https://{credentials}@host/m")).unwrap();
            assert_eq!(url.authorization().unwrap(), expected);
            assert_eq!(
                format!("{url} {url:?}"),
                "https://host:443/m CaptureUrl(https://host:443/m)"
            );
        }
        assert!(
            CaptureUrl::parse("https://host/")
                .unwrap()
                .authorization()
                .is_none()
        );
    }

    #[test]
    fn an_address_needs_no_look_up() {
        assert_eq!(
            CaptureUrl::parse("http://[::1]:1/").unwrap().address(),
            Some("::1".parse().unwrap())
        );
        assert_eq!(
            CaptureUrl::parse("http://localhost/").unwrap().address(),
            None
        );
    }
}
