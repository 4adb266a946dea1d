//! Access control of the page, also against other sites in the user's browser.
//!
//! - On a loopback address the `Host` must be a name of this machine's loopback. That keeps out a foreign name that points at
//!   127.0.0.1 (DNS rebinding). The port may be any, because tunnels change it.
//! - On any other address a token is required, once as `?token=`, from then on as a cookie that scripts and other sites cannot
//!   use. Programs may send `Authorization: Bearer`.
//! - Every answer carries a content security policy under which nothing captured can run, even if it were treated as markup: no
//!   inline script, no markup from text (trusted types), no other origin, no frame.

use std::net::SocketAddr;

use anyhow::Context;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

const COOKIE: &str = "store_token";

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
    token: Option<String>,
}

impl Guard {
    /// The guard of a page at this address; makes a token where one is needed.
    pub(crate) fn new(page: SocketAddr) -> anyhow::Result<Self> {
        let token = if page.ip().is_loopback() {
            None
        } else {
            Some(random_token().context("making a token")?)
        };
        Ok(Self { token })
    }

    pub(crate) fn token(&self) -> Option<String> {
        self.token.clone()
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        match &self.token {
            None => headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .is_some_and(is_loopback_name),
            Some(token) => cookie(headers)
                .or_else(|| bearer(headers))
                .is_some_and(|given| same(given, token)),
        }
    }

    /// `?token=` of a link that the start-up message printed.
    fn opens(&self, query: Option<&str>) -> bool {
        let given = query.and_then(|query| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix("token="))
        });
        self.token
            .as_deref()
            .zip(given)
            .is_some_and(|(token, given)| same(given, token))
    }
}

/// Middleware in front of every route of the page.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = if guard.opens(request.uri().query()) {
        let cookie = format!(
            "{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/",
            guard.token.unwrap_or_default()
        );
        // A redirect to the same page without the token, so that it does not stay in history and bookmarks.
        (
            StatusCode::SEE_OTHER,
            [(header::SET_COOKIE, cookie), (header::LOCATION, "/".into())],
        )
            .into_response()
    } else if guard.admits(request.headers()) {
        next.run(request).await
    } else if guard.token.is_some() {
        (
            StatusCode::UNAUTHORIZED,
            "a token is needed: open the link that the program printed at its start\n",
        )
            .into_response()
    } else {
        (
            StatusCode::FORBIDDEN,
            "open this page as http://localhost or http://127.0.0.1\n",
        )
            .into_response()
    };
    for (name, value) in POLICY {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
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

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split("; "))
        .find_map(|pair| pair.strip_prefix(COOKIE)?.strip_prefix('='))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

/// Compares in constant time: a wrong first character takes as long as a wrong last one.
fn same(given: &str, token: &str) -> bool {
    let differences = given
        .bytes()
        .zip(token.bytes())
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == token.len() && differences == 0
}

fn random_token() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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

    #[test]
    fn a_token_elsewhere() {
        let guard = Guard::new("0.0.0.0:7700".parse().expect("address")).expect("random");
        let token = guard.token().expect("needed");
        assert_eq!(token.len(), 32);
        assert_ne!(
            Guard::new("0.0.0.0:7700".parse().expect("address"))
                .expect("random")
                .token(),
            Some(token.clone())
        );
        let with = |name: HeaderName, value: &str| {
            HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("ASCII"))])
        };
        assert!(!guard.admits(&with(header::HOST, "localhost:7700")));
        assert!(!guard.admits(&with(header::COOKIE, "store_token=x")));
        assert!(guard.admits(&with(header::COOKIE, &format!("a=b; store_token={token}"))));
        assert!(guard.admits(&with(header::AUTHORIZATION, &format!("Bearer {token}"))));
        assert!(guard.opens(Some(&format!("x=1&token={token}"))));
        assert!(!guard.opens(Some("token=")) && !guard.opens(None));
    }
}
