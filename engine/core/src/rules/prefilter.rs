//! Prefilters of patterns: a cheap check of a value that rules out a match.
//!
//! Most rules on bodies match nothing most of the time. A regular expression engine takes some nanoseconds for each byte
//! of a body, and each rule reads the body again; a literal is searched at 32 bytes per instruction, and for a run of 16
//! digits every 16th byte shows whether there can be one. A prefilter is derived from the pattern, so that it admits every
//! match; a pattern whose matches have nothing in common has none and is always executed.

use aho_corasick::packed;
use memchr::memmem;
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Most literals of one pattern: with more, the search is no longer fast.
const LITERALS_MAX: usize = 32;

/// Fewest bytes of a literal: shorter ones are everywhere.
const LITERAL_BYTES_MIN: usize = 3;

/// How rare a run has to be in text to be worth the search: it occurs at this many places in a thousand at most.
const RUN_PER_MILLE_MAX: f64 = 10.0;

/// A property of every match of a pattern.
#[derive(Clone, Debug)]
pub(super) enum Prefilter {
    /// None is known.
    None,
    /// It contains a literal.
    Literal(Box<memmem::Finder<'static>>),
    /// It contains one of several literals.
    Literals(packed::Searcher),
    /// It contains a run of this many bytes of the set.
    Run { set: Box<[bool; 256]>, bytes: usize },
}

impl Prefilter {
    /// The prefilter of a pattern in the syntax of the linear engine.
    pub(super) fn of(pattern: &str) -> Self {
        let Ok(hir) = regex_syntax::parse(pattern) else {
            return Self::None;
        };
        let literals = literals(&hir);
        let long = literals
            .as_ref()
            .filter(|literals| shortest(literals) >= LITERAL_BYTES_MIN);
        match (long.map(Vec::as_slice), literals.as_deref()) {
            (Some([literal]), _) => {
                Self::Literal(Box::new(memmem::Finder::new(literal).into_owned()))
            }
            (Some(literals), _) => {
                // None where the processor has no vector instructions for it.
                packed::Searcher::new(literals).map_or(Self::None, Self::Literals)
            }
            (None, Some([literal])) if is_rare(literal) => {
                Self::Literal(Box::new(memmem::Finder::new(literal).into_owned()))
            }
            _ => run(&hir).unwrap_or(Self::None),
        }
    }

    /// Whether `value` may contain a match. False is certain.
    pub(super) fn may_match(&self, value: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Literal(finder) => finder.find(value).is_some(),
            Self::Literals(finder) => finder.find(value).is_some(),
            Self::Run { set, bytes } => has_run(value, set, *bytes),
        }
    }
}

/// A set of literals one of which is in every match, if there is such a set: the one whose shortest literal is longest.
fn literals(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let prefixes = |hir: &Hir| {
        let prefixes = Extractor::new().limit_total(LITERALS_MAX).extract(hir);
        let prefixes = prefixes.literals()?.iter();
        let prefixes: Vec<_> = prefixes
            .map(|literal| literal.as_bytes().to_vec())
            .collect();
        (shortest(&prefixes) > 0 && prefixes.len() <= LITERALS_MAX).then_some(prefixes)
    };
    let within = match hir.kind() {
        HirKind::Capture(group) => literals(&group.sub),
        HirKind::Repetition(repeated) if repeated.min > 0 => literals(&repeated.sub),
        HirKind::Concat(parts) => (0..parts.len())
            .filter_map(|start| {
                // A match of all parts ends with a match of the last ones, which starts with one of their prefixes.
                let behind = parts.get(start..).unwrap_or_default().to_vec();
                let within = parts.get(start).and_then(literals);
                better(prefixes(&Hir::concat(behind)), within)
            })
            .reduce(|one, other| better(Some(one), Some(other)).unwrap_or_default()),
        HirKind::Alternation(branches) => {
            let all: Option<Vec<_>> = branches.iter().map(literals).collect();
            all.map(|all| all.concat())
                .filter(|all| all.len() <= LITERALS_MAX)
        }
        _ => None,
    };
    better(prefixes(hir), within)
}

