//! The status as text for people.
//!
//! The first line has the form of supervisor's, so that a script that looks for RUNNING or STOPPED keeps working.

use std::fmt::Write;

use engine_core::http::Protocol;
use engine_core::limits::OVERLOAD_BODY_BYTES;

use super::{
    Calls, Capture, Completeness, Killed, Output, Overload, Port, Sink, Spool, State, Status, Step,
    Uploads, UrlState, unread_protocols,
};
use crate::quantity::{bytes, clock, names, plural, spoken, thousands};

/// Where calls go that are sent nowhere; the reason follows in brackets.
pub const NOWHERE: &str = "nowhere";

/// Ports listed in the text of a status; JSON has all of them.
pub const PORTS_SHOWN: usize = 4;

impl Status {
    /// The text, with its final newline.
    pub fn render(&self) -> String {
        let mut text = self.first_line();
        if let Some(capture) = &self.capture {
            capture.render(&mut text);
        }
        if self.killed != Killed::default() {
            let Killed { captures, calls } = self.killed;
            let calls = plural(calls, "call");
            let captures = plural(captures, "capture");
            let words = format!("{captures} without a final report · {calls} in flight in them");
            line(&mut text, "killed", words);
        }
        if let Some(store) = &self.store {
            let restarts = match store.restarts {
                0 => String::new(),
                count => format!(" · {}", plural(count, "restart")),
            };
            let process = match store.pid {
                0 => "not running".to_owned(),
                pid => format!("page {} · pid {pid}", store.page),
            };
            let process = if store.other.is_empty() {
                process
            } else {
                format!("store of another program: {}", store.other)
            };
            line(
                &mut text,
                "store",
                format!("{} · {process}{restarts}", store.url),
            );
        }
        for (number, warning) in self.warnings.iter().enumerate() {
            let label = if number == 0 { "warnings" } else { "" };
            line(
                &mut text,
                label,
                format!("{} {}", warning.code, warning.text),
            );
        }
        text
    }

    fn first_line(&self) -> String {
        let version = format!("v{}", self.version);
        let (word, rest) = match self.state {
            State::Running => (
                "RUNNING",
                format!("pid {}, uptime {}", self.pid, clock(self.uptime_seconds)),
            ),
            State::Stopping => (
                "STOPPING",
                format!("pid {}, delivering what was captured", self.pid),
            ),
            State::Stopped => match &self.stopped {
                Some(stopped) if !stopped.reason.is_empty() => (
                    "STOPPED",
                    format!("{}, {} ago", stopped.reason, clock(stopped.seconds)),
                ),
                Some(stopped) if !stopped.by.is_empty() => (
                    "STOPPED",
                    format!("by {}, {} ago", stopped.by, clock(stopped.seconds)),
                ),
                _ => ("STOPPED", "Not started".to_owned()),
            },
        };
        format!("{:<9} {word:<9} {rest:<36} {version}\n", "sniffer")
    }
}

