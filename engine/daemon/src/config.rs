//! Settings, checked and typed. What the user typed is in [`raw`] and [`settings`]; past this module nobody parses text.
//!
//! Every refusal names the setting as it was written, shows the value and says what is expected.

use std::path::PathBuf;
use std::time::Duration;

use engine_core::bundle::Compression;
use engine_core::decap::VniFilter;
use engine_core::http::PortSet;
use engine_core::limits;
use engine_sys::cpu;
use engine_sys::packet::{Expression, RINGS_MAX};

use crate::diagnostic::{Code, Diagnostic};
use destination::{compression, destination};
use folders::default_data;
use rules::{RULES, RULES_OF_EMBEDDED_STORE, rules};
use settings::{Value, Values};
use value::{
    address, bad_list, bad_value, bytes, duration, is_all, list, number, shown, shown_value, switch,
};

mod destination;
mod folders;
mod memory;
pub mod raw;
mod rules;
pub mod settings;
mod value;

pub use destination::Destination;
pub use folders::{control_path, is_root, user};
pub use rules::{Rules, rules_file, rules_of};

/// Where VXLAN is spoken unless told otherwise (RFC 7348 section 5).
const VXLAN_PORT: u16 = 4789;

/// Bytes of a shard's packet rings unless told otherwise: about 25 ms of a 10 Gbit/s link.
const RING_BYTES: usize = 32 << 20;

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureMode {
    /// Whatever is on the interfaces, tunnelled or not.
    Interfaces,
    /// Only what VXLAN carries; everything else on the interface is not ours to read.
    Mirror,
}

/// What the pipeline is told, live and from files.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Ports whose connections are read.
    pub ports: PortSet,
    /// The ports as they are shown.
    pub ports_text: String,
    /// UDP ports of VXLAN.
    pub vxlan_ports: Vec<u16>,
    /// Networks.
    pub vnis: VniFilter,
    /// The networks as they are shown.
    pub vnis_text: String,
    /// Bytes of a body that are kept.
    pub body_bytes_max: usize,
    /// Bytes of memory for all that grows with the traffic, of all shards and the upload queue together.
    pub memory_bytes: usize,
    /// Add where and how each call was seen.
    pub annotate: bool,
    /// Half calls are calls too.
    pub half_calls: bool,
    /// Add the fields of form bodies as params.
    pub form_params: bool,
    /// Add the client's address as `x-forwarded-for`.
    pub client_address: bool,
    /// A request header that gets the client's address.
    pub realip_header: Option<String>,
    /// The `host` of every message.
    pub host: String,
    /// What may leave.
    pub rules: Rules,
}

/// Where metrics are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// What to listen on.
    pub address: std::net::SocketAddr,
    /// The user named it; otherwise it may be taken.
    pub is_named: bool,
}

/// A live capture.
#[derive(Clone, Debug)]
pub struct Capture {
    /// What is read, and how.
    pub reading: Reading,
    /// Which packets are read.
    pub mode: CaptureMode,
    /// Names as typed; empty = all that are up.
    pub interfaces: Vec<String>,
    /// Where lines go.
    pub destination: Destination,
    /// How bundles are compressed.
    pub compression: Compression,
    /// Bytes of lines in one POST.
    pub bundle_bytes: usize,
    /// Bundles kept while the destination is away.
    pub bundles_kept_max: usize,
    /// Capture threads.
    pub shards: usize,
    /// Bytes of all rings of one shard.
    pub ring_bytes: usize,
    /// What the kernel's filter asks of a frame beside the ports.
    pub bpf: Option<Expression>,
    /// Take packets for others.
    pub promiscuous: bool,
    /// How long to go on delivering after a stop.
    pub flush_timeout: Duration,
    /// Where metrics are served, if anywhere.
    pub metrics: Option<Metrics>,
    /// A destination that is down makes the sniffer unready.
    pub ready_needs_output: bool,
}

/// The embedded store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Folder of the database.
    pub data: PathBuf,
    /// Address of the capture URL.
    pub listen: std::net::SocketAddr,
    /// Address of the page.
    pub ui: std::net::SocketAddr,
}

