//! What is derived of a call from its heads and its bodies: its [facts](super::facts), before the rules decide which are shown.

use prost_reflect::MessageDescriptor;

use super::content::Codings;
use super::draft::{Body, Draft, Mode};
use super::facts::{Details, Fact};
use super::messages::Messages;
use super::observer::{self, Observer};
use super::operation::{self, Kind};
use super::rpc::{self, Framing, Media, Status, System};
use super::{Config, json};
use crate::http::{Header, RequestHead, ResponseHead, Side};
use crate::rules::Charset;

/// Facts in the head of a request that is a remote procedure call.
#[cold]
pub(super) fn request(draft: &mut Draft, media: Media, head: &RequestHead<'_>) {
    begin_rpc(draft, media.system, Details::REQUEST_TYPE, head);
    if draft.facts.is_off() {
        return;
    }
    timeout(draft, head.headers);
    encoding(draft, Side::Request, media, head.headers);
}

/// Facts in the head of a request whose content type is not known, should its response show that it is a remote procedure call.
#[cold]
pub(super) fn may_be_rpc(draft: &mut Draft, head: &RequestHead<'_>) {
    draft.state.may_be_rpc = true;
    service_and_method(draft, head.target);
}

fn service_and_method(draft: &mut Draft, target: &[u8]) -> bool {
    let Some((service, method)) = rpc::service_and_method(target) else {
        return false;
    };
    let facts = &mut draft.facts;
    facts.add(Fact::RpcService, Details::REQUEST_URL, service);
    facts.add(Fact::RpcMethod, Details::REQUEST_URL, method);
    true
}

/// What a remote procedure call asks for, by its service and its method.
fn rpc_operation(draft: &mut Draft, system: System, from: Details) {
    let facts = &mut draft.facts;
    let part = |fact| facts.get(fact).map(|(_, name)| name);
    let (Some(service), Some(method)) = (part(Fact::RpcService), part(Fact::RpcMethod)) else {
        return;
    };
    let name = [service, method].join(&b'/');
    facts.add(Fact::Operation, Details::REQUEST_URL, &name);
    let from = from.and(Details::REQUEST_URL);
    facts.add(Fact::OperationKind, from, system.name().as_bytes());
}

/// The calls of Connect that look like any other: a JSON document to a server, with the version of the protocol in a header, and
/// a GET with the message in a parameter.
fn plain_connect(draft: &mut Draft, head: &RequestHead<'_>) {
    let version = find(head.headers, b"connect-protocol-version").is_some();
    let is_get = head.method == b"GET" && has_connect_param(head.target);
    if !version && !is_get {
        return;
    }
    let from = if version {
        Details::CONNECT_VERSION
    } else {
        Details::REQUEST_URL
    };
    begin_rpc(draft, System::Connect, from, head);
    timeout(draft, head.headers);
}

/// Facts in the head of a request of another kind: calls of Connect without messages, SOAP, the Model Context Protocol, and
/// whether the body may have an operation.
#[inline(never)]
pub(super) fn plain_request(
    draft: &mut Draft,
    head: &RequestHead<'_>,
    content_type: Option<&[u8]>,
) {
    if matches!(head.method, b"POST" | b"GET") {
        plain_connect(draft, head);
    }
    if head.method != b"POST" || draft.state.rpc.is_some() {
        return;
    }
    named(draft, head.headers);
    let Some(content_type) = content_type.filter(|_| draft.state.operation.is_none()) else {
        return;
    };
    let media = media_type(content_type);
    if media.eq_ignore_ascii_case(b"application/soap+xml") {
        if let Some(action) = param(content_type, b"action") {
            operation(draft, Kind::Soap, Details::REQUEST_TYPE, action);
        }
    } else if is_json(media) || media.eq_ignore_ascii_case(GRAPHQL) {
        draft.state.may_have_operation = true;
        draft.state.is_graphql = media.eq_ignore_ascii_case(GRAPHQL);
        collect(&mut draft.request_body);
    }
}

/// A body in which an operation may be named as one document.
const GRAPHQL: &[u8] = b"application/graphql";

/// Keeps a body until it is over, which it would not be otherwise.
fn collect(body: &mut Body) {
    if body.state.mode == Mode::Streamed {
        body.state.mode = Mode::Collected;
    }
}

