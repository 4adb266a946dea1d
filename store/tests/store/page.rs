//! The page and its API: filter, detail, headers, who may read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use store::Location;
use store::token::{Secret, Token};

use crate::client::{Running, line, request};

const SCRIPT: &str = "</script><script>alert(1)</script><img src=x onerror=alert(1)>";

fn with_calls(calls: &[&[(&str, &str)]]) -> Running {
    let store = Running::start();
    let body: String = calls.iter().map(|details| line(details)).collect();
    let answer = store.post(body.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
    store
}

/// Bytes of a filter as a query needs them.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Ids of a list. They are opaque to users; that SQLite's are numbers makes the tests short.
fn ids(list: &Value) -> Vec<i64> {
    list["calls"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|call| {
            let id = call["id"].as_str().expect("a text");
            let (number, _) = id.split_once('-').expect("number and time");
            number.parse().expect("digits")
        })
        .collect()
}

#[test]
fn filters_are_plain_words() {
    let store = with_calls(&[
        &[
            ("request_method", "GET"),
            ("request_url", "http://h/100%25"),
            ("response_code", "200"),
        ],
        &[
            ("request_method", "POST"),
            ("request_url", "http://h/a_b"),
            ("response_code", "500"),
            ("now", "1700000000404"),
        ],
        &[
            ("request_method", "GET"),
            ("request_url", "http://h/axb"),
            ("response_body", "{\"it's\":\"a \\\\ and Ä\"}"),
        ],
    ]);
    let check = |filter: &str, expected: &[i64]| {
        let list = store.json(&format!("/api/v1/calls?filter={}", encoded(filter)));
        assert_eq!(ids(&list), expected, "{filter}");
    };
    check("", &[3, 2, 1]);
    check("get", &[3, 1]);
    check("GET h/A", &[3]);
    check("500", &[2]);
    check("404", &[]);
    check("%", &[1]);
    check("a_b", &[2]);
    check("_", &[3, 2, 1]);
    check("a.b", &[]);
    check("a*", &[]);
    check("\"it's\\\":\\\"a\"", &[3]);
    check("ä", &[3]);
    check("\"' OR 1=1 --\"", &[]);
    check("\\", &[3]);
    check("get post", &[]);
    let too_long = store.get(&format!("/api/v1/calls?filter={}", "x".repeat(2000)));
    assert_eq!(
        (too_long.status, &too_long.json()["position"]),
        (400, &json!(1024))
    );
}

#[test]
fn pages_through_the_list() {
    let calls: String = (0..25)
        .map(|n| line(&[("request_url", &format!("http://h/{n}"))]))
        .collect();
    let store = Running::start();
    assert_eq!(store.post(calls.as_bytes()).status, 204);
    let first = store.json("/api/v1/calls?limit=10");
    let last_id = first["calls"][9]["id"].as_str().expect("a text");
    assert_eq!(
        (ids(&first), &first["next"], &first["newest"]),
        ((16..=25).rev().collect(), &json!(last_id), &json!("25"))
    );
    let last = store.json(&format!("/api/v1/calls?limit=20&before={last_id}"));
    assert_eq!(
        (ids(&last), &last["next"]),
        ((1..=15).rev().collect(), &Value::Null)
    );
    assert_eq!(ids(&store.json("/api/v1/calls?after=22")), [25, 24, 23]);
    assert_eq!(ids(&store.json("/api/v1/calls?limit=0")).len(), 1);
    let id = "an id has 1 to 64 letters, digits, hyphens or underscores";
    for (path, error) in [
        (
            "/api/v1/calls?limit=many",
            "limit: expected a number from 1 to 1000, not \"many\"",
        ),
        (
            "/api/v1/calls/first",
            "first is not an id of this store: its ids are pairs of numbers",
        ),
        ("/api/v1/calls/%2E%2E%2F", id),
        ("/api/v1/calls?before=1%0A2", &format!("before: {id}")),
        (
            "/api/v1/stream?after=x",
            "x is not a place in the stream of this store",
        ),
    ] {
        let answer = store.get(path);
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (400, &Value::from(error)),
            "{path}"
        );
    }
}