/// Checks the settings of `read` and of a capture's pipeline. The embedded store has rules of its own when none are given.
pub fn reading(values: &Values, embedded_store: bool) -> Result<Reading, Diagnostic> {
    let ports = values.get(&["APP_PORTS", "APP_PORT"]);
    let vnis = values.get(&["SNIFFER_MIRROR_VNIS"]);
    let default_rules = if embedded_store {
        RULES_OF_EMBEDDED_STORE
    } else {
        RULES
    };
    Ok(Reading {
        ports: match ports {
            Some(value) if !is_all(&value.text) => PortSet::parse(&value.text)
                .map_err(|reason| bad_list(value, &reason, "80,8000-8100"))?,
            _ => PortSet::default(),
        },
        ports_text: shown(ports, "any port"),
        vxlan_ports: vxlan_ports(values)?,
        vnis: match vnis {
            Some(value) if !is_all(&value.text) => VniFilter::parse(&value.text)
                .map_err(|reason| bad_list(value, &reason, "123,456 or -7"))?,
            _ => VniFilter::default(),
        },
        vnis_text: shown(vnis, "all VNIs"),
        body_bytes_max: bytes(values, "USAGE_LOGGERS_BODY_LIMIT", limits::BODY_BYTES_MAX)?,
        memory_bytes: memory_limit(values)?,
        annotate: switch(values, "SNIFFER_ANNOTATE", false)?,
        half_calls: switch(values, "SNIFFER_HALF_CALLS", false)?,
        form_params: switch(values, "SNIFFER_FORM_PARAMS", false)?,
        client_address: switch(values, "SNIFFER_CLIENT_ADDRESS", false)?,
        realip_header: values
            .get(&["SNIFFER_REALIP_HEADER"])
            .map(|value| value.text.trim().to_owned()),
        host: host_name(),
        rules: rules(values.get(&["USAGE_LOGGERS_RULES"]), default_rules)?,
    })
}

/// Checks the settings of a live capture. With the embedded store plain http is allowed.
pub fn capture(values: &Values, embedded_store: bool) -> Result<Capture, Diagnostic> {
    let reading = reading(values, embedded_store)?;
    let destination = destination(values, &reading.rules, embedded_store)?;
    let interfaces = values.get(&["NET_DEVICE", "VPC_MIRROR_DEVICE"]);
    let compression = compression(values.get(&["SNIFFER_COMPRESSION"]), &destination)?;
    let is_plain = embedded_store || reading.rules.set.skip_compression();
    Ok(Capture {
        mode: mode(values.get(&["SNIFFER_ENGINE"]))?,
        interfaces: interfaces
            .map(|value| list(&value.text))
            .unwrap_or_default(),
        compression: if is_plain {
            Compression::Off
        } else {
            compression
        },
        bundle_bytes: bytes(values, "USAGE_LOGGERS_BUNDLE_SIZE", limits::BUNDLE_BYTES)?,
        bundles_kept_max: number(
            values,
            "USAGE_LOGGERS_BUNDLE_QUEUE_SIZE",
            128,
            1..=1_000_000,
        )?,
        shards: number(
            values,
            "SNIFFER_SHARDS",
            cpu::allowed().len().clamp(1, RINGS_MAX),
            1..=RINGS_MAX,
        )?,
        bpf: values.get(&["SNIFFER_BPF"]).map(bpf).transpose()?,
        ring_bytes: match bytes(values, "SNIFFER_PCAP_BUFFER_SIZE", RING_BYTES)? {
            0 => RING_BYTES,
            bytes => bytes,
        },
        promiscuous: switch(values, "SNIFFER_PROMISC_ENABLED", false)?,
        flush_timeout: flush_timeout(values)?,
        metrics: metrics(values)?,
        ready_needs_output: switch(values, "SNIFFER_READY_NEEDS_OUTPUT", false)?,
        reading,
        destination,
    })
}

