//! What `sniffer status` shows: one serialisable snapshot, as text for people and as JSON with stable keys.
//!
//! The first line keeps supervisor's shape, so that a script that greps RUNNING or STOPPED goes on working. Nothing of a
//! captured message is ever in here: only counts, settings and the program's own words.

use std::collections::BTreeMap;
use std::fmt::Write;

use engine_core::http::{PortFlows, PortTable};
use engine_core::limits::THIN_BODY_BYTES;
use serde::{Deserialize, Serialize};

use crate::run::published::Stages;

/// Version of the JSON form; a key that changes its meaning or goes away makes a new one.
pub const SCHEMA: u32 = 1;

/// Whether packets are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Not capturing.
    #[default]
    Stopped,
    /// Capturing.
    Running,
    /// Told to stop; what was captured is being delivered.
    Stopping,
}

/// Where every call went: `seen = sent + stopped + sampled + dropped + in_flight + unaccounted`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Calls that were complete (or given up as half calls, where those are wanted).
    pub seen: u64,
    /// Acknowledged by the destination.
    pub sent: u64,
    /// Kept back by a rule or by the setting that nothing is sent.
    pub stopped: u64,
    /// Kept back by the rule `sample`.
    pub sampled: u64,
    /// Lost, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// On their way: counted where they are, not by subtraction.
    pub in_flight: u64,
    /// What the others do not explain. Anything but 0 is our bug.
    pub unaccounted: i64,
}

impl Calls {
    /// With `unaccounted` set to what the other boxes leave over.
    #[must_use]
    pub fn balanced(mut self) -> Self {
        let boxes = self.sent + self.stopped + self.sampled + self.dropped_total() + self.in_flight;
        self.unaccounted = self.seen.cast_signed().wrapping_sub(boxes.cast_signed());
        self
    }

    /// All that were lost.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// `7 (queue_full 5, refused 2)`.
    pub fn dropped_text(&self) -> String {
        let reasons: Vec<String> = (self.dropped.iter().filter(|(_, count)| **count > 0))
            .map(|(reason, count)| format!("{} {}", reason.replace('_', " "), thousands(*count)))
            .collect();
        match reasons.is_empty() {
            true => "0 dropped".to_owned(),
            false => format!(
                "{} dropped ({})",
                thousands(self.dropped_total()),
                reasons.join(", ")
            ),
        }
    }

    /// `balanced`, or how far from it.
    pub fn balance_text(&self) -> String {
        match self.unaccounted {
            0 => "balanced".to_owned(),
            rest => format!("NOT BALANCED: {rest} unaccounted"),
        }
    }
}

/// Frames at the rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Handed to the pipeline.
    pub received: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Not ours to read: our own upload, or the second copy of a loopback packet.
    pub ignored: u64,
    /// Dropped by the kernel because a ring was full.
    pub dropped: u64,
}

/// Delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The capture URL, or why there is none.
    pub url: String,
    /// Whether the last try succeeded; none before the first.
    pub up: Option<bool>,
    /// Status code of the last answer, 0 before the first.
    pub last_code: u16,
    /// Milliseconds since the last success.
    pub last_success_millis: Option<u64>,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// POSTs that were answered with success.
    pub posts: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Calls waiting for delivery.
    pub queue_calls: u64,
    /// Bytes of bodies waiting for delivery.
    pub queue_bytes: u64,
    /// `io_uring` or `epoll`, and why not the better one.
    pub transport: String,
}

/// What is given up while a shard cannot keep up; each step includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing.
    #[default]
    None,
    /// Compression.
    CompressionOff,
    /// The ends of bodies.
    BodiesThinned,
    /// A share of the calls.
    CallsShed,
}

/// What is left out because shards cannot keep up, now and since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overload {
    /// The step of the shard that is worst off.
    pub step: Step,
    /// Shards at that step.
    pub shards: u64,
    /// Per cent of the calls of these shards that are not written: the mean, rounded up.
    pub shed_percent: u64,
    /// Bundles that were sent without the compression that they should have.
    pub bundles_plain: u64,
    /// Bodies that were cut.
    pub bodies_thinned: u64,
    /// Calls that were not written; also in the ledger, as dropped.
    pub calls_shed: u64,
}

