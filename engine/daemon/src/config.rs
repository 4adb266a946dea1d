//! The settings, checked and typed. Each stands in one row of the [table](settings); here is what follows from several of
//! them together.
//!
//! Every refusal names the setting as it was written, shows the value and says what is expected.

use std::path::PathBuf;
use std::time::Duration;

use engine_core::bundle::Compression;
use engine_core::decap::VniFilter;
use engine_core::http::PortSet;
use engine_sys::packet::Expression;

use crate::diagnostic::Diagnostic;
use destination::{compression, destination};
use flags::Flags;
use rules::rules;
use setting::{ALL_IN_ONE, EVERY, READ, RUN};
use settings::{RULES, RULES_OF_EMBEDDED_STORE, Settings, row};
use values::Values;

pub mod command_line;
mod destination;
#[cfg(test)]
mod documents;
pub mod environment;
pub mod flags;
mod folders;
pub mod guess;
pub mod kinds;
pub mod manual;
mod memory;
mod mode;
mod rules;
pub mod setting;
pub mod settings;
pub mod value;
pub mod values;
mod wrap;

pub use destination::Destination;
pub use folders::{is_root, user};
pub use kinds::Metrics;
pub use mode::CaptureMode;
pub use rules::{Rules, rules_file, rules_of};

/// Settings of the pipeline, live and from files.
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
    /// The filter that the kernel applies in addition to the ports.
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
    reading_of(Settings::check(values, READ)?, embedded_store)
}

fn reading_of(settings: Settings, embedded_store: bool) -> Result<Reading, Diagnostic> {
    let default_rules = if embedded_store {
        RULES_OF_EMBEDDED_STORE
    } else {
        RULES
    };
    Ok(Reading {
        rules: rules(settings.rules.as_ref(), default_rules)?,
        ports: settings.ports.set,
        ports_text: settings.ports.text,
        vxlan_ports: settings.vxlan_ports,
        vnis: settings.vnis.set,
        vnis_text: settings.vnis.text,
        body_bytes_max: settings.body_bytes_max,
        memory_bytes: settings.memory_bytes,
        annotate: settings.annotate,
        half_calls: settings.half_calls,
        form_params: settings.form_params,
        client_address: settings.client_address,
        realip_header: settings.realip_header,
        host: host_name(),
    })
}

/// Checks the settings of a live capture. With the embedded store plain http is allowed.
pub fn capture(values: &Values, embedded_store: bool) -> Result<Capture, Diagnostic> {
    let settings = Settings::check(values, RUN)?;
    let reading = reading_of(settings.clone(), embedded_store)?;
    let destination = destination(&settings, &reading.rules, embedded_store)?;
    let compression = compression(settings.compression, &destination);
    let is_plain = embedded_store || reading.rules.set.skip_compression();
    Ok(Capture {
        mode: settings.mode,
        interfaces: settings.interfaces,
        compression: if is_plain {
            Compression::Off
        } else {
            compression
        },
        bundle_bytes: settings.bundle_bytes,
        bundles_kept_max: settings.bundles_kept_max,
        shards: settings.shards,
        bpf: settings.bpf,
        ring_bytes: settings.ring_bytes,
        promiscuous: settings.promiscuous,
        flush_timeout: settings.flush_timeout,
        metrics: settings.metrics,
        ready_needs_output: settings.ready_needs_output,
        reading,
        destination,
    })
}

/// Checks the settings of the embedded store.
pub fn store(values: &Values) -> Result<Store, Diagnostic> {
    let settings = Settings::check(values, setting::STORE)?;
    Ok(Store {
        data: settings.data,
        listen: settings.store,
        ui: settings.ui,
    })
}

/// Whether capture starts with the all-in-one.
pub fn autostart(values: &Values) -> Result<bool, Diagnostic> {
    Settings::check(values, ALL_IN_ONE).map(|settings| settings.autostart)
}

/// How long to go on delivering after a stop.
pub fn flush_timeout(values: &Values) -> Result<Duration, Diagnostic> {
    Settings::check(values, RUN).map(|settings| settings.flush_timeout)
}

/// Whether the process is to be confined.
pub fn sandbox(values: &Values) -> Result<bool, Diagnostic> {
    Settings::check(values, EVERY).map(|settings| !settings.no_sandbox)
}

/// The control socket as the flag or the environment has it. Nothing else of the environment is checked, so that `off`
/// and `status` work with any.
pub fn control_path(flags: &Flags<EVERY>) -> PathBuf {
    let row = row::control();
    let variables = std::env::vars_os().filter(|(name, _)| row.names().any(|known| name == known));
    let (mut values, _) = environment::values(variables, true).unwrap_or_default();
    flags.apply(&mut values);
    row.check(values.given(row))
        .unwrap_or_else(|_| row.default())
}

/// The name of the machine that logs, as the reference loggers find it.
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
    use crate::diagnostic::Code;

    pub(super) fn values(pairs: &[(&str, &str)]) -> Values {
        environment::values(
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
