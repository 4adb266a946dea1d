//! `sniffer report`: what somebody who helps has to know, as one JSON document.
//!
//! It has the settings, the status with all counters, the interfaces and the machine. It has nothing of a captured message: no
//! packet, no body, no header, no URL of a call. Secrets are left out of settings and addresses, and so is the text of the
//! rules, which may hold some.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::capture::interfaces;
use crate::clock;
use crate::config::command_line::ReportFlags;
use crate::config::setting::Commands;
use crate::config::settings::row;
use crate::config::value::without_password;
use crate::control::{self, Request, Unreachable};
use crate::diagnostic::{Code, Diagnostic, Exit, system_words};
use crate::invocation::Invocation;
use crate::process::{container, status_value};
use crate::settings_command::{self, Shown, without_query};
use crate::status::Status;
use crate::stdout::print;

/// Version of the form.
const SCHEMA: u32 = 1;

/// Time for a status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// Files of the machine that are part of the report, of which the first lines say what they are.
const FILES: [(&str, &str); 6] = [
    ("kernel", "/proc/version"),
    ("memory", "/proc/meminfo"),
    ("load", "/proc/loadavg"),
    ("memory_limit", "/sys/fs/cgroup/memory.max"),
    ("cpu_limit", "/sys/fs/cgroup/cpu.max"),
    ("landlock_and_others", "/sys/kernel/security/lsm"),
];

/// Lines of such a file.
const LINES_MAX: usize = 3;

/// `sniffer report`.
pub fn command(flags: &ReportFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut text = serde_json::to_string_pretty(&report(invocation)).unwrap_or_default();
    text.push('\n');
    match &flags.output {
        None => print(&text),
        Some(path) => {
            write(path, &text)?;
            invocation.console.info(format_args!(
                "wrote {}: settings without secrets, counters, interfaces; no packets, no calls. Read it before you pass it on",
                path.display()
            ));
        }
    }
    Ok(Exit::Done)
}

/// Writes a new file that only this user may read.
fn write(path: &Path, text: &str) -> Result<(), Diagnostic> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        Diagnostic::new(
            Code::E002,
            format!("{}: {}", path.display(), system_words(&error)),
        )
        .fix("-o FILE    a file that does not exist yet")
    })
}

fn report(invocation: &Invocation) -> Value {
    // A mistake in the settings is what a report may be made for.
    let (settings, mistake) = match invocation.values() {
        Ok(values) => (settings_command::rows(&values, Commands::MAX), None),
        Err(problem) => (Vec::new(), Some(problem.what)),
    };
    let settings: Vec<Shown> = settings.into_iter().map(without_rules).collect();
    let (status, unreachable) = status(invocation);
    let files = FILES.iter().map(|(name, path)| (*name, first_lines(path)));
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "millis_since_1970": clock::now().millis(),
        "settings": settings,
        "settings_refused": mistake.map(|text| without_query(&without_password(&text)).into_owned()),
        "status": status,
        "status_missing": unreachable,
        "interfaces": listed(),
        "machine": {
            "architecture": std::env::consts::ARCH,
            "processors": std::thread::available_parallelism().map(usize::from).unwrap_or_default(),
            "container": container().map(|kind| format!("{kind:?}")),
            "capabilities": status_value("CapEff:"),
            "no_new_privileges": status_value("NoNewPrivs:"),
            "files": files.collect::<std::collections::BTreeMap<_, _>>(),
        },
    })
}

/// A setting; of rules only how many lines they have.
fn without_rules(setting: Shown) -> Shown {
    let is_rules =
        setting.name == row::rules().name || row::sink_rules().is_family_of(&setting.name);
    if !is_rules || setting.source == "default" || setting.value.starts_with("file://") {
        return setting;
    }
    let lines = setting.value.split('⏎').count();
    Shown {
        value: format!("({lines} lines)"),
        ..setting
    }
}

