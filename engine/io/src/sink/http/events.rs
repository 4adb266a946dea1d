//! What is reported to a person about the collector, and how often.

use std::fmt;
use std::time::{Duration, Instant};

use super::retry::{Failure, Outcome};
use crate::diagnostic::Code;
use crate::quantity::plural;

/// An event for the log: something that a person may have to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The collector does not take bundles; they are kept and tried again.
    Down {
        /// `host:port` of the collector.
        collector: String,
        /// What happened.
        cause: Outcome,
        /// Posts that failed since the last that did not.
        tries: u32,
        /// Until the next.
        next_try: Duration,
        /// Bundles that are kept at most.
        bundles_max: usize,
        /// The collector that takes bundles instead, where there is one.
        instead: Option<String>,
        /// Calls that this uploader has given up so far.
        calls_lost: u64,
    },
    /// It was sent a bundle and has not answered yet.
    Silent {
        /// `host:port` of the collector.
        collector: String,
        /// For so long.
        since: Duration,
        /// When the wait is given up.
        at_most: Duration,
        /// Calls that this uploader has given up so far.
        calls_lost: u64,
    },
    /// It takes them again.
    Up {
        /// `host:port` of the collector.
        collector: String,
        /// Calls that this uploader has given up so far.
        calls_lost: u64,
    },
    /// The collector answers a ledger as something that it does not have; it gets no further one.
    NoLedgers {
        /// `host:port` of the collector.
        collector: String,
        /// Its answer.
        status: u16,
    },
    /// The collector refuses everything until somebody corrects it or the settings; bundles are kept, and tried after long pauses.
    Kept {
        /// What is wrong.
        refusal: Refusal,
        /// Until the next try.
        next_try: Duration,
        /// The collector that takes bundles instead, where there is one.
        instead: Option<String>,
        /// Calls that this uploader has given up so far.
        calls_lost: u64,
    },
    /// The collector took a bundle with a status that no capture URL answers.
    Odd {
        /// The answer.
        refusal: Refusal,
        /// Calls that this uploader has given up so far.
        calls_lost: u64,
    },
    /// The collector refused a bundle for good.
    Refused {
        /// What is wrong.
        refusal: Refusal,
        /// Calls that this uploader has given up so far, those of the bundle included.
        calls_lost: u64,
    },
    /// The collector found a bundle too large; it is sent again in parts.
    Divided {
        /// What was too large.
        refusal: Refusal,
    },
    /// The collector found the line of one call too large.
    TooLarge {
        /// What was too large.
        refusal: Refusal,
        /// Calls that this uploader has given up so far, this one included.
        calls_lost: u64,
    },
    /// io_uring was refused by this kernel.
    Fallback {
        /// The error number.
        errno: i32,
    },
    /// The driver failed while it ran; epoll takes over.
    DriverFailed {
        /// How.
        error: String,
    },
}

impl Event {
    /// The code under which it is explained.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Down { cause, .. } => code_of_failure(cause),
            Self::Silent { .. } | Self::Up { .. } | Self::NoLedgers { .. } => Code::W042,
            Self::Refused { refusal, .. }
            | Self::Kept { refusal, .. }
            | Self::Odd { refusal, .. }
            | Self::Divided { refusal } => refusal.code(),
            Self::TooLarge { .. } => Code::W049,
            Self::Fallback { .. } | Self::DriverFailed { .. } => Code::W050,
        }
    }

    fn calls_lost(&self) -> u64 {
        match self {
            Self::Down { calls_lost, .. }
            | Self::Silent { calls_lost, .. }
            | Self::Up { calls_lost, .. }
            | Self::Refused { calls_lost, .. }
            | Self::Kept { calls_lost, .. }
            | Self::Odd { calls_lost, .. }
            | Self::TooLarge { calls_lost, .. } => *calls_lost,
            Self::Divided { .. }
            | Self::NoLedgers { .. }
            | Self::Fallback { .. }
            | Self::DriverFailed { .. } => 0,
        }
    }

    /// What is wrong with the collector, without what changes from event to event.
    pub(super) fn trouble(&self) -> String {
        match self {
            Self::Down { cause, .. } => cause.to_string(),
            Self::Silent { since, .. } => {
                format!("has taken a bundle and not answered for {}", Brief(*since))
            }
            Self::Refused { refusal, .. } | Self::Kept { refusal, .. } => refusal.to_string(),
            Self::TooLarge { refusal, .. } => format!(
                "{} answered 413: one call, {} bytes in its POST, is too large for it. fix: a smaller --body-limit",
                refusal.url, refusal.bytes
            ),
            other => other.to_string(),
        }
    }
}

