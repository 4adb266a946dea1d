//! The rule filter: details go through the rules, and what is left of them into the buffer of their part of the line.

use std::borrow::Cow;

use super::super::Config;
use super::super::content::{Codings, StreamDecoder};
use super::super::draft::{Body, Extra, Mode};
use super::super::facts::Details;
use super::super::keys::{CLOSING, Effect, Key, Keys, Kind};
use super::super::tail::BodyTail;
use super::super::url;
use crate::http::{Header, HeaderName, RequestHead, ResponseHead, Side, Version};
use crate::limits::{
    FIELDS_BYTES_MAX, HEADERS_MAX, LINE_DETAILS_MAX, LINE_DETAILS_OTHER, RULE_SETS_MAX,
    RULES_BEYOND_BYTES,
};
use crate::ndjson;
use crate::rules::{Charset, Extent, Findings, RuleSet, Scratch};

/// Details of a line from which on it has no room for fields: the headers of the response may still come.
const FIELDS_END: usize = LINE_DETAILS_MAX - LINE_DETAILS_OTHER - HEADERS_MAX;

/// Bytes of a field's detail beside its name and its value.
const FIELD_OVERHEAD_BYTES: usize = 32;

/// The part of the memory for what searches keep that is for those of names: a quarter.
const NAMES_DIVISOR: usize = 4;

/// A rule set with what is cached for it.
pub(super) struct ActiveSet {
    pub(super) id: u64,
    pub(super) rules: RuleSet,
    pub(super) keys: Keys,
    pub(super) scratch: Scratch,
    /// A rule may drop a call because of a param.
    stops_on_params: bool,
    /// Open exchanges that it applies to.
    pub(super) open: u64,
    /// Whether a rule may drop a call because of a detail whose key begins so.
    stops: Vec<(&'static str, bool)>,
}

impl ActiveSet {
    /// Of `bytes`, the memory of the rules of a writer, those that are in use have the half for what searches keep.
    pub(super) fn new(id: u64, rules: &RuleSet, bytes: usize) -> Self {
        let of_names = bytes / 2 / NAMES_DIVISOR;
        Self {
            id,
            rules: rules.clone(),
            stops_on_params: rules.may_stop("request_param:"),
            keys: Keys::within(of_names),
            scratch: Scratch::within(bytes / 2 - of_names),
            open: 0,
            stops: Vec::new(),
        }
    }

    /// No exchange begins with these rules any more: forgets what searches keep. What those of open exchanges make has a bound that
    /// all former rules together keep within the other half.
    pub(super) fn retire(&mut self, bytes: usize) {
        let bytes = bytes / 2 / RULE_SETS_MAX;
        let of_names = bytes / NAMES_DIVISOR;
        self.keys.work.narrow_to(of_names);
        self.scratch.narrow_to(bytes - of_names);
    }

    /// Bytes of memory that searches keep.
    pub(super) fn searches_bytes(&self) -> usize {
        self.keys.work.bytes() + self.scratch.searches_bytes()
    }

    /// How often what searches keep was forgotten since this was called.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        self.keys.work.take_forgotten() + self.scratch.take_forgotten()
    }

    /// Patterns are compiled for the answer, so it is kept.
    fn may_stop_for(&mut self, prefix: &'static str) -> bool {
        if let Some((_, stops)) = self.stops.iter().find(|(known, _)| *known == prefix) {
            return *stops;
        }
        let stops = self.rules.may_stop_for(prefix);
        self.stops.push((prefix, stops));
        stops
    }

    #[inline]
    pub(super) fn key(&mut self, kind: Kind, name: &[u8]) -> &Key {
        self.keys.get(&self.rules, kind, name)
    }
}

/// The set that applies to an exchange; none when it was retired too long ago.
pub(super) fn set_of<'a>(
    current: &'a mut ActiveSet,
    retired: &'a mut [ActiveSet],
    id: u64,
) -> Option<&'a mut ActiveSet> {
    if current.id == id {
        Some(current)
    } else {
        retired.iter_mut().find(|set| set.id == id)
    }
}

/// What the content types of a message say of its characters.
fn charset_of(headers: &[Header<'_>]) -> Charset {
    let mut charset = Charset::default();
    for header in headers {
        if header.is(HeaderName::ContentType) {
            charset = charset.max(Charset::of_type(header.value));
        }
    }
    charset
}

/// What became of a body.
pub(super) struct WrittenBody {
    /// The rules did not leave it as it was, or it is not in the line.
    pub(super) is_changed: bool,
    /// It was cut to the room that there is.
    pub(super) is_cut: bool,
    /// As much of it is in the line as was to be, and no more.
    pub(super) bytes: usize,
}

/// What became of a detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is in the line as it was sent, with nothing escaped in it; or it is empty, or no detail is looked at any more.
    Unescaped,
    /// The rules leave it as it is: something is escaped in it, or it is not in the line.
    Escaped,
    /// The rules do not leave it as it is; what it is among the details that facts come from.
    Changed(Details),
}

