//! Facts: none is shown where a rule changed what it comes from.

use super::*;

/// A call that has a fact, with its value and the keys of the details that it comes from.
struct Example {
    fact: Fact,
    value: &'static str,
    from: &'static [&'static str],
    request: &'static str,
    response: &'static str,
}

const GRPC: &str = "POST /acme.Pay/Charge HTTP/1.1\nHost: h\nContent-Type: application/grpc\n\
    Grpc-Timeout: 5S\nGrpc-Encoding: gzip\n\n";
const GRPC_ANSWER: &str = "HTTP/1.1 200 OK\nContent-Type: application/grpc\nGrpc-Encoding: zstd\n\
    Grpc-Status: 5\n\n";
const CONNECT: &str = "POST /acme.Pay/Charge HTTP/1.1\nHost: h\nContent-Type: application/json\n\
    Connect-Protocol-Version: 1\nConnect-Timeout-Ms: 70\n\n{}";
const CONNECT_ERROR: &str =
    "HTTP/1.1 404 No\nContent-Type: application/json\n\n{\"code\":\"not_found\"}";
const MESSAGES: &str = "POST /acme.Pay/Charge HTTP/1.1\nHost: h\nContent-Type: application/grpc\n\n\
    \0\0\0\0\x02\x08\x01";
const MESSAGES_ANSWER: &str =
    "HTTP/1.1 200 OK\nContent-Type: application/grpc\n\n\0\0\0\0\x03\x0a\x01x";
const GRAPHQL: &str = "POST /graphql HTTP/1.1\nHost: h\nContent-Type: application/json\n\n\
    {\"query\":\"query Users { users { id } }\"}";
const GRAPHQL_ANSWER: &str = "HTTP/1.1 200 OK\nContent-Type: application/graphql-response+json\n\n\
    {\"errors\":[{},{}]}";
const GRAPHQL_DOCUMENT: &str = "POST /graphql HTTP/1.1\nHost: h\nContent-Type: application/graphql\n\nquery Users { users { id } }";
const JSON_RPC: &str = "POST /rpc HTTP/1.1\nHost: h\nContent-Type: application/json\n\n\
    {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
const JSON_RPC_ANSWER: &str = "HTTP/1.1 200 OK\nContent-Type: application/json; charset=utf-8\n\n\
    {\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-1}}";
const MCP: &str = "POST /mcp HTTP/1.1\nHost: h\nContent-Type: application/json\n\
    Mcp-Protocol-Version: 2025-06-18\n\n\
    {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"weather\"}}";
const MCP_NAMED: &str = "POST /mcp HTTP/1.1\nHost: h\nContent-Type: application/json\n\
    Mcp-Method: tools/call\nMcp-Name: forecast\n\n{}";
const SOAP: &str =
    "POST /pay HTTP/1.1\nHost: h\nContent-Type: text/xml\nSOAPAction: \"urn:pay\"\n\n<a/>";
const SOAP_12: &str = "POST /pay HTTP/1.1\nHost: h\n\
    Content-Type: application/soap+xml; charset=utf-8; action=\"urn:pay2\"\n\n<a/>";
const SOAP_FAULT: &str = "HTTP/1.1 200 OK\nContent-Type: text/xml\n\n\
    <Envelope><Body><Fault/></Body></Envelope>";
const MCP_EVENTS: &str = "HTTP/1.1 200 OK\nContent-Type: text/event-stream\n\n\
    event: message\ndata: {\"jsonrpc\":\"2.0\",\"result\":{\"isError\":true}}\n\n\
    data: {\"jsonrpc\":\"2.0\",\"result\":{}}\n\ndata: {\"jsonrpc\":\"2.0\",\"error\":{}}\n\n";
/// What follows are the messages of [`converse`].
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\n\n";
const CONNECT_GET: &str = "GET /acme.Pay/Charge?connect=v1&encoding=json HTTP/1.1\nHost: h\n\n";
const JSON: &str = "HTTP/1.1 200 OK\nContent-Type: application/json\n\n{}";
const GET: &str = "GET / HTTP/1.1\nHost: h\n\n";
const EVENTS: &str = "HTTP/1.1 200 OK\nContent-Type: text/event-stream\n\ndata:1\n\n";
const LINES: &str = "HTTP/1.1 200 OK\nContent-Type: application/x-ndjson\n\n{}\n{}\n";

const fn example(
    fact: Fact,
    value: &'static str,
    from: &'static [&'static str],
    request: &'static str,
    response: &'static str,
) -> Example {
    Example {
        fact,
        value,
        from,
        request,
        response,
    }
}

