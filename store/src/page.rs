//! The routes of the page listener: the static files in the program, and the API under `/api/v1`.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};

use crate::api::{self, Api};
use crate::guard::{self, Guard};
use crate::{deletion, export, losses, metrics, packets, sql, statistics, stream, trial};

/// Path, media type and text of a file in the folder `page`.
macro_rules! file {
    ($name:literal, $media_type:literal) => {
        (
            concat!("/", $name),
            $media_type,
            include_str!(concat!("page/", $name)),
        )
    };
    ($script:literal) => {
        file!($script, "text/javascript; charset=utf-8")
    };
}

const JSON: &str = "application/json; charset=utf-8";

/// The description of the API; `tests/store/api.rs` holds it against the answers.
const OPENAPI: &str = include_str!("openapi.json");

const INDEX: &str = include_str!("page/index.html");

const FILES: [(&str, &str, &str); 43] = [
    file!("style.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("app.js"),
    file!("address.js"),
    file!("alerts.js"),
    file!("api.js"),
    file!("capture.js"),
    file!("chart.js"),
    file!("charts.js"),
    file!("choose.js"),
    file!("columns.js"),
    file!("coverage.js"),
    file!("detail.js"),
    file!("diagnosis.js"),
    file!("dom.js"),
    file!("fleet.js"),
    file!("format.js"),
    file!("grid.js"),
    file!("health.js"),
    file!("hex.js"),
    file!("json.js"),
    file!("list.js"),
    file!("marks.js"),
    file!("messages.js"),
    file!("neighbours.js"),
    file!("packets.js"),
    file!("panes.js"),
    file!("query.js"),
    file!("rail.js"),
    file!("range.js"),
    file!("rules.js"),
    file!("saved.js"),
    file!("search.js"),
    file!("section.js"),
    file!("status.js"),
    file!("stream.js"),
    file!("strip.js"),
    file!("suggest.js"),
    file!("tabs.js"),
    file!("text.js"),
    file!("theme.js"),
    file!("timing.js"),
    file!("view.js"),
];

/// Routes of the page listener, behind its guard.
pub(crate) fn router(api: Api, guard: Guard) -> Router {
    let mut router = Router::new().route("/", get(|| file("text/html; charset=utf-8", INDEX)));
    for (path, media_type, text) in FILES {
        router = router.route(path, get(move || file(media_type, text)));
    }
    router
        .route("/api/v1/appliances", get(api::appliances))
        .route("/api/v1/calls", get(api::calls))
        .route("/api/v1/calls/{id}", get(api::call))
        .route("/api/v1/calls/{id}/curl", get(export::command_line))
        .route("/api/v1/calls/{id}/har", get(export::archive))
        .route("/api/v1/calls/{id}/pcap", get(packets::of_call))
        .route("/api/v1/capture", get(api::capture_status))
        .route("/api/v1/capture", post(api::switch_capture))
        .route("/api/v1/delete", post(deletion::delete))
        .route("/api/v1/export", get(export::export))
        .route("/api/v1/losses", get(losses::losses))
        .route("/api/v1/openapi.json", get(|| file(JSON, OPENAPI)))
        .route("/api/v1/packets", get(packets::of_time))
        .route("/api/v1/query", post(sql::query))
        .route("/api/v1/rules/test", post(trial::test))
        .route("/api/v1/stats", get(statistics::stats))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/stream", get(stream::stream))
        .route("/api/v1/top", get(statistics::top))
        .route("/metrics", get(metrics::metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page\n") })
        .with_state(api)
        .layer(middleware::from_fn_with_state(guard, guard::check))
}

/// The browser revalidates each time, because the program may have been replaced since.
async fn file(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, media_type),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        text,
    )
}
