//! `GET /api/v1/export?format=ndjson|csv|har&filter=&from=&to=&limit=`: the calls that match, newest first, as a file.
//!
//! | format | a call is | the coverage is |
//! | --- | --- | --- |
//! | `ndjson` | its line, as it was sent | the last line, which is an object |
//! | `csv` | a record of its columns, RFC 4180 | a last record that begins with `#`, only if calls are missing |
//! | `har` | an entry of an HTTP archive, version 1.2 | `log._coverage` and `log.comment` |
//!
//! Nothing is collected: one page of the list after the other is read when the reader has taken the one before, so that a slow
//! reader costs a page. A file whose reading fails ends without its last line, and the connection with an error.

mod csv;
mod curl;
mod har;
pub(crate) mod request;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{self, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::api::{Api, ApiError, find};
use crate::backend::{Backend, Failure};
use crate::call::{Call, CallId, Coverage, Page, Query, Range, Summary};
use crate::filter::Filter;
use crate::limits::{
    EXPORT_CALLS_MAX, EXPORT_CHUNK_BYTES, EXPORT_TIME_MAX, EXPORTS_MAX, LIST_CALLS_DEFAULT,
};
use crate::parameters::{Count, Time, range};
use crate::places::Connection;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parameters {
    format: Format,
    filter: String,
    from: Option<Time>,
    to: Option<Time>,
    limit: Option<Count<EXPORT_CALLS_MAX>>,
}

/// How calls are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Ndjson,
    Csv,
    Har,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Har => "application/json; charset=utf-8",
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Ndjson => "attachment; filename=\"calls.ndjson\"",
            Self::Csv => "attachment; filename=\"calls.csv\"",
            Self::Har => "attachment; filename=\"calls.har\"",
        }
    }

    fn head(self) -> String {
        match self {
            Self::Ndjson => String::new(),
            Self::Csv => csv::head(),
            Self::Har => har::head(),
        }
    }

    /// `coverage` has in `partial` why calls that match are missing.
    fn tail(self, calls: usize, coverage: &Coverage) -> String {
        let missing = coverage.partial.as_deref();
        let remarks = json!({ "exported": calls, "coverage": coverage });
        match (self, missing) {
            (Self::Ndjson, _) => format!("{remarks}\n"),
            (Self::Csv, None) => String::new(),
            (Self::Csv, Some(reason)) => {
                let remark = csv::text(&format!("calls are missing: {reason}"));
                format!("#,{remark}\r\n")
            }
            (Self::Har, None) => har::tail(&format!("{calls} calls"), &remarks),
            (Self::Har, Some(reason)) => {
                let comment = format!("{calls} calls, and not all that match: {reason}");
                har::tail(&comment, &remarks)
            }
        }
    }
}

