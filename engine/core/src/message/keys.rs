//! A cache of detail keys: what the rules do with a key, how it is written in a line, and one value that came with it.
//!
//! A name as it was sent (`Content-Type`) is looked up without being lower-cased or joined with its kind. Bounded by
//! `KEYS_MAX` and `KEYS_BYTES_MAX`: a peer that sends a new name with each call costs the work of applying the rules to it, not memory.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;

use super::facts::Details;
use super::url;
use crate::http::Side;
use crate::limits::{KEY_BYTES_MAX, KEYS_BYTES_MAX, KEYS_MAX, VALUE_BYTES_MAX};
use crate::ndjson;
use crate::rules::{Credential, NameWork, Plan, RuleSet};

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
    CustomField,
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
            Self::CustomField => "custom_field:",
        }
    }

    /// Whose detail it is; that of the request where it belongs to neither.
    pub(super) const fn side(self) -> Side {
        match self {
            Self::ResponseCode | Self::ResponseHeader | Self::ResponseBody => Side::Response,
            _ => Side::Request,
        }
    }
}

/// What a plan does with values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It leaves all as they are.
    Plain,
    /// It hides all.
    Hidden,
    /// It needs the value.
    OfValue,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    kind: Kind,
    name: Box<[u8]>,
    pub(super) plan: Plan,
    pub(super) effect: Effect,
    /// What it is among the details that facts come from, if it is a header.
    pub(super) source: Details,
    /// `["request_header:accept","`: the text before the value; after it the cached value and [`CLOSING`], or nothing.
    detail: Vec<u8>,
    opening_bytes: usize,
    /// How often a value differed from the cached one.
    misses: u8,
    /// The index of the key that followed it the last time.
    next: usize,
}

/// The text after a value.
pub(super) const CLOSING: &[u8] = b"\"],";

/// Of values that differ from the cached one, every n-th replaces it: a value that differs in every call is hardly ever
/// copied, and one that changes permanently is soon cached.
const MISSES: u8 = 8;

impl Key {
    /// Counts a credential that leaves as it is.
    fn new(
        rules: &RuleSet,
        kind: Kind,
        name: &[u8],
        work: &mut NameWork,
        passed: &mut Passed,
    ) -> Self {
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
        let plan = rules.plan_within(&key, work);
        match rules.passes(&key, &plan) {
            Some(Credential::Header) => passed.headers += 1,
            Some(Credential::Cookie) => passed.cookies += 1,
            Some(Credential::Param) => passed.params += 1,
            None => {}
        }
        Self {
            kind,
            name: name.into(),
            effect: match plan.needs_value() {
                true => Effect::OfValue,
                false if plan.hides_all() => Effect::Hidden,
                false => Effect::Plain,
            },
            source: match kind {
                Kind::RequestHeader | Kind::ResponseHeader => Details::header(kind.side(), name),
                _ => Details::NONE,
            },
            plan,
            opening_bytes: opening.len(),
            detail: opening,
            misses: 0,
            next: 0,
        }
    }

    /// Its memory, with that of a value.
    fn memory(&self) -> usize {
        let value = VALUE_BYTES_MAX + CLOSING.len();
        let names = self.name.len() + self.detail.len().max(self.opening_bytes + value);
        size_of::<Self>() + names + self.plan.memory()
    }

    #[inline]
    pub(super) fn opening(&self) -> &[u8] {
        self.detail.get(..self.opening_bytes).unwrap_or_default()
    }

    /// Bytes of the detail with a value in which nothing is escaped.
    #[inline]
    pub(super) fn bytes_with(&self, value: &[u8]) -> usize {
        self.opening_bytes + value.len() + CLOSING.len()
    }

