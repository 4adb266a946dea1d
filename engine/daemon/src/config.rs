//! Settings, checked and typed. What the user typed is in [`raw`] and [`settings`]; past this file nobody parses text.
//!
//! Every refusal names the setting as it was written, shows the value and says what is expected.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use engine_core::bundle::Compression;
use engine_core::decap::VniFilter;
use engine_core::http::PortSet;
use engine_core::limits;
use engine_core::rules::{self, RuleSet};
use engine_sys::cpu;
use engine_sys::packet::{Expression, RINGS_MAX};

use crate::diagnostic::{Code, Diagnostic};
use crate::upload::CaptureUrl;
use settings::{Value, Values};

mod memory;
pub mod raw;
pub mod settings;

/// Where VXLAN is spoken unless told otherwise (RFC 7348 section 5).
const VXLAN_PORT: u16 = 4789;

/// Bytes of a shard's packet rings unless told otherwise: about 25 ms of a 10 Gbit/s link.
const RING_BYTES: usize = 32 << 20;

/// Rules when none are given.
const RULES: &str = "include default";

/// Rules of the embedded store when none are given: its calls never leave the machine (contract section 9.5).
const RULES_OF_EMBEDDED_STORE: &str = "include debug";

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Whatever is on the interfaces, tunnelled or not.
    Interfaces,
    /// Only what VXLAN carries; everything else on the interface is not ours to read.
    Mirror,
}

/// The rules, and what is said of them.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Parsed.
    pub set: Arc<RuleSet>,
    /// The text in one short line.
    pub name: String,
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

/// What becomes of finished lines.
#[derive(Clone, Debug)]
pub enum Destination {
    /// They are posted.
    Url(CaptureUrl),
    /// They are counted and thrown away; who said so.
    Nowhere(&'static str),
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
    /// Which packets.
    pub engine: Engine,
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

/// Checks the settings of `read` and of a capture's pipeline. `default_rules` stand in when none are given.
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
        engine: engine(values.get(&["SNIFFER_ENGINE"]))?,
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

/// Where a program of this user finds or makes the control socket.
pub fn control_path(flag: Option<&Path>) -> PathBuf {
    let named = std::env::var_os("SNIFFER_CONTROL")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    flag.map(Path::to_owned)
        .or(named)
        .unwrap_or_else(|| run_folder().join("control.sock"))
}

/// A folder of this user for what runs. In the shared temporary folder its name has the user's number.
fn run_folder() -> PathBuf {
    match (
        user(),
        std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()),
    ) {
        (Some(0), _) => PathBuf::from("/run/sniffer"),
        (_, Some(folder)) => PathBuf::from(folder).join("sniffer"),
        (user, None) => std::env::temp_dir().join(format!("sniffer-{}", user.unwrap_or_default())),
    }
}

/// The effective user: `/proc/self` belongs to it.
pub fn user() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self")
        .ok()
        .map(|metadata| metadata.uid())
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    user() == Some(0)
}

fn default_data() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/lib/sniffer");
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let folder = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(home);
    folder.unwrap_or_else(std::env::temp_dir).join("sniffer")
}

