//! What the program around the store passes in: the link to its supervisor, and the language of rules.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};

use serde_json::{Value, json};
use store::engine::Linking;
use store::rules::{Outcome, Rules, RulesError, Trial, Tried, TriedRule};
use tokio::sync::oneshot;

use crate::client::{Answer, Running, free_ports, line, request};
use crate::schema;

/// A store of a program that passes both in.
fn start(linking: Linking) -> Running {
    let folder = tempfile::tempdir().expect("folder");
    let config = free_ports(folder.path());
    let (stop, stopped) = oneshot::channel::<()>();
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let opened = store::Opened::new(config).expect("opens");
        let opened = opened.with_link(linking).with_rules(Arc::new(Words));
        let on_ready = move |ready: &store::Ready| sender.send(ready.clone()).expect("waits");
        let stopped = async { drop(stopped.await) };
        opened.run_until(on_ready, |_| {}, stopped).expect("runs");
    });
    let ready = receiver.recv().expect("ready");
    Running::of(ready, stop, thread, folder)
}

fn post(store: &Running, path: &str, body: &Value) -> Answer {
    let headers = format!(
        "{}Content-Type: application/json\r\n",
        store.authorization()
    );
    let body = body.to_string();
    request(store.ready.page, "POST", path, &headers, body.as_bytes())
}

/// Checks an answer against the description of the API.
#[track_caller]
fn check(store: &Running, method: &str, path: &str, answer: &Answer) {
    let api = store.json("/api/v1/openapi.json");
    let pointer = format!("/paths/{}/{method}", path.replace('/', "~1"));
    let operation = api.pointer(&pointer).expect("it is described");
    let response = schema::resolve(&api, &operation["responses"][answer.status.to_string()]);
    let schema = &response["content"]["application/json"]["schema"];
    let result = schema::check(&api, schema, &answer.json());
    result.unwrap_or_else(|wrong| panic!("{path} {}: {wrong}", answer.text()));
}

#[test]
fn a_store_alone_has_no_capture() {
    let store = start(Linking::default());
    let answer = store.get("/api/v1/capture");
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"status": null}))
    );
    check(&store, "get", "/api/v1/capture", &answer);
    let answer = post(&store, "/api/v1/capture", &json!({"on": true}));
    assert_eq!(answer.status, 400, "{}", answer.text());
    check(&store, "post", "/api/v1/capture", &answer);
}