    /// Appends the detail with this value; whether nothing is escaped in it.
    ///
    /// Half of a message's values are those of the message before (`User-Agent`, `Server`, `Cache-Control`, the method,
    /// the time of day in seconds): such a detail is copied as a whole, which is a third of the work.
    #[inline(always)]
    pub(super) fn write(&mut self, value: &[u8], out: &mut Vec<u8>) -> bool {
        let last = self.detail.get(self.opening_bytes..);
        let last = last.and_then(|last| last.get(..value.len()));
        // Equal in length, too: after the value there is only the closing.
        let is_last = self.detail.len() == self.bytes_with(value)
            && last.is_some_and(|last| same(last, value));
        if is_last {
            out.extend_from_slice(&self.detail);
            true
        } else {
            self.write_other(value, out)
        }
    }

    #[inline(never)]
    fn write_other(&mut self, value: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        ndjson::enclose(self.opening(), value, CLOSING, out);
        if self.misses.is_multiple_of(MISSES) {
            self.remember(value, out.get(start..).unwrap_or_default());
        }
        self.misses = self.misses.wrapping_add(1);
        out.len() - start == self.bytes_with(value)
    }

    /// `written` is the detail with `value`. One in which something was escaped is not cached: its value in the line would
    /// have to be kept in addition to the one that was sent.
    fn remember(&mut self, value: &[u8], written: &[u8]) {
        let inside = written
            .get(self.opening_bytes..)
            .and_then(|rest| rest.strip_suffix(CLOSING));
        if value.len() <= VALUE_BYTES_MAX && inside == Some(value) {
            self.detail.clear();
            self.detail.extend_from_slice(written);
        }
    }

    #[inline(always)]
    fn is(&self, kind: Kind, name: &[u8]) -> bool {
        self.kind == kind && same(&self.name, name)
    }
}

/// Whether two names or values are equal, word by word. The library's function for any length took a quarter of a call's
/// time.
#[inline(always)]
fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    if let (Some(one_last), Some(other_last)) = (one.last_chunk::<16>(), other.last_chunk::<16>()) {
        // The last word may overlap the one before; up to 32 bytes it and the first are all there is.
        let ends = one_last == other_last && one.first_chunk::<16>() == other.first_chunk::<16>();
        let mut words = one
            .as_chunks::<16>()
            .0
            .iter()
            .zip(other.as_chunks::<16>().0);
        return ends && (one.len() <= 32 || words.all(|(one, other)| one == other));
    }
    if let (Some(one_last), Some(other_last)) = (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        return one_last == other_last && one.first_chunk::<8>() == other.first_chunk::<8>();
    }
    if let (Some(one_last), Some(other_last)) = (one.last_chunk::<4>(), other.last_chunk::<4>()) {
        return one_last == other_last && one.first_chunk::<4>() == other.first_chunk::<4>();
    }
    one.iter().zip(other).all(|(one, other)| one == other)
}

/// Names of credentials that the rules let through as they are, each counted when it is first seen. For a name that was
/// forgotten that is once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) headers: u64,
    pub(super) cookies: u64,
    pub(super) params: u64,
}

/// All keys seen under one rule set.
///
/// The names of one message follow each other as they did in the last message of that kind, so each key records which
/// one followed it. That one is compared before anything is hashed: the table is used only where senders differ.
#[derive(Default)]
pub(super) struct Keys {
    keys: Vec<Key>,
    /// Indices in `keys`.
    table: HashTable<usize>,
    hasher: foldhash::fast::RandomState,
    /// Their memory.
    bytes: usize,
    /// The index of the key seen last.
    last: usize,
    /// The index of the one that followed it the last time.
    next: usize,
    /// A key too long to be cached, or one that must not be.
    long: Option<Key>,
    /// How often the table was full and was cleared.
    pub(super) forgotten: u64,
    pub(super) passed: Passed,
    /// What is left of the work on names for the present message.
    pub(super) work: NameWork,
}

impl Keys {
    /// With at most `bytes` bytes of memory for what the searches of names keep.
    pub(super) fn within(bytes: usize) -> Self {
        Self {
            work: NameWork::within(bytes),
            ..Self::default()
        }
    }

