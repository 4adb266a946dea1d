//! The calls of the last minute by host and by endpoint. They are those of a store, after the rules: a capture itself keeps no
//! names of hosts and no paths.

use std::collections::HashMap;

use serde_json::Value;

use super::cell::{Cell, Kind};
use crate::store_client::link::Link;
use crate::store_client::plain;

/// The time that is looked at.
const SECONDS: f64 = 60.0;

/// The same as the store reads it.
const FROM: &str = "-1min";

/// Rows of a table: what a screen has, many times.
const ROWS: &str = "100";

/// Groups of calls by the field that they are of, or why there are none.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    of: HashMap<Kind, Result<Vec<Vec<Cell>>, String>>,
}

impl Groups {
    /// Takes an answer.
    pub(super) fn update(&mut self, kind: Kind, read: Result<Value, String>) {
        self.of.insert(kind, read.map(|stats| rows(&stats)));
    }

    /// The rows of a kind.
    pub(super) fn rows(&self, kind: Kind) -> Vec<Vec<Cell>> {
        match self.of.get(&kind) {
            Some(Ok(rows)) => rows.clone(),
            Some(Err(_)) | None => Vec::new(),
        }
    }

    /// Why there are none.
    pub(super) fn problem(&self, kind: Kind) -> Option<&str> {
        let found = self.of.get(&kind)?;
        found.as_ref().err().map(String::as_str)
    }
}

/// The statistics of a store for a kind of group.
pub(super) fn read(link: &Link, field: &str) -> Result<Value, String> {
    let query = [("from", FROM), ("by", field), ("limit", ROWS)];
    link.get("stats", &query).map_err(|problem| problem.what)
}

fn rows(stats: &Value) -> Vec<Vec<Cell>> {
    let groups = stats["groups"].as_array().into_iter().flatten();
    let row = |group: &Value| {
        let calls = group["calls"].as_f64().unwrap_or(0.0);
        let failed = group["classes"][5].as_f64().unwrap_or(0.0);
        let seconds = |name: &str| {
            let millis = group["took"][name].as_f64();
            millis.map_or(Cell::Unknown, |millis| Cell::Seconds(millis / 1000.0))
        };
        let size = group["response_size"]["p99"].as_f64();
        vec![
            Cell::Text(plain(group["value"].as_str().unwrap_or_default())),
            Cell::Number(calls / SECONDS),
            Cell::Part(failed / calls.max(1.0)),
            seconds("p50"),
            seconds("p99"),
            size.map_or(Cell::Unknown, Cell::Bytes),
        ]
    };
    groups.map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_is_a_row_and_has_no_escapes() {
        let mut groups = Groups::default();
        let group = json!({
            "value": "api.shop\u{1b}[31m", "calls": 120, "classes": [0, 0, 90, 0, 0, 30],
            "took": {"p50": 12.0, "p99": null}, "response_size": {"p99": 2048.0},
        });
        groups.update(Kind::Hosts, Ok(json!({ "groups": [group] })));
        groups.update(Kind::Endpoints, Err("no store".to_owned()));
        let rows = groups.rows(Kind::Hosts);
        let texts: Vec<String> = rows[0].iter().map(Cell::text).collect();
        assert_eq!(
            texts,
            ["api.shop [31m", "2.0", "25.0 %", "12.0 ms", "-", "2.0 kB"]
        );
        assert_eq!(groups.problem(Kind::Hosts), None);
        assert_eq!(groups.problem(Kind::Endpoints), Some("no store"));
        assert!(groups.rows(Kind::Endpoints).is_empty());
    }
}
