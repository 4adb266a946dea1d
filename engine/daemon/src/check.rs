//! `sniffer check`: an examination of what a capture with these settings would meet. It changes nothing.
//!
//! Each finding is `ok`, `info`, `warn` or `fail`, with a command to paste if something can be done. A finding that fails
//! keeps `run` from starting or its calls from arriving; the exit code is 8 then. No call is sent: a capture URL gets the
//! post of an empty bundle. Advice on the host comes from `tuning/knobs`, the table that `tuning/apply` works through.

use std::fmt::Write as _;

use engine_sys::process;
use serde::Serialize;

use crate::capture::interfaces::{self, Choice};
use crate::config::command_line::CheckFlags;
use crate::config::settings::row;
use crate::config::values::Values;
use crate::config::{self, Capture};
use crate::diagnostic::{Diagnostic, Exit};
use crate::invocation::Invocation;
use crate::quantity::plural;
use crate::random;
use crate::sink::Sinks;
use crate::stdout::print;

use finding::{Finding, Level};

mod capture;
mod finding;
mod host;
mod kernel;

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// `sniffer check`.
pub fn command(flags: &CheckFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    process::raise_capability();
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let findings = findings(&values, flags);
    if flags.json || invocation.json {
        print(&json(&findings));
    } else {
        print(&text(&findings));
    }
    Ok(exit(&findings))
}

/// Examines everything, in the order in which a start would meet it.
fn findings(values: &Values, flags: &CheckFlags) -> Vec<Finding> {
    let mut findings = Vec::new();
    let config = settings(values, &mut findings);
    let choice = config.as_ref().and_then(choice_of);
    if flags.tuning {
        return host::findings(chosen(&choice));
    }
    if let (Some(config), Some(choice)) = (&config, &choice) {
        findings.extend(capture::findings(config, choice, flags.mirror));
    }
    findings.extend(kernel::findings());
    if let Some(config) = &config {
        findings.extend(sinks(config));
    }
    findings.extend(host::findings(chosen(&choice)));
    findings
}

/// Whether each sink could deliver.
fn sinks(config: &Capture) -> Vec<Finding> {
    match random::identity(&config.host) {
        Ok(identity) => {
            let probes = Sinks::of(config, &identity).probes();
            probes.into_iter().map(Finding::of_sink).collect()
        }
        Err(problem) => vec![Finding::of(problem, "random numbers")],
    }
}

/// The settings as `run` would take them; without a capture URL the rest is examined all the same.
fn settings(values: &Values, findings: &mut Vec<Finding>) -> Option<Capture> {
    let mut values = values.clone();
    if !values.has(row::url()) && !values.has(row::sinks()) {
        values.set(row::no_send(), "true");
        let text = "no capture URL is set; `sniffer all-in-one` brings its own";
        findings.push(
            Finding::new(Level::Info, "capture URL", text)
                .fix("USAGE_LOGGERS_URL=https://HOST/message"),
        );
    }
    match config::capture(&values, false) {
        Ok(config) => {
            let text = format!("rules {:?}", config.rules_name());
            findings.push(Finding::new(Level::Ok, "settings", text));
            Some(config)
        }
        Err(problem) => {
            findings.push(Finding::of(problem, "settings"));
            None
        }
    }
}

fn choice_of(config: &Capture) -> Option<Result<Choice, Diagnostic>> {
    Some(interfaces::list().and_then(|all| {
        interfaces::choose(&config.settings.interfaces, config.settings.mode, &all)
    }))
}

/// Names of the interfaces whose queues are examined.
fn chosen(choice: &Option<Result<Choice, Diagnostic>>) -> Vec<String> {
    let Some(Ok(choice)) = choice else {
        return Vec::new();
    };
    let interfaces = choice.interfaces.iter();
    interfaces
        .filter(|interface| !interface.loopback)
        .map(|interface| interface.name.clone())
        .collect()
}

/// The exit code of the command.
fn exit(findings: &[Finding]) -> Exit {
    match count(findings, Level::Fail) {
        0 => Exit::Done,
        _ => Exit::Incomplete,
    }
}

fn count(findings: &[Finding], level: Level) -> usize {
    (findings.iter().filter(|finding| finding.level == level)).count()
}

/// One line each, with `why:` and `fix:` beneath where there is something to do.
fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(
            text,
            "{:<5} {}: {}",
            finding.level.word(),
            finding.topic,
            finding.text
        );
        if finding.level == Level::Ok {
            continue;
        }
        for (label, body) in [("why", &finding.why), ("fix", &finding.fix)] {
            let Some(body) = body else { continue };
            let body = body.trim_end().replace('\n', "\n           ");
            let _ = writeln!(text, "      {label}: {body}");
        }
    }
    let [warnings, errors] = [Level::Warn, Level::Fail].map(|level| count(findings, level));
    let _ = writeln!(
        text,
        "{errors} fail, {}; nothing was changed",
        differ(warnings)
    );
    text
}

fn differ(settings: usize) -> String {
    let verb = if settings == 1 { "differs" } else { "differ" };
    format!(
        "{} {verb} from the advice",
        plural(settings as u64, "setting")
    )
}

/// The same as one JSON object with stable keys.
fn json(findings: &[Finding]) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        schema: u32,
        failed: usize,
        warned: usize,
        findings: &'a [Finding],
    }
    let report = Report {
        schema: SCHEMA,
        failed: count(findings, Level::Fail),
        warned: count(findings, Level::Warn),
        findings,
    };
    serde_json::to_string(&report).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Code;

    #[test]
    fn findings_are_shown_with_what_to_do() {
        let findings = [
            Finding::new(Level::Ok, "packet socket", "opened").why("not shown"),
            Finding::new(Level::Warn, "ens5", "ring 512, advised 4096")
                .why("bursts are dropped")
                .fix("ethtool -G ens5 rx 4096\n# or less"),
        ];
        let expected = "\
ok    packet socket: opened
warn  ens5: ring 512, advised 4096
      why: bursts are dropped
      fix: ethtool -G ens5 rx 4096
           # or less
0 fail, 1 setting differs from the advice; nothing was changed
";
        assert_eq!(text(&findings), expected);
        assert_eq!(exit(&findings), Exit::Done);
        let failed = Finding::of(Diagnostic::new(Code::E010, "no"), "packet socket");
        assert_eq!(failed.text, "no [E010]");
        assert_eq!(exit(&[failed]), Exit::Incomplete);
    }
}
