//! What backends count: statistics, the most frequent values, what was deleted, and what is missing.

use std::collections::HashSet;

use store::backend::{Backend, Retention};
use store::call::{DeleteQuery, Query, Range, StatsQuery, TopQuery};
use store::fields::Field;
use store::filter::Filter;
use store::ledger::{Calls, Capture, Ledger};
use store::sender::Sender;

use super::fixture::{Fixture, HOSTILE, first, list, now_ms, paths, store, timed};
use crate::losses;

/// Calls with all that a comparison may look at, some of it missing.
fn varied() -> Vec<String> {
    (0..97)
        .map(|number| {
            let status = (200 + (number % 5) * 101).to_string();
            let took = (number * 7 % 50 + 1).to_string();
            let vni = (number % 3).to_string();
            let body = format!(
                "{{\"a\":\"word{number} {}\"}}",
                HOSTILE[number % HOSTILE.len()]
            );
            let mut details = vec![("response_body", body.as_str()), ("host", "node")];
            if number % 4 > 0 {
                details.push(("response_code", status.as_str()));
                details.push(("interval", took.as_str()));
            }
            if number % 2 > 0 {
                details.push(("custom_field:vni", vni.as_str()));
                details.push(("custom_field:tries", took.as_str()));
                details.push(("request_header:x-id", vni.as_str()));
            }
            timed(number, 60, &details)
        })
        .collect()
}

pub(super) async fn comparisons_match_what_the_tree_matches<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let lines = varied();
    for part in lines.chunks(13) {
        store(backend, part.concat()).await;
    }
    for text in [
        "status >= 400",
        "status == 200 or vni == 2",
        "not status == 200",
        "status != 200",
        "status in (200, 301)",
        "took > 25 and took < 40",
        "took > 25ms and method == POST",
        "vni == 1 and fact.tries > 20",
        "fact.tries == 8",
        "not fact.tries > 8",
        "fact.absent == 1",
        "request_header:x-id == 2",
        "not request_header:x-id == 2 and status < 400",
        "path ~ \"^/1\"",
        "path !~ \"7\"",
        "url ~ \"SHOP\"",
        "host == shop.example",
        "host == \"' OR 1=1 --\"",
        "appliance == node and word7",
        "word7 or word11",
        "not word7",
        "status == 503 and word",
        "endpoint == \"/*\"",
        "response_bytes > 40",
    ] {
        let filter = Filter::parse(text).expect(text);
        let expected: HashSet<_> = (0..lines.len())
            .filter(|&number| filter.matches(lines[number].trim_end()))
            .collect();
        let query = Query {
            filter,
            ..first(1000)
        };
        let page = list(backend, query.clone()).await;
        assert_eq!(
            paths(&page.calls).into_iter().collect::<HashSet<_>>(),
            expected,
            "{text}"
        );
        let stats = backend
            .stats(all_of(query.filter, None))
            .await
            .expect("answers");
        assert_eq!(stats.total.calls, expected.len() as u64, "{text}");
    }
}

fn all_of(filter: Filter, by: Option<Field>) -> StatsQuery {
    StatsQuery {
        filter,
        range: Range {
            from_ms: Some(now_ms() - 7_200_000),
            to_ms: Some(now_ms() + 60_000),
        },
        step_ms: 60_000,
        by,
        groups_max: 10,
    }
}

pub(super) async fn statistics_count_what_the_list_has<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let lines = varied();
    store(backend, lines[..50].concat()).await;
    // A late call is counted at its time.
    store(
        backend,
        timed(98, 3600, &[("response_code", "599"), ("interval", "1000")]),
    )
    .await;
    store(backend, lines[50..].concat()).await;
    let stats = backend
        .stats(all_of(Filter::default(), Some(Field::Method)))
        .await;
    let stats = stats.expect("answers");
    assert_eq!(stats.total.calls, 98);
    assert_eq!(stats.total.classes.iter().sum::<u64>(), 98);
    let of_series: u64 = stats.series.iter().flat_map(|point| point.classes).sum();
    assert_eq!(of_series, 98);
    let late = (3_600_000 + stats.step_ms) / stats.step_ms;
    assert!(stats.series.len() as i64 >= late, "{}", stats.series.len());
    let groups: Vec<_> = stats
        .groups
        .iter()
        .map(|group| group.value.as_str())
        .collect();
    assert_eq!(groups, ["GET", "POST"]);
    let sizes = stats
        .groups
        .iter()
        .map(|group| group.measures.sizes.count());
    assert_eq!(sizes.sum::<u64>(), stats.total.sizes.count());
    assert_eq!(
        stats
            .groups
            .iter()
            .map(|group| group.measures.calls)
            .sum::<u64>(),
        98
    );
    let slowest = stats.total.took.quantile(1.0).expect("calls");
    assert!(
        (slowest / 1000.0 - 1.0).abs() < store::histogram::ERROR,
        "{slowest}"
    );
    assert_eq!((stats.coverage.kept, stats.coverage.seen), (98, 98));
    assert_eq!(stats.coverage.partial, None);
    let mut few = all_of(Filter::default(), Some(Field::Path));
    few.groups_max = 3;
    let stats = backend.stats(few).await.expect("answers");
    assert_eq!((stats.groups.len(), stats.other.calls), (3, 95));
}

