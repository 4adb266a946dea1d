//! `sniffer dashboard`: the dashboard for Grafana and the alert rules for Prometheus, which are in the program, so that they have
//! the metrics of its version.

use std::fs::OpenOptions;
use std::io::Write as _;

use crate::config::command_line::DashboardFlags;
use crate::diagnostic::{Code, Diagnostic, Exit, system_words};
use crate::stdout::print;

const DASHBOARD: &str = include_str!("../../../../deploy/grafana/sniffer.json");

const ALERTS: &str = include_str!("../../../../deploy/prometheus/sniffer.yml");

/// Prints one of them, or writes it to a new file.
///
/// # Errors
///
/// The file exists, or cannot be written.
pub fn command(flags: &DashboardFlags) -> Result<Exit, Diagnostic> {
    let text = if flags.alerts { ALERTS } else { DASHBOARD };
    let Some(path) = &flags.output else {
        print(text);
        return Ok(Exit::Done);
    };
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let what = format!("cannot write {}: {}", path.display(), system_words(&error));
        Diagnostic::new(Code::E121, what).fix("-o FILE    a file that does not exist yet")
    })?;
    Ok(Exit::Done)
}
