//! The lines of the screen, without its colours; the same lines are the output where there is no terminal.

use super::cell::{Cell, Kind, percent, rounded};
use super::groups::Groups;
use super::node::{Node, Warning};
use super::table::{self, Table};
use super::view::View;
use crate::diagnostic::Code;
use crate::quantity::{bytes, clock, thousands};

/// Nodes with a line of their own above the table; of more, the table of nodes shows each.
const HEADS_MAX: usize = 4;

/// The lines above the table: one for each node, or one for all.
pub(super) fn head(nodes: &[Node]) -> Vec<String> {
    if nodes.len() <= HEADS_MAX {
        return nodes.iter().map(of_node).collect();
    }
    let answering = nodes.iter().filter(|node| node.now.is_some()).count();
    let calls: f64 = nodes.iter().filter_map(table::calls).sum();
    let megabits: f64 = nodes.iter().filter_map(table::megabits).sum();
    vec![format!(
        "{answering} of {} nodes answer   calls {}/s   in {} Mbit/s   dropped {}",
        nodes.len(),
        rounded(calls),
        rounded(megabits),
        thousands(nodes.iter().map(table::dropped).sum::<f64>() as u64)
    )]
}

fn of_node(node: &Node) -> String {
    let Some(now) = &node.now else {
        let problem = node.problem.as_deref().unwrap_or("...");
        return format!("{}   {problem}", node.name);
    };
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), rounded);
    let part = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), percent);
    let mut words = vec![node.name.clone()];
    if !now.reads.is_empty() {
        words.push(now.reads.clone());
    }
    if node.gauge("sniffer_capture_on") == Some(0.0) {
        words.push("not capturing".to_owned());
    }
    if let Some(seconds) = node.uptime() {
        words.push(format!("up {}", clock(seconds)));
    }
    words.push(format!("calls {}/s", shown(table::calls(node))));
    words.push(format!("in {} Mbit/s", shown(table::megabits(node))));
    let complete = node.gauge("sniffer_capture_complete_ratio");
    words.push(format!("complete {}", part(complete)));
    let dropped = thousands(table::dropped(node) as u64);
    words.push(format!("dropped {dropped}"));
    words.push(format!("half {}", part(table::half(node))));
    if let (Some(used), Some(limit)) = (
        node.gauge("process_anonymous_memory_bytes"),
        node.gauge("sniffer_memory_limit_bytes"),
    ) {
        words.push(format!(
            "memory {}, limit {}",
            bytes(used as u64),
            bytes(limit as u64)
        ));
    }
    words.join("   ")
}

/// One line: where calls go, and the codes of the warnings.
pub(super) fn output(nodes: &[Node]) -> String {
    let mut words = Vec::new();
    let sum = |name: &str| -> f64 { nodes.iter().filter_map(|node| node.gauge(name)).sum() };
    let down = (nodes.iter())
        .filter(|node| node.gauge("sniffer_output_up") == Some(0.0))
        .count();
    let oldest = nodes
        .iter()
        .filter_map(|node| node.gauge("sniffer_output_oldest_seconds"));
    let oldest = oldest.fold(0.0, f64::max);
    let is_known = nodes
        .iter()
        .any(|node| node.gauge("sniffer_output_up").is_some());
    if is_known {
        words.push(match (down, nodes.len()) {
            (0, _) => "output up".to_owned(),
            (_, 1) => "output DOWN".to_owned(),
            (down, _) => format!("output DOWN on {down}"),
        });
        words.push(format!(
            "{} calls queued, {}, {oldest:.1} s old",
            thousands(sum("sniffer_output_queue_calls") as u64),
            bytes(sum("sniffer_output_queue_bytes") as u64)
        ));
    }
    let unaccounted = sum("sniffer_calls_unaccounted") + sum("sniffer_unaccounted");
    if nodes.iter().any(|node| node.now.is_some()) {
        words.push(match unaccounted == 0.0 {
            true => "ledger balanced".to_owned(),
            false => format!("UNACCOUNTED {unaccounted}"),
        });
    }
    let mut codes: Vec<&str> = (nodes.iter().flat_map(Node::warnings))
        .map(|warning| warning.code.as_str())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    words.push(match codes.is_empty() {
        true => "no warnings".to_owned(),
        false => format!("warnings {}", codes.join(" ")),
    });
    words.join("   ")
}

