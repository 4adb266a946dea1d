//! Every setting by its environment name, and the values that were given: environment first, flags over it.
//!
//! The predecessor's names all work. A name that looks like ours and is not is an error with a guess, since a misspelt
//! privacy rule must not pass in silence. `docker run --env-file` keeps quotes and the characters `\n`
//! (contract section 5): one matching pair of quotes is taken off here, and both are said.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::diagnostic::{Code, Diagnostic};

/// What a known name does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is used.
    Used,
    /// It is accepted and changes nothing; why.
    None(&'static str),
}

/// One known setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Environment name.
    pub env: &'static str,
    /// The flag that sets the same, if there is one.
    pub flag: &'static str,
    /// Whether it does something.
    pub effect: Effect,
}

const fn used(env: &'static str, flag: &'static str) -> Setting {
    Setting {
        env,
        flag,
        effect: Effect::Used,
    }
}

const fn unused(env: &'static str, why: &'static str) -> Setting {
    Setting {
        env,
        flag: "",
        effect: Effect::None(why),
    }
}

/// All of them.
pub const SETTINGS: &[Setting] = &[
    used("USAGE_LOGGERS_URL", "--url"),
    used("USAGE_LOGGERS_RULES", "--rules"),
    used("USAGE_LOGGERS_DISABLE", "--no-send"),
    used("USAGE_LOGGERS_BODY_LIMIT", "--body-limit"),
    used("USAGE_LOGGERS_BUNDLE_SIZE", "--bundle-size"),
    used("USAGE_LOGGERS_BUNDLE_QUEUE_SIZE", "--bundle-queue-size"),
    unused(
        "USAGE_LOGGERS_MESSAGE_QUEUE_SIZE",
        "lines go straight into bundles here, there is no queue of messages",
    ),
    unused(
        "USAGE_LOGGERS_DISABLED",
        "nothing ever read this name; the switch is USAGE_LOGGERS_DISABLE",
    ),
    used("APP_PORTS", "--ports"),
    used("APP_PORT", ""),
    used("NET_DEVICE", "--interface"),
    used("VPC_MIRROR_DEVICE", ""),
    used("SNIFFER_ENGINE", "--engine"),
    used("SNIFFER_MIRROR_VXLANPORT", "--vxlan-port"),
    used("SNIFFER_MIRROR_VNIS", "--vni"),
    used("SNIFFER_PCAP_BUFFER_SIZE", "--ring-size"),
    used("SNIFFER_PROMISC_ENABLED", "--promisc"),
    unused(
        "SNIFFER_RF_MONITOR_ENABLED",
        "monitor mode is for wireless interfaces; set it with `iw` before the start",
    ),
    used("SNIFFER_REALIP_HEADER", "--realip-header"),
    used("SNIFFER_CLIENT_ADDRESS", "--client-address"),
    used("SNIFFER_FORM_PARAMS", "--form-params"),
    unused(
        "SNIFFER_NOFILTER",
        "ports are filtered after decapsulation, whatever the kernel's filter says",
    ),
    unused(
        "SNIFFER_DEBUG_ENABLED",
        "`sniffer status --json` has all counters",
    ),
    unused(
        "SNIFFER_DEBUG_VERBOSITY",
        "`sniffer status --json` has all counters",
    ),
    unused(
        "SNIFFER_DEBUG_EXPORT",
        "nothing is exported; record packets with tcpdump and read them with `sniffer read`",
    ),
    unused("SNIFFER_DEBUG_DEAL_ID", "nothing is exported"),
    unused("SNIFFER_DEBUG_HTTP_ENDPOINT", "nothing is exported"),
    unused("SNIFFER_PORT", "use APP_PORTS"),
    used("SNIFFER_SHARDS", "--shards"),
    used("SNIFFER_BPF", "--bpf"),
    used("SNIFFER_CONTROL", "--control"),
    used("SNIFFER_NO_SANDBOX", "--no-sandbox"),
    used("SNIFFER_DATA", "--data"),
    used("SNIFFER_STORE", "--store"),
    used("SNIFFER_UI", "--ui"),
    used("SNIFFER_AUTOSTART", "--on"),
    used("SNIFFER_ANNOTATE", "--annotate"),
    used("SNIFFER_HALF_CALLS", "--half-calls"),
    used("SNIFFER_COMPRESSION", "--compression"),
    used("SNIFFER_FLUSH_TIMEOUT", "--flush-timeout"),
    used("SNIFFER_MEMORY_LIMIT", "--memory-limit"),
    unused(
        "SNIFFER_SPOOL",
        "what cannot be delivered is kept in memory only in this version",
    ),
    used("SNIFFER_METRICS", "--metrics"),
    used("SNIFFER_READY_NEEDS_OUTPUT", "--ready-needs-output"),
    unused("SNIFFER_SAMPLE", "use the rule `sample N`"),
    unused(
        "K8S_INPUT",
        "pods are not looked up in this version; capturing on the node's interfaces",
    ),
];