    #[inline(always)]
    pub(super) fn get(&mut self, rules: &RuleSet, kind: Kind, name: &[u8]) -> &mut Key {
        let expected = self.next;
        let is_next = |key: &Key| key.is(kind, name);
        if !self.keys.get(expected).is_some_and(is_next) {
            return self.unexpected(rules, kind, name);
        }
        self.last = expected;
        #[expect(clippy::indexing_slicing, reason = "it has just been seen there")]
        let key = &mut self.keys[expected];
        self.next = key.next;
        key
    }

    /// A key that is not the one which followed the last one before. A function of its own, so that the usual case is short.
    #[inline(never)]
    fn unexpected(&mut self, rules: &RuleSet, kind: Kind, name: &[u8]) -> &mut Key {
        let place = if name.len() > KEY_BYTES_MAX {
            None
        } else {
            self.find(rules, kind, name)
        };
        let Some(place) = place else {
            let key = Key::new(rules, kind, name, &mut self.work, &mut self.passed);
            return self.long.insert(key);
        };
        self.last = place;
        #[expect(clippy::indexing_slicing, reason = "it was found, or put, there")]
        let key = &mut self.keys[place];
        self.next = key.next;
        key
    }

    /// As [`Self::get`], for the key that was looked up last, which is no sign of what follows it.
    #[inline]
    pub(super) fn again(&mut self, rules: &RuleSet, kind: Kind, name: &[u8]) -> &mut Key {
        let is_last = self
            .keys
            .get(self.last)
            .is_some_and(|key| key.is(kind, name));
        if !is_last {
            return self.get(rules, kind, name);
        }
        #[expect(clippy::indexing_slicing, reason = "it has just been seen there")]
        &mut self.keys[self.last]
    }

