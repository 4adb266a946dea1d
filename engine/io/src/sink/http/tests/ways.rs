//! The ways to a collector: Unix sockets and forward proxies.

use std::net::Shutdown;
use std::os::unix::net::UnixListener;

use super::*;

/// Answers one connection after the other on a Unix socket, until `closing`.
fn on_socket(listener: &UnixListener, received: &Mutex<Vec<Received>>, closing: &AtomicBool) {
    let script: Script = Arc::new(ok);
    listener.set_nonblocking(true).unwrap();
    thread::scope(|scope| {
        while !closing.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    let script = &script;
                    scope.spawn(move || serve(stream, 0, script, received, closing));
                }
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    });
}

#[test]
fn a_unix_socket_is_posted_to_and_awaited() {
    both(|driver| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("collector.sock");
        let url = format!("unix://{}:/m?a=b", socket.display());
        let mut bed = Bed::new(driver, &url, |_| {});
        let body = vec![7; 3 << 20];
        bed.push(1, &body, 1);
        let snapshot = bed.wait("down", |snapshot| snapshot.down);
        assert_eq!(snapshot.last_error_code, Some(Code::W042));
        let (received, closing) = (Mutex::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            let listener = UnixListener::bind(&socket).unwrap();
            let (received, closing) = (&received, &closing);
            scope.spawn(move || on_socket(&listener, received, closing));
            for id in 2..10 {
                bed.push(id, b"small", 1);
            }
            bed.wait("delivered", |snapshot| snapshot.counters.calls_sent == 9);
            bed.stop(PATIENCE);
            closing.store(true, Ordering::Relaxed);
        });
        let received = received.into_inner().unwrap();
        assert!(
            received
                .iter()
                .all(|request| request.start == "POST /m?a=b HTTP/1.1")
        );
        assert!(
            received
                .iter()
                .all(|request| request.headers["host"] == "localhost")
        );
        assert!(received.iter().any(|request| request.body == body));
    });
}

fn by_proxy(url: &str, proxy: SocketAddr) -> Vec<Route> {
    let proxy = CaptureUrl::parse_proxy(&format!("me:pw@{proxy}")).unwrap();
    vec![Route::new(CaptureUrl::parse(url).unwrap(), Some(proxy))]
}

#[test]
fn plain_http_goes_to_a_proxy_with_the_whole_url() {
    both(|driver| {
        let proxy = Server::start(ok);
        let url = "http://lake.example/message?token=t";
        let mut bed = Bed::new(driver, url, |config| {
            config.routes = by_proxy(url, proxy.address);
        });
        bed.push(1, b"x", 1);
        bed.wait("delivered", |snapshot| snapshot.counters.calls_sent == 1);
        bed.stop(PATIENCE);
        let received = proxy.received();
        assert_eq!(
            received[0].start,
            "POST http://lake.example:80/message?token=t HTTP/1.1"
        );
        assert_eq!(received[0].headers["host"], "lake.example");
        assert_eq!(received[0].headers["proxy-authorization"], "Basic bWU6cHc=");
    });
}

