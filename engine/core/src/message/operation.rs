//! Operations: what a call asks for where its URL does not show it, from the body of the request, and errors in a response that
//! has succeeded for HTTP.
//!
//! Source: GraphQL over HTTP, JSON-RPC 2.0, the Model Context Protocol (which is JSON-RPC), SOAP 1.1 and 1.2. Nothing is guessed from a path. The
//! work is linear in the body, and done only where the body has one of the words that such a request needs.

use std::borrow::Cow;
use std::hash::Hasher as _;

use memchr::memmem;
use siphasher::sip::SipHasher13;

use super::json;
use crate::limits::OPERATIONS_MAX;

/// What an operation is one of.
///
/// A remote procedure call has the name of its [`System`](super::rpc::System) in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    GraphQl,
    JsonRpc,
    Mcp,
    Soap,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::GraphQl => "graphql",
            Self::JsonRpc => "json_rpc",
            Self::Mcp => "mcp",
            Self::Soap => "soap",
        }
    }
}

/// The operations of a request whose body is JSON: one, or the first few of a batch, with commas between.
pub(super) fn of_json(body: &[u8], is_mcp: bool) -> Option<(Kind, String)> {
    const WORDS: [&[u8]; 3] = [b"\"jsonrpc\"", b"\"query\"", b"\"persistedQuery\""];
    if !WORDS.iter().any(|word| memmem::find(body, word).is_some()) {
        return None;
    }
    if !body.trim_ascii_start().starts_with(b"[") {
        return of_document(body, is_mcp);
    }
    let mut found = json::elements(body)
        .take(OPERATIONS_MAX)
        .filter_map(|element| of_document(element, is_mcp));
    let (kind, mut names) = found.next()?;
    for (_, name) in found {
        names.push(',');
        names.push_str(&name);
    }
    Some((kind, names))
}

fn of_document(document: &[u8], is_mcp: bool) -> Option<(Kind, String)> {
    let (mut version, mut method, mut params) = (None, None, None);
    let (mut query, mut name, mut extensions) = (None, None, None);
    for (key, value) in json::members(document) {
        match key {
            b"jsonrpc" => version = json::string(value),
            b"method" => method = json::string(value),
            b"params" => params = Some(value),
            b"query" => query = json::string(value),
            b"operationName" => name = json::string(value),
            b"extensions" => extensions = Some(value),
            _ => {}
        }
    }
    if version.as_deref() == Some("2.0") {
        let mut method = method?.into_owned();
        if !is_mcp && !is_start_of_mcp(&method, params) {
            return Some((Kind::JsonRpc, method));
        }
        if let Some(subject) = params.and_then(|params| mcp_subject(&method, params)) {
            method.push(' ');
            method.push_str(&subject);
        }
        return Some((Kind::Mcp, method));
    }
    let persisted = extensions.and_then(|extensions| {
        let persisted = member(extensions, b"persistedQuery")?;
        json::string(member(persisted, b"sha256Hash")?)
    });
    let query = query.filter(|query| query.contains('{'));
    if query.is_none() && persisted.is_none() {
        return None;
    }
    let name = name.filter(|name| !name.is_empty()).map(Cow::into_owned);
    let name = name.or_else(|| query.as_deref().map(of_graphql));
    Some((Kind::GraphQl, name.or(persisted.map(Cow::into_owned))?))
}

/// The name of the first operation of a document of GraphQL; of one without a name a hash of the document.
pub(super) fn of_graphql(document: &str) -> String {
    let name = name_in(document).map(str::to_owned);
    name.unwrap_or_else(|| {
        let mut hasher = SipHasher13::new();
        hasher.write(document.as_bytes());
        format!("anonymous {:016x}", hasher.finish())
    })
}

/// Walks over the tokens at the outermost level, where operations begin.
fn name_in(document: &str) -> Option<&str> {
    let mut rest = document;
    let mut depth = 0_usize;
    let mut is_operation = false;
    while let Some(first) = rest.bytes().next() {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let length = match first {
            b'#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            b'"' => string_length(rest),
            byte if is_name(byte) => rest
                .bytes()
                .position(|byte| !is_name(byte))
                .unwrap_or(rest.len()),
            byte if byte.is_ascii() => 1,
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        let (token, behind) = rest.split_at_checked(length)?;
        rest = behind;
        match first {
            b'{' | b'(' | b'[' if is_operation => return None,
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ if depth > 0 || !is_name(first) => {}
            _ if is_operation => return Some(token),
            _ => is_operation = matches!(token, "query" | "mutation" | "subscription"),
        }
    }
    None
}

/// The length of a string or block string at the beginning of a text.
fn string_length(text: &str) -> usize {
    if let Some(block) = text.strip_prefix("\"\"\"") {
        return block.find("\"\"\"").map_or(text.len(), |end| end + 6);
    }
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// What a method of the Model Context Protocol is applied to.
fn mcp_subject<'a>(method: &str, params: &'a [u8]) -> Option<Cow<'a, str>> {
    let key: &[u8] = match method {
        "tools/call" | "prompts/get" => b"name",
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => b"uri",
        _ => return None,
    };
    json::string(member(params, key)?)
}

