//! The demo's HTTP server: a small shop on loopback whose responses have every common shape.
//!
//! It serves the demo's own client. Its responses are fixed; it keeps nothing and reads no file.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bytes of one request head; the client's are far shorter.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// Bytes of one request body.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A connection is closed after this time without a byte.
const SILENCE: Duration = Duration::from_secs(30);

/// Listens on loopback and starts to answer; returns the address.
pub(super) fn start(port: u16) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let address = listener.local_addr()?;
    std::thread::Builder::new()
        .name("demo-server".into())
        .spawn(move || {
            for client in listener.incoming().flatten() {
                // If no thread can be started, the connection is closed.
                let _ = std::thread::Builder::new()
                    .name("demo-connection".into())
                    .spawn(move || {
                        let _ = serve(&client);
                    });
            }
        })?;
    Ok(address)
}

fn serve(client: &TcpStream) -> std::io::Result<()> {
    client.set_read_timeout(Some(SILENCE))?;
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    while let Some(request) = read_request(&mut reader)? {
        answer(&request, &mut &*client)?;
        if request.close {
            break;
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    close: bool,
    etag_known: bool,
    body_bytes: usize,
}

/// The next request, with its body read and discarded; `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut head = Vec::new();
    let mut bounded = reader.by_ref().take(HEAD_BYTES_MAX);
    loop {
        let before = head.len();
        if bounded.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
        if head.len() - before <= 2 {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
    };
    let body_bytes = match field("transfer-encoding:") {
        Some(_) => skip_chunks(reader)?,
        None => skip(
            reader,
            field("content-length:")
                .and_then(|value| value.parse().ok())
                .unwrap_or(0),
        )?,
    };
    let mut words = head.split(' ');
    Ok(Some(Request {
        method: words.next().unwrap_or_default().to_ascii_uppercase(),
        path: words
            .next()
            .unwrap_or_default()
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned(),
        close: field("connection:").is_some_and(|value| value == "close"),
        etag_known: field("if-none-match:").is_some(),
        body_bytes,
    }))
}

fn skip(reader: &mut impl BufRead, bytes: usize) -> std::io::Result<usize> {
    if bytes > BODY_BYTES_MAX {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    std::io::copy(&mut reader.take(bytes as u64), &mut std::io::sink())?;
    Ok(bytes)
}

fn skip_chunks(reader: &mut impl BufRead) -> std::io::Result<usize> {
    let mut total = 0;
    loop {
        let mut size = String::new();
        reader.by_ref().take(64).read_line(&mut size)?;
        let size =
            usize::from_str_radix(size.trim(), 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
        total += size;
        skip(reader, size + 2)?;
        if size == 0 || total > BODY_BYTES_MAX {
            return Ok(total);
        }
    }
}

const PRODUCTS: &str = r#"{"products":[{"id":17,"name":"café cup","price":12.5},{"id":18,"name":"tea pot","price":31.0},{"id":19,"name":"plate","price":9.9}]}"#;

fn answer(request: &Request, client: &mut impl Write) -> std::io::Result<()> {
    let json = |status: &str, body: &str| {
        whole(
            status,
            "Content-Type: application/json\r\n",
            body.as_bytes(),
        )
    };
    let bytes = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v1/products") => {
            let fields = "Content-Type: application/json\r\nContent-Encoding: gzip\r\nVary: Accept-Encoding\r\n";
            whole("200 OK", fields, &gzip(PRODUCTS.as_bytes())?)
        }
        ("HEAD", "/v1/products") => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            PRODUCTS.len()
        )
        .into_bytes(),
        ("GET", "/v1/products/17") if request.etag_known => {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"v3\"\r\n\r\n".to_vec()
        }
        ("GET", "/v1/products/17") => whole(
            "200 OK",
            "Content-Type: application/json\r\nETag: \"v3\"\r\n",
            r#"{"id":17,"name":"café cup","price":12.5,"stock":4}"#.as_bytes(),
        ),
        ("POST", "/v1/orders") => whole(
            "201 Created",
            "Content-Type: application/json\r\nLocation: /v1/orders/1001\r\nSet-Cookie: basket=1001; HttpOnly\r\n",
            br#"{"order":1001,"state":"open","contact":"ann@example.com"}"#,
        ),
        ("PUT", "/v1/orders/1001") => json(
            "200 OK",
            &format!(
                r#"{{"order":1001,"received_bytes":{}}}"#,
                request.body_bytes
            ),
        ),
        ("GET", "/v1/orders/1001") => {
            let chunks = [
                r#"{"order":1001,"#,
                r#""lines":[{"id":17,"count":2}],"#,
                r#""state":"paid"}"#,
            ];
            chunked(
                "Content-Type: application/json\r\nTrailer: X-Checksum\r\n",
                &chunks,
                "X-Checksum: 5f3a\r\n",
            )
        }
        ("DELETE", "/v1/orders/1001") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        ("POST", "/v1/pay") => json(
            "500 Internal Server Error",
            r#"{"error":"card service timed out","retry":true}"#,
        ),
        ("POST", "/graphql") => json("200 OK", r#"{"data":{"product":{"name":"tea pot"}}}"#),
        ("POST", "/login") => whole(
            "303 See Other",
            "Location: /v1/products\r\nSet-Cookie: session=8f14e45f; HttpOnly\r\n",
            b"",
        ),
        ("GET", "/shop") => whole("301 Moved Permanently", "Location: /v1/products\r\n", b""),
        ("GET", "/v1/slow") => {
            std::thread::sleep(Duration::from_millis(800));
            json("200 OK", r#"{"took":"800 ms"}"#)
        }
        ("GET", "/v1/report.csv") => {
            let rows: String = (1..=4000)
                .map(|row| {
                    format!(
                        "{row};2026-03-{:02};{}.50;open\n",
                        row % 28 + 1,
                        row * 7 % 900
                    )
                })
                .collect();
            whole("200 OK", "Content-Type: text/csv\r\n", rows.as_bytes())
        }
        ("GET", "/v1/ping") => json("200 OK", r#"{"pong":true}"#),
        ("GET", "/comment") => whole(
            "200 OK",
            "Content-Type: text/html; charset=utf-8\r\n",
            b"<p>Nice cups!</p><script>document.title='a comment took over the page'</script>",
        ),
        _ => json("404 Not Found", r#"{"error":"no such thing in this shop"}"#),
    };
    client.write_all(&bytes)
}

fn whole(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nServer: sniffer-demo\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn chunked(fields: &str, chunks: &[&str], trailers: &str) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 200 OK\r\nServer: sniffer-demo\r\n{fields}Transfer-Encoding: chunked\r\n\r\n"
    );
    for chunk in chunks {
        text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    text.push_str(&format!("0\r\n{trailers}\r\n"));
    text.into_bytes()
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}