/// The code that explains an outcome after which the bundle is tried again.
pub(super) fn code_of_failure(cause: &Outcome) -> Code {
    match cause {
        Outcome::Failed(Failure::Tls(_)) => Code::W046,
        Outcome::Failed(Failure::Proxy(407, _)) => Code::W043,
        Outcome::Failed(_) => Code::W042,
        Outcome::Status(..) | Outcome::Moved(..) => Code::W045,
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down {
                collector,
                cause,
                tries,
                next_try,
                bundles_max,
                instead,
                calls_lost,
            } => write!(
                f,
                "{collector} {cause} ({tries} {}); {}, next try in {}; {}",
                if *tries == 1 { "try" } else { "tries" },
                Meanwhile(
                    instead.as_deref(),
                    &format_args!("up to {bundles_max} bundles")
                ),
                Brief(*next_try),
                SoFar(*calls_lost),
            ),
            Self::Silent {
                collector,
                at_most,
                calls_lost,
                ..
            } => write!(
                f,
                "{collector} {}; waiting for {} at most; {}",
                self.trouble(),
                Brief(*at_most),
                SoFar(*calls_lost),
            ),
            Self::Up {
                collector,
                calls_lost,
            } => {
                write!(f, "{collector} takes calls again; {}", SoFar(*calls_lost))
            }
            Self::NoLedgers { collector, status } => write!(
                f,
                "{collector} answers the ledger with {status}, so it is no store of this program; it gets calls alone"
            ),
            Self::Kept {
                refusal,
                next_try,
                instead,
                calls_lost,
            } => write!(
                f,
                "{refusal}; {}, next try in {}; {}",
                Meanwhile(instead.as_deref(), &"bundles"),
                Brief(*next_try),
                SoFar(*calls_lost)
            ),
            Self::Odd { refusal, .. } => write!(f, "{refusal}; its bundles count as delivered"),
            Self::Refused {
                refusal,
                calls_lost,
            } => write!(f, "{refusal}; {}", SoFar(*calls_lost)),
            Self::Divided { refusal } => refusal.fmt(f),
            Self::TooLarge { calls_lost, .. } => {
                write!(f, "{}; {}", self.trouble(), SoFar(*calls_lost))
            }
            Self::Fallback { errno } => {
                let cause = match *errno {
                    libc::EPERM | libc::EACCES => {
                        "blocked (seccomp default of Docker ≥ 25, or kernel.io_uring_disabled=2)"
                    }
                    libc::ENOSYS => "not there (kernel, or its seccomp profile)",
                    libc::ENOMEM => "short of locked memory",
                    _ => "not usable on this kernel",
                };
                write!(
                    f,
                    "io_uring {cause}; using plain sockets, which lose nothing"
                )
            }
            Self::DriverFailed { error } => write!(
                f,
                "the uploader's io_uring failed ({error}); using plain sockets"
            ),
        }
    }
}

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

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, _) | Self::Moved(status, _) => write!(f, "answered {status}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => write!(f, "has no address: {error}"),
            Self::Connect(error) => f.write_str(error),
            Self::TimedOut(phase) => write!(f, "timed out {phase}"),
            Self::Tls(error) => write!(f, "cannot be reached by TLS: {error}"),
            Self::Proxy(0, error) => write!(f, "cannot be reached by the proxy: {error}"),
            Self::Proxy(status, error) => {
                write!(
                    f,
                    "cannot be reached by the proxy, which answered {status}: {error}"
                )
            }
            Self::Lost(error) => write!(f, "broke the connection: {error}"),
            Self::Stale => f.write_str("had closed the connection"),
        }
    }
}

/// What becomes of bundles while a collector takes none: they go to another one, or so many are kept.
struct Meanwhile<'a>(Option<&'a str>, &'a dyn fmt::Display);

impl fmt::Display for Meanwhile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(Some(instead), _) => write!(f, "sending to {instead}"),
            Self(None, kept) => write!(f, "keeping {kept}"),
        }
    }
}

/// How many calls were given up, as `status` words it.
struct SoFar(u64);

impl fmt::Display for SoFar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dropped so far", plural(self.0, "call"))
    }
}

/// A duration as people write it.
struct Brief(Duration);

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            short if short < Duration::from_secs(1) => write!(f, "{} ms", short.as_millis()),
            long => write!(f, "{} s", long.as_secs()),
        }
    }
}

/// The same message is repeated at most this often,
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// or this often while the lost calls double.
const LOSSES_AFTER: Duration = Duration::from_secs(10);

