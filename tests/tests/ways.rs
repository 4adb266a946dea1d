//! The ways to a collector: client certificates, forward proxies, Unix sockets, several URLs. Real servers are at the other end,
//! the sandbox is on, and nothing of this traffic is a call.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Behaviour, Collector};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::capture::Capture;
use tests::haproxy::Haproxy;
use tests::network::Namespace;
use tests::nginx::{Nginx, curl};
use tests::process::{Ended, PATIENCE, Running, eventually, run};
use tests::program::sniffer;

const ON_LOOPBACK: (&str, &str) = ("NET_DEVICE", "lo");

fn collector(namespace: &Namespace, port: u16) -> Result<Collector> {
    Collector::serve(namespace.inside(|| TcpListener::bind(("127.0.0.1", port)))?)
}

/// Certificates that openssl makes.
struct Certificates(TempDir);

impl Certificates {
    /// An authority, and a certificate of a server on this machine.
    fn new() -> Result<Self> {
        let made = Self(tempfile::tempdir()?);
        made.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority \
             -keyout authority.key -out authority.pem",
        )?;
        made.issue("server", "server", 30)?;
        Ok(made)
    }

    fn openssl(&self, arguments: &str) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace());
        run(command.current_dir(self.0.path())).map(drop)
    }

    /// A certificate and its key in files of this name, valid for this number of days, which may be over. They replace others
    /// in one step, as a program that renews them does it.
    fn issue(&self, file: &str, name: &str, days: i32) -> Result<()> {
        fs::write(
            self.0.path().join("names"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:10.1.2.3\n",
        )?;
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout new.key -out new.csr"
        ))?;
        self.openssl(&format!(
            "x509 -req -in new.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days {days} \
             -extfile names -out new.pem"
        ))?;
        let both = [self.path("new.pem"), self.path("new.key")].map(fs::read_to_string);
        let [certificate, key] = both;
        fs::write(self.path("new.both"), certificate? + &key?)?;
        for kind in ["pem", "key", "both"] {
            fs::rename(
                self.path(&format!("new.{kind}")),
                self.path(&format!("{file}.{kind}")),
            )?;
        }
        Ok(())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// An nginx that encrypts port 7743 and passes requests on to the collector. It demands a client certificate if `demands`.
    fn nginx(&self, namespace: &Namespace, demands: bool) -> Result<Nginx> {
        let [certificate, key] = ["server.pem", "server.key"].map(|file| self.text(file));
        let authority = self.text("authority.pem");
        let demand = if demands {
            format!("ssl_client_certificate {authority}; ssl_verify_client on;")
        } else {
            String::new()
        };
        let server = format!(
            "server {{ listen 7743 ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; {demand} \
             client_max_body_size 64m; location / {{ proxy_pass http://127.0.0.1:7711; }} }}"
        );
        Nginx::serving(namespace, &server)
    }
}

fn hello(namespace: &Namespace, times: usize) -> Result<()> {
    curl(namespace, &vec!["http://127.0.0.1/hello"; times]).map(drop)
}

/// `sniffer check` in a namespace.
fn check(namespace: &Namespace, settings: &[(&str, &str)]) -> Result<Ended> {
    let mut command = sniffer(&["check", "-i", "lo", "--rules", "include debug"]);
    command.envs(settings.iter().copied());
    Running::start(&mut namespace.enter(&command))?.end(PATIENCE)
}

/// Exactly these calls were captured and delivered: no upload, and no CONNECT.
fn check_calls(capture: &Capture<'_>, collector: &Collector, count: u64) -> Result<()> {
    ensure!(
        collector.wait_for_lines(count, PATIENCE),
        "{}",
        capture.log()
    );
    let shown = eventually(PATIENCE, || {
        let shown = capture.status()?;
        ensure!(shown["capture"]["calls"]["sent"] == count, "{shown}");
        Ok(shown)
    })?;
    assert_eq!(shown["capture"]["calls"]["seen"], count, "{shown}");
    let sandbox = shown["capture"]["sandbox"].as_str().unwrap_or_default();
    ensure!(sandbox.contains("seccomp on"), "{sandbox}");
    Ok(())
}

fn warning<'a>(status: &'a Value, code: &str) -> Option<&'a str> {
    let mut warnings = status["warnings"].as_array()?.iter();
    let found = warnings.find(|warning| warning["code"] == code)?;
    found["text"].as_str()
}