fn engine(value: Option<&Value>) -> Result<Engine, Diagnostic> {
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
        return Ok(Engine::Interfaces);
    };
    match value.text.trim().to_ascii_lowercase().as_str() {
        "auto" | "af_packet" | "libpcap" | "raw_socket" | "k8s" => Ok(Engine::Interfaces),
        "vxlan" | "mirror" => Ok(Engine::Mirror),
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

fn destination(
    values: &Values,
    rules: &Rules,
    embedded_store: bool,
) -> Result<Destination, Diagnostic> {
    if switch(values, "USAGE_LOGGERS_DISABLE", false)? {
        return Ok(Destination::Nowhere("USAGE_LOGGERS_DISABLE"));
    }
    if rules.set.skip_submission() {
        return Ok(Destination::Nowhere("the rule skip_submission"));
    }
    let Some(value) = values.get(&["USAGE_LOGGERS_URL"]) else {
        return Err(Diagnostic::new(Code::E039, "USAGE_LOGGERS_URL is not set, so calls would go nowhere")
            .fix("--url https://HOST/message\n`sniffer all-in-one` has its own store; --no-send counts calls only"));
    };
    let url = CaptureUrl::parse(value.text.trim()).map_err(|reason| bad_url(value, &reason))?;
    if !url.is_https() && !rules.set.allow_http_url() && !embedded_store {
        return Err(Diagnostic::new(
            Code::E041,
            "the rules forbid plain http, so nothing would be sent",
        )
        .cause(format!(
            "{} begins with http:, and no rule says allow_http_url (rules: {})",
            value.name, rules.name
        ))
        .fix(
            "add a line allow_http_url to USAGE_LOGGERS_RULES, for example\n\
                  USAGE_LOGGERS_RULES='include default\\nallow_http_url'\n\
                  or use an https:// URL",
        ));
    }
    Ok(Destination::Url(url))
}

/// `auto` compresses what leaves this machine: a collector beside us would only undo it.
fn compression(
    value: Option<&Value>,
    destination: &Destination,
) -> Result<Compression, Diagnostic> {
    let Some(value) = value else {
        return Ok(auto_compression(destination));
    };
    Ok(match value.text.trim().to_ascii_lowercase().as_str() {
        "auto" => auto_compression(destination),
        "on" | "true" | "t" | "yes" | "y" => Compression::Fast,
        "off" | "false" | "f" | "no" | "n" | "0" => Compression::Off,
        level => match level.parse() {
            Ok(level @ 1..=9) => Compression::Level(level),
            _ => return Err(bad_value(value, "auto, off, on, or a level from 1 to 9")),
        },
    })
}

fn auto_compression(destination: &Destination) -> Compression {
    match destination {
        Destination::Url(url) if url.is_loopback() => Compression::Off,
        _ => Compression::Fast,
    }
}

fn bad_url(value: &Value, reason: &impl std::fmt::Display) -> Diagnostic {
    let text = value.text.trim();
    let what = if text.starts_with("http://") || text.starts_with("https://") {
        format!("{} {text:?}: {reason}", value.name)
    } else {
        format!("{} {text:?}: missing http:// or https://", value.name)
    };
    Diagnostic::new(Code::E040, what).fix(shown_value(&Value {
        text: "https://HOST[:PORT]/message".to_owned(),
        ..value.clone()
    }))
}

fn rules(value: Option<&Value>, default: &str) -> Result<Rules, Diagnostic> {
    let text = value
        .map_or(default, |value| value.text.as_str())
        .to_owned();
    let (text, place) = match rules::file_reference(&text) {
        Some(path) => (read_rules(path)?, format!("{path} ")),
        None => (text, String::new()),
    };
    let set = RuleSet::parse(&text).map_err(|error| bad_rule(&error, &place))?;
    Ok(Rules {
        set: Arc::new(set),
        name: rules_name(&text, &place),
    })
}

/// The file that the rules are in, if they are in one.
pub fn rules_file(values: &Values) -> Option<PathBuf> {
    let value = values.get(&["USAGE_LOGGERS_RULES"])?;
    rules::file_reference(&value.text).map(PathBuf::from)
}

/// Whether the process is to be confined.
pub fn sandbox(values: &Values) -> Result<bool, Diagnostic> {
    switch(values, "SNIFFER_NO_SANDBOX", false).map(|unwanted| !unwanted)
}

/// The rules of `sniffer rules check`.
pub fn rules_of(values: &Values) -> Result<Rules, Diagnostic> {
    rules(values.get(&["USAGE_LOGGERS_RULES"]), RULES)
}

fn read_rules(path: &str) -> Result<String, Diagnostic> {
    std::fs::read_to_string(path).map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::NotFound {
            " (as seen inside the container; is it mounted?)"
        } else {
            ""
        };
        Diagnostic::new(
            Code::E032,
            format!("file://{path}: {}{hint}", system_words(&error)),
        )
        .fix(format!("docker run -v /HOST/PATH:{path}:ro ..."))
    })
}

fn bad_rule(error: &rules::Error, place: &str) -> Diagnostic {
    let code = if error.class == rules::Class::MultipleSample {
        Code::E031
    } else {
        Code::E030
    };
    let what = format!(
        "{place}rules line {}, column {}: {}",
        error.line, error.column, error.message
    );
    let caret = " ".repeat(error.column.saturating_sub(1));
    Diagnostic::new(code, what).cause(format!("{}\n{caret}^", error.source)).fix(
        "verbs: remove remove_if remove_if_found remove_unless remove_unless_found replace stop stop_if stop_if_found\n\
         stop_unless stop_unless_found; `sniffer help E030` shows the forms",
    )
}