impl Capture {
    fn render(&self, text: &mut String) {
        let shards = plural(self.shards as u64, "shard");
        let ring = bytes(self.ring_bytes);
        let steering = match (self.shards, self.steering.as_str()) {
            (0 | 1, _) | (_, "") => String::new(),
            (_, steering) => match self.flows_apart {
                0 => format!(", {steering}"),
                apart => format!(", {steering} ({} apart)", plural(apart, "flow")),
            },
        };
        line(
            text,
            "capture",
            format!(
                "{}: {} · af_packet v3, {shards}{steering}, ring {ring}",
                names(&self.interfaces),
                self.reads
            ),
        );
        let sinks = self.each_sink();
        // Before what is of one sink, where there are several.
        let named = |sink: &Sink, words: String| match sinks.len() {
            1 => words,
            _ => format!("{}: {words}", sink.name),
        };
        for sink in &sinks {
            line(text, "calls", named(sink, sink.calls.render()));
        }
        if let Some(halves) = self.half_calls() {
            line(text, "half", halves);
        }
        let mut ports: Vec<String> = self.ports.iter().filter_map(Port::words).collect();
        if ports.len() > PORTS_SHOWN {
            let rest = ports.split_off(PORTS_SHOWN).len();
            ports.push(format!("{} more", plural(rest as u64, "port")));
        }
        if let Some(count) = self.counter("http", "bytes_quic") {
            ports.push(format!("{} of QUIC", bytes(count)));
        }
        if !ports.is_empty() {
            line(text, "unread", ports.join(" · "));
        }
        if let Some(late) = self.late_words() {
            line(text, "late", late);
        }
        if let Some(uploads) = self.uploads.words() {
            line(text, "uploads", uploads);
        }
        if let Some(copies) = self.copies_words() {
            line(text, "copies", copies);
        }
        line(
            text,
            "packets",
            format!(
                "{} received, {} · {} dropped in ring{}",
                thousands(self.packets.received),
                bytes(self.packets.bytes),
                thousands(self.packets.dropped),
                self.completeness
                    .words()
                    .map_or_else(String::new, |complete| format!(" · {complete}"))
            ),
        );
        if !self.overload.is_nothing() {
            let overload = &self.overload;
            line(
                text,
                "overload",
                format!("{} · {}", overload.now(), overload.counted()),
            );
        }
        for sink in &sinks {
            line(text, "output", named(sink, sink.output.render()));
            for place in &sink.output.urls {
                line(text, "url", named(sink, place.render()));
            }
            if let Some(spool) = &sink.output.spool {
                line(text, "spool", named(sink, spool.render()));
                if let Some(lifetime) = spool.lifetime.words() {
                    line(text, "lifetime", named(sink, lifetime));
                }
            }
        }
        for sink in &sinks {
            line(text, "rules", named(sink, sink.rules_text()));
        }
        line(
            text,
            "memory",
            format!(
                "{} of {}, and {} of packet rings",
                bytes(self.memory_bytes),
                bytes(self.memory_limit_bytes),
                bytes(self.ring_bytes)
            ),
        );
        if !self.sandbox.is_empty() {
            line(text, "sandbox", &self.sandbox);
        }
        if !self.metrics.is_empty() {
            line(text, "metrics", self.metrics.clone());
        }
    }

    /// The summary at the end of a capture.
    pub fn summary(&self, seconds: u64) -> String {
        let mut text = format!("stopped after {}: ", spoken(seconds));
        let sinks = self.each_sink();
        let each = sinks.iter().map(|sink| match sinks.len() {
            1 => sink.summary(),
            _ => format!("to {}: {}", sink.name, sink.summary()),
        });
        text.push_str(&each.collect::<Vec<_>>().join("; "));
        let halves: u64 = self.halves.values().sum();
        if halves > 0 {
            let _ = write!(text, ", {}", plural(halves, "half call"));
        }
        let _ = write!(
            text,
            ". {}, {} dropped in the ring",
            plural(self.packets.received, "packet"),
            thousands(self.packets.dropped),
        );
        if let Some(complete) = self.completeness.words() {
            let _ = write!(text, ", {complete}");
        }
        let unbalanced = sinks.iter().find(|sink| sink.calls.unaccounted != 0);
        let balance = unbalanced
            .map_or(&self.calls, |sink| &sink.calls)
            .balance_text();
        let _ = write!(text, ". Ledger {balance}.");
        if let Some(uploads) = self.uploads.words() {
            let _ = write!(text, " Uploads of sniffers: {uploads}.");
        }
        text
    }
}

impl Sink {
    /// `include default: 2 rules, 18 119 matches, none on line 3`.
    fn rules_text(&self) -> String {
        if self.rule_hits.is_empty() {
            return self.rules.clone();
        }
        let matches: u64 = self.rule_hits.iter().map(|rule| rule.hits).sum();
        let mut idle: Vec<String> = (self.rule_hits.iter().filter(|rule| rule.hits == 0))
            .map(|rule| rule.line.to_string())
            .collect();
        idle.dedup();
        let none = match idle.as_slice() {
            [] => String::new(),
            [line] => format!(", none on line {line}"),
            lines => format!(", none on lines {}", lines.join(", ")),
        };
        let count = plural(self.rule_hits.len() as u64, "rule");
        let matches = match matches {
            0 => return format!("{}: {count}, no match yet", self.rules),
            1 => "1 match".to_owned(),
            matches => format!("{} matches", thousands(matches)),
        };
        format!("{}: {count}, {matches}{none}", self.rules)
    }

