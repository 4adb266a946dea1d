//! What every backend of the store has to do, written against the trait. A backend joins with a [`Fixture`] and one line of
//! `conformance!`; what only one of them does is tested beside its code.

use std::collections::HashSet;

use serde_json::Value;
use store::backend::clickhouse::{self as over_http, ClickHouse, Migrated};
use store::backend::sqlite::{Opened, Sqlite};
use store::backend::{Backend, Expired, Failure, Health, Retention, Stored};
use store::call::{Arrival, CallId, Query, Range};
use store::filter::Filter;
use store::limits::{COLUMN_BYTES_MAX, STREAM_BEHIND_MAX};

use crate::client::line;
use crate::server;

mod fixture;
mod statistics;

use fixture::{
    Fixture, HOSTILE, bundle, first, insert, list, now_ms, numbered, paths, store, timed,
};
use statistics::{
    comparisons_match_what_the_tree_matches, counts_outlive_calls_that_expire,
    statistics_count_what_the_list_has, the_coverage_has_what_is_missing,
    top_values_are_those_of_the_calls, what_is_deleted_is_gone_and_counted,
};

struct SqliteFixture {
    backend: Sqlite,
    _folder: tempfile::TempDir,
}

impl Fixture for SqliteFixture {
    type Backend = Sqlite;

    fn start(retention: Retention) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let opened = Opened::new(folder.path()).expect("opens");
        Self {
            backend: opened.start(retention).expect("starts"),
            _folder: folder,
        }
    }

    fn backend(&self) -> &Sqlite {
        &self.backend
    }
}

struct ClickHouseFixture {
    backend: ClickHouse,
}

impl Fixture for ClickHouseFixture {
    type Backend = ClickHouse;

    fn start(retention: Retention) -> Self {
        let target = server::database();
        assert_eq!(target.migrate().expect("migrates"), Migrated::Done);
        let opened = over_http::Opened::new(&target).expect("opens");
        Self {
            backend: opened.start(retention).expect("starts"),
        }
    }

    fn backend(&self) -> &ClickHouse {
        &self.backend
    }
}

macro_rules! conformance {
    ($backend:ident: $fixture:ty) => {
        mod $backend {
            conformance! {
                $fixture =>
                an_empty_store_answers_everything,
                the_newest_call_comes_first,
                every_call_is_on_one_page,
                two_ids_bound_the_list,
                a_limit_bounds_the_page,
                a_foreign_id_is_the_fault_of_the_request,
                a_call_comes_back_as_it_was_sent,
                filters_match_what_the_tree_matches,
                a_bundle_sent_twice_is_stored_once,
                the_same_bundle_from_many_senders_is_stored_once,
                bad_lines_are_counted,
                the_oldest_calls_expire,
                arrivals_come_in_order_and_none_twice,
                too_many_arrivals_are_counted_instead,
                a_closed_store_refuses_bundles,
                the_list_is_in_the_order_of_the_calls_time,
                a_time_that_cannot_be_is_that_of_arrival_but_for_an_import,
                pages_and_ranges_meet_every_call_once,
                comparisons_match_what_the_tree_matches,
                statistics_count_what_the_list_has,
                top_values_are_those_of_the_calls,
                what_is_deleted_is_gone_and_counted,
                the_coverage_has_what_is_missing,
                counts_outlive_calls_that_expire,
            }
        }
    };
    ($fixture:ty => $($case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                super::$case::<$fixture>().await;
            }
        )*
    };
}

conformance!(sqlite: super::SqliteFixture);
conformance!(clickhouse: super::ClickHouseFixture);

