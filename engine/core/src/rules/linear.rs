//! Patterns of the linear engine: their test, and their replacement.

use std::ops::Range;

use regex_automata::Input;
use regex_automata::util::captures::Captures;
use regex_automata::util::iter::Searcher as Matches;

use super::automaton::Automaton;
use super::beginnings::Beginnings;
use super::counted::{Counted, Searcher};

use super::prefilter::Prefilter;
use super::replacement::{Replaced, Replacement, Splice};
use super::searches::Work;
use super::work::Spent;

/// A pattern that the linear engine executes.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub(super) automaton: Automaton,
    prefilter: Prefilter,
    /// The effect of the pattern with `$1`, if that is only to cut the value.
    pub(super) cut: Option<Cut>,
    /// The only text that it matches, if there is one.
    text: Option<Box<str>>,
    /// For values whose end is not there.
    pub(super) beginnings: Beginnings,
}

/// The text of a pattern that is one between `^` and `$`, as most names of cookies are.
fn only_text(source: &str) -> Option<&str> {
    let text = source.strip_prefix('^')?.strip_suffix('$')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.bytes().all(is_plain).then_some(text)
}

impl Linear {
    /// Compiles `pattern`, which was written as `source`.
    pub(super) fn new(pattern: &str, source: &str) -> Result<Self, String> {
        Ok(Self {
            automaton: Automaton::new(pattern)?,
            prefilter: Prefilter::of(pattern),
            cut: Cut::of(source),
            text: only_text(source).map(Into::into),
            beginnings: Beginnings::default(),
        })
    }

    /// Gives its automata places of their own, from `next` on.
    pub(super) fn place(&mut self, next: &mut usize) {
        self.automaton.compiled.place = *next;
        self.beginnings.place = *next + 1;
        *next += 2;
    }

    /// Whether the prefilter shows that the pattern is not found in `value`.
    #[inline]
    pub(super) fn is_ruled_out(&self, value: &str) -> bool {
        !self.prefilter.may_match(value.as_bytes())
    }

    /// Whether the pattern is found in `value`, which is not ruled out. A search reads each byte a bounded number of times.
    pub(super) fn search(&self, value: &str, work: &mut Work) -> Result<bool, Spent> {
        let Some(text) = &self.text else {
            return self.automaton.is_match(value, work);
        };
        work.spend(value.len())?;
        Ok(**text == *value)
    }

    /// Replaces every non-overlapping match in `value`, which is not ruled out, before [`Open`]; see
    /// [`super::pattern::Pattern::replace`].
    pub(super) fn replace(
        &self,
        value: &str,
        with: &Replacement,
        out: &mut String,
        groups: &mut Option<Captures>,
        (open, bytes_max): (Open, usize),
        work: &mut Work,
    ) -> Result<Replaced, Spent> {
        work.spend(self.automaton.cost(value.len()))?;
        if let Some(cut) = self
            .cut
            .as_ref()
            .filter(|_| with.is_first_group() && open.is_none())
            && let Some(replaced) = cut.replace(value, out)
        {
            return Ok(replaced);
        }
        let mut splice = Splice::new(open.before(value), out, bytes_max);
        if self.automaton.many(value.len()).is_some() {
            return self.replace_counted(splice, value, None, with, (open, groups), work);
        }
        let mut unseen = Unseen::new(value);
        let mut at = 0;
        if with.is_literal() {
            let mut matches = Matches::new(Input::new(value));
            while let Some(found) =
                matches.advance(|input| Ok(work.find(&self.automaton.compiled, input)))
            {
                if open.ends(&found.range(), with) {
                    break;
                }
                splice.put(found.range(), with, |_| None)?;
                at = found.end();
                if unseen.is_too_much(at) {
                    let end = Some(at);
                    return self.replace_counted(splice, value, end, with, (open, groups), work);
                }
            }
            return splice.finish(work);
        }
        // The same as `captures_iter`, without its allocation for each match: an empty match right after a match does not
        // count.
        let locations =
            groups.get_or_insert_with(|| self.automaton.compiled.regex().create_captures());
        let group_bytes = self.automaton.group_bytes();
        let mut last_end = None;
        while let Some(found) = work.groups_at(&self.automaton.compiled, value, at, locations) {
            if open.ends(&found, with) {
                break;
            }
            work.spend(found.len().saturating_mul(group_bytes))?;
            if !(found.is_empty() && last_end == Some(found.end)) {
                splice.put(found.clone(), with, group_of(locations, value))?;
                last_end = Some(found.end);
            }
            at = behind(&found, value);
            if at > value.len() {
                break;
            }
            if unseen.is_too_much(at) {
                let end = Some(found.end);
                return self.replace_counted(splice, value, end, with, (open, groups), work);
            }
        }
        splice.finish(work)
    }