/// Beginnings of names that are ours: an unknown one behind them is a mistake.
const PREFIXES: [&str; 3] = ["SNIFFER_", "USAGE_LOGGERS_", "APP_"];

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
}

/// One value as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The name as the user wrote it: a flag or a variable.
    pub name: &'static str,
    /// The text, quotes taken off.
    pub text: String,
    /// Where it came from.
    pub source: Source,
}

/// All values that were given and are not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<&'static str, Value>);

impl Values {
    /// The values of the environment, and what there is to say about it: unknown names are errors, the rest notices.
    pub fn from_environment(
        variables: impl Iterator<Item = (OsString, OsString)>,
        lenient: bool,
    ) -> Result<(Self, Vec<Diagnostic>), Diagnostic> {
        let mut values = Self::default();
        let mut notices = Vec::new();
        let mut variables: Vec<_> = variables.collect();
        variables.sort();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let Some(setting) = SETTINGS.iter().find(|setting| setting.env == name) else {
                if is_ours(name) && !is_service_link(name, &value) {
                    let problem = unknown_variable(name);
                    if !lenient {
                        return Err(problem);
                    }
                    notices.push(Diagnostic {
                        code: Code::W004,
                        fix: None,
                        ..problem
                    });
                }
                continue;
            };
            if is_service_link(name, &value) {
                continue;
            }
            let text = value.into_string().map_err(|value| {
                Diagnostic::new(
                    Code::E002,
                    format!("{name}={}: is not UTF-8 text", value.to_string_lossy()),
                )
            })?;
            values.accept(setting, &text, &mut notices);
        }
        Ok((values, notices))
    }

    fn accept(&mut self, setting: &Setting, given: &str, notices: &mut Vec<Diagnostic>) {
        let (text, quoted) = unquote(given);
        let (text, escaped) = if setting.env == "USAGE_LOGGERS_RULES" {
            line_ends(text)
        } else {
            (text.to_owned(), false)
        };
        if text.trim().is_empty() {
            return;
        }
        if let Effect::None(why) = setting.effect {
            // What asks for nothing misses nothing.
            if matches!(text.trim(), "false" | "0" | "none") {
                return;
            }
            notices.push(Diagnostic::new(
                Code::W004,
                format!("{} has no effect here: {why}", setting.env),
            ));
            return;
        }
        if quoted {
            let shown = text.replace('\n', "⏎");
            notices.push(Diagnostic::new(
                Code::W003,
                format!(
                    "{} had quotes around it{} (docker --env-file keeps them); using: {shown}",
                    setting.env,
                    if escaped { " and \\n in it" } else { "" }
                ),
            ));
        }
        self.0.insert(
            setting.env,
            Value {
                name: setting.env,
                text,
                source: Source::Environment,
            },
        );
    }

    /// A flag's value, over whatever the environment said.
    pub fn set_flag(&mut self, env: &'static str, text: impl Into<String>) {
        let setting = SETTINGS.iter().find(|setting| setting.env == env);
        let name = setting.map_or(env, |setting| setting.flag);
        let text = text.into();
        let text = if env == "USAGE_LOGGERS_RULES" {
            line_ends(&text).0
        } else {
            text
        };
        self.0.insert(
            env,
            Value {
                name,
                text,
                source: Source::Flag,
            },
        );
    }

    /// The value of the first of these names that has one. A flag stands under the first name, so it wins.
    pub fn get(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| self.0.get(*name))
    }

    /// Whether a value was given.
    pub fn has(&self, env: &str) -> bool {
        self.0.contains_key(env)
    }

    /// Removes a value.
    pub fn remove(&mut self, env: &str) {
        self.0.remove(env);
    }

    /// Name and text of all, as a child process takes them from its environment.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0
            .iter()
            .map(|(env, value)| (*env, value.text.as_str()))
    }
}

