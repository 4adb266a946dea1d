//! `sniffer check --canary`: makes numbered calls and counts them in the store of the sniffer that should have captured them.
//!
//! Which numbers are there is exact, since each call has its number in its path. Why others are missing comes from the counters
//! of that sniffer, read before and after; they count all calls, so the causes are exact where nothing else passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Instant;

use serde::Serialize;

use super::link::Link;
use crate::canary::{Caller, folder, number};
use crate::config::command_line::CheckFlags;
use crate::diagnostic::{Code, Diagnostic, Exit, system_words};
use crate::invocation::Invocation;
use crate::limits::{CANARY_WAIT, METRICS_ANSWER_BYTES_MAX, STORE_ANSWER_WAIT, STORE_CONNECT_WAIT};
use crate::quantity::thousands;
use crate::random;
use crate::stdout::{print, print_json};

/// What the counters of a sniffer have to do with calls, by the words in the report.
const CAUSES: [(&str, &str); 7] = [
    ("sniffer_calls_stopped_total", "stopped by a rule"),
    ("sniffer_calls_sampled_out_total", "sampled out"),
    ("sniffer_calls_dropped_total", "dropped"),
    ("sniffer_half_calls_total", "half calls"),
    (
        "sniffer_capture_dropped_packets_total",
        "packets dropped in the ring",
    ),
    (
        "sniffer_capture_truncated_packets_total",
        "packets cut by a mirror",
    ),
    (
        "sniffer_tcp_gap_bytes_total",
        "bytes that never reached the sniffer",
    ),
];

/// How many missing numbers, or rows of them, are listed.
const ROWS_SHOWN: usize = 20;

/// The result.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    run: String,
    made: u64,
    answered: u64,
    /// In the store, each number once.
    stored: u64,
    /// Of these, with packets missing.
    incomplete: u64,
    /// Stored more than once.
    repeated: u64,
    /// Answered and not in the store.
    missing: Vec<u64>,
    /// What the counters of the sniffer gained meanwhile; none if they could not be read.
    causes: Option<BTreeMap<String, u64>>,
}

