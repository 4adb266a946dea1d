//! Diagnostics for an empty page: why no calls are seen, derived from the counters.
//!
//! Each hint holds only while no call was seen, so that a busy capture gets no warnings about what it rightly ignores.

use std::cmp::Reverse;
use std::time::Duration;

use engine_core::decap::VniSeen;
use engine_core::http::{PortCounts, Protocol};

use crate::config::CaptureMode;
use crate::counters::Stages;
use crate::diagnostic::{Code, Diagnostic};
use crate::quantity::{plural, thousands};
use crate::status::Port;

/// Time without a call before there is a hint.
const SILENCE: Duration = Duration::from_secs(10);

/// Ports and networks that a hint names, at most.
const NAMED_MAX: usize = 4;

/// Protocols whose calls can be read behind their terminator only.
const ENCRYPTED: [Protocol; 2] = [Protocol::Tls, Protocol::Quic];

/// A mirror session takes longer to set up than a capture.
const MIRROR_SILENCE: Duration = Duration::from_secs(30);

/// What is captured, as far as it explains that no calls are seen.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Only the contents of tunnels, or everything.
    pub mode: CaptureMode,
    /// The interfaces in one line.
    pub interfaces: String,
    /// The ports to capture, unless it is any port.
    pub ports: Option<String>,
    /// UDP ports of VXLAN in one line.
    pub vxlan_ports: String,
    /// Whose tunnels are read, as given.
    pub mirror_sources: String,
    /// The networks to capture.
    pub vnis: String,
}

/// What was seen, as far as hints name it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Ports that are read.
    pub ports: Vec<Port>,
    /// Ports that are not wanted, with their connections.
    pub unwanted: PortCounts,
    /// Networks in tunnels.
    pub vnis: Vec<VniSeen>,
    /// Interfaces that are not captured, with the packets that passed them meanwhile.
    pub elsewhere: Vec<(String, u64)>,
}

impl Seen {
    /// The interfaces that are not captured and have packets, those with the most packets first.
    fn busiest_elsewhere(&self) -> Vec<&(String, u64)> {
        let mut rows: Vec<&(String, u64)> = self
            .elsewhere
            .iter()
            .filter(|(_, packets)| *packets > 0)
            .collect();
        rows.sort_by_key(|(name, packets)| (Reverse(*packets), name.clone()));
        rows.truncate(NAMED_MAX);
        rows
    }

    /// The networks that are not wanted, those with the most frames first.
    fn busiest_vnis(&self) -> Vec<u32> {
        let mut rows: Vec<&VniSeen> = self.vnis.iter().filter(|seen| !seen.wanted).collect();
        rows.sort_by_key(|seen| (Reverse(seen.frames), seen.vni));
        rows.truncate(NAMED_MAX);
        rows.into_iter().map(|seen| seen.vni).collect()
    }
}

/// `8000,8080`.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(",")
}

