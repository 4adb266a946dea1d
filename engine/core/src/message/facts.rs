//! Facts: annotations that are derived from other details of the call, under the rules.
//!
//! A rule that hides a detail must not leave it in another form. So a fact names the details that it comes from, and is shown
//! only if all of them are in the line as they were sent. A fact that is a number or one of a closed list has no text of its
//! sources; [`Config::keep_facts`](super::Config::keep_facts) shows it all the same. What is shown is a detail like any other:
//! a rule can name it (`custom_field:NAME`), and remove it or stop the call. The table for users is `docs/annotations.md`, which
//! a test compares with [`Fact::ALL`].

use crate::http::Side;
use crate::limits::FACT_BYTES_MAX;

/// A set of details that facts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details(u32);

impl Details {
    /// None: the fact comes from what is no detail.
    pub const NONE: Self = Self(0);
    /// `request_url`.
    pub const REQUEST_URL: Self = Self(1);
    /// `response_code`.
    pub const RESPONSE_CODE: Self = Self(1 << 1);
    /// `request_body`.
    pub const REQUEST_BODY: Self = Self(1 << 2);
    /// `response_body`.
    pub const RESPONSE_BODY: Self = Self(1 << 3);
    /// `request_header:content-type`.
    pub const REQUEST_TYPE: Self = Self(1 << 4);
    /// `response_header:content-type`.
    pub const RESPONSE_TYPE: Self = Self(1 << 5);
    /// `response_header:grpc-status`.
    pub const GRPC_STATUS: Self = Self(1 << 6);
    /// `request_header:grpc-timeout` and `request_header:connect-timeout-ms`.
    pub const TIMEOUT: Self = Self(1 << 7);
    /// `request_header:grpc-encoding` and the same header of Connect.
    pub const REQUEST_ENCODING: Self = Self(1 << 8);
    /// `response_header:grpc-encoding` and the same header of Connect.
    pub const RESPONSE_ENCODING: Self = Self(1 << 9);
    /// `request_header:connect-protocol-version`.
    pub const CONNECT_VERSION: Self = Self(1 << 10);
    /// `request_header:soapaction`.
    pub const SOAP_ACTION: Self = Self(1 << 11);
    /// `request_header:mcp-method`, `request_header:mcp-name` and the others of the Model Context Protocol.
    pub const MCP: Self = Self(1 << 12);