/// Troubles that are reported as they begin, however soon after the one before; one more for each [`AGAIN_AFTER`]. A collector
/// that refuses each second bundle must not fill the log.
const TROUBLES_AT_ONCE: u32 = 10;

/// What was reported last under one code.
#[derive(Debug)]
struct Reported {
    code: Code,
    at: Instant,
    calls_lost: u64,
}

/// Admits each kind of event when things change, and then once in a while.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    reported: Vec<Reported>,
    /// A trouble was reported, and not that it is over.
    down: bool,
    /// Of [`TROUBLES_AT_ONCE`], those that were reported.
    troubles: u32,
    /// When `troubles` was last lowered, or raised from none.
    lowered: Option<Instant>,
}

impl Throttle {
    /// Whether to report it now.
    pub(super) fn admits(&mut self, event: &Event, now: Instant) -> bool {
        let is_down = match event {
            Event::Up { .. } => {
                // What was wrong may be reported at once if it comes back.
                self.reported.retain(|reported| reported.code == Code::W050);
                return std::mem::take(&mut self.down);
            }
            // At most one of each collector.
            Event::NoLedgers { .. } => return true,
            Event::Divided { .. }
            | Event::Odd { .. }
            | Event::Fallback { .. }
            | Event::DriverFailed { .. } => false,
            Event::Down { .. }
            | Event::Silent { .. }
            | Event::Refused { .. }
            | Event::Kept { .. }
            | Event::TooLarge { .. } => true,
        };
        let next = Reported {
            code: event.code(),
            at: now,
            calls_lost: event.calls_lost(),
        };
        let mut reported = self.reported.iter_mut();
        match reported.find(|reported| reported.code == next.code) {
            Some(last) => {
                let age = now.saturating_duration_since(last.at);
                let doubled = next.calls_lost > 2 * last.calls_lost;
                let is_due = age >= AGAIN_AFTER || (doubled && age >= LOSSES_AFTER);
                if is_due {
                    *last = next;
                }
                is_due
            }
            None => {
                let may_begin = self.may_begin(now);
                if may_begin {
                    self.reported.push(next);
                    self.down |= is_down;
                }
                may_begin
            }
        }
    }

