//! The parser of capture filter expressions: a subset of the language of pcap-filter(7).
//!
//! ```text
//! expression = term { ("and" | "&&" | "or" | "||") term }      equal precedence, left to right, as pcap has it
//! term       = ("not" | "!") term | "(" expression ")" | test
//! test       = "ip" | "ip6" | "tcp" | "udp" | "icmp" | "icmp6"
//!            | ["ip" | "ip6" | "tcp" | "udp"] ["src" | "dst"] ["host" | "net" | "port" | "portrange"] value
//! value      = address | address "/" bits | number | number "-" number
//! ```
//!
//! A value alone has the qualifiers of the value before it (`port 80 or 443`). Two things differ from pcap: tests apply to
//! the outermost packet behind any VLAN tags, and a test of ports keeps fragments and packets with IPv6 extension headers,
//! whose ports are not dissected. Refused, with the column: names of hosts and ports, `vlan`, `proto`, `ether`, arithmetic
//! (`tcp[13]`), and everything else.

use std::fmt;
use std::net::IpAddr;

use super::wire::{PROTOCOL_TCP, PROTOCOL_UDP};

/// Deepest nesting of parentheses and negations.
const DEPTH_MAX: usize = 64;

/// A condition on a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Both hold.
    And(Box<Self>, Box<Self>),
    /// At least one holds.
    Or(Box<Self>, Box<Self>),
    /// The condition does not hold.
    Not(Box<Self>),
    /// IP of this version, 4 or 6.
    Version(u8),
    /// This IP protocol number.
    Protocol(u8),
    /// An address; only its first bits where their number is given.
    Address(Ends, IpAddr, Option<u8>),
    /// A port of TCP or UDP from a range, ends included.
    Ports(Ends, u16, u16),
}

/// At which ends of a packet a test may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// At the source.
    Source,
    /// At the destination.
    Destination,
    /// At either of them.
    Either,
}

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// Where, in characters, the first being 1.
    pub column: usize,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.what)
    }
}

impl std::error::Error for ExpressionError {}

impl Expression {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let mut parser = Parser {
            words: words(text),
            at: 0,
            end: text.chars().count() + 1,
            last: Qualifiers::default(),
        };
        let expression = parser.expression(0)?;
        match parser.words.get(parser.at) {
            None => Ok(expression),
            Some(word) => Err(word.wrong("expected \"and\", \"or\" or the end")),
        }
    }

    fn and(self, other: Self) -> Self {
        Self::And(Box::new(self), Box::new(other))
    }
}

/// A word and where it starts.
struct Word<'a> {
    text: &'a str,
    column: usize,
}

impl Word<'_> {
    fn wrong(&self, what: impl fmt::Display) -> ExpressionError {
        ExpressionError {
            column: self.column,
            what: format!("\"{}\": {what}", self.text),
        }
    }
}

/// Words, parentheses and operators.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text;
    let mut column = 1;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() || "()!".contains(first) {
            first.len_utf8()
        } else if rest.starts_with("&&") || rest.starts_with("||") {
            2
        } else {
            let ends = |letter: char| letter.is_whitespace() || "()!&|".contains(letter);
            // A lone `&` or `|` is a word of its own, and no operator.
            rest.find(ends).unwrap_or(rest.len()).max(first.len_utf8())
        };
        let (word, after) = rest.split_at(length);
        if !first.is_whitespace() {
            words.push(Word { text: word, column });
        }
        column += word.chars().count();
        rest = after;
    }
    words
}

/// What a value is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Qualifiers {
    /// `ip`, `ip6`, `tcp` or `udp`.
    layer: Option<Layer>,
    ends: Option<Ends>,
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Version(u8),
    Protocol(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
}

struct Parser<'a> {
    words: Vec<Word<'a>>,
    at: usize,
    end: usize,
    last: Qualifiers,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).map(|word| word.text)
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, ExpressionError> {
        let mut left = self.term(depth)?;
        loop {
            let is_and = match self.peek() {
                Some("and" | "&&") => true,
                Some("or" | "||") => false,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.term(depth)?;
            left = if is_and {
                left.and(right)
            } else {
                Expression::Or(Box::new(left), Box::new(right))
            };
        }
    }

    fn term(&mut self, depth: usize) -> Result<Expression, ExpressionError> {
        let Some(word) = self.words.get(self.at) else {
            return Err(self.ends_early("a test"));
        };
        if depth > DEPTH_MAX {
            return Err(word.wrong("nested too deep"));
        }
        match word.text {
            "not" | "!" => {
                self.at += 1;
                Ok(Expression::Not(Box::new(self.term(depth + 1)?)))
            }
            "(" => {
                self.at += 1;
                let inner = self.expression(depth + 1)?;
                match self.words.get(self.at) {
                    Some(Word { text: ")", .. }) => self.at += 1,
                    Some(word) => return Err(word.wrong("expected \")\"")),
                    None => return Err(self.ends_early("\")\"")),
                }
                Ok(inner)
            }
            _ => self.test(),
        }
    }

    fn test(&mut self) -> Result<Expression, ExpressionError> {
        let mut found = Qualifiers::default();
        let start = self.at;
        if let Some(layer) = self.peek().and_then(layer) {
            found.layer = Some(layer);
            self.at += 1;
        }
        if let Some(ends) = self.peek().and_then(ends) {
            found.ends = Some(ends);
            self.at += 1;
        }
        if let Some(kind) = self.peek().and_then(kind) {
            found.kind = Some(kind);
            self.at += 1;
        }
        let is_alone = found.ends.is_none() && found.kind.is_none();
        if let (Some(layer), true) = (found.layer, is_alone)
            && !self.peek().is_some_and(is_value)
        {
            return Ok(layer.test());
        }
        let Some(word) = self.words.get(self.at) else {
            return Err(self.ends_early("an address or a number"));
        };
        if self.at == start {
            found = self.last;
        }
        self.at += 1;
        self.last = found;
        value(word, found)
    }

    fn ends_early(&self, expected: &str) -> ExpressionError {
        ExpressionError {
            column: self.end,
            what: format!("ends where {expected} is expected"),
        }
    }
}