/// As [`RuleFilter::put`], for a key whose details are hidden.
#[inline(never)]
fn put_hidden(
    (rules, scratch): (&RuleSet, &mut Scratch),
    findings: &mut Findings,
    key: &Key,
    value: &[u8],
) -> Written {
    rules.hide(&key.plan, findings, scratch);
    if value.is_empty() {
        Written::Unescaped
    } else {
        Written::Changed(key.source)
    }
}

/// As [`RuleFilter::put`], for a key whose rules need the value.
#[inline(never)]
fn put_ruled(
    (rules, scratch): (&RuleSet, &mut Scratch),
    findings: &mut Findings,
    key: &Key,
    value: &[u8],
    only_tests: bool,
    out: &mut Vec<u8>,
) -> Written {
    let left = rules.apply(&key.plan, value, findings, scratch);
    let Some(left) = left.filter(|left| !left.is_empty()) else {
        return if value.is_empty() {
            Written::Unescaped
        } else {
            Written::Changed(key.source)
        };
    };
    let is_same = std::ptr::eq(left, value) || left == value;
    let start = out.len();
    if !only_tests {
        ndjson::enclose(key.opening(), left, CLOSING, out);
    }
    match is_same {
        true if out.len() - start == key.bytes_with(value) => Written::Unescaped,
        true => Written::Escaped,
        false => Written::Changed(key.source),
    }
}

/// Applies the rules to the details of one exchange and writes what is left.
pub(super) struct RuleFilter<'a> {
    pub(super) set: &'a mut ActiveSet,
    pub(super) findings: &'a mut Findings,
    /// Nothing is written: the call is sampled out, or the body is withheld.
    pub(super) only_tests: bool,
}