/// The table of a view.
pub(super) fn table(view: &View, nodes: &[Node], groups: &Groups) -> Table {
    let mut table = Table::new(view.kind, nodes, groups);
    if !view.filter.is_empty() {
        table.filter(&view.filter);
    }
    table.sort(view.column, view.is_largest_first());
    table
}

/// What a table without rows means.
pub(super) fn nothing(view: &View, groups: &Groups) -> String {
    if let Some(problem) = groups.problem(view.kind) {
        return format!(
            "{problem}\n{} are those of the calls in a store, after the rules: --page LINK names one",
            view.kind.key().1
        );
    }
    if !view.filter.is_empty() {
        return "no row has this text".to_owned();
    }
    match view.kind {
        Kind::Networks => "no frame came in a tunnel with a VNI".to_owned(),
        Kind::Hosts | Kind::Endpoints => "no call within the last minute".to_owned(),
        _ => "nothing yet".to_owned(),
    }
}

/// The warnings of all nodes, each with the node's name where there are several.
pub(super) fn warnings(nodes: &[Node]) -> Vec<(String, Warning)> {
    let of = |node: &Node| {
        let name = if nodes.len() > 1 {
            node.name.clone()
        } else {
            String::new()
        };
        let warnings = node.warnings().iter().cloned();
        warnings
            .map(|warning| (name.clone(), warning))
            .collect::<Vec<_>>()
    };
    nodes.iter().flat_map(of).collect()
}

/// The explanation of a warning, as `sniffer help CODE` prints it, below what the node reports.
pub(super) fn explanation(nodes: &[Node], number: usize) -> Vec<String> {
    let all = warnings(nodes);
    let Some((name, warning)) = all.get(number) else {
        return vec!["no warnings".to_owned()];
    };
    let mut lines = vec![format!("warning {} of {}", number + 1, all.len())];
    let code = Code::find(&warning.code);
    let title = code.map_or("a later version explains it", Code::title);
    let place = if name.is_empty() {
        String::new()
    } else {
        format!("{name}: ")
    };
    lines.push(format!("{place}{}: {title}", warning.code));
    if !warning.text.is_empty() {
        lines.push(String::new());
        lines.extend(warning.text.lines().map(str::to_owned));
    }
    lines.push(String::new());
    let explanation = code.map_or("", Code::explanation);
    lines.extend(explanation.lines().map(str::to_owned));
    lines
}

/// The line of keys.
pub(super) fn keys(view: &View, nodes: usize) -> String {
    if view.is_typing {
        return format!("/{}_   enter keeps it, escape ends it", view.filter);
    }
    if view.explained.is_some() {
        return "[e] next   [esc] back   [q] quit".to_owned();
    }
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Nodes || nodes > 1);
    let kinds: Vec<String> = kinds
        .map(|kind| {
            let (key, name) = kind.key();
            let mark = if kind == view.kind { "*" } else { "" };
            format!("[{key}]{mark}{name}")
        })
        .collect();
    let filter = match view.filter.is_empty() {
        true => "[/] filter".to_owned(),
        false => format!("[/] filter: {}", view.filter),
    };
    let pause = if view.is_paused {
        "[space] PAUSED"
    } else {
        "[space] pause"
    };
    format!(
        "{}   {filter}   {pause}   [←→] sort   [i] reverse   [e] explain   [q] quit",
        kinds.join(" ")
    )
}

/// Everything in plain text: the lines above, and each table that has rows.
pub(super) fn plain(nodes: &[Node], groups: &Groups) -> String {
    let mut lines = head(nodes);
    lines.push(output(nodes));
    for kind in Kind::ALL {
        let mut view = View::default();
        view.show(kind);
        let table = table(&view, nodes, groups);
        let is_shown = kind != Kind::Nodes || nodes.len() > 1;
        if is_shown && !table.rows.is_empty() {
            lines.push(String::new());
            lines.extend(table.lines(None));
        }
    }
    for (name, warning) in warnings(nodes) {
        lines.push(String::new());
        let place = if name.is_empty() {
            String::new()
        } else {
            format!("{name}: ")
        };
        let title = Code::find(&warning.code).map_or("", Code::title);
        let text = if warning.text.is_empty() {
            title
        } else {
            &warning.text
        };
        lines.push(format!("{place}warning[{}]: {text}", warning.code));
    }
    lines.join("\n") + "\n"
}

