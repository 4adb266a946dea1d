//! Connections that a supervisor passes: whatever fills the listener of the capture URL, they are served.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use store::limits::{CONNECTIONS_MAX, PASSED_MAX};
use store::passed::Passing;
use tokio::sync::oneshot;

use crate::client::{Running, connect, free_ports, line, read_head};

/// A store with connections that are passed, and where to pass them.
fn start() -> (Running, Passing) {
    let folder = tempfile::tempdir().expect("folder");
    let config = free_ports(folder.path());
    let (passing, passed) = store::passed::passing();
    let (stop, stopped) = oneshot::channel::<()>();
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let opened = store::Opened::new(config).expect("opens");
        let on_ready = move |ready: &store::Ready| sender.send(ready.clone()).expect("waits");
        let stopped = async { drop(stopped.await) };
        let opened = opened.with_passed(passed);
        opened.run_until(on_ready, |_| {}, stopped).expect("runs");
    });
    let ready = receiver.recv().expect("ready");
    (Running::of(ready, stop, thread, folder), passing)
}

fn pass(passing: &Passing) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    passing.pass(theirs);
    ours
}

fn post(connection: &mut UnixStream, body: &str) -> u16 {
    let head = format!(
        "POST /message HTTP/1.1\r\nHost: x\r\nContent-Type: application/ndjson\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).expect("sends");
    connection.write_all(body.as_bytes()).expect("sends");
    read_head(&mut BufReader::new(connection)).0
}

#[test]
fn a_full_listener_and_other_senders_of_this_host_do_not_matter() {
    let (store, passing) = start();
    let mut capture = pass(&passing);
    let call = line(&[("request_url", "http://h/")]);
    assert_eq!(post(&mut capture, &call), 204);

    // Every place is taken, and all bytes that others on this host may have in flight.
    let piece = vec![b'x'; 15 << 20];
    let mut stalled: Vec<TcpStream> = Vec::new();
    for number in 0..CONNECTIONS_MAX + 20 {
        let mut stream = connect(store.ready.capture);
        let head = "POST /message HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 15728641\r\n\r\n";
        // Some find their place given to another, or are answered that too much is on its way.
        let _ = stream.write_all(head.as_bytes());
        if number >= CONNECTIONS_MAX + 10 {
            let _ = stream.write_all(&piece);
        }
        stalled.push(stream);
    }
    // The same connection, and a new one.
    assert_eq!(post(&mut capture, &call), 204);
    assert_eq!(post(&mut pass(&passing), &call), 204);

    let status = store.json("/api/v1/status");
    let senders = status["senders"].as_array().expect("a list");
    assert_eq!(senders.len(), 1, "{status}");
    assert_eq!(senders[0]["sender"], "capture");
    assert_eq!(senders[0]["calls"], 3);
}

#[test]
fn passed_connections_have_a_bound_and_the_newest_is_served() {
    let (_store, passing) = start();
    let call = line(&[("request_url", "http://h/")]);
    let mut held = Vec::new();
    for _ in 0..3 * PASSED_MAX {
        let mut connection = pass(&passing);
        assert_eq!(post(&mut connection, &call), 204);
        held.push(connection);
    }
    let mut byte = [0];
    let ended = std::io::Read::read(&mut held[0], &mut byte);
    assert_eq!(ended.expect("closed"), 0, "the oldest gave its place");
}