    /// The index of a key that was not expected here. None for a new one when the work for names is spent: what the rules do with
    /// it holds for this message alone.
    #[inline(never)]
    fn find(&mut self, rules: &RuleSet, kind: Kind, name: &[u8]) -> Option<usize> {
        let Self {
            keys,
            table,
            hasher,
            bytes,
            passed,
            work,
            ..
        } = self;
        let hash = hasher.hash_one((kind, name));
        let is = |place: &usize| keys.get(*place).is_some_and(|key| key.is(kind, name));
        let place = match table.find(hash, is) {
            Some(place) => *place,
            None => {
                let key = Key::new(rules, kind, name, work, passed);
                if work.is_spent() {
                    return None;
                }
                *bytes += key.memory();
                if keys.len() >= KEYS_MAX || *bytes > KEYS_BYTES_MAX {
                    keys.clear();
                    table.clear();
                    *bytes = key.memory();
                    self.forgotten += 1;
                }
                let hash_of = |place: &usize| {
                    let key = keys.get(*place);
                    key.map_or(0, |key| hasher.hash_one((key.kind, &*key.name)))
                };
                let place = keys.len();
                table.insert_unique(hash, place, hash_of);
                keys.push(key);
                place
            }
        };
        if let Some(last) = keys.get_mut(self.last) {
            last.next = place;
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_in_any_byte() {
        let name: Vec<u8> = (0..40).collect();
        for len in 0..name.len() {
            let name = &name[..len];
            assert!(same(name, name) && !same(name, &[name, b"x"].concat()));
            for at in 0..len {
                let mut other = name.to_vec();
                other[at] ^= 1;
                assert!(!same(name, &other), "{len} {at}");
            }
        }
    }

    #[test]
    fn credentials_that_pass_are_counted_by_name() {
        let passed = |rules: &str| {
            let (rules, mut keys) = (RuleSet::parse(rules).unwrap(), Keys::default());
            for _ in 0..3 {
                for (kind, name) in [
                    (Kind::RequestHeader, "Authorization"),
                    (Kind::RequestHeader, "Accept"),
                    (Kind::RequestHeader, "Cookie"),
                    (Kind::ResponseHeader, "Set-Cookie"),
                    (Kind::SessionField, "sid"),
                    (Kind::RequestParam, "key"),
                    (Kind::RequestParam, "q"),
                ] {
                    keys.get(&rules, kind, name.as_bytes());
                }
            }
            let passed = keys.passed;
            [passed.headers, passed.cookies, passed.params]
        };
        assert_eq!(passed("include debug"), [1, 3, 1]);
        assert_eq!(passed("include debug\ninclude standard"), [1, 1, 1]);
        assert_eq!(passed("include debug\ninclude private"), [0; 3]);
        assert_eq!(passed("include strict"), [0, 1, 0]);
    }

    #[test]
    fn the_work_for_the_names_of_a_message_is_bounded() {
        // Each new name costs this scope all that it may take for one.
        let rules = RuleSet::parse("/request_param:(?:(?!x)[a-f0-9]+)+(?=b)/ remove").unwrap();
        let mut keys = Keys::default();
        let hides = |keys: &mut Keys, name: &str| {
            let key = keys.get(&rules, Kind::RequestParam, name.as_bytes());
            key.plan.hides_all()
        };
        assert!(!hides(&mut keys, "plain"));
        let mut names = 0;
        while !keys.work.is_spent() {
            names += 1;
            assert!(
                hides(&mut keys, &format!("{}b{names:x}", "a".repeat(40))),
                "in doubt"
            );
        }
        assert!((100..1000).contains(&names), "{names}");
        let known = keys.keys.len();
        assert!(
            hides(&mut keys, "zb") && keys.keys.len() == known,
            "not cached"
        );
        assert!(!hides(&mut keys, "plain"), "it was there before");
        keys.work.renew();
        assert!(!hides(&mut keys, "zb"), "the next message");
    }

    #[test]
    fn a_key_is_found_in_any_order() {
        let rules = RuleSet::parse("/.*:b/ remove").unwrap();
        let (mut keys, mut state) = (Keys::default(), 1_usize);
        for _ in 0..2000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(9);
            let name = &b"abcB"[state >> 60 & 3..][..1];
            let kind = [Kind::RequestHeader, Kind::ResponseHeader][state >> 50 & 1];
            let key = keys.get(&rules, kind, name);
            assert!(key.is(kind, name));
            assert_eq!(key.plan.hides_all(), name.eq_ignore_ascii_case(b"b"));
        }
        assert_eq!(keys.keys.len(), 8);
    }

    #[test]
    fn keys_are_lower_case_and_forgotten_when_they_are_too_many() {
        let rules = RuleSet::parse("/request_header:x-1/ remove").unwrap();
        let mut keys = Keys::default();
        for _ in 0..2 {
            let key = keys.get(&rules, Kind::RequestHeader, b"X-1");
            assert_eq!(
                (key.opening(), key.plan.hides_all()),
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
            keys.get(&rules, Kind::RequestParam, b"\"\xff").opening(),
            "[\"request_param:\\\"\u{fffd}\",\"".as_bytes()
        );
        let long = [b'a'; KEY_BYTES_MAX + 1];
        assert!(keys.get(&rules, Kind::RequestParam, &long).opening().len() > KEY_BYTES_MAX);
        for number in 0..=KEYS_MAX {
            keys.get(&rules, Kind::RequestParam, number.to_string().as_bytes());
        }
        assert_eq!(keys.forgotten, 1);
        assert!(keys.table.len() < KEYS_MAX && keys.keys.len() == keys.table.len());
        // Names that are long in the line.
        for number in 0..KEYS_MAX {
            let name = [number.to_string().as_bytes(), &[1; KEY_BYTES_MAX - 4]].concat();
            keys.get(&rules, Kind::RequestParam, &name);
            assert!(keys.bytes <= KEYS_BYTES_MAX);
            if number % 100 == 0 {
                let memory: usize = keys.keys.iter().map(Key::memory).sum();
                assert_eq!(memory, keys.bytes);
            }
        }
        assert!(keys.forgotten > 2);
    }
}
