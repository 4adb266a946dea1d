//! An exchange as its endpoints have it, its bytes on the wire, and the details that a correct reader reports.
//!
//! Framing follows RFC 9112 §6, codings RFC 9110 §8.4. The expected details follow `docs/contract.md` 1 with rules that
//! keep everything: names in lower case, values as sent, no details with empty values.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::seed::Seed;

/// How the bytes of a body are encoded (`Content-Encoding`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// As they are, no header.
    #[default]
    Identity,
    /// `gzip`.
    Gzip,
    /// `deflate`, in the zlib wrapper.
    Deflate,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Identity,
        Self::Gzip,
        Self::Deflate,
        Self::Brotli,
        Self::Zstd,
    ];

    /// The header's value.
    pub const fn token(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
        }
    }

    fn encode(self, plain: &[u8]) -> Vec<u8> {
        const INTO_MEMORY: &str = "writing to memory cannot fail";
        match self {
            Self::Identity => plain.to_vec(),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(plain).expect(INTO_MEMORY);
                encoder.finish().expect(INTO_MEMORY)
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(plain).expect(INTO_MEMORY);
                encoder.finish().expect(INTO_MEMORY)
            }
            Self::Brotli => {
                let mut encoded = Vec::new();
                let (quality, window) = (4, 18);
                let mut encoder =
                    brotli::CompressorWriter::new(&mut encoded, 4096, quality, window);
                encoder.write_all(plain).expect(INTO_MEMORY);
                drop(encoder);
                encoded
            }
            Self::Zstd => zstd::bulk::compress(plain, 1).expect(INTO_MEMORY),
        }
    }
}

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body and no header about one.
    #[default]
    Absent,
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`, in chunks of at most this many bytes.
    Chunked(usize),
    /// The end of the connection; responses only, the last one of a conversation.
    Close,
}

/// A body before and after coding.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// The bytes before they are encoded.
    pub plain: Vec<u8>,
    /// How it is encoded.
    pub coding: Coding,
    /// How its end is marked.
    pub framing: Framing,
}

impl Body {
    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if let Some(token) = self.coding.token() {
            headers.push(("Content-Encoding".into(), token.into()));
        }
        match self.framing {
            Framing::Absent => {}
            Framing::Length => {
                let length = self.coding.encode(&self.plain).len();
                headers.push(("Content-Length".into(), length.to_string()));
            }
            Framing::Chunked(_) => headers.push(("Transfer-Encoding".into(), "chunked".into())),
            Framing::Close => headers.push(("Connection".into(), "close".into())),
        }
        headers
    }

    /// With its coding, but without the framing of HTTP/1.
    pub(super) fn coded(&self) -> Vec<u8> {
        self.coding.encode(&self.plain)
    }

    fn wire(&self) -> Vec<u8> {
        let encoded = self.coded();
        match self.framing {
            Framing::Absent => Vec::new(),
            Framing::Length | Framing::Close => encoded,
            Framing::Chunked(size) => chunked(&encoded, size),
        }
    }
}

fn chunked(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut wire = Vec::with_capacity(bytes.len() + 64);
    for chunk in bytes.chunks(size.max(1)) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// A request with its response.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The call number, unique among exchanges: header `X-Call-Number` of the request and `X-Answered-Number` of the
    /// response.
    pub number: u64,
    /// Method token.
    pub method: String,
    /// `Host`.
    pub host: String,
    /// Path as sent, including percent-encoding.
    pub path: String,
    /// Names and values of the query, not yet escaped.
    pub query: Vec<(String, String)>,
    /// Names and values; framing, coding, host and number are added when it is sent.
    pub request_headers: Vec<(String, String)>,
    /// The request's body.
    pub request_body: Body,
    /// Informational responses before the final one: 100 before the request body, others after it.
    pub interim: Vec<u16>,
    /// Status of the final response.
    pub status: u16,
    /// Names and values; framing and coding are added when it is sent.
    pub response_headers: Vec<(String, String)>,
    /// The response's body; for HEAD and 304 the one that its headers describe, although it is never sent.
    pub response_body: Body,
}

impl Exchange {
    /// A plain GET that is answered with `text`.
    pub fn get(number: u64, path: &str, text: &str) -> Self {
        Self {
            number,
            method: "GET".into(),
            host: "api.example".into(),
            path: path.into(),
            query: Vec::new(),
            request_headers: Vec::new(),
            request_body: Body::default(),
            interim: Vec::new(),
            status: 200,
            response_headers: vec![("Content-Type".into(), "text/plain".into())],
            response_body: Body {
                plain: text.into(),
                coding: Coding::Identity,
                framing: Framing::Length,
            },
        }
    }

    /// An exchange of any kind. `last` allows a body that can only be the last of a conversation.
    pub fn seeded(seed: &mut Seed, number: u64, body_bytes_max: usize, last: bool) -> Self {
        let methods = [
            "GET", "GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS",
            "PURGE",
        ];
        let method = (*seed.pick(&methods)).to_owned();
        let has_request_body =
            matches!(method.as_str(), "POST" | "PUT" | "PATCH") && !seed.chance(100);
        let request_body = if has_request_body {
            body(seed, body_bytes_max)
        } else {
            Body::default()
        };
        let status = *seed.pick(&[
            200, 200, 200, 200, 201, 202, 204, 206, 304, 301, 400, 404, 409, 422, 499, 500, 503,
        ]);
        let mut response_body = body(seed, body_bytes_max);
        if status == 204 {
            response_body = Body::default();
        } else if method == "HEAD" || status == 304 {
            response_body.framing = Framing::Length;
        } else if last && seed.chance(300) {
            response_body.framing = Framing::Close;
        }
        let mut interim = Vec::new();
        if has_request_body && seed.chance(60) {
            interim.push(100);
        }
        if seed.chance(40) {
            interim.push(103);
        }
        Self {
            number,
            method,
            host: format!("{}.example:{}", seed.word(5), seed.within(80..=9000)),
            path: path(seed),
            query: query(seed),
            request_headers: request_headers(seed),
            request_body,
            interim,
            status,
            response_headers: response_headers(seed),
            response_body,
        }
    }

    /// Whether bytes of the response body are on the wire at all.
    pub fn has_response_body(&self) -> bool {
        self.method != "HEAD" && !matches!(self.status, 100..=199 | 204 | 304)
    }

    /// Start line, header lines and the empty line of the request.
    pub fn request_head(&self) -> Vec<u8> {
        let target = self.target();
        let host = ("Host".to_owned(), self.host.clone());
        head(
            &format!("{} {target} HTTP/1.1", self.method),
            std::iter::once(&host).chain(&self.sent_request_headers()),
        )
    }

    /// Path and query.
    pub(super) fn target(&self) -> String {
        if self.query.is_empty() {
            self.path.clone()
        } else {
            let pairs = self
                .query
                .iter()
                .map(|(name, value)| format!("{}={}", escape(name), escape(value)));
            format!("{}?{}", self.path, pairs.collect::<Vec<_>>().join("&"))
        }
    }

    /// The request's body as it is on the wire.
    pub fn request_body_wire(&self) -> Vec<u8> {
        self.request_body.wire()
    }

    /// An informational response.
    pub fn interim_head(status: u16) -> Vec<u8> {
        let headers: &[(String, String)] = if status == 100 {
            &[]
        } else {
            &[("Link".into(), "</s.css>; rel=preload".into())]
        };
        head(&format!("HTTP/1.1 {status} Interim"), headers)
    }

    /// The final response, head and body.
    pub fn response_wire(&self) -> Vec<u8> {
        let mut wire = head(
            &format!("HTTP/1.1 {} Reason", self.status),
            &self.sent_response_headers(),
        );
        if self.has_response_body() {
            wire.extend_from_slice(&self.response_body.wire());
        }
        wire
    }

    /// The details that a correct reader reports, except `now`, `interval` and `host`, which depend on the packets and the
    /// machine. Cookies are also session fields, as with `include debug`.
    pub fn details(&self) -> Vec<(String, String)> {
        let mut details = vec![
            ("request_method".to_owned(), self.method.clone()),
            (
                "request_url".to_owned(),
                format!("http://{}{}", self.host, self.path),
            ),
            ("response_code".to_owned(), self.status.to_string()),
            ("request_body".to_owned(), text(&self.request_body.plain)),
        ];
        details.extend(reported("request_header", &self.sent_request_headers()));
        let params = self.query.iter();
        details.extend(params.map(|(name, value)| {
            (
                format!("request_param:{}", name.to_lowercase()),
                value.clone(),
            )
        }));
        details.extend(reported("response_header", &self.sent_response_headers()));
        if self.has_response_body() {
            details.push(("response_body".to_owned(), text(&self.response_body.plain)));
        }
        for (_, cookies) in self
            .request_headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"))
        {
            let pairs = cookies.split("; ").filter_map(|pair| pair.split_once('='));
            details.extend(pairs.map(|(name, value)| {
                (
                    format!("session_field:{}", name.to_lowercase()),
                    value.into(),
                )
            }));
        }
        details.retain(|(_, value)| !value.is_empty());
        details
    }

    pub(super) fn sent_request_headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![("X-Call-Number".to_owned(), self.number.to_string())];
        headers.extend(self.request_headers.iter().cloned());
        if self.interim.contains(&100) {
            headers.push(("Expect".into(), "100-continue".into()));
        }
        headers.extend(self.request_body.headers());
        headers
    }

    pub(super) fn sent_response_headers(&self) -> Vec<(String, String)> {
        // This header shows a wrong pairing.
        let mut headers = vec![("X-Answered-Number".to_owned(), self.number.to_string())];
        headers.extend(self.response_headers.iter().cloned());
        headers.extend(self.response_body.headers());
        headers
    }
}

/// `Transfer-Encoding` is not reported (`docs/contract.md` 1.4); all others are.
fn reported(kind: &str, headers: &[(String, String)]) -> Vec<(String, String)> {
    let kept = headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
    kept.map(|(name, value)| {
        (
            format!("{kind}:{}", name.to_lowercase()),
            value.trim().to_owned(),
        )
    })
    .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn head<'a>(start: &str, headers: impl IntoIterator<Item = &'a (String, String)>) -> Vec<u8> {
    let mut head = format!("{start}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b' ' => escaped.push('+'),
            _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
        escaped
    })
}

fn path(seed: &mut Seed) -> String {
    let mut path = String::new();
    for _ in 0..seed.within(1..=4) {
        let length = seed.within(1..=12);
        path.push('/');
        path.push_str(&seed.word(length));
    }
    if seed.chance(150) {
        path.push_str("/a%20b%2Fc;v=2");
    }
    path
}

fn query(seed: &mut Seed) -> Vec<(String, String)> {
    let values = ["1", "a b", "x=y&z", "ä€", "100%", "<b>", "plus+plus", ""];
    let count = if seed.chance(600) {
        0
    } else {
        seed.within(1..=4)
    };
    (0..count)
        .map(|_| (seed.word(4), (*seed.pick(&values)).to_owned()))
        .collect()
}

fn request_headers(seed: &mut Seed) -> Vec<(String, String)> {
    let mut headers = vec![(
        "User-Agent".to_owned(),
        format!("maker/{}", seed.within(1..=9)),
    )];
    if seed.chance(500) {
        headers.push(("ACCEPT".into(), "application/json, text/*;q=0.5".into()));
    }
    if seed.chance(300) {
        headers.push((
            "Cookie".into(),
            format!("sid={}; Theme={}", seed.word(16), seed.word(4)),
        ));
    }
    if seed.chance(200) {
        headers.push(("X-Repeated".into(), seed.word(3)));
        headers.push(("X-Repeated".into(), seed.word(3)));
    }
    if seed.chance(50) {
        let length = seed.within(1000..=12_000);
        headers.push(("X-Long".into(), seed.word(length)));
    }
    headers
}

fn response_headers(seed: &mut Seed) -> Vec<(String, String)> {
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    for _ in 0..seed.within(0..=4) {
        headers.push((
            format!("X-{}", seed.word(6)),
            format!("\"{}\" \\ {}", seed.word(3), seed.word(8)),
        ));
    }
    if seed.chance(200) {
        headers.push((
            "Set-Cookie".into(),
            format!("sid={}; Path=/; HttpOnly", seed.word(12)),
        ));
    }
    headers
}

/// A body of random length: small ones are frequent, large ones rare, as on real connections.
fn body(seed: &mut Seed, bytes_max: usize) -> Body {
    let magnitude = seed.within(0..=bytes_max.max(1).ilog2() as usize);
    let length = seed.within(0..=(1_usize << magnitude).min(bytes_max));
    let plain = if seed.chance(80) {
        seed.bytes(length)
    } else {
        json_text(seed, length)
    };
    // Once decoded, an empty body looks like an absent one, so it has no coding.
    let coding = if plain.is_empty() || seed.chance(500) {
        Coding::Identity
    } else {
        *seed.pick(&Coding::ALL)
    };
    let framing = if seed.chance(400) {
        Framing::Chunked(seed.within(1..=5000))
    } else {
        Framing::Length
    };
    Body {
        plain,
        coding,
        framing,
    }
}

/// About `length` bytes with all kinds of characters that JSON must escape.
fn json_text(seed: &mut Seed, length: usize) -> Vec<u8> {
    let parts = [
        "{\"id\":17,",
        "\"name\":\"Zoë\\n\",",
        "\"tab\":\"\t\",",
        "[1,2,3],",
        "</script>",
        "\u{2028}",
        "\\u003c",
        "plain text ",
    ];
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        text.push_str(parts[seed.within(0..=parts.len() - 1)]);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_body(framing: Framing, expected: &str) {
        let body = Body {
            plain: b"hello".to_vec(),
            coding: Coding::Identity,
            framing,
        };
        assert_eq!(text(&body.wire()), expected);
    }

    #[test]
    fn framings() {
        check_body(Framing::Absent, "");
        check_body(Framing::Length, "hello");
        check_body(Framing::Close, "hello");
        check_body(
            Framing::Chunked(2),
            "2\r\nhe\r\n2\r\nll\r\n1\r\no\r\n0\r\n\r\n",
        );
    }

    #[test]
    fn a_request_and_its_details() {
        let mut exchange = Exchange::get(5, "/a%20b", "hi");
        exchange.query = vec![
            ("Q".into(), "a b&c".into()),
            ("empty".into(), String::new()),
        ];
        exchange.request_headers = vec![("Cookie".into(), "Sid=1; t=2".into())];
        assert_eq!(
            text(&exchange.request_head()),
            "GET /a%20b?Q=a+b%26c&empty= HTTP/1.1\r\nHost: api.example\r\nX-Call-Number: 5\r\nCookie: Sid=1; t=2\r\n\r\n"
        );
        let expected = [
            ("request_method", "GET"),
            ("request_url", "http://api.example/a%20b"),
            ("response_code", "200"),
            ("request_header:x-call-number", "5"),
            ("request_header:cookie", "Sid=1; t=2"),
            ("request_param:q", "a b&c"),
            ("response_header:x-answered-number", "5"),
            ("response_header:content-type", "text/plain"),
            ("response_header:content-length", "2"),
            ("response_body", "hi"),
            ("session_field:sid", "1"),
            ("session_field:t", "2"),
        ];
        let details = exchange.details();
        let details: Vec<_> = details
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(details, expected);
    }

    #[test]
    fn head_204_and_304_carry_no_body() {
        for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
            let exchange = Exchange {
                method: method.into(),
                status,
                ..Exchange::get(1, "/", "hello")
            };
            assert!(
                exchange.response_wire().ends_with(b"\r\n\r\n"),
                "{method} {status}"
            );
            assert!(
                exchange
                    .details()
                    .iter()
                    .all(|(key, _)| key != "response_body"),
                "{method} {status}"
            );
        }
    }
}
