//! The tables: by shard, network, host, endpoint, port and node, and how they are sorted and written.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::cell::{Cell, Kind};
use super::groups::Groups;
use super::node::Node;
use crate::diagnostic::printable;

/// Rows under the names of their columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// The table of some nodes; with several of them, the first column is their name.
    pub(super) fn new(kind: Kind, nodes: &[Node], groups: &Groups) -> Self {
        let mut columns = kind.columns().to_vec();
        let rows: Vec<Vec<Cell>> = match kind {
            Kind::Nodes => nodes.iter().map(of_node).collect(),
            Kind::Hosts | Kind::Endpoints => groups.rows(kind),
            Kind::Shards | Kind::Networks | Kind::Ports => {
                let has_many = nodes.len() > 1;
                if has_many {
                    columns.insert(0, "node");
                }
                let rows = nodes.iter().flat_map(|node| {
                    let rows = match kind {
                        Kind::Networks => networks(node),
                        Kind::Ports => ports(node),
                        _ => shards(node),
                    };
                    rows.into_iter().map(|mut row| {
                        if has_many {
                            row.insert(0, Cell::Text(node.name.clone()));
                        }
                        row
                    })
                });
                rows.collect()
            }
        };
        Self { columns, rows }
    }

    /// Sorts by a column, the largest first or last; rows that are equal in it keep their order.
    pub(super) fn sort(&mut self, column: usize, largest_first: bool) {
        self.rows.sort_by(|one, two| {
            let order = match (one.get(column), two.get(column)) {
                (Some(one), Some(two)) => one.order(two),
                _ => Ordering::Equal,
            };
            if largest_first {
                order.reverse()
            } else {
                order
            }
        });
    }

    /// Leaves the rows of which a cell has this text.
    pub(super) fn filter(&mut self, text: &str) {
        let wanted = text.to_lowercase();
        self.rows.retain(|row| {
            let mut cells = row.iter();
            cells.any(|cell| cell.text().to_lowercase().contains(&wanted))
        });
    }

    /// The lines of the table, names first; the column that it is sorted by has a mark.
    pub(super) fn lines(&self, sorted: Option<(usize, bool)>) -> Vec<String> {
        let heads = self.columns.iter().enumerate().map(|(column, name)| {
            let mark = match sorted {
                Some((sorted, true)) if sorted == column => "▼",
                Some((sorted, false)) if sorted == column => "▲",
                _ => "",
            };
            format!("{name}{mark}")
        });
        let mut lines = vec![heads.collect::<Vec<_>>()];
        let texts = |row: &Vec<Cell>| row.iter().map(|cell| printable(&cell.text())).collect();
        lines.extend(self.rows.iter().map(texts));
        let columns = 0..self.columns.len();
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = columns.clone().map(width).collect();
        let is_left: Vec<bool> = columns
            .map(|column| {
                let mut cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.next().is_none_or(Cell::is_text)
            })
            .collect();
        let line = |cells: &Vec<String>| {
            let cells = cells.iter().zip(&widths).zip(&is_left);
            let cells: Vec<String> = cells
                .map(|((cell, &width), is_left)| match is_left {
                    true => format!("{cell:<width$}"),
                    false => format!("{cell:>width$}"),
                })
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        lines.iter().map(line).collect()
    }

    /// The rows as objects, for programs.
    pub(super) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let members = self.columns.iter().zip(row);
            let members = members.map(|(name, cell)| (key(name), cell.json()));
            Value::Object(members.collect::<Map<_, _>>())
        });
        Value::Array(rows.collect())
    }
}

/// The name of a column as a key: `gap_bytes_per_second`.
fn key(column: &str) -> String {
    column
        .replace("Mbit/s", "mbit_per_second")
        .replace("gap B/s", "gap_bytes_per_second")
        .replace("/s", "_per_second")
        .replace(' ', "_")
}

const ALL: (&str, &str) = ("", "");

fn rate(rate: Option<f64>) -> Cell {
    rate.map_or(Cell::Unknown, Cell::Number)
}

fn part(of: Option<f64>, all: Option<f64>) -> Cell {
    match (of, all) {
        (Some(of), Some(all)) if all > 0.0 => Cell::Part(of / all),
        _ => Cell::Unknown,
    }
}

fn shards(node: &Node) -> Vec<Vec<Cell>> {
    let Some(now) = &node.now else {
        return Vec::new();
    };
    let shards = now.scrape.texts("sniffer_capture_packets_total", "shard");
    let row = |shard: String| {
        let of = ("shard", shard.as_str());
        let bits = node.rate("sniffer_capture_bytes_total", of);
        vec![
            Cell::Text(printable(&shard)),
            rate(node.rate("sniffer_capture_packets_total", of)),
            rate(bits.map(|bytes| bytes * 8.0 / 1e6)),
            Cell::Part(node.value("sniffer_shard_busy_ratio", of)),
            Cell::Part(node.value("sniffer_capture_ring_used_ratio", of)),
            Cell::Count(node.value("sniffer_tcp_flows", of)),
            rate(node.rate("sniffer_http_exchanges_finished_total", of)),
            rate(node.rate("sniffer_tcp_gap_bytes_total", of)),
            rate(node.rate("sniffer_capture_dropped_packets_total", of)),
        ]
    };
    shards.into_iter().map(row).collect()
}