    /// What became of the calls, in the summary at the end of a capture.
    fn summary(&self) -> String {
        let calls = &self.calls;
        let mut text = format!(
            "{} seen{}, ",
            plural(calls.seen, "call"),
            calls.recovered_text(),
        );
        if self.output.transport.is_empty() {
            // The reason stands in brackets behind where calls go.
            let why = self.output.url.strip_prefix(NOWHERE).unwrap_or_default();
            let _ = write!(text, "none sent{why}, ");
        } else {
            let _ = write!(
                text,
                "{} sent, {} stopped by rules, ",
                thousands(calls.sent),
                thousands(calls.stopped)
            );
        }
        if calls.sampled > 0 {
            let _ = write!(text, "{} sampled out, ", thousands(calls.sampled));
        }
        let _ = write!(text, "{}{}", calls.dropped_text(), calls.spooled_text(", "));
        if calls.in_flight > 0 {
            let _ = write!(text, ", {} never delivered", thousands(calls.in_flight));
        }
        text
    }
}

impl UrlState {
    /// `http://a:80/message up`, or why not.
    fn render(&self) -> String {
        let state = match (self.up, &self.error) {
            (None, _) => "not used yet".to_owned(),
            (Some(true), _) => "up".to_owned(),
            (Some(false), error) => format!("DOWN: {}", error.as_deref().unwrap_or_default()),
        };
        format!("{} {state}", self.url)
    }
}

impl Output {
    fn render(&self) -> String {
        let state = match (self.up, &self.last_error) {
            (None, _) => "nothing sent yet".to_owned(),
            (Some(true), _) => match self.last_success_millis {
                Some(millis) => {
                    let what = match self.last_code {
                        0 => "write".to_owned(),
                        code => code.to_string(),
                    };
                    format!("up, last {what} {:.1} s ago", millis as f64 / 1000.0)
                }
                None => "up".to_owned(),
            },
            (Some(false), Some(error)) => format!("DOWN: {error}"),
            (Some(false), None) => format!("DOWN: answered {}", self.last_code),
        };
        let queue = format!(
            "queue {}, {}",
            plural(self.queue_calls, "call"),
            bytes(self.queue_bytes)
        );
        if self.transport.is_empty() {
            self.url.clone()
        } else {
            format!("{} {state} · {queue} · {}", self.url, self.transport)
        }
    }
}

impl Spool {
    fn render(&self) -> String {
        let held = match self.held_calls {
            0 => String::new(),
            calls => format!(" · {} held", thousands(calls)),
        };
        let trouble = match self.trouble.as_str() {
            "" => String::new(),
            why => format!(" · NOT WRITTEN: {why}"),
        };
        format!(
            "{} · {} not delivered, {}{held}{trouble}",
            self.folder,
            plural(self.calls, "call"),
            bytes(self.bytes)
        )
    }
}

impl Calls {
    fn render(&self) -> String {
        format!(
            "{} seen{} → {} sent · {} stopped · {} sampled out · {}{} · {} in flight     {}",
            thousands(self.seen),
            self.recovered_text(),
            thousands(self.sent),
            thousands(self.stopped),
            thousands(self.sampled),
            self.dropped_text(),
            self.spooled_text(" · "),
            thousands(self.in_flight),
            self.balance_text()
        )
    }

    /// `7 (queue_full 5, refused 2)`.
    pub fn dropped_text(&self) -> String {
        let reasons: Vec<String> = (self.dropped.iter().filter(|(_, count)| **count > 0))
            .map(|(reason, count)| format!("{} {}", reason.replace('_', " "), thousands(*count)))
            .collect();
        if reasons.is_empty() {
            return "0 dropped".to_owned();
        }
        format!(
            "{} dropped ({})",
            thousands(self.dropped_total()),
            reasons.join(", ")
        )
    }

    /// ` + 12 found in the spool`, or nothing.
    fn recovered_text(&self) -> String {
        match self.recovered {
            0 => String::new(),
            calls => format!(" + {} found in the spool", thousands(calls)),
        }
    }

    /// `12 in the spool` behind this, or nothing.
    pub(super) fn spooled_text(&self, before: &str) -> String {
        match self.spooled {
            0 => String::new(),
            calls => format!("{before}{} in the spool", thousands(calls)),
        }
    }

