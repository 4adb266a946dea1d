//! Access control of the page, also against other sites in the user's browser.
//!
//! - A token is required wherever the page listens, since every user and container of a host reaches its loopback address: once
//!   as `?token=` of a link, from then on as a cookie that scripts and other sites cannot use. Programs may send
//!   `Authorization: Bearer`. The cookie has the port in its name, because cookies of a host belong to all its ports.
//! - Where the token is switched off, the `Host` of a request on a loopback address must be a name of this machine's loopback.
//!   That keeps out a foreign name that points at 127.0.0.1 (DNS rebinding). The port may be any, because tunnels change it.
//! - Every answer carries a content security policy under which nothing captured can run, even if it were treated as markup: no
//!   inline script, no markup from text (trusted types), no other origin, no frame.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

use crate::answer;
use crate::token::{Secret, TOKEN_NAME};

/// Beginning of the cookie's name; the port follows.
const COOKIE: &str = "store_token_";

/// How long a browser keeps the cookie, so that bookmarks stay good: a year.
const COOKIE_SECONDS: u32 = 365 * 24 * 60 * 60;

const POLICY: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Admits requests to the page, or refuses them.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    token: Option<Secret>,
    page: SocketAddr,
}

impl Guard {
    /// The guard of a page at this address.
    pub(crate) fn new(page: SocketAddr, token: Option<Secret>) -> Self {
        Self { token, page }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        match &self.token {
            None => !self.page.ip().is_loopback() || is_of_loopback(headers),
            Some(token) => cookies(headers, &self.cookie_name(headers))
                .chain(bearer(headers))
                .any(|given| token.is(given)),
        }
    }

    /// Whether the query has the token, as that of a link.
    fn opens(&self, query: Option<&str>) -> bool {
        self.token
            .as_ref()
            .zip(given(query))
            .is_some_and(|(token, given)| token.is(given))
    }

    /// The cookie by the port that the browser uses, which is another one behind a tunnel.
    fn cookie_name(&self, headers: &HeaderMap) -> String {
        let port = host(headers).and_then(port).unwrap_or(self.page.port());
        format!("{COOKIE}{port}")
    }

    /// The answer to a link: a redirect to the same place without the token, so that it does not stay in the address bar, in the
    /// history and in bookmarks.
    fn open(&self, uri: &Uri, headers: &HeaderMap) -> Response {
        let mut answer = (
            StatusCode::SEE_OTHER,
            [(header::LOCATION, without_token(uri))],
        )
            .into_response();
        if let (Some(token), true) = (&self.token, self.opens(uri.query())) {
            let cookie = format!(
                "{}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age={COOKIE_SECONDS}",
                self.cookie_name(headers),
                token.reveal()
            );
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                answer.headers_mut().insert(header::SET_COOKIE, cookie);
            }
        }
        answer
    }

    fn refuse(&self, path: &str) -> Response {
        if self.token.is_none() {
            let words = "open this page as http://localhost or http://127.0.0.1\n";
            return (StatusCode::FORBIDDEN, words).into_response();
        }
        let body = if path.starts_with("/api/") {
            answer::error(StatusCode::UNAUTHORIZED, NEEDED).into_response()
        } else {
            (StatusCode::UNAUTHORIZED, Html(needed_page())).into_response()
        };
        ([(header::WWW_AUTHENTICATE, "Bearer")], body).into_response()
    }
}

/// What the API answers without the token, and what the page in a browser shows when its token is no longer good.
const NEEDED: &str = "the token of this page is needed: open the link that `sniffer page` prints, or send \
                      `Authorization: Bearer TOKEN`";

fn needed_page() -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>sniffer: a token is needed</title>\n\
         <h1>This page needs its token</h1>\n\
         <p>It shows captured calls, so it opens only by a link that has its token. Once opened, the browser keeps the token, \
         and the plain address is enough.\n\
         <p>To get the link, on the machine that captures and as the user that runs the sniffer:\n\
         <pre>sniffer page</pre>\n\
         <p>In a container:\n\
         <pre>docker exec NAME sniffer page</pre>\n\
         <p>Of a store that runs alone (<code>sniffer store</code>), the token is in the file <code>{TOKEN_NAME}</code> of \
         its data folder, unless <code>SNIFFER_UI_TOKEN</code> sets it: append <code>?token=TOKEN</code> to this address.\n\
         <p>A program sends the header <code>Authorization: Bearer TOKEN</code>.\n\
         </html>\n"
    )
}

