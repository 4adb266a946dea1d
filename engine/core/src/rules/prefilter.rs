//! What every match of a pattern has in it: a pattern in, a quick look at a value out, "no match" or "ask the pattern".
//!
//! Most rules on bodies find nothing most of the time. An engine of regular expressions reads a body at some nanoseconds a
//! byte, and each rule reads it again; literals are searched 32 bytes an instruction, and of a run of 16 digits every
//! 16th byte shows whether it can be there. What is told here holds for every match by construction, never by sampling:
//! a pattern whose matches have nothing in common needs nothing and is always asked.

use aho_corasick::packed;
use memchr::memmem;
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Literals of one pattern, at most: with more, looking for them is no longer quick.
const LITERALS_MAX: usize = 32;

/// Bytes of a literal, at least: shorter ones are everywhere.
const LITERAL_BYTES_MIN: usize = 3;

/// How rare a run has to be in text to be worth looking for: it is in so many places of a thousand at most.
const RUN_PER_MILLE_MAX: f64 = 10.0;

/// What is in every match.
#[derive(Clone, Debug)]
pub(super) enum Need {
    /// Nothing that is known.
    Nothing,
    /// A literal.
    Literal(Box<memmem::Finder<'static>>),
    /// One of some literals.
    Literals(packed::Searcher),
    /// So many bytes in a row, all of them of the set.
    Run { set: Box<[bool; 256]>, bytes: usize },
}

impl Need {
    /// Of a pattern as the linear engine reads it.
    pub(super) fn of(pattern: &str) -> Self {
        let Ok(hir) = regex_syntax::parse(pattern) else {
            return Self::Nothing;
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
                // None where the processor has no vectors for it.
                packed::Searcher::new(literals).map_or(Self::Nothing, Self::Literals)
            }
            (None, Some([literal])) if is_rare(literal) => {
                Self::Literal(Box::new(memmem::Finder::new(literal).into_owned()))
            }
            _ => run(&hir).unwrap_or(Self::Nothing),
        }
    }

    /// Whether a match may be in `value`. False is certain.
    pub(super) fn is_met(&self, value: &[u8]) -> bool {
        match self {
            Self::Nothing => true,
            Self::Literal(finder) => finder.find(value).is_some(),
            Self::Literals(finder) => finder.find(value).is_some(),
            Self::Run { set, bytes } => has_run(value, set, *bytes),
        }
    }
}

/// Literals of which one is in every match, if there are some: the set whose shortest is longest.
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

/// The set whose shortest literal is longer; of equals the smaller set.
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

/// The rarest run among those that consecutive parts of the pattern make, if it is rare enough.
fn run(hir: &Hir) -> Option<Need> {
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        HirKind::Capture(group) => return run(&group.sub),
        _ => std::slice::from_ref(hir),
    };
    let mut best: Option<(f64, Need)> = None;
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
                best = Some((chance, Need::Run { set, bytes }));
            }
        }
    }
    best.map(|(_, run)| run)
}

/// Adds every byte that a match of `hir` can have.
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

/// Whether a short literal is worth looking for all the same: it has a byte that is hardly ever there.
fn is_rare(literal: &[u8]) -> bool {
    literal.iter().any(|byte| frequency(*byte) < 0.003)
}

/// The share of a byte in the bodies of APIs, roughly: the rest depends on it in speed, never in what is found.
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

/// Whether so many bytes in a row are of the set. Each window is read from its end to the first byte that is not, and the
/// next window begins behind that one: of text nearly all of which is not in the set, one byte for each window is read.
fn has_run(mut value: &[u8], set: &[bool; 256], bytes: usize) -> bool {
    let of_set = |byte: &u8| set.get(usize::from(*byte)).is_some_and(|of_set| *of_set);
    while let Some(window) = value.get(..bytes) {
        let Some(wrong) = window.iter().rposition(|byte| !of_set(byte)) else {
            return true;
        };
        value = value.get(wrong + 1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expected: &str) {
        let need = match Need::of(pattern) {
            Need::Nothing => "nothing".to_owned(),
            Need::Literal(finder) => String::from_utf8_lossy(finder.needle()).into_owned(),
            Need::Literals(_) => "literals".to_owned(),
            Need::Run { set, bytes } => {
                format!(
                    "{bytes} of {}",
                    set.iter().filter(|of_set| **of_set).count()
                )
            }
        };
        assert_eq!(need, expected, "{pattern}");
    }

    #[test]
    fn what_rules_of_users_need() {
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

    /// Whatever a pattern finds has what the pattern needs.
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
            let need = Need::of(&pattern);
            for _ in 0..30 {
                let text: String = (0..draw(30)).map(|_| TEXTS[draw(TEXTS.len())]).collect();
                let is_match = regex.is_match(&text);
                let is_met = need.is_met(text.as_bytes());
                assert!(is_met || !is_match, "{pattern:?} in {text:?}: {need:?}");
                matched += usize::from(is_match);
                denied += usize::from(!is_met);
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
