//! The warning that connections are captured twice, of a running capture and of files alike.

use crate::counters::Stages;
use crate::diagnostic::{Code, Diagnostic};
use crate::quantity::plural;
use crate::status::Copies;

/// Pairs of networks that the message names.
const NAMED: usize = 3;

/// Connections are read in two networks; copies that were removed are no trouble.
pub fn captured_twice(stages: &Stages, copies: &[Copies]) -> Option<Diagnostic> {
    let kept = stages.flow.flow_copies_kept;
    if kept == 0 {
        return None;
    }
    let named: Vec<String> = copies
        .iter()
        .take(NAMED)
        .map(|row| row.networks.join(" and "))
        .collect();
    let what = format!(
        "{} captured in two networks, and read in both: {}{}",
        plural(kept, "connection"),
        named.join(", "),
        if copies.len() > NAMED { ", ..." } else { "" },
    );
    Some(Diagnostic::new(Code::W072, what).fix("--fold-copies    reads each once"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_that_are_read_twice_are_a_warning() {
        let row = |one: &str, other: &str| Copies {
            networks: [one.into(), other.into()],
            connections: 2,
        };
        let check = |kept: u64, rows: &[Copies], expected: Option<&str>| {
            let mut stages = Stages::default();
            (stages.flow.flow_copies, stages.flow.flow_copies_folded) = (9, 9);
            stages.flow.flow_copies_kept = kept;
            let what = captured_twice(&stages, rows).map(|problem| problem.what);
            assert_eq!(what.as_deref(), expected);
        };
        check(0, &[], None);
        check(
            1,
            &[row("plain", "vxlan 7")],
            Some("1 connection captured in two networks, and read in both: plain and vxlan 7"),
        );
        let many: Vec<Copies> = (0..4)
            .map(|vni| row("plain", &format!("vxlan {vni}")))
            .collect();
        check(
            8,
            &many,
            Some(
                "8 connections captured in two networks, and read in both: plain and vxlan 0, plain and vxlan 1, plain \
                 and vxlan 2, ...",
            ),
        );
    }
}
