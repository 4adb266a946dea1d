//! What a row is of, and what a cell of it may be.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::quantity::{bytes, thousands};

/// What the rows are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    #[default]
    Shards,
    Networks,
    Hosts,
    Endpoints,
    Ports,
    Nodes,
}

impl Kind {
    /// All of them, in the order of their keys on the screen.
    pub(super) const ALL: [Self; 6] = [
        Self::Shards,
        Self::Networks,
        Self::Hosts,
        Self::Endpoints,
        Self::Ports,
        Self::Nodes,
    ];

    /// The key that shows it, and its name.
    pub(super) fn key(self) -> (char, &'static str) {
        match self {
            Self::Shards => ('s', "shards"),
            Self::Networks => ('v', "networks"),
            Self::Hosts => ('h', "hosts"),
            Self::Endpoints => ('r', "endpoints"),
            Self::Ports => ('p', "ports"),
            Self::Nodes => ('n', "nodes"),
        }
    }

    /// The field of the store by which its calls are grouped.
    pub(super) fn field(self) -> Option<&'static str> {
        match self {
            Self::Hosts => Some("host"),
            Self::Endpoints => Some("endpoint"),
            _ => None,
        }
    }

    /// The columns behind that of the node.
    pub(super) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Shards => &[
                "shard",
                "packets/s",
                "Mbit/s",
                "busy",
                "ring",
                "flows",
                "calls/s",
                "gap B/s",
                "dropped/s",
            ],
            Self::Networks => &[
                "vni",
                "packets/s",
                "calls/s",
                "failed",
                "p50",
                "p99",
                "half",
            ],
            Self::Hosts => &["host", "calls/s", "failed", "p50", "p99", "p99 size"],
            Self::Endpoints => &["endpoint", "calls/s", "failed", "p50", "p99", "p99 size"],
            Self::Ports => &["port", "protocol", "connections", "new/s"],
            Self::Nodes => &[
                "node", "calls/s", "Mbit/s", "complete", "dropped", "half", "memory", "warnings",
            ],
        }
    }
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(String),
    /// A number of things.
    Count(f64),
    /// A rate, for people in three digits.
    Number(f64),
    /// A part, 0 to 1.
    Part(f64),
    Seconds(f64),
    Bytes(f64),
    /// Not known, or not yet.
    Unknown,
}

impl Cell {
    /// As it is shown.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(count) => thousands(*count as u64),
            Self::Number(number) => rounded(*number),
            Self::Part(part) => percent(*part),
            Self::Seconds(seconds) if *seconds >= 1.0 => format!("{seconds:.2} s"),
            Self::Seconds(seconds) => format!("{:.1} ms", seconds * 1000.0),
            Self::Bytes(count) => bytes(*count as u64),
            Self::Unknown => "-".to_owned(),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Count(number)
            | Self::Number(number)
            | Self::Part(number)
            | Self::Seconds(number)
            | Self::Bytes(number) => Some(*number),
            Self::Text(_) | Self::Unknown => None,
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    pub(super) fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            other => other.number().map_or(Value::Null, |number| json!(number)),
        }
    }

    /// Numbers before texts, and texts that are numbers by their value.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let value = |cell: &Self| match cell {
            Self::Text(text) => text.parse().ok(),
            other => other.number(),
        };
        match (value(self), value(other)) {
            (Some(one), Some(two)) => one.total_cmp(&two),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => self.text().cmp(&other.text()),
        }
    }
}

/// A part as a percentage; one that is not quite all is not shown as all.
pub(super) fn percent(part: f64) -> String {
    let percent = part * 100.0;
    match percent {
        99.95..100.0 => format!("{:.2} %", (percent * 100.0).floor() / 100.0),
        _ => format!("{percent:.1} %"),
    }
}

/// A number in three digits, with a unit where it is large.
pub(super) fn rounded(number: f64) -> String {
    match number {
        ..0.05 => "0".to_owned(),
        0.05..100.0 => format!("{number:.1}"),
        100.0..10_000.0 => format!("{number:.0}"),
        10_000.0..10_000_000.0 => format!("{:.0} k", number / 1e3),
        _ => format!("{:.0} M", number / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_almost_all_is_not_all() {
        for (number, expected) in [
            (0.0, "0"),
            (0.04, "0"),
            (3.25, "3.2"),
            (412.4, "412"),
            (12_345.0, "12 k"),
            (3.4e7, "34 M"),
        ] {
            assert_eq!(rounded(number), expected);
        }
        assert_eq!(percent(1.0), "100.0 %");
        assert_eq!(percent(0.999_99), "99.99 %");
        assert_eq!(percent(0.999_7), "99.97 %");
        assert_eq!(percent(0.031), "3.1 %");
    }
}