/// The first line that says something, and how many there are.
fn rules_name(text: &str, place: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let more = |count: usize| {
        if count > 0 {
            format!(" + {count} more")
        } else {
            String::new()
        }
    };
    match lines.split_first() {
        None => "include default".to_owned(),
        Some((first, rest)) if first.chars().count() <= 60 => {
            format!("{place}{first}{}", more(rest.len()))
        }
        Some((_, rest)) => format!("{place}{} lines", rest.len() + 1),
    }
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

fn is_all(text: &str) -> bool {
    matches!(text.trim(), "all" | "any" | "*")
}

fn list(text: &str) -> Vec<String> {
    text.split([',', ' ', '\n'])
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn shown(value: Option<&Value>, otherwise: &str) -> String {
    value
        .filter(|value| !is_all(&value.text))
        .map_or(otherwise.to_owned(), |value| value.text.trim().to_owned())
}

fn shown_value(value: &Value) -> String {
    let between = if value.name.starts_with('-') {
        ' '
    } else {
        '='
    };
    format!("{}{between}{}", value.name, value.text)
}

fn bad_list(value: &Value, reason: &impl std::fmt::Display, example: &str) -> Diagnostic {
    let hint = if value.text.contains([';', '|']) {
        "; separate with commas".to_owned()
    } else {
        String::new()
    };
    Diagnostic::new(
        Code::E002,
        format!("{}: {:?}: {reason}{hint}", value.name, value.text),
    )
    .fix(shown_value(&Value {
        text: example.to_owned(),
        ..value.clone()
    }))
}

fn bad_value(value: &Value, expected: &str) -> Diagnostic {
    Diagnostic::new(
        Code::E002,
        format!("{}: expected {expected}", shown_value(value)),
    )
}

/// As the reference loggers read it, and a few words more (contract section 3).
fn switch(values: &Values, name: &str, default: bool) -> Result<bool, Diagnostic> {
    let Some(value) = values.get(&[name]) else {
        return Ok(default);
    };
    match value.text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "y" | "on" => Ok(true),
        "0" | "f" | "false" | "no" | "n" | "off" => Ok(false),
        _ => Err(bad_value(value, "true or false")),
    }
}

fn number<T>(
    values: &Values,
    name: &str,
    default: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, Diagnostic>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let Some(value) = values.get(&[name]) else {
        return Ok(default);
    };
    let expected = || {
        bad_value(
            value,
            &format!("a number from {} to {}", range.start(), range.end()),
        )
    };
    value
        .text
        .trim()
        .parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(expected)
}

fn bytes(values: &Values, name: &str, default: usize) -> Result<usize, Diagnostic> {
    let Some(value) = values.get(&[name]) else {
        return Ok(default);
    };
    parse_bytes(&value.text)
        .ok_or_else(|| bad_value(value, "a number of bytes, with K, M or G if you like"))
}

fn memory_limit(values: &Values) -> Result<usize, Diagnostic> {
    let limit = bytes(values, "SNIFFER_MEMORY_LIMIT", memory::share())?;
    match values.get(&["SNIFFER_MEMORY_LIMIT"]) {
        Some(value) if limit < limits::MEMORY_BYTES_MIN => Err(bad_value(value, "16M or more")),
        _ => Ok(limit),
    }
}

/// `64M`, `64 MiB`, `65536`: powers of 1024, since these are sizes of memory.
fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(1 << shift)
}