async fn an_empty_store_answers_everything<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let page = list(backend, first(10)).await;
    assert_eq!(
        (page.calls, page.next, page.timed_out),
        (vec![], None, false)
    );
    assert_eq!(page.newest, *backend.arrivals().borrow());
    assert!(backend.recognises(&page.newest));
    let arrived = backend
        .arrived(page.newest.clone(), Filter::default())
        .await
        .expect("answers");
    assert_eq!((arrived.calls, arrived.newest), (Some(vec![]), page.newest));
    let totals = backend.totals().await.expect("totals");
    assert_eq!((totals.calls, totals.calls_received), (0, 0));
    assert!(totals.since_ms > 1_600_000_000_000);
    let nothing = Expired {
        calls: 0,
        is_more: false,
    };
    assert_eq!(backend.expire().await, Ok(nothing));
    assert_eq!(*backend.health().borrow(), Health::Up);
}

async fn the_newest_call_comes_first<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    insert(backend, 0..3).await;
    insert(backend, 3..4).await;
    insert(backend, 4..9).await;
    let page = list(backend, first(100)).await;
    assert_eq!(paths(&page.calls), (0..9).rev().collect::<Vec<_>>());
    assert_eq!(page.next, None);
    let ids: HashSet<_> = page.calls.iter().map(|call| &call.id).collect();
    assert_eq!(ids.len(), 9);
}

async fn every_call_is_on_one_page<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    insert(backend, 0..57).await;
    let mut found = Vec::new();
    let mut query = first(10);
    loop {
        let page = list(backend, query.clone()).await;
        found.extend(paths(&page.calls));
        let Some(next) = page.next else { break };
        query.before = Some(next);
        // Calls that arrive meanwhile move nothing.
        insert(backend, 100..103).await;
    }
    assert_eq!(found, (0..57).rev().collect::<Vec<_>>());
}

async fn two_ids_bound_the_list<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    insert(backend, 0..20).await;
    let all = list(backend, first(100)).await.calls;
    let id = |path: usize| {
        let call = all
            .iter()
            .find(|call| paths(std::slice::from_ref(call)) == [path]);
        call.map(|call| call.id.clone())
    };
    for (after, before) in [
        (None, None),
        (None, Some(12)),
        (Some(12), None),
        (Some(4), Some(9)),
        (Some(9), Some(4)),
        (Some(9), Some(10)),
    ] {
        let query = Query {
            after: after.and_then(id),
            before: before.and_then(id),
            ..first(100)
        };
        let from = after.map_or(0, |after| after + 1);
        let expected: Vec<_> = (from..before.unwrap_or(20)).rev().collect();
        let page = list(backend, query).await;
        assert_eq!(paths(&page.calls), expected, "{after:?} {before:?}");
    }
}

async fn a_limit_bounds_the_page<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    insert(backend, 0..5).await;
    for limit in 1..7 {
        let page = list(backend, first(limit)).await;
        assert_eq!(page.calls.len(), limit.min(5));
        assert_eq!(page.next.is_some(), limit < 5, "{limit}");
        let newest = page.newest;
        assert_eq!(newest, *backend.arrivals().borrow(), "{limit}");
    }
}

async fn a_foreign_id_is_the_fault_of_the_request<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    insert(backend, 0..1).await;
    for text in ["no-such_id", "18446744073709551616", "-1", "_"] {
        let id = CallId::try_from(text.to_owned()).expect("the alphabet of ids");
        assert!(
            matches!(
                backend.call(id.clone()).await,
                Ok(None) | Err(Failure::Invalid(_))
            ),
            "{text}"
        );
        let query = Query {
            before: Some(id),
            ..first(10)
        };
        let failure = backend.list(query).await.expect_err("no place in the list");
        assert!(matches!(failure, Failure::Invalid(_)), "{text}");
        let place = Arrival::try_from(text.to_owned()).expect("the alphabet of ids");
        assert!(!backend.recognises(&place), "{text}");
    }
}