    /// `balanced`, or by how much it is not.
    pub fn balance_text(&self) -> String {
        match self.unaccounted {
            0 => "balanced".to_owned(),
            rest => format!("NOT BALANCED: {rest} unaccounted"),
        }
    }
}

impl Overload {
    /// What is left out now, in words.
    pub fn now(&self) -> String {
        let what = match self.step {
            Step::None => return "nothing is left out".to_owned(),
            Step::CompressionOff => "compression off".to_owned(),
            Step::BodiesTruncated => format!("bodies truncated to {OVERLOAD_BODY_BYTES} bytes"),
            Step::CallsShed => format!(
                "bodies truncated to {OVERLOAD_BODY_BYTES} bytes, {} % of calls not written",
                self.shed_percent
            ),
        };
        format!("{what} on {}", plural(self.shards, "shard"))
    }

    /// What was left out since the start, in words.
    pub fn counted(&self) -> String {
        format!(
            "{} sent uncompressed, {} truncated, {} not written so far",
            plural(self.bundles_plain, "bundle"),
            match self.bodies_truncated {
                1 => "1 body".to_owned(),
                bodies => format!("{} bodies", thousands(bodies)),
            },
            plural(self.calls_shed, "call")
        )
    }
}

impl Uploads {
    /// `skipped 3 of this sniffer, 40 of web-3`; nothing if there were none.
    pub fn words(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.own > 0 {
            parts.push(format!("{} of this sniffer", thousands(self.own)));
        }
        for (sender, count) in &self.senders {
            parts.push(format!("{} of {sender}", thousands(*count)));
        }
        let unnamed = self.other.saturating_sub(self.senders.values().sum());
        if unnamed > 0 {
            parts.push(format!("{} of further sniffers", thousands(unnamed)));
        }
        let skipped = (!parts.is_empty()).then(|| format!("skipped {}", parts.join(", ")));
        let refused = (self.markers_refused > 0).then(|| {
            let requests = plural(self.markers_refused, "request");
            format!("{requests} with the marker of one, and none, read as calls")
        });
        let all: Vec<String> = skipped.into_iter().chain(refused).collect();
        (!all.is_empty()).then(|| all.join(" · "))
    }
}

impl Capture {
    /// `14 half calls: 11 other side never captured · 3 idle for too long`; nothing if there are none.
    fn half_calls(&self) -> Option<String> {
        let reasons: Vec<(&str, u64)> = (self.halves.iter().filter(|(_, count)| **count > 0))
            .map(|(reason, count)| (half_call(reason), *count))
            .collect();
        let all = plural(reasons.iter().map(|(_, count)| count).sum(), "half call");
        match reasons.as_slice() {
            [] => None,
            [(reason, _)] => Some(format!("{all}: {reason}")),
            reasons => {
                let each =
                    |(reason, count): &(&str, u64)| format!("{} {reason}", thousands(*count));
                let each: Vec<String> = reasons.iter().map(each).collect();
                Some(format!("{all}: {}", each.join(" · ")))
            }
        }
    }