/// The set whose shortest literal is longer; if they are equal, the smaller set.
fn better(one: Option<Vec<Vec<u8>>>, other: Option<Vec<Vec<u8>>>) -> Option<Vec<Vec<u8>>> {
    let worth = |set: &Option<Vec<Vec<u8>>>| {
        let set = set.as_deref().unwrap_or_default();
        (shortest(set).min(8), std::cmp::Reverse(set.len()))
    };
    if worth(&one) >= worth(&other) {
        one.or(other)
    } else {
        other
    }
}

fn shortest(literals: &[Vec<u8>]) -> usize {
    literals.iter().map(Vec::len).min().unwrap_or_default()
}

/// The rarest run that consecutive parts of the pattern require, if it is rare enough.
fn run(hir: &Hir) -> Option<Prefilter> {
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        HirKind::Capture(group) => return run(&group.sub),
        _ => std::slice::from_ref(hir),
    };
    let mut best: Option<(f64, Prefilter)> = None;
    for start in 0..parts.len() {
        let (mut set, mut bytes) = ([false; 256], 0);
        for part in parts.get(start..).unwrap_or_default() {
            let Some(least) = part.properties().minimum_len() else {
                break;
            };
            add_bytes(part, &mut set);
            bytes += least;
            let chance = chance(&set).powi(i32::try_from(bytes).unwrap_or(i32::MAX)) * 1000.0;
            if bytes > 0
                && chance <= RUN_PER_MILLE_MAX
                && best.as_ref().is_none_or(|(least, _)| chance < *least)
            {
                let set = Box::new(set);
                best = Some((chance, Prefilter::Run { set, bytes }));
            }
        }
    }
    best.map(|(_, run)| run)
}

/// Adds every byte that a match of `hir` can contain.
fn add_bytes(hir: &Hir, set: &mut [bool; 256]) {
    let mut add = |first: u8, last: u8| {
        let range = usize::from(first)..=usize::from(last);
        set.get_mut(range).unwrap_or_default().fill(true);
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => literal.0.iter().for_each(|byte| add(*byte, *byte)),
        HirKind::Class(Class::Bytes(class)) => {
            class
                .iter()
                .for_each(|range| add(range.start(), range.end()));
        }
        HirKind::Class(Class::Unicode(class)) => {
            for range in class.iter() {
                let ascii = |c: char| u8::try_from(c).ok().filter(u8::is_ascii);
                if let Some(first) = ascii(range.start()) {
                    add(first, ascii(range.end()).unwrap_or(0x7f));
                }
                if ascii(range.end()).is_none() {
                    add(0x80, 0xff);
                }
            }
        }
        HirKind::Repetition(repeated) => add_bytes(&repeated.sub, set),
        HirKind::Capture(group) => add_bytes(&group.sub, set),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().for_each(|part| add_bytes(part, set));
        }
    }
}

/// Whether a short literal is worth the search all the same, because one of its bytes is very rare.
fn is_rare(literal: &[u8]) -> bool {
    literal.iter().any(|byte| frequency(*byte) < 0.003)
}

/// The rough share of a byte in the bodies of APIs. Only the speed depends on it, never the result.
fn frequency(byte: u8) -> f64 {
    match byte {
        b'a'..=b'z' => 0.45 / 26.0,
        b'0'..=b'9' => 0.15 / 10.0,
        b'A'..=b'Z' => 0.08 / 26.0,
        b'"' => 0.13,
        b' ' => 0.05,
        b':' | b',' => 0.035,
        b'{' | b'}' | b'[' | b']' | b'-' | b'_' | b'.' | b'/' | b'\\' | b'\n' => 0.005,
        b'<' | b'>' | b'=' | b'&' | b';' => 0.003,
        0x80..=0xff => 0.02 / 128.0,
        _ => 0.001,
    }
}

fn chance(set: &[bool; 256]) -> f64 {
    let bytes = (0..=255).zip(set).filter(|(_, of_set)| **of_set);
    bytes.map(|(byte, _)| frequency(byte)).sum::<f64>().min(1.0)
}

