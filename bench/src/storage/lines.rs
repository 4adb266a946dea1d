//! Seeded lines: 36 hosts, some 200 endpoints, random ids and words, of which `zstd -3` alone leaves more than half.

use super::options::{DAY_MS, Options};
use crate::seed::Seed;

/// A word that one line in a million has, and one that none has.
pub(super) const RARE: &str = "zyzzyva";
pub(super) const ABSENT: &str = "quokkaless";

/// Lines of one bundle after the other.
pub(super) struct Lines {
    seed: Seed,
    words: Vec<String>,
    number: u64,
    calls: u64,
    line_bytes: usize,
    start_ms: u64,
}

impl Lines {
    /// From the first one on, spread over the day that begins at `start_ms`.
    pub(super) fn new(options: &Options, start_ms: u64) -> Self {
        let mut seed = Seed::new(options.seed);
        let mut letters = Seed::new(7);
        let words = (0..20_000).map(|_| {
            let length = letters.within(3..=10);
            (0..length)
                .map(|_| char::from(*letters.pick(b"etaoinshrdlucmfwypvbgkjq")))
                .collect()
        });
        Self {
            words: words.collect(),
            seed: seed.fork(),
            number: 0,
            calls: options.calls,
            line_bytes: options.line,
            start_ms,
        }
    }

    /// The next lines; none behind the last one.
    pub(super) fn bundle(&mut self, calls: u64) -> Option<String> {
        let end = (self.number + calls).min(self.calls);
        let mut text = String::new();
        while self.number < end {
            self.line(&mut text);
            self.number += 1;
        }
        (!text.is_empty()).then_some(text)
    }

    fn hex(&mut self, digits: usize) -> String {
        let mut hex = String::new();
        while hex.len() < digits {
            hex.push_str(&format!("{:016x}", self.seed.next_u64()));
        }
        hex.truncate(digits);
        hex
    }

    fn line(&mut self, text: &mut String) {
        let n = self.number;
        let start = text.len();
        let seed = &mut self.seed;
        let host = seed.within(0..=35);
        let endpoint = (host * 7 + seed.within(0..=5)) % 220;
        let method = *seed.pick(&["GET", "GET", "GET", "POST", "PUT"]);
        let status = match seed.within(0..=999) {
            0..=19 => 500,
            20..=69 => 404,
            70..=149 => 201,
            _ => 200,
        };
        // One in a million, and the first of them early.
        let is_rare = n % 1_000_000 == 500;
        let status = if is_rare { 418 } else { status };
        let took = seed.within(1..=400);
        let first = seed.within(1..=took);
        let client = seed.within(1..=250);
        let id = seed.within(1..=9_999_999);
        let connection = seed.next_u64();
        let now = self.start_ms
            + (u128::from(n) * u128::from(DAY_MS) / u128::from(self.calls.max(1))) as u64;
        let (token, trace, agent) = (self.hex(40), self.hex(32), self.hex(16));
        text.push_str(&format!(
            r#"[["request_method","{method}"],["request_url","http://svc-{host}.example.test/v1/area{endpoint}/items/{id}"],["response_code","{status}"],["request_header:user-agent","client/{agent}"],["request_header:authorization","Bearer {token}"],["request_header:x-request-id","{trace}"],["request_header:accept","application/json"],["response_header:content-type","application/json; charset=utf-8"],["response_header:server","gateway"],["response_body","{{"#,
        ));
        let mut member = 0;
        while text.len() - start + 420 < self.line_bytes {
            let key = self.hex(16);
            text.push_str(&format!(r#"\"f{member}\":\"{key} "#));
            for _ in 0..6 {
                let word = self.seed.within(0..=self.words.len() - 1);
                text.push_str(&self.words[word]);
                text.push(' ');
            }
            text.push_str(r#"\","#);
            member += 1;
        }
        if is_rare {
            text.push_str(&format!(r#"\"rare\":\"{RARE}\","#));
        }
        let exchange = self.hex(32);
        text.push_str(&format!(
            r#"\"end\":{n}}}"],["now","{now}"],["interval","{took}"],["custom_field:exchange_id","{exchange}"],["custom_field:connection_id","{connection:016x}"],["custom_field:client_address","10.0.0.{client}"],["custom_field:client_port","{}"],["custom_field:server_address","10.1.0.{host}"],["custom_field:server_port","8080"],["custom_field:request_ended","{now}000000"],["custom_field:response_started","{}000000"],["custom_field:http_version","1.1"],["custom_field:vni","{}"],["host","node-{}"]]"#,
            40_000 + client,
            now + first as u64,
            100 + host % 4,
            host % 3,
        ));
        text.push('\n');
    }
}