const EXAMPLES: &[Example] = &[
    example(
        Fact::WebsocketRequestMessages,
        "2",
        &["request_body"],
        GET,
        SWITCHED,
    ),
    example(
        Fact::WebsocketRequestMessageBytes,
        "5",
        &["request_body"],
        GET,
        SWITCHED,
    ),
    example(
        Fact::WebsocketResponseMessages,
        "1",
        &["response_body"],
        GET,
        SWITCHED,
    ),
    example(
        Fact::WebsocketResponseMessageBytes,
        "7",
        &["response_body"],
        GET,
        SWITCHED,
    ),
    example(
        Fact::ApplicationErrors,
        "2",
        &["response_body", "response_code"],
        MCP,
        MCP_EVENTS,
    ),
    example(
        Fact::ApplicationErrors,
        "1",
        &["response_body", "response_code"],
        SOAP,
        SOAP_FAULT,
    ),
    example(Fact::SseEvents, "1", &["response_body"], GET, EVENTS),
    example(Fact::NdjsonLines, "2", &["response_body"], GET, LINES),
    example(Fact::FirstEvent, "0", &["response_body"], GET, EVENTS),
    example(Fact::LastEvent, "0", &["response_body"], GET, EVENTS),
    example(Fact::StreamEnd, "done", &["response_body"], GET, EVENTS),
    example(
        Fact::RpcSystem,
        "grpc",
        &["request_header:content-type"],
        GRPC,
        GRPC_ANSWER,
    ),
    example(
        Fact::RpcSystem,
        "connect",
        &["request_header:connect-protocol-version"],
        CONNECT,
        JSON,
    ),
    example(
        Fact::RpcSystem,
        "connect",
        &["request_url"],
        CONNECT_GET,
        JSON,
    ),
    example(
        Fact::RpcService,
        "acme.Pay",
        &["request_url"],
        GRPC,
        GRPC_ANSWER,
    ),
    example(
        Fact::RpcMethod,
        "Charge",
        &["request_url"],
        CONNECT_GET,
        JSON,
    ),
    example(
        Fact::RpcStatusCode,
        "5",
        &["response_header:grpc-status"],
        GRPC,
        GRPC_ANSWER,
    ),
    example(
        Fact::RpcStatus,
        "NOT_FOUND",
        &["response_header:grpc-status"],
        GRPC,
        GRPC_ANSWER,
    ),
    example(Fact::RpcStatus, "OK", &["response_code"], CONNECT, JSON),
    example(
        Fact::RpcTimeoutMs,
        "5000",
        &["request_header:grpc-timeout"],
        GRPC,
        GRPC_ANSWER,
    ),
    example(
        Fact::RpcTimeoutMs,
        "70",
        &["request_header:connect-timeout-ms"],
        CONNECT,
        JSON,
    ),
    example(
        Fact::RpcStatus,
        "NOT_FOUND",
        &["response_code", "response_body"],
        CONNECT,
        CONNECT_ERROR,
    ),
    example(
        Fact::RpcRequestMessages,
        "1",
        &["request_body"],
        MESSAGES,
        MESSAGES_ANSWER,
    ),
    example(
        Fact::RpcRequestMessageBytes,
        "2",
        &["request_body"],
        MESSAGES,
        MESSAGES_ANSWER,
    ),
    example(
        Fact::RpcResponseMessages,
        "1",
        &["response_body"],
        MESSAGES,
        MESSAGES_ANSWER,
    ),
    example(
        Fact::RpcResponseMessageBytes,
        "3",
        &["response_body"],
        MESSAGES,
        MESSAGES_ANSWER,
    ),
    example(
        Fact::Operation,
        "acme.Pay/Charge",
        &["request_url"],
        GRPC,
        GRPC_ANSWER,
    ),
    example(
        Fact::OperationKind,
        "grpc",
        &["request_url", "request_header:content-type"],
        GRPC,
        GRPC_ANSWER,
    ),
    example(
        Fact::OperationKind,
        "connect",
        &["request_url", "request_header:connect-protocol-version"],
        CONNECT,
        JSON,
    ),
    example(
        Fact::Operation,
        "Users",
        &["request_body"],
        GRAPHQL,
        GRAPHQL_ANSWER,
    ),
    example(
        Fact::OperationKind,
        "graphql",
        &["request_body"],
        GRAPHQL,
        GRAPHQL_ANSWER,
    ),
    example(
        Fact::ApplicationErrors,
        "2",
        &["response_body", "response_code"],
        GRAPHQL,
        GRAPHQL_ANSWER,
    ),
    example(
        Fact::Operation,
        "Users",
        &["request_body"],
        GRAPHQL_DOCUMENT,
        JSON,
    ),
    example(
        Fact::Operation,
        "ping",
        &["request_body"],
        JSON_RPC,
        JSON_RPC_ANSWER,
    ),
    example(
        Fact::OperationKind,
        "json_rpc",
        &["request_body"],
        JSON_RPC,
        JSON_RPC_ANSWER,
    ),
    example(
        Fact::ApplicationErrors,
        "1",
        &["response_body", "response_code"],
        JSON_RPC,
        JSON_RPC_ANSWER,
    ),
    example(
        Fact::Operation,
        "tools/call weather",
        &["request_body", "request_header:mcp-protocol-version"],
        MCP,
        JSON,
    ),
    example(
        Fact::OperationKind,
        "mcp",
        &["request_body", "request_header:mcp-protocol-version"],
        MCP,
        JSON,
    ),
    example(
        Fact::Operation,
        "tools/call forecast",
        &["request_header:mcp-method", "request_header:mcp-name"],
        MCP_NAMED,
        JSON,
    ),
    example(
        Fact::Operation,
        "urn:pay",
        &["request_header:soapaction"],
        SOAP,
        JSON,
    ),
    example(
        Fact::OperationKind,
        "soap",
        &["request_header:soapaction"],
        SOAP,
        JSON,
    ),
    example(
        Fact::Operation,
        "urn:pay2",
        &["request_header:content-type"],
        SOAP_12,
        JSON,
    ),
    example(
        Fact::RpcRequestEncoding,
        "gzip",
        &["request_header:grpc-encoding"],
        GRPC,
        GRPC_ANSWER,
    ),
    example(
        Fact::RpcResponseEncoding,
        "zstd",
        &["response_header:grpc-encoding"],
        GRPC,
        GRPC_ANSWER,
    ),
];