/// The hints that hold when no call was seen in the time `running`.
pub fn hints(scope: &Scope, stages: &Stages, seen: &Seen, running: Duration) -> Vec<Diagnostic> {
    let ports = &seen.ports;
    if running < SILENCE || stages.message.calls_seen > 0 {
        return Vec::new();
    }
    let frames = stages.shard.frames_read;
    let http = &stages.http;
    let mut hints = Vec::new();
    let mut hint = |holds: bool, code, what: String, fix: &str| {
        if holds {
            hints.push(Diagnostic::new(code, what).fix(fix));
        }
    };
    let elsewhere = seen.busiest_elsewhere();
    let names = list(elsewhere.iter().map(|(name, _)| name));
    let packets = elsewhere
        .iter()
        .map(|(name, packets)| format!("{} on {name}", thousands(*packets)));
    let mut what = if frames == 0 {
        format!("no packets on {} yet", scope.interfaces)
    } else {
        let frames = plural(frames, "other packet");
        format!("no TCP on {} yet, only {frames}", scope.interfaces)
    };
    if !elsewhere.is_empty() {
        let packets: Vec<String> = packets.collect();
        what.push_str(&format!("; meanwhile {}", packets.join(", ")));
    }
    hint(
        frames == 0 || (scope.mode == CaptureMode::Interfaces && is_silent(stages)),
        Code::W060,
        what,
        &if elsewhere.is_empty() {
            "sniffer interfaces    shows the others; --promisc takes packets for other machines"
                .to_owned()
        } else {
            format!("-i {names}    captures there; --promisc takes packets for other machines")
        },
    );
    let tunnelled = stages.decap.undone_vxlan + stages.decap.undone_geneve;
    let unwanted_vni = stages.decap.skipped_vni_unwanted;
    hint(
        scope.mode == CaptureMode::Mirror
            && frames > 0
            && tunnelled + unwanted_vni + stages.decap.skipped_mirror_unwanted == 0
            && running >= MIRROR_SILENCE,
        Code::W065,
        format!(
            "{}, nothing on UDP {} for {} s",
            plural(frames, "packet"),
            scope.vxlan_ports,
            running.as_secs()
        ),
        "check that UDP reaches this machine (security group), that the mirror session is on, and its target",
    );
    hint(
        stages.decap.undone_geneve > 0,
        Code::W068,
        format!(
            "{} in GENEVE (of a Gateway Load Balancer?), which is decapsulated",
            plural(stages.decap.undone_geneve, "packet")
        ),
        "sniffer ports    shows what is in the tunnels",
    );
    let unwanted_mirror = stages.decap.skipped_mirror_unwanted;
    hint(
        unwanted_mirror > 0,
        Code::W076,
        format!(
            "{} in tunnels from hosts that are not among the mirrors ({}) skipped",
            plural(unwanted_mirror, "packet"),
            scope.mirror_sources
        ),
        "add the mirror's address to SNIFFER_MIRROR_SOURCES, or find out who sends them",
    );
    hint(
        unwanted_vni > 0 && unwanted_vni >= tunnelled,
        Code::W066,
        format!(
            "{}, all of VNI {}, which SNIFFER_MIRROR_VNIS={} leaves out",
            plural(unwanted_vni, "mirrored packet"),
            list(seen.busiest_vnis()),
            scope.vnis
        ),
        &format!(
            "SNIFFER_MIRROR_VNIS={}    empty takes all networks",
            list(seen.busiest_vnis())
        ),
    );
    let unread = http.flows_unwanted;
    if let Some(ports) = &scope.ports {
        hint(
            unread > 0 && http.flows_http == 0,
            Code::W061,
            format!(
                "{}, no HTTP on port {ports}; {} on other ports{}",
                plural(frames, "packet"),
                plural(unread, "connection"),
                connections(&busiest_ports(&seen.unwanted))
            ),
            &format!(
                "APP_PORTS={}    empty finds HTTP on any port",
                list(
                    busiest_ports(&seen.unwanted)
                        .into_iter()
                        .map(|(port, _)| port)
                )
            ),
        );
    }
    // Connections of a protocol that is not read, where nothing else is.
    let only = |protocol: Protocol| {
        if protocol.is_read() || http.flows_http > 0 {
            0
        } else {
            protocol.count(http)
        }
    };
    let encrypted: u64 = ENCRYPTED.into_iter().map(only).sum();
    let port = ports.iter().find(|port| {
        let mut counts = ENCRYPTED.into_iter().map(|protocol| port.count(protocol));
        counts.any(|count| count > 0)
    });
    let counts = ENCRYPTED.map(|protocol| {
        let count = port.map_or_else(|| protocol.count(http), |port| port.count(protocol));
        (count, protocol)
    });
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts
        .map(|(count, protocol)| plural(count, protocol.unit()))
        .collect();
    let place = port.map_or_else(String::new, |port| format!("port {}: ", port.port));
    hint(
        encrypted > 0,
        Code::W062,
        format!("{place}{}, no plain HTTP", counts.join(" and ")),
        "capture behind the terminator, where the calls are plain",
    );
    hints
}

/// Nothing that could hold a call has arrived. The few packets that every network has, such as those of IPv6 neighbour discovery,
/// are no sign of a useful capture.
pub fn is_silent(stages: &Stages) -> bool {
    let decap = &stages.decap;
    let in_tunnels = decap.undone_vxlan + decap.undone_geneve + decap.skipped_vni_unwanted;
    decap.segments + in_tunnels + decap.skipped_mirror_unwanted + decap.skipped_quic == 0
}

/// Ports with their connections, those with the most connections first.
pub fn busiest_ports(ports: &PortCounts) -> Vec<(u16, u64)> {
    let mut rows = ports.rows().to_vec();
    rows.sort_by_key(|&(port, flows)| (Reverse(flows), port));
    rows.truncate(NAMED_MAX);
    rows
}

