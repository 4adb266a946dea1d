//! `GET /metrics` of the page listener.

use crate::client::{Running, line, request};

#[test]
fn metrics_count_what_the_store_holds_and_need_the_token() {
    let store = Running::start();
    let value = |name: &str| {
        let answer = store.get("/metrics");
        assert_eq!(answer.status, 200);
        let text = answer.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().parse::<f64>().expect("a number"))
    };
    assert_eq!(value("sniffer_store_calls "), Some(0.0));
    assert_eq!(value("sniffer_store_oldest_seconds "), None);
    let body = line(&[("request_url", "http://secret-host/"), ("now", "1000")]).repeat(4);
    assert_eq!(store.post(body.as_bytes()).status, 204);
    assert_eq!(store.post(b"nonsense\n").status, 400);
    assert_eq!(value("sniffer_store_calls "), Some(4.0));
    assert_eq!(value("sniffer_store_calls_received_total "), Some(4.0));
    assert_eq!(value("sniffer_store_bundles_received_total "), Some(1.0));
    assert_eq!(value("sniffer_store_posts_refused_total "), Some(1.0));
    assert_eq!(value("sniffer_store_up "), Some(1.0));
    assert!(value("sniffer_store_bytes ").is_some_and(|bytes| bytes > 0.0));
    assert!(value("sniffer_store_oldest_seconds ").is_some());
    let text = store.get("/metrics").text();
    assert!(!text.contains("secret-host"), "{text}");
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let name = sample.split([' ', '{']).next().expect("a name");
        assert!(text.contains(&format!("# TYPE {name} ")), "{sample}");
    }
    let page = store.ready.page;
    assert_eq!(request(page, "GET", "/metrics", "", b"").status, 401);
}
