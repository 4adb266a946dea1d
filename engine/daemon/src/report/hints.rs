//! Diagnostics for an empty page: why no calls are seen, derived from the counters.
//!
//! Each hint holds only while no call was seen, so that a busy capture gets no warnings about what it rightly ignores.

use std::time::Duration;

use engine_core::http::Protocol;

use crate::config::CaptureMode;
use crate::counters::Stages;
use crate::diagnostic::{Code, Diagnostic};
use crate::quantity::{plural, thousands};
use crate::status::Port;

/// Time without a call before there is a hint.
const SILENCE: Duration = Duration::from_secs(10);

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

/// The hints that hold when no call was seen in the time `running`.
pub fn hints(scope: &Scope, stages: &Stages, ports: &[Port], running: Duration) -> Vec<Diagnostic> {
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
    hint(
        frames == 0,
        Code::W060,
        format!("no packets on {} yet", scope.interfaces),
        "sniffer interfaces    shows the others; --promisc takes packets for other machines",
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
            "all {} in tunnels are of other networks than {}",
            plural(unwanted_vni, "packet"),
            scope.vnis
        ),
        "SNIFFER_MIRROR_VNIS=    empty takes all networks",
    );
    let unread = http.flows_unwanted;
    if let Some(ports) = &scope.ports {
        hint(
            unread > 0 && http.flows_http == 0,
            Code::W061,
            format!(
                "{}, no HTTP on port {ports}; {} on other ports",
                plural(frames, "packet"),
                plural(unread, "connection")
            ),
            "APP_PORTS=    empty finds HTTP on any port",
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
    hint(
        only(Protocol::Tls) > 0,
        Code::W062,
        match ports.iter().find(|port| port.count(Protocol::Tls) > 0) {
            Some(port) => {
                let connections = plural(port.count(Protocol::Tls), Protocol::Tls.unit());
                format!("port {}: {connections}, no plain HTTP", port.port)
            }
            None => {
                let connections = plural(http.flows_tls, Protocol::Tls.unit());
                format!("{connections}, no plain HTTP")
            }
        },
        "capture behind the terminator, where the calls are plain",
    );
    hint(
        only(Protocol::Http2) > 0,
        Code::W063,
        format!(
            "{} HTTP/2 connections (gRPC?); this version counts them and does not read them",
            thousands(http.flows_http2)
        ),
        "capture HTTP/1.x, or wait for a version that reads HTTP/2",
    );
    hints
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
        let codes: Vec<Code> = hints(&scope, &stages, &[], Duration::from_secs(seconds))
            .iter()
            .map(|hint| hint.code)
            .collect();
        assert_eq!(codes, expected);
    }

    #[test]
    fn counters_explain_why_no_calls_are_seen() {
        let frames = |stages: &mut Stages| stages.shard.frames_read = 9;
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
        let http2 = |stages: &mut Stages| {
            frames(stages);
            stages.http.flows_http2 = 2;
        };
        let tunnels = |stages: &mut Stages| {
            frames(stages);
            stages.decap.undone_vxlan = 4;
        };
        let other_networks = |stages: &mut Stages| {
            tunnels(stages);
            stages.decap.skipped_vni_unwanted = 4;
        };
        let other_mirrors = |stages: &mut Stages| {
            frames(stages);
            stages.decap.skipped_mirror_unwanted = 4;
        };
        let (hosts, mirror) = (CaptureMode::Interfaces, CaptureMode::Mirror);
        check(mirror, None, 10, other_mirrors, &[Code::W076]);
        check(hosts, None, 9, |_| {}, &[]);
        check(hosts, None, 10, |_| {}, &[Code::W060]);
        check(hosts, None, 10, frames, &[]);
        check(hosts, Some("80"), 10, on_other_ports, &[Code::W061]);
        check(hosts, None, 10, tls, &[Code::W062]);
        check(hosts, None, 10, tls_and_calls, &[]);
        check(hosts, None, 10, http2, &[Code::W063]);
        check(mirror, None, 29, frames, &[]);
        check(mirror, None, 30, frames, &[Code::W065]);
        check(mirror, None, 30, other_networks, &[Code::W066]);
        check(mirror, None, 30, tunnels, &[]);
    }
}
