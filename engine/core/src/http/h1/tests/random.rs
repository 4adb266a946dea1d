//! Random conversations, held to a slow, obvious twin that has all the bytes at once.

use super::flow::*;
use crate::flow::FlowEnd;

/// Seeded randomness (xorshift64*): the same conversations on every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    pub(super) fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    /// Text that would mislead a reader who looks for messages in bodies by line breaks or zero chunks alone.
    pub(super) fn body(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        let mut body = Vec::new();
        while body.len() < length {
            body.extend_from_slice(
                self.pick(&[
                    "0\r\n\r\n",
                    "\r\n\r\n",
                    "\0\0",
                    "{\"a\":1}",
                    "plain text ",
                    "HTTP/1.",
                    "é",
                    "\n",
                ])
                .as_bytes(),
            );
        }
        body.truncate(length);
        body
    }

    pub(super) fn chunked(&mut self, body: &[u8], eol: &str) -> Vec<u8> {
        let mut coded = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(1 + self.below(rest.len()));
            let extension = self.pick(&["", "", ";a=b", " ", ";x=\"y\""]);
            coded.extend_from_slice(format!("{:x}{extension}{eol}", chunk.len()).as_bytes());
            coded.extend_from_slice(chunk);
            coded.extend_from_slice(eol.as_bytes());
            rest = after;
        }
        let trailer = self.pick(&["", "", "X-Sum: 1"]);
        let end = if trailer.is_empty() {
            String::new()
        } else {
            format!("{trailer}{eol}")
        };
        coded.extend_from_slice(format!("0{eol}{end}{eol}").as_bytes());
        coded
    }
}

/// A conversation that follows RFC 9112, call by call, and whether the server closes to end the last body.
pub(super) struct Conversation {
    pub(super) calls: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) pipelines: bool,
}

impl Conversation {
    /// Every call has its number in the target and in the response's `X-Id`.
    pub(super) fn new(random: &mut Random) -> Self {
        let count = 1 + random.below(6);
        let pipelines = random.one_in(3);
        let calls = (0..count)
            .map(|number| Self::call(random, number, number + 1 == count))
            .collect();
        Self { calls, pipelines }
    }

    pub(super) fn call(random: &mut Random, number: usize, last: bool) -> (Vec<u8>, Vec<u8>) {
        let eol = random.pick(&["\r\n", "\r\n", "\r\n", "\n"]);
        let method = random.pick(&["GET", "POST", "HEAD", "PUT", "DELETE", "PURGE", "PROPFIND"]);
        let odd = random.pick(&[
            "",
            "",
            "X-Fold: a\r\n b\r\n",
            "X-Blank : v \r\n",
            "X-Bytes: \u{e9}\r\n",
            "Accept: */*\r\n",
        ]);
        let start = format!(
            "{method} /call/{number}?a={} HTTP/1.1{eol}Host: h{eol}{odd}",
            random.below(1000)
        );
        let request = Self::message(random, start, eol, random_framing(method));
        let interim = random.pick(&[
            "",
            "",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n",
        ]);
        let status: u16 = *random.pick(&[&200, &201, &204, &304, &404, &500, &799]);
        let bodiless = method == "HEAD" || status == 204 || status == 304;
        let start = format!("HTTP/1.1 {status} {eol}X-Id: {number}{eol}");
        let mut response = interim.as_bytes().to_vec();
        if bodiless {
            let length = random.pick(&[
                "",
                "Content-Length: 77\r\n",
                "Transfer-Encoding: chunked\r\n",
            ]);
            response.extend_from_slice(format!("{start}{length}{eol}").as_bytes());
        } else if last && random.one_in(4) {
            response.extend_from_slice(format!("{start}{eol}").as_bytes());
            response.extend_from_slice(&random.body(60));
        } else {
            response.extend_from_slice(&Self::message(random, start, eol, 1 + 3 % 2));
        }
        (request, response)
    }

