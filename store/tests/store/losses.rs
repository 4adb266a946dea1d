//! What a backend keeps of the ledgers of two runs of a sniffer, and of the calls that it has lost.

use std::collections::BTreeMap;

use store::backend::Backend;
use store::call::{LossesBy, LossesQuery, Range};
use store::ledger::Ledger;

/// The runs `1` and `2` of `node` have lost 9 and 2 calls in a full queue, and 2 that were refused.
pub(crate) async fn check(backend: &impl Backend, now_ms: i64) {
    let mut runs: Vec<_> = backend.ledgers().await.expect("ledgers");
    runs.sort_by(|a, b| a.ledger.run.cmp(&b.ledger.run));
    let shown = runs.iter().map(|posted| {
        assert_eq!(posted.sender, "capture");
        assert!((now_ms - 60_000..=now_ms).contains(&posted.updated_ms));
        let Ledger { calls, capture, .. } = &posted.ledger;
        (calls.seen, calls.dropped["queue_full"], capture.packets)
    });
    assert_eq!(shown.collect::<Vec<_>>(), [(109, 9, 90), (102, 2, 20)]);
    let range = Range {
        from_ms: Some(now_ms - 3_600_000),
        to_ms: None,
    };
    for (by, expected) in [
        (LossesBy::Cause, vec![("queue_full", 11), ("refused", 2)]),
        (LossesBy::Appliance, vec![("node", 13)]),
        (LossesBy::Vni, vec![("", 13)]),
    ] {
        let query = LossesQuery {
            range,
            step_ms: 86_400_000,
            by,
        };
        let mut sums = BTreeMap::<String, u64>::new();
        for row in backend.losses(query).await.expect("losses") {
            assert_eq!(row.time_ms % query.step_ms, 0);
            assert!((now_ms - 2 * query.step_ms..=now_ms).contains(&row.time_ms));
            *sums.entry(row.value).or_default() += row.calls;
        }
        let expected = expected.into_iter();
        let expected = expected.map(|(value, calls)| (value.to_owned(), calls));
        assert_eq!(sums, expected.collect());
    }
    let before = LossesQuery {
        range: Range {
            from_ms: None,
            to_ms: Some(now_ms - 3_600_000),
        },
        step_ms: 60_000,
        by: LossesBy::Cause,
    };
    assert_eq!(backend.losses(before).await, Ok(Vec::new()));
}
