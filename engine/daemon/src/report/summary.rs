//! What is captured, in words: for the sentence at the start, the status, and whoever explains silence.

use engine_core::bundle::Compression;
use engine_sys::packet::Steering;

use super::hints::Setting;
use crate::capture::interfaces::Choice;
use crate::config::{Capture, CaptureMode, Destination};
use crate::quantity::plural;
use crate::sink::http::Uploader;

/// What will happen, in one sentence.
pub fn sentence(
    config: &Capture,
    choice: &Choice,
    (shards, steering): (usize, Steering),
    uploader: Option<&Uploader>,
) -> String {
    let names: Vec<&str> = choice
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    let deflate = match config.compression {
        Compression::Off | Compression::Level(0) => "off".to_owned(),
        Compression::Fast => "on".to_owned(),
        Compression::Level(level) => format!("level {level}"),
    };
    let driver = uploader
        .map(|uploader| uploader.stats().snapshot().driver)
        .unwrap_or_default();
    let destination = match &config.destination {
        Destination::Url(url) => format!("sending to {url} (deflate {deflate}, uploader {driver})"),
        Destination::Nowhere(why) => format!("sending nothing ({why})"),
    };
    format!(
        "capturing HTTP on {} ({}), {}{}, rules {:?},\n{destination}. Ctrl-C stops and flushes.",
        names.join(", "),
        reads(config),
        plural(shards as u64, "shard"),
        match steering {
            Steering::Single => String::new(),
            steering => format!(" ({steering})"),
        },
        config.reading.rules.name,
    )
}

/// What is captured, as far as it explains silence.
pub fn setting(config: &Capture, choice: &Choice) -> Setting {
    let reading = &config.reading;
    let names: Vec<&str> = choice
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    let vxlan_ports: Vec<String> = reading
        .vxlan_ports
        .iter()
        .map(ToString::to_string)
        .collect();
    Setting {
        mode: config.mode,
        interfaces: names.join(", "),
        ports: (reading.ports_text != "any port").then(|| reading.ports_text.clone()),
        vxlan_ports: vxlan_ports.join(","),
        vnis: reading.vnis_text.clone(),
    }
}

/// `VXLAN 4789, all VNIs` or `any port`.
pub fn reads(config: &Capture) -> String {
    let reading = &config.reading;
    let tunnels: Vec<String> = reading
        .vxlan_ports
        .iter()
        .map(ToString::to_string)
        .collect();
    let ports = match reading.ports_text.as_str() {
        "any port" => "any port".to_owned(),
        list => format!("port {list}"),
    };
    match config.mode {
        CaptureMode::Mirror => format!(
            "VXLAN {}, {}; {}",
            tunnels.join(","),
            reading.vnis_text,
            ports
        ),
        CaptureMode::Interfaces if reading.vnis.wants_all() => {
            format!("{ports}, also inside VXLAN {}", tunnels.join(","))
        }
        CaptureMode::Interfaces => format!(
            "{ports}, also inside VXLAN {}, VNIs {}",
            tunnels.join(","),
            reading.vnis_text
        ),
    }
}