async fn a_call_comes_back_as_it_was_sent<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let large = "x".repeat(1 << 20);
    for body in HOSTILE.iter().copied().chain([large.as_str(), ""]) {
        let details = [
            ("request_method", body),
            ("request_url", "http://shop.example/v1/pay"),
            ("response_code", "201"),
            ("request_header:x", body),
            ("response_header:content-type", "Text/HTML; charset=utf-8"),
            ("response_body", body),
            ("now", "1700000000123"),
            ("interval", "42"),
            ("custom_field:vni", "7"),
            ("host", "box"),
        ];
        let line = line(&details);
        let stored = backend.insert(bundle(None, line.clone())).await;
        assert_eq!(stored, Ok(Stored::New));
        let page = list(backend, first(1)).await;
        let [summary] = page.calls.as_slice() else {
            panic!("{body:?} is not there");
        };
        let call = backend.call(summary.id.clone()).await.expect("answers");
        let call = call.expect("the call");
        assert_eq!(call.line, line.trim_end());
        assert_eq!(
            call.details,
            details.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(call.summary, *summary);
        assert!(summary.received_ms > 1_600_000_000_000);
        let texts = [
            &summary.method,
            &summary.url,
            &summary.host,
            &summary.path,
            &summary.content_type,
            &summary.note,
        ];
        let url = "http://shop.example/v1/pay";
        let method = if body.len() > COLUMN_BYTES_MAX {
            format!("{}…", "x".repeat(COLUMN_BYTES_MAX))
        } else {
            body.to_owned()
        };
        assert_eq!(
            texts,
            [
                &method,
                url,
                "shop.example",
                "/v1/pay",
                "text/html",
                "VNI 7, time of arrival"
            ]
        );
        let numbers = [
            summary.now_ms,
            summary.interval_ms,
            summary.status,
            summary.request_bytes,
            summary.response_bytes,
        ];
        let bytes = i64::try_from(body.len()).expect("short");
        assert_eq!(
            numbers,
            [
                Some(1_700_000_000_123),
                Some(42),
                Some(201),
                None,
                Some(bytes)
            ]
        );
    }
}

async fn filters_match_what_the_tree_matches<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let lines: Vec<_> = HOSTILE
        .iter()
        .enumerate()
        .map(|(number, text)| {
            line(&[
                (
                    "request_method",
                    if number % 2 == 0 { "GET" } else { "POST" },
                ),
                ("request_url", &format!("http://Shop.example/{number}")),
                ("response_body", text),
                ("now", "1700000000404"),
                ("interval", "12"),
                ("custom_field:connection_id", "0503abcdef"),
                ("custom_field:request_started", "1700000000502000000"),
            ])
        })
        .collect();
    let stored = backend.insert(bundle(None, lines.concat())).await;
    assert_eq!(stored, Ok(Stored::New));
    let words = [
        "",
        "get",
        "POST shop.EXAMPLE/1",
        "404",
        "502",
        "503",
        "0503ABCDEF",
        "12",
        "STRASSE",
        "strasse",
        "k",
        "ß",
        "no-such-word",
    ];
    let quoted = HOSTILE.map(|text| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    });
    for text in words.into_iter().chain(quoted.iter().map(String::as_str)) {
        let filter = Filter::parse(text).expect("a filter");
        let expected: Vec<_> = (0..lines.len())
            .filter(|&number| filter.matches(lines[number].trim_end()))
            .rev()
            .collect();
        let query = Query {
            filter,
            ..first(100)
        };
        let page = list(backend, query).await;
        assert_eq!(paths(&page.calls), expected, "{text:?}");
    }
}

async fn a_bundle_sent_twice_is_stored_once<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let store = |key: Option<&'static str>, numbers: std::ops::Range<usize>| {
        let text: String = numbers.map(numbered).collect();
        backend.insert(bundle(key, text))
    };
    assert_eq!(store(Some("k"), 0..2).await, Ok(Stored::New));
    assert_eq!(store(Some("k"), 0..2).await, Ok(Stored::Repeated));
    // The same key with other bytes is another bundle, and so is any without a key.
    assert_eq!(store(Some("k"), 0..3).await, Ok(Stored::New));
    assert_eq!(store(Some("'; --"), 0..2).await, Ok(Stored::New));
    assert_eq!(store(None, 0..1).await, Ok(Stored::New));
    assert_eq!(store(None, 0..1).await, Ok(Stored::New));
    let totals = backend.totals().await.expect("totals");
    assert_eq!((totals.calls, totals.calls_received), (9, 9));
    assert_eq!((totals.bundles_received, totals.bundles_repeated), (5, 1));
    assert_eq!(list(backend, first(100)).await.calls.len(), 9);
}

