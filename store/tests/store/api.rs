//! The API beneath the page: each answer against its description, exports as other programs read them, queries in SQL, deletion.

use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::{Value, json};
use store::token::Token;

use crate::client::{Answer, Running, line, request};
use crate::schema;

/// Calls of two hosts, one of them an error, with what a spreadsheet or a shell could take for its own.
fn store() -> Running {
    let store = Running::start();
    let mut bundle = String::new();
    for number in 0..5 {
        let url = format!("http://api.shop/v1/orders/{number}");
        bundle += &line(&[
            ("request_method", "GET"),
            ("request_url", &url),
            ("response_code", "200"),
            ("response_header:content-type", "application/json"),
            ("response_body", "{\"ok\":true}"),
            ("interval", &(number * 10 + 1).to_string()),
        ]);
    }
    bundle += &line(&[
        ("request_method", "POST"),
        ("request_url", "http://pay.shop/=cmd"),
        ("request_header:x-note", "it's \"quoted\"\u{202e}"),
        ("request_header:cookie", "a=1; b=2"),
        ("request_param:q", "1&2"),
        ("request_body", "<script>alert(1)</script>, \"x\""),
        ("response_code", "503"),
        ("interval", "1500"),
        ("custom_field:server_address", "10.0.0.9"),
    ]);
    assert_eq!(store.post(bundle.as_bytes()).status, 204);
    store
}

fn post(store: &Running, path: &str, body: &Value) -> Answer {
    let headers = format!(
        "{}Content-Type: application/json\r\n",
        store.authorization()
    );
    request(
        store.ready.page,
        "POST",
        path,
        &headers,
        body.to_string().as_bytes(),
    )
}

/// The schema of a path's answer with 200, or that of an error.
fn described<'a>(api: &'a Value, method: &str, path: &str, status: u16) -> &'a Value {
    let pointer = path.replace('/', "~1");
    let operation = api
        .pointer(&format!("/paths/{pointer}/{method}"))
        .unwrap_or_else(|| panic!("{method} {path} is not described"));
    let answer = schema::resolve(api, &operation["responses"][status.to_string()]);
    &answer["content"]["application/json"]["schema"]
}

#[test]
fn answers_are_as_the_description_says() {
    let store = store();
    let ledger = br#"{"appliance":"node","run":"17","calls":{"seen":9,"dropped":{"refused":2}}}"#;
    let json = "Content-Type: application/json\r\n";
    let posted = request(store.ready.capture, "POST", "/ledger", json, ledger);
    assert_eq!(posted.status, 204);
    let api = store.json("/api/v1/openapi.json");
    let id = store.json("/api/v1/calls")["calls"][0]["id"].clone();
    let id = id.as_str().expect("an id");
    let gets = [
        ("/api/v1/calls", "filter=status>=500".to_owned(), 200),
        (
            "/api/v1/calls",
            "from=-1h&to=2100-01-01&limit=2".into(),
            200,
        ),
        ("/api/v1/calls", "filter=statsu>=500".into(), 400),
        ("/api/v1/calls", "from=yesterday".into(), 400),
        ("/api/v1/calls", "limit=no".into(), 400),
        ("/api/v1/stats", String::new(), 200),
        (
            "/api/v1/stats",
            "by=host&step=1min&filter=took>5ms&from=-1h".into(),
            200,
        ),
        ("/api/v1/stats", "by=nothing".into(), 400),
        ("/api/v1/top", "by=host".into(), 200),
        ("/api/v1/top", String::new(), 400),
        ("/api/v1/status", String::new(), 200),
        ("/api/v1/appliances", String::new(), 200),
        ("/api/v1/losses", String::new(), 200),
        (
            "/api/v1/losses",
            "by=appliance&step=2min&from=-1d".into(),
            200,
        ),
        ("/api/v1/losses", "by=host".into(), 400),
        ("/api/v1/packets", "from=-1s".into(), 404),
        ("/api/v1/packets", "from=soon".into(), 400),
        ("/api/v1/calls/{id}/pcap", String::new(), 404),
        ("/api/v1/calls/{id}", String::new(), 200),
        ("/api/v1/calls/{id}/har", String::new(), 200),
        ("/api/v1/export", "format=har".into(), 200),
        ("/api/v1/export", "filter=(".into(), 400),
    ];
    for (path, query, status) in gets {
        let query = query.replace('>', "%3E").replace('(', "%28");
        let sent = format!("{}?{query}", path.replace("{id}", id));
        let answer = store.get(&sent);
        assert_eq!(answer.status, status, "{sent}: {}", answer.text());
        let schema = described(&api, "get", path, status);
        let body = serde_json::from_str(&answer_body(&answer)).expect("JSON");
        let result = schema::check(&api, schema, &body);
        result.unwrap_or_else(|wrong| panic!("{sent}: {wrong}"));
    }
    let posts = [
        (
            "/api/v1/query",
            json!({"sql": "SELECT host, count(*) FROM calls GROUP BY 1"}),
            200,
        ),
        ("/api/v1/query", json!({"sql": "DROP TABLE calls"}), 400),
        ("/api/v1/query", json!({"sq": ""}), 400),
        ("/api/v1/delete", json!({"filter": "host==pay.shop"}), 200),
        ("/api/v1/delete", json!({"filter": ""}), 400),
        (
            "/api/v1/delete",
            json!({"filter": "host==pay.shop", "confirm": "no"}),
            400,
        ),
    ];
    for (path, body, status) in posts {
        let answer = post(&store, path, &body);
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        let schema = described(&api, "post", path, status);
        let result = schema::check(&api, schema, &answer.json());
        result.unwrap_or_else(|wrong| panic!("{path} {body}: {wrong}"));
    }
}