/// The same for programs.
pub(super) fn json(nodes: &[Node], groups: &Groups) -> serde_json::Value {
    let mut tables = serde_json::Map::new();
    tables.insert("schema".into(), 1.into());
    for kind in Kind::ALL {
        let table = Table::new(kind, nodes, groups);
        tables.insert(kind.key().1.to_owned(), table.json());
    }
    let problems = nodes.iter().filter_map(|node| {
        let problem = node.problem.as_ref()?;
        Some(serde_json::json!({"node": node.name, "problem": problem}))
    });
    tables.insert("unreachable".into(), problems.collect());
    serde_json::Value::Object(tables)
}

/// Whether a cell is one that needs attention: marked on the screen.
pub(super) fn is_alarming(column: &str, cell: &Cell) -> bool {
    match (column, cell) {
        ("dropped/s" | "gap B/s", Cell::Number(number)) => *number >= 0.05,
        ("busy", Cell::Part(part)) => *part >= 0.9,
        ("ring", Cell::Part(part)) => *part >= 0.5,
        ("failed" | "half", Cell::Part(part)) => *part >= 0.05,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::tests::node;
    use super::*;

    const BEFORE: &str = "sniffer_http_exchanges_finished_total{shard=\"0\"} 0\nsniffer_capture_bytes_total{shard=\"0\"} 0\n";
    const NOW: &str = "sniffer_http_exchanges_finished_total{shard=\"0\"} 824\nsniffer_capture_bytes_total{shard=\"0\"} 24000000\n\
        sniffer_capture_packets_total{shard=\"0\"} 5\nsniffer_capture_complete_ratio 0.9997\nsniffer_output_up 0\n\
        sniffer_half_calls_total{reason=\"gap\"} 1\nsniffer_call_duration_seconds_count 999\n\
        process_anonymous_memory_bytes 61000000\nsniffer_memory_limit_bytes 512000000\nsniffer_output_oldest_seconds 2.5\n";

    #[test]
    fn a_node_is_a_line_and_the_output_another() {
        let nodes = [node("this host", BEFORE, NOW, &["W070"])];
        let lines = head(&nodes);
        assert_eq!(
            lines,
            [
                "this host   calls 412/s   in 96.0 Mbit/s   complete 99.97 %   dropped 0   half 0.1 %   \
              memory 61 MB, limit 512 MB"
            ]
        );
        let line = output(&nodes);
        assert_eq!(
            line,
            "output DOWN   0 calls queued, 0 B, 2.5 s old   ledger balanced   warnings W070"
        );
        let many = vec![nodes[0].clone(); HEADS_MAX + 1];
        assert_eq!(head(&many).len(), 1);
        assert!(head(&many)[0].starts_with("5 of 5 nodes answer   calls 2060/s"));
        assert!(output(&many).starts_with("output DOWN on 5"));
    }

    #[test]
    fn plain_text_has_each_table_with_rows_and_each_warning() {
        let nodes = [node("this host", BEFORE, NOW, &["W070"])];
        let text = plain(&nodes, &Groups::default());
        assert!(text.contains("\nshard  packets/s"), "{text}");
        assert!(
            !text.contains("vni  ") && !text.contains("endpoint"),
            "{text}"
        );
        assert!(text.contains("warning[W070]: a ring was full"), "{text}");
        let value = json(&nodes, &Groups::default());
        assert_eq!(value["shards"][0]["shard"], "0");
        assert_eq!(value["nodes"][0]["calls_per_second"], 412.0);
    }

    #[test]
    fn a_warning_is_explained() {
        let mut nodes = [node("a", "", "", &["W070", "W999"]), node("b", "", "", &[])];
        let lines = explanation(&nodes, 0);
        assert_eq!(lines[0], "warning 1 of 2");
        assert_eq!(lines[1], format!("a: W070: {}", Code::W070.title()));
        let text = lines.join("\n");
        assert!(text.ends_with(Code::W070.explanation()), "{text}");
        assert!(explanation(&nodes, 1)[1].contains("later version"));
        assert_eq!(explanation(&nodes, 2), ["no warnings"]);
        nodes[1].update(Err("refused".to_owned()));
        assert_eq!(head(&nodes)[1], "b   refused");
    }
}
