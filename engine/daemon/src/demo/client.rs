//! The demo's HTTP client: calls of every common shape, made as real programs make them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One step on a connection: what is written at once, and the methods whose responses are read afterwards.
struct Step {
    request: String,
    answers: &'static [&'static str],
}

/// Makes all calls; returns how many were answered.
pub(super) fn make_calls(server: SocketAddr) -> std::io::Result<u64> {
    let host = format!("shop.example:{}", server.port());
    let mut calls = 0;
    for connection in conversations(&host) {
        let socket = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.set_nodelay(true)?;
        let mut reader = BufReader::new(&socket);
        for step in connection {
            (&socket).write_all(step.request.as_bytes())?;
            for method in step.answers {
                read_answer(&mut reader, method)?;
                calls += 1;
            }
        }
    }
    Ok(calls)
}

/// The connections, each with its steps.
fn conversations(host: &str) -> Vec<Vec<Step>> {
    let agent = "User-Agent: sniffer-demo/1\r\nAccept: */*\r\n";
    let get = |target: &str, fields: &str| Step {
        request: format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{agent}{fields}\r\n"),
        answers: &["GET"],
    };
    let with_body = |method: &str, target: &str, kind: &str, fields: &str, body: &str, answers| {
        Step {
            request: format!(
                "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{agent}Content-Type: {kind}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            answers,
        }
    };
    let bare = |method: &str, target: &str, answers| Step {
        request: format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{agent}\r\n"),
        answers,
    };
    let order = r#"{"product":17,"count":2,"contact":"ann@example.com","card":"4111111111111111"}"#;
    let ping = format!("GET /v1/ping HTTP/1.1\r\nHost: {host}\r\n{agent}\r\n");
    vec![
        vec![
            get("/shop", ""),
            get("/v1/products", "Accept-Encoding: gzip\r\n"),
            get(
                "/v1/products/17?fields=name,price&note=caf%C3%A9+au+lait",
                "",
            ),
            get("/v1/products/17", "If-None-Match: \"v3\"\r\n"),
            bare("HEAD", "/v1/products", &["HEAD"]),
        ],
        vec![
            with_body(
                "POST",
                "/login",
                "application/x-www-form-urlencoded",
                "",
                "user=ann&password=not-so-secret",
                &["POST"],
            ),
            with_body(
                "POST",
                "/v1/orders",
                "application/json",
                "Cookie: session=8f14e45f\r\nAuthorization: Bearer demo-token\r\n",
                order,
                &["POST"],
            ),
            Step {
                request: format!(
                    "PUT /v1/orders/1001 HTTP/1.1\r\nHost: {host}\r\n{agent}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
                     e\r\n{{\"count\":3,\"no\r\n10\r\nte\":\"no sugar\" }}\r\n0\r\n\r\n"
                ),
                answers: &["PUT"],
            },
            get("/v1/orders/1001", ""),
            bare("DELETE", "/v1/orders/1001", &["DELETE"]),
        ],
        vec![
            with_body(
                "POST",
                "/v1/pay",
                "application/json",
                "",
                r#"{"order":1001,"amount":25.0}"#,
                &["POST"],
            ),
            with_body(
                "POST",
                "/graphql",
                "application/json",
                "",
                r#"{"query":"{ product(id: 18) { name } }"}"#,
                &["POST"],
            ),
            get("/v1/nothing-here", ""),
        ],
        vec![Step {
            request: format!("{ping}{ping}{ping}"),
            answers: &["GET", "GET", "GET"],
        }],
        vec![
            get("/comment", ""),
            get("/v1/report.csv", ""),
            get("/v1/slow", "Connection: close\r\n"),
        ],
    ]
}

/// Reads one whole response and discards it.
fn read_answer(reader: &mut impl BufRead, method: &str) -> std::io::Result<()> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if head.len() - before <= 2 {
            break;
        }
    }
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let head = head.to_ascii_lowercase();
    if method == "HEAD" || status == "204" || status == "304" {
        return Ok(());
    }
    if head.contains("transfer-encoding: chunked") {
        return read_chunks(reader);
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse().ok());
    let read = std::io::copy(&mut reader.take(length.unwrap_or(0)), &mut std::io::sink())?;
    if Some(read) == length {
        Ok(())
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

fn read_chunks(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size =
            u64::from_str_radix(line.trim(), 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
        if size == 0 {
            break;
        }
        std::io::copy(&mut reader.by_ref().take(size + 2), &mut std::io::sink())?;
    }
    loop {
        let mut trailer = String::new();
        if reader.read_line(&mut trailer)? <= 2 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::server;

    #[test]
    fn the_server_answers_every_call() {
        let address = server::start(0).unwrap();
        let expected: usize = conversations("x")
            .iter()
            .flatten()
            .map(|step| step.answers.len())
            .sum();
        assert_eq!(make_calls(address).unwrap(), expected as u64);
        assert!(expected > 12);
    }
}
