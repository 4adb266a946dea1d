//! The settings in the environment, read with the mistakes that people make there.
//!
//! An unknown name with one of the prefixes of settings is an error with a guess, since a misspelt privacy rule must not
//! pass unnoticed. `docker run --env-file` keeps quotes and the characters `\n`: one matching pair of quotes around a value is
//! removed, `\n` in rules is a line end, and a notice mentions both.

use std::ffi::OsString;

use super::guess::guess;
use super::setting::Row;
use super::settings::{ALL, WITHOUT_EFFECT};
use super::value::without_password;
use super::values::{Values, with_line_ends};
use crate::diagnostic::{Code, Diagnostic};

/// Prefixes of settings: an unknown name that has one of them is a mistake.
const PREFIXES: [&str; 3] = ["SNIFFER_", "USAGE_LOGGERS_", "APP_"];

/// The values of the environment, with notices. An unknown name is an error, or a notice if `lenient`.
pub fn values(
    variables: impl Iterator<Item = (OsString, OsString)>,
    lenient: bool,
) -> Result<(Values, Vec<Diagnostic>), Diagnostic> {
    let mut values = Values::default();
    let mut notices = Vec::new();
    let mut variables: Vec<_> = variables.collect();
    variables.sort();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        if !is_ours(name) || is_service_link(name, &value) {
            continue;
        }
        let known = row(name);
        let reason = reason_without_effect(name);
        if known.is_none() && reason.is_none() {
            let problem = unknown_variable(name);
            if !lenient {
                return Err(problem);
            }
            notices.push(Diagnostic {
                code: Code::W004,
                fix: None,
                ..problem
            });
            continue;
        }
        let text = value.into_string().map_err(|value| {
            Diagnostic::new(
                Code::E002,
                format!("{name}={}: is not UTF-8 text", value.to_string_lossy()),
            )
        })?;
        let (text, was_quoted) = unquote(&text);
        if text.trim().is_empty() {
            continue;
        }
        if let Some(reason) = reason {
            // Nothing is missing where the value switches the feature off.
            if !matches!(text.trim(), "false" | "0" | "none") {
                notices.push(Diagnostic::new(
                    Code::W004,
                    format!("{name} has no effect here: {reason}"),
                ));
            }
        }
        if let Some(row) = known {
            let is_one = !row.is_family_of(name);
            if let Some(first) = values
                .given(row)
                .filter(|first| is_one && first.name != name)
            {
                notices.extend(one_wins(row, [(&first.name, &first.text), (name, text)]));
            }
            let (text, notice) = accept(row, name, text, was_quoted);
            notices.extend(notice);
            values.add_variable(row, name, text);
        }
    }
    Ok((values, notices))
}

/// The notice when a setting was given under two of its names; none if both have the same text.
fn one_wins(row: &Row, given: [(&str, &str); 2]) -> Option<Diagnostic> {
    let [winner, loser] = {
        let place = |name: &str| row.names().position(|known| known == name);
        let mut given = given;
        given.sort_by_key(|(name, _)| place(name));
        given
    };
    let shown = |text: &str| {
        if row.is_secret {
            "(secret)".to_owned()
        } else {
            text.to_owned()
        }
    };
    (winner.1 != loser.1).then(|| {
        Diagnostic::new(
            Code::W004,
            format!(
                "{}={} has no effect: {}={} is the same setting and wins",
                loser.0,
                shown(loser.1),
                winner.0,
                shown(winner.1)
            ),
        )
        .fix(format!("unset {}", loser.0))
    })
}

/// The text as it is used, and a notice when that is not what the variable holds.
fn accept(row: &Row, name: &str, given: &str, was_quoted: bool) -> (String, Option<Diagnostic>) {
    let text = if row.form.has_lines() {
        with_line_ends(given)
    } else {
        given.to_owned()
    };
    let notice = was_quoted.then(|| {
        let escaped = if text == given { "" } else { " and \\n in it" };
        let shown = if row.is_secret {
            "(secret)".to_owned()
        } else {
            without_password(&text).replace('\n', "⏎")
        };
        Diagnostic::new(
            Code::W003,
            format!(
                "{name} had quotes around it{escaped} (docker --env-file keeps them); using: {shown}"
            ),
        )
    });
    (text, notice)
}

/// Whether a name is that of a setting or looks like one.
pub fn is_ours(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || row(name).is_some()
        || reason_without_effect(name).is_some()
}