/// Whether a name looks like one of our settings.
pub fn is_ours(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SETTINGS.iter().any(|setting| setting.env == name)
}

/// Kubernetes puts `NAME_PORT=tcp://10.0.0.1:80`, `NAME_SERVICE_HOST` and the like into every container for each
/// service of the namespace. A service called `app` or `sniffer` makes names that look like ours and are not.
fn is_service_link(name: &str, value: &OsString) -> bool {
    let is_url = value
        .to_str()
        .is_some_and(|text| text.starts_with("tcp://") || text.starts_with("udp://"));
    let has_protocol = ["_TCP", "_UDP", "_SCTP"]
        .iter()
        .any(|protocol| name.contains(protocol));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT") && (is_url || has_protocol))
}

fn unknown_variable(name: &str) -> Diagnostic {
    let known = SETTINGS
        .iter()
        .filter(|setting| setting.effect == Effect::Used)
        .map(|setting| setting.env);
    let guess = guess(name, known);
    let hint = guess
        .map(|guess| format!(" Did you mean {guess}?"))
        .unwrap_or_default();
    let fix = match guess {
        Some(guess) => format!("rename it to {guess}, or pass --lenient to go on without it"),
        None => "unset it, or pass --lenient to go on without it".to_owned(),
    };
    Diagnostic::new(Code::E001, format!("unknown setting {name}.{hint}"))
        .cause("names that begin with SNIFFER_, USAGE_LOGGERS_ or APP_ are ours, and this is none of them")
        .fix(fix)
}

