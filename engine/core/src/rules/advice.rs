//! Advice on a rule set: rules that probably do not do what their author meant. Never an error; the set works as the
//! manual describes.
//!
//! The names of details are only partly known, so advice on scopes is limited to what a set of candidate names shows.

use super::pattern::{Answer, Pattern};
use super::searches::NameWork;
use super::set::{Action, Rule, RuleSet};
use super::trial::quadratic;
use super::verb::Verb;

/// Keys that stand alone.
const KEYS: [&str; 7] = [
    "request_method",
    "request_url",
    "response_code",
    "request_body",
    "response_body",
    "now",
    "interval",
];

/// The prefixes of names.
const KINDS: [&str; 4] = [
    "request_header:",
    "request_param:",
    "response_header:",
    "session_field:",
];

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Line of the text, from 1.
    pub line: usize,
    /// A sentence or two.
    pub text: String,
}

impl RuleSet {
    /// Advice on the rules of this set; predefined sets need none.
    pub fn advice(&self) -> Vec<Advice> {
        let own = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| !rule.included);
        own.flat_map(|(index, rule)| self.advise(index, rule))
            .collect()
    }

    fn advise(&self, index: usize, rule: &Rule) -> Vec<Advice> {
        let param = match &rule.action {
            Action::Test(param) if !rule.verb.finds() => Some(param),
            _ => None,
        };
        let quadratic = match &rule.action {
            Action::Always => None,
            Action::Test(param) if rule.verb.finds() => slow(param, param.source(), false),
            Action::Test(param) => slow(param, &format!("^{}$", param.source()), false),
            Action::Replace { find, .. } => slow(find, find.source(), true),
        };
        let scope = Some(&rule.scope).filter(|_| rule.path.is_none());
        let mut texts: Vec<String> = scope
            .into_iter()
            .chain(param)
            .filter_map(|pattern| bar(pattern.source()))
            .collect();
        match scope {
            Some(scope) if !matches_something(scope) => texts.push(unmatched(scope.source())),
            Some(_) => texts.extend(self.overlap(index, rule)),
            None => {}
        }
        texts.extend(quadratic);
        let line = rule.line;
        texts
            .into_iter()
            .map(|text| Advice { line, text })
            .collect()
    }

    /// Advice on a rule for whose details another rule leaves nothing.
    fn overlap(&self, index: usize, rule: &Rule) -> Option<String> {
        if !rule.verb.is_mask() || !is_simple(rule.scope.source()) {
            return None;
        }
        let keys = candidates(rule.scope.source());
        let mut matched = keys
            .iter()
            .filter(|key| rule.scope.test_name(key, &mut NameWork::default()) != Answer::No);
        let other = self.remover(matched.next()?, index)?;
        matched
            .all(|key| self.remover(key, index).is_some())
            .then(|| format!("line {other} removes these details whatever their values are; this rule has nothing left to hide"))
    }

    /// Line of another rule that removes details with this key.
    fn remover(&self, key: &str, index: usize) -> Option<usize> {
        let others = self
            .rules
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let mut removers = others.filter(|(_, rule)| {
            rule.verb == Verb::Remove
                && rule.path.is_none()
                && rule.scope.test_name(key, &mut NameWork::default()) == Answer::Yes
        });
        removers.next().map(|(_, rule)| rule.line)
    }
}

/// Advice on a pattern whose work may be the square of a value's length.
fn slow(pattern: &Pattern, text: &str, replaces: bool) -> Option<String> {
    if pattern.has_many_states() {
        let source = pattern.source();
        return Some(format!(
            "`{source}` has more states than are kept, since a counted repetition may begin again and again inside it. A large value that is made for it will be hidden as in doubt (W036). Anchor the pattern, or give the repetition a smaller bound"
        ));
    }
    let (blamed, value) = quadratic(pattern, text, replaces)?;
    let why = if pattern.is_linear() {
        format!("behind each match the search reads on through `{blamed}`, for a longer one")
    } else {
        format!("at each place where a match may begin the search reads through `{blamed}` again")
    };
    let source = pattern.source();
    Some(format!(
        "`{source}` may need the square of a value's length, for one such as {value:?}...: {why}. Large values will be hidden as in doubt (W036)"
    ))
}

/// Advice on `a|b` without parentheses in a match pattern, if that may mean more than it seems to.
fn bar(source: &str) -> Option<String> {
    let parts = alternatives(source);
    let (first, last) = (parts.first()?, parts.last()?);
    let open = |part: &&str| !part.ends_with('$') && !part.ends_with(".*");
    let is_open = parts.iter().rev().skip(1).any(open);
    (parts.len() > 1 && is_open).then(|| {
        format!("`{source}` means: begins with `{first}`, or ends with `{last}`. To mean exactly one of them, write ({source})")
    })
}

/// The parts between bars outside of parentheses and brackets.
fn alternatives(source: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut in_class, mut start) = (0_usize, false, 0);
    let mut letters = source.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                letters.next();
            }
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                parts.push(source.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(source.get(start..).unwrap_or_default());
    parts
}