/// The first request of a session, which has no header of the protocol yet.
fn is_start_of_mcp(method: &str, params: Option<&[u8]>) -> bool {
    let version = params.and_then(|params| member(params, b"protocolVersion"));
    method == "initialize" && version.is_some()
}

fn member<'a>(document: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut members = json::members(document);
    let found = members.find(|(other, _)| *other == name);
    found.map(|(_, value)| value)
}

/// How many errors the events of a response hold, of which the data are a document each.
pub(super) fn errors_of_events(kind: Kind, body: &[u8]) -> u64 {
    let mut count = 0;
    let mut data = Vec::new();
    let mut rest = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
        let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        let length = if behind.starts_with(b"\r\n") { 2 } else { 1 };
        rest = behind.get(length..).unwrap_or_default();
        if let Some(value) = line.strip_prefix(b"data:") {
            data.extend_from_slice(value);
            data.push(b'\n');
        } else if line.is_empty() {
            count += errors(kind, &data);
            data.clear();
        }
    }
    count
}

/// How many errors a response holds.
pub(super) fn errors(kind: Kind, body: &[u8]) -> u64 {
    if kind == Kind::Soap {
        return u64::from(is_fault(body));
    }
    const WORDS: [&[u8]; 2] = [b"\"error", b"\"isError\""];
    if !WORDS.iter().any(|word| memmem::find(body, word).is_some()) {
        return 0;
    }
    if body.trim_ascii_start().starts_with(b"[") {
        let each = json::elements(body).map(|element| errors_of(kind, element));
        return each.sum();
    }
    errors_of(kind, body)
}

fn errors_of(kind: Kind, document: &[u8]) -> u64 {
    let mut count = 0;
    for (name, value) in json::members(document) {
        count += match (kind, name) {
            (Kind::GraphQl, b"errors") => json::elements(value).count() as u64,
            (Kind::JsonRpc | Kind::Mcp, b"error") => u64::from(value.starts_with(b"{")),
            (Kind::Mcp, b"result") => u64::from(member(value, b"isError") == Some(b"true")),
            _ => 0,
        };
    }
    count
}

