//! SQL of users over the tables of a ClickHouse: by a user who may only read, on a present-day server (`tests/modern`), not on 18.16.

use serde_json::json;
use store::backend::clickhouse::Opened;
use store::backend::{Backend as _, Failure, Retention};
use store::bundle::Bundle;
use store::sender::Sender;

use crate::client::line;
use crate::server;

#[tokio::test]
async fn a_reader_selects_and_does_nothing_else() {
    let mut target = server::database();
    target.migrate().expect("migrates");
    target.address.reader = Some("reader".into());
    let opened = Opened::new(&target);
    if !server::is_other() {
        let error = opened.expect_err("18.16 has no rights");
        assert!(format!("{error:#}").contains("18.16"), "{error:#}");
        return;
    }
    let backend = opened.expect("opens");
    let backend = backend.start(Retention::default()).expect("starts");
    let text: String = (0..10)
        .map(|number| {
            line(&[
                ("request_method", "GET"),
                ("request_url", &format!("http://shop.example/{number}")),
            ])
        })
        .collect();
    let bundle = Bundle::split(text.into(), None, Sender::Local).expect("few lines");
    backend.insert(bundle).await.expect("stored");
    let sql = "SELECT host, count() AS calls, uniqExact(path), 'url(1)' FROM calls GROUP BY host";
    let selected = backend.select(sql).await.expect("rows");
    assert_eq!(selected.columns[..2], ["host", "calls"]);
    assert_eq!(
        json!(selected.rows),
        json!([["shop.example", 10, 10, "url(1)"]])
    );
    assert!(!selected.truncated);
    let many = backend.select("SELECT a.path FROM calls a, calls b, calls c, calls d, calls e");
    let many = many.await.expect("rows");
    assert_eq!((many.rows.len(), many.truncated), (10_000, true));
    for sql in [
        "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String')",
        "SELECT * FROM file('/etc/passwd', LineAsString)",
        "SELECT * FROM numbers(1)",
        "SELECT * FROM system.one",
        "INSERT INTO calls (time) VALUES (1)",
        "SELECT nothing FROM calls",
        "SELECT sleep(3) FROM calls SETTINGS max_execution_time = 0",
    ] {
        let refused = backend.select(sql).await;
        assert!(
            matches!(refused, Err(Failure::Invalid(_))),
            "{sql}: {refused:?}"
        );
    }
    backend.close().await.expect("closes");
}