#[test]
fn a_call_comes_back_as_it_was_sent() {
    let details = [
        ("request_method", "POST"),
        ("request_url", "http://shop.example/v1/pay"),
        ("response_code", "201"),
        ("request_body", "{\"amount\":12.5}"),
        ("request_header:x", SCRIPT),
        ("response_header:content-type", "text/html; charset=utf-8"),
        ("response_body", SCRIPT),
        ("now", "1700000000123"),
        ("interval", "42"),
        ("custom_field:missing_bytes", "4096"),
        ("host", "box"),
    ];
    let store = with_calls(&[&details]);
    let answer = store.get("/api/v1/calls/1");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let call = answer.json();
    assert_eq!(call["details"], json!(details));
    assert_eq!(call["line"], line(&details).trim_end());
    let columns = [
        "id",
        "now_ms",
        "interval_ms",
        "method",
        "url",
        "host",
        "path",
        "status",
    ]
    .map(|name| call[name].clone());
    let id = call["id"].as_str().expect("a text");
    assert!(id.starts_with("1-"), "{id}");
    let expected = json!([
        id,
        1_700_000_000_123_i64,
        42,
        "POST",
        "http://shop.example/v1/pay",
        "shop.example",
        "/v1/pay",
        201
    ]);
    assert_eq!(json!(columns), expected);
    assert_eq!(
        (&call["request_bytes"], &call["response_bytes"]),
        (&json!(15), &json!(SCRIPT.len()))
    );
    assert_eq!(
        (&call["content_type"], &call["note"]),
        (
            &json!("text/html"),
            &json!("4096 B missing, time of arrival")
        )
    );

    let missing = store.get("/api/v1/calls/2");
    let error = "call 2 is not stored (the oldest calls are deleted when the store is full)";
    assert_eq!(
        (missing.status, &missing.json()["error"]),
        (404, &json!(error))
    );
}

#[test]
fn every_answer_is_closed_to_other_sites() {
    let store = with_calls(&[&[("response_body", SCRIPT)]]);
    let types = [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/list.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/api/v1/calls", "application/json"),
        ("/api/v1/calls/1", "application/json"),
        ("/api/v1/status", "application/json"),
        ("/nothing", "text/plain; charset=utf-8"),
    ];
    for (path, content_type) in types {
        let answer = store.get(path);
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_nothing_inline() {
    let store = Running::start();
    let html = store.get("/").text();
    assert!(!html.contains(" style=") && !html.contains(" onclick=") && !html.contains("<style"));
    assert!(html.contains("<script src=\"/app.js\" type=\"module\"></script>"));
    assert_eq!(html.matches("<script").count(), 1);
    let scripts = scripts(&store);
    assert!(scripts.len() > 10, "{:?}", scripts.keys());
    for (name, script) in &scripts {
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http://",
            "https://",
        ] {
            assert!(!script.contains(sink), "{name}: {sink}");
        }
    }
    assert!(!store.get("/style.css").text().contains("url("));
}

/// The scripts of the page by path, found as a browser finds them.
fn scripts(store: &Running) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec!["/app.js".to_owned()];
    while let Some(path) = waiting.pop() {
        if found.contains_key(&path) {
            continue;
        }
        let answer = store.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        let text = answer.text();
        waiting.extend(imports(&text).map(|name| format!("/{name}")));
        found.insert(path, text);
    }
    found
}

fn imports(script: &str) -> impl Iterator<Item = &str> {
    let statements = script.lines().filter(|line| line.starts_with("import "));
    statements.map(|line| {
        line.rsplit_once("'./")
            .and_then(|(_, rest)| rest.strip_suffix("';"))
            .expect("a module beside this one, on one line")
    })
}

