//! What is reported to a person about the collector.

use std::fmt;
use std::time::Duration;

use super::refusal::Refusal;
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

    pub(super) fn calls_lost(&self) -> u64 {
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

#[cfg(test)]
pub(super) mod tests {
    use super::super::refusal::tests::refusal;
    use super::*;

    pub(in super::super) fn down(cause: Outcome) -> Event {
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

    pub(in super::super) fn refused(status: u16) -> Event {
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
}