/// Checks the settings of the embedded store.
pub fn store(values: &Values) -> Result<Store, Diagnostic> {
    Ok(Store {
        data: values
            .get(&["SNIFFER_DATA"])
            .map_or_else(default_data, |value| PathBuf::from(&value.text)),
        listen: address(values, "SNIFFER_STORE", "[::]:7701")?,
        ui: address(values, "SNIFFER_UI", "127.0.0.1:7700")?,
    })
}

/// Whether capture starts with the all-in-one.
pub fn autostart(values: &Values) -> Result<bool, Diagnostic> {
    switch(values, "SNIFFER_AUTOSTART", false)
}

/// `off` is none.
fn metrics(values: &Values) -> Result<Option<Metrics>, Diagnostic> {
    let named = values.get(&["SNIFFER_METRICS"]);
    let is_off = |value: &Value| {
        matches!(
            value.text.trim().to_ascii_lowercase().as_str(),
            "off" | "false" | "no" | "none" | "0"
        )
    };
    if named.is_some_and(is_off) {
        return Ok(None);
    }
    Ok(Some(Metrics {
        address: address(values, "SNIFFER_METRICS", "127.0.0.1:7702")?,
        is_named: named.is_some(),
    }))
}

fn bpf(value: &Value) -> Result<Expression, Diagnostic> {
    Expression::parse(value.text.trim()).map_err(|error| {
        bad_value(
            value,
            "a filter such as \"tcp port 80 and not net 10.0.0.0/8\"",
        )
        .cause(error.to_string())
    })
}

/// How long to go on delivering after a stop.
pub fn flush_timeout(values: &Values) -> Result<Duration, Diagnostic> {
    duration(values, "SNIFFER_FLUSH_TIMEOUT", Duration::from_secs(5))
}

fn mode(value: Option<&Value>) -> Result<CaptureMode, Diagnostic> {
    const KNOWN: [&str; 8] = [
        "auto",
        "af_packet",
        "libpcap",
        "raw_socket",
        "vxlan",
        "mirror",
        "k8s",
        "pcap_file",
    ];
    let Some(value) = value else {
        return Ok(CaptureMode::Interfaces);
    };
    match value.text.trim().to_ascii_lowercase().as_str() {
        "auto" | "af_packet" | "libpcap" | "raw_socket" | "k8s" => Ok(CaptureMode::Interfaces),
        "vxlan" | "mirror" => Ok(CaptureMode::Mirror),
        "pcap_file" => Err(Diagnostic::new(
            Code::E060,
            format!("{} does not take files", shown_value(value)),
        )
        .fix("sniffer read FILE...")),
        other => {
            let guess = settings::guess(other, KNOWN.into_iter());
            let hint = guess
                .map(|guess| format!("; did you mean {guess}?"))
                .unwrap_or_default();
            Err(Diagnostic::new(
                Code::E002,
                format!(
                    "{}: expected one of vxlan, mirror, af_packet, auto{hint}",
                    shown_value(value)
                ),
            ))
        }
    }
}

/// Whether the process is to be confined.
pub fn sandbox(values: &Values) -> Result<bool, Diagnostic> {
    switch(values, "SNIFFER_NO_SANDBOX", false).map(|unwanted| !unwanted)
}

fn vxlan_ports(values: &Values) -> Result<Vec<u16>, Diagnostic> {
    let Some(value) = values.get(&["SNIFFER_MIRROR_VXLANPORT"]) else {
        return Ok(vec![VXLAN_PORT]);
    };
    let ports: Option<Vec<u16>> = list(&value.text)
        .iter()
        .map(|port| port.parse().ok().filter(|&port| port > 0))
        .collect();
    ports
        .filter(|ports| !ports.is_empty())
        .ok_or_else(|| bad_list(value, &"not a port between 1 and 65535", "4789"))
}

fn memory_limit(values: &Values) -> Result<usize, Diagnostic> {
    let limit = bytes(values, "SNIFFER_MEMORY_LIMIT", memory::share())?;
    match values.get(&["SNIFFER_MEMORY_LIMIT"]) {
        Some(value) if limit < limits::MEMORY_BYTES_MIN => Err(bad_value(value, "16M or more")),
        _ => Ok(limit),
    }
}

