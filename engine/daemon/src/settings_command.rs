//! `sniffer config`: each setting as a command would have it now, and where its value comes from.
//!
//! Secrets are never shown: not the text of a secret setting, not a password or a query in a URL.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

use crate::config::command_line::ConfigFlags;
use crate::config::manual;
use crate::config::setting::{COMMANDS, Commands, Described, EVERY, Form, Group};
use crate::config::settings::{ALL, Settings};
use crate::config::value::{Source, Value};
use crate::config::values::Values;
use crate::diagnostic::{Code, Diagnostic, Exit, printable};
use crate::invocation::Invocation;
use crate::stdout::{print, print_json};

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its name in the environment.
    pub name: String,
    /// Its value, or the default in words.
    pub value: String,
    /// `default`, `environment`, or `flag`.
    pub source: &'static str,
    /// The name that it was given under; empty for a default.
    pub given_as: String,
    #[serde(skip)]
    /// The chapter that it stands in.
    pub group: Group,
}

/// `sniffer config`.
pub fn command(flags: &ConfigFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let commands = match &flags.of {
        None => Commands::MAX,
        Some(name) => commands_of(name)?,
    };
    // What a command would refuse is refused here, too.
    Settings::check(&values, commands)?;
    let rows = rows(&values, commands);
    let rows = rows
        .into_iter()
        .filter(|row| !flags.given || row.source != "default");
    let rows: Vec<Shown> = rows.collect();
    if flags.json || invocation.json {
        print_json(&rows);
    } else {
        print(&printable(&table(&rows)));
    }
    Ok(Exit::Done)
}

/// The command of that name, with the settings of every command.
fn commands_of(name: &str) -> Result<Commands, Diagnostic> {
    let found = COMMANDS.iter().find(|(_, known)| *known == name);
    found.map(|(command, _)| command | EVERY).ok_or_else(|| {
        let known: Vec<&str> = COMMANDS.iter().map(|(_, name)| *name).collect();
        let what = format!("--of {name}: expected one of {}", known.join(", "));
        Diagnostic::new(Code::E002, what)
    })
}

/// The settings of `commands`, in the order of the documents.
pub fn rows(values: &Values, commands: Commands) -> Vec<Shown> {
    let of_group = |group: Group| {
        ALL.iter()
            .filter(move |setting| setting.row().group == group)
    };
    let settings = Group::ALL.into_iter().flat_map(of_group);
    let settings = settings.filter(|setting| setting.row().commands & commands != 0);
    settings
        .flat_map(|setting| shown(*setting, values))
        .collect()
}

/// The setting; one of a sink once for each sink that it was given for.
fn shown(setting: &dyn Described, values: &Values) -> Vec<Shown> {
    let row = setting.row();
    let given: Vec<(&str, &Value)> = match row.form {
        Form::Named => values.of_family(row).collect(),
        _ => {
            let given = values.given(row).map(|value| (row.name, value));
            given.into_iter().collect()
        }
    };
    if given.is_empty() {
        return vec![Shown {
            name: row.name.to_owned(),
            value: manual::default(setting),
            source: "default",
            given_as: String::new(),
            group: row.group,
        }];
    }
    let each = given.into_iter().map(|(name, value)| Shown {
        name: name.to_owned(),
        value: without_query(&text_of(value)).into_owned(),
        source: match value.source {
            Source::Flag => "flag",
            Source::Environment => "environment",
        },
        given_as: value.name.clone(),
        group: row.group,
    });
    each.collect()
}

/// The text in one line.
fn text_of(value: &Value) -> String {
    value.shown().trim().replace('\n', "⏎")
}

/// A URL without its query, which may have a token.
pub fn without_query(text: &str) -> Cow<'_, str> {
    match text.split_once('?') {
        Some((url, query)) if url.contains("://") && !query.is_empty() => {
            format!("{url}?(secret)").into()
        }
        _ => text.into(),
    }
}