    /// The headers of these sets.
    const HEADERS: [(Self, Side, &'static str); 17] = [
        (Self::SOAP_ACTION, Side::Request, "soapaction"),
        (Self::MCP, Side::Request, "mcp-method"),
        (Self::MCP, Side::Request, "mcp-name"),
        (Self::MCP, Side::Request, "mcp-session-id"),
        (Self::MCP, Side::Request, "mcp-protocol-version"),
        (
            Self::CONNECT_VERSION,
            Side::Request,
            "connect-protocol-version",
        ),
        (Self::REQUEST_TYPE, Side::Request, "content-type"),
        (Self::RESPONSE_TYPE, Side::Response, "content-type"),
        (Self::GRPC_STATUS, Side::Response, "grpc-status"),
        (Self::TIMEOUT, Side::Request, "grpc-timeout"),
        (Self::TIMEOUT, Side::Request, "connect-timeout-ms"),
        (Self::REQUEST_ENCODING, Side::Request, "grpc-encoding"),
        (
            Self::REQUEST_ENCODING,
            Side::Request,
            "connect-content-encoding",
        ),
        (Self::REQUEST_ENCODING, Side::Request, "content-encoding"),
        (Self::RESPONSE_ENCODING, Side::Response, "grpc-encoding"),
        (
            Self::RESPONSE_ENCODING,
            Side::Response,
            "connect-content-encoding",
        ),
        (Self::RESPONSE_ENCODING, Side::Response, "content-encoding"),
    ];

    /// Those of a response.
    pub(super) const OF_RESPONSE: Self = Self::RESPONSE_CODE
        .and(Self::RESPONSE_BODY)
        .and(Self::RESPONSE_TYPE)
        .and(Self::GRPC_STATUS)
        .and(Self::RESPONSE_ENCODING);

    /// All of both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one detail is in both.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The body of a side.
    pub const fn body(side: Side) -> Self {
        match side {
            Side::Request => Self::REQUEST_BODY,
            Side::Response => Self::RESPONSE_BODY,
        }
    }

    /// The set of a header; none if no fact comes from it.
    #[inline]
    pub fn header(side: Side, name: &[u8]) -> Self {
        const BYTES_MIN: usize = "mcp-name".len();
        match name {
            // All of them begin with one of these letters.
            [
                b'c' | b'C' | b'g' | b'G' | b'm' | b'M' | b's' | b'S' | ..=b' ',
                ..,
            ] if name.len() >= BYTES_MIN => Self::of_known(side, name),
            _ => Self::NONE,
        }
    }

    #[cold]
    fn of_known(side: Side, name: &[u8]) -> Self {
        let mut headers = Self::HEADERS.iter();
        let found = headers.find(|(_, of, known)| {
            *of == side && name.trim_ascii().eq_ignore_ascii_case(known.as_bytes())
        });
        found.map_or(Self::NONE, |(details, _, _)| *details)
    }

    /// The keys of its details.
    pub fn keys(self) -> Vec<String> {
        let plain = [
            (Self::REQUEST_URL, "request_url"),
            (Self::RESPONSE_CODE, "response_code"),
            (Self::REQUEST_BODY, "request_body"),
            (Self::RESPONSE_BODY, "response_body"),
        ];
        let plain = plain
            .iter()
            .filter(|(one, _)| self.meets(*one))
            .map(|(_, key)| (*key).to_owned());
        let headers = Self::HEADERS.iter().filter(|(one, _, _)| self.meets(*one));
        let headers = headers.map(|(_, side, name)| match side {
            Side::Request => format!("request_header:{name}"),
            Side::Response => format!("response_header:{name}"),
        });
        plain.chain(headers).collect()
    }
}

/// What the value of a fact may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Decimal digits.
    Number,
    /// One of a list that this program has.
    Listed,
    /// Text of the call.
    Text,
}

impl Class {
    /// Its name in the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Listed => "closed list",
            Self::Text => "text",
        }
    }
}

macro_rules! facts {
    ($($(#[doc = $text:literal])+ $variant:ident $name:literal $class:ident [$($from:ident)*];)+) => {
        /// All facts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fact {
            $($(#[doc = $text])+ $variant,)+
        }

        impl Fact {
            /// Every one, in the order of a line.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name after `custom_field:`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What its value may be.
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$variant => Class::$class,)+
                }
            }

            /// All details that it may come from; that of one call comes from some of them.
            pub const fn sources(self) -> Details {
                match self {
                    $(Self::$variant => Details::NONE$(.and(Details::$from))*,)+
                }
            }
        }
    };
}