/// `: 8 on 8000, 4 on 8080`.
pub fn connections(ports: &[(u16, u64)]) -> String {
    let words: Vec<String> = ports
        .iter()
        .map(|(port, flows)| format!("{} on {port}", thousands(*flows)))
        .collect();
    if words.is_empty() {
        String::new()
    } else {
        format!(": {}", words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        mode: CaptureMode,
        ports: Option<&str>,
        seconds: u64,
        count: impl Fn(&mut Stages),
        expected: &[Code],
    ) {
        let scope = Scope {
            mode,
            interfaces: "lo".into(),
            ports: ports.map(Into::into),
            vxlan_ports: "4789".into(),
            mirror_sources: "192.0.2.0/24".into(),
            vnis: "123".into(),
        };
        let mut stages = Stages::default();
        count(&mut stages);
        let seen = Seen::default();
        let codes: Vec<Code> = hints(&scope, &stages, &seen, Duration::from_secs(seconds))
            .iter()
            .map(|hint| hint.code)
            .collect();
        assert_eq!(codes, expected);
    }

    #[test]
    fn counters_explain_why_no_calls_are_seen() {
        let others = |stages: &mut Stages| stages.shard.frames_read = 9;
        let frames = |stages: &mut Stages| {
            others(stages);
            stages.decap.segments = 9;
        };
        let on_other_ports = |stages: &mut Stages| {
            frames(stages);
            stages.http.flows_unwanted = 2;
        };
        let tls = |stages: &mut Stages| {
            frames(stages);
            stages.http.flows_tls = 2;
        };
        let tls_and_calls = |stages: &mut Stages| {
            tls(stages);
            stages.message.calls_seen = 1;
        };
        let quic = |stages: &mut Stages| {
            others(stages);
            (stages.http.flows_quic, stages.decap.skipped_quic) = (2, 9);
        };
        let tunnels = |stages: &mut Stages| {
            frames(stages);
            stages.decap.undone_vxlan = 4;
        };
        let other_networks = |stages: &mut Stages| {
            tunnels(stages);
            stages.decap.skipped_vni_unwanted = 4;
        };
        let geneve = |stages: &mut Stages| {
            frames(stages);
            stages.decap.undone_geneve = 4;
        };
        let other_mirrors = |stages: &mut Stages| {
            frames(stages);
            stages.decap.skipped_mirror_unwanted = 4;
        };
        let (hosts, mirror) = (CaptureMode::Interfaces, CaptureMode::Mirror);
        check(mirror, None, 10, other_mirrors, &[Code::W076]);
        check(hosts, None, 9, |_| {}, &[]);
        check(hosts, None, 10, |_| {}, &[Code::W060]);
        check(hosts, None, 10, others, &[Code::W060]);
        check(hosts, None, 10, frames, &[]);
        check(hosts, Some("80"), 10, on_other_ports, &[Code::W061]);
        check(hosts, None, 10, tls, &[Code::W062]);
        check(hosts, None, 10, tls_and_calls, &[]);
        check(hosts, None, 10, quic, &[Code::W062]);
        check(mirror, None, 29, frames, &[]);
        check(mirror, None, 30, frames, &[Code::W065]);
        check(mirror, None, 30, other_networks, &[Code::W066]);
        check(hosts, None, 10, geneve, &[Code::W068]);
        check(mirror, None, 30, tunnels, &[]);
    }

    #[test]
    fn interfaces_with_packets_are_named() {
        let scope = Scope {
            mode: CaptureMode::Interfaces,
            interfaces: "eth0".into(),
            ports: None,
            vxlan_ports: "4789".into(),
            vnis: String::new(),
            mirror_sources: String::new(),
        };
        let mut seen = Seen {
            elsewhere: vec![("lo".into(), 0)],
            ..Seen::default()
        };
        let first = |seen: &Seen| hints(&scope, &Stages::default(), seen, SILENCE).remove(0);
        assert_eq!(first(&seen).what, "no packets on eth0 yet");
        seen.elsewhere
            .extend([("dmy0".into(), 7), ("eth1".into(), 12_345)]);
        let hint = first(&seen);
        assert_eq!(
            hint.what,
            "no packets on eth0 yet; meanwhile 12 345 on eth1, 7 on dmy0"
        );
        let fix = hint.fix.unwrap_or_default();
        assert!(fix.starts_with("-i eth1,dmy0    "), "{fix}");
        let mut stages = Stages::default();
        stages.shard.frames_read = 6;
        assert_eq!(
            hints(&scope, &stages, &Seen::default(), SILENCE)
                .remove(0)
                .what,
            "no TCP on eth0 yet, only 6 other packets"
        );
    }

    #[test]
    fn what_is_there_is_named_with_a_line_to_paste() {
        let scope = Scope {
            mode: CaptureMode::Interfaces,
            interfaces: "lo".into(),
            ports: Some("81".into()),
            vxlan_ports: "4789".into(),
            vnis: "-9".into(),
            mirror_sources: "192.0.2.0/24".into(),
        };
        let mut stages = Stages::default();
        stages.shard.frames_read = 90;
        stages.http.flows_unwanted = 12;
        stages.decap.skipped_vni_unwanted = 147;
        let mut seen = Seen::default();
        seen.unwanted.add(8080, 4);
        seen.unwanted.add(8000, 8);
        seen.vnis = [(9, 147, false), (5, 1, true)]
            .map(|(vni, frames, wanted)| VniSeen {
                vni,
                frames,
                wanted,
            })
            .into();
        let hints = hints(&scope, &stages, &seen, SILENCE);
        let texts: Vec<(&str, &str)> = hints
            .iter()
            .map(|hint| (hint.what.as_str(), hint.fix.as_deref().unwrap_or_default()))
            .collect();
        assert_eq!(
            texts,
            [
                (
                    "147 mirrored packets, all of VNI 9, which SNIFFER_MIRROR_VNIS=-9 leaves out",
                    "SNIFFER_MIRROR_VNIS=9    empty takes all networks"
                ),
                (
                    "90 packets, no HTTP on port 81; 12 connections on other ports: 8 on 8000, 4 on 8080",
                    "APP_PORTS=8000,8080    empty finds HTTP on any port"
                ),
            ]
        );
    }
}
