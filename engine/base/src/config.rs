//! The settings, checked and typed. Each stands in one row of the [table](settings); here is what follows from several of
//! them together.
//!
//! Every refusal names the setting as it was written, shows the value and states what is expected.

use std::path::PathBuf;

use engine_core::bundle::Compression;

use crate::diagnostic::Diagnostic;
use destination::{compression, destination};
use flags::Flags;
use machine_name::machine_name;
use rules::{read_file, rules};
use setting::{EVERY, READ, RUN};
use settings::{RULES, RULES_OF_EMBEDDED_STORE, Settings, row};
use values::Values;

pub mod command_line;
mod credentials;
mod destination;
#[cfg(test)]
mod documents;
pub mod environment;
mod filter;
pub mod flags;
mod folder_url;
mod folders;
pub mod guess;
mod kept_packets;
pub mod kinds;
mod machine_name;
pub mod manual;
mod memory;
mod mode;
mod page_token;
mod plain_token;
mod proxy;
mod rules;
pub mod setting;
pub mod settings;
mod sink_list;
mod sinks;
mod spool;
mod store_backend;
pub mod value;
pub mod values;
mod wrap;

pub use credentials::{Credentials, Pems, TlsFiles};
pub use destination::Destination;
pub use filter::filter;
pub use folder_url::FolderUrl;
pub use folders::{is_root, user};
pub use kept_packets::{packets, packets_of_page};
pub use kinds::Metrics;
pub use mode::CaptureMode;
pub use page_token::{PageToken, open_page, open_posts, page_token, post_token};
pub use plain_token::plain_token;
pub use proxy::Proxies;
pub use rules::{ReadFile, Rules, allow_plain_http, bounded, rules_of};
pub use sink_list::DEFAULT;
pub use sinks::{SinkConfig, rules_files};
pub use spool::Spooling;
pub use store_backend::{BackendPassword, plain_backend, store_target};

/// What it takes to read calls, live or from files.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Each setting.
    pub settings: Settings,
    /// What may leave.
    pub rules: Rules,
    /// The detail `host` of every line.
    pub host: String,
}

/// What it takes to capture calls and to deliver them.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Each setting.
    pub settings: Settings,
    /// What may leave: each rule set that a sink has, once.
    pub rule_sets: Vec<Rules>,
    /// The detail `host` of every line.
    pub host: String,
    /// Where lines go; that of the capture URL first.
    pub sinks: Vec<SinkConfig>,
    /// What stands between.
    pub proxies: Proxies,
}

impl Capture {
    /// The rules of the first sink, in one short line.
    pub fn rules_name(&self) -> &str {
        self.rule_sets.first().map_or("", |rules| &rules.name)
    }

    /// The rules of a sink.
    pub fn rules_of(&self, sink: &SinkConfig) -> Option<&Rules> {
        self.rule_sets.get(sink.rule_set)
    }
}

/// Checks the settings of `read`.
pub fn reading(values: &Values) -> Result<Reading, Diagnostic> {
    let settings = Settings::check(values, READ)?;
    Ok(Reading {
        rules: rules(settings.rules.as_ref(), RULES, &read_file)?,
        host: machine_name(settings.name.as_ref()),
        settings,
    })
}

/// Checks the settings of a live capture. With the embedded store plain http is allowed, and the rules are others when
/// none are given.
pub fn capture(values: &Values, embedded_store: bool) -> Result<Capture, Diagnostic> {
    let mut capture = without_credentials(values, embedded_store, &read_file)?;
    let settings = &capture.settings;
    for sink in &mut capture.sinks {
        sink.credentials = match sink.name.as_str() {
            DEFAULT => credentials::credentials(settings)?,
            name => credentials::of_sink(settings, values, name)?,
        };
    }
    let variable = |name: &str| std::env::var(name).ok();
    capture.proxies = proxy::proxies(&capture.settings, &variable)?;
    Ok(capture)
}

/// Without a setting, the spool is `auto`: in an all-in-one, and for whoever looks for the spool of one.
pub fn spool_where_there_is_a_place(values: &mut Values) {
    if values.given(row::spool()).is_none() {
        values.set(row::spool(), "auto");
    }
}

/// The rules as they are now, refused where the capture could not start with them. A confined process opens no file for it:
/// `read` gives the contents of the file of the rules.
pub fn rules_again(
    values: &Values,
    embedded_store: bool,
    read: ReadFile<'_>,
) -> Result<Vec<Rules>, Diagnostic> {
    without_credentials(values, embedded_store, read).map(|capture| capture.rule_sets)
}

fn without_credentials(
    values: &Values,
    embedded_store: bool,
    read: ReadFile<'_>,
) -> Result<Capture, Diagnostic> {
    let settings = Settings::check(values, RUN)?;
    let default_rules = if embedded_store {
        RULES_OF_EMBEDDED_STORE
    } else {
        RULES
    };
    let given = sinks::given(&settings, values, embedded_store)?;
    let found = sinks::rule_sets(&given, default_rules, read)?;
    let mut all = Vec::new();
    for (given, (number, rules)) in given.iter().zip(found.of_sinks) {
        let rules = &rules;
        let destination = match given.url {
            Some(url) => sinks::destination(url, rules, given.rules, &settings)?,
            None => destination(&settings, values, rules, embedded_store)?,
        };
        let compression = if rules.set.skip_compression() {
            Compression::Off
        } else {
            compression(settings.compression, &destination)
        };
        all.push(SinkConfig {
            name: given.name.to_owned(),
            destination,
            credentials: Credentials::default(),
            compression,
            rule_set: number,
        });
    }
    sinks::check_places(&all, embedded_store)?;
    Ok(Capture {
        host: machine_name(settings.name.as_ref()),
        settings,
        rule_sets: found.sets,
        sinks: all,
        proxies: Proxies::default(),
    })
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
            if crate::process::is_in_container() {
                "file:///nowhere/rules.txt: no such file or directory (as seen inside the container; is it mounted?)"
            } else {
                "file:///nowhere/rules.txt: no such file or directory"
            },
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
            assert_eq!(
                problem.what,
                format!("{name}=80;8000: separate the items with commas")
            );
            assert_eq!(problem.fix, Some(format!("{name}=80,8000")));
        }
    }

    #[test]
    fn an_item_that_is_wrong_is_named_once() {
        check_error(
            &[URL, ("APP_PORTS", "99999")],
            Code::E002,
            "APP_PORTS=99999: ports are from 1 to 65535",
        );
        check_error(
            &[URL, ("APP_PORTS", "80,8080-80")],
            Code::E002,
            "APP_PORTS=80,8080-80: a range goes from the lower port to the higher, such as 8000-8100",
        );
        check_error(
            &[URL, ("SNIFFER_ENGINE", "k8s")],
            Code::E060,
            "SNIFFER_ENGINE=k8s is not supported: this version looks up no pods",
        );
        check_error(
            &[URL, ("SNIFFER_PCAP_BUFFER_SIZE", "1")],
            Code::E002,
            "SNIFFER_PCAP_BUFFER_SIZE=1: expected 512K or more",
        );
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
        assert_eq!(config.settings.mode, CaptureMode::Mirror);
        assert_eq!(config.settings.interfaces, Vec::<String>::new());
        assert_eq!(
            (
                config.settings.ports.text.as_str(),
                config.settings.vnis.text.as_str()
            ),
            ("80", "123,-7")
        );
        assert_eq!(config.settings.vxlan_ports, [4789]);
    }
}