facts! {
    /// What an extended CONNECT opens (RFC 8441).
    ConnectProtocol "connect_protocol" Text [];
    /// Whole messages of the client of a WebSocket.
    WebsocketRequestMessages "websocket_request_messages" Number [REQUEST_BODY];
    /// Those of the server.
    WebsocketResponseMessages "websocket_response_messages" Number [RESPONSE_BODY];
    /// Bytes of those of the client, decompressed as far as that is possible.
    WebsocketRequestMessageBytes "websocket_request_message_bytes" Number [REQUEST_BODY];
    /// Bytes of those of the server.
    WebsocketResponseMessageBytes "websocket_response_message_bytes" Number [RESPONSE_BODY];
    /// Events with data of an event stream.
    SseEvents "sse_events" Number [RESPONSE_BODY];
    /// Documents of a response with one on each line.
    NdjsonLines "ndjson_lines" Number [RESPONSE_BODY];
    /// Packet time of the end of the first of them, nanoseconds since the epoch.
    FirstEvent "first_event" Number [RESPONSE_BODY];
    /// That of the last.
    LastEvent "last_event" Number [RESPONSE_BODY];
    /// How such a response ended: `done`, `error`, `cut`, `reset`.
    StreamEnd "stream_end" Listed [RESPONSE_BODY];
    /// `grpc`, `grpc_web`, `connect`.
    RpcSystem "rpc_system" Listed [REQUEST_URL REQUEST_TYPE RESPONSE_TYPE CONNECT_VERSION];
    /// The service of the path.
    RpcService "rpc_service" Text [REQUEST_URL];
    /// The method of the path.
    RpcMethod "rpc_method" Text [REQUEST_URL];
    /// The number of the status of gRPC.
    RpcStatusCode "rpc_status_code" Number [RESPONSE_CODE RESPONSE_BODY GRPC_STATUS];
    /// Its name; a number that has none.
    RpcStatus "rpc_status" Listed [RESPONSE_CODE RESPONSE_BODY GRPC_STATUS];
    /// What the call asks for.
    Operation "operation" Text [REQUEST_URL REQUEST_BODY REQUEST_TYPE SOAP_ACTION MCP];
    /// What the operation is one of.
    OperationKind "operation_kind" Listed [REQUEST_URL REQUEST_BODY REQUEST_TYPE RESPONSE_TYPE CONNECT_VERSION SOAP_ACTION MCP];
    /// Errors in a response of status 200.
    ApplicationErrors "application_errors" Number [RESPONSE_CODE RESPONSE_BODY];
    /// How long the client waits, in milliseconds.
    RpcTimeoutMs "rpc_timeout_ms" Number [TIMEOUT];
    /// Whole messages of the request.
    RpcRequestMessages "rpc_request_messages" Number [REQUEST_BODY];
    /// Their bytes, without prefixes and compression.
    RpcRequestMessageBytes "rpc_request_message_bytes" Number [REQUEST_BODY];
    /// Whole messages of the response.
    RpcResponseMessages "rpc_response_messages" Number [RESPONSE_BODY];
    /// Their bytes, without prefixes and compression.
    RpcResponseMessageBytes "rpc_response_message_bytes" Number [RESPONSE_BODY];
    /// The coding of the messages of the request, unless they have none.
    RpcRequestEncoding "rpc_request_encoding" Listed [REQUEST_ENCODING];
    /// That of the response.
    RpcResponseEncoding "rpc_response_encoding" Listed [RESPONSE_ENCODING];
}

/// What was derived of one call so far: each fact once, the latest.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Number of the fact, details that it comes from, length of the value, value.
    bytes: Vec<u8>,
    /// A bit for each fact that may be among them, by its number.
    seen: u64,
    /// Nothing shows them, so none is kept.
    is_off: bool,
}

/// Bytes before a value.
const PREFIX: usize = 7;

impl Facts {
    /// Adds a fact that comes from these details of this call. Its value is cut at [`FACT_BYTES_MAX`].
    #[cold]
    pub(super) fn add(&mut self, fact: Fact, from: Details, value: &[u8]) {
        debug_assert!(
            !Details(!fact.sources().0).meets(from),
            "{fact:?} from other details than the table has"
        );
        if self.is_off {
            return;
        }
        self.remove(fact);
        if !value.is_empty() {
            let value = value.get(..FACT_BYTES_MAX).unwrap_or(value);
            self.append(fact, from, |bytes| bytes.extend_from_slice(value));
        }
    }