/// A page without a token, or one that others reach, gives no packets, whether there are any or not.
#[test]
fn packets_are_for_the_owner_of_the_page_alone() {
    let open = Running::start_with(|config| config.token = Token::Off);
    let reached = Running::start_with(|config| config.page.set_ip(Ipv4Addr::UNSPECIFIED.into()));
    for store in [open, reached] {
        let answer = store.get("/api/v1/packets?from=-1s");
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(answer.text().contains("unmasked"), "{}", answer.text());
    }
}

/// Each route of the sources is described, and each that is described is a route.
#[test]
fn the_description_has_every_route() {
    let store = Running::start();
    let api = store.json("/api/v1/openapi.json");
    assert_eq!(api["openapi"], "3.1.0");
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page.rs");
    let sources = std::fs::read_to_string(sources).expect("the routes");
    let mut routes: Vec<(String, &str)> = sources
        .lines()
        .filter_map(|line| {
            let (path, rest) = line.trim().strip_prefix(".route(\"/api")?.split_once('"')?;
            let method = if rest.contains("post(") {
                "post"
            } else {
                "get"
            };
            Some((format!("/api{path}"), method))
        })
        .collect();
    let mut described: Vec<(String, &str)> = Vec::new();
    for (path, item) in api["paths"].as_object().expect("paths") {
        for method in ["get", "post", "delete", "put"] {
            if let Some(operation) = item.get(method) {
                assert!(operation["summary"].is_string(), "{path}");
                described.push((path.clone(), method));
            }
        }
    }
    routes.sort();
    described.sort();
    assert_eq!(routes, described);
    assert!(routes.len() > 10);
    check_references(&api, &api);
}

/// Each reference leads somewhere.
fn check_references(root: &Value, value: &Value) {
    match value {
        Value::Object(members) => {
            schema::resolve(root, value);
            members
                .values()
                .for_each(|member| check_references(root, member));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(root, item)),
        _ => {}
    }
}

#[test]
fn a_filter_and_a_range_choose() {
    let store = store();
    let count = |query: &str| {
        let list = store.json(&format!("/api/v1/calls?{query}"));
        list["calls"].as_array().expect("calls").len()
    };
    assert_eq!(count("filter=status%3E%3D500"), 1);
    assert_eq!(count("filter=host%3D%3Dapi.shop%20and%20took%3E15ms"), 3);
    assert_eq!(count("from=-1h"), 6);
    assert_eq!(count("to=-1h"), 0);
    let wrong = store.get("/api/v1/calls?filter=%C3%A9%20statsu%3E5");
    let wrong = wrong.json();
    assert_eq!((&wrong["position"], &wrong["end"]), (&json!(3), &json!(9)));
    assert_eq!(wrong["guess"], "status");
    let top = store.json("/api/v1/top?by=host");
    assert_eq!(top["values"][0], json!({"value": "api.shop", "calls": 5}));
    let stats = store.json("/api/v1/stats?by=host&from=-1h");
    assert_eq!(stats["total"]["calls"], 6);
    assert_eq!(stats["total"]["classes"], json!([0, 0, 5, 0, 0, 1]));
    assert_eq!(stats["groups"][0]["value"], "api.shop");
    assert_eq!(stats["coverage"]["kept"], 6);
}