/// Operations that a header names.
fn named(draft: &mut Draft, headers: &[Header<'_>]) {
    let (mut action, mut method, mut name) = (None, None, None);
    for header in headers {
        match header.name.first() {
            Some(b's' | b'S') if header.name.eq_ignore_ascii_case(b"soapaction") => {
                action = Some(header.value);
            }
            Some(b'm' | b'M') => {
                let is = |other: &[u8]| header.name.eq_ignore_ascii_case(other);
                if is(b"mcp-method") {
                    method = Some(header.value);
                } else if is(b"mcp-name") {
                    name = Some(header.value);
                } else if !is(b"mcp-session-id") && !is(b"mcp-protocol-version") {
                    continue;
                }
                draft.state.is_mcp = true;
            }
            _ => {}
        }
    }
    if let Some(method) = method {
        let parts: Vec<&[u8]> = std::iter::once(method).chain(name).collect();
        operation(draft, Kind::Mcp, Details::MCP, &parts.join(&b' '));
    } else if let Some(action) = action {
        operation(draft, Kind::Soap, Details::SOAP_ACTION, unquoted(action));
    }
}

fn operation(draft: &mut Draft, kind: Kind, from: Details, name: &[u8]) {
    if name.is_empty() {
        return;
    }
    draft.state.operation = Some(kind);
    let facts = &mut draft.facts;
    facts.add(Fact::Operation, from, name);
    facts.add(Fact::OperationKind, from, kind.name().as_bytes());
}

/// The operation in the body of a request, and errors in that of its response; whether there are some.
#[cold]
pub(super) fn of_body(draft: &mut Draft, side: Side, content: &[u8]) -> bool {
    if side == Side::Request {
        if !std::mem::take(&mut draft.state.may_have_operation) || draft.request_body.state.has_gap
        {
            return false;
        }
        let is_mcp = draft.state.is_mcp;
        let found = operation::of_json(content, is_mcp).or_else(|| {
            let document = str::from_utf8(content)
                .ok()
                .filter(|_| draft.state.is_graphql)?;
            Some((Kind::GraphQl, operation::of_graphql(document)))
        });
        if let Some((kind, name)) = found {
            let from = if is_mcp {
                Details::REQUEST_BODY.and(Details::MCP)
            } else {
                Details::REQUEST_BODY
            };
            operation(draft, kind, from, name.as_bytes());
        }
        return false;
    }
    let Some(kind) = draft.state.operation else {
        return false;
    };
    let body = &draft.response_body;
    let is_events = body.observer.is_some();
    // The events before the end of a stream that was cut are whole: clients leave once they have their answer.
    let is_whole = !body.state.has_gap || (is_events && body.state.missing == 0);
    if draft.state.status != 200 || !is_whole {
        return false;
    }
    let errors = if is_events {
        operation::errors_of_events(kind, content)
    } else {
        operation::errors(kind, content)
    };
    if errors > 0 {
        let from = Details::RESPONSE_CODE.and(Details::RESPONSE_BODY);
        let facts = &mut draft.facts;
        facts.add_number(Fact::ApplicationErrors, from, errors);
    }
    errors > 0
}

/// Keeps the body of a response that may hold errors.
#[cold]
pub(super) fn begin_errors(draft: &mut Draft, content_type: Option<&[u8]>) {
    let (Some(kind), Some(content_type)) = (draft.state.operation, content_type) else {
        return;
    };
    let media = media_type(content_type);
    let is = |name: &[u8]| media.eq_ignore_ascii_case(name);
    let may_hold_errors = match kind {
        Kind::GraphQl => is_json(media),
        Kind::JsonRpc | Kind::Mcp => is_json(media) || is(b"text/event-stream"),
        Kind::Soap => is(b"text/xml") || is(b"application/soap+xml"),
    };
    if may_hold_errors {
        collect(&mut draft.response_body);
    } else {
        draft.state.operation = None;
    }
}

/// A content type without its parameters.
fn media_type(content_type: &[u8]) -> &[u8] {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    content_type.get(..end).unwrap_or_default().trim_ascii()
}

/// Whether a type is that of JSON, or one that consists of it.
fn is_json(media: &[u8]) -> bool {
    let Some((before, last)) = media.split_last_chunk::<5>() else {
        return false;
    };
    !before.is_empty()
        && (last.eq_ignore_ascii_case(b"/json") || last.eq_ignore_ascii_case(b"+json"))
}

/// The value of a parameter of a content type.
fn param<'a>(content_type: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let params = content_type.split(|byte| *byte == b';').skip(1);
    let mut params = params.filter_map(|param| {
        let equals = memchr::memchr(b'=', param)?;
        let (name, value) = param.split_at_checked(equals)?;
        Some((name.trim_ascii(), value.get(1..)?))
    });
    let found = params.find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| unquoted(value))
}

fn unquoted(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    let inside = value.strip_prefix(b"\"");
    inside
        .and_then(|inside| inside.strip_suffix(b"\""))
        .unwrap_or(value)
}

fn begin_rpc(draft: &mut Draft, system: System, from: Details, head: &RequestHead<'_>) {
    draft.state.rpc = Some(system);
    if draft.facts.is_off() {
        return;
    }
    let facts = &mut draft.facts;
    facts.add(Fact::RpcSystem, from, system.name().as_bytes());
    if service_and_method(draft, head.target) {
        rpc_operation(draft, system, from);
    }
}

