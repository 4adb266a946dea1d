//! What a capture needs: interfaces, the packet socket, memory for rings, steering, and the MTU of a mirror.

use std::fs;

use engine_core::wire::geneve;
use engine_sys::interfaces::{Interface, LinkKind};
use engine_sys::packet::{GroupOptions, RingOptions, RxRing, SelfTest, self_test};

use super::finding::{Finding, Level};
use crate::capture::interfaces::Choice;
use crate::capture::rings;
use crate::config::{Capture, CaptureMode};
use crate::diagnostic::Diagnostic;
use crate::quantity::{bytes, plural};

/// Bytes that a mirror puts around a frame: Ethernet with one tag, UDP, VXLAN, and an IP header of this many bytes.
const MIRROR_BYTES: u32 = 18 + 8 + 8;

/// Blocks of the ring that is opened as a trial.
const TRIAL_BLOCKS: usize = 2;

pub(super) fn findings(
    config: &Capture,
    choice: &Result<Choice, Diagnostic>,
    mirror: bool,
) -> Vec<Finding> {
    let choice = match choice {
        Ok(choice) => choice,
        Err(problem) => return vec![Finding::of(problem.clone(), "interfaces")],
    };
    let notices = choice.notices.iter().cloned();
    let mut findings: Vec<Finding> = notices
        .map(|notice| Finding::of(notice, "interfaces"))
        .collect();
    findings.extend(choice.interfaces.iter().map(interface));
    findings.push(socket(choice));
    findings.push(memory(config));
    if config.settings.shards > 1 {
        findings.push(steering(config));
    }
    if mirror || config.settings.mode == CaptureMode::Mirror {
        findings.extend(choice.interfaces.iter().filter_map(mirror_mtu));
        findings.extend(
            config
                .settings
                .vxlan_ports
                .iter()
                .map(|&port| listener(port)),
        );
    }
    findings.extend(
        choice
            .kernel_vxlan_ports
            .iter()
            .map(|port| kernel_link(*port)),
    );
    findings
}

fn interface(interface: &Interface) -> Finding {
    let addresses: Vec<String> = interface
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let text = format!(
        "{}, MTU {}{}{}",
        if interface.carrier {
            "up"
        } else {
            "up, no carrier"
        },
        interface.mtu,
        if addresses.is_empty() { "" } else { ", " },
        addresses.join(" ")
    );
    let level = if interface.carrier || interface.loopback {
        Level::Ok
    } else {
        Level::Warn
    };
    Finding::new(level, format!("interface {}", interface.name), text)
}

/// Opens a ring as `run` does, but smaller, on the first interface.
fn socket(choice: &Choice) -> Finding {
    const TOPIC: &str = "packet socket";
    let Some(interface) = choice.interfaces.first() else {
        return Finding::new(Level::Fail, TOPIC, "there is no interface to try it on");
    };
    let options = RingOptions {
        blocks: TRIAL_BLOCKS,
        ..RingOptions::default()
    };
    match RxRing::open(&interface.name, &options) {
        Ok(_) => Finding::new(Level::Ok, TOPIC, "a TPACKET_V3 ring opens (CAP_NET_RAW)"),
        Err(error) => Finding::of(rings::cannot_open(&interface.name, &error), TOPIC),
    }
}

/// Rings are memory of the kernel and do not count towards the limit of a container.
fn memory(config: &Capture) -> Finding {
    let rings = (config.settings.ring_bytes * config.settings.shards) as u64;
    let limit = config.settings.memory_bytes as u64;
    let Some(free) = available() else {
        return Finding::new(Level::Info, "memory", "/proc/meminfo cannot be read");
    };
    let text = format!(
        "{} with rings of {} each, and at most {} more; {} are free",
        plural(config.settings.shards as u64, "shard"),
        bytes(config.settings.ring_bytes as u64),
        bytes(limit),
        bytes(free)
    );
    let fix = "SNIFFER_PCAP_BUFFER_SIZE=8M SNIFFER_MEMORY_LIMIT=64M, or fewer SNIFFER_SHARDS";
    if rings > free {
        let why = "rings are taken at the start";
        return Finding::new(Level::Fail, "memory", text).why(why).fix(fix);
    }
    if rings + limit > free {
        let why = "the limit cannot be reached without harm to others";
        return Finding::new(Level::Warn, "memory", text).why(why).fix(fix);
    }
    Finding::new(Level::Ok, "memory", text)
}

