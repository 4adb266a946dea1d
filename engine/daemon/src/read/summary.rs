//! What `sniffer read` reports at its end: the ledger, the summary of it in one line, and why no call was found.

use engine_core::http::PortCounts;
use engine_core::pipeline::Unaccounted;

use crate::config::settings::Settings;
use crate::counters::{OutletCounters, RuleSetCounters, Stages};
use crate::diagnostic::{Code, Diagnostic};
use crate::quantity::{plural, thousands};
use crate::report::hints::{busiest_ports, connections};
use crate::report::ledger::{calls, unpaired};
use crate::report::rule_matches::RuleMatches;
use crate::sink::stats::Snapshot;
use crate::status::{self, Completeness, Copies, PORTS_SHOWN, Port, Status};

/// What was read and printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<'a> {
    /// The counters.
    pub(super) stages: &'a Stages,
    /// The ports on which connections were seen.
    pub(super) ports: &'a [Port],
    /// The ports that are not wanted, with their connections.
    pub(super) unwanted: &'a PortCounts,
    /// The pairs of networks in which connections were captured twice.
    pub(super) copies: &'a [Copies],
    /// The settings under which they were read.
    pub(super) settings: &'a Settings,
    /// Calls that were printed.
    pub(super) printed: u64,
    /// Calls that the filter left out.
    pub(super) not_matching: u64,
    /// Calls that were finished after the last one to be printed.
    pub(super) beyond: u64,
}

/// The ledger in the form of a live capture's, so that the same program reads both. `sent` is what was printed.
pub(super) fn status(outcome: &Outcome<'_>, files: Vec<String>, rules: &RuleMatches) -> Status {
    let Outcome {
        stages,
        ports,
        settings,
        ..
    } = *outcome;
    let rule_set = RuleSetCounters::first(stages);
    let mut calls = calls(&rule_set, &OutletCounters::default(), &Snapshot::default());
    calls.sent = outcome.printed;
    for (name, count) in [
        ("beyond_count", outcome.beyond),
        ("not_matching", outcome.not_matching),
    ] {
        if count > 0 {
            calls.dropped.insert(name.to_owned(), count);
        }
    }
    let capture = status::Capture {
        interfaces: files,
        reads: settings.ports.text.clone(),
        shards: 1,
        calls: calls.balanced(),
        halves: unpaired(stages),
        ports: ports.to_vec(),
        copies: outcome.copies.to_vec(),
        packets: status::Packets {
            received: stages.shard.frames_read,
            bytes: stages.shard.frames_read_bytes,
            ..status::Packets::default()
        },
        completeness: Completeness::of(stages),
        output: status::Output {
            url: "standard output".to_owned(),
            ..status::Output::default()
        },
        rules: rules.name.clone(),
        rule_hits: rules.matches(),
        memory_limit_bytes: settings.memory_bytes as u64,
        kept_packets_bytes: 0,
        stages: stages.by_name(),
        ..status::Capture::default()
    };
    Status {
        capture: Some(capture),
        ..status::empty()
    }
}