impl Overload {
    /// From the counters of all shards.
    pub fn of(stages: &Stages) -> Self {
        let shard = |name| stages.get("shard", name);
        let steps = [
            (Step::CallsShed, shard("overload_shed")),
            (Step::BodiesThinned, shard("overload_thin")),
            (Step::CompressionOff, shard("overload_plain")),
        ];
        let worst = steps.into_iter().find(|(_, shards)| *shards > 0);
        let (step, shards) = worst.unwrap_or_default();
        Self {
            step,
            shards,
            shed_percent: shard("overload_shed_percent").div_ceil(shard("overload_shed").max(1)),
            bundles_plain: shard("bundles_plain_overload"),
            bodies_thinned: stages.get("message", "bodies_thinned"),
            calls_shed: stages.get("message", "calls_shed_overload"),
        }
    }

    /// What is given up now, in words.
    pub fn now(&self) -> String {
        let what = match self.step {
            Step::None => return "nothing is left out".to_owned(),
            Step::CompressionOff => "compression off".to_owned(),
            Step::BodiesThinned => format!("bodies cut to {THIN_BODY_BYTES} bytes"),
            Step::CallsShed => format!(
                "bodies cut to {THIN_BODY_BYTES} bytes, {} % of calls not written",
                self.shed_percent
            ),
        };
        format!("{what} on {}", plural(self.shards, "shard"))
    }

    /// What was given up since the start, in words.
    pub fn counted(&self) -> String {
        format!(
            "{} sent plain, {} cut, {} not written so far",
            plural(self.bundles_plain, "bundle"),
            match self.bodies_thinned {
                1 => "1 body".to_owned(),
                bodies => format!("{} bodies", thousands(bodies)),
            },
            plural(self.calls_shed, "call")
        )
    }

    /// Whether anything was ever given up.
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// One capture, from start to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Names of the interfaces.
    pub interfaces: Vec<String>,
    /// What is read on them: `any port`, `VXLAN 4789, all VNIs`.
    pub reads: String,
    /// Capture threads.
    pub shards: usize,
    /// Bytes of all rings.
    pub ring_bytes: u64,
    /// How a flow finds its shard: `one ring`, `inner-flow steering` or `outer-hash steering`.
    #[serde(default)]
    pub steering: String,
    /// Flows of which a direction went to another shard, as far as noticed: their calls are halves.
    #[serde(default)]
    pub flows_apart: u64,
    /// What was said at the start.
    pub sentence: String,
    /// The ledger of calls.
    pub calls: Calls,
    /// Half calls by kind, whether wanted as calls or not.
    pub halves: BTreeMap<String, u64>,
    /// Connections whose speech was recognised, by the server's port; in the order of what cannot be read there.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// The ledger of frames at the rings.
    pub packets: Packets,
    /// Delivery.
    pub output: Output,
    /// What is left out because shards cannot keep up.
    #[serde(default)]
    pub overload: Overload,
    /// The rules in one line.
    pub rules: String,
    /// What each rule did since these rules are in use, by line.
    #[serde(default)]
    pub rule_hits: Vec<RuleHits>,
    /// Resident memory of the capture process in bytes.
    pub memory_bytes: u64,
    /// The memory limit in bytes: for flows, open calls and bundles. Code, stacks and rings are apart.
    pub memory_limit_bytes: u64,
    /// What the process can still do: `landlock ABI 7, seccomp on, 0 capabilities`; empty while it starts.
    #[serde(default)]
    pub sandbox: String,
    /// Where metrics are served; empty when they are not.
    #[serde(default)]
    pub metrics: String,
    /// Every counter of every stage.
    pub stages: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What one server port speaks, in connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// HTTP/1.x, read.
    pub http: u64,
    /// TLS, not readable.
    pub tls: u64,
    /// HTTP/2 without TLS, not read.
    pub http2: u64,
    /// None of these, not read.
    pub other: u64,
}

impl Port {
    /// The rows of a table, those with most connections that are not read first.
    pub fn all(table: &PortTable) -> Vec<Self> {
        let rows = table.rows().iter();
        let mut ports: Vec<Self> = rows
            .map(
                |&PortFlows {
                     port,
                     http,
                     tls,
                     http2,
                     other,
                 }| Self {
                    port,
                    http,
                    tls,
                    http2,
                    other,
                },
            )
            .collect();
        ports.sort_by_key(|port| (std::cmp::Reverse(port.unread()), port.port));
        ports
    }

    fn unread(&self) -> u64 {
        self.tls + self.http2 + self.other
    }

