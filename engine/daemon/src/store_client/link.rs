//! The link of a page, and requests to the API behind it: HTTP/1.0 over one connection each, so that an answer ends with its
//! connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::diagnostic::{Code, Diagnostic, system_words};
use crate::limits::{STORE_ANSWER_BYTES_MAX, STORE_ANSWER_WAIT, STORE_CONNECT_WAIT};

/// Bytes of the head of an answer; it is given up past it.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// A page and its token.
#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    /// Name or address and port.
    authority: String,
    token: Option<String>,
}

impl Link {
    /// Reads `http://HOST:PORT/?token=TOKEN`.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let wrong = || {
            // Without the token, which is a secret.
            let shown = text.split('?').next().unwrap_or_default();
            Diagnostic::new(Code::E131, format!("{shown:?} is not the link of a page"))
                .fix("--page 'http://localhost:7700/?token=TOKEN'    as `sniffer page` prints it")
        };
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let is_plain = authority.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || !is_plain || authority.contains('@') {
            return Err(wrong());
        }
        let pairs = rest
            .split_once('?')
            .map_or("", |(_, query)| query)
            .split('&');
        let token = pairs.filter_map(|pair| pair.strip_prefix("token=")).next();
        if token.is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(wrong());
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        Ok(Self {
            authority: if has_port {
                authority.to_owned()
            } else {
                format!("{authority}:80")
            },
            token: token.map(str::to_owned),
        })
    }

    /// The JSON of a `GET`.
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Diagnostic> {
        let answer = self.send("GET", path, query, None, Some(STORE_ANSWER_WAIT))?;
        self.json(answer)
    }

    /// The JSON of a `POST`.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Diagnostic> {
        let answer = self.send("POST", path, &[], Some(body), Some(STORE_ANSWER_WAIT))?;
        self.json(answer)
    }

    /// The body of a `GET` that does not end.
    pub fn open(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<impl BufRead + use<>, Diagnostic> {
        let answer = self.send("GET", path, query, None, None)?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        self.json(answer)
            .and_then(|_| Err(self.problem("its answer is none")))
    }

    fn json(&self, answer: Answer) -> Result<Value, Diagnostic> {
        let mut text = String::new();
        let mut body = answer.body.take(STORE_ANSWER_BYTES_MAX);
        body.read_to_string(&mut text)
            .map_err(|error| self.problem(&system_words(&error)))?;
        let value: Value =
            serde_json::from_str(&text).map_err(|_| self.problem("its answer is no JSON"))?;
        if answer.status == 200 {
            return Ok(value);
        }
        let reason = value["error"].as_str().unwrap_or("it gave no reason");
        let reason = super::table::plain(reason);
        Err(match answer.status {
            400..500 => Diagnostic::new(Code::E132, reason),
            _ => self.problem(&reason),
        })
    }

    fn problem(&self, reason: &str) -> Diagnostic {
        let what = format!("the store at {}: {reason}", self.authority);
        Diagnostic::new(Code::E131, what)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        wait: Option<Duration>,
    ) -> Result<Answer, Diagnostic> {
        let exchange = || -> std::io::Result<Answer> {
            let mut last = std::io::Error::other("its name has no address");
            for address in self.authority.to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, STORE_CONNECT_WAIT) {
                    Ok(socket) => {
                        socket.set_read_timeout(wait)?;
                        socket.set_write_timeout(Some(STORE_ANSWER_WAIT))?;
                        (&socket).write_all(&self.request(method, path, query, body))?;
                        return Answer::read(socket);
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        exchange().map_err(|error| self.problem(&system_words(&error)))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Vec<u8> {
        let pairs: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        let mut head = format!(
            "{method} /api/v1/{path}{mark}{} HTTP/1.0\r\nHost: {}\r\n",
            pairs.join("&"),
            self.authority
        );
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            head += "Content-Type: application/json\r\n";
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        (head + &body).into_bytes()
    }
}

struct Answer {
    status: u16,
    body: BufReader<TcpStream>,
}

impl Answer {
    fn read(socket: TcpStream) -> std::io::Result<Self> {
        let mut body = BufReader::new(socket);
        let mut head = (&mut body).take(HEAD_BYTES_MAX);
        let mut line = String::new();
        head.read_line(&mut line)?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let none = || std::io::Error::other("its answer is not HTTP");
        let status = status.ok_or_else(none)?;
        while line != "\r\n" {
            line.clear();
            if head.read_line(&mut line)? == 0 {
                return Err(none());
            }
        }
        Ok(Self { status, body })
    }
}

/// Percent-encoded, all but the unreserved characters.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_an_authority_and_a_token() {
        let link = |authority: &str, token: Option<&str>| Link {
            authority: authority.into(),
            token: token.map(Into::into),
        };
        for (text, expected) in [
            (
                "http://localhost:7700/?token=abc",
                link("localhost:7700", Some("abc")),
            ),
            ("http://[::1]:7700", link("[::1]:7700", None)),
            ("http://h/?a=b&token=x", link("h:80", Some("x"))),
        ] {
            assert_eq!(Link::parse(text).expect(text), expected);
        }
        for text in [
            "",
            "localhost:7700",
            "https://h/",
            "http:///",
            "http://u@h/",
            "http://h/?token=a b",
            "http://h h/",
        ] {
            let problem = Link::parse(text).expect_err(text);
            assert!(!problem.what.contains("token=a"), "{}", problem.what);
        }
    }

    #[test]
    fn values_of_a_query_are_encoded() {
        let link = Link::parse("http://h/?token=t").expect("a link");
        let request = link.request("GET", "calls", &[("filter", "a>1 \"é\"\r\n")], None);
        assert_eq!(
            String::from_utf8(request).expect("text"),
            "GET /api/v1/calls?filter=a%3E1%20%22%C3%A9%22%0D%0A HTTP/1.0\r\nHost: h:80\r\n\
             Authorization: Bearer t\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