pub(crate) async fn export(
    State(api): State<Api>,
    Extension(connection): Extension<Arc<Connection>>,
    query: Result<extract::Query<Parameters>, QueryRejection>,
) -> Result<Response, ApiError> {
    let extract::Query(parameters) = query?;
    let filter = Filter::parse(&parameters.filter)?;
    let permit = api
        .exports
        .clone()
        .try_acquire_owned()
        .map_err(|_| ApiError::Busy(format!("{EXPORTS_MAX} exports are being read already")))?;
    connection.streams();
    let format = parameters.format;
    let mut export = Export {
        api,
        format,
        filter,
        range: range(parameters.from, parameters.to),
        limit: parameters.limit.map_or(EXPORT_CALLS_MAX, Count::get),
        end: Instant::now() + EXPORT_TIME_MAX,
        page: VecDeque::new(),
        fetched: VecDeque::new(),
        next: None,
        coverage: None,
        calls: 0,
        stage: Stage::Head,
        _permit: permit,
    };
    // What is wrong with the request, or with the store, is answered with a status of its own.
    export.list(None).await?;
    let chunks = stream::unfold(Some(export), |export| async {
        let mut export = export?;
        match export.chunk().await {
            Ok(Some(chunk)) => Some((Ok(Bytes::from(chunk)), Some(export))),
            Ok(None) => None,
            Err(failure) => Some((Err(io::Error::other(failure.to_string())), None)),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, format.media_type()),
        (header::CONTENT_DISPOSITION, format.file_name()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// What of the file comes next.
#[derive(PartialEq, Eq)]
enum Stage {
    Head,
    Calls,
    End,
}

/// A file that is being read.
struct Export {
    api: Api,
    format: Format,
    filter: Filter,
    range: Range,
    limit: usize,
    /// When it ends although there may be more.
    end: Instant,
    /// The calls of the last page that are not written yet.
    page: VecDeque<Summary>,
    /// The first of these with their lines.
    fetched: VecDeque<Option<Call>>,
    /// Where the next page begins, if there is one.
    next: Option<CallId>,
    /// Of the first page.
    coverage: Option<Coverage>,
    calls: usize,
    stage: Stage,
    _permit: OwnedSemaphorePermit,
}

impl Export {
    async fn list(&mut self, before: Option<CallId>) -> Result<(), Failure> {
        let query = Query {
            filter: self.filter.clone(),
            before,
            after: None,
            range: self.range,
            limit: LIST_CALLS_DEFAULT,
        };
        let page: Page = self.api.backend.list(query).await?;
        self.page = page.calls.into();
        self.next = page.next;
        self.coverage.get_or_insert(page.coverage);
        Ok(())
    }

    /// The next part of the file; `None` behind its end.
    async fn chunk(&mut self) -> Result<Option<String>, Failure> {
        let mut chunk = match self.stage {
            Stage::Head => self.format.head(),
            Stage::Calls => String::new(),
            Stage::End => return Ok(None),
        };
        self.stage = Stage::Calls;
        while chunk.len() < EXPORT_CHUNK_BYTES && self.stage == Stage::Calls {
            let missing = self.reason_to_end();
            if missing.is_none() && !self.page.is_empty() {
                self.write(&mut chunk).await?;
                continue;
            }
            if missing.is_none()
                && let Some(next) = self.next.take()
            {
                self.list(Some(next)).await?;
                continue;
            }
            let mut coverage = self.coverage.take().unwrap_or_default();
            coverage.partial = missing;
            chunk += &self.format.tail(self.calls, &coverage);
            self.stage = Stage::End;
        }
        Ok(Some(chunk))
    }

    /// Why the file ends before the list does.
    fn reason_to_end(&self) -> Option<String> {
        if self.page.is_empty() && self.next.is_none() {
            return None;
        }
        if *self.api.stopped.borrow() {
            return Some("the store was stopped".into());
        }
        if self.calls >= self.limit {
            return Some(format!("the limit was {} calls", self.limit));
        }
        (Instant::now() >= self.end)
            .then(|| format!("it took more than {} s", EXPORT_TIME_MAX.as_secs()))
    }

    /// Writes the next call, unless it was deleted since it was listed.
    async fn write(&mut self, chunk: &mut String) -> Result<(), Failure> {
        if self.format == Format::Csv {
            if let Some(listed) = self.page.pop_front() {
                *chunk += &csv::record(&listed);
                self.calls += 1;
            }
            return Ok(());
        }
        if self.fetched.is_empty() {
            let ids = self.page.iter().map(|call| call.id.clone()).collect();
            self.fetched = self.api.backend.calls(ids).await?.into();
        }
        self.page.pop_front();
        let Some(call) = self.fetched.pop_front().flatten() else {
            return Ok(());
        };
        if self.format == Format::Har {
            if self.calls > 0 {
                chunk.push(',');
            }
            *chunk += &har::entry(&call).to_string();
        } else {
            *chunk += &call.line;
            chunk.push('\n');
        }
        self.calls += 1;
        Ok(())
    }
}

/// `GET /api/v1/calls/{id}/har`: an archive with one call.
pub(crate) async fn archive(
    State(api): State<Api>,
    id: Result<Path<CallId>, PathRejection>,
) -> Result<Response, ApiError> {
    let call = find(&api, id).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"call.har\"",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let entry = har::entry(&call).to_string();
    let text = har::head() + &entry + &har::tail("1 call", &json!({ "exported": 1 }));
    Ok((headers, text).into_response())
}

/// `GET /api/v1/calls/{id}/curl`: its request as a command line.
pub(crate) async fn command_line(
    State(api): State<Api>,
    id: Result<Path<CallId>, PathRejection>,
) -> Result<Response, ApiError> {
    let call = find(&api, id).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, curl::command(&call)).into_response())
}