impl Example {
    /// The value of the fact under these rules; nothing if it is not shown, or the call is dropped.
    fn under(&self, rules: &str, keep_facts: bool) -> Option<String> {
        let mut writer = writer(
            &format!("include debug\n{rules}"),
            Config {
                annotate: true,
                keep_facts,
                websocket: true,
                ..config()
            },
        );
        if self.response == SWITCHED {
            converse(&mut writer);
        } else {
            let (request, response) = exchange(self.request, self.response);
            play(&mut writer, &request, &response, 1_000_000, 5, 3);
        }
        let details = writer.output().0.first().map(|(line, _)| pairs(line))?;
        let key = format!("custom_field:{}", self.fact.name());
        value_of(&details, &key).map(str::to_owned)
    }
}

/// Two messages of the client and one of the server behind a handshake, of which there is no line.
fn converse(writer: &mut LineWriter<Lines>) {
    use crate::http::{MessageKind, MessagePart, Opening};
    let flow = flow();
    let origin = Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(0),
        time: Timestamp::ZERO,
    };
    let head = RequestHead::new(b"GET", b"/chat", Version::Http11, &[]);
    let mut handshake = writer.request(&head, &origin);
    let head = ResponseHead::new(101, Version::Http11, &[]);
    writer.response(&mut handshake, &head, &origin);
    let draft = writer.conversation(&handshake, Opening::default());
    let mut draft = draft.expect("they are read");
    for (side, text) in [
        (Side::Request, "hi"),
        (Side::Response, "welcome"),
        (Side::Request, "bye"),
    ] {
        let part = MessagePart {
            time: Timestamp::ZERO,
            kind: MessageKind::Text,
            is_compressed: false,
            bytes: text.as_bytes(),
            is_last: true,
        };
        writer.message(&mut draft, side, &part);
    }
    for side in [Side::Request, Side::Response] {
        writer.end(&mut draft, side, BodyEnd::Complete, Timestamp::ZERO);
    }
    writer.finish(draft);
    let lines = writer.output().0.len();
    writer.finish(handshake);
    writer.output().0.truncate(lines);
}

#[test]
fn counts_of_websockets_need_no_annotations() {
    let config = Config {
        websocket: true,
        ..config()
    };
    let mut writer = writer("include debug", config);
    converse(&mut writer);
    let details = only_line(&mut writer);
    let key = "custom_field:websocket_request_messages";
    assert_eq!(value_of(&details, key), Some("2"));
    let others = details.iter().filter(|(key, _)| key.starts_with("custom"));
    assert_eq!(others.count(), 6, "{details:?}");
}