fn row(name: &str) -> Option<&'static Row> {
    ALL.iter()
        .map(|setting| setting.row())
        .find(|row| row.names().any(|known| known == name) || row.is_family_of(name))
}

fn reason_without_effect(name: &str) -> Option<&'static str> {
    let known = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name);
    known.map(|(_, reason)| *reason)
}

/// Kubernetes puts `NAME_PORT=tcp://10.0.0.1:80`, `NAME_SERVICE_HOST` and the like into every container for each
/// service of the namespace. Those of a service called `app` or `sniffer` have names that look like settings.
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

/// The setting that a name probably means: one with the same prefix and nearly the same rest. A guess that is further off
/// would do harm, since people paste it.
fn guess_setting(name: &str) -> Option<&'static str> {
    let prefix = PREFIXES.iter().find(|prefix| name.starts_with(*prefix))?;
    let known = || ALL.iter().flat_map(|setting| setting.row().names());
    let rest = |name: &'static str| name.strip_prefix(prefix);
    let nearest = guess(name.strip_prefix(prefix)?, known().filter_map(rest))?;
    known().find(|known| rest(known) == Some(nearest))
}

fn unknown_variable(name: &str) -> Diagnostic {
    let guess = guess_setting(name);
    let hint = guess
        .map(|guess| format!(" Did you mean {guess}?"))
        .unwrap_or_default();
    let fix = match guess {
        Some(guess) => format!("rename it to {guess}; --lenient ignores it"),
        None => format!("unset {name}    or ignore it with --lenient"),
    };
    Diagnostic::new(Code::E001, format!("unknown setting {name}.{hint}"))
        .cause("names that begin with SNIFFER_, USAGE_LOGGERS_ or APP_ are reserved for settings, and this is none of them")
        .fix(fix)
}

/// The text without one matching pair of quotes, and whether there was one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::row as rows;
    use crate::config::value::Source;

    fn environment(
        pairs: &[(&str, &str)],
        lenient: bool,
    ) -> Result<(Values, Vec<Diagnostic>), Diagnostic> {
        values(
            pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
            lenient,
        )
    }

    #[track_caller]
    fn check(name: &'static str, given: &str, expected: Option<&str>, codes: &[Code]) {
        let (values, notices) = environment(&[(name, given)], false).unwrap();
        let text = row(name).and_then(|row| values.given(row));
        assert_eq!(text.map(|value| value.text.as_str()), expected);
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
    fn a_guess_that_is_far_off_is_none() {
        for name in ["SNIFFER_COLOR", "SNIFFER_EXPORT"] {
            let problem = environment(&[(name, "1")], false).unwrap_err();
            assert_eq!(problem.what, format!("unknown setting {name}."));
            assert!(problem.fix.unwrap().starts_with(&format!("unset {name} ")));
        }
        for name in ["USAGE_LOGGERS_RULE", "SNIFFER_SHARD", "APP_PROTS"] {
            let problem = environment(&[(name, "1")], false).unwrap_err();
            assert!(problem.what.contains("Did you mean"), "{}", problem.what);
        }
    }

    #[test]
    fn the_second_name_of_a_setting_that_has_no_effect_is_reported() {
        let warnings = |first, second| {
            let (_, notices) =
                environment(&[("APP_PORT", first), ("APP_PORTS", second)], false).unwrap();
            let texts = notices.into_iter().map(|notice| notice.what);
            texts.collect::<Vec<_>>()
        };
        assert_eq!(
            warnings("80", "8000"),
            ["APP_PORT=80 has no effect: APP_PORTS=8000 is the same setting and wins"]
        );
        assert!(warnings("80", "80").is_empty());
        let given = [("NET_DEVICE", "lo"), ("VPC_MIRROR_DEVICE", "eth0")];
        let (_, notices) = environment(&given, false).unwrap();
        assert_eq!(
            notices[0].what,
            "VPC_MIRROR_DEVICE=eth0 has no effect: NET_DEVICE=lo is the same setting and wins"
        );
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
        assert_eq!(values.given(rows::ports()).unwrap().text, "81");
        values.set(rows::ports(), "82");
        let value = values.given(rows::ports()).unwrap();
        assert_eq!(
            (value.name.as_str(), value.text.as_str(), value.source),
            ("--ports", "82", Source::Flag)
        );
    }
}
