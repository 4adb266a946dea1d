//! Files of packets, which the capture beside the store keeps if it was allowed to (`--keep-packets`, `--unmasked`):
//!
//! - `GET /api/v1/calls/{id}/pcap`: those of the connection of a call, from [`CALL_PACKETS_MARGIN`] before its first byte to as long
//!   behind its last
//! - `GET /api/v1/packets?from=&to=`: those of all connections in a range of time
//!
//! The format is pcapng; its comment states what is missing. Rules do not apply to packets, so a page that others than its owner reach
//! gives none: one that is not on a loopback address, or requires no token. The settings refuse that already when the capture starts.
//!
//! A file is in memory until its reader has it, so there is one at a time, in the place of a query in SQL.

use std::net::{IpAddr, SocketAddr};
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
use serde_json::{Value, json};

use crate::api::{Api, ApiError, find};
use crate::call::{Call, CallId, Range};
use crate::clock::unix_ms;
use crate::export::request;
use crate::limits::{CALL_PACKETS_MARGIN, EXPORT_CHUNK_BYTES};
use crate::parameters::{Time, range};
use crate::places::Connection;

/// Annotations of a call that are times of packets, in nanoseconds since 1970.
const TIMES: [&str; 4] = [
    "request_started",
    "request_ended",
    "response_started",
    "response_ended",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parameters {
    from: Option<Time>,
    to: Option<Time>,
}

pub(crate) async fn of_time(
    State(api): State<Api>,
    Extension(connection): Extension<Arc<Connection>>,
    query: Result<extract::Query<Parameters>, QueryRejection>,
) -> Result<Response, ApiError> {
    let extract::Query(Parameters { from, to }) = query?;
    let Range { from_ms, to_ms } = range(from, to);
    let from = from_ms.unwrap_or(0).max(0);
    let until = to_ms.unwrap_or_else(|| unix_ms() + 1).max(from);
    let wanted = json!({ "command": "packets", "from_millis": from, "until_millis": until, "connection": null });
    file(&api, &connection, wanted, "packets.pcapng").await
}

pub(crate) async fn of_call(
    State(api): State<Api>,
    Extension(connection): Extension<Arc<Connection>>,
    id: Result<Path<CallId>, PathRejection>,
) -> Result<Response, ApiError> {
    let call = find(&api, id).await?;
    let wanted = wanted(&call).ok_or_else(|| {
        let text = "the call has no addresses of its connection; --annotate adds them";
        ApiError::NotThere(text.into())
    })?;
    file(&api, &connection, wanted, "call.pcapng").await
}

/// The request for the packets of a call; none for one without the annotations that it takes.
fn wanted(call: &Call) -> Option<Value> {
    let annotation = |name: &str| request::detail(call, &format!("custom_field:{name}"));
    let end = |side: &str| {
        let address: IpAddr = annotation(&format!("{side}_address"))?.parse().ok()?;
        let port = annotation(&format!("{side}_port"))?.parse().ok()?;
        Some(SocketAddr::new(address, port))
    };
    let (client, server) = (end("client")?, end("server")?);
    let times = TIMES.iter().filter_map(|name| annotation(name));
    let times = times.filter_map(|nanos| Some(nanos.parse::<u64>().ok()? / 1_000_000));
    let (first, last) = times.fold(None, |found: Option<(u64, u64)>, time| {
        let (first, last) = found.unwrap_or((time, time));
        Some((first.min(time), last.max(time)))
    })?;
    let margin = CALL_PACKETS_MARGIN.as_millis() as u64;
    Some(json!({
        "command": "packets",
        "from_millis": first.saturating_sub(margin),
        "until_millis": last.saturating_add(margin),
        "connection": { "client": client, "server": server, "vni": call.summary.vni },
    }))
}

/// The file that answers a request to the capture.
async fn file(
    api: &Api,
    connection: &Connection,
    wanted: Value,
    name: &str,
) -> Result<Response, ApiError> {
    if !api.shows_packets {
        let text = "packets are unmasked: only a page on a loopback address that requires a token shows them";
        return Err(ApiError::Refused(text.into()));
    }
    let busy = |_| ApiError::Busy("a query or another file of packets is being answered".into());
    let permit = api.queries.clone().try_acquire_owned().map_err(busy)?;
    let (answer, file) = api.engine.packets(wanted).await?.ok_or_else(|| {
        ApiError::NotThere("no capture belongs to this store, so there are no packets".into())
    })?;
    if file.is_empty() {
        let text = answer["text"].as_str().unwrap_or_default();
        return Err(ApiError::NotThere(text.trim_end().into()));
    }
    connection.streams();
    let file = Bytes::from(file);
    let chunks = stream::unfold((file, permit), |(mut rest, permit)| async {
        if rest.is_empty() {
            return None;
        }
        let chunk = rest.split_to(rest.len().min(EXPORT_CHUNK_BYTES));
        Some((Ok::<_, std::io::Error>(chunk), (rest, permit)))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-pcapng".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Summary;

    fn call(annotations: &[(&str, &str)]) -> Call {
        Call {
            summary: Summary::empty(),
            details: annotations
                .iter()
                .map(|(name, value)| (format!("custom_field:{name}"), (*value).to_owned()))
                .collect(),
            line: String::new(),
        }
    }

    #[test]
    fn packets_are_wanted_from_before_a_call_until_behind_it() {
        let mut annotations = vec![
            ("client_address", "10.0.0.1"),
            ("client_port", "4000"),
            ("server_address", "2001:db8::2"),
            ("server_port", "80"),
            ("request_started", "1700000000000999999"),
            ("request_ended", "1700000000001000000"),
            ("response_ended", "1700000000250000000"),
        ];
        assert_eq!(
            wanted(&call(&annotations)).unwrap(),
            json!({
                "command": "packets",
                "from_millis": 1_699_999_999_000_u64,
                "until_millis": 1_700_000_001_250_u64,
                "connection": { "client": "10.0.0.1:4000", "server": "[2001:db8::2]:80", "vni": null },
            })
        );
        assert_eq!(wanted(&call(&annotations[..4])), None, "no time");
        annotations[1].1 = "http";
        assert_eq!(wanted(&call(&annotations)), None, "no port");
    }
}