    /// `port 443: 120 TLS handshakes`; nothing if all of it is read.
    pub fn words(&self) -> Option<String> {
        let spoken = [
            (self.tls, "TLS handshake"),
            (self.http2, "HTTP/2 connection"),
            (self.other, "other connection"),
        ];
        let spoken = spoken.into_iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = spoken.map(|(count, what)| plural(count, what)).collect();
        (!words.is_empty()).then(|| format!("port {}: {}", self.port, words.join(", ")))
    }
}

/// Ports named in the text of a status; JSON has all of them.
pub const PORTS_TOLD: usize = 4;

/// One rule and how often it acted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleHits {
    /// Line of the rules; an include's for what it brought.
    pub line: u64,
    /// As it was written.
    pub rule: String,
    /// What it does: `remove_if`, `stop`, ...
    #[serde(default)]
    pub verb: String,
    /// Details, or values inside them, that it stopped, removed or changed; for `stop_unless` rules those that matched.
    pub hits: u64,
}

/// The embedded store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Its capture URL.
    pub url: String,
    /// Its page; empty when somebody else's store is used.
    pub page: String,
    /// Its process, 0 when it is not running.
    pub pid: u32,
    /// How often it was restarted.
    pub restarts: u64,
}

/// A warning that still holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// `W070`.
    pub code: String,
    /// One sentence.
    pub text: String,
}

/// How the last capture ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// `user`, `signal`, `exit code 6`; empty when nothing was ever captured.
    pub by: String,
    /// How long ago.
    pub seconds: u64,
}

/// The whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whether packets are captured.
    pub state: State,
    /// Process that captures, 0 when stopped.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Version of the program that answers.
    pub version: String,
    /// The capture, or the last one.
    pub capture: Option<Capture>,
    /// How the last capture ended.
    pub stopped: Option<Stopped>,
    /// The embedded store, in the all-in-one.
    pub store: Option<Store>,
    /// Warnings that still hold.
    pub warnings: Vec<Warning>,
}

/// Nothing runs.
pub fn empty() -> Status {
    Status {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Status::default()
    }
}