    /// `port 50051: 3 HTTP/2 connections began before the capture; 812 calls have an unknown path (...)`; nothing if none
    /// began before.
    fn late_words(&self) -> Option<String> {
        let unknown = self.halves.get("hpack").copied().unwrap_or(0);
        let late = |port: &Port| (port.port, port.count(Protocol::Http2Midstream));
        let ports = self.ports.iter().map(late).filter(|(_, count)| *count > 0);
        let ports: Vec<String> = ports
            .take(PORTS_SHOWN)
            .map(|(port, count)| format!("port {port}: {}", plural(count, "HTTP/2 connection")))
            .collect();
        let began =
            (!ports.is_empty()).then(|| format!("{} began before the capture", ports.join(" · ")));
        let unknown = (unknown > 0).then(|| {
            let calls = plural(unknown, "call");
            format!("{calls} with an unknown path (they become readable as the client sends new paths, or reconnects)")
        });
        let all: Vec<String> = began.into_iter().chain(unknown).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// A counter of a stage; nothing if it is 0.
    fn counter(&self, stage: &str, name: &str) -> Option<u64> {
        let counters = self.stages.get(stage)?;
        counters.get(name).copied().filter(|count| *count > 0)
    }

    /// `12 connections removed · 3 kept (plain and vxlan 7)`; nothing without copies.
    fn copies_words(&self) -> Option<String> {
        let mut words = Vec::new();
        for (name, fate) in [
            ("flow_copies", "removed"),
            ("flow_copies_kept", "read in two networks"),
            ("flow_copies_folded", "folded"),
        ] {
            if let Some(count) = self.counter("flow", name) {
                words.push(format!("{} {fate}", plural(count, "connection")));
            }
        }
        for row in self.copies.iter().take(PORTS_SHOWN) {
            words.push(format!(
                "{}: {}",
                row.networks.join(" and "),
                thousands(row.connections)
            ));
        }
        (!words.is_empty()).then(|| words.join(" · "))
    }
}

impl Port {
    /// `port 443: 120 TLS handshakes`; nothing if all of it is read.
    pub fn words(&self) -> Option<String> {
        let counts = unread_protocols().map(|protocol| (self.count(protocol), protocol));
        let counts = counts.filter(|(count, _)| *count > 0);
        let words: Vec<String> = counts
            .map(|(count, protocol)| plural(count, protocol.unit()))
            .collect();
        (!words.is_empty()).then(|| format!("port {}: {}", self.port, words.join(", ")))
    }
}

/// Why a call is half, in words, by the label of the reason.
fn half_call(reason: &str) -> &str {
    match reason {
        "timeout" => "idle for too long",
        "closed" => "connection ended first",
        "gap" => "other side never captured",
        "reset" => "stream reset first",
        "refused" => "stream refused by the server",
        "hpack" => "header table older than the capture",
        "oversized" => "head too long",
        "evicted" => "evicted to free memory",
        "shutdown" => "open at the end",
        "truncated" => "head cut by a snap length or a mirror",
        other => other,
    }
}

impl Completeness {
    /// `99.98 % of acknowledged bytes captured, 12 kB missing`; nothing before the first byte.
    pub fn words(&self) -> Option<String> {
        // Rounded down, so that 100 % means all.
        let permyriad = (u128::from(self.captured_bytes) * 10_000)
            .checked_div(u128::from(self.captured_bytes) + u128::from(self.missing_bytes))?;
        let percent = if permyriad == 10_000 {
            "100".to_owned()
        } else {
            format!("{}.{:02}", permyriad / 100, permyriad % 100)
        };
        let missing = match self.missing_bytes {
            0 => String::new(),
            count => format!(", {} missing", bytes(count)),
        };
        Some(format!(
            "{percent} % of acknowledged bytes captured{missing}"
        ))
    }
}

fn line(text: &mut String, label: &str, rest: impl AsRef<str>) {
    let _ = writeln!(text, " {label:<8} {}", rest.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Stages;
    use crate::status::tests::running;
    use crate::status::{Copies, Stopped};

    #[track_caller]
    fn check(status: &Status, expected: &str) {
        assert_eq!(status.render(), expected);
    }

    #[test]
    fn copies_are_shown_with_their_networks() {
        let mut capture = running().capture.unwrap();
        assert_eq!(capture.copies_words(), None);
        capture.copies = vec![Copies {
            networks: ["plain".into(), "vxlan 7".into()],
            connections: 3,
        }];
        let mut stages = Stages::default();
        (stages.flow.flow_copies, stages.flow.flow_copies_kept) = (1, 3);
        capture.stages = stages.by_name();
        assert_eq!(
            capture.copies_words().as_deref(),
            Some(
                "1 connection removed · 3 connections read in two networks · plain and vxlan 7: 3"
            )
        );
    }

    #[test]
    fn has_the_form_of_the_manual() {
        check(
            &running(),
            "\
sniffer   RUNNING   pid 18, uptime 0:12:41               v0.1.0
 capture  ens5: VXLAN 4789, all VNIs · af_packet v3, 1 shard, ring 17 MB
 calls    18 204 seen → 18 119 sent · 61 stopped · 0 sampled out · 0 dropped · 24 in flight     balanced
 half     11 half calls: other side never captured
 unread   port 443: 120 TLS handshakes · port 22: 1 QUIC connection, 2 other connections
 uploads  skipped 3 of this sniffer, 40 of web-3, 5 of further sniffers · 1 request with the marker of one, and none, read as calls
 packets  4 100 000 received, 2.0 GB · 0 dropped in ring · 99.99 % of acknowledged bytes captured, 200 kB missing
 output   https://lake.example/message up, last 204 0.4 s ago · queue 24 calls, 38 kB · epoll
 rules    include default + 1 more: 3 rules, 108 204 matches, none on line 2
 memory   64 MB of 537 MB, and 17 MB of packet rings
 sandbox  landlock ABI 7, seccomp on, 0 capabilities
 metrics  http://127.0.0.1:7702/metrics
 store    http://localhost:7701/message · page http://localhost:7700 · pid 17
 warnings W050 io_uring is not available
",
        );
        check(
            &Status {
                version: "0.1.0".into(),
                ..Status::default()
            },
            "sniffer   STOPPED   Not started                          v0.1.0\n",
        );
        let stopped = Stopped {
            by: "user".into(),
            seconds: 61,
            reason: String::new(),
        };
        check(
            &Status {
                version: "0.1.0".into(),
                stopped: Some(stopped),
                ..Status::default()
            },
            "sniffer   STOPPED   by user, 0:01:01 ago                 v0.1.0\n",
        );
        let failed = Stopped {
            by: "exit code 5".into(),
            seconds: 61,
            reason: "capture could not start: no CAP_NET_RAW [E010]".into(),
        };
        check(
            &Status {
                version: "0.1.0".into(),
                stopped: Some(failed),
                ..Status::default()
            },
            "sniffer   STOPPED   capture could not start: no CAP_NET_RAW [E010], 0:01:01 ago v0.1.0\n",
        );
    }

    #[test]
    fn what_is_left_out_is_shown() {
        let overload = |shed, percent| {
            let mut stages = Stages::default();
            stages.shard.overload_plain = 2;
            stages.shard.overload_thin = shed;
            stages.shard.overload_shed = shed;
            stages.shard.overload_shed_percent = percent;
            stages.shard.bundles_plain_overload = 1;
            stages.message.bodies_truncated = 1200;
            stages.message.calls_shed_overload = 40;
            Overload::of(&stages)
        };
        let mut status = running();
        let mut line = |overload| {
            status.capture.as_mut().unwrap().overload = overload;
            let text = status.render();
            let line = text.lines().find(|line| line.contains("overload"));
            line.map(str::to_owned)
        };
        let so_far =
            "1 bundle sent uncompressed, 1 200 bodies truncated, 40 calls not written so far";
        assert_eq!(
            line(overload(2, 55)),
            Some(format!(
                " overload bodies truncated to 4096 bytes, 28 % of calls not written on 2 shards · {so_far}"
            ))
        );
        assert_eq!(
            line(overload(0, 0)),
            Some(format!(" overload compression off on 2 shards · {so_far}"))
        );
        assert_eq!(line(Overload::default()), None);
    }

    #[test]
    fn a_ledger_that_does_not_balance_is_marked() {
        let mut calls = Calls {
            seen: 10,
            sent: 4,
            ..Calls::default()
        };
        calls.dropped.insert("queue_full".into(), 5);
        let calls = calls.balanced();
        assert_eq!(calls.unaccounted, 1);
        assert_eq!(calls.dropped_text(), "5 dropped (queue full 5)");
        assert_eq!(calls.balance_text(), "NOT BALANCED: 1 unaccounted");
        let capture = Capture {
            calls,
            output: Output {
                url: format!("{NOWHERE} (--no-send)"),
                ..Output::default()
            },
            halves: [("gap".to_owned(), 11), ("timeout".to_owned(), 3)].into(),
            ..Capture::default()
        };
        assert_eq!(
            capture.half_calls().as_deref(),
            Some("14 half calls: 11 other side never captured · 3 idle for too long")
        );
        assert_eq!(
            capture.summary(761),
            "stopped after 12 m 41 s: 10 calls seen, none sent (--no-send), 5 dropped (queue full 5), 14 half calls. \
             0 packets, 0 dropped in the ring. Ledger NOT BALANCED: 1 unaccounted."
        );
    }
}
