//! The page listener's routes: three static files in the program, and the API under `/api/v1`.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::api::{self, Api};
use crate::guard::{self, Guard};
use crate::stream;

/// Routes of the page listener, behind its guard.
pub(crate) fn router(api: Api, guard: Guard) -> Router {
    Router::new()
        .route(
            "/",
            get(|| file("text/html; charset=utf-8", include_str!("page/index.html"))),
        )
        .route(
            "/app.js",
            get(|| {
                file(
                    "text/javascript; charset=utf-8",
                    include_str!("page/app.js"),
                )
            }),
        )
        .route(
            "/style.css",
            get(|| file("text/css; charset=utf-8", include_str!("page/style.css"))),
        )
        .route(
            "/icon.svg",
            get(|| file("image/svg+xml", include_str!("page/icon.svg"))),
        )
        .route("/api/v1/calls", get(api::calls))
        .route("/api/v1/calls/{id}", get(api::call))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/stream", get(stream::stream))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page\n") })
        .with_state(api)
        .layer(middleware::from_fn_with_state(guard, guard::check))
}

/// The browser asks each time whether it has the newest: the program may have been replaced since.
async fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, content_type),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        text,
    )
}