#[test]
fn lines_are_exported_as_they_were_sent() {
    let store = store();
    let answer = store.get("/api/v1/export?filter=host%3D%3Dapi.shop");
    assert_eq!(answer.status, 200);
    let text = answer_body(&answer);
    let mut lines: Vec<&str> = text.lines().collect();
    let remarks: Value = serde_json::from_str(lines.pop().expect("a last line")).expect("JSON");
    assert_eq!(remarks["exported"], 5);
    assert_eq!(remarks["coverage"]["partial"], Value::Null);
    assert_eq!(lines.len(), 5);
    // What was exported is a bundle again.
    let other = Running::start();
    let bundle = lines.join("\n") + "\n";
    assert_eq!(other.post(bundle.as_bytes()).status, 204);
    assert_eq!(other.json("/api/v1/status")["calls"], 5);

    let cut = answer_body(&store.get("/api/v1/export?limit=2"));
    let remarks: Value = serde_json::from_str(cut.lines().last().expect("a line")).expect("JSON");
    assert_eq!(remarks["exported"], 2);
    assert_eq!(remarks["coverage"]["partial"], "the limit was 2 calls");
}

/// The body of an answer that comes in chunks, or in one piece, as text.
fn answer_body(answer: &Answer) -> String {
    String::from_utf8(answer.decoded()).expect("text")
}

/// The records of a CSV file, read by the grammar of RFC 4180.
fn records(text: &str) -> Vec<Vec<String>> {
    let mut records = vec![vec![String::new()]];
    let (mut characters, mut is_quoted) = (text.chars().peekable(), false);
    while let Some(character) = characters.next() {
        let record = records.last_mut().expect("one");
        let cell = record.last_mut().expect("one");
        match (character, is_quoted) {
            ('"', true) if characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            ('"', _) => is_quoted = !is_quoted,
            (',', false) => record.push(String::new()),
            ('\r', false) => {
                assert_eq!(characters.next(), Some('\n'), "a bare CR");
                records.push(vec![String::new()]);
            }
            ('\n', false) => panic!("a bare LF"),
            _ => cell.push(character),
        }
    }
    let last = records.pop().expect("one");
    assert_eq!(last, [""], "the last record has an end");
    records
}

#[test]
fn tables_are_csv_without_formulas() {
    let store = store();
    let answer = store.get("/api/v1/export?format=csv");
    assert!(answer.header("content-type").starts_with("text/csv"));
    let records = records(&answer_body(&answer));
    assert_eq!(records.len(), 7);
    for record in &records {
        assert_eq!(record.len(), records[0].len());
        for cell in record {
            assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
        }
    }
    let column = |name: &str| records[0].iter().position(|cell| cell == name).expect(name);
    let (status, url) = (column("status"), column("url"));
    let error = records.iter().find(|record| record[status] == "503");
    assert_eq!(error.expect("the error")[url], "http://pay.shop/=cmd");
}