#[test]
fn the_capture_is_reached_over_the_link() {
    let linking = Linking::default();
    let store = start(linking.clone());
    let (supervisor, theirs) = UnixStream::pair().expect("a pair");
    linking.set(theirs);
    let (sender, requests) = mpsc::channel();
    let answering = std::thread::spawn(move || {
        let lines = BufReader::new(&supervisor).lines();
        // It ends after four of them.
        for request in lines.take(4) {
            let request = request.expect("a line");
            sender.send(request).expect("the test waits");
            let status = json!({"exit": 0, "text": "", "status": {"state": "RUNNING", "note": "<b>\u{202e}"}});
            let answer = format!("{status}\n");
            (&supervisor).write_all(answer.as_bytes()).expect("sends");
        }
    });
    let next = || requests.recv().expect("a request");
    let answer = store.get("/api/v1/capture");
    assert_eq!(next(), r#"{"command":"status"}"#);
    check(&store, "get", "/api/v1/capture", &answer);
    let status = json!({"state": "RUNNING", "note": "<b>\u{202e}"});
    assert_eq!(answer.json()["status"], status);
    for (on, command) in [(true, "on"), (false, "off")] {
        let answer = post(&store, "/api/v1/capture", &json!({"on": on}));
        assert_eq!(answer.json(), json!({"accepted": true}));
        check(&store, "post", "/api/v1/capture", &answer);
        assert_eq!(next(), format!(r#"{{"command":"{command}"}}"#));
    }
    for wrong in [json!({}), json!({"on": "yes"}), json!({"on": true, "x": 1})] {
        assert_eq!(post(&store, "/api/v1/capture", &wrong).status, 400);
    }
    assert_eq!(store.get("/api/v1/capture").status, 200);
    assert_eq!(next(), r#"{"command":"status"}"#);
    answering.join().expect("ends");
    // The supervisor is gone: that is no store without a capture.
    let answer = post(&store, "/api/v1/capture", &json!({"on": true}));
    assert_eq!(answer.status, 503, "{}", answer.text());
    check(&store, "post", "/api/v1/capture", &answer);
    let answer = store.get("/api/v1/capture");
    assert_eq!(answer.status, 503, "{}", answer.text());
}

/// A file of packets is passed on as it comes, and so is the reason why there is none.
#[test]
fn packets_come_over_the_link() {
    let linking = Linking::default();
    let store = start(linking.clone());
    let call = line(&[
        ("request_method", "GET"),
        ("custom_field:client_address", "10.0.0.1"),
        ("custom_field:client_port", "4000"),
        ("custom_field:server_address", "10.0.0.2"),
        ("custom_field:server_port", "80"),
        ("custom_field:vni", "7"),
        ("custom_field:request_started", "1700000000000000000"),
    ]);
    let without = line(&[("request_method", "PUT")]);
    assert_eq!(store.post((call + &without).as_bytes()).status, 204);
    let (supervisor, theirs) = UnixStream::pair().expect("a pair");
    linking.set(theirs);
    let file: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let sent = file.clone();
    let answering = std::thread::spawn(move || {
        let mut requests = Vec::new();
        let answers: [&[u8]; 3] = [&sent, b"", &sent[..5]];
        let lines = BufReader::new(&supervisor).lines();
        // In this order, since it waits for no fourth line.
        for (file, request) in answers.into_iter().zip(lines) {
            requests.push(request.expect("a line"));
            let answer = json!({"exit": 0, "text": "keeps no packets", "bytes": file.len()});
            let answer = format!("{answer}\n");
            (&supervisor).write_all(answer.as_bytes()).expect("sends");
            (&supervisor).write_all(file).expect("sends");
        }
        requests
    });
    let list = store.json("/api/v1/calls");
    let id = |method: &str| {
        let mut calls = list["calls"].as_array().expect("calls").iter();
        let call = calls.find(|call| call["method"] == method);
        call.expect("it is there")["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let path = format!("/api/v1/calls/{}/pcap", id("GET"));
    let answer = store.get(&path);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/x-pcapng")
    );
    assert_eq!(answer.decoded(), file);
    let answer = store.get(&path);
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (404, &json!("keeps no packets"))
    );
    check(&store, "get", "/api/v1/calls/{id}/pcap", &answer);
    let answer = store.get("/api/v1/packets?from=1000&to=2000");
    assert_eq!(answer.decoded(), &file[..5]);
    let requests = answering.join().expect("ends");
    let requests: Vec<Value> = requests
        .iter()
        .map(|request| serde_json::from_str(request).expect("JSON"))
        .collect();
    assert_eq!(
        requests[0],
        json!({
            "command": "packets",
            "from_millis": 1_699_999_999_000_u64,
            "until_millis": 1_700_000_001_000_u64,
            "connection": { "client": "10.0.0.1:4000", "server": "10.0.0.2:80", "vni": 7 },
        })
    );
    assert_eq!(
        requests[2],
        json!({"command": "packets", "from_millis": 1000, "until_millis": 2000, "connection": null})
    );
    let answer = store.get(&format!("/api/v1/calls/{}/pcap", id("PUT")));
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert!(answer.text().contains("--annotate"), "{}", answer.text());
}

#[test]
fn other_sites_and_strangers_do_not_switch() {
    let store = start(Linking::default());
    let body = br#"{"on":true}"#;
    let send =
        |headers: &str| request(store.ready.page, "POST", "/api/v1/capture", headers, body).status;
    assert_eq!(send("Content-Type: application/json\r\n"), 401);
    // What a form of another site could send.
    let form = format!("{}Content-Type: text/plain\r\n", store.authorization());
    assert_eq!(send(&form), 400);
}

/// A language of one verb: each line is a word that is replaced by `x`; `stop` stops, and `!` is an error.
#[derive(Debug)]
struct Words;

struct Replacing(Vec<(String, u64)>);

impl Rules for Words {
    fn parse(&self, text: &str) -> Result<Box<dyn Trial>, RulesError> {
        if let Some(line) = text.lines().position(|line| line == "!") {
            return Err(RulesError {
                message: "no word".into(),
                line: line + 1,
                column: 1,
                source: "!".into(),
            });
        }
        let words = text.lines().map(|line| (line.to_owned(), 0));
        Ok(Box::new(Replacing(words.collect())))
    }
}

impl Trial for Replacing {
    fn apply(&mut self, details: &[(String, String)]) -> Tried {
        let mut outcome = Outcome::Kept;
        let left = details.iter().map(|(_, value)| {
            let mut value = value.clone();
            for (word, hits) in &mut self.0 {
                if !value.contains(word.as_str()) {
                    continue;
                }
                *hits += 1;
                if word == "stop" {
                    outcome = Outcome::Stopped;
                }
                value = value.replace(word.as_str(), "x");
            }
            (value != "x").then_some(value)
        });
        let left = left.collect();
        Tried { outcome, left }
    }

    fn rules(&self) -> Vec<TriedRule> {
        let rules = self.0.iter().enumerate();
        let tried = rules.map(|(index, (word, hits))| TriedRule {
            line: index + 1,
            rule: word.clone(),
            hits: *hits,
        });
        tried.collect()
    }
}

#[test]
fn rules_are_tried_on_the_last_calls_and_change_nothing() {
    let store = start(Linking::default());
    let mut bundle = String::new();
    for number in 0..110 {
        let url = format!("http://h/{number}");
        bundle += &line(&[("request_url", &url), ("request_body", "secret")]);
    }
    let long = format!("{}secret{}", "a".repeat(1000), "b".repeat(1000));
    bundle += &line(&[("request_url", "http://h/stop"), ("request_body", "plain")]);
    bundle += &line(&[("request_url", "http://h/long"), ("request_body", &long)]);
    assert_eq!(store.post(bundle.as_bytes()).status, 204);
    let before = store.json("/api/v1/calls?limit=1000");

    let test = |body: &Value| {
        let answer = post(&store, "/api/v1/rules/test", body);
        check(&store, "post", "/api/v1/rules/test", &answer);
        answer
    };
    let answer = test(&json!({"rules": "secret\nstop"})).json();
    assert_eq!(
        (&answer["tested"], &answer["partial"]),
        (&json!(100), &Value::Null)
    );
    let calls = answer["calls"].as_array().expect("calls");
    assert_eq!(calls.len(), 100, "the 98 newest, and the two others");
    let change = |index: usize| &calls[index]["changes"];
    // The newest is first, and of its long value there is the part around the change.
    let shown = change(0)[0]["before"].as_str().expect("a text");
    assert!(shown.contains("asecretb") && shown.len() < 300, "{shown}");
    assert!(
        change(0)[0]["after"]
            .as_str()
            .is_some_and(|after| after.contains("axb"))
    );
    assert_eq!(
        (&calls[1]["outcome"], change(1)),
        (&json!("stopped"), &json!([]))
    );
    assert_eq!(
        change(2),
        &json!([{"key": "request_body", "before": "secret", "after": null}])
    );
    assert_eq!(answer["rules"][0]["hits"], 99);
    assert_eq!(answer["rules"][1]["hits"], 1);

    let answer = test(&json!({"rules": "secret", "filter": "path==/7"})).json();
    assert_eq!(
        (&answer["tested"], answer["calls"].as_array().map(Vec::len)),
        (&json!(1), Some(1))
    );
    let answer = test(&json!({"rules": "absent"})).json();
    assert_eq!(answer["calls"], json!([]));
    let answer = test(&json!({"rules": "a\n!"}));
    let error = json!({"error": "no word", "line": 2, "column": 1, "source": "!"});
    assert_eq!((answer.status, answer.json()), (400, error));
    for wrong in [
        json!({"rules": " \n"}),
        json!({"rules": "a", "filter": "("}),
        json!({"rules": "a".repeat(100_000)}),
        json!({"rule": "a"}),
    ] {
        assert_eq!(test(&wrong).status, 400, "{wrong}");
    }
    assert_eq!(store.json("/api/v1/calls?limit=1000"), before);
}
