//! `GET /metrics` of the page listener, in the text format of Prometheus (0.0.4): what the store holds, took and refused.
//!
//! It needs the token of the page, as everything there: `authorization` with `credentials_file` in the configuration of
//! Prometheus. It holds numbers alone, nothing of a call and no address.

use std::fmt::{Display, Write as _};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api::{Api, ApiError, Status};
use crate::backend::Backend;
use crate::call::Query;
use crate::clock::unix_ms;
use crate::filter::Filter;

/// The answer.
pub(crate) async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let status = Status::of(&api).await?;
    let newest = Query {
        filter: Filter::default(),
        before: None,
        after: None,
        range: crate::call::Range::default(),
        limit: 1,
    };
    let page = api.backend.list(newest).await?;
    let text = text(&status, page.coverage.held_from_ms, unix_ms());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text).into_response())
}

fn text(status: &Status, oldest_ms: Option<i64>, now_ms: i64) -> String {
    let mut page = Page::default();
    let totals = &status.totals;
    page.one("sniffer_store_up", "Whether bundles can be stored.", {
        u8::from(status.write_error.is_none())
    });
    for (name, help, value) in [
        ("sniffer_store_calls", "Calls in the store.", totals.calls),
        (
            "sniffer_store_bytes",
            "Bytes that the database occupies.",
            totals.database_bytes,
        ),
        (
            "sniffer_store_calls_max",
            "Calls that are kept at most.",
            status.calls_max,
        ),
        (
            "sniffer_store_bytes_max",
            "Bytes that the database may occupy.",
            status.database_bytes_max,
        ),
        (
            "sniffer_store_calls_received_total",
            "Calls stored since the database was made.",
            totals.calls_received,
        ),
        (
            "sniffer_store_calls_expired_total",
            "Calls deleted to stay within the retention.",
            totals.calls_expired,
        ),
        (
            "sniffer_store_calls_deleted_total",
            "Calls deleted on request.",
            totals.calls_deleted,
        ),
        (
            "sniffer_store_bundles_received_total",
            "Bundles stored.",
            totals.bundles_received,
        ),
        (
            "sniffer_store_bundles_repeated_total",
            "Bundles that were stored already, with the same key and the same bytes.",
            totals.bundles_repeated,
        ),
        (
            "sniffer_store_bad_lines_total",
            "Lines of stored bundles that are no message.",
            totals.bad_lines,
        ),
        (
            "sniffer_store_keys_forgotten_total",
            "Keys of bundles that were forgotten before their time.",
            totals.keys_forgotten,
        ),
        (
            "sniffer_store_posts_refused_total",
            "POSTs answered with anything but 204, since the start of this process.",
            status.posts_refused,
        ),
    ] {
        page.one(name, help, value);
    }
    if let Some(oldest) = oldest_ms {
        page.one(
            "sniffer_store_oldest_seconds",
            "Age of the oldest call, by the time of the call.",
            now_ms.saturating_sub(oldest).max(0) as f64 / 1000.0,
        );
    }
    const CONNECTIONS: &str = "sniffer_store_connections_lost_total";
    page.head(
        CONNECTIONS,
        "Connections that found no place, or were closed while they waited because another one needed it.",
    );
    for (outcome, count) in [
        ("refused", status.connections_refused),
        ("closed", status.connections_closed),
    ] {
        page.put(format_args!(
            "{CONNECTIONS}{{outcome=\"{outcome}\"}} {count}\n"
        ));
    }
    page.one(
        "sniffer_store_start_time_seconds",
        "When this process started, in seconds since 1970.",
        status.started_ms as f64 / 1000.0,
    );
    page.0
}

/// The text while it is written.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str) {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn one(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help);
        self.put(format_args!("{name} {value}\n"));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
    }
}
