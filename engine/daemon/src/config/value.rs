//! One setting's text, read as a switch, a number, a size, a time, an address or a list.
//!
//! What cannot be read is an error that names the setting as it was written, shows the value and says what is expected.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::settings::{Value, Values};
use crate::diagnostic::{Code, Diagnostic};

/// As the reference loggers read it, and a few words more (contract section 3).
pub(super) fn switch(values: &Values, name: &str, default: bool) -> Result<bool, Diagnostic> {
    let Some(value) = values.get(&[name]) else {
        return Ok(default);
    };
    match value.text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "y" | "on" => Ok(true),
        "0" | "f" | "false" | "no" | "n" | "off" => Ok(false),
        _ => Err(bad_value(value, "true or false")),
    }
}

pub(super) fn number<T>(
    values: &Values,
    name: &str,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, Diagnostic>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let Some(value) = values.get(&[name]) else {
        return Ok(default);
    };
    let expected = || {
        bad_value(
            value,
            &format!("a number from {} to {}", range.start(), range.end()),
        )
    };
    value
        .text
        .trim()
        .parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(expected)
}

pub(super) fn bytes(values: &Values, name: &str, default: usize) -> Result<usize, Diagnostic> {
    let Some(value) = values.get(&[name]) else {
        return Ok(default);
    };
    parse_bytes(&value.text)
        .ok_or_else(|| bad_value(value, "a number of bytes, with K, M or G if you like"))
}

/// `64M`, `64 MiB`, `65536`: powers of 1024, since these are sizes of memory.
fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(1 << shift)
}

pub(super) fn duration(
    values: &Values,
    name: &str,
    default: Duration,
) -> Result<Duration, Diagnostic> {
    let Some(value) = values.get(&[name]) else {
        return Ok(default);
    };
    parse_duration(&value.text).ok_or_else(|| bad_value(value, "a time such as 500ms, 5s or 1m"))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

/// `:7701` listens on all addresses, `7701` too.
pub(super) fn address(
    values: &Values,
    name: &str,
    default: &str,
) -> Result<SocketAddr, Diagnostic> {
    let value = values.get(&[name]);
    let text = value.map_or(default, |value| value.text.trim());
    let completed = match text.strip_prefix(':').unwrap_or(text) {
        port if port.parse::<u16>().is_ok() => format!("[::]:{port}"),
        _ => text.replace("localhost:", "127.0.0.1:"),
    };
    completed.parse().map_err(|_| {
        Diagnostic::new(
            Code::E002,
            format!(
                "{}={text}: expected ADDRESS:PORT or :PORT",
                value.map_or(name, |value| value.name)
            ),
        )
    })
}

pub(super) fn list(text: &str) -> Vec<String> {
    text.split([',', ' ', '\n'])
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

pub(super) fn is_all(text: &str) -> bool {
    matches!(text.trim(), "all" | "any" | "*")
}

pub(super) fn shown(value: Option<&Value>, otherwise: &str) -> String {
    value
        .filter(|value| !is_all(&value.text))
        .map_or(otherwise.to_owned(), |value| value.text.trim().to_owned())
}

pub(super) fn shown_value(value: &Value) -> String {
    let between = if value.name.starts_with('-') {
        ' '
    } else {
        '='
    };
    format!("{}{between}{}", value.name, value.text)
}

pub(super) fn bad_list(
    value: &Value,
    reason: &impl std::fmt::Display,
    example: &str,
) -> Diagnostic {
    let hint = if value.text.contains([';', '|']) {
        "; separate with commas".to_owned()
    } else {
        String::new()
    };
    Diagnostic::new(
        Code::E002,
        format!("{}: {:?}: {reason}{hint}", value.name, value.text),
    )
    .fix(shown_value(&Value {
        text: example.to_owned(),
        ..value.clone()
    }))
}

pub(super) fn bad_value(value: &Value, expected: &str) -> Diagnostic {
    Diagnostic::new(
        Code::E002,
        format!("{}: expected {expected}", shown_value(value)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::values;

    #[test]
    fn sizes_times_and_addresses() {
        let sizes = [
            ("0", Some(0)),
            ("64", Some(64)),
            ("64k", Some(65536)),
            ("4 MiB", Some(4 << 20)),
            ("4x", None),
            ("", None),
        ];
        for (text, expected) in sizes {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("5"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("5 years"), None);
        let addresses = [
            (":7711", "[::]:7711"),
            ("7711", "[::]:7711"),
            ("localhost:7", "127.0.0.1:7"),
            ("[::1]:7", "[::1]:7"),
        ];
        for (text, expected) in addresses {
            let given = values(&[("SNIFFER_UI", text)]);
            let read = address(&given, "SNIFFER_UI", "").unwrap();
            assert_eq!(read.to_string(), expected);
        }
    }
}