    /// `framing`: 0 for a message that may have no body.
    pub(super) fn message(
        random: &mut Random,
        start: String,
        eol: &str,
        framing: usize,
    ) -> Vec<u8> {
        let mut message = start.into_bytes();
        if framing == 0 && random.one_in(2) {
            message.extend_from_slice(eol.as_bytes());
            return message;
        }
        let body = random.body(200);
        if random.one_in(2) {
            message
                .extend_from_slice(format!("Content-Length: {}{eol}{eol}", body.len()).as_bytes());
            message.extend_from_slice(&body);
        } else {
            message.extend_from_slice(format!("transfer-encoding: chunked{eol}{eol}").as_bytes());
            message.extend_from_slice(&random.chunked(&body, eol));
        }
        message
    }

    /// The order of sending: one request at a time or several at once, and never a response before its request.
    pub(super) fn events(&self, random: &mut Random) -> Vec<Event> {
        let mut events = Vec::new();
        let mut answered = 0;
        for (number, (request, response)) in self.calls.iter().enumerate() {
            events.push(C(request.clone()));
            if !self.pipelines {
                events.push(S(response.clone()));
                continue;
            }
            while number > 0 && answered <= number && random.one_in(3) {
                events.push(S(self.calls[answered].1.clone()));
                answered += 1;
            }
        }
        if self.pipelines {
            events.extend(
                self.calls[answered..]
                    .iter()
                    .map(|(_, response)| S(response.clone())),
            );
        }
        events.push(FinS);
        events
    }
}

pub(super) fn random_framing(method: &str) -> usize {
    usize::from(!matches!(method, "GET" | "HEAD" | "DELETE"))
}

/// The twin: all bytes at once, lines and text, slow and plain. It reads only what RFC 9112 allows.
pub(super) mod twin {
    pub(super) struct Message {
        pub(super) start: String,
        pub(super) fields: Vec<(String, String)>,
        pub(super) body: Vec<u8>,
        pub(super) offset: usize,
    }

    /// Bytes as characters of the same number, so that text functions can be used.
    fn text(bytes: &[u8]) -> String {
        bytes.iter().map(|&byte| char::from(byte)).collect()
    }

    fn escaped(text: &str) -> String {
        text.chars()
            .map(|c| c as u8)
            .collect::<Vec<u8>>()
            .escape_ascii()
            .to_string()
    }

    fn line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
        let end = rest.iter().position(|&byte| byte == b'\n').expect("a line");
        let line = &rest[..end];
        *rest = &rest[end + 1..];
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// `bodiless`: whether the message with this start line has no body whatever its fields are.
    pub(super) fn messages(bytes: &[u8], bodiless: impl Fn(usize, &str) -> bool) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            let start = text(line(&mut rest));
            let mut lines: Vec<String> = Vec::new();
            loop {
                let next = text(line(&mut rest));
                if next.is_empty() {
                    break;
                }
                if next.starts_with([' ', '\t']) {
                    let last = lines.last_mut().expect("a field before its fold");
                    *last = format!("{} {}", last.trim_end(), next.trim());
                } else {
                    lines.push(next);
                }
            }
            let fields: Vec<(String, String)> = lines
                .iter()
                .map(|field| field.split_once(':').expect("a colon"))
                .map(|(name, value)| {
                    (
                        escaped(name.trim_matches([' ', '\t'])),
                        escaped(value.trim_matches([' ', '\t'])),
                    )
                })
                .collect();
            let find = |name: &str| {
                fields
                    .iter()
                    .find(|field| field.0.to_lowercase() == name)
                    .map(|field| field.1.clone())
            };
            let mut body = Vec::new();
            if bodiless(messages.len(), &start) {
            } else if find("transfer-encoding").is_some() {
                loop {
                    let size = text(line(&mut rest));
                    let digits = size.split([';', ' ']).next().expect("a size");
                    let size = usize::from_str_radix(digits, 16).expect("hexadecimal");
                    if size == 0 {
                        while !line(&mut rest).is_empty() {}
                        break;
                    }
                    body.extend_from_slice(&rest[..size]);
                    rest = &rest[size..];
                    line(&mut rest);
                }
            } else if let Some(length) = find("content-length") {
                let length: usize = length.parse().expect("a length");
                body.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
            } else if start.starts_with("HTTP/") {
                body.extend_from_slice(rest);
                rest = &[];
            }
            if !start.starts_with("HTTP/1.1 1") {
                messages.push(Message {
                    start,
                    fields,
                    body,
                    offset,
                });
            }
        }
        messages
    }
}