/// Middleware in front of every route of the page.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    let is_admitted = guard.admits(headers);
    let mut response = if guard.opens(uri.query()) {
        guard.open(uri, headers)
    } else if is_admitted && given(uri.query()).is_some() {
        // An old link, or one of a page whose token is switched off.
        guard.open(uri, headers)
    } else if is_admitted {
        next.run(request).await
    } else {
        guard.refuse(uri.path())
    };
    for (name, value) in POLICY {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// `token=` of a query.
fn given(query: Option<&str>) -> Option<&str> {
    query?
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))
}

/// Path and query without the token.
fn without_token(uri: &Uri) -> String {
    // Two slashes at the beginning would name another host.
    let path = uri.path().trim_start_matches('/');
    let pairs = uri.query().unwrap_or_default().split('&');
    let others: Vec<&str> = pairs
        .filter(|pair| !pair.is_empty() && !pair.starts_with("token="))
        .collect();
    let mark = if others.is_empty() { "" } else { "?" };
    format!("/{path}{mark}{}", others.join("&"))
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// The port of a `Host`; without one it is the default of `http`.
fn port(host: &str) -> Option<u16> {
    let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    match after_address.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None => Some(80),
    }
}

fn is_of_loopback(headers: &HeaderMap) -> bool {
    host(headers).is_some_and(is_loopback_name)
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            name
        }
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(move |pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// The scheme is written in any case (RFC 9110 section 11.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_host(host: &str, expected: bool) {
        assert_eq!(is_loopback_name(host), expected, "{host}");
    }

    #[test]
    fn only_names_of_the_loopback() {
        for host in [
            "localhost",
            "LocalHost:7700",
            "127.0.0.1",
            "127.0.0.1:7700",
            "[::1]",
            "[::1]:9",
            "localhost:80",
        ] {
            check_host(host, true);
        }
        for host in [
            "",
            "evil.example",
            "evil.example:7700",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:x",
        ] {
            check_host(host, false);
        }
    }

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("ASCII"))])
    }

    fn guard(page: &str, token: Option<&str>) -> Guard {
        let token = token.map(|token| Secret::token(token).expect("a token"));
        Guard::new(page.parse().expect("address"), token)
    }

    #[test]
    fn a_token_is_required_on_every_address() {
        for page in ["127.0.0.1:7700", "[::1]:7700", "0.0.0.0:7700"] {
            let guard = guard(page, Some("abcdef"));
            let admits = |name, value: &str| guard.admits(&with(name, value));
            assert!(!admits(header::HOST, "localhost:7700"));
            assert!(!admits(header::COOKIE, "store_token_7700=x"));
            assert!(!admits(header::COOKIE, "store_token_7701=abcdef"));
            assert!(!admits(header::COOKIE, "xstore_token_7700=abcdef"));
            assert!(admits(header::COOKIE, "a=b; store_token_7700=abcdef"));
            assert!(admits(
                header::COOKIE,
                "store_token_7700=x; store_token_7700=abcdef"
            ));
            assert!(admits(header::AUTHORIZATION, "Bearer abcdef"));
            assert!(admits(header::AUTHORIZATION, "bearer  abcdef"));
            assert!(!admits(header::AUTHORIZATION, "Basic abcdef"));
            assert!(guard.opens(Some("x=1&token=abcdef")));
            assert!(!guard.opens(Some("token=")) && !guard.opens(None));
            assert!(!guard.opens(Some("mytoken=abcdef")));
        }
    }

    #[test]
    fn without_a_token_the_loopback_has_its_own_names() {
        let near = guard("127.0.0.1:7700", None);
        assert!(near.admits(&with(header::HOST, "localhost:7700")));
        assert!(!near.admits(&with(header::HOST, "evil.example:7700")));
        assert!(guard("0.0.0.0:7700", None).admits(&with(header::HOST, "sniffer.example")));
    }

    #[test]
    fn pages_of_one_host_have_cookies_of_their_own() {
        let guard = guard("127.0.0.1:7700", Some("abcdef"));
        for (host, expected) in [
            ("localhost:7700", "store_token_7700"),
            // Through a tunnel.
            ("localhost:8800", "store_token_8800"),
            ("[::1]:9", "store_token_9"),
            ("[::1]", "store_token_80"),
            ("sniffer.example", "store_token_80"),
            ("x:y", "store_token_7700"),
        ] {
            let headers = with(header::HOST, host);
            assert_eq!(guard.cookie_name(&headers), expected, "{host}");
        }
    }

    #[test]
    fn the_token_leaves_the_address() {
        for (uri, expected) in [
            ("/?token=x", "/"),
            ("/?a=b&token=x&c=d", "/?a=b&c=d"),
            ("/api/v1/calls?token=x&token=y", "/api/v1/calls"),
            ("//evil.example/?token=x", "/evil.example/"),
            ("/", "/"),
        ] {
            let uri: Uri = uri.parse().expect("a URI");
            assert_eq!(without_token(&uri), expected, "{uri}");
        }
    }
}
