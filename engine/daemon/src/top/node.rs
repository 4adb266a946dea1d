//! A node: where its metrics come from, and what it had at two moments.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::scrape::Scrape;
use crate::control::{self, Request, Unreachable};
use crate::diagnostic::{Exit, printable, system_words};
use crate::limits::{NODE_ANSWER_BYTES_MAX, NODE_WAIT};

/// The port of metrics where none is given.
const PORT: u16 = 7702;

/// Where the metrics of a node come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The sniffer that answers on this control socket.
    Control(PathBuf),
    /// The metrics port at this host and port.
    Port(String),
}

/// A warning of a node: its code, and its text where the node reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Warning {
    pub(super) code: String,
    pub(super) text: String,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) at: Instant,
    pub(super) wall: SystemTime,
    pub(super) scrape: Scrape,
    pub(super) warnings: Vec<Warning>,
    /// What is captured, in words; empty where that is not known.
    pub(super) reads: String,
}

impl Source {
    /// A node by its host, with or without a port: `10.0.0.7`, `node-3:7702`, `[::1]:9000`.
    pub(super) fn of_host(text: &str) -> Self {
        let port = text.rsplit_once(':').map(|(host, port)| {
            let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            is_port && (!host.contains(':') || host.ends_with(']'))
        });
        Self::Port(match port {
            Some(true) => text.to_owned(),
            // An address of version 6 without brackets.
            Some(false) if !text.starts_with('[') => format!("[{text}]:{PORT}"),
            _ => format!("{text}:{PORT}"),
        })
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Control(_) => "this host".to_owned(),
            Self::Port(authority) => printable(authority),
        }
    }

    /// What the node has now, or why that is not known.
    pub(super) fn read(&self) -> Result<Answer, String> {
        match self {
            Self::Control(path) => {
                let words = |unreachable| match unreachable {
                    Unreachable::NotRunning => {
                        format!("no sniffer answers on {}", path.display())
                    }
                    Unreachable::Error(problem) => problem.what,
                };
                let response = control::send(path, Request::Metrics, NODE_WAIT).map_err(words)?;
                if response.exit != Exit::Done as u8 {
                    return Err("not capturing; sniffer on starts it".to_owned());
                }
                let scrape = Scrape::parse(&response.text);
                let response = control::send(path, Request::Status, NODE_WAIT).map_err(words)?;
                let status = response.status.unwrap_or_default();
                let warnings = status.warnings.into_iter().map(|warning| Warning {
                    code: printable(&warning.code),
                    text: printable(&warning.text),
                });
                Ok(Answer {
                    at: Instant::now(),
                    wall: SystemTime::now(),
                    scrape,
                    warnings: warnings.collect(),
                    reads: status.capture.map_or_else(String::new, |capture| {
                        printable(&capture.interfaces.join(", "))
                    }),
                })
            }
            Self::Port(authority) => {
                let page = get(authority).map_err(|error| system_words(&error))?;
                let scrape = Scrape::parse(&page);
                if !scrape.has("sniffer_up") {
                    return Err("it serves no metrics of a sniffer".to_owned());
                }
                let codes = scrape.texts("sniffer_warning", "code").into_iter();
                let warnings = codes.map(|code| Warning {
                    code: printable(&code),
                    text: String::new(),
                });
                Ok(Answer {
                    at: Instant::now(),
                    wall: SystemTime::now(),
                    warnings: warnings.collect(),
                    reads: String::new(),
                    scrape,
                })
            }
        }
    }
}