/// The lines that the recorder should have of this conversation.
pub(super) fn expected_lines(conversation: &Conversation) -> Vec<String> {
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    for (request, response) in &conversation.calls {
        sent.extend_from_slice(request);
        answered.extend_from_slice(response);
    }
    let requests = twin::messages(&sent, |_, _| false);
    let methods: Vec<String> = requests
        .iter()
        .map(|request| request.start.split(' ').next().unwrap().to_owned())
        .collect();
    let responses = twin::messages(&answered, |number, start| {
        methods[number] == "HEAD"
            || ["HTTP/1.1 1", "HTTP/1.1 204", "HTTP/1.1 304"]
                .iter()
                .any(|none| start.starts_with(none))
    });
    assert_eq!(requests.len(), responses.len());
    let fields = |message: &twin::Message| {
        message
            .fields
            .iter()
            .map(|(name, value)| format!("[{name}={value}]"))
            .collect::<String>()
    };
    let body = |message: &twin::Message| {
        String::from_utf8_lossy(&message.body)
            .escape_debug()
            .to_string()
    };
    requests
        .iter()
        .zip(&responses)
        .enumerate()
        .map(|(number, (request, response))| {
            let start = request.start.strip_suffix(" HTTP/1.1").unwrap();
            let status = &response.start["HTTP/1.1 ".len()..][..3];
            format!(
                "#{} @{} {start} 1.1{} {}. => @{} {status}{} {}. done",
                number + 1,
                request.offset,
                fields(request),
                body(request),
                response.offset,
                fields(response),
                body(response)
            )
        })
        .collect()
}

#[test]
pub(super) fn random_conversations_read_as_by_the_twin_however_they_are_cut() {
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let conversation = Conversation::new(&mut random);
        let expected = expected_lines(&conversation);
        let events = conversation.events(&mut random);
        for step in [usize::MAX, 1, 2, 3, 1 + random.below(60)] {
            let (lines, counters) = run(&events, step, FlowEnd::Fin, "", false);
            assert_eq!(lines, expected, "seed {seed} in pieces of {step}");
            assert_eq!(
                counters.bytes_passed_over + counters.heads_malformed,
                0,
                "seed {seed}"
            );
        }
    }
}

#[test]
pub(super) fn every_two_cuts_of_a_conversation_read_the_same() {
    let mut random = Random::new(7);
    let conversation = Conversation {
        calls: (0..3)
            .map(|n| Conversation::call(&mut random, n, n == 2))
            .collect(),
        pipelines: false,
    };
    let expected = expected_lines(&conversation);
    let events = conversation.events(&mut random);
    let cut = |bytes: &[u8], at: &[usize]| {
        let mut places: Vec<usize> = at.iter().map(|&at| at.min(bytes.len())).collect();
        places.push(bytes.len());
        let mut from = 0;
        places
            .into_iter()
            .map(|to| bytes[std::mem::replace(&mut from, to)..to].to_vec())
            .collect::<Vec<_>>()
    };
    let longest = events
        .iter()
        .map(|event| if let C(b) | S(b) = event { b.len() } else { 0 })
        .max()
        .unwrap();
    for first in 0..=longest {
        for second in first..=longest.min(first + 40) {
            let pieces: Vec<Event> = events
                .iter()
                .flat_map(|event| match event {
                    C(bytes) => cut(bytes, &[first, second]).into_iter().map(C).collect(),
                    S(bytes) => cut(bytes, &[first, second]).into_iter().map(S).collect(),
                    other => vec![other.clone()],
                })
                .collect();
            let (lines, _) = run(&pieces, usize::MAX, FlowEnd::Fin, "", false);
            assert_eq!(lines, expected, "cut at {first} and {second}");
        }
    }
}