/// nginx answers 400 where it does not accept the client certificate. Nothing is lost by that, and what was renewed is used
/// after SIGHUP.
#[test]
fn a_client_certificate_that_expired_is_renewed_without_a_loss() -> Result<()> {
    let namespace = Namespace::new("client")?;
    let made = Certificates::new()?;
    made.issue("client", "sniffer", -1)?;
    let collector = collector(&namespace, 7711)?;
    let _nginx = made.nginx(&namespace, true)?;
    let [authority, certificate, key] =
        ["authority.pem", "client.pem", "client.key"].map(|file| made.text(file));
    let settings = [
        ON_LOOPBACK,
        ("SNIFFER_CA", authority.as_str()),
        ("SNIFFER_TLS_CERT", certificate.as_str()),
        ("SNIFFER_TLS_KEY", key.as_str()),
    ];
    let url = "https://localhost:7743/message";
    let mut capture = Capture::start(&namespace, url, &settings)?;
    hello(&namespace, 2)?;
    capture.wait_for_log("W046")?;
    let shown = capture.status()?;
    let text = warning(&shown, "W046").context("no W046")?;
    assert!(
        text.contains("does not accept the client certificate"),
        "{text}"
    );
    let of_url = [&settings[1..], &[("USAGE_LOGGERS_URL", url)]].concat();
    let found = check(&namespace, &of_url)?;
    assert!(
        found
            .stdout
            .contains("does not accept the client certificate"),
        "{}",
        found.stdout
    );
    let found = check(&namespace, &[of_url[0], ("USAGE_LOGGERS_URL", url)])?;
    assert!(
        found.stdout.contains("it demands a client certificate"),
        "{}",
        found.stdout
    );

    // What cannot be used changes nothing, and is reported.
    fs::write(made.path("client.key"), "nothing\n")?;
    let reloaded = capture.control(&["rules", "reload"])?;
    assert_eq!(reloaded.code()?, 2, "{reloaded:?}");
    assert!(reloaded.stderr.contains("no key in it") || reloaded.stdout.contains("no key in it"));
    capture.wait_for_log("the old certificates stay in use")?;

    made.issue("client", "sniffer", 30)?;
    capture.signal(Signal::SIGHUP)?;
    capture.wait_for_log("certificates read again")?;
    capture.wait_for_log("takes calls again")?;
    check_calls(&capture, &collector, 2)?;
    capture.stop()?;
    Ok(())
}

/// A server that refuses by an alert of TLS, and one whose own certificate has expired and is renewed.
#[test]
fn faults_of_certificates_are_named_until_they_are_corrected() -> Result<()> {
    let namespace = Namespace::new("alerts")?;
    let made = Certificates::new()?;
    let _nginx = Nginx::start(&namespace)?;
    let collector = collector(&namespace, 7711)?;
    let authority = made.text("authority.pem");
    let demanding = Haproxy::encrypting(
        &namespace,
        7744,
        "127.0.0.1:7711",
        &[&made.path("server.both"), Path::new(&authority)],
    )?;
    let settings = [ON_LOOPBACK, ("SNIFFER_CA", authority.as_str())];
    let url = "https://localhost:7744/message";
    let mut capture = Capture::start(&namespace, url, &settings)?;
    hello(&namespace, 1)?;
    capture.wait_for_log("it demands a client certificate")?;
    capture.terminate()?;
    made.issue("client", "sniffer", 30)?;
    let both = made.text("client.both");
    let with_one = [
        settings[0],
        settings[1],
        ("SNIFFER_TLS_CERT", both.as_str()),
    ];
    let capture = Capture::start(&namespace, url, &with_one)?;
    hello(&namespace, 1)?;
    check_calls(&capture, &collector, 1)?;
    capture.stop()?;
    // A sink with a name has its own, and those of the capture URL are not for it.
    let near = ("SNIFFER_SINKS", "near=https://localhost:7744/message");
    let own = ("SNIFFER_SINK_NEAR_TLS_CERT", both.as_str());
    let own_ca = ("SNIFFER_SINK_NEAR_CA", authority.as_str());
    let name = ("SNIFFER_SINK_NEAR_TLS_SERVER_NAME", "elsewhere.example");
    for (settings, expected) in [
        (vec![near, settings[1], own], "an empty bundle"),
        (
            vec![near, own_ca, with_one[2]],
            "it demands a client certificate",
        ),
        (vec![near, own_ca, own, name], "not for elsewhere.example"),
    ] {
        let found = check(&namespace, &settings)?;
        assert!(found.stdout.contains(expected), "{}", found.stdout);
    }
    drop(demanding);

    made.issue("server", "server", -1)?;
    let expired = made.haproxy(&namespace)?;
    let url = "https://localhost:7743/message";
    let mut capture = Capture::start(&namespace, url, &settings)?;
    hello(&namespace, 1)?;
    capture.wait_for_log("its certificate expired on ")?;
    drop(expired);
    made.issue("server", "server", 30)?;
    let _renewed = made.haproxy(&namespace)?;
    capture.wait_for_log("takes calls again")?;
    ensure!(collector.wait_for_lines(2, PATIENCE), "{}", capture.log());
    capture.stop()?;
    // The name that the certificate must be for, instead of the URL's.
    for (name, expected) in [
        ("elsewhere.example", "not for elsewhere.example"),
        ("localhost", "an empty bundle"),
    ] {
        let url = ("USAGE_LOGGERS_URL", "https://127.0.0.1:7743/message");
        let name = ("SNIFFER_TLS_SERVER_NAME", name);
        let found = check(&namespace, &[url, settings[1], name])?;
        assert!(found.stdout.contains(expected), "{}", found.stdout);
    }
    Ok(())
}

