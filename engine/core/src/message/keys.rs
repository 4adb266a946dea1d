//! Detail names in, what the rules do with them and how they read in a line out; remembered per name.
//!
//! A name as it was sent (`Content-Type`) is looked up without being lower-cased or put together with its kind. Bounded
//! by `KEYS_MAX`: a peer that sends a new name with each call costs the work of asking the rules, not memory.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;

use super::url;
use crate::limits::{KEY_BYTES_MAX, KEYS_MAX};
use crate::ndjson;
use crate::rules::{Plan, RuleSet};

/// What a detail belongs to, in the order of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    RequestMethod,
    RequestUrl,
    ResponseCode,
    RequestBody,
    RequestHeader,
    RequestParam,
    ResponseHeader,
    ResponseBody,
    SessionField,
    Now,
    Interval,
}

impl Kind {
    /// The key, or the part of it before the name.
    const fn prefix(self) -> &'static str {
        match self {
            Self::RequestMethod => "request_method",
            Self::RequestUrl => "request_url",
            Self::ResponseCode => "response_code",
            Self::RequestBody => "request_body",
            Self::RequestHeader => "request_header:",
            Self::RequestParam => "request_param:",
            Self::ResponseHeader => "response_header:",
            Self::ResponseBody => "response_body",
            Self::SessionField => "session_field:",
            Self::Now => "now",
            Self::Interval => "interval",
        }
    }
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    kind: Kind,
    name: Box<[u8]>,
    pub(super) plan: Plan,
    /// `["request_header:accept","`: what stands before the value.
    pub(super) opening: Box<[u8]>,
}

impl Key {
    fn new(rules: &RuleSet, kind: Kind, name: &[u8]) -> Self {
        let mut lower = name.to_vec();
        url::lower(&mut lower);
        let key: String = kind
            .prefix()
            .chars()
            .chain(String::from_utf8_lossy(&lower).chars())
            .collect();
        let mut opening = b"[\"".to_vec();
        ndjson::escape(key.as_bytes(), &mut opening);
        opening.extend_from_slice(b"\",\"");
        Self {
            kind,
            name: name.into(),
            plan: rules.plan(&key),
            opening: opening.into(),
        }
    }
}

/// All keys met under one rule set.
#[derive(Default)]
pub(super) struct Keys {
    table: HashTable<Key>,
    hasher: foldhash::fast::RandomState,
    /// A key too long to be remembered.
    long: Option<Key>,
    /// How often the table was full and forgot everything.
    pub(super) forgotten: u64,
}

impl Keys {
    pub(super) fn get(&mut self, rules: &RuleSet, kind: Kind, name: &[u8]) -> &Key {
        if name.len() > KEY_BYTES_MAX {
            return self.long.insert(Key::new(rules, kind, name));
        }
        if self.table.len() >= KEYS_MAX {
            self.table.clear();
            self.forgotten += 1;
        }
        let Self { table, hasher, .. } = self;
        let hash = hasher.hash_one((kind, name));
        table
            .entry(
                hash,
                |key| key.kind == kind && *key.name == *name,
                |key| hasher.hash_one((key.kind, &*key.name)),
            )
            .or_insert_with(|| Key::new(rules, kind, name))
            .into_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lower_case_and_forgotten_when_they_are_too_many() {
        let rules = RuleSet::parse("/request_header:x-1/ remove").unwrap();
        let mut keys = Keys::default();
        for _ in 0..2 {
            let key = keys.get(&rules, Kind::RequestHeader, b"X-1");
            assert_eq!(
                (&*key.opening, key.plan.hides_all()),
                (&b"[\"request_header:x-1\",\""[..], true)
            );
            assert!(
                !keys
                    .get(&rules, Kind::ResponseHeader, b"X-1")
                    .plan
                    .hides_all()
            );
        }
        assert_eq!(
            &*keys.get(&rules, Kind::RequestParam, b"\"\xff").opening,
            "[\"request_param:\\\"\u{fffd}\",\"".as_bytes()
        );
        let long = [b'a'; KEY_BYTES_MAX + 1];
        assert!(keys.get(&rules, Kind::RequestParam, &long).opening.len() > KEY_BYTES_MAX);
        for number in 0..=KEYS_MAX {
            keys.get(&rules, Kind::RequestParam, number.to_string().as_bytes());
        }
        assert_eq!(keys.forgotten, 1);
        assert!(keys.table.len() < KEYS_MAX);
    }
}
