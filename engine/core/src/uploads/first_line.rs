//! Whether a body begins with what a sniffer uploads: a call, which is an array of pairs of strings, of which the first has a key of
//! the contract; or a ledger, which is an object with the members of the contract in their order.
//!
//! Source: `docs/contract.md`, sections 1 and 2. Only what sniffers write is accepted, without white space between the parts.

/// The keys of details (section 1.1), or their beginnings where a name follows.
const KEYS: [&[u8]; 13] = [
    b"request_method",
    b"request_url",
    b"response_code",
    b"request_body",
    b"request_header:",
    b"request_param:",
    b"response_header:",
    b"response_body",
    b"session_field:",
    b"custom_field:",
    b"now",
    b"interval",
    b"host",
];

/// What stands before the names in a ledger.
const LEDGER: [&[u8]; 2] = [b"{\"appliance\":", b"\"run\":"];

/// Whether the first line is a call or a ledger. Where the bytes end within that line, it has to be complete if they are the `whole`
/// body; else what there is has to fit, from the first key on.
pub(super) fn is_upload(bytes: &[u8], whole: bool) -> bool {
    let mut reading = Reading {
        rest: bytes,
        has_key: false,
    };
    let read = match bytes.first() {
        Some(b'{') => reading.ledger(),
        _ => reading.line(),
    };
    match read {
        Ok(()) => true,
        Err(Stop::Broken) => false,
        Err(Stop::Short) => !whole && reading.has_key,
    }
}

enum Stop {
    /// This is no call.
    Broken,
    /// The bytes end first.
    Short,
}

struct Reading<'a> {
    rest: &'a [u8],
    /// The first key was read.
    has_key: bool,
}

impl<'a> Reading<'a> {
    fn line(&mut self) -> Result<(), Stop> {
        self.expect(b'[')?;
        loop {
            self.expect(b'[')?;
            let key = self.string()?;
            if !self.has_key && !is_known(key) {
                return Err(Stop::Broken);
            }
            self.has_key = true;
            self.expect(b',')?;
            self.string()?;
            self.expect(b']')?;
            match self.next()? {
                b',' => {}
                b']' => break,
                _ => return Err(Stop::Broken),
            }
        }
        match self.rest {
            [] | [b'\n' | b'\r', ..] => Ok(()),
            _ => Err(Stop::Broken),
        }
    }

    /// A ledger as far as its first numbers.
    fn ledger(&mut self) -> Result<(), Stop> {
        for member in LEDGER {
            self.expect_all(member)?;
            self.string()?;
            self.expect(b',')?;
        }
        self.has_key = true;
        self.expect_all(b"\"calls\":{\"seen\":")
    }

    fn expect_all(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        bytes.iter().try_for_each(|byte| self.expect(*byte))
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let (first, rest) = self.rest.split_first().ok_or(Stop::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        let is_it = self.next()? == byte;
        if is_it { Ok(()) } else { Err(Stop::Broken) }
    }

    /// The text of a string as it is written.
    fn string(&mut self) -> Result<&'a [u8], Stop> {
        self.expect(b'"')?;
        let text = self.rest;
        let mut length = 0;
        loop {
            match self.next()? {
                b'"' => return text.get(..length).ok_or(Stop::Broken),
                b'\\' => {
                    self.next()?;
                    length += 2;
                }
                ..=0x1f => return Err(Stop::Broken),
                _ => length += 1,
            }
        }
    }
}

fn is_known(key: &[u8]) -> bool {
    KEYS.iter().any(|known| match known.last() {
        Some(b':') => key.starts_with(known),
        _ => key == *known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &str, whole: bool, cut: bool) {
        let is = [true, false].map(|whole| is_upload(bytes.as_bytes(), whole));
        assert_eq!(is, [whole, cut], "{bytes}");
    }

    #[test]
    fn lines() {
        let call = r#"[["request_method","GET"],["request_url","http://a/\"b\\"],["host","h"]]"#;
        check(call, true, true);
        check(&format!("{call}\n{{}}"), true, true);
        check(&format!("{call}x"), false, false);
        // Cut behind its first key it may be one; before that nothing is known.
        for end in 0..call.len() - 1 {
            check(&call[..end], false, end >= r#"[["request_method""#.len());
        }
        check(r#"[["request_header:a","b"]]"#, true, true);
        let ledger = r#"{"appliance":"a\"b","run":"17","calls":{"seen":9}}"#;
        check(ledger, true, true);
        check(&ledger[..32], false, true);
        check(&ledger[..20], false, false);
        for no_ledger in [
            r#"{"run":"17","appliance":"a","calls":{"seen":9}}"#,
            r#"{"appliance":1,"run":"17","calls":{"seen":9}}"#,
            r#"{"appliance":"a","run":"17","card":"4111"}"#,
        ] {
            check(no_ledger, false, false);
        }
        for no_call in [
            r#"{"event":1}"#,
            r#"[["key","value"]]"#,
            r#"[["request_header","b"]]"#,
            r#"[["host",1]]"#,
            r#"[["host"]]"#,
            r#"[["host","h","i"]]"#,
            "[[\"host\",\"a\nb\"]]",
            r#" [["host","h"]]"#,
            "[]",
            "\n",
        ] {
            check(no_call, false, false);
        }
    }
}