pub(super) async fn top_values_are_those_of_the_calls<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    store(backend, varied().concat()).await;
    let query = |field| TopQuery {
        filter: Filter::default(),
        range: Range::default(),
        field,
        limit: 2,
    };
    let top = backend.top(query(Field::Method)).await.expect("answers");
    assert_eq!(
        top.values,
        [("GET".to_owned(), 64), ("POST".to_owned(), 33)]
    );
    let top = backend.top(query(Field::Status)).await.expect("answers");
    let counted: u64 = top.values.iter().map(|(_, calls)| calls).sum();
    assert_eq!((top.values.len(), counted + top.other), (2, 97));
}

pub(super) async fn what_is_deleted_is_gone_and_counted<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let lines = varied();
    store(backend, lines.concat()).await;
    for (text, left) in [
        ("word7 or word77", 86),
        ("method == POST", 56),
        ("nothing-like-it", 56),
    ] {
        let filter = Filter::parse(text).expect("a filter");
        let mut query = DeleteQuery {
            filter: filter.clone(),
            range: Range::default(),
            after: None,
        };
        let before = list(backend, first(1000)).await.calls.len() as u64;
        let mut deleted = 0;
        loop {
            let round = backend.delete(query.clone()).await.expect("deletes");
            deleted += round.calls;
            let Some(next) = round.next else { break };
            query.after = Some(next);
        }
        let page = list(backend, first(1000)).await;
        assert_eq!(page.calls.len() as u64, before - deleted, "{text}");
        assert_eq!(page.calls.len(), left, "{text}");
        let matching = list(
            backend,
            Query {
                filter,
                ..first(10)
            },
        )
        .await;
        assert_eq!(matching.calls, [], "{text}");
        for call in page.calls {
            let call = backend
                .call(call.id)
                .await
                .expect("answers")
                .expect("is there");
            assert!(!call.line.contains("word77"));
        }
    }
    let totals = backend.totals().await.expect("totals");
    assert_eq!(
        (
            totals.calls,
            totals.calls_received,
            totals.calls_deleted,
            totals.calls_expired
        ),
        (56, 97, 41, 0)
    );
}

pub(super) async fn the_coverage_has_what_is_missing<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    store(
        backend,
        timed(1, 30, &[("custom_field:response_body_bytes", "9999")]),
    )
    .await;
    store(backend, timed(2, 30, &[])).await;
    // Sums since the start of a sniffer: one that is posted again, or late, counts once.
    for (run, refused, queue_full) in [
        ("1", 0, 5),
        ("1", 2, 9),
        ("1", 2, 9),
        ("1", 0, 5),
        ("2", 0, 2),
    ] {
        let dropped = [("refused", refused), ("queue_full", queue_full)];
        let ledger = Ledger {
            appliance: "node".into(),
            run: run.into(),
            calls: Calls {
                seen: 100 + queue_full,
                dropped: dropped.map(|(cause, calls)| (cause.into(), calls)).into(),
                ..Calls::default()
            },
            capture: Capture {
                packets: 10 * queue_full,
                ..Capture::default()
            },
        };
        let recorded = backend.record_ledger(Sender::Capture, ledger).await;
        assert_eq!(recorded, Ok(()));
    }
    losses::check(backend, now_ms()).await;
    let range = Range {
        from_ms: Some(now_ms() - 3_600_000),
        to_ms: None,
    };
    let query = Query { range, ..first(10) };
    let coverage = list(backend, query).await.coverage;
    assert_eq!((coverage.kept, coverage.seen, coverage.masked), (2, 15, 1));
    assert_eq!(coverage.lost.get("queue_full"), Some(&11));
    assert_eq!(coverage.lost.get("refused"), Some(&2));
    assert_eq!((coverage.partial, coverage.progress), (None, 1.0));
    let held = coverage.held_from_ms.expect("calls");
    assert!((now_ms() - 60_000..=now_ms()).contains(&held));
}

pub(super) async fn counts_outlive_calls_that_expire<F: Fixture>() {
    let fixture = F::start(Retention {
        calls_max: 10,
        ..Retention::default()
    });
    let backend = fixture.backend();
    for number in 0..30 {
        let status = [("response_code", if number % 2 == 0 { "200" } else { "404" })];
        store(backend, timed(number, 600, &status)).await;
    }
    while backend.expire().await.expect("expires").is_more {}
    let filter = Filter::parse("status == 404").expect("a filter");
    let stats = backend.stats(all_of(filter, Some(Field::Endpoint))).await;
    let stats = stats.expect("answers");
    assert_eq!((stats.total.calls, stats.total.classes[4]), (15, 15));
    assert_eq!(stats.groups[0].value, "/*");
    assert_eq!(stats.coverage.lost.get("expired"), Some(&20));
    assert_eq!((stats.coverage.kept, stats.coverage.seen), (10, 30));
    let senders = backend.totals().await.expect("totals").senders;
    assert_eq!((senders[0].calls, senders[0].expired), (10, 20));
    // What is not counted by the minute is of the calls that are left.
    let filter = Filter::parse("path ~ \"^/2\"").expect("a filter");
    let stats = backend.stats(all_of(filter, None)).await.expect("answers");
    assert_eq!(stats.total.calls, 10);
}