/// A line for each setting, under the headings of the help.
fn table(rows: &[Shown]) -> String {
    let width = |text: fn(&Shown) -> &str| {
        let widths = rows.iter().map(|row| text(row).chars().count());
        widths.max().unwrap_or_default()
    };
    let names = width(|row| &row.name);
    let from = |row: &Shown| match row.source {
        "default" => "default".to_owned(),
        source => format!("{source} {}", row.given_as),
    };
    let mut text = String::new();
    let mut group = None;
    for row in rows {
        if group != Some(row.group) {
            let blank = if group.is_some() { "\n" } else { "" };
            let _ = writeln!(text, "{blank}{}", row.group.heading());
            group = Some(row.group);
        }
        let _ = writeln!(
            text,
            "  {:<names$}  {}  [{}]",
            row.name,
            row.value,
            from(row)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment;
    use crate::config::setting::{READ, RUN};

    fn values(pairs: &[(&str, &str)]) -> Values {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        environment::values(pairs, false).unwrap().0
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], name: &str, value: &str, source: &str) {
        let rows = rows(&values(pairs), RUN | EVERY);
        let row = rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!((row.value.as_str(), row.source), (value, source));
    }

    #[test]
    fn each_value_has_its_source() {
        check(&[], "APP_PORTS", "any port", "default");
        check(
            &[("APP_PORTS", "80,81")],
            "APP_PORTS",
            "80,81",
            "environment",
        );
        // An older name is shown under the first one.
        check(&[("APP_PORT", "80")], "APP_PORTS", "80", "environment");
        check(
            &[("USAGE_LOGGERS_RULES", "include debug\\nsample 5")],
            "USAGE_LOGGERS_RULES",
            "include debug⏎sample 5",
            "environment",
        );
    }

    #[test]
    fn a_setting_of_a_sink_is_shown_for_each_sink() {
        let pairs = [
            ("SNIFFER_SINK_A_RULES", "include strict"),
            ("SNIFFER_SINK_B_2_RULES", "include debug"),
        ];
        check(&pairs, pairs[0].0, pairs[0].1, "environment");
        check(&pairs, pairs[1].0, pairs[1].1, "environment");
        let rows = rows(&values(&pairs), RUN);
        assert!(rows.iter().all(|row| row.name != "SNIFFER_SINK_NAME_RULES"));
        let default = "those of USAGE_LOGGERS_RULES";
        check(&[], "SNIFFER_SINK_NAME_RULES", default, "default");
    }

    #[test]
    fn no_secret_is_shown() {
        const SECRET: &str = "hunter2";
        let url = format!("https://me:{SECRET}@lake.example/message?token={SECRET}");
        let headers = format!("Authorization: Bearer {SECRET}");
        let all = values(&[
            ("USAGE_LOGGERS_URL", &url),
            ("SNIFFER_HEADERS", &headers),
            ("SNIFFER_UI_TOKEN", SECRET),
            ("SNIFFER_SINKS", &format!("a={url}\\nb={url}")),
            ("SNIFFER_SINK_A_HEADERS", &headers),
        ]);
        let rows = rows(&all, Commands::MAX);
        let shown = format!("{rows:?}{}", table(&rows));
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(
            shown.contains("https://(secret)@lake.example/message?(secret)"),
            "{shown}"
        );
        assert_eq!(
            rows.iter()
                .filter(|row| row.source == "environment")
                .count(),
            5
        );
    }

    #[test]
    fn the_settings_are_those_of_a_command() {
        let of_read = rows(&Values::default(), READ | EVERY);
        assert!(of_read.iter().all(|row| row.name != "SNIFFER_SPOOL"));
        assert!(of_read.iter().any(|row| row.name == "USAGE_LOGGERS_RULES"));
        assert_eq!(rows(&Values::default(), Commands::MAX).len(), ALL.len());
        assert!(commands_of("store").is_ok() && commands_of("stor").is_err());
    }

    #[test]
    fn the_table_has_the_headings_of_the_help() {
        let rows = rows(&values(&[("APP_PORTS", "80")]), RUN);
        let text = table(&rows);
        assert!(text.starts_with("Which packets\n  NET_DEVICE"), "{text}");
        assert!(text.contains("80  [environment APP_PORTS]\n"), "{text}");
        assert!(text.contains("\n\nWhere calls go\n"), "{text}");
    }
}
