//! What is captured, in words: for the sentence at the start, the status, and whoever explains silence.

use engine_sys::packet::Steering;

use super::hints::Setting;
use crate::capture::interfaces::Choice;
use crate::config::kinds::UdpPorts;
use crate::config::setting::Kind as _;
use crate::config::{Capture, CaptureMode};
use crate::quantity::plural;

/// What will happen, in one sentence.
pub fn sentence(
    config: &Capture,
    choice: &Choice,
    (shards, steering): (usize, Steering),
    sinks: &str,
) -> String {
    let names: Vec<&str> = choice
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    format!(
        "capturing HTTP on {} ({}), {}{}, rules {:?},\n{sinks}. Ctrl-C stops and flushes.",
        names.join(", "),
        reads(config),
        plural(shards as u64, "shard"),
        match steering {
            Steering::Single => String::new(),
            steering => format!(" ({steering})"),
        },
        config.rules.name,
    )
}

/// What is captured, as far as it explains silence.
pub fn setting(config: &Capture, choice: &Choice) -> Setting {
    let settings = &config.settings;
    let names: Vec<&str> = choice
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    Setting {
        mode: settings.mode,
        interfaces: names.join(", "),
        ports: (!settings.ports.set.is_any()).then(|| settings.ports.text.clone()),
        vxlan_ports: UdpPorts::show(&settings.vxlan_ports),
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
