//! One setting as `sniffer help NAME` explains it, and the phrases of which the documents consist.

use super::setting::{COMMANDS, Described, Row};
use super::settings::ALL;
use super::wrap::wrapped;

/// Columns of an explanation.
const COLUMNS: usize = 100;

/// The setting that has this name in the environment.
pub fn find(name: &str) -> Option<&'static dyn Described> {
    let is_its_name = |row: &Row| row.names().any(|known| known.eq_ignore_ascii_case(name));
    ALL.iter()
        .copied()
        .find(|setting| is_its_name(setting.row()))
}

/// Names, commands, default and the whole explanation.
pub fn text(setting: &dyn Described) -> String {
    let row = setting.row();
    let names: Vec<&str> = row.names().collect();
    let mut text = format!(
        "{}, {}\n\n  of:       {}\n  default:  {}\n",
        names.join(", "),
        flag(row),
        commands(row),
        default(setting)
    );
    for paragraph in std::iter::once(row.summary()).chain(row.details()) {
        text.push('\n');
        text.push_str(&wrapped(&paragraph, COLUMNS));
        text.push('\n');
    }
    text
}

/// `-p, --ports PORTS`.
pub(super) fn flag(row: &Row) -> String {
    let short = row
        .short
        .map_or(String::new(), |letter| format!("-{letter}, "));
    let text = format!("{short}{} {}", row.long_flag(), row.metavar);
    text.trim_end().to_owned()
}

/// `run, read, check`.
pub(super) fn commands(row: &Row) -> String {
    let taking = COMMANDS
        .iter()
        .filter(|(command, _)| row.commands & command != 0);
    let names: Vec<&str> = taking.map(|(_, name)| *name).collect();
    names.join(", ")
}

/// The default, and the one of the embedded store where that is another.
pub fn default(setting: &dyn Described) -> String {
    match setting.row().embedded_default {
        "" => setting.default_text(),
        embedded => format!("{}; embedded store: {embedded}", setting.default_text()),
    }
}
