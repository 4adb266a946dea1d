//! Annotations: `custom_field:*` details on how an exchange was captured. Opt-in, after the rules; they contain addresses.
//! What is derived from other details is a fact, and under the rules (`facts.rs`).
//!
//! | name after `custom_field:` | value | present |
//! | --- | --- | --- |
//! | `exchange_id` | 32 hex digits; from network, tuple, sequence number and the messages, so the same packets give the same id | always |
//! | `connection_id` | 16 hex digits; from network, tuple and sequence number | always |
//! | `call_index` | number of the call on its connection, from 1 | always |
//! | `client_address`, `server_address` | IP address | always |
//! | `client_port`, `server_port` | TCP port | always |
//! | `vni` | innermost VNI, GRE key or ERSPAN session, decimal | if there is one |
//! | `encapsulation` | `vxlan`, `geneve`, `gre`, `erspan`, `ipip`, `other`: the innermost | if there is one |
//! | `request_started`, `request_ended` | packet time of first and last byte, nanoseconds since the epoch | if a request was seen |
//! | `response_started`, `response_ended` | the same | if a response was seen |
//! | `request_body_bytes`, `response_body_bytes` | full length after decoding as far as known, bytes | if the body was truncated |
//! | `request_body_left_out`, `response_body_left_out` | bytes between the beginning of the body and its end | if the end is kept (`--body-tail`), without `--annotate` as well |
//! | `missing_bytes` | bytes of bodies that were never captured | if more than 0 |
//! | `fields_left_out` | query parameters, form fields and session fields that are not in the line, decimal | if it has no room for some |
//! | `incomplete` | `true`: a message ended before its framing was complete | if so |
//! | `framing` | `true`: the length of a message cannot be believed, so that the body is what fits the bytes that followed | if so |
//! | `wrong_coding` | `true`: Content-Encoding has a name that is no coding, and the body is left as it is | if so |
//! | `http_version` | `2`, `1.1`, `1.0`, `0.9`: that of the request | always |
//! | `stream_id` | number of the HTTP/2 stream | in HTTP/2 |
//! | `pushed` | `true`: the server has made the request for the client | if so |
//! | `reset`, `reset_by` | the error code of RFC 9113 section 7 by its name, or decimal; `client` or `server` | if the stream was reset with an error |
//! | `unknown_fields` | headers that are not known, since the beginning of their header table was not captured | if more than 0 |
//! | `stream` | `websocket`: the line has the messages of a WebSocket | for such lines, without `--annotate` as well |
//! | `websocket_close_code` | of the first Close frame, decimal | if it has one |
//! | `websocket_close_by` | who has sent it: `client`, `server`, `none` | for such lines |
//! | `stream_part` | number of the line among those of its exchange, from 1 | for a stream that is written in parts, without `--annotate` as well |
//! | `stream_part_last` | `true`: no further one follows | for the last one |
//! | `half` | `timeout`, `closed`, `gap`, `evicted`, `shutdown`, `truncated`, `reset`, `refused`, `hpack`, `oversized`: why the other side is missing, or the call is no whole one | for half calls |

use std::io::Write as _;
use std::net::Ipv6Addr;

use super::Notes;
use super::draft::Draft;
use super::identity::Id;
use crate::decap::Endpoint;
use crate::http::{Side, UnpairedReason};