impl Layer {
    fn test(self) -> Expression {
        match self {
            Self::Version(version) => Expression::Version(version),
            Self::Protocol(protocol) => Expression::Protocol(protocol),
        }
    }
}

fn layer(word: &str) -> Option<Layer> {
    Some(match word {
        "ip" => Layer::Version(4),
        "ip6" => Layer::Version(6),
        "tcp" => Layer::Protocol(PROTOCOL_TCP as u8),
        "udp" => Layer::Protocol(PROTOCOL_UDP as u8),
        "icmp" => Layer::Protocol(1),
        "icmp6" => Layer::Protocol(58),
        _ => return None,
    })
}

fn ends(word: &str) -> Option<Ends> {
    Some(match word {
        "src" => Ends::Source,
        "dst" => Ends::Destination,
        _ => return None,
    })
}

fn kind(word: &str) -> Option<Kind> {
    Some(match word {
        "host" => Kind::Host,
        "net" => Kind::Net,
        "port" => Kind::Port,
        "portrange" => Kind::PortRange,
        _ => return None,
    })
}

/// Whether a word is a value rather than the next test.
fn is_value(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit()) || word.contains(':')
}

fn value(word: &Word<'_>, found: Qualifiers) -> Result<Expression, ExpressionError> {
    let ends = found.ends.unwrap_or(Ends::Either);
    let test = match found.kind.unwrap_or(Kind::Host) {
        Kind::Host => {
            let address = address(
                word,
                word.text,
                found.kind.is_none() && found.ends.is_none(),
            )?;
            Expression::Address(ends, address, None)
        }
        Kind::Net => net(word, ends)?,
        Kind::Port => {
            let port = port(word, word.text)?;
            Expression::Ports(ends, port, port)
        }
        Kind::PortRange => {
            let (first, last) = word
                .text
                .split_once('-')
                .ok_or_else(|| word.wrong("expected two numbers, as in 8000-8100"))?;
            let (first, last) = (port(word, first)?, port(word, last)?);
            Expression::Ports(ends, first.min(last), first.max(last))
        }
    };
    Ok(match found.layer {
        Some(layer) => layer.test().and(test),
        None => test,
    })
}

fn address(word: &Word<'_>, text: &str, is_bare: bool) -> Result<IpAddr, ExpressionError> {
    text.parse().map_err(|_| {
        word.wrong(if is_bare {
            "not known; the tests are host, net, port, portrange, ip, ip6, tcp, udp, icmp, icmp6"
        } else {
            "not an IP address; names are not looked up"
        })
    })
}

fn net(word: &Word<'_>, ends: Ends) -> Result<Expression, ExpressionError> {
    let Some((text, bits)) = word.text.split_once('/') else {
        return Err(word.wrong("expected an address and its bits, as in 10.0.0.0/8"));
    };
    let address = address(word, text, false)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits
        .parse()
        .ok()
        .filter(|bits| *bits <= most)
        .ok_or_else(|| word.wrong(format_args!("the number of bits is 0 to {most}")))?;
    Ok(Expression::Address(ends, address, Some(bits)))
}

fn port(word: &Word<'_>, text: &str) -> Result<u16, ExpressionError> {
    text.parse()
        .map_err(|_| word.wrong("not a port number (0 to 65535); names are not looked up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_wrong(expression: &str, column: usize, part: &str) {
        let error = Expression::parse(expression).unwrap_err();
        assert_eq!(error.column, column, "{error}");
        assert!(error.what.contains(part), "{error}");
    }

    #[test]
    fn errors_say_where() {
        check_wrong("", 1, "ends where");
        check_wrong("tcp and", 8, "ends where");
        check_wrong("(tcp or udp", 12, "\")\"");
        check_wrong("tcp udp", 5, "expected");
        check_wrong("tcp) ", 4, "expected");
        check_wrong("port http", 6, "names are not looked up");
        check_wrong("port 70000", 6, "65535");
        check_wrong("host example.com", 6, "not looked up");
        check_wrong("net 10.0.0.0", 5, "bits");
        check_wrong("net 10.0.0.0/33", 5, "0 to 32");
        check_wrong("portrange 80", 11, "two numbers");
        check_wrong("tcp and vlan 5", 9, "not known");
        check_wrong("tcp & udp", 5, "expected");
        check_wrong("tcp[13] = 2", 1, "not known");
        check_wrong(&"(".repeat(100), 66, "too deep");
    }
}