    /// Appends a fact that is not among them, with the value that `write` appends.
    fn append(&mut self, fact: Fact, from: Details, write: impl FnOnce(&mut Vec<u8>)) {
        let [a, b, c, d] = from.0.to_le_bytes();
        self.bytes
            .extend_from_slice(&[fact as u8, a, b, c, d, 0, 0]);
        let start = self.bytes.len();
        write(&mut self.bytes);
        let length = (self.bytes.len() - start) as u16;
        if let Some(place) = self.bytes.get_mut(start - 2..start) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// As [`Self::add`], for a number.
    pub(super) fn add_number(&mut self, fact: Fact, from: Details, number: u64) {
        debug_assert!(
            !Details(!fact.sources().0).meets(from),
            "{fact:?} from other details than the table has"
        );
        if self.is_off {
            return;
        }
        self.remove(fact);
        self.append(fact, from, |bytes| crate::ndjson::decimal(number, bytes));
    }

    /// Removes what comes from one of these details.
    pub(super) fn remove_from(&mut self, details: Details) {
        let others: Vec<u8> = self
            .entries()
            .filter(|entry| !entry.from.meets(details))
            .flat_map(|entry| entry.whole.to_vec())
            .collect();
        self.bytes = others;
    }

    fn remove(&mut self, fact: Fact) {
        if self.bytes.is_empty() {
            self.seen = 0;
        }
        let bit = 1 << (fact as u8 % 64);
        if self.seen & bit == 0 {
            self.seen |= bit;
            return;
        }
        let mut start = 0;
        let found = self.entries().find_map(|entry| {
            let range = start..start + entry.whole.len();
            start = range.end;
            (entry.number == fact as u8).then_some(range)
        });
        if let Some(range) = found {
            self.bytes.drain(range);
        }
    }

    /// Whether none is kept, since nothing shows them.
    pub(super) fn is_off(&self) -> bool {
        self.is_off
    }

    /// Sets whether facts are kept from now on.
    pub(super) fn set_off(&mut self, is_off: bool) {
        self.is_off = is_off;
    }

    /// Removes all.
    pub(super) fn remove_all(&mut self) {
        self.bytes.clear();
    }

    /// Copies all of another call.
    pub(super) fn copy(&mut self, of: &Self) {
        self.bytes.clone_from(&of.bytes);
        (self.seen, self.is_off) = (of.seen, of.is_off);
    }

    /// The value of a fact, with the details that it comes from.
    pub(super) fn get(&self, fact: Fact) -> Option<(Details, &[u8])> {
        let mut entries = self.entries();
        let found = entries.find(|entry| entry.number == fact as u8)?;
        Some((found.from, found.whole.get(PREFIX..)?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Its memory.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (&[number, a, b, c, d, low, high], _) = rest.split_first_chunk::<PREFIX>()?;
            let length = usize::from(u16::from_le_bytes([low, high]));
            let (whole, behind) = rest.split_at_checked(PREFIX + length)?;
            rest = behind;
            Some(Entry {
                number,
                from: Details(u32::from_le_bytes([a, b, c, d])),
                whole,
            })
        })
    }
}

struct Entry<'a> {
    number: u8,
    from: Details,
    whole: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_value_counts_and_long_ones_are_cut() {
        let mut facts = Facts::default();
        facts.add(Fact::RpcMethod, Details::REQUEST_URL, b"One");
        facts.add_number(Fact::RpcStatusCode, Details::GRPC_STATUS, 0);
        facts.add(Fact::RpcMethod, Details::REQUEST_URL, b"Other");
        facts.add_number(Fact::RpcStatusCode, Details::GRPC_STATUS, 13);
        let method = facts.get(Fact::RpcMethod);
        assert_eq!(method, Some((Details::REQUEST_URL, &b"Other"[..])));
        let status = facts.get(Fact::RpcStatusCode);
        assert_eq!(status, Some((Details::GRPC_STATUS, &b"13"[..])));
        facts.add(Fact::RpcService, Details::REQUEST_URL, &[b'x'; 70_000]);
        let service = facts.get(Fact::RpcService).map(|(_, value)| value.len());
        assert_eq!(service, Some(FACT_BYTES_MAX));
        facts.add(Fact::RpcMethod, Details::REQUEST_URL, b"");
        assert_eq!(facts.get(Fact::RpcMethod), None);
        facts.remove_from(Details::GRPC_STATUS);
        assert_eq!(facts.get(Fact::RpcStatusCode), None);
        assert!(facts.get(Fact::RpcService).is_some() && !facts.is_empty());
    }

    #[test]
    fn headers_are_found_without_regard_to_case() {
        let status = Details::header(Side::Response, b"Grpc-Status");
        assert_eq!(status, Details::GRPC_STATUS);
        let other = Details::header(Side::Request, b"grpc-status");
        assert_eq!(other, Details::NONE);
    }
}