async fn the_same_bundle_from_many_senders_is_stored_once<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let backend = fixture.backend().clone();
            let text: String = (0..3).map(numbered).collect();
            tokio::spawn(async move { backend.insert(bundle(Some("k"), text)).await })
        })
        .collect();
    let mut new = 0;
    for sender in senders {
        match sender.await.expect("ends") {
            Ok(Stored::New) => new += 1,
            Ok(Stored::Repeated) => {}
            Err(failure) => panic!("{failure}"),
        }
    }
    assert_eq!(new, 1);
    assert_eq!(list(fixture.backend(), first(100)).await.calls.len(), 3);
}

async fn bad_lines_are_counted<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let text = [
        numbered(1).as_bytes(),
        b"{}\n\xff\n",
        numbered(2).as_bytes(),
    ]
    .concat();
    let stored = backend.insert(bundle(None, text)).await;
    assert_eq!(stored, Ok(Stored::New));
    let totals = backend.totals().await.expect("totals");
    assert_eq!((totals.calls, totals.bad_lines), (2, 2));
    assert!(totals.database_bytes > 0);
    let json = serde_json::to_value(totals).expect("JSON");
    assert_eq!(json["bad_lines"], Value::from(2));
}

async fn the_oldest_calls_expire<F: Fixture>() {
    let fixture = F::start(Retention {
        calls_max: 10,
        ..Retention::default()
    });
    let backend = fixture.backend();
    insert(backend, 0..1).await;
    let oldest = list(backend, first(1)).await.calls.remove(0).id;
    for bundle in 0..5 {
        insert(backend, 1 + bundle * 4..5 + bundle * 4).await;
    }
    while backend.expire().await.expect("expires").is_more {}
    let totals = backend.totals().await.expect("totals");
    assert_eq!(
        (totals.calls, totals.calls_received, totals.calls_expired),
        (10, 21, 11)
    );
    let page = list(backend, first(100)).await;
    assert_eq!(paths(&page.calls), (11..21).rev().collect::<Vec<_>>());
    assert_eq!(backend.call(oldest.clone()).await, Ok(None));
    // The id of a deleted call keeps its place.
    let query = Query {
        before: Some(oldest.clone()),
        ..first(100)
    };
    assert!(list(backend, query).await.calls.is_empty());
    let query = Query {
        after: Some(oldest),
        ..first(100)
    };
    assert_eq!(list(backend, query).await.calls.len(), 10);
}

async fn arrivals_come_in_order_and_none_twice<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    insert(backend, 0..3).await;
    let mut arrivals = backend.arrivals();
    let mut at = arrivals.borrow_and_update().clone();
    let mut found = Vec::new();
    for round in 0..10 {
        let start = 3 + round * 4;
        insert(backend, start..start + 4).await;
        arrivals.changed().await.expect("the store is open");
        assert_ne!(*arrivals.borrow_and_update(), at);
        let filter = Filter::parse("shop.example/").expect("a filter");
        let arrived = backend.arrived(at, filter).await.expect("answers");
        let mut calls = arrived.calls.expect("few calls");
        calls.reverse();
        found.extend(paths(&calls));
        at = arrived.newest;
    }
    assert_eq!(found, (3..43).collect::<Vec<_>>());
    insert(backend, 43..44).await;
    let filter = Filter::parse("no-such-word").expect("a filter");
    let arrived = backend.arrived(at.clone(), filter).await.expect("answers");
    assert_eq!(arrived.calls, Some(vec![]));
    assert_ne!(arrived.newest, at);
}

async fn too_many_arrivals_are_counted_instead<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let start = backend.arrivals().borrow().clone();
    let many = usize::try_from(STREAM_BEHIND_MAX).expect("few") + 1;
    insert(backend, 0..many).await;
    let arrived = backend
        .arrived(start, Filter::default())
        .await
        .expect("answers");
    assert_eq!(arrived.calls, None);
    assert!(arrived.count.is_none_or(|count| count == many as u64));
    assert_eq!(arrived.newest, *backend.arrivals().borrow());
}