/// Makes the calls, waits for them in the store, and reports what is missing.
pub fn check(count: u64, flags: &CheckFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let to = flags.to.as_deref().unwrap_or_default();
    let (server, host) = server(to)?;
    let link = super::link(&flags.store, invocation)?;
    let run = random::seed();
    let before = flags.counters.as_deref().map(counters).transpose()?;
    let mut caller = Caller::new(server, &host);
    let mut answered = BTreeSet::new();
    let mut problem = None;
    for number in 1..=count {
        match caller.call(run, number) {
            Ok(()) => drop(answered.insert(number)),
            Err(error) => problem = Some(error),
        }
    }
    if let (true, Some(error)) = (answered.is_empty(), &problem) {
        let what = format!("no canary is answered at {to}: {}", system_words(error));
        return Err(Diagnostic::new(Code::E131, what).fix("sniffer canary serve    at the peer"));
    }
    let stored = stored(&link, run, &answered)?;
    let after = flags.counters.as_deref().map(counters).transpose()?;
    let report = Report {
        schema: 1,
        run: format!("{run:016x}"),
        made: count,
        answered: answered.len() as u64,
        stored: stored.len() as u64,
        incomplete: stored.values().filter(|found| found.is_incomplete).count() as u64,
        repeated: stored.values().filter(|found| found.times > 1).count() as u64,
        missing: (answered
            .iter()
            .filter(|number| !stored.contains_key(number)))
        .copied()
        .collect(),
        causes: before
            .zip(after)
            .map(|(before, after)| gained(&before, after)),
    };
    if flags.json || invocation.json {
        print_json(&report);
    } else {
        print(&text(&report));
    }
    let is_whole = report.missing.is_empty()
        && report.incomplete == 0
        && report.repeated == 0
        && report.answered == count;
    Ok(if is_whole {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// Address and name of `http://HOST[:PORT]`.
fn server(to: &str) -> Result<(SocketAddr, String), Diagnostic> {
    let wrong = |why: &str| {
        Diagnostic::new(Code::E002, format!("--to={to}: {why}"))
            .fix("--to http://HOST:7703    where `sniffer canary serve` runs")
    };
    let host = to
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .filter(|host| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()))
        .filter(|host| !host.contains(['/', '@', '?']))
        .ok_or_else(|| wrong("expected http://HOST:PORT"))?;
    address(host)
        .map(|address| (address, host.to_owned()))
        .map_err(|error| wrong(&system_words(&error)))
}

fn address(host: &str) -> std::io::Result<SocketAddr> {
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let full = if has_port {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let none = || std::io::Error::other("its name has no address");
    full.to_socket_addrs()?.next().ok_or_else(none)
}

/// A number in the store.
#[derive(Debug, Default)]
struct Found {
    times: u64,
    is_incomplete: bool,
}

/// The numbers in the store: as soon as all that were answered are there, or what is there after a time without a new one.
fn stored(
    link: &Link,
    run: u64,
    answered: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, Found>, Diagnostic> {
    let mut last = Instant::now();
    let mut most = 0;
    loop {
        let found = read_stored(link, run)?;
        if found.len() > most {
            (most, last) = (found.len(), Instant::now());
        }
        if found.len() >= answered.len() || last.elapsed() > CANARY_WAIT {
            return Ok(found);
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

fn read_stored(link: &Link, run: u64) -> Result<BTreeMap<u64, Found>, Diagnostic> {
    let filter = format!("path~\"^{}\"", folder(run));
    let mut found: BTreeMap<u64, Found> = BTreeMap::new();
    let mut before = String::new();
    loop {
        let mut query = vec![("filter", filter.as_str()), ("limit", "1000")];
        if !before.is_empty() {
            query.push(("before", &before));
        }
        let list = link.get("calls", &query)?;
        for call in list["calls"].as_array().into_iter().flatten() {
            let path = call["path"].as_str().unwrap_or_default();
            let Some(number) = number(path, run) else {
                continue;
            };
            let found = found.entry(number).or_default();
            found.times += 1;
            let note = call["note"].as_str().unwrap_or_default();
            found.is_incomplete |= call["status"].is_null()
                || ["missing", "incomplete", "half"]
                    .iter()
                    .any(|word| note.contains(word));
        }
        match list["next"].as_str() {
            Some(next) => next.clone_into(&mut before),
            _ => return Ok(found),
        }
    }
}

/// The counters behind `http://HOST:PORT/metrics` that explain missing calls, each reason by itself, all shards together.
fn counters(url: &str) -> Result<BTreeMap<String, u64>, Diagnostic> {
    let wrong = |why: &str| {
        Diagnostic::new(Code::E002, format!("--counters={url}: {why}"))
            .fix("--counters http://HOST:7702/metrics    of the sniffer between; it needs SNIFFER_METRICS=:7702 there")
    };
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| wrong("expected http://HOST:PORT/metrics"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
    let text = fetch(host, path).map_err(|error| wrong(&system_words(&error)))?;
    Ok(sums(&text))
}

fn fetch(host: &str, path: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address(host)?, STORE_CONNECT_WAIT)?;
    socket.set_read_timeout(Some(STORE_ANSWER_WAIT))?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket
        .take(METRICS_ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .filter(|(head, _)| head.split(' ').nth(1) == Some("200"))
        .ok_or_else(|| std::io::Error::other("it does not answer with metrics"))?;
    Ok(body.to_owned())
}

/// The sum of each cause in the text format of Prometheus, with its reason if it has one.
fn sums(text: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = series.split('{').next().unwrap_or_default();
        let Some((_, words)) = CAUSES.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let reason = series
            .split_once("reason=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        let cause = match reason {
            Some((reason, _)) => format!("{words}: {}", super::table::plain(reason)),
            None => (*words).to_owned(),
        };
        // Counters are whole numbers far below what a double holds.
        let value = value.parse::<f64>().unwrap_or_default().max(0.0) as u64;
        *sums.entry(cause).or_insert(0) += value;
    }
    sums
}

fn gained(before: &BTreeMap<String, u64>, after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let earlier = |cause: &str| before.get(cause).copied().unwrap_or_default();
    after
        .into_iter()
        .map(|(cause, value)| {
            let gained = value.saturating_sub(earlier(&cause));
            (cause, gained)
        })
        .filter(|(_, gained)| *gained > 0)
        .collect()
}

/// Numbers as rows: `3, 17-19`.
fn rows(numbers: &[u64]) -> String {
    let mut rows: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match rows.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => rows.push((number, number)),
        }
    }
    let shown = rows.iter().take(ROWS_SHOWN).map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    let shown: Vec<String> = shown.collect();
    let more = rows.len().saturating_sub(ROWS_SHOWN);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    format!("{}{more}", shown.join(", "))
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: u64, words: &str| {
        let _ = writeln!(text, "{name:<11}{:>9}  {words}", thousands(value));
    };
    row("made", report.made, "calls");
    row("answered", report.answered, "by the peer");
    row(
        "stored",
        report.stored,
        "in the store of the sniffer between",
    );
    row(
        "incomplete",
        report.incomplete,
        "of these, with packets missing",
    );
    row(
        "repeated",
        report.repeated,
        "of these, stored more than once",
    );
    let missing = report.missing.len() as u64;
    let numbers = match missing {
        0 => "answered, and not in the store".to_owned(),
        _ => format!("answered, and not in the store: {}", rows(&report.missing)),
    };
    row("missing", missing, &numbers);
    match &report.causes {
        None => {
            text += "causes are unknown without --counters http://HOST:7702/metrics of the sniffer between\n";
        }
        Some(causes) if causes.is_empty() => {
            if missing > 0 {
                text +=
                    "the sniffer between has counted no cause: what is missing did not reach it\n";
            }
        }
        Some(causes) => {
            text += "counted by the sniffer between in this time, of all calls:\n";
            for (cause, count) in causes {
                let _ = writeln!(text, "  {:>9}  {cause}", thousands(*count));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_numbers_are_shown_as_rows() {
        for (numbers, expected) in [
            (vec![3], "3"),
            (vec![3, 4, 5], "3-5"),
            (vec![1, 3, 4, 9], "1, 3-4, 9"),
        ] {
            assert_eq!(rows(&numbers), expected);
        }
        let many: Vec<u64> = (0..30).map(|number| 2 * number).collect();
        assert!(rows(&many).ends_with("38 and 10 more"), "{}", rows(&many));
    }

    #[test]
    fn counters_are_added_up_by_their_reason() {
        let text = "# HELP sniffer_half_calls_total x\n\
                    sniffer_half_calls_total{shard=\"0\",reason=\"gap\"} 2\n\
                    sniffer_half_calls_total{shard=\"1\",reason=\"gap\"} 3\n\
                    sniffer_calls_stopped_total 4\n\
                    sniffer_calls_seen_total{proto=\"h1\"} 9\n";
        let before = sums(text);
        assert_eq!(before["half calls: gap"], 5);
        assert_eq!(before["stopped by a rule"], 4);
        assert_eq!(before.len(), 2);
        let after = sums(&text.replace(" 4\n", " 6\n"));
        let gained: Vec<_> = gained(&before, after).into_iter().collect();
        assert_eq!(gained, [("stopped by a rule".to_owned(), 2)]);
    }

    #[test]
    fn a_server_is_a_plain_url() {
        assert_eq!(server("http://127.0.0.1:7703/").unwrap().0.port(), 7703);
        assert_eq!(server("http://127.0.0.1").unwrap().0.port(), 80);
        for wrong in [
            "",
            "127.0.0.1:7703",
            "https://127.0.0.1",
            "http://127.0.0.1/x",
            "http://",
        ] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }
}