fn timeout(draft: &mut Draft, headers: &[Header<'_>]) {
    let grpc = find(headers, b"grpc-timeout").and_then(rpc::timeout_ms);
    let connect = || find(headers, b"connect-timeout-ms").and_then(rpc::number);
    if let Some(timeout) = grpc.or_else(connect) {
        let facts = &mut draft.facts;
        facts.add_number(Fact::RpcTimeoutMs, Details::TIMEOUT, timeout);
    }
}

/// The header that names the coding of the messages of a side.
fn encoding_name(media: Media) -> &'static [u8] {
    match (media.system, media.framing) {
        (System::Connect, Framing::Whole) => b"content-encoding",
        (System::Connect, _) => b"connect-content-encoding",
        _ => b"grpc-encoding",
    }
}

fn encoding(draft: &mut Draft, side: Side, media: Media, headers: &[Header<'_>]) {
    let (fact, from) = match side {
        Side::Request => (Fact::RpcRequestEncoding, Details::REQUEST_ENCODING),
        Side::Response => (Fact::RpcResponseEncoding, Details::RESPONSE_ENCODING),
    };
    if let Some(name) = find(headers, encoding_name(media)).and_then(rpc::encoding) {
        draft.facts.add(fact, from, name.as_bytes());
    }
}

/// What is known of the messages of a side.
#[cold]
pub(super) fn messages(draft: &mut Draft, side: Side) {
    let (body, count, bytes) = match side {
        Side::Request => (
            &draft.request_body,
            Fact::RpcRequestMessages,
            Fact::RpcRequestMessageBytes,
        ),
        Side::Response => (
            &draft.response_body,
            Fact::RpcResponseMessages,
            Fact::RpcResponseMessageBytes,
        ),
    };
    let (Some(observer), Some(messages)) = (&body.observer, &body.messages) else {
        return;
    };
    let (from, facts) = (Details::body(side), &mut draft.facts);
    facts.add_number(count, from, observer.seen.messages);
    facts.add_number(bytes, from, messages.bytes);
}

/// What is known of the messages of a WebSocket.
pub(super) fn conversation(draft: &mut Draft) {
    let Some(conversation) = &draft.conversation else {
        return;
    };
    let (facts, sides) = (&mut draft.facts, &**conversation);
    for (side, of_side, count, bytes) in [
        (
            Side::Request,
            &sides.request,
            Fact::WebsocketRequestMessages,
            Fact::WebsocketRequestMessageBytes,
        ),
        (
            Side::Response,
            &sides.response,
            Fact::WebsocketResponseMessages,
            Fact::WebsocketResponseMessageBytes,
        ),
    ] {
        facts.add_number(count, Details::body(side), of_side.seen.messages);
        facts.add_number(bytes, Details::body(side), of_side.bytes);
    }
}

/// The last frame of a stream of Connect: its error, if it has one.
#[cold]
pub(super) fn connect_end(draft: &mut Draft, side: Side, document: &[u8]) {
    if side == Side::Request {
        return;
    }
    let error = json::members(document).find(|(name, _)| *name == b"error");
    let status = match error {
        Some((_, error)) => connect_code(error),
        None => Some(Status::OK),
    };
    if let Some(status) = status {
        add_status(draft, Details::RESPONSE_BODY, status);
    }
}

/// The error in the place of a message of Connect.
#[cold]
pub(super) fn connect_error(draft: &mut Draft, document: &[u8]) {
    if draft.response_body.messages.is_none()
        && !draft.facts.is_off()
        && draft.facts.get(Fact::RpcStatus).is_none()
        && let Some(status) = connect_code(document)
    {
        let from = Details::RESPONSE_BODY.and(Details::RESPONSE_CODE);
        add_status(draft, from, status);
    }
}

fn connect_code(error: &[u8]) -> Option<Status> {
    let (_, code) = json::members(error).find(|(name, _)| *name == b"code")?;
    Status::of_word(&json::string(code)?)
}

/// What the messages of a side are, if a schema has them.
pub(super) fn schema(draft: &Draft, side: Side, config: &Config) -> Option<MessageDescriptor> {
    let schemas = config.schemas.as_ref()?;
    let (_, service) = draft.facts.get(Fact::RpcService)?;
    let (_, method) = draft.facts.get(Fact::RpcMethod)?;
    let (input, output) = schemas.of_method(service, method)?;
    Some(match side {
        Side::Request => input,
        Side::Response => output,
    })
}

/// The messages of a side, if they are of a remote procedure call: how they lie in the body, and what codes them.
#[cold]
pub(super) fn begin_messages(
    body: &mut Body,
    media: Media,
    headers: &[Header<'_>],
    config: &Config,
    schema: Option<MessageDescriptor>,
) {
    if body.state.codings.is_unknown() {
        return;
    }
    if body.state.mode == Mode::Streamed {
        body.state.mode = Mode::Collected;
    }
    // The type is known, and what becomes of the bytes is text in UTF-8.
    body.state.may_be_coded = false;
    body.state.charset = Charset::default();
    let codings = find(headers, encoding_name(media)).map(Codings::of_list);
    let codings = codings.unwrap_or_default();
    let special = match media.system {
        System::Grpc => None,
        System::GrpcWeb => Some((
            0x80,
            observer::Kind::Trailers {
                is_compressed: false,
            },
        )),
        System::Connect => Some((
            2,
            observer::Kind::Last {
                is_compressed: false,
            },
        )),
    };
    let messages = Messages::new(media, codings, config.protobuf_raw, schema);
    let (observer, kept) = body.spare.take().unzip();
    body.observer = (!messages.is_whole()).then(|| Observer::of_envelopes(special, observer));
    body.messages = Some(messages.in_box(kept));
}

/// Whether the body of a response of Connect is an error in the place of a message.
pub(super) fn has_connect_error(draft: &Draft, head: &ResponseHead<'_>) -> bool {
    draft.state.rpc == Some(System::Connect) && head.status != 200
}

/// Facts in the head of a response.
#[cold]
pub(super) fn response(draft: &mut Draft, media: Option<Media>, head: &ResponseHead<'_>) {
    if let Some(media) = media {
        if draft.state.rpc.is_none() {
            draft.state.rpc = Some(media.system);
            let (facts, name) = (&mut draft.facts, media.system.name());
            facts.add(Fact::RpcSystem, Details::RESPONSE_TYPE, name.as_bytes());
            if draft.state.may_be_rpc {
                rpc_operation(draft, media.system, Details::RESPONSE_TYPE);
            }
        }
        if !draft.facts.is_off() {
            encoding(draft, Side::Response, media, head.headers);
        }
    }
    status(draft, head.headers);
    let is_plain = media.is_none_or(|media| media.framing == Framing::Whole);
    if draft.state.rpc == Some(System::Connect) && is_plain && head.status == 200 {
        add_status(draft, Details::RESPONSE_CODE, Status::OK);
    }
}

/// The status of gRPC, in a head or behind the messages.
pub(super) fn status(draft: &mut Draft, headers: &[Header<'_>]) {
    if let Some(System::Grpc | System::GrpcWeb) = draft.state.rpc
        && !draft.facts.is_off()
        && let Some(status) = find(headers, b"grpc-status").and_then(Status::of_header)
    {
        add_status(draft, Details::GRPC_STATUS, status);
    }
}

pub(super) fn add_status(draft: &mut Draft, from: Details, status: Status) {
    let facts = &mut draft.facts;
    facts.add_number(Fact::RpcStatusCode, from, status.code());
    match status.name() {
        Some(name) => facts.add(Fact::RpcStatus, from, name.as_bytes()),
        None => facts.add_number(Fact::RpcStatus, from, status.code()),
    }
}

/// The messages of a response that is a stream of them.
#[cold]
pub(super) fn stream(draft: &mut Draft) {
    let (body, facts) = (&draft.response_body, &mut draft.facts);
    let Some(observer) = body.observer.as_ref().filter(|_| body.state.len > 0) else {
        return;
    };
    let (from, seen) = (Details::RESPONSE_BODY, &observer.seen);
    let fact = match observer.kind() {
        observer::Kind::Event => Fact::SseEvents,
        observer::Kind::Line => Fact::NdjsonLines,
        // A single message is no stream.
        _ if seen.messages < 2 => return,
        _ => Fact::RpcResponseMessages,
    };
    facts.add_number(fact, from, seen.messages);
    for (time, fact) in [(seen.first, Fact::FirstEvent), (seen.last, Fact::LastEvent)] {
        if let Some(time) = time {
            facts.add_number(fact, from, time.nanos());
        }
    }
    let end = observer.stream_end(draft.state.reset.is_some());
    facts.add(Fact::StreamEnd, from, end.as_bytes());
}

/// The value of the first of these headers that has this name.
fn find<'a>(headers: &[Header<'a>], name: &[u8]) -> Option<&'a [u8]> {
    let mut headers = headers.iter();
    let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
    found.map(|header| header.value)
}

/// Whether a query is that of a GET of Connect.
fn has_connect_param(target: &[u8]) -> bool {
    let query = target.splitn(2, |byte| *byte == b'?').nth(1);
    let mut params = query.unwrap_or_default().split(|byte| *byte == b'&');
    params.any(|param| param == b"connect=v1")
}