async fn the_list_is_in_the_order_of_the_calls_time<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    store(backend, timed(1, 100, &[]) + &timed(2, 10, &[])).await;
    store(backend, timed(3, 3600, &[]) + &timed(4, 50, &[])).await;
    let before = backend.arrivals().borrow().clone();
    store(backend, timed(5, 5000, &[]) + &timed(6, 1, &[])).await;
    let page = list(backend, first(100)).await;
    assert_eq!(paths(&page.calls), [6, 2, 4, 1, 3, 5]);
    // The live list is in the order of arrival.
    let arrived = backend.arrived(before, Filter::default()).await;
    let calls = arrived.expect("answers").calls.expect("few");
    assert_eq!(paths(&calls), [6, 5]);
}

async fn a_time_that_cannot_be_is_that_of_arrival_but_for_an_import<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    let day = 24 * 3600;
    let text = timed(1, 8 * day, &[]) + &timed(2, -900, &[]) + &timed(3, 6 * day, &[]);
    store(backend, text).await;
    let mut moved = bundle(None, timed(4, 400 * day, &[]));
    moved.is_imported = true;
    assert_eq!(backend.insert(moved).await, Ok(Stored::New));
    let page = list(backend, first(100)).await;
    assert_eq!(paths(&page.calls), [2, 1, 3, 4]);
    let notes: Vec<_> = page.calls.iter().map(|call| call.note.as_str()).collect();
    assert_eq!(notes, ["time of arrival", "time of arrival", "", ""]);
    assert_eq!(page.calls[0].time_ms, page.calls[0].received_ms);
    assert_eq!(Some(page.calls[3].time_ms), page.calls[3].now_ms);
}

async fn pages_and_ranges_meet_every_call_once<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    // Many small bundles and some large ones, each with late calls, of a few different times.
    let mut number = 0;
    for bundle in 0..60 {
        let calls = if bundle % 20 == 19 { 700 } else { 3 };
        let text: String = (0..calls)
            .map(|call| {
                number += 1;
                timed(number, [10, 10, 400, 90_000][(call + bundle) % 4], &[])
            })
            .collect();
        store(backend, text).await;
    }
    let mut found = Vec::new();
    let mut query = first(251);
    loop {
        let page = list(backend, query.clone()).await;
        found.extend(
            page.calls
                .iter()
                .map(|call| (call.time_ms, call.path.clone())),
        );
        let Some(next) = page.next else { break };
        query.before = Some(next);
    }
    assert_eq!(found.len(), number);
    assert!(
        found
            .iter()
            .map(|(time, _)| time)
            .is_sorted_by(|a, b| a >= b)
    );
    let different: HashSet<_> = found.iter().map(|(_, path)| path).collect();
    assert_eq!(different.len(), number);
    let middle = now_ms() - 200_000;
    let parts = [(None, Some(middle)), (Some(middle), None)];
    let mut counted = 0;
    for (from_ms, to_ms) in parts {
        let mut query = Query {
            range: Range { from_ms, to_ms },
            ..first(1000)
        };
        loop {
            let page = list(backend, query.clone()).await;
            let range = query.range;
            assert!(page.calls.iter().all(|call| range.contains(call.time_ms)));
            counted += page.calls.len();
            let Some(next) = page.next else { break };
            query.before = Some(next);
        }
    }
    assert_eq!(counted, number);
}

async fn a_closed_store_refuses_bundles<F: Fixture>() {
    let fixture = F::start(Retention::default());
    let backend = fixture.backend();
    insert(backend, 0..1).await;
    backend.close().await.expect("closes");
    let stored = backend.insert(bundle(None, numbered(1))).await;
    assert!(matches!(stored, Err(Failure::Unavailable(_))), "{stored:?}");
    backend.close().await.expect("closes again");
}