/// The known word nearest to `word`, if it is near: at most a third of its letters differ.
pub fn guess<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, nearest) = known.map(|name| (edit_distance(word, name), name)).min()?;
    (distance <= (word.chars().count() / 3).max(1)).then_some(nearest)
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &right) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(left != right))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && left == b[j - 1] && a[i - 1] == right {
                cost = cost.min(before_last[j - 1] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Without one matching pair of quotes, and whether there was one.
fn unquote(text: &str) -> (&str, bool) {
    let trimmed = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = trimmed
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
        {
            return (inner, true);
        }
    }
    (text, false)
}

/// With the characters `\r\n` and `\n` turned into line ends, and whether there were any.
fn line_ends(text: &str) -> (String, bool) {
    let real = text.replace("\\r\\n", "\n").replace("\\n", "\n");
    let changed = real != text;
    (real, changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(
        pairs: &[(&str, &str)],
        lenient: bool,
    ) -> Result<(Values, Vec<Diagnostic>), Diagnostic> {
        Values::from_environment(
            pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
            lenient,
        )
    }

    #[track_caller]
    fn check(name: &'static str, given: &str, expected: Option<&str>, codes: &[Code]) {
        let (values, notices) = environment(&[(name, given)], false).unwrap();
        assert_eq!(
            values.get(&[name]).map(|value| value.text.as_str()),
            expected
        );
        assert_eq!(
            notices.iter().map(|notice| notice.code).collect::<Vec<_>>(),
            codes
        );
    }

    #[test]
    fn takes_the_predecessors_env_file_as_docker_hands_it_over() {
        check("VPC_MIRROR_DEVICE", "\"\"", None, &[]);
        check("VPC_MIRROR_DEVICE", "", None, &[]);
        check("NET_DEVICE", "\"docker0\"", Some("docker0"), &[Code::W003]);
        check("NET_DEVICE", "'docker0'", Some("docker0"), &[Code::W003]);
        check("NET_DEVICE", "\"docker0'", Some("\"docker0'"), &[]);
        check(
            "USAGE_LOGGERS_RULES",
            "\"include debug\\nallow_http_url\"",
            Some("include debug\nallow_http_url"),
            &[Code::W003],
        );
        check(
            "USAGE_LOGGERS_RULES",
            "include debug\\r\\nsample 10",
            Some("include debug\nsample 10"),
            &[],
        );
        check(
            "USAGE_LOGGERS_RULES",
            "/a/ replace /\\d/, /\\\\1/",
            Some("/a/ replace /\\d/, /\\\\1/"),
            &[],
        );
        check("SNIFFER_RF_MONITOR_ENABLED", "true", None, &[Code::W004]);
        check("SNIFFER_RF_MONITOR_ENABLED", "", None, &[]);
        check("SNIFFER_DEBUG_EXPORT", "none", None, &[]);
    }

    #[test]
    fn an_unknown_name_is_an_error_with_a_guess() {
        let problem = environment(&[("SNIFFER_MIROR_VNIS", "1")], false).unwrap_err();
        assert_eq!(problem.code, Code::E001);
        assert_eq!(
            problem.what,
            "unknown setting SNIFFER_MIROR_VNIS. Did you mean SNIFFER_MIRROR_VNIS?"
        );
        let problem = environment(&[("APP_PROT", "80")], false).unwrap_err();
        assert_eq!(
            problem.what,
            "unknown setting APP_PROT. Did you mean APP_PORT?"
        );
        assert!(
            environment(&[("SNIFFER_WHATEVER_ELSE", "1")], false)
                .unwrap_err()
                .what
                .ends_with("ELSE.")
        );
        let (_, notices) = environment(&[("SNIFFER_MIROR_VNIS", "1")], true).unwrap();
        assert_eq!(notices.len(), 1);
        assert!(environment(&[("PATH", "/bin"), ("MY_SNIFFER_X", "1")], false).is_ok());
    }

    #[test]
    fn kubernetes_service_links_are_not_settings() {
        let links = [
            ("APP_PORT", "tcp://10.0.0.1:80"),
            ("APP_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("APP_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("SNIFFER_SERVICE_HOST", "10.0.0.1"),
            ("SNIFFER_SERVICE_PORT_HTTP", "80"),
        ];
        let (values, notices) = environment(&links, false).unwrap();
        assert_eq!((values, notices), (Values::default(), vec![]));
    }

    #[test]
    fn flags_win_and_first_names_win() {
        let (mut values, _) =
            environment(&[("APP_PORT", "80"), ("APP_PORTS", "81")], false).unwrap();
        assert_eq!(values.get(&["APP_PORTS", "APP_PORT"]).unwrap().text, "81");
        values.set_flag("APP_PORTS", "82");
        let value = values.get(&["APP_PORTS", "APP_PORT"]).unwrap();
        assert_eq!(
            (value.name, value.text.as_str(), value.source),
            ("--ports", "82", Source::Flag)
        );
    }

    #[test]
    fn distance_counts_a_swap_as_one() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("ab", "ba", 1),
            ("kitten", "sitting", 3),
            ("vlxan", "vxlan", 1),
        ] {
            assert_eq!(edit_distance(a, b), expected, "{a} {b}");
        }
    }
}
