//! An answer that is final for its bundle, in words that lead to the setting that is wrong.

use std::fmt;

use super::retry::Outcome;
use crate::diagnostic::Code;

/// An answer that is final for its bundle, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The capture URL, without its query.
    pub(super) url: String,
    /// Status of the answer.
    pub(super) status: u16,
    /// Where the answer points to.
    pub(super) location: Option<String>,
    /// Whether the request had credentials.
    pub(super) has_credentials: bool,
    /// Bytes of the body.
    pub(super) bytes: usize,
    /// Bytes of lines in one bundle, by the settings.
    pub(super) bundle_bytes: usize,
}

impl Refusal {
    /// What an outcome is, if it is final.
    pub(super) fn of(outcome: &Outcome, of_post: &Self) -> Option<Self> {
        let (status, location) = match outcome {
            Outcome::Status(status, _) => (*status, None),
            Outcome::Moved(status, location) => (*status, Some(location.clone())),
            Outcome::Failed(_) => return None,
        };
        Some(Self {
            status,
            location,
            ..of_post.clone()
        })
    }

    /// The code that explains it.
    pub(super) fn code(&self) -> Code {
        match self.status {
            401 | 403 | 407 if !self.is_of_page() => Code::W043,
            413 => Code::W045,
            _ => Code::W044,
        }
    }

    /// The port is that of a store's page, which requires a token from anybody else than a browser of its user.
    fn is_of_page(&self) -> bool {
        self.url.contains(":7700/")
    }

    /// Which part of the URL is most likely wrong.
    fn hint(&self) -> Option<&'static str> {
        if self.is_of_page() {
            Some("7700 is the port of a store's page, the capture URL is http://HOST:7701/message")
        } else if !self.url.ends_with("/message") {
            Some("the path of a capture URL is mostly /message")
        } else {
            None
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, status, .. } = self;
        match status {
            401 | 403 | 407 if self.is_of_page() => {
                write!(f, "{url} answered {status}: nothing takes calls there")?;
            }
            407 => {
                return write!(
                    f,
                    "{url} answered 407: the proxy does not accept the credentials, or requires some. \
                     fix: --proxy http://USER:PASSWORD@HOST:PORT"
                );
            }
            401 | 403 if self.has_credentials => {
                return write!(
                    f,
                    "{url} answered {status}: it does not accept the credentials of --header or of the URL"
                );
            }
            401 | 403 => {
                return write!(
                    f,
                    "{url} answered {status}: it requires credentials. fix: --header 'Authorization: Bearer TOKEN'"
                );
            }
            404 => write!(f, "{url} answered 404: nothing takes calls there")?,
            405 => write!(f, "{url} answered 405: it takes no POST")?,
            413 => {
                return write!(
                    f,
                    "{url} answered 413: a bundle of {} bytes is too large for it, and is sent in parts. fix: USAGE_LOGGERS_BUNDLE_SIZE={}",
                    self.bytes,
                    smaller(self.bundle_bytes)
                );
            }
            300..=399 => {
                write!(f, "{url} answered {status}: it points elsewhere")?;
                return match &self.location {
                    Some(location) => write!(f, ". fix: --url {location}"),
                    None => f.write_str("; give the final URL"),
                };
            }
            400 if url.starts_with("http://") => write!(
                f,
                "{url} answered 400: it does not understand the bundle; does the port expect https://?"
            )?,
            200..=299 => write!(
                f,
                "{url} answered {status}, a capture URL answers 204: this may be another kind of server"
            )?,
            _ => write!(f, "{url} answered {status}: it does not accept the bundle")?,
        }
        match self.hint() {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Half of a size, as the setting is written.
fn smaller(bytes: usize) -> String {
    match bytes / 2 {
        half if half >= 1024 => format!("{}K", half / 1024),
        half => half.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn refusal(url: &str, status: u16) -> Refusal {
        Refusal {
            url: url.to_owned(),
            status,
            location: None,
            has_credentials: false,
            bytes: 7,
            bundle_bytes: 512 * 1024,
        }
    }

    #[test]
    fn a_refusal_says_what_is_most_likely_wrong() {
        let text = |url: &str, status| refusal(url, status).to_string();
        for (url, status, expected) in [
            ("http://x:80/message", 404, "nothing takes calls there"),
            (
                "http://x:80/",
                404,
                "nothing takes calls there; the path of a capture URL is mostly /message",
            ),
            (
                "http://x:7700/message",
                405,
                "it takes no POST; 7700 is the port of a store's page, the capture URL is http://HOST:7701/message",
            ),
            (
                "http://x:80/message",
                302,
                "it points elsewhere; give the final URL",
            ),
            (
                "http://x:443/message",
                400,
                "it does not understand the bundle; does the port expect https://?",
            ),
            (
                "https://x:443/message",
                400,
                "it does not accept the bundle",
            ),
        ] {
            assert_eq!(
                text(url, status),
                format!("{url} answered {status}: {expected}")
            );
        }
        let page = text("http://x:80/message", 200);
        assert!(
            page.contains("answered 200, a capture URL answers 204"),
            "{page}"
        );
        let moved = Refusal {
            location: Some("https://y/message".to_owned()),
            ..refusal("http://x:80/message", 301)
        };
        assert!(
            moved
                .to_string()
                .ends_with("it points elsewhere. fix: --url https://y/message")
        );
        let known = Refusal {
            has_credentials: true,
            ..refusal("http://x:80/message", 401)
        };
        assert!(
            known
                .to_string()
                .contains("does not accept the credentials")
        );
    }
}