fn duration(values: &Values, name: &str, default: Duration) -> Result<Duration, Diagnostic> {
    let Some(value) = values.get(&[name]) else {
        return Ok(default);
    };
    parse_duration(&value.text).ok_or_else(|| bad_value(value, "a time such as 500ms, 5s or 1m"))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

/// `:7701` listens on all addresses, `7701` too.
fn address(values: &Values, name: &str, default: &str) -> Result<std::net::SocketAddr, Diagnostic> {
    let value = values.get(&[name]);
    let text = value.map_or(default, |value| value.text.trim());
    let completed = match text.strip_prefix(':').unwrap_or(text) {
        port if port.parse::<u16>().is_ok() => format!("[::]:{port}"),
        _ => text.replace("localhost:", "127.0.0.1:"),
    };
    completed.parse().map_err(|_| {
        Diagnostic::new(
            Code::E002,
            format!(
                "{}={text}: expected ADDRESS:PORT or :PORT",
                value.map_or(name, |value| value.name)
            ),
        )
    })
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

/// The system's words for an error without Rust's number behind them.
pub fn system_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
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
    fn check_error(pairs: &[(&str, &str)], code: Code, what: &str) {
        let problem = capture(&values(pairs), false).unwrap_err();
        assert_eq!((problem.code, problem.what.as_str()), (code, what));
    }

    const URL: (&str, &str) = ("USAGE_LOGGERS_URL", "https://lake.example/message");

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
    fn plain_http_needs_the_rule_or_the_embedded_store() {
        let url = ("USAGE_LOGGERS_URL", "http://localhost:7701/message");
        check_error(
            &[url],
            Code::E041,
            "the rules forbid plain http, so nothing would be sent",
        );
        check_error(
            &[url, ("USAGE_LOGGERS_RULES", "include default")],
            Code::E041,
            "the rules forbid plain http, so nothing would be sent",
        );
        for rules in ["include debug", "include default\\nallow_http_url"] {
            assert!(capture(&values(&[url, ("USAGE_LOGGERS_RULES", rules)]), false).is_ok());
        }
        let config = capture(&values(&[url]), true).unwrap();
        assert_eq!(config.reading.rules.name, "include debug");
        let disabled = capture(&values(&[url, ("USAGE_LOGGERS_DISABLE", "true")]), false).unwrap();
        assert!(matches!(disabled.destination, Destination::Nowhere(_)));
    }

    #[test]
    fn a_bad_rule_is_shown_with_its_place() {
        let problem = capture(
            &values(&[URL, ("USAGE_LOGGERS_RULES", "include debug\\n/a/ remoove")]),
            false,
        )
        .unwrap_err();
        assert_eq!(problem.code, Code::E030);
        assert!(
            problem.what.starts_with("rules line 2, column "),
            "{}",
            problem.what
        );
        assert!(problem.cause.unwrap().starts_with("/a/ remoove\n"));
    }

    #[test]
    fn sizes_times_and_addresses() {
        let sizes = [
            ("0", Some(0)),
            ("64", Some(64)),
            ("64k", Some(65536)),
            ("4 MiB", Some(4 << 20)),
            ("4x", None),
            ("", None),
        ];
        for (text, expected) in sizes {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("5"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("5 years"), None);
        let addresses = [
            (":7711", "[::]:7711"),
            ("7711", "[::]:7711"),
            ("localhost:7", "127.0.0.1:7"),
            ("[::1]:7", "[::1]:7"),
        ];
        for (text, expected) in addresses {
            let config = store(&values(&[("SNIFFER_UI", text)])).unwrap();
            assert_eq!(config.ui.to_string(), expected);
        }
    }

    #[test]
    fn compression_is_auto_off_or_a_level() {
        let compression = |url, rules, value| {
            let settings = [
                ("USAGE_LOGGERS_URL", url),
                ("USAGE_LOGGERS_RULES", rules),
                ("SNIFFER_COMPRESSION", value),
            ];
            capture(&values(&settings), false).map(|config| config.compression)
        };
        let (near, far) = ("http://127.0.0.1:7701/message", "https://lake.example/m");
        let rules = "include debug\nallow_http_url";
        for (url, value, expected) in [
            (near, "auto", Compression::Off),
            (far, "AUTO", Compression::Fast),
            (near, "on", Compression::Fast),
            (far, "off", Compression::Off),
            (far, "1", Compression::Level(1)),
            (near, "9", Compression::Level(9)),
        ] {
            let is = compression(url, rules, value).unwrap();
            assert_eq!(is, expected, "{url} {value}");
        }
        for value in ["10", "-1", "fast", "1.5"] {
            assert!(compression(far, rules, value).is_err(), "{value}");
        }
        let plain = "include debug\nskip_compression";
        assert_eq!(compression(far, plain, "9").unwrap(), Compression::Off);
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
        assert_eq!(config.engine, Engine::Mirror);
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