/// The body of `GET /metrics`.
fn get(authority: &str) -> std::io::Result<String> {
    let mut last = std::io::Error::other("its name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, NODE_WAIT) {
            Ok(mut socket) => {
                socket.set_read_timeout(Some(NODE_WAIT))?;
                socket.set_write_timeout(Some(NODE_WAIT))?;
                let request = format!("GET /metrics HTTP/1.0\r\nHost: {authority}\r\n\r\n");
                socket.write_all(request.as_bytes())?;
                let mut answer = Vec::new();
                socket
                    .take(NODE_ANSWER_BYTES_MAX)
                    .read_to_end(&mut answer)?;
                return body(&String::from_utf8_lossy(&answer));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn body(answer: &str) -> std::io::Result<String> {
    let none = || std::io::Error::other("its answer is not HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(none)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(status) if head.starts_with("HTTP/1.") => {
            let status: String = status.chars().take(3).collect();
            Err(std::io::Error::other(format!("its answer is {status}")))
        }
        _ => Err(none()),
    }
}

/// A node with what it had at the last two moments.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) before: Option<Answer>,
    pub(super) now: Option<Answer>,
    /// Why the last attempt to read it failed.
    pub(super) problem: Option<String>,
}

impl Node {
    pub(super) fn new(source: &Source) -> Self {
        Self {
            name: source.name(),
            before: None,
            now: None,
            problem: None,
        }
    }

    /// Takes what was read.
    pub(super) fn update(&mut self, read: Result<Answer, String>) {
        match read {
            Ok(answer) => {
                self.before = self.now.replace(answer);
                self.problem = None;
            }
            // What it had is no longer true.
            Err(problem) => {
                (self.before, self.now) = (None, None);
                self.problem = Some(problem);
            }
        }
    }

    /// A value of the present; 0 where it is missing.
    pub(super) fn value(&self, name: &str, label: (&str, &str)) -> f64 {
        (self.now.as_ref()).map_or(0.0, |now| now.scrape.sum(name, label))
    }

    /// A metric of the present; none where it is missing.
    pub(super) fn gauge(&self, name: &str) -> Option<f64> {
        self.now.as_ref()?.scrape.value(name)
    }

    /// How much a counter grew a second; none before the second moment. One that fell was started again.
    pub(super) fn rate(&self, name: &str, label: (&str, &str)) -> Option<f64> {
        let (before, now) = (self.before.as_ref()?, self.now.as_ref()?);
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let grown = now.scrape.sum(name, label) - before.scrape.sum(name, label);
        (seconds > 0.0).then(|| grown.max(0.0) / seconds)
    }

    /// By how much the cumulative counts of a histogram grew, by their upper edges; nothing before the second moment.
    pub(super) fn buckets(&self, name: &str, (label, text): (&str, &str)) -> Vec<(f64, f64)> {
        let (Some(before), Some(now)) = (&self.before, &self.now) else {
            return Vec::new();
        };
        let of = |answer: &Answer| -> Vec<(f64, f64)> {
            let rows = answer.scrape.pairs(name, label, "le").into_iter();
            let rows = rows.filter(|(found, ..)| found == text);
            rows.filter_map(|(_, edge, count)| Some((edge.parse().ok()?, count)))
                .collect()
        };
        let before = of(before);
        let mut had = 0.0;
        let grown = of(now).into_iter().map(|(edge, count)| {
            // A count that was not there is that of the bucket below.
            if let Some((_, count)) = before.iter().find(|(known, _)| *known == edge) {
                had = *count;
            }
            (edge, (count - had).max(0.0))
        });
        grown.collect()
    }

    /// Seconds from the start of the capture until it was read.
    pub(super) fn uptime(&self) -> Option<u64> {
        let started = self.gauge("sniffer_start_time_seconds")?;
        let now = self.now.as_ref()?.wall.duration_since(UNIX_EPOCH).ok()?;
        Some((now.as_secs_f64() - started).max(0.0) as u64)
    }

    /// Its warnings.
    pub(super) fn warnings(&self) -> &[Warning] {
        (self.now.as_ref()).map_or(&[], |now| now.warnings.as_slice())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// A node that had these metrics, two seconds apart.
    pub(in crate::top) fn node(name: &str, before: &str, now: &str, warnings: &[&str]) -> Node {
        let at = Instant::now();
        let answer = |text: &str, at| Answer {
            at,
            wall: UNIX_EPOCH,
            scrape: Scrape::parse(text),
            warnings: warnings
                .iter()
                .map(|code| Warning {
                    code: (*code).to_owned(),
                    text: String::new(),
                })
                .collect(),
            reads: String::new(),
        };
        Node {
            name: name.to_owned(),
            before: Some(answer(before, at)),
            now: Some(answer(now, at + Duration::from_secs(2))),
            problem: None,
        }
    }

    #[test]
    fn a_host_may_have_a_port() {
        for (text, expected) in [
            ("10.0.0.7", "10.0.0.7:7702"),
            ("node-3:9000", "node-3:9000"),
            ("::1", "[::1]:7702"),
            ("[::1]", "[::1]:7702"),
            ("[::1]:9000", "[::1]:9000"),
        ] {
            assert_eq!(Source::of_host(text), Source::Port(expected.to_owned()));
        }
    }

    #[test]
    fn rates_are_of_a_second_and_never_negative() {
        let found = node("a", "x_total 4\ny_total 9", "x_total 10\ny_total 3", &[]);
        assert_eq!(found.rate("x_total", ("", "")), Some(3.0));
        assert_eq!(found.rate("y_total", ("", "")), Some(0.0));
        let mut found = found;
        found.update(Err("refused".to_owned()));
        assert_eq!(found.rate("x_total", ("", "")), None);
        assert_eq!(found.problem.as_deref(), Some("refused"));
    }

    #[test]
    fn only_the_answer_of_a_sniffer_counts() {
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\na 1\n").unwrap(), "a 1\n");
        for answer in ["", "SSH-2.0\r\n\r\n", "HTTP/1.1 404 Not\r\n\r\n"] {
            assert!(body(answer).is_err(), "{answer:?}");
        }
    }
}