/// Keys that a scope with these words may be meant for.
fn candidates(source: &str) -> Vec<String> {
    let words = |separators: &[char]| {
        let words = source.split(|letter| separators.contains(&letter));
        words.map(|word| word.replace('\\', "")).collect::<Vec<_>>()
    };
    let mut names = words(&['|', '(', ')', '^', '$', ':', '*', '+', '?']);
    names.extend(words(&['|', '^', '$', ':']));
    names.extend(["x".to_owned(), "a1".to_owned()]);
    let named = KINDS
        .iter()
        .flat_map(|kind| names.iter().map(move |name| format!("{kind}{name}")));
    // Names are lower-case where they are tested, so a scope with capitals matches none.
    let named = named.map(|key| key.to_lowercase());
    KEYS.iter()
        .map(|key| (*key).to_owned())
        .chain(named)
        .collect()
}

/// Whether a scope consists of plain words.
fn is_simple(source: &str) -> bool {
    source
        .chars()
        .all(|letter| letter.is_alphanumeric() || "_:-|^$ ".contains(letter))
}

/// Whether the scope matches any detail that may exist: false only when that is certain.
fn matches_something(scope: &Pattern) -> bool {
    let source = scope.source();
    let lower = source.to_lowercase();
    let names_a_kind = KEYS
        .iter()
        .chain(&KINDS)
        .any(|key| lower.contains(key.trim_end_matches(':')));
    let is_unsure = names_a_kind && !is_simple(source);
    is_unsure
        || candidates(source)
            .iter()
            .any(|key| scope.test_name(key, &mut NameWork::default()) != Answer::No && exists(key))
}

/// Whether details with this key exist: the host is part of the URL, and the framing is undone.
fn exists(key: &str) -> bool {
    !matches!(
        key,
        "request_header:host"
            | "request_header:transfer-encoding"
            | "response_header:transfer-encoding"
    )
}

/// Why a scope matches nothing.
fn unmatched(source: &str) -> String {
    let lower = source.to_lowercase();
    if lower != *source && Pattern::matching(&lower).is_ok_and(|scope| matches_something(&scope)) {
        return format!("`{source}` matches nothing: names are lower-case; write `{lower}`");
    }
    if source.contains("custom_field") || source == "host" {
        return format!(
            "`{source}` matches nothing: rules are not applied to what the sniffer itself adds"
        );
    }
    if source.contains("header:host") {
        return format!("`{source}` matches nothing: the host is part of request_url");
    }
    format!(
        "`{source}` matches nothing: details are called {}, {}NAME",
        KEYS.join(", "),
        KINDS.join("NAME, ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rules: &str, expected: &[&str]) {
        let advice = RuleSet::parse(rules).unwrap().advice();
        assert_eq!(advice.len(), expected.len(), "{advice:?}");
        for (advice, expected) in advice.iter().zip(expected) {
            assert!(advice.text.contains(expected), "{advice:?}");
        }
    }

    #[test]
    fn good_rules_get_no_advice() {
        check("include default\ninclude standard\ninclude debug", &[]);
        for scope in [
            "request_body",
            "request_header:authorization",
            "(request_header:cookie|response_header:set-cookie)",
            "request_header:x-(a|b)-[0-9]{3}",
            "request_(header|param):.*token.*",
            ".*",
            "request_param:.*|request_header:.*",
            "request_header:x-.*|request_header:y",
            "session_field:sid",
            "request_body:$..card",
            "(?i)request_header:Cookie",
        ] {
            check(&format!("!{scope}! remove"), &[]);
        }
        check("/request_url/ stop_if /.*(health|ready).*/", &[]);
        check("/request_url/ stop_if_found /a|b/", &[]);
    }

    #[test]
    fn probable_mistakes_get_advice() {
        check(
            "/request_header:cookie|response_header:set-cookie/ remove",
            &["begins with `request_header:cookie`"],
        );
        check("/request_url/ stop_if /health|ready/", &["(health|ready)"]);
        check(
            "/request_header:Authorization/ remove",
            &["write `request_header:authorization`"],
        );
        check(
            "/request_headers:cookie/ remove",
            &["matches nothing: details are called"],
        );
        check("/body/ remove", &["matches nothing"]);
        check("/custom_field:.*/ remove", &["itself adds"]);
        check("/request_header:host/ remove", &["part of request_url"]);
        check(
            "/request_body/ replace /[0-9]+-[0-9]+|[0-9]/, /x/",
            &["behind each match the search reads on through `[0-9]+`"],
        );
        check(
            "/request_body/ stop_if_found /(?=.*password)(?=.*secret)/",
            &["where a match may begin the search reads through `.*` again"],
        );
        check(
            "/request_body:$..a/ remove_if /(?:(?!x)a+)+(?=b)/",
            &["the square"],
        );
        check(
            "/request_body/ remove\n/request_body/ replace /a/, /b/",
            &["line 1 removes"],
        );
    }
}