#[test]
fn every_fact_is_hidden_with_what_it_comes_from() {
    let mut count = 0;
    for example in EXAMPLES {
        let Example { fact, value, .. } = example;
        assert_eq!(
            example.under("", false).as_deref(),
            Some(*value),
            "{fact:?}"
        );
        let sources = fact.sources().keys();
        for key in example.from {
            assert!(sources.iter().any(|source| source == key), "{fact:?} {key}");
            for rule in [
                format!("/{key}/ remove"),
                format!("/{key}/ replace /./, /x/"),
                format!("/{key}/ remove_if_found /./"),
            ] {
                assert_eq!(example.under(&rule, false), None, "{fact:?} under {rule}");
                let kept = example.under(&rule, true);
                let expected = (fact.class() != Class::Text).then_some(*value);
                // What nothing of can leave is not always read.
                if kept.is_some() {
                    assert_eq!(kept.as_deref(), expected, "{fact:?} kept under {rule}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > EXAMPLES.len(), "{count} are kept");
}

#[test]
fn every_fact_can_be_named_by_a_rule() {
    for example in EXAMPLES {
        let name = example.fact.name();
        for rule in [
            format!("/custom_field:{name}/ remove"),
            format!("/custom_field:{name}/ stop_if_found /./"),
        ] {
            assert_eq!(example.under(&rule, true), None, "{rule}");
        }
        let rule = format!("/custom_field:{name}/ replace /.+/, /-/");
        assert_eq!(example.under(&rule, true).as_deref(), Some("-"), "{rule}");
    }
}

#[test]
fn every_fact_has_an_example() {
    for fact in Fact::ALL {
        let is_there = EXAMPLES.iter().any(|example| example.fact == *fact);
        assert!(is_there || *fact == Fact::ConnectProtocol, "{fact:?}");
    }
}

/// It comes from no detail, since no detail has it.
#[test]
fn what_an_extended_connect_opens_can_be_removed() {
    let shown = |rules: &str| {
        let mut writer = writer(
            &format!("include debug\n{rules}"),
            Config {
                annotate: true,
                ..config()
            },
        );
        let flow = flow();
        let origin = Origin {
            flow: &flow,
            client_is_originator: true,
            call_index: 1,
            message: MessageId::on_stream(1),
            time: Timestamp::ZERO,
        };
        let head = RequestHead {
            protocol: Some(b"web\"socket"),
            ..RequestHead::new(b"CONNECT", b"/chat", Version::Http2, &[])
        };
        let mut draft = writer.request(&head, &origin);
        let head = ResponseHead::new(200, Version::Http2, &[]);
        writer.response(&mut draft, &head, &origin);
        writer.finish(draft);
        let details = pairs(&writer.output().0[0].0);
        value_of(&details, "custom_field:connect_protocol").map(str::to_owned)
    };
    assert_eq!(shown("").as_deref(), Some("web\"socket"));
    assert_eq!(shown("/custom_field:connect_.*/ remove"), None);
}

#[test]
fn a_line_of_facts_alone_is_empty() {
    let example = &EXAMPLES[0];
    assert_eq!(
        example.under("/(request|response).*|now|interval/ remove", true),
        None
    );
}

/// A client that has its answer leaves before the stream ends: the events that came count all the same.
#[test]
fn errors_in_a_stream_that_was_cut() {
    let shown = |response: &str| {
        let mut writer = writer(
            "include debug",
            Config {
                annotate: true,
                ..config()
            },
        );
        let (request, response) = exchange(MCP, response);
        play(&mut writer, &request, &response, 1_000_000, 5, 3);
        let details = pairs(&writer.output().0[0].0);
        let value = value_of(&details, "custom_field:application_errors");
        (
            value.map(str::to_owned),
            writer.counters().calls_application_errors,
        )
    };
    let cut = |text: &str| text.replacen("\n\n", "\nContent-Length: 9999\n\n", 1);
    assert_eq!(shown(MCP_EVENTS), (Some("2".into()), 1));
    assert_eq!(shown(&cut(MCP_EVENTS)), (Some("2".into()), 1));
    // Of a document all is needed.
    assert_eq!(shown(JSON_RPC_ANSWER).1, 1);
    assert_eq!(shown(&cut(JSON_RPC_ANSWER)), (None, 0));
}