impl Certificates {
    /// A haproxy that encrypts port 7743 and passes requests on to the collector.
    fn haproxy(&self, namespace: &Namespace) -> Result<Haproxy> {
        let file = self.path("server.both");
        Haproxy::encrypting(namespace, 7743, "127.0.0.1:7711", &[&file])
    }
}

/// A proxy that opens tunnels for whoever has these credentials.
fn tunnels(namespace: &Namespace, port: u16) -> Result<()> {
    namespace.inside(move || -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Ends with its connection.
                thread::spawn(move || tunnel(client));
            }
        });
        Ok(())
    })
}

fn tunnel(mut client: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let target = (words.next() == Some("CONNECT")).then(|| words.next());
    if !head.contains("proxy-authorization: Basic bWU6aHVudGVyMg==") {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    }
    let Some(Some(target)) = target else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n");
    };
    let Ok(server) = TcpStream::connect(target) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
    };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut back, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let answers = thread::spawn(move || {
        let _ = io::copy(&mut back, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut client, &mut &server);
    let _ = server.shutdown(Shutdown::Both);
    let _ = answers.join();
    Ok(())
}

#[test]
fn uploads_through_a_proxy_are_delivered_and_not_captured() -> Result<()> {
    let namespace = Namespace::new("proxy")?;
    namespace.ip("address add 10.1.2.3/32 dev lo")?;
    let made = Certificates::new()?;
    let authority = made.text("authority.pem");
    // A proxy for plain http, too.
    let [certificate, key] = ["server.pem", "server.key"].map(|file| made.text(file));
    let servers = format!(
        "server {{ listen 7743 ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; \
         client_max_body_size 64m; location / {{ proxy_pass http://127.0.0.1:7711; }} }} \
         server {{ listen 3129; client_max_body_size 64m; location / {{ proxy_pass http://$http_host$uri; }} }}"
    );
    let _nginx = Nginx::serving(&namespace, &servers)?;
    tunnels(&namespace, 3128)?;
    let on_loopback = collector(&namespace, 7711)?;
    let elsewhere = Collector::serve(namespace.inside(|| TcpListener::bind("10.1.2.3:7712"))?)?;
    let proxy = "http://me:hunter2@127.0.0.1:3128";
    let trust = ("SNIFFER_CA", authority.as_str());
    let (tls, plain) = (
        "https://10.1.2.3:7743/message",
        "http://10.1.2.3:7712/message",
    );
    let mut on_tls = 0;
    for (url, proxy) in [
        ("https://localhost:7743/message", ("SNIFFER_PROXY", proxy)),
        (tls, ("HTTPS_PROXY", proxy)),
        (plain, ("http_proxy", "127.0.0.1:3129")),
    ] {
        let capture = Capture::start(&namespace, url, &[ON_LOOPBACK, trust, proxy])?;
        hello(&namespace, 3)?;
        let (collector, expected) = if url == plain {
            (&elsewhere, 3)
        } else {
            on_tls += 3;
            (&on_loopback, on_tls)
        };
        ensure!(
            collector.wait_for_lines(expected, PATIENCE),
            "{}",
            capture.log()
        );
        let shown = eventually(PATIENCE, || {
            let shown = capture.status()?;
            ensure!(shown["capture"]["calls"]["sent"] == 3, "{shown}");
            Ok(shown)
        })?;
        assert_eq!(shown["capture"]["calls"]["seen"], 3, "{url}: {shown}");
        let texts = [shown.to_string(), capture.log()];
        assert!(
            !texts.iter().any(|text| text.contains("hunter2")),
            "{texts:?}"
        );
        capture.stop()?;
    }
    // A proxy that demands credentials is named with what is missing.
    let without = ("SNIFFER_PROXY", "127.0.0.1:3128");
    let mut capture = Capture::start(&namespace, tls, &[ON_LOOPBACK, trust, without])?;
    hello(&namespace, 1)?;
    capture.wait_for_log("W043")?;
    assert!(
        capture.log().contains("by the proxy, which answered 407"),
        "{}",
        capture.log()
    );
    capture.terminate()?;
    let found = check(&namespace, &[("USAGE_LOGGERS_URL", tls), trust, without])?;
    assert!(found.stdout.contains("answered 407"), "{}", found.stdout);
    let of_name = [("USAGE_LOGGERS_URL", tls), trust, ("SNIFFER_PROXY", proxy)];
    let found = check(&namespace, &of_name)?;
    assert!(found.stdout.contains("an empty bundle"), "{}", found.stdout);
    assert!(!found.stdout.contains("hunter2"), "{}", found.stdout);
    Ok(())
}

/// The capture itself may not connect to a Unix socket; the process that may passes the connections on.
#[test]
fn a_unix_socket_is_delivered_to_from_the_sandbox() -> Result<()> {
    let namespace = Namespace::new("unix")?;
    let collector = collector(&namespace, 7711)?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("collector.sock").display().to_string();
    let server = format!(
        "server {{ listen unix:{socket}; client_max_body_size 64m; location / {{ proxy_pass http://127.0.0.1:7711; }} }}"
    );
    let nginx = Nginx::serving(&namespace, &server)?;
    let url = format!("unix://{socket}");
    // The URL needs no rule for plain http.
    let rules = ("USAGE_LOGGERS_RULES", "include default");
    let mut capture = Capture::start(&namespace, &url, &[ON_LOOPBACK, rules])?;
    hello(&namespace, 3)?;
    check_calls(&capture, &collector, 3)?;
    let found = check(&namespace, &[("USAGE_LOGGERS_URL", &url)])?;
    assert!(found.stdout.contains("an empty bundle"), "{}", found.stdout);
    // A server that is started anew has a new socket under the same name.
    drop(nginx);
    fs::remove_file(&socket)?;
    let without = Nginx::start(&namespace)?;
    hello(&namespace, 1)?;
    capture.wait_for_log("W042")?;
    drop(without);
    let _nginx = Nginx::serving(&namespace, &server)?;
    capture.wait_for_log("takes calls again")?;
    // With what was asked of each nginx when it started.
    ensure!(collector.wait_for_lines(4, PATIENCE), "{}", capture.log());
    capture.stop()?;
    Ok(())
}

#[test]
fn the_next_url_takes_over_and_the_first_is_used_again() -> Result<()> {
    let namespace = Namespace::new("urls")?;
    let _nginx = Nginx::start(&namespace)?;
    let (first, second) = (collector(&namespace, 7711)?, collector(&namespace, 7712)?);
    let urls = format!("{} {}", first.url(), second.url());
    let mut capture = Capture::start(&namespace, &urls, &[ON_LOOPBACK])?;
    hello(&namespace, 2)?;
    check_calls(&capture, &first, 2)?;
    first.set_behaviour(Behaviour::Refuse(503));
    hello(&namespace, 3)?;
    ensure!(second.wait_for_lines(3, PATIENCE), "{}", capture.log());
    capture.wait_for_log("sending to 127.0.0.1:7712")?;
    let shown = eventually(PATIENCE, || {
        let shown = capture.status()?;
        ensure!(shown["capture"]["calls"]["sent"] == 5, "{shown}");
        Ok(shown)
    })?;
    let output = &shown["capture"]["output"];
    assert_eq!(output["up"], true, "{shown}");
    let [one, other] = [&output["urls"][0], &output["urls"][1]];
    assert_eq!(
        (&one["up"], &other["up"]),
        (&false.into(), &true.into()),
        "{shown}"
    );
    assert_eq!(one["url"], first.url());
    assert!(
        one["error"]
            .as_str()
            .is_some_and(|why| why.contains("answered 503"))
    );
    let text = capture.control(&["status"])?.stdout;
    assert!(text.contains("DOWN: answered 503"), "{text}");
    first.set_behaviour(Behaviour::Accept);
    let mut calls = 5;
    eventually(PATIENCE, || {
        calls += 1;
        hello(&namespace, 1)?;
        ensure!(
            first.wait_for_lines(3, std::time::Duration::from_millis(1500)),
            "not yet"
        );
        Ok(())
    })?;
    let shown = eventually(PATIENCE, || {
        let shown = capture.status()?;
        ensure!(shown["capture"]["calls"]["sent"] == calls, "{shown}");
        Ok(shown)
    })?;
    assert_eq!(
        shown["capture"]["calls"]["seen"], calls,
        "no upload to either"
    );
    capture.stop()?;
    Ok(())
}