/// Appends the annotations of `draft`, each with a comma.
pub(super) fn write(
    draft: &Draft,
    connection_id: Id,
    notes: &Notes,
    unpaired: Option<UnpairedReason>,
    out: &mut Vec<u8>,
) {
    let connection = &draft.state.connection;
    let exchange_id = notes.exchange_id;
    field(out, "exchange_id", format_args!("{exchange_id:032x}"));
    let connection_id = connection_id.folded();
    field(out, "connection_id", format_args!("{connection_id:016x}"));
    field(out, "call_index", format_args!("{}", connection.call_index));
    for (endpoint, address, port) in [
        (connection.client, "client_address", "client_port"),
        (connection.server, "server_address", "server_port"),
    ] {
        if let Some(endpoint) = endpoint {
            field(out, address, format_args!("{}", Address(endpoint)));
            field(out, port, format_args!("{}", endpoint.port));
        }
    }
    if let Some(vni) = connection.network.vni {
        field(out, "vni", format_args!("{vni}"));
    }
    if let Some(name) = connection.network.encap.label() {
        field(out, "encapsulation", format_args!("{name}"));
    }
    for (times, first, last) in [
        (
            draft.state.request_times,
            "request_started",
            "request_ended",
        ),
        (
            draft.state.response_times,
            "response_started",
            "response_ended",
        ),
    ] {
        if let Some(times) = times {
            field(out, first, format_args!("{}", times.first.nanos()));
            field(out, last, format_args!("{}", times.last.nanos()));
        }
    }
    for (body, name) in [
        (&draft.request_body, "request_body_bytes"),
        (&draft.response_body, "response_body_bytes"),
    ] {
        if body.state.truncated {
            field(out, name, format_args!("{}", body.state.len));
        }
    }
    if notes.missing_bytes > 0 {
        field(
            out,
            "missing_bytes",
            format_args!("{}", notes.missing_bytes),
        );
    }
    let left_out = draft.state.fields_left_out;
    if left_out > 0 {
        field(out, "fields_left_out", format_args!("{left_out}"));
    }
    let wrong_coding = [&draft.request_body, &draft.response_body]
        .iter()
        .any(|body| body.state.len > 0 && body.state.codings.is_mislabelled());
    for (is_so, name) in [
        (notes.incomplete, "incomplete"),
        (draft.state.doubtful, "framing"),
        (wrong_coding, "wrong_coding"),
    ] {
        if is_so {
            field(out, name, format_args!("true"));
        }
    }
    http_version(draft, out);
    if let Some(reason) = unpaired {
        field(out, "half", format_args!("{}", reason.label()));
    }
}

/// What is missing between the beginning of a body and its end.
#[cold]
pub(super) fn left_out(draft: &Draft, out: &mut Vec<u8>) {
    for (body, name) in [
        (&draft.request_body, "request_body_left_out"),
        (&draft.response_body, "response_body_left_out"),
    ] {
        let bytes = body.state.left_out;
        if bytes > 0 {
            field(out, name, format_args!("{bytes}"));
        }
    }
}

/// The messages of a WebSocket.
pub(super) fn websocket(draft: &Draft, out: &mut Vec<u8>) {
    let Some(conversation) = &draft.conversation else {
        return;
    };
    field(out, "stream", format_args!("websocket"));
    if let Some(code) = conversation.code {
        field(out, "websocket_close_code", format_args!("{code}"));
    }
    let by = conversation.closed_by.map_or("none", side_name);
    field(out, "websocket_close_by", format_args!("{by}"));
}

/// Which part of an exchange the line is.
pub(super) fn part(draft: &Draft, out: &mut Vec<u8>) {
    field(out, "stream_part", format_args!("{}", draft.state.part));
    if draft.state.is_last_part {
        field(out, "stream_part_last", format_args!("true"));
    }
}

const fn side_name(side: Side) -> &'static str {
    match side {
        Side::Request => "client",
        Side::Response => "server",
    }
}

/// The version, and what only HTTP/2 has.
fn http_version(draft: &Draft, out: &mut Vec<u8>) {
    let state = &draft.state;
    if let Some(version) = state.version {
        field(out, "http_version", format_args!("{}", version.number()));
    }
    let times = [state.response_times, state.request_times];
    let stream = times
        .iter()
        .flatten()
        .find_map(|times| times.message.stream());
    let Some(stream) = stream else { return };
    field(out, "stream_id", format_args!("{stream}"));
    if state.is_pushed {
        field(out, "pushed", format_args!("true"));
    }
    if let Some((by, code)) = state.reset {
        match usize::try_from(code).ok().and_then(|code| ERRORS.get(code)) {
            Some(name) => field(out, "reset", format_args!("{name}")),
            None => field(out, "reset", format_args!("{code}")),
        }
        field(out, "reset_by", format_args!("{}", side_name(by)));
    }
    if state.unknown_fields > 0 {
        field(
            out,
            "unknown_fields",
            format_args!("{}", state.unknown_fields),
        );
    }
}

/// Names of the error codes of HTTP/2 (RFC 9113 §7).
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Every value consists of digits, letters, dots and colons, so nothing needs an escape.
fn field(out: &mut Vec<u8>, name: &str, value: std::fmt::Arguments<'_>) {
    // Writing to a vector does not fail.
    let _ = write!(out, "[\"custom_field:{name}\",\"{value}\"],");
}

/// Shows an IPv4 address that is mapped into IPv6 as IPv4.
pub(super) struct Address(pub(super) Endpoint);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ipv6Addr::from(self.0.addr).to_canonical().fmt(f)
    }
}