fn networks(node: &Node) -> Vec<Vec<Cell>> {
    let Some(now) = &node.now else {
        return Vec::new();
    };
    let mut vnis = now.scrape.texts("sniffer_vni_packets_total", "vni");
    for vni in now.scrape.texts("sniffer_vni_calls_total", "vni") {
        if !vnis.contains(&vni) {
            vnis.push(vni);
        }
    }
    let row = |vni: String| {
        let of = ("vni", vni.as_str());
        let calls = node.rate("sniffer_vni_calls_total", of);
        let half = node.rate("sniffer_vni_half_calls_total", of);
        let buckets = node.buckets("sniffer_vni_call_duration_seconds_bucket", of);
        let time = |part: f64| match quantile(&buckets, part) {
            Some(seconds) => Cell::Seconds(seconds),
            None => Cell::Unknown,
        };
        let all = calls.zip(half).map(|(calls, half)| calls + half);
        vec![
            Cell::Text(printable(&vni)),
            rate(node.rate("sniffer_vni_packets_total", of)),
            rate(calls),
            part(node.rate("sniffer_vni_failed_calls_total", of), calls),
            time(0.5),
            time(0.99),
            part(half, all),
        ]
    };
    vnis.into_iter().map(row).collect()
}

/// The time below which this part of the calls is, of cumulative counts by their upper edges: between the edges of its bucket in
/// proportion to their logarithms, since an edge is twice the one before.
fn quantile(buckets: &[(f64, f64)], part: f64) -> Option<f64> {
    let all = buckets.last().filter(|(_, count)| *count > 0.0)?.1;
    let wanted = part * all;
    let at = buckets.iter().position(|(_, count)| *count >= wanted)?;
    let (edge, count) = buckets.get(at)?;
    let (low, below) = match at.checked_sub(1).and_then(|before| buckets.get(before)) {
        Some(before) => *before,
        None => (edge / 2.0, 0.0),
    };
    // The last bucket has no edge.
    if edge.is_infinite() {
        return Some(low);
    }
    let share = (wanted - below) / (count - below).max(f64::MIN_POSITIVE);
    Some(low * (edge / low).powf(share.clamp(0.0, 1.0)))
}

fn ports(node: &Node) -> Vec<Vec<Cell>> {
    const NAME: &str = "sniffer_port_connections_total";
    let Some(now) = &node.now else {
        return Vec::new();
    };
    let before = node.before.as_ref();
    let rows = now.scrape.pairs(NAME, "port", "protocol").into_iter();
    let row = |(port, protocol, count): (String, String, f64)| {
        let grown = before.map(|before| {
            let rows = before.scrape.pairs(NAME, "port", "protocol");
            let mut same = rows.iter().filter(|row| row.0 == port && row.1 == protocol);
            let had = same.next().map_or(0.0, |row| row.2);
            let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
            (count - had).max(0.0) / seconds.max(0.001)
        });
        vec![
            Cell::Text(printable(&port)),
            Cell::Text(printable(&protocol)),
            Cell::Count(count),
            rate(grown),
        ]
    };
    rows.map(row).collect()
}

fn of_node(node: &Node) -> Vec<Cell> {
    let name = Cell::Text(node.name.clone());
    if node.now.is_none() {
        let mut row = vec![name];
        row.resize(Kind::Nodes.columns().len() - 1, Cell::Unknown);
        let problem = node.problem.clone().unwrap_or_default();
        row.push(Cell::Text(problem));
        return row;
    }
    let codes: Vec<&str> = (node.warnings().iter())
        .map(|warning| warning.code.as_str())
        .collect();
    vec![
        name,
        rate(calls(node)),
        rate(megabits(node)),
        (node.gauge("sniffer_capture_complete_ratio")).map_or(Cell::Unknown, Cell::Part),
        Cell::Count(dropped(node)),
        half(node).map_or(Cell::Unknown, Cell::Part),
        (node.gauge("process_anonymous_memory_bytes")).map_or(Cell::Unknown, Cell::Bytes),
        Cell::Text(codes.join(" ")),
    ]
}

/// Calls a second.
pub(super) fn calls(node: &Node) -> Option<f64> {
    node.rate("sniffer_http_exchanges_finished_total", ALL)
}

/// Million bits a second.
pub(super) fn megabits(node: &Node) -> Option<f64> {
    let bytes = node.rate("sniffer_capture_bytes_total", ALL);
    bytes.map(|bytes| bytes * 8.0 / 1e6)
}

/// Calls and packets that were dropped here since the start.
pub(super) fn dropped(node: &Node) -> f64 {
    node.value("sniffer_calls_dropped_total", ALL)
        + node.value("sniffer_capture_dropped_packets_total", ALL)
}

