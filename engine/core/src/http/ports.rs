//! The set of ports that are wanted, and the table of the protocols that were recognised on each server port.
//!
//! The table is bounded by [`limits::PORTS_NAMED_MAX`](crate::limits::PORTS_NAMED_MAX); flows of further ports are in the
//! sums only.

use std::fmt;

use crate::http::protocol::Protocol;
use crate::limits;

/// A set of TCP ports; by default any port, by detection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet {
    /// Inclusive, sorted, apart from each other. Empty: any port.
    ranges: Vec<(u16, u16)>,
}

/// Why a port list cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortError {
    text: String,
    what: &'static str,
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\": {}", self.text, self.what)
    }
}

impl std::error::Error for PortError {}

impl PortSet {
    /// Reads `80,8000-8100`; blanks around commas and dashes do not matter. `""`, `all` and `any` mean any port.
    pub fn parse(text: &str) -> Result<Self, PortError> {
        let text = text.trim();
        if text.is_empty() || text.eq_ignore_ascii_case("all") || text.eq_ignore_ascii_case("any") {
            return Ok(Self::default());
        }
        let mut ranges = Vec::new();
        for item in text.split(',') {
            ranges.push(range(item.trim()).map_err(|what| PortError {
                text: text.to_owned(),
                what,
            })?);
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Ok(Self { ranges: merged })
    }

    /// Whether every port is wanted, so that HTTP has to be detected.
    pub fn is_any(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether `port` is wanted; every port is where none is named.
    pub fn contains(&self, port: u16) -> bool {
        self.is_any()
            || self
                .ranges
                .iter()
                .any(|&(first, last)| (first..=last).contains(&port))
    }

    /// The ranges, sorted, both ends included; empty for any port. For a kernel filter.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }
}

/// As a user would write it: `80,8000-8100`, or `all`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("all");
        }
        for (place, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

fn range(item: &str) -> Result<(u16, u16), &'static str> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let (first, last) = (port(first.trim())?, port(last.trim())?);
    if first > last {
        return Err("a range goes from the lower port to the higher, such as 8000-8100");
    }
    Ok((first, last))
}

fn port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() {
        return Err("a port is missing: write ports and ranges, such as 80,8000-8100");
    }
    if text.contains([';', ':', '/', '|']) || text.split_whitespace().count() > 1 {
        return Err("separate with commas, such as 80,8000-8100");
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a port number: write ports and ranges, such as 80,8000-8100");
    }
    match text.parse() {
        Ok(0) | Err(_) => Err("ports are from 1 to 65535"),
        Ok(port) => Ok(port),
    }
}

/// Flows of one server port, by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFlows {
    /// The server's port.
    pub port: u16,
    /// Flows in the order of [`Protocol::COLUMNS`].
    pub flows: [u64; Protocol::COLUMNS.len()],
}

impl PortFlows {
    /// The flows of each protocol that has a column.
    pub fn by_protocol(&self) -> impl Iterator<Item = (Protocol, u64)> + use<> {
        Protocol::COLUMNS.into_iter().zip(self.flows)
    }
}

/// The protocols of each server port, for the first ports seen.
#[derive(Clone, Debug, Default)]
pub struct PortTable {
    rows: Vec<PortFlows>,
}

impl PortTable {
    /// The rows, in the order in which their ports were first seen.
    pub fn rows(&self) -> &[PortFlows] {
        &self.rows
    }

    /// Adds another shard's table to this one.
    pub fn add(&mut self, other: &Self) {
        self.extend(other.rows.iter().copied());
    }

    pub(super) fn record(&mut self, port: u16, protocol: Protocol) {
        let column = Protocol::COLUMNS
            .iter()
            .position(|column| *column == protocol);
        if let Some(column) = column
            && let Some(row) = self.row(port)
            && let Some(flows) = row.flows.get_mut(column)
        {
            *flows += 1;
        }
    }

    /// The row of `port`, a new one if there is room.
    fn row(&mut self, port: u16) -> Option<&mut PortFlows> {
        let place = match self.rows.iter().position(|row| row.port == port) {
            Some(place) => place,
            None if self.rows.len() < limits::PORTS_NAMED_MAX => {
                self.rows.push(PortFlows {
                    port,
                    ..PortFlows::default()
                });
                self.rows.len() - 1
            }
            None => return None,
        };
        self.rows.get_mut(place)
    }
}

