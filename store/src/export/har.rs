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
        "time": phases.send + phases.wait + phases.receive,
        "request": request(call, &version),
        "response": response(call, &version),
        "cache": {},
        "timings": { "send": phases.send, "wait": phases.wait, "receive": phases.receive },
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
    let mut made = json!({
        "method": method,
        "url": request::url(call),
        "httpVersion": version,
        "cookies": cookies(call, "request_header:cookie"),
        "headers": pairs(request::family(call, "request_header:")),
        "queryString": pairs(request::family(call, "request_param:")),
        "headersSize": -1,
        "bodySize": body.map_or(0, str::len),
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
    let mut content = json!({
        "size": body.map_or(0, str::len),
        "mimeType": header("response_header:content-type"),
    });
    if let Some((body, members)) = body.zip(content.as_object_mut()) {
        members.insert("text".into(), body.into());
    }
    json!({
        // Half calls have none; browsers write 0 for a request without a response.
        "status": call.summary.status.unwrap_or(0),
        "statusText": "",
        "httpVersion": version,
        "cookies": [],
        "headers": pairs(request::family(call, "response_header:")),
        "content": content,
        "redirectURL": header("response_header:location"),
        "headersSize": -1,
        "bodySize": -1,
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
            json!({"send": 1.5, "wait": 18.5, "receive": 1e-6})
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

    #[test]
    fn an_archive_is_json() {
        let coverage = json!({"kept": 1});
        let archive = head() + &tail("a \"remark\"", &coverage);
        let archive: Value = serde_json::from_str(&archive).expect("JSON");
        assert_eq!(archive["log"]["_coverage"], coverage);
        assert_eq!(archive["log"]["comment"], "a \"remark\"");
    }
}