impl Status {
    /// The text, with its final newline.
    pub fn render(&self) -> String {
        let mut text = self.first_line();
        if let Some(capture) = &self.capture {
            capture.render(&mut text);
        }
        if let Some(store) = &self.store {
            let restarts = match store.restarts {
                0 => String::new(),
                count => format!(" · {}", plural(count, "restart")),
            };
            let process = if store.pid == 0 {
                "not ours".to_owned()
            } else {
                format!("pid {}", store.pid)
            };
            let page = if store.page.is_empty() {
                "no page".to_owned()
            } else {
                format!("page {}", store.page)
            };
            line(
                &mut text,
                "store",
                format!("{} · {page} · {process}{restarts}", store.url),
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
                self.interfaces.join(", "),
                self.reads
            ),
        );
        let calls = &self.calls;
        line(
            text,
            "calls",
            format!(
                "{} seen → {} sent · {} stopped · {} sampled out · {} · {} in flight     {}",
                thousands(calls.seen),
                thousands(calls.sent),
                thousands(calls.stopped),
                thousands(calls.sampled),
                calls.dropped_text(),
                thousands(calls.in_flight),
                calls.balance_text()
            ),
        );
        let halves: Vec<String> = (self.halves.iter().filter(|(_, count)| **count > 0))
            .map(|(kind, count)| format!("{} {}", thousands(*count), kind.replace('_', " ")))
            .collect();
        if !halves.is_empty() {
            line(text, "halves", halves.join(" · "));
        }
        let mut ports: Vec<String> = self.ports.iter().filter_map(Port::words).collect();
        if ports.len() > PORTS_TOLD {
            let rest = ports.split_off(PORTS_TOLD).len();
            ports.push(format!("{} more", plural(rest as u64, "port")));
        }
        if !ports.is_empty() {
            line(text, "unread", ports.join(" · "));
        }
        line(
            text,
            "packets",
            format!(
                "{} received, {} · {} dropped in ring",
                thousands(self.packets.received),
                bytes(self.packets.bytes),
                thousands(self.packets.dropped)
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
        line(text, "output", self.output.render());
        line(text, "rules", self.rules_text());
        line(
            text,
            "memory",
            format!(
                "{} resident, limit {}, ring apart",
                bytes(self.memory_bytes),
                bytes(self.memory_limit_bytes)
            ),
        );
        if !self.sandbox.is_empty() {
            line(text, "sandbox", &self.sandbox);
        }
        if !self.metrics.is_empty() {
            line(text, "metrics", self.metrics.clone());
        }
    }

    /// `include default: 2 rules, 18 119 hits, none on line 3`.
    fn rules_text(&self) -> String {
        if self.rule_hits.is_empty() {
            return self.rules.clone();
        }
        let hits = self.rule_hits.iter().map(|rule| rule.hits).sum();
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
        format!("{}: {count}, {}{none}", self.rules, plural(hits, "hit"))
    }

    /// The sentence at the end of a capture.
    pub fn summary(&self, seconds: u64) -> String {
        let calls = &self.calls;
        let kept_back = if self.output.transport.is_empty() && calls.stopped > 0 {
            "not sent"
        } else {
            "stopped by rules"
        };
        let mut text = format!(
            "stopped after {}: {} seen, {} sent, {} {kept_back}, ",
            spoken(seconds),
            plural(calls.seen, "call"),
            thousands(calls.sent),
            thousands(calls.stopped)
        );
        if calls.sampled > 0 {
            let _ = write!(text, "{} sampled out, ", thousands(calls.sampled));
        }
        let _ = write!(text, "{}", calls.dropped_text());
        if calls.in_flight > 0 {
            let _ = write!(text, ", {} never delivered", thousands(calls.in_flight));
        }
        let _ = write!(
            text,
            ". {}, {} lost in the ring. Ledger {}.",
            plural(self.packets.received, "packet"),
            thousands(self.packets.dropped),
            calls.balance_text()
        );
        text
    }
}

impl Output {
    fn render(&self) -> String {
        let state = match (self.up, &self.last_error) {
            (None, _) => "nothing sent yet".to_owned(),
            (Some(true), _) => match self.last_success_millis {
                Some(millis) => format!(
                    "up, last {} {:.1} s ago",
                    self.last_code,
                    millis as f64 / 1000.0
                ),
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
        match self.transport.is_empty() {
            true => self.url.clone(),
            false => format!("{} {state} · {queue} · {}", self.url, self.transport),
        }
    }
}

fn line(text: &mut String, label: &str, rest: impl AsRef<str>) {
    let _ = writeln!(text, " {label:<8} {}", rest.as_ref());
}

/// `1 call`, `18 204 calls`.
pub fn plural(count: u64, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        thousands(count),
        if count == 1 { "" } else { "s" }
    )
}

/// `18 204`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1.2 kB`: decimal units, three digits at most.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match value < 9.95 {
        true => format!("{value:.1} {}", UNITS[unit]),
        false => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// `0:12:41`.
fn clock(seconds: u64) -> String {
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// `12 m 41 s`.
fn spoken(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} m {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Status {
        let calls = Calls {
            seen: 18_204,
            sent: 18_119,
            stopped: 61,
            in_flight: 24,
            ..Calls::default()
        }
        .balanced();
        Status {
            schema: SCHEMA,
            state: State::Running,
            pid: 18,
            uptime_seconds: 761,
            version: "0.1.0".into(),
            capture: Some(Capture {
                interfaces: vec!["ens5".into()],
                reads: "VXLAN 4789, all VNIs".into(),
                shards: 1,
                ring_bytes: 16 << 20,
                steering: "one ring".into(),
                flows_apart: 0,
                sentence: String::new(),
                calls,
                halves: BTreeMap::from([("gap".into(), 11), ("evicted".into(), 0)]),
                ports: vec![
                    Port {
                        port: 443,
                        tls: 120,
                        ..Port::default()
                    },
                    Port {
                        port: 22,
                        http2: 1,
                        other: 2,
                        ..Port::default()
                    },
                    Port {
                        port: 80,
                        http: 9,
                        ..Port::default()
                    },
                ],
                packets: Packets {
                    received: 4_100_000,
                    bytes: 2_050_000_000,
                    ignored: 3,
                    dropped: 0,
                },
                output: Output {
                    url: "https://lake.example/message".into(),
                    up: Some(true),
                    last_code: 204,
                    last_success_millis: Some(400),
                    queue_calls: 24,
                    queue_bytes: 38_000,
                    transport: "epoll".into(),
                    ..Output::default()
                },
                overload: Overload::default(),
                rules: "include default + 1 more".into(),
                rule_hits: [(1, 18_204), (1, 90_000), (2, 0)]
                    .map(|(line, hits)| RuleHits {
                        line,
                        hits,
                        ..RuleHits::default()
                    })
                    .into(),
                metrics: "http://127.0.0.1:7702/metrics".into(),
                memory_bytes: 61 << 20,
                memory_limit_bytes: 512 << 20,
                sandbox: "landlock ABI 7, seccomp on, 0 capabilities".into(),
                stages: BTreeMap::new(),
            }),
            stopped: None,
            store: Some(Store {
                url: "http://localhost:7701/message".into(),
                page: "http://localhost:7700".into(),
                pid: 17,
                restarts: 0,
            }),
            warnings: vec![Warning {
                code: "W050".into(),
                text: "io_uring is not available".into(),
            }],
        }
    }

    #[track_caller]
    fn check(status: &Status, expected: &str) {
        assert_eq!(status.render(), expected);
    }

    #[test]
    fn looks_like_the_manual_says() {
        check(
            &running(),
            "\
sniffer   RUNNING   pid 18, uptime 0:12:41               v0.1.0
 capture  ens5: VXLAN 4789, all VNIs · af_packet v3, 1 shard, ring 17 MB
 calls    18 204 seen → 18 119 sent · 61 stopped · 0 sampled out · 0 dropped · 24 in flight     balanced
 halves   11 gap
 unread   port 443: 120 TLS handshakes · port 22: 1 HTTP/2 connection, 2 other connections
 packets  4 100 000 received, 2.0 GB · 0 dropped in ring
 output   https://lake.example/message up, last 204 0.4 s ago · queue 24 calls, 38 kB · epoll
 rules    include default + 1 more: 3 rules, 108 204 hits, none on line 2
 memory   64 MB resident, limit 537 MB, ring apart
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
        };
        check(
            &Status {
                version: "0.1.0".into(),
                stopped: Some(stopped),
                ..Status::default()
            },
            "sniffer   STOPPED   by user, 0:01:01 ago                 v0.1.0\n",
        );
    }

    #[test]
    fn what_is_given_up_is_said() {
        let published = crate::run::published::Published::default();
        let overload = |shed, percent| {
            let mut stages = Stages::sum([&published]);
            let mut set = |stage: &str, name: &str, count| {
                let cell = stages
                    .0
                    .get_mut(stage)
                    .and_then(|cells| cells.get_mut(name));
                *cell.expect(name) = count;
            };
            set("shard", "overload_plain", 2);
            set("shard", "overload_thin", shed);
            set("shard", "overload_shed", shed);
            set("shard", "overload_shed_percent", percent);
            set("shard", "bundles_plain_overload", 1);
            set("message", "bodies_thinned", 1200);
            set("message", "calls_shed_overload", 40);
            Overload::of(&stages)
        };
        let mut status = running();
        let mut line = |overload| {
            status.capture.as_mut().unwrap().overload = overload;
            let text = status.render();
            let line = text.lines().find(|line| line.contains("overload"));
            line.map(str::to_owned)
        };
        let so_far = "1 bundle sent plain, 1 200 bodies cut, 40 calls not written so far";
        assert_eq!(
            line(overload(2, 55)),
            Some(format!(
                " overload bodies cut to 4096 bytes, 28 % of calls not written on 2 shards · {so_far}"
            ))
        );
        assert_eq!(
            line(overload(0, 0)),
            Some(format!(" overload compression off on 2 shards · {so_far}"))
        );
        assert_eq!(line(Overload::default()), None);
    }

    #[test]
    fn json_comes_back_as_it_was_and_has_stable_words() {
        let status = running();
        let json = serde_json::to_string(&status).unwrap();
        assert!(
            json.starts_with("{\"schema\":1,\"state\":\"RUNNING\",\"pid\":18,"),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }

    #[test]
    fn a_ledger_that_does_not_balance_says_so() {
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
            ..Capture::default()
        };
        assert_eq!(
            capture.summary(761),
            "stopped after 12 m 41 s: 10 calls seen, 4 sent, 0 stopped by rules, 5 dropped (queue full 5). \
             0 packets, 0 lost in the ring. Ledger NOT BALANCED: 1 unaccounted."
        );
    }

    #[test]
    fn numbers_are_for_people() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (1_234_567, "1 234 567"),
        ] {
            assert_eq!(thousands(count), expected);
        }
        for (count, expected) in [
            (999, "999 B"),
            (1_234, "1.2 kB"),
            (38_000, "38 kB"),
            (999_900, "1.0 MB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
