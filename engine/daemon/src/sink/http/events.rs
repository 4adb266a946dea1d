//! What is reported to a person about the collector, and how often.

use std::fmt;
use std::time::{Duration, Instant};

use super::retry::{Failure, Outcome};

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
    /// The collector refused a bundle for good.
    Refused {
        /// The capture URL, without its query.
        url: String,
        /// Status of the answer.
        status: u16,
        /// Calls in the bundle.
        calls: u64,
        /// Bytes of its body.
        bytes: usize,
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
    /// The code under which it is explained, `W0..`.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Down {
                cause: Outcome::Failed(Failure::Tls(_)),
                ..
            } => "W046",
            Self::Down {
                cause: Outcome::Status(..),
                ..
            } => "W045",
            Self::Down { .. } | Self::Up { .. } => "W042",
            Self::Refused {
                status: 401 | 403, ..
            } => "W043",
            Self::Refused { status: 413, .. } => "W045",
            Self::Refused { .. } => "W044",
            Self::Fallback { .. } | Self::DriverFailed { .. } => "W050",
        }
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
                calls_lost,
            } => write!(
                f,
                "{collector} {cause} ({tries} {}); keeping up to {bundles_max} bundles, next try in {}; \
                 {calls_lost} calls lost so far",
                if *tries == 1 { "try" } else { "tries" },
                Brief(*next_try),
            ),
            Self::Up {
                collector,
                calls_lost,
            } => {
                write!(
                    f,
                    "{collector} takes calls again; {calls_lost} calls lost so far"
                )
            }
            Self::Refused {
                url,
                status,
                calls,
                bytes,
            } => refused(f, url, *status, *calls, *bytes),
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
                    "io_uring {cause}; using plain sockets. Optional: --security-opt seccomp=sniffer.json"
                )
            }
            Self::DriverFailed { error } => write!(
                f,
                "the uploader's io_uring failed ({error}); using plain sockets"
            ),
        }
    }
}

fn refused(
    f: &mut fmt::Formatter<'_>,
    url: &str,
    status: u16,
    calls: u64,
    bytes: usize,
) -> fmt::Result {
    match status {
        401 | 403 => write!(
            f,
            "the store says {status}; is a token needed? --header \"Authorization: …\""
        )?,
        413 => write!(
            f,
            "bundle of {bytes} bytes refused (413). fix: a smaller USAGE_LOGGERS_BUNDLE_SIZE"
        )?,
        404 | 405 => write!(
            f,
            "the store answered {status} for {url}; the capture URL ends in /message"
        )?,
        300..=399 => write!(
            f,
            "the store answered {status} for {url}, which points elsewhere; give the final URL"
        )?,
        _ => write!(f, "the store answered {status} for {url}, expected 204")?,
    }
    write!(f, "; {calls} calls lost")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, _) => write!(f, "answered {status}"),
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
            Self::Tls(error) => write!(f, "TLS: {error}; for a private authority: --ca FILE"),
            Self::Lost(error) => write!(f, "broke the connection: {error}"),
            Self::Stale => f.write_str("had closed the connection"),
        }
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

/// The same message is repeated at most this often.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Admits each kind of event when things change, and then once a minute.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    reported: Vec<(&'static str, Instant)>,
    down: bool,
}

impl Throttle {
    /// Whether to report it now.
    pub(super) fn admits(&mut self, event: &Event, now: Instant) -> bool {
        match event {
            Event::Up { .. } => {
                // What was wrong may be reported at once if it comes back.
                self.reported.retain(|(code, _)| *code == "W050");
                return std::mem::take(&mut self.down);
            }
            Event::Down { .. } => self.down = true,
            _ => {}
        }
        let code = event.code();
        match self
            .reported
            .iter_mut()
            .find(|(reported, _)| *reported == code)
        {
            Some((_, last)) if now.saturating_duration_since(*last) < AGAIN_AFTER => false,
            Some((_, last)) => {
                *last = now;
                true
            }
            None => {
                self.reported.push((code, now));
                true
            }
        }
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
            calls_lost: 0,
        }
    }

    fn refused(status: u16) -> Event {
        Event::Refused {
            url: "http://x:80/".to_owned(),
            status,
            calls: 5,
            bytes: 7,
        }
    }

    #[track_caller]
    fn check(event: &Event, code: &str, text: &str) {
        assert_eq!((event.code(), event.to_string().as_str()), (code, text));
    }

    #[test]
    fn messages_name_cause_and_fix() {
        check(
            &down(Outcome::Failed(Failure::Connect("refused".to_owned()))),
            "W042",
            "localhost:7701 refused (3 tries); keeping up to 128 bundles, next try in 8 s; 0 calls lost so far",
        );
        check(
            &down(Outcome::Status(503, None)),
            "W045",
            "localhost:7701 answered 503 (3 tries); keeping up to 128 bundles, next try in 8 s; 0 calls lost so far",
        );
        assert_eq!(
            down(Outcome::Failed(Failure::Tls("unknown issuer".to_owned()))).code(),
            "W046"
        );
        check(
            &refused(403),
            "W043",
            "the store says 403; is a token needed? --header \"Authorization: …\"; 5 calls lost",
        );
        check(
            &refused(404),
            "W044",
            "the store answered 404 for http://x:80/; the capture URL ends in /message; 5 calls lost",
        );
        check(
            &refused(413),
            "W045",
            "bundle of 7 bytes refused (413). fix: a smaller USAGE_LOGGERS_BUNDLE_SIZE; 5 calls lost",
        );
        assert_eq!(Event::Fallback { errno: libc::EPERM }.code(), "W050");
    }

    #[test]
    fn reported_on_change_and_then_once_a_minute() {
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
    }
}