    /// The matches from `last_end` on, where a match ends, or from the start: each byte that the engine looks at is counted.
    #[cold]
    fn replace_counted(
        &self,
        mut splice: Splice<'_, '_>,
        value: &str,
        mut last_end: Option<usize>,
        with: &Replacement,
        (open, groups): (Open, &mut Option<Captures>),
        work: &mut Work,
    ) -> Result<Replaced, Spent> {
        let mut counted = self.automaton.counted().map(Counted::searcher);
        let locations =
            groups.get_or_insert_with(|| self.automaton.compiled.regex().create_captures());
        let mut at = last_end.unwrap_or_default();
        while at <= value.len() {
            let before = work.left();
            let found = match &mut counted {
                Some(searcher) => searcher.next(value, at, work)?,
                None => {
                    // No automaton can have the pattern; a search may read all the rest.
                    work.spend(value.len() - at)?;
                    work.find_at(&self.automaton.compiled, value, at)
                }
            };
            let Some(found) = found.filter(|found| !open.ends(found, with)) else {
                break;
            };
            if !(found.is_empty() && last_end == Some(found.end)) {
                if with.is_literal() {
                    splice.put(found.clone(), with, |_| None)?;
                } else {
                    // The groups take another search, of the same bytes, and follow each place of a state.
                    let places = counted.as_ref().map_or(0, Searcher::widest);
                    let read = before - work.left();
                    work.spend(read.saturating_add(places.saturating_mul(found.len())))?;
                    work.groups_at(&self.automaton.compiled, value, found.start, locations);
                    splice.put(found.clone(), with, group_of(locations, value))?;
                }
                last_end = Some(found.end);
            }
            at = behind(&found, value);
        }
        splice.finish(work)
    }
}

/// The place in a value from which on a match may go on behind its end; none where the end of the value is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open(pub(super) Option<usize>);

impl Open {
    pub(super) fn is_none(self) -> bool {
        self.0.is_none()
    }

    /// The part of the value before it.
    pub(super) fn before(self, value: &str) -> &str {
        self.0.and_then(|open| value.get(..open)).unwrap_or(value)
    }

    /// Whether a match is not certain, and no text that has nothing of it can take its place.
    #[inline]
    fn ends(self, found: &Range<usize>, with: &Replacement) -> bool {
        self.0.is_some_and(|open| {
            found.start > open || (found.start == open && (found.is_empty() || !with.is_literal()))
        })
    }
}

/// The text of a group that matched.
fn group_of<'v>(locations: &Captures, value: &'v str) -> impl Fn(usize) -> Option<&'v str> {
    move |group| value.get(locations.get_group(group)?.range())
}

/// Where the search goes on behind a match; behind the next character, if the match is empty.
fn behind(found: &Range<usize>, value: &str) -> usize {
    if !found.is_empty() {
        return found.end;
    }
    let letter = value.get(found.end..).and_then(|rest| rest.chars().next());
    found.end + letter.map_or(1, char::len_utf8)
}

/// Bytes behind matches that the engine may have looked at in vain. A pattern such as `[0-9]+-[0-9]+|[0-9]` reads all the
/// digits that follow before it matches one of them, and for the next match again; the engine does not report it.
struct Unseen {
    len: usize,
    left: usize,
}

impl Unseen {
    /// Bytes of the value that may be read in vain for each byte of it, and for any value, before they are counted.
    const FREE: (usize, usize) = (8, 64 * 1024);

    fn new(value: &str) -> Self {
        Self {
            len: value.len(),
            left: Self::FREE
                .0
                .saturating_mul(value.len())
                .saturating_add(Self::FREE.1),
        }
    }

    /// After a match that ends at `end`.
    #[inline]
    fn is_too_much(&mut self, end: usize) -> bool {
        self.left = self.left.saturating_sub(self.len - end);
        self.left == 0
    }
}

/// The pattern `([^?;]+).*`, for any such characters: with `$1` it keeps what is before them. The strict set applies it to
/// every URL, where finding groups costs more than everything else that is done with the URL.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    stops: Box<[u8]>,
}

impl Cut {
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let class = pattern.strip_prefix("([^")?.strip_suffix("]+).*")?;
        let mut stops = Vec::new();
        let mut bytes = class.bytes();
        while let Some(byte) = bytes.next() {
            // In a class these stand for themselves, with and without a backslash.
            match if byte == b'\\' { bytes.next()? } else { byte } {
                byte @ (b'?' | b';' | b'#' | b'=' | b'/' | b':' | b',' | b'@' | b'!' | b'$') => {
                    stops.push(byte);
                }
                _ => return None,
            }
        }
        (!stops.is_empty()).then(|| Self {
            stops: stops.into(),
        })
    }

    /// The effect of the pattern with `$1`; none when that is more than one cut, since `.` stops at the end of a line.
    fn replace(&self, value: &str, out: &mut String) -> Option<Replaced> {
        let bytes = value.as_bytes();
        if memchr::memchr(b'\n', bytes).is_some() {
            return None;
        }
        let is_stop = |byte: &u8| self.stops.contains(byte);
        let Some(start) = bytes.iter().position(|byte| !is_stop(byte)) else {
            return Some(Replaced::Same);
        };
        let kept = bytes.iter().skip(start).position(is_stop);
        // A stop is ASCII, so it is a character's first byte.
        out.push_str(
            kept.and_then(|kept| value.get(..start + kept))
                .unwrap_or(value),
        );
        Some(Replaced::Changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_one_pattern_only() {
        for pattern in [
            "([^]+).*",
            "([^a]+).*",
            "([^?]+)x.*",
            "([^?]*).*",
            r"([^\d]+).*",
        ] {
            assert!(Cut::of(pattern).is_none(), "{pattern}");
        }
    }
}