/// Whether `bytes` bytes in a row belong to the set. Each window is read backwards to the first byte that does not, and
/// the next window starts after that byte: in text with few bytes of the set, one byte per window is read.
fn has_run(mut value: &[u8], set: &[bool; 256], bytes: usize) -> bool {
    let of_set = |byte: &u8| set.get(usize::from(*byte)).is_some_and(|of_set| *of_set);
    while let Some(window) = value.get(..bytes) {
        let Some(other) = window.iter().rposition(|byte| !of_set(byte)) else {
            return true;
        };
        value = value.get(other + 1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expected: &str) {
        let prefilter = match Prefilter::of(pattern) {
            Prefilter::None => "nothing".to_owned(),
            Prefilter::Literal(finder) => String::from_utf8_lossy(finder.needle()).into_owned(),
            Prefilter::Literals(_) => "literals".to_owned(),
            Prefilter::Run { set, bytes } => {
                format!(
                    "{bytes} of {}",
                    set.iter().filter(|of_set| **of_set).count()
                )
            }
        };
        assert_eq!(prefilter, expected, "{pattern}");
    }

    #[test]
    fn prefilters_of_common_rules() {
        check(
            "[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}",
            "16 of 12",
        );
        check("[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", "15 of 36");
        check(r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}", "@");
        check(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", "eyJ");
        check(r#""(password|passwd|secret)"\s*:\s*"[^"]*""#, "literals");
        check(r#""(birth_?date|dob)"\s*:\s*"[^"]*""#, "literals");
        check("-----BEGIN [A-Z ]+-----", "-----BEGIN ");
        check(r#"<input[^>]+type="password""#, "type=\"password\"");
        check(r"[0-9\.\-\/]{9,}", "9 of 13");
        check(r"foo(?:bar)?|q.*(x|bazaar)", "nothing");
        check(r".*", "nothing");
        check("", "nothing");
    }

    /// The prefilter admits every value in which the pattern finds a match.
    #[test]
    fn a_match_is_never_denied() {
        const PIECES: [&str; 22] = [
            "a",
            "bc",
            "abc",
            "[ab]",
            "[0-9]",
            "(a|bc)",
            "(?:abc|cab|é)",
            ".",
            "\\d",
            "x*",
            "a+",
            "(bca)+",
            "b?",
            "[0-9]{3}",
            "(?i:ab)",
            "^",
            "$",
            "\\b",
            "@",
            "(?:a|)",
            "[^a]",
            "é",
        ];
        const TEXTS: [&str; 12] = [
            "a", "b", "c", "abc", "cab", "1", "23", "@", "é", " ", "\n", "AB",
        ];
        let mut state = 5_u64;
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below
        };
        let (mut matched, mut denied) = (0, 0);
        for _ in 0..1500 {
            let mut pattern = String::new();
            for _ in 0..=draw(6) {
                pattern.push_str(PIECES[draw(PIECES.len())]);
                if draw(9) == 0 {
                    pattern.push('|');
                }
            }
            let Ok(regex) = regex::Regex::new(&pattern) else {
                continue;
            };
            let prefilter = Prefilter::of(&pattern);
            for _ in 0..30 {
                let text: String = (0..draw(30)).map(|_| TEXTS[draw(TEXTS.len())]).collect();
                let is_match = regex.is_match(&text);
                let may_match = prefilter.may_match(text.as_bytes());
                assert!(
                    may_match || !is_match,
                    "{pattern:?} in {text:?}: {prefilter:?}"
                );
                matched += usize::from(is_match);
                denied += usize::from(!may_match);
            }
        }
        assert!(matched > 5000 && denied > 5000, "{matched} {denied}");
    }

    #[test]
    fn runs_are_found_wherever_they_are() {
        let mut set = [false; 256];
        set[usize::from(b'x')] = true;
        for bytes in 1..9 {
            for mask in 0..1_u32 << 12 {
                let text: Vec<u8> = (0..12)
                    .map(|bit| if mask >> bit & 1 == 1 { b'x' } else { b'.' })
                    .collect();
                let expected = text
                    .windows(bytes)
                    .any(|run| run.iter().all(|b| *b == b'x'));
                assert_eq!(has_run(&text, &set, bytes), expected, "{bytes} in {text:?}");
            }
        }
    }
}