impl Extend<PortFlows> for PortTable {
    /// Adds rows of other tables.
    fn extend<I: IntoIterator<Item = PortFlows>>(&mut self, rows: I) {
        for theirs in rows {
            if let Some(row) = self.row(theirs.port) {
                for (flows, theirs) in row.flows.iter_mut().zip(theirs.flows) {
                    *flows += theirs;
                }
            }
        }
    }
}

/// Flows by server port, for the first [`PORTS_NAMED_MAX`](limits::PORTS_NAMED_MAX) ports seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    rows: Vec<(u16, u64)>,
}

impl PortCounts {
    /// Ports and their flows, in the order in which the ports were first seen.
    pub fn rows(&self) -> &[(u16, u64)] {
        &self.rows
    }

    /// Counts `flows` more flows of a port.
    pub fn add(&mut self, port: u16, flows: u64) {
        if let Some((_, count)) = self.rows.iter_mut().find(|(known, _)| *known == port) {
            *count += flows;
        } else if self.rows.len() < limits::PORTS_NAMED_MAX {
            self.rows.push((port, flows));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        match (PortSet::parse(text), expected) {
            (Ok(set), Ok(shown)) => assert_eq!(set.to_string(), shown),
            (Err(error), Err(shown)) => assert_eq!(error.to_string(), shown),
            (got, wanted) => panic!("{text:?} gave {got:?}, not {wanted:?}"),
        }
    }

    #[test]
    fn flows_are_counted_by_port_within_the_bound() {
        let mut counts = PortCounts::default();
        for port in 0..2 * limits::PORTS_NAMED_MAX as u16 {
            counts.add(port, 1);
        }
        counts.add(3, 5);
        assert_eq!(counts.rows().len(), limits::PORTS_NAMED_MAX);
        assert_eq!(counts.rows()[3], (3, 6));
    }

    #[test]
    fn lists_are_read_merged_and_refused_with_the_reason() {
        check("", Ok("all"));
        check(" all ", Ok("all"));
        check("80", Ok("80"));
        check("80, 8000 - 8100 ,443", Ok("80,443,8000-8100"));
        check("80,81,82-90,85-95,65535", Ok("80-95,65535"));
        check(
            "80;8000",
            Err("\"80;8000\": separate with commas, such as 80,8000-8100"),
        );
        check(
            "80 8000",
            Err("\"80 8000\": separate with commas, such as 80,8000-8100"),
        );
        check(
            "80,,81",
            Err("\"80,,81\": a port is missing: write ports and ranges, such as 80,8000-8100"),
        );
        check(
            "90-80",
            Err("\"90-80\": a range goes from the lower port to the higher, such as 8000-8100"),
        );
        check("0", Err("\"0\": ports are from 1 to 65535"));
        check("70000", Err("\"70000\": ports are from 1 to 65535"));
        check(
            "http",
            Err("\"http\": not a port number: write ports and ranges, such as 80,8000-8100"),
        );
        check(
            "-80",
            Err("\"-80\": a port is missing: write ports and ranges, such as 80,8000-8100"),
        );
    }

    #[test]
    fn membership() {
        let set = PortSet::parse("80,8000-8100").unwrap();
        let inside: Vec<u16> = [79, 80, 81, 7999, 8000, 8100, 8101]
            .into_iter()
            .filter(|&p| set.contains(p))
            .collect();
        assert_eq!(inside, [80, 8000, 8100]);
        assert!(PortSet::default().contains(1), "any port");
    }

    #[test]
    fn the_table_is_bounded_and_adds_up() {
        let mut table = PortTable::default();
        for port in 0..limits::PORTS_NAMED_MAX as u16 + 9 {
            table.record(port, Protocol::Tls);
            table.record(port, Protocol::Tls);
        }
        assert_eq!(table.rows().len(), limits::PORTS_NAMED_MAX);
        let mut sum = PortTable::default();
        sum.record(0, Protocol::Http1);
        sum.add(&table);
        let row = &sum.rows()[0];
        assert_eq!(row.port, 0);
        let flows = row.by_protocol().filter(|(_, flows)| *flows > 0);
        assert_eq!(
            flows.collect::<Vec<_>>(),
            [(Protocol::Http1, 1), (Protocol::Tls, 2)]
        );
    }
}