/// `3 calls, 0 half calls. Packets: 412 read, 3 not TCP. Ledger balances.`
pub(super) fn summary(outcome: &Outcome<'_>, unaccounted: i64) -> String {
    let Outcome { stages, ports, .. } = *outcome;
    let half: u64 = stages.http.unpaired_total();
    let calls = plural(outcome.printed, "call");
    let mut text = format!("{calls}, {}", plural(half, "half call"));
    for (count, what) in [
        (stages.message.calls_stopped, "stopped by rules"),
        (stages.message.calls_sampled, "sampled out"),
        (stages.message.calls_shed, "given up for lack of memory"),
        (
            stages.message.uploads_own + stages.message.uploads_other,
            "uploads of sniffers skipped",
        ),
        (outcome.not_matching, "left out by the filter"),
        (outcome.beyond, "beyond the number of -n"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", thousands(count)));
        }
    }
    let packets = thousands(stages.shard.frames_read);
    text.push_str(&format!(". Packets: {packets} read"));
    let mut skipped: Vec<_> = stages.decap.skipped_by_reason().collect();
    skipped.sort_unstable();
    for (reason, count) in skipped.into_iter().filter(|(_, count)| *count > 0) {
        let reason = reason.replace('_', " ");
        text.push_str(&format!(", {} {reason}", thousands(count)));
    }
    for protocol in status::unread_protocols() {
        let count = protocol.count(&stages.http);
        let named = ports.iter().filter(|port| port.count(protocol) > 0);
        let named: Vec<String> = named
            .take(PORTS_SHOWN)
            .map(|port| format!(":{}", port.port))
            .collect();
        if count > 0 {
            let connections = if count == 1 {
                "connection"
            } else {
                "connections"
            };
            text.push_str(&format!(
                "; {} {} {connections} on {} not readable",
                thousands(count),
                protocol.label(),
                named.join(", ")
            ));
        }
    }
    let late = stages.http.flows_http2_midstream;
    if late > 0 {
        let late = plural(late, "HTTP/2 connection");
        text.push_str(&format!("; {late} began before the capture"));
    }
    let completeness = Completeness::of(stages);
    if let Some(words) = completeness
        .words()
        .filter(|_| completeness.missing_bytes > 0)
    {
        text.push_str(&format!("; {words}"));
    }
    for (count, fate) in [
        (stages.flow.flow_copies, "removed"),
        (stages.flow.flow_copies_folded, "folded"),
    ] {
        if count > 0 {
            let copies = if count == 1 { "copy" } else { "copies" };
            let count = thousands(count);
            text.push_str(&format!("; {count} {copies} of connections {fate}"));
        }
    }
    let levels = Unaccounted::FIELDS.iter().zip(stages.unaccounted.values());
    let mut levels = levels.filter(|(_, count)| *count > 0).peekable();
    match unaccounted {
        0 if levels.peek().is_some() => {
            text.push_str(". Ledger does NOT balance:");
            for (level, count) in levels {
                text.push_str(&format!(" {count} {}", level.name.replace('_', " ")));
            }
            text.push_str(" unaccounted.");
        }
        0 => text.push_str(". Ledger balances."),
        rest => text.push_str(&format!(
            ". Ledger does NOT balance: {rest} calls unaccounted."
        )),
    }
    text
}

/// Why no call was found, if the packets show it.
pub(super) fn diagnosis(outcome: &Outcome<'_>) -> Option<Diagnostic> {
    let Outcome {
        stages,
        settings,
        unwanted,
        ..
    } = *outcome;
    let (http, frames) = (&stages.http, stages.shard.frames_read);
    if stages.message.calls_seen + stages.http.unpaired_total() > 0 {
        return None;
    }
    let packets = plural(frames, "packet");
    if frames == 0 {
        return Some(Diagnostic::new(Code::W060, "no packets in what was read"));
    }
    if stages.decap.segments == 0 {
        let mut skipped: Vec<_> = stages.decap.skipped_by_reason().collect();
        skipped.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
        let skipped = skipped.iter().filter(|(_, count)| *count > 0).take(3);
        let skipped: Vec<String> = skipped
            .map(|(reason, count)| format!("{} {}", thousands(*count), reason.replace('_', " ")))
            .collect();
        let what = format!("no TCP in {packets}: {}", skipped.join(", "));
        return Some(
            Diagnostic::new(Code::W067, what)
                .fix("--vxlan-port and --vni if they are in tunnels; HTTP/3 is QUIC on UDP"),
        );
    }
    if !settings.ports.set.is_any() && http.flows_unwanted > 0 && http.flows_http == 0 {
        let busiest = busiest_ports(unwanted);
        let what = format!(
            "no connection to port {}; {} on other ports{}",
            settings.ports.text,
            plural(http.flows_unwanted, "connection"),
            connections(&busiest)
        );
        let ports: Vec<String> = busiest.iter().map(|(port, _)| port.to_string()).collect();
        let fix = match ports.as_slice() {
            [] => "--ports all    finds HTTP on any port".to_owned(),
            ports => format!(
                "--ports {}    or --ports all, which finds HTTP on any port",
                ports.join(",")
            ),
        };
        return Some(Diagnostic::new(Code::W061, what).fix(fix));
    }
    if http.heads_cut > 0 {
        let what = format!(
            "no call: the capture cut off the ends of {}",
            plural(http.heads_cut, "message head")
        );
        return Some(Diagnostic::new(Code::W081, what).fix("capture with tcpdump -s 0"));
    }
    None
}
