//! What is captured, in words: the summary at the start, and what status and hints need of it.

use engine_sys::packet::Steering;

use super::hints::Scope;
use crate::capture::interfaces::Choice;
use crate::config::kinds::UdpPorts;
use crate::config::setting::Kind as _;
use crate::config::{Capture, CaptureMode};
use crate::quantity::{self, plural};

/// The summary at the start: what is captured, and where it is sent.
pub fn start_summary(config: &Capture, choice: &Choice, steering: Steering, sinks: &str) -> String {
    let names: Vec<&str> = choice
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    format!(
        "capturing HTTP on {} ({}), {}{}, rules {:?},\n{sinks}. Ctrl-C stops and flushes.",
        quantity::names(&names),
        reads(config),
        plural(config.settings.shards as u64, "shard"),
        match steering {
            Steering::Single => String::new(),
            steering => format!(" ({steering})"),
        },
        config.rules_name(),
    )
}

/// What is captured, as far as it explains that no calls are seen.
pub fn scope(config: &Capture, choice: &Choice) -> Scope {
    let settings = &config.settings;
    let names: Vec<&str> = choice
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    Scope {
        mode: settings.mode,
        interfaces: quantity::names(&names),
        ports: (!settings.ports.set.is_any()).then(|| settings.ports.text.clone()),
        vxlan_ports: UdpPorts::show(&settings.vxlan_ports),
        mirror_sources: settings.mirror_sources.text.clone(),
        vnis: settings.vnis.text.clone(),
    }
}

/// `VXLAN 4789, all VNIs` or `any port`.
pub fn reads(config: &Capture) -> String {
    let settings = &config.settings;
    let tunnels = UdpPorts::show(&settings.vxlan_ports);
    let vnis = &settings.vnis;
    let ports = if settings.ports.set.is_any() {
        settings.ports.text.clone()
    } else {
        format!("port {}", settings.ports.text)
    };
    match settings.mode {
        CaptureMode::Mirror => format!("VXLAN {tunnels}, {}; {ports}", vnis.text),
        CaptureMode::Interfaces if vnis.set.wants_all() => {
            format!("{ports}, also inside VXLAN {tunnels}")
        }
        CaptureMode::Interfaces => {
            format!("{ports}, also inside VXLAN {tunnels}, VNIs {}", vnis.text)
        }
    }
}