/// Whether an envelope of SOAP has a fault: the first element in its body is one, in any namespace.
fn is_fault(document: &[u8]) -> bool {
    if memmem::find(document, b"Fault").is_none() {
        return false;
    }
    let mut rest = document;
    let mut is_in_body = false;
    while let Some(start) = memchr::memchr(b'<', rest) {
        rest = rest.get(start + 1..).unwrap_or_default();
        // Comments and instructions; what is quoted in them is no element.
        let end: &[u8] = match rest {
            [b'!', b'-', b'-', ..] => b"-->",
            [b'!', b'[', ..] => b"]]>",
            [b'?', ..] => b"?>",
            _ => b"",
        };
        if !end.is_empty() {
            let Some(at) = memmem::find(rest, end) else {
                return false;
            };
            rest = rest.get(at..).unwrap_or_default();
            continue;
        }
        let name = rest.split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'>' | b'/'));
        let name = name.into_iter().next().unwrap_or_default();
        let local = name.rsplit(|byte| *byte == b':').next();
        if is_in_body && !name.is_empty() {
            return local == Some(b"Fault");
        }
        is_in_body = local == Some(b"Body");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, is_mcp: bool, expected: Option<(Kind, &str)>) {
        let found = of_json(body.as_bytes(), is_mcp);
        let found = found.as_ref().map(|(kind, name)| (*kind, name.as_str()));
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn requests_of_json_rpc() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"weather","arguments":{}}}"#;
        check(call, false, Some((Kind::JsonRpc, "tools/call")));
        check(call, true, Some((Kind::Mcp, "tools/call weather")));
        let list = r#"{"method":"tools/list","jsonrpc":"2.0"}"#;
        check(list, true, Some((Kind::Mcp, "tools/list")));
        let read = r#"{"jsonrpc":"2.0","method":"resources/read","params":{"uri":"file:///a"}}"#;
        check(read, true, Some((Kind::Mcp, "resources/read file:///a")));
        let start =
            r#"{"jsonrpc":"2.0","method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
        check(start, false, Some((Kind::Mcp, "initialize")));
        let other = r#"{"jsonrpc":"2.0","method":"initialize","params":{"rootUri":null}}"#;
        check(other, false, Some((Kind::JsonRpc, "initialize")));
        let batch = r#"[{"jsonrpc":"2.0","method":"a"},{},{"jsonrpc":"2.0","method":"b"}]"#;
        check(batch, false, Some((Kind::JsonRpc, "a,b")));
        for other in [
            r#"{"jsonrpc":"2.0","result":1}"#,
            r#"{"jsonrpc":"1.0","method":"a"}"#,
            r#"{"method":"a"}"#,
            r#"{"a":{"jsonrpc":"2.0","method":"a"}}"#,
            "[]",
            "",
        ] {
            check(other, false, None);
        }
    }

    #[test]
    fn requests_of_graphql() {
        let named = |query: &str| {
            let body = serde_json::json!({ "query": query, "variables": {} }).to_string();
            of_json(body.as_bytes(), false).map(|(_, name)| name)
        };
        for (query, name) in [
            ("query Users { users { id } }", "Users"),
            ("mutation  Pay($a: Int = 1) { pay(a: $a) }", "Pay"),
            ("# query No {}\nsubscription\nOn { x }", "On"),
            ("fragment F on User { query id } query G { ...F }", "G"),
            (
                "\"\"\" query No { \"\"\" query Yes @a(b: \"query X {\") { a }",
                "Yes",
            ),
        ] {
            assert_eq!(named(query).as_deref(), Some(name), "{query}");
        }
        let first = named("{ users { id } }").unwrap();
        let second = named("query { users { id name } }").unwrap();
        assert!(
            first.starts_with("anonymous ") && first.len() == 26,
            "{first}"
        );
        assert!(first != second && named("{ users { id } }") == Some(first));
        assert_eq!(named("shoes"), None, "a search");
        let chosen = r#"{"operationName":"B","query":"query A{a} query B{b}"}"#;
        check(chosen, false, Some((Kind::GraphQl, "B")));
        let persisted = r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"abc"}}}"#;
        check(persisted, false, Some((Kind::GraphQl, "abc")));
    }

    #[test]
    fn errors_within_a_response() {
        for (kind, body, expected) in [
            (
                Kind::GraphQl,
                r#"{"data":null,"errors":[{"message":"a"},{}]}"#,
                2,
            ),
            (Kind::GraphQl, r#"{"data":{"errors":[1]}}"#, 0),
            (Kind::GraphQl, r#"{"errors":[]}"#, 0),
            (Kind::JsonRpc, r#"{"jsonrpc":"2.0","error":{"code":-1}}"#, 1),
            (
                Kind::JsonRpc,
                r#"{"jsonrpc":"2.0","result":1,"error":null}"#,
                0,
            ),
            (
                Kind::JsonRpc,
                r#"[{"error":{}},{"result":1},{"error":{}}]"#,
                2,
            ),
            (Kind::Mcp, r#"{"result":{"content":[],"isError":true}}"#, 1),
            (Kind::Mcp, r#"{"result":{"isError":false}}"#, 0),
            (Kind::JsonRpc, "<error>", 0),
            (
                Kind::Soap,
                "<?xml version='1.0'?><s:Envelope xmlns:s='x'><s:Header><h>Body</h></s:Header>\
                 <!-- <s:Body><a> --><s:Body>\n<s:Fault><faultcode>a</faultcode></s:Fault></s:Body>",
                1,
            ),
            (Kind::Soap, "<Envelope><Body id=\"1\"><Fault/></Body>", 1),
            (
                Kind::Soap,
                "<Envelope><Body><m:Answer><Fault/></m:Answer></Body>",
                0,
            ),
            (
                Kind::Soap,
                "<Envelope><Body><m:Answer>Fault</m:Answer></Body>",
                0,
            ),
            (Kind::Soap, "<Envelope><Body/></Envelope><Fault>", 0),
            (Kind::Soap, "<Envelope><Body><![CDATA[<Fault>]]>", 0),
        ] {
            assert_eq!(errors(kind, body.as_bytes()), expected, "{body}");
        }
        for (events, expected) in [
            (
                "event: message\r\ndata: {\"jsonrpc\":\"2.0\",\r\ndata: \"error\":{\"code\":1}}\r\n\r\n",
                1,
            ),
            (
                "data: {\"result\":{\"isError\":true}}\n\n: {\"error\":{}}\n\ndata: {\"result\":1}\n\n\
                 data: {\"error\":{}}\n\n",
                2,
            ),
            ("data: {\"error\":{}}\n", 0),
            ("\u{feff}data: {\"error\":{}}\r\r", 1),
        ] {
            let found = errors_of_events(Kind::Mcp, events.as_bytes());
            assert_eq!(found, expected, "{events}");
        }
    }
}