/// `MemAvailable`, in bytes.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = (text.lines()).find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    kib.checked_mul(1024)
}

fn steering(config: &Capture) -> Finding {
    let options = GroupOptions {
        rings: config.settings.shards,
        vxlan_ports: config.settings.vxlan_ports.clone(),
        geneve_ports: vec![geneve::PORT],
        ..GroupOptions::default()
    };
    let finding = |level, text: &str| Finding::new(level, "steering", text);
    match self_test(&options) {
        SelfTest::Passed => finding(Level::Ok, "both directions of a flow reach one shard"),
        SelfTest::NotRun => finding(Level::Info, "not tried: it needs CAP_NET_RAW, and lo up"),
        SelfTest::Failed { flows, apart, .. } => finding(
            Level::Warn,
            &format!("of {flows} flows tried, {apart} had their directions on different shards"),
        )
        .why("calls become half calls")
        .fix("SNIFFER_SHARDS=1"),
    }
}

/// The MTU that sources of a mirror may have so that nothing is cut on the way to this interface.
fn mirror_mtu(interface: &Interface) -> Option<Finding> {
    if interface.loopback || matches!(interface.kind, LinkKind::Vxlan { .. }) {
        return None;
    }
    let [v4, v6] = [20, 40].map(|ip| interface.mtu.saturating_sub(MIRROR_BYTES + ip));
    let text = format!(
        "sources may have an MTU of {v4} (IPv4 mirror) or {v6} (IPv6); longer packets arrive cut"
    );
    let level = if v4 < 1500 { Level::Warn } else { Level::Info };
    let finding = Finding::new(level, format!("mirror on {}", interface.name), text);
    Some(match level {
        Level::Warn => finding
            .why("the usual MTU of 1500 does not fit")
            .fix(format!(
                "ip link set {} mtu 9000    (and on the way to it)",
                interface.name
            )),
        _ => finding,
    })
}

/// A program that listens on the mirror's port gets every packet as well.
fn listener(port: u16) -> Finding {
    let topic = format!("UDP {port}");
    if listens(port) {
        Finding::new(Level::Warn, topic, "something listens on it")
            .why("each mirrored packet is handled there as well")
            .fix(format!(
                "ss -ulnp 'sport = :{port}' shows it; nothing has to listen for the sniffer"
            ))
    } else {
        Finding::new(
            Level::Ok,
            topic,
            "no program listens on it, and none has to",
        )
    }
}

/// Local address and port are the second column, in hexadecimal.
fn listens(port: u16) -> bool {
    let end = format!(":{port:04X}");
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(fs::read_to_string);
    tables.into_iter().flatten().any(|table| {
        let mut locals = table
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1));
        locals.any(|local| local.ends_with(&end))
    })
}

fn kernel_link(port: u16) -> Finding {
    let text = format!(
        "a kernel vxlan link removes VXLAN on UDP {port}; packets are read behind it, without their network number"
    );
    Finding::new(Level::Warn, "kernel vxlan link", text)
        .why("the interface that carries it still has the number")
        .fix("SNIFFER_ENGINE=vxlan    reads it from the packets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mtu: u32, level: Level, words: &str) {
        let interface = Interface {
            name: "ens5".into(),
            index: 2,
            up: true,
            carrier: true,
            loopback: false,
            ethernet: true,
            mtu,
            addresses: Vec::new(),
            kind: LinkKind::Plain,
            master: None,
        };
        let finding = mirror_mtu(&interface).unwrap();
        assert_eq!(finding.level, level, "{finding:?}");
        assert!(finding.text.contains(words), "{finding:?}");
    }

    #[test]
    fn a_mirror_needs_space() {
        check(9001, Level::Info, "MTU of 8947 (IPv4 mirror) or 8927");
        check(1500, Level::Warn, "MTU of 1446");
        check(0, Level::Warn, "MTU of 0");
    }
}
