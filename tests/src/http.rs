//! A minimal HTTP client: one request a connection, bodies with a length or to the end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Status and body of a response.
#[derive(Debug)]
pub struct Answer {
    /// Three digits.
    pub status: u16,
    /// Header lines as they came.
    pub head: String,
    /// Body bytes.
    pub body: Vec<u8>,
}

/// How long a server may be silent.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Sends `body` (empty: none) and reads the answer.
pub fn request(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    request_within(ANSWER_WAIT, address, method, target, headers, body)
}

/// The same from a server that may be silent for so long before it answers.
pub fn request_within(
    wait: Duration,
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(wait))?;
    let mut head =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    read(&mut stream)
}

fn read(stream: &mut TcpStream) -> Result<Answer> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(answer) = complete(&bytes)? {
            return Ok(answer);
        }
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..length]);
    }
    let (head, body) = split(&bytes).context("the answer ended within its head")?;
    Ok(Answer {
        status: status(&head)?,
        head,
        body: body.to_vec(),
    })
}

/// The response, once its body is complete.
fn complete(bytes: &[u8]) -> Result<Option<Answer>> {
    let Some((head, body)) = split(bytes) else {
        return Ok(None);
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>())
    });
    let Some(length) = length.transpose()? else {
        return Ok(None);
    };
    if body.len() < length {
        return Ok(None);
    }
    Ok(Some(Answer {
        status: status(&head)?,
        body: body[..length].to_vec(),
        head,
    }))
}

fn split(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    Some((
        String::from_utf8_lossy(&bytes[..end]).into_owned(),
        &bytes[end..],
    ))
}

fn status(head: &str) -> Result<u16> {
    ensure!(head.starts_with("HTTP/1."), "no HTTP: {head:.100}");
    head.split(' ')
        .nth(1)
        .context("no status")?
        .trim()
        .parse()
        .context("no status")
}