impl RuleFilter<'_> {
    /// Whether no further detail can change the verdict on the call.
    pub(super) fn is_done(&self) -> bool {
        self.findings.is_stopped() || (self.only_tests && !self.set.rules.stops())
    }

    /// Details whose keys begin with `prefix` are not known: the call is stopped if a rule may ask for one of them to decide
    /// whether it is.
    #[cold]
    pub(super) fn doubt(&mut self, prefix: &'static str) {
        if !self.findings.is_stopped() && self.set.may_stop_for(prefix) {
            self.findings.doubt();
        }
    }

    /// Some fields of a request are not known: any header may be among them, and what has no value.
    #[cold]
    pub(super) fn doubt_request(&mut self, head: &RequestHead<'_>, has_host: bool) {
        self.doubt("request_header:");
        self.doubt("session_field:");
        if head.method.is_empty() {
            self.doubt("request_method");
        }
        if head.target.is_empty() || !has_host {
            self.doubt("request_url");
        }
        // In HTTP/1 the target may be cut off.
        if head.target.is_empty() || (!has_host && head.version != Version::Http2) {
            self.doubt("request_param:");
        }
    }

    /// Headers of a message are not known, or, where it has no head, nothing of it.
    #[cold]
    pub(super) fn doubt_message(&mut self, side: Side, has_head: bool) {
        let (headers, others): (_, &[_]) = match side {
            Side::Request => (
                "request_header:",
                &[
                    "request_method",
                    "request_url",
                    "request_param:",
                    "request_body",
                    "session_field:",
                ],
            ),
            Side::Response => ("response_header:", &["response_code", "response_body"]),
        };
        self.doubt(headers);
        for key in others.iter().filter(|_| !has_head) {
            self.doubt(key);
        }
    }

    /// The same for a response.
    #[cold]
    pub(super) fn doubt_response(&mut self, head: &ResponseHead<'_>) {
        self.doubt("response_header:");
        if head.status == 0 {
            self.doubt("response_code");
        }
    }

    /// Applies the rules to a detail and writes what they leave; whether that is all of it.
    #[inline]
    pub(super) fn write(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        !matches!(self.put(kind, name, value, out), Written::Changed(_))
    }

    /// As [`Self::write`], with more about the outcome.
    pub(super) fn put(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Written {
        if self.is_done() {
            return Written::Unescaped;
        }
        let ActiveSet {
            rules,
            keys,
            scratch,
            ..
        } = &mut *self.set;
        let key = keys.get(rules, kind, name);
        match key.effect {
            Effect::Plain => {}
            Effect::Hidden => return put_hidden((rules, scratch), self.findings, key, value),
            Effect::OfValue => {
                let rules = (&*rules, scratch);
                return put_ruled(rules, self.findings, key, value, self.only_tests, out);
            }
        }
        self.findings.plain(value.is_empty());
        if value.is_empty() || (!self.only_tests && key.write(value, out)) {
            Written::Unescaped
        } else {
            Written::Escaped
        }
    }

    /// Writes a param. Where its pair has semicolons, `parts`, some readers split it there, too: then it leaves only if the
    /// rules leave all that they read as it is. Whether the line has room for it.
    #[inline]
    pub(super) fn write_param(
        &mut self,
        name: &[u8],
        value: &[u8],
        parts: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> bool {
        let withheld = parts
            .is_some_and(|parts| self.concern(Kind::RequestParam, |each| url::parts(parts, each)));
        let only_tests = self.only_tests;
        self.only_tests |= withheld;
        let fits = self.write_field(Kind::RequestParam, name, value, out);
        self.only_tests = only_tests;
        fits
    }

    /// Applies the rules to the details that some readers find in one, and returns whether they change any.
    #[cold]
    pub(super) fn concern(
        &mut self,
        kind: Kind,
        all: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])),
    ) -> bool {
        if self.is_done() {
            return false;
        }
        let ActiveSet {
            rules,
            keys,
            scratch,
            ..
        } = &mut *self.set;
        let mut changed = false;
        let mut found = self.findings.of_part(0);
        all(&mut |name, value| {
            let key = keys.get(rules, kind, name);
            if key.effect != Effect::Plain && !value.is_empty() {
                changed |= rules.apply(&key.plan, value, &mut found, scratch) != Some(value);
            }
        });
        self.findings.also(&found);
        changed
    }

    /// As [`Self::write`], for a query parameter, a form field or a session field, of which a message may have any number;
    /// whether the line has room for it.
    #[inline]
    pub(super) fn write_field(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        self.put_field(kind, name, value, out).is_some()
    }

    /// As [`Self::write_field`], with more about the outcome; nothing if the line has no room for it.
    #[inline]
    pub(super) fn put_field(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        let text_bytes = ndjson::GROWTH_MAX * (name.len() + value.len()) + FIELD_OVERHEAD_BYTES;
        if self.findings.kept() < FIELDS_END && out.len() + text_bytes <= FIELDS_BYTES_MAX {
            return Some(self.put(kind, name, value, out));
        }
        let fits = self.write_last_field(kind, name, value, out);
        fits.then_some(Written::Escaped)
    }

    /// The rules apply to a field that is left out, too.
    #[cold]
    fn write_last_field(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        let before_value = ndjson::GROWTH_MAX * name.len() + FIELD_OVERHEAD_BYTES;
        let room = if self.findings.kept() < FIELDS_END {
            FIELDS_BYTES_MAX.saturating_sub(start + before_value)
        } else {
            0
        };
        let cut = self.write_within(kind, name, value, room, out);
        if cut {
            out.truncate(start);
            self.findings.left_out();
        }
        !cut
    }

    /// As [`Self::write`], with no more than `room` bytes of text for the value; whether it was cut to that.
    pub(super) fn write_within(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        room: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.is_done() {
            return false;
        }
        let ActiveSet {
            rules,
            keys,
            scratch,
            ..
        } = &mut *self.set;
        let key = keys.get(rules, kind, name);
        let left = rules.apply(&key.plan, value, self.findings, scratch);
        let Some(left) = left.filter(|left| !left.is_empty() && !self.only_tests) else {
            return false;
        };
        ndjson::enclose_within(key.opening(), (left, false), CLOSING, room, out) < left.len()
    }

    /// Writes the status of a response, and returns whether it is in the line as it was.
    pub(super) fn write_status(&mut self, digits: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.write(Kind::ResponseCode, b"", digits, out) && out.len() > start
    }

    /// Whether what was written of a detail is all of it.
    #[cold]
    pub(super) fn is_whole(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        written: &[u8],
    ) -> bool {
        let opening = self.set.key(kind, name).opening();
        let inside = written.strip_prefix(opening);
        if inside.and_then(|inside| inside.strip_suffix(CLOSING)) == Some(value) {
            return true;
        }
        let mut whole = Vec::new();
        ndjson::enclose(opening, value, CLOSING, &mut whole);
        written == whole
    }

    /// As [`Self::write`], for a fact: a line that has nothing else is empty.
    #[cold]
    pub(super) fn write_fact(&mut self, name: &str, value: &[u8], out: &mut Vec<u8>) {
        let kept = self.findings.kept();
        self.write(Kind::CustomField, name.as_bytes(), value, out);
        if self.findings.kept() > kept {
            self.findings.left_out();
        }
    }

    /// Applies the rules to a body, of which there is what `extent` says, and writes of what they leave at most `bytes_max`
    /// bytes, and no more than `room` bytes of text. One that is known to be UTF-8 (`is_utf8`) is not examined for it again.
    pub(super) fn write_body(
        &mut self,
        kind: Kind,
        (value, is_utf8): (&[u8], bool),
        extent: Extent,
        (bytes_max, room): (usize, usize),
        out: &mut Vec<u8>,
    ) -> WrittenBody {
        let mut written = WrittenBody {
            is_changed: true,
            is_cut: false,
            bytes: 0,
        };
        if self.is_done() {
            return written;
        }
        let ActiveSet {
            rules,
            keys,
            scratch,
            ..
        } = &mut *self.set;
        let key = keys.again(rules, kind, b"");
        let left = rules.apply_to(&key.plan, value, extent, self.findings, scratch);
        // What is cut off at the end, where the body goes on, is no change.
        written.is_changed = left.is_none_or(|left| {
            !std::ptr::eq(left, value)
                && (!value.starts_with(left)
                    || (extent == Extent::Whole && left.len() != value.len()))
        });
        let Some(whole) = left.filter(|_| bytes_max > 0 && !self.only_tests) else {
            return written;
        };
        let left = whole.get(..bytes_max).unwrap_or(whole);
        // What patterns read is text; the limit may have divided a character.
        let of_patterns = key.plan.needs_value() && !key.plan.looks_inside();
        let is_same = is_utf8 && std::ptr::eq(whole, value);
        let is_utf8 = (of_patterns || is_same) && left.len() == whole.len();
        let taken = ndjson::enclose_within(key.opening(), (left, is_utf8), CLOSING, room, out);
        written.is_cut = taken < left.len();
        written.bytes = taken;
        written
    }

    /// Drops the call if a rule may do so because of a param that could not be read.
    pub(super) fn miss_params(&mut self) {
        if self.set.stops_on_params {
            self.findings.stop();
        }
    }

    /// What the masks that look into a body leave of it; nothing when it cannot be parsed.
    pub(super) fn unmasked<'v>(&mut self, kind: Kind, body: &'v [u8]) -> Option<Cow<'v, [u8]>> {
        let ActiveSet {
            rules,
            keys,
            scratch,
            ..
        } = &mut *self.set;
        let plan = &keys.get(rules, kind, b"").plan;
        rules.masks(plan, body, self.findings, scratch)
    }

    /// Decides how the bytes of a body are treated. Of the two limits the second applies where it lets no call evade a rule:
    /// a truncated body could pass a rule that would have stopped the whole one. Returns whether the rules hide it.
    pub(super) fn start_body(
        &mut self,
        kind: Kind,
        body: &mut Body,
        headers: &[Header<'_>],
        codings: Codings,
        is_form: bool,
        (bytes_max, shed_bytes_max): (usize, usize),
    ) -> bool {
        body.state.codings = codings;
        body.state.is_form = is_form;
        let (done, only_tests) = (self.is_done(), self.only_tests);
        let plan = &self.set.key(kind, b"").plan;
        if plan.needs_value() || is_form {
            body.state.beyond = RULES_BEYOND_BYTES;
            body.state.charset = charset_of(headers);
        }
        body.state.bytes_max = if is_form || plan.needs_value() {
            bytes_max
        } else {
            shed_bytes_max
        };
        let unseen = (plan.hides_all() || only_tests) && !plan.needs_value() && !is_form;
        body.state.mode = if done || unseen || body.state.codings.is_unknown() {
            Mode::Counted
        } else if is_form
            || plan.needs_value()
            || body.state.may_be_coded
            || !body.state.codings.is_identity()
        {
            Mode::Collected
        } else {
            Mode::Streamed
        };
        plan.hides_all()
    }

    /// Decides whether a body is decoded as it comes, and whether its end is kept: not that of a body which a rule has to see, nor
    /// of one from which params are made.
    #[cold]
    pub(super) fn start_extra(&mut self, kind: Kind, body: &mut Body, config: &Config) {
        let state = &mut body.state;
        let needs_value = self.set.key(kind, b"").plan.needs_value() || state.is_form;
        let keeps_tail = config.body_tail_bytes > 0
            && !needs_value
            && state.mode != Mode::Counted
            && !state.may_be_coded
            && state.bytes_max == config.body_bytes_max
            && state.bytes_max > 0;
        // Facts of a body that does not leave are shown where they are kept.
        let is_read = state.mode != Mode::Counted || config.keep_facts;
        let is_decoded = (keeps_tail || body.observer.is_some()) && is_read;
        let decoder = StreamDecoder::new(&state.codings).filter(|_| is_decoded);
        if decoder.is_some() {
            state.codings = state.codings.undone();
            if state.mode == Mode::Collected && !needs_value {
                state.mode = Mode::Streamed;
            }
        }
        let tail = keeps_tail.then(|| BodyTail::new(config.body_tail_bytes));
        if decoder.is_some() || tail.is_some() {
            body.extra = Some(Box::new(Extra { decoder, tail }));
        }
    }
}