#[test]
fn scripts_do_not_import_each_other_in_circles() {
    let store = Running::start();
    let mut waiting = scripts(&store);
    while !waiting.is_empty() {
        let count = waiting.len();
        let names: Vec<_> = waiting.keys().cloned().collect();
        waiting.retain(|_, text| imports(text).any(|name| names.contains(&format!("/{name}"))));
        assert!(waiting.len() < count, "a circle in {names:?}");
    }
}

#[test]
fn without_a_token_a_foreign_name_for_this_host_is_refused() {
    let store = Running::start_with(|config| config.token = Token::Off);
    let with_host = |host: &str| {
        let host = format!("Host: {host}\r\n");
        request(store.ready.page, "GET", "/api/v1/calls", &host, b"").status
    };
    let port = store.ready.page.port();
    assert_eq!(with_host(&format!("localhost:{port}")), 200);
    assert_eq!(with_host("[::1]:7700"), 200);
    assert_eq!(with_host(&format!("evil.example:{port}")), 403);
    assert_eq!(with_host("127.0.0.1.evil.example"), 403);
    assert_eq!(store.ready.page_link(), store.ready.page_url());
}

#[test]
fn a_page_requires_its_token_on_every_address() {
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let store = Running::start_with(|config| config.page = address.parse().expect("address"));
        let token = store.ready.token.clone().expect("a token");
        let token = token.reveal();
        let port = store.ready.page.port();
        let page = ([127, 0, 0, 1], port).into();
        let get = |path: &str, headers: &str| request(page, "GET", path, headers, b"");
        for path in [
            "/",
            "/app.js",
            "/api/v1/calls",
            "/api/v1/status",
            "/api/v1/stream",
        ] {
            let host = format!("Host: localhost:{port}\r\n");
            assert_eq!(get(path, &host).status, 401, "{path}");
        }
        let guess = format!("Cookie: store_token_{port}=guess\r\n");
        assert_eq!(get("/api/v1/calls", &guess).status, 401);
        assert_eq!(get("/?token=guess", "").status, 401);

        let opened = get(&format!("/?filter=status%3A500&token={token}"), "");
        assert_eq!(opened.status, 303);
        assert_eq!(opened.header("location"), "/?filter=status%3A500");
        let cookie = opened.header("set-cookie");
        for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        let pair = cookie.split(';').next().expect("a pair");
        assert_eq!(pair, format!("store_token_{port}={token}"));
        let with_cookie = format!("Cookie: {pair}\r\n");
        assert_eq!(get("/api/v1/calls", &with_cookie).status, 200);
        // An old link in a browser that has the cookie.
        let old = get("/?token=old", &with_cookie);
        assert_eq!((old.status, old.header("location")), (303, "/"));
        assert_eq!(old.header("set-cookie"), "");
        assert_eq!(get("/api/v1/calls", &store.authorization()).status, 200);

        assert!(
            store
                .ready
                .page_link()
                .ends_with(&format!("/?token={token}"))
        );
        assert!(!store.ready.page_url().contains(token));
        assert!(!format!("{:?}", store.ready).contains(token));
        assert!(!store.get("/api/v1/status").text().contains(token));
    }
}

#[test]
fn who_has_no_token_reads_what_to_do() {
    let store = Running::start();
    let page = request(store.ready.page, "GET", "/", "", b"");
    assert_eq!(page.status, 401);
    assert_eq!(page.header("www-authenticate"), "Bearer");
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    for words in ["sniffer page", "docker exec", "Authorization: Bearer"] {
        assert!(page.text().contains(words), "{}", page.text());
    }
    let api = request(store.ready.page, "GET", "/api/v1/calls", "", b"");
    assert_eq!(api.status, 401);
    let error = api.json();
    assert!(
        error["error"]
            .as_str()
            .is_some_and(|error| error.contains("sniffer page"))
    );
}

