//! The name of this machine in calls, by which the appliances of a fleet are distinguished.

use store::limits::LEDGER_TEXT_BYTES_MAX;

use super::setting::Kind;
use super::value::Value;
use crate::diagnostic::Diagnostic;

/// A name that was given.
pub struct MachineName;

impl Kind for MachineName {
    type Checked = String;

    fn check(value: &Value) -> Result<String, Diagnostic> {
        let name = value.text.trim();
        let is_name = name.len() <= LEDGER_TEXT_BYTES_MAX && !name.chars().any(char::is_control);
        let expected =
            format!("a name of at most {LEDGER_TEXT_BYTES_MAX} bytes, without control characters");
        match is_name {
            true => Ok(name.to_owned()),
            false => Err(value.expected(&expected)),
        }
    }

    fn show(checked: &String) -> String {
        checked.clone()
    }
}

/// The name of the machine that logs: the one that was given, or as the reference loggers find it.
pub(super) fn machine_name(given: Option<&String>) -> String {
    let dyno = || std::env::var("DYNO").ok().filter(|name| !name.is_empty());
    let kernel = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        name.map(|name| name.trim().to_owned())
    };
    let found = given.cloned().or_else(dyno).or_else(kernel);
    found
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{URL, check_error, values};
    use crate::diagnostic::Code;

    #[test]
    fn a_name_that_is_given_is_that_of_the_machine() {
        let host = |name: &str| {
            let found = crate::config::capture(&values(&[URL, ("SNIFFER_NAME", name)]), false);
            found.unwrap().host
        };
        assert_eq!(host(" edge-7 (Zürich) "), "edge-7 (Zürich)");
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        if std::env::var_os("DYNO").is_none() {
            assert_eq!(host(""), kernel.trim());
        }
        check_error(
            &[URL, ("SNIFFER_NAME", "a\u{7}b")],
            Code::E002,
            "SNIFFER_NAME=a\u{7}b: expected a name of at most 255 bytes, without control characters",
        );
    }
}