/// A proxy that gives this answer to CONNECT and passes bytes on to `to`.
struct Tunnels {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnels {
    fn start(to: SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let closing = Arc::new(AtomicBool::new(false));
        let (seen, closed) = (requests.clone(), closing.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, seen) = (stream.unwrap(), seen.clone());
                // Ends with its connection.
                thread::spawn(move || tunnel(stream, to, answer, &seen));
            }
        });
        Self {
            address,
            requests,
            closing,
            thread: Some(thread),
        }
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn tunnel(
    mut stream: TcpStream,
    to: SocketAddr,
    answer: &str,
    seen: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    seen.lock()
        .unwrap()
        .push(String::from_utf8_lossy(&head).into_owned());
    // In two pieces, as a slow proxy sends it.
    let (one, other) = answer.split_at(answer.len() / 2);
    stream.write_all(one.as_bytes())?;
    thread::sleep(Duration::from_millis(5));
    stream.write_all(other.as_bytes())?;
    if !answer.contains(" 200 ") {
        return Ok(());
    }
    let onwards = TcpStream::connect(to)?;
    let (mut here, mut there) = (stream.try_clone()?, onwards.try_clone()?);
    let back = thread::spawn(move || {
        let _ = io::copy(&mut there, &mut here);
        let _ = here.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut stream, &mut &onwards);
    let _ = onwards.shutdown(Shutdown::Both);
    back.join().unwrap();
    Ok(())
}

#[test]
fn https_goes_through_a_tunnel_of_the_proxy() {
    both(|driver| {
        let (config, pem) = tls::certificate("lake.example");
        let server = Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config), ok);
        let answer = "HTTP/1.1 200 Connection established\r\nVia: it\r\n\r\n";
        let proxy = Tunnels::start(server.address, answer);
        // The name is looked up by the proxy alone.
        let url = "https://lake.example/message";
        let mut bed = Bed::new(driver, url, |config| {
            config.routes = by_proxy(url, proxy.address);
            config.trust.roots = Roots::Pem(pem.clone());
        });
        let body = vec![9; 2 << 20];
        bed.push(1, &body, 1);
        bed.push(2, b"x", 1);
        bed.wait("delivered", |snapshot| snapshot.counters.calls_sent == 2);
        bed.stop(PATIENCE);
        let received = server.received();
        assert!(received.iter().any(|request| request.body == body));
        assert!(
            received
                .iter()
                .all(|request| request.start == "POST /message HTTP/1.1")
        );
        // What is for the proxy stays with it.
        let has = |request: &Received| request.headers.contains_key("proxy-authorization");
        assert!(!received.iter().any(has));
        let requests = proxy.requests.lock().unwrap();
        assert!(requests.iter().all(|request| {
            request.starts_with("CONNECT lake.example:443 HTTP/1.1\r\nhost: lake.example:443\r\n")
                && request.contains("proxy-authorization: Basic bWU6cHc=\r\n")
        }));
    });
}

#[test]
fn a_proxy_that_opens_no_tunnel_is_named_and_tried_again() {
    for (answer, code, expected) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "W043",
            "answered 407",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "W042",
            "cannot connect to the collector",
        ),
        ("\r\n\r\n", "W042", "its answer is not HTTP/1"),
    ] {
        let proxy = Tunnels::start("127.0.0.1:9".parse().unwrap(), answer);
        let url = "https://lake.example/message";
        let routes = by_proxy(url, proxy.address);
        let mut bed = Bed::new(Choice::Auto, url, |config| {
            config.routes.clone_from(&routes);
        });
        bed.push(1, b"x", 1);
        bed.wait("down", |snapshot| snapshot.down);
        let again = |_: &Snapshot| proxy.requests.lock().unwrap().len() > 1;
        let snapshot = bed.wait("tried again", again);
        assert!(
            snapshot.last_error.contains(expected),
            "{}",
            snapshot.last_error
        );
        assert_eq!(bed.codes(), [code]);
        let log = bed.events.lock().unwrap()[0].to_string();
        let name = format!("lake.example:443 (by proxy {})", proxy.address);
        assert!(log.starts_with(&name), "{log}");
        assert!(!log.contains("pw") && !log.contains("bWU6"), "{log}");
        let found = probe::probe(&Config::new(routes.clone()), &routes[0]);
        assert!(found.text.contains(expected), "{}", found.text);
        assert_eq!(bed.stop(Duration::ZERO).counters.calls_dropped_shutdown, 1);
    }
    // A proxy that is not there is another fault than a collector that is not.
    let proxy = Tunnels::start("127.0.0.1:9".parse().unwrap(), "");
    let address = proxy.address;
    drop(proxy);
    let url = "https://lake.example/message";
    let mut bed = Bed::new(Choice::Auto, url, |config| {
        config.routes = by_proxy(url, address);
    });
    bed.push(1, b"x", 1);
    let snapshot = bed.wait("down", |snapshot| snapshot.down);
    assert!(
        snapshot.last_error.contains("by the proxy: refused"),
        "{}",
        snapshot.last_error
    );
    bed.stop(Duration::ZERO);
}