#[test]
fn archives_fit_their_schema() {
    let store = store();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store/har.json");
    let schema = std::fs::read_to_string(schema).expect("the schema");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let archive = answer_body(&store.get("/api/v1/export?format=har"));
    let archive: Value = serde_json::from_str(&archive).expect("JSON");
    schema::check(&schema, &schema, &archive).expect("it fits");
    let entries = archive["log"]["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), 6);
    let error = entries
        .iter()
        .find(|entry| entry["response"]["status"] == 503);
    let sent = &error.expect("the error")["request"];
    assert_eq!(sent["url"], "http://pay.shop/=cmd?q=1%262");
    assert_eq!(sent["postData"]["text"], "<script>alert(1)</script>, \"x\"");
    assert_eq!(archive["log"]["_coverage"]["exported"], 6);
    let mut wrong = archive.clone();
    wrong["log"]["entries"][0]["request"]["method"] = json!(1);
    assert!(schema::check(&schema, &schema, &wrong).is_err());
}

/// The command gives the same answer from the same server: here the page of a store, whose calls were captured as if by a sniffer.
#[test]
fn the_command_line_makes_the_same_call() {
    let store = store();
    let server = Running::start();
    let url = format!("http://{}/api/v1/query", server.ready.page);
    let body = r#"{"sql":"SELECT 'it''s', '@', '$(id)'"}"#;
    let token = server.authorization();
    let token = token
        .trim_end()
        .strip_prefix("Authorization: ")
        .expect("a token");
    let expected = post(
        &server,
        "/api/v1/query",
        &serde_json::from_str(body).expect("JSON"),
    );
    let bundle = line(&[
        ("request_method", "POST"),
        ("request_url", &url),
        ("request_header:content-type", "application/json"),
        ("request_header:authorization", token),
        ("request_header:content-length", "1"),
        ("request_header:x-it", "it's $(id) `id` \\"),
        ("request_param:unknown", "a b&c"),
        ("request_body", body),
    ]);
    assert_eq!(store.post(bundle.as_bytes()).status, 204);
    let list = store.json("/api/v1/calls?filter=path%3D%3D%2Fapi%2Fv1%2Fquery");
    let id = list["calls"][0]["id"].as_str().expect("the call");
    let answer = store.get(&format!("/api/v1/calls/{id}/curl"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let made = Command::new("sh")
        .args(["-c", &answer.text()])
        .output()
        .expect("apt-get install curl");
    let text = String::from_utf8_lossy(&made.stdout);
    assert_eq!(text, expected.text(), "{}", answer.text());
    assert!(text.contains("it's") && text.contains("$(id)"), "{text}");
}

#[test]
fn a_query_in_sql_sees_the_calls() {
    let store = store();
    let sql = "SELECT host, count(*) AS calls, max(took) FROM calls GROUP BY host ORDER BY host";
    let answer = post(&store, "/api/v1/query", &json!({"sql": sql})).json();
    assert_eq!(answer["columns"], json!(["host", "calls", "max(took)"]));
    assert_eq!(
        answer["rows"],
        json!([["api.shop", 5, 41], ["pay.shop", 1, 1500]])
    );
    assert_eq!(answer["coverage"]["partial"], Value::Null);
    let some = json!({"sql": "SELECT count(*) FROM calls", "filter": "status>=500"});
    assert_eq!(
        post(&store, "/api/v1/query", &some).json()["rows"],
        json!([[1]])
    );
    // A form of another site has no JSON, and is refused without a look at it.
    let headers = format!("{}Content-Type: text/plain\r\n", store.authorization());
    let sent = json!({"sql": sql}).to_string();
    let refused = request(
        store.ready.page,
        "POST",
        "/api/v1/query",
        &headers,
        sent.as_bytes(),
    );
    assert_eq!(refused.status, 400, "{}", refused.text());
    let bare = request(store.ready.page, "POST", "/api/v1/delete", "", b"{}");
    assert_eq!(bare.status, 401);
}

#[test]
fn calls_are_deleted_by_filter_after_a_confirmation() {
    let store = store();
    let mut wanted = json!({"filter": "host==api.shop", "to": "2100-01-01"});
    let counted = post(&store, "/api/v1/delete", &wanted).json();
    assert_eq!(counted["matching"], 5);
    assert_eq!(
        store.json("/api/v1/status")["calls"],
        6,
        "nothing is deleted yet"
    );
    wanted["confirm"] = counted["confirm"].clone();
    let mut other = wanted.clone();
    other["filter"] = json!("host==pay.shop");
    assert_eq!(post(&store, "/api/v1/delete", &other).status, 400);
    let deleted = post(&store, "/api/v1/delete", &wanted).json();
    assert_eq!(deleted, json!({"deleted": 5, "next": null}));
    let again = json!({"filter": "host==api.shop", "to": "2100-01-01"});
    assert_eq!(post(&store, "/api/v1/delete", &again).json()["matching"], 0);
    let list = store.json("/api/v1/calls");
    let hosts: Vec<&Value> = list["calls"]
        .as_array()
        .expect("calls")
        .iter()
        .map(|call| &call["host"])
        .collect();
    assert_eq!(hosts, ["pay.shop"]);
    assert_eq!(store.json("/api/v1/status")["calls"], 1);
}