/// The part of half calls, since the start.
pub(super) fn half(node: &Node) -> Option<f64> {
    let half = node.gauge("sniffer_half_calls_total")?;
    let all = half + node.gauge("sniffer_call_duration_seconds_count")?;
    (all > 0.0).then(|| half / all)
}

#[cfg(test)]
mod tests {
    use super::super::node::tests::node;
    use super::*;

    const BEFORE: &str = "sniffer_capture_packets_total{shard=\"0\"} 100\nsniffer_capture_packets_total{shard=\"1\"} 0\n\
        sniffer_vni_packets_total{vni=\"7\",wanted=\"yes\"} 0\nsniffer_vni_calls_total{vni=\"7\"} 0\n\
        sniffer_vni_half_calls_total{vni=\"7\"} 0\nsniffer_vni_failed_calls_total{vni=\"7\"} 0\n\
        sniffer_vni_call_duration_seconds_bucket{vni=\"7\",le=\"0.01\"} 5\n\
        sniffer_vni_call_duration_seconds_bucket{vni=\"7\",le=\"+Inf\"} 5\nsniffer_port_connections_total{port=\"80\",protocol=\"http\"} 4\n";
    const NOW: &str = "sniffer_capture_packets_total{shard=\"0\"} 300\nsniffer_capture_packets_total{shard=\"1\"} 24000\n\
        sniffer_shard_busy_ratio{shard=\"1\"} 0.215\nsniffer_vni_packets_total{vni=\"7\",wanted=\"yes\"} 60\n\
        sniffer_vni_calls_total{vni=\"7\"} 30\nsniffer_vni_half_calls_total{vni=\"7\"} 10\n\
        sniffer_vni_failed_calls_total{vni=\"7\"} 3\n\
        sniffer_vni_call_duration_seconds_bucket{vni=\"7\",le=\"0.01\"} 5\n\
        sniffer_vni_call_duration_seconds_bucket{vni=\"7\",le=\"0.02\"} 35\n\
        sniffer_vni_call_duration_seconds_bucket{vni=\"7\",le=\"+Inf\"} 35\n\
        sniffer_port_connections_total{port=\"80\",protocol=\"http\"} 10\nsniffer_port_connections_total{port=\"443\",protocol=\"tls\"} 2\n";

    #[test]
    fn shards_networks_and_ports_have_rates() {
        let nodes = [node("a", BEFORE, NOW, &[])];
        let groups = Groups::default();
        let mut table = Table::new(Kind::Shards, &nodes, &groups);
        table.sort(1, true);
        let lines = table.lines(Some((1, true)));
        assert_eq!(
            lines[..2],
            [
                "shard  packets/s▼  Mbit/s    busy   ring  flows  calls/s  gap B/s  dropped/s",
                "1            12 k       0  21.5 %  0.0 %      0        0        0          0",
            ]
        );
        let table = Table::new(Kind::Networks, &nodes, &groups);
        assert_eq!(
            table.lines(None)[1],
            "7         30.0     15.0  10.0 %  14.1 ms  19.9 ms  25.0 %"
        );
        let mut table = Table::new(Kind::Ports, &nodes, &groups);
        table.sort(0, false);
        assert_eq!(table.lines(None)[1], "80    http               10    3.0");
        table.filter("TLS");
        assert_eq!(table.rows.len(), 1);
        let json = table.json();
        assert_eq!(json[0]["port"], "443");
        assert_eq!(json[0]["new_per_second"], 1.0);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        #[track_caller]
        fn check(buckets: &[(f64, f64)], part: f64, expected: Option<f64>) {
            let found = quantile(buckets, part);
            let near = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < expected / 1000.0,
                (found, expected) => found == expected,
            };
            assert!(near, "{part} of {buckets:?}: {found:?}");
        }
        let buckets = [(1.0, 0.0), (2.0, 10.0), (4.0, 20.0), (f64::INFINITY, 20.0)];
        check(&buckets, 0.5, Some(2.0));
        check(&buckets, 0.25, Some(2.0_f64.sqrt()));
        check(&buckets, 1.0, Some(4.0));
        check(&[(1.0, 4.0), (f64::INFINITY, 4.0)], 1.0, Some(1.0));
        check(&[(1.0, 0.0), (f64::INFINITY, 4.0)], 0.5, Some(1.0));
        check(&[(1.0, 0.0), (f64::INFINITY, 0.0)], 0.5, None);
        check(&[], 0.5, None);
    }

    #[test]
    fn several_nodes_share_a_table() {
        let mut away = node("b", "", "", &[]);
        away.update(Err("refused".to_owned()));
        let nodes = [node("a", BEFORE, NOW, &["W070"]), away];
        let table = Table::new(Kind::Shards, &nodes, &Groups::default());
        assert_eq!((table.columns[0], table.rows.len()), ("node", 2));
        let table = Table::new(Kind::Nodes, &nodes, &Groups::default());
        let lines = table.lines(None);
        assert!(lines[1].ends_with("W070"), "{lines:?}");
        assert!(lines[2].starts_with("b") && lines[2].ends_with("refused"));
    }
}