/// The status without what may be private, and why there is none.
fn status(invocation: &Invocation) -> (Option<Status>, Option<String>) {
    match control::send(&invocation.control, Request::Status, STATUS_TIMEOUT) {
        Ok(response) => (response.status.map(without_secrets), None),
        Err(Unreachable::NotRunning) => {
            let what = format!("nothing answers on {}", invocation.control.display());
            (None, Some(what))
        }
        Err(Unreachable::Error(problem)) => (None, Some(problem.what)),
    }
}

fn without_secrets(mut status: Status) -> Status {
    let clean = |text: &mut String| {
        let words = text
            .split(' ')
            .map(|word| without_query(&without_password(word)).into_owned());
        *text = words.collect::<Vec<_>>().join(" ");
    };
    if let Some(capture) = &mut status.capture {
        let of_sinks = capture.sinks.iter_mut();
        let (hits, outputs): (Vec<_>, Vec<_>) = of_sinks
            .map(|sink| (&mut sink.rule_hits, &mut sink.output))
            .chain([(&mut capture.rule_hits, &mut capture.output)])
            .unzip();
        for rule in hits.into_iter().flatten() {
            rule.rule.clear();
        }
        for output in outputs {
            let places = output.urls.iter_mut();
            let places =
                places.flat_map(|place| Some(&mut place.url).into_iter().chain(&mut place.error));
            let texts = places
                .chain([&mut output.url])
                .chain(&mut output.last_error);
            texts.for_each(clean);
        }
        clean(&mut capture.sentence);
    }
    if let Some(store) = &mut status.store {
        clean(&mut store.url);
        clean(&mut store.page);
    }
    status
        .warnings
        .iter_mut()
        .for_each(|warning| clean(&mut warning.text));
    status
}

fn listed() -> Value {
    /// One interface.
    #[derive(Serialize)]
    struct Row {
        name: String,
        up: bool,
        carrier: bool,
        mtu: u32,
        kind: String,
        addresses: Vec<String>,
    }
    let all = match interfaces::list() {
        Ok(all) => all,
        Err(problem) => return json!(problem.what),
    };
    let rows = all.into_iter().map(|interface| Row {
        kind: format!("{:?}", interface.kind),
        addresses: interface
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect(),
        name: interface.name,
        up: interface.up,
        carrier: interface.carrier,
        mtu: interface.mtu,
    });
    json!(rows.collect::<Vec<_>>())
}

fn first_lines(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().take(LINES_MAX).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Capture, RuleHits, Sink, UrlState, Warning};

    #[test]
    fn a_status_is_passed_on_without_secrets() {
        const SECRET: &str = "hunter2";
        let mut capture = Capture::default();
        capture.output.url = format!("https://me:{SECRET}@lake.example/m?key={SECRET}");
        capture.sentence =
            format!("sending to https://lake.example/m?key={SECRET} (deflate on), at most");
        capture.rule_hits.push(RuleHits {
            line: 3,
            rule: format!("/request_header:x/ stop_if /{SECRET}/"),
            verb: "stop_if".into(),
            hits: 4,
        });
        let mut output = capture.output.clone();
        output.urls.push(UrlState {
            url: output.url.clone(),
            up: Some(false),
            error: Some(output.url.clone()),
        });
        output.last_error = Some(format!("{} refuses connections", output.url));
        capture.sinks.push(Sink {
            rule_hits: capture.rule_hits.clone(),
            output,
            ..Sink::default()
        });
        let status = Status {
            capture: Some(capture),
            warnings: vec![Warning {
                code: "W042".into(),
                text: format!("https://lake.example/m?key={SECRET} refuses connections"),
            }],
            ..Status::default()
        };
        let shown = serde_json::to_string(&without_secrets(status)).unwrap();
        assert!(!shown.contains(SECRET), "{shown}");
        for kept in [
            r#""line":3"#,
            r#""hits":4"#,
            "(deflate on), at most",
            "refuses connections",
        ] {
            assert!(shown.contains(kept), "{shown}");
        }
    }
}
