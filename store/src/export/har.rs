//! Calls as an HTTP archive (HAR 1.2), which the developer tools of browsers open.
//!
//! Where a line has nothing for a member, the archive has what the specification says: -1 for a size, 0 for a phase, an empty text.
//! What is not in the specification begins with an underscore.

use serde_json::{Value, json};

use crate::call::Call;
use crate::date;
use crate::export::request;

/// What stands before the entries.
pub(super) fn head() -> String {
    let creator = json!({ "name": "sniffer", "version": env!("CARGO_PKG_VERSION") });
    format!(r#"{{"log":{{"version":"1.2","creator":{creator},"entries":["#)
}

/// What stands behind the entries, with a remark for people and whatever else is to be stated.
pub(super) fn tail(comment: &str, coverage: &Value) -> String {
    format!(
        r#"],"comment":{},"_coverage":{coverage}}}}}"#,
        Value::from(comment)
    )
}

/// Before the first byte is sent nothing is known. With exactly 0 Chromium shows the wait for the response as a stalled request.
const BLOCKED_MS: f64 = 0.001;

/// The entry of a call.
pub(super) fn entry(call: &Call) -> Value {
    let summary = &call.summary;
    let took = summary.interval_ms.unwrap_or(0).max(0);
    // The time of a call is that of its response's first packet.
    let started = summary.time_ms.saturating_sub(took);
    let version = request::detail(call, "custom_field:http_version").unwrap_or("1.1");
    let version = format!("HTTP/{version}");
    let phases = Phases::of(call, took);
    let mut entry = json!({
        "startedDateTime": date::format(started),
        "time": BLOCKED_MS + phases.send + phases.wait + phases.receive,
        "request": request(call, &version),
        "response": response(call, &version),
        "cache": {},
        "timings": {
            "blocked": BLOCKED_MS,
            "send": phases.send,
            "wait": phases.wait,
            "receive": phases.receive,
        },
        "_resourceType": resource_type(call),
        "_id": summary.id.as_str(),
    });
    if let Some(members) = entry.as_object_mut() {
        let mut text = |member: &str, value: &str| {
            if !value.is_empty() {
                members.insert(member.into(), value.into());
            }
        };
        text("serverIPAddress", &summary.server);
        let connection = request::detail(call, "custom_field:connection_id");
        text("connection", connection.unwrap_or_default());
        text("comment", &summary.note);
    }
    entry
}

fn request(call: &Call, version: &str) -> Value {
    let method = &call.summary.method;
    let body = request::detail(call, "request_body");
    let sizes = Sizes::of(call, "request");
    let mut made = json!({
        "method": method,
        "url": request::url(call),
        "httpVersion": version,
        "cookies": cookies(call, "request_header:cookie"),
        "headers": pairs(request::family(call, "request_header:")),
        "queryString": pairs(request::family(call, "request_param:")),
        "headersSize": -1,
        "bodySize": sizes.sent,
    });
    if let Some((body, members)) = body.zip(made.as_object_mut()) {
        let media_type = request::detail(call, "request_header:content-type");
        let data = json!({ "mimeType": media_type.unwrap_or_default(), "text": body });
        members.insert("postData".into(), data);
    }
    made
}

fn response(call: &Call, version: &str) -> Value {
    let body = request::detail(call, "response_body");
    let header = |name: &str| request::detail(call, name).unwrap_or_default();
    let sizes = Sizes::of(call, "response");
    let mut content = json!({
        "size": sizes.decoded,
        "mimeType": header("response_header:content-type"),
    });
    if let Some((body, members)) = body.zip(content.as_object_mut()) {
        members.insert("text".into(), body.into());
        if body.contains(char::REPLACEMENT_CHARACTER) {
            let comment = "bytes that are no text stand as U+FFFD";
            members.insert("comment".into(), comment.into());
        }
    }
    json!({
        // Half calls have none; browsers write 0 for a request without a response.
        "status": call.summary.status.unwrap_or(0),
        "statusText": "",
        "httpVersion": version,
        "cookies": set_cookies(call),
        "headers": pairs(request::family(call, "response_header:")),
        "content": content,
        "redirectURL": header("response_header:location"),
        "headersSize": -1,
        "bodySize": sizes.sent,
        "_transferSize": sizes.sent.max(0),
    })
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Value> {
    pairs
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect()
}

fn cookies(call: &Call, header: &str) -> Vec<Value> {
    let headers = call.details.iter().filter(|(name, _)| name == header);
    let parts = headers.flat_map(|(_, value)| value.split(';'));
    let cookies = parts.filter_map(|part| part.trim().split_once('='));
    pairs(cookies)
}

/// The cookies that the response sets, with those attributes that an archive has; the rest of each stands in its header.
fn set_cookies(call: &Call) -> Vec<Value> {
    let headers = request::family(call, "response_header:set-cookie");
    let cookies = headers.filter_map(|(_, header)| {
        let mut parts = header.split(';').map(str::trim);
        let (name, value) = parts.next()?.split_once('=')?;
        let mut cookie = json!({ "name": name, "value": value });
        for part in parts {
            let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
            let (member, value) = match attribute.to_ascii_lowercase().as_str() {
                "path" => ("path", value.into()),
                "domain" => ("domain", value.into()),
                "httponly" => ("httpOnly", true.into()),
                "secure" => ("secure", true.into()),
                _ => continue,
            };
            cookie[member] = value;
        }
        Some(cookie)
    });
    cookies.collect()
}

/// What Chromium calls the resource, which chooses its icon and the filter that shows it.
fn resource_type(call: &Call) -> &'static str {
    let media_type = call.summary.content_type.as_str();
    let (kind, name) = media_type.split_once('/').unwrap_or((media_type, ""));
    if request::detail(call, "custom_field:stream") == Some("websocket") {
        return "websocket";
    }
    match (kind, name) {
        ("text", "html") => "document",
        ("text", "css") => "stylesheet",
        ("text" | "application", "javascript") => "script",
        ("text", "event-stream") => "eventsource",
        ("image", _) => "image",
        ("font", _) => "font",
        ("audio" | "video", _) => "media",
        _ => "fetch",
    }
}

/// Lengths of a body in bytes; -1 where that is unknown.
struct Sizes {
    /// As it was sent, in its content coding.
    sent: i64,
    /// Without the coding, whatever of it the line has.
    decoded: i64,
}

impl Sizes {
    fn of(call: &Call, side: &str) -> Self {
        let header = |name: &str| request::detail(call, &format!("{side}_header:{name}"));
        let length = header("content-length").and_then(|length| length.trim().parse().ok());
        let is_coded = header("content-encoding").is_some_and(|coding| coding != "identity");
        let full = request::detail(call, &format!("custom_field:{side}_body_bytes"));
        let body = request::detail(call, &format!("{side}_body"));
        // A response to HEAD has the length of a body that was not sent.
        let sent = match (length, body) {
            (_, None) => Some(0),
            (Some(length), Some(_)) => Some(length),
            (None, Some(_)) => None,
        };
        // What is no text is longer in the line than it was.
        let decoded = full
            .and_then(|full| full.parse().ok())
            .or(sent.filter(|_| !is_coded))
            .unwrap_or_else(|| body.map_or(0, |body| body.len() as i64));
        Self {
            sent: sent
                .or((!is_coded).then_some(decoded))
                .unwrap_or(-1)
                .max(-1),
            decoded: decoded.max(0),
        }
    }
}

/// The phases of a call in milliseconds.
struct Phases {
    send: f64,
    wait: f64,
    receive: f64,
}

impl Phases {
    /// By the packet times of the annotations, else all of the interval is waiting.
    fn of(call: &Call, took: i64) -> Self {
        let nanos = |name: &str| -> Option<i64> {
            request::detail(call, &format!("custom_field:{name}"))?
                .parse()
                .ok()
        };
        let between = |from: &str, to: &str| {
            let waited = nanos(to)?.checked_sub(nanos(from)?)?;
            Some(waited.max(0) as f64 / 1e6)
        };
        Self {
            send: between("request_started", "request_ended").unwrap_or(0.0),
            wait: between("request_ended", "response_started").unwrap_or(took as f64),
            receive: between("response_started", "response_ended").unwrap_or(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::request::tests::call;

    #[test]
    fn an_entry_has_what_the_line_has() {
        let made = entry(&call(&[
            ("request_method", "POST"),
            ("request_url", "http://h/a"),
            ("response_code", "201"),
            ("request_body", "é"),
            ("request_header:cookie", "a=1; b=2=3; c"),
            ("request_param:q", "x y"),
            ("response_header:content-type", "text/plain"),
            ("response_body", "<b>"),
            ("now", "1700000000500"),
            ("interval", "12"),
            ("custom_field:http_version", "2"),
            ("custom_field:server_address", "10.0.0.1"),
            ("custom_field:request_started", "1700000000480000000"),
            ("custom_field:request_ended", "1700000000481500000"),
            ("custom_field:response_started", "1700000000500000000"),
            ("custom_field:response_ended", "1700000000500000001"),
        ]));
        assert_eq!(made["startedDateTime"], "2023-11-14T22:13:20.488Z");
        assert_eq!(
            made["timings"],
            json!({"blocked": 0.001, "send": 1.5, "wait": 18.5, "receive": 1e-6})
        );
        let sent = &made["request"];
        assert_eq!(sent["url"], "http://h/a?q=x%20y");
        assert_eq!(sent["postData"], json!({"mimeType": "", "text": "é"}));
        assert_eq!(sent["bodySize"], 2);
        assert_eq!(sent["httpVersion"], "HTTP/2");
        let cookies = json!([{"name": "a", "value": "1"}, {"name": "b", "value": "2=3"}]);
        assert_eq!(sent["cookies"], cookies);
        assert_eq!(made["response"]["content"]["text"], "<b>");
        assert_eq!(made["serverIPAddress"], "10.0.0.1");
    }

    /// Sizes of the response, and of its content.
    fn sizes(details: &[(&str, &str)]) -> [Value; 2] {
        let details = [&[("request_method", "GET")], details].concat();
        let made = entry(&call(&details));
        let response = &made["response"];
        [
            response["bodySize"].clone(),
            response["content"]["size"].clone(),
        ]
    }

    #[test]
    fn sizes_are_those_of_what_was_sent() {
        let body = ("response_body", "abc\u{fffd}");
        let length = ("response_header:content-length", "4");
        let gzip = ("response_header:content-encoding", "gzip");
        let full = ("custom_field:response_body_bytes", "1000");
        assert_eq!(sizes(&[]), [0, 0]);
        assert_eq!(sizes(&[length]), [0, 0], "an answer to HEAD");
        assert_eq!(sizes(&[body]), [6, 6], "as the line has it");
        assert_eq!(sizes(&[body, length]), [4, 4]);
        assert_eq!(sizes(&[body, gzip]), [-1, 6]);
        assert_eq!(sizes(&[body, gzip, length]), [4, 6]);
        assert_eq!(sizes(&[body, gzip, length, full]), [4, 1000]);
        assert_eq!(sizes(&[body, full]), [1000, 1000]);
        let odd = ("response_header:content-length", "-7");
        assert_eq!(sizes(&[body, odd]), [-1, 0]);
    }

    #[test]
    fn cookies_of_a_response_have_their_attributes() {
        let made = entry(&call(&[
            (
                "response_header:set-cookie",
                "a=1=2; Path=/x; Domain=h; Secure; HttpOnly; Max-Age=5",
            ),
            ("response_header:set-cookie", "no cookie"),
            ("response_header:content-type", "text/html; charset=utf-8"),
        ]));
        let cookie = json!({"name": "a", "value": "1=2", "path": "/x", "domain": "h", "secure": true, "httpOnly": true});
        assert_eq!(made["response"]["cookies"], json!([cookie]));
        assert_eq!(made["_resourceType"], "document");
    }

    #[test]
    fn an_archive_is_json() {
        let coverage = json!({"kept": 1});
        let archive = head() + &tail("a \"remark\"", &coverage);
        let archive: Value = serde_json::from_str(&archive).expect("JSON");
        assert_eq!(archive["log"]["_coverage"], coverage);
        assert_eq!(archive["log"]["comment"], "a \"remark\"");
    }
}