/// The name of the machine that logs, as the reference loggers find it (contract section 3).
fn host_name() -> String {
    let dyno = std::env::var("DYNO").ok().filter(|name| !name.is_empty());
    let kernel = || {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .map(|name| name.trim().to_owned())
    };
    dyno.or_else(kernel)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn values(pairs: &[(&str, &str)]) -> Values {
        Values::from_environment(
            pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
            false,
        )
        .unwrap()
        .0
    }

    #[track_caller]
    pub(super) fn check_error(pairs: &[(&str, &str)], code: Code, what: &str) {
        let problem = capture(&values(pairs), false).unwrap_err();
        assert_eq!((problem.code, problem.what.as_str()), (code, what));
    }

    pub(super) const URL: (&str, &str) = ("USAGE_LOGGERS_URL", "https://lake.example/message");

    #[test]
    fn one_clear_error_for_each_bad_value() {
        check_error(
            &[URL, ("SNIFFER_ENGINE", "vlxan")],
            Code::E002,
            "SNIFFER_ENGINE=vlxan: expected one of vxlan, mirror, af_packet, auto; did you mean vxlan?",
        );
        check_error(
            &[URL, ("SNIFFER_SHARDS", "0")],
            Code::E002,
            "SNIFFER_SHARDS=0: expected a number from 1 to 256",
        );
        check_error(
            &[URL, ("SNIFFER_PCAP_BUFFER_SIZE", "4 cats")],
            Code::E002,
            "SNIFFER_PCAP_BUFFER_SIZE=4 cats: expected a number of bytes, with K, M or G if you like",
        );
        check_error(
            &[URL, ("USAGE_LOGGERS_DISABLE", "perhaps")],
            Code::E002,
            "USAGE_LOGGERS_DISABLE=perhaps: expected true or false",
        );
        check_error(
            &[],
            Code::E039,
            "USAGE_LOGGERS_URL is not set, so calls would go nowhere",
        );
        check_error(
            &[("USAGE_LOGGERS_URL", "localhost:7701")],
            Code::E040,
            "USAGE_LOGGERS_URL \"localhost:7701\": missing http:// or https://",
        );
        check_error(
            &[URL, ("USAGE_LOGGERS_RULES", "file:///nowhere/rules.txt")],
            Code::E032,
            "file:///nowhere/rules.txt: no such file or directory (as seen inside the container; is it mounted?)",
        );
    }

    #[test]
    fn lists_say_how_they_are_separated() {
        for name in [
            "APP_PORTS",
            "SNIFFER_MIRROR_VNIS",
            "SNIFFER_MIRROR_VXLANPORT",
        ] {
            let problem = capture(&values(&[URL, (name, "80;8000")]), false).unwrap_err();
            assert_eq!(problem.code, Code::E002);
            assert!(
                problem.what.starts_with(name) && problem.what.ends_with("; separate with commas"),
                "{}",
                problem.what
            );
        }
    }

    #[test]
    fn the_predecessors_environment_is_understood() {
        let config = capture(
            &values(&[
                ("APP_PORT", "80"),
                ("USAGE_LOGGERS_URL", "http://localhost:7701/message"),
                ("USAGE_LOGGERS_RULES", "\"include debug\\nallow_http_url\""),
                ("VPC_MIRROR_DEVICE", "\"\""),
                ("SNIFFER_ENGINE", "mirror"),
                ("SNIFFER_MIRROR_VNIS", "123,-7"),
            ]),
            false,
        )
        .unwrap();
        assert_eq!(config.mode, CaptureMode::Mirror);
        assert_eq!(config.interfaces, Vec::<String>::new());
        assert_eq!(
            (
                config.reading.ports_text.as_str(),
                config.reading.vnis_text.as_str()
            ),
            ("80", "123,-7")
        );
        assert_eq!(config.reading.vxlan_ports, [4789]);
    }
}