    /// Whether a trouble that begins is reported.
    fn may_begin(&mut self, now: Instant) -> bool {
        while let Some(lowered) = self.lowered.filter(|_| self.troubles > 0)
            && now.saturating_duration_since(lowered) >= AGAIN_AFTER
        {
            self.troubles -= 1;
            self.lowered = Some(lowered + AGAIN_AFTER);
        }
        if self.troubles >= TROUBLES_AT_ONCE {
            return false;
        }
        if self.troubles == 0 {
            self.lowered = Some(now);
        }
        self.troubles += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(cause: Outcome) -> Event {
        let collector = "localhost:7701".to_owned();
        let next_try = Duration::from_secs(8);
        Event::Down {
            collector,
            cause,
            tries: 3,
            next_try,
            bundles_max: 128,
            instead: None,
            calls_lost: 0,
        }
    }

    fn refusal(url: &str, status: u16) -> Refusal {
        Refusal {
            url: url.to_owned(),
            status,
            location: None,
            has_credentials: false,
            bytes: 7,
            bundle_bytes: 512 * 1024,
        }
    }

    fn refused(status: u16) -> Event {
        Event::Refused {
            refusal: refusal("http://x:80/message", status),
            calls_lost: 5,
        }
    }

    #[track_caller]
    fn check(event: &Event, code: Code, text: &str) {
        assert_eq!((event.code(), event.to_string().as_str()), (code, text));
    }

    #[test]
    fn messages_name_cause_and_fix() {
        check(
            &down(Outcome::Failed(Failure::Connect("refused".to_owned()))),
            Code::W042,
            "localhost:7701 refused (3 tries); keeping up to 128 bundles, next try in 8 s; 0 calls dropped so far",
        );
        check(
            &down(Outcome::Status(503, None)),
            Code::W045,
            "localhost:7701 answered 503 (3 tries); keeping up to 128 bundles, next try in 8 s; 0 calls dropped so far",
        );
        check(
            &down(Outcome::Failed(Failure::Tls("no".to_owned()))),
            Code::W046,
            "localhost:7701 cannot be reached by TLS: no (3 tries); keeping up to 128 bundles, next try in 8 s; \
             0 calls dropped so far",
        );
        check(
            &refused(403),
            Code::W043,
            "http://x:80/message answered 403: it requires credentials. \
             fix: --header 'Authorization: Bearer TOKEN'; 5 calls dropped so far",
        );
        let one = Event::Refused {
            refusal: refusal("http://x:7700/message", 401),
            calls_lost: 1,
        };
        check(
            &one,
            Code::W044,
            "http://x:7700/message answered 401: nothing takes calls there; \
             7700 is the port of a store's page, the capture URL is http://HOST:7701/message; 1 call dropped so far",
        );
        check(
            &refused(413),
            Code::W045,
            "http://x:80/message answered 413: a bundle of 7 bytes is too large for it, and is sent in parts. \
             fix: USAGE_LOGGERS_BUNDLE_SIZE=256K; 5 calls dropped so far",
        );
        let silent = Event::Silent {
            collector: "x:1".to_owned(),
            since: Duration::from_secs(5),
            at_most: Duration::from_secs(30),
            calls_lost: 0,
        };
        check(
            &silent,
            Code::W042,
            "x:1 has taken a bundle and not answered for 5 s; waiting for 30 s at most; 0 calls dropped so far",
        );
        assert_eq!(Event::Fallback { errno: libc::EPERM }.code(), Code::W050);
    }

    #[test]
    fn what_is_kept_and_what_is_odd_differ() {
        let kept = Event::Kept {
            refusal: refusal("http://x:80/message", 404),
            next_try: Duration::from_secs(4),
            instead: None,
            calls_lost: 0,
        };
        check(
            &kept,
            Code::W044,
            "http://x:80/message answered 404: nothing takes calls there; keeping bundles, next try in 4 s; \
             0 calls dropped so far",
        );
        let elsewhere = Event::Kept {
            refusal: refusal("http://x:80/message", 407),
            next_try: Duration::from_secs(4),
            instead: Some("y:80".to_owned()),
            calls_lost: 0,
        };
        check(
            &elsewhere,
            Code::W043,
            "http://x:80/message answered 407: the proxy does not accept the credentials, or requires some. \
             fix: --proxy http://USER:PASSWORD@HOST:PORT; sending to y:80, next try in 4 s; 0 calls dropped so far",
        );
        let proxy = Failure::Proxy(503, "it cannot connect".to_owned());
        check(
            &down(Outcome::Failed(proxy)),
            Code::W042,
            "localhost:7701 cannot be reached by the proxy, which answered 503: it cannot connect (3 tries); \
             keeping up to 128 bundles, next try in 8 s; 0 calls dropped so far",
        );
        let odd = Event::Odd {
            refusal: refusal("http://x:80/message", 202),
            calls_lost: 0,
        };
        check(
            &odd,
            Code::W044,
            "http://x:80/message answered 202, a capture URL answers 204: this may be another kind of server; \
             its bundles count as delivered",
        );
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

    #[test]
    fn reported_on_change_and_then_once_in_a_while() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (down, up) = (
            down(Outcome::Status(503, None)),
            Event::Up {
                collector: "x:1".to_owned(),
                calls_lost: 0,
            },
        );
        assert!(!throttle.admits(&up, at(0)), "it was never down");
        assert!(throttle.admits(&down, at(0)));
        assert!(!throttle.admits(&down, at(59)));
        assert!(throttle.admits(&refused(403), at(59)));
        assert!(throttle.admits(&down, at(60)));
        assert!(throttle.admits(&up, at(61)));
        assert!(!throttle.admits(&up, at(61)));
        assert!(throttle.admits(&down, at(62)));
        // Losses that double are reported sooner.
        let more = Event::Refused {
            refusal: refusal("http://x:80/message", 403),
            calls_lost: 11,
        };
        assert!(throttle.admits(&refused(403), at(63)));
        assert!(!throttle.admits(&refused(403), at(80)));
        assert!(throttle.admits(&more, at(80)));
        assert!(!throttle.admits(&more, at(90)));
    }

    #[test]
    fn a_collector_that_refuses_each_second_bundle_does_not_fill_the_log() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let up = Event::Up {
            collector: "x:1".to_owned(),
            calls_lost: 0,
        };
        let mut lines = Vec::new();
        for milliseconds in (0..600_000).step_by(10) {
            let now = start + Duration::from_millis(milliseconds);
            lines.extend([refused(400), up.clone()].map(|event| throttle.admits(&event, now)));
        }
        let admitted = lines.iter().filter(|is_admitted| **is_admitted).count();
        assert_eq!(admitted, 2 * (10 + 9), "each that began, and its end");
        // Once it is refused for good, that is reported soon, and so is its end.
        let soon = (0..=60).find(|second| {
            let now = start + Duration::from_secs(600 + second);
            throttle.admits(&refused(400), now)
        });
        assert!(soon.is_some());
        assert!(throttle.admits(&up, start + Duration::from_secs(700)));
    }
}