#[test]
fn the_token_survives_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let start = || {
        Running::start_with(|config| {
            config.location = Location::Sqlite(folder.path().into());
            config.token = Token::Kept(folder.path().into());
        })
    };
    let first = start().ready.token.clone();
    assert!(first.is_some());
    assert_eq!(start().ready.token, first);
    let given = Secret::token("of-my-own");
    let with = given.clone().map(Token::Given);
    let store = Running::start_with(|config| config.token = with.expect("valid"));
    assert_eq!(store.ready.token, given);
    assert_eq!(store.get("/").status, 200);
}

#[test]
fn the_status_balances() {
    let store = Running::start_with(|config| config.retention.calls_max = 10);
    for n in 0..5 {
        let body = line(&[("request_url", &format!("http://h/{n}"))]).repeat(4);
        assert_eq!(store.post(body.as_bytes()).status, 204);
    }
    // The answer to a bundle comes before the deletion that it causes.
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut status = store.json("/api/v1/status");
    while status["calls"] != 10 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        status = store.json("/api/v1/status");
    }
    let number = |name: &str| status[name].as_i64().expect(name);
    assert_eq!(
        (
            number("calls"),
            number("calls_received"),
            number("calls_expired")
        ),
        (10, 20, 10)
    );
    assert_eq!(number("bundles_received"), 5);
    let sender = &status["senders"][0];
    assert_eq!(sender["sender"], "local");
    assert_eq!(
        (&sender["calls"], &sender["expired"]),
        (&10.into(), &10.into())
    );
    assert_eq!(status["write_error"], Value::Null);
    assert!(number("database_bytes") > 0 && number("since_ms") > 1_600_000_000_000);
}

#[test]
fn a_lowered_bound_is_applied_without_a_bundle() {
    let mut store = Running::start();
    let body = line(&[("request_url", "http://h/")]).repeat(30);
    assert_eq!(store.post(body.as_bytes()).status, 204);
    store.stop();
    let data = store.folder.path().to_owned();
    let store = Running::start_with(|config| {
        config.location = Location::Sqlite(data);
        config.retention.calls_max = 10;
    });
    let deadline = Instant::now() + Duration::from_secs(120);
    while store.json("/api/v1/status")["calls"] != 10 {
        assert!(
            Instant::now() < deadline,
            "{}",
            store.json("/api/v1/status")
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        ids(&store.json("/api/v1/calls")),
        Vec::from_iter((21..=30).rev())
    );
}

#[test]
fn a_list_of_long_urls_is_small() {
    let store = Running::start();
    // JSON writes a control character as six bytes.
    let url = format!("http://h/{}", "\u{1}".repeat(250_000));
    for _ in 0..5 {
        let body = line(&[("request_method", "GET"), ("request_url", &url)]).repeat(9);
        assert_eq!(store.post(body.as_bytes()).status, 204);
    }
    let answer = store.get("/api/v1/calls?limit=1000");
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() < 1 << 20, "{}", answer.body.len());
    let list = answer.json();
    assert_eq!(list["calls"].as_array().expect("a list").len(), 45);
    let call = store.json("/api/v1/calls/1");
    assert!(call["url"].as_str().expect("a text").ends_with('…'));
    assert_eq!(call["details"][1][1], Value::from(url));
}

#[test]
fn a_list_is_bounded_in_bytes_and_continues() {
    let store = Running::start();
    let url = format!("http://{}/{}", "h".repeat(2000), "x".repeat(2000));
    let bundle = line(&[("request_method", &url), ("request_url", &url)]).repeat(100);
    for _ in 0..5 {
        assert_eq!(store.post(bundle.as_bytes()).status, 204);
    }
    let (mut found, mut path) = (0, "/api/v1/calls?limit=1000".to_owned());
    loop {
        let answer = store.get(&path);
        assert!(answer.body.len() < 3 << 19, "{}", answer.body.len());
        let list = answer.json();
        found += ids(&list).len();
        let Some(next) = list["next"].as_str() else {
            break;
        };
        path = format!("/api/v1/calls?limit=1000&before={next}");
    }
    assert_eq!(found, 500);
}
